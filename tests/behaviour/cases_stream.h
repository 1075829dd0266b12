/* Streams: bytes in order, windows, both ends of a life, and what survives the connection. */

/* A opens a stream on AB and writes a byte, so that B hears of it. */
static void open_stream(const p2p_stream_desc *desc, p2p_stream *mine, p2p_stream *theirs) {
    const seen *s;
    CHECK_DONE(p2p_stream_open(A->node, AB, desc, mine));
    CHECK_INT(p2p_stream_write(A->node, *mine, "!", 1), 1);
    s = await(B, P2P_EVENT_STREAM, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.conn.id, BA.id);
    *theirs = s->event.stream;
}

static void pair_with_stream(world_tweak tweak, p2p_stream *mine, p2p_stream *theirs) {
    world_pair(tweak);
    CHECK_SO_FAR();
    open_stream(NULL, mine, theirs);
}

/* Waits for exactly this text. */
static void expect_text(actor *self, p2p_stream s, const char *text) {
    char got[64];
    size_t have = 0, want = strlen(text);
    uint64_t end = world_now() + 3 * SECOND;
    while (have < want && world_now() < end) {
        int n = p2p_stream_read(self->node, s, got + have, want - have);
        CHECK(n > 0 || n == P2P_ERR_AGAIN);
        have += n > 0 ? (size_t)n : 0;
        if (n < 0)
            world_step();
    }
    CHECK_INT(have, want);
    CHECK_BYTES(got, text, want);
}

static void expect_read(actor *self, p2p_stream s, int result) {
    char byte;
    uint64_t end = world_now() + 3 * SECOND;
    int n = P2P_ERR_AGAIN;
    while (n == P2P_ERR_AGAIN && world_now() < end) {
        n = p2p_stream_read(self->node, s, &byte, 1);
        if (n == P2P_ERR_AGAIN)
            world_step();
    }
    CHECK_INT(n, result);
}

TEST(stream_there_and_back) {
    p2p_stream mine, theirs;
    p2p_conn of;
    const seen *s;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_conn(A->node, mine, &of));
    CHECK_INT(of.id, AB.id);
    CHECK_DONE(p2p_stream_conn(B->node, theirs, &of));
    CHECK_INT(of.id, BA.id);
    expect_text(B, theirs, "!");
    CHECK_INT(p2p_stream_write(B->node, theirs, "answer", 6), 6);
    expect_text(A, mine, "answer");
    CHECK_DONE(p2p_stream_finish(A->node, mine));
    expect_read(B, theirs, 0);
    expect_read(B, theirs, 0);
    CHECK_SO_FAR();
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(count_events(A, P2P_EVENT_CLOSED), 0);
    CHECK_INT(p2p_stream_write(B->node, theirs, "more", 4), 4);
    CHECK_DONE(p2p_stream_finish(B->node, theirs));
    expect_text(A, mine, "more");
    expect_read(A, mine, 0);
    CHECK_SO_FAR();
    s = await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    s = await_stream(B, P2P_EVENT_CLOSED, theirs, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, 0);
    CHECK_INT(p2p_stream_read(A->node, mine, &of, 1), P2P_ERR_HANDLE);
}

TEST(events_tell_of_bytes) {
    p2p_stream mine, theirs;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    expect_text(B, theirs, "!");
    drive(NULL, NULL, 100 * MS);
    while (find_event(B, P2P_EVENT_READABLE, BA, theirs))
        find_event(B, P2P_EVENT_READABLE, BA, theirs)->used = 1;
    CHECK_INT(p2p_stream_write(A->node, mine, "new", 3), 3);
    CHECK(await_stream(B, P2P_EVENT_READABLE, theirs, 3 * SECOND) != NULL);
    expect_text(B, theirs, "new");
    CHECK_DONE(p2p_stream_finish(A->node, mine));
    CHECK(await_stream(B, P2P_EVENT_READABLE, theirs, 3 * SECOND) != NULL);
    expect_read(B, theirs, 0);
}

