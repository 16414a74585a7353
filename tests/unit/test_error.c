/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "support/fake_mem.h"

static struct evpq_error err, other;

static int begin(void **state)
{
    (void)state;
    fake_mem_reset();
    err = other = (struct evpq_error){0};
    return 0;
}

static int end(void **state)
{
    (void)state;
    evpq__error_clear(&err);
    evpq__error_clear(&other);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

static const struct evpq__server_report full = {.message = "duplicate key",
                                                .sqlstate = "23505",
                                                .severity = "ERROR",
                                                .detail = "Key (id)=(1) already exists.",
                                                .hint = "take another",
                                                .constraint = "t_pkey",
                                                .position = 17};

static void assert_full(const struct evpq_error *e)
{
    assert_int_equal(evpq_error_code(e), EVPQ_ESERVER);
    assert_int_equal(evpq_error_fate(e), EVPQ_ROLLED_BACK);
    assert_string_equal(evpq_error_message(e), "duplicate key");
    assert_string_equal(evpq_error_sqlstate(e), "23505");
    assert_string_equal(evpq_error_severity(e), "ERROR");
    assert_string_equal(evpq_error_detail(e), "Key (id)=(1) already exists.");
    assert_string_equal(evpq_error_hint(e), "take another");
    assert_string_equal(evpq_error_constraint(e), "t_pkey");
    assert_int_equal(evpq_error_position(e), 17);
}

static void assert_bare(const struct evpq_error *e)
{
    assert_string_equal(evpq_error_message(e), evpq_code_text(evpq_error_code(e)));
    assert_string_equal(evpq_error_sqlstate(e), "");
    assert_string_equal(evpq_error_severity(e), "");
    assert_string_equal(evpq_error_detail(e), "");
    assert_string_equal(evpq_error_hint(e), "");
    assert_string_equal(evpq_error_constraint(e), "");
    assert_int_equal(evpq_error_position(e), 0);
}

static void fill(struct evpq_error *e)
{
    evpq__error_set_report(e, EVPQ_ESERVER, EVPQ_ROLLED_BACK, &full);
}

/* ---- codes ---- */

static void each_code_has_a_name_and_a_text(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *name;
    } codes[] = {
        {0, "EVPQ_OK"},         {-1, "EVPQ_EINVALID"},    {-2, "EVPQ_ENOMEM"},
        {-3, "EVPQ_ECLOSED"},   {-4, "EVPQ_EOVERLOADED"}, {-5, "EVPQ_ETIMEOUT"},
        {-6, "EVPQ_ECANCELED"}, {-7, "EVPQ_ECONNECT"},    {-8, "EVPQ_EDISCONNECTED"},
        {-9, "EVPQ_ESERVER"},   {-10, "EVPQ_ETYPE"},      {-11, "EVPQ_ETOOLARGE"},
        {-12, "EVPQ_ELIMITED"},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        assert_string_equal(evpq_code_name(codes[i].code), codes[i].name);
        assert_string_not_equal(evpq_code_text(codes[i].code), "unknown code");
        for (size_t n = 0; n < i; n++)
            assert_string_not_equal(evpq_code_text(codes[i].code), evpq_code_text(codes[n].code));
    }
    for (int i = 0; i < 2; i++) {
        int none[] = {1, -13};
        assert_string_equal(evpq_code_name(none[i]), "EVPQ_?");
        assert_string_equal(evpq_code_text(none[i]), "unknown code");
    }
}

/* ---- what an error says ---- */

static void no_error_answers_everything(void **state)
{
    (void)state;
    assert_int_equal(evpq_error_code(NULL), EVPQ_OK);
    assert_int_equal(evpq_error_fate(NULL), EVPQ_NOT_SENT);
    assert_bare(NULL);
    assert_false(evpq_error_retry_safe(NULL));
}

static void all_of_a_report_is_kept(void **state)
{
    (void)state;
    fill(&err);
    assert_full(&err);
}

static void nothing_of_the_callers_is_kept(void **state)
{
    (void)state;
    char message[] = "text", sqlstate[] = "23505";
    evpq__error_set_report(&err, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
                           &(struct evpq__server_report){.message = message, .sqlstate = sqlstate});
    memset(message, 'x', sizeof(message) - 1);
    memset(sqlstate, 'x', sizeof(sqlstate) - 1);
    assert_string_equal(evpq_error_message(&err), "text");
    assert_string_equal(evpq_error_sqlstate(&err), "23505");
}

static void what_the_server_did_not_say_is_empty(void **state)
{
    (void)state;
    evpq__error_set_report(&err, EVPQ_ESERVER, EVPQ_ROLLED_BACK, &(struct evpq__server_report){0});
    assert_bare(&err);
    assert_int_equal(evpq_error_fate(&err), EVPQ_ROLLED_BACK);
}

static void an_operation_that_is_no_statement_was_not_sent(void **state)
{
    (void)state;
    err.code = EVPQ_ECLOSED;
    assert_int_equal(evpq_error_fate(&err), EVPQ_NOT_SENT);
}

