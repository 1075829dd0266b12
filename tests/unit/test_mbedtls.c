/* ports/p2p_mbedtls.h: two endpoints by the table of functions, over queues in memory and a clock
 * that the test turns. */
#include <stdlib.h>
static long foreign_blocks, foreign_calls;
static void *foreign_calloc(size_t count, size_t size) {
    foreign_blocks++;
    foreign_calls++;
    return calloc(count, size);
}
static void foreign_free(void *memory) {
    foreign_blocks--;
    free(memory);
}
#define P2P_MBEDTLS_CALLOC    foreign_calloc
#define P2P_MBEDTLS_FREE      foreign_free
#define P2P_ASSERT(condition) ((condition) ? (void)0 : abort())
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_test.h"
#include <pthread.h>

/* ---- the heap is watched: the C library's functions are replaced by counting ones ------------ */

static volatile int heap_watched;
static volatile long heap_calls;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HEAP_CAN_BE_WATCHED 1
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
void *malloc(size_t size) {
    heap_calls += heap_watched;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    heap_calls += heap_watched;
    return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
    heap_calls += heap_watched;
    return __libc_realloc(memory, size);
}
#else
#define HEAP_CAN_BE_WATCHED 0
#endif

/* Sanitizers and valgrind put functions of their own in place of the C library's and of these. */
static int heap_can_be_watched(void) {
    const char *preloaded = getenv("LD_PRELOAD");
    return HEAP_CAN_BE_WATCHED && !(preloaded && strstr(preloaded, "vgpreload"));
}

/* ---- endpoints --------------------------------------------------------------------------------- */

enum {
    SLAB_BYTES = P2P_MBEDTLS_CONTENT * 2 + 16384,
    DATAGRAM_BYTES = P2P_MBEDTLS_CONTENT + 320,
    QUEUE = 32,
    PACKET_MAX = P2P_MBEDTLS_CONTENT
};

typedef struct datagram {
    size_t size;
    uint8_t bytes[DATAGRAM_BYTES];
} datagram;

typedef struct endpoint {
    uint64_t slab[SLAB_BYTES / 8] __attribute__((aligned(16)));
    size_t slab_size;
    p2p_secure_params params;
    uint64_t random;
    int result; /* the latest of feed() and flight() */
    int complete;
    datagram in[QUEUE];
    size_t in_count, sent, largest;
} endpoint;

typedef struct pair {
    endpoint client, server;
    p2p_secure channel;
    uint64_t now_us;
    size_t datagrams;
    /* What the wire does to the datagram of this number, counted from 1. */
    size_t drop, twice, flip;
    size_t flip_at;
    uint8_t flip_bit;
} pair;

static pair world;

static int random_fill(void *ctx, void *out, size_t size) {
    uint64_t *state = (uint64_t *)ctx;
    for (size_t i = 0; i < size; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(*state >> 56);
    }
    return 0;
}

static p2p_mbedtls__session *session_of(endpoint *e) {
    return (p2p_mbedtls__session *)(void *)e->slab;
}

static int endpoint_open(pair *w, endpoint *e, int server, size_t slab_size) {
    memset(e, 0, sizeof *e);
    memset(e->slab, 0xa5, sizeof e->slab);
    e->slab_size = slab_size;
    e->random = server ? 2 : 1;
    e->params.server = (uint8_t)server;
    e->params.content = P2P_MBEDTLS_CONTENT;
    e->params.timer_us = 150000;
    memset(e->params.psk, 7, sizeof e->params.psk);
    e->params.random.ctx = &e->random;
    e->params.random.fill = random_fill;
    return w->channel.api->begin(NULL, e->slab, slab_size, &e->params);
}

static void pair_open(pair *w) {
    memset(w, 0, sizeof *w);
    w->now_us = 1000000;
    p2p_mbedtls_secure(&w->channel);
    (void)endpoint_open(w, &w->client, 0, w->channel.api->session_size(NULL, PACKET_MAX));
    (void)endpoint_open(w, &w->server, 1, w->channel.api->session_size(NULL, PACKET_MAX));
}

static void pair_close(pair *w) {
    w->channel.api->end(NULL, w->client.slab);
    w->channel.api->end(NULL, w->server.slab);
}

static endpoint *other(pair *w, endpoint *e) { return e == &w->client ? &w->server : &w->client; }

static void queue_put(endpoint *to, const uint8_t *bytes, size_t size) {
    if (to->in_count == QUEUE)
        return;
    memcpy(to->in[to->in_count].bytes, bytes, size);
    to->in[to->in_count++].size = size;
}

