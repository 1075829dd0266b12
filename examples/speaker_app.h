/* speaker_app.h: what a speaker does, apart from driving it: limits, routes, event handler.
 *
 * It dials a streamer and plays its tracks: asked for as a stream, whose bytes go to a sink as fast
 * as that takes them, or live, as datagrams at the pace of the music, through a jitter buffer. At
 * the end it reports the hash of what was heard. When the connection breaks it dials again, later
 * each time, and asks for what is still missing of the track. It touches no socket, file or clock:
 * the same code runs over UDP (speaker_posix.c), in the simulator, and in the firmware of speaker/.
 *
 *   PUT  /volume   "0" to "100"
 *   GET  /status   volume, what is played and how far, as JSON
 *   POST /play     "NAME" or "NAME live": 202 when the streamer has it, 404 when not, 409 while
 *                  something plays, 503 without a streamer
 *
 * A live packet is its number, 4 bytes most significant first, and up to JITTER_BYTES of audio. */
#ifndef SPEAKER_APP_H
#define SPEAKER_APP_H
#include "p2p.h"
#include "jitter.h"
#include <string.h>

enum { SPEAKER_RETRY = 0, SPEAKER_PLAY = 1 }; /* timers */
enum {
    SPEAKER_TRIES = 6,
    SPEAKER_NAME = 64,
    SPEAKER_BACKOFF_US = 250000,
    SPEAKER_BACKOFF_MAX_US = 8000000,
    SPEAKER_LIVE_END_US = 200000 /* how long the last packets may come after the stream's end */
};

/* What it is at. */
enum { SPEAKER_IDLE, SPEAKER_ASKED, SPEAKER_TRACK, SPEAKER_LIVE, SPEAKER_REPORT };

/* Where the bytes go. `begin` (or NULL) is told of a new track. `take` returns how many bytes it
 * had room for; after 0, call speaker_pump when there is room again. `end` writes the SHA-256 of
 * all that was taken since the beginning, in hex. */
typedef struct speaker_sink {
    size_t (*take)(void *ctx, const uint8_t *data, size_t size);
    void (*end)(void *ctx, char sha256[65]);
    void *ctx;
    void (*begin)(void *ctx);
} speaker_sink;

typedef struct speaker {
    p2p_ticket streamer;
    char track_name[SPEAKER_NAME]; /* played at once; "": wait for POST /play */
    speaker_sink sink;
    bool live; /* track_name is played live */
    bool stay; /* go on after a track, and dial for ever; else that is the end: done */
    p2p_conn conn;
    p2p_stream track, report;
    p2p_stream asker; /* whose POST /play waits for the streamer's answer */
    uint32_t state;
    uint64_t backoff_us, connected_us, started_us, ended_us;
    uint64_t got, size; /* bytes played, bytes of the whole track */
    char sha256[65], announced[65];
    p2p_stats stats; /* of the connection, when the track was whole */
    uint32_t volume, tries, plays;
    int err;           /* why it gave up */
    bool done, agreed; /* the report was answered; both ends have the same hash */
    /* live */
    jitter packets;
    uint64_t play_at_us, live_end_us; /* P2P_NEVER: the stream goes on */
    uint32_t byte_rate;
    char tail[65]; /* the body of the live stream's answer: the hash, at the end */
    uint32_t tail_size;
} speaker;

/* ---- the end of a track ---------------------------------------------------------------------- */

static inline void speaker_answer(speaker *app, p2p_node *node, int status) {
    if (app->asker.id)
        (void)p2p_reply(node, app->asker, status, NULL, 0, NULL, 0);
    app->asker.id = 0;
}

/* Nothing plays any more: P2P_OK, or why. */
static inline void speaker_finish(speaker *app, p2p_node *node, int err) {
    speaker_answer(app, node, err == P2P_OK ? 202 : err == P2P_ERR_NOT_FOUND ? 404 : 503);
    app->err = err;
    app->state = SPEAKER_IDLE;
    app->done = true;
    app->track.id = 0;
    app->report.id = 0;
    app->live_end_us = P2P_NEVER;
    (void)p2p_timer_set(node, SPEAKER_PLAY, P2P_NEVER);
    if (!app->stay)
        (void)p2p_timer_set(node, SPEAKER_RETRY, P2P_NEVER);
}

