/* A node over UDP for the commands: signals, keys, opening, waiting, the goodbye. The library is
 * compiled here. */
#define P2P_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_tool.h"
#include "p2p_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- signals ------------------------------------------------------------------------------------
 * The first Ctrl-C ends the work in order and tells the peers; a second one ends the process at
 * once. */

static p2p_posix *signal_io;
static const char *volatile signal_temporary;
static volatile sig_atomic_t signal_count;

static void on_signal(int number) {
    int saved = errno;
    (void)number;
    signal_count = signal_count + 1;
    if (signal_count > 1) {
        if (signal_temporary)
            (void)unlink(signal_temporary);
        _exit(TOOL_FAILED);
    }
    if (signal_io)
        p2p_posix_wake(signal_io);
    errno = saved;
}

bool tool_interrupted(void) { return signal_count > 0; }

void tool_temporary(const char *path) { signal_temporary = path; }

void tool_signals(p2p_posix *io) {
    struct sigaction action, before;
    signal_io = io;
    memset(&action, 0, sizeof action);
    (void)sigemptyset(&action.sa_mask);
    action.sa_handler = io ? on_signal : SIG_DFL;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* nohup stays */
        (void)sigaction(SIGHUP, &action, NULL);
    action.sa_handler =
        SIG_IGN; /* a closed pipe and a full disk are errors of write(2), told as such */
    (void)sigaction(SIGPIPE, &action, NULL);
    (void)sigaction(SIGXFSZ, &action, NULL);
}

/* ---- keys ------------------------------------------------------------------------------------ */

#ifdef P2P_MBEDTLS_KEYLOG
static void log_key(void *ctx, const char *line) {
    (void)fprintf((FILE *)ctx, "%s\n", line);
    (void)fflush((FILE *)ctx);
}
int tool_keylog(void) {
    const char *path = getenv("SSLKEYLOGFILE");
    int fd;
    FILE *out;
    if (!path || !*path)
        return TOOL_OK;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    out = fd < 0 ? NULL : fdopen(fd, "a");
    if (!out)
        return tool_fail(NULL, "SSLKEYLOGFILE: cannot write %s: %s", path, strerror(errno));
    tool_note(NULL, "DANGER: whoever reads %s can read all that this process sends", path);
    p2p_mbedtls_keylog(log_key, out); /* open to the end of the process */
    return TOOL_OK;
}
#endif

const char *tool_why(const p2p_error_detail *why, const char *what, int err) {
    size_t size = strlen(what), tail = size > 16 ? 16 : size;
    const char *at = strstr(why->text, what + size - tail);
    if (!why->text[0])
        return p2p_err_text(err);
    return at && strncmp(at + tail, ": ", 2) == 0 ? at + tail + 2 : why->text;
}

int tool_key_load(const char *command, const char *path, p2p_key *out) {
    p2p_crypto crypto;
    p2p_error_detail why;
    int rc;
    memset(&why, 0, sizeof why);
    if (p2p_sodium_crypto(&crypto) < 0)
        return tool_fail(command, "libsodium does not start");
    rc = p2p_posix_key_load(path, &crypto, out, &why);
    if (rc < 0)
        return tool_fail(command, "cannot use the key in %s: %s", path, tool_why(&why, path, rc));
    return TOOL_OK;
}

static int key_for(tool_node *t, const tool_args *args, p2p_key *out) {
    char text[P2P_ID_TEXT_SIZE];
    p2p_random random;
    if (args->key)
        return tool_key_load(t->command, args->key, out);
    if (p2p_posix_random(&random) < 0 || p2p_key_generate(&t->desc.crypto, &random, out) < 0)
        return tool_fail(t->command, "no key: the system gives no random bytes");
    (void)p2p_id_text(&out->id, text);
    tool_note(t->command, "no --key given: a fresh one for this run, NodeId %s", text);
    return TOOL_OK;
}

/* ---- open, wait, stop, close ----------------------------------------------------------------- */

