/* A handle that outlives breaks, under every break there is: cuts both ways and one way, loss, closes
 * and crashes of the peer, changes of the network, at any moment of anything.
 *
 * What must hold, whatever comes: no message is given twice or out of order, at either end; every
 * message that was taken and not given is one of those that RECONNECTED counted as doubtful; every
 * memory lent comes back once; every stream ends with one CLOSED; the handle never dies; and no
 * memory stays behind. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_DEBUG
#include "p2p_sim.h"
#include "p2p_test.h"

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
enum { MESSAGES = 20000, MESSAGE_MAX = 30000, MAILBOX = 4096, STREAMS = 6 };

typedef struct end {
    p2p_node *node;
    p2p_id id;
    p2p_conn conn;           /* the one to send on; none: 0 */
    uint32_t sent;           /* messages taken from this end, numbered */
    uint8_t given[MESSAGES]; /* by number: the other end's that this one got */
    int64_t last;            /* the last of them */
    uint8_t lent[MESSAGE_MAX];
    int lent_out;
} end;

static uint64_t memory[4u << 20];
static struct {
    p2p_sim *sim;
    p2p_error_detail why;
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_sim_link link;
    end a, b;
    uint64_t rng, doubtful, heal_us;
    uint8_t big[MESSAGE_MAX];
    uint32_t big_number, big_sent, big_back; /* p2p_send_ref, and SENT */
    uint32_t opened, closed, reconnected;
} w;

static uint32_t draw(uint32_t below) {
    w.rng = w.rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(w.rng >> 33) % below;
}

static void fill(uint8_t *out, uint32_t number, size_t size) {
    memset(out, (int)(number * 7 + size), size);
    memcpy(out, &number, sizeof number);
}

static void got_message(end *self, const uint8_t *data, size_t size) {
    uint32_t number;
    CHECK(size >= sizeof number);
    memcpy(&number, data, sizeof number);
    CHECK(number < MESSAGES);
    for (size_t i = sizeof number; i < size; i++)
        CHECK_INT(data[i], (uint8_t)(number * 7 + size));
    CHECK_INT(self->given[number], 0);
    CHECK((int64_t)number > self->last);
    self->given[number] = 1;
    self->last = number;
}

static void drain(end *self, p2p_conn conn) {
    uint8_t data[MAILBOX];
    int size = P2P_ERR_AGAIN;
    while (!test_state.failed && (size = p2p_recv(self->node, conn, data, sizeof data)) >= 0)
        got_message(self, data, (size_t)size);
    if (size == P2P_ERR_TOO_LARGE && !self->lent_out)
        self->lent_out =
            p2p_recv_ref(self->node, conn, self->lent, sizeof self->lent) > 0 ? (int)conn.id : 0;
}

static void on_message(end *self, const p2p_event *e) {
    if (e->user == self->lent) {
        CHECK(self->lent_out);
        self->lent_out = 0;
        CHECK(e->err == P2P_OK || e->err == P2P_ERR_CLOSED);
        if (e->err == P2P_OK)
            got_message(self, self->lent, (size_t)e->size);
    }
    if (self == &w.b || draw(3)) /* A is lazy: much of what it has is read after the break */
        drain(self, e->conn);
}

static void read_all(end *self, p2p_stream s) {
    uint8_t data[512];
    while (p2p_stream_read(self->node, s, data, sizeof data) > 0)
        ;
}

static void on_event_a(const p2p_event *e) {
    CHECK(e->type != P2P_EVENT_DISCONNECTED);
    if (e->type == P2P_EVENT_RECONNECTED) {
        CHECK(p2p_is_connected(w.a.node, w.a.conn) || !e->err);
        w.doubtful += e->size;
        w.reconnected++;
    }
    if (e->type == P2P_EVENT_SENT) {
        CHECK(e->user == w.big);
        CHECK(e->err == P2P_ERR_CLOSED || w.b.given[w.big_number]);
        w.big_back++;
    }
    w.closed += e->type == P2P_EVENT_CLOSED;
    if (e->type == P2P_EVENT_MESSAGE)
        on_message(&w.a, e);
    if (e->type == P2P_EVENT_READABLE)
        read_all(&w.a, e->stream);
}

static void on_event_b(const p2p_event *e) {
    if (e->type == P2P_EVENT_CONNECTED)
        w.b.conn = e->conn;
    if (e->type == P2P_EVENT_MESSAGE)
        on_message(&w.b, e);
    if (e->type == P2P_EVENT_STREAM)
        (void)p2p_stream_finish(w.b.node, e->stream);
    if (e->type == P2P_EVENT_READABLE)
        read_all(&w.b, e->stream);
    if (e->type == P2P_EVENT_DISCONNECTED) {
        drain(&w.b, e->conn);
        if (w.b.lent_out == (int)e->conn.id)
            w.b.lent_out = 0;
        if (w.b.conn.id == e->conn.id)
            w.b.conn.id = 0;
    }
}

