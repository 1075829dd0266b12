/* Scenarios: whole nodes on networks of the simulator. The four critical ones are connectivity,
 * latency, nat and integrity. Compiled alone it needs two headers and a C compiler, and runs on the
 * null channel with stand-in keys; test_critical_dtls.c runs the same on DTLS and Ed25519. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#ifdef P2P_TEST_DTLS
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#endif
#include "p2p_sim.h"
#include "p2p_test.h"

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
enum { NODES = 8, BULK = 300000 };

static uint64_t memory[10u << 20];
static struct {
    p2p_sim *sim;
    p2p_error_detail why;
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_node *node[NODES];
    p2p_id id[NODES];
    p2p_conn out, in; /* what dial made: at the caller, at the callee */
} w;

/* Defaults of all scenarios; a test changes w.net and w.desc before world_open. */
static void world_new(uint64_t seed) {
    memset(&w, 0, sizeof w);
    w.net.seed = seed;
    w.net.nodes = 2 * NODES;
    w.net.link.latency_us = 10 * MS;
    w.net.why = w.desc.why = &w.why;
    w.desc.allow_anyone = 1;
    w.desc.max.conns = 2 * NODES;
    w.desc.max.half_open = NODES;
    w.desc.max.peer_streams = 4 * NODES;
    w.desc.bytes.message_send = w.desc.bytes.message_recv = 16384;
    w.desc.time.connect_us = 5 * SECOND;
    w.desc.time.idle_us = 10 * SECOND;
    w.desc.time.keepalive_us = 3 * SECOND;
}
static void world_open(void) {
#ifdef P2P_TEST_DTLS
    CHECK_INT(p2p_sodium_crypto(&w.net.crypto), 0);
    CHECK_INT(p2p_mbedtls_secure(&w.net.secure), 0);
#endif
    if (p2p_sim_open(&w.sim, &w.net, memory, sizeof memory) < 0)
        printf("    %s, %lu\n", w.why.text, (unsigned long)w.why.max);
    CHECK(w.sim != NULL);
}
static void add_node(int index, const char *name) {
    if (p2p_sim_node(w.sim, name, &w.desc, &w.node[index]) < 0)
        printf("    %s, %lu\n", w.why.text, (unsigned long)w.why.max);
    CHECK(w.node[index] != NULL);
    w.id[index] = *p2p_node_id(w.node[index]);
}
/* alice and bob, an edge between them, and bob listens. */
static void world_pair(uint64_t seed) {
    p2p_listener listener;
    (void)seed;
    world_open();
    CHECK_SO_FAR();
    add_node(0, "alice");
    add_node(1, "bob");
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_connect(w.sim, &w.id[0], &w.id[1], NULL), 0);
    CHECK_INT(p2p_listen(w.node[1], NULL, &listener), 0);
}
static uint64_t now(void) { return p2p_sim_now(w.sim); }
static void run(uint64_t us) { CHECK_INT(p2p_sim_run_until(w.sim, now() + us), 0); }
/* Dials and waits on both sides. */
static void dial(int from, int to) {
    p2p_event e;
    CHECK_INT(p2p_connect(w.node[from], &w.id[to], NULL, &w.out), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[from], P2P_EVENT_CONNECTED, now() + 6 * SECOND, &e), 0);
    CHECK_INT(e.conn.id, w.out.id);
    CHECK_INT(e.incoming, 0);
    CHECK(p2p_id_equal(&e.peer, &w.id[to]));
    CHECK_INT(p2p_sim_await(w.sim, w.node[to], P2P_EVENT_CONNECTED, now() + SECOND, &e), 0);
    CHECK(p2p_id_equal(&e.peer, &w.id[from]));
    CHECK_INT(e.incoming, 1);
    w.in = e.conn;
}
/* Dials and expects the end with this error, no sooner than after_us. */
static void dial_fails(int from, int to, int err, uint64_t after_us) {
    uint64_t start = now();
    p2p_event e;
    CHECK_INT(p2p_connect(w.node[from], &w.id[to], NULL, &w.out), 0);
    do { /* what is left of earlier connections does not matter */
        CHECK_INT(p2p_sim_await(w.sim, w.node[from], P2P_EVENT_NONE, now() + 30 * SECOND, &e), 0);
    } while (e.conn.id != w.out.id);
    CHECK_INT(e.type, P2P_EVENT_DISCONNECTED);
    CHECK_INT(e.err, err);
    CHECK(now() - start >= after_us);
    CHECK(now() - start < after_us + SECOND);
}
/* One message on its way, and how long it took. */
static void message(int from, p2p_conn out, int to, p2p_conn in, const char *text,
                    uint64_t *took_us) {
    char got[64];
    uint64_t start = now();
    p2p_event e;
    CHECK(p2p_send(w.node[from], out, text, strlen(text)) >= 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[to], P2P_EVENT_MESSAGE, now() + 20 * SECOND, &e), 0);
    CHECK_INT(e.conn.id, in.id);
    *took_us = now() - start;
    CHECK_INT(p2p_recv(w.node[to], in, got, sizeof got), strlen(text));
    CHECK_BYTES(got, text, strlen(text));
    CHECK_INT(p2p_recv(w.node[to], in, got, sizeof got), P2P_ERR_AGAIN);
}
static void hello(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    (void)p2p_reply(node, q->stream, 200, NULL, 0, q->path.data, q->path.size);
}
static void request(int from, p2p_conn out, uint64_t *took_us) {
    p2p_request_desc q;
    p2p_stream s;
    p2p_event e;
    uint8_t body[32];
    uint64_t start = now();
    memset(&q, 0, sizeof q);
    q.path = "/hello";
    CHECK_INT(p2p_request_send(w.node[from], out, &q, &s), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[from], P2P_EVENT_RESPONSE, now() + 20 * SECOND, &e), 0);
    CHECK_INT(e.stream.id, s.id);
    CHECK_INT(e.status, 200);
    *took_us = now() - start;
    run(SECOND);
    CHECK_INT(p2p_stream_read(w.node[from], s, body, sizeof body), 6);
    CHECK_BYTES(body, "/hello", 6);
}
static void add_hello(int index) {
    p2p_route route;
    memset(&route, 0, sizeof route);
    route.method = P2P_GET;
    route.pattern = "/hello";
    route.handler = hello;
    CHECK_INT(p2p_route_add(w.node[index], &route), 0);
}
static void world_check(void) {
    for (int i = 0; i < NODES; i++)
        if (w.node[i])
            CHECK_INT(p2p_check(w.node[i]), 0);
}