static int sockets(tool_node *t, const tool_args *args) {
    p2p_posix_desc desc;
    int rc;
    memset(&desc, 0, sizeof desc);
    desc.why = &t->why;
    if (args->listen) {
        desc.bind = &args->listen;
        desc.bind_count = 1;
    }
    rc = p2p_posix_open(&t->io, &desc, &t->desc);
    if (rc < 0)
        return tool_fail(t->command, "cannot listen on %s: %s; choose another address or port",
                         args->listen ? args->listen : "any port",
                         tool_why(&t->why, args->listen ? args->listen : "any port", rc));
    t->open = true;
    return TOOL_OK;
}

static int node(tool_node *t) {
    size_t size = p2p_arena_size(&t->desc);
    int rc;
    if (size == 0)
        return tool_fail(t->command, "the settings do not fit: %s", t->why.text);
    t->arena = malloc(size);
    if (!t->arena)
        return tool_fail(t->command, "no memory for %llu bytes", (unsigned long long)size);
    rc = p2p_node_open(&t->node, &t->desc, t->arena, size);
    if (rc < 0) {
        t->node = NULL;
        return tool_fail(t->command, "the node does not open: %s",
                         t->why.text[0] ? t->why.text : p2p_err_text(rc));
    }
    return TOOL_OK;
}

int tool_node_open(tool_node *t, const tool_args *args) {
    p2p_key key;
    int rc;
    t->command = args->command;
    t->desc.why = &t->why;
    t->desc.time.stop_us = 500000; /* long enough for a CLOSE, short enough for a person */
    if (p2p_sodium_crypto(&t->desc.crypto) < 0 || p2p_mbedtls_secure(&t->desc.secure) < 0)
        return tool_fail(t->command, "libsodium or mbedTLS does not start");
    rc = key_for(t, args, &key);
    if (rc != TOOL_OK)
        return rc;
    t->id = key.id;
    t->desc.key = &key;
    rc = sockets(t, args);
    if (rc == TOOL_OK)
        rc = node(t);
    t->desc.key = NULL;
    p2p_wipe(&key, sizeof key);
    if (rc == TOOL_OK)
        tool_signals(&t->io);
    else
        tool_node_close(t);
    return rc;
}

int tool_node_wait(tool_node *t, int fd, short events) {
    struct pollfd set[16];
    int count, wait, rc;
    if (fd < 0) {
        rc = p2p_posix_step(&t->io, t->node, -1);
        if (rc < 0)
            (void)tool_fail(t->command, "the network fails: %s", p2p_err_text(rc));
        return rc;
    }
    count = p2p_posix_fds(&t->io, set, 15);
    if (count < 0)
        return tool_fail(t->command, "the sockets cannot be waited for: %s", p2p_err_text(count)),
               -1;
    set[count].fd = fd;
    set[count].events = events;
    set[count].revents = 0;
    wait = p2p_posix_wait_ms(&t->io, t->node);
    if (poll(set, (nfds_t)count + 1, wait) < 0 && errno != EINTR)
        return tool_fail(t->command, "poll fails: %s", strerror(errno)), -1;
    rc = p2p_posix_step(&t->io, t->node, 0);
    if (rc < 0)
        (void)tool_fail(t->command, "the network fails: %s", p2p_err_text(rc));
    return rc;
}

void tool_node_stop(tool_node *t) {
    uint64_t end_us = p2p_posix_now_us() + t->desc.time.stop_us + 250000;
    p2p_event e;
    bool stopped = false;
    if (!t->node || p2p_node_stop(t->node, 0) < 0)
        return;
    while (!stopped && p2p_posix_now_us() < end_us) {
        while (p2p_next_event(t->node, &e) > 0)
            if (e.type == P2P_EVENT_STOPPED)
                stopped = true;
        if (p2p_posix_step(&t->io, t->node, stopped ? 0 : 100) < 0)
            return;
    }
}

void tool_node_close(tool_node *t) {
    tool_signals(NULL);
    if (t->node)
        p2p_node_close(t->node);
    t->node = NULL;
    if (t->open)
        p2p_posix_close(&t->io);
    t->open = false;
    free(t->arena);
    t->arena = NULL;
}
