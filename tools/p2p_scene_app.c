/* The programs that run on the nodes of a scenario: they send what they are told to, take all that
 * comes, and check that it is what was sent. They know nothing of the network below. */
#include "p2p_scene_run.h"

#include <stdlib.h>
#include <string.h>

/* ---- contacts -------------------------------------------------------------------------------- */

static uint32_t *contact_slot(const scene_run *r, uint32_t from, uint32_t to) {
    uint32_t mask = r->contact_table_size - 1;
    uint32_t at = (uint32_t)scene_hash((uint64_t)from << 32 | to) & mask;
    for (; r->contact_table[at]; at = (at + 1) & mask) {
        const scene_contact *c = &r->contacts[r->contact_table[at] - 1];
        if (c->from == from && c->to == to)
            break;
    }
    return &r->contact_table[at];
}
const scene_contact *scene_contact_find(const scene_run *r, uint32_t from, uint32_t to) {
    uint32_t at = r->contact_table_size ? *contact_slot(r, from, to) : 0;
    return at ? &r->contacts[at - 1] : NULL;
}
static bool table_grow(scene_run *r) {
    uint32_t size = r->contact_table_size ? r->contact_table_size * 2 : 64, i;
    uint32_t *table;
    if (r->contact_count * 2 < r->contact_table_size)
        return true;
    table = (uint32_t *)calloc(size, sizeof *table);
    if (!table) {
        r->out_of_memory = true;
        return false;
    }
    free(r->contact_table);
    r->contact_table = table;
    r->contact_table_size = size;
    for (i = 0; i < r->contact_count; i++)
        *contact_slot(r, r->contacts[i].from, r->contacts[i].to) = i + 1;
    return true;
}
scene_contact *scene_contact_of(scene_run *r, uint32_t from, uint32_t to) {
    scene_contact *c;
    uint32_t *at;
    if (!table_grow(r))
        return NULL;
    at = contact_slot(r, from, to);
    if (*at)
        return &r->contacts[*at - 1];
    if (!scene_grow(r, (void **)&r->contacts, r->contact_count, &r->contact_room, sizeof *c))
        return NULL;
    c = &r->contacts[r->contact_count];
    memset(c, 0, sizeof *c);
    c->from = from;
    c->to = to;
    *at = ++r->contact_count;
    return c;
}
static uint32_t index_of(const scene_run *r, const scene_contact *c) {
    return (uint32_t)(c - r->contacts);
}
static p2p_node *node_of(const scene_run *r, const scene_contact *c) {
    return r->nodes[c->from].node;
}
static const char *name_of(const scene_run *r, uint32_t vertex) {
    return r->s->vertices[vertex].name;
}
/* Something came that cannot be. */
static void broken(scene_run *r, const scene_contact *c, const char *what) {
    scene_fail(r, NULL, "%s, from %s: %s", name_of(r, c->from), name_of(r, c->to), what);
}

/* ---- what is sent: a pattern that knows its sender and its place ------------------------------ */

static const uint8_t *pattern_at(const scene_run *r, uint32_t sender, uint64_t at) {
    return r->pattern + (at + (uint64_t)sender * 257) % SCENE_PATTERN;
}
static bool pattern_fits(const scene_run *r, uint32_t sender, uint64_t at, const uint8_t *data,
                         size_t size) {
    size_t n;
    for (; size != 0; size -= n, data += n, at += n) {
        n = size < SCENE_PATTERN ? size : SCENE_PATTERN;
        if (memcmp(data, pattern_at(r, sender, at), n) != 0)
            return false;
    }
    return true;
}
/* Messages and datagrams of 8 bytes and more begin with their number. */
static void numbered(const scene_run *r, uint32_t sender, uint64_t number, uint8_t *out,
                     size_t size) {
    size_t at, n;
    for (at = 0; at < size; at += n) {
        n = size - at < SCENE_PATTERN ? size - at : SCENE_PATTERN;
        memcpy(out + at, pattern_at(r, sender, at), n);
    }
    for (at = 0; at < 8 && size >= 8; at++)
        out[at] = (uint8_t)(number >> 8 * at);
}
/* The number, or UINT64_MAX for one too small to have one, or for bytes that were not sent. */
static uint64_t number_of(scene_run *r, const scene_contact *c, const uint8_t *data, size_t size) {
    uint64_t number = 0;
    size_t i;
    for (i = 0; i < 8 && size >= 8; i++)
        number |= (uint64_t)data[i] << 8 * i;
    if (!pattern_fits(r, c->to, size < 8 ? 0 : 8, data + (size < 8 ? 0 : 8),
                      size < 8 ? size : size - 8)) {
        broken(r, c, "bytes of a message or datagram that were not sent so");
        return UINT64_MAX;
    }
    return size < 8 ? UINT64_MAX : number;
}

