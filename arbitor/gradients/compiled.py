"""The ternary layers as torch.compile sees them: operators of their own, with an effect that is ordered.

A graph holds no Python object, so an operator is given a module by its number, and a forward is known to its
backward by a ticket in a tensor. A forward has no effect and may be run again, as torch.utils.checkpoint
does; a backward captures, so it is run once, in its order, also if nobody needs its gradient. Extents that
follow from no other argument are arguments, because graphs are kept between processes. Without torch.compile
the functions of `capture.py` are called directly.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import torch
from torch._library.effects import EffectType  # CustomOpDef.register_effect takes it

from .capture import (
    Capturing,
    begin,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_forward,
)

_numbers = itertools.count()
_modules: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def number_of(module: Any) -> int:
    """A number of this process that is the module's alone, for as long as it lives."""
    number = next(_numbers)
    _modules[number] = module
    return number


def new_call() -> int:
    """A number that no other call in a graph has, so that two calls of equal arguments stay two."""
    return next(_numbers)


def exporting() -> bool:
    """Whether a graph is made for torch.export; what a trace of torch 2.11 makes of torch's own question is
    always yes."""
    return torch.compiler.is_exporting()


# Asked while a graph is made. As torch.compiler.assume_constant_result does, which imports torch._dynamo and
# triton: too early for the interpreter, which is asked for by name.
for _asked in (new_call, exporting):
    _asked._dynamo_marked_constant = True  # type: ignore[attr-defined]


_NO_GRADIENTS = (None,) * 5  # of an operator's arguments behind `trainable`, which are integers


def _ticket(module: Capturing) -> torch.Tensor:
    return torch.tensor(begin(module), dtype=torch.int64, device="cpu")


@torch.library.custom_op("arbitor::linear", mutates_args=())
def linear(
    x: torch.Tensor, trainable: torch.Tensor, module: int, features: int, kept: bool, owned: bool, call: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [T, I] -> y float32 [T, O]; q_t int8 [I, T], e_x int8 [T] and the ticket for a backward, if
    one is `kept`; `trainable` gets a gradient if it is `owned`."""
    y, q_t, e_x = linear_forward(_modules[module], x, kept)
    q_t = x.new_empty(0, dtype=torch.int8) if q_t is None else q_t.contiguous()
    return y, q_t, e_x, _ticket(_modules[module]) if kept else _no_ticket()


@linear.register_fake
def _(
    x: torch.Tensor, _trainable: torch.Tensor, _module: int, features: int, kept: bool, *_: Any
) -> tuple[torch.Tensor, ...]:
    tokens, columns = x.shape
    q_t = x.new_empty((columns, tokens) if kept else 0, dtype=torch.int8)
    return x.new_empty(tokens, features), q_t, x.new_empty(tokens, dtype=torch.int8), _no_ticket()


@torch.library.custom_op("arbitor::linear_backward", mutates_args=())
def linear_gradient(
    dy: torch.Tensor,
    q_t: torch.Tensor,
    e_x: torch.Tensor,
    ticket: torch.Tensor,
    module: int,
    needed: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy float32 [T, O] -> dx float32 [T, I], of no elements if it is not `needed`, and the gradient of
    `trainable`."""
    dx = linear_backward(_modules[module], int(ticket), dy, q_t, e_x, needed)
    return dy.new_empty(0) if dx is None else dx, dy.new_empty(0)


@linear_gradient.register_fake
def _(dy: torch.Tensor, q_t: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    *_, needed = rest
    return dy.new_empty((dy.shape[0], q_t.shape[0]) if needed else 0), dy.new_empty(0)


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.module, ctx.owned = inputs[2], inputs[5]
    ctx.save_for_backward(*output[1:])
    ctx.set_materialize_grads(False)


def _linear_gradients(ctx: Any, dy: torch.Tensor | None, *_: None) -> tuple[torch.Tensor | None, ...]:
    if dy is None:
        return None, None, *_NO_GRADIENTS
    needed = ctx.needs_input_grad[0]
    dx, leaf = torch.ops.arbitor.linear_backward(dy, *ctx.saved_tensors, ctx.module, needed)
    return dx if needed else None, leaf if ctx.owned else None, *_NO_GRADIENTS


@torch.library.custom_op("arbitor::embedding", mutates_args=())
def embedding(
    tokens: torch.Tensor,
    trainable: torch.Tensor,
    module: int,
    features: int,
    kept: bool,
    owned: bool,
    call: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """tokens int64 [T] -> y float32 [T, D], and the ticket for a backward, if one is `kept`."""
    y = embedding_forward(_modules[module], tokens)
    return y, _ticket(_modules[module]) if kept else _no_ticket()


@embedding.register_fake
def _(
    tokens: torch.Tensor, _trainable: torch.Tensor, _module: int, features: int, *_: Any
) -> tuple[torch.Tensor, ...]:
    return tokens.new_empty(tokens.shape[0], features, dtype=torch.float32), _no_ticket()


@torch.library.custom_op("arbitor::embedding_backward", mutates_args=())
def embedding_gradient(
    dy: torch.Tensor, tokens: torch.Tensor, ticket: torch.Tensor, module: int
) -> torch.Tensor:
    """dy float32 [T, D] -> the gradient of `trainable`."""
    embedding_backward(_modules[module], int(ticket), dy, tokens.clone())
    return dy.new_empty(0)


@embedding_gradient.register_fake
def _(dy: torch.Tensor, *_: Any) -> torch.Tensor:
    return dy.new_empty(0)


def _keep_embedding(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.module, ctx.owned = inputs[2], inputs[5]
    ctx.save_for_backward(inputs[0], output[1])
    ctx.set_materialize_grads(False)


def _embedding_gradients(ctx: Any, dy: torch.Tensor | None, _: None) -> tuple[torch.Tensor | None, ...]:
    if dy is None:
        return None, None, *_NO_GRADIENTS
    leaf = torch.ops.arbitor.embedding_backward(dy, *ctx.saved_tensors, ctx.module)
    return None, leaf if ctx.owned else None, *_NO_GRADIENTS


def _no_ticket() -> torch.Tensor:
    return torch.empty((), dtype=torch.int64, device="cpu")


linear.register_autograd(_linear_gradients, setup_context=_keep_linear)
embedding.register_autograd(_embedding_gradients, setup_context=_keep_embedding)
for _operator in (linear_gradient, embedding_gradient):
    _operator.register_effect(EffectType.ORDERED)
