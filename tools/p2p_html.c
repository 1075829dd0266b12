/* p2p_html.c: collects what a run tells, and writes it into the page of p2p_html.html. */
#include "p2p_html.h"
#include "p2p_tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char page[] = {
#include "p2p_page.h" /* made of p2p_html.html by the Makefile */
};
static const char mark[] = "{{DATA}}";

enum {
    HOPS = 40000,    /* of datagrams that arrived, drawn at most */
    DROPS = 10000,   /* and of those that did not */
    SERIES = 48,     /* connections with charts, each end one */
    POINTS = 1200,   /* of each */
    EVENTS = 3000,   /* in the table */
    STATES = 4000,   /* of nodes: down or up again */
    TRACKED = 65536, /* datagrams under way whose last place is known */
    WAY = 12         /* places of one that are remembered */
};

typedef struct hop {
    uint64_t from_us, to_us;
    uint32_t from, to, size, number, fate;
} hop;
/* A bounded list that keeps whole datagrams: those whose number is a multiple of stride. */
typedef struct hops {
    hop *items;
    uint32_t count, most, stride;
    uint64_t left_out;
} hops;
typedef struct point {
    uint64_t time_us;
    uint32_t window, in_flight, rtt_us;
} point;
typedef struct series {
    uint32_t at, peer, conn, count, stride, skip;
    point *points;
} series;
typedef struct occurrence {
    uint64_t time_us;
    uint32_t at; /* UINT32_MAX: the network */
    char *type, *text;
} occurrence;
typedef struct state {
    uint64_t time_us;
    uint32_t vertex, up;
} state;
typedef struct tracked {
    uint32_t number, count; /* count 0: nothing */
    uint32_t at[WAY];
    uint64_t time_us[WAY];
} tracked;
typedef struct vertex {
    char name[P2P_SEE_NAME];
    p2p_id id;
    const char *kind; /* NULL: a node */
    bool up;
} vertex;

struct p2p_html {
    FILE *out;
    hops arrived, dropped;
    series series[SERIES];
    uint32_t series_count, series_left;
    occurrence events[EVENTS];
    uint32_t event_count;
    uint64_t events_left;
    state states[STATES];
    uint32_t state_count;
    tracked *tracked;
    vertex *vertices;
    uint32_t vertex_count, vertex_room, asked;
    uint32_t (*links)[2];
    uint32_t link_count, link_room;
    uint64_t now_us, seed, digest, end_us;
    char *title, *channel, *source;
    size_t source_size;
    unsigned met, failed;
    p2p_sim_stats stats;
    bool short_of_memory;
};

/* ---- datagrams -------------------------------------------------------------------------------- */

static void hops_thin(hops *h) {
    uint32_t i, kept = 0;
    h->stride *= 2;
    for (i = 0; i < h->count; i++)
        if (h->items[i].number % h->stride == 0)
            h->items[kept++] = h->items[i];
    h->left_out += h->count - kept;
    h->count = kept;
}
static void hops_add(hops *h, const hop *item) {
    if (h->count == h->most)
        hops_thin(h);
    if (item->number % h->stride != 0 || h->count == h->most) {
        h->left_out++;
        return;
    }
    h->items[h->count++] = *item;
}
static tracked *track_of(p2p_html *h, uint32_t number) {
    tracked *t = &h->tracked[number % TRACKED];
    if (t->number != number || t->count == 0) {
        t->number = number;
        t->count = 0;
    }
    return t;
}
/* Where a datagram that is at this vertex now came from: the place before, if a copy of it was here
 * already, else the last one. It is here from now on. */
static uint32_t came_from(tracked *t, uint32_t at, uint64_t now_us, uint64_t *since_us) {
    uint32_t i;
    for (i = 1; i < t->count; i++)
        if (t->at[i] == at)
            break;
    if (t->count == 0 || (i == t->count && t->count == WAY)) {
        *since_us = now_us;
        return at;
    }
    *since_us = t->time_us[i - 1];
    t->at[i] = at;
    t->time_us[i] = now_us;
    if (i == t->count)
        t->count++;
    return t->at[i - 1];
}
static bool arrives(uint32_t fate) {
    return fate == P2P_SIM_FORWARDED || fate == P2P_SIM_DELIVERED;
}

