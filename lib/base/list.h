/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_LIST_H
#define EVPQ_LIB_BASE_LIST_H

/*
 * An intrusive list: the node lives in the object, so that joining never
 * allocates and leaving is O(1) without knowing the list. A node that is on no
 * list points at itself.
 */

#include <stdbool.h>
#include <stddef.h>

struct evpq__node {
    struct evpq__node *prev, *next;
};

struct evpq__list {
    struct evpq__node head;
};

/* The object of which `node` is the member `member`. */
#define evpq__container_of(node, type, member)                                                     \
    ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void evpq__node_init(struct evpq__node *node)
{
    node->prev = node->next = node;
}

static inline void evpq__list_init(struct evpq__list *list)
{
    evpq__node_init(&list->head);
}

static inline bool evpq__node_linked(const struct evpq__node *node)
{
    return node->next != node;
}

static inline bool evpq__list_empty(const struct evpq__list *list)
{
    return !evpq__node_linked(&list->head);
}

static inline void evpq__node_insert_after(struct evpq__node *where, struct evpq__node *node)
{
    node->prev = where;
    node->next = where->next;
    where->next->prev = node;
    where->next = node;
}

static inline void evpq__list_push_back(struct evpq__list *list, struct evpq__node *node)
{
    evpq__node_insert_after(list->head.prev, node);
}

static inline void evpq__list_push_front(struct evpq__list *list, struct evpq__node *node)
{
    evpq__node_insert_after(&list->head, node);
}

static inline void evpq__node_unlink(struct evpq__node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    evpq__node_init(node);
}

/* All of `from` moves to `list`, which is empty. */
static inline void evpq__list_take(struct evpq__list *list, struct evpq__list *from)
{
    evpq__node_insert_after(&from->head, &list->head);
    evpq__node_unlink(&from->head);
}

/* The first node, NULL when the list is empty. */
static inline struct evpq__node *evpq__list_first(const struct evpq__list *list)
{
    return evpq__list_empty(list) ? NULL : list->head.next;
}

/* The node behind `node`, NULL at the end. */
static inline struct evpq__node *evpq__list_next(const struct evpq__list *list,
                                                 const struct evpq__node *node)
{
    return node->next == &list->head ? NULL : node->next;
}

static inline struct evpq__node *evpq__list_pop_front(struct evpq__list *list)
{
    struct evpq__node *first = evpq__list_first(list);
    if (first)
        evpq__node_unlink(first);
    return first;
}

#endif /* EVPQ_LIB_BASE_LIST_H */
