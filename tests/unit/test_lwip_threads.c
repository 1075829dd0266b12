/* ports/p2p_lwip.h where lwIP has a thread of its own, in real time: the node runs there by itself,
 * and the program reaches it through the core lock, or through the mailbox.
 *
 * Two nodes sit on one lwIP, and the interface is a mirror: it exchanges source and destination of
 * each packet and gives it back. So each finds the other at 10.0.0.2, and no checksum changes. */
#ifndef NO_SYS
#define NO_SYS 0
#endif
#define P2P_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_LWIP_IMPLEMENTATION
#include "p2p_lwip.h"
#include "lwip/tcpip.h"
#include "p2p_test.h"
#include <setjmp.h>
#include <sys/random.h>

enum { PATIENCE_MS = 10000, BYTES = 300000 };

typedef struct end {
    p2p_lwip io;
    p2p_desc desc;
    p2p_error_detail why;
    p2p_node *node;
    uint64_t *arena;
    p2p_conn conn;
    p2p_stream stream;
    int err, connected;
    uint64_t got;
} end;

static struct {
    struct netif mirror;
    sys_sem_t begun, done, awake;
    end a, b;
} world;
static jmp_buf *caught;

void lwip_platform_assert(const char *what, int line, const char *file) {
    if (caught)
        longjmp(*caught, 1);
    printf("lwIP asserts at %s:%d: %s\n", file, line, what);
    abort();
}

static int entropy(void *ctx, void *out, size_t size) {
    (void)ctx;
    return getrandom(out, size, 0) == (ssize_t)size ? P2P_OK : P2P_ERR_IO;
}

uint32_t lwip_platform_rand(void) {
    uint32_t value = 0;
    (void)entropy(NULL, &value, sizeof value);
    return value;
}

/* ---- getting into lwIP's thread ---- */

typedef struct errand {
    void (*run)(end *e);
    end *e;
} errand;

#if LWIP_TCPIP_CORE_LOCKING
static void in_lwip(void (*run)(end *e), end *e) {
    LOCK_TCPIP_CORE();
    run(e);
    UNLOCK_TCPIP_CORE();
}
#else
static void do_errand(void *ctx) {
    const errand *it = (const errand *)ctx;
    it->run(it->e);
    sys_sem_signal(&world.done);
}
static void in_lwip(void (*run)(end *e), end *e) {
    errand it;
    it.run = run;
    it.e = e;
    if (tcpip_callback(do_errand, &it) == ERR_OK)
        sys_arch_sem_wait(&world.done, 0);
}
#endif

/* ---- the mirror ---- */

static err_t mirror_out(struct netif *netif, struct pbuf *p, const ip4_addr_t *to) {
    uint8_t heads[8];
    struct pbuf *image = pbuf_clone(PBUF_RAW, PBUF_POOL, p);
    (void)to;
    if (image == NULL)
        return ERR_MEM;
    pbuf_copy_partial(p, heads, 8, 12);
    pbuf_take_at(image, heads + 4, 4, 12);
    pbuf_take_at(image, heads, 4, 16);
    if (netif->input(image, netif) != ERR_OK)
        pbuf_free(image); /* the mailbox is full: lost */
    return ERR_OK;
}

static err_t mirror_init(struct netif *netif) {
    netif->name[0] = 'm';
    netif->name[1] = 'i';
    netif->mtu = 1500;
    netif->output = mirror_out;
    return ERR_OK;
}

static void mirror_add(end *e) {
    ip4_addr_t ip, mask, gateway;
    (void)e;
    IP4_ADDR(&ip, 10, 0, 0, 1);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    ip4_addr_set_zero(&gateway);
    netif_add(&world.mirror, &ip, &mask, &gateway, NULL, mirror_init, tcpip_input);
    netif_set_default(&world.mirror);
    netif_set_link_up(&world.mirror);
    netif_set_up(&world.mirror);
}

/* ---- the two ends; all of this in lwIP's thread ---- */

static void on_wake(void *ctx) {
    (void)ctx;
    sys_sem_signal(&world.awake);
}

static void end_open(end *e) {
    p2p_lwip_desc d;
    p2p_listener listener;
    size_t size;
    memset(&d, 0, sizeof d);
    d.port = e == &world.a ? 8800 : 7000;
    d.random = entropy;
    d.wake = on_wake;
    e->desc.why = &e->why;
    e->desc.allow_anyone = 1;
    e->err = p2p_lwip_open(&e->io, &d, &e->desc);
    size = e->err < 0 ? 0 : p2p_arena_size(&e->desc);
    e->arena = (uint64_t *)malloc(size ? size : 1);
    if (e->err >= 0)
        e->err = p2p_node_open(&e->node, &e->desc, e->arena, size);
    if (e->err >= 0)
        e->err = p2p_listen(e->node, NULL, &listener);
    if (e->err >= 0)
        e->err = p2p_lwip_step(&e->io, e->node);
}

