/* world.h: two or three nodes in one of four worlds, and what a test needs to drive them.
 *
 * The suite is written against the names of p2p.h alone and compiled once a world:
 *     WORLD_sim_null   the simulator, its null channel and its stand-in keys
 *     WORLD_sim_dtls   the simulator, DTLS by mbedTLS and Ed25519 by libsodium
 *     WORLD_udp_dtls   UDP sockets on loopback, DTLS by mbedTLS and Ed25519 by libsodium
 *     WORLD_lwip_dtls  the same over lwIP, a process for each node's stack, and Ethernet frames
 *                      between them; WORLD_lwip_heap: each pbuf an allocation of its own
 *
 * drive() lets time pass, virtual or real, and keeps every event in the log of its node. After each
 * step it walks the invariants of every node by p2p_check, and looks whether anything was allocated
 * since world_open: nothing may be, in any world. await() drives until a node logs an event. */
#ifndef WORLD_H
#define WORLD_H
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"
#include "p2p_test.h"
#include "heap_watch.h"

#if defined(WORLD_sim_null)
#define WORLD_NAME "sim_null"
#define WORLD_SIM  1
#define WORLD_DTLS 0
#elif defined(WORLD_sim_dtls)
#define WORLD_NAME "sim_dtls"
#define WORLD_SIM  1
#define WORLD_DTLS 1
#elif defined(WORLD_udp_dtls)
#define WORLD_NAME "udp_dtls"
#define WORLD_SIM  0
#define WORLD_DTLS 1
#elif defined(WORLD_lwip_dtls)
#define WORLD_NAME      "lwip_dtls"
#define WORLD_SIM       0
#define WORLD_DTLS      1
#define WORLD_LWIP      1
#define WORLD_LWIP_HEAP 0
#elif defined(WORLD_lwip_heap)
#define WORLD_NAME      "lwip_heap"
#define WORLD_SIM       0
#define WORLD_DTLS      1
#define WORLD_LWIP      1
#define WORLD_LWIP_HEAP 1
#else
#error "compile with -DWORLD_sim_null, _sim_dtls, _udp_dtls, _lwip_dtls or _lwip_heap"
#endif
#ifndef WORLD_LWIP
#define WORLD_LWIP 0
#endif

#if WORLD_LWIP
#include "lwip_stack.h"
#elif !WORLD_SIM
#define P2P_POSIX_IMPLEMENTATION
#include "p2p_posix.h"
#include <unistd.h>
#endif

enum { WORLD_NODES = 3, WORLD_LOG = 4096, WORLD_ARENA = 24 << 20 };
#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)

typedef struct seen {
    p2p_event event;
    char reason[100];
    p2p_response_head head; /* RESPONSE: what p2p_response said, and these headers of it */
    int head_err;
    char allow[32], content_type[32], own[32];
    uint64_t at_us;
    int used; /* await gave it out */
} seen;

typedef struct actor {
    const char *name;
    p2p_node *node;
    p2p_desc desc;
    p2p_error_detail why;
    p2p_key key;
    p2p_id id;
#if WORLD_LWIP
    p2p_lwip io;
    int child, control; /* the process of its lwIP, and the socket to tell it what to do */
#elif !WORLD_SIM
    p2p_posix io;
#endif
    uint64_t *arena;
    size_t arena_size;
    seen log[WORLD_LOG];
    int count;
    void (*on_event)(struct actor *self, const p2p_event *event);
    int deaf;  /* its events are not taken */
    int apart; /* nothing reaches it and nothing leaves it */
} actor;

static struct {
    p2p_sim *sim;
    p2p_sim_link link; /* between all nodes; set before world_open */
    uint64_t *memory;
    int count, broken;
    int overrun; /* a log is full: the test asks for too much */
} world;
static actor actors[WORLD_NODES];
static actor *const A = &actors[0], *const B = &actors[1], *const C = &actors[2];

/* The connection that world_pair makes: its handle at A, which dialled, and at B. */
static p2p_conn AB, BA;
static p2p_listener LB;

typedef void (*world_tweak)(actor *self);

