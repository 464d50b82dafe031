"""What need not be said again: a run that goes on has its settings and its data from its checkpoint, a
finetuning its shape. What is said and differs is refused, with every file as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arbitor.checkpoint import load_checkpoint, read_head, save_checkpoint
from arbitor.conformance.training.started import Started, lines
from arbitor.conformance.training.trainers import CHECKPOINT
from arbitor.main import ARBConfig, ARBModel
from arbitor.training import loop
from arbitor.training.commands import FINETUNE, TRAIN, Command
from arbitor.training.options import Options

pytestmark = pytest.mark.usefixtures("one_lane", "no_picture")
# none of these is a trainer's default
ODD = [
    *("--seed", "3", "--gain", "2.5", "--accum-threshold", "2", "--group-size", "8", "--window", "5"),
    *("--cooldown", "30", "--eval-interval", "3", "--vote-max", "9", "--experts", "2", "--top-k", "1"),
    *("--balance", "0.5"),
]
WHERE = ["--backend", "torch", "--device", "cpu", "--threads", "1"]


@pytest.fixture
def killed(started: Started) -> Started:
    """A run `run` that was killed after its checkpoint of step 4, and `whole`, which was not."""
    assert started(*ODD, "--run", "whole") == 0
    honest = loop.Trainer._step

    def step(trainer: Any) -> None:
        if trainer.done == 5:
            raise KeyboardInterrupt
        honest(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            started(*ODD)
    return started


def resumed(started: Started, *flags: str, command: Command = TRAIN["text"]) -> int:
    """With nothing said of the run but its name."""
    try:
        return command.main([*WHERE, "--runs", str(started.runs), "--run", "run", "--resume", *flags])
    except SystemExit as ended:
        return int(ended.code or 0)


def refusal(started: Started, *flags: str, command: Command = TRAIN["text"]) -> str:
    """The one sentence of a resumption that is refused; nothing on disk is another."""
    before = started.contents()
    started._capsys.readouterr()
    assert resumed(started, *flags, command=command) == 2
    said = started._capsys.readouterr().err
    assert (said.count("\n"), said.startswith("error: ")) == (1, True), said
    assert started.contents() == before
    return said.removeprefix("error: ").rstrip("\n")


def assert_as_whole(started: Started) -> None:
    ends = [load_checkpoint(started.path(name=name)) for name in ("whole", "run")]
    assert (ends[0].digest, ends[0].step) == (ends[1].digest, ends[1].step)
    assert lines(started, "whole") == lines(started, "run")


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("command", [TRAIN["text"], FINETUNE["text"]])
def test_nothing_is_said_again(killed: Started, command: Command) -> None:
    """Neither settings nor data; a run is a run, whichever command began it."""
    assert resumed(killed, command=command) == 0
    assert_as_whole(killed)


@pytest.mark.clause("ARB-TRAIN-002")
def test_what_is_said_again(killed: Started) -> None:
    assert resumed(killed, "--seed", "3", "--vote-max", "9", "--data", str(killed.text)) == 0
    assert_as_whole(killed)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--seed 0", "options.seed is 3 in the run, 0 was asked for"),  # the default, but it was said
        ("--d-model 128", "options.d_model is 16 in the run, 128 was asked for"),
        ("--baseline ste", "options.baseline is None in the run, 'ste' was asked for"),
        # which do not go together with its 2 experts
        ("--accumulate exact", "options.accumulate is 'updates' in the run, 'exact' was asked for"),
        ("--top-k 2", "options.top_k is 1 in the run, 2 was asked for"),
        ("--steps 7 --seed 0", "options.steps is 6 in the run, 7 was asked for (a run cannot be made longer"),
    ],
)
def test_what_is_said_and_differs(killed: Started, flags: str, said: str) -> None:
    found = refusal(killed, *flags.split())
    assert found.startswith(f"{killed.runs / 'run'} was started with other settings: options.")
    assert said in found
    assert found.count(" was asked for") == len(flags.split()) // 2


@pytest.mark.clause("ARB-TRAIN-002")
def test_options_that_go_together_with_those_of_the_run(started: Started) -> None:
    """7 steps are no multiple of a default, 600 steps are none of 7."""
    flags = ["--accumulate", "exact", "--accum", "7", "--steps", "7", "--save-interval", "0"]
    assert started(*flags) == 0
    assert resumed(started, "--accumulate", "exact") == 0
    assert resumed(started, "--accum", "7") == 0


@pytest.mark.clause("ARB-TRAIN-002")
def test_data_that_were_moved(killed: Started) -> None:
    """They are what is in them: another place is said, and known from then on."""
    place = killed.folder / "moved" / killed.text.name
    place.parent.mkdir()
    killed.text.rename(place)
    said = f"the data of {killed.runs / 'run'} were at {str(killed.text)!r}, and there is nothing there: "
    assert refusal(killed) == f"{said}give --data with their place"
    assert resumed(killed, "--data", str(place)) == 0
    assert_as_whole(killed)
    assert read_head(killed.path())[0]["options"]["text_data"] == str(place)
    assert resumed(killed) == 0


@pytest.mark.clause("ARB-TRAIN-002")
def test_other_data(killed: Started) -> None:
    """In the place of the run's, in another one, and none where it had some."""
    other = killed.folder / "other.txt"
    other.write_text("another text; " * 90)
    assert "corpus.name is 'text.txt' in the run, 'other.txt' was asked for" in refusal(
        killed, "--data", str(other)
    )
    killed.text.write_text("another text; " * 90)
    assert "was started with other settings: corpus.sha256 is " in refusal(killed)


