"""One update of every ternary module from what backward captured (section 9)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch import nn

from .components import TernaryLinear, TernaryModule
from .gradients.clipping import squared_votes
from .schedule import check_setting
from .state import NUMBERS

if TYPE_CHECKING:
    from .ranks import Ranks

MOST_UPDATES = NUMBERS["updates"][1]  # of a tensor (ARB-STATE-005)
COUNTS = ("votes", "fires", "flips", "scale_votes", "exponents_moved")
Components = Mapping[str, torch.Tensor] | Iterable[torch.Tensor] | torch.Tensor


@dataclass(frozen=True)
class UpdateReport:
    """What an update did (ARB-RUN-007). Counts stay on the device until they are read."""

    counts_of: dict[str, torch.Tensor] = field(default_factory=dict)
    skipped: str | None = None
    shares: dict[str, float] = field(default_factory=dict)  # of its gain that a clipped layer had (ARB-CLIP)

    @property
    def modules_updated(self) -> int:
        """Number of modules that had captures and were updated."""
        return len(self.counts_of)

    def totals(self) -> dict[str, int]:
        """votes, fires, flips (trits changed), scale_votes, exponents_moved over all modules."""
        total = self.counts()
        return dict(zip(COUNTS, [0] * len(COUNTS) if total is None else total.tolist(), strict=True))

    def counts(self) -> torch.Tensor | None:
        """The same as int64 [5] on the device, which nobody waits for; None without an updated module."""
        return torch.stack(list(self.counts_of.values())).sum(0) if self.counts_of else None

    def __str__(self) -> str:
        if self.skipped is not None:
            return f"update skipped: {self.skipped}"
        return f"{self.modules_updated} modules updated; " + ", ".join(
            f"{k} {v}" for k, v in self.totals().items()
        )


def ternary_modules(model: nn.Module) -> dict[str, TernaryModule]:
    """The ternary modules of a model by name, in registration order; their labels become these names."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, TernaryModule)}
    for name, module in found.items():
        module.label = name or type(module).__name__
    return found


def update_memory(
    model: nn.Module,
    loss_components: Components | None = None,
    loss_signal: torch.Tensor | float | None = None,
    *,
    gain: int | None = None,
    scale_gain: int | None = None,
    signals: Mapping[str, torch.Tensor] | None = None,
    loss_scale: float = 1.0,
) -> UpdateReport:
    """Update every ternary module that has captures, or none of them.

    `loss_components`: scalar tensors by name, a list of them, or one. They are summed and sent backward once
    if no gradient has been captured yet; else only looked at. `loss_signal`: a detached scalar that must be
    finite for the update to happen, `signals` others, by name. `gain`, `scale_gain`: Q16 integers from the
    schedule; None takes each module's own. `loss_scale`: the power of two that the loss was multiplied by
    before backward, which moments are not to see (ARB-RUN-017). Raises RuntimeError when there is nothing to
    update from, TypeError for a signal that is no number, ValueError for another factor. Captures are cleared
    whatever happens (ARB-RUN-006).
    """
    octaves = _octaves(loss_scale)
    modules = ternary_modules(model)
    ranks = next((module.ranks for module in modules.values()), None)
    try:
        require_own_bits(modules)
        _require_joined(modules)
        named = _named(loss_components)
        looked = {name: value.detach() for name, value in named.items()} | dict(signals or {})
        if loss_signal is not None:
            looked["loss_signal"] = _signal("loss_signal", loss_signal)
        _require_alike(modules, len(looked), ranks)
        if not any(module.captures and module.trains for module in modules.values()):
            refusal, _ = _refusal(looked, {}, ranks)
            if refusal is not None:
                return UpdateReport(skipped=refusal)
            _backward_once(list(named.values()))
            looked = {}
            _require_alike(modules, 0, ranks)
        captured = {name: module for name, module in modules.items() if module.captures and module.trains}
        if not captured:
            raise RuntimeError(
                "backward reached no ternary module: was the forward run under torch.no_grad()?"
            )
        return _update_captured(captured, looked, (gain, scale_gain), octaves, ranks)
    finally:
        for module in modules.values():
            module.clear_captures()


