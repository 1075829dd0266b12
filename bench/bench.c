/* bench MODE: p2p.h over loopback. See bench.h for what a mode prints. */
#include "node.h"
#include "behaviour/heap_watch.h"

enum {
    CONNECTS = 31,
    PINGS = 3000,
    PINGS_WARM = 200,
    SMALL = 64, /* bytes of a message, and of a request's and a response's body */
    MESSAGES = 200000,
    BULK_MIB = 256,
    HELD = 5000, /* connections */
    HELD_CALLERS = 50,
    HELD_DIALS = 2, /* handshakes at a time: a node takes no more from one address */
    DATAGRAM_QUEUE = 16384,
    DATAGRAM_US = 1000000,
    WIRE_WARM = 20000,
    WIRE_ROUNDS = 21,
    WIRE_QUIET_US = 60000, /* no acknowledgement is held back for that long */
    RECONNECTS = 3         /* waits between them grow */
};

/* What the serving process says of itself, while it runs. */
typedef struct board {
    volatile uint64_t bytes, messages, datagrams, conns, heap_calls, resident;
    volatile uint64_t wire_bytes,
        wire_packets; /* towards the serving process, IP and UDP counted */
} board;

static board *told;

/* ---- the serving process ------------------------------------------------------------------- */

static void (*serving_desc)(p2p_desc *);

static uint64_t resident_bytes(pid_t process) {
    unsigned long long total, pages;
    char path[64];
    FILE *f;
    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)process);
    f = fopen(path, "r");
    if (!f || fscanf(f, "%llu %llu", &total, &pages) != 2)
        die(path);
    (void)fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void reply_same(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    (void)p2p_reply(node, q->stream, 200, NULL, 0, q->body.data, q->body.size);
}

static void serve_stream(end *e, p2p_stream stream) {
    if (stream_drain(e->node, stream, &told->bytes) == 0)
        (void)p2p_stream_finish(e->node, stream);
}

/* "bye" asks to be left without a goodbye of the caller's. */
static void serve_messages(end *e, p2p_conn conn) {
    uint8_t text[SMALL];
    int n;
    while ((n = p2p_recv(e->node, conn, text, sizeof text)) >= 0) {
        told->messages++;
        if (n == 3 && memcmp(text, "bye", 3) == 0)
            (void)p2p_close(e->node, conn, 0, "as you wish");
    }
}

static void serve_datagrams(end *e, p2p_conn conn) {
    uint8_t bytes[SMALL];
    while (p2p_datagram_recv(e->node, conn, bytes, sizeof bytes) >= 0)
        told->datagrams++;
}

static void serve_event(end *e, const p2p_event *event) {
    switch (event->type) {
    case P2P_EVENT_CONNECTED: told->conns++; break;
    case P2P_EVENT_DISCONNECTED: told->conns--; break;
    case P2P_EVENT_STREAM:
    case P2P_EVENT_READABLE: serve_stream(e, event->stream); break;
    case P2P_EVENT_MESSAGE: serve_messages(e, event->conn); break;
    case P2P_EVENT_DATAGRAM: serve_datagrams(e, event->conn); break;
    default: break;
    }
}

static void serve(int say_to) {
    static end e;
    p2p_route route = {P2P_POST, 0, "/echo", reply_same, NULL};
    p2p_event event;
    told->resident = resident_bytes(getpid());
    end_open(&e, 'a', NULL, serving_desc);
    if (p2p_route_add(e.node, &route) < 0)
        die("route");
    end_listen(&e, say_to);
    heap_watch.calls = 0;
    for (heap_watch.armed = 1;; end_step(&e, -1)) {
        while (p2p_next_event(e.node, &event) > 0)
            serve_event(&e, &event);
        told->heap_calls = heap_watch.calls;
    }
}

static pid_t serving(p2p_ticket *out, void (*change)(p2p_desc *)) {
    told = (board *)shared(sizeof *told);
    serving_desc = change;
    return serve_begin(serve, out, sizeof *out);
}

/* ---- connect, round trip ------------------------------------------------------------------- */

