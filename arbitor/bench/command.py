"""`arbitor bench`: how fast a backend is, beside what people use today, in one run.

Random data, medians of interleaved rounds with their spread, the L2 cache flushed before each call on CUDA.
A backend whose answer differs in one bit from the torch backend's is not timed: the bit stands beside every
time. Results go to a JSON file with what they were made with, and to a picture.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from arbitor.kernels import registry
from arbitor.kernels.writing import write_whole

from ..judge.asked import NotUsable, asked_for
from ..judge.provenance import machine, source
from ..judge.records import laid_out
from ..refusal import refuse
from .cases import Call, Case, cases
from .picture import draw

FLUSH_BYTES = 256 << 20  # several times any L2 cache
console = Console()


@dataclass(frozen=True)
class Row:
    """One way to do a case. Times in milliseconds; `exact` is None for opponents, whose answer is another;
    `speed` in the case's unit; `versus` the opponents' medians over this one."""

    case: str
    way: str
    exact: bool | None
    ms: float | None
    p10: float | None
    p90: float | None
    speed: float | None
    unit: str
    versus: dict[str, float]


def interleave(ways: dict[str, Call], rounds: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of each way, one call a round in turn, after three calls each that do not count."""
    timer = CudaTimer() if device == "cuda" else CpuTimer()
    times: dict[str, list[float]] = {name: [] for name in ways}
    lead = {name: timer.lead(call) for name, call in ways.items()}
    for _ in range(rounds):
        for name, call in ways.items():
            times[name].append(timer.time(call, lead[name]))
    return times


class CpuTimer:
    """Wall clock of one call."""

    def lead(self, call: Call) -> float:
        """Warm up; nothing has to run ahead."""
        for _ in range(3):
            call()
        return 0.0

    def time(self, call: Call, lead: float) -> float:
        """Milliseconds of one call."""
        started = time.perf_counter()
        call()
        return (time.perf_counter() - started) * 1e3


class CudaTimer:
    """Device time of one call with a cold L2 cache.

    The device sleeps while the host prepares the call, so that what is timed is the kernels and the gaps
    between them, not Python.
    """

    CYCLES = 4e9  # a second of sleep at twice the highest clock

    def __init__(self) -> None:
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def lead(self, call: Call) -> float:
        """Seconds that the host needs to launch a warm call."""
        for _ in range(2):
            call()
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    def time(self, call: Call, lead: float) -> float:
        """Milliseconds of one call."""
        self._flush.zero_()
        torch.cuda._sleep(200_000 + int(lead * self.CYCLES))
        self._begin.record()
        call()
        self._end.record()
        self._end.synchronize()
        milliseconds: float = self._begin.elapsed_time(self._end)
        return milliseconds


def same_bits(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """Whether dtypes, shapes and every bit agree."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype == torch.float32:
            a, b = a.contiguous().view(torch.int32), b.contiguous().view(torch.int32)
        if not torch.equal(a, b):
            return False
    return True


def run_case(case: Case, backends: Sequence[str], rounds: int, device: str) -> list[Row]:
    """Answers first; then everything that is exact, and the opponents, in the same rounds."""
    truth = case.answer(registry.select("torch"))
    ways: dict[str, Call] = dict(case.opponents)
    rows = []
    for name in backends:
        backend = registry.select(name)
        if same_bits(case.answer(backend), truth):
            ways |= {f"{name}: {way}": call for way, call in case.calls(backend).items()}
        else:
            rows.append(Row(case.name, name, False, None, None, None, None, case.unit, {}))
    times = interleave(ways, rounds, device)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        ordered = sorted(values)
        p10, p90 = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
        opponent = name in case.opponents
        versus = {} if opponent else {other: medians[other] / medians[name] for other in case.opponents}
        speed = case.work / medians[name] / (1e9 if case.unit == "TOPS" else 1e6)
        exact = None if opponent else True
        rows.append(Row(case.name, name, exact, medians[name], p10, p90, speed, case.unit, versus))
    return rows


def environment(device: str) -> dict[str, Any]:
    """What the numbers were made with."""
    return {
        "command": " ".join(["arbitor", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
        "source": source(Path(__file__).resolve().parents[2]),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "cpu",
    }


def show(rows: Sequence[Row]) -> None:
    """A table a case."""
    for case in dict.fromkeys(row.case for row in rows):
        table = Table("way", "exact", "ms", "p10..p90", "speed", "times faster than", title=case)
        table.title_justify = "left"
        for row in (row for row in rows if row.case == case):
            exact = {None: "", True: "yes", False: "[red]NO, not timed[/red]"}[row.exact]
            if row.ms is None:
                table.add_row(row.way, exact)
                continue
            against = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row.versus.items())
            spread, speed = f"{row.p10:.3g}..{row.p90:.3g}", f"{row.speed:.3g} {row.unit}"
            table.add_row(row.way, exact, f"{row.ms:.4g}", spread, speed, against)
        console.print(table)


def bench(backends: Sequence[str], device: str, size: str, rounds: int, only: str, out: Path) -> int:
    """Run the cases whose name contains `only`; gives 1 if a backend was not exact, 2 with one sentence if
    one cannot be used or declares gaps.

    Writes `out` (JSON) and a picture beside it.
    """
    for name in backends:
        try:
            gaps = asked_for(name, device, judges=False).gaps
        except NotUsable as error:
            return refuse(str(error))
        if gaps:
            return refuse(
                f"bench times whole backends, and {name!r} declares that it lacks {', '.join(gaps)}"
            )
    made = list(cases(size, device))
    rows: list[Row] = []
    for make in track(made, description="bench", console=Console(stderr=True), transient=True):
        case = make()
        if only in case.name:
            rows += run_case(case, backends, rounds, device)
            record = {"environment": environment(device), "rounds": rounds, "rows": [asdict(r) for r in rows]}
            write_whole(out, laid_out(record).encode())
    if not rows:
        console.print(f"no case of size {size} has {only!r} in its name")
        return 2
    show(rows)
    draw(record, out.with_suffix(".png"))
    console.print(f"written: {out}, {out.with_suffix('.png')}")
    return int(any(row.exact is False for row in rows))
