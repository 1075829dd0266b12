/* p2p_see.c: takes what a run tells and hands it to the sinks. */
#include "p2p_see.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A packet that was sealed, until its datagram is seen: the end of the record tells which. */
typedef struct sealed {
    struct sealed *next;
    uint8_t tail[8];
    uint8_t server;
    size_t size;
    uint8_t plain[];
} sealed;

/* A connection as it was when it was sampled last. */
typedef struct sampled {
    p2p_conn conn;
    p2p_stats stats;
} sampled;

/* A vertex, and what is known of it beyond what sinks see. */
typedef struct place {
    p2p_see_vertex vertex;
    p2p_see *see;
    /* the channel that is wrapped, and the wrapping */
    p2p_secure inner;
    p2p_secure_api tap;
    sealed *first, *last;
    sampled *samples;
    size_t sample_count, sample_room;
    uint64_t next_sample_us;
    /* the datagram that is being given to the node */
    struct {
        const struct place *peer;
        uint8_t session[8];
        uint32_t number, size;
        uint8_t server;
    } in;
} place;

/* Who has this session, as far as they sent something: client and server. */
typedef struct session {
    uint8_t id[8];
    place *end[2];
} session;

struct p2p_see {
    p2p_sim *sim;
    p2p_error_detail *why;
    p2p_see_sink sinks[P2P_SEE_SINKS];
    size_t sink_count;
    place **places; /* by index; each stays where it is */
    size_t place_count, place_room;
    uint32_t *table; /* by id: index + 1, or 0 */
    size_t table_size;
    session *sessions; /* by id; without any end: empty */
    size_t session_count, session_room;
    p2p_conn *conns;
    size_t conn_room;
    uint64_t every_us;
    bool short_of_memory; /* something was not told */
};

static int fail_at(p2p_error_detail *why, int err, const char *text) {
    if (why) {
        memset(why, 0, sizeof *why);
        why->err = err;
        (void)snprintf(why->text, sizeof why->text, "%s", text);
    }
    return err;
}
static int fail(p2p_see *see, int err, const char *text) { return fail_at(see->why, err, text); }

/* ---- vertices -------------------------------------------------------------------------------- */

static size_t hash_of(const p2p_id *id, size_t size) {
    size_t h = 0, i;
    for (i = 0; i < 8; i++)
        h = h * 31 + id->bytes[i];
    return h & (size - 1);
}

/* Where the id is in the table, or the empty place where it belongs. */
static uint32_t *slot_of(const p2p_see *see, const p2p_id *id) {
    size_t at = hash_of(id, see->table_size);
    while (see->table[at] &&
           memcmp(&see->places[see->table[at] - 1]->vertex.id, id, sizeof *id) != 0)
        at = (at + 1) & (see->table_size - 1);
    return &see->table[at];
}

static place *find(const p2p_see *see, const p2p_id *id) {
    uint32_t slot = id && see->table_size ? *slot_of(see, id) : 0;
    return slot ? see->places[slot - 1] : NULL;
}

static bool grow_table(p2p_see *see) {
    size_t size = see->table_size ? 2 * see->table_size : 64, i;
    uint32_t *table = (uint32_t *)calloc(size, sizeof *table);
    if (!table)
        return false;
    free(see->table);
    see->table = table;
    see->table_size = size;
    for (i = 0; i < see->place_count; i++)
        *slot_of(see, &see->places[i]->vertex.id) = (uint32_t)i + 1;
    return true;
}

static bool grow_places(p2p_see *see) {
    size_t room = see->place_room ? 2 * see->place_room : 16;
    place **places = (place **)realloc(see->places, room * sizeof *places);
    if (!places)
        return false;
    see->places = places;
    see->place_room = room;
    return true;
}

static void find_addresses(place *p) {
    (void)p2p_sim_addr(p->see->sim, &p->vertex.id, &p->vertex.addr);
    (void)p2p_sim_addr_inside(p->see->sim, &p->vertex.id, &p->vertex.inside);
}

/* The vertex of this id; a new one is named by its id until it gets a name. */
static place *place_of(p2p_see *see, const p2p_id *id) {
    place *p = find(see, id);
    if (p)
        return p;
    if (2 * see->place_count >= see->table_size && !grow_table(see))
        return NULL;
    if (see->place_count == see->place_room && !grow_places(see))
        return NULL;
    p = (place *)calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->see = see;
    p->vertex.id = *id;
    p->vertex.index = (uint32_t)see->place_count;
    (void)p2p_id_short(id, p->vertex.name);
    find_addresses(p);
    see->places[see->place_count++] = p;
    *slot_of(see, id) = (uint32_t)see->place_count;
    return p;
}

