# SPDX-License-Identifier: MIT
"""Write what ran against what, as Markdown.

Usage: compatibility.py < RESULTS

Each line of RESULTS is "POSTGRESQL|DEBIAN|RUN|PASSED|FAILED|SKIPPED", as
scripts/lib/docker counts them.
"""

import sys

LIBPQ = {"12": "15", "13": "17"}
PGBOUNCER = {"12": "1.18", "13": "1.24"}
RUNS = {
    "unit": "unit tests",
    "direct": "live tests",
    "transaction": "live tests through PgBouncer {pgbouncer}, transaction mode",
    "session": "live tests through PgBouncer {pgbouncer}, session mode",
    "tls": "live tests with `sslmode=verify-full channel_binding=require`",
    "fault": "fault tests, with servers of their own",
    "libpq18": "live tests",
}
HEAD = """# Compatibility

Made by `scripts/test --docker all`: each row is one run of tests in containers, on Debian 12 (libpq 15, PgBouncer 1.18)
or Debian 13 (libpq 17, PgBouncer 1.24). libpq 18 is loaded in place of the libpq 17 that evpq was built with.
Skipped are cases that the run has no use for: other versions of libpq, and through PgBouncer what
`tests/support/pooler.c` lists. The fault tests make servers of the Debian's own PostgreSQL: 15 or 17.

PgBouncer tells a client whose server has ended in the middle of a row by an error in the middle of that row: a stream
that fails then may have a wrong last row. PgBouncer 1.18 has been seen to end at a cancel request, with "server_proto:
server in bad state"; then the tests that follow fail. 1.24 has not.

| PostgreSQL | libpq | what ran | passed | failed | skipped |
|---:|---:|---|---:|---:|---:|"""


def main():
    print(HEAD)
    rows = [line.strip().split("|") for line in sys.stdin if line.strip()]
    rows.sort(key=lambda row: (int(row[0]), row[1], list(RUNS).index(row[2])))
    for version, debian, run, passed, failed, skipped in rows:
        libpq = "18" if run == "libpq18" else LIBPQ[debian]
        what = RUNS[run].format(pgbouncer=PGBOUNCER[debian])
        print(f"| {'' if run == 'unit' else version} | {libpq} | {what} | {passed} | {failed} | {skipped} |")


main()
