/* plan.h: what a seed says: which network, which nodes, which faults when, how much work.
 *
 * Always: every feature draws from generators of its own, made of the seed, the feature and the
 * number of what it is drawn for. A feature that is switched off, a node or an action that is left
 * out leaves the draws of all others as they were; that is what lets a failure shrink.
 *
 * To add a fault or an action: give it a name in FEATURES, ask `with(NAME)` where it happens, and
 * draw from rng_of(NAME, number). Shrinking, WITHOUT=name and the list of names follow from the
 * table. */
#ifndef SWARM_PLAN_H
#define SWARM_PLAN_H

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)

/* Faults first, then what programs do. Shrinking switches them off in this order. */
#define FEATURES(X)                                                           \
    X(loss, "datagrams lost, up to 30 %")                                     \
    X(burst, "losses in bursts")                                              \
    X(duplicate, "datagrams doubled, up to 50 %")                             \
    X(reorder, "datagrams held back")                                         \
    X(corrupt, "a byte changed")                                              \
    X(delay, "latency up to 100 ms")                                          \
    X(jitter, "latency that varies")                                          \
    X(rate, "a slow link with a queue of 2 to 20 datagrams")                  \
    X(partition, "two groups cut off from each other for a while")            \
    X(oneway, "one direction of an edge down for a while")                    \
    X(split, "the network splits in two at random, once a second perhaps")    \
    X(lies, "names not found or not answered, peers not where they are said") \
    X(crash, "nodes that crash and come back")                                \
    X(pause, "nodes that stand still for a while")                            \
    X(clock, "clocks that leap and drift")                                    \
    X(nat, "NAT boxes before some leaves")                                    \
    X(tables, "limits and windows of all sizes instead of roomy ones")        \
    X(timing, "idle times, keepalives and timeouts of all sizes")             \
    X(congestion, "BBR, CUBIC and NewReno mixed")                             \
    X(gates, "nodes that refuse some callers, and several ALPNs")             \
    X(abuse, "stale handles and wrong arguments")                             \
    X(network, "p2p_network_changed")                                         \
    X(timers, "timers")                                                       \
    X(names, "registering, discovering, dialling by name")                    \
    X(share, "dials that share a connection, retain and release")             \
    X(reconnect, "handles that outlive breaks")                               \
    X(closes, "connections closed in the middle")                             \
    X(stops, "nodes stopped with a goodbye, and opened again")                \
    X(resets, "streams abandoned")                                            \
    X(lazy, "readers and writers that stop for a while")                      \
    X(late, "programs that look late at what has happened")                   \
    X(datagrams, "datagrams")                                                 \
    X(large, "messages larger than the buffers, by reference")                \
    X(messages, "messages")                                                   \
    X(requests, "requests, and routes of all kinds")                          \
    X(streams, "streams both ways and one way")

#define FEATURE_ENUM(name, text) F_##name,
enum feature { FEATURES(FEATURE_ENUM) F_COUNT, F_SHAPE, F_LENGTH, F_ACTION, F_REACT };
#undef FEATURE_ENUM
#define FEATURE_NAME(name, text) #name,
static const char *const feature_name[] = {FEATURES(FEATURE_NAME)};
#undef FEATURE_NAME
#define FEATURE_TEXT(name, text) text,
static const char *const feature_text[] = {FEATURES(FEATURE_TEXT)};
#undef FEATURE_TEXT

enum { NODES_MAX = 12, ROUTERS_MAX = 5, EDGES_MAX = 100, EPOCHS_MAX = 6, CUTS_MAX = 4 };

/* What is run: a seed, and what shrinking took away from it. */
typedef struct swarm_case {
    uint64_t seed;
    uint64_t without; /* a bit a feature */
    uint32_t nodes;   /* at most so many */
    uint32_t actions; /* at most so many, the first ones */
    int dtls, verbose;
} swarm_case;
static swarm_case the;

static int with(int feature) { return !(the.without >> feature & 1); }

/* ---- generators ---- */

typedef struct rng {
    uint64_t state;
} rng;

static uint64_t rng_u64(rng *r) {
    uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}
