/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* One block: the struct, then the texts it points to. */
struct evpq__error_details {
    const char *message, *sqlstate, *severity, *detail, *hint, *constraint;
    uint32_t position;
    uint32_t statement; /* of its batch, from 1; 0: none */
    bool passes, stays; /* whatever its SQLSTATE says */
    char texts[];
};

const char *evpq_code_name(int code)
{
    switch (code) {
#define CODE_NAME(name, value, text)                                                               \
    case value:                                                                                    \
        return "EVPQ_" #name;
        EVPQ_CODES(CODE_NAME)
#undef CODE_NAME
    default:
        return "EVPQ_?";
    }
}

const char *evpq_code_text(int code)
{
    switch (code) {
#define CODE_TEXT(name, value, text)                                                               \
    case value:                                                                                    \
        return text;
        EVPQ_CODES(CODE_TEXT)
#undef CODE_TEXT
    default:
        return "unknown code";
    }
}

static size_t text_size(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

/* Puts a text into the block and moves the place behind it. */
static const char *put_text(char **place, const char *text)
{
    if (!text)
        return NULL;
    char *start = *place;
    size_t size = text_size(text);
    memcpy(start, text, size);
    *place = start + size;
    return start;
}

void evpq__error_set_report(struct evpq_error *err, evpq_code code, evpq_fate fate,
                            const struct evpq__server_report *r)
{
    if (err->code != EVPQ_OK)
        return;
    err->code = code;
    err->fate = fate;
    size_t size = text_size(r->message) + text_size(r->sqlstate) + text_size(r->severity) +
                  text_size(r->detail) + text_size(r->hint) + text_size(r->constraint);
    struct evpq__error_details *d = evpq__alloc(sizeof(*d) + size);
    err->details = d;
    if (!d)
        return;
    char *place = d->texts;
    d->message = put_text(&place, r->message);
    d->sqlstate = put_text(&place, r->sqlstate);
    d->severity = put_text(&place, r->severity);
    d->detail = put_text(&place, r->detail);
    d->hint = put_text(&place, r->hint);
    d->constraint = put_text(&place, r->constraint);
    d->position = r->position;
    d->stays = r->stays;
}

static void set_text(struct evpq_error *err, evpq_code code, evpq_fate fate, const char *format,
                     va_list args)
{
    char message[1024];
    vsnprintf(message, sizeof(message), format, args);
    evpq__error_set_report(err, code, fate, &(struct evpq__server_report){.message = message});
}

void evpq__error_set(struct evpq_error *err, evpq_code code, evpq_fate fate, const char *format,
                     ...)
{
    va_list args;
    va_start(args, format);
    set_text(err, code, fate, format, args);
    va_end(args);
}

void evpq__error_explain(struct evpq_error *err, const char *format, ...)
{
    struct evpq_error bare = *err;
    va_list args;
    if (bare.details)
        return;
    *err = (struct evpq_error){0};
    va_start(args, format);
    set_text(err, bare.code, bare.fate, format, args);
    va_end(args);
}

void evpq__error_move(struct evpq_error *to, struct evpq_error *from)
{
    if (to->code == EVPQ_OK) {
        *to = *from;
        *from = (struct evpq_error){0};
    } else {
        evpq__error_clear(from);
    }
}

void evpq__error_copy(struct evpq_error *to, const struct evpq_error *from)
{
    static const struct evpq__error_details none;
    const struct evpq__error_details *d = from->details ? from->details : &none;
    if (to->code != EVPQ_OK)
        return;
    evpq__error_set_report(to, from->code, from->fate,
                           &(struct evpq__server_report){.message = d->message,
                                                         .sqlstate = d->sqlstate,
                                                         .severity = d->severity,
                                                         .detail = d->detail,
                                                         .hint = d->hint,
                                                         .constraint = d->constraint,
                                                         .position = d->position,
                                                         .stays = d->stays});
    if (!to->details)
        return;
    to->details->statement = d->statement;
    to->details->passes = d->passes;
}

void evpq__error_of_statement(struct evpq_error *err, uint32_t statement)
{
    /* A connection is lost for none of them, though it may have been when that one ran. */
    if (err->details && err->code != EVPQ_EDISCONNECTED)
        err->details->statement = statement + 1;
}

void evpq__error_passes(struct evpq_error *err, const char *hint)
{
    if (!err->details)
        return;
    err->details->hint = hint;
    err->details->passes = true;
}

void evpq__error_clear(struct evpq_error *err)
{
    evpq__free(err->details);
    *err = (struct evpq_error){0};
}

evpq_code evpq_error_code(const evpq_error *err)
{
    return err ? err->code : EVPQ_OK;
}

const char *evpq_error_message(const evpq_error *err)
{
    if (err && err->details && err->details->message)
        return err->details->message;
    return evpq_code_text(evpq_error_code(err));
}

evpq_fate evpq_error_fate(const evpq_error *err)
{
    return err && err->fate ? err->fate : EVPQ_NOT_SENT;
}

/* Reasons that pass by themselves (PostgreSQL manual, appendix A). */
static bool passes(const struct evpq_error *err)
{
    static const char *const states[] = {
        "40001", /* serialization_failure */
        "40P01", /* deadlock_detected */
        "55P03", /* lock_not_available */
        "53",    /* the class: insufficient resources */
    };
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (strncmp(evpq_error_sqlstate(err), states[i], strlen(states[i])) == 0)
            return true;
    return err->details && err->details->passes;
}

/* Until somebody changes something: who we are, the database. */
bool evpq__error_stays(const struct evpq_error *err)
{
    const char *sqlstate = evpq_error_sqlstate(err);
    return (err->details && err->details->stays) || strncmp(sqlstate, "28", 2) == 0 ||
           strncmp(sqlstate, "3D", 2) == 0;
}

bool evpq_error_retry_safe(const evpq_error *err)
{
    if (!err || evpq_error_fate(err) == EVPQ_UNKNOWN || err->code == EVPQ_ECLOSED ||
        err->code == EVPQ_EINVALID || (err->code == EVPQ_ECONNECT && evpq__error_stays(err)))
        return false;
    return evpq_error_fate(err) == EVPQ_NOT_SENT || err->code == EVPQ_ETIMEOUT ||
           err->code == EVPQ_ECANCELED || passes(err);
}

#define DETAIL_GETTER(field)                                                                       \
    const char *evpq_error_##field(const evpq_error *err)                                          \
    {                                                                                              \
        return err && err->details && err->details->field ? err->details->field : "";              \
    }
DETAIL_GETTER(sqlstate)
DETAIL_GETTER(severity)
DETAIL_GETTER(detail)
DETAIL_GETTER(hint)
DETAIL_GETTER(constraint)
#undef DETAIL_GETTER

uint32_t evpq_error_position(const evpq_error *err)
{
    return err && err->details ? err->details->position : 0;
}

uint32_t evpq_error_statement(const evpq_error *err)
{
    return err && err->details ? err->details->statement - 1 : EVPQ_NO_STATEMENT;
}
