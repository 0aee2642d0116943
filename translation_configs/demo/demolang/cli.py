"""The command line."""

import os

from rpython.rlib import jit

from demolang import VERSION
from demolang.errors import DemoError, DemoSyntaxError
from demolang.interpreter import run_text
from demolang.runtime import (STDERR, STDOUT, OutputError, read_all, runtime,
                              write_all)

EXIT_OK = 0
EXIT_ERROR = 1       # the program failed while running
EXIT_USAGE = 2       # bad command line, or a program that does not compile

USAGE = """\
usage: demo [OPTION...] PROGRAM.demo [ARG...]
       demo [OPTION...] -c CODE [ARG...]
"""

HELP = USAGE + """
Runs a program written in the demo language.

options:
  -c CODE       run CODE instead of a file
  --jit PARAMS  set JIT parameters, e.g. 'threshold=200,trace_eagerness=20';
                'off' turns the JIT off, 'default' restores the defaults
  --info        print the facts of this executable's translation
  --version     print the version
  --help        print this text

environment:
  PYPYLOG=SECTIONS:FILE   write a log, e.g. PYPYLOG=jit-log-opt,jit-backend:FILE
                          or PYPYLOG=gc:FILE
  PYPY_GC_NURSERY, PYPY_GC_MAX, ...   tune the garbage collector
"""


class UsageError(Exception):
    def __init__(self, message):
        self.message = message


class CommandLine(object):
    """What the arguments ask for."""

    def __init__(self):
        self.show = ''           # text to print instead of running
        self.filename = ''
        self.code = None
        self.args = []


def parse_arguments(argv, info):
    command = CommandLine()
    i = 1
    while i < len(argv):
        arg = argv[i]
        if arg == '-c':
            command.filename = '<command>'
            command.code = option_value(argv, i)
            command.args = argv[i + 2:]
            return command
        if arg == '--jit':
            set_jit_parameters(option_value(argv, i), info)
            i += 2
            continue
        if arg.startswith('-'):
            command.show = informative_text(arg, info)
            return command
        command.filename = arg
        command.args = argv[i + 1:]
        return command
    raise UsageError('no program given')


def option_value(argv, i):
    if i + 1 >= len(argv):
        raise UsageError('%s needs a value' % argv[i])
    return argv[i + 1]


def informative_text(option, info):
    if option == '--version':
        return 'demo %s\n' % VERSION
    if option == '--help' or option == '-h':
        return HELP
    if option == '--info':
        return info.text()
    raise UsageError('unknown option %s' % option)


def set_jit_parameters(text, info):
    if not info.jit:
        raise UsageError('--jit: this executable has no JIT')
    try:
        jit.set_user_param(None, text)
    except ValueError:
        raise UsageError("--jit: bad parameters '%s'" % text)
    except jit.TraceLimitTooHigh:
        raise UsageError('--jit: trace_limit is too high')


def read_program(path):
    try:
        fd = os.open(path, os.O_RDONLY, 0)
        try:
            return read_all(fd)
        finally:
            os.close(fd)
    except OSError as e:
        raise UsageError('cannot read %s: %s' % (path, os.strerror(e.errno)))


def complain(text):
    """Write to standard error, where a failure cannot be reported."""
    try:
        write_all(STDERR, text)
    except OSError:
        pass


def run_command(command):
    """Run the program; returns the exit status."""
    text = command.code
    if text is None:
        text = read_program(command.filename)
    runtime.reset(command.args)
    try:
        run_text(text, command.filename)
    except DemoSyntaxError as e:
        complain(e.report(command.filename))
        return EXIT_USAGE
    except DemoError as e:
        runtime.flush()
        complain(e.report())
        return EXIT_ERROR
    runtime.flush()
    return EXIT_OK


def show(text):
    try:
        write_all(STDOUT, text)
    except OSError as e:
        raise OutputError(e.errno)


def main(argv, info):
    """Returns the process's exit status; lets no exception through."""
    try:
        command = parse_arguments(argv, info)
        if command.show:
            show(command.show)
            return EXIT_OK
        return run_command(command)
    except UsageError as e:
        complain('demo: %s\n%s' % (e.message, USAGE))
        return EXIT_USAGE
    except OutputError as e:
        complain('demo: cannot write to standard output: %s\n' %
                 os.strerror(e.errno))
        return EXIT_ERROR
    except MemoryError:
        complain('demo: out of memory\n')
        return EXIT_ERROR
