/* >>cc: the controllers against the arithmetic of their RFCs, and BBR against a model of a path:
 * one bottleneck, one queue, exact times. */
#include "unit.h"

enum { DATAGRAM = 1200, RTT_US = 50000 };

static p2p__cc cc;
static uint64_t now_us, number;

static void begin(uint32_t kind) {
    now_us = 1000000;
    number = 0;
    p2p__cc_open(&cc, kind, DATAGRAM);
}

/* An acknowledgement, now, of bytes of which the newest left at sent_us. */
static void acked(uint64_t sent_us, uint32_t bytes, uint32_t rtt_us, bool limited) {
    p2p__ack ack;
    memset(&ack, 0, sizeof ack);
    ack.now_us = now_us;
    ack.next_number = number + 1;
    ack.bytes = bytes;
    ack.rtt_us = rtt_us;
    ack.smoothed_us = RTT_US;
    ack.newest.sent_us = sent_us;
    ack.newest.number = number;
    ack.newest.limited = limited;
    p2p__cc_acked(&cc, &ack);
}

static void lost(uint64_t sent_us) { (void)p2p__cc_lost(&cc, DATAGRAM, sent_us, now_us); }

/* ---- NewReno, RFC 9002 section 7 */
TEST(newreno_grows_and_halves) {
    begin(P2P__CC_RENO);
    CHECK_INT(cc.now.window_bytes, 12000);
    acked(now_us, 1200, 0, true);
    CHECK_INT(cc.now.window_bytes, 12000);
    acked(now_us, 1200, 0, false);
    CHECK_INT(cc.now.window_bytes, 13200);
    now_us = 2000000;
    lost(1900000);
    CHECK_INT(cc.now.window_bytes, 6600);
    CHECK_INT(cc.now.threshold_bytes, 6600);
    now_us = 2010000;
    lost(2000000); /* sent before the first reaction: the same loss */
    acked(2000000, 1200, 0, false);
    CHECK_INT(cc.now.window_bytes, 6600);
    for (int i = 0; i < 5; i++)
        acked(2000001, 1200, 0, false);
    CHECK_INT(cc.now.window_bytes, 6600);
    acked(2000001, 600, 0, false); /* a window was acknowledged: one datagram more */
    CHECK_INT(cc.now.window_bytes, 7800);
    for (int i = 1; i < 10; i++) {
        now_us += 100;
        lost(now_us - 50);
    }
    CHECK_INT(cc.now.window_bytes, 2400);
    p2p__cc_open(&cc, P2P__CC_RENO, 9000);
    CHECK_INT(cc.now.window_bytes, 18000);
}
TEST(windows_stay_below_their_bound) {
    for (uint32_t kind = P2P__CC_CUBIC; kind <= P2P__CC_RENO; kind++) {
        if (!p2p__cc_built(kind))
            continue;
        begin(kind);
        for (int i = 0; i < 200; i++)
            acked(now_us, 100u << 20, 0, false);
        CHECK_INT(cc.now.window_bytes, P2P__CC_MAX);
        lost(now_us);
        now_us += 100000;
        for (int i = 0; i < 200; i++) {
            now_us += 10000000;
            acked(now_us, 100u << 20, RTT_US, false);
        }
        CHECK(cc.now.window_bytes <= P2P__CC_MAX);
        CHECK(cc.rate > 0);
    }
}

