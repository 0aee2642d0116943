"""The facts of the translation, as printed by --info."""

import sys

from demolang import VERSION


class BuildInfo(object):
    """Key-value facts, fixed when the executable is translated."""

    _immutable_fields_ = ['jit', 'items[*]']

    def __init__(self, jit, items):
        self.jit = jit
        self.items = items

    def text(self):
        lines = ['%s=%s\n' % (key, value) for key, value in self.items]
        return ''.join(lines)


def word_bits():
    return (sys.maxsize + 1).bit_length()


def common_items(translated):
    return [('name', 'demo'),
            ('version', VERSION),
            ('translated', str(translated)),
            ('word_bits', str(word_bits())),
            ('byteorder', sys.byteorder)]


def untranslated_info():
    """What --info prints when the source runs on a Python interpreter."""
    items = common_items(False) + [('jit', 'False'), ('gc', 'host')]
    return BuildInfo(False, items)


def from_config(translation, opt):
    """Read a translation's configuration.  Runs at translation time only."""
    items = common_items(True) + [
        ('jit', str(translation.jit)),
        ('jit_backend', jit_backend(translation)),
        ('opt', str(opt)),
        ('gc', str(translation.gc)),
        ('gctransformer', str(translation.gctransformer)),
        ('gcrootfinder', str(translation.gcrootfinder)),
        ('gcremovetypeptr', str(translation.gcremovetypeptr)),
        ('backend', str(translation.backend)),
        ('platform', str(translation.platform)),
        ('thread', str(translation.thread)),
        ('sandbox', str(translation.sandbox)),
        ('shared', str(translation.shared)),
        ('lto', str(translation.lto)),
        ('log', str(translation.log)),
    ]
    return BuildInfo(bool(translation.jit), items)


def jit_backend(translation):
    """The JIT's back end; 'auto' is resolved to the one it stands for."""
    if not translation.jit:
        return 'none'
    if translation.jit_backend != 'auto':
        return str(translation.jit_backend)
    from rpython.jit.backend.detect_cpu import autodetect
    return str(autodetect())