def _octaves(loss_scale: float) -> int:
    """log2 of a power of two. Raises ValueError for another number, TypeError for what is none."""
    if isinstance(loss_scale, bool) or not isinstance(loss_scale, int | float):
        raise TypeError(f"loss_scale must be a number, got {type(loss_scale).__name__}")
    mantissa, exponent = math.frexp(loss_scale)
    if mantissa != 0.5:
        raise ValueError(f"loss_scale must be a power of two, which changes no bit, got {loss_scale}")
    return exponent - 1


def require_own_bits(modules: Mapping[str, TernaryModule]) -> None:
    """Refuse two tensors of one number, which would draw the same random bits. Raises ValueError."""
    first: dict[tuple[int, int], str] = {}
    for name, module in modules.items():
        other = first.setdefault((module.seed, module.tensor_id), name)
        if other != name:
            raise ValueError(
                f"{name} and {other} both have tensor_id {module.tensor_id} of seed {module.seed}, and would "
                "draw the same random bits: give each an id of its own, as arbitor.ternarize does (first_id= "
                "where it is called for two models)"
            )


def _require_joined(modules: Mapping[str, TernaryModule]) -> None:
    """Refuse several processes whose updates are not joined. Raises ValueError."""
    size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if size > 1 and any(module.ranks is None for module in modules.values()):
        raise ValueError(
            f"this is one of {size} processes, and each would update from its own tokens alone: call "
            "arbitor.join_ranks(model) on every one before training"
        )


def _signal(name: str, value: Any) -> torch.Tensor:
    """The signal as a detached tensor. Raises TypeError for what has no numbers."""
    if isinstance(value, int | float):
        return torch.tensor(value, dtype=torch.float64, device="cpu")  # 1e300 is finite
    if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.dtype == torch.int64):
        found = f"a tensor of {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a number or a tensor of a float dtype, got {found}")
    return value.detach()


def _named(components: Components | None) -> dict[str, torch.Tensor]:
    if components is None:
        return {}
    if isinstance(components, torch.Tensor):
        return {"loss": components}
    if isinstance(components, Mapping):
        return dict(components)
    return {f"loss_components[{index}]": value for index, value in enumerate(components)}


def _backward_once(components: list[torch.Tensor]) -> None:
    if not components:
        raise RuntimeError(
            "nothing to update from: no gradient came to a ternary module since the last update, or "
            "zero_grad has forgotten it; call loss.backward() before this, or pass loss_components"
        )
    total: Any = sum(component.sum() for component in components)
    if not total.requires_grad:
        raise RuntimeError("loss_components do not depend on any ternary module: they have no graph")
    total.backward()


def _require_alike(modules: Mapping[str, TernaryModule], signals: int, ranks: Ranks | None) -> None:
    """Every rank has the same calls of as many tokens (ARB-RANK-002). Else some would wait for the others for
    ever, or tokens would get each other's numbers."""
    if ranks is None:
        return
    calls = [[len(c.dy) for c in m.captures] for m in modules.values()]
    agreed = int(all(module.agreed for module in modules.values()))
    own_calls = (crc32(str(tokens).encode()) >> 1 for tokens in calls)
    differing = ranks.differing([agreed, signals, *own_calls])
    if not agreed or 0 in differing:
        _require_one_state(modules, ranks)
    differing = [place for place in differing if place]
    if differing and differing[0] == 1:
        raise ValueError(f"rank {ranks.rank} has {signals} losses to look at, others have more or fewer")
    if differing:
        label, own = [*modules][differing[0] - 2], calls[differing[0] - 2]
        what = f"calls of {own} tokens" if own else "no calls"
        raise ValueError(f"{label}: rank {ranks.rank} has {what}, others have other ones (ARB-RANK-002)")


