/* Messages and datagrams. */

TEST(messages_both_ways) {
    char got[32];
    const seen *s;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), P2P_ERR_AGAIN);
    CHECK_INT(p2p_recv_size(A->node, AB), P2P_ERR_AGAIN);
    CHECK_DONE(p2p_send(A->node, AB, "hello", 5));
    CHECK_DONE(p2p_send(B->node, BA, "there", 5));
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    CHECK_INT(s->event.size, 5);
    CHECK_INT(p2p_recv_size(B->node, BA), 5);
    CHECK_INT(p2p_recv(B->node, BA, got, 4), P2P_ERR_TOO_LARGE);
    CHECK_INT(p2p_recv(B->node, BA, got, 5), 5);
    CHECK_BYTES(got, "hello", 5);
    CHECK_INT(p2p_recv(B->node, BA, got, 5), P2P_ERR_AGAIN);
    CHECK(await_conn(A, P2P_EVENT_MESSAGE, AB, 3 * SECOND) != NULL);
    CHECK_INT(p2p_recv(A->node, AB, got, sizeof got), 5);
    CHECK_BYTES(got, "there", 5);
}

TEST(empty_messages_count) {
    char got[4];
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_send(A->node, AB, NULL, 0));
    CHECK_DONE(p2p_send(A->node, AB, "x", 1));
    CHECK_DONE(p2p_send(A->node, AB, "", 0));
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(p2p_recv(B->node, BA, got, 4), 0);
    CHECK_INT(p2p_recv(B->node, BA, got, 4), 1);
    CHECK_INT(p2p_recv(B->node, BA, got, 4), 0);
    CHECK_INT(p2p_recv(B->node, BA, got, 4), P2P_ERR_AGAIN);
}

static struct {
    uint32_t sent, received, total;
    int full, broken;
} post;

static int post_done(void *ctx) {
    uint8_t data[512];
    (void)ctx;
    while (post.sent < post.total) {
        size_t size = 4 + post.sent * 7 % 500;
        int n;
        memset(data, (int)post.sent, sizeof data);
        memcpy(data, &post.sent, 4);
        n = p2p_send(A->node, AB, data, size);
        post.full += n == P2P_ERR_AGAIN;
        if (n == P2P_ERR_AGAIN)
            break;
        post.broken |= n < 0;
        if (n < 0)
            return 1;
        post.sent++;
    }
    for (int n; (n = p2p_recv(B->node, BA, data, sizeof data)) != P2P_ERR_AGAIN; post.received++) {
        uint32_t number;
        memcpy(&number, data, 4);
        post.broken |= n != (int)(4 + post.received * 7 % 500) || number != post.received ||
                       (n > 4 && data[n - 1] != (uint8_t)post.received);
        if (post.broken)
            return 1;
    }
    return post.received == post.total;
}

static void small_mailbox(actor *self) {
    self->desc.bytes.message_send = 2000;
    self->desc.bytes.message_recv = 1500;
}

/* In order, each exactly once, through buffers that are full all the time. */
TEST(messages_in_order_exactly_once) {
    memset(&post, 0, sizeof post);
    post.total = 1500;
    world_pair(small_mailbox);
    CHECK_SO_FAR();
    CHECK(drive(post_done, NULL, 60 * SECOND));
    CHECK(!post.broken);
    CHECK_INT(post.received, post.total);
    CHECK(post.full > 0);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(p2p_recv_size(B->node, BA), P2P_ERR_AGAIN);
}

TEST(messages_over_a_bad_link) {
    memset(&world.link, 0, sizeof world.link);
    world.link.latency_us = 10 * MS;
    world.link.loss_ppm = 50000;
    world.link.reorder_ppm = 50000;
    world.link.duplicate_ppm = 50000;
    memset(&post, 0, sizeof post);
    post.total = 400;
    world_pair(NULL);
    memset(&world.link, 0, sizeof world.link);
    CHECK_SO_FAR();
    CHECK(drive(post_done, NULL, 60 * SECOND));
    CHECK(!post.broken);
    CHECK_INT(post.received, post.total);
}

TEST(full_mailbox_says_again_then_writable) {
    uint8_t data[400], got[400];
    uint32_t sent = 0;
    memset(data, 5, sizeof data);
    world_pair(small_mailbox);
    CHECK_SO_FAR();
    for (int i = 0; i < 400; i++) {
        int n = p2p_send(A->node, AB, data, sizeof data);
        CHECK(n >= 0 || n == P2P_ERR_AGAIN);
        sent += n >= 0;
        world_step();
    }
    CHECK(sent >= 4);
    CHECK(sent <= 10);
    while (find_event(A, P2P_EVENT_WRITABLE, AB, stream_none()))
        find_event(A, P2P_EVENT_WRITABLE, AB, stream_none())->used = 1;
    for (uint32_t i = 0; i < sent; i++) {
        int n = p2p_recv(B->node, BA, got, sizeof got);
        for (int tries = 0; tries < 2000 && n == P2P_ERR_AGAIN; tries++) {
            world_step();
            n = p2p_recv(B->node, BA, got, sizeof got);
        }
        CHECK_INT(n, (int)sizeof got);
    }
    {
        const seen *s = await_conn(A, P2P_EVENT_WRITABLE, AB, 3 * SECOND);
        CHECK(s != NULL);
        CHECK_INT(s->event.stream.id, 0);
    }
    CHECK_DONE(p2p_send(A->node, AB, data, sizeof data));
    CHECK_INT(p2p_recv_size(B->node, BA), P2P_ERR_AGAIN);
}

