"""Every way in which the host code of this backend may run an operation, whatever it picks for a shape.

A way is the operation itself with the host code's own tables cut down to one entry for the time of the call,
so what runs is the code that always runs. All ways give the same bits (ARB-UPD-003).
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import Any

from ..operations import FAMILIES, OPERATIONS
from ..plugins.capabilities import everything, product_tiles
from .linear.gemm import CONFIGS as GEMM_CONFIGS
from .linear.gemm import Config
from .update.linear_update import CONFIGS

# the tiles of small shapes, which are the ones that a test can afford
CAPABILITIES = everything(
    "triton", product_tiles(astuple(GEMM_CONFIGS[0][1])[:3], astuple(CONFIGS[0][1])[:3])
)

Way = Callable[..., Any]
Tables = dict[tuple[str, str], Any]  # (module below this package, name): value


@contextmanager
def _cut_down(tables: Tables) -> Iterator[None]:
    # by path: the package's attributes of these names are the operations
    places = [(importlib.import_module(f"{__package__}.{place}"), name) for place, name in tables]
    kept = [getattr(module, name) for module, name in places]
    try:
        for (module, name), value in zip(places, tables.values(), strict=True):
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in zip(places, kept, strict=True):
            setattr(module, name, value)


def _way(operation: str, tables: Tables) -> Way:
    module = importlib.import_module(f"{__package__}.{OPERATIONS[operation].family}.{operation}")

    @functools.wraps(getattr(module, operation))
    def function(*arguments: Any) -> Any:
        with _cut_down(tables):
            return getattr(module, operation)(*arguments)

    return function


def _named(config: Config) -> str:
    tile = f"{config.block_m} x {config.block_n} x {config.block_k}"
    return f"{tile}, {config.warps} warps, {config.stages} stages"


def configurations(device: str) -> dict[str, dict[str, Way]]:
    """operation: {name of a way: function with the operation's arguments}, for arrays on that type of device.

    Where an input does not allow a way (few tokens, groups in a tile), the host code takes another.
    """
    products = {_named(config): {("linear.gemm", "CONFIGS"): ((0, config),)} for _, config in GEMM_CONFIGS}
    updates = {_named(config): {("update.linear_update", "CONFIGS"): ((0, config),)} for _, config in CONFIGS}
    two_steps = {("update.linear_update", "FUSED_GROUPS"): ()}
    whole: Tables = {}
    # of the size that is compiled: interpreted, all rows would be of one part
    parts: Tables = {
        ("quantise.quantise_nearest", "WHOLE_ROW"): 0,
        ("quantise.quantise_nearest", "PART"): 4096,
    }
    ways: dict[str, dict[str, Tables]] = {
        "linear_forward": {
            "few tokens": {},
            "few tokens, rows not shared": {("linear.few_tokens", "SPLITS"): 1},
        }
        | {name: tables | {("linear.linear_forward", "MOST"): 0} for name, tables in products.items()},
        "input_gradient": products,
        "weight_gradient": products,
        "linear_update": {f"fused {name}": tables for name, tables in updates.items()}
        | {f"two steps, {name}": tables | two_steps for name, tables in products.items()},
        "quantise_nearest": {"whole rows": whole, "parts of rows": parts},
        "quantise_stochastic": {"whole rows": whole, "parts of rows": parts},
        **{
            operation: {"in one part": {}, "in parts": {("rows.fixed_point", "WIDEST"): 16}}
            for operation in f"{FAMILIES['rows']} {FAMILIES['losses']} {FAMILIES['digests']}".split()
            if operation != "sigmoid"  # element by element
        },
        "quantise_nearest_both": {"in registers": {}}
        | {
            f"from memory, {name}": tables | {("quantise.quantise_nearest_both", "SHORT_ROW"): 0}
            for name, tables in (("whole rows", whole), ("parts of rows", parts))
        },
    }
    return {
        operation: {name: _way(operation, tables) for name, tables in found.items()}
        for operation, found in ways.items()
    }
