#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""evpq-page's output beside psql's, and as it is kept in golden/."""

import json
import os
import re
import sys

from cli_support import (BIG, CONNINFO, NASTY, PATIENCE, SCHEMA, SLEEPY, SOURCE, Run, Skip, case,
                         check, command, equal, main, on_terminal, page, pause, psql,
                         server_version)


@case
def csv_is_what_psql_writes():
    wanted = psql("--csv", "-c", f"{NASTY} ORDER BY id").out
    equal(page("-f", "csv", "--order-by", "id", NASTY).ends(0).out, wanted)
    equal(page("-f", "csv", "-n", "4", "--order-by", "id", NASTY).ends(0).out, wanted, "4 a page")


@case
def csv_of_no_rows_and_of_no_columns_is_what_psql_writes():
    for sql in (f"{BIG} WHERE false", "SELECT", "SELECT FROM generate_series(1, 3)",
                "SELECT 1 AS a, NULL AS b, '' AS c"):
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


def copy_to_text(sql):
    if server_version() < 150000:
        raise Skip("COPY writes no header in text format before 15")
    return psql("-c", f"COPY ({sql}) TO STDOUT WITH (HEADER)").out


@case
def tsv_is_what_copy_writes():
    nasty = NASTY + " UNION ALL SELECT 14, E'\\b\\f\\v', '\\\\N'"
    wanted = copy_to_text(f"{nasty} ORDER BY 1")
    equal(page("-f", "tsv", "--assume-unique", "--order-by", "id", nasty).ends(0).out, wanted)
    equal(page("-f", "tsv", "-n", "4", "--assume-unique", "--order-by", "id", nasty).ends(0).out, wanted, "4 a page")


@case
def rows_without_columns_are_there():
    sql = "SELECT FROM generate_series(1, 3)"
    equal(page("-f", "tsv", sql).ends(0).out, copy_to_text(sql))
    equal(page("-f", "ndjson", sql).ends(0).text(), "{}\n{}\n{}\n")
    equal(page(sql).ends(0).text(), "\n--\n\n\n\n")


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
    equal(page("-f", "json", "SELECT nope").ends(3).out, b"", "no page: no array")
    equal(page("-f", "json", "SELECT 1 AS a WHERE false").ends(0).text(), "[]\n")


@case
def null_is_written_as_asked():
    sql = "SELECT 1 AS a, NULL::text AS b, '' AS c"
    for format_, wanted in (("csv", "a,b,c\n1,(null),\n"), ("tsv", "a\tb\tc\n1\t(null)\t\n"),
                            ("ndjson", '{"a":1,"b":null,"c":""}\n')):
        equal(page("-f", format_, "--null", "(null)", sql).ends(0).text(), wanted)
    check("(null)" in page("--null", "(null)", sql).ends(0).text())


