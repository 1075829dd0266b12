/* The life of a connection across breaks: handles that come back, and what becomes of that which was
 * under way; who shares a connection; how many there may be. */

/* A dials B again and again: small idle times, so that a cut is noticed soon. */
static void life_desc(actor *self) {
    self->desc.time.idle_us = SECOND;
    self->desc.time.keepalive_us = 200 * MS;
}

static p2p_connect_desc life_asks(void) {
    p2p_connect_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.reconnect = 1;
    return desc;
}

/* A has dialled B, with .reconnect; both see it. */
static void life_dial(void) {
    p2p_connect_desc desc = life_asks();
    const seen *s;
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &AB), 0);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
    s = await(B, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL);
    BA = s->event.conn;
}

static void life_begin(world_tweak tweak) {
    world_open(2, tweak ? tweak : life_desc);
    CHECK_SO_FAR();
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    life_dial();
}

/* The handle is up again, and B has a new one. */
static void life_again(uint64_t limit_us) {
    const seen *s;
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, limit_us) != NULL);
    CHECK(p2p_is_connected(A->node, AB));
    s = await(B, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.conn.id != BA.id);
    BA = s->event.conn;
}

static int a_lost_b(void *ctx) {
    (void)ctx;
    return !p2p_is_connected(A->node, AB);
}

/* Sends number n as a message of 100 bytes from A. */
static int life_send(uint32_t n) {
    uint8_t data[100];
    pattern_fill(data, n, sizeof data);
    memcpy(data, &n, sizeof n);
    return p2p_send(A->node, AB, data, sizeof data);
}

/* The number of the next message at B, or -1. */
static int life_next(void) {
    uint8_t data[100];
    uint32_t n;
    int size = p2p_recv(B->node, BA, data, sizeof data);
    if (size < 0)
        return -1;
    memcpy(&n, data, sizeof n);
    return size == (int)sizeof data && pattern_is(data + 4, n + 4u, sizeof data - 4) ? (int)n : -2;
}

static uint64_t metric(actor *self, uint32_t which) {
    p2p_metrics m;
    p2p_metrics_get(self->node, &m);
    return m.value[which];
}

enum { LIFE_ROUNDS = WORLD_SIM ? 3 : 1 }; /* real time is dear */

/* Bytes of the arena in use at A, at a moment when no packet is. */
static uint64_t life_bytes(void) {
    for (int tries = 0; tries < 1000 && metric(A, P2P_METRIC_in_flight); tries++)
        world_step();
    return metric(A, P2P_METRIC_arena_used_bytes);
}

/* ---- breaks ---- */

TEST(handle_outlives_a_close_of_the_peer) {
    p2p_stream mine, theirs;
    const seen *s;
    life_begin(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &mine));
    CHECK_DONE(p2p_stream_write(A->node, mine, "hello", 5));
    CHECK(await(B, P2P_EVENT_STREAM, SECOND) != NULL);
    CHECK_DONE(p2p_close(B->node, BA, 77, "back soon"));
    s = await_stream(A, P2P_EVENT_CLOSED, mine, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_CLOSED);
    CHECK_INT(s->event.conn.id, AB.id);
    CHECK(!p2p_is_connected(A->node, AB));
    CHECK_INT(p2p_stream_write(A->node, mine, "x", 1), P2P_ERR_HANDLE);
    life_again(SECOND);
    CHECK_SO_FAR();
    s = &A->log[index_of(A, P2P_EVENT_RECONNECTED)];
    CHECK_INT(s->event.err, P2P_OK);
    CHECK_INT(s->event.code, 77);
    CHECK_STR(s->reason, "back soon");
    CHECK_INT(s->event.size, 0);
    CHECK(p2p_id_equal(&s->event.peer, &B->id));
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 1);
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
    CHECK_INT(count_events(B, P2P_EVENT_DISCONNECTED), 1);
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &theirs)); /* as if nothing had been */
    CHECK(theirs.id != mine.id);
    CHECK_DONE(p2p_stream_write(A->node, theirs, "again", 5));
    s = await(B, P2P_EVENT_STREAM, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.conn.id, BA.id);
    CHECK_INT(metric(A, P2P_METRIC_conns_broken), 1);
}

static int a_has_b(void *ctx) {
    (void)ctx;
    return p2p_is_connected(A->node, AB);
}

/* Who looks at events late is told in order all the same: the ends, then the new beginning. */
TEST(closed_comes_before_reconnected) {
    p2p_stream mine[2];
    life_begin(NULL);
    CHECK_SO_FAR();
    for (int i = 0; i < 2; i++) {
        CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &mine[i]));
        CHECK_DONE(p2p_stream_write(A->node, mine[i], "hello", 5));
    }
    drive(NULL, NULL, 100 * MS);
    A->deaf = 1;
    CHECK_DONE(p2p_send(B->node, BA, "before", 6)); /* the connection is first in the list */
    drive(NULL, NULL, 100 * MS);
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    CHECK(drive(a_lost_b, NULL, SECOND));
    CHECK(drive(a_has_b, NULL, SECOND));
    A->deaf = 0;
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(count_events(A, P2P_EVENT_CLOSED), 2);
    CHECK_INT(count_events(A, P2P_EVENT_RECONNECTED), 1);
    CHECK(find_event(A, P2P_EVENT_CLOSED, AB, mine[0]) <
          find_event(A, P2P_EVENT_RECONNECTED, AB, stream_none()));
    CHECK(find_event(A, P2P_EVENT_CLOSED, AB, mine[1]) <
          find_event(A, P2P_EVENT_RECONNECTED, AB, stream_none()));
}

