"""What others wrote, as it is read: bounded before it is parsed, and never taken for two things."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbitor.kernels import reading
from arbitor.kernels.plain import lines, plain
from arbitor.kernels.reading import DEEPEST, Unreadable, cut, file_bytes, json_object, json_of, said, toml_of
from arbitor.refusal import LONGEST, refuse

HIGH, LOW = 2**64, -(2**64)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[1, -1.5, true, null]", [1, -1.5, True, None]),
        (b' {"a": {"b": []}}\n', {"a": {"b": []}}),
        (f"[{HIGH}, {LOW}, 1e308]".encode(), [HIGH, LOW, 1e308]),
        (b"[" * DEEPEST + b"]" * DEEPEST, None),
        ('"é\u202e\\u001b"'.encode(), "é\u202e\x1b"),
        (b'"' + b",[{" * reading.PARTS + b'"', None),  # no values, but text
        (b'"' + b'\\",' * reading.PARTS + b'"', None),
        (b"[" + b"1," * 999_990 + b"1]", None),
    ],
)
def test_json(text: bytes, value: Any) -> None:
    found = json_of(text)
    assert value is None or found == value


DEEP = "it has more than 32 lists and objects in each other"
WRONG_JSON = {
    "empty": (b" \n", "it is empty"),
    "NaN": (b'{"a": NaN}', "it has NaN, which is no JSON"),
    "Infinity": (b"[-Infinity]", "it has -Infinity, which is no JSON"),
    "no float": (b"[1e999]", "it has '1e999', which no float is as large as"),
    "twice": (b'{"a": {"b": 1, "\\u0062": 2}}', "it has 'b' twice in one object"),
    "digits": (b"[1" + b"0" * 20 + b"]", "it has an integer of 21 digits, expected at most 20"),
    "many digits": (b"-" + b"9" * 5000, "it has an integer of 5,000 digits, expected at most 20"),
    "lists": (b"[" * 33 + b"]" * 33, DEEP),
    "many lists": (b"[" * 500_000, DEEP),
    "objects": (b'{"a":' * 33 + b"1" + b"}" * 33, DEEP),
    "values": (b"[" + b"{}," * 1_000_000 + b"1]", "it has about 2,000,001 values, expected"),
    "texts": (b"[" + b'"a",' * 3_000_000 + b"1]", "it has about 3,000,000 values, expected"),
    "UTF-16": ("{}".encode("utf-16"), "it is truncated or no JSON (byte 0 is no UTF-8)"),
    "a mark": (b"\xef\xbb\xbf{}", "it is truncated or no JSON (Unexpected UTF-8 BOM"),
    "a surrogate": (b'"\xed\xa0\x80"', "it is truncated or no JSON (byte 1 is no UTF-8)"),
    "cut": (b'{"a": [1, 2', "it is truncated or no JSON (Expecting ',' delimiter"),
    "more": (b"{} {}", "it is truncated or no JSON (Extra data"),
    "a control": (b'"\x1b"', "it is truncated or no JSON (Invalid control character"),
}  # fmt: skip


def refused(read: Callable[[bytes], object], text: bytes) -> str:
    """Why it is unreadable, which takes no time."""
    begin = time.process_time()
    with pytest.raises(Unreadable) as caught:
        read(text)
    assert time.process_time() - begin < 10
    return str(caught.value)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", WRONG_JSON)
def test_what_is_no_json(name: str) -> None:
    text, message = WRONG_JSON[name]
    assert refused(json_of, text).startswith(message)
    if name != "empty":
        refused(json_object, b"[" + text + b"]")


def test_an_object() -> None:
    with pytest.raises(Unreadable, match="it is a JSON list, expected an object"):
        json_object(b"[]")


WRONG_TOML = {
    "lists": (b"a = " + b"[" * 100_000, DEEP),
    "tables": (b"a = " + b"{a = " * 5_000, DEEP),
    "depth": (b"a = " + b"[" * 32 + b"]" * 32, DEEP),
    "a dotted key": (b".".join([b"a"] * 100_000) + b" = 1", "a line of more than 64 dots"),
    "a dotted key of 66": (b".".join([b"a"] * 66) + b" = 1", "a line of more than 64 dots"),
    "a quoted key": (b'a.".."' * 200 + b" = 1", "a line of more than 64 dots"),
    "a dotted table": (b"[" + b".".join([b"a"] * 50_000) + b"]", "a line of more than 64 dots"),
    "a dotted key of 40": (b".".join([b"a"] * 40) + b" = 1", DEEP),
    "digits": (b"a = " + b"9" * 5000, "it is no TOML: Exceeds the limit"),
    "UTF-8": (b'a = "\xff"', "it is no TOML: byte 5 is no UTF-8"),
    "twice": (b"a = 1\na = 2", "it is no TOML: Cannot overwrite a value"),
}


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", WRONG_TOML)
def test_what_is_no_toml(name: str) -> None:
    text, message = WRONG_TOML[name]
    assert message in refused(toml_of, text)


@pytest.mark.clause("ARB-TRAIN-004")
def test_toml() -> None:
    text = 'a.b = "x...y"\n# ' + "." * 500 + '\n[[c]]\nlink = "https://a.b/c.d"\n'
    assert toml_of(text.encode()) == {"a": {"b": "x...y"}, "c": [{"link": "https://a.b/c.d"}]}


@pytest.mark.clause("ARB-TRAIN-004")
def test_a_schema() -> None:
    """1.0 and True are no integers; what matters of a message is at its end."""
    schema = {"items": {"type": "integer"}, "maxItems": 3}
    assert reading.schema_fault([1, 2], schema) is None
    for value in (1.0, True):
        assert reading.schema_fault([value], schema) == f"at $[0]: {value} is not of type 'integer'"
    fault = reading.schema_fault([7] * 10_000, schema)
    assert fault is not None
    assert fault.startswith("at $: [7, 7, ")
    assert fault.endswith("7, 7] is too long")
    assert len(fault) < 250
    assert reading.schema_fault([None] * 100_000, schema | {"maxItems": 10**6}) is not None


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    assert file_bytes(path, 4) == b"1234"
    with pytest.raises(Unreadable, match="it has 4 bytes, expected at most 3"):
        file_bytes(path, 3)
    with path.open("r+b") as file:
        file.truncate(10**12)  # without a block on the disk
    with pytest.raises(Unreadable, match=r"it has 1,000,000,000,000 bytes, expected at most 16,777,216"):
        file_bytes(path)
    with pytest.raises(IsADirectoryError):
        file_bytes(tmp_path)
    with pytest.raises(OSError, match="File name too long"):
        file_bytes(tmp_path / ("x" * 5000))
    with pytest.raises(Unreadable, match="its name has a character NUL"):
        file_bytes("a\0b")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(Unreadable, match="a pipe, a socket or a device, expected a file"):
            file_bytes(path)


def header(text: bytes, data: bytes = b"") -> io.BytesIO:
    return io.BytesIO(len(text).to_bytes(8, "little") + text + data)


def test_a_header() -> None:
    text = b'{"__metadata__": {"a": "b"}, "x": {"dtype": "I8", "shape": [2, 1], "data_offsets": [0, 2]}}'
    found, metadata, end = reading.safetensors_header(header(text, b"12"))
    assert (found[8:], metadata, end) == (text, {"a": "b"}, 8 + len(text) + 2)


ENTRY: Callable[..., bytes] = b'{"x": {"dtype": "I8", "shape": %b, "data_offsets": %b}}'.__mod__
WRONG_HEADERS = {
    "no length": (io.BytesIO(b"1234567"), "truncated: 7 bytes"),
    "length 0": (io.BytesIO(bytes(8)), "truncated: 8 bytes, the header alone ends at 8"),
    "of everything": (io.BytesIO(b"\xff" * 8 + b"{"), "not a safetensors file: it begins with"),
    "of too much": (io.BytesIO((65 << 20).to_bytes(8, "little") + b"{"), "not a safetensors file: it begins"),
    "of more than is there": (io.BytesIO((64 << 20).to_bytes(8, "little") + b"{"), "truncated: 9 bytes"),
    "the offsets": (header(ENTRY((b"[1]", b"[0, 2305843009213693952]"))), "the data end at 230584300921369"),
    "three offsets": (header(ENTRY((b"[1]", b"[0, 1, 1]"))), "1 extents and 3 offsets, expected at"),
    "negative": (header(ENTRY((b"[1]", b"[0, -1]"))), "has data_offsets [0, -1], expected int"),
    "2^63": (header(ENTRY((b"[9223372036854775808]", b"[0, 1]"))), "has shape [9223372036854775808]"),
    "a bool": (header(ENTRY((b"[true]", b"[0, 1]"))), "has shape [True], expected integers, 0 or more"),
    "rank": (header(ENTRY((b"[1,1,1,1,1,1,1,1,1]", b"[0, 1]"))), "9 extents and 2 offsets, expected"),
    "text": (header(ENTRY((b'"11"', b"[0, 1]"))), "has shape '11', expected integers, 0 or more"),
    "no entry": (header(b'{"x": 5}'), "tensor 'x' is 5, expected dtype, shape and data_offsets"),
    "more in one": (header(b'{"x": {"dtype": 1, "shape": 2, "data_offsets": 3, "y": 4}}'), "expected dtype"),
    "a name": (header(b'{"%b": {}}' % (b"x" * 257)), "name has 257 characters, expected at most 256"),
    "metadata": (header(b'{"__metadata__": []}'), "__metadata__ is [], expected an object"),
    "a list": (header(b"{}, []"), "its header cannot be read (it is truncated or no JSON"),
    "twice": (header(b'{"x": 1, "x": 2}'), "it has 'x' twice in one object"),
}  # fmt: skip


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", WRONG_HEADERS)
def test_headers_that_are_refused(name: str) -> None:
    file, message = WRONG_HEADERS[name]
    with pytest.raises(Unreadable) as caught:
        reading.safetensors_header(file)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.clause("ARB-TRAIN-004")
def test_text_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Escapes, marks of direction, surrogates, separators and ends of lines are written out; letters stay."""
    wild = "a\x1b[31m\x9b\r\n\t\x7f\u202e\u2066\u200f\u2028\ud800\ufeffé日\u200d🙂"
    plainly = r"a\x1b[31m\x9b\r\n\t\x7f\u202e\u2066\u200f\u2028\ud800\ufeffé日" + "\u200d🙂"
    assert plain(wild) == plainly
    assert lines(wild) == plainly.replace(r"\n\t", "\n\t")
    assert plain("x\u202e", instead="?") == "x?"
    assert refuse(f"{wild}{'x' * 9000}end") == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {plainly}xxx")
    assert shown.endswith("xend\n")
    assert len(shown) < LONGEST + 200
    assert said(wild).count("\\") >= 8
    assert len(said(list(range(1000)))) < 100
    assert len(said({"a": "b" * 10**6})) < 200
    assert cut("12345", 4) == "12...45"
