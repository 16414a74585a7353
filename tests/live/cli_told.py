#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What evpq-page tells besides rows: progress, counts, statistics, plans."""

import re
import sys

from cli_support import (BIG, PATIENCE, SCHEMA, SLEEPY, SLOW, Run, case, check, command, equal, main,
                         on_terminal, page, pause, psql)


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


@case
def counts_say_what_they_are():
    sql = f"{BIG} WHERE id <= 2500"
    words = ["-f", "csv", "-p", "1", "--order-by", "id"]
    page("--count", "exact", *words, sql).ends(0, "count: 2500 rows in all, counted\n")
    page("--count", "bounded:1000", *words, sql).ends(0, "count: more than 1000 rows in all,")
    page("--count", "bounded", *words, sql).ends(0, "count: 2500 rows in all, counted up to")
    done = page("--count", "estimate", *words, sql).ends(0)
    check(re.search(r"count: about \d+ rows in all, estimated", done.err), done.err)
    check("count" not in page("--count", "none", *words, sql).ends(0).err)
    page("--count", "exact", "-f", "csv", "-p", "1", sql).ends(0, "2500 rows in all, counted")
    page("--count", "exact", "--mode", "cursor", "-f", "csv", sql).ends(0, "2500 rows in all")


@case
def a_count_that_fails_fails_no_walk():
    pause(60)
    done = page("--count", "exact", "-f", "csv", "-n", "3", "-p", "1", "--order-by", "id",
                "--timeout", f"{500 * PATIENCE}ms", SLEEPY)
    done.ends(0, "no count: ", "more rows: continue with")
    equal(done.text(), "id\n1\n2\n3\n")
    pause(0)


@case
def progress_knows_the_rest_when_rows_are_counted():
    pause(1.6)
    done = page("--progress", "--count", "estimate", "-f", "ndjson", "-n", "10", "--order-by", "id",
                "--timeout", "30s", SLEEPY).ends(0)
    lines = [line for line in done.err.splitlines() if "pages" in line]
    check(re.match(r"evpq-page: 20 of about \d+ rows, 2 pages, \d+ rows/s, \d\.\d s, ETA \d+:\d\d$",
                   lines[0]) or SLOW, done.err)
    check(re.match(r"evpq-page: 60 of about \d+ rows, 6 pages, \d+ rows/s, \d+\.\d s$", lines[-1]),
          done.err)
    pause(0)


@case
def statistics_are_told_at_the_end():
    pause(0.5)
    done = page("--stats", "-f", "csv", "-n", "10", "--order-by", "id", SLEEPY).ends(0)
    check(re.search(r"stats: 6 pages, 60 rows, \d+ rows/s, \d+\.\d+ s\n", done.err), done.err)
    found = re.search(r"latency p50 ([\d.]+) ms, p99 ([\d.]+) ms, max ([\d.]+) ms\n", done.err)
    check(found, done.err)
    p50, p99, most = (float(text) for text in found.groups())
    check(p50 <= p99 == most >= 500, done.err)
    check(SLOW or p50 < 250, done.err)
    pause(0)
    page("--stats", "-f", "csv", "SELECT 1 / 0").ends(3, "stats: 0 pages")


@case
def plans_are_shown_and_judged():
    served = page("--explain", "--order-by", "id", BIG).ends(0)
    check('ORDER BY "id"' in served.text() and "Index Scan" in served.text(), served.text())
    equal(served.err, "")
    sorted_ = page("--explain", "--order-by", "amount, id", BIG)
    sorted_.ends(0, "warning: the plan sorts", "Sort  (")
    check("id,name" not in sorted_.text())
    page("--explain", "--order-by", "id", f"{BIG} WHERE flag").ends(
        0, "warning: the plan filters", "Filter: ")
    done = page("--explain=analyze", "--order-by", "id", f"{BIG} WHERE flag")
    done.ends(0, "Rows Removed by Filter")
    check("actual time" in done.text())
    page("--explain", "SELECT nope").ends(3, "42703")
    page("--explain=more", BIG).ends(1, "--explain takes")


if __name__ == "__main__":
    sys.exit(main())
