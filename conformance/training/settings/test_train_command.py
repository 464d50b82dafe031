"""`arbitor train` and `arbitor finetune`: the trainers' files by another name, and help without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from arbitor.checkpoint import load_checkpoint
from arbitor.cli import main
from arbitor.conformance.training.launch import START
from arbitor.conformance.training.trainers import CHECKPOINT, FOLDER, Runs, command
from arbitor.training.commands import COMMANDS, PRETRAIN
from arbitor.training.options import Options

KINDS = [(name, kind) for name, (_, kinds) in COMMANDS.items() for kind in kinds]
HEAVY = ("torch", "numpy", "rich", "safetensors")
# runs a module with what follows as its command line, and says what is loaded then
LOADED = """
import json, runpy, sys
name, *sys.argv[1:] = json.loads(sys.argv[1])
status = 0
try:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
except SystemExit as ended:
    status = ended.code
print(json.dumps([status, [module for module in sys.modules if "." not in module]]))
"""


def file_of(name: str, kind: str) -> str:
    """The trainer's file below training/."""
    return f"finetuning/{kind}.py" if name == "finetune" else f"{kind}.py"


def loaded(*words: str) -> tuple[int, set[str], str]:
    """Exit status, top-level modules that are loaded in the end, and what is shown."""
    call = [sys.executable, "-c", LOADED, json.dumps(words)]
    done = subprocess.run(call, cwd=START, capture_output=True, text=True, check=True)
    *shown, last = done.stdout.splitlines()
    status, modules = json.loads(last)
    return status, set(modules), "\n".join(shown) + done.stderr


@pytest.mark.parametrize(
    ("words", "status", "shown"),
    [
        (("arbitor", "--help"), 0, "train on from the checkpoint"),
        (("arbitor", "train", "--help"), 0, "usage: arbitor train "),
        (("arbitor", "finetune", "--help"), 0, "usage: arbitor finetune "),
        *((("arbitor", *words, "--help"), 0, f"usage: arbitor {' '.join(words)} ") for words in KINDS),
        (("arbitor.training.text", "--help"), 0, "Train ARBModel on text."),
        (("arbitor.training.pretrain", "--help"), 0, "Pretrain ARBModel on bytes."),
        (("arbitor.training.finetuning.audio", "--help"), 0, "--init CHECKPOINT"),
        (("arbitor", "train", "text", "--heads", "0"), 2, "--heads must be at least 1, got 0"),
        (("arbitor", "finetune", "text"), 2, "--init CHECKPOINT is required"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("one_lane")
def test_answers_without_torch(words: tuple[str, ...], status: int, shown: str) -> None:
    """Help, and what can be refused by the words alone: torch takes seconds."""
    found, modules, said = loaded(*words)
    assert found == status, said
    assert shown in said
    assert {"arbitor", "argparse"} <= modules
    assert not set(HEAVY) & modules


@pytest.mark.usefixtures("one_lane")
def test_torch_would_be_seen() -> None:
    """A run loads it: so that the test above can fail."""
    _, modules, _ = loaded("arbitor", "train", "text", "--text-data", "no_such_file", "--no-save")
    assert set(HEAVY) <= modules


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_the_command_is_the_file(
    runs: Runs, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Small runs with the same flags end in the same state; both name their runs after the file."""
    trainer = file_of(name, kind)
    assert runs(trainer, "--run", "file") == 0
    assert main([name, kind, *runs.flags(trainer), "--run", "command"]) == 0
    ends = [load_checkpoint(runs.folder / run / CHECKPOINT) for run in ("file", "command")]
    assert ends[0].digest == ends[1].digest
    assert ends[0].config["options"] == ends[1].config["options"]
    _, kinds = COMMANDS[name]
    default = kinds[kind].defaults["run"]
    assert default == trainer.removesuffix(".py").replace("/", "-")
    assert f"tensors taken from {runs.init}" in capsys.readouterr().err or name == "train"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: KIND"),
        (["--steps", "3"], "the following arguments are required: KIND"),
        (["sound"], "argument KIND: invalid choice: 'sound' (choose from"),
        (["text", "--image-side", "3"], "unrecognized arguments: --image-side 3"),
        (["text", "--stepz", "3"], "unrecognized arguments: --stepz 3"),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_bad_words(name: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, *words])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {said}")
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_defaults_are_fields_of_the_options() -> None:
    """And every trainer has a run of its own name."""
    every = [PRETRAIN, *(kind for _, kinds in COMMANDS.values() for kind in kinds.values())]
    assert all(set(each.defaults) <= set(vars(Options())) for each in every)
    assert len({each.defaults["run"] for each in every}) == len(every)


@pytest.mark.skipif(not (START / "training").is_dir(), reason="this needs a checkout")
@pytest.mark.parametrize("way", [("-m", "training.pretrain"), (str(FOLDER / "pretrain.py"),)], ids=["-m", ""])
def test_from_the_root_of_a_checkout(runs: Runs, way: tuple[str, ...]) -> None:
    """By the short name too: it is a door to arbitor.training."""
    done = command(*way, *runs.flags("pretrain.py"))
    assert done.returncode == 0, done.stderr
    assert Path(runs.path("pretrain.py", CHECKPOINT)).is_file()