/* A message of the full 1 MiB, from the sender's memory into the reader's. */
TEST(large_message_by_reference) {
    enum { SIZE = 1 << 20 };
    static uint8_t sent[SIZE], got[SIZE];
    int token = 0;
    const seen *s;
    pattern_fill(sent, 0, SIZE);
    memset(got, 0, SIZE);
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_send(A->node, AB, sent, SIZE), P2P_ERR_TOO_LARGE);
    CHECK_DONE(p2p_send(A->node, AB, "before", 6));
    CHECK_DONE(p2p_send_ref(A->node, AB, sent, SIZE, &token));
    CHECK_INT(p2p_send_ref(A->node, AB, sent, SIZE, &token), P2P_ERR_AGAIN);
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.size, 6);
    CHECK_INT(p2p_recv(B->node, BA, got, SIZE), 6);
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TOO_LARGE);
    CHECK_INT(s->event.size, SIZE);
    CHECK_INT(p2p_recv_size(B->node, BA), SIZE);
    CHECK_INT(p2p_recv_ref(B->node, BA, got, SIZE - 1), P2P_ERR_TOO_LARGE);
    CHECK_DONE(p2p_recv_ref(B->node, BA, got, SIZE));
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 60 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    CHECK(s->event.user == got);
    CHECK_INT(s->event.size, SIZE);
    CHECK_BYTES(got, sent, SIZE);
    s = await_conn(A, P2P_EVENT_SENT, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.user == &token);
    CHECK_INT(s->event.err, 0);
    CHECK_DONE(p2p_send(A->node, AB, "after", 5));
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(p2p_recv(B->node, BA, got, SIZE), 5);
    CHECK_BYTES(got, "after", 5);
}

static void large_mailbox(actor *self) {
    self->desc.bytes.message_send = self->desc.bytes.message_recv = 262144;
}

/* Whole in the buffers, and four times what the window begins with: it grows though nobody can read
 * before all is there. */
TEST(message_beyond_the_first_window) {
    enum { SIZE = 262144 - 8 };
    static uint8_t sent[SIZE], got[SIZE];
    pattern_fill(sent, 0, SIZE);
    world_pair(large_mailbox);
    CHECK_SO_FAR();
    for (int i = 0; i < 2; i++) {
        int n = P2P_ERR_AGAIN;
        for (int tries = 0; tries < 3000 && n == P2P_ERR_AGAIN; tries++) {
            n = p2p_send(A->node, AB, sent, SIZE);
            world_step();
        }
        CHECK_INT(n, SIZE);
        CHECK(await_conn(B, P2P_EVENT_MESSAGE, BA, 10 * SECOND) != NULL);
        CHECK_INT(p2p_recv(B->node, BA, got, SIZE), SIZE);
        CHECK_BYTES(got, sent, SIZE);
    }
}

static void small_messages(actor *self) { self->desc.bytes.message_max = 1000; }

TEST(message_over_the_peers_limit) {
    uint8_t data[1001];
    p2p_error_detail detail;
    memset(data, 1, sizeof data);
    world_pair(small_messages);
    CHECK_SO_FAR();
    CHECK_INT(p2p_send(A->node, AB, data, 1001), P2P_ERR_TOO_LARGE);
    p2p_last_error(A->node, &detail);
    CHECK_INT(detail.err, P2P_ERR_TOO_LARGE);
    CHECK_INT(detail.size, 1001);
    CHECK_INT(detail.max, 1000);
    CHECK_INT(p2p_send_ref(A->node, AB, data, 1001, data), P2P_ERR_TOO_LARGE);
    CHECK_DONE(p2p_send(A->node, AB, data, 1000));
    CHECK(await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND) != NULL);
    CHECK_INT(p2p_recv(B->node, BA, data, 1000), 1000);
    CHECK(p2p_is_connected(A->node, AB));
}

static void bob_takes_none(actor *self) {
    if (self == B)
        self->desc.bytes.message_max = P2P_NONE;
}

TEST(peer_without_messages) {
    p2p_stream mine, theirs;
    world_pair(bob_takes_none);
    CHECK_SO_FAR();
    CHECK(p2p_send(A->node, AB, "x", 1) < 0);
    CHECK(p2p_send(B->node, BA, "x", 1) < 0);
    CHECK(p2p_recv(B->node, BA, &theirs, 4) < 0);
    drive(NULL, NULL, 100 * MS);
    CHECK(p2p_is_connected(A->node, AB));
    open_stream(NULL, &mine, &theirs);
}