static void wire(pair *w, endpoint *from, uint8_t *bytes, size_t size) {
    endpoint *to = other(w, from);
    w->datagrams++;
    from->sent++;
    if (size > from->largest)
        from->largest = size;
    if (w->datagrams == w->drop)
        return;
    if (w->datagrams == w->flip)
        bytes[w->flip_at % size] ^= w->flip_bit;
    queue_put(to, bytes, size);
    if (w->datagrams == w->twice)
        queue_put(to, bytes, size);
}

static void pull(pair *w, endpoint *e) {
    uint8_t out[512];
    int limit = 16, size;
    while (limit-- > 0 &&
           (size = w->channel.api->flight(NULL, e->slab, w->now_us, out, sizeof out, 0)) != 0) {
        if (size < 0) {
            e->result = size;
            return;
        }
        wire(w, e, out, (size_t)size);
    }
}

static void deliver(pair *w, endpoint *e) {
    while (e->in_count > 0) {
        datagram first = e->in[0];
        int result;
        memmove(e->in, e->in + 1, --e->in_count * sizeof e->in[0]);
        result = w->channel.api->feed(NULL, e->slab, w->now_us, first.bytes, first.size);
        if (result < 0)
            e->result = result;
        e->complete += result == 1;
        pull(w, e);
    }
}

/* Runs until both are complete, one is dead, or 20 s have passed. */
static void run(pair *w) {
    uint64_t end_us = w->now_us + 20000000;
    while (w->now_us < end_us && !(w->client.complete && w->server.complete) &&
           w->client.result >= 0 && w->server.result >= 0) {
        pull(w, &w->client);
        deliver(w, &w->server);
        deliver(w, &w->client);
        if (!w->client.in_count && !w->server.in_count)
            w->now_us += 10000;
    }
}

static int both_complete(const pair *w) {
    return w->client.complete == 1 && w->server.complete == 1 && w->client.result == 0 &&
           w->server.result == 0;
}

static int bindings_equal(pair *w) {
    uint8_t a[32] = {0}, b[32] = {1};
    return w->channel.api->binding(NULL, w->client.slab, a) == 0 &&
           w->channel.api->binding(NULL, w->server.slab, b) == 0 && memcmp(a, b, 32) == 0;
}

/* Sends one packet and looks whether it arrives as it was. */
static int passes(pair *w, endpoint *from, size_t size) {
    uint8_t packet[DATAGRAM_BYTES], record[DATAGRAM_BYTES], *plain = NULL;
    int sealed, opened;
    for (size_t i = 0; i < size; i++)
        packet[i] = (uint8_t)(i * 7 + size);
    sealed = w->channel.api->seal(NULL, from->slab, packet, size, record, sizeof record);
    if (sealed != (int)size + w->channel.api->overhead)
        return 0;
    opened = w->channel.api->open(NULL, other(w, from)->slab, record, (size_t)sealed, &plain);
    return opened == (int)size && memcmp(plain, packet, size) == 0;
}

static int passes_both_ways(pair *w) {
    return passes(w, &w->client, 1) && passes(w, &w->server, 1) && passes(w, &w->client, 1194) &&
           passes(w, &w->server, PACKET_MAX) && passes(w, &w->client, PACKET_MAX);
}

/* ---- handshake --------------------------------------------------------------------------------- */

TEST(handshake) {
    pair *w = &world;
    pair_open(w);
    run(w);
    CHECK(both_complete(w));
    CHECK_INT(w->datagrams, 4);
    CHECK(w->client.largest <= P2P_MBEDTLS_FLIGHT && w->server.largest <= P2P_MBEDTLS_FLIGHT);
    CHECK(bindings_equal(w));
    CHECK(passes_both_ways(w));
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), P2P_NEVER);
    CHECK_INT(w->channel.api->deadline(NULL, w->server.slab), P2P_NEVER);
    pair_close(w);
    for (size_t i = 0; i < w->client.slab_size / 8; i++)
        CHECK_INT(w->client.slab[i] | w->server.slab[i], 0);
}

TEST(before_it_is_complete) {
    pair *w = &world;
    uint8_t bytes[64] = {0}, *plain;
    pair_open(w);
    CHECK_INT(w->channel.api->binding(NULL, w->client.slab, bytes), P2P_ERR_STATE);
    CHECK_INT(w->channel.api->seal(NULL, w->client.slab, bytes, 1, bytes, sizeof bytes),
              P2P_ERR_STATE);
    bytes[0] = 23;
    CHECK_INT(w->channel.api->open(NULL, w->client.slab, bytes, sizeof bytes, &plain), 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->server.slab), P2P_NEVER);
    CHECK_INT(w->channel.api->flight(NULL, w->server.slab, w->now_us, bytes, sizeof bytes, 0), 0);
    /* A room that is too small gets nothing and loses nothing. */
    CHECK_INT(w->channel.api->flight(NULL, w->client.slab, w->now_us, bytes, 20, 0), 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), 0);
    run(w);
    CHECK(both_complete(w));
}

