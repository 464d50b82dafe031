"""Recipes of the test vectors by operation, and the vectors that the reference makes of them.

Nothing but the reference says what a vector gives or which error refuses it; scripts/make_vectors.py writes
the files, and the second oracle must agree with every one (meta/test_vector_files.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arbitor import reference
from arbitor.conformance.draw.recipes import (
    digests,
    embedding,
    linear,
    losses,
    moments,
    packing,
    quantise,
    random_bits,
    rows,
    sequences,
    update,
)
from arbitor.conformance.draw.recipes.recipe import Recipe
from arbitor.judge.vectors import MANIFEST, encode, file_text, manifest_text
from arbitor.kernels.operations import OPERATIONS

RECIPES: Mapping[str, Sequence[Recipe]] = {
    "pack": packing.PACK,
    "unpack": packing.UNPACK,
    "pack_dense": packing.PACK_DENSE,
    "unpack_dense": packing.UNPACK_DENSE,
    "philox": random_bits.PHILOX,
    "initialise": random_bits.INITIALISE,
    "quantise_nearest": quantise.NEAREST,
    "quantise_nearest_both": quantise.NEAREST_BOTH,
    "quantise_stochastic": quantise.STOCHASTIC,
    "quantise_columns": quantise.COLUMNS,
    "linear_forward": linear.FORWARD,
    "input_gradient": linear.BACKWARD,
    "weight_gradient": linear.GRADIENT,
    "ternary_update": [*update.UPDATE, *moments.UPDATE],
    "linear_update": update.LINEAR,
    "embedding_forward": embedding.FORWARD,
    "embedding_gradient": embedding.GRADIENT,
    "embedding_update": embedding.UPDATE,
    "norm": rows.NORM,
    "norm_backward": rows.NORM_BACKWARD,
    "dot": rows.DOT,
    "softmax": losses.SOFTMAX,
    "softmax_backward": losses.SOFTMAX_BACKWARD,
    "sigmoid": losses.SIGMOID,
    "cross_entropy": losses.CROSS_ENTROPY,
    "squared_error": losses.SQUARED_ERROR,
    "heads": sequences.HEADS,
    "heads_backward": sequences.HEADS_BACKWARD,
    "attention": sequences.ATTENTION,
    "attention_backward": sequences.ATTENTION_BACKWARD,
    "digest": digests.DIGEST,
}
_KINDS = {"ValueError": "value", "TypeError": "type"}


def made(operation: str, recipe: Recipe) -> dict[str, Any]:
    """One vector as its file has it, without the digest.

    Raises RuntimeError if the reference takes what it should refuse, refuses what it should take, names other
    things, or gives other numbers than those known from elsewhere.
    """
    name = f"{operation}.{recipe.name}"
    table = OPERATIONS[operation]
    entry = {
        "id": name,
        "digest": "",
        "clauses": [f"ARB-{clause}" for clause in recipe.clauses.split()],
        "why": recipe.why,
        "arguments": {key: _stored(recipe.arguments[key]) for key in table.arguments},
    }
    mine = {key: np.array(v) if isinstance(v, np.ndarray) else v for key, v in recipe.arguments.items()}
    try:
        results = getattr(reference, operation)(*(mine[key] for key in table.arguments))
    except (ValueError, TypeError) as error:
        return entry | {"refuses": _refusal(name, recipe, error)}
    if recipe.refusal is not None:
        raise RuntimeError(f"{name}: the reference takes it")
    parts = results if isinstance(results, tuple) else (results,)
    gives = {array.name: part for array, part in zip(table.results, parts, strict=True)}
    gives |= {array.name: mine[array.name] for array in table.arrays if array.in_place}
    stored = {key: encode(array) for key, array in gives.items()}
    for key, numbers in recipe.known.items():
        if stored[key]["data"] != numbers:
            raise RuntimeError(
                f"{name}: the reference gives {key} = {stored[key]['data']}, known is {numbers}"
            )
    return entry | {"gives": stored}


def _stored(value: Any) -> Any:
    return encode(value) if isinstance(value, np.ndarray) else value


def _refusal(name: str, recipe: Recipe, error: Exception) -> dict[str, Any]:
    if recipe.refusal is None:
        raise RuntimeError(f"{name}: the reference refuses it: {error}") from error
    missing = [word for word in recipe.refusal.names if str(word) not in str(error)]
    if missing:
        raise RuntimeError(f"{name}: the reference does not name {missing}: {error}") from error
    return {
        "error": _KINDS[type(error).__name__],
        "argument": recipe.refusal.argument,
        "names": list(recipe.refusal.names),
        "seen_by": recipe.refusal.seen_by,
    }


def all_files() -> dict[str, str]:
    """The text of every file of the folder, by name, the manifest last."""
    files = {}
    for operation, recipes in RECIPES.items():
        entries = [made(operation, recipe) for recipe in recipes]
        files[f"{operation}.json"] = file_text(operation, entries)
    return files | {MANIFEST: manifest_text(files)}
