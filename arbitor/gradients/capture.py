"""Gradient capture: autograd functions whose backward hands integers to the module instead of a float weight
gradient.

There is no float weight to hang a gradient on. The forward takes the module's `trainable`, a parameter
without elements, so that the graph exists where it requires grad; the backward quantises the output gradient
for the input and leaves what the weight needs with the module (ARB-RUN-001). Everything that is captured is
detached and the module's own; a second backward raises (ARB-RUN-004).

Whether a capture counts is whether a gradient came to `trainable`, and is still there: so autograd's other
ways of asking, `zero_grad` of whatever optimiser has the parameter and `grad = None` do what they say.

Tokens are numbered by the backward, in the order in which backwards come (ARB-RNG-006). So a forward changes
nothing: one that is only looked at takes no numbers, and one that torch.utils.checkpoint runs again takes
none twice. What a backward captures counts when all of it has come to its end, and is gone if it raises.

Its own, since what autograd and the caller hand over may be written to before the update: the gradient of
`y.backward(g)` is g, one that a hook sees or that a learned offset beside y gets may be the same memory, and
one buffer may hold the tokens of all batches. Both are copied. Nothing else has to be: what a backend returns
is nobody else's.
"""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from arbitor.kernels.registry import Backend

from ..state import TernaryShape
from .sums import by_rows

INPUT_GRADIENT, WEIGHT_GRADIENT = 1, 2
_engine: Any = torch.autograd.Variable._execution_engine


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


class Pass:
    """What one module captures in one backward; the autograd engine holds it for as long as that runs."""

    def __init__(self, module: Capturing) -> None:
        self._module, self._ticket = module, 0
        self._before = _gradient(module)
        self.capture: LinearCapture | EmbeddingCapture | None = None
        module.passes.append(weakref.ref(self))
        _engine.queue_callback(self._ended)

    def take(self, capture: LinearCapture | EmbeddingCapture, ticket: int) -> None:
        """Hold it until the end; `ticket` is that of its forward."""
        self.capture, self._ticket = capture, ticket
        self._module.revision.taken[ticket] = weakref.ref(self)

    def _ended(self) -> None:
        """The whole backward has come to its end. Nothing if the module was cleared since, or if no gradient
        came to its parameter, as in torch.autograd.grad of something else."""
        module, after = self._module, _gradient(self._module)
        known = any(known() is self for known in module.passes)
        module.passes = [known for known in module.passes if known() not in (None, self)]
        came = after is not None and (self._before is None or not _is_same(self._before, after))
        if module.owned and not came:
            module.revision.taken.pop(self._ticket, None)
            return
        if self._ticket in module.revision.taken:
            module.revision.taken[self._ticket] = None
        if known and self.capture is not None:
            module.keep_capture(self.capture)


def _gradient(module: Capturing) -> tuple[torch.Tensor, int] | None:
    """The gradient of the module's parameter, and how often it was written to."""
    gradient = module.trainable.grad
    return None if gradient is None else (gradient, gradient._version)


def _is_same(one: tuple[torch.Tensor, int], two: tuple[torch.Tensor, int]) -> bool:
    return one[0] is two[0] and one[1] == two[1]


_tickets = itertools.count(1)  # of forwards, in their order


class Revision:
    """The weights of a module as they are until the next change; `became` says what made them so.

    Forwards of them have tickets from `since` on. `taken` has those whose gradient is captured: None if their
    backward has come to its end, else the pass that holds it for as long as that runs.
    """

    def __init__(self, became: str = "made") -> None:
        self.became, self.since = became, next(_tickets)
        self.taken: dict[int, weakref.ref[Pass] | None] = {}
        self.inner: weakref.WeakValueDictionary[int, Pass] = weakref.WeakValueDictionary()

    def __reduce__(self) -> tuple[type[Revision], tuple[str]]:
        """Of a copy no forward has been."""
        return Revision, (self.became,)

    def has(self, ticket: int) -> bool:
        """Whether the gradient of that forward is captured."""
        if ticket not in self.taken:
            return False
        known = self.taken[ticket]
        return known is None or known() is not None


class Capturing(Protocol):
    """What a module has whose gradient is captured here."""

    label: str
    shape: TernaryShape
    seed: int
    updates: int
    codes: torch.Tensor
    e: torch.Tensor
    trainable: nn.Parameter
    passes: list[weakref.ref[Pass]]
    revision: Revision

    @property
    def trains(self) -> bool: ...
    @property
    def owned(self) -> bool: ...
    @property
    def backend(self) -> Backend: ...
    def stream(self, purpose: int) -> int: ...
    def next_number(self, count: int) -> int: ...
    def keep_capture(self, capture: Any) -> None: ...
    def capture_of_rows(
        self, first: int, tokens: torch.Tensor, dy: torch.Tensor
    ) -> LinearCapture | EmbeddingCapture: ...


def begin(module: Capturing) -> int:
    """The ticket of a forward whose gradient may be captured. A forward inside of a backward is run again for
    torch.utils.checkpoint(use_reentrant=True): what its own backward captures is of the outer one."""
    ticket = next(_tickets)
    if torch._C._current_graph_task_id() >= 0:
        module.revision.inner[ticket] = Pass(module)  # held by the engine
    return ticket


def check_once(module: Capturing, ticket: int) -> None:
    """Refuse a backward whose gradient is captured already, or would be none of these weights."""
    again = "run the forward again"
    if module.revision.has(ticket):
        raise RuntimeError(
            f"second backward through the same forward of {module.label}: its gradient is already captured; "
            f"{again}"
        )
    if ticket < module.revision.since:
        raise RuntimeError(
            f"{module.label} was {module.revision.became} between this forward and its backward; {again}"
        )