static void tell_vertex(p2p_see *see, const place *p) {
    size_t i;
    for (i = 0; i < see->sink_count; i++)
        if (see->sinks[i].vertex)
            see->sinks[i].vertex(see->sinks[i].ctx, &p->vertex);
}

const p2p_see_vertex *p2p_see_find(const p2p_see *see, const p2p_id *id) {
    const place *p = find(see, id);
    return p ? &p->vertex : NULL;
}

int p2p_see_set_vertex(p2p_see *see, const char *name, const p2p_id *id, p2p_node *node) {
    place *p;
    if (strlen(name) >= sizeof p->vertex.name)
        return fail(see, P2P_ERR_ARG, "p2p_see_set_vertex: a name has at most 63 bytes");
    p = place_of(see, id);
    if (!p)
        return fail(see, P2P_ERR_ARENA, "p2p_see_set_vertex: no memory");
    memcpy(p->vertex.name, name, strlen(name) + 1);
    p->vertex.node = node;
    p->vertex.time_us = p2p_sim_now(see->sim);
    find_addresses(p);
    tell_vertex(see, p);
    return P2P_OK;
}

/* ---- samples --------------------------------------------------------------------------------- */

/* The last sample of the connection, or zeros where there is none yet. NULL: no memory. */
static sampled *sampled_of(place *at, p2p_conn conn) {
    sampled *s = at->samples, *end = s + at->sample_count;
    for (; s != end; s++)
        if (s->conn.id == conn.id)
            return s;
    if (at->sample_count == at->sample_room) {
        size_t room = at->sample_room ? 2 * at->sample_room : 4;
        s = (sampled *)realloc(at->samples, room * sizeof *s);
        if (!s)
            return NULL;
        at->samples = s;
        at->sample_room = room;
    }
    s = &at->samples[at->sample_count++];
    memset(s, 0, sizeof *s);
    s->conn = conn;
    return s;
}

static bool same(const p2p_stats *a, const p2p_stats *b) {
    return a->rtt_us == b->rtt_us && a->rtt_min_us == b->rtt_min_us && a->mtu == b->mtu &&
           a->rtt_variance_us == b->rtt_variance_us && a->window_bytes == b->window_bytes &&
           a->in_flight_bytes == b->in_flight_bytes && a->pacing_rate == b->pacing_rate &&
           a->packets_lost == b->packets_lost;
}

static void sample(p2p_see *see, place *at, p2p_conn conn, uint64_t now_us) {
    sampled *s = sampled_of(at, conn);
    p2p_see_sample item = {0};
    p2p_stats stats;
    p2p_id peer;
    size_t i;
    see->short_of_memory |= !s;
    if (!s || p2p_conn_stats(at->vertex.node, conn, &stats) < 0 ||
        p2p_remote_id(at->vertex.node, conn, &peer) < 0 || same(&s->stats, &stats))
        return;
    s->stats = stats;
    item.time_us = now_us;
    item.at = &at->vertex;
    item.peer = p2p_see_find(see, &peer);
    item.conn = conn;
    item.stats = &s->stats;
    for (i = 0; i < see->sink_count; i++)
        if (see->sinks[i].sample)
            see->sinks[i].sample(see->sinks[i].ctx, &item);
}

/* All connections of the node: how many of them now stand in see->conns. */
static size_t connections(p2p_see *see, const p2p_node *node) {
    int n = p2p_connections(node, see->conns, see->conn_room);
    p2p_conn *more;
    if (n <= 0 || (size_t)n <= see->conn_room)
        return n > 0 ? (size_t)n : 0;
    more = (p2p_conn *)realloc(see->conns, 2 * (size_t)n * sizeof *more);
    if (more) {
        see->conns = more;
        see->conn_room = 2 * (size_t)n;
        return connections(see, node);
    }
    see->short_of_memory = true;
    return see->conn_room;
}

/* Between a datagram and the next a node is at rest, so it can be asked. */
static void sample_all(p2p_see *see, place *at, uint64_t now_us) {
    size_t i, n;
    if (!at->vertex.node || now_us < at->next_sample_us)
        return;
    at->next_sample_us = now_us + see->every_us;
    n = connections(see, at->vertex.node);
    for (i = 0; i < n; i++)
        sample(see, at, see->conns[i], now_us);
}

