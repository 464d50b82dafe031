"""What enters: the initial state, and what construction and loading refuse before anything has changed."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch

from arbitor.components import TernaryEmbeddingTable, TernaryLinear, initial_exponent
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import State, backward, changed, hash_of, loss_of, noise, snapshot
from arbitor.update import ternary_modules, update_memory

Change = Callable[[torch.Tensor], torch.Tensor | None]


def at(index: tuple[int, ...] | int, value: int) -> Change:
    def change(tensor: torch.Tensor) -> None:
        tensor[index] = value

    return change


def code(byte: int) -> Change:
    """That byte last in the second row: 10 columns are 2 bytes and a half, so its upper half is padding."""
    return at((1, 2), byte)


# array: (change, error, what the message must name)
LINEAR: dict[str, tuple[str, Change, type[Exception], str]] = {
    "float t_accum": ("t_accum", lambda t: t.float(), TypeError, r"t_accum must be int8, got float32"),
    "wide t_accum": ("t_accum", lambda t: t.long(), TypeError, r"t_accum must be int8, got int64"),
    "bool codes": ("codes", lambda t: t.bool(), TypeError, r"codes must be uint8, got bool"),
    "t_accum -128": (
        "t_accum",
        at((3, 4), -128),
        ValueError,
        r"t_accum\[3, 4\] = -128, expected -127\.\.127",
    ),
    "e_accum -128": ("e_accum", at((2, 1), -128), ValueError, r"e_accum\[2, 1\] = -128"),
    "e above its band": ("e", at((0, 1), 2), ValueError, r"e\[0, 1\] = 2, expected -3\.\.1"),
    "e below its band": ("e", at((4, 0), -4), ValueError, r"e\[4, 0\] = -4, expected -3\.\.1"),
    "code 3": ("codes", code(0b01010011), ValueError, r"row 1, byte 2|\[1, 2\]|83|0x53"),
    "padding 0": ("codes", code(0b01000101), ValueError, r"row 1, byte 2|\[1, 2\]|69|0x45"),
    "padding 2": ("codes", code(0b10010101), ValueError, r"row 1, byte 2|\[1, 2\]|149|0x95"),
    "a row less": (
        "t_accum",
        lambda t: t[:-1],
        ValueError,
        r"t_accum must have shape \(6, 10\), got \(5, 10\)",
    ),
    "transposed": ("codes", lambda t: t.t(), ValueError, r"codes must have shape \(6, 3\), got \(3, 6\)"),
    "one axis": ("e", lambda t: t.flatten(), ValueError, r"e must have shape \(6, 2\), got \(12,\)"),
    "float numbers": ("_extra_state", lambda t: t.double(), TypeError, "extra state must be int64"),
    "six numbers": ("_extra_state", lambda t: t[:6], ValueError, r"shape \(7,\), got \(6,\)"),
    "e_base -27": ("_extra_state", at(0, -27), ValueError, r"e_base must be in -26\.\.26, got -27"),
    "e_span 7": ("_extra_state", at(1, 7), ValueError, r"e_span must be in 0\.\.6, got 7"),
    "e_span 1": ("_extra_state", at(1, 1), ValueError, r"e\[0, 0\] = -1, expected -3\.\.-2"),
    "group_size 6": ("_extra_state", at(2, 6), ValueError, "multiple of 4, got 6"),
    "group_size 4": ("_extra_state", at(2, 4), ValueError, r"must have shape \(6, 3\), got \(6, 2\)"),
    "tensor_id -1": ("_extra_state", at(3, -1), ValueError, r"tensor_id must be in 0\.\.268435455, got -1"),
    "updates -1": ("_extra_state", at(4, -1), ValueError, "updates must be in"),
    "updates 2^32": ("_extra_state", at(4, 2**32), ValueError, "updates must be in"),
    "seed low 2^32": ("_extra_state", at(5, 2**32), ValueError, "seed low must be in"),
    "seed high -1": ("_extra_state", at(6, -1), ValueError, "seed high must be in"),
}
TABLE: dict[str, tuple[str, Change, type[Exception], str]] = {
    "corr_accum -32768": ("corr_accum", at((5, 1), -32768), ValueError, r"corr_accum\[5, 1\] = -32768"),
    "int8 corr_accum": (
        "corr_accum",
        lambda t: t.to(torch.int8),
        TypeError,
        "corr_accum must be int16, got int8",
    ),
    "step_counter -1": ("step_counter", at(2, -1), ValueError, r"step_counter\[2\] = -1"),
    "int64 step_counter": (
        "step_counter",
        lambda t: t.long(),
        TypeError,
        "step_counter must be int32, got int64",
    ),
}


def incoming(module: torch.nn.Module) -> State:
    """A legal state that differs from the module's in every array of elements."""
    tensors = snapshot(module)
    for name, tensor in tensors.items():
        if name.endswith(("accum", "step_counter")):
            tensor += 1
        elif name.endswith("_extra_state"):
            tensor[4:] += 1
    return tensors


