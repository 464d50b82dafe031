"""The ternary modules: TernaryLinear and TernaryEmbeddingTable.

Their whole state is integers in buffers (ARB-STATE-001). Forward and backward go through a backend by name;
the update is driven from outside (`update.py`) in two steps, `prepare` and `apply`, so that a poisoned
gradient anywhere is seen before any module has changed (ARB-RUN-005).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from arbitor.kernels import registry

from .gradients import sums
from .gradients.capture import WEIGHT_GRADIENT, EmbeddingCapture, LinearCapture, ShownWeight
from .gradients.prepared import Prepared
from .gradients.trainable import Trainable
from .ranks import POISONED, quantise_on_ranks
from .schedule import MOST_RATE, Q8, UpdateRule, clipped, fixed_point, rated, settings_in
from .state import NUMBERS, TernaryShape, check_octaves, check_state, read_numbers


def initial_exponent(in_features: int) -> int:
    """-r, r the largest integer with 3 * 4^r <= 4 * I (ARB-INIT-002)."""
    r = 0
    while 3 * 4 ** (r + 1) <= 4 * in_features:
        r += 1
    return -r


class TernaryModule(Trainable):
    """State of one ternary matrix [rows, columns] and what its updates share.

    `tensor_id` numbers the random bits of the matrix; two of one model must not be alike. None draws one from
    torch's generator, as nn.Linear draws its weights: `torch.manual_seed` repeats it.

    `octaves` are added to the initial exponents (ARB-INIT-002), `rate` multiplies gains (ARB-SCHED-003).

    `trainable`, a parameter of no elements, says whether it learns (gradients/trainable.py).
    """

    codes: torch.Tensor
    t_accum: torch.Tensor
    e: torch.Tensor

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        seed: int = 0,
        tensor_id: int | None = None,
        group_size: int = 128,
        e_span: int = 4,
        octaves: int = 0,
        rate: float = 1.0,
        backend: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if tensor_id is None:
            tensor_id = int(torch.randint(NUMBERS["tensor_id"][1] + 1, (), dtype=torch.int64, device="cpu"))
        check_octaves(octaves)
        e = initial_exponent(columns) + octaves
        self.shape = TernaryShape(rows, columns, group_size, e - e_span // 2, e_span)
        self.seed, self.tensor_id, self.updates = seed, tensor_id, 0
        self.settings = UpdateRule(rate=fixed_point("rate", rate, Q8, MOST_RATE))
        self.frozen = False
        self._asked = registry.asked_for(backend)
        self._taken = ("", "")  # device type and backend
        codes = self.backend.initialise(rows, columns, seed, tensor_id)
        self.register_buffer("codes", codes.to(device or torch.get_default_device()))
        self._shape_of(self.get_extra_state())  # refuses what is out of range
        self.place_trainable(self.codes.device)
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

    def prepare(self) -> Prepared:
        """Quantise the captured gradients over all calls of the step; changes nothing."""
        raise NotImplementedError

    def apply_update(
        self,
        prepared: Prepared,
        gain: int | None,
        scale_gain: int | None,
        octaves: int = 0,
        squared_votes: tuple[int, int] = (0, 0),
    ) -> torch.Tensor:
        """Update the state in place -> counts int64 [5]. None takes the module's own setting; its rate is
        on top. `octaves`: of a factor of the loss that is not to be seen; `squared_votes`: A and B of
        ARB-CLIP-001."""
        s, shape = self.settings, self.shape
        how = (
            *(shape.e_base, shape.e_span, shape.group_size),
            *(
                s.rule,
                clipped(rated(s.gain if gain is None else gain, s.rate), *squared_votes),
                s.vote_max,
                s.accum_threshold,
            ),
            *(s.scale_gain if scale_gain is None else scale_gain, s.e_accum_threshold),
            *(self.seed, self.tensor_id, self.updates),
        )
        counts = self._update(prepared, octaves, *self.state().values(), *how)
        self.updates += 1
        self._revised("updated")
        return counts

    def _update(self, prepared: Prepared, octaves: int, *rest: Any) -> torch.Tensor:
        """The operation on what was prepared; `rest` are the state and `how`."""
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
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if any(prefix + name in state_dict for name in (*self._buffers, "_extra_state")):
            self._revised("loaded")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if metadata is not None:
            metadata["settings"] = vars(self.settings).copy()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> TernaryModule:
        """Devices may change, dtypes never do (ARB-STATE-007); captures belong to the old device and go, and
        stay where nothing moves."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        self.place_trainable(self.codes.device)
        if any(self._buffers[name] is not old for name, old in before.items()):
            self._revised("moved")
        return self

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
    moment: torch.Tensor

    def __init__(self, in_features: int, out_features: int, **options: Any) -> None:
        super().__init__(out_features, in_features, **options)
        self.in_features, self.out_features = in_features, out_features
        self._add_buffer("e_accum", (out_features, self.shape.groups), torch.int8)
        self._add_buffer("moment", (out_features, self.shape.groups), torch.int32)

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
        return self.call("linear", flat).view(*x.shape[:-1], -1)

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
        return Prepared((q_g, q_t.t()), e_g.to(torch.int8), (e_g == POISONED).any())

    def _update(self, prepared: Prepared, octaves: int, *rest: Any) -> torch.Tensor:
        q_g, q_x = prepared.operands
        counts: torch.Tensor
        shifted = sums.in_parts(len(q_g), self.ranks)
        e_g = prepared.lowered(octaves - sums.SHIFT * shifted)
        if self.ranks is None and not shifted:
            counts = self.backend.linear_update(q_g, e_g, q_x, *rest)
        else:
            gradient = sums.weight_gradient(self.backend, q_g, q_x, self.ranks)
            counts = self.backend.ternary_update(gradient, e_g, *rest)
        return counts


TABLE_RATE = 2.0  # of what has no other: a row learns in the few steps that have its token


class TernaryEmbeddingTable(TernaryModule):
    """Ternary rows by token. Input int64 [...], output float32 [..., D] (section 7)."""

    corr_accum: torch.Tensor
    moment: torch.Tensor
    step_counter: torch.Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int, **options: Any) -> None:
        super().__init__(num_embeddings, embedding_dim, **({"rate": TABLE_RATE} | options))
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        groups = (num_embeddings, self.shape.groups)
        self._add_buffer("corr_accum", groups, torch.int16)
        self._add_buffer("moment", groups, torch.int32)
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
        return Prepared((tokens, q.view_as(dy)), e, (e == POISONED).any())

    def _update(self, prepared: Prepared, octaves: int, *rest: Any) -> torch.Tensor:
        counts: torch.Tensor = self.backend.embedding_update(
            *prepared.operands, prepared.lowered(octaves), *rest
        )
        return counts


def _join(parts: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