@case
def table_is_aligned():
    sql = """SELECT * FROM (VALUES
        (1, 'red', NULL::bool, 1.5), (22, '日本語 and more', true, 'NaN'),
        (3, E'two\\nlines\\ttab', false, -3), (4, E'e\\u0301', NULL, NULL))
        AS v (id, name, flag, num)"""
    equal(page("-n", "3", "--assume-unique", "--order-by", "id", sql).ends(0).text(), "\n".join([
        "id  name             flag       num",
        "--  ---------------  ------  ------",
        " 1  red              <null>     1.5",
        " 3  two\\nlines\\ttab  f           -3",
        " 4  e\u0301                <null>  <null>",
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
    screen = on_terminal(command("--color", "never", sql), columns=60)
    lines = [line for line in screen.splitlines() if "1  " in line or "--" in line[:4]]
    check("…" in screen and "日本語" in screen, screen)
    equal(len(lines[0]), 60, screen)
    check("…" not in page(sql).ends(0).text(), "cut where there is no terminal")


GOLDEN = os.path.join(SOURCE, "tests", "live", "golden")
GOLDEN_SQL = """SELECT * FROM (VALUES
    (1, 'plain', 1.50, 0.1::float8, 0, true, jsonb '{"a": [1, null]}'),
    (2, '', 0.10, 'NaN', 9007199254740993, false, 'null'),
    (3, NULL, NULL, NULL, NULL, NULL, NULL),
    (4, 'NULL', 'NaN', 'Infinity', -1, true, '""'),
    (5, '<null>', 12345678901234567890.123456789, '-Infinity', 9223372036854775807, false, '[]'),
    (6, '日本語 wide', -1, '-0', 7, NULL, '1.0'),
    (7, E'combining e\\u0301, o\\u0308', 1, 1e300, 7, NULL, '"e\\u0301"'),
    (8, '👍 👨‍👩‍👧 🇩🇪 ❤️', 1, 1e-300, 7, NULL, '"👍"'),
    (9, E'joiner a\\u200db, none a\\u200cb', 1, 1, 7, NULL, '{}'),
    (10, E'\\x1b[31mred\\x1b[0m \\x07\\x7f\\x01', 1, 1, 7, NULL, '{}'),
    (11, E'C1 \\u0080\\u009b31m\\u0085', 1, 1, 7, NULL, '{}'),
    (12, E'bidi \\u202eabc\\u202c \\u2066x\\u2069 \\u200e\\u200f\\u061c', 1, 1, 7, NULL, '{}'),
    (13, E'lines\\none\\r\\ntwo\\tthree\\u2028four\\u000bfive\\fsix\\bseven', 1, 1, 7, NULL, '{}'),
    (14, E'quotes " '' , ; \\\\ \\\\. \\\\N', 1, 1, 7, NULL, '"\\"\\\\"'),
    (15, E'\\\\.', 1, 1, 7, NULL, '{}'),
    (16, ' spaces  ', 1, 1, 7, NULL, '{}'),
    (17, 'שלום عربى', 1, 1, 7, NULL, '{}'),
    (18, E'\\u0301leading', 1, 1, 7, NULL, '{}'),
    (19, '=1+1', 1, 1, 7, NULL, '{}'),
    (20, repeat('long ', 30), 1, 1, 7, NULL, '{}'))
    AS v (id, "text \x1b[1m ""it"" !", n, f, i, flag, j)"""


@case
def each_format_is_as_it_is_kept():
    """EVPQ_TEST_GOLDEN=write keeps what is written now: look at it before you believe it."""
    words = ["--assume-unique", "--order-by", "id", "-n", "7"]
    forms = {form: ["-f", form] for form in ("csv", "tsv", "ndjson", "json", "table")}
    forms["color"] = ["--color", "always"]
    for form, more in forms.items():
        got = page(*words, *more, GOLDEN_SQL).ends(0).out
        path = os.path.join(GOLDEN, f"nasty.{form}")
        if os.environ.get("EVPQ_TEST_GOLDEN") == "write":
            with open(path, "wb") as file:
                file.write(got)
        with open(path, "rb") as file:
            equal(got.decode(), file.read().decode(), form)


@case
def no_format_mistakes_null_for_an_empty_text():
    sql = "SELECT NULL::text AS a, ''::text AS b"
    equal(page("-f", "ndjson", "--null", "x", sql).ends(0).text(), '{"a":null,"b":""}\n')
    equal(page("-f", "csv", "--null", "x", sql).ends(0).text(), "a,b\nx,\n")
    equal(page("-f", "csv", "--null", "x", "SELECT 'x' AS a, NULL AS b").ends(0).text(),
          'a,b\n"x",x\n', "as COPY does")
    texts = "SELECT * FROM (VALUES (1, ''), (2, NULL), (3, 'x')) AS v (id, t) ORDER BY id"
    got = page("-f", "csv", "--null", "", texts).ends(0).text()
    equal(got, 'id,t\n1,""\n2,\n3,x\n')
    equal(got, psql("-c", f"COPY ({texts}) TO STDOUT WITH (FORMAT csv, HEADER)").text())
    equal(page("-f", "tsv", sql).ends(0).text(), "a\tb\n\\N\t\n")
    equal(page(sql).ends(0).text().splitlines()[-1].rstrip(), "<null>")
    equal(page("--null", "", sql).ends(0).text().splitlines()[-1].rstrip(), "")


@case
def color_is_for_terminals():
    words = command("-p", "1", "SELECT 1 AS id, NULL AS nothing")
    check("\x1b[" not in Run(words).ends(0).text(), "in a file")
    check("\x1b[1mid" in on_terminal(words), "on a terminal")
    check("\x1b[2m<null>" in on_terminal(words), "NULL")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        check("\x1b[" not in on_terminal(words, env={**os.environ, **variables}), variables)
    check("\x1b[1mid" in on_terminal(words, env={**os.environ, "NO_COLOR": ""}), "empty NO_COLOR")
    check("\x1b[" not in on_terminal([*words, "--color", "never"]), "never")
    always = Run([*words, "--color", "always"], env={**os.environ, "NO_COLOR": "1"}).ends(0)
    check("\x1b[1mid" in always.text(), "always")
    plain = re.sub("\x1b\\[[0-9;]*m", "", always.text())
    equal(plain, Run(words).ends(0).text(), "color changes nothing else")


@case
def emoji_and_joiners_are_cut_whole():
    for count in range(1, 8):
        sql = f"SELECT repeat('👨‍👩‍👧', 30) AS family, repeat(E'e\\u0301', {count * 9}) AS marks"
        screen = on_terminal(command("-p", "1", "--color", "never", sql), columns=40)
        check("\u200d…" not in screen, repr(screen))
        check("e…" not in screen, repr(screen))


@case
def names_used_twice_are_told_for_json_only():
    sql = "SELECT 1 AS a, 2 AS b, 3 AS a"
    for form in ("ndjson", "json"):
        done = page("-f", form, sql).ends(0, 'more than one column is named "a"')
        check('"a":1,"b":2,"a":3' in done.text(), done.text())
    for form, out in (("csv", "a,b,a\n1,2,3\n"), ("tsv", "a\tb\ta\n1\t2\t3\n")):
        done = page("-f", form, sql).ends(0)
        equal(done.text(), out)
        check("more than one" not in done.err, done.err)
    page("--order-by", "a", "--assume-unique", sql).ends(3, "42702")


if __name__ == "__main__":
    sys.exit(main())
