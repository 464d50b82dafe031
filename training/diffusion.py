"""Train ARBModel to make images.   python -m training.diffusion --samples digits.png

Samples of every class are drawn after the last step; with --resume a run that is over is only drawn from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: the checkout, not training/, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.entry import main
from training.tasks.denoising import DiffusionTask

DEFAULTS: dict[str, Any] = {
    "run": "diffusion",
    "d_model": 128,
    "batch": 32,
    "steps": 1500,
    "gain": 1.5,  # votes of more leave specks: the error at little noise is what a sample shows
}

if __name__ == "__main__":
    sys.exit(main("Train ARBModel to make images.", kind=DiffusionTask, **DEFAULTS))