void p2p_see_sample_every(p2p_see *see, uint64_t every_us) { see->every_us = every_us; }

/* ---- packets --------------------------------------------------------------------------------- */

static void tell_packet(p2p_see *see, const p2p_see_packet *packet) {
    size_t i;
    for (i = 0; i < see->sink_count; i++)
        if (see->sinks[i].packet)
            see->sinks[i].packet(see->sinks[i].ctx, packet);
}

static size_t tap_size(void *ctx, uint32_t content) {
    place *p = (place *)ctx;
    return p->inner.api->session_size(p->inner.ctx, content);
}
static int tap_begin(void *ctx, void *slab, size_t size, const p2p_secure_params *params) {
    place *p = (place *)ctx;
    return p->inner.api->begin(p->inner.ctx, slab, size, params);
}
static int tap_feed(void *ctx, void *slab, uint64_t now_us, uint8_t *records, size_t size) {
    place *p = (place *)ctx;
    return p->inner.api->feed(p->inner.ctx, slab, now_us, records, size);
}
static int tap_flight(void *ctx, void *slab, uint64_t now_us, uint8_t *out, size_t room, int keep) {
    place *p = (place *)ctx;
    return p->inner.api->flight(p->inner.ctx, slab, now_us, out, room, keep);
}
static int tap_resend(void *ctx, void *slab, uint64_t now_us) {
    place *p = (place *)ctx;
    return p->inner.api->resend(p->inner.ctx, slab, now_us);
}
static uint64_t tap_deadline(void *ctx, const void *slab) {
    place *p = (place *)ctx;
    return p->inner.api->deadline(p->inner.ctx, slab);
}
static int tap_binding(void *ctx, const void *slab, uint8_t out[32]) {
    place *p = (place *)ctx;
    return p->inner.api->binding(p->inner.ctx, slab, out);
}
static void tap_end(void *ctx, void *slab) {
    place *p = (place *)ctx;
    p->inner.api->end(p->inner.ctx, slab);
}
/* The packet may lie where the record will: its bytes are kept before. */
static int tap_seal(void *ctx, void *slab, const uint8_t *packet, size_t size, uint8_t *out,
                    size_t room) {
    place *p = (place *)ctx;
    sealed *s = (sealed *)malloc(sizeof *s + size);
    int n;
    p->see->short_of_memory |= !s;
    if (s)
        memcpy(s->plain, packet, size);
    n = p->inner.api->seal(p->inner.ctx, slab, packet, size, out, room);
    if (!s || n < (int)sizeof s->tail) {
        free(s);
        return n;
    }
    memcpy(s->tail, out + (size_t)n - sizeof s->tail, sizeof s->tail);
    s->size = size;
    s->next = NULL;
    if (p->first)
        p->last->next = s;
    else
        p->first = s;
    p->last = s;
    return n;
}
static int tap_open(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out) {
    place *p = (place *)ctx;
    int n = p->inner.api->open(p->inner.ctx, slab, record, size, out);
    p2p_see_packet packet = {0};
    if (n <= 0)
        return n;
    packet.time_us = p2p_sim_now(p->see->sim);
    packet.at = &p->vertex;
    packet.peer = p->in.peer ? &p->in.peer->vertex : NULL;
    packet.server = p->in.server;
    memcpy(packet.session, p->in.session, sizeof packet.session);
    packet.datagram = p->in.number;
    packet.size = p->in.size;
    packet.plain.data = *out;
    packet.plain.size = (size_t)n;
    tell_packet(p->see, &packet);
    return n;
}

int p2p_see_secure(p2p_see *see, const p2p_id *id, p2p_desc *desc) {
    place *p = place_of(see, id);
    if (!p)
        return fail(see, P2P_ERR_ARENA, "p2p_see_secure: no memory");
    p->inner = desc->secure;
    if (!p->inner.api)
        p2p_sim_secure(see->sim, &p->inner);
    p->tap = *p->inner.api;
    p->tap.session_size = tap_size;
    p->tap.begin = tap_begin;
    p->tap.feed = tap_feed;
    p->tap.flight = tap_flight;
    p->tap.resend = tap_resend;
    p->tap.deadline = tap_deadline;
    p->tap.binding = tap_binding;
    p->tap.seal = tap_seal;
    p->tap.open = tap_open;
    p->tap.end = tap_end;
    desc->secure.ctx = p;
    desc->secure.api = &p->tap;
    return P2P_OK;
}

/* ---- datagrams ------------------------------------------------------------------------------- */

