# SPDX-License-Identifier: MIT
"""Every source file names its licence and is short enough to be read; README.md is right.

Usage: sources.py ROOT
"""

import os
import pathlib
import sys

from tap import Tap

LIMIT = 800
SUFFIXES = {".c", ".h", ".cc", ".cpp", ".py", ".sh", ".sql", ".map", ".yml", ".yaml"}
NAMES = {"meson.build", "meson_options.txt", "Dockerfile", ".clang-format", ".editorconfig"}


def is_script(path):
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def sources(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in (".git", "__pycache__") and
                            not pathlib.Path(folder, name, "meson-private").exists())
        for name in sorted(names):
            path = pathlib.Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            if path.suffix in SUFFIXES or name in NAMES or is_script(path):
                yield path


def first_program(root):
    """What of examples/first.c, without its SPDX line, README.md does not show."""
    code = (root / "examples" / "first.c").read_text().split("\n", 1)[1].strip()
    if f"```c\n{code}\n```" in (root / "README.md").read_text():
        return []
    return ["the first program in README.md is not that of examples/first.c"]


def headers_untold(root):
    """The public headers that README.md has no link to."""
    text = (root / "README.md").read_text()
    names = sorted(path.name for path in (root / "include" / "evpq").glob("*.h"))
    return [f"README.md: no include/evpq/{name}" for name in names if f"(include/evpq/{name})" not in text]


def main():
    root = pathlib.Path(sys.argv[1])
    tap = Tap()
    unlicensed, long, count = [], [], 0
    for path in sources(root):
        count += 1
        lines = path.read_text(errors="replace").splitlines()
        name = path.relative_to(root)
        if not any("SPDX-License-Identifier: MIT" in line for line in lines[:3]):
            unlicensed.append(str(name))
        if len(lines) > LIMIT:
            long.append(f"{name}: {len(lines)} lines")
    tap.check("an SPDX line is among the first three of every source file", unlicensed)
    tap.check(f"no source file has more than {LIMIT} lines", long)
    tap.check("README.md shows examples/first.c as it is", first_program(root))
    tap.check("README.md has a link to each public header", headers_untold(root))
    tap.check("there is something to look at", [] if count > 20 else [f"only {count} files"])
    tap.end()


main()
