/* ports/p2p_lwip.h over one lwIP stack in virtual time: ways in and out, shortages, interfaces. */
#include "lwip_net.h"

static void works(void) {
    CHECK_INT(net_transfer(&net.near, &net.far, 50000, 2000), 50000);
    CHECK_INT(net_transfer(&net.far, &net.near, 50000, 2000), 50000);
}

static void pair_works(int family) {
    net_pair(family);
    CHECK_SO_FAR();
    works();
}

/* ---- the way of a datagram ---- */

TEST(speaks_ip4) {
    pair_works(4);
    CHECK_SO_FAR();
    net_close();
}

#if LWIP_IPV6
TEST(speaks_ip6) {
    pair_works(6);
    CHECK_SO_FAR();
    net_close();
}

/* The far node is at a link-local address: its zone is the interface, given by its number or not. */
TEST(link_local_addresses_have_their_interface) {
    p2p_addr far;
    ip_addr_t to;
    ip6_addr_t own;
    p2p_ticket ticket;
    net_open(4);
    CHECK_SO_FAR();
    netif_create_ip6_linklocal_address(&net.wire, 1);
    own = *netif_ip6_addr(&net.wire, 0);
    netif_ip6_addr_set_state(&net.wire, 0, IP6_ADDR_PREFERRED);
    net_turn();
    CHECK(p2p_ticket_of(net.near.node, &ticket) >= 0);
    CHECK_INT(ticket.addr_count, 2);
    CHECK_BYTES(ticket.addrs[1].ip, own.addr, 16);
    CHECK_INT(p2p_addr_parse("[fe80::5]:9", &far), 0);
    CHECK(p2p_lwip__ip_of(&far, &to));
    CHECK_INT(ip6_addr_zone(ip_2_ip6(&to)), netif_get_index(&net.wire));
    far.scope = netif_get_index(&net.wire);
    CHECK(p2p_lwip__ip_of(&far, &to));
    CHECK_INT(ip6_addr_zone(ip_2_ip6(&to)), netif_get_index(&net.wire));
    p2p_lwip__addr_of(&to, 9, &far);
    CHECK_INT(far.scope, netif_get_index(&net.wire));
    net_close();
}

/* Who was asked at one of many addresses answers from that one. */
TEST(answers_come_from_the_address_that_was_asked) {
    ip6_addr_t more;
    net_open(6);
    CHECK_SO_FAR();
    ip6_of(9, &more); /* as close to the far host as the other one: lwIP would take the first */
    netif_ip6_addr_set(&net.wire, 1, netif_ip6_addr(&net.wire, 0));
    netif_ip6_addr_set_state(&net.wire, 1, IP6_ADDR_PREFERRED);
    netif_ip6_addr_set(&net.wire, 0, &more);
    net_dial();
    CHECK_SO_FAR();
    CHECK_INT(net.last_from[15], 9);
    net_run(200); /* the answers went to NEAR_HOST, and from there it goes on */
    CHECK_INT(net.near.connected, 1);
    CHECK_INT(net_transfer(&net.near, &net.far, 5000, 500), 5000);
    CHECK_INT(net.last_from[15], NEAR_HOST);
    net_close();
}
#define IP6_CASES                                                                          \
    P2P_TEST_ENTRY(speaks_ip6), P2P_TEST_ENTRY(link_local_addresses_have_their_interface), \
        P2P_TEST_ENTRY(answers_come_from_the_address_that_was_asked),
#else
/* The far node's address is of a family that this lwIP lacks. */
TEST(another_family_is_no_route) {
    p2p_ticket ticket;
    net_open(4);
    CHECK_SO_FAR();
    CHECK(p2p_ticket_of(net.far.node, &ticket) >= 0);
    CHECK_INT(p2p_addr_parse("[fd00::2]:7000", &ticket.addrs[0]), 0);
    CHECK_INT(p2p_peer_add(net.near.node, &ticket), 0);
    CHECK_INT(p2p_connect(net.near.node, &ticket.id, NULL, &net.near.conn), 0);
    net_run(10);
    CHECK(net_stats().out_no_route > 0);
    net_close();
}
#define IP6_CASES P2P_TEST_ENTRY(another_family_is_no_route),
#endif

