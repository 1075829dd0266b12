/* p2p_lwip.h: p2p.h on a microcontroller: UDP by lwIP's raw API, without copies, heap or sockets.
 * SPDX-License-Identifier: MIT-0
 *
 * Do this in ONE source file:
 *
 *     #define P2P_LWIP_IMPLEMENTATION
 *     #include "p2p_lwip.h"
 *
 * STEP BY STEP, NO_SYS=1
 *     static p2p_lwip io;
 *     static p2p_desc desc;                     zeros: every default
 *     p2p_lwip_desc io_desc = {0};
 *     io_desc.port = 8800;
 *     io_desc.random = board_random;            required: true random numbers of the chip
 *     p2p_lwip_open(&io, &io_desc, &desc);
 *     ... p2p_node_open(&node, &desc, arena, sizeof arena) ...
 *     for (;;) {
 *         board_net_poll();                     the driver's frames into netif->input
 *         sys_check_timeouts();
 *         p2p_lwip_step(&io, node);
 *         while (p2p_next_event(node, &event) > 0) ...
 *         board_sleep(sys_timeouts_sleeptime()); or until the next interrupt
 *     }
 *     p2p_lwip_step(&io, NULL);                 takes the node away from the port
 *     p2p_node_close(node);
 *     p2p_lwip_close(&io);
 * The address may come later than the node, as DHCP's does: the port tells the node.
 *
 * WITH AN OPERATING SYSTEM (NO_SYS=0) all of it, the calls of p2p.h included, belongs to lwIP's
 * thread: make them from functions given to tcpip_callback, or from any thread that holds the core
 * lock (LOCK_TCPIP_CORE, with LWIP_TCPIP_CORE_LOCKING). Every call of this port says
 * LWIP_ASSERT_CORE_LOCKED(); define that in lwipopts.h, as lwIP advises, and a call from another
 * thread is caught. The node runs by itself there, driven by datagrams and lwIP's timers, so nobody
 * has to wait for it: io_desc.wake is called when there are events to take, in lwIP's thread, and
 * may give a semaphore to the program's. After calls that give the node something to send, call
 * p2p_lwip_step.
 *
 * THE WAY OF A DATAGRAM. In: lwIP's receive callback hands the pbuf's bytes to the node, which
 * decrypts them in place; a chain of pbufs, or one that somebody else holds too, is first copied
 * into one, once. Out: the node builds each packet in the pbuf that goes to the driver.
 *
 * WHEN MEMORY OR THE NETWORK IS SHORT. A packet is built only once there is a pbuf for it: without
 * one it stays with the node, and the port asks again a millisecond later. What lwIP or the driver
 * then does not take (ERR_MEM, ERR_BUF, ERR_WOULDBLOCK, no route, no link, larger than the
 * interface's MTU) is lost, as it would be one hop further on, and counted: p2p_lwip_stats_get. The
 * node finds out and sends it again. Nothing stalls, and nothing waits inside the port.
 *
 * INTERFACES. Their state and addresses are followed by lwIP's extended callback: link up or down,
 * a new address of DHCP or SLAAC, an interface that comes or goes. The node is told by
 * p2p_network_changed in the next step. One port serves IPv4 and IPv6, whichever lwipopts.h has.
 *
 * WHAT lwipopts.h MUST SAY (ports/lwipopts.h is one that is tested)
 *     LWIP_UDP 1, LWIP_TIMERS 1, LWIP_NETIF_EXT_STATUS_CALLBACK 1
 *     MEMP_NUM_SYS_TIMEOUT   one more than lwIP's own (LWIP_NUM_SYS_TIMEOUT_INTERNAL), a port
 *     MEMP_NUM_UDP_PCB       one more, a port
 *     MEM_SIZE               room for some pbufs of link.mtu bytes: each datagram that waits for
 *                            the driver or for an answer of ARP holds one
 * pbufs of the driver that are of one piece (PBUF_POOL_BUFSIZE of a whole frame) save the copy.
 *
 * WHAT IT DOES NOT: allocate but for pbufs and the UDP pcb, start threads, bring up interfaces,
 * fragment, or keep globals but for the list of open ports, which lwIP's callback for interfaces
 * needs since it has no argument.
 *
 * MACROS
 *   P2P_LWIP_IMPLEMENTATION   in the one file that is to hold the code
 *   P2P_LWIP_NO_DEFAULTS      everywhere: p2p_mbedtls.h and p2p_sodium.h are not included, and open
 *                             leaves desc.secure and desc.crypto alone. Without it they are filled
 *                             in where empty
 *   P2P_LWIP_BURST            in that file: datagrams that one step sends at most, default 16
 *   P2P_DEF                   before each public function, as in p2p.h; P2P_STATIC makes it static
 *
 * CONTENTS of the implementation
 *     >>state >>addr >>time >>receive >>send >>network >>step >>open
 */
