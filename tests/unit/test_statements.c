/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "pg/statements.h"
#include "support/fake_mem.h"

static struct evpq__statements all;

static int begin_with(size_t count, size_t bytes)
{
    fake_mem_reset();
    evpq__statements_init(&all, count, bytes);
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
    evpq__statements_done(&all);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

static struct evpq__statement *get_with(const char *sql, const evpq_value *params, size_t count)
{
    return evpq__statements_get(
        &all, &(evpq_query){
                  .sql = sql, .sql_length = strlen(sql), .params = params, .params_count = count});
}

static struct evpq__statement *get(const char *sql)
{
    return get_with(sql, NULL, 0);
}

/* And nobody refers to it. */
static void use(const char *sql)
{
    evpq__statement_unref(get(sql));
}

/* Without making it the last used. */
static bool knows(const char *sql)
{
    for (struct evpq__statement *s = all.table; s; s = s->hh.next)
        if (strcmp(s->sql, sql) == 0)
            return true;
    return false;
}

static void each_is_there_once(void **state)
{
    (void)state;
    struct evpq__statement *a = get("SELECT 1");
    struct evpq__statement *b = get("SELECT 2");
    assert_ptr_not_equal(a, b);
    assert_true(a->hash != b->hash);
    for (int i = 0; i < 2; i++) {
        assert_ptr_equal(get("SELECT 1"), a);
        evpq__statement_unref(a);
    }
    assert_ptr_equal(get("SELECT 2"), b);
    evpq__statement_unref(b);
    evpq__statement_unref(b);
    evpq__statement_unref(a);
    evpq__statement_unref(NULL);
}

static void the_same_text_with_other_types_is_another(void **state)
{
    (void)state;
    const evpq_value one[] = {evpq_int4(1), evpq_int8(2)}, two[] = {evpq_int4(1), evpq_int4(2)};
    struct evpq__statement *a = get_with("SELECT $1, $2", one, 2);
    struct evpq__statement *b = get_with("SELECT $1, $2", two, 2);
    struct evpq__statement *c = get_with("SELECT $1, $2", one, 1);
    struct evpq__statement *d = get("SELECT $1, $2");
    assert_true(a != b && a != c && a != d && b != c && b != d && c != d);
    assert_int_equal(a->count, 2);
    assert_int_equal(a->types[1], one[1].type);
    assert_int_equal(b->types[1], two[1].type);
    assert_ptr_equal(get_with("SELECT $1, $2", one, 2), a);
    assert_ptr_equal(get_with("SELECT $1, $2", two, 2), b);
    assert_ptr_equal(get("SELECT $1, $2"), d);
    for (int i = 0; i < 2; i++) {
        evpq__statement_unref(a);
        evpq__statement_unref(b);
        evpq__statement_unref(d);
    }
    evpq__statement_unref(c);
}

static void it_needs_nothing_of_the_query(void **state)
{
    (void)state;
    char sql[] = "BEGIN and more";
    evpq_value param = evpq_int8(1);
    struct evpq__statement *s = evpq__statements_get(
        &all, &(evpq_query){
                  .sql = sql, .sql_length = strlen("BEGIN"), .params = &param, .params_count = 1});
    uint32_t type = param.type;
    memset(sql, 'z', sizeof(sql));
    memset(&param, 'z', sizeof(param));
    assert_string_equal(s->sql, "BEGIN");
    assert_int_equal(s->sql_length, 5);
    assert_int_equal(s->types[0], type);
    assert_int_equal(s->kind, EVPQ__BEGINS);
    evpq__statement_unref(s);
}

static void the_longest_unused_is_forgotten_first(void **state)
{
    (void)state;
    use("A");
    use("B");
    use("C");
    use("A");
    assert_int_equal(all.unused_count, 3);
    use("D");
    assert_int_equal(all.unused_count, 3);
    assert_false(knows("B"));
    assert_true(knows("A") && knows("C") && knows("D"));
}

static void what_is_referred_to_is_not_counted_and_stays(void **state)
{
    (void)state;
    struct evpq__statement *a = get("A");
    for (int i = 0; i < 10; i++) {
        char sql[8];
        snprintf(sql, sizeof(sql), "%d", i);
        use(sql);
    }
    assert_int_equal(all.unused_count, 3);
    assert_ptr_equal(get("A"), a);
    evpq__statement_unref(a);
    assert_int_equal(all.unused_count, 3);
    evpq__statement_unref(a);
    assert_int_equal(all.unused_count, 3);
    assert_true(knows("A"));
    assert_false(knows("7"));
}

static void bytes_are_bounded_too(void **state)
{
    end(state);
    size_t one = sizeof(struct evpq__statement) + 2;
    begin_with(100, 2 * one);
    use("A");
    use("B");
    assert_int_equal(all.unused_bytes, 2 * one);
    use("C");
    assert_int_equal(all.unused_count, 2);
    assert_int_equal(all.unused_bytes, 2 * one);
    assert_false(knows("A"));
    char huge[1000];
    memset(huge, 'x', sizeof(huge));
    huge[sizeof(huge) - 1] = '\0';
    use(huge);
    assert_false(knows(huge));
    assert_int_equal(all.unused_bytes, all.unused_count * one);
}

static void equal_hashes_are_not_equal_statements(void **state)
{
    (void)state;
    struct evpq__statement *a = get("A"), *b = get("B");
    /* As if B had the hash of A. */
    uint64_t hash = a->hash;
    HASH_DELETE(hh, all.table, b);
    HASH_DELETE(hh, all.table, a);
    b->hash = hash;
    HASH_ADD_BYHASHVALUE(hh, all.table, hash, sizeof(b->hash), (unsigned)hash, b);
    a->hh.tbl = NULL;
    struct evpq__statement *other = get("A");
    assert_true(other != a && other != b);
    assert_string_equal(other->sql, "A");
    assert_true(evpq__statement_same(other, a));
    assert_false(evpq__statement_same(other, b));
    evpq__statement_unref(other);
    evpq__statement_unref(a);
    assert_int_equal(all.unused_count, 0);
    evpq__statement_unref(b);
}

static void what_took_long_is_slow_until_it_does_not(void **state)
{
    (void)state;
    struct evpq__statement *a = get("SELECT pg_sleep(0.1)"), *b = get("SELECT 1");
    assert_false(a->slow);
    evpq__statement_ran(a, 100000);
    evpq__statement_ran(b, 5000);
    evpq__statement_unref(a);
    assert_true(get("SELECT pg_sleep(0.1)")->slow);
    assert_false(b->slow);
    evpq__statement_ran(a, 20000);
    assert_false(a->slow);
    evpq__statement_unref(a);
    evpq__statement_unref(b);
}

static void without_memory_it_stays_as_it_was(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        fake_mem_fail_at(n);
        struct evpq__statement *a = get("A");
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        evpq__statement_unref(a);
        if (!failed)
            break;
        assert_null(a);
        assert_null(all.table);
        assert_int_equal(fake_mem_bytes(), 0);
        assert_true(n < 10);
    }
    /* What is known needs none. */
    fake_mem_fail_from(1);
    struct evpq__statement *a = get("A");
    assert_non_null(a);
    assert_null(get("B"));
    assert_ptr_equal(get("A"), a);
    fake_mem_fail_at(0);
    evpq__statement_unref(a);
    evpq__statement_unref(a);
}

static void the_table_may_fail_to_grow(void **state)
{
    end(state);
    begin_with(1000, 1024 * 1024);
    use("first");
    size_t count = 1;
    for (int i = 0; i < 900; i++) {
        char sql[16];
        snprintf(sql, sizeof(sql), "%d", i);
        fake_mem_fail_at(2);
        struct evpq__statement *s = get(sql);
        fake_mem_fail_at(0);
        count += s != NULL;
        assert_int_equal(knows(sql), s != NULL);
        evpq__statement_unref(s);
        assert_int_equal(all.unused_count, count);
    }
    assert_true(count > 100 && count < 901);
}

#define statements_test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        statements_test(each_is_there_once),
        statements_test(the_same_text_with_other_types_is_another),
        statements_test(it_needs_nothing_of_the_query),
        statements_test(the_longest_unused_is_forgotten_first),
        statements_test(what_is_referred_to_is_not_counted_and_stays),
        statements_test(bytes_are_bounded_too),
        statements_test(equal_hashes_are_not_equal_statements),
        statements_test(what_took_long_is_slow_until_it_does_not),
        statements_test(without_memory_it_stays_as_it_was),
        statements_test(the_table_may_fail_to_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
