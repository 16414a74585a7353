#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How evpq-page ends, whatever it is given."""

import os
import re
import subprocess
import sys
import tempfile
import time

from cli_support import (BIG, CONNINFO, PATIENCE, SCHEMA, SLEEPY, SLOW, SOURCE, Run, Skip, case, check,
                         command, equal, main, page, pause, psql, server)


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
            (["-f", "xml"] + one, "--format"), ([" ;"], "SQL is empty"), (["--nope"] + one, "--nope"),
            (["--after"], "--after")):
        done = page(*words).ends(1, message, "Try 'evpq-page --help'.")
        check(done.out == b"" and done.err.startswith("evpq-page: "), words, done.err)


@case
def what_cannot_be_a_walk_ends_with_1():
    for words in (["-- a comment only"], ["--order-by", "", "SELECT 1 AS a"], ["--order-by", "a,,b", "SELECT 1 AS a"],
                  ["--order-by", "a; DROP TABLE x", "SELECT 1 AS a"],
                  ["--order-by", "1,2,3,4,5,6,7,8,9", "SELECT 1 AS a"]):
        done = page(*words).ends(1)
        check(done.out == b"" and done.err.startswith("evpq-page: "), words, done.err)
    for conninfo in ("password=S3cret nonsense", "postgresql://u:S3cret@[/"):
        done = page("SELECT 1", conninfo=conninfo).ends(1)
        check("S3cret" not in done.err and done.err.startswith("evpq-page: "), done.err)


@case
def a_statement_may_begin_with_a_comment():
    sql = "-- all of it\nSELECT 1 AS a"
    page(sql).ends(1, "unrecognized option", "comes behind --")
    equal(page("-f", "csv", "--", sql).ends(0).text(), "a\n1\n")
    check("behind --" not in page("--nope=a b", sql).ends(1).err)


@case
def durations_are_read():
    for text in ("900ms", "2s", "1min", "1h", "1.5min", "0.5h", "2.125s", "20.0s"):
        if not (SLOW and text == "900ms"):
            page("--timeout", text, "SELECT 1").ends(0)
    done = page("--timeout", "0.2s", "SELECT pg_sleep(20)").ends(4, "deadline of 200 ms")
    done = page("--deadline", "0.3s", "SELECT pg_sleep(20)").ends(4, "the walk's deadline of 300 ms passed")
    check("nothing to resume" in done.err, done.err)
    for text in ("1.s", ".5s", "1.0005s", "0.5ms", "1.5", "1.2.3s", "1,5s", "1193.1h", "0.0000000001h"):
        page("--timeout", text, "SELECT 1").ends(1, "--timeout takes a duration")


@case
def help_and_version():
    done = page("--help").ends(0)
    equal(done.err, "")
    for line in done.text().splitlines():
        check(len(line) <= 80, line)
    options = re.findall(r"^ {2}(?:-\w, | {4})--([a-z-]+)", done.text(), re.M)
    check(len(options) >= 27, options)
    manual = os.path.join(SOURCE, "examples/evpq-page/evpq-page.1")
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
    divided = f"SELECT id, 1 / (id - 25) AS x FROM {SCHEMA}.big WHERE id <= 60"
    done = page("-f", "ndjson", "-n", "10", "--order-by", "id", divided)
    done.ends(3, "ERROR 22012: division by zero")
    equal(done.ids(), list(range(1, 21)))
    again = page("-n", "10", "--order-by", "id", "--after", done.token(), divided).ends(3, "22012")
    check("resume" not in again.err, again.err)


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
    words = ["-f", "ndjson", "-n", "1", "--assume-unique", "--order-by", "id", sql]
    equal(len(page(*words).ends(0).ids()), 3)
    page("-p", "2", *words).ends(0, "no token to go on with: ")


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


