/* Text that is safe to print, errors, and JSON. */
#include "p2p_tool.h"

#include <stdarg.h>
#include <string.h>

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

size_t tool_utf8(const uint8_t *at, size_t left, uint32_t *out) {
    static const uint32_t smallest[5] = {0, 0, 0x80u, 0x800u, 0x10000u};
    size_t size, i;
    uint32_t c;
    if (left == 0)
        return 0;
    size = at[0] < 0x80u ? 1 : at[0] < 0xc0u ? 0 : at[0] < 0xe0u ? 2 : at[0] < 0xf0u ? 3 : 4;
    if (size == 0 || size > left || at[0] > 0xf4u)
        return 0;
    c = size == 1 ? at[0] : at[0] & (0xffu >> (size + 1));
    for (i = 1; i < size; i++) {
        if ((at[i] & 0xc0u) != 0x80u)
            return 0;
        c = c << 6 | (at[i] & 0x3fu);
    }
    if (c < smallest[size] || c > 0x10ffffu || (c >= 0xd800u && c <= 0xdfffu))
        return 0;
    *out = c;
    return size;
}

bool tool_utf8_valid(const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    uint32_t c;
    size_t n, i;
    for (i = 0; i < size; i += n) {
        n = tool_utf8(at + i, size - i, &c);
        if (n == 0)
            return false;
    }
    return true;
}

bool tool_printable(uint32_t c) {
    if (c < 0x20u || (c >= 0x7fu && c < 0xa0u))
        return false;
    if (c == 0x200eu || c == 0x200fu || c == 0x2028u || c == 0x2029u || c == 0xfeffu)
        return false;
    return !(c >= 0x202au && c <= 0x202eu) && !(c >= 0x2066u && c <= 0x2069u);
}

void tool_print_safe(FILE *out, const void *data, size_t size, bool multiline) {
    const uint8_t *at = (const uint8_t *)data;
    uint32_t c;
    size_t n, i, k;
    for (i = 0; i < size; i += n) {
        n = tool_utf8(at + i, size - i, &c);
        if (n > 0 && (tool_printable(c) || (multiline && (c == '\n' || c == '\t')))) {
            (void)fwrite(at + i, 1, n, out);
            continue;
        }
        n = n == 0 ? 1 : n;
        for (k = 0; k < n; k++)
            (void)fprintf(out, "\\x%02x", at[i + k]);
    }
}

/* ---- errors and notes ------------------------------------------------------------------------ */

static void say(const char *command, const char *format, va_list list) {
    char text[2048];
    int n = vsnprintf(text, sizeof text, format, list);
    (void)fprintf(stderr, command ? "p2p %s: " : "p2p: ", command);
    if (n > 0)
        tool_print_safe(stderr, text, strlen(text), false);
    (void)fputc('\n', stderr);
}

int tool_fail(const char *command, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(command, format, list);
    va_end(list);
    return TOOL_FAILED;
}

int tool_usage(const char *command, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(command, format, list);
    va_end(list);
    if (command)
        (void)fprintf(stderr, "Try 'p2p %s --help'.\n", command);
    else
        (void)fputs("Try 'p2p --help'.\n", stderr);
    return TOOL_USAGE;
}

void tool_note(const char *command, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(command, format, list);
    va_end(list);
}

const char *tool_size_text(uint64_t bytes, char out[32]) {
    static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    uint64_t unit = 1000;
    unsigned i = 0;
    if (bytes < 1000) {
        (void)snprintf(out, 32, "%u B", (unsigned)bytes);
        return out;
    }
    while (i < 5 && bytes / 1000 >= unit) {
        unit *= 1000;
        i++;
    }
    (void)snprintf(out, 32, "%u.%u %s", (unsigned)(bytes / unit),
                   (unsigned)(bytes % unit / (unit / 10)), units[i]);
    return out;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

void json_open(json *j, FILE *out) {
    memset(j, 0, sizeof *j);
    j->out = out;
}

/* Bytes that are not UTF-8 become U+FFFD, and so does nothing else: a reader can see that they were
 * there. */
static void json_quote(json *j, const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    uint32_t c;
    size_t n, i;
    (void)fputc('"', j->out);
    for (i = 0; i < size; i += n) {
        n = tool_utf8(at + i, size - i, &c);
        if (n == 0) {
            (void)fputs("\\ufffd", j->out);
            n = 1;
        } else if (c == '"' || c == '\\') {
            (void)fprintf(j->out, "\\%c", (int)c);
        } else if (!tool_printable(c) && c < 0x10000u) {
            (void)fprintf(j->out, "\\u%04x", (unsigned)c);
        } else {
            (void)fwrite(at + i, 1, n, j->out);
        }
    }
    (void)fputc('"', j->out);
}

static void json_name(json *j, const char *name) {
    if (j->depth > 0 && j->filled[j->depth - 1])
        (void)fputc(',', j->out);
    if (j->depth > 0)
        j->filled[j->depth - 1] = true;
    if (name) {
        json_quote(j, name, strlen(name));
        (void)fputc(':', j->out);
    }
}

void json_begin(json *j, const char *name, char bracket) {
    json_name(j, name);
    (void)fputc(bracket, j->out);
    if (j->depth < JSON_DEPTH)
        j->filled[j->depth++] = false;
}

void json_end(json *j, char bracket) {
    (void)fputc(bracket, j->out);
    if (j->depth > 0)
        j->depth--;
}

void json_text(json *j, const char *name, const void *data, size_t size) {
    json_name(j, name);
    json_quote(j, data, size);
}

void json_string(json *j, const char *name, const char *text) {
    json_text(j, name, text, strlen(text));
}

void json_number(json *j, const char *name, uint64_t value) {
    json_name(j, name);
    (void)fprintf(j->out, "%llu", (unsigned long long)value);
}

void json_thousandths(json *j, const char *name, uint64_t value) {
    json_name(j, name);
    (void)fprintf(j->out, "%llu.%03u", (unsigned long long)(value / 1000),
                  (unsigned)(value % 1000));
}

void json_hex(json *j, const char *name, const void *data, size_t size) {
    const uint8_t *at = (const uint8_t *)data;
    size_t i;
    json_name(j, name);
    (void)fputc('"', j->out);
    for (i = 0; i < size; i++)
        (void)fprintf(j->out, "%02x", at[i]);
    (void)fputc('"', j->out);
}

void json_bool(json *j, const char *name, bool value) {
    json_name(j, name);
    (void)fputs(value ? "true" : "false", j->out);
}

void json_line(json *j) {
    (void)fputc('\n', j->out);
    (void)fflush(j->out);
}
