/* world.h: the simulated network of a seed, and what is watched at every step of it.
 *
 * Always: the first thing found wrong ends the run: swarm_fail writes it down for the parent
 * process and does not return. Each seed runs in a process of its own, so a crash is a finding like
 * any other. */
#ifndef SWARM_WORLD_H
#define SWARM_WORLD_H

/* What all seeds together did, so that a swarm that does nothing is noticed. */
#define TALLIES(X)    \
    X(connected)      \
    X(refused)        \
    X(dial_failed)    \
    X(reconnected)    \
    X(broken)         \
    X(streams)        \
    X(aborted)        \
    X(messages)       \
    X(large_messages) \
    X(doubtful)       \
    X(datagrams)      \
    X(requests)       \
    X(answered)       \
    X(refusals)       \
    X(found)          \
    X(timers)         \
    X(crashes)        \
    X(pauses)         \
    X(clocks)         \
    X(cuts)           \
    X(stops)          \
    X(datagrams_dropped)
#define TALLY_ENUM(name) T_##name,
enum tally { TALLIES(TALLY_ENUM) T_COUNT };
#undef TALLY_ENUM
#define TALLY_NAME(name) #name,
static const char *const tally_name[] = {TALLIES(TALLY_NAME)};
#undef TALLY_NAME

/* How a run ended: lies in memory shared with the process that started it. */
typedef struct verdict {
    int done, failed;
    char text[240];
    uint64_t digest, virtual_us, steps;
    uint64_t tally[T_COUNT];
} verdict;
static verdict *result;

static void tally(int what) { result->tally[what]++; }

typedef struct actor { /* a node and the program on it */
    p2p_node *node;
    p2p_id id;
    p2p_listener listener;
    uint32_t life;  /* counts restarts */
    uint32_t ticks; /* of its clock, when p2p_check was last called */
    uint8_t stopping, stopped, paused;
    uint64_t late_us;   /* the program is busy until then, and takes no event */
    p2p_metrics before; /* counters only grow */
    uint64_t used;      /* bytes of the arena before anything happened */
    uint8_t *canary;
} actor;

enum { CANARY = 64, MEMORY = 192 << 20 };
static uint64_t *memory;
static struct world {
    p2p_sim *sim;
    p2p_error_detail why;
    p2p_id vertex[NODES_MAX + ROUTERS_MAX];
    actor actors[NODES_MAX];
    uint32_t epoch;
    uint64_t events, progress, progress_us, idle_steps;
    int healed;
} world;

static uint64_t now_us(void) { return world.sim ? p2p_sim_now(world.sim) : 0; }

/* Tells what goes on, with VERBOSE. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static void
say(const char *format, ...) {
    va_list args;
    if (!the.verbose)
        return;
    printf("%11.6f  ", (double)now_us() / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
static void
swarm_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(result->text, sizeof result->text, format, args);
    va_end(args);
    say("FAILED: %s", result->text);
    result->virtual_us = now_us();
    result->failed = result->done = 1;
    fflush(stdout);
    _exit(1);
}
#define MUST(condition, ...) ((condition) ? (void)0 : swarm_fail(__VA_ARGS__))

static void swarm_assert(const char *what, int line) {
    swarm_fail("assertion at line %d: %s", line, what);
}

static const char *words(int err) { return err >= 0 ? "success" : p2p_err_name(err); }

/* A call gave what its documentation allows: success, or one of these errors. */
static int expected(const actor *a, const char *call, int err, const int *allowed) {
    p2p_error_detail why;
    if (err >= 0)
        return err;
    for (; *allowed; allowed++)
        if (*allowed == err)
            return err;
    if (a->stopping && (err == P2P_ERR_STATE || err == P2P_ERR_CLOSED))
        return err;
    p2p_last_error(a->node, &why);
    swarm_fail("node %d: %s gave %s: %s", (int)(a - world.actors), call, words(err), why.text);
}
#define EXPECT(a, call, ...) expected(a, #call, call, (const int[]){__VA_ARGS__, 0})

/* ---- bytes ---- */

/* Payloads are windows of one table; where the window lies follows from the number of what it is. */
enum { PATTERN = 65521, WINDOW = 140000 };
static uint8_t pattern_bytes[PATTERN + WINDOW];

