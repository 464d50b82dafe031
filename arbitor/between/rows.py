"""Rows with gradients: norm, softmax, sigmoid, and a router's weights (ARB-NORM, ARB-SOFT, ARB-MOE-001).

Sums over elements are the backend's. What is float32 here is one operation of torch after another, and the
order of a sum over slots is that of the slots (ARB-FLOAT-001).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from arbitor.kernels.registry import Backend


class Norm(torch.autograd.Function):
    """`norm` and `norm_backward`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, backend: Backend) -> torch.Tensor:
        """x float32 [R, C] -> y float32 [R, C]."""
        ctx.save_for_backward(x)
        ctx.backend = backend
        y: torch.Tensor = backend.norm(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Of x."""
        return ctx.backend.norm_backward(dy.contiguous(), *ctx.saved_tensors), None


class Softmax(torch.autograd.Function):
    """`softmax` and `softmax_backward`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, backend: Backend) -> torch.Tensor:
        """x float32 [R, C] -> p float32 [R, C]."""
        p: torch.Tensor = backend.softmax(x)
        ctx.save_for_backward(p)
        ctx.backend = backend
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dp: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Of x."""
        return ctx.backend.softmax_backward(dp.contiguous(), *ctx.saved_tensors), None


class Sigmoid(torch.autograd.Function):
    """`sigmoid`, and its gradient element by element (ARB-SOFT-004)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, backend: Backend) -> torch.Tensor:
        """x float32 [R, C] -> y float32 [R, C]."""
        y: torch.Tensor = backend.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Of x."""
        (y,) = ctx.saved_tensors
        return dy * (y * (1.0 - y)), None


class Shares(torch.autograd.Function):
    """Weights over their sum (ARB-MIX-001)."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor) -> torch.Tensor:
        """float32 [R, k] -> float32 [R, k]."""
        total = _in_order(weights)
        y = weights / total
        ctx.save_for_backward(y, total)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:
        """Of the weights."""
        y, total = ctx.saved_tensors
        found: torch.Tensor = (dy - _in_order(dy * y)) / total
        return found


class Spread(torch.autograd.Function):
    """A row in every slot; its gradient is the sum of theirs in order (ARB-MIX-002)."""

    @staticmethod
    def forward(ctx: Any, h: torch.Tensor, slots: int) -> torch.Tensor:
        """float32 [R, C] -> float32 [R, slots, C]."""
        return h.unsqueeze(1).repeat(1, slots, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Of the row."""
        return _in_order(dy).squeeze(1), None


class Weighted(torch.autograd.Function):
    """A weighted sum in order; the gradient of a weight is a `dot` (ARB-MIX-003)."""

    @staticmethod
    def forward(ctx: Any, weights: torch.Tensor, values: torch.Tensor, backend: Backend) -> torch.Tensor:
        """weights float32 [R, k], values float32 [R, k, C] -> float32 [R, C]."""
        ctx.save_for_backward(weights, values)
        ctx.backend = backend
        return _in_order(weights.unsqueeze(-1) * values).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Of the weights, and of the values."""
        weights, values = ctx.saved_tensors
        beside = dy.unsqueeze(1).expand_as(values)
        changes = ctx.backend.dot(beside.flatten(0, 1).contiguous(), values.flatten(0, 1).contiguous())
        return changes.view_as(weights), weights.unsqueeze(-1) * beside, None


def _in_order(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, k, ...] -> [R, 1, ...]: slot after slot; torch's own sum has an order of its own."""
    first, *rest = x.split(1, dim=1)
    total: torch.Tensor = first
    for slot in rest:
        total = total + slot
    return total
