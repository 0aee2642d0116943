"""Shim for the bootstrap interpreter (Python 2.7); Python imports it at start-up by its name.

RPython keeps (weight, ..., object) in heaps and sorted lists. Where weights tie, Python 2 compares
the objects by their addresses, and those depend on when the garbage collector ran. So two
translations of a large program inlined in another order and wrote other C. The shim lets the
objects compare by the order in which they were made, which is the same in every run.

The places, in RPython 0.2.1 and in PyPy's repository: the heap of graphs in
rpython/translator/backendopt/inline.py (auto_inlining), and the list of loops in
rpython/translator/backendopt/innerloop.py (find_inner_loops).
"""

import itertools
import sys

CLASSES = {
    "rpython.flowspace.model": "FunctionGraph",
    "rpython.translator.backendopt.innerloop": "Loop",
}


class OrderWhenImported(object):
    """Waits for a module, lets it be imported as always, and then orders its class."""

    def __init__(self):
        self.waiting = dict(CLASSES)

    def find_module(self, name, path=None):
        return self if name in self.waiting else None

    def load_module(self, name):
        class_name = self.waiting.pop(name)
        __import__(name)
        module = sys.modules[name]
        order_by_creation(getattr(module, class_name))
        return module


def order_by_creation(cls):
    """Number the instances of *cls* as they are made, and let them compare by number.

    Equality and hashing stay what they were: by identity.
    """
    numbers = itertools.count()
    original = cls.__init__

    def __init__(self, *args, **kwds):
        self._creation = next(numbers)
        original(self, *args, **kwds)

    cls.__init__ = __init__
    cls.__lt__ = lambda self, other: self._creation < other._creation
    cls.__le__ = lambda self, other: self._creation <= other._creation
    cls.__gt__ = lambda self, other: self._creation > other._creation
    cls.__ge__ = lambda self, other: self._creation >= other._creation


sys.meta_path.insert(0, OrderWhenImported())
