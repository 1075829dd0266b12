/* wire.h: a network of three addresses that an attacker holds in his hands.
 *
 * Nodes are driven by p2p_input and p2p_output directly, in virtual time. Every datagram passes the
 * test's on_send, which may look at it, swallow it, and inject others at any time under any sender's
 * address: what the simulator, which carries honest traffic, does not offer. */
#ifndef WIRE_H
#define WIRE_H
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"
#include "p2p_test.h"
#include <sodium.h>

#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
enum { ALICE, BOB, MALLORY, HOSTS, QUEUE = 4096, DATAGRAM = 1500, TAG_AT = 9, RECORDS_AT = 25 };

typedef struct host {
    p2p_node *node;
    p2p_desc desc;
    p2p_error_detail why;
    p2p_key key;
    p2p_id id;
    p2p_addr addr;
    uint64_t *arena, entropy;
    uint32_t events[32]; /* how often each type came */
    p2p_conn conn;       /* of the latest CONNECTED or DISCONNECTED */
    int err;             /* of the latest DISCONNECTED */
    int incoming;
    uint64_t at_us; /* of the latest of the two */
} host;

typedef struct datagram {
    uint64_t at_us;
    int to;
    p2p_addr from;
    size_t size;
    uint8_t data[DATAGRAM];
} datagram;

static struct {
    uint64_t now_us, rng;
    uint64_t latency_us[HOSTS][HOSTS];
    uint32_t loss_percent;
    int count, overflow;
    datagram queue[QUEUE];
    /* Sees every datagram that a node sends; 0 swallows it. */
    int (*on_send)(int from, int to, const uint8_t *data, size_t size);
    /* Called as time passes, at every wire_tick_us. */
    void (*on_tick)(void);
    uint64_t tick_us, next_tick_us;
} wire;
static host hosts[HOSTS];

static uint32_t wire_random(uint32_t below) {
    wire.rng = wire.rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(wire.rng >> 33) % below;
}

static int host_entropy(void *ctx, void *out, size_t size) {
    host *h = (host *)ctx;
    uint8_t *bytes = (uint8_t *)out;
    for (size_t i = 0; i < size; i++) {
        h->entropy = h->entropy * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(h->entropy >> 56);
    }
    return P2P_OK;
}

static void wire_close(void) {
    for (int i = 0; i < HOSTS; i++) {
        if (hosts[i].node)
            p2p_node_close(hosts[i].node);
        free(hosts[i].arena);
    }
    memset(hosts, 0, sizeof hosts);
}