/* Cut off, long enough that both sides give up, then joined. */
TEST(handle_outlives_a_cut) {
    life_begin(NULL);
    CHECK_SO_FAR();
    world_cut_off(B);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    drive(NULL, NULL, 3 * SECOND);
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
    CHECK(!p2p_is_connected(A->node, AB));
    world_join(B);
    life_again(20 * SECOND);
}

TEST(handle_outlives_a_restart_of_the_peer) {
    life_begin(NULL);
    for (int i = 0; i < LIFE_ROUNDS; i++) {
        char got[8];
        CHECK_SO_FAR();
        world_crash(B);
        CHECK(drive(a_lost_b, NULL, 5 * SECOND));
        world_restart(B);
        CHECK_SO_FAR();
        listen_at(B, &LB);
        BA = conn_none();
        life_again(20 * SECOND);
        CHECK_SO_FAR();
        CHECK_DONE(p2p_send(A->node, AB, "news", 4));
        CHECK(await_conn(B, P2P_EVENT_MESSAGE, BA, SECOND) != NULL);
        CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), 4);
        CHECK_DONE(p2p_send(B->node, BA, "yes", 3));
        CHECK(await_conn(A, P2P_EVENT_MESSAGE, AB, SECOND) != NULL);
        CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), 3);
    }
    CHECK_SO_FAR();
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
}

/* Both ends dial at once, and one connection comes out. */
static void both_dial(world_tweak tweak) {
    p2p_connect_desc desc = life_asks();
    p2p_listener la;
    world_open(2, tweak);
    CHECK_SO_FAR();
    listen_at(A, &la);
    listen_at(B, &LB);
    introduce(A, B);
    introduce(B, A);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &both.mine[0]), 0);
    CHECK_INT(p2p_connect(B->node, &A->id, &desc, &both.mine[1]), 0);
    CHECK(drive(both_settled, NULL, 3 * SECOND));
}

/* Both ends dialled at once, and both want to come back: one connection comes out again. */
TEST(both_ends_come_back) {
    both_dial(life_desc);
    CHECK_SO_FAR();
    for (int i = 0; i < LIFE_ROUNDS; i++) {
        int had[2];
        for (int j = 0; j < 2; j++)
            had[j] = count_events(&actors[j], P2P_EVENT_RECONNECTED);
        world_cut_off(B);
        drive(NULL, NULL, 2 * SECOND);
        world_join(B);
        CHECK(drive(both_settled, NULL, 20 * SECOND));
        drive(NULL, NULL, SECOND);
        CHECK(both_settled(NULL));
        for (int j = 0; j < 2; j++) {
            CHECK_INT(count_events(&actors[j], P2P_EVENT_RECONNECTED), had[j] + 1);
            CHECK_INT(count_events(&actors[j], P2P_EVENT_DISCONNECTED), 0);
        }
    }
}

/* ---- what was under way ---- */

static void life_small(actor *self) {
    life_desc(self);
    self->desc.bytes.message_send = 1000;
    self->desc.max.conns = 1; /* the old session gives its place to the new one */
}

/* Messages of before the break, which B has; of the outage, which wait; and room that is told. */
TEST(messages_wait_for_the_next_session) {
    uint32_t sent = 0;
    int n;
    life_begin(life_small);
    CHECK_SO_FAR();
    for (; sent < 3; sent++)
        CHECK_INT(life_send(sent), 100);
    CHECK(await_conn(B, P2P_EVENT_MESSAGE, BA, SECOND) != NULL);
    drive(NULL, NULL, 200 * MS);
    for (int i = 0; i < 3; i++)
        CHECK_INT(life_next(), i);
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    CHECK(drive(a_lost_b, NULL, SECOND));
    CHECK_INT(p2p_send(A->node, AB, NULL, 1000), P2P_ERR_ARG);
    while ((n = life_send(sent)) == 100)
        sent++;
    CHECK_INT(n, P2P_ERR_AGAIN);
    CHECK(sent >= 3 + 9);
    life_again(SECOND);
    CHECK_SO_FAR();
    CHECK(await_conn(A, P2P_EVENT_WRITABLE, AB, SECOND) != NULL);
    CHECK_INT(life_send(sent), 100);
    drive(NULL, NULL, 200 * MS);
    for (uint32_t i = 3; i <= sent; i++)
        CHECK_INT(life_next(), (int)i);
    CHECK_INT(life_next(), -1);
    CHECK_INT(A->log[index_of(A, P2P_EVENT_RECONNECTED)].event.size, 0);
}

/* Sent whole and never acknowledged: nobody can know, so they are not said twice, and counted. */
TEST(messages_in_doubt_are_not_repeated) {
    const seen *s;
    life_begin(NULL);
    CHECK_SO_FAR();
    drive(NULL, NULL, 100 * MS);
    world_cut_off(B);
    for (uint32_t i = 0; i < 5; i++)
        CHECK_INT(life_send(i), 100);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    for (uint32_t i = 5; i < 8; i++)
        CHECK_INT(life_send(i), 100);
    world_join(B);
    life_again(20 * SECOND);
    CHECK_SO_FAR();
    s = &A->log[index_of(A, P2P_EVENT_RECONNECTED)];
    CHECK_INT(s->event.size, 5);
    drive(NULL, NULL, 200 * MS);
    for (int i = 5; i < 8; i++)
        CHECK_INT(life_next(), i);
    CHECK_INT(life_next(), -1);
}

/* A dials, and its program does not look. */
static void dial_deaf(world_tweak tweak) {
    p2p_connect_desc desc = life_asks();
    world_open(2, tweak);
    CHECK_SO_FAR();
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    A->deaf = 1;
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &AB), 0);
}

