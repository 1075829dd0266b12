/* A download that fills its line, by each congestion controller, over a queue of 250 ms: those
 * that go by loss fill it, and with CoDel it comes down to about the target, 5 ms, while the line
 * stays busy. BBR fills none. */
#include "pair.h"

enum { BBR = 1, CUBIC, NEWRENO, RATE = 10000000, QUEUE = 312500 };

/* What the queue towards the client holds, in microseconds. */
static uint64_t queue_us(void) {
    const p2p_sim__edge *e = p2p_sim__edge_of(pair.sim, &pair.id[SERVER], &pair.id[CLIENT]);
    uint64_t now_ns = p2p_sim_now(pair.sim) * 1000;
    return e && e->busy_ns > now_ns ? (e->busy_ns - now_ns) / 1000 : 0;
}
/* The mean of the queue from the fourth second to the twelfth, and how much arrived meanwhile. */
static void download_over(int congestion, uint8_t codel, uint64_t *mean_us, uint64_t *bytes) {
    uint64_t sum = 0, n = 0, before = 0;
    pair_defaults(congestion);
    pair.link.queue_bytes = QUEUE;
    pair.link.rate_bps = RATE;
    pair.link.codel = codel;
    pair.desc[SERVER].bytes.peer_send = pair.desc[CLIENT].bytes.stream_recv = 1 << 20;
    pair_open(5, 0);
    CHECK_SO_FAR();
    pair_dial();
    pair_want((uint64_t)1 << 40);
    for (uint64_t t = 10 * MS; t < 12 * SECOND; t += 10 * MS) {
        CHECK(!pair_run(pair_done, t)); /* it never is */
        if (t < 4 * SECOND) {
            before = downloads[0].got;
            continue;
        }
        sum += queue_us();
        n++;
    }
    CHECK(pair_well());
    *mean_us = sum / n;
    *bytes = downloads[0].got - before;
    pair_close();
}
static void compare(int congestion, uint64_t full_us) {
    uint64_t tail_us, codel_us, tail_bytes, codel_bytes;
    download_over(congestion, 0, &tail_us, &tail_bytes);
    CHECK_SO_FAR();
    download_over(congestion, 1, &codel_us, &codel_bytes);
    CHECK_SO_FAR();
    CHECK(tail_us > full_us);
    CHECK(codel_us < 10 * MS && codel_us > 0);
    CHECK(codel_bytes > (uint64_t)RATE / 8 * 8 * 80 / 100); /* of 8 seconds, headers counted */
}
TEST(newreno) { compare(NEWRENO, 60 * MS); }
TEST(cubic) { compare(CUBIC, 150 * MS); }
TEST(bbr) { compare(BBR, 0); }
TEST_MAIN(P2P_TEST_ENTRY(newreno), P2P_TEST_ENTRY(cubic), P2P_TEST_ENTRY(bbr))
