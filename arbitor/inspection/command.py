"""`arbitor inspect`: what is in a checkpoint: its header, its tensors, and how the ternary state is spread.

Shares of -1, 0 and +1, exponents and accumulators say whether a run is alive before anything is sampled
from it: trits that never fired have the densities of the initialisation, and with accumulators far below the
threshold none will soon. Nothing is shown of a file that `load_checkpoint` refuses.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbitor.kernels.plain import plain

from ..checkpoint import FORMAT_VERSION, SPECIFICATION, Checkpoint, CheckpointError, load_checkpoint
from ..refusal import lacking, refuse
from ..state import DTYPE_NAMES
from .matrices import LARGEST, NEAR, NUMBERS_TENSOR, STATE, Ternary, is_codes, natural, ternary_matrices

LONGEST = 100  # characters of one value in the header
VALUES, ROWS = 100, 10_000  # of the header and of a table at most, so that no file is shown for ever


def inspect_file(path: Path, picture: Path | None = None) -> int:
    """Print the tables, and draw `picture` if one is asked for; gives the exit status.

    2 with one sentence on stderr, and nothing on stdout, for a file that is no whole checkpoint or a picture
    that cannot be written.
    """
    try:
        checkpoint = load_checkpoint(path)
        matrices = _legal(path, checkpoint)
        if picture is not None:
            from .picture import draw

            title = f"{plain('/'.join(path.parts[-2:]))}, step {checkpoint.step:,}"
            draw(matrices, picture, title, threshold_of(checkpoint))
    except ValueError as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(lacking(error, "--picture", "test"))
    except OSError as error:
        return refuse(f"{picture} cannot be written: {error.strerror or error}")
    console = Console()
    console.print(_header(path, checkpoint, matrices))
    # which is that of the tensors; in a line of its own, whole on a terminal of 80 columns
    console.print(Text(f"state sha256 {checkpoint.digest}"), soft_wrap=True)
    console.print(_tensors(checkpoint, matrices))
    if matrices:
        console.print(_weights(matrices))
        console.print(_accumulators(matrices, threshold_of(checkpoint)))
    if picture is not None:
        console.print(Text(f"picture: {plain(picture)}"), soft_wrap=True)
    return 0


def _legal(path: Path, checkpoint: Checkpoint) -> list[Ternary]:
    try:
        return ternary_matrices(checkpoint.tensors)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def threshold_of(checkpoint: Checkpoint) -> int | None:
    """The accumulated vote at which a trit fires, where the trainers wrote it down."""
    options = checkpoint.config.get("options")
    threshold = options.get("accum_threshold") if isinstance(options, Mapping) else None
    return threshold if type(threshold) is int and 1 <= threshold <= LARGEST else None


def _header(path: Path, checkpoint: Checkpoint, matrices: list[Ternary]) -> Table:
    table = Table(title=Text(plain(path)), show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    size = sum(map(_size, checkpoint.tensors.values()))
    rows = {
        "format": f"version {FORMAT_VERSION}, of specification {SPECIFICATION}",
        "step": f"{checkpoint.step:,}",
        "file": f"{path.stat().st_size:,} bytes",
        "tensors": f"{len(checkpoint.tensors)}, of {size:,} bytes in memory",
    }
    if weights := sum(matrix.weights for matrix in matrices):
        rows["weights"] = f"{weights:,} trits, in the file as {checkpoint.fmt}"
        rows["bytes a weight"] = f"{size / weights:.3f}, with all its state"
    for key, value in itertools.islice(checkpoint.config.items(), VALUES):
        rows[key] = _plain(value)
    if len(checkpoint.config) > VALUES:
        rows["and more"] = f"{len(checkpoint.config) - VALUES:,} values"
    for label, content in rows.items():
        table.add_row(Text(_cut(_shown(label))), Text(content))
    return table


def _tensors(checkpoint: Checkpoint, matrices: list[Ternary]) -> Table:
    table = _table("tensor", "dtype", "shape", "bytes", title="tensors")
    logical = {matrix.name: f"{matrix.shape.rows} x {matrix.shape.columns}" for matrix in matrices}
    order = {matrix.name: number for number, matrix in enumerate(matrices)}

    def place(name: str) -> tuple[Any, ...]:
        module, _, part = name.rpartition(".")
        parts = (*STATE, NUMBERS_TENSOR)
        known = module in order and part in parts
        return (order[module], parts.index(part)) if known else (len(order), 0, natural(name))

    names = sorted(checkpoint.tensors, key=place)
    for name in names[:ROWS]:
        tensor = checkpoint.tensors[name]
        module = name.rpartition(".")[0]
        trits = is_codes(name) and module in logical
        dtype = "trits" if trits else DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
        shape = logical[module] if trits else " x ".join(map(str, tensor.shape)) or "scalar"
        table.add_row(Text(_shown(name)), dtype, shape, f"{_size(tensor):,}")
    return _counted(table, names)


def _weights(matrices: list[Ternary]) -> Table:
    table = _table("matrix", "-1", "0", "+1", "exponents", "mean e", "updates", title="trits, in percent")
    values = torch.arange(-128, 129)
    for matrix in matrices[:ROWS]:
        used = values[matrix.exponents > 0].tolist()
        mean = int((matrix.exponents * values).sum()) / int(matrix.exponents.sum())
        table.add_row(
            Text(_shown(matrix.name)),
            *(_percent(int(count), matrix.weights) for count in matrix.trits),
            f"{used[0]}..{used[-1]}" if len(used) > 1 else str(used[0]),
            f"{mean:.2f}",
            f"{matrix.updates:,}",
        )
    return _counted(table, matrices)


def _accumulators(matrices: list[Ternary], threshold: int | None) -> Table:
    """Only where the threshold is known is there a column of those that are close to it."""
    title = "accumulated votes a, in percent of the trits"
    table = _table("matrix", "a = 0", "mean |a|", "max |a|", title=title)
    if threshold is not None:
        table.add_column(f"|a| >= {threshold - NEAR}", justify="right")
    size = torch.arange(-LARGEST, LARGEST + 1).abs()
    for matrix in matrices[:ROWS]:
        near = [] if threshold is None else [_percent(matrix.near(threshold), matrix.weights)]
        table.add_row(
            Text(_shown(matrix.name)),
            _percent(int(matrix.votes[LARGEST]), matrix.weights),
            f"{int((matrix.votes * size).sum()) / matrix.weights:.2f}",
            str(int(size[matrix.votes > 0].max())),
            *near,
        )
    return _counted(table, matrices)


def _table(name: str, *numbers: str, title: str) -> Table:
    table = Table(name, title=title, title_justify="left")
    table.columns[0].overflow = "fold"
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _counted(table: Table, all_rows: Sequence[Any]) -> Table:
    """The table, with a word at its end about the rows that it has not."""
    if len(all_rows) > ROWS:
        table.caption = f"and {len(all_rows) - ROWS:,} more"
    return table


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}"


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _plain(value: Any) -> str:
    """JSON in ASCII, a dictionary as name=value; long lists are cut."""
    if not isinstance(value, Mapping):
        return _cut(json.dumps(value))
    told = [
        f"{_cut(_shown(key))}={_cut(json.dumps(inner))}"
        for key, inner in itertools.islice(value.items(), VALUES)
    ]
    return ", ".join([*told, "..."] if len(value) > VALUES else told)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _shown(name: str) -> str:
    """`name`, with what a terminal would take for a command written out; a module may have none."""
    return plain(name) or "(no name)"
