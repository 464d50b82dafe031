"""`arbitor inspect`: what it says of a checkpoint is what the tensors are; a file that is none is refused."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from arbitor.checkpoint import load_checkpoint, save_checkpoint, state_hash
from arbitor.cli import main
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import bytes_of, loss_of, model_of, table, trits_of
from arbitor.conformance.tools.commands import refused
from arbitor.inspection import command
from arbitor.inspection.matrices import Ternary, ternary_matrices
from arbitor.main import ARBModel
from arbitor.state import first_place
from arbitor.update import ternary_modules

CONFIG: dict[str, Any] = {"options": {"accum_threshold": 12, "window": None}, "corpus": {"name": "a[b]\x1b"}}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="module")
def model(target: Target) -> ARBModel:
    """Eleven blocks, whose state has moved: 10 comes after 9, not after 1."""
    found = model_of(target, layers=11)
    for step in range(3):
        loss: Any = loss_of(found, bytes_of(target, 2, 9, seed=step))
        loss.backward()
        found._ternary_update_memory(loss_signal=0.0)
    return found


def saved(path: Path, model: ARBModel, fmt: Literal["2bit", "dense"] = "2bit") -> Path:
    columns = {f"{name}.codes": module.shape.columns for name, module in ternary_modules(model).items()}
    save_checkpoint(path, model.state_dict(), CONFIG, 12345, fmt, columns)
    return path


def shown(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["inspect", str(path), *words]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def rows(text: str, title: str) -> dict[str, list[str]]:
    """The cells of the table under that title, by the first one."""
    body = re.split(rf"^{re.escape(title)}.*$", text, flags=re.MULTILINE)[1].split("└")[0]
    lines = [line for line in body.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {first: rest for first, *rest in cells}


@pytest.mark.clause("ARB-STATE-001", "ARB-STATE-004")
def test_matrices_are_those_of_the_model(model: ARBModel) -> None:
    """Names in order of construction, and every histogram, counted here in another way."""
    found = ternary_matrices({name: tensor.cpu() for name, tensor in model.state_dict().items()})
    modules = ternary_modules(model)
    assert [matrix.name for matrix in found] == list(modules)
    for matrix, module in zip(found, modules.values(), strict=True):
        assert (matrix.shape, matrix.tensor_id, matrix.updates) == (module.shape, module.tensor_id, 3)
        trits = trits_of(module).flatten().tolist()
        assert matrix.trits.tolist() == [trits.count(trit) for trit in (-1, 0, 1)]
        votes, exponents = module.t_accum.flatten().tolist(), module.e.flatten().tolist()
        assert matrix.votes.tolist() == [votes.count(a) for a in range(-127, 128)]
        assert matrix.exponents.tolist() == [exponents.count(e) for e in range(-128, 129)]
        for threshold in (1, 5, 9):
            assert matrix.near(threshold) == sum(abs(a) >= threshold - 4 for a in votes)
    assert sum(len(set(trits_of(module).flatten().tolist())) for module in modules.values()) > 40
    assert any(matrix.exponents.count_nonzero() > 1 for matrix in found)


def matrix_of(state: dict[str, torch.Tensor]) -> Ternary:
    [matrix] = ternary_matrices(state)
    return matrix


def test_extremes(target: Target) -> None:
    """The ends of every range have a place of their own."""
    layer = table(target)
    state = {name: tensor.cpu().clone() for name, tensor in layer.state_dict().items()}
    state["t_accum"][0, :3] = torch.tensor([-127, 127, 126], dtype=torch.int8)
    found = matrix_of(state)
    assert (found.name, found.weights) == ("", 9 * 12)
    assert [found.votes[place].item() for place in (0, 127, 253, 254)] == [1, 9 * 12 - 3, 1, 1]
    assert found.near(127) == 3


@pytest.mark.clause("ARB-STATE-008")
@pytest.mark.parametrize("fmt", ["2bit", "dense"])
def test_header(
    model: ARBModel,
    fmt: Literal["2bit", "dense"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # a title of more than a line is broken
    path = saved(Path("checkpoint"), model, fmt)
    text, state = shown(path, capsys), model.state_dict()
    found = rows(text, str(path))
    assert f"\nstate sha256 {state_hash(state)}\n" in text
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    weights = sum(trits_of(module).numel() for module in ternary_modules(model).values())
    assert found == {
        "format": ["version 1, of specification 2"],
        "step": ["12,345"],
        "file": [f"{path.stat().st_size:,} bytes"],
        "tensors": [f"{len(state)}, of {size:,} bytes in memory"],
        "weights": [f"{weights:,} trits, in the file as {fmt}"],
        "bytes a weight": [f"{size / weights:.3f}, with all its state"],
        "options": ["accum_threshold=12, window=null"],
        "corpus": ['name="a[b]\\u001b"'],
    }


@pytest.mark.clause("ARB-STATE-001", "ARB-STATE-002")
def test_tables(model: ARBModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every tensor once, with the shape that it stands for, and numbers that are those of the state."""
    text = shown(saved(tmp_path / "c", model), capsys)
    state, modules = model.state_dict(), ternary_modules(model)
    tensors = rows(text, "tensors  ")
    assert set(tensors) == set(state)
    modules_shown = [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]
    assert modules_shown == list(modules)
    assert tensors["embedding.codes"] == ["trits", "288 x 16", f"{288 * 4:,}"]
    assert tensors["embedding.step_counter"] == ["int32", "288", "1,152"]
    assert tensors["blocks.10.down.e_accum"] == ["int8", "16 x 3", "48"]
    trits, votes = rows(text, "trits, in percent"), rows(text, "accumulated votes")
    assert list(trits) == list(votes) == list(modules)
    for name, module in modules.items():
        weights = trits_of(module).double()
        shares = [f"{100 * (weights == trit).double().mean().item():.1f}" for trit in (-1, 0, 1)]
        e = module.e.double()
        used = [f"{int(e.min())}..{int(e.max())}"] if e.min() < e.max() else [str(int(e[0, 0]))]
        assert trits[name] == [*shares, *used, f"{e.mean().item():.2f}", "3"]
        size = module.t_accum.abs().double()
        assert votes[name] == [
            f"{100 * (size == 0).double().mean().item():.1f}",
            f"{size.mean().item():.2f}",
            str(int(size.max())),
            f"{100 * (size >= 8).double().mean().item():.1f}",
        ]
    assert "|a| >= 8" in text


