"""The demo language: a small interpreter written in RPython.

The modules, in the order a program passes through them:

    lexer        text -> tokens
    grammar      tokens -> syntax tree
    syntax       the tree's nodes, and how each compiles itself
    codegen      the code builder the nodes write to; scopes and jumps
    bytecode     the instruction set and compiled code objects
    interpreter  frames and the dispatch loop with its JIT driver
    numbers_text numbers to and from text
    values       run-time values and their operations
    natives      built-in functions
    runtime      per-process state: arguments, standard output and input
    buildinfo    the facts of the translation, for --info
    cli          the command line
    errors       the exceptions that reach the user
"""

VERSION = '1.0.0'