TEST(sent_always_comes) {
    static uint8_t data[200000];
    const seen *s;
    int token;
    world_pair(short_idle);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_send_ref(A->node, AB, data, sizeof data, &token));
    world_cut_off(B);
    s = await_conn(A, P2P_EVENT_SENT, AB, 10 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.user == &token);
    CHECK(s->event.err < 0);
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, SECOND) != NULL);
    CHECK(index_of(A, P2P_EVENT_SENT) < index_of(A, P2P_EVENT_DISCONNECTED));
}

/* Lent memory comes back too when the connection dies. */
TEST(lent_memory_comes_back) {
    static uint8_t data[200000], got[200000];
    const seen *s;
    int token;
    world_pair(short_idle);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_send_ref(A->node, AB, data, sizeof data, &token));
    s = await_conn(B, P2P_EVENT_MESSAGE, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_TOO_LARGE);
    CHECK_DONE(p2p_recv_ref(B->node, BA, got, sizeof got));
    CHECK_DONE(p2p_close(B->node, BA, 1, NULL));
    CHECK(await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND) != NULL);
    s = await_conn(A, P2P_EVENT_SENT, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.user == &token);
}

/* ---- datagrams ---- */

TEST(datagrams) {
    uint8_t data[1500], got[1500];
    const seen *s;
    int max;
    pattern_fill(data, 0, sizeof data);
    world_pair(NULL);
    CHECK_SO_FAR();
    max = p2p_datagram_max(A->node, AB);
    CHECK(max >= 900 && max <= 1200);
    CHECK_INT(p2p_datagram_send(A->node, AB, data, (size_t)max + 1), P2P_ERR_TOO_LARGE);
    CHECK_INT(p2p_datagram_recv(B->node, BA, got, sizeof got), P2P_ERR_AGAIN);
    CHECK_DONE(p2p_datagram_send(A->node, AB, data, (size_t)max));
    s = await_conn(B, P2P_EVENT_DATAGRAM, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.size, max);
    CHECK_INT(p2p_datagram_recv(B->node, BA, got, 10), P2P_ERR_TOO_LARGE);
    CHECK_INT(p2p_datagram_recv(B->node, BA, got, sizeof got), max);
    CHECK_BYTES(got, data, (size_t)max);
    CHECK_INT(p2p_datagram_recv(B->node, BA, got, sizeof got), P2P_ERR_AGAIN);
}

static void few_datagrams(actor *self) {
    self->desc.max.datagrams_out = 4;
    self->desc.max.datagrams_in = 4;
}

/* Never AGAIN: the oldest gives way, and it is counted; what comes was sent, once. */
TEST(oldest_datagram_gives_way) {
    int seen_before[100] = {0}, n, got, count = 0;
    p2p_stats a, b;
    world_pair(few_datagrams);
    CHECK_SO_FAR();
    for (int i = 0; i < 100; i++)
        CHECK_DONE(p2p_datagram_send(A->node, AB, &i, sizeof i));
    drive(NULL, NULL, 300 * MS);
    while ((n = p2p_datagram_recv(B->node, BA, &got, sizeof got)) == (int)sizeof got) {
        CHECK(got >= 0 && got < 100);
        CHECK_INT(seen_before[got]++, 0);
        count++;
    }
    CHECK_INT(n, P2P_ERR_AGAIN);
    CHECK(count >= 1 && count <= 8);
    CHECK_INT(seen_before[99], 1);
    CHECK_DONE(p2p_conn_stats(A->node, AB, &a));
    CHECK_DONE(p2p_conn_stats(B->node, BA, &b));
    CHECK_INT((int)(a.datagrams_dropped + b.datagrams_dropped) + count, 100);
}

static void many_datagrams(actor *self) {
    self->desc.max.datagrams_out = self->desc.max.datagrams_in = 50;
}

/* More than the window lets out at once, and then the end: they leave before it. */
TEST(datagrams_leave_before_the_close) {
    static uint8_t data[1000];
    world_pair(many_datagrams);
    CHECK_SO_FAR();
    for (int i = 0; i < 40; i++)
        CHECK_DONE(p2p_datagram_send(A->node, AB, data, sizeof data));
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    CHECK(await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND) != NULL);
    CHECK_INT(metric(B, P2P_METRIC_app_datagrams_received), 40);
}

#define CASES_MESSAGE(X)                     \
    X(messages_both_ways)                    \
    X(empty_messages_count)                  \
    X(messages_in_order_exactly_once)        \
    X(messages_over_a_bad_link)              \
    X(full_mailbox_says_again_then_writable) \
    X(large_message_by_reference)            \
    X(message_beyond_the_first_window)       \
    X(message_over_the_peers_limit)          \
    X(peer_without_messages)                 \
    X(sent_always_comes)                     \
    X(lent_memory_comes_back)                \
    X(datagrams)                             \
    X(datagrams_leave_before_the_close)      \
    X(oldest_datagram_gives_way)
