"""A GPT of one's own, ternary inside, beside its float twin: the same code, the same batches.

python docs/examples/gpt/gpt.py --steps 300 --out curves.json
torchrun --nproc-per-node 2 docs/examples/gpt/gpt.py --steps 300     # one state hash, whatever the number
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import arbitor
from arbitor.checkpoint import state_hash


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, d))
        y: torch.Tensor = x + self.down(F.relu(self.up(self.norm2(x))).square())
        return y


class GPT(nn.Module):
    def __init__(self, width: int = 64, heads: int = 4, layers: int = 2, context: int = 64) -> None:
        super().__init__()
        self.context, self.places = context, nn.Parameter(torch.zeros(context, width))
        self.table, self.norm = nn.Embedding(256, width), nn.LayerNorm(width)
        self.head = nn.Linear(width, 256)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens) + self.places[: tokens.shape[1]]
        logits: torch.Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def batch_of(text: torch.Tensor, step: int, rows: int, context: int) -> torch.Tensor:
    starts = torch.randint(len(text) - context, (rows,), generator=torch.Generator().manual_seed(step))
    return torch.stack([text[start : start + context + 1] for start in starts.tolist()])


def train(
    model: GPT, text: torch.Tensor, steps: int, ternary: bool, ranks: arbitor.Ranks | None
) -> list[float]:
    net: nn.Module = model if ranks is None else DistributedDataParallel(model)  # its float parameters
    floats = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    updates = arbitor.TernaryOptimizer(model, total_steps=steps) if ternary else None
    losses = []
    for step in range(steps):
        batch = batch_of(text, step, 16, model.context)
        if ranks is not None:
            batch = ranks.slice(batch)
        floats.zero_grad()
        loss = F.cross_entropy(net(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        floats.step()
        report = updates.step() if updates is not None else None
        losses.append(loss.item() if ranks is None else (ranks.sum(loss.detach()) / ranks.size).item())
        if step % 50 == 0 and (ranks is None or ranks.rank == 0):
            print(f"{step:5d}  {losses[-1]:.4f}  {report or ''}", flush=True)
    return losses


def draw(curves: dict[str, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(7, 3.5), layout="constrained")).subplots()
    for name, curve in curves.items():
        means = [
            sum(curve[max(0, n - 19) : n + 1]) / len(curve[max(0, n - 19) : n + 1]) for n in range(len(curve))
        ]
        axes.plot(means, label=f"{name}: {means[-1]:.3f}")
    axes.set(xlabel="step", ylabel="nats a byte, mean of 20 steps", ylim=(None, 4))
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path, help="a text; default: Python's own help")
    parser.add_argument("--out", type=Path, help="JSON with both curves")
    parser.add_argument("--plot", type=Path, help="a picture of them")
    asked = parser.parse_args()
    found = asked.data.read_bytes() if asked.data else "\n".join(pydoc_data.topics.topics.values()).encode()
    text = torch.frombuffer(bytearray(found), dtype=torch.uint8).long()
    ranks, curves = arbitor.start_ranks("cpu"), {}
    for name in ("float", "ternary"):
        torch.manual_seed(0)
        model = GPT()
        if name == "ternary":
            done = arbitor.ternarize(model, keep="head", group_size=64)
            if ranks is None or ranks.rank == 0:
                print(done, arbitor.parameter_count(model))
            if ranks is not None:
                arbitor.join_ranks(model)
        curves[name] = train(model, text, asked.steps, name == "ternary", ranks)
        last = curves[name][-20:]
        print(f"{name}: {sum(last) / len(last):.4f}, state {state_hash(model.state_dict())}")
    arbitor.end_ranks()
    if asked.out is not None and (ranks is None or ranks.rank == 0):
        asked.out.write_text(json.dumps(curves))
    if asked.plot is not None and (ranks is None or ranks.rank == 0):
        draw(curves, asked.plot)


if __name__ == "__main__":
    main()
