"""Where the module of a stranger's backend comes from: an installed entry point, a module path, a file, a
program.

    numpy_example                 entry point of that name in the group "arbitor.backends"
    package.module                what `import package.module` gives
    path/to/file.py               a file
    cmd:./program --its-flag      a program that speaks the line protocol (program.py)
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed
from pathlib import Path
from types import ModuleType

from . import program

GROUP = "arbitor.backends"
FORMS = "a module path with a dot, FILE.py, or cmd:PROGRAM"


class BackendUnavailable(RuntimeError):
    """A backend that was asked for by name cannot run here; the message says why."""


def entry_points() -> dict[str, list[EntryPoint]]:
    """What installed packages offer, by name; two entries of one name are an error for who asks for it."""
    found: dict[str, list[EntryPoint]] = {}
    for point in installed(group=GROUP):
        known = found.setdefault(point.name, [])
        if point not in known:  # one package may be found in two folders of the path
            known.append(point)
    return found


def load(name: str, own: dict[str, str]) -> ModuleType:
    """The module of that name; `own` are the names of ours with their module paths.

    Raises ValueError for a name of no form that there is, BackendUnavailable for what cannot be had, and what
    the module itself raises when it is imported.
    """
    if name in own:
        return importlib.import_module(own[name])
    if name.startswith(program.PREFIX):
        return _program(name)
    if name.endswith(".py"):
        return _file(Path(name))
    if "/" in name:
        raise ValueError(f"backend {name!r} is no FILE.py; a program is asked for as cmd:{name}")
    points = entry_points()
    if name in points:
        return _entry_point(name, points[name])
    if "." in name:
        return importlib.import_module(name)
    known = ", ".join(["auto", *own, *points])
    raise ValueError(f"unknown backend {name!r}; known: {known}, or {FORMS}")


def _entry_point(name: str, points: list[EntryPoint]) -> ModuleType:
    if len(points) > 1:
        values = ", ".join(point.value for point in points)
        raise BackendUnavailable(f"several packages offer that name ({values}); ask by module path")
    found = points[0].load()
    if not isinstance(found, ModuleType):
        raise BackendUnavailable(f"its entry point {points[0].value!r} is no module, expected package.module")
    return found


def _file(path: Path) -> ModuleType:
    """The module in a file, loaded once; its name is its own, so that no package is shadowed."""
    if not path.is_file():
        raise BackendUnavailable("it is a folder" if path.is_dir() else "there is no such file")
    place = path.resolve()
    stem = re.sub(r"\W", "_", path.stem)
    name = f"backend_{stem}_{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    if spec is None or spec.loader is None:
        raise BackendUnavailable("it is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


_programs: dict[str, ModuleType] = {}


def _program(name: str) -> ModuleType:
    if name not in _programs:
        try:
            _programs[name] = program.module_of(name)
        except (ValueError, program.ProgramFailed) as error:
            raise BackendUnavailable(str(error)) from None
    return _programs[name]
