/* lwip_net.h: one lwIP stack and a peer beyond it, in virtual time, without sockets or threads.
 *
 * The node `near` runs over ports/p2p_lwip.h on an interface that carries IP packets to and from
 * this file; the node `far` is driven by hand and has the address at the other end of the wire.
 * Packets go into the stack in pbufs of any shape, and what the interface says to those that come
 * out is the test's to choose. */
#ifndef LWIP_NET_H
#define LWIP_NET_H
#define P2P_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_LWIP_IMPLEMENTATION
#define P2P_LWIP_BURST 4 /* less than a node sends at once */
#include "p2p_lwip.h"
#include "lwip/inet_chksum.h"
#include "lwip/init.h"
#include "lwip/mem.h"
#include "lwip/memp.h"
#include "lwip/stats.h"
#include "p2p_test.h"
#include <setjmp.h>

#define MS ((uint64_t)1000)
enum { NEAR_PORT = 8800, FAR_PORT = 7000, WIRE_QUEUE = 256, WIRE_ROOM = 2048, FAR_ARENA = 4 << 20 };

typedef struct carried {
    uint8_t bytes[WIRE_ROOM];
    size_t size;
} carried;

typedef struct side {
    p2p_node *node;
    p2p_desc desc;
    p2p_error_detail why;
    uint64_t *arena;
    p2p_conn conn;
    p2p_stream stream;
    uint64_t got; /* bytes of streams and messages */
    int connected, disconnected, events;
} side;

static struct {
    uint64_t now_us;
    struct netif wire;
    p2p_lwip io;
    side near, far;
    carried queue[WIRE_QUEUE]; /* from the stack to the far node */
    uint32_t queued, sent;
    err_t answer;   /* of the interface, to each packet */
    uint32_t piece; /* bytes of each pbuf of a chain that comes in; 0: one pbuf */
    int hold;       /* somebody else holds each pbuf that comes in */
    int family;     /* 4 or 6: of all packets */
    int by_alarm;   /* p2p_lwip_step is called by lwIP's timers alone */
    uint32_t wakes;
    uint64_t entropy;
    uint64_t begin_us, begin_entropy; /* set before net_open; 0: as ever */
    uint32_t spoiled;                 /* pbufs that were held and changed */
    uint32_t largest;                 /* payload that left the stack */
    uint8_t last_from[16];            /* source of the packet that left last */
    uint8_t zeros[16384];
    int starve;      /* lwip_platform_malloc has nothing */
    jmp_buf *caught; /* where an assertion of lwIP's goes; NULL: the test fails at once */
} net;

static inline uint32_t net_draw(void) {
    net.entropy ^= net.entropy << 13;
    net.entropy ^= net.entropy >> 7;
    net.entropy ^= net.entropy << 17;
    return (uint32_t)(net.entropy >> 32);
}

/* ---- what lwIP and the port ask of the platform ---- */

u32_t sys_now(void) { return (u32_t)(net.now_us / 1000u); }
uint32_t lwip_platform_rand(void) { return net_draw(); }
void lwip_platform_assert(const char *what, int line, const char *file) {
    if (net.caught)
        longjmp(*net.caught, 1);
    printf("lwIP asserts at %s:%d: %s\n", file, line, what);
    abort();
}
#if MEM_CUSTOM_ALLOCATOR
/* In a shortage there is something left for lwIP's timeouts, for which it asserts. */
static uint32_t platform_blocks;

void *lwip_platform_malloc(size_t size) {
    void *block = net.starve && size > 64 ? NULL : malloc(size);
    platform_blocks += block != NULL;
    return block;
}
void *lwip_platform_calloc(size_t count, size_t size) {
    void *block = lwip_platform_malloc(count * size);
    return block ? memset(block, 0, count * size) : NULL;
}
void lwip_platform_free(void *block) {
    platform_blocks -= block != NULL;
    free(block);
}
#endif

