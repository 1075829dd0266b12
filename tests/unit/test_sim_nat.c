/* NAT boxes and plain hosts of p2p_sim.h: every rule of a box on its own, seen by UDP programs that
 * send and note what comes. Whole punching attempts: tests/sim/test_nat_matrix.c. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "p2p_test.h"

#define SECOND ((uint64_t)1000000)
enum { HOSTS = 12, GOT_MAX = 400 };
static uint64_t memory[6u << 20];
static struct {
    p2p_sim *sim;
    p2p_error_detail why;
    p2p_sim_desc net;
    p2p_id core, id[HOSTS];
    uint32_t hosts;
    struct got {
        uint32_t host;
        uint16_t port;
        p2p_addr from;
        uint8_t number;
    } got[GOT_MAX];
    uint32_t count;
    uint8_t sent;
} w;

static void take(void *ctx, p2p_sim *sim, const p2p_id *host, uint16_t port, const p2p_addr *from,
                 p2p_span data) {
    struct got *g = &w.got[w.count % GOT_MAX];
    (void)ctx;
    (void)sim;
    for (g->host = 0; !p2p_id_equal(&w.id[g->host], host); g->host++) {}
    g->port = port;
    g->from = *from;
    g->number = data.data[0];
    w.count++;
}
/* A core that forwards, and so many hosts at it; links are instant. */
static void open_world(uint32_t hosts) {
    p2p_sim_host_desc program;
    char name[8] = "h0";
    memset(&w.got, 0, sizeof w.got);
    memset(&program, 0, sizeof program);
    program.on_datagram = take;
    w.net.why = &w.why;
    w.net.nodes = 2 * HOSTS;
    w.count = w.sent = 0;
    w.hosts = hosts;
    CHECK_INT(p2p_sim_open(&w.sim, &w.net, memory, sizeof memory), 0);
    CHECK_INT(p2p_sim_router(w.sim, "core", &w.core), 0);
    for (uint32_t i = 0; i < hosts; i++) {
        name[1] = (char)('a' + i);
        CHECK_INT(p2p_sim_host(w.sim, name, &program, &w.id[i]), 0);
        CHECK_INT(p2p_sim_connect(w.sim, &w.id[i], &w.core, NULL), 0);
    }
}
static void begin(uint32_t hosts) {
    memset(&w.net, 0, sizeof w.net);
    open_world(hosts);
}
static p2p_sim_nat_desc kind(uint8_t kind_of_box) {
    p2p_sim_nat_desc d;
    memset(&d, 0, sizeof d);
    d.kind = kind_of_box;
    return d;
}
static void box(const p2p_id *id, p2p_sim_nat_desc d) {
    if (p2p_sim_nat(w.sim, id, &d) < 0)
        printf("    %s\n", w.why.text);
    CHECK_INT(w.sim->error->err, 0);
}
/* A NAT router at the core. */
static p2p_id lan(const char *name, p2p_sim_nat_desc d) {
    p2p_id id;
    memset(&id, 0, sizeof id);
    if (p2p_sim_router(w.sim, name, &id) < 0 || p2p_sim_connect(w.sim, &id, &w.core, NULL) < 0 ||
        p2p_sim_nat(w.sim, &id, &d) < 0)
        test_fail(__FILE__, __LINE__);
    return id;
}
static void join(uint32_t host, const p2p_id *router) {
    CHECK_INT(p2p_sim_connect(w.sim, &w.id[host], router, NULL), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[host], router), 0);
}
static void wait_us(uint64_t us) {
    CHECK_INT(p2p_sim_run_until(w.sim, p2p_sim_now(w.sim) + us), 0);
}
/* Sends one datagram and lets it arrive; what came of it, or NULL. */
static const struct got *send_to(uint32_t host, uint16_t port, const p2p_addr *to) {
    uint32_t had = w.count;
    uint8_t number = ++w.sent;
    if (p2p_sim_host_send(w.sim, &w.id[host], port, to, &number, 1) < 0)
        printf("    %s\n", w.why.text);
    wait_us(1);
    return w.count == had + 1 && w.got[had % GOT_MAX].number == number ? &w.got[had % GOT_MAX]
                                                                       : NULL;
}
static p2p_addr own(uint32_t host, uint16_t port) {
    p2p_addr a;
    memset(&a, 0, sizeof a);
    (void)p2p_sim_addr_inside(w.sim, &w.id[host], &a);
    a.port = port;
    return a;
}
/* The address `to` sees when a host sends there. */
static p2p_addr seen_by(uint32_t to, uint32_t host, uint16_t port, uint16_t to_port) {
    p2p_addr at = own(to, to_port), none;
    const struct got *g = send_to(host, port, &at);
    memset(&none, 0, sizeof none);
    return g ? g->from : none;
}
static int same(const p2p_addr *a, const p2p_addr *b) { return memcmp(a, b, sizeof *a) == 0; }
static int comes(uint32_t host, uint16_t port, const p2p_addr *to) {
    return send_to(host, port, to) != NULL;
}
static uint64_t fate(int which) { return w.sim->fates[which]; }

/* ---- hosts ---- */

static struct {
    uint64_t at_us[8];
    uint32_t rings, again;
} bell;
static void ring(void *ctx, p2p_sim *sim, const p2p_id *host) {
    (void)ctx;
    bell.at_us[bell.rings++ % 8] = p2p_sim_now(sim);
    if (bell.again-- != 0)
        (void)p2p_sim_host_timer(sim, host, p2p_sim_now(sim) + 10);
}
TEST(hosts_have_ports_and_timers) {
    p2p_sim_host_desc program;
    p2p_id id;
    p2p_addr to;
    const struct got *g;
    memset(&bell, 0, sizeof bell);
    begin(2);
    to = own(1, 53);
    g = send_to(0, 1234, &to);
    CHECK(g != NULL);
    CHECK_INT(g->host, 1);
    CHECK_INT(g->port, 53);
    to = own(0, 1234);
    CHECK(same(&g->from, &to));
    memset(&program, 0, sizeof program);
    program.on_timer = ring;
    CHECK_INT(p2p_sim_host(w.sim, "clock", &program, &id), 0);
    bell.again = 2;
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 100), 0);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 50), 0); /* the newest counts */
    wait_us(1000);
    CHECK_INT(bell.rings, 3);
    CHECK_INT(bell.at_us[0], 50);
    CHECK_INT(bell.at_us[2], 70);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 5000), 0);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, P2P_NEVER), 0);
    wait_us(9000);
    CHECK_INT(bell.rings, 3);
    p2p_sim_close(w.sim);
}
TEST(hosts_crash_and_come_back) {
    p2p_addr to;
    uint64_t digest;
    begin(2);
    to = own(1, 7);
    CHECK(comes(0, 7, &to));
    digest = p2p_sim_digest(w.sim);
    CHECK_INT(p2p_sim_host_timer(w.sim, &w.id[1], 1000), 0);
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[1]), 0);
    CHECK(!comes(0, 7, &to));
    CHECK_INT(fate(P2P_SIM_NOBODY), 1);
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[1], 7, &to, "x", 1), P2P_ERR_STATE);
    CHECK_INT(p2p_sim_host_timer(w.sim, &w.id[1], 9999), P2P_ERR_STATE);
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[1]), P2P_ERR_STATE);
    wait_us(2000);
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], NULL), 0);
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[1], NULL), P2P_ERR_STATE);
    CHECK(p2p_sim_digest(w.sim) == digest);
    CHECK(comes(0, 7, &to));
    CHECK(p2p_sim_digest(w.sim) != digest);
    p2p_sim_close(w.sim);
}
TEST(hosts_stand_still_while_paused) {
    p2p_sim_host_desc program;
    p2p_id id;
    p2p_addr to;
    memset(&bell, 0, sizeof bell);
    memset(&program, 0, sizeof program);
    program.on_timer = ring;
    begin(2);
    CHECK_INT(p2p_sim_host(w.sim, "clock", &program, &id), 0);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 100), 0);
    CHECK_INT(p2p_sim_pause(w.sim, &id), 0);
    CHECK_INT(p2p_sim_pause(w.sim, &w.id[1]), 0);
    to = own(1, 7);
    CHECK(!comes(0, 7, &to));
    CHECK(!comes(0, 8, &to));
    wait_us(1000);
    CHECK_INT(bell.rings, 0);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 2000), 0);
    wait_us(2000);
    CHECK_INT(bell.rings, 0);
    CHECK_INT(p2p_sim_resume(w.sim, &id), 0);
    CHECK_INT(p2p_sim_resume(w.sim, &w.id[1]), 0);
    wait_us(1);
    CHECK_INT(bell.rings, 1);
    CHECK_INT(w.count, 2);
    CHECK_INT(w.got[0].from.port, 7);
    CHECK_INT(w.got[1].from.port, 8);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 9000), 0); /* a crash forgets it */
    CHECK_INT(p2p_sim_crash(w.sim, &id), 0);
    CHECK_INT(p2p_sim_restart(w.sim, &id, NULL), 0);
    wait_us(9000);
    CHECK_INT(p2p_sim_pause(w.sim, &id), 0);
    CHECK_INT(p2p_sim_resume(w.sim, &id), 0);
    wait_us(1);
    CHECK_INT(bell.rings, 1);
    CHECK_INT(p2p_sim_clock(w.sim, &id, 1, 0), P2P_ERR_ARG);
    CHECK_STR(w.why.text, "p2p_sim_clock: a host has no clock: clock");
    p2p_sim_close(w.sim);
    CHECK_INT(p2p_sim_host(w.sim, "late", NULL, &id), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], 7, &to, "x", 1), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_host_timer(w.sim, &w.id[0], 9999), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], &w.core), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &w.id[0], 0, 0), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_addr_inside(w.sim, &w.id[0], &to), P2P_ERR_CLOSED);
}
/* What comes stays whole while the program sends, also when it is large and traced. */
static uint8_t big[3000], echoed[3000];
static size_t echoed_size;
static void trace_nothing(void *ctx, const p2p_sim_trace_item *item) {
    (void)ctx;
    (void)item;
}
static void echo(void *ctx, p2p_sim *sim, const p2p_id *host, uint16_t port, const p2p_addr *from,
                 p2p_span data) {
    static const uint8_t other[2000] = {9};
    (void)ctx;
    (void)p2p_sim_host_send(sim, host, port, from, other, sizeof other);
    echoed_size = data.size;
    memcpy(echoed, data.data, data.size);
}
TEST(hosts_may_send_while_they_read) {
    p2p_sim_host_desc program;
    p2p_sim_link twice;
    p2p_id id;
    p2p_addr to;
    memset(&program, 0, sizeof program);
    memset(&twice, 0, sizeof twice);
    twice.duplicate_ppm = 1000000;
    program.on_datagram = echo;
    begin(1);
    CHECK_INT(p2p_sim_host(w.sim, "echo", &program, &id), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &id, &w.core, NULL), 0);
    CHECK_INT(p2p_sim_connect_oneway(w.sim, &id, &w.core, &twice), 0);
    p2p_sim_trace(w.sim, trace_nothing, NULL);
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7);
    CHECK_INT(p2p_sim_addr(w.sim, &id, &to), 0);
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], 1, &to, big, sizeof big), 0);
    wait_us(1);
    CHECK_INT(echoed_size, sizeof big);
    CHECK_BYTES(echoed, big, sizeof big);
    CHECK_INT(w.count, 2);
    p2p_sim_close(w.sim);
}
TEST(wrong_calls_of_hosts_say_which) {
    p2p_addr to;
    p2p_id id;
    begin(1);
    to = own(0, 9);
    CHECK_INT(p2p_sim_host(w.sim, "core", NULL, &id), P2P_ERR_CONFIG);
    CHECK_STR(w.why.text, "this key is in the network already, as core");
    CHECK_INT(p2p_sim_host_send(w.sim, &w.core, 1, &to, "x", 1), P2P_ERR_ARG);
    CHECK_STR(w.why.text, "this vertex is not a p2p_sim_host: core");
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], 0, &to, "x", 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], 1, &to, "x", 0), P2P_ERR_ARG);
    CHECK_STR(w.why.text, "p2p_sim_host_send: 1 to 65535 bytes");
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], 1, &to, memory, 65536), P2P_ERR_TOO_LARGE);
    to.family = 6;
    CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], 1, &to, "x", 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_id(w.sim, "nobody", &id), 0);
    CHECK_INT(p2p_sim_host_timer(w.sim, &id, 5), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_host_timer(w.sim, &w.id[0], p2p_sim_now(w.sim)), P2P_ERR_ARG);
    CHECK_STR(w.why.text, "p2p_sim_host_timer: this time has come already");
    p2p_sim_close(w.sim);
}

