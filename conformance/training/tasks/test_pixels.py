"""What images hold and what becomes of it: modes of Pillow, EXIF's orientation, files that are damaged."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("PIL.Image", reason="decodes images")

from PIL import Image, ImageFile, features

from arbitor.training.commands import Command
from arbitor.training.tasks import pixels
from arbitor.training.tasks.opening import Reading

has_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has none")
AVIF = pytest.param("avif", marks=has_avif)
STEP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
RAMP = (STEP.astype(np.float64) / 32767.5 - 1).astype(np.float32)


def read(path: Path, side: int = 8, channels: int = 1) -> Any:
    """Pixels float32 [C, S, S], or why there are none."""
    reading = Reading(path)
    found = reading.read(path, lambda file: pixels.decoded(file, side, channels))
    return reading.skipped[0].removeprefix(f"{path.name} (")[:-1] if found is None else found


def plain(path: Path, mode: str, colour: Any, channels: int = 3, **more: Any) -> list[float]:
    """The values of the first pixel of an image of one colour."""
    Image.new(mode, (8, 8), colour).save(path, **more)
    return [float(value) for value in read(path, channels=channels)[:, 0, 0]]


@pytest.mark.clause("ARB-MODEL-005")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", ["png", "tif", "pgm", "jp2"])
def test_grey_of_16_bits_is_a_ramp(tmp_path: Path, ending: str, channels: int) -> None:
    """From -1 to 1, by x / 32767.5 - 1, whichever mode Pillow has for it."""
    path = tmp_path / f"ramp.{ending}"
    Image.fromarray(STEP).save(path)
    found = read(path, channels=channels)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.broadcast_to(RAMP, (channels, 8, 8)))
    assert (found.min(), found.max()) == (-1, 1)
    halves = RAMP.astype(np.float64).reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(read(path, 4)[0] - halves).max() < 1e-6


@pytest.mark.clause("ARB-MODEL-005")
def test_grey_of_16_bits_in_the_other_order_and_with_white_as_0(tmp_path: Path) -> None:
    Image.fromarray(STEP.astype(">u2")).save(tmp_path / "big.tif")
    assert np.array_equal(read(tmp_path / "big.tif")[0], RAMP)
    Image.fromarray(STEP).save(tmp_path / "white.tif", tiffinfo={262: 0})
    assert np.array_equal(read(tmp_path / "white.tif")[0], -RAMP)
    Image.fromarray(STEP).save(tmp_path / "clear.png", transparency=0)
    assert read(tmp_path / "clear.png")[0, 0, :2].tolist() == [1, float(RAMP[0, 1])]


@pytest.mark.clause("ARB-MODEL-005")
def test_grey_of_12_bits(tmp_path: Path) -> None:
    """Its largest number is 4095."""
    values = np.linspace(0, 4095, 64).astype(np.int64)
    packed = b"".join(
        bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in values.reshape(-1, 2).tolist()
    )
    # width, height, bits, no compression, 0 is black, place, samples, rows, bytes
    tags = {256: 8, 257: 8, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: 96}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    file = b"II*\0" + struct.pack("<I", 8 + 96) + packed + struct.pack("<H", len(tags)) + fields + b"\0\0\0\0"
    (tmp_path / "a.tif").write_bytes(file)
    assert np.array_equal(read(tmp_path / "a.tif").ravel(), (values / 2047.5 - 1).astype(np.float32))


@pytest.mark.clause("ARB-MODEL-005")
def test_floats(tmp_path: Path) -> None:
    """0..1 becomes -1..1; others have no white, and are not clipped to one."""
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    found = {}
    for name, values in {
        "unit": unit,
        "wide": unit * 255,
        "signed": unit - 0.5,
        "nan": unit * np.nan,
    }.items():
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        found[name] = read(tmp_path / f"{name}.tif")
    assert np.array_equal(found.pop("unit")[0], (unit.astype(np.float64) / 0.5 - 1).astype(np.float32))
    assert found == {
        "wide": "floats of 0 to 255, expected 0 to 1",
        "signed": "floats of -0.5 to 0.5, expected 0 to 1",
        "nan": "floats of nan to nan, expected 0 to 1",
    }


@pytest.mark.clause("ARB-MODEL-005")
@pytest.mark.parametrize("dtype", ["<i4", "<i2"])
def test_integers_with_no_white_are_refused(tmp_path: Path, dtype: str) -> None:
    tags = {256: 8, 257: 8, 258: 8 * int(dtype[-1]), 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 339: 2}
    data = np.arange(64).astype(dtype).tobytes()
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    (tmp_path / "a.tif").write_bytes(head + struct.pack("<H", len(tags)) + fields + b"\0\0\0\0")
    assert read(tmp_path / "a.tif") == "integers of 32 bits or with a sign, expected 8 or 16 bits without"


# mode, colour, what it is saved with: the first pixel in RGB
MODES: dict[str, tuple[str, Any, dict[str, Any], list[float]]] = {
    "RGB": ("RGB", (255, 0, 51), {}, [1, -1, -0.6]),
    "RGBA, opaque": ("RGBA", (255, 0, 51, 255), {}, [1, -1, -0.6]),
    "RGBA, clear": ("RGBA", (255, 0, 51, 0), {}, [1, 1, 1]),
    "RGBA, black by a fifth": ("RGBA", (0, 0, 0, 51), {}, [0.6, 0.6, 0.6]),
    "LA, clear": ("LA", (0, 0), {}, [1, 1, 1]),
    "LA, opaque": ("LA", (51, 255), {}, [-0.6, -0.6, -0.6]),
    "L, with a clear grey": ("L", 7, {"transparency": 7}, [1, 1, 1]),
    "RGB, with a clear colour": ("RGB", (7, 8, 9), {"transparency": (7, 8, 9)}, [1, 1, 1]),
    "1": ("1", 1, {}, [1, 1, 1]),
    "1, black": ("1", 0, {}, [-1, -1, -1]),
}


@pytest.mark.clause("ARB-MODEL-005")
@pytest.mark.parametrize("case", MODES)
def test_modes_of_8_bits(tmp_path: Path, case: str) -> None:
    """What is transparent lies on white; grey is in all channels."""
    mode, colour, more, expected = MODES[case]
    found = plain(tmp_path / "a.png", mode, colour, **more)
    assert found == [float(np.float32(round((v + 1) * 127.5)) / np.float32(127.5) - 1) for v in expected]


@pytest.mark.clause("ARB-MODEL-005")
@pytest.mark.parametrize(("ending", "clear"), [("png", [1, 1, 1]), ("gif", [1, 1, 1]), ("bmp", [1, -1, -1])])
def test_palettes(tmp_path: Path, ending: str, clear: list[float]) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.save(tmp_path / f"a.{ending}")
    assert read(tmp_path / f"a.{ending}", channels=3)[:, 0, 0].tolist() == [1, -1, -1]
    image.save(tmp_path / f"b.{ending}", transparency=1)
    assert read(tmp_path / f"b.{ending}", channels=3)[:, 0, 0].tolist() == clear


def test_cmyk_and_what_pillow_cannot_turn_to_rgb(tmp_path: Path) -> None:
    assert plain(tmp_path / "a.jpg", "CMYK", (0, 0, 0, 0)) == [1, 1, 1]
    assert plain(tmp_path / "a.tif", "CMYK", (0, 255, 255, 0)) == [1, -1, -1]
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
    assert read(tmp_path / "lab.tif") == "cannot be decoded: conversion from LAB to RGB not supported"
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "a.eps").write_bytes(eps)
    assert read(tmp_path / "a.eps") == "EPS is a program that draws, expected pixels"


T = Image.Transpose
# by EXIF's number: how the upright picture lies in the file
LYING = {
    1: None, 2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE, 6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270,
}  # fmt: skip


@pytest.mark.clause("ARB-MODEL-005")
@pytest.mark.parametrize("orientation", LYING)
@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg", AVIF])
def test_orientation(tmp_path: Path, ending: str, orientation: int) -> None:
    """Pictures are upright, in 8 bits and in 16, where the format has them."""
    turn, exif = LYING[orientation], Image.Exif()
    exif[0x0112] = orientation
    more: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    if ending in ("jpg", "avif"):
        more = {"quality": 100}
    for upright in (np.arange(64, dtype=np.uint8).reshape(8, 8), STEP)[
        : 2 if ending in ("png", "tif") else 1
    ]:
        image = Image.fromarray(upright)
        lying = image if turn is None else image.transpose(turn)
        lying.save(tmp_path / f"a.{ending}", exif=exif, **more)
        image.save(tmp_path / f"b.{ending}", **more)
        found = read(tmp_path / f"a.{ending}")
        assert np.abs(found - read(tmp_path / f"b.{ending}")).max() < 0.03, "JPEG's blocks lie otherwise"
        assert ending == "jpg" or np.array_equal(found, read(tmp_path / f"b.{ending}"))


@pytest.mark.clause("ARB-MODEL-005")
def test_what_is_set_in_pillow_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(STEP).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(whole[: len(whole) * 2 // 3])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert np.array_equal(read(tmp_path / "a.png")[0], RAMP)
    assert read(tmp_path / "torn.png").startswith("cannot be decoded: ")
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (10, True)
    monkeypatch.setattr(pixels, "MOST_PIXELS", 64)
    assert np.array_equal(read(tmp_path / "a.png")[0], RAMP), "no word about more than half of the most"
    monkeypatch.setattr(pixels, "MOST_PIXELS", 63)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read(tmp_path / "a.png") == "too large: more than 63 pixels"


def encoded(ending: str) -> bytes:
    noise: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(ending, ending))
    return file.getvalue()


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif", "webp", "jp2", "ppm", AVIF])
def test_flipped_and_missing_bytes(ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any file that was one: it is read, or left out on one line that names it."""
    whole = encoded(ending)
    path = tmp_path_factory.mktemp("damaged") / f"a.{ending}"

    @given(st.integers(0, len(whole) - 1), st.integers(1, 255), st.integers(1, len(whole)))
    def damage(place: int, change: int, length: int) -> None:
        flipped = bytearray(whole)
        flipped[place] ^= change
        for data in (bytes(flipped), whole[:length]):
            path.write_bytes(data)
            found = read(path)
            assert found.isprintable() if isinstance(found, str) else found.shape == (1, 8, 8)

    damage()


@has_avif
def test_a_run_beside_a_damaged_avif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on, and says which file was left out and why."""
    for number in range(10):
        place = tmp_path / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(STEP).save(place / f"{number}.png")
    whole = bytearray(encoded("avif"))
    whole[120] ^= 0xFF  # RuntimeError, where other formats raise OSError or SyntaxError
    (tmp_path / "a" / "bad.avif").write_bytes(whole)
    small = "--d-model 16 --layers 1 --heads 2 --batch 2 --steps 1 --threads 1 --no-save --device cpu"
    flags = [*small.split(), "--backend", "torch", "--data", str(tmp_path)]
    assert Command("a test", "images").main(flags) == 0
    shown = capsys.readouterr().err
    assert "skipped a/bad.avif (cannot be decoded: " in shown
    assert "images to validate on have the pixels of one to train on" in shown
