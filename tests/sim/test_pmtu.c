/* Path MTU discovery in the simulator: paths that are wide, narrow, different each way, that become
 * narrower while a transfer runs, and that lose probes. The mtu of a link there is the size of the
 * largest datagram it takes; larger ones vanish. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "p2p_test.h"

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)

static uint64_t memory[6u << 20];
static struct {
    p2p_sim *sim;
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_error_detail why;
    p2p_node *node[2];
    p2p_id id[2];
    p2p_conn conn[2];
    p2p_stream stream;
    uint64_t sent, received, total;
    int wrong, gone;
} w;

static uint8_t byte_at(uint64_t offset) { return (uint8_t)(offset * 7 + (offset >> 13)); }

static void pump(p2p_node *node) {
    p2p_room room;
    while (w.sent < w.total && p2p_stream_reserve(node, w.stream, 16384, &room) >= 0) {
        size_t i, n = room.size < w.total - w.sent ? room.size : (size_t)(w.total - w.sent);
        for (i = 0; i < n; i++)
            room.data[i] = byte_at(w.sent + i);
        w.sent += n;
        CHECK_INT(p2p_stream_commit(node, w.stream, n), (int)n);
    }
}

static void drain(p2p_node *node, p2p_stream stream) {
    p2p_span bytes;
    while (p2p_stream_peek(node, stream, &bytes) > 0) {
        for (size_t i = 0; i < bytes.size; i++)
            w.wrong += bytes.data[i] != byte_at(w.received + i);
        w.received += bytes.size;
        CHECK(p2p_stream_skip(node, stream, bytes.size) >= 0);
    }
}

static void on_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    (void)ctx;
    (void)sim;
    w.gone += e->type == P2P_EVENT_DISCONNECTED;
    if (e->type == P2P_EVENT_CONNECTED)
        w.conn[node == w.node[1]] = e->conn;
    if (e->type == P2P_EVENT_WRITABLE)
        pump(node);
    if (e->type == P2P_EVENT_READABLE || e->type == P2P_EVENT_STREAM)
        drain(node, e->stream);
}

/* Two nodes with this link.mtu over links with that mtu, of which alice dials. */
static void world_dial(uint64_t seed, uint32_t node_mtu, uint32_t there, uint32_t back) {
    p2p_listener listener;
    p2p_sim_link link;
    memset(&w, 0, sizeof w);
    w.net.seed = seed;
    w.net.packets = 4096;
    w.net.on_event = on_event;
    w.net.why = w.desc.why = &w.why;
    w.desc.allow_anyone = 1;
    w.desc.max.in_flight = 4096;
    w.desc.max.streams = w.desc.max.peer_streams = 4;
    w.desc.bytes.stream_send = w.desc.bytes.peer_recv = 1 << 20;
    w.desc.bytes.datagram_max = 4000;
    w.desc.link.mtu = node_mtu;
    memset(&link, 0, sizeof link);
    link.latency_us = 10 * MS;
    link.rate_bps = 20000000;
    link.queue_bytes = 200000;
    CHECK_INT(p2p_sim_open(&w.sim, &w.net, memory, sizeof memory), 0);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_node(w.sim, "alice", &w.desc, &w.node[0]), 0);
    CHECK_INT(p2p_sim_node(w.sim, "bob", &w.desc, &w.node[1]), 0);
    CHECK_SO_FAR();
    for (int i = 0; i < 2; i++)
        w.id[i] = *p2p_node_id(w.node[i]);
    link.mtu = there;
    CHECK_INT(p2p_sim_connect_oneway(w.sim, &w.id[0], &w.id[1], &link), 0);
    link.mtu = back;
    CHECK_INT(p2p_sim_connect_oneway(w.sim, &w.id[1], &w.id[0], &link), 0);
    CHECK_INT(p2p_listen(w.node[1], NULL, &listener), 0);
    CHECK_INT(p2p_connect(w.node[0], &w.id[1], NULL, &w.conn[0]), 0);
}

static void world(uint64_t seed, uint32_t node_mtu, uint32_t there, uint32_t back) {
    world_dial(seed, node_mtu, there, back);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_run_until(w.sim, SECOND), 0);
    CHECK(p2p_is_connected(w.node[0], w.conn[0]));
}