/* It, or a copy of it, has come here at this very instant: it does not come once more. */
static bool is_there(const tracked *t, uint32_t at, uint64_t now_us) {
    return t->at[t->count - 1] == at && t->time_us[t->count - 1] == now_us;
}

static void on_datagram(void *ctx, const p2p_see_datagram *d) {
    p2p_html *h = (p2p_html *)ctx;
    const p2p_sim_trace_item *item = d->item;
    tracked *t = track_of(h, item->number);
    hop now;
    h->now_us = item->time_us;
    if (item->fate == P2P_SIM_SENT) {
        t->count = 1;
        t->at[0] = d->at->index;
        t->time_us[0] = item->time_us;
        return;
    }
    now.from_us = now.to_us = item->time_us;
    now.from = now.to = d->at->index;
    now.size = (uint32_t)item->data.size;
    now.number = item->number;
    now.fate = item->fate;
    if (d->next)
        now.to = d->next->index; /* on a link: it is not at its end */
    else if (t->count && (arrives(item->fate) || !is_there(t, d->at->index, item->time_us)))
        now.from = came_from(t, d->at->index, item->time_us, &now.from_us);
    hops_add(arrives(item->fate) ? &h->arrived : &h->dropped, &now);
}

/* ---- connections ------------------------------------------------------------------------------ */

static series *series_of(p2p_html *h, const p2p_see_sample *s) {
    series *x;
    uint32_t i;
    for (i = 0; i < h->series_count; i++) {
        x = &h->series[i];
        if (x->at == s->at->index && x->conn == s->conn.id)
            return x;
    }
    if (h->series_count == SERIES)
        return NULL;
    x = &h->series[h->series_count];
    x->points = (point *)malloc(POINTS * sizeof *x->points);
    h->short_of_memory |= !x->points;
    if (!x->points)
        return NULL;
    x->at = s->at->index;
    x->peer = s->peer ? s->peer->index : UINT32_MAX;
    x->conn = s->conn.id;
    x->stride = 1;
    h->series_count++;
    return x;
}
static void on_sample(void *ctx, const p2p_see_sample *s) {
    p2p_html *h = (p2p_html *)ctx;
    series *x = series_of(h, s);
    uint32_t i;
    point *p;
    if (!x) {
        h->series_left++;
        return;
    }
    if (x->skip++ % x->stride != 0)
        return;
    if (x->count == POINTS) {
        for (i = 0; i < POINTS / 2; i++)
            x->points[i] = x->points[2 * i];
        x->count = POINTS / 2;
        x->stride *= 2;
    }
    p = &x->points[x->count++];
    p->time_us = s->time_us;
    p->window = s->stats->window_bytes;
    p->in_flight = s->stats->in_flight_bytes;
    p->rtt_us = s->stats->rtt_us;
}

/* ---- what happened ---------------------------------------------------------------------------- */

