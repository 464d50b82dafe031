"""arbitor: a harness that judges pure-ternary training, and a reference implementation of it.

What ships is a part of this package: `arbitor.kernels`, `arbitor.reference`, `arbitor.conformance`. In a
wheel they are folders of it. In a checkout they lie beside it, so the checkout's root joins the places where
its parts are looked for, and every module has one name in both. Importing `arbitor` loads nothing heavy: what
it exports for models of one's own (docs/your-model.md) is loaded when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOT = Path(__file__).resolve().parents[1]
if (_ROOT / "kernels").is_dir() and (_ROOT / "pyproject.toml").is_file():
    __path__.append(str(_ROOT))

_EXPORTED = {
    "FloatBias": "api.modules",
    "Ranks": "ranks",
    "TernaryEmbeddingTable": "components",
    "TernaryLinear": "components",
    "TernaryOptimizer": "api.optimizer",
    "Ternarized": "api.ternarize",
    "TiedTable": "api.modules",
    "UpdateReport": "update",
    "end_ranks": "ranks",
    "join_ranks": "runtime",
    "parameter_count": "api.ternarize",
    "start_ranks": "ranks",
    "ternarize": "api.ternarize",
}

if TYPE_CHECKING:
    from .api.modules import FloatBias as FloatBias
    from .api.modules import TiedTable as TiedTable
    from .api.optimizer import TernaryOptimizer as TernaryOptimizer
    from .api.ternarize import Ternarized as Ternarized
    from .api.ternarize import parameter_count as parameter_count
    from .api.ternarize import ternarize as ternarize
    from .components import TernaryEmbeddingTable as TernaryEmbeddingTable
    from .components import TernaryLinear as TernaryLinear
    from .ranks import Ranks as Ranks
    from .ranks import end_ranks as end_ranks
    from .ranks import start_ranks as start_ranks
    from .runtime import join_ranks as join_ranks
    from .update import UpdateReport as UpdateReport


def __getattr__(name: str) -> Any:
    if name not in _EXPORTED:
        raise AttributeError(f"module 'arbitor' has no attribute {name!r}")
    found = getattr(import_module(f".{_EXPORTED[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTED})
