"""Train ARBModel to tell images apart.   python -m training.vision --image-data my_folder --run pets"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: the checkout, not training/, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.entry import main
from training.tasks.image_tasks import VisionTask

DEFAULTS: dict[str, Any] = {
    "run": "vision",
    "d_model": 64,
    "batch": 32,
    "steps": 700,
}

if __name__ == "__main__":
    sys.exit(main("Train ARBModel to tell images apart.", kind=VisionTask, **DEFAULTS))
