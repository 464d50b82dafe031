"""The intermediate values of an update end where the reference ends, and a failure shows them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.compare import assert_same
from arbitor.conformance.judge.explain import UPDATES, element, explained, group, moment
from arbitor.conformance.judge.target import call, target_of
from arbitor.conformance.operations.common import HOW, int8, int32, uint8


@pytest.mark.parametrize("operation", UPDATES)
def test_they_end_where_the_reference_ends(operation: str) -> None:
    """Every tenth element and every group of updated rows, of small calls."""
    compared = 0
    for seed in range(40):
        arguments = example(operation, seed)
        copies = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
        found = call(target_of("reference").backend, operation, copies)
        rows, columns = arguments["t_accum"].shape
        trits = target_of("torch").backend.unpack(found["codes"], columns)
        scale = "corr_accum" if operation == "embedding_update" else "e_accum"
        touched = set(arguments["tokens"].tolist()) if "tokens" in arguments else set(range(rows))
        for o in sorted(touched)[:3]:
            for i in range(0, columns, 10):
                values = element(operation, arguments, o, i)
                assert (values["trit"], values["t_accum"]) == (trits[o, i], found["t_accum"][o, i])
                compared += 1
            for g in range(arguments["e"].shape[1]):
                values = group(operation, arguments, o, g)
                assert (values["e"], values[scale]) == (found["e"][o, g], found[scale][o, g])
                assert moment(operation, arguments, o, g)["moment"] == found["moment"][o, g]
    assert compared > 100


def test_the_worked_example() -> None:
    """Element 0 of section 6: S and the shift stand there; r16 is another one, so k is what may differ."""
    arguments: dict[str, Any] = HOW | {
        "gradient": int32([[-300, 20, 0, 80, 6]]), "t_accum": int8([[30, -3, 7, -31, 0]]),
        "codes": uint8([[0b00100001, 0b01010110]]), "e": int8([[0, 0]]), "e_accum": int8([[0, 0]]),
        "rule": "scaled", "gain": 131_072, "e_g": int8([0]), "moment": int32([[0, 0]]),
    }  # fmt: skip
    values = element("ternary_update", arguments, 0, 0)
    assert {n: values[n] for n in ("G", "S", "mean", "factor", "shift", "trit before", "t_accum before")} == {
        "G": -300, "S": 400, "mean": 100, "factor": 524_288, "shift": 7, "trit before": 0,
        "t_accum before": 30,
    }  # fmt: skip
    values = element("ternary_update", arguments | {"rule": "adaptive"}, 0, 0)
    assert {n: values[n] for n in ("moment", "factor", "shift")} == {
        "moment": 1_062_707_712, "factor": 1_766_981_632, "shift": 19,
    }  # fmt: skip
    assert [group("ternary_update", arguments, 0, g)["h"] for g in (0, 1)] == [100, -6]


def test_a_failure_shows_them() -> None:
    arguments = example("ternary_update", 3)
    copies = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
    expected = call(target_of("reference").backend, "ternary_update", copies)
    wrong = expected | {"t_accum": expected["t_accum"].clone()}
    wrong["t_accum"][-1, -1] += 1
    with pytest.raises(AssertionError, match=r"row \d+, column \d+, G .* vote .* accum_threshold .* fires"):
        assert_same("ternary_update", arguments, expected, wrong, "torch")
    moments = expected | {"moment": expected["moment"] ^ 1}
    text = explained("ternary_update", arguments, expected, moments, "moment")
    assert all(f", {name} " in text for name in ("n_done", "a", "x_a", "m", "x_m", "moment"))
    padding = expected | {"codes": expected["codes"].clone()}
    padding["codes"][0, -1] ^= 0xC0
    text = explained("ternary_update", arguments, expected, padding, "codes")
    assert text.startswith("  row 0, column" if arguments["t_accum"].shape[1] % 4 == 0 else "  element")
    assert explained("ternary_update", arguments, expected, {"e": None}, "e") == ""
    assert explained("pack", arguments, expected, wrong, "codes") == ""


def test_rows_without_a_token() -> None:
    seed = next(s for s in range(200) if 0 not in example("embedding_update", s)["tokens"])
    arguments = example("embedding_update", seed)
    expected = {"t_accum": arguments["t_accum"]}
    wrong = {"t_accum": arguments["t_accum"].clone()}
    wrong["t_accum"][0, 0] ^= 1
    text = explained("embedding_update", arguments, expected, wrong, "t_accum")
    assert text == "  row 0 is not among the tokens: no byte of it may change\n"
