"""Modules of strangers, as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbitor.conformance.operations.common import int8
from arbitor.kernels import registry

CAPABILITIES = {"version": 1, "operations": ["pack"], "formats": ["codes"], "devices": ["cpu"]}
HEAD = f"CAPABILITIES = {CAPABILITIES!r}\n"
TRITS = int8([[1, 0, -1, 1, 0]])


def backend(text: str) -> registry.Backend:
    """A file of a name of its own, for a file is loaded once."""
    path = Path(f"mine{len(list(Path().iterdir()))}.py").resolve()
    path.write_text(HEAD + text)
    return registry.select(str(path))


def told(text: str) -> str:
    """What a module says of its surroundings, as the message of an error."""
    with pytest.raises(ValueError, match=r"^said ") as caught:
        backend(f"import os\ndef pack(trits):\n    raise ValueError(f'said {{{text}}}')").pack(TRITS)
    return str(caught.value).removeprefix("said ")