def spoil(started: Started, **changes: Any) -> None:
    """Other options in a checkpoint that is whole."""
    found = load_checkpoint(started.path())
    config = found.config | {"options": found.config["options"] | changes}
    save_checkpoint(started.path(), found.tensors, config, found.step)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": "many"}, "{}: its options.steps is 'many', expected int"),
        ({"steps": True}, "{}: its options.steps is True, expected int"),
        ({"window": 2.5}, "{}: its options.window is 2.5, expected int or null"),
        ({"gain": None}, "{}: its options.gain is None, expected float"),
        ({"text_data": 3}, "{}: its options.text_data is 3, expected str or null"),
        ({"heads": 0}, "--heads must be at least 1, got 0"),
        ({"cooldown": 60.0}, "{}: its options.cooldown is 60.0, expected int"),
        ({"cooldown": 0}, "--cooldown must be in 1..100, got 0"),
        ({"accum_threshold": 33}, "--accum-threshold must be in 1..32, got 33"),
        ({"vote_rule": "nearest"}, "--vote-rule must be one of scaled, sign, adaptive, got 'nearest'"),
        (
            {"preserve_state": True},
            "--resume cannot go on from --preserve-state: KV state is in no che",
        ),
        ({"top_k": 3}, "--top-k must be in 1..experts, got 3 of 2 experts"),
    ],
)
def test_a_checkpoint_with_options_that_no_flag_gives(
    killed: Started, changes: dict[str, Any], said: str
) -> None:
    spoil(killed, **changes)
    assert refusal(killed).startswith(said.format(killed.path()))


def test_a_checkpoint_of_something_else(killed: Started) -> None:
    found = load_checkpoint(killed.path())
    save_checkpoint(killed.path(), found.tensors, {"layers": 1}, 4)
    said = "its config has no options, so it is not a checkpoint of the trainers"
    assert refusal(killed) == f"{killed.path()}: {said}"


SHAPE: dict[str, Any] = {"d_model": 24, "layers": 3, "heads": 3, "group_size": 8, "window": 6, "frame": 5}
SMALL = [*WHERE, "--steps", "1", "--batch", "2", "--ctx", "4", "--eval-batches", "1"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a model with nothing of a default; it writes text only, so that its frame means nothing."""
    return saved(tmp_path / CHECKPOINT)


def saved(path: Path, **flags: Any) -> Path:
    model = ARBModel(ARBConfig(**SHAPE, seed=5), backend="torch", **flags)
    save_checkpoint(path, model.state_dict(), {"options": Options().identity() | SHAPE}, 3)
    return path


def finetuned(kind: str, init: Path, folder: Path, *flags: str) -> dict[str, Any]:
    """The options of a run that starts from a checkpoint."""
    where = ["--init", str(init), "--runs", str(folder), "--run", "run"]
    small = SMALL if kind in ("text", "audio") else [word for word in SMALL if word not in ("--ctx", "4")]
    assert FINETUNE[kind].main([*small, *where, *flags]) == 0
    options: dict[str, Any] = read_head(folder / "run" / CHECKPOINT)[0]["options"]
    return options


@pytest.mark.clause("ARB-MODEL-004")
@pytest.mark.parametrize("kind", FINETUNE)
def test_a_shape_is_taken(checkpoint: Path, tmp_path: Path, kind: str, started: Started) -> None:
    """All that the tensors say and the window; the parts that a text model lacks have their defaults."""
    options = finetuned(kind, checkpoint, tmp_path / "runs")
    expected = SHAPE | {"frame": Options().frame}
    assert {name: options[name] for name in expected} == expected
    of_text = len([name for name in read_head(checkpoint)[1] if not name.endswith("_extra_state")])
    assert f"{of_text} of " in started._capsys.readouterr().err


def test_a_frame_is_taken_from_a_model_that_has_one(checkpoint: Path, tmp_path: Path) -> None:
    saved(checkpoint, enable_audio=True)
    assert finetuned("audio", checkpoint, tmp_path / "runs")["frame"] == 5


def test_what_no_tensor_says_may_be_another(checkpoint: Path, tmp_path: Path) -> None:
    options = finetuned("audio", checkpoint, tmp_path / "runs", "--window", "3", "--frame", "8")
    assert (options["window"], options["frame"], options["d_model"]) == (3, 8, 24)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--d-model 128", "d_model is 24 in it, --d-model 128 was asked for"),
        (
            "--layers 2 --group-size 16",
            "layers is 3 in it, --layers 2 was asked for; group_size is 8 in it",
        ),
        ("--experts 4", "experts is 0 in it, --experts 4 was asked for"),
        ("--frame 16", "frame is 5 in it, --frame 16 was asked for"),
    ],
)
def test_another_shape_is_refused(checkpoint: Path, started: Started, flags: str, said: str) -> None:
    """Also where it is the trainer's default: it was said."""
    saved(checkpoint, enable_audio=True)
    words = [*SMALL, "--init", str(checkpoint), "--runs", str(started.runs)]
    started._capsys.readouterr()
    assert FINETUNE["audio"].main([*words, *flags.split()]) == 2
    found = started._capsys.readouterr().err
    assert found.startswith(f"error: {checkpoint} has a model of another shape: {said}")
    assert found.count("\n") == 1
    assert not started.runs.exists()


def test_a_head_is_read_without_the_tensors(checkpoint: Path) -> None:
    """Damage there is seen by who reads them."""
    data = checkpoint.read_bytes()
    whole = load_checkpoint(checkpoint)
    checkpoint.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert read_head(checkpoint) == (whole.config, frozenset(whole.tensors))
    checkpoint.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="truncated: "):
        read_head(checkpoint)


def test_the_shape_has_no_default() -> None:
    """So that the tests above can fail."""
    assert all(getattr(Options(), name) != value for name, value in SHAPE.items())
