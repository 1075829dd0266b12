/* p2p_posix.h with real nodes over UDP and DTLS on loopback: both families, a stream of some
 * megabytes, two nodes on one socket, a loop of the program's own, and no busy waiting. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define UNIT_SODIUM
#include "unit.h"
#include "p2p_posix.h"

enum { ARENA = 4 << 20, STREAM_BYTES = 4 << 20, PATIENCE_US = 10000000 };

typedef struct peer {
    p2p_posix *io; /* its own, or that of another */
    p2p_desc desc;
    p2p_key key;
    p2p_node *node;
    p2p_conn conn;
    p2p_stream stream;
    uint32_t connected, lost, sent, received;
    bool finished, wrong;
} peer;

static p2p_posix ios[2];
static peer peers[3];
static uint64_t arenas[3][ARENA / 8];
static p2p_error_detail why;

/* Containers often have no IPv6. */
static bool has_ipv6(void) {
    static const char *const address = "::1";
    p2p_posix_desc d;
    p2p_desc desc;
    p2p_posix io;
    int err;
    memset(&d, 0, sizeof d);
    memset(&desc, 0, sizeof desc);
    d.bind = &address;
    d.bind_count = 1;
    err = p2p_posix_open(&io, &d, &desc);
    p2p_posix_close(&io);
    return err >= 0;
}

static uint8_t pattern(uint32_t at) { return (uint8_t)(at * 2654435761u >> 24); }

static void peer_open(int index, p2p_posix *io) {
    peer *p = &peers[index];
    memset(p, 0, sizeof *p);
    p->io = io;
    memset(p->key.seed, index + 1, sizeof p->key.seed);
    p->desc.why = &why;
    p->desc.key = &p->key;
    p->desc.allow_anyone = 1;
    if (p2p_posix__is_open(io))
        CHECK_INT(p2p_posix_share(io, &p->desc), 0);
    else
        CHECK_INT(p2p_posix_open(io, NULL, &p->desc), 0);
    CHECK_INT(p2p_key_from_seed(&p->desc.crypto, p->key.seed, &p->key), 0);
    CHECK(p2p_arena_size(&p->desc) <= sizeof arenas[index]);
    CHECK_INT(p2p_node_open(&p->node, &p->desc, arenas[index], sizeof arenas[index]), 0);
}

static void peer_listen(int index) {
    p2p_listen_desc desc;
    p2p_listener listener;
    memset(&desc, 0, sizeof desc);
    CHECK_INT(p2p_listen(peers[index].node, &desc, &listener), 0);
}

/* Tells `from` where `to` is: on the loopback address of that family. */
static void peer_dial(int from, int to, const char *address) {
    p2p_ticket ticket;
    p2p_connect_desc desc;
    memset(&ticket, 0, sizeof ticket);
    memset(&desc, 0, sizeof desc);
    ticket.id = peers[to].key.id;
    CHECK(p2p_addr_parse(address, &ticket.addrs[0]) >= 0);
    ticket.addrs[0].port = peers[to].desc.link.local[0].port;
    ticket.addr_count = 1;
    CHECK_INT(p2p_peer_add(peers[from].node, &ticket), 0);
    CHECK_INT(p2p_connect(peers[from].node, &ticket.id, &desc, &peers[from].conn), 0);
}

static void peer_write(peer *p) {
    p2p_room room;
    while (p->stream.id != 0 && p->sent < STREAM_BYTES) {
        if (p2p_stream_reserve(p->node, p->stream, STREAM_BYTES - p->sent, &room) < 0)
            return;
        for (size_t i = 0; i < room.size; i++)
            room.data[i] = pattern(p->sent + (uint32_t)i);
        p->sent += (uint32_t)room.size;
        if (p2p_stream_commit(p->node, p->stream, room.size) < 0)
            return;
        if (p->sent == STREAM_BYTES)
            (void)p2p_stream_finish(p->node, p->stream);
    }
}

