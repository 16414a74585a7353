/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIMITER_H
#define EVPQ_LIMITER_H

/**
 * @file
 * Rate limiters
 * =============
 *
 * At most `limit` permits in *any* window of length `window_ms`, wherever it
 * begins: a sliding window, not a token bucket, which lets almost twice as many
 * in, and not a counter that starts again at each full minute. It knows nothing
 * of databases and guards anything on the loop.
 *
 * evpq_limiter_try() answers now; evpq_limiter_wait() is an operation, with a
 * deadline, that can be cancelled. Waiters are served strictly in the order of
 * their calls and nobody overtakes, a try neither: who asks for many permits
 * holds up those behind, and is never starved. A wait that cannot be served by
 * its deadline is refused by the call, with EVPQ_ELIMITED.
 *
 * A permit counts from the moment at which it is told: when try returns, or when
 * the callback of a wait begins. There is nothing to give back.
 *
 *     evpq_limiter_open(&limiter, loop,
 *                       EVPQ_LIMITER_OPTIONS(.limit = 100, .window_ms = 60000));
 *     evpq_limiter_wait(NULL, limiter, 1, 5000, on_my_turn, me);
 *
 * Exact and compact
 * -----------------
 *
 * By default the limiter remembers the moment of each permit of the window: 8
 * bytes each, exact, and never refuses what the rule allows. With `buckets` it
 * counts in that many equal parts of the window, 4 bytes each, whatever the
 * limit. It never admits more than `limit` in any window either, but a permit may
 * come free late, by one part of the window at most: it refuses only when
 * `limit` were admitted within the last window_ms * (1 + 1 / buckets).
 *
 * A limiter belongs to one loop and to its thread. While nobody waits it does not
 * keep ev_run() running.
 */

#include <evpq/op.h>

EVPQ_BEGIN_DECLS

struct ev_loop;

/** A rate limiter. Yours from evpq_limiter_open() until evpq_limiter_close(). */
typedef struct evpq_limiter evpq_limiter;

/** How a limiter is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_limiter_options {
    /** sizeof(evpq_limiter_options); EVPQ_LIMITER_OPTIONS() sets it. */
    size_t size;
    /** Permits in any window. Must be set; at most 16,777,216, with buckets 1,000,000,000. */
    uint32_t limit;
    /** The length of a window. Must be set; not EVPQ_NEVER. */
    uint32_t window_ms;
    /** Parts of the window to count in, 1 to 1,000; 0: each permit by itself, exact. */
    uint32_t buckets;
    /** Operations that may wait; more are EVPQ_EOVERLOADED. Default 10,000. */
    uint32_t max_waiters;
} evpq_limiter_options;

/** Options in place: EVPQ_LIMITER_OPTIONS(.limit = 100, .window_ms = 60000). C only. */
#define EVPQ_LIMITER_OPTIONS(...)                                                                  \
    (&(const evpq_limiter_options){.size = sizeof(evpq_limiter_options), __VA_ARGS__})

/** What a limiter has and has done, at one moment. */
typedef struct evpq_limiter_stats {
    size_t size;    /**< sizeof(evpq_limiter_stats), set by the caller */
    uint32_t limit; /**< as set last */
    uint32_t window_ms;
    uint32_t used;           /**< permits that count in the window that ends now */
    uint32_t waiting;        /**< operations that wait */
    uint32_t retry_after_ms; /**< until one permit could be had, behind all who wait; rounded up */
    uint64_t admitted;       /**< tries and waits that got their permits, ever */
    uint64_t refused;        /**< refused with EVPQ_ELIMITED or EVPQ_EOVERLOADED */
    uint64_t timeouts;       /**< waits that ended with EVPQ_ETIMEOUT */
    uint64_t canceled;       /**< waits that ended with EVPQ_ECANCELED */
} evpq_limiter_stats;

/**
 * Say what is wrong with options: the reason why evpq_limiter_open() answers EVPQ_EINVALID.
 *
 * @return NULL when nothing is wrong; else a static text
 */
EVPQ_API const char *evpq_limiter_options_problem(const evpq_limiter_options *options);

/**
 * Open a limiter.
 *
 * @param[out] out      the limiter; yours until evpq_limiter_close()
 * @param      loop     the loop its callbacks come from; must outlive what waits
 * @param      options  limit and window_ms must be set
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_limiter_options_problem()); EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_limiter_open(evpq_limiter **out, struct ev_loop *loop,
                                               const evpq_limiter_options *options);

/**
 * Take permits now, or not at all.
 *
 * @param      limiter         the limiter
 * @param      weight          permits; 1 to the limit
 * @param[out] retry_after_ms  with EVPQ_ELIMITED: until they could be had, behind all who wait;
 * rounded up, and EVPQ_NEVER when it is longer than that can say. With weights above 1 it may take
 * longer. NULL is allowed
 *
 * @return EVPQ_OK: they are taken; EVPQ_ELIMITED; EVPQ_EINVALID for a weight of 0 or over the limit
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_limiter_try(evpq_limiter *limiter, uint32_t weight,
                                              uint32_t *retry_after_ms);

/**
 * Wait for permits.
 *
 * Cancelled, it leaves its place to those behind; the callback comes with EVPQ_ECANCELED. When a
 * wait of mixed weights turns out not to be served by its deadline, it ends there, with
 * EVPQ_ETIMEOUT: permits lie idle while those for a heavier one gather, and the call cannot foresee
 * how long. Where all weights are 1, the call foresees exactly.
 *
 * @param[out] out          a handle to cancel with; may be NULL
 * @param      limiter      the limiter
 * @param      weight       permits; 1 to the limit
 * @param      timeout_ms   from the call to the callback; 0: 30 s; EVPQ_NEVER: no deadline
 * @param      on_admitted  runs once, from the loop, unless this call fails; err == NULL: they are
 * taken
 * @param      user         passed to on_admitted as it is
 *
 * @return EVPQ_OK; EVPQ_ELIMITED when it cannot be served in time: nothing is taken; EVPQ_EINVALID
 * for a weight of 0 or over the limit; EVPQ_EOVERLOADED when max_waiters are waiting; EVPQ_ENOMEM.
 * Everything else reaches on_admitted: EVPQ_ETIMEOUT, EVPQ_ECANCELED, EVPQ_ECLOSED; and, after
 * evpq_limiter_set_limit(), EVPQ_ELIMITED and EVPQ_EINVALID as above.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_limiter_wait(evpq_op **out, evpq_limiter *limiter,
                                               uint32_t weight, uint32_t timeout_ms,
                                               evpq_done_fn *on_admitted, void *user);

/**
 * Set another limit, another window, or both.
 *
 * What was admitted before counts as far as it is remembered: the last `limit` permits of the old
 * limit. Waiters keep their places; who cannot be served in time any more is told so, and who asks
 * for more than the new limit gets EVPQ_EINVALID.
 *
 * @return EVPQ_OK; EVPQ_EINVALID, as in evpq_limiter_open(); EVPQ_ENOMEM. Then all is as it was
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_limiter_set_limit(evpq_limiter *limiter, uint32_t limit,
                                                    uint32_t window_ms);

/** Fill in *stats, whose size the caller has set: a smaller one, of an older program, gets what it
 * has room for. EVPQ_EINVALID for NULL or a larger size. */