/* ---- pacing */
static uint64_t send_paced(uint32_t packets, uint64_t *idle_us) {
    p2p__packet packet;
    uint64_t start = now_us;
    memset(&packet, 0, sizeof packet);
    packet.bytes = DATAGRAM;
    for (uint32_t i = 0; i < packets; i++) {
        packet.sent_us = now_us;
        p2p__cc_sent(&cc, &packet, false);
        if (cc.pace_us > now_us)
            *idle_us += cc.pace_us - now_us;
        now_us = P2P__MAX(now_us, cc.pace_us);
    }
    return now_us - start;
}
TEST(pacing_spreads_a_window_over_a_round_trip) {
    uint64_t took, idle = 0;
    begin(P2P__CC_RENO);
    cc.now.window_bytes = cc.now.threshold_bytes = 120000;
    acked(now_us, 1, 0, true);
    took = send_paced(125, &idle); /* 5/4 of a window: 125 datagrams in a round trip */
    CHECK(took > RTT_US * 85 / 100 && took <= RTT_US);
    now_us += 1000000; /* what was not used is lost but for ten datagrams */
    idle = 0;
    took = send_paced(9, &idle);
    CHECK_INT(idle, 0);
    took = send_paced(10, &idle);
    CHECK(took >= 10 * (RTT_US * 4 / 5 / 100) - 400);
}
/* After a pause at most ten datagrams leave at once, or what the rate gives in 5 ms: docs/SPEC.md. */
TEST(bursts_are_bounded) {
    for (uint64_t gap_us = 50; gap_us < 100000; gap_us += gap_us / 5) {
        p2p__packet packet;
        uint32_t n = 0;
        begin(P2P__CC_RENO);
        cc.rate = (uint32_t)(UINT64_C(1000000) * DATAGRAM / gap_us);
        memset(&packet, 0, sizeof packet);
        packet.bytes = DATAGRAM;
        packet.sent_us = now_us;
        for (; cc.pace_us <= now_us + P2P__BURST_US; n++)
            p2p__cc_sent(&cc, &packet, n == 0);
        CHECK(n >= 9);
        CHECK(n <= P2P__MAX(10u, 5000 / gap_us + 1));
    }
}
TEST(pacing_knows_every_rate) {
    for (int i = 0; i < test_seeds(100); i++) {
        unit_rng rng = {test_seed()};
        uint64_t took, idle = 0, want;
        begin(P2P__CC_RENO);
        cc.rate = (uint32_t)unit_spread(&rng, UINT32_MAX - 1) + 1;
        (void)send_paced(10, &idle);
        took = send_paced(1000, &idle);
        want = 1000 * (uint64_t)DATAGRAM * 1000000 / cc.rate;
        CHECK(took <= want + 1 && took + P2P__MAX(want / 100, P2P__CATCH_UP_US) + 1 >= want);
    }
}

/* ---- undo */
TEST(a_loss_that_was_none_is_undone) {
    for (uint32_t kind = P2P__CC_CUBIC; kind <= P2P__CC_RENO; kind++) {
        if (!p2p__cc_built(kind))
            continue;
        p2p__curve before;
        begin(kind);
        cc.now.window_bytes = cc.now.threshold_bytes = 120000;
        acked(now_us, 1200, 0, false);
        before = cc.now;
        now_us += RTT_US;
        lost(now_us - 10);
        lost(now_us - 5);
        CHECK(cc.now.window_bytes < before.window_bytes);
        p2p__cc_found(&cc, 1);
        CHECK(cc.now.window_bytes < before.window_bytes);
        p2p__cc_found(&cc, 1);
        CHECK_BYTES(&cc.now, &before, sizeof before);
        lost(now_us + 10); /* a real one halves again */
        CHECK(cc.now.window_bytes < before.window_bytes);
        p2p__cc_collapsed(&cc);
        p2p__cc_found(&cc, 1); /* but after a collapse nothing comes back */
        CHECK_INT(cc.now.window_bytes, 2 * DATAGRAM);
    }
}

#ifndef P2P_NO_CUBIC
/* ---- CUBIC, RFC 9438 */
TEST(cube_roots) {
    for (int i = 0; i < test_seeds(300); i++) {
        unit_rng rng = {test_seed()};
        uint64_t x = unit_spread(&rng, UINT64_C(1) << 59), root = p2p__cube_root(x);
        CHECK(root * root * root <= x);
        CHECK((root + 1) * (root + 1) * (root + 1) > x);
    }
}

/* Figures 1 and 2 of the RFC, in floating point. */
static double cubic_bytes(double seconds, double k, double top) {
    double d = seconds - k;
    return (0.4 * d * d * d * DATAGRAM) + top;
}
static double cube_root_double(double x) {
    double r = x > 1 ? x : 1;
    for (int i = 0; i < 200; i++)
        r = (2 * r + x / (r * r)) / 3;
    return r;
}
TEST(the_curve_of_section_4_2) {
    for (int i = 0; i < test_seeds(100); i++) {
        unit_rng rng = {test_seed()};
        uint32_t window = (uint32_t)(20 * DATAGRAM + unit_below(&rng, 4000 * DATAGRAM));
        double k, want;
        begin(P2P__CC_CUBIC);
        cc.now.window_bytes = cc.now.threshold_bytes = window;
        lost(now_us - 1);
        CHECK_INT(cc.now.window_bytes, (uint64_t)window * 70 / 100);
        CHECK_INT(cc.now.top_bytes, window);
        now_us += RTT_US;
        acked(now_us, DATAGRAM, RTT_US, false);
        k = cube_root_double((double)(window - cc.now.threshold_bytes) / DATAGRAM / 0.4);
        CHECK(cc.now.top_ms <= k * 1000 + 1 && cc.now.top_ms + 2 >= k * 1000);
        for (uint64_t ms = 0; ms < 20000; ms += 100) {
            double got = p2p__cubic_at(&cc, ms * 1000);
            want = cubic_bytes((double)ms / 1000, k, window);
            if (want > P2P__CC_MAX)
                break;
            CHECK(got > want * 0.99 - 2 * DATAGRAM && got < want * 1.01 + 2 * DATAGRAM);
        }
    }
}

