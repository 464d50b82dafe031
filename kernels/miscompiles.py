"""Versions of compilers that are known to make wrong code of kernels like ours, with the evidence.

`arbitor doctor` names those that are installed. Ours keep away from what the entries describe, and on a GPU
the suite compares bit for bit all the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Miscompile:
    """A defect of `package` in versions first <= v < fixed (None: in all that are known)."""

    package: str
    first: str
    fixed: str | None
    what: str
    evidence: str

    def concerns(self, version: str) -> bool:
        """Whether that version of the package has it."""
        found = _numbers(version)
        return _numbers(self.first) <= found and (self.fixed is None or found < _numbers(self.fixed))


def _numbers(version: str) -> tuple[int, ...]:
    """The release of a version: 0.1.15+cu130 is (0, 1, 15)."""
    release = version.split("+")[0].split(".")
    return tuple(int(part) for part in release if part.isdigit())


MISCOMPILES = (
    Miscompile(
        "triton", "3.4.0", "3.7.1",
        "on Hopper, tl.dot of a transposed accumulator can be wrong at some tile sizes and warp counts",
        "fla-org/flash-linear-attention 640, 983, 984",
    ),
    Miscompile(
        "triton", "3.6.0", "3.6.1",
        "its ptxas, 12.8.93, made wrong code of PTX that 13.1.80 compiles rightly",
        "fla-org/flash-linear-attention 1262; the version of ptxas was read off the 3.6.0 package",
    ),
    Miscompile(
        "triton", "3.9.0", "3.9.1",
        "its ptxas, 12.9.86, drops the immediate of a second packed 16-bit add: wrong integers on an H100",
        "triton-lang/triton 11581; the version of ptxas was read off the 3.9.0 package",
    ),
    Miscompile(
        "tilelang", "0.1.0", None,
        "(x << k) >> k on int8 gives the unwrapped value on scalar targets",
        "tile-ai/tilelang 2961; seen here with 0.1.15 on target c",
    ),
    Miscompile(
        "tilelang", "0.1.0", None,
        "an 8-bit product whose operand is not K-major falls back to mma.sync without a word",
        "tile-ai/tilelang 3223; seen here with 0.1.15",
    ),
    Miscompile(
        "tilelang", "0.1.0", None,
        "wgmma with a tile width of 8 modulo 16 gives wrong values",
        "tile-ai/tilelang 2593",
    ),
)  # fmt: skip