def refused(
    module: torch.nn.Module, tensors: State, error: type[Exception], message: str, **named: Any
) -> None:
    before = snapshot(module)
    with pytest.raises(error, match=message):
        module.load_state_dict(tensors, **named)
    assert changed(before, snapshot(module)) == []


def with_change(tensors: State, name: str, change: Change) -> State:
    other = {key: tensor.clone() for key, tensor in tensors.items()}
    result = change(other[name])
    return other | ({} if result is None else {name: result})


@pytest.mark.clause("ARB-STATE-003", "ARB-STATE-005", "ARB-STATE-006", "ARB-PACK-003")
@pytest.mark.parametrize("case", LINEAR)
@pytest.mark.parametrize("strict", [True, False])
def test_a_layer_refuses(target: Target, case: str, strict: bool) -> None:
    """One array is illegal, all others are legal and new; a legal one is taken."""
    layer = models.linear(target, columns=10, rows=6)
    name, change, error, message = LINEAR[case]
    tensors = incoming(layer)
    refused(layer, with_change(tensors, name, change), error, message, strict=strict)
    layer.load_state_dict(tensors)
    assert changed(tensors, snapshot(layer)) == []


@pytest.mark.clause("ARB-STATE-004", "ARB-STATE-006")
@pytest.mark.parametrize("case", TABLE)
def test_a_table_refuses(target: Target, case: str) -> None:
    table = models.table(target)
    name, change, error, message = TABLE[case]
    tensors = incoming(table)
    refused(table, with_change(tensors, name, change), error, message)
    table.load_state_dict(tensors)
    assert changed(tensors, snapshot(table)) == []


@pytest.mark.clause("ARB-STATE-006")
@pytest.mark.parametrize("case", ["float t_accum", "t_accum -128", "updates -1", "one axis"])
def test_a_model_refuses(target: Target, case: str) -> None:
    """The last module is illegal; no module before it has taken anything."""
    model = models.model_of(target)
    name, change, error, _ = LINEAR[case]
    refused(model, with_change(incoming(model), f"head.{name}", change), error, "head")
    tensors = incoming(model)
    model.load_state_dict(tensors)
    assert changed(tensors, snapshot(model)) == []


@pytest.mark.clause("ARB-STATE-006")
@pytest.mark.parametrize("whole", [True, False])
def test_missing_and_unknown_names(target: Target, whole: bool) -> None:
    module = models.model_of(target) if whole else models.linear(target, columns=10, rows=6)
    prefix = "head." if whole else ""
    for name in ("codes", "t_accum", "e_accum", "_extra_state"):
        tensors = incoming(module)
        del tensors[prefix + name]
        refused(module, tensors, ValueError, f"lacks .*{prefix}{name}")
    refused(
        module, incoming(module) | {f"{prefix}weight": torch.ones(1)}, ValueError, f"unknown .*{prefix}weight"
    )


