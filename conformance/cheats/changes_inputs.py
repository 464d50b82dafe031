"""Sets its inputs to zero and answers for those, in the hope that the judge gets them too."""

from __future__ import annotations

from typing import Any

from arbitor.conformance.cheats.lies import Function, every, tensors

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_agrees",
    "says": ("gradient differs in",),
    "clause": "ARB-UPD-003",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        for array in tensors(arguments):
            array.zero_()
        return honest(*arguments, **named)

    return function


globals().update(every(lie, ("weight_gradient",)))
