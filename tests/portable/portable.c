/* portable: the same seed, the same bytes, on every machine. Each scenario runs a small network on
 * the null channel, with streams, messages, datagrams and requests over all of it, and prints
 *
 *     NAME SEED  DIGEST EVENTS FATES
 *
 * p2p_sim_digest (every datagram that arrived, and when), a hash over everything that programs were
 * told and read, and one over p2p_sim_stats. pinned.txt has what is to come out; run.sh compiles
 * this for several machines and compares. PORTABLE_SEEDS=20 runs more than what is pinned.
 *
 * A new kind of fault gets a line in `scenarios`, at the end of its group, and
 * `PIN=1 make test-portable`. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include <stdio.h>
#include <stdlib.h>

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
enum { NODES = 5, PIECE = 700, STREAM = 60000, MESSAGES = 12, DATAGRAMS = 30, SEEDS = 2 };

/* A node of the network, and what it does with the connection that it dials. */
typedef struct actor {
    p2p_node *node;
    p2p_id id;
    p2p_conn conn;
    p2p_stream stream;
    uint32_t written, messages, datagrams;
    uint8_t dials, to, up;
} actor;

static struct {
    p2p_sim *sim;
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_connect_desc dial;
    p2p_error_detail why;
    actor actors[NODES];
    p2p_id routers[2];
    uint64_t heard; /* hash over all that programs saw */
} w;
static uint64_t memory[8u << 20];

static void must(int result) {
    if (result >= 0)
        return;
    printf("%s, %s\n", p2p_err_name(result), w.why.text);
    exit(1);
}
static void hear(uint64_t word) { w.heard = p2p_sim__mix(w.heard, word); }
static void hear_bytes(const void *data, size_t size) {
    w.heard = p2p_sim__hash(w.heard, (const uint8_t *)data, size);
}

/* ---- what the programs do ------------------------------------------------------------------- */

static void fill(uint8_t *out, size_t size, uint32_t at) {
    size_t i;
    for (i = 0; i < size; i++)
        out[i] = (uint8_t)((at + i) * 31 + ((at + i) >> 8) * 7);
}
static void write_some(actor *a) {
    uint8_t bytes[PIECE];
    int n;
    while (a->up && a->written < STREAM) {
        fill(bytes, sizeof bytes, a->written);
        n = p2p_stream_write(a->node, a->stream, bytes,
                             STREAM - a->written < PIECE ? STREAM - a->written : PIECE);
        if (n < 0)
            return;
        a->written += (uint32_t)n;
        if (a->written == STREAM)
            (void)p2p_stream_finish(a->node, a->stream);
    }
}
/* Now and then a message, a datagram and a request. */
static void say_some(actor *a) {
    uint8_t bytes[PIECE];
    p2p_request_desc request;
    p2p_stream stream;
    fill(bytes, sizeof bytes, a->messages);
    if (a->messages < MESSAGES && p2p_send(a->node, a->conn, bytes, 50 * a->messages + 1) >= 0)
        a->messages++;
    if (!a->up || a->datagrams == DATAGRAMS)
        return;
    a->datagrams += p2p_datagram_send(a->node, a->conn, bytes, 20 * a->datagrams + 1) >= 0;
    memset(&request, 0, sizeof request);
    request.method = P2P_POST;
    request.path = "/echo/some";
    request.body = bytes;
    request.body_size = a->datagrams;
    if (a->datagrams % 3 == 0)
        hear((uint64_t)p2p_request_send(a->node, a->conn, &request, &stream));
}
static void read_all(p2p_node *node, const p2p_event *e) {
    uint8_t bytes[4096];
    int n;
    while ((n = p2p_stream_read(node, e->stream, bytes, sizeof bytes)) > 0)
        hear_bytes(bytes, (size_t)n);
    hear((uint64_t)n);
    if (n == 0)
        (void)p2p_stream_finish(node, e->stream);
}
static void receive_all(p2p_node *node, const p2p_event *e) {
    uint8_t bytes[4096];
    int n;
    while ((n = p2p_recv(node, e->conn, bytes, sizeof bytes)) >= 0)
        hear_bytes(bytes, (size_t)n);
    while ((n = p2p_datagram_recv(node, e->conn, bytes, sizeof bytes)) >= 0)
        hear_bytes(bytes, (size_t)n);
}
static void echo(p2p_node *node, const p2p_request *q, void *ctx) {
    p2p_str some = p2p_param(q, "what");
    (void)ctx;
    hear_bytes(some.data, some.size);
    (void)p2p_reply(node, q->stream, 200, NULL, 0, q->body.data, q->body.size);
}
static void start(actor *a) {
    a->up = p2p_stream_open(a->node, a->conn, NULL, &a->stream) >= 0;
    a->written = 0;
    write_some(a);
}
static actor *actor_of(const p2p_node *node) {
    uint32_t i;
    for (i = 0; w.actors[i].node != node; i++) {}
    return &w.actors[i];
}
static void on_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    actor *a = actor_of(node);
    (void)ctx;
    hear(p2p_sim_now(sim));
    hear((uint64_t)e->type << 32 | (uint32_t)e->err);
    hear(e->size << 16 | e->status);
    hear_bytes(e->reason.data, e->reason.size);
    switch (e->type) {
    case P2P_EVENT_RECONNECTED:
    case P2P_EVENT_CONNECTED:
        if (!e->incoming)
            start(a);
        break;
    case P2P_EVENT_DISCONNECTED:
        if (a->dials && a->conn.id == e->conn.id)
            memset(&a->conn, 0, sizeof a->conn), a->up = 0;
        break;
    case P2P_EVENT_WRITABLE:
        if (a->dials && e->stream.id == a->stream.id)
            write_some(a);
        break;
    case P2P_EVENT_STREAM:
    case P2P_EVENT_RESPONSE:
    case P2P_EVENT_READABLE: read_all(node, e); break;
    case P2P_EVENT_MESSAGE:
    case P2P_EVENT_DATAGRAM: receive_all(node, e); break;
    default: break;
    }
}

