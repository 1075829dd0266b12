/* streamer_app.h: what a streamer does, apart from driving it: limits, routes, event handler.
 *
 * It touches no socket, file or clock, so the same code runs over UDP (streamer.c) and in the
 * simulator. A track is bytes that lie somewhere, in a mapped file or in flash.
 *
 *   GET  /tracks              the list, as JSON
 *   GET  /tracks/:name        the bytes, whole or by a range; x-sha256 is the hash of the whole
 *   POST /tracks/:name/heard  a speaker tells the hash of what it played: 204, or 409 if not ours
 *
 * Requests go both ways over one connection: each speaker that connects is told its volume. */
#ifndef STREAMER_APP_H
#define STREAMER_APP_H
#include "p2p.h"
#include <string.h>

enum { STREAMER_TRACKS = 8, STREAMER_TRANSFERS = 32, STREAMER_BUFFER = 262144 };

typedef struct streamer_track {
    const char *name; /* letters, digits, '.', '-', '_' */
    const char *type;
    const uint8_t *data;
    size_t size;
    char sha256[65]; /* hex */
} streamer_track;

typedef struct streamer_transfer {
    const uint8_t *next; /* NULL: free */
    size_t left;
} streamer_transfer;

typedef struct streamer {
    streamer_track tracks[STREAMER_TRACKS];
    size_t track_count;
    streamer_transfer transfers[STREAMER_TRANSFERS];
    const char *volume;       /* what a speaker is set to, "0" to "100" */
    uint32_t speakers;        /* connected now */
    uint32_t heard, differed; /* reports with the right hash, with another */
    uint32_t volumes_set;
} streamer;

static inline p2p_header streamer_header(const char *name, p2p_str value) {
    p2p_header h;
    h.name = p2p_str_of(name);
    h.value = value;
    return h;
}

/* ---- routes ---------------------------------------------------------------------------------- */

static inline const streamer_track *streamer_find(const streamer *app, p2p_str name) {
    size_t i;
    for (i = 0; i < app->track_count; i++)
        if (p2p_str_equal(name, app->tracks[i].name))
            return &app->tracks[i];
    return NULL;
}

static inline size_t streamer_put(char *out, size_t at, const char *text) {
    size_t size = strlen(text);
    memcpy(out + at, text, size);
    return at + size;
}

static inline void streamer_list(p2p_node *node, const p2p_request *q, void *ctx) {
    const streamer *app = (const streamer *)ctx;
    char text[STREAMER_TRACKS * 256 + 8], digits[21];
    p2p_header type = streamer_header("content-type", p2p_str_of("application/json"));
    p2p_str size;
    size_t at = 0, i;
    text[at++] = '[';
    for (i = 0; i < app->track_count; i++) {
        size = p2p_u64_str(app->tracks[i].size, digits);
        at = streamer_put(text, at, i ? ",{\"name\":\"" : "{\"name\":\"");
        at = streamer_put(text, at, app->tracks[i].name);
        at = streamer_put(text, at, "\",\"size\":");
        memcpy(text + at, size.data, size.size);
        at = streamer_put(text, at + size.size, ",\"type\":\"");
        at = streamer_put(text, at, app->tracks[i].type);
        at = streamer_put(text, at, "\"}");
    }
    text[at++] = ']';
    (void)p2p_reply(node, q->stream, 200, &type, 1, text, at);
}

/* Gives the stream what it has room for. When it is full, WRITABLE comes: this is the
 * backpressure. */
static inline void streamer_pump(p2p_node *node, p2p_stream stream, streamer_transfer *t) {
    int n;
    while (t->left > 0) {
        n = p2p_stream_write(node, stream, t->next, t->left);
        if (n < 0)
            return; /* full, or gone: then CLOSED frees the transfer */
        t->next += n;
        t->left -= (size_t)n;
    }
    (void)p2p_stream_finish(node, stream);
}

static inline streamer_transfer *streamer_transfer_free(streamer *app) {
    size_t i;
    for (i = 0; i < STREAMER_TRANSFERS; i++)
        if (!app->transfers[i].next)
            return &app->transfers[i];
    return NULL;
}

