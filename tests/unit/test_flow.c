/* >>flow: how windows begin and grow, when updates leave, what a blocked sender says, and that no
 * update can be lost for good. The test is the peer: its packets are made and read by hand. */
#include "bare.h"

static const uint8_t zeros[600];
static uint64_t next_number; /* of the peer's packets */

static p2p__conn *the_conn(void) { return p2p__conn_get(node, conn); }

static p2p__session *begin(void (*tweak)(p2p_desc *)) {
    p2p__session *s;
    bare_tweak = tweak;
    next_number = 2;
    s = dial_open();
    bare_tweak = NULL;
    if (s)
        s->mine.idle_us = s->theirs.idle_us = 0;
    return s;
}

/* ---- the peer speaks */
static void give_frame(const p2p__session *s, uint64_t type, size_t count, uint64_t a, uint64_t b) {
    uint8_t packet[64];
    uint64_t v[2];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    v[0] = a, v[1] = b;
    p2p__put_varint(&w, next_number++);
    p2p__put_frame(&w, type, count, v);
    give(s, packet, (size_t)(w.at - packet));
}

static void give_bytes(const p2p__session *s, uint64_t id, uint64_t offset, size_t size) {
    uint8_t packet[590];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    p2p__put_varint(&w, next_number++);
    p2p__put_stream_head(&w, id, offset, UINT64_MAX, false);
    p2p__put_bytes(&w, zeros, size);
    give(s, packet, (size_t)(w.at - packet));
}

/* Bytes up to the limit that the node has told for the stream, from `at` on; where they end. */
static uint64_t fill(const p2p__session *s, uint64_t id, uint64_t at, uint64_t limit) {
    while (at < limit) {
        size_t size = (size_t)P2P__MIN(limit - at, (uint64_t)500);
        give_bytes(s, id, at, size);
        at += size;
    }
    return at;
}

static void give_ack(const p2p__session *s, uint64_t first, uint64_t last) {
    uint8_t packet[64];
    p2p__range range;
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    range.first = first, range.last = last;
    p2p__put_varint(&w, next_number++);
    p2p__put_ack(&w, &range, 1, 0);
    give(s, packet, (size_t)(w.at - packet));
}

/* ---- the node answers */
static struct { /* frames of one type among the packets that left, and the last of them */
    uint32_t count, packets;
    uint64_t id, value, number, top, bytes;
    bool led; /* it stood before every STREAM and DATAGRAM of its packet */
} said;

