/* attack.h: three nodes in virtual time. BOB serves; ALICE is honest and measures what Bob's answers
 * take; MALLORY proves herself like anybody, and then her session is taken from her node: the test
 * speaks whatever packets it likes, and sees all of Bob's.
 *
 * How much work a packet makes Bob do is counted, not timed: the compiler calls a counter in every
 * basic block (-fsanitize-coverage=trace-pc, see the Makefile), and copies count by their size. The
 * ciphers of the libraries below are not counted. */
#ifndef ATTACK_H
#define ATTACK_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t work;
#define memcpy(to, from, size)  (work += (size_t)(size) / 64, memcpy(to, from, size))
#define memmove(to, from, size) (work += (size_t)(size) / 64, memmove(to, from, size))
#define memset(to, byte, size)  (work += (size_t)(size) / 64, memset(to, byte, size))
#define P2P_DEBUG
#include "wire.h"

#if defined(__clang__)
#define UNCOUNTED __attribute__((no_sanitize("coverage")))
#else
#define UNCOUNTED __attribute__((no_sanitize_coverage))
#endif
void __sanitizer_cov_trace_pc(void);
UNCOUNTED void __sanitizer_cov_trace_pc(void) { work++; }

enum { READS_ALL, READS_NOTHING };
enum { WRITES_NOTHING, WRITES_MUCH, WRITES_MANY };
enum { BY_MESSAGE, BY_STREAM, BY_DATAGRAM, BY_REQUEST, WAYS };
enum { SHE_CLOSES = -1, MANY = 500 };
/* Basic blocks for one datagram. A full one of bulk data makes about 1,000; the worst, hundreds of
 * frames of two bytes each, 140 a byte. A walk through one of Bob's tables for each frame makes a
 * million. An ACK is short and makes as much work as what it acknowledges had frames. DRIVE_MAX is
 * for all that a driver asks of Bob at one moment. */
enum { WORK_A_PACKET = 30000, WORK_A_BYTE = 150, DRIVE_MAX = 200000 };
enum { TURNS = 64, PING_US = 10000 };

/* What one attack is, and how it must end. */
typedef struct attack {
    void (*strike)(uint32_t turn); /* each every_us, `turns` times */
    uint32_t turns;
    uint64_t every_us; /* 0: a millisecond */
    int reads;         /* what Bob's application does with what comes from Mallory */
    int writes;        /* to her: one stream and messages without end, or many small streams */
    int code;          /* of Bob's CLOSE; 0: the connection stays; SHE_CLOSES */
    uint32_t counter;  /* this one rises; 0: none needs to */
} attack;

static struct {
    p2p_node *node;
    p2p__session *session;
    uint64_t number;         /* of the next packet */
    uint64_t heard[1 << 14]; /* numbers of Bob's packets, in order of arrival */
    uint32_t heard_count;
    uint64_t in, out; /* datagrams to Bob, and from him */
    uint64_t bytes_in, bytes_out;
    uint64_t elsewhere_in, elsewhere_out; /* bytes under and to an address that is not hers */
    uint32_t frames[256];                 /* how often each type came from Bob */
    int deaf;
    int closed;               /* code of the CLOSE that came, -1: none */
    uint64_t work, work_most; /* of Bob's p2p_input for one datagram of hers */
    uint32_t too_much;        /* datagrams that made more work than their size explains */
    p2p_addr from;            /* whose address she writes on her datagrams */
    uint8_t packet[1400];
    p2p__writer w;
} mallory;

static struct { uint64_t sent[WAYS], back[WAYS], worst_us; } alice;

static struct {
    const attack *now;
    p2p_conn of_mallory;
    p2p_stream stream;
    uint32_t turn, many, ended;
    int err;
    uint64_t work, work_most; /* of what a driver asks of him at one moment */
    uint64_t wakes;
    int spun;
} bob;

static uint64_t counter(uint32_t metric) {
    p2p_metrics m;
    p2p_metrics_get(hosts[BOB].node, &m);
    return m.value[metric];
}

static p2p__session *bob_session(void) {
    p2p__conn *c = p2p__conn_get(hosts[BOB].node, bob.of_mallory);
    return c ? p2p__session_at(hosts[BOB].node, c->session) : NULL;
}

