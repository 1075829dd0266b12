/* p2p_qlog.c: one JSON record for each thing that the sink is told. */
#include "p2p_qlog.h"
#include "p2p_frames.h"
#include "p2p_tool.h"

#include <stdlib.h>
#include <string.h>

typedef struct qlog {
    FILE *out;
    json j;
} qlog;

/* ---- records --------------------------------------------------------------------------------- */

/* Opens a record and its data. Times are milliseconds; the event is seen from `at`, of what it has
 * with `peer` (NULL: of itself). */
static json *qlog_begin(qlog *q, uint64_t time_us, const char *name, const p2p_see_vertex *at,
                        const p2p_see_vertex *peer) {
    char group[2 * P2P_SEE_NAME + 8];
    int n = snprintf(group, sizeof group, "%s%s%s", at ? at->name : "network", peer ? ">" : "",
                     peer ? peer->name : "");
    (void)fputc(0x1e, q->out);
    json_open(&q->j, q->out);
    json_begin(&q->j, NULL, '{');
    json_thousandths(&q->j, "time", time_us);
    json_string(&q->j, "name", name);
    json_text(&q->j, "group_id", group, (size_t)n);
    json_begin(&q->j, "data", '{');
    return &q->j;
}
static void qlog_end(qlog *q) {
    json_end(&q->j, '}');
    json_end(&q->j, '}');
    (void)fputc('\n', q->out);
}

static void qlog_raw(json *j, size_t length) {
    json_begin(j, "raw", '{');
    json_number(j, "length", length);
    json_end(j, '}');
}
/* A TupleEndpointInfo of QUIC's. */
static void qlog_endpoint(json *j, const char *name, const p2p_addr *addr) {
    char text[P2P_ADDR_TEXT_SIZE], *end;
    p2p_addr bare = *addr;
    json_begin(j, name, '{');
    bare.port = 1; /* so that the text ends with a port, which is cut off */
    if (addr->family != 0 && p2p_addr_text(&bare, text) >= 0) {
        end = strrchr(text, ':');
        *end = 0;
        if (addr->family == 6)
            end[-1] = 0; /* the bracket */
        json_string(j, addr->family == 6 ? "ip_v6" : "ip_v4", text + (addr->family == 6));
        json_number(j, addr->family == 6 ? "port_v6" : "port_v4", addr->port);
    }
    json_end(j, '}');
}

/* What QUIC's schema asks of the first record; times run from the start of the run. */
static void qlog_header(qlog *q, const p2p_qlog_desc *desc) {
    json *j = &q->j;
    (void)fputc(0x1e, q->out);
    json_open(j, q->out);
    json_begin(j, NULL, '{');
    json_string(j, "file_schema", "urn:ietf:params:qlog:file:sequential");
    json_string(j, "serialization_format", "application/qlog+json-seq");
    if (desc && desc->title)
        json_string(j, "title", desc->title);
    json_begin(j, "trace", '{');
    json_begin(j, "common_fields", '{');
    json_string(j, "time_format", "relative_to_epoch");
    json_begin(j, "reference_time", '{');
    json_string(j, "clock_type", "monotonic");
    json_string(j, "epoch", "unknown");
    json_end(j, '}');
    json_end(j, '}');
    json_begin(j, "vantage_point", '{');
    json_string(j, "name", "p2p_sim.h");
    json_string(j, "type", "network");
    json_string(j, "flow", "unknown");
    json_end(j, '}');
    json_begin(j, "event_schemas", '[');
    json_string(j, NULL, "urn:ietf:params:qlog:events:simulation");
    json_string(j, NULL, "urn:p2p-h:qlog:events:p2p");
    json_end(j, ']');
    json_end(j, '}');
    json_end(j, '}');
    (void)fputc('\n', q->out);
}

static void qlog_scenario(qlog *q, const p2p_qlog_desc *desc) {
    json *j = qlog_begin(q, 0, "simulation:scenario", NULL, NULL);
    json_string(j, "name", desc->title);
    json_begin(j, "details", '{');
    json_number(j, "seed", desc->seed);
    json_end(j, '}');
    qlog_end(q);
}

/* ---- the network ----------------------------------------------------------------------------- */

