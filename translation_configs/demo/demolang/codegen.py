"""The code builder that syntax nodes write instructions to."""

from demolang import bytecode
from demolang.errors import DemoSyntaxError, name_error
from demolang.values import W_Function, w_none


class GlobalCell(object):
    """A global variable.

    A cell that was written once is a constant to the JIT: 'w_const' is a
    quasi-immutable field, and machine code that relied on it is thrown
    away when it changes.  From the second write on, the value lives in
    the ordinary field 'w_value' instead.
    """

    _immutable_fields_ = ['name', 'w_const?']

    def __init__(self, name):
        self.name = name
        self.w_const = None
        self.w_value = None

    def define(self, w_value):
        """Set the value before the program starts."""
        self.w_const = w_value

    def is_defined(self):
        return self.w_const is not None or self.w_value is not None

    def get(self):
        w_value = self.w_const
        if w_value is None:
            w_value = self.w_value
            if w_value is None:
                raise name_error(self.name)
        return w_value

    def declare(self, w_value):
        """'var NAME = value' at the top level."""
        if not self.is_defined():
            self.w_const = w_value
        else:
            self.set(w_value)

    def set(self, w_value):
        """'NAME = value' for a variable that must exist."""
        if self.w_const is not None:
            self.w_const = None
        elif self.w_value is None:
            raise name_error(self.name)
        self.w_value = w_value


class Globals(object):
    """The global variables of one program, by name."""

    def __init__(self):
        self.cells = {}

    def cell(self, name):
        try:
            return self.cells[name]
        except KeyError:
            cell = GlobalCell(name)
            self.cells[name] = cell
            return cell


class Loop(object):
    """A loop being compiled: where to continue, which jumps leave it."""

    def __init__(self, start):
        self.start = start
        self.exits = []


class CodeBuilder(object):
    """Collects the instructions of one code object."""

    def __init__(self, name, filename, global_table, params):
        self.name = name
        self.filename = filename
        self.global_table = global_table
        self.nparams = len(params)
        self.at_top_level = False
        self.ops = []
        self.lines = []
        self.consts = []
        self.cells = []
        self.scopes = []
        self.loops = []
        self.nlocals = 0
        self.next_slot = 0
        self.depth = 0
        self.max_depth = 0
        self.open_scope()
        for param in params:
            self.declare_local(param)

    def finish(self):
        return bytecode.Code(
            self.name, self.filename, self.nparams, self.nlocals,
            self.max_depth, self.ops[:], self.lines[:], self.consts[:],
            self.cells[:])

    # -- instructions ------------------------------------------------------

    def emit(self, op, arg, line):
        """Append an instruction; returns its position."""
        pc = len(self.ops)
        self.ops.append(op)
        self.ops.append(arg)
        self.lines.append(line)
        self.depth += bytecode.stack_effect(op, arg)
        if self.depth > self.max_depth:
            self.max_depth = self.depth
        return pc

    def emit_const(self, w_value, line):
        self.consts.append(w_value)
        self.emit(bytecode.LOAD_CONST, len(self.consts) - 1, line)

    def here(self):
        return len(self.ops)

    def patch(self, pc):
        """Make the jump at 'pc' go to the next instruction."""
        self.ops[pc + 1] = self.here()

    # -- names -------------------------------------------------------------

    def open_scope(self):
        self.scopes.append({})

    def close_scope(self):
        scope = self.scopes.pop()
        self.next_slot -= len(scope)

    def declare_local(self, name):
        """The slot of a new local of the current block."""
        scope = self.scopes[-1]
        if name in scope:
            return scope[name]
        slot = self.next_slot
        scope[name] = slot
        self.next_slot += 1
        if self.next_slot > self.nlocals:
            self.nlocals = self.next_slot
        return slot

    def find_local(self, name):
        """The slot of a visible local, or -1."""
        i = len(self.scopes) - 1
        while i >= 0:
            scope = self.scopes[i]
            if name in scope:
                return scope[name]
            i -= 1
        return -1

    def cell_index(self, name):
        cell = self.global_table.cell(name)
        for i in range(len(self.cells)):
            if self.cells[i] is cell:
                return i
        self.cells.append(cell)
        return len(self.cells) - 1

    def emit_load(self, name, line):
        slot = self.find_local(name)
        if slot >= 0:
            self.emit(bytecode.LOAD_LOCAL, slot, line)
        else:
            self.emit(bytecode.LOAD_GLOBAL, self.cell_index(name), line)

    def emit_store(self, name, line):
        slot = self.find_local(name)
        if slot >= 0:
            self.emit(bytecode.STORE_LOCAL, slot, line)
        else:
            self.emit(bytecode.STORE_GLOBAL, self.cell_index(name), line)

    def emit_declare(self, name, line):
        """Store into a new variable: global if outside every block."""
        if self.at_top_level and len(self.scopes) == 1:
            self.emit(bytecode.DECLARE_GLOBAL, self.cell_index(name), line)
        else:
            self.emit(bytecode.STORE_LOCAL, self.declare_local(name), line)

    # -- loops -------------------------------------------------------------

    def open_loop(self):
        self.loops.append(Loop(self.here()))

    def emit_continue(self, line):
        self.emit(bytecode.JUMP_BACK, self.loops[-1].start, line)

    def emit_break(self, line):
        self.loops[-1].exits.append(self.emit(bytecode.JUMP, 0, line))

    def close_loop(self):
        for pc in self.loops.pop().exits:
            self.patch(pc)


def compile_function(node, filename, global_table):
    builder = CodeBuilder(node.name, filename, global_table, node.params)
    node.body.compile(builder)
    emit_return_none(builder, node.line)
    return builder.finish()


def compile_program(program, filename, global_table):
    """Define the program's functions; returns the code of its top level."""
    seen = {}
    for node in program.functions:
        if node.name in seen:
            raise DemoSyntaxError(
                "function '%s' is defined twice" % node.name, node.line)
        seen[node.name] = None
        code = compile_function(node, filename, global_table)
        global_table.cell(node.name).define(W_Function(code))
    builder = CodeBuilder('<main>', filename, global_table, [])
    builder.at_top_level = True
    last_line = 1
    for node in program.statements:
        node.compile(builder)
        last_line = node.line
    emit_return_none(builder, last_line)
    return builder.finish()


def emit_return_none(builder, line):
    builder.emit_const(w_none, line)
    builder.emit(bytecode.RETURN, 0, line)
