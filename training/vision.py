"""Train ARBModel to tell images apart.   python -m training.vision --image-data my_folder --run pets"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: the checkout, not training/, is the root of imports
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from arbitor.training.commands import TRAIN

if __name__ == "__main__":
    sys.exit(TRAIN["vision"].main())
