/* pair.h: a client and a server in the simulator, and downloads between them.
 *
 * The client opens a bidirectional stream, writes how many bytes it wants, 8 of them, and finishes;
 * the server answers with so many bytes of a pattern that knows its place. The client checks every
 * one of them against the pattern, so that a byte lost, doubled or out of place is noticed, and a
 * download is done when its stream is CLOSED without an error after the last byte.
 *
 *     pair_open(seed, dtls);               pair.link and pair.desc[] may be changed before
 *     CHECK_SO_FAR();
 *     pair_dial();
 *     pair_want(size);                     as often as downloads are wanted
 *     pair_run(pair_done, limit_us);       virtual time passes, p2p_check now and then
 *     CHECK(pair_well()); */
#ifndef PAIR_H
#define PAIR_H
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"
#include "p2p_test.h"

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
enum { CLIENT, SERVER, DOWNLOADS = 2000, PATTERN = 65521, PAIR_ARENA = 48 << 20 };
#define CHECK_EVERY_US (100 * MS)

typedef struct download {
    p2p_stream stream;
    uint64_t size, got;
    int ended, closed;
} download;

typedef struct answer {
    uint8_t request[8];
    uint64_t size, sent, have;
    int asked; /* the request is here, whole */
} answer;

static struct {
    p2p_sim *sim;
    p2p_node *node[2];
    p2p_id id[2];
    p2p_conn conn[2];
    /* for pair_open: pair_defaults fills them in, a test changes them */
    p2p_sim_link link;
    p2p_desc desc[2];
    /* NULL: downloads as above; else all that happens after the counts below were updated */
    void (*on_event)(int who, const p2p_event *e);
    /* what happened */
    int up[2], down[2], err[2];
    uint64_t up_us[2], down_us[2], done_us, checked_us;
    uint32_t wanted, opened, done, answers;
    char broken[128]; /* the first thing that went wrong */
} pair;
static download downloads[DOWNLOADS];
static answer answers[DOWNLOADS];
static uint64_t *pair_arena;
static uint8_t pair_pattern[2 * PATTERN];

static void pair_break(const char *what, int err) {
    if (!pair.broken[0])
        snprintf(pair.broken, sizeof pair.broken, "%s: %s", what, p2p_err_name(err));
}

/* 1 when nothing went wrong; else says what did. */
static inline int pair_well(void) {
    if (pair.broken[0])
        printf("    at %.3f s, %u of %u downloads done: %s\n", (double)p2p_sim_now(pair.sim) / 1e6,
               (unsigned)pair.done, (unsigned)pair.wanted, pair.broken);
    return !pair.broken[0];
}

static inline int pair_done(void) { return pair.done == pair.wanted || pair.broken[0]; }

/* 15 ms one way, 10 Mbit/s of IP packets, and a queue for 25 of them. */
static void pair_defaults(int congestion) {
    memset(&pair, 0, sizeof pair);
    pair.link.latency_us = 15 * MS;
    pair.link.rate_bps = 10000000;
    pair.link.overhead = 28;
    pair.link.queue_bytes = 25 * (1200 + 28);
    for (int i = 0; i < 2; i++) {
        p2p_desc *d = &pair.desc[i];
        d->allow_anyone = 1;
        d->congestion = (uint8_t)congestion;
        d->max.conns = 2;
        d->max.streams = d->max.peer_streams = 4;
        d->max.datagrams_in = d->max.datagrams_out = 2;
        d->bytes.message_max = P2P_NONE;
        d->bytes.stream_send = d->bytes.peer_recv = 16384;
        d->bytes.stream_recv = d->bytes.peer_send = 1 << 18;
    }
}

/* ---- what the server does ---- */

static void answer_read(p2p_stream s, answer *a) {
    uint8_t more[1];
    int n = 0;
    while (a->have < sizeof a->request && n >= 0) {
        n = p2p_stream_read(pair.node[SERVER], s, a->request + a->have,
                            sizeof a->request - (size_t)a->have);
        if (n == 0)
            pair_break("a request that is too short", 0);
        if (n <= 0)
            return;
        a->have += (uint64_t)n;
    }
    if (p2p_stream_read(pair.node[SERVER], s, more, 1) == 0) {
        memcpy(&a->size, a->request, sizeof a->size);
        a->asked = 1;
    }
}

