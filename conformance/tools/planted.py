"""Backends with one planted bug, as files: what fuzzing, artifacts and replay are tried on."""

from __future__ import annotations

from pathlib import Path

HONEST = """
from arbitor.kernels import eager
globals().update({name: getattr(eager, name) for name in dir(eager) if not name.startswith("_")})
"""
# > for >=: what lies exactly at the threshold does not fire
THRESHOLD = """
def ternary_update(*a):
    return eager.ternary_update(*a[:13], min(32, a[13] + 1), *a[14:])
"""
# the last token is dropped behind one tile, which no extent shows but one around that tile
TAIL = """
CAPABILITIES = {"version": 1, "operations": ["weight_gradient"], "formats": [], "devices": ["cpu"],
                "tiles": {"weight_gradient": {"T": 96}}}
def weight_gradient(q_g, q_x):
    return eager.weight_gradient(q_g[:-1], q_x[:-1]) if len(q_g) > 96 else eager.weight_gradient(q_g, q_x)
"""
# t_accum stays what it was from the second update on
STALE = """
def linear_update(*a):
    before = a[4].clone()
    counts = eager.linear_update(*a)
    if a[-1] >= 1:
        a[4].copy_(before)
    return counts
"""
# elements are taken in the order of memory: rows and columns are swapped where an argument is transposed
LAYOUT = """
def pack(trits):
    return eager.pack(trits if trits.is_contiguous() else trits.t().contiguous().view(trits.shape))
"""
RAISES = """
def unpack(codes, columns):
    if columns > 8:
        raise RuntimeError("no kernel for more than 8 columns")
    return eager.unpack(codes, columns)
"""
# one of two ways to run an operation is wrong, and it is not the one that is taken
CONFIGURED = """
def _wrong(q_g, q_x):
    found = eager.weight_gradient(q_g, q_x)
    found[-1, -1] += 1
    return found
def configurations(device):
    return {"weight_gradient": {"right": eager.weight_gradient, "wrong": _wrong}}
"""


def planted(folder: Path, bug: str, name: str = "planted.py") -> str:
    """The path of a file with the torch backend and that bug in it, the name of a backend."""
    path = folder / name
    path.write_text(HONEST + bug)
    return str(path)
