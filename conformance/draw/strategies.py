"""Arguments for every operation, legal and full of edges.

A builder (builders.py) takes its decisions one after another. With Hypothesis behind them it is a strategy
that shrinks; with a seeded generator it is a fixed example. Only shapes, kinds, seeds and a few spikes are
drawn; NumPy makes the arrays (arrays.py), so a draw is fast and the extremes are sure to come. Shapes stay
small enough for the oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from arbitor.conformance.draw.builders import BUILDERS, LONG_GROUPS
from arbitor.conformance.draw.draws import HIGH, LOW, Draws
from arbitor.conformance.draw.extents import tiles_of
from arbitor.conformance.draw.ranges import BOUNDS
from arbitor.conformance.judge.target import Arguments
from arbitor.kernels.heads import MOST_DIM
from arbitor.kernels.operations import OPERATIONS

MOST_SEEN = 200  # positions of `sized_example`: scores are their square
RANDOM = ("seed", "step", "stream", "tensor_id", "first_row")
SIZED = ("linear_forward", "input_gradient", "weight_gradient", "linear_update")  # of `sized_example`
# of `at_ends`: every group, element and accumulator plays a part
PLAIN = {
    **dict.fromkeys("OTRVPHA", 3), **dict.fromkeys("CI", 9), **dict.fromkeys("BN", 2), "S": 5, "D": 4,
    "count": 9, "e_base": -3, "e_span": 4, "group_size": 4, "gain": 3 << 16, "accum_threshold": 5,
    "scale_gain": 1 << 18, "e_accum_threshold": 3, "window": 2,
}  # fmt: skip
PLAIN_RULES = ("scaled", "adaptive")


def _built(draws: Draws) -> Arguments:
    arguments = BUILDERS[draws.operation](draws)
    return {name: arguments[name] for name in OPERATIONS[draws.operation].arguments}


@st.composite
def arguments_of(draw: st.DrawFn, operation: str) -> Arguments:
    """Hypothesis strategy: the arguments of one legal call, by name, around the tiles that are declared."""

    def choose(options: Sequence[Any]) -> Any:
        if isinstance(options, range):
            return draw(st.integers(options[0], options[-1]))
        return draw(st.sampled_from(options))

    return _built(Draws(operation, choose, tiles_of(operation)))


def _chosen_by(seed: int) -> Callable[[Sequence[Any]], Any]:
    rng = np.random.default_rng(seed)
    return lambda options: options[int(rng.integers(len(options)))]


def example(operation: str, seed: int) -> Arguments:
    """The arguments of one legal call, a fixed one for every seed."""
    return _built(Draws(operation, _chosen_by(seed)))


def sized_example(operation: str, seed: int, sizes: Sequence[int], group_size: int) -> Arguments:
    """As `example`, with that group size and those extents, in the order in which its builder asks for them
    (of a linear operation O, I, T): larger than what the oracle could judge."""
    family = OPERATIONS[operation].family
    if family == "sequences":
        return _built(Draws(operation, _chosen_by(seed), fixed=_of_a_sequence(*sizes[:2])))
    by_rows = dict.fromkeys(("packing", "rows", "losses", "digests"), "RC")
    letters = (by_rows | {"embedding": "VCT"}).get(family, "OIT")
    letters = {"quantise_columns": "OT", "cross_entropy": "TC"}.get(
        operation, "RC" if "quantise" in operation else letters
    )
    fixed = dict(zip(letters, sizes, strict=False)) | {"group_size": group_size}
    return _built(Draws(operation, _chosen_by(seed), fixed=fixed))


def _of_a_sequence(positions: int, columns: int) -> dict[str, int]:
    """Extents of one sequence of two heads that have so many numbers together, if they may."""
    dim = min(max(columns // 2, 2), MOST_DIM)
    return {"B": 1, "N": 2, "H": dim // 2, "D": dim, **dict.fromkeys("PAS", min(positions, MOST_SEEN))}


def at_ends(operation: str) -> Iterator[tuple[tuple[str, ...], int, Arguments]]:
    """A dense call for each end of what each argument may be: its name, LOW or HIGH, and the call; of an
    update one for each of PLAIN_RULES.

    An array has that value everywhere. What only names the random bits is at its ends together. The highest
    extents are those of memory.
    """
    names = [name for name in OPERATIONS[operation].arguments if name != "rule"]
    together = tuple(name for name in names if name in RANDOM)
    for group in [(name,) for name in names if name not in RANDOM] + [together] * bool(together):
        for end in (LOW, HIGH):
            if end == LOW or BOUNDS.get(group[0], (0, 0))[1] is not None:
                for rule in _rules_of(operation):
                    yield group, end, _at(operation, dict.fromkeys(group, end), rule)


def with_long_groups(operation: str) -> Iterator[Arguments]:
    """A dense call for each of LONG_GROUPS, of two whole groups and five columns more, and of PLAIN_RULES;
    nothing if it has none."""
    if "group_size" in OPERATIONS[operation].arguments:
        for size in LONG_GROUPS:
            few = dict.fromkeys("OTVR", 2) | dict.fromkeys("CI", 2 * size + 5)
            for rule in _rules_of(operation):
                yield _at(operation, {}, rule | few | {"group_size": size})


def _rules_of(operation: str) -> list[dict[str, Any]]:
    """What `fixed` has of the rule, for each call that a test makes sure of."""
    return [{"rule": rule} for rule in PLAIN_RULES] if "rule" in OPERATIONS[operation].scalars else [{}]


def _at(operation: str, ends: Mapping[str, int], fixed: Mapping[str, Any]) -> Arguments:
    rng = np.random.default_rng(0)

    def choose(options: Sequence[Any]) -> Any:
        if isinstance(options, range):
            return int(rng.integers(options[0], options[-1], endpoint=True))
        usual = {"mixed", "ordinary"} & set(options) if isinstance(options, list) else ()
        return next(iter(usual), options[0])

    plain = {**PLAIN, **fixed}
    free = {name: value for name, value in plain.items() if name not in ends}
    return _built(Draws(operation, choose, fixed=free, at=ends))