static p2p__conn *bob_conn(void) { return p2p__conn_get(hosts[BOB].node, bob.of_mallory); }

/* ---- Mallory's packets ---- */

static void packet_begin(void) {
    mallory.w = p2p__writer_of(mallory.packet, 1100);
    p2p__put_varint(&mallory.w, mallory.number++);
}

static size_t packet_left(void) { return (size_t)(mallory.w.end - mallory.w.at); }

static void put(uint64_t type, size_t count, uint64_t a, uint64_t b, uint64_t c) {
    uint64_t values[3] = {a, b, c};
    p2p__put_frame(&mallory.w, type, count, values);
}

static void put_stream(uint64_t id, uint64_t offset, const void *data, size_t size, bool fin) {
    p2p__put_stream_head(&mallory.w, id, offset, size, fin);
    p2p__put_bytes(&mallory.w, (const uint8_t *)data, size);
}

static void put_hex(const char *text) {
    for (unsigned value; *text && sscanf(text, "%2x", &value) == 1; text += 2)
        p2p__put_u8(&mallory.w, (uint8_t)value);
}

/* Seals what was put, and hands it to Bob now. */
static void packet_end(void) {
    uint8_t out[1500];
    p2p_packet in;
    host *b = &hosts[BOB];
    uint64_t was;
    int n;
    out[0] = P2P__DATA_TO_SERVER;
    memcpy(out + 1, mallory.session->id, 8);
    n = p2p__secure(mallory.node)
            ->seal(p2p__secure_ctx(mallory.node), mallory.session->slab, mallory.packet,
                   (size_t)(mallory.w.at - mallory.packet), out + P2P__DATA_HEAD,
                   sizeof out - P2P__DATA_HEAD);
    CHECK(!mallory.w.bad && n > 0);
    memset(&in, 0, sizeof in);
    in.remote = mallory.from;
    in.local = b->addr;
    in.data = out;
    in.size = (size_t)n + P2P__DATA_HEAD;
    mallory.in++;
    *(p2p__addr_equal(&mallory.from, &hosts[MALLORY].addr) ? &mallory.bytes_in
                                                           : &mallory.elsewhere_in) += in.size;
    was = work;
    (void)p2p_input(b->node, wire.now_us, &in);
    was = work - was;
    mallory.work += was;
    mallory.work_most = P2P__MAX(mallory.work_most, was);
    mallory.too_much += was > WORK_A_PACKET + WORK_A_BYTE * in.size;
}

static void hit(uint64_t type, size_t count, uint64_t a, uint64_t b, uint64_t c) {
    packet_begin();
    put(type, count, a, b, c);
    packet_end();
}

static void hit_hex(const char *frames) {
    packet_begin();
    put_hex(frames);
    packet_end();
}

/* The id of a stream that Mallory, the client, opens. */
static uint64_t her_stream(uint32_t kind, uint64_t number) { return number << 3 | kind << 1; }

/* Acknowledges what has come from Bob since, but for the first `but`. */
static void put_ack(uint32_t but) {
    p2p__range r[P2P__ACK_RANGES];
    uint32_t n = 0, at = mallory.heard_count;
    while (at > but && n < P2P__ACK_RANGES) {
        r[n].last = r[n].first = mallory.heard[--at];
        while (at > but && mallory.heard[at - 1] + 1 == r[n].first)
            r[n].first = mallory.heard[--at];
        n++;
    }
    if (n)
        p2p__put_ack(&mallory.w, r, n, 0);
}

static void hit_ack(void) {
    packet_begin();
    put_ack(0);
    packet_end();
}

/* ---- what comes from Bob ---- */

static void mallory_hears(const uint8_t *data, size_t size) {
    uint8_t copy[DATAGRAM], *plain = NULL;
    p2p__frame f;
    p2p__reader r;
    int n;
    memcpy(copy, data, size);
    if (copy[0] != P2P__DATA_TO_CLIENT)
        return;
    n = p2p__secure(mallory.node)
            ->open(p2p__secure_ctx(mallory.node), mallory.session->slab, copy + P2P__DATA_HEAD,
                   size - P2P__DATA_HEAD, &plain);
    CHECK(n > 0);
    r = p2p__reader_of(plain, (size_t)n);
    if (mallory.heard_count < sizeof mallory.heard / sizeof mallory.heard[0])
        mallory.heard[mallory.heard_count++] = p2p__get_varint(&r);
    while (p2p__frame_get(&r, &f) == 1) {
        mallory.frames[f.type]++;
        if (f.type == P2P__FRAME_CLOSE)
            mallory.closed = (int)f.code;
    }
}

