"""Records that are sealed by their own hash: one that was edited by hand or cut short shows. No signature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"
FOOTER = "footer"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """`record` with its seal at the end: SHA-256 of its JSON without it, keys sorted, no blanks, ASCII."""
    bare = {name: value for name, value in record.items() if name != SEAL}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    return bare | {SEAL: hashlib.sha256(text.encode()).hexdigest()}


def digest_above(record: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON of all that stands above the footer: keys in their order, no blanks, ASCII."""
    above = {name: value for name, value in record.items() if name != FOOTER}
    return hashlib.sha256(json.dumps(above, separators=(",", ":")).encode()).hexdigest()