static int entropy(void *ctx, void *out, size_t size) {
    uint8_t *at = (uint8_t *)out;
    (void)ctx;
    while (size-- > 0)
        *at++ = (uint8_t)net_draw();
    return P2P_OK;
}

static void on_wake(void *ctx) {
    (void)ctx;
    net.wakes++;
}

/* ---- the wire ---- */

enum { NEAR_HOST = 1, FAR_HOST = 2 };

#if LWIP_IPV6
static void ip6_of(int host, ip6_addr_t *out) {
    IP6_ADDR(out, PP_HTONL(0xfd000000u), 0, 0, lwip_htonl((u32_t)host));
    ip6_addr_clear_zone(out);
}
#endif

static p2p_addr addr_of(int host, uint16_t port) {
    p2p_addr addr;
    memset(&addr, 0, sizeof addr);
    addr.family = (uint8_t)net.family;
    addr.port = port;
    if (net.family == 4) {
        addr.ip[0] = 10;
        addr.ip[3] = (uint8_t)host;
    } else {
        addr.ip[0] = 0xfd;
        addr.ip[15] = (uint8_t)host;
    }
    return addr;
}

/* What leaves the stack: IP packets, of which the UDP payload goes to the far node. */
static err_t wire_out(struct pbuf *p, size_t heads) {
    carried *to = &net.queue[net.queued % WIRE_QUEUE];
    if (net.answer != ERR_OK)
        return net.answer;
    if (p->tot_len <= heads || p->tot_len - heads > WIRE_ROOM || net.queued == WIRE_QUEUE)
        return ERR_OK;
    to->size = p->tot_len - heads;
    if (to->size > net.largest)
        net.largest = (uint32_t)to->size;
    pbuf_copy_partial(p, net.last_from, heads == 28 ? 4 : 16, heads == 28 ? 12 : 8);
    pbuf_copy_partial(p, to->bytes, (u16_t)to->size, (u16_t)heads);
    net.queued++;
    net.sent++;
    return ERR_OK;
}

static err_t wire_out4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to) {
    (void)netif;
    (void)to;
    return wire_out(p, 28);
}

#if LWIP_IPV6
static err_t wire_out6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to) {
    uint8_t next;
    (void)netif;
    (void)to;
    pbuf_copy_partial(p, &next, 1, 6);
    return next == 17 ? wire_out(p, 48) : ERR_OK; /* not neighbour discovery */
}
#endif

static err_t wire_init(struct netif *netif) {
    netif->name[0] = 'w';
    netif->name[1] = 'i';
    netif->mtu = 1500;
    netif->output = wire_out4;
#if LWIP_IPV6
    netif->output_ip6 = wire_out6;
    netif->mtu6 = 1500;
#endif
    return ERR_OK;
}

/* Bytes as one pbuf, or as a chain of pieces. NULL: lwIP has no memory. */
static struct pbuf *pbuf_of_pieces(const uint8_t *bytes, size_t size) {
    struct pbuf *all = NULL;
    size_t at, step = net.piece ? net.piece : size;
    for (at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)n, net.piece ? PBUF_RAM : PBUF_POOL);
        if (p == NULL) {
            if (all)
                pbuf_free(all);
            return NULL;
        }
        pbuf_take(p, bytes + at, (u16_t)n);
        if (all)
            pbuf_cat(all, p);
        else
            all = p;
    }
    return all;
}

/* The driver's buffers are its own: no shortage of the others concerns them. */
static struct pbuf *pbuf_of(const uint8_t *bytes, size_t size) {
    int starve = net.starve;
    struct pbuf *p;
    net.starve = 0;
    p = pbuf_of_pieces(bytes, size);
    net.starve = starve;
    return p;
}