/* A break before the program looked for the first time hides no doubt: CONNECTED, then how many. */
TEST(doubt_of_before_connected_is_told) {
    dial_deaf(life_desc);
    CHECK_SO_FAR();
    CHECK(drive(a_has_b, NULL, 3 * SECOND));
    drive(NULL, NULL, 100 * MS);
    world_cut_off(B);
    for (uint32_t i = 0; i < 5; i++)
        CHECK_INT(life_send(i), 100);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    world_join(B);
    CHECK(drive(a_has_b, NULL, 20 * SECOND));
    A->deaf = 0;
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 1);
    CHECK_INT(count_events(A, P2P_EVENT_RECONNECTED), 1);
    CHECK(index_of(A, P2P_EVENT_CONNECTED) < index_of(A, P2P_EVENT_RECONNECTED));
    CHECK_INT(A->log[index_of(A, P2P_EVENT_RECONNECTED)].event.size, 5);
}

/* What is given up at the break makes room, and that is told at once. */
TEST(room_comes_with_the_break) {
    uint32_t n = 0;
    life_begin(life_small);
    CHECK_SO_FAR();
    drive(NULL, NULL, 100 * MS);
    world_cut_off(B);
    while (life_send(n) == 100) {
        n++;
        drive(NULL, NULL, 5 * MS); /* so that it is sent, too */
    }
    CHECK(n >= 9);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    CHECK(await_conn(A, P2P_EVENT_WRITABLE, AB, 100 * MS) != NULL);
    CHECK_INT(life_send(n), 100);
}

#if WORLD_SIM
/* The same doubt, and this time they had arrived: each once all the same. */
TEST(messages_that_arrived_in_doubt_come_once) {
    int got = 0;
    life_begin(NULL);
    CHECK_SO_FAR();
    drive(NULL, NULL, 100 * MS);
    world_cut_way(B, A, 1);
    for (uint32_t i = 0; i < 5; i++)
        CHECK_INT(life_send(i), 100);
    CHECK(await_conn(B, P2P_EVENT_MESSAGE, BA, SECOND) != NULL);
    drive(NULL, NULL, 100 * MS);
    while (life_next() == got)
        got++;
    CHECK_INT(got, 5);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    CHECK_INT(life_send(5), 100);
    world_cut_way(B, A, 0);
    life_again(20 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(A->log[index_of(A, P2P_EVENT_RECONNECTED)].event.size, 5);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(life_next(), 5);
    CHECK_INT(life_next(), -1);
}

static void life_slow(void) {
    memset(&world.link, 0, sizeof world.link);
    world.link.latency_us = 10 * MS;
    world.link.rate_bps = 400000;
}

/* Half of a message had arrived, and was acknowledged, when the line went: that half is given up
 * there, and all of it comes again. */
TEST(message_cut_in_two_comes_whole) {
    static uint8_t data[40000], got[40000];
    uint32_t n = 1;
    pattern_fill(data, 0, sizeof data);
    life_slow();
    life_begin(NULL);
    memset(&world.link, 0, sizeof world.link);
    CHECK_SO_FAR();
    CHECK_INT(p2p_send(A->node, AB, &n, sizeof n), (int)sizeof n);
    CHECK_INT(p2p_send(A->node, AB, data, sizeof data), (int)sizeof data);
    CHECK_INT(p2p_send(A->node, AB, "end", 3), 3);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), (int)sizeof n);
    CHECK_INT(p2p_recv_size(B->node, BA), (int)sizeof data); /* its head is there */
    CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), P2P_ERR_AGAIN);
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    life_again(5 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(A->log[index_of(A, P2P_EVENT_RECONNECTED)].event.size, 0);
    CHECK(await_conn(B, P2P_EVENT_MESSAGE, BA, 5 * SECOND) != NULL);
    drive(NULL, NULL, SECOND);
    CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), (int)sizeof data);
    CHECK_BYTES(got, data, sizeof data);
    CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), 3);
    CHECK_INT(p2p_recv(B->node, BA, got, sizeof got), P2P_ERR_AGAIN);
}

/* Memory that was lent comes back: with the message whole after all, or with the news that nobody
 * knows. */
TEST(lent_messages_across_a_break) {
    static uint8_t big[300000], lent[300000];
    const seen *s;
    pattern_fill(big, 0, sizeof big);
    life_slow();
    life_begin(NULL);
    memset(&world.link, 0, sizeof world.link);
    CHECK_SO_FAR();
    CHECK_INT(p2p_send_ref(A->node, AB, big, sizeof big, big), (int)sizeof big);
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TOO_LARGE);
    CHECK_INT(p2p_recv_ref(B->node, BA, lent, sizeof lent), (int)sizeof big);
    drive(NULL, NULL, SECOND);
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    life_again(5 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(count_events(A, P2P_EVENT_SENT), 0);
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(p2p_recv_ref(B->node, BA, lent, sizeof lent), (int)sizeof big);
    s = await_conn(A, P2P_EVENT_SENT, AB, 20 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    CHECK(s->event.user == big);
    CHECK_BYTES(lent, big, sizeof big);
}

/* What a message broke off in takes nothing of the next session, however late that is told. */
TEST(lent_memory_of_before_the_break) {
    static uint8_t big[300000], lent[300000];
    const seen *s;
    p2p_event e;
    char got[8];
    life_slow();
    life_begin(NULL);
    memset(&world.link, 0, sizeof world.link);
    CHECK_SO_FAR();
    CHECK_INT(p2p_send_ref(B->node, BA, big, sizeof big, big), (int)sizeof big);
    CHECK(await_conn(A, P2P_EVENT_MESSAGE, AB, SECOND) != NULL);
    CHECK_INT(p2p_recv_ref(A->node, AB, lent, sizeof lent), (int)sizeof big);
    drive(NULL, NULL, SECOND);
    A->deaf = 1;
    world_cut_off(B);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    world_join(B);
    s = await(B, P2P_EVENT_CONNECTED, 20 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(p2p_send(B->node, s->event.conn, "new", 3), 3);
    drive(NULL, NULL, SECOND);
    while (p2p_next_event(A->node, &e) == 1 && e.type != P2P_EVENT_MESSAGE)
        continue;
    CHECK_INT(e.type, P2P_EVENT_MESSAGE);
    CHECK_INT(e.err, P2P_ERR_CLOSED);
    CHECK(e.user == lent);
    CHECK(e.size > 0 && e.size < sizeof big);
    CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), 3);
    CHECK_BYTES(got, "new", 3);
}
#endif

