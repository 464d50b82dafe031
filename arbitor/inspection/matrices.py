"""The ternary matrices of a checkpoint, checked, and histograms of what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from arbitor.kernels import registry

from ..state import TernaryShape, check_state, read_numbers

NEAR = 4  # accumulated votes that are missing to a fire, at most, to count as near
STATE = ("codes", "t_accum", "e", "e_accum", "corr_accum", "step_counter")
NUMBERS_TENSOR = "_extra_state"
TRITS = (-1, 0, 1)
LARGEST = 127  # of accumulators (ARB-STATE-003)


@dataclass(frozen=True)
class Ternary:
    """One ternary matrix of a checkpoint. Histograms, int64: `trits` [3] of -1, 0, +1; `exponents` [257] of
    -128..128; `votes` [255] of the accumulators -127..127."""

    name: str
    shape: TernaryShape
    tensor_id: int
    updates: int
    trits: torch.Tensor
    exponents: torch.Tensor
    votes: torch.Tensor

    @property
    def weights(self) -> int:
        """Number of trits."""
        return self.shape.rows * self.shape.columns

    def near(self, threshold: int) -> int:
        """Accumulators from which a fire is at most `NEAR` votes away."""
        size = torch.arange(-LARGEST, LARGEST + 1).abs()
        return int(self.votes[size >= threshold - NEAR].sum())


def ternary_matrices(tensors: Mapping[str, torch.Tensor]) -> list[Ternary]:
    """The ternary matrices among the tensors of a checkpoint, in order of construction.

    A name belongs to one if `codes`, `t_accum`, `e` and `_extra_state` have it. Raises `ValueError` or
    `TypeError` for one that is illegal (ARB-STATE-003, -004, -006).
    """
    found = []
    for name in sorted(filter(is_codes, tensors), key=natural):
        prefix = name.removesuffix("codes")
        if all(prefix + part in tensors for part in ("t_accum", "e", NUMBERS_TENSOR)):
            found.append(_matrix(prefix, tensors))
    return sorted(found, key=lambda matrix: matrix.tensor_id)


def _matrix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Ternary:
    name = prefix.rstrip(".")
    label = name or "the module"
    state = {part: tensors[prefix + part] for part in STATE if prefix + part in tensors}
    values, accumulators = read_numbers(label, tensors[prefix + NUMBERS_TENSOR]), state["t_accum"]
    if accumulators.dim() != 2 or not accumulators.numel():
        found = tuple(accumulators.shape)
        raise ValueError(f"{label}: t_accum must have two extents of at least 1, got {found}")
    rows, columns = accumulators.shape
    shape = TernaryShape(rows, columns, values["group_size"], values["e_base"], values["e_span"])
    check_state(label, state, shape)
    trits = registry.select("torch").unpack(state["codes"], columns)
    counted = (trits, 1), (state["e"], 128), (accumulators, LARGEST)
    histograms = (_histogram(tensor, largest) for tensor, largest in counted)
    return Ternary(name, shape, values["tensor_id"], values["updates"], *histograms)


def _histogram(tensor: torch.Tensor, largest: int) -> torch.Tensor:
    """int64 [2 * largest + 1]: how often -largest..largest occur."""
    return torch.bincount(tensor.flatten().short() + largest, minlength=2 * largest + 1)


def is_codes(name: str) -> bool:
    """Whether a tensor of that name holds packed trits."""
    return name == "codes" or name.endswith(".codes")


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sorts block 10 after block 9."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
