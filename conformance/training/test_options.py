"""The list of what a resumed run must agree in with its beginning: every option is on it or may differ, and
both lists do what they say.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.training.trainers import threads_kept
from arbitor.training import loop, options
from arbitor.training.recording.run_folder import RunFolder
from arbitor.training.tasks import task as tasks

Options = options.Options
FIELDS = {field.name: field for field in dataclasses.fields(Options)}
SMALL: dict[str, Any] = {
    **{"d_model": 16, "heads": 2, "layers": 1, "batch": 2, "ctx": 8, "group_size": 8, "window": 8},
    **{"eval_batches": 1, "threads": 1, "backend": "torch", "device": "cpu", "log_interval": 3},
    **{"save_interval": 2, "accum_threshold": 2, "steps": 4, "run": "run"},
}
# in the place of the default or of SMALL, values that are legal beside those: of what decides the numbers
MUST: dict[str, Any] = {
    **{"frame": 8, "image_side": 4, "image_channels": 3, "patch": 4, "fold": 1, "augment": True, "times": 4},
    **{"steps": 5, "batch": 4},
    **{"ctx": 4, "accum": 2, "accumulate": "exact", "preserve_state": True, "seed": 1, "log_interval": 2},
    **{"eval_interval": 2, "eval_batches": 2, "d_model": 32, "layers": 2, "heads": 4, "window": 2},
    **{"group_size": 16, "experts": 2, "top_k": 1, "max_moe_iters": 2, "balance": 0.5, "gain": 1.0},
    **{"cooldown": 40, "vote_max": 9, "vote_rule": "sign", "scale_gain": 0.5, "accum_threshold": 3},
    **{"e_accum_threshold": 3},
    **{"control": "frozen", "baseline": "ste", "dtype": "bfloat16", "lr": 0.5, "weight_decay": 0.5},
}
# and of what does not
MAY: dict[str, Any] = {
    **{"resume": True, "new_metrics": True, "device": "auto", "threads": 2, "backend": "reference"},
    **{"no_save": True, "runs": Path("elsewhere"), "run": "another", "report": Path("report.json")},
    **{
        "save_interval": 1,
        "keep_interval": 2,
        "checkpoint_format": "dense",
        "init": Path("init"),
        "samples": Path("a.png"),
    },
}
# and of what is compared by what is found there
SOURCES: dict[str, Any] = {"text_data": "another.txt", "audio_data": "a.wav", "image_data": "images"}
OTHER = MUST | MAY | SOURCES
# of another place, from another beginning or without a file: what these do is tested where they are
ELSEWHERE = {"resume", "no_save", "runs", "run", "init"}


@pytest.fixture(autouse=True)
def _quiet(no_picture: None) -> Iterator[None]:
    with threads_kept():
        yield


def made(folder: Path, **changes: Any) -> Any:
    text = folder / "text.txt"
    text.write_text("a run that goes on; " * 40)
    return Options(**(SMALL | {"runs": folder / "runs", "text_data": str(text)} | changes))


def run(chosen: Any, stop_at: int | None = None) -> str:
    """The state hash that a run ends in; it is left as a kill would leave it in step `stop_at`."""
    honest = loop.Trainer._step

    def step(trainer: Any) -> None:
        if trainer.done == stop_at:
            raise KeyboardInterrupt
        honest(trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "_step", step)
        return str(loop.train(chosen, tasks.TextTask.of(chosen)).digest)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a run that was killed after step 2, and the hash that it would have ended in."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch, threads_kept():
        patch.setattr(RunFolder, "plot", lambda *_: None)
        whole = run(made(folder, no_save=True))
        with pytest.raises(KeyboardInterrupt):
            run(made(folder), stop_at=3)
    return folder, whole


@pytest.fixture
def begun(first: tuple[Path, str]) -> Iterator[Path]:
    """That run as it was."""
    folder, kept = first[0], first[0] / "kept"
    if not kept.exists():
        shutil.copytree(folder / "runs", kept)
    yield folder
    shutil.rmtree(folder / "runs")
    shutil.copytree(kept, folder / "runs")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "runs" / "run").iterdir()}


@pytest.mark.clause("ARB-TRAIN-002")
def test_every_option_is_on_one_list() -> None:
    """A new one is on neither until somebody has thought about it. Each has another value to be tried."""
    assert sorted([*Options.MAY_DIFFER, *Options.MUST_AGREE, *Options.SOURCES]) == sorted(FIELDS)
    assert sorted(Options.SOURCES) == sorted(SOURCES)
    assert sorted(Options.MAY_DIFFER) == sorted(MAY)
    assert sorted(Options.MUST_AGREE) == sorted(MUST)
    used = {name: (SMALL | {"runs": None}).get(name, field.default) for name, field in FIELDS.items()}
    assert [name for name, value in used.items() if OTHER[name] == value] == []
    assert Options().identity().keys() == {*Options.MUST_AGREE, *Options.CARRIED}


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("name", Options.MUST_AGREE)
def test_what_must_agree(begun: Path, name: str) -> None:
    """Another value is refused by name, and nothing on disk changes; --window 8 and then 2, for one."""
    before, value = contents(begun), OTHER[name]
    chosen = made(begun, resume=True, **{name: value})
    with pytest.raises(ValueError, match="was started with other settings: ") as refused:
        loop.train(chosen, tasks.TextTask.of(chosen))
    old = getattr(made(begun), name)
    shown = [json.loads(json.dumps(each)) for each in (old, value)]
    assert f"options.{name} is {shown[0]!r} in the run, {shown[1]!r} was asked for" in str(refused.value)
    assert contents(begun) == before


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("name", Options.SOURCES)
def test_where_the_data_are(first: tuple[Path, str], begun: Path, name: str) -> None:
    """Another place is no other setting; the same bytes by another name are other data."""
    assert run(made(begun, resume=True, **{name: str(begun / "." / "text.txt")})) == first[1]
    before, other = contents(begun), begun / OTHER["text_data"]
    other.write_bytes((begun / "text.txt").read_bytes())
    chosen = made(begun, resume=True, text_data=str(other))
    said = "other settings: corpus.name is 'text.txt' in the run, 'another.txt' was asked for"
    with pytest.raises(ValueError, match=said):
        loop.train(chosen, tasks.TextTask.of(chosen))
    assert contents(begun) == before


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("name", [name for name in Options.MAY_DIFFER if name not in ELSEWHERE])
def test_what_may_differ(first: tuple[Path, str], begun: Path, name: str) -> None:
    """The run goes on with another value, to the state of one that was never stopped."""
    value = begun / OTHER[name] if isinstance(OTHER[name], Path) else OTHER[name]
    assert run(made(begun, resume=True, **{name: value})) == first[1]
    if name == "checkpoint_format":
        found = load_checkpoint(begun / "runs" / "run" / "checkpoint.safetensors")
        assert found.fmt == "dense"


@pytest.mark.clause("ARB-TRAIN-002")
def test_a_run_that_was_moved(first: tuple[Path, str], begun: Path, tmp_path: Path) -> None:
    """To another folder and another name, by hand."""
    (begun / "runs" / "run").rename(tmp_path / "another")
    assert run(made(begun, resume=True, runs=tmp_path, run="another")) == first[1]


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("known", ["one less", "one more"])
def test_a_run_of_another_version(tmp_path: Path, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That knew other options: what it did without one, or with one, is not known here."""
    agreed = made(tmp_path).identity()
    theirs = agreed | {"new": 1} if known == "one more" else {n: v for n, v in agreed.items() if n != "seed"}
    with monkeypatch.context() as patch:
        patch.setattr(Options, "identity", lambda _: theirs)
        with pytest.raises(KeyboardInterrupt):
            run(made(tmp_path), stop_at=3)
    chosen = made(tmp_path, resume=True)
    said = "new is 1 in the run, none was" if known == "one more" else "seed is not in the run, 0 was"
    with pytest.raises(ValueError, match=f"options.{said} asked for"):
        loop.train(chosen, tasks.TextTask.of(chosen))