TEST(connectivity) {
    uint64_t took_us;
    p2p_event e;
    world_new(1);
    world_pair(1);
    CHECK_SO_FAR();
    add_hello(1);
    dial(0, 1);
    CHECK_SO_FAR();
    CHECK(p2p_is_connected(w.node[0], w.out) && p2p_is_connected(w.node[1], w.in));
    message(0, w.out, 1, w.in, "from alice", &took_us);
    message(1, w.in, 0, w.out, "from bob", &took_us);
    request(0, w.out, &took_us);
    CHECK_SO_FAR();
    CHECK_INT(p2p_close(w.node[0], w.out, 7, "enough"), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[1], P2P_EVENT_DISCONNECTED, now() + SECOND, &e), 0);
    CHECK_INT(e.code, 7);
    CHECK(p2p_str_equal(e.reason, "enough"));
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_DISCONNECTED, now() + 5 * SECOND, &e), 0);
    CHECK_INT(p2p_connections(w.node[0], NULL, 0), 0);
    CHECK_INT(p2p_connections(w.node[1], NULL, 0), 0);
    world_check();
    p2p_sim_close(w.sim);
}

/* 75 ms each way. The handshake takes three round trips to CONNECTED, a message half of one and a
 * request one. */
TEST(latency) {
    uint64_t took_us, start;
    p2p_stats stats;
    world_new(1);
    w.net.link.latency_us = 75 * MS;
    world_pair(1);
    CHECK_SO_FAR();
    add_hello(1);
    start = now();
    dial(0, 1);
    CHECK_SO_FAR();
    took_us = now() - start;
    CHECK(took_us >= 450 * MS && took_us <= 530 * MS);
    run(2 * SECOND);
    message(0, w.out, 1, w.in, "half a round trip", &took_us);
    CHECK_SO_FAR();
    CHECK(took_us >= 75 * MS && took_us < 80 * MS);
    run(2 * SECOND);
    request(0, w.out, &took_us);
    CHECK_SO_FAR();
    CHECK(took_us >= 150 * MS && took_us < 155 * MS);
    CHECK_INT(p2p_conn_stats(w.node[0], w.out, &stats), 0);
    CHECK(stats.rtt_us >= 150 * MS && stats.rtt_us < 180 * MS);
    CHECK_INT(p2p_sim_latency(w.sim, &w.id[0], &w.id[1], 300 * MS), 0);
    message(0, w.out, 1, w.in, "slower now", &took_us);
    CHECK_SO_FAR();
    CHECK(took_us >= 300 * MS && took_us < 305 * MS);
    run(2 * SECOND);
    message(1, w.in, 0, w.out, "and as before this way", &took_us);
    CHECK_SO_FAR();
    CHECK(took_us >= 75 * MS && took_us < 80 * MS);
    world_check();
    p2p_sim_close(w.sim);
}

/* A port-restricted box: its node cannot be dialled, but dials out, and then talks both ways. */
TEST(nat) {
    p2p_sim_nat_desc box;
    p2p_listener listener;
    uint64_t took_us;
    memset(&box, 0, sizeof box);
    box.kind = P2P_SIM_NAT_PORT;
    world_new(1);
    world_pair(1);
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(w.node[0], NULL, &listener), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[1], &box), 0);
    dial_fails(0, 1, P2P_ERR_TIMEOUT, 5 * SECOND);
    CHECK_SO_FAR();
    dial(1, 0);
    CHECK_SO_FAR();
    message(1, w.out, 0, w.in, "from behind the box", &took_us);
    message(0, w.in, 1, w.out, "back through it", &took_us);
    run(100 * SECOND); /* keepalives hold the way open */
    message(0, w.in, 1, w.out, "and still", &took_us);
    CHECK_SO_FAR();
    CHECK_INT(p2p_close(w.node[1], w.out, 0, NULL), 0);
    run(130 * SECOND);
    dial_fails(0, 1, P2P_ERR_TIMEOUT, 5 * SECOND);
    world_check();
    p2p_sim_close(w.sim);
}