TEST(lent_message_in_doubt_ends_with_an_error) {
    static uint8_t data[500];
    const seen *s;
    life_begin(NULL);
    CHECK_SO_FAR();
    drive(NULL, NULL, 100 * MS);
    world_cut_off(B);
    CHECK_INT(life_send(0), 100);
    CHECK_INT(p2p_send_ref(A->node, AB, data, sizeof data, data), (int)sizeof data);
    s = await_conn(A, P2P_EVENT_SENT, AB, 5 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_CLOSED);
    CHECK(s->event.user == data);
    CHECK_INT(p2p_send_ref(A->node, AB, data, sizeof data, (void *)&AB), (int)sizeof data);
    world_join(B);
    life_again(20 * SECOND);
    CHECK_SO_FAR();
    CHECK_INT(A->log[index_of(A, P2P_EVENT_RECONNECTED)].event.size, 2);
    s = await_conn(A, P2P_EVENT_SENT, AB, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    CHECK(s->event.user == (void *)&AB);
}

/* What came before the break is still there to be read: whole messages, and a stream to its end. */
TEST(unread_outlives_the_break) {
    p2p_stream theirs, whole, cut;
    char got[40];
    const seen *s;
    life_begin(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(B->node, BA, NULL, &theirs));
    CHECK_DONE(p2p_stream_write(B->node, theirs, "a whole one", 11));
    CHECK_DONE(p2p_stream_finish(B->node, theirs));
    s = await(A, P2P_EVENT_STREAM, SECOND);
    CHECK(s != NULL);
    whole = s->event.stream;
    CHECK_DONE(p2p_stream_finish(A->node, whole));
    CHECK_DONE(p2p_stream_open(B->node, BA, NULL, &theirs));
    CHECK_DONE(p2p_stream_write(B->node, theirs, "never to end", 12));
    s = await(A, P2P_EVENT_STREAM, SECOND);
    CHECK(s != NULL);
    cut = s->event.stream;
    for (int i = 0; i < 3; i++)
        CHECK_DONE(p2p_send(B->node, BA, "of before", 9));
    drive(NULL, NULL, 200 * MS);
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    s = await_stream(A, P2P_EVENT_CLOSED, cut, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_CLOSED);
    life_again(SECOND);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_send(B->node, BA, "after", 5));
    CHECK_DONE(p2p_stream_open(B->node, BA, NULL, &theirs));
    CHECK_DONE(p2p_stream_write(B->node, theirs, "another", 7));
    s = await(A, P2P_EVENT_STREAM, SECOND);
    CHECK(s != NULL);
    CHECK_INT(p2p_stream_read(A->node, s->event.stream, got, sizeof got), 7);
    CHECK_INT(p2p_stream_read(A->node, whole, got, sizeof got), 11);
    CHECK_INT(p2p_stream_read(A->node, whole, got, sizeof got), 0);
    CHECK(await_stream(A, P2P_EVENT_CLOSED, whole, SECOND) != NULL);
    for (int i = 0; i < 3; i++)
        CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), 9);
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), 5);
    CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), P2P_ERR_AGAIN);
}

/* A full mailbox that nobody empties keeps its messages, and those of the next session wait behind
 * them. */
static void life_tiny(actor *self) {
    life_desc(self);
    self->desc.bytes.message_recv = 1000;
}

TEST(full_mailbox_outlives_the_break) {
    uint32_t sent = 0, got = 0;
    uint8_t data[100];
    life_begin(life_tiny);
    CHECK_SO_FAR();
    for (int round = 0; round < LIFE_ROUNDS; round++) {
        for (int i = 0; i < 20; i++, sent++) {
            memset(data, (int)sent, sizeof data);
            CHECK_INT(p2p_send(B->node, BA, data, sizeof data), 100);
        }
        drive(NULL, NULL, 300 * MS);
        for (int i = 0; i < 4; i++, got++) {
            CHECK_INT(p2p_recv(A->node, AB, data, sizeof data), 100);
            CHECK_INT(data[99], (uint8_t)got);
        }
        drive(NULL, NULL, 300 * MS);
        CHECK_DONE(p2p_close(B->node, BA, 0, NULL)); /* what is left over there is lost there */
        sent = got;
        life_again(6 * SECOND);
        CHECK_SO_FAR();
        for (int size; (size = p2p_recv(A->node, AB, data, sizeof data)) >= 0; sent++)
            CHECK_INT(data[99], (uint8_t)sent);
        got = sent;
    }
    CHECK_INT(metric(A, P2P_METRIC_holes_full), 0); /* B was offered what there was room for */
}

#if WORLD_SIM
/* The same at who is dialled back: it offered all its room before it knew to whom. What does not
 * fit is not acknowledged, and comes again. */
