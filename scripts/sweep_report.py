"""A table and a picture from the JSON of a sweep.

    python scripts/sweep_report.py docs/results/records/cpu_learning.json --title "tiny Shakespeare, d 128"

writes docs/results/cpu_learning.md and .png (sweep_page.py): validation curves, best first.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from scripts.sweep_page import (  # noqa: E402
    all_runs,
    arguments_of,
    made_by,
    result_of,
    save_picture,
    unit_of,
    write_page,
)

# Okabe and Ito's colours by kind of run
KINDS = {
    "adaptive": ("#0072B2", "adaptive votes"),
    "scaled": ("#56B4E9", "scaled votes"),
    "sign": ("#CC79A7", "sign votes"),
    "ste": ("#D55E00", "STE + AdamW"),
    "float": ("#009E73", "float32 + AdamW"),
    "frozen": ("#555555", "frozen trits"),
}


def kind_of(name: str) -> str:
    """The kind whose word the run's name has."""
    return next(kind for kind in KINDS if kind in name)


def table(result: dict[str, Any], rows: dict[str, dict[str, Any]], title: str, name: str) -> list[str]:
    """Markdown, best validation first, with the flags that made each row."""
    lines = [f"# {title}", "", f"![validation curves]({name}.png)", "", made_by(result)]
    columns = zip(*(row["flags"] for row in rows.values()), strict=False)
    shared = [flags[0] for flags in itertools.takewhile(lambda flags: len(set(flags)) == 1, columns)]
    if shared and shared[-1].startswith("--"):
        shared.pop()  # a flag whose values differ
    lines += ["", f"{all_runs(result, shared)} and the flags of the row."]
    measures = list(dict.fromkeys(name for row in rows.values() for name in row.get("measures", {})))
    head = "".join(f" | {name}" for name in measures)
    guesses = [row["guess"] for row in rows.values() if "guess" in row]
    if guesses:
        lines[-1] += f" Frequencies alone score {guesses[0]:.4f}."
    lines += ["", f"| run | validation, {unit_of(rows)}{head} | training, last line | largest rise | flags |"]
    lines += ["|---|---" + "|---" * len(measures) + "|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["valid"]):
        flags = " ".join(row["flags"][len(shared) :]) or "(none)"
        found = "".join(f" | {row['measures'][measure]:.4f}" for measure in measures)
        found += f" | {row['train']:.4f} | {row['largest_rise']:.3f}"
        lines.append(f"| {name} | {row['valid']:.4f}{found} | `{flags}` |")
    return lines


def picture(rows: dict[str, dict[str, Any]], title: str, sweep: Path, unigram: float | None) -> None:
    """Validation against steps; one colour a kind, its best run bold."""
    figure, axes = plt.subplots(figsize=(8, 4.8))
    best: dict[str, str] = {}
    for name, row in sorted(rows.items(), key=lambda item: item[1]["valid"]):
        colour, label = KINDS[kind_of(name)]
        first = kind_of(name) not in best
        best.setdefault(kind_of(name), name)
        axes.plot(
            *zip(*row["curve"], strict=True),
            color=colour,
            marker="o",
            markersize=4 if first else 2,
            linewidth=2 if first else 0.8,
            alpha=1 if first else 0.4,
            label=f"{label}: {row['valid']:.3f}" if first else None,
        )
    if unigram is not None:
        label = f"unigram {unigram:.3f}"
        axes.axhline(unigram, color="#555555", linestyle=(0, (5, 3)), linewidth=1, label=label)
    ends = [value for name in best.values() for _, value in rows[name]["curve"] if kind_of(name) != "frozen"]
    axes.set_ylim(min(ends) - 0.05, max(ends) + 0.1)  # what failed to learn is far above, and in the table
    axes.set(title=title, xlabel="step", ylabel=f"validation loss, {unit_of(rows)}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    save_picture(sweep, figure, dpi=120)


def main() -> int:
    """Write the table and the picture."""
    parser = arguments_of("A table and a picture from the JSON of a sweep.")
    parser.add_argument("--unigram", type=float, help="draw this entropy")
    arguments = parser.parse_args()
    sweep, title = arguments.sweep, arguments.title
    result = result_of(sweep)
    rows = {name: row for name, row in result["rows"].items() if "valid" in row}
    write_page(sweep, table(result, rows, title, sweep.stem))
    picture(rows, title, sweep, arguments.unigram)
    return 0


if __name__ == "__main__":
    sys.exit(main())
