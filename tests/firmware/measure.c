/* measure.c: how many instructions the speaker's node takes, to the instruction.
 *
 * Two nodes in one image: the client has the speaker's desc, the server what a small streamer has.
 * Time is a number that this program moves on, random numbers come from the argument "seed=N", so
 * every run executes the same instructions, and with QEMU's -icount the counter of board_ticks
 * counts them: 1 instruction is 64 ns, a tick is 40 ns. Only calls into the client's node count;
 * of these, what the secure channel and the crypto table take is counted apart, and so is what
 * reading the counter itself takes.
 *
 * Prints "name value" lines for tests/firmware/firmware.py and PASS, or FAIL and why. */
#include "board.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "speaker_desc.h"

enum {
    BYTES = 2000000,
    STEP_US = 1000, /* from one node to the other */
    QUEUE = 64,
    DATAGRAM = 1500,
    SERVER_ARENA = 700000,
    IDLE_US = 600000000
};

typedef struct datagram {
    uint64_t at_us;
    size_t size;
    uint8_t bytes[DATAGRAM];
} datagram;

typedef struct queue {
    datagram slot[QUEUE];
    uint32_t head, count, lost;
} queue;

static uint64_t client_arena[SPEAKER_ARENA / 8], server_arena[SERVER_ARENA / 8];
static queue to_client, to_server;
static p2p_node *client, *server;
static p2p_conn conn;
static p2p_stream stream;
static p2p_addr client_addr, server_addr;
static uint64_t now_us;
static uint64_t written, received;
static bool connected, ended;

/* ---- counting -------------------------------------------------------------------------------- */

typedef struct counter {
    uint64_t ticks, calls;
} counter;
static counter in_client, in_tables; /* the second one lies within the first */
static bool counting;
static uint64_t read_ticks; /* of 1000 pairs of reads */

static uint64_t ticks_of(const counter *c) { return c->ticks - c->calls * read_ticks / 1000; }
static uint64_t instructions(uint64_t ticks) { return ticks * 5 / 8; }

static void calibrate(void) {
    uint64_t from;
    int i;
    for (i = 0; i < 1000; i++) {
        from = board_ticks();
        read_ticks += board_ticks() - from;
    }
}

/* A call into the client's node. */
#define COUNT(call)                                      \
    do {                                                 \
        uint64_t ticks_before = board_ticks();           \
        counting = true;                                 \
        call;                                            \
        counting = false;                                \
        in_client.ticks += board_ticks() - ticks_before; \
        in_client.calls++;                               \
    } while (0)

/* A call out of it. The tables call back for random bytes, which the node makes with its own. */
#define APART(call)                                          \
    do {                                                     \
        bool counted = counting;                             \
        uint64_t ticks_before = board_ticks();               \
        counting = false;                                    \
        call;                                                \
        counting = counted;                                  \
        if (counted) {                                       \
            in_tables.ticks += board_ticks() - ticks_before; \
            in_tables.calls++;                               \
        }                                                    \
    } while (0)

/* ---- the tables, counted --------------------------------------------------------------------- */

static p2p_secure dtls;
static p2p_crypto sodium;

static size_t session_size(void *ctx, uint32_t content) {
    return dtls.api->session_size(ctx, content);
}
static int begin(void *ctx, void *slab, size_t size, const p2p_secure_params *params) {
    int rc;
    APART(rc = dtls.api->begin(ctx, slab, size, params));
    return rc;
}
static int feed(void *ctx, void *slab, uint64_t now, uint8_t *records, size_t size) {
    int rc;
    APART(rc = dtls.api->feed(ctx, slab, now, records, size));
    return rc;
}
static int flight(void *ctx, void *slab, uint64_t now, uint8_t *out, size_t room, int keep) {
    int rc;
    APART(rc = dtls.api->flight(ctx, slab, now, out, room, keep));
    return rc;
}
static int resend(void *ctx, void *slab, uint64_t now) { return dtls.api->resend(ctx, slab, now); }
static uint64_t deadline(void *ctx, const void *slab) { return dtls.api->deadline(ctx, slab); }
static int binding(void *ctx, const void *slab, uint8_t out[32]) {
    int rc;
    APART(rc = dtls.api->binding(ctx, slab, out));
    return rc;
}
static int seal(void *ctx, void *slab, const uint8_t *packet, size_t size, uint8_t *out,
                size_t room) {
    int rc;
    APART(rc = dtls.api->seal(ctx, slab, packet, size, out, room));
    return rc;
}
static int unseal(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out) {
    int rc;
    APART(rc = dtls.api->open(ctx, slab, record, size, out));
    return rc;
}
static void end(void *ctx, void *slab) { APART(dtls.api->end(ctx, slab)); }

