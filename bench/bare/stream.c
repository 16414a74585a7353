/* SPDX-License-Identifier: MIT */
/*
 * One statement whose rows are taken as they come: in chunks with libpq 17, one by one before.
 */
#include <poll.h>

#include "bare/bare.h"

/* PGRES_TUPLES_CHUNK, which the headers of libpq 17 have. */
enum { ROWS_OF_A_CHUNK = 256, TUPLES_CHUNK = 12 };

void bare_stream(const struct bench_options *options)
{
    static struct bench_meter meter;
    PGconn *pg = PQconnectdb(options->conninfo ? options->conninfo : "");
    if (PQstatus(pg) != CONNECTION_OK || PQsetnonblocking(pg, 1) != 0)
        bare_fail(pg, "connect");
    bench_meter_begin(&meter);
    if (!PQsendQueryParams(pg, BENCH_STREAM_SQL, 0, NULL, NULL, NULL, NULL, 1))
        bare_fail(pg, "PQsendQueryParams");
    if (!(PQsetChunkedRowsMode ? PQsetChunkedRowsMode(pg, ROWS_OF_A_CHUNK)
                               : PQsetSingleRowMode(pg)))
        bare_fail(pg, "PQsetSingleRowMode");
    while (PQflush(pg) > 0) {
        struct pollfd writable = {.fd = PQsocket(pg), .events = POLLIN | POLLOUT};
        poll(&writable, 1, -1);
        PQconsumeInput(pg);
    }
    for (bool over = false; !over;) {
        if (PQisBusy(pg)) {
            struct pollfd readable = {.fd = PQsocket(pg), .events = POLLIN};
            poll(&readable, 1, -1);
            if (!PQconsumeInput(pg))
                bare_fail(pg, "PQconsumeInput");
            continue;
        }
        PGresult *result = PQgetResult(pg);
        int status = (int)PQresultStatus(result);
        if (!result)
            over = true;
        else if (status != PGRES_SINGLE_TUPLE && status != TUPLES_CHUNK &&
                 status != PGRES_TUPLES_OK)
            bare_fail(pg, "result");
        for (int row = 0; row < PQntuples(result); row++)
            bare_row(&meter, result, row);
        PQclear(result);
    }
    bench_meter_end(&meter);
    bench_meter_print(&meter, 1);
    PQfinish(pg);
}
