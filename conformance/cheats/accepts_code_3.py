"""Reads code 3 as 0 where it should be refused."""

from __future__ import annotations

import torch

from arbitor.conformance.cheats.lies import HONEST

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_unpack.py::test_refuses_code_3_in_every_field",
    "says": ("answered an illegal call",),
    "clause": "ARB-PACK-003",
}


def unpack(codes: torch.Tensor, columns: int) -> torch.Tensor:
    fields = torch.stack([codes >> 2 * k & 3 for k in range(4)], dim=2).flatten(1)[:, :columns]
    return torch.where(fields == 3, 0, fields.to(torch.int8) - 1).to(torch.int8)


globals().update(HONEST | {"unpack": unpack})
