/* streamer: offers audio files to whoever holds its ticket, until Ctrl-C.
 *
 *     streamer [--key FILE] [--listen ADDR[:PORT]] FILE...
 *
 * Without --key it is somebody new each time ('p2p keygen FILE' makes one); without --listen it
 * takes any port of every address. Prints its ticket in the first line of stdout. Routes and event
 * handler are in streamer_app.h; here is only what the world needs: mapped files, sockets, a clock,
 * Ctrl-C. */
#define P2P_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "streamer_app.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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
    (void)fprintf(stderr, "streamer: %s: %s\n", what, why);
    return 1;
}

static void hash_of(const uint8_t *data, size_t size, char out[65]) {
    uint8_t hash[crypto_hash_sha256_BYTES];
    (void)crypto_hash_sha256(hash, data, size);
    (void)sodium_bin2hex(out, 65, hash, sizeof hash);
}

/* Maps a file into memory, so that a transfer needs no buffer of its own, and hashes it. */
static int add_track(streamer *app, const char *path) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    streamer_track *track = &app->tracks[app->track_count];
    struct stat info;
    void *data;
    int fd;
    if (app->track_count == STREAMER_TRACKS)
        return fail(path, "too many files");
    if (!*name || name[strspn(name, allowed)] || strlen(name) > 60)
        return fail(path, "name it with up to 60 letters, digits, '.', '-' and '_'");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) < 0)
        return fail(path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size <= 0)
        return fail(path, "not a file with something in it");
    data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    (void)close(fd);
    if (data == MAP_FAILED)
        return fail(path, strerror(errno));
    track->name = name;
    track->data = (const uint8_t *)data;
    track->size = (size_t)info.st_size;
    hash_of(track->data, track->size, track->sha256);
    streamer_find_sound(track);
    if (track->sound)
        hash_of(track->sound, track->sound_size, track->sound_sha256);
    track->type = track->sound ? "audio/wav" : "application/octet-stream";
    app->track_count++;
    return 0;
}

static int print_ticket(const p2p_node *node) {
    p2p_ticket ticket;
    char text[P2P_TICKET_TEXT_SIZE], id[P2P_ID_TEXT_SIZE];
    if (p2p_ticket_of(node, &ticket) < 0 || p2p_ticket_text(&ticket, text) < 0)
        return fail("ticket", "it cannot be made");
    (void)p2p_id_text(p2p_node_id(node), id);
    (void)printf("%s\n", text);
    (void)fflush(stdout);
    (void)fprintf(stderr, "streamer: NodeId %s\n", id);
    return 0;
}

static void tell(const streamer *app, const p2p_event *e) {
    static uint32_t heard, differed;
    char brief[11];
    (void)p2p_id_short(&e->peer, brief);
    if (e->type == P2P_EVENT_CONNECTED)
        (void)fprintf(stderr, "streamer: %s connected\n", brief);
    if (e->type == P2P_EVENT_DISCONNECTED)
        (void)fprintf(stderr, "streamer: %s left\n", brief);
    if (app->heard != heard)
        (void)fprintf(stderr, "streamer: heard with SHA-256 %s\n", app->heard_sha256);
    if (app->differed != differed)
        (void)fprintf(stderr, "streamer: heard with ANOTHER SHA-256\n");
    heard = app->heard;
    differed = app->differed;
}

static void drive(p2p_node *node, streamer *app) {
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
            streamer_event(app, node, &e);
            tell(app, &e);
        }
    }
}

typedef struct arguments {
    const char *key, *listen;
    int first; /* of the files */
} arguments;

static int usage(void) {
    (void)fputs("usage: streamer [--key FILE] [--listen ADDR[:PORT]] FILE...\n", stderr);
    return 2;
}

static int parse(arguments *a, int argc, char **argv) {
    for (a->first = 1; a->first + 1 < argc && argv[a->first][0] == '-'; a->first += 2) {
        if (strcmp(argv[a->first], "--key") == 0)
            a->key = argv[a->first + 1];
        else if (strcmp(argv[a->first], "--listen") == 0)
            a->listen = argv[a->first + 1];
        else
            return usage();
    }
    return a->first < argc ? 0 : usage();
}

/* Sockets, key, memory, node; 0, or the exit code when it was told why. */
static int open_node(const arguments *a, p2p_node **node, void **arena) {
    static p2p_desc desc;
    static p2p_key key;
    p2p_error_detail why;
    p2p_posix_desc sockets;
    size_t size;
    int err = 0;
    memset(&why, 0, sizeof why);
    memset(&sockets, 0, sizeof sockets);
    sockets.why = &why;
    sockets.bind = a->listen ? &a->listen : NULL;
    sockets.bind_count = a->listen ? 1 : 0;
    desc.why = &why;
    desc.time.stop_us = 500000;
    streamer_limits(&desc);
    if (p2p_posix_open(&io, &sockets, &desc) < 0)
        return fail("sockets", why.text);
    if (a->key)
        err = p2p_posix_key_load(a->key, &desc.crypto, &key, &why);
    if (err < 0)
        return fail("key", why.text);
    desc.key = a->key ? &key : NULL;
    size = p2p_arena_size(&desc);
    *arena = malloc(size ? size : 1);
    if (!*arena || p2p_node_open(node, &desc, *arena, size) < 0)
        return fail("node", why.text);
    p2p_wipe(&key, sizeof key);
    return 0;
}

int main(int argc, char **argv) {
    static streamer app;
    static arguments a;
    p2p_node *node = NULL;
    void *arena = NULL;
    int i, rc = parse(&a, argc, argv);
    if (rc != 0)
        return rc;
    if (sodium_init() < 0)
        return fail("libsodium", "it finds no entropy");
    for (i = a.first; i < argc; i++)
        if (add_track(&app, argv[i]) != 0)
            return 1;
    app.volume = "40";
    rc = open_node(&a, &node, &arena);
    if (rc != 0)
        return rc;
    if (streamer_start(&app, node) < 0)
        return fail("routes", "the node does not take them");
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    if (print_ticket(node) == 0)
        drive(node, &app);
    p2p_node_close(node);
    p2p_posix_close(&io);
    free(arena);
    return app.differed ? 1 : 0;
}