/* ---- mapping, filtering, ports ---- */

/* 1 and 2 are at one address each, with ports 7 and 8: 0 sent to 1, port 7. Who may answer? */
TEST(boxes_let_in_whom_their_kind_says) {
    static const int want[6][3] = {/* exact, same address, anybody */
                                   {1, 1, 1}, {1, 1, 0}, {1, 0, 0},
                                   {1, 0, 0}, {0, 0, 0}, {1, 0, 0}};
    for (uint8_t k = P2P_SIM_NAT_FULL; k <= P2P_SIM_NAT_FIREWALL; k++) {
        p2p_addr to, back;
        begin(3);
        box(&w.id[0], kind(k));
        CHECK_INT(p2p_sim_addr(w.sim, &w.id[0], &back), 0);
        CHECK(!comes(1, 7, &back)); /* uninvited */
        to = own(1, 7);
        back = seen_by(1, 0, 4000, 7);
        CHECK_INT(back.family != 0, k != P2P_SIM_NAT_BLOCKED);
        if (k == P2P_SIM_NAT_FIREWALL)
            CHECK_BYTES(back.ip, own(0, 1).ip, 4);
        if (back.family == 0)
            CHECK_INT(p2p_sim_addr(w.sim, &w.id[0], &back), 0);
        CHECK_INT(comes(1, 7, &back), want[k - 1][0]);
        CHECK_INT(comes(1, 8, &back), want[k - 1][1]);
        CHECK_INT(comes(2, 7, &back), want[k - 1][2]);
        CHECK_INT(comes(0, 4000, &to), k != P2P_SIM_NAT_BLOCKED);
        p2p_sim_close(w.sim);
    }
}
/* The outer ports of one inner one towards 1:7, 1:8, 2:7: which of them are the same. */
TEST(mappings_depend_on_what_they_say) {
    for (uint8_t m = P2P_SIM_NAT_ENDPOINT_INDEPENDENT; m <= P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT;
         m++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_SYM);
        p2p_addr a, b, c, again;
        d.mapping = m;
        begin(3);
        box(&w.id[0], d);
        a = seen_by(1, 0, 4000, 7);
        b = seen_by(1, 0, 4000, 8);
        c = seen_by(2, 0, 4000, 7);
        again = seen_by(1, 0, 4000, 7);
        CHECK_INT(a.family, 4);
        CHECK(same(&a, &again));
        CHECK(a.port != 4000 && a.port >= 1024); /* SYM draws ports */
        CHECK_INT(a.port == b.port, m != P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT);
        CHECK_INT(a.port == c.port, m == P2P_SIM_NAT_ENDPOINT_INDEPENDENT);
        p2p_sim_close(w.sim);
    }
}
TEST(filters_depend_on_what_they_say) {
    for (uint8_t f = P2P_SIM_NAT_ENDPOINT_INDEPENDENT; f <= P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT;
         f++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_SYM);
        p2p_addr back;
        d.filtering = f;
        begin(3);
        box(&w.id[0], d);
        back = seen_by(1, 0, 4000, 7);
        CHECK(comes(1, 7, &back));
        CHECK_INT(comes(1, 8, &back), f != P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT);
        CHECK_INT(comes(2, 7, &back), f == P2P_SIM_NAT_ENDPOINT_INDEPENDENT);
        p2p_sim_close(w.sim);
    }
}
/* Two hosts of a LAN use the same port: the first keeps it; each keeps its own for all remotes. */
TEST(second_one_with_a_port_gets_another) {
    for (uint8_t ports = P2P_SIM_NAT_PORTS_KEEP; ports <= P2P_SIM_NAT_PORTS_RANDOM; ports++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr a, b, c;
        p2p_id r;
        d.ports = ports;
        begin(4);
        r = lan("r", d);
        join(0, &r);
        join(1, &r);
        a = seen_by(2, 0, 40000, 7);
        b = seen_by(2, 1, 40000, 7);
        CHECK_INT(a.port == 40000, ports != P2P_SIM_NAT_PORTS_RANDOM);
        CHECK(b.family == 4 && b.port != a.port);
        CHECK_INT(b.port == 40001, ports == P2P_SIM_NAT_PORTS_NEXT);
        CHECK_BYTES(a.ip, b.ip, 4);
        c = seen_by(3, 1, 40000, 9);
        CHECK(same(&b, &c));
        for (uint32_t i = 0; i < 2; i++) { /* p2p_sim_addr tells the port that each has got */
            p2p_addr got = seen_by(2, i, 4000, 7), told;
            CHECK_INT(p2p_sim_addr(w.sim, &w.id[i], &told), 0);
            CHECK(same(&got, &told));
        }
        CHECK(comes(2, 7, &a) && w.got[w.count - 1].host == 0);
        CHECK(comes(2, 7, &b) && w.got[w.count - 1].host == 1);
        CHECK_INT(w.got[w.count - 1].port, 40000);
        p2p_sim_close(w.sim);
    }
}
TEST(ports_run_out) {
    for (uint8_t ports = P2P_SIM_NAT_PORTS_KEEP; ports <= P2P_SIM_NAT_PORTS_RANDOM; ports++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr to;
        p2p_id r;
        memset(&w.net, 0, sizeof w.net);
        w.net.flows = 70000;
        open_world(3);
        d.ports = ports;
        r = lan("r", d);
        join(0, &r);
        join(1, &r);
        to = own(2, 7);
        for (uint32_t port = 1024; port < 65536; port++) {
            CHECK_INT(p2p_sim_host_send(w.sim, &w.id[0], (uint16_t)port, &to, "x", 1), 0);
            if (port % 256 == 255)
                wait_us(1);
        }
        CHECK_INT(fate(P2P_SIM_NAT), 0); /* each found one */
        CHECK(!comes(1, 5000, &to));
        CHECK_INT(fate(P2P_SIM_NAT), 1);
        wait_us(31 * SECOND);
        CHECK(comes(1, 5000, &to));
        p2p_sim_close(w.sim);
    }
}