TEST(other_key) {
    pair *w = &world;
    pair_open(w);
    w->server.params.psk[31] ^= 1;
    CHECK_INT(w->channel.api->begin(NULL, w->server.slab, w->server.slab_size, &w->server.params),
              0);
    run(w);
    CHECK(w->client.complete == 0 && w->server.complete == 0);
    CHECK(w->server.result < 0);
    /* It dies in silence: no alert, nothing more. */
    CHECK_INT(w->server.sent, 1);
    CHECK_INT(w->channel.api->deadline(NULL, w->server.slab), P2P_NEVER);
}

TEST(every_datagram_lost_once) {
    pair *w = &world;
    for (size_t drop = 1; drop <= 4; drop++) {
        pair_open(w);
        w->drop = drop;
        run(w);
        CHECK(both_complete(w));
        CHECK(bindings_equal(w));
        CHECK(passes_both_ways(w));
        /* The server has no timer, so it is the client's that mends it: 150 ms, and at least 20 once
         * it knows the round trip, which is none here. */
        CHECK(w->now_us >= (drop <= 2 ? 1150000u : 1020000u));
        CHECK(w->now_us < (drop <= 2 ? 1300000u : 1060000u));
        pair_close(w);
    }
}

TEST(every_datagram_twice) {
    pair *w = &world;
    for (size_t twice = 1; twice <= 4; twice++) {
        pair_open(w);
        w->twice = twice;
        run(w);
        CHECK(both_complete(w));
        deliver(w, &w->server);
        deliver(w, &w->client);
        CHECK(both_complete(w));
        CHECK(passes_both_ways(w));
        pair_close(w);
    }
}

/* A flipped bit ends the attempt, or is ridden out; it never crashes, and never do both ends
 * complete with different keys. */
TEST(every_byte_corrupt) {
    pair *w = &world;
    size_t completed = 0, died = 0;
    for (size_t which = 1; which <= 4; which++)
        for (size_t at = 0; at < 220; at += 3) {
            pair_open(w);
            w->flip = which;
            w->flip_at = at;
            w->flip_bit = (uint8_t)(1u << at % 8);
            run(w);
            if (both_complete(w)) {
                completed++;
                CHECK(bindings_equal(w));
                CHECK(passes_both_ways(w));
            } else {
                died++;
                CHECK(!(w->client.complete && w->server.complete));
            }
            pair_close(w);
        }
    CHECK(completed > 0 && died > 0);
}

TEST(timer_doubles) {
    pair *w = &world;
    uint8_t out[512];
    uint64_t at, interval = 150000;
    pair_open(w);
    CHECK(w->channel.api->flight(NULL, w->client.slab, w->now_us, out, sizeof out, 0) > 0);
    for (int i = 0; i < 8; i++) {
        at = w->channel.api->deadline(NULL, w->client.slab);
        CHECK_INT(at - w->now_us, interval);
        w->now_us = at - 1;
        CHECK_INT(w->channel.api->flight(NULL, w->client.slab, w->now_us, out, sizeof out, 0), 0);
        w->now_us = at;
        CHECK(w->channel.api->flight(NULL, w->client.slab, w->now_us, out, sizeof out, 0) > 0);
        if (i >
            0) /* one lost datagram says little about the path: the first repeat waits no longer */
            interval *= 2;
    }
    CHECK_INT(w->channel.api->resend(NULL, w->client.slab, w->now_us), 0);
    run(w);
    CHECK(both_complete(w));
    /* After a wait as long as that, records are still not limited to the handshake's size. */
    CHECK(passes_both_ways(w));
}

/* The first exchange shows the round trip; twice that is the timer of the next flight. Not when the
 * flight was repeated: nobody knows which one was answered. */
TEST(timer_follows_the_round_trip) {
    static const struct {
        uint64_t rtt_us, before_us, timer_us;
    } cases[] = {{40000, 0, 80000}, {3000, 0, 20000}, {90000, 0, 150000}, {40000, 150000, 150000}};
    pair *w = &world;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pair_open(w);
        w->drop = cases[i].before_us ? 1 : 0;
        pull(w, &w->client);
        w->now_us += cases[i].before_us;
        pull(w, &w->client);
        w->now_us += cases[i].rtt_us;
        deliver(w, &w->server);
        deliver(w, &w->client);
        CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), w->now_us + cases[i].timer_us);
        run(w);
        CHECK(both_complete(w));
        pair_close(w);
    }
}