static void step(uint64_t us) {
    p2p_event e;
    p2p_sim_run_until(w.sim, p2p_sim_now(w.sim) + us);
    while (!test_state.failed && p2p_next_event(w.b.node, &e) > 0)
        on_event_b(&e);
    while (!test_state.failed && p2p_next_event(w.a.node, &e) > 0)
        on_event_a(&e);
    CHECK_SO_FAR();
    if (p2p_check(w.a.node) < 0)
        p2p_last_error(w.a.node, &w.why), printf("    %s\n", w.why.text);
    CHECK_INT(p2p_check(w.a.node), P2P_OK);
    CHECK_INT(p2p_check(w.b.node), P2P_OK);
}

/* ---- what the programs do ---- */

static void send_one(end *self) {
    uint8_t data[MAILBOX];
    size_t size = sizeof(uint32_t) + draw(draw(8) ? 200 : 3000);
    int n;
    if (!self->conn.id || self->sent == MESSAGES)
        return;
    fill(data, self->sent, size);
    n = p2p_send(self->node, self->conn, data, size);
    CHECK(n == (int)size || n == P2P_ERR_AGAIN || (self == &w.b && n < 0));
    self->sent += n >= 0;
}

static void send_big(void) {
    size_t size = sizeof(uint32_t) + draw(MESSAGE_MAX - 8);
    int n;
    if (w.big_back < w.big_sent || w.a.sent == MESSAGES)
        return;
    w.big_number = w.a.sent;
    fill(w.big, w.a.sent, size);
    n = p2p_send_ref(w.a.node, w.a.conn, w.big, size, w.big);
    CHECK(n == (int)size || n == P2P_ERR_AGAIN);
    w.big_sent += n >= 0;
    w.a.sent += n >= 0;
}

static void open_stream(void) {
    uint8_t data[2000];
    p2p_stream s;
    int n = p2p_stream_open(w.a.node, w.a.conn, NULL, &s);
    CHECK(n == P2P_OK || n == P2P_ERR_LIMIT);
    if (n < 0)
        return;
    w.opened++;
    memset(data, 1, sizeof data);
    (void)p2p_stream_write(w.a.node, s, data, draw(sizeof data));
    if (draw(4))
        CHECK_INT(p2p_stream_finish(w.a.node, s), P2P_OK);
    else
        CHECK_INT(p2p_stream_reset(w.a.node, s, 1), P2P_OK);
}

static void work(void) {
    uint32_t i, n = draw(6);
    for (i = 0; i < n; i++)
        send_one(draw(3) ? &w.a : &w.b);
    if (draw(8) == 0)
        send_big();
    if (draw(3) == 0)
        open_stream();
    if (draw(2))
        (void)p2p_datagram_send(w.a.node, w.a.conn, &n, sizeof n);
    if (draw(10) == 0)
        drain(&w.a, w.a.conn);
}

/* ---- what happens to them ---- */

static void listen_b(void) {
    p2p_listener l;
    CHECK_INT(p2p_listen(w.b.node, NULL, &l), P2P_OK);
}

static void one_way(const end *from, const end *to, int down, uint32_t loss_ppm) {
    p2p_sim_link link = w.link;
    link.down = (uint8_t)down;
    link.loss_ppm = loss_ppm;
    CHECK_INT(p2p_sim_link_set(w.sim, &from->id, &to->id, &link), 0);
}

static void heal(void) {
    one_way(&w.a, &w.b, 0, 0);
    one_way(&w.b, &w.a, 0, 0);
    p2p_sim_heal(w.sim, NULL, 0, NULL, 0);
    w.heal_us = P2P_NEVER;
}

static void trouble(void) {
    uint32_t kind = draw(9);
    w.heal_us = p2p_sim_now(w.sim) + draw(4) * SECOND + draw(1000) * MS;
    switch (kind) {
    case 0: p2p_sim_partition(w.sim, &w.a.id, 1, &w.b.id, 1); break;
    case 1: one_way(&w.a, &w.b, 1, 0); break;
    case 2: one_way(&w.b, &w.a, 1, 0); break;
    case 3: one_way(&w.a, &w.b, 0, 300000); break;
    case 4: one_way(&w.b, &w.a, 0, 300000); break;
    case 5:
        CHECK_INT(p2p_sim_crash(w.sim, &w.b.id), 0);
        CHECK_INT(p2p_sim_restart(w.sim, &w.b.id, &w.b.node), 0);
        w.b.conn.id = 0;
        w.b.lent_out = 0;
        listen_b();
        break;
    case 6:
        (void)p2p_network_changed(w.a.node, p2p_sim_now(w.sim), w.a.node->desc.link.local,
                                  w.a.node->desc.link.local_count);
        break;
    default:
        if (w.b.conn.id)
            (void)p2p_close(w.b.node, w.b.conn, 5, "for a while");
    }
}