/* ---- the network ---------------------------------------------------------------------------- */

static void node_ready(actor *a) {
    static const p2p_route route = {P2P_POST, 0, "/echo/:what", echo, NULL};
    p2p_listener listener;
    must(p2p_listen(a->node, NULL, &listener));
    must(p2p_route_add(a->node, &route));
    a->up = 0;
    a->conn.id = a->stream.id = 0;
}
static void node_add(uint32_t i) {
    const char name[] = {'n', (char)('0' + i), 0};
    actor *a = &w.actors[i];
    must(p2p_sim_node(w.sim, name, &w.desc, &a->node));
    a->id = *p2p_node_id(a->node);
    node_ready(a);
}
/* from's program keeps a connection to `to`. */
static void dials(uint32_t from, uint32_t to) {
    w.actors[from].dials = 1;
    w.actors[from].to = (uint8_t)to;
}
static void world_open(uint64_t seed) {
    memset(&w, 0, sizeof w);
    w.net.seed = seed;
    w.net.link.latency_us = 12 * MS;
    w.net.on_event = on_event;
    w.net.why = &w.why;
    w.desc.allow_anyone = 1;
    w.desc.time.connect_us = 4 * SECOND;
    w.desc.time.idle_us = 6 * SECOND;
}
/* Nodes, all of them joined to the first; the second and third dial it, and the fourth the second. */
static void world_star(void) {
    uint32_t i;
    must(p2p_sim_open(&w.sim, &w.net, memory, sizeof memory));
    for (i = 0; i < NODES; i++)
        node_add(i);
    for (i = 1; i < NODES; i++)
        must(p2p_sim_connect(w.sim, &w.actors[0].id, &w.actors[i].id, NULL));
    dials(1, 0);
    dials(2, 0);
    dials(3, 1);
}
static void turn(actor *a) {
    if (!a->node || !a->dials)
        return;
    if (a->conn.id == 0)
        hear((uint64_t)p2p_connect(a->node, &w.actors[a->to].id, &w.dial, &a->conn));
    else
        say_some(a);
}
/* Time passes, and every 50 ms the programs do something. */
static void run_ms(uint64_t ms) {
    const uint64_t until_us = p2p_sim_now(w.sim) + ms * MS;
    uint32_t i;
    while (p2p_sim_now(w.sim) < until_us) {
        for (i = 0; i < NODES; i++)
            turn(&w.actors[i]);
        must(p2p_sim_run_until(w.sim, p2p_sim_now(w.sim) + 50 * MS));
    }
}

