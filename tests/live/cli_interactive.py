#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""evpq-page on a terminal: keys, what is seen, and the terminal as it was on every exit."""

import os
import pathlib
import re
import signal
import sys
import time

from cli_support import (BIG, PATIENCE, SCHEMA, Skip, case, check, command, equal, main,
                         pause, psql)
from cli_terminal import Terminal

SQL = f"SELECT id, name FROM {SCHEMA}.big WHERE id <= 100"
ORDER = ("--order-by", "id")
# Ten rows fit a terminal of 13 lines: two of the header, one of the status.
ROWS = 13


def browse(*more, sql=SQL, rows=ROWS, **options):
    return Terminal(command(*ORDER, *more, sql), rows=rows, **options)


def ids(terminal):
    found = [re.match(r" *(\d+)  name", line) for line in terminal.screen.shown()]
    return [int(match.group(1)) for match in found if match]


def status(terminal):
    return terminal.screen.shown()[-1]


def is_as_it_was(terminal, before):
    equal(terminal.settings(), before, "settings of the terminal")
    equal(terminal.screen.modes, {7, 25}, "modes of the screen")
    equal(terminal.screen.strange, [], "sequences that we do not send")


@case
def keys_lead_from_page_to_page():
    with browse() as terminal:
        terminal.see("page 1, rows 1-10 \\(more\\)", "quit")
        equal(ids(terminal), list(range(1, 11)))
        for key, page, first in ((" ", "page 2", 11), ("n", "page 3", 21), ("\x1b[6~", "page 4", 31),
                                 ("p", "page 3", 21), ("\x1b[5~", "page 2", 11),
                                 ("b", "page 1", 1), ("G", "last page \\(end\\)", 91),
                                 ("p", "page -1 from the last", 81), ("n", "last page", 91),
                                 ("g", "page 1, rows", 1), ("\x1b[F", "last page", 91),
                                 ("\x1b[H", "page 1, rows", 1)):
            terminal.press(key, page)
            equal(ids(terminal), list(range(first, first + 10)), key)
        terminal.press("p", "no rows before this page")
        terminal.press("G", "last page").press(" ", "no rows behind this page")
        equal(ids(terminal), list(range(91, 101)))
        terminal.press("?", "any key leads back", "previous page").press("x", "\\(end\\)")
        terminal.type("q")
        equal(terminal.ends(), 0)
        check("more rows" not in terminal.screen.text(), terminal.screen.text())


@case
def the_end_of_the_walk_tells_its_token():
    with browse() as terminal:
        terminal.see("page 1").press("n", "page 2").type("q")
        equal(terminal.ends(), 0)
        token = re.search(r"continue with --after (\S+)", terminal.screen.text().replace("\n", ""))
        check(token, terminal.screen.text())
    with browse("--after", token.group(1)) as terminal:
        terminal.see("page \\+1 from the token")
        equal(ids(terminal), list(range(21, 31)))
        terminal.press("p", "page 2|page 0|page \\+0")
        equal(ids(terminal), list(range(11, 21)))
        terminal.press("p", "page 1, rows 1-10")
        terminal.type("q")
        equal(terminal.ends(), 0)


@case
def keys_typed_ahead_are_obeyed_one_after_another():
    with browse() as terminal:
        terminal.see("page 1").press("nnnnp\x1b[5", "page 4")
        terminal.press("~", "page 3")  # the rest of a sequence
        terminal.press("xyz\x1b[99;5Z\x1b[Mn", "page 4")
        terminal.type("q")
        equal(terminal.ends(), 0)


@case
def pages_that_are_longer_than_the_screen_scroll():
    with browse("-n", "25") as terminal:
        terminal.see("page 1, rows 1-10")
        for key, rows in ((" ", "11-20"), (" ", "16-25"), (" ", "26-35"), ("b", "16-25"),
                          ("k", "15-24"), ("j", "16-25"), ("\x1b[A", "15-24"), ("\x1b[B", "16-25"),
                          ("n", "26-35"), ("p", "1-10")):
            terminal.press(key, f"rows {rows} ")
            first, last = (int(number) for number in rows.split("-"))
            equal(ids(terminal), list(range(first, last + 1)), key)
        terminal.type("q")
        equal(terminal.ends(), 0)


