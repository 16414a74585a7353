/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_ERROR_H
#define EVPQ_LIB_BASE_ERROR_H

/*
 * The error inside an operation. It cannot fail to be set: where there is no
 * memory for its text, the text of its code stands in. First error wins.
 */

#include <evpq/error.h>

struct evpq__error_details;

struct evpq_error {
    evpq_code code;
    evpq_fate fate;
    struct evpq__error_details *details; /* owned; NULL: the text of the code is all there is */
};

/* What a server says of an error. NULL for what it did not say. All of it is copied. */
struct evpq__server_report {
    const char *message, *sqlstate, *severity, *detail, *hint, *constraint;
    uint32_t position;
    bool stays; /* it will not pass by itself, whatever the SQLSTATE says */
};

void evpq__error_set(struct evpq_error *err, evpq_code code, evpq_fate fate, const char *format,
                     ...) __attribute__((format(__printf__, 4, 5)));
/* The text of one that has only its code and fate so far: made when it is told, where many end at
 * once. */
void evpq__error_explain(struct evpq_error *err, const char *format, ...)
    __attribute__((format(__printf__, 2, 3)));
void evpq__error_set_report(struct evpq_error *err, evpq_code code, evpq_fate fate,
                            const struct evpq__server_report *report);
/* Moves the details: `from` is empty after it. */
void evpq__error_move(struct evpq_error *to, struct evpq_error *from);
/* A copy; without memory it keeps the code and loses the text. */
void evpq__error_copy(struct evpq_error *to, const struct evpq_error *from);
/* Will it be there again, as what has been refused for good? */
bool evpq__error_stays(const struct evpq_error *err);
/* It is of this statement of a batch. */
void evpq__error_of_statement(struct evpq_error *err, uint32_t statement);
/* It may succeed when it is run again, though its SQLSTATE does not say so. `hint`, static, does.
 */
void evpq__error_passes(struct evpq_error *err, const char *hint);
void evpq__error_clear(struct evpq_error *err);

#endif /* EVPQ_LIB_BASE_ERROR_H */
