/* >>conn, >>loss, >>stream: what a peer that was let in may put into a packet, and what ends it. */
#include "bare.h"

static uint64_t counter(uint32_t metric) { return node->metrics.value[metric]; }

/* A packet from hexadecimal, with its number in front. */
static void give_hex(const p2p__session *s, uint64_t number, const char *frames) {
    uint8_t packet[512], bytes[480];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    size_t size = unit_hex(frames, bytes, sizeof bytes);
    p2p__put_varint(&w, number);
    p2p__put_bytes(&w, bytes, size);
    give(s, packet, (size_t)(w.at - packet));
}

/* The CLOSE that leaves next: its code, or -1 for none. The stand-in channel sends in clear. */
static int close_leaves(void) {
    uint8_t out[1500];
    size_t size;
    while ((size = leaves(out, NULL)) > P2P__DATA_HEAD) {
        p2p__reader r = p2p__reader_of(out + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
        p2p__frame f;
        (void)p2p__get_varint(&r);
        while (p2p__frame_get(&r, &f) == 1)
            if (f.type == P2P__FRAME_CLOSE)
                return f.origin == 0 ? (int)f.code : -2;
    }
    return -1;
}

/* What DISCONNECTED tells, or 1 when it does not come. */
static int disconnected(void) {
    p2p_event e;
    while (p2p_next_event(node, &e) > 0)
        if (e.type == P2P_EVENT_DISCONNECTED)
            return e.err;
    return 1;
}

/* The peer is the server, so its streams have odd ids: 1 bidirectional, 3 one way, 5 request, 7
 * messages. Our limits are those of bare_desc: 4096 bytes a stream, 2048 a message. */
static const struct {
    const char *name, *frames;
    int code;
    uint32_t metric;
} violations[] = {
    {"an unknown type", "17", P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad},
    {"a long varint", "4001", P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad},
    {"a good frame before a bad one", "0117", P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad},
    {"a stream that is longer than the packet", "0a010561", P2P__CODE_FRAME_ENCODING,
     P2P_METRIC_frames_bad},
    {"an offset beyond 2^62 - 1", "0c01ffffffffffffffff61", P2P__CODE_FRAME_ENCODING,
     P2P_METRIC_frames_bad},
    {"an ACK below 0", "0205000006", P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad},
    {"33 ranges",
     "0241000020000000000000000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000000000",
     P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad},
    {"a reason that is no UTF-8", "1c000002c328", P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad},
    {"an ACK of what was not sent", "0253e8000000", P2P__CODE_PROTOCOL, P2P_METRIC_ack_of_unsent},
    {"a changed HELLO", "2005010101610000", P2P__CODE_PROTOCOL, P2P_METRIC_frames_bad},
    {"a stream beyond the limit", "087f2161", P2P__CODE_STREAM_LIMIT, P2P_METRIC_flow_violations},
    {"a stream of ours that we did not open", "080061", P2P__CODE_STREAM_LIMIT, 0},
    {"bytes on a stream that only we may send on", "080261", P2P__CODE_STREAM_LIMIT, 0},
    {"more room for a stream that only the peer sends on", "11033f", P2P__CODE_STREAM_LIMIT, 0},
    {"a byte beyond the window", "0c01500061", P2P__CODE_FLOW_CONTROL, P2P_METRIC_flow_violations},
    {"bytes behind the end", "0b0101610e01050161", P2P__CODE_FLOW_CONTROL,
     P2P_METRIC_flow_violations},
    {"another end", "0f010501610f01060161", P2P__CODE_FLOW_CONTROL, P2P_METRIC_flow_violations},
    {"a reset before what was sent", "0e0105016104010002", P2P__CODE_FLOW_CONTROL, 0},
    {"a reset beyond the window", "0401005001", P2P__CODE_FLOW_CONTROL, 0},
    {"a message over message_max", "08075000", P2P__CODE_PROTOCOL, P2P_METRIC_message_too_large},
    {"a message length in a long form", "08074001", P2P__CODE_PROTOCOL,
     P2P_METRIC_message_too_large},
    {"a reset of the messages stream", "04070000", P2P__CODE_PROTOCOL, 0},
    {"an end of the messages stream", "0b0700", P2P__CODE_PROTOCOL, 0},
    {"a stop of the messages stream", "050600", P2P__CODE_PROTOCOL, 0},
};

TEST(violations_close_with_their_code) {
    for (size_t i = 0; i < sizeof violations / sizeof *violations; i++) {
        p2p__session *s = dial_open();
        int code;
        CHECK(s);
        give_hex(s, 2, violations[i].frames);
        code = close_leaves();
        if (code != violations[i].code)
            printf("    %s\n", violations[i].name);
        CHECK_INT(code, violations[i].code);
        if (violations[i].metric)
            CHECK_INT(counter(violations[i].metric), 1);
        CHECK_INT(disconnected(), P2P_ERR_PROTOCOL);
        p2p_node_close(node);
    }
}

/* A DATAGRAM over datagram_max, which is 1152 unless the desc says less. */
TEST(a_datagram_that_is_too_large) {
    static uint8_t packet[400];
    p2p__session *s = dial_open();
    CHECK(s);
    node->desc.bytes.datagram_max = 100;
    packet[0] = 2;
    packet[1] = P2P__FRAME_DATAGRAM;
    give(s, packet, 102);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_received), 1);
    packet[0] = 3;
    give(s, packet, 103);
    CHECK_INT(close_leaves(), P2P__CODE_PROTOCOL);
    p2p_node_close(node);
}