/* A round trip's acknowledgements, two datagrams each, of all that the window lets out. */
static void round_trip(uint64_t rtt_us) {
    uint32_t window = cc.now.window_bytes, n = window / (2 * DATAGRAM), i;
    for (i = 0; i < n; i++) {
        now_us += rtt_us / n;
        acked(now_us, 2 * DATAGRAM, (uint32_t)rtt_us, false);
    }
}
TEST(the_window_follows_the_curve) {
    uint64_t lost_at;
    double k;
    begin(P2P__CC_CUBIC);
    cc.now.window_bytes = cc.now.threshold_bytes = 1000 * DATAGRAM;
    lost(now_us - 1);
    k = cube_root_double(300 / 0.4);
    now_us += 1;
    lost_at = now_us;
    while (now_us - lost_at < 12000000) {
        double at = (double)(now_us - lost_at) / 1e6, want = cubic_bytes(at, k, 1000.0 * DATAGRAM);
        CHECK(cc.now.window_bytes > want * 0.97 && cc.now.window_bytes < want * 1.03);
        round_trip(RTT_US);
    }
    CHECK(cc.now.window_bytes > 1000 * DATAGRAM);
}

/* Section 4.3: on short paths the curve is slower than NewReno, and the window is its estimate:
 * 9/17 of a datagram a round trip until it is what it was, then one. */
TEST(the_reno_friendly_region) {
    double want;
    begin(P2P__CC_CUBIC);
    cc.now.window_bytes = cc.now.threshold_bytes = 40 * DATAGRAM;
    lost(now_us - 1);
    want = 28 * DATAGRAM;
    now_us += 1;
    for (int i = 0; i < 60; i++) {
        CHECK(cc.now.window_bytes > want - 2 * DATAGRAM &&
              cc.now.window_bytes < want + 2 * DATAGRAM);
        want += want < 40 * DATAGRAM ? DATAGRAM * 9 / 17.0 : DATAGRAM;
        round_trip(1000);
    }
    CHECK(cc.now.window_bytes > 70 * DATAGRAM);
}
TEST(fast_convergence) {
    begin(P2P__CC_CUBIC);
    cc.now.window_bytes = cc.now.threshold_bytes = 100 * DATAGRAM;
    lost(now_us - 1);
    CHECK_INT(cc.now.top_bytes, 100 * DATAGRAM);
    now_us += 10;
    lost(now_us - 1); /* before it was back at the top: room for others */
    CHECK_INT(cc.now.top_bytes, 70 * DATAGRAM * 85 / 100);
    CHECK_INT(cc.now.window_bytes, 49 * DATAGRAM);
}
TEST(no_time_passes_while_the_application_is_slow) {
    uint32_t window;
    begin(P2P__CC_CUBIC);
    cc.now.window_bytes = cc.now.threshold_bytes = 1000 * DATAGRAM;
    lost(now_us - 1);
    now_us += 1;
    round_trip(RTT_US);
    window = cc.now.window_bytes;
    for (int i = 0; i < 100; i++) {
        now_us += 200000;
        acked(now_us, DATAGRAM, RTT_US, true);
    }
    CHECK_INT(cc.now.window_bytes, window);
    round_trip(RTT_US);
    CHECK(cc.now.window_bytes <
          window + window / 20); /* 20 s of curve would be half as much more */
}

