/* p2p_posix.h: p2p.h on a desktop, server or phone: UDP sockets, monotonic clock, entropy, key
 * file, and an event loop for people who want one.
 * SPDX-License-Identifier: MIT-0
 *
 * Do this in ONE source file:
 *
 *     #define P2P_POSIX_IMPLEMENTATION
 *     #include "p2p_posix.h"                   first of all includes, or compile with -D_GNU_SOURCE
 *
 * STEP BY STEP
 *     static p2p_posix io;
 *     p2p_desc desc;
 *     memset(&desc, 0, sizeof desc);
 *     p2p_posix_open(&io, NULL, &desc);         any port, IPv4 and IPv6
 *     ... p2p_node_open(&node, &desc, arena, arena_size) ...
 *     for (;;) {
 *         p2p_posix_step(&io, node, -1);        waits, receives, polls, sends
 *         while (p2p_next_event(node, &event) > 0) ...
 *     }
 *     p2p_node_close(node);
 *     p2p_posix_close(&io);
 *
 * With a loop of one's own (libuv, GLib, epoll): put p2p_posix_fds into the poll set, wait at most
 * p2p_posix_wait_ms, then p2p_posix_step(&io, node, 0). Ask both anew before every wait: they
 * change with what was sent.
 *
 * SEVERAL NODES on the same sockets: p2p_posix_open with the first desc, p2p_posix_share with each
 * further one, p2p_posix_step_all with all nodes. A datagram is offered to each until one takes it.
 *
 * SENDING NEVER LOSES A PACKET THAT WAS PULLED. The library builds a packet when it is asked for
 * one, so it is asked only while every socket has room for a datagram of the largest size. When
 * one has none, the step ends, and the next one waits for that socket instead of spinning. What
 * the network itself refuses (no route, message too long for the interface, port unreachable) is
 * loss, as it would be one hop further on, and is counted.
 *
 * KEY FILES hold one line: "p2p-key-v1 ", the secret seed in 64 hexadecimal digits, a line feed.
 * Loading refuses a file that is not the user's own, that others can read or write, or whose text
 * is anything else. Saving writes a file of its own beside the path, syncs it, and links it to its
 * name: a file that is there is never replaced, and a half-written one never has the name. A
 * process that ignores SIGXFSZ (as it should) finds nothing left behind by a full disk or a file
 * size limit.
 *
 * THREADS AND SIGNALS: p2p_posix_wake may be called from any thread and any signal handler, between
 * open and close. Everything else belongs to the thread that drives the nodes.
 *
 * WHAT IT DOES NOT: allocate (but for what the C library does in getifaddrs, within open and
 * share), keep globals, start threads, look up host names, or follow changes of the interfaces by
 * itself (tell p2p_network_changed).
 *
 * MACROS
 *   P2P_POSIX_IMPLEMENTATION   in the one file that is to hold the code
 *   P2P_POSIX_NO_DEFAULTS      in that file: open leaves desc.secure and desc.crypto alone.
 *                              Without it they are filled in where empty, from p2p_mbedtls.h and
 *                              p2p_sodium.h
 *   P2P_POSIX_NO_BATCHES       in that file: one system call a datagram, on Linux too
 *   P2P_POSIX_NO_RUNS          in that file: no runs of datagrams, though the kernel has them
 *   P2P_DEF                    before each public function, as in p2p.h; P2P_STATIC makes it static
 * Linux's recvmmsg, sendmmsg and ppoll are used where the C library declares them (_GNU_SOURCE).
 * Else it is one system call a datagram, and waits are rounded up to milliseconds. Where the kernel
 * has UDP_SEGMENT and UDP_GRO as well, a run of equal datagrams goes through it as one; a system or
 * device that refuses a run gets its datagrams one by one, from then on for good.
 *
 * CONTENTS of the implementation
 *     >>state >>say >>addr >>open >>random >>wake >>receive >>send >>step >>keyfile
 */
#ifndef P2P_POSIX_H
#define P2P_POSIX_H
#if defined(P2P_POSIX_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif
#include "p2p.h"

#ifdef P2P_NO_PARSE
#error "p2p_posix.h reads and writes addresses as texts, which P2P_NO_PARSE leaves out"
#endif
#ifndef P2P_DEF
#ifdef P2P_STATIC
#define P2P_DEF static
#else
#define P2P_DEF extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define P2P_POSIX_SOCKETS 8      /* most addresses to bind */
#define P2P_POSIX_BUFFER  131072 /* bytes of the datagrams in hand: two of the largest runs */

typedef struct p2p_posix {
    int fds[P2P_POSIX_SOCKETS]; /* the UDP sockets, to look at */
    uint32_t count;             /* how many */
    int wake[2];                /* readable after p2p_posix_wake, and where that writes */
    uint64_t private_state[60];
    uint64_t private_bytes[P2P_POSIX_BUFFER / 8];
} p2p_posix;

typedef struct p2p_posix_desc {
    const char *const *bind; /* "ADDR:PORT" or "ADDR", IPv6 as "[::1]:8800" or "::1"; numbers only.
                                NULL: every address, IPv4 and IPv6, on one port */
    uint32_t bind_count;     /* at most P2P_POSIX_SOCKETS */
    uint16_t port;           /* for every address without one; 0: any that is free */
    p2p_error_detail *why;   /* filled in when open fails, and so is the p2p_desc's; may be NULL */
} p2p_posix_desc;

/* Opens and binds the sockets and fills in desc.link.local, .local_count and .segments,
 * desc.random, and desc.secure, desc.crypto and desc.link.mtu where they are empty: the mtu is what
 * the records of the secure channel take, and path MTU discovery finds out what comes through.
 * io_desc NULL: all defaults. P2P_ERR_IO: the system said no, as when the port is in use.
 * P2P_ERR_CONFIG: an address that is none, too many of them, or an mtu above 32768. P2P_ERR_ARG: io
 * or desc is NULL. */
P2P_DEF int p2p_posix_open(p2p_posix *io, const p2p_posix_desc *io_desc, p2p_desc *desc);
/* Fills in the desc of one more node on the sockets of io. P2P_ERR_STATE: io is not open. */
P2P_DEF int p2p_posix_share(p2p_posix *io, p2p_desc *desc);
/* Closes all. Nothing happens to an io of zeros or one that is closed already. */
P2P_DEF void p2p_posix_close(p2p_posix *io);
P2P_DEF uint64_t p2p_posix_now_us(void); /* CLOCK_MONOTONIC */
/* Waits once, for a datagram, a wake, a deadline of the nodes', or timeout_ms (-1: for ever, 0:
 * not at all); receives what is there, polls the nodes, and sends what they have, each up to a
 * bound, so that a flood of one kind does not starve the other. Returns the datagrams received, 0,
 * or < 0:
 * P2P_ERR_STATE when io is not open, P2P_ERR_IO when a socket broke. Take the events then. */
P2P_DEF int p2p_posix_step(p2p_posix *io, p2p_node *node, int timeout_ms);
P2P_DEF int p2p_posix_step_all(p2p_posix *io, p2p_node *const *nodes, size_t count, int timeout_ms);
struct pollfd;
/* Returns how many were filled in, at most P2P_POSIX_SOCKETS + 1; P2P_ERR_ARG: capacity is less. */
P2P_DEF int p2p_posix_fds(const p2p_posix *io, struct pollfd *out, size_t capacity);
P2P_DEF int p2p_posix_wait_ms(const p2p_posix *io, const p2p_node *node); /* -1: no deadline */
P2P_DEF void p2p_posix_wake(p2p_posix *io);
/* The addresses that desc.link.local has, by index. P2P_ERR_ARG: no such index. */
P2P_DEF int p2p_posix_local_addr(const p2p_posix *io, size_t index, p2p_addr *out);
P2P_DEF int p2p_posix_random(p2p_random *out);
/* P2P_ERR_NOT_FOUND: no such file. P2P_ERR_IO: it cannot be read. P2P_ERR_AUTH: it is another
 * user's, or others can read or write it. P2P_ERR_CONFIG: no key file, or a key that must not be
 * used. */
P2P_DEF int p2p_posix_key_load(const char *path, const p2p_crypto *crypto, p2p_key *out,
                               p2p_error_detail *why);
