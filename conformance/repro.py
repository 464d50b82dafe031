"""Reproductions: a failing call as Python text if it is small, else as a file for `python -m
arbitor.conformance.replay`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch

SMALL = 200  # elements that still fit a message
_CALL = "call"
_latest: dict[tuple[str, str], Path] = {}


def reproduction(operation: str, arguments: dict[str, Any], backend: str) -> str:
    """Lines that repeat the call against its judge."""
    tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
    if sum(tensor.numel() for tensor in tensors) <= SMALL:
        values = ", ".join(f"{name}={literal(value)}" for name, value in arguments.items())
        return (
            "import torch; from arbitor.conformance.target import target_of\n"
            f"target_of({backend!r}).check({operation!r}, dict({values}))"
        )
    file = shlex.quote(str(save(operation, arguments)))
    return f"python -m arbitor.conformance.replay {file} --backend {shlex.quote(backend)}"


def literal(value: Any) -> str:
    """An argument as Python text; float32 by its bits, since text loses the payload of a NaN."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    value = value.cpu().contiguous()
    if value.dtype == torch.float32:
        return f"torch.tensor({value.view(torch.int32).tolist()}, dtype=torch.int32).view(torch.float32)"
    return f"torch.tensor({value.tolist()}, dtype={value.dtype})"


def save(operation: str, arguments: dict[str, Any], folder: Path = Path("reports")) -> Path:
    """Write the call to folder/repro-<operation>-<hash>.npz; a test that shrinks leaves its last one only."""
    arrays = {n: v.cpu().contiguous().numpy() for n, v in arguments.items() if isinstance(v, torch.Tensor)}
    scalars = {name: value for name, value in arguments.items() if name not in arrays}
    text = json.dumps({"operation": operation, "scalars": scalars}, sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    path = folder / f"repro-{operation}-{digest.hexdigest()[:12]}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **{_CALL: np.array(text)}, **arrays)
    writer = (operation, os.environ.get("PYTEST_CURRENT_TEST", ""))
    earlier = _latest.get(writer, path)
    if earlier != path:
        earlier.unlink(missing_ok=True)
    _latest[writer] = path
    return path


def load(path: Path) -> tuple[str, dict[str, Any]]:
    """The operation and its arguments as `save` wrote them."""
    with np.load(path, allow_pickle=False) as file:
        call = json.loads(str(file[_CALL]))
        arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != _CALL}
    return call["operation"], arrays | call["scalars"]
