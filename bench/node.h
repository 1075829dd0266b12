/* node.h: a node of p2p.h on UDP, for the programs that measure it. */
#ifndef BENCH_NODE_H
#define BENCH_NODE_H
#define P2P_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "bench.h"

typedef struct end {
    p2p_posix io;
    p2p_node *node;
    p2p_conn conn;
    void *arena;
} end;

/* Windows that no measurement is held back by. */
static inline void limits(p2p_desc *desc) {
    desc->allow_anyone = 1;
    desc->max.conns = 64;
    desc->max.half_open = 8;
    desc->max.conns_per_peer = 64;
    desc->max.streams = 8;
    desc->max.peer_streams = 8;
    desc->max.in_flight = 8192;
    desc->bytes.stream_send = 1 << 20;
    desc->bytes.stream_recv = 1 << 20;
    desc->bytes.peer_recv = 1 << 20;
    desc->bytes.message_send = 1 << 18;
    desc->bytes.message_recv = 1 << 18;
}

/* The sockets of a node, and a desc for it; host: NULL binds to the end's own address. */
static inline void sockets_open(p2p_posix *io, char place, const char *host, p2p_desc *desc) {
    static p2p_error_detail why;
    char text[P2P_ADDR_TEXT_SIZE];
    const char *here[1];
    p2p_posix_desc sockets;
    memset(desc, 0, sizeof *desc);
    memset(&sockets, 0, sizeof sockets);
    errno = 0;
    (void)snprintf(text, sizeof text, "%s:0", host ? host : place_host(place));
    here[0] = text;
    sockets.bind = here;
    sockets.bind_count = 1;
    sockets.why = desc->why = &why;
    limits(desc);
    if (p2p_posix_open(io, &sockets, desc) < 0)
        die(why.text);
}

/* In an arena that is its own. */
static inline p2p_node *node_open(const p2p_desc *desc, void **arena) {
    const size_t size = p2p_arena_size(desc);
    p2p_node *node = NULL;
    *arena = malloc(size ? size : 1);
    if (!*arena || p2p_node_open(&node, desc, *arena, size) < 0)
        die(desc->why->text);
    return node;
}

/* change: NULL, or sees the desc last. */
static inline void end_open(end *e, char place, const char *host, void (*change)(p2p_desc *)) {
    p2p_desc desc;
    sockets_open(&e->io, place, host, &desc);
    if (change)
        change(&desc);
    e->node = node_open(&desc, &e->arena);
}

static inline void end_close(end *e) {
    p2p_node_close(e->node);
    p2p_posix_close(&e->io);
    free(e->arena);
}

static inline void end_step(end *e, int timeout_ms) {
    if (p2p_posix_step(&e->io, e->node, timeout_ms) < 0)
        die("step");
}

/* 1 and the next event, or 0; a connection that is lost ends the program. */
static inline int end_event(end *e, p2p_event *event) {
    int n = p2p_next_event(e->node, event);
    if (n > 0 && event->type == P2P_EVENT_DISCONNECTED)
        die(p2p_err_text(event->err));
    return n;
}

/* Runs until an event of this type; others go to `other`. */
static inline p2p_event end_await(end *e, uint32_t type, void (*other)(end *, const p2p_event *)) {
    p2p_event event;
    for (;; end_step(e, -1))
        while (end_event(e, &event) > 0) {
            if (event.type == type)
                return event;
            if (other)
                other(e, &event);
        }
}

static inline void end_dial(end *e, const p2p_ticket *to) {
    errno = 0;
    if (p2p_peer_add(e->node, to) < 0 || p2p_connect(e->node, &to->id, NULL, &e->conn) < 0)
        die("dialling");
}

static inline void end_connect(end *e, const p2p_ticket *to) {
    end_dial(e, to);
    (void)end_await(e, P2P_EVENT_CONNECTED, NULL);
}

static inline void end_listen(end *e, int say_to) {
    p2p_listener listener;
    p2p_ticket ticket;
    if (p2p_listen(e->node, NULL, &listener) < 0 || p2p_ticket_of(e->node, &ticket) < 0)
        die("listening");
    say(say_to, &ticket, sizeof ticket);
}

/* Fills the stream's buffer, at most *left bytes, and finishes at the last one. */
static inline void stream_fill(p2p_node *node, p2p_stream stream, uint64_t *left) {
    p2p_room room;
    while (*left > 0 && p2p_stream_reserve(node, stream, 65536, &room) >= 0) {
        size_t n = room.size < *left ? room.size : (size_t)*left;
        memset(room.data, 'p', n); /* a real program fills it too */
        (void)p2p_stream_commit(node, stream, n);
        *left -= n;
        if (*left == 0)
            (void)p2p_stream_finish(node, stream);
    }
}

/* Takes what is there and counts it; 0 at the end of the stream. */
static inline int stream_drain(p2p_node *node, p2p_stream stream, volatile uint64_t *count) {
    p2p_span bytes;
    int n;
    while ((n = p2p_stream_peek(node, stream, &bytes)) > 0) {
        *count += bytes.size;
        (void)p2p_stream_skip(node, stream, bytes.size);
    }
    return n;
}
#endif
