/* Scenario files: any text gives statements whose every field is in its range, or errors with a
 * place in the text and words that fit on a line. */
#include "../../tools/p2p_scene.c"
#include "replay.h"

static void check_group(const scene *s, const scene_statement *t, uint32_t i) {
    scene_group g = scene_group_of(t, i);
    uint32_t k;
    FUZZ_CHECK(g.count > 0 && g.first <= s->member_count && g.count <= s->member_count - g.first);
    for (k = 0; k < g.count; k++)
        FUZZ_CHECK(s->members[g.first + k] < s->vertex_count);
}
static void check_text(const scene *s, const scene_statement *t, uint32_t i) {
    uint64_t at = t->value[i] >> 32;
    FUZZ_CHECK(at < s->text_size && memchr(s->texts + at, 0, s->text_size - at) != NULL);
    FUZZ_CHECK(s->texts[at] != 0);
}
static void check_field(const scene *s, const scene_statement *t, uint32_t i, const field *f) {
    uint64_t most = f->most ? f->most : kinds[f->kind].most;
    size_t size;
    switch (f->kind) {
    case NEW:
    case GROUP: check_group(s, t, i); break;
    case TARGET:
        if (scene_group_of(t, i).count)
            check_group(s, t, i);
        else
            check_text(s, t, i);
        break;
    case WORD:
    case PATH: check_text(s, t, i); break;
    case CHOICE: FUZZ_CHECK(word_at(f->words, t->value[i], &size) != NULL); break;
    case ARROW: break;
    case FLAG: FUZZ_CHECK(t->value[i] == 1); break;
    case DRIFT:
    case STEP: FUZZ_CHECK(t->value[i] <= most || 0 - t->value[i] <= most); break;
    default: FUZZ_CHECK(t->value[i] <= most); break;
    }
}
static void check_expect(const scene *s, const scene_statement *t) {
    uint32_t measure = (uint32_t)t->value[SCENE_expect_measure];
    FUZZ_CHECK(measure < SCENE_MEASURE_COUNT);
    FUZZ_CHECK(scene_given(t, SCENE_expect_a) == (measures[measure].of == NODE));
    FUZZ_CHECK(t->value[SCENE_expect_order] < 3);
    if (scene_given(t, SCENE_expect_a))
        check_group(s, t, SCENE_expect_a);
    if (scene_given(t, SCENE_expect_b))
        check_group(s, t, SCENE_expect_b);
}
static void check_statement(const scene *s, const scene_statement *t, size_t size) {
    const field *list = fields[t->verb];
    uint32_t i;
    FUZZ_CHECK(t->verb < SCENE_VERB_COUNT && t->line > 0 && t->column > 0);
    FUZZ_CHECK(t->first < size && t->size > 0 && t->size <= size - t->first);
    FUZZ_CHECK(!t->every_us || t->until_us >= t->at_us);
    FUZZ_CHECK(t->at_us == SCENE_NO_TIME || t->at_us <= SCENE_TIME_MAX);
    if (t->verb == SCENE_expect) {
        check_expect(s, t);
        return;
    }
    for (i = 0; list[i].name; i++) {
        FUZZ_CHECK(scene_given(t, i) || list[i].place != MUST);
        if (scene_given(t, i))
            check_field(s, t, i, &list[i]);
    }
}
static void check_errors(const scene *s, const uint8_t *data, size_t size) {
    uint32_t i, lines = 1;
    size_t k;
    for (k = 0; k < size; k++)
        lines += data[k] == '\n';
    for (i = 0; i < s->error_count; i++) {
        const scene_error *e = &s->errors[i];
        FUZZ_CHECK(e->line > 0 && e->line <= lines && e->column > 0 && e->column <= size + 1);
        FUZZ_CHECK(i == 0 || e->line > s->errors[i - 1].line);
        FUZZ_CHECK(e->text[0] != 0 && strlen(e->text) < sizeof e->text - 1);
    }
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static scene s;
    uint32_t i;
    int errors = scene_parse(&s, (const char *)data, size);
    FUZZ_CHECK(errors == (int)s.error_count && errors >= 0 && errors <= SCENE_ERRORS);
    check_errors(&s, data, size);
    for (i = 0; errors == 0 && i < s.statement_count; i++)
        check_statement(&s, &s.statements[i], size);
    for (i = 0; i < s.vertex_count; i++)
        FUZZ_CHECK(strlen(s.vertices[i].name) > 0 && strlen(s.vertices[i].name) < SCENE_NAME);
    scene_free(&s);
    return 0;
}