#ifndef P2P_LWIP_H
#define P2P_LWIP_H
#include "p2p.h"
#ifndef P2P_LWIP_NO_DEFAULTS
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
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

typedef struct p2p_lwip {
    void *pcb[2]; /* the struct udp_pcb; the second one is not used */
    void *netif;  /* the one of p2p_lwip_desc, or NULL */
    uint64_t private_state[24];
} p2p_lwip;

typedef struct p2p_lwip_desc {
    uint16_t port;                 /* 0: any that is free */
    uint64_t (*now_us)(void *ctx); /* microseconds from any origin; NULL: sys_now, times 1000 */
    /* Required: entropy of the chip. P2P_OK or < 0; becomes desc.random */
    int (*random)(void *ctx, void *out, size_t size);
    void *ctx; /* of all these functions */
    /* The node has events to take. In lwIP's thread; may call nothing of p2p.h. NULL: nobody */
    void (*wake)(void *ctx);
    void *netif; /* struct netif: this interface alone; NULL: all */
} p2p_lwip_desc;

/* What was lost between node and network, or waited there. Datagrams. */
typedef struct p2p_lwip_stats {
    uint32_t in;            /* given to the node */
    uint32_t in_copied;     /* ... of these, chains and shared pbufs that were copied */
    uint32_t in_no_memory;  /* lost: no pbuf for such a copy */
    uint32_t in_no_node;    /* lost: before the first step, or after p2p_lwip_step(io, NULL) */
    uint32_t in_oversize;   /* lost: a chain longer than link.mtu, which the node would not take */
    uint32_t out;           /* taken by lwIP */
    uint32_t out_no_memory; /* lost: ERR_MEM, ERR_BUF, ERR_WOULDBLOCK of lwIP or the driver */
    uint32_t out_no_route;  /* lost: no interface that is up leads there */
    uint32_t out_oversize;  /* lost: larger than the interface's MTU */
    uint32_t out_refused;   /* lost: any other error */
    uint32_t out_waits;     /* steps that ended because no pbuf was free; nothing was lost */
    uint32_t network_changes; /* times that the node was told of other addresses or links */
} p2p_lwip_stats;

/* Binds a UDP port and fills in desc.random, desc.link.local and .local_count, and desc.secure,
 * desc.crypto and desc.link.mtu where they are empty: the mtu is what the records of the secure
 * channel take, at most Ethernet's. desc.why says what was wrong: P2P_ERR_CONFIG (no random; a mtu
 * for which lwIP has no memory), P2P_ERR_IO (the port is in use), P2P_ERR_LIMIT (no free UDP pcb),
 * P2P_ERR_ARG (NULL). Nothing stays open then. */
P2P_DEF int p2p_lwip_open(p2p_lwip *io, const p2p_lwip_desc *io_desc, p2p_desc *desc);
/* Lets the node's timers run and sends what it has, at most P2P_LWIP_BURST datagrams, while there
 * are pbufs. From the first step on datagrams reach the node by lwIP's callback, and lwIP's timers
 * call for the next steps. node NULL takes the node away: do that before it is closed. Returns the
 * datagrams sent; P2P_ERR_STATE when io is not open. Take the events then. */
P2P_DEF int p2p_lwip_step(p2p_lwip *io, p2p_node *node);
/* Frees the pcb. Nothing happens to an io of zeros or one that is closed already. */
P2P_DEF void p2p_lwip_close(p2p_lwip *io);
/* P2P_ERR_STATE: not open. */
P2P_DEF int p2p_lwip_stats_get(const p2p_lwip *io, p2p_lwip_stats *out);

#ifdef __cplusplus
}
#endif
#endif /* P2P_LWIP_H */

#if defined(P2P_LWIP_IMPLEMENTATION) && !defined(P2P_LWIP__IMPLEMENTED)
#define P2P_LWIP__IMPLEMENTED
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/opt.h"
#include "lwip/pbuf.h"
#include "lwip/sys.h"
#include "lwip/timeouts.h"
#include "lwip/udp.h"
#include <string.h>

