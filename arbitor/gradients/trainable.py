"""A module that learns from what its backward captures: a parameter without elements, calls, captures.

Whether it learns is whether its one parameter, `trainable`, requires grad; whether a capture counts is
whether a gradient came there and is there still (ARB-RUN-006, ARB-RUN-014). So `requires_grad_` of a module
around it, loops over parameters, and `zero_grad` of whatever has them do to it what they say. It is in no
state.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Literal, Self

import torch
from torch import nn

from arbitor.kernels.registry import Backend

from ..ranks import Ranks
from ..state import TernaryShape
from . import sums
from .capture import EmbeddingCapture, EmbeddingFunction, LinearCapture, LinearFunction, Pass, Revision
from .compiled import exporting, new_call, number_of


class ComputedWeight(nn.Module):
    """A module whose `weight` is computed from integers, by whatever name torch's users know it."""

    label: str = ""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise AttributeError(
                f"{self.label or type(self).__name__}.weight is computed from integers, and cannot be set: "
                "load a state, or put another layer in the place of this one"
            )
        super().__setattr__(name, value)


class Trainable(ComputedWeight):
    """What a ternary module has for its gradient; the matrix itself is that of who inherits from it."""

    trainable: nn.Parameter
    shape: TernaryShape
    seed: int
    updates: int
    codes: torch.Tensor
    e: torch.Tensor
    moment: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.label, self.number = type(self).__name__, number_of(self)
        self._captures: list[Any] = []
        self.passes: list[weakref.ref[Pass]] = []  # of backwards that have not come to their end
        self.revision = Revision()
        self.ranks: Ranks | None = None
        self.rank_octaves = 0  # of means over the tokens of each rank (ARB-RANK-006)
        self.agreed = False  # whether all ranks are known to have the same state

    @property
    def backend(self) -> Backend:
        """The backend of its calls."""
        raise NotImplementedError

    def stream(self, purpose: int) -> int:
        """Stream of its random bits (ARB-RNG-002)."""
        raise NotImplementedError

    def place_trainable(self, device: torch.device) -> None:
        """Have the parameter on `device`: the same object if there is one, since optimisers hold it, but
        where torch makes another one too."""
        old = self._parameters.get("trainable")
        if old is not None and old.device == device:
            return
        with torch.inference_mode(False):  # a leaf of graphs to come
            leaf = torch.empty(0, dtype=torch.float32, device=device)
        if old is not None and "meta" not in (old.device.type, device.type):
            old.data = leaf
        else:
            self.trainable = _marked(nn.Parameter(leaf, old is None or old.requires_grad))

    @property
    def trains(self) -> bool:
        """Whether it is not frozen: no graph is built for one that is, and an update passes it by."""
        return self.trainable.requires_grad

    @property
    def owned(self) -> bool:
        """Whether `trainable` is the module's own, and says by its gradient whether captures count."""
        return hasattr(self.trainable, "is_arbitors")

    def rows_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens int64 [...] -> float32 [..., columns]: rows by token, whose gradient is captured. Raises
        ValueError for a token outside of them."""
        flat = tokens.reshape(-1)
        if not len(flat):
            return torch.zeros(*tokens.shape, self.shape.columns, device=tokens.device)
        return self.call("embedding", flat).view(*tokens.shape, -1)

    def call(self, kind: Literal["linear", "embedding"], flat: torch.Tensor) -> torch.Tensor:
        """The output of tokens in one row or matrix. Raises RuntimeError under transformations of torch that
        would lose what their backward captures."""
        if "trainable" not in self._parameters:  # a part of a flat parameter, during a forward
            raise RuntimeError(
                f"{self.label} is inside of FullyShardedDataParallel, which hides its parameter: use "
                "torch.distributed.fsdp.fully_shard, or DistributedDataParallel"
            )
        if exporting():
            raise RuntimeError(f"{self.label} cannot be exported: torch.export takes no ternary weights")
        leaf: torch.Tensor = self.trainable
        if not torch.is_grad_enabled():  # or an autograd function is still told of graphs
            leaf, flat = leaf.detach(), flat.detach()
        if torch.compiler.is_compiling():
            kept = torch.is_grad_enabled() and (leaf.requires_grad or flat.requires_grad)
            features = self.shape.rows if kind == "linear" else self.shape.columns
            operator = getattr(torch.ops.arbitor, kind)
            compiled: torch.Tensor = operator(
                flat, leaf, self.number, features, kept, self.owned, new_call()
            )[0]
            return compiled
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise RuntimeError(
                f"{self.label} cannot be called under torch.func: its gradient is captured, and comes by "
                "backward() or torch.autograd.grad"
            )
        function: Any = LinearFunction if kind == "linear" else EmbeddingFunction
        y: torch.Tensor = function.apply(flat, leaf, self)
        return y

    def next_number(self, count: int) -> int:
        """Number of the first of the tokens that are captured next, `count` on this rank (ARB-RNG-006); all
        ranks' tokens of a call are numbered in rank order (ARB-RANK-002). Raises ValueError for more than an
        update may have (ARB-LIN-008)."""
        rank, size = (self.ranks.rank, self.ranks.size) if self.ranks else (0, 1)
        passes = [passed for passed in (known() for known in self.passes) if passed is not None]
        captures = [*self.captures, *(passed.capture for passed in passes if passed.capture is not None)]
        before = sum(len(capture.dy) for capture in captures)
        sums.check_tokens(self.label, size * (before + count))
        return size * before + rank * count

    @property
    def captures(self) -> list[Any]:
        """What backward left, in its order: of a gradient that is still there (ARB-RUN-006)."""
        if self._captures and self.trainable.grad is None and self.owned:
            self._captures.clear()  # zero_grad, of whatever has the parameter
        return self._captures

    def keep_capture(self, capture: Any) -> None:
        """Another one, at its place: of passes that end together, the one that began first ends first."""
        self._captures.append(capture)
        self._captures.sort(key=lambda kept: kept.first_row)

    def clear_captures(self) -> None:
        """Forget what backward left, and start numbering tokens again (ARB-RUN-006)."""
        self._captures.clear()
        self.passes.clear()
        self.trainable.grad = None

    def _revised(self, became: str) -> None:
        """The weights are others now, or elsewhere: what was captured for them goes, and a forward from
        before has no backward any more (ARB-RUN-004)."""
        self.clear_captures()
        self.revision = Revision(became)
        self.agreed = self.agreed and became == "updated"

    def capture_of_rows(
        self, first: int, tokens: torch.Tensor, dy: torch.Tensor
    ) -> LinearCapture | EmbeddingCapture:
        """The gradient dy float32 [T, D] of rows by token."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Of buffers alone: who knows where they are places the parameter (`place_trainable`)."""
        trainable = self._parameters.pop("trainable")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._parameters["trainable"] = trainable
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[prefix + "trainable"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        missing = rest[2]
        if prefix + "trainable" in missing:
            missing.remove(prefix + "trainable")

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: a backward that runs is of this module alone."""
        return {**self.__dict__, "passes": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = number_of(self)
        _marked(self.trainable)  # attributes of a parameter are not copied


def _marked(trainable: nn.Parameter) -> nn.Parameter:
    """It as ours: `fully_shard` puts others in its place, which cannot have a gradient of no elements."""
    trainable.is_arbitors = True  # type: ignore[attr-defined]
    return trainable