static void measure_connect(const char *name) {
    static uint64_t times[CONNECTS];
    static end e;
    p2p_ticket to;
    pid_t child = serving(&to, NULL);
    int i;
    for (i = 0; i < CONNECTS; i++) {
        end_open(&e, 'b', NULL, NULL);
        times[i] = now_us();
        end_connect(&e, &to);
        times[i] = now_us() - times[i];
        (void)p2p_close(e.node, e.conn, 0, NULL);
        end_step(&e, 0);
        end_close(&e);
    }
    child_kill(child);
    (void)name;
    row("connect_us", "us", (double)percentile(times, CONNECTS, 50));
}

static void take_body(end *e, p2p_stream stream) {
    uint8_t body[256];
    while (p2p_stream_read(e->node, stream, body, sizeof body) > 0) {}
}

static void take_body_event(end *e, const p2p_event *event) {
    if (event->type == P2P_EVENT_READABLE)
        take_body(e, event->stream);
}

/* A request of SMALL bytes, answered by as many: microseconds to the answer. */
static uint64_t ping(end *e) {
    uint8_t body[SMALL];
    p2p_request_desc r;
    p2p_stream stream;
    p2p_event event;
    uint64_t spent = now_us();
    memset(&r, 0, sizeof r);
    memset(body, 7, sizeof body);
    r.method = P2P_POST;
    r.path = "/echo";
    r.body = body;
    r.body_size = sizeof body;
    if (p2p_request_send(e->node, e->conn, &r, &stream) < 0)
        die("request");
    event = end_await(e, P2P_EVENT_RESPONSE, NULL);
    spent = now_us() - spent;
    if (event.status != 200)
        die("response");
    take_body(e, event.stream);
    (void)end_await(e, P2P_EVENT_CLOSED, take_body_event);
    return spent;
}

static void measure_rtt(const char *name) {
    static uint64_t times[PINGS];
    static end e;
    p2p_ticket to;
    pid_t child = serving(&to, NULL);
    int i;
    end_open(&e, 'b', NULL, NULL);
    end_connect(&e, &to);
    for (i = 0; i < PINGS_WARM; i++)
        (void)ping(&e);
    for (i = 0; i < PINGS; i++)
        times[i] = ping(&e);
    child_kill(child);
    (void)name;
    row("rtt_p99_us", "us", (double)percentile(times, PINGS, 99));
    row("rtt_us", "us", (double)percentile(times, PINGS, 50));
}

/* ---- bulk ---------------------------------------------------------------------------------- */

/* One stream of so many bytes, until the other process has read them all. */
static void bulk_send(end *e, uint64_t left) {
    p2p_stream stream;
    p2p_event event;
    if (p2p_stream_open(e->node, e->conn, NULL, &stream) < 0)
        die("stream");
    for (;; end_step(e, -1)) {
        stream_fill(e->node, stream, &left);
        while (end_event(e, &event) > 0) {
            take_body_event(e, &event);
            if (event.type == P2P_EVENT_CLOSED)
                return;
        }
    }
}

static void measure_bulk_of(const char *name, void (*change)(p2p_desc *)) {
    static end e;
    const uint64_t bytes = scaled((uint64_t)BULK_MIB << 20);
    uint64_t spent_us, cpu;
    p2p_stats stats;
    p2p_ticket to;
    pid_t child = serving(&to, change);
    end_open(&e, 'b', NULL, change);
    end_connect(&e, &to);
    cpu = cpu_us(0) + cpu_us(child);
    spent_us = now_us();
    bulk_send(&e, bytes);
    spent_us = now_us() - spent_us;
    cpu = cpu_us(0) + cpu_us(child) - cpu;
    if (told->bytes != bytes || p2p_conn_stats(e.node, e.conn, &stats) < 0)
        die("the transfer");
    child_kill(child);
    row_bulk(name, bytes, spent_us, cpu);
    row_of(name, "datagram_bytes", "B", stats.mtu);
}

static void mtu_1400(p2p_desc *desc) { desc->link.mtu = 1400; }
static void measure_bulk(const char *name) { measure_bulk_of(name, NULL); }
static void measure_bulk_1400(const char *name) {
    p2p_secure secure;
    if (p2p_mbedtls_secure(&secure) < 0)
        die("p2p_mbedtls_secure");
    if (secure.api->content_max + secure.api->overhead + 9 < 1400)
        row_skip("bulk_1400", "the secure channel was built for smaller records");
    else
        measure_bulk_of(name, mtu_1400);
}

