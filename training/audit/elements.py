"""Where two states differ, element by element; codes are shown as trits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from arbitor.kernels import registry

SHOWN = 5  # elements of a tensor
TENSORS = 3


def differences(mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Lines on the elements that differ, of the first few tensors that do; both have the same names."""
    wrong = [name for name, tensor in mine.items() if not torch.equal(tensor.cpu(), theirs[name].cpu())]
    if not wrong:
        yield "no element differs there: the record is another one, and not the computation"
    for name in wrong[:TENSORS]:
        a, b = (_readable(name, state) for state in (mine, theirs))
        places = (a != b).nonzero()
        yield f"{name}: {len(places):,} of {a.numel():,} elements differ"
        for place in places[:SHOWN].tolist():
            yield f"  [{', '.join(map(str, place))}] is {int(a[tuple(place)])} and {int(b[tuple(place)])}"
    if len(wrong) > TENSORS:
        yield f"and {len(wrong) - TENSORS} more tensors"


def _readable(name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    tensor = state[name].cpu()
    module, _, part = name.rpartition(".")
    if part != "codes":
        return tensor
    columns = state[f"{module}.t_accum"].shape[1]
    trits: torch.Tensor = registry.select("torch").unpack(tensor, columns)
    return trits
