/* work.h: what the programs on the nodes do, and the model of what must come of it.
 *
 * Always: the model lives outside of the nodes and outlives them. Every stream direction (flow),
 * message and datagram has a number, which stands in its first bytes with its complement; the rest
 * is the window of the pattern that belongs to the number. So whoever receives something knows what
 * it is, who sent it and what comes next, and whatever is lost, doubled, mixed up or out of place
 * is noticed. */
#ifndef SWARM_WORK_H
#define SWARM_WORK_H

enum { ENDS = 4000, HALVES = 12000, FLOWS = 12000, MESSAGES = 60000, DATAGRAMS = 60000 };
enum { HEAD = 8, NOBODY = -1, STOP_CODE = 500, CLOSE_CODE = 1000, RESET_CODE = 1000000 };

enum end_state { DIALLING, UP, OVER };

typedef struct end { /* one side of a connection */
    p2p_conn conn;
    int node, peer; /* NOBODY: not known yet, dialled by name */
    uint32_t life;  /* of the node */
    uint8_t state, incoming, reconnect, share, was_up, closing, want_writable;
    uint8_t early;     /* something of it was given before it was up */
    uint8_t up_healed; /* came up after all had healed */
    uint32_t holders;
    uint32_t sent, given; /* messages from here: taken, and given by the other side */
    uint32_t next;        /* the next one that may be given */
    uint64_t doubtful;    /* those that RECONNECTED counted */
    int64_t hears;        /* the end whose messages come here */
    uint8_t *lent;
    struct ref *ref; /* what p2p_send_ref was given */
} end;

typedef struct ref {
    size_t size;
    uint8_t bytes[1];
} ref;

typedef struct flow { /* one direction of a stream */
    uint32_t size, sent, got;
    int writer; /* the end */
    struct half *from, *to;
    uint8_t finished, ended, reset;
} flow;

typedef struct half { /* one side of a stream */
    end *end;
    p2p_stream stream;
    flow *out, *in;
    uint8_t head[HEAD], have;
    uint8_t live, local, one_way, aborted, want_writable, reading_over;
    rng react;
} half;

typedef struct piece { /* a message or a datagram */
    uint32_t end, order, size;
    uint8_t given;
} piece;

static end ends[ENDS];
static half halves[HALVES];
static flow flows[FLOWS];
static piece messages[MESSAGES], datagrams[DATAGRAMS];
static struct made {
    uint32_t ends, halves, flows, messages, datagrams, asks, servings, queries;
} made;

static actor *actor_of(const end *e) { return &world.actors[e->node]; }
static unsigned number_of(const end *e) { return (unsigned)(e - ends); }

/* ---- pieces: how numbers and bytes become payload ---- */

static void piece_write(uint8_t *out, uint32_t number, size_t size) {
    uint32_t check = ~number;
    memcpy(out, &number, 4);
    memcpy(out + 4, &check, 4);
    memcpy(out + HEAD, pattern(number, HEAD), size - HEAD);
}

/* A dial that had no answer to what it sent begins anew: the peer may see two connections, and on
 * both of them what was sent before CONNECTED. */
static int redialled(const end *from) { return !from->was_up || from->early; }

/* The number of a piece that came to this end, whole and as it was sent. */
static piece *piece_read(const end *to, const uint8_t *bytes, size_t size, piece *all,
                         uint32_t count, const char *what) {
    uint32_t number, check;
    piece *p;
    MUST(size >= HEAD, "end %u: a %s of %u bytes", number_of(to), what, (unsigned)size);
    memcpy(&number, bytes, 4);
    memcpy(&check, bytes + 4, 4);
    MUST(number == ~check && number < count, "end %u: a %s that nobody sent", number_of(to), what);
    p = &all[number];
    MUST(p->size == size && memcmp(bytes + HEAD, pattern(number, HEAD), size - HEAD) == 0,
         "end %u: %s %u is not as it was sent", number_of(to), what, (unsigned)number);
    MUST(!p->given || redialled(&ends[p->end]), "end %u: %s %u comes twice", number_of(to), what,
         (unsigned)number);
    MUST(ends[p->end].node == to->peer, "end %u: %s %u is of node %d, not %d", number_of(to), what,
         (unsigned)number, ends[p->end].node, to->peer);
    MUST(ends[p->end].peer == NOBODY || ends[p->end].peer == to->node,
         "end %u: %s %u is for node %d", number_of(to), what, (unsigned)number, ends[p->end].peer);
    p->given = 1;
    ends[p->end].early |= !ends[p->end].was_up;
    return p;
}

