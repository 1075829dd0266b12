/* ask.h: requests, and the routes that answer them.
 *
 * Always: a request has a number, in its path, its query and a header; its body is the window of
 * the pattern of that number, and so is the body of the answer, which says the number in a header.
 * It is served at most once, and answered once: by RESPONSE, with a status or an error, and then
 * CLOSED. */
#ifndef SWARM_ASK_H
#define SWARM_ASK_H

enum { ASKS = 6000, BODIES = 0x40000000 }; /* numbers of bodies are others than those of flows */
enum ask_kind { WHOLE, STREAMED, LATER, SILENT, EVENT, NOWHERE, WRONG_METHOD, ASK_KINDS };
static const char *const ask_path[ASK_KINDS] = {"/whole/%u",  "/streamed/%u", "/later/%u",
                                                "/silent/%u", "/event/%u",    "/nowhere/%u",
                                                "/whole/%u"};

typedef struct ask { /* at the client */
    end *end;
    p2p_stream stream;
    uint32_t kind, body, body_sent, answer, got, served;
    int status; /* 0: no RESPONSE yet, < 0: its error */
    uint8_t live, over, cancelled, finished;
} ask;

typedef struct serving { /* at the server: an answer that takes time */
    ask *ask;
    actor *actor;
    uint32_t life, got, sent;
    p2p_stream stream;
    uint8_t live, read, begun, finished;
} serving;

static ask asks[ASKS];
static serving servings[ASKS];

static uint32_t ask_number(const ask *q) { return (uint32_t)(q - asks); }
static uint32_t serving_number(const serving *v) { return (uint32_t)(v - servings); }
static const uint8_t *ask_bytes(const ask *q, uint32_t at) {
    return pattern(BODIES + 2 * ask_number(q), at);
}
static const uint8_t *answer_bytes(const ask *q, uint32_t at) {
    return pattern(BODIES + 2 * ask_number(q) + 1, at);
}

/* ---- the server ---- */

static actor *actor_at(const p2p_node *node) {
    actor *a = world.actors;
    while (a->node != node)
        a++;
    return a;
}

/* Which request this is, by all its signs, and that it is served once. */
static ask *ask_found(const actor *a, const p2p_request *request, int whole) {
    p2p_str param = p2p_param(request, "n"), query = p2p_query(request, "n");
    uint64_t number = 0;
    ask *q;
    MUST(p2p_str_u64(param, &number) == 0 && number < made.asks, "node %d: a request of no number",
         (int)(a - world.actors));
    q = &asks[number];
    MUST(query.size == param.size && memcmp(query.data, param.data, param.size) == 0,
         "request %u: another query", (unsigned)number);
    param = p2p_request_header(request, "x-number");
    MUST(query.size == param.size && memcmp(query.data, param.data, param.size) == 0,
         "request %u: another header", (unsigned)number);
    MUST(node_of(&request->peer) == q->end->node, "request %u: of another node", (unsigned)number);
    MUST(!whole || (request->body.size == q->body &&
                    (!q->body || memcmp(request->body.data, ask_bytes(q, 0), q->body) == 0)),
         "request %u: another body", (unsigned)number);
    MUST(!q->served || redialled(q->end), "request %u is served twice", (unsigned)number);
    q->served++;
    q->end->early |= !q->end->was_up;
    tally(T_requests);
    return q;
}

static p2p_header number_header(const ask *q, char text[21]) {
    static const char name[] = "x-number";
    p2p_header h;
    h.name.data = name;
    h.name.size = sizeof name - 1;
    h.value = p2p_u64_str(ask_number(q), text);
    return h;
}

static void answer_whole(actor *a, ask *q, p2p_stream stream) {
    char text[21];
    p2p_header h = number_header(q, text);
    int err =
        EXPECT(a, p2p_reply(a->node, stream, 200, &h, 1, answer_bytes(q, 0), q->answer),
               P2P_ERR_TOO_LARGE, P2P_ERR_RESET, P2P_ERR_CLOSED, P2P_ERR_STATE, P2P_ERR_HANDLE);
    if (err == P2P_ERR_TOO_LARGE)
        EXPECT(a, p2p_reply(a->node, stream, 500, NULL, 0, NULL, 0), 0);
}

static serving *serving_make(actor *a, ask *q, p2p_stream stream) {
    serving *v = &servings[made.servings];
    MUST(made.servings < ASKS, "the test is too small for its requests");
    made.servings++;
    memset(v, 0, sizeof *v);
    v->ask = q;
    v->actor = a;
    v->life = a->life;
    v->stream = stream;
    v->live = 1;
    EXPECT(a, p2p_stream_set_user(a->node, stream, v), 0);
    return v;
}