/* ---- timers ---- */

/* 0 sends, and the other side answers at these times; is 0 reached after `silent` more? */
static int reached(p2p_sim_nat_desc d, uint64_t answer_us, uint64_t out_us, uint64_t silent_us) {
    p2p_addr to, back;
    int came;
    begin(2);
    box(&w.id[0], d);
    to = own(1, 7);
    back = seen_by(1, 0, 4000, 7); /* at 0; takes 1 us */
    if (answer_us) {
        wait_us(answer_us - p2p_sim_now(w.sim));
        if (!comes(1, 7, &back))
            return -1;
    }
    if (out_us) {
        wait_us(out_us - p2p_sim_now(w.sim));
        if (!comes(0, 4000, &to))
            return -1;
    }
    wait_us(silent_us - 1);
    came = comes(1, 7, &back);
    p2p_sim_close(w.sim);
    return came;
}
TEST(lone_flows_live_30_s_and_answered_ones_120) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    CHECK_INT(reached(d, 0, 0, 29 * SECOND), 1);
    CHECK_INT(reached(d, 0, 0, 30 * SECOND - 1), 1);
    CHECK_INT(reached(d, 0, 0, 30 * SECOND), 0);
    CHECK_INT(reached(d, 0, 0, 31 * SECOND), 0);
    /* an answer and more within 2 s: as before */
    CHECK_INT(reached(d, SECOND / 2, 1999999, 29 * SECOND), 1);
    CHECK_INT(reached(d, SECOND / 2, 1999999, 31 * SECOND), 0);
    /* without an answer, however long it goes on */
    CHECK_INT(reached(d, 0, 20 * SECOND, 31 * SECOND), 0);
    /* an answer, and something after 2 s, out or in */
    CHECK_INT(reached(d, SECOND / 2, 2 * SECOND, 119 * SECOND), 1);
    CHECK_INT(reached(d, SECOND / 2, 2 * SECOND, 121 * SECOND), 0);
    CHECK_INT(reached(d, 3 * SECOND, 0, 119 * SECOND), 1);
    CHECK_INT(reached(d, 3 * SECOND, 0, 121 * SECOND), 0);
    d.lone_us = 5 * SECOND;
    d.assured_us = 7 * SECOND;
    CHECK_INT(reached(d, 0, 0, 5 * SECOND), 0);
    CHECK_INT(reached(d, 3 * SECOND, 0, 7 * SECOND - 1), 1);
    CHECK_INT(reached(d, 3 * SECOND, 0, 7 * SECOND), 0);
}
/* Packets at 4 and 9 s through a mapping that lives for 6. */
TEST(inbound_refreshes_unless_it_may_not) {
    for (uint8_t only = 0; only < 2; only++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        d.lone_us = d.assured_us = 6 * SECOND;
        d.outbound_only = only;
        CHECK_INT(reached(d, 4 * SECOND, 0, 5 * SECOND), !only);
        CHECK_INT(reached(d, 4 * SECOND, 5 * SECOND, 5 * SECOND), 1); /* outbound always */
    }
}

/* What comes in refreshes its own flow, also where another would have let it in. */
TEST(inbound_refreshes_its_own_flow) {
    p2p_addr back, other;
    begin(2);
    box(&w.id[0], kind(P2P_SIM_NAT_ADDR));
    back = seen_by(1, 0, 4000, 7);
    wait_us(10 * SECOND);
    other = own(1, 8);
    CHECK(comes(0, 4000, &other));
    wait_us(SECOND);
    CHECK(comes(1, 7, &back)); /* 11 s old: 120 s from here; the other is but 1 s old */
    wait_us(60 * SECOND);
    CHECK(comes(1, 7, &back));
    p2p_sim_close(w.sim);
}

/* Where strangers may come in they keep the mapping, if anything inward does. */
TEST(strangers_refresh_the_mapping) {
    for (uint8_t only = 0; only < 2; only++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_FULL);
        p2p_addr back;
        d.outbound_only = only;
        begin(3);
        box(&w.id[0], d);
        back = seen_by(1, 0, 4000, 7);
        wait_us(20 * SECOND);
        CHECK(comes(2, 7, &back));
        wait_us(25 * SECOND);
        CHECK_INT(comes(2, 7, &back), !only);
        wait_us(31 * SECOND);
        CHECK(!comes(2, 7, &back));
        p2p_sim_close(w.sim);
    }
}

/* ---- early datagrams, table, blocked, firewall ---- */

TEST(early_datagram_takes_the_port_towards_its_sender) {
    for (uint8_t early = 0; early < 2; early++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr before, clash, other;
        d.early = early;
        begin(4);
        box(&w.id[0], d);
        before = seen_by(1, 0, 4000, 7);
        CHECK_INT(before.port, 4000);
        CHECK(!comes(2, 7, &before)); /* the filter refuses it */
        clash = seen_by(2, 0, 4000, 7);
        CHECK_INT(clash.family, 4);
        CHECK_INT(clash.port == 4000, !early);
        CHECK(comes(2, 7, &clash));
        other = seen_by(2, 0, 4000, 7); /* it keeps the one it got */
        CHECK(same(&other, &clash));
        other = seen_by(2, 0, 4000, 8); /* another port of it, and others, see the old one */
        CHECK_INT(other.port, 4000);
        other = seen_by(3, 0, 4000, 7);
        CHECK_INT(other.port, 4000);
        p2p_sim_close(w.sim);
    }
}
/* The entry lives for lone_us, and as long as more comes. */
TEST(early_datagrams_are_forgotten_after_a_pause) {
    for (int more = 0; more < 2; more++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr at;
        d.early = 1;
        begin(2);
        box(&w.id[0], d);
        CHECK_INT(p2p_sim_addr(w.sim, &w.id[0], &at), 0);
        CHECK(!comes(1, 7, &at));
        wait_us(20 * SECOND);
        if (more)
            CHECK(!comes(1, 7, &at));
        wait_us(15 * SECOND);
        at = seen_by(1, 0, 4000, 7);
        CHECK_INT(at.port == 4000, !more);
        p2p_sim_close(w.sim);
    }
}
TEST(full_table_takes_no_more_until_one_ends) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_addr to[4];
    begin(4);
    d.table_max = 2;
    box(&w.id[0], d);
    for (uint32_t i = 1; i < 4; i++)
        to[i] = own(i, 7);
    CHECK(comes(0, 4000, &to[1]));
    wait_us(10 * SECOND);
    CHECK(comes(0, 4000, &to[2]));
    CHECK(!comes(0, 4000, &to[3]));
    CHECK_INT(fate(P2P_SIM_NAT), 1);
    CHECK(comes(0, 4000, &to[2])); /* those that are there go on */
    wait_us(21 * SECOND);          /* the first has ended */
    CHECK(comes(0, 4000, &to[3]));
    CHECK(!comes(0, 4000, &to[1]));
    d.table_max = w.sim->desc.flows + 1;
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], &d), P2P_ERR_CONFIG);
    CHECK_STR(w.why.text, "nat.table_max: more than p2p_sim_desc.flows");
    p2p_sim_close(w.sim);
}
/* The full table is looked through again when the first in it can have ended, not when the last. */
TEST(full_table_has_room_as_soon_as_one_ends) {
    for (int forget = 0; forget < 2; forget++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr to, back;
        begin(2);
        d.table_max = 1;
        box(&w.id[0], d);
        to = own(1, 7);
        back = seen_by(1, 0, 4000, 7);
        wait_us(3 * SECOND);
        CHECK(comes(1, 7, &back)); /* it lives for 120 s now */
        CHECK(!comes(0, 5000, &to));
        if (forget) {
            CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &w.id[0], 0, P2P_SIM_REBIND_FLUSH), 0);
            CHECK(comes(0, 6000, &to)); /* and this for 30 */
            wait_us(31 * SECOND);
        } else {
            wait_us(119 * SECOND);
            CHECK(!comes(0, 5000, &to));
            wait_us(SECOND);
        }
        CHECK(comes(0, 5000, &to));
        p2p_sim_close(w.sim);
    }
}
/* What has ended leaves its chains when the same is opened again, and memory when it is wanted. */
TEST(ended_flows_do_not_pile_up) {
    for (uint8_t k = P2P_SIM_NAT_FULL; k <= P2P_SIM_NAT_SYM; k++) {
        p2p_sim_nat_desc d = kind(k);
        p2p_addr to;
        memset(&w.net, 0, sizeof w.net);
        w.net.flows = 16;
        open_world(2);
        d.lone_us = d.assured_us = 10;
        box(&w.id[0], d);
        to = own(1, 7);
        for (int i = 0; i < 100; i++) {
            CHECK(comes(0, 4000, &to));
            wait_us(20);
            CHECK_INT(w.sim->boxes[0].flow_count, 1);
            CHECK_INT(w.sim->boxes[0].mapping_count, 1);
        }
        for (uint16_t port = 100; port < 200; port++) {
            to.port = port;
            CHECK(comes(0, port, &to));
            wait_us(20);
        }
        p2p_sim_close(w.sim);
    }
}
/* All boxes share desc.flows; where one ended there is room again, as soon as the first can have. */
static uint32_t opened(uint32_t host, uint32_t flows) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < flows; i++) {
        p2p_addr to = own(2, (uint16_t)(1 + i));
        n += comes(host, 4000, &to) ? 1 : 0;
    }
    return n;
}
TEST(memory_for_flows_is_shared) {
    enum { ALL = 32 };
    p2p_addr back;
    memset(&w.net, 0, sizeof w.net);
    w.net.flows = ALL;
    open_world(3);
    for (uint32_t i = 0; i < 2; i++)
        box(&w.id[i], kind(P2P_SIM_NAT_PORT));
    CHECK_INT(opened(0, ALL - 1), ALL - 1);
    CHECK_INT(opened(1, 2), 1);
    CHECK_INT(opened(0, ALL), ALL - 1); /* those that are there go on */
    wait_us(31 * SECOND);
    CHECK_INT(opened(1, 2), 2);
    CHECK_INT(opened(0, ALL), ALL - 2);
    /* One box has all of it, for 120 s; then for 30, after it forgot. */
    wait_us(31 * SECOND);
    CHECK_INT(opened(0, ALL), ALL);
    wait_us(3 * SECOND);
    CHECK_INT(p2p_sim_addr(w.sim, &w.id[0], &back), 0);
    for (uint16_t port = 1; port <= ALL; port++)
        CHECK(comes(2, port, &back));
    wait_us(31 * SECOND);
    CHECK_INT(opened(1, 1), 0);
    CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &w.id[0], 0, P2P_SIM_REBIND_FLUSH), 0);
    CHECK_INT(opened(0, ALL), ALL);
    CHECK_INT(opened(1, 1), 0);
    wait_us(31 * SECOND);
    CHECK_INT(opened(1, 1), 1);
    p2p_sim_close(w.sim);
}
TEST(blocked_lan_talks_within) {
    p2p_addr inside, out;
    p2p_id r;
    begin(3);
    r = lan("r", kind(P2P_SIM_NAT_BLOCKED));
    join(0, &r);
    join(1, &r);
    inside = own(1, 7);
    out = own(2, 7);
    CHECK(comes(0, 4000, &inside));
    CHECK(!comes(0, 4000, &out));
    CHECK_INT(fate(P2P_SIM_NAT), 1);
    p2p_sim_close(w.sim);
}
/* Two hosts with addresses of their own behind one firewall: ways are theirs, not shared. */
TEST(firewall_router_translates_nothing) {
    p2p_addr a, b, seen, inside;
    p2p_id r;
    begin(3);
    r = lan("r", kind(P2P_SIM_NAT_FIREWALL));
    join(0, &r);
    join(1, &r);
    a = own(0, 4000);
    b = own(1, 4000);
    CHECK(!comes(2, 7, &a));
    seen = seen_by(2, 0, 4000, 7);
    CHECK(same(&seen, &a));
    CHECK(comes(2, 7, &a));
    CHECK(!comes(2, 7, &b));
    CHECK_INT(fate(P2P_SIM_NAT), 2);
    inside = seen_by(1, 0, 4000, 4000);
    CHECK(same(&inside, &a));
    CHECK_INT(p2p_sim_addr(w.sim, &w.id[1], &seen), 0);
    CHECK(same(&seen, &b));
    p2p_sim_close(w.sim);
}

