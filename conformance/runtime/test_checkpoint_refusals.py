"""An older, a truncated and a tampered checkpoint: one clear sentence from whoever is given it, and nothing
is changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from arbitor.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from arbitor.cli import main
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import hash_of
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.training.trainers import SIZE, Runs, initial_checkpoint
from arbitor.main import ARBConfig, ARBModel
from arbitor.sample import model_config
from arbitor.training import transfer
from arbitor.training.commands import Command

Damage = Callable[[bytes], bytes]


def header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def flipped(data: bytes, at: int) -> bytes:
    """The same with the lowest bit of one byte turned over."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def flipped_in(key: str) -> Damage:
    """The first character of a value in the metadata turned over."""
    return lambda data: flipped(data, data.index(f'"{key}":"'.encode()) + len(key) + 4)


def with_metadata(**changes: str | None) -> Damage:
    """Written by another version of arbitor: other metadata (None takes one out), and a seal that fits."""

    def rewritten(data: bytes) -> bytes:
        header = json.loads(data[8 : header_end(data)])
        found = header["__metadata__"] | changes
        sealed = {key: value for key, value in found.items() if value is not None and key != "seal"}
        seal = hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
        return safetensors.torch.save(safetensors.torch.load(data), sealed | {"seal": seal})

    return rewritten


