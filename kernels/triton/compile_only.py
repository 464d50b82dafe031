"""The kernels of this backend in configurations that its host code picks, to be compiled without a GPU.

`variants()` names them; a lane compiles them for sm_90a and looks at machine code, registers and spills.
TRITON_INTERPRET must not be set: there is nothing to compile then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .digests.digest import digest_kernel
from .embedding.embedding_forward import embedding_forward_kernel
from .embedding.embedding_gradient import embedding_gradient_kernel
from .linear.few_tokens import (
    BLOCK_BYTES,
    BLOCK_O,
    PLANES,
    STAGES,
    SUMS,
    WARPS,
    few_tokens_kernel,
    finish_kernel,
    planes_kernel,
)
from .linear.gemm import CONFIGS as GEMM_CONFIGS
from .linear.gemm import Config, gemm_kernel
from .linear.scaled_weight import QUADS, ROWS, TURNED_WORDS, WORDS, scaled_weight_kernel, turned_weight_kernel
from .linear.scaled_weight import WARPS as WEIGHT_WARPS
from .losses.cross_entropy import cross_entropy_kernel
from .losses.sigmoid import BLOCK as SIGMOIDS
from .losses.sigmoid import sigmoid_kernel
from .losses.softmax import softmax_kernel
from .losses.softmax_backward import softmax_backward_kernel
from .losses.squared_error import squared_error_kernel
from .packing.pack import pack_kernel
from .packing.pack_dense import pack_dense_kernel
from .packing.unpack import unpack_kernel
from .packing.unpack_dense import unpack_dense_kernel
from .quantise.quantise_columns import column_largest_kernel, quantise_columns_kernel
from .quantise.quantise_nearest import (
    IN_QUADS,
    NEAREST,
    SINGLY,
    largest_kernel,
    long_rows_kernel,
    warps_of,
    whole_rows_kernel,
)
from .quantise.quantise_nearest_both import both_layouts_kernel, transpose_kernel
from .random_bits.initialise import initialise_kernel
from .random_bits.philox import philox_kernel
from .rows.dot import dot_kernel
from .rows.norm import norm_kernel
from .rows.norm_backward import norm_backward_kernel
from .sequences.attention import attention_kernel
from .sequences.attention_backward import ROWS as ROWS_OF_A_HEAD
from .sequences.attention_backward import exponent_kernel, positions_kernel, queries_kernel
from .sequences.heads import heads_kernel
from .sequences.heads_backward import heads_backward_kernel
from .update.linear_update import CONFIGS, FUSED_GROUPS, linear_update_kernel, part_of
from .update.ternary_update import COUNTERS, count_step_kernel, group_update_kernel
from .variant import Variant, variant

# rule, and whether random bits are drawn in quads
TURNS = {"cos": "*i16", "sin": "*i16", "kappa": "fp32"}  # of heads
UPDATES = (("scaled", True), ("scaled", False), ("adaptive", True), ("adaptive", False), ("sign", True))


def packing_variants() -> Iterator[Variant]:
    """Packing, its inverse, random words and initial codes."""
    whole = ("columns", "code_bytes")
    for name, kernel, rows, width in (
        ("pack", pack_kernel, 16, 128),
        ("unpack", unpack_kernel, 16, 128),
        ("pack_dense", pack_dense_kernel, 8, 256),
        ("unpack_dense", unpack_dense_kernel, 8, 256),
    ):
        tile = {"ROWS": rows, "BYTES": width}
        yield variant(name, kernel, tile, aligned=whole)
        yield variant(f"{name}, ragged", kernel, tile)
    yield variant("philox", philox_kernel, {"BLOCK": 1024})
    for quads in (False, True):
        tile = {"ROWS": 8, "BYTES": 128, "QUADS": quads}
        yield variant(f"initialise, quads {quads}", initialise_kernel, tile, aligned=whole * quads)


def quantiser_variants() -> Iterator[Variant]:
    """Rows, both layouts and columns."""
    for rounding in (NEAREST, SINGLY, IN_QUADS):
        aligned = ("columns",) * (rounding != SINGLY)
        for rows, block in ((256, 16), (16, 256), (4, 1024), (1, 4096), (1, 8192)):
            singly = rounding == SINGLY
            rows = max(rows // 4, 1) if singly else rows
            tile = {"ROWS": rows, "BLOCK": block, "ROUNDING": rounding}
            name = f"quantise rows, rounding {rounding}, {rows} x {block}"
            yield variant(name, whole_rows_kernel, tile, num_warps=warps_of(block, singly), aligned=aligned)
        tile = {"PART": 4096, "ROUNDING": rounding}
        name = f"quantise part, rounding {rounding}"
        yield variant(name, long_rows_kernel, tile, num_warps=8, aligned=aligned)
    yield variant("largest of part", largest_kernel, {"PART": 4096}, aligned=("columns",))
    for block, warps in ((16, 4), (256, 4), (512, 8), (1024, 16)):
        tile = {"ROWS": 32, "BLOCK": block}
        name, aligned = f"both layouts, 32 x {block}", ("columns", "stride_t")
        yield variant(name, both_layouts_kernel, tile, num_warps=warps, aligned=aligned)
    tile = {"ROWS": 128, "COLUMNS": 128}
    yield variant("transpose", transpose_kernel, tile, num_warps=8, aligned=("columns", "stride_t"))
    tile = {"TOKENS": 32, "COLUMNS": 64}
    number = {"tokens": "i32"}  # elsewhere an array of that name
    yield variant("largest of columns", column_largest_kernel, tile, number, aligned=("columns",))
    for quads in (False, True):
        name = f"quantise columns, quads {quads}"
        aligned = ("stride_t",) + ("columns",) * quads
        yield variant(name, quantise_columns_kernel, tile | {"QUADS": quads}, number, aligned=aligned)


def row_variants() -> Iterator[Variant]:
    """What a model does with rows between its layers."""
    for kernel, most in (
        (norm_kernel, 4096),
        (norm_backward_kernel, 2048),
        (dot_kernel, 2048),
        (softmax_kernel, 1024),
        (softmax_backward_kernel, 2048),
        (cross_entropy_kernel, 1024),
        (squared_error_kernel, 2048),
    ):
        for block in (16, 1024, 4096):
            tile = {"ROWS": max(most // block, 1), "BLOCK": block}
            name = f"{kernel.__name__.removesuffix('_kernel')}, {tile['ROWS']} x {block}"
            asserts = kernel is cross_entropy_kernel
            yield variant(name, kernel, tile, aligned=("columns",), debug=asserts, floats=True)
    for block in (16, 1024, 4096):
        tile = {"ROWS": max(2048 // block, 1), "BLOCK": block}
        name = f"digest, {tile['ROWS']} x {block}"
        yield variant(name, digest_kernel, tile, {"first": "*i64", "digests": "*i64"}, aligned=("columns",))
    yield variant("sigmoid", sigmoid_kernel, {"BLOCK": SIGMOIDS}, {"count": "i64"}, floats=True)


def sequence_variants() -> Iterator[Variant]:
    """Heads and attention, for narrow, usual and wide heads."""
    types = dict.fromkeys(("dq", "dk", "dv"), "*fp32") | dict.fromkeys(("q", "k", "v"), "*i8")
    types |= dict.fromkeys(("top", "total", "e"), "*i32") | {"means": "*i64"}
    for half, slices in ((16, 64), (32, 32), (128, 8)):
        for kernel in (heads_kernel, heads_backward_kernel):
            tile = {"SLICES": slices, "BLOCK": half}
            name = f"{kernel.__name__.removesuffix('_kernel')}, {slices} x 2 x {half}"
            yield variant(name, kernel, tile, types | TURNS, floats=True)
    for dim, size in ((32, 32), (64, 32), (64, 64), (128, 64), (256, 32)):
        tile = {"ROWS": ROWS_OF_A_HEAD, "DIM": dim}
        yield variant(f"exponent of a head of {dim}", exponent_kernel, tile, types, floats=True)
        for kernel in (attention_kernel, queries_kernel, positions_kernel):
            tile = {"QUERIES": size, "POSITIONS": size, "DIM": dim}
            yield variant(
                f"{kernel.__name__}, {size} x {size} x {dim}", kernel, tile, types, floats=True, plain=True
            )


def update_variants() -> Iterator[Variant]:
    """Updates of matrices and tables, and the table's forward and gradient."""
    for size, block, rows in ((4, 4, 512), (12, 16, 128), (64, 64, 32), (128, 128, 16), (1024, 1024, 2)):
        for rule, quads in UPDATES:
            for limit, table in ((127, False), (32767, True)):
                tile = {"RULE": rule, "SIZE": size, "QUADS": quads, "LIMIT": limit, "TABLE": table}
                yield variant(
                    f"update, {rule}, group {size}, quads {quads}, table {table}",
                    group_update_kernel,
                    tile | {"ROWS": rows if quads else rows // 2, "BLOCK": block},
                    {"e_accum": "*i16" if table else "*i8"},
                    num_warps=4 if quads else 8,
                    aligned=("columns", "code_bytes") * quads,
                )
    yield variant("steps of rows", count_step_kernel, {"BLOCK": COUNTERS})
    tile = {"GROUP_SIZE": 128, "TOKENS": 4, "BYTES": 128}
    yield variant("embedding", embedding_forward_kernel, tile, aligned=("columns", "code_bytes"), debug=True)
    for mark in (False, True):
        tile = {"TOKENS": 4, "COLUMNS": 256, "MARK": mark}
        name = f"embedding gradient, mark {mark}"
        yield variant(name, embedding_gradient_kernel, tile, aligned=("columns",), debug=True)


def product_variants() -> Iterator[Variant]:
    """Products in every configuration, and what prepares their operands."""
    for config in dict.fromkeys(config for _, config in GEMM_CONFIGS):
        for scaled in (False, True):
            tile = tile_constants(config)
            yield variant(
                f"product {config.block_m} x {config.block_n}, scaled {scaled}",
                gemm_kernel,
                tile | {"SCALED": scaled},
                operands("a", "b", config) | {"out": "*fp32" if scaled else "*i32"},
                num_warps=config.warps,
                num_stages=config.stages,
                product=True,
            )
    types = {"codes": "*i32", "out": "*i32", "words": "i32"}
    wide = ("words", "out_words")
    for whole in (False, True):
        for name, kernel, tile, aligned in (
            ("scaled", scaled_weight_kernel, {"ROWS": ROWS, "WORDS": WORDS}, wide),
            ("turned", turned_weight_kernel, {"QUADS": QUADS, "WORDS": TURNED_WORDS}, (*wide, "columns")),
        ):
            yield variant(
                f"{name} weight, whole words {whole}",
                kernel,
                tile | {"WHOLE": whole},
                types,
                num_warps=WEIGHT_WARPS,
                aligned=aligned,
            )
    yield from few_tokens_variants()


def few_tokens_variants() -> Iterator[Variant]:
    """The product for few tokens and what goes before and after it."""
    number = {"tokens": "i32"}  # elsewhere an array of that name
    tile: dict[str, Any] = {"BLOCK_O": BLOCK_O, "BLOCK_BYTES": BLOCK_BYTES}
    for blocks, step in ((0, 1), (1, 1), (1, 4), (3, 1), (8, 1)):
        for tokens in (16, 32):
            yield variant(
                f"few tokens, {tokens}, blocks of a group {blocks}, of a step {step}",
                few_tokens_kernel,
                tile | {"BLOCK_T": tokens, "BLOCKS_OF_GROUP": blocks, "STEP": step},
                number | {"exponents": "*i8" if step == 1 else "*i32"},
                num_warps=WARPS,
                num_stages=STAGES[step],
                aligned=("rows", "code_bytes", "width"),
                product=True,
            )
    tile = {"BLOCK": PLANES, "BLOCK_BYTES": BLOCK_BYTES}
    aligned = ("columns", "width", "token_stride")
    yield variant("planes of few tokens", planes_kernel, tile, {"q_x": "*i8"}, aligned=aligned)
    for splits in (1, 4, 16):
        tile = {"SPLITS": splits, "BLOCK": SUMS}
        yield variant(f"sums of few tokens, {splits}", finish_kernel, tile, number, aligned=("rows",))


def fused_variants() -> Iterator[Variant]:
    """The fused update in every configuration and for every group size that it takes."""
    for size in FUSED_GROUPS:
        for _, config in CONFIGS:
            name = f"fused update {config.block_m} x {config.block_n} x {config.block_k}"
            for rule in ("scaled", "sign", "adaptive"):
                yield variant(
                    f"{name}, {rule}, group {size}",
                    linear_update_kernel,
                    tile_constants(config)
                    | {"RULE": rule, "SIZE": size, "PARTS": config.block_m // part_of(config)},
                    operands("q_g", "q_x", config) | {"tokens": "i32"} | in_runs(config),
                    num_warps=config.warps,
                    num_stages=config.stages,
                    product=True,
                )


def in_runs(config: Config) -> dict[str, str]:
    """Types of the descriptors of q_x in runs, of codes as words, and of t_accum."""
    m, n, k = part_of(config), config.block_n, config.block_k
    return {
        "q_x": f"tensordesc<i8[{n // 64},8,4,2,{k}]>",
        "codes": f"tensordesc<i32[{m},{n // 16}]>",
        "t_accum": f"tensordesc<i8[{m},{n}]>",
    }


def tile_constants(config: Config) -> dict[str, Any]:
    """The constants of a product's tile by the names of the kernels' arguments."""
    return {"BLOCK_M": config.block_m, "BLOCK_N": config.block_n, "BLOCK_K": config.block_k}


def operands(a: str, b: str, config: Config) -> dict[str, str]:
    """Types of the descriptors of both operands."""
    return {
        a: f"tensordesc<i8[{config.block_m},{config.block_k}]>",
        b: f"tensordesc<i8[{config.block_n},{config.block_k}]>",
    }


def variants() -> Iterator[Variant]:
    """All of them."""
    yield from product_variants()
    yield from fused_variants()
    yield from packing_variants()
    yield from quantiser_variants()
    yield from row_variants()
    yield from sequence_variants()
    yield from update_variants()
