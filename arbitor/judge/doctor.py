"""`arbitor doctor`: versions, devices, settings, and which backend works here or why it does not."""

from __future__ import annotations

import os
import platform

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbitor import __version__
from arbitor.kernels import registry
from arbitor.kernels.miscompiles import MISCOMPILES
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins import keeper, sources

from .provenance import devices, package_version, settings, toolchain

PACKAGES = ("numpy", "torch", "triton", "tilelang", "safetensors")


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
    table.add_row("strangers", _closed_off())
    for name, value in settings().items():
        table.add_row(name, Text(value))
    if not settings():
        table.add_row("environment", "no ARB variable is set")
    return table


def _closed_off() -> str:
    """What keeps the process of a stranger's backend from the suite (docs/cheats.md)."""
    found = keeper.version()
    if not found:
        return "in processes of their own; no Landlock in this kernel keeps them from the suite's files"
    signals = "" if found >= keeper.SIGNALS_FROM else ", which does not keep them from signals"
    return f"in processes of their own, kept from the suite's files by Landlock {found}{signals}"


def _backends() -> Table:
    table = Table("backend", "works", "why not", title="backends, the best first", title_justify="left")
    for name in [*registry.BACKENDS, *sources.entry_points()]:
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
