/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>

#include "fuzz/server.h"
#include "fuzz/turns.h"
#include "pg/dial.h"
#include "support/fake_helper.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"

/* With the real libpq, and a server in this thread. "@here" is where it listens. */

static struct evpq__loop *loop;
static struct evpq__helper *helper;
static struct evpq__dial *dial;
static struct evpq__dialed got;
static int ended;
static size_t first_host; /* of the next dials */

/* Names that the name service is asked for are not found; addresses are. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
    static int (*find)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    void *found = find ? NULL : dlsym(RTLD_NEXT, "getaddrinfo");
    if (found)
        memcpy(&find, &found, sizeof(find));
    bool asks = name && hints && !(hints->ai_flags & AI_NUMERICHOST);
    return asks ? EAI_NONAME : find(name, service, hints, out);
}

static int listen_once(void **state)
{
    (void)state;
    static const char *const variables[] = {
        "PGHOSTADDR", "PGPORT",       "PGPASSWORD",    "PGPASSFILE",    "PGSERVICE",    "PGOPTIONS",
        "PGSSLMODE",  "PGGSSENCMODE", "PGSERVICEFILE", "PGREQUIREAUTH", "PGREQUIREPEER"};
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", "/nonexistent", 1);
    server_listen();
    return 0;
}

static int begin(void **state)
{
    (void)state;
    fake_reset();
    server_reset(&(struct server_manners){0});
    turns_calls_hang = false;
    loop = evpq__loop_new(fake_ev());
    helper = evpq__helper_start(loop);
    got = (struct evpq__dialed){0};
    ended = 0;
    first_host = 0;
    return 0;
}

static void on_stopped(struct evpq__task *task)
{
    (void)task;
}

static void drop(void)
{
    evpq__cancel_free(got.cancel);
    PQfinish(got.pg);
    evpq__error_clear(&got.error);
    got = (struct evpq__dialed){0};
}

static int end(void **state)
{
    static struct evpq__task stopped;
    drop();
    turns_calls_hang = false;
    turns_run();
    evpq__task_init(&stopped, on_stopped);
    evpq__helper_stop(helper, &stopped);
    turns_run();
    evpq__loop_free(loop);
    assert_int_equal(server_clients(), 0);
    return fake_teardown(state);
}

static void on_dialed(void *owner, struct evpq__dialed *dialed)
{
    assert_ptr_equal(owner, &dial);
    assert_true((dialed->pg != NULL) == (dialed->error.code == EVPQ_OK));
    assert_true((dialed->pg != NULL) == (dialed->cancel != NULL));
    got = *dialed;
    ended++;
}

/* Each @here of the string becomes the host of the server. */
static const char *conninfo(const char *text)
{
    static char all[1024];
    size_t length = 0;
    while (*text) {
        bool here = strncmp(text, "@here", 5) == 0;
        length +=
            (size_t)snprintf(all + length, sizeof(all) - length, "%.*s",
                             here ? (int)strlen(server_host()) : 1, here ? server_host() : text);
        text += here ? 5 : 1;
    }
    snprintf(all + length, sizeof(all) - length, " port=5432 user=u dbname=d sslmode=disable");
    return all;
}

static void begin_dial(const char *text, uint32_t timeout_ms)
{
    ended = 0;
    dial = evpq__dial_start(helper, loop, conninfo(text), first_host,
                            evpq__loop_deadline(loop, timeout_ms), on_dialed, &dial);
    if (dial)
        turns_run();
}

static void raw_server(void)
{
    server_reset(&(struct server_manners){.raw = true});
}

static void say(const void *bytes, size_t length)
{
    assert_true(server_has_script());
    server_say(bytes, length);
    turns_run();
}

#define REFUSAL(sqlstate) "E\0\0\0\45SFATAL\0VFATAL\0C" sqlstate "\0Mno way in\0"

static void says(const char *word)
{
    if (!strstr(evpq_error_message(&got.error), word))
        fail_msg("\"%s\" is not in: %s", word, evpq_error_message(&got.error));
}

/* ---- tests ---- */