static void the_first_error_wins(void **state)
{
    (void)state;
    fill(&err);
    evpq__error_set(&err, EVPQ_ETIMEOUT, EVPQ_UNKNOWN, "later");
    assert_full(&err);
    evpq__error_set_report(&err, EVPQ_ENOMEM, EVPQ_UNKNOWN, &(struct evpq__server_report){0});
    assert_full(&err);
}

static void a_message_is_formatted_and_cut(void **state)
{
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    evpq__error_set(&err, EVPQ_EINVALID, EVPQ_NOT_SENT, "%d of %s", 7, text);
    assert_memory_equal(evpq_error_message(&err), "7 of xxx", 8);
    assert_int_equal(strlen(evpq_error_message(&err)), 1023);
}

/* ---- without memory ---- */

static void without_memory_the_code_speaks(void **state)
{
    (void)state;
    fake_mem_fail_from(1);
    fill(&err);
    assert_int_equal(evpq_error_code(&err), EVPQ_ESERVER);
    assert_int_equal(evpq_error_fate(&err), EVPQ_ROLLED_BACK);
    assert_bare(&err);
    evpq__error_set(&other, EVPQ_ETIMEOUT, EVPQ_UNKNOWN, "the deadline of %u ms passed", 5u);
    assert_int_equal(evpq_error_code(&other), EVPQ_ETIMEOUT);
    assert_string_equal(evpq_error_message(&other), "the deadline passed");
    assert_int_equal(evpq_error_fate(&other), EVPQ_UNKNOWN);
}

static void a_copy_without_memory_keeps_the_code(void **state)
{
    (void)state;
    fill(&err);
    fake_mem_fail_at(1);
    evpq__error_copy(&other, &err);
    assert_int_equal(evpq_error_code(&other), EVPQ_ESERVER);
    assert_int_equal(evpq_error_fate(&other), EVPQ_ROLLED_BACK);
    assert_bare(&other);
    assert_full(&err);
}

static void what_found_no_memory_is_copied_and_moved(void **state)
{
    (void)state;
    struct evpq_error third = {0};
    fake_mem_fail_at(1);
    evpq__error_set(&err, EVPQ_ETIMEOUT, EVPQ_UNKNOWN, "text");
    evpq__error_copy(&other, &err);
    assert_int_equal(evpq_error_code(&other), EVPQ_ETIMEOUT);
    assert_int_equal(evpq_error_fate(&other), EVPQ_UNKNOWN);
    assert_bare(&other);
    evpq__error_move(&third, &err);
    assert_int_equal(evpq_error_code(&third), EVPQ_ETIMEOUT);
    assert_int_equal(evpq_error_code(&err), EVPQ_OK);
    assert_bare(&third);
}

/* ---- move, copy, clear ---- */

static void a_move_leaves_nothing_behind(void **state)
{
    (void)state;
    fill(&err);
    evpq__error_move(&other, &err);
    assert_full(&other);
    assert_int_equal(err.code, EVPQ_OK);
    assert_int_equal(err.fate, 0);
    assert_null(err.details);
}

static void a_move_onto_an_error_keeps_the_first(void **state)
{
    (void)state;
    fill(&other);
    evpq__error_set(&err, EVPQ_ETIMEOUT, EVPQ_UNKNOWN, "later");
    evpq__error_move(&other, &err);
    assert_full(&other);
    assert_int_equal(err.code, EVPQ_OK);
    assert_null(err.details);
}

static void a_copy_is_another_one(void **state)
{
    (void)state;
    fill(&err);
    evpq__error_copy(&other, &err);
    assert_full(&err);
    assert_full(&other);
    evpq__error_clear(&err);
    assert_full(&other);
}

static void a_copy_onto_an_error_keeps_the_first(void **state)
{
    (void)state;
    fill(&other);
    evpq__error_set(&err, EVPQ_ETIMEOUT, EVPQ_UNKNOWN, "later");
    evpq__error_copy(&other, &err);
    assert_full(&other);
}

static void what_is_cleared_can_be_set_again(void **state)
{
    (void)state;
    fill(&err);
    evpq__error_clear(&err);
    assert_int_equal(err.code, EVPQ_OK);
    assert_int_equal(fake_mem_bytes(), 0);
    evpq__error_clear(&err);
    evpq__error_set(&err, EVPQ_ETIMEOUT, EVPQ_UNKNOWN, "now");
    assert_string_equal(evpq_error_message(&err), "now");
    assert_int_equal(evpq_error_code(&err), EVPQ_ETIMEOUT);
}

/* ---- is it safe to try again? ---- */

static bool safe(evpq_code code, evpq_fate fate, const char *sqlstate)
{
    evpq__error_clear(&err);
    evpq__error_set_report(&err, code, fate,
                           &(struct evpq__server_report){.message = "x", .sqlstate = sqlstate});
    return evpq_error_retry_safe(&err);
}

