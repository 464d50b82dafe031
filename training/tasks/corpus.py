"""Byte corpora: what a trainer reads, under a name and a hash that say whether two runs read the same.

Tokens are bytes, so any text is a corpus. Without a source it is the documentation that every CPython carries
(`pydoc_data.topics`, about 460 kB): a first run needs no network and no download. `tinyshakespeare` is the
text that most published small runs use; it is fetched when asked for, kept in the user's cache, and always
checked against its hash. A file or a folder is the user's own.

Batches are a pure function of (seed, step). A run that resumes at step n draws what the uninterrupted run
would have drawn (ARB-TRAIN-002), with no generator state in the checkpoint. The bits are Philox's raw words,
which NumPy promises to keep between its versions, and not those of `Generator.integers`, which it may change.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbitor.kernels.writing import write_whole

from .opening import FILE, FOLDER, LeftOut, Reading, look, opened, shown

Bytes = npt.NDArray[np.uint8]
Tokens = npt.NDArray[np.int64]

TINYSHAKESPEARE = "tinyshakespeare"
TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_MOST = 1 << 22  # bytes that are taken of what may be another text; it has 1,115,394


@dataclass(frozen=True)
class Corpus:
    """A corpus: the first 90 % of its bytes to train on, the last 10 % to validate on, both uint8 [bytes].

    ``sha256`` is that of all bytes; ``skipped`` names each file of a folder that was left out, with the
    reason; ``notes`` are sentences about what was read.
    """

    name: str
    train: Bytes
    valid: Bytes
    sha256: str
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def require(self, context: int) -> Corpus:
        """This corpus; `ValueError` unless both parts hold ``context`` bytes and the next."""
        for part, data in (("training", self.train), ("validation", self.valid)):
            if len(data) < context + 1:
                raise ValueError(
                    f"corpus {self.name}: found {len(self.train)} bytes for training and "
                    f"{len(self.valid)} for validation, a context of {context} needs at least {context + 1} "
                    f"for {part}"
                )
        return self


def load_corpus(source: str | Path | None = None) -> Corpus:
    """The corpus that ``source`` names: None, "tinyshakespeare", a file, or a folder of text files.

    A file that is called tinyshakespeare is reached as ``./tinyshakespeare``. Raises `ValueError` that says
    what was found if there is nothing to read, if a download fails, or if tinyshakespeare has another hash.
    """
    if source is None:
        return _split(f"pydoc-topics-{sys.version_info.major}.{sys.version_info.minor}", _pydoc_topics())
    if str(source) == TINYSHAKESPEARE:
        return _split(TINYSHAKESPEARE, _tinyshakespeare(cache_folder() / f"{TINYSHAKESPEARE}.txt"))
    found = look(source)
    if found not in (FILE, FOLDER):
        raise ValueError(
            f"corpus '{shown(source)}': found {found}, expected {FILE}, {FOLDER} or '{TINYSHAKESPEARE}'"
        )
    reading = Reading(Path(source))
    texts = _texts(reading, anything=found == FILE)
    if not texts:
        raise reading.nothing("corpus", "text")
    return _split(reading.title, b"\n".join(texts), reading.skipped, reading.notes)


def cache_folder() -> Path:
    """Where what is fetched is kept: arbitor in XDG_CACHE_HOME, and in ~/.cache where that is not set."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "arbitor"


def unigram_entropy(data: Bytes) -> float:
    """Entropy of the bytes of ``data``, nats per byte: the best that a model without context can do."""
    if not len(data):
        raise ValueError("0 bytes have no entropy, expected at least 1")
    counts = np.bincount(data, minlength=256)
    p = counts[counts > 0] / len(data)
    return float(np.sum(p * -np.log(p)))


def draw_batch(data: Bytes, batch: int, context: int, seed: int, step: int) -> tuple[Tokens, Tokens]:
    """Random windows of ``data``: inputs and next-byte targets, both int64 [batch, context].

    A pure function of its arguments (ARB-TRAIN-002): the starts are Philox words modulo the number of places.
    ``seed`` and ``step`` are in 0..2^64-1, else `ValueError`.
    """
    return _windows(data, draw_places(_places(data, batch, context), batch, seed, step), context)


def draw_places(places: int, count: int, seed: int, step: int) -> Tokens:
    """``count`` random numbers below ``places``, int64: a pure function of its arguments (ARB-TRAIN-002)."""
    if not (0 <= seed < 2**64 and 0 <= step < 2**64):
        raise ValueError(f"seed {seed}, step {step}: expected both in 0..2^64-1")
    # One batch counts up the lower half of the counter, the step is the upper: no two steps share words.
    words = np.random.Philox(key=seed, counter=step << 128).random_raw(count)
    return (words % np.uint64(places)).astype(np.int64)