/* ---- messages, datagrams ------------------------------------------------------------------- */

/* Sends messages of SMALL bytes until the other process has had so many. */
static void messages_send(end *e, uint64_t count) {
    uint8_t text[SMALL];
    const uint64_t all = told->messages + count;
    p2p_event event;
    memset(text, 7, sizeof text);
    while (told->messages < all) {
        for (; count > 0 && p2p_send(e->node, e->conn, text, sizeof text) >= 0; count--) {}
        end_step(e, 1);
        while (end_event(e, &event) > 0) {}
    }
}

static void measure_messages(const char *name) {
    static end e;
    const uint64_t count = scaled(MESSAGES);
    uint64_t spent_us;
    p2p_ticket to;
    pid_t child = serving(&to, NULL);
    end_open(&e, 'b', NULL, NULL);
    end_connect(&e, &to);
    spent_us = now_us();
    messages_send(&e, count);
    spent_us = now_us() - spent_us;
    child_kill(child);
    (void)name;
    row("messages_per_s", "1/s", (double)count * 1e6 / (double)spent_us);
}

static void datagram_desc(p2p_desc *desc) {
    desc->max.datagrams_in = desc->max.datagrams_out = DATAGRAM_QUEUE;
    desc->bytes.datagram_max = SMALL;
}

/* Keeps the queue full without ever making it overflow; datagrams given to it. */
static uint64_t datagrams_fill(end *e, uint64_t given) {
    uint8_t bytes[SMALL];
    p2p_metrics metrics;
    uint64_t queued;
    p2p_metrics_get(e->node, &metrics);
    queued = given - metrics.value[P2P_METRIC_app_datagrams_sent] -
             metrics.value[P2P_METRIC_app_datagrams_dropped_out];
    memset(bytes, 7, sizeof bytes);
    for (; queued < DATAGRAM_QUEUE; queued++, given++)
        if (p2p_datagram_send(e->node, e->conn, bytes, sizeof bytes) < 0)
            die("datagram");
    return given;
}

static void measure_datagrams(const char *name) {
    static end e;
    const uint64_t last_us = scaled(DATAGRAM_US);
    uint64_t start_us, first = 0, given = 0, given_first = 0, spent_us;
    p2p_event event;
    p2p_ticket to;
    pid_t child = serving(&to, datagram_desc);
    end_open(&e, 'b', NULL, datagram_desc);
    end_connect(&e, &to);
    for (start_us = now_us();; end_step(&e, 1)) {
        spent_us = now_us() - start_us;
        if (!first && spent_us > last_us / 4) { /* the congestion window is open by now */
            first = told->datagrams;
            given_first = given;
            start_us = now_us();
            spent_us = 0;
        }
        if (first && spent_us > last_us)
            break;
        given = datagrams_fill(&e, given);
        while (end_event(&e, &event) > 0) {}
    }
    first = told->datagrams - first;
    child_kill(child);
    (void)name;
    row("datagrams_per_s", "1/s", (double)first * 1e6 / (double)spent_us);
    row("datagrams_arrived", "%", 100.0 * (double)first / (double)(given - given_first));
}

/* ---- connections held ---------------------------------------------------------------------- */

static uint32_t held_count(void) { return (uint32_t)setting("BENCH_CONNS", scaled(HELD)); }

/* The smallest windows; of everything else no more than so many connections need. */
static void held_few(p2p_desc *desc, uint32_t conns) {
    desc->max.conns = desc->max.conns_per_peer = conns;
    desc->max.half_open = conns < 8 ? conns : 8;
    desc->max.in_flight = 2 * conns < 64 ? 64 : 2 * conns;
    desc->bytes.stream_send = desc->bytes.stream_recv = 1024;
    desc->bytes.peer_send = desc->bytes.peer_recv = 1024;
    desc->bytes.message_max = desc->bytes.message_send = desc->bytes.message_recv = SMALL * 2;
}

static void held_desc(p2p_desc *desc) { held_few(desc, held_count()); }

/* Callers with keys of their own behind one socket: a node that hears from a peer anew asks its
 * older connections to that peer whether they still live. */
