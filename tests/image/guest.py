"""A board in QEMU: its serial lines as streams to expect text on, and QMP to pause, reset and watch it.

Every guest is a separate process that ends with its object; the whole transcript of its console stays in `log`.
"""

import json
import os
import select
import socket
import subprocess
import threading
import time


# Factor for all timeouts, relative to an idle machine.
TIMEOUT_FACTOR = float(os.environ.get("TIMEOUT_FACTOR") or 1)


class Failed(Exception):
    """A test did not get what it expected."""


class Line:
    """One serial line, read by its own thread so that the guest never waits for the test."""

    def __init__(self, path, log=None):
        deadline = time.monotonic() + 20 * TIMEOUT_FACTOR
        while True:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.socket.connect(path)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise Failed(f"QEMU opened no {path} within 20 s") from None
                time.sleep(0.05)
        self.text = ""
        self.seen = 0
        self.log = log
        self.more = threading.Condition()
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                data = b""
            with self.more:
                if not data:
                    self.ended = True
                else:
                    self.text += data.decode("utf-8", "replace").replace("\r", "")
                    if self.log:
                        self.log.write(data)
                        self.log.flush()
                self.more.notify_all()
            if not data:
                return

    def send(self, line):
        """Types a line."""
        self.socket.sendall(line.encode() + b"\n")

    def expect(self, *wanted, within=60, fail=()):
        """Waits until one of the texts appears after the last match; returns everything up to its end. A text of `fail` ends the
        wait at once."""
        deadline = time.monotonic() + within * TIMEOUT_FACTOR
        with self.more:
            while True:
                rest = self.text[self.seen :]
                found = [(rest.find(text), text) for text in wanted if text in rest]
                if found:
                    at, text = min(found)
                    self.seen += at + len(text)
                    return rest[: at + len(text)]
                bad = [text for text in fail if text in rest]
                left = deadline - time.monotonic()
                if bad or left <= 0 or self.ended:
                    why = (
                        f"came {bad[0]!r}"
                        if bad
                        else "the line ended"
                        if self.ended
                        else f"not within {within} s"
                    )
                    raise Failed(
                        f"expected {' or '.join(map(repr, wanted))}: {why}. The last lines:\n{rest[-1500:]}"
                    )
                self.more.wait(min(left, 1))

    def drain(self, quiet_s=0.3):
        """Reads until nothing has arrived for a while; returns the text."""
        while True:
            with self.more:
                before = len(self.text)
                self.more.wait(quiet_s)
                if len(self.text) == before:
                    rest = self.text[self.seen :]
                    self.seen = before
                    return rest


class Shell:
    """The root shell on the second line (`potluck.shell=`): runs commands and returns their output."""

    def __init__(self, line):
        self.line = line
        self.count = 0

    def run(self, command, within=60):
        """Output and exit status of a command."""
        self.count += 1
        # The shell assembles the mark, so that an echo of the line does not contain it.
        self.line.send(f'{command}\necho "<e""nd{self.count} $?>"')
        text = self.line.expect(f"<end{self.count} ", within=within)
        status = self.line.expect(">", within=5)
        return text[: text.rfind("<end")].strip("\n"), int(status[:-1])

    def must(self, command, within=60):
        """Output of a command that must succeed."""
        output, status = self.run(command, within)
        if status != 0:
            raise Failed(f"in the guest `{command}` exits with {status}: {output}")
        return output


class Guest:
    """One QEMU process."""

    def __init__(self, folder, name, arguments, serials=2):
        self.folder = folder
        self.name = name
        self.begun = time.monotonic()
        sockets = [
            os.path.join(folder, f"{name}.{kind}") for kind in ["qmp", *map(str, range(serials))]
        ]
        for path in sockets:
            if os.path.exists(path):
                os.unlink(path)
        argv = [
            word.replace("{serial0}", sockets[1]).replace("{serial1}", sockets[-1])
            for word in arguments
        ]
        argv += [
            "-display",
            "none",
            "-monitor",
            "none",
            "-qmp",
            f"unix:{sockets[0]},server=on,wait=off",
        ]
        self.errors = open(os.path.join(folder, f"{name}.qemu"), "ab")
        self.transcript = open(os.path.join(folder, f"{name}.log"), "ab")
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors
        )
        try:
            self.qmp_line = Line(sockets[0])
            self.lines = [
                Line(path, self.transcript if at == 0 else None)
                for at, path in enumerate(sockets[1:])
            ]
            self.qmp("qmp_capabilities")
        except Failed:
            self.end()
            raise Failed(f"QEMU did not start; see {self.errors.name}") from None

    @property
    def console(self):
        """The first serial line, where potluck is."""
        return self.lines[0]

    @property
    def shell(self):
        """The second one, where a root shell is."""
        if not hasattr(self, "_shell"):
            self._shell = Shell(self.lines[1])
            # No echo and no line editing: a shell leaves both out if its output is not a terminal.
            self._shell.line.send("")
            self._shell.line.expect("# ", within=60)
            self._shell.line.send("stty -echo; sh 2>&1 | cat")
            self._shell.run("true")
            self._shell.line.drain(1)
        return self._shell

    def qmp(self, command, **arguments):
        """Sends the machine a QMP command, such as stop, cont or system_reset."""
        self.qmp_line.send(json.dumps({"execute": command, "arguments": arguments}))
        self.qmp_line.expect('"return"', within=20, fail=('"error"',))

    def event(self, name, within):
        """Waits for an event of the machine such as WATCHDOG or RESET."""
        return self.qmp_line.expect(f'"event": "{name}"', within=within)

    def pull_the_plug(self):
        """Kills it at once, whatever it is doing."""
        self.process.kill()
        self.process.wait()

    def ended(self, within):
        """Waits until the machine has powered itself off."""
        try:
            self.process.wait(within * TIMEOUT_FACTOR)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not power off within {within} s") from None

    def end(self):
        """Ends it."""
        if self.process.poll() is None:
            self.pull_the_plug()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
