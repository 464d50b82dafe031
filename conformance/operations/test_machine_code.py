"""Every GPU kernel in every configuration, compiled for sm_90a without a GPU, and its machine code looked at.

A lane of its own: `pytest conformance/operations/test_machine_code.py --machine-code`. What runs is another
matter; here it is seen that a product really uses Hopper's integer units, that none fell back, and that
nothing spills.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.operations.common import Total
from arbitor.kernels import registry

BACKENDS = ("triton", "tilelang")
PLAIN = "kernels that are right and not yet fast: they spill, or multiply as Ampere does"
INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", re.MULTILINE)
SPILLS = ("STL", "LDL")  # local memory: registers that did not suffice, or an array indexed at run time
INTEGER_WGMMA = "IGMMA"  # Hopper's 8-bit product of a warp group
INTEGER_MMA = "IMMA"  # Ampere's, to which compilers fall back without a word
# of PTX: two operations rounded as one, an approximation, subnormals flushed (ARB-FLOAT-001)
INEXACT = re.compile(
    r"^\s*(?:@!?%p\d+\s+)?((?:fma|mad)\S*\.f32|\w+\S*\.(?:approx|full|ftz)\S*)", re.MULTILINE
)


def disassembler() -> Path | None:
    """cuobjdump of the installed Triton, or None."""
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return path if path.is_file() else None


def opcodes(cubin: bytes) -> Counter[str]:
    """How often each opcode occurs. Raises RuntimeError if nothing can be disassembled."""
    tool = disassembler()
    if tool is None:
        raise RuntimeError("no cuobjdump: it comes with the triton package")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=False)
    found = Counter(INSTRUCTION.findall(done.stdout))
    if not found:
        raise RuntimeError(f"cuobjdump found no instruction: {done.stdout[:200]}{done.stderr[:200]}")
    return found


def inexact(ptx: str) -> list[str]:
    """Instructions that do not round a float32 operation to nearest by itself."""
    return sorted(set(INEXACT.findall(ptx)))


def problems(found: Counter[str], product: bool) -> list[str]:
    """What a kernel's machine code must not have; `product` says that it multiplies matrices."""
    wrong = []
    spilled = sum(found[opcode] for opcode in SPILLS)
    if spilled:
        wrong.append(f"{spilled} accesses to local memory: registers are spilled")
    if product and not found[INTEGER_WGMMA]:
        wrong.append(f"no {INTEGER_WGMMA}: the product does not run on Hopper's integer units")
    if found[INTEGER_MMA]:
        wrong.append(f"{found[INTEGER_MMA]} {INTEGER_MMA}: the product fell back to mma.sync")
    return wrong


def why_not() -> str | None:
    """Reason why nothing can be compiled here, or None."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET=1: there is nothing to compile"
    if disassembler() is None:
        return "no cuobjdump: it comes with the triton package"
    return None


def all_variants() -> Iterator[Any]:
    """The variants of every backend that is installed."""
    for name in BACKENDS:
        path = f"{registry.BACKENDS[name]}.compile_only"
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:
            yield pytest.param(None, id=name, marks=pytest.mark.skip(f"{name}: no module {error.name!r}"))
            continue
        reason = getattr(module, "why_not", lambda: None)()
        if reason is not None:
            yield pytest.param(None, id=name, marks=pytest.mark.skip(f"{name}: {reason}"))
            continue
        for variant in module.variants():
            yield pytest.param(variant, id=f"{name}: {variant.name}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--machine-code")
        reason = why_not() if asked else "machine code is a lane of its own: --machine-code"
        skipped = [pytest.param(None, id="all", marks=pytest.mark.skip(reason))] if reason else []
        metafunc.parametrize("variant", skipped or list(all_variants()))


def test_machine_code(variant: Any, total: Total) -> None:
    """Compiles; its product, if it has one, is Hopper's integer wgmma; nothing is spilled, but by kernels
    that say so. Where it computes in float32, each operation is rounded by itself (ARB-FLOAT-001)."""
    wrong = problems(opcodes(variant.cubin()), variant.product)
    if getattr(variant, "plain", False):
        assert wrong, "it is no longer plain: say so"
        total(PLAIN, 1)
    else:
        assert wrong == []
    assert not variant.floats or inexact(variant.ptx()) == []


@pytest.mark.parametrize(
    ("found", "product", "words"),
    [
        ({"IGMMA": 4, "STG": 2}, True, None),
        ({"STG": 2}, False, None),
        ({"STG": 2}, True, "no IGMMA"),
        ({"IGMMA": 4, "IMMA": 32}, True, "fell back"),
        ({"IMMA": 32}, False, "fell back"),
        ({"IGMMA": 4, "LDL": 1}, True, "spilled"),
        ({"STL": 1}, False, "spilled"),
    ],
)
def test_what_is_a_problem(found: dict[str, int], product: bool, words: str | None) -> None:
    """The judge of machine code finds each defect, and lets the rest pass."""
    wrong = problems(Counter(found), product)
    assert wrong == [] if words is None else any(words in problem for problem in wrong)


def test_what_is_inexact() -> None:
    ptx = """
        fma.rn.f32 %f1, %f2, %f3, %f4;
    \tmad.lo.s32 \t%r1, %r2, %r3, %r4;
        @%p1 div.full.f32 %f1, %f2, %f3;
        mul.rn.f32 %f1, %f2, %f3;
        mul.ftz.f32 %f1, %f2, %f3;
        sqrt.approx.f32 %f1, %f2;
        sqrt.rn.f32 %f1, %f2;
        fma.rn.f64 %fd1, %fd2, %fd3, %fd4;
    """
    assert inexact(ptx) == ["div.full.f32", "fma.rn.f32", "mul.ftz.f32", "sqrt.approx.f32"]


def test_opcodes_are_read_off_the_listing() -> None:
    listing = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;      /* 0x00000a00ff017b82 */
        /*0010*/              @!P0 BRA 0x50 ;
        /*0020*/             @!UPT UIADD3 URZ, URZ, URZ, URZ ;
        /*0030*/                   IGMMA.64x128x32.S8.S8 R24, gdesc[UR8], RZ ;
    """
    assert INSTRUCTION.findall(listing) == ["LDC", "BRA", "UIADD3", "IGMMA"]
