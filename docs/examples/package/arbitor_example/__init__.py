"""A backend of arbitor in a package of its own, in plain torch; the entry point in pyproject.toml names it.

It imports nothing of arbitor. Dtypes, shapes and ranges of integers were checked before a function is called.
"""

import torch

CAPABILITIES = "capabilities.toml"  # beside this file
PIECE = 64  # tokens
PLACES = torch.tensor([1, 3, 9, 27, 81])


def pack_dense(trits):
    """trits int8 [R, C] -> dense uint8 [R, ceil(C/5)], five trits a byte in base 3 (ARB-PACK-005)."""
    wrong = (trits.abs() > 1) | (trits == -128)  # abs(-128) is -128
    if wrong.any():  # ARB-PACK-004
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(f"trits[{row}, {column}] is {trits[row, column].item()}, expected -1, 0 or 1")
    codes = torch.nn.functional.pad(trits.int() + 1, (0, -trits.shape[1] % 5), value=1)
    return (codes.reshape(len(trits), -1, 5) * PLACES).sum(dim=2).to(torch.uint8)


def unpack_dense(dense, columns):
    """dense uint8 [R, ceil(C/5)], columns = C -> trits int8 [R, C] (ARB-PACK-005)."""
    digits = dense.int().unsqueeze(2) // PLACES % 3
    flat = digits.reshape(len(dense), -1)
    illegal = dense >= 243
    illegal[:, -1] |= (flat[:, columns:] != 1).any(dim=1)
    if illegal.any():  # ARB-PACK-006
        row, byte = illegal.nonzero()[0].tolist()
        found = dense[row, byte].item()
        raise ValueError(f"row {row}, byte {byte} is {found}: above 242, or padding that is not code 1")
    return (flat[:, :columns] - 1).to(torch.int8)


def _at_once(q_g, q_x):
    return q_g.int().t() @ q_x.int()


def _in_pieces(q_g, q_x):
    found = torch.zeros(q_g.shape[1], q_x.shape[1], dtype=torch.int32)
    for first in range(0, len(q_g), PIECE):
        found += _at_once(q_g[first : first + PIECE], q_x[first : first + PIECE])
    return found


def weight_gradient(q_g, q_x):
    """q_g int8 [T, O], q_x int8 [T, I] -> int32 [O, I] (ARB-LIN-005)."""
    return _at_once(q_g, q_x) if len(q_g) <= PIECE else _in_pieces(q_g, q_x)


def configurations(device):
    """Every way that `weight_gradient` may choose: the suite runs each, and all give the same bits."""
    return {"weight_gradient": {"in pieces": _in_pieces, "at once": _at_once}}


def embedding_gradient(tokens, q, rows):
    """tokens int64 [T], q int8 [T, D], rows = V -> int32 [V, D] (ARB-EMB-003)."""
    wrong = ((tokens < 0) | (tokens >= rows)).nonzero()
    if len(wrong):  # ARB-EMB-001
        place = int(wrong[0])
        raise ValueError(f"tokens[{place}] is {tokens[place].item()}, expected 0..{rows - 1}")
    return torch.zeros(rows, q.shape[1], dtype=torch.int32).index_add_(0, tokens, q.int())
