"""One call in a process of its own: what may end the context of a GPU must not end that of other tests."""

from __future__ import annotations

import os
import subprocess
import sys

from arbitor.conformance.judge.repro import literal
from arbitor.conformance.judge.target import Arguments, Target

PATIENCE = 300.0  # seconds, for the imports, a compilation and the call
REFUSED, ASSERTED = "refused: ", "the device asserted"
SCRIPT = """
import torch
from arbitor.conformance.judge.target import CaseLost, call, target_of
target = target_of({backend!r}, {device!r})
try:
    call(target.backend, {operation!r}, target.placed(dict({arguments})), {device!r})
    if {device!r} != "cpu":
        torch.cuda.synchronize()
except ValueError as error:
    print({refused!r} + str(error))
except (Exception, CaseLost) as error:
    said = str(error)
    asserted = "device-side assert" in said or "CUDA_ERROR_ASSERT" in said
    print({asserted!r} if asserted else f"{{type(error).__name__}}: {{said.splitlines()[0]}}")
else:
    print("it was answered")
"""


def refuses_on_device(target: Target, operation: str, arguments: Arguments, *names: str | int) -> None:
    """Raises AssertionError unless the call is refused on the target's device: with a ValueError that has all
    `names`, or by the device's own assertion, which can name nothing.

    For small arguments; what an assertion leaves of the arrays cannot be read.
    """
    target.needs(operation)
    said = last_words(target, operation, arguments)
    refused = said.startswith(REFUSED) and all(str(name) in said for name in names)
    if said != ASSERTED and not refused:
        wanted = " and ".join(str(name) for name in names)
        raise AssertionError(
            f"{operation}: {said}; expected a ValueError that names {wanted}, or the device's assertion"
        )


def last_words(target: Target, operation: str, arguments: Arguments) -> str:
    """The line that the process prints; how it ended, if it prints none."""
    values = ", ".join(f"{name}={literal(value)}" for name, value in arguments.items())
    script = SCRIPT.format(
        backend=target.backend.name,
        device=target.device,
        operation=operation,
        arguments=values,
        refused=REFUSED,
        asserted=ASSERTED,
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    lines = ended.stdout.strip().splitlines()
    return lines[-1] if lines else f"its process ended with status {ended.returncode}: {ended.stderr[-500:]}"
