"""A stranger's module in a process of its own: what it is sent, what it may answer, what it cannot reach."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import trajectory
from arbitor.conformance.operations.common import int8
from arbitor.judge.asked import NotUsable, asked_for
from arbitor.kernels import eager, registry
from arbitor.kernels.plugins import apart, keeper, sources, wire
from arbitor.kernels.plugins.answers import WrongAnswer
from arbitor.kernels.plugins.apart import BackendWarning
from arbitor.kernels.plugins.program import ProgramFailed

pytestmark = pytest.mark.usefixtures("may_write")

CAPABILITIES = {"version": 1, "operations": ["pack"], "formats": ["codes"], "devices": ["cpu"]}
HEAD = f"CAPABILITIES = {CAPABILITIES!r}\n"
TRITS = int8([[1, 0, -1, 1, 0]])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def backend(text: str) -> registry.Backend:
    """A file of a name of its own, for a file is loaded once."""
    path = Path(f"mine{len(list(Path().iterdir()))}.py").resolve()
    path.write_text(HEAD + text)
    return registry.select(str(path))


def told(text: str) -> str:
    """What a module says of its surroundings, as the message of an error."""
    with pytest.raises(ValueError, match=r"^said ") as caught:
        backend(f"import os\ndef pack(trits):\n    raise ValueError(f'said {{{text}}}')").pack(TRITS)
    return str(caught.value).removeprefix("said ")


def test_it_is_imported_elsewhere() -> None:
    assert told("os.getpid()") != str(os.getpid())
    assert told('[n for n in os.environ if n.startswith("PYTEST")]') == "[]"


@pytest.mark.parametrize(
    ("trits", "strides"),
    [
        (TRITS.expand(3, 5), (0, 1)),
        (torch.arange(12, dtype=torch.int8).remainder(3).sub(1).view(4, 3).t(), (1, 3)),
        (torch.zeros(9, 11, dtype=torch.int8)[1:8:2, 2:9:3], (22, 3)),
        (torch.zeros(64, 64, dtype=torch.int8), (64, 1)),
    ],
)
def test_a_layout_is_kept(trits: torch.Tensor, strides: tuple[int, ...]) -> None:
    """Shapes, strides and elements."""
    found = backend("def pack(trits):\n    raise ValueError(f'{trits.stride()} sum {trits.sum()}')")
    with pytest.raises(ValueError, match=re.escape(f"{strides} sum {trits.sum()}")):
        found.pack(trits)


def test_memory_grows() -> None:
    """A larger call after a smaller one, and a smaller one again."""
    there = backend("from arbitor.kernels import eager\ndef pack(trits): return eager.pack(trits)")
    for rows in (3, 3_000_000, 5, 6_000_000, 7):
        trits = torch.arange(5 * rows).remainder(3).sub(1).to(torch.int8).view(rows, 5)
        assert torch.equal(there.pack(trits), eager.pack(trits))


def test_what_is_written_beside_an_argument_comes_back() -> None:
    """The whole storage is: what lies before the tensor, and behind it."""
    text = (
        "import torch\n"
        "def pack(trits):\n"
        "    torch.empty(0, dtype=torch.int8).set_(trits.untyped_storage()).fill_(7)\n"
        "    return torch.zeros(1, 2, dtype=torch.uint8)\n"
    )
    around = torch.zeros(3, 7, dtype=torch.int8)
    around[1, 1:6] = TRITS
    backend(text).pack(around[1:2, 1:6])
    assert around.unique().tolist() == [7]


def test_what_it_does_to_its_arguments_is_seen_and_no_more() -> None:
    """Written where the tensor lies; once the answer is there, nothing more."""
    text = """
import threading, time, torch
def pack(trits):
    trits.fill_(0)
    def later():
        time.sleep(0.3)
        trits.fill_(1)
    threading.Thread(target=later).start()
    return torch.zeros(1, 2, dtype=torch.uint8)
