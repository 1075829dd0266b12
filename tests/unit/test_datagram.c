/* >>datagram: who gives way, what is too late or too large, and how they share packets. The test is
 * the peer: it reads the packets that leave. */
#include "bare.h"

static uint32_t said[64]; /* numbers that the datagrams of the packets that left began with */
static uint32_t said_count, packets;

static uint64_t counter(uint32_t metric) { return node->metrics.value[metric]; }

static p2p__session *begin(void (*tweak)(p2p_desc *)) {
    p2p__session *s;
    bare_tweak = tweak;
    s = dial_open();
    bare_tweak = NULL;
    if (!s)
        return NULL;
    s->theirs.datagram_max = 1152;
    s->theirs.max_packet = 1191;
    return s;
}

static int post(uint32_t number, size_t size) {
    uint8_t data[1152];
    memset(data, (int)number, sizeof data);
    memcpy(data, &number, sizeof number);
    return p2p_datagram_send(node, conn, data, size);
}

/* Reads what leaves; at most `most` packets. */
static void hear(uint32_t most) {
    uint8_t out[1500];
    size_t size;
    said_count = packets = 0;
    while (packets < most && (size = leaves(out, NULL)) > P2P__DATA_HEAD) {
        p2p__reader r = p2p__reader_of(out + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
        p2p__frame f;
        (void)p2p__get_varint(&r);
        packets++;
        while (p2p__frame_get(&r, &f) == 1) {
            if (f.type == P2P__FRAME_DATAGRAM && f.data.size >= 4 && said_count < 64)
                memcpy(&said[said_count++], f.data.data, 4);
        }
    }
}

TEST(many_share_a_packet) {
    CHECK(begin(NULL));
    hear(99);
    for (uint32_t i = 0; i < 12; i++)
        CHECK_INT(post(i, 64), 64);
    hear(99);
    CHECK_INT(packets, 1);
    CHECK_INT(said_count, 12);
    for (uint32_t i = 0; i < 12; i++)
        CHECK_INT(said[i], i);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

static void four(p2p_desc *d) { d->max.datagrams_in = d->max.datagrams_out = 4; }

TEST(the_oldest_gives_way) {
    CHECK(begin(four));
    hear(99);
    for (uint32_t i = 0; i < 11; i++)
        CHECK_INT(post(i, 10), 10);
    CHECK_INT(p2p_check(node), P2P_OK);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_dropped_out), 7);
    hear(99);
    CHECK_INT(said_count, 4);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_INT(said[i], 7 + i);
    p2p_node_close(node);
}

/* Two connections and a full queue: the busy one makes place, whoever of both sends. */
TEST(a_quiet_connection_keeps_its_share) {
    static const uint8_t seed[32] = {9};
    p2p_conn quiet;
    p2p_key key;
    p2p__conn *c;
    CHECK(begin(four));
    hear(99);
    CHECK_INT(p2p_key_from_seed(&node->desc.crypto, seed, &key), P2P_OK);
    CHECK_INT(p2p_connect(node, &key.id, NULL, &quiet), P2P_OK);
    c = p2p__conn_get(node, quiet);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT(post(i, 10), 10);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_INT(p2p_datagram_send(node, quiet, "quiet", 5), 5);
        CHECK_INT(c->datagrams[1].count, i < 2 ? i + 1 : 2);
        CHECK_INT(p2p_check(node), P2P_OK);
    }
    CHECK_INT(counter(P2P_METRIC_app_datagrams_dropped_out), 2 + 5);
    for (uint32_t i = 0; i < 9; i++)
        CHECK_INT(post(100 + i, 10), 10);
    CHECK_INT(c->datagrams[1].count, 2);
    hear(99);
    CHECK_INT(said_count, 2);
    CHECK_INT(said[0], 107);
    p2p_node_close(node);
}

static void short_lived(p2p_desc *d) { d->time.datagram_us = 5000; }

/* Those past time.datagram_us do not leave; younger ones do. */
TEST(late_ones_are_dropped) {
    CHECK(begin(short_lived));
    hear(99);
    CHECK_INT(post(1, 10), 10);
    CHECK_INT(post(2, 10), 10);
    (void)p2p_poll(node, node->now_us + 3000);
    CHECK_INT(post(3, 10), 10);
    (void)p2p_poll(node, node->now_us + 2001);
    hear(99);
    CHECK_INT(said_count, 1);
    CHECK_INT(said[0], 3);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_dropped_out), 2);
    p2p_node_close(node);
}

TEST(without_a_deadline_none_is_late) {
    CHECK(begin(NULL));
    hear(99);
    CHECK_INT(post(1, 10), 10);
    (void)p2p_poll(node, node->now_us + 1000000);
    hear(99);
    CHECK_INT(said_count, 1);
    p2p_node_close(node);
}

/* The largest fills a packet, and an ACK that is not due yet has no place beside it: it leaves without. */
TEST(the_largest_waits_for_no_acknowledgement) {
    static const uint8_t packet[] = {0x80, 0, 0x50, 0, P2P__FRAME_MAX_DATA, 0x50, 0}; /* 20480 */
    p2p__session *s = begin(NULL);
    int most;
    uint32_t used;
    CHECK(s);
    hear(99);
    s->theirs.max_packet = 1161;
    most = p2p_datagram_max(node, conn);
    s->next_number = s->acked_number = s->skip_number = s->seen_top = 20480; /* long numbers */
    give(s, packet, sizeof packet);
    CHECK_INT(s->unacked, 1);
    CHECK(s->ack_at_us > node->now_us);
    CHECK_INT(post(7, (size_t)most), most);
    hear(99);
    CHECK_INT(said_count, 1);
    CHECK_INT(s->unacked, 1);
    CHECK_INT(post(7, (size_t)most),
              most); /* and when the ACK is due it does not look like a pause */
    node->now_us = s->ack_at_us;
    s->dry_number = 0;
    used = s->packet_used;
    hear(1);
    CHECK_INT(said_count, 0);
    CHECK_INT(s->unacked, 0);
    CHECK_INT(s->dry_number, 0);
    CHECK_INT(s->packet_used, used); /* the ACK alone is not one to be acknowledged */
    hear(99);
    CHECK_INT(said_count, 1);
    p2p_node_close(node);
}