TEST(keep_gives_the_same_again) {
    pair *w = &world;
    uint8_t first[512], again[512];
    int size;
    pair_open(w);
    size = w->channel.api->flight(NULL, w->client.slab, w->now_us, first, sizeof first, 1);
    CHECK(size > 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), 0);
    for (int keep = 1; keep >= 0; keep--) {
        memset(again, 0, sizeof again);
        CHECK_INT(
            w->channel.api->flight(NULL, w->client.slab, w->now_us, again, sizeof again, keep),
            size);
        CHECK_BYTES(first, again, (size_t)size);
    }
    CHECK_INT(w->channel.api->flight(NULL, w->client.slab, w->now_us, again, sizeof again, 0), 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), w->now_us + 150000);
    queue_put(&w->server, first, (size_t)size);
    run(w);
    CHECK(both_complete(w));
}

/* The answer comes while the datagram is still kept for further addresses. */
TEST(keep_then_answer) {
    pair *w = &world;
    uint8_t out[512];
    int size;
    pair_open(w);
    size = w->channel.api->flight(NULL, w->client.slab, w->now_us, out, sizeof out, 1);
    CHECK(size > 0);
    queue_put(&w->server, out, (size_t)size);
    deliver(w, &w->server);
    deliver(w, &w->client);
    run(w);
    CHECK(both_complete(w));
    CHECK_INT(w->now_us, 1000000 + 10000 * (w->now_us > 1000000));
}

/* The server's last flight, kept for a second address as well. */
TEST(keep_of_the_last_flight) {
    pair *w = &world;
    uint8_t out[512], again[512];
    int size;
    pair_open(w);
    pull(w, &w->client);
    deliver(w, &w->server);
    size = w->channel.api->feed(NULL, w->client.slab, w->now_us, w->client.in[0].bytes,
                                w->client.in[0].size);
    CHECK_INT(size, 0);
    w->client.in_count = 0;
    size = w->channel.api->flight(NULL, w->client.slab, w->now_us, out, sizeof out, 0);
    CHECK(size > 0);
    CHECK_INT(w->channel.api->feed(NULL, w->server.slab, w->now_us, out, (size_t)size), 1);
    CHECK_INT(w->channel.api->deadline(NULL, w->server.slab), 0);
    size = w->channel.api->flight(NULL, w->server.slab, w->now_us, out, sizeof out, 1);
    CHECK(size > 0);
    CHECK_INT(w->channel.api->flight(NULL, w->server.slab, w->now_us, again, sizeof again, 0),
              size);
    CHECK_BYTES(out, again, (size_t)size);
    CHECK_INT(w->channel.api->flight(NULL, w->server.slab, w->now_us, again, sizeof again, 0), 0);
    CHECK_INT(w->channel.api->feed(NULL, w->client.slab, w->now_us, out, (size_t)size), 1);
    CHECK(bindings_equal(w));
    CHECK(passes_both_ways(w));
}

TEST(resend_is_due_at_once) {
    pair *w = &world;
    uint8_t out[512];
    pair_open(w);
    w->drop = 1;
    pull(w, &w->client);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), w->now_us + 150000);
    CHECK_INT(w->channel.api->resend(NULL, w->client.slab, w->now_us), 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), 0);
    pull(w, &w->client);
    CHECK_INT(w->server.in_count, 1);
    /* It costs no doubling. */
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), w->now_us + 150000);
    CHECK_INT(w->channel.api->flight(NULL, w->client.slab, w->now_us, out, sizeof out, 0), 0);
    run(w);
    CHECK(both_complete(w));
    CHECK_INT(w->channel.api->resend(NULL, w->client.slab, w->now_us), 0);
    CHECK_INT(w->channel.api->deadline(NULL, w->client.slab), P2P_NEVER);
}

/* Completes but for the last flight, which is lost; returns the client's last flight in *out. */
static void lose_last_flight(pair *w, datagram *out) {
    pair_open(w);
    pull(w, &w->client);
    deliver(w, &w->server);
    (void)w->channel.api->feed(NULL, w->client.slab, w->now_us, w->client.in[0].bytes,
                               w->client.in[0].size);
    w->client.in_count = 0;
    pull(w, &w->client);
    *out = w->server.in[0];
    deliver(w, &w->server);
    w->client.in_count = 0;
}

TEST(last_flight_repeats) {
    pair *w = &world;
    datagram finished;
    lose_last_flight(w, &finished);
    CHECK_INT(w->server.complete, 1);
    CHECK_INT(w->client.complete, 0);
    /* Three times: each repetition by the client brings one by the server, nothing else does. */
    for (int i = 0; i < 3; i++) {
        w->client.in_count = 0;
        CHECK_INT(w->channel.api->deadline(NULL, w->server.slab), P2P_NEVER);
        w->now_us = w->channel.api->deadline(NULL, w->client.slab);
        pull(w, &w->client);
        CHECK_INT(w->server.in_count, 1);
        deliver(w, &w->server);
        CHECK_INT(w->client.in_count, 1);
    }
    deliver(w, &w->client);
    CHECK(both_complete(w));
    CHECK(bindings_equal(w));
    CHECK(passes_both_ways(w));
}