@case
def columns_scroll_and_are_never_wrapped():
    sql = "SELECT " + ", ".join(f"'value {n}' AS column_{n}" for n in range(1, 31)) + \
        f", id FROM {SCHEMA}.big WHERE id <= 50"
    with browse(sql=sql, columns=70) as terminal:
        terminal.see("colum…  colum…", "page 1")
        check(all(len(line) <= 70 for line in terminal.screen.shown()))
        equal(len([line for line in terminal.screen.shown() if line.startswith("value")]), 10)
        terminal.press("l\x1b[C", "from column 3")
        terminal.press("l" * 24, "from column 27", "^column_27  column_28  column_29")
        terminal.press("l" * 9, "from column 31").press("h", "from column 30").type("q")
        equal(terminal.ends(), 0)


@case
def a_cell_is_whole_or_marked_at_any_width():
    names = ["id", "kind", "at", "payload"]
    rows = [[str(n), "ticket", "2024-03-13 04:30:00+00", f"ticket {n}"] for n in range(69321, 69371)]
    sql = ("SELECT id, 'ticket' AS kind, '2024-03-13 04:30:00+00' AS at, 'ticket ' || id AS payload"
           " FROM generate_series(69321, 69370) AS id")
    with browse("--assume-unique", sql=sql, rows=8, columns=101) as terminal:
        terminal.see("page 1, rows 1-5 ")
        for width in range(100, 4, -1):
            terminal.resize(8, width)
            terminal.see("^ pag\\S*")
            shown = terminal.screen.shown()
            for line, cells in zip([shown[0], *shown[2:7]], [names, *rows]):
                seen = re.split("  +", line.strip())
                cut = len(seen) < len(cells)
                check(not cut or line.endswith("…"), f"{width} columns: no mark: {line!r}")
                for text, cell in zip(seen, cells):
                    whole = text == cell or text.endswith("…") and cell.startswith(text.rstrip("… "))
                    check(whole, f"{width} columns: {text!r} for {cell!r}")
                check(width < 61 or seen == cells, f"{width} columns: there is room: {line!r}")
        terminal.type("q")
        equal(terminal.ends(), 0)


@case
def a_terminal_that_is_resized_is_refitted():
    with browse() as terminal:
        terminal.see("page 1, rows 1-10")
        terminal.resize(8, 60)
        terminal.see("rows 1-5 ")
        equal(len(ids(terminal)), 5)
        terminal.press("n", "page 2, rows 11-15 ")
        equal(ids(terminal), list(range(11, 16)))
        terminal.press("p", "rows 6-10 ")
        terminal.resize(23, 60)
        terminal.see("rows 6-10 ")
        terminal.press("n", "rows 11-30 ")
        equal(ids(terminal), list(range(11, 31)))
        terminal.press("G", "last page")
        equal(ids(terminal), list(range(81, 101)))
        terminal.resize(2, 12)
        terminal.press("p", "page").resize(1, 1)
        terminal.type("np")
        time.sleep(0.3)
        terminal.resize(10, 60)
        terminal.press("g", "page 1, rows 1-").type("q")
        equal(terminal.ends(), 0)


@case
def a_page_that_waits_says_so_and_can_be_stopped():
    pause(60)
    with browse("--timeout", "10min", sql=SLEEPY_NAMED) as terminal:
        terminal.see("page 1").press("n", "page 2")
        for _ in range(2):
            terminal.press("n", r"waiting for the next page, \d+\.\d s: Ctrl-C stops, q quits")
            equal(ids(terminal), list(range(11, 21)), "the good page is still seen")
            terminal.press("\x03", "stopped; r tries again")
        terminal.press("p", "page 1").press("n", "page 2")
        terminal.press("n", "waiting").type("q")
        started = time.monotonic()
        equal(terminal.ends(), 0)
        check(time.monotonic() - started < 5 * PATIENCE)
    nothing_runs()
    with browse("--timeout", "10min", sql=SLEEPY_NAMED) as terminal:
        terminal.see("page 1").press("nn", "waiting")
        pause(0)
        terminal.press("\x03", "stopped").press("r", "page 3")
        equal(ids(terminal), list(range(21, 31)))
        terminal.press("\x03", "resume with --after ")
        equal(terminal.ends(), 130)


