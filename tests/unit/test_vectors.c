/* The vectors of docs/SPEC.md, section 17: p2p.h makes and reads the bytes that the page says. They
 * are made a second time, from the page alone, by tests/vectors/test_spec.py. */
#define UNIT_SODIUM
#include "unit.h"

static char page[1 << 17];
static p2p_node node;
static p2p__session session;
static uint8_t binding_bytes[32];

/* ---- the page */

static const char *page_load(void) {
    FILE *f = fopen("docs/SPEC.md", "rb");
    size_t size = f ? fread(page, 1, sizeof page - 1, f) : 0;
    char *start;
    if (f)
        (void)fclose(f);
    page[size] = 0;
    start = strstr(page, "## 17. Test vectors");
    return start ? strstr(start, "```") : NULL;
}

/* The value of a name, its lines joined: its length, or 0 when the page has none. */
static size_t page_text(const char *name, char *out, size_t room) {
    const char *at = page_load();
    char head[64];
    size_t n = 0;
    (void)snprintf(head, sizeof head, "\n%s =", name);
    at = at ? strstr(at, head) : NULL;
    if (!at)
        return 0;
    for (at += strlen(head); *at && n + 1 < room; at++) {
        if (*at == '\n' && at[1] != ' ')
            break;
        if (*at != '\n' && *at != ' ')
            out[n++] = *at;
    }
    out[n] = 0;
    return n;
}

typedef struct bytes {
    uint8_t data[1024];
    size_t size;
} bytes;

static bytes vector(const char *name) {
    static char text[4096];
    bytes b;
    memset(&b, 0, sizeof b);
    if (page_text(name, text, sizeof text))
        b.size = unit_hex(text, b.data, sizeof b.data);
    if (!b.size)
        printf("    docs/SPEC.md has no vector %s\n", name);
    return b;
}

#define CHECK_VECTOR(name, made, length)             \
    do {                                             \
        bytes want_ = vector(name);                  \
        CHECK(want_.size > 0);                       \
        CHECK_INT((length), want_.size);             \
        CHECK_BYTES((made), want_.data, want_.size); \
    } while (0)

static p2p_id vector_id(const char *name) {
    bytes b = vector(name);
    p2p_id id;
    memcpy(id.bytes, b.data, sizeof id.bytes);
    return id;
}

/* ---- section 2 */

TEST(keys) {
    static const char *const sides[] = {"client", "server"};
    p2p_crypto crypto;
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    for (int i = 0; i < 2; i++) {
        char name[32];
        p2p_key key;
        (void)snprintf(name, sizeof name, "%s_seed", sides[i]);
        CHECK_INT(p2p_key_from_seed(&crypto, vector(name).data, &key), 0);
        (void)snprintf(name, sizeof name, "%s_id", sides[i]);
        CHECK_VECTOR(name, key.id.bytes, 32);
    }
}

TEST(id_text) {
    p2p_id id = vector_id("server_id"), back;
    char text[P2P_ID_TEXT_SIZE], want[128];
    CHECK_INT(page_text("server_id_text", want, sizeof want), 52);
    CHECK_INT(p2p_id_text(&id, text), 52);
    CHECK_STR(text, want);
    CHECK_INT(p2p_id_parse(want, &back), 0);
    CHECK(p2p_id_equal(&id, &back));
}

static p2p_ticket long_ticket(void) {
    static const uint8_t relay[] = {198, 51, 100, 7}, four[] = {192, 0, 2, 1};
    p2p_ticket t;
    memset(&t, 0, sizeof t);
    t.id = vector_id("server_id");
    t.relay_id = vector_id("client_id");
    t.relay.family = t.addrs[0].family = 4;
    memcpy(t.relay.ip, relay, 4);
    t.relay.port = 443;
    memcpy(t.addrs[0].ip, four, 4);
    t.addrs[0].port = 8800;
    t.addrs[1].family = 6;
    t.addrs[1].ip[0] = 0xfe;
    t.addrs[1].ip[1] = 0x80;
    t.addrs[1].ip[15] = 1;
    t.addrs[1].scope = 3;
    t.addrs[1].port = 8801;
    t.addr_count = 2;
    return t;
}

