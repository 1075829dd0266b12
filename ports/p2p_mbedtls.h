/* p2p_mbedtls.h: the secure channel of p2p.h, DTLS 1.2 by mbedTLS 3.6.
 * SPDX-License-Identifier: MIT-0
 *
 * Do this
 *     #define P2P_MBEDTLS_IMPLEMENTATION
 * before you include this file in one C or C++ file, to create the implementation there. Then
 *     p2p_desc desc = {0};
 *     p2p_mbedtls_secure(&desc.secure);
 * and p2p_node_open runs every session over DTLS. Nothing is to be closed: a session is one slab of
 * P2P_MBEDTLS_SLAB bytes in the node's arena, and its end is that the slab is wiped.
 *
 * Needed on the include path: p2p.h, ports/, mbedTLS's include/ and 3rdparty/everest/include/; only
 * mbedTLS's public interface is used. To be linked: mbedTLS 3.6 (3.6.6 or later), built with
 * ports/mbedtls_config.h or a configuration that has what that one has.
 *
 * Macros, all to be defined before the implementation unless it says globally
 *     MBEDTLS_CONFIG_FILE       globally, also for mbedTLS: its configuration, default
 *                               <mbedtls_config.h>, the one beside this file
 *     P2P_MBEDTLS_CONTENT       globally, also for mbedTLS: largest plaintext of a record; two
 *                               buffers of it are in each slab. Default: 8192, and 1280 where
 *                               there is no operating system. begin refuses a library that was
 *                               built with another value
 *     P2P_MBEDTLS_THREAD_LOCAL  storage class of the pointer to the session being served. Default:
 *                               thread-local where there is an operating system, else nothing. With
 *                               an RTOS that runs nodes in several tasks, define it
 *     P2P_MBEDTLS_KEYLOG        globally: p2p_mbedtls_keylog is there, and can give away the secret of
 *                               every session. For looking at packets in Wireshark; never in a
 *                               program that anybody relies on
 *     P2P_MBEDTLS_CALLOC(n, m), P2P_MBEDTLS_FREE(p)   both or none: memory for other users of
 *                               mbedTLS in the same program. Default: they get none
 *
 * What is spoken. One suite, TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256 (RFC 7905), group X25519,
 * PSK identity "p2p"; no renegotiation, tickets, certificates, and as a server no
 * HelloVerifyRequest. The extended master secret (RFC 7627) is not a matter of choice: a hello
 * without it is dropped. Each record in the clear holds one message or one fragment, and a hello is
 * not fragmented. The PSK proves nothing about the peer: that is done above, by signatures over the
 * channel binding, which is the exporter of RFC 5705 with label "EXPERIMENTAL p2p.h auth", no
 * context, 32 bytes.
 *
 * Pull only. mbedTLS is never given a socket. feed() hands over records, and what it wants to send
 * waits inside until flight() opens a room for exactly one datagram. A handshake datagram is at
 * most P2P_MBEDTLS_FLIGHT bytes, so that an envelope with a cookie is at most 512.
 *
 * What an outsider can do. Alerts in the clear are never sent and never heeded, junk and forged
 * records are dropped, whatever comes after the handshake. During it, whoever can compute the
 * envelope's tag can end the attempt with one forged message; then feed() returns an error and the
 * caller starts anew.
 *
 * Threads. A session belongs to one thread at a time; sessions in different threads share nothing
 * but mbedTLS's allocator hook, which the first p2p_mbedtls_secure sets: make that call before
 * other threads start. Each block of memory names its slab, so free() finds it from any thread. */
#ifndef P2P_MBEDTLS_H
#define P2P_MBEDTLS_H
#include "p2p.h"

#ifndef P2P_DEF
#ifdef P2P_STATIC
#define P2P_DEF static
#else
#define P2P_DEF extern
#endif
#endif
#ifndef P2P_MBEDTLS_CONTENT
#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#define P2P_MBEDTLS_CONTENT 8192
#else
#define P2P_MBEDTLS_CONTENT 1280
#endif
#endif
/* Bytes of one session, half-open or not: mbedTLS's two record buffers and everything else it and
 * this port need at the worst moment of a handshake. A test measures it. */
#define P2P_MBEDTLS_SLAB                                      \
    ((((size_t)P2P_MBEDTLS_CONTENT * 2 + 15) & ~(size_t)15) + \
     (sizeof(void *) == 8 ? (size_t)4352 : (size_t)3072))
/* To add to P2P_ARENA_SIZE; half_open lies within conns. */
#define P2P_MBEDTLS_ARENA_SIZE(conns, half_open) \
    ((size_t)(conns)*P2P_MBEDTLS_SLAB + (size_t)(half_open)*0u + 1024u)
/* Largest handshake datagram: 512 less the longest envelope head (1 + 8 + 16 + 16). */
#define P2P_MBEDTLS_FLIGHT 471

#ifdef __cplusplus
extern "C" {
#endif
/* Fills in the secure channel. Returns 0. */
P2P_DEF int p2p_mbedtls_secure(p2p_secure *out);
#ifdef P2P_MBEDTLS_KEYLOG
/* DANGER: whoever has these lines reads and forges all that the sessions carry, past packets that
 * were recorded among them. fn gets one line a handshake and end, without a newline, in the format
 * of SSLKEYLOGFILE ("CLIENT_RANDOM ..."), also of handshakes that fail later; NULL: none, as at the
 * start. For all nodes of the process: set it before other threads start. */
P2P_DEF void p2p_mbedtls_keylog(void (*fn)(void *ctx, const char *line), void *ctx);
#endif
#ifdef __cplusplus
}
#endif
#endif /* P2P_MBEDTLS_H */