def _require_one_state(modules: Mapping[str, TernaryModule], ranks: Ranks) -> None:
    """Every rank has the same weights, asked once after they were made, loaded or moved (ARB-RANK-005).
    Raises ValueError."""
    digests = []
    for module in modules.values():
        tensors = [module.get_extra_state(), *module.state().values()]
        parts = (tensor.detach().cpu().contiguous().numpy().tobytes() for tensor in tensors)
        digests.append(crc32(b"".join(parts)) >> 1)
    differing = ranks.differing(digests)
    if differing:
        label = [*modules][differing[0]]
        raise ValueError(
            f"{label} has another state on rank {ranks.rank} than on others: make the model with one seed, "
            "and load the same checkpoint, on every rank (ARB-RANK-005)"
        )
    for module in modules.values():
        module.agreed = True


def _refusal(
    signals: Mapping[str, torch.Tensor],
    poisoned: Mapping[str, torch.Tensor],
    ranks: Ranks | None,
    numbers: torch.Tensor | None = None,
) -> tuple[str | None, list[int]]:
    """Why nothing may be updated, or None, and the `numbers`, int64, of the device: one wait for all that is
    looked at. What one rank refuses, all do (ARB-RANK-004)."""
    flags = [torch.isfinite(value).all().logical_not() for value in signals.values()] + [*poisoned.values()]
    if not flags:
        return None, []
    device = flags[-1].device
    looked = torch.stack([flag.to(device) for flag in flags]).int()
    looked = (looked if ranks is None else ranks.largest(looked)).long()
    found = (looked if numbers is None else torch.cat([looked, numbers.to(device).flatten()])).tolist()
    for (name, value), bad in zip(signals.items(), found, strict=False):
        if bad:
            where = "" if ranks is None else f" on some rank; on rank {ranks.rank}"
            return f"{name} is not finite{where} ({value.flatten()[0].item()})", []
    for label, bad in zip(poisoned, found[len(signals) :], strict=False):
        if bad:
            return f"gradient of {label} is not finite", []
    return None, found[len(flags) :]


def _update_captured(
    captured: dict[str, TernaryModule],
    signals: Mapping[str, torch.Tensor],
    gains: tuple[int | None, int | None],
    octaves: int,
    ranks: Ranks | None,
) -> UpdateReport:
    for setting, value in zip(("gain", "scale_gain"), gains, strict=True):
        if value is not None:
            check_setting(setting, value)
    for module in captured.values():
        if module.updates == MOST_UPDATES and not module.frozen:
            raise ValueError(
                f"{module.label}: updates is {MOST_UPDATES}, the most there may be (ARB-STATE-005)"
            )
    prepared = {name: module.prepare() for name, module in captured.items()}
    poisoned = {captured[name].label: p.poisoned for name, p in prepared.items()}
    layers = {
        name: module
        for name, module in captured.items()
        if isinstance(module, TernaryLinear) and module.settings.rule == "adaptive" and not module.frozen
    }
    sums = squared_votes({m: prepared[name] for name, m in layers.items()}, octaves) if layers else None
    refusal, numbers = _refusal(signals, poisoned, ranks, sums)
    if refusal is not None:
        return UpdateReport(skipped=refusal)
    squared = dict(zip(layers, zip(numbers[::2], numbers[1::2], strict=True), strict=True))
    counts: dict[str, torch.Tensor] = {}
    for name, module in captured.items():
        if module.frozen:
            continue
        try:
            counts[name] = module.apply_update(
                prepared[name], *gains, octaves + module.rank_octaves, squared.get(name, (0, 0))
            )
        except BaseException as error:  # what can be refused was, so this is a lost device, or Ctrl-C
            if counts:
                error.add_note(
                    f"{', '.join(counts)} had been updated when {module.label} failed, the rest had not: "
                    "load a checkpoint before going on"
                )
            raise
    shares = {name: math.sqrt(usual / votes) for name, (votes, usual) in squared.items() if votes > usual}
    return UpdateReport(counts, shares=shares)
