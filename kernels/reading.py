"""What others wrote, read in one way: regular files of bounded size, strict JSON and TOML of bounded depth.

Everything is counted before it is parsed and checked before it is used, so that a file takes memory and time
in proportion to its own size, and no two readers can take it for two things. What is wrong is `Unreadable`,
in words that follow the name of the file; text in them is written out (`said`), never as it is.
"""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import re
import reprlib
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

MEGABYTE = 1 << 20
LARGEST = 16 * MEGABYTE  # of a file, where its reader says nothing else
PARTS = 1_000_000  # values of a file, roughly: each may take a hundred bytes
DEEPEST = 32  # lists and objects in each other
DIGITS = 20  # of an integer: 2^64 has them
DOTS = 64  # of a line of TOML
HEADER = 64 * MEGABYTE  # of a safetensors file
NAME, RANK = 256, 8  # characters of a tensor's name, and its extents
_SEEN = 100  # errors of a schema, of which the one that says most is told

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)', re.DOTALL)

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 80
_shown.maxlong = 40
_shown.maxlevel = 3


class Unreadable(ValueError):
    """Why a file is not read, in words that follow its name."""


def said(value: object) -> str:
    """`value` as Python writes it, cut, with nothing in it that a terminal would take for a command."""
    return _shown.repr(value)


def cut(text: str, most: int = 200) -> str:
    """`text`, without its middle if it has more than `most` characters: what matters is at an end."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def file_bytes(path: str | Path, most: int = LARGEST) -> bytes:
    """All bytes of a regular file; never waits for one.

    Raises Unreadable for a pipe, a device or more than `most` bytes, and OSError for what the system says.
    """
    with regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(most + 1)
    if data is None:
        raise Unreadable("it gives no data now, so it is no plain file")
    if max(size, len(data)) > most:
        raise Unreadable(f"it has {max(size, len(data)):,} bytes, expected at most {most:,}")
    return data


def regular(path: str | Path) -> BinaryIO:
    """A regular file, open to be read without a wait. Raises as `file_bytes` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except ValueError:
        raise Unreadable("its name has a character NUL") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise Unreadable("it is a pipe, a socket or a device, expected a file")
    return open(descriptor, "rb")


def json_of(data: bytes, parts: int = PARTS) -> Any:
    """The value of a JSON text in UTF-8.

    Raises Unreadable for what JSON is not (NaN, a key twice in one object), an integer of more than DIGITS
    digits, a number that is no finite float, more than about `parts` values, and more than DEEPEST lists and
    objects in each other.
    """
    if not data.strip():
        raise Unreadable("it is empty")
    found = _parts(data)
    if found > parts:  # commas in strings are none; the strings themselves are counted first, which is quick
        strings = (data.count(b'"') - data.count(b'\\"')) // 2
        found = strings if strings > parts else _parts(_STRING.sub(b"", data))
    if found > parts:
        raise Unreadable(f"it has about {found:,} values, expected at most {parts:,}")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_once, parse_int=_integer, parse_float=_float,
            parse_constant=_no_number,
        )  # fmt: skip
    except RecursionError:
        _too_deep()
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is truncated or no JSON (byte {error.start} is no UTF-8)") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is truncated or no JSON ({error})") from None
    _check_depth(value)
    return value


def json_object(data: bytes, parts: int = PARTS) -> dict[str, Any]:
    """As `json_of`, of a text that is an object."""
    value = json_of(data, parts)
    if not isinstance(value, dict):
        raise Unreadable(f"it is a JSON {type(value).__name__}, expected an object")
    return value


def toml_of(data: bytes) -> dict[str, Any]:
    """The table of a TOML text in UTF-8. Raises Unreadable as `json_of` does; NaN is TOML."""
    for line in data.split(b"\n"):  # tomllib's time and memory grow with the square of a dotted key's parts
        if line.count(b".") > DOTS and len(re.findall(rb"(?<!\.)\.(?!\.)", line)) > DOTS:
            raise Unreadable(f"it has a line of more than {DOTS} dots")
    try:
        value = tomllib.loads(data.decode())
    except RecursionError:
        _too_deep()
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is no TOML: byte {error.start} is no UTF-8") from None
    except ValueError as error:  # also an integer that is too long for Python
        raise Unreadable(f"it is no TOML: {error}") from None
    _check_depth(value)
    return value


def safetensors_header(file: BinaryIO) -> tuple[bytes, dict[str, Any], int]:
    """What a safetensors file begins with (8 bytes of length, the header in JSON) as it is, its metadata, and
    where the data end that it describes; the file has them.

    Raises Unreadable. Whether the data are what the header says of them is for safetensors to see.
    """
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8:
        raise Unreadable(f"truncated: {len(start)} bytes, a safetensors file begins with 8 bytes of length")
    if start[8:] not in (b"", b"{") or length > HEADER:
        found = f"it begins with {start!r}, expected the length of a header and '{{'"
        raise Unreadable(f"not a safetensors file: {found}")
    header = start + file.read(max(length - 1, 0))
    size = file.seek(0, os.SEEK_END)
    if len(header) < 8 + length or length == 0:
        raise Unreadable(f"truncated: {size} bytes, the header alone ends at {8 + length}")
    try:
        entries = json_object(header[8:])
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise Unreadable(f"__metadata__ is {said(metadata)}, expected an object")
        end = 8 + length + max((_end(name, entry) for name, entry in entries.items()), default=0)
    except Unreadable as error:
        raise Unreadable(f"not a safetensors file: its header cannot be read ({error})") from None
    if size < end:
        raise Unreadable(f"truncated: {size} bytes, the data end at {end}")
    return header, metadata, end


def _end(name: str, entry: Any) -> int:
    """Where the data of a tensor end, by its entry in a header."""
    if len(name) > NAME:
        raise Unreadable(f"a tensor's name has {len(name)} characters, expected at most {NAME}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Unreadable(f"tensor {name!r} is {said(entry)}, expected dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise Unreadable(f"tensor {name!r} has {what} {said(numbers)}, expected integers, 0 or more")
    if len(offsets) != 2 or len(shape) > RANK:
        found = f"{len(shape)} extents and {len(offsets)} offsets"
        raise Unreadable(f"tensor {name!r} has {found}, expected at most {RANK} and 2")
    return int(offsets[1])


def schema_fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Where `value` leaves a JSON schema, as "at PLACE: what", or None. 1.0 and True are no integers."""
    import jsonschema  # only here: no kernel needs it

    errors = itertools.islice(_validator()(schema).iter_errors(value), _SEEN)
    error = jsonschema.exceptions.best_match(errors)
    if error is None:
        return None
    return f"at {cut(error.json_path)}: {cut(error.message)}"


@functools.cache
def _validator() -> Any:
    import jsonschema

    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=types)


def _is_integer(_checker: Any, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _parts(data: bytes) -> int:
    return sum(map(data.count, (b",", b"[", b"{")))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Unreadable(f"it has {said(name)} twice in one object")
            seen.add(name)
    return found


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS:
        raise Unreadable(f"it has an integer of {len(text.lstrip('-')):,} digits, expected at most {DIGITS}")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise Unreadable(f"it has {said(text)}, which no float is as large as")
    return value


def _no_number(text: str) -> NoReturn:
    raise Unreadable(f"it has {text}, which is no JSON")


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        inner = (found.values() if isinstance(found, dict) else found for found in level)
        level = [part for parts in inner for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    _too_deep()


def _too_deep() -> NoReturn:
    raise Unreadable(f"it has more than {DEEPEST} lists and objects in each other")