static void hear(uint8_t type) {
    uint8_t out[1500];
    size_t size;
    memset(&said, 0, sizeof said);
    while ((size = leaves(out, NULL)) > P2P__DATA_HEAD) {
        p2p__reader r = p2p__reader_of(out + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
        p2p__frame f;
        bool data = false;
        said.top = p2p__get_varint(&r);
        said.packets++;
        while (p2p__frame_get(&r, &f) == 1) {
            data |= f.type == P2P__FRAME_STREAM || f.type == P2P__FRAME_DATAGRAM;
            said.bytes += f.type == P2P__FRAME_STREAM ? f.data.size : 0;
            if (f.type != type)
                continue;
            said.count++;
            said.id = f.id;
            said.value = f.value;
            said.number = said.top;
            said.led = !data;
        }
    }
}

static p2p_stream peers_stream(void) {
    p2p_event e;
    p2p_stream s;
    s.id = 0;
    while (p2p_next_event(node, &e) > 0)
        if (e.type == P2P_EVENT_STREAM)
            s = e.stream;
    return s;
}

/* ---- windows that grow */
static void large(p2p_desc *d) {
    d->max.streams = 2;
    d->bytes.peer_recv = d->bytes.stream_recv = 131072;
}

/* 64 KB first, then the whole ring, read or not, in few updates. */
TEST(windows_grow_to_the_buffer) {
    p2p__session *s = begin(large);
    uint64_t at = 0, limit = 65536, conn_limit;
    uint32_t updates = 0;
    CHECK(s);
    CHECK_INT(s->mine.stream_theirs, 65536);
    CHECK_INT(s->mine.stream_uni, 65536);
    CHECK_INT(s->mine.stream_ours, 65536);
    CHECK_INT(s->mine.messages, 1024);
    conn_limit = the_conn()->recv_limit;
    CHECK_INT(conn_limit, s->mine.max_data);
    for (int i = 0; i < 4; i++) {
        at = fill(s, 1, at, limit);
        CHECK(p2p_is_connected(node, conn));
        hear(P2P__FRAME_MAX_STREAM_DATA);
        updates += said.count;
        limit = said.count ? said.value : limit;
    }
    CHECK_INT(limit, 131072);
    CHECK_INT(updates, 1);
    CHECK_INT(the_conn()->recv_limit, conn_limit + 65536);
    CHECK_INT(p2p_check(node), P2P_OK);
    give_bytes(s, 1, at, 1);
    CHECK(!p2p_is_connected(node, conn));
    p2p_node_close(node);
}

/* Whoever reads at once never lets half of the window fill up: that updates follow each other
 * within half a round trip says that it is too small. */
TEST(windows_grow_for_a_reader_that_keeps_up) {
    for (uint64_t rtt_us = 20000; rtt_us <= 200000; rtt_us *= 10) {
        p2p__session *s = begin(large);
        p2p_stream stream = {0};
        p2p__recv *r;
        CHECK(s);
        hear(0);
        for (uint64_t at = 0; at < 200000; at += 500) { /* a millisecond each */
            s->rtt.smoothed_us = (uint32_t)rtt_us;
            give_bytes(s, 1, at, 500);
            stream = stream.id ? stream : peers_stream();
            CHECK_INT(p2p_stream_skip(node, stream, 500), 500);
            hear(0);
            give_ack(s, said.top, said.top);
        }
        r = &p2p__stream_get(node, stream)->recv;
        CHECK_INT(r->window, rtt_us == 20000 ? 65536 : 131072);
        CHECK_INT(p2p_check(node), P2P_OK);
        p2p_node_close(node);
    }
}

/* Of a buffer below 64 KB all is told at once. */
TEST(small_buffers_are_their_own_window) {
    p2p__session *s = begin(NULL);
    CHECK(s);
    CHECK_INT(s->mine.stream_theirs, 4096);
    CHECK_INT(fill(s, 1, 0, 4096), 4096);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 0);
    CHECK(p2p_is_connected(node, conn));
    p2p_node_close(node);
}

/* ---- updates */

/* A reader that takes a byte at a time sends an update for a quarter of a window, not for a byte. */
TEST(updates_are_few) {
    p2p__session *s = begin(NULL);
    p2p_stream stream;
    uint64_t at = 0;
    uint32_t updates = 0;
    CHECK(s);
    hear(0);
    for (uint64_t limit = 4096; at < 40000;) {
        CHECK(updates < 100);
        give_ack(s, s->next_number - 1, s->next_number - 1);
        at = fill(s, 1, at, limit);
        if (limit == 4096)
            stream = peers_stream();
        for (int i = 0; i < 4096 && p2p_stream_skip(node, stream, 1) == 1; i++) {
            hear(P2P__FRAME_MAX_STREAM_DATA);
            updates += said.count;
            limit = said.count ? said.value : limit;
        }
    }
    CHECK(updates >= 40000 / 4096 - 1);
    CHECK(updates <= 40000 / 1024 + 1);
    p2p_node_close(node);
}