/* ---- links ---------------------------------------------------------------------------------- */

static void clean(void) {}
static void jitter(void) { w.net.link.jitter_us = 9 * MS; }
static void loss(void) { w.net.link.loss_ppm = 80000; }
static void bursts(void) {
    w.net.link.loss_ppm = 50000;
    w.net.link.burst_ppm = 600000;
    w.net.link.burst_max = 4;
}
static void duplicates(void) { w.net.link.duplicate_ppm = 200000; }
static void reordered(void) { w.net.link.reorder_ppm = 150000; }
static void corrupted(void) {
    w.net.link.corrupt_ppm = 60000;
    w.net.link.corrupt_head = 40;
}
static void narrow(void) {
    w.net.link.rate_bps = 700001;
    w.net.link.queue_bytes = 9000;
    w.net.link.overhead = 28;
}
static void small_mtu(void) {
    w.net.link.mtu = 1300;
    w.desc.link.mtu = 1452;
}
static void all_faults(void) {
    jitter();
    bursts();
    duplicates();
    reordered();
    corrupted();
    narrow();
}
static void cubic(void) {
    narrow();
    loss();
    w.desc.congestion = 2;
}
static void newreno(void) {
    cubic();
    w.desc.congestion = 3;
}
static void steps(void) {
    loss();
    w.net.step_us = 7 * MS;
    w.net.time_multiplier = 3;
}
static void failing_dials(void) { w.net.failure_ppm = 500000; }
static void random_partitions(void) {
    narrow();
    w.net.partition_ppm = 700000;
}
static void oneway_partitions(void) {
    random_partitions();
    w.net.oneway_ppm = 600000;
}
static void normal_jitter(void) {
    jitter();
    w.net.link.jitter = P2P_SIM_JITTER_NORMAL;
}
static void pareto_jitter(void) {
    jitter();
    w.net.link.jitter = P2P_SIM_JITTER_PARETO;
}
static void codel(void) {
    narrow();
    w.net.link.queue_bytes = 60000;
    w.net.link.codel = 1;
    w.desc.congestion = 2;
}
static void least_latency(void) {
    jitter();
    w.net.routing = P2P_SIM_ROUTING_LATENCY;
}

static void stay(void) { run_ms(6000); }
static void step_by_step(void) {
    uint32_t i;
    for (i = 0; i < 200; i++) {
        turn(&w.actors[1 + i % 3]);
        (void)p2p_sim_step(w.sim);
    }
}

/* ---- what happens meanwhile ----------------------------------------------------------------- */

