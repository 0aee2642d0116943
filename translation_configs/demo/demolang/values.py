"""Run-time values and their operations."""

from rpython.rlib.rarithmetic import ovfcheck

from demolang import errors
from demolang.errors import (DemoError, division_error, overflow_error,
                             type_error)
from demolang.numbers_text import format_float


class W_Root(object):
    """Base of all values.

    The arithmetic here is what holds unless a subclass overrides it: it
    computes with floats, and rejects operands that are not numbers.
    """

    typename = '?'

    def is_true(self):
        return True

    def to_str(self):
        raise NotImplementedError

    def to_repr(self, outer):
        """How the value is shown inside a list; 'outer' are the lists
        being shown already."""
        return self.to_str()

    def add(self, w_other):
        a, b = as_floats('+', self, w_other)
        return W_Float(a + b)

    def sub(self, w_other):
        a, b = as_floats('-', self, w_other)
        return W_Float(a - b)

    def mul(self, w_other):
        a, b = as_floats('*', self, w_other)
        return W_Float(a * b)

    def div(self, w_other):
        a, b = as_floats('/', self, w_other)
        if b == 0.0:
            raise division_error()
        return W_Float(a / b)

    def floordiv(self, w_other):
        raise not_integers('//', self, w_other)

    def mod(self, w_other):
        raise not_integers('%', self, w_other)

    def negate(self):
        raise type_error('cannot negate %s' % self.typename)

    def eq(self, w_other):
        return self is w_other

    def lt(self, w_other):
        a, b = as_floats('comparison', self, w_other)
        return a < b

    def le(self, w_other):
        a, b = as_floats('comparison', self, w_other)
        return a <= b

    def length(self):
        raise type_error('%s has no length' % self.typename)

    def get_item(self, w_index):
        raise type_error('%s cannot be indexed' % self.typename)

    def set_item(self, w_index, w_value):
        raise type_error('%s items cannot be assigned' % self.typename)


class W_None(W_Root):
    typename = 'none'

    def is_true(self):
        return False

    def to_str(self):
        return 'none'


class W_Bool(W_Root):
    typename = 'bool'
    _immutable_fields_ = ['boolval']

    def __init__(self, boolval):
        self.boolval = boolval

    def is_true(self):
        return self.boolval

    def to_str(self):
        if self.boolval:
            return 'true'
        return 'false'


w_none = W_None()
w_true = W_Bool(True)
w_false = W_Bool(False)


def new_bool(flag):
    if flag:
        return w_true
    return w_false


