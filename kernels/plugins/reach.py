"""What a stranger's process may reach: its environment, what is closed to it, and where it can write."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]  # the checkout's root, or the installed package
OUT_OF_REACH = "ARB_OUT_OF_REACH"  # folders that a run of the suite keeps its own notes in
EXAMPLES = ("__init__.py", "cheats")  # what may be read of the suite: strangers' code in it


CACHES = "ARB_BACKEND_CACHE"  # where compilers of strangers' backends keep what they made
WRITES = "ARB_BACKEND_WRITES"  # folders that they may write to besides, as in PATH
# by these compilers are told where; a cache of the judge's own would be code that the judge runs
TOLD = {
    "XDG_CACHE_HOME": "",
    "TRITON_CACHE_DIR": "triton",
    "TRITON_HOME": "triton-home",
    "TILELANG_CACHE_DIR": "tilelang",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TORCH_EXTENSIONS_DIR": "torch-extensions",
    "CUDA_CACHE_PATH": "cuda",
    "NUMBA_CACHE_DIR": "numba",
    "CUPY_CACHE_DIR": "cupy",
    "MPLCONFIGDIR": "matplotlib",
}

DEVICES = ("null", "zero", "full", "tty", "shm", "pts", "ptmx", "nvidia*", "dri", "kfd", "dxg")


def environment(folder: str, base: Path) -> dict[str, str]:
    """This process' environment, with `folder` for temporary files, caches of strangers' own, and nothing
    that tells of a test. Relative folders are taken from `base`."""
    hidden = ("PYTEST", "COV_", OUT_OF_REACH)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    caches = _caches(folder, base)
    return kept | {"TMPDIR": folder} | {name: str(caches / below) for name, below in TOLD.items()}


def reach(folder: str, base: Path) -> dict[str, list[str]]:
    """Folders whose files it can neither read nor write, and those that it can write to; it can read the rest
    of what there is when it starts. Relative folders are taken from `base`."""
    suite = HERE / "conformance"
    none = [HERE / "reference", *(path for path in suite.iterdir() if path.name not in EXAMPLES)]
    devices = [path for name in DEVICES for path in Path("/dev").glob(name)]
    write = [Path(folder), _caches(folder, base), *devices]
    return {
        "none": [str(path.resolve()) for path in (*none, *_folders(OUT_OF_REACH, base))],
        "write": [str(path.resolve()) for path in (*write, *_folders(WRITES, base))],
    }


def _folders(variable: str, base: Path) -> list[Path]:
    return [Path(base, folder) for folder in os.environ.get(variable, "").split(os.pathsep) if folder]


def _caches(folder: str, base: Path) -> Path:
    """Beside the user's other caches, or with the temporary files where nothing can be made there."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    caches = Path(base, os.environ.get(CACHES) or os.path.join(home, "arbitor", "backends"))
    try:
        caches.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(folder)
    return caches
