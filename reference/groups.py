"""Groups of weights that share an exponent: sums over them, and what belongs to one, for its elements."""

import numpy as np

from .limits import Ints


def group_sums(a: Ints, group_size: int) -> Ints:
    """Sums over the groups of each row: [O, I] -> [O, G]."""
    sums: Ints = np.add.reduceat(a, np.arange(0, a.shape[1], group_size), axis=1)
    return sums


def spread(a: Ints, group_size: int, columns: int) -> Ints:
    """What belongs to a group, for each of its elements: [O, G] -> [O, I]."""
    return np.repeat(a, group_size, axis=1)[:, :columns]
