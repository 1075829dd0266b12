/* A peer inside an established session: the input is a row of steps, each a byte that names it and
 * the bytes it draws. Steps put frames that are nearly right into a packet, with fields near what
 * the node believes (its offsets, limits and packet numbers), send it, let time pass, or use the
 * node as an application does. After each packet the node holds every invariant, does not spin and
 * stays within its memory; at the end all that the session held is given back. */
#include "../unit/bare.h"
#include "replay.h"
#include "settle.h"

enum { HELD = 12 };

static struct {
    const uint8_t *at, *end;
    p2p__session *session;
    uint32_t session_id;
    uint64_t number;
    uint8_t packet[1300];
    p2p__writer w;
    p2p_stream held[HELD];
    int over;
} peer;

static uint32_t draw(void) { return peer.at < peer.end ? *peer.at++ : 0; }
static uint32_t below(uint32_t n) { return draw() % n; }

/* Near a number: mostly a little more or less, sometimes far away. */
static uint64_t near(uint64_t middle) {
    uint32_t how = draw();
    uint64_t value = middle;
    if (how < 64)
        value = middle + how % 16;
    else if (how < 128)
        value = middle > how % 16 ? middle - how % 16 : 0;
    else if (how < 192)
        value = (uint64_t)draw() << below(54);
    return P2P__MIN(value, P2P__VARINT_MAX);
}

static bool alive(void) {
    if (!peer.over && p2p__pool_get(&node->sessions, peer.session_id) != peer.session)
        peer.over = 1;
    return !peer.over && peer.session->state < P2P__SESSION_CLOSING;
}

static p2p__conn *conn_now(void) { return p2p__conn_get(node, conn); }

/* ---- packets */

static void packet_begin(void) {
    peer.w = p2p__writer_of(peer.packet, sizeof peer.packet);
    p2p__put_varint(&peer.w, peer.number);
}

/* Of just its size on the heap, for the sanitizers. */
static void packet_send(bool twice) {
    size_t size = (size_t)(peer.w.at - peer.packet);
    for (int i = 0; i <= twice && alive() && !peer.w.bad; i++) {
        uint8_t *copy = (uint8_t *)malloc(P2P__DATA_HEAD + size);
        p2p_packet in;
        FUZZ_CHECK(copy);
        memset(&in, 0, sizeof in);
        copy[0] = P2P__DATA_TO_CLIENT;
        memcpy(copy + 1, peer.session->id, 8);
        memcpy(copy + P2P__DATA_HEAD, peer.packet, size);
        in.remote = peer.session->remote;
        in.data = copy;
        in.size = P2P__DATA_HEAD + size;
        (void)p2p_input(node, node->now_us, &in);
        free(copy);
    }
    peer.number++;
    packet_begin();
}

static void put(uint64_t type, size_t count, uint64_t a, uint64_t b, uint64_t c) {
    uint64_t values[3] = {a, b, c};
    p2p__put_frame(&peer.w, type, count, values);
}

static uint64_t any_id(void) {
    uint32_t how = draw();
    return how < 240 ? (uint64_t)(how >> 3 & 7) << 3 | (how & 7) : near(64);
}

static p2p__stream *stream_of(uint64_t id) {
    uint32_t kind = (uint32_t)(id >> 1 & 3);
    p2p__conn *c = conn_now();
    if (!c)
        return NULL;
    if (kind == P2P__KIND_MESSAGES)
        return p2p__messages(node, c);
    return p2p__stream_find(node, p2p__conn_index(node, c), kind, !(id & 1), id >> 3);
}

static void put_stream(void) {
    uint8_t bytes[256];
    uint64_t id = any_id(), offset = 0, middle;
    p2p__stream *s = stream_of(id);
    uint32_t how = draw();
    size_t size = draw();
    if (s) {
        middle = how & 1 ? s->recv.here : how & 2 ? s->recv.limit : s->recv.high;
        offset = near(middle > size && how & 4 ? middle - size : middle);
    } else if (how & 1) {
        offset = near(0);
    }
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(how & 8 ? 1 + i % 5 : draw());
    if ((id >> 1 & 3) == P2P__KIND_REQUEST && how & 0x80) { /* GET /a */
        memcpy(bytes, "\6\0\2/a\0", 7);
        offset = 0;
        size = 7;
    }
    if (offset > P2P__VARINT_MAX - size)
        return;
    p2p__put_stream_head(&peer.w, id, offset, size, (how & 0x70) == 0);
    p2p__put_bytes(&peer.w, bytes, size);
}