TEST(full_mailbox_is_dialled_back) {
    uint32_t got = 0;
    uint8_t data[100];
    p2p_ticket own;
    int last = -1;
    both_dial(life_tiny);
    CHECK_SO_FAR();
    for (int i = 0; i < 40; i++) {
        memset(data, i, sizeof data);
        CHECK_INT(p2p_send(B->node, both.mine[1], data, sizeof data), 100);
    }
    drive(NULL, NULL, 300 * MS);
    world_cut_off(B);
    drive(NULL, NULL, 60 * SECOND);
    world_join(B);
    CHECK_DONE(p2p_ticket_of(B->node, &own));
    CHECK_DONE(p2p_network_changed(B->node, world_now(), own.addrs, own.addr_count));
    CHECK(await(A, P2P_EVENT_RECONNECTED, 5 * SECOND) != NULL);
    CHECK(await(B, P2P_EVENT_RECONNECTED, SECOND) != NULL);
    drive(NULL, NULL, SECOND);
    if (!WORLD_DTLS) /* where the keys say that A is the one who gives in */
        CHECK(metric(A, P2P_METRIC_holes_full) > 0);
    for (int tries = 0; tries < 300; tries++) {
        for (; p2p_recv(A->node, both.mine[0], data, sizeof data) == 100; got++) {
            CHECK(data[0] == data[99] && (int)data[0] > last);
            last = data[0];
        }
        drive(NULL, NULL, 20 * MS);
    }
    CHECK_INT(got, 40 - B->log[index_of(B, P2P_EVENT_RECONNECTED)].event.size);
    CHECK_INT(last, 39);
}
#endif

/* A request that waits for its answer gets an error in its place. */
TEST(requests_end_with_the_session) {
    p2p_request_desc ask;
    p2p_stream s;
    const seen *e;
    memset(&ask, 0, sizeof ask);
    ask.path = "/never";
    life_begin(NULL);
    CHECK_SO_FAR();
    world_cut_off(B);
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 5 * SECOND);
    CHECK(e != NULL);
    CHECK(e->event.err < 0);
    world_join(B);
    life_again(20 * SECOND);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 5 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.status, 404);
}

static void life_datagrams(actor *self) {
    life_desc(self);
    self->desc.max.datagrams_out = 100;
}

TEST(datagrams_are_dropped_at_the_break) {
    static uint8_t data[1000];
    p2p_stats stats;
    char got[8];
    life_begin(life_datagrams);
    CHECK_SO_FAR();
    world_cut_off(B);
    for (int i = 0; i < 100; i++) /* more than the window lets out */
        CHECK_DONE(p2p_datagram_send(A->node, AB, data, sizeof data));
    drive(NULL, NULL, 100 * MS);
    CHECK_DONE(p2p_conn_stats(A->node, AB, &stats));
    CHECK_INT(stats.datagrams_dropped, 0);
    CHECK(stats.datagrams_sent < 90);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    CHECK_DONE(p2p_conn_stats(A->node, AB, &stats));
    CHECK_INT(stats.datagrams_dropped + stats.datagrams_sent, 100);
    CHECK(stats.datagrams_dropped > 0);
    CHECK_DONE(p2p_datagram_send(A->node, AB, "new", 3));
    world_join(B);
    life_again(20 * SECOND);
    CHECK_SO_FAR();
    CHECK(await_conn(B, P2P_EVENT_DATAGRAM, BA, SECOND) != NULL);
    CHECK_INT(p2p_datagram_recv(B->node, BA, got, sizeof got), 3);
}

/* ---- how it ends ---- */

TEST(close_ends_a_handle_in_its_outage) {
    const seen *s;
    life_begin(NULL);
    CHECK_SO_FAR();
    world_cut_off(B);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    CHECK_DONE(p2p_close(A->node, AB, 3, "enough"));
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_OK);
    world_join(B);
    drive(NULL, NULL, 2 * SECOND);
    CHECK_INT(count_events(A, P2P_EVENT_RECONNECTED), 0);
    CHECK_INT(p2p_connections(A->node, NULL, 0), 0);
}

TEST(stop_ends_a_handle_in_its_outage) {
    life_begin(NULL);
    CHECK_SO_FAR();
    world_cut_off(B);
    CHECK(drive(a_lost_b, NULL, 5 * SECOND));
    CHECK_INT(p2p_node_stop(A->node, 9), 0);
    CHECK(await(A, P2P_EVENT_STOPPED, 2 * SECOND) != NULL);
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 1);
    CHECK(index_of(A, P2P_EVENT_DISCONNECTED) < index_of(A, P2P_EVENT_STOPPED));
}

/* A stream of before the break that is still to be read owes nobody anything. */
TEST(close_owes_nothing_to_the_past) {
    static uint8_t data[16384];
    p2p_stream mine, theirs;
    const seen *s;
    uint64_t start;
    life_begin(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &mine));
    CHECK_DONE(p2p_stream_write(A->node, mine, "ask", 3));
    s = await(B, P2P_EVENT_STREAM, SECOND);
    CHECK(s != NULL);
    theirs = s->event.stream;
    CHECK_DONE(p2p_stream_write(B->node, theirs, "answer", 6));
    CHECK_DONE(p2p_stream_finish(B->node, theirs));
    CHECK(await_stream(A, P2P_EVENT_READABLE, mine, SECOND) != NULL);
    for (int i = 0; i < 10; i++) { /* B does not read it */
        (void)p2p_stream_write(A->node, mine, data, sizeof data);
        drive(NULL, NULL, 20 * MS);
    }
    (void)p2p_close(B->node, BA, 0, NULL);
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, 5 * SECOND) != NULL);
    start = world_now();
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 5 * SECOND) != NULL);
    CHECK(world_now() - start < SECOND);
}

static void life_gate(actor *self) {
    life_desc(self);
    self->desc.allow_anyone = 0;
    self->desc.allow.fn = gate_keeper;
}

TEST(refusal_is_for_good) {
    const seen *s;
    gate_answers(1, 1);
    life_begin(life_gate);
    CHECK_SO_FAR();
    gate_answers(1, 0);
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_REFUSED);
    CHECK_INT(p2p_send(A->node, AB, "x", 1), P2P_ERR_HANDLE);
}

