"""Per-process state: program arguments, standard output and input."""

import os

STDIN = 0
STDOUT = 1
STDERR = 2

BUFFER_SIZE = 16384


def write_all(fd, text):
    """Write the whole text to a file descriptor."""
    while len(text) > 0:
        count = os.write(fd, text)
        if count == len(text):
            return
        assert count >= 0
        text = text[count:]


def read_all(fd):
    """Read a file descriptor up to its end."""
    chunks = []
    while True:
        chunk = os.read(fd, 65536)
        if len(chunk) == 0:
            return ''.join(chunks)
        chunks.append(chunk)


class OutputError(Exception):
    """Standard output cannot be written."""

    def __init__(self, errno):
        self.errno = errno


class Runtime(object):
    """The state of the running program; there is one instance."""

    def __init__(self):
        self.reset([])

    def reset(self, args):
        self.args = args
        self.pending = []
        self.pending_size = 0
        self.unread = ''

    def write(self, text):
        """Buffered write to standard output."""
        self.pending.append(text)
        self.pending_size += len(text)
        if self.pending_size >= BUFFER_SIZE:
            self.flush()

    def flush(self):
        text = ''.join(self.pending)
        self.pending = []
        self.pending_size = 0
        try:
            write_all(STDOUT, text)
        except OSError as e:
            raise OutputError(e.errno)

    def read_line(self):
        """A line of standard input without its end; None at the end."""
        end = self.unread.find('\n')
        while end < 0:
            chunk = os.read(STDIN, BUFFER_SIZE)
            if len(chunk) == 0:
                return self.last_line()
            seen = len(self.unread)
            self.unread += chunk
            end = self.unread.find('\n', seen)
        line = self.unread[:end]
        self.unread = self.unread[end + 1:]
        return line

    def last_line(self):
        line = self.unread
        self.unread = ''
        if len(line) == 0:
            return None
        return line


runtime = Runtime()
