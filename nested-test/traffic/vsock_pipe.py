# SPDX-License-Identifier: Apache-2.0
"""vsock_pipe.py listen PORT|connect CID PORT send|recv: standard input to a peer, or a peer to standard output, by Python's socket."""

import socket
import sys

*where, direction = sys.argv[1:]
vsock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
if where[0] == "listen":
    vsock.bind((socket.VMADDR_CID_ANY, int(where[1])))
    vsock.listen()
    print("listening", file=sys.stderr, flush=True)
    peer, _ = vsock.accept()
else:
    vsock.connect((int(where[1]), int(where[2])))
    peer = vsock
if direction == "send":
    peer.sendall(sys.stdin.buffer.read())
    peer.shutdown(socket.SHUT_WR)
    # The peer's end-of-file says that it has read all.
    assert peer.recv(1) == b""
else:
    while data := peer.recv(65536):
        sys.stdout.buffer.write(data)
