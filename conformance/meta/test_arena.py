"""Red zones and poison catch what they are for: a backend with one defect fails, an honest one does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from arbitor.conformance.judge.arena import PATTERNS, check_in_arena, check_padding
from arbitor.conformance.judge.target import Target, substituted, target_of
from arbitor.conformance.operations.common import uint8
from arbitor.conformance.operations.test_buffers import arguments_for
from arbitor.kernels import eager
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.redzones import RED, Arena, Poisoned

Function = Callable[..., Any]
SIZES = ((5, 18, 3), 8)
RESULT = "pack"  # an operation with a result, an input and padding
IN_PLACE = "ternary_update"


def outside(tensor: torch.Tensor, distance: int) -> torch.Tensor:
    """The byte at that distance from a contiguous tensor's bytes: 0 is the one behind, -1 the one before."""
    everything = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
    start = tensor.storage_offset() * tensor.element_size()
    size = tensor.numel() * tensor.element_size() if distance >= 0 else 0
    return everything[start + size + distance :][:1]


def in_buffer(found: torch.Tensor) -> torch.Tensor:
    """The same result in memory that torch.empty gave, as kernels write it."""
    return torch.empty(found.shape, dtype=found.dtype).copy_(found)


def beside_the_result(distance: int, byte: int) -> Function:
    def function(*arguments: Any) -> Any:
        result = in_buffer(eager.pack(*arguments))
        outside(result, distance).fill_(byte)
        return result

    return function


def beside_an_argument(operation: str, place: int, distance: int) -> Function:
    def function(*arguments: Any) -> Any:
        outside(arguments[place], distance).add_(1)
        return getattr(eager, operation)(*arguments)

    return function


def unwritten(byte: int | None = None) -> Function:
    """The last element is as torch.empty gave it."""

    def function(trits: torch.Tensor) -> torch.Tensor:
        found = eager.pack(trits)
        result = torch.empty_like(found)
        result.view(-1)[:-1] = found.view(-1)[:-1]
        return result

    return function


def adds_to_garbage(trits: torch.Tensor) -> torch.Tensor:
    """Starts from memory that nobody has set to zero."""
    codes = eager.pack(trits)
    return codes.new_empty(codes.shape) & 1 | codes


def reads_behind(trits: torch.Tensor) -> torch.Tensor:
    """One byte of what is behind the input gets into the result."""
    return eager.pack(trits) ^ (outside(trits, 0) >> 1 & 1)


def changes_its_input(trits: torch.Tensor) -> torch.Tensor:
    codes = eager.pack(trits)
    trits.view(-1)[-1] = 0 if trits.view(-1)[-1] else 1
    return codes


def forgets_padding(trits: torch.Tensor) -> torch.Tensor:
    """0 behind the last trit of a row, as code 1 it should be."""
    return eager.pack(F.pad(trits, (0, -trits.shape[1] % 4), value=-1))


DEFECTS: dict[str, tuple[str, Function, str]] = {
    "a byte behind a result": (RESULT, beside_the_result(0, 7), "red zone behind it were written"),
    "a byte before a result": (RESULT, beside_the_result(-1, 7), "red zone before it were written"),
    "far behind a result": (RESULT, beside_the_result(RED - 1, 7), f"the nearest {RED} bytes outside"),
    "the first pattern behind a result": (RESULT, beside_the_result(0, PATTERNS[0]), "pattern 0x5A"),
    "a byte behind an input": (RESULT, beside_an_argument(RESULT, 0, 0), "trits: 1 bytes of the red zone"),
    "a byte behind the codes": (IN_PLACE, beside_an_argument(IN_PLACE, 2, 0), "codes: 1 bytes of the red"),
    "a byte before e_accum": (IN_PLACE, beside_an_argument(IN_PLACE, 5, -1), "e_accum: 1 bytes of the red"),
    "a byte behind the moments": (IN_PLACE, beside_an_argument(IN_PLACE, 6, 0), "moment: 1 bytes of the red"),
    "a byte behind e_g": (IN_PLACE, beside_an_argument(IN_PLACE, 1, 0), "e_g: 1 bytes of the red"),
    "an element is not written": (RESULT, unwritten(), "codes differs in 1 of"),
    "adds to garbage": (RESULT, adds_to_garbage, "codes differs"),
    "reads behind an input": (RESULT, reads_behind, "codes differs"),
    "changes its input": (RESULT, changes_its_input, "changed its input trits"),
    "forgets padding": (RESULT, forgets_padding, "codes differs"),
}


