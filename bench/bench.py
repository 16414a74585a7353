#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
The same work by evpq, by libpq alone, and by other clients, beside each other.

    bench.py [OPTION]... BUILD_DIR [CASE]...

The server is the one of libpq's environment, or with --check that of EVPQ_TEST_CONNINFO; a schema
evpq_bench is made there and dropped. scripts/bench starts one and calls this.

For each case the contenders take turns, so that whatever else the machine does meets them all, and
the median of the rounds counts. All do the same operations, asyncpg the first quarter of them, and
the sum of what they read must be the sum of what was stored.
"""

import argparse
import hashlib
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import report

HERE = pathlib.Path(__file__).resolve().parent
NOT_IN_THIS_BUILD = 77
MASK = (1 << 64) - 1
CONNINFO = os.environ.get("EVPQ_TEST_CONNINFO")

STEP = 104729  # of the ids of point selects, as in support/load.c
PAGE_SIZE = 100
SHARES = {"asyncpg": 4}  # what takes several times as long does a part of the work
PROGRAMS = {"plain": "libpq", "system": "evpq"}


@dataclass
class Case:
    name: str
    title: str
    kind: str
    values: dict
    peers: tuple = ()
    count: int = 0  # of operations; 0: so many that libpq needs the time that was asked for
    instructions: int = 0  # operations of which they are counted


def point(name, title, connections, in_flight, depth, peers):
    return Case(name, title, "point",
                {"connections": connections, "in_flight": in_flight, "depth": depth}, peers,
                instructions=4000)


def mix(depth):
    return Case(f"mix-{depth}", f"5,000 arrivals per second on 8 connections, 1 % of them"
                f" pg_sleep(0.1), depth {depth}", "mix",
                {"connections": 8, "depth": depth, "per_s": 5000}, ("libpq",))


ALL_PEERS = ("libpq", "plain", "pgbench", "asyncpg")
CASES = [
    point("point-1x1", "Point selects, 1 in flight on 1 connection", 1, 1, 1, ALL_PEERS),
    point("point-16x8", "Point selects, 16 in flight on 8 connections", 8, 16, 1, ALL_PEERS),
    point("point-256x8", "Point selects, 256 in flight on 8 connections, depth 1", 8, 256, 1,
          ALL_PEERS),
    point("point-256x8-d32", "Point selects, 256 in flight on 8 connections, depth 32", 8, 256, 32,
          ("libpq", "asyncpg")),
    point("point-256x2-d128", "Point selects, 256 in flight on 2 connections, depth 128", 2, 256,
          128, ("libpq", "asyncpg")),
    Case("pages-8x4", "Keyset pages of 100 rows, 8 walkers on 4 connections", "pages",
         {"connections": 4, "in_flight": 8, "page_size": PAGE_SIZE},
         ("libpq", "plain", "asyncpg"), instructions=400),
    Case("stream", "Stream of the whole table", "stream", {}, ("libpq", "asyncpg"), count=1),
    Case("dials-50", "50 dials at once", "dials", {"connections": 50}, ("libpq", "asyncpg"),
         count=50),
    Case("waiting", "100,000 operations waiting, until all their deadlines pass", "waiting",
         {"timeout_ms": 4000}, (), count=100_000),
    mix(1),
    mix(16),
]


def row_hash(number):
    """As bench_meter_row(), for the rows that fill() makes."""
    amount, name = number * 7919 % 1000003, hashlib.md5(str(number).encode()).hexdigest()
    value = (number * 0x9E3779B97F4A7C15 + amount * 0xC2B2AE3D27D4EB4F +
             int.from_bytes(name[:8].encode(), "big") + len(name)) & MASK
    return value ^ (value >> 29)


class Table:
    def __init__(self, rows):
        self.rows = rows
        self.hashes = [0] + [row_hash(number) for number in range(1, rows + 1)]
        psql(f"""SET client_min_messages = error;
            DROP SCHEMA IF EXISTS evpq_bench CASCADE;
            CREATE SCHEMA evpq_bench;
            CREATE TABLE evpq_bench.items
                (id bigint PRIMARY KEY, amount integer NOT NULL, name text NOT NULL);
            INSERT INTO evpq_bench.items
                SELECT id, id * 7919 % 1000003, md5(id::text)
                FROM generate_series(1::bigint, {rows}) AS id;""")
        psql("VACUUM (ANALYZE, FREEZE) evpq_bench.items")

    def drop(self):
        psql("SET client_min_messages = error; DROP SCHEMA IF EXISTS evpq_bench CASCADE")

    def checksum(self, case, count):
        """What all that a run reads comes to; None where it reads nothing."""
        if case.kind in ("point", "mix"):
            slow = (lambda i: i * 7919 % 10007 % 100 == 0) if case.kind == "mix" else lambda i: False
            return sum(self.hashes[1 + i * STEP % self.rows]
                       for i in range(count) if not slow(i)) & MASK
        if case.kind == "pages":
            walkers = case.values["in_flight"]
            return walkers * sum(self.hashes[:count // walkers * PAGE_SIZE + 1]) & MASK
        if case.kind == "stream":
            return sum(self.hashes) & MASK
        return 0


def psql(sql):
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql,
                    *(["-d", CONNINFO] if CONNINFO else [])],
                   check=True, stdout=subprocess.DEVNULL)


class Failure(Exception):
    pass


class NotHere(Exception):
    """The library does not have it."""


def part_processors():
    """A processor for the client and the others for the server, as if it were another machine: else
    it is chance whether the two share one, and a lone statement is three times as fast or slow for
    it. None where that cannot be."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2 or CONNINFO:
        return None
    try:
        folder = subprocess.run(["psql", "-XAtc", "SHOW data_directory"], check=True, text=True,
                                stdout=subprocess.PIPE).stdout.strip()
        pid = int(pathlib.Path(folder, "postmaster.pid").read_text(encoding="utf-8").split()[0])
        os.sched_setaffinity(pid, mine[:-1])
    except (OSError, subprocess.SubprocessError):
        return None
    return mine[-1:]