static void world_end(void) {
    CHECK_INT(w.gone, 0);
    CHECK_INT(w.wrong, 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(p2p_check(w.node[i]), 0);
    p2p_sim_close(w.sim);
}

static void run(uint64_t us) { CHECK_INT(p2p_sim_run_until(w.sim, p2p_sim_now(w.sim) + us), 0); }

static uint64_t metric(int node, uint32_t which) {
    p2p_metrics m;
    p2p_metrics_get(w.node[node], &m);
    return m.value[which];
}

static uint32_t mtu(int node) {
    p2p_stats stats;
    return p2p_conn_stats(w.node[node], w.conn[node], &stats) < 0 ? 0 : stats.mtu;
}

/* Moves so many bytes from alice to bob; false when they are not there in time. */
static bool transfer(uint64_t bytes, uint64_t within_us) {
    uint64_t end = p2p_sim_now(w.sim) + within_us;
    if (w.total == 0 && p2p_stream_open(w.node[0], w.conn[0], NULL, &w.stream) < 0)
        return false;
    w.total += bytes;
    pump(w.node[0]);
    p2p_sim_touch(w.sim, w.node[0]);
    while (w.received < w.total && p2p_sim_now(w.sim) < end)
        run(10 * MS);
    return w.received == w.total;
}

static void link_set(int from, uint32_t bytes, uint32_t loss_ppm) {
    p2p_sim_link link;
    CHECK_INT(p2p_sim_link_get(w.sim, &w.id[from], &w.id[1 - from], &link), 0);
    link.mtu = bytes;
    link.loss_ppm = loss_ppm;
    CHECK_INT(p2p_sim_link_set(w.sim, &w.id[from], &w.id[1 - from], &link), 0);
}

/* What is found on an idle connection, each way, three seconds after it was made; and no loss of a
 * probe is a loss to the congestion controller. */
static void finds(uint32_t node_mtu, uint32_t there, uint32_t back, uint32_t want0,
                  uint32_t want1) {
    p2p_stats stats;
    world(1, node_mtu, there, back);
    CHECK_SO_FAR();
    run(3 * SECOND);
    CHECK_INT(mtu(0), want0);
    CHECK_INT(mtu(1), want1);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(p2p_conn_stats(w.node[i], w.conn[i], &stats), 0);
        CHECK_INT(stats.packets_lost, 0);
        CHECK_INT(metric(i, P2P_METRIC_pto_fired), 0);
        CHECK_INT(metric(i, P2P_METRIC_pmtu_black_holes), 0);
    }
    CHECK(transfer(300000, 5 * SECOND));
    world_end();
}

TEST(wide_links_are_found_at_once) {
    finds(8188, 0, 0, 8188, 8188);
    finds(60000, 0, 9000, 60000, 8972);
}
TEST(ethernet_is_found) {
    finds(8188, 1472, 1472, 1472, 1472);
    finds(1318, 1472, 1472, 1318, 1318);
}
TEST(tunnels_are_found_nearly) {
    finds(8188, 1252, 1252, 1252, 1252);
    finds(8188, 1400, 1300, 1384, 1278);
}
TEST(each_way_has_its_own) { finds(9000, 8972, 1472, 8972, 1472); }

/* Nothing is sent where little is to be had, and the default mtu is such a place. */
TEST(little_is_not_searched_for) {
    finds(0, 0, 0, 1200, 1200);
    world(1, 1200 + P2P__PMTU_STEP - 1, 0, 0);
    run(2 * SECOND);
    CHECK_INT(mtu(0), 1200);
    CHECK_INT(metric(0, P2P_METRIC_pmtu_probes), 0);
    world_end();
}

/* The first search lets first requests through, 50 ms and more, but a transfer that is under way by
 * then does not wait for it: over a short path that is most of what many transfers take. */
static void short_path(uint64_t bytes) {
    world_dial(1, 8188, 0, 0);
    CHECK_SO_FAR();
    for (int i = 0; i < 2; i++) {
        p2p_sim_link link;
        CHECK_INT(p2p_sim_link_get(w.sim, &w.id[i], &w.id[1 - i], &link), 0);
        link.rate_bps = 1000000000;
        link.latency_us = MS / 2;
        CHECK_INT(p2p_sim_link_set(w.sim, &w.id[i], &w.id[1 - i], &link), 0);
    }
    while (!p2p_is_connected(w.node[0], w.conn[0]) && p2p_sim_now(w.sim) < SECOND)
        run(MS);
    CHECK(transfer(bytes, 20 * MS));
}
TEST(a_transfer_does_not_wait_for_the_search) {
    short_path(1000000);
    CHECK_INT(mtu(0), 8188);
    world_end();
}
TEST(first_requests_come_before_the_search) {
    short_path(20000);
    CHECK_INT(metric(0, P2P_METRIC_pmtu_probes), 0);
    run(60 * MS);
    CHECK_INT(mtu(0), 8188);
    CHECK_INT(mtu(1), 8188);
    world_end();
}

