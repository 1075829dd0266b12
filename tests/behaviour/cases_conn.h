/* Connections: who gets in, who is refused and how, what a close tells, what a handle is worth. */

TEST(connect_and_accept) {
    p2p_conn accepted, listed[4];
    p2p_id id;
    p2p_str alpn;
    const seen *s;
    world_pair(NULL);
    CHECK_SO_FAR();
    s = &A->log[index_of(A, P2P_EVENT_CONNECTED)];
    CHECK_INT(s->event.incoming, 0);
    CHECK_INT(s->event.conn.id, AB.id);
    CHECK_INT(s->event.dialled.id, AB.id);
    CHECK(p2p_id_equal(&s->event.peer, &B->id));
    s = &B->log[index_of(B, P2P_EVENT_CONNECTED)];
    CHECK_INT(s->event.incoming, 1);
    CHECK_INT(s->event.listener.id, LB.id);
    CHECK(p2p_id_equal(&s->event.peer, &A->id));
    CHECK(p2p_is_connected(A->node, AB) && p2p_is_connected(B->node, BA));
    CHECK_DONE(p2p_remote_id(A->node, AB, &id));
    CHECK(p2p_id_equal(&id, &B->id));
    CHECK_INT(p2p_accept(B->node, LB, &accepted), 0);
    CHECK_INT(accepted.id, BA.id);
    CHECK_INT(p2p_accept(B->node, LB, &accepted), P2P_ERR_AGAIN);
    CHECK_DONE(p2p_conn_alpn(A->node, AB, &alpn));
    CHECK(p2p_str_equal(alpn, "p2p"));
    CHECK_INT(p2p_connections(B->node, listed, 4), 1);
    CHECK_INT(listed[0].id, BA.id);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 1);
    CHECK_INT(count_events(B, P2P_EVENT_CONNECTED), 1);
}

/* What a program queues before CONNECTED waits, and then arrives. */
TEST(queued_before_connected) {
    p2p_stream s, theirs;
    uint8_t got[16];
    const seen *e;
    world_open(2, NULL);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    CHECK(!p2p_is_connected(A->node, AB));
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
    CHECK_INT(p2p_stream_write(A->node, s, "early", 5), 5);
    CHECK_DONE(p2p_send(A->node, AB, "bird", 4));
    e = await(B, P2P_EVENT_STREAM, 3 * SECOND);
    CHECK(e != NULL);
    theirs = e->event.stream;
    CHECK_INT(p2p_stream_read(B->node, theirs, got, sizeof got), 5);
    CHECK_BYTES(got, "early", 5);
    e = await(B, P2P_EVENT_MESSAGE, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(p2p_recv(B->node, e->event.conn, got, sizeof got), 4);
    CHECK_BYTES(got, "bird", 4);
}

static struct {
    int calls, named, answer_stranger, answer_named;
    p2p_id id;
    char alpn[33];
} gate;

static int gate_keeper(void *ctx, const p2p_gate *who) {
    (void)ctx;
    gate.calls++;
    if (!who->id)
        return gate.answer_stranger;
    gate.named++;
    gate.id = *who->id;
    if (who->alpn.size < sizeof gate.alpn) {
        memcpy(gate.alpn, who->alpn.data, who->alpn.size);
        gate.alpn[who->alpn.size] = 0;
    }
    return gate.answer_named;
}

static void with_gate(actor *self) {
    self->desc.allow_anyone = 0;
    self->desc.allow.fn = gate_keeper;
}

static void gate_answers(int stranger, int named) {
    memset(&gate, 0, sizeof gate);
    gate.answer_stranger = stranger;
    gate.answer_named = named;
}

TEST(allow_hook_lets_in) {
    gate_answers(1, 1);
    world_pair(with_gate);
    CHECK_SO_FAR();
    CHECK(gate.calls >= 2 && gate.named >= 1);
    CHECK(p2p_id_equal(&gate.id, &A->id));
    CHECK_STR(gate.alpn, "p2p");
}

/* Once the caller has proved who it is, a no is told; and nobody inside heard of it. */
TEST(allow_hook_refuses_by_name) {
    const seen *s;
    gate_answers(1, 0);
    world_open(2, with_gate);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_REFUSED);
    CHECK(gate.named >= 1);
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(B->count, 0);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 0);
    CHECK_INT(p2p_accept(B->node, LB, &BA), P2P_ERR_AGAIN);
}