TEST(one_way_streams) {
    p2p_stream_desc desc;
    p2p_stream mine, theirs;
    char byte;
    memset(&desc, 0, sizeof desc);
    desc.one_way = 1;
    world_pair(NULL);
    CHECK_SO_FAR();
    open_stream(&desc, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_write(B->node, theirs, "x", 1), P2P_ERR_STATE);
    CHECK_INT(p2p_stream_read(A->node, mine, &byte, 1), P2P_ERR_STATE);
    expect_text(B, theirs, "!");
    CHECK_DONE(p2p_stream_finish(A->node, mine));
    expect_read(B, theirs, 0);
    CHECK_SO_FAR();
    CHECK(await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND) != NULL);
    CHECK(await_stream(B, P2P_EVENT_CLOSED, theirs, 3 * SECOND) != NULL);
}

TEST(stream_user_pointers) {
    p2p_stream_desc desc;
    p2p_stream mine, theirs;
    int a = 1, b = 2;
    const seen *s;
    memset(&desc, 0, sizeof desc);
    desc.user = &a;
    world_pair(NULL);
    CHECK_SO_FAR();
    open_stream(&desc, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK(p2p_stream_user(A->node, mine) == &a);
    CHECK(p2p_stream_user(B->node, theirs) == NULL);
    CHECK_DONE(p2p_stream_set_user(B->node, theirs, &b));
    CHECK_DONE(p2p_stream_reset(A->node, mine, 3));
    s = await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND);
    CHECK(s != NULL && s->event.user == &a);
    s = await_stream(B, P2P_EVENT_CLOSED, theirs, 3 * SECOND);
    CHECK(s != NULL && s->event.user == &b);
}

/* ---- bulk, both ways at once, with any buffers ---- */

typedef struct flow { /* one direction */
    actor *from, *to;
    p2p_stream out, in;
    uint64_t sent, received, total, rng;
    int finished, ended, broken;
} flow;

static size_t flow_chunk(flow *f) {
    f->rng = f->rng * 6364136223846793005u + 1442695040888963407u;
    return 1 + (size_t)((f->rng >> 33) % 3000);
}

static void flow_write(flow *f) {
    uint8_t data[3000];
    while (f->out.id && f->sent < f->total) {
        size_t size = flow_chunk(f);
        int n;
        if (size > f->total - f->sent)
            size = (size_t)(f->total - f->sent);
        pattern_fill(data, f->sent, size);
        n = p2p_stream_write(f->from->node, f->out, data, size);
        if (n == P2P_ERR_AGAIN)
            return;
        f->broken |= n <= 0;
        if (n <= 0)
            return;
        f->sent += (uint64_t)n;
    }
    if (f->out.id && !f->finished) {
        f->finished = 1;
        f->broken |= p2p_stream_finish(f->from->node, f->out) != 0;
    }
}

static void flow_read(flow *f) {
    uint8_t data[3000];
    while (f->in.id && !f->ended) {
        int n = p2p_stream_read(f->to->node, f->in, data, flow_chunk(f));
        if (n == P2P_ERR_AGAIN)
            return;
        f->ended |= n == 0;
        f->broken |= n < 0 || !pattern_is(data, f->received, n > 0 ? (size_t)n : 0);
        if (n <= 0)
            return;
        f->received += (uint64_t)n;
    }
}

static flow flows[2];

static int flows_done(void *ctx) {
    seen *s = find_event(B, P2P_EVENT_STREAM, BA, stream_none());
    (void)ctx;
    if (s) {
        s->used = 1;
        flows[0].in = flows[1].out = s->event.stream;
    }
    for (int i = 0; i < 2; i++) {
        flow_write(&flows[i]);
        flow_read(&flows[i]);
        if (flows[i].broken)
            return 1;
    }
    return flows[0].ended && flows[1].ended;
}