/* ---- ends ---- */

static end *end_make(actor *a, p2p_conn conn, int peer) {
    end *e = &ends[made.ends];
    MUST(made.ends < ENDS, "the test is too small for its connections");
    memset(e, 0, sizeof *e);
    e->conn = conn;
    e->node = (int)(a - world.actors);
    e->peer = peer;
    e->life = a->life;
    e->holders = 1;
    e->hears = NOBODY;
    made.ends++;
    return e;
}

/* The end of this handle that is not over yet; NULL. */
static end *end_find(const actor *a, p2p_conn conn) {
    for (uint32_t i = made.ends; i-- > 0;) {
        end *e = &ends[i];
        if (e->conn.id == conn.id && actor_of(e) == a && e->state != OVER)
            return e;
    }
    return NULL;
}

static int node_of(const p2p_id *id) {
    for (uint32_t i = 0; i < plan.nodes; i++)
        if (p2p_id_equal(id, &world.actors[i].id))
            return (int)i;
    return NOBODY;
}

/* One of the node's ends that may be used, by chance; NULL: it has none. */
static end *end_draw(const actor *a, rng *r) {
    end *found = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < made.ends; i++)
        if (actor_of(&ends[i]) == a && ends[i].state != OVER && !ends[i].closing &&
            below(r, ++n) == 0)
            found = &ends[i];
    return found;
}

/* A handle that outlives breaks waits for as long as the peer has no place for it. */
static int crowded(const end *e) {
    const p2p_node *peer = e->peer == NOBODY ? NULL : world.actors[e->peer].node;
    return peer && e->reconnect && !p2p_is_connected(actor_of(e)->node, e->conn) &&
           (peer->conns.used >= peer->desc.max.conns ||
            p2p__conns_with(peer, &actor_of(e)->id) >= peer->desc.max.conns_per_peer);
}

/* ---- streams ---- */

static half *half_make(end *e, p2p_stream stream, int local) {
    half *h = &halves[made.halves];
    MUST(made.halves < HALVES, "the test is too small for its streams");
    memset(h, 0, sizeof *h);
    h->end = e;
    h->stream = stream;
    h->live = 1;
    h->local = (uint8_t)local;
    h->react = rng_of(F_REACT, made.halves++);
    EXPECT(actor_of(e), p2p_stream_set_user(actor_of(e)->node, stream, h), 0);
    return h;
}

static flow *flow_make(half *from, rng *r) {
    flow *f = &flows[made.flows];
    MUST(made.flows < FLOWS, "the test is too small for its streams");
    memset(f, 0, sizeof *f);
    f->size = HEAD + (percent(r, 70) ? below(r, 2000) : spread(r, 100, 100000));
    f->writer = (int)number_of(from->end);
    f->from = from;
    made.flows++;
    return f;
}

static uint32_t flow_number(const flow *f) { return (uint32_t)(f - flows); }

/* Bytes from `at` on; *size is how many at most, and then how many there are in a row. */
static const uint8_t *flow_bytes(const flow *f, uint32_t at, uint32_t *size) {
    static uint8_t head[HEAD];
    if (at >= HEAD)
        return pattern(flow_number(f), at);
    piece_write(head, flow_number(f), HEAD);
    *size = *size < HEAD - at ? *size : HEAD - at;
    return head + at;
}

static int half_write_some(half *h, uint32_t want) {
    p2p_node *node = actor_of(h->end)->node;
    const uint8_t *bytes = flow_bytes(h->out, h->out->sent, &want);
    p2p_room room;
    int n;
    if (percent(&h->react, 60)) {
        n = p2p_stream_write(node, h->stream, bytes, want);
        h->want_writable = n == P2P_ERR_AGAIN || (n >= 0 && (uint32_t)n < want);
        return n;
    }
    n = p2p_stream_reserve(node, h->stream, want, &room);
    h->want_writable = n == P2P_ERR_AGAIN;
    if (n < 0)
        return n;
    MUST(room.size <= want && n == (int)room.size, "reserve gave more than was asked");
    memcpy(room.data, bytes, room.size);
    want = percent(&h->react, 20) ? below(&h->react, (uint32_t)room.size + 1) : (uint32_t)room.size;
    return EXPECT(actor_of(h->end), p2p_stream_commit(node, h->stream, want), 0);
}