/* Up, broken and refused before the program looked: it hears of both ends of that. */
TEST(connected_is_told_of_what_is_over) {
    const seen *s;
    gate_answers(1, 1);
    dial_deaf(life_gate);
    CHECK_SO_FAR();
    s = await(B, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL);
    CHECK(drive(a_has_b, NULL, SECOND));
    gate_answers(1, 0);
    CHECK_DONE(p2p_close(B->node, s->event.conn, 0, NULL));
    CHECK(drive(a_lost_b, NULL, SECOND));
    drive(NULL, NULL, 3 * SECOND); /* dialled again, and refused */
    A->deaf = 0;
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_REFUSED);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 1);
    CHECK(index_of(A, P2P_EVENT_CONNECTED) < index_of(A, P2P_EVENT_DISCONNECTED));
}

static void life_one(actor *self) {
    life_desc(self);
    self->desc.max.conns = self == B ? 1 : 8;
}

/* The peer's table is full when the handle comes back: that passes. */
TEST(full_peer_is_asked_again) {
    p2p_conn cb;
    world_open(3, life_one);
    CHECK_SO_FAR();
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    life_dial();
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    CHECK(drive(a_lost_b, NULL, SECOND));
    world_cut_off(A);
    drive(NULL, NULL, 100 * MS);
    dial(C, B, &cb, NULL);
    CHECK_SO_FAR();
    world_join(A);
    drive(NULL, NULL, 5 * SECOND);
    CHECK(!p2p_is_connected(A->node, AB));
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
    CHECK_DONE(p2p_close(C->node, cb, 0, NULL));
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, 40 * SECOND) != NULL);
}

/* The first connect has its deadline, with .reconnect as without. */
TEST(first_connect_still_times_out) {
    p2p_connect_desc desc = life_asks();
    p2p_addr nowhere = dead_addr();
    p2p_ticket ticket;
    const seen *s;
    p2p_id id;
    desc.timeout_us = 300 * MS;
    world_open(1, life_desc);
    CHECK_SO_FAR();
    id = stranger_id();
    ticket = ticket_at(&id, &nowhere);
    CHECK_DONE(p2p_peer_add(A->node, &ticket));
    CHECK_INT(p2p_connect(A->node, &id, &desc, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TIMEOUT);
}

/* ---- waiting ---- */

#if WORLD_SIM
static struct { int closes; } shut;

static void close_at_once(actor *self, const p2p_event *e) {
    if (e->type != P2P_EVENT_CONNECTED)
        return;
    (void)p2p_close(self->node, e->conn, 0, NULL);
    shut.closes++;
}

/* A peer that lets in and closes at once is dialled ever more rarely: 0.1 + 0.2 + 0.4 + ... */
TEST(waits_grow_with_each_setback) {
    memset(&shut, 0, sizeof shut);
    life_begin(NULL);
    CHECK_SO_FAR();
    B->on_event = close_at_once;
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    drive(NULL, NULL, 60 * SECOND);
    CHECK(shut.closes >= 7);
    CHECK(shut.closes <= 10);
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
}

/* p2p_deadline is the next dial, and nothing happens before. */
TEST(deadline_names_the_next_dial) {
    uint64_t at;
    life_begin(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    CHECK(drive(a_lost_b, NULL, SECOND));
    drive(NULL, NULL, 20 * MS);
    at = p2p_deadline(A->node);
    CHECK(at > world_now());
    CHECK(at < world_now() + 130 * MS);
    CHECK_INT(metric(A, P2P_METRIC_handshakes_started), 1);
    drive(NULL, NULL, at - world_now() + 2 * MS);
    CHECK_INT(metric(A, P2P_METRIC_handshakes_started), 2);
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, SECOND) != NULL);
}

/* Another network: no reason to wait any longer. */
TEST(network_change_dials_at_once) {
    p2p_ticket own;
    uint64_t at;
    life_begin(NULL);
    CHECK_SO_FAR();
    world_cut_off(B);
    drive(NULL, NULL, 100 * SECOND);
    world_join(B);
    while ((at = p2p_deadline(A->node)) < world_now() + 6 * SECOND && !world.broken)
        world_step();
    at = world_now();
    CHECK_DONE(p2p_ticket_of(A->node, &own));
    CHECK_DONE(p2p_network_changed(A->node, at, own.addrs, own.addr_count));
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, 20 * SECOND) != NULL);
    CHECK(world_now() - at < 200 * MS);
}

static void life_keys(actor *self) {
    life_desc(self);
    self->desc.time.max_age_us = self == A ? 80 * SECOND : P2P_NEVER;
}

/* Fresh keys in a quiet moment: nothing is lost, the handle stays. */
TEST(fresh_keys_in_a_quiet_moment) {
    p2p_stream s;
    uint64_t start;
    life_begin(life_keys);
    CHECK_SO_FAR();
    start = world_now();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
    CHECK_DONE(p2p_stream_write(A->node, s, "busy", 4));
    drive(NULL, NULL, 72 * SECOND);
    CHECK_INT(count_events(A, P2P_EVENT_RECONNECTED), 0);
    CHECK_DONE(p2p_stream_reset(A->node, s, 0));
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, 2 * SECOND) != NULL);
    CHECK(world_now() - start < 75 * SECOND);
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
    CHECK_DONE(p2p_stream_write(A->node, s, "busy", 4));
    CHECK(await_conn(A, P2P_EVENT_RECONNECTED, AB, 81 * SECOND) != NULL);
    CHECK(world_now() - start > 150 * SECOND);
    CHECK_INT(count_events(A, P2P_EVENT_CLOSED), 2);
    CHECK_INT(count_events(A, P2P_EVENT_DISCONNECTED), 0);
}
static struct { uint32_t got, wrong; } post_box;