/* ---- integrity: everything that can happen to datagrams, on all that carries data ---- */

static uint8_t pattern(uint64_t at) { return (uint8_t)(at * 31 + (at >> 8) * 17 + (at >> 16)); }
static struct {
    p2p_stream out, in;
    uint64_t written, read;
    uint32_t sent, received, datagrams_sent, datagrams_received;
    uint8_t had[400];
    int finished, ended, turn;
} bulk;

static void bulk_write(void) {
    uint8_t data[1500];
    while (bulk.written < BULK) {
        uint64_t left = BULK - bulk.written;
        size_t n = left < sizeof data ? (size_t)left : sizeof data;
        for (size_t i = 0; i < n; i++)
            data[i] = pattern(bulk.written + i);
        int took = p2p_stream_write(w.node[0], bulk.out, data, n);
        if (took <= 0) {
            CHECK_INT(took, P2P_ERR_AGAIN);
            return;
        }
        bulk.written += (uint64_t)took;
    }
    if (!bulk.finished)
        CHECK_INT(p2p_stream_finish(w.node[0], bulk.out), 0);
    bulk.finished = 1;
}
static void bulk_read(void) {
    uint8_t data[1000];
    int n = P2P_ERR_AGAIN;
    if (!bulk.in.id && p2p_stream_accept(w.node[1], w.in, &bulk.in) < 0)
        return;
    while (!bulk.ended && (n = p2p_stream_read(w.node[1], bulk.in, data, sizeof data)) > 0)
        for (int i = 0; i < n; i++, bulk.read++)
            CHECK_INT(data[i], pattern(bulk.read));
    if (!bulk.ended && n != 0)
        CHECK_INT(n, P2P_ERR_AGAIN);
    bulk.ended |= n == 0;
}
/* Message k has k * 37 bytes of k. */
static void messages_go(void) {
    static uint8_t data[4000];
    for (; bulk.sent < 100; bulk.sent++) {
        memset(data, (int)bulk.sent, bulk.sent * 37);
        int err = p2p_send(w.node[0], w.out, data, bulk.sent * 37);
        if (err < 0) {
            CHECK_INT(err, P2P_ERR_AGAIN);
            break;
        }
    }
    for (int n; (n = p2p_recv(w.node[1], w.in, data, sizeof data)) >= 0; bulk.received++) {
        CHECK_INT(n, bulk.received * 37);
        for (int i = 0; i < n; i++)
            CHECK_INT(data[i], (uint8_t)bulk.received);
    }
}
static void datagrams_go(void) {
    uint8_t data[500];
    if (bulk.turn % 8 == 0 && bulk.datagrams_sent < sizeof bulk.had) {
        memset(data, (int)(bulk.datagrams_sent & 0xff), sizeof data);
        data[0] = (uint8_t)(bulk.datagrams_sent >> 8);
        CHECK(p2p_datagram_send(w.node[0], w.out, data, sizeof data) >= 0);
        bulk.datagrams_sent++;
    }
    while (p2p_datagram_recv(w.node[1], w.in, data, sizeof data) > 0) {
        size_t number = (size_t)data[0] << 8 | data[1];
        CHECK(number < sizeof bulk.had);
        CHECK_INT(bulk.had[number], 0); /* never twice */
        bulk.had[number] = 1;
        bulk.datagrams_received++;
        for (size_t i = 1; i < sizeof data; i++)
            CHECK_INT(data[i], data[1]);
    }
}
static void integrity_run(uint64_t seed) {
    world_new(seed);
    w.net.link.latency_us = 20 * MS;
    w.net.link.jitter_us = 15 * MS;
    w.net.link.loss_ppm = 50000;
    w.net.link.duplicate_ppm = 50000;
    w.net.link.reorder_ppm = 50000;
    w.net.link.corrupt_ppm = 20000;
    w.desc.time.connect_us = 20 * SECOND;
    w.desc.time.idle_us = 60 * SECOND;
    world_pair(seed);
    CHECK_SO_FAR();
    memset(&bulk, 0, sizeof bulk);
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_CONNECTED, 20 * SECOND, NULL), 0);
    run(5 * SECOND);
    CHECK_INT(p2p_connections(w.node[1], &w.in, 1), 1);
    CHECK_INT(p2p_stream_open(w.node[0], w.out, NULL, &bulk.out), 0);
    for (; bulk.turn < 60000; bulk.turn++) {
        bulk_write();
        bulk_read();
        messages_go();
        datagrams_go();
        run(5 * MS);
        CHECK_SO_FAR();
        if (bulk.ended && bulk.received == 100 && bulk.datagrams_sent == sizeof bulk.had)
            break;
    }
    run(SECOND);
    datagrams_go();
    CHECK_SO_FAR();
    CHECK_INT(bulk.read, BULK);
    CHECK_INT(bulk.received, 100);
    CHECK(bulk.datagrams_received > sizeof bulk.had / 2);
    world_check();
}
TEST(integrity) {
    for (int i = 0; i < test_seeds(20); i++) {
        p2p_sim_stats stats;
        integrity_run(test_seed());
        CHECK_SO_FAR();
        p2p_sim_stats_get(w.sim, &stats);
        CHECK(stats.lost > 0 && stats.corrupted > 0 && stats.duplicated > 0);
        CHECK_INT(stats.full + stats.nobody + stats.nat + stats.route, 0);
        CHECK(stats.sent + stats.duplicated >= stats.delivered + stats.lost);
        CHECK(stats.sent + stats.duplicated <= stats.delivered + stats.lost + 200); /* under way */
        p2p_sim_close(w.sim);
    }
}

