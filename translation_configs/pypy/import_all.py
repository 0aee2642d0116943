"""Imports every module of the packaged library: import_all.py KNOWN...

Each KNOWN lists, one a line, modules that cannot be imported everywhere, with the reason behind a
"#"; a package's name excuses what is below it. Any other failure is printed and makes the status 1.
The standard error has the names as they are imported, so that a crash has one, and then the
failures; the standard output has "done" once all were tried, so that an early end is not taken for
success (Python 2.7 and 3).
"""

from __future__ import print_function

import os
import pkgutil
import sys

# Tests, what starts a program when it is imported, and what opens a browser or prints a poem.
SKIPPED = set(["__main__", "antigravity", "idle", "idle_test", "test", "tests", "this"])


def library():
    """Return the directories of modules that are below the root of the installation."""
    root = os.path.join(sys.prefix, "")
    return [path for path in sys.path if path.startswith(root)]


def below(directories, prefix=""):
    """Yield the modules in some directories and, of packages, those in their own."""
    for finder, name, is_package in pkgutil.iter_modules(directories):
        # lib_pypy's scripts named ..._build compile an extension module when they are imported.
        if name in SKIPPED or (name.endswith("_build") and not is_package):
            continue
        yield prefix + name
        if is_package:
            for inner in below([os.path.join(finder.path, name)], prefix + name + "."):
                yield inner


def names(directories):
    """Return the modules in the order of their names: built-in ones, and those in directories."""
    found = set(sys.builtin_module_names) - SKIPPED
    return sorted(found.union(below(directories)))


def known(paths):
    """Return the modules that some files excuse."""
    excused = set()
    for path in paths:
        with open(path) as lines:
            excused.update(line.split("#", 1)[0].strip() for line in lines)
    return excused - set([""])


def is_excused(name, excused):
    """Say whether a module or a package that it is in is excused."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in excused for end in range(1, len(parts) + 1))


def problem(name):
    """Return why a module cannot be imported, or None; ending the program is a reason, too."""
    try:
        __import__(name)
    except BaseException as error:
        return "%s: %s: %s" % (name, type(error).__name__, error)


def main(paths, output):
    """Import everything; return the exit status."""
    excused, failed, count = known(paths), [], 0
    directories = library()
    if not directories:
        failed.append("no directory in sys.path is below %s" % sys.prefix)
    for name in names(directories):
        print(name, file=sys.stderr)
        found = problem(name)
        if found is None:
            count += 1
        elif not is_excused(name, excused):
            failed.append(found)
    print("%d imported, %d failed" % (count, len(failed)), file=sys.stderr)
    for line in failed:
        print(line, file=sys.stderr)
    print("done", file=output)
    return 1 if failed else 0


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as own:
        os.dup2(2, 1)  # for what modules print, some of them from C
        status = main(sys.argv[1:], own)
    sys.exit(status)
