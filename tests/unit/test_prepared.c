/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "pg/prepared.h"
#include "support/fake_mem.h"

static struct evpq__statements statements;
static struct evpq__cache cache;

/* Of which none stays that nobody refers to. */
static struct evpq__statement *statement(const char *sql)
{
    return evpq__statements_get(&statements, &(evpq_query){.sql = sql, .sql_length = strlen(sql)});
}

static struct evpq__prepared *find(const char *sql)
{
    struct evpq__statement *s = statement(sql);
    assert_non_null(s);
    struct evpq__prepared *found = evpq__cache_find(&cache, s);
    evpq__statement_unref(s);
    return found;
}

static struct evpq__prepared *add_some(const char *sql, size_t evictions)
{
    struct evpq__statement *s = statement(sql);
    struct evpq__prepared *added = s ? evpq__cache_add(&cache, s, evictions) : NULL;
    evpq__statement_unref(s);
    return added;
}

static struct evpq__prepared *add(const char *sql)
{
    struct evpq__prepared *added = add_some(sql, SIZE_MAX);
    if (added)
        evpq__cache_ready(added);
    return added;
}

static size_t closes(void)
{
    size_t count = 0;
    struct evpq__prepared *gone;
    for (; (gone = evpq__cache_next_close(&cache)); count++)
        evpq__prepared_unref(gone);
    return count;
}

static int begin_with(uint32_t count, size_t bytes)
{
    fake_mem_reset();
    evpq__statements_init(&statements, 0, 0);
    evpq__cache_init(&cache, count, bytes);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    return begin_with(3, 100000);
}

static int end(void **state)
{
    (void)state;
    evpq__cache_done(&cache);
    evpq__statements_done(&statements);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

static void what_was_added_is_found(void **state)
{
    (void)state;
    assert_null(find("A"));
    struct evpq__prepared *a = add("A");
    struct evpq__prepared *b = add("B");
    assert_ptr_equal(find("A"), a);
    assert_ptr_equal(find("B"), b);
    assert_string_equal(a->statement->sql, "A");
    assert_string_not_equal(a->name, b->name);
}

static void types_tell_statements_apart(void **state)
{
    (void)state;
    const evpq_query query[] = {
        {.sql = "A", .sql_length = 1, .params = &(evpq_value){.type = 23}, .params_count = 1},
        {.sql = "A", .sql_length = 1, .params = &(evpq_value){.type = 20}, .params_count = 1}};
    struct evpq__statement *s = evpq__statements_get(&statements, &query[0]);
    struct evpq__statement *t = evpq__statements_get(&statements, &query[1]);
    struct evpq__prepared *added = evpq__cache_add(&cache, s, 0);
    assert_non_null(added);
    assert_ptr_equal(evpq__cache_find(&cache, s), added);
    assert_null(evpq__cache_find(&cache, t));
    assert_null(find("A"));
    evpq__statement_unref(s);
    evpq__statement_unref(t);
}

static void equal_hashes_are_not_equal_statements(void **state)
{
    (void)state;
    struct evpq__statement *a = statement("A"), *b = statement("B");
    a->hash = b->hash;
    assert_non_null(evpq__cache_add(&cache, a, 0));
    assert_non_null(evpq__cache_find(&cache, a));
    assert_null(evpq__cache_find(&cache, b));
    assert_null(evpq__cache_add(&cache, b, 0));
    evpq__statement_unref(a);
    evpq__statement_unref(b);
}

static void the_same_is_found_wherever_it_is_written(void **state)
{
    (void)state;
    struct evpq__statement *a = statement("A");
    struct evpq__prepared *added = evpq__cache_add(&cache, a, 0);
    struct evpq__statement other = {.sql = "A", .sql_length = 1, .hash = a->hash};
    assert_ptr_equal(evpq__cache_find(&cache, &other), added);
    evpq__statement_unref(a);
}

static void a_statement_stays_while_it_is_prepared(void **state)
{
    (void)state;
    struct evpq__prepared *a = add("A");
    assert_int_equal(a->statement->refs, 1);
    evpq__prepared_ref(a);
    evpq__cache_drop(&cache, a, false);
    assert_string_equal(a->statement->sql, "A");
    assert_non_null(statements.table);
    evpq__prepared_unref(a);
    assert_null(statements.table);
}

static void the_least_recently_used_goes_first(void **state)
{
    (void)state;
    add("A");
    add("B");
    add("C");
    assert_non_null(find("A"));
    add("D");
    assert_null(find("B"));
    assert_non_null(find("A"));
    assert_non_null(find("C"));
    assert_int_equal(cache.count, 3);
    assert_int_equal(closes(), 1);
}

static void bytes_are_bounded_too(void **state)
{
    end(state);
    size_t one = sizeof(struct evpq__prepared) + 2;
    begin_with(100, 2 * one);
    add("A");
    add("B");
    assert_int_equal(cache.bytes, 2 * one);
    add("C");
    assert_int_equal(cache.count, 2);
    assert_null(find("A"));
    char huge[1000];
    memset(huge, 'x', sizeof(huge));
    huge[sizeof(huge) - 1] = '\0';
    assert_null(add(huge));
    assert_int_equal(cache.count, 2);
    assert_int_equal(closes(), 1);
}

static void without_evictions_nothing_is_evicted(void **state)
{
    (void)state;
    add("A");
    add("B");
    add("C");
    assert_null(add_some("D", 0));
    assert_int_equal(cache.count, 3);
    assert_non_null(add_some("D", 1));
    assert_int_equal(closes(), 1);
}

static void what_is_not_ready_is_not_evicted(void **state)
{
    (void)state;
    add_some("A", 0);
    add_some("B", 0);
    add_some("C", 0);
    assert_null(add("D"));
    evpq__cache_ready(find("B"));
    assert_non_null(add("D"));
    assert_null(find("B"));
    assert_non_null(find("A"));
}

static void a_cache_of_none_keeps_nothing(void **state)
{
    end(state);
    begin_with(0, 1000);
    assert_null(add("A"));
}

static void what_somebody_points_to_stays_in_memory(void **state)
{
    (void)state;
    struct evpq__prepared *a = add("A");
    evpq__prepared_ref(a);
    evpq__cache_drop(&cache, a, false);
    evpq__cache_drop(&cache, a, true);
    assert_int_equal(a->state, EVPQ__PREPARED_GONE);
    evpq__cache_ready(a);
    assert_int_equal(a->state, EVPQ__PREPARED_GONE);
    assert_null(find("A"));
    assert_int_equal(closes(), 0);
    evpq__prepared_unref(a);
}

static void dropping_all_leaves_what_is_on_its_way(void **state)
{
    (void)state;
    add("A");
    struct evpq__prepared *b = add_some("B", 0);
    evpq__cache_drop(&cache, add("C"), true);
    evpq__cache_drop_all(&cache);
    assert_null(find("A"));
    assert_ptr_equal(find("B"), b);
    assert_int_equal(closes(), 0);
}

static void a_session_that_is_not_ours_ends_it(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_non_null(add("A"));
        evpq__cache_drop_all(&cache);
        evpq__cache_strayed(&cache);
    }
    assert_null(add("A"));
}