/* An update that was lost is told again, with what is the limit by then. */
TEST(a_lost_update_comes_again) {
    p2p__session *s = begin(NULL);
    p2p_stream stream;
    uint64_t first;
    CHECK(s);
    (void)fill(s, 1, 0, 4096);
    stream = peers_stream();
    hear(0);
    CHECK_INT(p2p_stream_skip(node, stream, 2048), 2048);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.value, 4096 + 2048);
    first = said.number;
    for (int i = 0; i < 4; i++) { /* later ones arrive: it is lost */
        (void)p2p_datagram_send(node, conn, "", 0);
        give_frame(s, P2P__FRAME_PING, 0, 0, 0);
        s->control |= P2P__CONTROL_PING;
        p2p__out_add(node, s);
        hear(P2P__FRAME_PING);
        CHECK(said.top > first);
    }
    CHECK_INT(p2p_stream_skip(node, stream, 500), 500);
    give_ack(s, said.top, said.top);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.id, 1);
    CHECK_INT(said.value, 4096 + 2048);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* Nearly a window, and begun behind something smaller: the peer is at the limit, and all that is
 * here is not all of it. */
TEST(a_peer_that_waits_is_told_sooner) {
    p2p__session *s = begin(NULL);
    p2p_stream stream;
    CHECK(s);
    (void)fill(s, 1, 0, 4096);
    stream = peers_stream();
    CHECK_INT(p2p_stream_skip(node, stream, 900), 900);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 0);
    give_frame(s, P2P__FRAME_STREAM_DATA_BLOCKED, 2, 1, 4096);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 4096 + 900);
    (void)fill(s, 1, 4096, 4996);
    give_frame(s, P2P__FRAME_STREAM_DATA_BLOCKED, 2, 1, 4996);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 0); /* nothing to give: it is remembered */
    CHECK_INT(p2p_stream_skip(node, stream, 600), 600);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.value, 4096 + 1500);
    CHECK_INT(p2p_stream_skip(node, stream, 600), 600); /* once: then quarters again */
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 0);
    p2p_node_close(node);
}

/* A message that needs more than is left of the window, less than a quarter of which was taken. */
TEST(a_message_is_not_held_by_its_window) {
    p2p__session *s = begin(NULL);
    uint8_t got[1024];
    CHECK(s);
    hear(0);
    {
        uint8_t packet[600];
        p2p__writer w = p2p__writer_of(packet, sizeof packet);
        p2p__put_varint(&w, next_number++);
        p2p__put_stream_head(&w, 7, 0, UINT64_MAX, false);
        p2p__put_varint(&w, 200);
        p2p__put_bytes(&w, zeros, 200);
        p2p__put_varint(&w, 1000); /* 202 + 1,002 bytes, and the window is 1,024 */
        give(s, packet, (size_t)(w.at - packet));
    }
    (void)fill(s, 7, 204, 1024);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 0);
    CHECK_INT(p2p_recv(node, conn, got, sizeof got), 200);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.id, 7);
    CHECK(said.value >= 202 + 1002);
    (void)fill(s, 7, 1024, 1204);
    CHECK_INT(p2p_recv(node, conn, got, sizeof got), 1000);
    p2p_node_close(node);
}

/* BLOCKED at a limit that was raised since: the update is told again. */
TEST(a_stale_blocked_is_answered) {
    p2p__session *s = begin(NULL);
    p2p_stream stream;
    uint64_t was;
    CHECK(s);
    (void)fill(s, 1, 0, 4096);
    stream = peers_stream();
    CHECK_INT(p2p_stream_skip(node, stream, 4096), 4096);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.value, 8192);
    give_frame(s, P2P__FRAME_STREAM_DATA_BLOCKED, 2, 1, 4096);
    hear(P2P__FRAME_MAX_STREAM_DATA);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 8192);
    was = the_conn()->recv_limit;
    give_frame(s, P2P__FRAME_DATA_BLOCKED, 1, was, 0);
    hear(P2P__FRAME_MAX_DATA);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, was + 4096); /* all that was taken */
    give_frame(s, P2P__FRAME_DATA_BLOCKED, 1, was, 0);
    hear(P2P__FRAME_MAX_DATA);
    CHECK_INT(said.value, was + 4096);
    give_frame(s, P2P__FRAME_DATA_BLOCKED, 1, was + 4096, 0);
    hear(P2P__FRAME_MAX_DATA);
    CHECK_INT(said.count, 0);
    p2p_node_close(node);
}

