/* The parser of scenario files. A line is cut into words; the verb's list of fields says what each
 * must be. One error a line, then the next line: an error hides no other one. */
#include "p2p_scene.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the tables ------------------------------------------------------------------------------ */

enum kind {
    NONE,
    NUMBER,
    HEX,
    COUNT,
    TIME,
    SIZE,
    RATE,
    CHANCE,
    DRIFT,
    STEP,
    FLAG,
    CHOICE,
    WORD,
    PATH,
    NEW,
    GROUP,
    TARGET,
    ARROW,
    WHEN
};
enum place { MUST, MAY, OPTION };
enum when { SETUP, ANY, SPAN };
enum of { NODE, NETWORK };

typedef struct field {
    const char *name;
    enum kind kind;
    enum place place;
    uint64_t most; /* 0: what the kind allows */
    const char *words;
} field;

#define FIELD_ROW(verb, name, kind, place, most, words) {#name, kind, place, most, words},
#define VERB_ROWS(verb, when)                           {SCENE_FIELDS_##verb(FIELD_ROW){NULL, NONE, MUST, 0, NULL}},
static const field fields[][SCENE_FIELDS + 1] = {SCENE_VERBS(VERB_ROWS)};

#define VERB_ROW(verb, when) {#verb, when},
static const struct {
    const char *name;
    enum when when;
} verbs[] = {SCENE_VERBS(VERB_ROW)};

#define MEASURE_ROW(word, of, value, preposition) {#word, of, value, preposition},
static const struct {
    const char *name;
    enum of of;
    enum kind value;
    const char *preposition;
} measures[] = {SCENE_MEASURES(MEASURE_ROW)};

typedef struct unit {
    const char *name;
    uint64_t scale;
} unit;
/* Largest last, so that values are printed in the largest that divides them. */
static const unit time_units[] = {{"us", 1},         {"ms", 1000},       {"s", 1000000},
                                  {"min", 60000000}, {"h", 3600000000u}, {NULL, 0}};
static const unit size_units[] = {{"B", 1},     {"KiB", 1024},   {"MiB", 1048576},
                                  {"kB", 1000}, {"MB", 1000000}, {"GB", 1000000000u},
                                  {NULL, 0}};
static const unit rate_units[] = {
    {"bit", 1}, {"kbit", 1000}, {"mbit", 1000000}, {"gbit", 1000000000u}, {NULL, 0}};
static const unit chance_units[] = {{"ppm", 1}, {"%", 10000}, {NULL, 0}};

static const struct {
    const unit *units; /* NULL: a plain number */
    uint64_t most;
    const char *what, *example;
} kinds[] = {
    /* NONE */ {NULL, 0, "nothing", ""},
    /* NUMBER */ {NULL, UINT64_MAX, "a number", "7"},
    /* HEX */ {NULL, UINT64_MAX, "a number in hex", "0x1f"},
    /* COUNT */ {NULL, UINT32_MAX, "a number from 1 on", "3"},
    /* TIME */ {time_units, SCENE_TIME_MAX, "a time with its unit", "20ms, 1.5s, 2min"},
    /* SIZE */ {size_units, (uint64_t)1 << 40, "a size with its unit", "200B, 25kB, 1MB"},
    /* RATE */ {rate_units, 1000000000000u, "a rate with its unit", "64kbit, 10mbit"},
    /* CHANCE */ {chance_units, 1000000, "a chance with its unit", "1%, 0.5%, 100ppm"},
    /* DRIFT */ {chance_units, 1000000, "a drift with its unit", "50ppm, -200ppm, 1%"},
    /* STEP */ {time_units, SCENE_TIME_MAX, "a step in time with its unit", "2s, -500ms"},
    /* FLAG */ {NULL, 0, "a word that stands alone", ""},
    /* CHOICE */ {NULL, 0, "a word", ""},
    /* WORD */ {NULL, 0, "a name", "music"},
    /* PATH */ {NULL, 0, "a path", "/tracks/1"},
    /* NEW */ {NULL, 0, "a new name", "alice, {a b}, n0..9"},
    /* GROUP */ {NULL, 0, "a name", "alice, {a b}, n0..9"},
    /* TARGET */ {NULL, 0, "a name", "bob, {a b}, @music"},
    /* ARROW */ {NULL, 0, "->", "->"},
    /* WHEN */ {NULL, 0, "the word idle", "idle"},
};

/* ---- the parser's state ---------------------------------------------------------------------- */

typedef struct word {
    const char *at;
    size_t size; /* 0: the line is over */
    uint32_t column;
} word;

typedef struct parser {
    scene *s;
    const char *text, *at, *end; /* end: of the line */
    uint32_t line, column, group;
    word now;           /* the one to be looked at next */
    const char *last;   /* the end of the one before */
    scene_statement *t; /* NULL: not yet, or thrown away */
    bool failed;        /* this line has its error */
} parser;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static bool
fail(parser *p, const word *where, const char *format, ...) {
    scene_error *e;
    va_list list;
    if (p->failed || p->s->error_count == SCENE_ERRORS)
        return false;
    p->failed = true;
    e = &p->s->errors[p->s->error_count++];
    e->line = p->line;
    e->column = where->column;
    va_start(list, format);
    (void)vsnprintf(e->text, sizeof e->text, format, list);
    va_end(list);
    return false;
}
/* For "%.*s": a word of a file as it is shown in an error, cut to a sane length. */
#define SHOWN(w) ((w).size > 40 ? 40 : (int)(w).size), (w).at