#if defined(P2P_MBEDTLS_IMPLEMENTATION) && !defined(P2P_MBEDTLS_IMPLEMENTED)
#define P2P_MBEDTLS_IMPLEMENTED
#include <string.h>

#ifndef MBEDTLS_CONFIG_FILE
#define MBEDTLS_CONFIG_FILE <mbedtls_config.h>
#endif
/* mbedTLS's headers do not hold to the warnings that this tree is compiled with. */
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include "mbedtls/platform.h"
#include "mbedtls/platform_util.h"
#include "mbedtls/ssl.h"
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#if MBEDTLS_VERSION_NUMBER < 0x03060000 || MBEDTLS_VERSION_NUMBER >= 0x04000000
#error "p2p_mbedtls.h needs mbedTLS 3.6"
#endif
#if !defined(MBEDTLS_PLATFORM_MEMORY)
#error "p2p_mbedtls.h: MBEDTLS_PLATFORM_MEMORY is off; is ports/mbedtls_config.h in use?"
#endif
#if defined(MBEDTLS_PLATFORM_CALLOC_MACRO) || defined(MBEDTLS_PLATFORM_FREE_MACRO)
#error "p2p_mbedtls.h: undefine MBEDTLS_PLATFORM_CALLOC_MACRO and _FREE_MACRO"
#endif
#if !defined(MBEDTLS_SSL_PROTO_DTLS) || !defined(MBEDTLS_SSL_PROTO_TLS1_2) ||             \
    !defined(MBEDTLS_SSL_CLI_C) || !defined(MBEDTLS_SSL_SRV_C) ||                         \
    !defined(MBEDTLS_SSL_EXTENDED_MASTER_SECRET) ||                                       \
    !defined(MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED) || !defined(MBEDTLS_CHACHAPOLY_C) || \
    !defined(MBEDTLS_ECP_DP_CURVE25519_ENABLED)
#error "p2p_mbedtls.h: mbedTLS's configuration lacks something that ports/mbedtls_config.h has"
#endif
#if MBEDTLS_SSL_IN_CONTENT_LEN != P2P_MBEDTLS_CONTENT || \
    MBEDTLS_SSL_OUT_CONTENT_LEN != P2P_MBEDTLS_CONTENT
#error "p2p_mbedtls.h: P2P_MBEDTLS_CONTENT differs from mbedTLS's content length"
#endif
#if MBEDTLS_SSL_IN_CONTENT_LEN < 1024 || MBEDTLS_SSL_OUT_CONTENT_LEN < 1024
#error "p2p_mbedtls.h: mbedTLS's content lengths must be at least 1024"
#endif
#if defined(P2P_MBEDTLS_CALLOC) != defined(P2P_MBEDTLS_FREE)
#error "p2p_mbedtls.h: define both P2P_MBEDTLS_CALLOC and P2P_MBEDTLS_FREE, or none"
#endif

#ifndef P2P_MBEDTLS_THREAD_LOCAL
#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#if defined(__cplusplus)
#define P2P_MBEDTLS_THREAD_LOCAL thread_local
#elif defined(__GNUC__)
#define P2P_MBEDTLS_THREAD_LOCAL __thread
#elif defined(_MSC_VER)
#define P2P_MBEDTLS_THREAD_LOCAL __declspec(thread)
#else
#define P2P_MBEDTLS_THREAD_LOCAL _Thread_local
#endif
#else
#define P2P_MBEDTLS_THREAD_LOCAL
#endif
#endif

/* Own state only; p2p.h's P2P_ASSERT where the same file has it. */
#ifdef P2P_ASSERT
#define P2P_MBEDTLS__ASSERT(condition) P2P_ASSERT(condition)
#else
#define P2P_MBEDTLS__ASSERT(condition) ((void)0)
#endif

/* ==== >>session ================================================================================
 * What a slab holds: this struct, and behind it the heap that mbedTLS draws on.
 * Always: mbedTLS runs only between p2p_mbedtls__enter and p2p_mbedtls__leave. */

enum {
    P2P_MBEDTLS__MAGIC = 0x7032706d,
    P2P_MBEDTLS__RECORD_HEAD = 13,  /* RFC 6347, 4.1 */
    P2P_MBEDTLS__MESSAGE_HEAD = 12, /* ... and 4.2.2 */
    P2P_MBEDTLS__OVERHEAD =
        13 + 16,                   /* record head, Poly1305 tag; the nonce is implicit (RFC 7905) */
    P2P_MBEDTLS__RECORDS_MAX = 64, /* of one envelope: 512 bytes hold at most 39 */
    P2P_MBEDTLS__LAST_FLIGHT = 96, /* ChangeCipherSpec and Finished: 67 bytes */
    P2P_MBEDTLS__CONTENT_MAX = MBEDTLS_SSL_IN_CONTENT_LEN < MBEDTLS_SSL_OUT_CONTENT_LEN
                                   ? MBEDTLS_SSL_IN_CONTENT_LEN
                                   : MBEDTLS_SSL_OUT_CONTENT_LEN
};
enum {
    P2P_MBEDTLS__CCS = 20,
    P2P_MBEDTLS__ALERT = 21,
    P2P_MBEDTLS__HANDSHAKE = 22,
    P2P_MBEDTLS__DATA = 23
};

