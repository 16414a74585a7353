# SPDX-License-Identifier: MIT
"""Break the library on purpose, one line at a time, and see whether the tests notice.

Usage: mutate.py [--list] [--sample N] [--seed S] [--live] [--jobs N] [--build DIR] [FILE...]

Works in the current folder, a copy of the tree that nobody else uses: each
mutation is written into its file, and the file written back. FILE is a source
below lib/; without any, all. The tests are those of the unit and fuzz suites,
built in DIR: first those whose names are nearest to the file, and no more
after the first that fails.

A mutation is *killed* by a test that fails, crashes or takes much longer than
usual. One that does not compile, or makes the same machine code, is none.
"""

import argparse
import hashlib
import pathlib
import random
import re
import subprocess
import sys
import time

STATEMENT = re.compile(
    r"""\s+(?:
        (?:\(void\))?[\w>.-]+\(.*\)                   # a call
      | \*?[\w>.\[\]-]+\ (?:[-+*|&]|<<|>>)?=\ .*      # an assignment; a declaration has a type
      | (?:\+\+|--)[\w>.\[\]*()-]+ | [\w>.\[\]*()-]+?(?:\+\+|--)
    );""", re.VERBOSE)
GUARD = re.compile(r"(\s+(?:\} else )?(?:if|while) )\((.*)\)( \{)?")
NO_STATEMENT = re.compile(r"\s+(?:assert|return|case|goto|va_\w+|if|for|while|switch)\b")
COMPARISON = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ",
              " != ": " == ", " && ": " || ", " || ": " && "}
ANSWER = {"true": "false", "false": "true"}
TEXT = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class Mutation:
    def __init__(self, path, number, kind, old, new):
        self.path, self.number, self.kind, self.old, self.new = path, number, kind, old, new

    def __str__(self):
        changed = "" if self.kind == "remove" else f"  ->  {self.new.strip()}"
        return f"{self.path}:{self.number}: {self.kind}: {self.old.strip()}{changed}"


def blank(match):
    """Comments and texts hide what looks like code; their place stays."""
    return re.sub(r"[^\n]", "_" if match.group().startswith(("'", '"')) else " ", match.group())


def balanced(text):
    return text.count("(") == text.count(")") and text.count("{") == text.count("}")


def of_line(code, line, before):
    """(kind, new line) for each way to break a line; `code` is it without texts and comments."""
    if re.match(r"\s+assert\(", code):
        return
    whole = balanced(code) and before.rstrip().endswith((";", "{", "}", ":", ")", "else", "do"))
    if whole and STATEMENT.fullmatch(code.rstrip()) and not NO_STATEMENT.match(code):
        yield "remove", line[:len(line) - len(line.lstrip())] + ";"
    guard = GUARD.fullmatch(code.rstrip())
    if guard and balanced(code.rstrip().removesuffix("{").replace("} else", "else")):
        start, end = guard.span(2)
        condition = line[start:end]
        for kind, constant in (("never", "0 &&"), ("always", "1 ||")):
            if kind == "never" or " while " not in f" {guard.group(1).strip()} ":
                yield kind, f"{line[:start]}{constant} ({condition}){line[end:]}"
    simple = guard and not re.search(r"&&|\|\|", code)  # its opposite is tried already
    for old, new in COMPARISON.items():
        if not (simple and old in (" == ", " != ")):
            for match in re.finditer(re.escape(old), code):
                yield "compare", line[:match.start()] + new + line[match.end():]
    if not simple:
        for match in re.finditer(r"(?<=[( ])!(?=[\w(])", code):
            yield "negate", line[:match.start()] + line[match.end():]
    for match in re.finditer(r"(?<=return )(true|false)(?=;)", code):
        yield "answer", line[:match.start()] + ANSWER[match.group()] + line[match.end():]


def of_file(path):
    text = path.read_text(encoding="utf-8")
    code = re.sub(f"{COMMENT.pattern}|{TEXT.pattern}", blank, text, flags=re.DOTALL).split("\n")
    inside, before = False, ""
    for number, (hidden, line) in enumerate(zip(code, text.split("\n")), 1):
        if hidden.startswith("{"):
            inside = True
        elif hidden.startswith("}"):
            inside = False
        elif inside and hidden.strip() and not line.rstrip().endswith("\\"):
            for kind, new in of_line(hidden, line, before):
                yield Mutation(path, number, kind, line, new)
        if hidden.strip():
            before = hidden


