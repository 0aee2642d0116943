"""Tests of the demo interpreter, run untranslated.

    pypy -m pytest tests/test_demo.py        (PyPy 2.7 or CPython 2.7)

with rpython, py and pytest 2.9.2 on PYTHONPATH.
"""

import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.dirname(HERE)
PROGRAMS = os.path.join(DEMO, 'programs')
ERRORS = os.path.join(PROGRAMS, 'errors')

sys.path.insert(0, DEMO)

import targetdemo    # noqa: E402
from demolang import (bytecode, buildinfo, cli, grammar, interpreter, lexer,
                      numbers_text, runtime, syntax)    # noqa: E402
from demolang.errors import DemoSyntaxError    # noqa: E402

INFO = buildinfo.untranslated_info()


@pytest.fixture(autouse=True)
def deep_recursion(request):
    limit = sys.getrecursionlimit()
    request.addfinalizer(lambda: sys.setrecursionlimit(limit))
    sys.setrecursionlimit(targetdemo.UNTRANSLATED_RECURSION_LIMIT)


def demo(capfd, *arguments):
    """Run the command line; returns (status, stdout, stderr)."""
    status = cli.main(['demo'] + list(arguments), INFO)
    out, err = capfd.readouterr()
    return status, out, err


def output(capfd, code, *arguments):
    """The output of a program that must succeed."""
    status, out, err = demo(capfd, '-c', code, *arguments)
    assert (status, err) == (0, '')
    return out


def failure(capfd, code):
    """The first line a failing program reports."""
    status, out, err = demo(capfd, '-c', code)
    assert status == 1
    return err.splitlines()[0]


def read(*path):
    with open(os.path.join(*path)) as f:
        return f.read()


# -- lexer -------------------------------------------------------------------

def kinds_and_texts(text):
    return [(token.kind, token.text) for token in lexer.tokenize(text)]


def test_lexer_kinds():
    assert kinds_and_texts('var x = 1.5 + "a";') == [
        ('keyword', 'var'), ('name', 'x'), ('operator', '='),
        ('float', '1.5'), ('operator', '+'), ('string', 'a'),
        ('operator', ';'), ('end of file', '')]


def test_lexer_prefers_long_operators():
    texts = [text for _, text in kinds_and_texts('<= < == = // / != >=')]
    assert texts == ['<=', '<', '==', '=', '//', '/', '!=', '>=', '']


@pytest.mark.parametrize('text, kind', [
    ('12', 'integer'), ('1.25', 'float'), ('1e5', 'float'),
    ('1.5e-3', 'float'), ('2E+7', 'float')])
def test_lexer_numbers(text, kind):
    assert kinds_and_texts(text)[0] == (kind, text)


def test_lexer_escapes():
    assert kinds_and_texts(r'"\n\t\r\"\\"')[0] == ('string', '\n\t\r"\\')


def test_lexer_lines_and_comments():
    tokens = lexer.tokenize('a # comment\n\nb\n# end')
    assert [token.line for token in tokens] == [1, 3, 4]


@pytest.mark.parametrize('text, message', [
    ('"abc', 'unterminated string'),
    ('"abc\n"', 'unterminated string'),
    (r'"\q"', 'unknown escape in string'),
    ('12abc', 'malformed number'),
    ('@', 'unexpected character (code 64)'),
    ('!a', "unexpected '!' (write 'not')")])
def test_lexer_errors(text, message):
    with pytest.raises(DemoSyntaxError) as info:
        lexer.tokenize(text)
    assert info.value.message == message


# -- numbers -----------------------------------------------------------------

def test_parse_int_limits():
    assert numbers_text.parse_int(str(sys.maxsize)) == sys.maxsize
    assert numbers_text.parse_int(str(-sys.maxsize - 1)) == -sys.maxsize - 1
    for text in [str(sys.maxsize + 1), str(-sys.maxsize - 2)]:
        with pytest.raises(OverflowError):
            numbers_text.parse_int(text)


