"""Make conformance/vectors/ from the reference, or check that it is what the reference gives now.

    python scripts/make_vectors.py            # writes every file; the same bytes every time
    python scripts/make_vectors.py --check    # writes nothing; 1 and what differs, if anything does

A change of a vector is a change of the reference, or of a recipe in conformance/draw/recipes/
(docs/vectors.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from arbitor.conformance.draw.recipes import all_files  # noqa: E402
from arbitor.kernels.writing import write_whole  # noqa: E402  (the root must be on the path first)

VECTORS = ROOT / "conformance" / "vectors"


def differences(files: dict[str, str], folder: Path) -> list[str]:
    """What of the folder is not what the reference gives: files, and the ids of vectors in them."""
    found = [
        f"{path.name}: no recipe makes it" for path in sorted(folder.glob("*")) if path.name not in files
    ]
    for name, text in files.items():
        path = folder / name
        there = path.read_text(encoding="utf-8") if path.is_file() else None
        if there != text:
            found.append(f"{name}: {_what_differs(there, text)}")
    return found


def _what_differs(there: str | None, text: str) -> str:
    if there is None:
        return "missing"
    try:
        old, new = ({v["id"]: v for v in json.loads(part)["vectors"]} for part in (there, text))
    except (ValueError, KeyError, TypeError):
        return "differs"
    ids = [name for name in dict.fromkeys([*new, *old]) if old.get(name) != new.get(name)]
    return ", ".join(ids) or "differs in its layout"


def main(words: list[str] | None = None) -> int:
    """Write the folder, or check it; gives the exit status."""
    parser = argparse.ArgumentParser(description="Make the test vectors from the reference.")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    parser.add_argument("--out", type=Path, default=VECTORS, metavar="FOLDER")
    options = parser.parse_args(words)
    files = all_files()
    if options.check:
        found = differences(files, options.out)
        print("\n".join(found) or f"{options.out} is what the reference gives")
        return 1 if found else 0
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.out.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        write_whole(options.out / name, text.encode())
    print(f"wrote {len(files)} files, {sum(len(text.encode()) for text in files.values()):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