class W_Int(W_Root):
    """A machine-word integer; results that do not fit are an error."""

    typename = 'int'
    _immutable_fields_ = ['intval']

    def __init__(self, intval):
        self.intval = intval

    def is_true(self):
        return self.intval != 0

    def to_str(self):
        return str(self.intval)

    def add(self, w_other):
        if isinstance(w_other, W_Int):
            try:
                return W_Int(ovfcheck(self.intval + w_other.intval))
            except OverflowError:
                raise overflow_error()
        return W_Root.add(self, w_other)

    def sub(self, w_other):
        if isinstance(w_other, W_Int):
            try:
                return W_Int(ovfcheck(self.intval - w_other.intval))
            except OverflowError:
                raise overflow_error()
        return W_Root.sub(self, w_other)

    def mul(self, w_other):
        if isinstance(w_other, W_Int):
            try:
                return W_Int(ovfcheck(self.intval * w_other.intval))
            except OverflowError:
                raise overflow_error()
        return W_Root.mul(self, w_other)

    def floordiv(self, w_other):
        if isinstance(w_other, W_Int):
            divisor = w_other.intval
            if divisor == 0:
                raise division_error()
            if divisor == -1:      # the one division that can overflow
                return self.negate()
            return W_Int(self.intval // divisor)
        return W_Root.floordiv(self, w_other)

    def mod(self, w_other):
        if isinstance(w_other, W_Int):
            divisor = w_other.intval
            if divisor == 0:
                raise division_error()
            if divisor == -1:
                return W_Int(0)
            return W_Int(self.intval % divisor)
        return W_Root.mod(self, w_other)

    def negate(self):
        try:
            return W_Int(ovfcheck(0 - self.intval))
        except OverflowError:
            raise overflow_error()

    def eq(self, w_other):
        if isinstance(w_other, W_Int):
            return self.intval == w_other.intval
        if isinstance(w_other, W_Float):
            return float(self.intval) == w_other.floatval
        return False

    def lt(self, w_other):
        if isinstance(w_other, W_Int):
            return self.intval < w_other.intval
        return W_Root.lt(self, w_other)

    def le(self, w_other):
        if isinstance(w_other, W_Int):
            return self.intval <= w_other.intval
        return W_Root.le(self, w_other)


class W_Float(W_Root):
    typename = 'float'
    _immutable_fields_ = ['floatval']

    def __init__(self, floatval):
        self.floatval = floatval

    def is_true(self):
        return self.floatval != 0.0

    def to_str(self):
        return format_float(self.floatval)

    def negate(self):
        return W_Float(-self.floatval)

    def eq(self, w_other):
        if isinstance(w_other, W_Float):
            return self.floatval == w_other.floatval
        if isinstance(w_other, W_Int):
            return self.floatval == float(w_other.intval)
        return False


class W_Str(W_Root):
    """An immutable string of bytes."""

    typename = 'str'
    _immutable_fields_ = ['strval']

    def __init__(self, strval):
        self.strval = strval

    def is_true(self):
        return len(self.strval) > 0

    def to_str(self):
        return self.strval

    def to_repr(self, outer):
        return quote(self.strval)

    def add(self, w_other):
        if isinstance(w_other, W_Str):
            return W_Str(self.strval + w_other.strval)
        return W_Root.add(self, w_other)

    def eq(self, w_other):
        return isinstance(w_other, W_Str) and self.strval == w_other.strval

    def lt(self, w_other):
        if isinstance(w_other, W_Str):
            return self.strval < w_other.strval
        return W_Root.lt(self, w_other)

    def le(self, w_other):
        if isinstance(w_other, W_Str):
            return self.strval <= w_other.strval
        return W_Root.le(self, w_other)

    def length(self):
        return len(self.strval)

    def get_item(self, w_index):
        i = check_index(w_index, len(self.strval))
        return W_Str(self.strval[i])


class W_List(W_Root):
    """A mutable, growing list."""

    typename = 'list'
    _immutable_fields_ = ['items']     # the list object, not its contents

    def __init__(self, items):
        self.items = items

    def is_true(self):
        return len(self.items) > 0

    def to_str(self):
        return self.to_repr([])

    def to_repr(self, outer):
        for w_list in outer:
            if w_list is self:
                return '[...]'
        outer.append(self)
        texts = [w_item.to_repr(outer) for w_item in self.items]
        outer.pop()
        return '[' + ', '.join(texts) + ']'

    def add(self, w_other):
        if isinstance(w_other, W_List):
            return W_List(self.items + w_other.items)
        return W_Root.add(self, w_other)

    def eq(self, w_other):
        if not isinstance(w_other, W_List):
            return False
        if self is w_other:
            return True
        if len(self.items) != len(w_other.items):
            return False
        for i in range(len(self.items)):
            if not self.items[i].eq(w_other.items[i]):
                return False
        return True

    def length(self):
        return len(self.items)

    def get_item(self, w_index):
        return self.items[check_index(w_index, len(self.items))]

    def set_item(self, w_index, w_value):
        self.items[check_index(w_index, len(self.items))] = w_value


class W_Function(W_Root):
    """A function defined by the program."""

    typename = 'function'
    _immutable_fields_ = ['code']

    def __init__(self, code):
        self.code = code

    def to_str(self):
        return '<function %s>' % self.code.name


class W_Native(W_Root):
    """A built-in function.  A negative arity means any number."""

    typename = 'function'
    _immutable_fields_ = ['name', 'arity', 'function']

    def __init__(self, name, arity, function):
        self.name = name
        self.arity = arity
        self.function = function

    def to_str(self):
        return '<function %s>' % self.name


# -- helpers -----------------------------------------------------------------

def as_float(w_value):
    """The value as a float; the caller made sure it is a number."""
    if isinstance(w_value, W_Int):
        return float(w_value.intval)
    if isinstance(w_value, W_Float):
        return w_value.floatval
    raise type_error('expected a number, got %s' % w_value.typename)


def is_number(w_value):
    return isinstance(w_value, W_Int) or isinstance(w_value, W_Float)


def as_floats(operator, w_a, w_b):
    """Both operands as floats; a type error unless both are numbers."""
    if not (is_number(w_a) and is_number(w_b)):
        raise type_error('unsupported operands for %s: %s and %s' % (
            operator, w_a.typename, w_b.typename))
    return as_float(w_a), as_float(w_b)


def not_integers(operator, w_a, w_b):
    return type_error('%s needs integers, got %s and %s' % (
        operator, w_a.typename, w_b.typename))


def check_index(w_index, length):
    """The index as a number from 0 to length - 1."""
    if not isinstance(w_index, W_Int):
        raise type_error('index must be int, not %s' % w_index.typename)
    i = w_index.intval
    if not 0 <= i < length:
        raise DemoError(errors.INDEX, 'index %d out of range for length %d' % (
            i, length))
    return i


def quote(text):
    """The text as a literal of the language."""
    chars = ['"']
    for c in text:
        if c == '\n':
            chars.append('\\n')
        elif c == '\t':
            chars.append('\\t')
        elif c == '\r':
            chars.append('\\r')
        elif c == '"' or c == '\\':
            chars.append('\\' + c)
        else:
            chars.append(c)
    chars.append('"')
    return ''.join(chars)