static bool no_memory(parser *p) {
    p->s->out_of_memory = true;
    return fail(p, &p->now, "out of memory");
}
/* Room for one more item, or for `more` of them. */
static bool grow(parser *p, void **items, uint32_t count, uint32_t *room, size_t item,
                 uint32_t more) {
    uint32_t want = *room ? *room : 16;
    void *bigger;
    if (more <= *room - count)
        return true;
    while (want - count < more)
        want *= 2;
    bigger = realloc(*items, want * item);
    if (!bigger)
        return no_memory(p);
    *items = bigger;
    *room = want;
    return true;
}

/* ---- words ----------------------------------------------------------------------------------- */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
static bool bracket(char c) { return c == '{' || c == '}'; }
static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }

/* Columns count characters: bytes that go on with a UTF-8 character count nothing. */
static void step(parser *p) {
    if (((unsigned char)*p->at++ & 0xc0u) != 0x80u)
        p->column++;
}
static void next(parser *p) {
    p->last = p->now.at ? p->now.at + p->now.size : p->at;
    while (p->at < p->end && blank(*p->at))
        step(p);
    p->now.at = p->at;
    p->now.column = p->column;
    if (p->at < p->end && *p->at == '#')
        p->end = p->at;
    if (p->at < p->end && bracket(*p->at))
        step(p);
    else
        while (p->at < p->end && !blank(*p->at) && !bracket(*p->at) && *p->at != '#')
            step(p);
    p->now.size = (size_t)(p->at - p->now.at);
}
static bool over(const parser *p) { return p->now.size == 0; }
static bool same(const char *text, const word *w) {
    return strlen(text) == w->size && memcmp(text, w->at, w->size) == 0;
}
static bool is(const parser *p, const char *text) { return same(text, &p->now); }
/* The word before its "=", or all of it. */
static word before_equals(const word *w) {
    word key = *w;
    const char *equals = (const char *)memchr(w->at, '=', w->size);
    if (equals)
        key.size = (size_t)(equals - w->at);
    return key;
}