static inline void speaker_path(const speaker *app, const char *tail, char out[SPEAKER_NAME + 32]) {
    size_t n = strlen(app->track_name);
    memcpy(out, "/tracks/", 8);
    memcpy(out + 8, app->track_name, n);
    memcpy(out + 8 + n, tail, strlen(tail) + 1);
}

/* Tells the streamer what was heard, so that both ends know. */
static inline void speaker_report(speaker *app, p2p_node *node) {
    char path[SPEAKER_NAME + 32];
    p2p_request_desc r;
    int rc;
    memset(&r, 0, sizeof r);
    speaker_path(app, "/heard", path);
    r.method = P2P_POST;
    r.path = path;
    r.body = app->sha256;
    r.body_size = 64;
    rc = p2p_request_send(node, app->conn, &r, &app->report);
    if (rc < 0)
        speaker_finish(app, node, rc);
}

/* All was heard. The report waits for the end of the track's stream, so that a speaker with memory
 * for one stream has room for it. */
static inline void speaker_heard(speaker *app, p2p_node *node) {
    app->state = SPEAKER_REPORT;
    app->ended_us = p2p_now(node);
    (void)p2p_conn_stats(node, app->conn, &app->stats);
    app->sink.end(app->sink.ctx, app->sha256);
    if (!app->track.id)
        speaker_report(app, node);
}

/* ---- a track as a stream --------------------------------------------------------------------- */

static inline void speaker_ask(speaker *app, p2p_node *node) {
    char path[SPEAKER_NAME + 32], range[40], digits[21];
    p2p_request_desc r;
    p2p_header header;
    p2p_str from = p2p_u64_str(app->got, digits);
    int rc;
    memset(&r, 0, sizeof r);
    speaker_path(app, app->live ? "/live" : "", path);
    r.method = app->live ? P2P_POST : P2P_GET;
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
    app->state = SPEAKER_ASKED;
    if (rc < 0)
        speaker_finish(app, node, rc);
}

/* Gives the sink what is here. Skipping opens the streamer's window: this is the backpressure. */
static inline void speaker_pump(speaker *app, p2p_node *node) {
    p2p_span bytes;
    size_t taken;
    int n;
    while (app->track.id && app->state == SPEAKER_TRACK) {
        n = p2p_stream_peek(node, app->track, &bytes);
        if (n < 0)
            return; /* later, or CLOSED tells */
        if (n == 0) {
            if (app->got == app->size)
                speaker_heard(app, node);
            else
                speaker_finish(app, node, P2P_ERR_PROTOCOL);
            return;
        }
        taken = app->sink.take(app->sink.ctx, bytes.data, bytes.size);
        if (taken == 0)
            return;
        app->got += taken;
        (void)p2p_stream_skip(node, app->track, taken);
    }
}

/* ---- a track live ---------------------------------------------------------------------------- */

/* Silence takes the place of a lost packet: the sound that comes after stays in time. */
static inline void speaker_sound(speaker *app, const uint8_t *data, size_t size) {
    static const uint8_t silence[JITTER_BYTES] = {0};
    if (size == 0) {
        data = silence;
        size = sizeof silence;
    }
    app->got += app->sink.take(app->sink.ctx, data, size); /* what has no room is lost */
}

/* Packets as they come. One that is too far ahead presses those before it out early. */
static inline void speaker_packets(speaker *app, p2p_node *node) {
    uint8_t packet[4 + JITTER_BYTES];
    const uint8_t *out;
    size_t size;
    uint32_t number;
    int n;
    while ((n = p2p_datagram_recv(node, app->conn, packet, sizeof packet)) != P2P_ERR_AGAIN) {
        if (n == P2P_ERR_TOO_LARGE || n < 0)
            return; /* of a streamer that does not know the bounds */
        if (app->state != SPEAKER_LIVE || n < 5)
            continue;
        number = (uint32_t)packet[0] << 24 | (uint32_t)packet[1] << 16 | (uint32_t)packet[2] << 8 |
                 packet[3];
        while (jitter_put(&app->packets, number, packet + 4, (size_t)n - 4) == JITTER_FULL) {
            (void)jitter_force(&app->packets, &out, &size);
            speaker_sound(app, out, size);
        }
    }
}