#if !LWIP_UDP || !LWIP_TIMERS
#error "p2p_lwip.h needs LWIP_UDP and LWIP_TIMERS: set both to 1 in lwipopts.h"
#endif
#if !LWIP_NETIF_EXT_STATUS_CALLBACK
#error "p2p_lwip.h follows the interfaces: set LWIP_NETIF_EXT_STATUS_CALLBACK to 1 in lwipopts.h"
#endif
#if !LWIP_IPV4 && !LWIP_IPV6
#error "p2p_lwip.h needs LWIP_IPV4 or LWIP_IPV6"
#endif
#if MEMP_NUM_SYS_TIMEOUT <= LWIP_NUM_SYS_TIMEOUT_INTERNAL
#error "p2p_lwip.h: raise MEMP_NUM_SYS_TIMEOUT by one for each p2p_lwip in lwipopts.h"
#endif
#ifndef P2P_LWIP_BURST
#define P2P_LWIP_BURST 16
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>state ====================================================================================
 * What lies in p2p_lwip.private_state. Always: while a port is open it is in the list, and while it
 * has a node one timeout of lwIP's is armed, due at alarm_us or earlier.
 * Covered by tests/lwip/test_lwip.c. */

/* The state lies in an array of uint64_t, so its accesses must be allowed to alias that. */
#ifdef __GNUC__
#define P2P_LWIP__ALIAS __attribute__((may_alias))
#else
#define P2P_LWIP__ALIAS
#endif

enum {
    P2P_LWIP__OPEN = 0x7032706c, /* in state.open; anything else is not open */
    P2P_LWIP__HEAD = 9,          /* what p2p.h puts before a record */
    P2P_LWIP__MTU_DEFAULT = 1232,
    P2P_LWIP__MTU_BEST = 1472, /* Ethernet's 1500 less the heads of IPv4 and UDP */
    P2P_LWIP__IP4_HEADS = 20 + 8,
    P2P_LWIP__IP6_HEADS = 40 + 8,
    P2P_LWIP__AGAIN_MS = 1, /* until a step that could not do all is repeated */
    P2P_LWIP__LOCALS = 8    /* of p2p_link.local */
};
/* sys_timeout asserts above this. */
#define P2P_LWIP__WAIT_MAX_MS (LWIP_UINT32_MAX / 4u)

typedef struct P2P_LWIP__ALIAS p2p_lwip__state {
    p2p_lwip *next; /* in the list of open ports */
    p2p_node *node;
    uint64_t (*now_us)(void *ctx);
    int (*random)(void *ctx, void *out, size_t size);
    void (*wake)(void *ctx);
    void *ctx;
    uint64_t alarm_us; /* P2P_NEVER: not armed */
    uint32_t open, mtu;
    uint32_t last_ms, wraps; /* of sys_now */
    uint8_t changed;         /* the interfaces did, and the node does not know yet */
    uint8_t blocked;         /* the last step ended for want of memory */
    uint16_t port;
    p2p_lwip_stats stats;
} p2p_lwip__state;

typedef char p2p_lwip__state_fits[sizeof(p2p_lwip__state) <= 24 * sizeof(uint64_t) ? 1 : -1];

/* The open ports, for lwIP's callback of interfaces, which has no argument. */
static p2p_lwip *p2p_lwip__ports;

static p2p_lwip__state *p2p_lwip__of(p2p_lwip *io) {
    return (p2p_lwip__state *)(void *)io->private_state;
}

static const p2p_lwip__state *p2p_lwip__peek(const p2p_lwip *io) {
    return (const p2p_lwip__state *)(const void *)io->private_state;
}

static bool p2p_lwip__is_open(const p2p_lwip *io) {
    return io != NULL && p2p_lwip__peek(io)->open == P2P_LWIP__OPEN;
}

static struct udp_pcb *p2p_lwip__pcb(const p2p_lwip *io) { return (struct udp_pcb *)io->pcb[0]; }

/* ==== >>addr =====================================================================================
 * p2p_addr to and from lwIP's, in builds with one family or both. */

#if LWIP_IPV4
static void p2p_lwip__addr_of_ip4(const ip4_addr_t *from, uint16_t port, p2p_addr *out) {
    memset(out, 0, sizeof *out);
    memcpy(out->ip, &from->addr, 4);
    out->port = port;
    out->family = 4;
}
#endif

#if LWIP_IPV6
static void p2p_lwip__addr_of_ip6(const ip6_addr_t *from, uint16_t port, p2p_addr *out) {
    memset(out, 0, sizeof *out);
    memcpy(out->ip, from->addr, 16);
    out->port = port;
    out->family = 6;
    if (ip6_addr_islinklocal(from))
        out->scope = ip6_addr_zone(from);
}
#endif

