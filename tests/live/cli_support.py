# SPDX-License-Identifier: MIT
"""What the tests of the command line share: programs that are run, a server, a table.

    cli_....py BUILD_DIR

The server is the one of EVPQ_TEST_CONNINFO, or else of libpq's environment.
EVPQ_TEST_SCALE=small takes 20,000 rows instead of 1,000,000. EVPQ_TEST_SLOW=1
(sanitizers, valgrind) gives more time and measures nothing.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
EXAMPLES = os.path.join(BUILD, "examples")
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PAGE = os.path.join(EXAMPLES, "evpq-page")
CONNINFO = os.environ.get("EVPQ_TEST_CONNINFO")
SMALL = os.environ.get("EVPQ_TEST_SCALE") == "small"
SLOW = os.environ.get("EVPQ_TEST_SLOW") == "1"
SMALL_ROWS = 20_000
PATIENCE = 10 if SLOW else 1
SCHEMA = f"evpq_cli_{os.getpid()}"
BIG = f"SELECT * FROM {SCHEMA}.big"
NASTY = f"SELECT * FROM {SCHEMA}.nasty"
NASTY_ROWS = """
    (1, 'plain', 'x'), (2, 'a,b', ''), (3, 'say "hi"', NULL), (4, E'two\\nlines', '"'),
    (5, E'carriage\\rreturn', ','), (6, E'\\\\.', '.'), (7, E'\\\\', E'\\\\.\\\\.'),
    (8, ' space ', E'\\ttab'), (9, 'größe 日本語 👍', E'e\\u0301'), (10, NULL, NULL),
    (11, E'\\x1b[31mred', E'\\x7f'), (12, '''', ';'), (13, E'\\n', E'\\r\\n')"""

# The third page of ten sleeps as long as the table "pause" says.
SLEEPY = (f"SELECT id FROM {SCHEMA}.big WHERE id <= 60"
          f" AND (id <> 25 OR pg_sleep((SELECT seconds FROM {SCHEMA}.pause)) IS NOT NULL)")

for variable in ("PGAPPNAME", "PGOPTIONS", "NO_COLOR"):
    os.environ.pop(variable, None)
os.environ["TERM"] = "xterm"

cases = []


class Skip(Exception):
    pass


def case(test):
    cases.append(test)
    return test


def check(truth, *what):
    if not truth:
        raise AssertionError(" ".join(str(w) for w in what) or "check failed")


def equal(got, wanted, what=""):
    check(got == wanted, what, f"\n  got    {got!r}\n  wanted {wanted!r}")


class Run:
    """A finished program. text(): its stdout; err: its stderr."""

    def __init__(self, command, timeout=60, **options):
        started = time.monotonic()
        done = subprocess.run(command, stdout=options.pop("stdout", subprocess.PIPE),
                              stderr=subprocess.PIPE, stdin=options.pop("stdin", subprocess.DEVNULL),
                              timeout=timeout * PATIENCE, **options)
        self.took = time.monotonic() - started
        self.code, self.out = done.returncode, done.stdout or b""
        self.err = done.stderr.decode()

    def ends(self, code, *messages):
        equal(self.code, code, f"exit status; stderr: {self.err}")
        for message in messages:
            check(message in self.err, f"{message!r} is missing on stderr:\n{self.err}")
        return self

    def text(self):
        return self.out.decode()

    def token(self, hint="resume with --after "):
        found = re.search(re.escape(hint) + r"(\S+)$", self.err, re.M)
        check(found, "no token on stderr:", self.err)
        return found.group(1)

    def ids(self):
        return [json.loads(line)["id"] for line in self.text().splitlines()]


def command(*arguments, conninfo=CONNINFO):
    return [PAGE, *(["-d", conninfo] if conninfo else []), *arguments]


def page(*arguments, conninfo=CONNINFO, **options):
    return Run(command(*arguments, conninfo=conninfo), **options)


def psql_command(*arguments):
    return ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *(["-d", CONNINFO] if CONNINFO else []),
            *arguments]


def psql(*arguments):
    return Run(psql_command(*arguments), timeout=300).ends(0)


def server_version():
    return int(psql("-At", "-c", "SHOW server_version_num").text())


def pause(seconds):
    psql("-c", f"UPDATE {SCHEMA}.pause SET seconds = {seconds}")


def server():
    """Host, port, user and database of the server, as libpq sees them."""
    script = "\\echo :HOST\n\\echo :PORT\n\\echo :USER\n\\echo :DBNAME\n"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        return psql("-f", file.name).text().splitlines()


def set_up(rows):
    psql("-c", f"CREATE SCHEMA {SCHEMA}",
         "-c", f"""CREATE TABLE {SCHEMA}.big AS
                   SELECT id::int8, 'name of ' || id AS name, id % 7 = 0 AS flag,
                          timestamptz '2024-01-01 00:00:00+00' + id * interval '1.000001 s' AS at,
                          CASE WHEN id % 11 > 0 THEN id * 0.37 END AS amount
                   FROM generate_series({rows}, 1, -1) AS id""",
         "-c", f"ALTER TABLE {SCHEMA}.big ADD PRIMARY KEY (id)",
         "-c", f"CREATE TABLE {SCHEMA}.pause AS SELECT 0::float8 AS seconds",
         "-c", f"""CREATE TABLE {SCHEMA}.nasty
                   (id int PRIMARY KEY, "a,b" text, "say ""hi"" to" text)""",
         "-c", f"INSERT INTO {SCHEMA}.nasty VALUES {NASTY_ROWS}",
         "-c", f"VACUUM ANALYZE {SCHEMA}.big")


def tear_down():
    psql("-c", f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


def on_terminal(words, columns=80, only_stderr=False, env=None):
    """What a program shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=theirs, env=env,
                               stdout=subprocess.DEVNULL if only_stderr else theirs)
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 60 * PATIENCE)[0]:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the terminal was closed by its last user
            break
    os.close(ours)
    equal(process.wait(10 * PATIENCE), 0, seen)
    return seen.decode()


def main(rows=SMALL_ROWS):
    """Run the cases of the file that calls, with a table of so many rows."""
    print(f"1..{len(cases)}", flush=True)
    failed = False
    try:
        set_up(rows)
        for number, test in enumerate(cases, 1):
            name = test.__name__.replace("_", " ")
            try:
                test()
                print(f"ok {number} - {name}", flush=True)
            except Skip as reason:
                print(f"ok {number} - {name} # SKIP {reason}", flush=True)
            except Exception:
                failed = True
                for line in traceback.format_exc(limit=-3).splitlines():
                    print(f"# {line}")
                print(f"not ok {number} - {name}", flush=True)
    finally:
        tear_down()
    return 1 if failed else 0