NO_COLUMNS = "the columns of its dense trits are not there"
UNREAD = "the metadata cannot be read: "
# what was found, and what was expected in its place
CASES: dict[str, tuple[Damage, str, str]] = {
    "older format": (with_metadata(format_version="0"), "format_version is '0'", "expected '1'"),
    "older specification": (with_metadata(specification="1"), "specification is '1'", "expected '2'"),
    "from before versions": (with_metadata(format_version=None), "format_version is None", "expected '1'"),
    "newer format": (with_metadata(format_version="2"), "format_version is '2'", "by a newer arbitor"),
    "newer specification": (with_metadata(specification="17"), "specification is '17'", "by a newer arbitor"),
    "empty": (lambda data: b"", "truncated: 0 bytes", "begins with 8 bytes"),
    "cut in the length": (lambda data: data[:7], "truncated: 7 bytes", "begins with 8 bytes"),
    "cut in the header": (lambda data: data[:99], "truncated: 99 bytes", "the header alone ends at "),
    "cut in the middle": (lambda data: data[: len(data) // 2], "truncated: ", "the data end at "),
    "one byte short": (lambda data: data[:-1], "truncated: ", "the data end at "),
    "a tensor": (lambda data: flipped(data, len(data) - 1), "altered: the tensors hash to", "the file says"),
    "the configuration": (flipped_in("config"), "altered: the metadata", "their seal is '"),
    "the step": (flipped_in("step"), "altered: the metadata", "their seal is '"),
    "the digest": (flipped_in("digest"), "altered: the metadata", "their seal is '"),
    "the seal": (flipped_in("seal"), "altered: the metadata", "their seal is '"),
    "the format's name": (flipped_in("format"), "format is '`rbitor-", "expected 'arbitor-checkpoint'"),
    "the header": (lambda data: flipped(data, 8), "not a safetensors file: it begins with", "expected"),
    "a dtype": (
        lambda data: flipped(data, data.index(b'"dtype":"') + 9),
        "the safetensors header does not fit the data",
        "expected one of",
    ),
    # by somebody who seals the file anew
    "no digest": (with_metadata(digest=None), UNREAD, "at $: 'digest' is a required property"),
    "no number": (with_metadata(digest="x"), UNREAD, "at $.digest: 'x' does not match"),
    "no step": (with_metadata(step=None), UNREAD, "at $: 'step' is a required property"),
    "a step of 5,000 digits": (with_metadata(step="9" * 5000), UNREAD, "at $.step: '999"),
    "a step of words": (with_metadata(step="١٢"), UNREAD, "at $.step: '١٢' does not match"),
    "no columns": (with_metadata(columns=None), UNREAD, "at $: 'columns' is a required property"),
    "columns of lists": (with_metadata(columns='{"a": []}'), UNREAD, "columns at $.a: [] is not of type"),
    "columns of 2^40": (with_metadata(columns=f'{{"a": {2**40}}}'), UNREAD, "columns at $.a: 1099511627776 "),
    "dense that is none": (with_metadata(codes="dense"), "tensor 'blocks.0.attention.out.", NO_COLUMNS),
    "more metadata": (with_metadata(more="x"), UNREAD, "at $: Additional properties are not allowed ('more'"),
    "no config": (with_metadata(config=None), UNREAD, "at $: 'config' is a required property"),
    "a config that is a list": (with_metadata(config="[]"), UNREAD, "config: it is a JSON list, expected"),
    "a config of NaN": (with_metadata(config='{"a": NaN}'), UNREAD, "config: it has NaN, which is no JSON"),
    "a config of two": (with_metadata(config='{"a": 1, "a": 2}'), UNREAD, "config: it has 'a' twice in one"),
    "a deep config": (with_metadata(config=f'{{"a": {"[" * 9999}'), UNREAD, "config: it has more than 32"),
    "a config of digits": (with_metadata(config=f'{{"a": {"9" * 999}}}'), UNREAD, "config: it has an integ"),
    "a format's name": (with_metadata(format="\x1b[2J\u202e"), r"format is '\x1b[2J\u202e'", "expected"),
    "text": (lambda data: b"no checkpoint", "not a safetensors file: it begins with b'no check", "expected"),
    "a pickle": (lambda data: b"\x80\x04}q\x00." * 9, "not a safetensors file: it begins with", "expected"),
    "other safetensors": (
        lambda data: safetensors.torch.save({"w": torch.zeros(3)}),
        "format is None",
        "expected 'arbitor-checkpoint'",
    ),
}  # fmt: skip


@pytest.fixture
def path(target: Target, tmp_path: Path) -> Path:
    """A checkpoint of a small model."""
    copy = tmp_path / "a run.safetensors"
    copy.write_bytes(initial_checkpoint(target).read_bytes())
    return copy


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("case", CASES)
def test_one_sentence(path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's name, what was found, what was expected; from `load_checkpoint` and from every command."""
    damage, found, expected = CASES[case]
    spoiled = damage(path.read_bytes())
    path.write_bytes(spoiled)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: {found}" if not found.startswith("format is") else f"{path}: ")
    assert found in sentence
    assert expected in sentence
    assert len(sentence.splitlines()) == 1
    for command in ("inspect", "sample"):
        refused(main([command, str(path)]), sentence, capsys)
    assert path.read_bytes() == spoiled
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.clause("ARB-TRAIN-004", "ARB-TRAIN-002")
@pytest.mark.parametrize("case", CASES)
def test_finetuning_and_resuming(
    target: Target, path: Path, case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same sentence and status 2; the model, or all files of the run, are as they were."""
    path.write_bytes(CASES[case][0](path.read_bytes()))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    model = ARBModel(ARBConfig(16, 1, 2, seed=6), backend=target.backend.name)
    before = hash_of(model)
    with pytest.raises(CheckpointError) as taken:
        transfer.take_over(model, path)
    assert str(taken.value) == str(caught.value)
    assert hash_of(model) == before
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    moved = path.rename(run / "checkpoint.safetensors")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 5.5}\n{"step": 99, "loss": 5.5}\n')
    contents = {file.name: file.read_bytes() for file in run.iterdir()}
    flags = ["--run", "r", "--runs", str(run.parent), "--resume", "--backend", target.backend.name]
    assert Command("a test").main([*SIZE.split(), *flags]) == 2
    shown = capsys.readouterr().err
    assert shown == f"error: {moved}{str(caught.value).removeprefix(str(path))}\n"
    assert {file.name: file.read_bytes() for file in run.iterdir()} == contents


def test_an_undamaged_one_is_taken(target: Target, path: Path) -> None:
    """So that none of these refusals is for another reason."""
    assert load_checkpoint(path).step == 3
    assert with_metadata()(path.read_bytes()) != b""
    path.write_bytes(with_metadata()(path.read_bytes()))
    assert load_checkpoint(path).step == 3
    taken = transfer.take_over(ARBModel(ARBConfig(16, 1, 2), backend=target.backend.name), path)
    assert len(taken.names) == taken.total


SHAPE: dict[str, Any] = {"d_model": 16, "layers": 1, "heads": 2, "group_size": 128, "seed": 5}


@pytest.mark.clause("ARB-TRAIN-004")
def test_options_that_older_checkpoints_lack() -> None:
    """A model's shape: a default where what came before is exactly that, no experts and no window."""
    assert model_config({"options": SHAPE}) == ARBConfig(16, 1, 2, seed=5)
    for name in SHAPE:
        left = {key: value for key, value in SHAPE.items() if key != name}
        with pytest.raises(ValueError, match=rf"its options.{name} is None, expected an integer"):
            model_config({"options": left})


@pytest.mark.clause("ARB-TRAIN-002", "ARB-TRAIN-004")
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"dtype": None}, "options.dtype is not in the run, 'float32' was asked for"),
        ({"vote_max": None}, "options.vote_max is not in the run, 16 was asked for"),
        ({"momentum": 0.5}, "options.momentum is 0.5 in the run, none was asked for"),
        ({"gain": 2.25}, "options.gain is 2.25 in the run, 4.0 was asked for"),
        ("pending", "pending at $: None is not of type 'object'"),
    ],
)
def test_resuming_what_another_version_began(
    runs: Runs, change: dict[str, Any] | str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused, also where only an option is missing: what the older version did in its place is not known
    here, and a run that goes on has to be the run that was not interrupted."""
    assert runs("text.py") == 0
    file = runs.path("text.py", "checkpoint.safetensors")
    checkpoint = load_checkpoint(file)
    config = dict(checkpoint.config)
    if isinstance(change, str):
        del config[change]
    else:
        options = config["options"] | change
        config["options"] = {
            name: value for name, value in options.items() if value is not None or name not in change
        }
    save_checkpoint(file, checkpoint.tensors, config, checkpoint.step)
    before = {each.name: each.read_bytes() for each in file.parent.iterdir()}
    capsys.readouterr()
    assert runs("text.py", "--resume", "--gain", "4") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(file.parent) in error
    assert found in error
    assert {each.name: each.read_bytes() for each in file.parent.iterdir()} == before