/* ---- hairpin, stacks, overlapping LANs ---- */

TEST(hairpin_goes_back_in_with_the_outer_source) {
    for (uint8_t hairpin = 0; hairpin < 2; hairpin++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr out, from;
        p2p_id r;
        d.hairpin = hairpin;
        begin(3);
        r = lan("r", d);
        join(0, &r);
        join(1, &r);
        out = seen_by(2, 0, 4000, 7);
        from = seen_by(2, 1, 5000, 7);
        CHECK_INT(comes(1, 5000, &out), hairpin);
        if (hairpin) {
            CHECK_INT(w.got[w.count - 1].host, 0);
            CHECK(same(&w.got[w.count - 1].from, &from));
        }
        CHECK_INT(comes(0, 5000, &out), hairpin); /* to itself, as a prober does */
        p2p_sim_close(w.sim);
    }
}
TEST(own_box_hairpins_to_its_own_node) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_addr out;
    d.hairpin = 1;
    begin(2);
    box(&w.id[0], d);
    out = seen_by(1, 0, 4000, 7);
    CHECK(comes(0, 5000, &out));
    CHECK_INT(w.got[w.count - 1].port, 4000);
    CHECK_INT(w.got[w.count - 1].from.port, 5000);
    CHECK_BYTES(w.got[w.count - 1].from.ip, out.ip, 4);
    p2p_sim_close(w.sim);
}
/* Host 0 behind a home router behind a carrier's; then the same by levels before the host. */
TEST(boxes_stack) {
    for (int levels = 0; levels < 2; levels++) {
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_addr seen, addr;
        p2p_id carrier, home;
        begin(3);
        if (levels) {
            box(&w.id[0], d);
            d.level = 1;
            box(&w.id[0], d);
        } else {
            carrier = lan("carrier", d);
            home = lan("home", d);
            CHECK_INT(p2p_sim_connect(w.sim, &home, &carrier, NULL), 0);
            CHECK_INT(p2p_sim_behind(w.sim, &home, &carrier), 0);
            join(0, &home);
        }
        CHECK_INT(p2p_sim_addr(w.sim, &w.id[0], &addr), 0);
        CHECK_INT(addr.ip[0], 11);
        CHECK_INT(addr.port, 4000);
        seen = seen_by(1, 0, 4000, 7);
        CHECK(same(&seen, &addr));
        CHECK(comes(1, 7, &seen));
        CHECK(!comes(2, 7, &seen));
        /* The carrier forgets: it has another port then, though the home router kept its own. */
        CHECK_INT(p2p_sim_nat_rebind_to(w.sim, levels ? &w.id[0] : &carrier, levels ? 1 : 0,
                                        P2P_SIM_REBIND_PORT),
                  0);
        CHECK(!comes(1, 7, &seen));
        addr = seen_by(1, 0, 4000, 7);
        CHECK(addr.family == 4 && addr.port != seen.port);
        CHECK_BYTES(addr.ip, seen.ip, 4);
        CHECK(comes(1, 7, &addr));
        p2p_sim_close(w.sim);
    }
}
/* Two customers of a carrier reach each other by a hairpin of the carrier's box alone. */
TEST(carrier_hairpins_between_homes) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_FULL);
    p2p_addr a, b;
    p2p_id carrier;
    d.hairpin = 1;
    begin(3);
    carrier = lan("carrier", d);
    for (uint32_t i = 0; i < 2; i++) {
        box(&w.id[i], kind(P2P_SIM_NAT_FULL));
        join(i, &carrier);
    }
    a = seen_by(2, 0, 4000, 7);
    b = seen_by(2, 1, 4000, 7);
    CHECK(comes(0, 4000, &b));
    CHECK_INT(w.got[w.count - 1].host, 1);
    CHECK(same(&w.got[w.count - 1].from, &a));
    p2p_sim_close(w.sim);
}
/* Two LANs with the same addresses, one of them with a LAN of the same addresses within it. */
TEST(overlapping_lans_keep_apart) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_addr a, b, c, seen;
    p2p_id left, right, inner;
    d.overlap = 1;
    begin(6);
    left = lan("left", d);
    right = lan("right", d);
    inner = lan("inner", d);
    join(0, &left);
    join(1, &left);
    CHECK_INT(p2p_sim_connect(w.sim, &inner, &right, NULL), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &inner, &right), 0); /* takes two: itself and its box */
    join(2, &right);
    join(3, &inner);
    a = own(0, 7);
    b = own(1, 7);
    CHECK_BYTES(a.ip, "\xc0\xa8\x01\x02", 4);
    CHECK_BYTES(b.ip, "\xc0\xa8\x01\x03", 4);
    c = own(2, 7);
    CHECK_BYTES(c.ip, "\xc0\xa8\x01\x04", 4);
    c = own(3, 7);
    CHECK_BYTES(c.ip, "\xc0\xa8\x01\x02", 4);
    CHECK(comes(1, 7, &a)); /* a neighbour */
    CHECK_INT(w.got[w.count - 1].host, 0);
    CHECK(same(&w.got[w.count - 1].from, &b));
    c.ip[3] = 9;
    CHECK(!comes(1, 7, &c)); /* nobody here, nobody outside */
    CHECK(!comes(4, 7, &a)); /* from the public network it leads nowhere */
    CHECK_INT(fate(P2P_SIM_NOBODY), 2);
    b = own(4, 7);
    CHECK(comes(3, 7, &b)); /* through two boxes of overlapping LANs */
    seen = w.got[w.count - 1].from;
    CHECK_INT(seen.ip[0], 11);
    CHECK(comes(4, 7, &seen));
    CHECK_INT(w.got[w.count - 1].host, 3);
    /* 2 knows 0's private address, 192.168.1.2, and meets another: none but the inner router. */
    CHECK(!comes(2, 7, &a));
    p2p_sim_close(w.sim);
}
/* Eleven LANs alike, and so few flows that they share chains: each has its own mapping. */
TEST(lans_alike_share_no_mappings) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_addr seen[HOSTS];
    char name[4] = "lan";
    memset(&w.net, 0, sizeof w.net);
    w.net.flows = 16;
    open_world(HOSTS);
    d.overlap = 1;
    d.ports = P2P_SIM_NAT_PORTS_RANDOM;
    for (uint32_t i = 1; i < HOSTS; i++) {
        p2p_id r;
        name[0] = (char)('a' + i);
        r = lan(name, d);
        join(i, &r);
        seen[i] = seen_by(0, i, 4000, 7);
        CHECK_INT(seen[i].family, 4);
        for (uint32_t k = 1; k < i; k++)
            CHECK(seen[k].port != seen[i].port);
    }
    for (uint32_t i = 1; i < HOSTS; i++) {
        p2p_addr to;
        CHECK(comes(0, 7, &seen[i]));
        CHECK_INT(w.got[w.count - 1].host, i);
        for (uint32_t k = 1; k < HOSTS; k++) { /* another's port is nothing here */
            to = seen[i];
            to.port = seen[k].port;
            CHECK_INT(comes(0, 7, &to), k == i);
        }
    }
    p2p_sim_close(w.sim);
}
/* Addresses within a LAN mean nothing outside, though no one else has them. */
TEST(inner_addresses_stay_inside) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_FULL);
    p2p_addr inside, between;
    p2p_id carrier, home;
    begin(3);
    carrier = lan("carrier", d);
    home = lan("home", d);
    CHECK_INT(p2p_sim_behind(w.sim, &home, &carrier), 0);
    join(0, &home);
    join(1, &carrier);
    inside = own(0, 4000);
    between = seen_by(1, 0, 4000, 7); /* from one LAN further out: the home router's 100.64 */
    CHECK_BYTES(between.ip, "\x64\x40", 2);
    CHECK(comes(1, 7, &between));
    CHECK(!comes(2, 7, &between));
    CHECK(!comes(2, 7, &inside));
    CHECK(!comes(1, 7, &inside));
    CHECK_INT(fate(P2P_SIM_NOBODY), 3);
    p2p_sim_close(w.sim);
}
/* It left the LAN: what its box still lets in for it finds nobody, and does not go out again. */
TEST(who_left_a_lan_is_not_found_there) {
    p2p_addr back, other;
    p2p_id r;
    begin(3);
    r = lan("r", kind(P2P_SIM_NAT_FULL));
    join(0, &r);
    join(1, &r);
    back = seen_by(2, 0, 4000, 7);
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], NULL), 0);
    CHECK(!comes(2, 7, &back));
    CHECK_INT(fate(P2P_SIM_NOBODY), 1);
    other = own(0, 4000);
    CHECK(comes(1, 4000, &other)); /* it is outside now */
    CHECK_INT(w.got[w.count - 1].from.ip[0], 11);
    p2p_sim_close(w.sim);
}
/* The box is taken away while a datagram is on its way to it. */
TEST(datagram_to_a_box_that_is_gone_is_lost) {
    p2p_sim_nat_desc none = kind(P2P_SIM_NAT_NONE);
    p2p_addr to;
    p2p_id r;
    begin(2);
    r = lan("r", kind(P2P_SIM_NAT_FULL));
    join(0, &r);
    CHECK_INT(p2p_sim_latency(w.sim, &w.id[0], &r, 1000), 0);
    to = own(1, 7);
    CHECK(!comes(0, 4000, &to));
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], NULL), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &r, &none), 0);
    wait_us(2000);
    CHECK_INT(w.count, 0);
    CHECK_INT(fate(P2P_SIM_NOBODY), 1);
    p2p_sim_close(w.sim);
}
TEST(moving_between_lans_changes_addresses) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_addr at, seen;
    p2p_id left, right;
    d.overlap = 1;
    begin(3);
    left = lan("left", d);
    right = lan("right", d);
    join(0, &left);
    join(1, &left);
    join(1, &right);
    at = own(1, 7);
    CHECK_BYTES(at.ip, "\xc0\xa8\x01\x02", 4);
    CHECK(!comes(0, 7, &at)); /* that is 0 itself */
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], NULL), 0);
    at = own(0, 7);
    CHECK_INT(at.ip[0], 10);
    seen = seen_by(0, 1, 7, 7);
    CHECK_INT(seen.ip[0], 11);
    CHECK_INT(w.sim->boxes[w.sim->vertices[4].own].members, 0);
    CHECK_INT(w.sim->boxes[w.sim->vertices[5].own].members, 1);
    p2p_sim_close(w.sim);
}

