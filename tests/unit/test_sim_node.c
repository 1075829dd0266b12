/* Nodes of p2p_sim.h: paused and resumed, with clocks of their own, names that fail, runs until
 * nothing is to be done, and errors that say what is wrong. */
#include "sim_net.h"

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)

/* Two nodes that talk to anyone, over links of 10 ms. */
static p2p_node *node[2];
static int open_talkers(p2p_sim **sim, p2p_sim_desc *d, p2p_id id[2]) {
    p2p_desc nd;
    p2p_listener listener;
    int err;
    memset(&nd, 0, sizeof nd);
    nd.allow_anyone = 1;
    nd.max.conns = 2;
    nd.bytes.message_max = 65536;
    d->link.latency_us = 10 * MS;
    err = open_sim(sim, d);
    for (int i = 0; i < 2 && err == 0; i++) {
        err = p2p_sim_node(*sim, i ? "bob" : "alice", &nd, &node[i]);
        if (err == 0)
            id[i] = *p2p_node_id(node[i]);
    }
    if (err == 0)
        err = p2p_sim_connect(*sim, &id[0], &id[1], NULL);
    return err < 0 ? err : p2p_listen(node[1], NULL, &listener);
}
static int connect_them(p2p_sim *sim, const p2p_id *to, p2p_conn *conn) {
    int err = p2p_connect(node[0], to, NULL, conn);
    return err < 0 ? err
                   : p2p_sim_await(sim, node[0], P2P_EVENT_CONNECTED, p2p_sim_now(sim) + 5 * SECOND,
                                   NULL);
}

/* ---- pause ---- */

