/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/query.h>

#include "pg/value.h"
#include "support/bytes.h"
#include "support/results.h"

/* ---- what the server said, in place of libpq ---- */

static struct {
    const char *primary, *sqlstate, *severity, *detail, *hint, *constraint, *position;
    const char *whole; /* PQresultErrorMessage() */
    const char *tuples;
} said;

char *PQresultErrorField(const PGresult *pg, int field)
{
    (void)pg;
    const char *text = field == PG_DIAG_MESSAGE_PRIMARY         ? said.primary
                       : field == PG_DIAG_SQLSTATE              ? said.sqlstate
                       : field == PG_DIAG_SEVERITY_NONLOCALIZED ? said.severity
                       : field == PG_DIAG_MESSAGE_DETAIL        ? said.detail
                       : field == PG_DIAG_MESSAGE_HINT          ? said.hint
                       : field == PG_DIAG_CONSTRAINT_NAME       ? said.constraint
                       : field == PG_DIAG_STATEMENT_POSITION    ? said.position
                                                                : NULL;
    return (char *)(uintptr_t)text;
}

char *PQresultErrorMessage(const PGresult *pg)
{
    (void)pg;
    return (char *)(uintptr_t)(said.whole ? said.whole : "");
}

char *PQcmdTuples(PGresult *pg)
{
    (void)pg;
    return (char *)(uintptr_t)(said.tuples ? said.tuples : "");
}

static int forget(void **state)
{
    (void)state;
    memset(&said, 0, sizeof(said));
    return 0;
}

/* ---- the result itself ---- */

static void columns_are_found_by_their_very_name(void **state)
{
    (void)state;
    const char *const names[] = {"id", "Id", "id"};
    evpq_result *result = evpq__result_new(make_columns(3, names, EVPQ__OID_INT8, 1), NULL);
    assert_int_equal(evpq_result_rows(result), 0);
    assert_int_equal(evpq_result_columns(result), 3);
    assert_int_equal(evpq_result_column_index(result, "id"), 0);
    assert_int_equal(evpq_result_column_index(result, "Id"), 1);
    assert_int_equal(evpq_result_column_index(result, "ID"), -1);
    assert_int_equal(evpq_result_column_index(result, NULL), -1);
    assert_string_equal(evpq_result_column_name(result, 1), "Id");
    assert_null(evpq_result_column_name(result, 3));
    assert_null(evpq_result_column_name(result, UINT32_MAX));
    assert_int_equal(evpq_result_column_type(result, 2), EVPQ__OID_INT8);
    assert_int_equal(evpq_result_column_type(result, 3), 0);
    assert_int_equal(evpq_result_format(result), EVPQ_BINARY);
    assert_non_null(evpq_result_pgresult(result));
    evpq_result_free(result);
}

static void hidden_rows_are_not_there(void **state)
{
    (void)state;
    PGresult *pg = make_columns(1, (const char *const[]){"value"}, EVPQ__OID_BOOL, 1);
    for (int row = 0; row < 3; row++)
        put_value(pg, row, 0, "\1", 1);
    evpq_result *result = evpq__result_new(pg, NULL);
    bool value;
    assert_int_equal(evpq_result_rows(result), 3);
    evpq__result_show(result, 5, 100, false);
    assert_int_equal(evpq_result_rows(result), 3);
    evpq__result_show(result, 2, 100, false);
    assert_int_equal(evpq_result_rows(result), 2);
    assert_false(evpq_result_is_null(result, 1, 0));
    assert_true(evpq_result_is_null(result, 2, 0));
    assert_true(evpq_result_is_null(result, 0, 1));
    assert_int_equal(evpq_result_bool(result, 1, 0, &value), EVPQ_OK);
    assert_int_equal(evpq_result_bool(result, 2, 0, &value), EVPQ_EINVALID);
    evpq_result_free(result);
}

static void no_result_has_nothing(void **state)
{
    (void)state;
    assert_null(evpq_result_keep(NULL));
    evpq_result_free(NULL);
    assert_int_equal(evpq_result_rows(NULL), 0);
    assert_int_equal(evpq_result_columns(NULL), 0);
    assert_int_equal(evpq_result_affected(NULL), 0);
    assert_null(evpq_result_column_name(NULL, 0));
    assert_int_equal(evpq_result_column_type(NULL, 0), 0);
    assert_int_equal(evpq_result_column_index(NULL, "id"), -1);
    assert_int_equal(evpq_result_format(NULL), EVPQ_FORMAT_DEFAULT);
    assert_true(evpq_result_is_null(NULL, 0, 0));
    assert_null(evpq_result_pgresult(NULL));
}

static void affected_rows_come_from_the_command_tag(void **state)
{
    (void)state;
    evpq_result *result = make(EVPQ__OID_BOOL, 1, NULL, 0);
    assert_int_equal(evpq_result_affected(result), 0);
    said.tuples = "12345678901";
    assert_true(evpq_result_affected(result) == 12345678901);
    evpq_result_free(result);
}