/* The server seals while the repetition waits; the two must not mix. */
TEST(last_flight_and_seal) {
    pair *w = &world;
    datagram finished;
    uint8_t record[64], *plain, out[512];
    int size, flight;
    lose_last_flight(w, &finished);
    CHECK_INT(w->channel.api->feed(NULL, w->server.slab, w->now_us, finished.bytes, finished.size),
              0);
    size = w->channel.api->seal(NULL, w->server.slab, (const uint8_t *)"hello", 5, record,
                                sizeof record);
    CHECK_INT(size, 5 + 29);
    flight = w->channel.api->flight(NULL, w->server.slab, w->now_us, out, sizeof out, 0);
    CHECK(flight > 0);
    /* The record overtakes the flight: nothing yet, and nothing broken. */
    CHECK_INT(w->channel.api->open(NULL, w->client.slab, record, (size_t)size, &plain), 0);
    CHECK_INT(w->channel.api->feed(NULL, w->client.slab, w->now_us, out, (size_t)flight), 1);
    CHECK(passes_both_ways(w));
}

/* ---- records ----------------------------------------------------------------------------------- */

TEST(seal_and_open) {
    pair *w = &world;
    static uint8_t room[PACKET_MAX + 64];
    uint8_t *plain;
    int size;
    pair_open(w);
    run(w);
    CHECK(both_complete(w));
    for (int i = 0; i < 500; i++)
        CHECK(passes(w, i % 2 ? &w->client : &w->server, 1 + (size_t)i * 2));
    CHECK_INT(w->channel.api->seal(NULL, w->client.slab, room, PACKET_MAX + 1, room, sizeof room),
              P2P_ERR_TOO_LARGE);
    CHECK_INT(w->channel.api->seal(NULL, w->client.slab, room, 100, room, 128), P2P_ERR_ARG);
    CHECK_INT(w->channel.api->seal(NULL, w->client.slab, room, 0, room, 128), P2P_ERR_ARG);
    /* In place, and at a place inside the room. */
    memset(room, 'x', sizeof room);
    memcpy(room + 3, "inside", 6);
    size = w->channel.api->seal(NULL, w->client.slab, room + 3, 6, room, sizeof room);
    CHECK_INT(size, 6 + 29);
    CHECK_INT(w->channel.api->open(NULL, w->server.slab, room, (size_t)size, &plain), 6);
    CHECK_BYTES(plain, "inside", 6);
}

TEST(only_one_record_of_a_datagram) {
    pair *w = &world;
    uint8_t room[256], *plain;
    int first, second;
    pair_open(w);
    run(w);
    first = w->channel.api->seal(NULL, w->client.slab, (const uint8_t *)"one", 3, room, 128);
    CHECK(first > 0);
    second =
        w->channel.api->seal(NULL, w->client.slab, (const uint8_t *)"two", 3, room + first, 128);
    CHECK(second > 0);
    CHECK_INT(w->channel.api->open(NULL, w->server.slab, room, (size_t)(first + second), &plain),
              3);
    CHECK_BYTES(plain, "one", 3);
    CHECK(passes_both_ways(w));
}

/* Order is the caller's affair: an older record opens, and so does the same one again. */
TEST(no_replay_window) {
    pair *w = &world;
    static uint8_t records[200][64];
    uint8_t copy[64], *plain;
    int size = 0;
    pair_open(w);
    run(w);
    for (int i = 0; i < 200; i++) {
        uint8_t number = (uint8_t)i;
        size = w->channel.api->seal(NULL, w->client.slab, &number, 1, records[i], 64);
        CHECK_INT(size, 30);
    }
    for (int i = 199; i >= 0; i--) {
        memcpy(copy, records[i], 64);
        CHECK_INT(w->channel.api->open(NULL, w->server.slab, copy, (size_t)size, &plain), 1);
        CHECK_INT(plain[0], i);
    }
    memcpy(copy, records[5], 64);
    CHECK_INT(w->channel.api->open(NULL, w->server.slab, copy, (size_t)size, &plain), 1);
}