/* From the vertex that was asked for last on: those who ask for all of them in order are quick. */
static uint32_t vertex_of(p2p_html *h, const p2p_id *id) {
    uint32_t i, at;
    for (i = 0; i < h->vertex_count; i++) {
        at = (h->asked + i) % h->vertex_count;
        if (p2p_id_equal(&h->vertices[at].id, id))
            return h->asked = at;
    }
    return h->vertex_count;
}
static void happened(p2p_html *h, uint64_t time_us, uint32_t at, const char *type,
                     const char *text) {
    occurrence *o;
    if (h->event_count == EVENTS) {
        h->events_left++;
        return;
    }
    o = &h->events[h->event_count++];
    o->time_us = time_us;
    o->at = at;
    o->type = strdup(type);
    o->text = strdup(text);
    h->short_of_memory |= !o->type || !o->text;
}
static void on_note(void *ctx, const p2p_see_note *n) {
    p2p_html *h = (p2p_html *)ctx;
    h->now_us = n->time_us;
    happened(h, n->time_us, n->at ? n->at->index : UINT32_MAX, n->type, n->text);
}
/* NULL: there are too many of these to be told one by one. */
static const char *event_name(uint32_t type) {
    switch (type) {
    case P2P_EVENT_CONNECTED: return "connected";
    case P2P_EVENT_DISCONNECTED: return "disconnected";
    case P2P_EVENT_RECONNECTED: return "reconnected";
    case P2P_EVENT_PATH: return "path";
    case P2P_EVENT_STREAM: return "stream opened";
    case P2P_EVENT_CLOSED: return "stream closed";
    case P2P_EVENT_RESPONSE: return "response";
    case P2P_EVENT_FOUND: return "found";
    case P2P_EVENT_STOPPED: return "stopped";
    default: return NULL;
    }
}
static void on_event(void *ctx, const p2p_see_event *e) {
    p2p_html *h = (p2p_html *)ctx;
    const char *name = event_name(e->event->type);
    char text[160], status[16] = "";
    uint32_t i;
    h->now_us = e->time_us;
    if (!name) {
        h->events_left++;
        return;
    }
    if (e->event->type == P2P_EVENT_RESPONSE && e->event->err == 0)
        (void)snprintf(status, sizeof status, " %u", (unsigned)e->event->status);
    i = vertex_of(h, &e->event->peer);
    (void)snprintf(text, sizeof text, "%s%s%s%s%s", name, status,
                   i < h->vertex_count ? ", peer " : "",
                   i < h->vertex_count ? h->vertices[i].name : "", e->event->err < 0 ? ": " : "");
    if (e->event->err < 0)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s",
                       p2p_err_text(e->event->err));
    happened(h, e->time_us, e->at->index, "event", text);
}
static void on_vertex(void *ctx, const p2p_see_vertex *v) {
    p2p_html *h = (p2p_html *)ctx;
    vertex *mine;
    bool known;
    if (v->index >= h->vertex_room) {
        uint32_t room = v->index < 32 ? 64 : v->index * 2;
        vertex *more = (vertex *)realloc(h->vertices, room * sizeof *more);
        if (!more) {
            h->short_of_memory = true;
            return;
        }
        memset(more + h->vertex_room, 0, (room - h->vertex_room) * sizeof *more);
        h->vertices = more;
        h->vertex_room = room;
    }
    mine = &h->vertices[v->index];
    known = mine->name[0] != 0;
    if (v->index >= h->vertex_count)
        h->vertex_count = v->index + 1;
    memcpy(mine->name, v->name, sizeof mine->name);
    mine->id = v->id;
    if (known && mine->up != (v->node != NULL) && h->state_count < STATES) {
        state *s = &h->states[h->state_count++];
        s->time_us = h->now_us;
        s->vertex = v->index;
        s->up = v->node != NULL;
    }
    mine->up = v->node != NULL;
}
void p2p_html_kind(p2p_html *h, const p2p_id *id, const char *kind) {
    uint32_t at = vertex_of(h, id);
    if (at < h->vertex_count)
        h->vertices[at].kind = kind;
}
void p2p_html_link(p2p_html *h, const p2p_id *from, const p2p_id *to) {
    uint32_t a = vertex_of(h, from), b = vertex_of(h, to);
    if (a == h->vertex_count || b == h->vertex_count)
        return;
    if (h->link_count == h->link_room) {
        uint32_t room = h->link_room ? h->link_room * 2 : 64;
        uint32_t(*more)[2] = (uint32_t(*)[2])realloc(h->links, room * sizeof *more);
        h->short_of_memory |= !more;
        if (!more)
            return;
        h->links = more;
        h->link_room = room;
    }
    h->links[h->link_count][0] = a;
    h->links[h->link_count++][1] = b;
}
void p2p_html_tell(p2p_html *h, const p2p_html_facts *f) {
    h->title = strdup(f->title);
    h->channel = strdup(f->channel);
    h->source = (char *)malloc(f->source_size + 1);
    h->short_of_memory |= !h->title || !h->channel || !h->source;
    if (h->source) {
        memcpy(h->source, f->source, f->source_size);
        h->source_size = f->source_size;
    }
    h->seed = f->seed;
    h->digest = f->digest;
    h->end_us = f->end_us;
    h->met = f->met;
    h->failed = f->failed;
    h->stats = *f->stats;
}

