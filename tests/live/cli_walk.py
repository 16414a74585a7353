#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Walks of evpq-page: all rows, in order, once; what may be asked for besides."""

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from cli_support import (BIG, NASTY, PATIENCE, SCHEMA, SLEEPY, SLOW, SMALL, SMALL_ROWS, Run, Skip,
                         case, check, command, equal, main, page, pause, psql,
                         psql_command)


ROWS = SMALL_ROWS if SMALL else 1_000_000
PART = f"{BIG} WHERE id <= {ROWS // 4}"
MAX_MEMORY_KB = 32 * 1024
DEFAULT_MAX_MEMORY_KB = 16 * 1024


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
        "psql": psql_command("--csv", "-v", "FETCH_COUNT=10000", "-c", f"{PART} ORDER BY id"),
        "evpq-page": command("-f", "csv", "-n", "10000", "--order-by", "id", PART)}
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
    done = page("-f", "csv", "-n", "2", "--assume-unique", "--order-by", "lower(name) COLLATE \"C\" DESC, -id",
                "--columns", "id", "SELECT * FROM (VALUES (1, 'a'), (2, 'B'), (3, 'b'), (4, 'C'))"
                " AS v (id, name)").ends(0)
    equal(done.text(), "id\n4\n3\n2\n1\n")
    page("--order-by", "a; DROP TABLE x", "SELECT 1 AS a").ends(1, "--order-by has")
    page("--order-by", "a", "--columns", "*", "SELECT 1 AS a").ends(1, "--columns takes")


@case
def parameters_are_numbered_as_they_come():
    done = page("-f", "csv", "--param", "7", "--param", "x'; DROP",
                "SELECT $1::int AS a, $2::text AS b").ends(0)
    equal(done.text(), "a,b\n7,x'; DROP\n")
    needs = f"SELECT id FROM {SCHEMA}.big WHERE id = $1"
    for order in ([], ["--order-by", "id"]):
        page(*order, needs).ends(3, "ERROR 08P01: ", "HINT: --param, ", "0 were given")
        page("--param", "1", "--param", "2", *order, needs).ends(3, "ERROR 42P18: ", "HINT: --param, ",
                                                                 "2 were given")


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
        both = ["--secret-file", files[1], "--secret-file", files[0]]
        page(*both, "--after", token, *words).ends(0)
        rotated = page(*both, "-p", "1", *words).ends(0).token("--after ")
        page("--secret-file", files[1], "--after", rotated, *words).ends(0)
        page("--secret-file", files[0], "--after", rotated, *words).ends(5)
        page("--secret-file", files[0], "--secret-file", files[0], *words).ends(1, "--secret-file: two")
        with open(files[0], "wb") as file:
            file.write(b"short\n")
        page("--secret-file", files[0], *words).ends(1, f"--secret-file {files[0]}: it takes 16 to 1,024")
        page("--secret-file", folder, *words).ends(1, f"--secret-file {folder}: Is a directory")
    page("--secret-file", "/nowhere", "SELECT 1").ends(1, "--secret-file /nowhere: No such file")


@case
def a_walk_may_have_a_deadline():
    pause(30 * PATIENCE)
    words = ["-f", "ndjson", "-n", "10", "--order-by", "id", "--timeout", "10min", SLEEPY]
    done = page("--deadline", f"{700 * PATIENCE}ms", *words).ends(
        4, f"the walk's deadline of {700 * PATIENCE} ms passed")
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
        equal(page("-f", "csv", sql).ends(0).text(), "a\n1\n", sql)