TEST(forged_records) {
    pair *w = &world;
    uint8_t record[64], copy[64], *plain;
    int size;
    pair_open(w);
    run(w);
    size = w->channel.api->seal(NULL, w->client.slab, (const uint8_t *)"data", 4, record, 64);
    CHECK_INT(size, 33);
    for (int round = 0; round < 3; round++)
        for (int bit = 0; bit < size * 8; bit++) {
            memcpy(copy, record, 64);
            copy[bit / 8] = (uint8_t)(copy[bit / 8] ^ 1u << bit % 8);
            CHECK_INT(w->channel.api->open(NULL, w->server.slab, copy, (size_t)size, &plain), 0);
        }
    for (size_t cut = 0; cut < (size_t)size; cut++) {
        memcpy(copy, record, 64);
        CHECK_INT(w->channel.api->open(NULL, w->server.slab, copy, cut, &plain), 0);
    }
    CHECK_INT(w->channel.api->open(NULL, w->server.slab, record, (size_t)size, &plain), 4);
    CHECK(passes_both_ways(w));
}

/* Alerts in the clear, junk, and a hello, at every point of the handshake and after it. */
TEST(forged_in_the_clear) {
    static const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40};
    static const uint8_t data[] = {23, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40};
    static const uint8_t future[] = {22, 0xfe, 0xfd, 0, 2, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40};
    static const uint8_t done[] = {22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 12,
                                   0,  0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0};
    const uint8_t *const forged[] = {alert, data, future, done};
    const size_t sizes[] = {sizeof alert, sizeof data, sizeof future, sizeof done};
    pair *w = &world;
    uint8_t *plain, copy[64];
    for (size_t which = 0; which < 4; which++) {
        pair_open(w);
        for (int step = 0; step < 4; step++) {
            queue_put(&w->client, forged[which], sizes[which]);
            queue_put(&w->server, forged[which], sizes[which]);
            deliver(w, &w->client);
            pull(w, &w->client);
            deliver(w, &w->server);
        }
        run(w);
        CHECK(both_complete(w));
        for (int i = 0; i < 10; i++) {
            memcpy(copy, forged[which], sizes[which]);
            CHECK_INT(w->channel.api->feed(NULL, w->server.slab, w->now_us, copy, sizes[which]), 0);
            CHECK_INT(w->channel.api->feed(NULL, w->client.slab, w->now_us, copy, sizes[which]), 0);
            CHECK_INT(w->channel.api->open(NULL, w->client.slab, copy, sizes[which], &plain), 0);
        }
        CHECK(passes_both_ways(w));
        pair_close(w);
    }
}

static int give_any(void *ctx, const unsigned char *data, size_t size) {
    return p2p_mbedtls__give((p2p_mbedtls__session *)ctx, data, size);
}

/* Inside the channel an alert counts. mbedTLS itself is asked to send it. */
TEST(close_notify_closes) {
    pair *w = &world;
    p2p_mbedtls__session *s = session_of(&w->client);
    uint8_t record[64], *plain;
    int size;
    pair_open(w);
    run(w);
    CHECK(both_complete(w));
    /* A data record whose type is turned into an alert does not pass: the type is authenticated. */
    size = w->channel.api->seal(NULL, w->client.slab, (const uint8_t *)"\1\0", 2, record, 64);
    record[0] = 21;
    CHECK_INT(w->channel.api->open(NULL, w->server.slab, record, (size_t)size, &plain), 0);
    /* The port sends no alerts, so this one is made by lifting its filter. */
    s->out = record;
    s->out_room = sizeof record;
    s->out_size = 0;
    s->sending = P2P_MBEDTLS__GIVE;
    mbedtls_ssl_set_bio(&s->ssl, s, give_any, NULL, NULL);
    p2p_mbedtls__enter(s);
    CHECK_INT(mbedtls_ssl_close_notify(&s->ssl), 0);
    size = (int)s->out_size;
    p2p_mbedtls__leave(s);
    CHECK(size > 0);
    CHECK_INT(record[0], 21);
    CHECK_INT(w->channel.api->open(NULL, w->server.slab, record, (size_t)size, &plain),
              P2P_ERR_CLOSED);
    CHECK_INT(w->channel.api->seal(NULL, w->server.slab, (const uint8_t *)"x", 1, record, 64),
              P2P_ERR_CLOSED);
    CHECK_INT(w->channel.api->deadline(NULL, w->server.slab), P2P_NEVER);
}

/* ---- a peer without the extended master secret --------------------------------------------------- */

TEST(no_extended_master_secret) {
    for (int side = 0; side < 2; side++) {
        pair *w = &world;
        endpoint *weak = side ? &w->server : &w->client;
        pair_open(w);
        mbedtls_ssl_conf_extended_master_secret(&session_of(weak)->conf,
                                                MBEDTLS_SSL_EXTENDED_MS_DISABLED);
        run(w);
        CHECK_INT(w->client.complete, 0);
        CHECK_INT(other(w, weak)->complete, 0);
        CHECK_INT(other(w, weak)->result, 0);
        pair_close(w);
    }
}

