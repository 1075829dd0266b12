/* speaker_app.h: what a speaker does, apart from driving it: limits, routes, event handler.
 *
 * It dials a streamer, asks for one track, gives the bytes to a sink as fast as that takes them,
 * reports the hash, and is done. When the connection breaks it dials again, later each time, and
 * asks for what is still missing. It touches no socket, file or clock: the same code runs over UDP
 * (speaker_posix.c) and in the simulator.
 *
 *   PUT /volume   "0" to "100"
 *   GET /status   volume and bytes played, as JSON */
#ifndef SPEAKER_APP_H
#define SPEAKER_APP_H
#include "p2p.h"
#include <string.h>

enum { SPEAKER_RETRY = 0, SPEAKER_TRIES = 6, SPEAKER_NAME = 64 };

/* Where the bytes go. `take` returns how many of them it had room for; after 0, call speaker_pump
 * when there is room again. `end` writes the SHA-256 of all that was taken, in hex. */
typedef struct speaker_sink {
    size_t (*take)(void *ctx, const uint8_t *data, size_t size);
    void (*end)(void *ctx, char sha256[65]);
    void *ctx;
} speaker_sink;

typedef struct speaker {
    p2p_ticket streamer;
    char track_name[SPEAKER_NAME];
    speaker_sink sink;
    p2p_conn conn;
    p2p_stream track, report;
    uint64_t backoff_us, connected_us, started_us, ended_us;
    uint64_t got, size; /* bytes played, bytes of the whole track */
    char sha256[65], announced[65];
    p2p_stats stats; /* of the connection, when the track was whole */
    uint32_t volume, tries;
    int err;           /* why it gave up */
    bool done, agreed; /* the report was answered; both ends have the same hash */
} speaker;

/* ---- the track ------------------------------------------------------------------------------- */

static inline void speaker_fail(speaker *app, p2p_node *node, int err) {
    app->err = err;
    app->done = true;
    (void)p2p_timer_set(node, SPEAKER_RETRY, P2P_NEVER);
}

static inline void speaker_path(const speaker *app, const char *tail, char out[SPEAKER_NAME + 32]) {
    size_t n = strlen(app->track_name);
    memcpy(out, "/tracks/", 8);
    memcpy(out + 8, app->track_name, n);
    memcpy(out + 8 + n, tail, strlen(tail) + 1);
}

static inline void speaker_ask(speaker *app, p2p_node *node) {
    char path[SPEAKER_NAME + 32], range[40], digits[21];
    p2p_request_desc r;
    p2p_header header;
    p2p_str from = p2p_u64_str(app->got, digits);
    int rc;
    memset(&r, 0, sizeof r);
    speaker_path(app, "", path);
    r.method = P2P_GET;
    r.path = path;
    if (app->got > 0) { /* the connection broke on the way: the rest is enough */
        memcpy(range, "bytes=", 6);
        memcpy(range + 6, from.data, from.size);
        range[6 + from.size] = '-';
        header.name = p2p_str_of("range");
        header.value.data = range;
        header.value.size = 7 + from.size;
        r.headers = &header;
        r.header_count = 1;
    }
    rc = p2p_request_send(node, app->conn, &r, &app->track);
    if (rc < 0)
        speaker_fail(app, node, rc);
}

static inline void speaker_head(speaker *app, p2p_node *node, const p2p_event *e) {
    p2p_response_head head;
    p2p_str hash;
    uint64_t length = 0;
    if (e->err < 0 || p2p_response(node, e->stream, &head) < 0) {
        app->track.id = 0;
        speaker_fail(app, node, e->err < 0 ? e->err : P2P_ERR_PROTOCOL);
        return;
    }
    hash = p2p_response_header(&head, "x-sha256");
    if (head.status != (app->got ? 206 : 200) || hash.size != 64 ||
        p2p_str_u64(p2p_response_header(&head, "content-length"), &length) < 0) {
        (void)p2p_stream_reset(node, e->stream, 0);
        speaker_fail(app, node, head.status == 404 ? P2P_ERR_NOT_FOUND : P2P_ERR_PROTOCOL);
        return;
    }
    memcpy(app->announced, hash.data, 64);
    app->size = app->got + length;
    if (app->started_us == 0)
        app->started_us = p2p_now(node);
}

/* The streamer has the track: tell it what was heard, so that both ends know. */
static inline void speaker_report(speaker *app, p2p_node *node) {
    char path[SPEAKER_NAME + 32];
    p2p_request_desc r;
    int rc;
    app->track.id = 0;
    app->ended_us = p2p_now(node);
    (void)p2p_conn_stats(node, app->conn, &app->stats);
    app->sink.end(app->sink.ctx, app->sha256);
    memset(&r, 0, sizeof r);
    speaker_path(app, "/heard", path);
    r.method = P2P_POST;
    r.path = path;
    r.body = app->sha256;
    r.body_size = 64;
    rc = p2p_request_send(node, app->conn, &r, &app->report);
    if (rc < 0)
        speaker_fail(app, node, rc);
}

