/* >>stream, >>message, >>datagram: rings, runs and chunks against a byte array, windows, and what a
 * peer inside a session can try. The test is the peer: its packets are made and read by hand. */
#include "bare.h"

#define MODEL 60000u
static uint8_t model[MODEL], back[MODEL];

static uint64_t counter(uint32_t metric) { return node->metrics.value[metric]; }

static p2p__conn *the_conn(void) { return p2p__conn_get(node, conn); }

static void drain(void) {
    uint8_t out[1500];
    while (leaves(out, NULL))
        continue;
}

static p2p_stream open_stream(void) {
    p2p_stream_desc desc;
    p2p_stream s;
    memset(&desc, 0, sizeof desc);
    s.id = 0;
    (void)p2p_stream_open(node, conn, &desc, &s);
    return s;
}

/* Acknowledges every packet up to the newest, as packet number `number`. */
static void give_ack_all(const p2p__session *s, uint64_t number) {
    uint8_t packet[64];
    p2p__range range;
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    range.last = s->next_number - 1;
    for (range.first = range.last; range.first > 0; range.first--)
        for (int i = 0; i < (int)P2P__SKIPPED; i++)
            if (s->skipped[i] && s->skipped[i] == range.first - 1)
                goto found;
found:
    p2p__put_varint(&w, number);
    p2p__put_ack(&w, &range, 1, 0);
    give(s, packet, (size_t)(w.at - packet));
}

static void give_stream(const p2p__session *s, uint64_t number, uint64_t id, uint64_t offset,
                        const uint8_t *data, size_t size, bool fin) {
    uint8_t packet[560];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    p2p__put_varint(&w, number);
    p2p__put_stream_head(&w, id, offset, size, fin);
    p2p__put_bytes(&w, data, size);
    give(s, packet, (size_t)(w.at - packet));
}

static void give_hex(const p2p__session *s, uint64_t number, const char *frames) {
    uint8_t packet[512], bytes[480];
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    size_t size = unit_hex(frames, bytes, sizeof bytes);
    p2p__put_varint(&w, number);
    p2p__put_bytes(&w, bytes, size);
    give(s, packet, (size_t)(w.at - packet));
}

/* Takes all events; which types there were, as bits. */
static uint64_t events(p2p_stream *opened) {
    p2p_event e;
    uint64_t bits = 0;
    while (p2p_next_event(node, &e) > 0) {
        bits |= 1ull << e.type;
        if (e.type == P2P_EVENT_STREAM && opened)
            *opened = e.stream;
    }
    return bits;
}

TEST(rings_as_a_byte_array) {
    for (int i = 0; i < test_seeds(50); i++) {
        unit_rng rng = {test_seed()};
        uint8_t ring[257], in[257], out[257];
        for (int n = 0; n < 200; n++) {
            uint32_t room = 1 + (uint32_t)unit_below(&rng, 257);
            size_t size = (size_t)unit_below(&rng, room + 1u);
            uint64_t at = unit_spread(&rng, P2P__OFFSET_MAX);
            unit_bytes(&rng, in, size);
            p2p__ring_put(ring, room, at, in, size);
            p2p__ring_get(ring, room, at, out, size);
            CHECK_BYTES(in, out, size);
            if (size)
                CHECK_INT(ring[(at + size - 1) % room], in[size - 1]);
        }
    }
}

/* ---- receiving */

/* Pieces in any order, twice or overlapping, while the application reads at times: the bytes are
 * the model's, and those that were not taken are told by a packet that counts as not arrived. */
