"""Finetune ARBModel to make images.   python -m training.finetuning.diffusion --init CHECKPOINT"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: the checkout, not this folder, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from arbitor.training.commands import FINETUNE

if __name__ == "__main__":
    sys.exit(FINETUNE["diffusion"].main())