typedef struct crowd {
    p2p_posix io;
    p2p_node *nodes[HELD_CALLERS];
    uint32_t each; /* connections of each but the last ones */
    uint32_t connected;
} crowd;

static void crowd_open(crowd *c, const p2p_ticket *to, uint32_t count) {
    p2p_desc desc;
    void *arena;
    uint32_t i;
    c->each = (count + HELD_CALLERS - 1) / HELD_CALLERS;
    sockets_open(&c->io, 'b', NULL, &desc);
    for (i = 0; i < HELD_CALLERS; i++) {
        held_few(&desc, c->each);
        if (i > 0 && p2p_posix_share(&c->io, &desc) < 0)
            die(desc.why->text);
        c->nodes[i] = node_open(&desc, &arena);
        if (p2p_peer_add(c->nodes[i], to) < 0)
            die("peer");
    }
}

static void crowd_step(crowd *c, int timeout_ms) {
    p2p_event event;
    uint32_t i;
    if (p2p_posix_step_all(&c->io, c->nodes, HELD_CALLERS, timeout_ms) < 0)
        die("step");
    for (i = 0; i < HELD_CALLERS; i++)
        while (p2p_next_event(c->nodes[i], &event) > 0) {
            if (event.type == P2P_EVENT_DISCONNECTED)
                die(p2p_err_text(event.err));
            c->connected += event.type == P2P_EVENT_CONNECTED;
        }
}

static void crowd_dial(crowd *c, const p2p_ticket *to, uint32_t count) {
    uint32_t dialled = 0;
    p2p_conn conn;
    while (c->connected < count) {
        for (; dialled < count && dialled - c->connected < HELD_DIALS; dialled++)
            if (p2p_connect(c->nodes[dialled / c->each], &to->id, NULL, &conn) < 0)
                die("dialling");
        crowd_step(c, -1);
    }
}

/* A message over every connection shows that they all live. */
static void crowd_use(crowd *c, uint32_t count) {
    p2p_conn *conns = (p2p_conn *)calloc(c->each, sizeof *conns);
    uint8_t text[SMALL];
    int i, k, n;
    memset(text, 7, sizeof text);
    for (i = 0; i < HELD_CALLERS && conns; i++) {
        n = p2p_connections(c->nodes[i], conns, c->each);
        for (k = 0; k < n; k++)
            if (p2p_send(c->nodes[i], conns[k], text, sizeof text) < 0)
                die("message");
        crowd_step(c, 0);
    }
    while (told->messages < count)
        crowd_step(c, 1);
    free(conns);
}

static void measure_held(const char *name) {
    static crowd c;
    const uint32_t count = held_count();
    uint64_t resident;
    p2p_ticket to;
    pid_t child = serving(&to, held_desc);
    crowd_open(&c, &to, count);
    crowd_dial(&c, &to, count);
    crowd_use(&c, count);
    resident = resident_bytes(child) - told->resident;
    (void)name;
    row("conns_held", "1", (double)told->conns);
    row("conns_held_bytes", "B", (double)resident / (double)told->conns);
    child_kill(child);
}

/* ---- bytes on the wire --------------------------------------------------------------------- */

/* Passes datagrams on in both directions and counts those towards the node. */
static void forward(int fd, struct sockaddr_in node) {
    static uint8_t bytes[65536];
    struct sockaddr_in from, caller;
    socklen_t size;
    ssize_t n;
    memset(&caller, 0, sizeof caller);
    for (;;) {
        bool back;
        size = (socklen_t)sizeof from;
        n = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &size);
        if (n < 0)
            die("recvfrom");
        back = from.sin_port == node.sin_port;
        if (!back) {
            caller = from;
            told->wire_bytes += (uint64_t)n + 20 + 8;
            told->wire_packets++;
        }
        (void)sendto(fd, bytes, (size_t)n, 0, (struct sockaddr *)(back ? &caller : &node),
                     (socklen_t)sizeof node);
    }
}

/* From here on the ticket leads to a process that forwards to the node. */
static pid_t forwarding(p2p_ticket *to) {
    struct sockaddr_in at = place_addr('a', 0), node = place_addr('a', to->addrs[0].port);
    socklen_t size = (socklen_t)sizeof at;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
    pid_t child;
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        die("socket");
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, (socklen_t)sizeof room);
    child = child_fork();
    if (child == 0)
        forward(fd, node);
    (void)close(fd);
    to->addr_count = 1;
    to->addrs[0].port = ntohs(at.sin_port);
    return child;
}

