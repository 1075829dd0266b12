/* What the command prints of a peer's bytes: nothing that a terminal obeys, and JSON that is valid
 * UTF-8 without control characters and with every quote escaped. */
#include "../../tools/p2p_text.c"
#include "replay.h"

static char *made;
static size_t made_size;

static FILE *begin(void) {
    FILE *out = open_memstream(&made, &made_size);
    FUZZ_CHECK(out != NULL);
    return out;
}

static void check_printable(bool multiline) {
    uint32_t c = 0;
    size_t i, n;
    for (i = 0; i < made_size; i += n) {
        n = tool_utf8((const uint8_t *)made + i, made_size - i, &c);
        FUZZ_CHECK(n > 0);
        FUZZ_CHECK(tool_printable(c) || (multiline && (c == '\n' || c == '\t')));
    }
}

static void check_print(const uint8_t *data, size_t size, bool multiline) {
    FILE *out = begin();
    tool_print_safe(out, data, size, multiline);
    (void)fclose(out);
    check_printable(multiline);
    FUZZ_CHECK(made_size >= size && made_size <= 4 * size);
    free(made);
}

static void check_json(const uint8_t *data, size_t size) {
    FILE *out = begin();
    json j;
    size_t i;
    json_open(&j, out);
    json_begin(&j, NULL, '[');
    json_text(&j, NULL, data, size);
    json_end(&j, ']');
    (void)fclose(out);
    check_printable(false);
    FUZZ_CHECK(made_size >= 4 && memcmp(made, "[\"", 2) == 0);
    FUZZ_CHECK(memcmp(made + made_size - 2, "\"]", 2) == 0);
    for (i = 2; i < made_size - 2; i++) {
        if (made[i] == '\\')
            FUZZ_CHECK(strchr("\"\\u", made[++i]) != NULL && i < made_size - 2);
        else
            FUZZ_CHECK(made[i] != '"');
    }
    free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_print(data, size, false);
    check_print(data, size, true);
    check_json(data, size);
    return 0;
}
