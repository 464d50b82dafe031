"""The run that others are compared with."""

from __future__ import annotations

import pytest

from arbitor.conformance.api.gpt import made, train
from arbitor.conformance.judge.target import Target


@pytest.fixture
def plain(target: Target) -> str:
    """The hash of the plain loop."""
    return train(made(target.device, target.backend.name))
