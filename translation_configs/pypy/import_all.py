"""Imports every module of the standard library: import_all.py KNOWN.

KNOWN lists, one a line, modules that cannot be imported on a bare system, with the reason behind a
"#". Any other failure is printed and makes the status 1 (Python 2.7 and 3).
"""

from __future__ import print_function

import os
import pkgutil
import sys

LIBRARY = os.path.dirname(os.__file__)


def names():
    """Return the top-level modules: built-in ones, and those in the library's directories."""
    found = set(sys.builtin_module_names)
    directories = [path for path in sys.path if path.startswith(os.path.dirname(LIBRARY))]
    for _, name, _ in pkgutil.iter_modules(directories):
        found.add(name)
    skipped = set(["__main__", "antigravity", "this", "test", "site", "idlelib"])
    # lib_pypy's scripts named ..._build compile an extension module when they are imported.
    return sorted(name for name in found - skipped if not name.endswith("_build"))


def known(path):
    """Return the modules that a file excuses."""
    with open(path) as lines:
        stripped = [line.split("#", 1)[0].strip() for line in lines]
    return set(name for name in stripped if name)


def main(path):
    """Import everything; return the exit status."""
    excused, failed, count = known(path), [], 0
    for name in names():
        try:
            __import__(name)
            count += 1
        except BaseException as error:
            if name not in excused:
                failed.append(name)
                print("%s: %s: %s" % (name, type(error).__name__, error), file=sys.stderr)
    print("%d imported, %d failed" % (count, len(failed)), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
