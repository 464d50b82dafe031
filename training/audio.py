"""Train ARBModel on sound.   python -m training.audio --data my_recordings --run piano"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: the checkout, not training/, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.entry import main
from training.tasks.sound import AudioTask

# Half the width of the text trainers: a frame has 16 * 256 logits, so most of the time goes into the head.
DEFAULTS: dict[str, Any] = {"run": "audio", "d_model": 64, "ctx": 32, "batch": 16, "steps": 400}

if __name__ == "__main__":
    sys.exit(main("Train ARBModel on sound.", kind=AudioTask, **DEFAULTS))
