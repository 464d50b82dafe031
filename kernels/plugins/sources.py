"""Where the module of a stranger's backend comes from: an installed entry point, a module path, a file, a
program.

    numpy_example                 entry point of that name in the group "arbitor.backends"
    package.module                what `import package.module` gives
    path/to/file.py               a file
    cmd:./program --its-flag      a program that speaks the line protocol (command.py)
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed
from pathlib import Path
from types import ModuleType

from . import apart, command, program
from .answers import BackendUnavailable as BackendUnavailable
from .answers import WrongAnswer

GROUP = "arbitor.backends"
INSIDE = "ARB_BACKEND_INSIDE"
OURS = "arbitor."
STRANGE = "arbitor.conformance.cheats"
FORMS = "a module path with a dot, FILE.py, or cmd:PROGRAM"


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

    A stranger's is imported in a process of its own, unless ARB_BACKEND_INSIDE=1 says that it is trusted.
    Raises ValueError for a name of no form that there is, BackendUnavailable for what cannot be had, and what
    the module itself raises when it is imported.
    """
    if name in own:
        return importlib.import_module(own[name])
    if name.startswith(command.PREFIX):
        return _program(name)
    if not is_strange(name, own):
        return importlib.import_module(name)
    place = place_of(name, own)
    return load_here(place) if inside() else _remote(place)


def inside() -> bool:
    """Whether strangers' modules are imported into this process."""
    found = os.environ.get(INSIDE) or "0"
    if found not in ("0", "1"):
        raise ValueError(f"{INSIDE} is {found!r}, expected 0 or 1")
    return found == "1"


def is_strange(name: str, own: dict[str, str]) -> bool:
    """Whether the code of the backend of that name is none of ours."""
    if name in ("auto", *own):
        return False
    is_module = not name.endswith(".py") and "/" not in name
    return not (is_module and name.startswith(OURS)) or name.startswith(STRANGE)


def place_of(name: str, own: dict[str, str]) -> str:
    """The file or module behind a name; raises for one that leads nowhere, before anything is started."""
    if name.endswith(".py"):
        path = Path(name)
        if not path.is_file():
            raise BackendUnavailable("it is a folder" if path.is_dir() else "there is no such file")
        return str(path.resolve())
    if "/" in name:
        raise ValueError(f"backend {name!r} is no FILE.py; a program is asked for as cmd:{name}")
    points = entry_points()
    offered = points.get(name, [])
    if len(offered) > 1:
        values = ", ".join(point.value for point in offered)
        raise BackendUnavailable(f"several packages offer that name ({values}); ask by module path")
    if not offered and "." not in name:
        known = ", ".join(["auto", *own, *points])
        raise ValueError(f"unknown backend {name!r}; known: {known}, or {FORMS}")
    return offered[0].value if offered else name


def load_here(place: str) -> ModuleType:
    """Import a stranger's file, module or `module:attribute` into this process, where nothing is judged."""
    if place.endswith(".py"):
        return _file(Path(place))
    found = EntryPoint(place, place, GROUP).load()
    if not isinstance(found, ModuleType):
        raise BackendUnavailable(f"its entry point {place!r} is no module, expected package.module")
    return found


_modules: dict[str, ModuleType] = {}


def _remote(place: str) -> ModuleType:
    if place not in _modules:
        try:
            _modules[place] = apart.module_of(place)
        except (program.ProgramFailed, WrongAnswer) as error:
            raise BackendUnavailable(f"its process failed: {error}") from None
    return _modules[place]


def _file(path: Path) -> ModuleType:
    """The module in a file, loaded once; its name is its own, so that no package is shadowed."""
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
            _programs[name] = command.module_of(name)
        except (ValueError, program.ProgramFailed) as error:
            raise BackendUnavailable(str(error)) from None
    return _programs[name]
