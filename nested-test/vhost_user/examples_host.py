# SPDX-License-Identifier: Apache-2.0
"""Runs the examples of docs/vhost-user.md, a line of "host$" here, one of "guest$" by the shell that examples_guest.sh serves.

A line "host: TEXT" or "guest: TEXT" is awaited: something with that text must appear there, behind what was awaited before.
"""

import os
import re
import socket
import subprocess
import sys
import threading

UDS = sys.argv[1]
SHELL_PORT, END_PORT = 999, 998
HATCH = os.path.abspath("hatch/hatch")
LIMIT = 150  # only how long a hanging example takes to fail


class Side:
    """The commands of one side, and all that they print, stderr too."""

    def __init__(self, name):
        self.name = name
        self.commands = []
        self.text = ""
        self._seen = 0
        self._news = threading.Condition()

    def start(self, command):
        process = self.popen(command)
        self.commands.append(process)
        threading.Thread(target=self._read, args=[process], daemon=True).start()

    def _read(self, process):
        for line in process.stdout:
            print(f"{self.name}: {line.decode(errors='replace').rstrip()}", flush=True)
            with self._news:
                self.text += line.decode(errors="replace")
                self._news.notify()

    def expect(self, text):
        with self._news:
            if not self._news.wait_for(lambda: text in self.text[self._seen :], LIMIT):
                sys.exit(f"examples: {self.name} did not print '{text}'")
            self._seen = self.text.index(text, self._seen) + len(text)


class Host(Side):
    def popen(self, command):
        environment = {**os.environ, "PATH": os.path.dirname(HATCH) + ":" + os.environ["PATH"]}
        command = command.replace("/tmp/vm3.vsock", UDS)
        return subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )


class Guest(Side):
    def popen(self, command):
        process = subprocess.Popen(
            [HATCH, "-T", f"uds:{UDS}", str(SHELL_PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        process.stdin.write(f"({command}) < /dev/null 2>&1\n".encode())
        process.stdin.close()
        return process


def ready():
    """Waits until the guest serves its shell, which it says by connecting."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{UDS}_{END_PORT}")
        listener.listen()
        return listener.accept()[0]


def main():
    with open("docs/vhost-user.md", encoding="utf-8") as f:
        examples = re.findall(r"<!-- run -->\n```console\n(.*?)```", f.read(), re.S)
    if len(examples) != 4:
        sys.exit(f"examples: {len(examples)} in the document")
    guest = ready()
    servers = []
    for example in examples:
        sides = {"host": Host("host"), "guest": Guest("guest")}
        for line in example.splitlines():
            print(line, flush=True)
            side, kind, text = re.fullmatch(r"(host|guest)(\$|:) (.*)", line).groups()
            if kind == "$":
                sides[side].start(text)
            else:
                sides[side].expect(text)
        for side in sides.values():
            for process in side.commands:
                # Servers go on; what else was typed ends by itself, and well.
                if "--server" in str(process.args) or side is sides["guest"]:
                    servers.append(process)
                elif process.wait(LIMIT) != 0:
                    sys.exit(f"examples: {process.args} ended with {process.returncode}")
    # The guest waits for the end of this connection.
    guest.sendall(b"good\n")
    guest.close()
    for process in servers:
        process.terminate()
        process.wait()


main()
