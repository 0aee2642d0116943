#!/bin/sh
# Packs and judges Debian packages: build.sh NAME FILENAME [NAME FILENAME...]
# Runs in the suite's environment, without network, in /build: in/NAME is a package's tree, out/ is
# written. Times are those of SOURCE_DATE_EPOCH at most; the files' own are older or the same.
set -eu
umask 022

mkdir -p out
while [ $# -gt 0 ]; do
  # xz's blocks do not depend on how many threads there are.
  dpkg-deb --root-owner-group -Zxz -z6 --build "in/$1" "out/$2"
  shift 2
done
lintian --version >out/lintian.version
# Its exit status says that it worked; what it found is in its lines.
lintian --no-cfg --profile debian --tag-display-limit 0 --fail-on none out/*.deb >out/lintian.tags
