"""Repeats a saved failing call: `python -m arbitor.conformance.replay reports/repro-pack-0123456789ab.npz
--backend torch`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from arbitor.conformance.repro import load
from arbitor.conformance.target import CaseLost, target_of
from arbitor.refusal import refuse


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if the backend now agrees with its judge; 1 if not, and the difference is printed; 2 with
    one sentence if it cannot be asked."""
    parser = argparse.ArgumentParser(prog="python -m arbitor.conformance.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="what a failing test saved")
    parser.add_argument("--backend", default="torch", help="as of arbitor verify (default: torch)")
    parser.add_argument("--device", default="cpu", help="where the backend's arrays are (default: cpu)")
    options = parser.parse_args(argv)
    operation, arguments = load(options.file)
    try:
        target = target_of(options.backend, options.device)
    except (ValueError, RuntimeError) as error:
        return refuse(str(error))
    reason = target.backend.lacks(operation)
    if reason is not None:
        return refuse(f"backend {options.backend!r}: {reason}")
    try:
        target.check(operation, arguments)
    except (AssertionError, CaseLost) as error:
        print(error)
        return 1
    print(f"{operation}: {target.backend.name} and {target.judge.name} give the same bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