/* What becomes of a datagram that mbedTLS wants to send. */
typedef enum p2p_mbedtls__sending {
    P2P_MBEDTLS__WAIT,   /* it stays inside; a server's last flight goes to .held, see there */
    P2P_MBEDTLS__GIVE,   /* into the caller's room */
    P2P_MBEDTLS__SHOW,   /* the same, and it stays inside too */
    P2P_MBEDTLS__DISCARD /* nobody needs it any more */
} p2p_mbedtls__sending;

typedef struct p2p_mbedtls__session {
    uint32_t magic;
    uint32_t size;       /* of the slab */
    uint32_t heap;       /* offset of the first block; the heap ends with the slab */
    uint32_t high_water; /* highest offset that a block has reached */
    int dead;            /* 0, or the P2P_ERR_* that every call returns from now on */
    uint8_t server, started, complete;
    uint8_t told;      /* feed() has returned 1 */
    uint8_t keyed;     /* .binding is computed */
    uint8_t exhausted; /* an allocation found no room */
    uint8_t blocked;   /* a datagram waits inside mbedTLS */
    uint8_t shown;     /* ... and has been given out with keep */
    uint8_t due;       /* the timer ran out, or resend() was called */
    uint8_t repeats;   /* of this flight */
    uint8_t data_only; /* records that may pass: application data and alerts, else handshake */
    p2p_mbedtls__sending sending;
    uint64_t now_us, timer_at_us; /* the client's; P2P_NEVER when off */
    uint32_t timer_us, interval_us;
    const uint8_t *in; /* records not handed over yet */
    size_t in_size;
    uint8_t *out; /* the caller's room, and what was put there */
    size_t out_room, out_size;
    p2p_random random;
    uint8_t binding[32];
    /* A server's handshake is over once its last flight has left mbedTLS. It is taken over here, so
     * that feed() can say so before flight() is called. */
    uint8_t held[P2P_MBEDTLS__LAST_FLIGHT];
    size_t held_size;
    mbedtls_ssl_config conf;
    mbedtls_ssl_context ssl;
} p2p_mbedtls__session;

static P2P_MBEDTLS_THREAD_LOCAL p2p_mbedtls__session *p2p_mbedtls__serving;
/* Set while p2p_mbedtls_secure looks whether mbedTLS calls our allocator. */
static P2P_MBEDTLS_THREAD_LOCAL uint8_t p2p_mbedtls__probing;

static void p2p_mbedtls__enter(p2p_mbedtls__session *s) {
    P2P_MBEDTLS__ASSERT(s->magic == P2P_MBEDTLS__MAGIC);
    P2P_MBEDTLS__ASSERT(!p2p_mbedtls__serving);
    p2p_mbedtls__serving = s;
}

static void p2p_mbedtls__leave(p2p_mbedtls__session *s) {
    P2P_MBEDTLS__ASSERT(p2p_mbedtls__serving == s);
    p2p_mbedtls__serving = NULL;
    s->in = NULL;
    s->in_size = 0;
    s->out = NULL;
    s->out_room = 0;
}

/* ==== >>heap ===================================================================================
 * First fit over blocks in a row. Each block begins with a head that says how far back its slab
 * begins, so that free() needs nothing else. Heads are 8 bytes and so is the alignment: mbedTLS
 * stores nothing wider than 64 bits. */

typedef struct p2p_mbedtls__block {
    uint32_t size; /* of the payload, a multiple of 8; bit 0: in use */
    uint32_t back; /* distance from the slab's first byte; P2P_MBEDTLS__FOREIGN: not in a slab */
} p2p_mbedtls__block;
#define P2P_MBEDTLS__FOREIGN UINT32_MAX

static p2p_mbedtls__block *p2p_mbedtls__block_at(p2p_mbedtls__session *s, uint32_t offset) {
    return (p2p_mbedtls__block *)(void *)((uint8_t *)s + offset);
}

static void p2p_mbedtls__heap_open(p2p_mbedtls__session *s) {
    p2p_mbedtls__block *first;
    s->heap = ((uint32_t)sizeof *s + 7u) & ~7u;
    first = p2p_mbedtls__block_at(s, s->heap);
    first->back = s->heap;
    first->size = (s->size - s->heap - (uint32_t)sizeof *first) & ~7u;
    s->high_water = s->heap;
}

/* Joins a free block with the free ones behind it. */
static void p2p_mbedtls__join(p2p_mbedtls__session *s, p2p_mbedtls__block *b) {
    uint32_t next = b->back + (uint32_t)sizeof *b + b->size;
    while (next + sizeof *b <= s->size && !(p2p_mbedtls__block_at(s, next)->size & 1u)) {
        b->size += (uint32_t)sizeof *b + p2p_mbedtls__block_at(s, next)->size;
        next = b->back + (uint32_t)sizeof *b + b->size;
    }
}

/* Takes size bytes of a free block and makes a block of the rest when one fits there. */
static void *p2p_mbedtls__take(p2p_mbedtls__session *s, p2p_mbedtls__block *b, uint32_t size) {
    uint32_t end;
    P2P_MBEDTLS__ASSERT(!(b->size & 1u) && b->size >= size && size % 8 == 0);
    if (b->size - size > sizeof *b) {
        uint32_t rest = b->back + (uint32_t)sizeof *b + size;
        p2p_mbedtls__block_at(s, rest)->back = rest;
        p2p_mbedtls__block_at(s, rest)->size = b->size - size - (uint32_t)sizeof *b;
        b->size = size;
    }
    end = b->back + (uint32_t)sizeof *b + b->size;
    P2P_MBEDTLS__ASSERT(end <= s->size);
    if (end > s->high_water)
        s->high_water = end;
    b->size |= 1u;
    return memset(b + 1, 0, size);
}

