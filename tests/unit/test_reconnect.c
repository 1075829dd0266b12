/* >>conn: what only an other end in the hands of the test shows of sessions and the handles that
 * outlive them. */
#include "bare.h"

/* A good proof again changes nothing; another one of the same peer ends all. */
TEST(changed_auth_closes) {
    for (int wrong = -1; wrong < 96; wrong += 12) {
        uint8_t packet[512];
        p2p__session *s = dial_open();
        size_t size;
        CHECK(s);
        size = proof_packet(7, -1, packet);
        if (wrong >= 0)
            packet[size - 96 + (size_t)wrong] ^= 1;
        give(s, packet, size);
        CHECK_INT(node->metrics.value[P2P_METRIC_auth_failed], wrong >= 0);
        CHECK_INT(node->metrics.value[P2P_METRIC_frames_bad], wrong >= 0);
        CHECK_INT(p2p_is_connected(node, conn), wrong < 0);
        CHECK_INT(s->state, wrong < 0 ? P2P__SESSION_OPEN : P2P__SESSION_CLOSING);
        CHECK_INT(s->close_code, wrong < 0 ? 0 : P2P__CODE_PROTOCOL);
        p2p_node_close(node);
    }
}

/* The same before DONE: the attempt ends, and the dial goes on. */
TEST(changed_auth_ends_the_attempt) {
    uint8_t packet[512];
    p2p__session *s = dial();
    size_t size;
    CHECK(s);
    give(s, packet, proof_packet(0, -1, packet));
    CHECK(s->peer_proved);
    size = proof_packet(1, 50, packet);
    give(s, packet, size);
    CHECK_INT(node->metrics.value[P2P_METRIC_auth_failed], 1);
    CHECK_INT(node->metrics.value[P2P_METRIC_restarts], 1);
    CHECK(p2p__conn_get(node, conn)->state < P2P__CONN_OPEN);
    CHECK(!connected());
    p2p_node_close(node);
}

/* Gives the server's CLOSE as packet `number`. */
static void give_close(const p2p__session *s, uint8_t number, uint8_t origin, uint8_t code) {
    uint8_t close[5];
    close[0] = number, close[1] = P2P__FRAME_CLOSE, close[2] = origin, close[3] = code;
    close[4] = 0;
    give(s, close, sizeof close);
}

/* The session of the dial that is under way, brought to where the channel is up. */
static p2p__session *redialled(const p2p__session *before) {
    for (int i = 0; i < 100; i++) {
        uint64_t at = p2p_deadline(node);
        p2p__session *s = p2p__session_at(node, p2p__conn_get(node, conn)->session);
        if (s) {
            s->remote = before->remote;
            s->answered = 1;
            p2p__session_up(node, s);
            p2p__session_schedule(node, s);
            return s;
        }
        (void)p2p_poll(node, at > node->now_us ? at : node->now_us + 1000);
    }
    return NULL;
}

static uint32_t gave(uint32_t type, p2p_event *out) {
    p2p_event e;
    uint32_t n = 0;
    while (p2p_next_event(node, &e) > 0)
        if (e.type == type) {
            n++;
            *out = e;
        }
    return n;
}

