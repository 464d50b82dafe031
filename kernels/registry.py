"""Backends by name: which there are, which one works here, and why the others do not.

A backend is a module path in a table, loaded when it is asked for. So the NumPy reference runs as a backend
without this package importing it, and so does a stranger's: `select("their.module")`, `select("file.py")`,
`select("cmd:./program")`, or the name of an entry point (sources.py).

A module provides the functions of `operations.OPERATIONS` and five optional names: `ARRAYS`, what its
arrays are ("torch" by default, "numpy", or "lists" of integers with float32 as bit patterns); `CAPABILITIES`,
what it declares that it can do (capabilities.py); `why_not()`, a reason why it cannot run on this machine, or
None; `why_not_auto(device)`, a reason why nobody who does not ask for it should get it on a "cpu" or a "cuda"
device, or None; and `configurations(device)`, all ways in which its host code may run an operation there, as
{operation: {name of the way: function}}.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from .ambient import guarded
from .checks import check_call
from .operations import OF_LAYERS, OPERATIONS, Operation
from .plugins import sources
from .plugins.adapters import ADAPTERS
from .plugins.capabilities import Capabilities, declared_by
from .plugins.sources import BackendUnavailable as BackendUnavailable

ENVIRONMENT_VARIABLE = "ARB_TERNARY_BACKEND"

# name: module path, from the best to the slowest; `auto` takes the first that works and is meant for speed
BACKENDS: dict[str, str] = {
    "triton": "arbitor.kernels.triton",
    "tilelang": "arbitor.kernels.tilelang",
    "torch": "arbitor.kernels.eager",
    "reference": "arbitor.reference",
}


@dataclass(frozen=True)
class Choice:
    """The backend that was chosen, and the reason in words."""

    backend: Backend
    reason: str


class Backend:
    """The operations of one module behind the host-side checks, as attributes: `backend.linear_forward(...)`.

    Arguments may be given by position or by name; tensors are torch tensors whatever the module works on.
    Operations without an array argument take `device`. With `capabilities` a module may lack operations: a
    call of one raises NotImplementedError. Without, everything is claimed, and what is missing is refused.
    """

    def __init__(self, name: str, module: ModuleType, capabilities: Capabilities | None = None) -> None:
        self.name = name
        self.module = module
        self.capabilities = capabilities
        self.arrays: str = getattr(module, "ARRAYS", "torch")
        if self.arrays not in ADAPTERS:
            raise BackendUnavailable(
                f"backend {name!r}: ARRAYS must be one of {', '.join(ADAPTERS)}, got {self.arrays!r}"
            )
        missing = [operation for operation in OPERATIONS if not hasattr(module, operation)]
        if missing and (capabilities is None or len(missing) == len(OPERATIONS)):
            hint = "" if len(missing) == len(OPERATIONS) else "; CAPABILITIES may declare that"
            raise BackendUnavailable(f"backend {name!r} ({module.__name__}) lacks {', '.join(missing)}{hint}")
        for operation in OPERATIONS.values():
            setattr(self, operation.name, self._checked(operation))

    @property
    def gaps(self) -> tuple[str, ...]:
        """Operations that it declares not to have, in the order of the table."""
        return self.capabilities.gaps if self.capabilities is not None else ()

    @property
    def gaps_of_layers(self) -> tuple[str, ...]:
        """Those that a ternary layer calls."""
        return tuple(name for name in self.gaps if name in OF_LAYERS)

    def lacks(self, operation: str) -> str | None:
        """That the operation is not declared, in words, or None."""
        return f"{operation} is not declared" if operation in self.gaps else None

    def lacks_device(self, device: str) -> str | None:
        """That the kind of device is not declared, in words after its name, or None."""
        if self.capabilities is None or device in self.capabilities.devices:
            return None
        return f"declares {', '.join(self.capabilities.devices)}, not {device}"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"backend {self.name!r} has no operation {name!r}; there are {', '.join(OPERATIONS)}"
        )

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, {self.module.__name__})"

    def _checked(self, operation: Operation) -> Callable[..., Any]:
        adapt = ADAPTERS[getattr(self.module, "HANDED", self.arrays)]  # a module elsewhere takes tensors
        function: Callable[..., Any] = getattr(self.module, operation.name, None) or _lacking(self, operation)

        def call(*positional: Any, device: str | torch.device = "cpu", **named: Any) -> Any:
            values = _bind(operation, positional, named)
            check_call(operation, values)
            return guarded(adapt, operation, function, values, device)

        call.__name__ = operation.name
        call.__doc__ = function.__doc__
        return call


def _lacking(backend: Backend, operation: Operation) -> Callable[..., Any]:
    def function(*arguments: Any, **named: Any) -> Any:
        raise NotImplementedError(f"backend {backend.name!r} has no function {operation.name}")

    return function


def _bind(operation: Operation, positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = dict(zip(operation.arguments, positional, strict=False))
    values.update(named)
    if len(values) != len(positional) + len(named) or values.keys() != set(operation.arguments):
        raise TypeError(
            f"{operation.name} takes ({', '.join(operation.arguments)}), "
            f"got {len(positional)} by position and {sorted(named)} by name"
        )
    return values


def why_not(name: str) -> str | None:
    """Reason why backend `name` cannot run here, or None if it can.

    Only a missing third-party package counts as a reason; any other error in a backend is raised as it is.
    """
    try:
        module = sources.load(name, BACKENDS)
    except ModuleNotFoundError as error:
        return f"no module named {error.name!r} (PYTHONPATH=FOLDER makes a module in FOLDER importable)"
    except BackendUnavailable as error:
        return str(error)
    reason: Callable[[], str | None] | None = getattr(module, "why_not", None)
    return reason() if reason is not None else None


def why_not_auto(name: str, device: str) -> str | None:
    """Reason why `auto` passes over that backend on a device of that type, or None."""
    reason = why_not(name)
    if reason is not None:
        return reason
    module = select(name).module
    judge: Callable[[str], str | None] | None = getattr(module, "why_not_auto", None)
    if judge is not None:
        return judge(device)
    return None if device == "cpu" or select(name).arrays == "torch" else "it runs on the CPU only"


def configurations(name: str, device: str) -> dict[str, dict[str, Callable[..., Any]]]:
    """Every way in which a backend may run an operation on that type of device, by operation and by name.

    The functions take the operation's arguments as the module has them; empty if there is nothing to choose.
    """
    found: Callable[[str], dict[str, dict[str, Callable[..., Any]]]] | None = getattr(
        select(name).module, "configurations", None
    )
    return found(device) if found is not None else {}


_loaded: dict[str, Backend] = {}
_declared: dict[str, Capabilities] = {}


def declare(name: str, capabilities: Capabilities) -> None:
    """Take these for what that backend declares, in the place of what its module does; before `select`."""
    _declared[name] = capabilities
    _loaded.pop(name, None)


def select(name: str) -> Backend:
    """The backend of that name, module path, file or program: it works or raises (ARB-RUN-011).

    It never falls back. Raises ValueError for an unknown name or a declaration that is not valid, and
    BackendUnavailable with the reason if it cannot run here.
    """
    if name == "auto":
        return choose("auto").backend
    if name not in _loaded:
        reason = why_not(name)
        if reason is not None:
            raise BackendUnavailable(f"backend {name!r} cannot run here: {reason}")
        module = sources.load(name, BACKENDS)
        _loaded[name] = Backend(name, module, _declared.get(name) or declared_by(module, name))
    return _loaded[name]


def asked_for(name: str | None = None) -> str:
    """What was asked for: `name`, else the environment variable ARB_TERNARY_BACKEND, else auto."""
    return name or os.environ.get(ENVIRONMENT_VARIABLE) or "auto"


def choose(name: str | None = None, device: str = "cpu") -> Choice:
    """Resolve what was asked for and say why; `auto` depends on the type of device that the arrays are on."""
    asked = asked_for(name)
    if asked != "auto":
        source = "asked for" if name else f"{ENVIRONMENT_VARIABLE}={asked}"
        return Choice(select(asked), source)
    passed: list[str] = []
    for candidate in BACKENDS:
        reason = why_not_auto(candidate, device)
        if reason is None:
            found = f"auto: the fastest that works on {device} is {candidate}"
            return Choice(select(candidate), "; ".join([found, *passed]))
        passed.append(f"{candidate}: {reason}")
    raise BackendUnavailable(f"no backend works on {device}: " + "; ".join(passed))


def device_for(asked: str = "auto", name: str | None = None) -> torch.device:
    """The device that was asked for; "auto" is CUDA where there is one and what `choose` takes can use it.

    Raises ValueError for another kind of device, and for CUDA where there is none.
    """
    there = torch.cuda.is_available()
    if asked == "auto":
        fits = there and choose(name, "cuda").backend.arrays == "torch"
        return torch.device("cuda" if fits else "cpu")
    if asked.partition(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {asked!r}")
    if asked != "cpu" and not there:
        raise ValueError(f"--device {asked}: torch sees no CUDA device here")
    return torch.device(asked)