static void pattern_make(void) {
    rng r = {UINT64_C(0x7377726d)};
    for (uint32_t i = 0; i < PATTERN; i++)
        pattern_bytes[i] = (uint8_t)rng_u64(&r);
    for (uint32_t i = 0; i < WINDOW; i++)
        pattern_bytes[PATTERN + i] = pattern_bytes[i % PATTERN];
}
static const uint8_t *pattern(uint32_t number, uint32_t at) {
    return pattern_bytes + (number * UINT64_C(7919) + at) % PATTERN;
}

/* ---- nodes ---- */

static int gate(void *ctx, const p2p_gate *who) { /* the same callers always */
    const actor *a = (const actor *)ctx;
    rng r = rng_of(F_gates, (uint64_t)(a - world.actors) << 8 | (who->id ? who->id->bytes[0] : 0u));
    return !who->id || percent(&r, 70);
}

static int picky(uint32_t i) {
    rng r = rng_of(F_gates, 1u << 20 | i);
    return with(F_gates) && percent(&r, 20);
}

static void desc_tables(uint32_t i, p2p_desc *d) {
    rng r = rng_of(F_tables, i);
    d->max.conns = between(&r, 1, 10);
    d->max.half_open = between(&r, 1, d->max.conns);
    d->max.conns_per_peer = between(&r, 1, 3);
    d->max.streams = between(&r, 1, 16);
    d->max.peer_streams = between(&r, d->max.conns, 20);
    d->max.peer_streams_per_conn = percent(&r, 30) ? between(&r, 1, d->max.peer_streams) : 0;
    d->max.in_flight = spread(&r, 2 * d->max.conns, 512);
    d->max.peers = between(&r, 1, 16);
    d->max.datagrams_in = between(&r, 1, 16);
    d->max.datagrams_out = between(&r, 1, 16);
    d->bytes.stream_send = spread(&r, 700, 32768);
    d->bytes.stream_recv = spread(&r, 700, 32768);
    d->bytes.peer_send = spread(&r, 700, 32768);
    d->bytes.peer_recv = spread(&r, 1400, 32768);
    d->bytes.message_send = spread(&r, 64, 32768);
    d->bytes.message_recv = spread(&r, 512, 32768); /* a window a round trip, see max_age_us */
    d->bytes.datagram_max = percent(&r, 30) ? between(&r, 16, 1152) : 0;
    d->link.mtu = percent(&r, 25) ? between(&r, 600, 1232) : 0;
}

static void desc_timing(uint32_t i, p2p_desc *d) {
    rng r = rng_of(F_timing, i);
    d->time.connect_us = spread(&r, 500, 20000) * MS;
    d->time.idle_us = spread(&r, 700, 15000) * MS;
    d->time.keepalive_us = percent(&r, 30) ? P2P_NEVER : spread(&r, 200, 8000) * MS;
    d->time.request_us = spread(&r, 200, 10000) * MS;
    d->time.datagram_us = percent(&r, 40) ? spread(&r, 1, 300) * MS : 0;
    d->time.stop_us = percent(&r, 30) ? spread(&r, 1, 5000) * MS : 0;
    d->time.max_age_us = percent(&r, 15) ? spread(&r, 10000, 60000) * MS : 0;
}

static const char *const alpn_sets[3][2] = {{"p2p", "chat"}, {"p2p", NULL}, {"chat", "p2p"}};

static void desc_make(uint32_t i, p2p_desc *d) {
    rng r = rng_of(F_gates, 1u << 21 | i);
    const char *const *alpn = alpn_sets[below(&r, 3)];
    memset(d, 0, sizeof *d);
    d->why = &world.why;
    d->allow_anyone = 1;
    d->max.in_flight = 128;
    d->bytes.stream_send = d->bytes.stream_recv = d->bytes.peer_send = d->bytes.peer_recv = 8192;
    d->bytes.message_send = d->bytes.message_recv = 8192;
    d->bytes.message_max = 1 << 17;
    d->time.idle_us = 5 * SECOND;
    d->time.keepalive_us = SECOND;
    d->time.connect_us = 10 * SECOND;
    d->time.request_us = 5 * SECOND;
    if (with(F_tables))
        desc_tables(i, d);
    if (with(F_timing))
        desc_timing(i, d);
    if (with(F_gates)) {
        d->alpn = alpn;
        d->alpn_count = alpn[1] ? 2 : 1;
    }
    if (picky(i)) {
        d->allow_anyone = 0;
        d->allow.fn = gate;
        d->allow.ctx = &world.actors[i];
    }
    r = rng_of(F_congestion, i);
    d->congestion = with(F_congestion) ? (uint8_t)below(&r, 4) : 0;
}