@pytest.mark.clause("ARB-STATE-003", "ARB-STATE-006")
def test_a_part_of_the_state_has_to_fit_the_rest(target: Target) -> None:
    """strict=False: integers alone may come, but not a band that the exponents here are outside of."""
    layer = models.linear(target, columns=10, rows=6)
    numbers = layer.get_extra_state()
    numbers[4] = 9
    layer.load_state_dict({"_extra_state": numbers}, strict=False)
    assert layer.updates == 9
    numbers[0] += 5
    refused(layer, {"_extra_state": numbers}, ValueError, r"e\[0, 0\] = -1, expected 2", strict=False)
    assert layer.shape.e_base == -3


@pytest.mark.clause("ARB-STATE-005", "ARB-STATE-006")
@pytest.mark.parametrize("kind", [TernaryLinear, TernaryEmbeddingTable])
@pytest.mark.parametrize(
    "options",
    [
        *({"group_size": size} for size in (0, 2, 6, 1028)),
        *({"e_span": span} for span in (-1, 7)),
        *({"tensor_id": number} for number in (-1, 2**28)),
        *({"seed": number} for number in (-1, 2**64)),
    ],
    ids=str,
)
def test_construction_refuses(target: Target, kind: Any, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="|".join(map(str, options.values()))):
        kind(8, 8, backend=target.backend.name, **options)


@pytest.mark.clause("ARB-STATE-005")
def test_construction_takes_the_extremes(target: Target) -> None:
    for options in ({"group_size": 4}, {"group_size": 1024}, {"e_span": 0}, {"e_span": 6}):
        TernaryLinear(1, 1, backend=target.backend.name, **options)
    layer = TernaryLinear(5, 1, backend=target.backend.name, seed=2**64 - 1, tensor_id=2**28 - 1)
    twin = TernaryLinear(5, 1, backend=target.backend.name)
    twin.load_state_dict(layer.state_dict())
    assert (twin.seed, twin.tensor_id) == (2**64 - 1, 2**28 - 1)
    assert list(ternary_modules(twin)) == [""]


@pytest.mark.clause("ARB-INIT-002")
def test_initial_exponents() -> None:
    """2^-r is 1 / sqrt(2 I / 3) rounded in the logarithm, so 2^(2r-1) <= 2 I / 3 < 2^(2r+1)."""
    for width in range(1, 3000):
        r = -initial_exponent(width)
        assert Fraction(4) ** r / 2 <= Fraction(2 * width, 3) < Fraction(4) ** r * 2
    assert [initial_exponent(width) for width in (3, 12, 48, 191, 192, 256, 767, 768)] == [
        -1,
        -2,
        -3,
        -3,
        -4,
        -4,
        -4,
        -5,
    ]


