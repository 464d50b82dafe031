"""What a stranger's process may answer: results, errors, warnings, a hello; nothing else is taken."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.conformance.tools.strangers.modules import TRITS, backend
from arbitor.kernels import eager, registry
from arbitor.kernels.plugins import apart, wire
from arbitor.kernels.plugins.answers import WrongAnswer
from arbitor.kernels.plugins.apart import BackendWarning
from arbitor.kernels.plugins.program import ProgramFailed

pytestmark = pytest.mark.usefixtures("may_write")


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        ("ValueError('trits[0] is 7')", ValueError, r"trits\[0\] is 7"),
        ("TypeError('no')", TypeError, "no"),
        ("OSError('no disk')", OSError, "no disk"),
        ("UnicodeDecodeError('utf-8', b'', 0, 1, 'odd')", apart.RemoteError, "UnicodeDecodeError: 'utf-8'"),
        ("SystemExit(0)", apart.RemoteError, "SystemExit: 0"),
        ("type('Mine', (BaseException,), {})('x')", apart.RemoteError, "Mine: x"),
        ("type('Odd', (Exception,), {'__str__': None})()", apart.RemoteError, "cannot be shown"),
    ],
)
def test_what_it_raises_is_an_answer(raised: str, kind: type[Exception], message: str) -> None:
    found = backend(f"def pack(trits):\n    raise {raised}")
    for _ in range(2):
        with pytest.raises(kind, match=message):
            found.pack(TRITS)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "uint8", "shape": [1, 2], "device": "cpu", "start": 0} | changes


@pytest.mark.parametrize(
    "said",
    [
        None, {}, [], [entry(), entry()], ["x"], [entry(more=1)], [entry(dtype="object")], [entry(dtype=3)],
        [entry(shape="22")], [entry(shape=[True, 2])], [entry(shape=[-1, 2])], [entry(shape=[1.0])],
        [entry(shape=[1] * 99)], [entry(shape=[1 << 62, 1 << 62])], [entry(start=-1)], [entry(start=1 << 70)],
        [entry(start=True)], [entry(start=None)], [entry(device="meta")], [entry(device=["cpu"])],
        [entry(shape=[1 << 70, 0])], [entry(device="cuda")],
    ],
)  # fmt: skip
def test_what_is_no_result(said: Any) -> None:
    memory = wire.Memory.new()
    memory.reserve(100)
    with pytest.raises(WrongAnswer):
        wire.results_from(said, ["codes"], memory, "pack", "cpu")


@pytest.mark.parametrize("said", [None, "x", {}, {"kind": 3, "message": "x"}, {"kind": "ValueError"}])
def test_what_is_no_error(said: Any) -> None:
    with pytest.raises(WrongAnswer):
        raise apart.exception_of(said)


def test_a_result_may_be_a_part_of_its_memory() -> None:
    """Of a larger buffer, of which the rest is nobody's: it is not taken for one that changed."""
    there = backend(
        "import torch\n"
        "from arbitor.kernels import eager\n"
        "def pack(trits):\n"
        "    big = torch.empty(64, dtype=torch.uint8)\n"
        "    small = big[3 : 3 + eager.pack(trits).numel()].view(eager.pack(trits).shape)\n"
        "    return small.copy_(eager.pack(trits))\n"
    )
    for _ in range(3):
        assert torch.equal(there.pack(TRITS), eager.pack(TRITS))


@pytest.mark.parametrize("raised", ["ValueError(float('nan'))", "ValueError(10**400)", "KeyError(('a', 1))"])
def test_an_exception_of_any_arguments_arrives(raised: str) -> None:
    """Also of those that JSON has not."""
    with pytest.raises((ValueError, KeyError)):
        backend(f"def pack(trits):\n    raise {raised}\n").pack(TRITS)


def test_what_it_says_is_no_command_to_a_terminal() -> None:
    """In warnings, messages and tracebacks."""
    there = backend(
        "import warnings\n"
        "from arbitor.kernels import eager\n"
        "calls = []\n"
        "def pack(trits):\n"
        "    calls.append(0)\n"
        "    if len(calls) > 1: raise KeyError('\\x1b]0;title\\x07', '\\u202e')\n"
        "    warnings.warn('\\x1b[2J')\n"
        "    return eager.pack(trits)\n"
    )
    with pytest.warns(BackendWarning) as warned:
        there.pack(TRITS)
    with pytest.raises(KeyError, match="title") as caught:
        there.pack(TRITS)
    said = [str(caught.value), *caught.value.__notes__, *(str(w.message) for w in warned)]
    assert len(said) == 3
    assert not any(mark in words for words in said for mark in "\x1b\x07\u202e")


def test_an_answer_as_deep_as_it_is_long() -> None:
    """What writes the answers itself gets one sentence."""
    text = (
        "import os\n"
        "def pack(trits):\n"
        "    deep = b'[' * 60_000\n"
        "    for descriptor in range(3, 60):\n"
        "        try: os.write(descriptor, deep + b'\\n')\n"
        "        except OSError: pass\n"
    )
    with pytest.raises(ProgramFailed, match="expected a JSON object on one line"):
        backend(text).pack(TRITS)


def test_a_warning_of_a_call_that_raises_arrives() -> None:
    text = "import warnings\ndef pack(trits):\n    warnings.warn('odd')\n    raise ValueError('no')\n"
    with pytest.warns(BackendWarning, match="odd"), pytest.raises(ValueError, match=r"^no$"):
        backend(text).pack(TRITS)


HELLO = """
import json, os
for descriptor in range(3, 60):
    try: os.write(descriptor, json.dumps({}).encode() + b"\\n")
    except OSError: pass
"""


@pytest.mark.parametrize(
    "said",
    [
        {"id": 0, "protocol": 1},
        {"id": 0, "protocol": 1, "module": "m", "arrays": "torch", "operations": ["nonsense"], "answers": []},
        {"id": 0, "protocol": 1, "module": "m", "arrays": "torch", "operations": [], "answers": ["exit"]},
        {"id": 0, "protocol": 2, "error": {"kind": "OSError", "message": "no"}},
        {"id": 0, "error": "no"},
    ],
)
def test_a_hello_of_its_own(said: dict[str, Any]) -> None:
    """Written before the server's: one sentence."""
    with pytest.raises(registry.BackendUnavailable, match="its process failed: "):
        backend(HELLO.format(said))


@pytest.mark.parametrize("ways", ["None", "{'nonsense': {}}", "{'pack': 3}", "[1]"])
def test_configurations_that_are_none(ways: str) -> None:
    """Said by the module in another way than asked for."""
    there = backend(f"def pack(trits): ...\ndef configurations(device): return {ways}\n")
    with pytest.raises((WrongAnswer, AttributeError, TypeError)):
        registry.configurations(there.name, "cpu")
