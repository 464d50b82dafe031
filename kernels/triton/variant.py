"""One kernel in one configuration, compiled for sm_90a without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HOPPER = GPUTarget("cuda", 90, 32)  # which Triton compiles as sm_90a

# pointers of all kernels by the names of their arguments; integers are int32
POINTERS = {
    "a": "*fp32",
    "b": "*fp32",
    "cell": "*i64",
    "codes": "*u8",
    "counts": "*i64",
    "dense": "*u8",
    "dp": "*fp32",
    "dx": "*fp32",
    "dy": "*fp32",
    "e": "*i8",
    "e_accum": "*i8",
    "e_g": "*i8",
    "e_x": "*i8",
    "exponents": "*i8",
    "gradient": "*i32",
    "largest": "*i32",
    "losses": "*i64",
    "moment": "*i32",
    "p": "*fp32",
    "planes": "*i8",
    "q": "*i8",
    "q_t": "*i8",
    "step_counter": "*i32",
    "sums": "*i32",
    "t_accum": "*i8",
    "targets": "*i64",
    "tokens": "*i64",
    "touched": "*i32",
    "trits": "*i8",
    "words": "*i64",
    "x": "*fp32",
    "y": "*fp32",
}


@dataclass(frozen=True)
class Variant:
    """One kernel in one configuration. `aligned` names the integer arguments that are multiples of 16;
    pointers always are."""

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 3
    aligned: tuple[str, ...] = ()
    debug: bool = False
    product: bool = False  # it multiplies matrices
    floats: bool = False  # it computes in float32, each operation rounded by itself
    plain: bool = False  # right first, fast later: it spills, or multiplies as Ampere does

    def cubin(self) -> bytes:
        """Machine code for sm_90a. Raises what the compiler raises."""
        code: bytes = self.compile().asm["cubin"]
        return code

    def ptx(self) -> str:
        """The same before the assembler. Raises what the compiler raises."""
        text: str = self.compile().asm["ptx"]
        return text

    def compile(self) -> Any:
        """Triton's compiled kernel, whose `asm` has ptx and cubin. Raises what the compiler raises."""
        multiples = [n for n, kind in self.signature.items() if kind.startswith("*") or n in self.aligned]
        places = {(list(self.signature).index(name),): [["tt.divisibility", 16]] for name in multiples}
        source = ASTSource(self.kernel, dict(self.signature), dict(self.constexprs), places)
        options = {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "debug": self.debug,
            "sanitize_overflow": False,
            "enable_fp_fusion": False,
        }
        return triton.compile(source, target=HOPPER, options=options)


def variant(
    name: str,
    kernel: Any,
    constexprs: Mapping[str, Any],
    types: Mapping[str, str] | None = None,
    **options: Any,
) -> Variant:
    """A variant whose signature is read off the names of the arguments; `types` has the exceptions."""
    known = POINTERS | dict(types or {})
    signature = {
        argument: "constexpr" if argument in constexprs else known.get(argument, "i32")
        for argument in kernel.arg_names
    }
    return Variant(name, kernel, signature, constexprs, **options)
