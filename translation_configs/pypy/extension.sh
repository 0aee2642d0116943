#!/bin/sh
# Builds a C extension with the headers of the installation, and imports it:
# extension.sh PYTHON SCRATCH TESTS
set -eu
python=$1 scratch=$2 tests=$3

mkdir -p "$scratch/extension"
cp "$tests/extension.c" "$scratch/extension/"
cd "$scratch/extension"
include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
suffix=$("$python" -c 'import sysconfig as s; print(s.get_config_var("EXT_SUFFIX") or s.get_config_var("SO"))')
gcc -Wall -Werror=implicit-function-declaration -O1 -fPIC -shared -I "$include" extension.c -o "extension$suffix"
"$python" -c 'import extension; print(extension.add(40, 2))'
