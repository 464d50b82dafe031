"""`arbitor sample` as a command: what it writes where, and what it refuses before anything is written."""

from __future__ import annotations

import signal
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor import sample as module
from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.cli import main
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import hash_of
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.sampled import OPTIONS, greedy, model, run, saved
from arbitor.conformance.training.trainers import FOLDER, Runs
from arbitor.judge.suite import find_suite
from arbitor.main import ARBConfig, ARBModel
from arbitor.sample import decoded, load_model, model_config
from arbitor.training import learners
from arbitor.training.options import Options
from arbitor.training.recording import run_folder

pytestmark = pytest.mark.usefixtures("one_thread")


def process(*words: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, which hears SIGINT even if the suite, in the background, does
    not."""
    path = f"import sys; sys.path.insert(0, {str(find_suite().parent)!r})"
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{path}; {heard}; from arbitor.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "sample", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_terminal_gets_no_commands(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe gets the text as it is."""
    noise = b"a\x1b[2J\x07\tb\r\n\xc2\x9b\x7f"
    monkeypatch.setattr(module, "generate", lambda *_: iter(noise))
    path = saved(tmp_path / "c", target)
    assert run(target, path) == 0
    assert capsys.readouterr().out == noise.decode() + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run(target, path) == 0
    shown = capsys.readouterr().out
    assert shown == "a\ufffd[2J\ufffd\tb\ufffd\n\ufffd\ufffd\n"
    assert {c for c in shown if unicodedata.category(c) == "Cc"} == {"\t", "\n"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bytes", "0"], "--bytes must be at least 1, got 0"),
        (["--temperature", "-0.1"], "--temperature must be a finite number, 0 or more, got -0.1"),
        (["--temperature", "nan"], "0 or more, got nan"),
        (["--temperature", "inf"], "0 or more, got inf"),
        (["--top-k", "0"], "--top-k must be in 1..256, got 0"),
        (["--top-k", "257"], "--top-k must be in 1..256, got 257"),
        (["--seed", "-1"], "--seed must be in 0..2^64-1, got -1"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--backend", "nonsense"], "unknown backend 'nonsense'"),
    ],
)
def test_flags_that_are_refused(
    target: Target, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(run(target, saved(tmp_path / "c", target), *words), message, capsys)


def test_no_cuda(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for, it is there or that is said; "auto" goes without."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = saved(tmp_path / "c", target)
    where = ["--backend", target.backend.name, "--device"]
    refused(main(["sample", str(path), *where, "cuda"]), "torch sees no CUDA device", capsys)
    if target.device == "cpu":
        assert main(["sample", str(path), *where, "auto", "--bytes", "1"]) == 0


@pytest.mark.clause("ARB-TRAIN-004")
def test_files_that_are_refused(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "c", target)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    refused(run(target, path), f"{path}: truncated", capsys)
    assert whole[-1] != 0  # four trits of the last row; 0 is four others
    path.write_bytes(whole[:-1] + b"\0")
    refused(run(target, path), f"{path}: altered", capsys)
    path.write_bytes(b"To be, or not to be")
    refused(run(target, path), f"{path}: not a safetensors file", capsys)
    refused(run(target, tmp_path / "gone"), "gone: there is no such file", capsys)
    refused(run(target, tmp_path), "cannot be read", capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "ste"}, "c: a checkpoint of the ste baseline, expected one of a ternary model"),
        ({"d_model": None}, "c: its options.d_model is None, expected an integer, 1 or more"),
        ({"layers": True}, "c: its options.layers is True"),
        ({"heads": 3}, "c: d_model must be a multiple of 2 * heads"),
        ({"seed": "0"}, "c: its options.seed is '0', expected an integer, 0 or more"),
        ({"layers": 1}, "tensors are not those of its options: matrix 5 of them is 288 x 16, the file has"),
        ({"d_model": 32}, "matrix 0 of them is 288 x 32, the file has embedding, 288 x 16"),
    ],
)
def test_configurations_that_are_refused(
    target: Target, options: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(run(target, saved(tmp_path / "c", target, **options)), message, capsys)


def test_checkpoints_of_others(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "c", model(target).state_dict(), {"mine": 1}, 0)
    refused(run(target, tmp_path / "c"), "c: its config has no options", capsys)


@pytest.mark.parametrize("flags", [*((flag,) for flag in ARBModel.FLAGS), ARBModel.FLAGS])
def test_other_modalities(
    target: Target, flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said which they are; their tensors are no list of names."""
    names = {"enable_vision": "images", "enable_audio": "audio", "enable_diffusion": "diffusion"}
    given: dict[str, Any] = dict.fromkeys(flags, True)
    state = ARBModel(model_config({"options": OPTIONS}), backend=target.backend.name, **given).state_dict()
    save_checkpoint(tmp_path / "c", state, {"options": OPTIONS}, 4)
    found = " and ".join(f"{names[flag]} ({flag})" for flag in flags)
    message = f"c: a checkpoint of a model with {found}, and sample writes text only"
    refused(run(target, tmp_path / "c"), message, capsys)


def test_configurations_are_those_of_the_trainers() -> None:
    """Read from what a trainer writes, the shape is what the trainer made of its flags."""
    every: tuple[dict[str, Any], ...] = (
        {},
        {"d_model": 96, "layers": 3, "heads": 6, "group_size": 32, "seed": 2**63, "window": 17},
        {"experts": 3, "top_k": 1, "max_moe_iters": 2},
        {"preserve_state": True, "ctx": 11},
        {"preserve_state": True, "ctx": 11, "window": 17},
    )
    for flags in every:
        chosen = Options(**flags)
        expected: ARBConfig = learners.model_config(chosen)
        assert model_config({"options": chosen.identity()}) == expected


@pytest.mark.clause("ARB-MODEL-003")
def test_checkpoints_of_the_trainers(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written by one, with KV state in use, in both formats; a float twin's is refused."""
    monkeypatch.setattr(run_folder.RunFolder, "plot", lambda *_: None)  # takes longer than all else here
    runs = Runs(target, tmp_path, monkeypatch)
    trainer = "pretrain.py"
    assert (FOLDER / trainer).is_file()
    path = runs.path(trainer, "checkpoint.safetensors")
    for flags in (["--preserve-state"], ["--checkpoint-format", "dense"]):
        assert runs(trainer, *flags) == 0
        found = load_model(path, target.backend.name, target.device)
        assert hash_of(found) == load_checkpoint(path).digest
        capsys.readouterr()
        assert run(target, path, "--temperature", "0", "--bytes", "12") == 0
        assert capsys.readouterr().out == "".join(decoded(greedy(found, b"\n", 12))) + "\n"
    assert runs(trainer, "--baseline", "float") == 0
    capsys.readouterr()
    refused(run(target, path), "a checkpoint of the float baseline", capsys)


def test_interrupted_and_unread(target: Target, tmp_path: Path) -> None:
    """Text is there while more is written; Ctrl-C ends it with a newline, a closed pipe without a word."""
    path = saved(tmp_path / "c", target, window=5)
    endless = [str(path), "--bytes", str(10**9), "--backend", "torch", "--device", "cpu"]
    with process(*endless) as interrupted, process(*endless) as unread:
        for found in (interrupted, unread):
            assert found.stdout is not None
            assert len(found.stdout.read(1)) == 1
        interrupted.send_signal(signal.SIGINT)
        text, complaint = interrupted.communicate(timeout=60)
        assert (interrupted.returncode, text[-1:], complaint) == (130, b"\n", b"")
        assert unread.stdout is not None
        assert unread.stderr is not None
        unread.stdout.close()
        assert (unread.wait(timeout=60), unread.stderr.read()) == (141, b"")


def test_a_full_disk(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and nothing is left in a buffer that would complain later."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    path = saved(tmp_path / "c", target)
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        status = run(target, path, "--bytes", "3")
    refused(status, "stdout cannot be written: No space left on device", capsys)
