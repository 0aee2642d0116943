"""Numbers to and from text, alike translated and untranslated."""

from rpython.rlib.objectmodel import we_are_translated
from rpython.rlib.rarithmetic import LONG_BIT, ovfcheck

# Exact as a float, where the largest integer of 64 bits is not.
WORD_LIMIT = 2.0 ** (LONG_BIT - 1)


def parse_int(text):
    """Decimal integer; ValueError if malformed, OverflowError if too big."""
    negative = text.startswith('-')
    start = 0
    if negative or text.startswith('+'):
        start = 1
    if start == len(text):
        raise ValueError
    value = 0
    for i in range(start, len(text)):
        digit = ord(text[i]) - ord('0')
        if not 0 <= digit <= 9:
            raise ValueError
        value = ovfcheck(value * 10)
        if negative:
            value = ovfcheck(value - digit)
        else:
            value = ovfcheck(value + digit)
    return value


def parse_float(text):
    """Decimal float; ValueError if malformed."""
    if not is_float_text(text):
        raise ValueError
    if we_are_translated():
        from rpython.rlib.rfloat import rstring_to_float
        return rstring_to_float(text)
    return float(text)


def is_float_text(text):
    """sign? digits ('.' digits)? (e sign? digits)?"""
    pos = skip_sign(text, 0)
    end = skip_digits(text, pos)
    if end == pos:
        return False
    if end < len(text) and text[end] == '.':
        pos = end + 1
        end = skip_digits(text, pos)
        if end == pos:
            return False
    if end < len(text) and text[end] in 'eE':
        pos = skip_sign(text, end + 1)
        end = skip_digits(text, pos)
        if end == pos:
            return False
    return end == len(text)


def skip_sign(text, pos):
    if pos < len(text) and text[pos] in '+-':
        return pos + 1
    return pos


def skip_digits(text, pos):
    while pos < len(text) and '0' <= text[pos] <= '9':
        pos += 1
    return pos


def format_float(value):
    """The shortest text that reads back as the same float."""
    if we_are_translated():
        from rpython.rlib.rfloat import formatd, DTSF_ADD_DOT_0
        return formatd(value, 'r', 0, DTSF_ADD_DOT_0)
    return repr(value)


def float_to_int(value):
    """Truncate; OverflowError if it does not fit (or is not a number)."""
    if -WORD_LIMIT <= value < WORD_LIMIT:
        return int(value)
    raise OverflowError