static int half_writes(const half *h) {
    return h->live && !h->aborted && h->out && !h->out->finished;
}

static void half_finish(half *h) {
    p2p_node *node = actor_of(h->end)->node;
    if (EXPECT(actor_of(h->end), p2p_stream_finish(node, h->stream), P2P_ERR_RESET,
               P2P_ERR_CLOSED) == 0)
        h->out->finished = 1;
    else
        h->aborted = 1;
}

/* Writes until there is no room, all is written, or the program has enough for now. */
static void half_write(half *h) {
    while (half_writes(h) && h->out->sent < h->out->size) {
        uint32_t left = h->out->size - h->out->sent, want = 1 + below(&h->react, 6000);
        int n = half_write_some(h, want < left ? want : left);
        if (n == P2P_ERR_AGAIN)
            return;
        if (n == P2P_ERR_RESET || n == P2P_ERR_CLOSED) {
            h->aborted = 1;
            return;
        }
        MUST(n >= 0, "stream %u: write gave %s", (unsigned)(h - halves), words(n));
        h->out->sent += (uint32_t)n;
        if (with(F_lazy) && !world.healed && percent(&h->react, 5))
            return;
    }
    if (half_writes(h))
        half_finish(h);
}

/* The first bytes say which flow it is: one that was written at the other end, and by a stream
 * whose other direction, if both are known, is this one's. */
static void half_identify(half *h) {
    uint32_t number, check;
    flow *f;
    memcpy(&number, h->head, 4);
    memcpy(&check, h->head + 4, 4);
    MUST(number == ~check && number < made.flows, "stream %u begins with what nobody wrote",
         (unsigned)(h - halves));
    f = &flows[number];
    MUST(f->from != h && (!f->to || redialled(&ends[f->writer])), "stream %u: flow %u comes twice",
         (unsigned)(h - halves), (unsigned)number);
    MUST(h->end->peer == NOBODY || ends[f->writer].node == h->end->peer,
         "stream %u: flow %u is of another node", (unsigned)(h - halves), (unsigned)number);
    MUST(!h->out || !f->from->in || f->from->in == h->out,
         "stream %u: its directions belong to different streams", (unsigned)(h - halves));
    MUST(h->local != f->from->local, "stream %u: both sides opened it", (unsigned)(h - halves));
    ends[f->writer].early |= !ends[f->writer].was_up;
    h->in = f;
    f->to = h;
    f->got = HEAD;
}

static void half_took(half *h, const uint8_t *bytes, size_t size) {
    for (; size > 0 && h->have < HEAD; size--)
        h->head[h->have++] = *bytes++;
    if (h->have == HEAD && !h->in)
        half_identify(h);
    if (size == 0)
        return;
    MUST(h->in->got + size <= h->in->sent, "stream %u: more bytes than were written",
         (unsigned)(h - halves));
    MUST(memcmp(bytes, pattern(flow_number(h->in), h->in->got), size) == 0,
         "stream %u: bytes from %u on are not those that were written", (unsigned)(h - halves),
         (unsigned)h->in->got);
    h->in->got += (uint32_t)size;
}

static int half_read_some(half *h) {
    static uint8_t copy[6000];
    p2p_node *node = actor_of(h->end)->node;
    p2p_span span;
    int n;
    if (percent(&h->react, 50)) {
        n = p2p_stream_read(node, h->stream, copy, 1 + below(&h->react, sizeof copy));
        if (n > 0)
            half_took(h, copy, (size_t)n);
        return n;
    }
    n = p2p_stream_peek(node, h->stream, &span);
    if (n <= 0)
        return n;
    if (percent(&h->react, 30))
        span.size = 1 + below(&h->react, (uint32_t)span.size);
    half_took(h, span.data, span.size);
    EXPECT(actor_of(h->end), p2p_stream_skip(node, h->stream, span.size), 0);
    return (int)span.size;
}

static void half_ended(half *h) {
    MUST(h->in && h->in->finished && h->in->got == h->in->size, "stream %u ended at %u",
         (unsigned)(h - halves), h->in ? (unsigned)h->in->got : 0);
    h->in->ended = 1;
    h->reading_over = 1;
}