"""
    mine = TRITS.clone()
    assert backend(text).pack(mine).tolist() == [[0, 0]]
    time.sleep(0.6)
    assert mine.tolist() == [[0] * 5]


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        ("ValueError('trits[0] is 7')", ValueError, r"trits\[0\] is 7"),
        ("TypeError('no')", TypeError, "no"),
        ("OSError('no disk')", OSError, "no disk"),
        ("UnicodeDecodeError('utf-8', b'', 0, 1, 'odd')", apart.RemoteError, "UnicodeDecodeError: 'utf-8'"),
        ("SystemExit(0)", apart.RemoteError, "SystemExit: 0"),
        ("type('Mine', (BaseException,), {})('x')", apart.RemoteError, "Mine: x"),
        ("type('Odd', (Exception,), {'__str__': None})()", apart.RemoteError, "cannot be shown"),
    ],
)
def test_what_it_raises_is_an_answer(raised: str, kind: type[Exception], message: str) -> None:
    found = backend(f"def pack(trits):\n    raise {raised}")
    for _ in range(2):
        with pytest.raises(kind, match=message):
            found.pack(TRITS)


def test_an_end_costs_one_call() -> None:
    text = """
import os, torch
def pack(trits):
    if len(trits) == 1:
        os._exit(3)
    return (trits[:, :1] + 1).to(torch.uint8)
"""
    found = backend(text)
    with pytest.raises(ProgramFailed, match="in pack it ended with status 3"):
        found.pack(TRITS)
    assert found.pack(int8([[0], [1]])).tolist() == [[1], [2]]


LEAVES = """
import os, subprocess, sys
def pack(trits):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
    open({file!r}, "w").write(str(child.pid))
    {end}
    raise ValueError("left")
"""


@pytest.mark.parametrize("end", ["pass", "os._exit(0)"])
def test_nothing_of_it_stays(end: str, tmp_path: Path) -> None:
    """What has left its session neither, and what holds its pipes does not hide that it has ended."""
    file = tmp_path / "child"
    found = backend(LEAVES.format(file=str(file), end=end))
    started = time.monotonic()
    with pytest.raises((ValueError, ProgramFailed)):
        found.pack(TRITS)
    assert time.monotonic() - started < 20
    found.module.PROCESS.stop()
    assert not Path("/proc", file.read_text()).exists()


@pytest.mark.skipif(not keeper.version(), reason="this kernel has no Landlock")
@pytest.mark.parametrize(
    "reach",
    [
        "open(SUITE + '/judge/compare.py').read()",
        "open(SUITE + '/judge/compare.py', 'a').close()",
        "open(SUITE + '/new.py', 'w').close()",
        "open(SUITE + '/../reference/limits.py').read()",
        "open(SUITE + '/../kernels/registry.py', 'a').close()",
        "open(torch.__file__, 'a').close()",
        "open(f'/proc/{os.getppid()}/mem', 'r+b').close()",
        "os.kill(os.getppid(), 9)",
        "os.rename(SUITE, SUITE + '2')",
        "open(SUITE + '/../.git/config', 'a').close()",
        "open(SUITE + '/../training/__init__.py', 'a').close()",
        "open(SUITE + '/../training/new.py', 'w').close()",
        "open(SUITE + '/../new.py', 'w').close()",
        "open(SUITE + '/../.new/config', 'a').close() if os.path.exists(SUITE + '/../.new') "
        "else os.mkdir(SUITE + '/../.new')",
        "open(os.path.expanduser('~/.new'), 'w').close()",
        "open('/tmp/new', 'w').close()",
        "open('/proc/sys/kernel/core_pattern', 'w').close()",
    ],
)
def test_what_is_out_of_reach(reach: str) -> None:
    suite = str(Path(wire.__file__).resolve().parents[2] / "conformance")
    for name in ("training", ".git"):
        if f"/{name}/" in reach and not Path(suite, "..", name).is_dir():
            pytest.skip(f"there is no {name}: this needs a checkout")
    if "os.kill" in reach and keeper.version() < keeper.SIGNALS_FROM:
        pytest.skip("this kernel's Landlock does not keep it from signals")
    text = f"import os, torch\nSUITE = {suite!r}\ndef pack(trits):\n    {reach}\n"
    with pytest.raises(PermissionError):
        backend(text).pack(TRITS)


def test_the_memory_cannot_be_made_smaller() -> None:
    memory = wire.Memory.new()
    memory.reserve(10)
    with pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, 0)


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "uint8", "shape": [1, 2], "device": "cpu", "start": 0} | changes


@pytest.mark.parametrize(
    "said",
    [
        None, {}, [], [entry(), entry()], ["x"], [entry(more=1)], [entry(dtype="object")], [entry(dtype=3)],
        [entry(shape="22")], [entry(shape=[True, 2])], [entry(shape=[-1, 2])], [entry(shape=[1.0])],
        [entry(shape=[1] * 99)], [entry(shape=[1 << 62, 1 << 62])], [entry(start=-1)], [entry(start=1 << 70)],
        [entry(start=True)], [entry(start=None)], [entry(device="meta")], [entry(device=["cpu"])],
        [entry(shape=[1 << 70, 0])], [entry(device="cuda")],
    ],
)  # fmt: skip
def test_what_is_no_result(said: Any) -> None:
    memory = wire.Memory.new()
    memory.reserve(100)
    with pytest.raises(WrongAnswer):
        wire.results_from(said, ["codes"], memory, "pack", "cpu")


@pytest.mark.parametrize("said", [None, "x", {}, {"kind": 3, "message": "x"}, {"kind": "ValueError"}])
def test_what_is_no_error(said: Any) -> None:
    with pytest.raises(WrongAnswer):
        raise apart.exception_of(said)


def test_red_zones_are_looked_at_over_there() -> None:
    text = """