/* P2P_ERR_STATE: there is something of that name. P2P_ERR_IO: it cannot be written.
 * P2P_ERR_CONFIG: a key that must not be saved: zeros, or the simulator's. */
P2P_DEF int p2p_posix_key_save(const char *path, const p2p_key *key, p2p_error_detail *why);

#ifdef __cplusplus
}
#endif
#endif /* P2P_POSIX_H */

#if defined(P2P_POSIX_IMPLEMENTATION) && !defined(P2P_POSIX__IMPLEMENTED)
#define P2P_POSIX__IMPLEMENTED
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/syscall.h>
#endif
#ifndef CLOCK_MONOTONIC
#error "p2p_posix.h lacks the POSIX declarations: compile this file with -D_GNU_SOURCE"
#endif
#ifndef P2P_POSIX_NO_DEFAULTS
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>state ====================================================================================
 * What lies in p2p_posix.private_state. A socket's credit is how many bytes of the kernel's send
 * buffer are surely free: half of it when poll(2) calls the socket writable, less what was sent
 * since. Covered by tests/unit/test_posix.c. */

/* The state lies in an array of uint64_t, so its accesses must be allowed to alias that. */
#ifdef __GNUC__
#define P2P_POSIX__ALIAS __attribute__((may_alias))
#else
#define P2P_POSIX__ALIAS
#endif
/* Linux has system calls for many datagrams at once, and the C library declares them with ppoll. */
#if defined(__linux__) && !defined(P2P_POSIX_NO_BATCHES) && \
    (defined(__GLIBC__) ? defined(__USE_GNU) : defined(_GNU_SOURCE))
#define P2P_POSIX__BATCHES 1
#else
#define P2P_POSIX__BATCHES 0
#endif
#if P2P_POSIX__BATCHES
#include <netinet/udp.h>
#endif
/* ... and for a run of equal datagrams as one. */
#if P2P_POSIX__BATCHES && defined(UDP_SEGMENT) && defined(UDP_GRO) && !defined(P2P_POSIX_NO_RUNS)
#define P2P_POSIX__RUNS 1
#else
#define P2P_POSIX__RUNS 0
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef O_CLOEXEC
#define O_CLOEXEC 0
#endif

enum {
    P2P_POSIX__OPEN = 0x70327031,   /* in state.open; anything else is not open */
    P2P_POSIX__BATCH = 32,          /* messages a system call */
    P2P_POSIX__RUN = 65536,         /* room for a run: the largest UDP payload, rounded up */
    P2P_POSIX__RUN_BYTES = 65000,   /* sent: with its heads less than 64 KB, or Linux cuts it up */
    P2P_POSIX__RUN_MOST = 64,       /* datagrams of a run: UDP_MAX_SEGMENTS of old kernels */
    P2P_POSIX__MTU_MAX = 32768,     /* link.mtu */
    P2P_POSIX__MTU_BEST = 8125,     /* no more by default: eight fill a run */
    P2P_POSIX__HEAD = 9,            /* what p2p.h puts before a record */
    P2P_POSIX__ROOM_MIN = 2048,     /* for one datagram; more when link.mtu is more */
    P2P_POSIX__ROUNDS = 8,          /* batches a socket and step, each way */
    P2P_POSIX__FLUSH_BYTES = 32768, /* sent at once, so that the receiver works meanwhile */
    P2P_POSIX__BUFFER_BYTES = 4 << 20, /* asked for each way; the system may give less */
    P2P_POSIX__BLOCKED_MS = 10,        /* longest wait for a full socket in one step */
    P2P_POSIX__PORT_TRIES = 16         /* to find one port that both families have free */
};

typedef struct P2P_POSIX__ALIAS p2p_posix__state {
    uint32_t open, mtu, local_count, blocked; /* blocked: a bit for each socket that is full */
    uint64_t dropped;                         /* datagrams that the system did not take */
    uint32_t credit[P2P_POSIX_SOCKETS], credit_max[P2P_POSIX_SOCKETS];
    uint8_t runs_out, runs_in; /* a bit for each socket that sends, or takes, runs */
    uint8_t family[P2P_POSIX_SOCKETS], loopback[P2P_POSIX_SOCKETS];
    uint16_t port[P2P_POSIX_SOCKETS];
    uint16_t any_port[2]; /* of the sockets on every address, IPv4 and IPv6; 0: there is none */
    p2p_addr local[8];
} p2p_posix__state;

#if P2P_POSIX__BATCHES
typedef struct mmsghdr p2p_posix__mmsg;
#else
typedef struct p2p_posix__mmsg {
    struct msghdr msg_hdr;
    unsigned int msg_len;
} p2p_posix__mmsg;
#endif

typedef char p2p_posix__state_fits[sizeof(p2p_posix__state) <= 60 * sizeof(uint64_t) ? 1 : -1];

typedef union p2p_posix__name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} p2p_posix__name;

static p2p_posix__state *p2p_posix__of(p2p_posix *io) {
    return (p2p_posix__state *)(void *)io->private_state;
}

static const p2p_posix__state *p2p_posix__peek(const p2p_posix *io) {
    return (const p2p_posix__state *)(const void *)io->private_state;
}

static void p2p_posix__reset(p2p_posix *io) {
    int i;
    memset(io, 0, sizeof *io);
    for (i = 0; i < P2P_POSIX_SOCKETS; i++)
        io->fds[i] = -1;
    io->wake[0] = io->wake[1] = -1;
}

static bool p2p_posix__is_open(const p2p_posix *io) {
    return io != NULL && p2p_posix__peek(io)->open == P2P_POSIX__OPEN;
}

/* ==== >>say ======================================================================================
 * Errors in words: what, where, what to do. Covered by every test of a refusal. */

static size_t p2p_posix__join(char *out, size_t at, size_t room, const char *text) {
    while (*text != '\0' && at + 1 < room)
        out[at++] = *text++;
    out[at] = '\0';
    return at;
}

static int p2p_posix__fail(p2p_error_detail *why, int err, const char *a, const char *b,
                           const char *c) {
    size_t at = 0;
    if (why == NULL)
        return err;
    memset(why, 0, sizeof *why);
    why->err = err;
    at = p2p_posix__join(why->text, at, sizeof why->text, a);
    at = p2p_posix__join(why->text, at, sizeof why->text, b);
    (void)p2p_posix__join(why->text, at, sizeof why->text, c);
    return err;
}

/* A long path loses its beginning, so that what is wrong with it is never cut off. */
static int p2p_posix__fail_path(p2p_error_detail *why, int err, const char *path,
                                const char *text) {
    enum { SHOWN = 28 };
    size_t size = strlen(path);
    char name[SHOWN + 4];
    size_t at = p2p_posix__join(name, 0, sizeof name, size > SHOWN ? "..." : "");
    (void)p2p_posix__join(name, at, sizeof name, size > SHOWN ? path + size - SHOWN : path);
    return p2p_posix__fail(why, err, name, ": ", text);
}

/* ==== >>addr =====================================================================================
 * p2p_addr to and from the system's, and what kind of address one is. */

static socklen_t p2p_posix__name_of(const p2p_addr *addr, p2p_posix__name *out) {
    memset(out, 0, sizeof *out);
    if (addr->family == 4) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(addr->port);
        memcpy(&out->v4.sin_addr, addr->ip, 4);
        return (socklen_t)sizeof out->v4;
    }
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(addr->port);
    out->v6.sin6_scope_id = addr->scope;
    memcpy(&out->v6.sin6_addr, addr->ip, 16);
    return (socklen_t)sizeof out->v6;
}

/* The copy is for the alignment, which a struct sockaddr does not promise. */
static bool p2p_posix__addr_of(const struct sockaddr *from, p2p_addr *out) {
    p2p_posix__name name;
    memset(out, 0, sizeof *out);
    if (from->sa_family == AF_INET) {
        memcpy(&name.v4, from, sizeof name.v4);
        out->family = 4;
        out->port = ntohs(name.v4.sin_port);
        memcpy(out->ip, &name.v4.sin_addr, 4);
        return true;
    }
    if (from->sa_family != AF_INET6)
        return false;
    memcpy(&name.v6, from, sizeof name.v6);
    out->family = 6;
    out->port = ntohs(name.v6.sin6_port);
    memcpy(out->ip, &name.v6.sin6_addr, 16);
    if (out->ip[0] == 0xfe && (out->ip[1] & 0xc0) == 0x80)
        out->scope = name.v6.sin6_scope_id;
    return true;
}