static void weather(void) {
    run_ms(1500);
    must(p2p_sim_latency(w.sim, NULL, NULL, 90 * MS));
    run_ms(1500);
    must(p2p_sim_loss(w.sim, &w.actors[1].id, &w.actors[0].id, 400000));
    run_ms(3000);
}
/* A way of two hops breaks, and datagrams take the one of three. */
static void detour(void) {
    p2p_sim_link down;
    p2p_id hops[4];
    uint32_t i;
    for (i = 0; i < 2; i++)
        must(p2p_sim_router(w.sim, i ? "east" : "west", &w.routers[i]));
    must(p2p_sim_connect(w.sim, &w.actors[1].id, &w.routers[0], NULL));
    must(p2p_sim_connect(w.sim, &w.routers[0], &w.routers[1], NULL));
    must(p2p_sim_connect(w.sim, &w.routers[1], &w.actors[0].id, NULL));
    run_ms(2000);
    must(p2p_sim_link_get(w.sim, &w.actors[1].id, &w.actors[0].id, &down));
    down.down = 1;
    must(p2p_sim_link_set(w.sim, &w.actors[1].id, &w.actors[0].id, &down));
    must(p2p_sim_link_set(w.sim, &w.actors[0].id, &w.actors[1].id, &down));
    hear((uint64_t)p2p_sim_path(w.sim, &w.actors[1].id, &w.actors[0].id, hops, 4));
    hear_bytes(hops, 3 * sizeof *hops);
    run_ms(4000);
}
static void slow_straight_way(void) {
    must(p2p_sim_latency(w.sim, &w.actors[1].id, &w.actors[0].id, 80 * MS));
    must(p2p_sim_latency(w.sim, &w.actors[0].id, &w.actors[1].id, 80 * MS));
    detour();
}
static void partition_and_heal(void) {
    const p2p_id a[] = {w.actors[0].id, w.actors[2].id};
    run_ms(1500);
    must(p2p_sim_partition(w.sim, a, 2, &w.actors[1].id, 1));
    must(p2p_sim_partition(w.sim, a, 1, &w.actors[2].id, 1));
    run_ms(7000);
    must(p2p_sim_heal(w.sim, a, 2, &w.actors[1].id, 1));
    run_ms(3000);
    must(p2p_sim_heal(w.sim, NULL, 0, NULL, 0));
    run_ms(3000);
}
static void one_way_silence(void) {
    run_ms(1500);
    must(p2p_sim_partition_oneway(w.sim, &w.actors[0].id, 1, &w.actors[1].id, 1));
    run_ms(2500);
    must(p2p_sim_heal(w.sim, NULL, 0, NULL, 0));
    run_ms(2000);
}
static void by_number(void) {
    must(p2p_sim_drop(w.sim, &w.actors[1].id, &w.actors[0].id, 3, 1));
    must(p2p_sim_drop(w.sim, &w.actors[1].id, &w.actors[0].id, 20, 9));
    must(p2p_sim_drop(w.sim, &w.actors[0].id, &w.actors[2].id, 1, 2));
    run_ms(5000);
}
static void pause_and_resume(void) {
    run_ms(1000);
    must(p2p_sim_pause(w.sim, &w.actors[0].id));
    run_ms(2000);
    must(p2p_sim_resume(w.sim, &w.actors[0].id));
    run_ms(4000);
}
static void clocks(void) {
    must(p2p_sim_clock(w.sim, &w.actors[0].id, 3000, 0));
    must(p2p_sim_clock(w.sim, &w.actors[1].id, -200000, 5 * (int64_t)SECOND));
    run_ms(3000);
    must(p2p_sim_clock(w.sim, &w.actors[2].id, 0, -700000));
    must(p2p_sim_clock(w.sim, &w.actors[0].id, 0, 3 * (int64_t)SECOND));
    run_ms(3000);
}
static void until_idle(void) {
    run_ms(2000);
    hear((uint64_t)p2p_sim_run_idle(w.sim, p2p_sim_now(w.sim) + 60 * SECOND));
    hear(p2p_sim_now(w.sim));
}
static void crash_and_restart(void) {
    run_ms(1500);
    must(p2p_sim_crash(w.sim, &w.actors[0].id));
    w.actors[0].node = NULL;
    run_ms(2000);
    must(p2p_sim_restart(w.sim, &w.actors[0].id, &w.actors[0].node));
    node_ready(&w.actors[0]);
    run_ms(9000);
}
static void reconnect(void) {
    jitter();
    w.dial.reconnect = 1;
}
static void close_and_stop(void) {
    run_ms(700);
    must(p2p_close(w.actors[1].node, w.actors[1].conn, 7, "enough"));
    must(p2p_node_stop(w.actors[0].node, 3));
    run_ms(5000);
}
static void names(void) {
    uint32_t query, i;
    must(p2p_register(w.actors[4].node, "music"));
    must(p2p_sim_register(w.sim, "old", &w.actors[2].id));
    for (i = 0; i < 4; i++) {
        must(p2p_discover(w.actors[1].node, i % 2 ? "old" : "music", &query));
        must(p2p_discover(w.actors[2].node, "nobody", &query));
        run_ms(400);
    }
    hear((uint64_t)p2p_connect_name(w.actors[3].node, "music", NULL, &w.actors[3].conn));
    must(p2p_sim_crash(w.sim, &w.actors[4].id));
    w.actors[4].node = NULL;
    run_ms(2500);
}
static void short_ttl(void) { w.net.ttl_us = SECOND; }
static void failing_names(void) {
    w.net.name_fail_ppm = 300000;
    w.net.name_silent_ppm = 200000;
}

/* ---- NAT boxes: the second node is behind one, and so are those that it talks to ------------ */