TEST(allow_hook_refuses_an_address_in_silence) {
    const seen *s;
    gate_answers(0, 1);
    world_open(2, with_gate);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 4 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
    CHECK(gate.calls >= 1);
    CHECK_INT(gate.named, 0);
    CHECK_INT(B->count, 0);
}

/* Dials id at addr with a short deadline and expects silence up to the deadline. */
static void expect_timeout(const p2p_id *id, const p2p_addr *addr) {
    p2p_connect_desc desc;
    p2p_ticket ticket = ticket_at(id, addr);
    uint64_t start = world_now();
    const seen *s;
    memset(&desc, 0, sizeof desc);
    desc.timeout_us = 700 * MS;
    CHECK_DONE(p2p_peer_add(A->node, &ticket));
    CHECK_INT(p2p_connect(A->node, id, &desc, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
    CHECK(s->at_us - start >= 695 * MS);
    CHECK(s->at_us - start < 1000 * MS);
    CHECK(p2p_id_equal(&s->event.peer, id));
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 0);
}

TEST(unknown_address_times_out) {
    p2p_addr nowhere = dead_addr();
    p2p_id id;
    world_open(1, NULL);
    CHECK_SO_FAR();
    id = stranger_id();
    expect_timeout(&id, &nowhere);
}

/* A node without any known address is no error at once: it may yet be told. */
TEST(no_address_times_out) {
    p2p_connect_desc desc;
    const seen *s;
    p2p_id id;
    memset(&desc, 0, sizeof desc);
    desc.timeout_us = 300 * MS;
    world_open(1, NULL);
    CHECK_SO_FAR();
    id = stranger_id();
    CHECK_INT(p2p_connect(A->node, &id, &desc, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
}

/* An honest node that is not the one dialled does not answer at all. */
TEST(wrong_key_is_silent) {
    p2p_metrics before, after;
    p2p_ticket ticket;
    p2p_id id;
    world_open(2, NULL);
    listen_at(B, &LB);
    CHECK_SO_FAR();
    id = stranger_id();
    CHECK_DONE(p2p_ticket_of(B->node, &ticket));
    p2p_metrics_get(B->node, &before);
    expect_timeout(&id, &ticket.addrs[0]);
    CHECK_SO_FAR();
    p2p_metrics_get(B->node, &after);
    CHECK(after.value[P2P_METRIC_datagrams_in] > before.value[P2P_METRIC_datagrams_in]);
    CHECK(after.value[P2P_METRIC_drop_bad_tag] > before.value[P2P_METRIC_drop_bad_tag]);
    CHECK_INT(after.value[P2P_METRIC_datagrams_out] - before.value[P2P_METRIC_datagrams_out], 0);
    CHECK_INT(B->count, 0);
}

static void other_network(actor *self) { self->desc.network = self == A ? "p2p" : "elsewhere"; }

TEST(other_network_is_silent) {
    p2p_ticket ticket;
    world_open(2, other_network);
    listen_at(B, &LB);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_ticket_of(B->node, &ticket));
    expect_timeout(&B->id, &ticket.addrs[0]);
    CHECK_SO_FAR();
    CHECK_INT(B->count, 0);
}

TEST(nobody_listens_nobody_gets_in) {
    const seen *s;
    world_open(2, NULL);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 4 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
    CHECK_INT(B->count, 0);
}

static void closed_door(actor *self) { self->desc.allow_anyone = 0; }

TEST(listen_needs_a_say_who) {
    p2p_listen_desc desc;
    p2p_error_detail detail;
    memset(&desc, 0, sizeof desc);
    world_open(1, closed_door);
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(A->node, &desc, &LB), P2P_ERR_CONFIG);
    p2p_last_error(A->node, &detail);
    CHECK_INT(detail.err, P2P_ERR_CONFIG);
    CHECK(strstr(detail.text, "allow") != NULL);
}

TEST(listener_table_has_an_end) {
    p2p_listener more[3];
    p2p_listen_desc desc;
    memset(&desc, 0, sizeof desc);
    world_open(1, NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_listen(A->node, &desc, &more[0]));
    CHECK_DONE(p2p_listen(A->node, &desc, &more[1]));
    CHECK_INT(p2p_listen(A->node, &desc, &more[2]), P2P_ERR_LIMIT);
    CHECK_DONE(p2p_unlisten(A->node, more[0]));
    CHECK_INT(p2p_unlisten(A->node, more[0]), P2P_ERR_HANDLE);
    CHECK_INT(p2p_accept(A->node, more[0], &AB), P2P_ERR_HANDLE);
    CHECK_DONE(p2p_listen(A->node, &desc, &more[2]));
    CHECK(more[2].id != more[0].id);
}

TEST(unlisten_keeps_connections) {
    const seen *s;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_unlisten(B->node, LB));
    CHECK_DONE(p2p_send(A->node, AB, "x", 1));
    s = await(B, P2P_EVENT_MESSAGE, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 4 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
}

/* self closes, other learns code and reason at once, and both handles are dead. */
static void expect_close(actor *self, p2p_conn conn, actor *other, p2p_conn theirs) {
    uint64_t start = world_now();
    const seen *s;
    CHECK_DONE(p2p_close(self->node, conn, 4711, "enough for today"));
    s = await_conn(other, P2P_EVENT_DISCONNECTED, theirs, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.code, 4711);
    CHECK_STR(s->reason, "enough for today");
    CHECK(s->at_us - start < SECOND);
    s = await_conn(self, P2P_EVENT_DISCONNECTED, conn, 3 * SECOND);
    CHECK(s != NULL);
    CHECK(!p2p_is_connected(self->node, conn) && !p2p_is_connected(other->node, theirs));
    CHECK_INT(p2p_send(other->node, theirs, "x", 1), P2P_ERR_HANDLE);
    CHECK_INT(p2p_close(self->node, conn, 0, NULL), P2P_ERR_HANDLE);
    drive(NULL, NULL, 300 * MS);
    CHECK_INT(count_events(self, P2P_EVENT_DISCONNECTED), 1);
    CHECK_INT(count_events(other, P2P_EVENT_DISCONNECTED), 1);
}

TEST(dialler_closes) {
    world_pair(NULL);
    CHECK_SO_FAR();
    expect_close(A, AB, B, BA);
}

TEST(acceptor_closes) {
    world_pair(NULL);
    CHECK_SO_FAR();
    expect_close(B, BA, A, AB);
}

TEST(close_without_reason) {
    const seen *s;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    s = await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.code, 0);
    CHECK_STR(s->reason, "");
}

