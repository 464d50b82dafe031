"""Runs mutants in their lanes: which one is killed by a test of its clause, and which one lives.

A lane is a backend on a device. Each worker has a copy of the checkout; a mutant that was killed is believed
only if the test that killed it passes on the copy without an edit (`control`).
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from arbitor.judge.suite import find_suite, find_test
from arbitor.kernels.operations import OPERATIONS

from .catalogue import AROUND, CUDA, GENERAL, Mutant
from .tree import Answer, Worker

KILLED, TIMED_OUT, SURVIVED, NOT_RUN, BROKEN = "killed", "timed out", "survived", "not run", "broken"
SECONDS = 300.0  # for one mutant
QUIET = ("-q", "--tb=short", "-p", "no:cacheprovider", "--examples", "unshrunk")
# test files that judge the reference, beside those of the operations
OF_THE_REFERENCE = (
    "reference", "reference_update", "reference_moment", "reference_refusals", "module_steps", "vectors",
    "domains", "tiles", "buffers", "preconditions", "trajectory", "tokens", "rotary",
)  # fmt: skip
# what a server imports once; on a GPU nothing that may wake the driver, which does not outlive a fork
PACKAGES = {
    "cpu": ("numpy", "torch", "pytest", "triton", "triton.language", "tilelang"),
    "cuda": ("numpy", "torch", "pytest"),
}
Done = Callable[[Mutant, "Result"], None]


@dataclass(frozen=True)
class Lane:
    """Where the mutants of a set run: `name` is its backend and device, `tests` what is asked of pytest,
    `paths` where the tests are."""

    name: str
    device: str
    tests: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ("conformance",)


@dataclass(frozen=True)
class Result:
    """What became of a mutant; `test` is the one that killed it, `message` the first line of why."""

    outcome: str
    test: str = ""
    message: str = ""
    seconds: float = 0.0

    def as_record(self) -> dict[str, str | float]:
        """For a file of results: only what there is to say, and of a message its beginning."""
        return {
            name: value for name, value in asdict(replace(self, message=self.message[:50])).items() if value
        }


def lane_of(name: str, device: str) -> Lane:
    """The lane of the set of mutants of that name on "cpu" or "cuda"."""
    backend = "reference" if name == GENERAL else "torch" if name in AROUND else name
    tests: tuple[str, ...] = ("--backend", backend, "--device", device)
    if name == GENERAL:
        found = map(find_test, (*OPERATIONS, *OF_THE_REFERENCE))
        paths = tuple(path.relative_to(find_suite().parent).as_posix() for path in found)
        return Lane(f"{GENERAL} on cpu", device, tests, paths=paths)
    if name not in AROUND:
        tests += ("--kernels",)
    where = {("triton", "cpu"): "the interpreter", ("tilelang", "cpu"): 'target "c"'}.get(
        (name, device), device
    )
    interpreted = (name, device) == ("triton", "cpu")
    return Lane(f"{name} on {where}", device, tests, {"TRITON_INTERPRET": "1"} if interpreted else {})


def verdict(answer: Answer) -> Result:
    """What a run of the tests of a mutant's clause says of it."""
    if answer.timed_out:
        return Result(TIMED_OUT)
    if answer.failed:
        first = answer.failed[0]
        return Result(KILLED, first["test"], first["message"])
    if answer.status is None:
        return Result(KILLED, message="the process died")
    if answer.status == 0 and answer.passed:
        return Result(SURVIVED)
    if answer.status in (0, 5):
        return Result(NOT_RUN, message="no test of its clause runs here")
    end = answer.log.read_text(errors="replace").strip().splitlines()[-1:]
    return Result(BROKEN, message=f"pytest ended with {answer.status}: {''.join(end)[:300]}")


