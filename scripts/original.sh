#!/usr/bin/env bash
# What the project that this one descends from verified itself by, on this tree: every file compiles, the captured
# gradients on Triton, the loss signal of the trainers, and both smoke commands on each backend. Python is the one on PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset ARB_TERNARY_BACKEND # each command below names its own

run() {
  printf '+ %s\n' "$*"
  env "$@"
}

run python -W error -m compileall -q -f training arbitor kernels reference conformance scripts
run ARB_TERNARY_BACKEND=triton python -m pytest -q conformance/runtime/test_gradient_capture.py
run python -m pytest -q conformance/training/test_trainers.py::test_pretrain_loss_signal_detached \
  conformance/training/test_trainers.py::test_all_trainers_loss_signal_detached
run python -m training.smoke --every-backend
