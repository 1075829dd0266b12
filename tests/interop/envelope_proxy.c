/* Stands between our DTLS and an openssl command, for tests/interop/test_openssl.sh.
 *
 *     envelope_proxy psk                     PSK and NodeId of the tests' callee, in hex
 *     envelope_proxy channel server          our channel alone answers; prints "port N"
 *     envelope_proxy channel client PORT     our channel alone dials openssl s_server at PORT
 *     envelope_proxy node server             the same with a whole node behind the envelope
 *     envelope_proxy node client PORT
 *
 * Towards openssl it speaks bare DTLS over UDP on loopback. Towards a node it puts the envelope of
 * docs/SPEC.md on and takes it off; what that is made of is computed here with libsodium, from the
 * NodeId and the network's name, and shares nothing with p2p.h. Prints "heard" at openssl's first datagram, "binding HEX"
 * when our side calls the handshake complete, and "data TEXT" for data that arrived; a channel answers data by the
 * same in capitals. Ends when data was answered and then nothing came for a while, or after LIMIT. */
#define P2P_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LIMIT_US = 8000000, /* openssl's first retransmission comes after one second */
    QUIET_US = 700000,
    ROOM = 16384
};

static const char network[] = "p2p";

/* One side's bytes in and out; "raw" is bare DTLS, as openssl speaks it. */
typedef struct proxy {
    int fd;
    int server; /* our side answers */
    p2p_secure channel;
    uint64_t slab[P2P_MBEDTLS_SLAB / 8];
    p2p_node *node;
    void *arena;
    p2p_id callee;
    uint8_t root[32], psk[32], tag_key[32], session[8];
    uint8_t reply[ROOM]; /* to be sealed */
    size_t reply_size;
    uint64_t now_us, active_us;
    int complete, answered, noted;
} proxy;

static uint64_t clock_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static int entropy(void *ctx, void *out, size_t size) {
    (void)ctx;
    randombytes_buf(out, size);
    return 0;
}

static void print_hex(const char *name, const uint8_t *bytes, size_t size) {
    printf("%s ", name);
    for (size_t i = 0; i < size; i++)
        printf("%02x", bytes[i]);
    printf("\n");
}

static void fail(const char *what) {
    printf("error %s\n", what);
    exit(1);
}

/* ---- keys, as docs/SPEC.md says ---------------------------------------------------------------- */

static void derive(proxy *x, const uint8_t callee_seed[32]) {
    static const char label[] = "p2p.h/envelope/v1"; /* hashed with its NUL */
    const uint8_t name_size = sizeof network - 1;
    crypto_hash_sha256_state hash;
    uint8_t secret[64];
    crypto_sign_seed_keypair(x->callee.bytes, secret, callee_seed);
    crypto_hash_sha256_init(&hash);
    crypto_hash_sha256_update(&hash, (const uint8_t *)label, sizeof label);
    crypto_hash_sha256_update(&hash, &name_size, 1);
    crypto_hash_sha256_update(&hash, (const uint8_t *)network, name_size);
    crypto_hash_sha256_update(&hash, x->callee.bytes, 32);
    crypto_hash_sha256_final(&hash, x->root);
    crypto_auth_hmacsha256(x->psk, (const uint8_t *)"psk", 3, x->root);
    crypto_auth_hmacsha256(x->tag_key, (const uint8_t *)"mac1", 4, x->root);
}

static void tag_of(const proxy *x, const uint8_t *head, const uint8_t *body, size_t size,
                   uint8_t tag[16]) {
    crypto_auth_hmacsha256_state mac;
    uint8_t whole[32];
    crypto_auth_hmacsha256_init(&mac, x->tag_key, sizeof x->tag_key);
    crypto_auth_hmacsha256_update(&mac, head, 9);
    crypto_auth_hmacsha256_update(&mac, body, size);
    crypto_auth_hmacsha256_final(&mac, whole);
    memcpy(tag, whole, 16);
}

/* ---- towards openssl ----------------------------------------------------------------------------- */