TEST(close_reason_has_a_limit) {
    char text[98];
    memset(text, 'r', sizeof text);
    text[97] = 0;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK(p2p_close(A->node, AB, 1, text) < 0);
    CHECK(p2p_is_connected(A->node, AB));
    text[96] = 0;
    CHECK_DONE(p2p_close(A->node, AB, 1, text));
    CHECK(await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND) != NULL);
    CHECK_STR(B->log[index_of(B, P2P_EVENT_DISCONNECTED)].reason, text);
}

/* A dial that is closed before it is up ends too, with one DISCONNECTED. */
TEST(close_while_dialling) {
    const seen *s;
    p2p_addr nowhere = dead_addr();
    p2p_ticket ticket;
    p2p_id id;
    world_open(1, NULL);
    CHECK_SO_FAR();
    id = stranger_id();
    ticket = ticket_at(&id, &nowhere);
    CHECK_DONE(p2p_peer_add(A->node, &ticket));
    CHECK_INT(p2p_connect(A->node, &id, NULL, &AB), 0);
    drive(NULL, NULL, 50 * MS);
    CHECK_DONE(p2p_close(A->node, AB, 1, NULL));
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, SECOND);
    CHECK(s != NULL);
    drive(NULL, NULL, 300 * MS);
    CHECK_INT(A->count, 1);
    CHECK_INT(p2p_connections(A->node, NULL, 0), 0);
}

