"""Errors that are reported to the user of a demo program."""

SYNTAX = 'SyntaxError'
NAME = 'NameError'
TYPE = 'TypeError'
VALUE = 'ValueError'
INDEX = 'IndexError'
DIVISION = 'DivisionByZero'
OVERFLOW = 'IntegerOverflow'
FILE = 'FileError'
STACK = 'StackOverflow'
MEMORY = 'MemoryError'
USER = 'UserError'

# How many entries of a long traceback are shown at each end.
TRACE_EDGE = 5


class DemoSyntaxError(Exception):
    """A program that cannot be compiled."""

    def __init__(self, message, line):
        self.message = message
        self.line = line

    def report(self, filename):
        return '%s:%d: %s: %s\n' % (filename, self.line, SYNTAX, self.message)


class TraceEntry(object):
    """One active call when a run-time error happened."""

    def __init__(self, function, filename, line):
        self.function = function
        self.filename = filename
        self.line = line


class DemoError(Exception):
    """A run-time error; the trace is filled in while it propagates."""

    def __init__(self, kind, message):
        self.kind = kind
        self.message = message
        self.trace = []

    def add_entry(self, function, filename, line):
        """Record a frame the error passes through, innermost first."""
        self.trace.append(TraceEntry(function, filename, line))

    def report(self):
        """The text for standard error: the headline, then the traceback."""
        lines = [self._headline()]
        total = len(self.trace)
        for i in range(total):
            if TRACE_EDGE <= i < total - TRACE_EDGE:
                if i == TRACE_EDGE:
                    hidden = total - 2 * TRACE_EDGE
                    lines.append('  ... %d more calls ...\n' % hidden)
                continue
            entry = self.trace[i]
            lines.append('  in %s (%s:%d)\n' % (
                entry.function, entry.filename, entry.line))
        return ''.join(lines)

    def _headline(self):
        if len(self.trace) == 0:
            return '%s: %s\n' % (self.kind, self.message)
        entry = self.trace[0]
        return '%s:%d: %s: %s\n' % (
            entry.filename, entry.line, self.kind, self.message)


def type_error(message):
    return DemoError(TYPE, message)


def name_error(name):
    return DemoError(NAME, "undefined name '%s'" % name)


def overflow_error():
    return DemoError(OVERFLOW, 'integer result does not fit a machine word')


def division_error():
    return DemoError(DIVISION, 'division by zero')


def file_error(path, reason):
    return DemoError(FILE, '%s: %s' % (path, reason))
