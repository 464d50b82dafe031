"""What a model is made of: a source of projections and tables, so that twins share every line of the
architecture."""

from __future__ import annotations

import itertools
from typing import Protocol

from torch import nn

from .components import TernaryEmbeddingTable, TernaryLinear


class Parts(Protocol):
    """Makes the weight-bearing modules of a model, in construction order."""

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        """A projection [..., I] -> [..., O] without bias."""
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

    def linear(self, in_features: int, out_features: int) -> TernaryLinear:
        """A TernaryLinear with the next tensor_id."""
        return TernaryLinear(
            in_features,
            out_features,
            seed=self._seed,
            tensor_id=next(self._ids),
            group_size=self._group_size,
            e_span=self._e_span,
            backend=self._backend,
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