@case
def what_does_not_go_together_ends_with_1():
    order = ["--order-by", "id"]
    for words, message in (
            (["--mode", "keyset"], "needs --order-by"), (["--mode", "page"], "--mode takes"),
            (["--mode", "default"], "--mode takes"), (["--last"], "--last needs"),
            (["--assume-unique"], "--assume-unique"), (["--require-index"], "--require-index"),
            (["--mode", "offset", "--require-index", *order], "--require-index"),
            (["--mode", "cursor", "--token-out", "x"], "--mode cursor"),
            (["--mode", "cursor", "--after", "x"], "--mode cursor"),
            (["--mode", "cursor", "--prefetch"], "--prefetch"),
            (["--mode", "cursor", "--explain"], "--explain"),
            (["--explain", "--last", *order], "--explain"),
            (["--jobs", "0"], "--jobs takes"), (["--jobs", "65"], "--jobs takes"),
            (["--jobs", "2"], "--jobs is for keyset pages"),
            (["--jobs", "2", "--last", *order], "--jobs walks forward"),
            (["--jobs", "2", "--prefetch", *order], "no --prefetch"),
            (["--count", "some"], "--count takes"), (["--count", "bounded:0"], "--count takes"),
            (["--count", "bounded:x"], "--count takes"), (["--color", "red"], "--color takes"),
            (["--after", "x", "--last", *order], "exclude"),
            (["--after", "@/nowhere", *order], "/nowhere")):
        done = page(*words, f"SELECT id FROM {SCHEMA}.big").ends(1, message)
        equal(done.out, b"", words)


@case
def what_is_no_single_select_is_refused_with_a_hint():
    for sql in ("DELETE FROM x", f"INSERT INTO {SCHEMA}.pause VALUES (1) RETURNING *", "SHOW work_mem",
                "EXPLAIN SELECT 1", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE x", "BEGIN",
                f"COPY {SCHEMA}.big TO STDOUT", "SELECT 1)"):
        done = page(sql).ends(3, "ERROR 42601: ", "HINT: ")
        check("it takes one SELECT (or TABLE, VALUES, WITH)" in done.err or sql == "SELECT 1)", done.err)
        equal(done.out, b"", sql)
    page("(SELECT 1").ends(3, "ERROR 42601: ", "HINT: a parenthesis of the statement is not closed")
    sql = f"WITH d AS (DELETE FROM {SCHEMA}.pause RETURNING 1) SELECT * FROM d"
    page(sql).ends(3, "ERROR 0A000: ", "WITH")
    equal(psql("-At", "-c", f"SELECT count(*) FROM {SCHEMA}.pause").text(), "1\n")


@case
def what_reads_is_a_select():
    for sql in ("VALUES (1)", f"TABLE {SCHEMA}.pause", "WITH a AS (SELECT 1) SELECT * FROM a",
                "(SELECT 1)", "SELECT 1 UNION ALL SELECT 2", "SELECT 1 -- ;", "SELECT 1 /* ; */ ;",
                f"TABLE {SCHEMA}.pause; -- all", "SELECT ';'"):
        check(page("-f", "csv", sql).ends(0).out, sql)


@case
def limit_and_order_of_the_statement_are_its_own():
    sql = f"SELECT id FROM {SCHEMA}.big ORDER BY id DESC LIMIT 25"
    top = page("-f", "ndjson", "-n", "10", "--order-by", "id", "--assume-unique", sql).ends(0).ids()
    equal(len(top), 25)
    equal(top, sorted(top))
    equal(page("-f", "ndjson", "-n", "10", sql).ends(0).ids(), top[::-1])
    equal(page("-f", "ndjson", "-n", "10", "--order-by", "id",
               f"SELECT id FROM {SCHEMA}.big WHERE id < 5; /* few */", "--assume-unique").ends(0).ids(),
          [1, 2, 3, 4])


@case
def what_cannot_be_ordered_by_is_told():
    for order, code, message in (
            ("nope", 3, "nope"), ("id, nope", 3, "nope"), ("j", 3, "json"), ("p", 3, "point"),
            ("a,b,c,d,e,f,g,h,i", 1, "--order-by"), ("", 1, "--order-by")):
        done = page("--order-by", order, "--assume-unique",
                    "SELECT 1 AS id, json '1' AS j, point '(1,2)' AS p")
        check(done.code in (code, 1) and message in done.err, order, done.code, done.err)
        equal(done.out, b"", order)


