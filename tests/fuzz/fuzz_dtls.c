/* ports/p2p_mbedtls.h: a datagram of an attacker's at any point of a handshake, or after it, to
 * either side. The first byte says when and to whom, the rest is the datagram. In the handshake it
 * may end the attempt; never may both sides complete with different keys, and after the handshake
 * nothing may end the session. */
#include <stdlib.h>
#define P2P_ASSERT(condition) ((condition) ? (void)0 : abort())
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "replay.h"

enum { DATAGRAM_BYTES = 512, STEPS = 5 };

typedef struct side {
    uint64_t slab[P2P_MBEDTLS_SLAB / 8] __attribute__((aligned(16)));
    uint64_t random;
    int complete, dead;
} side;

typedef struct pair {
    side client, server;
    p2p_secure channel;
} pair;

static int random_fill(void *ctx, void *out, size_t size) {
    uint64_t *state = (uint64_t *)ctx;
    for (size_t i = 0; i < size; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(*state >> 56);
    }
    return 0;
}

static void side_open(pair *w, side *s, int server) {
    p2p_secure_params params;
    memset(&params, 0, sizeof params);
    memset(s, 0, sizeof *s);
    s->random = 1 + (uint64_t)server;
    params.server = (uint8_t)server;
    params.content = 1194;
    params.timer_us = 150000;
    params.random.ctx = &s->random;
    params.random.fill = random_fill;
    FUZZ_CHECK(w->channel.api->begin(NULL, s->slab, sizeof s->slab, &params) == 0);
}

static void feed(pair *w, side *to, const uint8_t *bytes, size_t size) {
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
    int result;
    memcpy(copy, bytes, size);
    result = w->channel.api->feed(NULL, to->slab, 1000, copy, size);
    FUZZ_CHECK(result <= 1 && !(result < 0 && to->complete));
    to->complete += result == 1;
    to->dead |= result < 0;
    FUZZ_CHECK(to->complete <= 1);
    free(copy);
}

/* One datagram from one to the other, if one is due. */
static void step(pair *w, side *from, side *to) {
    uint8_t out[DATAGRAM_BYTES];
    int size = w->channel.api->flight(NULL, from->slab, 1000, out, sizeof out, 0);
    FUZZ_CHECK(size <= P2P_MBEDTLS_FLIGHT && (size >= 0 || from->dead));
    if (size > 0)
        feed(w, to, out, (size_t)size);
}

static void attack(pair *w, side *target, const uint8_t *data, size_t size) {
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1), *plain = NULL;
    feed(w, target, data, size < DATAGRAM_BYTES ? size : DATAGRAM_BYTES);
    memcpy(copy, data, size);
    /* A key nobody knows: nothing can be forged. */
    FUZZ_CHECK(target->dead || w->channel.api->open(NULL, target->slab, copy, size, &plain) == 0);
    free(copy);
}

static void data_passes(pair *w, side *from, side *to) {
    uint8_t record[64], *plain = NULL;
    int size = w->channel.api->seal(NULL, from->slab, (const uint8_t *)"data", 4, record, 64);
    if (size == P2P_ERR_AGAIN) {
        step(w, from, to);
        size = w->channel.api->seal(NULL, from->slab, (const uint8_t *)"data", 4, record, 64);
    }
    FUZZ_CHECK(size == 33);
    FUZZ_CHECK(w->channel.api->open(NULL, to->slab, record, 33, &plain) == 4);
    FUZZ_CHECK(memcmp(plain, "data", 4) == 0);
}

static void both_complete(pair *w) {
    uint8_t a[32], b[32];
    FUZZ_CHECK(w->channel.api->binding(NULL, w->client.slab, a) == 0);
    FUZZ_CHECK(w->channel.api->binding(NULL, w->server.slab, b) == 0);
    FUZZ_CHECK(memcmp(a, b, 32) == 0);
    data_passes(w, &w->client, &w->server);
    data_passes(w, &w->server, &w->client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pair w;
    side *target;
    int when;
    if (size < 1 || size > 2048)
        return 0;
    p2p_mbedtls_secure(&w.channel);
    side_open(&w, &w.client, 0);
    side_open(&w, &w.server, 1);
    target = data[0] & 1 ? &w.server : &w.client;
    when = data[0] / 2 % (STEPS + 1);
    for (int i = 0; i <= STEPS; i++) {
        if (i == when)
            attack(&w, target, data + 1, size - 1);
        if (i % 2 == 0)
            step(&w, &w.client, &w.server);
        else
            step(&w, &w.server, &w.client);
    }
    if (when == STEPS)
        FUZZ_CHECK(w.client.complete && w.server.complete);
    if (w.client.complete && w.server.complete)
        both_complete(&w);
    w.channel.api->end(NULL, w.client.slab);
    w.channel.api->end(NULL, w.server.slab);
    return 0;
}
