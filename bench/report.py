# SPDX-License-Identifier: MIT
"""What the bench found, as a table to read, as TSV and as Markdown; and callgrind's output read."""

import collections
import os
import platform
import re
import statistics
import subprocess
from dataclasses import dataclass

COUNTS = ("allocations", "own_allocations", "sends", "recvs", "waits")

# metric: its name in tables. Only these are shown; the TSV has all.
NAMES = {
    "per_s": "per second",
    "rows_per_s": "rows per second",
    "cpu_us": "client CPU, µs each",
    "cpu_ns_per_row": "client CPU, ns per row",
    "p50_us": "p50, µs",
    "p99_us": "p99, µs",
    "rss_mb": "peak RSS, MB",
    "turn_ms": "longest turn of the loop, ms",
    "turn_cpu_ms": "longest turn of the loop, ms of CPU",
    "submit_ns": "submit, ns each",
    "submit_cpu_ns": "submit, ns of CPU each",
    "own_bytes": "bytes each",
    "late_ms": "latest callback after its deadline, ms",
    "instructions": "instructions each",
    "own_allocations": "allocations each, evpq's own",
    "allocations": "allocations each, all",
    "sends": "send() each",
    "recvs": "recv() each",
    "waits": "epoll_wait() or poll() each",
}
OF_KIND = {
    "point": ["per_s", "cpu_us", "p50_us", "p99_us", "rss_mb", "instructions", *COUNTS],
    "pages": ["per_s", "rows_per_s", "cpu_us", "p50_us", "p99_us", "rss_mb", "instructions",
              *COUNTS],
    "stream": ["rows_per_s", "cpu_ns_per_row", "rss_mb"],
    "dials": ["per_s", "cpu_us", "p50_us", "p99_us", "turn_ms", "turn_cpu_ms",
              "rss_mb"],
    "waiting": ["own_bytes", "own_allocations", "submit_ns", "submit_cpu_ns", "turn_ms",
                "turn_cpu_ms", "late_ms", "cpu_us", "rss_mb"],
    "mix": ["p50_us", "p99_us", "cpu_us", "rss_mb"],
}
COLUMNS = {"libpq": "libpq", "plain": "libpq, plain", "pgbench": "pgbench", "asyncpg": "asyncpg",
           "system": "system's libpq"}


def median(results, contender, metric):
    values = results.get(contender)
    if not values or isinstance(values, str) or metric not in values:
        return None
    return statistics.median(values[metric])


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def ratio(ours, theirs):
    return f"{ours / theirs:.2f} ×" if ours is not None and theirs else ""


def metrics_of(case, results):
    """Those of the kind that were measured, in their order."""
    return [metric for metric in OF_KIND[case.kind]
            if any(median(results, contender, metric) is not None for contender in results)]


def missing(results, contender):
    return results[contender] if isinstance(results.get(contender), str) else None


def table(case, count, rounds, results):
    lines = [f"\n{case.name}: {case.title}",
             f"{count:,} operations, {rounds} rounds" if count > 1 else f"{rounds} rounds"]
    peers = [peer for peer in results if peer != "evpq"]
    head = f"  {'':38}{'evpq':>12}"
    for peer in peers:
        head += f"{COLUMNS[peer]:>14}{'':>8}"
    lines.append(head.rstrip())
    for metric in metrics_of(case, results):
        ours = median(results, "evpq", metric)
        line = f"  {NAMES[metric]:38}{number(ours):>12}"
        for peer in peers:
            theirs = median(results, peer, metric)
            line += f"{number(theirs):>14}{ratio(ours, theirs):>8}"
        lines.append(line.rstrip())
    for contender in results:
        if missing(results, contender):
            lines.append(f"  {contender}: {missing(results, contender)}")
    return "\n".join(lines)


def tsv(done):
    lines = ["# bench\tcase\tmetric\tevpq\tpeer\tvalue\tevpq/value; medians. Other peers, '-' where"
             " there is none, follow on lines of their own"]
    for case, _, results in done:
        peers = [peer for peer in results if peer != "evpq"] or ["-"]
        metrics = list(dict.fromkeys(
            metric for values in results.values() if not isinstance(values, str)
            for metric in values))
        for metric in metrics:
            ours = median(results, "evpq", metric)
            for peer in peers:
                theirs = median(results, peer, metric)
                if ours is None and theirs is None:
                    continue
                lines.append("\t".join([
                    "bench", case.name, metric,
                    missing(results, "evpq") or ("" if ours is None else f"{ours:.6g}"),
                    peer, "" if theirs is None else f"{theirs:.6g}",
                    f"{ours / theirs:.4f}" if ours is not None and theirs else ""]))
        for contender in results:
            if missing(results, contender):
                lines.append(f"# {case.name}: {contender}: {missing(results, contender)}")
    return "\n".join(lines) + "\n"