@pytest.fixture
def torch_target() -> Target:
    return target_of("torch")


@pytest.fixture(autouse=True)
def _reproductions_elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_caught(torch_target: Target, defect: str, shift: int) -> None:
    operation, function, words = DEFECTS[defect]
    broken = substituted(torch_target, operation, function)
    with pytest.raises(AssertionError, match=words):
        check_in_arena(broken, operation, arguments_for(operation, *SIZES), shift)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_honest_work_passes(torch_target: Target, operation: str) -> None:
    """In buffers of torch.empty, as kernels have them."""

    def function(*arguments: Any, **named: Any) -> Any:
        found = getattr(eager, operation)(*arguments, **named)
        return tuple(map(in_buffer, found)) if isinstance(found, tuple) else in_buffer(found)

    honest = substituted(torch_target, operation, function)
    table = OPERATIONS[operation]
    buffers = check_in_arena(honest, operation, arguments_for(operation, *SIZES))
    assert buffers >= len(PATTERNS) * (len(table.arrays) + len(table.results))


def test_padding_is_looked_at_by_itself() -> None:
    """Nine trits a row: one field of the last byte is used, of the dense one four."""
    trits = {"trits": torch.zeros(2, 9, dtype=torch.int8)}
    for name, operation, right, wrong in (
        ("codes", "pack", 0b01010110, 0b01010001),
        ("dense", "pack_dense", 81 + 2, 2 * 81),
    ):
        check_padding(operation, trits, {name: uint8([[0, right], [0, right]])})
        with pytest.raises(AssertionError, match=f"padding of row 1 of {name}"):
            check_padding(operation, trits, {name: uint8([[0, right], [0, wrong]])})


MAKERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "empty": lambda x: torch.empty(3, 5, dtype=torch.int32, device=x.device),
    "empty_like": torch.empty_like,
    "empty_strided": lambda x: torch.empty_strided((3, 5), (1, 3), dtype=torch.int8, device=x.device),
    "new_empty": lambda x: x.new_empty(7),
    "zeros": lambda x: torch.zeros(4, 4, device=x.device),
    "zeros_like": torch.zeros_like,
    "new_zeros": lambda x: x.new_zeros(2, 2),
    "ones": lambda x: torch.ones(4, device=x.device),
    "full": lambda x: torch.full((1,), 2**62, dtype=torch.int64, device=x.device),
    "clone": torch.clone,
    "contiguous": lambda x: x.t().contiguous(),
    "to": lambda x: x.to(torch.float32),
    "pad": lambda x: F.pad(x, (0, 3)),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_what_torch_makes_is_in_the_arena(maker: str) -> None:
    """Same dtype, shape and strides; the pattern where torch promises nothing, torch's values elsewhere."""
    x = torch.arange(15, dtype=torch.int16).view(3, 5)
    plain = MAKERS[maker](x)
    arena = Arena(0xA5)
    with Poisoned(arena):
        found = MAKERS[maker](x)
    (block,) = arena.blocks
    assert found.untyped_storage().data_ptr() == block.memory.untyped_storage().data_ptr()
    assert (found.dtype, found.shape, found.stride()) == (plain.dtype, plain.shape, plain.stride())
    assert found.data_ptr() % 256 == 0
    payload = block.memory[block.start : block.stop]
    if "empty" in maker:
        assert payload.tolist() == [0xA5] * (found.numel() * found.element_size())
    else:
        assert torch.equal(found, plain)
    arena.check()


def test_a_shift_is_one_of_elements() -> None:
    for dtype in (torch.uint8, torch.int16, torch.float32, torch.int64):
        placed = Arena(0x5A, shift=1).place("x", torch.ones(3, dtype=dtype))
        assert placed.data_ptr() % 256 == dtype.itemsize
        assert placed.tolist() == [1, 1, 1]