static void p2p_lwip__addr_of(const ip_addr_t *from, uint16_t port, p2p_addr *out) {
#if LWIP_IPV6
    if (IP_IS_V6(from)) {
        p2p_lwip__addr_of_ip6(ip_2_ip6(from), port, out);
        return;
    }
#endif
#if LWIP_IPV4
    p2p_lwip__addr_of_ip4(ip_2_ip4(from), port, out);
#endif
}

/* False: of a family that this lwIP does not speak. */
static bool p2p_lwip__ip_of(const p2p_addr *from, ip_addr_t *out) {
#if LWIP_IPV4
    if (from->family == 4) {
        ip4_addr_t ip4;
        memcpy(&ip4.addr, from->ip, 4);
        ip_addr_copy_from_ip4(*out, ip4);
        return true;
    }
#endif
#if LWIP_IPV6
    if (from->family == 6) {
        ip6_addr_t ip6;
        memcpy(ip6.addr, from->ip, 16);
        ip6_addr_clear_zone(&ip6);
        if (from->scope != 0 && ip6_addr_has_scope(&ip6, IP6_UNICAST))
            ip6_addr_set_zone(&ip6, (u8_t)from->scope);
        if (ip6_addr_lacks_zone(&ip6, IP6_UNICAST))
            ip6_addr_select_zone(&ip6, &ip6);
        ip_addr_copy_from_ip6(*out, ip6);
        return true;
    }
#endif
    return false;
}

/* ==== >>time =====================================================================================
 * The clock, and the one timeout by which lwIP calls for the next step. */

/* sys_now wraps every 49 days; the alarm comes more often than that, so no wrap is missed. */
static uint64_t p2p_lwip__now(p2p_lwip__state *s) {
    uint32_t ms;
    if (s->now_us != NULL)
        return s->now_us(s->ctx);
    ms = (uint32_t)sys_now();
    if (ms < s->last_ms)
        s->wraps++;
    s->last_ms = ms;
    return ((uint64_t)s->wraps << 32 | ms) * 1000u;
}

static void p2p_lwip__alarm(void *arg);

static void p2p_lwip__disarm(p2p_lwip *io) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    if (s->alarm_us != P2P_NEVER)
        sys_untimeout(p2p_lwip__alarm, io);
    s->alarm_us = P2P_NEVER;
}

/* Milliseconds from now until then, as sys_timeout takes them. */
static uint32_t p2p_lwip__wait_ms(uint64_t now_us, uint64_t at_us, uint32_t least_ms) {
    uint64_t wait_ms = at_us <= now_us ? 0 : (at_us - now_us - 1) / 1000u + 1;
    if (wait_ms > P2P_LWIP__WAIT_MAX_MS)
        return P2P_LWIP__WAIT_MAX_MS;
    return wait_ms < least_ms ? least_ms : (uint32_t)wait_ms;
}

/* Sees to it that a step comes when the node wants one, in least_ms at the earliest. An alarm that
 * is early already stays: an idle step costs less than to move it each time. */
static void p2p_lwip__arm(p2p_lwip *io, uint32_t least_ms) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    uint64_t now, at;
    uint32_t wait;
    if (s->node == NULL)
        return;
    now = p2p_lwip__now(s);
    at = s->changed ? 0 : p2p_wakeup(s->node);
    wait = p2p_lwip__wait_ms(now, at, least_ms);
    at = now + (uint64_t)wait * 1000u;
    if (s->alarm_us <= at)
        return;
    p2p_lwip__disarm(io);
    s->alarm_us = at;
    sys_timeout(wait, p2p_lwip__alarm, io);
}

static void p2p_lwip__tell(p2p_lwip__state *s) {
    if (s->wake != NULL && s->node != NULL && p2p_deadline(s->node) == 0)
        s->wake(s->ctx);
}

/* ==== >>receive ==================================================================================
 * From lwIP's callback into the node. Always: the pbuf is freed on every way. */

/* One pbuf with all of the bytes, which may be overwritten: p itself, or the one copy there is.
 * NULL: it was dropped, and counted. */
static struct pbuf *p2p_lwip__in_one(p2p_lwip__state *s, struct pbuf *p) {
    struct pbuf *whole;
    if (p->next == NULL && p->ref == 1)
        return p;
    if (p->tot_len > s->mtu) {
        s->stats.in_oversize++;
        (void)pbuf_free(p);
        return NULL;
    }
    whole = pbuf_clone(PBUF_RAW, PBUF_RAM, p);
    (void)pbuf_free(p);
    if (whole == NULL)
        s->stats.in_no_memory++;
    else
        s->stats.in_copied++;
    return whole;
}