/* How many letters must change, come, go or swap places, up to 3. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb) {
    unsigned rows[3][SCENE_NAME + 1], *prev2 = rows[0], *prev = rows[1], *now = rows[2], *spare;
    size_t i, k;
    if (na > SCENE_NAME || nb > SCENE_NAME || na > nb + 2 || nb > na + 2)
        return 3;
    for (k = 0; k <= nb; k++)
        prev[k] = (unsigned)k;
    for (i = 1; i <= na; i++) {
        now[0] = (unsigned)i;
        for (k = 1; k <= nb; k++) {
            unsigned best = prev[k - 1] + (a[i - 1] != b[k - 1]);
            if (prev[k] + 1 < best)
                best = prev[k] + 1;
            if (now[k - 1] + 1 < best)
                best = now[k - 1] + 1;
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
                prev2[k - 2] + 1 < best)
                best = prev2[k - 2] + 1;
            now[k] = best;
        }
        spare = prev2;
        prev2 = prev;
        prev = now;
        now = spare;
    }
    return prev[nb];
}
typedef struct guess {
    const char *best;
    unsigned off;
} guess;
static void guess_try(guess *g, const word *w, const char *name) {
    size_t n = strlen(name);
    unsigned off = distance(w->at, w->size, name, n);
    if (off < g->off && off < w->size) {
        g->off = off;
        g->best = name;
    }
}
/* ": did you mean 'queue'?", or nothing. */
static const char *guess_text(const guess *g, char out[SCENE_NAME + 24]) {
    out[0] = 0;
    if (g->best)
        (void)snprintf(out, SCENE_NAME + 24, ": did you mean '%s'?", g->best);
    return out;
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Digits with at most 9 of them behind a point: the number is *out / 10^*places. */
static const char *decimal(const char *at, const char *end, uint64_t *out, unsigned *places) {
    bool point = false;
    *out = 0;
    *places = 0;
    for (; at < end; at++) {
        if (*at == '.' && !point && at + 1 < end && digit(at[1])) {
            point = true;
            continue;
        }
        if (!digit(*at))
            break;
        if (*out > (UINT64_MAX - 9) / 10 || *places == 9)
            return NULL;
        *out = *out * 10 + (uint64_t)(*at - '0');
        *places += point;
    }
    return at;
}
static bool scaled(uint64_t number, unsigned places, uint64_t scale, uint64_t *out) {
    for (; places && number % 10 == 0; places--)
        number /= 10;
    for (; places && scale % 10 == 0; places--)
        scale /= 10;
    if (places || (number && scale > UINT64_MAX / number))
        return false;
    *out = number * scale;
    return true;
}
static bool bad_number(parser *p, const word *w, const field *f) {
    return fail(p, w, "%s: '%.*s' is not %s, such as %s", f->name, SHOWN(*w), kinds[f->kind].what,
                kinds[f->kind].example);
}
/* The factor of the unit that stands at `at`; 1 where the kind has none; 0 when it is wrong. */
static uint64_t unit_scale(const unit *u, const char *at, const char *end) {
    if (!u)
        return at == end;
    for (; u->name; u++)
        if (strlen(u->name) == (size_t)(end - at) && memcmp(u->name, at, strlen(u->name)) == 0)
            return u->scale;
    return 0;
}
static bool in_range(parser *p, const word *w, const field *f, uint64_t value) {
    uint64_t most = f->most ? f->most : kinds[f->kind].most;
    char text[32];
    const unit *u = kinds[f->kind].units, *best = u;
    if (f->kind == COUNT && value == 0)
        return fail(p, w, "%s: at least 1, not 0", f->name);
    if (value <= most)
        return true;
    for (; u && u->name; u++)
        if (most % u->scale == 0)
            best = u;
    (void)snprintf(text, sizeof text, "%llu%s",
                   (unsigned long long)(most / (best ? best->scale : 1)), best ? best->name : "");
    return fail(p, w, "%s: '%.*s' is too much: at most %s", f->name, SHOWN(*w), text);
}
/* Two's complement for the kinds that have a sign. */
static bool number(parser *p, const word *w, const field *f, uint64_t *out) {
    const char *at = w->at, *end = w->at + w->size;
    bool sign = f->kind == DRIFT || f->kind == STEP, minus = sign && *at == '-';
    uint64_t digits, scale;
    unsigned places;
    if (sign && (*at == '-' || *at == '+'))
        at++;
    if (at == end || !digit(*at))
        return bad_number(p, w, f);
    at = decimal(at, end, &digits, &places);
    if (!at)
        return fail(p, w, "%s: '%.*s' has too many digits", f->name, SHOWN(*w));
    if (at == end && kinds[f->kind].units && digits)
        return fail(p, w, "%s: '%.*s' lacks its unit: write it as in %s", f->name, SHOWN(*w),
                    kinds[f->kind].example);
    scale = at == end && !digits ? 1 : unit_scale(kinds[f->kind].units, at, end);
    if (scale == 0)
        return bad_number(p, w, f);
    if (!scaled(digits, places, scale, out))
        return fail(p, w, "%s: '%.*s' is too large, or finer than the smallest unit, %s", f->name,
                    SHOWN(*w), kinds[f->kind].units ? kinds[f->kind].units->name : "1");
    if (!in_range(p, w, f, *out))
        return false;
    if (minus)
        *out = 0 - *out;
    return true;
}
static bool hex(parser *p, const word *w, const field *f, uint64_t *out) {
    static const char digits[] = "0123456789abcdef";
    size_t i;
    *out = 0;
    if (w->size < 3 || w->size > 18 || w->at[0] != '0' || w->at[1] != 'x')
        return bad_number(p, w, f);
    for (i = 2; i < w->size; i++) {
        const char *d = (const char *)memchr(digits, w->at[i], 16);
        if (!d)
            return bad_number(p, w, f);
        *out = *out << 4 | (uint64_t)(d - digits);
    }
    return true;
}

/* ---- names and groups ------------------------------------------------------------------------ */

/* A name, or "n0..9": the part before the numbers, and both. */
typedef struct range {
    char name[SCENE_NAME];
    uint64_t first, last;
    bool many;
} range;

static bool name_rest(const word *w) {
    size_t i;
    for (i = 1; i < w->size; i++)
        if (!letter(w->at[i]) && !digit(w->at[i]) && w->at[i] != '-')
            return false;
    return w->size > 0 && letter(w->at[0]);
}
static bool name_is(parser *p, const word *w) {
    if (!name_rest(w))
        return fail(
            p, w, "'%.*s' is no name: a letter, then letters, digits, '_' and '-', as alice or n7",
            SHOWN(*w));
    if (w->size >= SCENE_NAME)
        return fail(p, w, "'%.*s...' is too long a name: at most %d characters", SHOWN(*w),
                    SCENE_NAME - 1);
    return true;
}
static bool range_numbers(parser *p, const word *w, const char *dots, range *r) {
    const char *from = dots, *end = w->at + w->size, *at;
    unsigned places;
    while (from > w->at && digit(from[-1]))
        from--;
    at = decimal(from, dots, &r->first, &places);
    if ((dots - from > 1 && *from == '0') || (end - dots > 3 && dots[2] == '0'))
        return fail(p, w, "'%.*s': numbers of a range have no zeros before them", SHOWN(*w));
    if (!at || from == dots || dots - from > 9 || end - dots - 2 > 9 || end - dots < 3)
        return fail(p, w, "'%.*s' is no range: write it as in n0..9", SHOWN(*w));
    at = decimal(dots + 2, end, &r->last, &places);
    if (at != end || places || r->last < r->first)
        return fail(p, w, "'%.*s' is no range: write it as in n0..9", SHOWN(*w));
    if (r->last - r->first >= SCENE_VERTICES)
        return fail(p, w, "'%.*s' is too many: at most %d nodes and routers", SHOWN(*w),
                    SCENE_VERTICES);
    r->many = true;
    return true;
}
static bool range_of(parser *p, const word *w, range *r) {
    const char *dots = NULL;
    word stem = *w;
    size_t i;
    memset(r, 0, sizeof *r);
    for (i = 1; i < w->size && !dots; i++)
        if (w->at[i - 1] == '.' && w->at[i] == '.')
            dots = &w->at[i - 1];
    if (dots) {
        if (!range_numbers(p, w, dots, r))
            return false;
        stem.size = (size_t)(dots - w->at);
        while (stem.size && digit(stem.at[stem.size - 1]))
            stem.size--;
    }
    if (!name_is(p, &stem))
        return false;
    if (dots && stem.size > SCENE_NAME - 11)
        return fail(p, w, "'%.*s' is too long a name for one with a number", SHOWN(*w));
    memcpy(r->name, stem.at, stem.size);
    return true;
}
static void range_name(const range *r, uint64_t number, char out[SCENE_NAME]) {
    if (r->many)
        (void)snprintf(out, SCENE_NAME, "%.52s%lu", r->name, (unsigned long)number);
    else
        memcpy(out, r->name, SCENE_NAME);
}

static uint32_t *slot(const scene *s, const char *name) {
    uint32_t h = 2166136261u, mask = s->table_size - 1, at;
    const char *c;
    for (c = name; *c; c++)
        h = (h ^ (unsigned char)*c) * 16777619u;
    for (at = h & mask; s->table[at]; at = (at + 1) & mask)
        if (strcmp(s->vertices[s->table[at] - 1].name, name) == 0)
            break;
    return &s->table[at];
}
static bool table_grow(parser *p) {
    scene *s = p->s;
    uint32_t size = s->table_size ? s->table_size * 2 : 64, i;
    uint32_t *table;
    if (s->vertex_count * 2 < s->table_size)
        return true;
    table = (uint32_t *)calloc(size, sizeof *table);
    if (!table)
        return no_memory(p);
    free(s->table);
    s->table = table;
    s->table_size = size;
    for (i = 0; i < s->vertex_count; i++)
        *slot(s, s->vertices[i].name) = i + 1;
    return true;
}
static bool member_add(parser *p, scene_group *g, uint32_t vertex) {
    scene *s = p->s;
    if (s->member_count == SCENE_MEMBERS)
        return fail(p, &p->now, "too many names in groups: at most %d in a file", SCENE_MEMBERS);
    if (!grow(p, (void **)&s->members, s->member_count, &s->member_room, sizeof *s->members, 1))
        return false;
    s->members[s->member_count++] = vertex;
    g->count++;
    return true;
}
static bool vertex_new(parser *p, const word *w, const char *name, scene_group *g) {
    scene *s = p->s;
    scene_vertex *v;
    uint32_t *at;
    if (!table_grow(p))
        return false;
    at = slot(s, name);
    if (*at) { /* the names behind it are still wanted */
        (void)fail(p, w, "%s is there already, from line %u", name,
                   s->statements[s->vertices[*at - 1].statement].line);
        return true;
    }
    if (s->vertex_count == SCENE_VERTICES)
        return fail(p, w, "too many: at most %d nodes and routers", SCENE_VERTICES);
    if (!grow(p, (void **)&s->vertices, s->vertex_count, &s->vertex_room, sizeof *v, 1))
        return false;
    v = &s->vertices[s->vertex_count];
    memset(v, 0, sizeof *v);
    (void)snprintf(v->name, sizeof v->name, "%s", name);
    v->statement = s->statement_count;
    v->made = (uint8_t)p->t->verb;
    *at = ++s->vertex_count;
    return member_add(p, g, s->vertex_count - 1);
}
static bool vertex_unknown(parser *p, const word *w, const char *name) {
    char hint[SCENE_NAME + 24];
    guess g = {NULL, 3};
    word whole;
    uint32_t i;
    whole.at = name;
    whole.size = strlen(name);
    for (i = 0; i < p->s->vertex_count && i < 1000; i++)
        guess_try(&g, &whole, p->s->vertices[i].name);
    return fail(p, w, "no node or router above is called '%s'%s", name, guess_text(&g, hint));
}
static bool vertex_known(parser *p, const word *w, const char *name, scene_group *g) {
    uint32_t at = p->s->table_size ? *slot(p->s, name) : 0;
    scene_vertex *v;
    if (!at)
        return vertex_unknown(p, w, name);
    v = &p->s->vertices[at - 1];
    if (v->seen == p->group)
        return fail(p, w, "%s is named twice", name);
    v->seen = p->group;
    return member_add(p, g, at - 1);
}
static bool group_word(parser *p, const field *f, scene_group *g) {
    char name[SCENE_NAME];
    word w = p->now;
    uint64_t i;
    range r;
    if (!range_of(p, &w, &r))
        return false;
    for (i = r.first; i <= r.last; i++) {
        range_name(&r, i, name);
        if (!(f->kind == NEW ? vertex_new(p, &w, name, g) : vertex_known(p, &w, name, g)))
            return false;
    }
    next(p);
    return true;
}
/* One name, a range, or {several of both}. */
static bool group(parser *p, const field *f, uint64_t *out) {
    word open = p->now;
    scene_group g;
    g.first = p->s->member_count;
    g.count = 0;
    p->group++;
    if (!is(p, "{")) {
        if (!group_word(p, f, &g))
            return false;
    } else {
        next(p);
        while (!over(p) && !is(p, "}"))
            if (!group_word(p, f, &g))
                return false;
        if (over(p))
            return fail(p, &open, "this { lacks its }");
        if (g.count == 0)
            return fail(p, &open, "a group of nobody");
        next(p);
    }
    *out = (uint64_t)g.first << 32 | g.count;
    return true;
}

/* ---- fields ---------------------------------------------------------------------------------- */

/* Keeps a word; the low half stays 0, which no group has. */
static bool keep(parser *p, const char *at, size_t size, uint64_t *out) {
    scene *s = p->s;
    if (!grow(p, (void **)&s->texts, s->text_size, &s->text_room, 1, (uint32_t)size + 1))
        return false;
    *out = (uint64_t)s->text_size << 32;
    memcpy(s->texts + s->text_size, at, size);
    s->texts[s->text_size + size] = 0;
    s->text_size += (uint32_t)size + 1;
    return true;
}
/* The nth of the words with blanks between, or NULL. */
static const char *word_at(const char *words, uint64_t n, size_t *size) {
    for (; n && *words; n--) {
        words += strcspn(words, " ");
        words += *words == ' ';
    }
    *size = strcspn(words, " ");
    return *size ? words : NULL;
}
static bool choice(parser *p, const word *w, const field *f, uint64_t *out) {
    char hint[SCENE_NAME + 24], name[SCENE_NAME];
    guess g = {NULL, 3};
    const char *at;
    size_t size;
    for (*out = 0; (at = word_at(f->words, *out, &size)) != NULL; ++*out)
        if (size == w->size && memcmp(at, w->at, size) == 0)
            return true;
    for (*out = 0; (at = word_at(f->words, *out, &size)) != NULL && g.off > 1; ++*out) {
        (void)snprintf(name, sizeof name, "%.*s", (int)size, at);
        guess_try(&g, w, name);
    }
    return fail(p, w, "%s: '%.*s' is none of: %s%s", f->name, SHOWN(*w), f->words,
                guess_text(&g, hint));
}
static bool path(parser *p, const word *w, uint64_t *out) {
    size_t i;
    if (w->at[0] != '/')
        return fail(p, w, "'%.*s' is no path: it begins with a /", SHOWN(*w));
    if (w->size > 1024)
        return fail(p, w, "this path is too long: at most 1024 characters");
    for (i = 0; i < w->size; i++)
        if ((unsigned char)w->at[i] < 0x21u || (unsigned char)w->at[i] == 0x7fu)
            return fail(p, w, "a control character in a path");
    return keep(p, w->at, w->size, out);
}
/* The word w as a value of the field; groups are elsewhere, since they may be many words. */
static bool value(parser *p, const word *w, const field *f, uint64_t *out) {
    switch (f->kind) {
    case HEX: return hex(p, w, f, out);
    case CHOICE: return choice(p, w, f, out);
    case WORD: return name_is(p, w) && keep(p, w->at, w->size, out);
    case PATH: return path(p, w, out);
    default: return number(p, w, f, out);
    }
}
static bool target(parser *p, const field *f, uint64_t *out) {
    word name = p->now;
    if (name.at[0] != '@')
        return group(p, f, out);
    name.at++;
    name.size--;
    name.column++;
    if (!name_is(p, &name) || !keep(p, name.at, name.size, out))
        return false;
    next(p);
    return true;
}
static bool positional(parser *p, const field *f, uint64_t *out) {
    if (f->kind == NEW || f->kind == GROUP)
        return group(p, f, out);
    if (f->kind == TARGET)
        return target(p, f, out);
    if (f->kind == ARROW && !is(p, "->"))
        return fail(p, &p->now, "%s: -> is missing before '%.*s': it has a direction",
                    verbs[p->t->verb].name, SHOWN(p->now));
    if (f->kind != ARROW && f->kind != WHEN && !value(p, &p->now, f, out))
        return false;
    next(p);
    return true;
}
/* "latency=20ms", "reconnect": what an option is called is before its "=". */
static bool option(parser *p, const field *list) {
    word w = p->now, key = before_equals(&w), rest = w;
    char hint[SCENE_NAME + 24];
    guess g = {NULL, 3};
    uint32_t i;
    for (i = 0; list[i].name && !(list[i].place == OPTION && same(list[i].name, &key)); i++)
        if (list[i].place == OPTION)
            guess_try(&g, &key, list[i].name);
    if (!list[i].name)
        return fail(p, &w, "%s has no '%.*s'%s", verbs[p->t->verb].name, SHOWN(key),
                    guess_text(&g, hint));
    if (scene_given(p->t, i))
        return fail(p, &w, "%s is given twice", list[i].name);
    if (list[i].kind == FLAG ? key.size != w.size : key.size + 1 >= w.size)
        return fail(p, &w,
                    list[i].kind == FLAG ? "%s stands alone, without ="
                                         : "%s lacks its value: write %s=...",
                    list[i].name, list[i].name);
    rest.at += key.size + 1;
    rest.size -= key.size + 1;
    rest.column += (uint32_t)key.size + 1;
    p->t->given |= (uint32_t)1 << i;
    p->t->value[i] = 1;
    if (list[i].kind != FLAG && !value(p, &rest, &list[i], &p->t->value[i]))
        return false;
    next(p);
    return true;
}
/* Whether a field that may be left out is there. */
static bool present(const parser *p, const field *f) {
    if (over(p) || is(p, "for"))
        return f->place == MUST;
    if (f->kind == ARROW)
        return f->place == MUST || is(p, "->");
    return f->kind != WHEN || is(p, f->name);
}
static bool statement_fields(parser *p, const field *list) {
    uint32_t i;
    for (i = 0; list[i].name; i++) {
        if (list[i].place == OPTION || !present(p, &list[i]))
            continue;
        if (over(p) || is(p, "for"))
            return fail(p, &p->now, "%s: %s is missing, such as %s", verbs[p->t->verb].name,
                        kinds[list[i].kind].what,
                        *list[i].words ? list[i].words : kinds[list[i].kind].example);
        if (!positional(p, &list[i], &p->t->value[i]))
            return false;
        p->t->given |= (uint32_t)1 << i;
    }
    while (!over(p) && !is(p, "for"))
        if (!option(p, list))
            return false;
    return true;
}

/* ---- expect ---------------------------------------------------------------------------------- */

static bool expect_measure(parser *p, enum of of) {
    char hint[SCENE_NAME + 24];
    guess g = {NULL, 3};
    uint32_t i;
    for (i = 0; i < SCENE_MEASURE_COUNT; i++) {
        if (measures[i].of != of)
            continue;
        if (is(p, measures[i].name))
            break;
        guess_try(&g, &p->now, measures[i].name);
    }
    if (i == SCENE_MEASURE_COUNT)
        return fail(p, &p->now, "expect: '%.*s' is nothing that %s has%s", SHOWN(p->now),
                    of == NODE ? "a node" : "the network", guess_text(&g, hint));
    p->t->value[SCENE_expect_measure] = i;
    next(p);
    return true;
}
static bool expect_value(parser *p, const field *list) {
    field f = list[SCENE_expect_value];
    uint32_t i = (uint32_t)p->t->value[SCENE_expect_measure], order;
    f.name = measures[i].name;
    f.kind = measures[i].value;
    if (f.kind == NONE)
        return true;
    for (order = 0; order < 3; order++)
        if (is(p, order == 0 ? "=" : order == 1 ? ">=" : "<="))
            break;
    p->t->value[SCENE_expect_order] = order % 3;
    if (order < 3)
        next(p);
    if (over(p))
        return fail(p, &p->now, "expect: %s is missing, such as %s", kinds[f.kind].what,
                    kinds[f.kind].example);
    if (!value(p, &p->now, &f, &p->t->value[SCENE_expect_value]))
        return false;
    next(p);
    return true;
}
static bool expect_peer(parser *p, const field *list) {
    const char *preposition = measures[p->t->value[SCENE_expect_measure]].preposition;
    if (!*preposition || !is(p, preposition))
        return true;
    next(p);
    if (over(p))
        return fail(p, &p->now, "expect: a name is missing behind '%s'", preposition);
    p->t->given |= 1u << SCENE_expect_b;
    return group(p, &list[SCENE_expect_b], &p->t->value[SCENE_expect_b]);
}
static bool expect_by(parser *p, const field *list) {
    word by = p->now;
    if (!is(p, "by"))
        return over(p) ||
               fail(p, &p->now, "expect: '%.*s' does not belong here%s%s%s", SHOWN(p->now),
                    ", behind it comes 'by' and a time, or ",
                    *measures[p->t->value[SCENE_expect_measure]].preposition
                        ? measures[p->t->value[SCENE_expect_measure]].preposition
                        : "nothing",
                    *measures[p->t->value[SCENE_expect_measure]].preposition ? " and a name" : "");
    if (p->t->at_us != SCENE_NO_TIME)
        return fail(p, &by, "expect: either 'at' or 'by', not both");
    next(p);
    if (over(p))
        return fail(p, &p->now, "expect: a time is missing behind 'by'");
    if (!value(p, &p->now, &list[SCENE_expect_by], &p->t->value[SCENE_expect_by]))
        return false;
    p->t->given |= 1u << SCENE_expect_by;
    next(p);
    return over(p) || fail(p, &p->now, "expect: '%.*s' is one word too many", SHOWN(p->now));
}
static bool expect(parser *p, const field *list) {
    enum of of = is(p, "network") ? NETWORK : NODE;
    if (over(p))
        return fail(p, &p->now, "expect: a node is missing, or the word network");
    if (of == NETWORK) {
        next(p);
    } else {
        p->t->given |= 1u << SCENE_expect_a;
        if (!group(p, &list[SCENE_expect_a], &p->t->value[SCENE_expect_a]))
            return false;
    }
    if (over(p))
        return fail(p, &p->now,
                    "expect: what is expected is missing, such as connected or received");
    return expect_measure(p, of) && expect_value(p, list) && expect_peer(p, list) &&
           expect_by(p, list);
}

/* ---- statements ------------------------------------------------------------------------------ */

static bool time_word(parser *p, const char *name, uint64_t *out) {
    field f = {NULL, TIME, MUST, 0, ""};
    f.name = name;
    next(p);
    if (over(p))
        return fail(p, &p->now, "%s: a time is missing, such as %s", name, kinds[TIME].example);
    if (!number(p, &p->now, &f, out))
        return false;
    next(p);
    return true;
}
/* "at 2s", "at 2s every 20ms until 12s" */
static bool prefix(parser *p) {
    word every;
    if (!is(p, "at"))
        return true;
    if (!time_word(p, "at", &p->t->at_us))
        return false;
    if (!is(p, "every"))
        return true;
    every = p->now;
    if (!time_word(p, "every", &p->t->every_us))
        return false;
    if (p->t->every_us == 0)
        return fail(p, &every, "every: at least 1us");
    if (!is(p, "until"))
        return fail(p, &p->now, "every: 'until' and a time must follow");
    if (!time_word(p, "until", &p->t->until_us))
        return false;
    if (p->t->until_us < p->t->at_us)
        return fail(p, &every, "until is before at: it would never happen");
    if ((p->t->until_us - p->t->at_us) / p->t->every_us > SCENE_STATEMENTS)
        return fail(p, &every, "every: more than %d times", SCENE_STATEMENTS);
    return true;
}
static bool verb(parser *p) {
    char hint[SCENE_NAME + 24];
    guess g = {NULL, 3};
    uint32_t i;
    if (over(p))
        return fail(p, &p->now, "a time, and nothing that happens then");
    for (i = 0; i < SCENE_VERB_COUNT && !is(p, verbs[i].name); i++)
        guess_try(&g, &p->now, verbs[i].name);
    if (i == SCENE_VERB_COUNT)
        return fail(p, &p->now, "there is no statement '%.*s'%s", SHOWN(p->now),
                    guess_text(&g, hint));
    if (p->t->at_us != SCENE_NO_TIME && verbs[i].when == SETUP)
        return fail(p, &p->now, "%s has no time: it says what there is from the start",
                    verbs[i].name);
    p->t->verb = i;
    p->t->column = p->now.column;
    next(p);
    return true;
}
static bool suffix(parser *p) {
    word w = p->now;
    if (over(p))
        return true;
    if (verbs[p->t->verb].when != SPAN)
        return fail(p, &w, "%s takes no 'for': it does not end by itself", verbs[p->t->verb].name);
    if (!time_word(p, "for", &p->t->for_us))
        return false;
    if (p->t->for_us == 0)
        return fail(p, &w, "for: at least 1us");
    return over(p) || fail(p, &p->now, "'%.*s' is one word too many", SHOWN(p->now));
}
static bool once_only(parser *p) {
    uint32_t i;
    if (p->t->verb > SCENE_end)
        return true;
    for (i = 0; i < p->s->statement_count; i++)
        if (p->s->statements[i].verb == p->t->verb) {
            word w = p->now;
            w.column = p->t->column;
            return fail(p, &w, "%s is there already, in line %u", verbs[p->t->verb].name,
                        p->s->statements[i].line);
        }
    return true;
}
/* How many pairs the groups of the statement make: what it does, it does so often. */
static uint64_t pairs(const scene_statement *t) {
    const field *list = fields[t->verb];
    uint64_t product = 1;
    uint32_t i;
    for (i = 0; list[i].name; i++)
        if (list[i].kind == GROUP || list[i].kind == TARGET)
            product *= scene_given(t, i) && (uint32_t)t->value[i] ? (uint32_t)t->value[i] : 1;
    return t->verb == SCENE_mesh ? product * product / 2 : product;
}
/* `count`, where it says how often. */
static uint64_t counted(const scene_statement *t) {
    const field *list = fields[t->verb];
    uint32_t i;
    for (i = 0; list[i].name; i++)
        if (strcmp(list[i].name, "count") == 0 && t->verb != SCENE_drop && scene_given(t, i))
            return t->value[i];
    return 1;
}
static bool not_too_many(parser *p, const word *w) {
    if (p->t->verb == SCENE_expect || p->t->verb == SCENE_partition || p->t->verb == SCENE_heal)
        return true; /* these are not done pair by pair */
    if (pairs(p->t) > SCENE_PAIRS)
        return fail(p, w, "%s: more than %d pairs", verbs[p->t->verb].name, SCENE_PAIRS);
    if (pairs(p->t) * counted(p->t) > SCENE_TIMES)
        return fail(p, w, "%s: more than %d of them", verbs[p->t->verb].name, SCENE_TIMES);
    return true;
}
/* What one field alone does not tell. */
static bool sense(parser *p) {
    const scene_statement *t = p->t;
    word w = p->now;
    w.column = t->column;
    if (t->verb == SCENE_heal && scene_given(t, SCENE_heal_a) != scene_given(t, SCENE_heal_b))
        return fail(p, &w, "heal: two groups, or none for all");
    if (t->verb == SCENE_route && scene_given(t, SCENE_route_status) &&
        t->value[SCENE_route_status] < 100)
        return fail(p, &w, "status: 100 to 599");
    if (t->verb == SCENE_behind && scene_given(t, SCENE_behind_b) &&
        scene_group_of(t, SCENE_behind_b).count != 1)
        return fail(p, &w, "behind: one router, not a group");
    if (t->verb == SCENE_name && scene_group_of(t, SCENE_name_a).count != 1)
        return fail(p, &w, "name: one node, not a group");
    if ((t->verb == SCENE_links || t->verb == SCENE_network || t->verb == SCENE_clock) &&
        (t->given & ~(t->verb == SCENE_clock ? 1u << SCENE_clock_a : 0)) == 0)
        return fail(p, &w, "%s says nothing: give it an option", verbs[t->verb].name);
    return not_too_many(p, &w) && once_only(p);
}
static bool statement(parser *p) {
    const field *list;
    if (!prefix(p) || !verb(p))
        return false;
    list = fields[p->t->verb];
    if (!(p->t->verb == SCENE_expect ? expect(p, list) : statement_fields(p, list)))
        return false;
    return suffix(p) && sense(p) && !p->failed;
}

/* ---- lines ----------------------------------------------------------------------------------- */

static bool plain(parser *p) {
    const char *c;
    word w;
    for (c = p->at; c < p->end; c++)
        if (((unsigned char)*c < 0x20u && !blank(*c)) || *c == 0x7f) {
            w.at = c;
            w.size = 1;
            w.column = (uint32_t)(c - p->at) + 1;
            return fail(p, &w, "a control character, 0x%02x: is this a text?", (unsigned char)*c);
        }
    return true;
}
static void line(parser *p) {
    scene *s = p->s;
    p->failed = false;
    p->column = 1;
    p->now.at = NULL;
    if (!plain(p))
        return;
    next(p);
    if (over(p))
        return;
    if (s->statement_count == SCENE_STATEMENTS) {
        (void)fail(p, &p->now, "too many statements: at most %d", SCENE_STATEMENTS);
        return;
    }
    if (!grow(p, (void **)&s->statements, s->statement_count, &s->statement_room,
              sizeof *s->statements, 1))
        return;
    p->t = &s->statements[s->statement_count];
    memset(p->t, 0, sizeof *p->t);
    p->t->line = p->line;
    p->t->at_us = SCENE_NO_TIME;
    p->t->first = (uint32_t)(p->now.at - p->text);
    /* A node whose options are wrong is there all the same, lest each line about it be wrong. */
    if (statement(p) || fields[p->t->verb][0].kind == NEW)
        s->statement_count++;
    p->t->size = (uint32_t)(p->last - p->text) - p->t->first;
}
/* ---- what a file may ask for: a run ends within minutes -------------------------------------- */

typedef struct budget {
    uint64_t things, bytes; /* that all statements so far do, and send */
    uint64_t links, dials;  /* pairs of them */
    uint64_t answer;        /* bytes of the largest one that a route gives */
    uint64_t pause_us;      /* at least, between two keepalives of a connection */
    uint64_t step_us, last_us;
    const scene_statement *last; /* that is over last, or `end` */
} budget;

static void over_budget(parser *p, const scene_statement *t, const char *does, uint64_t most,
                        const char *what) {
    word w = p->now;
    w.column = t->column;
    p->line = t->line;
    (void)fail(p, &w, "%s: with this the file %s more than %llu %s", verbs[t->verb].name, does,
               (unsigned long long)most, what);
}
/* After such a change of the network the ways through it are searched anew. */
static bool turns_ways(const scene_statement *t) {
    return t->at_us != SCENE_NO_TIME &&
           (t->verb == SCENE_link || t->verb == SCENE_links || t->verb == SCENE_mesh ||
            t->verb == SCENE_partition || t->verb == SCENE_heal);
}
static uint64_t things(const scene *s, const scene_statement *t, const budget *b) {
    uint64_t often = t->every_us ? (t->until_us - t->at_us) / t->every_us + 1 : 1;
    uint64_t each = pairs(t) * counted(t);
    if (t->verb == SCENE_links)
        each = b->links;
    if (t->verb == SCENE_partition || t->verb == SCENE_heal) /* not done pair by pair */
        each = 1;
    if (turns_ways(t))
        each += s->vertex_count;
    return each > SCENE_TIMES ? each : often * each;
}
/* Bytes of one of them; an answer counts as the largest that there is. */
static uint64_t bytes(const scene_statement *t, const budget *b) {
    switch (t->verb) {
    case SCENE_stream: return t->value[SCENE_stream_size];
    case SCENE_message: return t->value[SCENE_message_size];
    case SCENE_datagram: return t->value[SCENE_datagram_size];
    case SCENE_udp: return t->value[SCENE_udp_size];
    case SCENE_request: return t->value[SCENE_request_body] + b->answer;
    default: return 0;
    }
}
/* false: it is too much. */
static bool spend(parser *p, const scene_statement *t, budget *b) {
    uint64_t often = things(p->s, t, b), size = bytes(t, b);
    if (often > SCENE_TIMES - b->things)
        over_budget(p, t, "does", SCENE_TIMES, "things: repetitions x pairs x count");
    else if (size && often > (SCENE_BYTES - b->bytes) / size)
        over_budget(p, t, "sends", SCENE_BYTES, "bytes");
    b->things += often;
    b->bytes += often * size;
    b->links += t->verb == SCENE_link || t->verb == SCENE_mesh ? 2 * pairs(t) : 0;
    b->dials += t->verb == SCENE_dial ? pairs(t) : 0;
    return !p->failed;
}
/* When a statement is over. */
static uint64_t over_us(const scene_statement *t) {
    if (t->verb == SCENE_end)
        return t->value[SCENE_end_time];
    if (t->verb == SCENE_expect && scene_given(t, SCENE_expect_by))
        return t->value[SCENE_expect_by];
    return (t->every_us ? t->until_us : t->at_us == SCENE_NO_TIME ? 0 : t->at_us) + t->for_us;
}
/* A time that is given, where it is less. */
static void lower(uint64_t *us, const scene_statement *t, uint32_t at, unsigned part) {
    if (scene_given(t, at) && t->value[at] / part < *us)
        *us = t->value[at] / part;
}
/* What must be known of the whole file before its statements are counted. */
static void survey(const scene_statement *t, budget *b) {
    if (t->verb == SCENE_route && t->value[SCENE_route_size] > b->answer)
        b->answer = t->value[SCENE_route_size];
    if (t->verb == SCENE_network && t->value[SCENE_network_step])
        b->step_us = t->value[SCENE_network_step];
    if (t->verb == SCENE_node) {
        lower(&b->pause_us, t, SCENE_node_keepalive, 1);
        lower(&b->pause_us, t, SCENE_node_idle, 2);
    }
    if (over_us(t) < b->last_us)
        return;
    b->last_us = over_us(t);
    b->last = t;
}
static void budget_check(parser *p) {
    const scene *s = p->s;
    budget b;
    uint32_t i;
    memset(&b, 0, sizeof b);
    b.pause_us = 10000000;
    for (i = 0; i < s->statement_count; i++)
        survey(&s->statements[i], &b);
    for (i = 0; i < s->statement_count; i++)
        if (!spend(p, &s->statements[i], &b))
            return;
    if (b.last_us / (b.pause_us ? b.pause_us : 1) > SCENE_TURNS / (b.dials + 1))
        over_budget(p, b.last, "sends", SCENE_TURNS, "keepalives");
    else if (b.step_us && b.last_us / b.step_us > SCENE_TURNS)
        over_budget(p, b.last, "takes", SCENE_TURNS, "steps of time");
}
int scene_parse(scene *s, const char *text, size_t size) {
    const char *end = text + size, *newline;
    parser p;
    memset(s, 0, sizeof *s);
    memset(&p, 0, sizeof p);
    p.s = s;
    p.text = p.at = text;
    if (size > UINT32_MAX / 2) {
        p.line = 1;
        (void)fail(&p, &p.now, "larger than 2 GiB: is this a scenario?");
        return 1;
    }
    while (p.at < end && s->error_count < SCENE_ERRORS && !s->out_of_memory) {
        const char *begin = p.at;
        newline = (const char *)memchr(begin, '\n', (size_t)(end - begin));
        p.line++;
        p.end = newline ? newline : end;
        line(&p);
        p.at = newline ? newline + 1 : end;
    }
    p.failed = false;
    if (s->error_count == 0)
        budget_check(&p);
    return (int)s->error_count;
}
void scene_free(scene *s) {
    free(s->statements);
    free(s->vertices);
    free(s->members);
    free(s->texts);
    free(s->table);
    memset(s, 0, sizeof *s);
}

/* ---- words for people ------------------------------------------------------------------------ */

const char *scene_verb_name(uint32_t verb) { return verbs[verb].name; }
const char *scene_measure_name(uint32_t measure) { return measures[measure].name; }
void scene_choice(uint32_t verb, uint32_t at, uint64_t value_at, char out[SCENE_NAME]) {
    size_t size;
    const char *text = word_at(fields[verb][at].words, value_at, &size);
    (void)snprintf(out, SCENE_NAME, "%.*s", (int)(text ? size : 0), text ? text : "");
}
/* Sizes in decimal units; a value that no larger unit divides keeps three digits behind its
 * point. */
void scene_print_value(uint32_t measure, uint64_t x, char *out, size_t size) {
    const unit *u = kinds[measures[measure].value].units, *best = u;
    if (measures[measure].value == HEX) {
        (void)snprintf(out, size, "0x%016llx", (unsigned long long)x);
        return;
    }
    for (; u && u->name; u++)
        if (x >= u->scale && u->scale != 1024 && u->scale != 1048576 && u->scale <= 1000000)
            best = u;
    if (!best || x % best->scale == 0)
        (void)snprintf(out, size, "%llu%s", (unsigned long long)(best ? x / best->scale : x),
                       best ? best->name : "");
    else
        (void)snprintf(out, size, "%llu.%03u%s", (unsigned long long)(x / best->scale),
                       (unsigned)(x % best->scale / (best->scale / 1000)), best->name);
}