/* A burst of a whole window, read at once: the update that its end, said to be blocked, brings is
 * for all of it, and no part waits for the next round trip. */
TEST(a_burst_of_a_window_gets_all_of_it_again) {
    p2p__session *s = begin(NULL);
    p2p_stream stream = {0};
    uint64_t limit = 4096;
    CHECK(s);
    for (uint64_t at = 0; at < 4096; at += 512) {
        give_bytes(s, 1, at, 512);
        stream = stream.id ? stream : peers_stream();
        if (at == 4096 - 512)
            give_frame(s, P2P__FRAME_STREAM_DATA_BLOCKED, 2, 1, 4096);
        CHECK_INT(p2p_stream_skip(node, stream,
                                  at == 0            ? 400
                                  : at == 4096 - 512 ? 624
                                                     : 512),
                  at == 0            ? 400
                  : at == 4096 - 512 ? 624
                                     : 512);
        hear(P2P__FRAME_MAX_STREAM_DATA);
        limit = said.count ? said.value : limit;
    }
    CHECK_INT(limit, 8192);
    p2p_node_close(node);
}

/* The table's places are promised or kept back for others, and a connection has none: it gets one
 * when it asks. */
TEST(a_connection_without_streams_gets_one) {
    p2p__session *s = begin(NULL);
    p2p__conn *c;
    CHECK(s);
    c = the_conn();
    hear(0);
    for (uint32_t kind = 0; kind < P2P__KINDS; kind++) { /* as if it had been granted none */
        node->granted -= (uint32_t)c->taken_limit[kind];
        c->taken_limit[kind] = 0;
    }
    node->granted += 4; /* others have these */
    CHECK_INT(p2p__grantable(node), node->desc.max.peer_streams - 4 - 2);
    node->granted += 2;
    CHECK_INT(p2p__grantable(node), 0);
    give_frame(s, P2P__FRAME_STREAMS_BLOCKED, 2, P2P__KIND_BIDI, 0);
    hear(P2P__FRAME_MAX_STREAMS);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.id, P2P__KIND_BIDI);
    CHECK_INT(said.value, 1);
    node->granted -= 6;
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

static void one_each(p2p_desc *d) { d->max.peer_streams_per_conn = 1; }

/* A place promised to one kind of streams might never be used: the last one a connection may have is
 * promised to none, goes to the kind that is asked for, and when it is free again to the next. */
TEST(the_last_place_goes_to_whoever_waits) {
    p2p__session *s = begin(one_each);
    p2p_stream stream;
    p2p_event e;
    CHECK(s);
    hear(0);
    for (uint32_t kind = 0; kind < P2P__KINDS; kind++)
        CHECK_INT(s->mine.max_streams[kind], 0);
    give_frame(s, P2P__FRAME_STREAMS_BLOCKED, 2, P2P__KIND_UNI, 0);
    hear(P2P__FRAME_MAX_STREAMS);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.id, P2P__KIND_UNI);
    give_bytes(s, 3, 0, 100); /* the server's first one way */
    stream = peers_stream();
    CHECK(stream.id);
    give_frame(s, P2P__FRAME_STREAMS_BLOCKED, 2, P2P__KIND_BIDI, 0);
    hear(P2P__FRAME_MAX_STREAMS);
    CHECK_INT(said.count, 0);
    p2p__stream_free(node, p2p__stream_get(node, stream));
    hear(P2P__FRAME_MAX_STREAMS);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.id, P2P__KIND_BIDI);
    CHECK_INT(said.value, 1);
    while (p2p_next_event(node, &e) > 0)
        continue;
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* STREAMS_BLOCKED that overtakes the stream which used up the limit is not forgotten. */
TEST(a_blocked_that_overtakes_is_remembered) {
    p2p__session *s = begin(NULL);
    p2p__conn *c;
    uint64_t limit;
    CHECK(s);
    c = the_conn();
    hear(0);
    limit = c->taken_limit[P2P__KIND_UNI];
    CHECK(limit > 0);
    node->granted = node->desc.max.peer_streams - 1; /* no more than one place is left */
    give_frame(s, P2P__FRAME_STREAMS_BLOCKED, 2, P2P__KIND_UNI, limit);
    hear(P2P__FRAME_MAX_STREAMS);
    CHECK_INT(said.count, 0);
    CHECK(c->starved >> P2P__KIND_UNI & 1);
    p2p_node_close(node);
}

