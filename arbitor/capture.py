"""Gradient capture: autograd functions whose backward hands integers to the module instead of a float weight
gradient.

There is no float weight to hang a gradient on. The forward takes an *anchor*, an empty leaf that requires
grad, so that the graph exists although no parameter does; the backward quantises the output gradient for the
input and leaves what the weight needs with the module (ARB-RUN-001). Everything that is captured is detached;
a second backward raises (ARB-RUN-004).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable

from arbitor.kernels.registry import Backend

from .state import TernaryShape

INPUT_GRADIENT, WEIGHT_GRADIENT = 1, 2


@dataclass(frozen=True)
class LinearCapture:
    """One call of a linear layer: q_t int8 [I, T], e_x int8 [T], dy float32 [T, O], and its first token's
    number."""

    first_row: int
    q_t: torch.Tensor
    e_x: torch.Tensor
    dy: torch.Tensor


@dataclass(frozen=True)
class EmbeddingCapture:
    """One call of an embedding table: tokens int64 [T], dy float32 [T, D], and its first token's number."""

    first_row: int
    tokens: torch.Tensor
    dy: torch.Tensor


class Capturing(Protocol):
    """What a module has whose gradient is captured here."""

    label: str
    shape: TernaryShape
    seed: int
    updates: int
    codes: torch.Tensor
    e: torch.Tensor
    captures: list[Any]

    @property
    def backend(self) -> Backend: ...
    def stream(self, purpose: int) -> int: ...
    def number_tokens(self, count: int) -> int: ...


def anchor(device: torch.device) -> torch.Tensor:
    """An empty leaf that requires grad: it starts the graph and can hold nothing."""
    return torch.empty(0, device=device, requires_grad=torch.is_grad_enabled())


def _once(ctx: Any, module: Capturing) -> None:
    if ctx.captured:
        raise RuntimeError(
            f"second backward through the same forward of {module.label}: its gradient is already captured; "
            "run the forward again"
        )
    if ctx.updates != module.updates:
        raise RuntimeError(
            f"{module.label} was updated between this forward and its backward; run the forward again"
        )
    ctx.captured = True


class LinearFunction(torch.autograd.Function):
    """y = x W^T with quantised x and packed W; backward gives dx and captures the rest (ARB-LIN-001,
    -002)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, _anchor: torch.Tensor, module: Capturing) -> torch.Tensor:
        """x float32 [T, I] -> y float32 [T, O]."""
        if any(ctx.needs_input_grad):
            q_x, q_t, e_x = module.backend.quantise_nearest_both(x)
            ctx.save_for_backward(q_t, e_x)
            ctx.module, ctx.captured, ctx.updates = module, False, module.updates
            ctx.first_row = module.number_tokens(x.shape[0])
        else:
            q_x, e_x = module.backend.quantise_nearest(x)
        y: torch.Tensor = module.backend.linear_forward(
            q_x,
            e_x,
            module.codes,
            module.e,
            module.shape.e_base,
            module.shape.e_span,
            module.shape.group_size,
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        """dy float32 [T, O] -> dx float32 [T, I]; leaves a LinearCapture with the module."""
        module: Capturing = ctx.module
        _once(ctx, module)
        q_t, e_x = ctx.saved_tensors
        dy = dy.detach().contiguous()
        dx = None
        if ctx.needs_input_grad[0]:
            q_d, e_d = module.backend.quantise_stochastic(
                dy, module.seed, module.updates, module.stream(INPUT_GRADIENT), ctx.first_row
            )
            shape = module.shape
            dx = module.backend.input_gradient(
                q_d, e_d, module.codes, module.e, shape.e_base, shape.e_span, shape.group_size, shape.columns
            )
        module.captures.append(LinearCapture(ctx.first_row, q_t, e_x, dy))
        return dx, None, None


class EmbeddingFunction(torch.autograd.Function):
    """Rows of the table by token; backward captures the gradient of the rows (ARB-EMB-001, -002)."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, _anchor: torch.Tensor, module: Capturing) -> torch.Tensor:
        """tokens int64 [T] -> y float32 [T, D]."""
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(tokens)
            ctx.module, ctx.captured, ctx.updates = module, False, module.updates
            ctx.first_row = module.number_tokens(tokens.shape[0])
        y: torch.Tensor = module.backend.embedding_forward(
            tokens, module.codes, module.e, module.shape.group_size, module.shape.columns
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[None, None, None]:
        """dy float32 [T, D]; leaves an EmbeddingCapture with the module."""
        _once(ctx, ctx.module)
        (tokens,) = ctx.saved_tensors
        ctx.module.captures.append(EmbeddingCapture(ctx.first_row, tokens, dy.detach().contiguous()))
        return None, None, None
