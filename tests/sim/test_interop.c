/* The transport cases of the QUIC interop runner and of picoquic, restated over our frames: one
 * client, one server, a link of 15 ms one way and 10 Mbit/s with a queue of 25 packets, unless said.
 *
 *     SEEDS=1000 build/tests/sim/test_interop         all of them: make interop
 *     build/tests/sim/test_interop blackhole          one case
 *
 * Every case runs over the null channel with the default congestion controller, a tenth as often
 * with each of the controllers, and a hundredth as often with DTLS; each prints the median and the
 * worst time to completion. All of them are tried before a case fails, and each seed that failed
 * is named. */
#include "pair.h"

enum variant { PLAIN, DTLS, BBR, CUBIC, NEWRENO };
enum { TIMES_MAX = 100000, GOODPUT_KBIT = 9200 };
typedef uint64_t (*case_fn)(uint64_t seed, int dtls, int congestion);
static uint64_t times[TIMES_MAX];

static int earlier(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static int seeds_of(int variant) {
    static const int share[] = {1, 100, 10, 10, 10};
    int n = (test_seeds(20) + share[variant] - 1) / share[variant];
    return n < TIMES_MAX ? n : TIMES_MAX;
}

/* Runs a case over its seeds. A case gives its completion time, or fails. */
static void repeat(case_fn run, int variant) {
    static const int controller[] = {0, 0, 1, 2, 3};
    int seeds = seeds_of(variant), good = 0, bad = 0;
    for (int i = 0; i < seeds && bad < 10; i++) {
        uint64_t us = run(test_seed(), variant == DTLS, controller[variant]);
        pair_close();
        if (!test_state.failed)
            times[good++] = us;
        bad += test_state.failed;
        test_state.failed = 0;
    }
    test_state.failed = bad != 0;
    qsort(times, (size_t)good, sizeof *times, earlier);
    printf("%-28s %4d seeds, %d failed", test_state.name, good + bad, bad);
    if (good)
        printf(", median %.3f s, worst %.3f s", (double)times[good / 2] / 1e6,
               (double)times[good - 1] / 1e6);
    printf("\n");
}

/* ---- downloads in one connection ---- */

static void begin(uint64_t seed, int dtls) {
    pair_open(seed, dtls);
    CHECK_SO_FAR();
    pair_dial();
}

/* All is here in time, over the one connection that there was from the start. */
static void expect_done(uint64_t by_us) {
    if (!pair_run(pair_done, by_us))
        pair_break("not done in time", P2P_ERR_TIMEOUT);
    CHECK(pair_well());
    CHECK_INT(pair.up[CLIENT], 1);
    CHECK_INT(pair.down[CLIENT] + pair.down[SERVER], 0);
}

static uint64_t transfer_of(uint64_t seed, int dtls, uint64_t size, uint64_t by_us) {
    begin(seed, dtls);
    if (!test_state.failed)
        pair_want(size);
    if (!test_state.failed)
        expect_done(by_us);
    return pair.done_us;
}

static void loss(uint32_t ppm) {
    pair.link.loss_ppm = ppm;
    pair.link.burst_max = 3;
}

static void corruption(uint32_t ppm) {
    pair.link.corrupt_ppm = ppm;
    pair.link.corrupt_head = 50;
    pair.link.burst_max = 3;
}

static uint64_t transferloss(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    loss(20000);
    return transfer_of(seed, dtls, 2000000, 60 * SECOND);
}

static uint64_t transfercorruption(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    corruption(20000);
    return transfer_of(seed, dtls, 2000000, 60 * SECOND);
}

/* The interop runner allows 60 s; a window that stayed at its first 64 KB would take over 30. */
static uint64_t longrtt(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    pair.link.latency_us = 750 * MS;
    return transfer_of(seed, dtls, 1000000, 25 * SECOND);
}

/* Three at a time through buffers of 16 KB: a window's worth of each is under way at most. */
static uint64_t transfer(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    pair.desc[CLIENT].bytes.stream_recv = pair.desc[SERVER].bytes.peer_send = 16384;
    pair.desc[SERVER].max.peer_streams = 16; /* four of them bidirectional */
    begin(seed, dtls);
    for (uint64_t size = 2; size <= 5 && !test_state.failed; size += size - 1)
        pair_want(size * 1000000);
    if (!test_state.failed)
        expect_done(60 * SECOND);
    return pair.done_us;
}

/* No more than a thousand at a time: the others wait until the server grants them. */
static uint64_t multiplexing(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    pair.desc[CLIENT].max.streams = 1999;
    pair.desc[SERVER].max.peer_streams = 1000;
    for (int i = 0; i < 2; i++) {
        p2p_desc *d = &pair.desc[i];
        d->bytes.stream_send = d->bytes.stream_recv = 64;
        d->bytes.peer_send = d->bytes.peer_recv = 64;
    }
    begin(seed, dtls);
    for (int i = 0; i < 1999 && !test_state.failed; i++)
        pair_want(32);
    if (!test_state.failed)
        expect_done(60 * SECOND);
    return pair.done_us;
}

static void expect_rate(uint64_t bytes, uint64_t us) {
    if (bytes * 8000 < us * GOODPUT_KBIT)
        printf("    %u kbit/s\n", (unsigned)(bytes * 8000 / us));
    CHECK(bytes * 8000 >= us * GOODPUT_KBIT);
}

/* 10 MiB at GOODPUT_KBIT, of the 10 Mbit/s that are counted in IP packets of at most 1500 bytes. */
static uint64_t goodput(uint64_t seed, int dtls, int congestion) {
    const uint64_t size = 10 << 20;
    pair_defaults(congestion);
    pair.link.queue_bytes = 25 * 1500;
    pair.link.mtu = pair.desc[CLIENT].link.mtu = pair.desc[SERVER].link.mtu = 1500 - 28;
    (void)transfer_of(seed, dtls, size, 60 * SECOND);
    pair.done_us -= pair.up_us[CLIENT];
    if (!test_state.failed)
        expect_rate(size, pair.done_us);
    return pair.done_us;
}

static void blackhole_run(void) {
    for (uint64_t at_us = 0; !pair_done() && at_us < 60 * SECOND; at_us += 7 * SECOND) {
        pair.link.loss_ppm = 0;
        pair_links();
        (void)pair_run(pair_done, at_us + 5 * SECOND);
        pair.link.loss_ppm = 1000000;
        pair_links();
        (void)pair_run(pair_done, at_us + 7 * SECOND);
    }
}

/* 5 s on, 2 s off, again and again. */
static uint64_t blackhole(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    begin(seed, dtls);
    if (!test_state.failed)
        pair_want(10000000);
    if (!test_state.failed)
        blackhole_run();
    if (!test_state.failed)
        expect_done(60 * SECOND);
    return pair.done_us;
}

/* ---- a bad time of 20 s, from a tenth of a second into the transfer, as picoquic has it: 4 MB
 * over 10 Mbit/s ---- */

static int never(void) { return pair.broken[0]; }
static int is_up(void) { return pair.up[CLIENT] || pair.broken[0]; }

static void bad_time(uint32_t loss_ppm) {
    if (!pair_run(is_up, 5 * SECOND))
        pair_break("no connection", P2P_ERR_TIMEOUT);
    CHECK(pair_well());
    (void)pair_run(pair_done, pair.up_us[CLIENT] + 100 * MS); /* picoquic's "ramp up" */
    pair.link.loss_ppm = loss_ppm;
    pair_links();
    (void)pair_run(pair_done, pair.up_us[CLIENT] + 20 * SECOND);
    pair.link.loss_ppm = 0;
    pair_links();
}

static uint64_t after_bad_time(uint64_t seed, int dtls, uint32_t loss_ppm, uint64_t size,
                               uint64_t by_us) {
    begin(seed, dtls);
    if (!test_state.failed)
        pair_want(size);
    if (!test_state.failed)
        bad_time(loss_ppm);
    if (!test_state.failed)
        expect_done(by_us);
    return pair.done_us;
}

/* Half of all datagrams are lost, both ways, at most 5 in a row, as picoquic's mask has it, and over
 * its 10 ms one way. 10 MiB take 8.4 s alone at its 10 Mbit/s, where it sends 4 MB: hence 100. A
 * controller that takes each loss for congestion is down to two packets a round trip at the end,
 * and needs 3 s more from there: it gets the 4 MB, and 30 s. */
static uint64_t heavyloss(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    if (congestion > 1)
        return after_bad_time(seed, dtls, 500000, 4000000, 30 * SECOND);
    pair.link.latency_us = 10 * MS;
    pair.link.rate_bps = 100000000;
    pair.link.burst_max = 5;
    return after_bad_time(seed, dtls, 500000, 10 << 20, 23500 * MS);
}

/* All are lost. Probes are up to 2 s apart, so that 3 s are left after the first that comes back:
 * enough for 10 MiB over 100 Mbit/s where the path is searched anew; the others get picoquic's 4 MB
 * over its 10 Mbit/s. */
static uint64_t totalloss(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    if (congestion > 1)
        return after_bad_time(seed, dtls, 1000000, 4000000, 25 * SECOND);
    pair.link.rate_bps = 100000000;
    return after_bad_time(seed, dtls, 1000000, 10 << 20, 25 * SECOND);
}

/* ---- a peer that vanishes ---- */

static int server_down(void) { return pair.down[SERVER] || pair.broken[0]; }

static void expect_silence(uint64_t at_us) {
    p2p_sim_stats before, after;
    (void)pair_run(pair_done, at_us);
    CHECK(pair_well());
    CHECK_INT(pair.up[SERVER], 1);
    CHECK_INT(p2p_sim_crash(pair.sim, &pair.id[CLIENT]), 0);
    pair.node[CLIENT] = NULL;
    p2p_sim_stats_get(pair.sim, &before);
    (void)pair_run(server_down, at_us + 31 * SECOND);
    p2p_sim_stats_get(pair.sim, &after);
    CHECK_INT(pair.down[SERVER], 1);
    CHECK_INT(pair.err[SERVER], P2P_ERR_TIMEOUT);
    CHECK(after.sent - before.sent <= 128);
    /* the last that it said arrives when it is gone already */
    CHECK(pair.down_us[SERVER] <= at_us + 30 * SECOND + 2 * pair.link.latency_us);
}

static uint64_t vanish(uint64_t seed, int dtls, int congestion) {
    uint64_t at_us = 200 * MS + seed % 3000 * MS;
    pair_defaults(congestion);
    begin(seed, dtls);
    if (!test_state.failed)
        pair_want(10000000);
    if (!test_state.failed)
        expect_silence(at_us);
    return pair.down_us[SERVER] - at_us;
}

/* ---- fifty connections, one after another ---- */

/* The only place is a stream's of one connection; when that is gone, the stream of another that
 * waits gets it. */
TEST(places_of_a_closed_connection) {
    p2p_stream held;
    pair_defaults(0);
    pair.desc[SERVER].max.peer_streams = 1;
    pair_open(1, 0);
    CHECK_SO_FAR();
    pair_dial();
    CHECK(pair_run(is_up, SECOND));
    p2p_conn first = pair.conn[CLIENT];
    CHECK_INT(p2p_stream_open(pair.node[CLIENT], first, NULL, &held), P2P_OK);
    CHECK_INT(p2p_stream_write(pair.node[CLIENT], held, "part", 4), 4); /* of what it asks for */
    CHECK(!pair_run(never, 2 * SECOND));
    CHECK_INT(pair.answers, 1);
    pair.up[CLIENT] = 0;
    pair_dial();
    CHECK(pair_run(is_up, 3 * SECOND));
    pair_want(1000);
    CHECK(!pair_run(pair_done, 6 * SECOND));
    CHECK_INT(pair.answers, 1);
    CHECK_INT(p2p_close(pair.node[CLIENT], first, 0, NULL), 0);
    CHECK(pair_run(pair_done, 7 * SECOND));
    pair_close();
}

static void one_way(int from, uint32_t loss_ppm) {
    CHECK_INT(p2p_sim_loss(pair.sim, &pair.id[from], &pair.id[!from], loss_ppm), 0);
}

/* The link of one side, lost but for a while in the middle. */
static void lost_from(int side, uint64_t from_us, uint64_t to_us) {
    CHECK_INT(p2p_sim_run_until(pair.sim, from_us), 0);
    one_way(side, 1000000);
    CHECK_INT(p2p_sim_run_until(pair.sim, to_us), 0);
    one_way(side, 0);
}

/* 300 ms one way: the server is ready at 0.9 s and waits for the client's proof for 10 s. The
 * client learns of that at 3.1 s, of the server's proof at some 8.5 s, and all that it says from
 * then on is lost. Then the server says that it waited in vain: the dial goes on. */
TEST(a_lost_proof_is_a_failed_attempt) {
    p2p_metrics m;
    pair_defaults(0);
    pair.link.latency_us = 300 * MS;
    pair.desc[CLIENT].time.connect_us = 60 * SECOND;
    pair_open(1, 0);
    CHECK_SO_FAR();
    pair_dial();
    lost_from(SERVER, 800 * MS, 2700 * MS);
    lost_from(SERVER, 2900 * MS, 8 * SECOND);
    lost_from(CLIENT, 8 * SECOND, 11500 * MS);
    p2p_metrics_get(pair.node[CLIENT], &m);
    CHECK_INT(m.value[P2P_METRIC_handshakes_started], 1); /* by itself it would have gone on */
    CHECK(pair_run(is_up, 60 * SECOND));
    CHECK_INT(pair.down[CLIENT], 0);
    pair_close();
}

static int is_over(void) { return pair.down[CLIENT] || pair_done(); }

static void one_connection(void) {
    uint64_t start_us = p2p_sim_now(pair.sim);
    pair.up[CLIENT] = pair.down[CLIENT] = 0;
    pair_dial();
    CHECK_SO_FAR();
    pair_want(1000);
    (void)pair_run(is_over, 300 * SECOND);
    if (pair.down[CLIENT])
        pair_break("the connection ended", pair.err[CLIENT]);
    CHECK(pair_well());
    CHECK(pair_done());
    CHECK(pair.up_us[CLIENT] - start_us <= 60 * SECOND);
    CHECK_INT(p2p_close(pair.node[CLIENT], pair.conn[CLIENT], 0, NULL), 0);
}

static uint64_t fifty(uint64_t seed, int dtls) {
    for (int i = 0; i < 2; i++) {
        p2p_desc *d = &pair.desc[i];
        d->max.conns = d->max.conns_per_peer = 50;
        d->max.streams = d->max.peer_streams = 50;
        d->bytes.stream_recv = d->bytes.peer_send = 1024;
        d->bytes.stream_send = d->bytes.peer_recv = 64;
        d->time.connect_us = 60 * SECOND;
    }
    pair_open(seed, dtls);
    for (int i = 0; i < 50 && !test_state.failed; i++)
        one_connection();
    return pair.done_us;
}

static uint64_t handshakeloss(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    loss(300000);
    return fifty(seed, dtls);
}

static uint64_t handshakecorruption(uint64_t seed, int dtls, int congestion) {
    pair_defaults(congestion);
    corruption(300000);
    return fifty(seed, dtls);
}

/* Seeds that found a dial that ended too early, or a stream that waited for ever. */
TEST(handshakes_as_they_once_failed) {
    static const uint64_t seeds[] = {448125585, 596773018, 784600574, 658607535};
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        (void)handshakeloss(seeds[i], 0, 0);
        CHECK_SO_FAR();
        (void)handshakecorruption(seeds[i], 0, 0);
        CHECK_SO_FAR();
    }
    pair_close();
}

