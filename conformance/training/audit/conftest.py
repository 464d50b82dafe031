"""A run to be audited."""

from __future__ import annotations

import pytest

from arbitor.conformance.training.audit.audits import KEPT
from arbitor.conformance.training.started import Started


@pytest.fixture
def made(started: Started) -> Started:
    """A run of six updates, whose checkpoints of every second stay."""
    assert started(*KEPT) == 0
    return started
