"""Whole training steps, drawn: updates, skips, several parts, checkpoints, other settings, another backend in
mid-run. After each step all state is that of the twin, bit for bit (conformance/machine/)."""

from __future__ import annotations

import pytest
from hypothesis import settings

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import twin
from arbitor.conformance.machine.rules import STEPS, check_steps
from arbitor.gradients import sums

# how many of the profile's examples make one run, here and where kernels are interpreted
SHARE, SLOW_SHARE = 3, 50
SHORT = 8  # steps of a run there
SLOW = ("triton", "tilelang")


@pytest.mark.clause(
    "ARB-TRAIN-001", "ARB-TRAIN-002", "ARB-UPD-003", "ARB-RUN-003", "ARB-RUN-005", "ARB-RUN-006",
    "ARB-LIN-007", "ARB-RUN-007", "ARB-RUN-009", "ARB-RUN-012", "ARB-RUN-013", "ARB-RUN-017", "ARB-STATE-001",
    "ARB-CLIP-001", "ARB-CLIP-002", "ARB-MOM-003", "ARB-SCHED-003",
)  # fmt: skip
@pytest.mark.parametrize("most", [131_071, 16])
def test_steps(target: Target, one_thread: None, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of few tokens, and with 16 in the place of 131,071 of many."""
    monkeypatch.setattr(sums, "MAX_SUMMED_TOKENS", most)
    monkeypatch.setattr(twin, "SUMMED", most)
    slow = target.device == "cpu" and target.backend.name in SLOW
    runs = settings().max_examples // (SLOW_SHARE if slow else SHARE)
    check_steps(target, max(1, runs if most == 131_071 else runs // 4), SHORT if slow else STEPS)