EVPQ_API EVPQ_MUST_CHECK int evpq_limiter_stats_get(evpq_limiter *limiter,
                                                    evpq_limiter_stats *stats);

/**
 * Close a limiter. Who waits calls back with EVPQ_ECLOSED, who has been admitted and not told yet
 * with success. The handle is gone at once; from any callback. NULL is allowed.
 */
EVPQ_API void evpq_limiter_close(evpq_limiter *limiter);

/**
 * One limit for each key
 * ----------------------
 *
 * For each key (a tenant, an address) a limiter of its own, made when the key is
 * first seen and dropped, the longest unused first, when max_keys are known. Only
 * a key whose window is empty is dropped: nobody gets more by asking under many
 * names. So when all of them are in use, a new key is EVPQ_EOVERLOADED.
 */

/** Limiters by key. Yours from evpq_keyed_limiter_open() until evpq_keyed_limiter_close(). */
typedef struct evpq_keyed_limiter evpq_keyed_limiter;

/** How they are to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_keyed_limiter_options {
    /** sizeof(evpq_keyed_limiter_options); EVPQ_KEYED_LIMITER_OPTIONS() sets it. */
    size_t size;
    /** As in evpq_limiter_options, for each key: a key takes 8 bytes for each permit. */
    uint32_t limit;
    /** As in evpq_limiter_options. */
    uint32_t window_ms;
    /** As in evpq_limiter_options; a key takes 4 bytes for each bucket then. */
    uint32_t buckets;
    /** As in evpq_limiter_options, for each key. Default 1,000. */
    uint32_t max_waiters;
    /** Keys that are remembered. Default 10,000; at most 10,000,000. */
    uint32_t max_keys;
} evpq_keyed_limiter_options;

/** Options in place. C only. */
#define EVPQ_KEYED_LIMITER_OPTIONS(...)                                                            \
    (&(const evpq_keyed_limiter_options){.size = sizeof(evpq_keyed_limiter_options), __VA_ARGS__})

/** What they have and have done, at one moment. */
typedef struct evpq_keyed_limiter_stats {
    size_t size;      /**< sizeof(evpq_keyed_limiter_stats), set by the caller */
    uint32_t keys;    /**< that are remembered */
    uint64_t evicted; /**< keys dropped to make room, ever */
    uint64_t refused; /**< calls for new keys that found no room */
} evpq_keyed_limiter_stats;

/** As evpq_limiter_options_problem(). */
EVPQ_API const char *evpq_keyed_limiter_options_problem(const evpq_keyed_limiter_options *options);

/** As evpq_limiter_open(). */
EVPQ_API EVPQ_MUST_CHECK int evpq_keyed_limiter_open(evpq_keyed_limiter **out, struct ev_loop *loop,
                                                     const evpq_keyed_limiter_options *options);

/**
 * As evpq_limiter_try(), for one key.
 *
 * @param key         copied; any bytes
 * @param key_length  1 to 1,024
 *
 * @return as evpq_limiter_try(), and EVPQ_ENOMEM; EVPQ_EOVERLOADED when there is no room for
 * another key
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_keyed_limiter_try(evpq_keyed_limiter *keyed, const void *key,
                                                    size_t key_length, uint32_t weight,
                                                    uint32_t *retry_after_ms);

/** As evpq_limiter_wait(), for one key; EVPQ_EOVERLOADED also when there is no room for another. */
EVPQ_API EVPQ_MUST_CHECK int evpq_keyed_limiter_wait(evpq_op **out, evpq_keyed_limiter *keyed,
                                                     const void *key, size_t key_length,
                                                     uint32_t weight, uint32_t timeout_ms,
                                                     evpq_done_fn *on_admitted, void *user);

/** As evpq_limiter_stats_get(), of all keys together. */
EVPQ_API EVPQ_MUST_CHECK int evpq_keyed_limiter_stats_get(const evpq_keyed_limiter *keyed,
                                                          evpq_keyed_limiter_stats *stats);

/** As evpq_limiter_close(), for all keys. */
EVPQ_API void evpq_keyed_limiter_close(evpq_keyed_limiter *keyed);

EVPQ_END_DECLS

#endif /* EVPQ_LIMITER_H */