static void many(p2p_desc *d) { d->max.streams = 8; }

/* The peer allows 4 streams: the fifth says that it waits, and the sixth of the new limit. */
TEST(the_next_that_waits_says_so_of_the_new_limit) {
    p2p__session *s = begin(many);
    CHECK(s);
    for (int i = 0; i < 6; i++)
        CHECK_INT(p2p_stream_write(node, bare_stream(0), zeros, 10), 10);
    hear(P2P__FRAME_STREAMS_BLOCKED);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 4);
    give_ack(s, 0, said.top);
    give_frame(s, P2P__FRAME_MAX_STREAMS, 2, P2P__KIND_BIDI, 5);
    hear(P2P__FRAME_STREAMS_BLOCKED);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 5);
    give_frame(s, P2P__FRAME_MAX_STREAMS, 2, P2P__KIND_BIDI, 6);
    hear(P2P__FRAME_STREAMS_BLOCKED);
    CHECK_INT(said.count, 0);
    p2p_node_close(node);
}

/* ---- what a sender says that has no credit */
TEST(a_blocked_stream_says_so_once_a_limit) {
    p2p__session *s = begin(NULL);
    p2p_stream stream;
    uint64_t number;
    CHECK(s);
    give_frame(s, P2P__FRAME_MAX_DATA, 1, 100000, 0);
    stream = bare_stream(3);
    CHECK_INT(p2p_stream_write(node, stream, zeros, 600), 600);
    hear(P2P__FRAME_STREAM_DATA_BLOCKED);
    CHECK_INT(said.count, 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(p2p_stream_write(node, stream, zeros, 500), 500);
    hear(P2P__FRAME_STREAM_DATA_BLOCKED);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.id, 0);
    CHECK_INT(said.value, 1000);
    number = said.number;
    CHECK_INT(p2p_stream_write(node, stream, zeros, 10), 10);
    hear(P2P__FRAME_STREAM_DATA_BLOCKED);
    CHECK_INT(said.count, 0);
    for (int i = 0; i < 4; i++) {
        s->control |= P2P__CONTROL_PING;
        p2p__out_add(node, s);
        hear(P2P__FRAME_PING);
    }
    CHECK(said.top >= number + 3);
    give_ack(s, said.top, said.top); /* the frame was lost, and it is still so */
    hear(P2P__FRAME_STREAM_DATA_BLOCKED);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 1000);
    give_frame(s, P2P__FRAME_MAX_STREAM_DATA, 2, 0, 1400);
    hear(P2P__FRAME_STREAM_DATA_BLOCKED);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 1400);
    give_frame(s, P2P__FRAME_MAX_STREAM_DATA, 2, 0, 50000);
    hear(P2P__FRAME_STREAM_DATA_BLOCKED);
    CHECK_INT(said.count, 0);
    CHECK_INT(p2p__stream_get(node, stream)->send.sent, 2110);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

