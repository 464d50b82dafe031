"""Every CUDA kernel of this package in every configuration, for machines without a GPU: what a compile lane
builds for sm_90a and then reads the machine code of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tilelang
from tilelang import tvm
from tilelang.contrib import nvcc

from .digests.digest import digest_kernel
from .embedding.embedding_forward import lookup_kernel
from .embedding.embedding_gradient import sums_kernel
from .embedding.embedding_update import counting_kernel, marking_kernel
from .launch import CUDA_TARGET, pass_configs
from .linear.few_tokens import TOKENS, few_tokens_kernel
from .linear.gemm import product_kernel
from .linear.scaled_weight import scaling_kernel
from .linear.token_tile import SPANS, token_tile_kernel
from .linear.token_tile import TOKENS as TILE_TOKENS
from .losses.cross_entropy import cross_entropy_kernel
from .losses.sigmoid import sigmoid_kernel
from .losses.softmax import softmax_kernel
from .losses.softmax_backward import softmax_backward_kernel
from .losses.squared_error import squared_error_kernel
from .packing.pack import packing_kernel
from .packing.unpack import unpacking_kernel
from .quantise.quantise_columns import columns_kernel, maxima_kernel
from .quantise.quantise_rows import SHORT_LANES, THREADS, rows_kernel
from .quantise.transpose import transposing_kernel
from .random_bits.initialise import initial_codes_kernel
from .random_bits.philox import words_kernel
from .rows.dot import dot_kernel
from .rows.norm import norm_kernel
from .rows.norm_backward import norm_backward_kernel
from .sequences.attention import attention_kernel
from .sequences.attention_backward import exponent_kernel, positions_kernel, queries_kernel
from .sequences.heads import heads_kernel
from .sequences.heads_backward import heads_backward_kernel
from .update.linear_update import FUSED_GROUP_SIZES, fused_kernel
from .update.ternary_update import firing_kernel, settling_kernel

RULES = ("scaled", "sign", "adaptive")


def why_not() -> str | None:
    """Reason why nothing can be compiled here, or None."""
    return None if shutil.which("nvcc") else "nvcc is not found (TileLang compiles with it)"


@dataclass(frozen=True)
class Variant:
    """One kernel with its switches. `build` gives its CUDA source; `product`: it multiplies matrices;
    `floats`: it computes in float32, each operation rounded by itself."""

    name: str
    build: Callable[[], str]
    product: bool
    floats: bool

    def cubin(self, *options: str) -> bytes:
        """The source compiled by nvcc for sm_90a, with more options of nvcc's."""
        flags = nvcc.default_compile_options(list(options))
        architecture = ["-gencode", "arch=compute_90a,code=sm_90a"]
        return bytes(nvcc.compile_cuda(self.build(), "cubin", architecture, flags))

    def ptx(self) -> str:
        """The same before the assembler."""
        flags = nvcc.default_compile_options([])
        return bytes(nvcc.compile_cuda(self.build(), "ptx", ["-arch=compute_90a"], flags)).decode()


def _variant(
    name: str, builder: Callable[..., Any], *switches: Any, product: bool = False, floats: bool = False
) -> Variant:
    def build() -> str:
        inner = builder.__wrapped__  # type: ignore[attr-defined]
        with tvm.target.Target(CUDA_TARGET), tvm.transform.PassContext(config=pass_configs(inner)):
            function = inner(True, *switches)
            return str(tilelang.lower(function, target=CUDA_TARGET).kernel_source)

    return Variant("_".join(map(str, (name, *switches))), build, product, floats)


def variants() -> Iterator[Variant]:
    """All of them."""
    yield _variant("philox", words_kernel)
    yield _variant("initialise", initial_codes_kernel)
    for fields, base in ((4, 4), (5, 3)):
        yield _variant("pack", packing_kernel, fields, base)
        yield _variant("unpack", unpacking_kernel, fields, base)
    for rounding in ("nearest", "stochastic"):
        for lanes in (SHORT_LANES, THREADS):
            yield _variant("quantise_rows", rows_kernel, rounding, lanes)
    for words in (1, 4):
        yield _variant("transpose", transposing_kernel, words)
    yield _variant("column_maxima", maxima_kernel)
    yield _variant("quantise_columns", columns_kernel)
    for whole in (False, True):
        for transposed in (False, True):
            yield _variant("scaled_weight", scaling_kernel, transposed, whole)
        for tokens in TOKENS:
            yield _variant("few_tokens", few_tokens_kernel, tokens, whole)
    for span in SPANS:
        for tokens in TILE_TOKENS:
            yield _variant("token_tile", token_tile_kernel, tokens, span, product=True)
    for scale in (False, True):
        yield _variant("product_nt", product_kernel, scale, product=True)
    for table in (False, True):
        for rule in RULES:
            yield _variant("settle_groups", settling_kernel, rule, table)
        for by_sign in (False, True):
            yield _variant("fire_trits", firing_kernel, by_sign, table)
    for rule in RULES:
        for group_size in FUSED_GROUP_SIZES:
            yield _variant("linear_update", fused_kernel, rule, group_size, product=True)
    yield _variant("embedding_forward", lookup_kernel)
    yield _variant("embedding_gradient", sums_kernel)
    yield _variant("mark_rows", marking_kernel)
    yield _variant("advance_counters", counting_kernel)
    yield _variant("digest", digest_kernel)
    for name, kernel in (
        ("norm", norm_kernel),
        ("norm_backward", norm_backward_kernel),
        ("dot", dot_kernel),
        ("softmax", softmax_kernel),
        ("softmax_backward", softmax_backward_kernel),
        ("sigmoid", sigmoid_kernel),
        ("cross_entropy", cross_entropy_kernel),
        ("squared_error", squared_error_kernel),
        ("heads", heads_kernel),
        ("heads_backward", heads_backward_kernel),
        ("attention", attention_kernel),
        ("exponents_of_heads", exponent_kernel),
        ("attention_backward_queries", queries_kernel),
        ("attention_backward_positions", positions_kernel),
    ):
        yield _variant(name, kernel, floats=True)