static void *p2p_mbedtls__heap_calloc(p2p_mbedtls__session *s, size_t bytes) {
    uint32_t size, at = s->heap;
    if (bytes <= s->size) {
        size = (uint32_t)(bytes + 7u) & ~7u;
        while (at + sizeof(p2p_mbedtls__block) <= s->size) {
            p2p_mbedtls__block *b = p2p_mbedtls__block_at(s, at);
            if (!(b->size & 1u)) {
                p2p_mbedtls__join(s, b);
                if (b->size >= size)
                    return p2p_mbedtls__take(s, b, size);
            }
            at += (uint32_t)sizeof *b + (b->size & ~1u);
        }
    }
    s->exhausted = 1;
    return NULL;
}

/* Memory for whoever else uses mbedTLS in this program. */
static void *p2p_mbedtls__foreign_calloc(size_t bytes) {
#ifdef P2P_MBEDTLS_CALLOC
    p2p_mbedtls__block *b;
    if (bytes > SIZE_MAX - 16)
        return NULL;
    b = (p2p_mbedtls__block *)P2P_MBEDTLS_CALLOC(1, bytes + 16);
    if (!b)
        return NULL;
    b[1].back = P2P_MBEDTLS__FOREIGN;
    return b + 2;
#else
    (void)bytes;
    return NULL;
#endif
}

static void *p2p_mbedtls__calloc(size_t count, size_t item) {
    if (p2p_mbedtls__probing) {
        p2p_mbedtls__probing = 2;
        return NULL;
    }
    if (item != 0 && count > SIZE_MAX / item)
        return NULL;
    return p2p_mbedtls__serving ? p2p_mbedtls__heap_calloc(p2p_mbedtls__serving, count * item)
                                : p2p_mbedtls__foreign_calloc(count * item);
}

static void p2p_mbedtls__free(void *memory) {
    p2p_mbedtls__block *b = (p2p_mbedtls__block *)memory;
    if (!b)
        return;
    b--;
    if (b->back != P2P_MBEDTLS__FOREIGN) {
        P2P_MBEDTLS__ASSERT(b->size & 1u);
        P2P_MBEDTLS__ASSERT(((p2p_mbedtls__session *)(void *)((uint8_t *)b - b->back))->magic ==
                            P2P_MBEDTLS__MAGIC);
        b->size &= ~1u;
        return;
    }
#ifdef P2P_MBEDTLS_FREE
    P2P_MBEDTLS_FREE(b - 1);
#endif
}

/* ==== >>callbacks ==============================================================================
 * What mbedTLS calls. None of them runs outside enter and leave. */

static int p2p_mbedtls__random(void *ctx, unsigned char *out, size_t size) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)ctx;
    return s->random.fill(s->random.ctx, out, size) < 0 ? MBEDTLS_ERR_SSL_INTERNAL_ERROR : 0;
}

static int p2p_mbedtls__wait(p2p_mbedtls__session *s, const unsigned char *data, size_t size) {
    if (s->shown) {
        /* It has left already, with keep; an answer may be what is being fed. */
        s->shown = 0;
        return (int)size;
    }
    if (!s->server || size > sizeof s->held || (s->held_size != 0 && !s->complete))
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    memcpy(s->held, data, size);
    s->held_size = size;
    return (int)size;
}

static int p2p_mbedtls__give(p2p_mbedtls__session *s, const unsigned char *data, size_t size) {
    P2P_MBEDTLS__ASSERT(s->out && s->out_size <= s->out_room);
    if (s->out_size != 0 || size > s->out_room)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    memcpy(s->out, data, size);
    s->out_size = size;
    s->shown = s->sending == P2P_MBEDTLS__SHOW;
    return s->shown ? MBEDTLS_ERR_SSL_WANT_WRITE : (int)size;
}

static int p2p_mbedtls__send(void *ctx, const unsigned char *data, size_t size) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)ctx;
    if (s->sending == P2P_MBEDTLS__DISCARD || data[0] == P2P_MBEDTLS__ALERT)
        return (int)size;
    return s->sending == P2P_MBEDTLS__WAIT ? p2p_mbedtls__wait(s, data, size)
                                           : p2p_mbedtls__give(s, data, size);
}

static size_t p2p_mbedtls__u16(const uint8_t *at) { return (size_t)at[0] << 8 | at[1]; }
static size_t p2p_mbedtls__u24(const uint8_t *at) {
    return (size_t)at[0] << 16 | p2p_mbedtls__u16(at + 1);
}

/* Steps over a vector with a length of 1 or 2 bytes; a place beyond size when it is cut short. */
static size_t p2p_mbedtls__skip(const uint8_t *hello, size_t size, size_t at, size_t width) {
    if (at + width > size)
        return size + 1;
    return at + width + (width == 1 ? hello[at] : p2p_mbedtls__u16(hello + at));
}

/* Whether a ClientHello offers, or a ServerHello takes, the extended master secret. mbedTLS can
 * offer it but not insist, so that is done here, on every hello that it is shown. */
