"""Run every operation of a backend on small ragged cases under compute-sanitizer; write down what it says.

    python scripts/sanitize.py --backend triton --tool memcheck --tool racecheck --out reports/sanitizer.json

Needs a CUDA device and NVIDIA's compute-sanitizer. Each tool runs this script again as its child; exit
status 1 if one of them reports an error, a result differs from the judge's, or a tool cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from arbitor.conformance.draw.strategies import SIZED, example, sized_example  # noqa: E402
from arbitor.conformance.judge.target import target_of  # noqa: E402
from arbitor.judge.provenance import machine, source  # noqa: E402
from arbitor.kernels.operations import OPERATIONS  # noqa: E402
from arbitor.kernels.writing import write_whole  # noqa: E402  (the root must be on the path first)

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SIZES = ((66, 132, 35), (64, 128, 64), (1, 4, 1))  # O, I, T
ERROR = 99  # status of a child in which the tool found something


def run_operations(backend: str, device: str) -> int:
    """Each operation on drawn cases, the products on ragged ones too, all judged; gives how many calls."""
    target, calls = target_of(backend, device), 0
    for operation in OPERATIONS:
        cases = [example(operation, seed) for seed in range(2)]
        if operation in SIZED:
            cases += [sized_example(operation, sum(size), size, 32) for size in SIZES]
        for arguments in cases:
            target.check(operation, arguments)
            calls += 1
    return calls


def under(tool: str, backend: str, device: str) -> dict[str, Any]:
    """This script as a child of one tool: its status and last lines."""
    found = shutil.which("compute-sanitizer")
    if found is None:
        return {
            "tool": tool,
            "backend": backend,
            "status": None,
            "says": "compute-sanitizer is not on the PATH",
        }
    command = [found, "--tool", tool, "--error-exitcode", str(ERROR), sys.executable, __file__]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--child", "--backend", backend, "--device", device],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},  # so that each tensor has bounds of its own
    )  # fmt: skip
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {
        "tool": tool,
        "backend": backend,
        "status": done.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "says": lines[-6:],
    }


def main() -> int:
    """Run the tools one after another, and record each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--backend", action="append", required=True, help="may be given more than once")
    parser.add_argument("--tool", action="append", choices=TOOLS, help="may be given more than once")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "sanitizer.json")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(f"{run_operations(given.backend[0], given.device)} calls, all equal to the judge's")
        return 0
    rows = []
    for backend in given.backend:
        for tool in given.tool or TOOLS[:2]:
            rows.append(under(tool, backend, given.device))
            print(json.dumps(rows[-1], indent=1), flush=True)
            command = " ".join(["python", *sys.argv])
            record = {"command": command, "machine": machine(), "source": source(ROOT), "rows": rows}
            write_whole(given.out, (json.dumps(record, indent=1) + "\n").encode())
    return int(any(row["status"] != 0 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
