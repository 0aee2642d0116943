"""Shim for the bootstrap interpreter (Python 2.7); Python imports it at start-up by its name.

RPython sorts tuples like (weight, object). Where weights tie, Python 2 compares the objects by
their addresses, and those depend on when the garbage collector ran. So two translations of a
large program inlined, cut cycles and laid out loops in other ways, and wrote other C. The shim
lets the objects compare by the order in which they were made, which is the same in every run.

The places, in RPython 0.2.1: the heap of graphs in translator/backendopt/inline.py
(auto_inlining), the list of loops in backendopt/innerloop.py (find_inner_loops), the cycles'
edges and blocks in tool/algo/graphlib.py (break_cycles_v), which decide where stack checks go,
and the links in backendopt/constfold.py (rewire_links).

A weak reference is alive or dead as the collector happens to have run, and RPython converts what it
finds. PyPy's prebuilt dictionary of interned strings is weak (rpython.rlib.rweakref), a class has a
list of weak references to its subclasses, in which a new one takes the place of a dead one
(pypy.objspace.std.typeobject), vmprof has one to each code object (pypy.interpreter.pycode), and
RPython converts a string again when it has lost the first (rpython.rtyper.lltypesystem.rstr). So
what these refer to is kept until the translation is done; the translated program is as weak as
before. References elsewhere are left to the collector, which runs before the phases that follow
them: with a nursery of 256 MB the locks of modules that were imported were still there when the
annotator came, and it refused them.

RPython of PyPy 8 says which phase starts only where PYPYLOG asks for it. It is asked here, since a
bootstrap interpreter that is a PyPy takes that variable for itself and out of the environment.

RPython asks the machine it runs on what it translates for, in more places than its own switches
reach: whether memory can be read unaligned, how large a cache is, what the JIT's log is called. In
a cross translation the machine's name is that of the target (TRANSLATION_MACHINE).

PyPy writes the time of its translation into sys.version. It becomes SOURCE_DATE_EPOCH, the time
of the source (https://reproducible-builds.org/specs/source-date-epoch/).
"""

import collections
import gc
import itertools
import os
import sys
import time


class ChangeWhenImported(object):
    """Waits for a module, lets it be imported as always, and then changes it.

    *changes* has a function for each module's name; it is called with the module.
    """

    def __init__(self, changes):
        self.waiting = dict(changes)

    def find_module(self, name, path=None):
        return self if name in self.waiting else None

    def load_module(self, name):
        change = self.waiting.pop(name)
        __import__(name)
        module = sys.modules[name]
        change(module)
        return module


def order(*class_names):
    """Return a change: instances of these classes compare by the order in which they were made."""

    def change(module):
        for name in class_names:
            setattr(module, name, ordered(getattr(module, name)))

    return change


def keep_values(module):
    """Have prebuilt weak dictionaries keep their values until the translation is done."""
    dictionary = module.RWeakValueDictionary
    make_weak = dictionary.__init__

    def __init__(self, *args, **kwds):
        make_weak(self, *args, **kwds)
        self._dict = collections.OrderedDict()

    dictionary.__init__ = __init__


def show_names(module):
    """Have comments in the C code show a JIT driver's name, not its address."""
    module.JitDriver.__repr__ = lambda driver: "<JitDriver %s>" % driver.name


def keep_strings(module):
    """Have each string be converted once, also if the first conversion is used by nothing left."""
    for cls in module.StringRepr, module.UnicodeRepr:
        cls.CACHE = {}


def keep(class_name):
    """Return a change: instances of this class live until the translation is done.

    RPython's annotator knows no __new__, so the translated program does not get this one.
    """

    def change(module):
        kept = []

        def __new__(cls, *args, **kwds):
            kept.append(object.__new__(cls))
            return kept[-1]

        getattr(module, class_name).__new__ = staticmethod(__new__)

    return change


def collect_before(*goals):
    """Return a change: the driver collects garbage before it pursues one of these goals."""

    def change(module):
        driver = module.TranslationDriver
        do = driver._do

        def collect_and_do(self, goal, *args, **kwds):
            if goal in goals:
                gc.collect()
            return do(self, goal, *args, **kwds)

        driver._do = collect_and_do

    return change


def ordered(cls):
    """Return a subclass of *cls* whose instances are numbered as they are made, and compare so.

    A subclass, since some of these classes have slots and no room for a number. Equality and
    hashing stay what they were: by identity.
    """
    numbers = itertools.count()

    class Ordered(cls):
        __slots__ = ("_creation",)
        __doc__ = cls.__doc__

        def __init__(self, *args, **kwds):
            self._creation = next(numbers)
            cls.__init__(self, *args, **kwds)

        def __lt__(self, other):
            return self._creation < other._creation

        def __le__(self, other):
            return self._creation <= other._creation

        def __gt__(self, other):
            return self._creation > other._creation

        def __ge__(self, other):
            return self._creation >= other._creation

    Ordered.__name__ = cls.__name__
    Ordered.__module__ = cls.__module__
    return Ordered


def fixed_time(function, epoch):
    """Return *function* of the time module with *epoch* for the default, not the present time."""

    def fixed(seconds=None):
        return function(epoch if seconds is None else seconds)

    return fixed


def named(uname, machine):
    """Return *uname* of the os module with another name of the machine; platform asks it too."""

    def renamed():
        return uname()[:4] + (machine,)

    return renamed


if "TRANSLATION_MACHINE" in os.environ:
    os.uname = named(os.uname, os.environ["TRANSLATION_MACHINE"])

os.environ["PYPYLOG"] = "translation-task:-"

if "SOURCE_DATE_EPOCH" in os.environ:
    for name in "gmtime", "localtime":
        function = fixed_time(getattr(time, name), int(os.environ["SOURCE_DATE_EPOCH"]))
        setattr(time, name, function)

CHANGES = {
    "rpython.flowspace.model": order("FunctionGraph", "Block", "Link"),
    "rpython.tool.algo.graphlib": order("Edge"),
    "rpython.translator.backendopt.innerloop": order("Loop"),
    "rpython.translator.driver": collect_before("annotate", "rtype_lltype"),
    "rpython.rlib.jit": show_names,
    "rpython.rlib.rweakref": keep_values,
    "rpython.rtyper.lltypesystem.rstr": keep_strings,
    "pypy.objspace.std.typeobject": keep("W_TypeObject"),
    "pypy.interpreter.pycode": keep("PyCode"),
}

sys.meta_path.insert(0, ChangeWhenImported(CHANGES))