static void raw_send(proxy *x, const uint8_t *raw, size_t size) {
    if (send(x->fd, raw, size, 0) < 0)
        printf("note send failed\n");
}

static int raw_open(proxy *x, int port) {
    struct sockaddr_in a;
    socklen_t size = sizeof a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    x->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (x->fd < 0 || bind(x->fd, (struct sockaddr *)&a, sizeof a) != 0)
        return -1;
    if (x->server) {
        if (getsockname(x->fd, (struct sockaddr *)&a, &size) != 0)
            return -1;
        printf("port %d\n", ntohs(a.sin_port));
        return 0;
    }
    a.sin_port = htons((uint16_t)port);
    return connect(x->fd, (struct sockaddr *)&a, sizeof a);
}

static ssize_t raw_receive(proxy *x, uint8_t *raw, size_t room) {
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    ssize_t size = recvfrom(x->fd, raw, room, MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);
    /* The first one who writes is the peer. */
    if (size > 0 && x->server && x->active_us == 0 &&
        connect(x->fd, (struct sockaddr *)&from, from_size) != 0)
        fail("connect");
    return size;
}

/* The first record's size, or 0 at the end. */
static size_t record_size(const uint8_t *raw, size_t size) {
    size_t record = size < 13 ? 0 : 13 + ((size_t)raw[11] << 8 | raw[12]);
    return record <= size ? record : 0;
}

/* Says once whether openssl offers or takes the extended master secret (an empty extension 23). */
static void note_extended_master_secret(proxy *x, const uint8_t *raw, size_t size) {
    if (size < 25 || raw[0] != 22 || raw[13] < 1 || raw[13] > 2)
        return;
    for (size_t i = 25; i + 4 <= size && !x->complete && !x->noted; i++)
        x->noted = memcmp(raw + i, "\0\x17\0\0", 4) == 0;
    if (x->noted == 1)
        printf("note extended master secret\n");
    x->noted += x->noted == 1;
}

static int record_is_data(const uint8_t *record) {
    return record[0] == 23 || (record[0] == 21 && record[4] == 1);
}

/* ---- our channel alone ---------------------------------------------------------------------------- */

static void channel_data(proxy *x, const uint8_t *plain, size_t size) {
    printf("data %.*s\n", (int)(size > 0 && plain[size - 1] == '\n' ? size - 1 : size),
           (const char *)plain);
    if (size > sizeof x->reply)
        return;
    for (size_t i = 0; i < size; i++)
        x->reply[i] = plain[i] >= 'a' && plain[i] <= 'z' ? (uint8_t)(plain[i] - 32) : plain[i];
    x->reply_size = size;
    x->answered = 1;
}

static void channel_take_record(proxy *x, uint8_t *record, size_t size) {
    uint8_t *plain = NULL, binding[32];
    int result;
    if (record_is_data(record)) {
        result = x->channel.api->open(NULL, x->slab, record, size, &plain);
        if (result == P2P_ERR_CLOSED)
            printf("closed\n");
        if (result > 0)
            channel_data(x, plain, (size_t)result);
        return;
    }
    result = x->channel.api->feed(NULL, x->slab, x->now_us, record, size);
    if (result < 0)
        printf("dead %s\n", "feed");
    if (result != 1)
        return;
    x->complete = 1;
    if (x->channel.api->binding(NULL, x->slab, binding) != 0)
        fail("binding");
    print_hex("binding", binding, sizeof binding);
    if (x->server)
        return;
    memcpy(x->reply, "hello from our side\n", 20);
    x->reply_size = 20;
}

static int channel_give(proxy *x, uint8_t *out, size_t room) {
    int size = x->channel.api->flight(NULL, x->slab, x->now_us, out, room, 0);
    if (size != 0 || x->reply_size == 0)
        return size;
    size = x->channel.api->seal(NULL, x->slab, x->reply, x->reply_size, out, room);
    x->reply_size = 0;
    return size;
}