TEST(one_pbuf_is_not_copied) {
    pair_works(4);
    CHECK_SO_FAR();
    CHECK(net_stats().in > 50);
    CHECK_INT(net_stats().in_copied, 0);
    net_close();
}

TEST(chains_are_copied_once) {
    p2p_lwip_stats before;
    net_pair(4);
    CHECK_SO_FAR();
    before = net_stats();
    net.piece = 100;
    CHECK_INT(net_transfer(&net.far, &net.near, 50000, 2000), 50000);
    CHECK(net_stats().in_copied > 30);
    CHECK(net_stats().in - before.in - net_stats().in_copied < 10); /* the short ones */
    net_close();
}

/* Records are opened in place: not in a pbuf that somebody else reads, too. */
TEST(shared_pbufs_stay_as_they_are) {
    net_pair(4);
    CHECK_SO_FAR();
    net.hold = 1;
    CHECK_INT(net_transfer(&net.far, &net.near, 50000, 2000), 50000);
    CHECK(net_stats().in_copied > 30);
    CHECK_INT(net.spoiled, 0);
    net_close();
}

TEST(long_chains_are_not_even_copied) {
    static uint8_t bytes[1900];
    net_pair(4);
    CHECK_SO_FAR();
    net.piece = 1000;
    wire_in(bytes, sizeof bytes);
    CHECK_INT(net_stats().in_oversize, 1);
    CHECK_INT(net_stats().in_copied, 0);
    net_close();
}

/* ---- shortages ---- */

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
    hoard_give(&h);
    works();
    CHECK_SO_FAR();
    CHECK_INT(net_stats().out, net_metric(&net.near, P2P_METRIC_datagrams_out)); /* all of them */
    net_close();
}

TEST(without_memory_chains_are_lost_and_come_again) {
    static hoard h;
    uint64_t got;
    p2p_stream stream;
    net_pair(4);
    CHECK_SO_FAR();
    net.piece = 0; /* pieces would need memory themselves */
    net.hold = 1;
    got = net.near.got;
    CHECK_INT(p2p_stream_open(net.far.node, net.far.conn, NULL, &stream), 0);
    CHECK_INT(p2p_stream_write(net.far.node, stream, "12345678", 8), 8);
    hoard_take(&h);
    net_run(20);
    CHECK(net_stats().in_no_memory > 0);
    CHECK_INT(net.near.got, got);
    hoard_give(&h);
    net_run(1000);
    CHECK_INT(net.near.got, got + 8);
    net_close();
}

/* What the interface says is counted; when it is well again, all goes on. */
TEST(refusals_are_losses) {
    static const struct {
        err_t answer;
        int memory, route, other;
    } cases[] = {{ERR_MEM, 1, 0, 0},        {ERR_BUF, 1, 0, 0}, {ERR_WOULDBLOCK, 1, 0, 0},
                 {ERR_INPROGRESS, 1, 0, 0}, {ERR_RTE, 0, 1, 0}, {ERR_IF, 0, 0, 1},
                 {ERR_VAL, 0, 0, 1}};
    net_pair(4);
    CHECK_SO_FAR();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        p2p_lwip_stats before = net_stats(), now;
        net.answer = cases[i].answer;
        CHECK_INT(net_transfer(&net.near, &net.far, 5000, 100), 0);
        now = net_stats();
        CHECK_INT(now.out, before.out);
        CHECK_INT(now.out_no_memory > before.out_no_memory, cases[i].memory);
        CHECK_INT(now.out_no_route > before.out_no_route, cases[i].route);
        CHECK_INT(now.out_refused > before.out_refused, cases[i].other);
        net.answer = ERR_OK;
        works();
        CHECK_SO_FAR();
    }
    net_close();
}

