#!/bin/sh
# Makes a virtual environment without network, with pip, and installs a wheel into it:
# venv.sh PYTHON SCRATCH TESTS
set -eu
python=$1 scratch=$2 tests=$3
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INDEX=1 HOME="$scratch"

"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip --version >&2
"$python" "$tests/make_wheel.py" "$scratch"
"$scratch/venv/bin/python" -m pip install -q "$scratch/greeting-1.0-py2.py3-none-any.whl" >&2
"$scratch/venv/bin/python" -c 'import greeting; print(greeting.TEXT)'
