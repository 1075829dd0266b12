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
    for (int i = 0; i < 200; i++) {
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

/* The next datagrams that leave: how many. */
static int leaving(void) {
    uint8_t out[1500];
    int n = 0;
    while (leaves(out, NULL))
        n++;
    return n;
}

/* The session breaks by a CLOSE; the next one, open. */
static p2p__session *opened_again(const p2p__session *s) {
    uint8_t packet[512], done[] = {1, P2P__FRAME_DONE};
    p2p__session dead = *s;
    p2p_event e;
    p2p__session *next;
    give_close(s, 60, 1, 9);
    next = redialled(&dead);
    if (!next)
        return NULL;
    give(next, packet, proof_packet(0, -1, packet));
    give(next, done, sizeof done);
    return gave(P2P_EVENT_RECONNECTED, &e) == 1 ? next : NULL;
}

/* Acknowledges all that this session sent so far, in packet `number`. */
static void give_ack(const p2p__session *s, uint8_t number) {
    uint8_t packet[64];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    p2p__range all;
    all.first = 0;
    all.last = s->next_number - 1;
    p2p__put_varint(&w, number);
    p2p__put_ack(&w, &all, 1, 0);
    give(s, packet, (size_t)(w.at - packet));
}

/* A stream of before that waits to be read has the number of one of now; what comes late for that
 * one, when it is over, is not taken for the other's. */
TEST(numbers_begin_anew) {
    uint8_t old_data[] = {3, P2P__FRAME_STREAM | P2P__STREAM_FIN, 0, 'x'};
    uint8_t reset[] = {4, P2P__FRAME_RESET_STREAM, 0, 0, 0};
    uint8_t late[] = {6, P2P__FRAME_STREAM, 0, 'l', 'a', 't', 'e'};
    p2p__session *s = dial_open();
    p2p_stream before, now;
    p2p_event e;
    char got[4];
    CHECK(s);
    p2p__conn_get(node, conn)->reconnect = P2P__RECONNECT_UP_ONCE;
    CHECK_INT(p2p_stream_open(node, conn, NULL, &before), 0);
    CHECK_INT(p2p_stream_write(node, before, "ask", 3), 3);
    CHECK(leaving() > 0);
    give(s, old_data, sizeof old_data);
    s = opened_again(s);
    CHECK(s);
    CHECK_INT(p2p_stream_open(node, conn, NULL, &now), 0);
    CHECK_INT(p2p_stream_write(node, now, "ask", 3), 3);
    CHECK_INT(p2p_stream_finish(node, now), 0);
    CHECK(leaving() > 0);
    give(s, reset, sizeof reset);
    CHECK(leaving() > 0);
    give_ack(s, 5);
    CHECK_INT(gave(P2P_EVENT_CLOSED, &e), 1);
    CHECK_INT(e.stream.id, now.id);
    give(s, late, sizeof late);
    CHECK(p2p_is_connected(node, conn));
    CHECK_INT(p2p_stream_read(node, before, got, sizeof got), 1);
    CHECK_INT(p2p_stream_read(node, before, got, sizeof got), 0);
    CHECK_INT(gave(P2P_EVENT_CLOSED, &e), 1);
    CHECK_INT(e.stream.id, before.id);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* Who asks for a connection to share gets the one that is furthest along, and none that ends. */
TEST(the_furthest_is_shared) {
    p2p_conn more;
    p2p__conn *a, *b;
    CHECK(dial_open());
    CHECK_INT(p2p_connect(node, &server_key.id, NULL, &more), 0);
    a = p2p__conn_get(node, conn);
    b = p2p__conn_get(node, more);
    CHECK(p2p__conn_shared(node, &server_key.id, P2P__ANY_ALPN, false) == a);
    for (uint8_t i = P2P__CONN_WAITING; i <= P2P__CONN_FLUSHING; i++)
        for (uint8_t k = P2P__CONN_WAITING; k <= P2P__CONN_FLUSHING; k++) {
            p2p__conn *best = i > k ? a : b;
            a->state = i;
            b->state = k;
            if (i == P2P__CONN_FLUSHING || k == P2P__CONN_FLUSHING)
                best = i == k ? NULL : i == P2P__CONN_FLUSHING ? b : a;
            if (i != k || !best)
                CHECK(p2p__conn_shared(node, &server_key.id, P2P__ANY_ALPN, false) == best);
        }
}

/* Gives the server's messages stream `size` bytes from `offset` on. */
static void give_messages(const p2p__session *s, uint8_t number, uint64_t offset,
                          const uint8_t *data, size_t size) {
    uint8_t packet[600];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    p2p__put_varint(&w, number);
    p2p__put_stream_head(&w, (uint64_t)P2P__KIND_MESSAGES << 1 | 1, offset, size, false);
    p2p__put_bytes(&w, data, size);
    give(s, packet, (size_t)(w.at - packet));
}

/* The redial offers what the unread left; who reads meanwhile makes room, and the peer learns it. */
TEST(room_is_offered_as_it_is) {
    uint8_t data[500], packet[512], got[64], done[] = {1, P2P__FRAME_DONE};
    uint8_t blocked[] = {0, P2P__FRAME_STREAM_DATA_BLOCKED, P2P__KIND_MESSAGES << 1 | 1, 0x44, 0};
    const p2p__recv *r;
    p2p__session *s = dial_open(), dead;
    CHECK(s);
    memset(data, 49, sizeof data); /* ten messages of 49 bytes */
    p2p__conn_get(node, conn)->reconnect = P2P__RECONNECT_UP_ONCE;
    r = &p2p__messages(node, p2p__conn_get(node, conn))->recv;
    give_messages(s, 3, 0, data, 500);
    give_messages(s, 4, 500, data, 500);
    give_messages(s, 5, 1000, data, 24); /* and part of another */
    CHECK_INT(r->here - r->read, 1023);
    dead = *s;
    give_close(s, 60, 1, 9);
    CHECK_INT(r->here - r->read, 999);
    s = redialled(&dead);
    CHECK(s);
    CHECK_INT(s->mine.messages, 1024 - 999);
    for (int i = 0; i < 20; i++)
        CHECK_INT(p2p_recv(node, conn, got, sizeof got), 49);
    CHECK_INT(p2p_recv(node, conn, got, sizeof got), P2P_ERR_AGAIN);
    give(s, packet, proof_packet(0, -1, packet));
    give(s, done, sizeof done);
    CHECK(p2p_is_connected(node, conn));
    CHECK_INT(r->limit - r->base, 1024);
    blocked[0] = 2; /* at 1024 of this session */
    CHECK(leaving() > 0);
    CHECK_INT(r->want_max, 0);
    give(s, blocked, sizeof blocked);
    CHECK_INT(r->want_max, 0); /* that is where it is: no news */
    give_messages(s, 3, 0, data, 500);
    CHECK_INT(p2p_recv(node, conn, got, sizeof got), 49);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* A redial whose proof and data went out, and whose DONE never came: what it carried may have arrived,
 * acknowledged or not, and does not go over the next one as well. A refusal says that it did not. */
TEST(unfinished_redial_may_have_delivered) {
    for (int how = 0; how < 4;
         how++) { /* silence; with an ACK; refused for want of a place; closed */
        uint8_t packet[512], done[] = {1, P2P__FRAME_DONE};
        p2p__session *s = dial_open(), dead;
        const p2p__send *w;
        p2p_event e;
        CHECK(s);
        p2p__conn_get(node, conn)->reconnect = P2P__RECONNECT_UP_ONCE;
        w = &p2p__messages(node, p2p__conn_get(node, conn))->send;
        (void)leaving();
        dead = *s;
        give_close(s, 60, 1, 9);
        s = redialled(&dead);
        CHECK(s);
        give(s, packet, proof_packet(0, -1, packet));
        CHECK_INT(p2p_send(node, conn, "first", 5), 5);
        CHECK(leaving() > 0);
        CHECK_INT(w->sent, 6);
        if (how == 1)
            give_ack(s, 1);
        CHECK_INT(p2p_send(node, conn, "second", 6), 6);
        CHECK(leaving() > 0);
        CHECK_INT(w->end - w->sent, 0);
        CHECK(!p2p_is_connected(node, conn));
        dead = *s;
        if (how == 2)
            give_close(s, 2, 0, P2P__CODE_LIMIT);
        else if (how == 3)
            give_close(s, 2, 1, 4);
        else
            for (int t = 0; t < 100 && p2p__conn_get(node, conn)->attached; t++)
                (void)p2p_poll(node, node->now_us + 500000), (void)leaving();
        CHECK(!p2p__conn_get(node, conn)->attached);
        CHECK_INT(w->end, how == 2 ? 13 : 0);
        CHECK_INT(p2p_check(node), P2P_OK);
        s = redialled(&dead);
        CHECK(s);
        give(s, packet, proof_packet(0, -1, packet));
        give(s, done, sizeof done);
        CHECK_INT(gave(P2P_EVENT_RECONNECTED, &e), 1);
        CHECK_INT(e.size, how == 0 ? 2 : how == 1 ? 1 : how == 2 ? 0 : 2);
        p2p_node_close(node);
    }
}

/* The peer came back with a smaller bytes.message_max: what it had before does not matter, what waits
 * for it does. */
TEST(largest_message_that_waits_must_fit) {
    static uint8_t data[1010];
    for (int waits = 0; waits < 2; waits++) {
        uint8_t packet[512], done[] = {1, P2P__FRAME_DONE};
        p2p__session *s = dial_open(), dead;
        p2p_event e;
        CHECK(s);
        p2p__conn_get(node, conn)->reconnect = P2P__RECONNECT_UP_ONCE;
        p2p__conn_get(node, conn)->message_largest = 5000;
        dead = *s;
        give_close(s, 60, 1, 9);
        if (waits)
            CHECK_INT(p2p_send(node, conn, data, sizeof data), (int)sizeof data);
        s = redialled(&dead);
        CHECK(s);
        give(s, packet, proof_packet(0, -1, packet)); /* message_max 1000 */
        give(s, done, sizeof done);
        CHECK_INT(p2p_is_connected(node, conn), !waits);
        CHECK_INT(gave(P2P_EVENT_DISCONNECTED, &e), waits);
        CHECK(!waits || e.err == P2P_ERR_TOO_LARGE);
        p2p_node_close(node);
    }
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

/* After p2p_close: CLOSE, and CLOSE again to the 1st, 2nd, 4th, 8th, ... packet that comes, for three
 * probe timeouts; then the session is forgotten. */
TEST(close_is_repeated_ever_more_rarely) {
    p2p__session *s = dial_open(), was;
    uint8_t ping[] = {0, P2P__FRAME_PING};
    int said = 0;
    uint64_t end;
    CHECK(s);
    (void)leaving();
    p2p__conn_end(node, p2p__conn_get(node, conn), 1, 4, p2p_str_of("bye"), P2P_OK);
    CHECK_INT(s->state, P2P__SESSION_CLOSING);
    CHECK_INT(leaving(), 1);
    end = s->tick_us;
    CHECK_INT(end, node->now_us + 3 * p2p__pto_base_us(s));
    was = *s;
    for (uint32_t i = 0; i < 100; i++) {
        ping[0] = (uint8_t)(20 + i % 40);
        node->now_us -= 1000; /* give lets a millisecond pass */
        give(&was, ping, sizeof ping);
        said += leaving();
    }
    CHECK(said >= 5 && said <= 7);
    (void)p2p_poll(node, end - 1);
    CHECK(p2p__session_find(node, was.id, false) != NULL);
    (void)p2p_poll(node, end);
    CHECK(p2p__session_find(node, was.id, false) == NULL);
    give(&was, ping, sizeof ping);
    CHECK_INT(leaving(), 0);
    CHECK_INT(node->metrics.value[P2P_METRIC_drop_unknown_session], 1);
    p2p_node_close(node);
}

/* After the peer's CLOSE: silence, as long. */
TEST(draining_is_silent) {
    p2p__session *s = dial_open(), was;
    uint8_t ping[] = {9, P2P__FRAME_PING};
    uint64_t end;
    CHECK(s);
    (void)leaving();
    give_close(s, 2, 1, 9);
    CHECK_INT(s->state, P2P__SESSION_DRAINING);
    end = s->tick_us;
    CHECK_INT(end, node->now_us + 3 * p2p__pto_base_us(s));
    was = *s;
    give(&was, ping, sizeof ping);
    CHECK_INT(leaving(), 0);
    (void)p2p_poll(node, end);
    CHECK(p2p__session_find(node, was.id, false) == NULL);
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

/* Memory lent for a message is the caller's again when the connection ends: what of it is not
 * acknowledged does not count as bytes in the ring. */
TEST(an_end_gives_lent_memory_back) {
    static const uint8_t bytes[900] = {1};
    p2p__session *s = dial_open();
    p2p_event e;
    CHECK(s);
    CHECK_INT(p2p_send(node, conn, bytes, 600), 600);
    CHECK_INT(p2p_send_ref(node, conn, bytes, sizeof bytes, NULL), sizeof bytes);
    CHECK(leaving() > 0);
    give_close(s, 60, 1, 9);
    CHECK_INT(p2p_check(node), 0);
    CHECK_INT(gave(P2P_EVENT_SENT, &e), 1);
    CHECK_INT(e.err, P2P_ERR_CLOSED);
    CHECK_INT(p2p_check(node), 0);
    p2p_node_close(node);
}

/* A dial by name that found an open connection, and is given back before that was told, gives back
 * what it holds of it, and is told its end. */
TEST(a_name_given_back_holds_nothing) {
    p2p_connect_desc desc;
    p2p_id nobody;
    p2p_conn again;
    p2p__conn *named;
    p2p_event e;
    memset(&desc, 0, sizeof desc);
    memset(&nobody, 0, sizeof nobody);
    desc.share = 1;
    CHECK(dial_open());
    named = p2p__connect_begin(node, &nobody, &desc, (int)P2P__ANY_ALPN);
    CHECK(named && p2p__conn_alias(node, named, &server_key.id));
    again = p2p__conn_handle(node, named);
    CHECK_INT(p2p__conn_get(node, conn)->holders, 2);
    CHECK_INT(p2p_release(node, again), 0);
    CHECK_INT(p2p__conn_get(node, conn)->holders, 1);
    CHECK_INT(p2p_release(node, again), 0);
    CHECK_INT(p2p__conn_get(node, conn)->holders, 1);
    CHECK_INT(gave(P2P_EVENT_DISCONNECTED, &e), 1);
    CHECK_INT(e.conn.id, again.id);
    CHECK(!p2p__conn_get(node, again) && p2p_is_connected(node, conn));
    CHECK_INT(p2p_check(node), 0);
    p2p_node_close(node);
}

/* A peer that acknowledged data let us in, even if DONE never came: what it calls a duplicate then
 * is the end, since no other session can take up what was sent over this one. */
TEST(a_duplicate_that_took_data_is_the_end) {
    uint8_t packet[512];
    p2p__session *s = dial();
    p2p_event e;
    CHECK(s);
    CHECK_INT(p2p_send(node, conn, "taken", 5), 5);
    give(s, packet, proof_packet(0, -1, packet));
    CHECK(leaving() > 0);
    give_ack(s, 1);
    CHECK(p2p__conn_get(node, conn)->confirmed);
    give_close(s, 2, 0, P2P__CODE_DUPLICATE);
    CHECK_INT(gave(P2P_EVENT_DISCONNECTED, &e), 1);
    CHECK_INT(e.err, P2P_ERR_CLOSED);
    CHECK_INT(p2p_check(node), 0);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(a_duplicate_that_took_data_is_the_end),
          P2P_TEST_ENTRY(a_name_given_back_holds_nothing),
          P2P_TEST_ENTRY(an_end_gives_lent_memory_back), P2P_TEST_ENTRY(changed_auth_closes),
          P2P_TEST_ENTRY(changed_auth_ends_the_attempt), P2P_TEST_ENTRY(numbers_begin_anew),
          P2P_TEST_ENTRY(largest_message_that_waits_must_fit),
          P2P_TEST_ENTRY(unfinished_redial_may_have_delivered),
          P2P_TEST_ENTRY(the_furthest_is_shared), P2P_TEST_ENTRY(room_is_offered_as_it_is),
          P2P_TEST_ENTRY(old_session_is_dead), P2P_TEST_ENTRY(close_is_repeated_ever_more_rarely),
          P2P_TEST_ENTRY(draining_is_silent), P2P_TEST_ENTRY(what_a_close_means_to_the_handle),
          P2P_TEST_ENTRY(waits_double_up_to_half_a_minute))