/* ---- memory ------------------------------------------------------------------------------------- */

TEST(slab_sizes) {
    pair *w = &world;
    size_t peak[2], live[2];
    pair_open(w);
    run(w);
    CHECK(both_complete(w));
    CHECK(passes_both_ways(w));
    for (int i = 0; i < 2; i++) {
        p2p_mbedtls__session *s = session_of(i ? &w->server : &w->client);
        peak[i] = s->high_water;
        live[i] = s->heap;
        for (uint32_t at = s->heap; at < s->size;) {
            p2p_mbedtls__block *b = p2p_mbedtls__block_at(s, at);
            live[i] += b->size & 1u ? sizeof *b + (b->size & ~1u) : 0;
            at += (uint32_t)sizeof *b + (b->size & ~1u);
        }
    }
    printf("slab %u: session %u (ssl %u, config %u); client: peak %u, after the handshake %u; "
           "server: peak %u, after the handshake %u\n",
           (unsigned)P2P_MBEDTLS_SLAB, (unsigned)sizeof(p2p_mbedtls__session),
           (unsigned)sizeof(mbedtls_ssl_context), (unsigned)sizeof(mbedtls_ssl_config),
           (unsigned)peak[0], (unsigned)live[0], (unsigned)peak[1], (unsigned)live[1]);
    CHECK(peak[0] < P2P_MBEDTLS_SLAB && peak[1] < P2P_MBEDTLS_SLAB);
    CHECK_INT(w->channel.api->session_size(NULL, PACKET_MAX), P2P_MBEDTLS_SLAB);
    CHECK_INT(P2P_MBEDTLS_SLAB % 16, 0);
}

/* Whatever the size of the slab: an error, or all goes well; never a byte beyond it. */
TEST(slab_too_small) {
    pair *w = &world;
    size_t least = 0;
    for (int side = 0; side < 2; side++) {
        least = 0;
        for (size_t size = 0; size <= P2P_MBEDTLS_SLAB;
             size += size < 2 * P2P_MBEDTLS_CONTENT ? 512 : 40) {
            endpoint *e = side ? &w->server : &w->client;
            int begun;
            pair_open(w);
            begun = endpoint_open(w, e, side, size);
            CHECK(begun == 0 || begun == P2P_ERR_ARENA);
            if (begun == 0)
                run(w);
            for (size_t i = (size + 7) / 8; i < SLAB_BYTES / 8; i++)
                CHECK(e->slab[i] == 0xa5a5a5a5a5a5a5a5u);
            if (begun == 0 && !both_complete(w)) {
                CHECK_INT(e->result, P2P_ERR_ARENA);
                CHECK_INT(other(w, e)->result, 0);
            }
            if (begun == 0 && both_complete(w) && least == 0)
                least = size;
            if (begun == 0)
                pair_close(w);
        }
        CHECK(least > 0 && least + 128 <= P2P_MBEDTLS_SLAB);
        printf("least slab of a %s: %u\n", side ? "server" : "client", (unsigned)least);
    }
}

TEST(no_heap) {
    void *(*volatile allocate)(size_t) = malloc; /* a call that no compiler takes out */
    pair *w = &world;
    heap_calls = 0;
    heap_watched = 1;
    free(allocate(1));
    CHECK(heap_calls == heap_can_be_watched());
    heap_calls = foreign_calls = 0;
    pair_open(w);
    run(w);
    (void)passes_both_ways(w);
    pair_close(w);
    heap_watched = 0;
    CHECK(w->client.complete && w->server.complete);
    CHECK_INT(heap_calls, 0);
    CHECK_INT(foreign_calls, 0);
}

/* Somebody else in the program calls mbedTLS, between calls of ours and on a session's behalf. */
TEST(other_users_of_mbedtls) {
    pair *w = &world;
    uint8_t *other_block;
    pair_open(w);
    run(w);
    foreign_blocks = 0;
    other_block = (uint8_t *)mbedtls_calloc(3, 100);
    CHECK(other_block != NULL && foreign_blocks == 1);
    CHECK((uintptr_t)other_block % 16 == 0);
    for (int i = 0; i < 300; i++)
        CHECK_INT(other_block[i], 0);
    memset(other_block, 0xff, 300);
    CHECK(passes_both_ways(w));
    mbedtls_free(other_block);
    CHECK_INT(foreign_blocks, 0);
    CHECK(mbedtls_calloc(SIZE_MAX / 2, 4) == NULL);
    mbedtls_free(NULL);
    CHECK_INT(foreign_blocks, 0);
}