class LaneRun:
    """The workers of one lane; a context that ends them."""

    def __init__(
        self,
        lane: Lane,
        root: Path,
        workers: int,
        seconds: float = SECONDS,
        packages: Sequence[str] | None = None,
    ) -> None:
        self.lane, self.root, self.seconds = lane, root, seconds
        self.packages = PACKAGES[lane.device] if packages is None else packages
        self._folder = tempfile.TemporaryDirectory(prefix="arbitor-mutants-")
        self._free: queue.Queue[Worker] = queue.Queue()
        self._pool = ThreadPoolExecutor(workers)
        self._stop = threading.Event()
        self.workers = workers
        self.files: dict[str, list[str]] = {}

    def __enter__(self) -> LaneRun:
        def start(number: int) -> Answer:
            folder = Path(self._folder.name, f"worker{number}")
            environment = self.lane.environment | {"OMP_NUM_THREADS": "1"}
            if self.lane.device != CUDA:
                environment["CUDA_VISIBLE_DEVICES"] = ""  # what a server wakes does not outlive a fork
            worker = Worker(self.root, folder, environment, self.packages)
            self._free.put(worker)
            words = [*self.lane.paths, *self.lane.tests, *QUIET, "--collect-only"]
            return worker.run(words, self.seconds, warm=True)

        try:
            answers = list(self._pool.map(start, range(self.workers)))
            self.files = answers[0].files
            if answers[0].status != 0 or not self.files:
                end = answers[0].log.read_text(errors="replace")[-800:]
                raise RuntimeError(f"{self.lane.name}: the tests cannot be collected: {end.strip()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *about: object) -> None:
        self._stop.set()
        while not self._free.empty():
            self._free.get().close()
        self._pool.shutdown(cancel_futures=True)
        while not self._free.empty():
            self._free.get().close()
        self._folder.cleanup()

    def run(self, mutants: Iterable[Mutant], done: Done) -> None:
        """Run them all; `done` is called for each, from this thread, in the order in which they end."""
        finished: queue.Queue[tuple[Mutant, Result]] = queue.Queue()
        tasks = [(mutant, self._pool.submit(self._one, mutant, finished)) for mutant in mutants]
        for _ in tasks:
            done(*finished.get())
        for _, task in tasks:
            task.result()

    def control(self, tests: Sequence[str]) -> list[str]:
        """Those of the tests that fail, or do not run, without any edit."""
        if not tests:
            return []
        worker = self._free.get()
        try:
            words = [*sorted(tests), *self.lane.tests, *QUIET]
            answer = worker.run(words, self.seconds + 20 * len(tests))
        finally:
            self._free.put(worker)
        if answer.passed == len(tests):
            return []
        return sorted({failed["test"] for failed in answer.failed}) or sorted(tests)

    def _one(self, mutant: Mutant, finished: queue.Queue[tuple[Mutant, Result]]) -> None:
        """One mutant on a free worker; whatever happens, it is answered."""
        result = Result(NOT_RUN, message="the run was ended")
        try:
            if not self._stop.is_set():
                result = self._judged(mutant)
        except Exception as error:
            result = Result(BROKEN, message=f"{type(error).__name__}: {error}")
        finally:
            finished.put((mutant, result))

    def _judged(self, mutant: Mutant) -> Result:
        lacking = mutant.lacks(self.lane.device)
        if lacking:
            return Result(NOT_RUN, message=lacking)
        rounds = self._rounds(mutant)
        if not rounds:
            return Result(NOT_RUN, message=f"no test of this lane names {mutant.clause}")
        worker, started = self._free.get(), time.monotonic()
        try:
            text = mutant.applied((self.root / mutant.file).read_text(encoding="utf-8"))
            with worker.edited(mutant.file, text):
                for words in rounds:
                    found = verdict(worker.run([*words, *self.lane.tests, *QUIET, "-x"], self.seconds))
                    if found.outcome != SURVIVED:
                        break
        finally:
            self._free.put(worker)
        return Result(found.outcome, found.test, found.message, round(time.monotonic() - started, 1))

    def _rounds(self, mutant: Mutant) -> list[list[str]]:
        """What pytest is asked to run, one after another until a test fails, the likeliest first."""
        own = Path(mutant.file).stem
        if mutant.clause:
            files = self.files.get(mutant.clause, [])
            files = sorted(files, key=lambda file: (own not in Path(file).stem, file))
            return [[*files, "--clause", mutant.clause]] if files else []
        first = [path for path in self.lane.paths if Path(path).stem == f"test_{own}"]
        return [[path] for path in first] + [[path for path in self.lane.paths if path not in first]]


def default_workers(device: str) -> int:
    """Workers of a lane where nobody says how many: the cores, and on a GPU no more than eight."""
    cores = os.cpu_count() or 1
    return min(cores, 8) if device == CUDA else cores
