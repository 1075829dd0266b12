/* speaker_posix: plays one track of a streamer into a file.
 *
 *     speaker_posix TICKET NAME OUTPUT
 *
 * Routes and event handler are in speaker_app.h; here is only what the world needs: a file in place
 * of a loudspeaker, sockets, a clock, Ctrl-C. The exit code is 0 when both ends have the same
 * SHA-256. */
#define P2P_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "speaker_app.h"

#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct loudspeaker {
    FILE *file;
    crypto_hash_sha256_state hash;
    bool broken;
} loudspeaker;

static p2p_posix io;
static volatile sig_atomic_t stopping;

static void on_signal(int number) {
    int saved = errno;
    (void)number;
    stopping = 1;
    p2p_posix_wake(&io);
    errno = saved;
}

static int fail(const char *what, const char *why) {
    (void)fprintf(stderr, "speaker: %s: %s\n", what, why);
    return 1;
}

static size_t take(void *ctx, const uint8_t *data, size_t size) {
    loudspeaker *l = (loudspeaker *)ctx;
    l->broken = l->broken || fwrite(data, 1, size, l->file) != size;
    (void)crypto_hash_sha256_update(&l->hash, data, size);
    return size;
}

static void end(void *ctx, char sha256[65]) {
    loudspeaker *l = (loudspeaker *)ctx;
    uint8_t hash[crypto_hash_sha256_BYTES];
    (void)crypto_hash_sha256_final(&l->hash, hash);
    (void)sodium_bin2hex(sha256, 65, hash, sizeof hash);
}

static void drive(p2p_node *node, speaker *app) {
    p2p_event e;
    bool told = false;
    while (p2p_posix_step(&io, node, -1) >= 0) {
        while (p2p_next_event(node, &e) > 0) {
            if (e.type == P2P_EVENT_STOPPED)
                return;
            speaker_event(app, node, &e);
        }
        if ((stopping || app->done) && !told) {
            told = true;
            (void)p2p_node_stop(node, 0);
        }
    }
}

static int report(const speaker *app) {
    char at[P2P_ADDR_TEXT_SIZE] = "?", id[P2P_ID_TEXT_SIZE];
    uint64_t us = app->ended_us - app->started_us + 1;
    if (!app->done || app->err < 0)
        return fail(app->track_name, app->err < 0 ? p2p_err_text(app->err) : "interrupted");
    (void)p2p_id_text(&app->streamer.id, id);
    (void)p2p_addr_text(&app->stats.remote, at);
    (void)printf("streamer    %s\n", id);
    (void)printf("path        %s %s\n", app->stats.relayed ? "relayed," : "direct,", at);
    (void)printf("round trip  %u us (least %u us)\n", app->stats.rtt_us, app->stats.rtt_min_us);
    (void)printf("rate        %llu Mbit/s: %llu bytes in %llu ms\n",
                 (unsigned long long)(app->got * 8 / us), (unsigned long long)app->got,
                 (unsigned long long)(us / 1000));
    (void)printf("volume      %u, as the streamer set it\n", app->volume);
    (void)printf("sha256      %s\n", app->sha256);
    if (!app->agreed || strcmp(app->sha256, app->announced) != 0)
        return fail(app->track_name, "the streamer's bytes have another SHA-256");
    return 0;
}

static int run(speaker *app, loudspeaker *l) {
    static p2p_desc desc;
    p2p_error_detail why;
    p2p_node *node = NULL;
    char id[P2P_ID_TEXT_SIZE];
    void *arena;
    size_t size;
    memset(&why, 0, sizeof why);
    desc.why = &why;
    desc.time.stop_us = 500000;
    speaker_limits(&desc);
    if (p2p_posix_open(&io, NULL, &desc) < 0)
        return fail("sockets", why.text);
    size = p2p_arena_size(&desc);
    arena = malloc(size ? size : 1);
    if (!arena || p2p_node_open(&node, &desc, arena, size) < 0)
        return fail("node", why.text);
    (void)p2p_id_text(p2p_node_id(node), id);
    (void)printf("speaker     %s\n", id);
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    if (speaker_start(app, node) >= 0)
        drive(node, app);
    p2p_node_close(node);
    p2p_posix_close(&io);
    free(arena);
    if (fclose(l->file) != 0 || l->broken)
        return fail("output", "it could not be written whole: is the disk full?");
    return report(app);
}

int main(int argc, char **argv) {
    static speaker app;
    static loudspeaker l;
    if (argc != 4 || strlen(argv[2]) >= SPEAKER_NAME || sodium_init() < 0) {
        (void)fputs("usage: speaker_posix TICKET NAME OUTPUT\n", stderr);
        return 2;
    }
    if (p2p_ticket_parse(argv[1], &app.streamer) < 0)
        return fail("ticket", "it is damaged: copy it again, whole");
    memcpy(app.track_name, argv[2], strlen(argv[2]) + 1);
    l.file = fopen(argv[3], "wb");
    if (!l.file)
        return fail(argv[3], strerror(errno));
    (void)crypto_hash_sha256_init(&l.hash);
    app.sink.take = take;
    app.sink.end = end;
    app.sink.ctx = &l;
    return run(&app, &l);
}