TEST(paused_nodes_take_all_in_order_later) {
    p2p_sim *sim;
    p2p_id id[2];
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_pause(sim, &id[1]), 0);
    for (uint32_t i = 0; i < 20; i++) {
        put(sim, &id[0], &id[1], i, 100 + 40 * i);
        CHECK_INT(p2p_sim_run_until(sim, (i + 1) * 10), 0);
    }
    CHECK_INT(seen.count, 0);
    put(sim, &id[0], &id[1], 20, 100); /* on its way when the node goes on: behind the others */
    CHECK_INT(p2p_sim_resume(sim, &id[1]), 0);
    CHECK_INT(seen.count, 0); /* in its own turn */
    CHECK_INT(p2p_sim_run_until(sim, 300), 0);
    CHECK_INT(seen.count, 21);
    for (uint32_t i = 0; i <= 20; i++) {
        CHECK_INT(seen.fate[i], P2P_SIM_DELIVERED);
        CHECK_INT(seen.number[i], i);
        CHECK_INT(seen.time_us[i], 200);
    }
    CHECK_INT(seen.wrong_bytes, 0);
    CHECK_INT(chunks_free(sim), sim->chunk_max);
    CHECK_INT(sim->vertices[1].held_bytes, 0);
    p2p_sim_close(sim);
}
TEST(a_paused_node_s_buffer_is_bounded) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_stats stats;
    memset(&d, 0, sizeof d);
    d.receive_bytes = 1000;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    CHECK_INT(p2p_sim_pause(sim, &id[1]), 0);
    for (uint32_t i = 0; i < 5; i++)
        put(sim, &id[0], &id[1], i, 300);
    put(sim, &id[0], &id[1], 5, 100); /* this one still fits */
    CHECK_INT(p2p_sim_run_until(sim, 10), 0);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.buffer, 2);
    CHECK_INT(stats.delivered, 0);
    CHECK_INT(p2p_sim_resume(sim, &id[1]), 0);
    put(sim, &id[0], &id[1], 6, 600);
    CHECK_INT(p2p_sim_run_until(sim, 20), 0);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.delivered, 5);
    CHECK_INT(stats.buffer, 2);
    CHECK_INT(stats.sent, stats.delivered + stats.buffer);
    p2p_sim_close(sim);
}
static uint32_t alices;
static void count_alices(void *ctx, const p2p_sim_trace_item *item) {
    (void)ctx;
    alices += item->fate == P2P_SIM_SENT && p2p_id_equal(item->from, p2p_node_id(node[0]));
}
/* It stays silent, however long; a dial to it is answered when it goes on. */
TEST(paused_nodes_neither_answer_nor_send) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_conn conn;
    p2p_event e;
    memset(&d, 0, sizeof d);
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_sim_pause(sim, &id[1]), 0);
    CHECK_INT(p2p_connect(node[0], &id[1], NULL, &conn), 0);
    CHECK_INT(p2p_sim_await(sim, node[0], P2P_EVENT_CONNECTED, 2 * SECOND, &e), P2P_ERR_TIMEOUT);
    for (uint32_t i = 0; i < seen.count; i++)
        CHECK(seen.fate[i] != P2P_SIM_DELIVERED);
    CHECK_INT(p2p_now(node[1]), 0); /* nobody polled it */
    CHECK_INT(p2p_sim_resume(sim, &id[1]), 0);
    CHECK_INT(p2p_sim_await(sim, node[0], P2P_EVENT_CONNECTED, 4 * SECOND, &e), 0);
    CHECK_INT(p2p_sim_pause(sim, &id[0]), 0);
    p2p_sim_trace(sim, count_alices, NULL);
    alices = 0;
    CHECK_INT(p2p_send(node[0], conn, "hello", 5), 5);
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + SECOND), 0);
    CHECK_INT(alices, 0);
    CHECK_INT(p2p_sim_await(sim, node[0], 0, p2p_sim_now(sim) + SECOND, NULL), P2P_ERR_TIMEOUT);
    CHECK_STR(why.text, "p2p_sim_await: no such event in time, paused: alice");
    CHECK_INT(p2p_sim_resume(sim, &id[0]), 0);
    CHECK_INT(p2p_sim_await(sim, node[1], P2P_EVENT_MESSAGE, p2p_sim_now(sim) + SECOND, &e), 0);
    CHECK(alices > 0);
    p2p_sim_close(sim);
}
TEST(what_waits_for_a_paused_node_reaches_nobody_when_it_ends) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_node *again;
    for (int how = 0; how < 2; how++) {
        CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
        again = sim->vertices[1].node;
        CHECK_INT(p2p_sim_pause(sim, &id[1]), 0);
        put(sim, &id[0], &id[1], 1, 700);
        put(sim, &id[0], &id[1], 2, 70);
        CHECK_INT(p2p_sim_run_until(sim, 10), 0);
        CHECK_INT(seen.count, 0);
        if (how == 0)
            CHECK_INT(p2p_sim_crash(sim, &id[1]), 0);
        else
            p2p_node_close(again);
        CHECK_INT(p2p_sim_run_until(sim, 20), 0);
        CHECK_INT(count(P2P_SIM_NOBODY), 2);
        CHECK_INT(chunks_free(sim), sim->chunk_max);
        CHECK_INT(p2p_sim_resume(sim, &id[1]), P2P_ERR_STATE);
        CHECK_STR(why.text, "p2p_sim_resume: has crashed: b");
        CHECK_INT(p2p_sim_pause(sim, &id[1]), P2P_ERR_STATE);
        CHECK_STR(why.text, "p2p_sim_pause: has crashed: b");
        CHECK_INT(p2p_sim_restart(sim, &id[1], &again), 0);
        put(sim, &id[0], &id[1], 3, 70); /* it goes again, and is not paused */
        CHECK_INT(p2p_sim_run_until(sim, 30), 0);
        CHECK_INT(count(P2P_SIM_DELIVERED), 1);
        p2p_sim_close(sim);
    }
}
/* A paused node still forwards, and its box keeps its ways. */
TEST(paused_nodes_forward) {
    p2p_sim *sim;
    p2p_id id[2], middle;
    CHECK_INT(open_sim(&sim, NULL), 0);
    CHECK_INT(small_node(sim, "a", &id[0]), 0);
    CHECK_INT(small_node(sim, "b", &id[1]), 0);
    CHECK_INT(small_node(sim, "m", &middle), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &middle, NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &middle, &id[1], NULL), 0);
    CHECK_INT(p2p_sim_pause(sim, &middle), 0);
    put(sim, &id[0], &id[1], 1, 60);
    put(sim, &id[0], &middle, 2, 60);
    CHECK_INT(p2p_sim_run_until(sim, 10), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 1);
    CHECK_INT(seen.number[0], 1);
    p2p_sim_close(sim);
}
/* Calls of on_event and of handlers: the node's turn ends there and then. */
static struct {
    int events, at_pause;
    uint64_t at_us;
    p2p_sim_stats stats;
} own;
static void pause_at_first(void *ctx, p2p_sim *sim, p2p_node *n, const p2p_event *e) {
    (void)ctx;
    if (e->type != P2P_EVENT_CONNECTED || n != node[1])
        return;
    own.events++;
    own.at_pause = p2p_sim_pause(sim, p2p_node_id(n));
    p2p_sim_stats_get(sim, &own.stats);
}
static uint64_t sent_by(const p2p_sim *sim) {
    p2p_sim_stats stats;
    p2p_sim_stats_get(sim, &stats);
    return stats.sent;
}
TEST(nodes_pause_in_their_own_turn) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_conn conn;
    memset(&d, 0, sizeof d);
    memset(&own, 0, sizeof own);
    d.on_event = pause_at_first;
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_connect(node[0], &id[1], NULL, &conn), 0);
    while (own.events == 0 && p2p_sim_now(sim) < SECOND)
        (void)p2p_sim_step(sim);
    CHECK_INT(own.events, 1);
    CHECK_INT(own.at_pause, 0);
    CHECK_INT(sent_by(sim), own.stats.sent); /* what it had to say waits too */
    CHECK_INT(p2p_sim_pause(sim, &id[1]), P2P_ERR_STATE);
    CHECK_STR(why.text, "p2p_sim_pause: is paused already: bob");
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 100 * MS), 0);
    CHECK_INT(p2p_sim_resume(sim, &id[1]), 0);
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 100 * MS), 0);
    CHECK(sent_by(sim) > own.stats.sent);
    p2p_sim_close(sim);
}
TEST(answers_wait_for_a_paused_node) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    uint32_t query, again;
    p2p_event e;
    memset(&d, 0, sizeof d);
    d.discovery_us = 50 * MS;
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_sim_register(sim, "bob's", &id[1]), 0);
    CHECK_INT(p2p_discover(node[0], "bob's", &query), 0);
    CHECK_INT(p2p_discover(node[0], "nobody's", &again), 0);
    CHECK_INT(p2p_sim_run_until(sim, 10 * MS), 0);
    CHECK_INT(p2p_sim_pause(sim, &id[0]), 0);
    CHECK_INT(p2p_sim_run_until(sim, 300 * MS), 0);
    CHECK_INT(sim->event_count, 0);
    CHECK_INT(p2p_next_event(node[0], &e), 0);
    CHECK_INT(p2p_sim_resume(sim, &id[0]), 0);
    CHECK_INT(p2p_sim_await(sim, node[0], P2P_EVENT_FOUND, 301 * MS, &e), 0);
    CHECK(e.query == query || e.query == again);
    CHECK_INT(e.err, e.query == query ? 0 : P2P_ERR_NOT_FOUND);
    query ^= again ^ e.query; /* the other one */
    CHECK_INT(p2p_sim_await(sim, node[0], P2P_EVENT_FOUND, 301 * MS, &e), 0);
    CHECK_INT(p2p_discover(node[0], "bob's", &query), 0);
    CHECK_INT(p2p_sim_run_until(sim, 310 * MS), 0);
    CHECK_INT(p2p_sim_pause(sim, &id[0]), 0);
    CHECK_INT(p2p_sim_run_until(sim, 400 * MS), 0);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), 0); /* and the question is nobody's */
    CHECK_INT(chunks_free(sim), sim->chunk_max);
    p2p_sim_close(sim);
}

