"""Every configuration that a backend's host code may choose, on the same inputs: one hash, and the judge's
(ARB-UPD-003).

A backend names them in `configurations(device)` (kernels/registry.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arbitor.conformance.draw.strategies import sized_example
from arbitor.conformance.judge.arena import check_in_arena
from arbitor.conformance.judge.compare import bits
from arbitor.conformance.judge.configured import in_configuration, say_where
from arbitor.conformance.judge.target import REFERENCE, Arguments, Arrays, Target, call, substituted
from arbitor.conformance.operations.common import Total, busy, float32
from arbitor.kernels.registry import configurations, select

Ways = dict[str, Callable[..., Any]]

# O, I, T, group size: tiles are 64 to 256 wide; whole ones, one less, one more, several; few tokens and many
SIZES = (
    ((64, 128, 16), 128),
    ((63, 128, 1), 32),
    ((65, 192, 33), 64),
    ((129, 260, 31), 32),
    ((258, 320, 129), 128),
)
# where it costs nothing: around the tiles of 256, and several bands of them
LARGE_SIZES = (((255, 513, 257), 64), ((257, 1088, 640), 32), ((1153, 2112, 130), 128))
# rows that are shorter and longer than what a program's registers hold
ROWS = ((1, 1), (65, 1025), (3, 1023), (2, 8191), (3, 8196))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "operation" not in metafunc.fixturenames:
        return
    name, device = metafunc.config.getoption("--backend"), metafunc.config.getoption("--device")
    operations: list[Any] = list(configurations(name, device))
    if not operations:
        reason = f"the host code of {name} has nothing to choose on {device}"
        operations = [pytest.param("none", marks=pytest.mark.skip(reason))]
    metafunc.parametrize("operation", operations)


def inputs_of(operation: str, device: str) -> list[Arguments]:
    """Dense arguments of several sizes; the operations on rows also get a row that is not finite."""
    if operation.startswith("quantise"):
        found = [busy(sized_example(operation, sum(sizes), sizes, 4)) for sizes in ROWS]
        found[-1]["x"][1, 8] = float32(float("nan"))
        return found
    sizes = SIZES + LARGE_SIZES * (device == "cuda")
    found = [busy(sized_example(operation, sum(s), s, group_size)) for s, group_size in sizes]
    if operation != "linear_update":
        return found
    return [arguments | {"rule": "scaled"} for arguments in found] + [found[0] | {"rule": "sign"}]


def hash_of(arrays: Arrays) -> str:
    """SHA-256 over names, dtypes, shapes and elements."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {list(array.shape)}\n".encode())
        digest.update(bits(array).tobytes())
    return digest.hexdigest()


def hashes(target: Target, operation: str, arguments: Arguments, ways: Ways) -> dict[str, str]:
    """Hash of all results and of the arguments written in place, by the way; "chosen" is the host code's."""
    found: dict[str, str] = {}
    chosen = {"chosen": getattr(target.backend.module, operation)}
    for name, function in (chosen | ways).items():
        actual = call(
            substituted(target, operation, function).backend,
            operation,
            target.placed(arguments),
            target.device,
        )
        found[name] = hash_of(actual)
    return found


def expected(target: Target, operation: str, arguments: Arguments) -> Arrays:
    """What the judge gives; where products are large, the torch backend, which it judges elsewhere."""
    large = "q_x" in arguments and arguments["q_x"].numel() > 300_000
    judge = select("torch") if large and target.backend.name != "torch" else target.judge
    copies = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
    return call(judge, operation, copies)


@pytest.mark.clause("ARB-UPD-003", "ARB-UPD-002", "ARB-RNG-003")
def test_every_configuration_gives_one_hash(
    target: Target, operation: str, pytestconfig: pytest.Config, total: Total
) -> None:
    ways = configurations(pytestconfig.getoption("--backend"), target.device)[operation]
    assert len(ways) > 1
    for arguments in inputs_of(operation, target.device):
        right = expected(target, operation, arguments)
        found = hashes(target, operation, arguments, ways)
        wrong = [name for name, value in found.items() if value != hash_of(right)]
        if wrong:
            function = ways.get(wrong[0], getattr(target.backend.module, operation))
            with in_configuration(wrong[0]):
                say_where(substituted(target, operation, function), operation, arguments, right)
        assert not wrong, f"{operation}: other bits from {', '.join(wrong)}"
        total("runs of configurations", len(found))


@pytest.mark.clause("ARB-UPD-003")
def test_every_configuration_keeps_to_its_buffers(
    target: Target, operation: str, pytestconfig: pytest.Config, total: Total
) -> None:
    """Between red zones and on poisoned memory; one size where kernels are interpreted."""
    ways = configurations(pytestconfig.getoption("--backend"), target.device)[operation]
    inputs = inputs_of(operation, target.device)
    for arguments in inputs if target.device == "cuda" else inputs[2:3]:
        for name, function in ways.items():
            way = substituted(target, operation, function)
            with in_configuration(name):
                total("buffers between red zones", check_in_arena(way, operation, arguments))


@pytest.mark.clause("ARB-UPD-003")
def test_a_configuration_with_other_bits_is_seen() -> None:
    """The check itself: the torch backend beside a way whose last element is one more."""
    honest = Target(select("torch"), select(REFERENCE))
    gradient = honest.backend.module.weight_gradient

    def off_by_one(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = gradient(q_g, q_x)
        found.view(-1)[-1] += 1
        return found

    arguments = busy(sized_example("weight_gradient", 0, (3, 5, 2), 4))
    ways = {"same": gradient, "other": off_by_one}
    found = hashes(honest, "weight_gradient", arguments, ways)
    assert found["chosen"] == found["same"] == hash_of(expected(honest, "weight_gradient", arguments))
    assert found["other"] != found["same"]