static void quiet(end *e) {
    const uint64_t until_us = now_us() + WIRE_QUIET_US;
    p2p_event event;
    while (now_us() < until_us) {
        end_step(e, 5);
        while (end_event(e, &event) > 0) {}
    }
}

/* Each of the messages that are looked at leaves alone, long after the last acknowledgement. */
static void measure_wire(const char *name) {
    static uint64_t sizes[WIRE_ROUNDS];
    static end e;
    uint64_t bytes, packets;
    p2p_ticket to;
    pid_t child = serving(&to, NULL), forwarder = forwarding(&to);
    size_t count = 0;
    int i;
    end_open(&e, 'b', NULL, NULL);
    end_connect(&e, &to);
    messages_send(&e, WIRE_WARM);
    for (i = 0; i < WIRE_ROUNDS; i++) {
        quiet(&e);
        bytes = told->wire_bytes;
        packets = told->wire_packets;
        messages_send(&e, 1);
        if (told->wire_packets == packets + 1)
            sizes[count++] = told->wire_bytes - bytes;
    }
    child_kill(forwarder);
    child_kill(child);
    if (count == 0)
        row_skip(name, "no message left in a datagram of its own");
    else
        row(name, "B", (double)percentile(sizes, count, 50));
}

/* ---- allocations --------------------------------------------------------------------------- */

/* -1: this build of p2p.h has no reconnect. */
static int reconnects(end *e, const p2p_ticket *to) {
    p2p_connect_desc desc;
    int i;
    memset(&desc, 0, sizeof desc);
    desc.reconnect = 1;
    if (p2p_peer_add(e->node, to) < 0 || p2p_connect(e->node, &to->id, &desc, &e->conn) < 0)
        return -1;
    (void)end_await(e, P2P_EVENT_CONNECTED, NULL);
    for (i = 0; i < RECONNECTS; i++) {
        if (p2p_send(e->node, e->conn, "bye", 3) < 0)
            die("message");
        (void)end_await(e, P2P_EVENT_RECONNECTED, NULL);
    }
    return RECONNECTS;
}

static bool heap_watch_counts(void) {
    void *volatile block;
    heap_watch_install();
    heap_watch.armed = 1;
    block = malloc(16);
    heap_watch.armed = 0;
    free(block);
    return heap_watch.calls == 1;
}

/* Calls of malloc's family in both processes from after open until before close: a connection,
 * messages, requests, a stream, reconnects. */
static void measure_allocations(const char *name) {
    static end e;
    p2p_ticket to;
    pid_t child;
    int i;
    if (!heap_watch_works() || !heap_watch_counts()) {
        row_skip(name, "this C library's malloc cannot be watched");
        return;
    }
    child = serving(&to, NULL);
    end_open(&e, 'b', NULL, NULL);
    heap_watch.calls = 0;
    heap_watch.armed = 1;
    end_connect(&e, &to);
    messages_send(&e, scaled(20000));
    for (i = 0; i < 100; i++)
        (void)ping(&e);
    bulk_send(&e, scaled(16 << 20));
    i = reconnects(&e, &to);
    heap_watch.armed = 0;
    row(name, "1", (double)(heap_watch.calls + told->heap_calls));
    if (i < 0)
        row_skip("allocations_reconnect", "desc.reconnect is not built in");
    else
        row("allocations_reconnect", "1", (double)(heap_watch.calls + told->heap_calls));
    child_kill(child);
}

int main(int argc, char **argv) {
    static const mode modes[] = {{"connect", measure_connect},
                                 {"rtt", measure_rtt},
                                 {"bulk", measure_bulk},
                                 {"bulk_1400", measure_bulk_1400},
                                 {"messages", measure_messages},
                                 {"datagrams", measure_datagrams},
                                 {"held", measure_held},
                                 {"wire_bytes_64", measure_wire},
                                 {"allocations", measure_allocations}};
    return bench_main(argc, argv, modes, sizeof modes / sizeof modes[0]);
}