/* ---- streams --------------------------------------------------------------------------------- */

static scene_flow *flow_new(scene_run *r, const scene_contact *c, uint32_t kind) {
    scene_node *n = &r->nodes[c->from];
    scene_flow *f = (scene_flow *)calloc(1, sizeof *f);
    if (!f) {
        r->out_of_memory = true;
        return NULL;
    }
    f->contact = index_of(r, c);
    f->kind = kind;
    f->before = n->last;
    *(n->last ? &n->last->next : &n->flows) = f;
    n->last = f;
    return f;
}
static void flow_free(scene_run *r, scene_flow *f) {
    scene_node *n = &r->nodes[r->contacts[f->contact].from];
    *(f->before ? &f->before->next : &n->flows) = f->next;
    *(f->next ? &f->next->before : &n->last) = f->before;
    free(f);
}
/* Made by a statement, and not begun yet for want of a free stream. */
static bool flow_waits(const scene_flow *f) {
    return f->stream.id == 0 && (f->kind == FLOW_OUT || f->kind == FLOW_ASK);
}
static void flow_write(scene_run *r, scene_flow *f) {
    scene_contact *c = &r->contacts[f->contact];
    while (f->stream.id && !f->finished && f->sent < f->size) {
        uint64_t left = f->size - f->sent;
        int n = p2p_stream_write(node_of(r, c), f->stream, pattern_at(r, c->from, f->sent),
                                 (size_t)(left < SCENE_PATTERN ? left : SCENE_PATTERN));
        if (n <= 0)
            return; /* WRITABLE or CLOSED will come */
        f->sent += (uint64_t)n;
        c->bytes_out += (uint64_t)n;
    }
    if (f->stream.id && !f->finished) {
        f->finished = true;
        (void)p2p_stream_finish(node_of(r, c), f->stream);
    }
}
static void flow_ended(scene_run *r, scene_flow *f) {
    scene_contact *c = &r->contacts[f->contact];
    if (f->ended || f->kind == FLOW_OUT)
        return;
    f->ended = true;
    c->streams_in += f->kind == FLOW_IN;
    if (f->kind == FLOW_ASK)
        *(f->status >= 200 && f->status < 300 ? &c->answers : &c->failures) += 1;
}
static void flow_read(scene_run *r, scene_flow *f) {
    scene_contact *c = &r->contacts[f->contact];
    p2p_span bytes;
    int n = P2P_ERR_AGAIN;
    if (f->kind == FLOW_ASK && f->status == 0)
        return; /* the head has not come yet */
    while (f->stream.id && (n = p2p_stream_peek(node_of(r, c), f->stream, &bytes)) > 0) {
        bool ours = f->kind == FLOW_IN || (f->status >= 200 && f->status < 300);
        if (ours && !pattern_fits(r, c->to, f->got, bytes.data, bytes.size))
            broken(r, c, "bytes of a stream that were not sent so");
        f->got += bytes.size;
        c->bytes_in += bytes.size;
        (void)p2p_stream_skip(node_of(r, c), f->stream, bytes.size);
    }
    if (n == 0)
        flow_ended(r, f);
}
static bool flow_open_ask(scene_run *r, scene_flow *f, const scene_statement *t) {
    scene_contact *c = &r->contacts[f->contact];
    p2p_request_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.method = (uint32_t)t->value[SCENE_request_method];
    desc.path = scene_text_of(r->s, t, SCENE_request_path);
    desc.more = f->size != 0;
    desc.user = f;
    if (p2p_request_send(node_of(r, c), c->conn, &desc, &f->stream) < 0)
        return false;
    f->finished = !desc.more;
    return true;
}
/* False: not now, there are as many streams as may be. */
static bool flow_open(scene_run *r, scene_flow *f) {
    const scene_statement *t = &r->s->statements[f->statement];
    scene_contact *c = &r->contacts[f->contact];
    p2p_stream_desc desc;
    bool open;
    memset(&desc, 0, sizeof desc);
    if (f->kind == FLOW_ASK) {
        open = flow_open_ask(r, f, t);
    } else {
        desc.one_way = 1;
        desc.user = f;
        desc.priority = (uint8_t)t->value[SCENE_stream_priority];
        open = p2p_stream_open(node_of(r, c), c->conn, &desc, &f->stream) >= 0;
    }
    if (!open) {
        f->stream.id = 0;
        return false;
    }
    *(f->kind == FLOW_ASK ? &c->requests_out : &c->streams_out) += 1;
    flow_write(r, f);
    return true;
}
/* Those that wait, the oldest first; one that has to go on waiting holds up those to the same
 * peer. */