TEST(close_delivers_what_was_sent) {
    p2p_stream s;
    static uint8_t sent[12000], got[12000];
    const seen *e;
    pattern_fill(sent, 0, sizeof sent);
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
    CHECK_INT(p2p_stream_write(A->node, s, sent, sizeof sent), (int)sizeof sent);
    CHECK_DONE(p2p_stream_finish(A->node, s));
    for (int i = 0; i < 20; i++)
        CHECK_DONE(p2p_send(A->node, AB, &i, sizeof i));
    CHECK_DONE(p2p_close(A->node, AB, 5, "done"));
    e = await(B, P2P_EVENT_STREAM, 3 * SECOND);
    CHECK(e != NULL);
    s = e->event.stream;
    for (int i = 0, n = -1; i < 20; i++) {
        int size = p2p_recv(B->node, BA, &n, sizeof n);
        for (int tries = 0; tries < 2000 && size == P2P_ERR_AGAIN; tries++) {
            world_step();
            size = p2p_recv(B->node, BA, &n, sizeof n);
        }
        CHECK_INT(size, (int)sizeof n);
        CHECK_INT(n, i);
    }
    for (size_t have = 0; have < sizeof got;) {
        int n = p2p_stream_read(B->node, s, got + have, sizeof got - have);
        CHECK(n > 0 || n == P2P_ERR_AGAIN);
        have += n > 0 ? (size_t)n : 0;
        if (n < 0)
            world_step();
        CHECK(!world.broken);
        CHECK(world_now() < e->at_us + 5 * SECOND);
    }
    CHECK_BYTES(got, sent, sizeof sent);
    e = await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.code, 5);
}

TEST(last_release_closes) {
    const seen *s;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_retain(A->node, AB));
    CHECK_DONE(p2p_release(A->node, AB));
    drive(NULL, NULL, 100 * MS);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_INT(B->count, 1);
    CHECK_DONE(p2p_release(A->node, AB));
    s = await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.code, 0);
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
    CHECK_INT(p2p_release(A->node, AB), P2P_ERR_HANDLE);
    CHECK_INT(p2p_retain(A->node, AB), P2P_ERR_HANDLE);
}

TEST(share_an_open_connection) {
    p2p_connect_desc desc;
    p2p_conn shared;
    memset(&desc, 0, sizeof desc);
    desc.share = 1;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &shared), 1);
    CHECK_INT(shared.id, AB.id);
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 1);
    CHECK_DONE(p2p_release(A->node, shared));
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_DONE(p2p_release(A->node, AB));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &shared), 0);
    CHECK(shared.id != AB.id);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, shared, 3 * SECOND) != NULL);
}

/* Zero, made up, of another node, of a former connection: always the same error. */
TEST(stale_and_foreign_conn_handles) {
    p2p_conn bad[4];
    p2p_stats stats;
    p2p_stream s;
    p2p_str alpn;
    p2p_id id;
    world_pair(NULL);
    CHECK_SO_FAR();
    bad[0] = conn_none();
    bad[1].id = 0xdeadbeefu;
    bad[2] = BA;
    bad[3] = AB;
    CHECK(AB.id != BA.id);
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(p2p_close(A->node, bad[i], 0, NULL), P2P_ERR_HANDLE);
        CHECK_INT(p2p_retain(A->node, bad[i]), P2P_ERR_HANDLE);
        CHECK_INT(p2p_release(A->node, bad[i]), P2P_ERR_HANDLE);
        CHECK_INT(p2p_send(A->node, bad[i], "x", 1), P2P_ERR_HANDLE);
        CHECK_INT(p2p_recv(A->node, bad[i], &id, sizeof id), P2P_ERR_HANDLE);
        CHECK_INT(p2p_recv_size(A->node, bad[i]), P2P_ERR_HANDLE);
        CHECK_INT(p2p_recv_ref(A->node, bad[i], &id, sizeof id), P2P_ERR_HANDLE);
        CHECK_INT(p2p_send_ref(A->node, bad[i], &id, sizeof id, &id), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_open(A->node, bad[i], NULL, &s), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_accept(A->node, bad[i], &s), P2P_ERR_HANDLE);
        CHECK_INT(p2p_datagram_send(A->node, bad[i], "x", 1), P2P_ERR_HANDLE);
        CHECK_INT(p2p_datagram_recv(A->node, bad[i], &id, sizeof id), P2P_ERR_HANDLE);
        CHECK_INT(p2p_datagram_max(A->node, bad[i]), P2P_ERR_HANDLE);
        CHECK_INT(p2p_remote_id(A->node, bad[i], &id), P2P_ERR_HANDLE);
        CHECK_INT(p2p_conn_alpn(A->node, bad[i], &alpn), P2P_ERR_HANDLE);
        CHECK_INT(p2p_conn_stats(A->node, bad[i], &stats), P2P_ERR_HANDLE);
        CHECK_INT(p2p_conn_set_user(A->node, bad[i], &id), P2P_ERR_HANDLE);
        CHECK(p2p_conn_user(A->node, bad[i]) == NULL);
        CHECK(!p2p_is_connected(A->node, bad[i]));
    }
}