# What is aimed at

@dataclass
class Goal:
    words: str
    value: float  # None: not measured
    least: bool  # the bound is the least that is wanted, else the most
    bound: float

    def reached(self):
        if self.value is None:
            return "not measured"
        good = self.value >= self.bound if self.least else self.value <= self.bound
        return "reached" if good else "missed"


def goals(done):
    results = {case.name: found for case, _, found in done}

    def ours(name, metric):
        return median(results.get(name, {}), "evpq", metric)

    def times(name, metric, peer="libpq"):
        theirs = median(results.get(name, {}), peer, metric)
        mine = ours(name, metric)
        return mine / theirs if mine is not None and theirs else None

    found = []
    for case, _, _ in done:
        if case.kind == "point":
            found += [
                Goal(f"{case.name}: per second, × libpq", times(case.name, "per_s"), True, 0.95),
                Goal(f"{case.name}: client CPU, × libpq", times(case.name, "cpu_us"), False, 1.15),
                Goal(f"{case.name}: instructions, × libpq", times(case.name, "instructions"), False,
                     1.10),
                Goal(f"{case.name}: evpq's own allocations each", ours(case.name, "own_allocations"),
                     False, 2),
            ]
        if case.kind == "point" and case.values["depth"] >= 32 and libpq_version(done) >= 170000:
            found.append(Goal(f"{case.name}: send() each", ours(case.name, "sends"), False, 0.1))
    if "system" in results.get("point-256x8-d32", {}):
        found += [
            Goal("point-256x8-d32: per second, × system's libpq",
                 times("point-256x8-d32", "per_s", "system"), True, 1.05),
            Goal("point-256x8-d32: client CPU, × system's libpq",
                 times("point-256x8-d32", "cpu_us", "system"), False, 0.8),
        ]
    both = ours("mix-16", "p99_us"), ours("mix-1", "p99_us")
    found += [
        Goal("point-256x8: p99, × libpq", times("point-256x8", "p99_us"), False, 1.2),
        Goal("point-256x8: per second, × asyncpg", times("point-256x8", "per_s", "asyncpg"), True,
             1.7),
        Goal("point-256x8-d32: per second, × asyncpg",
             times("point-256x8-d32", "per_s", "asyncpg"), True, 3),
        Goal("pages-8x4: rows per second, × libpq", times("pages-8x4", "rows_per_s"), True, 0.95),
        Goal("stream: rows per second, × libpq", times("stream", "rows_per_s"), True, 0.9),
        Goal("stream: peak RSS, MB", ours("stream", "rss_mb"), False, 16),
        Goal("mix-16: p99, × that of mix-1", both[0] / both[1] if all(both) else None, False, 1.2),
        Goal("waiting: bytes each", ours("waiting", "own_bytes"), False, 300),
        Goal("waiting: submit, ns each", ours("waiting", "submit_ns"), False, 1000),
        Goal("waiting: longest turn of the loop, ms", ours("waiting", "turn_ms"), False, 10),
        Goal("waiting: latest callback, ms", ours("waiting", "late_ms"), False, 50),
    ]
    return [goal for goal in found if goal.words.split(":")[0] in results]


def goals_text(done):
    lines = ["\nWhat is aimed at"]
    for goal in goals(done):
        lines.append(f"  {goal.words:48}{number(goal.value):>9}  {'≥' if goal.least else '≤'}"
                     f" {goal.bound:<6g}{goal.reached()}")
    return "\n".join(lines)


# Markdown

def row(*cells):
    return "| " + " | ".join(cells) + " |"


def heading(*cells):
    return [row(*cells), "|" + "---|" + "--:|" * (len(cells) - 1)]


def cell(results, metric, contender="evpq"):
    return number(median(results, contender, metric))


def titled(case, results):
    """Said once in each row: what evpq has no figures for."""
    return f"{case.title} (evpq: not in this build)" if missing(results, "evpq") else case.title


def against(results, metric, peer="libpq"):
    return ratio(median(results, "evpq", metric), median(results, peer, metric)) or "-"


def of_kinds(done, *kinds):
    return [(case, results) for case, _, results in done if case.kind in kinds]


def cost_tables(done):
    lines = heading("", "per second", "libpq", "", "CPU, µs each", "libpq", "", "p99, µs", "libpq",
                    "", "peak RSS, MB", "libpq")
    for case, results in of_kinds(done, "point", "pages"):
        cells = [titled(case, results)]
        for metric in ("per_s", "cpu_us", "p99_us"):
            cells += [cell(results, metric), cell(results, metric, "libpq"),
                      against(results, metric)]
        lines.append(row(*cells, cell(results, "rss_mb"), cell(results, "rss_mb", "libpq")))
    return lines


