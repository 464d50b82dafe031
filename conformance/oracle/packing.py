"""Section 2: four trits a byte, two bits each, and five trits a byte in base 3.

Both formats are read and written code by code. Reading is where corrupt state would enter, so it is where
code 3, dense bytes above 242 and padding other than code 1 are refused.
"""

from .checks import INT32_MAX, Matrix, columns_of, integer, matrix


def pack(trits: Matrix) -> Matrix:
    """ARB-PACK-001, -002, -004: trits [R, C] to codes [R, ceil(C/4)], the first trit in the lowest bits."""
    return _pack(trits, per_byte=4, base=4)


def unpack(codes: Matrix, columns: int) -> Matrix:
    """ARB-PACK-001, -003: codes [R, ceil(C/4)] to trits [R, C]; code 3 and wrong padding are refused."""
    return _unpack("codes", codes, columns, per_byte=4, base=4)


def pack_dense(trits: Matrix) -> Matrix:
    """ARB-PACK-005, -004: trits [R, C] to base-3 bytes [R, ceil(C/5)], the first trit least significant."""
    return _pack(trits, per_byte=5, base=3)


def unpack_dense(dense: Matrix, columns: int) -> Matrix:
    """ARB-PACK-005, -006: base-3 bytes [R, ceil(C/5)] to trits [R, C]; refuses 243..255, wrong padding."""
    return _unpack("dense", dense, columns, per_byte=5, base=3)


def _pack(trits: Matrix, per_byte: int, base: int) -> Matrix:
    columns = columns_of("trits", trits)
    matrix("trits", trits, len(trits), columns, -1, 1)
    packed = []
    for row in trits:
        codes = [trit + 1 for trit in row]
        while len(codes) % per_byte:
            codes.append(1)
        packed.append(
            [
                sum(codes[first + k] * base**k for k in range(per_byte))
                for first in range(0, len(codes), per_byte)
            ]
        )
    return packed


def _unpack(name: str, packed: Matrix, columns: int, per_byte: int, base: int) -> Matrix:
    integer("columns", columns, 0, INT32_MAX)
    width = -(-columns // per_byte)
    columns_of(name, packed)
    matrix(name, packed, len(packed), width, 0, 255)
    trits: Matrix = []
    for r, row in enumerate(packed):
        codes: list[int] = []
        for b, byte in enumerate(row):
            where = f"{name}: row {r}, byte index {b} is byte {byte} ({byte:#04x})"
            if byte >= base**per_byte:
                raise ValueError(f"{where}, expected 0..{base**per_byte - 1}")
            for k in range(per_byte):
                code = byte // base**k % base
                if code > 2:
                    raise ValueError(f"{where} with code {code} in field {k}, expected codes 0..2")
                if b * per_byte + k >= columns and code != 1:
                    raise ValueError(f"{where} with code {code} in padding field {k}, expected code 1")
                codes.append(code)
        trits.append([code - 1 for code in codes[:columns]])
    return trits