static void serving_write(serving *v) {
    p2p_node *node = v->actor->node;
    while (v->live && v->begun && !v->finished) {
        uint32_t left = v->ask->answer - v->sent;
        int n = left ? EXPECT(v->actor,
                              p2p_stream_write(node, v->stream, answer_bytes(v->ask, v->sent),
                                               left < 3000 ? left : 3000),
                              P2P_ERR_AGAIN, P2P_ERR_RESET, P2P_ERR_CLOSED)
                     : EXPECT(v->actor, p2p_stream_finish(node, v->stream), P2P_ERR_RESET,
                              P2P_ERR_CLOSED);
        if (n == P2P_ERR_AGAIN)
            return;
        v->finished = n < 0 || left == 0;
        v->sent += n > 0 ? (uint32_t)n : 0;
    }
}

static void serving_begin(serving *v) {
    char text[21];
    p2p_header h = number_header(v->ask, text);
    v->begun = EXPECT(v->actor, p2p_reply_begin(v->actor->node, v->stream, 200, &h, 1),
                      P2P_ERR_RESET, P2P_ERR_CLOSED, P2P_ERR_STATE, P2P_ERR_TOO_LARGE) == 0;
    v->finished = !v->begun;
    serving_write(v);
}

/* The body of a streamed request: an exact prefix, and its end. */
static void serving_read(serving *v) {
    static uint8_t bytes[4000];
    int n = 1;
    while (v->live && !v->read && n > 0) {
        n = EXPECT(v->actor, p2p_stream_read(v->actor->node, v->stream, bytes, sizeof bytes),
                   P2P_ERR_AGAIN, P2P_ERR_RESET, P2P_ERR_CLOSED);
        if (n <= 0)
            break;
        MUST(v->got + (uint32_t)n <= v->ask->body_sent &&
                 memcmp(bytes, ask_bytes(v->ask, v->got), (size_t)n) == 0,
             "request %u: the body is another from %u on", (unsigned)ask_number(v->ask),
             (unsigned)v->got);
        v->got += (uint32_t)n;
    }
    if (n != 0 || v->read)
        return;
    MUST(v->got == v->ask->body, "request %u: the body ends early", (unsigned)ask_number(v->ask));
    v->read = 1;
    serving_begin(v);
}

static void serving_event(serving *v, const p2p_event *event) {
    MUST(v->live && v->stream.id == event->stream.id, "answer %u: event %u after its end",
         (unsigned)serving_number(v), (unsigned)event->type);
    if (event->type == P2P_EVENT_CLOSED)
        v->live = 0;
    if (event->type == P2P_EVENT_READABLE && v->ask->kind == STREAMED)
        serving_read(v);
    if (event->type == P2P_EVENT_WRITABLE)
        serving_write(v);
}

static void serve_whole(p2p_node *node, const p2p_request *request, void *ctx) {
    actor *a = actor_at(node);
    (void)ctx;
    answer_whole(a, ask_found(a, request, 1), request->stream);
}

static void serve_later(p2p_node *node, const p2p_request *request, void *ctx) {
    actor *a = actor_at(node);
    ask *q = ask_found(a, request, 1);
    (void)ctx;
    EXPECT(a, p2p_reply_later(node, request->stream), P2P_ERR_RESET, P2P_ERR_CLOSED);
    (void)serving_make(a, q, request->stream);
}

static void serve_streamed(p2p_node *node, const p2p_request *request, void *ctx) {
    actor *a = actor_at(node);
    ask *q = ask_found(a, request, 0);
    (void)ctx;
    EXPECT(a, p2p_reply_later(node, request->stream), P2P_ERR_RESET, P2P_ERR_CLOSED);
    serving_read(serving_make(a, q, request->stream));
}

static void serve_silent(p2p_node *node, const p2p_request *request, void *ctx) {
    (void)ctx;
    (void)ask_found(actor_at(node), request, 1);
}

/* Without a handler nothing is told at its return: the stream has its CLOSED like any other. */
static void request_event(actor *a, const p2p_event *event) {
    ask *q = ask_found(a, event->request, 1);
    serving *v = serving_make(a, q, event->stream);
    if (ask_number(q) % 2 == 0)
        return;
    v->begun = v->finished = 1;
    answer_whole(a, q, event->stream);
}

/* Those that were put off are answered now. */
static void answer_later(actor *a, rng *r) {
    (void)r;
    for (uint32_t i = 0; i < made.servings; i++) {
        serving *v = &servings[i];
        if (v->actor == a && v->life == a->life && v->live && !v->begun && !v->finished &&
            v->ask->kind != STREAMED)
            serving_begin(v);
    }
}

