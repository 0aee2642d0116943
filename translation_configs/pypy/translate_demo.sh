#!/bin/sh
# Translates the demo interpreter, without its JIT, and runs it:
# translate_demo.sh PYTHON TOOLCHAIN DEMO SCRATCH
set -eu
python=$1 toolchain=$2 demo=$3 scratch=$4

cp -R "$demo" "$scratch/demo"
mkdir "$scratch/tmp" "$scratch/results"
cd "$scratch/demo"
export HOME="$scratch" TMPDIR="$scratch/tmp" PYPY_USESSION_DIR="$scratch/tmp"
export PYPY_GC_NURSERY=64MB PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$toolchain"
"$python" -m rpython --batch --gc=incminimark --opt=2 --make-jobs=2 --output=translated targetdemo.py >&2
./translated --version
./translated programs/features.demo "$scratch/results" >"$scratch/told"
cmp "$scratch/told" programs/features.expected