static void run_flows(world_tweak tweak, uint64_t there, uint64_t back, uint64_t limit_us) {
    p2p_stream s;
    world_pair(tweak);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &s));
    memset(flows, 0, sizeof flows);
    flows[0].from = flows[1].to = A;
    flows[0].to = flows[1].from = B;
    flows[0].out = flows[1].in = s;
    flows[0].total = there;
    flows[1].total = back;
    CHECK(drive(flows_done, NULL, limit_us));
    CHECK(!flows[0].broken && !flows[1].broken);
    CHECK_INT(flows[0].received, there);
    CHECK_INT(flows[1].received, back);
    CHECK(await_stream(A, P2P_EVENT_CLOSED, s, 3 * SECOND) != NULL);
    CHECK(await_stream(B, P2P_EVENT_CLOSED, flows[0].in, 3 * SECOND) != NULL);
}

TEST(bulk_both_ways) { run_flows(NULL, 1000000, 300000, 60 * SECOND); }

TEST(empty_both_ways) { run_flows(NULL, 0, 0, 10 * SECOND); }

static void tiny_buffers(actor *self) {
    self->desc.bytes.stream_send = 700;
    self->desc.bytes.stream_recv = 333;
    self->desc.bytes.peer_send = 512;
    self->desc.bytes.peer_recv = 1024;
    self->desc.bytes.head_max = 512;
    self->desc.bytes.body_max = 512;
    self->desc.bytes.message_max = P2P_NONE;
    self->desc.max.conns = 2;
    self->desc.max.in_flight = 8;
}

TEST(bulk_through_tiny_buffers) { run_flows(tiny_buffers, 40000, 30000, 60 * SECOND); }

/* Loss, reordering, duplicates and corruption are nothing that a stream shows. */
TEST(bulk_over_a_bad_link) {
    memset(&world.link, 0, sizeof world.link);
    world.link.latency_us = 10 * MS;
    world.link.jitter_us = 5 * MS;
    world.link.loss_ppm = 30000;
    world.link.duplicate_ppm = 30000;
    world.link.reorder_ppm = 50000;
    world.link.corrupt_ppm = 20000;
    run_flows(NULL, 200000, 100000, 120 * SECOND);
    memset(&world.link, 0, sizeof world.link);
}

/* A reader who takes nothing stops the writer at what the two buffers hold; nothing is lost. */
TEST(backpressure) {
    p2p_stream mine, theirs;
    static uint8_t data[100000], got[100000];
    size_t sent = 0, have = 0;
    pattern_fill(data, 0, sizeof data);
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    for (int i = 0; i < 300; i++) {
        int n = p2p_stream_write(A->node, mine, data + sent, sizeof data - sent);
        CHECK(n > 0 || n == P2P_ERR_AGAIN);
        sent += n > 0 ? (size_t)n : 0;
        world_step();
    }
    CHECK(sent >= 16384);
    CHECK(sent <= 2 * 16384 + 1);
    CHECK_INT(p2p_stream_write(A->node, mine, data, 1), P2P_ERR_AGAIN);
    expect_text(B, theirs, "!");
    CHECK_SO_FAR();
    while (find_event(A, P2P_EVENT_WRITABLE, AB, mine))
        find_event(A, P2P_EVENT_WRITABLE, AB, mine)->used = 1;
    for (int i = 0; i < 3000 && have < sent; i++) {
        int n = p2p_stream_read(B->node, theirs, got + have, sizeof got - have);
        CHECK(n > 0 || n == P2P_ERR_AGAIN);
        have += n > 0 ? (size_t)n : 0;
        world_step();
    }
    CHECK_INT(have, sent);
    CHECK_BYTES(got, data, sent);
    CHECK(await_stream(A, P2P_EVENT_WRITABLE, mine, 3 * SECOND) != NULL);
    CHECK(p2p_stream_write(A->node, mine, data, 1000) == 1000);
}

static int readable_told;
static void count_readable(actor *self, const p2p_event *event) {
    readable_told += self == B && event->type == P2P_EVENT_READABLE;
}
static void counting(actor *self) { self->on_event = count_readable; }

