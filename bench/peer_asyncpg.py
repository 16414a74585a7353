# SPDX-License-Identifier: MIT
"""The work of the bench by asyncpg, on uvloop where that is installed.

    peer_asyncpg.py KIND NAME=VALUE...

Kinds, values and output are those of bench-evpq; the server is that of the environment. asyncpg runs
one statement at a time on a connection: a depth is not asked for.
"""

import asyncio
import re
import sys
import time

import asyncpg

try:
    import uvloop
except ImportError:
    uvloop = None

MASK = (1 << 64) - 1
POINT = "SELECT id, amount, name FROM evpq_bench.items WHERE id = $1"
STREAM = "SELECT id, amount, name FROM evpq_bench.items"
FIRST_PAGE = STREAM + " ORDER BY id LIMIT {}"
NEXT_PAGE = STREAM + " WHERE id > $1 ORDER BY id LIMIT {}"


def peak_rss_mb():
    with open("/proc/self/status", encoding="utf-8") as file:
        return int(re.search(r"^VmHWM:\s*(\d+)", file.read(), re.M)[1]) / 1024


class Meter:
    def __init__(self):
        self.checksum = self.rows = 0
        self.latencies = []

    def __enter__(self):
        self.__init__()
        self.cpu, self.wall = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_):
        self.cpu, self.wall = time.process_time() - self.cpu, time.monotonic() - self.wall

    def row(self, row):
        number, amount, name = row
        value = (number * 0x9E3779B97F4A7C15 + amount * 0xC2B2AE3D27D4EB4F +
                 int.from_bytes(name[:8].encode(), "big") + len(name)) & MASK
        self.checksum += value ^ (value >> 29)
        self.rows += 1

    def print(self, operations):
        said = {
            "checksum": self.checksum & MASK,
            "operations": operations,
            "wall_s": self.wall,
            "per_s": operations / self.wall,
            "cpu_us": self.cpu * 1e6 / operations,
            "rss_mb": peak_rss_mb(),
        }
        if self.rows:
            said["rows_per_s"] = self.rows / self.wall
            said["cpu_ns_per_row"] = self.cpu * 1e9 / self.rows
        if self.latencies:
            ordered = sorted(self.latencies)
            said["p50_us"] = ordered[len(ordered) // 2] * 1e6
            said["p99_us"] = ordered[len(ordered) * 99 // 100] * 1e6
        for metric, value in said.items():
            print(metric, value, sep="\t")


async def open_pool(options):
    return await asyncpg.create_pool(min_size=options["connections"],
                                     max_size=options["connections"])


async def point(options):
    rows = options["rows"]
    meter = Meter()

    async def caller(pool, indexes):
        for index in indexes:
            number = 1 + index * 104729 % rows
            began = time.monotonic()
            async with pool.acquire() as connection:
                row = await connection.fetchrow(POINT, number)
            meter.latencies.append(time.monotonic() - began)
            meter.row(row)

    async def run(pool, count):
        indexes = iter(range(count))
        await asyncio.gather(*(caller(pool, indexes) for _ in range(options["in_flight"])))

    async with await open_pool(options) as pool:
        if options["warmup"]:
            await run(pool, options["warmup"])
        with meter:
            await run(pool, options["count"])
        meter.print(options["count"])


async def pages(options):
    size, meter = options["page_size"], Meter()

    async def walk(pool, count):
        after = None
        for _ in range(count):
            began = time.monotonic()
            async with pool.acquire() as connection:
                if after is None:
                    rows = await connection.fetch(FIRST_PAGE.format(size + 1))
                else:
                    rows = await connection.fetch(NEXT_PAGE.format(size + 1), after)
            for row in rows[:size]:
                meter.row(row)
            after = rows[size - 1]["id"]
            meter.latencies.append(time.monotonic() - began)

    async def run(pool, count):
        walkers = options["in_flight"]
        await asyncio.gather(*(walk(pool, count // walkers) for _ in range(walkers)))

    async with await open_pool(options) as pool:
        if options["warmup"]:
            await run(pool, options["warmup"] + options["in_flight"])
        with meter:
            await run(pool, options["count"])
        meter.print(options["count"])


async def stream(_):
    meter = Meter()
    connection = await asyncpg.connect()
    async with connection.transaction():
        with meter:
            async for row in connection.cursor(STREAM, prefetch=256):
                meter.row(row)
    meter.print(1)
    await connection.close()


async def dials(options):
    count, meter, wall = options["connections"], Meter(), 0

    async def dial(began):
        connection = await asyncpg.connect()
        meter.latencies.append(time.monotonic() - began)
        return connection

    with meter:
        for _ in range(options["count"] // count):
            began = time.monotonic()
            connections = await asyncio.gather(*(dial(began) for _ in range(count)))
            wall += time.monotonic() - began
            await asyncio.gather(*(connection.close() for connection in connections))
    meter.wall = wall  # of the dials only
    meter.print(options["count"] // count * count)


def main():
    options = {"connections": 1, "in_flight": 1, "warmup": 0}
    for argument in sys.argv[2:]:
        name, value = argument.split("=", 1)
        options[name] = int(value)
    work = {"point": point, "pages": pages, "stream": stream, "dials": dials}[sys.argv[1]]
    if uvloop:
        uvloop.install()
    asyncio.run(work(options))


main()