static int half_reads(const half *h) {
    return h->live && !h->aborted && !h->reading_over && !(h->local && h->one_way);
}

static void half_read(half *h) {
    int n = 1;
    while (half_reads(h) && n > 0) {
        n = half_read_some(h);
        if (n > 0 && with(F_lazy) && !world.healed && percent(&h->react, 5))
            return;
    }
    if (n == 0)
        half_ended(h);
    if (n == P2P_ERR_RESET || n == P2P_ERR_CLOSED)
        h->reading_over = 1;
    MUST(n >= 0 || n == P2P_ERR_AGAIN || n == P2P_ERR_RESET || n == P2P_ERR_CLOSED,
         "stream %u: read gave %s", (unsigned)(h - halves), words(n));
}

/* Both directions may end anywhere from now on. */
static void half_abort(half *h) {
    h->aborted = 1;
    if (h->out)
        h->out->reset = 1;
    if (h->in)
        h->in->reset = 1;
}

static void half_closed(half *h, const p2p_event *event) {
    int clean = event->err == P2P_OK;
    h->live = 0;
    if (event->err == P2P_ERR_RESET && event->code >= RESET_CODE) {
        uint32_t by = event->code - RESET_CODE;
        MUST(by < made.halves && (halves[by].end->node == h->end->peer || &halves[by] == h),
             "stream %u: reset by stream %u, of another node", (unsigned)(h - halves),
             (unsigned)by);
    }
    tally(clean ? T_streams : T_aborted);
    if (!clean || h->aborted)
        return;
    MUST(!h->out || (h->out->finished && h->out->sent == h->out->size),
         "stream %u closed well, and is not finished", (unsigned)(h - halves));
    MUST((h->local && h->one_way) || h->reading_over,
         "stream %u closed well before its end was read", (unsigned)(h - halves));
}

static void stream_open(actor *a, rng *r) {
    end *e = end_draw(a, r);
    p2p_stream_desc desc;
    p2p_stream stream;
    half *h;
    if (!e)
        return;
    memset(&desc, 0, sizeof desc);
    desc.one_way = (uint8_t)percent(r, 40);
    desc.priority = (uint8_t)below(r, 8);
    if (EXPECT(a, p2p_stream_open(a->node, e->conn, &desc, &stream), P2P_ERR_LIMIT,
               P2P_ERR_CLOSED) < 0)
        return;
    h = half_make(e, stream, 1);
    h->one_way = desc.one_way;
    h->out = flow_make(h, r);
    say("node %d: end %u opens stream %u, %u bytes%s", e->node, number_of(e),
        (unsigned)(h - halves), (unsigned)h->out->size, h->one_way ? ", one way" : "");
    half_write(h);
}

/* The peer's stream: one that goes both ways is answered. */
static void stream_came(actor *a, end *e, const p2p_event *event) {
    half *h = half_make(e, event->stream, 0);
    h->one_way = p2p_stream_write(a->node, h->stream, "", 0) < 0;
    if (!h->one_way) {
        h->out = flow_make(h, &h->react);
        half_write(h);
    }
}

static half *half_draw(const actor *a, rng *r) {
    half *found = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < made.halves; i++)
        if (halves[i].live && !halves[i].aborted && actor_of(halves[i].end) == a &&
            below(r, ++n) == 0)
            found = &halves[i];
    return found;
}

static void stream_reset(actor *a, rng *r) {
    half *h = half_draw(a, r);
    if (!h)
        return;
    say("node %d: resets stream %u", (int)(a - world.actors), (unsigned)(h - halves));
    half_abort(h);
    EXPECT(a, p2p_stream_reset(a->node, h->stream, RESET_CODE + (uint32_t)(h - halves)), 0);
}

/* What a lazy program left. */
static void streams_resume(actor *a) {
    for (uint32_t i = 0; i < made.halves; i++)
        if (halves[i].live && actor_of(halves[i].end) == a) {
            half_read(&halves[i]);
            half_write(&halves[i]);
        }
}

/* Whom a name led to is known by any event. */
static void end_meets(end *e, const p2p_event *event) {
    if (e->peer == NOBODY)
        e->peer = node_of(&event->peer);
}

