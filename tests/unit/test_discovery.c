/* Room >>discovery from end to end: names registered at one node and asked for at another, over the
 * simulator's names. The tables alone are in test_router.c. */
#define P2P_SIM_IMPLEMENTATION
#include "unit.h"
#include "p2p_sim.h"

enum { MEMORY = 16 << 20 };
#define MS     UINT64_C(1000)
#define SECOND UINT64_C(1000000)

static struct {
    uint64_t *memory;
    p2p_sim *sim;
    p2p_node *alice, *bob;
    p2p_error_detail why;
} world;

static void world_end(void) {
    if (world.sim != NULL)
        p2p_sim_close(world.sim);
    free(world.memory);
    memset(&world, 0, sizeof world);
}
static bool world_begin(uint64_t discovery_us) {
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_listener l;
    memset(&world, 0, sizeof world);
    memset(&net, 0, sizeof net);
    memset(&desc, 0, sizeof desc);
    world.memory = (uint64_t *)calloc(MEMORY / 8, 8);
    net.seed = 1;
    net.link.latency_us = 10 * MS;
    net.discovery_us = discovery_us;
    desc.allow_anyone = 1;
    desc.why = &world.why;
    desc.time.connect_us = 3 * SECOND;
    return world.memory != NULL && p2p_sim_open(&world.sim, &net, world.memory, MEMORY) == 0 &&
           p2p_sim_node(world.sim, "alice", &desc, &world.alice) == 0 &&
           p2p_sim_node(world.sim, "bob", &desc, &world.bob) == 0 &&
           p2p_sim_connect(world.sim, p2p_node_id(world.alice), p2p_node_id(world.bob), NULL) ==
               0 &&
           p2p_listen(world.bob, NULL, &l) == 0;
}
static int await(p2p_node *node, uint32_t type, p2p_event *e) {
    return p2p_sim_await(world.sim, node, type, p2p_sim_now(world.sim) + 10 * SECOND, e);
}

TEST(a_registered_name_is_found) {
    uint32_t query = 0;
    p2p_event e;
    p2p_conn conn;
    CHECK(world_begin(100 * MS));
    CHECK_INT(p2p_register(world.bob, "music"), 0);
    CHECK_INT(p2p_discover(world.alice, "music", &query), 0);
    CHECK(query != 0);
    CHECK_INT(await(world.alice, P2P_EVENT_FOUND, &e), 0);
    CHECK(e.err == 0 && e.query == query && p2p_sim_now(world.sim) >= 100 * MS);
    CHECK(p2p_id_equal(&e.peer, p2p_node_id(world.bob)));
    CHECK(p2p_str_equal(e.name, "music"));
    CHECK_INT(p2p_connect(world.alice, &e.peer, NULL, &conn), 0); /* it is known now */
    CHECK_INT(await(world.alice, P2P_EVENT_CONNECTED, &e), 0);
    CHECK(p2p_check(world.alice) == 0 && p2p_check(world.bob) == 0);
    world_end();
}

TEST(an_unknown_name_is_not) {
    uint32_t query = 0;
    p2p_event e;
    CHECK(world_begin(100 * MS));
    CHECK_INT(p2p_discover(world.alice, "nobody", &query), 0);
    CHECK_INT(await(world.alice, P2P_EVENT_FOUND, &e), 0);
    CHECK(e.err == P2P_ERR_NOT_FOUND && e.query == query);
    CHECK(p2p_str_equal(e.name, "nobody"));
    world_end();
}

TEST(an_answer_that_is_late_is_a_timeout) {
    p2p_event e;
    CHECK(world_begin(20 * SECOND));
    CHECK_INT(p2p_register(world.bob, "slow"), 0);
    (void)p2p_sim_run_until(world.sim,
                            5 * SECOND); /* the question's time begins with the question */
    CHECK_INT(p2p_discover(world.alice, "slow", NULL), 0);
    CHECK_INT(await(world.alice, P2P_EVENT_FOUND, &e), 0);
    CHECK_INT(e.err, P2P_ERR_TIMEOUT);
    CHECK(p2p_sim_now(world.sim) >= 8 * SECOND && p2p_sim_now(world.sim) < 8 * SECOND + 100 * MS);
    (void)p2p_sim_run_until(world.sim, 40 * SECOND); /* the answer comes to nobody */
    CHECK_INT(p2p_check(world.alice), 0);
    world_end();
}

TEST(many_questions_at_once) {
    p2p_event e;
    uint32_t queries[4], seen = 0;
    CHECK(world_begin(100 * MS));
    CHECK_INT(p2p_register(world.bob, "n1"), 0);
    CHECK_INT(p2p_register(world.bob, "n3"), 0);
    for (uint32_t i = 0; i < 4; i++) {
        char name[3] = {'n', (char)('0' + i), 0};
        CHECK_INT(p2p_discover(world.alice, name, &queries[i]), 0);
    }
    for (uint32_t n = 0; n < 4; n++) {
        CHECK_INT(await(world.alice, P2P_EVENT_FOUND, &e), 0);
        for (uint32_t i = 0; i < 4; i++)
            if (queries[i] == e.query) {
                CHECK(!(seen >> i & 1) && e.name.data[1] == (char)('0' + i));
                CHECK_INT(e.err, i & 1 ? P2P_OK : P2P_ERR_NOT_FOUND);
                seen |= 1u << i;
            }
    }
    CHECK_INT(seen, 15);
    world_end();
}

TEST(connect_by_name) {
    p2p_event e;
    p2p_conn conn, lost;
    CHECK(world_begin(100 * MS));
    CHECK_INT(p2p_register(world.bob, "music"), 0);
    CHECK_INT(p2p_connect_name(world.alice, "music", NULL, &conn), 0);
    CHECK_INT(await(world.alice, P2P_EVENT_CONNECTED, &e), 0);
    CHECK(e.conn.id == conn.id && p2p_id_equal(&e.peer, p2p_node_id(world.bob)));
    CHECK_INT(p2p_connect_name(world.alice, "nobody", NULL, &lost), 0);
    CHECK_INT(await(world.alice, P2P_EVENT_DISCONNECTED, &e), 0);
    CHECK(e.conn.id == lost.id && e.err == P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_check(world.alice), 0);
    world_end();
}

TEST(a_dial_by_name_that_is_given_up) {
    p2p_event e;
    p2p_conn conn;
    CHECK(world_begin(1 * SECOND));
    CHECK_INT(p2p_register(world.bob, "music"), 0);
    CHECK_INT(p2p_connect_name(world.alice, "music", NULL, &conn), 0);
    (void)p2p_sim_run_until(world.sim, 500 * MS);
    CHECK_INT(p2p_close(world.alice, conn, 0, NULL), 0);
    CHECK_INT(await(world.alice, P2P_EVENT_DISCONNECTED, &e), 0);
    (void)p2p_sim_run_until(world.sim, 5 * SECOND);
    CHECK_INT(p2p_check(world.alice), 0);
    CHECK_INT(world.alice->discovery.queries.used, 0);
    world_end();
}

TEST_MAIN(P2P_TEST_ENTRY(a_registered_name_is_found), P2P_TEST_ENTRY(an_unknown_name_is_not),
          P2P_TEST_ENTRY(an_answer_that_is_late_is_a_timeout),
          P2P_TEST_ENTRY(many_questions_at_once), P2P_TEST_ENTRY(connect_by_name),
          P2P_TEST_ENTRY(a_dial_by_name_that_is_given_up))
