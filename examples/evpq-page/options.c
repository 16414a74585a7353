/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "progress.h"
#include "screen.h"
#include "token_file.h"

#define MAX_PAGE_SIZE      10000
#define MAX_JOBS           64
#define DEFAULT_TIMEOUT_MS 30000

#define DEFAULT_PAGE_SIZE     100
#define DEFAULT_JOB_PAGE_SIZE 1000

enum {
    ORDER_BY = 256,
    COLUMNS,
    PARAM,
    ASSUME_UNIQUE,
    REQUIRE_INDEX,
    MODE,
    TIMEOUT,
    DEADLINE,
    PREFETCH,
    JOBS,
    RATE,
    AFTER,
    LAST,
    BEFORE,
    TOKEN_OUT,
    SECRET_FILE,
    NULL_TEXT,
    COLOR,
    COUNT,
    EXPLAIN,
    PROGRESS,
    STATS,
    HELP,
    VERSION
};

static const struct option names[] = {
    {"dbname", required_argument, NULL, 'd'},
    {"order-by", required_argument, NULL, ORDER_BY},
    {"columns", required_argument, NULL, COLUMNS},
    {"param", required_argument, NULL, PARAM},
    {"assume-unique", no_argument, NULL, ASSUME_UNIQUE},
    {"require-index", no_argument, NULL, REQUIRE_INDEX},
    {"page-size", required_argument, NULL, 'n'},
    {"pages", required_argument, NULL, 'p'},
    {"mode", required_argument, NULL, MODE},
    {"timeout", required_argument, NULL, TIMEOUT},
    {"deadline", required_argument, NULL, DEADLINE},
    {"prefetch", no_argument, NULL, PREFETCH},
    {"jobs", required_argument, NULL, JOBS},
    {"rate", required_argument, NULL, RATE},
    {"after", required_argument, NULL, AFTER},
    {"last", no_argument, NULL, LAST},
    {"before", required_argument, NULL, BEFORE},
    {"token-out", required_argument, NULL, TOKEN_OUT},
    {"secret-file", required_argument, NULL, SECRET_FILE},
    {"format", required_argument, NULL, 'f'},
    {"null", required_argument, NULL, NULL_TEXT},
    {"color", required_argument, NULL, COLOR},
    {"count", required_argument, NULL, COUNT},
    {"explain", optional_argument, NULL, EXPLAIN},
    {"progress", no_argument, NULL, PROGRESS},
    {"stats", no_argument, NULL, STATS},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {NULL, 0, NULL, 0},
};

static const char *const formats[] = {"table", "csv", "tsv", "ndjson", "json", NULL};
static output_fn *const outputs[] = {output_table, output_csv, output_tsv, output_ndjson,
                                     output_json};
static const char *const modes[] = {[EVPQ_PAGES_DEFAULT] = "default",
                                    [EVPQ_PAGES_KEYSET] = "keyset",
                                    [EVPQ_PAGES_OFFSET] = "offset",
                                    [EVPQ_PAGES_CURSOR] = "cursor",
                                    NULL};
static const char *const colors[] = {"auto", "always", "never", NULL};

static int usage(const char *problem)
{
    say("%s\nTry 'evpq-page --help'.", problem);
    return END_USAGE;
}

/* getopt has said what it does not know. */
static int unknown(const char *word)
{
    char end = word[strcspn(word, "= \t\n")];
    bool comment = optopt == 0 && strncmp(word, "--", 2) == 0 && end && end != '=';
    if (comment)
        say("an SQL that begins with a comment comes behind --, as in: evpq-page -- SQL");
    fputs("Try 'evpq-page --help'.\n", stderr);
    return END_USAGE;
}

static int printed(void)
{
    return fflush(stdout) == 0 ? END_COMPLETE : END_USAGE;
}

static bool add_param(struct options *options, const char *text)
{
    evpq_value *more =
        realloc(options->params, (options->params_count + 1) * sizeof *options->params);
    if (!more)
        return false;
    options->params = more;
    options->params[options->params_count++] = evpq_untyped(text);
    return true;
}

static const char *add_secret(struct options *options, const char *path)
{
    const size_t most = sizeof options->secrets / sizeof *options->secrets;
    if (options->secrets_count == most)
        return "--secret-file can be given 16 times";
    evpq_secret *secret = &options->secrets[options->secrets_count];
    const char *problem = read_secret(path, secret);
    if (problem)
        return problem;
    options->secrets_count++;
    for (const evpq_secret *other = options->secrets; other < secret; other++)
        if (other->id == secret->id)
            return "--secret-file: two secrets cannot be told apart, take another one";
    return NULL;
}

