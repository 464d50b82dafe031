"""A small GPT as people have one: float norms, float head, plain torch, and the loop around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import arbitor
from arbitor.checkpoint import state_hash

WIDTH, HEADS, VOCABULARY, CONTEXT = 16, 2, 32, 8


class Block(nn.Module):
    """Attention and an MLP behind norms, called `times` times, checkpointed as `mode` says."""

    def __init__(self, mode: bool | None = None, times: int = 1) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = (nn.Linear(WIDTH, 32, bias=False), nn.Linear(32, WIDTH, bias=False))
        self.mode, self.times = mode, times

    def _body(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        y: torch.Tensor = x + self.down(F.relu(self.up(self.norm2(x))).square())
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, T, d] -> [B, T, d]."""
        for _ in range(self.times):
            x = self._body(x) if self.mode is None else checkpoint(self._body, x, use_reentrant=self.mode)
        return x


class GPT(nn.Module):
    """tokens int64 [B, T] -> logits [B, T, V]."""

    def __init__(self, mode: bool | None = None, times: int = 1) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks: Any = nn.ModuleList(Block(mode, times) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


def made(device: str, backend: str, seed: int = 0, **how: Any) -> GPT:
    """A GPT whose head stays float, ternary inside, always the same for a seed."""
    torch.manual_seed(seed)
    model = GPT(**how)
    arbitor.ternarize(model, keep="head", group_size=8, backend=backend)
    return model.to(device)


def batches(device: str, steps: int, rows: int = 4) -> Iterator[torch.Tensor]:
    """tokens int64 [rows, T + 1], always the same."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield torch.randint(0, VOCABULARY, (rows, CONTEXT + 1), generator=generator).to(device)


def loss_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


class Lost(Exception):
    """Of memory that ran out, say."""


def lose_it(*_: object) -> None:
    """A hook that raises it."""
    raise Lost


Between = Callable[[GPT, torch.Tensor], object]


def train(model: GPT, steps: int = 3, **how: Any) -> str:
    """The hash of the whole state after what `run` does."""
    run(model, steps, **how)
    return state_hash(model.state_dict())


def run(
    model: GPT,
    steps: int = 3,
    micro: int = 1,
    before: Between | None = None,
    between: Between | None = None,
    *,
    net: Any = None,
    share: Callable[[torch.Tensor], torch.Tensor] = lambda batch: batch,
    lr: float = 1e-2,
) -> None:
    """So many steps of so many microbatches. `before` is called before each
    step's forward, `between` between each forward and its backward; `net` is what wraps the model, `share`
    gives the part of a batch, `lr` is that of the floats."""
    device = str(next(model.parameters()).device.type)
    ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4, total_steps=steps)
    floats = torch.optim.AdamW(model.parameters(), lr=lr)
    for batch in map(share, batches(device, steps)):
        ternary.zero_grad()
        floats.zero_grad()
        if before is not None:
            before(model, batch)
        for part in batch.chunk(micro):
            loss = loss_of(model if net is None else net, part) / micro
            if between is not None:
                between(model, part)
            loss.backward()
        floats.step()
        assert ternary.step().skipped is None