/* The session id of a datagram of p2p.h, behind the byte that some channels put before it; NULL: it
 * is none. From 0xB0 on: envelope to the server, to the client, RETRY, with cookie, data to the
 * server, to the client. */
static const uint8_t *session_of(p2p_span d, bool *to_server, bool *data) {
    size_t at = d.size > 0 && d.data[0] == 0xbfu ? 1 : 0;
    uint8_t type = d.size >= at + 9 ? d.data[at] : 0;
    *to_server = type == 0xb0u || type == 0xb3u || type == 0xb4u;
    *data = type == 0xb4u || type == 0xb5u;
    return type >= 0xb0u && type <= 0xb5u ? d.data + at + 1 : NULL;
}

static session *session_slot(session *table, size_t room, const uint8_t id[8]) {
    size_t at = 0, i;
    for (i = 0; i < 8; i++)
        at = at * 31 + id[i];
    for (at &= room - 1; table[at].end[0] || table[at].end[1]; at = (at + 1) & (room - 1))
        if (memcmp(table[at].id, id, 8) == 0)
            break;
    return &table[at];
}

static bool grow_sessions(p2p_see *see) {
    size_t room = see->session_room ? 2 * see->session_room : 64, i;
    session *more = (session *)calloc(room, sizeof *more);
    if (!more)
        return false;
    for (i = 0; i < see->session_room; i++)
        if (see->sessions[i].end[0] || see->sessions[i].end[1])
            *session_slot(more, room, see->sessions[i].id) = see->sessions[i];
    free(see->sessions);
    see->sessions = more;
    see->session_room = room;
    return true;
}

/* Notes who was the first to send for this end; the other end, where it is known already. */
static place *other_end(p2p_see *see, place *from, const uint8_t id[8], bool to_server) {
    session *s;
    if (2 * see->session_count >= see->session_room && !grow_sessions(see)) {
        see->short_of_memory = true;
        return NULL;
    }
    s = session_slot(see->sessions, see->session_room, id);
    if (!s->end[0] && !s->end[1]) {
        memcpy(s->id, id, 8);
        see->session_count++;
    }
    if (!s->end[to_server ? 0 : 1])
        s->end[to_server ? 0 : 1] = from;
    return s->end[to_server ? 1 : 0];
}

/* Takes from the list what was sealed for this datagram, and what was before it and never sent. */
static sealed *sealed_for(place *p, p2p_span d) {
    sealed *s = p->first, *before = NULL;
    while (s && memcmp(s->tail, d.data + d.size - sizeof s->tail, sizeof s->tail) != 0)
        s = s->next;
    if (!s)
        return NULL;
    while (p->first != s) {
        before = p->first;
        p->first = before->next;
        free(before);
    }
    p->first = s->next;
    return s;
}

static void packet_sent(p2p_see *see, place *p, const p2p_see_vertex *peer,
                        const p2p_sim_trace_item *t) {
    p2p_see_packet packet = {0};
    bool to_server, data;
    const uint8_t *id = session_of(t->data, &to_server, &data);
    sealed *s = id && data ? sealed_for(p, t->data) : NULL;
    if (!s)
        return;
    packet.time_us = t->time_us;
    packet.at = &p->vertex;
    packet.peer = peer;
    packet.sent = 1;
    packet.server = !to_server;
    memcpy(packet.session, id, sizeof packet.session);
    packet.datagram = t->number;
    packet.size = (uint32_t)t->data.size;
    packet.plain.data = s->plain;
    packet.plain.size = s->size;
    tell_packet(see, &packet);
    free(s);
}

static void remember_delivered(place *p, const place *peer, const p2p_sim_trace_item *t) {
    bool to_server, data;
    const uint8_t *id = session_of(t->data, &to_server, &data);
    if (!id || !data)
        return;
    memcpy(p->in.session, id, sizeof p->in.session);
    p->in.peer = peer;
    p->in.server = to_server;
    p->in.number = t->number;
    p->in.size = (uint32_t)t->data.size;
}

static void tell_datagram(p2p_see *see, const p2p_see_datagram *d) {
    size_t i;
    for (i = 0; i < see->sink_count; i++)
        if (see->sinks[i].datagram)
            see->sinks[i].datagram(see->sinks[i].ctx, d);
}

