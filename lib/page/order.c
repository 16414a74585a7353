/* SPDX-License-Identifier: MIT */
#include "page/order.h"

#include <string.h>

#include "page/letters.h"

static void skip_space(const char **at)
{
    while (evpq__is_space(**at))
        ++*at;
}

/* Behind the word when it comes next, in any case; else NULL. */
static const char *behind_word(const char *at, const char *word)
{
    for (; *word; word++, at++)
        if (evpq__fold(*at) != *word)
            return NULL;
    return evpq__is_of_word(*at) ? NULL : at;
}

static bool take_word(const char **at, const char *word)
{
    const char *behind = behind_word(*at, word);
    if (!behind)
        return false;
    *at = behind;
    skip_space(at);
    return true;
}

static bool is_one_of(const char *at, const char *const *words)
{
    for (; *words; words++)
        if (behind_word(at, *words))
            return true;
    return false;
}

/* ---- text, as far as there is room ---- */

struct out {
    char *to;
    size_t length, capacity;
    bool full;
};

static void put_char(struct out *out, char c)
{
    if (out->length + 1 < out->capacity)
        out->to[out->length++] = c;
    else
        out->full = true;
}

static void put_text(struct out *out, const char *text)
{
    for (; *text; text++)
        put_char(out, *text);
}

static void put_quoted(struct out *out, const char *name)
{
    put_char(out, '"');
    for (; *name; name++) {
        if (*name == '"')
            put_char(out, '"');
        put_char(out, *name);
    }
    put_char(out, '"');
}

/* ---- names ---- */

static const char *parse_name(const char **at, char name[EVPQ__NAME_MAX + 1])
{
    bool quoted = **at == '"';
    if (quoted)
        ++*at;
    size_t length = 0;
    for (;; ++*at) {
        char c = **at;
        if (quoted && c == '"' && (*at)[1] == '"')
            ++*at;
        else if (quoted ? c == '"' || c == '\0' : !evpq__is_of_word(c))
            break;
        if (length == EVPQ__NAME_MAX)
            return "order_by has a name longer than 63 bytes";
        name[length++] = quoted ? c : evpq__fold(c);
    }
    name[length] = '\0';
    if (quoted && *(*at)++ == '\0')
        return "order_by has a quoted name that does not end";
    return length == 0 ? "order_by has an empty name" : NULL;
}

/* ---- expressions ---- */

static const char *const ends_value[] = {"collate", "asc", "desc", "nulls", "using", NULL};
static const char *const statements[] = {"select", "with", "values", "table", NULL};

static const char *put_string(const char **at, struct out *out)
{
    char quote = **at;
    do {
        put_char(out, *(*at)++);
        if (**at == '\\' && quote == '\'')
            return "order_by takes no backslash in a string";
        if (**at == quote && (*at)[1] == quote) {
            put_char(out, *(*at)++);
            put_char(out, *(*at)++);
        }
        if (**at == '\0')
            return "order_by has a quote that does not end";
    } while (**at != quote);
    put_char(out, *(*at)++);
    return NULL;
}

static const char *put_word(const char **at, struct out *out)
{
    if (is_one_of(*at, statements))
        return "order_by takes no SELECT in an expression";
    while (evpq__is_of_word(**at))
        put_char(out, *(*at)++);
    if (**at == '\'' || (**at == '&' && ((*at)[1] == '\'' || (*at)[1] == '"')))
        return "order_by takes no string with a prefix";
    return NULL;
}

static const char *put_symbol(const char **at, struct out *out)
{
    static const char symbols[] = "+-*/<>=~!@#%^&|`?:.,()[]";
    const char *c = *at;
    if ((c[0] == '-' && c[1] == '-') || (c[0] == '/' && c[1] == '*'))
        return "order_by takes no comments";
    if (*c == '$' && evpq__is_digit(c[1])) {
        put_char(out, *(*at)++);
        while (evpq__is_digit(**at))
            put_char(out, *(*at)++);
        return NULL;
    }
    if (!strchr(symbols, *c))
        return "order_by has a character that is in no expression";
    put_char(out, *(*at)++);
    return NULL;
}