TEST(tickets) {
    p2p_ticket short_one, long_one = long_ticket(), back;
    char text[P2P_TICKET_TEXT_SIZE], want[P2P_TICKET_TEXT_SIZE];
    memset(&short_one, 0, sizeof short_one);
    short_one.id = long_one.id;
    CHECK(page_text("ticket_short", want, sizeof want) > 0);
    CHECK(p2p_ticket_text(&short_one, text) > 0);
    CHECK_STR(text, want);
    CHECK(page_text("ticket_long", want, sizeof want) > 0);
    CHECK(p2p_ticket_text(&long_one, text) > 0);
    CHECK_STR(text, want);
    CHECK_INT(p2p_ticket_parse(want, &back), 0);
    CHECK_INT(back.addr_count, 2);
    CHECK_INT(back.addrs[1].scope, 3);
    CHECK_INT(back.relay.port, 443);
    CHECK(p2p_id_equal(&back.relay_id, &long_one.relay_id));
}

/* ---- sections 3 and 4 */

static int give_binding(void *ctx, const void *slab, uint8_t out[32]) {
    (void)ctx;
    (void)slab;
    memcpy(out, binding_bytes, 32);
    return P2P_OK;
}

/* A node of which only what the envelope and the proof need is there. */
static void node_ready(void) {
    static p2p_secure_api secure;
    memset(&node, 0, sizeof node);
    memset(&session, 0, sizeof session);
    memset(&secure, 0, sizeof secure);
    secure.binding = give_binding;
    (void)p2p_sodium_crypto(&node.desc.crypto);
    node.desc.secure.api = &secure;
    memcpy(node.network, "p2p", 4);
    memcpy(binding_bytes, vector("binding").data, 32);
}

TEST(envelope_keys) {
    p2p_id server = vector_id("server_id");
    uint8_t psk[32], tag_key[32];
    node_ready();
    CHECK(p2p__envelope_keys(&node, &server, psk, tag_key) >= 0);
    CHECK_VECTOR("psk", psk, 32);
    CHECK_VECTOR("tag_key", tag_key, 32);
}

static void check_envelope(const char *name, uint8_t type, const char *rest[2]) {
    bytes out, key = vector("tag_key"), id = vector("session_id");
    node_ready();
    memset(&out, 0, sizeof out);
    out.data[0] = type;
    memcpy(out.data + 1, id.data, 8);
    out.size = P2P__ENVELOPE_HEAD;
    for (int i = 0; i < 2 && rest[i]; i++) {
        bytes part = vector(rest[i]);
        memcpy(out.data + out.size, part.data, part.size);
        out.size += part.size;
    }
    CHECK(p2p__envelope_tag(&node, key.data, out.data, out.size, out.data + P2P__DATA_HEAD) >= 0);
    CHECK_VECTOR(name, out.data, out.size);
    CHECK(p2p__envelope_tag_good(&node, key.data, out.data, out.size));
    out.data[out.size - 1] ^= 1;
    CHECK(!p2p__envelope_tag_good(&node, key.data, out.data, out.size));
}

TEST(envelopes) {
    const char *records[2] = {"records", NULL}, *cookie[2] = {"cookie", NULL};
    const char *both[2] = {"cookie", "records"};
    check_envelope("envelope_b0", P2P__TO_SERVER, records);
    CHECK_SO_FAR();
    check_envelope("envelope_b1", P2P__TO_CLIENT, records);
    CHECK_SO_FAR();
    check_envelope("retry_b2", P2P__RETRY, cookie);
    CHECK_SO_FAR();
    check_envelope("envelope_b3", P2P__TO_SERVER_COOKIE, both);
}

/* ---- section 8 */

static p2p_span span_of(const bytes *b) {
    p2p_span s;
    s.data = b->data;
    s.size = b->size;
    return s;
}

