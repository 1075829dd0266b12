/* What a small message costs on the wire, over DTLS: IPv4 and UDP headers, the envelope's head, the
 * record's, and the packet. */
#include "wire.h"

enum { HEADERS = 20 + 8, MESSAGE = 64, BEFORE = 20000, PROBES = 40 };

static size_t sizes[PROBES];
static int probe = -1, extra;

static int weigh(int from, int to, const uint8_t *data, size_t size) {
    (void)to;
    (void)data;
    if (from != ALICE || probe < 0)
        return 1;
    extra += sizes[probe] != 0;
    sizes[probe] += sizes[probe] ? 0 : size;
    return 1;
}

static int connected(void) {
    return hosts[ALICE].events[P2P_EVENT_CONNECTED] && hosts[BOB].events[P2P_EVENT_CONNECTED];
}

static void send_one(uint64_t pause_us) {
    uint8_t text[MESSAGE], got[MESSAGE];
    memset(text, 7, sizeof text);
    CHECK_INT(p2p_send(hosts[ALICE].node, hosts[ALICE].conn, text, sizeof text), MESSAGE);
    wire_run(NULL, pause_us);
    while (p2p_recv(hosts[BOB].node, hosts[BOB].conn, got, sizeof got) == MESSAGE)
        CHECK_BYTES(got, text, sizeof text);
}

/* 64 bytes after 20,000 others of the same, each in a packet of its own, no ACK aboard. */
TEST(a_64_byte_message) {
    p2p_ticket ticket;
    p2p_stats stats;
    p2p_conn conn;
    int least = 0;
    memset(sizes, 0, sizeof sizes);
    wire_begin(1);
    wire.latency_us[ALICE][BOB] = wire.latency_us[BOB][ALICE] = 100;
    host_open(ALICE, 0);
    host_open(BOB, 1);
    CHECK_SO_FAR();
    wire.on_send = weigh;
    memset(&ticket, 0, sizeof ticket);
    ticket.id = hosts[BOB].id;
    ticket.addrs[0] = hosts[BOB].addr;
    ticket.addr_count = 1;
    CHECK(p2p_peer_add(hosts[ALICE].node, &ticket) >= 0);
    CHECK_INT(p2p_connect(hosts[ALICE].node, &ticket.id, NULL, &conn), 0);
    CHECK(wire_run(connected, 10 * SECOND));
    for (int i = 0; i < BEFORE; i++) {
        send_one(400);
        CHECK_SO_FAR();
    }
    wire_run(NULL, SECOND);
    CHECK_INT(p2p_conn_stats(hosts[ALICE].node, hosts[ALICE].conn, &stats), P2P_OK);
    CHECK(stats.packets_sent >= BEFORE); /* their numbers take four bytes by now */
    for (probe = 0; probe < PROBES; probe++) {
        send_one(200 * MS);
        CHECK_SO_FAR();
    }
    probe = -1;
    for (int i = 0; i < PROBES; i++) {
        CHECK(sizes[i] > MESSAGE);
        least += sizes[i] + HEADERS <= 144;
    }
    CHECK(least >= PROBES - 4); /* others answer a window's update */
    CHECK(extra <= 4);
    wire_close();
}

TEST_MAIN(P2P_TEST_ENTRY(a_64_byte_message))