static int public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
    int rc;
    APART(rc = sodium.api->public_key(ctx, seed, out));
    return rc;
}
static int sign(void *ctx, const uint8_t seed[32], const void *message, size_t size,
                uint8_t out[64]) {
    int rc;
    APART(rc = sodium.api->sign(ctx, seed, message, size, out));
    return rc;
}
static int verify(void *ctx, const p2p_id *id, const void *message, size_t size,
                  const uint8_t signature[64]) {
    int rc;
    APART(rc = sodium.api->verify(ctx, id, message, size, signature));
    return rc;
}
static int sha256(void *ctx, const void *const *parts, const size_t *sizes, size_t count,
                  uint8_t out[32]) {
    int rc;
    APART(rc = sodium.api->sha256(ctx, parts, sizes, count, out));
    return rc;
}

static p2p_secure_api secure_counted = {NULL,         0,       0,    0,      0,
                                        session_size, begin,   feed, flight, resend,
                                        deadline,     binding, seal, unseal, end};
static const p2p_crypto_api crypto_counted = {public_key, sign, verify, sha256};

static void count_tables(p2p_desc *desc) {
    (void)p2p_mbedtls_secure(&dtls);
    (void)p2p_sodium_crypto(&sodium);
    secure_counted.name = dtls.api->name;
    secure_counted.prefix = dtls.api->prefix;
    secure_counted.overhead = dtls.api->overhead;
    secure_counted.content_max = dtls.api->content_max;
    desc->secure.ctx = dtls.ctx;
    desc->secure.api = &secure_counted;
    desc->crypto.ctx = sodium.ctx;
    desc->crypto.api = &crypto_counted;
}

/* ---- the world ------------------------------------------------------------------------------- */

static void fail(const char *what, int err) {
    board_print(what);
    board_print_line(" -", (uint64_t)-err);
    board_print("FAIL\n");
    board_exit(1);
}

static void must(int rc, const char *what) {
    if (rc < 0)
        fail(what, rc);
}

static void desc_of(p2p_desc *desc, uint8_t key, p2p_key *out) {
    uint8_t seed[32] = {0};
    memset(desc, 0, sizeof *desc);
    count_tables(desc);
    desc->random.fill = board_random;
    seed[0] = key;
    must(p2p_key_from_seed(&desc->crypto, seed, out), "key");
    desc->key = out;
}

static void open_client(void) {
    static p2p_error_detail why;
    static p2p_desc desc;
    static p2p_key key;
    desc_of(&desc, 1, &key);
    speaker_desc(&desc);
    desc.why = &why;
    board_print_line("arena_bytes", p2p_arena_size(&desc));
    board_print_line("arena_bound", sizeof client_arena);
    must(p2p_node_open(&client, &desc, client_arena, sizeof client_arena), "client");
}

static void open_server(void) {
    static p2p_desc desc;
    static p2p_key key;
    p2p_listener listener;
    desc_of(&desc, 2, &key);
    desc.allow_anyone = 1;
    desc.max.in_flight = 128;
    desc.max.streams = desc.max.peer_streams = 4;
    desc.max.conns = 2;
    desc.bytes.message_max = P2P_NONE;
    must(p2p_node_open(&server, &desc, server_arena, sizeof server_arena), "server");
    must(p2p_listen(server, NULL, &listener), "listen");
}

static void take_output(p2p_node *node, queue *q, bool count) {
    p2p_packet packet;
    int n;
    for (;;) {
        datagram *d = &q->slot[(q->head + q->count) % QUEUE];
        if (q->count == QUEUE)
            fail("queue", 0);
        memset(&packet, 0, sizeof packet);
        packet.data = d->bytes;
        packet.size = DATAGRAM;
        if (count)
            COUNT(n = p2p_output(node, now_us, &packet));
        else
            n = p2p_output(node, now_us, &packet);
        if (n <= 0)
            return;
        d->size = packet.size;
        d->at_us = now_us + STEP_US;
        q->count++;
    }
}

static void give_input(p2p_node *node, queue *q, const p2p_addr *from, bool count) {
    p2p_packet packet;
    while (q->count > 0 && q->slot[q->head].at_us <= now_us) {
        datagram *d = &q->slot[q->head];
        memset(&packet, 0, sizeof packet);
        packet.remote = *from;
        packet.data = d->bytes;
        packet.size = d->size;
        if (count)
            COUNT((void)p2p_input(node, now_us, &packet));
        else
            (void)p2p_input(node, now_us, &packet);
        q->head = (q->head + 1) % QUEUE;
        q->count--;
    }
}

/* ---- the programs of both ends --------------------------------------------------------------- */