static inline uint64_t speaker_packet_us(const speaker *app) {
    return (uint64_t)JITTER_BYTES * 1000000u / app->byte_rate;
}

/* Plays what is due by now, and sets the timer for the next packet. */
static inline void speaker_play(speaker *app, p2p_node *node) {
    uint64_t now = p2p_now(node);
    bool ended = now >= app->live_end_us;
    const uint8_t *out;
    size_t size;
    while (app->state == SPEAKER_LIVE && app->play_at_us <= now) {
        if (jitter_take(&app->packets, ended, &out, &size) != JITTER_WAIT) {
            speaker_sound(app, out, size);
            app->play_at_us += speaker_packet_us(app);
        } else if (ended) {
            speaker_heard(app, node);
        } else {
            app->play_at_us = now + speaker_packet_us(app);
        }
    }
    (void)p2p_timer_set(node, SPEAKER_PLAY,
                        app->state == SPEAKER_LIVE ? app->play_at_us : P2P_NEVER);
}

/* The body of the live stream's answer: 64 hex digits when the music is over. */
static inline void speaker_tail(speaker *app, p2p_node *node) {
    int n = 1;
    if (!app->track.id || app->state != SPEAKER_LIVE)
        return;
    while (n > 0 && app->tail_size < 65) {
        n = p2p_stream_read(node, app->track, app->tail + app->tail_size, 65 - app->tail_size);
        app->tail_size += n > 0 ? (uint32_t)n : 0;
    }
    if (n == 0 && app->tail_size != 64)
        app->tail_size = 65;
    if (app->tail_size == 65) {
        (void)p2p_stream_reset(node, app->track, 0);
        speaker_finish(app, node, P2P_ERR_PROTOCOL);
    }
    if (n != 0 || app->state != SPEAKER_LIVE || app->live_end_us != P2P_NEVER)
        return;
    memcpy(app->announced, app->tail, 64);
    app->live_end_us = p2p_now(node) + SPEAKER_LIVE_END_US;
}

static inline void speaker_begin_live(speaker *app, p2p_node *node, const p2p_response_head *head) {
    uint64_t rate = 0;
    if (p2p_str_u64(p2p_response_header(head, "x-byte-rate"), &rate) < 0 || rate < 1000 ||
        rate > 1000000) {
        (void)p2p_stream_reset(node, app->track, 0);
        speaker_finish(app, node, P2P_ERR_PROTOCOL);
        return;
    }
    app->byte_rate = (uint32_t)rate;
    app->tail_size = 0;
    app->live_end_us = P2P_NEVER;
    app->play_at_us = p2p_now(node);
    jitter_reset(&app->packets);
    app->state = SPEAKER_LIVE;
    speaker_play(app, node);
}

/* ---- answers --------------------------------------------------------------------------------- */

static inline void speaker_begin_track(speaker *app, p2p_node *node,
                                       const p2p_response_head *head) {
    p2p_str hash = p2p_response_header(head, "x-sha256");
    uint64_t length = 0;
    if (hash.size != 64 || p2p_str_u64(p2p_response_header(head, "content-length"), &length) < 0) {
        (void)p2p_stream_reset(node, app->track, 0);
        speaker_finish(app, node, P2P_ERR_PROTOCOL);
        return;
    }
    memcpy(app->announced, hash.data, 64);
    app->size = app->got + length;
    app->state = SPEAKER_TRACK;
}