static rng rng_of(int feature, uint64_t number) {
    rng r;
    r.state = the.seed;
    r.state = rng_u64(&r) + (uint64_t)feature;
    r.state = rng_u64(&r) + number;
    return r;
}
static uint32_t below(rng *r, uint32_t end) { return (uint32_t)((rng_u64(r) >> 32) * end >> 32); }
static uint32_t between(rng *r, uint32_t least, uint32_t most) {
    return least + below(r, most - least + 1);
}
static int percent(rng *r, uint32_t p) { return below(r, 100) < p; }
/* Every order of magnitude as often as any other. */
static uint32_t spread(rng *r, uint32_t least, uint32_t most) {
    uint32_t span = 0;
    while (span < 31 && least << span < most)
        span++;
    span = least << below(r, span + 1);
    return between(r, least, span < most ? span : most);
}

/* ---- the network ---- */

typedef struct edge {
    uint32_t a, b; /* vertices: nodes first, then routers */
} edge;

typedef struct cut { /* two groups, or one direction of an edge, from when until when */
    uint64_t from_us, until_us;
    uint32_t group, edge, back;
    int done; /* 0 to come, 1 there, 2 over */
} cut;

typedef struct crash { /* or a pause, or a clock that goes wrong */
    uint64_t at_us, back_us;
    int64_t leap_us;
    int32_t drift_ppm;
    uint32_t node;
    int done;
} crash;

static struct plan {
    uint32_t nodes, routers, edge_count, epochs, actions;
    uint32_t nodes_drawn, actions_drawn; /* before shrinking took some away */
    uint64_t duration_us;
    edge edges[EDGES_MAX];
    uint32_t degree[NODES_MAX];
    cut cuts[CUTS_MAX], oneways[CUTS_MAX];
    uint32_t cut_count, oneway_count, crash_count, pause_count, clock_count;
    crash crashes[CUTS_MAX], pauses[CUTS_MAX], clocks[CUTS_MAX];
    uint8_t nat[NODES_MAX];
} plan;

static void plan_edge(uint32_t a, uint32_t b) {
    edge *e = &plan.edges[plan.edge_count];
    if (plan.edge_count == EDGES_MAX)
        return;
    e->a = a;
    e->b = b;
    plan.edge_count++;
    if (a < plan.nodes)
        plan.degree[a]++;
    if (b < plan.nodes)
        plan.degree[b]++;
}

enum { LINE, STAR, MESH, TREE, SHAPES };

static void plan_shape(void) {
    rng r = rng_of(F_SHAPE, 0);
    uint32_t shape = below(&r, SHAPES), i, j;
    plan.routers = shape == TREE ? between(&r, 1, ROUTERS_MAX) : 0;
    for (i = 1; i < plan.routers; i++) {
        r = rng_of(F_SHAPE, 1 + i);
        plan_edge(plan.nodes + below(&r, i), plan.nodes + i);
    }
    for (i = 0; i < plan.nodes; i++) {
        r = rng_of(F_SHAPE, 100 + i);
        if (shape == TREE)
            plan_edge(plan.nodes + below(&r, plan.routers), i);
        if (shape == LINE && i > 0)
            plan_edge(i - 1, i);
        if (shape == STAR && i > 0)
            plan_edge(0, i);
        for (j = 0; j < i && shape == MESH; j++)
            plan_edge(j, i);
    }
}

/* A link is what every fault makes of it, each in its own way, from one epoch to the next. */
static void plan_link(uint32_t edge_at, int back, uint32_t epoch, p2p_sim_link *out) {
    uint64_t number = (uint64_t)epoch << 32 | edge_at << 1 | (uint32_t)back;
    rng r;
    memset(out, 0, sizeof *out);
    out->overhead = 28;
    out->latency_us = 2 * MS;
    if (with(F_loss) && percent((r = rng_of(F_loss, number), &r), 60))
        out->loss_ppm = spread(&r, 5000, 300000);
    if (with(F_burst) && percent((r = rng_of(F_burst, number), &r), 30))
        out->burst_ppm = between(&r, 100000, 800000);
    if (with(F_duplicate) && percent((r = rng_of(F_duplicate, number), &r), 30))
        out->duplicate_ppm = spread(&r, 5000, 500000);
    if (with(F_reorder) && percent((r = rng_of(F_reorder, number), &r), 30))
        out->reorder_ppm = spread(&r, 5000, 300000);
    if (with(F_corrupt) && percent((r = rng_of(F_corrupt, number), &r), 25))
        out->corrupt_ppm = spread(&r, 2000, 100000);
    if (with(F_delay) && percent((r = rng_of(F_delay, number), &r), 70))
        out->latency_us = between(&r, 0, 100) * MS;
    if (with(F_jitter) && percent((r = rng_of(F_jitter, number), &r), 40))
        out->jitter_us = spread(&r, 100, 60000);
    if (with(F_jitter) && out->jitter_us)
        out->jitter = (uint8_t)between(&r, P2P_SIM_JITTER_UNIFORM, P2P_SIM_JITTER_PARETO);
    if (with(F_rate) && percent((r = rng_of(F_rate, number), &r), 40)) {
        out->rate_bps = spread(&r, 200000, 50000000);
        out->queue_bytes = between(&r, 2, 20) * 1260;
        out->codel = (uint8_t)percent(&r, 20);
    }
}

