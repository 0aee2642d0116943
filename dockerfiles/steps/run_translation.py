"""Runs a translation and collects what it made (Python 2.7, on any system).

run_translation.py SOURCE OUTPUT PRODUCT... -- COMMAND...

PRODUCTs are files and directories of SOURCE. OUTPUT gets them under products/, what was measured
as resources.json, and what ccache did, where there is one, as ccache-statistics. The status is the
command's.
"""

import json
import os
import shutil
import subprocess
import sys
import time

CPU_OF_THE_GROUP = "/sys/fs/cgroup/cpuacct/cpuacct.usage"
STATISTICS_OF_THE_GROUP = "/sys/fs/cgroup/cpu.stat"


def main(source, output, words):
    end = words.index("--")
    products, command = words[:end], words[end + 1 :]
    ccache("--zero-stats")
    started = time.time()
    status = subprocess.call(command)
    if status != 0:
        return status
    with open(os.path.join(output, "resources.json"), "w") as stream:
        json.dump(measured(time.time() - started), stream, sort_keys=True)
    with open(os.path.join(output, "ccache-statistics"), "wb") as stream:
        stream.write(ccache("--print-stats"))
    # Two caches may have been put together, and ccache counted only one of them.
    ccache("--cleanup")
    for product in products:
        copy(os.path.join(source, product), os.path.join(output, "products", product))
    return 0


def measured(wall):
    """Return seconds, KiB, and the nanoseconds of everything in the container, where known."""
    found = {"wall": round(wall, 2), "group_nanoseconds": group_nanoseconds()}
    try:
        import resource
    except ImportError:  # Windows
        return dict(found, user=0, system=0, peak=0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    unit = 1024 if sys.platform == "darwin" else 1
    return dict(found, user=used.ru_utime, system=used.ru_stime, peak=used.ru_maxrss // unit)


def group_nanoseconds():
    """Return the CPU time of all processes, also those that RPython forks and never waits for."""
    if os.path.exists(CPU_OF_THE_GROUP):
        with open(CPU_OF_THE_GROUP) as stream:
            return int(stream.read())
    if os.path.exists(STATISTICS_OF_THE_GROUP):
        with open(STATISTICS_OF_THE_GROUP) as stream:
            used = dict(line.split() for line in stream)
        return int(used["usage_usec"]) * 1000
    return None


def ccache(option):
    try:
        return subprocess.check_output(["ccache", option])
    except OSError:  # not installed
        return b""


def copy(path, copied):
    if not os.path.isdir(os.path.dirname(copied)):
        os.makedirs(os.path.dirname(copied))
    if os.path.isdir(path):
        shutil.copytree(path, copied, symlinks=True)
    else:
        shutil.copy2(path, copied)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
