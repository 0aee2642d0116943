"""Frames and the dispatch loop.

The loop is what the JIT compiles.  Its position is named by the 'green'
variables pc and code; the 'red' frame is virtualizable, so that inside
machine code the frame's variables and stack live in registers.
"""

from rpython.rlib import jit
from rpython.rlib.rstackovf import StackOverflow, check_stack_overflow

from demolang import bytecode, errors, grammar
from demolang.codegen import Globals, compile_program
from demolang.errors import DemoError, DemoSyntaxError, type_error
from demolang.natives import define_natives
from demolang.values import W_Function, W_List, W_Native, new_bool

# Deepest nesting of calls in a demo program.
MAX_CALL_DEPTH = 1000


def get_printable_location(pc, code):
    """What the JIT's log calls a position."""
    return code.describe(pc)


jitdriver = jit.JitDriver(greens=['pc', 'code'], reds=['frame'],
                          virtualizables=['frame'], name='demo',
                          get_printable_location=get_printable_location,
                          is_recursive=True,
                          check_untranslated=False)   # slow, untranslated


class Frame(object):
    """The state of one active call.

    slots     the local variables, then the operand stack
    top       the first free place of the operand stack
    pc        the instruction being executed
    level     how deep in nested calls this one is
    """

    _virtualizable_ = ['pc', 'top', 'level', 'slots[*]']

    @jit.unroll_safe
    def __init__(self, code, args_w, level):
        self = jit.hint(self, access_directly=True, fresh_virtualizable=True)
        self.slots = [None] * code.framesize
        self.top = code.nlocals
        self.pc = 0
        self.level = level
        for i in range(len(args_w)):
            self.slots[i] = args_w[i]

    def push(self, w_value):
        top = self.top
        assert top >= 0
        self.slots[top] = w_value
        self.top = top + 1

    def pop(self):
        top = self.top - 1
        assert top >= 0
        w_value = self.slots[top]
        self.slots[top] = None
        self.top = top
        return w_value

    def peek(self):
        top = self.top - 1
        assert top >= 0
        return self.slots[top]

    @jit.unroll_safe
    def pop_many(self, count):
        """The 'count' topmost values, in the order they were pushed."""
        values_w = [None] * count
        i = count - 1
        while i >= 0:
            values_w[i] = self.pop()
            i -= 1
        return values_w

    def get_local(self, slot):
        assert slot >= 0
        return self.slots[slot]

    def set_local(self, slot, w_value):
        assert slot >= 0
        self.slots[slot] = w_value


def run(frame, code):
    """Execute the frame's code; returns the value it returns."""
    frame = jit.hint(frame, access_directly=True)
    pc = 0
    while True:
        jitdriver.jit_merge_point(pc=pc, code=code, frame=frame)
        frame.pc = pc
        op = code.ops[pc]
        arg = code.ops[pc + 1]
        pc += 2
        if op == bytecode.RETURN:
            return frame.pop()
        elif op == bytecode.JUMP:
            pc = arg
        elif op == bytecode.JUMP_BACK:
            pc = arg
            jitdriver.can_enter_jit(pc=pc, code=code, frame=frame)
        elif op == bytecode.JUMP_IF_FALSE:
            if not frame.pop().is_true():
                pc = arg
        elif op == bytecode.JUMP_IF_FALSE_KEEP:
            if frame.peek().is_true():
                frame.pop()
            else:
                pc = arg
        elif op == bytecode.JUMP_IF_TRUE_KEEP:
            if frame.peek().is_true():
                pc = arg
            else:
                frame.pop()
        elif op == bytecode.CALL:
            args_w = frame.pop_many(arg)
            frame.push(call(frame.pop(), args_w, frame.level))
        else:
            step(frame, code, op, arg)