/* Reads a HELLO and writes it again; what is not known is left out of the second. */
TEST(hello_server) {
    bytes body = vector("hello_server"), again;
    p2p__writer w = p2p__writer_of(again.data, sizeof again.data);
    p2p__hello h;
    CHECK_INT(p2p__hello_get(span_of(&body), &h), 0);
    CHECK_INT(h.version_count, 1);
    CHECK_INT(h.versions[0], 1);
    CHECK_INT(h.alpn_count, 1);
    CHECK(p2p_str_equal(h.alpn[0], "p2p"));
    CHECK_INT(h.param[P2P__PARAM_MAX_PACKET], 1162);
    CHECK_INT(h.param[P2P__PARAM_MAX_STREAMS_REQUEST], 8);
    CHECK_INT(h.param[P2P__PARAM_IDLE_US], 30000000);
    p2p__put_hello(&w, &h);
    CHECK(!w.bad);
    CHECK_VECTOR("hello_server", again.data, (size_t)(w.at - again.data));
}

TEST(hello_client) {
    bytes body = vector("hello_client");
    p2p__hello h;
    CHECK_INT(p2p__hello_get(span_of(&body), &h), 0);
    CHECK_INT(h.alpn_count, 2);
    CHECK(p2p_str_equal(h.alpn[0], "music"));
    CHECK_INT(h.param[P2P__PARAM_STREAM_DATA_THEIRS], 0);
    CHECK_INT(h.param[P2P__PARAM_STREAM_DATA_OURS], 8192);
    for (size_t size = 0; size < body.size; size++) {
        p2p_span cut = span_of(&body);
        cut.size = size;
        CHECK_INT(p2p__hello_get(cut, &h), P2P_ERR_PROTOCOL);
    }
}

static int digest(const bytes *a, const bytes *b, uint8_t out[32]) {
    const void *parts[2];
    size_t sizes[2];
    parts[0] = a->data, sizes[0] = a->size;
    parts[1] = b ? b->data : NULL, sizes[1] = b ? b->size : 0;
    return p2p__sha256(&node.desc.crypto, parts, sizes, b ? 2 : 1, out);
}

TEST(proofs) {
    bytes hello_s = vector("hello_server"), hello_c = vector("hello_client");
    p2p_id server = vector_id("server_id"), client = vector_id("client_id");
    uint8_t text[143], signature[64];
    const p2p_crypto *c = &node.desc.crypto;
    node_ready();
    CHECK_INT(digest(&hello_s, NULL, session.transcript[0]), 0);
    CHECK_INT(digest(&hello_c, &hello_s, session.transcript[1]), 0);
    CHECK_INT(p2p__auth_text(&node, &session, true, &server, &client, text), 0);
    CHECK_VECTOR("auth_text_server", text, sizeof text);
    CHECK_INT(c->api->sign(c->ctx, vector("server_seed").data, text, sizeof text, signature), 0);
    CHECK_VECTOR("signature_server", signature, sizeof signature);
    CHECK_INT(p2p__auth_text(&node, &session, false, &client, &server, text), 0);
    CHECK_VECTOR("auth_text_client", text, sizeof text);
    CHECK_INT(c->api->sign(c->ctx, vector("client_seed").data, text, sizeof text, signature), 0);
    CHECK_VECTOR("signature_client", signature, sizeof signature);
}

/* The client, given the server's HELLO and AUTH, accepts these bytes and no changed ones. */
TEST(proof_is_verified) {
    bytes packet = vector("packet_proof");
    p2p__reader r = p2p__reader_of(packet.data, packet.size);
    p2p__frame hello, auth;
    uint8_t changed[P2P__AUTH_SIZE];
    node_ready();
    CHECK_INT(p2p__get_varint(&r), 0);
    CHECK_INT(p2p__frame_get(&r, &hello), 1);
    CHECK_INT(hello.type, P2P__FRAME_HELLO);
    CHECK_INT(p2p__frame_get(&r, &auth), 1);
    CHECK_INT(auth.type, P2P__FRAME_AUTH);
    CHECK_INT(p2p__frame_get(&r, &hello), 0);
    node.key.id = vector_id("client_id");
    session.peer = vector_id("server_id");
    session.peer_hello = 1;
    {
        bytes body = vector("hello_server");
        CHECK_INT(digest(&body, NULL, session.transcript[0]), 0);
    }
    CHECK(p2p__auth_good(&node, &session, auth.bytes));
    for (size_t i = 0; i < sizeof changed; i++) {
        memcpy(changed, auth.bytes, sizeof changed);
        changed[i] ^= 1;
        CHECK(!p2p__auth_good(&node, &session, changed));
    }
    binding_bytes[31] ^= 1;
    CHECK(!p2p__auth_good(&node, &session, auth.bytes));
}

