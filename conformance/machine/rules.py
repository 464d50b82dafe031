"""Hypothesis' state machine over training steps: what is drawn, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from arbitor.conformance.draw.builders import THRESHOLDS
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.twins import Twins
from arbitor.conformance.machine.world import MODULES, POISONS, Configuration

STEPS = 12  # of a run
SCALES = (0, 0, 0, 0, -3, 4, 20, 60, -60, -100, -140, 126)  # the last ones leave float32 at either end
GAINS = st.sampled_from((None, 65_536, 0, 1, 300_000, 2**22))
SCALE_GAINS = st.sampled_from((None, 0, 65_536, 2**20))
POISON = st.fixed_dictionaries({"where": st.sampled_from(MODULES), "value": st.sampled_from([*POISONS])})
CONFIGURATIONS = st.builds(
    Configuration,
    vocabulary=st.sampled_from((2, 5, 9)),
    width=st.sampled_from((4, 8, 1, 5, 13, 18)),
    group_size=st.sampled_from((4, 8, 12, 1024)),
    e_span=st.integers(0, 6),
    seed=st.sampled_from((0, 1, 2**32, 2**64 - 1)),
    updates=st.sampled_from((0, 1, 2**32 - 1000)),
).map(asdict)
SETTINGS = st.fixed_dictionaries(
    {"accum_threshold": st.sampled_from((1, 2, 3, 31, 32)), "e_accum_threshold": st.sampled_from(THRESHOLDS)},
    optional={
        "rule": st.sampled_from(("scaled", "sign", "adaptive")),
        "gain": st.sampled_from((0, 1, 3 << 16, 300_000, 2**22)),
        "vote_max": st.sampled_from((1, 2, 16, 32)),
        "rate": st.sampled_from((0, 1, 256, 300, 65_535)),
        "scale_gain": st.sampled_from((0, 1, 1 << 14, 1 << 16, 2**20)),
    },
)


class Training(RuleBasedStateMachine):
    """Training steps on `target` beside its twin. Subclasses set it, and what is called before every
    step, with 1 before the first one of a run, else 0; `failed`: whether one has."""

    target: ClassVar[Target]
    before: ClassVar[Callable[[int], None]]
    failed: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        type(self).before(1)
        self.twins: Twins | None = None
        self.saved = False

    def do(self, kind: str, **step: Any) -> None:
        """One step on both sides."""
        assert self.twins is not None
        type(self).before(0)
        try:
            self.twins.do({"do": kind, **step})
        except Exception:
            type(self).failed = True
            raise

    @initialize(configuration=CONFIGURATIONS)
    def begin(self, configuration: dict[str, Any]) -> None:
        """Both sides in one state, in which much moves in a step."""
        self.twins = Twins(self.target, configuration)
        self.do("configure", accum_threshold=2, e_accum_threshold=2, scale_gain=1 << 16)

    def train(self, parts: list[list[int]], **step: Any) -> None:
        """Forward, backward and update; what is not given is the ordinary."""
        ordinary = {"uses": 1, "scale": 0, "signal": "loss", "poison": None, "gain": None, "scale_gain": None}
        self.do("train", parts=parts, **(ordinary | step))

    def tokens(self, data: st.DataObject) -> list[int]:
        """Tokens of one part, in which some repeat."""
        assert self.twins is not None
        token = st.integers(0, self.twins.configuration["vocabulary"] - 1)
        return data.draw(st.lists(token, min_size=2, max_size=6))

    @rule(data=st.data(), scale=st.sampled_from(SCALES), signal=st.sampled_from(("loss", "none")))
    def one_batch(self, data: st.DataObject, **step: Any) -> None:
        """An ordinary step."""
        self.train([self.tokens(data)], **step)

    @rule(data=st.data(), told=st.sampled_from((0, 1, 16, -7, 60, -126, 126)), scaled=st.booleans())
    def told_scale(self, data: st.DataObject, told: int, scaled: bool) -> None:
        """A loss that was multiplied by what the update is told, or was not."""
        self.train([self.tokens(data)], scale=told if scaled else 0, told=told)

    @rule(data=st.data(), gain=GAINS, scale_gain=SCALE_GAINS, uses=st.sampled_from((2, 0, 1)))
    def scheduled(self, data: st.DataObject, **step: Any) -> None:
        """Gains of a schedule; the middle layer is used twice, not at all or once."""
        self.train([self.tokens(data)], **step)

    @rule(data=st.data(), uses=st.sampled_from((1, 2)), number=st.integers(2, 3))
    def several_parts(self, data: st.DataObject, uses: int, number: int) -> None:
        """One update from several microbatches."""
        self.train([self.tokens(data) for _ in range(number)], uses=uses)

    @rule(data=st.data(), how=st.one_of(st.sampled_from(("nan", "inf")), POISON))
    def not_finite(self, data: st.DataObject, how: str | dict[str, str]) -> None:
        """A loss signal or a gradient that is not finite."""
        step: dict[str, Any] = {"signal": how} if isinstance(how, str) else {"poison": how}
        self.train([self.tokens(data)], **step)

    @rule(changed=SETTINGS)
    def configure(self, changed: dict[str, Any]) -> None:
        """Other thresholds and rules in mid-run."""
        self.do("configure", **changed)

    @rule(how=st.sampled_from(("2bit", "dense")))
    def save(self, how: str) -> None:
        """A checkpoint."""
        self.do("save", format=how)
        self.saved = True

    @precondition(lambda self: self.saved)
    @rule()
    def resume(self) -> None:
        """Back to the checkpoint."""
        self.do("resume")

    @rule()
    def switch(self) -> None:
        """On with the other backend."""
        self.do("switch")

    def teardown(self) -> None:
        """After the last step, or the one that failed."""
        if self.twins is not None:
            self.twins.close()


def machine_of(target: Target, before: Callable[[int], None] = lambda new: None) -> type[Training]:
    """The state machine for that target; `before` is called with 1 before a run, with 0 before each step."""
    return type("Steps", (Training,), {"target": target, "before": staticmethod(before)})


def check_steps(target: Target, runs: int, steps: int = STEPS, **how: Any) -> None:
    """Draw that many runs; raises what the smallest one that fails raises."""
    how = {"report_multiple_bugs": False} | how
    chosen = settings(settings(), max_examples=runs, stateful_step_count=steps, **how)
    run_state_machine_as_test(machine_of(target), settings=chosen)
