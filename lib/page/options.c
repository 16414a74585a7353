/* SPDX-License-Identifier: MIT */
#include "page/options.h"

#include "pg/statement.h"

enum {
    MAX_PAGE_SIZE = 10000,
    MAX_PARAMS = 65519, /* leaves room for those of a page */
};

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
    setup->keyset = (struct evpq__keyset){0};
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
    return NULL;
}

int evpq__pager_setup_read(struct evpq__pager_setup *out, const evpq_pager_options *options,
                           const char **problem)
{
    evpq_pager_options *o = &out->options;
    *problem = evpq__options_read(o, sizeof(*o), options);
    if (!*problem)
        *problem = read_fields(out);
    if (*problem)
        return EVPQ_EINVALID;
    if (!evpq__walk_init(&out->walk, o->sql, out->sql_length, &out->keyset, o->params,
                         o->params_count))
        return EVPQ_ENOMEM;
    if (!o->after)
        return EVPQ_OK;
    int code = evpq__token_decode(&out->token, &out->walk, o->after);
    if (code == EVPQ_EINVALID)
        *problem = EVPQ_TOKEN_PROBLEM;
    return code;
}

const char *evpq_pager_options_problem(const evpq_pager_options *options)
{
    struct evpq__pager_setup setup;
    const char *problem;
    int code = evpq__pager_setup_read(&setup, options, &problem);
    return code == EVPQ_ENOMEM ? evpq_code_text(code) : problem;
}