static bool p2p_mbedtls__hello_is_safe(const uint8_t *hello, size_t size, bool client) {
    size_t at = p2p_mbedtls__skip(hello, size, 2 + 32, 1); /* version, random, session id */
    if (client) {
        at = p2p_mbedtls__skip(hello, size, at, 1); /* cookie */
        at = p2p_mbedtls__skip(hello, size, at, 2); /* suites */
        at = p2p_mbedtls__skip(hello, size, at, 1); /* compression */
    } else {
        at += 3;
    }
    if (at + 2 > size || at + 2 + p2p_mbedtls__u16(hello + at) != size)
        return false;
    for (at += 2; at + 4 <= size; at += 4 + p2p_mbedtls__u16(hello + at + 2))
        if (p2p_mbedtls__u16(hello + at) == MBEDTLS_TLS_EXT_EXTENDED_MASTER_SECRET)
            return p2p_mbedtls__u16(hello + at + 2) == 0;
    return false;
}

/* A handshake record in the clear: one message, or one fragment of a message that is not a hello,
 * and one that this side expects of the other. */
static bool p2p_mbedtls__message_passes(const p2p_mbedtls__session *s, const uint8_t *message,
                                        size_t size) {
    size_t part;
    if (size < P2P_MBEDTLS__MESSAGE_HEAD)
        return false;
    part = p2p_mbedtls__u24(message + 9);
    if (part != size - P2P_MBEDTLS__MESSAGE_HEAD)
        return false;
    switch (message[0]) {
    case MBEDTLS_SSL_HS_CLIENT_HELLO:
    case MBEDTLS_SSL_HS_SERVER_HELLO:
        return s->server == (message[0] == MBEDTLS_SSL_HS_CLIENT_HELLO) &&
               p2p_mbedtls__u24(message + 1) == part &&
               p2p_mbedtls__hello_is_safe(message + P2P_MBEDTLS__MESSAGE_HEAD, part, s->server);
    case MBEDTLS_SSL_HS_HELLO_VERIFY_REQUEST:
    case MBEDTLS_SSL_HS_SERVER_KEY_EXCHANGE:
    case MBEDTLS_SSL_HS_SERVER_HELLO_DONE: return !s->server;
    case MBEDTLS_SSL_HS_CLIENT_KEY_EXCHANGE: return s->server;
    default: return false;
    }
}

/* Whether a record may reach mbedTLS. Epochs above 1 do not exist without renegotiation, and none
 * in the clear is of use once the handshake is over. */
static bool p2p_mbedtls__passes(const p2p_mbedtls__session *s, const uint8_t *record, size_t size) {
    size_t epoch = p2p_mbedtls__u16(record + 3);
    if (epoch > 1 || (s->complete && epoch == 0))
        return false;
    if (s->data_only)
        return epoch == 1 && (record[0] == P2P_MBEDTLS__DATA || record[0] == P2P_MBEDTLS__ALERT);
    if (record[0] == P2P_MBEDTLS__HANDSHAKE)
        return epoch == 1 || p2p_mbedtls__message_passes(s, record + P2P_MBEDTLS__RECORD_HEAD,
                                                         size - P2P_MBEDTLS__RECORD_HEAD);
    return record[0] == P2P_MBEDTLS__CCS;
}

/* One record a call; those that may not pass are skipped. */
static int p2p_mbedtls__receive(void *ctx, unsigned char *out, size_t room) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)ctx;
    while (s->in_size >= P2P_MBEDTLS__RECORD_HEAD) {
        const uint8_t *record = s->in;
        size_t size = P2P_MBEDTLS__RECORD_HEAD + p2p_mbedtls__u16(record + 11);
        if (size > s->in_size)
            break;
        s->in += size;
        s->in_size -= size;
        if (size <= room && p2p_mbedtls__passes(s, record, size)) {
            memcpy(out, record, size);
            return (int)size;
        }
    }
    s->in_size = 0;
    return MBEDTLS_ERR_SSL_WANT_READ;
}

/* mbedTLS gives milliseconds that double; the interval kept here is the one that counts. */
static void p2p_mbedtls__timer_set(void *ctx, uint32_t middle_ms, uint32_t final_ms) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)ctx;
    (void)middle_ms;
    if (final_ms == 0) {
        /* Stopped because it ran out, or because an answer came. One to a flight that was not
         * repeated shows the round trip: twice that, at least 20 ms, is enough from then on. */
        if (!s->due && s->repeats == 0 && s->timer_at_us != P2P_NEVER) {
            uint64_t twice_us = 2 * (s->now_us + s->interval_us - s->timer_at_us);
            if (twice_us < s->timer_us)
                s->timer_us = twice_us < 20000 ? 20000 : (uint32_t)twice_us;
        }
        if (!s->due) {
            s->interval_us = s->timer_us;
            s->repeats = 0;
        }
        s->due = 0;
        s->timer_at_us = P2P_NEVER;
        return;
    }
    /* A server only answers: the client is the one to repeat. */
    if (!s->server)
        s->timer_at_us = s->now_us + s->interval_us;
}

static int p2p_mbedtls__timer_get(void *ctx) {
    const p2p_mbedtls__session *s = (const p2p_mbedtls__session *)ctx;
    if (s->due)
        return 2;
    return s->timer_at_us == P2P_NEVER ? -1 : 0;
}

#ifdef P2P_MBEDTLS_KEYLOG
static struct {
    void (*fn)(void *ctx, const char *line);
    void *ctx;
} p2p_mbedtls__keylog;

