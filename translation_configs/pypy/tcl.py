"""Starts Tcl, and Tk as far as it goes without a display (Python 2.7 and 3).

Prints where in the installation Tcl and Tk have their scripts, and why Tk has no window.
"""

from __future__ import print_function

import os
import sys

try:
    import tkinter
except ImportError:
    import Tkinter as tkinter

interpreter = tkinter.Tcl()
for command, script in (("info library", "init.tcl"), ("set tk_library", "tk.tcl")):
    directory = interpreter.eval(command)
    os.stat(os.path.join(directory, script))
    print(os.path.relpath(directory, sys.prefix))
try:
    tkinter.Tk()
except tkinter.TclError as error:
    print(error)