static void work_route(actor *a); /* ask.h: what the program does when its node is there */

static uint64_t arena_used(const actor *a) {
    p2p_metrics m;
    p2p_metrics_get(a->node, &m);
    return m.value[P2P_METRIC_arena_used_bytes];
}

/* The program starts: at first and after each restart. */
static void actor_begin(actor *a) {
    char name[24];
    memset(&a->before, 0, sizeof a->before);
    a->life++;
    a->stopping = a->stopped = 0;
    a->late_us = 0;
    MUST(p2p_listen(a->node, NULL, &a->listener) == 0, "listen: %s", world.why.text);
    if (with(F_names)) {
        snprintf(name, sizeof name, "name%d", (int)(a - world.actors));
        EXPECT(a, p2p_register(a->node, name), P2P_ERR_DISCOVERY);
    }
    work_route(a);
    a->used = arena_used(a);
}

/* A strip of known bytes behind each node's arena. */
static void canary_lay(actor *a) {
    MUST(world.sim->used + CANARY <= world.sim->size, "the test's memory is too small");
    a->canary = world.sim->base + world.sim->used;
    memset(a->canary, 0xa5, CANARY);
    world.sim->used += CANARY;
}

static void actor_make(uint32_t i) {
    p2p_sim_nat_desc nat;
    actor *a = &world.actors[i];
    p2p_desc desc;
    char name[24];
    int err;
    desc_make(i, &desc);
    snprintf(name, sizeof name, "node%u", (unsigned)i);
    err = p2p_sim_node(world.sim, name, &desc, &a->node);
    MUST(err == 0, "p2p_sim_node: %s: %s", words(err), world.why.text);
    a->id = world.vertex[i] = *p2p_node_id(a->node);
    canary_lay(a);
    memset(&nat, 0, sizeof nat);
    nat.kind = plan.nat[i];
    if (nat.kind)
        MUST(p2p_sim_nat(world.sim, &a->id, &nat) == 0, "p2p_sim_nat: %s", world.why.text);
    actor_begin(a);
}

/* Nobody reaches it unless it called first. */
static int behind_nat(uint32_t i) { return plan.nat[i] != P2P_SIM_NAT_NONE; }

/* ---- links ---- */

static int oneway_down(uint32_t edge_at, int back) {
    for (uint32_t i = 0; i < plan.oneway_count; i++)
        if (plan.oneways[i].done == 1 && plan.oneways[i].edge % plan.edge_count == edge_at &&
            (int)plan.oneways[i].back == back)
            return 1;
    return 0;
}

static void link_set(uint32_t edge_at, int back) {
    const edge *e = &plan.edges[edge_at];
    p2p_sim_link link;
    plan_link(edge_at, back, world.epoch, &link);
    if (world.healed) {
        memset(&link, 0, sizeof link);
        link.latency_us = 5 * MS;
    }
    link.down = (uint8_t)oneway_down(edge_at, back);
    MUST(p2p_sim_connect_oneway(world.sim, &world.vertex[back ? e->b : e->a],
                                &world.vertex[back ? e->a : e->b], &link) == 0,
         "link: %s", world.why.text);
}

static void links_set(void) {
    for (uint32_t i = 0; i < plan.edge_count; i++) {
        link_set(i, 0);
        link_set(i, 1);
    }
}

/* ---- faults whose time has come ---- */

static void cut_sides(const cut *c, int heal) {
    p2p_id side[2][NODES_MAX];
    size_t n[2] = {0, 0};
    for (uint32_t i = 0; i < plan.nodes; i++) {
        int which = c->group >> i & 1;
        side[which][n[which]++] = world.vertex[i];
    }
    if (n[0] == 0 || n[1] == 0)
        return;
    if (heal)
        MUST(p2p_sim_heal(world.sim, side[0], n[0], side[1], n[1]) == 0, "heal: %s",
             world.why.text);
    else
        MUST(p2p_sim_partition(world.sim, side[0], n[0], side[1], n[1]) == 0, "partition: %s",
             world.why.text);
    tally(T_cuts);
}

