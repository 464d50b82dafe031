"""What experts did: a table and a picture from the JSON of a sweep with and without them.

    python scripts/moe_report.py docs/results/records/cpu_moe.json --title "Experts, tiny Shakespeare"

writes docs/results/cpu_moe.md and .png (sweep_page.py): validation, passes a token, and each expert's share
of its block's choices, all from the last validation.
"""

from __future__ import annotations

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

# Okabe and Ito's colours: of runs, and of experts
COLOURS = ("#555555", "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
TAKES_ALL = 0.9  # of a block's choices divided by top_k: then the others hardly matter
READABLE = 0.04  # a smaller share is narrower than its label

Rows = dict[str, dict[str, Any]]


def uneven(row: dict[str, Any]) -> list[str]:
    """A sentence for each block in which one expert is chosen by nine tokens in ten, or one by none."""
    flags = row["flags"]
    top_k = int(flags[flags.index("--top-k") + 1]) if "--top-k" in flags else 2
    found = []
    for block, use in enumerate(row.get("experts", [])):
        for expert, share in enumerate(use["shares"]):
            if share * top_k >= TAKES_ALL:
                found.append(f"block {block}: expert {expert} is in {share * top_k:.0%} of the passes")
            if not share:
                found.append(f"block {block}: expert {expert} is never chosen")
    return found


def table(result: dict[str, Any], title: str, name: str) -> list[str]:
    """Markdown: how it was made, a row a run, and what is uneven."""
    rows = result["rows"]
    plain = next(iter(rows.values()))["flags"]
    lines = [f"# {title}", "", f"![validation, and shares of experts]({name}.png)", ""]
    page = f"python scripts/moe_report.py docs/results/records/{name}.json --title ..."
    lines += [f"{made_by(result)} Then `{page}`.", ""]
    lines += [
        f"{all_runs(result, plain)} and the flags of the row. Shares are of a block's choices on the "
        "validation part, at the end; evenness is their entropy beside that of equal shares, of the block "
        "where it is lowest.",
        "",
    ]
    lines += [
        "| run | validation | passes a token, by block | shares of experts, by block | evenness | flags |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for run, row in rows.items():
        used = row.get("experts", [])
        passes = "; ".join(f"{use['iterations']:.3f}" for use in used)
        shares = "; ".join(" ".join(f"{share:.0%}" for share in use["shares"]) for use in used)
        evenness = f"{row['measures']['evenness']:.3f}" if used else ""
        flags = " ".join(row["flags"][len(plain) :]) or "(none)"
        lines.append(f"| {run} | {row['valid']:.4f} | {passes} | {shares} | {evenness} | `{flags}` |")
    told = [f"- {run}: {sentence}." for run, row in rows.items() for sentence in uneven(row)]
    return [*lines, "", *(told or ["No expert takes nine tokens of ten, and none is idle, in any block."])]


def picture(rows: Rows, unit: str, title: str, sweep: Path) -> None:
    """Left: validation against steps. Right: shares, a bar a block of a run, passes a token beside it."""
    used = [
        (run, block, use) for run, row in rows.items() for block, use in enumerate(row.get("experts", []))
    ]
    size = (12, max(4.4, 0.42 * len(used)))  # inches; a bar's label is of two lines
    figure, (curves, bars) = plt.subplots(1, 2, figsize=size, layout="constrained")
    for colour, (run, row) in zip(COLOURS, rows.items(), strict=False):
        curves.plot(*zip(*row["curve"], strict=True), color=colour, marker="o", markersize=4, label=run)
    curves.set(title="validation", xlabel="step", ylabel=unit)
    curves.legend(frameon=False, fontsize=9)
    for place, (_, _, use) in enumerate(used):
        left = 0.0
        for expert, share in enumerate(use["shares"]):
            colour = COLOURS[1 + expert % (len(COLOURS) - 1)]
            bars.barh(place, share, left=left, color=colour, edgecolor="white")
            if share >= READABLE:
                bars.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8)
            left += share
        bars.text(1.02, place, f"{use['iterations']:.3f} passes", va="center", fontsize=9)
    bars.set_yticks(range(len(used)), [f"{run}\nblock {block}" for run, block, _ in used], fontsize=8)
    bars.invert_yaxis()
    bars.set(
        title="share of each expert in its block's choices", xlim=(0, 1.2), xticks=[0, 0.25, 0.5, 0.75, 1]
    )
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontweight="bold")
    save_picture(sweep, figure, dpi=110)


def main() -> int:
    """Write the table and the picture."""
    arguments = arguments_of("Passes and balance of experts, from the JSON of a sweep.").parse_args()
    sweep, title = arguments.sweep, arguments.title
    result = result_of(sweep)
    result["rows"] = {name: row for name, row in result["rows"].items() if "valid" in row}
    write_page(sweep, table(result, title, sweep.stem))
    picture(result["rows"], unit_of(result["rows"]), title, sweep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