/* ---- clocks ---- */

/* The time at which the clock shows so much is the first one at which it does. */
TEST(clocks_translate_both_ways) {
    for (int s = 0; s < test_seeds(20); s++) {
        uint64_t state = test_seed();
        for (int i = 0; i < 1000; i++) {
            p2p_sim__clock c;
            uint64_t wanted, at;
            c.at_us = p2p_sim__below(&state, (uint64_t)1 << (1 + p2p_sim__below(&state, 52)));
            c.shown_us = p2p_sim__below(&state, (uint64_t)1 << (1 + p2p_sim__below(&state, 52)));
            c.rate_ppm = 1 + (uint32_t)p2p_sim__below(&state, 2000000);
            if (i % 3 == 0)
                c.rate_ppm = 999950 + (uint32_t)p2p_sim__below(&state, 100);
            wanted = c.shown_us + 1 +
                     p2p_sim__below(&state, (uint64_t)1 << (1 + p2p_sim__below(&state, 44)));
            at = p2p_sim__true_us(&c, wanted);
            if (at == P2P_NEVER) {
                CHECK((wanted - c.shown_us) / c.rate_ppm > P2P_SIM__END_US / P2P_SIM__PPM);
                continue;
            }
            CHECK(at > c.at_us);
            CHECK(p2p_sim__skewed_us(&c, at) >= wanted);
            CHECK(p2p_sim__skewed_us(&c, at - 1) < wanted);
        }
    }
}
TEST(clocks_drift_and_jump) {
    p2p_sim *sim;
    p2p_id id[2];
    uint64_t us;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_run_until(sim, 100 * SECOND), 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
    CHECK_INT(us, 100 * SECOND);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 50, 0), 0); /* a quartz: 50 ppm fast */
    CHECK_INT(p2p_sim_run_until(sim, 200 * SECOND), 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
    CHECK_INT(us, 200 * SECOND + 5000);
    CHECK_INT(p2p_now(sim->vertices[0].node), us); /* the node was told this */
    CHECK_INT(p2p_sim_clock(sim, &id[0], -200000, -(int64_t)SECOND), 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
    CHECK_INT(us, 199 * SECOND + 5000);
    CHECK_INT(p2p_sim_run_until(sim, 210 * SECOND), 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
    CHECK_INT(us, 207 * SECOND + 5000);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, 3 * (int64_t)SECOND - 5000), 0); /* right again */
    CHECK_INT(sim->vertices[0].skewed, 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[1], &us), 0);
    CHECK_INT(us, 210 * SECOND);
    p2p_sim_close(sim);
}
/* A node's timer for the tenth second of its clock. */
static uint64_t timer_at(int32_t drift_ppm, int64_t step_us, uint64_t when_us) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_event e;
    uint64_t us = 0;
    memset(&d, 0, sizeof d);
    if (open_talkers(&sim, &d, id) < 0 || p2p_timer_set(node[0], 0, 10 * SECOND) < 0 ||
        p2p_sim_run_until(sim, when_us) < 0 || p2p_sim_clock(sim, &id[0], drift_ppm, step_us) < 0)
        return 1;
    if (p2p_sim_await(sim, node[0], P2P_EVENT_TIMER, 100 * SECOND, &e) == 0)
        us = p2p_sim_now(sim);
    p2p_sim_close(sim);
    return us;
}
TEST(timers_follow_the_clock) {
    CHECK_INT(timer_at(0, 0, SECOND), 10 * SECOND);
    CHECK_INT(timer_at(1000000, 0, 2 * SECOND), 6 * SECOND);
    CHECK_INT(timer_at(-500000, 0, 2 * SECOND), 18 * SECOND);
    CHECK_INT(timer_at(-1000000, 0, 2 * SECOND), 0); /* it stands: never */
    CHECK_INT(timer_at(0, 5 * (int64_t)SECOND, 2 * SECOND), 5 * SECOND);
    CHECK_INT(timer_at(0, 50 * (int64_t)SECOND, 2 * SECOND), 2 * SECOND); /* at once */
    CHECK_INT(timer_at(0, -2 * (int64_t)SECOND, 2 * SECOND), 12 * SECOND);
    CHECK_INT(timer_at(-999999, 10 * (int64_t)SECOND - 2 * (int64_t)SECOND - 3, 2 * SECOND),
              5 * SECOND);
}
/* Whatever it does, the node was told no time but its own: half of the network's. */
TEST(nodes_are_told_their_own_time) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_conn conn;
    uint64_t us;
    memset(&d, 0, sizeof d);
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_sim_clock(sim, &id[0], -500000, 0), 0);
    CHECK_INT(p2p_connect(node[0], &id[1], NULL, &conn), 0);
    for (int i = 0; i < 200; i++) {
        CHECK(p2p_sim_step(sim) != P2P_NEVER);
        CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
        CHECK_INT(us, p2p_sim_now(sim) / 2);
        CHECK(p2p_now(node[0]) <= us);
    }
    p2p_sim_close(sim);
}
/* From on_event of one node, while the other one sleeps. */
static void leap(void *ctx, p2p_sim *sim, p2p_node *n, const p2p_event *e) {
    (void)ctx;
    if (e->type == P2P_EVENT_TIMER && n == node[1])
        own.at_pause = p2p_sim_clock(sim, p2p_node_id(node[0]), 0, 20 * (int64_t)SECOND);
    if (e->type == P2P_EVENT_TIMER && n == node[0])
        own.at_us = p2p_sim_now(sim);
}
TEST(clocks_may_leap_while_time_runs) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    memset(&d, 0, sizeof d);
    memset(&own, 0, sizeof own);
    d.on_event = leap;
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_timer_set(node[0], 0, 10 * SECOND), 0);
    CHECK_INT(p2p_timer_set(node[1], 0, 3 * SECOND), 0);
    CHECK_INT(p2p_sim_run_until(sim, 20 * SECOND), 0);
    CHECK_INT(own.at_pause, 0);
    CHECK_INT(own.at_us, 3 * SECOND);
    p2p_sim_close(sim);
}
/* Connected, with work to do, on a clock that stands or was set back: time goes on in few steps. */
TEST(a_clock_that_stands_makes_nothing_spin) {
    static const int64_t steps[3] = {0, -(int64_t)100 * 1000, 0};
    static const int32_t drifts[3] = {-1000000, 0, -999990};
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_conn conn;
    uint32_t n;
    for (int i = 0; i < 3; i++) {
        memset(&d, 0, sizeof d);
        CHECK_INT(open_talkers(&sim, &d, id), 0);
        CHECK_INT(p2p_sim_run_until(sim, SECOND), 0);
        CHECK_INT(connect_them(sim, &id[1], &conn), 0);
        CHECK_INT(p2p_sim_clock(sim, &id[0], drifts[i], steps[i]), 0);
        CHECK_INT(p2p_send(node[0], conn, "hello", 5), 5);
        CHECK_INT(p2p_sim_loss(sim, &id[0], &id[1], 1000000), 0);
        for (n = 0; n < 3000 && p2p_sim_now(sim) < 20 * SECOND; n++)
            if (p2p_sim_step(sim) == P2P_NEVER)
                break;
        CHECK(n < 3000);
        p2p_sim_close(sim);
    }
}
/* Both far off from the network's time and from each other's, a message still takes its way. */
TEST(nodes_with_wrong_clocks_talk) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_conn conn;
    p2p_event e;
    memset(&d, 0, sizeof d);
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 100000, 3600 * (int64_t)SECOND), 0);
    CHECK_INT(p2p_sim_clock(sim, &id[1], -100000, 7 * 86400 * (int64_t)SECOND), 0);
    CHECK_INT(connect_them(sim, &id[1], &conn), 0);
    CHECK_INT(p2p_send(node[0], conn, "hello", 5), 5);
    CHECK_INT(p2p_sim_await(sim, node[1], P2P_EVENT_MESSAGE, 5 * SECOND, &e), 0);
    CHECK_INT(p2p_sim_clock(sim, &id[1], 0, 60 * (int64_t)SECOND), 0); /* leaps do not break it */
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, -(int64_t)SECOND), 0);
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 3 * SECOND), 0);
    CHECK_INT(p2p_send(node[0], conn, "again", 5), 5);
    CHECK_INT(p2p_sim_await(sim, node[1], P2P_EVENT_MESSAGE, p2p_sim_now(sim) + 5 * SECOND, &e), 0);
    p2p_sim_close(sim);
}
TEST(the_clock_outlives_a_crash) {
    p2p_sim *sim;
    p2p_id id[2];
    uint64_t us;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 100000, 500), 0);
    CHECK_INT(p2p_sim_run_until(sim, SECOND), 0);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), 0);
    CHECK_INT(p2p_sim_run_until(sim, 2 * SECOND), 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
    CHECK_INT(us, 2200500);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 200000, 0), 0); /* may be set meanwhile */
    CHECK_INT(p2p_sim_restart(sim, &id[0], NULL), 0);
    CHECK_INT(p2p_sim_run_until(sim, 3 * SECOND), 0);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), 0);
    CHECK_INT(us, 3400500);
    CHECK_INT(p2p_now(sim->vertices[0].node), us);
    p2p_sim_close(sim);
}
TEST(wrong_clocks_are_named) {
    p2p_sim *sim;
    p2p_id id[2], r;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_router(sim, "r", &r), 0);
    CHECK_INT(p2p_sim_run_until(sim, SECOND), 0);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 1000001, 0), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_clock: drift_ppm: -1000000 to 1000000");
    CHECK_INT(p2p_sim_clock(sim, &id[0], -1000001, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, -(int64_t)SECOND - 1), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_clock: step_us leads before 0");
    CHECK_INT(why.max, SECOND);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, INT64_MIN), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, INT64_MAX), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_clock: step_us leads beyond 285 years");
    CHECK_INT(p2p_sim_clock(sim, &r, 0, 0), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "this vertex only forwards");
    CHECK_INT(sim->vertices[0].skewed, 0);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, -(int64_t)SECOND), 0);
    p2p_sim_close(sim);
}