static void flows_open(scene_run *r, uint32_t vertex) {
    scene_node *n = &r->nodes[vertex];
    uint32_t full = UINT32_MAX;
    scene_flow *f;
    for (f = n->node ? n->flows : NULL; f && n->waiting; f = f->next) {
        if (!flow_waits(f) || f->contact == full)
            continue;
        if (flow_open(r, f))
            n->waiting--;
        else
            full = f->contact;
    }
}
static void flow_closed(scene_run *r, scene_flow *f, int err) {
    scene_contact *c = &r->contacts[f->contact];
    if (f->kind == FLOW_ASK && !f->ended)
        c->failures++;
    if (f->kind == FLOW_OUT && err < 0 && f->sent < f->size)
        c->not_taken++;
    flow_free(r, f);
}
/* The connection is gone: what waits for it has nothing to wait for. */
static void flows_drop(scene_run *r, scene_contact *c) {
    scene_node *n = &r->nodes[c->from];
    scene_flow *f, *next;
    for (f = n->flows; f; f = next) {
        next = f->next;
        if (f->contact != index_of(r, c) || !flow_waits(f))
            continue;
        n->waiting--;
        c->not_taken++;
        flow_free(r, f);
    }
}

/* ---- routes: an answer of a size that is known, a request whose body is read to its end --------- */

static void answer(p2p_node *node, const p2p_request *request, void *ctx) {
    const scene_statement *t = (const scene_statement *)ctx;
    scene_run *r = (scene_run *)p2p_node_user(node);
    uint32_t me = scene_vertex_of(r, p2p_node_id(node)), peer = scene_vertex_of(r, &request->peer);
    uint32_t status =
        scene_given(t, SCENE_route_status) ? (uint32_t)t->value[SCENE_route_status] : 200;
    scene_contact *c = peer == UINT32_MAX ? NULL : scene_contact_of(r, me, peer);
    scene_flow *f = c ? flow_new(r, c, FLOW_SERVE) : NULL;
    if (!f || p2p_reply_begin(node, request->stream, (int)status, NULL, 0) < 0)
        return;
    f->stream = request->stream;
    f->size = t->value[SCENE_route_size];
    (void)p2p_stream_set_user(node, f->stream, f);
    flow_write(r, f);
    flow_read(r, f);
}
static void routes_add(scene_run *r, uint32_t vertex) {
    p2p_error_detail why;
    uint32_t i, k;
    for (i = 0; i < r->s->statement_count; i++) {
        const scene_statement *t = &r->s->statements[i];
        scene_group g = scene_group_of(t, SCENE_route_a);
        p2p_route route;
        if (t->verb != SCENE_route)
            continue;
        for (k = 0; k < g.count && r->s->members[g.first + k] != vertex; k++) {}
        if (k == g.count)
            continue;
        memset(&route, 0, sizeof route);
        route.method = (uint32_t)t->value[SCENE_route_method];
        route.flags = P2P_ROUTE_STREAM;
        route.pattern = scene_text_of(r->s, t, SCENE_route_path);
        route.handler = answer;
        route.ctx = (void *)(uintptr_t)t;
        if (p2p_route_add(r->nodes[vertex].node, &route) < 0) {
            p2p_last_error(r->nodes[vertex].node, &why);
            scene_fail(r, t, "%s: %s", name_of(r, vertex), why.text);
        }
    }
}

