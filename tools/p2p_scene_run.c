/* Scenarios, run: the network is made, statements take effect at their times, expectations are
 * decided. The programs on the nodes are in p2p_scene_app.c. */
#include "p2p_scene_run.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AFTER_US = 10000000 }; /* without `end` a run goes on for so long after the last statement */

/* ---- small things ---------------------------------------------------------------------------- */

static void complain(scene_run *r, const scene_statement *t, const char *text) {
    char line[512];
    if (t)
        (void)snprintf(line, sizeof line, "%s:%u:%u: %s", r->o.file, t->line, t->column, text);
    else
        (void)snprintf(line, sizeof line, "%s: %s", r->o.file, text);
    r->o.complain(r->o.ctx, line);
}
void scene_fail(scene_run *r, const scene_statement *t, const char *format, ...) {
    uint8_t *said = &r->complaints[t ? (uint32_t)(t - r->s->statements) : r->s->statement_count];
    char text[400], when[48];
    size_t n;
    va_list list;
    r->failed++;
    if (++*said > SCENE_COMPLAINTS) {
        *said = SCENE_COMPLAINTS + 1;
        return;
    }
    va_start(list, format);
    (void)vsnprintf(text, sizeof text - 96, format, list);
    va_end(list);
    when[0] = 0;
    if (r->sim && p2p_sim_now(r->sim) != 0)
        (void)snprintf(when, sizeof when, " (at %llu.%06u s)",
                       (unsigned long long)(p2p_sim_now(r->sim) / 1000000),
                       (unsigned)(p2p_sim_now(r->sim) % 1000000));
    n = strlen(text);
    (void)snprintf(text + n, sizeof text - n, "%s%s", when,
                   *said == SCENE_COMPLAINTS ? "; of this no more is said" : "");
    complain(r, t, text);
}
bool scene_grow(scene_run *r, void **items, uint32_t count, uint32_t *room, size_t item) {
    uint32_t want = *room ? *room * 2 : 16;
    void *bigger;
    if (count < *room)
        return true;
    bigger = realloc(*items, want * item);
    if (!bigger) {
        r->out_of_memory = true;
        return false;
    }
    *items = bigger;
    *room = want;
    return true;
}
uint64_t scene_hash(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
int scene_source(const scene_run *r, const scene_statement *t, const char **out) {
    *out = r->text + t->first;
    return (int)t->size;
}
static uint64_t first_word(const p2p_id *id) {
    uint64_t x;
    memcpy(&x, id->bytes, sizeof x);
    return x;
}
static uint32_t *id_slot(const scene_run *r, const p2p_id *id) {
    uint32_t mask = r->id_table_size - 1, at = (uint32_t)scene_hash(first_word(id)) & mask;
    for (; r->id_table[at]; at = (at + 1) & mask)
        if (p2p_id_equal(&r->nodes[r->id_table[at] - 1].id, id))
            break;
    return &r->id_table[at];
}
uint32_t scene_vertex_of(const scene_run *r, const p2p_id *id) {
    uint32_t at = *id_slot(r, id);
    return at ? at - 1 : UINT32_MAX;
}
/* What a call of p2p_sim.h that failed has to say. */
static bool sim_failed(scene_run *r, const scene_statement *t, int err) {
    if (err >= 0)
        return false;
    scene_fail(r, t, "%s: %s", p2p_err_text(err), *r->why.text ? r->why.text : "no more is known");
    return true;
}
static uint32_t member(const scene_run *r, scene_group g, uint32_t i) {
    return r->s->members[g.first + i];
}
static const p2p_id *id_of(const scene_run *r, scene_group g, uint32_t i) {
    return &r->nodes[member(r, g, i)].id;
}

/* ---- who looks on ---------------------------------------------------------------------------- */

static void tell(scene_run *r, const char *type, const scene_statement *t, const char *more) {
    char text[400];
    const char *source;
    int n = scene_source(r, t, &source);
    if (!r->see)
        return;
    (void)snprintf(text, sizeof text, "%.*s%s", n > 300 ? 300 : n, source, more);
    p2p_see_tell_note(r->see, NULL, type, text);
}
static void tell_vertex(scene_run *r, uint32_t vertex) {
    if (r->see)
        (void)p2p_see_set_vertex(r->see, r->s->vertices[vertex].name, &r->nodes[vertex].id,
                                 r->nodes[vertex].node);
}
/* Sinks that nobody will close any more. */
static void sinks_drop(scene_run *r) {
    uint32_t i;
    for (i = 0; i < r->o.sink_count; i++)
        if (r->o.sinks[i].close)
            (void)r->o.sinks[i].close(r->o.sinks[i].ctx);
    r->o.sink_count = 0;
}
static bool see_open(scene_run *r) {
    uint32_t i;
    if (r->o.sink_count == 0)
        return true;
    r->see = p2p_see_open(r->sim, &r->why);
    for (i = 0; r->see && i < r->o.sink_count; i++)
        if (p2p_see_add(r->see, &r->o.sinks[i]) < 0)
            break;
    if (r->see && i == r->o.sink_count) {
        r->o.sink_count = 0;
        return true;
    }
    scene_fail(r, NULL, "%s", r->why.text);
    return false;
}

/* ---- expectations ---------------------------------------------------------------------------- */

typedef struct sum {
    uint64_t value;
    uint32_t up, down, some; /* contacts that are connected, that ended; how many there are */
} sum;
static void sum_add(const scene_run *r, sum *s, uint32_t measure, const scene_contact *c) {
    p2p_stats stats;
    uint64_t now = 0;
    if (c->state == CONTACT_NONE)
        return;
    memset(&stats, 0, sizeof stats);
    if (c->state == CONTACT_UP && r->nodes[c->from].node)
        (void)p2p_conn_stats(r->nodes[c->from].node, c->conn, &stats);
    s->some++;
    s->up += c->state == CONTACT_UP;
    s->down += c->state == CONTACT_DOWN;
    switch (measure) {
    case SCENE_IS_received: now = c->bytes_in; break;
    case SCENE_IS_streams: now = c->streams_in; break;
    case SCENE_IS_messages: now = c->messages_in; break;
    case SCENE_IS_datagrams: now = c->datagrams_in; break;
    case SCENE_IS_answers: now = c->answers; break;
    case SCENE_IS_failures: now = c->failures; break;
    case SCENE_IS_rtt: now = stats.rtt_us; break;
    case SCENE_IS_window: now = stats.window_bytes; break;
    default: break;
    }
    if (measure == SCENE_IS_rtt || measure == SCENE_IS_window)
        s->value = now > s->value ? now : s->value;
    else
        s->value += now;
}
/* Of one node, towards the peers named, or all there are. */
static sum sum_of(const scene_run *r, const scene_statement *t, uint32_t vertex) {
    uint32_t i, measure = (uint32_t)t->value[SCENE_expect_measure];
    scene_group peers = scene_group_of(t, SCENE_expect_b);
    sum s;
    memset(&s, 0, sizeof s);
    if (scene_given(t, SCENE_expect_b)) {
        for (i = 0; i < peers.count; i++) {
            const scene_contact *c = scene_contact_find(r, vertex, member(r, peers, i));
            if (c)
                sum_add(r, &s, measure, c);
        }
        return s;
    }
    for (i = 0; i < r->contact_count; i++)
        if (r->contacts[i].from == vertex)
            sum_add(r, &s, measure, &r->contacts[i]);
    return s;
}
static bool compare(const scene_statement *t, uint64_t seen) {
    uint64_t want = t->value[SCENE_expect_value];
    switch (t->value[SCENE_expect_order]) {
    case 1: return seen >= want;
    case 2: return seen <= want;
    default: return seen == want;
    }
}
static bool node_meets(const scene_run *r, const scene_statement *t, uint32_t vertex, char *seen,
                       size_t size) {
    uint32_t measure = (uint32_t)t->value[SCENE_expect_measure];
    sum s = sum_of(r, t, vertex);
    uint32_t all = scene_given(t, SCENE_expect_b) ? scene_group_of(t, SCENE_expect_b).count : 1;
    char value[48];
    if (measure == SCENE_IS_connected || measure == SCENE_IS_disconnected) {
        (void)snprintf(seen, size, "%s has %u of these connections up, %u ended",
                       r->s->vertices[vertex].name, (unsigned)s.up, (unsigned)s.down);
        return (measure == SCENE_IS_connected ? s.up : s.down) >= all;
    }
    scene_print_value(measure, s.value, value, sizeof value);
    (void)snprintf(seen, size, "%s: %s", r->s->vertices[vertex].name, value);
    if ((measure == SCENE_IS_rtt || measure == SCENE_IS_window) && s.up == 0) {
        (void)snprintf(seen, size, "%s has no such connection", r->s->vertices[vertex].name);
        return false;
    }
    return compare(t, s.value);
}
static uint64_t network_value(const scene_run *r, uint32_t measure) {
    p2p_sim_stats s;
    if (measure == SCENE_IS_digest)
        return p2p_sim_digest(r->sim);
    p2p_sim_stats_get(r->sim, &s);
    switch (measure) {
#define FATE_CASE(upper, lower) \
    case SCENE_IS_##lower: return s.lower;
        P2P_SIM_FATES(FATE_CASE)
    default: return 0;
    }
}
/* Whether it is so now; every node of the group must meet it, and *seen is of the first that does
 * not. */
static bool meets(const scene_run *r, const scene_statement *t, char *seen, size_t size) {
    uint32_t i, measure = (uint32_t)t->value[SCENE_expect_measure];
    scene_group g = scene_group_of(t, SCENE_expect_a);
    uint64_t value;
    if (scene_given(t, SCENE_expect_a)) {
        for (i = 0; i < g.count; i++)
            if (!node_meets(r, t, member(r, g, i), seen, size))
                return false;
        return true;
    }
    value = network_value(r, measure);
    scene_print_value(measure, value, seen, size);
    return compare(t, value);
}
static void decide(scene_run *r, const scene_statement *t, bool met, const char *seen) {
    const char *source;
    int n = scene_source(r, t, &source);
    if (met)
        r->met++;
    else
        scene_fail(r, t, "not met: '%.*s', seen: %s", n > 160 ? 160 : n, source, seen);
    tell(r, met ? "met" : "failed", t, "");
}
void scene_expect_look(scene_run *r) {
    char seen[160];
    uint32_t i = 0;
    while (i < r->open_count) {
        const scene_statement *t = &r->s->statements[r->open[i]];
        if (!meets(r, t, seen, sizeof seen)) {
            i++;
            continue;
        }
        r->open_count--;
        memmove(&r->open[i], &r->open[i + 1], (r->open_count - i) * sizeof *r->open);
        decide(r, t, true, seen);
    }
}
static void expect_now(scene_run *r, const scene_statement *t) {
    char seen[160];
    bool met = meets(r, t, seen, sizeof seen);
    decide(r, t, met, seen);
}
/* `by` has come: it must have been decided. */
static void expect_deadline(scene_run *r, uint32_t statement) {
    uint32_t i;
    scene_expect_look(r);
    for (i = 0; i < r->open_count && r->open[i] != statement; i++) {}
    if (i == r->open_count)
        return;
    r->open_count--;
    memmove(&r->open[i], &r->open[i + 1], (r->open_count - i) * sizeof *r->open);
    expect_now(r, &r->s->statements[statement]);
}

/* ---- links ----------------------------------------------------------------------------------- */

/* The options of `link`, `links` and `mesh` stand in one order, from their latency on. */
enum { LINK_FIRST = SCENE_link_latency };
static bool has(const scene_statement *t, uint32_t first, uint32_t field) {
    return scene_given(t, first + field - LINK_FIRST);
}
static uint64_t get(const scene_statement *t, uint32_t first, uint32_t field) {
    return t->value[first + field - LINK_FIRST];
}
static void link_apply(const scene_statement *t, uint32_t first, p2p_sim_link *l) {
#define LINK_SET(field, member, type)      \
    if (has(t, first, SCENE_link_##field)) \
    l->member = (type)get(t, first, SCENE_link_##field)
    LINK_SET(latency, latency_us, uint64_t);
    LINK_SET(jitter, jitter_us, uint64_t);
    LINK_SET(rate, rate_bps, uint64_t);
    LINK_SET(loss, loss_ppm, uint32_t);
    LINK_SET(burst, burst_ppm, uint32_t);
    LINK_SET(duplicate, duplicate_ppm, uint32_t);
    LINK_SET(reorder, reorder_ppm, uint32_t);
    LINK_SET(corrupt, corrupt_ppm, uint32_t);
    LINK_SET(queue, queue_bytes, uint32_t);
    LINK_SET(mtu, mtu, uint32_t);
    LINK_SET(overhead, overhead, uint32_t);
    LINK_SET(burst_max, burst_max, uint32_t);
    LINK_SET(corrupt_head, corrupt_head, uint32_t);
    LINK_SET(spread, jitter, uint8_t);
    LINK_SET(discipline, codel, uint8_t);
    LINK_SET(state, down, uint8_t);
#undef LINK_SET
}
typedef struct scene_before {
    p2p_sim_link link;
    uint32_t from, to, statement;
    uint64_t at_us; /* when the statement took effect: it may do so more than once */
} scene_before;

static void keep_before(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to,
                        const p2p_sim_link *link) {
    scene_before *b;
    if (!scene_grow(r, (void **)&r->before, r->before_count, &r->before_room, sizeof *b))
        return;
    b = &r->before[r->before_count++];
    b->link = *link;
    b->from = from;
    b->to = to;
    b->statement = (uint32_t)(t - r->s->statements);
    b->at_us = p2p_sim_now(r->sim);
}
/* One direction, made anew or changed; what the statement does not say stays. */
static void link_one(scene_run *r, const scene_statement *t, uint32_t first, uint32_t from,
                     uint32_t to) {
    const p2p_id *a = &r->nodes[from].id, *b = &r->nodes[to].id;
    p2p_sim_link l = r->net.link;
    bool there = p2p_sim_link_get(r->sim, a, b, &l) >= 0;
    if (there && t->for_us)
        keep_before(r, t, from, to, &l);
    link_apply(t, first, &l);
    if (sim_failed(r, t, p2p_sim_connect_oneway(r->sim, a, b, &l)) || there)
        return;
    if (!scene_grow(r, (void **)&r->edges, r->edge_count, &r->edge_room, sizeof *r->edges))
        return;
    r->edges[r->edge_count].from = from;
    r->edges[r->edge_count++].to = to;
}
static void link_set(scene_run *r, const scene_statement *t) {
    scene_group a = scene_group_of(t, SCENE_link_a), b = scene_group_of(t, SCENE_link_b);
    uint32_t i, k;
    for (i = 0; i < a.count; i++)
        for (k = 0; k < b.count; k++) {
            if (member(r, a, i) == member(r, b, k))
                continue;
            link_one(r, t, LINK_FIRST, member(r, a, i), member(r, b, k));
            if (!scene_given(t, SCENE_link_arrow))
                link_one(r, t, LINK_FIRST, member(r, b, k), member(r, a, i));
        }
}
/* All there are; and those made later without saying otherwise, unless this ends by itself. */
static void links_set(scene_run *r, const scene_statement *t) {
    uint32_t i;
    for (i = 0; i < r->edge_count; i++)
        link_one(r, t, SCENE_links_latency, r->edges[i].from, r->edges[i].to);
    if (!t->for_us)
        link_apply(t, SCENE_links_latency, &r->net.link);
}
static void mesh(scene_run *r, const scene_statement *t) {
    scene_group g = scene_group_of(t, SCENE_mesh_a);
    uint32_t i, k;
    for (i = 0; i < g.count; i++)
        for (k = 0; k < i; k++) {
            link_one(r, t, SCENE_mesh_latency, member(r, g, k), member(r, g, i));
            link_one(r, t, SCENE_mesh_latency, member(r, g, i), member(r, g, k));
        }
}
/* In reverse, so that a direction named twice is as it was before the first time. */
static void links_restore(scene_run *r, const scene_statement *t) {
    uint32_t i = r->before_count, statement = (uint32_t)(t - r->s->statements);
    while (i-- != 0) {
        scene_before *b = &r->before[i];
        if (b->statement != statement || b->at_us + t->for_us != p2p_sim_now(r->sim))
            continue;
        (void)sim_failed(
            r, t, p2p_sim_link_set(r->sim, &r->nodes[b->from].id, &r->nodes[b->to].id, &b->link));
        r->before_count--;
        memmove(b, b + 1, (r->before_count - i) * sizeof *b);
    }
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void nat(scene_run *r, const scene_statement *t) {
    static const uint8_t kinds[] = {P2P_SIM_NAT_NONE,    P2P_SIM_NAT_FULL, P2P_SIM_NAT_ADDR,
                                    P2P_SIM_NAT_PORT,    P2P_SIM_NAT_SYM,  P2P_SIM_NAT_BLOCKED,
                                    P2P_SIM_NAT_FIREWALL};
    scene_group g = scene_group_of(t, SCENE_nat_a);
    p2p_sim_nat_desc desc;
    uint32_t i;
    memset(&desc, 0, sizeof desc);
    desc.kind = kinds[t->value[SCENE_nat_kind]];
    desc.level = (uint8_t)t->value[SCENE_nat_level];
    desc.table_max = (uint32_t)t->value[SCENE_nat_table];
    desc.lone_us = t->value[SCENE_nat_lone];
    desc.assured_us = t->value[SCENE_nat_assured];
    desc.mapping = (uint8_t)t->value[SCENE_nat_mapping]; /* the words stand as the enums do */
    desc.filtering = (uint8_t)t->value[SCENE_nat_filtering];
    desc.ports = (uint8_t)t->value[SCENE_nat_ports];
    desc.hairpin = scene_given(t, SCENE_nat_hairpin);
    desc.early = scene_given(t, SCENE_nat_early);
    desc.outbound_only = scene_given(t, SCENE_nat_outbound_only);
    desc.overlap = scene_given(t, SCENE_nat_overlap);
    for (i = 0; i < g.count; i++)
        if (!sim_failed(r, t, p2p_sim_nat(r->sim, id_of(r, g, i), &desc)))
            tell_vertex(r, member(r, g, i)); /* it has another address now */
}
static void behind(scene_run *r, const scene_statement *t, uint32_t vertex) {
    const p2p_id *router =
        scene_given(t, SCENE_behind_b) ? id_of(r, scene_group_of(t, SCENE_behind_b), 0) : NULL;
    if (!sim_failed(r, t, p2p_sim_behind(r->sim, &r->nodes[vertex].id, router)))
        tell_vertex(r, vertex);
}
static void crash(scene_run *r, const scene_statement *t, uint32_t vertex) {
    if (sim_failed(r, t, p2p_sim_crash(r->sim, &r->nodes[vertex].id)))
        return;
    scene_app_crashed(r, vertex);
    tell_vertex(r, vertex);
}
static void restart(scene_run *r, const scene_statement *t, uint32_t vertex) {
    if (sim_failed(r, t, p2p_sim_restart(r->sim, &r->nodes[vertex].id, &r->nodes[vertex].node)))
        return;
    tell_vertex(r, vertex);
    if (r->nodes[vertex].node)
        scene_app_start(r, vertex);
}
static void pause_node(scene_run *r, const scene_statement *t, uint32_t vertex) {
    (void)sim_failed(r, t, p2p_sim_pause(r->sim, &r->nodes[vertex].id));
}
static void resume(scene_run *r, const scene_statement *t, uint32_t vertex) {
    (void)sim_failed(r, t, p2p_sim_resume(r->sim, &r->nodes[vertex].id));
}
/* What is not given of the clock is 0: it goes as fast as the network's from now on. */
static void set_clock(scene_run *r, const scene_statement *t, uint32_t vertex) {
    (void)sim_failed(r, t,
                     p2p_sim_clock(r->sim, &r->nodes[vertex].id,
                                   (int32_t)(int64_t)t->value[SCENE_clock_drift],
                                   (int64_t)t->value[SCENE_clock_step]));
}
static void drop(scene_run *r, const scene_statement *t) {
    scene_group a = scene_group_of(t, SCENE_drop_a), b = scene_group_of(t, SCENE_drop_b);
    uint64_t first = scene_given(t, SCENE_drop_first) ? t->value[SCENE_drop_first] : 1;
    uint64_t count = scene_given(t, SCENE_drop_count) ? t->value[SCENE_drop_count] : 1;
    uint32_t i, k;
    for (i = 0; i < a.count; i++)
        for (k = 0; k < b.count; k++)
            (void)sim_failed(r, t,
                             p2p_sim_drop(r->sim, id_of(r, a, i), id_of(r, b, k), first, count));
}
static void rebind(scene_run *r, const scene_statement *t, uint32_t vertex) {
    (void)sim_failed(r, t,
                     p2p_sim_nat_rebind_to(r->sim, &r->nodes[vertex].id,
                                           (uint8_t)t->value[SCENE_rebind_level],
                                           (uint32_t)t->value[SCENE_rebind_how]));
    tell_vertex(r, vertex);
}
static void name(scene_run *r, const scene_statement *t, uint32_t vertex) {
    (void)sim_failed(
        r, t,
        p2p_sim_register(r->sim, scene_text_of(r->s, t, SCENE_name_word), &r->nodes[vertex].id));
}
/* Statements about a node that is down: the script is wrong. */
static bool running(scene_run *r, const scene_statement *t, uint32_t vertex) {
    if (r->nodes[vertex].node)
        return true;
    scene_fail(r, t, "%s is %s", r->s->vertices[vertex].name,
               r->s->vertices[vertex].made == SCENE_node ? "down" : "no node of p2p.h");
    return false;
}
static void node_failed(scene_run *r, const scene_statement *t, uint32_t vertex, int err) {
    p2p_error_detail why;
    if (err >= 0)
        return;
    p2p_last_error(r->nodes[vertex].node, &why);
    scene_fail(r, t, "%s: %s", r->s->vertices[vertex].name,
               *why.text ? why.text : p2p_err_text(err));
}
static void register_name(scene_run *r, const scene_statement *t, uint32_t vertex) {
    if (running(r, t, vertex))
        node_failed(
            r, t, vertex,
            p2p_register(r->nodes[vertex].node, scene_text_of(r->s, t, SCENE_register_word)));
}
static void stop(scene_run *r, const scene_statement *t, uint32_t vertex) {
    if (running(r, t, vertex))
        node_failed(r, t, vertex, p2p_node_stop(r->nodes[vertex].node, 0));
}
typedef void (*node_fn)(scene_run *r, const scene_statement *t, uint32_t vertex);
static void each(scene_run *r, const scene_statement *t, uint32_t field, node_fn fn) {
    scene_group g = scene_group_of(t, field);
    uint32_t i;
    for (i = 0; i < g.count; i++)
        fn(r, t, member(r, g, i));
}
typedef void (*pair_fn)(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to);
/* The two groups are the first fields of every statement that has two. */
static void each_pair(scene_run *r, const scene_statement *t, pair_fn fn) {
    scene_group a = scene_group_of(t, 0), b = scene_group_of(t, 1);
    uint32_t i, k;
    for (i = 0; i < a.count; i++)
        for (k = 0; k < b.count; k++)
            if (member(r, a, i) != member(r, b, k))
                fn(r, t, member(r, a, i), member(r, b, k));
}
static void dial_one(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to) {
    if (running(r, t, from))
        scene_app_dial(r, t, from, to);
}
static void dial(scene_run *r, const scene_statement *t) {
    scene_group a = scene_group_of(t, SCENE_dial_a), b = scene_group_of(t, SCENE_dial_b);
    uint32_t i;
    if (b.count) {
        each_pair(r, t, dial_one);
        return;
    }
    for (i = 0; i < a.count; i++)
        if (running(r, t, member(r, a, i)))
            scene_app_dial_name(r, t, member(r, a, i));
}
/* Groups as arrays of ids; NULL: no memory. */
static p2p_id *ids(scene_run *r, scene_group g) {
    p2p_id *out = (p2p_id *)calloc(g.count ? g.count : 1, sizeof *out);
    uint32_t i;
    for (i = 0; out && i < g.count; i++)
        out[i] = *id_of(r, g, i);
    r->out_of_memory |= !out;
    return out;
}
static void cut(scene_run *r, const scene_statement *t, uint32_t first, uint32_t second,
                int (*fn)(p2p_sim *, const p2p_id *, size_t, const p2p_id *, size_t)) {
    scene_group a = scene_group_of(t, first), b = scene_group_of(t, second);
    p2p_id *ida = ids(r, a), *idb = ids(r, b);
    if (ida && idb)
        (void)sim_failed(r, t, fn(r->sim, ida, a.count, idb, b.count));
    free(ida);
    free(idb);
}

/* ---- statements ------------------------------------------------------------------------------ */

static void happen(scene_run *r, const scene_statement *t) {
    switch (t->verb) {
    case SCENE_links: links_set(r, t); break;
    case SCENE_link: link_set(r, t); break;
    case SCENE_mesh: mesh(r, t); break;
    case SCENE_nat: nat(r, t); break;
    case SCENE_behind: each(r, t, SCENE_behind_a, behind); break;
    case SCENE_rebind: each(r, t, SCENE_rebind_a, rebind); break;
    case SCENE_name: each(r, t, SCENE_name_a, name); break;
    case SCENE_register: each(r, t, SCENE_register_a, register_name); break;
    case SCENE_dial: dial(r, t); break;
    case SCENE_close: each_pair(r, t, scene_app_close); break;
    case SCENE_stop: each(r, t, SCENE_stop_a, stop); break;
    case SCENE_stream:
    case SCENE_message:
    case SCENE_datagram:
    case SCENE_request: each_pair(r, t, scene_app_send); break;
    case SCENE_udp: each_pair(r, t, scene_host_send); break;
    case SCENE_drop: drop(r, t); break;
    case SCENE_partition:
        cut(r, t, SCENE_partition_a, SCENE_partition_b,
            scene_given(t, SCENE_partition_arrow) ? p2p_sim_partition_oneway : p2p_sim_partition);
        break;
    case SCENE_heal: cut(r, t, SCENE_heal_a, SCENE_heal_b, p2p_sim_heal); break;
    case SCENE_crash: each(r, t, SCENE_crash_a, crash); break;
    case SCENE_restart: each(r, t, SCENE_restart_a, restart); break;
    case SCENE_pause: each(r, t, SCENE_pause_a, pause_node); break;
    case SCENE_resume: each(r, t, SCENE_resume_a, resume); break;
    case SCENE_clock: each(r, t, SCENE_clock_a, set_clock); break;
    default: break; /* seed, network, node ...: done at the start */
    }
}
static void undo(scene_run *r, const scene_statement *t) {
    switch (t->verb) {
    case SCENE_links:
    case SCENE_link: links_restore(r, t); break;
    case SCENE_partition: cut(r, t, SCENE_partition_a, SCENE_partition_b, p2p_sim_heal); break;
    case SCENE_crash: each(r, t, SCENE_crash_a, restart); break;
    case SCENE_pause: each(r, t, SCENE_pause_a, resume); break;
    default: break;
    }
}
/* Not the network at its start, and what repeats only once. */
static bool worth_telling(const scene_statement *t, const scene_action *a) {
    if (t->at_us == SCENE_NO_TIME)
        return t->verb >= SCENE_dial;
    return !t->every_us || a->at_us == t->at_us;
}
static void act(scene_run *r, const scene_action *a) {
    const scene_statement *t = &r->s->statements[a->statement];
    if (a->kind == ACTION_DEADLINE) {
        expect_deadline(r, a->statement);
        return;
    }
    if (t->verb == SCENE_expect) {
        expect_now(r, t);
        return;
    }
    if (worth_telling(t, a))
        tell(r, "scene", t, a->kind == ACTION_UNDO ? ": over" : "");
    if (a->kind == ACTION_UNDO)
        undo(r, t);
    else
        happen(r, t);
}

/* ---- the plan -------------------------------------------------------------------------------- */

static bool plan_add(scene_run *r, const scene_statement *t, uint64_t at_us, uint32_t kind) {
    scene_action *a;
    if (r->action_count == SCENE_ACTIONS) {
        scene_fail(r, t, "more than %d things would happen", SCENE_ACTIONS);
        return false;
    }
    if (!scene_grow(r, (void **)&r->actions, r->action_count, &r->action_room, sizeof *a))
        return false;
    a = &r->actions[r->action_count++];
    a->at_us = at_us;
    a->statement = (uint32_t)(t - r->s->statements);
    a->kind = kind;
    return true;
}
static bool plan_statement(scene_run *r, const scene_statement *t) {
    uint64_t at_us = t->at_us == SCENE_NO_TIME ? 0 : t->at_us;
    uint64_t last_us = t->every_us ? t->until_us : at_us;
    if (t->verb == SCENE_expect && t->at_us == SCENE_NO_TIME)
        return !scene_given(t, SCENE_expect_by) ||
               plan_add(r, t, t->value[SCENE_expect_by], ACTION_DEADLINE);
    for (;; at_us += t->every_us) {
        if (!plan_add(r, t, at_us, ACTION_DO))
            return false;
        if (t->for_us && !plan_add(r, t, at_us + t->for_us, ACTION_UNDO))
            return false;
        if (!t->every_us || last_us - at_us < t->every_us)
            return true;
    }
}
/* By time; of one instant the ends first, then statements as they stand in the file, and last what
 * must be so by then. */
static int plan_order(const void *x, const void *y) {
    static const int ranks[] = {1, 0, 2};
    const scene_action *a = (const scene_action *)x, *b = (const scene_action *)y;
    if (a->at_us != b->at_us)
        return a->at_us < b->at_us ? -1 : 1;
    if (a->kind != b->kind)
        return ranks[a->kind] - ranks[b->kind];
    return a->statement < b->statement ? -1 : a->statement > b->statement;
}
static bool plan(scene_run *r) {
    const scene_statement *end = NULL;
    uint64_t last_us;
    uint32_t i;
    r->open = (uint32_t *)calloc(r->s->statement_count + 1u, sizeof *r->open);
    r->out_of_memory |= !r->open;
    for (i = 0; i < r->s->statement_count && !r->out_of_memory; i++) {
        const scene_statement *t = &r->s->statements[i];
        if (t->verb == SCENE_end)
            end = t;
        if (t->verb == SCENE_expect && scene_given(t, SCENE_expect_by))
            r->open[r->open_count++] = i;
        if (!plan_statement(r, t))
            return false;
    }
    if (r->out_of_memory)
        return false;
    if (r->action_count)
        qsort(r->actions, r->action_count, sizeof *r->actions, plan_order);
    last_us = r->action_count ? r->actions[r->action_count - 1].at_us : 0;
    r->end_us = end ? end->value[SCENE_end_time] : last_us + AFTER_US;
    r->end_idle = end && scene_given(end, SCENE_end_idle) ? end : NULL;
    if (last_us <= r->end_us)
        return true;
    scene_fail(r, &r->s->statements[r->actions[r->action_count - 1].statement],
               "this, or its end, comes after the end of the run in line %u", end->line);
    return false;
}

/* ---- the start ------------------------------------------------------------------------------- */

static void net_apply(scene_run *r, const scene_statement *t) {
    p2p_sim_desc *d = &r->net;
    uint64_t never = P2P_NEVER; /* where 0 is the default */
#define NET_SET(field, member, type, zero)            \
    if (scene_given(t, SCENE_network_##field)) {      \
        uint64_t x = t->value[SCENE_network_##field]; \
        d->member = (type)(x ? x : (zero));           \
    }
    NET_SET(discovery, discovery_us, uint64_t, never)
    NET_SET(ttl, ttl_us, uint64_t, 1)
    NET_SET(failure, failure_ppm, uint32_t, 0)
    NET_SET(partition, partition_ppm, uint32_t, 0)
    NET_SET(oneway, oneway_ppm, uint32_t, 0)
    NET_SET(not_found, name_fail_ppm, uint32_t, 0)
    NET_SET(unanswered, name_silent_ppm, uint32_t, 0)
    NET_SET(routing, routing, uint32_t, 0)
    NET_SET(drops, drops, uint32_t, 0)
    NET_SET(boxes, boxes, uint32_t, 0)
    NET_SET(flows, flows, uint32_t, 0)
    NET_SET(receive, receive_bytes, uint32_t, 1)
    NET_SET(idle, idle_us, uint64_t, 1)
    NET_SET(connect, connect_us, uint64_t, 1)
    NET_SET(message, message_max, uint32_t, P2P_NONE)
    NET_SET(packets, packets, uint32_t, 0)
    NET_SET(step, step_us, uint64_t, 0)
    NET_SET(multiplier, time_multiplier, uint32_t, 0)
#undef NET_SET
}
/* How many connections each node may have: as many as the file's dials can give it. */
static void count_conns(const scene_run *r, uint32_t *conns) {
    uint32_t i, k;
    for (i = 0; i < r->s->statement_count; i++) {
        const scene_statement *t = &r->s->statements[i];
        scene_group a = scene_group_of(t, SCENE_dial_a), b = scene_group_of(t, SCENE_dial_b);
        if (t->verb != SCENE_dial)
            continue;
        for (k = 0; k < a.count; k++)
            conns[member(r, a, k)] += b.count ? b.count : 1;
        for (k = 0; k < b.count; k++)
            conns[member(r, b, k)] += a.count;
        for (k = 0; b.count == 0 && k < r->s->vertex_count; k++)
            conns[k] += a.count; /* whoever has that name then */
    }
}
static void node_desc(const scene_run *r, const scene_statement *t, uint32_t conns, p2p_desc *d) {
    uint32_t limit = conns < 8 ? 8 : conns > 65000 ? 65000 : conns;
#define NODE_GET(field, unset) \
    (scene_given(t, SCENE_node_##field) ? (uint32_t)t->value[SCENE_node_##field] : (unset))
    memset(d, 0, sizeof *d);
    d->user = (void *)(uintptr_t)r;
    d->allow_anyone = 1;
    d->congestion =
        scene_given(t, SCENE_node_congestion) ? (uint8_t)(t->value[SCENE_node_congestion] + 1) : 0;
    d->max.conns = d->max.half_open = NODE_GET(conns, limit);
    d->max.streams = d->max.peer_streams = NODE_GET(streams, 16);
    d->max.datagrams_in = d->max.datagrams_out = NODE_GET(datagrams, 64);
    d->max.in_flight = NODE_GET(in_flight, d->max.conns > 64 ? d->max.conns * 16 : 1024);
    d->bytes.stream_send = d->bytes.stream_recv = NODE_GET(buffer, 65536);
    d->bytes.peer_send = d->bytes.peer_recv = d->bytes.stream_send;
    d->bytes.message_send = d->bytes.message_recv = r->message_most;
    d->bytes.message_max = r->message_most ? 0 : P2P_NONE;
    d->link.mtu = NODE_GET(mtu, 0);
    d->time.idle_us = t->value[SCENE_node_idle];
    d->time.keepalive_us = t->value[SCENE_node_keepalive];
#undef NODE_GET
}
static uint64_t link_count(const scene_statement *t) {
    uint64_t a = scene_group_of(t, SCENE_link_a).count;
    if (t->verb == SCENE_mesh)
        return a * a;
    return t->verb == SCENE_link ? a * scene_group_of(t, SCENE_link_b).count : 0;
}
enum { MESSAGE_ROOM = 16384 };
/* A message larger than the buffers would need memory lent to it, so the buffers are as large as
 * the largest of the file; without messages there are none, which saves much of a node's memory. */
static void measure(scene_run *r) {
    uint64_t links = 0;
    uint32_t i;
    r->message_most = 0;
    for (i = 0; i < r->s->statement_count; i++) {
        const scene_statement *t = &r->s->statements[i];
        if (t->verb == SCENE_message &&
            t->value[SCENE_message_size] + MESSAGE_ROOM > r->message_most)
            r->message_most = (uint32_t)t->value[SCENE_message_size] + MESSAGE_ROOM;
        if (t->verb == SCENE_network)
            net_apply(r, t);
        if (t->verb == SCENE_seed && !r->o.seed)
            r->net.seed = t->value[SCENE_seed_number];
        if (t->verb == SCENE_secure)
            r->dtls = t->value[SCENE_secure_channel] == 1;
        links += link_count(t);
    }
    /* 0 would be a default that depends on how many nodes there are */
    r->net.links = links < 0x1fffffffu ? (uint32_t)links + 1 : 0x1fffffffu;
    for (i = 0; i < 2 * SCENE_PATTERN; i++)
        r->pattern[i] = (uint8_t)(scene_hash(i % SCENE_PATTERN + 1) >> 24);
}
static bool channel(scene_run *r) {
    if (!r->dtls)
        return true;
    if (p2p_sodium_crypto(&r->net.crypto) >= 0 && p2p_mbedtls_secure(&r->net.secure) >= 0)
        return true;
    scene_fail(r, NULL, "secure dtls: libsodium or mbedTLS does not start");
    return false;
}
/* The arena for all of it, with room for what a restart keeps of each desc. */
static bool memory(scene_run *r, size_t *size) {
    uint32_t i;
    *size = p2p_sim_arena_size(&r->net);
    if (*size == 0) {
        scene_fail(r, NULL, "the network: %s", r->why.text);
        return false;
    }
    for (i = 0; i < r->s->vertex_count; i++) {
        const scene_statement *t = &r->s->statements[r->s->vertices[i].statement];
        bool node = r->s->vertices[i].made == SCENE_node;
        size_t one = node ? p2p_sim_node_size(&r->net, &r->nodes[i].desc) : 0;
        if (one == 0 && node) {
            scene_fail(r, t, "%s: %s", r->s->vertices[i].name, r->why.text);
            return false;
        }
        *size += one + 256;
    }
    r->arena = calloc(1, *size);
    if (!r->arena)
        scene_fail(r, NULL,
                   "out of memory: this network takes %zu MB; `buffer`, `streams` and `conns` of "
                   "its nodes make it smaller",
                   *size / 1000000);
    return r->arena != NULL;
}
static int vertex(scene_run *r, uint32_t i) {
    const scene_vertex *v = &r->s->vertices[i];
    scene_node *n = &r->nodes[i];
    int err = 0;
    if (v->made == SCENE_router)
        return p2p_sim_router(r->sim, v->name, &n->id);
    if (v->made == SCENE_host)
        return scene_host_make(r, i);
    if (r->see) {
        err = p2p_sim_id(r->sim, v->name, &n->id);
        if (err >= 0)
            err = p2p_see_secure(r->see, &n->id, &n->desc);
    }
    if (err >= 0)
        err = p2p_sim_node(r->sim, v->name, &n->desc, &n->node);
    if (err >= 0)
        n->id = *p2p_node_id(n->node);
    return err;
}
static bool vertices(scene_run *r) {
    uint32_t i;
    for (i = 0; i < r->s->vertex_count; i++) {
        if (sim_failed(r, &r->s->statements[r->s->vertices[i].statement], vertex(r, i)))
            return false;
        *id_slot(r, &r->nodes[i].id) = i + 1;
        tell_vertex(r, i);
    }
    for (i = 0; i < r->s->vertex_count; i++)
        if (r->nodes[i].node)
            scene_app_start(r, i);
    return r->failed == 0;
}
static bool tables(scene_run *r) {
    uint32_t *conns = (uint32_t *)calloc(r->s->vertex_count + 1u, sizeof *conns), i;
    for (r->id_table_size = 64; r->id_table_size < 2 * r->s->vertex_count;)
        r->id_table_size *= 2;
    r->id_table = (uint32_t *)calloc(r->id_table_size, sizeof *r->id_table);
    r->nodes = (scene_node *)calloc(r->s->vertex_count + 1u, sizeof *r->nodes);
    if (!conns || !r->id_table || !r->nodes) {
        free(conns);
        return false;
    }
    count_conns(r, conns);
    for (i = 0; i < r->s->vertex_count; i++)
        if (r->s->vertices[i].made == SCENE_node) {
            node_desc(r, &r->s->statements[r->s->vertices[i].statement], conns[i],
                      &r->nodes[i].desc);
            r->nodes[i].desc.why = &r->why;
        }
    free(conns);
    return true;
}
static bool start(scene_run *r) {
    size_t size;
    int err;
    if (r->s->vertex_count == 0) {
        scene_fail(r, NULL, "there is no node: write 'node alice'");
        return false;
    }
    measure(r);
    if (!channel(r) || !plan(r) || !tables(r) || !memory(r, &size))
        return false;
    err = p2p_sim_open(&r->sim, &r->net, r->arena, size);
    if (err < 0) {
        r->sim = NULL;
        scene_fail(r, NULL, "the network: %s", r->why.text);
        return false;
    }
    return see_open(r) && vertices(r);
}

/* ---- from outside ---------------------------------------------------------------------------- */

scene_run *scene_run_open(const scene *s, const char *text, const scene_options *options) {
    scene_run *r = (scene_run *)calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->s = s;
    r->text = text;
    r->o = *options;
    r->complaints = (uint8_t *)calloc(s->statement_count + 1u, 1);
    if (!r->complaints) {
        (void)scene_run_close(r);
        return NULL;
    }
    r->net.seed = options->seed ? *options->seed : SCENE_SEED;
    r->net.nodes = s->vertex_count;
    r->net.why = &r->why;
    r->net.on_event = scene_app_event;
    r->net.ctx = r;
    if (start(r))
        return r;
    if (r->out_of_memory)
        complain(r, NULL, "out of memory");
    (void)scene_run_close(r);
    return NULL;
}
/* Time goes on to at_us, by steps if the network has a step. */
static void run_until(scene_run *r, uint64_t at_us) {
    if (r->net.step_us)
        while (p2p_sim_now(r->sim) < at_us)
            (void)p2p_sim_step(r->sim);
    else if (at_us > p2p_sim_now(r->sim))
        (void)sim_failed(r, NULL, p2p_sim_run_until(r->sim, at_us));
}
static void final_checks(scene_run *r) {
    uint32_t i;
    for (i = 0; i < r->s->statement_count; i++) {
        const scene_statement *t = &r->s->statements[i];
        if (t->verb == SCENE_expect && t->at_us == SCENE_NO_TIME &&
            !scene_given(t, SCENE_expect_by))
            expect_now(r, t);
    }
    for (i = 0; i < r->s->vertex_count; i++) {
        int err = r->nodes[i].node ? p2p_check(r->nodes[i].node) : 0;
        if (err != 0)
            scene_fail(r, NULL, "%s: p2p_check says %d: a defect of p2p.h", r->s->vertices[i].name,
                       err);
    }
}
unsigned scene_run_go(scene_run *r) {
    uint32_t i;
    for (i = 0; i < r->action_count && !r->out_of_memory; i++) {
        run_until(r, r->actions[i].at_us);
        act(r, &r->actions[i]);
    }
    if (!r->out_of_memory && !r->end_idle)
        run_until(r, r->end_us);
    if (!r->out_of_memory && r->end_idle)
        (void)sim_failed(r, r->end_idle, p2p_sim_run_idle(r->sim, r->end_us));
    if (r->out_of_memory)
        scene_fail(r, NULL, "out of memory");
    else
        final_checks(r);
    return r->failed;
}
int scene_run_close(scene_run *r) {
    int err = 0;
    if (r->sim)
        p2p_sim_close(r->sim);
    if (r->see)
        err = p2p_see_close(r->see);
    sinks_drop(r);
    scene_app_end(r);
    free(r->arena);
    free(r->nodes);
    free(r->id_table);
    free(r->actions);
    free(r->open);
    free(r->complaints);
    free(r->edges);
    free(r->before);
    free(r);
    return err;
}