static int settled(void) {
    const p2p__conn *c = p2p__conn_get(w.a.node, w.a.conn);
    const p2p__stream *s = p2p__messages(w.a.node, c);
    return c->state == P2P__CONN_OPEN && s->send.acked == s->send.end &&
           w.a.node->local_streams.used == 0;
}

static void begin(uint64_t seed) {
    p2p_connect_desc desc;
    memset(&w, 0, sizeof w);
    memset(&desc, 0, sizeof desc);
    desc.reconnect = 1;
    w.rng = seed;
    w.a.last = w.b.last = -1;
    w.heal_us = P2P_NEVER;
    w.net.seed = seed;
    w.net.nodes = 2;
    w.net.why = w.desc.why = &w.why;
    w.net.link.latency_us = (1 + draw(40)) * MS;
    w.net.link.jitter_us = draw(2) ? 5 * MS : 0;
    w.net.link.rate_bps = draw(2) ? 2000000 : 0;
    w.link = w.net.link;
    w.desc.allow_anyone = 1;
    w.desc.max.conns = 4;
    w.desc.max.conns_per_peer = 4;
    w.desc.max.streams = w.desc.max.peer_streams = STREAMS;
    w.desc.bytes.message_send = w.desc.bytes.message_recv = MAILBOX;
    w.desc.time.idle_us = 2 * SECOND;
    w.desc.time.keepalive_us = 500 * MS;
    w.desc.time.max_age_us = draw(2) ? 10 * SECOND : 0;
    if (p2p_sim_open(&w.sim, &w.net, memory, sizeof memory) < 0)
        printf("    %s, %lu\n", w.why.text, (unsigned long)w.why.max);
    CHECK(w.sim != NULL);
    w.desc.bytes.message_recv = MAILBOX / 2; /* some that B sends are too large for it */
    CHECK_INT(p2p_sim_node(w.sim, "a", &w.desc, &w.a.node), 0);
    w.desc.bytes.message_recv = MAILBOX;
    CHECK_INT(p2p_sim_node(w.sim, "b", &w.desc, &w.b.node), 0);
    w.a.id = *p2p_node_id(w.a.node);
    w.b.id = *p2p_node_id(w.b.node);
    CHECK_INT(p2p_sim_connect(w.sim, &w.a.id, &w.b.id, NULL), 0);
    listen_b();
    CHECK_INT(p2p_connect(w.a.node, &w.b.id, &desc, &w.a.conn), 0);
}

static void run(uint64_t seed) {
    uint64_t end_us;
    uint32_t i, missing = 0;
    begin(seed);
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim_await(w.sim, w.a.node, P2P_EVENT_CONNECTED, 5 * SECOND, NULL), 0);
    for (end_us = p2p_sim_now(w.sim) + 60 * SECOND; p2p_sim_now(w.sim) < end_us;) {
        work();
        if (p2p_sim_now(w.sim) >= w.heal_us)
            heal();
        if (w.heal_us == P2P_NEVER && draw(60) == 0)
            trouble();
        step(MS + draw(40) * MS);
        CHECK_SO_FAR();
    }
    heal();
    for (end_us += 120 * SECOND; p2p_sim_now(w.sim) < end_us && !settled();) {
        step(20 * MS);
        drain(&w.a, w.a.conn);
        CHECK_SO_FAR();
    }
    CHECK(settled());
    for (i = 0; i < 250; i++) {
        step(20 * MS);
        drain(&w.a, w.a.conn);
        CHECK_SO_FAR();
    }
    CHECK_INT(w.a.lent_out, 0);
    for (i = 0; i < w.a.sent; i++)
        missing += !w.b.given[i];
    CHECK(missing <= w.doubtful);
    CHECK_INT(w.big_back, w.big_sent);
    CHECK_INT(w.closed, w.opened);
    CHECK(w.a.sent > 500);
    CHECK(w.a.node->sessions.used <= 2); /* keys may be renewed just now */
    CHECK_INT(w.a.node->conns.used, 1);
    p2p_sim_close(w.sim);
}

TEST(random_breaks) {
    uint32_t reconnected = 0;
    uint64_t doubtful = 0;
    int i, n = test_seeds(60);
    for (i = 0; i < n && !test_state.failed; i++) {
        run(test_seed());
        reconnected += w.reconnected;
        doubtful += w.doubtful;
    }
    CHECK_SO_FAR();
    if (getenv("VERBOSE"))
        printf("    %u breaks, %lu messages in doubt\n", reconnected, (unsigned long)doubtful);
    CHECK(n < 20 || (reconnected > 3u * (uint32_t)n && doubtful > 0)); /* they did break */
}

TEST_MAIN(P2P_TEST_ENTRY(random_breaks))
