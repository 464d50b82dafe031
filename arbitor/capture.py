"""Gradient capture: autograd functions whose backward hands integers to the module instead of a float weight
gradient.

There is no float weight to hang a gradient on. The forward takes an *anchor*, an empty leaf that requires
grad, so that the graph exists although no parameter does; the backward quantises the output gradient for the
input and leaves what the weight needs with the module (ARB-RUN-001). Everything that is captured is detached
and the module's own; a second backward raises (ARB-RUN-004).

Its own, since what autograd and the caller hand over may be written to before the update: the gradient of
`y.backward(g)` is g, one that a hook sees or that a learned offset beside y gets may be the same memory, and
one buffer may hold the tokens of all batches. Both are copied. Nothing else has to be: what a backend returns
is nobody else's.
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


@dataclass
class Numbered:
    """Tokens of one step that a module has numbered (ARB-RNG-006); a forward keeps that of its step."""

    count: int = 0


@dataclass(frozen=True)
class Revision:
    """The weights of a module as they are until the next change; `became` says what made them so."""

    became: str = "made"


class Capturing(Protocol):
    """What a module has whose gradient is captured here."""

    label: str
    shape: TernaryShape
    seed: int
    updates: int
    codes: torch.Tensor
    e: torch.Tensor
    captures: list[Any]
    numbered: Numbered
    revision: Revision

    @property
    def backend(self) -> Backend: ...
    def stream(self, purpose: int) -> int: ...
    def number_tokens(self, count: int) -> int: ...


def anchor(device: torch.device) -> torch.Tensor:
    """An empty leaf that requires grad: it starts the graph and can hold nothing."""
    return torch.empty(0, device=device, requires_grad=torch.is_grad_enabled())


def _begin(ctx: Any, module: Capturing, count: int) -> None:
    """Note what a forward of `count` tokens belongs to. After its backend has taken them: a call that is
    refused takes no numbers."""
    ctx.module, ctx.captured, ctx.revision = module, False, module.revision
    ctx.first_row, ctx.numbered = module.number_tokens(count), module.numbered


def _check_once(ctx: Any, module: Capturing) -> None:
    """Refuse a backward whose gradient is captured already, or would be none of this step."""
    again = "run the forward again"
    if ctx.captured:
        raise RuntimeError(
            f"second backward through the same forward of {module.label}: its gradient is already captured; "
            f"{again}"
        )
    if ctx.revision is not module.revision:
        raise RuntimeError(
            f"{module.label} was {module.revision.became} between this forward and its backward; {again}"
        )
    if ctx.numbered is not module.numbered:
        if module.numbered.count:
            raise RuntimeError(
                f"{module.label} began another step between this forward and its backward; {again}"
            )
        module.numbered = ctx.numbered  # no call since then: the step of that forward goes on


def _keep(ctx: Any, capture: LinearCapture | EmbeddingCapture) -> None:
    """Last of all: a backward that failed before has captured nothing, and may be repeated."""
    ctx.module.captures.append(capture)
    ctx.captured = True


def _own(dy: torch.Tensor) -> torch.Tensor:
    """The output gradient in contiguous memory that nobody else has."""
    return dy.clone(memory_format=torch.contiguous_format)  # of a backward without gradients: no graph


class LinearFunction(torch.autograd.Function):
    """y = x W^T with quantised x and packed W; backward gives dx and captures the rest (ARB-LIN-001,
    -002)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, _anchor: torch.Tensor, module: Capturing) -> torch.Tensor:
        """x float32 [T, I] -> y float32 [T, O]."""
        if any(ctx.needs_input_grad):
            q_x, q_t, e_x = module.backend.quantise_nearest_both(x)
            ctx.save_for_backward(q_t, e_x)
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
        if any(ctx.needs_input_grad):
            _begin(ctx, module, x.shape[0])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        """dy float32 [T, O] -> dx float32 [T, I]; leaves a LinearCapture with the module."""
        module: Capturing = ctx.module
        _check_once(ctx, module)
        q_t, e_x = ctx.saved_tensors
        dy = _own(dy)
        dx = None
        if ctx.needs_input_grad[0]:
            q_d, e_d = module.backend.quantise_stochastic(
                dy, module.seed, module.updates, module.stream(INPUT_GRADIENT), ctx.first_row
            )
            shape = module.shape
            dx = module.backend.input_gradient(
                q_d, e_d, module.codes, module.e, shape.e_base, shape.e_span, shape.group_size, shape.columns
            )
        _keep(ctx, LinearCapture(ctx.first_row, q_t, e_x, dy))
        return dx, None, None


class EmbeddingFunction(torch.autograd.Function):
    """Rows of the table by token; backward captures the gradient of the rows (ARB-EMB-001, -002)."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, _anchor: torch.Tensor, module: Capturing) -> torch.Tensor:
        """tokens int64 [T] -> y float32 [T, D]."""
        y: torch.Tensor = module.backend.embedding_forward(
            tokens, module.codes, module.e, module.shape.group_size, module.shape.columns
        )
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(tokens.clone())
            _begin(ctx, module, tokens.shape[0])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[None, None, None]:
        """dy float32 [T, D]; leaves an EmbeddingCapture with the module."""
        _check_once(ctx, ctx.module)
        (tokens,) = ctx.saved_tensors
        _keep(ctx, EmbeddingCapture(ctx.first_row, tokens, _own(dy)))
        return None, None, None