@pytest.mark.parametrize('text', ['', '-', '+', '1x', ' 1', '1 ', '0x10'])
def test_parse_int_malformed(text):
    with pytest.raises(ValueError):
        numbers_text.parse_int(text)


@pytest.mark.parametrize('text', ['', '.', '1.', '.5', '1e', '1e+', 'inf',
                                  'nan', '1.5.2', '1 '])
def test_parse_float_malformed(text):
    with pytest.raises(ValueError):
        numbers_text.parse_float(text)


@pytest.mark.parametrize('text, value', [
    ('1', 1.0), ('-2.5', -2.5), ('+1e3', 1000.0), ('1.5E-1', 0.15)])
def test_parse_float(text, value):
    assert numbers_text.parse_float(text) == value


# -- parser ------------------------------------------------------------------

def shape(node):
    """An expression's tree as nested tuples."""
    if isinstance(node, syntax.Binary):
        return (node.operator, shape(node.left), shape(node.right))
    if isinstance(node, (syntax.And, syntax.Or)):
        return (type(node).__name__, shape(node.left), shape(node.right))
    if isinstance(node, (syntax.Not, syntax.Negate)):
        return (type(node).__name__, shape(node.operand))
    if isinstance(node, syntax.Index):
        return ('index', shape(node.container), shape(node.index))
    if isinstance(node, syntax.Call):
        return ('call', shape(node.callee), [shape(a) for a in node.args])
    if isinstance(node, syntax.Name):
        return node.name
    return node.value


@pytest.mark.parametrize('text, expected', [
    ('1 + 2 * 3', ('+', 1, ('*', 2, 3))),
    ('(1 + 2) * 3', ('*', ('+', 1, 2), 3)),
    ('1 - 2 - 3', ('-', ('-', 1, 2), 3)),
    ('-a * b', ('*', ('Negate', 'a'), 'b')),
    ('-a[0]', ('Negate', ('index', 'a', 0))),
    ('a + 1 < b', ('<', ('+', 'a', 1), 'b')),
    ('not a == b', ('Not', ('==', 'a', 'b'))),
    ('a or b and not c', ('Or', 'a', ('And', 'b', ('Not', 'c')))),
    ('f(1, x)[2](3)', ('call', ('index', ('call', 'f', [1, 'x']), 2), [3]))])
def test_precedence(text, expected):
    [statement] = grammar.parse(text + ';').statements
    assert shape(statement.expression) == expected


@pytest.mark.parametrize('text, line, message', [
    ('var a = 1', 1, "expected ';', found end of file"),
    ('var 1 = 2;', 1, "expected a name, found '1'"),
    ('\n1 + ;', 2, "expected an expression, found ';'"),
    ('1 < 2 < 3;', 1, "expected ';', found '<'"),
    ('f(1 2);', 1, "expected ')', found '2'"),
    ('if true { 1;', 1, "expected '}', found end of file"),
    ('if true 1;', 1, "expected '{', found '1'"),
    ('f() = 1;', 1, 'cannot assign to this expression'),
    ('continue;', 1, "'continue' outside a loop"),
    ('return;', 1, "'return' outside a function"),
    ('fn f(a, a) { }', 1, "parameter 'a' appears twice"),
    ('9223372036854775808;', 1, 'integer literal too large'),
    ('(' * 1000, 1, 'nested more than 150 levels deep'),
    ('-' * 1000, 1, 'nested more than 150 levels deep'),
    ('not ' * 1000, 1, 'nested more than 150 levels deep'),
    ('{' * 1000, 1, 'nested more than 150 levels deep')])
def test_syntax_errors(text, line, message):
    with pytest.raises(DemoSyntaxError) as info:
        grammar.parse(text)
    assert (info.value.message, info.value.line) == (message, line)


# -- compiler ----------------------------------------------------------------

def instructions(code):
    return [(bytecode.NAMES[code.ops[pc]], code.ops[pc + 1])
            for pc in range(0, len(code.ops), 2)]


