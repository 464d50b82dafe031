"""A stranger's module in a process of its own: what it is sent, what it may answer, what it cannot reach."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import trajectory
from arbitor.conformance.operations.common import int8
from arbitor.conformance.tools.strangers.modules import HEAD, TRITS, backend, told
from arbitor.judge.asked import NotUsable, asked_for
from arbitor.kernels import eager
from arbitor.kernels.plugins import apart, keeper, sources, wire
from arbitor.kernels.plugins.program import ProgramFailed

pytestmark = pytest.mark.usefixtures("may_write")


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
