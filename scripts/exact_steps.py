"""Train a small ARBModel whose float work is the operations of section 13, and print the hash of its state.

    python scripts/exact_steps.py tinyshakespeare.txt --backend torch --device cpu --steps 50

ARBModel does not use them yet, so its norms, its attention and its loss are put in their places here. The
hash is a function of the options alone then: the same on every backend and device.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).resolve().parents[1])

from arbitor import attention, main, moe  # noqa: E402  (the root must be on the path first)
from arbitor.kernels.registry import Backend, select  # noqa: E402
from arbitor.kernels.rotary import rotary  # noqa: E402

WIDTH, LAYERS, HEADS, WINDOW, BATCH, LENGTH = 64, 2, 4, 24, 16, 64
GAIN = 4 << 16


class Norm(torch.autograd.Function):
    """`norm` over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, backend: Backend) -> torch.Tensor:
        """x float32 [..., C] -> the same shape."""
        rows = x.detach().reshape(-1, x.shape[-1]).contiguous()
        ctx.save_for_backward(rows)
        ctx.backend = backend
        y: torch.Tensor = backend.norm(rows).view(x.shape)
        return y

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Of x."""
        (rows,) = ctx.saved_tensors
        return ctx.backend.norm_backward(dy.reshape(rows.shape).contiguous(), rows).view(dy.shape), None


class Attend(torch.autograd.Function):
    """`heads` and `attention` of what the projection of queries, keys and values gave."""

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, heads: int, window: int, backend: Backend) -> torch.Tensor:
        """qkv float32 [B, T, 3 W] -> [B, T, W]."""
        batch, count, width = qkv.shape
        x = qkv.detach().view(batch, count, 3, heads, 2, width // (6 * heads))
        angles = angles_of(count, 2 * x.shape[-1], qkv.device)
        q, k, v = (part.flatten(-2) for part in backend.heads(x, *angles))
        y, top, total = backend.attention(q, k, v, window)
        ctx.save_for_backward(y, top, total, q, k, v, x, *angles)
        ctx.window, ctx.backend = window, backend
        found: torch.Tensor = y.flatten(-2)
        return found

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """Of qkv."""
        y, *rest, x, cos, sin = ctx.saved_tensors
        gradients = ctx.backend.attention_backward(dy.reshape(y.shape).contiguous(), y, *rest, ctx.window)
        halves = (gradient.unflatten(-1, (2, -1)) for gradient in gradients)
        return ctx.backend.heads_backward(*halves, x, cos, sin).flatten(2), None, None, None


@cache
def angles_of(count: int, head_dim: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of the first positions."""
    cos, sin = rotary(0, count, head_dim)
    return cos.to(device), sin.to(device)


def put_in_place(backend: Backend) -> None:
    """The model's norms and its attention, from here on."""

    def norm(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = Norm.apply(x, backend)  # type: ignore[no-untyped-call]
        return y

    def forward(self: Any, x: torch.Tensor, angles: Any, stateful: bool, causal: bool = True) -> Any:
        y = Attend.apply(self.qkv(x), self.heads, self.window, backend)  # type: ignore[no-untyped-call]
        return self.out(norm(y))

    for module in (attention, main, moe):
        module.rms_norm = norm  # type: ignore[attr-defined]
    attention.CausalAttention.forward = forward  # type: ignore[method-assign]


def run(options: argparse.Namespace) -> str:
    """The first 16 digits of the hash of the state after the steps."""
    backend, device = select(options.backend), torch.device(options.device)
    put_in_place(backend)
    config = main.ARBConfig(WIDTH, LAYERS, HEADS, window=WINDOW)
    model = main.ARBModel(config, backend=options.backend).to(device)
    data = torch.tensor(list(options.data.read_bytes()))
    drawn = torch.Generator().manual_seed(1)
    for _ in range(options.steps):
        starts = torch.randint(0, len(data) - LENGTH - 1, (BATCH,), generator=drawn)
        batch = torch.stack([data[start : start + LENGTH + 1] for start in starts]).to(device)
        logits = model(batch[:, :-1]).flatten(0, 1)
        _, gradient = backend.cross_entropy(logits.detach().contiguous(), batch[:, 1:].flatten())
        logits.backward(gradient * (1 / (BATCH * LENGTH)))
        model._ternary_update_memory(gain=GAIN)
    digest = hashlib.sha256()  # of names and bytes, as in docs/results/records/gpu_exact_steps.json
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The state hash of some steps in integers throughout.")
    parser.add_argument("data", type=Path, help="a text of at least 66 bytes")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=50)
    print(run(parser.parse_args()))
