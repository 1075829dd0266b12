/* bench MODE: one run of one measurement, two processes over loopback. Prints lines "name unit
 * value". bench.py runs each mode several times and takes medians. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CONNECTS = 31,
    PINGS = 3000,
    PINGS_WARM = 200,
    SMALL = 64, /* bytes of a message, and of a request's and a response's body */
    MESSAGES = 200000,
    BULK_MIB = 256,
    SIM_MIB = 16,
    BATCH = 32,       /* datagrams a system call, as in p2p_posix.h */
    RAW_WINDOW = 128, /* datagrams under way without an answer */
    RAW_PACKETS = 150000,
    RAW_DATAGRAM = 1232, /* the default mtu */
    RAW_ENVELOPE =
        9 /* what p2p.h puts before a record, sent here too so that the sizes are equal */
};

static void die(const char *what) {
    (void)fprintf(stderr, "bench: %s failed%s%s\n", what, errno ? ": " : "",
                  errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t cpu_us(void) {
    struct rusage r;
    if (getrusage(RUSAGE_SELF, &r) < 0)
        die("getrusage");
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorts; the value below which `percent` of them lie. */
static uint64_t percentile(uint64_t *values, size_t count, size_t percent) {
    qsort(values, count, sizeof *values, by_value);
    return values[(count - 1) * percent / 100];
}

static void row(const char *name, const char *unit, double value) {
    (void)printf("%s %s %.6g\n", name, unit, value);
}

static void row_cpu(const char *name, uint64_t us, uint64_t bytes) {
    row(name, "s", (double)us / 1e6 * (double)(1u << 30) / (double)bytes);
}

/* ---- two processes --------------------------------------------------------------------------- */

typedef struct pair {
    int to_parent[2], to_child[2];
    pid_t child; /* 0 in the child */
} pair;

static void pair_fork(pair *p) {
    if (pipe(p->to_parent) < 0 || pipe(p->to_child) < 0)
        die("pipe");
    (void)fflush(stdout);
    p->child = fork();
    if (p->child < 0)
        die("fork");
}

static void pair_say(const pair *p, const void *data, size_t size) {
    if (write(p->child ? p->to_child[1] : p->to_parent[1], data, size) != (ssize_t)size)
        die("writing to the other process");
}

static void pair_hear(const pair *p, void *data, size_t size) {
    uint8_t *at = (uint8_t *)data;
    ssize_t n;
    while (size > 0) {
        n = read(p->child ? p->to_parent[0] : p->to_child[0], at, size);
        if (n <= 0)
            die("reading from the other process");
        at += n;
        size -= (size_t)n;
    }
}

static void pair_wait(const pair *p) {
    int status = 0;
    if (waitpid(p->child, &status, 0) < 0 || status != 0)
        die("the other process");
}

/* ---- a node on loopback ---------------------------------------------------------------------- */

typedef struct end {
    p2p_posix io;
    p2p_node *node;
    p2p_conn conn;
    void *arena;
} end;

static void limits(p2p_desc *desc) {
    desc->allow_anyone = 1;
    desc->max.conns = 64;
    desc->max.half_open = 8;
    desc->max.conns_per_peer = 64;
    desc->max.streams = 8;
    desc->max.peer_streams = 8;
    desc->max.in_flight = 8192;
    desc->bytes.stream_send = 1 << 20;
    desc->bytes.stream_recv = 1 << 20;
    desc->bytes.message_send = 1 << 18;
    desc->bytes.message_recv = 1 << 18;
}

static void end_open(end *e) {
    static const char *const here[] = {"127.0.0.1:0"};
    p2p_posix_desc sockets;
    p2p_error_detail why;
    p2p_desc desc;
    size_t size;
    memset(&desc, 0, sizeof desc);
    memset(&sockets, 0, sizeof sockets);
    memset(&why, 0, sizeof why);
    errno = 0;
    sockets.bind = here;
    sockets.bind_count = 1;
    desc.why = &why;
    limits(&desc);
    if (p2p_posix_open(&e->io, &sockets, &desc) < 0)
        die(why.text);
    size = p2p_arena_size(&desc);
    e->arena = malloc(size ? size : 1);
    if (!e->arena || p2p_node_open(&e->node, &desc, e->arena, size) < 0)
        die(why.text);
}

static void end_close(end *e) {
    p2p_node_close(e->node);
    p2p_posix_close(&e->io);
    free(e->arena);
}

/* Runs until an event of this type; others go to `other`. */
static p2p_event end_await(end *e, uint32_t type, void (*other)(end *, const p2p_event *)) {
    p2p_event event;
    for (;;) {
        while (p2p_next_event(e->node, &event) > 0) {
            if (event.type == type)
                return event;
            if (event.type == P2P_EVENT_DISCONNECTED && type != P2P_EVENT_STOPPED)
                die(p2p_err_text(event.err));
            if (other)
                other(e, &event);
        }
        if (p2p_posix_step(&e->io, e->node, -1) < 0)
            die("step");
    }
}

static void end_dial(end *e, const p2p_ticket *to) {
    errno = 0;
    if (p2p_peer_add(e->node, to) < 0 || p2p_connect(e->node, &to->id, NULL, &e->conn) < 0)
        die("dialling");
    (void)end_await(e, P2P_EVENT_CONNECTED, NULL);
}

static void end_listen(end *e, const pair *p, p2p_ticket *out) {
    p2p_listener listener;
    if (p2p_listen(e->node, NULL, &listener) < 0 || p2p_ticket_of(e->node, out) < 0)
        die("listening");
    pair_say(p, out, sizeof *out);
}

static void reply_small(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    (void)p2p_reply(node, q->stream, 200, NULL, 0, q->body.data, q->body.size);
}

/* ---- the serving process --------------------------------------------------------------------- */

typedef struct serving {
    end e;
    uint64_t received, cpu_start_us;
    bool connected;
    uint32_t messages;
} serving;

static void serve_stream(serving *s, p2p_stream stream) {
    p2p_span bytes;
    uint64_t cpu;
    int n;
    while ((n = p2p_stream_peek(s->e.node, stream, &bytes)) > 0) {
        s->received += bytes.size;
        (void)p2p_stream_skip(s->e.node, stream, bytes.size);
    }
    if (n != 0)
        return;
    cpu = cpu_us() - s->cpu_start_us;
    (void)p2p_stream_write(s->e.node, stream, &cpu, sizeof cpu); /* same machine, same byte order */
    (void)p2p_stream_finish(s->e.node, stream);
}

static void serve_messages(serving *s, p2p_conn conn) {
    uint8_t text[SMALL];
    while (p2p_recv(s->e.node, conn, text, sizeof text) >= 0)
        if (++s->messages % MESSAGES == 0)
            (void)p2p_send(s->e.node, conn, "all", 3);
}

static void serve_event(serving *s, const p2p_event *e) {
    switch (e->type) {
    case P2P_EVENT_CONNECTED: s->cpu_start_us = cpu_us(); break;
    case P2P_EVENT_STREAM:
    case P2P_EVENT_READABLE: serve_stream(s, e->stream); break;
    case P2P_EVENT_MESSAGE: serve_messages(s, e->conn); break;
    default: break;
    }
}

/* Until the parent closes its end of the pipe: then the process is told by SIGTERM and simply
 * ends. */
static void serve(const pair *p) {
    static serving s;
    p2p_route route = {P2P_POST, 0, "/echo", reply_small, NULL};
    p2p_ticket ticket;
    p2p_event e;
    end_open(&s.e);
    if (p2p_route_add(s.e.node, &route) < 0)
        die("route");
    end_listen(&s.e, p, &ticket);
    for (;;) {
        if (p2p_posix_step(&s.e.io, s.e.node, -1) < 0)
            die("step");
        while (p2p_next_event(s.e.node, &e) > 0)
            serve_event(&s, &e);
    }
}

static p2p_ticket serve_begin(pair *p) {
    p2p_ticket ticket;
    pair_fork(p);
    if (p->child == 0)
        serve(p);
    pair_hear(p, &ticket, sizeof ticket);
    return ticket;
}

static void serve_end(const pair *p) {
    (void)kill(p->child, SIGKILL);
    (void)waitpid(p->child, NULL, 0);
}

/* ---- measurements of p2p.h ------------------------------------------------------------------- */

static void measure_connect(void) {
    static uint64_t times[CONNECTS];
    static end e;
    uint64_t start_us;
    p2p_ticket to;
    pair p;
    int i;
    to = serve_begin(&p);
    for (i = 0; i < CONNECTS; i++) {
        end_open(&e);
        start_us = p2p_posix_now_us();
        end_dial(&e, &to);
        times[i] = p2p_posix_now_us() - start_us;
        (void)p2p_node_stop(e.node, 0);
        (void)end_await(&e, P2P_EVENT_STOPPED, NULL);
        end_close(&e);
    }
    serve_end(&p);
    row("connect_us", "us", (double)percentile(times, CONNECTS, 50));
}

static void drain(end *e, p2p_stream stream) {
    uint8_t rest[256];
    while (p2p_stream_read(e->node, stream, rest, sizeof rest) > 0) {}
}

static void drain_event(end *e, const p2p_event *event) {
    if (event->type == P2P_EVENT_READABLE)
        drain(e, event->stream);
}

static void measure_rtt(void) {
    static uint64_t times[PINGS];
    static end e;
    uint8_t body[SMALL];
    p2p_request_desc r;
    p2p_stream stream;
    p2p_event event;
    p2p_ticket to;
    uint64_t start_us;
    pair p;
    int i;
    to = serve_begin(&p);
    end_open(&e);
    end_dial(&e, &to);
    memset(&r, 0, sizeof r);
    memset(body, 7, sizeof body);
    r.method = P2P_POST;
    r.path = "/echo";
    r.body = body;
    r.body_size = sizeof body;
    for (i = -PINGS_WARM; i < PINGS; i++) {
        start_us = p2p_posix_now_us();
        if (p2p_request_send(e.node, e.conn, &r, &stream) < 0)
            die("request");
        event = end_await(&e, P2P_EVENT_RESPONSE, NULL);
        if (i >= 0)
            times[i] = p2p_posix_now_us() - start_us;
        if (event.status != 200)
            die("response");
        drain(&e, event.stream);
        (void)end_await(&e, P2P_EVENT_CLOSED, drain_event);
    }
    serve_end(&p);
    row("rtt_p99_us", "us", (double)percentile(times, PINGS, 99));
    row("rtt_us", "us", (double)percentile(times, PINGS, 50));
}

/* Writes until `left` is 0, then reads what the other process says about its time. */
static uint64_t bulk_run(end *e, p2p_stream stream, uint64_t left) {
    uint64_t other_us = 0;
    p2p_room room;
    p2p_event event;
    for (;;) {
        while (left > 0 && p2p_stream_reserve(e->node, stream, 65536, &room) >= 0) {
            size_t n = room.size < left ? room.size : (size_t)left;
            memset(room.data, 'p', n); /* a real program fills it too */
            (void)p2p_stream_commit(e->node, stream, n);
            left -= n;
            if (left == 0)
                (void)p2p_stream_finish(e->node, stream);
        }
        while (p2p_next_event(e->node, &event) > 0) {
            if (event.type == P2P_EVENT_DISCONNECTED)
                die(p2p_err_text(event.err));
            if (event.type == P2P_EVENT_READABLE &&
                p2p_stream_read(e->node, stream, &other_us, sizeof other_us) == sizeof other_us)
                return other_us;
        }
        if (p2p_posix_step(&e->io, e->node, -1) < 0)
            die("step");
    }
}

static void measure_bulk(void) {
    static end e;
    const uint64_t bytes = (uint64_t)BULK_MIB << 20;
    uint64_t start_us, cpu_start_us, other_us, spent_us;
    p2p_stream stream;
    p2p_ticket to;
    pair p;
    to = serve_begin(&p);
    end_open(&e);
    end_dial(&e, &to);
    if (p2p_stream_open(e.node, e.conn, NULL, &stream) < 0)
        die("stream");
    start_us = p2p_posix_now_us();
    cpu_start_us = cpu_us();
    other_us = bulk_run(&e, stream, bytes);
    spent_us = p2p_posix_now_us() - start_us;
    row("bulk_mbit", "Mbit/s", (double)bytes * 8 / (double)spent_us);
    row_cpu("bulk_cpu_s_per_gib", cpu_us() - cpu_start_us + other_us, bytes);
    serve_end(&p);
}

static void measure_messages(void) {
    static end e;
    uint8_t text[SMALL];
    uint64_t start_us, sent = 0;
    p2p_event event;
    p2p_ticket to;
    bool all = false;
    pair p;
    to = serve_begin(&p);
    end_open(&e);
    end_dial(&e, &to);
    memset(text, 7, sizeof text);
    start_us = p2p_posix_now_us();
    while (!all) {
        while (sent < MESSAGES && p2p_send(e.node, e.conn, text, sizeof text) >= 0)
            sent++;
        while (p2p_next_event(e.node, &event) > 0) {
            if (event.type == P2P_EVENT_DISCONNECTED)
                die(p2p_err_text(event.err));
            all = all || (event.type == P2P_EVENT_MESSAGE &&
                          p2p_recv(e.node, e.conn, text, sizeof text) == 3);
        }
        if (!all && p2p_posix_step(&e.io, e.node, -1) < 0)
            die("step");
    }
    row("messages_per_s", "1/s", (double)MESSAGES * 1e6 / (double)(p2p_posix_now_us() - start_us));
    serve_end(&p);
}

static void measure_arena(void) {
    size_t sizes[4];
    p2p_desc desc;
    uint32_t i;
    for (i = 0; i < 4; i++) {
        memset(&desc, 0, sizeof desc);
        desc.max.conns = 8 + (i & 1);
        desc.bytes.message_max = i < 2 ? P2P_NONE : 0;
        (void)p2p_sodium_crypto(&desc.crypto);
        (void)p2p_mbedtls_secure(&desc.secure);
        (void)p2p_posix_random(&desc.random);
        sizes[i] = p2p_arena_size(&desc);
        if (sizes[i] == 0)
            die("p2p_arena_size");
    }
    row("arena_conn_bytes", "B", (double)(sizes[1] - sizes[0]));
    row("arena_conn_messages_bytes", "B", (double)(sizes[3] - sizes[2]));
}

/* ---- the simulator --------------------------------------------------------------------------- */

typedef struct sim_bulk {
    p2p_node *from, *to;
    p2p_stream stream;
    uint64_t left, received;
    bool done;
} sim_bulk;

static void sim_fill(sim_bulk *b) {
    p2p_room room;
    while (b->left > 0 && p2p_stream_reserve(b->from, b->stream, 65536, &room) >= 0) {
        size_t n = room.size < b->left ? room.size : (size_t)b->left;
        memset(room.data, 'p', n);
        (void)p2p_stream_commit(b->from, b->stream, n);
        b->left -= n;
        if (b->left == 0)
            (void)p2p_stream_finish(b->from, b->stream);
    }
}

static void sim_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    sim_bulk *b = (sim_bulk *)ctx;
    p2p_span bytes;
    int n;
    (void)sim;
    if (node == b->from && (e->type == P2P_EVENT_CONNECTED || e->type == P2P_EVENT_WRITABLE)) {
        if (e->type == P2P_EVENT_CONNECTED && p2p_stream_open(node, e->conn, NULL, &b->stream) < 0)
            die("stream");
        sim_fill(b);
    }
    if (node != b->to || (e->type != P2P_EVENT_STREAM && e->type != P2P_EVENT_READABLE))
        return;
    while ((n = p2p_stream_peek(node, e->stream, &bytes)) > 0) {
        b->received += bytes.size;
        (void)p2p_stream_skip(node, e->stream, bytes.size);
    }
    b->done = b->done || n == 0;
}

static void measure_sim(void) {
    static sim_bulk b;
    size_t size;
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_error_detail why;
    p2p_listener listener;
    p2p_conn conn;
    p2p_sim *sim = NULL;
    p2p_sim_stats stats;
    uint64_t start_us, spent_us;
    void *arena;
    memset(&net, 0, sizeof net);
    memset(&desc, 0, sizeof desc);
    memset(&why, 0, sizeof why);
    errno = 0;
    net.seed = 1;
    net.packets = 16384;
    net.link.latency_us = 1000;
    net.on_event = sim_event;
    net.ctx = &b;
    net.why = desc.why = &why;
    limits(&desc);
    b.left = (uint64_t)SIM_MIB << 20;
    size = p2p_sim_arena_size(&net) + 2 * p2p_sim_node_size(&net, &desc);
    arena = malloc(size);
    if (!arena || p2p_sim_open(&sim, &net, arena, size) < 0 ||
        p2p_sim_node(sim, "from", &desc, &b.from) < 0 ||
        p2p_sim_node(sim, "to", &desc, &b.to) < 0 ||
        p2p_sim_connect(sim, p2p_node_id(b.from), p2p_node_id(b.to), NULL) < 0)
        die(why.text);
    if (p2p_listen(b.to, NULL, &listener) < 0 ||
        p2p_connect(b.from, p2p_node_id(b.to), NULL, &conn) < 0)
        die("dialling");
    start_us = p2p_posix_now_us();
    while (!b.done && p2p_sim_step(sim) != P2P_NEVER) {}
    spent_us = p2p_posix_now_us() - start_us + 1;
    if (b.received != (uint64_t)SIM_MIB << 20)
        die("the transfer in the simulator");
    p2p_sim_stats_get(sim, &stats);
    row("sim_deliveries_per_s", "1/s", (double)stats.delivered * 1e6 / (double)spent_us);
    p2p_sim_close(sim);
    free(arena);
}

/* ---- raw sockets ----------------------------------------------------------------------------- */

/* A pair of connected UDP sockets on loopback; one process keeps each. */
static void raw_sockets(int fds[2]) {
    struct sockaddr_in at[2];
    socklen_t size;
    int i, room = 4 << 20;
    for (i = 0; i < 2; i++) {
        size = (socklen_t)sizeof at[i];
        memset(&at[i], 0, sizeof at[i]);
        at[i].sin_family = AF_INET;
        at[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&at[i], size) < 0 ||
            getsockname(fds[i], (struct sockaddr *)&at[i], &size) < 0)
            die("socket");
        (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &room, (socklen_t)sizeof room);
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, (socklen_t)sizeof room);
    }
    for (i = 0; i < 2; i++)
        if (connect(fds[i], (struct sockaddr *)&at[1 - i], (socklen_t)sizeof at[i]) < 0)
            die("connect");
}