static bool p2p_posix__any(const p2p_addr *addr) {
    static const uint8_t zeros[16] = {0};
    return memcmp(addr->ip, zeros, addr->family == 4 ? 4 : 16) == 0;
}

static bool p2p_posix__loopback(const p2p_addr *addr) {
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return addr->family == 4 ? addr->ip[0] == 127 : memcmp(addr->ip, one, 16) == 0;
}

static bool p2p_posix__link_local(const p2p_addr *addr) {
    if (addr->family == 4)
        return addr->ip[0] == 169 && addr->ip[1] == 254;
    return addr->ip[0] == 0xfe && (addr->ip[1] & 0xc0) == 0x80;
}

/* "ADDR:PORT", or "ADDR" with the port of the desc. */
static int p2p_posix__parse(const char *text, uint16_t port, p2p_addr *out) {
    char whole[P2P_ADDR_TEXT_SIZE + 8];
    bool bare = text[0] != '[' && strchr(text, ':') != NULL;
    size_t at;
    if (p2p_addr_parse(text, out) >= 0)
        return P2P_OK;
    at = p2p_posix__join(whole, 0, sizeof whole, bare ? "[" : "");
    at = p2p_posix__join(whole, at, sizeof whole, text);
    at = p2p_posix__join(whole, at, sizeof whole, bare ? "]" : "");
    (void)p2p_posix__join(whole, at, sizeof whole, ":1");
    if (strlen(text) >= P2P_ADDR_TEXT_SIZE || p2p_addr_parse(whole, out) < 0)
        return P2P_ERR_CONFIG;
    out->port = port;
    return P2P_OK;
}

/* ==== >>open =====================================================================================
 * Sockets. Always: io.fds[0 .. count) are open, bound and non-blocking; where it fails nothing
 * stays open. */

static void p2p_posix__number(int fd, int level, int option, int value) {
    (void)setsockopt(fd, level, option, &value, (socklen_t)sizeof value);
}

/* The library finds the path MTU itself, so datagrams go out whole or not at all; what a router
 * says about it is not to be believed either. Every option may fail: the socket works without. */
static void p2p_posix__tune(int fd, int family) {
    p2p_posix__number(fd, SOL_SOCKET, SO_RCVBUF, P2P_POSIX__BUFFER_BYTES);
    p2p_posix__number(fd, SOL_SOCKET, SO_SNDBUF, P2P_POSIX__BUFFER_BYTES);
#ifdef IP_PMTUDISC_PROBE
    if (family == AF_INET)
        p2p_posix__number(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
#endif
#ifdef IPV6_PMTUDISC_PROBE
    if (family == AF_INET6)
        p2p_posix__number(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
#endif
#ifdef IPV6_DONTFRAG
    if (family == AF_INET6)
        p2p_posix__number(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
#endif
}

/* Asks the kernel once whether this socket takes runs, each way. */
static void p2p_posix__probe_runs(p2p_posix__state *s, uint32_t socket, int fd) {
#if P2P_POSIX__RUNS
    static const int off = 0, on = 1;
    if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &off, (socklen_t)sizeof off) == 0)
        s->runs_out = (uint8_t)(s->runs_out | 1u << socket);
    if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, (socklen_t)sizeof on) == 0)
        s->runs_in = (uint8_t)(s->runs_in | 1u << socket);
#else
    (void)s;
    (void)socket;
    (void)fd;
#endif
}

#if !defined(SOCK_CLOEXEC) || !defined(__linux__)
static int p2p_posix__set_flags(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}
#endif

static int p2p_posix__udp(int family) {
    int fd;
#ifdef SOCK_CLOEXEC
    fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
#else
    fd = socket(family, SOCK_DGRAM, 0);
    if (fd >= 0 && p2p_posix__set_flags(fd) < 0) {
        (void)close(fd);
        return -1;
    }
#endif
    if (fd >= 0)
        p2p_posix__tune(fd, family);
    return fd;
}

static void p2p_posix__close_keeping_errno(int fd) {
    int saved = errno;
    (void)close(fd);
    errno = saved;
}

/* Adds a socket bound to *addr and writes the port it got to addr->port; 0, or -1 with errno. */
static int p2p_posix__add(p2p_posix *io, p2p_addr *addr) {
    p2p_posix__state *s = p2p_posix__of(io);
    p2p_posix__name name;
    socklen_t size = p2p_posix__name_of(addr, &name);
    int fd = p2p_posix__udp(addr->family == 4 ? AF_INET : AF_INET6), room = 0;
    if (fd < 0)
        return -1;
    if (addr->family == 6) {
        int on = 1;
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, (socklen_t)sizeof on) < 0)
            goto fail;
    }
    if (bind(fd, &name.any, size) < 0)
        goto fail;
    size = (socklen_t)sizeof name;
    if (getsockname(fd, &name.any, &size) < 0)
        goto fail;
    size = (socklen_t)sizeof room;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &size) < 0 || room < 2)
        room = 2 * P2P_POSIX__ROOM_MIN;
    addr->port = ntohs(addr->family == 4 ? name.v4.sin_port : name.v6.sin6_port);
    s->family[io->count] = addr->family;
    s->loopback[io->count] = p2p_posix__loopback(addr);
    s->port[io->count] = addr->port;
    s->credit[io->count] = 0;
    s->credit_max[io->count] = (uint32_t)room / 2;
    p2p_posix__probe_runs(s, io->count, fd);
    io->fds[io->count++] = fd;
    return 0;
fail:
    p2p_posix__close_keeping_errno(fd);
    return -1;
}

static void p2p_posix__remember(p2p_posix__state *s, const p2p_addr *addr, uint32_t limit) {
    uint32_t i;
    for (i = 0; i < s->local_count; i++)
        if (memcmp(&s->local[i], addr, sizeof *addr) == 0)
            return;
    if (s->local_count < limit)
        s->local[s->local_count++] = *addr;
}

/* Which of the host's addresses go first into the eight places: those that others can most likely
 * reach. Loopback is named only where there is nothing else, as on a machine without a network. */
static bool p2p_posix__wanted(const p2p_addr *addr, int pass) {
    bool near = p2p_posix__loopback(addr) || p2p_posix__link_local(addr);
    switch (pass) {
    case 0: return !near && addr->family == 4;
    case 1: return !near && addr->family == 6;
    case 2: return !near;
    case 3: return p2p_posix__link_local(addr);
    default: return p2p_posix__loopback(addr);
    }
}

/* The host's addresses, for sockets that are bound to all of them: ports[0] for IPv4 and ports[1]
 * for IPv6, 0 where there is no such socket. A host whose interfaces cannot be listed is still a
 * good caller, so that is no error. */
static void p2p_posix__list_interfaces(p2p_posix__state *s, const uint16_t ports[2]) {
    static const uint8_t limits[5] = {4, 6, 7, 8, 8};
    struct ifaddrs *list = NULL, *at;
    int pass;
    if (getifaddrs(&list) < 0)
        return;
    for (pass = 0; pass < 5; pass++) {
        for (at = list; at != NULL; at = at->ifa_next) {
            p2p_addr addr;
            if (at->ifa_addr == NULL || (at->ifa_flags & IFF_UP) == 0 ||
                !p2p_posix__addr_of(at->ifa_addr, &addr))
                continue;
            addr.port = ports[addr.family == 6];
            if (addr.port != 0 && p2p_posix__wanted(&addr, pass) &&
                (pass < 4 || s->local_count == 0))
                p2p_posix__remember(s, &addr, limits[pass]);
        }
    }
    freeifaddrs(list);
}

/* Every address, both families, one port. A family that the system lacks is left out. Port 0 takes
 * what the first socket gets, and tries again where the second finds that in use. */