/* addr may point into the pbuf, so it is read before anything else. */
static void p2p_lwip__receive(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *addr,
                              u16_t port) {
    p2p_lwip *io = (p2p_lwip *)arg;
    p2p_lwip__state *s = p2p_lwip__of(io);
    p2p_packet in;
    (void)pcb;
    if (p == NULL)
        return;
    if (s->node == NULL) {
        s->stats.in_no_node++;
        (void)pbuf_free(p);
        return;
    }
    memset(&in, 0, sizeof in);
    p2p_lwip__addr_of(addr, port, &in.remote);
    p2p_lwip__addr_of(ip_current_dest_addr(), s->port, &in.local);
    p = p2p_lwip__in_one(s, p);
    if (p == NULL)
        return;
    in.data = p->payload;
    in.size = p->len;
    s->stats.in++;
    (void)p2p_input(s->node, p2p_lwip__now(s), &in);
    (void)pbuf_free(p);
    p2p_lwip__arm(io, 0);
    p2p_lwip__tell(s);
}

/* ==== >>send =====================================================================================
 * From the node into pbufs. Always: a packet is pulled only when a pbuf for it is there. */

/* Of an interface for a family; 0: no limit. */
static uint32_t p2p_lwip__netif_mtu(const struct netif *netif, bool ip6) {
#if LWIP_IPV6
    if (ip6)
        return netif_mtu6(netif);
#else
    (void)ip6;
#endif
    return netif->mtu;
}

/* An interface has many IPv6 addresses: the answer comes from the one that was asked, if that is
 * still there, and else from what lwIP chooses. */
static err_t p2p_lwip__send_from(p2p_lwip *io, struct pbuf *p, const p2p_packet *packet,
                                 const ip_addr_t *to, struct netif *netif) {
#if LWIP_IPV6
    if (packet->local.family == 6 && packet->remote.family == 6) {
        ip_addr_t from;
        int8_t at;
        (void)p2p_lwip__ip_of(&packet->local, &from);
        at = netif_get_ip6_addr_match(netif, ip_2_ip6(&from));
        if (at >= 0 && ip6_addr_isvalid(netif_ip6_addr_state(netif, at)))
            return udp_sendto_if_src(p2p_lwip__pcb(io), p, to, packet->remote.port, netif, &from);
    }
#endif
    return udp_sendto_if(p2p_lwip__pcb(io), p, to, packet->remote.port, netif);
}

static struct netif *p2p_lwip__route(const p2p_lwip *io, const ip_addr_t *to) {
    const struct udp_pcb *pcb = p2p_lwip__pcb(io);
    if (pcb->netif_idx != NETIF_NO_INDEX)
        return netif_get_by_index(pcb->netif_idx);
    return ip_route(&pcb->local_ip, to);
}

/* Gives one datagram to lwIP. False: it is of no use to try another one now. */
static bool p2p_lwip__send_one(p2p_lwip *io, struct pbuf *p, const p2p_packet *packet) {
    p2p_lwip_stats *stats = &p2p_lwip__of(io)->stats;
    bool ip6 = packet->remote.family == 6;
    uint32_t heads = ip6 ? P2P_LWIP__IP6_HEADS : P2P_LWIP__IP4_HEADS, most;
    struct netif *netif;
    ip_addr_t to;
    netif = p2p_lwip__ip_of(&packet->remote, &to) ? p2p_lwip__route(io, &to) : NULL;
    if (netif == NULL || !netif_is_up(netif) || !netif_is_link_up(netif)) {
        stats->out_no_route++;
        return true;
    }
    most = p2p_lwip__netif_mtu(netif, ip6);
    if (most != 0 && p->tot_len + heads > most) {
        stats->out_oversize++;
        return true;
    }
    switch (p2p_lwip__send_from(io, p, packet, &to, netif)) {
    case ERR_OK: stats->out++; return true;
    case ERR_RTE: stats->out_no_route++; return true;
    case ERR_MEM:
    case ERR_BUF:
    case ERR_INPROGRESS:
    case ERR_WOULDBLOCK: stats->out_no_memory++; return false;
    default: stats->out_refused++; return true;
    }
}