static void stream_event(actor *a, end *e, const p2p_event *event) {
    half *h = (half *)event->user;
    if (e) {
        MUST(e->was_up || !p2p_is_connected(a->node, e->conn), "end %u: event %u before CONNECTED",
             number_of(e), (unsigned)event->type);
        end_meets(e, event);
    }
    if (event->type == P2P_EVENT_STREAM) {
        MUST(e && (e->was_up || !p2p_is_connected(a->node, e->conn)),
             "node %d: STREAM before CONNECTED", (int)(a - world.actors));
        stream_came(a, e, event);
        return;
    }
    MUST(h >= halves && h < halves + made.halves && h->live && h->stream.id == event->stream.id &&
             actor_of(h->end) == a,
         "node %d: event %u of a stream that is over", (int)(a - world.actors),
         (unsigned)event->type);
    if (event->type == P2P_EVENT_CLOSED)
        half_closed(h, event);
    if (event->type == P2P_EVENT_READABLE)
        half_read(h);
    if (event->type == P2P_EVENT_WRITABLE) {
        h->want_writable = 0;
        half_write(h);
    }
}

/* ---- messages ---- */

static uint32_t message_size(rng *r) {
    if (with(F_large) && percent(r, 6))
        return spread(r, 2000, 120000);
    return HEAD + (percent(r, 80) ? below(r, 200) : below(r, 3000));
}

static void message_note(end *e, uint32_t size) {
    piece *p = &messages[made.messages++];
    p->end = number_of(e);
    p->order = e->sent++;
    p->size = size;
    p->given = 0;
    tally(T_messages);
}

static int message_by_ref(actor *a, end *e, uint32_t size) {
    ref *lent = (ref *)malloc(sizeof *lent + size);
    int n;
    MUST(lent != NULL, "no memory");
    lent->size = size;
    piece_write(lent->bytes, made.messages, size);
    n = EXPECT(a, p2p_send_ref(a->node, e->conn, lent->bytes, size, lent), P2P_ERR_AGAIN,
               P2P_ERR_CLOSED);
    if (n < 0) {
        free(lent);
        return n;
    }
    MUST(!e->ref, "end %u: a second p2p_send_ref was taken", number_of(e));
    e->ref = lent;
    tally(T_large_messages);
    return n;
}

static void message_send_one(actor *a, end *e, rng *r) {
    static uint8_t bytes[4000];
    uint32_t size = message_size(r);
    int n = P2P_ERR_TOO_LARGE;
    if (made.messages == MESSAGES)
        return;
    if (size <= sizeof bytes) {
        piece_write(bytes, made.messages, size);
        n = EXPECT(a, p2p_send(a->node, e->conn, bytes, size), P2P_ERR_AGAIN, P2P_ERR_TOO_LARGE,
                   P2P_ERR_CLOSED);
    }
    if (n == P2P_ERR_TOO_LARGE)
        n = message_by_ref(a, e, size);
    e->want_writable |= n == P2P_ERR_AGAIN;
    if (n < 0)
        return;
    MUST((uint32_t)n == size, "end %u: send took %d of %u bytes", number_of(e), n, (unsigned)size);
    message_note(e, size);
}

static void message_send(actor *a, rng *r) {
    end *e = end_draw(a, r);
    for (uint32_t n = e ? between(r, 1, 4) : 0; n > 0; n--)
        message_send_one(a, e, r);
}

/* In order and once; from a handle that outlives breaks those in doubt may be missing. */
static void message_given(end *to, const uint8_t *bytes, size_t size) {
    piece *p = piece_read(to, bytes, size, messages, made.messages, "message");
    end *from = &ends[p->end];
    if (p->order < from->next && redialled(from) && (to->hears != p->end || to->reconnect))
        from->next = from->given = p->order; /* from the first one on again */
    MUST(p->order >= from->next, "end %u: message %u of end %u after message %u", number_of(to),
         (unsigned)p->order, number_of(from), (unsigned)from->next);
    MUST(p->order == from->next || from->reconnect,
         "end %u: message %u of end %u before message %u", number_of(to), (unsigned)p->order,
         number_of(from), (unsigned)from->next);
    MUST(to->reconnect || to->hears == NOBODY || to->hears == p->end,
         "end %u: messages of ends %u and %u", number_of(to), (unsigned)to->hears,
         (unsigned)p->end);
    to->hears = p->end;
    from->next = p->order + 1;
    from->given++;
}

