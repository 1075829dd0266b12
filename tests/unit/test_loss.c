/* >>loss: numbers, acknowledgements, round trips, losses and probes against RFC 9002 and
 * against models that are too simple to be wrong. */
#include "bare.h"

static p2p_stream stream;

static uint64_t counter(uint32_t metric) { return node->metrics.value[metric]; }

/* An open connection with room to send, a stream, and nothing on its way. */
static p2p__session *sender(void) {
    p2p__session *s = dial_open();
    p2p_stream_desc desc;
    uint8_t out[1500];
    memset(&desc, 0, sizeof desc);
    if (!s || p2p_stream_open(node, conn, &desc, &stream) < 0)
        return NULL;
    p2p__cc_open(&s->cc, P2P__CC_RENO, 1200);
    s->rtt.sampled = 1;
    s->rtt.min_us = s->rtt.smoothed_us = 100000;
    s->rtt.variance_us = 5000;
    p2p__conn_get(node, conn)->send_limit = 1u << 30;
    p2p__stream_get(node, stream)->send.limit = 1u << 30;
    while (leaves(out, NULL))
        continue;
    p2p__packets_clear(node, s);
    s->control = 0;
    return s;
}

/* The peer's acknowledgement of [first, last], as packet number `number`; how late it says it is. */
static void give_late_ack(const p2p__session *s, uint64_t number, uint64_t first, uint64_t last,
                          uint64_t delay_us) {
    uint8_t packet[64];
    p2p__range range;
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    range.first = first;
    range.last = last;
    p2p__put_varint(&w, number);
    p2p__put_ack(&w, &range, 1, delay_us);
    give(s, packet, (size_t)(w.at - packet));
}
static void give_ack(const p2p__session *s, uint64_t number, uint64_t first, uint64_t last) {
    give_late_ack(s, number, first, last, 0);
}

/* One small packet of the stream's leaves; its number. */
static uint64_t send_small(const p2p__session *s) {
    uint8_t out[1500];
    if (p2p_stream_write(node, stream, "abcd", 4) != 4)
        return P2P_NEVER;
    (void)p2p_poll(node, node->now_us + 2000);
    while (leaves(out, NULL))
        continue;
    return s->next_number - 1;
}

/* ---- what is acknowledged */
static uint32_t ranges_naive(const uint8_t *seen, uint64_t top, p2p__range *out) {
    uint64_t low = top > P2P__WINDOW ? top - P2P__WINDOW : 0, at = top;
    uint32_t n = 0;
    while (at > low && n < P2P__ACK_RANGES) {
        if (!seen[at - 1]) {
            at--;
            continue;
        }
        out[n].last = at - 1;
        while (at > low && seen[at - 1])
            at--;
        out[n++].first = at;
    }
    return n;
}
TEST(ack_ranges_as_a_naive_model) {
    static p2p_node still;
    static p2p__session s;
    static uint8_t seen[16384];
    for (int i = 0; i < test_seeds(200); i++) {
        unit_rng rng = {test_seed()};
        uint64_t at = 0, run = 1 + unit_below(&rng, 100);
        memset(&s, 0, sizeof s);
        memset(seen, 0, sizeof seen);
        for (int n = 0; n < 400; n++) {
            p2p__range got[P2P__ACK_RANGES], want[P2P__ACK_RANGES];
            uint64_t number = at + unit_below(&rng, run), back = unit_below(&rng, 1500);
            uint32_t count;
            int old;
            if (unit_below(&rng, 4) == 0)
                number = at > back ? at - back : 0;
            if (unit_below(&rng, 60) == 0)
                number = at + unit_below(&rng, 2000);
            if (number >= sizeof seen)
                break;
            old = number >= s.seen_top ? 0 : s.seen_top - number > P2P__WINDOW ? 2 : seen[number];
            CHECK_INT(p2p__seen_before(&s, number), old);
            if (old)
                continue;
            p2p__seen_note(&still, &s, number, false);
            seen[number] = 1;
            at = P2P__MAX(at, number + 1);
            CHECK_INT(s.seen_top, at);
            count = p2p__ack_ranges(&s, got);
            CHECK_INT(count, ranges_naive(seen, at, want));
            CHECK_BYTES(got, want, count * sizeof *got);
        }
    }
}

