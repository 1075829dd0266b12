/* >>loss and >>conn: when packets are acknowledged (RFC 9000 section 13.2). */
#include "bare.h"

enum { RTT = 80000 };
static uint64_t number; /* of the peer's next packet */

static uint64_t acks(void) { return node->metrics.value[P2P_METRIC_acks_sent]; }

/* Lets everything leave that may; the number of datagrams. */
static uint32_t leave(void) {
    uint8_t out[1500];
    uint32_t n = 0;
    (void)p2p_poll(node, node->now_us);
    while (leaves(out, NULL))
        n++;
    return n;
}

/* One of the peer's packets, with the frame of this type: MAX_DATA or PING. */
static void packet(const p2p__session *s, uint8_t type) {
    uint8_t bytes[16];
    uint64_t zero = 0;
    p2p__writer w = p2p__writer_of(bytes, sizeof bytes);
    p2p__put_varint(&w, number++);
    p2p__put_frame(&w, type, type == P2P__FRAME_MAX_DATA, &zero);
    give(s, bytes, (size_t)(w.at - bytes));
}

/* An open connection whose round trip is known, and that owes nothing. The clock moves by a
 * millisecond a packet that is given. */
static p2p__session *receiver(void) {
    p2p__session *s = dial_open();
    if (!s)
        return NULL;
    number = 2;
    s->rtt.sampled = 1;
    s->rtt.min_us = s->rtt.smoothed_us = RTT;
    s->rtt.variance_us = 1000;
    s->proof_by_us = P2P_NEVER;
    (void)p2p_poll(node, node->now_us + P2P__ACK_DELAY_US);
    (void)leave();
    p2p__packets_clear(node, s);
    s->control = 0;
    return s;
}

TEST(few_packets_two_an_ack) {
    p2p__session *s = receiver();
    uint64_t before;
    CHECK(s != NULL);
    before = acks();
    for (int i = 0; i < 10; i++) {
        (void)p2p_poll(node, node->now_us + RTT / 4);
        packet(s, P2P__FRAME_MAX_DATA);
        CHECK_INT(leave(), i & 1);
    }
    CHECK_INT(acks() - before, 5);
    p2p_node_close(node);
}

/* A lone packet waits for company, at most 25 ms; other packets wait for its ACK no shorter. */
TEST(one_packet_waits_25_ms) {
    p2p__session *s = receiver();
    uint64_t came, before;
    CHECK(s != NULL);
    before = acks();
    packet(s, P2P__FRAME_MAX_DATA);
    came = node->now_us;
    p2p__out_add(node, s); /* looked at, for whatever reason: the ACK alone is none to send one */
    CHECK_INT(leave(), 0);
    CHECK_INT(p2p_deadline(node), came + P2P__ACK_DELAY_US);
    (void)p2p_poll(node, came + P2P__ACK_DELAY_US - 1);
    CHECK_INT(leave(), 0);
    (void)p2p_poll(node, came + P2P__ACK_DELAY_US);
    CHECK_INT(leave(), 1);
    CHECK_INT(acks() - before, 1);
    p2p_node_close(node);
}

/* At 80 packets a round trip one ACK answers ten, from the second round trip on. */
TEST(many_packets_ten_an_ack) {
    p2p__session *s = receiver();
    uint64_t before;
    CHECK(s != NULL);
    for (int i = 0; i < 170; i++) { /* a millisecond each */
        packet(s, P2P__FRAME_MAX_DATA);
        (void)leave();
    }
    CHECK_INT(s->ack_every, 10);
    before = acks();
    for (int i = 0; i < 100; i++) {
        packet(s, P2P__FRAME_MAX_DATA);
        (void)leave();
    }
    CHECK_INT(acks() - before, 10);
    (void)p2p_poll(node, node->now_us + RTT / 4);
    (void)leave();
    /* The last of a burst wait a quarter of the round trip, not for a tenth packet. */
    for (int i = 0; i < 3; i++)
        packet(s, P2P__FRAME_MAX_DATA);
    CHECK_INT(leave(), 0);
    (void)p2p_poll(node, node->now_us + RTT / 4);
    CHECK_INT(leave(), 1);
    /* And when they become few, two are enough again. */
    for (int i = 0; i < 8; i++) {
        (void)p2p_poll(node, node->now_us + RTT / 2);
        packet(s, P2P__FRAME_MAX_DATA);
        (void)leave();
    }
    CHECK_INT(s->ack_every, 2);
    p2p_node_close(node);
}