TEST(bad_arguments) {
    pair *w = &world;
    pair_open(w);
    w->client.params.content = PACKET_MAX + 1;
    CHECK_INT(w->channel.api->begin(NULL, w->client.slab, w->client.slab_size, &w->client.params),
              P2P_ERR_ARG);
    w->client.params.content = PACKET_MAX;
    CHECK_INT(w->channel.api->begin(NULL, (uint8_t *)w->client.slab + 4, w->client.slab_size,
                                    &w->client.params),
              P2P_ERR_ARG);
    w->client.params.random.fill = NULL;
    CHECK_INT(w->channel.api->begin(NULL, w->client.slab, w->client.slab_size, &w->client.params),
              P2P_ERR_ARG);
}

static int random_fails(void *ctx, void *out, size_t size) {
    (void)ctx;
    memset(out, 0, size);
    return P2P_ERR_IO;
}

TEST(random_that_fails) {
    pair *w = &world;
    pair_open(w);
    w->client.params.random.fill = random_fails;
    CHECK_INT(w->channel.api->begin(NULL, w->client.slab, w->client.slab_size, &w->client.params),
              0);
    run(w);
    CHECK(w->client.result < 0);
    CHECK_INT(w->datagrams, 0);
}

/* ---- threads ------------------------------------------------------------------------------------ */

static void *two_threads_main(void *argument) {
    pair *w = (pair *)argument;
    for (int i = 0; i < 10; i++) {
        pair_open(w);
        run(w);
        if (!both_complete(w) || !bindings_equal(w) || !passes_both_ways(w))
            return argument;
        pair_close(w);
    }
    return NULL;
}

TEST(two_threads) {
    static pair worlds[2];
    pthread_t threads[2];
    void *failed[2];
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, two_threads_main, &worlds[i]), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], &failed[i]), 0);
    CHECK(!failed[0] && !failed[1]);
}

/* ---- random faults ------------------------------------------------------------------------------- */

/* Loss, duplication and reordering without corruption: the handshake always completes. */
TEST(random_loss) {
    for (int i = 0; i < test_seeds(20); i++) {
        pair *w = &world;
        uint64_t state = test_seed(), end_us;
        pair_open(w);
        end_us = w->now_us + 120000000;
        while (w->now_us < end_us && !(w->client.complete && w->server.complete)) {
            endpoint *e = &w->client;
            for (int side = 0; side < 2; side++, e = &w->server) {
                uint8_t dice;
                pull(w, e);
                (void)random_fill(&state, &dice, 1);
                if (e->in_count > 1 && dice % 4 == 0) {
                    datagram last = e->in[e->in_count - 1];
                    e->in[e->in_count - 1] = e->in[0];
                    e->in[0] = last;
                }
                if (e->in_count > 0 && dice % 10 < 3)
                    memmove(e->in, e->in + 1, --e->in_count * sizeof e->in[0]);
                w->twice = w->datagrams + 1 + dice % 5;
                deliver(w, e);
            }
            w->now_us += 15000;
        }
        CHECK(both_complete(w));
        CHECK(bindings_equal(w));
        CHECK(passes_both_ways(w));
        pair_close(w);
    }
}

TEST_MAIN(P2P_TEST_ENTRY(handshake), P2P_TEST_ENTRY(before_it_is_complete),
          P2P_TEST_ENTRY(other_key), P2P_TEST_ENTRY(every_datagram_lost_once),
          P2P_TEST_ENTRY(every_datagram_twice), P2P_TEST_ENTRY(every_byte_corrupt),
          P2P_TEST_ENTRY(timer_doubles), P2P_TEST_ENTRY(timer_follows_the_round_trip),
          P2P_TEST_ENTRY(keep_gives_the_same_again), P2P_TEST_ENTRY(keep_then_answer),
          P2P_TEST_ENTRY(keep_of_the_last_flight), P2P_TEST_ENTRY(resend_is_due_at_once),
          P2P_TEST_ENTRY(last_flight_repeats), P2P_TEST_ENTRY(last_flight_and_seal),
          P2P_TEST_ENTRY(seal_and_open), P2P_TEST_ENTRY(only_one_record_of_a_datagram),
          P2P_TEST_ENTRY(no_replay_window), P2P_TEST_ENTRY(forged_records),
          P2P_TEST_ENTRY(forged_in_the_clear), P2P_TEST_ENTRY(close_notify_closes),
          P2P_TEST_ENTRY(no_extended_master_secret), P2P_TEST_ENTRY(slab_sizes),
          P2P_TEST_ENTRY(slab_too_small), P2P_TEST_ENTRY(no_heap),
          P2P_TEST_ENTRY(other_users_of_mbedtls), P2P_TEST_ENTRY(bad_arguments),
          P2P_TEST_ENTRY(random_that_fails), P2P_TEST_ENTRY(two_threads),
          P2P_TEST_ENTRY(random_loss))
