"""The specification in NumPy integers: what every other backend is compared with.

It is written to be read next to docs/SPEC.md and to be right, not to be fast. It imports NumPy and the
standard library and shares no line with any other implementation here.
"""

from .digests.digest import digest
from .embedding.embedding_forward import embedding_forward
from .embedding.embedding_gradient import embedding_gradient
from .embedding.embedding_update import embedding_update
from .linear.input_gradient import input_gradient
from .linear.linear_forward import linear_forward
from .linear.weight_gradient import weight_gradient
from .losses.cross_entropy import cross_entropy
from .losses.sigmoid import sigmoid
from .losses.softmax import softmax
from .losses.softmax_backward import softmax_backward
from .losses.squared_error import squared_error
from .packing.pack import pack
from .packing.pack_dense import pack_dense
from .packing.unpack import unpack
from .packing.unpack_dense import unpack_dense
from .quantise.quantise_columns import quantise_columns
from .quantise.quantise_nearest import quantise_nearest
from .quantise.quantise_nearest_both import quantise_nearest_both
from .quantise.quantise_stochastic import quantise_stochastic
from .random_bits.initialise import initialise
from .random_bits.philox import philox
from .rows.dot import dot
from .rows.norm import norm
from .rows.norm_backward import norm_backward
from .sequences.attention import attention
from .sequences.attention_backward import attention_backward
from .sequences.heads import heads
from .sequences.heads_backward import heads_backward
from .update.linear_update import linear_update
from .update.ternary_update import ternary_update

ARRAYS = "numpy"

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