static const evpq_code codes_of_failures[] = {EVPQ_EINVALID,    EVPQ_ENOMEM,        EVPQ_ECLOSED,
                                              EVPQ_EOVERLOADED, EVPQ_ETIMEOUT,      EVPQ_ECANCELED,
                                              EVPQ_ECONNECT,    EVPQ_EDISCONNECTED, EVPQ_ESERVER,
                                              EVPQ_ETYPE,       EVPQ_ETOOLARGE};
enum { FAILURES = sizeof(codes_of_failures) / sizeof(codes_of_failures[0]) };

static void what_was_not_sent_may_run_again(void **state)
{
    (void)state;
    for (int i = 0; i < FAILURES; i++)
        if (codes_of_failures[i] != EVPQ_ECLOSED && codes_of_failures[i] != EVPQ_EINVALID)
            assert_true(safe(codes_of_failures[i], EVPQ_NOT_SENT, NULL));
    assert_true(safe(EVPQ_ECONNECT, EVPQ_NOT_SENT, "57P03"));
    assert_true(safe(EVPQ_ECONNECT, EVPQ_NOT_SENT, "53300"));
}

static void what_stays_as_it_is_may_not(void **state)
{
    (void)state;
    assert_false(safe(EVPQ_ECLOSED, EVPQ_NOT_SENT, NULL));
    assert_false(safe(EVPQ_EINVALID, EVPQ_NOT_SENT, NULL));
    assert_false(safe(EVPQ_ECONNECT, EVPQ_NOT_SENT, "28P01"));
    assert_false(safe(EVPQ_ECONNECT, EVPQ_NOT_SENT, "28000"));
    assert_false(safe(EVPQ_ECONNECT, EVPQ_NOT_SENT, "3D000"));
}

static void what_is_unknown_may_not(void **state)
{
    (void)state;
    static const char *const states[] = {NULL, "40001", "40P01", "55P03", "53300"};
    for (int i = 0; i < FAILURES; i++)
        for (int n = 0; n < 5; n++)
            assert_false(safe(codes_of_failures[i], EVPQ_UNKNOWN, states[n]));
}

static void what_was_rolled_back_may_when_the_reason_passes(void **state)
{
    (void)state;
    static const char *const passing[] = {"40001", "40P01", "55P03", "53000",
                                          "53100", "53200", "53300", "53400"};
    static const char *const staying[] = {"23505", "22012", "40000", "40002", "40003", "55000",
                                          "55006", "25006", "57014", "5A000", "52000", "35300",
                                          "54000", "XX000", "42601", "40P0",  "5",     ""};
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        assert_true(safe(EVPQ_ESERVER, EVPQ_ROLLED_BACK, passing[i]));
    for (size_t i = 0; i < sizeof(staying) / sizeof(staying[0]); i++)
        assert_false(safe(EVPQ_ESERVER, EVPQ_ROLLED_BACK, staying[i]));
    for (int i = 0; i < FAILURES; i++) {
        evpq_code code = codes_of_failures[i];
        bool stopped = code == EVPQ_ETIMEOUT || code == EVPQ_ECANCELED;
        assert_int_equal(safe(code, EVPQ_ROLLED_BACK, NULL), stopped);
        assert_int_equal(safe(code, EVPQ_ROLLED_BACK, "57014"), stopped);
    }
}

static void a_text_may_come_later_than_its_code(void **state)
{
    (void)state;
    err = (struct evpq_error){.code = EVPQ_ETIMEOUT, .fate = EVPQ_UNKNOWN};
    evpq__error_explain(&err, "after %d ms", 5);
    assert_int_equal(err.code, EVPQ_ETIMEOUT);
    assert_int_equal(evpq_error_fate(&err), EVPQ_UNKNOWN);
    assert_string_equal(evpq_error_message(&err), "after 5 ms");
    evpq__error_explain(&err, "another"); /* it has one */
    assert_string_equal(evpq_error_message(&err), "after 5 ms");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_code_has_a_name_and_a_text),
        TEST(no_error_answers_everything),
        TEST(all_of_a_report_is_kept),
        TEST(nothing_of_the_callers_is_kept),
        TEST(what_the_server_did_not_say_is_empty),
        TEST(an_operation_that_is_no_statement_was_not_sent),
        TEST(the_first_error_wins),
        TEST(a_message_is_formatted_and_cut),
        TEST(without_memory_the_code_speaks),
        TEST(a_copy_without_memory_keeps_the_code),
        TEST(what_found_no_memory_is_copied_and_moved),
        TEST(a_move_leaves_nothing_behind),
        TEST(a_move_onto_an_error_keeps_the_first),
        TEST(a_copy_is_another_one),
        TEST(a_copy_onto_an_error_keeps_the_first),
        TEST(what_is_cleared_can_be_set_again),
        TEST(what_was_not_sent_may_run_again),
        TEST(what_stays_as_it_is_may_not),
        TEST(what_is_unknown_may_not),
        TEST(what_was_rolled_back_may_when_the_reason_passes),
        TEST(a_text_may_come_later_than_its_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