/* ---- HyStart++, RFC 9406 */
static void slow_start_round(uint32_t rtt_us) {
    uint32_t n = cc.now.window_bytes / (2 * DATAGRAM);
    number += 2; /* the first acknowledgement begins a round */
    for (uint32_t i = 0; i < n; i++) {
        now_us += rtt_us / n;
        acked(now_us, 2 * DATAGRAM, rtt_us, false);
    }
}
TEST(hystart_leaves_slow_start_when_round_trips_grow) {
    uint32_t window;
    begin(P2P__CC_CUBIC);
    for (int i = 0; i < 4; i++) {
        window = cc.now.window_bytes;
        slow_start_round(RTT_US);
        CHECK(cc.now.window_bytes > window * 19 / 10);
    }
    window = cc.now.window_bytes;
    slow_start_round(RTT_US + 5000); /* less than an eighth more */
    CHECK(cc.now.window_bytes > window * 19 / 10);
    window = cc.now.window_bytes;
    slow_start_round(RTT_US + 15000);
    CHECK(cc.now.window_bytes < window * 14 / 10); /* a quarter of the growth */
    CHECK_INT(cc.now.threshold_bytes, UINT32_MAX);
    for (int i = 0; i < 5; i++)
        slow_start_round(RTT_US + 15000);
    CHECK(cc.now.threshold_bytes < UINT32_MAX);
    window = cc.now.window_bytes;
    slow_start_round(RTT_US + 15000);
    CHECK(cc.now.window_bytes < window * 11 / 10);
}
TEST(hystart_goes_on_when_they_shrink_again) {
    uint32_t window;
    begin(P2P__CC_CUBIC);
    for (int i = 0; i < 4; i++)
        slow_start_round(RTT_US);
    slow_start_round(RTT_US + 15000);
    slow_start_round(RTT_US);
    for (int i = 0; i < 6; i++) {
        window = cc.now.window_bytes;
        slow_start_round(RTT_US);
        CHECK(cc.now.window_bytes > window * 19 / 10);
    }
    CHECK_INT(cc.now.threshold_bytes, UINT32_MAX);
}
TEST(eight_samples_before_hystart_believes) {
    begin(P2P__CC_CUBIC);
    slow_start_round(RTT_US);
    slow_start_round(RTT_US);
    number += 2;
    for (int i = 0; i < 7; i++) {
        uint32_t window = cc.now.window_bytes;
        acked(now_us, 2 * DATAGRAM, 2 * RTT_US, false);
        CHECK_INT(cc.now.window_bytes, window + 2 * DATAGRAM);
    }
}
#define CUBIC_TESTS                                                                             \
    P2P_TEST_ENTRY(cube_roots), P2P_TEST_ENTRY(the_curve_of_section_4_2),                       \
        P2P_TEST_ENTRY(the_window_follows_the_curve), P2P_TEST_ENTRY(the_reno_friendly_region), \
        P2P_TEST_ENTRY(fast_convergence),                                                       \
        P2P_TEST_ENTRY(no_time_passes_while_the_application_is_slow),                           \
        P2P_TEST_ENTRY(hystart_leaves_slow_start_when_round_trips_grow),                        \
        P2P_TEST_ENTRY(hystart_goes_on_when_they_shrink_again),                                 \
        P2P_TEST_ENTRY(eight_samples_before_hystart_believes),
#else
#define CUBIC_TESTS
#endif

#ifndef P2P_NO_BBR
/* ---- BBR over a path: `rate` bytes a second, `rtt_us` without a queue, `queue` bytes of it */
enum { FLIGHT = 16384 };
static struct {
    uint32_t rate, rtt_us, queue, loss_percent;
    uint64_t lost_before; /* three of four packets with lower numbers are lost */
    uint64_t free_us_16;  /* the bottleneck is free again, in 16ths of a microsecond */
    struct {
        p2p__packet packet;
        uint64_t back_us; /* 0: lost */
    } flight[FLIGHT];
    uint64_t head, tail, in_flight, delivered, app_gap_us, app_at_us, dry;
    unit_rng rng;
    uint32_t seen[8], changes; /* how often each state was entered */
    uint64_t entered_us[8];
    uint8_t state;
    uint32_t min_in_flight;
} path;

static void path_begin(uint64_t seed, uint32_t rate, uint32_t rtt_us, uint32_t queue) {
    memset(&path, 0, sizeof path);
    path.rate = rate;
    path.rtt_us = rtt_us;
    path.queue = queue;
    path.rng.state = seed;
    begin(P2P__CC_BBR);
    path.free_us_16 = now_us * 16;
}

static void path_send(void) {
    p2p__packet *packet = &path.flight[path.tail % FLIGHT].packet;
    uint64_t line_16 = (uint64_t)DATAGRAM * 16000000 / path.rate, start = now_us * 16;
    uint64_t backlog = path.free_us_16 > start ? path.free_us_16 - start : 0;
    bool drop = backlog / 16 * path.rate / 1000000 + DATAGRAM > path.queue;
    memset(packet, 0, sizeof *packet);
    packet->number = number++;
    packet->sent_us = now_us;
    packet->bytes = DATAGRAM;
    packet->limited = path.head <= path.dry;
    p2p__cc_sent(&cc, packet, path.in_flight == 0);
    drop = drop || (packet->number < path.lost_before && packet->number % 4 != 0);
    drop = drop || unit_below(&path.rng, 100) < path.loss_percent;
    if (!drop)
        path.free_us_16 = start + backlog + line_16;
    path.flight[path.tail++ % FLIGHT].back_us = drop ? 0 : path.free_us_16 / 16 + path.rtt_us;
    path.in_flight += DATAGRAM;
}

