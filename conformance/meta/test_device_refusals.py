"""A call in a process of its own: what counts as refused there, and what does not.

On a CPU a planted backend says what a device would; the tests of tokens outside a table do this on a GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from arbitor.conformance.judge.target import target_of
from arbitor.conformance.operations.common import int8
from arbitor.conformance.operations.refused.device_refusals import refuses_on_device
from arbitor.conformance.tools.planted import planted

ILLEGAL = {"trits": int8([[0, 2]])}


@pytest.mark.parametrize(
    "body",
    [
        "return eager.pack(trits)",
        "raise RuntimeError('CUDA error: device-side assert triggered')",
        "raise RuntimeError('cuModuleLoadData failed with error: CUDA_ERROR_ASSERT')",
    ],
)
def test_a_refusal(tmp_path: Path, body: str) -> None:
    name = planted(tmp_path, f"def pack(trits):\n    {body}\n")
    refuses_on_device(target_of(name), "pack", ILLEGAL, 0, 1, 2)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return eager.pack(trits.clamp(-1, 1))", "it was answered"),
        ("raise ValueError('no')", "refused: no; expected a ValueError that names 0 and 1 and 2"),
        (
            "raise RuntimeError('CUDA error: an illegal memory access')",
            "RuntimeError: CUDA error: an illegal",
        ),
        ("__import__('os')._exit(3)", "in pack it ended with status 3"),
    ],
)
def test_what_is_no_refusal(tmp_path: Path, body: str, said: str) -> None:
    name = planted(tmp_path, f"def pack(trits):\n    {body}\n")
    with pytest.raises(AssertionError, match=said):
        refuses_on_device(target_of(name), "pack", ILLEGAL, 0, 1, 2)