static void raw_wait(int fd) {
    struct pollfd set;
    set.fd = fd;
    set.events = POLLIN;
    if (poll(&set, 1, 5000) <= 0)
        die("waiting for a datagram");
}

static void measure_raw_rtt(void) {
    static uint64_t times[PINGS];
    uint8_t text[SMALL];
    uint64_t start_us;
    pair p;
    int fds[2], i, fd;
    memset(text, 7, sizeof text);
    raw_sockets(fds);
    pair_fork(&p);
    fd = fds[p.child ? 0 : 1];
    for (i = -PINGS_WARM; i < PINGS; i++) {
        start_us = p2p_posix_now_us();
        if (p.child && send(fd, text, sizeof text, 0) < 0)
            die("send");
        raw_wait(fd);
        if (recv(fd, text, sizeof text, 0) < 0 || (!p.child && send(fd, text, sizeof text, 0) < 0))
            die("recv");
        if (i >= 0)
            times[i] = p2p_posix_now_us() - start_us;
    }
    if (!p.child)
        _exit(0);
    pair_wait(&p);
    row("raw_udp_rtt_us", "us", (double)percentile(times, PINGS, 50));
}

/* Datagrams of one size in batches, as p2p_posix.h sends and receives them, sealed when `secure` is
 * given. A window keeps the receiver's queue from overflowing: what is measured is work, not
 * loss. */