/* Pulls one packet and sends it. False: the node has none, or there is no memory now. */
static bool p2p_lwip__pull(p2p_lwip *io) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    p2p_packet packet;
    struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)s->mtu, PBUF_RAM);
    bool more;
    if (p == NULL) {
        s->stats.out_waits++;
        s->blocked = 1;
        return false;
    }
    memset(&packet, 0, sizeof packet);
    packet.data = p->payload;
    packet.size = s->mtu;
    more = p2p_output(s->node, p2p_lwip__now(s), &packet) > 0;
    if (more) {
        pbuf_realloc(p, (u16_t)packet.size);
        more = p2p_lwip__send_one(io, p, &packet);
        s->blocked = !more;
    }
    (void)pbuf_free(p);
    return more;
}

/* ==== >>network ==================================================================================
 * Which addresses this host has. Always: of interfaces alone that are up and have a link. */

enum { P2P_LWIP__GLOBAL4, P2P_LWIP__GLOBAL6, P2P_LWIP__LINK_LOCAL, P2P_LWIP__LOOPBACK };

static int p2p_lwip__kind(const p2p_addr *addr) {
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const uint8_t *ip = addr->ip;
    if (addr->family == 4)
        return ip[0] == 127                   ? P2P_LWIP__LOOPBACK
               : ip[0] == 169 && ip[1] == 254 ? P2P_LWIP__LINK_LOCAL
                                              : P2P_LWIP__GLOBAL4;
    if (memcmp(ip, one, 16) == 0)
        return P2P_LWIP__LOOPBACK;
    return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80 ? P2P_LWIP__LINK_LOCAL : P2P_LWIP__GLOBAL6;
}

typedef struct p2p_lwip__locals {
    p2p_addr addrs[P2P_LWIP__LOCALS];
    uint32_t count;
    int kind; /* the one that is looked for */
} p2p_lwip__locals;

static void p2p_lwip__local_add(p2p_lwip__locals *out, const p2p_addr *addr) {
    if (p2p_lwip__kind(addr) == out->kind && out->count < P2P_LWIP__LOCALS)
        out->addrs[out->count++] = *addr;
}

static void p2p_lwip__locals_of(struct netif *netif, uint16_t port, p2p_lwip__locals *out) {
    p2p_addr addr;
#if LWIP_IPV4
    if (!ip4_addr_isany_val(*netif_ip4_addr(netif))) {
        p2p_lwip__addr_of_ip4(netif_ip4_addr(netif), port, &addr);
        p2p_lwip__local_add(out, &addr);
    }
#endif
#if LWIP_IPV6
    for (int8_t i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
        if (!ip6_addr_isvalid(netif_ip6_addr_state(netif, i)))
            continue;
        p2p_lwip__addr_of_ip6(netif_ip6_addr(netif, i), port, &addr);
        p2p_lwip__local_add(out, &addr);
    }
#endif
}

/* Those first that others can most likely reach; loopback only where there is nothing else. */
static void p2p_lwip__list(const p2p_lwip *io, p2p_lwip__locals *out) {
    memset(out, 0, sizeof *out);
    for (out->kind = P2P_LWIP__GLOBAL4; out->kind <= P2P_LWIP__LOOPBACK; out->kind++) {
        struct netif *netif;
        if (out->kind == P2P_LWIP__LOOPBACK && out->count > 0)
            return;
        NETIF_FOREACH(netif) {
            if ((io->netif == NULL || io->netif == netif) && netif_is_up(netif) &&
                netif_is_link_up(netif))
                p2p_lwip__locals_of(netif, p2p_lwip__peek(io)->port, out);
        }
    }
}

static void p2p_lwip__network_changed(p2p_lwip *io) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    p2p_lwip__locals now;
    s->changed = 0;
    s->stats.network_changes++;
    p2p_lwip__list(io, &now);
    (void)p2p_network_changed(s->node, p2p_lwip__now(s), now.addrs, now.count);
}

/* lwIP calls this in the middle of its change, so the node is told later. */
static void p2p_lwip__netif_event(struct netif *netif, netif_nsc_reason_t reason,
                                  const netif_ext_callback_args_t *args) {
    static const unsigned matters = LWIP_NSC_NETIF_ADDED | LWIP_NSC_NETIF_REMOVED |
                                    LWIP_NSC_LINK_CHANGED | LWIP_NSC_STATUS_CHANGED |
                                    LWIP_NSC_IPV4_ADDRESS_CHANGED | LWIP_NSC_IPV4_GATEWAY_CHANGED |
                                    LWIP_NSC_IPV6_SET | LWIP_NSC_IPV6_ADDR_STATE_CHANGED;
    p2p_lwip *io;
    (void)args;
    if ((reason & matters) == 0)
        return;
    for (io = p2p_lwip__ports; io != NULL; io = p2p_lwip__of(io)->next) {
        if (io->netif != NULL && io->netif != netif)
            continue;
        p2p_lwip__of(io)->changed = 1;
        p2p_lwip__arm(io, 0);
    }
}