static int on_send(int from, int to, const uint8_t *data, size_t size) {
    if (from == BOB && to == MALLORY && data[0] == P2P__DATA_TO_CLIENT && mallory.deaf)
        return 0;
    if (from != BOB || !mallory.node)
        return 1;
    if (to != MALLORY) { /* hers all the same: an answer to an address that she made up */
        bool hers = memcmp(data + 1, mallory.session->id, 8) == 0;
        mallory.elsewhere_out += hers ? size : 0;
        return !hers;
    }
    mallory.out++;
    mallory.bytes_out += size;
    mallory_hears(data, size);
    return 0;
}

/* ---- Bob's application ---- */

static void bob_writes(void) {
    static const uint8_t bytes[4096] = {1};
    p2p_node *node = hosts[BOB].node;
    p2p_stream_desc desc;
    p2p_stream s;
    memset(&desc, 0, sizeof desc);
    if (!bob.now->writes || !bob_conn())
        return;
    while (bob.now->writes == WRITES_MANY && bob.many < MANY &&
           p2p_stream_open(node, bob.of_mallory, &desc, &s) == P2P_OK) {
        bob.many++;
        (void)p2p_stream_write(node, s, bytes, 10);
    }
    if (bob.now->writes == WRITES_MANY)
        return;
    if (!bob.stream.id)
        (void)p2p_stream_open(node, bob.of_mallory, &desc, &bob.stream);
    while (p2p_stream_write(node, bob.stream, bytes, sizeof bytes) > 0)
        continue;
    while (p2p_send(node, bob.of_mallory, bytes, sizeof bytes) > 0)
        continue;
}

static void bob_takes(const p2p_event *e) {
    p2p_node *node = hosts[BOB].node;
    uint8_t bytes[2048];
    int n = -1;
    if (bob.now->reads != READS_ALL)
        return;
    while (e->stream.id && (n = p2p_stream_read(node, e->stream, bytes, sizeof bytes)) > 0)
        continue;
    if (n == 0)
        (void)p2p_stream_finish(node, e->stream);
    while (e->type == P2P_EVENT_MESSAGE && p2p_recv(node, e->conn, bytes, sizeof bytes) >= 0)
        continue;
    while (e->type == P2P_EVENT_DATAGRAM &&
           p2p_datagram_recv(node, e->conn, bytes, sizeof bytes) >= 0)
        continue;
}

/* Alice gets back what she sends. */
static void bob_echoes(const p2p_event *e) {
    p2p_node *node = hosts[BOB].node;
    uint8_t bytes[64];
    int n = 0;
    if (e->type == P2P_EVENT_MESSAGE && (n = p2p_recv(node, e->conn, bytes, sizeof bytes)) > 0)
        (void)p2p_send(node, e->conn, bytes, (size_t)n);
    if (e->type == P2P_EVENT_DATAGRAM &&
        (n = p2p_datagram_recv(node, e->conn, bytes, sizeof bytes)) > 0)
        (void)p2p_datagram_send(node, e->conn, bytes, (size_t)n);
    if (e->type == P2P_EVENT_REQUEST)
        (void)p2p_reply(node, e->stream, 200, NULL, 0, "", 0);
    if (e->type == P2P_EVENT_STREAM || e->type == P2P_EVENT_READABLE)
        while ((n = p2p_stream_read(node, e->stream, bytes, sizeof bytes)) > 0)
            (void)p2p_stream_write(node, e->stream, bytes, (size_t)n);
    if (n == 0 && e->stream.id)
        (void)p2p_stream_finish(node, e->stream);
}

static void bob_events(void) {
    p2p_event e;
    for (int n = 0; n < 100000 && p2p_next_event(hosts[BOB].node, &e) > 0; n++) {
        bool honest = p2p_id_equal(&e.peer, &hosts[ALICE].id);
        if (e.type == P2P_EVENT_CONNECTED && !honest)
            bob.of_mallory = e.conn;
        if (e.type == P2P_EVENT_DISCONNECTED && !honest) {
            bob.ended++;
            bob.err = e.err;
        }
        if (honest)
            bob_echoes(&e);
        else
            bob_takes(&e);
    }
    bob_writes();
}

