"""A run on the backend under test beside its twin: the first step, tensor and element where they part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arbitor.checkpoint import state_hash
from arbitor.conformance.judge.cases import FailedSteps, carry
from arbitor.conformance.judge.compare import difference
from arbitor.conformance.judge.target import CaseLost, Target
from arbitor.conformance.machine.models import rivals
from arbitor.conformance.machine.twin import Twin
from arbitor.conformance.machine.world import Configuration, Done, Step, World, captures_left
from arbitor.update import ternary_modules


class Parted(AssertionError):
    """The two sides are not the same after a step; the message says where."""


class Twins:
    """Both sides of one run. `hashes` are those of the judge's state after each step."""

    def __init__(self, target: Target, configuration: Mapping[str, Any]) -> None:
        self.target, self.configuration = target, dict(configuration)
        self.steps: list[Step] = []
        self.hashes: list[str] = []
        name, judge = target.backend.name, rivals(target)[0]
        of = Configuration(**configuration)
        self.twin = Twin(of, judge, target.device)
        try:
            self.world = World(of, name, rivals(target)[-1], target.device)
            self._compare("at the beginning", Done(), Done())
        except (Exception, CaseLost) as error:
            carry(error, self.case())
            raise

    def close(self) -> None:
        """Remove what the run left on disk."""
        self.world.close()

    def case(self) -> FailedSteps:
        """The run so far, as what a failure carries."""
        where = (self.target.backend.name, self.target.device)
        return FailedSteps(self.configuration, list(self.steps), *where, list(self.hashes))

    def do(self, step: Step) -> None:
        """The same step on both sides. Raises Parted where they then differ, and what a side raises."""
        self.steps.append(step)
        right = self.twin.do(step)
        self.hashes.append(state_hash(self.twin.model.tensors()))
        try:
            mine = self.world.do(step)
            self._compare(f"after step {len(self.steps)}, {step['do']}", right, mine)
        except (Exception, CaseLost) as error:
            carry(error, self.case())
            raise

    def _compare(self, when: str, right: Done, mine: Done) -> None:
        """Losses, what was done, the whole state, captures."""
        for number, (expected, actual) in enumerate(zip(right.losses, mine.losses, strict=True), 1):
            found = difference("loss", expected[None], actual[None])
            if found is not None:
                raise Parted(f"{when}: of part {number}, {found}")
        if mine.skipped != right.skipped:
            did = ["was made", "was skipped"]
            raise Parted(f"{when}: the update {did[mine.skipped]}, expected that it {did[right.skipped]}")
        state, found_state = self.twin.model.tensors(), self.world.model.tensors()
        if state.keys() != found_state.keys():
            raise Parted(f"{when}: state {sorted(found_state)}, expected {sorted(state)}")
        for name, tensor in state.items():
            module, _, array = name.rpartition(".")
            found = difference(array, tensor, found_state[name])
            if found is not None:
                raise Parted(f"{when}: {module}.{found}")
        if mine.counts != right.counts:
            raise Parted(f"{when}: counts {mine.counts}, expected {right.counts}")
        left = captures_left(ternary_modules(self.world.model))
        if left:
            raise Parted(f"{when}: captures are left in {', '.join(left)}")


def run(target: Target, configuration: Mapping[str, Any], steps: Sequence[Step]) -> list[str]:
    """The whole run again -> the hashes of the judge's state. Raises Parted, or what a side raises."""
    twins = Twins(target, configuration)
    try:
        for step in steps:
            twins.do(step)
    finally:
        twins.close()
    return twins.hashes