import torch
def pack(trits):
    made = torch.zeros(1, 2, dtype=torch.uint8)
    memory = torch.empty(0, dtype=torch.uint8).set_(made.untyped_storage())
    memory[made.storage_offset() + 2] = 1
    return made
"""
    found = backend(text)
    with apart.poisoned(0xA5), pytest.raises(AssertionError, match="1 bytes of the red zone behind it"):
        found.pack(TRITS)


def test_a_model_trains_through_it(target: Target) -> None:
    """Every operation over the wire, and the losses and the state of a run in this process."""
    Path("same.py").write_text("from arbitor.kernels.eager import *\n")
    name = str(Path("same.py").resolve())
    assert trajectory(target, name, 3) == trajectory(target, "torch", 3)


def test_what_judges_refuses_to_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.py").write_text(HEAD + "def pack(trits): raise ValueError('x')\n")
    with pytest.raises(NotUsable, match=r"ARB_BACKEND_INSIDE=1 says that 'mine\.py' is trusted"):
        asked_for("mine.py", "cpu", judges=False)
    monkeypatch.setenv(sources.INSIDE, "1")
    with pytest.raises(NotUsable, match=r"ARB_BACKEND_INSIDE=1 would import 'mine\.py' into the process"):
        asked_for("mine.py", "cpu")
    monkeypatch.setenv(sources.INSIDE, "yes")
    with pytest.raises(NotUsable, match="ARB_BACKEND_INSIDE is 'yes', expected 0 or 1"):
        asked_for("torch", "cpu")


def test_it_has_a_place_for_what_it_compiles() -> None:
    """And temporary files; a compiler's own cache would be code that the judge loads."""
    text = (
        "import os, tempfile\n"
        "from arbitor.kernels import eager\n"
        "def pack(trits):\n"
        "    caches = [os.environ[name] for name in ('XDG_CACHE_HOME', 'TRITON_CACHE_DIR')]\n"
        "    for folder in (*caches, tempfile.gettempdir()):\n"
        "        os.makedirs(folder, exist_ok=True)\n"
        "        with tempfile.TemporaryFile(dir=folder) as file:\n"
        "            file.write(b'x')\n"
        "    open('/dev/null', 'w').close()\n"
        "    return eager.pack(trits)\n"
    )
    assert torch.equal(backend(text).pack(TRITS), eager.pack(TRITS))


def test_a_result_may_be_a_part_of_its_memory() -> None:
    """Of a larger buffer, of which the rest is nobody's: it is not taken for one that changed."""
    there = backend(
        "import torch\n"
        "from arbitor.kernels import eager\n"
        "def pack(trits):\n"
        "    big = torch.empty(64, dtype=torch.uint8)\n"
        "    small = big[3 : 3 + eager.pack(trits).numel()].view(eager.pack(trits).shape)\n"
        "    return small.copy_(eager.pack(trits))\n"
    )
    for _ in range(3):
        assert torch.equal(there.pack(TRITS), eager.pack(TRITS))