static void message_lend(actor *a, end *e) {
    int size = p2p_recv_size(a->node, e->conn), n;
    if (size < 0)
        return;
    MUST(!e->lent, "end %u: asked for memory twice", number_of(e));
    e->lent = (uint8_t *)malloc((size_t)size + 1);
    MUST(e->lent != NULL, "no memory");
    n = EXPECT(a, p2p_recv_ref(a->node, e->conn, e->lent, (size_t)size), P2P_ERR_AGAIN,
               P2P_ERR_CLOSED);
    if (n >= 0)
        return;
    free(e->lent);
    e->lent = NULL;
}

static void messages_take(actor *a, end *e) {
    static uint8_t buffer[1 << 16];
    int n;
    while (!e->lent && (n = p2p_recv(a->node, e->conn, buffer, sizeof buffer)) != P2P_ERR_AGAIN) {
        if (n == P2P_ERR_TOO_LARGE)
            message_lend(a, e);
        MUST(n >= 0 || n == P2P_ERR_TOO_LARGE || n == P2P_ERR_CLOSED, "end %u: recv gave %s",
             number_of(e), words(n));
        if (n < 0)
            return;
        message_given(e, buffer, (size_t)n);
    }
}

static void message_event(actor *a, end *e, const p2p_event *event) {
    if (e->lent && event->user == e->lent) {
        uint8_t *bytes = e->lent;
        e->lent = NULL;
        MUST(event->err == P2P_OK || event->err == P2P_ERR_CLOSED, "end %u: lent memory with %s",
             number_of(e), words(event->err));
        if (event->err == P2P_OK)
            message_given(e, bytes, (size_t)event->size);
        free(bytes);
    }
    if (!with(F_lazy) || world.healed || made.messages % 8)
        messages_take(a, e);
}

static void message_sent(end *e, const p2p_event *event) {
    ref *lent = e->ref;
    MUST(lent && event->user == lent, "end %u: SENT of what was not lent", number_of(e));
    MUST(event->err == P2P_OK || event->err == P2P_ERR_CLOSED, "end %u: SENT with %s", number_of(e),
         words(event->err));
    e->ref = NULL;
    free(lent);
}

/* ---- datagrams ---- */

static void datagram_send(actor *a, rng *r) {
    static uint8_t bytes[1300];
    end *e = end_draw(a, r);
    for (uint32_t n = e ? between(r, 1, 5) : 0; n > 0 && made.datagrams < DATAGRAMS; n--) {
        int most = EXPECT(a, p2p_datagram_max(a->node, e->conn), 0);
        piece *p = &datagrams[made.datagrams];
        if (most < HEAD)
            return;
        p->end = number_of(e);
        p->given = 0;
        p->size = between(r, HEAD, (uint32_t)most < sizeof bytes ? (uint32_t)most : sizeof bytes);
        piece_write(bytes, made.datagrams, p->size);
        if (EXPECT(a, p2p_datagram_send(a->node, e->conn, bytes, p->size), P2P_ERR_CLOSED) < 0)
            return;
        made.datagrams++;
    }
}

static void datagrams_take(actor *a, end *e) {
    static uint8_t bytes[1300];
    int n;
    while ((n = p2p_datagram_recv(a->node, e->conn, bytes, sizeof bytes)) >= 0) {
        piece_read(e, bytes, (size_t)n, datagrams, made.datagrams, "datagram");
        tally(T_datagrams);
    }
    MUST(n == P2P_ERR_AGAIN || n == P2P_ERR_CLOSED, "end %u: datagram_recv gave %s", number_of(e),
         words(n));
}

/* ---- connections ---- */

static const char *alpn_draw(rng *r) {
    return !with(F_gates) || percent(r, 60) ? NULL : percent(r, 50) ? "chat" : "p2p";
}

static int dial_start(actor *a, int peer, int by_name, const p2p_connect_desc *desc,
                      p2p_conn *conn) {
    char name[16];
    if (!by_name)
        return EXPECT(a, p2p_connect(a->node, &world.actors[peer].id, desc, conn), P2P_ERR_LIMIT,
                      P2P_ERR_STATE);
    snprintf(name, sizeof name, "name%d", peer);
    return EXPECT(a, p2p_connect_name(a->node, name, desc, conn), P2P_ERR_LIMIT, P2P_ERR_STATE);
}