P2P_DEF void p2p_mbedtls_keylog(void (*fn)(void *ctx, const char *line), void *ctx) {
    p2p_mbedtls__keylog.fn = fn;
    p2p_mbedtls__keylog.ctx = ctx;
}
static char *p2p_mbedtls__hex(char *out, const uint8_t *data, size_t size) {
    static const char digits[] = "0123456789abcdef";
    size_t i;
    for (i = 0; i < size; i++) {
        *out++ = digits[data[i] >> 4];
        *out++ = digits[data[i] & 15];
    }
    return out;
}
/* The master secret of TLS 1.2 has 48 bytes, always. */
static void p2p_mbedtls__log_key(const unsigned char *secret, size_t secret_size,
                                 const unsigned char client_random[32]) {
    char line[14 + 64 + 1 + 96 + 1] = "CLIENT_RANDOM ", *at = line + 14;
    if (!p2p_mbedtls__keylog.fn || secret_size != 48)
        return;
    at = p2p_mbedtls__hex(at, client_random, 32);
    *at++ = ' ';
    *p2p_mbedtls__hex(at, secret, 48) = 0;
    p2p_mbedtls__keylog.fn(p2p_mbedtls__keylog.ctx, line);
    mbedtls_platform_zeroize(line, sizeof line);
}
#endif

/* Runs when the master secret exists, before Finished is verified: what is noted here counts only
 * once the handshake is complete. mbedtls_ssl_export_keying_material would do after that, but not
 * on the side that sent the last flight. */
static void p2p_mbedtls__keys(void *ctx, mbedtls_ssl_key_export_type type,
                              const unsigned char *secret, size_t secret_size,
                              const unsigned char client_random[32],
                              const unsigned char server_random[32], mbedtls_tls_prf_types prf) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)ctx;
    uint8_t seed[64];
    if (type != MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET)
        return;
#ifdef P2P_MBEDTLS_KEYLOG
    p2p_mbedtls__log_key(secret, secret_size, client_random);
#endif
    memcpy(seed, client_random, 32);
    memcpy(seed + 32, server_random, 32);
    s->keyed = mbedtls_ssl_tls_prf(prf, secret, secret_size, "EXPERIMENTAL p2p.h auth", seed,
                                   sizeof seed, s->binding, sizeof s->binding) == 0;
}

/* ==== >>handshake ============================================================================= */

static int p2p_mbedtls__die(p2p_mbedtls__session *s, int error) {
    s->dead = s->exhausted ? P2P_ERR_ARENA : error;
    s->blocked = s->due = 0;
    s->held_size = 0;
    return s->dead;
}

static int p2p_mbedtls__error(int code) {
    switch (code) {
    case MBEDTLS_ERR_SSL_TIMEOUT: return P2P_ERR_TIMEOUT;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE: return P2P_ERR_CLOSED;
    default: return P2P_ERR_PROTOCOL;
    }
}

/* Lets mbedTLS go on as far as it can. 0, or < 0 dead. Once the handshake is complete nothing that
 * comes in an envelope ends the session: it is not authenticated there. */
static int p2p_mbedtls__drive(p2p_mbedtls__session *s) {
    uint8_t nothing[1];
    int code;
    mbedtls_ssl_set_mtu(&s->ssl, P2P_MBEDTLS_FLIGHT);
    s->started = 1;
    code = s->complete ? mbedtls_ssl_read(&s->ssl, nothing, sizeof nothing)
                       : mbedtls_ssl_handshake(&s->ssl);
    s->blocked = code == MBEDTLS_ERR_SSL_WANT_WRITE;
    /* mbedTLS goes on after some allocations that failed, with a Finished that is wrong. */
    if (s->exhausted && !s->complete)
        return p2p_mbedtls__die(s, P2P_ERR_ARENA);
    if (s->complete || s->blocked || code == MBEDTLS_ERR_SSL_WANT_READ)
        return 0;
    if (code != 0)
        return p2p_mbedtls__die(s, p2p_mbedtls__error(code));
    if (!s->keyed)
        return p2p_mbedtls__die(s, P2P_ERR_PROTOCOL);
    P2P_MBEDTLS__ASSERT(mbedtls_ssl_is_handshake_over(&s->ssl) == 1);
    s->complete = 1;
    s->timer_at_us = P2P_NEVER;
    return 0;
}

static int p2p_mbedtls__feed(void *ctx, void *slab, uint64_t now_us, uint8_t *records,
                             size_t size) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    int left = P2P_MBEDTLS__RECORDS_MAX;
    (void)ctx;
    if (s->dead)
        return s->dead;
    s->now_us = now_us;
    /* What waits to be sent must leave first; the peer repeats what it said. */
    if ((s->blocked && !s->shown) || (!s->server && !s->started))
        return 0;
    p2p_mbedtls__enter(s);
    s->sending = P2P_MBEDTLS__WAIT;
    s->data_only = 0;
    s->due = 0;
    s->in = records;
    s->in_size = size;
    while (s->in_size != 0 && left-- > 0 && !s->dead) {
        if (p2p_mbedtls__drive(s) != 0 || s->blocked)
            break;
    }
    p2p_mbedtls__leave(s);
    if (s->dead || !s->complete || s->told)
        return s->dead;
    s->told = 1;
    return 1;
}

static uint64_t p2p_mbedtls__deadline(void *ctx, const void *slab) {
    const p2p_mbedtls__session *s = (const p2p_mbedtls__session *)slab;
    (void)ctx;
    if (s->dead)
        return P2P_NEVER;
    if (s->held_size != 0 || s->blocked || s->due || (!s->server && !s->started))
        return 0;
    return s->timer_at_us;
}