static void work_route(actor *a) {
    static const p2p_route table[] = {{P2P_POST, 0, "/whole/:n", serve_whole, NULL},
                                      {P2P_GET, 0, "/silent/:n", serve_silent, NULL},
                                      {P2P_POST, 0, "/event/:n", NULL, NULL}};
    static const p2p_service service = {"", table, 3, NULL, NULL};
    static const p2p_route later = {P2P_POST, 0, "/later/:n", serve_later, NULL};
    static const p2p_route streamed = {P2P_PUT, P2P_ROUTE_STREAM, "/streamed/:n", serve_streamed,
                                       NULL};
    EXPECT(a, p2p_service_add(a->node, &service), 0);
    EXPECT(a, p2p_route_add(a->node, &later), 0);
    EXPECT(a, p2p_route_add(a->node, &streamed), 0);
}

/* ---- the client ---- */

static void ask_write(ask *q) {
    actor *a = actor_of(q->end);
    while (q->live && !q->finished && !q->cancelled && q->status == 0) {
        uint32_t left = q->body - q->body_sent;
        int n =
            left ? EXPECT(a,
                          p2p_stream_write(a->node, q->stream, ask_bytes(q, q->body_sent),
                                           left < 2500 ? left : 2500),
                          P2P_ERR_AGAIN, P2P_ERR_RESET, P2P_ERR_CLOSED)
                 : EXPECT(a, p2p_stream_finish(a->node, q->stream), P2P_ERR_RESET, P2P_ERR_CLOSED);
        if (n == P2P_ERR_AGAIN)
            return;
        q->finished = n < 0 || left == 0;
        q->body_sent += n > 0 ? (uint32_t)n : 0;
    }
}

static void ask_send(actor *a, rng *r) {
    static const uint32_t methods[ASK_KINDS] = {P2P_POST, P2P_PUT, P2P_POST,  P2P_GET,
                                                P2P_POST, P2P_GET, P2P_DELETE};
    end *e = end_draw(a, r);
    ask *q = &asks[made.asks];
    p2p_request_desc desc;
    p2p_header h;
    char path[32], query[32], text[21];
    int err;
    if (!e || made.asks == ASKS)
        return;
    memset(q, 0, sizeof *q);
    q->end = e;
    q->kind = below(r, ASK_KINDS);
    q->body = q->kind == STREAMED ? spread(r, 1, 60000) : below(r, percent(r, 90) ? 600 : 6000);
    q->answer = q->kind == STREAMED ? spread(r, 1, 60000) : below(r, percent(r, 90) ? 900 : 9000);
    h = number_header(q, text);
    snprintf(path, sizeof path, ask_path[q->kind], (unsigned)made.asks);
    snprintf(query, sizeof query, "n=%u", (unsigned)made.asks);
    memset(&desc, 0, sizeof desc);
    desc.method = methods[q->kind];
    desc.path = path;
    desc.query = query;
    desc.headers = &h;
    desc.header_count = 1;
    desc.priority = (uint8_t)below(r, 8);
    desc.more = q->kind == STREAMED;
    desc.user = q;
    if (!desc.more) {
        desc.body = ask_bytes(q, 0);
        desc.body_size = q->body_sent = q->body;
        q->finished = 1;
    }
    err = EXPECT(a, p2p_request_send(a->node, e->conn, &desc, &q->stream), P2P_ERR_LIMIT,
                 P2P_ERR_TOO_LARGE, P2P_ERR_CLOSED);
    if (err < 0)
        return;
    q->live = 1;
    say("node %d: end %u sends request %u, %s", e->node, number_of(e), (unsigned)made.asks, path);
    made.asks++;
    ask_write(q);
}

/* The statuses that this kind may be answered with. The router's own: 413 when the tables are
 * small, 503 when they are full, 504 when the program took too long. */
static int status_fits(const ask *q) {
    int s = q->status;
    if (s == 413 || s == 503)
        return with(F_tables);
    switch (q->kind) {
    case NOWHERE: return s == 404 && !q->served;
    case WRONG_METHOD: return s == 405 && !q->served;
    case SILENT: return s == 500 && q->served;
    case STREAMED: return (s == 200 && q->served) || s == 504;
    default: return (s == 200 && q->served) || (s == 500 && q->served) || s == 504;
    }
}