/* The call succeeded; what it counts, if anything, does not matter here. */
#define CHECK_DONE(call)                                                            \
    do {                                                                            \
        long long done_ = (long long)(call);                                        \
        if (done_ < 0) {                                                            \
            test_fail(__FILE__, __LINE__);                                          \
            printf("    %s is %lld, %s\n", #call, done_, p2p_err_name((int)done_)); \
            return;                                                                 \
        }                                                                           \
    } while (0)

static inline p2p_conn conn_none(void) {
    p2p_conn none;
    none.id = 0;
    return none;
}

static inline p2p_stream stream_none(void) {
    p2p_stream none;
    none.id = 0;
    return none;
}

/* ---- what differs between the worlds ---- */
#if WORLD_SIM

static uint64_t world_now(void) { return world.sim ? p2p_sim_now(world.sim) : 0; }

static void world_close(void) {
    heap_watch.armed = 0;
    if (world.sim)
        p2p_sim_close(world.sim);
    free(world.memory);
    memset(&world, 0, sizeof world);
    memset(actors, 0, sizeof actors);
}

static void network_open(void) {
    static p2p_error_detail why;
    p2p_sim_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.seed = 1;
    desc.why = &why;
#if WORLD_DTLS
    CHECK_INT(p2p_sodium_crypto(&desc.crypto), 0);
    CHECK_INT(p2p_mbedtls_secure(&desc.secure), 0);
#endif
    world.memory = (uint64_t *)malloc(WORLD_ARENA);
    CHECK(world.memory != NULL);
    if (p2p_sim_open(&world.sim, &desc, world.memory, WORLD_ARENA) != P2P_OK)
        printf("    simulator: %s\n", why.text);
    CHECK(world.sim != NULL);
}

static void actor_open(actor *self) {
    if (p2p_sim_node(world.sim, self->name, &self->desc, &self->node) != P2P_OK)
        printf("    %s: %s\n", self->name, self->why.text);
    CHECK(self->node != NULL);
    CHECK_INT(p2p_sim_key(world.sim, self->name, &self->key), 0);
    for (actor *other = actors; other < self; other++)
        CHECK_INT(p2p_sim_connect(world.sim, p2p_node_id(self->node), &other->id, &world.link), 0);
}

/* A little time: a virtual millisecond. */
static void pass_time(void) { p2p_sim_run_until(world.sim, p2p_sim_now(world.sim) + MS); }

/* Nothing reaches this node any more and nothing leaves it, and it does not know. */
static void world_cut_off(actor *self) {
    p2p_id others[WORLD_NODES];
    size_t count = 0;
    for (int i = 0; i < world.count; i++)
        if (&actors[i] != self)
            others[count++] = actors[i].id;
    p2p_sim_partition(world.sim, &self->id, 1, others, count);
}

static void world_join(actor *self) {
    (void)self;
    p2p_sim_heal(world.sim, NULL, 0, NULL, 0);
}

/* Nothing that a sends reaches b any more; what b sends still reaches a. */
static void world_cut_way(actor *a, actor *b, int down) {
    p2p_sim_link link = world.link;
    link.down = (uint8_t)down;
    p2p_sim_link_set(world.sim, &a->id, &b->id, &link);
}

/* It dies without a goodbye, */
static void world_crash(actor *self) {
    CHECK_INT(p2p_sim_crash(world.sim, &self->id), 0);
    self->node = NULL;
}

/* and comes back with its key and its address, and no memory of anybody. */
static void world_restart(actor *self) {
    CHECK_INT(p2p_sim_restart(world.sim, &self->id, &self->node), 0);
}

/* A node that never was: its key is a good one. */
static p2p_id stranger_id(void) {
    p2p_key key;
    memset(&key, 0, sizeof key);
    p2p_sim_key(world.sim, "nobody", &key);
    return key.id;
}

#else

#if WORLD_LWIP
#include "world_lwip.h"
#else
static uint64_t world_now(void) { return p2p_posix_now_us(); }

static void network_open(void) {}
static void network_close(void) {}

static void io_open(actor *self) {
    static const char *const loopback[] = {"127.0.0.1"};
    p2p_posix_desc io;
    memset(&io, 0, sizeof io);
    io.bind = loopback;
    io.bind_count = 1;
    io.why = &self->why;
    CHECK_INT(p2p_posix_open(&self->io, &io, &self->desc), 0);
}

/* Room for the node's arena. */
static uint64_t *io_memory(actor *self, size_t size) {
    (void)self;
    return (uint64_t *)malloc(size);
}

static void io_close(actor *self) {
    p2p_posix_close(&self->io);
    free(self->arena);
}

static int io_step(actor *self) { return p2p_posix_step(&self->io, self->node, 0); }

/* The node is about to be closed. */
static void io_leave(actor *self) { (void)self; }
#endif

static void world_close(void) {
    heap_watch.armed = 0;
    for (int i = 0; i < world.count; i++) {
        if (actors[i].node) {
            io_leave(&actors[i]);
            p2p_node_close(actors[i].node);
        }
        io_close(&actors[i]);
    }
    network_close();
    memset(&world, 0, sizeof world);
    memset(actors, 0, sizeof actors);
}

static void actor_open(actor *self) {
    io_open(self);
    CHECK_SO_FAR();
    CHECK_INT(p2p_key_generate(&self->desc.crypto, &self->desc.random, &self->key), 0);
    self->desc.key = &self->key;
    self->arena_size = p2p_arena_size(&self->desc);
    if (!self->arena_size)
        printf("    arena of %s: %s\n", self->name, self->why.text);
    CHECK(self->arena_size != 0);
    self->arena = io_memory(self, self->arena_size);
    CHECK(self->arena != NULL);
    if (p2p_node_open(&self->node, &self->desc, self->arena, self->arena_size) != P2P_OK)
        printf("    %s: %s\n", self->name, self->why.text);
    CHECK(self->node != NULL);
}

/* A little time: until something came, at most a quarter of a millisecond. */
static void pass_time(void) {
    int busy = 0;
    for (int i = 0; i < world.count; i++)
        if (actors[i].node && !actors[i].apart)
            busy += io_step(&actors[i]);
    if (!busy)
        usleep(250);
}

/* Nothing reaches this node any more and nothing leaves it: it is not driven. */
static void world_cut_off(actor *self) { self->apart = 1; }

static void world_join(actor *self) { self->apart = 0; }

static void world_crash(actor *self) {
    io_leave(self);
    p2p_node_close(self->node);
    self->node = NULL;
}

static void world_restart(actor *self) {
    CHECK_INT(p2p_node_open(&self->node, &self->desc, self->arena, self->arena_size), 0);
}

/* A node that never was: its key is a good one. */
static p2p_id stranger_id(void) {
    p2p_key key;
    uint8_t seed[32];
    memset(seed, 77, sizeof seed);
    memset(&key, 0, sizeof key);
    p2p_key_from_seed(&A->desc.crypto, seed, &key);
    return key.id;
}
#endif

/* What every test starts from: all may come in, a dial gives up after two seconds. */
static void actor_defaults(actor *self, int index) {
    static const char *const names[WORLD_NODES] = {"alice", "bob", "carol"};
    memset(self, 0, sizeof *self);
    self->name = names[index];
    self->desc.why = &self->why;
    self->desc.user = self;
    self->desc.allow_anyone = 1;
    self->desc.time.connect_us = 2 * SECOND;
    self->desc.time.stop_us = SECOND;
    self->desc.bytes.message_max = 1 << 20;
}

/* Opens count nodes; tweak may change each one's desc before, and set its on_event. */
static void world_open(int count, world_tweak tweak) {
    p2p_sim_link link = world.link;
    world_close();
    world.link = link;
    if (!world.link.latency_us)
        world.link.latency_us = 5 * MS;
    network_open();
    CHECK_SO_FAR();
    for (int i = 0; i < count; i++) {
        actor_defaults(&actors[i], i);
        world.count = i + 1;
        if (tweak)
            tweak(&actors[i]);
        actor_open(&actors[i]);
        CHECK_SO_FAR();
        actors[i].id = *p2p_node_id(actors[i].node);
    }
    heap_watch_install();
    heap_watch.calls = 0;
    heap_watch.armed = 1;
}

static int is_noise(uint32_t type) {
    return type == P2P_EVENT_READABLE || type == P2P_EVENT_WRITABLE || type == P2P_EVENT_MESSAGE ||
           type == P2P_EVENT_DATAGRAM;
}

static void keep_text(char *out, size_t room, p2p_str text) {
    snprintf(out, room, "%.*s", text.data ? (int)text.size : 1, text.data ? text.data : "-");
}

/* The head of a response can be asked for until the next p2p_next_event. */
static void log_response(actor *self, seen *entry) {
    entry->head_err = p2p_response(self->node, entry->event.stream, &entry->head);
    if (entry->head_err < 0)
        return;
    keep_text(entry->allow, sizeof entry->allow, p2p_response_header(&entry->head, "allow"));
    keep_text(entry->content_type, sizeof entry->content_type,
              p2p_response_header(&entry->head, "content-type"));
    keep_text(entry->own, sizeof entry->own, p2p_response_header(&entry->head, "x-own"));
}

static void log_event(actor *self, const p2p_event *event) {
    seen *entry = &self->log[self->count];
    size_t size = event->reason.size < 99 ? event->reason.size : 99;
    /* While a test waits for something else, only the latest of a run of equal ones is kept. */
    if (self->count && is_noise(event->type) && !entry[-1].used &&
        entry[-1].event.type == event->type && entry[-1].event.stream.id == event->stream.id &&
        entry[-1].event.conn.id == event->conn.id)
        entry = &self->log[--self->count];
    if (self->count == WORLD_LOG) {
        world.overrun = 1;
        return;
    }
    memset(entry, 0, sizeof *entry);
    entry->event = *event;
    if (size)
        memcpy(entry->reason, event->reason.data, size);
    if (event->type == P2P_EVENT_RESPONSE && !event->err)
        log_response(self, entry);
    entry->at_us = world_now();
    self->count++;
}

static void take_events(actor *self) {
    p2p_event event;
    int more = 100000;
    while (self->node && !self->deaf && --more && p2p_next_event(self->node, &event) > 0) {
        if (event.type == P2P_EVENT_NONE)
            continue;
        log_event(self, &event);
        if (self->on_event)
            self->on_event(self, &event);
    }
    if (!more && !world.broken++) {
        test_fail(__FILE__, __LINE__);
        printf("    the events of %s do not end\n", self->name);
    }
}

static void check_invariants(actor *self) {
    if (!self->node || p2p_check(self->node) == P2P_OK || world.broken++)
        return;
    p2p_last_error(self->node, &self->why);
    test_fail(__FILE__, __LINE__);
    printf("    p2p_check fails at %s: %s\n", self->name, self->why.text);
}

static void world_step(void) {
    pass_time();
    if (heap_watch.calls && !world.broken++) {
        test_fail(__FILE__, __LINE__);
        printf("    %lu allocations since world_open\n", heap_watch.calls);
    }
    for (int i = 0; i < world.count; i++) {
        take_events(&actors[i]);
        check_invariants(&actors[i]);
    }
}

/* Steps until done(ctx) says so, or limit_us have passed: 1 or 0. done may be NULL. */
static int drive(int (*done)(void *ctx), void *ctx, uint64_t limit_us) {
    uint64_t end = world_now() + limit_us;
    for (;;) {
        if (done && done(ctx))
            return 1;
        if (world_now() >= end || world.broken)
            return 0;
        world_step();
    }
}

/* The first event of this kind that was not given out yet; handle 0 is any. */
static seen *find_event(actor *self, uint32_t type, p2p_conn conn, p2p_stream stream) {
    for (int i = 0; i < self->count; i++) {
        seen *entry = &self->log[i];
        if (!entry->used && entry->event.type == type &&
            (!conn.id || conn.id == entry->event.conn.id) &&
            (!stream.id || stream.id == entry->event.stream.id))
            return entry;
    }
    return NULL;
}

typedef struct wanted {
    actor *self;
    uint32_t type;
    p2p_conn conn;
    p2p_stream stream;
} wanted;

static int wanted_is_there(void *ctx) {
    const wanted *w = (const wanted *)ctx;
    return find_event(w->self, w->type, w->conn, w->stream) != NULL;
}

static const seen *await_any(actor *self, uint32_t type, p2p_conn conn, p2p_stream stream,
                             uint64_t limit_us) {
    wanted w;
    seen *entry;
    w.self = self;
    w.type = type;
    w.conn = conn;
    w.stream = stream;
    drive(wanted_is_there, &w, limit_us);
    entry = find_event(self, type, conn, stream);
    if (entry)
        entry->used = 1;
    else
        printf("    %s waited %llu ms in vain for event %u\n", self->name,
               (unsigned long long)(limit_us / MS), (unsigned)type);
    return entry;
}

static const seen *await(actor *self, uint32_t type, uint64_t limit_us) {
    return await_any(self, type, conn_none(), stream_none(), limit_us);
}

static const seen *await_conn(actor *self, uint32_t type, p2p_conn conn, uint64_t limit_us) {
    return await_any(self, type, conn, stream_none(), limit_us);
}

static const seen *await_stream(actor *self, uint32_t type, p2p_stream stream, uint64_t limit_us) {
    return await_any(self, type, conn_none(), stream, limit_us);
}

static int count_events(const actor *self, uint32_t type) {
    int count = 0;
    for (int i = 0; i < self->count; i++)
        count += self->log[i].event.type == type;
    return count;
}

/* Place of the first event of this type in the log, or -1. */
static int index_of(const actor *self, uint32_t type) {
    for (int i = 0; i < self->count; i++)
        if (self->log[i].event.type == type)
            return i;
    return -1;
}

static int node_error(const actor *self) {
    p2p_error_detail detail;
    memset(&detail, 0, sizeof detail);
    p2p_last_error(self->node, &detail);
    return detail.err;
}

/* Tells from where to is to be found. */
static void introduce(actor *from, actor *to) {
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    CHECK_DONE(p2p_ticket_of(to->node, &ticket));
    CHECK_DONE(p2p_peer_add(from->node, &ticket));
}

static void listen_at(actor *self, p2p_listener *out) {
    p2p_listen_desc desc;
    memset(&desc, 0, sizeof desc);
    CHECK_DONE(p2p_listen(self->node, &desc, out));
}

/* from dials to, and both see it; to listens already. */
static void dial(actor *from, actor *to, p2p_conn *out, p2p_conn *theirs) {
    const seen *s;
    introduce(from, to);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(from->node, &to->id, NULL, out), 0);
    s = await_conn(from, P2P_EVENT_CONNECTED, *out, 3 * SECOND);
    CHECK(s != NULL);
    s = await(to, P2P_EVENT_CONNECTED, 3 * SECOND);
    CHECK(s != NULL);
    if (theirs)
        *theirs = s->event.conn;
}