#define CASES(X)           \
    X(handshakeloss)       \
    X(transferloss)        \
    X(handshakecorruption) \
    X(transfercorruption)  \
    X(blackhole)           \
    X(multiplexing) X(transfer) X(longrtt) X(goodput) X(heavyloss) X(totalloss) X(vanish)
#define CASE(name)                              \
    TEST(name) { repeat(name, PLAIN); }         \
    TEST(name##_dtls) { repeat(name, DTLS); }   \
    TEST(name##_bbr) { repeat(name, BBR); }     \
    TEST(name##_cubic) { repeat(name, CUBIC); } \
    TEST(name##_newreno) { repeat(name, NEWRENO); }
#define ENTRIES(name)                                                              \
    P2P_TEST_ENTRY(name), P2P_TEST_ENTRY(name##_dtls), P2P_TEST_ENTRY(name##_bbr), \
        P2P_TEST_ENTRY(name##_cubic), P2P_TEST_ENTRY(name##_newreno),
CASES(CASE)
static const test_entry all[] = {CASES(ENTRIES) P2P_TEST_ENTRY(places_of_a_closed_connection),
                                 P2P_TEST_ENTRY(a_lost_proof_is_a_failed_attempt),
                                 P2P_TEST_ENTRY(handshakes_as_they_once_failed)};
int main(int argc, char **argv) { return test_run_all(all, sizeof all / sizeof *all, argc, argv); }
