"""ARBModel: a transformer over bytes, images and sound whose every weight is a trit.

Pre-norm blocks of causal attention and a relu-squared MLP, a norm without parameters before every projection,
rotary positions, a KV cache and a sliding window as runtime state. No trainable float parameter, no float in
the state (ARB-MODEL-001); `_ternary_update_memory` is its optimiser step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from arbitor.kernels.heads import MOST_DIM

from .attention import CausalAttention
from .between.uncompiled import uncompiled
from .modalities import CLASS_TOKEN, MU, NO_LABEL, ImageShape, frames, label_tokens
from .moe import ExpertUse, MixtureOfExperts, mean_of, mlp, mlp_parts
from .parts import Parts, TernaryParts
from .runtime import reset_runtime_state
from .update import Components, UpdateReport, ternary_modules, update_memory

VOCABULARY = 288  # 256 bytes and 32 specials
CODES_RATE = 8.0  # of 4,096 rows that are rarely right: their gradients are sparse
CLEAN_OCTAVES = -2  # pixels are smaller than what a head of random trits gives at first


@dataclass(frozen=True)
class ARBConfig:
    """Shape of a model. `window`: positions that attention sees, None for all; `seed`: of all its random
    bits; `experts`: 0 for a plain MLP; `frame`: samples of a frame of sound; `times`: steps of a diffusion.
    """

    d_model: int = 128
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    window: int | None = None
    group_size: int = 128
    e_span: int = 4
    seed: int = 0
    experts: int = 0
    top_k: int = 2
    max_moe_iters: int = 1
    image: ImageShape = field(default_factory=ImageShape)
    frame: int = 16
    times: int = 64

    def __post_init__(self) -> None:
        if self.d_model % (2 * self.heads):
            raise ValueError(
                f"d_model must be a multiple of 2 * heads (rotary pairs), "
                f"got {self.d_model} and {self.heads} heads"
            )
        if self.d_model // self.heads > MOST_DIM:
            raise ValueError(
                f"a head has at most {MOST_DIM} numbers (ARB-ATT-001), got d_model {self.d_model} of "
                f"{self.heads} heads: give {-(-self.d_model // MOST_DIM)} heads or more"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        for name in ("max_moe_iters", "frame", "times"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.experts < 0 or (self.experts and not 1 <= self.top_k <= self.experts):
            raise ValueError(f"top_k must be in 1..experts, got {self.top_k} of {self.experts} experts")


class Block(nn.Module):
    """Attention and an MLP, or experts, each behind a norm and added to the residual stream."""

    def __init__(self, config: ARBConfig, parts: Parts) -> None:
        super().__init__()
        hidden = config.mlp_ratio * config.d_model
        self.work = parts.work
        self.attention = CausalAttention(config.d_model, config.heads, config.window, parts)
        if config.experts:
            shape = (config.experts, config.top_k, config.max_moe_iters)
            self.moe: MixtureOfExperts | None = MixtureOfExperts(config.d_model, hidden, *shape, parts)
        else:
            self.moe = None
            self.up, self.down = mlp_parts(config.d_model, hidden, parts)

    def forward(self, x: torch.Tensor, start: int, stateful: bool, causal: bool = True) -> torch.Tensor:
        """x float32 [B, T, d] of the positions from `start` on -> [B, T, d]."""
        x = x + self.attention(self.work.norm(x), start, stateful, causal)
        if self.moe is None:
            return x + mlp(self.work.norm(x), self.up, self.down, self.work)
        y: torch.Tensor = self.moe(x)
        return y


class ARBModel(nn.Module):
    """Ternary transformer: `forward` takes tokens int64 [B, T] to logits float32 [B, T, 288].

    `parts` makes the projections and tables, and has the `work` between them (between/work.py); the default
    makes ternary ones and sums integers, the trainers' twins pass their own. `vision`, `audio` and `denoise`
    are there if their flag was given (ARB-MODEL-004).
    """

    FLAGS = ("enable_vision", "enable_audio", "enable_diffusion")

    def __init__(
        self,
        config: ARBConfig | None = None,
        *,
        backend: str | None = None,
        parts: Parts | None = None,
        **flags: bool,
    ) -> None:
        super().__init__()
        self._check_flags(flags)
        self.config = config = config or ARBConfig()
        parts = parts or TernaryParts(config.seed, config.group_size, config.e_span, backend)
        d, image = config.d_model, config.image
        self.work = parts.work
        self.embedding = parts.embedding(VOCABULARY, d)
        self.blocks = nn.ModuleList(Block(config, parts) for _ in range(config.layers))
        self.head = parts.linear(d, VOCABULARY)
        if flags.get("enable_vision"):
            self.patches_in, self.class_head = parts.linear(image.width, d), parts.linear(d, image.classes)
            self.next_patch = parts.linear(d, image.width)
        if flags.get("enable_audio"):
            self.frames_in, self.codes_head = (
                parts.linear(config.frame, d),
                parts.linear(d, config.frame * (MU + 1), rate=CODES_RATE),
            )
        if flags.get("enable_diffusion"):
            self.noised_in, self.clean_head = (
                parts.linear(image.width, d),
                parts.linear(d, image.width, octaves=CLEAN_OCTAVES),
            )
            self.time_table = parts.embedding(config.times, d)
        self._position = 0
        ternary_modules(self)  # names the modules for messages

    def _check_flags(self, flags: Mapping[str, bool]) -> None:
        for name in flags:
            if name not in self.FLAGS:
                meant = "; images are enable_vision" if name == "enable_image" else ""
                raise TypeError(f"ARBModel has no flag {name!r}{meant}; it has {', '.join(self.FLAGS)}")

    def _require(self, part: str, flag: str) -> None:
        if not hasattr(self, part):
            raise ValueError(f"this model was made without {flag}=True")

    @uncompiled
    def forward(self, tokens: torch.Tensor, *, stateful: bool = False) -> torch.Tensor:
        """tokens int64 [B, T] -> logits float32 [B, T, 288].

        `stateful` continues after the tokens of earlier stateful calls (KV cache, window) until
        `reset_runtime_state`. Gradients stay inside one call. One that fails leaves caches and position.
        """
        if not stateful:
            return self._logits(tokens)
        attentions = [module for module in self.modules() if isinstance(module, CausalAttention)]
        position, caches = self._position, [attention._cache for attention in attentions]
        try:
            return self._logits(tokens, stateful=True)
        except BaseException:  # some layers have extended their caches
            self._position = position
            for attention, cache in zip(attentions, caches, strict=True):
                attention._cache = cache
            raise

    def _logits(self, tokens: torch.Tensor, stateful: bool = False) -> torch.Tensor:
        hidden = self._trunk(self._rows(tokens), stateful)
        logits: torch.Tensor = self.head(hidden)
        return logits

    @uncompiled
    def vision(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """images float32 [B, C, S, S] -> class logits [B, classes], next patches [B, count - 1, width]."""
        self._require("patches_in", "enable_vision")
        patches = self.patches_in(self.config.image.patches(images))
        query = self._rows(torch.full((len(patches), 1), CLASS_TOKEN, device=patches.device))
        hidden = self._trunk(torch.cat([patches, query], dim=1))
        classes: torch.Tensor = self.class_head(hidden[:, -1])
        patches_after: torch.Tensor = self.next_patch(hidden[:, :-2])
        return classes, patches_after

    @uncompiled
    def audio(self, waveform: torch.Tensor) -> torch.Tensor:
        """waveform float32 [B, S] in -1..1 -> logits [B, F, frame, 256] of the codes of the next frame."""
        self._require("frames_in", "enable_audio")
        hidden = self._trunk(self.frames_in(frames(waveform, self.config.frame)))
        logits: torch.Tensor = self.codes_head(hidden).unflatten(-1, (self.config.frame, MU + 1))
        return logits

    @uncompiled
    def denoise(
        self, noised: torch.Tensor, times: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """noised float32 [B, C, S, S], times and labels int64 [B] (NO_LABEL for none) -> clean images."""
        self._require("noised_in", "enable_diffusion")
        shape = self.config.image
        patches = self.noised_in(shape.patches(noised))
        tokens = label_tokens(torch.full_like(times, NO_LABEL) if labels is None else labels, shape.classes)
        ahead = torch.stack([self.work.norm(self.time_table(times)), self._rows(tokens)], dim=1)
        hidden = self._trunk(torch.cat([ahead, patches], dim=1), causal=False)
        return shape.images(self.clean_head(hidden[:, 2:]))

    def _rows(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.work.norm(self.embedding(tokens))

    def _trunk(self, x: torch.Tensor, stateful: bool = False, causal: bool = True) -> torch.Tensor:
        """x float32 [B, T, d] through all blocks, normalised for a head."""
        start = self._position if stateful else 0
        for block in self.blocks:
            x = block(x, start, stateful, causal)
        if stateful:
            self._position += x.shape[1]
        return self.work.norm(x)

    def auxiliary_loss(self) -> torch.Tensor | None:
        """Mean balance loss of the experts since it was last taken, or None without any (ARB-MOE-004)."""
        taken = [module.take_balance() for module in self._experts()]
        found = [loss for loss in taken if loss is not None]
        return mean_of(found)

    def take_expert_use(self) -> list[ExpertUse]:
        """What the experts of each block did since it was last taken, empty without any; forgets it."""
        taken = [module.take_use() for module in self._experts()]
        return [use for use in taken if use is not None]

    def _experts(self) -> list[MixtureOfExperts]:
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]

    def reset_runtime_state(self) -> None:
        """Forget the tokens of earlier stateful calls (ARB-RUN-010)."""
        self._position = 0
        reset_runtime_state(self.blocks)

    def _ternary_update_memory(
        self,
        loss_components: Components | None = None,
        loss_signal: torch.Tensor | float | None = None,
        *,
        gain: int | None = None,
        scale_gain: int | None = None,
    ) -> UpdateReport:
        """The optimiser step: see `update_memory`."""
        return update_memory(self, loss_components, loss_signal, gain=gain, scale_gain=scale_gain)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As in torch, but everything is checked before anything is changed (ARB-STATE-006)."""
        own, given = set(self.state_dict()), set(state_dict)
        if strict and own != given:
            raise ValueError(
                f"state_dict lacks {sorted(own - given)[:3]} and has unknown {sorted(given - own)[:3]}"
            )
        for name, module in ternary_modules(self).items():
            module.check_incoming(dict(state_dict), f"{name}.")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)