/* A driver that is full is not asked again in the same step. */
TEST(a_full_driver_is_left_alone) {
    p2p_lwip_stats before;
    net_pair(4);
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_open(net.near.node, net.near.conn, NULL, &net.near.stream), 0);
    CHECK_INT(p2p_stream_write(net.near.node, net.near.stream, net.zeros, 8000), 8000);
    before = net_stats();
    net.answer = ERR_MEM;
    CHECK_INT(p2p_lwip_step(&net.io, net.near.node), 0);
    CHECK_INT(net_stats().out_no_memory, before.out_no_memory + 1);
    net.answer = ERR_OK;
    CHECK(p2p_lwip_step(&net.io, net.near.node) > 1);
    net_close();
}

/* Path MTU discovery tries more than this interface takes: such a datagram must not be sent. */
TEST(too_large_for_the_interface_is_lost) {
    net_open(4);
    CHECK_SO_FAR();
    net.wire.mtu = 1280;
    net_dial();
    CHECK_SO_FAR();
    net_run(200);
    CHECK_INT(net.near.connected, 1);
    CHECK_INT(net_transfer(&net.near, &net.far, 200000, 3000), 200000);
    net_run(2000);
    CHECK(net_stats().out_oversize > 0);
    CHECK(net.largest <= 1280 - 28);
    net_close();
}

TEST(steps_are_bounded) {
    net_pair(4);
    CHECK_SO_FAR();
    works();
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_open(net.near.node, net.near.conn, NULL, &net.near.stream), 0);
    for (int i = 0; i < 100; i++) {
        (void)p2p_stream_write(net.near.node, net.near.stream, net.zeros, sizeof net.zeros);
        CHECK(p2p_lwip_step(&net.io, net.near.node) <= P2P_LWIP_BURST);
        net.now_us += MS;
        far_turn();
    }
    net_close();
}

/* ---- time ---- */

/* After the first step lwIP's timers and callbacks do it all. */
TEST(lwips_timers_drive) {
    net_open(4);
    CHECK_SO_FAR();
    net_dial();
    CHECK_SO_FAR();
    net.by_alarm = 1;
    net.answer = ERR_MEM; /* the first packets are lost: only timers can repeat them */
    net_run(20);
    net.answer = ERR_OK;
    net_run(1500);
    CHECK_INT(net.near.connected, 1);
    CHECK_INT(net_transfer(&net.far, &net.near, 50000, 3000), 50000);
    CHECK(net.wakes > 10);
    net_close();
}

/* Events of timers alone, too. */
TEST(wake_tells_of_timers) {
    net_open(4);
    CHECK_SO_FAR();
    net_turn();
    net.by_alarm = 1;
    CHECK_INT(p2p_timer_set(net.near.node, 0, net.now_us + 20 * MS), 0);
    (void)p2p_lwip_step(&net.io, net.near.node);
    net_run(15);
    CHECK_INT(net.wakes, 0);
    net_run(10);
    CHECK_INT(net.wakes, 1);
    CHECK_INT(net.near.events, 1);
    net_close();
}

/* sys_timeout asserts above a quarter of 32 bits, and a node may want nothing for ever. */
TEST(deadlines_are_capped) {
    net_open(4);
    CHECK_SO_FAR();
    CHECK(p2p_wakeup(net.near.node) == P2P_NEVER);
    net_turn();
    CHECK(p2p_lwip__of(&net.io)->alarm_us != P2P_NEVER);
    CHECK_INT(p2p_timer_set(net.near.node, 0, net.now_us + 1000000000000000u), 0);
    net_turn();
    CHECK(sys_timeouts_sleeptime() <= LWIP_UINT32_MAX / 4);
    CHECK_INT(p2p_lwip__wait_ms(5, 5, 0), 0);
    CHECK_INT(p2p_lwip__wait_ms(5, 5, 1), 1);
    CHECK_INT(p2p_lwip__wait_ms(0, 1, 0), 1); /* never early */
    CHECK_INT(p2p_lwip__wait_ms(0, 1000, 0), 1);
    CHECK_INT(p2p_lwip__wait_ms(0, 1001, 0), 2);
    CHECK_INT(p2p_lwip__wait_ms(0, P2P_NEVER, 0), 0x3fffffff);
    net_close();
}

