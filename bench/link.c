/* link MODE [NAME]: p2p.h and kernel TCP over an emulated link; run it under linkem.
 *
 * Goodput is what the receiving application had, from the sender's first write until FLOW_US later,
 * slow start included, whatever carries it. A share is that of the first of two flows that begin
 * together, over the second half of that time. */
#include "node.h"
#include "tcp.h"

enum {
    FLOW_US = 10000000,
    DIALS = 9,
    LOSSY_CALLERS = 16, /* processes, each with an address of its own */
    LOSSY_DIALS = 120,  /* of each, one after the other */
    ONE_WAY_US = 25000  /* of the link, to tell from an arrival when it was sent */
};

/* ---- flows --------------------------------------------------------------------------------- */

/* What its processes say of a flow while it runs. */
typedef struct flow {
    volatile uint64_t start_us, received;
    pid_t receiver, sender;
} flow;

static flow *current; /* of the process that was just forked */

/* As on loopback, with windows for twice what the link and its queue hold at 5 % loss. */
static void wide(p2p_desc *desc) {
    desc->bytes.stream_send = desc->bytes.stream_recv = 4 << 20;
    desc->bytes.peer_send = 1 << 16;
    desc->bytes.peer_recv = 4 << 20;
    desc->max.conns = 8;
}

static void p2p_receive(int say_to) {
    static end e;
    p2p_event event;
    end_open(&e, 'a', NULL, wide);
    for (end_listen(&e, say_to);; end_step(&e, -1))
        while (p2p_next_event(e.node, &event) > 0)
            if (event.type == P2P_EVENT_STREAM || event.type == P2P_EVENT_READABLE)
                (void)stream_drain(e.node, event.stream, &current->received);
}

static void p2p_flood(const p2p_ticket *to) {
    static end e;
    uint64_t left = UINT64_MAX;
    p2p_stream stream;
    p2p_event event;
    end_open(&e, 'b', NULL, wide);
    end_connect(&e, to);
    if (p2p_stream_open(e.node, e.conn, NULL, &stream) < 0)
        die("stream");
    for (current->start_us = now_us();; end_step(&e, -1)) {
        stream_fill(e.node, stream, &left);
        while (end_event(&e, &event) > 0) {}
    }
}

static void tcp_receive(int say_to) {
    static uint8_t bytes[1 << 18];
    uint16_t port;
    ssize_t n;
    int fd = tcp_listen(&port);
    say(say_to, &port, sizeof port);
    fd = tcp_accept(fd);
    while ((n = read(fd, bytes, sizeof bytes)) > 0)
        current->received += (uint64_t)n;
}

static void tcp_flood(uint16_t port, const char *congestion) {
    static uint8_t bytes[1 << 16];
    int fd = tcp_connect(port, congestion);
    for (current->start_us = now_us(); write(fd, bytes, sizeof bytes) > 0;) {}
}

/* congestion: NULL for p2p.h, else that of kernel TCP. */
static flow *flow_begin(const char *congestion) {
    flow *f = current = (flow *)shared(sizeof *f);
    p2p_ticket ticket;
    uint16_t port = 0;
    pid_t sender;
    if (congestion)
        f->receiver = serve_begin(tcp_receive, &port, sizeof port);
    else
        f->receiver = serve_begin(p2p_receive, &ticket, sizeof ticket);
    sender = child_fork();
    if (sender == 0) {
        if (congestion)
            tcp_flood(port, congestion);
        else
            p2p_flood(&ticket);
        die("a flow's sender");
    }
    f->sender = sender; /* shared memory: the parent alone writes it */
    return f;
}

/* When it began. A sender that cannot begin ends the program. */
static uint64_t flow_begun(const flow *f) {
    while (f->start_us == 0) {
        if (waitpid(f->sender, NULL, WNOHANG) != 0)
            die("a flow's sender");
        sleep_until(now_us() + 500);
    }
    return f->start_us;
}

static void flow_end(flow *f) {
    child_kill(f->sender);
    child_kill(f->receiver);
}

static void measure_goodput(const char *name, const char *congestion) {
    uint64_t start_us, end_us;
    flow *f;
    if (congestion && !tcp_has(congestion)) {
        row_skip(name, "this kernel has no such congestion control");
        return;
    }
    f = flow_begin(congestion);
    start_us = flow_begun(f);
    sleep_until(start_us + scaled(FLOW_US));
    end_us = now_us();
    row(name, "Mbit/s", mbit(f->received, end_us - start_us));
    flow_end(f);
}

