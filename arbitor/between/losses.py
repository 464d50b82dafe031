"""Losses as sums of integers, which become a float32 once (ARB-LOSS, ARB-MOE-004)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from arbitor.kernels.registry import Backend

UNIT = 2.0**-20  # of a loss
NATS = math.log(2) * UNIT


class CrossEntropy(torch.autograd.Function):
    """The sum of the losses of rows, in nats (ARB-LOSS-004)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, backend: Backend) -> torch.Tensor:
        """logits float32 [T, C], targets int64 [T] -> a scalar; NaN where a row is poisoned."""
        losses, dx = backend.cross_entropy(logits, targets)
        ctx.save_for_backward(dx)
        return _total(losses, NATS)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Of the logits."""
        (dx,) = ctx.saved_tensors
        return dx * dy, None, None


class SquaredError(torch.autograd.Function):
    """The sum of squared differences (ARB-LOSS-005)."""

    @staticmethod
    def forward(ctx: Any, guess: torch.Tensor, truth: torch.Tensor, backend: Backend) -> torch.Tensor:
        """Both float32 [R, C] -> a scalar; NaN where a difference is not finite."""
        ctx.save_for_backward(guess, truth)
        return _total(backend.squared_error(guess, truth), UNIT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Of the guess."""
        guess, truth = ctx.saved_tensors
        return (guess - truth) * 2.0 * dy, None, None


class Balance(torch.autograd.Function):
    """E times the sum over experts of their share of choices and their mean probability (ARB-MOE-004)."""

    @staticmethod
    def forward(ctx: Any, p: torch.Tensor, usage: torch.Tensor) -> torch.Tensor:
        """p float32 [R, E], usage int64 [E] -> a scalar."""
        rows, experts = p.shape
        of_all = (usage.sum() * rows).double()
        factors = ((usage * experts).double() / of_all).float()
        ctx.save_for_backward(factors.expand_as(p))
        units = (p.nan_to_num(nan=0.0) * 2.0**20).long().sum(0)
        found = ((units * usage).sum() * experts).double() / of_all * UNIT
        return torch.where(p.isfinite().all(), found, math.nan).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Of p."""
        (factors,) = ctx.saved_tensors
        return factors * dy, None


def _total(losses: torch.Tensor, unit: float) -> torch.Tensor:
    """losses int64 [R], -1 of poisoned rows -> their sum as float32, a scalar."""
    found = losses.sum().double() * unit
    return torch.where((losses < 0).any(), math.nan, found).float()
