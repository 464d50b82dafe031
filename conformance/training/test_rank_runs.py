"""Runs on several ranks: whatever the tokens of each reach, they end in one state, stop together, and one of
them speaks.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from arbitor import refusal
from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.machine.ranks import on_ranks
from arbitor.conformance.training.launch import START
from arbitor.conformance.training.started import spy_on_steps
from arbitor.conformance.training.trainers import CHECKPOINT, module_of, trainers
from arbitor.kernels.writing import append_whole
from arbitor.ranks import Ranks
from arbitor.training import loop, options
from arbitor.training.keeping import TrainingFailed
from arbitor.training.learners import make_learner
from arbitor.training.recording import lines
from arbitor.training.settings import flags as commandline
from arbitor.training.tasks import task as tasks

ISSUE = (
    "--baseline float --experts 2 --top-k 1 --balance 0 --batch 2 --ctx 1 --d-model 16 --layers 1 --heads 2 "
    "--steps 2 --device cpu --threads 1 --eval-batches 1"
)


@pytest.fixture(autouse=True)
def _one_at_a_time(one_lane: None, no_picture: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a matter of the backend is in conformance/runtime/test_ranks.py."""
    lock, honest = threading.Lock(), make_learner

    def one_at_a_time(*given: Any) -> Any:  # torch's generator is that of the process
        with lock:
            return honest(*given)

    monkeypatch.setattr(loop, "make_learner", one_at_a_time)


