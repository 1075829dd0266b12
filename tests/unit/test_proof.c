/* >>session: what a client takes before the server has proved itself, and what it takes for a proof. The channel is
 * a stand-in that shows every packet, so the test can be the server, and a lying one. */
#define UNIT_SODIUM
#include "unit.h"

static const uint8_t binding_bytes[32] = {1, 2, 3};
static uint64_t arena[1 << 18];
static p2p_node *node;
static p2p_conn conn;
static p2p_key server_key;

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
    return 1;
}
static int bare_flight(void *ctx, void *slab, uint64_t now_us, uint8_t *out, size_t room,
                       int keep) {
    (void)ctx;
    (void)slab;
    (void)now_us;
    (void)out;
    (void)room;
    (void)keep;
    return 0;
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
static int bare_open(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out) {
    (void)ctx;
    (void)slab;
    *out = record;
    return (int)size;
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

/* A node that dials the server and whose channel is up. */
static p2p__session *dial(void) {
    static uint8_t next;
    uint8_t seed[32] = {7};
    p2p_desc desc;
    p2p_error_detail why;
    p2p_ticket ticket;
    memset(&desc, 0, sizeof desc);
    desc.why = &why;
    memset(&ticket, 0, sizeof ticket);
    desc.secure.api = &bare;
    desc.max.conns = 2;
    desc.bytes.message_max = P2P_NONE;
    desc.random.ctx = &next;
    desc.random.fill = count_up;
    if (p2p_sodium_crypto(&desc.crypto) < 0 ||
        p2p_key_from_seed(&desc.crypto, seed, &server_key) < 0 ||
        p2p_node_open_simulated(&node, &desc, arena, sizeof arena, P2P_ABI) < 0)
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
        return s;
    }
    return NULL;
}

/* The server's HELLO and AUTH as a packet; wrong: which byte of the AUTH is changed, or -1. */
static size_t proof_packet(const p2p__session *s, uint64_t number, int wrong, uint8_t *out) {
    static const char name[] = "p2p.h/auth/v1";
    uint8_t body[64], text[143], auth[96];
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
    (void)s;
    p2p__put_varint(&w, number);
    p2p__put_varint(&w, P2P__FRAME_HELLO);
    p2p__put_varint(&w, size);
    p2p__put_bytes(&w, body, size);
    p2p__put_varint(&w, P2P__FRAME_AUTH);
    p2p__put_bytes(&w, auth, sizeof auth);
    return (size_t)(w.at - out);
}

/* A data datagram of the server's with this packet. */
static void give(const p2p__session *s, const uint8_t *packet, size_t size) {
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

static bool connected(void) {
    p2p_event e;
    bool yes = p2p_is_connected(node, conn);
    while (p2p_next_event(node, &e) > 0)
        yes = yes || e.type == P2P_EVENT_CONNECTED;
    return yes;
}

TEST(done_counts_only_behind_the_proof) {
    p2p__session *s = dial();
    uint8_t packet[512], done[] = {0, P2P__FRAME_DONE};
    size_t size;
    CHECK(s);
    give(s, done, sizeof done);
    CHECK(!connected());
    CHECK_INT(s->state, P2P__SESSION_PROVING);
    size = proof_packet(s, 1, -1, packet);
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
        size = proof_packet(s, 1, wrong, packet);
        give(s, packet, size);
        CHECK_INT(node->metrics.value[P2P_METRIC_auth_failed], 1);
        CHECK_INT(node->metrics.value[P2P_METRIC_restarts], 1);
        give(s, done, sizeof done);
        CHECK(!connected());
        CHECK(p2p__conn_get(node, conn)->state < P2P__CONN_OPEN);
        p2p_node_close(node);
    }
}

/* Data before the proof: dropped whole, not acknowledged, and no fault; taken when it comes again behind it. */
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
    size = proof_packet(s, 1, -1, packet);
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

TEST(changed_hello_ends_the_attempt) {
    p2p__session *s = dial();
    uint8_t packet[512];
    size_t size;
    CHECK(s);
    size = proof_packet(s, 0, 40, packet);
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

TEST_MAIN(P2P_TEST_ENTRY(done_counts_only_behind_the_proof),
          P2P_TEST_ENTRY(changed_proof_is_no_proof),
          P2P_TEST_ENTRY(data_before_the_proof_is_not_acknowledged),
          P2P_TEST_ENTRY(close_before_the_proof_ends_the_attempt_only),
          P2P_TEST_ENTRY(changed_hello_ends_the_attempt))