/* ---- Alice measures ---- */

static void alice_asks(uint32_t turn) {
    p2p_node *node = hosts[ALICE].node;
    int way = (int)(turn % WAYS), n = -1;
    void *user = (void *)(uintptr_t)wire.now_us;
    p2p_stream_desc stream;
    p2p_request_desc request;
    p2p_stream s;
    memset(&stream, 0, sizeof stream);
    memset(&request, 0, sizeof request);
    request.path = "/t";
    stream.user = request.user = user;
    if (way == BY_MESSAGE)
        n = p2p_send(node, hosts[ALICE].conn, &wire.now_us, sizeof wire.now_us);
    else if (way == BY_DATAGRAM)
        n = p2p_datagram_send(node, hosts[ALICE].conn, &wire.now_us, sizeof wire.now_us);
    else if (way == BY_REQUEST)
        n = p2p_request_send(node, hosts[ALICE].conn, &request, &s);
    else if ((n = p2p_stream_open(node, hosts[ALICE].conn, &stream, &s)) >= 0) {
        n = p2p_stream_write(node, s, "hello", 5);
        (void)p2p_stream_finish(node, s);
    }
    alice.sent[way]++;
    if (n < 0)
        printf("    Alice's way %d: %s\n", way, p2p_err_name(n));
}

static void alice_got(int way, uint64_t sent_us) {
    alice.back[way]++;
    alice.worst_us = P2P__MAX(alice.worst_us, wire.now_us - sent_us);
}

static void alice_events(void) {
    p2p_node *node = hosts[ALICE].node;
    uint8_t bytes[64];
    uint64_t at;
    p2p_event e;
    while (p2p_next_event(node, &e) > 0) {
        at = (uint64_t)(uintptr_t)e.user;
        if (e.type == P2P_EVENT_CONNECTED)
            hosts[ALICE].conn = e.conn;
        if (e.type == P2P_EVENT_MESSAGE && p2p_recv(node, e.conn, &at, sizeof at) == 8)
            alice_got(BY_MESSAGE, at);
        if (e.type == P2P_EVENT_DATAGRAM && p2p_datagram_recv(node, e.conn, &at, sizeof at) == 8)
            alice_got(BY_DATAGRAM, at);
        if (e.type == P2P_EVENT_RESPONSE && e.err == P2P_OK && e.status == 200)
            alice_got(BY_REQUEST, at);
        if (e.type == P2P_EVENT_READABLE &&
            p2p_stream_read(node, e.stream, bytes, sizeof bytes) == 5) {
            alice_got(BY_STREAM, at);
            (void)p2p_stream_read(node, e.stream, bytes, sizeof bytes);
        }
        if (e.type == P2P_EVENT_READABLE || e.type == P2P_EVENT_RESPONSE)
            (void)p2p_stream_read(node, e.stream, bytes, sizeof bytes);
    }
}

static void mallory_events(void) {
    p2p_event e;
    while (p2p_next_event(hosts[MALLORY].node, &e) > 0)
        continue;
}

/* ---- time ---- */

/* Everything that is due at this moment; then nothing may be due at it any more. */
static void drive(int which, void (*events)(void)) {
    p2p_node *node = hosts[which].node;
    int turns = 0;
    do {
        (void)p2p_poll(node, wire.now_us);
        events();
        host_send(which);
    } while (p2p_deadline(node) <= wire.now_us && ++turns < TURNS);
    if (which == BOB && turns == TURNS)
        bob.spun = 1;
}

