/* A Pico W on the network: it prints its ticket on the serial line and answers GET /hello.
 *     p2p get TICKET /hello */
#include "p2p_mbedtls.h"
#include "p2p_pico.h"
#include "pico/cyw43_arch.h"
#include "pico/stdlib.h"
#include <stdio.h>

static uint64_t
    arena[(P2P_ARENA_NODE + P2P_ARENA_CONNS(2, 0) + P2P_ARENA_IN_FLIGHT(24) +
           2 * P2P_ARENA_STREAMS(2, 1024, 1024) + P2P_ARENA_DATAGRAMS(2) + P2P_ARENA_PEERS(2) +
           P2P_ARENA_ROUTES(1) + P2P_MBEDTLS_ARENA_SIZE(2, 1) + 7) /
          8];
static p2p_lwip io;

static void hello(p2p_node *node, const p2p_request *request, void *ctx) {
    (void)ctx;
    (void)p2p_reply(node, request->stream, 200, NULL, 0, "hello\n", 6);
}

static void limits(p2p_desc *desc) {
    desc->allow_anyone = 1; /* whoever holds the ticket */
    desc->max.conns = 2;
    desc->max.half_open = 1;
    desc->max.streams = 2;
    desc->max.peer_streams = 2;
    desc->max.routes = 1;
    desc->max.peers = 2;
    desc->max.in_flight = 24;
    desc->max.datagrams_in = 2;
    desc->max.datagrams_out = P2P_NONE;
    desc->bytes.stream_send = desc->bytes.stream_recv = 1024;
    desc->bytes.peer_send = desc->bytes.peer_recv = 1024;
    desc->bytes.message_max = P2P_NONE;
}

static int open_node(p2p_node **node) {
    static const p2p_route route = {P2P_GET, 0, "/hello", hello, NULL};
    static p2p_desc desc;
    static p2p_error_detail why;
    p2p_lwip_desc io_desc;
    p2p_listener listener;
    int err;
    p2p_pico_desc(&io_desc);
    io_desc.port = 8800;
    desc.why = &why;
    limits(&desc); /* desc.key stays NULL: a fresh key each time; keep yours in flash */
    err = p2p_lwip_open(&io, &io_desc, &desc);
    if (err >= 0)
        err = p2p_node_open(node, &desc, arena, sizeof arena);
    if (err >= 0)
        err = p2p_route_add(*node, &route);
    if (err >= 0)
        err = p2p_listen(*node, NULL, &listener);
    if (err < 0)
        printf("error %d: %s\n", err, why.text);
    return err;
}

static void print_ticket(const p2p_node *node) {
    static p2p_ticket ticket;
    static char text[P2P_TICKET_TEXT_SIZE];
    if (p2p_ticket_of(node, &ticket) >= 0 && p2p_ticket_text(&ticket, text) >= 0)
        printf("%s\n", text);
}

int main(void) {
    p2p_node *node;
    p2p_event event;
    stdio_init_all();
    if (cyw43_arch_init() != 0)
        return 1;
    cyw43_arch_enable_sta_mode();
    while (cyw43_arch_wifi_connect_timeout_ms(WIFI_SSID, WIFI_PASSWORD, CYW43_AUTH_WPA2_AES_PSK,
                                              30000) != 0)
        printf("no Wi-Fi yet\n");
    if (open_node(&node) < 0)
        return 1;
    (void)p2p_lwip_step(&io, node);
    print_ticket(node);
    for (;;) {
        cyw43_arch_poll();
        (void)p2p_lwip_step(&io, node);
        while (p2p_next_event(node, &event) > 0)
            ; /* the handler runs by itself */
        cyw43_arch_wait_for_work_until(make_timeout_time_ms(10));
    }
}