/* Gives out the server's last flight, which mbedTLS has let go. */
static int p2p_mbedtls__flight_held(p2p_mbedtls__session *s, uint8_t *out, size_t room, int keep) {
    size_t size = s->held_size;
    if (size > room)
        return 0;
    memcpy(out, s->held, size);
    if (!keep)
        s->held_size = 0;
    return (int)size;
}

static int p2p_mbedtls__flight(void *ctx, void *slab, uint64_t now_us, uint8_t *out, size_t room,
                               int keep) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    (void)ctx;
    if (s->dead)
        return s->dead;
    if (s->held_size != 0)
        return p2p_mbedtls__flight_held(s, out, room, keep);
    s->now_us = now_us;
    if (p2p_mbedtls__deadline(NULL, s) > now_us)
        return 0;
    if (!s->blocked && s->timer_at_us <= now_us) {
        s->due = 1;
        if (s->repeats++ && s->interval_us <= UINT32_MAX / 2)
            s->interval_us *= 2;
    }
    p2p_mbedtls__enter(s);
    s->sending = keep ? P2P_MBEDTLS__SHOW : P2P_MBEDTLS__GIVE;
    s->out = out;
    s->out_room = room;
    s->out_size = 0;
    (void)p2p_mbedtls__drive(s);
    p2p_mbedtls__leave(s);
    /* A room that is too small leaves the datagram inside. */
    return s->dead ? s->dead : (int)s->out_size;
}

static int p2p_mbedtls__resend(void *ctx, void *slab, uint64_t now_us) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    (void)ctx;
    if (s->dead)
        return s->dead;
    s->now_us = now_us;
    /* Nothing was sent yet, or it is still to be sent, or it is no longer needed. */
    if (s->started && !s->blocked && !s->complete)
        s->due = 1;
    return 0;
}

static int p2p_mbedtls__binding(void *ctx, const void *slab, uint8_t out[32]) {
    const p2p_mbedtls__session *s = (const p2p_mbedtls__session *)slab;
    (void)ctx;
    if (s->dead || !s->complete)
        return P2P_ERR_STATE;
    memcpy(out, s->binding, sizeof s->binding);
    return 0;
}

/* ==== >>records =============================================================================== */

static int p2p_mbedtls__seal(void *ctx, void *slab, const uint8_t *packet, size_t size,
                             uint8_t *out, size_t room) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    int code;
    (void)ctx;
    if (s->dead)
        return s->dead;
    if (!s->complete)
        return P2P_ERR_STATE;
    if (s->blocked)
        return P2P_ERR_AGAIN;
    if (size > P2P_MBEDTLS__CONTENT_MAX)
        return P2P_ERR_TOO_LARGE;
    if (size == 0 || room < size + P2P_MBEDTLS__OVERHEAD)
        return P2P_ERR_ARG;
    p2p_mbedtls__enter(s);
    s->sending = P2P_MBEDTLS__GIVE;
    s->out = out;
    s->out_room = room;
    s->out_size = 0;
    mbedtls_ssl_set_mtu(&s->ssl, 0);
    code = mbedtls_ssl_write(&s->ssl, packet, size);
    p2p_mbedtls__leave(s);
    if (code != (int)size || s->out_size == 0)
        return p2p_mbedtls__die(s, P2P_ERR_PROTOCOL);
    return (int)s->out_size;
}

static int p2p_mbedtls__open(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    int code;
    (void)ctx;
    if (s->dead)
        return s->dead;
    if (!s->complete || size <= P2P_MBEDTLS__OVERHEAD)
        return 0;
    p2p_mbedtls__enter(s);
    /* A server's last flight that still waits is of no use to a peer that sends data. */
    s->sending = P2P_MBEDTLS__DISCARD;
    s->data_only = 1;
    s->in = record;
    s->in_size = P2P_MBEDTLS__RECORD_HEAD + p2p_mbedtls__u16(record + 11);
    if (s->in_size > size)
        s->in_size = 0;
    /* The record has been copied before the plaintext is written over it. */
    code = mbedtls_ssl_read(&s->ssl, record, size);
    s->blocked = 0;
    p2p_mbedtls__leave(s);
    if (code > 0) {
        *out = record;
        return code;
    }
    if (code == 0 || code == MBEDTLS_ERR_SSL_WANT_READ || code == MBEDTLS_ERR_SSL_WANT_WRITE)
        return 0;
    return p2p_mbedtls__die(s, p2p_mbedtls__error(code));
}

/* ==== >>begin ================================================================================= */

static size_t p2p_mbedtls__session_size(void *ctx, uint32_t content) {
    (void)ctx;
    (void)content;
    return P2P_MBEDTLS_SLAB;
}