static void dial(actor *a, rng *r) {
    p2p_connect_desc desc;
    p2p_conn conn;
    end *e;
    uint32_t me = (uint32_t)(a - world.actors), peer = below(r, plan.nodes_drawn - 1);
    int by_name, err;
    peer += peer >= me;
    memset(&desc, 0, sizeof desc);
    desc.alpn = alpn_draw(r);
    desc.share = percent(r, 30) && with(F_share);
    desc.reconnect = percent(r, 45) && with(F_reconnect);
    desc.timeout_us = percent(r, 20) && with(F_timing) ? spread(r, 100, 8000) * MS : 0;
    by_name = percent(r, 20) && with(F_names);
    if (peer >= plan.nodes)
        return;
    if (behind_nat(peer))
        desc.reconnect = 0; /* it might be tried for ever */
    if (desc.reconnect)
        desc.alpn = "p2p"; /* which every node knows in every life */
    desc.user = &ends[made.ends];
    err = dial_start(a, (int)peer, by_name, &desc, &conn);
    if (err < 0)
        return;
    e = end_find(a, conn);
    MUST(!e || desc.share, "node %d: a handle that is in use", (int)me);
    if (e) {
        e->holders++;
        MUST(err == (e->state == UP) || e->state == UP || late(a),
             "end %u: shared, connect gave %d", number_of(e), err);
        return;
    }
    MUST(err == 0 || (desc.share && late(a)), "node %d: connect says it is open, and it is new",
         (int)me);
    e = end_make(a, conn, by_name ? NOBODY : (int)peer);
    if (err == 1) { /* a caller's, of which the program was not told yet */
        e->holders++;
        EXPECT(a, p2p_conn_set_user(a->node, e->conn, e), 0);
        return;
    }
    e->reconnect = desc.reconnect;
    e->share = desc.share;
    say("node %u: end %u dials node %u%s%s%s", (unsigned)me, number_of(e), (unsigned)peer,
        by_name ? " by name" : "", e->share ? ", shared" : "", e->reconnect ? ", for long" : "");
}

static void hold(actor *a, rng *r) {
    end *e = end_draw(a, r);
    int n;
    if (!e)
        return;
    if (e->holders == 1 || percent(r, 50)) {
        e->holders++;
        n = EXPECT(a, p2p_retain(a->node, e->conn), 0);
    } else {
        e->holders--;
        n = EXPECT(a, p2p_release(a->node, e->conn), 0);
    }
    MUST(n == (int)e->holders, "end %u: %d holders instead of %u", number_of(e), n,
         (unsigned)e->holders);
}

static void end_close(actor *a, end *e) {
    char reason[24];
    snprintf(reason, sizeof reason, "end %u", number_of(e));
    say("node %d: closes end %u", e->node, number_of(e));
    e->closing = 1;
    EXPECT(a, p2p_close(a->node, e->conn, CLOSE_CODE + number_of(e), reason), 0);
}

static void close_one(actor *a, rng *r) {
    end *e = end_draw(a, r);
    if (e)
        end_close(a, e);
}

static void end_up(actor *a, end *e, const p2p_event *event) {
    MUST(e->state == DIALLING, "end %u: CONNECTED twice", number_of(e));
    MUST(e->peer == NOBODY || e->peer == node_of(&event->peer), "end %u: connected to another node",
         number_of(e));
    e->peer = node_of(&event->peer);
    MUST(e->peer != NOBODY, "end %u: connected to nobody", number_of(e));
    e->state = UP;
    e->incoming = event->incoming;
    e->was_up = 1;
    e->up_healed = (uint8_t)world.healed;
    tally(T_connected);
    say("node %d: end %u is up, %s node %d", e->node, number_of(e), e->incoming ? "from" : "to",
        e->peer);
    (void)a;
}

/* CONNECTED: of a dial, of a caller, or of a dial by name that found a connection to share. */
static void connected(actor *a, const p2p_event *event) {
    end *e = end_find(a, event->dialled);
    if (event->dialled.id != event->conn.id) {
        end *open = end_find(a, event->conn);
        MUST(e && e->share && open && open->state == UP, "node %d: an alias of nothing",
             (int)(a - world.actors));
        e->state = OVER;
        open->holders++;
        return;
    }
    if (!e) {
        MUST(event->incoming, "node %d: CONNECTED of nobody's dial", (int)(a - world.actors));
        e = end_make(a, event->conn, node_of(&event->peer));
        EXPECT(a, p2p_conn_set_user(a->node, e->conn, e), 0);
    }
    end_up(a, e, event);
}

