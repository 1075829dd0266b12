/* >>channel: envelopes, admission and RETRY, seen from the socket. */
#include "bare.h"

static p2p_listener listener;
static int gate_says, gate_asked, gate_named;

static int gate(void *ctx, const p2p_gate *who) {
    (void)ctx;
    gate_asked++;
    gate_named += who->id != NULL;
    return gate_says;
}

/* A node that listens, with places for so many sessions; handshakes go on and on. */
static bool listening(uint32_t conns, uint32_t half_open) {
    p2p_desc desc;
    bare_desc(&desc, conns);
    desc.max.half_open = half_open;
    desc.allow.fn = gate;
    gate_says = 1;
    gate_asked = gate_named = 0;
    bare_feed_says = 0;
    bare_flight_bytes = 0;
    return bare_open_node(&desc) && p2p_poll(node, 1000) > 0 &&
           p2p_listen(node, NULL, &listener) == P2P_OK;
}

static p2p_addr addr4(uint8_t last, uint16_t port) {
    p2p_addr a;
    memset(&a, 0, sizeof a);
    a.family = 4;
    a.ip[0] = 10;
    a.ip[3] = last;
    a.port = port;
    return a;
}

static p2p_addr addr6(uint8_t network, uint8_t host) {
    p2p_addr a;
    memset(&a, 0, sizeof a);
    a.family = 6;
    a.ip[0] = 0x20;
    a.ip[7] = network;
    a.ip[15] = host;
    a.port = 1;
    return a;
}

static int offer(const p2p_addr *from, uint8_t *datagram, size_t size) {
    p2p_packet in;
    memset(&in, 0, sizeof in);
    in.remote = *from;
    in.data = datagram;
    in.size = size;
    return p2p_input(node, node->now_us, &in);
}

/* A client's envelope of size bytes, with a good tag. cookie NULL: 0xB0, else 0xB3. */
static void envelope(uint8_t id, const uint8_t *cookie, uint8_t *out, size_t size) {
    memset(out, 0x16, size);
    out[0] = cookie ? P2P__TO_SERVER_COOKIE : P2P__TO_SERVER;
    memset(out + 1, id, 8);
    if (cookie)
        memcpy(out + P2P__ENVELOPE_HEAD, cookie, P2P__COOKIE);
    (void)p2p__envelope_tag(node, node->tag_key, out, size, out + P2P__DATA_HEAD);
}

static int knock(const p2p_addr *from, uint8_t id, const uint8_t *cookie) {
    uint8_t datagram[100];
    envelope(id, cookie, datagram, sizeof datagram);
    return offer(from, datagram, sizeof datagram);
}

static uint64_t counter(uint32_t metric) { return node->metrics.value[metric]; }

/* Nothing at all leaves. */
static bool silent(void) {
    uint8_t out[1500];
    return leaves(out, NULL) == 0;
}

TEST(first_byte_says_what_it_is) {
    p2p_addr from = addr4(1, 1);
    uint8_t datagram[64];
    CHECK(listening(8, 8));
    for (int first = 0; first < 256; first++) {
        uint64_t before = counter(P2P_METRIC_drop_unknown_type);
        bool known = first >= 0xb0 && first <= 0xb5;
        memset(datagram, 0x20, sizeof datagram);
        datagram[0] = (uint8_t)first;
        CHECK_INT(offer(&from, datagram, sizeof datagram), 0);
        CHECK_INT(counter(P2P_METRIC_drop_unknown_type) - before, known ? 0 : 1);
        CHECK(silent());
    }
    p2p_node_close(node);
}

TEST(short_datagrams_are_dropped) {
    p2p_addr from = addr4(1, 1);
    uint8_t datagram[64];
    CHECK(listening(8, 8));
    for (uint8_t type = 0xb0; type <= 0xb5; type++) {
        size_t least = type >= 0xb4 ? 10 : type == 0xb3 ? 42 : 26;
        for (size_t size = 1; size < least; size++) {
            uint64_t before =
                counter(P2P_METRIC_drop_short) + counter(P2P_METRIC_drop_unknown_session);
            memset(datagram, 0, sizeof datagram);
            datagram[0] = type;
            CHECK_INT(offer(&from, datagram, size), 0);
            CHECK_INT(counter(P2P_METRIC_drop_short) + counter(P2P_METRIC_drop_unknown_session),
                      before + 1);
            CHECK(silent());
        }
    }
    CHECK(counter(P2P_METRIC_drop_short) > 100);
    p2p_node_close(node);
}

