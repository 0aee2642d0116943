"""Prints all options that the interpreter which runs it was translated with, as JSON."""

import json
import sys

print(json.dumps(sys.pypy_translation_info, sort_keys=True))
