"""What integers between the layers cost a step on a CPU, and digests of the state: process time in one run.

python scripts/step_cost.py    # one thread, a model of two layers of d 128, batch 16 of 64 bytes
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch  # noqa: E402  (the root must be on the path first)

from arbitor.between.exact import ExactWork  # noqa: E402
from arbitor.between.work import Work  # noqa: E402
from arbitor.kernels.registry import select  # noqa: E402
from arbitor.main import ARBConfig, ARBModel  # noqa: E402
from arbitor.training.float_work import FloatWork  # noqa: E402
from arbitor.training.recording.digests import Digests, digests_of  # noqa: E402
from arbitor.update import ternary_modules  # noqa: E402

WORKS: dict[str, Work] = {"integers": ExactWork("torch"), "float32": FloatWork()}


def milliseconds(call: Callable[[], Any], rounds: int = 10) -> float:
    """Process time of a call, the mean of some, after one that is not counted."""
    call()
    start = time.process_time()
    for _ in range(rounds):
        call()
    return (time.process_time() - start) / rounds * 1e3


def step(model: ARBModel, work: Work) -> None:
    """One update with that work everywhere."""
    for module in model.modules():
        if hasattr(module, "work"):
            module.work = work  # type: ignore[assignment]
    tokens = torch.randint(0, 256, (16, 65))
    loss: Any = work.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) * (1 / 1024)
    loss.backward()
    model._ternary_update_memory()


def main() -> None:
    """Print a line for each."""
    torch.set_num_threads(1)
    model = ARBModel(ARBConfig(128, 2, 4), backend="torch")
    x, qkv = torch.randn(1024, 512), torch.randn(16, 64, 384)
    for name, work in WORKS.items():

        def norm(work: Work = work) -> None:
            work.norm(x.clone().requires_grad_()).sum().backward()  # type: ignore[no-untyped-call]

        def attend(work: Work = work) -> None:
            y, _ = work.attend(qkv.clone().requires_grad_(), 4, None, 0, None)
            y.sum().backward()  # type: ignore[no-untyped-call]

        of_step = milliseconds(lambda work=work: step(model, work))  # type: ignore[misc]
        rest = f"norm {milliseconds(norm):.1f}, attention {milliseconds(attend):.1f}"
        print(f"{name}: step {of_step:.0f} ms, {rest}")
    state = {f"{n}.{p}": t for n, m in ternary_modules(model).items() for p, t in m.state().items()}
    digests, batch = Digests(state, select("torch")), (torch.randint(0, 256, (16, 64)),) * 2
    print(f"digests of {len(state)} tensors {milliseconds(lambda: digests.of(state)):.1f} ms")
    print(f"digests of ten batches {milliseconds(lambda: digests_of([batch] * 10, select('torch'))):.1f} ms")


if __name__ == "__main__":
    main()
