#!/bin/sh
# Assembles the tree of an archive: assemble.sh STEM EXECUTABLE [LINK...]
# Runs in the translation environment, without network: /build/in is read, /build/out is written.
set -eu
umask 022

stem=$1
executable=$2
shift 2

top=/build/out/$stem
mkdir -p "$top/bin"
cp -R /build/in/documents/. "$top/"
install -m 755 /build/in/executable "$top/bin/$executable"
# The symbol table and debug sections name the build's paths and are most of the size.
strip --strip-all --remove-section=.comment "$top/bin/$executable"
for link in "$@"; do
  ln -s "$executable" "$top/bin/$link"
done
