"""What the backend under test declares decides which tests run; what does not run is counted with its reason.

A backend that declares nothing claims every operation, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arbitor.kernels.registry import Backend


def why_all_is_needed(backend: Backend) -> str | None:
    """The reason why tests of what needs every operation of a model do not run, or None."""
    missing = len(backend.gaps)
    return (
        f"models, trainers and bench need all operations, and {missing} are not declared" if missing else None
    )


def skip_undeclared(backend: Backend) -> None:
    """Make every operation that is not declared skip the test that calls it, also one deep inside a model.

    A skip is no Exception: neither Hypothesis nor `pytest.raises` takes it for a result.
    """
    for operation in backend.gaps:
        setattr(backend, operation, _skipping(str(backend.lacks(operation))))


def _skipping(reason: str) -> Callable[..., Any]:
    def call(*positional: Any, **named: Any) -> Any:
        pytest.skip(reason)

    return call


def as_declared(backend: Backend) -> Backend:
    """The same module without those skips: for tests of the declaration itself."""
    return Backend(backend.name, backend.module, backend.capabilities)