TEST(a_blocked_connection_says_so_once_a_limit) {
    p2p__session *s = begin(NULL);
    p2p_stream one, two;
    CHECK(s);
    one = bare_stream(3);
    two = bare_stream(3);
    CHECK_INT(p2p_stream_write(node, one, zeros, 600), 600);
    CHECK_INT(p2p_stream_write(node, two, zeros, 600), 600);
    hear(P2P__FRAME_DATA_BLOCKED);
    CHECK_INT(said.count, 1);
    CHECK_INT(said.value, 1000);
    CHECK_INT(said.bytes, 1000);
    CHECK_INT(p2p_stream_write(node, two, zeros, 100), 100);
    hear(P2P__FRAME_DATA_BLOCKED);
    CHECK_INT(said.count, 0);
    give_frame(s, P2P__FRAME_MAX_DATA, 1, 900, 0); /* smaller than before: ignored */
    hear(P2P__FRAME_DATA_BLOCKED);
    CHECK_INT(said.bytes, 0);
    give_frame(s, P2P__FRAME_MAX_DATA, 1, 1250, 0);
    hear(P2P__FRAME_DATA_BLOCKED);
    CHECK_INT(said.value, 1250);
    CHECK_INT(said.bytes, 250);
    give_frame(s, P2P__FRAME_MAX_DATA, 1, 2000, 0);
    hear(P2P__FRAME_DATA_BLOCKED);
    CHECK_INT(said.count, 0);
    CHECK_INT(said.bytes, 50);
    p2p_node_close(node);
}

/* ---- order in a packet */

/* The window of a stream of the last priority leaves while the first priority has more than a
 * packet of bytes and of datagrams to send. */
TEST(updates_go_before_bulk) {
    p2p__session *s = begin(NULL);
    p2p_stream theirs, bulk;
    uint8_t out[1500];
    CHECK(s);
    give_frame(s, P2P__FRAME_MAX_DATA, 1, 100000, 0);
    (void)fill(s, 1, 0, 4096);
    theirs = peers_stream();
    p2p__stream_get(node, theirs)->priority = 7;
    bulk = bare_stream(0);
    hear(0);
    give_frame(s, P2P__FRAME_MAX_STREAM_DATA, 2, 0, 100000);
    for (int i = 0; i < 8; i++)
        CHECK_INT(p2p_stream_write(node, bulk, zeros, 500), 500);
    CHECK_INT(p2p_stream_skip(node, theirs, 4000), 4000);
    {
        size_t size = leaves(out, NULL);
        p2p__reader r = p2p__reader_of(out + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
        p2p__frame f;
        uint32_t places[2] = {0, 0}, place = 0;
        (void)p2p__get_varint(&r);
        while (p2p__frame_get(&r, &f) == 1) {
            place++;
            if (f.type == P2P__FRAME_MAX_STREAM_DATA)
                places[0] = place;
            if (f.type == P2P__FRAME_STREAM)
                places[1] = place;
        }
        CHECK(places[0] > 0 && places[0] < places[1]);
    }
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(windows_grow_to_the_buffer),
          P2P_TEST_ENTRY(windows_grow_for_a_reader_that_keeps_up),
          P2P_TEST_ENTRY(small_buffers_are_their_own_window), P2P_TEST_ENTRY(updates_are_few),
          P2P_TEST_ENTRY(a_lost_update_comes_again),
          P2P_TEST_ENTRY(a_peer_that_waits_is_told_sooner),
          P2P_TEST_ENTRY(a_message_is_not_held_by_its_window),
          P2P_TEST_ENTRY(a_stale_blocked_is_answered),
          P2P_TEST_ENTRY(a_burst_of_a_window_gets_all_of_it_again),
          P2P_TEST_ENTRY(a_connection_without_streams_gets_one),
          P2P_TEST_ENTRY(the_last_place_goes_to_whoever_waits),
          P2P_TEST_ENTRY(a_blocked_that_overtakes_is_remembered),
          P2P_TEST_ENTRY(the_next_that_waits_says_so_of_the_new_limit),
          P2P_TEST_ENTRY(a_blocked_stream_says_so_once_a_limit),
          P2P_TEST_ENTRY(a_blocked_connection_says_so_once_a_limit),
          P2P_TEST_ENTRY(updates_go_before_bulk))
