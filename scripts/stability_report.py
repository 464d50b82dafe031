"""What the thresholds do to a run: a table and a picture from the JSON of a sweep that logged every step.

    python scripts/stability_report.py docs/results/records/cpu_stability.json --title "Thresholds"

writes docs/results/cpu_stability.md and .png (sweep_page.py). A spike is what `training/spikes.py` says it
is.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter, ScalarFormatter

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from arbitor.schedule import UpdateRule  # noqa: E402  (the root must be on the path first)
from arbitor.training.spikes import WINDOW, warmup_of  # noqa: E402
from scripts.sweep_page import (  # noqa: E402
    all_runs,
    arguments_of,
    made_by,
    result_of,
    save_picture,
    unit_of,
    write_page,
)

DEFAULT = UpdateRule().accum_threshold
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#555555"


@dataclass(frozen=True)
class Run:
    """One row of the sweep: `rule` is None for a float twin; `spike` and `valid` are infinite where a loss
    was not finite; `curve` has the last step, the median and the highest loss of each piece."""

    rule: str | None
    threshold: int
    seed: int
    spike: float
    step: int | None
    valid: float
    curve: list[tuple[float, float, float]]

    @property
    def spike_text(self) -> str:
        """Its size and its step, or the step at which the loss was no number."""
        if math.isinf(self.spike):
            return f"not finite at {self.step}"
        return f"{self.spike:.3f} at {self.step}" if self.step else "none"


Groups = dict[tuple[str | None, int], list[Run]]  # by rule and threshold


def run_of(row: dict[str, Any]) -> Run:
    """A row of the sweep. Raises ValueError for one without a spike, or with two thresholds."""
    flags = dict(zip(row["flags"][::2], row["flags"][1::2], strict=True))
    if "spike" not in row:
        raise ValueError(f"a run without a spike ({row.get('failed', 'it did not log every step')})")
    threshold = int(flags.get("--accum-threshold", DEFAULT))
    if threshold != int(flags.get("--e-accum-threshold", DEFAULT)):
        raise ValueError("a run whose thresholds differ has no place on one axis")
    rule = None if "--baseline" in flags else flags.get("--vote-rule", UpdateRule().rule)
    size = row["spike"]["size"]
    curve = [tuple(math.nan if value is None else value for value in piece) for piece in row["train_curve"]]
    return Run(
        rule, threshold, int(flags.get("--seed", 0)), math.inf if size is None else size,
        row["spike"]["step"], row.get("valid", math.inf), curve,
    )  # fmt: skip


def groups_of(runs: list[Run]) -> Groups:
    """Runs by rule and threshold, seeds in order; twins, whose rule is None, last."""
    groups: Groups = {}
    for run in sorted(runs, key=lambda run: (run.rule is None, run.rule or "", run.threshold, run.seed)):
        groups.setdefault((run.rule, run.threshold), []).append(run)
    return groups


def number(value: float) -> str:
    """A loss, or a word for one that is none."""
    return f"{value:.3f}" if math.isfinite(value) else "not finite"


def cost(groups: Groups, rule: str) -> str:
    """A sentence with what the default threshold saves and costs beside the others of a rule."""
    ends = {at: median(run.valid for run in runs) for (of, at), runs in groups.items() if of == rule}
    spikes = {at: median(run.spike for run in runs) for (of, at), runs in groups.items() if of == rule}
    if DEFAULT not in ends:
        return f"{rule} votes: the default, {DEFAULT}, was not run."
    best, calmest = min(ends, key=lambda at: ends[at]), min(spikes, key=lambda at: spikes[at])
    said = f"{rule} votes: at {DEFAULT}, the default, the largest spike is {number(spikes[DEFAULT])}"
    if calmest != DEFAULT:
        said += f" (calmest: {number(spikes[calmest])} at {calmest})"
    said += f"; validation ends at {number(ends[DEFAULT])}, "
    return said + (
        f"{ends[DEFAULT] - ends[best]:.3f} above the best, {best}." if best != DEFAULT else "the best."
    )


def heading(result: dict[str, Any], title: str, name: str) -> list[str]:
    """Of the page: the picture, how the numbers were made, what a spike is."""
    first = next(iter(result["rows"].values()))["flags"]
    flags = first[: first.index("--vote-rule")]
    warmup = warmup_of(int(flags[flags.index("--steps") + 1]))
    page = f"python scripts/stability_report.py docs/results/records/{name}.json --title ..."
    return [
        f"# {title}",
        "",
        f"![loss curves, spikes and validation by threshold]({name}.png)",
        "",
        f"{made_by(result)} Then `{page}`.",
        "",
        f"{all_runs(result, flags)} and "
        "`--vote-rule RULE --accum-threshold N --e-accum-threshold N --seed S`.",
        "",
        "A **spike** is how far the loss of a step stands above the lowest running median before it (of "
        f"{WINDOW} steps), after {warmup} steps of warm-up; `training/spikes.py` says why. A loss that is "
        "not finite is the worst. The float twin sees the same batches: what it shows, batches do alone.",
        "",
    ]


def table(groups: Groups) -> list[str]:
    """Markdown: medians and seeds by rule and threshold, and a sentence a rule."""
    lines = ["| votes | thresholds | largest spike, median | each seed's, and its step |"]
    lines[0] += " validation, median | each seed's |"
    lines += ["|---|---|---|---|---|---|"]
    for (rule, threshold), runs in groups.items():
        mark = f"**{threshold}** (default)" if threshold == DEFAULT else str(threshold)
        cells = [rule, mark] if rule else ["float twin", ""]
        cells += [number(median(run.spike for run in runs)), ", ".join(run.spike_text for run in runs)]
        cells += [number(median(run.valid for run in runs)), ", ".join(number(run.valid) for run in runs)]
        lines.append(f"| {' | '.join(cells)} |")
    rules = dict.fromkeys(rule for rule, _ in groups if rule)
    return [*lines, "", *(f"- {cost(groups, rule)}" for rule in rules)]


def middle_and_top(runs: list[Run]) -> list[tuple[float, float]]:
    """Of each piece of the curve: the median of the seeds' medians, and the highest loss of any seed; a gap
    where a seed was not finite."""
    gap, found = (math.nan, math.nan), []
    for at in zip(*(run.curve for run in runs), strict=True):
        whole = not any(math.isnan(piece[1]) for piece in at)
        found.append((median(piece[1] for piece in at), max(piece[2] for piece in at)) if whole else gap)
    return found


def picture(groups: Groups, unit: str, title: str, sweep: Path) -> None:
    """A row a rule: curves, spikes, validation."""
    rules = list(dict.fromkeys(rule for rule, _ in groups if rule))
    figure, panels = plt.subplots(
        len(rules), 3, figsize=(13, 3.9 * len(rules)), squeeze=False, sharey="col", layout="constrained",
        width_ratios=[1.6, 1, 1],
    )  # fmt: skip
    twins = [run.spike for (rule, _), runs in groups.items() if rule is None for run in runs]
    for rule, (curves, spikes, ends) in zip(rules, panels, strict=True):
        found = {at: runs for (of, at), runs in groups.items() if of == rule}
        for place, (threshold, runs) in enumerate(found.items()):
            colour = plt.get_cmap("viridis")(0.92 * place / max(len(found) - 1, 1))
            steps = [piece[0] for piece in runs[0].curve]
            middles, tops = zip(*middle_and_top(runs), strict=True)
            default = threshold == DEFAULT
            label = f"{threshold}, the default" if default else str(threshold)
            curves.plot(steps, middles, color=colour, linewidth=2.4 if default else 1.3, label=label)
            curves.fill_between(steps, middles, tops, color=colour, alpha=0.15, linewidth=0)
        curves.set(title=f"{rule} votes: training loss, shaded up to the highest seed", xlabel="step")
        curves.set(ylabel=unit, yscale="log")
        curves.yaxis.set_major_formatter(ScalarFormatter())
        curves.yaxis.set_minor_formatter(NullFormatter())
        curves.set_yticks([2, 3, 4, 6, 8, 12, 16])
        curves.legend(title="thresholds", frameon=False, fontsize=9)
        by_threshold(spikes, {at: [run.spike for run in runs] for at, runs in found.items()})
        spikes.set(title="largest spike after warm-up", ylabel=unit, yscale="log")
        if twins:
            spikes.axhline(median(twins), color=GREY, linestyle=":", label="float twin")
        by_threshold(ends, {at: [run.valid for run in runs] for at, runs in found.items()})
        ends.set(title="validation loss at the end", ylabel=unit)
        spikes.legend(frameon=False, fontsize=9)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    save_picture(sweep, figure, dpi=110)


def by_threshold(axes: Any, values: dict[int, list[float]]) -> None:
    """Dots for seeds, a line through medians, the default marked; a cross at the top: not finite."""
    medians = [median(seeds) for seeds in values.values()]
    line = [value if math.isfinite(value) else math.nan for value in medians]
    axes.plot(list(values), line, color=BLUE, label="median of the seeds")
    for threshold, seeds in values.items():
        finite = [value for value in seeds if math.isfinite(value)]
        axes.plot([threshold] * len(finite), finite, "o", color=BLUE, markersize=5, alpha=0.6)
        if len(finite) < len(seeds):
            top = axes.get_xaxis_transform()
            axes.plot(threshold, 1, "x", color=VERMILLION, markersize=10, transform=top, clip_on=False)
            axes.annotate("not finite", (threshold, 0.95), xycoords=top, va="top", ha="center")
    axes.axvline(DEFAULT, color=VERMILLION, linestyle=(0, (4, 3)), linewidth=1, label="default")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(values), [str(threshold) for threshold in values])
    axes.minorticks_off()
    axes.set_xlabel("both thresholds")


def main() -> int:
    """Write the table and the picture."""
    arguments = arguments_of("Spikes and final loss by threshold, from the JSON of a sweep.").parse_args()
    sweep, title = arguments.sweep, arguments.title
    result = result_of(sweep)
    groups = groups_of([run_of(row) for row in result["rows"].values()])
    write_page(sweep, [*heading(result, title, sweep.stem), *table(groups)])
    picture(groups, unit_of(result["rows"]), title, sweep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