typedef struct raw {
    int fd;
    const p2p_secure *secure; /* NULL: plain */
    void *slab;
    struct mmsghdr list[BATCH];
    struct iovec parts[BATCH];
    uint8_t bytes[BATCH][2048];
    uint8_t packet[2048];
    size_t packet_size;
} raw;

static void raw_prepare(raw *r) {
    int i;
    memset(r->list, 0, sizeof r->list);
    for (i = 0; i < BATCH; i++) {
        r->parts[i].iov_base = r->bytes[i];
        r->parts[i].iov_len = sizeof r->bytes[i];
        r->list[i].msg_hdr.msg_iov = &r->parts[i];
        r->list[i].msg_hdr.msg_iovlen = 1;
    }
}

static void raw_make(raw *r, int i) {
    int n = RAW_DATAGRAM;
    if (r->secure) {
        n = r->secure->api->seal(r->secure->ctx, r->slab, r->packet, r->packet_size,
                                 r->bytes[i] + RAW_ENVELOPE, sizeof r->bytes[i] - RAW_ENVELOPE);
        if (n < 0)
            die("sealing");
        n += RAW_ENVELOPE;
    }
    r->parts[i].iov_len = (size_t)n;
}

static void raw_send_all(raw *r) {
    uint64_t sent = 0, answered = 0, told;
    int i, n;
    raw_prepare(r);
    while (answered < RAW_PACKETS) {
        while (sent < RAW_PACKETS && sent - answered <= RAW_WINDOW - BATCH) {
            for (i = 0; i < BATCH; i++)
                raw_make(r, i);
            for (i = 0; i < BATCH; i += n) {
                n = sendmmsg(r->fd, r->list + i, (unsigned)(BATCH - i), 0);
                if (n < 0)
                    die("sendmmsg");
            }
            sent += BATCH;
        }
        raw_wait(r->fd);
        if (recv(r->fd, &told, sizeof told, 0) == sizeof told)
            answered = told;
    }
}

