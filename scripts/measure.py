"""Measurements quoted in docs/log/, side by side in one run: medians of interleaved rounds, with their
spread.

python scripts/measure.py matmul          ways to an exact integer product
python scripts/measure.py step --device cpu --d-model 256 --layers 4 --batch 16 --ctx 64
                                          a training step against its straight-through and float twins
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the imports below need the root

import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from arbitor.kernels.eager.linear.exact_matmul import matmul_nt  # noqa: E402
from arbitor.training.learners import make_learner  # noqa: E402
from arbitor.training.loop import Trainer  # noqa: E402
from arbitor.training.options import Options  # noqa: E402
from arbitor.training.tasks.corpus import load_corpus  # noqa: E402
from arbitor.training.tasks.task import TextTask  # noqa: E402


def interleave(variants: dict[str, Callable[[], object]], rounds: int, cuda: bool) -> dict[str, list[float]]:
    """Milliseconds of each variant, one call a round in turn, after one warm-up call each."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            if cuda:
                torch.cuda.synchronize()
            started = time.perf_counter()
            variant()
            if cuda:
                torch.cuda.synchronize()
            if number:
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


def show(title: str, times: dict[str, list[float]], base: str, exact: dict[str, bool] | None = None) -> None:
    """A table and one line of JSON: median, 10 % and 90 %, ratio to `base`."""
    table = Table("variant", "ms", "p10", "p90", f"time / {base}", *(["exact"] if exact else []), title=title)
    rows = {}
    for name, values in times.items():
        ordered = sorted(values)
        p10, p90 = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
        median = statistics.median(values)
        ratio = median / statistics.median(times[base])
        rows[name] = {
            "ms": round(median, 3),
            "p10": round(p10, 3),
            "p90": round(p90, 3),
            "ratio": round(ratio, 3),
        }
        cells = [name, f"{median:.2f}", f"{p10:.2f}", f"{p90:.2f}", f"{ratio:.2f}"]
        table.add_row(*cells, *([str(exact[name])] if exact else []))
    Console().print(table)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    print(json.dumps({"title": title, "torch": torch.__version__, "device": device, "rows": rows}))


def matmul(rounds: int) -> None:
    """int8 [1024, K] times int8 [1024, K] transposed, K = 1024 and 8192."""
    generator = torch.Generator().manual_seed(0)
    for inner in (1024, 8192):
        a, b = (torch.randint(-127, 128, (1024, inner), generator=generator).to(torch.int8) for _ in range(2))
        truth = (a.double() @ b.double().t()).to(torch.int32)
        variants: dict[str, Callable[[], torch.Tensor]] = {
            "float32 slices (ours)": lambda a=a, b=b: matmul_nt(a, b, 127 * 127),  # type: ignore[misc]
            "float32 at once": lambda a=a, b=b: (a.float() @ b.float().t()).to(torch.int32),  # type: ignore[misc]
            "float64": lambda a=a, b=b: (a.double() @ b.double().t()).to(torch.int32),  # type: ignore[misc]
            "int32 matmul": lambda a=a, b=b: a.int() @ b.int().t(),  # type: ignore[misc]
            "torch._int_mm": lambda a=a, b=b: torch._int_mm(a, b.t()),  # type: ignore[misc]
        }
        exact = {name: torch.equal(variant(), truth) for name, variant in variants.items()}
        few = rounds if inner == 1024 else max(rounds // 5, 3)
        show(f"int8 x int8, 1024 x {inner} x 1024", interleave(variants, few, False), "float64", exact)


def step(options: Options, rounds: int, steps: int) -> None:
    """Training steps of ARBModel and of its twins on the same batches, so many without a wait between."""
    device = torch.device(options.device)
    corpus = load_corpus(None)
    variants: dict[str, Callable[[], object]] = {}
    for name in ("ternary", "ste", "float"):
        own = dataclasses.replace(options, baseline=None if name == "ternary" else name, no_save=True)
        trainer = Trainer(own, TextTask(corpus, own), make_learner(own, device), device)
        variants[name] = lambda step=trainer._step: [step() for _ in range(steps)]  # type: ignore[misc]
    title = (
        f"{steps} training steps, d {options.d_model}, {options.layers} layers, "
        f"{options.batch} x {options.ctx} tokens, float products in {options.dtype}"
    )
    show(title, interleave(variants, rounds, device.type == "cuda"), "ste")


def main() -> int:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description="Measurements quoted in docs/log/.")
    parser.add_argument("what", choices=("matmul", "step"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1, help="training steps that are timed together")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backend", help="of the ternary model")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    for name, value in (("d-model", 256), ("layers", 4), ("heads", 4), ("batch", 16), ("ctx", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = vars(parser.parse_args())
    what, rounds, steps = (given.pop(name) for name in ("what", "rounds", "steps"))
    if what == "matmul":
        matmul(rounds)
    else:
        step(Options(**given, steps=10**6), rounds, steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