def chosen(folder: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {"d_model": 16, "heads": 2, "layers": 1, "batch": 2, "ctx": 1, "steps": 3}
    given |= {"eval_batches": 1, "threads": 1, "device": "cpu", "backend": "torch", "balance": 0.0}
    given |= {"runs": folder / "runs", "run": "run"}
    return options.Options(**(given | changes))


def trained(asked: Any, ranks: Ranks | None) -> str:
    return str(loop.train(asked, tasks.TextTask.of(asked), ranks).digest)


@pytest.mark.clause("ARB-RANK-001")
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("experts", [0, 2, 8])
@pytest.mark.parametrize("kind", ["float", "ste"])
def test_ranks_of_a_twin_end_alike(tmp_path: Path, kind: str, experts: int, size: int) -> None:
    """A token a rank: most experts have a gradient on one rank alone, or on none."""
    asked = chosen(tmp_path, baseline=kind, experts=experts, top_k=1, batch=size, no_save=True)
    ends = on_ranks(size, lambda ranks: trained(asked, ranks))
    assert len(set(ends)) == 1
    assert len(ends[0]) == 64


@pytest.mark.clause("ARB-RANK-001")
@pytest.mark.parametrize("kind", ["float", "ste"])
def test_a_twin_on_ranks_learns_what_it_learns_alone(tmp_path: Path, kind: str) -> None:
    """The gradient of two ranks is that of one with both their sequences: in float32, so nearly."""
    asked = chosen(tmp_path, baseline=kind, experts=2, top_k=1, lr=0.01, steps=1)
    alone = chosen(tmp_path, baseline=kind, experts=2, top_k=1, lr=0.01, steps=1, run="alone")
    on_ranks(2, lambda ranks: trained(asked, ranks))
    trained(alone, None)
    one, two = (load_checkpoint(tmp_path / "runs" / name / CHECKPOINT).tensors for name in ("run", "alone"))
    assert one.keys() == two.keys(), "a weight that no rank reached has no moments"
    for name, tensor in one.items():
        near = pytest.approx(two[name].flatten().tolist(), rel=1e-3, abs=1e-6)
        assert tensor.flatten().tolist() == near, name


@pytest.mark.clause("ARB-RANK-001", "ARB-RANK-003")
@pytest.mark.parametrize("moment", ["a checkpoint", "the end"])
def test_ranks_that_have_parted_say_so(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next checkpoint, which is not written, or at the end; rank 0 says it, the other only stops."""
    asked = chosen(tmp_path, baseline="float", save_interval=2 if moment == "a checkpoint" else 0)
    honest = loop.Trainer._step

    def parts(trainer: Any) -> None:
        honest(trainer)
        if trainer.ranks.rank == 1:
            next(trainer.learner.model.parameters()).data[0, 0] += 1

    monkeypatch.setattr(loop.Trainer, "_step", parts)

    def run(ranks: Ranks) -> tuple[str, bool]:
        with pytest.raises(TrainingFailed) as failed:
            trained(asked, ranks)
        return str(failed.value), failed.value.begun

    (said, begun), other = on_ranks(2, run)
    step = 2 if moment == "a checkpoint" else 3
    parted = r"the ranks have different states: \w{64} on rank 0, \w{64} on rank 1"
    assert re.fullmatch(rf"{parted}; after step {step}, nothing is saved", said)
    assert begun
    assert other == ("", True)


@pytest.mark.clause("ARB-RANK-004", "ARB-TRAIN-004")
def test_a_full_disk_of_one_rank_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the same step; one of them says why."""
    asked = chosen(tmp_path, log_interval=2, steps=9, eval_interval=0)

    honest = append_whole

    def full(path: Path, data: bytes) -> None:
        if path.name == "metrics.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device", path.name)
        honest(path, data)

    monkeypatch.setattr(lines, "append_whole", full)
    steps = spy_on_steps(monkeypatch, loop.Trainer)

    def run(ranks: Ranks) -> str:
        with pytest.raises(TrainingFailed) as failed:
            trained(asked, ranks)
        return str(failed.value)

    said = on_ranks(2, run)
    assert said == ["metrics.jsonl: No space left on device; after step 2, nothing is saved", ""]
    assert sorted(steps) == [1, 1, 2, 2]


@pytest.mark.clause("ARB-RANK-004", "ARB-TRAIN-004")
def test_a_rank_without_memory_says_what_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that does not write: the checkpoint is that of all."""
    asked = chosen(tmp_path, save_interval=2, steps=9, eval_interval=0)
    honest = loop.Trainer._loss

    def fails(trainer: Any, *rest: Any, **named: Any) -> Any:
        if trainer.done == 3:
            raise MemoryError
        return honest(trainer, *rest, **named)

    monkeypatch.setattr(loop.Trainer, "_loss", fails)

    def run(ranks: Ranks) -> str:
        with pytest.raises(TrainingFailed) as failed:
            trained(asked, ranks)
        return str(failed.value)

    path = tmp_path / "runs" / "run" / CHECKPOINT
    said = f"out of memory; after step 3, {path} is that of step 2, from which --resume goes on"
    assert on_ranks(2, run) == [said] * 2


@pytest.mark.clause("ARB-RANK-004", "ARB-TRAIN-002")
def test_one_rank_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are, after the same step. With one folder and one lock, they go on to the state of one."""
    asked = chosen(tmp_path, steps=4, eval_interval=0)
    honest = loop.Trainer._goes_on

    def goes_on(trainer: Any, _: list[int]) -> bool:
        return bool(honest(trainer, [2] if trainer.ranks.rank == 1 and trainer.done == 2 else []))

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_goes_on", goes_on)
        results = on_ranks(2, lambda ranks: loop.train(asked, tasks.TextTask.of(asked), ranks))
    assert [(result.steps, result.interrupted) for result in results] == [(2, True)] * 2
    again = chosen(tmp_path, steps=4, eval_interval=0, resume=True)
    ends = on_ranks(2, lambda ranks: trained(again, ranks))
    alone = trained(chosen(tmp_path, steps=4, eval_interval=0, run="alone"), None)
    assert set(ends) == {alone}


# -- torchrun itself


def torchrun(*words: str, of: int = 2) -> subprocess.CompletedProcess[str]:
    call = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(of),
        *words,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.run(
        call, cwd=START, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


HASHES = """
import os, pathlib, sys
sys.path[0] = {root!r}
from arbitor.training import loop
from arbitor.training.commands import Command
honest = loop.Trainer.run
def run(self):
    result = honest(self)
    pathlib.Path({folder!r}, os.environ["RANK"]).write_text(loop.state_hash(self.learner.state()))
    return result
loop.Trainer.run = run
status = Command("a test").main()
tasks = pathlib.Path("/proc/self/task")
left = [name for task in tasks.iterdir() if "gloo" in (name := (task / "comm").read_text())]
sys.exit(status or "".join(left) or 0)
"""


@pytest.mark.clause("ARB-RANK-001")
@pytest.mark.parametrize("experts", [2, 8])
def test_experts_of_a_twin_over_gloo(tmp_path: Path, experts: int) -> None:
    """Two real processes: the hash of each, taken outside of what compares them. No thread of the group is
    left behind it, which could abort the process at its end."""
    (tmp_path / "script.py").write_text(HASHES.format(root=str(START), folder=str(tmp_path)))
    flags = ISSUE.replace("--experts 2", f"--experts {experts}").split()
    done = torchrun(str(tmp_path / "script.py"), *flags, "--runs", str(tmp_path), "--name", "a run")
    assert done.returncode == 0, done.stderr[-3000:]
    hashes = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    assert hashes[0] == hashes[1]
    assert load_checkpoint(tmp_path / "a run" / CHECKPOINT).digest == hashes[0]
    assert f"state sha256 {hashes[0]}\n" in done.stderr


SMALL = (
    "--d-model 16 --heads 2 --layers 1 --batch 2 --ctx 8 --steps 1 --eval-batches 1 --device cpu --threads 1"
)
WAYS = {
    "--name": ["training/pretrain.py", "--name"],
    "--run behind --": ["--", "training/pretrain.py", "--run"],
    "a module": ["-m", module_of("text.py"), "--name"],
}


@pytest.mark.parametrize("way", WAYS)
def test_torchrun_with_a_name(tmp_path: Path, way: str) -> None:
    """As docs/training.md has it. Without -- torchrun takes --run for its own --run-path, cut short."""
    if way != "a module" and not (START / "training").is_dir():
        pytest.skip("files of trainers are run in a checkout")
    done = torchrun(*WAYS[way], "shakespeare", *SMALL.split(), "--runs", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "shakespeare" / "config.json").read_bytes())["options"]["steps"] == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--stepz 3", "error: unrecognized arguments: --stepz 3 (--help shows what there is)"),  # on each
        ("--data no_such_file", "error: corpus 'no_such_file': "),  # on each, later
        ("--report /proc/x", "error: --report /proc/x cannot be written: "),  # on the one that writes
    ],
)
def test_three_ranks_say_it_once(tmp_path: Path, flags: str, said: str) -> None:
    """And each ends with status 2, before anything is written."""
    words = [*SMALL.replace("--batch 2", "--batch 3").split(), *flags.split()]
    done = torchrun("-m", module_of("pretrain.py"), *words, "--runs", str(tmp_path / "runs"), of=3)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith(said)
    assert "usage: pretrain" not in done.stderr
    statuses = re.findall(r"exitcode\s*: (-?\d+)", done.stderr)
    assert "2" in statuses
    assert set(statuses) <= {"2", "-15"}, "the first that ends has torchrun end the others"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_one_that_speaks_ends_first(
    rank: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a launcher ends it before it has spoken: the others wait, whatever they end for."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit) as ended:
        commandline.parse("a test", ["--stepz", "3"])
    assert (ended.value.code, refusal.refuse_once("it cannot be")) == (2, 2)
    said = capsys.readouterr().err
    if rank == "0":
        assert waited == []
        assert said.endswith("error: it cannot be\n")
    else:
        assert (waited, said) == ([refusal.SILENT] * 2, "")


def test_no_other_flag_is_one_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any trainer: torchrun refuses what begins like a flag of its own, wherever it stands."""
    from torch.distributed.run import get_args_parser

    found: set[str] = set()

    def collect(parser: Any, *_: Any) -> Any:
        found.update(parser._option_string_actions)
        raise KeyboardInterrupt

    monkeypatch.setattr(refusal.Parser, "parse_args", collect)
    for kind in ("text", "audio", "images", "diffusion"):
        with pytest.raises(KeyboardInterrupt):
            commandline.parse("a test", [], kind, finetuning=True)
    assert {"--run", "--name", "--data", "--samples", "--init", "--experts"} <= found
    taken = set()
    for flag in sorted(found - {"-h", "--help"}):
        try:
            given = get_args_parser().parse_args(["script.py", flag, "x"])
        except SystemExit:
            taken.add(flag)
        else:
            assert given.training_script_args == [flag, "x"]
    assert taken == {"--run"}
    assert len(trainers()) >= 8