/* Packets of the old session, genuine or not, say nothing to the handle's new one. */
TEST(old_session_is_dead) {
    uint8_t packet[512], done[] = {1, P2P__FRAME_DONE};
    uint8_t old_id[8], message[] = {2, P2P__FRAME_STREAM | 2, 7, 2, 1, 'x'};
    p2p__session *s = dial_open(), dead;
    p2p_event e;
    CHECK(s);
    p2p__conn_get(node, conn)->reconnect = P2P__RECONNECT_UP_ONCE;
    memcpy(old_id, s->id, 8);
    dead = *s;
    give_close(s, 2, 1, 9);
    CHECK_INT(gave(P2P_EVENT_DISCONNECTED, &e), 0);
    CHECK(!p2p_is_connected(node, conn));
    s = redialled(&dead);
    CHECK(s);
    CHECK(memcmp(s->id, old_id, 8) != 0);
    give(s, packet, proof_packet(0, -1, packet));
    give(s, done, sizeof done);
    CHECK_INT(gave(P2P_EVENT_RECONNECTED, &e), 1);
    CHECK_INT(e.code, 9);
    for (int i = 3; i < 40; i++) { /* as the old session's next packets */
        message[0] = (uint8_t)i;
        give(&dead, message, sizeof message);
        give_close(&dead, (uint8_t)(i + 40), 0, P2P__CODE_REFUSED);
    }
    CHECK(p2p_is_connected(node, conn));
    CHECK_INT(p2p_recv_size(node, conn), P2P_ERR_AGAIN);
    CHECK_INT(gave(P2P_EVENT_DISCONNECTED, &e), 0);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* What the peer's CLOSE says decides: an owner's no is for good, everything else passes. */
TEST(what_a_close_means_to_the_handle) {
    static const struct {
        uint8_t origin, code, stays;
    } cases[] = {{0, P2P__CODE_REFUSED, 0},
                 {0, P2P__CODE_PROTOCOL, 0},
                 {0, P2P__CODE_LIMIT, 1},
                 {0, P2P__CODE_NO_ALPN, 1},
                 {0, P2P__CODE_IDLE, 1},
                 {0, P2P__CODE_REKEY, 1},
                 {0, P2P__CODE_STOPPED, 1},
                 {0, P2P__CODE_GENERIC, 1},
                 {0, P2P__CODE_INTERNAL, 1},
                 {0, P2P__CODE_DUPLICATE, 1},
                 {1, 0, 1},
                 {1, 40, 1}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        p2p__session *s = dial_open();
        p2p_event e;
        CHECK(s);
        p2p__conn_get(node, conn)->reconnect = P2P__RECONNECT_UP_ONCE;
        give_close(s, 2, cases[i].origin, cases[i].code);
        CHECK_INT(gave(P2P_EVENT_DISCONNECTED, &e), !cases[i].stays);
        CHECK_INT(p2p__conn_get(node, conn) != NULL, cases[i].stays);
        CHECK_INT(p2p_check(node), P2P_OK);
        p2p_node_close(node);
    }
}

/* 0.1 s, doubling, to 30 s, a quarter more or less; short again after a connection that lived. */
TEST(waits_double_up_to_half_a_minute) {
    p2p__session *s = dial_open();
    p2p__conn *c = p2p__conn_get(node, conn);
    uint64_t want = 100000, seen_low = 0, seen_high = 0;
    CHECK(s && c);
    for (int i = 0; i < 300; i++) {
        uint64_t us = p2p__redial_us(node, c);
        CHECK(us >= want - want / 4 && us < want + want / 4);
        seen_low += us < want;
        seen_high += us >= want;
        want = P2P__MIN(2 * want, 30000000u);
    }
    CHECK(seen_low > 100 && seen_high > 100);
    c->reconnect = P2P__RECONNECT_UP_ONCE;
    node->now_us = c->opened_us + 9999999;
    p2p__conn_down(node, c, P2P_ERR_TIMEOUT, 0, p2p__no_words());
    CHECK(c->retry_us - node->now_us >= 22500000);
    p2p__conn_go(c, P2P__CONN_OPEN);
    node->waiting_dials--;
    node->now_us = c->opened_us + 10000000;
    p2p__conn_down(node, c, P2P_ERR_TIMEOUT, 0, p2p__no_words());
    CHECK(c->retry_us - node->now_us < 125000);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(changed_auth_closes), P2P_TEST_ENTRY(changed_auth_ends_the_attempt),
          P2P_TEST_ENTRY(old_session_is_dead), P2P_TEST_ENTRY(what_a_close_means_to_the_handle),
          P2P_TEST_ENTRY(waits_double_up_to_half_a_minute))