static void read_messages(actor *self, const p2p_event *e) {
    (void)self;
    BA = e->conn;
    for (int n; e->type == P2P_EVENT_MESSAGE && (n = life_next()) != -1; post_box.got++)
        post_box.wrong += n != (int)post_box.got;
    B->count = 0;
}

/* A moment between two messages is quiet enough, and none of them is in doubt. */
TEST(fresh_keys_between_messages) {
    uint32_t sent = 0;
    memset(&post_box, 0, sizeof post_box);
    life_begin(life_keys);
    CHECK_SO_FAR();
    B->on_event = read_messages;
    while (world_now() < 170 * SECOND && !world.broken) {
        CHECK_INT(life_send(sent++), 100);
        drive(NULL, NULL, 30 * MS);
    }
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(count_events(A, P2P_EVENT_RECONNECTED), 2);
    CHECK(A->log[index_of(A, P2P_EVENT_RECONNECTED)].at_us < 71 * SECOND);
    CHECK_INT(post_box.got, sent);
    CHECK_INT(post_box.wrong, 0);
}
#endif

/* ---- memory ---- */

/* As many breaks as there are, half of them crashes: not a byte more is in use than before. */
TEST(a_thousand_breaks_leave_nothing) {
    uint64_t before = 0;
    int rounds = WORLD_DTLS ? (WORLD_SIM ? 50 : 5) : 1000;
    life_begin(NULL);
    before = life_bytes();
    for (int i = 0; i < rounds; i++) {
        p2p_stream s;
        CHECK_SO_FAR();
        CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
        CHECK_DONE(p2p_stream_write(A->node, s, "hello", 5));
        CHECK_INT(life_send((uint32_t)i), 100);
        drive(NULL, NULL, 30 * MS);
        if (i % 2) {
            world_crash(B);
            CHECK(drive(a_lost_b, NULL, 5 * SECOND));
            world_restart(B);
            CHECK_SO_FAR();
            listen_at(B, &LB);
            BA = conn_none();
        } else {
            CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
            CHECK(drive(a_lost_b, NULL, 5 * SECOND));
        }
        CHECK_DONE(p2p_network_changed(A->node, world_now(), A->desc.link.local, 0));
        life_again(20 * SECOND);
        A->count = B->count = 0;
    }
    CHECK_SO_FAR();
    drive(NULL, NULL, 2 * SECOND);
    CHECK_INT(metric(A, P2P_METRIC_conns_broken), rounds);
    CHECK_INT(life_bytes(), before);
    CHECK_INT(metric(A, P2P_METRIC_sessions_open), 1);
    CHECK_INT(metric(A, P2P_METRIC_streams_open), 0);
}

/* ---- sharing, and how many there may be ---- */

TEST(share_a_dial_that_is_under_way) {
    p2p_connect_desc desc;
    p2p_conn shared;
    memset(&desc, 0, sizeof desc);
    desc.share = 1;
    world_open(2, NULL);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &AB), 0);
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &shared), 0);
    CHECK_INT(shared.id, AB.id);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
    CHECK_INT(p2p_release(A->node, shared), 1);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_DONE(p2p_release(A->node, AB));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 1);
}

/* Only a connection that comes back serves who asks for one that does. */
TEST(share_asks_for_reconnect_too) {
    p2p_connect_desc desc = life_asks();
    p2p_conn other, third;
    desc.share = 1;
    world_pair(life_desc);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &other), 0);
    CHECK(other.id != AB.id);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, other, 3 * SECOND) != NULL);
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &third), 1);
    CHECK_INT(third.id, other.id);
    CHECK_INT(p2p_release(A->node, third), 1);
}

/* A connection serves only who asks for what it is for, or for nothing. */
TEST(share_asks_for_the_alpn) {
    p2p_connect_desc desc;
    p2p_conn rock, more;
    memset(&desc, 0, sizeof desc);
    desc.share = 1;
    world_pair(with_alpn); /* "jazz" */
    CHECK_SO_FAR();
    desc.alpn = "rock";
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &rock), 0);
    CHECK(rock.id != AB.id);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, rock, 3 * SECOND) != NULL);
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &more), 1);
    CHECK_INT(more.id, rock.id);
    desc.alpn = "jazz";
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &more), 1);
    CHECK_INT(more.id, AB.id);
    desc.alpn = NULL;
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &more), 1);
    CHECK(more.id == AB.id || more.id == rock.id);
}

/* One that is being closed serves nobody, whatever it still owes. */
TEST(share_takes_none_that_closes) {
    p2p_connect_desc desc;
    p2p_conn other;
    memset(&desc, 0, sizeof desc);
    desc.share = 1;
    world_pair(NULL);
    CHECK_SO_FAR();
    world_cut_off(B);
    CHECK_INT(p2p_send(A->node, AB, "owed", 4), 4);
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &other), 0);
    CHECK(other.id != AB.id);
    world_join(B);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, other, 5 * SECOND) != NULL);
}

/* In its outage a handle is shared as a dial is; RECONNECTED tells all who hold it. */
TEST(share_in_the_outage) {
    p2p_connect_desc desc = life_asks();
    p2p_conn shared;
    desc.share = 1;
    life_begin(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(B->node, BA, 0, NULL));
    CHECK(drive(a_lost_b, NULL, SECOND));
    CHECK_INT(p2p_connect(A->node, &B->id, &desc, &shared), 0);
    CHECK_INT(shared.id, AB.id);
    life_again(SECOND);
    CHECK_SO_FAR();
    CHECK_INT(p2p_release(A->node, AB), 1);
    CHECK(p2p_is_connected(A->node, shared));
}

static void life_single(actor *self) {
    self->desc.max.conns_per_peer = self == A ? 2 : 1;
    self->desc.max.conns = self == C ? 8 : 2;
}

