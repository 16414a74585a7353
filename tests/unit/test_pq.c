/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pg/pq.h"
#include "support/bytes.h"

static const struct {
    const char *message, *tidy, *sqlstate;
} messages[] = {
    {"", "", ""},
    {"\n\n", "", ""},
    {"server closed the connection unexpectedly\n\tThis probably means the server terminated\n"
     "invalid socket\n",
     "server closed the connection unexpectedly; This probably means the server terminated", ""},
    {"invalid socket\n", "invalid socket", ""},
    /* As libpq 17 says them, PQERRORS_VERBOSE. */
    {"connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  28P01: password "
     "authentication failed for user \"bob\"\nLOCATION:  auth_failed, auth.c:331\n",
     "connection to server at \"127.0.0.1\", port 5432 failed: FATAL: password authentication "
     "failed for user \"bob\"",
     "28P01"},
    {"connection to server on socket \"/tmp/.s.PGSQL.5432\" failed: No such file or "
     "directory\n\tIs "
     "the server running locally and accepting connections on that socket?\n",
     "connection to server on socket \"/tmp/.s.PGSQL.5432\" failed: No such file or directory; Is "
     "the server running locally and accepting connections on that socket?",
     ""},
    {"connection to server at \"::1\", port 5432 failed: FATAL:  3D000: database \"no\" does not "
     "exist\nLOCATION:  InitPostgres, postinit.c:1014\n",
     "connection to server at \"::1\", port 5432 failed: FATAL: database \"no\" does not exist",
     "3D000"},
    {"FATAL:  53300: sorry, too many clients already\nLOCATION:  ProcArrayAdd, procarray.c:480\n",
     "FATAL: sorry, too many clients already", "53300"},
    /* Translated: only the code is the same everywhere. */
    {"SCHWERWIEGEND:  28P01: Passwort-Authentifizierung f\303\274r Benutzer \302\273bob\302\253 "
     "fehlgeschlagen\nORT:  auth_failed, auth.c:331\n",
     "SCHWERWIEGEND: Passwort-Authentifizierung f\303\274r Benutzer \302\273bob\302\253 "
     "fehlgeschlagen; ORT: auth_failed, auth.c:331",
     "28P01"},
    /* The first of two. */
    {"FATAL:  57P01: terminating\nLOCATION:  a, b.c:1\nERROR:  22012: division\n",
     "FATAL: terminating; ERROR: division", "57P01"},
    {"ERROR:  22012: division by zero\nHINT:  none\nLOCATION:  int4div, int.c:846",
     "ERROR: division by zero; HINT: none", "22012"},
    /* No code: too short, too long, in small letters, one blank only, none behind. */
    {"a:  1234: b", "a: 1234: b", ""},
    {"a:  123456: b", "a: 123456: b", ""},
    {"a:  28p01: b", "a: 28p01: b", ""},
    {"a: 28P01: b", "a: 28P01: b", ""},
    {"a:  28P01:b", "a: 28P01:b", ""},
    {"a:  28P0", "a: 28P0", ""},
    {"a:  28P01", "a: 28P01", ""},
    {"a:  28P01: b", "a: b", "28P01"},
    {":  28P01: ", ":", "28P01"},
    /* Nothing that a terminal would obey. */
    {"red \033[31m\007bell\177del\r\nnext\ttab", "red [31m bell del next tab", ""},
    {"  many   blanks  ", "many blanks", ""},
    {"a\n\n\nb\n", "a; b", ""},
    {"a \n b", "a b", ""},
    {"LOCATION:  only, this.c:1", "", ""},
    {"not LOCATION:  at the beginning", "not LOCATION: at the beginning", ""},
};

static void messages_become_one_tidy_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(messages); i++) {
        char out[1024], sqlstate[6];
        evpq__pq_tidy_message(messages[i].message, out, sizeof(out), sqlstate);
        assert_string_equal(out, messages[i].tidy);
        assert_string_equal(sqlstate, messages[i].sqlstate);
    }
}

static void a_message_fits_into_any_room(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(messages); i++) {
        char *message = exact(messages[i].message, strlen(messages[i].message) + 1);
        for (size_t capacity = 1; capacity < 300; capacity++) {
            char *out = malloc(capacity), sqlstate[6];
            memset(out, 'x', capacity);
            memset(sqlstate, 'x', sizeof(sqlstate));
            evpq__pq_tidy_message(message, out, capacity, sqlstate);
            assert_true(memchr(out, '\0', capacity) != NULL);
            assert_true(strlen(sqlstate) == 0 || strlen(sqlstate) == 5);
            /* What there is is the beginning of the whole, cut anywhere. */
            size_t length = strlen(out);
            assert_true(length <= strlen(messages[i].tidy));
            assert_memory_equal(out, messages[i].tidy, length);
            assert_true(length == 0 || (out[length - 1] != ' ' && out[length - 1] != ';'));
            free(out);
        }
        free(message);
    }
}

static void every_byte_is_survived(void **state)
{
    (void)state;
    char message[256], out[512], sqlstate[6];
    for (int i = 0; i < 255; i++)
        message[i] = (char)(i + 1);
    message[255] = '\0';
    evpq__pq_tidy_message(message, out, sizeof(out), sqlstate);
    for (const char *c = out; *c; c++)
        assert_true((unsigned char)*c >= ' ' && *c != 127);
}

static void some_refusals_are_for_good(void **state)
{
    (void)state;
    static const char *const for_good[] = {"28000", "28P01", "3D000", "42501", "55000"};
    static const char *const for_now[] = {"",      "53300", "57P03", "57P01", "08006",
                                          "28P02", "28P0",  "XX000", "53200"};
    for (size_t i = 0; i < COUNT(for_good); i++)
        assert_true(evpq__pq_refused_for_good(for_good[i]));
    for (size_t i = 0; i < COUNT(for_now); i++)
        assert_false(evpq__pq_refused_for_good(for_now[i]));
}

static void cancel_in_steps_needs_a_libpq_that_does_it_right(void **state)
{
    (void)state;
    if (PQlibVersion() < 170006)
        assert_false(evpq__pq_has_async_cancel());
    else
        assert_true(evpq__pq_has_async_cancel());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_become_one_tidy_line),
        cmocka_unit_test(a_message_fits_into_any_room),
        cmocka_unit_test(every_byte_is_survived),
        cmocka_unit_test(some_refusals_are_for_good),
        cmocka_unit_test(cancel_in_steps_needs_a_libpq_that_does_it_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
