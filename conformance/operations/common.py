"""Tests that every operation has, as factories: a test file calls them with its operation.

    test_agrees, test_ends = agreement("pack", "ARB-PACK-001")

And short names for the tensors that probes are written with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
from hypothesis import given

from arbitor.conformance.draw import arrays
from arbitor.conformance.draw.draws import END
from arbitor.conformance.draw.refusals import Refusal, refusals_of
from arbitor.conformance.draw.strategies import (
    arguments_of,
    at_ends,
    example,
    sized_example,
    with_long_groups,
)
from arbitor.conformance.judge.cases import POISON
from arbitor.conformance.judge.compare import assert_same, difference
from arbitor.conformance.judge.target import Arguments, Target, call
from arbitor.kernels.operations import OPERATIONS

Test = Callable[..., None]
Total = Callable[[str, int], None]  # the fixture `total`

uint8 = partial(torch.tensor, dtype=torch.uint8)
int8 = partial(torch.tensor, dtype=torch.int8)
int16 = partial(torch.tensor, dtype=torch.int16)
int32 = partial(torch.tensor, dtype=torch.int32)
int64 = partial(torch.tensor, dtype=torch.int64)
float32 = partial(torch.tensor, dtype=torch.float32)

HOW: Arguments = {
    "e_base": -3, "e_span": 6, "group_size": 4, "rule": "sign", "gain": 65_536, "vote_max": 16,
    "accum_threshold": 8, "scale_gain": 0, "e_accum_threshold": 32, "seed": 0, "tensor_id": 0, "step": 0,
}  # fmt: skip
EXAMPLES = range(4)


def from_bits(patterns: Any) -> torch.Tensor:
    """float32 by bit patterns 0..2^32-1."""
    return torch.tensor(patterns, dtype=torch.int64).to(torch.uint32).view(torch.float32)


def packed(trits: torch.Tensor) -> torch.Tensor:
    """codes of trits int8 [R, C]."""
    return torch.from_numpy(arrays.packed(trits.numpy()))


def packed_dense(trits: torch.Tensor) -> torch.Tensor:
    """dense bytes of trits int8 [R, C]."""
    return torch.from_numpy(arrays.packed(trits.numpy(), 5, 3))


def busy(arguments: Arguments) -> Arguments:
    """The same with dense operands and state, and settings under which most elements vote and many fire.

    A drawn example may be all zeros, and then no mask is wrong.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(largest: int, *shape: int) -> torch.Tensor:
        return torch.randint(-largest, largest + 1, shape, generator=generator)

    limits = {
        "q_g": 127,
        "q_x": 127,
        "q_d": 127,
        "q": 127,
        "k": 127,
        "v": 127,
        "trits": 1,
        "t_accum": 35,
        "gradient": 10**6,
        "words": 2**62,
    }
    found: Arguments = {
        name: drawn(limit, *arguments[name].shape).to(arguments[name].dtype)
        for name, limit in limits.items()
        if name in arguments
    }
    for name in ("x", "dy", "dq", "dk", "dv"):
        if name in arguments:
            found[name] = torch.randn(arguments[name].shape, generator=generator)
    for name, pack in (("codes", packed), ("dense", packed_dense)):
        if name in arguments:
            found[name] = pack(drawn(1, len(arguments[name]), _trits_of_a_row(arguments)))
    if "e_span" in arguments:  # every exponent of a band of five
        steps = torch.randint(0, 5, arguments["e"].shape, generator=generator)
        found |= {"e_span": 4, "e": (arguments["e_base"] + steps).to(torch.int8)}
    if "moment" in arguments:
        found |= _busy_moments(arguments, generator)
    settings = {"gain": 3 << 16, "vote_max": 16, "accum_threshold": 9, "scale_gain": 1 << 18}
    return arguments | found | {name: value for name, value in settings.items() if name in arguments}


def _busy_moments(arguments: Arguments, generator: torch.Generator) -> Arguments:
    """e_g and moments about the mean squares of busy operands, so that votes of rule `adaptive` are neither 0
    nor all the largest."""
    octaves = {"gradient": 38, "q_g": 25, "q": 12}
    around = next(octave for name, octave in octaves.items() if name in arguments)
    around += len(arguments.get("q_g", [0])).bit_length() - 1
    shape = tuple(arguments["moment"].shape)
    e_g = torch.randint(-3, 4, arguments["e_g"].shape, generator=generator)
    m = torch.randint(1 << 20, 1 << 21, shape, generator=generator)
    x = around - 20 + 2 * e_g[:, None] + torch.randint(-1, 2, shape, generator=generator)
    return {"e_g": e_g.to(torch.int8), "moment": ((x + 512) << 21 | m).to(torch.int32)}


def _trits_of_a_row(arguments: Arguments) -> int:
    """Columns of the packed array among the arguments."""
    for name in ("columns", "in_features"):
        if name in arguments:
            return int(arguments[name])
    return int(arguments["t_accum" if "t_accum" in arguments else "q_x"].shape[1])


