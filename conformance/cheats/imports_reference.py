"""Has the function of the reference itself under its own name, imported from its file."""

from __future__ import annotations

import importlib

from arbitor.kernels.operations import OPERATIONS

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("pack called the judge (arbitor.reference.packing.pack.pack) for its answer",),
    "clause": "ARB-PACK-001",
}


ARRAYS = "numpy"
MODULES = {name: importlib.import_module(f"arbitor.reference.{name}") for name in OPERATIONS}

globals().update({name: getattr(module, name) for name, module in MODULES.items()})
