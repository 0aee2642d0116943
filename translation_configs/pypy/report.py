"""Prints what the interpreter that runs it says of itself, as JSON (Python 2.7 and 3)."""

import json
import platform
import sys
import sysconfig

VERSION = sys.pypy_version_info
INFO = getattr(sys, "_git", None) or sys._mercurial

print(
    json.dumps(
        {
            "implementation": platform.python_implementation().lower(),
            "interpreter_version": list(VERSION),
            "language_version": platform.python_version(),
            "version": sys.version,
            "version_line": sys.version.split("[", 1)[1].split(" with ", 1)[0],
            "revision": INFO[2]
            if sys.version.split("(", 1)[1].startswith(INFO[2])
            else sys.version,
            "machine": platform.machine(),
            "extension_suffix": sysconfig.get_config_var("EXT_SUFFIX")
            or sysconfig.get_config_var("SO"),
        }
    )
)
