/* Names: only the simulator brings a provider. */

static void registered_pair(world_tweak tweak) {
    world_open(2, tweak);
    listen_at(B, &LB);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_register(B->node, "bob.music"));
    drive(NULL, NULL, 200 * MS);
}

TEST(discover_a_name) {
    uint32_t query = 0;
    const seen *s;
    registered_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_discover(A->node, "bob.music", &query));
    CHECK(query != 0);
    s = await(A, P2P_EVENT_FOUND, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    CHECK_INT(s->event.query, query);
    CHECK(p2p_id_equal(&s->event.peer, &B->id));
    CHECK_INT(p2p_connect(A->node, &s->event.peer, NULL, &AB), 0);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
}

TEST(unknown_name_is_not_found) {
    uint32_t query = 0;
    const seen *s;
    registered_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_discover(A->node, "nobody.here", &query));
    s = await(A, P2P_EVENT_FOUND, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_NOT_FOUND);
    CHECK_INT(s->event.query, query);
    CHECK_INT(p2p_connect_name(A->node, "nobody.here", NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 5 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_NOT_FOUND);
}

TEST(connect_by_name) {
    p2p_connect_desc desc;
    p2p_conn again;
    const seen *s;
    memset(&desc, 0, sizeof desc);
    desc.share = 1;
    registered_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect_name(A->node, "bob.music", NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.dialled.id, AB.id);
    CHECK(p2p_id_equal(&s->event.peer, &B->id));
    CHECK_INT(p2p_connect_name(A->node, "bob.music", &desc, &again), 0);
    CHECK(again.id != AB.id);
    s = await(A, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.conn.id, AB.id);
    CHECK_INT(s->event.dialled.id, again.id);
    CHECK_DONE(p2p_release(A->node, AB));
    drive(NULL, NULL, 200 * MS);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_DONE(p2p_release(A->node, AB));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
}

static void name_single(actor *self) { self->desc.max.conns_per_peer = self == A ? 1 : 8; }

/* Whom a name leads to is known when it is found: then the limit a peer counts. */
TEST(limit_of_a_peer_by_name) {
    p2p_conn more;
    const seen *s;
    registered_pair(name_single);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect_name(A->node, "bob.music", NULL, &AB), 0);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
    CHECK_INT(p2p_connect_name(A->node, "bob.music", NULL, &more), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, more, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_LIMIT);
    CHECK_STR(s->reason, "max.conns_per_peer");
    CHECK(p2p_is_connected(A->node, AB));
}

TEST(close_while_discovering) {
    registered_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect_name(A->node, "bob.music", NULL, &AB), 0);
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, SECOND) != NULL);
    drive(NULL, NULL, SECOND);
    CHECK_INT(A->count, 1);
    CHECK_INT(B->count, 0);
}

/* A peer that rebooted: its new life replaces the old connection. */
TEST(peer_that_rebooted) {
    p2p_conn fresh;
    const seen *s;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_crash(world.sim, &B->id), 0);
    B->node = NULL;
    drive(NULL, NULL, 500 * MS);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_INT(p2p_sim_restart(world.sim, &B->id, &B->node), 0);
    CHECK_INT(p2p_send(B->node, BA, "x", 1), P2P_ERR_HANDLE);
    listen_at(A, &LB);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(B->node, &A->id, NULL, &fresh), 0);
    CHECK(await_conn(B, P2P_EVENT_CONNECTED, fresh, 3 * SECOND) != NULL);
    s = await(A, P2P_EVENT_CONNECTED, 3 * SECOND);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 20 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(p2p_connections(A->node, NULL, 0), 1);
    CHECK(p2p_is_connected(B->node, fresh));
}

/* A partition that ends before the idle time is over costs nothing but time. */
TEST(partition_heals) {
    p2p_stream mine, theirs;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    expect_text(B, theirs, "!");
    world_cut_off(B);
    CHECK_INT(p2p_stream_write(A->node, mine, "after all", 9), 9);
    drive(NULL, NULL, 8 * SECOND);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_INT(p2p_sim_heal(world.sim, NULL, 0, NULL, 0), 0);
    drive(NULL, NULL, 8 * SECOND);
    expect_text(B, theirs, "after all");
}

#define CASES_DISCOVERY(X)       \
    X(discover_a_name)           \
    X(unknown_name_is_not_found) \
    X(connect_by_name)           \
    X(limit_of_a_peer_by_name) X(close_while_discovering) X(peer_that_rebooted) X(partition_heals)
