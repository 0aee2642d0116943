"""Text to tokens."""

from demolang.errors import DemoSyntaxError

NAME = 'name'
INT = 'integer'
FLOAT = 'float'
STRING = 'string'
KEYWORD = 'keyword'
OPERATOR = 'operator'
END = 'end of file'

KEYWORDS = ['var', 'fn', 'if', 'else', 'while', 'return', 'break', 'continue',
            'and', 'or', 'not', 'true', 'false', 'none']

DOUBLE_OPERATORS = ['==', '!=', '<=', '>=', '//']
SINGLE_OPERATORS = '+-*/%<>=(){}[],;'


class Token(object):
    """A lexical unit: its kind, its text (decoded, for a string), its line."""

    def __init__(self, kind, text, line):
        self.kind = kind
        self.text = text
        self.line = line

    def describe(self):
        if self.kind == END:
            return END
        return "'%s'" % self.text


def is_digit(c):
    return '0' <= c <= '9'


def is_name_start(c):
    return 'a' <= c <= 'z' or 'A' <= c <= 'Z' or c == '_'


def is_name_part(c):
    return is_name_start(c) or is_digit(c)


class Lexer(object):
    """Splits a program's text into a list of tokens."""

    def __init__(self, text):
        self.text = text
        self.pos = 0
        self.line = 1
        self.tokens = []

    def tokenize(self):
        self.skip_blanks()
        while self.pos < len(self.text):
            self.read_token()
            self.skip_blanks()
        self.add(END, '')
        return self.tokens

    def add(self, kind, text):
        self.tokens.append(Token(kind, text, self.line))

    def peek(self, ahead):
        """The character 'ahead' of the current one, or NUL past the end."""
        i = self.pos + ahead
        if i < len(self.text):
            return self.text[i]
        return '\x00'

    def slice_from(self, start):
        stop = self.pos
        assert start >= 0
        assert stop >= start
        return self.text[start:stop]

    def skip_blanks(self):
        """Skip spaces, line ends and '#' comments."""
        while self.pos < len(self.text):
            c = self.text[self.pos]
            if c == '#':
                self.skip_comment()
                continue
            if c == '\n':
                self.line += 1
            elif c != ' ' and c != '\t' and c != '\r':
                return
            self.pos += 1

    def skip_comment(self):
        while self.pos < len(self.text) and self.text[self.pos] != '\n':
            self.pos += 1

    def read_token(self):
        c = self.text[self.pos]
        if is_digit(c):
            self.read_number()
        elif is_name_start(c):
            self.read_name()
        elif c == '"':
            self.read_string()
        else:
            self.read_operator(c)

    def skip_digits(self):
        while is_digit(self.peek(0)):
            self.pos += 1

    def read_number(self):
        start = self.pos
        kind = INT
        self.skip_digits()
        if self.peek(0) == '.' and is_digit(self.peek(1)):
            kind = FLOAT
            self.pos += 1
            self.skip_digits()
        if self.at_exponent():
            kind = FLOAT
            self.pos += 2
            self.skip_digits()
        if is_name_start(self.peek(0)):
            raise DemoSyntaxError('malformed number', self.line)
        self.add(kind, self.slice_from(start))

    def at_exponent(self):
        c = self.peek(0)
        if c != 'e' and c != 'E':
            return False
        c = self.peek(1)
        if c == '+' or c == '-':
            return is_digit(self.peek(2))
        return is_digit(c)

    def read_name(self):
        start = self.pos
        while is_name_part(self.peek(0)):
            self.pos += 1
        text = self.slice_from(start)
        if text in KEYWORDS:
            self.add(KEYWORD, text)
        else:
            self.add(NAME, text)

    def read_string(self):
        self.pos += 1
        chars = []
        while True:
            if self.pos >= len(self.text) or self.text[self.pos] == '\n':
                raise DemoSyntaxError('unterminated string', self.line)
            c = self.text[self.pos]
            self.pos += 1
            if c == '"':
                break
            if c == '\\':
                c = self.read_escape()
            chars.append(c)
        self.add(STRING, ''.join(chars))

    def read_escape(self):
        c = self.peek(0)
        self.pos += 1
        if c == 'n':
            return '\n'
        if c == 't':
            return '\t'
        if c == 'r':
            return '\r'
        if c == '"' or c == '\\':
            return c
        raise DemoSyntaxError('unknown escape in string', self.line)

    def read_operator(self, c):
        pair = c + self.peek(1)
        if pair in DOUBLE_OPERATORS:
            self.pos += 2
            self.add(OPERATOR, pair)
        elif c in SINGLE_OPERATORS:
            self.pos += 1
            self.add(OPERATOR, c)
        elif c == '!':
            raise DemoSyntaxError("unexpected '!' (write 'not')", self.line)
        else:
            raise DemoSyntaxError('unexpected character (code %d)' % ord(c),
                                  self.line)


def tokenize(text):
    return Lexer(text).tokenize()