TEST(pieces_in_any_order) {
    for (int i = 0; i < test_seeds(60); i++) {
        unit_rng rng = {test_seed()};
        p2p__session *s = dial_open();
        p2p_stream stream = {0};
        uint64_t number = 2, read = 0, total = 1 + unit_below(&rng, MODEL);
        int err = 1;
        CHECK(s);
        s->mine.idle_us = s->theirs.idle_us = 0;
        unit_bytes(&rng, model, total);
        for (int n = 0; n < 200000 && err != 0; n++) {
            uint64_t limit = stream.id ? p2p__stream_get(node, stream)->recv.limit : 4096;
            uint64_t from = read + unit_below(&rng, P2P__MIN(limit, total) - read + 1);
            uint64_t size = unit_below(&rng, P2P__MIN(500, P2P__MIN(limit, total) - from) + 1);
            if (unit_below(&rng, 8) == 0) { /* from the front, so that it gets on */
                from = read;
                size = P2P__MIN(500, P2P__MIN(limit, total) - from);
            }
            if (from > 100 && unit_below(&rng, 4) == 0)
                from -= unit_below(&rng, 100);
            give_stream(s, number++, 1, from, model + from, (size_t)size, from + size == total);
            (void)events(&stream);
            drain();
            CHECK_INT(p2p_check(node), P2P_OK);
            CHECK(p2p_is_connected(node, conn));
            if (!stream.id || unit_below(&rng, 3))
                continue;
            err = p2p_stream_read(node, stream, back + read, (size_t)unit_below(&rng, 3000) + 1);
            CHECK(err >= 0 || err == P2P_ERR_AGAIN);
            read += err > 0 ? (uint64_t)err : 0;
        }
        CHECK_INT(err, 0);
        CHECK_INT(read, total);
        CHECK_BYTES(back, model, total);
        CHECK_INT(the_conn()->recv_total, total);
        CHECK_INT(the_conn()->recv_taken, total);
        p2p_node_close(node);
    }
}

/* Runs alone against a map of which bytes are there. */
TEST(runs_as_a_map) {
    for (int i = 0; i < test_seeds(200); i++) {
        unit_rng rng = {test_seed()};
        uint8_t map[2000];
        uint64_t base = unit_spread(&rng, P2P__OFFSET_MAX - 4096), here;
        p2p__run run[64];
        p2p__recv r;
        memset(&r, 0, sizeof r);
        r.run = run;
        r.run_room = (uint16_t)(1 + unit_below(&rng, 64));
        memset(map, 0, sizeof map);
        r.here = here = base;
        while (here < base + sizeof map) {
            uint64_t first = unit_below(&rng, sizeof map), n = 1 + unit_below(&rng, 30), end;
            uint32_t runs = 0;
            end = P2P__MIN(first + n, sizeof map);
            n = end - first;
            if (!p2p__recv_fits(&r, base + first, (size_t)n)) {
                CHECK_INT(r.runs, r.run_room);
                first = here - base; /* what closes the first hole always fits */
                end = P2P__MIN(first + 40, sizeof map);
            }
            CHECK(p2p__recv_fits(&r, base + first, (size_t)(end - first)));
            if (base + end > r.here)
                p2p__recv_note(&r, P2P__MAX(base + first, r.here), base + end);
            memset(map + first, 1, (size_t)(end - first));
            while (here < base + sizeof map && map[here - base])
                here++;
            CHECK_INT(r.here, here);
            for (uint64_t at = here - base; at < sizeof map; at++)
                runs += map[at] && (at == 0 || !map[at - 1]);
            CHECK_INT(r.runs, runs);
        }
    }
}

/* Places for runs follow the buffer: of a window of full packets every second one can be missing,
 * and small buffers pay for few. */
static uint32_t runs_of(uint32_t recv) {
    p2p_desc d;
    memset(&d, 0, sizeof d);
    d.bytes.peer_recv = recv;
    return p2p__stream_rooms(&d, 2).runs;
}
TEST(places_for_runs_follow_the_buffer) {
    CHECK_INT(runs_of(512), P2P__RUNS_MIN);
    CHECK_INT(runs_of(8192), P2P__RUNS_MIN);
    CHECK_INT(runs_of(1 << 20), 512);
    CHECK_INT(runs_of(1 << 30), P2P__RUNS_MAX);
    for (uint32_t room = 4096; room <= 1 << 20; room *= 2) {
        static p2p__run run[1024];
        uint64_t at;
        p2p__recv r;
        memset(&r, 0, sizeof r);
        r.run = run;
        r.run_room = (uint16_t)runs_of(room);
        for (at = 1140; at + 1140 <= room; at += 2280) {
            CHECK(p2p__recv_fits(&r, at, 1140));
            p2p__recv_note(&r, at, at + 1140);
        }
        for (at = 0; at + 1140 <= room; at += 2280)
            p2p__recv_note(&r, at, at + 1140);
        CHECK_INT(r.here, room / 1140 * 1140);
        CHECK_INT(r.runs, 0);
    }
}

/* ---- sending */