static void expect_field(actor *self, const char *field, uint64_t size, uint64_t max) {
    p2p_error_detail d;
    p2p_last_error(self->node, &d);
    CHECK_INT(d.err, P2P_ERR_LIMIT);
    CHECK(strstr(d.text, field) != NULL);
    CHECK_INT(d.size, size);
    CHECK_INT(d.max, max);
}

/* from dials to, which says that there is no place, and counts it. */
static void expect_no_place(actor *from, actor *to, uint64_t counted) {
    const seen *s;
    p2p_conn more;
    CHECK_INT(p2p_connect(from->node, &to->id, NULL, &more), 0);
    s = await_conn(from, P2P_EVENT_DISCONNECTED, more, 4 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_REFUSED);
    CHECK_STR(s->reason, "no place for another connection");
    CHECK_INT(metric(to, P2P_METRIC_auth_refused), counted);
}

/* Limits name themselves to the dialler; the callee says so, and counts. */
TEST(limits_both_ways) {
    p2p_conn more;
    p2p_id id;
    world_open(3, life_single);
    CHECK_SO_FAR();
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    dial(A, B, &AB, &BA);
    CHECK_SO_FAR();
    expect_no_place(A, B, 1); /* B's max.conns_per_peer is 1 */
    CHECK_SO_FAR();
    dial(C, B, &more, NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(C->node, &B->id, NULL, &more), P2P_ERR_LIMIT);
    expect_field(C, "max.conns_per_peer", 2, 1);
    CHECK_SO_FAR();
    id = stranger_id();
    CHECK_INT(p2p_connect(B->node, &id, NULL, &more), P2P_ERR_LIMIT); /* B's max.conns is 2 */
    expect_field(B, "max.conns", 3, 2);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK(await_conn(B, P2P_EVENT_DISCONNECTED, BA, SECOND) != NULL);
    CHECK_INT(p2p_connect(B->node, &id, NULL, &more), 0);
    expect_no_place(A, B, 2); /* the table is full again */
    CHECK_SO_FAR();
    CHECK_INT(p2p_connections(B->node, NULL, 0), 1);
}

/* So many may wait for p2p_accept; each that is taken makes room for another. */
TEST(backlog_of_a_listener) {
    p2p_listen_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.backlog = 1;
    world_open(3, NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_listen(B->node, &desc, &LB));
    introduce(A, B);
    introduce(C, B);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    CHECK(await_conn(A, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
    expect_no_place(C, B, 1);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_accept(B->node, LB, &BA));
    CHECK_INT(p2p_connect(C->node, &B->id, NULL, &AB), 0);
    CHECK(await_conn(C, P2P_EVENT_CONNECTED, AB, 3 * SECOND) != NULL);
}

/* A close delivers what was accepted, but does not wait for ever for who does not read. */
TEST(close_has_its_end) {
    static uint8_t data[16384];
    p2p_stream st;
    uint64_t start;
    const seen *s;
    world_pair(life_desc);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &st));
    for (int i = 0; i < 20; i++) {
        (void)p2p_stream_write(A->node, st, data, sizeof data);
        drive(NULL, NULL, 20 * MS);
    }
    start = world_now();
    CHECK_DONE(p2p_close(A->node, AB, 8, "no patience"));
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 5 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_OK);
    CHECK(s->at_us - start >= 2900 * MS);
    CHECK(s->at_us - start < 4000 * MS);
    s = await_conn(B, P2P_EVENT_DISCONNECTED, BA, SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.code, 8);
    CHECK_STR(s->reason, "no patience");
}

#if WORLD_SIM
#define CASES_LIFE_SIM(X)                       \
    X(messages_that_arrived_in_doubt_come_once) \
    X(message_cut_in_two_comes_whole)           \
    X(lent_messages_across_a_break)             \
    X(lent_memory_of_before_the_break)          \
    X(deadline_names_the_next_dial)             \
    X(network_change_dials_at_once)             \
    X(waits_grow_with_each_setback)             \
    X(fresh_keys_in_a_quiet_moment) X(fresh_keys_between_messages) X(full_mailbox_is_dialled_back)
#else
#define CASES_LIFE_SIM(X)
#endif

#define CASES_LIFE(X)                           \
    X(handle_outlives_a_close_of_the_peer)      \
    X(handle_outlives_a_cut)                    \
    X(handle_outlives_a_restart_of_the_peer)    \
    X(both_ends_come_back)                      \
    X(messages_wait_for_the_next_session)       \
    X(messages_in_doubt_are_not_repeated)       \
    X(doubt_of_before_connected_is_told)        \
    X(lent_message_in_doubt_ends_with_an_error) \
    X(unread_outlives_the_break)                \
    X(full_mailbox_outlives_the_break)          \
    X(requests_end_with_the_session)            \
    X(datagrams_are_dropped_at_the_break)       \
    X(close_ends_a_handle_in_its_outage)        \
    X(stop_ends_a_handle_in_its_outage)         \
    X(refusal_is_for_good)                      \
    X(connected_is_told_of_what_is_over)        \
    X(full_peer_is_asked_again)                 \
    X(first_connect_still_times_out)            \
    X(a_thousand_breaks_leave_nothing)          \
    X(share_a_dial_that_is_under_way)           \
    X(share_asks_for_reconnect_too)             \
    X(share_asks_for_the_alpn)                  \
    X(share_takes_none_that_closes)             \
    X(share_in_the_outage)                      \
    X(limits_both_ways)                         \
    X(backlog_of_a_listener)                    \
    X(room_comes_with_the_break)                \
    X(closed_comes_before_reconnected)          \
    X(close_owes_nothing_to_the_past) X(close_has_its_end) CASES_LIFE_SIM(X)
