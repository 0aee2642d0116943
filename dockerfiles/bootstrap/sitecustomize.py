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
finds. PyPy's prebuilt dictionary of interned strings is weak, and a class has a list of weak
references to its subclasses, in which a new one takes the place of a dead one. So for the time of
the translation the dictionary (rpython.rlib.rweakref) and the classes (pypy.objspace.std.typeobject)
keep what they hold; the translated program is as weak as before. Garbage is collected before each
phase, for weak references elsewhere.

PyPy writes the time of its translation into sys.version. It becomes SOURCE_DATE_EPOCH, the time
of the source (https://reproducible-builds.org/specs/source-date-epoch/).
"""

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
        self._dict = {}  # PyPy's own dictionaries are in order of insertion

    dictionary.__init__ = __init__


def keep_types(module):
    """Have types live until the translation is done.

    RPython's annotator knows no __new__, so the translated program does not get this one.
    """
    kept = []

    def __new__(cls, *args, **kwds):
        kept.append(object.__new__(cls))
        return kept[-1]

    module.W_TypeObject.__new__ = staticmethod(__new__)


def collect_before_phases(module):
    """Have the driver collect garbage before it does a phase."""
    driver = module.TranslationDriver
    do_phase = driver._do

    def collect_and_do_phase(self, *args, **kwds):
        gc.collect()
        return do_phase(self, *args, **kwds)

    driver._do = collect_and_do_phase


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


if "SOURCE_DATE_EPOCH" in os.environ:
    for name in "gmtime", "localtime":
        function = fixed_time(getattr(time, name), int(os.environ["SOURCE_DATE_EPOCH"]))
        setattr(time, name, function)

CHANGES = {
    "rpython.flowspace.model": order("FunctionGraph", "Block", "Link"),
    "rpython.tool.algo.graphlib": order("Edge"),
    "rpython.translator.backendopt.innerloop": order("Loop"),
    "rpython.translator.driver": collect_before_phases,
    "rpython.rlib.rweakref": keep_values,
    "pypy.objspace.std.typeobject": keep_types,
}

sys.meta_path.insert(0, ChangeWhenImported(CHANGES))