/* Lets time pass, with attacks and Alice's questions in it. */
static void pass(uint64_t us, bool asks) {
    static const attack peace;
    uint64_t end_us = wire.now_us + us, strike_us = wire.now_us, ask_us = wire.now_us, was;
    uint32_t asked = 0;
    if (!bob.now)
        bob.now = &peace;
    while (wire.now_us < end_us && !test_state.failed) {
        const attack *a = bob.now;
        uint64_t next_us = end_us, due_us;
        wire_deliver();
        if (a->strike && bob.turn < a->turns && wire.now_us >= strike_us) {
            a->strike(bob.turn++);
            strike_us += a->every_us ? a->every_us : MS;
        }
        if (asks && wire.now_us >= ask_us) {
            alice_asks(asked++);
            ask_us += PING_US;
        }
        if (hosts[MALLORY].node)
            drive(MALLORY, mallory_events);
        drive(ALICE, alice_events);
        was = work;
        drive(BOB, bob_events);
        bob.work += work - was;
        bob.work_most = P2P__MAX(bob.work_most, work - was);
        if (a->strike && bob.turn < a->turns)
            next_us = P2P__MIN(next_us, strike_us);
        if (asks)
            next_us = P2P__MIN(next_us, ask_us);
        for (int i = 0; i < wire.count; i++)
            next_us = P2P__MIN(next_us, wire.queue[i].at_us);
        next_us = P2P__MIN(next_us, p2p_deadline(hosts[ALICE].node));
        if (hosts[MALLORY].node)
            next_us = P2P__MIN(next_us, p2p_deadline(hosts[MALLORY].node));
        due_us = p2p_deadline(hosts[BOB].node);
        bob.wakes += due_us < next_us;
        next_us = P2P__MIN(next_us, due_us);
        wire.now_us = P2P__MAX(next_us, wire.now_us + 1);
    }
}

/* ---- the world ---- */

static void dials_bob(int which) {
    p2p_ticket ticket;
    p2p_conn conn;
    memset(&ticket, 0, sizeof ticket);
    ticket.id = hosts[BOB].id;
    ticket.addrs[0] = hosts[BOB].addr;
    ticket.addr_count = 1;
    CHECK(p2p_peer_add(hosts[which].node, &ticket) >= 0);
    CHECK(p2p_connect(hosts[which].node, &ticket.id, NULL, &conn) >= 0);
}

/* Takes Mallory's session from her node, which is not driven any more. */
static void mallory_turns(void) {
    mallory.node = hosts[MALLORY].node;
    hosts[MALLORY].node = NULL;
    for (uint32_t i = 0; i < mallory.node->sessions.count; i++)
        if (p2p__slot_live(p2p__session_at(mallory.node, i)))
            mallory.session = p2p__session_at(mallory.node, i);
    CHECK(mallory.session);
    mallory.deaf = 0;
    mallory.number = mallory.session->next_number;
    mallory.from = hosts[MALLORY].addr;
}

/* Bob has tables as a server has them, so that work in proportion to them shows, or as a device has
 * them, so that whoever takes too much of them leaves nothing to others. */
static void world_begin(uint64_t seed, bool small) {
    static const p2p_route route = {0, 0, "/t", NULL, NULL};
    p2p_desc *d = &hosts[BOB].desc;
    wire_begin(seed);
    CHECK_SO_FAR();
    memset(&mallory, 0, sizeof mallory);
    memset(&alice, 0, sizeof alice);
    memset(&bob, 0, sizeof bob);
    mallory.closed = -1;
    wire.on_send = on_send;
    d->max.conns = small ? 2 : 64;
    d->max.streams = d->max.peer_streams = small ? 32 : 512;
    d->max.in_flight = small ? 32 : 4096;
    d->max.datagrams_in = d->max.datagrams_out = small ? 8 : 512;
    d->bytes.stream_send = d->bytes.stream_recv = d->bytes.peer_send = small ? 1024 : 4096;
    d->bytes.message_send = d->bytes.message_recv = small ? 4096 : 65536;
    d->bytes.peer_recv = small ? 8192 : 65536;
    d->bytes.head_max = d->bytes.body_max = small ? 2048 : 4096;
    host_open(BOB, 1);
    host_open(ALICE, 0);
    host_open(MALLORY, 0);
    CHECK_SO_FAR();
    CHECK_INT(p2p_route_add(hosts[BOB].node, &route), P2P_OK);
    dials_bob(ALICE);
    pass(SECOND, false);
    CHECK(p2p_is_connected(hosts[ALICE].node, hosts[ALICE].conn));
}

static void world_end(void) {
    if (mallory.node)
        hosts[MALLORY].node = mallory.node;
    memset(&mallory, 0, sizeof mallory);
    wire_close();
}
#endif