static uint64_t raw_take(raw *r, int i) {
    uint8_t *plain = NULL;
    int n = (int)r->list[i].msg_len;
    if (!r->secure)
        return (uint64_t)n;
    n = r->secure->api->open(r->secure->ctx, r->slab, r->bytes[i] + RAW_ENVELOPE,
                             (size_t)n - RAW_ENVELOPE, &plain);
    if (n <= 0)
        die("opening a record");
    return (uint64_t)n;
}

static uint64_t raw_receive_all(raw *r) {
    uint64_t count = 0, bytes = 0, told = 0;
    int i, n;
    raw_prepare(r);
    while (count < RAW_PACKETS) {
        raw_wait(r->fd);
        n = recvmmsg(r->fd, r->list, BATCH, MSG_DONTWAIT, NULL);
        if (n <= 0)
            continue;
        for (i = 0; i < n; i++)
            bytes += raw_take(r, i);
        count += (uint64_t)n;
        if (count - told < BATCH / 2 && count < RAW_PACKETS)
            continue;
        told = count;
        if (send(r->fd, &count, sizeof count, 0) < 0)
            die("send");
    }
    return bytes;
}

/* The handshake of the port, datagram by datagram, without p2p.h's envelope. */
static void raw_handshake(raw *r, const p2p_random *random, bool server) {
    uint8_t bytes[2048];
    p2p_secure_params params;
    bool complete = false;
    int n, rounds;
    memset(&params, 0, sizeof params);
    params.server = server;
    params.content = (uint32_t)r->packet_size;
    params.timer_us = 500000;
    params.random = *random;
    memset(params.psk, 7, sizeof params.psk);
    if (r->secure->api->begin(r->secure->ctx, r->slab,
                              r->secure->api->session_size(r->secure->ctx, params.content),
                              &params) < 0)
        die("begin");
    for (rounds = 0; rounds < 1000; rounds++) {
        while ((n = r->secure->api->flight(r->secure->ctx, r->slab, p2p_posix_now_us(), bytes,
                                           sizeof bytes, 0)) > 0)
            if (send(r->fd, bytes, (size_t)n, 0) < 0)
                die("send");
        if (n < 0)
            die("flight");
        if (complete)
            return;
        raw_wait(r->fd);
        n = (int)recv(r->fd, bytes, sizeof bytes, 0);
        n = r->secure->api->feed(r->secure->ctx, r->slab, p2p_posix_now_us(), bytes, (size_t)n);
        if (n < 0)
            die("feed");
        complete = n > 0;
    }
    die("the bare handshake");
}

