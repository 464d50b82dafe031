"""Corpora: what is read and what is left out, and batches that (seed, step) alone decide (ARB-TRAIN-002)."""

from __future__ import annotations

import hashlib
import math
import os
import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arbitor.training.tasks import corpus
from arbitor.training.tasks.corpus import (
    Corpus,
    draw_batch,
    load_corpus,
    next_batch,
    unigram_entropy,
    valid_batches,
)

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"


def whole(found: Corpus) -> bytes:
    return found.train.tobytes() + found.valid.tobytes()


@pytest.fixture
def shakespeare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server that has TEXT, which is the expected text here; the path where the download belongs."""
    (tmp_path / "server.txt").write_bytes(TEXT)
    monkeypatch.setattr(corpus, "TINYSHAKESPEARE_URL", (tmp_path / "server.txt").as_uri())
    monkeypatch.setattr(corpus, "TINYSHAKESPEARE_SHA256", hashlib.sha256(TEXT).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "arbitor" / "tinyshakespeare.txt"


@pytest.mark.parametrize(
    ("given", "folder"),
    [("/there", "/there/arbitor"), (None, "/home/x/.cache/arbitor"), ("", "/home/x/.cache/arbitor"),
     ("not/absolute", "/home/x/.cache/arbitor")],
)  # fmt: skip
def test_where_what_is_fetched_is_kept(
    given: str | None, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's cache, whether it is a checkout or a wheel: the latter's folder is no place for data."""
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert corpus.cache_folder() == Path(folder)


def test_default_corpus_needs_no_file() -> None:
    """CPython's documentation, on every machine, split nine to one."""
    found = load_corpus()
    assert found.name.startswith("pydoc-topics-3.")
    assert len(found.train) + len(found.valid) > 300_000
    assert len(found.valid) == len(whole(found)) // 10
    assert found.train.dtype == found.valid.dtype == np.uint8
    assert found.sha256 == hashlib.sha256(whole(found)).hexdigest() == load_corpus(None).sha256
    assert 3.0 < unigram_entropy(found.train) < 3.6
    assert found.require(1024) is found


def test_file(tmp_path: Path) -> None:
    """A file is its bytes, whatever they are."""
    (tmp_path / "a.bin").write_bytes(bytes(range(250)))
    found = load_corpus(tmp_path / "a.bin")
    assert (found.name, whole(found), len(found.valid), found.skipped) == ("a.bin", bytes(range(250)), 25, ())


def test_folder(tmp_path: Path) -> None:
    """Text files in the order of their paths, each once; what is left out is named."""
    for name, data in {
        "b.txt": b"second", "a/z.txt": b"first\n", "c.txt": "dritt\u00e9".encode(), ".git/config": b"hidden",
        "a/.cache/x": b"hidden", "empty.txt": b"", "image.png": b"\x89PNG\0", ".hidden.txt": b"zeroth",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.txt").symlink_to("b.txt")
    os.mkfifo(tmp_path / "pipe")
    found = load_corpus(str(tmp_path))
    assert whole(found) == b"first\n\nsecond\n" + "dritt\u00e9".encode()
    assert found.skipped == (
        ".git/ (hidden)",
        ".hidden.txt (hidden)",
        "a/.cache/ (hidden)",
        "empty.txt (empty)",
        "image.png (not text: it has a NUL byte)",
        "link.txt (the same file as b.txt)",
        "pipe (not a regular file: a FIFO)",
    )


def test_nothing_to_read(tmp_path: Path) -> None:
    """Each refusal names what was found."""
    (tmp_path / "none").mkdir()
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="found nothing, expected a file, a folder"):
        load_corpus(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"empty\.txt': found no text; skipped: empty\.txt \(empty\)$"):
        load_corpus(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="found no text; skipped: nothing, it is empty"):
        load_corpus(tmp_path / "none")
    with pytest.raises(ValueError, match=r"found no text; skipped: empty\.txt \(empty\)$"):
        load_corpus(tmp_path)
    with pytest.raises(ValueError, match="empty string"):
        load_corpus("")
    for number in range(7):
        (tmp_path / f"{number}").touch()
    with pytest.raises(ValueError, match=r"and 3 more$"):
        load_corpus(tmp_path)


