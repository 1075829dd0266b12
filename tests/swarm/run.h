/* run.h: one seed from its beginning to its end.
 *
 *     chaos    actions and faults as the plan says; what must hold at every step is checked
 *     heal     no fault any more, every node runs: all that is open must come to its end, in
 *              bounded virtual time, with nothing but events to drive it
 *     close    connections are closed, some nodes stopped: nothing may be left behind */
#ifndef SWARM_RUN_H
#define SWARM_RUN_H

#define HEAL_LIMIT_US  (150 * SECOND)
#define CLOSE_LIMIT_US (60 * SECOND)

/* ---- what is still open ---- */

/* All that was sent on it came, but for what may be in doubt: on a handle that outlives breaks, and
 * what a node knew that crashed. */
static int messages_missing(const end *e) {
    uint64_t missing = e->sent - e->given;
    if (e->state != UP || missing == 0)
        return 0;
    if (!e->reconnect)
        return 1;
    return missing > e->doubtful && world.actors[e->peer].life == 1;
}

static const char *end_pending(const end *e) {
    if (e->state == OVER || crowded(e))
        return NULL;
    if (e->state == DIALLING)
        return "is being dialled";
    if (e->closing)
        return "is being closed";
    if (!e->up_healed && !p2p_is_connected(actor_of(e)->node, e->conn))
        return "is not up again";
    if (messages_missing(e))
        return "sent messages that did not come";
    if (e->ref)
        return "waits for SENT";
    if (e->lent)
        return "waits for memory it lent";
    return e->want_writable ? "waits for WRITABLE" : NULL;
}

/* A stream that waits for the peer's MAX_STREAMS, and rightly: the peer's table of streams is full or
 * promised to others, who may leave it unused for as long as they live. */
static int starving(const half *h) {
    const p2p__stream *s = p2p__stream_get(actor_of(h->end)->node, h->stream);
    const p2p__conn *conn = s ? p2p__stream_conn(actor_of(h->end)->node, s) : NULL;
    const p2p_node *peer = h->end->peer == NOBODY ? NULL : world.actors[h->end->peer].node;
    return conn && peer && s->local && !h->out->to && s->number >= conn->made_limit[s->kind] &&
           p2p__grantable(peer) == 0;
}

static int pending(char *text, size_t size) {
    for (uint32_t i = 0; i < made.ends; i++) {
        const char *what = end_pending(&ends[i]);
        if (!what)
            continue;
        snprintf(text, size, "end %u of node %d %s", (unsigned)i, ends[i].node, what);
        return 1;
    }
    for (uint32_t i = 0; i < made.halves; i++) {
        const half *h = &halves[i];
        if (!h->live || starving(h) || crowded(h->end))
            continue;
        snprintf(text, size,
                 "stream %u of end %u, node %d, is open: %s, read %u of %u, written %u of %u",
                 (unsigned)i, number_of(h->end), h->end->node, h->aborted ? "abandoned" : "whole",
                 h->in ? (unsigned)h->in->got : 0, h->in ? (unsigned)h->in->size : 0,
                 h->out ? (unsigned)h->out->sent : 0, h->out ? (unsigned)h->out->size : 0);
        return 1;
    }
    return asks_pending(text, size) || more_pending(text, size);
}

/* For a person: what both nodes know of a connection, when something hangs. */
static void say_conns(const end *e) {
    const actor *a = actor_of(e);
    const p2p__conn *c = NULL;
    say("node %d: %u of %u streams granted", e->node, (unsigned)a->node->granted,
        (unsigned)a->node->desc.max.peer_streams);
    while ((c = p2p__conn_next(a->node, c)) != NULL)
        for (int kind = 0; kind < P2P__KINDS; kind++)
            say("  with node %d, state %d, streams of kind %d: made %u of %u, taken %u of %u%s",
                node_of(&c->peer), c->state, kind, (unsigned)c->made[kind],
                (unsigned)c->made_limit[kind], (unsigned)c->taken[kind],
                (unsigned)c->taken_limit[kind], c->starved >> kind & 1 ? ", starved" : "");
}

