/* main.c: a loudspeaker on the network. It gets an address, dials the streamer whose ticket it was
 * given, and plays what it is told to: see speaker_app.h, which also runs on the desktop.
 *
 * Arguments (by semihosting): ticket=TICKET, at=ADDR:PORT in place of the ticket's addresses,
 * outside=ADDR:PORT where others reach it, for its own ticket, key=N the identity, track=NAME and
 * live=1 to play at once, once=1 to end after that, port=N, s=N the seconds after which to give up;
 * and those of board.h and network.h. The last line of output is PASS or FAIL, and the exit code
 * says the same. */
#include "board.h"
#include "network.h"
#include "p2p_lwip.h"
#include "p2p_mbedtls.h"
#include "sound.h"
#include "speaker_desc.h"
#include "lwip/timeouts.h"

static uint64_t arena[SPEAKER_ARENA / 8];
static p2p_lwip io;
static speaker app;

/* ---- the console, for tests ------------------------------------------------------------------ */

static int fail(const char *why, int err) {
    board_print(why);
    if (err < 0)
        board_print_line(", error -", (uint64_t)-err);
    board_print("FAIL\n");
    return 1;
}

static void tell_ready(const p2p_node *node) {
    static p2p_ticket ticket;
    static char text[P2P_TICKET_TEXT_SIZE];
    const char *outside = board_arg("outside");
    if (p2p_ticket_of(node, &ticket) < 0)
        return;
    if (outside != NULL && p2p_addr_parse(outside, &ticket.addrs[0]) >= 0)
        ticket.addr_count = 1;
    if (p2p_ticket_text(&ticket, text) < 0)
        return;
    board_print("ip ");
    board_print(ip4addr_ntoa(netif_ip4_addr(&network)));
    board_print("\nticket ");
    board_print(text);
    board_print("\n");
}

static void tell_played(void) {
    board_print("played ");
    board_print(app.track_name);
    board_print_line(" bytes", app.got);
    board_print("sha256 ");
    board_print(app.sha256);
    board_print_line(app.agreed ? " agreed, lost" : " not agreed, lost", app.packets.lost);
}

static void tell(const p2p_event *e) {
    static uint32_t told;
    if (e->type == P2P_EVENT_CONNECTED && !e->incoming)
        board_print_line("connected at ms", board_now_us(NULL) / 1000);
    if (e->type == P2P_EVENT_DISCONNECTED && !e->incoming)
        board_print_line("disconnected, error -", (uint64_t)-e->err);
    if (app.done && told != app.plays) {
        told = app.plays;
        tell_played();
    }
}

/* ---- the node -------------------------------------------------------------------------------- */

static int open_node(p2p_node **node) {
    static p2p_desc desc;
    static p2p_error_detail why;
    p2p_lwip_desc io_desc;
    p2p_key key;
    uint8_t seed[32] = {0};
    int err;
    memset(&io_desc, 0, sizeof io_desc);
    io_desc.port = (uint16_t)board_arg_number("port", 8800);
    io_desc.random = board_random;
    io_desc.now_us = board_now_us;
    desc.why = &why;
    speaker_desc(&desc);
    err = p2p_lwip_open(&io, &io_desc, &desc);
    if (err < 0)
        return err;
    if (board_arg("key") != NULL) { /* firmware for a product reads it from its flash */
        seed[0] = (uint8_t)board_arg_number("key", 1);
        err = p2p_key_from_seed(&desc.crypto, seed, &key);
        desc.key = &key;
    }
    if (err >= 0)
        err = p2p_node_open(node, &desc, arena, sizeof arena);
    if (err == P2P_ERR_ARENA)
        board_print_line("arena wants", why.max);
    p2p_wipe(&key, sizeof key);
    return err;
}

static int start(p2p_node *node) {
    const char *ticket = board_arg("ticket"), *at = board_arg("at"), *track = board_arg("track");
    p2p_listener listener;
    int err = ticket ? p2p_ticket_parse(ticket, &app.streamer) : P2P_ERR_ARG;
    if (err >= 0 && at != NULL) {
        err = p2p_addr_parse(at, &app.streamer.addrs[0]);
        app.streamer.addr_count = 1;
    }
    if (err >= 0 && track != NULL && !speaker_name_ok(track, strlen(track)))
        err = P2P_ERR_ARG;
    if (err < 0)
        return err;
    if (track != NULL)
        memcpy(app.track_name, track, strlen(track) + 1);
    app.live = board_arg_number("live", 0) != 0;
    app.stay = board_arg_number("once", 0) == 0;
    sound_sink(&app.sink);
    err = p2p_listen(node, NULL, &listener);
    return err < 0 ? err : speaker_start(&app, node);
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Until when there is nothing to do: lwIP's timers and the node's. */
static uint64_t rest_until(const p2p_node *node) {
    uint64_t now = board_now_us(NULL), lwip = now + (uint64_t)sys_timeouts_sleeptime() * 1000;
    return earlier(p2p_deadline(node), lwip);
}

static void turn(p2p_node *node) {
    p2p_event event;
    network_poll();
    (void)p2p_lwip_step(&io, node);
    while (p2p_next_event(node, &event) > 0) {
        speaker_event(&app, node, &event);
        tell(&event);
    }
    speaker_pump(&app, node);
    board_sleep_until(rest_until(node));
}

int main(void) {
    uint64_t end_us = (uint64_t)board_arg_number("s", 0xffffffff) * 1000000;
    p2p_node *node = NULL;
    int err;
    if (network_start() < 0)
        return fail("no Ethernet\n", 0);
    while (ip4_addr_isany_val(*netif_ip4_addr(&network)) && board_now_us(NULL) < end_us) {
        network_poll();
        board_sleep_until(board_now_us(NULL) + 1000);
    }
    err = open_node(&node);
    if (err < 0)
        return fail("the node does not open", err);
    (void)p2p_lwip_step(&io, node);
    tell_ready(node);
    err = start(node);
    if (err < 0)
        return fail("the arguments ticket, at or track are wrong", err);
    while (board_now_us(NULL) < end_us && !(app.done && !app.stay))
        turn(node);
    board_print_line("stack", board_stack_used());
    if (!app.stay && (!app.agreed || strcmp(app.sha256, app.announced) != 0))
        return fail("the track was not played", app.err);
    board_print("PASS\n");
    return 0;
}
