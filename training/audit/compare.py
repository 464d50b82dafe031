"""`arbitor diff`: where two recorded runs part. Exit status as of `arbitor audit`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arbitor.checkpoint import load_checkpoint
from arbitor.refusal import refuse, sentence_of

from ..keeping import TROUBLE
from .command import AGREE, DIFFER
from .elements import differences
from .record import Record, first_difference, read_record
from .replay import checkpoints_of, config_of


def diff(first: Path, second: Path) -> int:
    """Compare two recorded runs line by line; gives the exit status."""
    try:
        mine, theirs = (read_record(folder) for folder in (first, second))
        for folder, record in ((first, mine), (second, theirs)):
            print(f"{folder}: steps {record.first} to {record.last}, made by {record.made_by}")
        for sentence in _settings(first, second):
            print(sentence)
        found = _parting(first, second, mine, theirs)
        print(*found, sep="\n")
        return DIFFER if len(found) > 1 or not found[0].startswith("all ") else AGREE
    except TROUBLE as error:
        return refuse(sentence_of(error))


def _settings(first: Path, second: Path) -> Iterator[str]:
    """Options that the runs do not share, and whether their data are the same."""
    mine, theirs = config_of(first), config_of(second)
    for name in sorted({*mine["options"], *theirs["options"]}):
        values = [repr(config["options"].get(name)) for config in (mine, theirs)]
        if values[0] != values[1]:
            yield f"{name} is {values[0]} in {first} and {values[1]} in {second}"
    if mine.get("corpus") != theirs.get("corpus"):
        yield "they have other data"


def _parting(first: Path, second: Path, mine: Record, theirs: Record) -> list[str]:
    if mine.names != theirs.names:
        more = (({*mine.names} - {*theirs.names}, first), ({*theirs.names} - {*mine.names}, second))
        alone = [f"{folder} alone has {', '.join(sorted(names)[:3])}" for names, folder in more if names]
        return ["they have other tensors", *(alone or ["the same in another order"])]
    common = [step for step in mine.lines if step in theirs.lines]
    if not common:
        return ["they have no step in common"]
    losses = mine.by["ranks"] == theirs.by["ranks"]
    for step in common:
        wrong = first_difference(mine.lines[step], theirs.lines[step], losses)
        if wrong is not None:
            return [f"step {step}: {wrong} differs", *_beside(first, second, step, mine.names)]
    return [f"all {len(common)} common steps agree, {common[0]} to {common[-1]}"]


def _beside(first: Path, second: Path, step: int, names: tuple[str, ...]) -> list[str]:
    """Elements of both runs, where both have kept a checkpoint next."""
    kept = [checkpoints_of(folder) for folder in (first, second)]
    later = [at for at in kept[0] if at >= step and at in kept[1]]
    if not later:
        return ["no later step has a checkpoint of both, so no elements can be shown (--keep-interval N)"]
    files = (load_checkpoint(found[later[0]]).tensors for found in kept)
    states = ({name: tensors[name] for name in names} for tensors in files)
    return [f"at step {later[0]}, {first} and {second}:", *(f"  {line}" for line in differences(*states))]
