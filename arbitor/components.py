"""The ternary modules: TernaryLinear, TernaryEmbeddingTable, and the norm without parameters.

Their whole state is integers in buffers (ARB-STATE-001). Forward and backward go through a backend by name;
the update is driven from outside (`update.py`) in two steps, `prepare` and `apply`, so that a poisoned
gradient anywhere is seen before any module has changed (ARB-RUN-005).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from arbitor.kernels import registry

from .gradients import sums
from .gradients.capture import (
    WEIGHT_GRADIENT,
    EmbeddingCapture,
    EmbeddingFunction,
    LinearCapture,
    LinearFunction,
    Pass,
    Revision,
    ShownWeight,
)
from .gradients.compiled import new_call, number_of
from .ranks import POISONED, Ranks, quantise_on_ranks
from .schedule import UpdateRule
from .state import TernaryShape, check_state, read_numbers

IDS = 2**28  # of tensors: 16 streams each, numbered in 32 bits


@dataclass(frozen=True)
class Prepared:
    """What one update of one module needs, and whether its gradient is poisoned (bool tensor [])."""

    arguments: tuple[torch.Tensor, ...]
    poisoned: torch.Tensor


def initial_exponent(in_features: int) -> int:
    """-r, r the largest integer with 3 * 4^r <= 4 * I (ARB-INIT-002)."""
    r = 0
    while 3 * 4 ** (r + 1) <= 4 * in_features:
        r += 1
    return -r


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """x / RMS(x) along the last axis, in float32; no gain, no bias."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class TernaryModule(nn.Module):
    """State of one ternary matrix [rows, columns] and what its updates share.

    `tensor_id` numbers the random bits of the matrix; two of one model must not be alike. None draws one from
    torch's generator, as nn.Linear draws its weights: `torch.manual_seed` repeats it.

    `trainable` is a parameter of no elements, and in no state: where it requires no grad the module is
    frozen. So `requires_grad_` of a module around it, and loops over parameters, do to it what they say.
    """

    codes: torch.Tensor
    t_accum: torch.Tensor
    e: torch.Tensor
    trainable: nn.Parameter

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        seed: int = 0,
        tensor_id: int | None = None,
        group_size: int = 128,
        e_span: int = 4,
        backend: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if tensor_id is None:
            tensor_id = int(torch.randint(IDS, (), dtype=torch.int64, device="cpu"))
        e = initial_exponent(columns)
        self.shape = TernaryShape(rows, columns, group_size, e - e_span // 2, e_span)
        self.seed, self.tensor_id, self.updates = seed, tensor_id, 0
        self.settings = UpdateRule()
        self.frozen = False
        self.agreed = False  # whether all ranks are known to have the same state
        self.label, self.number = type(self).__name__, number_of(self)
        self._captures: list[Any] = []
        self.passes: list[weakref.ref[Pass]] = []  # of backwards that have not come to their end
        self.revision = Revision()
        self.ranks: Ranks | None = None
        self._asked = registry.asked_for(backend)
        self._taken = ("", "")  # device type and backend
        codes = self.backend.initialise(rows, columns, seed, tensor_id)
        self.register_buffer("codes", codes.to(device or torch.get_default_device()))
        self._shape_of(self.get_extra_state())  # refuses what is out of range
        with torch.inference_mode(False):  # a leaf of graphs to come
            leaf = torch.empty(0, dtype=torch.float32, device=self.codes.device)
            self.trainable = _marked(nn.Parameter(leaf))
        groups = (rows, self.shape.groups)
        self._add_buffer("t_accum", (rows, columns), torch.int8)
        self._add_buffer("e", groups, torch.int8, e)

    def _add_buffer(self, name: str, extents: tuple[int, ...], dtype: torch.dtype, value: int = 0) -> None:
        """A buffer beside the codes, where the default device is."""
        self.register_buffer(name, torch.full(extents, value, dtype=dtype, device=self.codes.device))

    @property
    def weight(self) -> torch.Tensor:
        """float32 [rows, columns], computed from codes and exponents: writing to it changes nothing, and a
        backward through it raises RuntimeError."""
        size, columns = self.shape.group_size, self.shape.columns
        scales = torch.exp2(self.e.float()).repeat_interleave(size, dim=1)[:, :columns]
        weight: torch.Tensor = self.backend.unpack(self.codes, columns).float() * scales
        shown: torch.Tensor = ShownWeight.apply(self.trainable, [weight], self.label)  # type: ignore[no-untyped-call]
        return shown

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise AttributeError(
                f"{self.label}.weight is computed from integers, and cannot be set: load a state, or put "
                "another layer in the place of this one"
            )
        super().__setattr__(name, value)

    @property
    def trains(self) -> bool:
        """Whether it is not frozen: no graph is built for one that is, and an update passes it by."""
        return self.trainable.requires_grad

    @property
    def owned(self) -> bool:
        """Whether `trainable` is the module's own, and says by its gradient whether captures count."""
        return hasattr(self.trainable, "is_arbitors")

    @property
    def backend(self) -> registry.Backend:
        """The backend of this module on the device that its state is on; kept by name, so the module can be
        copied and pickled."""
        device = self._buffers["codes"].device.type if "codes" in self._buffers else "cpu"  # type: ignore[union-attr]
        if self._taken[0] != device:
            where = "cpu" if device == "meta" else device  # made without elements: some will come
            self._taken = (device, registry.choose(self._asked, where).backend.name)
        return registry.select(self._taken[1])

    def stream(self, purpose: int) -> int:
        """Stream of the random bits of this tensor (ARB-RNG-002)."""
        return 16 * self.tensor_id + purpose

    def rows_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens int64 [...] -> float32 [..., columns]: rows by token, whose gradient is captured. Raises
        ValueError for a token outside of them."""
        flat = tokens.reshape(-1)
        if not len(flat):
            return torch.zeros(*tokens.shape, self.shape.columns, device=tokens.device)
        return self._call("embedding", flat).view(*tokens.shape, -1)

    def _call(self, kind: Literal["linear", "embedding"], flat: torch.Tensor) -> torch.Tensor:
        """The output of tokens in one row or matrix. Raises RuntimeError under transformations of torch that
        would lose what their backward captures."""
        if "trainable" not in self._parameters:  # a part of a flat parameter, during a forward
            raise RuntimeError(
                f"{self.label} is inside of FullyShardedDataParallel, which hides its parameter: use "
                "torch.distributed.fsdp.fully_shard, or DistributedDataParallel"
            )
        if torch.compiler.is_exporting():
            raise RuntimeError(f"{self.label} cannot be exported: torch.export takes no ternary weights")
        # a parameter starts the graph; none without gradients, and none if it is frozen
        leaf = self.trainable if torch.is_grad_enabled() else self.trainable.detach()
        if torch.compiler.is_compiling():
            kept = torch.is_grad_enabled() and (leaf.requires_grad or flat.requires_grad)
            features = self.shape.rows if kind == "linear" else self.shape.columns
            operator = getattr(torch.ops.arbitor, kind)
            compiled: torch.Tensor = operator(flat, leaf, self.number, features, kept, new_call())[0]
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
        sums.check_tokens(self.label, size * (count + sum(len(capture.dy) for capture in captures)))
        return size * sum(len(capture.dy) for capture in captures) + rank * count

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

    def prepare(self) -> Prepared:
        """Quantise the captured gradients over all calls of the step; changes nothing."""
        raise NotImplementedError

    def apply_update(self, prepared: Prepared, gain: int | None, scale_gain: int | None) -> torch.Tensor:
        """Update the state in place -> counts int64 [5]. None takes the module's own setting."""
        s, shape = self.settings, self.shape
        how = (
            *(shape.e_base, shape.e_span, shape.group_size),
            *(s.rule, s.gain if gain is None else gain, s.vote_max, s.accum_threshold),
            *(s.scale_gain if scale_gain is None else scale_gain, s.e_accum_threshold),
            *(self.seed, self.tensor_id, self.updates),
        )
        counts = self._operation()(*prepared.arguments, *self.state().values(), *how)
        self.updates += 1
        self._revised("updated")
        return counts

    def _operation(self) -> Callable[..., torch.Tensor]:
        raise NotImplementedError

    def state(self) -> dict[str, torch.Tensor]:
        """The state tensors by name, in the order of the update's arguments."""
        return dict(self._buffers)  # type: ignore[arg-type]

    def get_extra_state(self) -> torch.Tensor:
        """The integers of the tensor as int64: e_base, e_span, group_size, tensor_id, updates, seed low,
        seed high."""
        shape = self.shape
        numbers = (shape.e_base, shape.e_span, shape.group_size, self.tensor_id, self.updates)
        seed = (self.seed & 0xFFFFFFFF, self.seed >> 32)
        return torch.tensor((*numbers, *seed), dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take over what `get_extra_state` gave; extents stay this module's own."""
        self.shape = self._shape_of(state)
        _, _, _, self.tensor_id, self.updates, low, high = (int(value) for value in state)
        self.seed = high << 32 | low

    def _shape_of(self, numbers: torch.Tensor) -> TernaryShape:
        values = read_numbers(self.label, numbers)
        e_base, e_span, group_size = (values[name] for name in ("e_base", "e_span", "group_size"))
        return TernaryShape(self.shape.rows, self.shape.columns, group_size, e_base, e_span)

    def check_incoming(self, tensors: dict[str, torch.Tensor], prefix: str) -> None:
        """Refuse what `load_state_dict` is about to bring, before anything is changed (ARB-STATE-006)."""
        numbers = tensors.get(prefix + "_extra_state")
        shape = self.shape if numbers is None else self._shape_of(numbers)
        # what is not brought stays, and has to be legal beside the rest
        found = {name: tensors.get(prefix + name, own) for name, own in self.state().items()}
        check_state(prefix.rstrip(".") or self.label, found, shape)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As in torch, but names too are checked before anything is changed (ARB-STATE-006)."""
        own, given = {*self._buffers, "_extra_state"}, set(state_dict)
        if strict and own != given:  # `trainable` is in no state
            raise ValueError(f"state_dict lacks {sorted(own - given)} and has unknown {sorted(given - own)}")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.check_incoming(state_dict, prefix)
        settings = settings_in(rest[0], prefix)
        for name, own in self._buffers.items():
            if own is not None and own.is_inference():  # made in that mode: out of it nothing is copied there
                self._buffers[name] = own.clone()
        self.settings = settings or self.settings
        trainable, missing = prefix + "trainable", rest[2]
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if trainable in missing:
            missing.remove(trainable)
        if any(prefix + name in state_dict for name in (*self._buffers, "_extra_state")):
            self._revised("loaded")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        del destination[prefix + "trainable"]
        metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if metadata is not None:
            metadata["settings"] = vars(self.settings).copy()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> TernaryModule:
        """Devices may change, dtypes never do (ARB-STATE-007); captures belong to the old device and go, and
        stay where nothing moves."""
        before, trainable = dict(self._buffers), self._parameters.pop("trainable")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        assert trainable is not None
        self.trainable = _placed(trainable, self.codes.device)
        if any(self._buffers[name] is not old for name, old in before.items()):
            self._revised("moved")
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: a backward that runs is of this module alone."""
        return {**self.__dict__, "passes": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = number_of(self)
        _marked(self.trainable)  # attributes of a parameter are not copied

    def extra_repr(self) -> str:
        shape = self.shape
        return (
            f"{shape.rows} x {shape.columns}, group_size={shape.group_size}, tensor_id={self.tensor_id}, "
            f"backend={self.backend.name}"
        )


class TernaryLinear(TernaryModule):
    """y = x W^T with ternary W [O, I]: int8 activations, int32 sums, no bias.

    Input float [..., I], output float32 [..., O]. Any float dtype is taken as float32 first.
    """

    bias: None = None  # of those who ask, as of an nn.Linear

    e_accum: torch.Tensor

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(out_features, in_features, **options)
        self.in_features, self.out_features = in_features, out_features
        self._add_buffer("e_accum", (out_features, self.shape.groups), torch.int8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., I] -> y float32 [..., O]. Raises ValueError if the last axis is not I."""
        if x.dim() == 0 or x.shape[-1] != self.shape.columns:
            raise ValueError(
                f"{self.label}: last axis of x must be {self.shape.columns}, got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"{self.label}: x must be of a float dtype, got {x.dtype}")
        flat = x.reshape(-1, x.shape[-1]).float().contiguous()
        if not len(flat):  # no token, nothing to capture
            return flat.new_zeros(*x.shape[:-1], self.shape.rows) + flat.sum()
        return self._call("linear", _seen(flat)).view(*x.shape[:-1], -1)

    def capture_of_rows(self, first: int, tokens: torch.Tensor, dy: torch.Tensor) -> LinearCapture:
        """Of rows that a tied table took: as if each were an input whose output gradient is 1 at its token
        (ARB-EMB-006)."""
        _, q_t, e_x = self.backend.quantise_nearest_both(dy)
        ones = torch.zeros(len(tokens), self.shape.rows, dtype=torch.float32, device=dy.device)
        return LinearCapture(first, q_t, e_x, ones.scatter_(1, tokens[:, None], 1.0))

    def prepare(self) -> Prepared:
        """Quantise the output gradients column by column over all captures (ARB-LIN-005, ARB-RUN-003)."""
        captures: Sequence[LinearCapture] = self.captures
        q_t = _join([c.q_t for c in captures], 1)

        def quantise(dy: torch.Tensor, e_x: torch.Tensor, first: int) -> tuple[torch.Tensor, torch.Tensor]:
            stream = self.stream(WEIGHT_GRADIENT)
            found: tuple[torch.Tensor, torch.Tensor] = self.backend.quantise_columns(
                dy, e_x, self.seed, self.updates, stream, first
            )
            return found

        if self.ranks is not None:
            q_g, e_g = quantise_on_ranks(quantise, [(c.dy, c.e_x) for c in captures], self.ranks)
        else:
            q_g, e_g = quantise(_join([c.dy for c in captures]), _join([c.e_x for c in captures]), 0)
        return Prepared((q_g, q_t.t()), (e_g == POISONED).any())

    def _operation(self) -> Callable[..., torch.Tensor]:
        return self._update

    def _update(self, q_g: torch.Tensor, q_x: torch.Tensor, *rest: Any) -> torch.Tensor:
        counts: torch.Tensor
        if self.ranks is None and not sums.in_parts(len(q_g), None):
            counts = self.backend.linear_update(q_g, q_x, *rest)
        else:
            gradient = sums.weight_gradient(self.backend, q_g, q_x, self.ranks)
            counts = self.backend.ternary_update(gradient, *rest)
        return counts


class TernaryEmbeddingTable(TernaryModule):
    """Ternary rows by token. Input int64 [...], output float32 [..., D] (section 7)."""

    corr_accum: torch.Tensor
    step_counter: torch.Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, **options: Any) -> None:
        super().__init__(num_embeddings, embedding_dim, **options)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        groups = (num_embeddings, self.shape.groups)
        self._add_buffer("corr_accum", groups, torch.int16)
        self._add_buffer("step_counter", (num_embeddings,), torch.int32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens int64 [...] -> y float32 [..., D]. Raises ValueError for a token outside the table."""
        return self.rows_of(tokens)

    def capture_of_rows(self, first: int, tokens: torch.Tensor, dy: torch.Tensor) -> EmbeddingCapture:
        """What a backward of these tokens leaves."""
        return EmbeddingCapture(first, tokens, dy)

    def prepare(self) -> Prepared:
        """Quantise the row gradients of the whole step with one exponent (ARB-EMB-002)."""
        captures: Sequence[EmbeddingCapture] = self.captures
        everywhere = self.ranks.gather if self.ranks is not None else torch.Tensor.detach
        tokens, dy = (
            _join([everywhere(c.tokens) for c in captures]),
            _join([everywhere(c.dy) for c in captures]),
        )
        q, e = self.backend.quantise_stochastic(
            dy.view(1, -1), self.seed, self.updates, self.stream(WEIGHT_GRADIENT), 0
        )
        return Prepared((tokens, q.view_as(dy)), (e == POISONED).any())

    def _operation(self) -> Callable[..., torch.Tensor]:
        operation: Callable[..., torch.Tensor] = self.backend.embedding_update
        return operation


def settings_in(metadata: Mapping[str, Any], prefix: str) -> UpdateRule | None:
    """The settings that came with the state of a module, if some did (ARB-RUN-016). Raises ValueError or
    TypeError."""
    found = metadata.get("settings")
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != UpdateRule.__dataclass_fields__.keys():
        raise ValueError(f"settings of {prefix[:-1]} are {found!r}, expected {[*vars(UpdateRule())]}")
    return UpdateRule(**found)


def _marked(trainable: nn.Parameter) -> nn.Parameter:
    """It as ours: `fully_shard` puts others in its place, which cannot have a gradient of no elements."""
    trainable.is_arbitors = True  # type: ignore[attr-defined]
    return trainable


def _placed(trainable: nn.Parameter, device: torch.device) -> nn.Parameter:
    """It on `device`: the same object, which optimisers hold, but where torch makes another one too."""
    if trainable.device == device:
        return trainable
    moved = torch.empty(0, dtype=trainable.dtype, device=device)
    if "meta" in (trainable.device.type, device.type):
        return _marked(nn.Parameter(moved, trainable.requires_grad))
    trainable.data = moved
    return trainable


def _seen(x: torch.Tensor) -> torch.Tensor:
    """Without its graph under torch.no_grad(), where an autograd function would still be told of it."""
    return x if torch.is_grad_enabled() else x.detach()


def _join(parts: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