/* ---- rebinding ---- */

TEST(rebinding_forgets_and_changes_what_it_says) {
    for (uint32_t how = P2P_SIM_REBIND_PORT; how <= P2P_SIM_REBIND_ADDR; how++)
        for (int shared = 0; shared < 3; shared++) { /* own box, router, router in an overlap LAN */
            p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
            p2p_addr before, after, told;
            p2p_id r, outer, *at = &w.id[0];
            begin(2);
            if (shared == 0) {
                box(&w.id[0], d);
            } else {
                r = lan("r", d);
                at = &r;
                join(0, &r);
            }
            if (shared == 2) {
                p2p_sim_nat_desc overlap = d;
                overlap.overlap = 1;
                outer = lan("outer", overlap);
                CHECK_INT(p2p_sim_behind(w.sim, &r, &outer), 0);
                join(1, &outer);
            }
            before = seen_by(1, 0, 4000, 7);
            CHECK_INT(before.family, 4);
            CHECK(comes(1, 7, &before));
            CHECK_INT(p2p_sim_nat_rebind_to(w.sim, at, 0, how), 0);
            CHECK(!comes(1, 7, &before));
            CHECK_INT(p2p_sim_addr(w.sim, &w.id[0], &told), 0);
            after = seen_by(1, 0, 4000, 7);
            CHECK_INT(after.family, 4);
            if (shared < 2)
                CHECK(same(&after, &told));
            CHECK_INT(after.port == before.port, how != P2P_SIM_REBIND_PORT);
            CHECK_INT(memcmp(after.ip, before.ip, 4) == 0, how != P2P_SIM_REBIND_ADDR);
            CHECK(comes(1, 7, &after));
            CHECK(!comes(1, 7, &before) || how == P2P_SIM_REBIND_FLUSH);
            CHECK_INT(p2p_sim_nat(w.sim, at, &d), 0); /* as new */
            CHECK_INT(seen_by(1, 0, 4000, 7).port, 4000);
            p2p_sim_close(w.sim);
        }
}
TEST(addresses_of_boxes_come_round_without_clash) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_FULL);
    p2p_addr a, b;
    memset(&w.net, 0, sizeof w.net);
    w.net.boxes = 1000000; /* the most: then each has only 16 addresses */
    w.net.flows = 8;
    w.net.why = &w.why;
    w.net.nodes = 4;
    uint64_t *room = (uint64_t *)malloc(p2p_sim_arena_size(&w.net));
    p2p_id one, two;
    CHECK(room != NULL);
    CHECK_INT(p2p_sim_open(&w.sim, &w.net, room, p2p_sim_arena_size(&w.net)), 0);
    CHECK_INT(p2p_sim_host(w.sim, "one", NULL, &one), 0);
    CHECK_INT(p2p_sim_host(w.sim, "two", NULL, &two), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &one, &d), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &two, &d), 0);
    for (int i = 0; i < 40; i++) {
        CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &one, 0, P2P_SIM_REBIND_ADDR), 0);
        CHECK_INT(p2p_sim_addr(w.sim, &one, &a), 0);
        CHECK_INT(p2p_sim_addr(w.sim, &two, &b), 0);
        CHECK_INT(a.ip[0], 11);
        CHECK(!same(&a, &b));
        CHECK_INT(p2p_sim__who_has(w.sim, P2P_SIM__NOTHING, p2p_sim__addr_ip(&a)),
                  P2P_SIM__BOX | w.sim->vertices[0].own);
    }
    p2p_sim_close(w.sim);
    free(room);
}

/* ---- building and errors ---- */