/* Whoever takes nothing is not told again until something new arrives. */
TEST(told_once_until_something_new) {
    p2p_stream mine, theirs;
    int before;
    pair_with_stream(counting, &mine, &theirs);
    CHECK_SO_FAR();
    drive(NULL, NULL, 100 * MS);
    before = readable_told;
    drive(NULL, NULL, 500 * MS);
    CHECK_INT(readable_told, before);
    CHECK_INT(p2p_stream_write(A->node, mine, "ab", 2), 2);
    drive(NULL, NULL, 300 * MS);
    CHECK_INT(readable_told, before + 1);
    CHECK_DONE(p2p_stream_skip(B->node, theirs, 1));
    drive(NULL, NULL, 300 * MS);
    CHECK_INT(readable_told, before + 2);
    expect_text(B, theirs, "ab");
}

TEST(peek_and_skip) {
    p2p_stream mine, theirs;
    p2p_span view, again;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    expect_text(B, theirs, "!");
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_peek(B->node, theirs, &view), P2P_ERR_AGAIN);
    CHECK_INT(p2p_stream_write(A->node, mine, "abcdef", 6), 6);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(p2p_stream_peek(B->node, theirs, &view), 6);
    CHECK_INT(view.size, 6);
    CHECK_BYTES(view.data, "abcdef", 6);
    CHECK_INT(p2p_stream_write(A->node, mine, "ghi", 3), 3);
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(p2p_stream_peek(B->node, theirs, &again), 9);
    CHECK(again.data == view.data);
    CHECK_BYTES(again.data, "abcdefghi", 9);
    CHECK_INT(p2p_stream_skip(B->node, theirs, 10), P2P_ERR_ARG);
    CHECK_DONE(p2p_stream_skip(B->node, theirs, 4));
    CHECK_INT(p2p_stream_peek(B->node, theirs, &again), 5);
    CHECK(again.data == view.data + 4);
    expect_text(B, theirs, "efghi");
    CHECK_DONE(p2p_stream_finish(A->node, mine));
    drive(NULL, NULL, 200 * MS);
    CHECK_INT(p2p_stream_peek(B->node, theirs, &view), 0);
}

TEST(reserve_and_commit) {
    p2p_stream mine, theirs;
    p2p_room room, again;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    expect_text(B, theirs, "!");
    CHECK_SO_FAR();
    CHECK(p2p_stream_reserve(A->node, mine, 100, &room) >= 0);
    CHECK_INT(room.size, 100);
    memcpy(room.data, "written in place", 16);
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(p2p_stream_peek(B->node, theirs, &(p2p_span){NULL, 0}), P2P_ERR_AGAIN);
    CHECK_INT(p2p_stream_commit(A->node, mine, 101), P2P_ERR_ARG);
    CHECK_DONE(p2p_stream_commit(A->node, mine, 16));
    expect_text(B, theirs, "written in place");
    CHECK_SO_FAR();
    CHECK(p2p_stream_reserve(A->node, mine, 50, &again) >= 0);
    CHECK_DONE(p2p_stream_commit(A->node, mine, 0));
    CHECK(p2p_stream_commit(A->node, mine, 1) < 0);
    CHECK(p2p_stream_reserve(A->node, mine, 1 << 20, &room) >= 0);
    CHECK(room.size > 0 && room.size <= 16384);
    CHECK_DONE(p2p_stream_commit(A->node, mine, 0));
}

TEST(finish_is_final) {
    p2p_stream mine, theirs;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_finish(A->node, mine));
    CHECK_INT(p2p_stream_write(A->node, mine, "x", 1), P2P_ERR_STATE);
    CHECK(p2p_stream_finish(A->node, mine) <= 0);
    expect_text(B, theirs, "!");
    expect_read(B, theirs, 0);
}