/* ---- the page --------------------------------------------------------------------------------- */

static void numbers_begin(json *j, const char *name) { json_begin(j, name, '['); }
static void number(json *j, uint64_t x) { json_number(j, NULL, x); }
static void write_hops(json *j, const char *name, const hops *h) {
    uint32_t i;
    json_begin(j, name, '{');
    json_number(j, "stride", h->stride);
    json_number(j, "leftOut", h->left_out);
    numbers_begin(j, "items");
    for (i = 0; i < h->count; i++) {
        const hop *x = &h->items[i];
        number(j, x->from_us);
        number(j, x->to_us);
        number(j, x->from);
        number(j, x->to);
        number(j, x->size);
        number(j, x->fate);
    }
    json_end(j, ']');
    json_end(j, '}');
}
static void write_series(json *j, const p2p_html *h) {
    uint32_t i, k;
    json_begin(j, "series", '[');
    for (i = 0; i < h->series_count; i++) {
        const series *x = &h->series[i];
        json_begin(j, NULL, '{');
        json_number(j, "at", x->at);
        if (x->peer != UINT32_MAX)
            json_number(j, "peer", x->peer);
        json_number(j, "stride", x->stride);
        numbers_begin(j, "points");
        for (k = 0; k < x->count; k++) {
            number(j, x->points[k].time_us);
            number(j, x->points[k].window);
            number(j, x->points[k].in_flight);
            number(j, x->points[k].rtt_us);
        }
        json_end(j, ']');
        json_end(j, '}');
    }
    json_end(j, ']');
    json_bool(j, "seriesLeft", h->series_left != 0);
}
static void write_events(json *j, const p2p_html *h) {
    uint32_t i;
    json_begin(j, "events", '[');
    for (i = 0; i < h->event_count; i++) {
        const occurrence *o = &h->events[i];
        json_begin(j, NULL, '{');
        json_number(j, "t", o->time_us);
        if (o->at != UINT32_MAX)
            json_number(j, "at", o->at);
        json_string(j, "type", o->type ? o->type : "");
        json_string(j, "text", o->text ? o->text : "");
        json_end(j, '}');
    }
    json_end(j, ']');
    json_number(j, "eventsLeft", h->events_left);
}
static void write_graph(json *j, const p2p_html *h) {
    uint32_t i;
    json_begin(j, "vertices", '[');
    for (i = 0; i < h->vertex_count; i++) {
        json_begin(j, NULL, '{');
        json_string(j, "name", h->vertices[i].name);
        json_string(j, "kind", h->vertices[i].kind ? h->vertices[i].kind : "node");
        json_end(j, '}');
    }
    json_end(j, ']');
    numbers_begin(j, "links");
    for (i = 0; i < h->link_count; i++) {
        number(j, h->links[i][0]);
        number(j, h->links[i][1]);
    }
    json_end(j, ']');
    numbers_begin(j, "states");
    for (i = 0; i < h->state_count; i++) {
        number(j, h->states[i].time_us);
        number(j, h->states[i].vertex);
        number(j, h->states[i].up);
    }
    json_end(j, ']');
}
static void write_facts(json *j, const p2p_html *h) {
    char text[24];
    json_string(j, "title", h->title ? h->title : "");
    json_string(j, "channel", h->channel ? h->channel : "");
    json_text(j, "source", h->source ? h->source : "", h->source_size);
    (void)snprintf(text, sizeof text, "%" PRIu64, h->seed);
    json_string(j, "seed", text); /* 64 bits: more than a number of JavaScript holds */
    (void)snprintf(text, sizeof text, "0x%016" PRIx64, h->digest);
    json_string(j, "digest", text);
    json_number(j, "end", h->end_us > h->now_us ? h->end_us : h->now_us);
    json_number(j, "met", h->met);
    json_number(j, "failed", h->failed);
    json_begin(j, "fates", '[');
#define HTML_FATE(upper, lower)              \
    json_begin(j, NULL, '{');                \
    json_string(j, "name", #lower);          \
    json_number(j, "count", h->stats.lower); \
    json_end(j, '}');
    P2P_SIM_FATES(HTML_FATE)
#undef HTML_FATE
    json_end(j, ']');
}
/* In a script element "<" may end the script; in JSON it stands in texts only. */
static void write_escaped(FILE *out, const char *data, size_t size) {
    const char *end = data + size, *at;
    for (; data < end; data = at + 1) {
        at = (const char *)memchr(data, '<', (size_t)(end - data));
        (void)fwrite(data, 1, (size_t)((at ? at : end) - data), out);
        if (!at)
            return;
        (void)fputs("\\u003c", out);
    }
}
static void write_data(p2p_html *h) {
    char *data = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&data, &size);
    json j;
    if (!memory) {
        h->short_of_memory = true;
        return;
    }
    json_open(&j, memory);
    json_begin(&j, NULL, '{');
    write_facts(&j, h);
    write_graph(&j, h);
    write_hops(&j, "arrived", &h->arrived);
    write_hops(&j, "dropped", &h->dropped);
    write_series(&j, h);
    write_events(&j, h);
    json_end(&j, '}');
    h->short_of_memory |= fclose(memory) != 0;
    if (!h->short_of_memory)
        write_escaped(h->out, data, size);
    free(data);
}
static void html_free(p2p_html *h) {
    uint32_t i;
    for (i = 0; i < h->series_count; i++)
        free(h->series[i].points);
    for (i = 0; i < h->event_count; i++) {
        free(h->events[i].type);
        free(h->events[i].text);
    }
    free(h->arrived.items);
    free(h->dropped.items);
    free(h->tracked);
    free(h->vertices);
    free(h->links);
    free(h->title);
    free(h->channel);
    free(h->source);
    free(h);
}
static int on_close(void *ctx) {
    p2p_html *h = (p2p_html *)ctx;
    const unsigned char *at = page, *end = page + sizeof page - (sizeof mark - 1);
    int err = P2P_OK;
    while (at < end && memcmp(at, mark, sizeof mark - 1) != 0)
        at++;
    (void)fwrite(page, 1, (size_t)(at - page), h->out);
    write_data(h);
    at += sizeof mark - 1;
    (void)fwrite(at, 1, (size_t)(page + sizeof page - at), h->out);
    if (h->short_of_memory)
        err = P2P_ERR_ARENA;
    if (ferror(h->out))
        err = P2P_ERR_IO;
    if (fclose(h->out) != 0)
        err = P2P_ERR_IO;
    html_free(h);
    return err;
}
static bool hops_open(hops *h, uint32_t most) {
    h->items = (hop *)malloc(most * sizeof *h->items);
    h->most = most;
    h->stride = 1;
    return h->items != NULL;
}
int p2p_html_open(FILE *out, p2p_see_sink *sink, p2p_html **html) {
    p2p_html *h = (p2p_html *)calloc(1, sizeof *h);
    if (!h)
        return P2P_ERR_ARENA;
    h->tracked = (tracked *)calloc(TRACKED, sizeof *h->tracked);
    if (!h->tracked || !hops_open(&h->arrived, HOPS) || !hops_open(&h->dropped, DROPS)) {
        html_free(h);
        return P2P_ERR_ARENA;
    }
    h->out = out;
    memset(sink, 0, sizeof *sink);
    sink->ctx = h;
    sink->vertex = on_vertex;
    sink->datagram = on_datagram;
    sink->event = on_event;
    sink->sample = on_sample;
    sink->note = on_note;
    sink->close = on_close;
    *html = h;
    return P2P_OK;
}
