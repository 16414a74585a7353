# SPDX-License-Identifier: MIT
"""A terminal for the tests: a program on it, keys for the program, and what is seen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unicodedata

from cli_support import PATIENCE, check

SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([@-~])")
PARTIAL = re.compile(r"\x1b(\[\??[0-9;]*)?$")


class Screen:
    """What evpq-page and a shell need of a terminal, and nothing else: anything more is an error."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.row = self.column = 0
        self.lines = [[" "] * columns for _ in range(rows)]
        self.modes = {7, 25}  # it wraps, and has a cursor
        self.rest = ""
        self.strange = []

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.lines = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0

    def feed(self, text):
        text = self.rest + text
        partial = PARTIAL.search(text)
        self.rest = partial.group() if partial else ""
        text = text[:partial.start()] if partial else text
        at = 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found:
                self.sequence(*found.groups())
                at = found.end()
            else:
                self.put(text[at])
                at += 1

    def sequence(self, private, parameters, final):
        numbers = [int(number) for number in parameters.split(";") if number]
        if private and final in "hl":
            for number in numbers:
                (self.modes.add if final == "h" else self.modes.discard)(number)
                if number == 1049:
                    self.lines = [[" "] * self.columns for _ in range(self.rows)]
        elif final == "H":
            self.row = min((numbers or [1])[0], self.rows) - 1
            self.column = 0
        elif final == "K":  # behind a full line the cursor still stands on its last character
            column = min(self.column, self.columns - 1)
            self.lines[self.row][column:] = [" "] * (self.columns - column)
        elif final == "J":
            for row in range(self.rows if numbers == [2] else self.row, self.rows):
                self.lines[row] = [" "] * self.columns
            if numbers == [2]:
                self.lines = [[" "] * self.columns for _ in range(self.rows)]
        elif final != "m":
            self.strange.append(f"{private}{parameters}{final}")

    def put(self, char):
        if char == "\n":
            self.row += 1
            if self.row == self.rows:
                self.row -= 1
                self.lines = self.lines[1:] + [[" "] * self.columns]
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(self.column - 1, 0)
        elif unicodedata.category(char) in ("Mn", "Cf"):
            self.lines[self.row][max(self.column - 1, 0)] += char
        elif char == "\a" or ord(char) < 32 or 0x7f <= ord(char) < 0xa0:
            self.strange.append(char)
        else:
            width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
            if self.column + width > self.columns:
                if 7 in self.modes:
                    self.put("\r")
                    self.put("\n")
                self.column = 0 if 7 in self.modes else max(self.columns - width, 0)
            self.lines[self.row][self.column:self.column + width] = [char] + [""] * (width - 1)
            self.column += width

    def shown(self):
        return ["".join(line).rstrip() for line in self.lines]

    def text(self):
        return "\n".join(self.shown())


class Terminal:
    """A program that runs on a terminal of its own, which controls its jobs."""

    def __init__(self, words, rows=10, columns=80, env=None):
        self.screen = Screen(rows, columns)
        self.raw = b""
        self.undecoded = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            try:
                os.execvpe(words[0], words, {**os.environ, "TERM": "xterm", **(env or {})})
            finally:
                os._exit(127)  # never back into the tests
        self.code = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.fd)

    def settings(self):
        return termios.tcgetattr(self.fd)

    def canonical(self):
        return bool(self.settings()[3] & termios.ICANON and self.settings()[3] & termios.ECHO)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def look(self, seconds):
        """Takes what comes within so many seconds. False when the program has closed it."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.raw += data
        self.undecoded += data
        try:
            text, self.undecoded = self.undecoded.decode(), b""
        except UnicodeDecodeError as error:
            text = self.undecoded[:error.start].decode()
            self.undecoded = self.undecoded[error.start:]
        self.screen.feed(text)
        return bool(data)

    def see(self, *wanted, seconds=10):
        """Waits until all of these (regular expressions) are on the screen."""
        end = time.monotonic() + seconds * PATIENCE
        while not all(re.search(each, self.screen.text(), re.M) for each in wanted):
            left = end - time.monotonic()
            check(left > 0 and self.look(left), f"{wanted!r} is not on the screen:\n"
                  + self.screen.text())
        return self

    def press(self, keys, *wanted, seconds=10):
        self.type(keys)
        return self.see(*wanted, seconds=seconds)

    def ends(self, seconds=20):
        """Waits for the end. Its exit status; 128 and the number of a signal that killed it."""
        end = time.monotonic() + seconds * PATIENCE
        while self.look(0.05):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.look(0.05) and select.select([self.fd], [], [], 0.05)[0]:
                    pass
                return self.ended(status)
            check(time.monotonic() < end, "it does not end:\n" + self.screen.text())
        return self.wait()

    def wait(self):
        return self.ended(os.waitpid(self.pid, 0)[1])

    def ended(self, status):
        code = os.waitstatus_to_exitcode(status)
        self.code = code if code >= 0 else 128 - code
        return self.code