/* Whom the sender means: behind boxes that is not who the datagram goes to next. */
static const place *meant(p2p_see *see, place *from, const place *to, const p2p_sim_trace_item *t) {
    bool to_server, data;
    const uint8_t *id = session_of(t->data, &to_server, &data);
    const place *other = NULL;
    if (id && t->fate == P2P_SIM_SENT)
        other = other_end(see, from, id, to_server);
    else if (id && see->session_room)
        other = session_slot(see->sessions, see->session_room, id)->end[to_server ? 1 : 0];
    return other ? other : to;
}

static void trace(void *ctx, const p2p_sim_trace_item *t) {
    p2p_see *see = (p2p_see *)ctx;
    place *from = place_of(see, t->from), *at = place_of(see, t->at);
    place *to = t->to ? place_of(see, t->to) : NULL,
          *next = t->next ? place_of(see, t->next) : NULL;
    const place *peer;
    p2p_see_datagram d = {0};
    if (!from || !at) {
        see->short_of_memory = true;
        return;
    }
    peer = t->fate == P2P_SIM_DELIVERED ? from : meant(see, from, to, t);
    d.item = t;
    d.from = &from->vertex;
    d.at = &at->vertex;
    d.to = to ? &to->vertex : NULL;
    d.next = next ? &next->vertex : NULL;
    d.peer = peer ? &peer->vertex : NULL;
    if (t->fate == P2P_SIM_SENT)
        packet_sent(see, at, d.peer, t);
    tell_datagram(see, &d);
    if (t->fate == P2P_SIM_DELIVERED)
        remember_delivered(at, from, t);
    if (t->fate == P2P_SIM_SENT || t->fate == P2P_SIM_DELIVERED)
        sample_all(see, at, t->time_us);
}

/* ---- events and notes ------------------------------------------------------------------------ */

void p2p_see_tell_event(p2p_see *see, const p2p_node *node, const p2p_event *event) {
    p2p_see_event item = {0};
    size_t i;
    item.time_us = p2p_sim_now(see->sim);
    item.at = p2p_see_find(see, p2p_node_id(node));
    item.peer = p2p_see_find(see, &event->peer);
    item.event = event;
    if (!item.at)
        return;
    for (i = 0; i < see->sink_count; i++)
        if (see->sinks[i].event)
            see->sinks[i].event(see->sinks[i].ctx, &item);
}

void p2p_see_tell_note(p2p_see *see, const p2p_id *at, const char *type, const char *text) {
    p2p_see_note item = {0};
    size_t i;
    item.time_us = p2p_sim_now(see->sim);
    item.at = at ? p2p_see_find(see, at) : NULL;
    item.type = type;
    item.text = text;
    for (i = 0; i < see->sink_count; i++)
        if (see->sinks[i].note)
            see->sinks[i].note(see->sinks[i].ctx, &item);
}

/* ---- open and close -------------------------------------------------------------------------- */

p2p_see *p2p_see_open(p2p_sim *sim, p2p_error_detail *why) {
    p2p_see *see = (p2p_see *)calloc(1, sizeof *see);
    if (!see) {
        (void)fail_at(why, P2P_ERR_ARENA, "p2p_see_open: no memory");
        return NULL;
    }
    see->sim = sim;
    see->why = why;
    see->every_us = P2P_SEE_SAMPLE_US;
    p2p_sim_trace(sim, trace, see);
    return see;
}

/* A sink that comes late is told who is there already. */
int p2p_see_add(p2p_see *see, const p2p_see_sink *sink) {
    size_t i;
    if (see->sink_count == P2P_SEE_SINKS)
        return fail(see, P2P_ERR_LIMIT, "p2p_see_add: there are P2P_SEE_SINKS (8) already");
    see->sinks[see->sink_count++] = *sink;
    for (i = 0; i < see->place_count && sink->vertex; i++)
        sink->vertex(sink->ctx, &see->places[i]->vertex);
    return P2P_OK;
}

static void free_place(place *p) {
    while (p->first) {
        sealed *s = p->first;
        p->first = s->next;
        free(s);
    }
    free(p->samples);
    free(p);
}

int p2p_see_close(p2p_see *see) {
    int err = P2P_OK, got;
    size_t i;
    if (see->short_of_memory)
        err = fail(see, P2P_ERR_ARENA, "p2p_see: no memory; something of the run is not shown");
    for (i = 0; i < see->sink_count; i++) {
        got = see->sinks[i].close ? see->sinks[i].close(see->sinks[i].ctx) : P2P_OK;
        err = err < 0 ? err : got;
    }
    for (i = 0; i < see->place_count; i++)
        free_place(see->places[i]);
    free(see->places);
    free(see->table);
    free(see->sessions);
    free(see->conns);
    free(see);
    return err;
}
