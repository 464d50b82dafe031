"""What a compiler made of a kernel: opcodes of its sm_90a machine code, without a GPU.

Triton carries NVIDIA's disassembler; a kernel of any compiler is looked at as the cubin that it is.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

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
