/* Scenario files (docs/SCENARIOS.md): text in, a table of statements out. No input or output, no clock, nothing of p2p.h: what the statements do is in p2p_scene_run.c.
 *
 * A statement is a verb and its fields, listed here once: the parser's tables and the enum of
 * places in scene_statement.value are made from these lists. */
#ifndef P2P_SCENE_H
#define P2P_SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(verb, field, kind, place, largest value or 0, words of a choice)
 * MUST: in its place, always. MAY: in its place, or left out. OPTION: field=value, in any order. */

/* It would make stairs of these lists. */
/* clang-format off */
#define SCENE_FIELDS_seed(X) X(seed, number, NUMBER, MUST, 0, "")
#define SCENE_FIELDS_secure(X) X(secure, channel, CHOICE, MUST, 0, "null dtls")
#define SCENE_FIELDS_end(X)                                                                       \
    X(end, idle, WHEN, MAY, 0, "") X(end, time, TIME, MUST, 0, "")
#define SCENE_FIELDS_network(X)                                                                   \
    X(network, discovery, TIME, OPTION, 0, "") X(network, ttl, TIME, OPTION, 0, "")               \
    X(network, failure, CHANCE, OPTION, 0, "") X(network, partition, CHANCE, OPTION, 0, "")       \
    X(network, oneway, CHANCE, OPTION, 0, "") X(network, not_found, CHANCE, OPTION, 0, "")        \
    X(network, unanswered, CHANCE, OPTION, 0, "") X(network, connect, TIME, OPTION, 0, "")        \
    X(network, message, SIZE, OPTION, 1u << 24, "")                                               \
    X(network, routing, CHOICE, OPTION, 0, "hops latency")                                        \
    X(network, packets, COUNT, OPTION, 1000000, "") X(network, drops, COUNT, OPTION, 1000000, "") \
    X(network, receive, SIZE, OPTION, 1u << 30, "") X(network, idle, TIME, OPTION, 0, "")         \
    X(network, step, TIME, OPTION, 0, "") X(network, multiplier, COUNT, OPTION, 1000000, "")      \
    X(network, boxes, COUNT, OPTION, 1000000, "") X(network, flows, COUNT, OPTION, 10000000, "")
#define SCENE_FIELDS_node(X)                                                                      \
    X(node, names, NEW, MUST, 0, "") X(node, congestion, CHOICE, OPTION, 0, "bbr cubic newreno")  \
    X(node, buffer, SIZE, OPTION, 1u << 28, "") X(node, streams, COUNT, OPTION, 65000, "")        \
    X(node, conns, COUNT, OPTION, 65000, "") X(node, datagrams, COUNT, OPTION, 65000, "")         \
    X(node, in_flight, COUNT, OPTION, 1000000, "") X(node, mtu, SIZE, OPTION, 65535, "")          \
    X(node, idle, TIME, OPTION, 0, "") X(node, keepalive, TIME, OPTION, 0, "")                    \
    X(node, silent, FLAG, OPTION, 0, "")
#define SCENE_FIELDS_router(X) X(router, names, NEW, MUST, 0, "")
#define SCENE_FIELDS_host(X)                                                                      \
    X(host, names, NEW, MUST, 0, "") X(host, echo, FLAG, OPTION, 0, "")
#define SCENE_LINK_OPTIONS(X, verb)                                                               \
    X(verb, latency, TIME, OPTION, 0, "") X(verb, jitter, TIME, OPTION, 0, "")                    \
    X(verb, loss, CHANCE, OPTION, 0, "") X(verb, burst, CHANCE, OPTION, 0, "")                    \
    X(verb, duplicate, CHANCE, OPTION, 0, "") X(verb, reorder, CHANCE, OPTION, 0, "")             \
    X(verb, corrupt, CHANCE, OPTION, 0, "") X(verb, rate, RATE, OPTION, 0, "")                    \
    X(verb, queue, SIZE, OPTION, UINT32_MAX, "") X(verb, mtu, SIZE, OPTION, UINT32_MAX, "")       \
    X(verb, overhead, SIZE, OPTION, 65535, "") X(verb, burst_max, COUNT, OPTION, UINT32_MAX, "")  \
    X(verb, corrupt_head, SIZE, OPTION, UINT32_MAX, "")                                           \
    X(verb, spread, CHOICE, OPTION, 0, "uniform normal pareto")                                   \
    X(verb, discipline, CHOICE, OPTION, 0, "tail codel")                                          \
    X(verb, state, CHOICE, OPTION, 0, "up down")
