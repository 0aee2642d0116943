#!/bin/sh
# Puts pip into a copy of the installation without network, and installs a wheel with it:
# ensurepip.sh ROOT PROGRAM SCRATCH TESTS
set -eu
root=$1 program=$2 scratch=$3 tests=$4
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INDEX=1 HOME="$scratch"

cp -R "$root" "$scratch/moved elsewhere"
python="$scratch/moved elsewhere/bin/$program"
"$python" -m ensurepip >&2
"$python" -m pip --version >&2
"$python" "$tests/make_wheel.py" "$scratch"
"$python" -m pip install -q "$scratch/greeting-1.0-py2.py3-none-any.whl" >&2
"$python" -c 'import greeting; print(greeting.TEXT)'