@case
def memory_of_a_walk_with_default_settings_is_bounded():
    memory_kb = 0
    with subprocess.Popen(command("-f", "csv", "--order-by", "id", "-p", "3000", BIG),
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while process.stdout.read(1 << 16):
            memory_kb = max(memory_kb, peak_memory_kb(process.pid))
    equal(process.returncode, 0)
    print(f"# peak memory {memory_kb / 1024:.1f} MB")
    check(SLOW or memory_kb < DEFAULT_MAX_MEMORY_KB, f"{memory_kb} KB")


@case
def every_mode_gives_all_rows():
    words = ["-f", "ndjson", "-n", "10", f"SELECT id FROM {SCHEMA}.big WHERE id <= 45"]
    wanted = list(range(1, 46))
    for mode in ("keyset", "offset", "cursor"):
        done = page("--mode", mode, "--order-by", "id", *words).ends(0)
        equal((done.ids(), done.err), (wanted, ""), mode)
    for mode in ("offset", "cursor"):
        done = page("--mode", mode, *words).ends(0)
        equal((sorted(done.ids()), done.err), (wanted, ""), mode)
    equal(page("--mode", "cursor", "--order-by", "id", "--last", *words).ends(0).ids(),
          [*range(36, 46), *range(26, 36), *range(16, 26), *range(6, 16), *range(1, 6)])


@case
def cursor_pages_are_of_one_moment():
    sql = f"SELECT id FROM {SCHEMA}.moment"
    psql("-c", f"CREATE TABLE {SCHEMA}.moment AS SELECT generate_series(1, 40) AS id")
    with subprocess.Popen(command("-f", "ndjson", "-n", "1", "--mode", "cursor", "--order-by", "id",
                                  f"{sql} WHERE pg_sleep(0.02) IS NOT NULL"), stdout=subprocess.PIPE) as process:
        first = process.stdout.readline()
        psql("-c", f"DELETE FROM {SCHEMA}.moment")
        rest = process.stdout.read()
    equal(process.returncode, 0)
    equal(len((first + rest).splitlines()), 40)


@case
def pages_fetched_ahead_are_the_same_pages():
    words = ["-f", "ndjson", "-n", "7", "--order-by", "id",
             f"SELECT id FROM {SCHEMA}.big WHERE id <= 1000"]
    equal(page("--prefetch", *words).ends(0).out, page(*words).ends(0).out)
    equal(page("--prefetch", "--last", *words).ends(0).out, page("--last", *words).ends(0).out)
    done = page("--prefetch", "-p", "3", *words).ends(0)
    equal(done.ids(), list(range(1, 22)))
    rest = page("--prefetch", "--after", done.token("continue with --after "), *words).ends(0)
    equal(done.ids() + rest.ids(), list(range(1, 1001)))


@case
def a_page_is_fetched_while_one_is_written():
    if SLOW:
        raise Skip("measured where programs are quick")
    size, chunks = 600_000, 10
    words = ["-f", "csv", "-n", "1", "-p", "8", "--order-by", "id", f"SELECT id, repeat('x', {size}) AS x"
             f" FROM {SCHEMA}.big WHERE pg_sleep(0.05) IS NOT NULL"]
    took = []
    for more in ([], ["--prefetch"]):
        started = time.monotonic()
        with subprocess.Popen(command(*more, *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            while process.stdout.read(size // chunks):  # a reader who takes as long as the server
                time.sleep(0.01)
        equal(process.returncode, 0)
        took.append(time.monotonic() - started)
    print(f"# one after another {took[0]:.2f} s, side by side {took[1]:.2f} s")
    check(took[1] < 0.9 * took[0], took)


@case
def an_order_that_is_not_proven_needs_assume_unique():
    twice = f"SELECT a.id FROM {SCHEMA}.big AS a, {SCHEMA}.pause AS b WHERE a.id <= 25"
    words = ["-f", "ndjson", "-n", "10", "--order-by", "id", twice]
    done = page(*words).ends(1, "HINT: ", "--assume-unique")
    equal(done.out, b"")
    check("assume_unique" not in done.err and done.err.count("--assume-unique") == 1, done.err)
    equal(page("--assume-unique", *words).ends(0).ids(), list(range(1, 26)))
    page("--order-by", "amount", f"{BIG} WHERE id <= 25").ends(1, "HINT: ")


@case
def an_order_without_an_index_can_be_refused():
    page("--require-index", "--order-by", "id", "-p", "1", BIG).ends(0)
    done = page("--require-index", "--order-by", "amount, id", "-p", "1", BIG).ends(1, "index")
    equal(done.out, b"")
    check("require_index" not in done.err, done.err)
    page("--order-by", "amount, id", "-p", "1", BIG).ends(0)


@case
def jobs_give_all_rows_in_order():
    words = ["-f", "csv", "--order-by", "id", PART]
    alone, jobs = (page(*more, *words, timeout=300).ends(0)
                   for more in ((), ("--jobs", "3")))
    equal(hashlib.sha256(jobs.out).hexdigest(), hashlib.sha256(alone.out).hexdigest())
    equal(jobs.err, "")
    few = ["-f", "csv", "--order-by", "id", "--jobs", "4"]
    equal(page(*few, f"SELECT id FROM {SCHEMA}.big WHERE id <= 3").ends(0).text(), "id\n1\n2\n3\n")
    equal(page(*few, f"SELECT id FROM {SCHEMA}.big WHERE false").ends(0).text(), "id\n")


@case
def one_token_resumes_jobs():
    words = ["-f", "ndjson", "-n", "10", "--order-by", "id",
             f"SELECT id FROM {SCHEMA}.big WHERE id <= 1000"]
    first = page("--jobs", "3", "-p", "4", *words).ends(0)
    token = first.token("continue with --after ")
    for more in (["--jobs", "2"], []):
        rest = page(*more, "--after", token, *words).ends(0)
        equal(first.ids() + rest.ids(), list(range(1, 1001)), more)
    done = page("--jobs", "2", "-n", "500", "-p", "99", *words[4:], "-f", "ndjson").ends(0)
    equal((done.ids(), done.err), (list(range(1, 1001)), ""), "all of them: nothing to go on with")


@case
def a_rate_spreads_the_pages():
    slow = page("--order-by", "id", "-n", "10", "-p", "5", "--rate", "2/400ms", BIG).ends(0)
    check(slow.took >= 0.8, slow.took)  # the third waits for the first, the fifth for the third
    page("--order-by", "id", "--rate", "2", BIG).ends(1, "--rate takes a number of pages")
    page("--order-by", "id", "--rate", "0/1s", BIG).ends(1, "--rate takes a number of pages")
    page("--order-by", "id", "--rate", "2/1s", "--prefetch", BIG).ends(1, "no --prefetch")


if __name__ == "__main__":
    sys.exit(main(ROWS))
