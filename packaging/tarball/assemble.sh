#!/bin/sh
# Assembles the tree of an archive: assemble.sh STEM PROGRAM EXECUTABLE [LINK...]
# Runs in the translation environment, without network, in the build's directory (/build there):
# PROGRAM and the documents in in/ are read, out/ is written. STRIP is the tool for the program's
# platform.
set -eu
umask 022

stem=$1
program=$2
executable=$3
shift 3

top=out/$stem
mkdir -p "$top/bin"
cp -R in/documents/. "$top/"
install -m 755 "$program" "$top/bin/$executable"
# The symbol table and debug sections name the build's paths and are most of the size.
"${STRIP:-strip}" --strip-all --remove-section=.comment "$top/bin/$executable"
for link in "$@"; do
  ln -s "$executable" "$top/bin/$link"
done
