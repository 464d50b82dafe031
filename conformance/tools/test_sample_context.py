"""What a sample sees, and what it takes: the context of the training, and no more memory than its file."""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from arbitor.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from arbitor.cli import main
from arbitor.components import TernaryModule
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import backward, hash_of, loss_of
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.sampled import OPTIONS, greedy, model, run, saved
from arbitor.main import ARBConfig, ARBModel
from arbitor.sample import decoded, load_model
from arbitor.schedule import UpdateRule, scheduled_gain, scheduled_scale_gain

pytestmark = pytest.mark.usefixtures("one_thread")

CTX = OPTIONS["ctx"]
PROMPT = "a prompt that is longer than the context"
# options of the run, flags of the sample -> the window
WINDOWS: list[tuple[dict[str, Any], list[str], int | None]] = [
    ({}, [], CTX),
    ({"window": 5}, [], 5),
    ({"window": CTX + 9}, [], CTX),
    ({"preserve_state": True}, [], CTX),
    ({"preserve_state": True, "window": CTX + 9}, [], CTX + 9),
    ({}, ["--window", "trained"], CTX),
    ({}, ["--window", "3"], 3),
    ({}, ["--window", "all"], None),
    ({"window": 5}, ["--window", "all"], None),
    ({"ctx": None}, ["--window", "all"], None),
]


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize(("options", "flags", "window"), WINDOWS)
def test_the_window_of_a_sample(
    target: Target,
    options: dict[str, Any],
    flags: list[str],
    window: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = saved(tmp_path / "c", target, **options)
    words = ["--prompt", PROMPT, "--bytes", "12", "--temperature", "0", *flags]
    assert run(target, path, *words) == 0
    expected = "".join(decoded(greedy(model(target, window), PROMPT.encode(), 12)))
    assert capsys.readouterr().out == expected + "\n"


def test_these_windows_differ(target: Target) -> None:
    """So that the test above can fail."""
    windows = (3, 5, CTX, CTX + 9, None)
    texts = {bytes(greedy(model(target, window), PROMPT.encode(), 12)) for window in windows}
    assert len(texts) == len(windows)


@pytest.mark.parametrize("window", ["0", "-1", "x", "", "1.5", "2147483648", "9" * 5000, "٣"])
def test_windows_that_are_refused(
    target: Target, window: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "c", target)
    refused(run(target, path, f"--window={window}"), "expected trained, all, or a number in 1..2^31", capsys)


def test_the_context_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--window N positions that attention sees, or all (default: trained, which is as many" in shown


@pytest.mark.clause("ARB-MODEL-002")
def test_beyond_its_context_a_model_knows_nothing(target: Target, tmp_path: Path) -> None:
    """Nats a byte of a small model, trained on 16 positions: far beyond them it loses 0.2 where attention
    sees all that lies behind, and next to nothing through the window that a sample has."""
    if target.backend.name != "torch" or target.device != "cpu":
        pytest.skip("what a window is for is shown on one backend")
    text = torch.tensor(list("".join(topics[name] for name in sorted(topics)).encode()[:400_000]))
    options = OPTIONS | {"d_model": 32, "layers": 1, "group_size": 128, "ctx": 16}
    save_checkpoint(tmp_path / "c", trained(text, 16, 150).state_dict(), {"options": options}, 150)
    through, seeing_all = (losses(tmp_path / "c", text, window) for window in ("trained", "all"))
    assert through[:16] == seeing_all[:16]
    assert mean(seeing_all[128:]) > mean(through[128:]) + 0.1
    assert mean(through[128:]) < mean(through[:16]) + 0.25


def trained(text: torch.Tensor, ctx: int, steps: int) -> ARBModel:
    """A model of width 32 after so many steps on that text, as a trainer makes them."""
    found, rule, generator = ARBModel(ARBConfig(32, 1, 2), backend="torch"), UpdateRule(), torch.Generator()
    for step in range(steps):
        starts = torch.randint(0, len(text) - ctx - 1, (16, 1), generator=generator.manual_seed(step))
        loss = loss_of(found, text[starts + torch.arange(ctx + 1)])
        backward(loss)
        gain = scheduled_gain(rule.gain, step, steps)
        scale_gain = scheduled_scale_gain(rule.scale_gain, step, steps)
        found._ternary_update_memory(loss_signal=loss.detach(), gain=gain, scale_gain=scale_gain)
    return found


def losses(path: Path, text: torch.Tensor, window: str) -> list[float]:
    """Mean losses of 512 positions of 16 texts."""
    found, tokens = load_model(path, "torch", "cpu", window), text[: 16 * 513].view(16, 513)
    with torch.no_grad():
        logits = found(tokens[:, :-1]).transpose(1, 2)
    means: list[float] = F.cross_entropy(logits, tokens[:, 1:], reduction="none").mean(0).tolist()
    return means


# options that a file may claim, whatever its tensors are -> words of the refusal
HUGE: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"layers": 10**6}, "matrix 9 of them is 48 x 16, the file has head, 288 x 16"),
    "experts": ({"experts": 10**5}, "matrix 3 of them is 100001 x 16, the file has blocks.0.up, 64 x 16"),
    "d_model": ({"d_model": 20_000, "heads": 100}, "matrix 0 of them is 288 x 20000, the file has emb"),
    "every extent": ({"d_model": 2**31 - 2, "heads": (2**31 - 2) // 42}, "matrix 0 of them is 288 x 21474"),
    "2^31": ({"d_model": 2**31}, "its options.d_model is 2147483648, expected at most 2147483647"),
    "2^65": ({"layers": 2**65}, "its options.layers is 36893488147419103232, expected at most 2147483647"),
    "seed": ({"seed": 2**64}, "its options.seed is 18446744073709551616, expected at most"),
    "group_size": ({"group_size": 2**30}, "group_size must be in 4..1024, got 1073741824"),
    "heads": ({"heads": 2**30}, "d_model must be a multiple of 2 * heads"),
    "a head": ({"d_model": 2**20}, "a head has at most 256 numbers (ARB-ATT-001), got d_model 1048576 of 2"),
    "window": ({"window": 2**40}, "its options.window is 1099511627776, expected at most"),
    "ctx": (
        {"ctx": "8"},
        "its options.ctx is '8', expected an integer, 1 or more; --window N or",
    ),
    "no ctx": ({"ctx": None}, "its options.ctx is None, expected an integer, 1 or more; --window N or"),
    "passes": ({"experts": 2, "max_moe_iters": 10**9}, "options.max_moe_iters is 1000000000, expected at mo"),
    "text": ({"layers": "\x1b[2J\u202e" * 999}, "its options.layers is '\\x1b[2J\\u202e"),
}


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("case", HUGE)
def test_options_are_compared_with_the_tensors_first(
    target: Target,
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a file that is whole and sealed: one sentence, and no matrix is made that the file has not."""
    options, message = HUGE[case]
    path = saved(tmp_path / "c", target, **options)
    tensors = load_checkpoint(path).tensors
    there = [tuple(tensor.shape) for name, tensor in tensors.items() if name.endswith("t_accum")]
    honest = TernaryModule.__init__

    def spy(self: TernaryModule, rows: int, columns: int, **how: Any) -> None:
        there.remove((rows, columns))  # fails where the file has no more of them
        honest(self, rows, columns, **how)

    monkeypatch.setattr(TernaryModule, "__init__", spy)
    refused(run(target, path), message, capsys)


@pytest.mark.clause("ARB-TRAIN-004")
def test_matrices_that_are_not_the_models(target: Target, tmp_path: Path) -> None:
    """Two of one number, one without a number, one too many: each is seen before a model is made."""
    state = {name: tensor.cpu() for name, tensor in model(target).state_dict().items()}
    numbers = state["head._extra_state"].clone()
    numbers[3] = 0
    cases: list[tuple[dict[str, torch.Tensor], str]] = [
        (state | {"head._extra_state": numbers}, "embedding and head both have the tensor_id 0"),
        ({n: t for n, t in state.items() if n != "head._extra_state"}, "matrix 9 .* has no such matrix"),
        (state | {"head.t_accum": torch.zeros(4608, dtype=torch.int8)}, r"head.t_accum has shape \(4608,\)"),
        (state | {"more": torch.zeros(1)}, r"state_dict lacks \[\] and has unknown \['more'\]"),
    ]
    for number, (tensors, message) in enumerate(cases):
        save_checkpoint(tmp_path / str(number), tensors, {"options": OPTIONS}, 0)
        with pytest.raises(CheckpointError, match=f"its tensors are not those of its options: .*{message}"):
            load_model(tmp_path / str(number), target.backend.name, target.device)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("experts", [0, 3])
def test_what_is_compared_is_what_is_made(target: Target, experts: int, tmp_path: Path) -> None:
    """A model of every kind that `sample` takes is found in its own file."""
    config = ARBConfig(16, 2, 2, experts=experts, group_size=12)
    options = OPTIONS | {"experts": experts, "top_k": 2, "max_moe_iters": 1}
    made = ARBModel(config, backend=target.backend.name)
    save_checkpoint(tmp_path / "c", made.state_dict(), {"options": options}, 0)
    assert hash_of(load_model(tmp_path / "c", target.backend.name, target.device)) == hash_of(made)