@pytest.mark.parametrize("raised", ["ValueError(float('nan'))", "ValueError(10**400)", "KeyError(('a', 1))"])
def test_an_exception_of_any_arguments_arrives(raised: str) -> None:
    """Also of those that JSON has not."""
    with pytest.raises((ValueError, KeyError)):
        backend(f"def pack(trits):\n    raise {raised}\n").pack(TRITS)


def test_what_it_says_is_no_command_to_a_terminal() -> None:
    """In warnings, messages and tracebacks."""
    there = backend(
        "import warnings\n"
        "from arbitor.kernels import eager\n"
        "calls = []\n"
        "def pack(trits):\n"
        "    calls.append(0)\n"
        "    if len(calls) > 1: raise KeyError('\\x1b]0;title\\x07', '\\u202e')\n"
        "    warnings.warn('\\x1b[2J')\n"
        "    return eager.pack(trits)\n"
    )
    with pytest.warns(BackendWarning) as warned:
        there.pack(TRITS)
    with pytest.raises(KeyError, match="title") as caught:
        there.pack(TRITS)
    said = [str(caught.value), *caught.value.__notes__, *(str(w.message) for w in warned)]
    assert len(said) == 3
    assert not any(mark in words for words in said for mark in "\x1b\x07\u202e")


def test_an_answer_as_deep_as_it_is_long() -> None:
    """What writes the answers itself gets one sentence."""
    text = (
        "import os\n"
        "def pack(trits):\n"
        "    deep = b'[' * 60_000\n"
        "    for descriptor in range(3, 60):\n"
        "        try: os.write(descriptor, deep + b'\\n')\n"
        "        except OSError: pass\n"
    )
    with pytest.raises(ProgramFailed, match="expected a JSON object on one line"):
        backend(text).pack(TRITS)


def test_a_warning_of_a_call_that_raises_arrives() -> None:
    text = "import warnings\ndef pack(trits):\n    warnings.warn('odd')\n    raise ValueError('no')\n"
    with pytest.warns(BackendWarning, match="odd"), pytest.raises(ValueError, match=r"^no$"):
        backend(text).pack(TRITS)


HELLO = """
import json, os
for descriptor in range(3, 60):
    try: os.write(descriptor, json.dumps({}).encode() + b"\\n")
    except OSError: pass
"""


@pytest.mark.parametrize(
    "said",
    [
        {"id": 0, "protocol": 1},
        {"id": 0, "protocol": 1, "module": "m", "arrays": "torch", "operations": ["nonsense"], "answers": []},
        {"id": 0, "protocol": 1, "module": "m", "arrays": "torch", "operations": [], "answers": ["exit"]},
        {"id": 0, "protocol": 2, "error": {"kind": "OSError", "message": "no"}},
        {"id": 0, "error": "no"},
    ],
)
def test_a_hello_of_its_own(said: dict[str, Any]) -> None:
    """Written before the server's: one sentence."""
    with pytest.raises(registry.BackendUnavailable, match="its process failed: "):
        backend(HELLO.format(said))


@pytest.mark.parametrize("ways", ["None", "{'nonsense': {}}", "{'pack': 3}", "[1]"])
def test_configurations_that_are_none(ways: str) -> None:
    """Said by the module in another way than asked for."""
    there = backend(f"def pack(trits): ...\ndef configurations(device): return {ways}\n")
    with pytest.raises((WrongAnswer, AttributeError, TypeError)):
        registry.configurations(there.name, "cpu")


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a backend was found, when it has to be started again."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    there = backend("import os\ndef pack(trits): os._exit(3)\n")
    with pytest.raises(ProgramFailed, match="status 3"):
        there.pack(TRITS)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(ProgramFailed, match="cannot be started: No such file or directory"):
        there.pack(TRITS)


def test_what_it_works_on_is_known() -> None:
    """Of lists or NumPy's arrays: not what this side hands over."""
    assert backend("ARRAYS = 'numpy'\ndef pack(trits): ...\n").arrays == "numpy"
