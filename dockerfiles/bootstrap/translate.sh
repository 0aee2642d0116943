#!/bin/sh
# Runs a translation and collects what it made: translate.sh PRODUCT... -- COMMAND...
# PRODUCTs are files and directories of /build/source. /build/out gets them under products/, what
# GNU time measured as resources, and what ccache did as ccache-statistics.
set -eu

products=
while [ "$1" != -- ]; do
  products="$products $1"
  shift
done
shift

ccache --zero-stats >/dev/null
/usr/bin/time --output=/build/out/resources --format='%e %U %S %M' "$@"
ccache --print-stats >/build/out/ccache-statistics
mkdir /build/out/products
cd /build/source
for product in $products; do
  cp -R --parents "$product" /build/out/products
done