def test_without_a_threshold(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A module by itself, saved by somebody else: no options, no name."""
    save_checkpoint(tmp_path / "c", table(target).state_dict(), {}, 0)
    text = shown(tmp_path / "c", capsys)
    assert "|a| >=" not in text
    assert rows(text, "tensors  ")["codes"] == ["trits", "9 x 12", "27"]
    assert len(rows(text, "accumulated votes")["(no name)"]) == 3


@pytest.mark.parametrize("threshold", [0, -1, 128, 2**63, 2**64 - 1, True, "12", None, [12], 12.0])
def test_thresholds_that_are_none(
    target: Target, threshold: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a config that anybody may have written: no column, and no error."""
    config = {"options": {"accum_threshold": threshold}}
    save_checkpoint(tmp_path / "c", table(target).state_dict(), config, 0)
    assert "|a| >=" not in shown(tmp_path / "c", capsys)


def test_what_is_long_is_cut(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thousands of values in the header, of options, of tensors; and text that a terminal would obey."""
    monkeypatch.setattr(command, "ROWS", 3)
    config = {f"k{n}\x1b\u202e": n for n in range(300)} | {"options": {f"o{n}": n for n in range(300)}}
    config = {"options": config.pop("options"), **config}
    save_checkpoint(tmp_path / "c", table(target).state_dict(), config, 0)
    text = shown(tmp_path / "c", capsys)
    assert "o99=99, ..." in text
    assert "o100" not in text
    assert r"k98\x1b\u202e" in text
    assert "k99" not in text
    assert rows(text, str(tmp_path / "c"))["and more"] == ["201 values"]
    assert len(rows(text, "tensors  ")) == 3
    assert "and 4 more" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_other_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Floats, codes without the rest, markup and control characters in names: a table of tensors, no more."""
    state = {
        "codes": torch.full((2, 3), 85, dtype=torch.uint8),
        "optimiser.[red]\x1b[31m": torch.zeros(2, 3, 4, dtype=torch.bfloat16),
        "optimiser.step": torch.tensor(1.0),
    }
    config = {"a\nlist": list(range(100)), "plain": 3}
    save_checkpoint(tmp_path / "c", state, config, 0)
    text = shown(tmp_path / "c", capsys)
    assert rows(text, "tensors  ") == {
        "codes": ["uint8", "2 x 3", "6"],
        r"optimiser.[red]\x1b[31m": ["bfloat16", "2 x 3 x 4", "48"],
        "optimiser.step": ["float32", "scalar", "4"],
    }
    header = rows(text, str(tmp_path / "c"))
    assert header["plain"] == ["3"]
    assert header[r"a\nlist"][0].endswith("...")
    assert "percent" not in text
    assert "bytes a weight" not in header


def refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(main(["inspect", *words]), message, capsys)


@pytest.mark.clause("ARB-TRAIN-004")
def test_files_that_are_refused(model: ARBModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "c", model)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    refuses([str(path)], f"{path}: truncated", capsys)
    assert whole[-1] != 0  # four trits of the last row; 0 is four others
    path.write_bytes(whole[:-1] + b"\0")
    refuses([str(path)], f"{path}: altered", capsys)
    path.write_bytes(whole.replace(b'"step":"12345"', b'"step":"12346"'))
    refuses([str(path)], f"{path}: altered: the metadata", capsys)
    path.write_bytes(whole.replace(b'"format_version":"1"', b'"format_version":"0"'))
    refuses([str(path)], f"{path}: format_version is '0', expected '1'", capsys)
    path.write_bytes(b"# not a checkpoint\n")
    refuses([str(path)], f"{path}: not a safetensors file", capsys)
    refuses([str(tmp_path / "gone")], "gone: there is no such file", capsys)
    refuses([str(tmp_path)], "cannot be read", capsys)


@pytest.mark.clause("ARB-STATE-003", "ARB-STATE-004", "ARB-STATE-006")
@pytest.mark.parametrize(
    ("part", "place", "value", "message"),
    [
        ("t_accum", (2, 1), -128, r"embedding.t_accum[2, 1] = -128, expected -127..127"),
        ("e", (0, 0), 5, "embedding.e[0, 0] = 5, expected -4..0"),
        ("corr_accum", (1, 1), -32768, "embedding.corr_accum[1, 1] = -32768"),
        ("step_counter", (3,), -1, "embedding.step_counter[3] = -1"),
        ("_extra_state", (2,), 0, "embedding: group_size must be in 4..1024, got 0"),
        ("_extra_state", (2,), 16, "embedding.e must have shape (288, 1), got (288, 2)"),
        ("_extra_state", (2,), 10, "embedding: group_size must be a multiple of 4, got 10"),
        ("_extra_state", (0,), -27, "embedding: e_base must be in -26..26, got -27"),
    ],
)
def test_illegal_state_is_refused(
    model: ARBModel,
    part: str,
    place: tuple[int, ...],
    value: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a file that is whole and unaltered: somebody else's mistake."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state[f"embedding.{part}"][place] = value
    save_checkpoint(tmp_path / "c", state, CONFIG, 0)
    refuses([str(tmp_path / "c")], message, capsys)


@pytest.mark.clause("ARB-STATE-006")
def test_the_first_of_many_is_named(
    model: ARBModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In C order, as of a scalar; of codes too."""
    state = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
    state["embedding.t_accum"][2:, 1:] = -128
    save_checkpoint(tmp_path / "c", state, CONFIG, 0)
    refuses([str(tmp_path / "c")], "embedding.t_accum[2, 1] = -128, expected -127..127", capsys)
    state["embedding.codes"][3:, 2:] = 255
    with pytest.raises(ValueError, match=r"embedding.codes\[3, 2\] is 0xff, expected no field with code 3"):
        save_checkpoint(tmp_path / "c", state, CONFIG, 0)
    assert first_place(torch.tensor([[False, False]])) is None
    assert first_place(torch.tensor(True)) == []


def test_shapes_that_are_refused(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = dict(table(target).state_dict())
    for change, message in (
        ({"t_accum": torch.zeros(108, dtype=torch.int8)}, "t_accum must have two extents of at least 1"),
        ({"t_accum": torch.zeros(0, 12, dtype=torch.int8)}, "two extents of at least 1, got (0, 12)"),
        ({"t_accum": torch.zeros(9, 12, dtype=torch.int16)}, "t_accum must be int8, got int16"),
        ({"t_accum": torch.zeros(9, 20, dtype=torch.int8)}, "codes must have shape (9, 5), got (9, 3)"),
        ({"_extra_state": torch.zeros(6, dtype=torch.int64)}, "extra state must have shape (7,), got (6,)"),
    ):
        save_checkpoint(tmp_path / "c", state | change, {}, 0)
        refuses([str(tmp_path / "c")], message, capsys)


def test_picture(model: ARBModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only where it is asked for; a PNG, in a folder that is made, with and without a threshold."""
    path = saved(tmp_path / "c", model)
    shown(path, capsys)
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
    picture = tmp_path / "new" / "a[b].PNG"
    assert f"picture: {picture}" in shown(path, capsys, "--picture", str(picture))
    assert [entry.name for entry in picture.parent.iterdir()] == [picture.name]
    first = picture.read_bytes()
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(first) > 20_000
    save_checkpoint(path, model.state_dict(), {}, 0)
    shown(path, capsys, "--picture", str(picture))
    assert picture.read_bytes() != first


def test_pictures_that_are_refused(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is printed; the checkpoint itself is not drawn over."""
    path = tmp_path / "c"
    save_checkpoint(path, table(target).state_dict(), {}, 0)
    refuses([str(path), "--picture", str(path)], "c: expected a name that ends in .png", capsys)
    assert load_checkpoint(path).step == 0
    (tmp_path / "folder.png").mkdir()
    refuses([str(path), "--picture", str(tmp_path / "folder.png")], "folder.png cannot be written", capsys)
    save_checkpoint(tmp_path / "floats", {"w": torch.zeros(3)}, {}, 0)
    refuses([str(tmp_path / "floats"), "--picture", "a.png"], "no ternary matrix to draw", capsys)
    honest = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
        return honest(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    words = [str(path), "--picture", str(tmp_path / "a.png")]
    needs = "--picture needs pip install -e '.[test]' in a checkout"
    refuses(words, f"no module named 'matplotlib': {needs}", capsys)
    assert not (tmp_path / "a.png").exists()


def test_long_values_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"pending": {"losses": [0.5] * 200, "note": "x" * 98}}
    save_checkpoint(tmp_path / "c", {"w": torch.zeros(3)}, config, 0)
    text = re.sub(r"[│\s]", "", shown(tmp_path / "c", capsys))
    assert f"losses={json.dumps([0.5] * 200).replace(' ', '')[:20]}" in text
    assert f'note="{"x" * 98}"' in text
    assert text.count("0.5") < 25
