"""The instruction set and compiled code.

Code is a list of integers, two for each instruction: the opcode and its
argument (0 when the opcode takes none).  A position ('pc') is the index
of an opcode, so it is always even.
"""

from rpython.rlib import jit

(LOAD_CONST, LOAD_LOCAL, STORE_LOCAL, LOAD_GLOBAL, STORE_GLOBAL,
 DECLARE_GLOBAL, POP, BUILD_LIST, INDEX, STORE_INDEX,
 ADD, SUB, MUL, DIV, FLOORDIV, MOD, EQ, NE, LT, LE, GT, GE,
 NEGATE, NOT, JUMP, JUMP_BACK, JUMP_IF_FALSE, JUMP_IF_FALSE_KEEP,
 JUMP_IF_TRUE_KEEP, CALL, RETURN) = range(31)

NAMES = [
    'LOAD_CONST', 'LOAD_LOCAL', 'STORE_LOCAL', 'LOAD_GLOBAL', 'STORE_GLOBAL',
    'DECLARE_GLOBAL', 'POP', 'BUILD_LIST', 'INDEX', 'STORE_INDEX',
    'ADD', 'SUB', 'MUL', 'DIV', 'FLOORDIV', 'MOD', 'EQ', 'NE', 'LT', 'LE',
    'GT', 'GE', 'NEGATE', 'NOT', 'JUMP', 'JUMP_BACK', 'JUMP_IF_FALSE',
    'JUMP_IF_FALSE_KEEP', 'JUMP_IF_TRUE_KEEP', 'CALL', 'RETURN']

BINARY = {'+': ADD, '-': SUB, '*': MUL, '/': DIV, '//': FLOORDIV, '%': MOD,
          '==': EQ, '!=': NE, '<': LT, '<=': LE, '>': GT, '>=': GE}


def stack_effect(op, arg):
    """How many values the instruction leaves on the stack, net.

    For the conditional jumps that keep their operand this is the effect
    when they do not jump.
    """
    if op == LOAD_CONST or op == LOAD_LOCAL or op == LOAD_GLOBAL:
        return 1
    if op == NEGATE or op == NOT or op == JUMP or op == JUMP_BACK:
        return 0
    if op == BUILD_LIST:
        return 1 - arg
    if op == CALL:
        return -arg
    if op == STORE_INDEX:
        return -3
    return -1


class Code(object):
    """A compiled function, or a program's top level."""

    _immutable_fields_ = ['name', 'filename', 'nparams', 'nlocals',
                          'framesize', 'ops[*]', 'lines[*]', 'consts[*]',
                          'cells[*]']

    def __init__(self, name, filename, nparams, nlocals, stacksize, ops,
                 lines, consts, cells):
        self.name = name
        self.filename = filename
        self.nparams = nparams
        self.nlocals = nlocals
        self.framesize = nlocals + stacksize
        self.ops = ops
        self.lines = lines
        self.consts = consts
        self.cells = cells

    @jit.elidable
    def line_of(self, pc):
        """The source line of the instruction at 'pc'."""
        return self.lines[pc >> 1]

    def describe(self, pc):
        """One instruction, for the JIT's log and for tests."""
        op = self.ops[pc]
        return '%s (%s:%d) %d %s %d' % (
            self.name, self.filename, self.line_of(pc), pc, NAMES[op],
            self.ops[pc + 1])
