"""JSON of records, laid out for those who look at a change: a line is a run, a row or a file of tests."""

from __future__ import annotations

import json
from typing import Any


def laid_out(value: Any, levels: int = 2) -> str:
    """`value` as JSON text that `json.loads` gives back whole.

    Objects and lists of objects are opened, a line a member, down to `levels`; what is below is one line.
    """
    return _opened(value, levels, "") + "\n"


def _opened(value: Any, levels: int, indent: str) -> str:
    inner = indent + " "
    if not value or not levels:
        return json.dumps(value)
    if isinstance(value, dict):
        parts = [
            f"{inner}{json.dumps(name)}: {_opened(part, levels - 1, inner)}" for name, part in value.items()
        ]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        parts = [inner + _opened(part, levels - 1, inner) for part in value]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]"
    return json.dumps(value)