/* ---- what happens to it ---- */

static void plan_cuts(void) {
    rng r = rng_of(F_partition, 0);
    uint32_t i;
    plan.cut_count = with(F_partition) && percent(&r, 40) ? between(&r, 1, CUTS_MAX) : 0;
    for (i = 0; i < plan.cut_count; i++) {
        cut *c = &plan.cuts[i];
        c->group = (uint32_t)rng_u64(&r);
        c->from_us = below(&r, (uint32_t)(plan.duration_us / MS)) * MS;
        c->until_us = c->from_us + spread(&r, 50, 8000) * MS;
    }
    r = rng_of(F_oneway, 0);
    plan.oneway_count = with(F_oneway) && percent(&r, 30) ? between(&r, 1, CUTS_MAX) : 0;
    for (i = 0; i < plan.oneway_count; i++) {
        cut *c = &plan.oneways[i];
        c->edge = (uint32_t)rng_u64(&r);
        c->back = below(&r, 2);
        c->from_us = below(&r, (uint32_t)(plan.duration_us / MS)) * MS;
        c->until_us = c->from_us + spread(&r, 50, 4000) * MS;
    }
}

/* How many crashes there are, or pauses, or clocks that go wrong. */
static uint32_t plan_crashes(int feature, uint32_t chance, crash *out) {
    rng r = rng_of(feature, 0);
    uint32_t i, n = with(feature) && percent(&r, chance) ? between(&r, 1, CUTS_MAX) : 0;
    for (i = 0; i < n; i++) {
        crash *c = &out[i];
        c->node = below(&r, plan.nodes_drawn);
        c->at_us = below(&r, (uint32_t)(plan.duration_us / MS)) * MS;
        c->back_us = c->at_us + (percent(&r, 40) ? 0 : spread(&r, 10, 6000) * MS);
        c->leap_us = percent(&r, 50) ? spread(&r, 1000, 40000000) : -(int64_t)below(&r, 2000000);
        c->drift_ppm = percent(&r, 50) ? (int32_t)below(&r, 400000) - 200000 : 0;
    }
    return n;
}

/* Only before leaves: nobody's way leads through them. */
static void plan_nats(void) {
    rng r = rng_of(F_nat, 0);
    int some = with(F_nat) && percent(&r, 25);
    for (uint32_t i = 0; i < plan.nodes; i++) {
        r = rng_of(F_nat, 1 + i);
        if (some && plan.degree[i] == 1 && percent(&r, 50))
            plan.nat[i] = (uint8_t)between(&r, P2P_SIM_NAT_FULL, P2P_SIM_NAT_SYM);
    }
}

/* Most are small and short; one in twelve is not, and one in sixty is long. */
static void plan_make(void) {
    rng r = rng_of(F_LENGTH, 0);
    uint32_t kind = below(&r, 60);
    memset(&plan, 0, sizeof plan);
    plan.nodes = kind < 5 ? between(&r, 2, NODES_MAX) : between(&r, 2, percent(&r, 50) ? 3 : 6);
    plan.actions = kind == 5 ? between(&r, 500, 2000) : spread(&r, 10, kind < 20 ? 400 : 150);
    plan.duration_us = spread(&r, 200, kind == 5 ? 60000 : 10000) * MS;
    plan.epochs = between(&r, 1, EPOCHS_MAX);
    plan.nodes_drawn = plan.nodes;
    plan.actions_drawn = plan.actions;
    if (plan.nodes > the.nodes)
        plan.nodes = the.nodes;
    if (plan.actions > the.actions)
        plan.actions = the.actions;
    plan_shape();
    plan_nats();
    plan_cuts();
    plan.crash_count = plan_crashes(F_crash, 35, plan.crashes);
    plan.pause_count = plan_crashes(F_pause, 25, plan.pauses);
    plan.clock_count = plan_crashes(F_clock, 20, plan.clocks);
}

static uint64_t plan_action_us(uint32_t number) {
    return plan.duration_us * number / plan.actions_drawn;
}
#endif