/* Closing what was opened last. */
static bool closes(char *open, size_t *depth, char c)
{
    if (*depth == 0)
        return false;
    --*depth;
    return open[*depth] == (c == ')' ? '(' : '[');
}

static const char *parse_expression(const char **at, struct out *out)
{
    enum { DEPTH_MAX = 100 };
    char open[DEPTH_MAX];
    size_t depth = 0;
    put_char(out, '(');
    while (**at != '\0' && (depth > 0 || (**at != ',' && !is_one_of(*at, ends_value)))) {
        char c = **at;
        const char *problem = NULL;
        if (evpq__is_space(c)) {
            skip_space(at);
            put_char(out, ' ');
            continue;
        }
        if (c == '(' || c == '[') {
            if (depth == DEPTH_MAX)
                return "order_by has too many parentheses";
            open[depth++] = c;
        } else if ((c == ')' || c == ']') && !closes(open, &depth, c)) {
            return "order_by has parentheses that do not match";
        }
        if (c == '\'' || c == '"')
            problem = put_string(at, out);
        else if (evpq__is_letter(c) || evpq__is_digit(c))
            problem = put_word(at, out);
        else
            problem = put_symbol(at, out);
        if (problem)
            return problem;
    }
    while (out->to[out->length - 1] == ' ')
        out->length--;
    put_char(out, ')');
    return depth > 0 ? "order_by has parentheses that do not match" : NULL;
}

/* ---- keys ---- */

/* What may stand behind a column that is no expression. */
static bool ends_column(const char *at)
{
    skip_space(&at);
    return *at == '\0' || *at == ',' || is_one_of(at, ends_value);
}

static const char *parse_value(const char **at, struct evpq__key *key, struct out *out)
{
    const char *start = *at;
    if (**at == '\0' || **at == ',')
        return "order_by has an empty item";
    if (evpq__is_digit(**at)) {
        const char *behind = *at;
        while (evpq__is_of_word(*behind) || *behind == '.')
            behind++;
        if (ends_column(behind))
            return "order_by takes names of columns, not numbers";
    }
    if (evpq__is_letter(**at) || **at == '"') {
        const char *problem = parse_name(at, key->name);
        if (problem)
            return problem;
        if (ends_column(*at)) {
            put_quoted(out, key->name);
            return NULL;
        }
        const char *next = *at;
        skip_space(&next);
        if (next > *at && (evpq__is_of_word(*next) || *next == '"'))
            return "order_by takes ASC, DESC, NULLS FIRST or NULLS LAST behind a column, then a "
                   "comma; put an expression into parentheses";
    }
    *at = start;
    key->name[0] = '\0';
    return parse_expression(at, out);
}

static const char *parse_collate(const char **at, struct out *out)
{
    if (!take_word(at, "collate"))
        return NULL;
    put_text(out, " COLLATE ");
    for (;;) {
        char name[EVPQ__NAME_MAX + 1];
        if (!evpq__is_letter(**at) && **at != '"')
            return "order_by has COLLATE without a name";
        const char *problem = parse_name(at, name);
        if (problem)
            return problem;
        put_quoted(out, name);
        if (**at != '.')
            return NULL;
        put_char(out, *(*at)++);
    }
}

static const char *parse_direction(const char **at, struct evpq__key *key)
{
    if (take_word(at, "using"))
        return "order_by takes no USING, but ASC or DESC";
    if (take_word(at, "desc"))
        key->descending = true;
    else
        take_word(at, "asc");
    key->nulls_first = key->descending;
    if (take_word(at, "nulls")) {
        key->nulls_first = take_word(at, "first");
        if (!key->nulls_first && !take_word(at, "last"))
            return "order_by has NULLS without FIRST or LAST";
    }
    if (**at == '\0' || **at == ',')
        return NULL;
    return "order_by takes ASC, DESC, NULLS FIRST or NULLS LAST behind a column, then a comma; put "
           "an expression into parentheses";
}