/* Numbers that were left out are watched: who acknowledges one has not seen what it says. */
TEST(an_ack_of_a_number_left_out) {
    p2p__session *s = dial_open();
    char ack[] = "0200000000";
    CHECK(s);
    s->next_number = 40;
    s->skipped[0] = 33;
    ack[2] = '2';
    ack[3] = '1';
    give_hex(s, 2, ack);
    CHECK_INT(close_leaves(), P2P__CODE_PROTOCOL);
    CHECK_INT(counter(P2P_METRIC_ack_of_unsent), 1);
    p2p_node_close(node);
}

TEST(a_packet_counts_once) {
    p2p__session *s = dial_open();
    uint64_t was;
    CHECK(s);
    give_hex(s, 2000, "01");
    was = counter(P2P_METRIC_packets_received);
    give_hex(s, 2000, "01");
    CHECK_INT(counter(P2P_METRIC_packets_duplicate), 1);
    give_hex(s, 900, "01");
    CHECK_INT(counter(P2P_METRIC_packets_old), 1);
    CHECK_INT(counter(P2P_METRIC_packets_received), was);
    give_hex(s, 2000 - 1023, "01");
    CHECK_INT(counter(P2P_METRIC_packets_received), was + 1);
    p2p_node_close(node);
}

/* Every second byte of a stream: one hole more than there are places for is not kept, and its packet
 * not acknowledged. It may come again: what else it holds counts once, when all of it is taken. */
TEST(holes_beyond_the_last_place) {
    p2p__session *s = dial_open();
    char refused[32];
    CHECK(s);
    for (uint32_t i = 0; i < P2P__RUNS_MIN + 2; i++) {
        char frames[32];
        (void)snprintf(frames, sizeof frames, "0e01%04x0161", 0x4000u + 64 + 2 * i);
        give_hex(s, 2 + i, frames);
        CHECK_INT(p2p__seen_before(s, 2 + i), i < P2P__RUNS_MIN);
    }
    CHECK_INT(counter(P2P_METRIC_holes_full), 2);
    (void)snprintf(refused, sizeof refused, "310178" /* DATAGRAM */ "0e01%04x0161",
                   0x4000u + 64 + 2 * P2P__RUNS_MIN);
    for (uint32_t taken = 0; taken < 2; taken++) {
        give_hex(s, 100, refused);
        CHECK_INT(counter(P2P_METRIC_app_datagrams_received), taken);
        give_hex(s, 101, "0e0140410161"); /* two holes become one: a place is free */
    }
    CHECK(p2p_is_connected(node, conn));
    p2p_node_close(node);
}

/* A malformed frame anywhere in a packet, and nothing in the packet takes effect. */
TEST(a_malformed_packet_does_nothing) {
    p2p__session *s = dial_open();
    CHECK(s);
    give_hex(s, 2,
             "0a010161"
             "17");
    CHECK_INT(counter(P2P_METRIC_streams_accepted), 0);
    p2p_node_close(node);
}

