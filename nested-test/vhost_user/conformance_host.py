# SPDX-License-Identifier: Apache-2.0
"""The near end of the suite, over the UNIX sockets of a vhost-user-vsock; conformance_guest.sh is the far end."""

import os
import socket
import sys

UDS = sys.argv[1]
CONFORMANCE = "backends/argosy-conformance"

with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(f"{UDS}_6101")
    listener.listen()
    guest, _ = listener.accept()
# Open until the suite ends, which the guest waits for.
guest.set_inheritable(True)
os.execv(CONFORMANCE, [CONFORMANCE, "--client", f"uds:{UDS}", "3", "--scale", "--gtest_color=no", "--behaviour", "docs/behaviour.md"])