/* The stream's bytes of one packet that left go to `back`; how many of its frames were STREAM. */
static void take_packet(const uint8_t *datagram, size_t size, uint64_t *number, uint64_t *end) {
    p2p__reader r = p2p__reader_of(datagram + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
    p2p__frame f;
    *number = p2p__get_varint(&r);
    *end = P2P_NEVER;
    while (p2p__frame_get(&r, &f) == 1) {
        if (f.type != P2P__FRAME_STREAM || f.offset + f.data.size > MODEL)
            continue;
        memcpy(back + f.offset, f.data.data, f.data.size);
        if (f.fin)
            *end = f.offset + f.data.size;
    }
}

/* A lossy, reordering network with late acknowledgements: all bytes arrive, each record is given
 * back, and every invariant holds on the way. */
TEST(chunks_over_a_bad_network) {
    for (int i = 0; i < test_seeds(40); i++) {
        unit_rng rng = {test_seed()};
        p2p__session *s = dial_open();
        static uint8_t seen[20000];
        p2p_stream stream;
        uint64_t number = 2, written = 0, total = unit_below(&rng, MODEL), end = P2P_NEVER, top = 0;
        uint64_t loss = unit_below(&rng, 40), bits = 0;
        CHECK(s);
        stream = open_stream();
        CHECK(stream.id);
        the_conn()->send_limit = p2p__stream_get(node, stream)->send.limit = MODEL;
        memset(seen, 0, sizeof seen);
        memset(back, 0, sizeof back);
        unit_bytes(&rng, model, total);
        for (int n = 0; n < 60000 && !(bits >> P2P_EVENT_CLOSED & 1); n++) {
            uint8_t out[1500];
            size_t size;
            if (written < total) {
                uint64_t most = 1 + unit_below(&rng, 3000);
                int took = p2p_stream_write(node, stream, model + written,
                                            (size_t)P2P__MIN(total - written, most));
                CHECK(took >= 0 || took == P2P_ERR_AGAIN);
                written += took > 0 ? (uint64_t)took : 0;
            } else if (end == P2P_NEVER) {
                (void)p2p_stream_finish(node, stream);
            }
            (void)p2p_poll(node, node->now_us + unit_below(&rng, 20000));
            while ((size = leaves(out, NULL)) > P2P__DATA_HEAD && unit_below(&rng, 8)) {
                uint64_t at, fin;
                if (unit_below(&rng, 100) < loss)
                    continue;
                take_packet(out, size, &at, &fin);
                CHECK(at < sizeof seen);
                seen[at] = 1;
                top = P2P__MAX(top, at + 1);
                end = P2P__MIN(end, fin);
            }
            if (unit_below(&rng, 3) == 0 && top) { /* some of what has arrived, from anywhere */
                uint8_t packet[64];
                p2p__writer w = p2p__writer_of(packet, sizeof packet);
                p2p__range range;
                range.last = top - 1 - unit_below(&rng, P2P__MIN(top, 40));
                while (range.last > 0 && !seen[range.last])
                    range.last--;
                range.first = range.last;
                while (range.first > 0 && seen[range.first - 1] && unit_below(&rng, 10))
                    range.first--;
                p2p__put_varint(&w, number++);
                p2p__put_ack(&w, &range, 1, unit_below(&rng, 50000));
                if (seen[range.last])
                    give(s, packet, (size_t)(w.at - packet));
            }
            if (unit_below(&rng, 20) == 0) /* the peer's half ends, and it stays heard */
                give_hex(s, number++, n > 100 ? "0b0000" : "01");
            CHECK_INT(p2p_check(node), P2P_OK);
            CHECK(p2p_is_connected(node, conn));
            bits |= events(NULL);
            if (p2p_stream_read(node, stream, out, sizeof out) == 0)
                bits |= events(NULL);
        }
        CHECK(bits >> P2P_EVENT_CLOSED & 1);
        CHECK_INT(end, total);
        CHECK_BYTES(back, model, total);
        CHECK_INT(node->flight.chunks_used, 0);
        p2p_node_close(node);
    }
}

/* Small writes on one stream that nobody acknowledges: another still gets its first bytes out. */
TEST(chunks_are_left_for_other_streams) {
    p2p__session *s = dial_open();
    p2p_stream one, other;
    p2p__flight *f;
    uint16_t at;
    uint32_t n;
    CHECK(s);
    one = open_stream();
    other = open_stream();
    drain();
    f = &node->flight;
    s->cc.now.window_bytes = 1u << 20;
    for (at = f->chunk_free, n = f->chunks_used; n + 1 < 60; n++)
        at = f->chunks[at].next;
    f->chunks[at].next = P2P__NIL; /* as if 60 were all */
    f->chunk_count = 60;
    for (n = 0; n < 100; n++) {
        CHECK_INT(p2p_stream_write(node, one, "x", 1), 1);
        (void)p2p_poll(node, node->now_us + 100);
        drain();
    }
    CHECK(p2p__stream_get(node, one)->send.sent < 100);
    CHECK_INT(p2p_stream_write(node, other, "hello", 5), 5);
    drain();
    CHECK_INT(p2p__stream_get(node, other)->send.sent, 5);
    give_ack_all(s, 2);
    drain();
    CHECK_INT(p2p__stream_get(node, one)->send.sent, 100);
    p2p_node_close(node);
}

/* ---- who is served when */
/* What the packets held that left: STREAM bytes by stream number, and their order. */
static struct {
    uint64_t bytes[8], last_at[8], first_at[8], place;
    uint32_t packets, frames;
} seen_of;

static void watch_packet(const uint8_t *packet, size_t size) {
    p2p__reader r = p2p__reader_of(packet, size);
    p2p__frame f;
    (void)p2p__get_varint(&r);
    seen_of.packets++;
    while (p2p__frame_get(&r, &f) == 1) {
        uint32_t which = (uint32_t)(f.id >> 3) & 7;
        if (f.type != P2P__FRAME_STREAM)
            continue;
        seen_of.frames++;
        seen_of.place++;
        if (seen_of.bytes[which] == 0)
            seen_of.first_at[which] = seen_of.place;
        seen_of.bytes[which] += f.data.size;
        seen_of.last_at[which] = seen_of.place;
    }
}

static void watch_unpaced(p2p__session *s, uint32_t most) {
    uint8_t out[1500];
    size_t size;
    memset(&seen_of, 0, sizeof seen_of);
    while (seen_of.packets < most) {
        s->cc.pace_us = 0;
        s->cc.now.window_bytes = 1u << 20;
        p2p__out_add(node, s);
        if ((size = leaves(out, NULL)) <= P2P__DATA_HEAD)
            return;
        watch_packet(out + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
    }
}

/* A session without limits, so that only turns decide. */
static p2p__session *wide_open(void) {
    p2p__session *s = dial_open();
    if (!s)
        return NULL;
    drain();
    s->theirs.stream_theirs = s->theirs.datagram_max = 1u << 20;
    s->theirs.max_packet = 1191;
    the_conn()->send_limit = 1u << 20;
    the_conn()->made_limit[P2P__KIND_BIDI] = 8;
    return s;
}

/* All of a level before any of the next, whatever was written first. */
TEST(levels_are_strict) {
    p2p__session *s = wide_open();
    static const uint8_t levels[] = {7, 3, 0, 1};
    CHECK(s);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_INT(p2p_stream_write(node, bare_stream(levels[i]), model, 3000), 3000);
    watch_unpaced(s, 99);
    CHECK_INT(seen_of.bytes[0] + seen_of.bytes[1] + seen_of.bytes[2] + seen_of.bytes[3], 12000);
    CHECK(seen_of.last_at[2] < seen_of.first_at[3]);
    CHECK(seen_of.last_at[3] < seen_of.first_at[1]);
    CHECK(seen_of.last_at[1] < seen_of.first_at[0]);
    p2p_node_close(node);
}

/* Streams of one level get the same bytes, though datagrams take most of every second packet, and
 * one writes by small pieces. */
TEST(turns_are_fair_in_bytes) {
    p2p__session *s = wide_open();
    p2p_stream streams[2];
    uint64_t bytes[2] = {0, 0}, number = 2;
    CHECK(s);
    for (uint32_t i = 0; i < 2; i++)
        streams[i] = bare_stream(4);
    for (int n = 0; n < 600; n++) {
        for (uint32_t i = 0; i < 2; i++)
            while (p2p_stream_write(node, streams[i], model, i == 1 ? 100 : 1500) > 0)
                continue;
        if (n % 2)
            CHECK_INT(p2p_datagram_send(node, conn, model, 900), 900);
        watch_unpaced(s, 1);
        for (uint32_t i = 0; i < 2; i++)
            bytes[i] += seen_of.bytes[i];
        if (n % 4 == 3)
            give_ack_all(s, number++);
    }
    CHECK(bytes[0] > 100000);
    CHECK(bytes[1] > bytes[0] * 9 / 10 && bytes[1] < bytes[0] * 11 / 10);
    p2p_node_close(node);
}

/* What was written by pieces leaves as one frame, and what several streams wrote in one packet. */
TEST(small_writes_share_a_packet) {
    p2p__session *s = wide_open();
    p2p_stream streams[3];
    CHECK(s);
    for (uint32_t i = 0; i < 3; i++)
        streams[i] = bare_stream(4);
    for (uint32_t n = 0; n < 90; n++)
        CHECK_INT(p2p_stream_write(node, streams[n % 3], model, 10), 10);
    watch_unpaced(s, 99);
    CHECK_INT(seen_of.packets, 1);
    CHECK_INT(seen_of.frames, 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_INT(seen_of.bytes[i], 300);
    p2p_node_close(node);
}

TEST(small_messages_share_a_packet) {
    p2p__session *s = wide_open();
    CHECK(s);
    s->theirs.message_max = 1000;
    p2p__messages(node, the_conn())->send.limit = 1u << 20;
    for (uint32_t n = 0; n < 12; n++)
        CHECK_INT(p2p_send(node, conn, model, 64), 64);
    watch_unpaced(s, 99);
    CHECK_INT(seen_of.packets, 1);
    CHECK_INT(seen_of.frames, 1);
    CHECK_INT(seen_of.bytes[0], 12 * 66);
    p2p_node_close(node);
}

/* p2p_send_ref reads the caller's memory when a packet is made: nothing is copied before. */
TEST(lent_memory_is_read_at_the_last_moment) {
    p2p__session *s = wide_open();
    uint8_t out[1500];
    size_t size;
    CHECK(s);
    s->theirs.message_max = 1u << 20;
    p2p__messages(node, the_conn())->send.limit = 1u << 20;
    memset(model, 'a', 3000);
    CHECK_INT(p2p_send_ref(node, conn, model, 3000, model), 3000);
    memset(model, 'b', 3000);
    size = leaves(out, NULL);
    CHECK(size > 1000);
    CHECK_INT(out[size - 1], 'b');
    CHECK(p2p__send_used(&p2p__messages(node, the_conn())->send) < 8);
    p2p_node_close(node);
}

/* A peer that takes nothing costs the ring and no more. */
TEST(a_peer_that_never_reads) {
    p2p__session *s = dial_open();
    p2p_stream stream;
    uint8_t bytes[512] = {0};
    uint64_t number = 2;
    int took = 1, n = 0;
    CHECK(s);
    stream = open_stream();
    while (took > 0 && n++ < 100)
        took = p2p_stream_write(node, stream, bytes, sizeof bytes);
    CHECK_INT(took, P2P_ERR_AGAIN);
    CHECK_INT(p2p__stream_get(node, stream)->send.end, 4096);
    for (n = 0; n < 50; n++) {
        (void)p2p_poll(node, node->now_us + 100000);
        drain();
        give_ack_all(s, number++);
    }
    CHECK_INT(p2p__stream_get(node, stream)->send.acked, 1000); /* the limit of its HELLO */
    CHECK_INT(node->flight.chunks_used, 0);
    CHECK_INT(p2p_stream_write(node, stream, bytes, sizeof bytes), sizeof bytes);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* ---- what a stopped stream still costs the connection's window */
TEST(a_stopped_stream_waits_for_its_final_size) {
    p2p__session *s = dial_open();
    p2p_stream stream = {0};
    CHECK(s);
    give_hex(s, 2, "0a010161");
    CHECK(events(&stream) >> P2P_EVENT_STREAM & 1);
    CHECK_INT(p2p_stream_reset(node, stream, 7), P2P_OK);
    drain();
    give_ack_all(s, 3); /* RESET and STOP were heard; the peer's own RESET was lost */
    CHECK(!(events(NULL) >> P2P_EVENT_CLOSED & 1));
    CHECK_INT(the_conn()->recv_total, 1);
    give_hex(s, 4, "0401074064"); /* it had sent 100 bytes */
    CHECK(events(NULL) >> P2P_EVENT_CLOSED & 1);
    CHECK_INT(the_conn()->recv_total, 100);
    CHECK_INT(the_conn()->recv_taken, 100);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}
TEST(a_stopped_stream_that_ends_by_itself) {
    p2p__session *s = dial_open();
    p2p_stream stream = {0};
    CHECK(s);
    give_hex(s, 2, "0a010161");
    (void)events(&stream);
    CHECK_INT(p2p_stream_reset(node, stream, 7), P2P_OK);
    drain();
    give_hex(s, 3, "0f01010161"); /* the last byte was on its way */
    give_ack_all(s, 4);
    CHECK(events(NULL) >> P2P_EVENT_CLOSED & 1);
    CHECK_INT(the_conn()->recv_total, 2);
    CHECK_INT(the_conn()->recv_taken, 2);
    p2p_node_close(node);
}

/* ---- datagrams */

/* A packet that is not taken, for a hole too many, is not acknowledged and may come again: its
 * datagram still comes once. */
TEST(a_datagram_of_a_packet_not_taken) {
    p2p__session *s = dial_open();
    char last[64];
    CHECK(s);
    for (uint32_t i = 0; i < P2P__RUNS_MIN; i++) {
        char frames[32];
        (void)snprintf(frames, sizeof frames, "0e01%04x0161", 0x4000u + 64 + 2 * i);
        give_hex(s, 2 + i, frames);
    }
    (void)snprintf(last, sizeof last, "310264640e01%04x0161", 0x4000u + 1000);
    for (int i = 0; i < 3; i++)
        give_hex(s, 40, last);
    CHECK_INT(counter(P2P_METRIC_holes_full), 3);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_received), 0);
    give_stream(s, 41, 1, 0, model, 70, false);
    give_hex(s, 40, last);
    give_hex(s, 40, last);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_received), 1);
    p2p_node_close(node);
}