/* sys_now begins anew every 49 days: the node's time goes on, and so do its connections. */
TEST(the_clock_wraps) {
    uint64_t before, began, wrap = ((uint64_t)1 << 32) * 1000u;
    net.begin_us = wrap - 700 * MS;
    pair_works(4);
    CHECK_SO_FAR();
    before = p2p_now(net.near.node);
    began = net.now_us;
    CHECK(began < wrap);
    while (net.now_us < wrap + 500 * MS)
        net_turn();
    CHECK_INT(p2p_now(net.near.node) - before, net.now_us - began);
    works();
    CHECK_SO_FAR();
    CHECK_INT(net.near.disconnected, 0);
    net_close();
}

/* ---- interfaces ---- */

static p2p_ticket own_ticket(void) {
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    (void)p2p_ticket_of(net.near.node, &ticket);
    return ticket;
}

TEST(a_pulled_link_is_noticed_and_comes_back) {
    uint32_t changes;
    p2p_lwip_stats before;
    net_pair(4);
    CHECK_SO_FAR();
    CHECK(own_ticket().addr_count >= 1);
    changes = net_stats().network_changes;
    netif_set_link_down(&net.wire);
    before = net_stats();
    CHECK_INT(net_transfer(&net.near, &net.far, 5000, 300), 0);
    CHECK_INT(own_ticket().addr_count, 0);
    CHECK(net_stats().network_changes > changes);
    CHECK(net_stats().out_no_route > before.out_no_route);
    changes = net_stats().network_changes;
    netif_set_link_up(&net.wire);
    net_turn();
    CHECK(net_stats().network_changes > changes);
    CHECK(own_ticket().addr_count >= 1);
    works();
    CHECK_SO_FAR();
    netif_set_down(&net.wire);
    net_run(100);
    CHECK_INT(own_ticket().addr_count, 0);
    netif_set_up(&net.wire);
    works();
    CHECK_SO_FAR();
    CHECK_INT(net.near.disconnected, 0);
    net_close();
}

/* As DHCP does: the address comes after the node, and later another one. */
TEST(addresses_come_and_change) {
    ip4_addr_t none, other, mask, gateway;
    net_open(4);
    CHECK_SO_FAR();
    ip4_addr_set_zero(&none);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 10, 0, 0, FAR_HOST);
    IP4_ADDR(&other, 10, 0, 0, 77);
    net_turn();
    netif_set_ipaddr(&net.wire, &none);
    net_turn();
    CHECK_INT(own_ticket().addrs[0].family == 4, 0);
    netif_set_addr(&net.wire, &other, &mask, &gateway);
    CHECK_INT(p2p_lwip__of(&net.io)->changed, 1); /* not in the middle of lwIP's change */
    net_turn();
    CHECK_INT(own_ticket().addrs[0].ip[3], 77);
    CHECK_INT(own_ticket().addrs[0].port, NEAR_PORT);
    net_close();
}

TEST(the_timer_alone_tells_the_node) {
    net_pair(4);
    CHECK_SO_FAR();
    net.by_alarm = 1;
    netif_set_link_down(&net.wire);
    net_run(2);
    CHECK_INT(own_ticket().addr_count, 0);
    net_close();
}