/* The oldest packet that arrived is acknowledged, and lost ones before it are known as such. */
static void path_ack(void) {
    p2p__ack ack;
    memset(&ack, 0, sizeof ack);
    while (path.flight[path.head % FLIGHT].back_us == 0) {
        lost(path.flight[path.head % FLIGHT].packet.sent_us);
        path.in_flight -= DATAGRAM;
        path.head++;
    }
    ack.newest = path.flight[path.head++ % FLIGHT].packet;
    path.in_flight -= DATAGRAM;
    path.delivered += DATAGRAM;
    ack.now_us = now_us;
    ack.next_number = number;
    ack.bytes = DATAGRAM;
    ack.in_flight = (uint32_t)path.in_flight;
    ack.rtt_us = (uint32_t)(now_us - ack.newest.sent_us);
    ack.smoothed_us = path.rtt_us;
    p2p__cc_acked(&cc, &ack);
    path.min_in_flight = P2P__MIN(path.min_in_flight, (uint32_t)path.in_flight);
    if (cc.bbr.state == path.state)
        return;
    path.state = cc.bbr.state;
    path.entered_us[path.state] = now_us;
    path.seen[path.state]++;
    path.changes++;
}

static uint64_t path_next_ack(void) {
    for (uint64_t at = path.head; at < path.tail; at++)
        if (path.flight[at % FLIGHT].back_us)
            return path.flight[at % FLIGHT].back_us;
    return P2P_NEVER;
}

/* Lets time pass until the state is entered or the time is over: whether it was. */
static bool path_run(uint64_t us, int until_state) {
    uint64_t end = now_us + us;
    uint32_t seen = until_state >= 0 ? path.seen[until_state] : 0;
    while (now_us < end && (until_state < 0 || path.seen[until_state] == seen)) {
        bool room = path.in_flight + DATAGRAM <= cc.now.window_bytes || path.in_flight == 0;
        uint64_t at = path_next_ack(), send_us = P2P__MAX(cc.pace_us, path.app_at_us);
        if (room && cc.pace_us <= now_us && path.app_at_us > now_us)
            path.dry = path.tail; /* the window is open and the application has nothing */
        if (room && send_us <= now_us) {
            path_send();
            path.app_at_us = now_us + path.app_gap_us;
            continue;
        }
        if (at == P2P_NEVER) { /* everything was lost: a probe */
            now_us += 4 * path.rtt_us;
            path_send();
            continue;
        }
        now_us = room ? P2P__MIN(at, send_us) : at;
        if (now_us >= at)
            path_ack();
    }
    return until_state >= 0 && path.seen[until_state] > seen;
}

static uint32_t path_fill(void) { return (uint32_t)((uint64_t)path.rate * path.rtt_us / 1000000); }

TEST(startup_ends_at_the_plateau_and_drains) {
    path_begin(1, 12500000, RTT_US, 1 << 22);
    CHECK_INT(cc.bbr.state, P2P__BBR_STARTUP);
    CHECK(path_run(1000000, P2P__BBR_DRAIN));
    CHECK(now_us < 1000000 + 16 * RTT_US);
    CHECK(cc.bbr.bw[0] > path.rate / 100 * 98 && cc.bbr.bw[0] < path.rate / 100 * 102);
    CHECK(cc.rate < path.rate / 2);
    CHECK(path.in_flight > path_fill() * 3 / 2);
    CHECK(path_run(1000000, P2P__BBR_CRUISE));
    CHECK(path.in_flight <= path_fill() + 2 * DATAGRAM);
    CHECK_INT(cc.bbr.min_rtt_us, RTT_US + 96);
}
/* Three of four of the first packets are lost: more than a tenth of all that are sent in the round
 * trips after them, in which the rate doubles nevertheless. */
