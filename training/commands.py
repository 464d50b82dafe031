"""The trainers by name: what each says of itself, the kind of its data, and its defaults.

`arbitor train`, `arbitor finetune` and the files beside this one all take them from here. torch is imported
when a run starts: a command line is refused, and its help shown, without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arbitor.refusal import Parser

from .settings.flags import parse


@dataclass(frozen=True)
class Command:
    """One trainer. `kind` is that of the data (text, audio, images, diffusion), `defaults` are fields of
    Options in the place of the record's."""

    description: str
    kind: str = "text"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    finetuning: bool = False

    def main(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Run it on a command line, that of the process by default; gives the exit status.

        That is 2 for what was refused before the first step, with every file as it was, 1 for what failed
        after it, 130 for a run that was interrupted and can be gone on with.
        """
        asked = parse(self.description, arguments, self.kind, self.finetuning, prog, **self.defaults)
        from .entry import run

        return run(asked)


def _finetuner(description: str, name: str) -> Command:
    """The command that starts from a checkpoint, with the defaults of the trainer of that name."""
    other = TRAIN[name]
    return Command(description, other.kind, {**other.defaults, "run": f"finetuning-{name}"}, True)


PRETRAIN = Command("Pretrain ARBModel on bytes.", defaults={"run": "pretrain"})
TRAIN = {
    "text": Command("Train ARBModel on text.", defaults={"run": "text"}),
    "vision": Command(
        "Train ARBModel to tell images apart.",
        "images",
        {"run": "vision", "d_model": 64, "batch": 32, "steps": 700, "gain": 2.0, "cooldown": 60},
    ),
    # Half the width of the text trainers: a frame has 16 * 256 logits, most of the time goes into the head.
    "audio": Command(
        "Train ARBModel on sound.",
        "audio",
        {"run": "audio", "d_model": 64, "ctx": 32, "batch": 16, "steps": 400, "gain": 2.0, "cooldown": 60},
    ),
    "diffusion": Command(
        "Train ARBModel to make images.",
        "diffusion",
        {"run": "diffusion", "d_model": 128, "batch": 32, "steps": 1500, "gain": 3.0, "cooldown": 60},
    ),
}
FINETUNE = {
    "text": _finetuner("Finetune ARBModel on text.", "text"),
    "vision": _finetuner("Finetune ARBModel to tell images apart.", "vision"),
    "audio": _finetuner("Finetune ARBModel on sound.", "audio"),
    "diffusion": _finetuner("Finetune ARBModel to make images.", "diffusion"),
}
COMMANDS = {
    "train": ("train a model on text, images or sound (docs/training.md)", TRAIN),
    "finetune": ("train on from the checkpoint of a model, on data of any kind", FINETUNE),
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Name `arbitor train` and `arbitor finetune` in the list of all; `train` reads what follows them."""
    for name, (help, _) in COMMANDS.items():
        commands.add_parser(name, help=help)


def train(name: str, words: Sequence[str]) -> int:
    """Run the command `name` on the words behind it, a kind of data and flags; gives the exit status."""
    help, kinds = COMMANDS[name]
    parser = Parser(
        prog=f"arbitor {name}",
        description=f"{help[0].upper()}{help[1:]}.",
        epilog="KIND --help shows its flags.",
    )
    parser.add_argument("kind", choices=kinds, metavar="KIND", help=", ".join(kinds))
    kind = parser.parse_args(words[:1]).kind
    return kinds[kind].main(words[1:], f"arbitor {name} {kind}")
