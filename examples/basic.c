/* basic: two nodes in one process say hello.
 *
 * Compiled as it is, they talk over UDP and DTLS on this machine. With -DBASIC_SIM they talk in the
 * simulator, over a link of 20 ms that loses one datagram in ten. Only `open_nodes`, `turn` and
 * `close_nodes` differ. */
#define P2P_IMPLEMENTATION
#ifdef BASIC_SIM
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#else
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#endif
#include <stdio.h>
#include <string.h>

enum { ALICE, BOB, NODES };
static p2p_node *nodes[NODES];

/* ---- what differs ---------------------------------------------------------------------------- */

#ifdef BASIC_SIM
static uint64_t network[1 << 20];
static p2p_sim *sim;

static int open_nodes(p2p_desc *desc) {
    static p2p_sim_desc net;
    net.seed = 1;
    net.link.latency_us = 20000;
    net.link.loss_ppm = 100000;
    net.why = desc->why;
    if (p2p_sim_open(&sim, &net, network, sizeof network) < 0 ||
        p2p_sim_node(sim, "alice", desc, &nodes[ALICE]) < 0 ||
        p2p_sim_node(sim, "bob", desc, &nodes[BOB]) < 0)
        return -1;
    return p2p_sim_connect(sim, p2p_node_id(nodes[ALICE]), p2p_node_id(nodes[BOB]), NULL);
}
static int turn(void) { return p2p_sim_step(sim) == P2P_NEVER ? -1 : 0; }
static void close_nodes(void) { p2p_sim_close(sim); }
#else
static uint64_t arena[NODES][(P2P_ARENA_SIZE(8, 16, 16384) + P2P_MBEDTLS_ARENA_SIZE(8, 4)) / 8];
static p2p_posix io;

static int open_nodes(p2p_desc *desc) {
    static const char *const here[] = {"127.0.0.1:0"};
    p2p_posix_desc sockets;
    memset(&sockets, 0, sizeof sockets);
    sockets.bind = here;
    sockets.bind_count = 1;
    if (p2p_posix_open(&io, &sockets, desc) < 0 ||
        p2p_node_open(&nodes[ALICE], desc, arena[ALICE], sizeof arena[ALICE]) < 0 ||
        p2p_posix_share(&io, desc) < 0) /* the second node uses the same socket */
        return -1;
    return p2p_node_open(&nodes[BOB], desc, arena[BOB], sizeof arena[BOB]);
}
static int turn(void) { return p2p_posix_step_all(&io, nodes, NODES, 5000); }
static void close_nodes(void) {
    p2p_node_close(nodes[ALICE]);
    p2p_node_close(nodes[BOB]);
    p2p_posix_close(&io);
}
#endif

/* ---- what does not --------------------------------------------------------------------------- */

static bool done;

static void on_event(int who, const p2p_event *e) {
    char text[64];
    int size;
    if (e->type == P2P_EVENT_CONNECTED)
        (void)printf("%s is connected\n", who == ALICE ? "alice" : "bob");
    if (e->type == P2P_EVENT_CONNECTED && who == ALICE)
        (void)p2p_send(nodes[ALICE], e->conn, "hello, bob", 10);
    if (e->type == P2P_EVENT_DISCONNECTED) {
        (void)printf("lost: %s\n", p2p_err_text(e->err));
        done = true;
    }
    if (e->type != P2P_EVENT_MESSAGE)
        return;
    while ((size = p2p_recv(nodes[who], e->conn, text, sizeof text)) >= 0) {
        (void)printf("%s reads: %.*s\n", who == ALICE ? "alice" : "bob", size, text);
        if (who == BOB)
            (void)p2p_send(nodes[BOB], e->conn, "hello, alice", 12);
        else
            done = true;
    }
}

static int introduce(void) {
    p2p_ticket bob;
    p2p_listener listener;
    p2p_conn conn;
    if (p2p_listen(nodes[BOB], NULL, &listener) < 0 || p2p_ticket_of(nodes[BOB], &bob) < 0 ||
        p2p_peer_add(nodes[ALICE], &bob) < 0)
        return -1;
    return p2p_connect(nodes[ALICE], &bob.id, NULL, &conn);
}

int main(void) {
    static p2p_desc desc; /* all zeros: the defaults */
    p2p_error_detail why;
    p2p_event e;
    int who, turns;
    memset(&why, 0, sizeof why);
    desc.why = &why;
    desc.allow_anyone = 1; /* who knows bob's key may talk to bob */
    if (open_nodes(&desc) < 0 || introduce() < 0) {
        (void)fprintf(stderr, "basic: %s\n", why.text);
        return 1;
    }
    for (turns = 0; turns < 10000 && !done && turn() >= 0; turns++)
        for (who = 0; who < NODES; who++)
            while (p2p_next_event(nodes[who], &e) > 0)
                on_event(who, &e);
    close_nodes();
    return done ? 0 : 1;
}
