"""Mixture of experts with a ternary router, applied again and again until the router halts (ARB-MOE-001 to
-004).

Shazeer et al. 2017 (arXiv 1701.06538) for top-k gates, Fedus et al. 2021 (2101.03961) for the balance loss,
Graves 2016 (1603.08983) for halting: a pass weighs what the passes before it have left, and a token goes on
until next to nothing is left. All of it is per token, so a token's bits do not depend on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .between.work import Work
from .parts import Parts

DONE = 1 / 16  # of a token is left when it is done; with a half nothing learns to go on (ARB-MOE-002)


def mlp(x: torch.Tensor, up: nn.Module, down: nn.Module, work: Work) -> torch.Tensor:
    """relu-squared MLP of normalised x float32 [..., d], a norm before its second projection too."""
    y: torch.Tensor = down(work.norm(up(x).relu().square()))
    return y


def mean_of(scalars: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Their mean, None of none: one sum after another, where torch's own mean has an order of its own."""
    return sum(scalars[1:], start=scalars[0]) * (1 / len(scalars)) if scalars else None


@dataclass(frozen=True)
class ExpertUse:
    """What one block's experts did: how often each was chosen (at least once in all), mean passes a token."""

    choices: tuple[int, ...]
    iterations: float

    @property
    def shares(self) -> list[float]:
        """Of each expert in all choices."""
        return [count / sum(self.choices) for count in self.choices]

    @property
    def evenness(self) -> float:
        """Entropy of the shares beside that of equal ones: 1 when even, 0 when one expert takes all, and no
        lower than log k / log E when a token takes k of E; a lone expert is even."""
        if len(self.choices) == 1:
            return 1.0
        return sum(-p * math.log(p) for p in self.shares if p) / math.log(len(self.choices))


def summary(blocks: Sequence[ExpertUse]) -> dict[str, float]:
    """Over all blocks: mean passes a token, the largest share of an expert in its block, the lowest evenness;
    empty without any."""
    if not blocks:
        return {}
    return {
        "iterations": sum(use.iterations for use in blocks) / len(blocks),
        "busiest expert": max(max(use.shares) for use in blocks),
        "evenness": min(use.evenness for use in blocks),
    }


def mlp_parts(d_model: int, hidden: int, parts: Parts) -> tuple[nn.Module, nn.Module]:
    """Both projections of an MLP; the second learns twice as fast (docs/log/2026-11-30.md)."""
    return parts.linear(d_model, hidden), parts.linear(hidden, d_model, rate=2.0)


class Expert(nn.Module):
    """An MLP, float32 [n, d] -> [n, d]."""

    def __init__(self, d_model: int, hidden: int, parts: Parts) -> None:
        super().__init__()
        self.work = parts.work
        self.up, self.down = mlp_parts(d_model, hidden, parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x is already normalised."""
        return mlp(x, self.up, self.down, self.work)


class MixtureOfExperts(nn.Module):
    """E MLPs of which a token takes k, up to `max_iters` times; [N, d] residual stream in and out."""

    def __init__(
        self, d_model: int, hidden: int, experts: int, top_k: int, max_iters: int, parts: Parts
    ) -> None:
        super().__init__()
        self.top_k, self.max_iters, self.work = top_k, max_iters, parts.work
        self.router = parts.linear(d_model, experts + 1)
        self.experts = nn.ModuleList(Expert(d_model, hidden, parts) for _ in range(experts))
        self.reset_runtime_state()

    def reset_runtime_state(self) -> None:
        """Forget balance, usage and iterations of earlier calls."""
        self._balance: list[torch.Tensor] = []
        self._usage: torch.Tensor | None = None
        self._passes = self._tokens = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x float32 [..., d] -> x changed by the experts."""
        flat = x.reshape(-1, x.shape[-1])
        rows, keep = torch.arange(len(flat), device=x.device), flat.new_ones(len(flat), 1)
        self._tokens += len(flat)
        for number in range(self.max_iters):
            h = self.work.norm(flat[rows])
            logits = self.router(h)
            if number:
                keep = keep * self.work.sigmoid(-logits[:, -1:])
                going = (keep.detach() >= DONE).flatten()
                rows, keep, h, logits = rows[going], keep[going], h[going], logits[going]
                if not len(rows):
                    break
            self._passes += len(rows)
            change = self._mix(h, logits[:, :-1])
            if number:
                change = self.work.weighted(keep, change.unsqueeze(1))
            flat = flat.index_put((rows,), flat[rows] + change)
        return flat.view_as(x)

    def _mix(self, h: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """h [n, d], logits [n, E] -> weighted outputs of the chosen experts [n, d]."""
        alone = len(self.experts) == 1
        p = torch.ones_like(logits) if alone else self.work.softmax(logits)
        ordered, order = p.sort(dim=-1, descending=True, stable=True)
        weights, chosen = ordered[:, : self.top_k], order[:, : self.top_k]
        if self.top_k > 1:
            weights = self.work.shares(weights)
        inputs = self.work.spread(h, self.top_k)
        outputs = torch.zeros_like(inputs)
        for number, expert in enumerate(self.experts):
            taken = (chosen == number).nonzero(as_tuple=True)
            if len(taken[0]):  # of none a twin would have gradients of zeros
                outputs = outputs.index_put(taken, expert(inputs[taken]))
        self._count(p, chosen)
        return self.work.weighted(weights, outputs)

    def _count(self, p: torch.Tensor, chosen: torch.Tensor) -> None:
        experts = len(self.experts)
        usage = torch.bincount(chosen.flatten(), minlength=experts)
        self._usage = usage if self._usage is None else self._usage + usage
        if p.requires_grad:
            self._balance.append(self.work.balance(p, usage))

    def take_balance(self) -> torch.Tensor | None:
        """The mean balance loss of the passes since the last call of this, None without any; forgets them."""
        taken, self._balance = self._balance, []
        return mean_of(taken)

    def take_use(self) -> ExpertUse | None:
        """What was chosen since this was last taken, None without any; forgets it."""
        usage, passes, tokens = self._usage, self._passes, self._tokens
        self._usage, self._passes, self._tokens = None, 0, 0
        return None if usage is None else ExpertUse(tuple(usage.tolist()), passes / tokens)
