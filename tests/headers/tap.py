# SPDX-License-Identifier: MIT
"""Test Anything Protocol: each check is a line that meson counts."""

import sys


class Tap:
    def __init__(self):
        self.checks = 0
        self.failures = 0

    def check(self, name, problems):
        """A check called `name`, passed when `problems`, a list of texts, is empty."""
        self.checks += 1
        print(f"{'not ok' if problems else 'ok'} {self.checks} - {name}")
        if problems:
            self.failures += 1
        for problem in problems:
            for line in problem.splitlines():
                print(f"# {line}")

    def skip(self, name, reason):
        self.checks += 1
        print(f"ok {self.checks} - {name} # SKIP {reason}")

    def end(self):
        print(f"1..{self.checks}")
        sys.exit(1 if self.failures else 0)