/* ---- section 9 */

static p2p__reader open_packet(const char *name, bytes *store, uint64_t number) {
    p2p__reader r;
    *store = vector(name);
    r = p2p__reader_of(store->data, store->size);
    if (p2p__get_varint(&r) != number)
        r.bad = 1;
    return r;
}

TEST(packet_ack_stream) {
    bytes b;
    p2p__frame f;
    p2p__reader r = open_packet("packet_ack_stream", &b, 300);
    uint8_t room[64];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__range ranges[2] = {{4, 5}, {0, 2}};
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK_INT(f.type, P2P__FRAME_ACK);
    CHECK_INT(f.delay_us, 800);
    CHECK_INT(f.ranges, 2);
    CHECK_BYTES(f.range, ranges, sizeof ranges);
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK_INT(f.type, P2P__FRAME_STREAM);
    CHECK(f.id == 8 && f.offset == 100 && f.fin && f.data.size == 5);
    CHECK_INT(p2p__frame_get(&r, &f), 0);
    p2p__put_varint(&w, 300);
    p2p__put_ack(&w, ranges, 2, 800);
    p2p__put_stream_head(&w, 8, 100, 5, true);
    p2p__put_bytes(&w, "hello", 5);
    CHECK_VECTOR("packet_ack_stream", room, (size_t)(w.at - room));
}

TEST(packet_stream_to_end) {
    bytes b;
    p2p__frame f;
    p2p__reader r = open_packet("packet_stream_to_end", &b, 301);
    uint8_t room[64];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK(f.id == 4 && f.offset == 0 && !f.fin && f.data.size == 8);
    p2p__put_varint(&w, 301);
    p2p__put_stream_head(&w, 4, 0, UINT64_MAX, false);
    p2p__put_bytes(&w, "the rest", 8);
    CHECK_VECTOR("packet_stream_to_end", room, (size_t)(w.at - room));
}

TEST(packet_flow) {
    static const struct {
        uint8_t type, count;
        uint64_t values[3];
    } rows[] = {
        {P2P__FRAME_PING, 0, {0, 0, 0}},
        {P2P__FRAME_MAX_DATA, 1, {1 << 30, 0, 0}},
        {P2P__FRAME_MAX_STREAM_DATA, 2, {12, 65536, 0}},
        {P2P__FRAME_MAX_STREAMS, 2, {2, 100, 0}},
        {P2P__FRAME_RESET_STREAM, 3, {8, 500, 105}},
        {P2P__FRAME_STOP_SENDING, 2, {9, 7, 0}},
    };
    bytes b;
    p2p__frame f;
    p2p__reader r = open_packet("packet_flow", &b, 16384);
    uint8_t room[64];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__put_varint(&w, 16384);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_INT(p2p__frame_get(&r, &f), 1);
        CHECK_INT(f.type, rows[i].type);
        p2p__put_frame(&w, rows[i].type, rows[i].count, rows[i].values);
    }
    CHECK_INT(f.code, 7);
    CHECK_INT(p2p__frame_get(&r, &f), 0);
    CHECK_VECTOR("packet_flow", room, (size_t)(w.at - room));
}

