"""The backend that a command line names, or one sentence that says why it is of no use here."""

from __future__ import annotations

from pathlib import Path

from arbitor.kernels import registry
from arbitor.kernels.plugins import capabilities
from arbitor.kernels.registry import Backend, BackendUnavailable


class NotUsable(ValueError):
    """Why the backend that was asked for is not used, in one sentence."""


def asked_for(name: str, device: str, declared: Path | None = None) -> Backend:
    """The backend of that name on "cpu" or "cuda"; `declared` is a file of capabilities, in the place of its
    own declaration.

    Raises NotUsable for a name that is unknown, a declaration that is not valid or leaves the device out, a
    device that is not there, and whatever a stranger's module raises when it is imported.
    """
    try:
        if declared is not None:
            registry.declare(name, capabilities.load(declared))
        backend = registry.select(name)
    except (ValueError, BackendUnavailable) as error:
        raise NotUsable(str(error)) from None
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise NotUsable(f"backend {name!r} cannot be imported: {what}") from None
    reason = backend.lacks_device(device)
    if reason is not None:
        raise NotUsable(f"backend {name!r} {reason}")
    try:
        registry.device_for(device)
    except ValueError as error:
        raise NotUsable(str(error)) from None
    return backend