TEST(ids_that_are_none) {
    p2p_id zero, small, high;
    p2p_ticket ticket;
    p2p_addr nowhere = dead_addr();
    memset(&zero, 0, sizeof zero);
    memset(&small, 0, sizeof small);
    small.bytes[0] = 1;
    memset(&high, 0xff, sizeof high);
    world_open(1, NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &A->id, NULL, &AB), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_connect(A->node, &zero, NULL, &AB), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_connect(A->node, &small, NULL, &AB), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_connect(A->node, &high, NULL, &AB), P2P_ERR_INVALID_ID);
    ticket = ticket_at(&small, &nowhere);
    CHECK_INT(p2p_peer_add(A->node, &ticket), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_connections(A->node, NULL, 0), 0);
    CHECK_INT(A->count, 0);
}

TEST(peers_are_added_and_removed) {
    p2p_addr nowhere = dead_addr();
    p2p_ticket ticket;
    p2p_id id;
    world_open(1, NULL);
    CHECK_SO_FAR();
    id = stranger_id();
    CHECK_INT(p2p_peer_remove(A->node, &id), P2P_ERR_NOT_FOUND);
    ticket = ticket_at(&id, &nowhere);
    CHECK_DONE(p2p_peer_add(A->node, &ticket));
    CHECK_DONE(p2p_peer_add(A->node, &ticket));
    CHECK_DONE(p2p_peer_remove(A->node, &id));
    CHECK_INT(p2p_peer_remove(A->node, &id), P2P_ERR_NOT_FOUND);
}

/* The newest ticket of a peer wins. */
TEST(newest_address_wins) {
    p2p_addr nowhere = dead_addr();
    p2p_ticket ticket;
    world_open(2, NULL);
    listen_at(B, &LB);
    CHECK_SO_FAR();
    ticket = ticket_at(&B->id, &nowhere);
    CHECK_DONE(p2p_peer_add(A->node, &ticket));
    dial(A, B, &AB, &BA);
}

static void one_conn(actor *self) { self->desc.max.conns = 1; }

TEST(connection_table_has_an_end) {
    p2p_conn second;
    world_pair(one_conn);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &second), P2P_ERR_LIMIT);
    CHECK_INT(node_error(A), P2P_ERR_LIMIT);
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
    CHECK(await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND) != NULL);
    dial(A, B, &second, NULL);
}

TEST(connections_per_peer_have_a_limit) {
    p2p_conn more;
    world_pair(NULL);
    CHECK_SO_FAR();
    dial(A, B, &more, NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connections(A->node, NULL, 0), 2);
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &more), P2P_ERR_LIMIT);
}

static const char *const alpn_a[] = {"jazz", "rock"};
static const char *const alpn_b[] = {"rock", "jazz", "folk"};
static const char *const alpn_c[] = {"opera"};

static void with_alpn(actor *self) {
    self->desc.alpn = self == A ? alpn_a : self == B ? alpn_b : alpn_c;
    self->desc.alpn_count = self == A ? 2 : self == B ? 3 : 1;
}

