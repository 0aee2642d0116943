"""The syntax tree.  Each node knows how to compile itself."""

from demolang import bytecode
from demolang.values import (W_Float, W_Int, W_Str, new_bool, w_none)


class Node(object):
    """A statement or expression, with the line it is reported at."""

    def __init__(self, line):
        self.line = line

    def compile(self, builder):
        raise NotImplementedError

    def as_assignment(self, line, value):
        """The node that assigns to this one, or None if nothing can."""
        return None


class Program(object):
    def __init__(self, functions, statements):
        self.functions = functions
        self.statements = statements


class Function(object):
    def __init__(self, line, name, params, body):
        self.line = line
        self.name = name
        self.params = params
        self.body = body


# -- statements --------------------------------------------------------------

class Block(Node):
    def __init__(self, line, statements):
        Node.__init__(self, line)
        self.statements = statements

    def compile(self, builder):
        builder.open_scope()
        for statement in self.statements:
            statement.compile(builder)
        builder.close_scope()


class Var(Node):
    def __init__(self, line, name, value):
        Node.__init__(self, line)
        self.name = name
        self.value = value

    def compile(self, builder):
        self.value.compile(builder)
        builder.emit_declare(self.name, self.line)


class Assign(Node):
    def __init__(self, line, name, value):
        Node.__init__(self, line)
        self.name = name
        self.value = value

    def compile(self, builder):
        self.value.compile(builder)
        builder.emit_store(self.name, self.line)


class AssignIndex(Node):
    def __init__(self, line, container, index, value):
        Node.__init__(self, line)
        self.container = container
        self.index = index
        self.value = value

    def compile(self, builder):
        self.container.compile(builder)
        self.index.compile(builder)
        self.value.compile(builder)
        builder.emit(bytecode.STORE_INDEX, 0, self.line)


class ExpressionStatement(Node):
    def __init__(self, line, expression):
        Node.__init__(self, line)
        self.expression = expression

    def compile(self, builder):
        self.expression.compile(builder)
        builder.emit(bytecode.POP, 0, self.line)


class If(Node):
    def __init__(self, line, condition, then, otherwise):
        Node.__init__(self, line)
        self.condition = condition
        self.then = then
        self.otherwise = otherwise

    def compile(self, builder):
        self.condition.compile(builder)
        skip = builder.emit(bytecode.JUMP_IF_FALSE, 0, self.line)
        self.then.compile(builder)
        if self.otherwise is None:
            builder.patch(skip)
            return
        done = builder.emit(bytecode.JUMP, 0, self.line)
        builder.patch(skip)
        self.otherwise.compile(builder)
        builder.patch(done)


class While(Node):
    def __init__(self, line, condition, body):
        Node.__init__(self, line)
        self.condition = condition
        self.body = body

    def compile(self, builder):
        builder.open_loop()
        self.condition.compile(builder)
        leave = builder.emit(bytecode.JUMP_IF_FALSE, 0, self.line)
        self.body.compile(builder)
        builder.emit_continue(self.line)
        builder.patch(leave)
        builder.close_loop()


class Break(Node):
    def compile(self, builder):
        builder.emit_break(self.line)


class Continue(Node):
    def compile(self, builder):
        builder.emit_continue(self.line)


class Return(Node):
    def __init__(self, line, value):
        Node.__init__(self, line)
        self.value = value

    def compile(self, builder):
        if self.value is None:
            builder.emit_const(w_none, self.line)
        else:
            self.value.compile(builder)
        builder.emit(bytecode.RETURN, 0, self.line)


# -- expressions -------------------------------------------------------------

class IntLiteral(Node):
    def __init__(self, line, value):
        Node.__init__(self, line)
        self.value = value

    def compile(self, builder):
        builder.emit_const(W_Int(self.value), self.line)


class FloatLiteral(Node):
    def __init__(self, line, value):
        Node.__init__(self, line)
        self.value = value

    def compile(self, builder):
        builder.emit_const(W_Float(self.value), self.line)


class StringLiteral(Node):
    def __init__(self, line, value):
        Node.__init__(self, line)
        self.value = value

    def compile(self, builder):
        builder.emit_const(W_Str(self.value), self.line)


class BoolLiteral(Node):
    def __init__(self, line, value):
        Node.__init__(self, line)
        self.value = value

    def compile(self, builder):
        builder.emit_const(new_bool(self.value), self.line)


class NoneLiteral(Node):
    def compile(self, builder):
        builder.emit_const(w_none, self.line)


class ListLiteral(Node):
    def __init__(self, line, items):
        Node.__init__(self, line)
        self.items = items

    def compile(self, builder):
        for item in self.items:
            item.compile(builder)
        builder.emit(bytecode.BUILD_LIST, len(self.items), self.line)


class Name(Node):
    def __init__(self, line, name):
        Node.__init__(self, line)
        self.name = name

    def compile(self, builder):
        builder.emit_load(self.name, self.line)

    def as_assignment(self, line, value):
        return Assign(line, self.name, value)


class Index(Node):
    def __init__(self, line, container, index):
        Node.__init__(self, line)
        self.container = container
        self.index = index

    def compile(self, builder):
        self.container.compile(builder)
        self.index.compile(builder)
        builder.emit(bytecode.INDEX, 0, self.line)

    def as_assignment(self, line, value):
        return AssignIndex(line, self.container, self.index, value)


class Call(Node):
    def __init__(self, line, callee, args):
        Node.__init__(self, line)
        self.callee = callee
        self.args = args

    def compile(self, builder):
        self.callee.compile(builder)
        for arg in self.args:
            arg.compile(builder)
        builder.emit(bytecode.CALL, len(self.args), self.line)


class Binary(Node):
    def __init__(self, line, operator, left, right):
        Node.__init__(self, line)
        self.operator = operator
        self.left = left
        self.right = right

    def compile(self, builder):
        self.left.compile(builder)
        self.right.compile(builder)
        builder.emit(bytecode.BINARY[self.operator], 0, self.line)


class Negate(Node):
    def __init__(self, line, operand):
        Node.__init__(self, line)
        self.operand = operand

    def compile(self, builder):
        self.operand.compile(builder)
        builder.emit(bytecode.NEGATE, 0, self.line)


class Not(Node):
    def __init__(self, line, operand):
        Node.__init__(self, line)
        self.operand = operand

    def compile(self, builder):
        self.operand.compile(builder)
        builder.emit(bytecode.NOT, 0, self.line)


class And(Node):
    """The left operand if it is false, otherwise the right one."""

    def __init__(self, line, left, right):
        Node.__init__(self, line)
        self.left = left
        self.right = right

    def compile(self, builder):
        self.left.compile(builder)
        done = builder.emit(bytecode.JUMP_IF_FALSE_KEEP, 0, self.line)
        self.right.compile(builder)
        builder.patch(done)


class Or(Node):
    """The left operand if it is true, otherwise the right one."""

    def __init__(self, line, left, right):
        Node.__init__(self, line)
        self.left = left
        self.right = right

    def compile(self, builder):
        self.left.compile(builder)
        done = builder.emit(bytecode.JUMP_IF_TRUE_KEEP, 0, self.line)
        self.right.compile(builder)
        builder.patch(done)