TEST(startup_goes_on_after_a_lossy_first_flight) {
    path_begin(1, 12500000, RTT_US, 1 << 20);
    path.lost_before = 24;
    CHECK(path_run(3000000, P2P__BBR_DRAIN));
    CHECK(cc.bbr.bw[0] > path.rate / 100 * 95);
}
TEST(startup_of_a_slow_application_goes_on) {
    path_begin(1, 12500000, RTT_US, 1 << 20);
    path.app_gap_us = 2000;
    (void)path_run(3000000, -1);
    CHECK_INT(cc.bbr.state, P2P__BBR_STARTUP);
    CHECK(cc.bbr.bw[0] > 550000 && cc.bbr.bw[0] < 650000);
    path.app_gap_us = 0;
    CHECK(path_run(1000000, P2P__BBR_CRUISE));
    CHECK(cc.bbr.bw[0] > path.rate / 100 * 97);
}
/* What a slow application sends says nothing about the path, however long it is slow. */
TEST(a_slow_application_does_not_make_the_path_slow) {
    static const uint64_t gaps_us[] = {2000, 20000, 4 * RTT_US};
    for (int i = 0; i < 3; i++) {
        path_begin(1, 12500000, RTT_US, 1 << 20);
        CHECK(path_run(2000000, P2P__BBR_CRUISE));
        path.app_gap_us = gaps_us[i];
        (void)path_run(30000000, -1);
        CHECK(p2p__bbr_bw(&cc.bbr) > path.rate / 100 * 95);
        path.app_gap_us = 0;
        (void)path_run(4 * RTT_US, -1);
        path.delivered = 0;
        (void)path_run(1000000, -1);
        CHECK(path.delivered > (uint64_t)path.rate * 90 / 100);
    }
}

/* The path gets slower, and its queue takes all that the window lets out: no loss says so, and round
 * trips of nothing but queue must not make the window larger still. */
