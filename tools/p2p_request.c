/* p2p get, p2p call, p2p ping. */
#include "p2p_client.h"

#include <stdlib.h>
#include <string.h>

/* ---- get ------------------------------------------------------------------------------------- */

static const char *status_text(int status) {
    switch (status) {
    case 400: return "it takes the request for malformed";
    case 401:
    case 403: return "it does not allow this";
    case 404: return "there is nothing under this path";
    case 405: return "not with this method";
    case 413: return "the body is too large for it";
    case 416: return "there is no such range";
    case 500: return "it failed inside";
    case 503: return "it is busy, try again";
    case 504: return "it was too slow";
    default: return "see the status";
    }
}

static int status_fail(const exchange *x) {
    int rc = tool_fail(x->c.args->command, "%s answers %s with status %d: %s", x->c.brief, x->path,
                       x->status, status_text(x->status));
    if (x->kept_size > 0 && strcmp(x->c.args->command, "get") == 0) {
        (void)fputs("it says: ", stderr);
        tool_print_safe(stderr, x->kept, x->kept_size, false);
        (void)fputc('\n', stderr);
    }
    return rc;
}

static void get_summary(const exchange *x) {
    char id[P2P_ID_TEXT_SIZE];
    uint64_t now_us = p2p_posix_now_us();
    json j;
    (void)p2p_id_text(&x->c.ticket.id, id);
    json_open(&j, x->c.args->output && strcmp(x->c.args->output, "-") != 0 ? stdout : stderr);
    json_begin(&j, NULL, '{');
    json_string(&j, "peer", id);
    json_string(&j, "path", x->path);
    json_number(&j, "status", (uint64_t)x->status);
    json_string(&j, "type", x->type);
    json_number(&j, "bytes", x->got);
    json_number(&j, "connect_us", x->c.connected_us - x->c.dialled_us);
    json_number(&j, "transfer_us", now_us - x->started_us);
    if (x->c.args->output)
        json_string(&j, "output", x->c.args->output);
    json_end(&j, '}');
    json_line(&j);
}

int tool_get(const tool_args *args) {
    static exchange x;
    int rc;
    x.method = P2P_GET;
    x.kept_room = 512;
    x.kept = (char *)malloc(x.kept_room);
    x.to_sink = true;
    if (!x.kept)
        return tool_fail("get", "no memory");
    rc = exchange_open(&x, args, 0);
    if (rc == TOOL_OK)
        rc = tool_sink_open(&x.sink, "get", args->output);
    if (rc == TOOL_OK)
        rc = exchange_run(&x);
    if (rc == TOOL_OK && x.status / 100 != 2)
        rc = status_fail(&x);
    else if (rc == TOOL_OK)
        rc = tool_sink_finish(&x.sink);
    if (args->json && x.answered && (rc == TOOL_OK || x.status / 100 != 2))
        get_summary(&x);
    exchange_close(&x);
    return rc;
}

/* ---- call ------------------------------------------------------------------------------------ */