/* ---- names ---- */

/* How many of 400 questions were answered with the node, with nothing, and not at all. */
static void ask_all(uint32_t fail_ppm, uint32_t silent_ppm, uint32_t got[3]) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_event e;
    uint32_t query;
    memset(&d, 0, sizeof d);
    memset(got, 0, 3 * sizeof *got);
    d.name_fail_ppm = fail_ppm;
    d.name_silent_ppm = silent_ppm;
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_sim_register(sim, "bob's", &id[1]), 0);
    for (int i = 0; i < 400; i++) {
        int err;
        CHECK_INT(p2p_discover(node[0], "bob's", &query), 0);
        err = p2p_sim_await(sim, node[0], P2P_EVENT_FOUND, p2p_sim_now(sim) + 200 * MS, &e);
        if (err < 0) { /* the node gives up in its own time */
            CHECK_INT(sim->event_count, 0);
            CHECK_INT(
                p2p_sim_await(sim, node[0], P2P_EVENT_FOUND, p2p_sim_now(sim) + 100 * SECOND, &e),
                0);
            CHECK_INT(e.err, P2P_ERR_TIMEOUT);
        }
        got[err < 0 ? 2 : e.err < 0 ? 1 : 0]++;
        if (i % 100 == 0)
            CHECK_INT(p2p_sim_register(sim, "bob's", &id[1]), 0);
    }
    CHECK_INT(chunks_free(sim), sim->chunk_max);
    p2p_sim_close(sim);
}
TEST(names_fail_and_stay_silent_by_chance) {
    uint32_t got[3];
    ask_all(0, 0, got);
    CHECK_SO_FAR();
    CHECK_INT(got[0], 400);
    ask_all(1000000, 0, got);
    CHECK_SO_FAR();
    CHECK_INT(got[1], 400);
    ask_all(250000, 0, got);
    CHECK_SO_FAR();
    CHECK(got[1] > 60 && got[1] < 140);
    CHECK_INT(got[2], 0);
    ask_all(0, 30000, got);
    CHECK_SO_FAR();
    CHECK(got[2] > 2 && got[2] < 30);
    CHECK_INT(got[1], 0);
}
TEST(wrong_names_and_buffers_are_named) {
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.name_fail_ppm = 1000001;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.name_fail_ppm: a probability above 1000000");
    d.name_fail_ppm = 0;
    d.receive_bytes = 0x80000000u;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.receive_bytes: at most 2147483647");
    d.name_silent_ppm = 1000001;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.name_silent_ppm: a probability above 1000000");
}