static void put16(uint8_t *at, size_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* An IPv4 head without a checksum for UDP, which RFC 768 allows. */
static size_t write_ip4(uint8_t *out, size_t payload) {
    u16_t sum;
    memset(out, 0, 28);
    out[0] = 0x45;
    put16(out + 2, 28 + payload);
    out[8] = 64;
    out[9] = 17;
    memcpy(out + 12, addr_of(FAR_HOST, 0).ip, 4);
    memcpy(out + 16, addr_of(NEAR_HOST, 0).ip, 4);
    sum = inet_chksum(out, 20);
    memcpy(out + 10, &sum, 2);
    return 20;
}

static size_t write_ip6(uint8_t *out, size_t payload) {
    memset(out, 0, 48);
    out[0] = 0x60;
    put16(out + 4, 8 + payload);
    out[6] = 17;
    out[7] = 64;
    memcpy(out + 8, addr_of(FAR_HOST, 0).ip, 16);
    memcpy(out + 24, addr_of(NEAR_HOST, 0).ip, 16);
    return 40;
}

/* IPv6 wants the checksum: over the pseudo head, which is laid out before the UDP head. */
static void sum_ip6(uint8_t *udp, size_t size) {
    uint8_t text[40 + WIRE_ROOM];
    u16_t sum;
    memset(text, 0, 40);
    memcpy(text, addr_of(FAR_HOST, 0).ip, 16);
    memcpy(text + 16, addr_of(NEAR_HOST, 0).ip, 16);
    put16(text + 34, size);
    text[39] = 17;
    memcpy(text + 40, udp, size);
    sum = inet_chksum(text, (u16_t)(40 + size));
    memcpy(udp + 6, &sum, 2);
}

/* A UDP datagram of the far host into the stack. */
static void wire_in(const uint8_t *data, size_t size) {
    uint8_t packet[48 + WIRE_ROOM];
    size_t head = net.family == 4 ? write_ip4(packet, size) : write_ip6(packet, size);
    uint8_t *payload;
    struct pbuf *p;
    put16(packet + head, FAR_PORT);
    put16(packet + head + 2, NEAR_PORT);
    put16(packet + head + 4, 8 + size);
    memcpy(packet + head + 8, data, size);
    if (net.family == 6)
        sum_ip6(packet + head, 8 + size);
    p = pbuf_of(packet, head + 8 + size);
    if (p == NULL)
        return;
    if (net.hold)
        pbuf_ref(p);
    payload = (uint8_t *)p->payload;
    if (net.wire.input(p, &net.wire) != ERR_OK)
        pbuf_free(p);
    if (net.hold) {
        net.spoiled += memcmp(payload + head + 8, data, size) != 0;
        pbuf_free(p);
    }
}

/* Bytes that are no packet at all. An Ethernet frame has 46 at least, and lwIP looks at the first
 * four before it asks how many there are. */
static void raw_in(const uint8_t *data, size_t size) {
    struct pbuf *p = size >= 46 ? pbuf_of(data, size) : NULL;
    if (p != NULL && net.wire.input(p, &net.wire) != ERR_OK)
        pbuf_free(p);
}

static int net_families(int turn) { return LWIP_IPV6 && turn % 2 ? 6 : 4; }

/* ---- the two nodes ---- */

static void side_events(side *s) {
    static uint8_t bytes[8192];
    p2p_event event;
    int n;
    while (s->node && p2p_next_event(s->node, &event) > 0) {
        s->events++;
        switch (event.type) {
        case P2P_EVENT_CONNECTED:
            s->connected++;
            s->conn = event.conn;
            break;
        case P2P_EVENT_DISCONNECTED: s->disconnected++; break;
        case P2P_EVENT_READABLE:
            while ((n = p2p_stream_read(s->node, event.stream, bytes, sizeof bytes)) > 0)
                s->got += (uint64_t)n;
            break;
        default: break;
        }
    }
}

static void far_turn(void) {
    uint8_t bytes[WIRE_ROOM];
    p2p_packet packet;
    uint32_t i;
    memset(&packet, 0, sizeof packet);
    packet.remote = addr_of(NEAR_HOST, NEAR_PORT);
    for (i = 0; i < net.queued; i++) {
        packet.data = net.queue[i].bytes;
        packet.size = net.queue[i].size;
        (void)p2p_input(net.far.node, net.now_us, &packet);
    }
    net.queued = 0;
    (void)p2p_poll(net.far.node, net.now_us);
    for (i = 0; i < 64; i++) {
        packet.data = bytes;
        packet.size = sizeof bytes;
        if (p2p_output(net.far.node, net.now_us, &packet) <= 0)
            return;
        wire_in(bytes, packet.size);
    }
}

/* One virtual millisecond. */
static void net_turn(void) {
    net.now_us += MS;
    if (net.far.node)
        far_turn();
    sys_check_timeouts();
    if (!net.by_alarm)
        (void)p2p_lwip_step(&net.io, net.near.node);
    side_events(&net.near);
    side_events(&net.far);
}

static void net_run(uint32_t ms) {
    while (ms-- > 0)
        net_turn();
}

static void net_close(void) {
    if (!net.wire.input)
        return;
    (void)p2p_lwip_step(&net.io, NULL);
    if (net.near.node)
        p2p_node_close(net.near.node);
    if (net.far.node)
        p2p_node_close(net.far.node);
    p2p_lwip_close(&net.io);
    netif_remove(&net.wire);
    free(net.near.arena);
    free(net.far.arena);
    net.wire.input = NULL;
}

static void side_open(side *s) {
    size_t size;
    s->desc.why = &s->why;
    s->desc.allow_anyone = 1;
    size = p2p_arena_size(&s->desc);
    if (size == 0)
        printf("    %s\n", s->why.text);
    CHECK(size != 0);
    s->arena = (uint64_t *)malloc(size);
    CHECK(s->arena != NULL);
    CHECK_INT(p2p_node_open(&s->node, &s->desc, s->arena, size), 0);
}

/* The interface with its addresses, and nothing open. */
static void net_start(int family) {
    static int begun;
    uint64_t begin_us, begin_entropy;
    ip4_addr_t ip, mask, gateway;
    if (!begun++)
        lwip_init();
    net_close(); /* of a test that failed */
    begin_us = net.begin_us;
    begin_entropy = net.begin_entropy;
    memset(&net, 0, sizeof net);
    net.now_us = begin_us ? begin_us : 1000 * MS;
    net.entropy = begin_entropy ? begin_entropy : 0x9e3779b97f4a7c15u;
    net.family = family;
    sys_restart_timeouts(); /* those of before this time */
    IP4_ADDR(&ip, 10, 0, 0, NEAR_HOST);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 10, 0, 0, FAR_HOST);
    CHECK(netif_add(&net.wire, &ip, &mask, &gateway, NULL, wire_init, ip_input) != NULL);
    netif_set_default(&net.wire);
    netif_set_link_up(&net.wire);
    netif_set_up(&net.wire);
#if LWIP_IPV6
    {
        ip6_addr_t ip6;
        ip6_of(NEAR_HOST, &ip6);
        netif_ip6_addr_set(&net.wire, 0, &ip6);
        netif_ip6_addr_set_state(&net.wire, 0, IP6_ADDR_PREFERRED);
    }
#endif
}