/* The peer's limit counts as well as one's own. */
TEST(the_peer_bounds_it) {
    p2p_node *small = NULL;
    p2p_listener listener;
    p2p_id id;
    p2p_conn conn;
    p2p_stats stats;
    world(1, 8188, 0, 0);
    w.desc.link.mtu = 1318;
    CHECK_INT(p2p_sim_node(w.sim, "small", &w.desc, &small), 0);
    CHECK_SO_FAR();
    id = *p2p_node_id(small);
    CHECK_INT(p2p_sim_connect(w.sim, &w.id[0], &id, NULL), 0);
    CHECK_INT(p2p_listen(small, NULL, &listener), 0);
    CHECK_INT(p2p_connect(w.node[0], &id, NULL, &conn), 0);
    run(3 * SECOND);
    CHECK_INT(p2p_conn_stats(w.node[0], conn, &stats), 0);
    CHECK_INT(stats.mtu, 1318);
    world_end();
}

/* The path becomes narrower in the middle of a transfer and says nothing: all large datagrams
 * vanish, small ones do not. With every record of the table in use, too. */
static void shrinks(uint32_t before, uint32_t after, uint32_t want) {
    world(1, 8188, before, before);
    CHECK_SO_FAR();
    run(2 * SECOND);
    CHECK_INT(mtu(0), before);
    CHECK_INT(p2p_datagram_max(w.node[0], w.conn[0]), before > 4000 ? 4000 : (int)before - 26 - 9);
    CHECK(!transfer(4000000, 500 * MS));
    CHECK(w.received > 100000);
    link_set(0, after, 0);
    CHECK(transfer(0, 15 * SECOND));
    run(3 * SECOND);
    CHECK_INT(metric(0, P2P_METRIC_pmtu_black_holes), 1);
    CHECK_INT(mtu(0), want);
    CHECK_INT(p2p_datagram_max(w.node[0], w.conn[0]), (int)want - 26 - 9);
    CHECK_INT(mtu(1), before);
    world_end();
}
TEST(black_hole_from_jumbo_to_ethernet) { shrinks(8188, 1472, 1472); }
TEST(black_hole_from_ethernet_to_the_least) { shrinks(1472, 1200, 1200); }

/* Loss alone makes nobody think of a black hole, or of a size that does not come through. */
TEST(loss_is_no_black_hole) {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        world(seed, 8188, 0, 0);
        CHECK_SO_FAR();
        run(2 * SECOND);
        link_set(0, 0, 100000);
        link_set(1, 0, 100000);
        CHECK(transfer(1000000, 120 * SECOND));
        CHECK_INT(mtu(0), 8188);
        CHECK_INT(metric(0, P2P_METRIC_pmtu_black_holes), 0);
        world_end();
        CHECK_SO_FAR();
    }
}

/* A third of all datagrams is lost from the start: most find the largest size all the same, all
 * find Ethernet's, and none dies. */
TEST(lost_probes_are_repeated) {
    int top = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        world(seed, 8188, 0, 0);
        link_set(0, 0, 300000);
        link_set(1, 0, 300000);
        run(20 * SECOND);
        top += mtu(0) == 8188;
        CHECK(mtu(0) >= 1400);
        world_end();
        CHECK_SO_FAR();
    }
    CHECK(top >= 14);
}

/* A path that is down for a while is not a narrow one: nothing that could not be heard counts, and
 * the peer that is gone is not flooded with probes. */
TEST(an_outage_is_no_narrow_path) {
    uint64_t probes;
    world(1, 8188, 0, 0);
    link_set(0, 0, 1000000);
    link_set(1, 0, 1000000);
    run(15 * SECOND);
    probes = metric(0, P2P_METRIC_pmtu_probes);
    CHECK(probes < 30);
    link_set(0, 0, 0);
    link_set(1, 0, 0);
    run(5 * SECOND);
    CHECK_INT(mtu(0), 8188);
    world_end();
}

