# SPDX-License-Identifier: MIT
"""What the shared library exports is what the headers declare.

Usage: symbols.py LIBRARY VERSION HEADER...
"""

import pathlib
import re
import subprocess
import sys

from tap import Tap

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#.*?(?<!\\)$", re.DOTALL | re.MULTILINE)
DECLARATION = re.compile(r"\bEVPQ_API\b([^;{]*)[;{]")
NAME = re.compile(r"\b(evpq_\w+)\s*\(")


def exported(library):
    done = subprocess.run(["nm", "-D", "--defined-only", library],
                          capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    # "address type name@@node"; A is the version node itself.
    return {line[2].split("@")[0] for line in lines if len(line) == 3 and line[1] != "A"}


def declared(headers):
    names, unclear = set(), []
    for header in headers:
        text = DIRECTIVE.sub("", COMMENT.sub("", pathlib.Path(header).read_text()))
        for declaration in DECLARATION.findall(text):
            match = NAME.search(declaration)
            if match:
                names.add(match.group(1))
            else:
                unclear.append(f"{header}: {' '.join(declaration.split())}")
    return names, unclear


def main():
    library, version, *headers = sys.argv[1:]
    tap = Tap()
    have = exported(library)
    want, unclear = declared(headers)
    tap.check("every EVPQ_API can be read", unclear + ([] if want else ["there is none"]))
    tap.check("every declared function is exported", sorted(want - have))
    tap.check("every exported symbol is declared", sorted(have - want))
    base = next((header for header in headers if header.endswith("/base.h")), None)
    if base:
        tap.check("EVPQ_VERSION is the version of the project",
                  [] if f'#define EVPQ_VERSION "{version}"' in pathlib.Path(base).read_text()
                  else [f"base.h does not say {version}"])
    tap.end()


main()
