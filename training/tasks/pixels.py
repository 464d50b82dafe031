"""From an image file to numbers: float32 [C, S, S], -1 for black and 1 for white, whatever the file holds.

8 bits are x / 127.5 - 1 and 16 bits of grey x / 32767.5 - 1 (12 bits by their own largest number). Floats
have no white of their own: they must be in 0..1, which becomes -1..1, and 32-bit and signed integers are
refused. What is transparent lies on white. EXIF's orientation is applied. Palettes, CMYK and others become
RGB; grey is Pillow's luma. Of several frames the first counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .opening import LeftOut

if TYPE_CHECKING:
    from PIL.Image import Image

Images = npt.NDArray[np.float32]

MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels
MOST_PIXELS = 178_956_970  # of an image, as Pillow has it
WHITE = (255, 255, 255, 255)
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF


def need_pillow() -> None:
    """Raise ValueError where Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "a folder of images needs Pillow, which is not installed: pip install pillow"
        ) from error


def decoded(file: BinaryIO, side: int, channels: int) -> Images:
    """The image of an opened file, scaled to float32 [channels, side, side] in -1..1.

    Raises LeftOut with the reason for a file of no use, and whatever Pillow's decoders raise.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with _pillow_as_it_ships(), Image.open(file) as image:
            if image.format == "EPS":
                raise LeftOut("EPS is a program that draws, expected pixels")
            image.load()  # TIFF is turned by it
            upright = ImageOps.exif_transpose(image)
            wide = image.mode.startswith("I") or image.mode == "F"
            if wide:
                flat, most = _grey(upright, image.format, getattr(image, "tag_v2", {}))
            else:
                flat, most = _on_white(upright).convert(MODES[channels]), 255
            scaled = flat.resize((side, side), Image.Resampling.BOX)
    except UnidentifiedImageError:
        raise LeftOut("not an image that Pillow knows") from None
    except Image.DecompressionBombError:
        raise LeftOut(f"too large: more than {MOST_PIXELS:,} pixels") from None
    pixels = np.asarray(scaled, dtype=np.float32).reshape(side, side, -1).transpose(2, 0, 1)
    if wide:  # more bits than a quotient of float32 keeps
        grey = (pixels.astype(np.float64) / (most / 2) - 1).astype(np.float32)
        return np.repeat(grey, channels, axis=0)
    return np.ascontiguousarray(pixels) / np.float32(most / 2) - np.float32(1)


@contextmanager
def _pillow_as_it_ships() -> Iterator[None]:
    """What a process may have set in Pillow decides nothing here."""
    from PIL import Image, ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = MOST_PIXELS // 2, False
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def _on_white(image: Image) -> Image:
    """8 bits a channel, what is transparent on white."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, WHITE), over)


def _grey(image: Image, kind: str | None, tags: Mapping[int, Any]) -> tuple[Image, float]:
    """Grey of more than 8 bits as floats, and the number that is white. Raises LeftOut if none is known."""
    from PIL import Image

    values = np.asarray(image, dtype=np.float32)
    if image.mode == "F":
        lowest, highest = float(values.min()), float(values.max())
        if not (lowest >= 0 and highest <= 1):
            raise LeftOut(f"floats of {lowest:g} to {highest:g}, expected 0 to 1")
        return image, 1
    if image.mode == "I" and kind != "PPM":  # Pillow's mode of 16 bits of PGM, and of 32 bits elsewhere
        raise LeftOut("integers of 32 bits or with a sign, expected 8 or 16 bits without")
    most = 2 ** min(tags.get(BITS_PER_SAMPLE, (16,))) - 1
    if "transparency" in image.info:
        values = np.where(values == image.info["transparency"], np.float32(most), values)
    if tags.get(PHOTOMETRIC) == 0:  # black and white change places, which Pillow heeds in 8 bits only
        values = np.float32(most) - values
    return Image.fromarray(values), most
