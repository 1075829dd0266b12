/* Arguments of the command line: one table of options, one parser. */
#include "p2p_tool.h"

#include <string.h>

static const struct tool_option {
    const char *name;
    char letter;
    bool value;
} options[] = {
    {"--help", 'h', false},    {"-h", 'h', false},       {"--json", 'j', false},
    {"--verbose", 'v', false}, {"-v", 'v', false},       {"--key", 'k', true},
    {"-k", 'k', true},         {"--listen", 'l', true},  {"-l", 'l', true},
    {"--allow", 'a', true},    {"--output", 'o', true},  {"-o", 'o', true},
    {"--body", 'b', true},     {"--header", 'H', true},  {"-H", 'H', true},
    {"--count", 'c', true},    {"-c", 'c', true},        {"--interval", 'i', true},
    {"-i", 'i', true},         {"--timeout", 't', true}, {"--random", 'r', false},
    {"--print", 'p', false},   {"--seed", 's', true},    {"--pcap", 'P', true},
    {"--qlog", 'Q', true},     {"--html", 'M', true},
};

static const struct tool_option *option_find(const char *word, size_t size) {
    size_t i;
    for (i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, word, size) == 0)
            return &options[i];
    return NULL;
}

static int number(const tool_args *a, const char *name, const char *value, uint32_t max,
                  uint32_t *out) {
    uint64_t n = 0;
    if (p2p_str_u64(p2p_str_of(value), &n) < 0 || n == 0 || n > max)
        return tool_usage(a->command, "%s takes a number from 1 to %u, not '%s'", name, max, value);
    *out = (uint32_t)n;
    return TOOL_OK;
}

static int seed(tool_args *a, const char *value) {
    if (a->seeded)
        return tool_usage(a->command, "--seed is given twice");
    if (p2p_str_u64(p2p_str_of(value), &a->seed) < 0)
        return tool_usage(a->command, "--seed takes a number of at most 64 bits, not '%s'", value);
    a->seeded = true;
    return TOOL_OK;
}

static int once(const tool_args *a, const char *name, const char *value, const char **out) {
    if (*out)
        return tool_usage(a->command, "%s is given twice: '%s' and '%s'", name, *out, value);
    if (!*value)
        return tool_usage(a->command, "%s is given nothing", name);
    *out = value;
    return TOOL_OK;
}

static int allow(tool_args *a, const char *value) {
    if (a->allow_count == TOOL_ALLOW)
        return tool_usage(a->command, "--allow is given more than %d times", (int)TOOL_ALLOW);
    if (p2p_id_parse(value, &a->allow[a->allow_count]) < 0)
        return tool_usage(a->command,
                          "--allow '%s' is no NodeId: 52 characters of z-base-32 or 64 of hex, as "
                          "'p2p id FILE' prints them",
                          value);
    a->allow_count++;
    return TOOL_OK;
}

static bool token(const char *text, size_t size) {
    size_t i;
    for (i = 0; i < size; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~", text[i]))
            return false;
    return size > 0;
}

static int header(tool_args *a, const char *value) {
    const char *colon = strchr(value, ':');
    p2p_header *h = &a->headers[a->header_count];
    if (a->header_count == TOOL_HEADERS)
        return tool_usage(a->command, "--header is given more than %d times", (int)TOOL_HEADERS);
    if (!colon || !token(value, (size_t)(colon - value)) || strpbrk(value, "\r\n"))
        return tool_usage(a->command,
                          "--header '%s' is not 'name: value' on one line with a lower-case name",
                          value);
    h->name.data = value;
    h->name.size = (size_t)(colon - value);
    h->value = p2p_str_of(colon + 1 + strspn(colon + 1, " "));
    a->header_count++;
    return TOOL_OK;
}

static int listen_at(tool_args *a, const char *value) {
    p2p_addr addr;
    if (p2p_addr_parse(value, &addr) < 0)
        return tool_usage(a->command,
                          "--listen '%s' is no address with a port, as 0.0.0.0:8800 or [::]:8800",
                          value);
    return once(a, "--listen", value, &a->listen);
}

static int apply(tool_args *a, const struct tool_option *o, const char *value) {
    switch (o->letter) {
    case 'h': a->help = true; return TOOL_OK;
    case 'j': a->json = true; return TOOL_OK;
    case 'v': a->verbose = true; return TOOL_OK;
    case 'r': a->random = true; return TOOL_OK;
    case 'p': a->print = true; return TOOL_OK;
    case 's': return seed(a, value);
    case 'P': return once(a, o->name, value, &a->pcap);
    case 'Q': return once(a, o->name, value, &a->qlog);
    case 'M': return once(a, o->name, value, &a->html);
    case 'k': return once(a, o->name, value, &a->key);
    case 'l': return listen_at(a, value);
    case 'o': return once(a, o->name, value, &a->output);
    case 'b': return once(a, o->name, value, &a->body);
    case 'a': return allow(a, value);
    case 'H': return header(a, value);
    case 'c': return number(a, o->name, value, 1000000, &a->count);
    case 'i': return number(a, o->name, value, 3600000, &a->interval_ms);
    default: return number(a, o->name, value, 3600, &a->timeout_s);
    }
}

/* One option at argv[i]; *used tells how many words it took. */
static int option(tool_args *a, const char *allowed, int i, int argc, char **argv, int *used) {
    const char *word = argv[i], *equals = word[1] == '-' ? strchr(word, '=') : NULL;
    size_t size = equals ? (size_t)(equals - word) : strlen(word);
    const struct tool_option *o = option_find(word, size);
    *used = 1;
    if (!o || (o->letter != 'h' && !strchr(allowed, o->letter)))
        return tool_usage(a->command, "there is no option %.*s here", (int)size, word);
    if (!o->value)
        return equals ? tool_usage(a->command, "%s takes no value", o->name) : apply(a, o, "");
    if (equals)
        return apply(a, o, equals + 1);
    if (i + 1 >= argc)
        return tool_usage(a->command, "%s needs a value behind it", o->name);
    *used = 2;
    return apply(a, o, argv[i + 1]);
}

int tool_args_parse(tool_args *a, const char *command, const char *allowed, int argc, char **argv) {
    bool words_only = false;
    int i, used, rc;
    memset(a, 0, sizeof *a);
    a->command = command;
    for (i = 0; i < argc; i += used) {
        used = 1;
        if (!words_only && strcmp(argv[i], "--") == 0) {
            words_only = true;
        } else if (!words_only && argv[i][0] == '-' && argv[i][1]) {
            rc = option(a, allowed, i, argc, argv, &used);
            if (rc != TOOL_OK)
                return rc;
        } else if (a->word_count < TOOL_WORDS) {
            a->words[a->word_count++] = argv[i];
        } else {
            return tool_usage(command, "'%s' is one word too many", argv[i]);
        }
        if (a->help)
            return TOOL_OK;
    }
    return TOOL_OK;
}
