# SPDX-License-Identifier: MIT
"""Count what a run of `meson test` found, case by case, and show what failed.

Usage: count.py TESTLOG_JSON

Prints "PASSED FAILED SKIPPED" on the first line, then for each test that failed
what it said; of long texts the beginning and the end. A program of cmocka
counts with each of its cases, one that speaks TAP with each of its checks, any
other as one. A program that fails without a failed case (a crash, a leak, a
timeout) counts as one failure.
"""

import json
import re
import sys

HEAD, TAIL = 15, 25  # lines

# As cmocka writes to stdout at the end of each case; its summary goes to stderr.
CMOCKA = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] \w", re.MULTILINE)
TAP = re.compile(r"^(not )?ok\b([^\n]*)", re.MULTILINE)
GOOD = ("OK", "EXPECTEDFAIL")
BORING = re.compile(r"(?:ok \d|1\.\.\d|\[ RUN      \]|\[       OK \]|\[  PASSED  \])")


def cases(text):
    """[passed, failed, skipped] of the cases in what a program wrote to stdout."""
    found = CMOCKA.findall(text)
    for bad, rest in TAP.findall(text):
        found.append("SKIPPED" if "# SKIP" in rest.upper() else "FAILED" if bad else "OK")
    return [found.count(verdict) for verdict in ("OK", "FAILED", "SKIPPED")]


def said(test):
    return "\n".join(test.get(stream) or "" for stream in ("stdout", "stderr"))


def main():
    total = [0, 0, 0]
    failures = []
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        tests = [json.loads(line) for line in log if line.strip()]
    for test in tests:
        passed, failed, skipped = cases(test.get("stdout") or "")
        good = test["result"] in GOOD
        if test["result"] == "SKIP":
            skipped = skipped or 1
        elif good:
            passed = passed if passed + skipped else 1
        elif not failed:
            failed = 1
        for index, count in enumerate((passed, failed, skipped)):
            total[index] += count
        if failed or not (good or test["result"] == "SKIP"):
            failures.append(test)
    print(*total)
    for test in failures:
        print(f"--- {test['name']}: {test['result']}, exit status {test.get('returncode')}")
        lines = [line for line in said(test).splitlines()
                 if line.strip() and not BORING.match(line)]
        if len(lines) > HEAD + TAIL:
            lines[HEAD:-TAIL] = [f"[{len(lines) - HEAD - TAIL} lines left out]"]
        print("\n".join(lines))


main()