/* Of two ports one is bound to an interface: it alone hears of that one, and has its addresses. */
TEST(a_port_of_one_interface) {
    static p2p_lwip other;
    static p2p_desc desc;
    struct netif second;
    p2p_lwip_desc d = near_desc();
    ip4_addr_t ip, mask, gateway;
    net_open(4);
    CHECK_SO_FAR();
    memset(&second, 0, sizeof second);
    memset(&desc, 0, sizeof desc);
    IP4_ADDR(&ip, 192, 168, 7, 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    ip4_addr_set_zero(&gateway);
    CHECK(netif_add(&second, &ip, &mask, &gateway, NULL, wire_init, ip_input) != NULL);
    netif_set_link_up(&second);
    netif_set_up(&second);
    d.port = NEAR_PORT + 1;
    d.netif = &second;
    CHECK_INT(p2p_lwip_open(&other, &d, &desc), 0);
    CHECK_INT(desc.link.local_count, 1);
    CHECK_INT(desc.link.local[0].ip[0], 192);
    net_turn();
    CHECK(own_ticket().addr_count >= 2);
    netif_set_link_down(&net.wire);
    CHECK_INT(p2p_lwip__of(&net.io)->changed, 1);
    CHECK_INT(p2p_lwip__of(&other)->changed, 0);
    netif_set_link_down(&second);
    CHECK_INT(p2p_lwip__of(&other)->changed, 1);
    p2p_lwip_close(&other);
    netif_set_link_up(&second); /* nobody is told through a port that is closed */
    CHECK_INT(p2p_lwip__of(&other)->changed, 0);
    netif_remove(&second);
    netif_set_link_up(&net.wire);
    net_run(5);
    CHECK_INT(own_ticket().addr_count, LWIP_IPV6 ? 2 : 1);
    net_close();
}

/* ---- hostile frames ---- */

/* Whatever comes, nothing is written where it should not be, no pbuf is lost, and it goes on. */
TEST(junk_packets) {
    for (int i = 0; i < test_seeds(5); i++) {
        static uint8_t bytes[WIRE_ROOM];
        uint32_t before, memory;
        net.begin_entropy = test_seed();
        net_pair(net_families(i));
        CHECK_SO_FAR();
        net_run(100);
        memory = net_memory_in_use();
        before = net_stats().in + net_stats().in_oversize;
        for (int n = 0; n < 5000; n++) {
            size_t size = net_draw() % (n % 10 ? 200 : 1900);
            for (size_t at = 0; at < size; at++)
                bytes[at] = (uint8_t)net_draw();
            net.piece = net_draw() % 4 ? 0 : 8 + net_draw() % 100;
            if (net_draw() % 2)
                wire_in(bytes, size);
            else
                raw_in(bytes, size);
            if (n % 100 == 0)
                net_turn();
        }
        CHECK(net_stats().in + net_stats().in_oversize > before + 1000);
        net.piece = 0;
        works();
        CHECK_SO_FAR();
        net_run(500);
        CHECK_INT(net_memory_in_use(), memory);
        net_close();
    }
}

/* ---- opening and closing ---- */

TEST(nothing_comes_in_without_a_node) {
    uint8_t bytes[100] = {1};
    net_open(4);
    CHECK_SO_FAR();
    wire_in(bytes, sizeof bytes);
    CHECK_INT(net_stats().in_no_node, 1);
    net_turn();
    wire_in(bytes, sizeof bytes);
    CHECK_INT(net_stats().in, 1);
    CHECK_INT(p2p_lwip_step(&net.io, NULL), 0);
    wire_in(bytes, sizeof bytes);
    CHECK_INT(net_stats().in_no_node, 2);
    CHECK(p2p_lwip__of(&net.io)->alarm_us == P2P_NEVER);
    p2p_node_close(net.near.node);
    net.near.node = NULL;
    net.now_us += 100000 * MS;
    sys_check_timeouts(); /* no alarm of the node that is gone */
    net_close();
}

TEST(what_open_fills_in) {
    net_open(4);
    CHECK_SO_FAR();
    CHECK(net.near.desc.random.fill == entropy);
    CHECK_INT(net.near.desc.link.mtu,
              P2P_MBEDTLS_CONTENT + 38 < 1472 ? P2P_MBEDTLS_CONTENT + 38 : 1472);
    CHECK_INT(net.near.desc.link.segments, 1);
    CHECK_INT(net.near.desc.link.local_count, LWIP_IPV6 ? 2 : 1);
    CHECK_INT(net.near.desc.link.local[0].family, 4);
    CHECK_INT(net.near.desc.link.local[0].port, NEAR_PORT);
    CHECK(net.near.desc.secure.api != NULL && net.near.desc.crypto.api != NULL);
    net_close();
}

static int refused(p2p_lwip_desc d, const p2p_desc *with, int err, const char *words) {
    static p2p_lwip io;
    static p2p_error_detail why;
    p2p_desc desc = *with, before;
    desc.why = &why;
    before = desc;
    if (p2p_lwip_open(&io, &d, &desc) != err || why.err != err || !strstr(why.text, words) ||
        memcmp(&desc, &before, sizeof desc) != 0) {
        printf("    %d: %s\n", why.err, why.text);
        p2p_lwip_close(&io);
        return 0;
    }
    return 1;
}

TEST(refusals_name_what_is_wrong) {
    static hoard h;
    static p2p_lwip io;
    static p2p_desc desc, large;
    static struct udp_pcb *pcbs[64];
    p2p_lwip_desc good = near_desc(), bad = near_desc();
    p2p_lwip_stats stats;
    uint32_t memory;
    int count = 0;
    net_start(4);
    CHECK_SO_FAR();
    memory = net_memory_in_use();
    memset(&desc, 0, sizeof desc);
    memset(&large, 0, sizeof large);
    CHECK_INT(p2p_lwip_open(NULL, &good, &desc), P2P_ERR_ARG);
    CHECK_INT(p2p_lwip_open(&io, NULL, &desc), P2P_ERR_ARG);
    CHECK_INT(p2p_lwip_open(&io, &good, NULL), P2P_ERR_ARG);
    bad.random = NULL;
    CHECK(refused(bad, &desc, P2P_ERR_CONFIG, "random"));
    large.link.mtu = 70000;
    CHECK(refused(good, &large, P2P_ERR_CONFIG, "link.mtu"));
    hoard_take(&h);
    CHECK(refused(good, &desc, P2P_ERR_CONFIG, "MEM_SIZE"));
    hoard_give(&h);
    CHECK_INT(p2p_lwip_open(&io, &good, &desc), 0);
    CHECK(refused(good, &large, P2P_ERR_CONFIG, "link.mtu"));
    memset(&large, 0, sizeof large);
    CHECK(refused(good, &large, P2P_ERR_IO, "port"));
    p2p_lwip_close(&io);
    while (!MEM_CUSTOM_ALLOCATOR && (pcbs[count] = udp_new()) != NULL)
        count++;
    CHECK(MEM_CUSTOM_ALLOCATOR || refused(good, &large, P2P_ERR_LIMIT, "MEMP_NUM_UDP_PCB"));
    while (count > 0)
        udp_remove(pcbs[--count]);
    CHECK_INT(p2p_lwip_step(&io, NULL), P2P_ERR_STATE);
    CHECK_INT(p2p_lwip_stats_get(&io, &stats), P2P_ERR_STATE);
    p2p_lwip_close(&io);
    p2p_lwip_close(NULL);
    CHECK_INT(net_memory_in_use(), memory);
    net_close();
}

TEST_MAIN(P2P_TEST_ENTRY(speaks_ip4), IP6_CASES P2P_TEST_ENTRY(one_pbuf_is_not_copied),
          P2P_TEST_ENTRY(chains_are_copied_once), P2P_TEST_ENTRY(shared_pbufs_stay_as_they_are),
          P2P_TEST_ENTRY(long_chains_are_not_even_copied),
          P2P_TEST_ENTRY(without_memory_packets_wait),
          P2P_TEST_ENTRY(without_memory_chains_are_lost_and_come_again),
          P2P_TEST_ENTRY(refusals_are_losses), P2P_TEST_ENTRY(a_full_driver_is_left_alone),
          P2P_TEST_ENTRY(too_large_for_the_interface_is_lost), P2P_TEST_ENTRY(steps_are_bounded),
          P2P_TEST_ENTRY(lwips_timers_drive), P2P_TEST_ENTRY(wake_tells_of_timers),
          P2P_TEST_ENTRY(deadlines_are_capped), P2P_TEST_ENTRY(the_clock_wraps),
          P2P_TEST_ENTRY(a_pulled_link_is_noticed_and_comes_back),
          P2P_TEST_ENTRY(addresses_come_and_change), P2P_TEST_ENTRY(the_timer_alone_tells_the_node),
          P2P_TEST_ENTRY(a_port_of_one_interface), P2P_TEST_ENTRY(junk_packets),
          P2P_TEST_ENTRY(nothing_comes_in_without_a_node), P2P_TEST_ENTRY(what_open_fills_in),
          P2P_TEST_ENTRY(refusals_name_what_is_wrong))