static void reconnected(end *e, const p2p_event *event) {
    MUST(e->reconnect && e->was_up, "end %u: RECONNECTED", number_of(e));
    MUST(e->peer == node_of(&event->peer), "end %u: reconnected to another node", number_of(e));
    e->doubtful += event->size;
    e->up_healed = (uint8_t)world.healed;
    result->tally[T_doubtful] += event->size;
    tally(T_reconnected);
    say("end %u is up again, %u messages in doubt", number_of(e), (unsigned)event->size);
}

/* Streams that had not arrived whole ended before. */
static void check_streams_over(const end *e) {
    for (uint32_t i = 0; i < made.halves; i++) {
        const half *h = &halves[i];
        if (h->end == e && h->live)
            MUST(!h->in || h->in->finished, "end %u is over, and its stream %u is not",
                 number_of(e), (unsigned)i);
    }
}

static void check_farewell(const end *e, const p2p_event *event) {
    char reason[24];
    uint32_t by = event->code - CLOSE_CODE;
    int peer = node_of(&event->peer);
    if (event->err == P2P_ERR_CLOSED && event->code >= STOP_CODE && event->code < CLOSE_CODE)
        MUST((int)event->code == STOP_CODE + peer, "end %u: stopped by node %u", number_of(e),
             (unsigned)event->code - STOP_CODE);
    if (event->err != P2P_ERR_CLOSED || event->code < CLOSE_CODE)
        return;
    snprintf(reason, sizeof reason, "end %u", (unsigned)by);
    MUST(by < made.ends && ends[by].node == peer, "end %u: closed by end %u, of another node",
         number_of(e), (unsigned)by);
    MUST(p2p_str_equal(event->reason, reason), "end %u: other words than end %u's", number_of(e),
         (unsigned)by);
}

/* It was open once, whatever the program was told. */
static int was_open(const actor *a, const end *e) {
    const p2p__conn *conn = p2p__conn_get(a->node, e->conn);
    return conn && conn->opened_us != 0;
}

static void disconnected(actor *a, end *e, const p2p_event *event) {
    say("node %d: end %u is over: %s, code %u", e->node, number_of(e), words(event->err),
        (unsigned)event->code);
    MUST(event->err != P2P_OK || e->closing || a->stopping, "end %u: closed, and nobody did",
         number_of(e));
    MUST(e->was_up || e->closing || a->stopping || !was_open(a, e),
         "end %u: DISCONNECTED without CONNECTED", number_of(e));
    MUST(!e->reconnect || !e->was_up || e->closing || a->stopping || event->err != P2P_ERR_TIMEOUT,
         "end %u outlives breaks, and did not", number_of(e));
    if (e->was_up)
        messages_take(a, e);
    if (e->was_up)
        datagrams_take(a, e);
    check_streams_over(e);
    check_farewell(e, event);
    MUST(!e->ref, "end %u is over before SENT", number_of(e));
    tally(event->err == P2P_ERR_REFUSED ? T_refused : e->was_up ? T_broken : T_dial_failed);
    free(e->lent);
    e->lent = NULL;
    e->state = OVER;
}

static void conn_event(actor *a, const p2p_event *event) {
    end *e = end_find(a, event->conn);
    MUST(e != NULL, "node %d: event %u (%s) of a connection that is over or was never told",
         (int)(a - world.actors), (unsigned)event->type, words(event->err));
    end_meets(e, event);
    MUST(e->was_up || !p2p_is_connected(a->node, e->conn) ||
             event->type == P2P_EVENT_DISCONNECTED || event->type == P2P_EVENT_WRITABLE ||
             event->type == P2P_EVENT_SENT || event->stream.id,
         "end %u: event %u before CONNECTED", number_of(e), (unsigned)event->type);
    switch (event->type) {
    case P2P_EVENT_RECONNECTED: reconnected(e, event); break;
    case P2P_EVENT_DISCONNECTED: disconnected(a, e, event); break;
    case P2P_EVENT_MESSAGE: message_event(a, e, event); break;
    case P2P_EVENT_SENT: message_sent(e, event); break;
    case P2P_EVENT_DATAGRAM: datagrams_take(a, e); break;
    case P2P_EVENT_WRITABLE: e->want_writable = 0; break;
    default: break;
    }
}

#endif
