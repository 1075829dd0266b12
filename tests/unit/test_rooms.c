/* A build with every optional room left out still dials and streams; what is left
 * out is refused on the wire and in the desc. */
#define P2P_NO_ROUTER
#define P2P_NO_DISCOVERY
#define P2P_NO_DATAGRAM
#define P2P_NO_PARSE
#define P2P_NO_WORDS
#define P2P_NO_CHECK
#define P2P_NO_MESSAGES
#define P2P_NO_RECONNECT
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "p2p_test.h"

enum { ALICE, BOB, NODES };
static uint64_t network[1 << 20];
static p2p_sim *sim;
static p2p_node *nodes[NODES];
static p2p_conn conns[NODES];

static void open_nodes(p2p_desc *desc) {
    static p2p_sim_desc net;
    net.seed = test_seed();
    net.link.latency_us = 20000;
    net.link.loss_ppm = 50000;
    CHECK_INT(p2p_sim_open(&sim, &net, network, sizeof network), P2P_OK);
    CHECK_INT(p2p_sim_node(sim, "alice", desc, &nodes[ALICE]), P2P_OK);
    CHECK_INT(p2p_sim_node(sim, "bob", desc, &nodes[BOB]), P2P_OK);
    CHECK_INT(p2p_sim_connect(sim, p2p_node_id(nodes[ALICE]), p2p_node_id(nodes[BOB]), NULL),
              P2P_OK);
}

/* Runs until somebody has an event of this type: who, or -1. */
static int wait_for(uint32_t type, p2p_event *e) {
    for (int turns = 0; turns < 20000; turns++) {
        for (int who = 0; who < NODES; who++)
            while (p2p_next_event(nodes[who], e) > 0) {
                conns[who] = e->conn;
                if (e->type == type)
                    return who;
            }
        if (p2p_sim_step(sim) == P2P_NEVER)
            return -1;
    }
    return -1;
}

static void dial(void) {
    p2p_connect_desc again;
    p2p_ticket bob;
    p2p_listener listener;
    p2p_event e;
    CHECK_INT(p2p_listen(nodes[BOB], NULL, &listener), P2P_OK);
    CHECK_INT(p2p_ticket_of(nodes[BOB], &bob), P2P_OK);
    CHECK_INT(p2p_peer_add(nodes[ALICE], &bob), P2P_OK);
    memset(&again, 0, sizeof again);
    again.reconnect = 1;
    CHECK_INT(p2p_connect(nodes[ALICE], &bob.id, &again, &conns[ALICE]), P2P_ERR_CONFIG);
    CHECK_INT(p2p_connect(nodes[ALICE], &bob.id, NULL, &conns[ALICE]), P2P_OK);
    CHECK(wait_for(P2P_EVENT_CONNECTED, &e) >= 0);
    CHECK(wait_for(P2P_EVENT_CONNECTED, &e) >= 0);
}

TEST(dials_and_streams) {
    static uint8_t bytes[200000], got[sizeof bytes];
    p2p_desc desc;
    p2p_stream out;
    p2p_event e;
    size_t sent = 0, have = 0;
    memset(&desc, 0, sizeof desc);
    desc.allow_anyone = 1;
    open_nodes(&desc);
    CHECK_SO_FAR();
    dial();
    CHECK_SO_FAR();
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 131 >> 3);
    CHECK_INT(p2p_stream_open(nodes[ALICE], conns[ALICE], NULL, &out), P2P_OK);
    for (int turns = 0; have < sizeof bytes && turns < 20000; turns++) {
        p2p_stream in = {0};
        int n = p2p_stream_write(nodes[ALICE], out, bytes + sent, sizeof bytes - sent);
        sent += n > 0 ? (size_t)n : 0;
        for (int who = 0; who < NODES; who++)
            while (p2p_next_event(nodes[who], &e) > 0)
                if (who == BOB && e.stream.id)
                    in = e.stream;
        while (in.id && (n = p2p_stream_read(nodes[BOB], in, got + have, sizeof got - have)) > 0)
            have += (size_t)n;
        (void)p2p_sim_step(sim);
    }
    CHECK_INT(have, sizeof bytes);
    CHECK(memcmp(bytes, got, sizeof bytes) == 0);
    p2p_sim_close(sim);
}

TEST(the_peer_is_granted_none_of_it) {
    p2p_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.allow_anyone = 1;
    open_nodes(&desc);
    CHECK_SO_FAR();
    dial();
    CHECK_SO_FAR();
    for (int who = 0; who < NODES; who++) {
        p2p__session *session = p2p__session_next(nodes[who], NULL);
        p2p__conn *conn = p2p__conn_next(nodes[who], NULL);
        CHECK(session && conn);
        CHECK_INT(session->theirs.max_streams[P2P__KIND_REQUEST], 0);
        CHECK_INT(session->theirs.datagram_max, 0);
        CHECK_INT(session->theirs.message_max, 0);
        p2p__grant_more(nodes[who], conn, P2P__KIND_REQUEST, true);
        CHECK_INT(conn->taken_limit[P2P__KIND_REQUEST], 0);
    }
    p2p_sim_close(sim);
}

TEST(failures_keep_their_numbers) {
    static uint64_t arena[16];
    static const p2p_discovery_api provider = {NULL, NULL, NULL};
    p2p_sim_desc net;
    p2p_error_detail why;
    p2p_desc desc;
    memset(&desc, 0, sizeof desc);
    memset(&net, 0, sizeof net);
    desc.why = &why;
    desc.max.conns = 16001;
    CHECK_INT(p2p_node_open_abi(&nodes[0], &desc, arena, sizeof arena, P2P_ABI), P2P_ERR_CONFIG);
    CHECK_INT(why.err, P2P_ERR_CONFIG);
    CHECK_INT(why.size, 16001);
    CHECK_INT(why.max, 16000);
    CHECK_STR(why.text, "");
    desc.max.conns = 0;
    desc.max.datagrams_in = 1;
    CHECK_INT(p2p_arena_size(&desc), 0);
    CHECK_INT(why.size, 1);
    desc.max.datagrams_in = 0;
    desc.discovery.api = &provider;
    CHECK_INT(p2p_arena_size(&desc), 0);
    CHECK_INT(why.err, P2P_ERR_CONFIG);
}

TEST_MAIN(P2P_TEST_ENTRY(dials_and_streams), P2P_TEST_ENTRY(the_peer_is_granted_none_of_it),
          P2P_TEST_ENTRY(failures_keep_their_numbers))
