"""ARBModel: a byte-level transformer whose every weight is a trit. Text path.

Pre-norm blocks of causal attention and a relu-squared MLP, a norm without parameters before every projection,
rotary positions, a KV cache and a sliding window as runtime state. No trainable float parameter, no float in
the state (ARB-MODEL-001); `_ternary_update_memory` is its optimiser step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .attention import CausalAttention, rotary_angles
from .components import rms_norm
from .parts import Parts, TernaryParts
from .runtime import reset_runtime_state
from .update import Components, UpdateReport, ternary_modules, update_memory

VOCABULARY = 288  # 256 bytes and 32 specials


@dataclass(frozen=True)
class ARBConfig:
    """Shape of a model. `window`: positions that attention sees, None for all; `seed`: of all its random
    bits."""

    d_model: int = 128
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 4
    window: int | None = None
    group_size: int = 128
    e_span: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.d_model % (2 * self.heads):
            raise ValueError(
                f"d_model must be a multiple of 2 * heads (rotary pairs), "
                f"got {self.d_model} and {self.heads} heads"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: ARBConfig, parts: Parts) -> None:
        super().__init__()
        hidden = config.mlp_ratio * config.d_model
        self.attention = CausalAttention(config.d_model, config.heads, config.window, parts)
        self.up = parts.linear(config.d_model, hidden)
        self.down = parts.linear(hidden, config.d_model)

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], stateful: bool
    ) -> torch.Tensor:
        """x float32 [B, T, d] -> [B, T, d]."""
        x = x + self.attention(rms_norm(x), angles, stateful)
        hidden = self.up(rms_norm(x)).relu().square()
        y: torch.Tensor = x + self.down(rms_norm(hidden))
        return y


class ARBModel(nn.Module):
    """Byte-level ternary transformer: tokens int64 [B, T] -> logits float32 [B, T, 288].

    `parts` makes the projections and tables; the default makes ternary ones, the trainers' twins pass their
    own.
    """

    def __init__(
        self, config: ARBConfig | None = None, *, backend: str | None = None, parts: Parts | None = None
    ) -> None:
        super().__init__()
        self.config = config = config or ARBConfig()
        parts = parts or TernaryParts(config.seed, config.group_size, config.e_span, backend)
        self.embedding = parts.embedding(VOCABULARY, config.d_model)
        self.blocks = nn.ModuleList(Block(config, parts) for _ in range(config.layers))
        self.head = parts.linear(config.d_model, VOCABULARY)
        self._position = 0
        ternary_modules(self)  # names the modules for messages

    def forward(self, tokens: torch.Tensor, *, stateful: bool = False) -> torch.Tensor:
        """tokens int64 [B, T] -> logits float32 [B, T, 288].

        `stateful` continues after the tokens of earlier stateful calls (KV cache, window) until
        `reset_runtime_state`. Gradients stay inside one call.
        """
        start = self._position if stateful else 0
        angles = self._angles(start, tokens.shape[1], tokens.device)
        x = rms_norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, angles, stateful)
        if stateful:
            self._position += tokens.shape[1]
        logits: torch.Tensor = self.head(rms_norm(x))
        return logits

    def _angles(self, start: int, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return rotary_angles(start, count, self.config.d_model // self.config.heads, device)

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
