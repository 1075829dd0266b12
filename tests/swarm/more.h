/* more.h: what programs do besides: names, timers, a stop with a goodbye, wrong calls.
 *
 * Always: every query has one FOUND, every timer one TIMER, every stop one STOPPED. */
#ifndef SWARM_MORE_H
#define SWARM_MORE_H

enum { QUERIES = 4000, TIMERS = 4 };

typedef struct query {
    actor *actor;
    uint32_t life, id;
    int wanted; /* a node, or NOBODY: a name that none has */
    uint8_t open;
} query;

static query queries[QUERIES];
static uint64_t timers[NODES_MAX][TIMERS]; /* when they are due by the node's clock; 0: not set */

/* ---- names ---- */

static void discover(actor *a, rng *r) {
    query *q = &queries[made.queries];
    char name[24];
    if (made.queries == QUERIES)
        return;
    q->actor = a;
    q->life = a->life;
    q->wanted = percent(r, 80) ? (int)below(r, plan.nodes) : NOBODY;
    snprintf(name, sizeof name, "name%d", q->wanted);
    if (EXPECT(a, p2p_discover(a->node, name, &q->id), P2P_ERR_LIMIT) < 0)
        return;
    q->open = 1;
    made.queries++;
}

static void found(const actor *a, const p2p_event *event) {
    for (uint32_t i = 0; i < made.queries; i++) {
        query *q = &queries[i];
        if (q->actor != a || q->life != a->life || q->id != event->query || !q->open)
            continue;
        q->open = 0;
        MUST(event->err == P2P_OK || event->err == P2P_ERR_NOT_FOUND ||
                 event->err == P2P_ERR_TIMEOUT,
             "query %u: %s", (unsigned)i, words(event->err));
        MUST(event->err < 0 || node_of(&event->peer) == q->wanted, "query %u: another node",
             (unsigned)i);
        tally(T_found);
        return;
    }
    swarm_fail("node %d: FOUND of no query", (int)(a - world.actors));
}

/* ---- timers ---- */

static void timer_set(actor *a, rng *r) {
    uint32_t number = below(r, TIMERS);
    uint64_t at_us = percent(r, 90) ? p2p_now(a->node) + spread(r, 1, 3000000) : P2P_NEVER;
    EXPECT(a, p2p_timer_set(a->node, number, at_us), 0);
    timers[a - world.actors][number] = at_us == P2P_NEVER ? 0 : at_us;
}

static void timer_event(const actor *a, const p2p_event *event) {
    uint64_t *due = &timers[a - world.actors][event->code % TIMERS];
    MUST(event->code < TIMERS && *due, "node %d: TIMER %u, which was not set",
         (int)(a - world.actors), (unsigned)event->code);
    MUST(p2p_now(a->node) >= *due, "node %d: TIMER %u comes early", (int)(a - world.actors),
         (unsigned)event->code);
    *due = 0;
    tally(T_timers);
}

/* ---- a stop with a goodbye ---- */

static void stop(actor *a, rng *r) {
    if (percent(r, 60))
        return;
    say("node %d stops", (int)(a - world.actors));
    EXPECT(a, p2p_node_stop(a->node, STOP_CODE + (uint32_t)(a - world.actors)), 0);
    a->stopping = 1;
    tally(T_stops);
}

/* All that was open has ended before. */
static void stopped(actor *a) {
    MUST(a->stopping, "node %d: STOPPED by itself", (int)(a - world.actors));
    a->stopped = 1;
    for (uint32_t i = 0; i < made.ends; i++)
        MUST(actor_of(&ends[i]) != a || ends[i].state == OVER, "STOPPED, and end %u is open",
             (unsigned)i);
    say("node %d has stopped", (int)(a - world.actors));
}

/* It is closed from outside of its own turn, and begins another life. */
static void stops_due(void) {
    for (uint32_t i = 0; i < plan.nodes; i++) {
        actor *a = &world.actors[i];
        if (!a->node || !a->stopped)
            continue;
        actor_gone(a);
        MUST(p2p_sim_crash(world.sim, &a->id) == 0, "crash: %s", world.why.text);
        a->node = NULL;
        a->paused = 0;
        actor_back(a);
    }
}

