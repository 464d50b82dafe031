"""Finetune ARBModel on sound.   python -m training.finetuning.audio --init runs/a/checkpoint.safetensors"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: the checkout, not this folder, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from training.audio import DEFAULTS
from training.entry import main
from training.tasks.sound import AudioTask

if __name__ == "__main__":
    own = DEFAULTS | {"run": "finetuning-audio"}
    sys.exit(main("Finetune ARBModel on sound.", kind=AudioTask, finetuning=True, **own))