def test_require(tmp_path: Path) -> None:
    """Both parts must hold a window and the next byte: 10 bytes to validate on allow a context of 9."""
    (tmp_path / "a").write_bytes(b"x" * 100)
    found = load_corpus(tmp_path / "a")
    assert found.require(9) is found
    with pytest.raises(ValueError, match=r"found 90 .* and 10 .* needs at least 11 for validation"):
        found.require(10)
    with pytest.raises(ValueError, match="needs at least 91 for training"):
        found.require(90)


def test_tinyshakespeare_is_fetched_once(shakespeare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched when it is asked for and absent, then read from where it was put."""
    assert whole(load_corpus("tinyshakespeare")) == TEXT
    assert [path.name for path in shakespeare.parent.iterdir()] == ["tinyshakespeare.txt"]
    monkeypatch.setattr(corpus, "TINYSHAKESPEARE_URL", "file:///nowhere")
    assert load_corpus(Path("tinyshakespeare")).sha256 == hashlib.sha256(TEXT).hexdigest()


def test_tinyshakespeare_that_is_another_text(shakespeare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a damaged file nor a damaged download is taken; neither is written or removed."""
    shakespeare.parent.mkdir(parents=True)
    shakespeare.write_bytes(TEXT[:-1])
    with pytest.raises(
        ValueError, match=r"tinyshakespeare\.txt has 60 bytes and sha256 .*: put the file from"
    ):
        load_corpus("tinyshakespeare")
    assert shakespeare.read_bytes() == TEXT[:-1]
    shakespeare.unlink()
    monkeypatch.setattr(corpus, "TINYSHAKESPEARE_SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"the download has 61 bytes and sha256 .*, expected 000"):
        load_corpus("tinyshakespeare")
    assert not shakespeare.exists()


def test_tinyshakespeare_that_is_no_file(shakespeare: Path) -> None:
    """What lies there is asked what it is before it is opened, and no more is taken than a text of that size
    has."""
    shakespeare.parent.mkdir(parents=True)
    os.mkfifo(shakespeare)
    with pytest.raises(ValueError, match=r"could not be read or fetched \(not a regular file: a FIFO\)"):
        load_corpus("tinyshakespeare")
    shakespeare.unlink()
    shakespeare.touch()
    os.truncate(shakespeare, 2**40)
    with pytest.raises(ValueError, match=r"shakespeare\.txt has 4194304 bytes and sha256"):
        load_corpus("tinyshakespeare")


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError("timed out")])
def test_tinyshakespeare_without_network(
    shakespeare: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """One error that says what to do."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(
        ValueError, match=r"could not be read or fetched .*: put the file from .* at .*shakespeare\.txt"
    ):
        load_corpus("tinyshakespeare")


@pytest.mark.clause("ARB-TRAIN-003")
def test_unigram_entropy() -> None:
    """Nats: uniform over 256 is log 256, one symbol is 0, and one in four is known."""
    assert unigram_entropy(np.arange(256, dtype=np.uint8)) == pytest.approx(math.log(256), rel=1e-12)
    assert math.copysign(1, unigram_entropy(np.zeros(9, dtype=np.uint8))) == 1
    assert unigram_entropy(np.zeros(9, dtype=np.uint8)) == 0
    expected = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert unigram_entropy(np.array([7, 7, 7, 9], dtype=np.uint8)) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="0 bytes"):
        unigram_entropy(np.zeros(0, dtype=np.uint8))


@pytest.mark.clause("ARB-TRAIN-002")
def test_draw_batch_is_pinned() -> None:
    """The same windows for ever: on another NumPy, in another order of calls, after a resume."""
    data = np.arange(200, dtype=np.uint8)
    later = draw_batch(data, 4, 5, seed=3, step=8)
    inputs, targets = draw_batch(data, 4, 5, seed=3, step=7)
    assert inputs[:, 0].tolist() == [36, 131, 141, 21]
    assert (inputs == inputs[:, :1] + np.arange(5)).all()
    assert (targets == inputs + 1).all()
    assert inputs.dtype == targets.dtype == np.int64
    assert inputs.flags.c_contiguous
    assert targets.flags.c_contiguous
    again = draw_batch(data, 4, 5, seed=3, step=8)
    assert (later[0] == again[0]).all()
    assert (later[1] == again[1]).all()


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize(("seed", "starts"), [(0, [0, 98]), (1, [1, 99]), (7, [7, 105]), (197, [1, 99])])
def test_next_batch_is_pinned(seed: int, starts: list[int]) -> None:
    """196 places, half of them between two rows; the seed turns the starts, steps go on by a window and
    around the end."""
    data = np.arange(200, dtype=np.uint8)
    for step in (0, 1, 24, 25, 48, 49, 200):
        inputs, targets = next_batch(data, 2, 4, seed=seed, step=step)
        assert inputs[:, 0].tolist() == [(start + 4 * step) % 196 for start in starts]
        assert (inputs == inputs[:, :1] + np.arange(4)).all()
        assert (targets == inputs + 1).all()
        assert inputs.dtype == targets.dtype == np.int64


def test_draw_batch_covers_every_place() -> None:
    """Starts reach both ends and no further, and neither steps nor seeds repeat each other."""
    data = np.arange(12, dtype=np.uint8)
    seen = {start for step in range(20) for start in draw_batch(data, 8, 4, 0, step)[0][:, 0].tolist()}
    assert seen == set(range(8))
    wide = np.arange(65536).astype(np.uint8)
    drawn = [
        draw_batch(wide, 16, 64, seed, step)[0].tobytes()
        for seed in range(4)
        for step in (0, 1, 2, 2**64 - 1)
    ]
    assert len(set(drawn)) == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"step": 2**64}, "step 18446744073709551616"),
        ({"batch": 0}, "batch 0"),
        ({"context": 0}, "context 0"),
        ({"context": 10}, "10 bytes, expected at least 11 for a context of 10"),
    ],
)
def test_draw_batch_refuses(change: dict[str, int], message: str) -> None:
    """Arguments out of range are named."""
    arguments = {"batch": 2, "context": 3, "seed": 0, "step": 0} | change
    with pytest.raises(ValueError, match=message):
        draw_batch(np.arange(10, dtype=np.uint8), **arguments)


def test_valid_batches() -> None:
    """Evenly spaced, from the first window to the last, in order."""
    data = np.arange(106, dtype=np.uint8)
    batches = valid_batches(data, batch=3, context=5, count=2)
    assert [inputs[:, 0].tolist() for inputs, _ in batches] == [[0, 20, 40], [60, 80, 100]]
    assert batches[1][1][2].tolist() == [101, 102, 103, 104, 105]
    assert valid_batches(data, 1, 5, 1)[0][0].tolist() == [[0, 1, 2, 3, 4]]
    with pytest.raises(ValueError, match="0 validation batches"):
        valid_batches(data, 1, 5, 0)
    with pytest.raises(ValueError, match="expected at least 107"):
        valid_batches(data, 1, 106, 1)


def test_command_line(shakespeare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what the corpus is; a refusal is one line on stderr and exit status 2."""
    assert corpus.main(["tinyshakespeare"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "tinyshakespeare",
        "61 (55 training, 6 validation)",
        hashlib.sha256(TEXT).hexdigest(),
        "nats per byte",
    ):
        assert part in shown
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "[red]a.txt").write_bytes(TEXT)
    (tmp_path / "folder" / "[bold]b.txt").touch()
    (tmp_path / "folder" / "z").symlink_to(tmp_path / "server.txt")
    assert corpus.main([str(tmp_path / "folder")]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert "[bold]b.txt(empty)" in shown
    assert "zisalinkto" in shown
    assert corpus.main([str(tmp_path / "gone")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "found nothing" in captured.err