/* Gives the sink what is here. Skipping opens the streamer's window: this is the backpressure. */
static inline void speaker_pump(speaker *app, p2p_node *node) {
    p2p_span bytes;
    size_t taken;
    int n;
    while (app->track.id && app->size > 0) {
        n = p2p_stream_peek(node, app->track, &bytes);
        if (n < 0)
            return; /* later, or CLOSED tells */
        if (n == 0) {
            if (app->got == app->size)
                speaker_report(app, node);
            else
                speaker_fail(app, node, P2P_ERR_PROTOCOL);
            return;
        }
        taken = app->sink.take(app->sink.ctx, bytes.data, bytes.size);
        if (taken == 0)
            return;
        app->got += taken;
        (void)p2p_stream_skip(node, app->track, taken);
    }
}

/* ---- routes ---------------------------------------------------------------------------------- */

static inline void speaker_put_volume(p2p_node *node, const p2p_request *q, void *ctx) {
    speaker *app = (speaker *)ctx;
    p2p_str text;
    uint64_t value = 0;
    text.data = (const char *)q->body.data;
    text.size = q->body.size;
    if (p2p_str_u64(text, &value) < 0 || value > 100) {
        (void)p2p_reply(node, q->stream, 400, NULL, 0, "0 to 100", 8);
        return;
    }
    app->volume = (uint32_t)value;
    (void)p2p_reply(node, q->stream, 204, NULL, 0, NULL, 0);
}

static inline void speaker_get_status(p2p_node *node, const p2p_request *q, void *ctx) {
    const speaker *app = (const speaker *)ctx;
    char body[96], digits[21];
    p2p_header type;
    p2p_str value = p2p_u64_str(app->volume, digits);
    size_t at = 10;
    type.name = p2p_str_of("content-type");
    type.value = p2p_str_of("application/json");
    memcpy(body, "{\"volume\":", 10);
    memcpy(body + at, value.data, value.size);
    at += value.size;
    memcpy(body + at, ",\"played\":", 10);
    at += 10;
    value = p2p_u64_str(app->got, digits);
    memcpy(body + at, value.data, value.size);
    at += value.size;
    body[at++] = '}';
    (void)p2p_reply(node, q->stream, 200, &type, 1, body, at);
}

/* ---- events ---------------------------------------------------------------------------------- */

static inline void speaker_dial(speaker *app, p2p_node *node) {
    p2p_connect_desc desc;
    memset(&desc, 0, sizeof desc);
    app->tries++;
    if (p2p_connect(node, &app->streamer.id, &desc, &app->conn) < 0)
        (void)p2p_timer_set(node, SPEAKER_RETRY, p2p_now(node) + app->backoff_us);
}

static inline void speaker_lost(speaker *app, p2p_node *node, int err) {
    app->conn.id = 0;
    app->track.id = 0;
    app->report.id = 0;
    if (app->done)
        return;
    if (app->tries >= SPEAKER_TRIES || app->sha256[0]) {
        speaker_fail(app, node, err < 0 ? err : P2P_ERR_CLOSED);
        return;
    }
    (void)p2p_timer_set(node, SPEAKER_RETRY, p2p_now(node) + app->backoff_us);
    app->backoff_us *= 2;
}

static inline void speaker_event(speaker *app, p2p_node *node, const p2p_event *e) {
    bool track = app->track.id && e->stream.id == app->track.id;
    bool report = app->report.id && e->stream.id == app->report.id;
    switch (e->type) {
    case P2P_EVENT_CONNECTED:
        if (e->conn.id == app->conn.id && !app->done) {
            app->connected_us = p2p_now(node);
            speaker_ask(app, node);
        }
        break;
    case P2P_EVENT_RESPONSE:
        if (track)
            speaker_head(app, node, e);
        if (report) {
            app->agreed = e->err == P2P_OK && e->status == 204;
            app->done = true;
        }
        break;
    case P2P_EVENT_CLOSED:
        if (track)
            app->track.id = 0;
        break;
    case P2P_EVENT_DISCONNECTED:
        if (e->conn.id == app->conn.id)
            speaker_lost(app, node, e->err);
        break;
    case P2P_EVENT_TIMER:
        if (e->code == SPEAKER_RETRY)
            speaker_dial(app, node);
        break;
    default: break;
    }
    speaker_pump(app, node);
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static inline void speaker_limits(p2p_desc *desc) {
    desc->max.conns = 2;
    desc->max.streams = 4;
    desc->max.peer_streams = 4;
    desc->max.in_flight = 256;
    desc->bytes.stream_send = 2048;
    desc->bytes.stream_recv = 262144;
    desc->bytes.peer_send = 1024;
    desc->bytes.peer_recv = 1024;
    desc->bytes.message_max = P2P_NONE;
}

/* streamer, track_name and sink are set. Routes, then the dial. */
static inline int speaker_start(speaker *app, p2p_node *node) {
    p2p_route routes[] = {{P2P_PUT, 0, "/volume", speaker_put_volume, NULL},
                          {P2P_GET, 0, "/status", speaker_get_status, NULL}};
    size_t i;
    int rc = p2p_peer_add(node, &app->streamer);
    for (i = 0; i < 2 && rc >= 0; i++) {
        routes[i].ctx = app;
        rc = p2p_route_add(node, &routes[i]);
    }
    if (rc < 0)
        return rc;
    app->backoff_us = 250000;
    speaker_dial(app, node);
    return P2P_OK;
}
#endif