def even_places(places: int, batch: int, count: int) -> Tokens:
    """Evenly spaced numbers from 0 to ``places`` - 1, int64 [count, batch]."""
    if count < 1:
        raise ValueError(f"{count} validation batches, expected at least 1")
    total = batch * count
    return (np.arange(total, dtype=np.int64) * (places - 1) // max(total - 1, 1)).reshape(count, batch)


def next_batch(data: Bytes, batch: int, context: int, seed: int, step: int) -> tuple[Tokens, Tokens]:
    """Consecutive windows: row b reads on from its own start, so KV state may be kept between batches.

    Inputs and targets as in `draw_batch`; `seed` turns the rows' starts around the data.
    """
    places = _places(data, batch, context)
    starts = np.arange(batch, dtype=np.int64) * (places // batch) + seed % places
    return _windows(data, (starts + step * context) % places, context)


def valid_batches(data: Bytes, batch: int, context: int, count: int) -> list[tuple[Tokens, Tokens]]:
    """``count`` batches of evenly spaced windows, the first at the start of ``data`` and the last at its end.

    The same for every run, so that validation losses compare; inputs and targets int64 [batch, context] as in
    `draw_batch`.
    """
    starts = even_places(_places(data, batch, context), batch, count)
    return [_windows(data, part, context) for part in starts]


def _places(data: Bytes, batch: int, context: int) -> int:
    """How many windows there are to start at: context + 1 bytes must follow."""
    if batch < 1 or context < 1:
        raise ValueError(f"batch {batch}, context {context}: expected both at least 1")
    if len(data) < context + 1:
        raise ValueError(f"{len(data)} bytes, expected at least {context + 1} for a context of {context}")
    return len(data) - context


def _windows(data: Bytes, starts: Tokens, context: int) -> tuple[Tokens, Tokens]:
    places = starts[:, None] + np.arange(context, dtype=np.int64)
    return data[places].astype(np.int64), data[places + 1].astype(np.int64)


def _split(name: str, data: bytes, skipped: tuple[str, ...] = (), notes: tuple[str, ...] = ()) -> Corpus:
    array = np.frombuffer(data, dtype=np.uint8)
    cut = len(array) - len(array) // 10
    return Corpus(name, array[:cut], array[cut:], hashlib.sha256(data).hexdigest(), skipped, notes)


def _pydoc_topics() -> bytes:
    from pydoc_data.topics import topics

    return "".join(topics[key] for key in sorted(topics)).encode()


def _tinyshakespeare(path: Path) -> bytes:
    """The text at ``path``, fetched to there if absent; checked either way, and before it is written."""
    advice = f"put the file from {TINYSHAKESPEARE_URL} at {path}"
    try:
        fetched = not os.path.lexists(path)
        where = "the download" if fetched else str(path)
        with urllib.request.urlopen(TINYSHAKESPEARE_URL, timeout=30) if fetched else opened(path) as file:
            data = file.read(TINYSHAKESPEARE_MOST)
    except (OSError, http.client.HTTPException, LeftOut) as error:
        raise ValueError(f"{TINYSHAKESPEARE} could not be read or fetched ({error}): {advice}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != TINYSHAKESPEARE_SHA256:
        raise ValueError(
            f"{TINYSHAKESPEARE}: {where} has {len(data)} bytes and sha256 {found}, "
            f"expected {TINYSHAKESPEARE_SHA256}: {advice}"
        )
    if fetched:
        write_whole(path, data)
    return data


def _texts(reading: Reading, anything: bool) -> list[bytes]:
    """The bytes of every file that is text, or of a file with ``anything`` in it."""
    texts = []
    for path in reading.files():
        data = reading.read(path, lambda file: reading.bytes_of(file, text=not anything))
        if data is not None:
            texts.append(data)
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Load (and fetch) a corpus and print what it is; 2 and the reason if that is not possible."""
    parser = argparse.ArgumentParser(
        prog="python -m training.tasks.corpus", description="Fetch, check and describe a byte corpus."
    )
    parser.add_argument(
        "source",
        nargs="?",
        help="'tinyshakespeare', a file or a folder; without it, Python's own documentation",
    )
    source = parser.parse_args(arguments).source
    try:
        corpus = load_corpus(source)
    except ValueError as error:
        Console(stderr=True).print(Text(f"error: {error}", style="red"), soft_wrap=True)
        return 2
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("corpus", Text(corpus.name))
    everything = np.concatenate([corpus.train, corpus.valid])
    parts = f"{len(corpus.train):,} training, {len(corpus.valid):,} validation"
    table.add_row("bytes", f"{len(everything):,} ({parts})")
    table.add_row("sha256", corpus.sha256)
    table.add_row("entropy", f"{unigram_entropy(everything):.4f} nats per byte (unigram)")
    for title, lines in (("skipped", corpus.skipped), ("noted", corpus.notes)):
        for number, line in enumerate(lines):
            table.add_row(title if number == 0 else "", Text(line))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