SLEEPY_NAMED = (f"SELECT id, name FROM {SCHEMA}.big WHERE id <= 60"
                f" AND (id <> 25 OR pg_sleep((SELECT seconds FROM {SCHEMA}.pause)) IS NOT NULL)")


def nothing_runs():
    count = "1\n"
    for _ in range(20):
        count = psql("-At", "-c", "SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                     f" 'evpq-page' AND state = 'active' AND query LIKE '%{SCHEMA}%'").text()
        if count == "0\n":
            return
        time.sleep(0.1 * PATIENCE)
    raise AssertionError(f"still running on the server: {count}")


@case
def a_deadline_leaves_the_last_good_page():
    pause(60)
    with browse("--timeout", f"{400 * PATIENCE}ms", sql=SLEEPY_NAMED) as terminal:
        terminal.see("page 1").press("n", "page 2").press("n", "r tries again: .*deadline")
        equal(ids(terminal), list(range(11, 21)))
        pause(0)
        terminal.press("r", "page 3")
        equal(ids(terminal), list(range(21, 31)))
        terminal.type("q")
        equal(terminal.ends(), 0)
    with browse("--timeout", f"{400 * PATIENCE}ms", sql="SELECT 1 AS id, pg_sleep(60)",
                *("--assume-unique",)) as terminal:
        equal(terminal.ends(), 4)
        check(terminal.canonical() and "deadline" in terminal.screen.text())
        check(b"\x1b[?1049h" not in terminal.raw)


@case
def a_lost_connection_leaves_the_last_good_page():
    pause(60)
    with browse("--timeout", "10min", sql=SLEEPY_NAMED) as terminal:
        terminal.see("page 1").press("nn", "waiting")
        psql("-c", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
             f" WHERE application_name = 'evpq-page' AND query LIKE '%{SCHEMA}%'")
        terminal.see("r tries again: .*57P01")
        equal(ids(terminal), list(range(11, 21)))
        pause(0)
        terminal.press("r", "page 3").type("q")
        equal(terminal.ends(), 0)


@case
def the_terminal_is_as_it_was_on_every_exit():
    endings = {"q": 0, "\x04": 0, "\x03": 130, "\x1c": 131, signal.SIGTERM: 143, signal.SIGHUP: 129,
               signal.SIGQUIT: 131, signal.SIGINT: 130, signal.SIGABRT: 134, signal.SIGSEGV: 139,
               signal.SIGBUS: 135}
    for ending, code in endings.items():
        with Terminal(["bash", "--norc", "-c", 'sleep 0.15; "$@"; code=$?; sleep 0.1; exit $code',
                       "bash", *command(*ORDER, SQL)], rows=ROWS) as terminal:
            before = terminal.settings()
            terminal.see("page 1, rows").press("n", "page 2")
            check(not terminal.canonical() and 1049 in terminal.screen.modes, "it was changed")
            if isinstance(ending, str):
                terminal.type(ending)
            else:
                os.kill(child_of(terminal.pid), ending)
            got = terminal.ends()
            if ending in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS) and got == 1:
                raise Skip("a sanitizer has the signals of crashes")
            equal(got, code, repr(ending))
            is_as_it_was(terminal, before)
            if code in (130, 143, 129, 131):
                check(re.search("resume with --after", terminal.screen.text()), ending,
                      terminal.screen.text())


def child_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@case
def errors_of_the_first_page_leave_the_terminal_alone():
    for more, sql, code in (((), "SELECT nope", 3), (("--after", "bad"), SQL, 5),
                            (("--order-by", "a;"), SQL, 1)):
        with Terminal(["bash", "--norc", "-c", 'sleep 0.15; "$@"; code=$?; sleep 0.1; exit $code',
                       "bash", *command(*ORDER, *more, sql)], rows=ROWS) as terminal:
            before = terminal.settings()
            equal(terminal.ends(), code)
            is_as_it_was(terminal, before)
            check(b"\x1b[?1049h" not in terminal.raw and "evpq-page: " in terminal.screen.text())


