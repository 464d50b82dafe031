"""A recorded run made again, from its beginning or from a checkpoint that it has kept."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from arbitor.checkpoint import Checkpoint, load_checkpoint, ternary_options
from arbitor.kernels import registry

from ..entry import TASKS
from ..loop import Trainer, prepared
from ..options import Options, problem, recorded
from ..recording.digests import Digests, as_text
from ..recording.recorder import digests_of_batches
from ..recording.run_folder import CHECKPOINT, KEPT
from ..settings.recorded import differences_of
from .record import Line, Record

NAME = re.compile(r"step-([0-9]{8,})\.safetensors")  # of a checkpoint that was kept


@dataclasses.dataclass(frozen=True)
class Where:
    """What makes the run again: backend, device, CPU threads, the place of the data; None is the run's own
    or the default."""

    backend: str | None = None
    device: str = "auto"
    threads: int | None = None
    data: str | None = None


def config_of(folder: Path) -> Mapping[str, Any]:
    """config.json of a run. Raises ValueError for one that is not there, or not whole, or a twin's."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
        options = ternary_options(config)
        expected = {*Options.MUST_AGREE, *Options.CARRIED}
        other = sorted(expected - set(options)) or sorted(set(options) - expected)
        if other:
            raise ValueError(f"its options {'have' if other[0] in options else 'lack'} {other[0]!r}")
        if not isinstance(config.get("corpus"), dict) or "sha256" not in config["corpus"]:
            raise ValueError("it does not say what the data were")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return dict(config)


def checkpoints_of(folder: Path) -> dict[int, Path]:
    """Files of state by step, in order: those that were kept, and the last one at its own step."""
    names = ((path, NAME.fullmatch(path.name)) for path in sorted((folder / KEPT).glob("step-*")))
    found = {int(name[1]): path for path, name in names if name and path.is_file()}
    last = folder / CHECKPOINT
    if last.is_file():
        found.setdefault(_loaded(last).step, last)
    return dict(sorted(found.items()))


def _loaded(path: Path) -> Checkpoint:
    try:
        return load_checkpoint(path)
    except ValueError as error:
        raise ValueError(f"{error}; without it, moved away, an audit goes on from an earlier one") from error


def options_of(folder: Path, kind: str, where: Where) -> Options:
    """The options of the run, on another backend and device, saving nothing. Raises ValueError for ones that
    this version does not know."""
    try:
        values = recorded(ternary_options(config_of(folder)), (*Options.MUST_AGREE, *Options.SOURCES))
        if where.data is not None:
            source = {"text": "text_data", "audio": "audio_data"}.get(kind, "image_data")
            values[source] = where.data
        values |= {"log_interval": 0, "eval_interval": 0, "no_save": True, "threads": where.threads}
        options = Options(**values, backend=where.backend, device=where.device)
        wrong = problem(options)
    except ValueError as error:
        where_said = "" if str(error).startswith(str(folder)) else f"{folder / 'config.json'}: "
        raise ValueError(f"{where_said}{error}") from error
    if wrong is not None:
        raise ValueError(f"{folder / 'config.json'}: {wrong}")
    return options


