/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"
#include "screen.h"

#define MAX_PAGE_SIZE      10000
#define DEFAULT_PAGE_SIZE  100
#define DEFAULT_TIMEOUT_MS 30000

static const char help[] =
    "Usage: evpq-page [OPTIONS] SQL\n"
    "\n"
    "Run one SELECT on PostgreSQL and write its rows page by page. Each page is a\n"
    "query of its own with its own deadline, and a token resumes behind any page.\n"
    "\n"
    "  -d, --dbname CONNINFO   connection string, URI or name of a database;\n"
    "                          default: libpq's environment (PGHOST, PGSERVICE, ...)\n"
    "      --order-by ORDER    \"ts DESC, lower(name), id\": unique together, best with\n"
    "                          an index; without it: offset pages, for small results\n"
    "      --columns COLUMNS   \"a, b\": write only these\n"
    "      --param VALUE       what $1 stands for; again for $2, and so on\n"
    "  -n, --page-size N       rows of a page, 1 to 10000; default 100\n"
    "  -p, --pages N           end after N pages; default: all\n"
    "      --timeout DURATION  of each page: 500ms, 2s, 1min; default 30s\n"
    "      --deadline DURATION of the whole walk; default: none\n"
    "  -f, --format FORMAT     table, csv (as psql --csv), tsv (as COPY), ndjson or\n"
    "                          json; default table\n"
    "      --null TEXT         write TEXT for NULL; not in JSON, which has its own\n"
    "      --after TOKEN       resume behind the page that gave this token\n"
    "      --last              walk backward from the last page, page by page\n"
    "      --before TOKEN      walk backward from there; --last prints such tokens\n"
    "      --secret-file FILE  sign tokens with what is in FILE, and take no others\n"
    "      --progress          show progress on stderr; default: when stderr is a\n"
    "                          terminal and the rows go elsewhere\n"
    "      --help              show this\n"
    "      --version           show the version\n"
    "\n"
    "Rows go to stdout, everything else to stderr.\n"
    "\n"
    "Exit status: 0 complete, or --pages reached; 1 usage and other errors;\n"
    "2 connection; 3 SQL error; 4 deadline; 5 token not valid; 130 interrupted, 143\n"
    "terminated, each with a token to resume; 141 stdout was closed.\n";

static const struct format {
    const char *name;
    output_fn *output;
} formats[] = {{"table", output_table},
               {"csv", output_csv},
               {"tsv", output_tsv},
               {"ndjson", output_ndjson},
               {"json", output_json}};

/* Digits at the start of text, up to `limit`; *rest is what follows. False for anything else. */
static bool read_number(const char *text, uint64_t limit, uint64_t *number, const char **rest)
{
    size_t digits = strspn(text, "0123456789");
    *number = 0;
    *rest = text + digits;
    for (size_t i = 0; i < digits; i++) {
        *number = *number * 10 + (uint64_t)(text[i] - '0');
        if (*number > limit)
            return false;
    }
    return digits > 0;
}

static bool read_count(const char *text, uint32_t limit, uint32_t *count)
{
    uint64_t number;
    const char *rest;
    if (!read_number(text, limit, &number, &rest) || *rest || number == 0)
        return false;
    *count = (uint32_t)number;
    return true;
}

static bool read_duration(const char *text, uint32_t *ms)
{
    static const struct unit {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}};
    const uint64_t limit = EVPQ_NEVER - 1;

    uint64_t number;
    const char *rest;
    if (!read_number(text, limit, &number, &rest) || number == 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(rest, units[i].name) == 0 && number <= limit / units[i].ms) {
            *ms = (uint32_t)(number * units[i].ms);
            return true;
        }
    }
    return false;
}

static bool read_format(const char *text, output_fn **output)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(text, formats[i].name) == 0) {
            *output = formats[i].output;
            return true;
        }
    }
    return false;
}

/* As psql and libpq do: what is no connection string is the name of a database. */
static char *read_conninfo(const char *text)
{
    if (strchr(text, '=') || strncmp(text, "postgresql://", 13) == 0 ||
        strncmp(text, "postgres://", 11) == 0)
        return strdup(text);

    static const char key[] = "dbname='";
    char *conninfo = malloc(sizeof key + 2 * strlen(text) + 2);
    if (!conninfo)
        return NULL;
    char *end = stpcpy(conninfo, key);
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            *end++ = '\\';
        *end++ = *text;
    }
    strcpy(end, "'");
    return conninfo;
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

/* The bytes of a file, without a line feed at its end. */
static bool read_secret(const char *path, evpq_secret *secret)
{
    enum { MOST = 1024 };
    FILE *file = fopen(path, "r");
    char *bytes = file ? malloc(MOST + 2) : NULL;
    size_t length = bytes ? fread(bytes, 1, MOST + 2, file) : 0;
    if (file)
        fclose(file);
    if (length > 0 && bytes[length - 1] == '\n')
        length--;
    *secret = (evpq_secret){.id = 1, .bytes = bytes, .length = length};
    return length >= 16 && length <= MOST;
}

