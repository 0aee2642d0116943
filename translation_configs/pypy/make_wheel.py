"""Writes a small pure wheel: make_wheel.py DIRECTORY (Python 2.7 and 3)."""

import os
import sys
import zipfile

INFO = "greeting-1.0.dist-info"
FILES = {
    "greeting.py": "TEXT = 'installed from a wheel'\n",
    INFO + "/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
    INFO + "/WHEEL": (
        "Wheel-Version: 1.0\nGenerator: make_wheel\nRoot-Is-Purelib: true\n"
        "Tag: py2-none-any\nTag: py3-none-any\n"
    ),
}

path = os.path.join(sys.argv[1], "greeting-1.0-py2.py3-none-any.whl")
with zipfile.ZipFile(path, "w") as wheel:
    for name in sorted(FILES):
        wheel.writestr(name, FILES[name])
    names = sorted(FILES) + [INFO + "/RECORD"]
    wheel.writestr(INFO + "/RECORD", "".join("%s,,\n" % name for name in names))