static inline void speaker_head(speaker *app, p2p_node *node, const p2p_event *e) {
    p2p_response_head head;
    if (e->err < 0 || p2p_response(node, e->stream, &head) < 0) {
        speaker_finish(app, node, e->err < 0 ? e->err : P2P_ERR_PROTOCOL);
        return;
    }
    if (head.status != (app->got ? 206 : 200)) {
        (void)p2p_stream_reset(node, e->stream, 0);
        speaker_finish(app, node, head.status == 404 ? P2P_ERR_NOT_FOUND : P2P_ERR_PROTOCOL);
        return;
    }
    speaker_answer(app, node, 202);
    if (app->started_us == 0)
        app->started_us = p2p_now(node);
    if (app->live)
        speaker_begin_live(app, node, &head);
    else
        speaker_begin_track(app, node, &head);
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

static inline size_t speaker_put(char *out, size_t at, const char *text) {
    size_t size = strlen(text);
    memcpy(out + at, text, size);
    return at + size;
}

static inline size_t speaker_put_number(char *out, size_t at, const char *name, uint64_t value) {
    char digits[21];
    p2p_str text = p2p_u64_str(value, digits);
    at = speaker_put(out, at, name);
    memcpy(out + at, text.data, text.size);
    return at + text.size;
}

/* At most 64 (name) + 65 (hash) + 4 numbers and their names: below 320. */
static inline void speaker_get_status(p2p_node *node, const p2p_request *q, void *ctx) {
    static const char *const states[] = {"idle", "asked", "track", "live", "report"};
    const speaker *app = (const speaker *)ctx;
    char body[320];
    size_t at;
    p2p_header type;
    type.name = p2p_str_of("content-type");
    type.value = p2p_str_of("application/json");
    at = speaker_put_number(body, 0, "{\"volume\":", app->volume);
    at = speaker_put_number(body, at, ",\"played\":", app->got);
    at = speaker_put_number(body, at, ",\"lost\":", app->packets.lost);
    at = speaker_put(body, at, ",\"state\":\"");
    at = speaker_put(body, at, states[app->state]);
    at = speaker_put(body, at, "\",\"track\":\"");
    at = speaker_put(body, at, app->track_name);
    at = speaker_put(body, at, "\",\"sha256\":\"");
    at = speaker_put(body, at, app->sha256);
    at = speaker_put(body, at, "\"}");
    (void)p2p_reply(node, q->stream, 200, &type, 1, body, at);
}

/* Letters, digits, '.', '-', '_': what a path and JSON take as it stands. */
static inline bool speaker_name_ok(const char *name, size_t size) {
    size_t i;
    for (i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return false;
    }
    return size > 0 && size < SPEAKER_NAME;
}

/* Everything of the track before is forgotten. */
static inline void speaker_load(speaker *app, const char *name, size_t size, bool live) {
    memcpy(app->track_name, name, size);
    app->track_name[size] = 0;
    app->live = live;
    app->got = app->size = app->started_us = 0;
    app->sha256[0] = app->announced[0] = 0;
    app->err = P2P_OK;
    app->done = app->agreed = false;
    app->plays++;
    jitter_reset(&app->packets);
    if (app->sink.begin)
        app->sink.begin(app->sink.ctx);
}

static inline void speaker_post_play(p2p_node *node, const p2p_request *q, void *ctx) {
    speaker *app = (speaker *)ctx;
    const char *text = (const char *)q->body.data;
    size_t size = q->body.size;
    bool live = size > 5 && memcmp(text + size - 5, " live", 5) == 0;
    if (live)
        size -= 5;
    if (!speaker_name_ok(text, size))
        (void)p2p_reply(node, q->stream, 400, NULL, 0, "NAME, or NAME live", 18);
    else if (app->state != SPEAKER_IDLE)
        (void)p2p_reply(node, q->stream, 409, NULL, 0, "something plays", 15);
    else if (!p2p_is_connected(node, app->conn))
        (void)p2p_reply(node, q->stream, 503, NULL, 0, "no streamer", 11);
    else {
        speaker_load(app, text, size, live);
        app->asker = q->stream;
        (void)p2p_reply_later(node, q->stream);
        speaker_ask(app, node);
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static inline void speaker_dial(speaker *app, p2p_node *node) {
    p2p_connect_desc desc;
    memset(&desc, 0, sizeof desc);
    app->tries++;
    if (p2p_connect(node, &app->streamer.id, &desc, &app->conn) < 0)
        (void)p2p_timer_set(node, SPEAKER_RETRY, p2p_now(node) + app->backoff_us);
}

/* A track goes on where it was when the connection is back; what was live is over, and so is a
 * report, of which nobody knows whether it came. */
static inline void speaker_lost(speaker *app, p2p_node *node, int err) {
    bool over = app->state == SPEAKER_LIVE || app->state == SPEAKER_REPORT;
    app->conn.id = 0;
    app->track.id = 0;
    app->report.id = 0;
    if (over || (app->asker.id && app->state == SPEAKER_ASKED) ||
        (!app->stay && !app->done && app->tries >= SPEAKER_TRIES))
        speaker_finish(app, node, err < 0 ? err : P2P_ERR_CLOSED);
    if (app->done && !app->stay)
        return;
    (void)p2p_timer_set(node, SPEAKER_RETRY, p2p_now(node) + app->backoff_us);
    app->backoff_us *= app->backoff_us < SPEAKER_BACKOFF_MAX_US ? 2 : 1;
}

static inline void speaker_connected(speaker *app, p2p_node *node) {
    app->connected_us = p2p_now(node);
    if (app->stay)
        app->backoff_us = SPEAKER_BACKOFF_US;
    if (app->track_name[0] && !app->done)
        speaker_ask(app, node);
}

static inline void speaker_response(speaker *app, p2p_node *node, const p2p_event *e) {
    if (app->track.id && e->stream.id == app->track.id)
        speaker_head(app, node, e);
    if (app->report.id && e->stream.id == app->report.id) {
        app->agreed = e->err == P2P_OK && e->status == 204;
        speaker_finish(app, node, P2P_OK);
    }
}

/* The asker went away, or the track: of one that was not whole, the reason follows with the
 * connection's end. */
static inline void speaker_closed(speaker *app, p2p_node *node, const p2p_event *e) {
    if (app->asker.id && e->stream.id == app->asker.id)
        app->asker.id = 0;
    if (!app->track.id || e->stream.id != app->track.id)
        return;
    app->track.id = 0;
    if (app->state == SPEAKER_REPORT)
        speaker_report(app, node);
    else if (app->live_end_us == P2P_NEVER && app->stay && p2p_is_connected(node, app->conn))
        speaker_finish(app, node, e->err < 0 ? e->err : P2P_ERR_RESET);
}

static inline void speaker_event(speaker *app, p2p_node *node, const p2p_event *e) {
    bool own = app->conn.id && e->conn.id == app->conn.id;
    switch (e->type) {
    case P2P_EVENT_CONNECTED:
        if (own)
            speaker_connected(app, node);
        break;
    case P2P_EVENT_RESPONSE: speaker_response(app, node, e); break;
    case P2P_EVENT_DATAGRAM:
        if (own)
            speaker_packets(app, node);
        break;
    case P2P_EVENT_CLOSED: speaker_closed(app, node, e); break;
    case P2P_EVENT_DISCONNECTED:
        if (own)
            speaker_lost(app, node, e->err);
        break;
    case P2P_EVENT_TIMER:
        if (e->code == SPEAKER_RETRY)
            speaker_dial(app, node);
        else if (e->code == SPEAKER_PLAY)
            speaker_play(app, node);
        break;
    default: break;
    }
    speaker_tail(app, node);
    speaker_pump(app, node);
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static inline void speaker_limits(p2p_desc *desc) {
    desc->max.conns = 2;
    desc->max.streams = 4;
    desc->max.peer_streams = 4;
    desc->max.in_flight = 256;
    desc->max.datagrams_out = P2P_NONE;
    desc->bytes.stream_send = 2048;
    desc->bytes.stream_recv = 262144;
    desc->bytes.peer_send = 1024;
    desc->bytes.peer_recv = 1024;
    desc->bytes.message_max = P2P_NONE;
}

/* streamer, track_name, live, stay and sink are set. Routes, then the dial. */
static inline int speaker_start(speaker *app, p2p_node *node) {
    p2p_route routes[] = {{P2P_PUT, 0, "/volume", speaker_put_volume, NULL},
                          {P2P_GET, 0, "/status", speaker_get_status, NULL},
                          {P2P_POST, 0, "/play", speaker_post_play, NULL}};
    size_t i;
    int rc = p2p_peer_add(node, &app->streamer);
    for (i = 0; i < 3 && rc >= 0; i++) {
        routes[i].ctx = app;
        rc = p2p_route_add(node, &routes[i]);
    }
    if (rc < 0)
        return rc;
    app->backoff_us = SPEAKER_BACKOFF_US;
    app->plays = app->track_name[0] != 0;
    app->done = !app->plays;
    app->live_end_us = P2P_NEVER;
    if (app->plays && app->sink.begin)
        app->sink.begin(app->sink.ctx);
    speaker_dial(app, node);
    return P2P_OK;
}
#endif
