"""Servers that keep what a master sends: mails, and what it posts."""

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class MailSink:
    """A mail server that delivers to a list; each with its recipients."""

    port: int = 0
    mails: list[tuple[tuple[str, ...], Message]] = field(default_factory=list)

    def about(self, subject: str) -> list[Message]:
        """Return the mails with *subject*."""
        return [mail for _, mail in self.mails if mail["Subject"] == subject]


@contextlib.contextmanager
def running_mail_sink() -> Iterator[MailSink]:
    """Run a mail server on a loopback port: as much of SMTP (RFC 5321) as one mail needs."""
    sink = MailSink()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 sink\r\n")
            recipients: list[str] = []
            for line in self.rfile:
                verb = line[:4].upper()
                if verb == b"RCPT":
                    recipients.append(line.decode().partition("<")[2].partition(">")[0])
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    sink.mails.append((tuple(recipients), message_from_bytes(b"".join(lines))))
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                if verb == b"QUIT":
                    return

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        sink.port = port
        yield sink


@dataclass
class PostSink:
    """A server that keeps what is posted to it, and refuses the first ``refusals`` posts."""

    port: int = 0
    refusals: int = 0
    posts: list[tuple[str, Any]] = field(default_factory=list)

    def about(self, subject: str) -> list[tuple[str, Any]]:
        """Return the path and body of each post with *subject*."""
        return [post for post in self.posts if post[1]["subject"] == subject]


@contextlib.contextmanager
def running_post_sink() -> Iterator[PostSink]:
    """Run a server of HTTP on a loopback port."""
    sink = PostSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            accepted = sink.refusals == 0
            if accepted:
                sink.posts.append((self.path, json.loads(body)))
            else:
                sink.refusals -= 1
            self.send_response(204 if accepted else 503)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        sink.port = port
        yield sink


@contextlib.contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Run *server*, and give its port."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