TEST(writer_resets) {
    p2p_stream mine, theirs;
    const seen *s;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    expect_text(B, theirs, "!");
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_reset(A->node, mine, 42));
    s = await_stream(B, P2P_EVENT_CLOSED, theirs, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_RESET);
    CHECK_INT(s->event.code, 42);
    CHECK(await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND) != NULL);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_INT(p2p_stream_write(A->node, mine, "x", 1), P2P_ERR_HANDLE);
    open_stream(NULL, &mine, &theirs);
}

/* Also how a reader says "no more": the writer is told with the code. */
TEST(reader_resets) {
    p2p_stream mine, theirs;
    const seen *s;
    uint8_t data[5000];
    memset(data, 9, sizeof data);
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_write(A->node, mine, data, sizeof data), (int)sizeof data);
    CHECK_DONE(p2p_stream_reset(B->node, theirs, 7));
    s = await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.err, P2P_ERR_RESET);
    CHECK_INT(s->event.code, 7);
    CHECK(await_stream(B, P2P_EVENT_CLOSED, theirs, 3 * SECOND) != NULL);
    CHECK(p2p_is_connected(A->node, AB));
}

static void few_streams(actor *self) {
    self->desc.max.conns = 1;
    self->desc.max.streams = 2;
    self->desc.max.peer_streams = 3; /* a request, a stream, and one kept back */
    self->desc.bytes.message_max = P2P_NONE;
}

/* What the peer cannot take yet waits for its turn; it is no error. */
TEST(streams_wait_for_the_peers_table) {
    p2p_stream first, second, third, theirs;
    const seen *s;
    world_pair(few_streams);
    CHECK_SO_FAR();
    open_stream(NULL, &first, &theirs);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &second));
    CHECK_INT(p2p_stream_open(A->node, AB, NULL, &third), P2P_ERR_LIMIT);
    CHECK_INT(p2p_stream_write(A->node, second, "second", 6), 6);
    drive(NULL, NULL, 300 * MS);
    CHECK(find_event(B, P2P_EVENT_STREAM, BA, stream_none()) == NULL);
    CHECK(p2p_is_connected(A->node, AB));
    CHECK_DONE(p2p_stream_finish(A->node, first));
    CHECK_DONE(p2p_stream_finish(B->node, theirs));
    expect_text(B, theirs, "!");
    expect_read(B, theirs, 0);
    expect_read(A, first, 0);
    CHECK_SO_FAR();
    s = await(B, P2P_EVENT_STREAM, 3 * SECOND);
    CHECK(s != NULL);
    expect_text(B, s->event.stream, "second");
    CHECK(await_stream(A, P2P_EVENT_CLOSED, first, 3 * SECOND) != NULL);
    CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &third));
}

TEST(many_short_streams) {
    world_pair(NULL);
    CHECK_SO_FAR();
    for (int i = 0; i < 60; i++) {
        p2p_stream mine, theirs;
        open_stream(NULL, &mine, &theirs);
        CHECK_SO_FAR();
        CHECK_DONE(p2p_stream_finish(A->node, mine));
        CHECK_DONE(p2p_stream_finish(B->node, theirs));
        expect_text(B, theirs, "!");
        expect_read(B, theirs, 0);
        expect_read(A, mine, 0);
        CHECK_SO_FAR();
        CHECK(await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND) != NULL);
        CHECK(await_stream(B, P2P_EVENT_CLOSED, theirs, 3 * SECOND) != NULL);
    }
    CHECK_INT(count_events(A, P2P_EVENT_CLOSED), 60);
    CHECK_INT(count_events(B, P2P_EVENT_CLOSED), 60);
}