static int p2p_posix__bind_all(p2p_posix *io, uint16_t port, p2p_error_detail *why) {
    p2p_addr addr;
    char text[P2P_ADDR_TEXT_SIZE];
    int tries, failed = 0;
    for (tries = 0; tries < P2P_POSIX__PORT_TRIES; tries++) {
        memset(&addr, 0, sizeof addr);
        addr.family = 6;
        addr.port = port;
        failed = p2p_posix__add(io, &addr) < 0 ? errno : 0;
        if (failed == EADDRINUSE)
            break;
        if (failed != 0)
            addr.port = port;
        addr.family = 4;
        if (p2p_posix__add(io, &addr) == 0 || (io->count == 1 && errno != EADDRINUSE))
            return P2P_OK;
        failed = errno;
        if (io->count == 0 || port != 0)
            break;
        (void)close(io->fds[--io->count]);
        p2p_posix__of(io)->runs_out = p2p_posix__of(io)->runs_in = 0;
    }
    (void)p2p_addr_text(&addr, text);
    return p2p_posix__fail(why, P2P_ERR_IO, text, ": ", strerror(failed));
}

static int p2p_posix__bind_listed(p2p_posix *io, const p2p_posix_desc *d, p2p_error_detail *why) {
    p2p_posix__state *s = p2p_posix__of(io);
    uint32_t i;
    for (i = 0; i < d->bind_count; i++) {
        p2p_addr addr;
        if (d->bind[i] == NULL || p2p_posix__parse(d->bind[i], d->port, &addr) < 0)
            return p2p_posix__fail(why, P2P_ERR_CONFIG, "bind: no address like 127.0.0.1:8800: ",
                                   d->bind[i] != NULL ? d->bind[i] : "NULL", "");
        if (p2p_posix__add(io, &addr) < 0)
            return p2p_posix__fail(why, P2P_ERR_IO, d->bind[i], ": ", strerror(errno));
        if (p2p_posix__any(&addr))
            s->any_port[addr.family == 6] = addr.port;
        else
            p2p_posix__remember(s, &addr, 8);
    }
    return P2P_OK;
}

static int p2p_posix__bind(p2p_posix *io, const p2p_posix_desc *d, p2p_error_detail *why) {
    p2p_posix__state *s = p2p_posix__of(io);
    int err;
    uint32_t i;
    if (d->bind != NULL && d->bind_count > 0)
        return p2p_posix__bind_listed(io, d, why);
    err = p2p_posix__bind_all(io, d->port, why);
    for (i = 0; i < io->count; i++)
        s->any_port[s->family[i] == 6] = s->port[i];
    return err;
}