TEST(first_common_alpn_of_the_dialler) {
    p2p_connect_desc desc;
    p2p_conn other;
    p2p_str alpn;
    world_pair(with_alpn);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_conn_alpn(A->node, AB, &alpn));
    CHECK(p2p_str_equal(alpn, "jazz"));
    CHECK_DONE(p2p_conn_alpn(B->node, BA, &alpn));
    CHECK(p2p_str_equal(alpn, "jazz"));
    memset(&desc, 0, sizeof desc);
    desc.alpn = "rock";
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &other), 0);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, other, 3 * SECOND) != NULL);
    CHECK_DONE(p2p_conn_alpn(A->node, other, &alpn));
    CHECK(p2p_str_equal(alpn, "rock"));
}

TEST(no_common_alpn) {
    const seen *s;
    p2p_listener lc;
    world_open(3, with_alpn);
    listen_at(C, &lc);
    introduce(A, C);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &C->id, NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 4 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.err < 0);
    CHECK(s->event.err != P2P_ERR_AUTH);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(C->count, 0);
}

static struct { p2p_conn mine[2]; } both;

static int both_settled(void *ctx) {
    (void)ctx;
    return p2p_is_connected(A->node, both.mine[0]) && p2p_is_connected(B->node, both.mine[1]) &&
           p2p_connections(A->node, NULL, 0) == 1 && p2p_connections(B->node, NULL, 0) == 1;
}

/* Both dial at the same moment: one connection, one CONNECTED each, under each one's own handle. */
TEST(both_dial_at_once) {
    p2p_listener la;
    world_open(2, NULL);
    listen_at(A, &la);
    listen_at(B, &LB);
    introduce(A, B);
    introduce(B, A);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &both.mine[0]), 0);
    CHECK_INT(p2p_connect(B->node, &A->id, NULL, &both.mine[1]), 0);
    CHECK_DONE(p2p_send(A->node, both.mine[0], "from a", 6));
    CHECK_DONE(p2p_send(B->node, both.mine[1], "from b", 6));
    CHECK(drive(both_settled, NULL, 3 * SECOND));
    drive(NULL, NULL, SECOND);
    CHECK(both_settled(NULL));
    for (int i = 0; i < 2; i++) {
        char got[8];
        const seen *s = &actors[i].log[index_of(&actors[i], P2P_EVENT_CONNECTED)];
        CHECK_INT(count_events(&actors[i], P2P_EVENT_CONNECTED), 1);
        CHECK_INT(count_events(&actors[i], P2P_EVENT_DISCONNECTED), 0);
        CHECK_INT(s->event.conn.id, both.mine[i].id);
        CHECK_INT(s->event.incoming, 0);
        CHECK_INT(p2p_recv(actors[i].node, both.mine[i], got, sizeof got), 6);
        CHECK_BYTES(got, i ? "from a" : "from b", 6);
    }
}

static void short_idle(actor *self) {
    self->desc.time.idle_us = SECOND;
    self->desc.time.keepalive_us = P2P_NEVER;
}

TEST(silence_ends_a_connection) {
    uint64_t start;
    const seen *s;
    world_pair(short_idle);
    CHECK_SO_FAR();
    start = world_now();
    world_cut_off(B);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 5 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
    CHECK(s->at_us - start > 700 * MS);
    CHECK(s->at_us - start < 2500 * MS);
}

static void short_idle_keepalive(actor *self) {
    self->desc.time.idle_us = SECOND;
    self->desc.time.keepalive_us = 300 * MS;
}

TEST(keepalive_keeps) {
    world_pair(short_idle_keepalive);
    CHECK_SO_FAR();
    drive(NULL, NULL, 3 * SECOND);
    CHECK(p2p_is_connected(A->node, AB) && p2p_is_connected(B->node, BA));
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
}

/* The peer's idle time is below our keepalive: half of it holds, for only one side has any. */
static void idle_below_keepalive(actor *self) {
    self->desc.time.idle_us = self == A ? 60 * SECOND : SECOND;
    self->desc.time.keepalive_us = self == A ? 0 : P2P_NEVER;
}

