"""Gradient capture: autograd functions whose backward hands integers to the module instead of a float weight
gradient.

There is no float weight to hang a gradient on. The forward takes an *anchor*, an empty leaf that requires
grad, so that the graph exists although no parameter does; the backward quantises the output gradient for the
input and leaves what the weight needs with the module (ARB-RUN-001). Everything that is captured is detached
and the module's own; a second backward raises (ARB-RUN-004).

Tokens are numbered by the backward, in the order in which backwards come (ARB-RNG-006). So a forward changes
nothing: one that is only looked at takes no numbers, and one that torch.utils.checkpoint runs again takes
none twice. What a backward captures counts when all of it has come to its end, and is gone if it raises.

Its own, since what autograd and the caller hand over may be written to before the update: the gradient of
`y.backward(g)` is g, one that a hook sees or that a learned offset beside y gets may be the same memory, and
one buffer may hold the tokens of all batches. Both are copied. Nothing else has to be: what a backend returns
is nobody else's.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable

from arbitor.kernels.registry import Backend

from .state import TernaryShape
from .sums import by_rows

INPUT_GRADIENT, WEIGHT_GRADIENT = 1, 2
_engine: Any = torch.autograd.Variable._execution_engine
_looking = 0  # `without_capture`s that are open: of the process, since autograd has threads of its own


@contextmanager
def without_capture() -> Iterator[None]:
    """Backwards inside give gradients and leave nothing with the modules, as `torch.autograd.grad` for a
    saliency map wants it. Tokens have the numbers of those that would be captured next."""
    global _looking
    _looking += 1
    try:
        yield
    finally:
        _looking -= 1


def looking() -> bool:
    """Whether gradients are only looked at."""
    return _looking > 0


@dataclass(frozen=True)
class LinearCapture:
    """One call of a linear layer: q_t int8 [I, T], e_x int8 [T], dy float32 [T, O], and its first token's
    number, on this rank."""

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


class Captured:
    """Whether a forward's gradient has been captured: it is if the backward has come to its end, and until
    then as long as it runs."""

    def __init__(self) -> None:
        self.ended = False
        self.by: weakref.ref[Pass] | None = None

    def __bool__(self) -> bool:
        return self.ended or (self.by is not None and self.by() is not None)


class Pass:
    """What one module captures in one backward; the autograd engine holds it for as long as that runs."""

    def __init__(self, module: Capturing) -> None:
        self._module = module
        self.capture: LinearCapture | EmbeddingCapture | None = None
        self._captured: Captured | None = None
        module.passes.append(weakref.ref(self))
        _engine.queue_callback(self._ended)

    def take(self, capture: LinearCapture | EmbeddingCapture, captured: Captured) -> None:
        """Hold it until the end; `captured` is that of its forward."""
        self.capture, self._captured = capture, captured
        captured.by = weakref.ref(self)

    def _ended(self) -> None:
        """The whole backward has come to its end; nothing if the module was cleared since."""
        if self._captured is not None:
            self._captured.ended = True
        others = [known for known in self._module.passes if known() not in (None, self)]
        known = any(known() is self for known in self._module.passes)
        self._module.passes = others
        if known and self.capture is not None:
            self._module.captures.append(self.capture)


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
    trains: bool
    passes: list[weakref.ref[Pass]]
    revision: Revision

    @property
    def backend(self) -> Backend: ...
    def stream(self, purpose: int) -> int: ...
    def next_number(self, count: int) -> int: ...


def _begin(ctx: Any, module: Capturing) -> None:
    """Note which weights a forward is of. One inside of a backward is run again for
    torch.utils.checkpoint(use_reentrant=True): what its own backward captures is of the outer one."""
    ctx.module, ctx.captured, ctx.revision = module, Captured(), module.revision
    ctx.passed = Pass(module) if torch._C._current_graph_task_id() >= 0 else None


def _check_once(ctx: Any, module: Capturing) -> None:
    """Refuse a backward whose gradient is captured already, or would be none of these weights."""
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


def _keep(ctx: Any, capture: LinearCapture | EmbeddingCapture) -> None:
    """Last of all: a backward that failed before has captured nothing, and may be repeated."""
    if looking() or not ctx.module.trains:
        return
    (ctx.passed or Pass(ctx.module)).take(capture, ctx.captured)


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
        shape = module.shape
        weight = (module.codes, module.e, shape.e_base, shape.e_span, shape.group_size)
        y = by_rows(lambda *rows: module.backend.linear_forward(*rows, *weight), q_x, e_x)
        if any(ctx.needs_input_grad):
            _begin(ctx, module)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        """dy float32 [T, O] -> dx float32 [T, I]; leaves a LinearCapture with the module."""
        module: Capturing = ctx.module
        _check_once(ctx, module)
        q_t, e_x = ctx.saved_tensors
        dy = _own(dy)
        first = module.next_number(len(dy))
        dx = None
        if ctx.needs_input_grad[0]:
            q_d, e_d = module.backend.quantise_stochastic(
                dy, module.seed, module.updates, module.stream(INPUT_GRADIENT), first
            )
            shape = module.shape
            dx = module.backend.input_gradient(
                q_d, e_d, module.codes, module.e, shape.e_base, shape.e_span, shape.group_size, shape.columns
            )
        _keep(ctx, LinearCapture(first, q_t, e_x, dy))
        return dx, None, None


class EmbeddingFunction(torch.autograd.Function):
    """Rows of the table by token; backward captures the gradient of the rows (ARB-EMB-001, -002)."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, _anchor: torch.Tensor, module: Capturing) -> torch.Tensor:
        """tokens int64 [T] -> y float32 [T, D]."""
        shape = module.shape
        table = (module.codes, module.e, shape.group_size, shape.columns)
        y = by_rows(lambda rows: module.backend.embedding_forward(rows, *table), tokens)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(tokens.clone())
            _begin(ctx, module)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[None, None, None]:
        """dy float32 [T, D]; leaves an EmbeddingCapture with the module."""
        _check_once(ctx, ctx.module)
        (tokens,) = ctx.saved_tensors
        _keep(ctx, EmbeddingCapture(ctx.module.next_number(len(tokens)), tokens, _own(dy)))
        return None, None, None
