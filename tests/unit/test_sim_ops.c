/* Anything may happen to a network at any time: random calls of p2p_sim.h's controls while nodes
 * talk, and after each of them the books balance. Every datagram sent is under way, waits for a
 * paused node or has met one fate; every chunk is somewhere; time goes on in few steps; and the same
 * seed gives the same bytes. */
#include "sim_net.h"

enum { NODES = 5, ROUTER = NODES, ALL, OPS = 400 };
#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
static struct {
    p2p_sim *sim;
    p2p_id id[ALL];
    p2p_node *node[NODES];
    p2p_conn conn[NODES];
    uint8_t running[NODES], paused[NODES];
    uint64_t state;
} w;

static uint64_t draw(uint64_t limit) { return p2p_sim__below(&w.state, limit); }

static int node_desc(p2p_desc *nd) {
    memset(nd, 0, sizeof *nd);
    nd->allow_anyone = 1;
    nd->max.conns = 3;
    nd->max.streams = nd->max.peer_streams = 2;
    nd->bytes.message_max = 2000;
    nd->bytes.stream_send = nd->bytes.stream_recv = nd->bytes.peer_send = nd->bytes.peer_recv =
        4096;
    return 0;
}
static int world(void) {
    p2p_sim_desc d;
    p2p_desc nd;
    p2p_listener listener;
    int err;
    memset(&d, 0, sizeof d);
    d.seed = w.state;
    d.routing = (uint32_t)draw(2);
    d.packets = 8 + (uint32_t)draw(200);
    d.receive_bytes = 1000 + (uint32_t)draw(20000);
    d.drops = 3;
    d.partition_ppm = draw(3) == 0 ? 100000 : 0;
    d.oneway_ppm = 500000;
    d.name_fail_ppm = d.name_silent_ppm = 200000;
    d.link.latency_us = draw(30) * MS;
    err = open_sim(&w.sim, &d);
    node_desc(&nd);
    for (int i = 0; i < NODES && err == 0; i++) {
        char name[2] = {(char)('a' + i), 0};
        err = p2p_sim_node(w.sim, name, &nd, &w.node[i]);
        if (err == 0)
            err = p2p_listen(w.node[i], NULL, &listener);
        if (err == 0)
            w.id[i] = *p2p_node_id(w.node[i]);
        w.running[i] = 1;
        w.paused[i] = 0;
    }
    if (err == 0)
        err = p2p_sim_router(w.sim, "r", &w.id[ROUTER]);
    for (int i = 0; i < ALL && err == 0; i++)
        err = p2p_sim_connect(w.sim, &w.id[i], &w.id[(i + 1) % ALL], NULL);
    return err;
}
static void link_draw(p2p_sim_link *l) {
    memset(l, 0, sizeof *l);
    l->latency_us = draw(2) * draw(50) * MS;
    l->jitter_us = draw(2) * draw(20) * MS;
    l->jitter = (uint8_t)draw(3);
    l->loss_ppm = (uint32_t)(draw(2) * draw(300000));
    l->duplicate_ppm = (uint32_t)(draw(2) * draw(300000));
    l->reorder_ppm = (uint32_t)(draw(2) * draw(300000));
    l->corrupt_ppm = (uint32_t)(draw(2) * draw(100000));
    l->down = draw(8) == 0;
    l->mtu = draw(6) == 0 ? 1000 : 0;
    l->rate_bps = draw(2) * (100000 + draw(10000000));
    if (l->rate_bps != 0) {
        l->queue_bytes = (uint32_t)(draw(2) * (2000 + draw(50000)));
        l->codel = (uint8_t)draw(2);
    }
}
/* Some vertices in the one group, some in the other. */
static size_t groups(p2p_id a[ALL], size_t *nb, p2p_id b[ALL]) {
    size_t na = 0;
    *nb = 0;
    for (int i = 0; i < ALL; i++) {
        uint64_t where = draw(3);
        if (where == 0)
            a[na++] = w.id[i];
        else if (where == 1)
            b[(*nb)++] = w.id[i];
    }
    return na;
}
static void cut_draw(void) {
    p2p_id a[ALL], b[ALL];
    size_t nb, na = groups(a, &nb, b);
    uint64_t kind = draw(4);
    if (kind == 0)
        CHECK_INT(p2p_sim_heal(w.sim, NULL, 0, NULL, 0), 0);
    if (kind == 0 || na == 0 || nb == 0)
        return;
    CHECK_INT(kind == 1   ? p2p_sim_partition(w.sim, a, na, b, nb)
              : kind == 2 ? p2p_sim_partition_oneway(w.sim, a, na, b, nb)
                          : p2p_sim_heal(w.sim, a, na, b, nb),
              0);
}
static void life_draw(int i) {
    p2p_listener listener;
    if (!w.running[i]) {
        CHECK_INT(p2p_sim_restart(w.sim, &w.id[i], &w.node[i]), 0);
        CHECK_INT(p2p_listen(w.node[i], NULL, &listener), 0);
        w.running[i] = 1;
    } else if (draw(3) == 0) {
        if (draw(4) == 0)
            p2p_node_close(w.node[i]);
        else
            CHECK_INT(p2p_sim_crash(w.sim, &w.id[i]), 0);
        w.running[i] = w.paused[i] = 0;
    } else {
        CHECK_INT(w.paused[i] ? p2p_sim_resume(w.sim, &w.id[i]) : p2p_sim_pause(w.sim, &w.id[i]),
                  0);
        w.paused[i] ^= 1;
    }
}
static void clock_draw(int i) {
    uint64_t shown_us;
    int64_t step_us = (int64_t)draw(20 * SECOND) - (int64_t)(10 * SECOND);
    int32_t drift_ppm = draw(4) == 0 ? -1000000 : (int32_t)draw(2000001) - 1000000;
    CHECK_INT(p2p_sim_node_now(w.sim, &w.id[i], &shown_us), 0);
    if (step_us < 0 && shown_us < (uint64_t)-step_us)
        step_us = 0;
    CHECK_INT(p2p_sim_clock(w.sim, &w.id[i], drift_ppm, step_us), 0);
}
static void use_draw(int i) {
    static const uint8_t bytes[1500] = {7};
    p2p_event e;
    uint32_t query;
    if (!w.running[i])
        return;
    for (int n = 0; n < 50 && p2p_next_event(w.node[i], &e) == 1; n++) {}
    switch (draw(5)) {
    case 0: (void)p2p_connect(w.node[i], &w.id[draw(NODES)], NULL, &w.conn[i]); break;
    case 1:
        (void)p2p_register(w.node[i], draw(2) ? "odd" : "even");
        (void)p2p_discover(w.node[i], draw(2) ? "odd" : "even", &query);
        break;
    case 2: (void)p2p_datagram_send(w.node[i], w.conn[i], bytes, 1 + draw(1000)); break;
    default: (void)p2p_send(w.node[i], w.conn[i], bytes, 1 + draw(sizeof bytes));
    }
}
static void nat_draw(int i) {
    p2p_sim_nat_desc nat;
    memset(&nat, 0, sizeof nat);
    nat.kind = (uint8_t)(draw(2) * draw(P2P_SIM_NAT_FIREWALL + 1));
    if (draw(3) == 0)
        (void)p2p_sim_nat_rebind(w.sim, &w.id[i]);
    else
        CHECK_INT(p2p_sim_nat(w.sim, &w.id[i], &nat), 0);
}
static void operate(void) {
    int i = (int)draw(NODES), k = (int)draw(ALL);
    p2p_sim_link link;
    switch (draw(20)) {
    case 0:
        link_draw(&link);
        CHECK_INT(p2p_sim_link_set(w.sim, &w.id[k], &w.id[(k + 1) % ALL], &link), 0);
        break;
    case 1:
        link_draw(&link);
        if (i != k)
            CHECK_INT(p2p_sim_connect_oneway(w.sim, &w.id[i], &w.id[k], &link), 0);
        break;
    case 2: cut_draw(); break;
    case 3: life_draw(i); break;
    case 4: clock_draw(i); break;
    case 5: (void)p2p_sim_drop(w.sim, &w.id[k], &w.id[(k + 1) % ALL], 1 + draw(5), draw(4)); break;
    case 6:
        if (w.running[i])
            for (uint32_t n = (uint32_t)draw(60); n != 0; n--)
                put(w.sim, &w.id[i], &w.id[draw(NODES)], n, 2 + draw(3000));
        break;
    case 7: nat_draw(i); break;
    default: use_draw(i);
    }
}
/* Chunks of a chain. */
static uint32_t chain_length(uint32_t chain) {
    uint32_t n = 0;
    for (; chain != P2P_SIM__NOTHING; chain = w.sim->chunks[chain].tail.next)
        n++;
    return n;
}
static void books_balance(void) {
    p2p_sim *s = w.sim;
    p2p_sim_stats st;
    uint64_t under_way = 0;
    uint32_t chunks = chunks_free(s), held, at;
    p2p_sim_stats_get(s, &st);
    for (uint32_t i = 0; i < 65; i++)
        for (at = s->lists[i].first; at != P2P_SIM__NOTHING; at = s->events[at].next)
            if (s->events[at].kind == P2P_SIM__EV_DATAGRAM) {
                chunks += chain_length(at);
                under_way++;
            }
    for (uint32_t i = 0; i < s->vertex_count; i++) {
        p2p_sim__vertex *v = &s->vertices[i];
        uint32_t bytes = 0;
        for (held = v->first_held; held != P2P_SIM__NOTHING; held = s->chunks[held].head.hop) {
            bytes += s->chunks[held].head.size;
            chunks += chain_length(held);
            under_way++;
        }
        CHECK_INT(bytes, v->held_bytes);
        CHECK(v->paused || bytes == 0);
        CHECK(v->paused != P2P_SIM__PAUSED || v->wake_us == P2P_NEVER);
        for (at = v->first_query; at != P2P_SIM__NOTHING; at = s->chunks[at].query.next)
            chunks++;
    }
    CHECK_INT(chunks, s->chunk_max);
    CHECK_INT(st.sent + st.duplicated, st.delivered + st.lost + st.queue + st.mtu + st.route +
                                           st.nat + st.nobody + st.full + st.buffer + under_way);
}
/* The digest of a run; 0 when something was wrong. */
static uint64_t run(uint64_t seed) {
    uint64_t digest = 0, until_us;
    w.state = seed;
    if (world() < 0)
        return 0;
    for (int op = 0; op < OPS && !test_state.failed; op++) {
        uint32_t steps = 0;
        operate();
        until_us = p2p_sim_now(w.sim) + draw(200 * MS);
        while (p2p_sim_now(w.sim) < until_us && p2p_sim_step(w.sim) != P2P_NEVER)
            if (++steps > 20000) {
                test_fail(__FILE__, __LINE__);
                printf("    20000 steps and no 200 ms\n");
                break;
            }
        if (p2p_sim_now(w.sim) < until_us)
            (void)p2p_sim_run_until(w.sim, until_us);
        for (int i = 0; i < NODES; i++)
            if (w.running[i] && p2p_check(w.node[i]) != 0)
                test_fail(__FILE__, __LINE__);
        if (!test_state.failed)
            books_balance();
    }
    if (!test_state.failed)
        digest = p2p_sim_digest(w.sim);
    p2p_sim_close(w.sim);
    return digest;
}
TEST(books_balance_whatever_happens) {
    for (int s = 0; s < test_seeds(40); s++) {
        uint64_t seed = test_seed(), first = run(seed);
        CHECK_SO_FAR();
        CHECK(first != 0);
        if (s % 8 == 0)
            CHECK(run(seed) == first);
    }
}
TEST_MAIN(P2P_TEST_ENTRY(books_balance_whatever_happens))
