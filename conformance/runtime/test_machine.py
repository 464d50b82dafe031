"""Whole training steps, drawn: updates, skips, several parts, checkpoints, other settings, another backend in
mid-run. After each step all state is that of the twin, bit for bit (conformance/machine/)."""

from __future__ import annotations

import pytest
from hypothesis import settings

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.rules import STEPS, check_steps

# how many of the profile's examples make one run, here and where kernels are interpreted
SHARE, SLOW_SHARE = 3, 50
SHORT = 8  # steps of a run there
SLOW = ("triton", "tilelang")


@pytest.mark.clause(
    "ARB-TRAIN-001", "ARB-TRAIN-002", "ARB-UPD-003", "ARB-RUN-003", "ARB-RUN-005", "ARB-RUN-006",
    "ARB-RUN-007", "ARB-RUN-009", "ARB-RUN-012", "ARB-RUN-013", "ARB-STATE-001",
)  # fmt: skip
def test_steps(target: Target, one_thread: None) -> None:
    slow = target.device == "cpu" and target.backend.name in SLOW
    runs = settings().max_examples // (SLOW_SHARE if slow else SHARE)
    check_steps(target, max(1, runs), SHORT if slow else STEPS)