/* ---- partitions, names, graphs, crashes ---- */

TEST(partition_and_heal) {
    uint64_t took_us;
    p2p_event e;
    world_new(1);
    world_pair(1);
    CHECK_SO_FAR();
    dial(0, 1);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_partition(w.sim, &w.id[0], 1, &w.id[1], 1), 0);
    CHECK(p2p_send(w.node[0], w.out, "wait", 4) >= 0);
    run(4 * SECOND); /* shorter than the idle timeout: nothing is lost */
    CHECK_INT(p2p_recv_size(w.node[1], w.in), P2P_ERR_AGAIN);
    CHECK_INT(p2p_sim_heal(w.sim, &w.id[1], 1, &w.id[0], 1), 0);
    run(4 * SECOND);
    CHECK_INT(p2p_recv_size(w.node[1], w.in), 4);
    CHECK_INT(p2p_sim_partition(w.sim, &w.id[0], 1, &w.id[1], 1), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_DISCONNECTED, now() + 25 * SECOND, &e), 0);
    CHECK_INT(e.err, P2P_ERR_TIMEOUT);
    CHECK_INT(p2p_sim_await(w.sim, w.node[1], P2P_EVENT_DISCONNECTED, now() + 25 * SECOND, &e), 0);
    CHECK_INT(e.err, P2P_ERR_TIMEOUT);
    dial_fails(0, 1, P2P_ERR_TIMEOUT, 5 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_heal(w.sim, NULL, 0, NULL, 0), 0);
    dial(0, 1);
    CHECK_SO_FAR();
    message(0, w.out, 1, w.in, "again", &took_us);
    world_check();
    p2p_sim_close(w.sim);
}
TEST(split_network) {
    p2p_listener listener;
    uint64_t took_us;
    world_new(1);
    world_open();
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_split(w.sim, "left", 2, "right", 2, &w.desc, w.node), 0);
    for (int i = 0; i < 4; i++) {
        w.id[i] = *p2p_node_id(w.node[i]);
        CHECK_INT(p2p_listen(w.node[i], NULL, &listener), 0);
    }
    dial(0, 1);
    message(0, w.out, 1, w.in, "within", &took_us);
    dial(2, 3);
    CHECK_SO_FAR();
    dial_fails(0, 2, P2P_ERR_TIMEOUT, 5 * SECOND);
    dial_fails(3, 1, P2P_ERR_TIMEOUT, 5 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_heal(w.sim, NULL, 0, NULL, 0), 0);
    dial(0, 2);
    dial(3, 1);
    CHECK_SO_FAR();
    world_check();
    p2p_sim_close(w.sim);
}
static void find(const char *name, int err, uint64_t took_us) {
    uint64_t start = now();
    uint32_t query;
    p2p_event e;
    CHECK_INT(p2p_discover(w.node[0], name, &query), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_FOUND, now() + 10 * SECOND, &e), 0);
    CHECK_INT(e.query, query);
    CHECK_INT(e.err, err);
    CHECK_INT(now() - start, took_us);
    if (err == 0)
        CHECK(p2p_id_equal(&e.peer, &w.id[1]));
}
TEST(names) {
    p2p_listener listener;
    p2p_event e;
    world_new(1);
    w.net.discovery_us = 40 * MS;
    w.net.ttl_us = 60 * SECOND;
    world_pair(1);
    CHECK_SO_FAR();
    find("speaker", P2P_ERR_NOT_FOUND, 40 * MS);
    CHECK_INT(p2p_register(w.node[1], "speaker"), 0);
    run(MS);
    find("speaker", 0, 40 * MS);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect_name(w.node[0], "speaker", NULL, &w.out), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_CONNECTED, now() + 2 * SECOND, &e), 0);
    CHECK_INT(e.dialled.id, w.out.id);
    CHECK(p2p_id_equal(&e.peer, &w.id[1]));
    CHECK_INT(p2p_connect_name(w.node[0], "nobody", NULL, &w.out), 0);
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_DISCONNECTED, now() + 9 * SECOND, &e), 0);
    CHECK_INT(e.err, P2P_ERR_NOT_FOUND);
    CHECK_INT(e.conn.id, w.out.id);
    CHECK_INT(p2p_sim_register(w.sim, "other name", &w.id[1]), 0);
    find("other name", 0, 40 * MS);
    run(59 * SECOND);
    find("other name", 0, 40 * MS);
    run(2 * SECOND);
    find("other name", P2P_ERR_NOT_FOUND, 40 * MS); /* nobody renewed it */
    run(400 * SECOND);
    find("speaker", 0, 40 * MS); /* its node did */
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[1]), 0);
    find("speaker", 0, 40 * MS);
    run(61 * SECOND);
    find("speaker", P2P_ERR_NOT_FOUND, 40 * MS);
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], &w.node[1]), 0);
    CHECK_INT(p2p_listen(w.node[1], NULL, &listener), 0);
    CHECK_INT(p2p_register(w.node[1], "speaker"), 0);
    run(MS);
    find("speaker", 0, 40 * MS);
    world_check();
    p2p_sim_close(w.sim);
}