/* What an option takes, put into its place. NULL, or what is wrong with it. */
static const char *option_read(struct options *options, int option, const char *text)
{
    uint64_t number = 0;
    unsigned index = 0;
    switch (option) {
    case 'd':
        free(options->conninfo);
        options->conninfo = read_conninfo(text);
        return options->conninfo ? NULL : "out of memory";
    case 'n':
        if (!read_count(text, MAX_PAGE_SIZE, &number))
            return "--page-size takes a number from 1 to 10000";
        options->page_size = (uint32_t)number;
        return NULL;
    case 'p':
        if (!read_count(text, UINT32_MAX, &number))
            return "--pages takes a number from 1 on";
        options->pages = (uint32_t)number;
        return NULL;
    case JOBS:
        if (!read_count(text, MAX_JOBS, &number))
            return "--jobs takes a number from 1 to 64";
        options->jobs = (uint32_t)number;
        return NULL;
    case RATE:
        return read_rate(text, &options->rate, &options->rate_ms)
                   ? NULL
                   : "--rate takes a number of pages and a duration, as 100/60s";
    case 'f':
        if (!read_word(text, formats, &index))
            return "--format takes table, csv, tsv, ndjson or json";
        options->output = outputs[index];
        options->format = formats[index];
        return NULL;
    case MODE:
        if (!read_word(text, modes, &index) || index == EVPQ_PAGES_DEFAULT)
            return "--mode takes keyset, offset or cursor";
        options->mode = (evpq_page_mode)index;
        return NULL;
    case COLOR:
        if (!read_word(text, colors, &index))
            return "--color takes auto, always or never";
        options->color_when = (enum color)index;
        return NULL;
    case COUNT:
        return read_counting(text, &options->count, &options->count_bound)
                   ? NULL
                   : "--count takes none, estimate, exact, bounded or bounded:N";
    case EXPLAIN:
        if (text && strcmp(text, "analyze") != 0)
            return "--explain takes nothing, or =analyze";
        options->explain = text ? EXPLAIN_ANALYZE : EXPLAIN_PLAN;
        return NULL;
    case PARAM:
        return add_param(options, text) ? NULL : "out of memory";
    case TIMEOUT:
        return read_duration(text, &options->timeout_ms)
                   ? NULL
                   : "--timeout takes a duration as 500ms, 1.5s, 2min or 1h";
    case DEADLINE:
        return read_duration(text, &options->deadline_ms)
                   ? NULL
                   : "--deadline takes a duration as 500ms, 1.5s, 2min or 1h";
    case SECRET_FILE:
        return add_secret(options, text);
    default:
        break;
    }

    switch (option) {
    case ORDER_BY:
        options->order_by = text;
        break;
    case COLUMNS:
        options->columns = text;
        break;
    case AFTER:
        options->after = text;
        break;
    case BEFORE:
        options->before = text;
        break;
    case TOKEN_OUT:
        options->token_out = text;
        break;
    case NULL_TEXT:
        options->null = text;
        break;
    case LAST:
        options->last = true;
        break;
    case ASSUME_UNIQUE:
        options->assume_unique = true;
        break;
    case REQUIRE_INDEX:
        options->require_index = true;
        break;
    case PREFETCH:
        options->prefetch = true;
        break;
    case PROGRESS:
        options->progress = true;
        break;
    case STATS:
        options->stats = true;
        break;
    default:
        break;
    }
    return NULL;
}

/* A token in the place of "@FILE". False: said. */
static bool token_from_file(struct options *options, const char **token)
{
    if (!*token || **token != '@')
        return true;
    options->token = token_file_read(*token + 1, options->format, &options->continued);
    *token = options->token;
    return options->token != NULL;
}

static bool has_terminal(void)
{
    const char *term = getenv("TERM");
    return term && *term && strcmp(term, "dumb") != 0 && isatty(STDOUT_FILENO);
}

static int options_settle(struct options *options, int argc, char **argv)
{
    if (optind == argc)
        return usage("SQL is missing");
    if (optind + 1 < argc)
        return usage("there is more than one argument: put the SQL in quotes");
    options->sql = argv[optind];
    if (!options->sql[strspn(options->sql, " \t\n\v\f\r;")])
        return usage("SQL is empty");
    const char *problem = options_problem(options);
    if (problem)
        return usage(problem);
    if (!token_from_file(options, &options->after) || !token_from_file(options, &options->before))
        return END_USAGE;

    const char *no_color = getenv("NO_COLOR");
    options->color =
        options->color_when == COLOR_ALWAYS ||
        (options->color_when == COLOR_AUTO && has_terminal() && !(no_color && *no_color));
    options->interactive = options->output == output_table && has_terminal() &&
                           isatty(STDIN_FILENO) && !options->pages && !options->jobs &&
                           !options->rate && !options->token_out && !options->explain &&
                           !options->progress;
    if (options->page_size == 0 && !options->interactive)
        options->page_size = options->jobs ? DEFAULT_JOB_PAGE_SIZE : DEFAULT_PAGE_SIZE;
    options->progress = options->progress || progress_wanted();
    return -1;
}

int options_read(struct options *options, int argc, char **argv)
{
    *options = (struct options){
        .timeout_ms = DEFAULT_TIMEOUT_MS, .output = outputs[0], .format = formats[0]};
    static char name[] = "evpq-page";
    argv[0] = name; /* getopt's messages begin with it */

    int option;
    while ((option = getopt_long(argc, argv, "d:n:p:f:", names, NULL)) != -1) {
        if (option == HELP) {
            fputs(help, stdout);
            return printed();
        }
        if (option == VERSION) {
            printf("evpq-page %s\n", evpq_version());
            return printed();
        }
        if (option == '?') {
            return unknown(argv[optind - 1]);
        }
        const char *problem = option_read(options, option, optarg);
        if (problem)
            return usage(problem);
    }
    return options_settle(options, argc, argv);
}

void options_done(struct options *options)
{
    free(options->conninfo);
    free(options->params);
    free(options->token);
    for (size_t i = 0; i < options->secrets_count; i++) {
        explicit_bzero((void *)options->secrets[i].bytes, options->secrets[i].length);
        free((void *)options->secrets[i].bytes);
    }
}