/* A path that became wider is found out after ten minutes. */
TEST(searches_again_after_ten_minutes) {
    world(1, 8188, 1472, 1472);
    run(5 * SECOND);
    CHECK_INT(mtu(0), 1472);
    link_set(0, 0, 0);
    run(590 * SECOND);
    CHECK_INT(mtu(0), 1472);
    run(15 * SECOND);
    CHECK_INT(mtu(0), 8188);
    world_end();
}

/* Runs: the first is a full datagram, the others are as long; what the kernel would cut where it
 * has UDP_SEGMENT, the simulator cuts. */
TEST(runs_of_equal_datagrams) {
    static uint8_t bytes[65507];
    p2p_packet packet;
    uint32_t longest = 0;
    world(1, 8188, 1472, 1472);
    run(3 * SECOND);
    ((p2p_node *)w.node[0])->desc.link.segments = 64;
    CHECK(transfer(2000000, 10 * SECOND));
    run(SECOND);
    w.total += 200000;
    pump(w.node[0]);
    memset(&packet, 0, sizeof packet);
    packet.data = bytes;
    packet.size = sizeof bytes;
    while (p2p_output(w.node[0], p2p_sim_now(w.sim), &packet) == 1) {
        uint32_t n = packet.segment ? (uint32_t)(packet.size - 1) / packet.segment + 1 : 1;
        longest = n > longest ? n : longest;
        CHECK(packet.segment == 0 || packet.segment == 1472);
        packet.size = sizeof bytes;
    }
    CHECK(longest >= 8);
    p2p_sim_close(w.sim);
}

/* Pacing lets a millisecond's worth go at once and then waits until that is over, rather than for
 * every packet. */
TEST(paced_packets_leave_in_bursts) {
    static uint8_t bytes[65507];
    p2p_packet packet;
    uint32_t wakes = 0, datagrams = 0, first = 0;
    uint64_t now_us;
    p2p_node *node;
    world(1, 1472, 1472, 1472);
    CHECK_SO_FAR();
    node = w.node[0];
    for (int i = 0; i < 2; i++) {
        p2p_sim_link link;
        CHECK_INT(p2p_sim_link_get(w.sim, &w.id[i], &w.id[1 - i], &link), 0);
        link.rate_bps = 200000000;
        link.latency_us = 5 * MS;
        CHECK_INT(p2p_sim_link_set(w.sim, &w.id[i], &w.id[1 - i], &link), 0);
    }
    run(SECOND);
    CHECK(transfer(20000000, 10 * SECOND));
    w.total += 1000000;
    pump(node);
    now_us = p2p_sim_now(w.sim);
    while (wakes < 3) {
        uint32_t before = datagrams;
        uint64_t next_us;
        (void)p2p_poll(node, now_us);
        do {
            memset(&packet, 0, sizeof packet);
            packet.data = bytes;
            packet.size = sizeof bytes;
            datagrams++;
        } while (p2p_output(node, now_us, &packet) == 1);
        datagrams--;
        if (datagrams == before)
            break; /* the window is full */
        if (wakes++ == 0)
            first = datagrams; /* after a pause more may leave */
        next_us = p2p_wakeup(node);
        now_us = next_us > now_us ? next_us : now_us + 1;
    }
    CHECK_INT(wakes, 3);
    CHECK(datagrams - first >= 3 * (wakes - 1));
    p2p_sim_close(w.sim);
}

TEST_MAIN(P2P_TEST_ENTRY(wide_links_are_found_at_once), P2P_TEST_ENTRY(ethernet_is_found),
          P2P_TEST_ENTRY(tunnels_are_found_nearly), P2P_TEST_ENTRY(each_way_has_its_own),
          P2P_TEST_ENTRY(little_is_not_searched_for),
          P2P_TEST_ENTRY(a_transfer_does_not_wait_for_the_search),
          P2P_TEST_ENTRY(first_requests_come_before_the_search), P2P_TEST_ENTRY(the_peer_bounds_it),
          P2P_TEST_ENTRY(black_hole_from_jumbo_to_ethernet),
          P2P_TEST_ENTRY(black_hole_from_ethernet_to_the_least),
          P2P_TEST_ENTRY(loss_is_no_black_hole), P2P_TEST_ENTRY(lost_probes_are_repeated),
          P2P_TEST_ENTRY(an_outage_is_no_narrow_path),
          P2P_TEST_ENTRY(searches_again_after_ten_minutes), P2P_TEST_ENTRY(runs_of_equal_datagrams),
          P2P_TEST_ENTRY(paced_packets_leave_in_bursts))