TEST(wrong_boxes_say_which) {
    static const struct {
        p2p_sim_nat_desc d;
        const char *why;
    } wrong[] = {
        {{7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}}, "nat.kind: not one of P2P_SIM_NAT_*"},
        {{1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, {0}}, "nat.level: at most 7"},
        {{1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, {0}},
         "nat.mapping: not one of p2p_sim_nat_dependence"},
        {{1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, {0}},
         "nat.filtering: not one of p2p_sim_nat_dependence"},
        {{1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, {0}}, "nat.ports: not one of p2p_sim_nat_ports"},
        {{1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}},
         "nat.hairpin, early, outbound_only, overlap: 0 or 1"},
        {{6, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}},
         "nat: a firewall translates nothing; hairpin, early, overlap, mapping, ports: 0"},
        {{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {1}}, "nat.reserved: must be 0"},
        {{1, 0, 0, 0, 0, 200000000, 0, 0, 0, 0, 0, 0, {0}}, "nat.assured_us: less than lone_us"}};
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_id nobody;
    begin(1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], &wrong[i].d), P2P_ERR_CONFIG);
        CHECK_STR(w.why.text, wrong[i].why);
    }
    CHECK_INT(p2p_sim_id(w.sim, "nobody", &nobody), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &nobody, &d), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_nat_rebind(w.sim, &w.id[0]), P2P_ERR_STATE);
    CHECK_STR(w.why.text, "p2p_sim_nat_rebind: no box of this level before ha");
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], &d), 0);
    CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &w.id[0], 1, P2P_SIM_REBIND_PORT), P2P_ERR_STATE);
    CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &w.id[0], 0, 3), P2P_ERR_ARG);
    d.kind = P2P_SIM_NAT_FIREWALL;
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], &d), 0);
    CHECK_INT(p2p_sim_nat_rebind(w.sim, &w.id[0]), 0); /* only forgets */
    CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &w.id[0], 0, P2P_SIM_REBIND_ADDR), P2P_ERR_STATE);
    p2p_sim_close(w.sim);
    w.net.boxes = 1000001;
    CHECK_INT(p2p_sim_open(&w.sim, &w.net, memory, sizeof memory), P2P_ERR_CONFIG);
    CHECK_STR(w.why.text, "p2p_sim_desc.boxes: at most 1000000");
    w.net.boxes = 1;
    w.net.flows = 0x10000000u;
    CHECK_INT(p2p_sim_open(&w.sim, &w.net, memory, sizeof memory), P2P_ERR_CONFIG);
    CHECK_STR(w.why.text, "p2p_sim_desc.flows: at most 268435455");
}
TEST(boxes_run_out_and_come_back) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    memset(&w.net, 0, sizeof w.net);
    w.net.boxes = 2;
    open_world(3);
    box(&w.id[0], d);
    box(&w.id[1], d);
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[2], &d), P2P_ERR_LIMIT);
    CHECK_STR(w.why.text, "p2p_sim_desc.boxes: no more boxes");
    CHECK_INT(w.why.max, 2);
    d.kind = P2P_SIM_NAT_NONE;
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], &d), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[0], &d), 0);
    d.kind = P2P_SIM_NAT_SYM;
    CHECK_INT(p2p_sim_nat(w.sim, &w.id[2], &d), 0);
    p2p_sim_close(w.sim);
}
TEST(who_lies_behind_whom_is_kept_a_forest) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_id a, b, f;
    begin(2);
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], &w.core), P2P_ERR_STATE);
    CHECK_STR(w.why.text, "p2p_sim_behind: not a router with a box: core");
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], &w.id[1]), P2P_ERR_STATE);
    a = lan("a", d);
    b = lan("b", d);
    CHECK_INT(p2p_sim_behind(w.sim, &a, &b), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &b, &a), P2P_ERR_STATE);
    CHECK_STR(w.why.text, "p2p_sim_behind: the router lies behind it: b");
    CHECK_INT(p2p_sim_behind(w.sim, &b, &b), P2P_ERR_STATE);
    join(0, &a);
    d.level = 1; /* who lies behind it would see another address */
    CHECK_INT(p2p_sim_nat(w.sim, &a, &d), P2P_ERR_STATE);
    CHECK_STR(w.why.text, "p2p_sim_nat: boxes first, then who lies behind them: a");
    d.level = 0;
    d.overlap = 1;
    CHECK_INT(p2p_sim_nat(w.sim, &a, &d), P2P_ERR_STATE);
    d = kind(P2P_SIM_NAT_NONE);
    CHECK_INT(p2p_sim_nat(w.sim, &a, &d), P2P_ERR_STATE);
    d = kind(P2P_SIM_NAT_SYM); /* other rules are no other addresses */
    CHECK_INT(p2p_sim_nat(w.sim, &a, &d), 0);
    f = lan("f", kind(P2P_SIM_NAT_FIREWALL));
    join(1, &f);
    CHECK_INT(p2p_sim_behind(w.sim, &f, &a), P2P_ERR_STATE);
    CHECK_STR(w.why.text, "p2p_sim_behind: first the firewall, then who lies behind it: f");
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[1], NULL), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &f, &a), 0);
    p2p_sim_close(w.sim);
}
TEST(a_lan_of_192_168_1_is_full_with_253) {
    static p2p_sim_desc net;
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_id r, id, first;
    p2p_addr at;
    char name[8];
    memset(&net, 0, sizeof net);
    net.nodes = 300;
    net.why = &w.why;
    CHECK_INT(p2p_sim_open(&w.sim, &net, memory, sizeof memory), 0);
    CHECK_INT(p2p_sim_router(w.sim, "r", &r), 0);
    d.overlap = 1;
    CHECK_INT(p2p_sim_nat(w.sim, &r, &d), 0);
    for (int i = 0; i < 253; i++) {
        snprintf(name, sizeof name, "n%d", i);
        CHECK_INT(p2p_sim_host(w.sim, name, NULL, &id), 0);
        CHECK_INT(p2p_sim_behind(w.sim, &id, &r), 0);
        first = i == 0 ? id : first;
    }
    CHECK_INT(p2p_sim_addr_inside(w.sim, &id, &at), 0);
    CHECK_BYTES(at.ip, "\xc0\xa8\x01\xfe", 4);
    CHECK_INT(p2p_sim_host(w.sim, "late", NULL, &id), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &id, &r), P2P_ERR_LIMIT);
    CHECK_STR(w.why.text, "nat.overlap: no more addresses in 192.168.1.0/24");
    CHECK_INT(p2p_sim_behind(w.sim, &first, NULL), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &id, &r), 0);
    CHECK_INT(p2p_sim_addr_inside(w.sim, &id, &at), 0);
    CHECK_BYTES(at.ip, "\xc0\xa8\x01\x02", 4);
    p2p_sim_close(w.sim);
}
/* A node behind a router with overlap learns its address, also after a restart, and dials out. */
TEST(nodes_learn_their_inner_address) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_node *alice, *bob;
    p2p_listener listener;
    p2p_conn conn;
    p2p_event e;
    p2p_id r;
    memset(&net, 0, sizeof net);
    memset(&desc, 0, sizeof desc);
    net.why = &w.why;
    desc.allow_anyone = 1;
    CHECK_INT(p2p_sim_open(&w.sim, &net, memory, sizeof memory), 0);
    CHECK_INT(p2p_sim_node(w.sim, "alice", &desc, &alice), 0);
    CHECK_INT(p2p_sim_node(w.sim, "bob", &desc, &bob), 0);
    w.id[0] = *p2p_node_id(alice);
    w.id[1] = *p2p_node_id(bob);
    CHECK_INT(p2p_sim_router(w.sim, "r", &r), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &w.id[0], &r, NULL), 0);
    CHECK_INT(p2p_sim_connect(w.sim, &r, &w.id[1], NULL), 0);
    d.overlap = 1;
    CHECK_INT(p2p_sim_nat(w.sim, &r, &d), 0);
    CHECK_INT(p2p_sim_behind(w.sim, &w.id[0], &r), 0);
    CHECK_INT(alice->desc.link.local_count, 1);
    CHECK_BYTES(alice->desc.link.local[0].ip, "\xc0\xa8\x01\x02", 4);
    CHECK_INT(p2p_listen(bob, NULL, &listener), 0);
    CHECK_INT(p2p_listen(alice, NULL, &listener), 0);
    CHECK_INT(p2p_connect(bob, &w.id[0], NULL, &conn), 0); /* not from outside */
    CHECK_INT(p2p_sim_await(w.sim, alice, P2P_EVENT_CONNECTED, 5 * SECOND, &e), P2P_ERR_TIMEOUT);
    CHECK_INT(p2p_sim_crash(w.sim, &w.id[0]), 0);
    CHECK_INT(p2p_sim_restart(w.sim, &w.id[0], &alice), 0);
    CHECK_BYTES(alice->desc.link.local[0].ip, "\xc0\xa8\x01\x02", 4);
    CHECK_INT(p2p_connect(alice, &w.id[1], NULL, &conn), 0);
    CHECK_INT(p2p_sim_await(w.sim, alice, P2P_EVENT_CONNECTED, 40 * SECOND, &e), 0);
    p2p_sim_close(w.sim);
}
/* ---- all rules at once, against a model that keeps plain lists and looks through all of them ---- */

enum { MODEL_MAX = 4000 };
static struct model {
    struct {
        uint32_t inner; /* host and port of it */
        p2p_addr key;   /* as much of the remote as the mapping depends on */
        uint16_t outer_port;
        uint64_t end_us;
    } mapping[MODEL_MAX];
    struct {
        uint32_t mapping;
        p2p_addr remote;
        uint64_t since_us, last_us;
        int replied;
    } flow[MODEL_MAX];
    uint32_t mappings, flows;
} model;

