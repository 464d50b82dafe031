"""The trainers' command lines: both ways to call them, and what is refused, with nothing written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.training.launch import START
from arbitor.conformance.training.trainers import DATA, FOLDER, Runs, command, finetunes, module_of, trainers

BAD = {
    "no such file": ("--text-data no_such_file", "no_such_file"),
    "too little text": ("--ctx 5000", "at least 5001"),
    **{
        f"{flag} 0": (f"--{flag} 0", f"--{flag} must be at least 1")
        for flag in ("batch", "ctx", "steps", "accum")
    },
    "heads": ("--heads 3", "d_model must be a multiple"),
    "window 0": ("--window 0", "window must be at least 1"),
    "gain -1": ("--gain -1", "--gain must be in 0..64, got -1"),
    "gain nan": ("--gain nan", "--gain must be in 0..64, got nan"),
    "gain of almost 0": ("--gain 1e-6", "--gain is in steps of 1/65536, so 1e-06 would be 0"),
    "threshold 0": ("--accum-threshold 0", "--accum-threshold must be in 1..32"),
    "threshold 33": ("--accum-threshold 33", "--accum-threshold must be in 1..32"),
    "threshold 128": ("--e-accum-threshold 128", "--e-accum-threshold must be in 1..127"),
    "cooldown 0": ("--cooldown 0", "--cooldown must be in 1..100, got 0"),
    "cooldown 101": ("--cooldown 101", "--cooldown must be in 1..100, got 101"),
    "seed": ("--seed -1", "--seed must be in"),
    "backend": ("--backend trition", "unknown backend 'trition'"),
    "a stranger's": ("--backend no_such_package.x", "no module named 'no_such_package'"),
    "device": ("--device abacus", "abacus"),
    "threads": ("--threads 0", "positive"),
    "iterations 0": ("--max-moe-iters 0", "--max-moe-iters must be at least 1"),
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


IN_A_CHECKOUT = (START / "training").is_dir()
OF_TEXTS = {"no such file", "too little text", "ctx 0", "resume preserved"}
OF_AUDIO = {
    "no such sound": ("--audio-data no_such_file", "no_such_file"),
    "too little sound": ("--ctx 3000", "training and 48000 for validation"),
    "frames 0": ("--ctx 0", "--ctx must be at least 1"),
    "frame 0": ("--frame 0", "--frame must be at least 1"),
    "text for sound": ("--text-data a.txt", "unrecognized arguments: --text-data a.txt"),
    "sound that goes on": ("--preserve-state", "unrecognized arguments: --preserve-state"),
}
OF_IMAGES = {"fold 5": ("--fold 5", "argument --fold: invalid choice: 5 (choose from 0, 1, 2, 3, 4)")}


def cases() -> Iterator[tuple[str, str]]:
    """Every trainer with every case that is one for it."""
    for name in trainers():
        left_out = (OF_TEXTS if name in DATA else set()) | ({"lr", "heads"} if finetunes(name) else set())
        yield from ((name, case) for case in BAD if case not in left_out)
        if Path(name).stem == "audio":
            yield from ((name, case) for case in OF_AUDIO)
        if Path(name).stem in ("vision", "diffusion"):
            yield from ((name, case) for case in OF_IMAGES)


@pytest.mark.parametrize(("trainer", "case"), [*cases()])
def test_bad_input(
    runs: Runs, trainer: str, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one sentence that is one line, no traceback, and nothing written."""
    flags, message = (BAD | OF_AUDIO | OF_IMAGES)[case]
    assert runs(trainer, *flags.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("trainer", trainers())
def test_nothing_to_draw(runs: Runs, trainer: str) -> None:
    """A run that logs no loss ends well all the same, with its checkpoint and without a picture."""
    assert runs(trainer, "--log-interval", "0", "--eval-interval", "0") == 0
    written = {path.name for path in runs.path(trainer, ".").iterdir()}
    assert written - {"samples.png"} == {"config.json", "digests.jsonl", "checkpoint.safetensors"}


def assert_run(runs: Runs, trainer: str, status: int, shown: str) -> None:
    """The table at the end has the loss, and the whole hash; speed says what it counts."""
    assert status == 0, shown
    counted = {"audio": "codes", "vision": "images", "diffusion": "images"}
    assert f" {counted.get(Path(trainer).stem, 'bytes')}/s" in shown
    assert re.search(r"validation\W+\d+\.\d{4} (nats|squared error) a", shown)
    digest = load_checkpoint(runs.path(trainer, "checkpoint.safetensors")).digest
    assert digest in re.sub(r"[^0-9a-z]", "", shown.split("state sha256")[1])


@pytest.mark.skipif(not IN_A_CHECKOUT, reason="files of trainers are run in a checkout")
@pytest.mark.parametrize("trainer", trainers())
def test_called_as_a_file(runs: Runs, trainer: str) -> None:
    done = command(str(FOLDER / trainer), *runs.flags(trainer))
    assert_run(runs, trainer, done.returncode, done.stderr)


@pytest.mark.parametrize("trainer", trainers())
def test_called_as_a_module(runs: Runs, trainer: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process but for two: an interpreter takes seconds to start."""
    if trainer in ("pretrain.py", "finetuning/text.py"):
        done = command("-m", module_of(trainer), *runs.flags(trainer))
        assert_run(runs, trainer, done.returncode, done.stderr)
    else:
        assert_run(runs, trainer, runs.as_module(trainer), capsys.readouterr().err)


@pytest.mark.clause("ARB-RUN-009", "ARB-RUN-010")
@pytest.mark.parametrize("package", ["arbitor.training", *(["training"] if IN_A_CHECKOUT else [])])
def test_the_door_to_the_runtime(package: str) -> None:
    """Importable from the checkout's root by the short name too, and the very functions of arbitor."""
    code = (
        f"from {package}.ternary_runtime import configure_ternary_training, reset_runtime_state\n"
        "import arbitor.runtime as runtime\n"
        "assert configure_ternary_training is runtime.configure_ternary_training\n"
        "assert reset_runtime_state is runtime.reset_runtime_state\n"
    )
    done = command("-c", code)
    assert done.returncode == 0, done.stderr
