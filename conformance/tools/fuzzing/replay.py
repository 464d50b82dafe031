"""`arbitor replay`: repeats the case of an artifact on any backend, against the judge of today.

An artifact is a file that somebody sends: what it names as its backend is started by nobody. Only our own
backends are taken from it; any other one is what --backend says.
"""

from __future__ import annotations

import builtins
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from arbitor.conformance.judge.archived import Artifact, ArtifactError, read
from arbitor.conformance.judge.arena import check_in_arena
from arbitor.conformance.judge.artifacts import message_of
from arbitor.conformance.judge.cases import (
    CONFIGURATION,
    Case,
    FailedCall,
    FailedRefusal,
    FailedSteps,
    case_of,
    laid_out,
)
from arbitor.conformance.judge.compare import difference
from arbitor.conformance.judge.target import CaseLost, Layout, Target, call, own, substituted, target_of
from arbitor.conformance.machine import twins
from arbitor.conformance.machine.recorded import run_fault
from arbitor.judge.asked import NotUsable, asked_for
from arbitor.judge.suite import interpret
from arbitor.kernels.plain import lines, plain
from arbitor.kernels.reading import said
from arbitor.kernels.registry import BACKENDS, configurations
from arbitor.refusal import refuse

SAME, DIFFERS = 0, 1


def main(file: Path, backend: str | None = None, device: str | None = None) -> int:
    """0 if the backend gives what the judge gives; 1 if not, and the difference is printed; 2 with one
    sentence if it cannot be asked. None takes what the artifact recorded, of backends one of ours."""
    try:
        artifact = read(file)
        name, place = _backend(file, artifact, backend), device or artifact.case.device
        interpret(name, place)
        lacking = _lacking(artifact.case, asked_for(name, place))
        if lacking is not None:
            return refuse(f"backend {name!r}: {lacking}")
    except (ArtifactError, NotUsable) as error:
        return refuse(str(error))
    if artifact.failure.test:
        where = f"{artifact.case.backend} ({artifact.case.device})"
        print(plain(f"recorded: failed in {artifact.failure.test} on {where}"))
    target = target_of(name, place)
    try:
        before = repeat(target, artifact.case)
    except (Exception, CaseLost) as error:
        print(_since(artifact, error), end="")
        print(lines(message_of(error)))
        return DIFFERS
    print(_since(artifact, before), end="")
    if isinstance(artifact.case, FailedRefusal):
        print(f"{artifact.case.operation}: {shlex.quote(name)} refuses the call as it has to")
        return SAME
    what = artifact.case.operation if isinstance(artifact.case, FailedCall) else "steps"
    print(f"{what}: {shlex.quote(name)} and {target.judge.name} give the same bytes")
    return SAME


def _backend(file: Path, artifact: Artifact, asked: str | None) -> str:
    """The name of the backend to ask. Raises ArtifactError where only the file could say it, and for a run of
    steps that cannot be done."""
    case = artifact.case
    fault = run_fault(case.configuration, case.steps) if isinstance(case, FailedSteps) else None
    if fault is not None:
        raise ArtifactError(f"{file}: a run that cannot be repeated: {fault}")
    if asked is None and case.backend not in BACKENDS:
        names = f"it names {said(case.backend)}, and nothing is started because a file names it"
        raise ArtifactError(f"{file}: {names}: give --backend NAME")
    return case.backend if asked is None else asked


def _lacking(case: Case, backend: Any) -> str | None:
    """What the backend does not declare of what the case needs, in words, or None."""
    if not isinstance(case, FailedSteps):
        lacks: str | None = backend.lacks(case.operation)
        return lacks
    return (
        f"steps need all of sections 2 to 7, and {', '.join(backend.gaps_of_layers)} are not declared"
        if backend.gaps_of_layers
        else None
    )


def repeat(target: Target, case: Case) -> Case:
    """Do the case again -> what the judge says to it now. Raises what the failed test would raise."""
    if isinstance(case, FailedSteps):
        hashes = twins.run(target, case.configuration, case.steps)
        return FailedSteps(case.configuration, case.steps, case.backend, case.device, hashes)
    arguments = dict(case.arguments)
    if isinstance(case, FailedRefusal):
        target.refuses(case.operation, arguments, getattr(builtins, case.error), *case.names)
        return case
    target = _configured(target, case)
    if "arena" in case.way:
        arena = case.way["arena"]
        check_in_arena(target, case.operation, arguments, arena["shift"], arena["turned"])
    else:
        target.check(case.operation, arguments, _layout(case.way))
    copies = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
    expected = call(target.judge, case.operation, copies)
    return FailedCall(case.operation, arguments, case.backend, case.device, expected)


def _configured(target: Target, case: FailedCall) -> Target:
    """The target in the configuration of the case, if there is one; another backend runs as it chooses."""
    name = case.way.get(CONFIGURATION)
    ways = configurations(target.backend.name, target.device).get(case.operation, {})
    return substituted(target, case.operation, ways[name]) if name in ways else target


def _layout(way: Mapping[str, Any]) -> Layout:
    strides = way.get("strides", {})
    return lambda name, tensor: laid_out(tensor, *strides[name]) if name in strides else own(name, tensor)


def _since(artifact: Artifact, now: Case | BaseException) -> str:
    """A line that says that the judge's answer is no longer what was recorded, or ""."""
    found = case_of(now) if isinstance(now, BaseException) else now
    if isinstance(artifact.case, FailedSteps) and isinstance(found, FailedSteps):
        for number, (old, new) in enumerate(zip(artifact.case.hashes, found.hashes, strict=False), 1):
            if old != new:
                return (
                    f"the judge's state after step {number} is not what was recorded: the specification, the "
                    "library or the float work between the modules (another torch or machine) has changed\n"
                )
    if isinstance(artifact.case, FailedCall) and isinstance(found, FailedCall) and artifact.case.expected:
        for name, array in artifact.case.expected.items():
            how = difference(name, array, found.expected.get(name))
            if how is not None:
                return f"the judge's answer is not what was recorded: {how}\n"
    return ""
