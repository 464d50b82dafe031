"""Programs that speak the line protocol as a test tells them to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from arbitor.conformance.operations.common import int8
from arbitor.kernels.registry import Backend, select

# A program that answers `pack` of [[1, 0]] right, and anything else as the test says; it counts its starts.
PROGRAM = """#!{python} -S
import json, os, sys, time
with open({starts!r}, "a") as file:
    file.write("start\\n")
GOOD = {{"codes": {{"dtype": "uint8", "shape": [1, 1], "data": "Vg=="}}}}
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    number, operation = request["id"], request.get("operation")
    def answer(**fields):
        say(json.dumps({{"id": number, **fields}}) + "\\n")
    if "hello" in request:
        {hello}
    elif operation == "pack":
        answer(results=GOOD)
    else:
        {other}
"""
HELLO = "answer(protocol=1)"
GOOD: dict[str, Any] = {"trits": int8([[1, 0]])}
CALL: dict[str, Any] = {"codes": torch.tensor([[86]], dtype=torch.uint8), "columns": 2}


class Made:
    """A program in a folder of the test, and how often it was started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "program"
        self.starts_file = folder / "starts"

    def write(self, other: str = "pass", hello: str = HELLO) -> str:
        text = PROGRAM.format(python=sys.executable, starts=str(self.starts_file), hello=hello, other=other)
        self.path.write_text(text)
        self.path.chmod(0o755)
        return f"cmd:{self.path}"

    def backend(self, other: str = "pass", hello: str = HELLO) -> Backend:
        return select(self.write(other, hello))

    @property
    def starts(self) -> int:
        return len(self.starts_file.read_text().splitlines())