def to_bits(tensor: torch.Tensor) -> Any:
    """Bit patterns of float32 as nested lists."""
    return (tensor.contiguous().view(torch.int32).long() & 0xFFFFFFFF).tolist()


def agreement(operation: str, *clauses: str) -> tuple[Test, Test]:
    """Every legal call gives what the judge gives, and changes no input: drawn ones, and for certain those
    with each argument at both ends of what it may be, and of several long groups."""
    calls = {f"{'-'.join(names)}-{END[end]}{_by(found)}": found for names, end, found in at_ends(operation)}
    calls |= {f"groups-of-{found['group_size']}{_by(found)}": found for found in with_long_groups(operation)}

    @pytest.mark.clause(*clauses, "ARB-UPD-003")
    @given(arguments=arguments_of(operation))
    def agrees(target: Target, arguments: Arguments) -> None:
        target.check(operation, arguments)

    @pytest.mark.clause(*clauses, "ARB-UPD-003")
    @pytest.mark.parametrize("arguments", calls.values(), ids=calls)
    def ends(target: Target, arguments: Arguments) -> None:
        target.check(operation, arguments)

    return cast(Test, agrees), cast(Test, ends)


def _by(arguments: Arguments) -> str:
    return f"-{arguments['rule']}" if "rule" in arguments else ""


def refusals(operation: str, *clauses: str) -> Test:
    """Wrong dtypes, shapes, integers and sizes are refused before anything changes."""

    @pytest.mark.clause(*clauses, "ARB-STATE-005", "ARB-STATE-006", "ARB-LIN-006")
    @pytest.mark.parametrize("refusal", list(refusals_of(operation)), ids=lambda refusal: refusal.label)
    def test(target: Target, refusal: Refusal) -> None:
        target.refuses(operation, refusal.arguments, refusal.error, *refusal.names)

    return cast(Test, test)


def repetition(operation: str) -> Test:
    """The same call twice gives the same bytes."""

    @pytest.mark.clause("ARB-UPD-003")
    @pytest.mark.parametrize("seed", EXAMPLES)
    def test(target: Target, seed: int) -> None:
        arguments = example(operation, seed)
        runs = [call(target.backend, operation, target.placed(arguments), target.device) for _ in range(2)]
        assert_same(operation, arguments, runs[0], runs[1], target.backend.name)

    return cast(Test, test)


def layouts(operation: str) -> Test:
    """Transposed, strided and stride-0 tensors give what contiguous ones give, and gaps are not written."""

    inputs = [array.name for array in OPERATIONS[operation].arrays if not array.in_place]

    @pytest.mark.clause("ARB-UPD-003")
    @pytest.mark.parametrize("seed", [*EXAMPLES, "one row"])
    @pytest.mark.parametrize("kind", ["transposed", "strided", "repeated"])
    def test(target: Target, kind: str, seed: int | str) -> None:
        arguments = one_row(operation) if isinstance(seed, str) else example(operation, seed)
        if kind == "transposed":
            target.check(operation, arguments, lambda name, tensor: transposed(tensor))
        elif kind == "strided":
            strided = Strided()
            target.check(operation, arguments, strided)
            strided.check_gaps()
        else:
            arguments |= {name: repeated(arguments[name]).clone() for name in inputs}
            target.check(
                operation,
                arguments,
                lambda name, tensor: repeated(tensor) if name in inputs else tensor.clone(),
            )

    return cast(Test, test)


def one_row(operation: str) -> Arguments:
    """Matrices of one row and of whole words: torch calls such a row contiguous whatever its stride is."""
    sizes = {"quantise_columns": (64, 1)}.get(operation, (1, 64, 1))
    return busy(sized_example(operation, 0, sizes, 16))


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements with the axes reversed in memory."""
    axes = tuple(reversed(range(tensor.dim())))
    return tensor.permute(axes).clone(memory_format=torch.contiguous_format).permute(axes)


def repeated(tensor: torch.Tensor) -> torch.Tensor:
    """The first row in the place of every row, stride 0."""
    return tensor[:1].expand(tensor.shape)


class Strided:
    """Every second element of a larger buffer, from its second on; remembers the buffers that it made."""

    def __init__(self) -> None:
        self.made: list[tuple[str, torch.Tensor, tuple[slice, ...]]] = []

    def __call__(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        buffer = torch.full(
            [2 * n + 1 for n in tensor.shape], POISON, dtype=tensor.dtype, device=tensor.device
        )
        place = (slice(1, None, 2),) * tensor.dim()
        buffer[place] = tensor
        self.made.append((name, buffer, place))
        return buffer[place]

    def check_gaps(self) -> None:
        """Raises AssertionError if anything between the elements was written."""
        for name, buffer, place in self.made:
            buffer[place] = POISON
            found = difference(f"the buffer of {name}", torch.full_like(buffer, POISON), buffer)
            if found:
                raise AssertionError(f"{found}: written between the elements")
