"""The backend that a command line names, or one sentence that says why it is of no use here."""

from __future__ import annotations

from pathlib import Path

from arbitor.kernels import registry
from arbitor.kernels.plugins import capabilities, command, sources
from arbitor.kernels.registry import Backend, BackendUnavailable

from .environment import why_not_judge


class NotUsable(ValueError):
    """Why the backend that was asked for is not used, in one sentence."""


def asked_for(name: str, device: str, declared: Path | None = None, judges: bool = True) -> Backend:
    """The backend of that name on "cpu" or "cuda"; `declared` is a file of capabilities, in the place of its
    own declaration, and `judges` says that this process compares, and does not only time.

    Raises NotUsable for a name that is unknown, a declaration that is not valid or leaves the device out, a
    device that is not there, and whatever a stranger's module raises when it is imported.
    """
    reason = why_not_judge() if judges else None
    if reason is not None:
        raise NotUsable(reason)
    _refuse_inside(name, judges)
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


def _refuse_inside(name: str, judges: bool) -> None:
    """A stranger's code is never in a process that judges, and always in one that only times it."""
    try:
        inside = sources.inside()
    except ValueError as error:
        raise NotUsable(str(error)) from None
    if not sources.is_strange(name, registry.BACKENDS) or name.startswith(command.PREFIX):
        return
    if judges and inside:
        raise NotUsable(
            f"{sources.INSIDE}=1 would import {name!r} into the process that judges it, expected 0"
        )
    if not judges and not inside:
        try:
            sources.place_of(name, registry.BACKENDS)
        except (ValueError, BackendUnavailable) as error:
            raise NotUsable(str(error)) from None
        raise NotUsable(
            f"what times a backend imports it: {sources.INSIDE}=1 says that {name!r} is trusted with that"
        )