TEST(streams_are_accepted_in_order) {
    p2p_stream mine[3], theirs;
    char byte;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_INT(p2p_stream_accept(B->node, BA, &theirs), P2P_ERR_AGAIN);
    for (int i = 0; i < 3; i++) {
        CHECK_DONE(p2p_stream_open(A->node, AB, NULL, &mine[i]));
        CHECK_INT(p2p_stream_write(A->node, mine[i], &"012"[i], 1), 1);
    }
    drive(NULL, NULL, 300 * MS);
    CHECK_INT(count_events(B, P2P_EVENT_STREAM), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(p2p_stream_accept(B->node, BA, &theirs), 0);
        CHECK_INT(p2p_stream_read(B->node, theirs, &byte, 1), 1);
        CHECK_INT(byte, '0' + i);
    }
    CHECK_INT(p2p_stream_accept(B->node, BA, &theirs), P2P_ERR_AGAIN);
}

static struct {
    p2p_stream in[2];
    size_t got[2];
    int order; /* which had all of its bytes first: 1 urgent, 2 idle */
} race;

static int race_done(void *ctx) {
    uint8_t data[4096];
    p2p_stream s;
    (void)ctx;
    while (p2p_stream_accept(B->node, BA, &s) == 0) {
        int n = p2p_stream_read(B->node, s, data, 1);
        int which = n == 1 && data[0] == 'u' ? 0 : 1;
        race.in[which] = s;
        race.got[which] = n == 1;
    }
    for (int i = 0; i < 2; i++) {
        int n;
        while (race.in[i].id && (n = p2p_stream_read(B->node, race.in[i], data, 4096)) > 0)
            race.got[i] += (size_t)n;
        if (race.got[i] == 12000 && !race.order)
            race.order = i + 1;
    }
    return race.got[0] == 12000 && race.got[1] == 12000;
}

/* What is urgent overtakes what was written before it. */
TEST(priorities) {
    p2p_stream_desc desc;
    p2p_stream urgent, idle;
    static uint8_t data[12000];
    memset(&race, 0, sizeof race);
    memset(&desc, 0, sizeof desc);
    memset(&world.link, 0, sizeof world.link);
    world.link.latency_us = 2 * MS;
    world.link.rate_bps = 2000000;
    world_pair(NULL);
    memset(&world.link, 0, sizeof world.link);
    CHECK_SO_FAR();
    desc.priority = 8;
    CHECK_INT(p2p_stream_open(A->node, AB, &desc, &idle), P2P_ERR_ARG);
    desc.priority = 7;
    CHECK_DONE(p2p_stream_open(A->node, AB, &desc, &idle));
    desc.priority = 0;
    CHECK_DONE(p2p_stream_open(A->node, AB, &desc, &urgent));
    memset(data, 'i', sizeof data);
    CHECK_INT(p2p_stream_write(A->node, idle, data, sizeof data), (int)sizeof data);
    memset(data, 'u', sizeof data);
    CHECK_INT(p2p_stream_write(A->node, urgent, data, sizeof data), (int)sizeof data);
    CHECK(drive(race_done, NULL, 10 * SECOND));
    CHECK_INT(race.order, 1);
}

/* A stream that had arrived whole stays readable to its end after the connection is gone. */
TEST(whole_stream_outlives_its_connection) {
    p2p_stream mine, theirs;
    uint8_t data[3000], got[4000];
    size_t have = 0;
    int n;
    pattern_fill(data, 0, sizeof data);
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    expect_text(B, theirs, "!");
    CHECK_INT(p2p_stream_write(A->node, mine, data, sizeof data), (int)sizeof data);
    CHECK_DONE(p2p_stream_finish(A->node, mine));
    CHECK_DONE(p2p_close(A->node, AB, 1, NULL));
    CHECK(await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND) != NULL);
    while ((n = p2p_stream_read(B->node, theirs, got + have, sizeof got - have)) > 0)
        have += (size_t)n;
    CHECK_INT(n, 0);
    CHECK_INT(have, sizeof data);
    CHECK_BYTES(got, data, have);
    drive(NULL, NULL, 200 * MS);
    CHECK(p2p_check(B->node) == P2P_OK);
}