static void server_write(void) {
    static uint8_t bytes[1024];
    size_t size;
    int n = 1;
    while (written < BYTES && n > 0) {
        size = BYTES - written < sizeof bytes ? (size_t)(BYTES - written) : sizeof bytes;
        n = p2p_stream_write(server, stream, bytes, size);
        written += n > 0 ? (uint32_t)n : 0;
    }
    if (written == BYTES)
        (void)p2p_stream_finish(server, stream);
}

static void server_events(void) {
    p2p_event e;
    while (p2p_next_event(server, &e) > 0)
        if (e.type == P2P_EVENT_STREAM)
            stream = e.stream;
    if (stream.id && written < BYTES)
        server_write();
}

static void client_read(p2p_stream s) {
    static uint8_t bytes[1200];
    int n;
    do {
        COUNT(n = p2p_stream_read(client, s, bytes, sizeof bytes));
        received += n > 0 ? (uint32_t)n : 0;
    } while (n > 0);
    ended = ended || n == 0;
}

static void client_events(void) {
    p2p_event e;
    int n;
    for (;;) {
        COUNT(n = p2p_next_event(client, &e));
        if (n <= 0)
            return;
        connected = connected || e.type == P2P_EVENT_CONNECTED;
        if (e.type == P2P_EVENT_DISCONNECTED)
            fail("disconnected", e.err);
        if (e.type == P2P_EVENT_READABLE)
            client_read(e.stream);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t next_us(void) {
    uint64_t next = earlier(p2p_deadline(client), p2p_deadline(server));
    if (to_client.count > 0)
        next = earlier(next, to_client.slot[to_client.head].at_us);
    if (to_server.count > 0)
        next = earlier(next, to_server.slot[to_server.head].at_us);
    return next > now_us ? next : now_us + 1;
}

static void turn(void) {
    give_input(client, &to_client, &server_addr, true);
    give_input(server, &to_server, &client_addr, false);
    COUNT(p2p_poll(client, now_us));
    p2p_poll(server, now_us);
    client_events();
    server_events();
    take_output(client, &to_server, true);
    take_output(server, &to_client, false);
}

static void reset(void) {
    memset(&in_client, 0, sizeof in_client);
    memset(&in_tables, 0, sizeof in_tables);
}

/* ---- what is measured ------------------------------------------------------------------------ */

static void dial(void) {
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    ticket.id = *p2p_node_id(server);
    ticket.addrs[0] = server_addr;
    ticket.addr_count = 1;
    must(p2p_peer_add(client, &ticket), "peer");
    COUNT(must(p2p_connect(client, &ticket.id, NULL, &conn), "connect"));
}

static void measure_connect(void) {
    reset();
    dial();
    for (; !connected && now_us < 10000000; now_us = next_us())
        turn();
    if (!connected)
        fail("not connected", 0);
    board_print_line("connect_instructions", instructions(ticks_of(&in_client)));
    board_print_line("connect_p2p_instructions",
                     instructions(ticks_of(&in_client) - ticks_of(&in_tables)));
}

static void measure_receive(void) {
    p2p_stream own;
    reset();
    must(p2p_stream_open(client, conn, NULL, &own), "stream");
    must(p2p_stream_finish(client, own), "finish");
    for (; !ended && now_us < 600000000; now_us = next_us())
        turn();
    if (received != BYTES)
        fail("not received", 0);
    board_print_line("rx_1200_instructions", instructions(ticks_of(&in_client)) * 1200 / BYTES);
    board_print_line("rx_1200_p2p_instructions",
                     instructions(ticks_of(&in_client) - ticks_of(&in_tables)) * 1200 / BYTES);
}

/* A connection that has nothing to do asks for nothing but its keepalive: how often the client
 * wants to be woken though nothing arrived. */
static void measure_idle(void) {
    uint64_t from, wakes = 0;
    for (from = now_us; now_us < from + 5000000; now_us = next_us())
        turn(); /* acknowledgements, path MTU discovery come to rest */
    for (from = now_us; now_us < from + IDLE_US; now_us = next_us()) {
        bool arrives = to_client.count > 0 && to_client.slot[to_client.head].at_us <= now_us;
        wakes += !arrives && p2p_deadline(client) <= now_us;
        turn();
    }
    board_print_line("idle_wakes_in_10_minutes", wakes);
}

int main(void) {
    client_addr.family = server_addr.family = 4;
    client_addr.ip[0] = server_addr.ip[0] = 10;
    client_addr.ip[3] = 1;
    server_addr.ip[3] = 2;
    client_addr.port = server_addr.port = 8800;
    calibrate();
    open_client();
    open_server();
    measure_connect();
    measure_receive();
    measure_idle();
    board_print_line("stack_bytes", board_stack_used());
    board_print("PASS\n");
    return 0;
}