TEST(keepalive_fits_into_the_idle_time) {
    world_pair(idle_below_keepalive);
    CHECK_SO_FAR();
    drive(NULL, NULL, 3 * SECOND);
    CHECK(p2p_is_connected(A->node, AB) && p2p_is_connected(B->node, BA));
}

/* Both sides' idle times count, the smaller holds. */
static void uneven_idle(actor *self) {
    self->desc.time.keepalive_us = P2P_NEVER;
    self->desc.time.idle_us = self == A ? 60 * SECOND : SECOND;
}

TEST(smaller_idle_time_holds) {
    const seen *s;
    world_pair(uneven_idle);
    CHECK_SO_FAR();
    world_cut_off(B);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 5 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
}

/* A cut in the middle of a transfer ends it within the idle time, however much is unacknowledged. */
TEST(silence_in_mid_transfer) {
    p2p_stream st;
    const seen *s;
    uint8_t data[4000];
    memset(data, 1, sizeof data);
    world_pair(short_idle);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &st));
    world_cut_off(B);
    CHECK_INT(p2p_stream_write(A->node, st, data, sizeof data), (int)sizeof data);
    s = await_stream(A, P2P_EVENT_CLOSED, st, 10 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.err < 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
    CHECK(index_of(A, P2P_EVENT_CLOSED) < index_of(A, P2P_EVENT_DISCONNECTED));
}

TEST(accept_in_order_of_arrival) {
    p2p_conn from_a, from_c, first, second;
    p2p_listener l;
    p2p_id id;
    world_open(3, NULL);
    listen_at(B, &l);
    CHECK_SO_FAR();
    dial(C, B, &from_c, NULL);
    dial(A, B, &from_a, NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connections(B->node, NULL, 0), 2);
    CHECK_INT(p2p_accept(B->node, l, &first), 0);
    CHECK_INT(p2p_accept(B->node, l, &second), 0);
    CHECK_INT(p2p_accept(B->node, l, &second), P2P_ERR_AGAIN);
    CHECK_DONE(p2p_remote_id(B->node, first, &id));
    CHECK(p2p_id_equal(&id, &C->id));
}

TEST(user_pointers) {
    p2p_connect_desc desc;
    p2p_listen_desc listen;
    int mine = 1, theirs = 2, other = 3;
    const seen *s;
    memset(&desc, 0, sizeof desc);
    memset(&listen, 0, sizeof listen);
    desc.user = &mine;
    listen.user = &theirs;
    world_open(2, NULL);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK(p2p_node_user(A->node) == A);
    CHECK_DONE(p2p_listen(B->node, &listen, &LB));
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &AB), 0);
    CHECK(p2p_conn_user(A->node, AB) == &mine);
    s = await(A, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL && s->event.user == &mine);
    s = await(B, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL && s->event.user == &theirs);
    CHECK_DONE(p2p_conn_set_user(B->node, s->event.conn, &other));
    CHECK(p2p_conn_user(B->node, s->event.conn) == &other);
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    s = await(B, P2P_EVENT_DISCONNECTED, 3 * SECOND);
    CHECK(s != NULL && s->event.user == &other);
}

