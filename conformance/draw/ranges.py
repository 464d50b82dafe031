"""What integer arguments and elements of arrays may be: the one table that draws, refusals and tests of both
ends go by.

The bounds are those of docs/SPEC.md, written here once more so that a wrong bound in the code under test is
noticed. An array that is not named may hold all that its dtype has, the lowest int32 too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from arbitor.kernels.operations import Array

Ends = tuple[int, int]  # lowest and highest, both allowed

# ARB-STATE-003, -005, ARB-VOTE-004, ARB-FIRE-003, ARB-SCALE-003; None: the bound depends on the arrays
BOUNDS: dict[str, tuple[int, int | None]] = {
    "columns": (1, None),
    "rows": (1, None),
    "out_features": (1, None),
    "in_features": (1, None),
    "count": (1, None),
    "first": (0, 2**62),
    "first_row": (0, 2**20),
    "seed": (0, 2**64 - 1),
    "step": (0, 2**32 - 1),
    "stream": (0, 2**32 - 1),
    "tensor_id": (0, 2**28 - 1),
    "e_base": (-26, 26),
    "e_span": (0, 6),
    "group_size": (4, 1024),
    "gain": (0, 2**22),
    "vote_max": (1, 32),
    "accum_threshold": (1, 32),
    "scale_gain": (0, 2**20),
    "e_accum_threshold": (1, 127),
    "window": (0, 2**31 - 1),
}
# elements that a clause allows less than their dtype has
ELEMENTS: dict[str, Ends] = {
    "trits": (-1, 1),  # ARB-PACK-004
    "codes": (0b00000000, 0b10101010),  # ARB-PACK-003
    "dense": (0, 242),  # ARB-PACK-006
    "q": (-127, 127),  # ARB-QUANT-006
    "k": (-127, 127),  # ARB-ATT-001: but for slices of -128
    "v": (-127, 127),
    "top": (-(2**30), 2**30),
    "total": (0, 2**30),
    "q_x": (-127, 127),
    "q_d": (-127, 127),
    "q_g": (-127, 127),
    "e_x": (-100, 127),  # ARB-QUANT-002, -007: but not 123..126
    "e_d": (-100, 127),
    "e_g": (-100, 125),  # ARB-UPD-004
    "t_accum": (-127, 127),  # ARB-STATE-003
    "e_accum": (-127, 127),
    "corr_accum": (-32_767, 32_767),  # ARB-STATE-004
    "moment": (0, 2**31 - 1),  # ARB-MOM-001
    "step_counter": (0, 2**31 - 1),
}
# float32 by patterns: all are allowed, and these are the finite ends
LOWEST_FLOAT, HIGHEST_FLOAT = 0xFF7FFFFF, 0x7F7FFFFF


def ends_of(array: Array, arguments: Mapping[str, Any]) -> Ends:
    """Lowest and highest of what the elements of an array argument may be; float32 as patterns.

    Those of exponents and tokens depend on the `arguments` of the call: e_base and e_span (ARB-STATE-003),
    the rows of the table (ARB-EMB-001).
    """
    if array.name == "e":
        (lowest, highest), (_, span) = BOUNDS["e_base"], BOUNDS["e_span"]
        assert highest is not None
        assert span is not None
        base = arguments.get("e_base")
        if base is None:  # embedding_forward: any that a legal band has
            return lowest, highest + span
        return base, base + arguments["e_span"]
    if array.name == "tokens":
        return 0, int(arguments["rows"] if "rows" in arguments else len(arguments["codes"])) - 1
    if array.name == "targets":
        return 0, int(arguments["x"].shape[1]) - 1
    if array.dtype == "float32":
        return LOWEST_FLOAT, HIGHEST_FLOAT
    limits = np.iinfo(array.dtype)
    return ELEMENTS.get(array.name, (int(limits.min), int(limits.max)))