static void channel_begin(proxy *x) {
    p2p_secure_params params;
    memset(&params, 0, sizeof params);
    params.server = (uint8_t)x->server;
    params.content = 1194;
    params.timer_us = 150000;
    params.random.fill = entropy;
    memcpy(params.psk, x->psk, sizeof params.psk);
    if (x->channel.api->begin(NULL, x->slab, sizeof x->slab, &params) != 0)
        fail("begin");
}

/* ---- a node behind the envelope --------------------------------------------------------------------- */

static const p2p_secure_api *inner;

/* The node's table, with a look at the binding. */
static int watching_feed(void *ctx, void *slab, uint64_t now_us, uint8_t *records, size_t size) {
    uint8_t binding[32];
    int result = inner->feed(ctx, slab, now_us, records, size);
    if (result == 1 && inner->binding(ctx, slab, binding) == 0)
        print_hex("binding", binding, sizeof binding);
    return result;
}

static p2p_addr somewhere(void) {
    p2p_addr a;
    if (p2p_addr_parse("127.0.0.1:4433", &a) != 0)
        fail("address");
    return a;
}

static void node_input(proxy *x, uint8_t *datagram, size_t size) {
    p2p_packet p;
    memset(&p, 0, sizeof p);
    p.remote = somewhere();
    p.data = datagram;
    p.size = size;
    if (p2p_input(x->node, x->now_us, &p) != 1)
        printf("note the node did not take a datagram of type %02x\n", datagram[0]);
}

/* Handshake records go into one envelope, application records each into a datagram. */
static void node_take(proxy *x, const uint8_t *raw, size_t size) {
    uint8_t envelope[ROOM], data[ROOM];
    size_t filled = 0, record;
    for (; (record = record_size(raw, size)) != 0; raw += record, size -= record) {
        if (record_is_data(raw)) {
            data[0] = x->server ? 0xb4 : 0xb5;
            memcpy(data + 1, x->session, 8);
            memcpy(data + 9, raw, record);
            node_input(x, data, 9 + record);
            continue;
        }
        memcpy(envelope + 25 + filled, raw, record);
        filled += record;
    }
    if (filled == 0)
        return;
    envelope[0] = x->server ? 0xb0 : 0xb1;
    memcpy(envelope + 1, x->session, 8);
    tag_of(x, envelope, envelope + 25, filled, envelope + 9);
    node_input(x, envelope, 25 + filled);
}

/* Takes the envelope off. 0: nothing for openssl in it. */
static size_t node_strip(proxy *x, uint8_t *datagram, size_t size) {
    uint8_t tag[16];
    uint8_t envelope = x->server ? 0xb1 : 0xb0, data = x->server ? 0xb5 : 0xb4;
    if (size > 9 && !x->server && datagram[0] == envelope)
        memcpy(x->session, datagram + 1, 8);
    if (size <= 25 || memcmp(datagram + 1, x->session, 8) != 0)
        fail("session id of the node's datagram");
    if (datagram[0] == data) {
        memmove(datagram, datagram + 9, size - 9);
        return size - 9;
    }
    if (datagram[0] != envelope || size > 512)
        fail("type or size of the node's datagram");
    tag_of(x, datagram, datagram + 25, size - 25, tag);
    if (memcmp(tag, datagram + 9, 16) != 0)
        fail("tag of the node's datagram");
    memmove(datagram, datagram + 25, size - 25);
    return size - 25;
}

static int node_give(proxy *x, uint8_t *out, size_t room) {
    p2p_packet p;
    p2p_event event;
    memset(&p, 0, sizeof p);
    p2p_poll(x->node, x->now_us);
    while (p2p_next_event(x->node, &event) == 1)
        if (event.type == P2P_EVENT_DISCONNECTED)
            printf("disconnected %s\n", p2p_err_name(event.err));
    p.data = out;
    p.size = room;
    if (p2p_output(x->node, x->now_us, &p) != 1)
        return 0;
    return (int)node_strip(x, out, p.size);
}