/* alice - one - two - bob, 10 ms each; when the middle breaks, the long way round is taken. */
TEST(multi_hop) {
    p2p_id r[4], hops[8];
    p2p_listener listener;
    p2p_sim_link down;
    uint64_t took_us;
    memset(&down, 0, sizeof down);
    down.down = 1;
    world_new(1);
    world_open();
    CHECK_SO_FAR();
    add_node(0, "alice");
    add_node(1, "bob");
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(w.node[1], NULL, &listener), 0);
    CHECK_INT(p2p_sim_router(w.sim, "one", &r[0]), 0);
    CHECK_INT(p2p_sim_router(w.sim, "two", &r[1]), 0);
    CHECK_INT(p2p_sim_router(w.sim, "three", &r[2]), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &w.id[0], &r[0], NULL), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &r[0], &r[1], NULL), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &r[1], &w.id[1], NULL), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &r[0], &r[2], NULL), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &r[2], &r[1], NULL), 0);
    CHECK_INT(p2p_sim_path(w.sim, &w.id[0], &w.id[1], hops, 8), 3);
    CHECK(p2p_id_equal(&hops[0], &r[0]) && p2p_id_equal(&hops[1], &r[1]));
    dial(0, 1);
    CHECK_SO_FAR();
    run(SECOND);
    message(0, w.out, 1, w.in, "three hops", &took_us);
    CHECK_SO_FAR();
    CHECK(took_us >= 30 * MS && took_us < 35 * MS);
    CHECK_INT(p2p_sim_link_set(w.sim, &r[0], &r[1], &down), 0);
    CHECK_INT(p2p_sim_link_set(w.sim, &r[1], &r[0], &down), 0);
    CHECK_INT(p2p_sim_path(w.sim, &w.id[0], &w.id[1], hops, 8), 4);
    run(SECOND);
    message(0, w.out, 1, w.in, "four hops", &took_us);
    CHECK_SO_FAR();
    CHECK(took_us >= 40 * MS && took_us < 45 * MS);
    world_check();
    p2p_sim_close(w.sim);
}
TEST(same_seed_same_bytes) {
    uint64_t digest[3], steps[3];
    static const uint64_t seeds[3] = {5, 5, 6};
    for (int i = 0; i < 3; i++) {
        integrity_run(seeds[i]);
        CHECK_SO_FAR();
        digest[i] = p2p_sim_digest(w.sim);
        steps[i] = now();
        p2p_sim_close(w.sim);
        memset(memory, i, sizeof memory / 4); /* what lay in memory before must not matter */
    }
    CHECK(digest[0] == digest[1]);
    CHECK_INT(steps[0], steps[1]);
    CHECK(digest[0] != digest[2]);
}
TEST(crash_and_restart) {
    p2p_listener listener;
    p2p_conn old;
    p2p_node *before;
    p2p_event e;
    uint64_t took_us;
    world_new(1);
    world_pair(1);
    CHECK_SO_FAR();
    dial(0, 1);
    CHECK_SO_FAR();
    old = w.in;
    before = w.node[1];
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[1]), 0);
    w.node[1] = NULL;
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_DISCONNECTED, now() + 25 * SECOND, &e), 0);
    CHECK_INT(e.err, P2P_ERR_TIMEOUT);
    dial_fails(0, 1, P2P_ERR_TIMEOUT, 5 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], &w.node[1]), 0);
    CHECK(w.node[1] == before); /* the same memory */
    CHECK(p2p_id_equal(p2p_node_id(w.node[1]), &w.id[1]));
    CHECK_INT(p2p_close(w.node[1], old, 0, NULL), P2P_ERR_HANDLE);
    dial_fails(0, 1, P2P_ERR_TIMEOUT, 5 * SECOND); /* it has no listener yet */
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(w.node[1], NULL, &listener), 0);
    dial(0, 1);
    CHECK_SO_FAR();
    CHECK(w.in.id != old.id);
    CHECK_INT(p2p_close(w.node[1], old, 0, NULL), P2P_ERR_HANDLE);
    message(1, w.in, 0, w.out, "back again", &took_us);
    world_check();
    p2p_sim_close(w.sim);
}
/* A peer that rebooted and dials at once, before the other side has noticed. */
TEST(restart_unnoticed) {
    p2p_listener listener;
    p2p_conn conns[4];
    uint64_t took_us;
    world_new(1);
    world_pair(1);
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(w.node[0], NULL, &listener), 0);
    dial(0, 1);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[1]), 0);
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], &w.node[1]), 0);
    dial(1, 0);
    CHECK_SO_FAR();
    message(1, w.out, 0, w.in, "a new life", &took_us);
    run(20 * SECOND);
    CHECK_INT(p2p_connections(w.node[0], conns, 4), 1);
    CHECK_INT(conns[0].id, w.in.id);
    world_check();
    p2p_sim_close(w.sim);
}
/* Everyone dials everyone at once: between any two exactly one connection remains. */
TEST(full_mesh) {
    enum { N = 6 };
    for (int i = 0; i < test_seeds(5); i++) {
        p2p_listener listener;
        p2p_conn conns[2 * NODES];
        world_new(test_seed());
        w.net.link.jitter_us = 10 * MS;
        world_open();
        CHECK_SO_FAR();
        CHECK_INT(p2p_sim_mesh(w.sim, "peer", N, &w.desc, w.node), 0);
        for (int k = 0; k < N; k++) {
            w.id[k] = *p2p_node_id(w.node[k]);
            CHECK_INT(p2p_listen(w.node[k], NULL, &listener), 0);
        }
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                if (j != k)
                    CHECK_INT(p2p_connect(w.node[k], &w.id[j], NULL, &conns[0]), 0);
        run(8 * SECOND);
        for (int k = 0; k < N; k++) {
            uint32_t peers = 0;
            p2p_id id;
            CHECK_INT(p2p_connections(w.node[k], conns, 2 * NODES), N - 1);
            for (int c = 0; c < N - 1; c++) {
                CHECK(p2p_is_connected(w.node[k], conns[c]));
                CHECK_INT(p2p_remote_id(w.node[k], conns[c], &id), 0);
                for (int j = 0; j < N; j++)
                    peers |= p2p_id_equal(&id, &w.id[j]) ? 1u << j : 0;
            }
            CHECK_INT(peers, ((1u << N) - 1) & ~(1u << k));
        }
        world_check();
        p2p_sim_close(w.sim);
    }
}
/* 2 Mbit/s with a short queue: what is dropped there is sent again, and the line is full. */
TEST(narrow_line) {
    uint64_t start;
    p2p_sim_stats stats;
    world_new(1);
    w.net.link.rate_bps = 2000000;
    w.net.link.queue_bytes = 20000;
    world_pair(1);
    CHECK_SO_FAR();
    dial(0, 1);
    CHECK_SO_FAR();
    memset(&bulk, 0, sizeof bulk);
    CHECK_INT(p2p_stream_open(w.node[0], w.out, NULL, &bulk.out), 0);
    start = now();
    while (!bulk.ended && now() - start < 30 * SECOND) {
        bulk_write();
        bulk_read();
        run(2 * MS);
        CHECK_SO_FAR();
    }
    CHECK_INT(bulk.read, BULK);
    CHECK(now() - start >= (uint64_t)BULK * 8 / 2 && now() - start < (uint64_t)BULK * 8);
    p2p_sim_stats_get(w.sim, &stats);
    CHECK_INT(stats.lost, 0);
    world_check();
    p2p_sim_close(w.sim);
}
/* Dials that the simulator makes fail, as the environment can ask. */
TEST(failures_at_random) {
    uint32_t failed = 0;
    world_new(3);
    w.net.failure_ppm = 300000;
    w.desc.time.connect_us = SECOND;
    w.desc.max.peers = 1;
    world_pair(3);
    CHECK_SO_FAR();
    for (int i = 0; i < 100; i++) {
        p2p_event e;
        CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
        CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_NONE, now() + 9 * SECOND, &e), 0);
        failed += e.type == P2P_EVENT_DISCONNECTED;
        if (e.type == P2P_EVENT_CONNECTED) {
            CHECK_INT(p2p_close(w.node[0], w.out, 0, NULL), 0);
            CHECK_INT(
                p2p_sim_await(w.sim, w.node[0], P2P_EVENT_DISCONNECTED, now() + 9 * SECOND, NULL),
                0);
        }
        while (p2p_next_event(w.node[1], &e)) { /* else its table fills with connections past */
        }
        CHECK_INT(p2p_peer_remove(w.node[0], &w.id[1]), 0);
    }
    CHECK(failed > 15 && failed < 45);
    p2p_sim_close(w.sim);
}
/* What on_event does: the program is nothing but reactions. */
static uint32_t echoes;
static void echo(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    uint8_t data[64];
    int n;
    CHECK(ctx == &w && sim == w.sim);
    if (e->type == P2P_EVENT_CONNECTED && !e->incoming)
        CHECK(p2p_send(node, e->conn, "ball", 4) >= 0);
    if (e->type != P2P_EVENT_MESSAGE)
        return;
    while ((n = p2p_recv(node, e->conn, data, sizeof data)) >= 0) {
        CHECK_BYTES(data, "ball", 4);
        CHECK(p2p_send(node, e->conn, data, (size_t)n) >= 0);
        echoes++;
    }
    CHECK_INT(p2p_sim_run_until(sim, now() + 1), P2P_ERR_STATE);
}
TEST(on_event_drives_the_program) {
    world_new(1);
    w.net.on_event = echo;
    w.net.ctx = &w;
    world_pair(1);
    CHECK_SO_FAR();
    echoes = 0;
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
    run(10 * SECOND);
    CHECK_SO_FAR();
    CHECK(echoes > 900 && echoes < 1000); /* 10 ms a throw */
    world_check();
    p2p_sim_close(w.sim);
}