/* Unfinished ones end with CLOSED, before DISCONNECTED, and are gone. */
TEST(unfinished_streams_close_before_their_connection) {
    p2p_stream mine, theirs;
    const seen *s;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(A->node, AB, 9, NULL));
    s = await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND);
    CHECK(s != NULL);
    s = await_stream(B, P2P_EVENT_CLOSED, theirs, 0);
    CHECK(s != NULL);
    CHECK(s->event.err < 0);
    CHECK(index_of(B, P2P_EVENT_CLOSED) < index_of(B, P2P_EVENT_DISCONNECTED));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND) != NULL);
    CHECK(index_of(A, P2P_EVENT_CLOSED) >= 0);
    CHECK(index_of(A, P2P_EVENT_CLOSED) < index_of(A, P2P_EVENT_DISCONNECTED));
    CHECK_INT(p2p_stream_write(A->node, mine, "x", 1), P2P_ERR_HANDLE);
}

TEST(stale_and_foreign_stream_handles) {
    p2p_stream bad[4], mine, theirs;
    p2p_room room;
    p2p_span view;
    p2p_conn of;
    p2p_response_head head;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_stream_reset(A->node, mine, 0));
    CHECK(await_stream(A, P2P_EVENT_CLOSED, mine, 3 * SECOND) != NULL);
    bad[0] = stream_none();
    bad[1].id = 0x12345678u;
    bad[2] = theirs;
    bad[3] = mine;
    for (int i = 0; i < 4; i++) {
        CHECK_INT(p2p_stream_write(A->node, bad[i], "x", 1), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_read(A->node, bad[i], &of, 1), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_peek(A->node, bad[i], &view), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_skip(A->node, bad[i], 0), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_reserve(A->node, bad[i], 1, &room), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_commit(A->node, bad[i], 0), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_finish(A->node, bad[i]), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_reset(A->node, bad[i], 0), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_conn(A->node, bad[i], &of), P2P_ERR_HANDLE);
        CHECK_INT(p2p_stream_set_user(A->node, bad[i], &of), P2P_ERR_HANDLE);
        CHECK_INT(p2p_reply(A->node, bad[i], 200, NULL, 0, NULL, 0), P2P_ERR_HANDLE);
        CHECK_INT(p2p_reply_begin(A->node, bad[i], 200, NULL, 0), P2P_ERR_HANDLE);
        CHECK_INT(p2p_reply_later(A->node, bad[i]), P2P_ERR_HANDLE);
        CHECK_INT(p2p_response(A->node, bad[i], &head), P2P_ERR_HANDLE);
        CHECK(p2p_stream_user(A->node, bad[i]) == NULL);
    }
}

TEST(no_stream_on_a_closing_connection) {
    p2p_stream s;
    int err;
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_close(A->node, AB, 0, NULL));
    err = p2p_stream_open(A->node, AB, NULL, &s);
    CHECK(err == P2P_ERR_CLOSED || err == P2P_ERR_HANDLE);
    err = p2p_send(A->node, AB, "x", 1);
    CHECK(err == P2P_ERR_CLOSED || err == P2P_ERR_HANDLE);
}

#define CASES_STREAM(X)                                 \
    X(stream_there_and_back)                            \
    X(events_tell_of_bytes)                             \
    X(one_way_streams)                                  \
    X(stream_user_pointers)                             \
    X(bulk_both_ways)                                   \
    X(empty_both_ways)                                  \
    X(bulk_through_tiny_buffers)                        \
    X(bulk_over_a_bad_link)                             \
    X(backpressure)                                     \
    X(told_once_until_something_new)                    \
    X(peek_and_skip)                                    \
    X(reserve_and_commit)                               \
    X(finish_is_final)                                  \
    X(writer_resets)                                    \
    X(reader_resets)                                    \
    X(streams_wait_for_the_peers_table)                 \
    X(many_short_streams)                               \
    X(streams_are_accepted_in_order)                    \
    X(priorities)                                       \
    X(whole_stream_outlives_its_connection)             \
    X(unfinished_streams_close_before_their_connection) \
    X(stale_and_foreign_stream_handles)                 \
    X(no_stream_on_a_closing_connection)