#define SCENE_FIELDS_links(X) SCENE_LINK_OPTIONS(X, links)
#define SCENE_FIELDS_link(X)                                                                      \
    X(link, a, GROUP, MUST, 0, "") X(link, arrow, ARROW, MAY, 0, "")                              \
    X(link, b, GROUP, MUST, 0, "") SCENE_LINK_OPTIONS(X, link)
#define SCENE_FIELDS_mesh(X)                                                                      \
    X(mesh, a, GROUP, MUST, 0, "") SCENE_LINK_OPTIONS(X, mesh)
#define SCENE_FIELDS_nat(X)                                                                       \
    X(nat, a, GROUP, MUST, 0, "")                                                                 \
    X(nat, kind, CHOICE, MUST, 0, "none full addr port sym blocked firewall")                     \
    X(nat, table, COUNT, OPTION, UINT32_MAX, "") X(nat, lone, TIME, OPTION, 0, "")                \
    X(nat, assured, TIME, OPTION, 0, "") X(nat, level, NUMBER, OPTION, 7, "")                     \
    X(nat, mapping, CHOICE, OPTION, 0, "kind independent address port")                           \
    X(nat, filtering, CHOICE, OPTION, 0, "kind independent address port")                         \
    X(nat, ports, CHOICE, OPTION, 0, "kind keep next random")                                     \
    X(nat, hairpin, FLAG, OPTION, 0, "") X(nat, early, FLAG, OPTION, 0, "")                       \
    X(nat, outbound_only, FLAG, OPTION, 0, "") X(nat, overlap, FLAG, OPTION, 0, "")
#define SCENE_FIELDS_behind(X)                                                                    \
    X(behind, a, GROUP, MUST, 0, "") X(behind, b, GROUP, MAY, 0, "")
#define SCENE_FIELDS_rebind(X)                                                                    \
    X(rebind, a, GROUP, MUST, 0, "") X(rebind, how, CHOICE, OPTION, 0, "port flush address")      \
    X(rebind, level, NUMBER, OPTION, 7, "")
#define SCENE_FIELDS_name(X)                                                                      \
    X(name, word, WORD, MUST, 0, "") X(name, a, GROUP, MUST, 0, "")
#define SCENE_FIELDS_register(X)                                                                  \
    X(register, a, GROUP, MUST, 0, "") X(register, word, WORD, MUST, 0, "")
#define SCENE_FIELDS_route(X)                                                                     \
    X(route, a, GROUP, MUST, 0, "") X(route, method, CHOICE, MUST, 0, SCENE_METHODS)              \
    X(route, path, PATH, MUST, 0, "") X(route, size, SIZE, MUST, 1u << 30, "")                    \
    X(route, status, COUNT, OPTION, 599, "")
#define SCENE_FIELDS_dial(X)                                                                      \
    X(dial, a, GROUP, MUST, 0, "") X(dial, b, TARGET, MUST, 0, "")                                \
    X(dial, timeout, TIME, OPTION, 0, "") X(dial, reconnect, FLAG, OPTION, 0, "")                 \
    X(dial, share, FLAG, OPTION, 0, "")
#define SCENE_FIELDS_close(X)                                                                     \
    X(close, a, GROUP, MUST, 0, "") X(close, b, GROUP, MUST, 0, "")                               \
    X(close, code, COUNT, OPTION, UINT32_MAX, "")
#define SCENE_FIELDS_stop(X) X(stop, a, GROUP, MUST, 0, "")
#define SCENE_FIELDS_stream(X)                                                                    \
    X(stream, a, GROUP, MUST, 0, "") X(stream, b, GROUP, MUST, 0, "")                             \
    X(stream, size, SIZE, MUST, 0, "") X(stream, count, COUNT, OPTION, 100000, "")                \
    X(stream, priority, NUMBER, OPTION, 7, "")
#define SCENE_FIELDS_message(X)                                                                   \
    X(message, a, GROUP, MUST, 0, "") X(message, b, GROUP, MUST, 0, "")                           \
    X(message, size, SIZE, MUST, 1u << 24, "") X(message, count, COUNT, OPTION, 100000, "")
#define SCENE_FIELDS_datagram(X)                                                                  \
    X(datagram, a, GROUP, MUST, 0, "") X(datagram, b, GROUP, MUST, 0, "")                         \
    X(datagram, size, SIZE, MUST, 65535, "") X(datagram, count, COUNT, OPTION, 100000, "")
#define SCENE_FIELDS_udp(X)                                                                       \
    X(udp, a, GROUP, MUST, 0, "") X(udp, b, GROUP, MUST, 0, "")                                   \
    X(udp, size, SIZE, MUST, 65535, "") X(udp, count, COUNT, OPTION, 100000, "")
