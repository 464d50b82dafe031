"""Writes docs/traceability.md: every clause with its tests, its vectors and the mutants killed.

    python scripts/trace.py

conformance/specification/test_traceability.py fails if the page is not what this would write, or
a clause lacks a test or a killed mutant.
"""

from __future__ import annotations

from pathlib import Path

from arbitor.conformance.specification.traces import PAGE, page
from arbitor.kernels.writing import write_whole

if __name__ == "__main__":
    write_whole(PAGE, page().encode())
    print(Path(PAGE).name)
