/* sim MODE: how fast the simulator is, and p2p.h in it. Virtual time, digest on; a second is one of
 * the one core that it runs on.
 *
 * ring_1k, ring_100k: nodes in a ring, each connected to the next. Every node starts with one
 * datagram of 64 bytes and passes on what it receives: one leaves for each that came. What counts
 * is datagrams that the program received; each came in a UDP datagram of its own. Dialling and the
 * first turns round the ring are over before the clock starts. NAME_udp_per_s counts what went into
 * p2p_input meanwhile: the acknowledgements too.
 *
 * audio, audio_dtls: 1,411 kbit/s on one stream, written by a timer every 10 ms of virtual time. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "node.h"

enum {
    SMALL = 64,
    LATENCY_US = 5000,
    DIAL_US = 10000000, /* by then all are connected */
    ROUNDS_1K = 2000,   /* datagrams a node that are measured */
    ROUNDS_100K = 20,
    ROUNDS_WARM = 10,
    AUDIO_S = 600, /* virtual */
    AUDIO_DTLS_S = 120,
    AUDIO_TICK_US = 10000,
    AUDIO_TICK_BYTES = 1764 /* 44,100 Hz, 16 bits, 2 channels */
};

/* ---- memory and the network ---------------------------------------------------------------- */

static p2p_error_detail why;

static void must(int result) {
    if (result < 0)
        die(why.text[0] ? why.text : p2p_err_text(result));
}

static p2p_sim *network(p2p_sim_desc *net, const p2p_desc *desc, void **arena) {
    const size_t size = p2p_sim_arena_size(net) + net->nodes * p2p_sim_node_size(net, desc);
    p2p_sim *sim;
    *arena = malloc(size);
    errno = 0;
    if (!*arena)
        die("malloc");
    must(p2p_sim_open(&sim, net, *arena, size));
    return sim;
}

/* ---- datagrams round a ring ---------------------------------------------------------------- */

typedef struct member {
    p2p_node *node;
    p2p_conn next;
} member;

static struct {
    member *members;
    uint32_t count, connected;
    uint64_t received;
} ring;

/* An incoming connection's user is its node's member: where to send on. */
static void ring_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    uint8_t bytes[SMALL];
    (void)ctx;
    (void)sim;
    switch (e->type) {
    case P2P_EVENT_CONNECTED: ring.connected += e->incoming; break;
    case P2P_EVENT_DATAGRAM:
        while (p2p_datagram_recv(node, e->conn, bytes, sizeof bytes) == SMALL) {
            ring.received++;
            must(p2p_datagram_send(node, ((member *)e->user)->next, bytes, sizeof bytes));
        }
        break;
    case P2P_EVENT_DISCONNECTED: die(p2p_err_text(e->err));
    default: break;
    }
}

/* Two connections and nothing that datagrams do not need. */
static void smallest(p2p_desc *desc) {
    memset(desc, 0, sizeof *desc);
    desc->allow_anyone = 1;
    desc->max.conns = 2;
    desc->max.half_open = 2;
    desc->max.streams = desc->max.peer_streams = desc->max.routes = P2P_NONE;
    desc->max.services = desc->max.timers = P2P_NONE;
    desc->max.listeners = desc->max.peers = 1;
    desc->max.in_flight = 16;
    desc->max.datagrams_in = desc->max.datagrams_out = 2;
    desc->bytes.datagram_max = SMALL;
    desc->bytes.message_max = P2P_NONE;
    desc->why = &why;
}

static void ring_nodes(p2p_sim *sim, const p2p_desc *desc) {
    p2p_listen_desc listen;
    p2p_listener listener;
    char name[16];
    uint32_t i;
    memset(&listen, 0, sizeof listen);
    for (i = 0; i < ring.count; i++) {
        (void)snprintf(name, sizeof name, "n%u", i);
        listen.user = &ring.members[i];
        must(p2p_sim_node(sim, name, desc, &ring.members[i].node));
        must(p2p_listen(ring.members[i].node, &listen, &listener));
    }
}

static void ring_dial(p2p_sim *sim) {
    uint32_t i;
    for (i = 0; i < ring.count; i++) {
        member *m = &ring.members[i], *next = &ring.members[(i + 1) % ring.count];
        must(p2p_sim_connect(sim, p2p_node_id(m->node), p2p_node_id(next->node), NULL));
        must(p2p_connect(m->node, p2p_node_id(next->node), NULL, &m->next));
    }
    must(p2p_sim_run_until(sim, DIAL_US));
    if (ring.connected != ring.count)
        die("connecting the ring");
}

static void ring_run(p2p_sim *sim, uint32_t rounds) {
    must(p2p_sim_run_until(sim, p2p_sim_now(sim) + (uint64_t)rounds * LATENCY_US));
}

static void ring_start(p2p_sim *sim) {
    uint8_t bytes[SMALL];
    uint32_t i;
    memset(bytes, 7, sizeof bytes);
    for (i = 0; i < ring.count; i++)
        must(p2p_datagram_send(ring.members[i].node, ring.members[i].next, bytes, sizeof bytes));
    ring_run(sim, ROUNDS_WARM);
}

static void ring_measure(p2p_sim *sim, const char *name, uint32_t rounds) {
    p2p_sim_stats before, after;
    uint64_t spent_us;
    p2p_sim_stats_get(sim, &before);
    ring.received = 0;
    spent_us = cpu_us(0);
    ring_run(sim, rounds);
    spent_us = cpu_us(0) - spent_us + 1;
    p2p_sim_stats_get(sim, &after);
    if (ring.received < (uint64_t)rounds * ring.count * 9 / 10)
        die("keeping datagrams going round");
    row_of(name, "per_s", "1/s", (double)ring.received * 1e6 / (double)spent_us);
    row_of(name, "udp_per_s", "1/s",
           (double)(after.delivered - before.delivered) * 1e6 / (double)spent_us);
}