static void a_kept_result_outlives_its_owner_and_keeps_the_notices(void **state)
{
    (void)state;
    struct evpq__notices *notices = evpq__notices_new();
    assert_non_null(notices);
    PGresult *pg = PQmakeEmptyPGresult(nowhere, PGRES_COMMAND_OK);
    evpq_result *result = evpq__result_new(pg, notices);
    assert_int_equal(notices->refs, 2);
    assert_ptr_equal(evpq_result_keep(result), result);
    evpq_result_free(result);
    evpq__notices_unref(notices);
    assert_int_equal(notices->refs, 1);
    assert_int_equal(evpq_result_columns(result), 0);
    assert_int_equal(evpq_result_format(result), EVPQ_BINARY);
    evpq_result_free(result);
}

/* ---- errors and notices ---- */

static void an_error_repeats_what_the_server_said(void **state)
{
    (void)state;
    struct evpq_error err = {0};
    said.primary = "duplicate key\n";
    said.sqlstate = "23505";
    said.severity = "ERROR";
    said.detail = "Key (id)=(1) already exists.";
    said.hint = "hint";
    said.constraint = "users_pkey";
    said.position = "17";
    evpq__result_error(&err, EVPQ_ESERVER, EVPQ_ROLLED_BACK, NULL, NULL);
    assert_int_equal(evpq_error_code(&err), EVPQ_ESERVER);
    assert_int_equal(evpq_error_fate(&err), EVPQ_ROLLED_BACK);
    assert_string_equal(evpq_error_message(&err), "duplicate key");
    assert_string_equal(evpq_error_sqlstate(&err), "23505");
    assert_string_equal(evpq_error_severity(&err), "ERROR");
    assert_string_equal(evpq_error_detail(&err), "Key (id)=(1) already exists.");
    assert_string_equal(evpq_error_hint(&err), "hint");
    assert_string_equal(evpq_error_constraint(&err), "users_pkey");
    assert_int_equal(evpq_error_position(&err), 17);
    evpq__error_clear(&err);
}

static void an_error_without_fields_has_the_message_of_libpq_or_of_its_code(void **state)
{
    (void)state;
    const struct {
        const char *whole, *message;
    } cases[] = {
        {"server closed the connection unexpectedly\n",
         "server closed the connection unexpectedly"},
        {"one\n\ttwo \r\n\n", "one; two"},
        {"\n", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct evpq_error err = {0};
        said.whole = cases[i].whole;
        evpq__result_error(&err, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, NULL, NULL);
        assert_string_equal(evpq_error_message(&err), cases[i].message
                                                          ? cases[i].message
                                                          : evpq_code_text(EVPQ_EDISCONNECTED));
        assert_string_equal(evpq_error_sqlstate(&err), "");
        assert_int_equal(evpq_error_position(&err), 0);
        evpq__error_clear(&err);
    }
}

static void notices_that_end_a_session_are_noticed(void **state)
{
    (void)state;
    const struct {
        const char *severity, *sqlstate, *primary;
        bool fatal;
    } cases[] = {
        {"NOTICE", "00000", "hello", false},
        {"WARNING", "01000", "address 0x44", false},
        {"ERROR", "57014", "canceled", false},
        {"FATAL", "28P01", "password", true},
        {"PANIC", "XX000", "panic", true},
        {"WARNING", "57P01", "terminating", true},
        {"WARNING", "57P02", "crash", true},
        {"ERROR", "57P03", "starting", true},
        {"ERROR", "57P04", "dropped", true},
        {NULL, "57P05", NULL, true},
        {"NOTICE", NULL, "row number 3 is out of range 0..2", false},
        {"NOTICE", NULL, "message type 0x44 arrived from server while idle", true},
        {"HINWEIS", NULL, "Nachricht vom Typ 0x44 kam vom Server im Ruhezustand", true},
        {NULL, NULL, NULL, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct evpq__notices *notices = evpq__notices_new();
        said.severity = cases[i].severity;
        said.sqlstate = cases[i].sqlstate;
        said.primary = cases[i].primary;
        evpq__notices_receive(notices, NULL);
        assert_int_equal(notices->fatal, cases[i].fatal);
        /* What is over stays over. */
        said.severity = "NOTICE";
        said.sqlstate = "00000";
        evpq__notices_receive(notices, NULL);
        assert_int_equal(notices->fatal, cases[i].fatal);
        evpq__notices_receive(NULL, NULL);
        evpq__notices_unref(notices);
    }
    evpq__notices_ref(NULL);
    evpq__notices_unref(NULL);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(columns_are_found_by_their_very_name, forget),
        cmocka_unit_test_setup(hidden_rows_are_not_there, forget),
        cmocka_unit_test_setup(no_result_has_nothing, forget),
        cmocka_unit_test_setup(affected_rows_come_from_the_command_tag, forget),
        cmocka_unit_test_setup(a_kept_result_outlives_its_owner_and_keeps_the_notices, forget),
        cmocka_unit_test_setup(an_error_repeats_what_the_server_said, forget),
        cmocka_unit_test_setup(an_error_without_fields_has_the_message_of_libpq_or_of_its_code,
                               forget),
        cmocka_unit_test_setup(notices_that_end_a_session_are_noticed, forget),
    };
    return cmocka_run_group_tests(tests, open_nowhere, close_nowhere);
}
