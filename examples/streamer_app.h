/* streamer_app.h: what a streamer does, apart from driving it: limits, routes, event handler.
 *
 * It touches no socket, file or clock, so the same code runs over UDP (streamer.c) and in the
 * simulator. A track is bytes that lie somewhere, in a mapped file or in flash.
 *
 *   GET  /tracks              the list, as JSON
 *   GET  /tracks/:name        the bytes, whole or by a range; x-sha256 is the hash of the whole
 *   POST /tracks/:name/live   the sound as datagrams, at the pace of the music: x-byte-rate; the
 *                             answer's body comes at the end and is the hash of what was sent. 415:
 *                             a track that is no sound in the clear (WAV)
 *   POST /tracks/:name/heard  a speaker tells the hash of what it played: 204, or 409 if not ours
 *
 * A live packet is its number, 4 bytes most significant first, and up to STREAMER_PACKET bytes of
 * sound. Requests go both ways over one connection: each speaker that connects is told its
 * volume. */
#ifndef STREAMER_APP_H
#define STREAMER_APP_H
#include "p2p.h"
#include <string.h>

enum { STREAMER_TRACKS = 8, STREAMER_TRANSFERS = 32, STREAMER_BUFFER = 262144 };
enum {
    STREAMER_LIVE = 0, /* timer */
    STREAMER_PACKET = 480,
    STREAMER_BURST = 8 /* live packets at a time, of those that are late */
};

typedef struct streamer_track {
    const char *name; /* letters, digits, '.', '-', '_' */
    const char *type;
    const uint8_t *data;
    size_t size;
    char sha256[65];      /* hex */
    const uint8_t *sound; /* samples of a WAV file, or NULL */
    size_t sound_size;
    uint32_t byte_rate;
    char sound_sha256[65];
} streamer_track;

typedef struct streamer_transfer {
    const uint8_t *next; /* NULL: free */
    size_t left;
    /* live only, else track is NULL */
    const streamer_track *track;
    p2p_conn conn;
    p2p_stream stream;
    uint32_t number;
    uint64_t due_us;
} streamer_transfer;