NETIF_DECLARE_EXT_CALLBACK(p2p_lwip__netif_callback)

static void p2p_lwip__list_add(p2p_lwip *io) {
    if (p2p_lwip__ports == NULL)
        netif_add_ext_callback(&p2p_lwip__netif_callback, p2p_lwip__netif_event);
    p2p_lwip__of(io)->next = p2p_lwip__ports;
    p2p_lwip__ports = io;
}

static void p2p_lwip__list_drop(p2p_lwip *io) {
    p2p_lwip **at = &p2p_lwip__ports;
    while (*at != NULL && *at != io)
        at = &p2p_lwip__of(*at)->next;
    if (*at != NULL)
        *at = p2p_lwip__of(io)->next;
    if (p2p_lwip__ports == NULL)
        netif_remove_ext_callback(&p2p_lwip__netif_callback);
}

/* ==== >>step =====================================================================================
 * Timers, then packets, then the next alarm. */

static int p2p_lwip__drive(p2p_lwip *io) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    uint32_t before = s->stats.out;
    int left = P2P_LWIP_BURST;
    s->blocked = 0;
    if (s->changed)
        p2p_lwip__network_changed(io);
    (void)p2p_poll(s->node, p2p_lwip__now(s));
    while (left-- > 0 && p2p_wakeup(s->node) == 0 && p2p_lwip__pull(io)) {}
    p2p_lwip__arm(io, P2P_LWIP__AGAIN_MS);
    return (int)(s->stats.out - before);
}

static void p2p_lwip__alarm(void *arg) {
    p2p_lwip *io = (p2p_lwip *)arg;
    p2p_lwip__of(io)->alarm_us = P2P_NEVER;
    (void)p2p_lwip__drive(io);
    p2p_lwip__tell(p2p_lwip__of(io));
}

P2P_DEF int p2p_lwip_step(p2p_lwip *io, p2p_node *node) {
    p2p_lwip__state *s;
    LWIP_ASSERT_CORE_LOCKED();
    if (!p2p_lwip__is_open(io))
        return P2P_ERR_STATE;
    s = p2p_lwip__of(io);
    if (s->node != node)
        s->changed = 1; /* its desc may have been filled in some time ago */
    s->node = node;
    if (node != NULL)
        return p2p_lwip__drive(io);
    p2p_lwip__disarm(io);
    return P2P_OK;
}

/* ==== >>open =====================================================================================
 * Always: where open fails nothing stays open, and the desc is as it was. */

static int p2p_lwip__fail(p2p_desc *desc, int err, const char *text) {
    size_t size = strlen(text);
    if (desc->why == NULL)
        return err;
    memset(desc->why, 0, sizeof *desc->why);
    desc->why->err = err;
    memcpy(desc->why->text, text,
           size < sizeof desc->why->text ? size : sizeof desc->why->text - 1);
    return err;
}

/* The largest datagram worth trying: what the secure channel can seal, in an Ethernet frame. */
static uint32_t p2p_lwip__mtu_of(const p2p_secure *secure) {
    const p2p_secure_api *api;
    uint64_t most;
    if (secure->api == NULL)
        return P2P_LWIP__MTU_DEFAULT;
    api = P2P_SECURE_OF(secure);
    most = (uint64_t)api->content_max + api->overhead + P2P_LWIP__HEAD + (api->prefix != 0);
    return most < P2P_LWIP__MTU_BEST ? (uint32_t)most : (uint32_t)P2P_LWIP__MTU_BEST;
}

/* Whether lwIP ever has a pbuf of this size: else every step would wait for one. */
static bool p2p_lwip__has_memory(uint32_t mtu) {
    struct pbuf *p = mtu > 0xffffu ? NULL : pbuf_alloc(PBUF_TRANSPORT, (u16_t)mtu, PBUF_RAM);
    if (p == NULL)
        return false;
    (void)pbuf_free(p);
    return true;
}

