/* The platform below lwIP for the behaviour suite: clock, entropy, and an interface on sockets. */
#define P2P_LWIP_BURST 4 /* a Unix socket holds ten datagrams */
#define P2P_LWIP_IMPLEMENTATION
#include "lwip_stack.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/init.h"
#include "netif/ethernet.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

enum { FRAME_MAX = 1514 };

static struct {
    struct netif netif;
    int host;
    int cables[LWIP_STACK_HOSTS];
} stack;

uint64_t lwip_stack_now_us(void *ctx) {
    struct timespec now;
    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

u32_t sys_now(void) { return (u32_t)(lwip_stack_now_us(NULL) / 1000u); }

void lwip_platform_assert(const char *what, int line, const char *file) {
    fprintf(stderr, "lwIP asserts at %s:%d: %s\n", file, line, what);
    abort();
}

static int stack_random(void *ctx, void *out, size_t size) {
    (void)ctx;
    return getrandom(out, size, 0) == (ssize_t)size ? P2P_OK : P2P_ERR_IO;
}

uint32_t lwip_platform_rand(void) {
    uint32_t value = 0;
    (void)stack_random(NULL, &value, sizeof value);
    return value;
}

#if MEM_CUSTOM_ALLOCATOR
void *lwip_platform_malloc(size_t size) { return malloc(size); }
void *lwip_platform_calloc(size_t count, size_t size) { return calloc(count, size); }
void lwip_platform_free(void *block) { free(block); }
#endif

/* A switch knows who has which address; what a host's queue has no room for is lost, as in one. */
static err_t stack_output(struct netif *netif, struct pbuf *p) {
    uint8_t frame[FRAME_MAX];
    int i;
    (void)netif;
    LWIP_ASSERT("a frame of Ethernet's size", p->tot_len <= FRAME_MAX);
    pbuf_copy_partial(p, frame, p->tot_len, 0);
    for (i = 0; i < LWIP_STACK_HOSTS; i++) {
        bool to_all = (frame[0] & 1) != 0;
        if (i != stack.host && (to_all || frame[5] == i + 1))
            (void)send(stack.cables[i], frame, p->tot_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return ERR_OK;
}

static err_t stack_netif(struct netif *netif) {
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 0};
    netif->name[0] = 'e';
    netif->name[1] = 'n';
    netif->mtu = 1500;
    netif->hwaddr_len = 6;
    memcpy(netif->hwaddr, mac, 6);
    netif->hwaddr[5] = (uint8_t)(stack.host + 1);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_MLD6;
    netif->output = etharp_output;
    netif->output_ip6 = ethip6_output;
    netif->linkoutput = stack_output;
    return ERR_OK;
}

void lwip_stack_start(int host, const int cables[LWIP_STACK_HOSTS]) {
    ip4_addr_t ip, mask, gateway;
    ip6_addr_t ip6;
    stack.host = host;
    memcpy(stack.cables, cables, sizeof stack.cables);
    lwip_init();
    IP4_ADDR(&ip, 10, 0, 0, host + 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    ip4_addr_set_zero(&gateway);
    if (!netif_add(&stack.netif, &ip, &mask, &gateway, NULL, stack_netif, ethernet_input))
        abort();
    netif_set_default(&stack.netif);
    netif_set_link_up(&stack.netif);
    netif_set_up(&stack.netif);
    netif_create_ip6_linklocal_address(&stack.netif, 1);
    netif_ip6_addr_set_state(&stack.netif, 0, IP6_ADDR_PREFERRED);
    IP6_ADDR(&ip6, PP_HTONL(0xfd000000u), 0, 0, lwip_htonl((u32_t)host + 1));
    ip6_addr_clear_zone(&ip6);
    netif_ip6_addr_set(&stack.netif, 1, &ip6);
    netif_ip6_addr_set_state(&stack.netif, 1, IP6_ADDR_PREFERRED);
}

int lwip_stack_open(p2p_lwip *io, p2p_desc *desc) {
    p2p_lwip_desc d;
    memset(&d, 0, sizeof d);
    d.now_us = lwip_stack_now_us;
    d.random = stack_random;
    return p2p_lwip_open(io, &d, desc);
}

/* 1: a frame came. */
static int stack_input(int cable) {
    uint8_t frame[FRAME_MAX];
    ssize_t size = recv(cable, frame, sizeof frame, MSG_DONTWAIT);
    struct pbuf *p;
    if (size <= 0)
        return 0;
    p = pbuf_alloc(PBUF_RAW, (u16_t)size, PBUF_POOL);
    if (p == NULL)
        return 1;
    pbuf_take(p, frame, (u16_t)size);
    if (stack.netif.input(p, &stack.netif) != ERR_OK)
        pbuf_free(p);
    return 1;
}

int lwip_stack_turn(p2p_lwip *io, p2p_node *node) {
    int i, done = 0, left = 32;
    for (i = 0; i < LWIP_STACK_HOSTS; i++)
        while (i != stack.host && left-- > 0 && stack_input(stack.cables[i]))
            done++;
    sys_check_timeouts();
    return done + p2p_lwip_step(io, node);
}
