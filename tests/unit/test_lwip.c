/* ports/p2p_lwip.h over one lwIP stack in virtual time: ways in and out, shortages, interfaces. */
#include "lwip_net.h"

static void works(int family) {
    net_pair(family);
    CHECK_SO_FAR();
    CHECK_INT(net_transfer(&net.near, &net.far, 100000, 2000), 100000);
    CHECK_INT(net_transfer(&net.far, &net.near, 100000, 2000), 100000);
}

/* ---- the way of a datagram ---- */

TEST(speaks_ip4) {
    works(4);
    net_close();
}

#if LWIP_IPV6
TEST(speaks_ip6) {
    works(6);
    net_close();
}
#define IP6_CASES P2P_TEST_ENTRY(speaks_ip6),
#else
#define IP6_CASES
#endif

TEST(one_pbuf_is_not_copied) {
    works(4);
    CHECK_SO_FAR();
    CHECK(net_stats().in > 80);
    CHECK_INT(net_stats().in_copied, 0);
    net_close();
}

TEST(chains_are_copied_once) {
    p2p_lwip_stats before;
    net_pair(4);
    CHECK_SO_FAR();
    before = net_stats();
    net.piece = 100;
    CHECK_INT(net_transfer(&net.far, &net.near, 100000, 2000), 100000);
    CHECK(net_stats().in_copied > 80);
    CHECK(net_stats().in - before.in - net_stats().in_copied < 10); /* the short ones */
    net_close();
}

TEST(without_memory_packets_wait) {
    static hoard h;
    uint32_t sent;
    net_pair(4);
    CHECK_SO_FAR();
    hoard_take(&h);
    sent = net.sent;
    CHECK_INT(net_transfer(&net.near, &net.far, 10000, 100), 0);
    CHECK_INT(net.sent, sent);
    CHECK(net_stats().out_waits > 10);
    CHECK_INT(net_stats().out_no_memory, 0);
    hoard_give(&h);
    CHECK_INT(net_transfer(&net.near, &net.far, 10000, 1000), 10000);
    net_close();
}

TEST_MAIN(P2P_TEST_ENTRY(speaks_ip4), IP6_CASES P2P_TEST_ENTRY(one_pbuf_is_not_copied),
          P2P_TEST_ENTRY(chains_are_copied_once), P2P_TEST_ENTRY(without_memory_packets_wait))