static void qlog_on_vertex(void *ctx, const p2p_see_vertex *v) {
    qlog *q = (qlog *)ctx;
    json *j = qlog_begin(q, v->time_us, "p2p:vertex_updated", v, NULL);
    json_hex(j, "id", v->id.bytes, sizeof v->id.bytes);
    qlog_endpoint(j, "address", &v->addr);
    json_bool(j, "runs", v->node != NULL);
    qlog_end(q);
}

static const char *qlog_fate_event(uint32_t fate) {
    switch (fate) {
    case P2P_SIM_SENT: return "p2p:datagram_sent";
    case P2P_SIM_DELIVERED: return "p2p:datagram_received";
    case P2P_SIM_FORWARDED: return "p2p:datagram_forwarded";
    case P2P_SIM_DUPLICATED: return "p2p:datagram_duplicated";
    case P2P_SIM_CORRUPTED: return "p2p:datagram_corrupted";
    default: return "p2p:datagram_dropped";
    }
}
static const char *qlog_fate_name(uint32_t fate) {
    static const char *const names[] = {
#define QLOG_NAME(upper, lower) #lower,
        P2P_SIM_FATES(QLOG_NAME)
#undef QLOG_NAME
    };
    return fate < sizeof names / sizeof *names ? names[fate] : "unknown";
}

/* What came is the receiver's to tell; all else is told as of the sender, whose datagram it is. */
static void qlog_on_datagram(void *ctx, const p2p_see_datagram *d) {
    qlog *q = (qlog *)ctx;
    const p2p_sim_trace_item *t = d->item;
    bool came = t->fate == P2P_SIM_DELIVERED;
    const char *name = qlog_fate_event(t->fate);
    json *j = qlog_begin(q, t->time_us, name, came ? d->at : d->from, d->peer);
    json_number(j, "datagram_id", t->number);
    qlog_raw(j, t->data.size);
    qlog_endpoint(j, "source", &t->source);
    qlog_endpoint(j, "target", &t->target);
    if (t->fate != P2P_SIM_SENT && !came)
        json_string(j, "at", d->at->name);
    if (d->next)
        json_string(j, "link_to", d->next->name);
    if (strcmp(name, "p2p:datagram_dropped") == 0)
        json_string(j, "trigger", qlog_fate_name(t->fate));
    qlog_end(q);
}

/* ---- packets --------------------------------------------------------------------------------- */

static void qlog_ack(json *j, const p2p_frames_frame *f) {
    static const char *const ecn[] = {"ect0", "ect1", "ce"};
    uint32_t i;
    json_thousandths(j, "ack_delay", f->delay_us);
    json_begin(j, "acked_ranges", '[');
    for (i = f->range_count; i-- > 0;) {
        json_begin(j, NULL, '[');
        json_number(j, NULL, f->range[i].first);
        if (f->range[i].last != f->range[i].first)
            json_number(j, NULL, f->range[i].last);
        json_end(j, ']');
    }
    json_end(j, ']');
    for (i = 0; f->type == 0x03 && i < 3; i++)
        json_number(j, ecn[i], f->ecn[i]);
}

static void qlog_limit(json *j, const p2p_frames_frame *f) {
    static const char *const kinds[] = {"bidirectional", "unidirectional", "request"};
    bool maximum = f->type <= 0x12;
    if (f->type == 0x11 || f->type == 0x15)
        json_number(j, "stream_id", f->stream);
    if (f->type == 0x12 || f->type == 0x16)
        json_string(j, "stream_type", kinds[f->kind]);
    json_number(j, maximum ? "maximum" : "limit", f->value);
}

static void qlog_close(json *j, const p2p_frames_frame *f) {
    json_string(j, "error_space", f->origin ? "application" : "transport");
    json_string(j, "error", "unknown");
    json_number(j, "error_code", f->code);
    json_text(j, "reason", f->data.data, f->data.size);
}

static void qlog_stream(json *j, const p2p_frames_frame *f) {
    json_number(j, "stream_id", f->stream);
    if (f->type <= 0x05) {
        json_string(j, "error", "unknown");
        json_number(j, "error_code", f->code);
        if (f->type == 0x04)
            json_number(j, "final_size", f->final_size);
        return;
    }
    json_number(j, "offset", f->offset);
    json_bool(j, "fin", f->type & 1u);
}

