"""Several ranks are one: exponents are shared before rounding, integers are summed, so no bit can differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, hash_of, snapshot
from arbitor.conformance.machine.ranks import on_ranks
from arbitor.conformance.training.trainers import command, module_of
from arbitor.main import ARBModel
from arbitor.ranks import Ranks, carrying
from arbitor.runtime import join_ranks
from arbitor.training import loop, options
from arbitor.training.tasks import task

pytestmark = pytest.mark.usefixtures("one_thread")
CARRIED = [*range(-100, 123), 127]


@pytest.mark.clause("ARB-RANK-003", "ARB-QUANT-002", "ARB-QUANT-007")
def test_a_carried_exponent_decides(target: Target) -> None:
    """Every exponent there is, above values of every smaller one; and then it is theirs alone."""
    e = torch.tensor(CARRIED, dtype=torch.int32, device=target.device)
    small = torch.ldexp(torch.full((3, len(e)), 127.0, dtype=torch.float64), (e.cpu() - 1).clamp(-140, 120))
    small = small.float().to(target.device).masked_fill(e == -100, 0.0)
    dy = torch.cat([small, carrying(e)[None]])
    e_x = torch.zeros(4, dtype=torch.int8, device=target.device)
    _, found = target.backend.quantise_columns(dy, e_x, 1, 2, 3, 0)
    assert found.tolist() == CARRIED


@pytest.fixture(autouse=True)
def _threads_are_possible(target: Target) -> None:
    if target.backend.name in ("triton", "tilelang") and target.device == "cpu":
        pytest.skip("its interpreter or runtime is not for several threads of one process")


def loss_of(model: ARBModel, tokens: torch.Tensor, of: int) -> torch.Tensor:
    logits = model(tokens[:, :-1]).flatten(0, 1)
    return F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum") / of


def batches(target: Target, step: int, calls: int) -> list[torch.Tensor]:
    tokens = models.bytes_of(target, 12, 9, seed=step, high=7)
    return list(tokens.chunk(calls))


@pytest.mark.clause(
    "ARB-RANK-001", "ARB-RANK-002", "ARB-RANK-003", "ARB-RANK-006", "ARB-RUN-013", "ARB-CLIP-001"
)
@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize(("size", "means"), [(2, False), (3, False), (2, True)])
def test_ranks_end_as_one(target: Target, size: int, means: bool, calls: int) -> None:
    """Three updates, of one call or of two microbatches, on as many ranks as divide the batch; the loss of
    each is its share of the whole, or the mean over its own tokens."""

    def run(ranks: Ranks | None) -> str:
        model = models.model_of(target)
        if ranks is not None:
            join_ranks(model, ranks, means=means)
        for step in range(3):
            for tokens in batches(target, step, calls):
                own = tokens if ranks is None else ranks.slice(tokens)
                backward(loss_of(model, own, 12 * 8 // (size if means and ranks else 1)))
            assert model._ternary_update_memory().totals()["flips"] > 0
        return hash_of(model)

    assert set(on_ranks(size, run)) == {run(None)}


@pytest.mark.clause("ARB-RANK-006")
def test_octaves_of_so_many_ranks() -> None:
    """What cannot be taken away exactly is left."""
    assert [Ranks(0, size).octaves for size in range(1, 10)] == [0, 1, 0, 2, 0, 0, 0, 3, 0]


@pytest.mark.clause("ARB-RANK-004", "ARB-RUN-005")
@pytest.mark.parametrize("what", ["signal", "gradient"])
def test_one_rank_can_stop_all(target: Target, what: str) -> None:
    """Nothing changes anywhere, and each says why."""

    def run(ranks: Ranks) -> str:
        model = models.model_of(target)
        join_ranks(model, ranks)
        before = snapshot(model)
        loss = loss_of(model, ranks.slice(batches(target, 0, 1)[0]), 96)
        bad = ranks.rank == 1
        backward(loss * float("inf") if bad and what == "gradient" else loss)
        signal = loss.detach() * float("nan") if bad and what == "signal" else loss.detach()
        report = model._ternary_update_memory(loss_signal=signal)
        assert models.changed(before, snapshot(model)) == []
        return str(report.skipped)

    said = on_ranks(2, run)
    assert all("is not finite" in sentence for sentence in said)
    assert (what == "signal") == all("loss_signal" in sentence for sentence in said)


def other_tokens(model: ARBModel, rank: int, tokens: torch.Tensor) -> None:
    backward(loss_of(model, tokens if rank else tokens[:3], 96))


def more_calls(model: ARBModel, rank: int, tokens: torch.Tensor) -> None:
    for part in tokens.chunk(1 + rank):
        backward(loss_of(model, part, 96))


def nothing(model: ARBModel, rank: int, tokens: torch.Tensor) -> None:
    if rank == 0:
        backward(loss_of(model, tokens, 96))


def one_module_less(model: ARBModel, rank: int, tokens: torch.Tensor) -> None:
    backward(model.embedding(tokens).square().sum() if rank else loss_of(model, tokens[:, :-1], 96))


@pytest.mark.clause("ARB-RANK-002", "ARB-RUN-006")
@pytest.mark.parametrize("differ", [other_tokens, more_calls, nothing, one_module_less])
def test_ranks_of_other_calls_are_refused(target: Target, differ: Callable[..., None]) -> None:
    """On all of them, in one sentence that names a module; nothing changes, and nobody waits. The next update
    is as ever."""

    def run(ranks: Ranks) -> tuple[str, str]:
        model = models.model_of(target)
        join_ranks(model, ranks)
        before = snapshot(model)
        own = ranks.slice(batches(target, 0, 1)[0])
        differ(model, ranks.rank, own)
        with pytest.raises(ValueError, match="others have other ones") as refused:
            model._ternary_update_memory(loss_signal=1.0)
        assert models.changed(before, snapshot(model)) == []
        backward(loss_of(model, own, 96))
        model._ternary_update_memory(loss_signal=1.0)
        return str(refused.value), hash_of(model)

    (first, end), (second, other_end) = on_ranks(2, run)
    assert end == other_end
    assert first.startswith("embedding: rank 0 has ") or differ is one_module_less
    assert first.split(":")[0] == second.split(":")[0]
    assert ": rank 1 has " in second


@pytest.mark.clause("ARB-RANK-002", "ARB-RANK-004")
def test_ranks_with_other_signals_are_refused(target: Target) -> None:
    def run(ranks: Ranks) -> None:
        model = models.model_of(target)
        join_ranks(model, ranks)
        backward(loss_of(model, ranks.slice(batches(target, 0, 1)[0]), 96))
        with pytest.raises(ValueError, match=f"rank {ranks.rank} has {ranks.rank} losses to look at"):
            model._ternary_update_memory(loss_signal=1.0 if ranks.rank else None)

    on_ranks(2, run)


NUMBERS = st.integers(-(2**31 - 1), 2**31 - 1)


@pytest.mark.clause("ARB-RANK-002")
@given(st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=2, max_size=3), st.booleans())
def test_numbers_that_differ(numbers: list[list[int]], same: bool) -> None:
    """The places of those that are not the same on all ranks, on each."""
    rows = [numbers[0]] * len(numbers) if same else numbers
    expected = [place for place, column in enumerate(zip(*rows, strict=True)) if len(set(column)) > 1]
    assert on_ranks(len(rows), lambda ranks: ranks.differing(rows[ranks.rank])) == [expected] * len(rows)


@pytest.mark.clause("ARB-RANK-001")
@given(st.lists(st.lists(st.sampled_from([None, 0, 1, -3]), min_size=3, max_size=3), min_size=2, max_size=3))
def test_gradients_that_are_missing(found: list[list[int | None]]) -> None:
    """Each rank ends with the sum; one that had none too, and none has one that no rank had."""

    def run(ranks: Ranks) -> list[float | None]:
        parameters = [torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3)]
        for parameter, value in zip(parameters, found[ranks.rank], strict=True):
            parameter.grad = None if value is None else torch.full((2, 3), float(value))
        ranks.sum_gradients(parameters)
        return [None if p.grad is None else float(p.grad.unique().item()) for p in parameters]

    sums = [
        sum(value for value in column if value is not None) if any(v is not None for v in column) else None
        for column in zip(*found, strict=True)
    ]
    assert on_ranks(len(found), run) == [sums] * len(found)


@pytest.mark.clause("ARB-RANK-002")
def test_what_ranks_cannot_do_is_refused(target: Target) -> None:
    model = models.model_of(target, experts=2)
    with pytest.raises(ValueError, match="a model with experts cannot be trained on several ranks"):
        join_ranks(model, Ranks(0, 2))
    with pytest.raises(ValueError, match="a batch of 5 cannot be cut into 2 equal parts"):
        Ranks(0, 2).slice(torch.zeros(5))


def report_of(target: Target, folder: Path, processes: int, *flags: str) -> dict[str, Any]:
    """A run of pretrain.py under torchrun, or alone."""
    report = folder / f"{processes}.json"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    where = ["--backend", target.backend.name, "--device", "cpu", "--no-save", "--report", str(report)]
    shape = "--d-model 16 --heads 2 --layers 1 --batch 4 --ctx 8 --threads 1 --steps 8 --eval-batches 1"
    script = ["-m", module_of("pretrain.py"), *shape.split(), *where, "--accum-threshold", "2", *flags]
    done = command(*(torchrun if processes > 1 else []), *script)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.clause("ARB-RANK-001", "ARB-RANK-003", "ARB-TRAIN-002")
@pytest.mark.parametrize("flags", [(), ("--accumulate", "exact", "--accum", "2")], ids=["", "exact"])
def test_torchrun(target: Target, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """gloo, on 2 and 4 processes: the state hash of one."""
    if target.backend.name != "torch" or target.device != "cpu":
        pytest.skip("processes of gloo are started once, for the torch backend on the CPU")
    alone = report_of(target, tmp_path, 1, *flags)
    for processes in (2,) if flags else (2, 4):
        together = report_of(target, tmp_path, processes, *flags)
        assert together["digest"] == alone["digest"]
        assert together["valid"] == alone["valid"]
        # the mean over all ranks, summed in another order
        assert together["losses"] == pytest.approx(alone["losses"], rel=1e-6)


@pytest.mark.clause("ARB-RANK-001")
def test_a_batch_that_cannot_be_cut_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    asked = options.Options(d_model=16, heads=2, layers=1, batch=3, ctx=8, backend="torch", runs=tmp_path)
    with pytest.raises(ValueError, match="--batch 3 is no multiple of the 2 ranks"):
        loop.train(asked, task.TextTask.of(asked), Ranks(0, 2))
    assert not list(tmp_path.iterdir())