/* A datagram from an address: a PATH_CHALLENGE that ends in `last`, and padding up to size. */
static void challenge(const p2p__session *s, uint8_t number, uint8_t last, const p2p_addr *from,
                      size_t size) {
    uint8_t datagram[600] = {P2P__DATA_TO_CLIENT};
    p2p_packet in;
    memset(&in, 0, sizeof in);
    memcpy(datagram + 1, s->id, 8);
    datagram[P2P__DATA_HEAD] = number;
    datagram[P2P__DATA_HEAD + 1] = P2P__FRAME_PATH_CHALLENGE;
    datagram[P2P__DATA_HEAD + 9] = last;
    in.remote = *from;
    in.data = datagram;
    in.size = size;
    (void)p2p_input(node, node->now_us, &in);
}

/* The challenge that the next datagram answers, or -1: it must say where it goes to. */
static int answer_leaves(p2p_addr *to, size_t *size) {
    uint8_t out[1500];
    p2p__frame f, behind;
    p2p__reader r;
    if ((*size = leaves(out, to)) == 0)
        return -1;
    r = p2p__reader_of(out + P2P__DATA_HEAD, *size - P2P__DATA_HEAD);
    (void)p2p__get_varint(&r);
    if (p2p__frame_get(&r, &f) != 1 || f.type != P2P__FRAME_PATH_RESPONSE ||
        f.addr.port != to->port || f.addr.ip[0] != to->ip[0] || p2p__frame_get(&r, &behind) != 0)
        return -1;
    return f.bytes[7];
}

/* Four wait, the newest ones; another node's driver may be slow. */
TEST(four_challenges_wait) {
    p2p__session *s = dial_open();
    uint8_t out[1500];
    uint32_t records;
    p2p_addr to;
    size_t size;
    CHECK(s);
    while (leaves(out, NULL))
        continue;
    records = s->packet_used;
    for (uint8_t i = 0; i < 10; i++)
        challenge(s, (uint8_t)(2 + i), i, &s->remote, 60);
    CHECK_INT(p2p_deadline(node), 0);
    for (int i = 6; i < 10; i++)
        CHECK_INT(answer_leaves(&to, &size), i);
    CHECK_INT(counter(P2P_METRIC_challenges_answered), 4);
    CHECK_INT(counter(P2P_METRIC_challenges_dropped), 6);
    CHECK_INT(s->packet_used, records); /* they are not repeated, so nothing remembers them */
    p2p_node_close(node);
}

/* Where the challenge came from the answer goes, no longer than it; one answer a datagram. */
TEST(a_challenge_is_answered_where_it_came_from) {
    p2p__session *s = dial_open();
    p2p_addr other, to;
    uint8_t out[1500];
    size_t size;
    CHECK(s);
    while (leaves(out, NULL))
        continue;
    other = s->remote;
    other.ip[0] = 77;
    other.port = 1234;
    for (size_t n = 30; n < 160; n++) {
        uint64_t was = counter(P2P_METRIC_challenges_dropped);
        challenge(s, 2, 1, &other, n);
        s->seen[0] &= 3; /* so that the number may come again */
        if (answer_leaves(&to, &size) == 1)
            CHECK(size <= n && p2p__addr_equal(&to, &other));
        else
            CHECK(n < 110 && counter(P2P_METRIC_challenges_dropped) == was + 1);
    }
    give_hex(s, 3,
             "1a0000000000000001"
             "1a0000000000000002");
    CHECK_INT(answer_leaves(&to, &size), 1);
    CHECK(p2p__addr_equal(&to, &s->remote));
    CHECK_INT(answer_leaves(&to, &size), -1);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(violations_close_with_their_code),
          P2P_TEST_ENTRY(a_datagram_that_is_too_large), P2P_TEST_ENTRY(an_ack_of_a_number_left_out),
          P2P_TEST_ENTRY(a_packet_counts_once), P2P_TEST_ENTRY(holes_beyond_the_last_place),
          P2P_TEST_ENTRY(a_malformed_packet_does_nothing), P2P_TEST_ENTRY(four_challenges_wait),
          P2P_TEST_ENTRY(a_challenge_is_answered_where_it_came_from))
