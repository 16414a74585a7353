# SPDX-License-Identifier: MIT
"""Each public header alone, and twice, is C99 and C++11 without a warning.

Usage: headers.py HEADER...
"""

import pathlib
import shutil
import subprocess
import sys

from tap import Tap

FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
LANGUAGES = [
    ("C99", "c", "-std=c99", ["gcc", "clang"]),
    ("C++11", "c++", "-std=c++11", ["g++", "clang++"]),
]


def compile_text(compiler, language, standard, include, text):
    command = [compiler, standard, *FLAGS, "-I", include, "-x", language, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stderr or "failed without a word"]


def main():
    tap = Tap()
    headers = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]]
    for name, language, standard, compilers in LANGUAGES:
        for compiler in compilers:
            for header in headers:
                include = str(header.parent.parent)
                line = f"#include <evpq/{header.name}>\n"
                title = f"evpq/{header.name} as {name} with {compiler}"
                if shutil.which(compiler):
                    tap.check(title, compile_text(compiler, language, standard, include, line * 2))
                else:
                    tap.skip(title, f"no {compiler}")
    listed = {header.name for header in headers}
    present = {header.name for header in headers[0].parent.glob("*.h")}
    tap.check("the headers that are installed are those that are there",
              [f"{name} is not in include/evpq/meson.build" for name in sorted(present - listed)])
    tap.end()


main()