static void model_refresh(uint32_t at, const p2p_sim_nat_desc *d) {
    uint64_t lives_us =
        model.flow[at].replied && model.flow[at].last_us - model.flow[at].since_us >= 2 * SECOND
            ? d->assured_us
            : d->lone_us;
    uint64_t *end_us = &model.mapping[model.flow[at].mapping].end_us;
    if (*end_us < model.flow[at].last_us + lives_us)
        *end_us = model.flow[at].last_us + lives_us;
}
static int model_flow_live(uint32_t at, const p2p_sim_nat_desc *d, uint64_t now_us) {
    int assured =
        model.flow[at].replied && model.flow[at].last_us - model.flow[at].since_us >= 2 * SECOND;
    return now_us < model.flow[at].last_us + (assured ? d->assured_us : d->lone_us);
}
/* Outward, and the outer port was this: whether it may have been. */
static int model_out(const p2p_sim_nat_desc *d, uint32_t inner, uint16_t inner_port,
                     const p2p_addr *remote, uint16_t outer_port, uint64_t now_us) {
    p2p_addr key = *remote;
    uint32_t m, f;
    int taken = 0, kept_taken = 0;
    if (d->mapping == P2P_SIM_NAT_ENDPOINT_INDEPENDENT)
        memset(&key, 0, sizeof key);
    if (d->mapping == P2P_SIM_NAT_ADDRESS_DEPENDENT)
        key.port = 0;
    for (m = 0; m < model.mappings; m++) {
        if (model.mapping[m].end_us <= now_us)
            continue;
        if (model.mapping[m].inner == inner && same(&model.mapping[m].key, &key))
            break;
        taken |= model.mapping[m].outer_port == outer_port;
        kept_taken |= model.mapping[m].outer_port == inner_port;
    }
    if (m == model.mappings) {
        if (taken || (!kept_taken && outer_port != inner_port))
            return 0;
        memset(&model.mapping[m], 0, sizeof model.mapping[m]);
        model.mapping[m].inner = inner;
        model.mapping[m].key = key;
        model.mapping[m].outer_port = outer_port;
        model.mappings++;
    }
    for (f = 0; f < model.flows; f++)
        if (model.flow[f].mapping == m && same(&model.flow[f].remote, remote) &&
            model_flow_live(f, d, now_us))
            break;
    if (f == model.flows) {
        memset(&model.flow[f], 0, sizeof model.flow[f]);
        model.flow[f].mapping = m;
        model.flow[f].remote = *remote;
        model.flow[f].since_us = now_us;
        model.flows++;
    }
    model.flow[f].last_us = now_us;
    model_refresh(f, d);
    return model.mapping[m].outer_port == outer_port;
}
/* Inward: the inner endpoint it reaches, or 0. */
static uint32_t model_in(const p2p_sim_nat_desc *d, uint16_t outer_port, const p2p_addr *remote,
                         uint64_t now_us) {
    uint32_t m, f, exact = MODEL_MAX;
    int addr = 0;
    for (m = 0; m < model.mappings; m++)
        if (model.mapping[m].outer_port == outer_port && model.mapping[m].end_us > now_us)
            break;
    if (m == model.mappings)
        return 0;
    for (f = 0; f < model.flows; f++)
        if (model.flow[f].mapping == m && model_flow_live(f, d, now_us)) {
            addr |= memcmp(model.flow[f].remote.ip, remote->ip, 4) == 0;
            exact = same(&model.flow[f].remote, remote) ? f : exact;
        }
    if (exact == MODEL_MAX && d->filtering != P2P_SIM_NAT_ENDPOINT_INDEPENDENT &&
        !(addr && d->filtering == P2P_SIM_NAT_ADDRESS_DEPENDENT))
        return 0;
    if (exact != MODEL_MAX) {
        model.flow[exact].replied = 1;
        if (!d->outbound_only)
            model.flow[exact].last_us = now_us;
        model_refresh(exact, d);
    } else if (!d->outbound_only && model.mapping[m].end_us < now_us + d->lone_us) {
        model.mapping[m].end_us = now_us + d->lone_us;
    }
    return model.mapping[m].inner;
}
/* Hosts 0 and 1 of a LAN, with the same two ports, and 2, 3, 4 outside, with two each. */
static void traffic(const p2p_sim_nat_desc *d, const p2p_id *r, uint64_t state) {
    uint16_t seen[6] = {4000, 4001, 4000, 4001, 4000, 4001};
    uint32_t seen_count = 6;
    p2p_addr outer;
    CHECK_INT(p2p_sim_addr(w.sim, r, &outer), 0);
    for (int step = 0; step < 400; step++) {
        uint64_t now_us = p2p_sim_now(w.sim);
        uint32_t inside = (uint32_t)p2p_sim__below(&state, 2);
        uint32_t outside = 2 + (uint32_t)p2p_sim__below(&state, 3);
        uint16_t port = (uint16_t)(4000 + p2p_sim__below(&state, 2));
        uint16_t remote_port = (uint16_t)(7 + p2p_sim__below(&state, 2));
        p2p_addr remote = own(outside, remote_port);
        if (p2p_sim__below(&state, 2)) {
            const struct got *g = send_to(inside, port, &remote);
            CHECK(g != NULL && g->from.port != 0);
            CHECK_BYTES(g->from.ip, outer.ip, 4);
            CHECK(model_out(d, inside << 16 | port, port, &remote, g->from.port, now_us));
            seen[p2p_sim__below(&state, 6)] = g->from.port;
        } else {
            const struct got *g;
            outer.port = seen[p2p_sim__below(&state, seen_count)];
            g = send_to(outside, remote_port, &outer);
            CHECK_INT(g ? g->host << 16 | g->port : 0, model_in(d, outer.port, &remote, now_us));
        }
        if (p2p_sim__below(&state, 3) == 0)
            wait_us(p2p_sim__below(&state, 20 * SECOND));
    }
}
TEST(boxes_do_as_the_model_does) {
    for (int i = 0; i < test_seeds(40); i++) {
        uint64_t state = test_seed();
        p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
        p2p_id r;
        d.mapping = (uint8_t)(1 + p2p_sim__below(&state, 3));
        d.filtering = (uint8_t)(1 + p2p_sim__below(&state, 3));
        d.outbound_only = (uint8_t)p2p_sim__below(&state, 2);
        d.lone_us = 30 * SECOND;
        d.assured_us = 120 * SECOND;
        memset(&model, 0, sizeof model);
        memset(&w.net, 0, sizeof w.net);
        w.net.flows = 64; /* so that what has ended is used again */
        w.net.seed = state;
        open_world(5);
        r = lan("r", d);
        join(0, &r);
        join(1, &r);
        traffic(&d, &r, state);
        CHECK_SO_FAR();
        p2p_sim_close(w.sim);
    }
}

/* Two nodes of one LAN, with the same port: both dial out, and one the other by its inner address,
 * which discovery does not tell. */
