"""Images: their patches, and the data that the trainers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from arbitor.modalities import ImageShape
from arbitor.training.commands import Command
from arbitor.training.tasks import images as data

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("one_thread")

# -- patches


@pytest.mark.clause("ARB-MODEL-005")
def test_patches_by_hand() -> None:
    """Row order of patches; channel, row, column inside one."""
    shape = ImageShape(side=4, channels=2, patch=2, classes=2)
    image = torch.arange(32).reshape(1, 2, 4, 4)
    assert shape.patches(image).tolist() == [
        [
            [0, 1, 4, 5, 16, 17, 20, 21],
            [2, 3, 6, 7, 18, 19, 22, 23],
            [8, 9, 12, 13, 24, 25, 28, 29],
            [10, 11, 14, 15, 26, 27, 30, 31],
        ]
    ]


@pytest.mark.clause("ARB-MODEL-005", "ARB-MODEL-007")
@pytest.mark.parametrize(("side", "channels", "patch"), [(8, 1, 2), (6, 3, 3), (4, 2, 4), (3, 1, 1)])
def test_patches_and_back(side: int, channels: int, patch: int) -> None:
    shape = ImageShape(side, channels, patch)
    images = torch.arange(2 * channels * side * side).reshape(2, channels, side, side)
    patches = shape.patches(images)
    assert patches.shape == (2, shape.count, shape.width)
    assert torch.equal(shape.images(patches), images)


# -- data


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("fold", range(5))
def test_the_digits_are_split_the_same_way_every_time(fold: int) -> None:
    """Every image of scikit-learn is in one part, once, with its label; classes are in both."""
    from sklearn.datasets import load_digits

    first, again = data.load_images(fold=fold), data.load_images(fold=fold)
    assert first.sha256 == again.sha256 == "314b97e8b73b7a469ab137a8e1c41298c092513ab5645ba0ad0efb54b9367ab7"
    for part, other in ((first.train, again.train), (first.valid, again.valid)):
        assert np.array_equal(part.images, other.images)
        assert np.array_equal(part.labels, other.labels)
        assert part.images.dtype == np.float32
        assert set(part.labels.tolist()) == set(range(10))
    held = 359 if fold > 1 else 360
    assert (len(first.train), len(first.valid)) == (1797 - held, held)
    pixels = np.concatenate([first.train.images, first.valid.images]).reshape(-1, 64)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    labels = np.concatenate([first.train.labels, first.valid.labels])
    found = sorted(
        [*row, label] for row, label in zip((8 * (pixels + 1)).tolist(), labels.tolist(), strict=True)
    )
    source = load_digits()
    truth = zip(source.data.tolist(), source.target.tolist(), strict=True)
    assert found == sorted([*row, label] for row, label in truth)


def test_every_image_is_validated_on_in_one_fold() -> None:
    folds = [data.load_images(fold=fold) for fold in range(5)]
    held = np.concatenate([found.valid.images.reshape(-1, 64) for found in folds])
    whole = np.concatenate([part.images.reshape(-1, 64) for part in (folds[0].train, folds[0].valid)])
    assert sorted(held.tolist()) == sorted(whole.tolist())
    assert len({found.sha256 for found in folds}) == 1, "the hash is of all images, whichever are held"


@pytest.mark.parametrize("shape", [(16, 1), (8, 3)])
def test_digits_have_one_shape(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="digits are 8 x 8 in 1 channel"):
        data.load_images(None, *shape)


def folder_of(root: Path, classes: int = 2, each: int = 4) -> Path:
    """Plain images of 4 x 4, of a grey that is the class's, and every second one in RGB."""
    for label in range(classes):
        place = root / f"class{label:02d}"
        place.mkdir(parents=True)
        for number in range(each):
            grey = Image.new("L", (4, 4), 8 * label)
            (grey.convert("RGB") if number % 2 else grey).save(place / f"{number}.png")
    return root


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_images(tmp_path: Path, channels: int) -> None:
    """Classes in the order of their names; values of 0..255 become -1..1; sides are scaled."""
    found = data.load_images(folder_of(tmp_path / "grey", 3), 6, channels)
    assert (found.name, found.classes) == ("grey", ("class00", "class01", "class02"))
    assert (len(found.train), len(found.valid)) == (9, 3)
    for part in (found.train, found.valid):
        assert part.images.shape[1:] == (channels, 6, 6)
        assert part.images.dtype == np.float32
        grey = part.labels.astype(np.float32) * 8 / np.float32(127.5) - 1
        assert np.array_equal(part.images, np.broadcast_to(grey[:, None, None, None], part.images.shape))


