"""Finetuning: what is taken over from a checkpoint, bit for bit, what stays the new model's, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, state_hash
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import backward, bytes_of, loss_of
from arbitor.conformance.training.trainers import CHECKPOINT, Runs
from arbitor.main import ARBConfig, ARBModel
from arbitor.runtime import configure_ternary_training
from arbitor.training import loop
from arbitor.training.transfer import take_over
from arbitor.update import ternary_modules

EXTRA = "_extra_state"
QUICK: dict[str, Any] = {"accum_threshold": 2, "e_accum_threshold": 2, "scale_gain": 1 << 16}
OPTIONS: dict[str, Any] = {"d_model": 16, "layers": 1, "heads": 2, "baseline": None}
ILLEGAL = 100  # no exponent of a model
pytestmark = pytest.mark.usefixtures("one_thread", "no_picture")


def model(target: Target, seed: int = 0, layers: int = 1, **flags: Any) -> ARBModel:
    made = ARBModel(ARBConfig(16, layers, 2, frame=4, seed=seed), backend=target.backend.name, **flags)
    configure_ternary_training(made, **QUICK)
    return made.to(target.device)


def step(made: ARBModel, target: Target, number: int = 0) -> None:
    """One update."""
    backward(loss_of(made, bytes_of(target, 8, 9, seed=number, high=32)))
    made._ternary_update_memory(loss_signal=1.0)


def trained(target: Target, seed: int = 7) -> ARBModel:
    """With votes, exponents and counters that are no longer the initial ones."""
    made = model(target, seed)
    for number in range(3):
        step(made, target, number)
    return made


@pytest.fixture
def checkpoint(target: Target, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / CHECKPOINT, trained(target).state_dict(), {"options": OPTIONS}, 3)
    return tmp_path / CHECKPOINT


@pytest.mark.clause("ARB-STATE-001", "ARB-MODEL-004")
@pytest.mark.parametrize(
    "flags", [{}, {"enable_audio": True}, {"enable_vision": True, "enable_diffusion": True}]
)
def test_what_is_taken_and_what_stays(target: Target, checkpoint: Path, flags: dict[str, bool]) -> None:
    """The text path is the checkpoint's, all else a fresh model's; the checkpoint differs in every kind."""
    given, fresh = load_checkpoint(checkpoint).tensors, model(target, **flags).state_dict()
    started = model(target, **flags)
    taken = take_over(started, checkpoint)
    expected = {name for name in given if not name.endswith(EXTRA)}
    assert set(taken.names) == expected
    assert taken.total == sum(not name.endswith(EXTRA) for name in fresh)
    assert taken.digest == load_checkpoint(checkpoint).digest
    for name, tensor in started.state_dict().items():
        assert torch.equal(tensor, given[name].to(tensor.device) if name in expected else fresh[name]), name
    kinds = {name.rsplit(".", 1)[1] for name in expected if not torch.equal(given[name], fresh[name].cpu())}
    assert kinds == {"codes", "t_accum", "e", "e_accum", "corr_accum", "moment", "step_counter"}
    assert len(fresh) == len(given) or not flags or taken.total > len(taken.names)


@pytest.mark.clause("ARB-RNG-002", "ARB-RNG-005")
def test_random_streams_are_the_new_models(target: Target, checkpoint: Path) -> None:
    """Not those of the run that is gone on from: seed, numbers of tensors, and updates from 0. A step from
    there is that of a model with the same state that never saw the checkpoint."""
    started, by_hand = model(target, seed=3), model(target, seed=3)
    take_over(started, checkpoint)
    given = load_checkpoint(checkpoint).tensors
    numbers = {name: (m.seed, m.tensor_id, m.updates) for name, m in ternary_modules(started).items()}
    assert numbers == {name: (3, place, 0) for place, name in enumerate(numbers)}
    assert {int(tensor[4]) for name, tensor in given.items() if name.endswith(EXTRA)} == {3}
    for name, module in ternary_modules(by_hand).items():
        for part, tensor in module.state().items():
            tensor.copy_(given[f"{name}.{part}"])
    for one in (started, by_hand):
        step(one, target)
    assert state_hash(started.state_dict()) == state_hash(by_hand.state_dict())
    gone_on = model(target, seed=3)
    gone_on.load_state_dict({name: tensor.to(target.device) for name, tensor in given.items()})
    step(gone_on, target)
    parts = [{n: t for n, t in m.state_dict().items() if not n.endswith(EXTRA)} for m in (started, gone_on)]
    assert state_hash(parts[0]) != state_hash(parts[1]), "other random bits"


def test_a_deeper_model_takes_what_there_is(target: Target, checkpoint: Path) -> None:
    started, fresh = model(target, layers=2), model(target, layers=2).state_dict()
    names = set(take_over(started, checkpoint).names)
    assert {name.split(".")[0] for name in names} == {"embedding", "blocks", "head"}
    assert not any(name.startswith("blocks.1.") for name in names)
    assert all(torch.equal(t, fresh[n]) for n, t in started.state_dict().items() if n.startswith("blocks.1."))


@pytest.mark.clause("ARB-STATE-006")
def test_a_matrix_is_taken_whole_or_not_at_all(target: Target, checkpoint: Path) -> None:
    """One array of the head is of another shape, another matrix has another band of exponents."""
    tensors = load_checkpoint(checkpoint).tensors
    tensors["head.e_accum"] = torch.zeros(288, 2, dtype=torch.int8)
    tensors[f"blocks.0.up.{EXTRA}"][0] += 1
    save_checkpoint(checkpoint, tensors, {"options": OPTIONS}, 3)
    started, fresh = model(target), model(target).state_dict()
    names = {name.rsplit(".", 1)[0] for name in take_over(started, checkpoint).names}
    assert {"head", "blocks.0.up"} & names == set()
    assert {"embedding", "blocks.0.down"} <= names
    assert torch.equal(started.state_dict()["head.codes"], fresh["head.codes"])


@pytest.mark.clause("ARB-STATE-006", "ARB-TRAIN-004")
def test_illegal_state_changes_nothing(target: Target, checkpoint: Path) -> None:
    tensors = load_checkpoint(checkpoint).tensors
    tensors["head.e"][5, 0] = ILLEGAL
    save_checkpoint(checkpoint, tensors, {"options": OPTIONS}, 3)
    started = model(target)
    before = state_hash(started.state_dict())
    with pytest.raises(CheckpointError, match=r"head\.e\[5, 0\] = 100, expected"):
        take_over(started, checkpoint)
    assert state_hash(started.state_dict()) == before


def spoiled(case: str, path: Path) -> None:
    """Make the checkpoint at `path` what the case says."""
    data, found = path.read_bytes(), load_checkpoint(path)
    options = dict(found.config["options"])
    if case == "truncated":
        path.write_bytes(data[:-1])
    elif case == "tampered":
        start = 8 + int.from_bytes(data[:8], "little")  # of the tensors, behind the header
        path.write_bytes(data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])
    elif case == "no checkpoint":
        path.write_bytes(b"nonsense")
    elif case == "a baseline's":
        save_checkpoint(
            path, {"head.weight": torch.zeros(2, 2)}, {"options": options | {"baseline": "ste"}}, 3
        )
    elif case == "another's":
        save_checkpoint(path, found.tensors, {"layers": 1}, 3)
    elif case == "nothing in common":
        save_checkpoint(path, {"elsewhere.codes": found.tensors["head.codes"]}, {"options": options}, 3)
    else:
        path.unlink()


REFUSED = {
    "truncated": "truncated: ",
    "tampered": "altered: the tensors hash to",
    "no checkpoint": "not a safetensors file",
    "a baseline's": "a checkpoint of the ste baseline, expected one of a ternary model",
    "another's": "its config has no options, so it is not a checkpoint of the trainers",
    "nothing in common": "none of its tensors has the name and the shape of one of the model",
    "gone": "there is no such file",
}
FLAGS = {
    "--d-model 32": "d_model is 16 in it, --d-model 32 was asked for",
    "--heads 4": "heads is 2 in it, --heads 4 was asked for",
    "--group-size 8": "none of its tensors has the name and the shape",  # its options say nothing of it
    "--baseline ste": "--init and --baseline exclude each other",
    "--resume": "--init and --resume exclude each other",
}


def assert_refused(status: int, message: str, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert message in err.strip().splitlines()[-1]
    assert "Traceback" not in err
    assert not runs.folder.exists(), "nothing is written"


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("trainer", ["finetuning/text.py", "finetuning/audio.py"])
@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused(
    runs: Runs, checkpoint: Path, trainer: str, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoiled(case, checkpoint)
    assert_refused(runs(trainer, "--init", str(checkpoint)), REFUSED[case], runs, capsys)


@pytest.mark.parametrize("trainer", ["finetuning/text.py", "finetuning/audio.py"])
@pytest.mark.parametrize("flags", FLAGS)
def test_flags_that_are_refused(
    runs: Runs, trainer: str, flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(runs(trainer, *flags.split(), "--init", str(runs.init)), FLAGS[flags], runs, capsys)


def test_a_checkpoint_is_required(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(runs.bare("finetuning/text.py"), "--init CHECKPOINT is required", runs, capsys)
    assert_refused(runs("text.py", "--init", "x"), "unrecognized arguments: --init x", runs, capsys)


@pytest.mark.clause("ARB-TRAIN-002")
def test_a_run_says_what_it_took_and_goes_on(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finetuning that is killed and resumed, without --init, ends as one that was not."""
    trainer, flags = "finetuning/audio.py", ["--steps", "4", "--save-interval", "2"]
    assert runs(trainer, *flags, "--run", "whole") == 0
    total = len([name for name in load_checkpoint(runs.init).tensors if not name.endswith(EXTRA)])
    own = 2 * 5  # two matrices for sound, each of five arrays
    assert f"{total} of {total + own} tensors taken from {runs.init}" in capsys.readouterr().err
    honest = loop.Trainer._step

    def killed(self: Any) -> None:
        if self.done == 3:
            raise KeyboardInterrupt
        honest(self)

    monkeypatch.setattr(loop.Trainer, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        runs(trainer, *flags, "--run", "killed")
    monkeypatch.setattr(loop.Trainer, "_step", honest)
    assert runs(trainer, *flags, "--run", "killed", "--resume") == 0
    whole, resumed = (load_checkpoint(runs.folder / name / CHECKPOINT) for name in ("whole", "killed"))
    assert whole.digest == resumed.digest
    assert whole.config["init"] == resumed.config["init"] == load_checkpoint(runs.init).digest
