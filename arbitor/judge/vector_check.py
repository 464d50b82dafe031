"""`arbitor vectors check`: judge a backend on test vectors; needs neither pytest nor the reference.

Equality is that of dtype, shape and every bit. A call that must be refused must raise the kind of error that
the vector names, with a message that says where, and must have changed nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plain import plain
from arbitor.kernels.registry import Backend

from ..refusal import refuse
from .asked import NotUsable, asked_for
from .vectors import JUDGES, ON_CPU, Vector, VectorsRefused, decode, default_folder, encode, load

ERRORS: dict[str, type[Exception]] = {"value": ValueError, "type": TypeError}
LOOK_AT_ELEMENTS = ("arbitor.reference", "arbitor.conformance.oracle")  # modules of the judges
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"


@dataclass(frozen=True)
class Verdict:
    """What became of one vector, and why in words if it did not pass."""

    vector: Vector
    outcome: str
    words: str = ""


def why_not_run(vector: Vector, backend: Backend, device: str) -> str | None:
    """The reason why a backend is not asked, or None."""
    lacking = backend.lacks(vector.operation)
    if lacking is not None:
        return lacking
    seen_by = vector.refuses["seen_by"] if vector.refuses is not None else None
    if seen_by == JUDGES and backend.module.__name__ not in LOOK_AT_ELEMENTS:
        return "what elements hold is a precondition (ARB-LIN-006): only the reference and the oracle look"
    if seen_by == ON_CPU and device != "cpu":
        return "on CUDA the device's own assertion refuses it (ARB-EMB-001), which ends the process"
    return None


def judge(vector: Vector, backend: Backend, device: str = "cpu") -> Verdict:
    """Make the call of one vector on a backend; whatever an Exception says is a verdict too."""
    reason = why_not_run(vector, backend, device)
    if reason is not None:
        return Verdict(vector, NOT_RUN, reason)
    given, mine = _arguments(vector, device), _arguments(vector, device)
    results: Any = None
    caught: Exception | None = None
    try:
        options = {} if OPERATIONS[vector.operation].arrays else {"device": device}
        results = getattr(backend, vector.operation)(**mine, **options)
    except Exception as error:
        caught = error
    if vector.refuses is not None:
        words = _refusal(vector.refuses, caught) or _changed(given, mine, set())
    elif caught is not None:
        words = f"a legal call raised {type(caught).__name__}: {caught}"
    else:
        words = _results(vector, results, given, mine)
    return Verdict(vector, FAILED if words else PASSED, words)


def _arguments(vector: Vector, device: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vector.arguments.items():
        array = decode(f"{vector.id}: {name}", value) if isinstance(value, dict) else None
        found[name] = value if array is None else torch.from_numpy(array).to(device)
    return found


def _refusal(expected: Any, caught: Exception | None) -> str:
    kind = ERRORS[expected["error"]]
    if caught is None:
        return f"an illegal {expected['argument']} was taken, expected {kind.__name__}"
    if not isinstance(caught, kind):
        what = f"{type(caught).__name__}: {caught}"
        return f"an illegal {expected['argument']} raised {what}; expected {kind.__name__}"
    missing = [name for name in expected["names"] if str(name) not in str(caught)]
    return f"the error should name {', '.join(map(str, missing))}, but says: {caught}" if missing else ""


def _changed(given: dict[str, Any], mine: dict[str, Any], allowed: set[str]) -> str:
    """The first argument that a call changed and may not, in words."""
    for name, before in given.items():
        if isinstance(before, torch.Tensor) and name not in allowed:
            words = _difference(name, encode(before.cpu().numpy()), mine[name])
            if words:
                return f"the argument {words}, and must stay as it was"
    return ""


def _results(vector: Vector, results: Any, given: dict[str, Any], mine: dict[str, Any]) -> str:
    table = OPERATIONS[vector.operation]
    found = results if isinstance(results, tuple) else (results,)
    written = {array.name for array in table.arrays if array.in_place}
    actual = {array.name: result for array, result in zip(table.results, found, strict=True)}
    actual |= {name: mine[name] for name in written}
    for name, expected in (vector.gives or {}).items():
        words = _difference(name, expected, actual[name])
        if words:
            return words
    return _changed(given, mine, written)


def _difference(name: str, expected: dict[str, Any], actual: Any) -> str:
    """How an array differs from what a vector has, in words; nothing if it does not."""
    if not isinstance(actual, torch.Tensor):
        return f"{name} is a {type(actual).__name__}, expected a tensor"
    found = encode(actual.detach().cpu().numpy())
    for part in ("dtype", "shape"):
        if found[part] != expected[part]:
            return f"{name} has {part} {found[part]}, expected {expected[part]}"
    pairs = list(zip(expected["data"], found["data"], strict=True))
    wrong = [place for place, (right, got) in enumerate(pairs) if right != got]
    if not wrong:
        return ""
    right, got = pairs[wrong[0]]
    kind = " (32-bit patterns)" if found["dtype"] == "float32" else ""
    return (
        f"{name} differs in {len(wrong)} of {len(pairs)} elements, first at number {wrong[0]} in C order: "
        f"got {got}, expected {right}{kind}"
    )


def check(name: str, device: str, folder: Path | None, declared: Path | None = None) -> int:
    """Judge the backend of that name on a folder of vectors (None: those that ship), and print what failed.
    `declared` is a file of capabilities, in the place of its own declaration.

    Gives 0 if everything that ran passed, 1 if not, and 2 with one sentence if the vectors or the backend
    cannot be used, or nothing ran.
    """
    try:
        vectors = load(default_folder() if folder is None else folder)
        backend = asked_for(name, device, declared)
        verdicts = [judge(vector, backend, device) for vector in vectors]
    except (VectorsRefused, NotUsable, RuntimeError) as error:
        return refuse(str(error))
    for verdict in verdicts:
        if verdict.outcome == FAILED:
            print(plain(f"FAILED {verdict.vector}: {verdict.words}"))
            print(plain(f"  why it is there: {verdict.vector.why}"))
    for reason, number in Counter(v.words for v in verdicts if v.outcome == NOT_RUN).items():
        print(plain(f"not run: {number}: {reason}"))
    counts = Counter(verdict.outcome for verdict in verdicts)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (PASSED, FAILED, NOT_RUN))
    print(plain(f"{len(verdicts)} vectors on {name} ({device}): {told}"))
    if counts[PASSED] + counts[FAILED] == 0:
        return refuse("no vector ran, and nothing is no verdict")
    return 1 if counts[FAILED] else 0