/* One queued before the peer's limit was known, here 0, is dropped and not sent. */
TEST(a_datagram_queued_too_early) {
    uint8_t packet[512];
    static const uint8_t done[] = {1, P2P__FRAME_DONE};
    p2p__session *s = dial();
    CHECK(s);
    CHECK_INT(p2p_datagram_send(node, conn, "hello", 5), 5);
    give(s, packet, proof_packet(0, -1, packet));
    give(s, done, sizeof done);
    drain();
    CHECK_INT(counter(P2P_METRIC_app_datagrams_sent), 0);
    CHECK_INT(counter(P2P_METRIC_app_datagrams_dropped_out), 1);
    CHECK_INT(p2p_datagram_send(node, conn, "hello", 5), P2P_ERR_TOO_LARGE);
    p2p_node_close(node);
}

/* ---- the rest of what a peer can try */
TEST(a_message_of_2_62_bytes) {
    p2p__session *s = dial_open();
    CHECK(s);
    give_hex(s, 2, "0807ffffffffffffffff");
    CHECK_INT(counter(P2P_METRIC_message_too_large), 1);
    CHECK(!p2p_is_connected(node, conn));
    p2p_node_close(node);
}

/* Streams of a lost connection hold the last places; when they are read, a peer that asked in vain
 * is granted some. */
