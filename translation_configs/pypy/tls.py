"""Serves one TLS connection and makes it, first with and then without trust in the authority.

tls.py CA CERTIFICATE KEY: prints what was received, and that the untrusted connection was refused
(Python 2.7 and 3).
"""

import socket
import ssl
import sys
import threading

AUTHORITY, CERTIFICATE, KEY = sys.argv[1:]


def serve(listener):
    """Answer two connections; the second one is broken off by the client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE, KEY)
    for _ in range(2):
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True).sendall(b"over TLS")
        except (ssl.SSLError, socket.error):
            connection.close()


def fetch(port, context):
    """Return what the server sends."""
    connection = socket.create_connection(("localhost", port), timeout=30)
    wrapped = context.wrap_socket(connection, server_hostname="localhost")
    return wrapped.recv(100).decode("ascii"), wrapped.version()


listener = socket.socket()
listener.bind(("localhost", 0))
listener.listen(2)
server = threading.Thread(target=serve, args=(listener,))
server.daemon = True
server.start()
port = listener.getsockname()[1]


def trusting_nobody():
    """Return a context that checks certificates and knows no authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_SSLv23)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


text, version = fetch(port, ssl.create_default_context(cafile=AUTHORITY))
print("%s %s" % (text, version))
try:
    fetch(port, trusting_nobody())
    print("an unknown authority was trusted")
except ssl.SSLError:
    print("an unknown authority is refused")
