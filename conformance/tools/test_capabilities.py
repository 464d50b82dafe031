"""Files of capabilities: what they may say, and the one sentence about what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from arbitor.cli import main
from arbitor.conformance.tools.commands import refused
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.capabilities import Capabilities, declared_by, load, parse

LEGAL: dict[str, Any] = {
    "version": 1,
    "operations": ["pack", "linear_forward"],
    "formats": ["codes"],
    "devices": ["cpu"],
}
WHOLE = """
version = 1
name = "mine"
operations = ["pack", "linear_forward"]
formats = ["codes"]
devices = ["cpu", "cuda"]
[tiles.linear_forward]
O = 64
T = 512
[configurations]
linear_forward = ["small", "large"]
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """The same from TOML, from JSON, and from what a report repeats of it."""
    path = tmp_path / "mine.toml"
    path.write_text(WHOLE)
    found = load(path)
    assert found == Capabilities(
        operations=("pack", "linear_forward"),
        formats=("codes",),
        devices=("cpu", "cuda"),
        tiles={"linear_forward": {"O": 64, "T": 512}},
        configurations={"linear_forward": ("small", "large")},
        name="mine",
    )
    other = tmp_path / "mine.json"
    other.write_text(json.dumps(found.as_record()))
    assert load(other) == found
    assert set(found.gaps) | {"pack", "linear_forward"} == set(OPERATIONS)
    assert len(found.gaps) == len(OPERATIONS) - 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version is 2, expected 1"),
        ({"version": True}, "version is True, expected 1"),
        ({"name": 3}, "name is 3, expected a string"),
        ({"operation": []}, "unknown key 'operation', expected version, name, operations"),
        ({"operations": "pack"}, "operations is 'pack', expected a list of pack, unpack"),
        ({"operations": []}, r"operations is \[\], expected a list"),
        ({"operations": ["pack", "mul"]}, r"operations\[1\] is 'mul', expected one of pack"),
        ({"operations": ["pack", ["pack"]]}, r"operations\[1\] is \['pack'\], expected one of"),
        ({"operations": ["pack", "pack"]}, "operations has 'pack' twice"),
        ({"formats": ["codes", "trits"]}, r"formats\[1\] is 'trits', expected one of codes, dense"),
        ({"formats": []}, "formats lacks 'codes', which the operation pack uses"),
        ({"formats": ["codes", "dense"]}, "formats has 'dense', but no declared operation uses it"),
        ({"devices": ["tpu"]}, r"devices\[0\] is 'tpu', expected one of cpu, cuda"),
        ({"devices": None}, "devices is None, expected a list of cpu, cuda"),
        ({"tiles": [64]}, r"tiles is \[64\], expected a table"),
        ({"tiles": {"unpack": {}}}, "tiles has 'unpack', which is not among the declared operations"),
        ({"tiles": {"pack": 64}}, "tiles.pack is 64, expected a table"),
        ({"tiles": {"pack": {"O": 64}}}, "tiles.pack has an extent 'O', expected R, C"),
        ({"tiles": {"pack": {"R": 0}}}, r"tiles.pack.R is 0, expected an integer in 1\.\.512"),
        ({"tiles": {"pack": {"R": 6.0}}}, r"tiles.pack.R is 6.0, expected an integer"),
        ({"configurations": {"pack": ["one"]}}, r"configurations.pack is \['one'\], expected a list of two"),
        ({"configurations": {"pack": ["a", "a"]}}, r"configurations.pack\[1\] is 'a', expected a name of"),
        ({"configurations": {"pack": ["a", 1]}}, r"configurations.pack\[1\] is 1, expected a name of its"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^mine: {message}|^mine{message}"):
        parse(LEGAL | change, "mine")


@pytest.mark.parametrize("key", ["version", "operations", "formats", "devices"])
def test_what_is_missing_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"^mine: {key} is None, expected"):
        parse({name: value for name, value in LEGAL.items() if name != key}, "mine")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.toml", None, "absent.toml: No such file or directory"),
        ("mine.yaml", "", "mine.yaml: capabilities are a .toml or a .json file"),
        ("mine.toml", "version = ", "mine.toml is no TOML: "),
        ("mine.json", "{", "mine.json is no JSON: "),
        ("mine.json", "[]", "mine.json is [], expected a table"),
        ("mine.json", "{}", "mine.json: version is None, expected 1"),
    ],
)
def test_a_file_that_is_none(
    name: str,
    text: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command: one sentence, status 2, and no report."""
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path(name).write_text(text)
    status = main(["verify", "--backend", "reference", "--capabilities", name])
    refused(status, message, capsys)
    assert not Path("reports").exists()


def test_what_a_module_declares(tmp_path: Path) -> None:
    module = ModuleType("stranger")
    assert declared_by(module, "stranger") is None
    vars(module)["CAPABILITIES"] = LEGAL
    assert declared_by(module, "stranger") == parse(LEGAL, "")
    (tmp_path / "mine.toml").write_text(WHOLE)
    vars(module).update(CAPABILITIES="mine.toml", __file__=str(tmp_path / "module.py"))
    found = declared_by(module, "stranger")
    assert found is not None
    assert found.name == "mine"
    vars(module)["CAPABILITIES"] = LEGAL | {"devices": []}
    with pytest.raises(ValueError, match=r"capabilities of stranger: devices is \[\]"):
        declared_by(module, "stranger")


def test_a_device_that_is_not_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("stranger.py").write_text(f"CAPABILITIES = {LEGAL!r}\ndef pack(trits): ...\n")
    status = main(["verify", "--backend", "stranger.py", "--device", "cuda"])
    refused(status, "backend 'stranger.py' declares cpu, not cuda", capsys)
