/* SPDX-License-Identifier: MIT */
#include "support/pooler.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_CASES = 100 };

static char keeps_process[] =
    "PgBouncer keeps the server's process when its client has gone, and gives "
    "it to the next";
static char keeps_idle[] = "no client is told when the server ends a process that runs nothing";
static char keeps_setting[] = "PgBouncer gives a setting of the session to the next client";
static char takes_no_options[] = "PgBouncer takes no options= from a client";
static char none_prepared[] = "the next transaction may be on another connection of the server";
static char keeps_temporary[] = "a temporary table stays on the connection of the server";
static char fills_rows[] = "PgBouncer may put its error into the middle of a row";
static char own_words[] = "PgBouncer refuses with an SQLSTATE of its own: live_pooler";

/* From this mode on; a name is that of a case, or of a program. */
static const struct exception {
    enum pooler from;
    const char *name;
    char *why;
} exceptions[] = {
    {POOLER_SESSION, "promise_7_clean_or_gone_a_slot_is_free_when_the_server_has_let_go",
     keeps_process},
    {POOLER_SESSION, "an_idle_connection_that_the_server_ends_is_noticed_and_replaced", keeps_idle},
    {POOLER_SESSION, "a_wrong_password_is_refused_for_good_and_told_at_once", own_words},
    {POOLER_SESSION, "an_unknown_database_is_refused_for_good", own_words},
    {POOLER_SESSION, "connections_are_replaced_at_max_lifetime", keeps_process},
    {POOLER_SESSION, "a_connection_with_a_huge_result_behind_it_is_replaced", keeps_process},
    {POOLER_SESSION, "without_a_reset_only_what_readers_rely_on_is_watched", keeps_process},
    {POOLER_SESSION, "cancel_and_close_frees_the_server_and_the_slot", keeps_process},
    {POOLER_SESSION, "expired_connections_are_replaced_before_they_go", keeps_process},
    {POOLER_SESSION, "what_runs_ends_before_its_connection_expires", keeps_process},
    {POOLER_SESSION, "a_session_that_takes_no_writes_is_left", keeps_setting},
    {POOLER_SESSION, "operators_that_are_not_found_are_refused", takes_no_options},
    {POOLER_SESSION, "every_type_of_the_server_makes_exact_boundaries", takes_no_options},
    {POOLER_SESSION, "a_lost_connection_is_not_complete", fills_rows},
    {POOLER_TRANSACTION, "prepared", none_prepared},
    {POOLER_TRANSACTION, "batch_lost", none_prepared},
    {POOLER_TRANSACTION, "what_the_server_has_forgotten_runs_again", none_prepared},
    {POOLER_TRANSACTION, "what_is_evicted_goes_by_PQsendClosePrepared_since_17", none_prepared},
    {POOLER_TRANSACTION, "what_is_evicted_goes_by_DEALLOCATE_before_17", none_prepared},
    {POOLER_TRANSACTION, "success_is_final", keeps_temporary},
    {POOLER_TRANSACTION, "what_a_search_path_puts_first_changes_nothing", keeps_setting},
};

enum pooler pooler_mode(void)
{
    const char *mode = getenv("EVPQ_TEST_POOLER");
    if (!mode || !mode[0])
        return POOLER_NONE;
    return strcmp(mode, "session") == 0 ? POOLER_SESSION : POOLER_TRANSACTION;
}

static void cannot_work(void **state)
{
    print_message("not through a pooler: %s\n", (const char *)*state);
    skip();
}

static const struct exception *exception_of(const char *program, const char *name)
{
    for (size_t i = 0; i < sizeof(exceptions) / sizeof(exceptions[0]); i++)
        if (pooler_mode() >= exceptions[i].from &&
            (strcmp(exceptions[i].name, program) == 0 || strcmp(exceptions[i].name, name) == 0))
            return &exceptions[i];
    return NULL;
}

int pooler_run(const char *name, const struct CMUnitTest *tests, size_t count,
               CMFixtureFunction setup, CMFixtureFunction teardown)
{
    struct CMUnitTest less[MOST_CASES];
    if (count > MOST_CASES)
        abort();
    for (size_t i = 0; i < count; i++) {
        const struct exception *exception = exception_of(name, tests[i].name);
        less[i] = tests[i];
        if (exception)
            less[i] = (struct CMUnitTest){tests[i].name, cannot_work, NULL, NULL, exception->why};
    }
    return _cmocka_run_group_tests(name, less, count, setup, teardown);
}
