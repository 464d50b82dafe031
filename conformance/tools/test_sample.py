"""`arbitor sample`: its text is that of full forwards, and a seed is a text."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor import sample as module
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import hash_of
from arbitor.conformance.tools.sampled import OPTIONS, greedy, model, run, saved
from arbitor.kernels.registry import select
from arbitor.sample import BYTES, Sampling, choose, decoded, generate

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPT = "Größe — 日本 "
COUNT = 16
GREEDY = Sampling(COUNT, temperature=0)


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("window", [None, 5])
def test_streamed_is_greedy_by_full_forwards(target: Target, window: int | None) -> None:
    """Of the window, the text is several."""
    found = model(target, window)
    expected = greedy(found, PROMPT.encode(), COUNT)
    assert len(set(expected)) > COUNT // 4  # a model that repeats itself would agree with too much
    assert list(generate(found, PROMPT.encode(), GREEDY)) == expected


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("window", [None, 5])
def test_streamed_is_sampled_from_full_forwards(target: Target, window: int | None) -> None:
    """The logits are the same to the last bit, so one draw after another is too."""
    found, how, generator = model(target, window), Sampling(COUNT, 1.0, seed=5), torch.Generator()
    text = list(PROMPT.encode())
    generator.manual_seed(5)
    with torch.no_grad():
        for _ in range(COUNT):
            logits = found(torch.tensor([text], device=target.device))[0, -1]
            text.append(choose(logits.cpu(), how, generator))
    assert list(generate(found, PROMPT.encode(), how)) == text[-COUNT:]


@pytest.mark.clause("ARB-MODEL-002")
def test_the_window_and_the_prompt_matter(target: Target) -> None:
    """So that the test above can fail."""
    texts = [greedy(model(target, window), PROMPT.encode(), COUNT) for window in (None, 5)]
    assert texts[0] != texts[1]
    assert greedy(model(target), PROMPT.encode()[1:], COUNT) != texts[0]


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("window", [None, 5])
def test_a_long_prompt_is_read_in_parts(
    target: Target, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROMPT_CHUNK", 7)
    found = model(target, window)
    assert list(generate(found, PROMPT.encode(), GREEDY)) == greedy(found, PROMPT.encode(), COUNT)


def test_one_forward_a_byte(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the cache and without a graph: after the prompt a forward sees one token, and none follows the
    last byte."""
    found, seen = model(target), []
    honest = found.forward

    def spy(tokens: torch.Tensor, *, stateful: bool = False) -> torch.Tensor:
        seen.append((tuple(tokens.shape), stateful, torch.is_grad_enabled()))
        return honest(tokens, stateful=stateful)

    monkeypatch.setattr(found, "forward", spy)
    stream = generate(found, b"abc", GREEDY)
    next(stream)
    assert seen == [((1, 3), True, False)]  # the first byte is there before the second is computed
    assert len(list(stream)) == COUNT - 1
    assert seen[1:] == [((1, 1), True, False)] * (COUNT - 1)


@pytest.mark.clause("ARB-MODEL-003", "ARB-RUN-010")
def test_nothing_is_left_behind(target: Target) -> None:
    """The state is as it was, gradients are on, and a second text does not follow the first."""
    found = model(target)
    before = hash_of(found)
    stream = generate(found, b"abc", GREEDY)
    first = [next(stream)]
    assert torch.is_grad_enabled()
    first += stream
    assert list(generate(found, b"abc", GREEDY)) == first
    assert hash_of(found) == before