/* The program of p2p_sim.h's manual, on the stand-ins. */
TEST(manual_program) {
    static uint64_t arena[1 << 21];
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_sim *sim;
    p2p_node *alice, *bob;
    p2p_listener listener;
    p2p_conn conn;
    p2p_event event;
    p2p_id to;
    memset(&net, 0, sizeof net);
    memset(&desc, 0, sizeof desc);
    net.seed = 1;
    net.link.latency_us = 20000;
    net.link.loss_ppm = 10000;
    desc.allow_anyone = 1;
    CHECK_INT(p2p_sim_open(&sim, &net, arena, sizeof arena), 0);
    CHECK_INT(p2p_sim_node(sim, "alice", &desc, &alice), 0);
    CHECK_INT(p2p_sim_node(sim, "bob", &desc, &bob), 0);
    CHECK_INT(p2p_sim_connect(sim, p2p_node_id(alice), p2p_node_id(bob), NULL), 0);
    CHECK_INT(p2p_listen(bob, NULL, &listener), 0);
    CHECK_INT(p2p_sim_id(sim, "bob", &to), 0);
    CHECK_INT(p2p_connect(alice, &to, NULL, &conn), 0);
    CHECK_INT(p2p_sim_await(sim, alice, P2P_EVENT_CONNECTED, 5000000, &event), 0);
    p2p_sim_close(sim);
}
/* The simulator's keys and its null channel are good for nothing outside of it. */
static int count_up(void *ctx, void *out, size_t size) {
    memset(out, ++*(uint8_t *)ctx, size);
    return 0;
}
TEST(refused_off_the_simulator) {
    static uint64_t arena[1 << 20];
    uint8_t counter = 0, seed[32] = {1};
    p2p_desc d;
    p2p_key key;
    p2p_node *node;
    world_new(1);
    world_open();
    CHECK_SO_FAR();
    d = w.desc;
    d.key = &key;
    d.crypto = w.net.crypto;
    d.secure = w.net.secure;
    if (!d.crypto.api)
        d.crypto.api = &p2p_sim__insecure_crypto;
    if (!d.secure.api)
        d.secure.api = &p2p_sim__null_api;
    d.random.ctx = &counter;
    d.random.fill = count_up;
    CHECK_INT(p2p_sim_key(w.sim, "alice", &key), 0);
    CHECK_INT(p2p_node_open(&node, &d, arena, sizeof arena), P2P_ERR_CONFIG);
    CHECK_INT(p2p_key_from_seed(&d.crypto, seed, &key), 0);
    d.secure.api = &p2p_sim__null_api;
    CHECK_INT(p2p_node_open(&node, &d, arena, sizeof arena), P2P_ERR_CONFIG);
    p2p_sim_close(w.sim);
}
/* Crashing oneself in an event waits until the event is over. */
static void crash_myself(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    p2p_id id = *p2p_node_id(node);
    (void)ctx;
    if (e->type != P2P_EVENT_MESSAGE)
        return;
    CHECK_INT(p2p_sim_crash(sim, &id), 0);
    CHECK_INT(p2p_sim_restart(sim, &id, NULL), P2P_ERR_STATE);
    CHECK_INT(p2p_recv_size(node, e->conn), 4); /* alive still */
}
TEST(crash_from_its_own_event) {
    world_new(1);
    w.net.on_event = crash_myself;
    world_pair(1);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
    CHECK(p2p_send(w.node[0], w.out, "boom", 4) >= 0);
    run(SECOND);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[1]), P2P_ERR_STATE); /* it has */
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], &w.node[1]), 0);
    run(SECOND);
    world_check();
    p2p_sim_close(w.sim);
}
/* A program that looks at its events late hears of a whole visit in order: who came, what was said,
 * that it is over. The same for who dialled, when the callee says it all. */