/* ---- time, RFC 9002 section 5 and 6.2 */
TEST(round_trips_as_rfc_9002) {
    for (int i = 0; i < test_seeds(100); i++) {
        unit_rng rng = {test_seed()};
        p2p__rtt rtt;
        uint64_t srtt = 0, var = 0, least = P2P_NEVER;
        memset(&rtt, 0, sizeof rtt);
        for (int n = 0; n < 100; n++) {
            uint64_t sample = unit_below(&rng, 400000), delay = unit_below(&rng, 25001), adjusted;
            p2p__rtt_sample(&rtt, sample, delay);
            least = P2P__MIN(least, sample);
            if (n == 0) {
                srtt = sample;
                var = sample / 2;
            } else {
                adjusted = sample >= least + delay ? sample - delay : sample;
                var = (3 * var + (srtt > adjusted ? srtt - adjusted : adjusted - srtt)) / 4;
                srtt = (7 * srtt + adjusted) / 8;
            }
            CHECK_INT(rtt.smoothed_us, srtt);
            CHECK_INT(rtt.variance_us, var);
            CHECK_INT(rtt.min_us, least);
            CHECK_INT(rtt.latest_us, sample);
        }
    }
}
/* Of the delay that the peer says, no more counts than it may take (RFC 9002, 5.3): or it could make
 * the round trip as short as it likes. */
TEST(a_delay_counts_up_to_its_limit) {
    for (uint64_t delay_us = 10000; delay_us <= 90000; delay_us += 80000) {
        p2p__session *s = sender();
        uint64_t number, counts = P2P__MIN(delay_us, (uint64_t)P2P__ACK_DELAY_US);
        CHECK(s);
        s->rtt.min_us = 1000;
        number = send_small(s);
        (void)p2p_poll(node, node->flight.packets[s->packet_last].sent_us + 100000 - 1000);
        give_late_ack(s, 2, number, number, delay_us);
        CHECK_INT(s->rtt.latest_us, 100000);
        CHECK_INT(s->rtt.smoothed_us, (7 * 100000 + (100000 - counts)) / 8);
        p2p_node_close(node);
    }
}
TEST(probes_wait_twice_as_long_each_time) {
    static p2p__session s;
    memset(&s, 0, sizeof s);
    s.rtt.smoothed_us = 40000;
    s.rtt.variance_us = 10000;
    CHECK_INT(p2p__pto_us(&s), 40000 + 40000 + P2P__ACK_DELAY_US);
    s.pto_count = 3;
    CHECK_INT(p2p__pto_us(&s), 8 * (80000 + P2P__ACK_DELAY_US));
    s.pto_count = 100;
    CHECK_INT(p2p__pto_us(&s), P2P__PTO_MAX_US);
    s.rtt.smoothed_us = 3000000;
    CHECK_INT(p2p__pto_us(&s), 3040000 + P2P__ACK_DELAY_US);
    s.rtt.smoothed_us = s.rtt.variance_us = s.pto_count = 0;
    CHECK_INT(p2p__pto_us(&s), 1000 + P2P__ACK_DELAY_US);
}

/* ---- loss */
TEST(three_numbers_later_is_lost) {
    p2p__session *s = sender();
    uint64_t first;
    CHECK(s);
    first = send_small(s);
    for (int i = 1; i < 4; i++)
        CHECK_INT(send_small(s), first + (uint64_t)i);
    give_ack(s, 2, first + 1, first + 2);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 0);
    CHECK(s->loss_us > node->now_us);
    give_ack(s, 3, first + 1, first + 3);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 1);
    CHECK_INT(counter(P2P_METRIC_persistent_congestion), 0);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}
TEST(older_than_nine_eighths_of_a_round_trip_is_lost) {
    p2p__session *s = sender();
    uint64_t first, at;
    CHECK(s);
    first = send_small(s);
    CHECK_INT(send_small(s), first + 1);
    give_ack(s, 2, first + 1, first + 1);
    at = s->loss_us;
    CHECK(at > node->now_us);
    (void)p2p_poll(node, at - 1);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 0);
    (void)p2p_poll(node, at);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 1);
    p2p_node_close(node);
}

