"""Record conformance/training/bands.json: every judged run on several seeds, and the band around their ends.

    python scripts/record_bands.py --seeds 8 --learning-seeds 6
    python scripts/record_bands.py --only text-small    # a new run; the others stay as they were recorded

About six minutes on two calm cores. Only for a change of the specification, the model, the rule's defaults
or the data, in a commit of its own that says why (CONTRIBUTING.md): a band is never widened to let a change
pass.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402  (the root must be on the path first)
import torch  # noqa: E402

from arbitor.conformance.training.bands import BANDS, MARGIN_RULE, RUNS, band_of  # noqa: E402
from arbitor.conformance.training.launch import launch  # noqa: E402
from arbitor.kernels.writing import write_whole  # noqa: E402


def record(name: str, seeds: int, flags: list[str]) -> dict[str, Any]:
    """One run on seeds 0 .. seeds - 1 -> its entry."""
    run = RUNS[name]
    reports = []
    for seed in range(seeds):
        reports.append(launch(run, "--seed", str(seed), *flags))
        seconds = reports[-1]["seconds"]
        print(f"{name} seed {seed}: {run.value(reports[-1]):.4f} in {seconds:.1f} s", flush=True)
    corpus = reports[0]["corpus"]
    band = band_of([run.value(report) for report in reports], corpus["name"])
    return {
        "command": run.command,
        "measure": run.measure,
        "corpus": corpus["name"],
        "corpus_sha256": corpus["sha256"],
        "unigram": reports[0]["guess"],
        "seeds": list(range(seeds)),
        "last_losses": [report["losses"][-1] for report in reports],
        "validations": [report["valid"][-1] if report["valid"] else None for report in reports],
        "values": band.values,
        "low": band.low,
        "high": band.high,
    }


def main() -> int:
    """Record all runs and write the file once they are done."""
    parser = argparse.ArgumentParser(description="Record conformance/training/bands.json.")
    parser.add_argument("--seeds", type=int, default=8, help="of the short runs")
    parser.add_argument("--learning-seeds", type=int, default=6, help="of the learning run")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--threads", type=int, help="of torch; 1 where others work on the machine too")
    parser.add_argument("--only", nargs="+", choices=RUNS, help="runs to record; the rest of --out stays")
    parser.add_argument("--out", type=Path, default=BANDS)
    arguments = parser.parse_args()
    flags = ["--backend", arguments.backend, "--device", "cpu", "--runs", "runs/bands"]
    if arguments.threads:
        flags += ["--threads", str(arguments.threads)]
    seeds = dict.fromkeys(RUNS, arguments.seeds) | {"learning": arguments.learning_seeds}
    runs = {name: record(name, seeds[name], flags) for name in arguments.only or RUNS}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    recorded = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "scripts/record_bands.py", *sys.argv[1:]]),
        "commit": commit,
        "backend": arguments.backend,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {arguments.threads or torch.get_num_threads()} threads",
    }
    if arguments.only:  # each of these says itself how it was recorded
        found = json.loads(arguments.out.read_text(encoding="utf-8"))
        recorded, own = found["recorded"], recorded
        runs = found["runs"] | {name: {**entry, "recorded": own} for name, entry in runs.items()}
    text = json.dumps({"rule": MARGIN_RULE, "recorded": recorded, "runs": runs}, indent=2) + "\n"
    write_whole(arguments.out, text.encode())
    print(f"wrote {arguments.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
