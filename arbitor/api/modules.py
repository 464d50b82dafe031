"""Modules that `ternarize` puts in the place of float ones beside the layers themselves."""

from __future__ import annotations

import torch
from torch import nn

from ..components import TernaryLinear
from ..gradients.trainable import ComputedWeight


class TiedTable(ComputedWeight):
    """The table of a tied pair: rows of the linear layer, which has the state. Its gradient is captured there
    (ARB-EMB-006)."""

    def __init__(self, linear: TernaryLinear) -> None:
        super().__init__()
        self._of = (linear,)  # no submodule: the layer is one where it is
        self.num_embeddings, self.embedding_dim = linear.out_features, linear.in_features

    @property
    def weight(self) -> torch.Tensor:
        """float32 [V, D], computed, read-only."""
        return self._of[0].weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens int64 [...] -> y float32 [..., D]. Raises ValueError for a token outside the table."""
        return self._of[0].rows_of(tokens)


class FloatBias(ComputedWeight):
    """A ternary layer and a float bias behind it: y = x W^T + b. `bias` is a parameter for a float
    optimiser."""

    def __init__(self, linear: TernaryLinear, bias: nn.Parameter) -> None:
        super().__init__()
        self.linear, self.bias = linear, bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    @property
    def weight(self) -> torch.Tensor:
        """float32 [O, I], computed, read-only."""
        return self.linear.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., I] -> y float32 [..., O]."""
        y: torch.Tensor = self.linear(x) + self.bias
        return y
