"""RPython target of the demo interpreter.

Translate it:

    pypy RPYTHON/rpython/translator/goal/translate.py --opt=jit targetdemo.py

or run it untranslated, with rpython (and py) on PYTHONPATH:

    python2 targetdemo.py PROGRAM.demo [ARG...]
"""

import os
import sys

# Modules are imported by absolute name, as 'demolang.*'.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from demolang import buildinfo, cli    # noqa: E402

# Calls nest several Python frames deep for each demo call; see
# interpreter.MAX_CALL_DEPTH.
UNTRANSLATED_RECURSION_LIMIT = 8000


class Level(object):
    """The optimization level, known only to handle_config()."""
    opt = 'unknown'


def handle_config(config, translateconfig):
    """Called by translate.py before target()."""
    Level.opt = translateconfig.opt


def make_entry_point(info):
    def entry_point(argv):
        return cli.main(argv, info)
    return entry_point


def target(driver, args):
    driver.exe_name = 'demo'
    info = buildinfo.from_config(driver.config.translation, Level.opt)
    return make_entry_point(info), None


def jitpolicy(driver):
    from rpython.jit.codewriter.policy import JitPolicy
    return JitPolicy()


if __name__ == '__main__':
    sys.setrecursionlimit(UNTRANSLATED_RECURSION_LIMIT)
    sys.exit(make_entry_point(buildinfo.untranslated_info())(sys.argv))
