"""Tokens to syntax tree: a recursive-descent parser."""

from demolang import lexer, numbers_text, syntax
from demolang.errors import DemoSyntaxError

# Deepest nesting of blocks and expressions; keeps the parser's own
# recursion far from the end of the C stack.
MAX_NESTING = 150

COMPARISONS = ['==', '!=', '<', '<=', '>', '>=']


class Parser(object):
    """Parses one program."""

    def __init__(self, tokens):
        self.tokens = tokens
        self.pos = 0
        self.nesting = 0
        self.loops = 0
        self.in_function = False

    # -- token access ------------------------------------------------------

    def current(self):
        return self.tokens[self.pos]

    def advance(self):
        token = self.tokens[self.pos]
        if token.kind != lexer.END:
            self.pos += 1
        return token

    def at(self, text):
        """Is the current token this operator or keyword?"""
        token = self.current()
        if token.kind != lexer.OPERATOR and token.kind != lexer.KEYWORD:
            return False
        return token.text == text

    def accept(self, text):
        if self.at(text):
            self.advance()
            return True
        return False

    def expect(self, text):
        token = self.current()
        if not self.accept(text):
            raise self.error("expected '%s', found %s" % (
                text, token.describe()))
        return token

    def expect_name(self):
        token = self.current()
        if token.kind != lexer.NAME:
            raise self.error('expected a name, found %s' % token.describe())
        return self.advance()

    def error(self, message):
        return DemoSyntaxError(message, self.current().line)

    def enter(self):
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.error('nested more than %d levels deep' % MAX_NESTING)

    def leave(self):
        self.nesting -= 1

    # -- program, functions, statements ------------------------------------

    def program(self):
        functions = []
        statements = []
        while self.current().kind != lexer.END:
            if self.at('fn'):
                functions.append(self.function())
            else:
                statements.append(self.statement())
        return syntax.Program(functions, statements)

    def function(self):
        line = self.expect('fn').line
        name = self.expect_name().text
        params = self.parameters()
        self.in_function = True
        body = self.block()
        self.in_function = False
        return syntax.Function(line, name, params, body)

    def parameters(self):
        params = []
        self.expect('(')
        while not self.at(')'):
            name = self.expect_name().text
            if name in params:
                raise self.error("parameter '%s' appears twice" % name)
            params.append(name)
            if not self.accept(','):
                break
        self.expect(')')
        return params

    def block(self):
        self.enter()
        line = self.expect('{').line
        statements = []
        while not self.at('}') and self.current().kind != lexer.END:
            statements.append(self.statement())
        self.expect('}')
        self.leave()
        return syntax.Block(line, statements)

    def statement(self):
        if self.at('var'):
            return self.var_statement()
        if self.at('if'):
            return self.if_statement()
        if self.at('while'):
            return self.while_statement()
        if self.at('return'):
            return self.return_statement()
        if self.at('break') or self.at('continue'):
            return self.loop_exit_statement()
        if self.at('{'):
            return self.block()
        if self.at('fn'):
            raise self.error('functions can only be defined at the top level')
        return self.expression_statement()

    def var_statement(self):
        line = self.expect('var').line
        name = self.expect_name().text
        self.expect('=')
        value = self.expression()
        self.expect(';')
        return syntax.Var(line, name, value)

    def if_statement(self):
        self.enter()
        line = self.expect('if').line
        condition = self.expression()
        then = self.block()
        otherwise = None
        if self.accept('else'):
            if self.at('if'):
                otherwise = self.if_statement()
            else:
                otherwise = self.block()
        self.leave()
        return syntax.If(line, condition, then, otherwise)

    def while_statement(self):
        line = self.expect('while').line
        condition = self.expression()
        self.loops += 1
        body = self.block()
        self.loops -= 1
        return syntax.While(line, condition, body)

    def return_statement(self):
        line = self.expect('return').line
        if not self.in_function:
            raise DemoSyntaxError("'return' outside a function", line)
        value = None
        if not self.at(';'):
            value = self.expression()
        self.expect(';')
        return syntax.Return(line, value)

    def loop_exit_statement(self):
        token = self.advance()
        if self.loops == 0:
            raise DemoSyntaxError("'%s' outside a loop" % token.text,
                                  token.line)
        self.expect(';')
        if token.text == 'break':
            return syntax.Break(token.line)
        return syntax.Continue(token.line)

    def expression_statement(self):
        """An assignment, or an expression evaluated for its effect."""
        target = self.expression()
        if self.at('='):
            line = self.advance().line
            value = self.expression()
            self.expect(';')
            node = target.as_assignment(line, value)
            if node is None:
                raise DemoSyntaxError('cannot assign to this expression', line)
            return node
        self.expect(';')
        return syntax.ExpressionStatement(target.line, target)

    # -- expressions, loosest first ----------------------------------------

    def expression(self):
        self.enter()
        node = self.or_expression()
        self.leave()
        return node

    def or_expression(self):
        node = self.and_expression()
        while self.at('or'):
            line = self.advance().line
            node = syntax.Or(line, node, self.and_expression())
        return node

    def and_expression(self):
        node = self.not_expression()
        while self.at('and'):
            line = self.advance().line
            node = syntax.And(line, node, self.not_expression())
        return node

    def not_expression(self):
        if not self.at('not'):
            return self.comparison()
        self.enter()
        line = self.advance().line
        node = syntax.Not(line, self.not_expression())
        self.leave()
        return node

    def comparison(self):
        node = self.sum()
        token = self.current()
        if token.kind == lexer.OPERATOR and token.text in COMPARISONS:
            self.advance()
            node = syntax.Binary(token.line, token.text, node, self.sum())
        return node

    def sum(self):
        node = self.term()
        while self.at('+') or self.at('-'):
            token = self.advance()
            node = syntax.Binary(token.line, token.text, node, self.term())
        return node

    def term(self):
        node = self.unary()
        while (self.at('*') or self.at('/') or self.at('//') or
               self.at('%')):
            token = self.advance()
            node = syntax.Binary(token.line, token.text, node, self.unary())
        return node

    def unary(self):
        if not self.at('-'):
            return self.postfix()
        self.enter()
        line = self.advance().line
        node = syntax.Negate(line, self.unary())
        self.leave()
        return node

    def postfix(self):
        node = self.atom()
        while True:
            if self.at('('):
                line = self.current().line
                node = syntax.Call(line, node, self.sequence('(', ')'))
            elif self.at('['):
                line = self.advance().line
                index = self.expression()
                self.expect(']')
                node = syntax.Index(line, node, index)
            else:
                return node

    def sequence(self, opening, closing):
        """Comma-separated expressions; a trailing comma is allowed."""
        items = []
        self.expect(opening)
        while not self.at(closing):
            items.append(self.expression())
            if not self.accept(','):
                break
        self.expect(closing)
        return items

    def atom(self):
        token = self.current()
        if token.kind == lexer.NAME:
            self.advance()
            return syntax.Name(token.line, token.text)
        if token.kind == lexer.INT:
            return self.integer()
        if token.kind == lexer.FLOAT:
            self.advance()
            value = numbers_text.parse_float(token.text)
            return syntax.FloatLiteral(token.line, value)
        if token.kind == lexer.STRING:
            self.advance()
            return syntax.StringLiteral(token.line, token.text)
        if self.at('('):
            return self.parenthesized()
        if self.at('['):
            return syntax.ListLiteral(token.line, self.sequence('[', ']'))
        return self.word_literal()

    def integer(self):
        token = self.current()
        try:
            value = numbers_text.parse_int(token.text)
        except OverflowError:
            raise self.error('integer literal too large')
        self.advance()
        return syntax.IntLiteral(token.line, value)

    def parenthesized(self):
        self.expect('(')
        node = self.expression()
        self.expect(')')
        return node

    def word_literal(self):
        line = self.current().line
        if self.accept('true'):
            return syntax.BoolLiteral(line, True)
        if self.accept('false'):
            return syntax.BoolLiteral(line, False)
        if self.accept('none'):
            return syntax.NoneLiteral(line)
        raise self.error('expected an expression, found %s' %
                         self.current().describe())


def parse(text):
    """The syntax tree of a program's text."""
    return Parser(lexer.tokenize(text)).program()
