"""Ranks as threads of one process: `Ranks` whose collectives exchange tensors in memory. A call that one rank
leaves out, or makes otherwise than the others, is an error here, and not a wait without an end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from arbitor.ranks import Ranks

LONGEST = 120  # seconds that a rank computes before the others hear of it


class Parted(Exception):
    """Not all ranks have made the same calls."""


class Group:
    """What ranks bring to each of their calls, in the order of these."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._calls: list[dict[int, tuple[str, torch.Tensor]]] = []
        self._made, self._ended = [0] * size, [False] * size
        self._changed = threading.Condition()

    def exchange(self, rank: int, what: str, tensor: torch.Tensor) -> list[torch.Tensor]:
        """What all ranks bring to their next call, in rank order. Raises Parted if one has ended without it,
        or if it is another call."""
        with self._changed:
            number = self._made[rank]
            self._made[rank] += 1
            if number == len(self._calls):
                self._calls.append({})
            brought = self._calls[number]
            brought[rank] = what, tensor.clone()
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(brought) == self.size or self._missing(brought), LONGEST)
            if len(brought) < self.size:
                raise Parted(f"rank {rank} waits in its call {number}, {what}; others have made fewer")
            found = [brought[other] for other in range(self.size)]
            if len({call for call, _ in found}) > 1:
                raise Parted(f"call {number} is {' and '.join(call for call, _ in found)}")
        return [tensor for _, tensor in found]

    def _missing(self, brought: dict[int, Any]) -> bool:
        return any(ended and rank not in brought for rank, ended in enumerate(self._ended))

    def end(self, rank: int) -> None:
        """This rank makes no more calls."""
        with self._changed:
            self._ended[rank] = True
            self._changed.notify_all()


class ThreadRanks(Ranks):
    """`Ranks` whose collectives go through a Group."""

    def __init__(self, rank: int, group: Group) -> None:
        super().__init__(rank, group.size)
        object.__setattr__(self, "group", group)

    def _exchange(self, name: str, tensor: torch.Tensor) -> list[torch.Tensor]:
        group: Group = self.group  # type: ignore[attr-defined]
        return group.exchange(self.rank, f"{name} of {tensor.dtype} {list(tensor.shape)}", tensor)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._exchange("sum", tensor)).sum(0).to(tensor.dtype)

    def largest(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._exchange("largest", tensor)).amax(0)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat(self._exchange("gather", tensor))

    def texts(self, text: str) -> list[str]:
        group: Group = self.group  # type: ignore[attr-defined]
        own = torch.tensor(list(text.encode()), dtype=torch.uint8)
        return [bytes(found.tolist()).decode() for found in group.exchange(self.rank, "texts", own)]


def on_ranks(size: int, run: Callable[[Ranks], Any]) -> list[Any]:
    """What `run` gives on each of `size` ranks; raises what one of them raised."""
    group, ends, errors = Group(size), [None] * size, []

    def work(rank: int) -> None:
        try:
            ends[rank] = run(ThreadRanks(rank, group))
        except BaseException as error:
            errors.append(error)
        finally:
            group.end(rank)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = [error for error in errors if not isinstance(error, Parted)]
    if first or errors:
        raise (first or errors)[0]
    return ends