static int p2p_mbedtls__configure(p2p_mbedtls__session *s, const p2p_secure_params *params) {
    static const int suites[] = {MBEDTLS_TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256, 0};
    static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519, 0};
    static const unsigned char identity[] = {'p', '2', 'p'};
    mbedtls_ssl_config *conf = &s->conf;
    int code = mbedtls_ssl_config_defaults(
        conf, params->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
        MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (code != 0)
        return code;
    mbedtls_ssl_conf_rng(conf, p2p_mbedtls__random, s);
    mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_ciphersuites(conf, suites);
    mbedtls_ssl_conf_groups(conf, groups);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    /* Only how often it may double; see p2p_mbedtls__timer_set. */
    mbedtls_ssl_conf_handshake_timeout(conf, 1, INT32_MAX);
    /* With a limit, a few forged records would end an established session. */
    mbedtls_ssl_conf_dtls_badmac_limit(conf, 0);
#if defined(MBEDTLS_SSL_DTLS_ANTI_REPLAY)
    mbedtls_ssl_conf_dtls_anti_replay(conf, MBEDTLS_SSL_ANTI_REPLAY_DISABLED);
#endif
#if defined(MBEDTLS_SSL_DTLS_HELLO_VERIFY)
    mbedtls_ssl_conf_dtls_cookies(conf, NULL, NULL, NULL);
#endif
#if defined(MBEDTLS_SSL_RENEGOTIATION)
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_CLI_C)
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
    return mbedtls_ssl_conf_psk(conf, params->psk, sizeof params->psk, identity, sizeof identity);
}

static int p2p_mbedtls__setup(p2p_mbedtls__session *s, const p2p_secure_params *params) {
    int code;
    mbedtls_ssl_init(&s->ssl);
    mbedtls_ssl_config_init(&s->conf);
    code = p2p_mbedtls__configure(s, params);
    if (code == 0)
        code = mbedtls_ssl_setup(&s->ssl, &s->conf);
    if (code != 0)
        return code;
    /* The library says what it was built with. With other values its buffers would not be ours. */
    if (mbedtls_ssl_get_max_in_record_payload(&s->ssl) != MBEDTLS_SSL_IN_CONTENT_LEN ||
        mbedtls_ssl_get_max_out_record_payload(&s->ssl) != MBEDTLS_SSL_OUT_CONTENT_LEN)
        return MBEDTLS_ERR_SSL_BAD_CONFIG;
    mbedtls_ssl_set_bio(&s->ssl, s, p2p_mbedtls__send, p2p_mbedtls__receive, NULL);
    mbedtls_ssl_set_timer_cb(&s->ssl, s, p2p_mbedtls__timer_set, p2p_mbedtls__timer_get);
    mbedtls_ssl_set_export_keys_cb(&s->ssl, p2p_mbedtls__keys, s);
    return 0;
}

static int p2p_mbedtls__begin(void *ctx, void *slab, size_t size, const p2p_secure_params *params) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    int code;
    (void)ctx;
    if ((uintptr_t)slab % 8 != 0 || !params->random.fill ||
        params->content > P2P_MBEDTLS__CONTENT_MAX)
        return P2P_ERR_ARG;
    if (size < sizeof *s + 2 * sizeof(p2p_mbedtls__block))
        return P2P_ERR_ARENA;
    memset(s, 0, sizeof *s);
    s->magic = P2P_MBEDTLS__MAGIC;
    s->size = size < UINT32_MAX / 2 ? (uint32_t)size & ~7u : UINT32_MAX / 2 & ~7u;
    s->server = params->server != 0;
    s->random = params->random;
    s->timer_us = s->interval_us = params->timer_us ? params->timer_us : 150000u;
    s->timer_at_us = P2P_NEVER;
    p2p_mbedtls__heap_open(s);
    p2p_mbedtls__enter(s);
    code = p2p_mbedtls__setup(s, params);
    p2p_mbedtls__leave(s);
    if (code == 0)
        return 0;
    code = p2p_mbedtls__die(s, P2P_ERR_CONFIG);
    mbedtls_platform_zeroize(slab, s->size);
    return code;
}

/* Everything mbedTLS holds for the session lies in the slab, so wiping it is freeing it. */
static void p2p_mbedtls__end(void *ctx, void *slab) {
    p2p_mbedtls__session *s = (p2p_mbedtls__session *)slab;
    (void)ctx;
    if (s->magic == P2P_MBEDTLS__MAGIC)
        mbedtls_platform_zeroize(slab, s->size);
}

/* ==== >>public ================================================================================ */

/* With P2P_STATIC_SECURE p2p.h has declared it, for the linker to find. */
#ifdef P2P_STATIC_SECURE
#define P2P_MBEDTLS__TABLE const
#else
#define P2P_MBEDTLS__TABLE static const
#endif
P2P_MBEDTLS__TABLE p2p_secure_api p2p_mbedtls_api = {
    "mbedtls",
    0,
    0,
    P2P_MBEDTLS__OVERHEAD,
    P2P_MBEDTLS__CONTENT_MAX,
    p2p_mbedtls__session_size,
    p2p_mbedtls__begin,
    p2p_mbedtls__feed,
    p2p_mbedtls__flight,
    p2p_mbedtls__resend,
    p2p_mbedtls__deadline,
    p2p_mbedtls__binding,
    p2p_mbedtls__seal,
    p2p_mbedtls__open,
    p2p_mbedtls__end,
};

P2P_DEF int p2p_mbedtls_secure(p2p_secure *out) {
    void *probe;
    p2p_mbedtls__probing = 1;
    probe = mbedtls_calloc(1, 1);
    if (p2p_mbedtls__probing != 2) {
        mbedtls_free(probe);
        (void)mbedtls_platform_set_calloc_free(p2p_mbedtls__calloc, p2p_mbedtls__free);
    }
    p2p_mbedtls__probing = 0;
    out->ctx = NULL;
    out->api = P2P_SECURE_NAMED(p2p_mbedtls_api);
    return 0;
}
#endif /* P2P_MBEDTLS_IMPLEMENTATION */
