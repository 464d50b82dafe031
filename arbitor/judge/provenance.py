"""What a result was made with: versions, devices, compilers, commit. Every record of ours carries it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..checkpoint import SPECIFICATION

PACKAGES = ("numpy", "torch", "triton", "tilelang", "pytest", "hypothesis")


def package_version(name: str) -> str | None:
    """The version of an installed package, or None; nothing is imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def settings() -> dict[str, str]:
    """Environment variables that are ours: ARB... ."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("ARB")}


def devices() -> list[str]:
    """CUDA devices by name with their memory; empty without CUDA."""
    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in found]


def toolchain() -> dict[str, str | None]:
    """Versions of what makes machine code and runs it: the driver, nvcc, and the ptxas that Triton carries.
    None for what is not here."""
    found = importlib.util.find_spec("triton")
    carried = (
        Path(found.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
        if found and found.origin
        else None
    )
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "driver": _answer(driver, r"[\d.]+"),
        "nvcc": _answer(["nvcc", "--version"], r"V([\d.]+)"),
        "ptxas of triton": _answer([str(carried), "--version"], r"V([\d.]+)") if carried else None,
    }


def _answer(command: Sequence[str], pattern: str) -> str | None:
    """What the last group of the pattern matches in what a command prints; None if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(pattern, done.stdout)
    return match[match.lastindex or 0] if match else None


def machine() -> dict[str, Any]:
    """Versions, devices and settings that the results belong to."""
    return {
        "arbitor": __version__,
        "specification": SPECIFICATION,
        "python": platform.python_version(),
        **{name: package_version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "cuda_devices": devices(),
        **toolchain(),
        "environment": settings(),
    }


def source(root: Path) -> dict[str, Any] | None:
    """Commit of the checkout at `root` and whether its files differ from it.

    ARBITOR_COMMIT says it of a copy whose history is not there, or is not its own.
    """
    told = os.environ.get("ARBITOR_COMMIT")
    if told:
        return {"commit": told, "told by": "ARBITOR_COMMIT"}
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
