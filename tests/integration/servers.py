"""Servers that tests start and stop: what the public reads from."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.effects.server import make_server


@contextmanager
def directory_server(root: Path) -> Iterator[str]:
    """Serve *root* over HTTP and give the address."""
    server = make_server(root, "127.0.0.1", 0, quiet=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
