/* >>node, >>heap, >>state: the desc, the clock, the heap of deadlines, handles of what is gone. */
#include <stddef.h>
#include "bare.h"

static uint64_t counter(uint32_t metric) { return node->metrics.value[metric]; }

/* ---- the desc */
#define ROW32(field, value) \
    { #field, offsetof(p2p_desc, field), 4, value }
#define ROW64(field, value) \
    { #field, offsetof(p2p_desc, field), 8, value }
static const struct {
    const char *name;
    size_t at, size;
    uint64_t value;
} bad[] = {
    ROW32(max.conns, 16001),
    ROW32(max.conns, P2P_NONE),
    ROW32(max.half_open, 3),
    ROW32(max.half_open, P2P_NONE),
    ROW32(max.conns_per_peer, P2P_NONE),
    ROW32(max.streams, 20001),
    ROW32(max.peer_streams, 20001),
    ROW32(max.peer_streams_per_conn, 9),
    ROW32(max.in_flight, 3),
    ROW32(max.in_flight, 60001),
    ROW32(max.datagrams_in, 60001),
    ROW32(max.datagrams_out, 60001),
    ROW32(max.listeners, P2P_NONE),
    ROW32(max.routes, 60001),
    ROW32(max.services, 60001),
    ROW32(max.peers, 60001),
    ROW32(max.timers, 60001),
    ROW32(max.relay_clients, 1),
    ROW32(bytes.stream_send, 63),
    ROW32(bytes.stream_recv, (1u << 30) + 1),
    ROW32(bytes.peer_send, P2P_NONE),
    ROW32(bytes.peer_recv, 63),
    ROW32(bytes.message_max, (1u << 30) + 1),
    ROW32(bytes.message_send, 63),
    ROW32(bytes.message_recv, P2P_NONE),
    ROW32(bytes.head_max, 4097),
    ROW32(bytes.datagram_max, 65001),
    ROW64(time.idle_us, 999),
    ROW64(time.keepalive_us, 999),
    ROW64(time.connect_us, 999),
    ROW32(link.mtu, 575),
    ROW32(link.mtu, 1500),
    ROW32(link.segments, 65),
    ROW32(relay_count, 1),
    ROW32(alpn_count, 9),
};
TEST(fields_out_of_range_are_named) {
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p2p_desc desc;
        p2p_error_detail why;
        uint32_t small = (uint32_t)bad[i].value;
        bare_desc(&desc, 2);
        memset(&why, 0, sizeof why);
        desc.why = &why;
        memcpy((uint8_t *)&desc + bad[i].at,
               bad[i].size == 4 ? (const void *)&small : (const void *)&bad[i].value, bad[i].size);
        if (p2p_node_open_simulated(&node, &desc, arena, sizeof arena, P2P_ABI) != P2P_ERR_CONFIG ||
            strncmp(why.text, bad[i].name, strlen(bad[i].name)) != 0)
            printf("    %s = %llu: \"%s\"\n", bad[i].name, (unsigned long long)bad[i].value,
                   why.text);
        CHECK_INT(why.err, P2P_ERR_CONFIG);
        CHECK(strncmp(why.text, bad[i].name, strlen(bad[i].name)) == 0);
        CHECK_INT(p2p_arena_size(&desc), 0);
    }
}
TEST(a_desc_that_was_not_zeroed) {
    p2p_desc desc;
    bare_desc(&desc, 2);
    desc._canary_end = 1;
    CHECK(!bare_open_node(&desc));
    bare_desc(&desc, 2);
    desc._canary_start = 1;
    CHECK(!bare_open_node(&desc));
}
TEST(an_arena_one_byte_too_small) {
    p2p_desc desc;
    p2p_error_detail why;
    size_t size;
    bare_desc(&desc, 2);
    desc.why = &why;
    size = p2p_arena_size(&desc);
    CHECK(size > 0 && size < sizeof arena);
    CHECK_INT(p2p_node_open_simulated(&node, &desc, arena, size - 1, P2P_ABI), P2P_ERR_ARENA);
    CHECK_INT(why.max, size);
    CHECK_INT(p2p_node_open_simulated(&node, &desc, arena, size, P2P_ABI), P2P_OK);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* ---- deadlines */
TEST(the_heap_as_a_table) {
    enum { CONNS = 60 };
    for (int i = 0; i < test_seeds(50); i++) {
        unit_rng rng = {test_seed()};
        uint64_t us[2 * CONNS];
        p2p_desc desc;
        bare_desc(&desc, CONNS);
        desc.bytes.message_max = P2P_NONE;
        CHECK(bare_open_node(&desc));
        for (uint32_t n = 0; n < 2 * CONNS; n++) {
            p2p__conn *c = p2p__conn_at(node, n % CONNS);
            p2p__session *s = p2p__session_at(node, n % CONNS);
            us[n] = c->deadline_us = s->deadline_us = P2P_NEVER;
            c->heap = s->heap = P2P__NIL;
        }
        for (int n = 0; n < 2000; n++) {
            uint32_t at = (uint32_t)unit_below(&rng, 2 * CONNS), count = 0;
            uint64_t least = P2P_NEVER;
            us[at] = unit_below(&rng, 3) ? unit_below(&rng, 50) : P2P_NEVER;
            p2p__heap_set(node, at < CONNS ? at : P2P__REF_SESSION | (at - CONNS), us[at]);
            for (at = 0; at < 2 * CONNS; at++) {
                uint16_t *place;
                uint32_t ref = at < CONNS ? at : P2P__REF_SESSION | (at - CONNS);
                CHECK_INT(*p2p__heap_key(node, ref, &place), us[at]);
                CHECK((*place == P2P__NIL) == (us[at] == P2P_NEVER));
                CHECK(*place == P2P__NIL || node->heap.refs[*place] == ref);
                least = P2P__MIN(least, us[at]);
                count += us[at] != P2P_NEVER;
            }
            CHECK_INT(node->heap.count, count);
            CHECK(!count || p2p__heap_us(node, 0) == least);
            CHECK_INT(p2p_check(node), P2P_OK);
        }
        for (uint32_t at = 0; at < 2 * CONNS; at++)
            p2p__heap_set(node, at < CONNS ? at : P2P__REF_SESSION | (at - CONNS), P2P_NEVER);
        p2p_node_close(node);
    }
}

/* A node that dials where nobody answers. */
static int lonely(uint64_t connect_us) {
    static const uint8_t seed[32] = {7};
    p2p_desc desc;
    p2p_ticket ticket;
    p2p_connect_desc how;
    memset(&how, 0, sizeof how);
    memset(&ticket, 0, sizeof ticket);
    how.timeout_us = connect_us;
    bare_desc(&desc, 2);
    desc.time.connect_us = connect_us;
    if (p2p_key_from_seed(&desc.crypto, seed, &server_key) < 0 || !bare_open_node(&desc))
        return -1;
    ticket.id = server_key.id;
    ticket.addrs[0].family = 4;
    ticket.addrs[0].port = 9;
    ticket.addr_count = 1;
    if (p2p_peer_add(node, &ticket) < 0)
        return -1;
    return p2p_connect(node, &ticket.id, NULL, &conn);
}
static int told(void) {
    p2p_event e;
    while (p2p_next_event(node, &e) > 0)
        if (e.type == P2P_EVENT_DISCONNECTED)
            return e.err;
    return 1;
}

/* Polls until `end`, no oftener than the node asks; the count of polls. */
static uint32_t run_until(uint64_t end) {
    uint8_t out[1500];
    uint32_t polls = 0;
    while (node->now_us < end && polls < 100000) {
        uint64_t next;
        p2p_event e;
        (void)p2p_poll(node, node->now_us);
        while (p2p_next_event(node, &e) > 0)
            continue;
        while (leaves(out, NULL))
            continue;
        while (p2p_next_event(node, &e) > 0)
            continue;
        next = p2p_deadline(node);
        next = next <= node->now_us ? node->now_us + 1 : P2P__MIN(next, end);
        (void)p2p_poll(node, next);
        polls++;
    }
    return polls;
}

TEST(deadlines_before_the_first_poll_count_from_it) {
    uint64_t start = UINT64_C(1) << 50;
    CHECK(lonely(2000000) >= 0);
    (void)p2p_poll(node, start);
    CHECK_INT(told(), 1);
    (void)p2p_poll(node, start + 1999999);
    CHECK_INT(told(), 1);
    (void)p2p_poll(node, start + 2000000);
    CHECK_INT(told(), P2P_ERR_TIMEOUT);
    p2p_node_close(node);
}
TEST(a_clock_that_goes_back_stands_still) {
    CHECK(lonely(2000000) >= 0);
    (void)p2p_poll(node, 5000000);
    (void)p2p_poll(node, 10);
    CHECK_INT(counter(P2P_METRIC_clock_back), 1);
    CHECK_INT(p2p_now(node), 5000000);
    (void)p2p_poll(node, 0);
    CHECK_INT(told(), 1);
    (void)p2p_poll(node, 7000000);
    CHECK_INT(told(), P2P_ERR_TIMEOUT);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}
TEST(a_clock_that_leaps) {
    static const uint64_t leaps[] = {3600000000u, UINT64_C(1) << 50, UINT64_C(1) << 62,
                                     P2P_NEVER - 1};
    for (size_t i = 0; i < sizeof leaps / sizeof *leaps; i++) {
        p2p__session *s = dial_open();
        p2p_stream_desc desc;
        p2p_stream stream;
        CHECK(s);
        memset(&desc, 0, sizeof desc);
        CHECK_INT(p2p_stream_open(node, conn, &desc, &stream), P2P_OK);
        CHECK_INT(p2p_stream_write(node, stream, "hello", 5), 5);
        (void)run_until(node->now_us + 1000000);
        (void)p2p_poll(node, leaps[i]);
        CHECK_INT(p2p_check(node), P2P_OK);
        if (i < 2)
            CHECK(run_until(leaps[i] + 60000000) < 3000);
        CHECK_INT(p2p_check(node), P2P_OK);
        p2p_node_close(node);
    }
}

/* A peer that falls silent: probes, then the end; and the node asks for no poll in vain. */
TEST(silence_ends_without_spinning) {
    p2p__session *s = dial_open();
    uint64_t polls;
    p2p_event e;
    CHECK(s);
    polls = run_until(node->now_us + 120000000);
    CHECK(polls < 300);
    CHECK(!p2p_is_connected(node, conn));
    while (p2p_next_event(node, &e) > 0)
        continue;
    CHECK_INT(node->sessions.used, 0);
    CHECK_INT(node->conns.used, 0);
    CHECK_INT(node->flight.packets_used + node->flight.chunks_used, 0);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}
TEST(a_dial_in_vain_ends_without_spinning) {
    CHECK(lonely(20000000) >= 0);
    CHECK(run_until(60000000) < 2000);
    CHECK_INT(node->sessions.used, 0);
    CHECK_INT(node->conns.used, 0);
    CHECK_INT(p2p_check(node), P2P_OK);
    p2p_node_close(node);
}

/* ---- handles */
TEST(handles_of_what_is_gone) {
    p2p__session *s = dial_open();
    p2p_stream_desc desc;
    p2p_stream stream, next;
    p2p_conn was = conn, forged;
    p2p_event e;
    uint8_t byte;
    CHECK(s);
    memset(&desc, 0, sizeof desc);
    CHECK_INT(p2p_stream_open(node, conn, &desc, &stream), P2P_OK);
    CHECK_INT(p2p_close(node, conn, 0, ""), P2P_OK);
    (void)run_until(node->now_us + 120000000);
    while (p2p_next_event(node, &e) > 0)
        continue;
    CHECK_INT(p2p_stream_read(node, stream, &byte, 1), P2P_ERR_HANDLE);
    CHECK_INT(p2p_stream_write(node, stream, "a", 1), P2P_ERR_HANDLE);
    CHECK_INT(p2p_stream_open(node, was, &desc, &next), P2P_ERR_HANDLE);
    for (uint32_t i = 0; i < 100000; i++) {
        forged.id = i * 43051u;
        next.id = forged.id;
        CHECK_INT(p2p_stream_read(node, next, &byte, 1), P2P_ERR_HANDLE);
        CHECK_INT(p2p_datagram_recv(node, forged, &byte, 1), P2P_ERR_HANDLE);
    }
    p2p_node_close(node);
}

/* Eight that fail, since the node cannot dial itself, leave all places for those that do not. */
TEST(a_call_that_fails_takes_no_place_for_its_alpn) {
    p2p__session *s = dial_open();
    p2p_connect_desc desc;
    p2p_listen_desc listen;
    p2p_listener listener;
    p2p_conn made;
    char alpn[] = "a";
    CHECK(s);
    memset(&desc, 0, sizeof desc);
    memset(&listen, 0, sizeof listen);
    desc.alpn = listen.alpn = alpn;
    node->desc.allow_anyone = 1;
    for (; alpn[0] < 'i'; alpn[0]++)
        CHECK_INT(p2p_connect(node, p2p_node_id(node), &desc, &made), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_listen(node, &listen, &listener), P2P_OK);
    CHECK_INT(node->alpn_count, 2);
    CHECK(strcmp(node->alpn[1], "i") == 0);
    p2p_node_close(node);
}

TEST_MAIN(P2P_TEST_ENTRY(fields_out_of_range_are_named), P2P_TEST_ENTRY(a_desc_that_was_not_zeroed),
          P2P_TEST_ENTRY(an_arena_one_byte_too_small), P2P_TEST_ENTRY(the_heap_as_a_table),
          P2P_TEST_ENTRY(deadlines_before_the_first_poll_count_from_it),
          P2P_TEST_ENTRY(a_clock_that_goes_back_stands_still), P2P_TEST_ENTRY(a_clock_that_leaps),
          P2P_TEST_ENTRY(silence_ends_without_spinning),
          P2P_TEST_ENTRY(a_dial_in_vain_ends_without_spinning),
          P2P_TEST_ENTRY(handles_of_what_is_gone),
          P2P_TEST_ENTRY(a_call_that_fails_takes_no_place_for_its_alpn))
