# Sourced by test.sh and smoke.sh: goes to the root of the checkout and puts a virtual environment with everything
# pinned first on PATH. ARBITOR_VENV names one of yours, which is used as it is; PYTHON names the interpreter for .venv.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'arbitor: %s\n' "$*" >&2; exit 1; }

if [ -n "${ARBITOR_VENV:-}" ]; then
  [ -x "$ARBITOR_VENV/bin/python" ] || die "ARBITOR_VENV=$ARBITOR_VENV has no bin/python"
  VIRTUAL_ENV=$(cd "$ARBITOR_VENV" && pwd)
else
  VIRTUAL_ENV=$PWD/.venv
  if [ ! -x .venv/bin/python ]; then
    base=${PYTHON:-python3}
    command -v "$base" >/dev/null || die "$base not found; Python 3.11 or newer is needed (PYTHON=... names one)"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      die "Python 3.11 or newer is needed; $base is $("$base" -V 2>&1) (PYTHON=... names another)"
    "$base" -m venv .venv || die "$base -m venv failed (on Debian: apt-get install python3-venv)"
  fi
fi
export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"
python -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  die "Python 3.11 or newer is needed; $VIRTUAL_ENV has $(python -V 2>&1)"

# The CPU build of torch from where pip looks anyway, else from PyTorch's own index: it is a tenth of the CUDA build.
install_torch() {
  local torch
  torch=torch==$(sed -n 's/^torch==//p' constraints.txt)+cpu
  python -m pip install -q --no-deps "$torch" 2>/dev/null ||
    python -m pip install -q --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu "$torch" ||
    echo "arbitor: $torch is not to be had here; trying the default build" >&2
}

if [ -z "${ARBITOR_VENV:-}" ]; then
  stamp=$(cat pyproject.toml constraints.txt | cksum)
  if [ "$(cat .venv/arbitor-stamp 2>/dev/null)" != "$stamp" ]; then
    echo "arbitor: installing into .venv (a few minutes the first time)" >&2
    if [ "$(uname -s)" = Linux ]; then install_torch; fi
    python -m pip uninstall -q -y arbitor 2>/dev/null || true # the name of this distribution before arbitor-ternary
    python -m pip install -q -c constraints.txt -e '.[test,lint,docs,triton,tilelang]' || die "pip install failed; see above"
    echo "$stamp" >.venv/arbitor-stamp
  fi
fi