static void a_second_time_is_seen(void **state)
{
    (void)state;
    for (uint64_t hash = 0; hash < 2 * EVPQ__CACHE_SEEN; hash++)
        assert_false(evpq__cache_seen(&cache, hash << 32 | hash));
    for (uint64_t hash = EVPQ__CACHE_SEEN; hash < 2 * EVPQ__CACHE_SEEN; hash++)
        assert_true(evpq__cache_seen(&cache, hash << 32 | hash));
    assert_false(evpq__cache_seen(&cache, 0));
}

static void many_are_found_again(void **state)
{
    end(state);
    begin_with(1000, 1024 * 1024);
    char sql[16];
    for (int i = 0; i < 2000; i++) {
        snprintf(sql, sizeof(sql), "%d", i);
        assert_non_null(add(sql));
    }
    for (int i = 0; i < 2000; i++) {
        snprintf(sql, sizeof(sql), "%d", i);
        assert_int_equal(find(sql) != NULL, i >= 1000);
    }
    assert_int_equal(closes(), 1000);
}

static void without_memory_it_stays_as_it_was(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        fake_mem_fail_at(n);
        struct evpq__prepared *a = add("A");
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        if (!failed)
            break;
        assert_null(a);
        assert_int_equal(cache.count, 0);
        assert_int_equal(cache.bytes, 0);
        assert_int_equal(fake_mem_bytes(), 0);
        assert_true(n < 10);
    }
    assert_non_null(find("A"));
    /* The table grows now and then, which may fail, too. */
    end(state);
    begin_with(1000, 1024 * 1024);
    assert_non_null(add("first"));
    char sql[16];
    size_t count = 1;
    for (int i = 0; i < 1000; i++) {
        snprintf(sql, sizeof(sql), "%d", i);
        struct evpq__statement *s = statement(sql);
        fake_mem_fail_at(2);
        struct evpq__prepared *added = evpq__cache_add(&cache, s, 0);
        fake_mem_fail_at(0);
        evpq__statement_unref(s);
        count += added != NULL;
        assert_int_equal(find(sql) != NULL, added != NULL);
        assert_int_equal(cache.count, count);
    }
    assert_true(count > 100 && count < 1001);
}

#define cache_test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cache_test(what_was_added_is_found),
        cache_test(types_tell_statements_apart),
        cache_test(equal_hashes_are_not_equal_statements),
        cache_test(the_same_is_found_wherever_it_is_written),
        cache_test(a_statement_stays_while_it_is_prepared),
        cache_test(the_least_recently_used_goes_first),
        cache_test(bytes_are_bounded_too),
        cache_test(without_evictions_nothing_is_evicted),
        cache_test(what_is_not_ready_is_not_evicted),
        cache_test(a_cache_of_none_keeps_nothing),
        cache_test(what_somebody_points_to_stays_in_memory),
        cache_test(dropping_all_leaves_what_is_on_its_way),
        cache_test(a_session_that_is_not_ours_ends_it),
        cache_test(a_second_time_is_seen),
        cache_test(many_are_found_again),
        cache_test(without_memory_it_stays_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