static void cuts_due(cut *cuts, uint32_t count, int oneway) {
    for (uint32_t i = 0; i < count; i++) {
        cut *c = &cuts[i];
        uint64_t at_us = c->done == 0 ? c->from_us : c->until_us;
        if (c->done == 2 || (now_us() < at_us && !world.healed))
            continue;
        c->done = world.healed ? 2 : c->done + 1;
        say("%s %u %s", oneway ? "one way of edge" : "partition", (unsigned)i,
            c->done == 1 ? "begins" : "ends");
        if (!oneway)
            cut_sides(c, c->done == 2);
        else if (plan.edge_count)
            link_set(c->edge % plan.edge_count, (int)c->back);
    }
}

static void actor_gone(actor *a); /* program.h: the program forgets all it had */

static void actor_crash(actor *a) {
    say("node %d crashes", (int)(a - world.actors));
    actor_gone(a);
    MUST(p2p_sim_crash(world.sim, &a->id) == 0, "crash: %s", world.why.text);
    a->node = NULL;
    a->paused = 0;
    tally(T_crashes);
}

static void actor_back(actor *a) {
    say("node %d is back", (int)(a - world.actors));
    MUST(p2p_sim_restart(world.sim, &a->id, &a->node) == 0, "restart: %s", world.why.text);
    actor_begin(a);
}

static void crashes_due(void) {
    for (uint32_t i = 0; i < plan.crash_count; i++) {
        crash *c = &plan.crashes[i];
        actor *a = &world.actors[c->node];
        if (c->done == 0 && now_us() >= c->at_us && !world.healed && c->node < plan.nodes &&
            a->node) {
            c->done = 1;
            actor_crash(a);
        }
        if (c->done == 1 && (now_us() >= c->back_us || world.healed)) {
            c->done = 2;
            if (!a->node)
                actor_back(a);
        }
    }
}

static void pauses_due(void) {
    for (uint32_t i = 0; i < plan.pause_count; i++) {
        crash *c = &plan.pauses[i];
        actor *a = &world.actors[c->node];
        if (c->done == 0 && now_us() >= c->at_us && !world.healed && c->node < plan.nodes &&
            a->node && !a->paused) {
            say("node %u stands still", (unsigned)c->node);
            c->done = 1;
            a->paused = 1;
            MUST(p2p_sim_pause(world.sim, &a->id) == 0, "pause: %s", world.why.text);
            tally(T_pauses);
        } else if (c->done == 1 && (now_us() >= c->back_us || world.healed)) {
            say("node %u goes on", (unsigned)c->node);
            c->done = 2;
            if (a->paused)
                MUST(p2p_sim_resume(world.sim, &a->id) == 0, "resume: %s", world.why.text);
            a->paused = 0;
        }
    }
}

/* A clock leaps at once; what it drifts ends when all heals. */
static void clocks_due(void) {
    for (uint32_t i = 0; i < plan.clock_count; i++) {
        crash *c = &plan.clocks[i];
        int64_t leap_us = world.healed || now_us() < 3 * SECOND ? 0 : c->leap_us;
        uint64_t shown_us = 0;
        if (c->done == 2 || (now_us() < c->at_us && !world.healed) || c->node >= plan.nodes)
            continue;
        if (c->done == 1 && !world.healed)
            continue;
        say("the clock of node %u %s", (unsigned)c->node, world.healed ? "is right" : "is wrong");
        MUST(p2p_sim_node_now(world.sim, &world.vertex[c->node], &shown_us) == 0, "clock: %s",
             world.why.text);
        if (leap_us < 0 && (uint64_t)-leap_us > shown_us)
            leap_us = 0; /* a slow one that leapt back before shows too little to leap again */
        MUST(p2p_sim_clock(world.sim, &world.vertex[c->node], world.healed ? 0 : c->drift_ppm,
                           leap_us) == 0,
             "clock: %s", world.why.text);
        c->done = world.healed ? 2 : 1;
        tally(T_clocks);
    }
}

static void faults_due(void) {
    uint32_t epoch = (uint32_t)(now_us() * plan.epochs / plan.duration_us);
    cuts_due(plan.cuts, plan.cut_count, 0);
    cuts_due(plan.oneways, plan.oneway_count, 1);
    pauses_due();
    clocks_due();
    crashes_due();
    if (epoch != world.epoch && !world.healed) {
        world.epoch = epoch;
        links_set();
    }
}

/* ---- what holds at every step ---- */

static void check_node(actor *a) {
    p2p_error_detail why;
    if (p2p_check(a->node) != P2P_OK) {
        p2p_last_error(a->node, &why);
        swarm_fail("p2p_check of node %d: %s", (int)(a - world.actors), why.text);
    }
}

