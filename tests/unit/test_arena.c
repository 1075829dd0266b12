/* The constant bounds P2P_ARENA_*: each holds what the layout walk takes for its line of the desc,
 * and not much more. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_test.h"

/* They are constant expressions. */
static uint64_t constant[(P2P_ARENA_SIZE(2, 2, 4096) + P2P_MBEDTLS_ARENA_SIZE(2, 1) + 7) / 8];

/* The smallest node: what a microcontroller would ask for. */
static p2p_desc small(void) {
    p2p_desc d;
    memset(&d, 0, sizeof d);
    (void)p2p_sodium_crypto(&d.crypto);
    (void)p2p_mbedtls_secure(&d.secure);
    d.max.conns = d.max.half_open = 1;
    d.max.streams = d.max.peer_streams = d.max.routes = P2P_NONE;
    d.max.datagrams_in = d.max.datagrams_out = d.max.peers = P2P_NONE;
    d.max.in_flight = 16;
    d.bytes.message_max = P2P_NONE;
    return d;
}

static size_t small_bound(void) {
    return P2P_ARENA_NODE + P2P_ARENA_CONNS(1, 0) + P2P_ARENA_IN_FLIGHT(16) +
           P2P_MBEDTLS_ARENA_SIZE(1, 1);
}

/* What a line of the desc costs beyond the smallest node lies within its bound, and above half of
 * it less 64 bytes. */
static void check_term(const p2p_desc *d, size_t bound) {
    p2p_desc least = small();
    size_t with = p2p_arena_size(d), without = p2p_arena_size(&least);
    CHECK(without > 0 && with > without);
    if (with - without > bound)
        printf("    it takes %lu, the bound is %lu\n", (unsigned long)(with - without),
               (unsigned long)bound);
    CHECK(with - without <= bound);
    CHECK(with - without + 64 >= bound / 2);
}

TEST(the_smallest_node) {
    p2p_desc d = small();
    size_t size = p2p_arena_size(&d);
    CHECK(size > 0);
    CHECK(size <= small_bound());
    CHECK(size >= small_bound() / 2);
    CHECK(sizeof constant > small_bound());
}

TEST(connections) {
    for (uint32_t n = 2; n < 200; n += 13) {
        p2p_desc d = small();
        d.max.conns = n;
        d.max.in_flight = 2 * n > 16 ? 2 * n : 16;
        check_term(&d, P2P_ARENA_CONNS(n - 1, 0) + P2P_ARENA_IN_FLIGHT(d.max.in_flight - 16) +
                           P2P_MBEDTLS_ARENA_SIZE(n, 1) - P2P_MBEDTLS_ARENA_SIZE(1, 1));
        CHECK_SO_FAR();
    }
}

TEST(messages) {
    for (uint32_t bytes = 256; bytes < 1u << 18; bytes *= 4) {
        p2p_desc d = small();
        d.bytes.message_max = 1 << 20;
        d.bytes.message_send = d.bytes.message_recv = bytes;
        check_term(&d, P2P_ARENA_CONNS(1, bytes) - P2P_ARENA_CONNS(1, 0) + 640);
        CHECK_SO_FAR();
        CHECK(p2p_arena_size(&d) <=
              small_bound() - P2P_ARENA_CONNS(1, 0) + P2P_ARENA_CONNS(1, bytes));
    }
}

TEST(streams) {
    for (uint32_t n = 1; n < 300; n = n * 3 + 1) {
        p2p_desc d = small();
        d.max.streams = n;
        d.bytes.stream_send = 512;
        d.bytes.stream_recv = 2048;
        check_term(&d, P2P_ARENA_STREAMS(n, 512, 2048));
        CHECK_SO_FAR();
        d = small();
        d.max.peer_streams = n;
        d.bytes.peer_send = 1024;
        d.bytes.peer_recv = 768;
        check_term(&d, P2P_ARENA_STREAMS(n, 1024, 768));
        CHECK_SO_FAR();
    }
}

TEST(packets_in_flight) {
    for (uint32_t n = 32; n < 60000; n *= 3) {
        p2p_desc d = small();
        d.max.in_flight = n;
        check_term(&d, P2P_ARENA_IN_FLIGHT(n - 16));
        CHECK_SO_FAR();
    }
}

TEST(datagrams_peers_and_routes) {
    p2p_desc d = small();
    d.max.datagrams_in = 7;
    d.max.datagrams_out = 9;
    check_term(&d, P2P_ARENA_DATAGRAMS(16));
    CHECK_SO_FAR();
    d = small();
    d.max.peers = 20;
    check_term(&d, P2P_ARENA_PEERS(20));
    CHECK_SO_FAR();
    d = small();
    d.max.routes = 40;
    check_term(&d, P2P_ARENA_ROUTES(40));
}

TEST(defaults) {
    p2p_desc d;
    memset(&d, 0, sizeof d);
    (void)p2p_sodium_crypto(&d.crypto);
    (void)p2p_mbedtls_secure(&d.secure);
    CHECK(p2p_arena_size(&d) > 0);
    CHECK(p2p_arena_size(&d) <= P2P_ARENA_SIZE(8, 16, 16384) + P2P_MBEDTLS_ARENA_SIZE(8, 4));
}

TEST_MAIN(P2P_TEST_ENTRY(the_smallest_node), P2P_TEST_ENTRY(connections), P2P_TEST_ENTRY(messages),
          P2P_TEST_ENTRY(streams), P2P_TEST_ENTRY(packets_in_flight),
          P2P_TEST_ENTRY(datagrams_peers_and_routes), P2P_TEST_ENTRY(defaults))