/* ---- wrong calls ---- */

static void wrong(const actor *a, const char *call, int err, int right) {
    MUST(err == right, "node %d: %s gave %s instead of %s", (int)(a - world.actors), call,
         words(err), words(right));
}
#define WRONG(a, call, right) wrong(a, #call, call, right)

static void abuse_arguments(actor *a, rng *r) {
    static char long_reason[200];
    end *e = end_draw(a, r);
    p2p_stream_desc desc;
    p2p_stream stream;
    p2p_conn conn;
    memset(&desc, 0, sizeof desc);
    memset(long_reason, 'x', sizeof long_reason - 1);
    WRONG(a, p2p_connect(a->node, &a->id, NULL, &conn), P2P_ERR_INVALID_ID);
    WRONG(a, p2p_timer_set(a->node, 99, 1), P2P_ERR_LIMIT);
    WRONG(a, p2p_discover(a->node, NULL, NULL), P2P_ERR_ARG);
    if (!e || late(a))
        return;
    desc.priority = 9;
    WRONG(a, p2p_stream_open(a->node, e->conn, &desc, &stream), P2P_ERR_ARG);
    WRONG(a, p2p_close(a->node, e->conn, 0, long_reason), P2P_ERR_ARG);
    WRONG(a, p2p_send(a->node, e->conn, NULL, 5), P2P_ERR_ARG);
    WRONG(a, p2p_datagram_send(a->node, e->conn, long_reason, 70000), P2P_ERR_TOO_LARGE);
}

/* Handles of what is over, of others, and of nothing. */
static void abuse_handles(actor *a, rng *r) {
    uint8_t byte = 0;
    p2p_span span;
    if (made.ends) {
        end *e = &ends[below(r, made.ends)];
        p2p_stats stats;
        if (e->state == OVER || actor_of(e) != a)
            WRONG(a, p2p_conn_stats(a->node, e->conn, &stats), P2P_ERR_HANDLE);
        if (e->state == OVER || actor_of(e) != a)
            WRONG(a, p2p_send(a->node, e->conn, &byte, 1), P2P_ERR_HANDLE);
    }
    if (made.halves) {
        half *h = &halves[below(r, made.halves)];
        if (h->live && actor_of(h->end) == a)
            return;
        WRONG(a, p2p_stream_write(a->node, h->stream, &byte, 1), P2P_ERR_HANDLE);
        WRONG(a, p2p_stream_peek(a->node, h->stream, &span), P2P_ERR_HANDLE);
        WRONG(a, p2p_stream_reset(a->node, h->stream, 1), P2P_ERR_HANDLE);
    }
}

static void abuse(actor *a, rng *r) {
    abuse_arguments(a, r);
    abuse_handles(a, r);
}

/* ---- all of it ---- */

static int more_event(actor *a, const p2p_event *event) {
    switch (event->type) {
    case P2P_EVENT_FOUND: found(a, event); return 1;
    case P2P_EVENT_TIMER: timer_event(a, event); return 1;
    case P2P_EVENT_STOPPED: stopped(a); return 1;
    default: return 0;
    }
}

static void more_gone(const actor *a) {
    memset(timers[a - world.actors], 0, sizeof timers[0]);
    for (uint32_t i = 0; i < made.queries; i++)
        if (queries[i].actor == a)
            queries[i].open = 0;
}

static int more_pending(char *text, size_t size) {
    for (uint32_t i = 0; i < made.queries; i++)
        if (queries[i].open) {
            snprintf(text, size, "query %u has no answer", (unsigned)i);
            return 1;
        }
    for (uint32_t i = 0; i < plan.nodes; i++)
        for (uint32_t k = 0; k < TIMERS; k++)
            if (timers[i][k] && p2p_now(world.actors[i].node) > timers[i][k] + MS) {
                snprintf(text, size, "timer %u of node %u is late", (unsigned)k, (unsigned)i);
                return 1;
            }
    for (uint32_t i = 0; i < plan.nodes; i++)
        if (world.actors[i].stopping) {
            snprintf(text, size, "node %u does not stop", (unsigned)i);
            return 1;
        }
    return 0;
}
#endif
