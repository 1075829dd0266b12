/* bare.h: a node for tests of the channel, the proof and the frames. Its secure channel is a
 * stand-in that shows every packet and takes every handshake datagram for the whole handshake, so a
 * test can be the other end, and a lying one. */
#ifndef P2P_BARE_H
#define P2P_BARE_H
#define UNIT_SODIUM
#include "unit.h"

static const uint8_t binding_bytes[32] = {1, 2, 3};
static uint64_t arena[1 << 18];
static p2p_node *node;
static p2p_conn conn;
static p2p_key server_key;
static void (*bare_tweak)(p2p_desc *desc); /* what a test changes before the node opens */
static int bare_feed_says = 1; /* 1: a handshake datagram completes the handshake, 0: it goes on */
static int bare_flight_bytes = 0; /* of each handshake datagram that is always due; 0: none is */

static size_t bare_size(void *ctx, uint32_t content) {
    (void)ctx;
    (void)content;
    return 16;
}
static int bare_begin(void *ctx, void *slab, size_t size, const p2p_secure_params *params) {
    (void)ctx;
    (void)params;
    memset(slab, 0, size);
    return P2P_OK;
}
static int bare_feed(void *ctx, void *slab, uint64_t now_us, uint8_t *records, size_t size) {
    (void)ctx;
    (void)slab;
    (void)now_us;
    (void)records;
    (void)size;
    return bare_feed_says;
}
static int bare_flight(void *ctx, void *slab, uint64_t now_us, uint8_t *out, size_t room,
                       int keep) {
    (void)ctx;
    (void)slab;
    (void)now_us;
    (void)keep;
    if ((size_t)bare_flight_bytes > room)
        return 0;
    memset(out, 0x16, (size_t)bare_flight_bytes);
    return bare_flight_bytes;
}
static int bare_resend(void *ctx, void *slab, uint64_t now_us) {
    (void)ctx;
    (void)slab;
    (void)now_us;
    return P2P_OK;
}
static uint64_t bare_deadline(void *ctx, const void *slab) {
    (void)ctx;
    (void)slab;
    return P2P_NEVER;
}
static int bare_binding(void *ctx, const void *slab, uint8_t out[32]) {
    (void)ctx;
    (void)slab;
    memcpy(out, binding_bytes, 32);
    return P2P_OK;
}
static int bare_seal(void *ctx, void *slab, const uint8_t *packet, size_t size, uint8_t *out,
                     size_t room) {
    (void)ctx;
    (void)slab;
    if (size > room)
        return P2P_ERR_TOO_LARGE;
    memmove(out, packet, size);
    return (int)size;
}
/* A record that begins with 0xff counts as forged. */
static int bare_open(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out) {
    (void)ctx;
    (void)slab;
    *out = record;
    return record[0] == 0xff ? 0 : (int)size;
}
static void bare_end(void *ctx, void *slab) {
    (void)ctx;
    (void)slab;
}
static const p2p_secure_api bare = {
    "bare",     0,         1,           0,           1280,          bare_size,
    bare_begin, bare_feed, bare_flight, bare_resend, bare_deadline, bare_binding,
    bare_seal,  bare_open, bare_end};

static int count_up(void *ctx, void *out, size_t size) {
    uint8_t *next = (uint8_t *)ctx;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (*next)++;
    return P2P_OK;
}

/* A desc for small nodes, over the stand-in channel. */
static void bare_desc(p2p_desc *desc, uint32_t conns) {
    static uint8_t next;
    memset(desc, 0, sizeof *desc);
    desc->secure.api = &bare;
    desc->max.conns = conns;
    desc->max.half_open = conns;
    desc->max.streams = desc->max.peer_streams = 8;
    desc->bytes.stream_send = desc->bytes.stream_recv = 4096;
    desc->bytes.peer_send = desc->bytes.peer_recv = 4096;
    desc->bytes.message_max = 2048;
    desc->bytes.message_send = desc->bytes.message_recv = 1024;
    desc->random.ctx = &next;
    desc->random.fill = count_up;
    (void)p2p_sodium_crypto(&desc->crypto);
}

static bool bare_open_node(const p2p_desc *desc) {
    return p2p_node_open_simulated(&node, desc, arena, sizeof arena, P2P_ABI) == P2P_OK;
}

/* A node that dials the server and whose channel is up. */
static inline p2p__session *dial(void) {
    static const uint8_t seed[32] = {7};
    p2p_desc desc;
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    bare_desc(&desc, 2);
    if (bare_tweak)
        bare_tweak(&desc);
    if (p2p_key_from_seed(&desc.crypto, seed, &server_key) < 0 || !bare_open_node(&desc))
        return NULL;
    ticket.id = server_key.id;
    ticket.addrs[0].family = 4;
    ticket.addrs[0].port = 9;
    ticket.addr_count = 1;
    if (p2p_peer_add(node, &ticket) < 0 || p2p_connect(node, &ticket.id, NULL, &conn) < 0)
        return NULL;
    (void)p2p_poll(node, 1000);
    for (uint32_t i = 0; i < node->sessions.count; i++) {
        p2p__session *s = p2p__session_at(node, i);
        if (!p2p__slot_live(s))
            continue;
        s->remote = ticket.addrs[0];
        s->answered = 1;
        p2p__session_up(node, s);
        p2p__session_schedule(node, s);
        return s;
    }
    return NULL;
}