static void answer_write(p2p_stream s, answer *a) {
    while (a->asked && a->sent < a->size) {
        uint64_t left = a->size - a->sent;
        int n = p2p_stream_write(pair.node[SERVER], s, pair_pattern + a->sent % PATTERN,
                                 (size_t)(left < PATTERN ? left : PATTERN));
        if (n < 0 && n != P2P_ERR_AGAIN)
            pair_break("the server's write", n);
        if (n <= 0)
            return;
        a->sent += (uint64_t)n;
        if (a->sent == a->size && p2p_stream_finish(pair.node[SERVER], s) < 0)
            pair_break("the server's finish", P2P_ERR_STATE);
    }
}

static void server_event(const p2p_event *e) {
    answer *a = (answer *)e->user;
    if (e->type == P2P_EVENT_STREAM) {
        if (pair.answers == DOWNLOADS) {
            pair_break("more streams than were opened", 0);
            return;
        }
        a = &answers[pair.answers++];
        memset(a, 0, sizeof *a);
        (void)p2p_stream_set_user(pair.node[SERVER], e->stream, a);
    }
    if (e->type != P2P_EVENT_STREAM && e->type != P2P_EVENT_READABLE &&
        e->type != P2P_EVENT_WRITABLE)
        return;
    if (!a || e->stream.id == 0)
        return;
    if (!a->asked)
        answer_read(e->stream, a);
    answer_write(e->stream, a);
}

/* ---- what the client does ---- */

/* Opens as many streams as it may; those that are left wait for the next event. */
static void downloads_open(void) {
    while (pair.up[CLIENT] && !pair.down[CLIENT] && pair.opened < pair.wanted) {
        download *d = &downloads[pair.opened];
        p2p_stream_desc desc;
        int err;
        memset(&desc, 0, sizeof desc);
        desc.user = d;
        err = p2p_stream_open(pair.node[CLIENT], pair.conn[CLIENT], &desc, &d->stream);
        if (err == P2P_ERR_AGAIN || err == P2P_ERR_LIMIT)
            return;
        if (err < 0 || p2p_stream_write(pair.node[CLIENT], d->stream, &d->size, 8) != 8 ||
            p2p_stream_finish(pair.node[CLIENT], d->stream) < 0)
            pair_break("the client's request", err);
        pair.opened++;
    }
}

static void download_read(download *d) {
    p2p_span bytes;
    int n;
    while ((n = p2p_stream_peek(pair.node[CLIENT], d->stream, &bytes)) > 0) {
        uint64_t at = d->got % PATTERN;
        size_t size = bytes.size < PATTERN ? bytes.size : PATTERN;
        if (d->got + size > d->size || memcmp(bytes.data, pair_pattern + at, size) != 0)
            pair_break("bytes that were not sent so", 0);
        d->got += size;
        (void)p2p_stream_skip(pair.node[CLIENT], d->stream, size);
    }
    d->ended |= n == 0;
    if (n < 0 && n != P2P_ERR_AGAIN)
        pair_break("the client's read", n);
}

static void download_closed(download *d, int err) {
    if (err < 0 || !d->ended || d->got != d->size || d->closed)
        pair_break("a stream closed before its end", err);
    d->closed = 1;
    if (++pair.done == pair.wanted)
        pair.done_us = p2p_sim_now(pair.sim);
}

static void client_event(const p2p_event *e) {
    download *d = (download *)e->user;
    if (d && e->type == P2P_EVENT_READABLE)
        download_read(d);
    if (d && e->type == P2P_EVENT_CLOSED)
        download_closed(d, e->err);
    downloads_open();
}

/* ---- both ---- */