/* Ranges of what was sent, mostly. */
static void put_ack(void) {
    p2p__range r[P2P__ACK_RANGES];
    uint32_t n = 0, count = 1 + below(5);
    uint64_t at = peer.session->next_number - 1;
    if (below(8) == 0)
        at = near(at);
    while (n < count && at > 2 && at < P2P__VARINT_MAX) {
        uint64_t length = below(6);
        r[n].last = at;
        r[n].first = at > length ? at - length : 0;
        for (uint32_t i = 0; i < P2P__SKIPPED; i++) /* not the numbers left out, mostly */
            if (peer.session->skipped[i] >= r[n].first && peer.session->skipped[i] <= r[n].last &&
                peer.session->skipped[i] && peer.session->skipped[i] < r[n].last)
                r[n].first = peer.session->skipped[i] + 1;
        at = r[n].first > 10 ? r[n].first - 2 - below(4) : 0;
        n++;
    }
    if (n)
        p2p__put_ack(&peer.w, r, n, draw() << below(16));
}

static void put_limit(void) {
    p2p__conn *c = conn_now();
    uint64_t id = any_id();
    p2p__stream *s = stream_of(id);
    uint32_t kind = below(P2P__KINDS);
    if (!c)
        return;
    switch (below(6)) {
    case 0: put(P2P__FRAME_MAX_DATA, 1, near(c->send_limit + 100), 0, 0); break;
    case 1: put(P2P__FRAME_MAX_STREAM_DATA, 2, id, near(s ? s->send.limit + 100 : 0), 0); break;
    case 2: put(P2P__FRAME_MAX_STREAMS, 2, kind, near(c->made_limit[kind]) & 0xffff, 0); break;
    case 3: put(P2P__FRAME_DATA_BLOCKED, 1, near(c->recv_limit), 0, 0); break;
    case 4: put(P2P__FRAME_STREAM_DATA_BLOCKED, 2, id, near(s ? s->recv.limit : 0), 0); break;
    default: put(P2P__FRAME_STREAMS_BLOCKED, 2, kind, near(c->taken_limit[kind]) & 0xffff, 0);
    }
}

static void put_rare(void) {
    uint8_t bytes[96];
    p2p_addr addr = peer.session->remote;
    uint32_t how = below(12);
    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    switch (how) {
    case 0:
        p2p__put_u8(&peer.w, P2P__FRAME_PATH_CHALLENGE);
        p2p__put_bytes(&peer.w, bytes, 8);
        break;
    case 1: p2p__put_path_response(&peer.w, bytes, &addr); break;
    case 2:
        if (draw() < 16)
            p2p__put_close(&peer.w, (uint8_t)below(2), draw(), p2p_str_of("bye"));
        break;
    case 3: p2p__put_u8(&peer.w, P2P__FRAME_DONE); break;
    case 4: /* an extension */
        put(0x40 + below(64), 1, 8, 0, 0);
        p2p__put_bytes(&peer.w, bytes, 8);
        break;
    case 5: /* anything */
        for (uint32_t n = below(24); n > 0; n--)
            p2p__put_u8(&peer.w, (uint8_t)draw());
        break;
    case 6:
    case 7: {
        size_t size = draw() * below(6);
        p2p__put_datagram_head(&peer.w, size);
        for (; size > 0; size--)
            p2p__put_u8(&peer.w, 7);
        break;
    }
    default: p2p__put_u8(&peer.w, P2P__FRAME_PING);
    }
}

static void put_end(void) {
    uint64_t id = any_id();
    p2p__stream *s = stream_of(id);
    if (below(2))
        put(P2P__FRAME_RESET_STREAM, 3, id, draw(), near(s ? s->recv.high : 0));
    else
        put(P2P__FRAME_STOP_SENDING, 2, id, draw(), 0);
}

/* ---- the application */

static void hold(p2p_stream s) { peer.held[below(HELD)] = s; }

