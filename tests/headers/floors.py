# SPDX-License-Identifier: MIT
"""A folder is a floor: a file includes its own floor and those below.

Usage: floors.py ROOT
"""

import pathlib
import re
import sys

from tap import Tap

FLOORS = ["base", "flow", "pg", "pool", "session", "route", "page", "await"]

# The floor that each public header tells of. evpq.h is the roof.
PUBLIC = {
    "base.h": "base", "error.h": "base", "op.h": "base",
    "limiter.h": "flow", "semaphore.h": "flow", "group.h": "flow", "queue.h": "flow",
    "value.h": "pg", "query.h": "pg", "result.h": "pg",
    "pool.h": "pool", "limits.h": "pool", "trace.h": "pool", "batch.h": "pool",
    "stream.h": "session",
    "router.h": "route",
    "pager.h": "page",
    "scan.h": "page",
    "await.h": "await",
    "evpq.h": None,
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
OUTPUT = re.compile(r"\b(?:printf|puts|putchar|perror|fprintf|fputs|fwrite|syslog|stdout|stderr)\b")
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"', re.DOTALL)


def rank(floor):
    return len(FLOORS) if floor is None else FLOORS.index(floor)


def includes(path):
    return INCLUDE.findall(path.read_text())


def floor_of_include(quote, name):
    """The floor of what is included; False when it is no file of ours."""
    if name.startswith("evpq/"):
        return PUBLIC[name[len("evpq/"):]]
    if quote == '"':
        return name.split("/")[0]
    return False


def upward(path, floor):
    problems = []
    for quote, name in includes(path):
        if quote == '"' and name.split("/")[0] not in FLOORS:
            problems.append(f'"{name}" does not begin with a floor')
            continue
        try:
            other = floor_of_include(quote, name)
        except KeyError:
            problems.append(f"<{name}>: say in tests/headers/floors.py to which floor it belongs")
            continue
        if other is not False and rank(other) > rank(floor):
            problems.append(f"{name} is above {floor}")
    return problems


def main():
    root = pathlib.Path(sys.argv[1])
    tap = Tap()
    files = sorted(path for path in (root / "lib").rglob("*") if path.suffix in (".c", ".h"))

    for path in sorted((root / "include" / "evpq").glob("*.h")):
        if path.name not in PUBLIC:
            tap.check(f"include/evpq/{path.name}", ["tests/headers/floors.py does not know it"])
        else:
            tap.check(f"include/evpq/{path.name} points down", upward(path, PUBLIC[path.name]))

    for path in files:
        name = path.relative_to(root / "lib")
        floor = name.parts[0] if len(name.parts) == 2 else "base"
        if floor not in FLOORS:
            tap.check(f"lib/{name}", [f"{floor} is no floor"])
            continue
        problems = upward(path, floor)
        system = [include for _, include in includes(path)]
        if "ev.h" in system and str(name) not in ("base/loop.c", "await/await.c"):
            problems.append("only base/loop.c and await/await.c include ev.h")
        if floor == "await":  # a library of its own sees nothing of the other's
            problems += [f"{inside} is of evpq's inside" for quote, inside in includes(path)
                         if quote == '"' and not inside.startswith("await/")]
        if "libpq-fe.h" in system and floor not in ("pg", "page"):
            problems.append("only pg/ and page/ include libpq-fe.h")
        if OUTPUT.search(COMMENT.sub("", path.read_text())):
            problems.append("a library writes nothing to stdout, stderr or the log")
        tap.check(f"lib/{name} points down", problems)

    tap.check("there is something to look at", [] if files else ["lib/ is empty"])
    tap.end()


main()