TEST(envelopes_have_at_most_512_bytes) {
    static uint8_t datagram[600];
    p2p_addr from = addr4(1, 1);
    CHECK(listening(8, 8));
    envelope(1, NULL, datagram, 513);
    CHECK_INT(offer(&from, datagram, 513), 0);
    CHECK_INT(counter(P2P_METRIC_drop_oversize), 1);
    CHECK_INT(node->sessions.used, 0);
    envelope(1, NULL, datagram, 512);
    CHECK_INT(offer(&from, datagram, 512), 1);
    CHECK_INT(node->sessions.used, 1);
    p2p_node_close(node);
}

/* Any changed bit of an envelope: no session, no answer. */
TEST(wrong_tags_get_no_answer) {
    p2p_addr from = addr4(1, 1);
    uint8_t datagram[60];
    CHECK(listening(8, 8));
    for (size_t bit = 8; bit < 8 * sizeof datagram; bit++) {
        envelope(1, NULL, datagram, sizeof datagram);
        datagram[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_INT(offer(&from, datagram, sizeof datagram), 0);
        CHECK(silent());
    }
    CHECK_INT(counter(P2P_METRIC_drop_bad_tag), 8 * sizeof datagram - 8);
    CHECK_INT(node->sessions.used, 0);
    CHECK_INT(gate_asked, 0);
    p2p_node_close(node);
}

TEST(nobody_listens) {
    p2p_addr from = addr4(1, 1);
    CHECK(listening(8, 8));
    CHECK_INT(p2p_unlisten(node, listener), 0);
    (void)knock(&from, 1, NULL);
    CHECK_INT(counter(P2P_METRIC_drop_no_listener), 1);
    CHECK_INT(node->sessions.used, 0);
    CHECK(silent());
    p2p_node_close(node);
}

TEST(the_gate_is_asked_before_anything_is_spent) {
    p2p_addr from = addr4(1, 1);
    CHECK(listening(8, 8));
    gate_says = 0;
    (void)knock(&from, 1, NULL);
    CHECK_INT(gate_asked, 1);
    CHECK_INT(gate_named, 0);
    CHECK_INT(counter(P2P_METRIC_drop_gate), 1);
    CHECK_INT(counter(P2P_METRIC_handshakes_started), 0);
    CHECK(silent());
    p2p_node_close(node);
}

/* Fills the quarter of places that callers without a cookie may have. */
static void fill_unproven(uint8_t count) {
    for (uint8_t i = 0; i < count; i++) {
        p2p_addr from = addr4((uint8_t)(100 + i), 1);
        (void)knock(&from, (uint8_t)(100 + i), NULL);
    }
}

/* Knocks without a cookie and reads it from the RETRY that comes. */
static bool ask_cookie(const p2p_addr *from, uint8_t id, uint8_t cookie[P2P__COOKIE]) {
    uint8_t out[1500], want_id[8];
    p2p_addr to;
    (void)knock(from, id, NULL);
    memset(want_id, id, sizeof want_id);
    if (leaves(out, &to) != P2P__ENVELOPE_HEAD + P2P__COOKIE || out[0] != P2P__RETRY ||
        !p2p__addr_equal(&to, from) || memcmp(out + 1, want_id, 8) != 0 ||
        !p2p__envelope_tag_good(node, node->tag_key, out, P2P__ENVELOPE_HEAD + P2P__COOKIE))
        return false;
    memcpy(cookie, out + P2P__ENVELOPE_HEAD, P2P__COOKIE);
    return true;
}

/* Knocks with the cookie of that address, though it has two sessions already: its oldest gives way. */
static void two_a_source(p2p_addr a, p2p_addr b, p2p_addr c, p2p_addr other) {
    uint8_t cookie[P2P__COOKIE], first[8];
    memset(first, 1, sizeof first);
    CHECK(listening(16, 16));
    (void)knock(&a, 1, NULL);
    (void)p2p_poll(node, node->now_us + 1000);
    (void)knock(&b, 2, NULL);
    CHECK_INT(node->sessions.used, 2);
    CHECK(ask_cookie(&c, 3, cookie));
    CHECK_INT(node->sessions.used, 2);
    (void)knock(&c, 3, cookie);
    CHECK_INT(node->sessions.used, 2);
    CHECK(!p2p__session_find(node, first, true));
    CHECK_INT(counter(P2P_METRIC_half_open_evicted), 1);
    (void)knock(&other, 4, NULL);
    CHECK_INT(node->sessions.used, 3);
    p2p_node_close(node);
}

TEST(two_half_open_sessions_a_source) {
    two_a_source(addr4(1, 1), addr4(1, 2), addr4(1, 3), addr4(2, 1));
}

/* A /64 is one source: its hosts cost an attacker nothing. */
TEST(a_source_is_a_network_of_ipv6) {
    two_a_source(addr6(1, 1), addr6(1, 2), addr6(1, 3), addr6(2, 1));
}

/* Callers that proved their address are not pushed out by others of the same network, until they
 * had time for their second flight. */
TEST(a_source_with_two_cookies_is_full) {
    p2p_addr from[3] = {addr4(1, 1), addr4(1, 2), addr4(1, 3)};
    uint8_t cookie[P2P__COOKIE];
    CHECK(listening(16, 16));
    for (uint8_t i = 0; i < 3; i++) {
        node->tokens_milli = 0;
        CHECK(ask_cookie(&from[i], (uint8_t)(i + 1), cookie));
        (void)knock(&from[i], (uint8_t)(i + 1), cookie);
    }
    CHECK_INT(node->sessions.used, 2);
    CHECK_INT(counter(P2P_METRIC_drop_source_limit), 1);
    (void)p2p_poll(node, node->now_us + 3000000);
    (void)knock(&from[2], 3, cookie);
    CHECK_INT(counter(P2P_METRIC_half_open_evicted), 1);
    CHECK_INT(node->sessions.used, 2);
    p2p_node_close(node);
}

TEST(retry_when_a_quarter_is_unproven) {
    p2p_addr from = addr4(1, 1), liar = addr4(2, 1);
    uint8_t cookie[P2P__COOKIE];
    CHECK(listening(8, 8));
    fill_unproven(2);
    CHECK_INT(node->sessions.used, 2);
    CHECK(ask_cookie(&from, 1, cookie));
    CHECK_INT(node->sessions.used, 2);
    CHECK_INT(counter(P2P_METRIC_retry_sent), 1);
    (void)knock(&liar, 1, cookie); /* another address */
    (void)knock(&from, 3, cookie); /* another session */
    CHECK_INT(counter(P2P_METRIC_cookie_bad), 2);
    CHECK_INT(node->sessions.used, 2);
    (void)knock(&from, 1, cookie);
    CHECK_INT(counter(P2P_METRIC_retry_accepted), 1);
    CHECK_INT(node->sessions.used, 3);
    p2p_node_close(node);
}

TEST(retry_when_tokens_are_out) {
    p2p_addr from = addr4(1, 1);
    uint8_t cookie[P2P__COOKIE];
    CHECK(listening(8, 8));
    node->tokens_milli = 0;
    CHECK(ask_cookie(&from, 1, cookie));
    CHECK_INT(node->sessions.used, 0);
    (void)p2p_poll(node, node->now_us + 1000000);
    (void)knock(&from, 1, NULL);
    CHECK_INT(node->sessions.used, 1);
    p2p_node_close(node);
}

TEST(cookies_live_between_one_minute_and_two) {
    static const struct {
        uint64_t age_us;
        int good;
    } rows[] = {{1, 1}, {59000000, 1}, {61000000, 1}, {121000000, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p2p_addr from = addr4(1, 1);
        uint8_t cookie[P2P__COOKIE];
        CHECK(listening(8, 8));
        node->tokens_milli = 0;
        CHECK(ask_cookie(&from, 1, cookie));
        (void)p2p_poll(node, node->now_us + rows[i].age_us);
        (void)knock(&from, 1, cookie);
        CHECK_INT(counter(P2P_METRIC_retry_accepted), rows[i].good);
        CHECK_INT(counter(P2P_METRIC_cookie_bad), !rows[i].good);
        p2p_node_close(node);
    }
}

/* A cookie proves an address: its bearer takes the place of the oldest who has proved nothing. */
TEST(a_cookie_evicts_the_oldest_unproven) {
    p2p_addr from = addr4(1, 1), next = addr4(2, 1);
    uint8_t cookie[P2P__COOKIE], id[8];
    CHECK(listening(16, 2));
    fill_unproven(2);
    CHECK(ask_cookie(&next, 2, cookie)); /* without one, RETRY */
    CHECK_INT(node->sessions.used, 2);
    node->tokens_milli = 0;
    CHECK(ask_cookie(&from, 1, cookie));
    (void)knock(&from, 1, cookie);
    CHECK_INT(counter(P2P_METRIC_half_open_evicted), 1);
    CHECK_INT(node->sessions.used, 2);
    memset(id, 100, sizeof id);
    CHECK(!p2p__session_find(node, id, true));
    memset(id, 101, sizeof id);
    CHECK(p2p__session_find(node, id, true));
    p2p_node_close(node);
}

/* A first flight with a cookie can be heard on the way and sent again: it holds a place only as
 * long as its caller needs for the second. */
TEST(a_cookie_holds_its_place_for_three_seconds) {
    p2p_addr replayed = addr4(1, 1), from = addr4(2, 1);
    uint8_t first[P2P__COOKIE], cookie[P2P__COOKIE], id[8];
    CHECK(listening(4, 1));
    node->tokens_milli = 0;
    CHECK(ask_cookie(&replayed, 1, first));
    CHECK(ask_cookie(&from, 2, cookie));
    (void)knock(&replayed, 1, first);
    (void)p2p_poll(node, node->now_us + 2999000);
    (void)knock(&from, 2, cookie);
    CHECK_INT(counter(P2P_METRIC_drop_half_open_limit), 1);
    CHECK_INT(counter(P2P_METRIC_half_open_evicted), 0);
    (void)p2p_poll(node, node->now_us + 1000);
    (void)knock(&from, 2, cookie);
    CHECK_INT(counter(P2P_METRIC_half_open_evicted), 1);
    memset(id, 2, sizeof id);
    CHECK_INT(node->sessions.used, 1);
    CHECK(p2p__session_find(node, id, true));
    p2p_node_close(node);
}

TEST(unproven_sessions_live_five_seconds) {
    p2p_addr from = addr4(1, 1);
    CHECK(listening(8, 8));
    (void)knock(&from, 1, NULL);
    (void)p2p_poll(node, 1000 + 4900000);
    CHECK_INT(node->sessions.used, 1);
    (void)p2p_poll(node, 1000 + 5100000);
    CHECK_INT(node->sessions.used, 0);
    CHECK_INT(counter(P2P_METRIC_half_open_expired), 1);
    p2p_node_close(node);
}

TEST(three_times_the_bytes_received_at_most) {
    p2p_addr from = addr4(1, 1);
    uint8_t out[1500];
    size_t sent = 0, n;
    CHECK(listening(8, 8));
    bare_flight_bytes = 60;
    (void)knock(&from, 1, NULL);
    for (int i = 0; i < 20 && (n = leaves(out, NULL)) > 0; i++)
        sent += n;
    CHECK(sent > 0);
    CHECK(sent <= 300);
    CHECK(counter(P2P_METRIC_drop_amplification) > 0);
    p2p_node_close(node);
}

TEST(a_session_id_belongs_to_its_address) {
    p2p_addr from = addr4(1, 1), other = addr4(2, 1);
    CHECK(listening(8, 8));
    (void)knock(&from, 1, NULL);
    (void)knock(&other, 1, NULL);
    CHECK_INT(counter(P2P_METRIC_drop_session_in_use), 1);
    CHECK_INT(node->sessions.used, 1);
    p2p_node_close(node);
}

TEST(data_before_the_handshake_is_over) {
    p2p_addr from = addr4(1, 1);
    uint8_t data[40];
    CHECK(listening(8, 8));
    (void)knock(&from, 1, NULL);
    memset(data, 1, sizeof data);
    data[0] = P2P__DATA_TO_SERVER;
    CHECK_INT(offer(&from, data, sizeof data), 0);
    CHECK_INT(counter(P2P_METRIC_drop_early_data), 1);
    memset(data + 1, 9, 8);
    CHECK_INT(offer(&from, data, sizeof data), 0);
    CHECK_INT(counter(P2P_METRIC_drop_unknown_session), 1);
    memset(data + 1, 1, 8);
    data[0] = P2P__DATA_TO_CLIENT; /* the id is known, in the other role only */
    CHECK_INT(offer(&from, data, sizeof data), 0);
    CHECK_INT(counter(P2P_METRIC_drop_unknown_session), 2);
    p2p_node_close(node);
}

/* A server's envelope to the dial of s. */
static int answer(const p2p__session *s, uint8_t type, const p2p_addr *from, size_t size) {
    uint8_t datagram[200];
    memset(datagram, 0x16, sizeof datagram);
    datagram[0] = type;
    memcpy(datagram + 1, s->id, 8);
    (void)p2p__envelope_tag(node, s->tag_key, datagram, size, datagram + P2P__DATA_HEAD);
    return offer(from, datagram, size);
}

TEST(envelopes_are_late_after_the_first_data) {
    static const uint8_t ping[] = {2, P2P__FRAME_PING};
    p2p__session *s = dial_open();
    p2p_addr from;
    CHECK(s);
    from = s->remote;
    give(s, ping, sizeof ping);
    CHECK_INT(answer(s, P2P__TO_CLIENT, &from, 100), 0);
    CHECK_INT(answer(s, P2P__RETRY, &from, P2P__ENVELOPE_HEAD + P2P__COOKIE), 0);
    CHECK_INT(counter(P2P_METRIC_drop_late_envelope), 2);
    p2p_node_close(node);
}

TEST(the_first_answer_fixes_the_address) {
    p2p__session *s = dial();
    p2p_addr other = addr4(77, 1);
    CHECK(s);
    CHECK_INT(answer(s, P2P__TO_CLIENT, &other, 100), 0);
    CHECK_INT(counter(P2P_METRIC_drop_address), 1);
    p2p_node_close(node);
}

TEST(forged_records_change_nothing) {
    static const uint8_t forged[] = {0xff, P2P__FRAME_DONE};
    p2p__session *s = dial_open();
    CHECK(s);
    for (int i = 0; i < 1000; i++)
        give(s, forged, sizeof forged);
    CHECK_INT(counter(P2P_METRIC_records_bad), 1000);
    CHECK(p2p_is_connected(node, conn));
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(first_byte_says_what_it_is), P2P_TEST_ENTRY(short_datagrams_are_dropped),
          P2P_TEST_ENTRY(envelopes_have_at_most_512_bytes),
          P2P_TEST_ENTRY(wrong_tags_get_no_answer), P2P_TEST_ENTRY(nobody_listens),
          P2P_TEST_ENTRY(the_gate_is_asked_before_anything_is_spent),
          P2P_TEST_ENTRY(two_half_open_sessions_a_source),
          P2P_TEST_ENTRY(a_source_is_a_network_of_ipv6),
          P2P_TEST_ENTRY(a_source_with_two_cookies_is_full),
          P2P_TEST_ENTRY(retry_when_a_quarter_is_unproven),
          P2P_TEST_ENTRY(retry_when_tokens_are_out),
          P2P_TEST_ENTRY(cookies_live_between_one_minute_and_two),
          P2P_TEST_ENTRY(a_cookie_evicts_the_oldest_unproven),
          P2P_TEST_ENTRY(a_cookie_holds_its_place_for_three_seconds),
          P2P_TEST_ENTRY(unproven_sessions_live_five_seconds),
          P2P_TEST_ENTRY(three_times_the_bytes_received_at_most),
          P2P_TEST_ENTRY(a_session_id_belongs_to_its_address),
          P2P_TEST_ENTRY(data_before_the_handshake_is_over),
          P2P_TEST_ENTRY(envelopes_are_late_after_the_first_data),
          P2P_TEST_ENTRY(the_first_answer_fixes_the_address),
          P2P_TEST_ENTRY(forged_records_change_nothing))