/* ---- until idle ---- */

TEST(runs_end_when_nothing_is_to_be_done) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_conn conn;
    p2p_event e;
    uint64_t idle_us;
    int messages = 0;
    memset(&d, 0, sizeof d);
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0);
    CHECK_INT(p2p_sim_now(sim), 0); /* from the beginning */
    CHECK_INT(p2p_connect(node[0], &id[1], NULL, &conn), 0);
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0);
    CHECK(p2p_sim_now(sim) > 40 * MS && p2p_sim_now(sim) < 5 * SECOND);
    CHECK_INT(sim->event_count, 0);
    CHECK_INT(p2p_sim_loss(sim, &id[0], &id[1], 400000), 0);
    idle_us = p2p_sim_now(sim);
    for (int i = 0; i < 10; i++)
        CHECK_INT(p2p_send(node[0], conn, "hello", 5), 5);
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0); /* losses were mended */
    CHECK(p2p_sim_now(sim) > idle_us);
    while (p2p_next_event(node[1], &e) == 1)
        messages += e.type == P2P_EVENT_MESSAGE;
    CHECK(messages > 0);
    idle_us = p2p_sim_now(sim);
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0); /* is idle already */
    CHECK_INT(p2p_sim_now(sim), idle_us);
    CHECK_INT(p2p_sim_run_idle(sim, idle_us - 1), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_run_idle: this time has passed");
    p2p_sim_close(sim);
}
TEST(runs_that_do_not_come_to_rest_say_so) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    memset(&d, 0, sizeof d);
    d.link.latency_us = 0;
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    put(sim, &id[0], &id[1], 1, 60);
    CHECK_INT(p2p_sim_run_idle(sim, 9 * MS), P2P_ERR_TIMEOUT);
    CHECK_STR(why.text, "p2p_sim_run_idle: not idle in time");
    CHECK_INT(why.size, 1);
    CHECK_INT(p2p_sim_now(sim), 9 * MS);
    CHECK_INT(p2p_timer_set(node[0], 0, 20 * MS), 0); /* what the program wants soon counts */
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0);
    CHECK_INT(p2p_sim_now(sim), 20 * MS);
    CHECK_INT(p2p_timer_set(node[0], 0, 20 * MS + 5 * SECOND),
              0); /* what it wants later does not */
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0);
    CHECK_INT(p2p_sim_now(sim), 20 * MS);
    p2p_sim_close(sim);
    d.idle_us = 10 * SECOND;
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    CHECK_INT(p2p_timer_set(node[0], 0, 5 * SECOND), 0);
    CHECK_INT(p2p_sim_run_idle(sim, 60 * SECOND), 0);
    CHECK_INT(p2p_sim_now(sim), 5 * SECOND);
    p2p_sim_close(sim);
}