/* Loss detection and path MTU discovery at the other end must not wait. */
TEST(gaps_and_pings_are_answered_at_once) {
    p2p__session *s = receiver();
    CHECK(s != NULL);
    for (int i = 0; i < 170; i++) {
        packet(s, P2P__FRAME_MAX_DATA);
        (void)leave();
    }
    (void)p2p_poll(node, node->now_us + RTT);
    (void)leave();
    packet(s, P2P__FRAME_MAX_DATA);
    CHECK_INT(leave(), 0);
    number++; /* one is missing */
    packet(s, P2P__FRAME_MAX_DATA);
    CHECK_INT(leave(), 1);
    packet(s, P2P__FRAME_MAX_DATA);
    CHECK_INT(leave(), 0);
    number -= 3; /* here it is */
    packet(s, P2P__FRAME_MAX_DATA);
    CHECK_INT(leave(), 1);
    number += 2;
    packet(s, P2P__FRAME_PING);
    CHECK_INT(leave(), 1);
    p2p_node_close(node);
}

/* What comes a second time was not seen to be acknowledged: its ACK is said again, once for several. */
TEST(a_lost_ack_is_said_again) {
    p2p__session *s = receiver();
    CHECK(s != NULL);
    packet(s, P2P__FRAME_MAX_DATA);
    packet(s, P2P__FRAME_MAX_DATA);
    CHECK_INT(leave(), 1);
    for (int i = 0; i < 2; i++) {
        number--;
        packet(s, P2P__FRAME_MAX_DATA);
    }
    CHECK_INT(node->metrics.value[P2P_METRIC_packets_duplicate], 2);
    CHECK_INT(leave(), 0);
    (void)p2p_poll(node, node->now_us + P2P__ACK_DELAY_US);
    CHECK_INT(leave(), 1);
    (void)p2p_poll(node, node->now_us + P2P__ACK_DELAY_US);
    CHECK_INT(leave(), 0);
    p2p_node_close(node);
}

/* Forty datagrams in one packet: one ACK. */
TEST(one_run_one_ack) {
    p2p__session *s = receiver();
    uint8_t run[40 * 11];
    uint64_t before;
    p2p_packet in;
    CHECK(s != NULL);
    before = acks();
    for (int i = 0; i < 40; i++) {
        run[i * 11] = P2P__DATA_TO_CLIENT;
        memcpy(run + i * 11 + 1, s->id, 8);
        run[i * 11 + 9] = (uint8_t)number++;
        run[i * 11 + 10] = P2P__FRAME_PING;
    }
    memset(&in, 0, sizeof in);
    in.remote = s->remote;
    in.data = run;
    in.size = sizeof run;
    in.segment = 11;
    CHECK_INT(p2p_input(node, node->now_us, &in), 1);
    CHECK_INT(leave(), 1);
    CHECK_INT(acks() - before, 1);
    CHECK_INT(s->unacked, 0);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(few_packets_two_an_ack), P2P_TEST_ENTRY(one_packet_waits_25_ms),
          P2P_TEST_ENTRY(many_packets_ten_an_ack),
          P2P_TEST_ENTRY(gaps_and_pings_are_answered_at_once),
          P2P_TEST_ENTRY(a_lost_ack_is_said_again), P2P_TEST_ENTRY(one_run_one_ack))