def keep(module: Capturing, ticket: int, capture: LinearCapture | EmbeddingCapture) -> None:
    """Last of all: a backward that failed before has captured nothing, and may be repeated."""
    if not module.trains:
        return
    (module.revision.inner.get(ticket) or Pass(module)).take(capture, ticket)


def _own(dy: torch.Tensor) -> torch.Tensor:
    """The output gradient in contiguous memory that nobody else has."""
    return dy.clone(memory_format=torch.contiguous_format)  # of a backward without gradients: no graph


def linear_forward(
    module: Capturing, x: torch.Tensor, kept: bool
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """x float32 [T, I] -> y float32 [T, O], and for a backward if one is `kept`: q_t int8 [I, T], e_x int8
    [T] (ARB-LIN-001)."""
    if kept:
        q_x, q_t, e_x = module.backend.quantise_nearest_both(x)
    else:
        q_t, (q_x, e_x) = None, module.backend.quantise_nearest(x)
    shape = module.shape
    weight = (module.codes, module.e, shape.e_base, shape.e_span, shape.group_size)
    y = by_rows(lambda *rows: module.backend.linear_forward(*rows, *weight), q_x, e_x)
    return y, q_t, e_x


def linear_backward(
    module: Capturing, ticket: int, dy: torch.Tensor, q_t: torch.Tensor, e_x: torch.Tensor, needed: bool
) -> torch.Tensor | None:
    """dy float32 [T, O] -> dx float32 [T, I] if it is `needed` (ARB-LIN-002); leaves a LinearCapture with the
    module."""
    check_once(module, ticket)
    dy = _own(dy)
    first = module.next_number(len(dy))
    dx = None
    if needed:
        q_d, e_d = module.backend.quantise_stochastic(
            dy, module.seed, module.updates, module.stream(INPUT_GRADIENT), first
        )
        shape = module.shape
        dx = module.backend.input_gradient(
            q_d, e_d, module.codes, module.e, shape.e_base, shape.e_span, shape.group_size, shape.columns
        )
    keep(module, ticket, LinearCapture(first, q_t, e_x, dy))
    return dx


def embedding_forward(module: Capturing, tokens: torch.Tensor) -> torch.Tensor:
    """tokens int64 [T] -> y float32 [T, D] (ARB-EMB-001)."""
    shape = module.shape
    table = (module.codes, module.e, shape.group_size, shape.columns)
    return by_rows(lambda rows: module.backend.embedding_forward(rows, *table), tokens)


def embedding_backward(module: Capturing, ticket: int, dy: torch.Tensor, tokens: torch.Tensor) -> None:
    """dy float32 [T, D] of tokens int64 [T]; leaves an EmbeddingCapture with a table, and with a linear layer
    that rows were taken of a LinearCapture (ARB-EMB-006)."""
    check_once(module, ticket)
    keep(module, ticket, module.capture_of_rows(module.next_number(len(tokens)), tokens, _own(dy)))


def _arrived(ctx: Any, dy: torch.Tensor) -> torch.Tensor | None:
    """The gradient of the module's parameter, which has nothing but that it came."""
    return dy.new_empty(0) if ctx.needs_input_grad[1] and ctx.module.owned else None


class LinearFunction(torch.autograd.Function):
    """y = x W^T with quantised x and packed W; backward gives dx and captures the rest (ARB-LIN-001,
    -002)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, _trainable: torch.Tensor, module: Capturing) -> torch.Tensor:
        """x float32 [T, I] -> y float32 [T, O]."""
        kept = any(ctx.needs_input_grad)
        y, q_t, e_x = linear_forward(module, x, kept)
        if kept:
            ctx.save_for_backward(q_t, e_x)
            ctx.module, ctx.ticket = module, begin(module)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """dy float32 [T, O] -> dx float32 [T, I]; leaves a LinearCapture with the module."""
        q_t, e_x = ctx.saved_tensors
        dx = linear_backward(ctx.module, ctx.ticket, dy, q_t, e_x, ctx.needs_input_grad[0])
        return dx, _arrived(ctx, dy), None


class ShownWeight(torch.autograd.Function):
    """A weight as a tensor to look at. A gradient would end here in silence, so none may come."""

    @staticmethod
    def forward(ctx: Any, _trainable: torch.Tensor, weight: list[torch.Tensor], label: str) -> torch.Tensor:
        """float32 [rows, columns], in a list of which this is the only owner."""
        ctx.label = label
        return weight.pop()

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> NoReturn:
        """Raises RuntimeError."""
        raise RuntimeError(
            f"backward through the weight of {ctx.label}, which would not learn from it: call the layer, tie "
            "a head as a module (head.weight = table.weight before arbitor.ternarize), or detach the weight"
        )


class EmbeddingFunction(torch.autograd.Function):
    """Rows of the table by token; backward captures the gradient of the rows (ARB-EMB-001, -002)."""

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, _trainable: torch.Tensor, module: Capturing) -> torch.Tensor:
        """tokens int64 [T] -> y float32 [T, D]."""
        y = embedding_forward(module, tokens)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(tokens.clone())
            ctx.module, ctx.ticket = module, begin(module)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[None, torch.Tensor | None, None]:
        """dy float32 [T, D]; leaves an EmbeddingCapture with the module."""
        embedding_backward(ctx.module, ctx.ticket, dy, *ctx.saved_tensors)
        return None, _arrived(ctx, dy), None