/* ---- errors that say which ---- */

TEST(an_arena_too_small_for_the_desc_says_how_large) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_node *n;
    p2p_desc nd;
    size_t need;
    memset(&d, 0, sizeof d);
    memset(&nd, 0, sizeof nd);
    d.routing = P2P_SIM_ROUTING_LATENCY;
    d.drops = 1000;
    d.why = &why;
    need = p2p_sim_arena_size(&d);
    CHECK_INT(p2p_sim_open(&sim, &d, memory, need - 1), P2P_ERR_ARENA);
    CHECK_STR(why.text, "p2p_sim_open: arena too small, max is the size it wants");
    CHECK_INT(why.max, need);
    CHECK(sim == NULL);
    CHECK_INT(p2p_sim_open(&sim, &d, memory, need), 0);
    CHECK_INT(p2p_sim_node(sim, "a", &nd, &n), P2P_ERR_ARENA);
    CHECK_STR(why.text, "p2p_sim_node: sim's arena too small, max is the size it wants");
    need = (size_t)why.max;
    p2p_sim_close(sim);
    CHECK_INT(p2p_sim_open(&sim, &d, memory, need), 0);
    CHECK_INT(p2p_sim_node(sim, "a", &nd, &n), 0);
    p2p_sim_close(sim);
}
TEST(a_link_to_an_unknown_node_says_which) {
    p2p_sim *sim;
    p2p_id id[2], nobody;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_id(sim, "nobody", &nobody), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &nobody, NULL), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "to: no vertex has this id");
    CHECK_BYTES(&why.peer, &nobody, sizeof nobody);
    CHECK_INT(p2p_sim_connect(sim, &nobody, &id[0], NULL), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "from: no vertex has this id");
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &nobody, NULL), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_partition_oneway(sim, &id[0], 1, &nobody, 1), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "group: no vertex has this id");
    CHECK_INT(p2p_sim_pause(sim, &nobody), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "no node has this id");
    CHECK_INT(p2p_sim_resume(sim, &nobody), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_resume(sim, &id[0]), P2P_ERR_STATE);
    CHECK_STR(why.text, "p2p_sim_resume: is not paused: a");
    p2p_sim_close(sim);
}
TEST(a_second_node_with_the_same_key_says_whose) {
    p2p_sim *sim;
    p2p_id id[2], other;
    p2p_desc nd;
    p2p_node *n;
    p2p_key key;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(small_node(sim, "a", &other), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "this key is in the network already, as a");
    CHECK_BYTES(&why.peer, &id[0], sizeof other);
    CHECK_INT(p2p_sim_router(sim, "b", &other), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "this key is in the network already, as b");
    memset(&nd, 0, sizeof nd);
    CHECK_INT(p2p_sim_key(sim, "b", &key), 0);
    nd.key = &key; /* under another name it is the same key */
    CHECK_INT(p2p_sim_node(sim, "c", &nd, &n), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "this key is in the network already, as b");
    p2p_sim_close(sim);
}
/* As long as nobody took the arena for something else. */
TEST(calls_after_close_say_closed) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_key key;
    p2p_node *n;
    p2p_error_detail last;
    p2p_sim_stats stats;
    p2p_event e;
    uint64_t us;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    n = sim->vertices[0].node;
    CHECK_INT(p2p_sim_pause(sim, &id[1]), 0);
    put(sim, &id[0], &id[1], 1, 60);
    memset(&why, 0, sizeof why);
    p2p_sim_close(sim);
    CHECK(p2p_sim_step(sim) == P2P_NEVER);
    CHECK_INT(p2p_sim_run_until(sim, SECOND), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_run_idle(sim, SECOND), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_await(sim, n, P2P_EVENT_CONNECTED, SECOND, &e), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_touch(sim, n), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_node(sim, "c", NULL, &n), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_router(sim, "r", NULL), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_key(sim, "a", &key), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &id[1], NULL), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 1, 1), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[1], 1), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_latency(sim, NULL, NULL, 1), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_loss(sim, &id[0], &id[1], 1), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_register(sim, "a", &id[0]), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_restart(sim, &id[0], NULL), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_pause(sim, &id[0]), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_resume(sim, &id[1]), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, 0), P2P_ERR_CLOSED);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), P2P_ERR_CLOSED);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.sent, 0);
    CHECK_INT(p2p_sim_now(sim), 0);
    p2p_sim_last_error(sim, &last);
    CHECK_INT(last.err, P2P_ERR_CLOSED);
    CHECK_STR(last.text, "this simulator is closed");
    CHECK_INT(why.err, 0); /* the caller's, who may have let go of it */
    p2p_sim_close(sim);
}
TEST(events_of_an_ended_node_are_an_error) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_event e;
    p2p_node *gone;
    memset(&d, 0, sizeof d);
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    gone = node[1];
    CHECK_INT(p2p_sim_crash(sim, &id[1]), 0);
    CHECK_INT(p2p_sim_await(sim, gone, 0, SECOND, &e), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_await: not a running node of this network");
    CHECK_INT(p2p_sim_touch(sim, gone), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_touch: not a running node of this network");
    p2p_node_close(node[0]); /* by the program itself */
    CHECK_INT(p2p_sim_await(sim, node[0], 0, SECOND, &e), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_run_until(sim, SECOND), 0);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), P2P_ERR_STATE);
    CHECK_STR(why.text, "p2p_sim_crash: has crashed already: alice");
    p2p_sim_close(sim);
}
TEST(a_node_that_its_program_closed_restarts_at_once) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_node *again;
    memset(&d, 0, sizeof d);
    CHECK_INT(open_talkers(&sim, &d, id), 0);
    p2p_node_close(node[1]);
    CHECK_INT(p2p_sim_restart(sim, &id[1], &again), 0);
    CHECK(again != NULL);
    CHECK_INT(p2p_sim_run_until(sim, SECOND), 0);
    CHECK_INT(p2p_sim_restart(sim, &id[1], &again), P2P_ERR_STATE);
    p2p_sim_close(sim);
}
TEST(without_a_simulator_every_call_is_an_error) {
    p2p_sim_desc d;
    p2p_sim *sim = NULL;
    p2p_error_detail last;
    p2p_sim_stats stats;
    p2p_sim_link link;
    p2p_sim_nat_desc nat;
    p2p_secure secure;
    p2p_node *n = node[0];
    p2p_addr addr;
    p2p_event e;
    p2p_key key;
    p2p_id id[2];
    uint64_t us;
    memset(&d, 0, sizeof d);
    memset(&link, 0, sizeof link);
    memset(&nat, 0, sizeof nat);
    memset(id, 0, sizeof id);
    memset(&addr, 0, sizeof addr);
    d.link.loss_ppm = 2000000;
    CHECK_INT(p2p_sim_open(&sim, &d, memory, sizeof memory), P2P_ERR_CONFIG);
    CHECK(sim == NULL);
    CHECK(p2p_sim_step(sim) == P2P_NEVER);
    CHECK_INT(p2p_sim_now(sim), 0);
    CHECK_INT(p2p_sim_digest(sim), 0);
    CHECK_INT(p2p_sim_run_until(sim, SECOND), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_run_idle(sim, SECOND), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_await(sim, n, 0, SECOND, &e), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_touch(sim, n), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_node(sim, "c", NULL, &n), P2P_ERR_ARG);
    CHECK(n == NULL);
    CHECK_INT(p2p_sim_router(sim, "r", NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_host(sim, "h", NULL, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_host_send(sim, &id[0], 1, &addr, "x", 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_host_timer(sim, &id[0], 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_key(sim, "a", &key), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_id(sim, "a", &id[0]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_addr(sim, &id[0], &addr), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_addr_inside(sim, &id[0], &addr), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &id[1], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_link_get(sim, &id[0], &id[1], &link), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 1, 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[1], 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_nat(sim, &id[0], &nat), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_behind(sim, &id[0], &id[1]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_nat_rebind(sim, &id[0]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_restart(sim, &id[0], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_pause(sim, &id[0]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_resume(sim, &id[0]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_clock(sim, &id[0], 0, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], &us), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_register(sim, "a", &id[0]), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_mesh(sim, "m", 1, NULL, &n), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_split(sim, "l", 1, "r", 1, NULL, node), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_latency(sim, NULL, NULL, 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_loss(sim, NULL, NULL, 1), P2P_ERR_ARG);
    memset(&stats, 1, sizeof stats);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.sent, 0);
    p2p_sim_secure(sim, &secure);
    p2p_sim_trace(sim, NULL, NULL);
    p2p_sim_last_error(sim, &last);
    CHECK_STR(last.text, "there is no simulator: p2p_sim_open failed");
    p2p_sim_close(sim);
}
TEST(answers_need_a_place_to_go) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    static const char *const text = "out: NULL, where the answer is to go";
    memset(&d, 0, sizeof d);
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    CHECK_INT(p2p_sim_id(sim, "a", NULL), P2P_ERR_ARG);
    CHECK_STR(why.text, text);
    CHECK_INT(p2p_sim_key(sim, "a", NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_addr(sim, &id[0], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_addr_inside(sim, &id[0], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_node_now(sim, &id[0], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_link_get(sim, &id[0], &id[1], NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 1);
    memset(&why, 0, sizeof why);
    CHECK_INT(p2p_sim_mesh(sim, "m", 1, NULL, NULL), P2P_ERR_ARG);
    CHECK_STR(why.text, text);
    p2p_sim_stats_get(sim, NULL);
    p2p_sim_last_error(sim, NULL);
    p2p_sim_close(sim);
}
TEST(node_size_counts_what_the_desc_points_to) {
    static const char *const alpn[8] = {
        "a-name-of-thirty-two-bytes-no--1", "a-name-of-thirty-two-bytes-no--2",
        "a-name-of-thirty-two-bytes-no--3", "a-name-of-thirty-two-bytes-no--4",
        "a-name-of-thirty-two-bytes-no--5", "a-name-of-thirty-two-bytes-no--6",
        "a-name-of-thirty-two-bytes-no--7", "a-name-of-thirty-two-bytes-no--8"};
    p2p_sim_desc d;
    p2p_desc nd;
    p2p_sim *sim;
    p2p_node *n;
    memset(&d, 0, sizeof d);
    memset(&nd, 0, sizeof nd);
    d.nodes = 1;
    d.why = &why;
    nd.alpn = alpn;
    nd.alpn_count = 8;
    nd.network = "a network whose name takes some of the memory";
    CHECK_INT(p2p_sim_open(&sim, &d, memory, p2p_sim_arena_size(&d) + p2p_sim_node_size(&d, &nd)),
              0);
    CHECK_INT(p2p_sim_node(sim, "a", &nd, &n), 0);
    p2p_sim_close(sim);
    CHECK_INT(
        p2p_sim_open(&sim, &d, memory, p2p_sim_arena_size(&d) + p2p_sim_node_size(&d, &nd) - 1), 0);
    CHECK_INT(p2p_sim_node(sim, "a", &nd, &n), P2P_ERR_ARENA);
    CHECK_INT(why.max, p2p_sim_arena_size(&d) + p2p_sim_node_size(&d, &nd));
    p2p_sim_close(sim);
}
TEST_MAIN(P2P_TEST_ENTRY(a_node_that_its_program_closed_restarts_at_once),
          P2P_TEST_ENTRY(without_a_simulator_every_call_is_an_error),
          P2P_TEST_ENTRY(answers_need_a_place_to_go),
          P2P_TEST_ENTRY(node_size_counts_what_the_desc_points_to),
          P2P_TEST_ENTRY(paused_nodes_take_all_in_order_later),
          P2P_TEST_ENTRY(a_paused_node_s_buffer_is_bounded),
          P2P_TEST_ENTRY(paused_nodes_neither_answer_nor_send),
          P2P_TEST_ENTRY(what_waits_for_a_paused_node_reaches_nobody_when_it_ends),
          P2P_TEST_ENTRY(paused_nodes_forward), P2P_TEST_ENTRY(nodes_pause_in_their_own_turn),
          P2P_TEST_ENTRY(answers_wait_for_a_paused_node),
          P2P_TEST_ENTRY(clocks_translate_both_ways), P2P_TEST_ENTRY(clocks_drift_and_jump),
          P2P_TEST_ENTRY(timers_follow_the_clock), P2P_TEST_ENTRY(nodes_are_told_their_own_time),
          P2P_TEST_ENTRY(clocks_may_leap_while_time_runs),
          P2P_TEST_ENTRY(a_clock_that_stands_makes_nothing_spin),
          P2P_TEST_ENTRY(nodes_with_wrong_clocks_talk), P2P_TEST_ENTRY(the_clock_outlives_a_crash),
          P2P_TEST_ENTRY(wrong_clocks_are_named),
          P2P_TEST_ENTRY(names_fail_and_stay_silent_by_chance),
          P2P_TEST_ENTRY(wrong_names_and_buffers_are_named),
          P2P_TEST_ENTRY(runs_end_when_nothing_is_to_be_done),
          P2P_TEST_ENTRY(runs_that_do_not_come_to_rest_say_so),
          P2P_TEST_ENTRY(an_arena_too_small_for_the_desc_says_how_large),
          P2P_TEST_ENTRY(a_link_to_an_unknown_node_says_which),
          P2P_TEST_ENTRY(a_second_node_with_the_same_key_says_whose),
          P2P_TEST_ENTRY(calls_after_close_say_closed),
          P2P_TEST_ENTRY(events_of_an_ended_node_are_an_error))