TEST(stats_count) {
    p2p_stats a, b;
    char got[8];
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_send(A->node, AB, "12345", 5));
    CHECK(await(B, P2P_EVENT_MESSAGE, 3 * SECOND) != NULL);
    CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), 5);
    drive(NULL, NULL, 300 * MS);
    CHECK_DONE(p2p_conn_stats(A->node, AB, &a));
    CHECK_DONE(p2p_conn_stats(B->node, BA, &b));
    CHECK_INT(a.messages_sent, 1);
    CHECK_INT(a.messages_received, 0);
    CHECK_INT(b.messages_received, 1);
    CHECK(a.bytes_sent >= 5 && b.bytes_received >= 5);
    CHECK(a.packets_sent > 0 && b.packets_received > 0);
    CHECK(a.packets_sent >= b.packets_received);
    CHECK(a.rtt_us > 0 && a.rtt_us < SECOND);
    CHECK(a.rtt_min_us <= a.rtt_us);
    if (WORLD_SIM)
        CHECK(a.rtt_min_us >= 2 * world.link.latency_us);
    if (WORLD_SIM) /* elsewhere the node's clock is of its last turn, and the machine may be busy */
        CHECK(a.duration_us >= 250 * MS);
    CHECK(a.duration_us > 0);
    CHECK(a.mtu >= 1000);
    CHECK(a.remote.port != 0);
    CHECK_INT(a.relayed, 0);
    CHECK(a.window_bytes >= 2 * a.mtu);
    CHECK(a.pacing_rate > 0);
    CHECK_INT(a.in_flight_bytes, 0); /* all is acknowledged by now */
    CHECK_DONE(p2p_send(A->node, AB, "6", 1));
    drive(NULL, NULL, WORLD_SIM ? world.link.latency_us / 2 : 0);
    CHECK_DONE(p2p_conn_stats(A->node, AB, &a));
    if (WORLD_SIM)
        CHECK(a.in_flight_bytes > 0 && a.in_flight_bytes <= a.window_bytes);
}

/* Connections come and go, and leave nothing behind. */
TEST(many_connections_leave_nothing) {
    p2p_metrics before, after;
    world_open(2, NULL);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    p2p_metrics_get(A->node, &before);
    for (int i = 0; i < 40; i++) {
        p2p_stream s;
        CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
        CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
        CHECK_INT(p2p_stream_write(A->node, s, "hello", 5), 5);
        CHECK(await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
        CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
        CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
        CHECK(await(B, P2P_EVENT_DISCONNECTED, 3 * SECOND) != NULL);
    }
    drive(NULL, NULL, SECOND);
    p2p_metrics_get(A->node, &after);
    CHECK_INT(after.value[P2P_METRIC_conns_open], 0);
    CHECK_INT(after.value[P2P_METRIC_sessions_open], 0);
    CHECK_INT(after.value[P2P_METRIC_streams_open], 0);
    CHECK_INT(after.value[P2P_METRIC_arena_used_bytes], before.value[P2P_METRIC_arena_used_bytes]);
    p2p_metrics_get(B->node, &after);
    CHECK_INT(after.value[P2P_METRIC_conns_open], 0);
    CHECK_INT(after.value[P2P_METRIC_sessions_open], 0);
    CHECK_INT(after.value[P2P_METRIC_streams_open], 0);
}

#define CASES_CONN(X)                           \
    X(connect_and_accept)                       \
    X(queued_before_connected)                  \
    X(allow_hook_lets_in)                       \
    X(allow_hook_refuses_by_name)               \
    X(allow_hook_refuses_an_address_in_silence) \
    X(unknown_address_times_out)                \
    X(no_address_times_out)                     \
    X(wrong_key_is_silent)                      \
    X(other_network_is_silent)                  \
    X(nobody_listens_nobody_gets_in)            \
    X(listen_needs_a_say_who)                   \
    X(listener_table_has_an_end)                \
    X(unlisten_keeps_connections)               \
    X(dialler_closes)                           \
    X(acceptor_closes)                          \
    X(close_without_reason)                     \
    X(close_reason_has_a_limit)                 \
    X(close_while_dialling)                     \
    X(close_delivers_what_was_sent)             \
    X(last_release_closes)                      \
    X(share_an_open_connection)                 \
    X(stale_and_foreign_conn_handles)           \
    X(ids_that_are_none)                        \
    X(peers_are_added_and_removed)              \
    X(newest_address_wins)                      \
    X(connection_table_has_an_end)              \
    X(connections_per_peer_have_a_limit)        \
    X(first_common_alpn_of_the_dialler)         \
    X(no_common_alpn)                           \
    X(both_dial_at_once)                        \
    X(silence_ends_a_connection)                \
    X(keepalive_keeps)                          \
    X(keepalive_fits_into_the_idle_time)        \
    X(smaller_idle_time_holds)                  \
    X(silence_in_mid_transfer)                  \
    X(accept_in_order_of_arrival)               \
    X(user_pointers)                            \
    X(stats_count)                              \
    X(many_connections_leave_nothing)
