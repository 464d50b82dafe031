"""The second oracle: docs/SPEC.md in plain Python integers.

It is written from the specification alone and shares no line with `reference/`, so that an error has to be
made twice, by two hands, before the conformance suite agrees with it. Nothing here is fast. The loops are the
definitions, the integers are unbounded, and no float is ever computed with: a float32 array is a nested list
of 32-bit patterns (0..2^32-1), in and out.

Arrays are nested lists of ints, row major. An argument that section 11 marks `!` is a list that is changed in
place. Several results come as a tuple. Illegal values raise `ValueError` naming position and value, and what
is no int raises `TypeError`, before anything is changed (ARB-STATE-006).
"""

from .digests import digest
from .embedding import embedding_forward, embedding_gradient, embedding_update
from .linear import input_gradient, linear_forward, weight_gradient
from .losses import cross_entropy, sigmoid, softmax, softmax_backward, squared_error
from .packing import pack, pack_dense, unpack, unpack_dense
from .quantise import quantise_columns, quantise_nearest, quantise_nearest_both, quantise_stochastic
from .random_bits import initialise, philox
from .rows import dot, norm, norm_backward
from .sequences import attention, attention_backward, heads, heads_backward
from .update import linear_update, ternary_update

ARRAYS = "lists"

__all__ = [
    "ARRAYS",
    "attention",
    "attention_backward",
    "cross_entropy",
    "digest",
    "dot",
    "embedding_forward",
    "embedding_gradient",
    "embedding_update",
    "heads",
    "heads_backward",
    "initialise",
    "input_gradient",
    "linear_forward",
    "linear_update",
    "norm",
    "norm_backward",
    "pack",
    "pack_dense",
    "philox",
    "quantise_columns",
    "quantise_nearest",
    "quantise_nearest_both",
    "quantise_stochastic",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "squared_error",
    "ternary_update",
    "unpack",
    "unpack_dense",
    "weight_gradient",
]