static void peer_read(peer *p, p2p_stream stream) {
    p2p_span span;
    int got;
    while ((got = p2p_stream_peek(p->node, stream, &span)) > 0) {
        for (size_t i = 0; i < span.size; i++)
            p->wrong |= span.data[i] != pattern(p->received + (uint32_t)i);
        p->received += (uint32_t)span.size;
        (void)p2p_stream_skip(p->node, stream, span.size);
    }
    p->finished |= got == 0;
    if (got == 0)
        (void)p2p_stream_finish(p->node, stream);
}

static void peer_events(peer *p) {
    p2p_event e;
    while (p2p_next_event(p->node, &e) > 0) {
        p->connected += e.type == P2P_EVENT_CONNECTED;
        p->lost += e.type == P2P_EVENT_DISCONNECTED;
        if (e.type == P2P_EVENT_WRITABLE && e.stream.id == p->stream.id)
            peer_write(p);
        if (e.type == P2P_EVENT_READABLE || e.type == P2P_EVENT_STREAM)
            peer_read(p, e.stream);
    }
}

/* Steps nodes 0 and 1, each on sockets of its own, until *flag or the end of patience. */
static void run_until(const bool *flag, const uint32_t *count, uint32_t wanted) {
    uint64_t end = p2p_posix_now_us() + PATIENCE_US;
    while (!(flag != NULL && *flag) && !(count != NULL && *count >= wanted)) {
        CHECK(p2p_posix_now_us() < end);
        for (int i = 0; i < 2; i++) {
            CHECK(p2p_posix_step(peers[i].io, peers[i].node, i) >= 0);
            peer_events(&peers[i]);
        }
    }
}

static void close_all(int count) {
    for (int i = 0; i < count; i++)
        p2p_node_close(peers[i].node);
    p2p_posix_close(&ios[0]);
    p2p_posix_close(&ios[1]);
}

static void two_peers(const char *address) {
    peer_open(0, &ios[0]);
    CHECK_SO_FAR();
    peer_open(1, &ios[1]);
    CHECK_SO_FAR();
    peer_listen(0);
    CHECK_SO_FAR();
    peer_dial(1, 0, address);
    CHECK_SO_FAR();
    run_until(NULL, &peers[1].connected, 1);
}

static void transfer(const char *address) {
    p2p_stream_desc desc;
    memset(&desc, 0, sizeof desc);
    two_peers(address);
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_open(peers[1].node, peers[1].conn, &desc, &peers[1].stream), 0);
    peer_write(&peers[1]);
    run_until(&peers[0].finished, NULL, 0);
    CHECK_SO_FAR();
    CHECK_INT(peers[0].received, STREAM_BYTES);
    CHECK(!peers[0].wrong);
    CHECK_INT(p2p_posix__of(&ios[0])->dropped, 0);
    CHECK_INT(p2p_posix__of(&ios[1])->dropped, 0);
    close_all(2);
}

TEST(transfer_ipv4) { transfer("127.0.0.1:1"); }
TEST(transfer_ipv6) {
    if (has_ipv6())
        transfer("[::1]:1");
}

/* An idle connection sleeps: keepalives and ACKs are all that wakes it. */
TEST(idle_nodes_do_not_spin) {
    int steps = 0;
    uint64_t end;
    two_peers("127.0.0.1:1");
    CHECK_SO_FAR();
    end = p2p_posix_now_us() + 400000;
    run_until(NULL, &peers[0].connected, 1);
    CHECK_SO_FAR();
    while (p2p_posix_now_us() < end) {
        for (int i = 0; i < 2; i++) {
            CHECK(p2p_posix_step(peers[i].io, peers[i].node, 10) >= 0);
            peer_events(&peers[i]);
            steps++;
        }
    }
    CHECK(steps < 200); /* 40 steps of 10 ms, and those that carry the last of the handshake */
    close_all(2);
}