/* Of a flow of p2p.h beside another one, or beside kernel TCP. */
static void measure_share(const char *name, const char *congestion) {
    flow *flows[2];
    uint64_t start_us, before[2], gained[2];
    int i;
    if (congestion && !tcp_has(congestion)) {
        row_skip(name, "this kernel has no such congestion control");
        return;
    }
    flows[0] = flow_begin(NULL);
    flows[1] = flow_begin(congestion);
    start_us = flow_begun(flows[0]);
    start_us = flow_begun(flows[1]) > start_us ? flows[1]->start_us : start_us;
    sleep_until(start_us + scaled(FLOW_US) / 2);
    for (i = 0; i < 2; i++)
        before[i] = flows[i]->received;
    sleep_until(start_us + scaled(FLOW_US));
    for (i = 0; i < 2; i++)
        gained[i] = flows[i]->received - before[i];
    for (i = 0; i < 2; i++)
        flow_end(flows[i]);
    if (gained[0] + gained[1] == 0)
        die("both flows");
    row(name, "1", (double)gained[0] / (double)(gained[0] + gained[1]));
}

static void measure_p2p(const char *name) { measure_goodput(name, NULL); }
static void measure_bbr(const char *name) { measure_goodput(name, "bbr"); }
static void measure_cubic(const char *name) { measure_goodput(name, "cubic"); }
static void measure_share_self(const char *name) { measure_share(name, NULL); }
static void measure_share_cubic(const char *name) { measure_share(name, "cubic"); }

/* ---- connect ------------------------------------------------------------------------------- */

static volatile uint64_t *arrived_us; /* when the last message came */

static void many(p2p_desc *desc) {
    desc->max.conns = 256;
    desc->max.half_open = 64;
    desc->bytes.message_send = desc->bytes.message_recv = 1024;
}

static void answer(int say_to) {
    static end e;
    uint8_t text[64];
    p2p_event event;
    end_open(&e, 'a', NULL, many);
    for (end_listen(&e, say_to);; end_step(&e, -1))
        while (p2p_next_event(e.node, &event) > 0)
            while (event.type == P2P_EVENT_MESSAGE &&
                   p2p_recv(e.node, event.conn, text, sizeof text) >= 0)
                *arrived_us = now_us();
}

/* A caller that was never seen before dials with a message at hand. Microseconds to CONNECTED. */
static uint64_t dial(const p2p_ticket *to, const char *host, uint64_t *first_data_us) {
    static end e;
    uint64_t start_us, spent_us;
    end_open(&e, 'b', host, NULL);
    start_us = now_us();
    end_dial(&e, to);
    if (p2p_send(e.node, e.conn, "hello", 5) < 0)
        die("message");
    (void)end_await(&e, P2P_EVENT_CONNECTED, NULL);
    spent_us = now_us() - start_us;
    *first_data_us = *arrived_us - ONE_WAY_US - start_us;
    (void)p2p_close(e.node, e.conn, 0, NULL);
    end_step(&e, 0);
    end_close(&e);
    return spent_us;
}

static void measure_connect(const char *name) {
    static uint64_t times[DIALS], first[DIALS];
    p2p_ticket to;
    pid_t child;
    int i;
    arrived_us = (volatile uint64_t *)shared(sizeof *arrived_us);
    child = serve_begin(answer, &to, sizeof to);
    for (i = 0; i < DIALS; i++)
        times[i] = dial(&to, NULL, &first[i]);
    child_kill(child);
    row_of(name, "us", "us", (double)percentile(times, DIALS, 50));
    row_of(name, "first_data_us", "us", (double)percentile(first, DIALS, 50));
}

static void measure_connect_lossy(const char *name) {
    enum { ALL = LOSSY_CALLERS * LOSSY_DIALS };
    uint64_t *times = (uint64_t *)shared(ALL * sizeof *times), unused;
    pid_t callers[LOSSY_CALLERS], child;
    const uint32_t each = (uint32_t)scaled(LOSSY_DIALS);
    char host[32];
    p2p_ticket to;
    uint32_t i, k;
    arrived_us = (volatile uint64_t *)shared(sizeof *arrived_us);
    child = serve_begin(answer, &to, sizeof to);
    for (i = 0; i < LOSSY_CALLERS; i++) {
        callers[i] = child_fork();
        if (callers[i] != 0)
            continue;
        (void)snprintf(host, sizeof host, "10.9.0.%u", 10 + i);
        for (k = 0; k < each; k++)
            times[i * each + k] = dial(&to, host, &unused);
        exit(0);
    }
    for (i = 0; i < LOSSY_CALLERS; i++)
        child_wait(callers[i]);
    child_kill(child);
    row(name, "us", (double)percentile(times, LOSSY_CALLERS * each, 99));
}

int main(int argc, char **argv) {
    static const mode modes[] = {{"p2p", measure_p2p},
                                 {"tcp_bbr", measure_bbr},
                                 {"tcp_cubic", measure_cubic},
                                 {"share_self", measure_share_self},
                                 {"share_cubic", measure_share_cubic},
                                 {"connect", measure_connect},
                                 {"connect_lossy", measure_connect_lossy}};
    return bench_main(argc, argv, modes, sizeof modes / sizeof modes[0]);
}