class Replay:
    """The run on its data, at a step; `begin` puts it at one, `update` makes the next update."""

    def __init__(self, folder: Path, record: Record, trainer: Trainer) -> None:
        self.folder, self._config, self._record, self._trainer = folder, config_of(folder), record, trainer
        self.checkpoints = checkpoints_of(folder)
        self.recorder = trainer.record()
        self._start = {name: tensor.clone() for name, tensor in trainer.learner.state().items()}

    @property
    def step(self) -> int:
        """Where the replay is."""
        return self._trainer.done

    @property
    def other_data(self) -> str | None:
        """In words, that the data do not have the hash of those of the run, or None."""
        task, own = self._trainer.task, self._config["corpus"]["sha256"]
        if own == task.sha256:
            return None
        return f"the data, {task.name}, have the sha256 {task.sha256[:16]}, those of the run {str(own)[:16]}"

    @property
    def keeps_kv_state(self) -> bool:
        """Whether the run can be made again from its beginning alone."""
        return self._trainer.options.preserve_state

    @property
    def steps(self) -> int:
        """Of the whole run, made or not."""
        return self._trainer.options.steps

    @property
    def made_by(self) -> str:
        """What makes the run again, in words."""
        backend = self._trainer.result.backend
        device = self._trainer.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        return f"{backend} on {name}, torch {torch.__version__}"

    def sources(self, step: int) -> list[int]:
        """Steps at or before `step` from which the run can be made again, the nearest last."""
        own = [0] if "init" not in self._config else []  # the model of --init is not here
        kept = [] if self.keeps_kv_state else [*self.checkpoints]  # KV state is in none
        return sorted({at for at in (*own, *kept) if at <= step})

    def begin(self, step: int) -> Line:
        """Be at a step of `sources` -> what the record should say of the state there."""
        tensors = self._start if step == 0 and step not in self.checkpoints else self.kept(step).tensors
        device = self._trainer.device
        self._trainer.learner.load_state({name: tensor.to(device) for name, tensor in tensors.items()})
        self._trainer.learner.model.reset_runtime_state()
        self._trainer.done = step
        _, line = self.recorder.opening(step, self._trainer.learner.recorded())
        return Line.of(line, self._record.names)

    def update(self) -> Line:
        """Make the next update -> its line."""
        self._trainer._step()
        (line,) = self.recorder.lines()
        return Line.of(line, self._record.names)

    def batch(self, step: int) -> str:
        """The digest of the batches of the update that ends at `step`, drawn and not trained on."""
        task, steps = self._trainer.task, range(step - self._trainer.parts, step)
        (found,) = digests_of_batches([[task.batch(at) for at in steps]])
        return found

    def kept(self, step: int) -> Checkpoint:
        """The checkpoint of a step."""
        return _loaded(self.checkpoints[step])

    def files(self) -> Iterator[tuple[Path, Checkpoint]]:
        """Every checkpoint of the run. Raises ValueError for one that was made with other options."""
        last = self.folder / CHECKPOINT
        for path in dict.fromkeys([*self.checkpoints.values(), *([last] if last.is_file() else [])]):
            checkpoint = _loaded(path)
            theirs = {name: value for name, value in checkpoint.config.items() if name != "pending"}
            other = differences_of(theirs, self._config)
            if other:
                raise ValueError(f"{path} was made with other settings than config.json says: {other[0]}")
            yield path, checkpoint

    def state(self) -> dict[str, torch.Tensor]:
        """What is recorded of the state, at this step."""
        return self._trainer.learner.recorded()

    def line_of(self, checkpoint: Checkpoint) -> Line:
        """What the record should say of a checkpoint's state. Raises ValueError if it lacks a tensor."""
        lacking = [name for name in self._record.names if name not in checkpoint.tensors]
        if lacking:
            raise ValueError(f"the checkpoint of step {checkpoint.step} has no {lacking[0]}")
        own = {name: checkpoint.tensors[name] for name in self._record.names}
        text = as_text(Digests(own, registry.select("torch")).of(own))
        return Line.of({"step": checkpoint.step, "state": text}, self._record.names)


@contextmanager
def replaying(folder: Path, record: Record, where: Where) -> Iterator[Replay]:
    """The run in a folder, ready to be made again. Raises ValueError or RuntimeError for what cannot be."""
    options = options_of(folder, record.kind, where)
    if record.kind not in TASKS:
        raise ValueError(f"{record.path}, line 1: kind {record.kind!r}, expected one of {', '.join(TASKS)}")
    task = TASKS[record.kind].of(options)
    with prepared(options, task) as trainer:
        replay = Replay(folder, record, trainer)
        if tuple(replay.state()) != record.names:
            raise ValueError(f"{record.path} has other tensors than a model of {folder / 'config.json'}")
        yield replay
