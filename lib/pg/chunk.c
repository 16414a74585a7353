/* SPDX-License-Identifier: MIT */
/*
 * Rows as they come. libpq 17 gathers them itself (PQsetChunkedRowsMode());
 * before, it hands out a result for each row, and we gather (rows.c).
 */
#include <stdlib.h>

#include "pg/conn_parts.h"
#include "pg/pq.h"

static struct evpq__chunks *chunks_now(const struct evpq__conn *conn)
{
    struct evpq__request *now = conn->streams > 0 ? evpq__segment_now(conn) : NULL;
    return now && now->chunks.rows > 0 ? &now->chunks : NULL;
}

bool evpq__chunk_held(const struct evpq__conn *conn)
{
    struct evpq__request *now = conn->streams > 0 ? evpq__segment_now(conn) : NULL;
    return now && now->chunks.held && !now->abandoned && !conn->unsent;
}

void evpq__chunk_set_mode(struct evpq__conn *conn)
{
    struct evpq__chunks *chunks = chunks_now(conn);
    if (!chunks || chunks->mode_set || evpq__segment_now(conn)->preludes > 0)
        return;
    /* libpq refuses as long as what came before is not quite over. */
    chunks->mode_set = evpq__pq_set_row_mode(conn->pg, chunks->rows);
}

/* NULL: there was no memory for it. */
static void hand_over(struct evpq__conn *conn, struct evpq_result *chunk)
{
    struct evpq__request *request = evpq__segment_now(conn);
    conn->worn = conn->worn || (chunk && evpq__result_bytes(chunk) > EVPQ__WORN_BYTES);
    request->chunks.ready(request, chunk);
}

void evpq__chunk_flush(struct evpq__conn *conn)
{
    struct evpq__chunks *chunks = chunks_now(conn);
    if (!chunks || !chunks->gathered)
        return;
    struct evpq__rows *gathered = chunks->gathered;
    PGresult *like = chunks->like;
    chunks->gathered = NULL;
    chunks->like = NULL;
    hand_over(conn, evpq__result_of_rows(like, gathered, conn->notices));
}

static void drop(struct evpq__chunks *chunks)
{
    evpq__rows_free(chunks->gathered);
    PQclear(chunks->like);
    chunks->gathered = NULL;
    chunks->like = NULL;
}

static void take_row(struct evpq__conn *conn, struct evpq__chunks *chunks, PGresult *row)
{
    bool first = !chunks->gathered;
    if (first) {
        chunks->gathered = evpq__rows_new(row, chunks->rows);
        chunks->like = row;
    }
    bool copied = chunks->gathered && evpq__rows_append(chunks->gathered, row);
    if (!first)
        PQclear(row);
    if (!copied) {
        drop(chunks);
        hand_over(conn, NULL);
    } else if (chunks->gathered->count >= chunks->gathered->room ||
               chunks->gathered->used >= chunks->bytes) {
        evpq__chunk_flush(conn);
    }
}

bool evpq__chunk_take(struct evpq__conn *conn, struct evpq__request *now, PGresult *result)
{
    if (!now || now->chunks.rows == 0)
        return false;
    struct evpq__chunks *chunks = &now->chunks;
    int status = (int)PQresultStatus(result);
    if (status != PGRES_SINGLE_TUPLE && status != EVPQ__PQ_TUPLES_CHUNK)
        return false;
    if (status == EVPQ__PQ_TUPLES_CHUNK)
        chunks->affected = strtoull(PQcmdTuples(result), NULL, 10);
    if (now->abandoned)
        PQclear(result);
    else if (status == PGRES_SINGLE_TUPLE)
        take_row(conn, chunks, result);
    else
        hand_over(conn, evpq__result_new(result, conn->notices));
    return true;
}
