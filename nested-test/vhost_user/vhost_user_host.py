# SPDX-License-Identifier: Apache-2.0
"""The host's side of vhost_user_guest.sh, over the UNIX sockets of a vhost-user-vsock."""

import os
import socket
import sys
import threading

UDS = sys.argv[1]
FAILURES = []


def serve(port, kind, connection_handler):
    """Accepts one connection from the guest to this port of the host."""
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(f"{UDS}_{port}")
    listener.listen()

    def run():
        connection, _ = listener.accept()
        with connection:
            try:
                connection_handler(connection)
            except Exception as error:  # pylint: disable=broad-except
                FAILURES.append(f"port {port}: {error!r}")

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def echo(connection):
    while data := connection.recv(1 << 20):
        connection.sendall(data)


def read_all(connection):
    data = b""
    while piece := connection.recv(1 << 20):
        data += piece
    return data


def call_guest(pieces):
    """What the guest's echo at port 5002 answers; the first piece has the line, and maybe more."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(UDS)
        data = b"".join(pieces)
        client.sendall(b"CONNECT 5002\n" + pieces[0])
        sender = threading.Thread(target=lambda: (client.sendall(data[len(pieces[0]) :]), client.shutdown(socket.SHUT_WR)))
        sender.start()
        answer = read_all(client)
        sender.join()
    if answer != b"OK 5002\n" + data:
        raise ValueError(f"{len(answer)} bytes came back for {len(data)}")


def call_closed_port():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(UDS)
        client.sendall(b"CONNECT 5998\n")
        if client.recv(100) != b"":
            raise ValueError("an answer of a port where nobody listens")


def call_back(connection):
    read_all(connection)
    call_guest([b"", b"x"])
    call_guest([b"with the line", os.urandom(3_000_000)])
    call_closed_port()
    connection.sendall(b"good")


threads = [
    serve(5000, socket.SOCK_STREAM, echo),
    serve(5001, socket.SOCK_SEQPACKET, echo),
    serve(5003, socket.SOCK_STREAM, call_back),
]
for t in threads:
    t.join()
for f in FAILURES:
    print("vhost_user_host:", f)
sys.exit(1 if FAILURES else 0)
