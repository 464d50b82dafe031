#!/usr/bin/env bash
# Everything that can be checked without a GPU, lane by lane; arguments go to pytest: scripts/test.sh -k update
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

summary=()
status=0

lane() { # lane NAME COMMAND...
  local name=$1 start=$SECONDS verdict=passed
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@" || { verdict="FAILED, exit status $?"; status=1; }
  summary+=("$(printf '%-12s %4d s  %s' "$name" $((SECONDS - start)) "$verdict")")
}

lane lint ruff check
lane format ruff format --check
if git ls-files --error-unmatch scripts/test.sh >/dev/null 2>&1; then
  SKIP=ruff-check,ruff-format PRE_COMMIT_HOME="$VIRTUAL_ENV/pre-commit" lane hooks pre-commit run --all-files
else
  summary+=("$(printf '%-12s        not run: this is no checkout that git can read' hooks)")
fi
lane types scripts/types.sh
NO_MKDOCS_2_WARNING=1 lane docs mkdocs build --strict
lane compileall python -W error -m compileall -q -f training arbitor kernels reference conformance scripts
# what stands around the kernels is judged once, on torch; tox runs the whole suite on all but the interpreter
lane reference python -m pytest conformance --backend reference --kernels -n 2 "$@"
lane torch python -m pytest conformance --backend torch -n 2 "$@"
TRITON_INTERPRET=1 lane triton python -m pytest conformance --backend triton --kernels -n 2 "$@"
lane tilelang python -m pytest conformance --backend tilelang --kernels -n 2 "$@"
# of scripts/original.sh the lanes above have the captures on Triton and the loss signal; tox -e original runs all of it
if [ $# -eq 0 ]; then
  lane smoke python -m training.smoke --every-backend
  lane compile python -m pytest conformance/operations/test_machine_code.py --machine-code -n 2
  # a suite that kills nothing any more would pass all of the above
  lane mutants python -m arbitor mutants --set reference --set torch --set runtime --set training --one-per-clause \
    --workers 2 --out reports/mutants.json
else
  summary+=("$(printf '%-12s        not run: pytest was given arguments' smoke)")
  summary+=("$(printf '%-12s        not run: pytest was given arguments' compile)")
  summary+=("$(printf '%-12s        not run: pytest was given arguments' mutants)")
fi
if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  for backend in torch triton tilelang; do
    lane "gpu $backend" python -m pytest conformance --backend "$backend" --device cuda "$@"
  done
else
  summary+=("$(printf '%-12s        not run: torch sees no CUDA device' gpu)")
fi

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
exit "$status"