static void measure_ring(const char *name, uint32_t count, uint32_t rounds) {
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_sim *sim;
    void *arena;
    uint64_t spent_us = cpu_us(0);
    memset(&net, 0, sizeof net);
    net.seed = 1;
    net.nodes = count;
    net.links = count;
    net.packets = 4 * count;
    net.link.latency_us = LATENCY_US;
    net.on_event = ring_event;
    net.why = &why;
    smallest(&desc);
    memset(&ring, 0, sizeof ring);
    ring.count = count;
    ring.members = (member *)calloc(count, sizeof *ring.members);
    sim = network(&net, &desc, &arena);
    ring_nodes(sim, &desc);
    row_of(name, "open_s", "s", (double)(cpu_us(0) - spent_us) / 1e6);
    row_of(name, "node_bytes", "B",
           (double)(p2p_sim_arena_size(&net) / count + p2p_sim_node_size(&net, &desc)));
    ring_dial(sim);
    ring_start(sim);
    ring_measure(sim, name, rounds);
    p2p_sim_close(sim);
    free(arena);
    free(ring.members);
}

static void measure_1k(const char *name) { measure_ring(name, 1000, (uint32_t)scaled(ROUNDS_1K)); }
static void measure_100k(const char *name) {
    measure_ring(name, 100000, (uint32_t)scaled(ROUNDS_100K));
}

/* ---- a stream of audio --------------------------------------------------------------------- */

static struct {
    p2p_node *player;
    p2p_stream stream;
    uint64_t due_us, end_us, read;
    bool started;
} audio;

static void audio_tick(p2p_node *node) {
    uint64_t left = AUDIO_TICK_BYTES;
    p2p_room room;
    while (left > 0 && p2p_stream_reserve(node, audio.stream, (size_t)left, &room) >= 0) {
        size_t n = room.size < left ? room.size : (size_t)left;
        memset(room.data, 'p', n);
        must(p2p_stream_commit(node, audio.stream, n));
        left -= n;
    }
    if (left > 0)
        die("real time: the stream fell behind");
    audio.due_us += AUDIO_TICK_US;
    if (audio.due_us < audio.end_us)
        must(p2p_timer_set(node, 0, audio.due_us));
}

static void audio_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    (void)ctx;
    switch (e->type) {
    case P2P_EVENT_CONNECTED:
        if (e->incoming)
            break;
        must(p2p_stream_open(node, e->conn, NULL, &audio.stream));
        audio.due_us = p2p_sim_now(sim);
        audio.end_us += audio.due_us;
        audio.started = true;
        must(p2p_timer_set(node, 0, audio.due_us));
        break;
    case P2P_EVENT_TIMER: audio_tick(node); break;
    case P2P_EVENT_STREAM:
    case P2P_EVENT_READABLE:
        if (node == audio.player)
            (void)stream_drain(node, e->stream, &audio.read);
        break;
    case P2P_EVENT_DISCONNECTED: die(p2p_err_text(e->err));
    default: break;
    }
}

static void measure_stream(const char *name, p2p_sim_desc *net, uint64_t seconds) {
    p2p_desc desc;
    p2p_listener listener;
    p2p_node *source;
    p2p_conn conn;
    p2p_sim *sim;
    void *arena;
    uint64_t spent_us;
    memset(&desc, 0, sizeof desc);
    desc.allow_anyone = 1;
    desc.why = &why;
    net->seed = 1;
    net->nodes = 2;
    net->link.latency_us = LATENCY_US;
    net->on_event = audio_event;
    net->why = &why;
    memset(&audio, 0, sizeof audio);
    audio.end_us = seconds * 1000000;
    sim = network(net, &desc, &arena);
    must(p2p_sim_node(sim, "source", &desc, &source));
    must(p2p_sim_node(sim, "player", &desc, &audio.player));
    must(p2p_sim_connect(sim, p2p_node_id(source), p2p_node_id(audio.player), NULL));
    must(p2p_listen(audio.player, NULL, &listener));
    must(p2p_connect(source, p2p_node_id(audio.player), NULL, &conn));
    spent_us = cpu_us(0);
    must(p2p_sim_run_until(sim, audio.end_us + DIAL_US));
    spent_us = cpu_us(0) - spent_us + 1;
    if (audio.read != seconds * 1000000 / AUDIO_TICK_US * AUDIO_TICK_BYTES)
        die("the stream of audio");
    row_of(name, "x", "1", (double)(seconds * 1000000) / (double)spent_us);
    p2p_sim_close(sim);
    free(arena);
}

static void measure_audio(const char *name) {
    p2p_sim_desc net;
    memset(&net, 0, sizeof net);
    measure_stream(name, &net, scaled(AUDIO_S));
}

static void measure_audio_dtls(const char *name) {
    p2p_sim_desc net;
    memset(&net, 0, sizeof net);
    must(p2p_sodium_crypto(&net.crypto));
    must(p2p_mbedtls_secure(&net.secure));
    measure_stream(name, &net, scaled(AUDIO_DTLS_S));
}

int main(int argc, char **argv) {
    static const mode modes[] = {{"ring_1k", measure_1k},
                                 {"ring_100k", measure_100k},
                                 {"audio", measure_audio},
                                 {"audio_dtls", measure_audio_dtls}};
    return bench_main(argc, argv, modes, sizeof modes / sizeof modes[0]);
}
