#!/usr/bin/env bash
# mypy --strict in the layout of the wheel: a type checker does not see that arbitor/__init__.py makes kernels/ and its
# neighbours parts of `arbitor`, so a copy has them there. mypy is the one on PATH; arguments go to it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

cp -Rp "$root/arbitor" "$tree/arbitor"
cp -Rp "$root/kernels" "$root/reference" "$root/conformance" "$root/training" "$tree/arbitor"

cp "$root/docs/examples/gpt/gpt.py" "$tree/gpt_example.py" # as a user of the API writes it

cd "$tree"
mypy --strict --config-file "$root/pyproject.toml" --cache-dir "$root/.mypy_cache" "$@" -p arbitor -m gpt_example |
  sed -E 's#^arbitor/(kernels|reference|conformance|training)/#\1/#; s#^gpt_example.py#docs/examples/gpt/gpt.py#'