def test_compile_while():
    code = interpreter.compile_text(
        '{ var i = 0; while i < 9 { i = i + 1; } }', 'x')
    assert instructions(code) == [
        ('LOAD_CONST', 0), ('STORE_LOCAL', 0),
        ('LOAD_LOCAL', 0), ('LOAD_CONST', 1), ('LT', 0),
        ('JUMP_IF_FALSE', 22),
        ('LOAD_LOCAL', 0), ('LOAD_CONST', 2), ('ADD', 0), ('STORE_LOCAL', 0),
        ('JUMP_BACK', 4),
        ('LOAD_CONST', 3), ('RETURN', 0)]
    assert (code.nlocals, code.framesize) == (1, 3)


def test_compile_globals_and_lines():
    code = interpreter.compile_text('var a = 1;\na = a;\n', 'x')
    assert instructions(code)[:4] == [
        ('LOAD_CONST', 0), ('DECLARE_GLOBAL', 0), ('LOAD_GLOBAL', 0),
        ('STORE_GLOBAL', 0)]
    assert [code.line_of(pc) for pc in (0, 2, 4, 6)] == [1, 1, 2, 2]
    assert code.describe(2) == '<main> (x:1) 2 DECLARE_GLOBAL 0'


def test_block_slots_are_reused():
    code = interpreter.compile_text('{ var a = 1; } { var b = 2; }', 'x')
    assert code.nlocals == 1


def test_instruction_names_match():
    for name in bytecode.NAMES:
        assert bytecode.NAMES[getattr(bytecode, name)] == name


# -- the language ------------------------------------------------------------

@pytest.mark.parametrize('expression, expected', [
    ('1 + 2', '3'), ('7 // 2', '3'), ('-7 // 2', '-4'), ('-7 % 3', '2'),
    ('7 / 2', '3.5'), ('1 + 0.5', '1.5'), ('0.1 + 0.2', '0.30000000000000004'),
    ('"a" + "b"', 'ab'), ('[1] + ["x"]', '[1, "x"]'),
    ('1 == 1.0', 'true'), ('1 == "1"', 'false'), ('none == none', 'true'),
    ('"a" >= "b"', 'false'), ('2 > 1.5', 'true'),
    ('[] or 0 or "x"', 'x'), ('1 and none', 'none'), ('not none', 'true'),
    ('"abc"[1]', 'b'), ('[[1, 2]][0][1]', '2'), ('len("abc")', '3'),
    ('int("12") + int(1.9)', '13'), ('float("1e2")', '100.0'),
    ('type(type)', 'function'), ('pop([1, 2])', '2'), ('args()', '[]'),
    ('-9223372036854775807 - 1', '-9223372036854775808'),
    ('(-9223372036854775807 - 1) % -1', '0'), ('1e308 * 10', 'inf')])
def test_expressions(capfd, expression, expected):
    assert output(capfd, 'print(%s);' % expression) == expected + '\n'


def test_block_scope(capfd):
    code = 'var a = 1; { var a = 2; print(a); } print(a);'
    assert output(capfd, code) == '2\n1\n'


def test_functions_see_globals(capfd):
    code = 'var n = 1; fn f() { n = n + 1; return n; } f(); print(f(), n);'
    assert output(capfd, code) == '3 3\n'


def test_builtins_can_be_redefined(capfd):
    assert output(capfd, 'fn len(x) { return 7; } print(len(1));') == '7\n'
    assert output(capfd, 'var str = 5; print(str);') == '5\n'


def test_break_and_continue(capfd):
    code = ('var i = 0; while true { i = i + 1; if i == 2 { continue; } '
            'if i > 4 { break; } print(i); }')
    assert output(capfd, code) == '1\n3\n4\n'


def test_deepest_permitted_recursion(capfd):
    code = ('fn f(n) { if n == 0 { return 0; } return 1 + f(n - 1); } '
            'print(f(%d));')
    deepest = interpreter.MAX_CALL_DEPTH - 2    # main is one, f(0) another
    assert output(capfd, code % deepest) == '%d\n' % deepest
    assert 'StackOverflow' in failure(capfd, code % (deepest + 1))