static void box(uint32_t actor_index, uint8_t kind) {
    p2p_sim_nat_desc nat;
    memset(&nat, 0, sizeof nat);
    nat.kind = kind;
    nat.lone_us = 2 * SECOND;
    nat.table_max = 3;
    must(p2p_sim_nat(w.sim, &w.actors[actor_index].id, &nat));
}
static void boxed(uint8_t kind, uint8_t other) {
    box(1, kind);
    box(3, other);
    run_ms(2500);
    must(p2p_sim_nat_rebind(w.sim, &w.actors[1].id));
    run_ms(7500);
}
static void nat_full(void) { boxed(P2P_SIM_NAT_FULL, P2P_SIM_NAT_SYM); }
static void nat_addr(void) { boxed(P2P_SIM_NAT_ADDR, P2P_SIM_NAT_PORT); }
static void nat_port(void) { boxed(P2P_SIM_NAT_PORT, P2P_SIM_NAT_FULL); }
static void nat_sym(void) { boxed(P2P_SIM_NAT_SYM, P2P_SIM_NAT_ADDR); }
static void nat_firewall(void) { boxed(P2P_SIM_NAT_FIREWALL, P2P_SIM_NAT_BLOCKED); }

/* ---- all of them ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*prepare)(void), (*play)(void);
} scenarios[] = {
    {"clean", clean, stay},
    {"jitter", jitter, stay},
    {"loss", loss, stay},
    {"bursts", bursts, stay},
    {"duplicates", duplicates, stay},
    {"reordered", reordered, stay},
    {"corrupted", corrupted, stay},
    {"narrow", narrow, stay},
    {"small_mtu", small_mtu, stay},
    {"all_faults", all_faults, stay},
    {"cubic", cubic, stay},
    {"newreno", newreno, stay},
    {"steps", steps, step_by_step},
    {"failing_dials", failing_dials, stay},
    {"random_partitions", random_partitions, stay},
    {"oneway_partitions", oneway_partitions, stay},
    {"normal_jitter", normal_jitter, stay},
    {"pareto_jitter", pareto_jitter, stay},
    {"codel", codel, stay},
    {"weather", all_faults, weather},
    {"detour", jitter, detour},
    {"least_latency", least_latency, slow_straight_way},
    {"partition_and_heal", jitter, partition_and_heal},
    {"one_way_silence", clean, one_way_silence},
    {"by_number", clean, by_number},
    {"pause_and_resume", loss, pause_and_resume},
    {"clocks", loss, clocks},
    {"until_idle", loss, until_idle},
    {"crash_and_restart", loss, crash_and_restart},
    {"reconnect_crash", reconnect, crash_and_restart},
    {"reconnect_partition", reconnect, partition_and_heal},
    {"close_and_stop", loss, close_and_stop},
    {"names", short_ttl, names},
    {"failing_names", failing_names, names},
    {"nat_full", clean, nat_full},
    {"nat_addr", loss, nat_addr},
    {"nat_port", clean, nat_port},
    {"nat_sym", jitter, nat_sym},
    {"nat_firewall", clean, nat_firewall},
};

static void run(size_t which, uint64_t seed) {
    p2p_sim_stats stats;
    uint64_t fates = 0;
    uint32_t i;
    world_open(seed);
    scenarios[which].prepare();
    world_star();
    scenarios[which].play();
    for (i = 0; i < NODES; i++)
        if (w.actors[i].node)
            must(p2p_check(w.actors[i].node));
    p2p_sim_stats_get(w.sim, &stats);
#define MIX(upper, lower) /* those that never happened leave the hash as it is */ \
    fates =                                                                       \
        stats.lower ? p2p_sim__mix(fates, (uint64_t)P2P_SIM_##upper << 56 | stats.lower) : fates;
    P2P_SIM_FATES(MIX)
    printf("%-20s %2u  %016llx %016llx %016llx\n", scenarios[which].name, (unsigned)seed,
           (unsigned long long)p2p_sim_digest(w.sim), (unsigned long long)w.heard,
           (unsigned long long)fates);
    p2p_sim_close(w.sim);
}

int main(void) {
    const char *text = getenv("PORTABLE_SEEDS");
    const uint64_t seeds = text ? strtoull(text, NULL, 10) : SEEDS;
    uint64_t seed;
    size_t i;
    for (i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        for (seed = 1; seed <= seeds; seed++)
            run(i, seed);
    return 0;
}