/* The path gets narrower while some wait: p2p_datagram_max says so at once, what no packet can hold
 * any more is dropped and counted, and what stands behind it leaves. */
TEST(the_largest_follows_the_path) {
    p2p__session *s = begin(NULL);
    int wide, narrow;
    CHECK(s);
    hear(99);
    wide = p2p_datagram_max(node, conn);
    CHECK(wide > 1000 && wide <= 1152);
    CHECK_INT(post(1, (size_t)wide), wide);
    CHECK_INT(post(2, 500), 500);
    s->cc.datagram_bytes = 800;
    narrow = p2p_datagram_max(node, conn);
    CHECK(narrow > 700 && narrow < 800);
    CHECK_INT(post(3, (size_t)wide), P2P_ERR_TOO_LARGE);
    CHECK_INT(post(3, (size_t)narrow), narrow);
    hear(99);
    CHECK_INT(said_count, 2);
    CHECK_INT(said[0], 2);
    CHECK_INT(said[1], 3);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_dropped_out), 1);
    s->cc.datagram_bytes = 1200;
    CHECK_INT(p2p_datagram_max(node, conn), wide);
    s->theirs.datagram_max = 100;
    CHECK_INT(p2p_datagram_max(node, conn), 100);
    p2p_node_close(node);
}

static void runs(p2p_desc *d) { d->link.segments = 32; }

/* A run's datagrams are no larger than its first: one that needs more room leaves with the next
 * call, and waits for nothing else. */
TEST(a_run_strands_nothing) {
    static uint8_t out[40000];
    p2p__session *s = begin(runs);
    p2p_packet p;
    size_t sent = 0;
    CHECK(s);
    hear(99);
    CHECK_INT(post(1, 1080), 1080);
    CHECK_INT(post(2, 1140), 1140);
    for (int i = 0; i < 2; i++) {
        memset(&p, 0, sizeof p);
        p.data = out;
        p.size = sizeof out;
        CHECK_INT(p2p_output(node, node->now_us, &p), 1);
        sent += p.size;
    }
    CHECK(sent > 1080 + 1140);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_sent), 2);
    p2p_node_close(node);
}

/* Control frames, then datagrams, then streams. */
TEST(before_streams_and_behind_control) {
    p2p__session *s = begin(NULL);
    p2p_stream_desc desc;
    p2p_stream stream;
    uint8_t out[1500];
    CHECK(s);
    hear(99);
    memset(&desc, 0, sizeof desc);
    CHECK_INT(p2p_stream_open(node, conn, &desc, &stream), P2P_OK);
    CHECK_INT(p2p_stream_write(node, stream, "bytes", 5), 5);
    CHECK_INT(post(1, 40), 40);
    s->control |= P2P__CONTROL_MAX_DATA;
    {
        size_t size = leaves(out, NULL);
        p2p__reader r = p2p__reader_of(out + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
        static const uint8_t order[] = {P2P__FRAME_MAX_DATA, P2P__FRAME_DATAGRAM,
                                        P2P__FRAME_STREAM};
        p2p__frame f;
        (void)p2p__get_varint(&r);
        for (uint32_t i = 0; i < 3; i++) {
            CHECK_INT(p2p__frame_get(&r, &f), 1);
            CHECK_INT(f.type, order[i]);
        }
    }
    p2p_node_close(node);
}

/* Random sends and ticks against a list: what leaves is what was sent last, in order, once. */
TEST(queues_as_a_list) {
    for (int n = 0; n < test_seeds(30); n++) {
        unit_rng rng = {test_seed()};
        uint32_t list[4], count = 0, next = 1;
        CHECK(begin(four));
        hear(99);
        for (int i = 0; i < 300; i++) {
            if (unit_below(&rng, 3)) {
                CHECK_INT(post(next, 4 + (size_t)unit_below(&rng, 300)) >= 4, 1);
                if (count == 4)
                    memmove(list, list + 1, sizeof list - sizeof *list);
                count -= count == 4;
                list[count++] = next++;
            } else {
                node->now_us += 1000;
                hear(99);
                CHECK_INT(said_count, count);
                CHECK_BYTES(said, list, count * sizeof *list);
                count = 0;
                p2p__packets_clear(node, p2p__session_at(node, p2p__conn_get(node, conn)->session));
            }
            CHECK_INT(p2p_check(node), P2P_OK);
        }
        p2p_node_close(node);
    }
}

TEST_MAIN(P2P_TEST_ENTRY(many_share_a_packet), P2P_TEST_ENTRY(the_oldest_gives_way),
          P2P_TEST_ENTRY(a_quiet_connection_keeps_its_share), P2P_TEST_ENTRY(late_ones_are_dropped),
          P2P_TEST_ENTRY(without_a_deadline_none_is_late),
          P2P_TEST_ENTRY(the_largest_waits_for_no_acknowledgement),
          P2P_TEST_ENTRY(the_largest_follows_the_path), P2P_TEST_ENTRY(a_run_strands_nothing),
          P2P_TEST_ENTRY(before_streams_and_behind_control), P2P_TEST_ENTRY(queues_as_a_list))