static void qlog_frame(json *j, const p2p_frames_frame *f) {
    const char *name = p2p_frames_name(f->type);
    json_begin(j, NULL, '{');
    json_string(j, "frame_type", name);
    if (strcmp(name, "unknown") == 0)
        json_number(j, "frame_type_bytes", f->type);
    else if (f->range_count)
        qlog_ack(j, f);
    else if (f->type == 0x04 || f->type == 0x05 || (f->type >= 0x08 && f->type <= 0x0f))
        qlog_stream(j, f);
    else if (f->type >= 0x10 && f->type <= 0x16)
        qlog_limit(j, f);
    else if (f->type == 0x1a || f->type == 0x1b)
        json_hex(j, "data", f->data.data, f->data.size);
    else if (f->type == 0x1c)
        qlog_close(j, f);
    json_begin(j, "raw", '{');
    json_number(j, "length", f->size);
    if (f->type >= 0x08 && (f->type <= 0x0f || f->type >= 0x20))
        json_number(j, "payload_length", f->data.size);
    json_end(j, '}');
    json_end(j, '}');
}

static void qlog_on_packet(void *ctx, const p2p_see_packet *p) {
    qlog *q = (qlog *)ctx;
    json *j = qlog_begin(q, p->time_us, p->sent ? "p2p:packet_sent" : "p2p:packet_received", p->at,
                         p->peer);
    p2p_span rest = p->plain;
    p2p_frames_frame f;
    uint64_t number;
    int more = p2p_frames_number(&rest, &number);
    json_begin(j, "header", '{');
    json_string(j, "packet_type", "1RTT");
    if (more == 1)
        json_number(j, "packet_number", number);
    json_hex(j, "dcid", p->session, sizeof p->session);
    json_end(j, '}');
    json_begin(j, "frames", '[');
    while (more == 1 && (more = p2p_frames_next(&rest, &f)) == 1)
        qlog_frame(j, &f);
    json_end(j, ']');
    json_begin(j, "raw", '{');
    json_number(j, "length", p->size);
    json_number(j, "payload_length", p->plain.size);
    json_end(j, '}');
    json_number(j, "datagram_id", p->datagram);
    if (more < 0)
        json_bool(j, "malformed", true);
    qlog_end(q);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void qlog_on_sample(void *ctx, const p2p_see_sample *s) {
    qlog *q = (qlog *)ctx;
    const p2p_stats *t = s->stats;
    json *j = qlog_begin(q, s->time_us, "p2p:recovery_metrics_updated", s->at, s->peer);
    json_thousandths(j, "min_rtt", t->rtt_min_us);
    json_thousandths(j, "smoothed_rtt", t->rtt_us);
    json_thousandths(j, "rtt_variance", t->rtt_variance_us);
    json_number(j, "congestion_window", t->window_bytes);
    json_number(j, "bytes_in_flight", t->in_flight_bytes);
    json_number(j, "pacing_rate", (uint64_t)t->pacing_rate * 8);
    json_number(j, "packets_lost", t->packets_lost);
    json_number(j, "mtu", t->mtu);
    json_number(j, "connection", s->conn.id);
    qlog_end(q);
}

static void qlog_started(json *j, const p2p_see_event *e, const p2p_see_vertex *peer) {
    qlog_endpoint(j, "local", &e->at->addr);
    if (peer)
        qlog_endpoint(j, "remote", &peer->addr);
    json_hex(j, "peer_id", e->event->peer.bytes, sizeof e->event->peer.bytes);
    json_string(j, "initiator", e->event->incoming ? "remote" : "local");
}

static void qlog_closed(json *j, const p2p_event *e) {
    const char *trigger = e->err == P2P_OK || e->err == P2P_ERR_CLOSED ? "application"
                          : e->err == P2P_ERR_TIMEOUT                  ? "idle_timeout"
                                                                       : "error";
    if (e->err == P2P_OK || e->err == P2P_ERR_CLOSED)
        json_string(j, "initiator", e->err == P2P_OK ? "local" : "remote");
    json_string(j, "error", p2p_err_name(e->err));
    json_number(j, "error_code", e->code);
    json_text(j, "reason", e->reason.data, e->reason.size);
    json_string(j, "trigger", trigger);
}

static void qlog_stream_closed(json *j, const p2p_event *e) {
    json_number(j, "stream", e->stream.id);
    json_string(j, "error", p2p_err_name(e->err));
    json_number(j, "error_code", e->code);
}

static const char *qlog_event_name(uint32_t type) {
    switch (type) {
    case P2P_EVENT_CONNECTED: return "p2p:connection_started";
    case P2P_EVENT_RECONNECTED: return "p2p:connection_restarted";
    case P2P_EVENT_DISCONNECTED: return "p2p:connection_closed";
    case P2P_EVENT_PATH: return "p2p:path_updated";
    case P2P_EVENT_STREAM: return "p2p:stream_opened";
    case P2P_EVENT_CLOSED: return "p2p:stream_closed";
    case P2P_EVENT_MESSAGE: return "p2p:message_received";
    case P2P_EVENT_DATAGRAM: return "p2p:application_datagram_received";
    case P2P_EVENT_REQUEST: return "p2p:request_received";
    case P2P_EVENT_RESPONSE: return "p2p:response_received";
    default: return NULL; /* READABLE, WRITABLE, timers: the program's own affairs */
    }
}

static void qlog_event_data(json *j, const p2p_see_event *e, const p2p_see_vertex *peer) {
    const p2p_event *v = e->event;
    switch (v->type) {
    case P2P_EVENT_CONNECTED: qlog_started(j, e, peer); break;
    case P2P_EVENT_RECONNECTED:
        json_number(j, "messages_unacknowledged", v->size);
        json_number(j, "error_code", v->code);
        break;
    case P2P_EVENT_DISCONNECTED: qlog_closed(j, v); break;
    case P2P_EVENT_PATH:
        json_bool(j, "relayed", v->relayed);
        json_thousandths(j, "rtt", v->rtt_us);
        break;
    case P2P_EVENT_CLOSED: qlog_stream_closed(j, v); break;
    case P2P_EVENT_MESSAGE:
    case P2P_EVENT_DATAGRAM: qlog_raw(j, (size_t)v->size); break;
    case P2P_EVENT_RESPONSE: json_number(j, "status", v->status); /* fall through */
    default: json_number(j, "stream", v->stream.id); break;
    }
    json_number(j, "connection", v->conn.id);
}

static void qlog_on_event(void *ctx, const p2p_see_event *e) {
    qlog *q = (qlog *)ctx;
    const char *name = qlog_event_name(e->event->type);
    if (!name)
        return;
    qlog_event_data(qlog_begin(q, e->time_us, name, e->at, e->peer), e, e->peer);
    qlog_end(q);
}

static void qlog_on_note(void *ctx, const p2p_see_note *n) {
    qlog *q = (qlog *)ctx;
    json *j = qlog_begin(q, n->time_us, "simulation:marker", n->at, NULL);
    json_string(j, "type", n->type);
    json_string(j, "message", n->text);
    qlog_end(q);
}

/* ---- open and close -------------------------------------------------------------------------- */

static int qlog_on_close(void *ctx) {
    qlog *q = (qlog *)ctx;
    int failed = ferror(q->out);
    if (fclose(q->out) != 0)
        failed = 1;
    free(q);
    return failed ? P2P_ERR_IO : P2P_OK;
}

int p2p_qlog_open(FILE *out, const p2p_qlog_desc *desc, p2p_see_sink *sink) {
    qlog *q = (qlog *)calloc(1, sizeof *q);
    if (!q)
        return P2P_ERR_ARENA;
    q->out = out;
    qlog_header(q, desc);
    if (desc && desc->title)
        qlog_scenario(q, desc);
    memset(sink, 0, sizeof *sink);
    sink->ctx = q;
    sink->vertex = qlog_on_vertex;
    sink->datagram = qlog_on_datagram;
    sink->packet = qlog_on_packet;
    sink->event = qlog_on_event;
    sink->sample = qlog_on_sample;
    sink->note = qlog_on_note;
    sink->close = qlog_on_close;
    return P2P_OK;
}