def test_same_seed_same_text(target: Target) -> None:
    found = model(target)
    texts = [
        bytes(generate(found, b"abc", Sampling(COUNT, seed=seed, temperature=heat)))
        for seed, heat in ((1, 1.0), (1, 1.0), (2, 1.0), (1, 2.0))
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


@pytest.mark.parametrize("heat", [0.0, 1.0, 1e9])
def test_specials_are_never_sampled(target: Target, heat: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However likely they are, and nothing else changes."""
    found = model(target)
    how = Sampling(COUNT, heat)
    before = list(generate(found, b"abc", how))
    honest = found.forward

    def biased(tokens: torch.Tensor, *, stateful: bool = False) -> torch.Tensor:
        return honest(tokens, stateful=stateful) + 1e6 * (torch.arange(288) >= BYTES).to(tokens.device)

    monkeypatch.setattr(found, "forward", biased)
    assert list(generate(found, b"abc", how)) == before


def counts(logits: list[float], draws: int, **how: Any) -> list[int]:
    """How often each of the bytes that have a logit was chosen."""
    padded = torch.full((288,), -1e4)
    padded[: len(logits)] = torch.tensor(logits)
    generator = torch.Generator().manual_seed(0)
    found = [choose(padded, Sampling(**how), generator) for _ in range(draws)]
    assert max(found) < len(logits)
    return [found.count(byte) for byte in range(len(logits))]


@pytest.mark.clause("ARB-MODEL-009")
@pytest.mark.parametrize("heat", [0.25, 1.0, 7.0])
def test_a_byte_is_drawn_by_integers(heat: float) -> None:
    """Weights of 2^-30 of the top three, one after another; a byte has as many draws as its weight."""
    logits = torch.full((288,), -9.0)
    logits[torch.tensor([7, 3, 200, 90])] = torch.tensor([1.5, 2.0, 1.5, -1.0])
    behind = torch.tensor([[0.0, -0.5 / heat, -0.5 / heat]])
    weights = [int(share * 2**30) for share in select("torch").softmax(behind)[0].tolist()]
    how = Sampling(temperature=heat, top_k=3)
    ends = [sum(weights[: place + 1]) for place in range(3)]
    for byte, first, last in zip((3, 7, 200), [0, *ends], ends, strict=False):
        for drawn in (first, last - 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "randint", lambda high, *_, drawn=drawn, **__: torch.tensor(drawn))
                assert choose(logits, how, torch.Generator()) == byte


@pytest.mark.clause("ARB-MODEL-009")
def test_temperature() -> None:
    """Shares of exp(logit / temperature): 1 to 3, and 1 to 9 at one half."""
    assert 2_900 < counts([0.0, math.log(3)], 4_000, temperature=1.0)[1] < 3_100
    assert 3_500 < counts([0.0, math.log(3)], 4_000, temperature=0.5)[1] < 3_700
    assert counts([0.0, 1.0, 2.0], 50, temperature=0) == [0, 0, 50]
    assert counts([0.0, 88.0, 90.0], 50, temperature=1e-308) == [0, 0, 50]  # 90 / 1e-308 is no float


@pytest.mark.clause("ARB-MODEL-009")
def test_top_k() -> None:
    """Of equal logits the lowest byte comes first."""
    assert counts([1.0, 3.0, 2.0], 50, top_k=1, temperature=9.0) == [0, 50, 0]
    found = counts([1.0, 3.0, 2.0], 50, top_k=2, temperature=9.0)
    assert found[0] == 0
    assert min(found[1:]) > 10
    assert counts([2.0] * 100, 50, temperature=0)[0] == 50
    assert sum(counts([2.0] * 100, 50, top_k=2)[:2]) == 50


def test_characters_are_whole_and_early() -> None:
    """A character is there before the byte after it is asked for."""
    asked = 0

    def stream(data: bytes) -> Iterator[int]:
        nonlocal asked
        for byte in data:
            asked += 1
            yield byte

    text = "aß—日𝄞"
    ends = [len(text[: n + 1].encode()) for n in range(len(text))]
    assert [(piece, asked) for piece in decoded(stream(text.encode()))] == list(zip(text, ends, strict=True))
    assert "".join(decoded(b"a\xff\xe6\x97b\xe6\x97")) == "a\ufffd\ufffdb\ufffd"


@pytest.mark.clause("ARB-MODEL-002")
@pytest.mark.parametrize("window", [None, 5])
def test_command(
    target: Target, window: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the file to the text: what follows the prompt, and a newline."""
    path = saved(tmp_path / "c", target, window)
    before = path.read_bytes()
    found = model(target, window or OPTIONS["ctx"])
    for prompt in (PROMPT, ""):
        assert run(target, path, "--prompt", prompt, "--bytes", "9", "--temperature", "0") == 0
        shown = capsys.readouterr()
        assert shown.out == "".join(decoded(greedy(found, prompt.encode() or b"\n", 9))) + "\n"
        assert shown.err == ""
    again = ["--seed", "1", "--bytes", "20"]
    assert run(target, path, *again) == run(target, path, *again) == 0
    text = capsys.readouterr().out
    assert text[: len(text) // 2] == text[len(text) // 2 :]
    assert path.read_bytes() == before


def test_text_is_there_as_soon_as_it_is_chosen(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A character leaves the buffer before the next byte is computed."""
    path, shown = saved(tmp_path / "c", target), tmp_path / "shown"
    before: list[bytes] = []

    def stream(*_: Any) -> Iterator[int]:
        for byte in "aß".encode():
            before.append(shown.read_bytes())
            yield byte
        before.append(shown.read_bytes())

    monkeypatch.setattr(module, "generate", stream)
    with shown.open("w", encoding="utf-8") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        assert run(target, path) == 0
    assert before == [b"", b"a", b"a", "aß".encode()]
    assert shown.read_bytes() == "aß\n".encode()


def test_prompts_of_any_bytes(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a shell hands over that is no UTF-8."""
    raw = b"\xff\xfe\x80"
    words = ["--prompt", os.fsdecode(raw), "--bytes", "5", "--temperature", "0"]
    assert run(target, saved(tmp_path / "c", target), *words) == 0
    assert capsys.readouterr().out == "".join(decoded(greedy(model(target), raw, 5))) + "\n"