TEST(places_of_a_lost_connection_go_to_who_asked) {
    p2p__session *s = dial_open();
    p2p__stream *held[8];
    p2p__conn *c;
    uint32_t n = 0;
    uint64_t limit;
    char asks[16];
    CHECK(s);
    c = the_conn();
    while (node->granted < node->desc.max.peer_streams) {
        held[n] = p2p__stream_take(node, &node->peer_streams, false);
        CHECK(held[n]);
        held[n]->conn = P2P__NIL;
        held[n++]->send.chunk_first = P2P__NIL;
        node->granted++;
    }
    for (uint32_t kind = 0; kind < P2P__KINDS; kind++) { /* all it had is used up */
        node->granted -= (uint32_t)(c->taken_limit[kind] - c->taken[kind]);
        c->taken[kind] = c->taken_limit[kind];
    }
    while (node->granted < node->desc.max.peer_streams) {
        held[n] = p2p__stream_take(node, &node->peer_streams, false);
        CHECK(held[n]);
        held[n]->conn = P2P__NIL;
        held[n++]->send.chunk_first = P2P__NIL;
        node->granted++;
    }
    limit = c->taken_limit[P2P__KIND_BIDI];
    (void)snprintf(asks, sizeof asks, "1600%02x", (unsigned)limit);
    give_hex(s, 2, asks);
    CHECK_INT(c->taken_limit[P2P__KIND_BIDI], limit);
    while (n)
        p2p__stream_free(node, held[--n]);
    CHECK(c->taken_limit[P2P__KIND_BIDI] > limit);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* The end is known and bytes before it are missing when the connection is lost: no reader may take
 * what there is for all. */
TEST(a_hole_that_stays_is_no_end) {
    uint8_t packet[64], byte;
    p2p__session *s = dial_open();
    p2p__writer w = p2p__writer_of(packet, sizeof packet);
    p2p_stream stream;
    p2p_event e;
    CHECK(s);
    p2p__put_varint(&w, 2);
    p2p__put_stream_head(&w, 1, 10, UINT64_MAX,
                         true); /* the server's first stream, from byte 10 on */
    p2p__put_bytes(&w, "the end", 7);
    give(s, packet, (size_t)(w.at - packet));
    CHECK_INT(p2p_next_event(node, &e), 1);
    CHECK_INT(e.type, P2P_EVENT_STREAM);
    stream = e.stream;
    CHECK_INT(p2p_stream_read(node, stream, &byte, 1), P2P_ERR_AGAIN);
    p2p__streams_lost(node, the_conn());
    CHECK_INT(p2p_stream_read(node, stream, &byte, 1), P2P_ERR_CLOSED);
    p2p_node_close(node);
}

/* A stream may be known before the connection is up; what it says comes after CONNECTED. */
TEST(connected_comes_before_its_streams_events) {
    uint8_t packet[512];
    static const uint8_t done[] = {1, P2P__FRAME_DONE};
    p2p__session *s = dial();
    p2p_stream stream;
    p2p_event e;
    CHECK(s);
    stream = open_stream();
    p2p__raise(node, p2p__stream_get(node, stream), P2P__EV_WRITABLE);
    give(s, packet, proof_packet(0, -1, packet));
    give(s, done, sizeof done);
    CHECK_INT(p2p_next_event(node, &e), 1);
    CHECK_INT(e.type, P2P_EVENT_CONNECTED);
    CHECK_INT(p2p_next_event(node, &e), 1);
    CHECK_INT(e.type, P2P_EVENT_WRITABLE);
    CHECK_INT(e.stream.id, stream.id);
    p2p_node_close(node);
}

/* Reset before the dial moves to another session: there nothing was sent, and the size says so. */
TEST(a_reset_stream_moves_with_size_0) {
    uint8_t packet[512];
    p2p__session *s = dial();
    p2p_stream stream;
    CHECK(s);
    give(s, packet, proof_packet(0, -1, packet));
    stream = open_stream();
    CHECK_INT(p2p_stream_write(node, stream, "hello", 5), 5);
    drain();
    CHECK_INT(the_conn()->send_total, 5);
    CHECK_INT(p2p_stream_reset(node, stream, 1), P2P_OK);
    CHECK_INT(p2p__stream_get(node, stream)->send.end, 5);
    p2p__conn_detach(node, the_conn());
    CHECK_INT(the_conn()->send_total, 0);
    CHECK_INT(p2p__stream_get(node, stream)->send.end, 0);
    CHECK_INT(p2p__stream_get(node, stream)->send.want_reset, 1);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(rings_as_a_byte_array), P2P_TEST_ENTRY(pieces_in_any_order),
          P2P_TEST_ENTRY(runs_as_a_map), P2P_TEST_ENTRY(places_for_runs_follow_the_buffer),
          P2P_TEST_ENTRY(chunks_over_a_bad_network),
          P2P_TEST_ENTRY(chunks_are_left_for_other_streams), P2P_TEST_ENTRY(levels_are_strict),
          P2P_TEST_ENTRY(turns_are_fair_in_bytes), P2P_TEST_ENTRY(small_writes_share_a_packet),
          P2P_TEST_ENTRY(small_messages_share_a_packet),
          P2P_TEST_ENTRY(lent_memory_is_read_at_the_last_moment),
          P2P_TEST_ENTRY(a_peer_that_never_reads),
          P2P_TEST_ENTRY(a_stopped_stream_waits_for_its_final_size),
          P2P_TEST_ENTRY(a_stopped_stream_that_ends_by_itself),
          P2P_TEST_ENTRY(a_datagram_of_a_packet_not_taken),
          P2P_TEST_ENTRY(a_datagram_queued_too_early), P2P_TEST_ENTRY(a_message_of_2_62_bytes),
          P2P_TEST_ENTRY(a_hole_that_stays_is_no_end),
          P2P_TEST_ENTRY(connected_comes_before_its_streams_events),
          P2P_TEST_ENTRY(a_reset_stream_moves_with_size_0),
          P2P_TEST_ENTRY(places_of_a_lost_connection_go_to_who_asked))