static void end_close(end *e) {
    (void)p2p_lwip_step(&e->io, NULL);
    if (e->node)
        p2p_node_close(e->node);
    p2p_lwip_close(&e->io);
    free(e->arena);
    memset(e, 0, sizeof *e);
}

static void dial(end *e) {
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    ticket.id = *p2p_node_id(world.b.node);
    e->err = p2p_addr_parse("10.0.0.2:7000", &ticket.addrs[0]);
    ticket.addr_count = 1;
    if (e->err >= 0)
        e->err = p2p_peer_add(e->node, &ticket);
    if (e->err >= 0)
        e->err = p2p_connect(e->node, &ticket.id, NULL, &e->conn);
    if (e->err >= 0)
        e->err = p2p_lwip_step(&e->io, e->node);
}

static void take_events(end *e) {
    static uint8_t bytes[8192];
    p2p_event event;
    int n;
    while (p2p_next_event(e->node, &event) > 0) {
        if (event.type == P2P_EVENT_CONNECTED)
            e->connected = 1;
        if (event.type == P2P_EVENT_READABLE)
            while ((n = p2p_stream_read(e->node, event.stream, bytes, sizeof bytes)) > 0)
                e->got += (uint64_t)n;
    }
    (void)p2p_lwip_step(&e->io, e->node);
}

static void write_some(end *e) {
    static const uint8_t zeros[8192];
    if (!e->stream.id)
        e->err = p2p_stream_open(e->node, e->conn, NULL, &e->stream);
    while (e->err >= 0 && p2p_stream_write(e->node, e->stream, zeros, sizeof zeros) > 0) {}
    (void)p2p_lwip_step(&e->io, e->node);
}

/* ---- the program, in a thread of its own ---- */

static void on_begun(void *ctx) {
    (void)ctx;
    sys_sem_signal(&world.begun);
}

static void world_begin(void) {
    static int done;
    if (done++) {
        in_lwip(end_close, &world.a); /* of a test that failed */
        in_lwip(end_close, &world.b);
        return;
    }
    sys_sem_new(&world.begun, 0);
    sys_sem_new(&world.done, 0);
    sys_sem_new(&world.awake, 0);
    tcpip_init(on_begun, NULL);
    sys_arch_sem_wait(&world.begun, 0);
    in_lwip(mirror_add, NULL);
}

/* Waits for a node to wake the program, and takes the events of both. */
static int woken(void) {
    if (sys_arch_sem_wait(&world.awake, PATIENCE_MS) == SYS_ARCH_TIMEOUT)
        return 0;
    in_lwip(take_events, &world.a);
    in_lwip(take_events, &world.b);
    return 1;
}

TEST(nodes_run_in_lwips_thread) {
    world_begin();
    in_lwip(end_open, &world.a);
    CHECK_INT(world.a.err, 0);
    in_lwip(end_open, &world.b);
    CHECK_INT(world.b.err, 0);
    in_lwip(dial, &world.a);
    CHECK(world.a.err >= 0);
    while (!world.a.connected || !world.b.connected)
        CHECK(woken());
    while (world.b.got < BYTES) {
        in_lwip(write_some, &world.a);
        CHECK(world.a.err >= 0);
        CHECK(woken());
    }
    in_lwip(end_close, &world.a);
    in_lwip(end_close, &world.b);
}

/* Each of the port's functions, from a thread that has no business there. */
TEST(another_thread_is_caught) {
    jmp_buf back;
    volatile int caught_count = 0;
    p2p_lwip_desc d;
    world_begin();
    memset(&d, 0, sizeof d);
    d.random = entropy;
    caught = &back;
    if (setjmp(back) == 0)
        (void)p2p_lwip_open(&world.a.io, &d, &world.a.desc);
    else
        caught_count++;
    if (setjmp(back) == 0)
        (void)p2p_lwip_step(&world.a.io, NULL);
    else
        caught_count++;
    if (setjmp(back) == 0)
        p2p_lwip_close(&world.a.io);
    else
        caught_count++;
    caught = NULL;
    CHECK_INT(caught_count, 3);
    in_lwip(end_open, &world.a); /* and where they belong they are well */
    CHECK_INT(world.a.err, 0);
    in_lwip(end_close, &world.a);
}

TEST_MAIN(P2P_TEST_ENTRY(nodes_run_in_lwips_thread), P2P_TEST_ENTRY(another_thread_is_caught))