static void node_begin(proxy *x, const uint8_t callee_seed[32]) {
    static p2p_secure_api watching;
    size_t arena_size;
    p2p_error_detail why;
    p2p_desc desc;
    p2p_key key;
    p2p_ticket peer;
    p2p_conn conn;
    memset(&desc, 0, sizeof desc);
    memset(&peer, 0, sizeof peer);
    desc.why = &why;
    desc.network = network;
    desc.allow_anyone = 1;
    desc.random.fill = entropy;
    inner = x->channel.api;
    watching = *inner;
    watching.feed = watching_feed;
    desc.secure.api = &watching;
    if (p2p_sodium_crypto(&desc.crypto) != 0)
        fail("crypto");
    if (p2p_key_from_seed(&desc.crypto, callee_seed, &key) != 0)
        fail("key");
    if (x->server)
        desc.key = &key;
    arena_size = p2p_arena_size(&desc);
    x->arena = malloc(arena_size);
    if (arena_size == 0 || p2p_node_open(&x->node, &desc, x->arena, arena_size) != 0)
        fail(why.text);
    randombytes_buf(x->session, sizeof x->session);
    if (x->server) {
        p2p_listener listener;
        if (p2p_listen(x->node, NULL, &listener) != 0)
            fail("listen");
        return;
    }
    peer.id = x->callee;
    peer.addrs[peer.addr_count++] = somewhere();
    p2p_poll(x->node, x->now_us);
    if (p2p_peer_add(x->node, &peer) != 0 || p2p_connect(x->node, &peer.id, NULL, &conn) != 0)
        fail("connect");
}

/* ---- the loop ------------------------------------------------------------------------------------- */

static void take(proxy *x, uint8_t *raw, size_t size) {
    size_t record;
    if (x->node) {
        node_take(x, raw, size);
        return;
    }
    for (; (record = record_size(raw, size)) != 0; raw += record, size -= record)
        channel_take_record(x, raw, record);
}

static void run(proxy *x) {
    uint8_t raw[ROOM];
    uint64_t end_us = clock_us() + LIMIT_US;
    while ((x->now_us = clock_us()) < end_us) {
        struct pollfd waiting = {x->fd, POLLIN, 0};
        ssize_t got = raw_receive(x, raw, sizeof raw);
        int size;
        if (got > 0) {
            if (x->active_us == 0)
                printf("heard\n");
            x->active_us = x->now_us;
            note_extended_master_secret(x, raw, (size_t)got);
            take(x, raw, (size_t)got);
        }
        while ((size = x->node ? node_give(x, raw, sizeof raw) : channel_give(x, raw, sizeof raw)) >
               0)
            raw_send(x, raw, (size_t)size);
        if (size < 0) {
            printf("dead %d\n", size);
            return;
        }
        if (x->answered && x->now_us - x->active_us > QUIET_US)
            return;
        (void)poll(&waiting, 1, 5);
    }
}

int main(int argc, char **argv) {
    static proxy x;
    static const uint8_t callee_seed[32] = "the callee of the interop tests";
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (sodium_init() < 0)
        fail("libsodium");
    derive(&x, callee_seed);
    if (argc == 2 && strcmp(argv[1], "psk") == 0) {
        print_hex("psk", x.psk, sizeof x.psk);
        print_hex("id", x.callee.bytes, sizeof x.callee.bytes);
        return 0;
    }
    if (argc < 3 || (strcmp(argv[2], "client") == 0 && argc < 4)) {
        fprintf(stderr,
                "usage: envelope_proxy psk | channel|node server | channel|node client PORT\n");
        return 2;
    }
    x.server = strcmp(argv[2], "server") == 0;
    p2p_mbedtls_secure(&x.channel);
    x.now_us = clock_us();
    if (raw_open(&x, x.server ? 0 : atoi(argv[3])) != 0)
        fail("socket");
    if (strcmp(argv[1], "node") == 0)
        node_begin(&x, callee_seed);
    else
        channel_begin(&x);
    run(&x);
    if (x.node)
        p2p_node_close(x.node);
    free(x.arena);
    close(x.fd);
    return 0;
}