@case
def it_can_be_suspended_and_goes_on():
    shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in command(*ORDER, SQL))
    with Terminal(shell, rows=ROWS, env={"PS1": "$ "}) as terminal:
        terminal.see(r"^\$").press(quoted + "\n", "page 1, rows")
        terminal.press("n", "page 2").press("\x1a", "Stopped")
        check(terminal.canonical() and 1049 not in terminal.screen.modes, "the shell has it back")
        terminal.press("fg\n", "page 2, rows 11-20")
        check(not terminal.canonical() and 1049 in terminal.screen.modes)
        equal(ids(terminal), list(range(11, 21)))
        terminal.press("n", "page 3").press("\x1a", "Stopped")
        terminal.press("bg\n", "&")  # in the background it touches nothing
        time.sleep(0.3)
        terminal.press("echo still here\n", "^still here")
        check(1049 not in terminal.screen.modes and terminal.canonical())
        terminal.press("fg\n", "page 3, rows 21-30").press("p", "page 2").type("q")
        terminal.see("continue with").press("exit\n")
        equal(terminal.ends(), 0)


@case
def all_that_fits_is_printed():
    with browse(sql=f"{SQL} AND id <= 5") as terminal:
        equal(terminal.ends(), 0)
        check(b"\x1b[?1049h" not in terminal.raw and terminal.canonical())
        equal(ids(terminal), [1, 2, 3, 4, 5])
    with browse(sql=f"{SQL} AND false") as terminal:
        equal(terminal.ends(), 0)
        check("id  name" in terminal.screen.text())
    with browse("--count", "exact", sql=f"{SQL} AND id <= 5") as terminal:
        equal(terminal.ends(), 0)
        check("count: 5 rows in all, counted" in terminal.screen.text(), terminal.screen.text())


@case
def a_count_is_in_the_status():
    with browse("--count", "exact") as terminal:
        terminal.see("page 1, rows 1-10 of 100 rows \\(more\\)").type("q")
        equal(terminal.ends(), 0)
        check("count: 100 rows in all" in terminal.screen.text())


@case
def other_modes_have_the_same_keys():
    with Terminal(command("--mode", "cursor", SQL), rows=ROWS) as terminal:
        terminal.see("page 1").press("n", "page 2").press("p", "page 1").press("G", "\\(end\\)")
        terminal.press("g", "page 1, rows 1-10").type("q")
        equal(terminal.ends(), 0)
    with Terminal(command(SQL), rows=ROWS) as terminal:
        terminal.see("page 1").press("n", "page 2").press("G", "offset pages have no last one")
        terminal.press("p", "page 1").type("q")
        equal(terminal.ends(), 0)
        check(b"no --order-by: offset pages" in terminal.raw)
    with browse("--last", "--prefetch") as terminal:
        terminal.see("last page").press("pp", "page -2").press("g", "page 1, rows").type("q")
        equal(terminal.ends(), 0)


@case
def nothing_but_ours_reaches_the_terminal():
    sql = ("SELECT id, E'\\x1b[2J\\x1b]0;t\\x07\\x9b31m\\u202e\\x7f\\u200f' || id AS name,"
           f" E'日本e\\u0301👍' AS wide FROM {SCHEMA}.big").replace("\\x9b", "\\u009b")
    with browse(sql=sql) as terminal:
        terminal.see("page 1", "\\\\x1b\\[2J").press("n", "page 2").type("q")
        equal(terminal.ends(), 0)
        equal(terminal.screen.strange, [])
        check(not re.search("[\u0080-\u009f\u202e\u200f\x7f\x07]", terminal.raw.decode()))


@case
def what_is_no_dialogue_is_not_interactive():
    for more, env in ((("-p", "2"), {}), ((), {"TERM": "dumb"}), ((), {"TERM": ""}),
                      (("-f", "csv"), {}), (("--progress",), {}), (("--explain",), {})):
        with browse(*more, sql=f"{SQL} AND id <= 30", env=env) as terminal:
            equal(terminal.ends(), 0, more)
            check(b"\x1b[?1049h" not in terminal.raw, more, env)
    with Terminal(["bash", "-c", '"$@" < /dev/null', "bash", *command(*ORDER, SQL)]) as terminal:
        equal(terminal.ends(), 0)
        check(b"\x1b[?1049h" not in terminal.raw)


@case
def a_large_table_is_as_quick_at_its_end():
    with browse(sql=BIG.replace("*", "id, name")) as terminal:
        terminal.see("page 1").press("G", "last page", seconds=5).press("p", "page -1").type("q")
        equal(terminal.ends(), 0)


if __name__ == "__main__":
    sys.exit(main())
