"""What a checkpoint keeps of a window that is not logged yet, in any form that a file may have."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from arbitor.training import metrics
from arbitor.update import COUNTS

PENDING: dict[str, Any] = {
    "losses": [(0.5).hex()],
    "counts": dict.fromkeys(COUNTS, 3),
    "metrics": {"lines": 1, "bytes": 2, "sha256": "0" * 64},
    "digests": {"lines": 3, "bytes": 4, "sha256": "1" * 64},
}
MARKS = ("metrics", "digests")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """`pending` of a checkpoint with one value, anywhere in it, in the place of which is any JSON."""
    pending = json.loads(json.dumps(PENDING))
    way: list[Any] = draw(st.sampled_from([[], ["losses"], ["counts"], ["losses", 0],
                                *([file] for file in MARKS), *(["counts", name] for name in COUNTS),
                                *([file, name] for file in MARKS for name in PENDING[file])]))  # fmt: skip
    if not way:
        return draw(JSON)
    inner: Any = pending
    for part in way[:-1]:
        inner = inner[part]
    inner[way[-1]] = draw(JSON)
    return pending


def is_pending(value: Any) -> bool:
    """The form again, by hand: one loss that a float has, five counts of 63 bits, two marks."""
    try:
        losses, counts, marks = value["losses"], value["counts"], [value[file] for file in MARKS]
        (loss,) = losses
        numbers = [*counts.values(), *(mark[name] for mark in marks for name in ("lines", "bytes"))]
        return (
            value.keys() == PENDING.keys()
            and type(loss) is str
            and float.fromhex(loss).hex() == loss.rstrip("\n")
            and counts.keys() == set(COUNTS)
            and all(type(number) is int and 0 <= number < 2**63 for number in numbers)
            and all(mark.keys() == PENDING["metrics"].keys() for mark in marks)
            and all(len(mark["sha256"].rstrip("\n")) == 64 for mark in marks)
            and all(set(mark["sha256"].rstrip("\n")) <= set("0123456789abcdef") for mark in marks)
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


@pytest.mark.clause("ARB-TRAIN-004")
@given(damaged())
@example(PENDING)
@example({})
@example(PENDING | {"counts": []})
@example(PENDING | {"losses": ["0x1p99999"]})
@example(PENDING | {"losses": ["0x1.0000000000000p+1024"]})
@example(PENDING | {"counts": dict.fromkeys(COUNTS, 2**70)})
@example(PENDING | {"counts": dict.fromkeys(COUNTS, True)})
@example(PENDING | {"losses": []})
@example(PENDING | {"losses": [0.5]})
def test_pending_of_any_form(pending: Any) -> None:
    """What is wrong is said; what is not loads, to the bit."""
    fault = metrics.pending_fault(pending, 1)
    assert (fault is None) == is_pending(pending), fault
    if fault is None:
        window = metrics.Window(torch.device("cpu"))
        window.load_state(pending)
        assert window.state() == {name: pending[name] for name in ("losses", "counts")}