static void ask_answered(actor *a, ask *q, const p2p_event *event) {
    p2p_response_head head;
    uint64_t number;
    MUST(q->status == 0, "request %u: RESPONSE twice", (unsigned)ask_number(q));
    q->status = event->err < 0 ? event->err : event->status;
    say("node %d: request %u is answered: %d", q->end->node, (unsigned)ask_number(q), q->status);
    tally(q->status == 200 ? T_answered : T_refusals);
    if (q->status < 0)
        return;
    MUST(status_fits(q), "request %u of kind %u, served %u times, is answered with %d",
         (unsigned)ask_number(q), (unsigned)q->kind, (unsigned)q->served, q->status);
    EXPECT(a, p2p_response(a->node, q->stream, &head), 0);
    MUST(head.status == q->status, "request %u: two statuses", (unsigned)ask_number(q));
    if (q->status == 200)
        MUST(p2p_str_u64(p2p_response_header(&head, "x-number"), &number) == 0 &&
                 number == ask_number(q),
             "request %u has another's answer", (unsigned)ask_number(q));
}

/* The body of an answer; the router's own are words for people. */
static void ask_read(actor *a, ask *q) {
    static uint8_t bytes[5000];
    int n = 1;
    while (q->live && !q->over && !q->cancelled && q->status > 0 && n > 0) {
        n = EXPECT(a, p2p_stream_read(a->node, q->stream, bytes, sizeof bytes), P2P_ERR_AGAIN,
                   P2P_ERR_RESET, P2P_ERR_CLOSED);
        if (n <= 0)
            break;
        MUST(q->status != 200 || (q->got + (uint32_t)n <= q->answer &&
                                  memcmp(bytes, answer_bytes(q, q->got), (size_t)n) == 0),
             "request %u: the answer is another from %u on", (unsigned)ask_number(q),
             (unsigned)q->got);
        q->got += (uint32_t)n;
    }
    if (n != 0)
        return;
    MUST(q->status != 200 || q->got == q->answer, "request %u: the answer ends at %u of %u",
         (unsigned)ask_number(q), (unsigned)q->got, (unsigned)q->answer);
    q->over = 1;
}

static void ask_closed(ask *q, const p2p_event *event) {
    q->live = 0;
    MUST(q->status != 0 || q->cancelled, "request %u: CLOSED before RESPONSE",
         (unsigned)ask_number(q));
    MUST(event->err < 0 || q->cancelled || q->status < 0 || q->over,
         "request %u closed well before its end", (unsigned)ask_number(q));
}

static void ask_event(actor *a, ask *q, const p2p_event *event) {
    MUST(q->live && q->stream.id == event->stream.id && actor_of(q->end) == a,
         "request %u: event %u after its end", (unsigned)ask_number(q), (unsigned)event->type);
    switch (event->type) {
    case P2P_EVENT_RESPONSE:
        ask_answered(a, q, event);
        ask_read(a, q);
        break;
    case P2P_EVENT_READABLE: ask_read(a, q); break;
    case P2P_EVENT_WRITABLE: ask_write(q); break;
    case P2P_EVENT_CLOSED: ask_closed(q, event); break;
    default: swarm_fail("request %u: event %u", (unsigned)ask_number(q), (unsigned)event->type);
    }
}

static void ask_cancel(actor *a, rng *r) {
    for (uint32_t i = 0; i < made.asks; i++) {
        ask *q = &asks[i];
        if (!q->live || q->cancelled || actor_of(q->end) != a || !percent(r, 30))
            continue;
        q->cancelled = 1;
        EXPECT(a, p2p_stream_reset(a->node, q->stream, RESET_CODE - 1), 0);
        return;
    }
}

/* ---- all of it ---- */

/* Whether an event is of a request, and is dealt with. */
static int asks_event(actor *a, const p2p_event *event) {
    ask *q = (ask *)event->user;
    serving *v = (serving *)event->user;
    if (event->type == P2P_EVENT_REQUEST)
        request_event(a, event);
    else if (q >= asks && q < asks + made.asks)
        ask_event(a, q, event);
    else if (v >= servings && v < servings + made.servings)
        serving_event(v, event);
    else
        return 0;
    return 1;
}

static void asks_gone(const actor *a) {
    for (uint32_t i = 0; i < made.asks; i++)
        if (actor_of(asks[i].end) == a)
            asks[i].live = 0;
    for (uint32_t i = 0; i < made.servings; i++)
        if (servings[i].actor == a)
            servings[i].live = 0;
}

static int asks_pending(char *text, size_t size) {
    for (uint32_t i = 0; i < made.asks; i++)
        if (asks[i].live && !crowded(asks[i].end)) {
            snprintf(text, size, "request %u of kind %u has no end, status %d", (unsigned)i,
                     (unsigned)asks[i].kind, asks[i].status);
            return 1;
        }
    for (uint32_t i = 0; i < made.servings; i++)
        if (servings[i].live) {
            snprintf(text, size, "answer %u has no end: %u of %u written", (unsigned)i,
                     (unsigned)servings[i].sent, (unsigned)servings[i].ask->answer);
            return 1;
        }
    return 0;
}
#endif