#define SCENE_FIELDS_request(X)                                                                   \
    X(request, a, GROUP, MUST, 0, "") X(request, b, GROUP, MUST, 0, "")                           \
    X(request, method, CHOICE, MUST, 0, SCENE_METHODS) X(request, path, PATH, MUST, 0, "")        \
    X(request, body, SIZE, OPTION, 1u << 20, "") X(request, count, COUNT, OPTION, 100000, "")
#define SCENE_FIELDS_drop(X)                                                                      \
    X(drop, a, GROUP, MUST, 0, "") X(drop, arrow, ARROW, MUST, 0, "")                             \
    X(drop, b, GROUP, MUST, 0, "") X(drop, first, COUNT, OPTION, UINT32_MAX, "")                  \
    X(drop, count, COUNT, OPTION, UINT32_MAX, "")
#define SCENE_FIELDS_partition(X)                                                                 \
    X(partition, a, GROUP, MUST, 0, "") X(partition, arrow, ARROW, MAY, 0, "")                    \
    X(partition, b, GROUP, MUST, 0, "")
#define SCENE_FIELDS_heal(X)                                                                      \
    X(heal, a, GROUP, MAY, 0, "") X(heal, b, GROUP, MAY, 0, "")
#define SCENE_FIELDS_crash(X) X(crash, a, GROUP, MUST, 0, "")
#define SCENE_FIELDS_restart(X) X(restart, a, GROUP, MUST, 0, "")
#define SCENE_FIELDS_pause(X) X(pause, a, GROUP, MUST, 0, "")
#define SCENE_FIELDS_resume(X) X(resume, a, GROUP, MUST, 0, "")
#define SCENE_FIELDS_clock(X)                                                                     \
    X(clock, a, GROUP, MUST, 0, "") X(clock, drift, DRIFT, OPTION, 0, "")                         \
    X(clock, step, STEP, OPTION, 0, "")

/* Parsed by a function of its own: what is expected decides what stands behind it. */
#define SCENE_FIELDS_expect(X)                                                                    \
    X(expect, a, GROUP, MAY, 0, "") X(expect, measure, CHOICE, MUST, 0, "")                       \
    X(expect, order, CHOICE, MAY, 0, "= >= <=") X(expect, value, NUMBER, MAY, 0, "")              \
    X(expect, b, GROUP, MAY, 0, "") X(expect, by, TIME, OPTION, 0, "")
#define SCENE_METHODS "GET POST PUT DELETE PATCH"

/* V(verb, when): SETUP has no time; ANY may have one; SPAN may also end by `for` */
#define SCENE_VERBS(V)                                                                            \
    V(seed, SETUP) V(secure, SETUP) V(end, SETUP) V(network, SETUP) V(node, SETUP)                \
    V(router, SETUP) V(host, SETUP) V(links, SPAN) V(link, SPAN) V(mesh, ANY) V(nat, ANY)         \
    V(behind, ANY) V(rebind, ANY) V(name, ANY) V(register, ANY) V(route, SETUP) V(dial, ANY)      \
    V(close, ANY) V(stop, ANY) V(stream, ANY) V(message, ANY) V(datagram, ANY) V(udp, ANY)        \
    V(request, ANY) V(drop, ANY) V(partition, SPAN) V(heal, ANY) V(crash, SPAN) V(restart, ANY)   \
    V(pause, SPAN) V(resume, ANY) V(clock, ANY) V(expect, ANY)

/* What can be expected. M(word, of, value, preposition): of a NODE towards another one, or of the
 * NETWORK; value is what is compared with, NONE for a state. */
#define SCENE_MEASURES(M)                                                                         \
    M(connected, NODE, NONE, "to") M(disconnected, NODE, NONE, "from")                            \
    M(received, NODE, SIZE, "from") M(streams, NODE, NUMBER, "from")                              \
    M(messages, NODE, NUMBER, "from") M(datagrams, NODE, NUMBER, "from")                          \
    M(answers, NODE, NUMBER, "from") M(failures, NODE, NUMBER, "from") M(rtt, NODE, TIME, "to")   \
    M(window, NODE, SIZE, "to") M(sent, NETWORK, NUMBER, "") M(delivered, NETWORK, NUMBER, "")    \
    M(lost, NETWORK, NUMBER, "") M(queue, NETWORK, NUMBER, "") M(mtu, NETWORK, NUMBER, "")        \
    M(route, NETWORK, NUMBER, "") M(nat, NETWORK, NUMBER, "") M(nobody, NETWORK, NUMBER, "")      \
    M(full, NETWORK, NUMBER, "") M(forwarded, NETWORK, NUMBER, "")                                \
    M(duplicated, NETWORK, NUMBER, "") M(corrupted, NETWORK, NUMBER, "")                          \
    M(buffer, NETWORK, NUMBER, "") M(digest, NETWORK, HEX, "")