typedef struct streamer {
    streamer_track tracks[STREAMER_TRACKS];
    size_t track_count;
    streamer_transfer transfers[STREAMER_TRANSFERS];
    const char *volume;       /* what a speaker is set to, "0" to "100" */
    uint32_t speakers;        /* connected now */
    uint32_t heard, differed; /* reports with the right hash, with another */
    const char *heard_sha256; /* the latest right one */
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

/* ---- live ------------------------------------------------------------------------------------ */

static inline uint32_t streamer_u32(const uint8_t *at) {
    return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

/* Finds the samples of a RIFF WAVE file with plain PCM in it; leaves the track as it is when it is
 * none. A last chunk that is cut off counts as far as it goes. */
static inline void streamer_find_sound(streamer_track *track) {
    const uint8_t *data = track->data;
    size_t at = 12, size;
    uint32_t rate = 0;
    if (track->size < 44 || memcmp(data, "RIFF", 4) != 0 || memcmp(data + 8, "WAVE", 4) != 0)
        return;
    while (track->size - at >= 8) {
        size = streamer_u32(data + at + 4);
        size = size < track->size - at - 8 ? size : track->size - at - 8;
        if (memcmp(data + at, "fmt ", 4) == 0 && size >= 16 && data[at + 8] == 1)
            rate = streamer_u32(data + at + 16);
        if (memcmp(data + at, "data", 4) == 0 && rate >= 8000 && rate <= 1000000 && size > 0) {
            track->sound = data + at + 8;
            track->sound_size = size;
            track->byte_rate = rate;
            return;
        }
        at += 8 + size;
        at += (size & 1) && at < track->size ? 1 : 0;
    }
}

static inline uint64_t streamer_packet_us(const streamer_track *track) {
    return (uint64_t)STREAMER_PACKET * 1000000u / track->byte_rate;
}

static inline void streamer_live_packet(p2p_node *node, streamer_transfer *t) {
    uint8_t packet[4 + STREAMER_PACKET];
    size_t size = t->left < STREAMER_PACKET ? t->left : STREAMER_PACKET;
    packet[0] = (uint8_t)(t->number >> 24);
    packet[1] = (uint8_t)(t->number >> 16);
    packet[2] = (uint8_t)(t->number >> 8);
    packet[3] = (uint8_t)t->number;
    memcpy(packet + 4, t->next, size);
    (void)p2p_datagram_send(node, t->conn, packet, 4 + size);
    t->number++;
    t->next += size;
    t->left -= size;
    t->due_us += streamer_packet_us(t->track);
}

/* Sends what is due of one speaker's music. The hash ends it, once the stream has room for it. */
static inline void streamer_live_turn(p2p_node *node, streamer_transfer *t, uint64_t now) {
    int i;
    for (i = 0; i < STREAMER_BURST && t->left > 0 && t->due_us <= now; i++)
        streamer_live_packet(node, t);
    if (t->left > 0)
        return;
    (void)p2p_stream_write(node, t->stream, t->track->sound_sha256, 64);
    (void)p2p_stream_finish(node, t->stream);
    t->due_us = P2P_NEVER;
}

static inline void streamer_live(streamer *app, p2p_node *node) {
    uint64_t next = P2P_NEVER;
    size_t i;
    for (i = 0; i < STREAMER_TRANSFERS; i++) {
        streamer_transfer *t = &app->transfers[i];
        if (!t->track)
            continue;
        if (t->due_us <= p2p_now(node))
            streamer_live_turn(node, t, p2p_now(node));
        next = t->due_us < next ? t->due_us : next;
    }
    (void)p2p_timer_set(node, STREAMER_LIVE, next);
}

/* One speaker has one piece at a time: packets do not say which they belong to. */
static inline bool streamer_is_live(const streamer *app, p2p_conn conn) {
    size_t i;
    for (i = 0; i < STREAMER_TRANSFERS; i++)
        if (app->transfers[i].track && app->transfers[i].conn.id == conn.id)
            return true;
    return false;
}

static inline void streamer_post_live(p2p_node *node, const p2p_request *q, void *ctx) {
    streamer *app = (streamer *)ctx;
    const streamer_track *track = streamer_find(app, p2p_param(q, "name"));
    streamer_transfer *t = streamer_transfer_free(app);
    int status = !track                           ? 404
                 : !track->sound                  ? 415
                 : streamer_is_live(app, q->conn) ? 409
                 : !t                             ? 503
                                                  : 200;
    p2p_header header;
    char digits[21];
    if (status != 200) {
        (void)p2p_reply(node, q->stream, status, NULL, 0, NULL, 0);
        return;
    }
    header = streamer_header("x-byte-rate", p2p_u64_str(track->byte_rate, digits));
    t->next = track->sound;
    t->left = track->sound_size;
    t->track = track;
    t->conn = q->conn;
    t->stream = q->stream;
    t->due_us = p2p_now(node);
    (void)p2p_stream_set_user(node, q->stream, t);
    if (p2p_reply_begin(node, q->stream, 200, &header, 1) < 0)
        (void)p2p_stream_reset(node, q->stream, 500);
    else
        streamer_live(app, node);
}

static inline void streamer_heard(p2p_node *node, const p2p_request *q, void *ctx) {
    streamer *app = (streamer *)ctx;
    const streamer_track *track = streamer_find(app, p2p_param(q, "name"));
    p2p_str said;
    said.data = (const char *)q->body.data;
    said.size = q->body.size;
    if (!track) {
        (void)p2p_reply(node, q->stream, 404, NULL, 0, NULL, 0);
    } else if (p2p_str_equal(said, track->sha256) ||
               (track->sound && p2p_str_equal(said, track->sound_sha256))) {
        app->heard++;
        app->heard_sha256 =
            p2p_str_equal(said, track->sha256) ? track->sha256 : track->sound_sha256;
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
        if (t && !t->track)
            streamer_pump(node, e->stream, t);
        break;
    case P2P_EVENT_TIMER:
        if (e->code == STREAMER_LIVE)
            streamer_live(app, node);
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
    desc->max.datagrams_out = 64;
    desc->bytes.stream_send = 1024;
    desc->bytes.stream_recv = 1024;
    desc->bytes.peer_send = STREAMER_BUFFER;
    desc->bytes.peer_recv = 8192;
    desc->bytes.message_max = P2P_NONE;
}

/* The routes, with `app` behind each, and a listener. */
static inline int streamer_start(streamer *app, p2p_node *node) {
    p2p_route routes[] = {{P2P_GET, 0, "/tracks", streamer_list, NULL},
                          {P2P_GET, 0, "/tracks/:name", streamer_get, NULL},
                          {P2P_POST, 0, "/tracks/:name/live", streamer_post_live, NULL},
                          {P2P_POST, 0, "/tracks/:name/heard", streamer_heard, NULL}};
    p2p_listen_desc listen;
    p2p_listener listener;
    size_t i;
    int rc;
    for (i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        routes[i].ctx = app;
        rc = p2p_route_add(node, &routes[i]);
        if (rc < 0)
            return rc;
    }
    memset(&listen, 0, sizeof listen);
    return p2p_listen(node, &listen, &listener);
}
#endif
