"""Every operation under everything that a process may be set to (conformance/judge/settings.py): the bytes
that the judge gives without it."""

from __future__ import annotations

import ctypes
import math
import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial

import pytest
import torch

from arbitor.conformance.draw.strategies import sized_example
from arbitor.conformance.judge.compare import assert_same, bits
from arbitor.conformance.judge.guard import given, hold, taken
from arbitor.conformance.judge.settings import SETTINGS, in_flushing_threads, of_this_thread
from arbitor.conformance.judge.target import Arguments, Arrays, Target, call
from arbitor.conformance.operations.common import busy, from_bits, int8, uint8
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.registry import select

# O, I, T, group size; of the second, arrays are large enough for torch to give parts of them to its threads
SIZES = (((5, 18, 7), 8), ((130, 260, 140), 64))
SMALL_BITS, BITS_OF_ONE = 1 << 23, 0x3F800000  # subnormals are below
UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}  # of fesetround
IN_PLACE = [name for name, operation in OPERATIONS.items() if any(a.in_place for a in operation.arrays)]
FLOATS = {
    name: [array.name for array in operation.arrays if array.dtype == "float32"]
    for name, operation in OPERATIONS.items()
}
WITH_FLOATS = [name for name, arrays in FLOATS.items() if arrays]


def arguments_for(operation: str, sizes: tuple[int, ...], group_size: int) -> Arguments:
    """Dense arguments of a call of that size; floats are of every exponent, half of them subnormal."""
    if operation == "philox":
        return {
            "first": 4 * sizes[0] + 1,
            "count": sizes[0] * sizes[1],
            "seed": 2**33,
            "step": 3,
            "stream": 18,
        }
    names = OPERATIONS[operation].arguments
    extents = sizes if {"q_x", "q_d", "tokens", "rows"} & set(names) else sizes[:2]
    if operation in WITH_FLOATS:
        extents = (sizes[2], sizes[1])
    found = busy(sized_example(operation, sum(sizes), extents, group_size))
    for name in FLOATS[operation]:
        *rows, columns = found[name].shape
        found[name] = floats(math.prod(rows), columns, seed=len(name)).view(*rows, columns)
    if operation == "quantise_columns":
        found["e_x"] = torch.arange(len(found["e_x"])).remainder(63).add(60).to(torch.int8)  # up to 122
    return found


