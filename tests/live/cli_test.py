#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The examples as a user meets them: evpq-page beside psql, first, concurrent.

    cli_test.py BUILD_DIR

The server is the one of EVPQ_TEST_CONNINFO, or else of libpq's environment.
EVPQ_TEST_SCALE=small takes 20,000 rows instead of 1,000,000. EVPQ_TEST_SLOW=1
(sanitizers, valgrind) gives more time and measures nothing.
"""

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build")
EXAMPLES = os.path.join(BUILD, "examples")
PAGE = os.path.join(EXAMPLES, "evpq-page")
CONNINFO = os.environ.get("EVPQ_TEST_CONNINFO")
SMALL = os.environ.get("EVPQ_TEST_SCALE") == "small"
SLOW = os.environ.get("EVPQ_TEST_SLOW") == "1"
ROWS = 20_000 if SMALL else 1_000_000
PATIENCE = 10 if SLOW else 1
SCHEMA = f"evpq_cli_{os.getpid()}"
BIG = f"SELECT * FROM {SCHEMA}.big"
MAX_MEMORY_KB = 32 * 1024

# The third page of ten sleeps as long as the table "pause" says.
SLEEPY = (f"SELECT id FROM {SCHEMA}.big WHERE id <= 60"
          f" AND (id <> 25 OR pg_sleep((SELECT seconds FROM {SCHEMA}.pause)) IS NOT NULL)")

os.environ.pop("PGAPPNAME", None)
os.environ.pop("PGOPTIONS", None)

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
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
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


def pause(seconds):
    psql("-c", f"UPDATE {SCHEMA}.pause SET seconds = {seconds}")


def server():
    """Host, port, user and database of the server, as libpq sees them."""
    script = "\\echo :HOST\n\\echo :PORT\n\\echo :USER\n\\echo :DBNAME\n"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        return psql("-f", file.name).text().splitlines()


def set_up():
    psql("-c", f"CREATE SCHEMA {SCHEMA}",
         "-c", f"""CREATE TABLE {SCHEMA}.big AS
                   SELECT id::int8, 'name of ' || id AS name, id % 7 = 0 AS flag,
                          timestamptz '2024-01-01 00:00:00+00' + id * interval '1.000001 s' AS at,
                          CASE WHEN id % 11 > 0 THEN id * 0.37 END AS amount
                   FROM generate_series({ROWS}, 1, -1) AS id""",
         "-c", f"ALTER TABLE {SCHEMA}.big ADD PRIMARY KEY (id)",
         "-c", f"CREATE TABLE {SCHEMA}.pause AS SELECT 0::float8 AS seconds",
         "-c", f"VACUUM ANALYZE {SCHEMA}.big")


def tear_down():
    psql("-c", f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")


NASTY = """SELECT * FROM (VALUES
    (1, 'plain', 'x'), (2, 'a,b', ''), (3, 'say "hi"', NULL), (4, E'two\\nlines', '"'),
    (5, E'carriage\\rreturn', ','), (6, E'\\\\.', '.'), (7, E'\\\\', E'\\\\.\\\\.'),
    (8, ' space ', E'\\ttab'), (9, 'größe 日本語 👍', E'e\\u0301'), (10, NULL, NULL),
    (11, E'\\x1b[31mred', E'\\x7f'), (12, '''', ';'), (13, E'\\n', E'\\r\\n'))
    AS v (id, "a,b", "say ""hi"" to")"""

# ------------------------------------------------------------------ formats


@case
def csv_is_what_psql_writes():
    wanted = psql("--csv", "-c", NASTY + " ORDER BY id").out
    equal(page("-f", "csv", "--order-by", "id", NASTY).ends(0).out, wanted)
    equal(page("-f", "csv", "-n", "4", "--order-by", "id", NASTY).ends(0).out, wanted, "4 a page")


@case
def csv_of_no_rows_and_of_no_columns_is_what_psql_writes():
    for sql in (f"{BIG} WHERE false", "SELECT", "SELECT 1 AS a, NULL AS b, '' AS c"):
        equal(page("-f", "csv", sql).ends(0).out, psql("--csv", "-c", sql).out, sql)


@case
def csv_has_its_header_once():
    out = page("-f", "csv", "-n", "3", "--order-by", "id", f"{BIG} WHERE id <= 10").ends(0).text()
    equal(out.count("name,flag"), 1)
    equal(len(out.splitlines()), 11)


@case
def ndjson_means_what_row_to_json_means():
    sql = """SELECT * FROM (VALUES
        (1::int2, -2147483648, 9223372036854775807, 0.1::float4, 1e300::float8, 1.50::numeric,
         true, E'q"\\\\/\\b\\n\\t\\u0001é👍', json '{"a": [1, {"b": null}]}', jsonb '[1.0, "x"]',
         '', uuid '00000000-0000-0000-0000-00000000000a'),
        (NULL, 0, -1, 'NaN', '-Infinity', 'NaN', false, NULL, E'{\\n"two":\\r\\n2}', 'null',
         ' ', NULL),
        (3, 7, 8, '-0', 1e-300, -12345678901234567890.123456789, NULL, '\\u0041', '"s"', NULL,
         E'\\x7f', NULL))
        AS v (s, i, b, f4, f8, n, flag, t, j, jb, "the ""name"" it", u)"""
    wanted = psql("-At", "-R", "\x1e", "-c", f"SELECT row_to_json(q) FROM ({sql}) q").text()
    lines = page("-f", "ndjson", sql).ends(0).text().split("\n")
    equal(lines.pop(), "", "the last line ends")

    def read(text):
        return json.loads(text, parse_float=str, parse_int=str)

    equal([read(line) for line in lines], [read(text) for text in wanted.split("\x1e")])


@case
def ndjson_keeps_every_digit():
    out = page("-f", "ndjson", "SELECT 9007199254740993 AS a, 0.10::numeric AS b").ends(0).text()
    equal(out, '{"a":9007199254740993,"b":0.10}\n')
    equal(page("-f", "ndjson", "SELECT").ends(0).text(), "{}\n")
    equal(page("-f", "ndjson", "SELECT 1 WHERE false").ends(0).text(), "")


@case
def tsv_is_what_copy_writes():
    nasty = NASTY + " UNION ALL SELECT 14, E'\\b\\f\\v', '\\\\N'"
    wanted = psql("-c", f"COPY ({nasty} ORDER BY 1) TO STDOUT WITH (HEADER)").out
    equal(page("-f", "tsv", "--order-by", "id", nasty).ends(0).out, wanted)
    equal(page("-f", "tsv", "-n", "4", "--order-by", "id", nasty).ends(0).out, wanted, "4 a page")


@case
def json_is_one_array():
    for rows, size in ((0, 5), (1, 5), (13, 5), (10, 5)):
        done = page("-f", "json", "-n", str(size), "--order-by", "id",
                    f"SELECT id FROM {SCHEMA}.big WHERE id <= {rows}").ends(0)
        equal([row["id"] for row in json.loads(done.text())], list(range(1, rows + 1)))
    pause(5 * PATIENCE)
    done = page("-f", "json", "-n", "10", "--order-by", "id", "--timeout", "500ms", SLEEPY).ends(4)
    equal([row["id"] for row in json.loads(done.text())], list(range(1, 21)), "cut short")
    pause(0)


@case
def null_is_written_as_asked():
    sql = "SELECT 1 AS a, NULL::text AS b, '' AS c"
    for format_, wanted in (("csv", "a,b,c\n1,(null),\n"), ("tsv", "a\tb\tc\n1\t(null)\t\n"),
                            ("ndjson", '{"a":1,"b":null,"c":""}\n')):
        equal(page("-f", format_, "--null", "(null)", "--order-by", "a", sql).ends(0).text(), wanted)
    check("(null)" in page("--null", "(null)", "--order-by", "a", sql).ends(0).text())


@case
def table_is_aligned():
    sql = """SELECT * FROM (VALUES
        (1, 'red', NULL::bool, 1.5), (22, '日本語 and more', true, 'NaN'),
        (3, E'two\\nlines\\ttab', false, -3), (4, E'e\\u0301', NULL, NULL))
        AS v (id, name, flag, num)"""
    equal(page("-n", "3", "--order-by", "id", sql).ends(0).text(), "\n".join([
        "id  name             flag  num",
        "--  ---------------  ----  ---",
        " 1  red                    1.5",
        " 3  two\\nlines\\ttab  f      -3",
        " 4  e\u0301" + 22 * " ",
        "",
        "id  name             flag  num",
        "--  ---------------  ----  ---",
        "22  日本語 and more  t     NaN", ""]))
    equal(page("SELECT 1 AS a WHERE false").ends(0).text(), "a\n-\n")


@case
def table_sends_no_control_character():
    sql = ("SELECT E'\\x1b[2J\\x07\\x7f\\x01' AS \"\x1b]0;title\x07\", E'\\u0085\\u009b31m' AS c1,"
           " E'\\u202eabc' AS bidi, E'\\\\x1b' AS harmless")
    out = page(sql).ends(0).text()
    check(not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out), repr(out))
    check("\\x1b[2J\\x07\\x7f\\x01" in out and "\\u009b31m" in out and "\\u202eabc" in out, out)


@case
def messages_send_no_control_character():
    done = page("SELECT E'\\x1b[31m'::int").ends(3, "ERROR 22P02: ", "\\x1b[31m")
    check("\x1b" not in done.err)


@case
def table_fits_the_terminal():
    sql = "SELECT 1 AS id, repeat('日本語', 40) AS wide, repeat('lorem ', 40) AS long"
    screen = on_terminal(command(sql), columns=60)
    lines = [line for line in screen.splitlines() if "1  " in line or "--" in line[:4]]
    check("…" in screen and "日本語" in screen, screen)
    equal(len(lines[0]), 60, screen)
    check("…" not in page(sql).ends(0).text(), "cut where there is no terminal")


# --------------------------------------------------------------------- walk


@case
def walk_gives_the_rows_and_order_of_psql():
    wanted = hashlib.sha256()
    with subprocess.Popen(psql_command("--csv", "-v", "FETCH_COUNT=10000", "-c",
                                       f"{BIG} ORDER BY id"), stdout=subprocess.PIPE) as process:
        while chunk := process.stdout.read(1 << 20):
            wanted.update(chunk)
    got, memory_kb = hashlib.sha256(), 0
    with subprocess.Popen(command("-f", "csv", "-n", "10000", "--order-by", "id", BIG),
                          stdout=subprocess.PIPE) as process:
        while chunk := process.stdout.read(1 << 16):
            got.update(chunk)
            memory_kb = max(memory_kb, peak_memory_kb(process.pid))
    equal(process.returncode, 0)
    equal(got.hexdigest(), wanted.hexdigest(), "sha256")
    print(f"# {ROWS} rows, peak memory {memory_kb / 1024:.1f} MB")
    check(SLOW or memory_kb < MAX_MEMORY_KB, f"{memory_kb} KB")


def peak_memory_kb(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1))
    except (OSError, AttributeError):  # it has ended just now
        return 0


@case
def walk_is_not_slower_than_psql():
    if SMALL or SLOW:
        raise Skip("measured at full scale only")
    commands = {
        "psql": psql_command("--csv", "-v", "FETCH_COUNT=10000", "-c", f"{BIG} ORDER BY id"),
        "evpq-page": command("-f", "csv", "-n", "10000", "--order-by", "id", BIG)}
    took = {name: [] for name in commands}
    for _ in range(5):
        for name, words in commands.items():
            took[name].append(Run(words, stdout=subprocess.DEVNULL).ends(0).took)
    medians = {name: statistics.median(times) for name, times in took.items()}
    ratio = medians["evpq-page"] / medians["psql"]
    print(f"# medians: evpq-page {medians['evpq-page']:.3f} s, psql {medians['psql']:.3f} s,"
          f" ratio {ratio:.2f}")
    # Until 16 psql fetches by cursor, as we do page by page; from 17 on it streams one query.
    version = int(re.search(r"\d+", subprocess.check_output(["psql", "--version"], text=True))[0])
    check(ratio <= (1.3 if version < 17 else 2.0), took)


@case
def pages_then_after_give_the_whole():
    sql = f"SELECT id FROM {SCHEMA}.big WHERE id <= 25"
    for order in (["--order-by", "id"], []):
        ids, after = [], []
        for pages in range(1, 10):
            done = page("-f", "ndjson", "-n", "10", "-p", "1", *order, *after, sql).ends(0)
            ids += done.ids()
            if "more rows" not in done.err:
                break
            after = ["--after", done.token("evpq-page: more rows: continue with --after ")]
        equal(pages, 3, "pages")
        equal(sorted(ids), list(range(1, 26)), "ids")
        check(not order or ids == sorted(ids), "order")


@case
def a_resumed_walk_has_no_second_header():
    words = ["-f", "csv", "-n", "2", "--order-by", "id",
             f"SELECT id FROM {SCHEMA}.big WHERE id <= 5"]
    first = page("-p", "1", *words).ends(0)
    rest = page("--after", first.token("continue with --after "), *words).ends(0)
    equal(first.text() + rest.text(), "id\n1\n2\n3\n4\n5\n")


@case
def before_walks_backward():
    words = ["-f", "ndjson", "-n", "10", "--order-by", "id",
             f"SELECT id FROM {SCHEMA}.big WHERE id <= 35"]
    third = page("-p", "1", "--after",
                 page("-p", "2", *words).ends(0).token("continue with --after "), *words).ends(0)
    equal(third.ids(), list(range(21, 31)))
    last = page("--last", "-p", "1", *words).ends(0)
    equal(last.ids(), list(range(26, 36)))
    token = last.token("continue with --before ")
    equal(page("--before", token, *words).ends(0).ids(),
          [*range(16, 26), *range(6, 16), *range(1, 6)])
    page("--last", "SELECT 1").ends(1, "--order-by")
    page("--last", "--before", token, *words).ends(1, "exclude")
    # A token leads one way.
    page("--before", third.token("continue with --after "), *words).ends(5)


@case
def any_order_and_any_columns():
    done = page("-f", "csv", "-n", "2", "--order-by", "lower(name) COLLATE \"C\" DESC, -id",
                "--columns", "id", "SELECT * FROM (VALUES (1, 'a'), (2, 'B'), (3, 'b'), (4, 'C'))"
                " AS v (id, name)").ends(0)
    equal(done.text(), "id\n4\n3\n2\n1\n")
    page("--order-by", "a; DROP TABLE x", "SELECT 1 AS a").ends(1, "--order-by has")
    page("--order-by", "a", "--columns", "*", "SELECT 1 AS a").ends(1, "--columns takes")


@case
def parameters_are_numbered_as_they_come():
    done = page("-f", "csv", "--order-by", "a", "--param", "7", "--param", "x'; DROP",
                "SELECT $1::int AS a, $2::text AS b").ends(0)
    equal(done.text(), "a,b\n7,x'; DROP\n")
    page("--order-by", "a", "SELECT $1::int AS a").ends(3)


@case
def signed_tokens_are_of_their_secret():
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(2):
            files.append(os.path.join(folder, f"secret{number}"))
            with open(files[-1], "wb") as file:
                file.write(b"0123456789abcde%d\n" % number)
        words = ["-n", "5", "--order-by", "id", f"SELECT id FROM {SCHEMA}.big WHERE id <= 25"]
        token = page("--secret-file", files[0], "-p", "1", *words).ends(0).token("--after ")
        page("--secret-file", files[0], "--after", token, *words).ends(0)
        page("--secret-file", files[1], "--after", token, *words).ends(5)
        page("--after", token, *words).ends(5)
        plain = page("-p", "1", *words).ends(0).token("--after ")
        page("--secret-file", files[0], "--after", plain, *words).ends(5)
        with open(files[0], "wb") as file:
            file.write(b"short\n")
        page("--secret-file", files[0], *words).ends(1, "--secret-file")
    page("--secret-file", "/nowhere", "SELECT 1").ends(1, "--secret-file")


@case
def a_walk_may_have_a_deadline():
    pause(30 * PATIENCE)
    words = ["-f", "ndjson", "-n", "10", "--order-by", "id", "--timeout", "10min", SLEEPY]
    done = page("--deadline", f"{700 * PATIENCE}ms", *words).ends(4, "deadline")
    equal(done.ids(), list(range(1, 21)))
    check(done.took < 5 * PATIENCE, done.took)
    pause(0)
    equal(done.ids() + page("--after", done.token(), *words).ends(0).ids(), list(range(1, 61)))


@case
def as_many_pages_as_there_are_is_complete():
    done = page("-n", "10", "-p", "2", "--order-by", "id", f"{BIG} WHERE id <= 20").ends(0)
    equal(done.err, "")


@case
def offset_pages_are_said_once():
    sql = f"SELECT id FROM {SCHEMA}.big WHERE id <= 50"
    done = page("-f", "ndjson", "-n", "10", sql).ends(0)
    equal(done.err.count("\n"), 1, done.err)
    check("no --order-by: offset pages" in done.err, done.err)
    equal(sorted(done.ids()), list(range(1, 51)))
    equal(page("-f", "ndjson", "--order-by", "id", sql).ends(0).err, "")


@case
def statement_may_end_in_semicolon_or_comment():
    for sql in ("SELECT 1 AS a;", "SELECT 1 AS a -- one", "SELECT 1 AS a ; "):
        equal(page("-f", "csv", "--order-by", "a", sql).ends(0).text(), "a\n1\n", sql)


# ------------------------------------------------------------------- endings


@case
def usage_errors_end_with_1():
    one = ["SELECT 1"]
    for words, message in (
            ([], "SQL is missing"), (one + one, "put the SQL in quotes"),
            (["-n", "0"] + one, "--page-size"), (["-n", "10001"] + one, "--page-size"),
            (["-n", "abc"] + one, "--page-size"), (["-n", "-1"] + one, "--page-size"),
            (["-n", "5x"] + one, "--page-size"), (["-n", ""] + one, "--page-size"),
            (["-p", "0"] + one, "--pages"), (["-p", "99999999999999999999"] + one, "--pages"),
            (["--timeout", "5"] + one, "--timeout"), (["--timeout", "500us"] + one, "--timeout"),
            (["--timeout", "0s"] + one, "--timeout"), (["--timeout", "-1s"] + one, "--timeout"),
            (["--timeout", "2 s"] + one, "--timeout"), (["--timeout", "ms"] + one, "--timeout"),
            (["--timeout", "4294967295ms"] + one, "--timeout"),
            (["--timeout", "99999999min"] + one, "--timeout"),
            (["-f", "xml"] + one, "--format"), (["--nope"] + one, "--nope"),
            (["--after"], "--after")):
        done = page(*words).ends(1, message, "Try 'evpq-page --help'.")
        check(done.out == b"" and done.err.startswith("evpq-page: "), words, done.err)


@case
def what_cannot_be_a_walk_ends_with_1():
    for words in ([""], ["--order-by", "", "SELECT 1 AS a"], ["--order-by", "a,,b", "SELECT 1 AS a"],
                  ["--order-by", "a; DROP TABLE x", "SELECT 1 AS a"],
                  ["--order-by", "1,2,3,4,5,6,7,8,9", "SELECT 1 AS a"]):
        done = page(*words).ends(1)
        check(done.out == b"" and done.err.startswith("evpq-page: "), words, done.err)
    for conninfo in ("password=S3cret nonsense", "postgresql://u:S3cret@[/"):
        done = page("SELECT 1", conninfo=conninfo).ends(1)
        check("S3cret" not in done.err and done.err.startswith("evpq-page: "), done.err)


@case
def durations_are_read():
    for text in ("900ms", "2s", "1min"):
        if not (SLOW and text == "900ms"):
            page("--timeout", text, "SELECT 1").ends(0)


@case
def help_and_version():
    done = page("--help").ends(0)
    equal(done.err, "")
    for line in done.text().splitlines():
        check(len(line) <= 80, line)
    options = re.findall(r"^ {2}(?:-\w, | {4})--([a-z-]+)", done.text(), re.M)
    check(len(options) >= 17, options)
    manual = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                          "../../examples/evpq-page/evpq-page.1")
    with open(manual, encoding="utf-8") as file:
        described = re.findall(r"^\.It Fl (?:\w , )?-([a-z-]+)", file.read(), re.M)
    equal(sorted(described), sorted(options), "the manual page and --help")
    check(re.fullmatch(r"evpq-page \d+\.\d+\.\d+\n", page("--version").ends(0).text()))


@case
def no_server_is_told_at_once():
    done = page("SELECT 1", conninfo="host=127.0.0.1 port=1 password=S3cret").ends(2, "evpq-page: ")
    check(done.took < 3 * PATIENCE, f"{done.took} s")
    check("S3cret" not in done.err, done.err)
    check("refused" in done.err, done.err)


@case
def unknown_database_ends_with_2():
    host, port, user, _ = server()
    if CONNINFO:
        raise Skip("needs the server in the environment")
    page("SELECT 1", conninfo="evpq_no such 'db").ends(2, "evpq_no such 'db")
    page("SELECT 1", conninfo=f"host={host} port={port} user={user} dbname=evpq_nope").ends(
        2, "evpq_nope")


@case
def wrong_password_is_not_shown():
    host, port, user, database = server()
    conninfo = f"host={host} port={port} user={user} dbname={database} password=S3cretWrong"
    done = page("SELECT 1", conninfo=conninfo)
    if done.code == 0:
        raise Skip("the server asks for no password")
    done.ends(2, "evpq-page: ", "password authentication failed")
    check("S3cretWrong" not in done.err, done.err)


@case
def name_of_a_database_is_a_conninfo():
    if CONNINFO:
        raise Skip("needs the server in the environment")
    database = server()[3]
    equal(page("-f", "csv", "SELECT current_database() AS d", conninfo=database).ends(0).text(),
          f"d\n{database}\n")


@case
def sql_errors_end_with_3():
    page("SELECT * FROM evpq_nope").ends(
        3, 'evpq-page: ERROR 42P01: relation "evpq_nope" does not exist\n')
    page("SELEC 1").ends(3, "ERROR 42601: ")
    done = page("-f", "ndjson", "-n", "10", "--order-by", "id",
                f"SELECT id, 1 / (id - 25) AS x FROM {SCHEMA}.big WHERE id <= 60")
    done.ends(3, "ERROR 22012: division by zero")
    equal(done.ids(), list(range(1, 21)))
    done.token()


@case
def detail_and_hint_are_shown():
    page("SELECT jsonb '{'").ends(3, "\nDETAIL: ")
    page("SELECT evpq_nope(1)").ends(3, "\nHINT: ")


@case
def deadline_ends_with_4_and_its_token_resumes():
    pause(3 * PATIENCE)
    words = ["-f", "ndjson", "-n", "10", "--order-by", "id", SLEEPY]
    done = page("--timeout", f"{400 * PATIENCE}ms", *words).ends(4, "evpq-page: ")
    check(done.took < 3 * PATIENCE, f"{done.took} s")
    equal(done.ids(), list(range(1, 21)))
    pause(0)
    rest = page("--timeout", "20s", "--after", done.token(), *words).ends(0)
    equal(done.ids() + rest.ids(), list(range(1, 61)))


@case
def deadline_of_the_first_page_leaves_nothing_to_resume():
    done = page("--timeout", f"{200 * PATIENCE}ms", "SELECT pg_sleep(20)")
    done.ends(4, "nothing to resume")
    equal(done.out, b"")
    check(done.took < 3 * PATIENCE, f"{done.took} s")


@case
def bad_tokens_end_with_5():
    sql = f"SELECT id FROM {SCHEMA}.big WHERE id <= 25"
    order = ["--order-by", "id"]
    token = page("-n", "5", "-p", "1", *order, sql).ends(0).token("continue with --after ")
    page("-n", "7", "--after", token, *order, sql).ends(0)
    middle = len(token) // 2
    for bad in ("", "x", "nonsense", "A" * 5000, token[:-1], token + "A", token[:middle],
                token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1:]):
        done = page("--after", bad, *order, sql).ends(5, "evpq-page: ", "token")
        equal(done.out, b"")
    page("--after", token, *order, sql + " AND true").ends(5)
    page("--after", token, "--order-by", "id DESC", sql).ends(5)
    page("--after", token, sql).ends(5)


@case
def key_too_long_for_a_token_is_said():
    sql = "SELECT id::text || repeat('x', 5000) AS id FROM generate_series(1, 3) AS id"
    words = ["-f", "ndjson", "-n", "1", "--order-by", "id", sql]
    equal(len(page(*words).ends(0).ids()), 3)
    page("-p", "2", *words).ends(0, "no token to go on with: ")


@case
def interrupt_ends_with_130_and_its_token_resumes():
    for number, ending in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        signal_ends_and_its_token_resumes(number, ending)


def signal_ends_and_its_token_resumes(number, ending):
    pause(30 * PATIENCE)
    words = command("-f", "ndjson", "-n", "10", "--order-by", "id", "--timeout", "10min", SLEEPY)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        lines = [process.stdout.readline() for _ in range(20)]
        time.sleep(0.3 * PATIENCE)
        started = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=20 * PATIENCE)
        took = time.monotonic() - started
    equal(process.returncode, ending, err)
    equal(out, b"")
    check(took < 3 * PATIENCE, f"{took} s")
    token = re.search(r"resume with --after (\S+)", err.decode()).group(1)
    equal(psql("-At", "-c", "SELECT count(*) FROM pg_stat_activity WHERE application_name ="
               f" 'evpq-page' AND state = 'active' AND query LIKE '%{SCHEMA}%'").text(), "0\n",
          "still running on the server")
    pause(0)
    rest = page("-f", "ndjson", "-n", "10", "--order-by", "id", "--after", token, SLEEPY).ends(0)
    equal([json.loads(line)["id"] for line in lines] + rest.ids(), list(range(1, 61)))


@case
def closed_pipe_ends_quietly_with_141():
    words = command("-f", "csv", "-n", "1000", "--order-by", "id", BIG)
    done = Run(["bash", "-c", '"$@" | head -n 1; exit ${PIPESTATUS[0]}', "bash", *words]).ends(141)
    equal((done.text(), done.err), ("id,name,flag,at,amount\n", ""))


@case
def what_cannot_be_written_ends_with_1():
    for redirection, message in ((">/dev/full", "No space left"), (">&-", "Bad file")):
        for form in ("csv", "ndjson", "table"):
            words = command("-f", form, "--order-by", "id", f"{BIG} WHERE id <= 2000")
            Run(["bash", "-c", f'"$@" {redirection}', "bash", *words]).ends(
                1, "evpq-page: cannot write: ", message)


# ------------------------------------------------------------------ progress


def on_terminal(words, columns=80, only_stderr=False):
    """What a program shows on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=theirs,
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


PROGRESS = r"\d+ rows?, \d+ pages?, \d+ rows/s, \d+\.\d s"


@case
def progress_is_for_a_terminal_that_shows_no_rows():
    words = command("-f", "csv", "-n", "10", "--order-by", "id", f"{BIG} WHERE id <= 100")
    # Where it is slow, the line has been written before, and over.
    check(re.search(rf"^(\r{PROGRESS} *)*\r100 rows, 10 pages, .* s *\r\n$",
                    on_terminal(words, only_stderr=True)))
    check(not re.search(PROGRESS, on_terminal(words)))
    equal(Run(words).ends(0).err, "")


@case
def progress_is_one_line_on_a_terminal():
    pause(0.6)
    words = command("-f", "csv", "-n", "10", "--order-by", "id", "--timeout", "30s", SLEEPY)
    screen = on_terminal(words, only_stderr=True)
    equal(screen.count("\n"), 1, repr(screen))
    check(4 <= len(re.findall(rf"\r{PROGRESS}", screen)) <= 12 * PATIENCE, repr(screen))
    pause(0)


@case
def progress_elsewhere_is_lines():
    pause(2.5)
    done = page("--progress", "-f", "ndjson", "-n", "10", "--order-by", "id", "--timeout", "30s",
                SLEEPY).ends(0)
    equal(done.ids(), list(range(1, 61)))
    lines = done.err.splitlines()
    check(2 <= len(lines) <= 4 * PATIENCE, done.err)
    for line in lines:
        check(re.fullmatch("evpq-page: " + PROGRESS, line), line)
    check(lines[-1].startswith("evpq-page: 60 rows, 6 pages"), done.err)
    pause(0)


# ------------------------------------------------------------- other programs


def example(name, *arguments):
    """The small examples take no conninfo; so the server must be in the environment."""
    if CONNINFO:
        raise Skip("needs the server in the environment")
    return Run([os.path.join(EXAMPLES, name), *arguments])


@case
def first_prints_an_answer_and_three_pages():
    done = example("first").ends(0)
    pages = [" ".join(str(i) for i in numbers)
             for numbers in (range(1, 11), range(11, 21), range(21, 26))]
    equal(done.text(), "\n".join(["answer: 42", *pages, ""]))
    equal(done.err, "")


@case
def first_says_what_is_wrong():
    if CONNINFO:
        raise Skip("needs the server in the environment")
    done = Run([os.path.join(EXAMPLES, "first")],
               env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": "1"})
    done.ends(1, "query: ", "page: ", "refused")


@case
def first_is_what_the_readme_shows():
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(os.path.join(source, "examples", "first.c")) as file:
        program = file.read().split("\n", 1)[1]  # without the licence
    with open(os.path.join(source, "README.md")) as file:
        check(program in file.read(), "README.md shows another program than examples/first.c")


@case
def concurrent_is_ten_times_as_fast():
    done = example("concurrent", "0.2").ends(0)
    times = {name: float(seconds) for name, seconds in
             re.findall(r"^(one|ten) connections? +([\d.]+) s$", done.text(), re.M)}
    check(2.0 <= times["one"], done.text())
    check(SLOW or times["one"] / times["ten"] > 3, done.text())
    equal(len(re.findall(r"of 10 done after", done.text())), 20)
    example("concurrent", "x").ends(1, "Usage: concurrent")


@case
def limited_lets_so_many_into_each_window():
    done = example("limited", "50", "20", "500").ends(0)
    times = [float(seconds) for seconds in re.findall(r"done after +([\d.]+) s", done.text())]
    equal(len(times), 3)
    check(times[1] >= 0.5 and times[2] >= 1.0, done.text())
    check(SLOW or times[2] < 5, done.text())
    example("limited", "5", "0", "1").ends(1, "Usage: limited")


@case
def gather_has_all_answers_or_cancels_the_rest():
    equal(example("gather").ends(0).text(), "1 2 100\n")
    example("gather", "0").ends(1, "gather: division by zero")


def main():
    print(f"1..{len(cases)}", flush=True)
    failed = False
    try:
        set_up()
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


if __name__ == "__main__":
    sys.exit(main())
