"""`arbitor doctor`: versions, devices, settings, and which backend works here or why it does not."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbitor.kernels import registry
from arbitor.kernels.miscompiles import MISCOMPILES
from arbitor.kernels.operations import OPERATIONS

from . import __version__

PACKAGES = ("numpy", "torch", "triton", "tilelang", "safetensors")


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


def trouble(name: str) -> str | None:
    """Why a backend does not work here, or None; unlike `registry.why_not` this covers broken ones too."""
    try:
        reason = registry.why_not(name)
        if reason is None:
            registry.select(name)
    except Exception as error:
        return f"broken, {type(error).__name__}: {error}"
    return reason


def known_miscompiles() -> list[str]:
    """What is known to go wrong in the installed versions of the compilers, with the evidence."""
    return [
        f"{known.package} {found}: {known.what} ({known.evidence})"
        for known in MISCOMPILES
        if (found := package_version(known.package)) is not None and known.concerns(found)
    ]


def doctor(operations: bool = False) -> int:
    """Print what is here; `operations` lists those too. Exit status 1 if no backend works."""
    console = Console()
    console.print(_machine())
    console.print(_backends())
    for known in known_miscompiles():
        console.print(Text(f"known: {known}", "yellow"), soft_wrap=True)
    try:
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            taken = _reason(registry.choose(device=device))
            console.print(Text(f"taken on {device}: {taken}"), soft_wrap=True)
            if os.environ.get(registry.ENVIRONMENT_VARIABLE):
                auto = _reason(registry.choose("auto", device))
                console.print(Text(f"without {registry.ENVIRONMENT_VARIABLE}: {auto}"), soft_wrap=True)
    except Exception as error:
        console.print(Text(f"no backend is taken: {error}", "red"))
        return 1
    if operations:
        console.print(_operations())
    return 0


def _reason(choice: registry.Choice) -> str:
    return f"{choice.backend.name} ({choice.reason})"


def _machine() -> Table:
    table = Table(title="arbitor", show_header=False, title_justify="left")
    table.add_row("arbitor", __version__)
    table.add_row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        table.add_row(name, package_version(name) or "not installed")
    table.add_row("CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    table.add_row("CUDA", Text("; ".join(devices()) or f"no device (torch is built {built})"))
    for name, number in toolchain().items():
        table.add_row(name, number or "not installed")
    for name, value in settings().items():
        table.add_row(name, Text(value))
    if not settings():
        table.add_row("environment", "no ARB variable is set")
    return table


def _backends() -> Table:
    table = Table("backend", "works", "why not", title="backends, the best first", title_justify="left")
    for name in registry.BACKENDS:
        reason = trouble(name)
        works = Text("yes", "green") if reason is None else Text("no", "red")
        table.add_row(name, works, Text(reason or ""))
    return table


def _operations() -> Table:
    table = Table("operation", "arguments", "gives", title="operations", title_justify="left")
    for operation in OPERATIONS.values():
        results = ", ".join(f"{array.name} {array.dtype}" for array in operation.results)
        table.add_row(operation.name, ", ".join(operation.arguments), results)
    return table
