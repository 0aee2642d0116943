"""Shim for the bootstrap interpreter (Python 2.7); Python imports it at start-up by its name.

RPython's inliner keeps (weight, -callers, graph) in a heap. Where weights tie, Python 2 compares
the graphs by their addresses, and those depend on when the garbage collector ran, so two
translations of a large program inline in another order and write other C. The shim lets graphs
compare by the order in which they were made, which is the same in every run.
"""

import itertools
import sys

MODULE = "rpython.flowspace.model"


class OrderWhenImported(object):
    """Waits for the module, lets it be imported as always, and then orders its graphs."""

    def find_module(self, name, path=None):
        return self if name == MODULE else None

    def load_module(self, name):
        sys.meta_path.remove(self)
        __import__(name)
        module = sys.modules[name]
        order_by_creation(module.FunctionGraph)
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
