"""Answers with an object that is equal to everything."""

from __future__ import annotations

from typing import Any

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("is Equal, expected a plain torch.Tensor",),
    "clause": "ARB-PACK-001",
}


class Equal:
    def __eq__(self, other: object) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self


globals().update(every(instead(Equal)))
