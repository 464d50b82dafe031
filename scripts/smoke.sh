#!/usr/bin/env bash
# Trains a tiny model for a minute or two and says whether it learned; arguments go to training/smoke.py.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec python -m training.smoke "$@"
