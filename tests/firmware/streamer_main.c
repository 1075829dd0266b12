/* streamer_main.c: the streamer of examples/streamer_app.h as firmware, with music that it makes:
 * what a speaker on another board dials, without any host between them. Arguments: key=N, bytes=N
 * of the track, s=N the seconds to serve, and those of board.h and network.h. */
#include "board.h"
#include "network.h"
#include "p2p_lwip.h"
#include "streamer_app.h"
#include <sodium/crypto_hash_sha256.h>
#include "lwip/timeouts.h"

enum { TRACK_MAX = 400000, HEAD = 44, RATE = 44100 };

static uint64_t arena[200000 / 8];
static uint8_t track[TRACK_MAX];
static p2p_lwip io;
static streamer app;

static int fail(const char *what, int err) {
    board_print(what);
    board_print_line(" -", (uint64_t)-err);
    board_print("FAIL\n");
    return 1;
}

static void hash(const uint8_t *data, size_t size, char out[65]) {
    uint8_t bytes[32];
    size_t i;
    (void)crypto_hash_sha256(bytes, data, size);
    for (i = 0; i < 32; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
}

static void put(size_t at, uint32_t value, int bytes) {
    for (; bytes > 0; bytes--, value >>= 8)
        track[at++] = (uint8_t)value;
}

static void compose(size_t size) {
    size_t i;
    streamer_track *t = &app.tracks[0];
    memcpy(track, "RIFF", 4);
    memcpy(track + 8, "WAVEfmt ", 8);
    put(16, 16, 4);
    put(20, 1, 2);
    put(22, 1, 2);
    put(24, RATE / 2, 4);
    put(28, RATE, 4); /* bytes a second */
    put(32, 2, 2);
    put(34, 16, 2);
    memcpy(track + 36, "data", 4);
    put(40, (uint32_t)(size - HEAD), 4);
    for (i = HEAD; i < size; i++)
        track[i] = (uint8_t)(i * i / 251 + i);
    t->name = "song.wav";
    t->type = "audio/wav";
    t->data = track;
    t->size = size;
    hash(track, size, t->sha256);
    streamer_find_sound(t);
    hash(t->sound, t->sound_size, t->sound_sha256);
    app.track_count = 1;
}

static int open_node(p2p_node **node) {
    static p2p_desc desc;
    static p2p_error_detail why;
    static p2p_lwip_desc io_desc;
    p2p_key key;
    uint8_t seed[32] = {0};
    int err;
    io_desc.port = 8800;
    io_desc.random = board_random;
    io_desc.now_us = board_now_us;
    desc.why = &why;
    streamer_limits(&desc);
    desc.max.conns = 2;
    desc.max.peer_streams = desc.max.streams = 4;
    desc.max.in_flight = 64;
    desc.max.datagrams_out = 16;
    desc.bytes.peer_send = 16384;
    desc.bytes.peer_recv = 2048;
    err = p2p_lwip_open(&io, &io_desc, &desc);
    seed[0] = (uint8_t)board_arg_number("key", 2);
    if (err >= 0)
        err = p2p_key_from_seed(&desc.crypto, seed, &key);
    desc.key = &key;
    if (err >= 0)
        err = p2p_node_open(node, &desc, arena, sizeof arena);
    if (err < 0)
        board_print_line("arena wants", why.max);
    return err;
}

static void tell_ticket(const p2p_node *node) {
    static p2p_ticket ticket;
    static char text[P2P_TICKET_TEXT_SIZE];
    if (p2p_ticket_of(node, &ticket) < 0 || p2p_ticket_text(&ticket, text) < 0)
        return;
    board_print("ticket ");
    board_print(text);
    board_print("\n");
}

static void turn(p2p_node *node) {
    p2p_event event;
    uint64_t until;
    network_poll();
    (void)p2p_lwip_step(&io, node);
    while (p2p_next_event(node, &event) > 0)
        streamer_event(&app, node, &event);
    until = board_now_us(NULL) + (uint64_t)sys_timeouts_sleeptime() * 1000;
    board_sleep_until(until < p2p_deadline(node) ? until : p2p_deadline(node));
}

int main(void) {
    uint64_t end_us = (uint64_t)board_arg_number("s", 60) * 1000000;
    uint32_t heard = 0, size = board_arg_number("bytes", 200000);
    p2p_node *node = NULL;
    int err;
    if (size <= HEAD || size > TRACK_MAX || network_start() < 0)
        return fail("start", 0);
    compose(size);
    while (ip4_addr_isany_val(*netif_ip4_addr(&network)) && board_now_us(NULL) < end_us)
        network_poll();
    err = open_node(&node);
    if (err >= 0)
        err = streamer_start(&app, node);
    if (err < 0)
        return fail("node", err);
    (void)p2p_lwip_step(&io, node);
    tell_ticket(node);
    while (board_now_us(NULL) < end_us) {
        turn(node);
        if (app.heard != heard) {
            board_print("heard ");
            board_print(app.heard_sha256);
            board_print("\n");
        }
        heard = app.heard;
    }
    board_print_line("heard", app.heard);
    board_print_line("differed", app.differed);
    board_print(app.differed ? "FAIL\n" : "PASS\n");
    return app.differed ? 1 : 0;
}
