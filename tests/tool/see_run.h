/* see_run.h: a run to look at. Three nodes and a router, a bad link, a bulk stream, messages and
 * datagrams, a crash; watched by whatever sinks a test gives it.
 *
 *     alice --- r --- bob      loss, duplicates, changed bytes, a short queue between r and bob
 *     carol                    has a link to nobody */
#ifndef SEE_RUN_H
#define SEE_RUN_H
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_MBEDTLS_KEYLOG
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"
#include "../../tools/p2p_see.h"
#include "p2p_test.h"

enum { RUN_ALICE, RUN_BOB, RUN_CAROL, RUN_NODES, RUN_BYTES = 60000 };
#define RUN_MS ((uint64_t)1000)

typedef struct see_run {
    bool dtls, wrapped; /* wrapped: packets can be seen */
    bool boxed;         /* between alice and r is a NAT router */
    uint64_t seed;
    /* filled in */
    p2p_see *see; /* NULL: nobody watches */
    p2p_sim *sim;
    p2p_node *node[RUN_NODES];
    p2p_id id[RUN_NODES], router, lan;
    p2p_conn conn;
    p2p_stream stream;
    uint32_t sent, got, messages, datagrams, wrong;
    uint64_t digest;
    p2p_sim_stats stats;
    p2p_error_detail why;
} see_run;

static const char *const run_names[RUN_NODES] = {"alice", "bob", "carol"};
static uint64_t run_memory[(16 << 20) / 8];

static uint8_t run_byte(uint32_t at) { return (uint8_t)(at * 7 + (at >> 8)); }

static void run_write(see_run *r) {
    uint8_t bytes[1000];
    size_t left;
    int n = 1;
    while (r->sent < RUN_BYTES && n > 0) {
        left = RUN_BYTES - r->sent;
        for (uint32_t i = 0; i < sizeof bytes; i++)
            bytes[i] = run_byte(r->sent + i);
        n = p2p_stream_write(r->node[RUN_ALICE], r->stream, bytes,
                             left < sizeof bytes ? left : sizeof bytes);
        r->sent += n > 0 ? (uint32_t)n : 0;
    }
    if (r->sent == RUN_BYTES)
        (void)p2p_stream_finish(r->node[RUN_ALICE], r->stream);
}

static void run_read(see_run *r, p2p_stream stream) {
    uint8_t bytes[2048];
    int n;
    while ((n = p2p_stream_read(r->node[RUN_BOB], stream, bytes, sizeof bytes)) > 0)
        for (int i = 0; i < n; i++)
            r->wrong += bytes[i] != run_byte(r->got++);
}

static void run_connected(see_run *r, const p2p_event *e) {
    p2p_stream_desc one_way;
    memset(&one_way, 0, sizeof one_way);
    one_way.one_way = 1;
    if (e->incoming)
        return;
    (void)p2p_send(r->node[RUN_ALICE], r->conn, "good morning", 12);
    if (p2p_stream_open(r->node[RUN_ALICE], r->conn, &one_way, &r->stream) == P2P_OK)
        run_write(r);
}

static void run_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    see_run *r = (see_run *)ctx;
    uint8_t room[64];
    (void)sim;
    if (r->see)
        p2p_see_tell_event(r->see, node, e);
    if (e->type == P2P_EVENT_CONNECTED)
        run_connected(r, e);
    if (e->type == P2P_EVENT_WRITABLE && node == r->node[RUN_ALICE]) {
        (void)p2p_datagram_send(r->node[RUN_ALICE], r->conn, "tick", 4);
        run_write(r);
    }
    if (e->type == P2P_EVENT_READABLE)
        run_read(r, e->stream);
    if (e->type == P2P_EVENT_MESSAGE && p2p_recv(node, e->conn, room, sizeof room) == 12)
        r->messages++;
    if (e->type == P2P_EVENT_DATAGRAM && p2p_datagram_recv(node, e->conn, room, sizeof room) == 4)
        r->datagrams++;
}