def step(frame, code, op, arg):
    """Execute an instruction that leads to the next one and calls nothing."""
    if op == bytecode.LOAD_LOCAL:
        frame.push(frame.get_local(arg))
    elif op == bytecode.LOAD_CONST:
        frame.push(code.consts[arg])
    elif op == bytecode.STORE_LOCAL:
        frame.set_local(arg, frame.pop())
    elif op == bytecode.LOAD_GLOBAL:
        frame.push(code.cells[arg].get())
    elif op == bytecode.STORE_GLOBAL:
        code.cells[arg].set(frame.pop())
    elif op == bytecode.DECLARE_GLOBAL:
        code.cells[arg].declare(frame.pop())
    elif op == bytecode.POP:
        frame.pop()
    elif op == bytecode.NEGATE:
        frame.push(frame.pop().negate())
    elif op == bytecode.NOT:
        frame.push(new_bool(not frame.pop().is_true()))
    elif op == bytecode.BUILD_LIST:
        frame.push(W_List(growable(frame.pop_many(arg))))
    elif op == bytecode.STORE_INDEX:
        w_value = frame.pop()
        w_index = frame.pop()
        frame.pop().set_item(w_index, w_value)
    else:
        w_right = frame.pop()
        frame.push(binary(op, frame.pop(), w_right))


def binary(op, w_left, w_right):
    """Execute an instruction that takes two values and leaves one."""
    if op == bytecode.ADD:
        return w_left.add(w_right)
    if op == bytecode.SUB:
        return w_left.sub(w_right)
    if op == bytecode.MUL:
        return w_left.mul(w_right)
    if op == bytecode.DIV:
        return w_left.div(w_right)
    if op == bytecode.FLOORDIV:
        return w_left.floordiv(w_right)
    if op == bytecode.MOD:
        return w_left.mod(w_right)
    if op == bytecode.INDEX:
        return w_left.get_item(w_right)
    return new_bool(compare(op, w_left, w_right))


def compare(op, w_left, w_right):
    if op == bytecode.EQ:
        return w_left.eq(w_right)
    if op == bytecode.NE:
        return not w_left.eq(w_right)
    if op == bytecode.LT:
        return w_left.lt(w_right)
    if op == bytecode.LE:
        return w_left.le(w_right)
    if op == bytecode.GT:
        return w_right.lt(w_left)
    assert op == bytecode.GE
    return w_right.le(w_left)


@jit.unroll_safe
def growable(values_w):
    """A growing list of the values of a fixed-size one."""
    items = []
    for w_value in values_w:
        items.append(w_value)
    return items


def call(w_callee, args_w, level):
    """Call a function value from a frame at the given level."""
    w_callee = jit.promote(w_callee)
    if isinstance(w_callee, W_Function):
        code = w_callee.code
        check_arity(code.name, code.nparams, len(args_w))
        if level >= MAX_CALL_DEPTH:
            raise DemoError(errors.STACK, 'calls nested more than %d deep' %
                            MAX_CALL_DEPTH)
        return execute(code, args_w, level + 1)
    if isinstance(w_callee, W_Native):
        if w_callee.arity >= 0:
            check_arity(w_callee.name, w_callee.arity, len(args_w))
        return w_callee.function(args_w)
    raise type_error('%s is not callable' % w_callee.typename)


def check_arity(name, expected, given):
    if expected != given:
        raise type_error('%s() takes %d arguments, got %d' % (
            name, expected, given))


def execute(code, args_w, level):
    """Run code in a new frame; errors get the frame added to their trace."""
    frame = Frame(code, args_w, level)
    try:
        return run(frame, code)
    except DemoError as e:
        e.add_entry(code.name, code.filename, code.line_of(frame.pc))
        raise
    except StackOverflow:
        check_stack_overflow()
        raise resource_error(code, frame, errors.STACK, 'out of stack')
    except MemoryError:
        raise resource_error(code, frame, errors.MEMORY, 'out of memory')


def resource_error(code, frame, kind, message):
    error = DemoError(kind, message)
    error.add_entry(code.name, code.filename, code.line_of(frame.pc))
    return error


# -- whole programs ----------------------------------------------------------

def compile_text(text, filename):
    """The code of a program's top level, its functions defined."""
    global_table = Globals()
    define_natives(global_table)
    try:
        return compile_program(grammar.parse(text), filename, global_table)
    except StackOverflow:
        check_stack_overflow()
        raise DemoSyntaxError('program too deeply nested', 1)


def run_text(text, filename):
    """Compile and run a program."""
    execute(compile_text(text, filename), [], 1)