/* The usual start: A dialled B, handles in AB and BA. */
static void world_pair(world_tweak tweak) {
    world_open(2, tweak);
    CHECK_SO_FAR();
    listen_at(B, &LB);
    CHECK_SO_FAR();
    dial(A, B, &AB, &BA);
}

/* An address where nobody answers. */
static p2p_addr dead_addr(void) {
    p2p_addr addr;
    memset(&addr, 0, sizeof addr);
    p2p_addr_parse(WORLD_SIM    ? "10.200.0.9:4000"
                   : WORLD_LWIP ? "10.0.0.99:9"
                                : "127.0.0.1:9",
                   &addr);
    return addr;
}

static p2p_ticket ticket_at(const p2p_id *id, const p2p_addr *addr) {
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    ticket.id = *id;
    ticket.addrs[0] = *addr;
    ticket.addr_count = 1;
    return ticket;
}

/* Bytes that tell where they belong: a stream of them shows any loss, repeat or exchange. */
static uint8_t pattern_at(uint64_t offset) {
    uint64_t x = offset * 0x9e3779b97f4a7c15u;
    return (uint8_t)(x >> 56) ^ (uint8_t)(offset >> 8);
}

static void pattern_fill(uint8_t *out, uint64_t offset, size_t size) {
    for (size_t i = 0; i < size; i++)
        out[i] = pattern_at(offset + i);
}

static int pattern_is(const uint8_t *data, uint64_t offset, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (data[i] != pattern_at(offset + i))
            return 0;
    return 1;
}
#endif