TEST(a_slower_path_with_an_endless_queue_is_believed) {
    path_begin(1, 12500000, RTT_US, 1 << 24);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    path.rate /= 4;
    (void)path_run(12000000, -1);
    CHECK(p2p__bbr_bw(&cc.bbr) < path.rate / 100 * 105);
    CHECK(cc.bbr.min_rtt_us < RTT_US * 11 / 10);
    CHECK(path.in_flight < 2 * path_fill());
}
TEST(probe_bw_goes_round) {
    uint64_t up, cruise;
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    for (int i = 0; i < 3; i++) {
        cruise = now_us;
        CHECK(path_run(4000000, P2P__BBR_REFILL));
        CHECK(now_us - cruise > 1800000 && now_us - cruise < 3200000);
        CHECK(path_run(3 * RTT_US, P2P__BBR_UP));
        up = now_us;
        CHECK(path_run(1000000, P2P__BBR_DOWN));
        CHECK(now_us - up > RTT_US && now_us - up < 4 * RTT_US);
        CHECK(path_run(1000000, P2P__BBR_CRUISE));
        CHECK(path.in_flight <= path_fill() + 2 * DATAGRAM);
    }
    path.delivered = 0;
    (void)path_run(10000000, -1);
    CHECK(path.delivered > (uint64_t)path.rate * 98 / 10);
    CHECK_INT(path.seen[P2P__BBR_PROBE_RTT], 0); /* every DOWN shows the path without a queue */
}
TEST(a_faster_path_is_found_and_a_slower_one_believed) {
    path_begin(1, 1250000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    path.rate = 12500000;
    (void)path_run(12000000, -1);
    CHECK(p2p__bbr_bw(&cc.bbr) > path.rate / 100 * 95);
    path.rate = 1250000;
    (void)path_run(20000000, -1);
    CHECK(p2p__bbr_bw(&cc.bbr) < path.rate / 100 * 105);
}
TEST(probe_rtt_finds_a_longer_path) {
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    path.rtt_us = 2 * RTT_US;
    CHECK(path_run(8000000, P2P__BBR_PROBE_RTT));
    path.min_in_flight = UINT32_MAX;
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    CHECK(now_us - path.entered_us[P2P__BBR_PROBE_RTT] >= 200000);
    CHECK(path.min_in_flight <= path_fill() / 4 + 2 * DATAGRAM); /* half of what it knew */
    CHECK_INT(cc.bbr.min_rtt_us, 2 * RTT_US + 96);
    path.delivered = 0;
    (void)path_run(4000000, -1);
    CHECK(path.delivered > (uint64_t)path.rate * 4 * 90 / 100);
}
/* Acknowledgements without a round trip, of packets below one that was acknowledged before, are all
 * that comes while PROBE_RTT lasts: what was known stays. */
TEST(probe_rtt_without_a_sample_changes_nothing) {
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    path.rtt_us = 2 * RTT_US;
    CHECK(path_run(8000000, P2P__BBR_PROBE_RTT));
    for (int i = 0; i < 40 && cc.bbr.state == P2P__BBR_PROBE_RTT; i++) {
        now_us += 10000;
        number++;
        acked(now_us - RTT_US, DATAGRAM, 0, false);
    }
    CHECK(cc.bbr.state != P2P__BBR_PROBE_RTT);
    CHECK(cc.bbr.min_rtt_us <= 2 * RTT_US + 96);
}
TEST(five_percent_of_random_loss_is_no_congestion) {
    for (int i = 0; i < test_seeds(20); i++) {
        path_begin(test_seed(), 12500000, RTT_US, 1 << 20);
        path.loss_percent = 5;
        (void)path_run(10000000, -1);
        CHECK_INT(cc.bbr.bw_short, P2P__BBR_NO_BOUND);
        path.delivered = 0;
        (void)path_run(10000000, -1);
        CHECK(path.delivered > (uint64_t)path.rate * 10 * 90 / 100);
    }
}
TEST(heavy_loss_bounds_the_rate_until_the_next_probe) {
    uint32_t bw;
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    bw = p2p__bbr_bw(&cc.bbr);
    path.loss_percent = 20;
    (void)path_run(4 * RTT_US, -1);
    CHECK(p2p__bbr_bw(&cc.bbr) < bw / 100 * 95);
    path.loss_percent = 0;
    CHECK(path_run(4000000, P2P__BBR_UP));
    CHECK_INT(cc.bbr.bw_short, P2P__BBR_NO_BOUND);
}

/* A path that lost nothing until a queue stood. */
TEST(any_loss_beside_a_queue_gives_way) {
    uint32_t bw;
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    bw = p2p__bbr_bw(&cc.bbr);
    (void)path_run(10 * RTT_US, -1);
    CHECK_INT(p2p__bbr_bw(&cc.bbr), bw);
    path.loss_percent = 1;
    path.rtt_us = 2 * RTT_US; /* somebody else's packets */
    (void)path_run(8 * RTT_US, -1);
    CHECK(p2p__bbr_bw(&cc.bbr) < bw / 100 * 86);
    CHECK(p2p__bbr_bw(&cc.bbr) > bw / 100 * 20);
}
/* But what the path lost without a queue as well says nothing about the queue. */
TEST(random_loss_beside_a_queue_does_not_give_way) {
    uint32_t bw;
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    bw = p2p__bbr_bw(&cc.bbr);
    path.loss_percent = 1;
    (void)path_run(20 * RTT_US, -1);
    CHECK(cc.bbr.random_loss > 50 && cc.bbr.random_loss < 200);
    path.rtt_us = 2 * RTT_US;
    (void)path_run(8 * RTT_US, -1);
    CHECK_INT(cc.bbr.state, P2P__BBR_CRUISE);
    CHECK_INT(p2p__bbr_bw(&cc.bbr), bw);
    path.loss_percent = 5; /* more than that is the queue's again */
    (void)path_run(8 * RTT_US, -1);
    CHECK(p2p__bbr_bw(&cc.bbr) < bw / 100 * 86);
}
/* Loss in the queue of a probe: the bound is what gets through, or less where nothing is lost at
 * random, for those who share the queue. */
TEST(loss_after_a_probe_leaves_room_on_clean_paths) {
    for (uint32_t percent = 0; percent <= 1; percent++) {
        path_begin(1, 12500000, RTT_US, 1 << 20);
        path.loss_percent = percent;
        CHECK(path_run(4000000, P2P__BBR_UP));
        path.free_us_16 += (uint64_t)16 * 40000;
        CHECK(path_run(8 * RTT_US, P2P__BBR_DOWN));
        path.loss_percent = 8;
        (void)path_run(5 * RTT_US, -1);
        CHECK_INT(cc.bbr.state, P2P__BBR_DOWN);
        CHECK(cc.bbr.bw_short > path.rate / 100 * (percent ? 88 : 70));
        CHECK(cc.bbr.bw_short < path.rate / 100 * (percent ? 105 : 80));
    }
}
/* 1 % is held back, by the sender or by the path. */
TEST(random_loss_is_not_held_back_twice) {
    uint32_t bw;
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    (void)path_run(2 * RTT_US, -1);
    bw = p2p__bbr_bw(&cc.bbr);
    CHECK_INT(cc.bbr.random_loss, 0);
    CHECK_INT(cc.rate, (uint64_t)bw * 99 / 100);
    path.loss_percent = 5;
    (void)path_run(20 * RTT_US, -1);
    CHECK_INT(cc.bbr.state, P2P__BBR_CRUISE);
    CHECK_INT(cc.rate, bw);
}
TEST(heavy_loss_of_a_probe_bounds_what_is_in_flight) {
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_UP) || path_run(2000000, P2P__BBR_UP));
    path.loss_percent = 20;
    CHECK(path_run(4 * RTT_US, P2P__BBR_DOWN));
    CHECK(cc.bbr.inflight_max < 2 * path_fill());
    path.loss_percent = 0;
    for (int i = 0; i < 3; i++) /* later probes without loss lift it */
        CHECK(path_run(5000000, P2P__BBR_DOWN));
    CHECK(cc.bbr.inflight_max > 2 * path_fill());
}
TEST(spurious_losses_leave_no_bounds) {
    path_begin(1, 12500000, RTT_US, 1 << 20);
    CHECK(path_run(2000000, P2P__BBR_CRUISE));
    path.loss_percent = 20;
    (void)path_run(4 * RTT_US, -1);
    CHECK(cc.bbr.bw_short != P2P__BBR_NO_BOUND);
    p2p__cc_found(&cc, cc.lost_packets);
    CHECK_INT(cc.bbr.bw_short, P2P__BBR_NO_BOUND);
    CHECK_INT(cc.bbr.inflight_max, P2P__BBR_NO_BOUND);
}