def call_tables(done):
    lines = heading("each", "instructions", "libpq", "", "allocations, evpq's own", "all", "libpq",
                    "send()", "libpq", "recv()", "libpq", "epoll_wait()", "libpq")
    for case, results in of_kinds(done, "point", "pages"):
        cells = [titled(case, results), cell(results, "instructions"), cell(results, "instructions", "libpq"),
                 against(results, "instructions"), cell(results, "own_allocations")]
        for metric in ("allocations", "sends", "recvs", "waits"):
            cells += [cell(results, metric), cell(results, metric, "libpq")]
        lines.append(row(*cells))
    return lines


def object_tables(done):
    """Where the instructions are, by library."""
    wanted = [(case, results) for case, results in of_kinds(done, "point", "pages")
              if median(results, "libpq", "instructions")]
    if not wanted:
        return []
    names = collections.Counter()
    for _, results in wanted:
        for contender in ("evpq", "libpq"):
            values = results[contender]
            for metric in () if isinstance(values, str) else values:
                if metric.startswith("instructions in "):
                    names[metric] += median(results, contender, metric)
    shown = [metric for metric, total in names.most_common() if total > 50 * len(wanted)]
    lines = heading("instructions each, in", *(metric.split()[-1] for metric in shown))
    for case, results in wanted:
        for contender in ("evpq", "libpq"):
            if not median(results, contender, "instructions"):
                continue
            lines.append(row(f"{case.name}, {contender}",
                             *(cell(results, metric, contender) for metric in shown)))
    return lines


def peer_tables(done):
    peers = ["plain", "pgbench", "asyncpg"]
    if any("system" in results for _, results in of_kinds(done, "point")):
        peers.append("system")
    lines = heading("per second", "evpq", *(text for peer in peers for text in (COLUMNS[peer], "")))
    for case, results in of_kinds(done, "point", "pages"):
        cells = [titled(case, results), cell(results, "per_s")]
        for peer in peers:
            cells += [cell(results, "per_s", peer), against(results, "per_s", peer)]
        lines.append(row(*cells))
    return lines


def other_tables(done):
    lines = heading("", "evpq", "libpq", "", "asyncpg", "")
    for case, results in of_kinds(done, "stream", "dials", "waiting", "mix"):
        for metric in metrics_of(case, results):
            cells = [f"{titled(case, results)}: {NAMES[metric]}", cell(results, metric)]
            for peer in ("libpq", "asyncpg"):
                cells += [cell(results, metric, peer), against(results, metric, peer)]
            lines.append(row(*cells))
    return lines


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        found = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
    return found[1] if found else platform.machine()


def libpq_version(done):
    return max((int(median(results, "libpq", "libpq") or 0) for _, _, results in done), default=0)


def goal_tables(done):
    lines = heading("what is aimed at", "wanted", "found", "")
    for goal in goals(done):
        lines.append(row(goal.words, f"{'≥' if goal.least else '≤'} {goal.bound:g}",
                         number(goal.value), goal.reached()))
    return lines


def version_of(*command):
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    return said or "?"


def setting(done, rounds, options, parted):
    libpq = libpq_version(done)
    server = version_of("psql", "-XAtc", "SHOW server_version").split()[0]
    whose = "one of them for the client" if parted else "shared by client and server"
    return (f"Medians of {rounds} rounds, {options.rows:,} rows; libpq"
            f" {libpq // 10000}.{libpq % 10000}, PostgreSQL {server} on the same machine by TCP,"
            f" {os.cpu_count()} processors ({processor()}), {whose}.")


def markdown(done, rounds, options, parted):
    parts = [[setting(done, rounds, options, parted)], cost_tables(done), call_tables(done),
             object_tables(done), peer_tables(done), other_tables(done),
             goal_tables(done)]
    return "\n\n".join("\n".join(lines) for lines in parts if len(lines) != 2 and lines) + "\n"


# callgrind

def costs_of_objects(text):
    """Instructions by library, without those of the functions they call. The format is that of
    valgrind's manual, "Callgrind Format Specification"."""
    names, costs, current, called = {}, collections.Counter(), "?", False
    for line in text.splitlines():
        if line.startswith("ob="):
            found = re.match(r"ob=(\(\d+\))?\s*(.*)", line)
            if found[2]:
                names[found[1]] = re.sub(r"[-.]so.*|-\d.*", "", os.path.basename(found[2]))
            current = names.get(found[1], "?")
        elif line.startswith("cob="):
            found = re.match(r"cob=(\(\d+\))\s*(.+)", line)
            if found:
                names[found[1]] = re.sub(r"[-.]so.*|-\d.*", "", os.path.basename(found[2]))
        elif line.startswith("calls="):
            called = True
        elif line[:1] in "0123456789+-*" and line:
            if not called:
                costs[current] += int(line.split()[1])
            called = False
    return dict(costs)
