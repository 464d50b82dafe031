"""The trainers, each file of training/ that is one: what they hand to the update, what they refuse, what
they leave behind.

A new trainer is found by its file and held to all of this.
"""

from __future__ import annotations

import math
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor import components
from arbitor.components import UpdateRule
from arbitor.conformance.target import Target
from arbitor.main import ARBModel
from arbitor.update import UpdateReport, ternary_modules

loop = pytest.importorskip("training.loop", reason="the trainers do not ship")
read_metrics = pytest.importorskip("training.run_folder").read_metrics

FOLDER = Path(loop.__file__).parent
ROOT = FOLDER.parent
NO_TRAINERS = {"corpus.py", "smoke.py"}  # have a command line and another purpose
TINY = "--d-model 16 --heads 2 --layers 1 --batch 2 --ctx 8 --steps 3 --eval-batches 1 --log-interval 1 --threads 1"
Run = Callable[..., int]


def trainers() -> list[str]:
    """Files of training/ that can be run."""
    runnable = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    return sorted(runnable - NO_TRAINERS)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("ternary weights, integer votes; " * 40)
    return path


@pytest.fixture
def run(target: Target, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a trainer's file in this process with small settings and further flags; gives the exit status."""

    threads = torch.get_num_threads()

    def call(trainer: str, *flags: str) -> int:
        where = ["--device", target.device, "--runs", str(tmp_path / "runs"), "--text-data", str(text)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(sys, "argv", [trainer, "--backend", target.backend.name, *where, *TINY.split(),
            *flags])
            with pytest.raises(SystemExit) as left:
                runpy.run_path(str(FOLDER / trainer), run_name="__main__")
        return int(left.value.code or 0)

    yield call
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "draw" not in request.node.name:
        monkeypatch.setattr(loop.RunFolder, "plot", lambda *_: None)  # takes longer than all else here


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every call of the optimiser step was given, and the model's thresholds at that moment."""
    seen: list[dict[str, Any]] = []
    honest = ARBModel._ternary_update_memory

    def spy(
        self: ARBModel, loss_components: Any = None, loss_signal: Any = None, **named: Any
    ) -> UpdateReport:
        modules = ternary_modules(self).values()
        seen.append(
            {
                "model": self,
                "signal": loss_signal,
                "thresholds": {(m.settings.accum_threshold, m.settings.e_accum_threshold) for m in modules},
                "captures": [len(module.captures) for module in modules],
                **named,
            }
        )
        return honest(self, loss_components, loss_signal, **named)

    monkeypatch.setattr(ARBModel, "_ternary_update_memory", spy)
    return seen


def test_trainers_are_found() -> None:
    assert {"pretrain.py", "text.py"} <= set(trainers())
    assert all((FOLDER / name).is_file() for name in NO_TRAINERS)


def assert_signals_detached(seen: list[dict[str, Any]], steps: int) -> None:
    assert len(seen) == steps
    for call in seen:
        assert isinstance(call["signal"], torch.Tensor)
        assert call["signal"].grad_fn is None
        assert not call["signal"].requires_grad


@pytest.mark.clause("ARB-RUN-002")
def test_pretrain_loss_signal_detached(run: Run, updates: list[dict[str, Any]]) -> None:
    assert run("pretrain.py", "--no-save") == 0
    assert_signals_detached(updates, 3)


@pytest.mark.clause("ARB-RUN-002", "ARB-RUN-008", "ARB-RUN-009")
@pytest.mark.parametrize("trainer", trainers())
def test_all_trainers_loss_signal_detached(
    run: Run,
    updates: list[dict[str, Any]],
    trainer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And thresholds of 32 and 32 set by the trainer: here a module's own default is another."""
    monkeypatch.setattr(components, "UpdateRule", lambda: UpdateRule(accum_threshold=7, e_accum_threshold=9))
    assert run(trainer, "--no-save") == 0
    assert_signals_detached(updates, 3)
    assert [call["thresholds"] for call in updates] == [{(32, 32)}] * 3
    assert all(set(call["captures"]) == {1} for call in updates), "every module has this microbatch's capture"
    updates.clear()
    assert run(trainer, "--no-save", "--accum-threshold", "5", "--e-accum-threshold", "6") == 0
    assert [call["thresholds"] for call in updates] == [{(5, 6)}] * 3


@pytest.mark.clause("ARB-RUN-008")
@pytest.mark.parametrize("trainer", trainers())
def test_accum_drops_nothing(
    run: Run, updates: list[dict[str, Any]], trainer: str, tmp_path: Path
) -> None:
    """Whatever --accum, every microbatch is an update and a part of a logged mean; state and losses are the
    same."""
    ends = {}
    for accum in ("1", "3", "4"):
        updates.clear()
        assert run(trainer, "--steps", "6", "--accum", accum, "--run", accum) == 0
        model = updates[-1]["model"]
        assert len(updates) == 6
        assert {module.updates for module in ternary_modules(model).values()} == {6}
        lines = read_metrics(tmp_path / "runs" / accum / "metrics.jsonl")
        ends[accum] = (loop.state_hash(model.state_dict()), {line["step"]: line["loss"] for line in lines})
    assert len({digest for digest, _ in ends.values()}) == 1
    losses = {accum: steps for accum, (_, steps) in ends.items()}
    assert list(losses["1"]) == [1, 2, 3, 4, 5, 6]
    assert len(set(losses["1"].values())) == 6

    def mean(*steps: int) -> float:
        return float(torch.tensor([losses["1"][step] for step in steps], dtype=torch.float64).mean())

    assert losses["3"] == {3: mean(1, 2, 3), 6: mean(4, 5, 6)}
    assert losses["4"] == {4: mean(1, 2, 3, 4), 6: mean(5, 6)}


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("trainer", trainers())
def test_the_frozen_control(run: Run, updates: list[dict[str, Any]], trainer: str) -> None:
    """No byte of it changes; without the flag trits change under the same settings."""
    quick = ("--no-save", "--accum-threshold", "1", "--scale-gain", "1", "--e-accum-threshold", "1")
    ends = []
    for flags in (("--control", "frozen"), ()):
        updates.clear()
        assert run(trainer, *quick, *flags) == 0
        model = updates[-1]["model"]
        fresh = ARBModel(model.config, backend=model.head.backend.name).to(model.head.codes.device)
        before = fresh.state_dict()
        ends.append({n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])})
    assert ends[0] == set()
    assert {"head.codes", "embedding.codes", "head.e"} <= ends[1]


@pytest.mark.parametrize("trainer", trainers())
@pytest.mark.parametrize("kind", ["ste", "float"])
def test_the_baselines(
    run: Run, updates: list[dict[str, Any]], trainer: str, kind: str, tmp_path: Path
) -> None:
    """They learn something, with float parameters and without an integer update."""
    assert run(trainer, "--baseline", kind, "--steps", "8", "--lr", "0.3") == 0
    assert updates == []
    lines = read_metrics(tmp_path / "runs" / Path(trainer).stem / "metrics.jsonl")
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.clause("ARB-RUN-010")
@pytest.mark.parametrize("trainer", trainers())
def test_preserve_state(
    run: Run, updates: list[dict[str, Any]], trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runtime state is cleared before every random batch; with --preserve-state never, and the model reads
    on."""
    calls: list[str] = []
    honest_reset, honest_forward = loop.reset_runtime_state, ARBModel.forward
    monkeypatch.setattr(loop, "reset_runtime_state", lambda model: (calls.append("reset"),
    honest_reset(model)))

    def forward(self: ARBModel, tokens: torch.Tensor, *, stateful: bool = False) -> torch.Tensor:
        if torch.is_grad_enabled():
            calls.append("stateful" if stateful else "forward")
        return honest_forward(self, tokens, stateful=stateful)

    monkeypatch.setattr(ARBModel, "forward", forward)
    assert run(trainer, "--no-save", "--eval-interval", "1") == 0
    assert calls == ["reset", "forward"] * 3
    assert updates[-1]["model"]._position == 0
    calls.clear()
    assert run(trainer, "--no-save", "--eval-interval", "1", "--preserve-state") == 0
    assert calls == ["stateful"] * 3
    model = updates[-1]["model"]
    assert model._position == 3 * 8
    assert model.config.window == 8


@pytest.mark.clause("ARB-SCHED-001", "ARB-SCHED-002")
@pytest.mark.parametrize("trainer", trainers())
def test_gains_follow_the_schedule(run: Run, updates: list[dict[str, Any]], trainer: str) -> None:
    assert run(trainer, "--no-save", "--steps", "10", "--gain", "1.5", "--scale-gain", "0.25") == 0
    share = [1.0] * 7 + [0.75, 0.5, 0.25]
    assert [call["gain"] for call in updates] == [int(98_304 * part) for part in share]
    assert [call["scale_gain"] for call in updates] == [int(16_384 * part) for part in share]


BAD = {
    "no such file": ("--text-data no_such_file", "no_such_file"),
    "too little text": ("--ctx 5000", "at least 5001"),
    **{f"{flag} 0": (f"--{flag} 0", f"--{flag} must be at least 1") for flag in ("batch", "ctx", "steps", "accum")},
    "heads": ("--heads 3", "d_model must be a multiple"),
    "window 0": ("--window 0", "window must be at least 1"),
    "gain -1": ("--gain -1", "--gain must be in 0..256, got -1"),
    "gain nan": ("--gain nan", "--gain must be in 0..256, got nan"),
    "threshold 0": ("--accum-threshold 0", "--accum-threshold must be in 1..127"),
    "threshold 128": ("--e-accum-threshold 128", "--e-accum-threshold must be in 1..127"),
    "seed": ("--seed -1", "--seed must be in"),
    "backend": ("--backend trition", "unknown backend 'trition'"),
    "a stranger's": ("--backend no_such_package.x", "no module named 'no_such_package'"),
    "device": ("--device abacus", "abacus"),
    "threads": ("--threads 0", "positive"),
    "two iterations": ("--max-moe-iters 2", "--max-moe-iters 2: this version has no mixture of experts"),
    "rule": ("--vote-rule nearest", "invalid choice: 'nearest'"),
    "control": ("--control frozen --baseline ste", "exclude each other"),
    "lr": ("--baseline ste --lr -1", "learning rate"),
    "name": ("--run a/b", "run name 'a/b'"),
    "resume nothing": ("--resume", "checkpoint.safetensors"),
    "resume unsaved": ("--resume --no-save", "--resume"),
    "resume preserved": ("--resume --preserve-state", "KV state is in no checkpoint"),
    "flag": ("--learning-rate 1", "unrecognized arguments"),
    "word": ("--steps many", "invalid int value: 'many'"),
}


@pytest.mark.parametrize("trainer", trainers())
@pytest.mark.parametrize("case", BAD)
def test_bad_input(
    run: Run, trainer: str, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one sentence after the usage if that is shown, no traceback, and nothing written."""
    flags, message = BAD[case]
    assert run(trainer, *flags.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert "error: " in lines[-1]
    assert message in lines[-1]
    assert "Traceback" not in err
    assert len(lines) == 1 or lines[0].startswith("usage: ")
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("trainer", trainers())
def test_nothing_to_draw(run: Run, trainer: str, tmp_path: Path) -> None:
    """A run that logs no loss ends well all the same, with its checkpoint and without a picture."""
    assert run(trainer, "--log-interval", "0", "--eval-interval", "0") == 0
    written = {path.name for path in (tmp_path / "runs" / Path(trainer).stem).iterdir()}
    assert written == {"config.json", "checkpoint.safetensors"}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the checkout's root, as a user calls it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"  # two processes on two cores wait for each other's threads
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("trainer", trainers())
@pytest.mark.parametrize("as_module", [False, True])
def test_both_ways_to_call(target: Target, trainer: str, as_module: bool, tmp_path: Path, text: Path) -> None:
    """As a file and as a module; the table at the end has the loss and the hash."""
    way = ("-m", f"training.{Path(trainer).stem}") if as_module else (str(FOLDER / trainer),)
    flags = f"{TINY} --backend {target.backend.name} --text-data {text} --runs {tmp_path / 'runs'}"
    done = command(*way, *flags.split())
    assert done.returncode == 0, done.stderr
    assert "nats a byte" in done.stderr
    assert "state sha256" in done.stderr
    assert (tmp_path / "runs" / Path(trainer).stem / "checkpoint.safetensors").is_file()


@pytest.mark.clause("ARB-RUN-009", "ARB-RUN-010")
def test_the_door_to_the_runtime() -> None:
    """Importable from the checkout's root, under the one name, and the very functions of arbitor."""
    code = (
        "from training.ternary_runtime import configure_ternary_training, reset_runtime_state\n"
        "import arbitor.runtime as runtime\n"
        "assert configure_ternary_training is runtime.configure_ternary_training\n"
        "assert reset_runtime_state is runtime.reset_runtime_state\n"
    )
    done = command("-c", code)
    assert done.returncode == 0, done.stderr
