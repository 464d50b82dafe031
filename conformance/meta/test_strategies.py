"""The strategies reach what they promise: every edge below is found among the arguments that they give."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, find, settings

from arbitor.conformance.draw.strategies import BUILDERS, arguments_of, example
from arbitor.conformance.judge.target import Arguments, call, target_of
from arbitor.kernels.operations import OPERATIONS

Edge = Callable[[Arguments], bool]

INT32_MAX = 2**31 - 1
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
        threshold = arguments["accum_threshold"]
        return threshold > 2 and bool((arguments["t_accum"] == sign * (threshold - less)).any())

    return edge


def padding(fields: int, count: int) -> Edge:
    return lambda a: -(a["columns"] if "columns" in a else width(a)) % fields == count


def nan_of_sign(sign: int) -> Edge:
    return lambda a: bool(((bits(a["dy"]) >> 31 == sign) & a["dy"].isnan()).any())


def beside_127(step: int) -> Edge:
    return lambda a: neighbours_of_127(a["x"], step)


EDGES: dict[str, tuple[str, Edge]] = {
    **{f"t_accum {v}": ("ternary_update", holds("t_accum", v)) for v in (-127, 0, 127)},
    **{f"e_accum {v}": ("ternary_update", holds("e_accum", v)) for v in (-127, 127)},
    **{f"corr_accum {v}": ("embedding_update", holds("corr_accum", v)) for v in (-32767, 32767)},
    **{f"step_counter {v}": ("embedding_update", holds("step_counter", v)) for v in (0, INT32_MAX)},
    **{f"gradient {v}": ("ternary_update", holds("gradient", v)) for v in (-INT32_MAX, 0, INT32_MAX)},
    **{f"q {v}": ("weight_gradient", holds("q_g", v)) for v in (-127, 0, 127)},
    **{f"e_x {v}": ("linear_forward", holds("e_x", v)) for v in (-100, 122, 127)},
    **{f"threshold {t}": ("ternary_update", equals("accum_threshold", t)) for t in (1, 2, 126, 127)},
    **{f"rule {rule}": ("ternary_update", equals("rule", rule)) for rule in ("scaled", "sign")},
    **{f"gain {v}": ("ternary_update", equals("gain", v)) for v in (0, 2**24)},
    **{f"scale_gain {v}": ("ternary_update", equals("scale_gain", v)) for v in (0, 2**20)},
    **{f"seed {v}": ("ternary_update", equals("seed", v)) for v in (0, 2**64 - 1)},
    **{f"step {v}": ("ternary_update", equals("step", v)) for v in (0, 2**32 - 1)},
    **{f"tensor_id {v}": ("ternary_update", equals("tensor_id", v)) for v in (0, 2**28 - 1)},
    **{f"e_base {v}": ("linear_forward", equals("e_base", v)) for v in (-26, 26)},
    **{f"e_span {v}": ("linear_forward", equals("e_span", v)) for v in range(7)},
    **{f"first_row {v}": ("quantise_stochastic", equals("first_row", v)) for v in (0, 131_071)},
    **{f"{s} * (threshold - {d})": ("ternary_update", at_threshold(s, d)) for s in (-1, 1) for d in (0, 1)},
    **{f"padding of {n}": ("ternary_update", padding(4, n)) for n in range(4)},
    **{f"dense padding of {n}": ("unpack_dense", padding(5, n)) for n in range(5)},
    **{f"NaN with sign {sign}": ("quantise_columns", nan_of_sign(sign)) for sign in (0, 1)},
    **{f"127 * 2^k, bits {step:+}": ("quantise_nearest", beside_127(step)) for step in (-1, 0, 1)},
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
