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
  summary+=("$(printf '%-10s %4d s  %s' "$name" $((SECONDS - start)) "$verdict")")
}

lane lint ruff check
lane format ruff format --check
lane types scripts/types.sh
lane reference python -m pytest conformance --backend reference -n 2 "$@"
lane torch python -m pytest conformance --backend torch -n 2 "$@"

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
exit "$status"