def test_input(capfd, monkeypatch):
    chunks = ['one\ntw', 'o\n\nlast']
    monkeypatch.setattr(runtime.os, 'read',
                        lambda fd, size: chunks.pop(0) if chunks else '')
    code = ('var line = input(); while line != none '
            '{ print("<" + line + ">"); line = input(); }')
    assert output(capfd, code) == '<one>\n<two>\n<>\n<last>\n'


# -- run-time errors ---------------------------------------------------------

@pytest.mark.parametrize('code, message', [
    ('x;', "NameError: undefined name 'x'"),
    ('x = 1;', "NameError: undefined name 'x'"),
    ('1 + "a";', 'TypeError: unsupported operands for +: int and str'),
    ('1 < none;', 'TypeError: unsupported operands for comparison: '
                  'int and none'),
    ('1.5 % 2;', 'TypeError: % needs integers, got float and int'),
    ('-"a";', 'TypeError: cannot negate str'),
    ('1();', 'TypeError: int is not callable'),
    ('len(1);', 'TypeError: int has no length'),
    ('len();', 'TypeError: len() takes 1 arguments, got 0'),
    ('1[0];', 'TypeError: int cannot be indexed'),
    ('"abc"[0] = "x";', 'TypeError: str items cannot be assigned'),
    ('[1][0.5];', 'TypeError: index must be int, not float'),
    ('[1][1];', 'IndexError: index 1 out of range for length 1'),
    ('[1][-1];', 'IndexError: index -1 out of range for length 1'),
    ('"a"[5];', 'IndexError: index 5 out of range for length 1'),
    ('pop([]);', 'IndexError: pop() from an empty list'),
    ('1 // 0;', 'DivisionByZero: division by zero'),
    ('1 % 0;', 'DivisionByZero: division by zero'),
    ('1.0 / 0;', 'DivisionByZero: division by zero'),
    ('9223372036854775807 + 1;',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('-9223372036854775807 - 2;',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('4611686018427387904 * 2;',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('-(-9223372036854775807 - 1);',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('(-9223372036854775807 - 1) // -1;',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('int(1e19);',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('int(1e308 * 10);',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('int("9223372036854775808");',
     'IntegerOverflow: integer result does not fit a machine word'),
    ('int("1x");', "ValueError: cannot convert '1x' to int"),
    ('float("");', "ValueError: cannot convert '' to float"),
    ('read_file("/nonexistent");',
     'FileError: /nonexistent: No such file or directory'),
    ('write_file("/nonexistent/x", "");',
     'FileError: /nonexistent/x: No such file or directory'),
    ('read_file(1);', 'TypeError: read_file() needs a str, got int'),
    ('fn f() { f(); } f();',
     'StackOverflow: calls nested more than 1000 deep'),
    ('error("own message");', 'UserError: own message')])
def test_runtime_errors(capfd, code, message):
    assert failure(capfd, code) == '<command>:1: ' + message


def test_traceback(capfd):
    code = 'fn f(a) {\n  return 1 // a;\n}\nfn g() { return f(0); }\n\ng();'
    status, out, err = demo(capfd, '-c', code)
    assert status == 1
    assert err == ('<command>:2: DivisionByZero: division by zero\n'
                   '  in f (<command>:2)\n'
                   '  in g (<command>:4)\n'
                   '  in <main> (<command>:6)\n')


def test_output_before_an_error_is_kept(capfd):
    status, out, err = demo(capfd, '-c', 'print("before"); x;')
    assert (status, out) == (1, 'before\n')


def test_deeply_nested_values(capfd):
    code = ('var a = []; var i = 0; while i < 100000 { a = [a]; i = i + 1; }'
            'print(a);')
    assert 'StackOverflow: out of stack' in failure(capfd, code)


def error_programs():
    return sorted(name[:-len('.demo')] for name in os.listdir(ERRORS)
                  if name.endswith('.demo'))


@pytest.mark.parametrize('name', error_programs())
def test_error_programs(capfd, monkeypatch, name):
    monkeypatch.chdir(ERRORS)
    status, out, err = demo(capfd, name + '.demo')
    assert err == read(ERRORS, name + '.stderr')
    assert status == (2 if name.startswith('syntax_') else 1)


# -- programs ----------------------------------------------------------------

def test_hot_loop(capfd):
    program = os.path.join(PROGRAMS, 'hot_loop.demo')
    assert demo(capfd, program, '10000') == (
        0, 'iterations 10000\nx 346796\nodd 5062\ntotal 160037\n', '')


def test_allocate(capfd):
    program = os.path.join(PROGRAMS, 'allocate.demo')
    status, out, err = demo(capfd, program, '12')
    assert (status, err) == (0, '')
    assert out == 'rounds 12\nchecksum 45156\nwords 5000\n'


def test_features(capfd, tmpdir):
    program = os.path.join(PROGRAMS, 'features.demo')
    status, out, err = demo(capfd, program, str(tmpdir))
    assert (status, err) == (0, '')
    assert out == read(PROGRAMS, 'features.expected')


# -- command line ------------------------------------------------------------

def test_version(capfd):
    assert demo(capfd, '--version') == (0, 'demo 1.0.0\n', '')


def test_help(capfd):
    status, out, err = demo(capfd, '--help')
    assert (status, out.splitlines()[0], err) == (0, cli.USAGE.splitlines()[0],
                                                  '')


def test_info(capfd):
    status, out, err = demo(capfd, '--info')
    facts = dict(line.split('=') for line in out.splitlines())
    assert status == 0
    assert facts['name'] == 'demo'
    assert facts['version'] == '1.0.0'
    assert facts['translated'] == 'False'
    assert facts['jit'] == 'False'
    assert facts['word_bits'] == '64'


def test_info_reads_the_translation_config():
    from rpython.config.translationoption import (
        get_combined_translation_config, set_opt_level)
    config = get_combined_translation_config(translating=True)
    set_opt_level(config, 'jit')
    facts = dict(buildinfo.from_config(config.translation, 'jit').items)
    assert facts['jit'] == 'True'
    assert facts['gc'] == 'incminimark'
    assert facts['gcrootfinder'] == 'shadowstack'
    assert facts['opt'] == 'jit'
    assert facts['jit_backend'] not in ('auto', 'none')
    config = get_combined_translation_config(translating=True)
    config.translation.gc = 'minimark'
    set_opt_level(config, '2')
    facts = dict(buildinfo.from_config(config.translation, '2').items)
    assert (facts['jit'], facts['jit_backend']) == ('False', 'none')
    assert facts['gc'] == 'minimark'


@pytest.mark.parametrize('arguments, message', [
    ([], 'no program given'),
    (['--wrong'], 'unknown option --wrong'),
    (['-c'], '-c needs a value'),
    (['--jit', 'off', 'x.demo'], '--jit: this executable has no JIT'),
    (['/nonexistent.demo'],
     'cannot read /nonexistent.demo: No such file or directory')])
def test_usage_errors(capfd, arguments, message):
    assert demo(capfd, *arguments) == (
        2, '', 'demo: %s\n%s' % (message, cli.USAGE))


def test_jit_parameters(capfd):
    info = buildinfo.BuildInfo(True, [])
    for text in ['off', 'default', 'threshold=10,trace_eagerness=5']:
        assert cli.main(['demo', '--jit', text, '-c', '1;'], info) == 0
    for text in ['threshold', 'threshold=x', 'wrong=1', 'trace_limit=99999']:
        assert cli.main(['demo', '--jit', text, '-c', '1;'], info) == 2


def test_program_arguments(capfd):
    assert output(capfd, 'print(args());', 'a', '-b') == '["a", "-b"]\n'


def test_closed_standard_output(capfd, monkeypatch):
    def full(fd, text):
        if fd == 1:
            raise OSError(28, 'No space left on device')
        return os_write(fd, text)
    os_write = os.write
    monkeypatch.setattr(runtime.os, 'write', full)
    status, out, err = demo(capfd, '-c', 'print(1);')
    monkeypatch.undo()
    assert status == 1
    assert err == ('demo: cannot write to standard output: '
                   'No space left on device\n')
