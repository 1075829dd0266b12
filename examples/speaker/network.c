/* network.c: the board's Ethernet as lwIP's network interface, with an address by DHCP. */
#include "network.h"
#include "board.h"
#include "lwip/dhcp.h"
#include "lwip/etharp.h"
#include "lwip/init.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"
#include <string.h>

enum { FRAMES_A_TURN = 16, LINK_LOOK_MS = 100, FRAME_MIN = 60, FRAME_MAX = 1514 };

struct netif network;

/* ---- what lwIP asks of a port without an operating system ------------------------------------ */

u32_t sys_now(void) { return (u32_t)(board_now_us(NULL) / 1000); }

uint32_t lwip_platform_rand(void) {
    uint32_t number = 0;
    (void)board_random(NULL, &number, sizeof number);
    return number;
}

void lwip_platform_assert(const char *what, int line, const char *file) {
    board_print(file);
    board_print_line(":", (uint64_t)line);
    board_print(what);
    board_print("\n");
    board_exit(97);
}

/* ---- out ------------------------------------------------------------------------------------- */

static err_t send_frame(struct netif *netif, struct pbuf *frame) {
    static const uint8_t zeros[FRAME_MIN];
    uint32_t size = frame->tot_len, padded = size < FRAME_MIN ? FRAME_MIN : size;
    const struct pbuf *part;
    (void)netif;
    if (!board_eth_begin(padded))
        return ERR_MEM;
    for (part = frame; part != NULL; part = part->next)
        board_eth_write(part->payload, part->len);
    board_eth_write(zeros, padded - size);
    board_eth_end();
    return ERR_OK;
}

/* ---- in -------------------------------------------------------------------------------------- */

/* NULL: damaged, too long, or no memory; then the frame is lost, as on any Ethernet. */
static struct pbuf *read_frame(void) {
    uint32_t size = board_eth_size();
    struct pbuf *frame = NULL, *part;
    if (size > 0 && size <= FRAME_MAX)
        frame = pbuf_alloc(PBUF_RAW, (u16_t)size, PBUF_POOL);
    for (part = frame; part != NULL; part = part->next)
        board_eth_read(part->payload, part->len);
    board_eth_done();
    return frame;
}

static void read_frames(void) {
    struct pbuf *frame;
    int i;
    for (i = 0; i < FRAMES_A_TURN && board_eth_waiting(); i++) {
        frame = read_frame();
        if (frame != NULL && network.input(frame, &network) != ERR_OK)
            (void)pbuf_free(frame);
    }
}

/* ---- the interface --------------------------------------------------------------------------- */

static void follow_link(void) {
    static u32_t looked;
    bool up;
    if (sys_now() - looked < LINK_LOOK_MS)
        return;
    looked = sys_now();
    up = board_eth_link();
    if (up && !netif_is_link_up(&network))
        netif_set_link_up(&network);
    if (!up && netif_is_link_up(&network))
        netif_set_link_down(&network);
}

static err_t prepare(struct netif *netif) {
    netif->name[0] = 'e';
    netif->name[1] = 'n';
    netif->mtu = 1500;
    netif->output = etharp_output;
    netif->linkoutput = send_frame;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    return ERR_OK;
}

int network_start(void) {
    uint8_t mac[6] = {0x52, 0x54, 0x00, 0x70, 0x32, 0x00};
    uint32_t fixed = board_arg_number("ip", 0);
    ip4_addr_t ip, mask, gateway;
    mac[5] = (uint8_t)board_arg_number("mac", 1);
    if (board_eth_start(mac) < 0)
        return -1;
    lwip_init();
    IP4_ADDR(&ip, 10, 0, 7, fixed);
    IP4_ADDR(&mask, 255, 255, 255, 0);
    IP4_ADDR(&gateway, 10, 0, 7, 1);
    network.hwaddr_len = sizeof mac;
    memcpy(network.hwaddr, mac, sizeof mac);
    if (netif_add(&network, fixed ? &ip : NULL, fixed ? &mask : NULL, fixed ? &gateway : NULL, NULL,
                  prepare, ethernet_input) == NULL)
        return -1;
    netif_set_default(&network);
    netif_set_up(&network);
    if (board_eth_link())
        netif_set_link_up(&network);
    return fixed == 0 && dhcp_start(&network) != ERR_OK ? -1 : 0;
}

void network_poll(void) {
    follow_link();
    read_frames();
    sys_check_timeouts();
}