@case
def errors_point_at_the_place_in_the_statement():
    done = page("SELECT 1 AS a,\n  nope, 2 AS b").ends(3)
    check("\nLINE 2:   nope, 2 AS b\n          ^\n" in done.err, done.err)
    done = page("SELECT '" + "x" * 300 + "', nope, '" + "日" * 300 + "'").ends(3)
    line, mark = done.err.split("\nLINE 1: ")[1].split("\n")[:2]
    check(line.startswith("...") and line.endswith("…"), done.err)
    equal(line[mark.index("^") - len("LINE 1: "):][:4], "nope")


@case
def a_table_altered_between_two_pages_ends_with_1_or_goes_on():
    psql("-c", f"CREATE TABLE {SCHEMA}.altered (id int PRIMARY KEY, a int)",
         "-c", f"INSERT INTO {SCHEMA}.altered SELECT i, i FROM generate_series(1, 40) AS i")
    for form, code in (("csv", 1), ("tsv", 1), ("ndjson", 0)):
        words = command("-f", form, "-n", "1", "--order-by", "id", "--rate", "20/1s",
                        f"SELECT * FROM {SCHEMA}.altered")
        # Without a buffer, in which communicate() does not look.
        with subprocess.Popen(words, bufsize=0, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            process.stdout.readline()
            process.stdout.readline()
            psql("-c", f"ALTER TABLE {SCHEMA}.altered ADD COLUMN {form} int DEFAULT 1")
            out, err = process.communicate(timeout=60 * PATIENCE)
        if form == "ndjson":
            equal((process.returncode, len(out.splitlines())), (0, 38), err)
            continue
        check(process.returncode == code and b"columns of the statement have changed" in err, err)
        check(b"resume with --after " in err, err)
        widths = {line.count(b"," if form == "csv" else b"\t") for line in out.splitlines()}
        equal(len(widths), 1, "no line has other columns than the header")


@case
def a_token_that_leads_to_the_same_error_is_not_told():
    table = f"{SCHEMA}.moved"
    psql("-c", f"CREATE TABLE {table} AS SELECT i AS id FROM generate_series(1, 40) AS i",
         "-c", f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
    words = ["-n", "10", "--order-by", "id"]
    sql = f"SELECT id FROM {table}"
    token = page("-p", "1", *words, sql).ends(0).token("continue with --after ")
    psql("-c", f"ALTER TABLE {table} ALTER id TYPE text")
    done = page("--after", token, *words, sql).ends(5, "the token is not valid")
    check("resume" not in done.err, done.err)
    psql("-c", f"ALTER TABLE {table} RENAME id TO moved")
    done = page("--after", token, *words, sql).ends(3, "42703")
    check("resume" not in done.err, done.err)


@case
def a_walk_whose_table_is_altered_tells_no_token():
    table = f"{SCHEMA}.renamed"
    psql("-c", f"CREATE TABLE {table} AS SELECT i AS id FROM generate_series(1, 100) AS i",
         "-c", f"ALTER TABLE {table} ADD PRIMARY KEY (id)")
    words = command("-f", "ndjson", "-n", "1", "--order-by", "id", "--rate", "20/1s", f"SELECT id FROM {table}")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        psql("-c", f"ALTER TABLE {table} RENAME id TO other")
        _, err = process.communicate(timeout=60 * PATIENCE)
    equal(process.returncode, 3, err)
    check(b"42703" in err and b"resume" not in err, err)


@case
def a_token_of_another_version_ends_with_5():
    words = ["-n", "5", "--order-by", "id", f"SELECT id FROM {SCHEMA}.big WHERE id <= 25"]
    token = page("-p", "1", *words).ends(0).token("continue with --after ")
    for first in "BCDEZabz09-_":
        if token[0] != first:
            page("--after", first + token[1:], *words).ends(5, "token")


if __name__ == "__main__":
    sys.exit(main())
