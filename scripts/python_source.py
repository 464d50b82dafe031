"""Write a corpus of Python source: the installed interpreter's .py files, library first, in sorted order.

    python scripts/python_source.py runs/python_source.txt --megabytes 60

Prints the size and the SHA-256, which name the corpus: it differs between installations.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import sysconfig
from pathlib import Path


def main() -> int:
    """Join files until the size is reached."""
    parser = argparse.ArgumentParser(description="Write a corpus of Python source.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--megabytes", type=int, default=60)
    arguments = parser.parse_args()
    wanted = arguments.megabytes * 1_000_000
    parts: list[bytes] = []
    size = 0
    for folder in dict.fromkeys(sysconfig.get_paths()[key] for key in ("stdlib", "platlib")):
        for path in sorted(Path(folder).rglob("*.py")):
            if size >= wanted:
                break
            parts.append(path.read_bytes())
            size += len(parts[-1])
    data = b"\n".join(parts)[:wanted]
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    arguments.target.write_bytes(data)
    print(f"{arguments.target}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