static p2p_lwip_desc near_desc(void) {
    p2p_lwip_desc d;
    memset(&d, 0, sizeof d);
    d.port = NEAR_PORT;
    d.random = entropy;
    d.wake = on_wake;
    return d;
}

/* Both nodes; the far one listens. */
static void net_open(int family) {
    p2p_lwip_desc d = near_desc();
    p2p_listener listener;
    net_start(family);
    CHECK_SO_FAR();
    net.near.desc.why = &net.near.why;
    CHECK_INT(p2p_lwip_open(&net.io, &d, &net.near.desc), 0);
    side_open(&net.near);
    CHECK_SO_FAR();
    net.far.desc.random.fill = entropy;
    net.far.desc.link.mtu = 1472;
    net.far.desc.link.local_count = 1;
    net.far.desc.link.local[0] = addr_of(FAR_HOST, FAR_PORT);
    CHECK_INT(p2p_sodium_crypto(&net.far.desc.crypto), 0);
    CHECK_INT(p2p_mbedtls_secure(&net.far.desc.secure), 0);
    side_open(&net.far);
    CHECK_SO_FAR();
    CHECK_INT(p2p_listen(net.far.node, NULL, &listener), 0);
}

static void net_dial(void) {
    p2p_ticket ticket;
    (void)p2p_lwip_step(&net.io, net.near.node);
    CHECK(p2p_ticket_of(net.far.node, &ticket) >= 0);
    CHECK_INT(p2p_peer_add(net.near.node, &ticket), 0);
    CHECK_INT(p2p_connect(net.near.node, &ticket.id, NULL, &net.near.conn), 0);
    CHECK_INT(p2p_lwip_step(&net.io, net.near.node), 1);
}

