"""What a model is made of: a source of projections and tables, so that twins share every line of the
architecture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from .between.exact import ExactWork
from .between.work import Work
from .components import TernaryEmbeddingTable, TernaryLinear
from .state import read_numbers


class Parts(Protocol):
    """Makes the weight-bearing modules of a model, in construction order, and has the work between them."""

    work: Work

    def linear(self, in_features: int, out_features: int, **options: Any) -> nn.Module:
        """A projection [..., I] -> [..., O] without bias; `options` are those of a TernaryLinear."""
        ...

    def embedding(self, rows: int, columns: int) -> nn.Module:
        """A table of rows by token."""
        ...


class TernaryParts:
    """Ternary modules, numbered in construction order: the number is the tensor_id of their random
    streams."""

    def __init__(self, seed: int, group_size: int, e_span: int, backend: str | None) -> None:
        self._ids = itertools.count()
        self._seed, self._group_size, self._e_span, self._backend = seed, group_size, e_span, backend
        self.work: Work = ExactWork(backend)

    def linear(self, in_features: int, out_features: int, **options: Any) -> TernaryLinear:
        """A TernaryLinear with the next tensor_id."""
        return TernaryLinear(
            in_features,
            out_features,
            seed=self._seed,
            tensor_id=next(self._ids),
            group_size=self._group_size,
            e_span=self._e_span,
            backend=self._backend,
            **options,
        )

    def embedding(self, rows: int, columns: int) -> TernaryEmbeddingTable:
        """A TernaryEmbeddingTable with the next tensor_id."""
        return TernaryEmbeddingTable(
            rows,
            columns,
            seed=self._seed,
            tensor_id=next(self._ids),
            group_size=self._group_size,
            e_span=self._e_span,
            backend=self._backend,
        )


class PartsOfAFile(TernaryParts):
    """Ternary parts that a checkpoint has: each is looked for there, by its tensor_id and its extents, before
    it is made. So a model takes no more memory than the file, whatever its options say."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], *how: Any) -> None:
        super().__init__(*how)
        self._there, self._made = _extents(tensors), 0

    def linear(self, in_features: int, out_features: int, **options: Any) -> TernaryLinear:
        """As of TernaryParts. Raises `ValueError` if the file has none of these extents in its place."""
        self._find(out_features, in_features)
        return super().linear(in_features, out_features, **options)

    def embedding(self, rows: int, columns: int) -> TernaryEmbeddingTable:
        """As of TernaryParts. Raises `ValueError` if the file has none of these extents in its place."""
        self._find(rows, columns)
        return super().embedding(rows, columns)

    def _find(self, rows: int, columns: int) -> None:
        name, *extents = self._there.get(self._made, ("none", 0, 0))
        if extents != [rows, columns]:
            of_file = f"{name}, {extents[0]} x {extents[1]}" if extents[0] else "no such matrix"
            raise ValueError(f"matrix {self._made} of them is {rows} x {columns}, the file has {of_file}")
        self._made += 1


def _extents(tensors: Mapping[str, torch.Tensor]) -> dict[int, tuple[str, int, int]]:
    """Name, rows and columns of the ternary matrices of a file, by tensor_id: the order of construction."""
    found: dict[int, tuple[str, int, int]] = {}
    for name in sorted(tensors):
        module, _, part = name.rpartition(".")
        votes = tensors.get(f"{module}.t_accum")
        if part != "_extra_state" or votes is None:
            continue
        number = read_numbers(module, tensors[name])["tensor_id"]
        if number in found:
            raise ValueError(f"{found[number][0]} and {module} both have the tensor_id {number}")
        if votes.dim() != 2:
            raise ValueError(f"{module}.t_accum has shape {tuple(votes.shape)}, expected two extents")
        found[number] = (module, *votes.shape)
    return found
