"""The strategies reach what they promise: every edge below is found among the arguments that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, settings

from arbitor.conformance.draw.builders import BUILDERS, LONG_GROUPS
from arbitor.conformance.draw.draws import END
from arbitor.conformance.draw.ranges import BOUNDS, ELEMENTS, ends_of
from arbitor.conformance.draw.strategies import (
    PLAIN_RULES,
    arguments_of,
    at_ends,
    example,
    with_long_groups,
)
from arbitor.conformance.judge.target import Arguments, call, target_of
from arbitor.kernels.operations import OPERATIONS, RULES

Edge = Callable[[Arguments], bool]

GROUPED = [name for name, operation in OPERATIONS.items() if "group_size" in operation.scalars]
SEARCH = settings(
    max_examples=3000,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32).long() & 0xFFFFFFFF


def magnitudes(x: torch.Tensor) -> torch.Tensor:
    return bits(x) & 0x7FFFFFFF


def neighbours_of_127(x: torch.Tensor, step: int) -> bool:
    """127 * 2^k (step 0), or the float32 beside it, among the normal ones."""
    found = magnitudes(x)
    return bool(((found & 0x7FFFFF == 0x7E0000 + step) & (found > 0x7FFFFF)).any())


def group_sums(arguments: Arguments) -> torch.Tensor:
    gradient, size = arguments["gradient"].abs().long(), arguments["group_size"]
    return torch.stack([part.sum(dim=1) for part in gradient.split(size, dim=1)], dim=1)


def width(arguments: Arguments) -> int:
    columns: int = arguments["t_accum"].shape[1]
    return columns


def holds(name: str, value: int) -> Edge:
    return lambda arguments: bool((arguments[name] == value).any())


def equals(name: str, value: int | str) -> Edge:
    return lambda arguments: bool(arguments[name] == value)


def at_threshold(sign: int, less: int) -> Edge:
    def edge(arguments: Arguments) -> bool:
        threshold = 4 * arguments["accum_threshold"]
        return 8 < threshold < 128 and bool((arguments["t_accum"] == sign * (threshold - less)).any())

    return edge


def padding(fields: int, count: int) -> Edge:
    return lambda a: -(a["columns"] if "columns" in a else width(a)) % fields == count


def several(size: int) -> Edge:
    return lambda a: a["group_size"] == size and a["e"].shape[1] > 1


def nan_of_sign(sign: int) -> Edge:
    return lambda a: bool(((bits(a["dy"]) >> 31 == sign) & a["dy"].isnan()).any())


def beside_127(step: int) -> Edge:
    return lambda a: neighbours_of_127(a["x"], step)


def adaptive(edge: Edge) -> Edge:
    return lambda a: a["rule"] == "adaptive" and a["gain"] > 0 and edge(a)


def mantissas(arguments: Arguments) -> torch.Tensor:
    found: torch.Tensor = arguments["moment"] & (1 << 21) - 1
    return found


def votes(arguments: Arguments) -> torch.Tensor:
    """Sizes of the votes of one update that nothing fires in, as far as they can be told: in quarters."""
    zeros = torch.zeros_like(arguments["t_accum"])
    quiet = arguments | {"t_accum": zeros, "accum_threshold": 32}
    copies = {
        name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in quiet.items()
    }
    after: torch.Tensor = call(target_of("reference").backend, "ternary_update", copies)["t_accum"]
    return after.abs()


MOMENTS: dict[str, Edge] = {
    "a first update": lambda a: a["step"] == 0,
    "a second update": lambda a: a["step"] == 1,
    "the whole memory": lambda a: a["step"] == 127,
    "a moment of 0 beside others": lambda a: bool((a["moment"] == 0).any() and (a["moment"] > 0).any()),
    "a moment that is not normalised": lambda a: bool(((mantissas(a) > 0) & (mantissas(a) < 1 << 20)).any()),
    "a moment that is 0 with an exponent": lambda a: bool(((mantissas(a) == 0) & (a["moment"] > 0)).any()),
    "no gradient and a moment": lambda a: bool(((group_sums(a) == 0) & (a["moment"] > 0)).any()),
    "votes between none and the largest": lambda a: (
        8 <= a["vote_max"] < 32
        and len(found := votes(a)[votes(a) < 4 * a["vote_max"]].unique()) > 5
        and int(found.max()) > 6
    ),
}
EDGES: dict[str, tuple[str, Edge]] = {
    **{f"{name} 0": ("ternary_update", holds(name, 0)) for name in ("t_accum", "gradient")},
    "q 0": ("weight_gradient", holds("q_g", 0)),
    "e_x 122": ("linear_forward", holds("e_x", 122)),
    **{f"threshold {t}": ("ternary_update", equals("accum_threshold", t)) for t in (2, 31)},
    **{f"rule {rule}": ("ternary_update", equals("rule", rule)) for rule in RULES},
    "step 2^31": ("ternary_update", equals("step", 2**31)),
    **{f"e_span {v}": ("linear_forward", equals("e_span", v)) for v in range(1, 6)},
    **{f"several groups of {size}": (name, several(size)) for size in LONG_GROUPS for name in GROUPED},
    **{f"{s} * (threshold - {d})": ("ternary_update", at_threshold(s, d)) for s in (-1, 1) for d in (0, 1)},
    **{f"padding of {n}": ("ternary_update", padding(4, n)) for n in range(4)},
    **{f"dense padding of {n}": ("unpack_dense", padding(5, n)) for n in range(5)},
    **{f"NaN with sign {sign}": ("quantise_columns", nan_of_sign(sign)) for sign in (0, 1)},
    **{f"127 * 2^k, bits {step:+}": ("quantise_nearest", beside_127(step)) for step in (-1, 0, 1)},
    **{f"adaptive, {what}": ("ternary_update", adaptive(edge)) for what, edge in MOMENTS.items()},
    **{f"{n} updates of a row": ("embedding_update", holds("step_counter", n)) for n in (0, 127)},
    "a silent group beside a loud one": (
        "ternary_update",
        lambda a: bool(((group_sums(a) == 0).any(1) & (group_sums(a) > 0).any(1)).any()),
    ),
    "one element in a row": (
        "ternary_update",
        lambda a: width(a) > 4 and bool(((a["gradient"] != 0).sum(dim=1) == 1).any()),
    ),
    "a ragged last group after whole ones": (
        "ternary_update",
        lambda a: width(a) % a["group_size"] != 0 and width(a) > a["group_size"],
    ),
    "a NaN with a payload": (
        "quantise_nearest",
        lambda a: bool((a["x"].isnan() & (bits(a["x"]) & 0x3FFFFF != 0)).any()),
    ),
    "an infinity": ("quantise_nearest", lambda a: bool(a["x"].isinf().any())),
    "a subnormal": (
        "quantise_nearest",
        lambda a: bool(((magnitudes(a["x"]) > 0) & (magnitudes(a["x"]) < 0x800000)).any()),
    ),
    "-0.0": ("quantise_nearest", lambda a: bool((bits(a["x"]) == 1 << 31).any())),
    "the largest finite": ("quantise_nearest", lambda a: bool((magnitudes(a["x"]) == 0x7F7FFFFF).any())),
    "tokens that repeat": ("embedding_update", lambda a: len(a["tokens"].unique()) < len(a["tokens"])),
    "rows without a token": ("embedding_update", lambda a: len(a["tokens"].unique()) < len(a["codes"])),
}


# extents end where memory does
BOUND_BY_MEMORY = [name for name, (_, highest) in BOUNDS.items() if highest is None]


def reached(array: torch.Tensor) -> tuple[int | float, int | float]:
    """Its lowest and highest element; of finite float32 as patterns."""
    if array.dtype != torch.float32:
        return int(array.min()), int(array.max())
    found = array[array.isfinite()]
    return (bits(found.min()).item(), bits(found.max()).item()) if len(found) else (0, 0)


def ends_reached(operation: str, calls: Iterable[Arguments]) -> set[tuple[str, str]]:
    """(argument, "lowest" or "highest") of every argument that is at an end of what the tables allow."""
    found = set()
    for arguments in calls:
        arrays = {array.name: array for array in OPERATIONS[operation].arrays}
        for name, value in arguments.items():
            if name == "rule":
                continue
            ends = ends_of(arrays[name], arguments) if name in arrays else BOUNDS[name]
            values = reached(value) if name in arrays else (value, value)
            found |= {(name, end) for end, a, b in zip(END, values, ends, strict=True) if a == b}
    return found


def ends_that_are(operation: str) -> set[tuple[str, str]]:
    """All of them: of each array, and of each integer but what memory bounds."""
    names = [name for name in OPERATIONS[operation].arguments if name != "rule"]
    highest = {(name, "highest") for name in names if name not in BOUND_BY_MEMORY}
    return {(name, "lowest") for name in names} | highest


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_argument_is_drawn_at_both_ends(operation: str) -> None:
    """Whatever an operation is given one day: of an array what its dtype has or a clause allows, of an
    integer its bounds."""
    drawn = (example(operation, seed) for seed in range(400))
    assert ends_that_are(operation) - ends_reached(operation, drawn) == set()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_end_is_an_example_of_its_own(operation: str) -> None:
    """Beside what is drawn, each end comes for certain (`agreement` in operations/common.py), all over the
    array."""
    given = [(name, END[end], a) for group, end, a in at_ends(operation) for name in group]
    assert {(name, end) for name, end, _ in given} == ends_that_are(operation)
    for name, end, arguments in given:
        assert (name, end) in ends_reached(operation, [arguments])
        if isinstance(arguments[name], torch.Tensor) and name not in ("codes", "dense"):
            assert len(arguments[name].unique()) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_long_groups_are_examples_of_their_own(operation: str) -> None:
    """Several of each size, whose exponents differ."""
    found = list(with_long_groups(operation))
    rules = len(PLAIN_RULES) if "rule" in OPERATIONS[operation].scalars else 1
    sizes = [size for size in LONG_GROUPS for _ in range(rules)]
    assert [a["group_size"] for a in found] == (sizes if operation in GROUPED else [])
    assert all(a["e"].shape[1] == 3 and len(a["e"].unique()) > 1 for a in found)


def test_a_narrower_table_of_ends_is_seen() -> None:
    """The check itself: calls whose gradient stops one short of the lowest int32."""
    calls = [example("ternary_update", seed) for seed in range(400)]
    short = [a | {"gradient": a["gradient"].clamp(min=-(2**31) + 1)} for a in calls]
    missing = ends_that_are("ternary_update") - ends_reached("ternary_update", short)
    assert missing == {("gradient", "lowest")}


def test_no_table_of_elements_is_without_its_array() -> None:
    """A name that no operation has would narrow nothing, and hide a slip of the pen."""
    assert set(ELEMENTS) <= {array.name for operation in OPERATIONS.values() for array in operation.arrays}


@pytest.mark.parametrize("edge", EDGES)
def test_reaches(edge: str) -> None:
    operation, holds_there = EDGES[edge]
    find(arguments_of(operation), holds_there, settings=SEARCH)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arguments_are_legal_and_in_order(operation: str) -> None:
    """The reference refuses none of them, elements included."""
    reference = target_of("reference").backend
    for seed in range(60):
        arguments = example(operation, seed)
        assert tuple(arguments) == OPERATIONS[operation].arguments
        call(reference, operation, arguments)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_examples_differ_and_repeat(operation: str) -> None:
    same, other = example(operation, 3), example(operation, 4)
    again = example(operation, 3)
    assert repr(same) == repr(again)
    assert repr(same) != repr(other)


def test_every_operation_has_a_strategy() -> None:
    assert list(BUILDERS) == list(OPERATIONS)


def test_every_exponent_of_the_quantiser_comes() -> None:
    """In steps of at most 3 over -100..121, from the examples of a few hundred seeds."""
    reference = target_of("reference").backend
    found: set[int] = set()
    for seed in range(300):
        found |= set(
            call(reference, "quantise_nearest", example("quantise_nearest", seed))["exponents"].tolist()
        )
    assert {-100, 127} <= found
    assert max(np.diff(sorted(found - {127}))) <= 3
