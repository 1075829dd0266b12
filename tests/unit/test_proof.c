/* >>session: what a client takes before the server's proof, and what it takes for a proof. */
#include "bare.h"

TEST(done_counts_only_behind_the_proof) {
    p2p__session *s = dial();
    uint8_t packet[512], done[] = {0, P2P__FRAME_DONE};
    size_t size;
    CHECK(s);
    give(s, done, sizeof done);
    CHECK(!connected());
    CHECK_INT(s->state, P2P__SESSION_PROVING);
    size = proof_packet(1, -1, packet);
    give(s, packet, size);
    CHECK(s->peer_proved);
    CHECK(!connected());
    done[0] = 2;
    give(s, done, sizeof done);
    CHECK(connected());
    p2p_node_close(node);
}

/* Whatever bit of id or signature is changed: no connection, the attempt ends, the dial goes on. */
TEST(changed_proof_is_no_proof) {
    for (int wrong = 0; wrong < 96; wrong += 5) {
        p2p__session *s = dial();
        uint8_t packet[512], done[] = {2, P2P__FRAME_DONE};
        size_t size;
        CHECK(s);
        size = proof_packet(1, wrong, packet);
        give(s, packet, size);
        CHECK_INT(node->metrics.value[P2P_METRIC_auth_failed], 1);
        CHECK_INT(node->metrics.value[P2P_METRIC_restarts], 1);
        give(s, done, sizeof done);
        CHECK(!connected());
        CHECK(p2p__conn_get(node, conn)->state < P2P__CONN_OPEN);
        p2p_node_close(node);
    }
}

/* Data before the proof: dropped whole, not acknowledged, no fault; taken when it comes again. */
TEST(data_before_the_proof_is_not_acknowledged) {
    static const uint8_t stream[] = {3, P2P__FRAME_STREAM | P2P__STREAM_FIN, 1, 'x'};
    p2p__session *s = dial();
    uint8_t packet[512], done[] = {4, P2P__FRAME_DONE};
    size_t size;
    CHECK(s);
    give(s, stream, sizeof stream);
    CHECK_INT(node->metrics.value[P2P_METRIC_packets_before_proof], 1);
    CHECK_INT(p2p__seen_before(s, 3), 0);
    CHECK_INT(s->state, P2P__SESSION_PROVING);
    size = proof_packet(1, -1, packet);
    give(s, packet, size);
    give(s, done, sizeof done);
    give(s, stream, sizeof stream);
    CHECK_INT(p2p__seen_before(s, 3), 1);
    CHECK_INT(node->metrics.value[P2P_METRIC_streams_accepted], 1);
    p2p_node_close(node);
}

/* A CLOSE of who has proved nothing ends the attempt and not the dial. */
TEST(close_before_the_proof_ends_the_attempt_only) {
    static const uint8_t close[] = {0, P2P__FRAME_CLOSE, 0, P2P__CODE_REFUSED, 0};
    p2p__session *s = dial();
    p2p_event e;
    CHECK(s);
    give(s, close, sizeof close);
    while (p2p_next_event(node, &e) > 0)
        CHECK(e.type != P2P_EVENT_DISCONNECTED);
    CHECK(p2p__conn_get(node, conn)->state < P2P__CONN_OPEN);
    p2p_node_close(node);
}

/* Who answers and proves nothing costs a second, and its address is tried last from then on. */
TEST(a_proof_that_does_not_come_ends_the_attempt) {
    p2p__session *s = dial();
    uint64_t start;
    CHECK(s);
    start = node->now_us;
    (void)p2p_poll(node, start + 990000);
    CHECK_INT(node->metrics.value[P2P_METRIC_restarts], 0);
    (void)p2p_poll(node, start + 1010000);
    CHECK_INT(node->metrics.value[P2P_METRIC_restarts], 1);
    CHECK_INT(p2p__conn_get(node, conn)->addr_bad[0], 1);
    CHECK(!connected());
    p2p_node_close(node);
}

TEST(changed_hello_ends_the_attempt) {
    p2p__session *s = dial();
    uint8_t packet[512];
    size_t size;
    CHECK(s);
    size = proof_packet(0, 40, packet);
    size -= 97; /* the HELLO alone */
    give(s, packet, size);
    CHECK_INT(s->state, P2P__SESSION_PROVING);
    packet[0] = 1;
    packet[size - 1] ^= 1;
    give(s, packet, size);
    CHECK_INT(node->metrics.value[P2P_METRIC_restarts], 1);
    CHECK(!connected());
    p2p_node_close(node);
}

/* A server sends data behind DONE only: what overtakes it stands for it, so that an attempt that may
 * still be given up never holds bytes or streams of the peer's. */
TEST(data_stands_for_done) {
    static const uint8_t data[] = {2, P2P__FRAME_STREAM, 1, 'x'}, done[] = {3, P2P__FRAME_DONE};
    uint8_t packet[512], close[] = {4, P2P__FRAME_CLOSE, 0, P2P__CODE_DUPLICATE, 0};
    p2p__session *s = dial();
    p2p_event e;
    uint32_t closed = 0;
    CHECK(s);
    give(s, packet, proof_packet(1, -1, packet));
    CHECK(!connected());
    give(s, data, sizeof data);
    CHECK(connected());
    CHECK_INT(s->state, P2P__SESSION_OPEN);
    give(s, done, sizeof done);
    CHECK_INT(p2p_check(node), 0);
    give(s, close, sizeof close);
    while (p2p_next_event(node, &e) > 0)
        closed += e.type == P2P_EVENT_DISCONNECTED;
    CHECK_INT(closed, 1);
    CHECK_INT(p2p_check(node), 0);
    p2p_node_close(node);
}

/* Our proof waits for the peer's own dial, so it can have let nobody in: neither DONE nor data of
 * this session counts. */
TEST(nothing_counts_while_the_proof_is_withheld) {
    static const uint8_t done[] = {2, P2P__FRAME_DONE}, data[] = {3, P2P__FRAME_STREAM, 1, 'x'};
    uint8_t packet[512], id[8] = {5};
    p2p__session *s = dial(), *other;
    CHECK(s);
    other = p2p__session_take(node, true, id, true);
    CHECK(other);
    other->peer = server_key.id;
    node->unproven--;
    p2p__session_wait(other, P2P__WAIT_DONE_ACKED, P2P_NEVER);
    give(s, packet, proof_packet(1, -1, packet));
    CHECK(s->peer_proved && s->withheld);
    give(s, done, sizeof done);
    give(s, data, sizeof data);
    CHECK(!connected());
    CHECK_INT(s->state, P2P__SESSION_PROVING);
    CHECK(!p2p__seen_before(s, 3));
    CHECK_INT(p2p_check(node), 0);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(done_counts_only_behind_the_proof),
          P2P_TEST_ENTRY(changed_proof_is_no_proof),
          P2P_TEST_ENTRY(data_before_the_proof_is_not_acknowledged),
          P2P_TEST_ENTRY(close_before_the_proof_ends_the_attempt_only),
          P2P_TEST_ENTRY(a_proof_that_does_not_come_ends_the_attempt),
          P2P_TEST_ENTRY(changed_hello_ends_the_attempt), P2P_TEST_ENTRY(data_stands_for_done),
          P2P_TEST_ENTRY(nothing_counts_while_the_proof_is_withheld))