static int usage(const char *problem)
{
    say("%s\nTry 'evpq-page --help'.", problem);
    return END_USAGE;
}

static int printed(void)
{
    return fflush(stdout) == 0 ? END_COMPLETE : END_USAGE;
}

static int options_read_sql(struct options *options, int argc, char **argv)
{
    if (optind == argc)
        return usage("SQL is missing");
    if (optind + 1 < argc)
        return usage("there is more than one argument: put the SQL in quotes");
    options->sql = argv[optind];
    if (options->last && !options->order_by)
        return usage("--last needs --order-by");
    if (options->last + (options->after != NULL) + (options->before != NULL) > 1)
        return usage("--after, --before and --last exclude each other");
    return -1;
}

int options_read(struct options *options, int argc, char **argv)
{
    enum {
        ORDER_BY = 256,
        COLUMNS,
        PARAM,
        TIMEOUT,
        DEADLINE,
        NULL_TEXT,
        AFTER,
        BEFORE,
        LAST,
        SECRET_FILE,
        PROGRESS,
        HELP,
        VERSION
    };
    static const struct option names[] = {
        {"dbname", required_argument, NULL, 'd'},
        {"order-by", required_argument, NULL, ORDER_BY},
        {"page-size", required_argument, NULL, 'n'},
        {"pages", required_argument, NULL, 'p'},
        {"columns", required_argument, NULL, COLUMNS},
        {"param", required_argument, NULL, PARAM},
        {"timeout", required_argument, NULL, TIMEOUT},
        {"deadline", required_argument, NULL, DEADLINE},
        {"null", required_argument, NULL, NULL_TEXT},
        {"before", required_argument, NULL, BEFORE},
        {"last", no_argument, NULL, LAST},
        {"secret-file", required_argument, NULL, SECRET_FILE},
        {"format", required_argument, NULL, 'f'},
        {"after", required_argument, NULL, AFTER},
        {"progress", no_argument, NULL, PROGRESS},
        {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION},
        {NULL, 0, NULL, 0},
    };

    *options = (struct options){.page_size = DEFAULT_PAGE_SIZE,
                                .timeout_ms = DEFAULT_TIMEOUT_MS,
                                .output = output_table,
                                .progress = progress_wanted()};
    static char name[] = "evpq-page";
    argv[0] = name; /* getopt's messages begin with it */

    int option;
    while ((option = getopt_long(argc, argv, "d:n:p:f:", names, NULL)) != -1) {
        switch (option) {
        case 'd':
            free(options->conninfo);
            options->conninfo = read_conninfo(optarg);
            if (!options->conninfo)
                return usage("out of memory");
            break;
        case 'n':
            if (!read_count(optarg, MAX_PAGE_SIZE, &options->page_size))
                return usage("--page-size takes a number from 1 to 10000");
            break;
        case 'p':
            if (!read_count(optarg, UINT32_MAX, &options->pages))
                return usage("--pages takes a number from 1 on");
            break;
        case 'f':
            if (!read_format(optarg, &options->output))
                return usage("--format takes table, csv, tsv, ndjson or json");
            break;
        case ORDER_BY:
            options->order_by = optarg;
            break;
        case TIMEOUT:
            if (!read_duration(optarg, &options->timeout_ms))
                return usage("--timeout takes a duration as 500ms, 2s or 1min");
            break;
        case COLUMNS:
            options->columns = optarg;
            break;
        case PARAM:
            if (!add_param(options, optarg))
                return usage("out of memory");
            break;
        case DEADLINE:
            if (!read_duration(optarg, &options->deadline_ms))
                return usage("--deadline takes a duration as 500ms, 2s or 1min");
            break;
        case NULL_TEXT:
            options->null = optarg;
            break;
        case AFTER:
            options->after = optarg;
            break;
        case BEFORE:
            options->before = optarg;
            break;
        case LAST:
            options->last = true;
            break;
        case SECRET_FILE:
            free((void *)options->secret.bytes);
            if (!read_secret(optarg, &options->secret))
                return usage("--secret-file takes a file with 16 to 1,024 bytes");
            break;
        case PROGRESS:
            options->progress = true;
            break;
        case HELP:
            fputs(help, stdout);
            return printed();
        case VERSION:
            printf("evpq-page %s\n", evpq_version());
            return printed();
        default:
            fputs("Try 'evpq-page --help'.\n", stderr);
            return END_USAGE;
        }
    }
    return options_read_sql(options, argc, argv);
}

void options_done(struct options *options)
{
    free(options->conninfo);
    free(options->params);
    if (options->secret.bytes)
        explicit_bzero((void *)options->secret.bytes, options->secret.length);
    free((void *)options->secret.bytes);
}