/* The server's HELLO and AUTH as a packet; wrong: which byte of the AUTH is changed, or -1. */
static inline size_t proof_packet(uint64_t number, int wrong, uint8_t *out) {
    static const char name[] = "p2p.h/auth/v1";
    uint8_t body[96], text[143], auth[96];
    p2p__writer b = p2p__writer_of(body, sizeof body), w = p2p__writer_of(out, 512);
    const void *part = body;
    size_t size;
    p2p__hello h;
    memset(&h, 0, sizeof h);
    h.version_count = h.alpn_count = 1;
    h.versions[0] = P2P_WIRE_VERSION;
    h.alpn[0] = p2p_str_of("p2p");
    h.param[P2P__PARAM_MAX_PACKET] = 1000;
    h.param[P2P__PARAM_MAX_DATA] = 1000;
    h.param[P2P__PARAM_STREAM_DATA_THEIRS] = 1000;
    h.param[P2P__PARAM_MAX_STREAMS_BIDI] = 4;
    h.param[P2P__PARAM_STREAM_DATA_MESSAGES] = h.param[P2P__PARAM_MESSAGE_MAX] = 1000;
    p2p__put_hello(&b, &h);
    size = (size_t)(b.at - body);
    memset(text, 0, sizeof text);
    memcpy(text, name, sizeof name);
    text[14] = 1;
    (void)p2p__sha256(&node->desc.crypto, &part, &size, 1, text + 15);
    memcpy(text + 47, server_key.id.bytes, 32);
    memcpy(text + 111, binding_bytes, 32);
    memcpy(auth, server_key.id.bytes, 32);
    (void)node->desc.crypto.api->sign(node->desc.crypto.ctx, server_key.seed, text, sizeof text,
                                      auth + 32);
    if (wrong >= 0)
        auth[wrong] ^= 1;
    p2p__put_varint(&w, number);
    p2p__put_varint(&w, P2P__FRAME_HELLO);
    p2p__put_varint(&w, size);
    p2p__put_bytes(&w, body, size);
    p2p__put_varint(&w, P2P__FRAME_AUTH);
    p2p__put_bytes(&w, auth, sizeof auth);
    return (size_t)(w.at - out);
}

/* A data datagram of the server's with this packet. */
static inline void give(const p2p__session *s, const uint8_t *packet, size_t size) {
    uint8_t datagram[600];
    p2p_packet in;
    memset(&in, 0, sizeof in);
    datagram[0] = P2P__DATA_TO_CLIENT;
    memcpy(datagram + 1, s->id, 8);
    memcpy(datagram + P2P__DATA_HEAD, packet, size);
    in.remote = s->remote;
    in.data = datagram;
    in.size = size + P2P__DATA_HEAD;
    (void)p2p_input(node, node->now_us + 1000, &in);
}

/* Whether CONNECTED was told by now. Takes all events. */
static inline bool connected(void) {
    p2p_event e;
    bool yes = p2p_is_connected(node, conn);
    while (p2p_next_event(node, &e) > 0)
        yes = yes || e.type == P2P_EVENT_CONNECTED;
    return yes;
}

/* A connection that is up: the proof as packet 0, DONE as packet 1. */
static inline p2p__session *dial_open(void) {
    uint8_t packet[512];
    static const uint8_t done[] = {1, P2P__FRAME_DONE};
    p2p__session *s = dial();
    if (!s)
        return NULL;
    give(s, packet, proof_packet(0, -1, packet));
    give(s, done, sizeof done);
    return connected() ? s : NULL;
}

/* The next datagram that leaves: its size, or 0. */
static inline size_t leaves(uint8_t out[1500], p2p_addr *to) {
    p2p_packet p;
    memset(&p, 0, sizeof p);
    p.data = out;
    p.size = 1500;
    if (p2p_output(node, node->now_us, &p) != 1)
        return 0;
    if (to)
        *to = p.remote;
    return p.size;
}
/* A stream of this side's; its id is 0 when there is no place for one. */
static inline p2p_stream bare_stream(uint8_t priority) {
    p2p_stream_desc desc;
    p2p_stream s;
    memset(&desc, 0, sizeof desc);
    desc.priority = priority;
    s.id = 0;
    (void)p2p_stream_open(node, conn, &desc, &s);
    return s;
}
#endif