/* Bytes that came and were not taken: what was credited besides would be lost, or be given twice. */
static void check_credit(const actor *a) {
    const p2p_node *node = a->node;
    for (const p2p__conn *c = NULL; (c = p2p__conn_next(node, c)) != NULL;) {
        uint64_t unread = c->recv_total - c->recv_taken;
        for (uint16_t at = c->stream_first; at != P2P__NIL; at = node->streams[at].conn_next) {
            const p2p__recv *r = &node->streams[at].recv;
            uint64_t from = P2P__MAX(r->read, r->base);
            unread -= p2p__recv_counts(r) && r->high > from ? r->high - from : 0;
        }
        MUST(unread == 0 || !c->attached, "node %d: the connection's window is off by %ld bytes",
             (int)(a - world.actors), (long)unread);
    }
}

static void check_canary(const actor *a) {
    for (int i = 0; i < CANARY; i++)
        MUST(a->canary[i] == 0xa5, "node %d wrote behind its arena", (int)(a - world.actors));
}

#define NAME(name, kind, help) #name,
static const char *const counter_name[] = {P2P_METRICS(NAME)};
#undef NAME

/* For a person: all that a node counted. */
static void say_counters(const actor *a) {
    p2p_metrics m;
    say("node %d counted", (int)(a - world.actors));
    p2p_metrics_get(a->node, &m);
    for (int i = 0; i < P2P_METRIC_COUNT; i++)
        if (m.value[i])
            printf(" %s %llu", counter_name[i], (unsigned long long)m.value[i]);
    printf("\n");
}

/* Nodes that keep the protocol never give each other cause for these, whatever the network does. */
static void check_peace(const actor *a, const p2p_metrics *m) {
    static const int never[] = {P2P_METRIC_auth_failed,      P2P_METRIC_hello_bad,
                                P2P_METRIC_hello_no_version, P2P_METRIC_frames_bad,
                                P2P_METRIC_ack_of_unsent,    P2P_METRIC_flow_violations,
                                P2P_METRIC_records_fatal,    P2P_METRIC_message_too_large,
                                P2P_METRIC_responses_bad,    P2P_METRIC_random_failed};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        MUST(m->value[never[i]] == 0, "node %d counts %s", (int)(a - world.actors),
             counter_name[never[i]]);
}

static void check_counters(actor *a) {
    p2p_metrics m;
    p2p_metrics_get(a->node, &m);
    check_peace(a, &m);
    for (int i = 0; i < P2P_METRIC_conns_open; i++)
        MUST(m.value[i] >= a->before.value[i], "node %d: the counter %s went back",
             (int)(a - world.actors), counter_name[i]);
    a->before = m;
}

/* Of all nodes, now and then. */
static void check_world(void) {
    for (uint32_t i = 0; i < plan.nodes; i++) {
        check_canary(&world.actors[i]);
        if (!world.actors[i].node)
            continue;
        check_node(&world.actors[i]);
        check_credit(&world.actors[i]);
        check_counters(&world.actors[i]);
    }
}

/* Nodes may ask to be woken, but not again and again for nothing. */
static void check_spin(void) {
    uint64_t sum = world.events + world.sim->fates[P2P_SIM_SENT] +
                   world.sim->fates[P2P_SIM_DELIVERED] + world.sim->fates[P2P_SIM_LOST];
    if (sum != world.progress) {
        world.progress = sum;
        world.progress_us = now_us();
        world.idle_steps = 0;
    }
    world.idle_steps++;
    MUST(world.idle_steps < 500 + (now_us() - world.progress_us) / 2000,
         "woken %u times in %u us, and nothing happened", (unsigned)world.idle_steps,
         (unsigned)(now_us() - world.progress_us));
}

static void work_event(actor *a, const p2p_event *e); /* program.h */

/* It does something else now, and knows only what it was told before. */
static int late(const actor *a) { return now_us() < a->late_us && !world.healed; }

/* The program takes what there is to be told. */
static void actor_looks(actor *a) {
    p2p_event e;
    if (!a->node || a->paused || late(a) || !p2p__events_pending(a->node))
        return;
    while (p2p_next_event(a->node, &e) == 1)
        if (e.type != P2P_EVENT_NONE)
            work_event(a, &e);
    MUST(p2p_sim_touch(world.sim, a->node) == 0, "touch: %s", world.why.text);
}