/* Fills in everything of every host, and opens none: tests may change descs first. */
static void wire_begin(uint64_t seed) {
    wire_close();
    memset(&wire, 0, sizeof wire);
    wire.now_us = 5 * SECOND;
    wire.rng = seed * 2 + 1;
    for (int i = 0; i < HOSTS; i++) {
        host *h = &hosts[i];
        uint8_t key_seed[32] = {0};
        for (int j = 0; j < HOSTS; j++)
            wire.latency_us[i][j] = 10 * MS;
        h->addr.family = 4;
        h->addr.ip[0] = 192;
        h->addr.ip[3] = (uint8_t)(1 + i);
        h->addr.port = (uint16_t)(4000 + i);
        h->entropy = seed ^ (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
        h->desc.why = &h->why;
        h->desc.allow_anyone = 1;
        h->desc.random.ctx = h;
        h->desc.random.fill = host_entropy;
        h->desc.link.local[0] = h->addr;
        h->desc.link.local_count = 1;
        CHECK_INT(p2p_sodium_crypto(&h->desc.crypto), 0);
        CHECK_INT(p2p_mbedtls_secure(&h->desc.secure), 0);
        memcpy(key_seed, &seed, sizeof seed);
        key_seed[31] = (uint8_t)(i + 1);
        CHECK_INT(p2p_key_from_seed(&h->desc.crypto, key_seed, &h->key), 0);
        h->desc.key = &h->key;
    }
}

static void host_open(int which, int listens) {
    host *h = &hosts[which];
    size_t size = p2p_arena_size(&h->desc);
    p2p_listen_desc listen;
    p2p_listener l;
    memset(&listen, 0, sizeof listen);
    h->arena = (uint64_t *)malloc(size ? size : 8);
    if (p2p_node_open(&h->node, &h->desc, h->arena, size) != P2P_OK)
        printf("    host %d: %s\n", which, h->why.text);
    CHECK(h->node != NULL);
    h->id = *p2p_node_id(h->node);
    if (listens)
        CHECK(p2p_listen(h->node, &listen, &l) >= 0);
}

/* Puts a datagram on the wire, under any sender's address. */
static void inject(const p2p_addr *from, int to, const uint8_t *data, size_t size,
                   uint64_t delay_us) {
    datagram *d = &wire.queue[wire.count];
    if (wire.count == QUEUE || size > DATAGRAM) {
        wire.overflow++;
        return;
    }
    wire.count++;
    d->at_us = wire.now_us + delay_us;
    d->to = to;
    d->from = *from;
    d->size = size;
    memcpy(d->data, data, size);
}

static void host_send(int from) {
    uint8_t data[DATAGRAM];
    p2p_packet out;
    for (int turns = 0; turns < 1000; turns++) {
        int to = 0;
        memset(&out, 0, sizeof out);
        out.data = data;
        out.size = sizeof data;
        if (p2p_output(hosts[from].node, wire.now_us, &out) <= 0)
            return;
        while (to < HOSTS && (hosts[to].addr.port != out.remote.port ||
                              memcmp(hosts[to].addr.ip, out.remote.ip, 4) != 0))
            to++;
        if (to == HOSTS || (wire.on_send && !wire.on_send(from, to, data, out.size)))
            continue;
        if (wire.loss_percent && wire_random(100) < wire.loss_percent)
            continue;
        inject(&hosts[from].addr, to, data, out.size, wire.latency_us[from][to]);
    }
}

static void host_events(host *h) {
    p2p_event e;
    while (p2p_next_event(h->node, &e) > 0) {
        h->events[e.type % 32]++;
        if (e.type != P2P_EVENT_CONNECTED && e.type != P2P_EVENT_DISCONNECTED)
            continue;
        h->conn = e.conn;
        h->at_us = wire.now_us;
        if (e.type == P2P_EVENT_CONNECTED)
            h->incoming = e.incoming;
        else
            h->err = e.err;
    }
}

static void wire_deliver(void) {
    for (int i = 0; i < wire.count;) {
        datagram d;
        p2p_packet in;
        if (wire.queue[i].at_us > wire.now_us) {
            i++;
            continue;
        }
        d = wire.queue[i];
        memmove(&wire.queue[i], &wire.queue[i + 1],
                (size_t)(wire.count - i - 1) * sizeof(datagram));
        wire.count--;
        memset(&in, 0, sizeof in);
        in.remote = d.from;
        in.local = hosts[d.to].addr;
        in.data = d.data;
        in.size = d.size;
        if (hosts[d.to].node)
            (void)p2p_input(hosts[d.to].node, wire.now_us, &in);
    }
}

/* When something happens next. */
static uint64_t wire_next(uint64_t end_us) {
    uint64_t at = end_us;
    for (int i = 0; i < wire.count; i++)
        at = wire.queue[i].at_us < at ? wire.queue[i].at_us : at;
    for (int i = 0; i < HOSTS; i++)
        if (hosts[i].node && p2p_deadline(hosts[i].node) < at)
            at = p2p_deadline(hosts[i].node);
    if (wire.on_tick && wire.next_tick_us < at)
        at = wire.next_tick_us;
    return at > wire.now_us ? at : wire.now_us + 50;
}

/* Lets time pass until done() or the limit: 1 or 0. */
static inline int wire_run(int (*done)(void), uint64_t limit_us) {
    uint64_t end_us = wire.now_us + limit_us;
    for (;;) {
        wire_deliver();
        for (int i = 0; i < HOSTS; i++) {
            if (!hosts[i].node)
                continue;
            p2p_poll(hosts[i].node, wire.now_us);
            host_events(&hosts[i]);
            host_send(i);
        }
        if (done && done())
            return 1;
        if (wire.now_us >= end_us)
            return 0;
        wire.now_us = wire_next(end_us);
        if (wire.on_tick && wire.now_us >= wire.next_tick_us) {
            wire.next_tick_us = wire.now_us + wire.tick_us;
            wire.on_tick();
        }
    }
}

/* ---- what an attacker who knows a NodeId can make ---- */

/* The tag key of protocol and network "p2p", from the responder's NodeId (SPEC: envelope keys). */
static void tag_key_of(const p2p_id *responder, uint8_t out[32]) {
    static const uint8_t label[] = "p2p.h/envelope/v1"; /* its NUL counts */
    crypto_hash_sha256_state hash;
    crypto_auth_hmacsha256_state mac;
    uint8_t root[32];
    crypto_hash_sha256_init(&hash);
    crypto_hash_sha256_update(&hash, label, sizeof label);
    crypto_hash_sha256_update(&hash, (const uint8_t *)"\3p2p", 4);
    crypto_hash_sha256_update(&hash, responder->bytes, 32);
    crypto_hash_sha256_final(&hash, root);
    crypto_auth_hmacsha256_init(&mac, root, sizeof root);
    crypto_auth_hmacsha256_update(&mac, (const uint8_t *)"mac1", 4);
    crypto_auth_hmacsha256_final(&mac, out);
}

/* Gives an envelope the tag that its bytes deserve. */
static void envelope_sign(const p2p_id *responder, uint8_t *data, size_t size) {
    crypto_auth_hmacsha256_state mac;
    uint8_t key[32], tag[32];
    tag_key_of(responder, key);
    crypto_auth_hmacsha256_init(&mac, key, sizeof key);
    crypto_auth_hmacsha256_update(&mac, data, TAG_AT);
    crypto_auth_hmacsha256_update(&mac, data + RECORDS_AT, size - RECORDS_AT);
    crypto_auth_hmacsha256_final(&mac, tag);
    memcpy(data + TAG_AT, tag, 16);
}

static size_t put_record(uint8_t *out, uint8_t type, const uint8_t *body, size_t size) {
    memset(out, 0, 13);
    out[0] = type;
    out[1] = 0xfe;
    out[2] = 0xfd;
    out[11] = (uint8_t)(size >> 8);
    out[12] = (uint8_t)size;
    memcpy(out + 13, body, size);
    return 13 + size;
}

/* A fatal alert, handshake_failure, of epoch 0. */
static inline size_t forge_alert(uint8_t *out) {
    static const uint8_t body[] = {2, 40};
    return put_record(out, 21, body, sizeof body);
}

/* A ServerHello that looks right in every field that can be known. */
static inline size_t forge_server_hello(uint8_t *out) {
    uint8_t body[12 + 44] = {2, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 44, 0xfe, 0xfd};
    for (int i = 0; i < 32; i++)
        body[14 + i] = (uint8_t)wire_random(256);
    body[46] = 0;
    body[47] = 0xcc;
    body[48] = 0xac;
    body[49] = 0;
    body[50] = 0;
    body[51] = 4;
    body[52] = 0;
    body[53] = 23; /* extended_master_secret */
    return put_record(out, 22, body, sizeof body);
}

/* One envelope: first byte, session id (NULL: a guess), a right tag, records. */
static inline size_t forge_envelope(uint8_t *out, uint8_t type, const uint8_t *session,
                                    const p2p_id *responder, const uint8_t *records, size_t size) {
    out[0] = type;
    for (int i = 0; i < 8; i++)
        out[1 + i] = session ? session[i] : (uint8_t)wire_random(256);
    memcpy(out + RECORDS_AT, records, size);
    envelope_sign(responder, out, RECORDS_AT + size);
    return RECORDS_AT + size;
}

/* ---- a liar: a node that believes to be Bob, but has not got his key ---- */

static int liar_public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
    (void)ctx;
    (void)seed;
    *out = hosts[BOB].key.id;
    return P2P_OK;
}

/* Mallory opens as a liar: answers to Bob's name and signs with a key of her own. */
static inline void open_liar(void) {
    static p2p_crypto_api api;
    host *m = &hosts[MALLORY];
    api = *m->desc.crypto.api;
    api.public_key = liar_public_key;
    m->desc.crypto.api = &api;
    host_open(MALLORY, 1);
}
#endif