def floats(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """float32 [R, C] with signs: normal numbers below 1 in every second place of every second row, else
    subnormals; so some rows and some columns hold nothing else."""
    generator = torch.Generator().manual_seed(rows + seed)
    patterns = torch.randint(1, SMALL_BITS, (rows, columns), generator=generator)
    normal = patterns[1::2, 1::2]
    normal.copy_(torch.randint(SMALL_BITS, BITS_OF_ONE, normal.shape, generator=generator))
    signs = torch.randint(0, 2, patterns.shape, generator=generator) << 31
    return (patterns | signs).to(torch.uint32).view(torch.float32)


@cache
def expected_of(target: Target, operation: str) -> list[tuple[Arguments, Arrays]]:
    """Calls with what the judge gives; small ones alone where lists have to be judged."""
    lists = "lists" in (target.judge.arrays, target.backend.arrays)
    calls = [arguments_for(operation, *size) for size in SIZES[: 1 if lists else 2]]
    return [(arguments, call(target.judge, operation, given(hold(arguments)))) for arguments in calls]


def check_calls(target: Target, operation: str, run: Callable[[Arguments], Arrays]) -> None:
    """`run` makes of each call's arguments, placed, what the judge gives, and what later training can use."""
    target.needs(operation)
    for arguments, expected in expected_of(target, operation):
        found = run(arguments)
        assert_same(operation, arguments, expected, taken(found), target.backend.name)
        results = {array.name: found[array.name] for array in OPERATIONS[operation].results}
        marked = [name for name, array in results.items() if array.is_inference() or array.requires_grad]
        assert marked == [], "not of use in later training"


@pytest.mark.clause("ARB-UPD-003", "ARB-LIN-001", "ARB-LIN-002", "ARB-LIN-005", "ARB-QUANT-010")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_setting_changes_a_result(target: Target, operation: str, setting: str) -> None:
    """And what comes of it can be used under any other."""

    def run(arguments: Arguments) -> Arrays:
        mine = target.placed(arguments)
        with SETTINGS[setting](target.device):
            return call(target.backend, operation, mine, target.device)

    check_calls(target, operation, run)


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("operation", ["linear_forward"])
def test_a_setting_stays_the_callers(target: Target, operation: str, setting: str) -> None:
    """After a call, and after one that raises, the thread is set as it was."""
    target.needs(operation)
    arguments = hold(arguments_for(operation, *SIZES[0]))
    with SETTINGS[setting](target.device):
        before = of_this_thread()
        call(target.backend, operation, target.placed(given(arguments)), target.device)
        assert of_this_thread() == before
        with pytest.raises(ValueError, match="group_size"):
            call(target.backend, operation, given(arguments) | {"group_size": 3}, target.device)
        assert of_this_thread() == before


@pytest.mark.clause("ARB-UPD-003", "ARB-QUANT-010")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_all_settings_at_once(target: Target, operation: str) -> None:
    def run(arguments: Arguments) -> Arrays:
        mine = target.placed(arguments)
        with ExitStack() as stack:
            for setting in SETTINGS.values():
                stack.enter_context(setting(target.device))
            return call(target.backend, operation, mine, target.device)

    check_calls(target, operation, run)


@pytest.mark.clause("ARB-UPD-001", "ARB-UPD-002", "ARB-UPD-003")
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("operation", IN_PLACE)
def test_state_of_inference_mode_is_updated(target: Target, operation: str, again: bool) -> None:
    """Of tensors that were made in torch.inference_mode(), out of it and in it."""

    def run(arguments: Arguments) -> Arrays:
        with torch.inference_mode():
            mine = target.placed(arguments)
        with torch.inference_mode(again):
            return call(target.backend, operation, mine, target.device)

    check_calls(target, operation, run)


@pytest.mark.clause("ARB-QUANT-003", "ARB-QUANT-010", "ARB-FLOAT-001")
@pytest.mark.parametrize("operation", WITH_FLOATS)
def test_floats_that_require_grad(target: Target, operation: str) -> None:
    """As activations do: integers of them have no gradient."""

    def run(arguments: Arguments) -> Arrays:
        mine = target.placed(arguments)
        for name in FLOATS[operation]:
            mine[name].requires_grad_()
        return call(target.backend, operation, mine, target.device)

    check_calls(target, operation, run)


@pytest.mark.clause("ARB-QUANT-010", "ARB-FLOAT-001")
@pytest.mark.parametrize("operation", WITH_FLOATS)
def test_threads_that_flush_for_ever(target: Target, operation: str) -> None:
    """torch has such ones once they were started while the process flushed, and nothing ends that."""

    def run(arguments: Arguments) -> Arrays:
        mine = target.placed(arguments)
        try:
            found: Arrays = in_flushing_threads(partial(call, target.backend, operation, mine, target.device))
            return found
        except RuntimeError as error:
            if "no thread of torch flushes" in str(error):
                pytest.skip(str(error))
            raise

    check_calls(target, operation, run)


@pytest.mark.clause("ARB-LIN-003")
def test_another_rounding_is_refused(target: Target) -> None:
    """By a C library that leaves it so, say: in one sentence, and nothing is changed."""
    upward = UPWARD.get(platform.machine())
    if upward is None or platform.system() != "Linux":
        pytest.skip("what fesetround takes on this machine is not known here")
    libm = ctypes.CDLL("libm.so.6")
    operation = next(name for name in OPERATIONS if target.backend.lacks(name) is None)
    (arguments, expected), *_ = expected_of(target, operation)
    mine, before = target.placed(arguments), libm.fegetround()
    libm.fesetround(upward)
    try:
        with pytest.raises(RuntimeError, match=r"does not round floats to nearest \(fesetround\)"):
            call(target.backend, operation, mine, target.device)
    finally:
        libm.fesetround(before)
    found = call(target.backend, operation, mine, target.device)
    assert_same(operation, arguments, expected, taken(found), target.backend.name)


@pytest.mark.clause("ARB-QUANT-010")
@pytest.mark.operations("quantise_columns")
def test_a_subnormal_in_full(target: Target) -> None:
    """2^-149 * 100 * 2^100 is 100 * 2^-49, also where the processor takes the first for zero."""
    arguments: Arguments = {"dy": from_bits([[100]]), "e_x": int8([100])}
    arguments |= {"seed": 0, "step": 0, "stream": 0, "first_row": 0}
    target.needs("quantise_columns")
    mine = target.placed(arguments)
    with SETTINGS["flush to zero"](target.device):
        found = call(target.backend, "quantise_columns", mine, target.device)
    assert (found["q"].tolist(), found["exponents"].tolist()) == ([[100]], [-49])


@pytest.mark.clause("ARB-LIN-001")
@pytest.mark.operations("linear_forward")
@pytest.mark.parametrize(
    ("setting", "terms"),
    [("autocast bfloat16", [127, 127, 3]), ("autocast float16", [127] * 16 + [17, 0, 0])],
)
def test_a_sum_that_half_the_bits_do_not_hold(target: Target, setting: str, terms: list[int]) -> None:
    """257 and 2,049: a matrix product under autocast would give 256 and 2,048."""
    columns = -(-len(terms) // 4) * 4
    arguments: Arguments = {"q_x": int8([terms + [0] * (columns - len(terms))]), "e_x": int8([0])}
    arguments |= {"codes": uint8([[0b10101010] * (columns // 4)]), "e": int8([[0] * (columns // 4)])}
    arguments |= {"e_base": 0, "e_span": 0, "group_size": 4}
    target.needs("linear_forward")
    with SETTINGS[setting](target.device):
        found = call(target.backend, "linear_forward", target.placed(arguments), target.device)
    assert found["y"].tolist() == [[float(sum(terms))]]


def told(backend: str, device: str) -> str:
    """Results of all operations that the backend declares, as one line."""
    found = []
    for operation, table in OPERATIONS.items():
        chosen = select(backend)
        if chosen.lacks(operation) is None:
            small = {
                name: value.to(device) if isinstance(value, torch.Tensor) else value
                for name, value in arguments_for(operation, *SIZES[0]).items()
            }
            arrays = taken(call(chosen, operation, small, device))
            found += [f"{operation} {bits(arrays[a.name]).tobytes().hex()}" for a in table.results]
    return "; ".join(found)


@pytest.mark.clause("ARB-UPD-003")
def test_optimised_python(target: Target, pytestconfig: pytest.Config) -> None:
    """python -O leaves out assertions, and nothing that a result depends on."""
    name = pytestconfig.getoption("--backend")
    here = "arbitor.conformance.operations.test_settings"  # by this name in a wheel too
    words = f"from {here} import told; print(told({name!r}, {target.device!r}))"
    ended = subprocess.run(
        [sys.executable, "-O", "-c", words], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == told(name, target.device)