class Tests:
    """The programs of the suites, built when they are needed."""

    def __init__(self, build, jobs, live):
        self.build, self.jobs = pathlib.Path(build), jobs
        listed = self.ninja("-t", "targets", "all").stdout
        self.programs = [name for name in re.findall(r"^(tests/(?:unit|fuzz)/\w+): ", listed, re.M)]
        if live:
            self.programs += ["tests/live/live_connect", "tests/live/live_promises",
                              "tests/live/live_pool"]
        self.seconds = {}

    def ninja(self, *arguments):
        return subprocess.run(["ninja", "-C", self.build, f"-j{self.jobs}", *arguments],
                              capture_output=True, text=True, check=False)

    def nearest(self, path):
        """First those with the file's name, or its folder's, in theirs; live tests last."""
        def distance(program):
            name = pathlib.Path(program).name
            return ("live" in program, path.stem not in name, path.parent.name not in name,
                    self.seconds.get(program, 0))
        return sorted(self.programs, key=distance)

    def run(self, program, limit):
        """Seconds, or None when it failed."""
        arguments = []
        if "/fuzz/" in program:
            arguments = [pathlib.Path("tests/fuzz/corpus").absolute() / pathlib.Path(program).name]
        start = time.monotonic()
        try:
            done = subprocess.run([(self.build / program).absolute(), *arguments], timeout=limit,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - start if done.returncode == 0 else None

    def measure(self):
        done = self.ninja(*self.programs)
        if done.returncode:
            sys.exit(done.stdout[-3000:] + "mutate.py: the tree does not build")
        for program in list(self.programs):
            seconds = self.run(program, 600)
            if seconds is None:
                print(f"not used, it fails as the tree is: {program}")
                self.programs.remove(program)
            else:
                self.seconds[program] = seconds

    def object_of(self, path):
        name = str(path.relative_to("lib")).replace("/", "_") + ".o"
        return next(self.build.glob(f"lib/libevpq*.p/{name}"))

    def verdict(self, path, original):
        """`original` is the digest of the object as it was."""
        target = self.object_of(path)
        if self.ninja(str(target.relative_to(self.build))).returncode:
            return "no code", ""
        if digest(target) == original:
            return "the same", ""
        for program in self.nearest(path):
            name = pathlib.Path(program).name
            if self.ninja(program).returncode:
                return "no code", name
            if self.run(program, 3 + 5 * self.seconds[program]) is None:
                return "killed", name
        return "SURVIVED", ""


def digest(path):
    return hashlib.sha256(path.read_bytes()).digest()


def try_all(mutations, tests):
    """The survivors."""
    survivors, counts, originals, start = [], {}, {}, time.monotonic()
    for index, mutation in enumerate(mutations, 1):
        path = mutation.path
        if path not in originals:
            tests.ninja(str(tests.object_of(path).relative_to(tests.build)))
            originals[path] = digest(tests.object_of(path))
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        lines[mutation.number - 1] = mutation.new
        try:
            path.write_text("\n".join(lines), encoding="utf-8")
            word, by = tests.verdict(path, originals[path])
        finally:
            path.write_text(text, encoding="utf-8")
        counts[word] = counts.get(word, 0) + 1
        print(f"{index}/{len(mutations)} {word:9}{by:20} {mutation}", flush=True)
        if word == "SURVIVED":
            survivors.append(mutation)
    minutes = (time.monotonic() - start) / 60
    print(f"\n{len(mutations)} mutations in {minutes:.1f} min: " +
          ", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    return survivors


def sources(names):
    paths = [pathlib.Path(name) for name in names] or sorted(pathlib.Path("lib").rglob("*.c"))
    for path in paths:
        if path.suffix != ".c" or path.parts[0] != "lib" or not path.is_file():
            sys.exit(f"mutate.py: not a source of the library: {path}")
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--sample", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--build", default="build")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()

    mutations = [mutation for path in sources(options.files) for mutation in of_file(path)]
    if options.sample and options.sample < len(mutations):
        chosen = random.Random(options.seed).sample(range(len(mutations)), options.sample)
        mutations = [mutations[i] for i in sorted(chosen)]
    if options.list:
        print("\n".join(map(str, mutations)))
        return 0
    tests = Tests(options.build, options.jobs, options.live)
    tests.measure()
    survivors = try_all(mutations, tests)
    for mutation in survivors:
        print(mutation)
    return 1 if survivors else 0


sys.exit(main())