static int method_of(const char *text) {
    static const char *const names[] = {"GET", "POST", "PUT", "DELETE", "PATCH"};
    int i;
    for (i = 0; i < 5; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    return -1;
}

static void call_print(exchange *x) {
    json j;
    size_t i;
    (void)fflush(x->headers);
    json_open(&j, stdout);
    json_begin(&j, NULL, '{');
    json_number(&j, "status", (uint64_t)x->status);
    json_number(&j, "bytes", x->got);
    (void)fputs(",\"headers\":", stdout);
    (void)fwrite(x->headers_text, 1, x->headers_size, stdout);
    if (tool_utf8_valid(x->kept, x->kept_size)) {
        json_text(&j, "body", x->kept, x->kept_size);
    } else {
        (void)fputs(",\"body_hex\":\"", stdout);
        for (i = 0; i < x->kept_size; i++)
            (void)printf("%02x", (unsigned)(uint8_t)x->kept[i]);
        (void)fputc('"', stdout);
    }
    json_end(&j, '}');
    json_line(&j);
}

static int call_prepare(exchange *x, const tool_args *args) {
    if (!args->json) {
        x->to_sink = true;
        return tool_sink_open(&x->sink, "call", NULL);
    }
    x->kept_room = 1u << 20;
    x->kept = (char *)malloc(x->kept_room);
    x->headers = open_memstream(&x->headers_text, &x->headers_size);
    return x->kept && x->headers ? TOOL_OK : tool_fail("call", "no memory");
}

int tool_call(const tool_args *args) {
    static exchange x;
    int rc, method = method_of(args->words[0]);
    if (method < 0)
        return tool_usage("call", "the method '%s' is none of GET, POST, PUT, DELETE, PATCH",
                          args->words[0]);
    x.method = (uint32_t)method;
    rc = call_prepare(&x, args);
    if (rc == TOOL_OK)
        rc = exchange_open(&x, args, 1);
    if (rc == TOOL_OK)
        rc = exchange_run(&x);
    if (rc == TOOL_OK && args->json)
        call_print(&x);
    if (rc == TOOL_OK && x.status / 100 != 2)
        rc = status_fail(&x);
    exchange_close(&x);
    return rc;
}

/* ---- ping ------------------------------------------------------------------------------------ */

typedef struct ping {
    client c;
    p2p_stream stream;
    uint32_t wanted, sent, received;
    uint64_t sent_us, interval_us, min_us, max_us, sum_us;
    bool waiting, finished;
} ping;

static const char *ms_text(uint64_t us, char out[32]) {
    (void)snprintf(out, 32, "%llu.%03u ms", (unsigned long long)(us / 1000), (unsigned)(us % 1000));
    return out;
}

static void ping_send(ping *p) {
    p2p_request_desc r;
    int rc;
    memset(&r, 0, sizeof r);
    r.method = P2P_GET;
    r.path = "/ping";
    p->sent_us = p2p_posix_now_us();
    rc = p2p_request_send(p->c.t.node, p->c.conn, &r, &p->stream);
    p->sent++;
    p->waiting = rc >= 0;
    if (rc < 0)
        (void)tool_fail("ping", "cannot ask: %s", p2p_err_text(rc));
}

/* Sets the time of the next one, or ends. */
static void ping_next(ping *p) {
    uint64_t now_us = p2p_posix_now_us(), next_us = p->sent_us + p->interval_us;
    p->waiting = false;
    if (p->sent >= p->wanted)
        p->finished = true;
    else
        (void)p2p_timer_set(p->c.t.node, 0, next_us > now_us ? next_us : now_us);
}

static void ping_answer(ping *p, const p2p_event *e) {
    uint64_t us = p2p_posix_now_us() - p->sent_us;
    uint8_t rest[256];
    char text[32];
    int n;
    if (e->err < 0) {
        (void)tool_fail("ping", "no answer: %s", p2p_err_text(e->err));
        ping_next(p);
        return;
    }
    p->received++;
    p->sum_us += us;
    p->min_us = p->received == 1 || us < p->min_us ? us : p->min_us;
    p->max_us = us > p->max_us ? us : p->max_us;
    do
        n = p2p_stream_read(p->c.t.node, e->stream, rest, sizeof rest);
    while (n > 0);
    if (n == P2P_ERR_AGAIN)
        (void)p2p_stream_reset(p->c.t.node, e->stream, 0);
    if (!p->c.args->json) {
        (void)printf("%u: %s, status %u\n", p->received, ms_text(us, text), e->status);
        (void)fflush(stdout);
    }
    ping_next(p);
}

static void ping_connected(ping *p) {
    p2p_stats stats;
    char at[P2P_ADDR_TEXT_SIZE], text[32];
    memset(&stats, 0, sizeof stats);
    (void)p2p_conn_stats(p->c.t.node, p->c.conn, &stats);
    if (!p->c.args->json && p2p_addr_text(&stats.remote, at) >= 0)
        (void)printf("connected to %s at %s in %s\n", p->c.brief, at,
                     ms_text(p->c.connected_us - p->c.dialled_us, text));
    (void)fflush(stdout);
    ping_send(p);
    if (!p->waiting)
        p->finished = true;
}

static void ping_event(ping *p, const p2p_event *e) {
    client_event(&p->c, e, "all answers were here");
    if (p->c.lost)
        p->finished = true;
    else if (e->type == P2P_EVENT_CONNECTED && e->conn.id == p->c.conn.id)
        ping_connected(p);
    else if (e->type == P2P_EVENT_TIMER)
        ping_send(p);
    else if (e->type == P2P_EVENT_RESPONSE && p->waiting && e->stream.id == p->stream.id)
        ping_answer(p, e);
    else if (e->type == P2P_EVENT_CLOSED && p->waiting && e->stream.id == p->stream.id)
        ping_next(p);
}

static void ping_json(const ping *p) {
    char id[P2P_ID_TEXT_SIZE];
    json j;
    (void)p2p_id_text(&p->c.ticket.id, id);
    json_open(&j, stdout);
    json_begin(&j, NULL, '{');
    json_string(&j, "peer", id);
    json_number(&j, "connect_us", p->c.connected_us ? p->c.connected_us - p->c.dialled_us : 0);
    json_number(&j, "sent", p->sent);
    json_number(&j, "received", p->received);
    if (p->received > 0) {
        json_number(&j, "min_us", p->min_us);
        json_number(&j, "avg_us", p->sum_us / p->received);
        json_number(&j, "max_us", p->max_us);
    }
    json_end(&j, '}');
    json_line(&j);
}

static void ping_report(const ping *p) {
    char least[32], mean[32], most[32];
    if (p->c.args->json && p->c.connected_us) {
        ping_json(p);
        return;
    }
    if (p->received > 0)
        (void)printf("%u sent, %u answered, min %s, avg %s, max %s\n", p->sent, p->received,
                     ms_text(p->min_us, least), ms_text(p->sum_us / p->received, mean),
                     ms_text(p->max_us, most));
}

int tool_ping(const tool_args *args) {
    static ping p;
    p2p_event e;
    int rc;
    p.wanted = args->count ? args->count : 4;
    p.interval_us = (uint64_t)(args->interval_ms ? args->interval_ms : 1000) * 1000;
    rc = client_open(&p.c, args, 0);
    while (rc == TOOL_OK && !p.finished && !tool_interrupted()) {
        if (tool_node_wait(&p.c.t, -1, 0) < 0)
            rc = TOOL_FAILED;
        while (!p.finished && p2p_next_event(p.c.t.node, &e) > 0)
            ping_event(&p, &e);
    }
    if (rc == TOOL_OK)
        ping_report(&p);
    if (rc == TOOL_OK && tool_interrupted() && p.received == 0)
        (void)tool_fail("ping", "interrupted before an answer came");
    if (rc == TOOL_OK && (p.received == 0 || p.received < p.wanted))
        rc = tool_interrupted() && p.received > 0 ? TOOL_OK : TOOL_FAILED;
    client_close(&p.c);
    return rc;
}