/* A queue of 5 % of the path: no collapse, and not more than a probe's worth is lost. */
TEST(a_shallow_queue_is_enough) {
    uint64_t first;
    path_begin(1, 12500000, RTT_US, 625000 / 20);
    (void)path_run(5000000, -1);
    path.delivered = 0;
    first = path.head;
    (void)path_run(20000000, -1);
    CHECK(path.delivered > (uint64_t)path.rate * 20 * 93 / 100);
    CHECK((path.head - first) * DATAGRAM < path.delivered / 100 * 104);
}

/* From 20 KB/s to 2 GB/s and from 100 us to 2 s: no overflow, and most of the path is used. */
TEST(every_path) {
    for (int i = 0; i < test_seeds(30); i++) {
        unit_rng rng = {test_seed()};
        uint32_t rtt = 100u << unit_below(&rng, 15), rate = 20000u << unit_below(&rng, 17);
        while ((uint64_t)rate * rtt / 1000000 > 2000u * DATAGRAM)
            rate /= 2;
        path_begin(test_seed(), rate, rtt,
                   P2P__MAX((uint32_t)((uint64_t)rate * rtt / 1000000), 20u * DATAGRAM));
        (void)path_run(P2P__MAX(60u * (uint64_t)rtt, 2000u * (uint64_t)DATAGRAM * 1000000 / rate),
                       -1);
        path.delivered = 0;
        {
            uint64_t us =
                P2P__MAX(20u * (uint64_t)rtt, 2000u * (uint64_t)DATAGRAM * 1000000 / rate);
            (void)path_run(us, -1);
            CHECK(path.delivered > (uint64_t)rate * us / 1000000 * 80 / 100);
        }
    }
}
#define BBR_TESTS                                                         \
    P2P_TEST_ENTRY(startup_ends_at_the_plateau_and_drains),               \
        P2P_TEST_ENTRY(startup_goes_on_after_a_lossy_first_flight),       \
        P2P_TEST_ENTRY(startup_of_a_slow_application_goes_on),            \
        P2P_TEST_ENTRY(a_slow_application_does_not_make_the_path_slow),   \
        P2P_TEST_ENTRY(a_slower_path_with_an_endless_queue_is_believed),  \
        P2P_TEST_ENTRY(probe_bw_goes_round),                              \
        P2P_TEST_ENTRY(a_faster_path_is_found_and_a_slower_one_believed), \
        P2P_TEST_ENTRY(probe_rtt_without_a_sample_changes_nothing),       \
        P2P_TEST_ENTRY(probe_rtt_finds_a_longer_path),                    \
        P2P_TEST_ENTRY(five_percent_of_random_loss_is_no_congestion),     \
        P2P_TEST_ENTRY(heavy_loss_bounds_the_rate_until_the_next_probe),  \
        P2P_TEST_ENTRY(any_loss_beside_a_queue_gives_way),                \
        P2P_TEST_ENTRY(random_loss_beside_a_queue_does_not_give_way),     \
        P2P_TEST_ENTRY(loss_after_a_probe_leaves_room_on_clean_paths),    \
        P2P_TEST_ENTRY(random_loss_is_not_held_back_twice),               \
        P2P_TEST_ENTRY(heavy_loss_of_a_probe_bounds_what_is_in_flight),   \
        P2P_TEST_ENTRY(spurious_losses_leave_no_bounds),                  \
        P2P_TEST_ENTRY(a_shallow_queue_is_enough), P2P_TEST_ENTRY(every_path),
#else
#define BBR_TESTS
#endif

TEST_MAIN(CUBIC_TESTS BBR_TESTS P2P_TEST_ENTRY(newreno_grows_and_halves),
          P2P_TEST_ENTRY(windows_stay_below_their_bound),
          P2P_TEST_ENTRY(pacing_spreads_a_window_over_a_round_trip),
          P2P_TEST_ENTRY(bursts_are_bounded), P2P_TEST_ENTRY(pacing_knows_every_rate),
          P2P_TEST_ENTRY(a_loss_that_was_none_is_undone))
