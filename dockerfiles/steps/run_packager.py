"""Runs PyPy's own packager on a translated tree, without network (Python 2.7).

This file is in the directory in/ of the build's, which is /build in a container.

run_packager.py SETTINGS: a JSON file with
  stem       the tree's name, written below out/tree of the build's directory
  embedded   module -> {"file": the source archive's name in in/embedded, "sha256": its digest,
             "commands": [argv, ...]}
  without    modules that are left out on purpose
  portable   whether shared libraries are bundled
  wheels     whether the packager installs wheels with pip, from the directory in PIP_FIND_LINKS

Writes out/modules.json: which extension modules were built, skipped, or failed. Upstream's
functions are replaced in two places, both of them inputs: the libraries it would download are
those that are pinned, and the archive it would pack at the end is left to our own packing.
"""

from __future__ import print_function

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile

INPUTS = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(os.path.dirname(INPUTS), "source")
OUTPUT = os.path.join(os.path.dirname(INPUTS), "out")


def main(settings):
    sys.path.insert(0, SOURCE)
    os.chdir(os.path.join(SOURCE, "pypy", "goal"))
    from pypy.tool.release import package as packager
    from lib_pypy.pypy_tools import build_cffi_imports as cffi

    embed(cffi, settings["embedded"])
    packager.create_cffi_import_libraries = recorded(
        cffi, packager.create_cffi_import_libraries, settings
    )
    packager.os = WithoutArchiver()
    if settings["wheels"]:
        # Upstream's own translation ends with this; ours ends with the executable.
        interpreter = os.path.join(SOURCE, "pypy", "goal", packager.POSIX_EXE + "-c")
        subprocess.check_call([interpreter, "-m", "ensurepip"])
    status, _ = packager.package(*arguments(settings))
    if status != 0 and settings["failed"]:
        return 0  # modules.json says what failed, and the pipeline what that means
    if status == 0:
        strip_libraries(os.path.join(OUTPUT, "tree", settings["stem"]))
    return status


def arguments(settings):
    embedded = "--embedded-dependencies" if settings["embedded"] else "--no-embedded-dependencies"
    return [
        "--archive-name=" + str(settings["stem"]),
        "--builddir=" + os.path.join(OUTPUT, "tree"),
        "--rebuild-extensions",
        embedded,
    ] + ["--make-portable"] * settings["portable"] + [
        "--without-" + str(name) for name in settings["without"]
    ]


def strip_libraries(tree):
    """Take debug sections, which name the build's paths, from the modules the packager leaves."""
    for directory, _, names in os.walk(tree):
        if os.path.basename(directory) == "bin":
            continue  # stripped by the packager, the symbols beside them
        for path in [os.path.join(directory, name) for name in names if ".so" in name]:
            if not os.path.islink(path):
                subprocess.check_call(["strip", "--strip-debug", path])


def embed(cffi, libraries):
    """Have upstream build the pinned sources, with the commands that are configured."""
    archives = os.path.join(tempfile.gettempdir(), "pypy-archives")
    os.makedirs(archives)
    cffi.cffi_dependencies.clear()
    places = {"destination": cffi.deps_destdir, "jobs": str(multiprocessing.cpu_count())}
    for module, library in libraries.items():
        name = str(library["file"])
        shutil.copy(os.path.join(INPUTS, "embedded", name), os.path.join(archives, name))
        commands = [[filled(word, places) for word in argv] for argv in library["commands"]]
        cffi.cffi_dependencies[str(module)] = (name, str(library["sha256"]), commands)
    cffi._unpack_tarfile = unpack


def filled(word, places):
    for name, value in places.items():
        word = word.replace("{%s}" % name, value)
    return str(word)


def unpack(archive, directory):
    """Unpack any archive that tar knows; Python 2.7 knows no xz."""
    subprocess.check_call(["tar", "--no-same-owner", "-xf", archive, "-C", directory])


def recorded(cffi, create, settings):
    """Return *create*, keeping a list of what it did with each module."""

    def create_and_record(*args, **kwargs):
        failures = create(*args, **kwargs)
        failed = settings["failed"] = [key for key, _ in failures]
        scripts = dict(cffi.cffi_build_scripts)
        scripts = dict((key, script) for key, script in scripts.items() if script is not None)
        skipped = [key for key in scripts if key in settings["without"]]
        built = [key for key in scripts if key not in skipped and key not in failed]
        with open(os.path.join(OUTPUT, "modules.json"), "w") as stream:
            modules = {"built": built, "skipped": skipped, "failed": failed}
            json.dump(modules, stream, sort_keys=True)
        return failures

    return create_and_record


class WithoutArchiver(object):
    """The module os for the packager, whose last step archives the tree with tar."""

    def __getattr__(self, name):
        return getattr(os, name)

    def system(self, command):
        if command.startswith("tar "):
            print("left to the pipeline:", command)
            return 0
        return os.system(command)


if __name__ == "__main__":
    with open(sys.argv[1]) as stream:
        sys.exit(main(dict(json.load(stream), failed=[])))
