"""Which tests run: those of some operations, of what kernels decide, of a clause. What a run leaves out is
counted, by pytest as deselected; files that cannot be of an operation are not even imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arbitor.judge.blame import CLAUSES
from arbitor.judge.suite import find_suite, operations_named
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.sources import is_strange
from arbitor.kernels.registry import BACKENDS

MARKER = "operations(*names): what a test is about where its parameters do not say"
# test files, beside those of the operations, of what a backend or the reference gives (--kernels)
BEYOND_OPERATIONS = (
    "vectors", "claims", "examples", "domains", "tiles", "buffers", "pointers", "configurations", "large",
    "wide", "preconditions", "settings", "gradient_capture", "module_steps", "update_report", "trajectory",
    "machine", "bench", "rotary",
)  # fmt: skip
KERNELS = frozenset(f"test_{name}" for name in (*OPERATIONS, *BEYOND_OPERATIONS))
# rooms whose own files do the same to every operation
OF_EVERY = {find_suite() / "operations" / room for room in (".", "wide", "refused")}


def add_options(group: pytest.OptionGroup) -> None:
    """The options that select."""
    group.addoption(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only tests of this operation or family; a list with commas, or given again",
    )
    group.addoption(
        "--kernels",
        action="store_true",
        help="only what kernels decide: operations, domains, tiles, captured gradients, trajectories; "
        "it need not be said where the backend is none of ours",
    )
    group.addoption(
        "--all", action="store_true", help="the whole suite, also where the backend is none of ours"
    )
    group.addoption(
        "--clause",
        action="append",
        default=[],
        metavar="ID",
        help="only tests that check this clause of docs/SPEC.md; may be given again",
    )


def only(config: pytest.Config) -> list[str]:
    """The operations that were asked for, none for all. Raises UsageError for a name that is none."""
    try:
        return operations_named(config.getoption("--only"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def kernels_only(config: pytest.Config) -> bool:
    """Whether what stands around the kernels is left out: as asked for, or for a backend of somebody else."""
    if config.getoption("--kernels"):
        return True
    if config.getoption("--all") or only(config):
        return False
    return is_strange(config.getoption("--backend"), BACKENDS)


def described(config: pytest.Config) -> str:
    """What runs, in words, or nothing where all does."""
    asked = only(config)
    if asked:
        return f"only {', '.join(asked)}"
    if not kernels_only(config):
        return ""
    return "what kernels decide" + ("" if config.getoption("--kernels") else " (--all is the whole suite)")


def is_of_others(config: pytest.Config, path: Path) -> bool:
    """Whether no test of that file can be of the operations that were asked for."""
    asked = only(config)
    if not asked or path.suffix != ".py" or not path.name.startswith("test_"):
        return False
    return path.stem not in {f"test_{name}" for name in asked} and path.parent not in OF_EVERY


def select(config: pytest.Config, items: list[pytest.Item]) -> list[pytest.Item]:
    """Leave out what was not asked for, and name the clauses of every test where reports can see them; gives
    the tests of what stands around the kernels, if they are in the run."""
    clauses, asked = set(config.getoption("--clause")), set(only(config))
    named = {str(Path(argument.partition("::")[0]).resolve()) for argument in config.args}
    kernels = kernels_only(config)
    kept: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        own = [clause for mark in item.iter_markers("clause") for clause in mark.args]
        item.user_properties.append((CLAUSES, own))
        wanted = not clauses or bool(clauses & set(own))
        wanted &= not asked or bool(asked & about(item))
        # a file that was asked for by its name runs: nobody meant that it should not
        wanted &= not kernels or item.path.stem in KERNELS or _by_default(config, item, named)
        (kept if wanted else others).append(item)
    if others:
        items[:] = kept
        config.hook.pytest_deselected(items=others)
    return [item for item in kept if item.path.stem not in KERNELS]


def _by_default(config: pytest.Config, item: pytest.Item, named: set[str]) -> bool:
    return not config.getoption("--kernels") and str(item.path) in named


def about(item: pytest.Item) -> set[str]:
    """The operations that a test of what kernels decide is about: by its file, a mark or its parameters."""
    own = item.path.stem.removeprefix("test_")
    if own in OPERATIONS:
        return {own}
    marked = {name for mark in item.iter_markers("operations") for name in mark.args}
    if marked or item.path.parent not in OF_EVERY:
        return marked
    values = getattr(getattr(item, "callspec", None), "params", {}).values()
    return {name for value in values for name in _names(value) if name in OPERATIONS}


def _names(value: Any) -> Iterator[str]:
    """Names that a parameter may have: itself, the first of several, or that of a vector."""
    for found in (value, value[0] if isinstance(value, tuple) and value else None):
        if isinstance(found, str):
            yield found
    operation = getattr(value, "operation", None)
    if isinstance(operation, str):
        yield operation