static void say_all(void) {
    for (uint32_t i = 0; i < made.ends; i++)
        if (ends[i].state == UP)
            say_conns(&ends[i]);
    for (uint32_t i = 0; i < plan.nodes; i++)
        if (world.actors[i].node)
            say_counters(&world.actors[i]);
}

/* ---- the phases ---- */

static void chaos(void) {
    uint64_t next_check_us = 0;
    for (uint32_t i = 0; i < plan.actions; i++) {
        uint64_t until_us = plan_action_us(i);
        for (uint64_t t = now_us(); t < until_us; t = now_us()) { /* faults in between */
            world_run(t + 10 * MS < until_us ? t + 10 * MS : until_us);
            faults_due();
            stops_due();
        }
        act(i);
        if (now_us() < next_check_us)
            continue;
        next_check_us = now_us() + 100 * MS;
        check_world();
    }
}

static void heal(void) {
    uint64_t limit_us = now_us() + HEAL_LIMIT_US;
    char what[200];
    say("all heals");
    world_heal();
    for (uint32_t i = 0; i < plan.nodes; i++)
        if (!world.actors[i].stopping)
            resume(&world.actors[i], NULL);
    while (pending(what, sizeof what)) {
        if (now_us() >= limit_us && the.verbose)
            say_all();
        MUST(now_us() < limit_us, "not over %u s after all healed: %s",
             (unsigned)(HEAL_LIMIT_US / SECOND), what);
        world_run(now_us() + 20 * MS);
        stops_due();
    }
    check_world();
}

static int ends_open(void) {
    int n = 0;
    for (uint32_t i = 0; i < made.ends; i++)
        n += ends[i].state != OVER;
    return n;
}

static void check_empty(const actor *a) {
    static const int gauges[] = {P2P_METRIC_conns_open, P2P_METRIC_sessions_open,
                                 P2P_METRIC_half_open, P2P_METRIC_streams_open,
                                 P2P_METRIC_in_flight};
    static const char *const names[] = {"connections", "sessions", "half-open sessions", "streams",
                                        "packets in flight"};
    p2p_metrics m;
    p2p_metrics_get(a->node, &m);
    result->tally[T_datagrams_dropped] += m.value[P2P_METRIC_app_datagrams_dropped_out];
    for (size_t i = 0; i < sizeof gauges / sizeof gauges[0]; i++)
        MUST(m.value[gauges[i]] == 0, "node %d: %u %s are left", (int)(a - world.actors),
             (unsigned)m.value[gauges[i]], names[i]);
    MUST(m.value[P2P_METRIC_arena_used_bytes] == a->used, "node %d: %ld bytes are left",
         (int)(a - world.actors), (long)(m.value[P2P_METRIC_arena_used_bytes] - a->used));
}

static void close_all(void) {
    uint64_t limit_us = now_us() + CLOSE_LIMIT_US;
    rng r = rng_of(F_LENGTH, 1);
    for (uint32_t i = 0; i < made.ends; i++)
        if (ends[i].state != OVER && !ends[i].closing && (ends[i].reconnect || percent(&r, 60)))
            end_close(actor_of(&ends[i]), &ends[i]);
    while (ends_open() && now_us() < limit_us) {
        world_run(now_us() + 50 * MS);
        if (now_us() + CLOSE_LIMIT_US / 2 < limit_us)
            continue;
        for (uint32_t i = 0; i < made.ends; i++) /* both sides may have been told to leave it */
            if (ends[i].state == UP && !ends[i].closing)
                end_close(actor_of(&ends[i]), &ends[i]);
    }
    MUST(!ends_open(), "%d connections do not end", ends_open());
    world_run(now_us() + 30 * SECOND);
    check_world();
    for (uint32_t i = 0; i < plan.nodes; i++)
        check_empty(&world.actors[i]);
    check_network_empty();
}

static void swarm_run(void) {
    memset(&world, 0, sizeof world);
    memset(&made, 0, sizeof made);
    plan_make();
    world_open();
    chaos();
    heal();
    close_all();
    result->digest = p2p_sim_digest(world.sim);
    result->virtual_us = now_us();
    p2p_sim_close(world.sim);
    result->done = 1;
}
#endif