/* Whichever number the first lost packet has, one loss is no persistent congestion. */
TEST(one_lost_packet_is_no_persistent_congestion) {
    for (uint64_t start = 0; start < 4; start++) {
        p2p__session *s = sender();
        uint64_t first;
        CHECK(s);
        p2p__packets_clear(node, s);
        p2p__stream_get(node, stream)->send.lost = 0;
        s->next_number = start;
        s->acked_number = 0;
        node->now_us += 10000000;
        s->heard_us = node->now_us;
        first = send_small(s);
        for (int i = 1; i < 5; i++)
            (void)send_small(s);
        give_ack(s, 2, first + 1, first + 4);
        CHECK_INT(counter(P2P_METRIC_packets_lost), 1);
        CHECK_INT(counter(P2P_METRIC_persistent_congestion), 0);
        CHECK(s->cc.now.window_bytes > 2u * s->cc.datagram_bytes);
        p2p_node_close(node);
    }
}

/* RFC 9002 section 7.6: lost over more than three probe timeouts, in a row. */
TEST(persistent_congestion_falls_to_two_datagrams) {
    p2p__session *s = sender();
    uint64_t first, window = s ? s->cc.now.window_bytes : 0, back = 6;
    uint16_t at;
    CHECK(s);
    node->now_us = s->heard_us = 20000000;
    first = send_small(s);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT(send_small(s), first + 1 + i);
    for (at = s->packet_first; at != P2P__NIL; at = node->flight.packets[at].next)
        node->flight.packets[at].sent_us -= back-- * p2p__pto_base_us(s);
    give_ack(s, 3, first + 6, first + 6);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 6);
    CHECK_INT(counter(P2P_METRIC_persistent_congestion), 1);
    CHECK_INT(s->cc.now.window_bytes, 2u * s->cc.datagram_bytes);
    CHECK(s->cc.now.threshold_bytes >= window / 2);
    p2p_node_close(node);
}

/* Every record of a packet is used, and all those packets are lost: a probe still leaves. */
TEST(a_full_table_still_probes) {
    p2p__session *s = sender();
    uint8_t out[1500];
    uint64_t last;
    CHECK(s);
    s->cc.now.window_bytes = 1u << 30;
    for (uint32_t i = 0; i < 600 && p2p__packet_allowed(node, s); i++)
        CHECK(send_small(s) != P2P_NEVER);
    CHECK(!p2p__packet_allowed(node, s));
    last = s->next_number;
    CHECK_INT(leaves(out, NULL), 0);
    (void)p2p_poll(node, p2p__loss_deadline(s));
    CHECK(counter(P2P_METRIC_pto_fired) > 0);
    CHECK(leaves(out, NULL) > 0);
    CHECK(s->next_number > last);
    give_ack(s, 2, last, s->next_number - 1);
    CHECK_INT(p2p_check(node), P2P_OK);
    CHECK(p2p__packet_allowed(node, s));
    p2p_node_close(node);
}

/* What a lost packet said of the connection's window is said again, without waiting to be asked. */
TEST(a_lost_window_is_said_again) {
    p2p__session *s = sender();
    uint64_t first;
    CHECK(s);
    s->control |= P2P__CONTROL_MAX_DATA;
    first = send_small(s);
    CHECK_INT(s->control & P2P__CONTROL_MAX_DATA, 0);
    for (int i = 0; i < 3; i++)
        CHECK(send_small(s) != P2P_NEVER);
    give_ack(s, 2, first + 1, first + 3);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 1);
    CHECK_INT(s->control & P2P__CONTROL_MAX_DATA, P2P__CONTROL_MAX_DATA);
    p2p_node_close(node);
}

/* A probe timeout lets two packets leave: one that is lost costs no second timeout. */
TEST(two_packets_probe) {
    p2p__session *s = sender();
    uint8_t out[1500];
    CHECK(s);
    CHECK(send_small(s) != P2P_NEVER);
    CHECK(send_small(s) != P2P_NEVER);
    (void)p2p_poll(node, p2p__loss_deadline(s));
    CHECK(leaves(out, NULL) > 0);
    CHECK(leaves(out, NULL) > 0);
    CHECK_INT(leaves(out, NULL), 0);
    p2p_node_close(node);
}

