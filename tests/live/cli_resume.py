#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Walks of evpq-page that are stopped, and go on: each row once."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from cli_support import (BIG, PATIENCE, SCHEMA, SLEEPY, case, check, command, equal, main,
                         page, pause, psql)


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


WORDS = ("-n", "20", "--order-by", "id")


def resumable(folder, *more):
    return command("--token-out", os.path.join(folder, "token"), *WORDS, *more)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


@case
def a_token_file_follows_the_pages():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "token")
        words = ["-f", "ndjson", f"{BIG} WHERE id <= 120"]
        done = page("--token-out", path, "-p", "1", *WORDS, *words).ends(0)
        equal(read(path).decode().split("\n")[0], done.token("continue with --after "))
        equal(sorted(os.listdir(folder)), ["token"])
        rest = page("--token-out", path, "--after", f"@{path}", *WORDS, *words).ends(0)
        equal(done.ids() + rest.ids(), list(range(1, 121)))
        equal(page("--after", f"@{path}", *WORDS, *words).ends(0).ids(), [], "nothing is left")
        backward = page("--token-out", path, "--last", "-p", "1", *WORDS, *words).ends(0)
        rest = page("--before", f"@{path}", *WORDS, *words).ends(0)
        equal(sorted(backward.ids() + rest.ids()), list(range(1, 121)))


@case
def a_token_file_that_cannot_be_is_told_before_the_first_page():
    with tempfile.TemporaryDirectory() as folder:
        for path, message in ((os.path.join(folder, "no/token"), "No such file"),
                              (folder, "no regular file"), ("/dev/null", "no regular file")):
            done = page("--token-out", path, *WORDS, BIG).ends(1, "--token-out ", message)
            equal(done.out, b"")
        link = os.path.join(folder, "link")
        os.symlink(os.path.join(folder, "real"), link)
        write(link, b"")
        page("--token-out", link, "-p", "1", "-f", "csv", *WORDS, BIG).ends(0)
        check(os.path.islink(link) and read(link), "a link stays a link")
        long = "SELECT id::text || repeat('x', 5000) AS id FROM generate_series(1, 3) AS id"
        page("--token-out", link, "--assume-unique", *WORDS, long).ends(1, "too long for a token")


def stamp(path):
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_soon(process, token, chance):
    """After a page at least. True when it was killed before its end."""
    before = stamp(token)
    while process.poll() is None and stamp(token) == before:
        time.sleep(0.001)
    try:
        process.wait(chance.random() * 0.05)
    except subprocess.TimeoutExpired:
        process.kill()
        return True
    return False


def killed_walks(folder, more, form, most=5):
    """Kills a walk with signal 9 again and again, then lets it come to its end; how often."""
    out, token = os.path.join(folder, f"out.{form}"), os.path.join(folder, "token")
    sql = f"SELECT id, name FROM {SCHEMA}.big WHERE id <= {KILLED_ROWS}"
    chance = random.Random(len(more))
    kills = 0
    while True:
        after = ["--after", f"@{token}"] if os.path.exists(token) else []
        with open(out, "ab") as file:
            with subprocess.Popen(resumable(folder, *more, *after, "-f", form, sql), stdout=file,
                                  stderr=subprocess.PIPE) as process:
                killed = kills < most and kill_soon(process, token, chance)
                err = process.stderr.read().decode()
        kills += killed
        if not killed:
            equal(process.returncode, 0, err)
            return kills, read(out)


KILLED_ROWS = 3000
KILLED = [[], ["--prefetch"], ["--jobs", "3"]]


@case
def a_killed_walk_goes_on_with_each_row_once():
    for more in KILLED:
        with tempfile.TemporaryDirectory() as folder:
            kills, out = killed_walks(folder, more, "csv")
            lines = out.decode().splitlines()
            print(f"# {' '.join(more) or 'alone'}: killed {kills} times")
            equal(lines[0], "id,name")
            equal([int(line.split(",")[0]) for line in lines[1:]], list(range(1, KILLED_ROWS + 1)))
            check(kills > 0, "it was never killed")


@case
def a_killed_json_array_goes_on_as_one():
    with tempfile.TemporaryDirectory() as folder:
        _, out = killed_walks(folder, [], "json")
        equal([row["id"] for row in json.loads(out)], list(range(1, KILLED_ROWS + 1)))


@case
def what_a_killed_walk_wrote_behind_its_token_is_cut_off():
    sql = f"SELECT id FROM {SCHEMA}.big WHERE id <= 120"
    with tempfile.TemporaryDirectory() as folder:
        out, token = (os.path.join(folder, name) for name in ("out", "token"))
        with open(out, "ab") as file:
            page("--token-out", token, "-p", "1", "-f", "csv", *WORDS, sql, stdout=file).ends(0)
        write(out + ".kept", read(out))
        with open(out, "ab") as file:
            file.write(b"21\n22\n2")  # a page that was cut short
        resume = ["--after", f"@{token}", "-f", "csv", *WORDS, sql]
        with open(out + ".kept", "ab") as file:  # another file: nothing is cut off
            page(*resume, stdout=file).ends(0)
        with open(out, "ab") as file:
            page(*resume, stdout=file).ends(0, "cut 7 bytes off stdout")
        for path in (out, out + ".kept"):
            equal(read(path).decode().split(), ["id", *(str(i) for i in range(1, 121))])


@case
def an_output_that_cannot_go_on_is_refused():
    sql = f"SELECT id FROM {SCHEMA}.big WHERE id <= 120"
    with tempfile.TemporaryDirectory() as folder:
        out, token = (os.path.join(folder, name) for name in ("out", "token"))
        with open(out, "ab") as file:
            page("--token-out", token, "-p", "1", "-f", "json", *WORDS, sql, stdout=file).ends(0)
        resume = ["--token-out", token, "--after", f"@{token}", *WORDS, sql]
        for form in ("csv", "ndjson", "table"):
            kept = read(out)
            with open(out, "ab") as file:
                page("-f", form, *resume, stdout=file).ends(1, "was begun with --format json")
            equal(read(out), kept, form)
        for size in (10, 0):
            os.truncate(out, size)
            with open(out, "ab") as file:
                page("-f", "json", *resume, stdout=file).ends(1, "has lost rows", f"it has {size} of ")
            equal(os.path.getsize(out), size)
        equal(len(json.loads(page("-f", "json", *resume).ends(0).text())), 100, "elsewhere it goes on")


@case
def the_output_is_no_token_file():
    with tempfile.TemporaryDirectory() as folder:
        same, link = (os.path.join(folder, name) for name in ("same", "link"))
        write(same, b"rows\n")
        os.link(same, link)
        part = os.path.join(folder, "token.part")
        for path, out in ((same, same), (link, same), (part[:-5], part)):
            write(out, b"rows\n")
            with open(out, "ab") as file:
                page("--token-out", path, "-f", "csv", *WORDS, BIG, stdout=file).ends(
                    1, f"--token-out {path}: ", "the rows go to")
            equal(read(out), b"rows\n")
        with open(same, "ab") as file:
            page("--after", f"@{link}", "-f", "csv", *WORDS, BIG, stdout=file).ends(1, "the rows go to")


if __name__ == "__main__":
    sys.exit(main())
