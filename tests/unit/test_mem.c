/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/base.h>
#include <evpq/error.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* An allocator that counts, hands out dirty memory, and has none left when it is told so. */
static struct {
    int allocated, released;
    size_t last_size;
    void *last_user;
    bool none_left;
} counts;

static void *dirty_allocate(size_t size, void *user)
{
    assert_true(size > 0);
    if (counts.none_left)
        return NULL;
    counts.allocated++;
    counts.last_size = size;
    counts.last_user = user;
    void *memory = malloc(size);
    assert_non_null(memory);
    return memset(memory, 0xa5, size);
}

static void counting_release(void *memory, void *user)
{
    assert_non_null(memory);
    counts.released++;
    counts.last_user = user;
    free(memory);
}

static const evpq_allocator counting = {dirty_allocate, counting_release, &counts};

static int fresh(void **state)
{
    (void)state;
    memset(&counts, 0, sizeof(counts));
    return evpq_set_allocator(&counting) == EVPQ_OK ? 0 : -1;
}

static int restored(void **state)
{
    (void)state;
    return evpq_set_allocator(NULL) == EVPQ_OK ? 0 : -1;
}

static void every_byte_is_zero(const void *memory, size_t size)
{
    for (size_t i = 0; i < size; i++)
        assert_int_equal(((const unsigned char *)memory)[i], 0);
}

static void memory_of_any_allocator_is_zeroed(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 64, 4096, 1000003};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *memory = evpq__alloc(sizes[i]);
        assert_non_null(memory);
        assert_int_equal(counts.last_size, sizes[i]);
        every_byte_is_zero(memory, sizes[i]);
        evpq__free(memory);
    }
    assert_int_equal(counts.allocated, 5);
    assert_int_equal(counts.released, 5);
}

static void all_ways_to_allocate_go_through_it_with_its_user(void **state)
{
    (void)state;
    char *copy = evpq__strdup("a string");
    assert_ptr_equal(counts.last_user, &counts);
    assert_string_equal(copy, "a string");
    char *text = evpq__format("%d and %s", 1, copy);
    assert_string_equal(text, "1 and a string");
    assert_int_equal(counts.allocated, 2);
    counts.last_user = NULL;
    evpq__free(copy);
    assert_ptr_equal(counts.last_user, &counts);
    evpq__free(text);
    assert_int_equal(counts.released, 2);
}

static void it_is_never_asked_for_nothing(void **state)
{
    (void)state;
    void *memory = evpq__alloc(0);
    assert_non_null(memory);
    assert_true(counts.last_size > 0);
    evpq__free(memory);
    evpq__free(NULL);
    assert_null(evpq__strdup(NULL));
    assert_int_equal(counts.allocated, 1);
    assert_int_equal(counts.released, 1);
}

static void what_it_does_not_have_is_null_and_is_not_held(void **state)
{
    (void)state;
    counts.none_left = true;
    assert_null(evpq__alloc(10));
    assert_null(evpq__strdup("text"));
    assert_null(evpq__format("%d", 1));
    assert_int_equal(counts.released, 0);
    /* Else it could not be changed any more. */
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_OK);
}

static void it_does_not_change_while_anything_is_held(void **state)
{
    (void)state;
    char *first = evpq__strdup("first");
    char *second = evpq__strdup("second");
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_EINVALID);
    evpq__free(first);
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_set_allocator(&counting), EVPQ_EINVALID);
    /* A refusal changes nothing: this goes back to where it came from. */
    evpq__free(second);
    assert_int_equal(counts.released, 2);
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_OK);
}

static void one_with_a_missing_function_is_refused(void **state)
{
    (void)state;
    assert_int_equal(evpq_set_allocator(&(evpq_allocator){.allocate = dirty_allocate}),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_set_allocator(&(evpq_allocator){.release = counting_release}),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_set_allocator(&(evpq_allocator){.user = &counts}), EVPQ_EINVALID);
    evpq__free(evpq__alloc(1));
    assert_int_equal(counts.allocated, 1);
    assert_int_equal(counts.released, 1);
}

static void null_is_malloc_again(void **state)
{
    (void)state;
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_OK);
    /* Of memory that was used before, to tell it from luck. */
    volatile unsigned char *used = malloc(4096);
    assert_non_null(used);
    for (size_t i = 0; i < 4096; i++)
        used[i] = 0xa5;
    free((void *)used);
    void *memory = evpq__alloc(4096);
    every_byte_is_zero(memory, 4096);
    assert_int_equal(evpq_set_allocator(&counting), EVPQ_EINVALID);
    evpq__free(memory);
    assert_int_equal(counts.allocated, 0);
    assert_int_equal(counts.released, 0);
}

static void the_struct_is_copied(void **state)
{
    (void)state;
    evpq_allocator mine = counting;
    assert_int_equal(evpq_set_allocator(&mine), EVPQ_OK);
    mine = (evpq_allocator){0};
    evpq__free(evpq__alloc(1));
    assert_int_equal(counts.allocated, 1);
    assert_int_equal(counts.released, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_of_any_allocator_is_zeroed, fresh, restored),
        cmocka_unit_test_setup_teardown(all_ways_to_allocate_go_through_it_with_its_user, fresh,
                                        restored),
        cmocka_unit_test_setup_teardown(it_is_never_asked_for_nothing, fresh, restored),
        cmocka_unit_test_setup_teardown(what_it_does_not_have_is_null_and_is_not_held, fresh,
                                        restored),
        cmocka_unit_test_setup_teardown(it_does_not_change_while_anything_is_held, fresh, restored),
        cmocka_unit_test_setup_teardown(one_with_a_missing_function_is_refused, fresh, restored),
        cmocka_unit_test_setup_teardown(null_is_malloc_again, fresh, restored),
        cmocka_unit_test_setup_teardown(the_struct_is_copied, fresh, restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