static int p2p_lwip__bind(p2p_lwip *io, const p2p_lwip_desc *d, p2p_desc *desc) {
    struct udp_pcb *pcb = udp_new_ip_type(IPADDR_TYPE_ANY);
    if (pcb == NULL)
        return p2p_lwip__fail(desc, P2P_ERR_LIMIT, "no free UDP pcb: raise MEMP_NUM_UDP_PCB");
    if (udp_bind(pcb, IP_ANY_TYPE, d->port) != ERR_OK) {
        udp_remove(pcb);
        return p2p_lwip__fail(desc, P2P_ERR_IO, "port: another UDP pcb of this lwIP has it");
    }
    if (d->netif != NULL)
        udp_bind_netif(pcb, (const struct netif *)d->netif);
    udp_recv(pcb, p2p_lwip__receive, io);
    io->pcb[0] = pcb;
    io->netif = d->netif;
    p2p_lwip__of(io)->port = pcb->local_port;
    return P2P_OK;
}

static void p2p_lwip__fill(p2p_lwip *io, p2p_desc *desc) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    p2p_lwip__locals now;
    p2p_lwip__list(io, &now);
    desc->link.mtu = s->mtu;
    desc->link.segments = 1;
    desc->link.local_count = now.count;
    memcpy(desc->link.local, now.addrs, sizeof desc->link.local);
    desc->random.ctx = s->ctx;
    desc->random.fill = s->random;
}

/* Fills in the tables that are empty. */
static int p2p_lwip__tables(p2p_crypto *crypto, p2p_secure *secure) {
    int err = P2P_OK;
#ifndef P2P_LWIP_NO_DEFAULTS
    if (crypto->api == NULL)
        err = p2p_sodium_crypto(crypto);
    if (err >= 0 && secure->api == NULL)
        err = p2p_mbedtls_secure(secure);
#else
    (void)crypto;
    (void)secure;
#endif
    return err;
}

static void p2p_lwip__reset(p2p_lwip *io, const p2p_lwip_desc *d, uint32_t mtu) {
    p2p_lwip__state *s = p2p_lwip__of(io);
    memset(io, 0, sizeof *io);
    s->now_us = d->now_us;
    s->random = d->random;
    s->wake = d->wake;
    s->ctx = d->ctx;
    s->alarm_us = P2P_NEVER;
    s->mtu = mtu;
}

P2P_DEF int p2p_lwip_open(p2p_lwip *io, const p2p_lwip_desc *io_desc, p2p_desc *desc) {
    p2p_crypto crypto;
    p2p_secure secure;
    uint32_t mtu;
    int err;
    LWIP_ASSERT_CORE_LOCKED();
    if (io == NULL || io_desc == NULL || desc == NULL)
        return P2P_ERR_ARG;
    if (io_desc->random == NULL)
        return p2p_lwip__fail(desc, P2P_ERR_CONFIG, "random: NULL, but a chip's entropy is needed");
    crypto = desc->crypto;
    secure = desc->secure;
    err = p2p_lwip__tables(&crypto, &secure);
    if (err < 0)
        return p2p_lwip__fail(desc, err, "crypto or secure: its library does not start");
    mtu = desc->link.mtu != 0 ? desc->link.mtu : p2p_lwip__mtu_of(&secure);
    if (!p2p_lwip__has_memory(mtu))
        return p2p_lwip__fail(desc, P2P_ERR_CONFIG,
                              "link.mtu: lwIP has no pbuf that large: raise MEM_SIZE");
    p2p_lwip__reset(io, io_desc, mtu);
    err = p2p_lwip__bind(io, io_desc, desc);
    if (err < 0)
        return err;
    desc->crypto = crypto;
    desc->secure = secure;
    p2p_lwip__list_add(io);
    p2p_lwip__of(io)->open = P2P_LWIP__OPEN;
    p2p_lwip__fill(io, desc);
    return P2P_OK;
}

P2P_DEF void p2p_lwip_close(p2p_lwip *io) {
    LWIP_ASSERT_CORE_LOCKED();
    if (!p2p_lwip__is_open(io))
        return;
    p2p_lwip__disarm(io);
    p2p_lwip__list_drop(io);
    udp_remove(p2p_lwip__pcb(io));
    memset(io, 0, sizeof *io);
}

P2P_DEF int p2p_lwip_stats_get(const p2p_lwip *io, p2p_lwip_stats *out) {
    if (!p2p_lwip__is_open(io))
        return P2P_ERR_STATE;
    if (out == NULL)
        return P2P_ERR_ARG;
    *out = p2p_lwip__peek(io)->stats;
    return P2P_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* P2P_LWIP_IMPLEMENTATION */
