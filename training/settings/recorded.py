"""What a command line leaves open and a checkpoint has: the settings of a run that goes on, the shape of the
model that a finetuning starts from. What was given and is another value is refused."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arbitor.checkpoint import CheckpointError, read_head, ternary_options, trainer_options
from arbitor.kernels.reading import said

from ..options import Options, flag, problem, recorded
from ..recording.run_folder import RunFolder, config_mismatch
from ..tasks.corpus import TINYSHAKESPEARE
from .flags import BESIDE, TENSORS, Asked

SOURCE = {"text": "text_data", "audio": "audio_data", "images": "image_data", "diffusion": "image_data"}


def completed(asked: Asked) -> Options:
    """The options with what was not given, from the checkpoint that --resume or --init names.

    Raises ValueError for a checkpoint that cannot be read, for another shape than that of --init, and for
    options that do not go together; nothing is written. Whether what was given is the run's is seen when its
    checkpoint is taken over (`refuse_other_settings`).
    """
    if asked.options.resume:
        return _of_the_run(asked)
    if asked.options.init is not None:
        return _of_the_model(asked, asked.options.init)
    return asked.options


def resumable(options: Options) -> RunFolder:
    """The folder of the run that --resume means. Raises ValueError if there is nothing to go on from."""
    folder = RunFolder(options.runs, options.run)
    if options.no_save:
        raise ValueError("--resume needs a saved run, --no-save excludes it")
    if not folder.checkpoint_path.is_file():
        raise ValueError(f"--resume: there is no {folder.checkpoint_path}")
    return folder


def refuse_other_settings(place: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise ValueError if the config `new` of a run in `place` is not its checkpoint's, which is `old`."""
    different = differences_of(old, new)
    if different:
        text = f"{place} was started with other settings: {'; '.join(different)}"
        if any(line.startswith("options.steps ") for line in different):
            text += " (a run cannot be made longer or shorter: its schedule depends on its steps)"
        raise ValueError(text)


def differences_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs of two configs of runs, in words; not where the data were."""
    return config_mismatch(_compared(old), _compared(new))


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without the places of the data, since what was found there is in the config too, and without what is
    kept beside the run."""
    found = dict(config)
    if isinstance(config.get("options"), Mapping):
        options = config["options"].items()
        found["options"] = {name: value for name, value in options if name not in Options.CARRIED}
    return found


def _of_the_run(asked: Asked) -> Options:
    folder = resumable(asked.options)
    path = folder.checkpoint_path
    config, _ = read_head(path)
    try:
        found = trainer_options(config)
        values = recorded(found, (*Options.MUST_AGREE, *Options.CARRIED))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    options = dataclasses.replace(asked.options, **{**values, **asked.given})
    if not differences_of({"options": found}, {"options": options.identity()}):
        _refuse_problem(options)
    _refuse_data_that_are_gone(asked, options, folder.path)
    return options


def _refuse_problem(options: Options) -> None:
    wrong = problem(options)
    if wrong is not None:
        raise ValueError(wrong)


def _refuse_data_that_are_gone(asked: Asked, options: Options, run: Path) -> None:
    name = SOURCE[asked.kind]
    source = getattr(options, name)
    if name in asked.given or source in (None, TINYSHAKESPEARE) or os.path.lexists(source):
        return
    raise ValueError(
        f"the data of {run} were at {said(source)}, and there is nothing there: give --data with their place"
    )


def _of_the_model(asked: Asked, path: Path) -> Options:
    config, names = read_head(path)
    parts = {name.partition(".")[0] for name in names}
    fixed = [name for part, its in TENSORS.items() if part in parts for name in its]
    free = [name for part, its in BESIDE.items() if part in parts for name in its]
    try:
        shape = recorded(ternary_options(config), [*fixed, *free])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    other = [
        f"{name} is {shape[name]!r} in it, {flag(name)} {asked.given[name]} was asked for"
        for name in fixed
        if name in shape and asked.given.get(name, shape[name]) != shape[name]
    ]
    if other:
        raise ValueError(f"{path} has a model of another shape: {'; '.join(dict.fromkeys(other))}")
    options = dataclasses.replace(asked.options, **{**shape, **asked.given})
    _refuse_problem(options)
    return options
