/* music_service: an HTTP-like service by one table of routes. Dial it with the command `p2p`:
 *
 *     music_service [ADDR:PORT]              prints its ticket, serves until Ctrl-C
 *     p2p call GET  TICKET /music/tracks
 *     p2p call GET  TICKET /music/tracks/2
 *     p2p call PUT  TICKET /music/volume --body FILE --header 'authorization: open sesame'
 *     p2p call POST TICKET /music/play/2                   answered when the "song" is over */
#define P2P_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACKS = 3, SONG_US = 300000, TIMER_SONG = 0 };
static const char *const titles[TRACKS] = {"Prelude", "Fugue", "Allemande"};

typedef struct jukebox {
    uint32_t volume;
    p2p_stream listener; /* who waits for the end of the song; 0: nobody */
} jukebox;

static const p2p_header json_type[] = {{P2P_STR("content-type"), P2P_STR("application/json")}};

static void reply_json(p2p_node *node, const p2p_request *q, int status, const char *text,
                       int size) {
    (void)p2p_reply(node, q->stream, status, json_type, 1, text, (size_t)size);
}

/* 1 to TRACKS, or 0 for a track that is not there. */
static uint64_t track_of(const p2p_request *q) {
    uint64_t number = 0;
    if (p2p_str_u64(p2p_param(q, "id"), &number) < 0 || number > TRACKS)
        return 0;
    return number;
}

static void get_tracks(p2p_node *node, const p2p_request *q, void *ctx) {
    char text[256];
    int i, n = snprintf(text, sizeof text, "[");
    (void)ctx;
    for (i = 0; i < TRACKS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s{\"id\":%d,\"title\":\"%s\"}",
                      i ? "," : "", i + 1, titles[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "]");
    reply_json(node, q, 200, text, n);
}

static void get_track(p2p_node *node, const p2p_request *q, void *ctx) {
    char text[96];
    uint64_t number = track_of(q);
    (void)ctx;
    if (number == 0)
        reply_json(node, q, 404, "{\"error\":\"no such track\"}", 25);
    else
        reply_json(node, q, 200, text,
                   snprintf(text, sizeof text, "{\"id\":%u,\"title\":\"%s\"}", (unsigned)number,
                            titles[number - 1]));
}

static void put_volume(p2p_node *node, const p2p_request *q, void *ctx) {
    jukebox *box = (jukebox *)ctx;
    p2p_str text;
    uint64_t value = 0;
    text.data = (const char *)q->body.data;
    text.size = q->body.size;
    if (p2p_str_u64(text, &value) < 0 || value > 100) {
        reply_json(node, q, 400, "{\"error\":\"0 to 100\"}", 20);
        return;
    }
    box->volume = (uint32_t)value;
    (void)p2p_reply(node, q->stream, 204, NULL, 0, NULL, 0);
}

/* Answered later: the handler returns at once, the timer replies. */
static void post_play(p2p_node *node, const p2p_request *q, void *ctx) {
    jukebox *box = (jukebox *)ctx;
    if (track_of(q) == 0) {
        reply_json(node, q, 404, "{\"error\":\"no such track\"}", 25);
        return;
    }
    if (box->listener.id) {
        reply_json(node, q, 409, "{\"error\":\"a song is playing\"}", 29);
        return;
    }
    box->listener = q->stream;
    (void)p2p_reply_later(node, q->stream);
    (void)p2p_timer_set(node, TIMER_SONG, p2p_now(node) + SONG_US);
}

/* Changes need a word; reading does not. */
static int guard(void *ctx, const p2p_request *q) {
    (void)ctx;
    if (q->method != P2P_PUT ||
        p2p_str_equal(p2p_request_header(q, "authorization"), "open sesame"))
        return 0;
    return 401;
}

static jukebox box;
static const p2p_route routes[] = {{P2P_GET, 0, "/tracks", get_tracks, NULL},
                                   {P2P_GET, 0, "/tracks/:id", get_track, NULL},
                                   {P2P_PUT, 0, "/volume", put_volume, &box},
                                   {P2P_POST, 0, "/play/:id", post_play, &box}};
static const p2p_service service = {"/music", routes, 4, guard, NULL};

/* ---- driving --------------------------------------------------------------------------------- */

static p2p_posix io;
static volatile sig_atomic_t stopping;

static void on_signal(int number) {
    int saved = errno;
    (void)number;
    stopping = 1;
    p2p_posix_wake(&io);
    errno = saved;
}

static void drive(p2p_node *node) {
    p2p_event e;
    bool told = false;
    while (p2p_posix_step(&io, node, -1) >= 0) {
        if (stopping && !told) {
            told = true;
            (void)p2p_node_stop(node, 0);
        }
        while (p2p_next_event(node, &e) > 0) {
            if (e.type == P2P_EVENT_STOPPED)
                return;
            if (e.type == P2P_EVENT_TIMER && e.code == TIMER_SONG) {
                (void)p2p_reply(node, box.listener, 200, json_type, 1, "{\"played\":true}", 15);
                box.listener.id = 0;
            }
        }
    }
}

int main(int argc, char **argv) {
    static p2p_desc desc;
    static uint64_t arena[1 << 18];
    const char *bind = argc > 1 ? argv[1] : NULL;
    p2p_posix_desc sockets;
    p2p_error_detail why;
    p2p_listener listener;
    p2p_node *node = NULL;
    p2p_ticket ticket;
    char text[P2P_TICKET_TEXT_SIZE];
    memset(&sockets, 0, sizeof sockets);
    memset(&why, 0, sizeof why);
    sockets.bind = bind ? &bind : NULL;
    sockets.bind_count = bind ? 1 : 0;
    desc.why = &why;
    desc.allow_anyone = 1;
    desc.time.stop_us = 500000;
    desc.bytes.message_max = P2P_NONE;
    if (p2p_posix_open(&io, &sockets, &desc) < 0 ||
        p2p_node_open(&node, &desc, arena, sizeof arena) < 0) {
        (void)fprintf(stderr, "music_service: %s\n", why.text);
        return 1;
    }
    if (p2p_service_add(node, &service) < 0 || p2p_listen(node, NULL, &listener) < 0 ||
        p2p_ticket_of(node, &ticket) < 0 || p2p_ticket_text(&ticket, text) < 0) {
        (void)fputs("music_service: the node does not listen\n", stderr);
        return 1;
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    (void)printf("%s\n", text);
    (void)fflush(stdout);
    drive(node);
    p2p_node_close(node);
    p2p_posix_close(&io);
    return 0;
}
