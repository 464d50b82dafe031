"""arbitor: a harness that judges pure-ternary training, and a reference implementation of it.

What ships is a part of this package: `arbitor.kernels`, `arbitor.reference`, `arbitor.conformance`. In a
wheel they are folders of it. In a checkout they lie beside it, so the checkout's root joins the places where
its parts are looked for, and every module has one name in both. Importing `arbitor` loads nothing heavy.
"""

from pathlib import Path

__version__ = "0.1.0"

_ROOT = Path(__file__).resolve().parents[1]
if (_ROOT / "kernels").is_dir() and (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))