/* The usual start: both connected. */
static void net_pair(int family) {
    net_open(family);
    CHECK_SO_FAR();
    net_dial();
    CHECK_SO_FAR();
    net_run(200);
    CHECK_INT(net.near.connected, 1);
    CHECK_INT(net.far.connected, 1);
}

/* So many bytes over a stream, from one to the other; how many came within the time. */
static uint64_t net_transfer(side *from, side *to, uint64_t bytes, uint32_t ms) {
    uint64_t before = to->got, left = bytes;
    p2p_stream stream;
    if (p2p_stream_open(from->node, from->conn, NULL, &stream) < 0)
        return 0;
    while (ms-- > 0 && to->got - before < bytes) {
        int n;
        while (left > 0 && (n = p2p_stream_write(from->node, stream, net.zeros,
                                                 left < sizeof net.zeros ? (size_t)left
                                                                         : sizeof net.zeros)) > 0)
            left -= (uint64_t)n;
        net_turn();
    }
    (void)p2p_stream_reset(from->node, stream, 0);
    net_run(50);
    return to->got - before;
}

static p2p_lwip_stats net_stats(void) {
    p2p_lwip_stats stats;
    memset(&stats, 0, sizeof stats);
    (void)p2p_lwip_stats_get(&net.io, &stats);
    return stats;
}

/* What somebody has of lwIP's memory; only good to be compared. */
static uint32_t net_memory_in_use(void) {
#if MEM_CUSTOM_ALLOCATOR
    return platform_blocks;
#else
    return (uint32_t)(lwip_stats.mem.used + lwip_stats.memp[MEMP_PBUF_POOL]->used +
                      lwip_stats.memp[MEMP_PBUF]->used + lwip_stats.memp[MEMP_UDP_PCB]->used);
#endif
}

static uint64_t net_metric(const side *s, uint32_t which) {
    p2p_metrics all;
    p2p_metrics_get(s->node, &all);
    return all.value[which];
}

/* Takes all memory that PBUF_RAM comes from, and gives it back. */
typedef struct hoard {
    struct pbuf *all[4096];
    int count;
} hoard;

static void hoard_take(hoard *h) {
    uint16_t size = 1400;
    h->count = 0;
    net.starve = 1;
    if (MEM_CUSTOM_ALLOCATOR)
        return;
    while (size > 0 && h->count < 4096) {
        struct pbuf *p = pbuf_alloc(PBUF_RAW, size, PBUF_RAM);
        if (p)
            h->all[h->count++] = p;
        else
            size /= 2;
    }
}

static void hoard_give(hoard *h) {
    net.starve = 0;
    while (h->count > 0)
        pbuf_free(h->all[--h->count]);
}
#endif