@pytest.mark.clause("ARB-INIT-001", "ARB-INIT-002", "ARB-INIT-003", "ARB-STATE-001")
@pytest.mark.parametrize("e_span", range(7))
def test_initial_state(target: Target, e_span: int) -> None:
    """Codes from the random bits, one exponent in the middle of its band, nothing accumulated or counted."""
    for module in (
        models.linear(target, columns=10, rows=6, e_span=e_span, seed=3, tensor_id=2),
        models.table(target, columns=10, rows=6, e_span=e_span, seed=3, tensor_id=2),
    ):
        state = module.state()
        assert torch.equal(state.pop("codes").cpu(), target.judge.initialise(6, 10, 3, 2))
        assert state.pop("e").unique().tolist() == [-1]
        assert not any(tensor.any() for tensor in state.values())
        assert module.get_extra_state().tolist() == [-1 - e_span // 2, e_span, 8, 2, 0, 3, 0]


@pytest.mark.clause("ARB-INIT-002", "ARB-INIT-003")
@pytest.mark.parametrize("octaves", [-2, 3])
def test_octaves_are_added(target: Target, octaves: int) -> None:
    """To the exponents, and so to the band around them."""
    layer = models.linear(target, columns=10, rows=6, e_span=3, octaves=octaves)
    assert layer.e.unique().tolist() == [octaves - 1]
    assert (layer.shape.e_base, layer.shape.e_span) == (octaves - 2, 3)


@pytest.mark.clause("ARB-INIT-002")
@pytest.mark.parametrize("octaves", [1.0, 0.5, True, None, "1", 21, -21])
def test_octaves_are_whole(target: Target, octaves: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="octaves must be"):
        models.linear(target, octaves=octaves)


@pytest.mark.clause("ARB-STATE-006", "ARB-RUN-006")
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("make", [models.linear, models.model_of])
def test_a_load_that_is_refused_has_not_been(target: Target, make: Any, strict: bool) -> None:
    """In the middle of a step, which goes on; then a legal one is taken as if it were the first."""
    module, twin = make(target), make(target)
    illegal, place = snapshot(make(target, seed=5)), "" if make is models.linear else "head."
    illegal[f"{place}t_accum"][0, 0] = -128
    for each in (module, twin):
        inputs = noise(target, 5, 12) if make is models.linear else models.bytes_of(target, 2, 9)
        backward(each(inputs).square().sum())
        if each is module:
            with pytest.raises(ValueError, match=r"t_accum\[0, 0\] = -128"):
                each.load_state_dict(illegal, strict=strict)
        assert update_memory(each).totals()["votes"] > 0
    assert hash_of(module) == hash_of(twin)
    other = make(target, seed=5)
    module.load_state_dict(other.state_dict(), strict=strict)
    assert hash_of(module) == hash_of(other)


@pytest.mark.clause("ARB-RUN-004", "ARB-RUN-006", "ARB-STATE-006")
def test_a_load_in_the_middle_of_a_step_begins_another(target: Target) -> None:
    """What was captured was for other weights, though they have had as many updates; so is a forward."""
    for kind in (models.linear, models.table):
        layer, loaded = kind(target), kind(target, seed=5)
        inputs: Any = noise(target, 5, 12) if kind is models.linear else models.bytes_of(target, 5, high=9)
        stale = layer(inputs)
        backward(layer(inputs).square().sum())
        layer.load_state_dict(loaded.state_dict())
        assert layer.captures == []
        with pytest.raises(RuntimeError, match="was loaded between this forward and its backward"):
            backward(stale.sum())
        for each in (layer, loaded):
            backward(each(inputs).square().sum())
            update_memory(each)
        assert hash_of(layer) == hash_of(loaded)


@pytest.mark.clause("ARB-STATE-006", "ARB-RUN-006")
def test_what_is_not_loaded_is_left(target: Target) -> None:
    """strict=False: a part of the modules, and names that nobody has."""
    model, other, twin = (models.model_of(target, seed=seed) for seed in (0, 5, 0))
    tokens = models.bytes_of(target, 2, 9)
    for each in (model, twin):
        backward(loss_of(each, tokens))
    part = {name: tensor for name, tensor in snapshot(other).items() if name.startswith("head.")}
    found = model.load_state_dict(part | {"tail.codes": torch.ones(1)}, strict=False)
    assert found.unexpected_keys == ["tail.codes"]
    assert sorted(found.missing_keys) == sorted(set(model.state_dict()) - set(part))
    assert changed(part, {name: model.state_dict()[name] for name in part}) == []
    assert [name for name, module in ternary_modules(model).items() if not module.captures] == ["head"]
    for each in (model, twin):
        report = each._ternary_update_memory()
        assert report.modules_updated == (5 if each is model else 6)
    left = {name for name in twin.state_dict() if not name.startswith("head.")}
    assert left & set(changed(snapshot(model), snapshot(twin))) == set()
