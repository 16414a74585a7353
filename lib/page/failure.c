/* SPDX-License-Identifier: MIT */
#include "page/failure.h"

#include <stdio.h>
#include <string.h>

#include "page/lex.h"

/* The server counts characters, from 1, in the statement as it was wrapped. 0: not in theirs. */
static uint32_t own_position(const struct evpq__paged *paged, size_t head, uint32_t position)
{
    size_t characters = 0;
    for (size_t i = 0; i < paged->sql_length; i++)
        characters += (paged->sql[i] & 0xC0) != 0x80;
    return position > head && position - head <= characters ? (uint32_t)(position - head) : 0;
}

/* The byte of a character, counted from 1. */
static char character_at(const struct evpq__paged *paged, uint32_t position)
{
    size_t characters = 0;
    for (size_t i = 0; i < paged->sql_length; i++) {
        characters += (paged->sql[i] & 0xC0) != 0x80;
        if (characters == position)
            return paged->sql[i];
    }
    return '\0';
}

static bool is_state(const struct evpq_error *err, const char *sqlstate)
{
    return strcmp(evpq_error_sqlstate(err), sqlstate) == 0;
}

/* Of what is wrong around a statement that is right. The server's own hints may name what pages are
 * made of. */
static const char *hint(const struct evpq_error *from, const struct evpq__paged *paged, size_t head,
                        uint32_t position)
{
    const char *of_server = evpq_error_hint(from);
    bool outside = head != EVPQ__NO_HEAD && evpq_error_position(from) > 0 && position == 0;
    if (outside && is_state(from, "42703")) /* undefined_column */
        return "an order column is a column of the statement: add it to the SELECT, and leave it "
               "out of columns (evpq-page: --columns) when it is not to be handed over";
    if (strstr(of_server, "\"evpq_page.") || strstr(of_server, "\"evpq_key_"))
        return "";
    if (!is_state(from, "42601")) /* syntax_error */
        return of_server;
    if (!evpq__statement_selects(paged->sql) || (position && character_at(paged, position) == ';'))
        return "it takes one SELECT (or TABLE, VALUES, WITH), and runs it as a subquery";
    /* The server's hint is about the parentheses that we have put around it. */
    return evpq__statement_balanced(paged->sql)
               ? of_server
               : "a parenthesis of the statement is not closed, or was not opened";
}

void evpq__failure_take(struct evpq_error *to, const struct evpq_error *from,
                        const struct evpq__paged *paged, size_t head)
{
    uint32_t position =
        head == EVPQ__NO_HEAD ? 0 : own_position(paged, head, evpq_error_position(from));
    evpq__error_set_report(to, from->code, from->fate,
                           &(struct evpq__server_report){.message = evpq_error_message(from),
                                                         .sqlstate = evpq_error_sqlstate(from),
                                                         .severity = evpq_error_severity(from),
                                                         .detail = evpq_error_detail(from),
                                                         .hint = hint(from, paged, head, position),
                                                         .constraint = evpq_error_constraint(from),
                                                         .position = position});
}

bool evpq__failure_is_change(const struct evpq_error *err)
{
    static const char *const states[] = {
        "42P01", /* undefined_table */
        "42703", /* undefined_column */
        "42883", /* undefined_function */
        "42704", /* undefined_object */
        "42804", /* datatype_mismatch */
    };
    for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
        if (is_state(err, states[i]))
            return true;
    return false;
}

void evpq__failure_tell_change(struct evpq_error *err)
{
    struct evpq_error was = {0};
    char message[512];
    evpq__error_move(&was, err);
    snprintf(message, sizeof(message), "what is paged over has been altered: %s",
             evpq_error_message(&was));
    evpq__error_set_report(
        err, was.code, was.fate,
        &(struct evpq__server_report){.message = message,
                                      .sqlstate = evpq_error_sqlstate(&was),
                                      .severity = evpq_error_severity(&was),
                                      .detail = evpq_error_detail(&was),
                                      .hint = "begin anew, without a token of this walk",
                                      .constraint = evpq_error_constraint(&was),
                                      .position = evpq_error_position(&was)});
    evpq__error_clear(&was);
}

void evpq__failure_name_deadline(struct evpq_error *err, const char *whose, uint32_t timeout_ms)
{
    static const char start[] = "the deadline of ";
    const char *text = evpq_error_message(err), *rest = strstr(text, " ms passed");
    if (err->code != EVPQ_ETIMEOUT || strncmp(text, start, strlen(start)) != 0 || !rest)
        return;
    struct evpq_error was = {0};
    evpq__error_move(&was, err);
    evpq__error_set(err, was.code, was.fate, "the %sdeadline of %u%s", whose, timeout_ms, rest);
    evpq__error_clear(&was);
}