/* What is acknowledged ends the doubling: the next probe waits a single probe timeout again. */
TEST(an_acknowledgement_ends_the_doubling) {
    p2p__session *s = sender();
    uint8_t out[1500];
    uint64_t first;
    CHECK(s);
    first = send_small(s);
    for (uint32_t i = 1; i <= 3; i++) {
        (void)p2p_poll(node, p2p__loss_deadline(s));
        while (leaves(out, NULL))
            continue;
        CHECK_INT(s->pto_count, i);
    }
    CHECK_INT(p2p__loss_deadline(s) - s->elicited_us, 8 * p2p__pto_base_us(s));
    give_ack(s, 2, first, s->next_number - 1);
    CHECK_INT(p2p__loss_deadline(s), P2P_NEVER);
    CHECK(send_small(s) != P2P_NEVER);
    CHECK_INT(p2p__loss_deadline(s) - s->elicited_us, p2p__pto_base_us(s));
    p2p_node_close(node);
}

/* ---- the table of packets */
TEST(no_session_takes_another_ones_quota) {
    for (int i = 0; i < test_seeds(20); i++) {
        unit_rng rng = {test_seed()};
        p2p__session *one = sender(), two;
        uint16_t mine[600], theirs[600];
        uint32_t a = 0, b = 0, quota;
        CHECK(one);
        memset(&two, 0, sizeof two);
        p2p__packets_clear(node, one);
        quota = node->flight.quota;
        for (int n = 0; n < 3000; n++) {
            p2p__session *s = unit_below(&rng, 3) ? one : &two;
            uint32_t *count = s == one ? &a : &b;
            uint16_t *list = s == one ? mine : theirs;
            if (unit_below(&rng, 5) < 3 && p2p__packet_allowed(node, s))
                list[(*count)++] = p2p__packet_take(node, s);
            else if (*count)
                p2p__packet_give(node, s, list[--*count]);
            CHECK_INT(node->flight.packets_used, a + b);
            CHECK_INT(node->flight.shared_used,
                      (a > quota ? a - quota : 0) + (b > quota ? b - quota : 0));
            CHECK(a >= quota || p2p__packet_allowed(node, one));
            CHECK(b >= quota || p2p__packet_allowed(node, &two));
        }
        while (a)
            p2p__packet_give(node, one, mine[--a]);
        while (b)
            p2p__packet_give(node, &two, theirs[--b]);
        CHECK_INT(p2p_check(node), P2P_OK);
        p2p_node_close(node);
    }
}

/* ---- losses that were none */
TEST(late_packets_bring_the_window_back) {
    p2p__session *s = sender();
    uint64_t first;
    uint32_t window;
    CHECK(s);
    window = s->cc.now.window_bytes;
    first = send_small(s);
    for (int i = 1; i < 10; i++)
        (void)send_small(s);
    give_ack(s, 2, first + 2, first + 5);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 2);
    CHECK_INT(s->cc.now.window_bytes, window / 2);
    give_ack(s, 3, first + 1, first + 5);
    CHECK_INT(counter(P2P_METRIC_spurious_losses), 1);
    CHECK_INT(s->cc.now.window_bytes, window / 2);
    give_ack(s, 4, first, first + 5);
    CHECK_INT(counter(P2P_METRIC_spurious_losses), 2);
    CHECK_INT(s->cc.now.window_bytes, window);
    give_ack(s, 5, first, first + 5); /* said again: counted once */
    CHECK_INT(counter(P2P_METRIC_spurious_losses), 2);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}
TEST(packets_that_overtake_once_may_do_so_again) {
    p2p__session *s = sender();
    uint64_t first;
    CHECK(s);
    first = send_small(s);
    for (int i = 1; i < 30; i++)
        (void)send_small(s);
    give_ack(s, 2, first + 1, first + 5);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 1);
    give_ack(s, 3, first, first + 5);
    CHECK_INT(s->reorder, 6);
    give_ack(s, 4, first + 7, first + 11);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 1);
    give_ack(s, 5, first + 7, first + 12);
    CHECK_INT(counter(P2P_METRIC_packets_lost), 2);
    p2p_node_close(node);
}