static inline void streamer_get(p2p_node *node, const p2p_request *q, void *ctx) {
    streamer *app = (streamer *)ctx;
    const streamer_track *track = streamer_find(app, p2p_param(q, "name"));
    streamer_transfer *t = streamer_transfer_free(app);
    p2p_header headers[3];
    uint64_t first = 0, count = 0;
    char digits[21];
    int part;
    if (!track || !t) {
        (void)p2p_reply(node, q->stream, track ? 503 : 404, NULL, 0, NULL, 0);
        return;
    }
    part = p2p_request_range(q, track->size, &first, &count);
    if (part < 0) {
        (void)p2p_reply(node, q->stream, 416, NULL, 0, NULL, 0);
        return;
    }
    headers[0] = streamer_header("content-length", p2p_u64_str(count, digits));
    headers[1] = streamer_header("content-type", p2p_str_of(track->type));
    headers[2] = streamer_header("x-sha256", p2p_str_of(track->sha256));
    t->next = track->data + first;
    t->left = (size_t)count;
    (void)p2p_stream_set_user(node, q->stream, t); /* from here CLOSED always comes */
    if (p2p_reply_begin(node, q->stream, part ? 206 : 200, headers, 3) < 0)
        (void)p2p_stream_reset(node, q->stream, 500);
    else
        streamer_pump(node, q->stream, t);
}

static inline void streamer_heard(p2p_node *node, const p2p_request *q, void *ctx) {
    streamer *app = (streamer *)ctx;
    const streamer_track *track = streamer_find(app, p2p_param(q, "name"));
    p2p_str said;
    said.data = (const char *)q->body.data;
    said.size = q->body.size;
    if (!track) {
        (void)p2p_reply(node, q->stream, 404, NULL, 0, NULL, 0);
    } else if (p2p_str_equal(said, track->sha256)) {
        app->heard++;
        (void)p2p_reply(node, q->stream, 204, NULL, 0, NULL, 0);
    } else {
        app->differed++;
        (void)p2p_reply(node, q->stream, 409, NULL, 0, track->sha256, 64);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static inline void streamer_set_volume(p2p_node *node, p2p_conn conn, const char *volume) {
    p2p_request_desc r;
    p2p_stream stream;
    memset(&r, 0, sizeof r);
    r.method = P2P_PUT;
    r.path = "/volume";
    r.body = volume;
    r.body_size = strlen(volume);
    (void)p2p_request_send(node, conn, &r, &stream); /* a speaker without the route answers 404 */
}

static inline void streamer_event(streamer *app, p2p_node *node, const p2p_event *e) {
    streamer_transfer *t = (streamer_transfer *)(e->stream.id ? e->user : NULL);
    switch (e->type) {
    case P2P_EVENT_CONNECTED:
        app->speakers++;
        if (app->volume)
            streamer_set_volume(node, e->conn, app->volume);
        break;
    case P2P_EVENT_DISCONNECTED: app->speakers--; break;
    case P2P_EVENT_RESPONSE:
        app->volumes_set += e->err == P2P_OK && e->status == 204;
        (void)p2p_stream_reset(node, e->stream, 0); /* its body says nothing to us */
        break;
    case P2P_EVENT_WRITABLE:
        if (t)
            streamer_pump(node, e->stream, t);
        break;
    case P2P_EVENT_CLOSED:
        if (t)
            memset(t, 0, sizeof *t);
        break;
    default: break;
    }
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static inline void streamer_limits(p2p_desc *desc) {
    desc->allow_anyone = 1; /* whoever holds the ticket */
    desc->max.conns = 16;
    desc->max.streams = 16;
    desc->max.peer_streams = STREAMER_TRANSFERS;
    desc->max.in_flight = 4096;
    desc->bytes.stream_send = 1024;
    desc->bytes.stream_recv = 1024;
    desc->bytes.peer_send = STREAMER_BUFFER;
    desc->bytes.peer_recv = 8192;
    desc->bytes.message_max = P2P_NONE;
}

/* The three routes, with `app` behind each, and a listener. */
static inline int streamer_start(streamer *app, p2p_node *node) {
    p2p_route routes[] = {{P2P_GET, 0, "/tracks", streamer_list, NULL},
                          {P2P_GET, 0, "/tracks/:name", streamer_get, NULL},
                          {P2P_POST, 0, "/tracks/:name/heard", streamer_heard, NULL}};
    p2p_listen_desc listen;
    p2p_listener listener;
    size_t i;
    int rc;
    for (i = 0; i < 3; i++) {
        routes[i].ctx = app;
        rc = p2p_route_add(node, &routes[i]);
        if (rc < 0)
            return rc;
    }
    memset(&listen, 0, sizeof listen);
    return p2p_listen(node, &listen, &listener);
}
#endif