/* clang-format on */

#define SCENE_VERB_ENUM(verb, when) SCENE_##verb,
enum scene_verb { SCENE_VERBS(SCENE_VERB_ENUM) SCENE_VERB_COUNT };
#define SCENE_FIELD_ENUM(verb, field, kind, place, most, words) SCENE_##verb##_##field,
#define SCENE_VERB_FIELDS(verb, when)                           enum { SCENE_FIELDS_##verb(SCENE_FIELD_ENUM) };
SCENE_VERBS(SCENE_VERB_FIELDS)
#define SCENE_MEASURE_ENUM(word, of, value, preposition) SCENE_IS_##word,
enum scene_measure { SCENE_MEASURES(SCENE_MEASURE_ENUM) SCENE_MEASURE_COUNT };

enum {
    SCENE_FIELDS = 24,          /* of a verb at most */
    SCENE_NAME = 64,            /* bytes of a name and its NUL */
    SCENE_VERTICES = 100000,    /* nodes and routers together */
    SCENE_STATEMENTS = 1000000, /* lines that say something */
    SCENE_MEMBERS = 10000000,   /* names in all groups together */
    SCENE_PAIRS = 1000000,      /* of two groups, or in a mesh, of one statement */
    SCENE_TIMES = 10000000,     /* what a file does: repetitions times pairs times `count` */
    SCENE_ERRORS = 50           /* then the parser stops */
};
#define SCENE_NO_TIME  UINT64_MAX
#define SCENE_TIME_MAX ((uint64_t)36000000000000u) /* microseconds: 10,000 hours */
#define SCENE_BYTES    ((uint64_t)100000000000u)   /* that all programs of a file send */
#define SCENE_TURNS    ((uint64_t)100000000u)      /* steps of time; keepalives of all */

/* Vertices by index, at scene.members + first. As a dial's target also a name: count 0, and the
 * text at scene.texts + first. */
typedef struct scene_group {
    uint32_t first, count;
} scene_group;

typedef struct scene_statement {
    uint32_t line, column; /* of the verb, from 1 */
    uint32_t verb;         /* enum scene_verb */
    uint32_t given;        /* a bit a field */
    uint32_t first, size;  /* where it stands in the text, `at` included, comment not */
    /* at_us SCENE_NO_TIME: at the start. every_us 0: once. for_us 0: it stays */
    uint64_t at_us, every_us, until_us, for_us;
    /* by SCENE_verb_field: microseconds, bytes, bits a second, millionths; the index of a choice;
     * for a group, a word or a path see scene_group_of and scene_text_of */
    uint64_t value[SCENE_FIELDS];
} scene_statement;

typedef struct scene_vertex {
    char name[SCENE_NAME];
    uint32_t statement; /* that made it */
    uint32_t seen;      /* the parser's: in which group it was named last */
    uint8_t made;       /* SCENE_node, SCENE_router or SCENE_host */
} scene_vertex;

typedef struct scene_error {
    uint32_t line, column;
    char text[232];
} scene_error;

typedef struct scene {
    scene_statement *statements;
    scene_vertex *vertices;
    uint32_t *members;
    char *texts; /* words and paths, each with its NUL */
    scene_error errors[SCENE_ERRORS];
    uint32_t statement_count, vertex_count, member_count, text_size, error_count;
    uint32_t statement_room, vertex_room, member_room, text_room;
    uint32_t *table, table_size; /* vertices by name, index + 1 */
    bool out_of_memory;
} scene;

/* Zeroes *s first. 0, or how many errors there are: scene.errors, in the order of lines. Memory
 * that ran out is an error too. scene_free is due in any case. */
int scene_parse(scene *s, const char *text, size_t size);
void scene_free(scene *s);

static inline bool scene_given(const scene_statement *t, uint32_t field) {
    return (t->given >> field & 1) != 0;
}
static inline scene_group scene_group_of(const scene_statement *t, uint32_t field) {
    scene_group g;
    g.first = (uint32_t)(t->value[field] >> 32);
    g.count = (uint32_t)t->value[field];
    return g;
}
static inline const char *scene_text_of(const scene *s, const scene_statement *t, uint32_t field) {
    return s->texts + (t->value[field] >> 32);
}
const char *scene_verb_name(uint32_t verb);
const char *scene_measure_name(uint32_t measure);
/* The word of a choice. */
void scene_choice(uint32_t verb, uint32_t field, uint64_t value, char out[SCENE_NAME]);

/* A value of what is measured in its own unit, as it is written in a file. */
void scene_print_value(uint32_t measure, uint64_t value, char *out, size_t size);

#endif
