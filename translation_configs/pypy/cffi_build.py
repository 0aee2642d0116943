"""Builds a cffi module with the system's C compiler, and calls it: cffi_build.py SCRATCH."""

import os
import sys

directory = os.path.join(sys.argv[1], "cffi")
os.mkdir(directory)
os.chdir(directory)
sys.path.insert(0, directory)

import cffi  # noqa: E402

builder = cffi.FFI()
builder.cdef("int twice(int);")
builder.set_source("_twice", "static int twice(int number) { return 2 * number; }")
builder.compile()

import _twice  # noqa: E402

print(_twice.lib.twice(21))
