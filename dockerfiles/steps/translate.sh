#!/bin/sh
# Runs a translation and collects what it made: translate.sh PRODUCT... -- COMMAND...
# PRODUCTs are files and directories of /build/source. /build/out gets them under products/, what
# GNU time and the container's control group measured as resources and cpu-nanoseconds, and what
# ccache did as ccache-statistics.
set -eu

products=
while [ "$1" != -- ]; do
  products="$products $1"
  shift
done
shift

# All processes count, also those that the toolchain forks off and never waits for.
cpu_nanoseconds() {
  if [ -r /sys/fs/cgroup/cpuacct/cpuacct.usage ]; then
    cat /sys/fs/cgroup/cpuacct/cpuacct.usage
  elif [ -r /sys/fs/cgroup/cpu.stat ]; then
    sed -n 's/^usage_usec \(.*\)/\1000/p' /sys/fs/cgroup/cpu.stat
  fi
}

ccache --zero-stats >/dev/null
/usr/bin/time --output=/build/out/resources --format='%e %U %S %M' "$@"
cpu_nanoseconds >/build/out/cpu-nanoseconds
ccache --print-stats >/build/out/ccache-statistics
# Two caches may have been put together, and ccache counted only one of them.
ccache --cleanup >/dev/null
mkdir /build/out/products
cd /build/source
for product in $products; do
  cp -R --parents "$product" /build/out/products
done
