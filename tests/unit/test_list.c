/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct thing {
    int before;
    struct evpq__node node;
};

static struct evpq__list list;
static struct thing a, b, c;

static int fresh(void **state)
{
    (void)state;
    evpq__list_init(&list);
    evpq__node_init(&a.node);
    evpq__node_init(&b.node);
    evpq__node_init(&c.node);
    return 0;
}

/* In both directions. */
static void assert_list(const struct thing *const *things, size_t count)
{
    struct evpq__node *node = evpq__list_first(&list);
    for (size_t i = 0; i < count; i++, node = evpq__list_next(&list, node))
        assert_ptr_equal(node, &things[i]->node);
    assert_null(node);
    node = list.head.prev;
    for (size_t i = count; i > 0; i--, node = node->prev)
        assert_ptr_equal(node, &things[i - 1]->node);
    assert_ptr_equal(node, &list.head);
}
#define ASSERT_LIST(...)                                                                           \
    assert_list((const struct thing *const[]){__VA_ARGS__},                                        \
                sizeof((const struct thing *const[]){__VA_ARGS__}) / sizeof(struct thing *))

static void a_new_list_is_empty(void **state)
{
    (void)state;
    assert_true(evpq__list_empty(&list));
    assert_null(evpq__list_first(&list));
    assert_null(evpq__list_pop_front(&list));
    assert_false(evpq__node_linked(&a.node));
}

static void a_node_knows_its_object(void **state)
{
    (void)state;
    assert_ptr_equal(evpq__container_of(&a.node, struct thing, node), &a);
}

static void pushing_keeps_the_order_of_the_calls(void **state)
{
    (void)state;
    evpq__list_push_back(&list, &b.node);
    evpq__list_push_back(&list, &c.node);
    evpq__list_push_front(&list, &a.node);
    ASSERT_LIST(&a, &b, &c);
    assert_false(evpq__list_empty(&list));
    assert_true(evpq__node_linked(&b.node));
}

static void a_node_goes_behind_the_one_it_is_told(void **state)
{
    (void)state;
    evpq__list_push_back(&list, &a.node);
    evpq__list_push_back(&list, &c.node);
    evpq__node_insert_after(&a.node, &b.node);
    ASSERT_LIST(&a, &b, &c);
}

static void unlinking_takes_it_from_anywhere(void **state)
{
    (void)state;
    evpq__list_push_back(&list, &a.node);
    evpq__list_push_back(&list, &b.node);
    evpq__list_push_back(&list, &c.node);
    evpq__node_unlink(&b.node);
    assert_false(evpq__node_linked(&b.node));
    ASSERT_LIST(&a, &c);
    evpq__node_unlink(&a.node);
    ASSERT_LIST(&c);
    evpq__node_unlink(&c.node);
    assert_true(evpq__list_empty(&list));
}

static void unlinking_what_is_on_no_list_does_nothing(void **state)
{
    (void)state;
    evpq__node_unlink(&a.node);
    assert_false(evpq__node_linked(&a.node));
    evpq__list_push_back(&list, &a.node);
    evpq__node_unlink(&a.node);
    evpq__node_unlink(&a.node);
    assert_true(evpq__list_empty(&list));
}

static void popping_takes_the_first_until_none_is_left(void **state)
{
    (void)state;
    evpq__list_push_back(&list, &a.node);
    evpq__list_push_back(&list, &b.node);
    assert_ptr_equal(evpq__list_pop_front(&list), &a.node);
    assert_false(evpq__node_linked(&a.node));
    assert_ptr_equal(evpq__list_pop_front(&list), &b.node);
    assert_null(evpq__list_pop_front(&list));
}

static void a_node_that_left_may_join_again(void **state)
{
    (void)state;
    evpq__list_push_back(&list, &a.node);
    evpq__list_push_back(&list, &b.node);
    evpq__node_unlink(&a.node);
    evpq__list_push_back(&list, &a.node);
    ASSERT_LIST(&b, &a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_new_list_is_empty, fresh),
        cmocka_unit_test_setup(a_node_knows_its_object, fresh),
        cmocka_unit_test_setup(pushing_keeps_the_order_of_the_calls, fresh),
        cmocka_unit_test_setup(a_node_goes_behind_the_one_it_is_told, fresh),
        cmocka_unit_test_setup(unlinking_takes_it_from_anywhere, fresh),
        cmocka_unit_test_setup(unlinking_what_is_on_no_list_does_nothing, fresh),
        cmocka_unit_test_setup(popping_takes_the_first_until_none_is_left, fresh),
        cmocka_unit_test_setup(a_node_that_left_may_join_again, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