static void check_step(void) {
    result->steps++;
    for (uint32_t i = 0; i < plan.nodes; i++) {
        actor *a = &world.actors[i];
        if (!a->node || a->ticks == a->node->ticks)
            continue;
        check_node(a);
        actor_looks(a);
        a->ticks = a->node->ticks;
    }
    check_spin();
}

/* As p2p_sim_run_until, with a look at what each step made. */
static void world_run(uint64_t until_us) {
    p2p_sim *s = world.sim;
    s->busy = 1;
    for (uint32_t i = 0; i < plan.nodes; i++)
        actor_looks(&world.actors[i]);
    p2p_sim__look_all(s);
    while (p2p_sim__next(s, until_us))
        check_step();
    s->busy = 0;
    MUST(p2p_sim_run_until(s, until_us) == 0, "run: %s", world.why.text);
}

/* ---- begin and end ---- */

/* Faults of the network as a whole. */
static void net_faults(p2p_sim_desc *net) {
    rng r = rng_of(F_split, 0);
    if (with(F_split) && percent(&r, 15)) {
        net->partition_ppm = between(&r, 50000, 500000);
        net->oneway_ppm = percent(&r, 50) ? 500000 : 0;
    }
    r = rng_of(F_lies, 0);
    if (with(F_lies) && percent(&r, 25)) {
        net->name_fail_ppm = spread(&r, 10000, 500000);
        net->name_silent_ppm = spread(&r, 10000, 300000);
        net->failure_ppm = spread(&r, 10000, 300000);
    }
    r = rng_of(F_SHAPE, 1);
    net->routing = percent(&r, 30) ? P2P_SIM_ROUTING_LATENCY : P2P_SIM_ROUTING_HOPS;
}

static void world_open(void) {
    p2p_sim_desc net;
    char name[24];
    int err;
    memset(&net, 0, sizeof net);
    net.seed = the.seed;
    net.nodes = plan.nodes + plan.routers;
    net.packets = 1000 + 400 * plan.nodes;
    net.why = &world.why;
    net.discovery_us = 20 * MS;
    net_faults(&net);
    if (the.dtls) {
        MUST(p2p_sodium_crypto(&net.crypto) == 0, "no libsodium");
        MUST(p2p_mbedtls_secure(&net.secure) == 0, "no mbedTLS");
    }
    err = p2p_sim_open(&world.sim, &net, memory, MEMORY);
    MUST(err == 0, "p2p_sim_open: %s", world.why.text);
    for (uint32_t i = 0; i < plan.nodes; i++)
        actor_make(i);
    for (uint32_t i = 0; i < plan.routers; i++) {
        snprintf(name, sizeof name, "router%u", (unsigned)i);
        MUST(p2p_sim_router(world.sim, name, &world.vertex[plan.nodes + i]) == 0, "router: %s",
             world.why.text);
    }
    links_set();
}

/* All is well again: links, ways, nodes. */
static void world_heal(void) {
    world.healed = 1;
    world.sim->desc.partition_ppm = world.sim->desc.failure_ppm = 0;
    world.sim->desc.name_fail_ppm = world.sim->desc.name_silent_ppm = 0;
    world.sim->split = 0;
    p2p_sim__changed(world.sim);
    faults_due();
    MUST(p2p_sim_heal(world.sim, NULL, 0, NULL, 0) == 0, "heal: %s", world.why.text);
    for (uint32_t i = 0; i < plan.nodes; i++)
        if (!world.actors[i].node)
            actor_back(&world.actors[i]);
    links_set();
}

/* Every datagram ended somehow, and its memory came back. */
static void check_network_empty(void) {
    p2p_sim_stats s;
    uint64_t ends;
    uint32_t at, chunks = 0;
    p2p_sim_stats_get(world.sim, &s);
    ends = s.delivered + s.lost + s.queue + s.mtu + s.route + s.nat + s.nobody + s.full;
    MUST(s.sent + s.duplicated == ends, "%lu datagrams set out and %lu ended",
         (unsigned long)(s.sent + s.duplicated), (unsigned long)ends);
    for (at = world.sim->chunk_free; at != P2P_SIM__NOTHING; at = world.sim->chunks[at].tail.next)
        chunks++;
    MUST(chunks == world.sim->chunk_max, "the network lost %u chunks",
         (unsigned)(world.sim->chunk_max - chunks));
    MUST(s.full == 0, "the network was full: the test's packets are too few");
}
#endif