/* ---- messages and datagrams ------------------------------------------------------------------ */

static bool message_send(scene_run *r, scene_contact *c, size_t size) {
    uint8_t *bytes = (uint8_t *)malloc(size ? size : 1);
    int err;
    if (!bytes) {
        r->out_of_memory = true;
        return true;
    }
    numbered(r, c->from, c->messages_out, bytes, size);
    err = p2p_send(node_of(r, c), c->conn, bytes, size);
    free(bytes);
    if (err == P2P_ERR_AGAIN)
        return false;
    if (err < 0) {
        c->not_taken++;
        return true;
    }
    c->messages_out++;
    c->bytes_out += size;
    return true;
}
static void messages_send(scene_run *r, scene_contact *c) {
    while (c->waiting_first < c->waiting_count) {
        if (!message_send(r, c, c->waiting[c->waiting_first]))
            return; /* WRITABLE will come */
        c->waiting_first++;
    }
    c->waiting_first = c->waiting_count = 0;
}
static void messages_read(scene_run *r, scene_contact *c) {
    int size;
    while ((size = p2p_recv_size(node_of(r, c), c->conn)) >= 0) {
        uint8_t *bytes = (uint8_t *)malloc(size ? (size_t)size : 1);
        uint64_t number;
        int n = bytes ? p2p_recv(node_of(r, c), c->conn, bytes, (size_t)size) : P2P_ERR_AGAIN;
        if (n < 0) {
            free(bytes);
            return; /* not all of it is here */
        }
        number = number_of(r, c, bytes, (size_t)n);
        free(bytes);
        if (number != UINT64_MAX && number < c->message_in_least)
            broken(r, c, "a message that came before, or out of order");
        else if (number != UINT64_MAX)
            c->message_in_least = number + 1;
        c->messages_in++;
        c->bytes_in += (uint64_t)n;
    }
}
static void datagrams_send(scene_run *r, scene_contact *c, size_t size, uint64_t count) {
    uint8_t bytes[65536];
    for (; count; count--) {
        numbered(r, c->from, c->datagrams_out, bytes, size);
        if (p2p_datagram_send(node_of(r, c), c->conn, bytes, size) < 0) {
            c->not_taken++;
            continue;
        }
        c->datagrams_out++;
        c->bytes_out += size;
    }
}
/* True when this number is new. */
static bool datagram_is_new(scene_run *r, scene_contact *c, uint64_t number) {
    const scene_contact *sender = scene_contact_find(r, c->to, c->from);
    uint64_t want = number / 8 + 1;
    uint8_t *more, bit = (uint8_t)(1u << number % 8);
    if (!sender || number >= sender->datagrams_out)
        return false;
    if (want > c->seen_bytes) {
        more = (uint8_t *)realloc(c->seen, (size_t)(want * 2));
        if (!more) {
            r->out_of_memory = true;
            return true;
        }
        memset(more + c->seen_bytes, 0, (size_t)(want * 2 - c->seen_bytes));
        c->seen = more;
        c->seen_bytes = want * 2;
    }
    if (c->seen[number / 8] & bit)
        return false;
    c->seen[number / 8] |= bit;
    return true;
}
static void datagrams_read(scene_run *r, scene_contact *c) {
    uint8_t bytes[65536];
    uint64_t number;
    int n;
    while ((n = p2p_datagram_recv(node_of(r, c), c->conn, bytes, sizeof bytes)) >= 0) {
        number = number_of(r, c, bytes, (size_t)n);
        if (number != UINT64_MAX && !datagram_is_new(r, c, number))
            broken(r, c, "a datagram that came before, or was not sent");
        c->datagrams_in++;
        c->bytes_in += (uint64_t)n;
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static void connected(scene_run *r, scene_contact *c, const p2p_event *e) {
    c->conn = e->conn;
    c->state = CONTACT_UP;
    c->err = 0;
    messages_send(r, c);
    flows_open(r, c->from);
}
static void disconnected(scene_run *r, scene_contact *c, const p2p_event *e) {
    if (c->conn.id != e->conn.id)
        return; /* another one has taken its place */
    c->state = CONTACT_DOWN;
    c->err = e->err;
    c->not_taken += c->waiting_count - c->waiting_first;
    c->waiting_first = c->waiting_count = 0;
    flows_drop(r, c);
}
static void stream_came(scene_run *r, scene_contact *c, const p2p_event *e) {
    scene_flow *f = flow_new(r, c, FLOW_IN);
    if (!f)
        return;
    f->stream = e->stream;
    f->finished = true; /* it is one way, or nothing is said on it */
    (void)p2p_stream_set_user(node_of(r, c), e->stream, f);
    flow_read(r, f);
}
static void responded(scene_run *r, scene_flow *f, const p2p_event *e) {
    if (!f || f->ended)
        return;
    f->status = e->err < 0 ? 1 : e->status; /* 1: there is none */
    if (e->err < 0)
        flow_ended(r, f);
    else
        flow_read(r, f);
}
static void stream_event(scene_run *r, scene_flow *f, const p2p_event *e) {
    switch (e->type) {
    case P2P_EVENT_READABLE: flow_read(r, f); break;
    case P2P_EVENT_WRITABLE: flow_write(r, f); break;
    case P2P_EVENT_RESPONSE: responded(r, f, e); break;
    case P2P_EVENT_CLOSED: flow_closed(r, f, e->err); break;
    default: break;
    }
}
static void conn_event(scene_run *r, scene_contact *c, const p2p_event *e) {
    switch (e->type) {
    case P2P_EVENT_CONNECTED:
    case P2P_EVENT_RECONNECTED: connected(r, c, e); break;
    case P2P_EVENT_DISCONNECTED: disconnected(r, c, e); break;
    case P2P_EVENT_STREAM: stream_came(r, c, e); break;
    case P2P_EVENT_MESSAGE: messages_read(r, c); break;
    case P2P_EVENT_DATAGRAM: datagrams_read(r, c); break;
    case P2P_EVENT_WRITABLE: messages_send(r, c); break;
    default: break;
    }
}
void scene_app_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    scene_run *r = (scene_run *)ctx;
    uint32_t me = scene_vertex_of(r, p2p_node_id(node)), peer = scene_vertex_of(r, &e->peer);
    scene_contact *c;
    (void)sim;
    if (r->see)
        p2p_see_tell_event(r->see, node, e);
    c = peer == UINT32_MAX ? NULL : scene_contact_of(r, me, peer);
    if (e->stream.id && e->user && e->type != P2P_EVENT_STREAM)
        stream_event(r, (scene_flow *)e->user, e);
    else if (c && (!e->stream.id || e->type == P2P_EVENT_STREAM))
        conn_event(r, c, e);
    if (c && c->state == CONTACT_UP)
        (void)p2p_conn_stats(node, c->conn, &c->stats);
    flows_open(r, me);
    scene_expect_look(r);
}

/* ---- what statements ask for ----------------------------------------------------------------- */

void scene_app_start(scene_run *r, uint32_t vertex) {
    scene_node *n = &r->nodes[vertex];
    const scene_statement *made = &r->s->statements[r->s->vertices[vertex].statement];
    p2p_listener listener;
    if (!scene_given(made, SCENE_node_silent) && p2p_listen(n->node, NULL, &listener) < 0)
        scene_fail(r, made, "%s cannot listen", name_of(r, vertex));
    routes_add(r, vertex);
}
static void contacts_forget(scene_run *r, uint32_t vertex) {
    uint32_t i;
    for (i = 0; i < r->contact_count; i++) {
        scene_contact *c = &r->contacts[i];
        if (c->from != vertex || c->state == CONTACT_NONE)
            continue;
        c->state = CONTACT_DOWN;
        c->err = P2P_ERR_CLOSED;
        c->conn.id = 0;
        c->waiting_first = c->waiting_count = 0;
    }
}
void scene_app_crashed(scene_run *r, uint32_t vertex) {
    scene_node *n = &r->nodes[vertex];
    n->node = NULL;
    n->waiting = 0;
    while (n->flows)
        flow_free(r, n->flows);
    contacts_forget(r, vertex);
}
static void dial_desc(const scene_statement *t, p2p_connect_desc *out) {
    memset(out, 0, sizeof *out);
    out->timeout_us = t->value[SCENE_dial_timeout];
    out->reconnect = scene_given(t, SCENE_dial_reconnect);
    out->share = scene_given(t, SCENE_dial_share);
}
static void dial_failed(scene_run *r, const scene_statement *t, uint32_t from, int err) {
    p2p_error_detail why;
    p2p_last_error(r->nodes[from].node, &why);
    scene_fail(r, t, "%s: %s%s%s", name_of(r, from), p2p_err_text(err), *why.text ? ": " : "",
               why.text);
}
void scene_app_dial(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to) {
    scene_contact *c = scene_contact_of(r, from, to);
    p2p_connect_desc desc;
    p2p_conn conn;
    int err;
    if (!c)
        return;
    dial_desc(t, &desc);
    err = p2p_connect(r->nodes[from].node, &r->nodes[to].id, &desc, &conn);
    if (err < 0) {
        dial_failed(r, t, from, err);
        return;
    }
    if (err == 0 && c->state != CONTACT_UP)
        c->state = CONTACT_DIALLING;
    c->conn = conn;
}
void scene_app_dial_name(scene_run *r, const scene_statement *t, uint32_t from) {
    p2p_connect_desc desc;
    p2p_conn conn;
    int err;
    dial_desc(t, &desc);
    err = p2p_connect_name(r->nodes[from].node, scene_text_of(r->s, t, SCENE_dial_b), &desc, &conn);
    if (err < 0)
        dial_failed(r, t, from, err);
}
/* The contact, when it has a connection or a dial under way; counts what it cannot take. A script
 * that never made one is wrong. */
static scene_contact *contact_for(scene_run *r, const scene_statement *t, uint32_t from,
                                  uint32_t to, uint64_t count) {
    scene_contact *c = scene_contact_of(r, from, to);
    if (!c)
        return NULL;
    if (c->state == CONTACT_NONE) {
        scene_fail(r, t, "%s has never had a connection to %s: dial before", name_of(r, from),
                   name_of(r, to));
        return NULL;
    }
    if (c->state == CONTACT_DOWN || !r->nodes[from].node) {
        c->not_taken += count;
        return NULL;
    }
    return c;
}
void scene_app_close(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to) {
    scene_contact *c = contact_for(r, t, from, to, 0);
    if (c)
        (void)p2p_close(r->nodes[from].node, c->conn, (uint32_t)t->value[SCENE_close_code], NULL);
}
static void flows_begin(scene_run *r, const scene_statement *t, scene_contact *c, uint32_t kind,
                        uint64_t size, uint64_t count) {
    uint32_t from = c->from;
    for (; count; count--) {
        scene_flow *f = flow_new(r, c, kind);
        if (!f)
            return;
        f->size = size;
        f->statement = (uint32_t)(t - r->s->statements);
        r->nodes[from].waiting++;
    }
    flows_open(r, from);
}
static void messages_begin(scene_run *r, scene_contact *c, uint32_t size, uint64_t count) {
    for (; count; count--) {
        if (!scene_grow(r, (void **)&c->waiting, c->waiting_count, &c->waiting_room,
                        sizeof *c->waiting))
            return;
        c->waiting[c->waiting_count++] = size;
    }
    messages_send(r, c);
}
void scene_app_send(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to) {
    uint32_t field = t->verb == SCENE_stream    ? SCENE_stream_count
                     : t->verb == SCENE_message ? SCENE_message_count
                     : t->verb == SCENE_request ? SCENE_request_count
                                                : SCENE_datagram_count;
    uint64_t count = scene_given(t, field) ? t->value[field] : 1;
    scene_contact *c = contact_for(r, t, from, to, count);
    if (!c)
        return;
    switch (t->verb) {
    case SCENE_stream: flows_begin(r, t, c, FLOW_OUT, t->value[SCENE_stream_size], count); break;
    case SCENE_request: flows_begin(r, t, c, FLOW_ASK, t->value[SCENE_request_body], count); break;
    case SCENE_message: messages_begin(r, c, (uint32_t)t->value[SCENE_message_size], count); break;
    default: datagrams_send(r, c, (size_t)t->value[SCENE_datagram_size], count);
    }
}

/* ---- hosts: plain UDP, no p2p.h --------------------------------------------------------------- */

enum { HOST_PORT = 4000, HOST_HEAD = 4 };

/* What is sent begins with its sender's number, so that it is known from behind a box, too. */
static void host_head(uint8_t *out, uint32_t sender) {
    uint32_t i;
    for (i = 0; i < HOST_HEAD; i++)
        out[i] = (uint8_t)(sender >> 8 * i);
}
static uint32_t host_sender(p2p_span data) {
    uint32_t sender = 0, i;
    for (i = 0; i < HOST_HEAD && data.size >= HOST_HEAD; i++)
        sender |= (uint32_t)data.data[i] << 8 * i;
    return data.size >= HOST_HEAD ? sender : UINT32_MAX;
}
static void host_datagram(void *ctx, p2p_sim *sim, const p2p_id *host, uint16_t port,
                          const p2p_addr *from, p2p_span data) {
    scene_run *r = (scene_run *)ctx;
    uint32_t me = scene_vertex_of(r, host), sender = host_sender(data);
    scene_contact *c = sender < r->s->vertex_count ? scene_contact_of(r, me, sender) : NULL;
    uint8_t back[65536];
    if (c) {
        c->state = CONTACT_UP;
        c->datagrams_in++;
        c->bytes_in += data.size;
    }
    if (c && scene_given(&r->s->statements[r->s->vertices[me].statement], SCENE_host_echo)) {
        memcpy(back, data.data, data.size);
        host_head(back, me);
        (void)p2p_sim_host_send(sim, host, port, from, back, data.size);
    }
    scene_expect_look(r);
}
int scene_host_make(scene_run *r, uint32_t vertex) {
    p2p_sim_host_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.on_datagram = host_datagram;
    desc.ctx = r;
    return p2p_sim_host(r->sim, name_of(r, vertex), &desc, &r->nodes[vertex].id);
}
void scene_host_send(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to) {
    uint64_t count = scene_given(t, SCENE_udp_count) ? t->value[SCENE_udp_count] : 1;
    size_t size = (size_t)t->value[SCENE_udp_size];
    scene_contact *c = scene_contact_of(r, from, to);
    uint8_t bytes[65536];
    p2p_addr addr;
    int err = p2p_sim_addr(r->sim, &r->nodes[to].id, &addr);
    if (!c)
        return;
    c->state = CONTACT_UP;
    memset(bytes, 0, sizeof bytes);
    if (size >= HOST_HEAD)
        host_head(bytes, from);
    for (; count && err >= 0; count--) {
        err = p2p_sim_host_send(r->sim, &r->nodes[from].id, HOST_PORT, &addr, bytes, size);
        c->datagrams_out += err >= 0;
        c->bytes_out += err >= 0 ? size : 0;
    }
    if (err < 0)
        scene_fail(r, t, "%s: %s", name_of(r, from),
                   *r->why.text ? r->why.text : p2p_err_text(err));
}
void scene_app_end(scene_run *r) {
    uint32_t i;
    for (i = 0; i < r->s->vertex_count; i++)
        while (r->nodes && r->nodes[i].flows)
            flow_free(r, r->nodes[i].flows);
    for (i = 0; i < r->contact_count; i++) {
        free(r->contacts[i].waiting);
        free(r->contacts[i].seen);
    }
    free(r->contacts);
    free(r->contact_table);
}