static void pair_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    int who = node == pair.node[SERVER] ? SERVER : CLIENT;
    (void)ctx;
    if (e->type == P2P_EVENT_CONNECTED) {
        pair.up[who]++;
        pair.conn[who] = e->conn;
        pair.up_us[who] = p2p_sim_now(sim);
    }
    if (e->type == P2P_EVENT_DISCONNECTED && e->conn.id == pair.conn[who].id) {
        pair.down[who]++;
        pair.down_us[who] = p2p_sim_now(sim);
        pair.err[who] = e->err;
    }
    if (pair.on_event)
        pair.on_event(who, e);
    else if (who == SERVER)
        server_event(e);
    else
        client_event(e);
}

static inline void pair_close(void) {
    if (pair.sim)
        p2p_sim_close(pair.sim);
    pair.sim = NULL;
}

static void pair_memory(void) {
    if (pair_arena)
        return;
    pair_arena = (uint64_t *)malloc(PAIR_ARENA);
    CHECK(pair_arena != NULL);
    for (uint32_t i = 0, x = 1; i < PATTERN; i++) {
        x = x * 1664525u + 1013904223u;
        pair_pattern[i] = pair_pattern[PATTERN + i] = (uint8_t)(x >> 24);
    }
}

static void pair_open(uint64_t seed, int dtls) {
    static const char *const names[] = {"client", "server"};
    static p2p_error_detail why;
    p2p_sim_desc desc;
    p2p_listener listener;
    memset(&desc, 0, sizeof desc);
    memset(&why, 0, sizeof why);
    desc.seed = seed;
    desc.why = &why;
    desc.on_event = pair_event;
    pair_memory();
    CHECK_SO_FAR();
    if (dtls) {
        CHECK_INT(p2p_sodium_crypto(&desc.crypto), 0);
        CHECK_INT(p2p_mbedtls_secure(&desc.secure), 0);
    }
    CHECK_INT(p2p_sim_open(&pair.sim, &desc, pair_arena, PAIR_ARENA), 0);
    for (int i = 0; i < 2; i++) {
        pair.desc[i].why = &why;
        if (p2p_sim_node(pair.sim, names[i], &pair.desc[i], &pair.node[i]) < 0)
            printf("    %s: %s\n", names[i], why.text);
        CHECK(pair.node[i] != NULL);
        pair.id[i] = *p2p_node_id(pair.node[i]);
    }
    CHECK_INT(p2p_sim_connect(pair.sim, &pair.id[0], &pair.id[1], &pair.link), 0);
    CHECK(p2p_listen(pair.node[SERVER], NULL, &listener) >= 0);
}

static inline void pair_dial(void) {
    CHECK_INT(p2p_connect(pair.node[CLIENT], &pair.id[SERVER], NULL, &pair.conn[CLIENT]), 0);
}

static inline void pair_want(uint64_t size) {
    download *d = &downloads[pair.wanted];
    CHECK(pair.wanted < DOWNLOADS);
    memset(d, 0, sizeof *d);
    d->size = size;
    pair.wanted++;
    downloads_open();
}

/* What the link does from now on, both ways. */
static inline void pair_links(void) {
    CHECK_INT(p2p_sim_link_set(pair.sim, &pair.id[0], &pair.id[1], &pair.link), 0);
    CHECK_INT(p2p_sim_link_set(pair.sim, &pair.id[1], &pair.id[0], &pair.link), 0);
}

static void pair_check(void) {
    pair.checked_us = p2p_sim_now(pair.sim);
    for (int i = 0; i < 2; i++)
        if (pair.node[i] && p2p_check(pair.node[i]) != 0)
            pair_break("p2p_check", p2p_check(pair.node[i]));
}

/* Lets time pass until done() or the time: 1 when done. */
static int pair_run(int (*done)(void), uint64_t until_us) {
    while (!done() && p2p_sim_now(pair.sim) < until_us) {
        uint64_t next_us = p2p_sim_now(pair.sim) + 5 * MS;
        int err = p2p_sim_run_until(pair.sim, next_us < until_us ? next_us : until_us);
        if (err < 0)
            pair_break("the simulator", err);
        if (p2p_sim_now(pair.sim) >= pair.checked_us + CHECK_EVERY_US)
            pair_check();
    }
    pair_check();
    return done() && !pair.broken[0];
}
#endif