def test_what_cannot_be_read_is_named_and_skipped(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    whole = (root / "class00" / "0.png").read_bytes()
    (root / "class00" / "empty.png").touch()
    (root / "class00" / "notes.txt").write_text("no image")
    (root / "class01" / "torn.png").write_bytes(whole[: len(whole) // 2])
    (root / "class02").mkdir()
    (root / "class02" / "empty.png").touch()
    found = data.load_images(root)
    assert len(found.train) + len(found.valid) == 8
    assert found.classes == ("class00", "class01")
    names = [skipped.split(" (")[0] for skipped in found.skipped]
    assert names == ["class00/empty.png", "class00/notes.txt", "class01/torn.png", "class02/empty.png"]
    assert found.skipped[0] == "class00/empty.png (empty)"
    assert all(len(line.splitlines()) == 1 and str(tmp_path) not in line for line in found.skipped)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("bare", ["", "empty.png", "notes.txt", ".hidden.png"])
def test_labels_count_the_classes_that_have_images(tmp_path: Path, bare: str) -> None:
    """A sub-folder without an image, first, between or last, is no class and takes no label."""
    for number, name in enumerate(("bird", "dog", "fox")):
        (tmp_path / name).mkdir()
        for copy in range(5):
            Image.new("L", (8, 8), 10 * number + copy).save(tmp_path / name / f"{copy}.png")
    for name in ("ant", "cat", "zebra"):
        (tmp_path / name).mkdir()
        if bare:
            (tmp_path / name / bare).write_bytes(b"no image" * (bare == "notes.txt"))
    found = data.load_images(tmp_path)
    assert found.classes == ("bird", "dog", "fox")
    for part in (found.train, found.valid):
        grey = np.round((part.images[:, 0, 0, 0] + 1) * 127.5).astype(np.int64)
        assert part.labels.tolist() == (grey // 10).tolist()
    assert sorted([*found.train.labels, *found.valid.labels]) == [0] * 5 + [1] * 5 + [2] * 5
    assert found.notes == tuple(f"{name}/ has no image and is no class" for name in ("ant", "cat", "zebra"))


@pytest.mark.clause("ARB-TRAIN-002")
def test_no_image_is_in_both_parts(tmp_path: Path) -> None:
    """Neither by a hidden folder, nor by a link to it, nor by a link of the file system."""
    root = tmp_path / "images"
    for number in range(20):
        place = root / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(place / f"{number}.png")
        (place / "links").mkdir(exist_ok=True)
        (place / ".ipynb_checkpoints").mkdir(exist_ok=True)
        whole = (place / f"{number}.png").read_bytes()
        (place / ".ipynb_checkpoints" / f"{number}-checkpoint.png").write_bytes(whole)
        (place / "links" / f"{number}.png").symlink_to(place / f"{number}.png")
        (root / f"class{number % 2}" / f"hard{number}.png").hardlink_to(place / f"{number}.png")
    found = data.load_images(root)
    train, valid = (
        {round((value + 1) * 127.5) for value in part.images[:, 0, 0, 0].tolist()}
        for part in (found.train, found.valid)
    )
    assert (len(found.train), len(found.valid)) == (len(train), len(valid)) == (16, 4)
    assert train | valid == set(range(20))
    assert found.notes == ()
    assert sum("the same file as" in line for line in found.skipped) == 40
    assert sum(line.endswith("/.ipynb_checkpoints/ (hidden)") for line in found.skipped) == 2


def test_copies_in_both_parts_are_said(tmp_path: Path) -> None:
    """They are files of their own and are read; that they make the validation easier is said."""
    found = data.load_images(folder_of(tmp_path, 2, 5))
    assert found.notes == ("2 of 2 images to validate on have the pixels of one to train on",)
    assert data.load_images().notes == ()


def test_what_is_in_no_class_is_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    (root / "loose.png").write_bytes((root / "class00" / "0.png").read_bytes())
    (root / "README").write_text("about")
    assert data.load_images(root).skipped == (
        "README (in no class's sub-folder)",
        "loose.png (in no class's sub-folder)",
    )


@pytest.mark.parametrize(
    ("classes", "found"), [(0, "0 images in 0"), (1, "4 images in 1"), (32, "128 images in 32")]
)
def test_too_few_and_too_many_classes(
    tmp_path: Path, classes: int, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "images", classes) if classes else tmp_path
    flags = ["--no-save", "--steps", "1", "--image-data", str(root)]
    assert Command("a test", "images").main(flags) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert f"found {found} sub-folders, expected 2 to 31" in error[0]


def why_refused(folder: Path) -> str:
    """What follows the number of classes in the refusal of a folder."""
    with pytest.raises(ValueError, match="sub-folders with images, one a class") as refused:
        data.load_images(folder)
    return str(refused.value).partition(", one a class")[2]


def test_images_without_sub_folders(tmp_path: Path) -> None:
    """They are counted and it is said where they belong; other files are named, nothing is called empty."""
    cat = folder_of(tmp_path / "source", 1, 2) / "class00"
    own = f"each class needs a sub-folder of its own ({(cat / 'cat' / '0.png').as_posix()})"
    assert why_refused(cat) == f"; 2 images lie directly in the folder: {own}"
    (cat / "1.png").write_text("no image")
    (cat / ".hidden").touch()
    left = ".hidden (hidden), 1.png (not an image that Pillow knows)"
    said = f"; 1 image lies directly in the folder: {own}; skipped: {left}"
    assert why_refused(cat) == said
    (cat / "0.png").unlink()
    assert why_refused(cat) == f"; skipped: {left}"


def test_what_is_empty_and_what_is_not(tmp_path: Path) -> None:
    assert why_refused(tmp_path) == "; the folder is empty"
    assert why_refused(folder_of(tmp_path, 1)) == ""
    (tmp_path / "class00" / "notes.txt").write_text("no image")
    assert why_refused(tmp_path) == "; skipped: class00/notes.txt (not an image that Pillow knows)"


def test_a_source_that_is_no_folder(tmp_path: Path) -> None:
    for source in ("", tmp_path / "nothing"):
        with pytest.raises(ValueError, match="expected a folder with one sub-folder a class"):
            data.load_images(source)


BAD = {
    "--image-side 0": "--image-side must be at least 1",
    "--image-side 16": "the digits are 8 x 8 in 1 channel, got 16 x 16 in 1",
    "--image-channels 2": "invalid choice: 2",
    "--patch 3": "side must be a multiple of patch",
    "--times 0": "--times must be at least 1",
    "--samples .": "--samples . is a folder, expected a file",
    "--image-data nowhere": "images 'nowhere': expected a folder with one sub-folder a class",
    "--batch 60000": "an update is of at most 1048576 tokens, got 1080000",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_flags(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one sentence."""
    call = ["--no-save", "--steps", "1", "--d-model", "16", *flags.split()]
    try:
        status: object = Command("a test", "diffusion").main(call)
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert BAD[flags] in capsys.readouterr().err.strip().splitlines()[-1]
