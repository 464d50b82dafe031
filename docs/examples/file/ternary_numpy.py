"""A backend of arbitor in one file, in plain NumPy:

    arbitor verify --backend docs/examples/file/ternary_numpy.py

It has four operations and says so in `CAPABILITIES`. It is written from docs/SPEC.md alone and imports
nothing of arbitor. Dtypes, shapes and ranges of integers were checked before a function is called.
"""

import numpy as np

ARRAYS = "numpy"  # "torch" is the default, "lists" gives nested lists of integers
CAPABILITIES = {
    "version": 1,
    "name": "ternary_numpy",
    "operations": ["pack", "unpack", "quantise_nearest", "weight_gradient"],
    "formats": ["codes"],
    "devices": ["cpu"],
}


def pack(trits):
    """trits int8 [R, C] -> codes uint8 [R, ceil(C/4)] (ARB-PACK-001, ARB-PACK-002)."""
    wrong = np.argwhere((trits < -1) | (trits > 1))
    if len(wrong):  # ARB-PACK-004
        row, column = wrong[0]
        raise ValueError(f"trits[{row}, {column}] is {trits[row, column]}, expected -1, 0 or 1")
    rows, columns = trits.shape
    padded = np.zeros((rows, -(-columns // 4) * 4), np.uint8)
    padded[:, :columns] = trits
    fields = (padded + 1).astype(np.uint8).reshape(rows, -1, 4)  # -1 is 255 here, and 255 + 1 is 0
    return fields[:, :, 0] | fields[:, :, 1] << 2 | fields[:, :, 2] << 4 | fields[:, :, 3] << 6


def unpack(codes, columns):
    """codes uint8 [R, ceil(C/4)], columns = C -> trits int8 [R, C] (ARB-PACK-001)."""
    fields = codes[:, :, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
    flat = fields.reshape(len(codes), -1)
    illegal = flat == 3
    illegal[:, columns:] |= flat[:, columns:] != 1
    if illegal.any():  # ARB-PACK-003
        row, place = np.argwhere(illegal)[0]
        byte = codes[row, place // 4]
        raise ValueError(f"row {row}, byte {place // 4} is {byte}: code 3, or padding that is not code 1")
    return flat[:, :columns].astype(np.int8) - np.int8(1)


def quantise_nearest(x):
    """x float32 [R, C] -> q int8 [R, C], exponents int8 [R] (ARB-QUANT-001 to ARB-QUANT-008)."""
    bits = (x.view(np.uint32) if x.flags.c_contiguous else x.copy().view(np.uint32)) & 0x7FFFFFFF
    largest = bits.max(axis=1).astype(np.int64)
    field, mantissa = largest >> 23, largest & 0x7FFFFF
    exponents = np.where(mantissa <= 0x7E0000, field - 133, field - 132)
    exponents = np.maximum(np.where(field == 0, -100, exponents), -100)
    poisoned = field == 255
    exponents[poisoned] = 127
    safe = np.where(poisoned[:, None], np.float32(0), x).astype(np.float64)
    fine = np.trunc(np.ldexp(safe, 16 - exponents[:, None])).astype(np.int64)
    return (fine + 32768 >> 16).astype(np.int8), exponents.astype(np.int8)


def weight_gradient(q_g, q_x):
    """q_g int8 [T, O], q_x int8 [T, I] -> int32 [O, I] (ARB-LIN-005)."""
    return q_g.T.astype(np.int32) @ q_x.astype(np.int32)