/* Against a set of numbers: what is found is lost and not found before, and never too much. */
TEST(lost_runs_as_a_naive_model) {
    for (int i = 0; i < test_seeds(200); i++) {
        static p2p__session s;
        static uint8_t lost[4096];
        unit_rng rng = {test_seed()};
        uint32_t base = (uint32_t)unit_u64(&rng), at = 0, runs = 0, forgotten = 0;
        memset(&s, 0, sizeof s);
        memset(lost, 0, sizeof lost);
        while (at < 3000) {
            uint32_t run = 1 + (uint32_t)unit_below(&rng, 40);
            at += 1 + (uint32_t)unit_below(&rng, 200);
            if (++runs > P2P__LOST_RUNS)
                break;
            for (; run > 0; run--) {
                lost[at] = 1;
                p2p__lost_note(&s, base + at++);
            }
        }
        for (int n = 0; n < 50; n++) {
            uint32_t first = (uint32_t)unit_below(&rng, 3500), got = 0, want = 0;
            uint32_t last = first + (uint32_t)unit_below(&rng, 300);
            for (uint32_t k = 0; k < P2P__LOST_RUNS; k++)
                got += p2p__lost_found(&s.lost[k], base + first, base + last);
            for (uint32_t k = first; k <= last; k++) {
                want += lost[k];
                lost[k] = 0;
            }
            CHECK(got <= want);
            forgotten += want - got;
        }
        for (uint32_t k = 0; k < P2P__LOST_RUNS; k++)
            for (uint32_t n = 0; n < s.lost[k].count; n++)
                CHECK_INT(lost[s.lost[k].first + n - base], 1);
        CHECK(forgotten < 300); /* only what a hole in the middle of a run cuts off */
    }
}

#ifndef P2P_NO_BBR
/* A question now and then, each longer than a round trip after the one before: what BBR learns of it
 * is no rate of the path. */
TEST(questions_now_and_then_do_not_end_startup) {
    p2p__session *s = sender();
    CHECK(s != NULL);
    CHECK_SO_FAR();
    p2p__cc_open(&s->cc, P2P__CC_BBR, 1200);
    for (int i = 0; i < 20; i++) {
        uint64_t n = send_small(s);
        (void)p2p_poll(node, node->now_us + 50000);
        give_ack(s, 1000 + (uint64_t)i, n, n);
        (void)p2p_poll(node, node->now_us + 200000);
        CHECK_INT(s->in_flight_bytes, 0);
    }
    CHECK(p2p__bbr_bw(&s->cc.bbr) > 0);
    CHECK_INT(s->cc.bbr.full, 0);
    CHECK_INT(s->cc.bbr.state, P2P__BBR_STARTUP);
}
#define BBR_TESTS P2P_TEST_ENTRY(questions_now_and_then_do_not_end_startup),
#else
#define BBR_TESTS
#endif

TEST_MAIN(BBR_TESTS P2P_TEST_ENTRY(ack_ranges_as_a_naive_model),
          P2P_TEST_ENTRY(round_trips_as_rfc_9002),
          P2P_TEST_ENTRY(probes_wait_twice_as_long_each_time),
          P2P_TEST_ENTRY(three_numbers_later_is_lost),
          P2P_TEST_ENTRY(older_than_nine_eighths_of_a_round_trip_is_lost),
          P2P_TEST_ENTRY(one_lost_packet_is_no_persistent_congestion),
          P2P_TEST_ENTRY(persistent_congestion_falls_to_two_datagrams),
          P2P_TEST_ENTRY(a_full_table_still_probes), P2P_TEST_ENTRY(a_delay_counts_up_to_its_limit),
          P2P_TEST_ENTRY(a_lost_window_is_said_again), P2P_TEST_ENTRY(two_packets_probe),
          P2P_TEST_ENTRY(an_acknowledgement_ends_the_doubling),
          P2P_TEST_ENTRY(no_session_takes_another_ones_quota),
          P2P_TEST_ENTRY(late_packets_bring_the_window_back),
          P2P_TEST_ENTRY(packets_that_overtake_once_may_do_so_again),
          P2P_TEST_ENTRY(lost_runs_as_a_naive_model))