static int p2p_posix__open_wake(p2p_posix *io) {
#ifdef __linux__
    io->wake[0] = io->wake[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return io->wake[0] < 0 ? -1 : 0;
#else
    if (pipe(io->wake) < 0) {
        io->wake[0] = io->wake[1] = -1;
        return -1;
    }
    return p2p_posix__set_flags(io->wake[0]) | p2p_posix__set_flags(io->wake[1]);
#endif
}

static void p2p_posix__shut(p2p_posix *io) {
    uint32_t i;
    for (i = 0; i < io->count; i++)
        (void)close(io->fds[i]);
    if (io->wake[1] >= 0 && io->wake[1] != io->wake[0])
        (void)close(io->wake[1]);
    if (io->wake[0] >= 0)
        (void)close(io->wake[0]);
    p2p_posix__reset(io);
}

static int p2p_posix__check_desc(const p2p_posix_desc *d, p2p_error_detail *why) {
    if (d->bind_count > P2P_POSIX_SOCKETS)
        return p2p_posix__fail(why, P2P_ERR_CONFIG, "bind_count: at most 8 addresses", "", "");
    if (d->bind == NULL && d->bind_count > 0)
        return p2p_posix__fail(why, P2P_ERR_ARG, "bind: NULL, but bind_count is not 0", "", "");
    return P2P_OK;
}

/* The largest datagram of a secure channel; 0, which is the default, where none is given. */
static uint32_t p2p_posix__mtu_of(const p2p_secure *secure) {
    const p2p_secure_api *api;
    uint64_t most;
    if (secure->api == NULL)
        return 0;
    api = P2P_SECURE_OF(secure);
    most = (uint64_t)api->content_max + api->overhead + P2P_POSIX__HEAD + (api->prefix != 0);
    return most < P2P_POSIX__MTU_BEST ? (uint32_t)most : (uint32_t)P2P_POSIX__MTU_BEST;
}

/* Fills in one node's desc. Nothing of it changes when this fails. */
static int p2p_posix__fill(p2p_posix *io, p2p_desc *desc, p2p_error_detail *why) {
    p2p_posix__state *s = p2p_posix__of(io);
    p2p_secure secure = desc->secure;
    p2p_crypto crypto = desc->crypto;
    int err = P2P_OK;
    if (desc->link.mtu > P2P_POSIX__MTU_MAX)
        return p2p_posix__fail(why, P2P_ERR_CONFIG, "link.mtu: more than 32768", "", "");
#ifndef P2P_POSIX_NO_DEFAULTS
    if (crypto.api == NULL)
        err = p2p_sodium_crypto(&crypto);
    if (err >= 0 && secure.api == NULL)
        err = p2p_mbedtls_secure(&secure);
    if (err < 0)
        return p2p_posix__fail(why, err, "crypto or secure: its library does not start", "", "");
#endif
    desc->secure = secure;
    desc->crypto = crypto;
    if (desc->link.mtu == 0)
        desc->link.mtu = p2p_posix__mtu_of(&secure);
    s->mtu = desc->link.mtu > s->mtu ? desc->link.mtu : s->mtu;
    desc->link.segments = s->runs_out != 0 ? P2P_POSIX__RUN_MOST : 1;
    desc->link.local_count = s->local_count;
    memcpy(desc->link.local, s->local, sizeof desc->link.local);
    (void)err;
    return p2p_posix_random(&desc->random);
}

P2P_DEF int p2p_posix_open(p2p_posix *io, const p2p_posix_desc *io_desc, p2p_desc *desc) {
    p2p_posix_desc none;
    p2p_error_detail why;
    int err;
    if (io == NULL || desc == NULL)
        return P2P_ERR_ARG;
    memset(&none, 0, sizeof none);
    memset(&why, 0, sizeof why);
    p2p_posix__reset(io);
    io_desc = io_desc != NULL ? io_desc : &none;
    err = p2p_posix__check_desc(io_desc, &why);
    if (err >= 0 && p2p_posix__open_wake(io) < 0)
        err = p2p_posix__fail(&why, P2P_ERR_IO, "wake: ", strerror(errno), "");
    if (err >= 0)
        err = p2p_posix__bind(io, io_desc, &why);
    if (err >= 0) {
        p2p_posix__list_interfaces(p2p_posix__of(io), p2p_posix__of(io)->any_port);
        err = p2p_posix__fill(io, desc, &why);
    }
    if (err >= 0) {
        p2p_posix__of(io)->open = P2P_POSIX__OPEN;
        return P2P_OK;
    }
    p2p_posix__shut(io);
    if (io_desc->why != NULL)
        *io_desc->why = why;
    if (desc->why != NULL)
        *desc->why = why;
    return err;
}

P2P_DEF int p2p_posix_share(p2p_posix *io, p2p_desc *desc) {
    if (io == NULL || desc == NULL)
        return P2P_ERR_ARG;
    if (!p2p_posix__is_open(io))
        return p2p_posix__fail(desc->why, P2P_ERR_STATE, "p2p_posix_share: io is not open", "", "");
    return p2p_posix__fill(io, desc, desc->why);
}

P2P_DEF void p2p_posix_close(p2p_posix *io) {
    if (p2p_posix__is_open(io))
        p2p_posix__shut(io);
}

P2P_DEF uint64_t p2p_posix_now_us(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) < 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

P2P_DEF int p2p_posix_local_addr(const p2p_posix *io, size_t index, p2p_addr *out) {
    if (!p2p_posix__is_open(io))
        return P2P_ERR_STATE;
    if (out == NULL || index >= p2p_posix__peek(io)->local_count)
        return P2P_ERR_ARG;
    *out = p2p_posix__peek(io)->local[index];
    return P2P_OK;
}

/* ==== >>random ===================================================================================
 * Entropy from the kernel, never from a file. */

static int p2p_posix__entropy(void *ctx, void *out, size_t size) {
    uint8_t *at = (uint8_t *)out;
    (void)ctx;
    if (out == NULL && size > 0)
        return P2P_ERR_ARG;
    while (size > 0) {
        size_t part = size < 256 ? size : 256; /* What both calls give whole, without a signal. */
#ifdef __linux__
        ssize_t got = getrandom(at, part, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return P2P_ERR_IO;
        part = (size_t)got;
#else
        if (getentropy(at, part) < 0)
            return P2P_ERR_IO;
#endif
        at += part;
        size -= part;
    }
    return P2P_OK;
}

P2P_DEF int p2p_posix_random(p2p_random *out) {
    if (out == NULL)
        return P2P_ERR_ARG;
    out->ctx = NULL;
    out->fill = p2p_posix__entropy;
    return P2P_OK;
}

/* ==== >>wake =====================================================================================
 * The only code that other threads and signal handlers run: one write to a descriptor. */

/* Async-signal-safe: one write, errno kept. A full eventfd or pipe is a wake that waits already. */
P2P_DEF void p2p_posix_wake(p2p_posix *io) {
    static const uint64_t one = 1;
    int saved = errno;
    if (p2p_posix__is_open(io) && write(io->wake[1], &one, sizeof one) < 0)
        errno = saved;
}

static void p2p_posix__drain_wake(const p2p_posix *io) {
    uint64_t words[8];
    while (read(io->wake[0], words, sizeof words) == (ssize_t)sizeof words) {}
}

/* ==== >>receive ==================================================================================
 * From the sockets to the nodes. Always: a datagram is offered whole, or not at all. */

typedef struct p2p_posix__nodes {
    p2p_node *const *all;
    size_t count;
} p2p_posix__nodes;

/* Room for the one control message that a run has: the size of its datagrams. */
typedef struct p2p_posix__control {
#if P2P_POSIX__RUNS
    uint64_t bytes[(CMSG_SPACE(sizeof(int)) + 7) / 8]; /* aligned for a struct cmsghdr */
#else
    uint64_t none;
#endif
} p2p_posix__control;

typedef struct p2p_posix__batch { /* the bytes lie in the p2p_posix */
    p2p_posix__mmsg messages[P2P_POSIX__BATCH];
    struct iovec parts[P2P_POSIX__BATCH];
    p2p_posix__name names[P2P_POSIX__BATCH];
    p2p_posix__control controls[P2P_POSIX__BATCH];
} p2p_posix__batch;

/* For the largest datagram. */
static size_t p2p_posix__room(const p2p_posix__state *s) {
    size_t mtu = ((size_t)s->mtu + 7) & ~(size_t)7;
    return mtu > P2P_POSIX__ROOM_MIN ? mtu : (size_t)P2P_POSIX__ROOM_MIN;
}

/* As recvmmsg: fills messages and returns how many, or -1 with errno. */
static int p2p_posix__recv(int fd, p2p_posix__mmsg *messages, unsigned count) {
#if P2P_POSIX__BATCHES
    return recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
#else
    unsigned i;
    for (i = 0; i < count; i++) {
        ssize_t size = recvmsg(fd, &messages[i].msg_hdr, MSG_DONTWAIT);
        if (size < 0)
            return i > 0 ? (int)i : -1;
        messages[i].msg_len = (unsigned)size;
    }
    return (int)count;
#endif
}

static void p2p_posix__offer(const p2p_posix__nodes *nodes, p2p_packet *packet) {
    uint64_t now = p2p_posix_now_us();
    size_t i;
    for (i = 0; i < nodes->count; i++)
        if (p2p_input(nodes->all[i], now, packet) != 0)
            return;
}

/* The kernel joins what comes from one address to one socket, and several nodes may have theirs in
 * one run: then each datagram finds its own. */
static void p2p_posix__offer_run(const p2p_posix__nodes *nodes, p2p_packet *packet) {
    size_t left = packet->size, step = packet->segment;
    if (step == 0 || nodes->count <= 1) {
        p2p_posix__offer(nodes, packet);
        return;
    }
    packet->segment = 0;
    for (; left > 0; left -= packet->size) {
        packet->size = left < step ? left : step;
        p2p_posix__offer(nodes, packet);
        packet->data = (uint8_t *)packet->data + packet->size;
    }
}

/* The size of a run's datagrams, 0 when it is a single one. */
static uint32_t p2p_posix__segment_of(struct msghdr *head) {
#if P2P_POSIX__RUNS
    struct cmsghdr *at;
    for (at = CMSG_FIRSTHDR(head); at != NULL; at = CMSG_NXTHDR(head, at)) {
        int size;
        if (at->cmsg_level != IPPROTO_UDP || at->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(at), sizeof size);
        return size > 0 ? (uint32_t)size : 0;
    }
#else
    (void)head;
#endif
    return 0;
}

/* Of a datagram that was cut off, no tag can be right: it is dropped here. Returns how many there
 * were. */
static int p2p_posix__take(const p2p_posix__nodes *nodes, p2p_posix__batch *b, int i,
                           uint32_t socket) {
    p2p_posix__mmsg *m = &b->messages[i];
    p2p_packet packet;
    uint32_t segment;
    memset(&packet, 0, sizeof packet);
    if ((m->msg_hdr.msg_flags & MSG_TRUNC) != 0 || m->msg_len == 0 ||
        !p2p_posix__addr_of(&b->names[i].any, &packet.remote))
        return 1;
    packet.data = b->parts[i].iov_base;
    packet.size = m->msg_len;
    packet.segment = segment = p2p_posix__segment_of(&m->msg_hdr);
    packet.socket = (uint8_t)socket;
    p2p_posix__offer_run(nodes, &packet);
    return segment != 0 ? (int)((m->msg_len - 1) / segment) + 1 : 1;
}

static void p2p_posix__prepare(p2p_posix__batch *b, uint64_t *bytes, size_t room, unsigned count) {
    unsigned i;
    for (i = 0; i < count; i++) {
        struct msghdr *head = &b->messages[i].msg_hdr;
        memset(&b->messages[i], 0, sizeof b->messages[i]);
        b->parts[i].iov_base = (uint8_t *)bytes + i * room;
        b->parts[i].iov_len = room;
        head->msg_iov = &b->parts[i];
        head->msg_iovlen = 1;
        head->msg_name = &b->names[i];
        head->msg_namelen = (socklen_t)sizeof b->names[i];
        head->msg_control = &b->controls[i];
        head->msg_controllen = sizeof b->controls[i];
    }
}

/* A socket that is gone is the caller's mistake; every other error is one datagram's fate. */
static bool p2p_posix__is_broken(int error) {
    return error == EBADF || error == ENOTSOCK || error == EFAULT;
}

/* One socket until it is empty, at most P2P_POSIX__ROUNDS batches. Datagrams, or < 0. */
static int p2p_posix__receive(p2p_posix *io, const p2p_posix__nodes *nodes, uint32_t socket) {
    p2p_posix__batch b;
    bool runs = (p2p_posix__of(io)->runs_in >> socket & 1u) != 0;
    size_t room = runs ? (size_t)P2P_POSIX__RUN : p2p_posix__room(p2p_posix__of(io));
    unsigned fit = (unsigned)(sizeof io->private_bytes / room);
    unsigned most = fit < P2P_POSIX__BATCH ? fit : (unsigned)P2P_POSIX__BATCH;
    int round, i, total = 0;
    for (round = 0; round < P2P_POSIX__ROUNDS; round++) {
        int got;
        p2p_posix__prepare(&b, io->private_bytes, room, most);
        got = p2p_posix__recv(io->fds[socket], b.messages, most);
        if (got < 0 && p2p_posix__is_broken(errno))
            return P2P_ERR_IO;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        for (i = 0; i < got; i++)
            total += p2p_posix__take(nodes, &b, i, socket);
        if (got >= 0 && (unsigned)got < most)
            break;
    }
    return total;
}

/* ==== >>send =====================================================================================
 * A node is asked for a packet only while every socket has credit for one of the largest size, so
 * the system has room for whatever comes out and nothing that was pulled has to wait or is thrown
 * away. */

/* More than Linux charges for a datagram: a buffer rounded up to a power of two, and its head. */
static uint32_t p2p_posix__cost(size_t size) { return (uint32_t)(2 * size + 1024); }

/* For the largest packet that a node is asked for. */
static size_t p2p_posix__send_room(const p2p_posix__state *s) {
    return s->runs_out != 0 ? (size_t)P2P_POSIX__RUN_BYTES : p2p_posix__room(s);
}

static bool p2p_posix__has_credit(const p2p_posix__state *s, uint32_t socket) {
    uint32_t need = p2p_posix__cost(p2p_posix__send_room(s));
    return s->credit[socket] >= (need < s->credit_max[socket] ? need : s->credit_max[socket]);
}

/* Asks the system about the sockets whose credit is used up, and notes which are full. */
static bool p2p_posix__may_send(p2p_posix *io) {
    p2p_posix__state *s = p2p_posix__of(io);
    uint32_t i;
    s->blocked = 0;
    for (i = 0; i < io->count; i++) {
        struct pollfd at;
        if (p2p_posix__has_credit(s, i))
            continue;
        at.fd = io->fds[i];
        at.events = POLLOUT;
        at.revents = 0;
        if (poll(&at, 1, 0) > 0)
            s->credit[i] = s->credit_max[i];
        else
            s->blocked |= 1u << i;
    }
    return s->blocked == 0;
}

/* As sendmmsg: how many of the messages were sent, or -1 with errno when not even the first was. */
static int p2p_posix__emit(int fd, p2p_posix__mmsg *messages, unsigned count) {
#if P2P_POSIX__BATCHES
    return sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
#else
    (void)count;
    return sendmsg(fd, &messages->msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -1 : 1;
#endif
}

typedef struct p2p_posix__sender {
    p2p_posix *io;
    p2p_posix__batch batch;
    uint32_t segments[P2P_POSIX__BATCH]; /* of each message that is a run, else 0 */
    unsigned count;                      /* messages in the batch */
    uint32_t socket;                     /* that all of them leave by */
    size_t used, pulled; /* bytes of io->private_bytes that they lie in; of all in this step */
    int err;
} p2p_posix__sender;

/* Only where the credit was wrong, which is on systems that count otherwise: waits a moment. */
static bool p2p_posix__wait_writable(int fd) {
    struct pollfd at;
    at.fd = fd;
    at.events = POLLOUT;
    at.revents = 0;
    return poll(&at, 1, P2P_POSIX__BLOCKED_MS) > 0;
}

/* Whether to send once more what the system did not take; *again counts. */
static bool p2p_posix__again(int fd, unsigned *again) {
    if (*again >= P2P_POSIX__BATCH || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK))
        return false;
    ++*again;
    return errno == EINTR || p2p_posix__wait_writable(fd);
}

/* One message, whatever it takes. False: it is lost; the next may go to somebody who can be
 * reached. */
static bool p2p_posix__emit_one(p2p_posix__sender *out, p2p_posix__mmsg *message) {
    int fd = out->io->fds[out->socket];
    unsigned again = 0;
    while (p2p_posix__emit(fd, message, 1) < 0) {
        if (p2p_posix__again(fd, &again))
            continue;
        if (p2p_posix__is_broken(errno))
            out->err = P2P_ERR_IO;
        p2p_posix__of(out->io)->dropped++;
        return false;
    }
    return true;
}

/* An error that passes by itself: the system is short of something. */
static bool p2p_posix__is_passing(int error) {
    return error == ENOBUFS || error == ENOMEM || error == EAGAIN || error == EWOULDBLOCK ||
           error == EINTR;
}

/* A run that the system refused with `error`, datagram by datagram. When any of its full size
 * leaves, then it is runs that it does not like, and there will be no more. */
static void p2p_posix__emit_apart(p2p_posix__sender *out, unsigned at, int error) {
    p2p_posix__state *s = p2p_posix__of(out->io);
    p2p_posix__mmsg *message = &out->batch.messages[at];
    struct iovec *part = &out->batch.parts[at];
    size_t left = part->iov_len;
    message->msg_hdr.msg_control = NULL;
    message->msg_hdr.msg_controllen = 0;
    for (; left > 0 && out->err >= 0; left -= part->iov_len) {
        part->iov_len = left < out->segments[at] ? left : out->segments[at];
        if (p2p_posix__emit_one(out, message) && part->iov_len == out->segments[at] &&
            !p2p_posix__is_passing(error))
            s->runs_out = (uint8_t)(s->runs_out & ~(1u << out->socket));
        part->iov_base = (uint8_t *)part->iov_base + part->iov_len;
    }
}

static void p2p_posix__flush(p2p_posix__sender *out) {
    int fd = out->io->fds[out->socket];
    unsigned at = 0, again = 0;
    while (at < out->count && out->err >= 0) {
        int sent = p2p_posix__emit(fd, out->batch.messages + at, out->count - at);
        if (sent > 0) {
            at += (unsigned)sent;
        } else if (p2p_posix__is_broken(errno)) {
            out->err = P2P_ERR_IO;
        } else if (!p2p_posix__again(fd, &again)) {
            if (out->segments[at] != 0)
                p2p_posix__emit_apart(out, at, errno);
            else
                p2p_posix__of(out->io)->dropped++;
            at++;
        }
    }
    out->count = 0;
}

/* A socket of the right family: one on loopback for what is on loopback and for nothing else, and
 * among several the one that the packet names. -1: there is none. */
static int p2p_posix__socket_for(const p2p_posix *io, const p2p_packet *packet) {
    const p2p_posix__state *s = p2p_posix__peek(io);
    bool near = p2p_posix__loopback(&packet->remote);
    int best = -1, best_rank = 0;
    uint32_t i;
    for (i = 0; i < io->count; i++) {
        int rank = 1 + (s->loopback[i] == near ? 2 : 0) + (i == packet->socket ? 1 : 0);
        if (s->family[i] == packet->remote.family && rank > best_rank) {
            best = (int)i;
            best_rank = rank;
        }
    }
    return best;
}

/* Tells the kernel to cut the message into datagrams of this size. */
static void p2p_posix__as_run(p2p_posix__sender *out, uint32_t segment) {
#if P2P_POSIX__RUNS
    struct msghdr *head = &out->batch.messages[out->count].msg_hdr;
    uint16_t size = (uint16_t)segment;
    struct cmsghdr *control;
    memset(&out->batch.controls[out->count], 0, sizeof out->batch.controls[out->count]);
    head->msg_control = &out->batch.controls[out->count];
    head->msg_controllen = CMSG_SPACE(sizeof size);
    control = CMSG_FIRSTHDR(head);
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(control), &size, sizeof size);
#else
    (void)out;
    (void)segment;
#endif
}

/* One datagram, or with segment a run of them. */
static void p2p_posix__add_message(p2p_posix__sender *out, uint32_t socket, uint8_t *data,
                                   size_t size, uint32_t segment, const p2p_addr *remote) {
    p2p_posix__state *s = p2p_posix__of(out->io);
    uint32_t cost = p2p_posix__cost(size);
    struct msghdr *head;
    if (out->count > 0 && (out->count == P2P_POSIX__BATCH || out->socket != socket))
        p2p_posix__flush(out);
    out->socket = socket;
    s->credit[socket] -= cost < s->credit[socket] ? cost : s->credit[socket];
    out->batch.parts[out->count].iov_base = data;
    out->batch.parts[out->count].iov_len = size;
    memset(&out->batch.messages[out->count], 0, sizeof out->batch.messages[out->count]);
    head = &out->batch.messages[out->count].msg_hdr;
    head->msg_name = &out->batch.names[out->count];
    head->msg_namelen = p2p_posix__name_of(remote, &out->batch.names[out->count]);
    head->msg_iov = &out->batch.parts[out->count];
    head->msg_iovlen = 1;
    out->segments[out->count] = segment;
    if (segment != 0)
        p2p_posix__as_run(out, segment);
    out->count++;
}

/* Each segment of a packet is a datagram. */
static void p2p_posix__add_packet(p2p_posix__sender *out, const p2p_packet *packet) {
    int socket = p2p_posix__socket_for(out->io, packet);
    uint8_t *data = (uint8_t *)packet->data;
    size_t at = 0, step = packet->segment != 0 ? packet->segment : packet->size;
    if (socket < 0) {
        p2p_posix__of(out->io)->dropped++;
        return;
    }
    if (step < packet->size && (p2p_posix__of(out->io)->runs_out >> socket & 1u) != 0) {
        p2p_posix__add_message(out, (uint32_t)socket, data, packet->size, packet->segment,
                               &packet->remote);
        return;
    }
    while (at < packet->size) {
        size_t size = packet->size - at < step ? packet->size - at : step;
        p2p_posix__add_message(out, (uint32_t)socket, data + at, size, 0, &packet->remote);
        at += size;
    }
}

/* Pulls one packet. False: the node has none now. */
static bool p2p_posix__pull(p2p_posix__sender *out, p2p_node *node) {
    size_t room = p2p_posix__send_room(p2p_posix__of(out->io));
    p2p_packet packet;
    memset(&packet, 0, sizeof packet);
    if (out->used >= P2P_POSIX__FLUSH_BYTES)
        p2p_posix__flush(out);
    if (out->count == 0)
        out->used = 0;
    packet.data = (uint8_t *)out->io->private_bytes + out->used;
    packet.size = room;
    if (p2p_output(node, p2p_posix_now_us(), &packet) <= 0)
        return false;
    out->used += (packet.size + 7) & ~(size_t)7;
    out->pulled += packet.size;
    p2p_posix__add_packet(out, &packet);
    return true;
}

static int p2p_posix__send(p2p_posix *io, p2p_node *node) {
    p2p_posix__sender out;
    int left = P2P_POSIX__ROUNDS * P2P_POSIX__BATCH;
    out.io = io;
    out.count = 0;
    out.socket = 0;
    out.used = out.pulled = 0;
    out.err = P2P_OK;
    while (left-- > 0 && out.pulled < P2P_POSIX__ROUNDS * (size_t)P2P_POSIX_BUFFER &&
           out.err >= 0 && p2p_posix__may_send(io) && p2p_posix__pull(&out, node)) {}
    p2p_posix__flush(&out);
    return out.err;
}

/* ==== >>step =====================================================================================
 * One wait, then all that is ready. Always: a step waits at most once, and ends by sending. */

/* How long to wait, in microseconds, or P2P_NEVER. A full socket wants no packet, so what the node
 * has to send is no reason to hurry then. */
static uint64_t p2p_posix__wait_us(const p2p_posix *io, uint64_t deadline, int timeout_ms) {
    uint64_t now = p2p_posix_now_us();
    uint64_t limit = timeout_ms < 0 ? P2P_NEVER : (uint64_t)timeout_ms * 1000u;
    uint64_t wait = deadline == P2P_NEVER ? P2P_NEVER : deadline > now ? deadline - now : 0;
    if (p2p_posix__peek(io)->blocked != 0 && wait < (uint64_t)P2P_POSIX__BLOCKED_MS * 1000u)
        wait = (uint64_t)P2P_POSIX__BLOCKED_MS * 1000u;
    return wait < limit ? wait : limit;
}

static int p2p_posix__as_ms(uint64_t wait_us) {
    if (wait_us == P2P_NEVER)
        return -1;
    if (wait_us >= (uint64_t)INT_MAX * 1000u)
        return INT_MAX;
    return (int)((wait_us + 999u) / 1000u);
}

/* As poll. A wait that a signal cut short is over, as if its time had come. */
static int p2p_posix__wait(struct pollfd *fds, nfds_t count, uint64_t wait_us) {
    int ready;
#if P2P_POSIX__BATCHES
    struct timespec time;
    uint64_t seconds = wait_us / 1000000u;
    time.tv_sec = (time_t)(seconds < INT_MAX ? seconds : INT_MAX);
    time.tv_nsec = (long)(wait_us % 1000000u) * 1000;
    ready = ppoll(fds, count, wait_us == P2P_NEVER ? NULL : &time, NULL);
#else
    ready = poll(fds, count, p2p_posix__as_ms(wait_us));
#endif
    if (ready < 0 && errno == EINTR)
        return 0;
    return ready < 0 ? P2P_ERR_IO : ready;
}

static int p2p_posix__receive_all(p2p_posix *io, const p2p_posix__nodes *nodes,
                                  const struct pollfd *fds) {
    int total = 0;
    uint32_t i;
    for (i = 0; i < io->count; i++) {
        int got;
        if ((fds[i].revents & POLLNVAL) != 0)
            return P2P_ERR_IO;
        if ((fds[i].revents & (POLLIN | POLLERR)) == 0)
            continue;
        got = p2p_posix__receive(io, nodes, i);
        if (got < 0)
            return got;
        total += got;
    }
    return total;
}

static int p2p_posix__drive(p2p_posix *io, const p2p_posix__nodes *nodes) {
    size_t i;
    for (i = 0; i < nodes->count; i++) {
        int err;
        (void)p2p_poll(nodes->all[i], p2p_posix_now_us());
        err = p2p_posix__send(io, nodes->all[i]);
        if (err < 0)
            return err;
    }
    return P2P_OK;
}

P2P_DEF int p2p_posix_step_all(p2p_posix *io, p2p_node *const *nodes, size_t count,
                               int timeout_ms) {
    struct pollfd fds[P2P_POSIX_SOCKETS + 1];
    p2p_posix__nodes all;
    uint64_t deadline = P2P_NEVER;
    int ready, got = 0, err;
    size_t i;
    if (!p2p_posix__is_open(io))
        return P2P_ERR_STATE;
    for (i = 0; i < count; i++) {
        uint64_t at;
        if (nodes == NULL || nodes[i] == NULL)
            return P2P_ERR_ARG;
        at = p2p_deadline(nodes[i]);
        deadline = at < deadline ? at : deadline;
    }
    all.all = nodes;
    all.count = count;
    ready = p2p_posix_fds(io, fds, P2P_POSIX_SOCKETS + 1);
    ready = p2p_posix__wait(fds, (nfds_t)ready, p2p_posix__wait_us(io, deadline, timeout_ms));
    if (ready > 0) {
        if (fds[io->count].revents != 0)
            p2p_posix__drain_wake(io);
        got = p2p_posix__receive_all(io, &all, fds);
    }
    if (ready < 0 || got < 0)
        return ready < 0 ? ready : got;
    err = p2p_posix__drive(io, &all);
    return err < 0 ? err : got;
}

P2P_DEF int p2p_posix_step(p2p_posix *io, p2p_node *node, int timeout_ms) {
    return p2p_posix_step_all(io, &node, 1, timeout_ms);
}

P2P_DEF int p2p_posix_fds(const p2p_posix *io, struct pollfd *out, size_t capacity) {
    uint32_t i;
    if (!p2p_posix__is_open(io))
        return P2P_ERR_STATE;
    if (out == NULL || capacity < io->count + 1)
        return P2P_ERR_ARG;
    for (i = 0; i < io->count; i++) {
        bool full = (p2p_posix__peek(io)->blocked >> i & 1u) != 0;
        out[i].fd = io->fds[i];
        out[i].events = full ? POLLIN | POLLOUT : POLLIN;
        out[i].revents = 0;
    }
    out[i].fd = io->wake[0];
    out[i].events = POLLIN;
    out[i].revents = 0;
    return (int)i + 1;
}

P2P_DEF int p2p_posix_wait_ms(const p2p_posix *io, const p2p_node *node) {
    if (!p2p_posix__is_open(io) || node == NULL)
        return 0;
    return p2p_posix__as_ms(p2p_posix__wait_us(io, p2p_deadline(node), -1));
}

/* ==== >>keyfile ==================================================================================
 * Secrets on disk. Always: what held a seed is wiped, on every way out. */

enum {
    P2P_POSIX__KEY_HEAD = 11, /* "p2p-key-v1 " */
    P2P_POSIX__KEY_SIZE = P2P_POSIX__KEY_HEAD + 64 + 1,
    P2P_POSIX__PATH_MAX = 4096
};

static const char p2p_posix__key_head[P2P_POSIX__KEY_HEAD + 1] = "p2p-key-v1 ";

static void p2p_posix__key_text(const uint8_t seed[32], char out[P2P_POSIX__KEY_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    int i;
    memcpy(out, p2p_posix__key_head, P2P_POSIX__KEY_HEAD);
    for (i = 0; i < 32; i++) {
        out[P2P_POSIX__KEY_HEAD + 2 * i] = digits[seed[i] >> 4];
        out[P2P_POSIX__KEY_HEAD + 2 * i + 1] = digits[seed[i] & 15];
    }
    out[P2P_POSIX__KEY_SIZE - 1] = '\n';
}

static int p2p_posix__digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* All of the text and nothing else, or false. */
static bool p2p_posix__key_parse(const char *text, size_t size, uint8_t seed[32]) {
    int i;
    if (size != P2P_POSIX__KEY_SIZE || text[P2P_POSIX__KEY_SIZE - 1] != '\n' ||
        memcmp(text, p2p_posix__key_head, P2P_POSIX__KEY_HEAD) != 0)
        return false;
    for (i = 0; i < 32; i++) {
        int high = p2p_posix__digit(text[P2P_POSIX__KEY_HEAD + 2 * i]);
        int low = p2p_posix__digit(text[P2P_POSIX__KEY_HEAD + 2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        seed[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* NULL, or why a seed must be neither saved nor used. */
static const char *p2p_posix__key_refusal(const uint8_t seed[32]) {
    static const uint8_t zeros[32] = {0};
    if (memcmp(seed, zeros, 32) == 0)
        return "the seed is all zeros, which is no key";
    if (memcmp(seed, "p2p.h SIM ONLY!!", 16) == 0)
        return "a simulator's key; make a real one";
    return NULL;
}

/* NULL, or why the file that was opened must not be trusted with a secret. */
static const char *p2p_posix__key_distrust(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "not a regular file";
    if (st.st_uid != geteuid())
        return "another user owns it; chown it or make a new key";
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return "other users may use it; chmod 600 this file";
    return NULL;
}

/* Reads at most room bytes; -1 with errno. */
static ssize_t p2p_posix__read(int fd, char *out, size_t room) {
    size_t have = 0;
    while (have < room) {
        ssize_t got = read(fd, out + have, room - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static int p2p_posix__key_read(int fd, const char *path, uint8_t seed[32], p2p_error_detail *why) {
    char text[P2P_POSIX__KEY_SIZE + 1];
    const char *refusal = p2p_posix__key_distrust(fd);
    ssize_t size;
    bool parsed;
    if (refusal != NULL)
        return p2p_posix__fail_path(why, P2P_ERR_AUTH, path, refusal);
    size = p2p_posix__read(fd, text, sizeof text);
    if (size < 0)
        return p2p_posix__fail_path(why, P2P_ERR_IO, path, strerror(errno));
    parsed = p2p_posix__key_parse(text, (size_t)size, seed);
    p2p_wipe(text, sizeof text);
    if (!parsed)
        return p2p_posix__fail_path(why, P2P_ERR_CONFIG, path,
                                    "no key file: it wants 'p2p-key-v1', 64 hex digits, line end");
    refusal = p2p_posix__key_refusal(seed);
    if (refusal != NULL)
        return p2p_posix__fail_path(why, P2P_ERR_CONFIG, path, refusal);
    return P2P_OK;
}

P2P_DEF int p2p_posix_key_load(const char *path, const p2p_crypto *crypto, p2p_key *out,
                               p2p_error_detail *why) {
    uint8_t seed[32];
    int fd, err;
    if (path == NULL || crypto == NULL || out == NULL)
        return p2p_posix__fail(why, P2P_ERR_ARG, "p2p_posix_key_load: an argument is NULL", "", "");
    memset(out, 0, sizeof *out);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* A pipe must not hold us up. */
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return p2p_posix__fail_path(why, P2P_ERR_NOT_FOUND, path,
                                    "no such file; make a key first, as by p2p keygen");
    if (fd < 0)
        return p2p_posix__fail_path(why, P2P_ERR_IO, path, strerror(errno));
    err = p2p_posix__key_read(fd, path, seed, why);
    (void)close(fd);
    if (err >= 0) {
        err = p2p_key_from_seed(crypto, seed, out);
        if (err < 0)
            (void)p2p_posix__fail_path(why, err, path, "the crypto table takes no such seed");
    }
    p2p_wipe(seed, sizeof seed);
    if (err < 0)
        p2p_wipe(out, sizeof *out);
    return err < 0 ? err : P2P_OK;
}

/* Writes all, makes it the owner's alone whatever the umask says, and sees it to the disk. */
static int p2p_posix__write_file(int fd, const char *text, size_t size) {
    size_t done = 0;
    if (fchmod(fd, S_IRUSR | S_IWUSR) < 0)
        return -1;
    while (done < size) {
        ssize_t sent = write(fd, text + done, size - done);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        done += (size_t)sent;
    }
    return fsync(fd);
}

/* Gives the finished file its name, unless something has that name. Where the file system knows no
 * links, Linux can rename without replacing. */
static int p2p_posix__publish(const char *temp, const char *path) {
    if (link(temp, path) == 0)
        return unlink(temp);
#if defined(__linux__) && defined(SYS_renameat2) && defined(AT_FDCWD)
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS)
        return (int)syscall(SYS_renameat2, AT_FDCWD, temp, AT_FDCWD, path, 1u /* NOREPLACE */);
#endif
    return -1;
}

/* The new name lies in the directory, which is a file of its own to the disk. */
static void p2p_posix__sync_directory(const char *path) {
    char name[P2P_POSIX__PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - path) + 1;
    int fd;
    memcpy(name, path, size);
    (void)p2p_posix__join(name, size, sizeof name, size == 0 ? "." : "");
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd);
    (void)close(fd);
}

/* A name beside the path that nobody else has: 64 random bits. */
static int p2p_posix__temp_name(const char *path, char out[P2P_POSIX__PATH_MAX]) {
    uint8_t random[8];
    size_t at, i;
    if (strlen(path) + 24 > P2P_POSIX__PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (p2p_posix__entropy(NULL, random, sizeof random) < 0)
        return -1;
    at = p2p_posix__join(out, 0, P2P_POSIX__PATH_MAX, path);
    at = p2p_posix__join(out, at, P2P_POSIX__PATH_MAX, ".new");
    for (i = 0; i < sizeof random; i++) {
        out[at++] = (char)('a' + (random[i] & 15));
        out[at++] = (char)('a' + (random[i] >> 4));
    }
    out[at] = '\0';
    return 0;
}

/* 0, or -1 with errno and nothing left behind. */
static int p2p_posix__save(const char *path, const char *text, size_t size) {
    char temp[P2P_POSIX__PATH_MAX];
    int fd, err;
    if (p2p_posix__temp_name(path, temp) < 0)
        return -1;
    fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return -1;
    err = p2p_posix__write_file(fd, text, size);
    p2p_posix__close_keeping_errno(fd);
    if (err == 0)
        err = p2p_posix__publish(temp, path);
    if (err == 0) {
        p2p_posix__sync_directory(path);
        return 0;
    }
    err = errno;
    (void)unlink(temp);
    errno = err;
    return -1;
}

/* Refuses early what is there already: nothing is written for it. */
static int p2p_posix__save_new(const char *path, const uint8_t seed[32]) {
    char text[P2P_POSIX__KEY_SIZE];
    struct stat st;
    int err;
    if (lstat(path, &st) == 0) {
        errno = EEXIST;
        return -1;
    }
    p2p_posix__key_text(seed, text);
    err = p2p_posix__save(path, text, sizeof text);
    p2p_wipe(text, sizeof text);
    return err;
}

P2P_DEF int p2p_posix_key_save(const char *path, const p2p_key *key, p2p_error_detail *why) {
    const char *refusal;
    if (path == NULL || key == NULL)
        return p2p_posix__fail(why, P2P_ERR_ARG, "p2p_posix_key_save: an argument is NULL", "", "");
    refusal = p2p_posix__key_refusal(key->seed);
    if (refusal != NULL)
        return p2p_posix__fail_path(why, P2P_ERR_CONFIG, path, refusal);
    if (p2p_posix__save_new(path, key->seed) == 0)
        return P2P_OK;
    if (errno == EEXIST)
        return p2p_posix__fail_path(why, P2P_ERR_STATE, path,
                                    "exists already; a key is never overwritten");
    return p2p_posix__fail_path(why, P2P_ERR_IO, path, strerror(errno));
}

#ifdef __cplusplus
}
#endif
#endif /* P2P_POSIX_IMPLEMENTATION */
