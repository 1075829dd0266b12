/* p2p_posix.h: p2p.h on a desktop, server or phone: UDP sockets, monotonic clock, entropy, key file,
 * and an event loop for people who want one.
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
 * SENDING NEVER LOSES A PACKET THAT WAS PULLED. The library builds a packet when it is asked for one,
 * so it is asked only while every socket has room for a datagram of the largest size. When one has
 * none, the step ends, and the next one waits for that socket instead of spinning. What the network
 * itself refuses (no route, message too long for the interface, port unreachable) is loss, as it
 * would be one hop further on, and is counted.
 *
 * KEY FILES hold one line: "p2p-key-v1 ", the secret seed in 64 hexadecimal digits, a line feed.
 * Loading refuses a file that is not the user's own, that others can read or write, or whose text is
 * anything else. Saving writes a file of its own beside the path, syncs it, and links it to its name:
 * a file that is there is never replaced, and a half-written one never has the name. A process that
 * ignores SIGXFSZ (as it should) finds nothing left behind by a full disk or a file size limit.
 *
 * THREADS AND SIGNALS: p2p_posix_wake may be called from any thread and any signal handler, between
 * open and close. Everything else belongs to the thread that drives the nodes.
 *
 * WHAT IT DOES NOT: allocate (but for what the C library does in getifaddrs, within open and share),
 * keep globals, start threads, look up host names, or follow changes of the interfaces by itself (tell
 * p2p_network_changed).
 *
 * MACROS
 *   P2P_POSIX_IMPLEMENTATION   in the one file that is to hold the code
 *   P2P_POSIX_NO_DEFAULTS      in that file: open leaves desc.secure and desc.crypto alone. Without it
 *                              they are filled in from p2p_mbedtls.h and p2p_sodium.h where empty
 *   P2P_DEF                    before each public function, as in p2p.h; P2P_STATIC makes it static
 * Linux's recvmmsg, sendmmsg and ppoll are used where the C library declares them (_GNU_SOURCE). Else
 * it is one system call a datagram, and waits are rounded up to milliseconds.
 */
#ifndef P2P_POSIX_H
#define P2P_POSIX_H
#if defined(P2P_POSIX_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif
#include "p2p.h"

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

#define P2P_POSIX_SOCKETS 8 /* most addresses to bind */

typedef struct p2p_posix {
    int fds[P2P_POSIX_SOCKETS]; /* the UDP sockets, to look at */
    uint32_t count;             /* how many */
    int wake[2];                /* readable after p2p_posix_wake, and where that writes */
    uint64_t private_state[60];
} p2p_posix;

typedef struct p2p_posix_desc {
    const char *const *bind; /* "ADDR:PORT" or "ADDR", IPv6 as "[::1]:8800" or "::1"; numbers only.
                                NULL: every address, IPv4 and IPv6, on one port */
    uint32_t bind_count;     /* at most P2P_POSIX_SOCKETS */
    uint16_t port;           /* for every address without one; 0: any that is free */
    p2p_error_detail *why;   /* filled in when open fails, and so is the p2p_desc's; may be NULL */
} p2p_posix_desc;

/* Opens and binds the sockets and fills in desc.link.local, .local_count and .segments, desc.random,
 * and desc.secure and desc.crypto where they are empty. Set desc.link.mtu before, where it is not to
 * be the default. io_desc NULL: all defaults.
 * P2P_ERR_IO: the system said no, as when the port is in use. P2P_ERR_CONFIG: an address that is
 * none, too many of them, or an mtu above 32768. P2P_ERR_ARG: io or desc is NULL. */
P2P_DEF int p2p_posix_open(p2p_posix *io, const p2p_posix_desc *io_desc, p2p_desc *desc);
/* Fills in the desc of one more node on the sockets of io. P2P_ERR_STATE: io is not open. */
P2P_DEF int p2p_posix_share(p2p_posix *io, p2p_desc *desc);
/* Closes all. Nothing happens to an io of zeros or one that is closed already. */
P2P_DEF void p2p_posix_close(p2p_posix *io);
P2P_DEF uint64_t p2p_posix_now_us(void); /* CLOCK_MONOTONIC */
/* Waits once, for a datagram, a wake, a deadline of the nodes', or timeout_ms (-1: for ever, 0: not at
 * all); receives what is there, polls the nodes, and sends what they have, each up to a bound, so that
 * a flood of one kind does not starve the other. Returns the datagrams received, 0, or < 0:
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
/* P2P_ERR_NOT_FOUND: no such file. P2P_ERR_IO: it cannot be read. P2P_ERR_AUTH: it is another user's,
 * or others can read or write it. P2P_ERR_CONFIG: no key file, or a key that must not be used. */
P2P_DEF int p2p_posix_key_load(const char *path, const p2p_crypto *crypto, p2p_key *out,
                               p2p_error_detail *why);
/* P2P_ERR_STATE: there is something of that name. P2P_ERR_IO: it cannot be written. P2P_ERR_CONFIG: a
 * key that must not be saved: zeros, or the simulator's. */
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
#error "p2p_posix.h needs the POSIX declarations: compile this file with -D_GNU_SOURCE or -std=gnu99"
#endif
#ifndef P2P_POSIX_NO_DEFAULTS
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>state ====
 * What lies in p2p_posix.private_state. A socket's credit is how many bytes of the kernel's send
 * buffer are surely free: half of it when poll(2) calls the socket writable, less what was sent since.
 * Covered by tests/unit/test_posix.c. */

