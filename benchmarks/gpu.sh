#!/usr/bin/env bash
# Check and time attention on a GPU, in one run of a few minutes: bash benchmarks/gpu.sh [options, see --help].
# It takes the python that PYTHON names, or .venv's, or python3; only where that one has no torch is .venv built.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-}"
if [ -z "$python" ]; then
  python=python3
  [ -x .venv/bin/python ] && python=.venv/bin/python
  if ! "$python" -c 'import torch' 2>/dev/null; then
    make .venv/.installed
    python=.venv/bin/python
  fi
fi
PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" exec "$python" benchmarks/gpu.py "$@"
