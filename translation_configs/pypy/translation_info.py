"""Prints the translation options of the interpreter that runs it, as ``key=value`` lines."""

import sys

INFO = sys.pypy_translation_info
print("gc=%s" % INFO["translation.gc"])
print("jit=%s" % INFO["translation.jit"])