/* The state lies in an array of uint64_t, so its accesses must be allowed to alias that. */
#ifdef __GNUC__
#define P2P_POSIX__ALIAS __attribute__((may_alias))
#else
#define P2P_POSIX__ALIAS
#endif
/* glibc declares mmsghdr, recvmmsg, sendmmsg and ppoll together, and MSG_WAITFORONE with them. */
#if defined(__linux__) && defined(_GNU_SOURCE) && defined(MSG_WAITFORONE)
#define P2P_POSIX__BATCHES 1
#else
#define P2P_POSIX__BATCHES 0
struct mmsghdr {
    struct msghdr msg_hdr;
    unsigned int msg_len;
};
#endif
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef O_CLOEXEC
#define O_CLOEXEC 0
#endif

enum {
    P2P_POSIX__OPEN = 0x70327031,      /* in state.open; anything else is not open */
    P2P_POSIX__BATCH = 32,             /* datagrams a system call */
    P2P_POSIX__BATCH_BYTES = 32768,    /* on the stack, of step only */
    P2P_POSIX__ROOM_MIN = 2048,        /* for one datagram; more when link.mtu is more */
    P2P_POSIX__ROUNDS = 8,             /* batches a socket and step, each way */
    P2P_POSIX__BUFFER_BYTES = 4 << 20, /* asked for each way; the system may give less */
    P2P_POSIX__BLOCKED_MS = 10,        /* longest wait for a full socket in one step */
    P2P_POSIX__PORT_TRIES = 16         /* to find one port that both families have free */
};

typedef struct P2P_POSIX__ALIAS p2p_posix__state {
    uint32_t open, mtu, local_count, blocked; /* blocked: a bit for each socket that is full */
    uint64_t dropped;                         /* datagrams that the system did not take */
    uint32_t credit[P2P_POSIX_SOCKETS], credit_max[P2P_POSIX_SOCKETS];
    uint8_t family[P2P_POSIX_SOCKETS], loopback[P2P_POSIX_SOCKETS];
    p2p_addr local[8];
} p2p_posix__state;

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

static bool p2p_posix__is_open(const p2p_posix *io) {
    return io != NULL && p2p_posix__peek(io)->open == P2P_POSIX__OPEN;
}

/* ==== >>say ====
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
    enum { SHOWN = 32 };
    size_t size = strlen(path);
    char name[SHOWN + 4];
    size_t at = p2p_posix__join(name, 0, sizeof name, size > SHOWN ? "..." : "");
    (void)p2p_posix__join(name, at, sizeof name, size > SHOWN ? path + size - SHOWN : path);
    return p2p_posix__fail(why, err, name, ": ", text);
}

/* ==== >>addr ==== */

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

static bool p2p_posix__addr_of(const p2p_posix__name *name, p2p_addr *out) {
    memset(out, 0, sizeof *out);
    if (name->any.sa_family == AF_INET) {
        out->family = 4;
        out->port = ntohs(name->v4.sin_port);
        memcpy(out->ip, &name->v4.sin_addr, 4);
        return true;
    }
    if (name->any.sa_family != AF_INET6)
        return false;
    out->family = 6;
    out->port = ntohs(name->v6.sin6_port);
    memcpy(out->ip, &name->v6.sin6_addr, 16);
    if (out->ip[0] == 0xfe && (out->ip[1] & 0xc0) == 0x80)
        out->scope = name->v6.sin6_scope_id;
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

/* ==== >>open ==== */

static void p2p_posix__number(int fd, int level, int option, int value) {
    (void)setsockopt(fd, level, option, &value, (socklen_t)sizeof value);
}

/* The library finds the path MTU itself, so datagrams go out whole or not at all; what a router says
 * about it is not to be believed either. Every option may fail: the socket works without. */
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

static int p2p_posix__set_flags(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

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

/* Adds a socket bound to *addr and writes the port it got to addr->port. Returns 0 or -1 with errno. */
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
    s->credit[io->count] = 0;
    s->credit_max[io->count] = (uint32_t)room / 2;
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

/* The host's addresses, for a socket that is bound to all of them. A host whose interfaces cannot be
 * listed is still a good caller, so that is no error. */
static void p2p_posix__list_interfaces(p2p_posix__state *s, uint8_t family, uint16_t port) {
    static const uint8_t limits[5] = {4, 6, 7, 8, 8};
    struct ifaddrs *list = NULL, *at;
    int pass;
    if (getifaddrs(&list) < 0)
        return;
    for (pass = 0; pass < 5; pass++) {
        for (at = list; at != NULL; at = at->ifa_next) {
            p2p_posix__name name;
            p2p_addr addr;
            if (at->ifa_addr == NULL || (at->ifa_flags & IFF_UP) == 0)
                continue;
            memset(&name, 0, sizeof name);
            memcpy(&name, at->ifa_addr,
                   at->ifa_addr->sa_family == AF_INET6 ? sizeof name.v6 : sizeof name.v4);
            if (!p2p_posix__addr_of(&name, &addr) || addr.family != family)
                continue;
            addr.port = port;
            if (p2p_posix__wanted(&addr, pass) && (pass < 4 || s->local_count == 0))
                p2p_posix__remember(s, &addr, limits[pass]);
        }
    }
    freeifaddrs(list);
}