static const char *parse_key(const char **at, struct evpq__keyset *keyset, struct evpq__key *key)
{
    struct out out = {keyset->text, keyset->text_length, EVPQ__ORDER_TEXT, false};
    key->value_at = (uint16_t)out.length;
    const char *problem = parse_value(at, key, &out);
    if (problem)
        return problem;
    out.to[out.length++] = '\0';
    key->collate_at = (uint16_t)out.length;
    skip_space(at);
    problem = parse_collate(at, &out);
    if (problem)
        return problem;
    if (out.full || out.length + 1 >= out.capacity)
        return "order_by is too long";
    out.to[out.length++] = '\0';
    keyset->text_length = out.length;
    skip_space(at);
    return parse_direction(at, key);
}

static bool same_key(const struct evpq__keyset *keyset, size_t i, size_t j)
{
    return strcmp(evpq__key_value(keyset, i), evpq__key_value(keyset, j)) == 0 &&
           strcmp(evpq__key_collate(keyset, i), evpq__key_collate(keyset, j)) == 0;
}

const char *evpq__keyset_parse(struct evpq__keyset *out, const char *order_by)
{
    *out = (struct evpq__keyset){0};
    const char *at = order_by;
    for (;;) {
        skip_space(&at);
        if (out->count == EVPQ__KEYS_MAX)
            return "order_by has more than 8 columns";
        const char *problem = parse_key(&at, out, &out->keys[out->count]);
        if (problem)
            return problem;
        for (size_t i = 0; i < out->count; i++)
            if (same_key(out, i, out->count))
                return "order_by has a column twice";
        out->count++;
        if (*at++ == '\0')
            return NULL;
    }
}

/* ---- collations ---- */

const char *evpq__key_collation(const struct evpq__keyset *keyset, size_t i)
{
    const char *text = keyset->text + keyset->keys[i].collate_at;
    return text[0] ? text + strlen(" COLLATE ") : text;
}

void evpq__key_pin(struct evpq__keyset *keyset, size_t i, const char *collation)
{
    struct out out = {keyset->pins, keyset->pins_length, sizeof(keyset->pins), false};
    keyset->keys[i].pinned = true;
    keyset->keys[i].pin_at = (uint16_t)out.length;
    put_text(&out, " COLLATE ");
    put_text(&out, collation);
    out.to[out.length++] = '\0';
    keyset->pins_length = out.length;
}

void evpq__keyset_reset(struct evpq__keyset *keyset)
{
    keyset->pins_length = 0;
    for (size_t i = 0; i < keyset->count; i++)
        keyset->keys[i].pinned = keyset->keys[i].not_null = false;
}

/* ---- columns ---- */

size_t evpq__columns_size(const char *columns)
{
    return columns ? 3 * strlen(columns) + 3 : 1;
}

static void hide(struct evpq__keyset *keyset, const char *name, bool *shown)
{
    for (size_t i = 0; i < keyset->count; i++)
        if (keyset->keys[i].name[0] && strcmp(keyset->keys[i].name, name) == 0)
            shown[i] = true;
}

const char *evpq__columns_parse(char *sql, size_t capacity, struct evpq__keyset *keyset,
                                const char *columns)
{
    struct out out = {sql, 0, capacity, false};
    bool shown[EVPQ__KEYS_MAX] = {false};
    const char *at = columns;
    for (size_t i = 0; !columns && i < keyset->count; i++)
        shown[i] = keyset->keys[i].name[0] != '\0';
    while (at) {
        char name[EVPQ__NAME_MAX + 1];
        skip_space(&at);
        if (!evpq__is_letter(*at) && *at != '"')
            return "columns takes names of columns, with commas between them";
        if (parse_name(&at, name))
            return "columns has a name that is empty, too long or does not end";
        put_text(&out, out.length ? ", " : "");
        put_quoted(&out, name);
        hide(keyset, name, shown);
        skip_space(&at);
        if (*at != '\0' && *at != ',')
            return "columns takes names of columns, with commas between them";
        at = *at ? at + 1 : NULL;
    }
    out.to[out.length] = '\0';
    for (size_t i = 0; i < keyset->count; i++)
        keyset->keys[i].hidden = !shown[i];
    return out.full ? "columns is too long" : NULL;
}