static void a_dial_ends_with_an_open_session_in_pipeline_mode(void **state)
{
    (void)state;
    begin_dial("host=@here", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    assert_int_equal(PQstatus(got.pg), CONNECTION_OK);
    assert_int_equal(PQpipelineStatus(got.pg), PQ_PIPELINE_ON);
    assert_true(PQisnonblocking(got.pg));
    assert_int_equal(PQsetErrorVerbosity(got.pg, PQERRORS_DEFAULT), PQERRORS_DEFAULT);
    assert_false(got.read_write);
    assert_int_equal(fake_timers() + fake_ios(), 0);
}

static void hosts_are_tried_in_turn(void **state)
{
    (void)state;
    begin_dial("host=@nobody1,@nobody2,@here,@nobody3", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
}

static void where_a_dial_leads_is_told_for_the_next(void **state)
{
    (void)state;
    static const struct {
        const char *hosts;
        size_t first, found;
    } cases[] = {{"host=@here,@nobody1", 0, 0},
                 {"host=@nobody1,@here", 0, 1},
                 {"host=@nobody1,@here", 1, 1},
                 {"host=@here,@nobody1", 1, 0},
                 {"host=@nobody1,@nobody2,@here", 1, 2},
                 {"host=@nobody1,@here,@nobody2", 2, 1},
                 {"host=@here", 7, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        first_host = cases[i].first;
        begin_dial(cases[i].hosts, 1000);
        assert_int_equal(ended, 1);
        assert_int_equal(got.error.code, EVPQ_OK);
        assert_int_equal(got.host, cases[i].found);
        drop();
    }
    /* Any server will do, and none is what was asked for. */
    first_host = 0;
    begin_dial("host=@nobody1,@here target_session_attrs=prefer-standby", 1000);
    assert_int_equal(got.error.code, EVPQ_OK);
    assert_int_equal(got.host, 0);
}

static void the_first_host_is_tried_before_the_others(void **state)
{
    (void)state;
    first_host = 2;
    begin_dial("host=@nobody1,@nobody2,@nobody3", 1000);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    const char *reasons = evpq_error_message(&got.error);
    const char *one = strstr(reasons, "@nobody1"), *two = strstr(reasons, "@nobody2"),
               *three = strstr(reasons, "@nobody3");
    assert_true(three && three < one && one < two);
}

static void when_all_fail_each_reason_is_told_once(void **state)
{
    (void)state;
    begin_dial("host=@nobody1,@nobody2,@nobody1", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    assert_false(got.refused_for_good);
    says("@nobody1");
    says("@nobody2");
    const char *first = strstr(evpq_error_message(&got.error), "@nobody1");
    assert_null(strstr(first + 1, "\"@nobody1"));
}

static void many_reasons_are_not_kept_for_ever(void **state)
{
    (void)state;
    char text[900] = "host=@nobody";
    for (int i = 0; i < 60; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), ",@nobody%d", i);
    begin_dial(text, 1000);
    assert_int_equal(ended, 1);
    assert_true(strlen(evpq_error_message(&got.error)) < 1200);
}

static void a_refusal_that_is_about_us_ends_the_dial(void **state)
{
    (void)state;
    raw_server();
    begin_dial("host=@here,@here", 1000);
    say(REFUSAL("28P01"), sizeof(REFUSAL("28P01")));
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    assert_string_equal(evpq_error_sqlstate(&got.error), "28P01");
    assert_true(got.refused_for_good);
    assert_int_equal(server_accepted(), 1);
    says("no way in");
    drop();

    raw_server();
    begin_dial("host=@here,@here", 1000);
    say(REFUSAL("53300"), sizeof(REFUSAL("53300")));
    assert_int_equal(ended, 1);
    assert_string_equal(evpq_error_sqlstate(&got.error), "53300");
    assert_false(got.refused_for_good);
}

/* PgBouncer's words for a wrong password, and for something that passes. */
static void a_pooler_has_one_sqlstate_for_all_that_it_refuses(void **state)
{
    (void)state;
    static const char password[] = "E\0\0\0\057SFATAL\0C08P01\0MSASL authentication failed\0";
    static const char database[] = "E\0\0\0\060SFATAL\0C08P01\0Mdatabase \"d\" does not exist\0";
    static const char nowhere[] = "E\0\0\0\050SFATAL\0C08P01\0Mno such database: d\0";
    static const char full[] = "E\0\0\0\050SFATAL\0C08P01\0Mno more connections\0";
    raw_server();
    begin_dial("host=@here", 1000);
    say(password, sizeof(password));
    assert_int_equal(ended, 1);
    assert_string_equal(evpq_error_sqlstate(&got.error), "08P01");
    says("SASL authentication failed");
    assert_true(got.refused_for_good);
    assert_false(evpq_error_retry_safe(&got.error));
    drop();

    raw_server();
    begin_dial("host=@here", 1000);
    say(database, sizeof(database));
    assert_int_equal(ended, 1);
    assert_true(got.refused_for_good);
    drop();

    raw_server();
    begin_dial("host=@here,@here", 1000);
    say(nowhere, sizeof(nowhere));
    assert_int_equal(ended, 1);
    assert_true(got.refused_for_good);
    assert_int_equal(server_accepted(), 1);
    drop();

    raw_server();
    begin_dial("host=@here", 1000);
    say(full, sizeof(full));
    assert_int_equal(ended, 1);
    assert_string_equal(evpq_error_sqlstate(&got.error), "08P01");
    assert_false(got.refused_for_good);
    assert_true(evpq_error_retry_safe(&got.error));
    drop();

    raw_server();
    begin_dial("host=@here,@here", 1000);
    server_be_good();
    say(full, sizeof(full));
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    assert_int_equal(server_accepted(), 2);
}

static void what_is_wrong_with_the_settings_stays(void **state)
{
    (void)state;
    static const char *const settings[] = {"host=a,b hostaddr=127.0.0.1",
                                           "host=a load_balance_hosts=maybe",
                                           "host=a connect_timeout=soon",
                                           "host=127.0.0.1 ssl_min_protocol_version=TLSv9",
                                           "host=127.0.0.1 target_session_attrs=maybe"};
    for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
        begin_dial(settings[i], 1000);
        assert_int_equal(ended, 1);
        assert_int_equal(got.error.code, EVPQ_ECONNECT);
        assert_true(got.refused_for_good);
        assert_false(evpq_error_retry_safe(&got.error));
        drop();
    }
}

/* Another host may ask for none. */
static void a_password_that_nobody_has_stays_away(void **state)
{
    (void)state;
    static const char wanted[] = "R\0\0\0\010\0\0\0\003";
    raw_server();
    begin_dial("host=@here", 1000);
    say(wanted, sizeof(wanted) - 1);
    assert_int_equal(ended, 1);
    says("no password supplied");
    assert_true(got.refused_for_good);
    assert_false(evpq_error_retry_safe(&got.error));
    drop();

    raw_server();
    begin_dial("host=@here,@nobody", 1000);
    say(wanted, sizeof(wanted) - 1);
    assert_int_equal(ended, 1);
    says("no password supplied");
    assert_false(got.refused_for_good);
    drop();

    raw_server();
    begin_dial("host=@here,@here", 1000);
    server_be_good();
    say(wanted, sizeof(wanted) - 1);
    assert_int_equal(got.error.code, EVPQ_OK);
}

/* A session of the process 1, whose set-up is answered by this one. */
static unsigned notices_of(char process)
{
#define COLUMN "a\0\0\0\0\0\0\0\0\0\0\031\377\377\377\377\377\377\0\0"
    static const char welcome[] =
        "R\0\0\0\010\0\0\0\0K\0\0\0\014\0\0\0\001\0\0\0\002"
        "S\0\0\0\031client_encoding\0UTF8\0Z\0\0\0\005I";
    char answer[] = "T\0\0\0\102\0\003" COLUMN COLUMN COLUMN
                    "D\0\0\0\025\0\003\0\0\0\001I\0\0\0\0011\0\0\0\001?"
                    "C\0\0\0\015SELECT 1\0Z\0\0\0\005I";
#undef COLUMN
    *(char *)memchr(answer, '?', sizeof(answer)) = process;
    raw_server();
    begin_dial("host=@here", 1000);
    say(welcome, sizeof(welcome) - 1);
    say(answer, sizeof(answer) - 1);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    unsigned notices = got.notices;
    drop();
    return notices;
}

static void another_process_than_that_of_the_handshake_is_a_pooler(void **state)
{
    (void)state;
    assert_int_equal(notices_of('1'), 0);
    assert_int_equal(notices_of('7'), EVPQ__DIAL_POOLER);
}

static void a_server_that_starts_up_is_not_the_last_word(void **state)
{
    (void)state;
    raw_server();
    begin_dial("host=@here,@here", 1000);
    server_be_good();
    say(REFUSAL("57P03"), sizeof(REFUSAL("57P03")));
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    assert_int_equal(server_accepted(), 2);
}

static void silence_costs_a_host_its_share_of_the_time(void **state)
{
    (void)state;
    raw_server();
    begin_dial("host=@here,@here", 1000);
    turns_pass(499);
    assert_int_equal(server_accepted(), 1);
    turns_pass(1);
    assert_int_equal(server_accepted(), 2);
    turns_pass(499);
    assert_int_equal(ended, 0);
    turns_pass(1);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    says("no answer in time");
    assert_int_equal(server_clients(), 0);
}

static void connect_timeout_limits_an_attempt(void **state)
{
    (void)state;
    raw_server();
    begin_dial("host=@here connect_timeout=2", 60000);
    turns_pass(1999);
    assert_int_equal(ended, 0);
    turns_pass(1);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
}

static void a_name_that_is_not_found_is_passed_over(void **state)
{
    (void)state;
    begin_dial("host=nowhere.test,@here", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    drop();
    begin_dial("host=nowhere.test", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    says("could not look up host \"nowhere.test\"");
}

static void a_name_service_that_is_silent_is_passed_over(void **state)
{
    (void)state;
    turns_calls_hang = true;
    begin_dial("host=nowhere.test,@here", 1000);
    assert_int_equal(fake_calls(), 1);
    turns_pass(499);
    assert_int_equal(ended, 0);
    turns_pass(1);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    assert_int_equal(fake_calls(), 1); /* it is still away, and cleans up after itself */
}

static void an_error_of_the_set_up_ends_the_attempt(void **state)
{
    (void)state;
    raw_server();
    begin_dial("host=@here", 1000);
    server_answer();
    turns_run();
    static const char refused[] = "E\0\0\0\42SERROR\0VERROR\0C42704\0Mno set\0\0Z\0\0\0\5I";
    say(refused, sizeof(refused) - 1);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    assert_string_equal(evpq_error_sqlstate(&got.error), "42704");
}

static void the_answer_to_the_set_up_may_come_in_pieces(void **state)
{
    (void)state;
    static const char answer[] = "C\0\0\0\10SET\0Z\0\0\0\5I";
    raw_server();
    begin_dial("host=@here", 1000);
    server_answer();
    turns_run();
    for (size_t i = 0; i < sizeof(answer) - 1; i++) {
        assert_int_equal(ended, 0);
        say(&answer[i], 1);
    }
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
}

static void a_copy_is_no_answer_to_the_set_up(void **state)
{
    (void)state;
    raw_server();
    begin_dial("host=@here", 1000);
    server_answer();
    turns_run();
    alarm(20); /* the dial must not read it for ever */
    say("H\0\0\0\7\0\0\0", 8);
    alarm(0);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
}

static void a_server_that_hangs_up_ends_the_attempt(void **state)
{
    (void)state;
    for (int answers = 0; answers < 2; answers++) {
        raw_server();
        begin_dial("host=@here", 1000);
        for (int i = 0; i < answers; i++)
            server_answer();
        turns_run();
        server_hang_up();
        turns_run();
        assert_int_equal(ended, 1);
        assert_int_equal(got.error.code, EVPQ_ECONNECT);
        drop();
    }
}

static void prefer_standby_takes_any_in_a_second_pass(void **state)
{
    (void)state;
    begin_dial("host=@here,@nobody target_session_attrs=prefer-standby", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_OK);
    assert_int_equal(server_accepted(), 2);
    drop();
    begin_dial("host=@here,@nobody target_session_attrs=standby", 1000);
    assert_int_equal(ended, 1);
    assert_int_equal(got.error.code, EVPQ_ECONNECT);
    assert_int_equal(server_accepted(), 3);
}

static void who_wants_to_write_is_noticed(void **state)
{
    (void)state;
    static const struct {
        const char *role;
        bool writes;
    } cases[] = {{"any", false},     {"read-write", true},      {"primary", true},
                 {"standby", false}, {"prefer-standby", false}, {"read-only", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[128];
        snprintf(text, sizeof(text), "host=@here target_session_attrs=%s", cases[i].role);
        begin_dial(text, 1000);
        assert_int_equal(ended, 1);
        assert_int_equal(got.read_write, cases[i].writes);
        drop();
    }
}

static void a_dial_is_aborted_at_any_moment(void **state)
{
    (void)state;
    static const char *const moments[] = {"host=@here", "host=@here", "host=nowhere.test"};
    for (int i = 0; i < 3; i++) {
        raw_server();
        turns_calls_hang = true;
        begin_dial(moments[i], 1000);
        for (int answers = 0; answers < i; answers++)
            server_answer();
        turns_run();
        evpq__dial_abort(dial);
        turns_run();
        assert_int_equal(ended, 1);
        assert_int_equal(got.error.code, EVPQ_ECANCELED);
        assert_int_equal(server_clients(), 0);
        drop();
    }
}

/* Between the two threads: what ends it and what aborts it may cross. */
static void an_abort_comes_after_any_number_of_turns(void **state)
{
    (void)state;
    static const char *const ways[] = {"host=@here", "host=@nobody", "host=nowhere.test,@here"};
    for (int way = 0; way < 3; way++) {
        int aborted = 0;
        for (int turns = 0; turns < 60; turns++) {
            server_reset(&(struct server_manners){0});
            ended = 0;
            dial = evpq__dial_start(helper, loop, conninfo(ways[way]), 0,
                                    evpq__loop_deadline(loop, 1000), on_dialed, &dial);
            for (int i = 0; i < turns && !ended; i++)
                turns_once();
            if (!ended) {
                aborted++;
                evpq__dial_abort(dial);
            }
            turns_run();
            assert_int_equal(ended, 1);
            drop();
            turns_run();
            assert_int_equal(server_clients(), 0);
        }
        assert_in_range(aborted, 2, 59); /* before, amid and after */
    }
}

static void without_memory_it_says_so_and_keeps_nothing(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        size_t before = fake_mem_bytes();
        fake_mem_fail_at(n);
        begin_dial("host=@nobody,nowhere.test,@here", 1000);
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        if (dial)
            assert_int_equal(ended, 1);
        if (dial && !failed)
            assert_int_equal(got.error.code, EVPQ_OK);
        drop();
        assert_int_equal(fake_mem_bytes(), before);
        if (!failed)
            break;
        assert_true(n < 50);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_dial_ends_with_an_open_session_in_pipeline_mode),
        test(hosts_are_tried_in_turn),
        test(where_a_dial_leads_is_told_for_the_next),
        test(the_first_host_is_tried_before_the_others),
        test(when_all_fail_each_reason_is_told_once),
        test(many_reasons_are_not_kept_for_ever),
        test(a_refusal_that_is_about_us_ends_the_dial),
        test(a_pooler_has_one_sqlstate_for_all_that_it_refuses),
        test(what_is_wrong_with_the_settings_stays),
        test(a_password_that_nobody_has_stays_away),
        test(another_process_than_that_of_the_handshake_is_a_pooler),
        test(a_server_that_starts_up_is_not_the_last_word),
        test(silence_costs_a_host_its_share_of_the_time),
        test(connect_timeout_limits_an_attempt),
        test(a_name_that_is_not_found_is_passed_over),
        test(a_name_service_that_is_silent_is_passed_over),
        test(an_error_of_the_set_up_ends_the_attempt),
        test(the_answer_to_the_set_up_may_come_in_pieces),
        test(a_copy_is_no_answer_to_the_set_up),
        test(a_server_that_hangs_up_ends_the_attempt),
        test(prefer_standby_takes_any_in_a_second_pass),
        test(who_wants_to_write_is_noticed),
        test(a_dial_is_aborted_at_any_moment),
        test(an_abort_comes_after_any_number_of_turns),
        test(without_memory_it_says_so_and_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, listen_once, NULL);
}
