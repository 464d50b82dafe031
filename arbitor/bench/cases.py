"""What `arbitor bench` times: operations on random data, beside what people use today for the same step.

A case gives, for any backend, an answer that is compared bit for bit with the torch backend's, and a call
that is timed. Opponents compute the step as it is done with bfloat16 weights and a float32 master copy; they
are timed in the same rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from arbitor.kernels.registry import Backend

Call = Callable[[], Any]
Tensors = tuple[torch.Tensor, ...]
SCALE = (-6, 4, 128)  # e_base, e_span, group_size
HOW = (*SCALE, "adaptive", 4 << 16, 16, 32, 1 << 11, 32, 1, 2, 3)
SCALED = (*SCALE, "scaled", *HOW[4:])


@dataclass(frozen=True)
class Case:
    """One step of training at one size.

    `work` is operations (unit "TOPS") or bytes (unit "GB/s") of one call; `answer` runs a backend once on
    fresh state; `calls` are a backend's ways to do the step, `opponents` those of others.
    """

    name: str
    unit: str
    work: float
    answer: Callable[[Backend], Tensors]
    calls: Callable[[Backend], dict[str, Call]]
    opponents: dict[str, Call] = field(default_factory=dict)


class Data:
    """Random operands of one layer [O, I] and T tokens on a device; the same for the same extents."""

    def __init__(self, tokens: int, rows: int, columns: int, device: str) -> None:
        self.tokens, self.rows, self.columns = tokens, rows, columns
        self.generator = torch.Generator(device).manual_seed(tokens + rows + columns)
        self.device = device

    def integers(self, *shape: int, low: int = -127, high: int = 128) -> torch.Tensor:
        """int8 of low .. high - 1."""
        drawn = torch.randint(low, high, shape, generator=self.generator, device=self.device)
        return drawn.to(torch.int8)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Normal values."""
        return torch.randn(shape, generator=self.generator, device=self.device).to(dtype)

    def state(self) -> Tensors:
        """codes, t_accum, e, e_accum, moment in mid-training."""
        groups = -(-self.columns // SCALE[2])
        bytes_ = torch.randint(
            0, 81, (self.rows, -(-self.columns // 4)), generator=self.generator, device=self.device
        )
        codes = sum(((bytes_ // 3**k) % 3) << (2 * k) for k in range(4))
        return (
            torch.as_tensor(codes).to(torch.uint8),
            self.integers(self.rows, self.columns, low=-31, high=32),
            self.integers(self.rows, groups, low=-6, high=-1),
            self.integers(self.rows, groups, low=-31, high=32),
            self._moment(groups),
        )

    def exponents(self) -> torch.Tensor:
        """Of a gradient, int8 [O]."""
        return self.integers(self.rows, low=-24, high=-15)

    def _moment(self, groups: int) -> torch.Tensor:
        """About the squares of what T products of random int8 sum up to, times 2^-20."""
        mantissa = torch.randint(
            1 << 20, 1 << 21, (self.rows, groups), generator=self.generator, device=self.device
        )
        power = (self.tokens * 73**4).bit_length() - 21 - 40
        return (mantissa + (power + 512 << 21)).to(torch.int32)


def update_case(tokens: int, rows: int, columns: int, device: str) -> Case:
    """The whole update of a layer against bfloat16 dW, fused AdamW on a float32 master copy and absmean
    requantisation; and against itself with the gradient as int32 through memory."""
    data = Data(tokens, rows, columns, device)
    q_g, q_x = data.integers(rows, tokens).t(), data.integers(columns, tokens).t()
    state, e_g = data.state(), data.exponents()

    def answer(backend: Backend) -> Tensors:
        own = tuple(tensor.clone() for tensor in state)
        return (backend.linear_update(q_g, e_g, q_x, *own, *HOW), *own)

    def calls(backend: Backend) -> dict[str, Call]:
        own = tuple(tensor.clone() for tensor in state)
        return {
            "update": lambda: backend.linear_update(q_g, e_g, q_x, *own, *HOW),
            "by scaled": lambda: backend.linear_update(q_g, e_g, q_x, *own, *SCALED),
            "unfused": lambda: backend.ternary_update(backend.weight_gradient(q_g, q_x), e_g, *own, *HOW),
        }

    dy, x = (
        data.normal(tokens, rows, dtype=torch.bfloat16),
        data.normal(tokens, columns, dtype=torch.bfloat16),
    )
    master = torch.nn.Parameter(data.normal(rows, columns) * columns**-0.5)
    adamw = torch.optim.AdamW([master], lr=1e-3, fused=True)
    weight = torch.empty(rows, columns, dtype=torch.bfloat16, device=device)

    def bfloat16() -> None:
        master.grad = (dy.t() @ x).float()
        adamw.step()
        with torch.no_grad():
            scale = master.abs().mean()
            weight.copy_((master / scale).round_().clamp_(-1, 1).mul_(scale))

    work = 2.0 * tokens * rows * columns
    name = f"update, T {tokens}, {rows} x {columns}"
    return Case(name, "TOPS", work, answer, calls, {"bf16 + AdamW": bfloat16})


def product_case(tokens: int, rows: int, columns: int, device: str, backward: bool) -> Case:
    """Forward or input gradient from packed codes against bfloat16 and `torch._int_mm` on unpacked int8."""
    data = Data(tokens, rows, columns, device)
    width = rows if backward else columns
    q, e_q = data.integers(tokens, width), data.integers(tokens, low=-20, high=0)
    codes, _, e, *_ = data.state()

    def run(backend: Backend) -> torch.Tensor:
        if backward:
            found: torch.Tensor = backend.input_gradient(q, e_q, codes, e, *SCALE, columns)
        else:
            found = backend.linear_forward(q, e_q, codes, e, *SCALE)
        return found

    name = "input gradient" if backward else "forward"
    x = data.normal(tokens, width, dtype=torch.bfloat16)
    weight = data.normal(rows, columns, dtype=torch.bfloat16)
    opponents: dict[str, Call] = {"bf16": lambda: x @ (weight if backward else weight.t())}
    if tokens > 16 and width % 8 == 0:
        plain = data.integers(columns if backward else rows, width)
        opponents["_int_mm"] = lambda: torch._int_mm(q, plain.t())
    return Case(
        f"{name}, T {tokens}, {rows} x {columns}",
        "TOPS",
        2.0 * tokens * rows * columns,
        lambda backend: (run(backend),),
        lambda backend: {name: lambda: run(backend)},
        opponents,
    )


def quantise_case(tokens: int, columns: int, device: str) -> Case:
    """Both layouts in one pass against a copy of x; bytes: x read once, q and q_t written once."""
    x = Data(tokens, 1, columns, device).normal(tokens, columns)
    other = torch.empty_like(x)
    part = tokens * 3 // 4  # a copy of as many bytes
    return Case(
        f"quantise both layouts, {tokens} x {columns}",
        "GB/s",
        6.0 * x.numel(),
        lambda backend: backend.quantise_nearest_both(x),
        lambda backend: {"quantise_nearest_both": lambda: backend.quantise_nearest_both(x)},
        {"copy": lambda: other[:part].copy_(x[:part])},
    )


def layer_case(tokens: int, rows: int, columns: int, device: str) -> Case:
    """A layer's whole step: quantise, forward, input gradient, update."""
    data = Data(tokens, rows, columns, device)
    x, dy, state = data.normal(tokens, columns), data.normal(tokens, rows), data.state()

    def step(backend: Backend, own: Tensors) -> Tensors:
        codes, _, e, *_ = own
        q_x, q_t, e_x = backend.quantise_nearest_both(x)
        y = backend.linear_forward(q_x, e_x, codes, e, *SCALE)
        q_d, e_d = backend.quantise_stochastic(dy, 1, 3, 33, 0)
        dx = backend.input_gradient(q_d, e_d, codes, e, *SCALE, columns)
        q_g, e_g = backend.quantise_columns(dy, e_x, 1, 3, 34, 0)
        return (y, dx, backend.linear_update(q_g, e_g, q_t.t(), *own, *HOW))

    def answer(backend: Backend) -> Tensors:
        own = tuple(tensor.clone() for tensor in state)
        return (*step(backend, own), *own)

    def calls(backend: Backend) -> dict[str, Call]:
        own = tuple(tensor.clone() for tensor in state)
        return {"whole step": lambda: step(backend, own)}

    update = update_case(tokens, rows, columns, device).opponents["bf16 + AdamW"]
    half_x, half_dy = x.bfloat16(), dy.bfloat16()
    weight = data.normal(rows, columns, dtype=torch.bfloat16)

    def bfloat16() -> None:
        _ = half_x @ weight.t()
        _ = half_dy @ weight
        update()

    work = 6.0 * tokens * rows * columns
    name = f"layer step, T {tokens}, {rows} x {columns}"
    return Case(name, "TOPS", work, answer, calls, {"bf16 + AdamW": bfloat16})


def cases(size: str, device: str) -> Iterator[Callable[[], Case]]:
    """The cases of a size ("tiny" for a CPU, "full" for a GPU), each made when it is its turn."""
    if size == "tiny":
        yield lambda: update_case(64, 48, 256, device)
        yield lambda: product_case(64, 48, 256, device, backward=False)
        yield lambda: product_case(64, 48, 256, device, backward=True)
        yield lambda: product_case(1, 48, 256, device, backward=False)
        yield lambda: quantise_case(64, 256, device)
        yield lambda: layer_case(64, 48, 256, device)
        return
    for tokens in (8192, 2048):
        yield lambda tokens=tokens: update_case(tokens, 8192, 8192, device)  # type: ignore[misc]
    for rows, columns in ((4096, 4096), (11008, 4096), (4096, 11008), (8192, 8192)):
        for backward in (False, True):
            yield lambda r=rows, c=columns, b=backward: product_case(4096, r, c, device, b)  # type: ignore[misc]
    for tokens in (1, 16):
        yield lambda tokens=tokens: product_case(tokens, 16384, 16384, device, False)  # type: ignore[misc]
    for columns in (4096, 8192):
        yield lambda columns=columns: quantise_case(8192, columns, device)  # type: ignore[misc]
    for tokens in (8192, 2048):
        yield lambda tokens=tokens: layer_case(tokens, 8192, 8192, device)  # type: ignore[misc]