/* Two nodes listen on the same sockets, and a third one reaches each by its key. */
TEST(nodes_share_a_socket) {
    uint64_t end = p2p_posix_now_us() + PATIENCE_US;
    p2p_node *both[2];
    peer_open(0, &ios[0]);
    CHECK_SO_FAR();
    peer_open(2, &ios[0]);
    CHECK_SO_FAR();
    peer_open(1, &ios[1]);
    CHECK_SO_FAR();
    peer_listen(0);
    CHECK_SO_FAR();
    peer_listen(2);
    CHECK_SO_FAR();
    peer_dial(1, 0, "127.0.0.1:1");
    CHECK_SO_FAR();
    peer_dial(1, 2, has_ipv6() ? "[::1]:1" : "127.0.0.1:1");
    CHECK_SO_FAR();
    both[0] = peers[0].node;
    both[1] = peers[2].node;
    while (peers[1].connected < 2 || peers[0].connected < 1 || peers[2].connected < 1) {
        CHECK(p2p_posix_now_us() < end);
        CHECK(p2p_posix_step_all(&ios[0], both, 2, 0) >= 0);
        CHECK(p2p_posix_step(&ios[1], peers[1].node, 1) >= 0);
        for (int i = 0; i < 3; i++)
            peer_events(&peers[i]);
    }
    CHECK_INT(peers[0].connected, 1);
    CHECK_INT(peers[2].connected, 1);
    close_all(3);
}

/* The nodes in a poll set of the program's own. */
TEST(loop_of_ones_own) {
    uint64_t end = p2p_posix_now_us() + PATIENCE_US;
    peer_open(0, &ios[0]);
    CHECK_SO_FAR();
    peer_open(1, &ios[1]);
    CHECK_SO_FAR();
    peer_listen(0);
    CHECK_SO_FAR();
    peer_dial(1, 0, "127.0.0.1:1");
    CHECK_SO_FAR();
    while (peers[0].connected < 1 || peers[1].connected < 1) {
        struct pollfd fds[2 * (P2P_POSIX_SOCKETS + 1)];
        int count = p2p_posix_fds(&ios[0], fds, P2P_POSIX_SOCKETS + 1);
        int more = p2p_posix_fds(&ios[1], fds + count, P2P_POSIX_SOCKETS + 1);
        int wait[2];
        CHECK(count > 0 && more > 0 && p2p_posix_now_us() < end);
        for (int i = 0; i < 2; i++)
            wait[i] = p2p_posix_wait_ms(peers[i].io, peers[i].node);
        if (wait[0] < 0 || (wait[1] >= 0 && wait[1] < wait[0]))
            wait[0] = wait[1];
        CHECK(poll(fds, (nfds_t)(count + more), wait[0]) >= 0);
        for (int i = 0; i < 2; i++) {
            CHECK(p2p_posix_step(peers[i].io, peers[i].node, 0) >= 0);
            peer_events(&peers[i]);
        }
    }
    close_all(2);
}

/* The table that open fills in when the desc has none, and what the desc has already stays. */
TEST(fills_in_defaults) {
    p2p_desc desc;
    p2p_secure other;
    memset(&desc, 0, sizeof desc);
    CHECK_INT(p2p_posix_open(&ios[0], NULL, &desc), 0);
    CHECK(desc.secure.api != NULL && desc.crypto.api != NULL);
    other = desc.secure;
    other.ctx = &other;
    memset(&desc, 0, sizeof desc);
    desc.secure = other;
    CHECK_INT(p2p_posix_share(&ios[0], &desc), 0);
    CHECK(desc.secure.ctx == &other);
    CHECK(desc.crypto.api != NULL);
    p2p_posix_close(&ios[0]);
}

TEST_MAIN(P2P_TEST_ENTRY(fills_in_defaults), P2P_TEST_ENTRY(transfer_ipv4),
          P2P_TEST_ENTRY(transfer_ipv6), P2P_TEST_ENTRY(idle_nodes_do_not_spin),
          P2P_TEST_ENTRY(nodes_share_a_socket), P2P_TEST_ENTRY(loop_of_ones_own))