def run(command, environment=None, timeout=600, processors=None):
    """stdout, and the CPU seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, timeout=timeout,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False,
                          preexec_fn=processors and (lambda: os.sched_setaffinity(0, processors)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode == NOT_IN_THIS_BUILD:
        raise NotHere(done.stderr.strip())
    if done.returncode:
        raise Failure(f"{' '.join(map(str, command))}\n{done.stderr.strip()[-2000:]}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def metrics_of(text):
    pairs = (line.split("\t") for line in text.splitlines() if "\t" in line)
    return {name: int(value) if name == "checksum" else float(value) for name, value in pairs}


class Bench:
    def __init__(self, options):
        self.options = options
        self.programs = pathlib.Path(options.build).absolute() / "bench"
        self.libraries = {"LD_LIBRARY_PATH": options.libpq} if options.libpq else {}
        self.python = None if CONNINFO else python_with("asyncpg")
        self.pgbench = None if CONNINFO else shutil.which("pgbench")
        self.processors = None if options.check or options.shared else part_processors()
        self.table = Table(options.rows)

    def here(self, contender):
        return {"pgbench": self.pgbench, "asyncpg": self.python}.get(contender, True)

    def arguments(self, case, count, warmup):
        values = {**case.values, "count": count, "warmup": warmup}
        if case.kind in ("point", "mix"):
            values["rows"] = self.table.rows
        return [case.kind, *(f"{name}={value}" for name, value in values.items())]

    def command(self, case, contender, count, warmup):
        arguments = self.arguments(case, count, warmup)
        if contender == "asyncpg":
            return [self.python, HERE / "peer_asyncpg.py", *arguments]
        if CONNINFO:
            arguments.append(f"conninfo={CONNINFO}")
        if contender == "plain":
            arguments.append("plain=1")
        return [self.programs / f"bench-{PROGRAMS.get(contender, contender)}", *arguments]

    def measure(self, case, contender, count, warmup=None, environment=None, prefix=()):
        """The metrics of one run, which has done what it should."""
        if contender == "pgbench":
            return self.measure_pgbench(case, count)
        if warmup is None:
            warmup = count // 10
        command = [*prefix, *self.command(case, contender, count, warmup)]
        libraries = {} if contender == "system" else self.libraries
        text, _ = run(command, {**libraries, **(environment or {})}, processors=self.processors)
        said = metrics_of(text)
        wanted = self.table.checksum(case, count)
        if said.pop("checksum") != wanted or said.pop("operations") != count:
            raise Failure(f"{case.name}: {contender} has read something else than was stored")
        return said

    def pgbench_run(self, clients, each):
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(f"\\set id random(1, {self.table.rows})\n"
                         "SELECT id, amount, name FROM evpq_bench.items WHERE id = :id;\n")
            script.flush()
            return run([self.pgbench, "-n", "-M", "prepared", "-j", "1", "-c", str(clients),
                        "-t", str(each), "-f", script.name], processors=self.processors)

    def measure_pgbench(self, case, count):
        """It tells no percentiles, and verifies nothing. Its connections cost CPU time too, which
        is that of a run with nothing else."""
        clients = case.values["connections"]
        each = max(2, count // clients)
        _, start = self.pgbench_run(clients, 1)
        text, cpu = self.pgbench_run(clients, each)
        return {"per_s": float(re.search(r"^tps = ([\d.]+)", text, re.M)[1]),
                "cpu_us": max(0.0, cpu - start) * 1e6 / ((each - 1) * clients)}

    def calibrate(self, case, seconds):
        """So many operations that libpq needs so many seconds for them."""
        if case.count:
            return case.count
        if case.kind == "mix":
            return int(case.values["per_s"] * max(1, seconds))
        probe = self.fit(case, 200)
        said = self.measure(case, "libpq", probe, warmup=probe)
        said = self.measure(case, "libpq", self.fit(case, int(said["per_s"] * 0.1) + 1))
        return self.fit(case, int(said["per_s"] * seconds) + 1)

    def fit(self, case, count):
        if case.kind != "pages":
            return count
        walkers = case.values["in_flight"]
        most = (self.table.rows - 1) // PAGE_SIZE * walkers
        return min(most, -(-count // walkers) * walkers)

    def counted(self, case, contender, count):
        """Calls of the C library, in a run that is not measured."""
        preload = {"LD_PRELOAD": str(self.programs / "libbench-count.so")}
        said = self.measure(case, contender, count, environment=preload)
        return {name: said[name] for name in report.COUNTS if name in said}

    def instructions(self, case, contender):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "callgrind")
            count = case.instructions
            self.measure(case, contender, count, warmup=count // 4,
                         prefix=["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no",
                                 f"--callgrind-out-file={out}"])
            costs = report.costs_of_objects(out.read_text(encoding="utf-8", errors="replace"))
        said = {"instructions": sum(costs.values()) / count}
        for name, cost in costs.items():
            said[f"instructions in {name}"] = cost / count
        return said

    def case(self, case, rounds, seconds):
        """Per contender: lists of what the rounds gave, or why there is none."""
        contenders = ["evpq", *(peer for peer in case.peers if self.here(peer))]
        if self.libraries and case.kind == "point":
            contenders.append("system")
        results = {name: {} for name in contenders}
        count = self.calibrate(case, seconds)
        for number in range(rounds):
            shift = number % len(contenders)
            for name in contenders[shift:] + contenders[:shift]:
                part = count
                if name in SHARES and not case.count:
                    part = self.fit(case, count // SHARES[name] + 1)
                self.add(results, name,
                         lambda name=name, part=part: self.measure(case, name, part))
        for name in contenders:
            # Where a connection or a stream is one operation, its calls say nothing.
            if name in ("evpq", "libpq") and case.kind in ("point", "pages", "waiting"):
                few = count if case.count else self.fit(case, min(count, 20_000))
                self.add(results, name, lambda name=name: self.counted(case, name, few))
                if self.options.instructions and case.instructions:
                    self.add(results, name, lambda name=name: self.instructions(case, name))
        for name in case.peers:
            if not self.here(name):
                results[name] = "not installed"
        return count, results

    @staticmethod
    def add(results, name, measure):
        if isinstance(results[name], str):
            return
        try:
            for metric, value in measure().items():
                results[name].setdefault(metric, []).append(value)
        except NotHere as why:
            results[name] = str(why).splitlines()[-1]


def python_with(module):
    """Debian's modules are of Debian's Python, which need not be ours."""
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", f"import {module}"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0:
            return python
    return None


def check(bench, cases):
    """That everything still does its work, in a moment. Times are not looked at."""
    for case in cases:
        case.values = {**case.values}
        if case.kind == "dials":
            case.values["connections"] = 3
        count = {"stream": 1, "dials": 6, "waiting": 500, "pages": 16}.get(case.kind, 500)
        if case.kind == "waiting":
            case.values["timeout_ms"] = 400
        for name in ("evpq", *case.peers):
            if not bench.here(name):
                continue
            try:
                said = bench.measure(case, name, count)
                if name in ("evpq", "libpq"):
                    counts = bench.counted(case, name, count)
                    if not counts.get("allocations"):
                        raise Failure(f"{case.name}: {name}: nothing was counted")
                    said.update(counts)
                print(f"ok    {case.name} by {name}:", *(f"{k} {v:.6g}" for k, v in said.items()))
            except NotHere as why:
                if name != "evpq":
                    raise
                print(f"skip  {case.name} by {name}: {why}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--libpq", help="a folder with another libpq.so.5")
    parser.add_argument("--out", default=".", help="where bench.tsv and bench.md go")
    parser.add_argument("build")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {' '.join(sorted(unknown))};"
                     f" there are {' '.join(case.name for case in CASES)}")
    options.rows = 2000 if options.check else 100_000 if options.quick else 1_000_000
    return options


def main():
    options = parse()
    cases = [case for case in CASES if not options.cases or case.name in options.cases]
    bench = Bench(options)
    try:
        if options.check:
            check(bench, cases)
            return
        rounds, seconds = (3, 0.3) if options.quick else (7, 1)
        began, done = time.monotonic(), []
        for case in cases:
            count, results = bench.case(case, rounds, seconds)
            done.append((case, count, results))
            print(report.table(case, count, rounds, results), flush=True)
        print(report.goals_text(done))
        out = pathlib.Path(options.out)
        (out / "bench.tsv").write_text(report.tsv(done), encoding="utf-8")
        text = report.markdown(done, rounds, options, bench.processors)
        (out / "bench.md").write_text(text, encoding="utf-8")
        print(f"\n{time.monotonic() - began:.0f} s; {out}/bench.tsv, {out}/bench.md")
    finally:
        bench.table.drop()


try:
    main()
except (Failure, subprocess.SubprocessError) as failure:
    sys.exit(f"bench.py: {failure}")