static int run_node(see_run *r, int i) {
    p2p_desc desc;
    int err;
    memset(&desc, 0, sizeof desc);
    desc.allow_anyone = 1;
    desc.time.idle_us = 2000 * RUN_MS;
    if (r->dtls)
        (void)p2p_mbedtls_secure(&desc.secure);
    err = p2p_sim_id(r->sim, run_names[i], &r->id[i]);
    if (err == P2P_OK && r->see && r->wrapped)
        err = p2p_see_secure(r->see, &r->id[i], &desc);
    if (err == P2P_OK)
        err = p2p_sim_node(r->sim, run_names[i], &desc, &r->node[i]);
    if (err == P2P_OK && r->see)
        err = p2p_see_set_vertex(r->see, run_names[i], &r->id[i], r->node[i]);
    return err;
}

/* Opens the network; between this and run_go a test adds its sinks. */
static int run_open(see_run *r, bool watched) {
    p2p_sim_desc net;
    int err;
    memset(&net, 0, sizeof net);
    net.seed = r->seed;
    net.on_event = run_event;
    net.ctx = r;
    net.why = &r->why;
    if (r->dtls)
        p2p_sodium_crypto(&net.crypto);
    err = p2p_sim_open(&r->sim, &net, run_memory, sizeof run_memory);
    if (err < 0)
        return err;
    r->see = watched ? p2p_see_open(r->sim, &r->why) : NULL;
    if (watched && !r->see)
        return r->why.err;
    return p2p_sim_router(r->sim, "r", &r->router);
}

static int run_box(see_run *r, const p2p_sim_link *link) {
    p2p_sim_nat_desc box;
    int err;
    memset(&box, 0, sizeof box);
    box.kind = P2P_SIM_NAT_PORT;
    if ((err = p2p_sim_router(r->sim, "lan", &r->lan)) < 0 ||
        (err = p2p_sim_nat(r->sim, &r->lan, &box)) < 0 ||
        (err = p2p_sim_behind(r->sim, &r->id[RUN_ALICE], &r->lan)) < 0)
        return err;
    return p2p_sim_connect(r->sim, &r->id[RUN_ALICE], &r->lan, link);
}

static int run_links(see_run *r) {
    p2p_sim_link good, bad;
    int err;
    memset(&good, 0, sizeof good);
    good.latency_us = 5 * RUN_MS;
    bad = good;
    bad.rate_bps = 4000000;
    bad.queue_bytes = 10000;
    bad.loss_ppm = 30000;
    bad.duplicate_ppm = 20000;
    bad.corrupt_ppm = 150000;
    err = r->boxed ? run_box(r, &good) : P2P_OK;
    if (err == P2P_OK)
        err = p2p_sim_connect(r->sim, r->boxed ? &r->lan : &r->id[RUN_ALICE], &r->router, &good);
    return err < 0 ? err : p2p_sim_connect(r->sim, &r->router, &r->id[RUN_BOB], &bad);
}

/* A good second and a half, then bob crashes, and alice finds out. */
static int run_go(see_run *r) {
    p2p_listener listener;
    p2p_conn to_carol;
    int err = P2P_OK;
    if (r->see)
        err = p2p_see_set_vertex(r->see, "r", &r->router, NULL);
    for (int i = 0; i < RUN_NODES && err == P2P_OK; i++)
        err = run_node(r, i);
    if (err < 0 || (err = run_links(r)) < 0 ||
        (err = p2p_listen(r->node[RUN_BOB], NULL, &listener)) < 0 ||
        (err = p2p_connect(r->node[RUN_ALICE], &r->id[RUN_BOB], NULL, &r->conn)) < 0 ||
        (err = p2p_connect(r->node[RUN_ALICE], &r->id[RUN_CAROL], NULL, &to_carol)) < 0 ||
        (err = p2p_sim_run_until(r->sim, 1500 * RUN_MS)) < 0)
        return err;
    if (r->see)
        p2p_see_tell_note(r->see, &r->id[RUN_BOB], "crash", "bob's \"power\" fails");
    if ((err = p2p_sim_crash(r->sim, &r->id[RUN_BOB])) < 0)
        return err;
    if (r->see && (err = p2p_see_set_vertex(r->see, "bob", &r->id[RUN_BOB], NULL)) < 0)
        return err;
    return p2p_sim_run_until(r->sim, 5000 * RUN_MS);
}

/* 0, or what a sink's close said. */
static int run_close(see_run *r) {
    r->digest = p2p_sim_digest(r->sim);
    p2p_sim_stats_get(r->sim, &r->stats);
    p2p_sim_close(r->sim);
    return r->see ? p2p_see_close(r->see) : P2P_OK;
}
#endif
