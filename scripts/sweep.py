"""Run a plan of training runs, several at a time, and gather their ends into one JSON file.

    python scripts/sweep.py docs/results/records/audio.plan.json --out docs/results/records/audio.json

A plan is {"common": [flags], "runs": {name: [flags]}}, and "trainer": the name of one in training/, pretrain
if it is not said. A run that is already in the output is not run again,
so an interrupted sweep goes on where it was; the output holds the command, the versions and the commit beside
the numbers, and is a line a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from arbitor.judge.provenance import machine, source  # noqa: E402
from arbitor.judge.records import laid_out  # noqa: E402
from arbitor.kernels.writing import write_whole  # noqa: E402  (the root must be on the path first)
from arbitor.training.recording.lines import read_lines  # noqa: E402
from arbitor.training.spikes import largest_spike, thinned  # noqa: E402


def environment() -> dict[str, Any]:
    """Versions, device and commit that the numbers belong to."""
    found = source(ROOT) or {"commit": "unknown"}
    here = machine()
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": found["commit"][:7] + ("-dirty" if found.get("dirty") else ""),
        **here,
        "device": ", ".join(here["cuda_devices"]) or "cpu",
    }


def run_one(trainer: str, name: str, flags: list[str], runs: Path) -> dict[str, Any]:
    """One training run in its own process; its last losses, or the end of its error output."""
    started = time.monotonic()
    report = runs / name / "report.json"
    where = ["--run", name, "--runs", str(runs), "--report", str(report)]
    command = [sys.executable, "-m", f"training.{trainer}", *flags, *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"flags": flags, "seconds": round(time.monotonic() - started, 1)}
    if done.returncode:
        return row | {"failed": done.stderr[-800:]}
    records = read_lines(runs / name / "metrics.jsonl")
    valid = [(record["step"], record["val_loss"]) for record in records if record.get("val_loss") is not None]
    losses = [record["loss"] for record in records if record.get("loss") is not None]
    rises = [after - before for before, after in itertools.pairwise(losses)]
    last, reported = records[-1], json.loads(report.read_text())
    ends = [record["val_loss"] for record in records if "val_loss" in record]
    if not ends or ends[-1] is None or not losses:  # an earlier validation is no end of this run
        return row | {"failed": f"no finite validation after {last['step']} steps"} | calm(records)
    return row | {
        "steps": last["step"],
        "valid": round(valid[-1][1], 4),
        "curve": [[step, round(value, 4)] for step, value in valid],
        "train": round(losses[-1], 4),
        "largest_rise": round(max(rises, default=0.0), 3),
        **calm(records),
        "flips": last.get("flips"),
        "items_per_s": last.get("items_per_s"),
        "unit": reported["unit"],
        "measures": {name: round(value, 4) for name, value in reported["measures"].items()},
        **({"experts": reported["experts"]} if reported["experts"] else {}),
        "guess": round(reported["guess"], 4),
        "state_sha256": reported["digest"],
    }


def calm(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest spike and a short form of the training curve, of a run that logged every step; else empty.

    A spike without a size is a loss that is not finite.
    """
    logged = [record for record in records if "loss" in record]
    if [record["step"] for record in logged] != list(range(1, len(logged) + 1)):
        return {}
    losses = [record["loss"] for record in logged]
    spike = largest_spike(losses)
    size = round(spike.size, 4) if math.isfinite(spike.size) else None
    curve = [[step, *(value and round(value, 4) for value in values)] for step, *values in thinned(losses)]
    return {"spike": {"size": size, "step": spike.step}, "train_curve": curve}


def main() -> int:
    """Run what the output does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--only", default="", help="run only names that contain this")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after this time")
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text())
    result = json.loads(arguments.out.read_text()) if arguments.out.exists() else {"rows": {}}
    result["environment"] = environment()
    result["trainer"] = trainer = plan.get("trainer", "pretrain")
    todo = {
        name: [*plan["common"], *flags]
        for name, flags in plan["runs"].items()
        if arguments.only in name and "valid" not in result["rows"].get(name, {})
    }
    started = time.monotonic()

    def guarded(name: str) -> dict[str, Any] | None:
        late = time.monotonic() - started > arguments.seconds
        return None if late else run_one(trainer, name, todo[name], arguments.runs)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = {pool.submit(guarded, name): name for name in todo}
        for job in as_completed(jobs):
            row = job.result()
            if row is None:
                continue
            result["rows"][jobs[job]] = row
            write_whole(arguments.out, laid_out(result).encode())
            print(f"{jobs[job]:40s} {row.get('valid', row.get('failed'))} {row['seconds']} s", flush=True)
    return int(any("failed" in row for row in result["rows"].values()))


if __name__ == "__main__":
    sys.exit(main())