static void application(void) {
    static const uint8_t bytes[3000] = {9};
    uint8_t got[3000];
    p2p_stream_desc desc;
    p2p_request_desc ask;
    p2p_stream s = peer.held[below(HELD)];
    p2p_span span;
    memset(&desc, 0, sizeof desc);
    memset(&ask, 0, sizeof ask);
    switch (below(14)) {
    case 0:
        desc.one_way = (uint8_t)below(2);
        desc.priority = (uint8_t)below(8);
        if (p2p_stream_open(node, conn, &desc, &s) == P2P_OK)
            hold(s);
        break;
    case 1:
    case 2: (void)p2p_stream_write(node, s, bytes, draw() * below(12)); break;
    case 3: (void)p2p_stream_finish(node, s); break;
    case 4: (void)p2p_stream_reset(node, s, draw()); break;
    case 5:
    case 6: (void)p2p_stream_read(node, s, got, draw() * below(12)); break;
    case 7: (void)p2p_send(node, conn, bytes, draw() * below(12)); break;
    case 8: (void)p2p_recv(node, conn, got, sizeof got); break;
    case 9: (void)p2p_datagram_send(node, conn, bytes, draw() * below(5)); break;
    case 10: (void)p2p_datagram_recv(node, conn, got, sizeof got); break;
    case 11:
        ask.path = "/a";
        ask.more = (uint8_t)below(2);
        if (p2p_request_send(node, conn, &ask, &s) == P2P_OK)
            hold(s);
        break;
    case 12:
        if (p2p_stream_peek(node, s, &span) > 0)
            (void)p2p_stream_skip(node, s, below(256) % (uint32_t)span.size);
        break;
    default:
        if (draw() < 8)
            (void)p2p_close(node, conn, 3, "enough");
    }
}

/* Streams that the peer opened are held, and so read and written later. */
static void events(void) {
    p2p_event e;
    for (uint32_t n = 0; p2p_next_event(node, &e) > 0; n++) {
        FUZZ_CHECK(n < 2000);
        if (e.type == P2P_EVENT_STREAM)
            hold(e.stream);
        if (e.type == P2P_EVENT_REQUEST && below(2))
            (void)p2p_reply(node, e.stream, 200, NULL, 0, "yes", 3);
        if (e.type == P2P_EVENT_DISCONNECTED)
            peer.over = 1;
    }
}

static void step(void) {
    switch (below(16)) {
    case 0:
    case 1:
    case 2:
    case 3: put_stream(); break;
    case 4:
    case 5: put_ack(); break;
    case 6: put_limit(); break;
    case 7: put_end(); break;
    case 8: put_rare(); break;
    case 9: packet_send(below(8) == 0); break;
    case 10: /* and everything is sent and told */
        packet_send(false);
        settle(events);
        break;
    case 11: peer.number += below(4) ? below(3) : draw() * 8; break;
    case 12:
        (void)p2p_poll(node, node->now_us + (uint64_t)draw() * (below(8) ? 100 : 20000));
        settle(events);
        break;
    default: application();
    }
    FUZZ_CHECK(p2p_check(node) == P2P_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 4000)
        return 0;
    static const p2p_route route = {0, 0, "/a", NULL, NULL};
    memset(&peer, 0, sizeof peer);
    peer.at = data;
    peer.end = data + size;
    peer.session = dial_open();
    FUZZ_CHECK(peer.session);
    FUZZ_CHECK(p2p_route_add(node, &route) == P2P_OK);
    peer.session_id = p2p__pool_id(&node->sessions, peer.session);
    peer.number = 2;
    packet_begin();
    while (peer.at < peer.end && alive())
        step();
    (void)p2p_close(node, conn, 0, NULL);
    for (int i = 0; i < 40; i++) { /* nobody answers; what is not read stays readable */
        settle(events);
        (void)p2p_poll(node, node->now_us + 1000000);
        FUZZ_CHECK(p2p_check(node) == P2P_OK);
    }
    settle(events);
    FUZZ_CHECK(node->sessions.used == 0 && node->flight.packets_used == 0 &&
               node->flight.chunks_used == 0);
    for (int i = 0; i < HELD; i++)
        (void)p2p_stream_reset(node, peer.held[i], 0);
    settle(events);
    p2p_node_close(node);
    return 0;
}
