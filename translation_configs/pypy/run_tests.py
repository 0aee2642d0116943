"""Runs modules of the standard library's own tests: run_tests.py MODULES KNOWN.

MODULES lists test modules, KNOWN the tests that are known to fail, one a line, with the reason
behind a "#"; a module that cannot be imported counts as one test of its name. Prints every other
failure, which makes the status 1, and every known one that passes, which does not: a nightly is
not held back because upstream mended something (Python 2.7 and 3). Progress goes to the standard
output; the standard error has what counts.
"""

from __future__ import print_function

import os
import sys
import time
import unittest
import warnings


def listed(path):
    """Return the names in a file."""
    with open(path) as lines:
        stripped = [line.split("#", 1)[0].strip() for line in lines]
    return [name for name in stripped if name]


def flattened(suite):
    """Yield the single tests of a suite."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            for test in flattened(item):
                yield test
        else:
            yield item


class Names(unittest.TestResult):
    """Collects which tests failed, and in which module a fixture did."""

    def __init__(self):
        unittest.TestResult.__init__(self)
        self.failed = set()

    def addError(self, test, error):
        unittest.TestResult.addError(self, test, error)
        self.failed.add(name_of(test))

    def addFailure(self, test, error):
        unittest.TestResult.addFailure(self, test, error)
        self.failed.add(name_of(test))

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.failed.add(name_of(test))

    def addUnexpectedSuccess(self, test):
        self.failed.add(name_of(test))


def name_of(test):
    """Return a test's name without what a subtest or a fixture adds."""
    return test.id().split(" ")[0]


def run(module):
    """Return the names of a module's tests and of those that failed."""
    name = "test." + module
    try:
        suite = unittest.defaultTestLoader.loadTestsFromName(name)
    except Exception as error:
        print("%s: %s" % (name, error))
        return set([name]), set([name])
    names = set(name_of(test) for test in flattened(suite))
    result = Names()
    output = sys.stdout
    with open(os.devnull, "w") as nowhere:
        sys.stdout = nowhere
        try:
            suite.run(result)
        finally:
            sys.stdout = output
    return names, result.failed


def main(modules, known):
    """Run everything; return the exit status."""
    excused, seen, failed = set(listed(known)), set(), set()
    for module in listed(modules):
        started = time.time()
        names, wrong = run(module)
        seen |= names
        failed |= wrong
        print("%s: %d tests, %.1f s" % (module, len(names), time.time() - started))
    for name in sorted(failed - excused):
        print("failed: %s" % name, file=sys.stderr)
    for name in sorted((excused & seen) - failed):
        print("known to fail, but passed: %s" % name, file=sys.stderr)
    print("%d tests, %d known failures" % (len(seen), len(failed & excused)))
    return 1 if failed - excused else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(sys.argv[1], sys.argv[2]))
