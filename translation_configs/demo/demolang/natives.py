"""The built-in functions.

Each takes the list of its arguments, whose length was checked, and
returns a value.
"""

import os
import time

from rpython.rlib import jit, rgc

from demolang import errors, numbers_text
from demolang.errors import DemoError, file_error, type_error
from demolang.runtime import read_all, runtime, write_all
from demolang.values import (W_Bool, W_Float, W_Int, W_List, W_Native, W_Str,
                             as_float, is_number, w_none)


def as_string(w_value, where):
    if not isinstance(w_value, W_Str):
        raise type_error('%s needs a str, got %s' % (where, w_value.typename))
    return w_value.strval


def as_list(w_value, where):
    if not isinstance(w_value, W_List):
        raise type_error('%s needs a list, got %s' % (where, w_value.typename))
    return w_value


def value_error(target, text):
    return DemoError(errors.VALUE,
                     "cannot convert '%s' to %s" % (text, target))


# -- output and conversion ---------------------------------------------------

@jit.dont_look_inside
def native_print(args_w):
    runtime.write(' '.join([w_arg.to_str() for w_arg in args_w]) + '\n')
    return w_none


def native_str(args_w):
    return W_Str(args_w[0].to_str())


def native_int(args_w):
    w_value = args_w[0]
    if isinstance(w_value, W_Int):
        return w_value
    if isinstance(w_value, W_Float):
        return float_to_int(w_value.floatval)
    if isinstance(w_value, W_Bool):
        return W_Int(int(w_value.boolval))
    return string_to_int(as_string(w_value, 'int()'))


def float_to_int(value):
    try:
        return W_Int(numbers_text.float_to_int(value))
    except OverflowError:
        raise errors.overflow_error()


def string_to_int(text):
    try:
        return W_Int(numbers_text.parse_int(text))
    except ValueError:
        raise value_error('int', text)
    except OverflowError:
        raise errors.overflow_error()


def native_float(args_w):
    w_value = args_w[0]
    if is_number(w_value):
        return W_Float(as_float(w_value))
    text = as_string(w_value, 'float()')
    try:
        return W_Float(numbers_text.parse_float(text))
    except ValueError:
        raise value_error('float', text)


def native_type(args_w):
    return W_Str(args_w[0].typename)


# -- lists and strings -------------------------------------------------------

def native_len(args_w):
    return W_Int(args_w[0].length())


def native_append(args_w):
    as_list(args_w[0], 'append()').items.append(args_w[1])
    return w_none


def native_pop(args_w):
    items = as_list(args_w[0], 'pop()').items
    if len(items) == 0:
        raise DemoError(errors.INDEX, 'pop() from an empty list')
    return items.pop()


# -- files, arguments, time --------------------------------------------------

def check_path(path):
    if '\x00' in path:
        raise DemoError(errors.VALUE, 'path contains a NUL byte')
    return path


@jit.dont_look_inside
def native_read_file(args_w):
    path = check_path(as_string(args_w[0], 'read_file()'))
    try:
        fd = os.open(path, os.O_RDONLY, 0)
        try:
            return W_Str(read_all(fd))
        finally:
            os.close(fd)
    except OSError as e:
        raise file_error(path, os.strerror(e.errno))


@jit.dont_look_inside
def native_write_file(args_w):
    path = check_path(as_string(args_w[0], 'write_file()'))
    text = as_string(args_w[1], 'write_file()')
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_all(fd, text)
        finally:
            os.close(fd)
    except OSError as e:
        raise file_error(path, os.strerror(e.errno))
    return w_none


@jit.dont_look_inside
def native_input(args_w):
    try:
        line = runtime.read_line()
    except OSError as e:
        raise file_error('<stdin>', os.strerror(e.errno))
    if line is None:
        return w_none
    return W_Str(line)


def native_args(args_w):
    return W_List([W_Str(arg) for arg in runtime.args])


def native_clock(args_w):
    return W_Float(time.time())


# -- errors and the garbage collector ----------------------------------------

def native_error(args_w):
    raise DemoError(errors.USER, args_w[0].to_str())


@jit.dont_look_inside
def native_gc_collect(args_w):
    rgc.collect()
    return w_none


ALL = [
    W_Native('print', -1, native_print),
    W_Native('str', 1, native_str),
    W_Native('int', 1, native_int),
    W_Native('float', 1, native_float),
    W_Native('type', 1, native_type),
    W_Native('len', 1, native_len),
    W_Native('append', 2, native_append),
    W_Native('pop', 1, native_pop),
    W_Native('read_file', 1, native_read_file),
    W_Native('write_file', 2, native_write_file),
    W_Native('input', 0, native_input),
    W_Native('args', 0, native_args),
    W_Native('clock', 0, native_clock),
    W_Native('error', 1, native_error),
    W_Native('gc_collect', 0, native_gc_collect),
]


def define_natives(global_table):
    """Make every built-in function a global variable."""
    for w_native in ALL:
        global_table.cell(w_native.name).define(w_native)