TEST(nodes_of_a_lan_talk_out_and_to_each_other) {
    p2p_sim_nat_desc d = kind(P2P_SIM_NAT_PORT);
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_node *node[3];
    p2p_listener listener;
    p2p_ticket ticket;
    p2p_conn conn;
    p2p_event e;
    p2p_id r;
    memset(&net, 0, sizeof net);
    memset(&desc, 0, sizeof desc);
    memset(&ticket, 0, sizeof ticket);
    net.why = &w.why;
    net.link.latency_us = 5000;
    desc.allow_anyone = 1;
    desc.max.conns = 4;
    desc.bytes.message_send = desc.bytes.message_recv = 4096;
    d.overlap = 1;
    CHECK_INT(p2p_sim_open(&w.sim, &net, memory, sizeof memory), 0);
    CHECK_INT(p2p_sim_router(w.sim, "r", &r), 0);
    CHECK_INT(p2p_sim_nat(w.sim, &r, &d), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(p2p_sim_node(w.sim, i == 0 ? "a" : i == 1 ? "b" : "c", &desc, &node[i]), 0);
        w.id[i] = *p2p_node_id(node[i]);
        CHECK_INT(p2p_listen(node[i], NULL, &listener), 0);
        CHECK_INT(p2p_sim_connect(w.sim, &w.id[i], &r, NULL), 0);
        if (i < 2)
            CHECK_INT(p2p_sim_behind(w.sim, &w.id[i], &r), 0);
    }
    for (int i = 0; i < 2; i++)
        CHECK_INT(p2p_connect(node[i], &w.id[2], NULL, &conn), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(p2p_sim_await(w.sim, node[2], P2P_EVENT_CONNECTED, 5 * SECOND, &e), 0);
    CHECK_INT(p2p_connect(node[0], &w.id[1], NULL, &conn), 0); /* at the outer address */
    do {
        CHECK_INT(p2p_sim_await(w.sim, node[0], P2P_EVENT_NONE, 40 * SECOND, &e), 0);
    } while (e.conn.id != conn.id);
    CHECK_INT(e.err, P2P_ERR_TIMEOUT);
    ticket.id = w.id[1];
    ticket.addr_count = 1;
    CHECK_INT(p2p_sim_addr_inside(w.sim, &w.id[1], &ticket.addrs[0]), 0);
    CHECK_INT(p2p_peer_add(node[0], &ticket), 0);
    CHECK_INT(p2p_connect(node[0], &w.id[1], NULL, &conn), 0);
    do {
        CHECK_INT(p2p_sim_await(w.sim, node[0], P2P_EVENT_NONE, 80 * SECOND, &e), 0);
    } while (e.conn.id != conn.id);
    CHECK_INT(e.type, P2P_EVENT_CONNECTED);
    CHECK(p2p_send(node[0], conn, "hello", 5) >= 0);
    CHECK_INT(p2p_sim_await(w.sim, node[1], P2P_EVENT_MESSAGE, 81 * SECOND, &e), 0);
    p2p_sim_close(w.sim);
}
/* A cut between a host of a LAN and one outside: its neighbour goes on, and so does the LAN. */
TEST(partitions_reach_through_boxes) {
    p2p_addr out, back, inside;
    p2p_id r;
    begin(3);
    r = lan("r", kind(P2P_SIM_NAT_FULL));
    join(0, &r);
    join(1, &r);
    out = own(2, 7);
    back = seen_by(2, 0, 4000, 7);
    inside = own(0, 4000);
    CHECK_INT(p2p_sim_partition(w.sim, &w.id[0], 1, &w.id[2], 1), 0);
    CHECK(!comes(0, 4000, &out));
    CHECK(!comes(2, 7, &back));
    CHECK_INT(fate(P2P_SIM_ROUTE), 2);
    CHECK(comes(1, 4000, &out));
    CHECK(comes(1, 4000, &inside));
    CHECK_INT(p2p_sim_heal(w.sim, NULL, 0, NULL, 0), 0);
    CHECK(comes(2, 7, &back));
    p2p_sim_close(w.sim);
}
/* Traffic of many endpoints through stacked boxes that are rebound: the tables stay whole. */
static void tables_hold(const p2p_sim *s) {
    uint32_t flows = 0, mappings = 0, of_boxes = 0, of_mappings = 0, chained[3] = {0, 0, 0}, at;
    for (at = s->flow_free; at != P2P_SIM__NOTHING; at = s->flows[at].next)
        flows++;
    for (at = s->mapping_free; at != P2P_SIM__NOTHING; at = s->mappings[at].next[0])
        mappings++;
    flows = s->desc.flows - flows;
    mappings = s->desc.flows - mappings;
    for (uint32_t i = 0; i < s->desc.boxes; i++) {
        of_boxes += s->boxes[i].flow_count;
        mappings -= s->boxes[i].mapping_count;
    }
    CHECK_INT(of_boxes, flows);
    CHECK_INT(mappings, 0);
    for (uint32_t slot = 0; slot <= s->mapping_mask; slot++)
        for (at = s->mapping_table[slot]; at != P2P_SIM__NOTHING;
             at = s->mappings[at].next[slot % 2]) {
            const p2p_sim__mapping *m = &s->mappings[at];
            CHECK(p2p_sim__mapping_chain(s, m, slot % 2) == &s->mapping_table[slot]);
            chained[slot % 2]++;
            of_mappings += slot % 2 ? m->flow_count : 0;
        }
    for (uint32_t slot = 0; slot <= s->flow_mask; slot++)
        for (at = s->flow_table[slot]; at != P2P_SIM__NOTHING; at = s->flows[at].next) {
            const p2p_sim__flow *f = &s->flows[at];
            CHECK(p2p_sim__flow_chain(s, f->mapping, f->remote, f->remote_port) ==
                  &s->flow_table[slot]);
            CHECK(p2p_sim__flow_end(s, f) <= s->mappings[f->mapping].end_us);
            chained[2]++;
        }
    CHECK_INT(chained[0], chained[1]);
    CHECK_INT(chained[2], flows);
    CHECK_INT(of_mappings, flows);
}
TEST(tables_hold_whatever_comes) {
    uint64_t digests[2];
    for (int i = 0; i < test_seeds(20); i++) {
        uint64_t seed = test_seed();
        for (int twice = 0; twice < 2; twice++) {
            uint64_t state = seed;
            p2p_id r[3];
            memset(&w.net, 0, sizeof w.net);
            w.net.flows = 24;
            w.net.seed = seed;
            open_world(8);
            for (int k = 0; k < 3; k++) {
                p2p_sim_nat_desc d = kind((uint8_t)(1 + p2p_sim__below(&state, 4)));
                char name[2] = {(char)('r' + k), 0};
                d.early = (uint8_t)p2p_sim__below(&state, 2);
                d.hairpin = (uint8_t)p2p_sim__below(&state, 2);
                d.overlap = (uint8_t)p2p_sim__below(&state, 2);
                d.table_max = (uint32_t)p2p_sim__below(&state, 12);
                d.lone_us = 1 + p2p_sim__below(&state, 3000);
                r[k] = lan(name, d);
            }
            CHECK_INT(p2p_sim_behind(w.sim, &r[1], &r[0]), 0);
            for (uint32_t k = 0; k < 6; k++)
                join(k, &r[k % 3]);
            for (int step = 0; step < 600; step++) {
                uint32_t from = (uint32_t)p2p_sim__below(&state, 8);
                p2p_addr to = own((uint32_t)p2p_sim__below(&state, 8), 4000);
                if (w.count != 0 && p2p_sim__below(&state, 2)) /* an answer, maybe from elsewhere */
                    to = w.got[p2p_sim__below(&state, w.count < GOT_MAX ? w.count : GOT_MAX)].from;
                to.port = (uint16_t)(to.port + (p2p_sim__below(&state, 5) == 0));
                (void)send_to(from, (uint16_t)(4000 + p2p_sim__below(&state, 3)), &to);
                wait_us(p2p_sim__below(&state, 100));
                if (p2p_sim__below(&state, 50) == 0)
                    CHECK_INT(p2p_sim_nat_rebind_to(w.sim, &r[p2p_sim__below(&state, 3)], 0,
                                                    (uint32_t)p2p_sim__below(&state, 3)),
                              0);
                tables_hold(w.sim);
                CHECK_SO_FAR();
            }
            CHECK(w.count > 50);
            digests[twice] = p2p_sim_digest(w.sim);
            CHECK_INT(fate(P2P_SIM_SENT), fate(P2P_SIM_DELIVERED) + fate(P2P_SIM_NAT) +
                                              fate(P2P_SIM_NOBODY) + fate(P2P_SIM_ROUTE));
            p2p_sim_close(w.sim);
        }
        CHECK(digests[0] == digests[1]);
    }
}

TEST_MAIN(
    P2P_TEST_ENTRY(hosts_have_ports_and_timers), P2P_TEST_ENTRY(hosts_crash_and_come_back),
    P2P_TEST_ENTRY(hosts_stand_still_while_paused), P2P_TEST_ENTRY(hosts_may_send_while_they_read),
    P2P_TEST_ENTRY(wrong_calls_of_hosts_say_which),
    P2P_TEST_ENTRY(boxes_let_in_whom_their_kind_says),
    P2P_TEST_ENTRY(mappings_depend_on_what_they_say),
    P2P_TEST_ENTRY(filters_depend_on_what_they_say),
    P2P_TEST_ENTRY(second_one_with_a_port_gets_another), P2P_TEST_ENTRY(ports_run_out),
    P2P_TEST_ENTRY(lone_flows_live_30_s_and_answered_ones_120),
    P2P_TEST_ENTRY(inbound_refreshes_unless_it_may_not),
    P2P_TEST_ENTRY(inbound_refreshes_its_own_flow), P2P_TEST_ENTRY(strangers_refresh_the_mapping),
    P2P_TEST_ENTRY(early_datagram_takes_the_port_towards_its_sender),
    P2P_TEST_ENTRY(early_datagrams_are_forgotten_after_a_pause),
    P2P_TEST_ENTRY(full_table_takes_no_more_until_one_ends),
    P2P_TEST_ENTRY(full_table_has_room_as_soon_as_one_ends),
    P2P_TEST_ENTRY(ended_flows_do_not_pile_up), P2P_TEST_ENTRY(memory_for_flows_is_shared),
    P2P_TEST_ENTRY(blocked_lan_talks_within), P2P_TEST_ENTRY(firewall_router_translates_nothing),
    P2P_TEST_ENTRY(hairpin_goes_back_in_with_the_outer_source),
    P2P_TEST_ENTRY(own_box_hairpins_to_its_own_node), P2P_TEST_ENTRY(boxes_stack),
    P2P_TEST_ENTRY(carrier_hairpins_between_homes), P2P_TEST_ENTRY(overlapping_lans_keep_apart),
    P2P_TEST_ENTRY(lans_alike_share_no_mappings), P2P_TEST_ENTRY(inner_addresses_stay_inside),
    P2P_TEST_ENTRY(who_left_a_lan_is_not_found_there),
    P2P_TEST_ENTRY(datagram_to_a_box_that_is_gone_is_lost),
    P2P_TEST_ENTRY(moving_between_lans_changes_addresses),
    P2P_TEST_ENTRY(rebinding_forgets_and_changes_what_it_says),
    P2P_TEST_ENTRY(addresses_of_boxes_come_round_without_clash),
    P2P_TEST_ENTRY(wrong_boxes_say_which), P2P_TEST_ENTRY(boxes_run_out_and_come_back),
    P2P_TEST_ENTRY(who_lies_behind_whom_is_kept_a_forest),
    P2P_TEST_ENTRY(a_lan_of_192_168_1_is_full_with_253),
    P2P_TEST_ENTRY(nodes_learn_their_inner_address), P2P_TEST_ENTRY(boxes_do_as_the_model_does),
    P2P_TEST_ENTRY(nodes_of_a_lan_talk_out_and_to_each_other),
    P2P_TEST_ENTRY(partitions_reach_through_boxes), P2P_TEST_ENTRY(tables_hold_whatever_comes))
