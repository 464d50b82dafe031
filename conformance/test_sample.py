"""`arbitor sample`: its text is that of full forwards, a seed is a text, and bad input is refused before
anything is written."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor import sample as module
from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.cli import main
from arbitor.conformance.models import hash_of, model_of
from arbitor.conformance.target import Target
from arbitor.conformance.trainers import FOLDER, Runs, threads_kept
from arbitor.main import ARBConfig, ARBModel
from arbitor.sample import BYTES, Sampling, choose, decoded, generate, load_model, model_config
from arbitor.verify import find_suite

OPTIONS: dict[str, Any] = {
    "d_model": 16, "layers": 2, "heads": 2, "window": None, "group_size": 12, "seed": 3,
    "ctx": 8, "preserve_state": False, "baseline": None,
}  # fmt: skip
PROMPT = "Größe — 日本 "
COUNT = 16
GREEDY = Sampling(COUNT, temperature=0)


@pytest.fixture(autouse=True)
def _threads_kept() -> Iterator[None]:
    with threads_kept():
        torch.set_num_threads(1)
        yield


def model(target: Target, window: int | None = None) -> ARBModel:
    """Of OPTIONS but for its seed: what a file holds is not what its seed would give."""
    names = ("d_model", "layers", "heads", "group_size")
    return model_of(target, mlp_ratio=4, window=window, seed=9, **{name: OPTIONS[name] for name in names})


def saved(path: Path, target: Target, window: int | None = None, **options: Any) -> Path:
    config = {"options": OPTIONS | {"window": window} | options}
    save_checkpoint(path, model(target, window).state_dict(), config, 4)
    return path


def greedy(found: ARBModel, prompt: bytes, count: int) -> list[int]:
    """By one full forward over the whole text for every byte."""
    text = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens = torch.tensor([text], device=next(found.buffers()).device)
            text.append(int(found(tokens)[0, -1, :BYTES].argmax()))
    return text[len(prompt) :]


def run(target: Target, path: Path, *words: str) -> int:
    where = ["--backend", target.backend.name, "--device", target.device]
    return main(["sample", str(path), *where, *words])


def process(*words: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, which hears SIGINT even if the suite, in the background, does
    not."""
    path = f"import sys; sys.path.insert(0, {str(find_suite().parent)!r})"
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{path}; {heard}; from arbitor.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "sample", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


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


def test_temperature() -> None:
    """Shares of exp(logit / temperature): 1 to 3, and 1 to 9 at one half."""
    assert 2_900 < counts([0.0, math.log(3)], 4_000, temperature=1.0)[1] < 3_100
    assert 3_500 < counts([0.0, math.log(3)], 4_000, temperature=0.5)[1] < 3_700
    assert counts([0.0, 1.0, 2.0], 50, temperature=0) == [0, 0, 50]
    assert counts([0.0, 88.0, 90.0], 50, temperature=1e-308) == [0, 0, 50]  # 90 / 1e-308 is no float


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
    found = model(target, window)
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


def refused(status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, one sentence, no text."""
    shown = capsys.readouterr()
    assert status == 2
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


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
        ({"layers": 1}, "c: its tensors are not those of its options: state_dict lacks"),
        ({"d_model": 32}, "c: its tensors are not those of its options: embedding"),
    ],
)
def test_configurations_that_are_refused(
    target: Target, options: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(run(target, saved(tmp_path / "c", target, **options)), message, capsys)


def test_checkpoints_of_others(target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "c", model(target).state_dict(), {"mine": 1}, 0)
    refused(run(target, tmp_path / "c"), "c: its config has no options", capsys)


def test_configurations_are_those_of_the_trainers() -> None:
    """Read from what a trainer writes, the shape is what the trainer made of its flags."""
    options = pytest.importorskip("training.options", reason="the trainers do not ship").Options
    learners = pytest.importorskip("training.learners")
    for flags in (
        {},
        {"d_model": 96, "layers": 3, "heads": 6, "group_size": 32, "seed": 2**63, "window": 17},
        {"experts": 3, "top_k": 1, "max_moe_iters": 2},
        {"preserve_state": True, "ctx": 11},
        {"preserve_state": True, "ctx": 11, "window": 17},
    ):
        chosen = options(**flags)
        expected: ARBConfig = learners.model_config(chosen)
        assert model_config({"options": chosen.identity()}) == expected


@pytest.mark.clause("ARB-MODEL-003")
def test_checkpoints_of_the_trainers(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written by one, with KV state in use, in both formats; a float twin's is refused."""
    pytest.importorskip("training.loop", reason="the trainers do not ship")
    run_folder = pytest.importorskip("training.run_folder")
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
