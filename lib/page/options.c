/* SPDX-License-Identifier: MIT */
#include "page/options.h"

#include <time.h>

#include "base/mem.h"
#include "page/lex.h"
#include "pg/statement.h"

enum {
    MAX_PAGE_SIZE = 10000,
    MAX_PARAMS = 65519, /* leaves room for those of a page */
    MAX_SECRETS = 16,
    MIN_SECRET = 16, /* bytes */
    MAX_SECRET = 1024,
};

static const char *secrets_problem(const evpq_pager_options *o)
{
    if (o->secrets_count > MAX_SECRETS)
        return "more than 16 secrets";
    if (o->secrets_count > 0 && !o->secrets)
        return "secrets_count without secrets";
    for (size_t i = 0; i < o->secrets_count; i++) {
        const evpq_secret *s = &o->secrets[i];
        if (!s->bytes || s->length < MIN_SECRET || s->length > MAX_SECRET)
            return "a secret has fewer than 16 or more than 1,024 bytes";
        for (size_t j = 0; j < i; j++)
            if (o->secrets[j].id == s->id)
                return "two secrets have the same id";
    }
    return NULL;
}

/* With the default filled in. */
static const char *mode_problem(struct evpq__pager_setup *setup)
{
    evpq_pager_options *o = &setup->options;
    if ((unsigned)o->mode > EVPQ_PAGES_CURSOR)
        return "mode is none of evpq_page_mode";
    if (o->mode == EVPQ_PAGES_DEFAULT)
        o->mode = setup->keyset.count ? EVPQ_PAGES_KEYSET : EVPQ_PAGES_OFFSET;
    if (o->mode == EVPQ_PAGES_KEYSET) {
        if (setup->keyset.count == 0)
            return "keyset pages need order_by";
        return o->after && o->before ? "after and before are both set" : NULL;
    }
    if (o->require_index)
        return "require_index is for keyset pages";
    if (o->until)
        return "until is for keyset pages";
    if (o->mode == EVPQ_PAGES_CURSOR && (o->after || o->before))
        return "cursor pages have no tokens to resume from";
    if (o->mode == EVPQ_PAGES_CURSOR && o->prefetch_bytes > 0)
        return "cursor pages are not fetched ahead";
    return o->after && o->before ? "after and before are both set" : NULL;
}

/* Fills in defaults, too. */
static const char *read_fields(struct evpq__pager_setup *setup)
{
    evpq_pager_options *o = &setup->options;
    setup->sql_length = o->sql ? evpq__statement_length(o->sql) : 0;
    if (setup->sql_length == 0)
        return "sql is NULL or empty";
    if (o->params_count > MAX_PARAMS)
        return "more than 65,519 parameters";
    const char *problem = evpq__params_problem(o->params, o->params_count);
    if (problem)
        return problem;
    problem = o->order_by ? evpq__keyset_parse(&setup->keyset, o->order_by) : NULL;
    if (problem)
        return problem;
    if (o->page_size > MAX_PAGE_SIZE)
        return "page_size is over 10,000";
    if (o->page_size == 0)
        o->page_size = 100;
    if ((unsigned)o->format > EVPQ_TEXT)
        return "format is none of evpq_format";
    if (o->format == EVPQ_FORMAT_DEFAULT)
        o->format = EVPQ_TEXT;
    problem = mode_problem(setup);
    if (!problem && o->mode != EVPQ_PAGES_CURSOR && evpq__statement_locks(o->sql))
        return "a statement with FOR UPDATE or FOR SHARE may lock all its rows for one page";
    return problem ? problem : secrets_problem(o);
}

/* EVPQ_EINVALID, and *problem says why; EVPQ_ENOMEM. */
static int read_columns(struct evpq__pager_setup *out, const char **problem)
{
    size_t size = evpq__columns_size(out->options.columns);
    out->columns = evpq__alloc(size);
    if (!out->columns)
        return EVPQ_ENOMEM;
    *problem = evpq__columns_parse(out->columns, size, &out->keyset, out->options.columns);
    if (out->options.mode != EVPQ_PAGES_KEYSET)
        for (size_t i = 0; i < out->keyset.count; i++)
            out->keyset.keys[i].hidden = false; /* they are ordered by, and not looked at */
    return *problem ? EVPQ_EINVALID : EVPQ_OK;
}

/* Nothing to do for NULL. */
static int read_token(struct evpq__token *out, const struct evpq__pager_setup *setup,
                      const char *token, bool before)
{
    return token ? evpq__token_decode(out, &setup->walk, token, before, time(NULL)) : EVPQ_OK;
}

int evpq__pager_setup_read(struct evpq__pager_setup *out, const evpq_pager_options *options,
                           const char **problem)
{
    evpq_pager_options *o = &out->options;
    out->columns = NULL;
    out->keyset = (struct evpq__keyset){0};
    *problem = evpq__options_read(o, sizeof(*o), options);
    if (!*problem)
        *problem = read_fields(out);
    if (*problem)
        return EVPQ_EINVALID;
    int code = read_columns(out, problem);
    if (code != EVPQ_OK)
        return code;
    if (!evpq__walk_init(&out->walk, o->sql, out->sql_length, &out->keyset, o->params,
                         o->params_count))
        return EVPQ_ENOMEM;
    out->walk.secrets = o->secrets;
    out->walk.secrets_count = o->secrets_count;
    out->walk.ttl_s = o->token_ttl_s;
    if (o->mode != EVPQ_PAGES_KEYSET)
        out->walk.columns = 0;
    code = read_token(&out->token, out, o->after ? o->after : o->before, o->before != NULL);
    if (code == EVPQ_OK)
        code = read_token(&out->until, out, o->until, false);
    if (code == EVPQ_EINVALID)
        *problem = EVPQ_TOKEN_PROBLEM;
    return code;
}

const char *evpq_pager_options_problem(const evpq_pager_options *options)
{
    struct evpq__pager_setup setup;
    const char *problem;
    int code = evpq__pager_setup_read(&setup, options, &problem);
    evpq__free(setup.columns);
    return code == EVPQ_ENOMEM ? evpq_code_text(code) : problem;
}