static void raw_open(raw *r, const p2p_secure *secure, bool server) {
    p2p_random random;
    r->secure = secure;
    r->packet_size = RAW_DATAGRAM;
    if (!secure)
        return;
    r->packet_size = (size_t)(RAW_DATAGRAM - RAW_ENVELOPE - secure->api->overhead);
    if (posix_memalign(&r->slab, 16,
                       secure->api->session_size(secure->ctx, (uint32_t)r->packet_size)) ||
        p2p_posix_random(&random) < 0)
        die("memory");
    raw_handshake(r, &random, server);
}

static void measure_raw(bool sealed) {
    static raw r;
    static p2p_secure secure;
    uint64_t figures[3], cpu; /* bytes, time, CPU of the receiver */
    pair p;
    int fds[2];
    if (sealed && p2p_mbedtls_secure(&secure) < 0)
        die("p2p_mbedtls_secure");
    raw_sockets(fds);
    pair_fork(&p);
    r.fd = fds[p.child ? 0 : 1];
    raw_open(&r, sealed ? &secure : NULL, p.child == 0);
    cpu = cpu_us();
    figures[1] = p2p_posix_now_us();
    if (p.child == 0) {
        figures[0] = raw_receive_all(&r);
        figures[1] = p2p_posix_now_us() - figures[1];
        figures[2] = cpu_us() - cpu;
        pair_say(&p, figures, sizeof figures);
        _exit(0);
    }
    raw_send_all(&r);
    cpu = cpu_us() - cpu;
    pair_hear(&p, figures, sizeof figures);
    pair_wait(&p);
    row(sealed ? "raw_dtls_mbit" : "raw_udp_mbit", "Mbit/s",
        (double)figures[0] * 8 / (double)figures[1]);
    row_cpu(sealed ? "raw_dtls_cpu_s_per_gib" : "raw_udp_cpu_s_per_gib", cpu + figures[2],
            figures[0]);
}

static void measure_raw_udp(void) { measure_raw(false); }
static void measure_raw_dtls(void) { measure_raw(true); }

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = {{"connect", measure_connect},  {"rtt", measure_rtt},
                 {"bulk", measure_bulk},        {"messages", measure_messages},
                 {"arena", measure_arena},      {"sim", measure_sim},
                 {"raw_rtt", measure_raw_rtt},  {"raw_udp", measure_raw_udp},
                 {"raw_dtls", measure_raw_dtls}};
    size_t i;
    for (i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (argc == 2 && strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run();
            return fflush(stdout) == 0 ? 0 : 1;
        }
    (void)fputs("usage: bench connect|rtt|bulk|messages|arena|sim|raw_rtt|raw_udp|raw_dtls\n",
                stderr);
    return 2;
}
