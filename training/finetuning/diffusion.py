"""Finetune ARBModel to make images.   python -m training.finetuning.diffusion --init CHECKPOINT"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: the checkout, not this folder, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from training.diffusion import DEFAULTS
from training.entry import main
from training.tasks.denoising import DiffusionTask

if __name__ == "__main__":
    own = DEFAULTS | {"run": "finetuning-diffusion"}
    sys.exit(main("Finetune ARBModel to make images.", kind=DiffusionTask, finetuning=True, **own))
