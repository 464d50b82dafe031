"""What the backend under test declares decides which tests run; what does not run is counted with its reason.

A backend that declares nothing claims every operation, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arbitor.kernels.capabilities import Capabilities
from arbitor.kernels.registry import Backend


def why_left_out(capabilities: Capabilities | None, operation: str) -> str | None:
    """The reason why tests of an operation do not run, or None."""
    if capabilities is None or operation in capabilities.operations:
        return None
    return f"{operation} is not declared"


def why_all_is_needed(capabilities: Capabilities | None) -> str | None:
    """The reason why tests of what needs every operation do not run, or None."""
    if capabilities is None or not capabilities.gaps:
        return None
    number = len(capabilities.gaps)
    return f"models, trainers and bench need every operation, and {number} are not declared"


def skip_undeclared(backend: Backend) -> None:
    """Make every operation that is not declared skip the test that calls it, also one deep inside a model.

    A skip is no Exception: neither Hypothesis nor `pytest.raises` takes it for a result.
    """
    for operation in backend.capabilities.gaps if backend.capabilities is not None else ():
        setattr(backend, operation, _skipping(f"{operation} is not declared"))


def _skipping(reason: str) -> Callable[..., Any]:
    def call(*positional: Any, **named: Any) -> Any:
        pytest.skip(reason)

    return call


def as_declared(backend: Backend) -> Backend:
    """The same module without those skips: for tests of the declaration itself."""
    return Backend(backend.name, backend.module, backend.capabilities)


def why_not_on(capabilities: Capabilities | None, device: str) -> str | None:
    """The reason why the backend cannot be judged on that device, or None."""
    if capabilities is None or device in capabilities.devices:
        return None
    return f"its capabilities declare {', '.join(capabilities.devices)}, not {device}"
