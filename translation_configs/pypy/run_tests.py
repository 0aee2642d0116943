"""Runs modules of the standard library's own tests: run_tests.py MODULES KNOWN.

MODULES lists test modules, KNOWN the tests that are known to fail, one a line, with the reason
behind a "#" and, if it is so on one machine only, "@aarch64" before that; a module that cannot be imported counts as one test of its name, a fixture that fails
as one of its class or module. Any other failure makes the status 1; a known one that passes does
not: a nightly is not held back because upstream mended something (Python 2.7 and 3). Progress goes
to the standard error, and then what counts; the standard output has "done" once all were run, so
that an early end is not taken for success.
"""

from __future__ import print_function

import importlib
import os
import platform
import re
import sys
import time
import unittest
import warnings

FIXTURE = re.compile(r"(?:setUp|tearDown)(?:Class|Module) \((.+)\)$")
LONGEST_REASON = 200
IS_PYTHON_2 = sys.version_info[0] == 2


def listed(path):
    """Return the names in a file, without those that are for another machine."""
    with open(path) as lines:
        stripped = [line.split("#", 1)[0].partition("@") for line in lines]
    here = platform.machine()
    return [name.strip() for name, _, only in stripped if name.strip() and only.strip() in ("", here)]


def flattened(suite):
    """Yield the single tests of a suite."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            for test in flattened(item):
                yield test
        else:
            yield item


class Names(unittest.TestResult):
    """Collects which tests failed and why, and in which class or module a fixture did."""

    def __init__(self):
        unittest.TestResult.__init__(self)
        self.failed = {}

    def addError(self, test, error):
        unittest.TestResult.addError(self, test, error)
        self.failed[name_of(test)] = reason(error[1])

    def addFailure(self, test, error):
        unittest.TestResult.addFailure(self, test, error)
        self.failed[name_of(test)] = reason(error[1])

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.failed[name_of(test)] = reason(error[1])

    def addUnexpectedSuccess(self, test):
        self.failed[name_of(test)] = "an unexpected success"


def reason(error):
    """Return an exception as one line."""
    return repr(error).replace("\n", " ")[:LONGEST_REASON]


def name_of(test):
    """Return a test's name without what a subtest adds; of a fixture, its class or module."""
    fixture = FIXTURE.match(test.id())
    return fixture.group(1) if fixture else test.id().split(" ")[0]


def loaded(name):
    """Return the tests of a module; in Python 2.7 a function runs them, not all that look like it."""
    if not IS_PYTHON_2:
        return unittest.defaultTestLoader.loadTestsFromName(name)
    suites, support = [], importlib.import_module("test.test_support")
    support.verbose, support._run_suite = False, suites.append
    importlib.import_module(name).test_main()
    return unittest.TestSuite(suites)


def run(module):
    """Return the names of a module's tests, and why which of them failed."""
    name = "test." + module
    try:
        suite = loaded(name)
    except (Exception, SystemExit) as error:
        return set([name]), {name: reason(error)}
    names = set(name_of(test) for test in flattened(suite))
    result = Names()
    outputs = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        try:
            suite.run(result)
        finally:
            sys.stdout, sys.stderr = outputs
    return names, result.failed


def main(modules, known, output):
    """Run everything; return the exit status."""
    excused, seen, failed = set(listed(known)), set(), {}
    for module in listed(modules):
        started = time.time()
        names, wrong = run(module)
        seen |= names
        failed.update(wrong)
        told = (module, len(names), time.time() - started)
        print("%s: %d tests, %.1f s" % told, file=sys.stderr)
    print("%d tests, %d known failures" % (len(seen), len(excused & set(failed))), file=sys.stderr)
    for name in sorted((excused & seen) - set(failed)):
        print("known to fail, but passed: %s" % name, file=sys.stderr)
    unexpected = sorted(set(failed) - excused)
    for name in unexpected:
        print("failed: %s: %s" % (name, failed[name]), file=sys.stderr)
    print("done", file=output)
    return 1 if unexpected else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with os.fdopen(os.dup(1), "w") as own:
        os.dup2(2, 1)  # for what is printed by C
        status = main(sys.argv[1], sys.argv[2], own)
    sys.exit(status)
