"""What a backend declares is true in both directions: what it claims works, and its gaps are gaps.

That what is claimed is also *right* is the business of all other tests. A tile size cannot be seen from
outside; it is taken for what it is, a hint where masks and tails may be wrong, and sizes are tried around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from arbitor.conformance.draw.strategies import SIZED, example, sized_example
from arbitor.conformance.judge.declared import as_declared
from arbitor.conformance.judge.target import Target, call
from arbitor.conformance.operations.common import Total, busy
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.capabilities import Capabilities
from arbitor.kernels.registry import Backend, configurations

NOTHING = "no capabilities are declared: every operation is claimed, and there is no gap to try"


def answers(backend: Backend, operation: str, device: str) -> str | None:
    """None if a legal call gets an answer, right or wrong; else what it got, in words."""
    arguments = {
        name: value.to(device, copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in example(operation, 0).items()
    }
    try:
        call(backend, operation, arguments, device)
    except NotImplementedError as error:
        return f"not implemented ({error})"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def claim_of(backend: Backend, operation: str, device: str) -> str | None:
    """How the declaration of one operation is wrong, or None."""
    declared = backend.capabilities is None or operation in backend.capabilities.operations
    found = answers(backend, operation, device)
    gap = found is not None and found.startswith("not implemented")
    if declared:
        return f"{operation} is declared, but {found}" if gap else None
    if found is None:
        return f"{operation} is declared as missing, but it answers"
    if not gap:
        return f"{operation} is declared as missing, but a call gives {found}, expected NotImplementedError"
    return None


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_are_as_declared(target: Target, operation: str) -> None:
    wrong = claim_of(as_declared(target.backend), operation, target.device)
    assert wrong is None, wrong


def test_devices_are_as_declared(target: Target) -> None:
    """A claim of "cuda" on arrays that are on the CPU only; where there is a GPU, a gap that works there."""
    capabilities = _declared(target)
    on_gpu = target.backend.arrays == "torch"
    if "cuda" in capabilities.devices:
        assert on_gpu, f'"cuda" is declared, but ARRAYS = {target.backend.arrays!r} are on the CPU only'
        return
    if on_gpu and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device: whether the declared gap works there is not known")
    working = [o for o in capabilities.operations if on_gpu and not answers(target.backend, o, "cuda")]
    assert not working, f'"cuda" is declared as missing, but {", ".join(working)} answer there'


def hidden_and_missing(capabilities: Capabilities, there: dict[str, dict[str, Any]]) -> str | None:
    """How the configurations that are there differ from those that are declared, or None."""
    for operation in OPERATIONS:
        claimed = set((capabilities.configurations or {}).get(operation, ()))
        found = set(there.get(operation, {})) if operation in capabilities.operations else set()
        if claimed != found:
            gone = f"declared and not there: {sorted(claimed - found)}"
            return f"configurations of {operation}: {gone}; there and not declared: {sorted(found - claimed)}"
    return None


def test_configurations_are_as_declared(target: Target) -> None:
    """All of them; where nothing is declared of them, those that are there are run all the same
    (test_configurations.py)."""
    capabilities = _declared(target)
    if capabilities.configurations is None:
        pytest.skip("nothing is declared of its configurations")
    wrong = hidden_and_missing(capabilities, configurations(target.backend.name, target.device))
    assert wrong is None, wrong


def test_a_configuration_that_does_not_exist_is_refused(target: Target) -> None:
    """By a program, which gets them by name: one that ignores the name would run the same way every time."""
    program = getattr(target.backend.module, "PROGRAM", None)
    if program is None:
        pytest.skip("configurations of a module are functions; only a program gets them by name")
    named = _declared(target).configurations
    if not named:
        pytest.skip("no configurations are declared")
    for operation in named:
        function = target.backend.module.configuration(operation, "no such configuration")
        arguments = [v.numpy() if isinstance(v, torch.Tensor) else v for v in example(operation, 0).values()]
        with pytest.raises(ValueError, match=r".+"):
            function(*arguments)


def sizes_around(tiles: dict[str, int]) -> Iterator[tuple[int, int, int]]:
    """O, I, T: all at the end of a tile, all behind it, and each alone one less, one more, in a third tile.

    Where a letter has no tile it is 5.
    """
    o, i, t = (tiles.get(letter, 5) for letter in "OIT")
    found = {(o, i, t), (o + 1, i + 1, t + 1)}
    for step in (-1, 1, None):
        found |= {(_other(o, step), i, t)} if "O" in tiles else set()
        found |= {(o, _other(i, step), t)} if "I" in tiles else set()
        found |= {(o, i, _other(t, step))} if "T" in tiles else set()
    yield from sorted(found)


def _other(size: int, step: int | None) -> int:
    """One less or more than a tile; None: in a third one."""
    return 2 * size + 1 if step is None else max(1, size + step)


@pytest.mark.clause("ARB-LIN-001", "ARB-LIN-002", "ARB-LIN-005", "ARB-UPD-002", "ARB-UPD-003")
@pytest.mark.parametrize("operation", SIZED)
def test_around_declared_tiles(target: Target, operation: str, total: Total) -> None:
    target.needs(operation)
    tiles = dict(_declared(target).tiles.get(operation, {}))
    if not tiles:
        pytest.skip(f"no tiles of {operation} are declared")
    if target.judge.arrays == "lists":
        pytest.skip("matrices of this size on lists of Python integers take minutes each")
    for sizes in sizes_around(tiles):
        target.check(operation, busy(sized_example(operation, sum(sizes), sizes, 32)))
        total("sizes around declared tiles", 1)


def _declared(target: Target) -> Capabilities:
    if target.backend.capabilities is None:
        pytest.skip(NOTHING)
    return target.backend.capabilities
