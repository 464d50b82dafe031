"""Has the function of the reference itself under its own name, imported from its file."""

from __future__ import annotations

import importlib

from arbitor.kernels.operations import OPERATIONS

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.reference is the judge",),
    "clause": None,
}


ARRAYS = "numpy"
PLACES = {name: f"arbitor.reference.{operation.family}.{name}" for name, operation in OPERATIONS.items()}

globals().update({name: getattr(importlib.import_module(place), name) for name, place in PLACES.items()})
