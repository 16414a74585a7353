#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The small examples: first, concurrent."""

import os
import re
import sys

from cli_support import (CONNINFO, EXAMPLES, SLOW, SOURCE, Run, Skip, case, check, equal, main)


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
    with open(os.path.join(SOURCE, "examples", "first.c")) as file:
        program = file.read().split("\n", 1)[1]  # without the licence
    with open(os.path.join(SOURCE, "README.md")) as file:
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


@case
def standby_reads_from_the_primary_where_there_is_no_standby():
    here = "application_name=standby"
    equal(example("standby", here, here).ends(0).text(), "read from the primary\n")
    equal(example("standby", here, "port=1").ends(0).text(), "read from the primary\n")
    example("standby", "port=1", here).ends(1, "standby: write: ", "refused")
    example("standby").ends(1, "Usage: standby")


@case
def standby_reads_from_a_standby():
    host = os.environ.get("EVPQ_TEST_STANDBY")
    if not host:
        raise Skip("EVPQ_TEST_STANDBY names no standby")
    done = example("standby", "application_name=standby", f"host={host}").ends(0)
    check(done.text() in ("read from the primary\n", "read from the standby\n"), done.text())


@case
def batch_changes_both_or_nothing():
    equal(example("batch").ends(0).text(), "balance: 70\nbalance: 130\n")
    done = example("batch", "101").ends(1, "batch: statement 2: ", "nothing was changed")
    equal(done.text(), "")


@case
def stream_adds_up_what_comes():
    equal(example("stream", "250000").ends(0).text(), "250000 rows, 31250125000\n")


if __name__ == "__main__":
    sys.exit(main())