static void hears_all(p2p_node *node) {
    static const uint32_t told[] = {P2P_EVENT_CONNECTED, P2P_EVENT_MESSAGE, P2P_EVENT_DISCONNECTED};
    uint32_t i = 0;
    uint8_t word[8];
    p2p_event e;
    while (i < 3 && p2p_next_event(node, &e) == 1) {
        if (e.type == P2P_EVENT_READABLE || e.type == P2P_EVENT_WRITABLE)
            continue;
        CHECK_INT(e.type, told[i++]);
        if (e.type == P2P_EVENT_MESSAGE)
            CHECK_INT(p2p_recv(node, e.conn, word, sizeof word), 5);
    }
    CHECK_INT(i, 3);
    CHECK_INT(e.code, 7);
    CHECK_INT(p2p_next_event(node, &e), 0);
}
static void visit(int guest) {
    p2p_listener listener;
    p2p_conn ends[2];
    world_new(1);
    world_pair(0);
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(w.node[1], NULL, &listener), 0);
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &ends[0]), 0);
    run(SECOND);
    CHECK_INT(p2p_accept(w.node[1], listener, &ends[1]), 0);
    CHECK(p2p_send(w.node[guest], ends[guest], "hello", 5) >= 0);
    run(2 * SECOND);
    CHECK_INT(p2p_close(w.node[guest], ends[guest], 7, "bye"), 0);
    run(3 * SECOND);
    hears_all(w.node[1 - guest]);
    p2p_sim_close(w.sim);
}
TEST(a_visit_that_is_over_before_the_callee_looks) { visit(0); }
TEST(a_visit_that_is_over_before_the_caller_looks) { visit(1); }
/* As programs for real sockets end: the simulator notices. */
TEST(program_closes_its_node) {
    p2p_event e;
    world_new(1);
    world_pair(1);
    CHECK_SO_FAR();
    dial(0, 1);
    CHECK_SO_FAR();
    p2p_node_close(w.node[1]);
    w.node[1] = NULL;
    CHECK_INT(p2p_sim_await(w.sim, w.node[0], P2P_EVENT_DISCONNECTED, now() + 25 * SECOND, &e), 0);
    CHECK_INT(e.err, P2P_ERR_TIMEOUT);
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], &w.node[1]), 0);
    p2p_node_close(w.node[0]);
    p2p_sim_close(w.sim);
}
/* One node's event sends from another node: p2p_sim_touch says so, and nothing waits. */
static struct {
    p2p_conn conn;
    uint64_t sent_us, got_us;
} relay;
static void send_from_another(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    (void)ctx;
    if (e->type == P2P_EVENT_CONNECTED && node == w.node[0] && !relay.conn.id)
        relay.conn = e->conn;
    if (e->type == P2P_EVENT_TIMER) { /* at node 2, which has nothing to do with it */
        CHECK(p2p_send(w.node[0], relay.conn, "elsewhere", 9) >= 0);
        CHECK_INT(p2p_sim_touch(sim, w.node[0]), 0);
        relay.sent_us = now();
    }
    if (e->type == P2P_EVENT_MESSAGE)
        relay.got_us = now();
}
TEST(touch_wakes_another_node) {
    memset(&relay, 0, sizeof relay);
    world_new(1);
    w.net.on_event = send_from_another;
    world_pair(1);
    CHECK_SO_FAR();
    add_node(2, "carol");
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
    CHECK_INT(p2p_timer_set(w.node[2], 0, 1234567), 0);
    run(2 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(relay.sent_us, 1234567);
    CHECK_INT(relay.got_us, 1234567 + 10 * MS);
    CHECK_INT(p2p_sim_touch(w.sim, NULL), P2P_ERR_ARG);
    p2p_sim_close(w.sim);
}
/* Fixed steps: the same network in grains of 7 ms, the exchange goes on. */
TEST(fixed_steps) {
    p2p_event e;
    int connected = 0;
    world_new(1);
    w.net.step_us = 7 * MS;
    world_pair(1);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        CHECK_INT(p2p_sim_step(w.sim), i * 7 * MS);
        CHECK_INT(p2p_now(w.node[0]), i * 7 * MS); /* every node is told the time */
        while (p2p_next_event(w.node[0], &e))
            connected += e.type == P2P_EVENT_CONNECTED;
    }
    CHECK_INT(connected, 1);
    p2p_sim_close(w.sim);
}
/* Partitions drawn at random: connections break and come again, and no state is left behind. */
TEST(partitions_at_random) {
    uint32_t up = 0, down = 0;
    world_new(4);
    w.net.partition_ppm = 100000;
    w.desc.time.idle_us = 2 * SECOND;
    w.desc.time.keepalive_us = SECOND / 2;
    w.desc.time.connect_us = SECOND;
    world_pair(4);
    CHECK_SO_FAR();
    for (int i = 0; i < 300; i++) {
        p2p_event e;
        if (!w.out.id)
            CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.out), 0);
        run(SECOND);
        while (p2p_next_event(w.node[0], &e)) {
            up += e.type == P2P_EVENT_CONNECTED;
            down += e.type == P2P_EVENT_DISCONNECTED;
            if (e.type == P2P_EVENT_DISCONNECTED)
                w.out.id = 0;
        }
        while (p2p_next_event(w.node[1], &e)) {}
        world_check();
        CHECK_SO_FAR();
    }
    CHECK(up > 3 && down >= up - 1);
    p2p_sim_close(w.sim);
}
TEST_MAIN(P2P_TEST_ENTRY(connectivity), P2P_TEST_ENTRY(latency), P2P_TEST_ENTRY(nat),
          P2P_TEST_ENTRY(integrity), P2P_TEST_ENTRY(partition_and_heal),
          P2P_TEST_ENTRY(split_network), P2P_TEST_ENTRY(names), P2P_TEST_ENTRY(multi_hop),
          P2P_TEST_ENTRY(same_seed_same_bytes), P2P_TEST_ENTRY(crash_and_restart),
          P2P_TEST_ENTRY(restart_unnoticed), P2P_TEST_ENTRY(full_mesh), P2P_TEST_ENTRY(narrow_line),
          P2P_TEST_ENTRY(failures_at_random), P2P_TEST_ENTRY(manual_program),
          P2P_TEST_ENTRY(refused_off_the_simulator), P2P_TEST_ENTRY(crash_from_its_own_event),
          P2P_TEST_ENTRY(a_visit_that_is_over_before_the_callee_looks),
          P2P_TEST_ENTRY(a_visit_that_is_over_before_the_caller_looks),
          P2P_TEST_ENTRY(program_closes_its_node), P2P_TEST_ENTRY(touch_wakes_another_node),
          P2P_TEST_ENTRY(fixed_steps), P2P_TEST_ENTRY(partitions_at_random),
          P2P_TEST_ENTRY(on_event_drives_the_program))
