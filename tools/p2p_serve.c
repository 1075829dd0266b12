/* p2p serve: the regular files of one directory, by a service table. */
#include "p2p_tool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SERVE_CONNS = 64, SERVE_STREAMS = 128, SERVE_BUFFER = 256 * 1024, SERVE_PIECE = 64 * 1024 };

/* A body on its way: from a file, or from memory when fd is -1. */
typedef struct body {
    int fd;
    char *memory;
    size_t at;
    uint64_t left;
} body;

typedef struct server {
    tool_node t;
    const tool_args *args;
    DIR *dir;
    uint64_t requests, refused;
} server;

static const p2p_header no_store[] = {{P2P_STR("content-length"), P2P_STR("0")}};

static void tell(const server *s, const p2p_request *q, int status, uint64_t bytes) {
    char brief[11];
    if (!s->args->verbose)
        return;
    (void)p2p_id_short(&q->peer, brief);
    tool_note("serve", "%s GET %.*s: %d, %llu bytes", brief, (int)q->path.size, q->path.data,
              status, (unsigned long long)bytes);
}

static void reply_status(server *s, p2p_node *node, const p2p_request *q, int status) {
    s->refused++;
    tell(s, q, status, 0);
    (void)p2p_reply(node, q->stream, status, no_store, 1, NULL, 0);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static body *body_make(int fd, char *memory, uint64_t size) {
    body *b = (body *)calloc(1, sizeof *b);
    if (!b) {
        if (fd >= 0)
            (void)close(fd);
        free(memory);
        return NULL;
    }
    b->fd = fd;
    b->memory = memory;
    b->left = size;
    return b;
}

static void body_free(body *b) {
    if (b->fd >= 0)
        (void)close(b->fd);
    free(b->memory);
    free(b);
}

static ssize_t body_fill(body *b, p2p_room room) {
    if (b->fd >= 0)
        return read(b->fd, room.data, room.size);
    memcpy(room.data, b->memory + b->at, room.size);
    b->at += room.size;
    return (ssize_t)room.size;
}

/* Sends what there is room for; WRITABLE calls again. Memory does not grow with the file. */
static void body_pump(p2p_node *node, p2p_stream stream, body *b) {
    p2p_room room;
    ssize_t n;
    while (b->left > 0) {
        size_t want = b->left < SERVE_PIECE ? (size_t)b->left : (size_t)SERVE_PIECE;
        if (p2p_stream_reserve(node, stream, want, &room) < 0)
            return; /* WRITABLE goes on, or CLOSED frees */
        n = body_fill(b, room);
        if (n <= 0) { /* it became shorter meanwhile: the peer must not take it for whole */
            (void)p2p_stream_reset(node, stream, 500);
            return;
        }
        if (p2p_stream_commit(node, stream, (size_t)n) < 0)
            return;
        b->left -= (uint64_t)n;
    }
    (void)p2p_stream_finish(node, stream);
}

/* Takes the body over in any case. */
static void body_reply(p2p_node *node, p2p_stream stream, int status, const p2p_header *headers,
                       size_t count, body *b) {
    if (p2p_stream_set_user(node, stream, b) < 0) {
        body_free(b);
        return;
    }
    if (p2p_reply_begin(node, stream, status, headers, count) < 0) {
        (void)p2p_stream_reset(node, stream, 500);
        return;
    }
    body_pump(node, stream, b);
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char *type_of(const char *name, size_t size) {
    static const struct {
        const char *suffix, *type;
    } types[] = {
        {".wav", "audio/wav"},       {".mp3", "audio/mpeg"}, {".flac", "audio/flac"},
        {".ogg", "audio/ogg"},       {".opus", "audio/ogg"}, {".m4a", "audio/mp4"},
        {".aac", "audio/aac"},       {".txt", "text/plain"}, {".html", "text/html"},
        {".png", "image/png"},       {".jpg", "image/jpeg"}, {".json", "application/json"},
        {".pdf", "application/pdf"},
    };
    size_t i, n;
    for (i = 0; i < sizeof types / sizeof types[0]; i++) {
        n = strlen(types[i].suffix);
        if (size > n && memcmp(name + size - n, types[i].suffix, n) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}

/* A name that a path can carry: no dot file, nothing a terminal would obey. */
static bool name_allowed(const char *name, size_t size) {
    const uint8_t *at = (const uint8_t *)name;
    uint32_t c;
    size_t n, i;
    if (size == 0 || size > 255 || name[0] == '.')
        return false;
    for (i = 0; i < size; i += n) {
        n = tool_utf8(at + i, size - i, &c);
        if (n == 0 || c < 0x20 || c == 0x7f || c == '/')
            return false;
    }
    return true;
}

/* Opens a regular file of the directory itself, never through a link. O_NONBLOCK: a FIFO must not
 * hold us up. */
static int file_open(const server *s, const char *name, struct stat *info) {
    int fd = openat(dirfd(s->dir), name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, info) < 0 || !S_ISREG(info->st_mode))) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static size_t header_add(p2p_header *headers, size_t count, const char *name, p2p_str value) {
    headers[count].name = p2p_str_of(name);
    headers[count].value = value;
    return count + 1;
}

static void reply_file(server *s, p2p_node *node, const p2p_request *q, int fd, p2p_str type,
                       uint64_t total) {
    char length[21], range[80];
    p2p_header headers[4];
    uint64_t first = 0, count = total;
    size_t n = 0;
    body *b;
    int part = p2p_request_range(q, total, &first, &count);
    if (part < 0) {
        (void)snprintf(range, sizeof range, "bytes */%llu", (unsigned long long)total);
        n = header_add(headers, n, "content-range", p2p_str_of(range));
        (void)p2p_reply(node, q->stream, 416, headers, n, NULL, 0);
        (void)close(fd);
        return;
    }
    b = lseek(fd, (off_t)first, SEEK_SET) < 0 ? NULL : body_make(fd, NULL, count);
    if (!b) {
        reply_status(s, node, q, 500);
        return;
    }
    n = header_add(headers, n, "content-length", p2p_u64_str(count, length));
    n = header_add(headers, n, "content-type", type);
    n = header_add(headers, n, "accept-ranges", p2p_str_of("bytes"));
    if (part > 0) {
        (void)snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)first,
                       (unsigned long long)(first + count - 1), (unsigned long long)total);
        n = header_add(headers, n, "content-range", p2p_str_of(range));
    }
    tell(s, q, part > 0 ? 206 : 200, count);
    body_reply(node, q->stream, part > 0 ? 206 : 200, headers, n, b);
}

/* ---- routes ---------------------------------------------------------------------------------- */

static void get_track(p2p_node *node, const p2p_request *q, void *ctx) {
    server *s = (server *)ctx;
    char name[256];
    struct stat info;
    p2p_str asked = p2p_param(q, "name");
    int fd = -1;
    errno = 0;
    s->requests++;
    if (asked.data && name_allowed(asked.data, asked.size)) {
        memcpy(name, asked.data, asked.size);
        name[asked.size] = '\0';
        fd = file_open(s, name, &info);
    }
    if (fd < 0) {
        reply_status(s, node, q, errno == EMFILE || errno == ENFILE ? 503 : 404);
        return;
    }
    reply_file(s, node, q, fd, p2p_str_of(type_of(asked.data, asked.size)), (uint64_t)info.st_size);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names that can be fetched, sorted; the count, or < 0 for no memory. */
static long names_read(const server *s, char ***out) {
    char **names = NULL, **grown;
    size_t count = 0, room = 0;
    struct dirent *entry;
    rewinddir(s->dir);
    while ((entry = readdir(s->dir)) != NULL) {
        if (!name_allowed(entry->d_name, strlen(entry->d_name)))
            continue;
        if (count == room) {
            room = room ? room * 2 : 64;
            grown = (char **)realloc(names, room * sizeof *names);
            if (!grown)
                break;
            names = grown;
        }
        names[count] = strdup(entry->d_name);
        if (!names[count])
            break;
        count++;
    }
    if (count > 0)
        qsort(names, count, sizeof *names, by_name);
    *out = names;
    return entry ? -1 - (long)count : (long)count;
}

static void list_write(const server *s, FILE *out, char **names, size_t count) {
    struct stat info;
    json j;
    size_t i;
    int fd;
    json_open(&j, out);
    json_begin(&j, NULL, '[');
    for (i = 0; i < count; i++) {
        fd = file_open(s, names[i], &info);
        if (fd < 0)
            continue;
        (void)close(fd);
        json_begin(&j, NULL, '{');
        json_string(&j, "name", names[i]);
        json_number(&j, "size", (uint64_t)info.st_size);
        json_string(&j, "type", type_of(names[i], strlen(names[i])));
        json_end(&j, '}');
    }
    json_end(&j, ']');
    (void)fputc('\n', out);
}

static body *list_body(const server *s) {
    char **names = NULL, *text = NULL;
    size_t size = 0, i;
    long count = names_read(s, &names);
    size_t made = count < 0 ? (size_t)(-1 - count) : (size_t)count;
    FILE *out = count < 0 ? NULL : open_memstream(&text, &size);
    bool good = false;
    if (out) {
        list_write(s, out, names, made);
        good = ferror(out) == 0;
        good = fclose(out) == 0 && good;
    }
    for (i = 0; i < made; i++)
        free(names[i]);
    free(names);
    if (good)
        return body_make(-1, text, size);
    free(text);
    return NULL;
}

static void get_tracks(p2p_node *node, const p2p_request *q, void *ctx) {
    server *s = (server *)ctx;
    char length[21];
    p2p_header headers[2];
    size_t n = 0;
    body *b = list_body(s);
    s->requests++;
    if (!b) {
        reply_status(s, node, q, 500);
        return;
    }
    n = header_add(headers, n, "content-length", p2p_u64_str(b->left, length));
    n = header_add(headers, n, "content-type", p2p_str_of("application/json"));
    tell(s, q, 200, b->left);
    body_reply(node, q->stream, 200, headers, n, b);
}

static void get_ping(p2p_node *node, const p2p_request *q, void *ctx) {
    server *s = (server *)ctx;
    s->requests++;
    (void)p2p_reply(node, q->stream, 204, NULL, 0, NULL, 0);
}

/* ---- who may connect ------------------------------------------------------------------------- */

static int allow(void *ctx, const p2p_gate *who) {
    const tool_args *args = (const tool_args *)ctx;
    size_t i;
    if (!who->id)
        return 1; /* who knocks with the right tag may say who it is */
    for (i = 0; i < args->allow_count; i++)
        if (p2p_id_equal(&args->allow[i], who->id))
            return 1;
    return 0;
}

static void print_allowed(const tool_args *args) {
    char text[P2P_ID_TEXT_SIZE];
    size_t i;
    if (args->allow_count == 0)
        tool_note("serve", "whoever holds the ticket may connect; --allow NODEID narrows it");
    for (i = 0; i < args->allow_count; i++) {
        (void)p2p_id_text(&args->allow[i], text);
        tool_note("serve", "%s may connect%s", text,
                  i + 1 == args->allow_count ? ", nobody else" : "");
    }
}

/* ---- figures --------------------------------------------------------------------------------- */

/* The text exposition as one JSON object: "name value" lines, comments left out. */
static void print_metrics(json *j, const p2p_node *node) {
    static char text[32768];
    char *line, *end, *space;
    if (p2p_metrics_text(node, text, sizeof text) < 0)
        return;
    for (line = text; *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = '\0';
        space = strrchr(line, ' ');
        if (*line == '#' || !space)
            continue;
        *space = '\0';
        json_number(j, line, strtoull(space + 1, NULL, 10));
    }
}

static void print_state(const server *s, const char *event, const char *ticket) {
    char id[P2P_ID_TEXT_SIZE];
    json j;
    size_t i;
    json_open(&j, stdout);
    json_begin(&j, NULL, '{');
    json_string(&j, "event", event);
    if (ticket) {
        (void)p2p_id_text(&s->t.id, id);
        json_string(&j, "id", id);
        json_string(&j, "ticket", ticket);
        json_bool(&j, "allow_anyone", s->args->allow_count == 0);
        json_begin(&j, "allow", '[');
        for (i = 0; i < s->args->allow_count; i++) {
            (void)p2p_id_text(&s->args->allow[i], id);
            json_string(&j, NULL, id);
        }
        json_end(&j, ']');
    } else {
        json_number(&j, "requests", s->requests);
        json_number(&j, "refused", s->refused);
    }
    print_metrics(&j, s->t.node);
    json_end(&j, '}');
    json_line(&j);
}

/* ---- running --------------------------------------------------------------------------------- */

static void on_event(server *s, const p2p_event *e) {
    char brief[11];
    body *b = e->stream.id ? (body *)e->user : NULL;
    (void)p2p_id_short(&e->peer, brief);
    switch (e->type) {
    case P2P_EVENT_WRITABLE:
        if (b)
            body_pump(s->t.node, e->stream, b);
        break;
    case P2P_EVENT_CLOSED:
        if (b)
            body_free(b);
        break;
    case P2P_EVENT_STREAM: /* this node speaks requests only */
        (void)p2p_stream_reset(s->t.node, e->stream, 404);
        break;
    case P2P_EVENT_CONNECTED:
        if (s->args->verbose)
            tool_note("serve", "%s connected", brief);
        break;
    case P2P_EVENT_DISCONNECTED:
        if (s->args->verbose)
            tool_note("serve", "%s left: %s", brief, p2p_err_text(e->err));
        break;
    default: break;
    }
}

static void log_line(void *ctx, int level, const char *item, const char *text) {
    (void)ctx;
    tool_note("serve", "[%d %s] %s", level, item, text);
}

static void limits(server *s) {
    p2p_desc *d = &s->t.desc;
    d->allow_anyone = s->args->allow_count == 0;
    if (s->args->allow_count > 0) {
        d->allow.fn = allow;
        d->allow.ctx = (void *)(uintptr_t)s->args;
    }
    if (s->args->verbose) {
        d->log.fn = log_line;
        d->log.level = 2;
    }
    d->max.conns = SERVE_CONNS;
    d->max.half_open = 16;
    d->max.conns_per_peer = 8;
    d->max.streams = 1;
    d->max.peer_streams = SERVE_STREAMS;
    d->max.peer_streams_per_conn = 16;
    d->max.in_flight = 8192;
    d->max.routes = P2P_NONE;
    d->max.datagrams_in = P2P_NONE;
    d->max.datagrams_out = P2P_NONE;
    d->bytes.stream_send = 2048;
    d->bytes.stream_recv = 2048;
    d->bytes.peer_send = SERVE_BUFFER;
    d->bytes.peer_recv = 16384;
    d->bytes.message_max = P2P_NONE;
}

static int start(server *s, const p2p_service *service) {
    p2p_listen_desc listen;
    p2p_listener listener;
    p2p_ticket ticket;
    char text[P2P_TICKET_TEXT_SIZE];
    int rc = tool_node_open(&s->t, s->args);
    if (rc != TOOL_OK)
        return rc;
    memset(&listen, 0, sizeof listen);
    if (p2p_service_add(s->t.node, service) < 0 || p2p_listen(s->t.node, &listen, &listener) < 0 ||
        p2p_ticket_of(s->t.node, &ticket) < 0 || p2p_ticket_text(&ticket, text) < 0) {
        p2p_last_error(s->t.node, &s->t.why);
        return tool_fail("serve", "the node does not listen: %s", s->t.why.text);
    }
    (void)printf("%s\n", text);
    (void)fflush(stdout);
    print_allowed(s->args);
    if (s->args->json)
        print_state(s, "listening", text);
    return TOOL_OK;
}

static int run(server *s) {
    p2p_event e;
    while (!tool_interrupted()) {
        if (tool_node_wait(&s->t, -1, 0) < 0)
            return TOOL_FAILED;
        while (!tool_interrupted() && p2p_next_event(s->t.node, &e) > 0)
            on_event(s, &e);
    }
    return TOOL_OK;
}

static bool sessions_left(const p2p_node *node) {
    static p2p_metrics metrics;
    p2p_metrics_get(node, &metrics);
    return metrics.value[P2P_METRIC_sessions_open] > 0;
}

/* As tool_node_stop, but bodies on their way are finished or freed, and what closed connections
 * still hold while late packets may come is waited for, so that the last figures show what
 * stays. */
static void stop(server *s) {
    uint64_t end_us = p2p_posix_now_us() + s->t.desc.time.stop_us + 250000;
    bool stopped = p2p_node_stop(s->t.node, 0) < 0;
    p2p_event e;
    while ((!stopped || sessions_left(s->t.node)) && p2p_posix_now_us() < end_us) {
        if (p2p_posix_step(&s->t.io, s->t.node, 50) < 0)
            return;
        while (p2p_next_event(s->t.node, &e) > 0) {
            stopped = stopped || e.type == P2P_EVENT_STOPPED;
            on_event(s, &e);
        }
    }
}

int tool_serve(const tool_args *args) {
    static server s;
    static const p2p_route routes[] = {{P2P_GET, 0, "/tracks", get_tracks, &s},
                                       {P2P_GET, 0, "/tracks/:name", get_track, &s},
                                       {P2P_GET, 0, "/ping", get_ping, &s}};
    static const p2p_service service = {"", routes, 3, NULL, NULL};
    int rc;
    s.args = args;
    s.dir = opendir(args->words[0]);
    if (!s.dir)
        return tool_fail("serve", "cannot serve %s: %s; name a directory that can be read",
                         args->words[0], strerror(errno));
    limits(&s);
    rc = start(&s, &service);
    if (rc == TOOL_OK) {
        rc = run(&s);
        stop(&s);
        if (args->json)
            print_state(&s, "stopped", NULL);
    }
    tool_node_close(&s.t);
    (void)closedir(s.dir);
    return rc;
}