TEST(packet_mixed) {
    static const uint8_t types[] = {P2P__FRAME_DATAGRAM, P2P__FRAME_PATH_CHALLENGE,
                                    P2P__FRAME_PATH_RESPONSE, P2P__FRAME_DONE, P2P__FRAME_DATAGRAM};
    bytes b;
    p2p__frame f;
    p2p__reader r = open_packet("packet_mixed", &b, 5);
    for (size_t i = 0; i < sizeof types; i++) {
        CHECK_INT(p2p__frame_get(&r, &f), 1);
        CHECK_INT(f.type, types[i]);
        if (f.type == P2P__FRAME_PATH_RESPONSE)
            CHECK_INT(f.addr.port, 8800);
    }
    CHECK_INT(f.data.size, 5);
    CHECK_INT(p2p__frame_get(&r, &f), 0);
}

TEST(packet_close) {
    bytes b;
    p2p__frame f;
    p2p__reader r = open_packet("packet_close", &b, 9);
    uint8_t room[64];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK(f.origin == 1 && f.code == 70000 && f.data.size == 3);
    p2p__put_varint(&w, 9);
    p2p__put_close(&w, 1, 70000, p2p_str_of("bye"));
    CHECK_VECTOR("packet_close", room, (size_t)(w.at - room));
}

/* Every refused_N of the page is refused; the page has at least one. */
TEST(refused_packets) {
    char name[32], text[4096];
    int n = 0;
    for (;; n++) {
        p2p__frame f;
        p2p__reader r;
        bytes b;
        int rc = 1;
        (void)snprintf(name, sizeof name, "refused_%d", n + 1);
        if (!page_text(name, text, sizeof text))
            break;
        b = vector(name);
        r = p2p__reader_of(b.data, b.size);
        (void)p2p__get_varint(&r);
        while (rc == 1)
            rc = p2p__frame_get(&r, &f);
        if (rc != P2P_ERR_PROTOCOL)
            printf("    %s was taken\n", name);
        CHECK_INT(rc, P2P_ERR_PROTOCOL);
    }
    CHECK(n > 0);
}

/* ---- section 12 */

TEST(request_head) {
    p2p_header h[2] = {{P2P_STR("range"), P2P_STR("bytes=0-99")},
                       {P2P_STR("x-room"), P2P_STR("kitchen")}};
    uint8_t room[128];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__head_out out;
    p2p__head_in in;
    memset(&out, 0, sizeof out);
    memset(&in, 0, sizeof in);
    out.writer = &w;
    in.method = P2P_GET;
    in.path = p2p_str_of("/tracks/42");
    in.query = p2p_str_of("from=1");
    in.headers = h;
    in.header_count = 2;
    p2p__out_head(&out, &in);
    CHECK_VECTOR("request_head", room, (size_t)(w.at - room));
}

TEST(answer_head) {
    p2p_header h[1] = {{P2P_STR("content-length"), P2P_STR("100")}};
    uint8_t room[128];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__head_out out;
    p2p__head_in in;
    memset(&out, 0, sizeof out);
    memset(&in, 0, sizeof in);
    out.writer = &w;
    in.status = 206;
    in.headers = h;
    in.header_count = 1;
    p2p__out_head(&out, &in);
    CHECK_VECTOR("answer_head", room, (size_t)(w.at - room));
}

TEST_MAIN(P2P_TEST_ENTRY(keys), P2P_TEST_ENTRY(id_text), P2P_TEST_ENTRY(tickets),
          P2P_TEST_ENTRY(envelope_keys), P2P_TEST_ENTRY(envelopes), P2P_TEST_ENTRY(hello_server),
          P2P_TEST_ENTRY(hello_client), P2P_TEST_ENTRY(proofs), P2P_TEST_ENTRY(proof_is_verified),
          P2P_TEST_ENTRY(packet_ack_stream), P2P_TEST_ENTRY(packet_stream_to_end),
          P2P_TEST_ENTRY(packet_flow), P2P_TEST_ENTRY(packet_mixed), P2P_TEST_ENTRY(packet_close),
          P2P_TEST_ENTRY(refused_packets), P2P_TEST_ENTRY(request_head),
          P2P_TEST_ENTRY(answer_head))
