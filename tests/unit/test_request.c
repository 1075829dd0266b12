/* Room >>router from end to end: two nodes in the simulator, requests between them, and streams of
 * kind 2 whose bytes are made by hand. */
#define P2P_SIM_IMPLEMENTATION
#include "unit.h"
#include "p2p_sim.h"

enum { BODY_ROOM = 1 << 20, MEMORY = 16 << 20 };
#define MS     UINT64_C(1000)
#define SECOND UINT64_C(1000000)

/* What the client was told of one request, and what it does with it. */
typedef struct call {
    p2p_stream stream;
    int responses, closed, status, err, closed_err;
    char allow[40], type[40];
    uint8_t *body;
    size_t size;
    bool ended, lazy;     /* lazy: takes no body bytes */
    size_t to_send, sent; /* with .more */
    bool finished;
    int write_err;
} call;

static struct {
    uint64_t *memory;
    p2p_sim *sim;
    p2p_node *client, *server;
    p2p_conn conn;
    int server_writable, handled, server_closed, server_closed_err, disconnected, requests;
    p2p_stream held; /* a request that waits for its reply */
    char seen_path[64], seen_body[64];
    size_t uploaded, to_download, downloaded;
    bool upload_paused, upload_wrong;
    int reply_result, again_result;
} world;

static uint8_t pattern_at(size_t at) { return (uint8_t)(at * 7 + (at >> 8) * 13); }

/* ---- the client's side */
static void call_read(call *c) {
    uint8_t buffer[1000];
    int n;
    while (!c->lazy && (n = p2p_stream_read(world.client, c->stream, buffer, sizeof buffer)) >= 0) {
        if (n == 0) {
            c->ended = true;
            return;
        }
        if (c->size + (size_t)n <= BODY_ROOM)
            memcpy(c->body + c->size, buffer, (size_t)n);
        c->size += (size_t)n;
    }
}
static void call_write(call *c) {
    uint8_t buffer[777];
    while (c->sent < c->to_send) {
        size_t want = c->to_send - c->sent < sizeof buffer ? c->to_send - c->sent : sizeof buffer;
        int n;
        for (size_t i = 0; i < want; i++)
            buffer[i] = pattern_at(c->sent + i);
        n = p2p_stream_write(world.client, c->stream, buffer, want);
        if (n == P2P_ERR_AGAIN)
            return;
        if (n < 0) {
            c->write_err = n;
            c->to_send = c->sent;
            return;
        }
        c->sent += (size_t)n;
    }
    if (!c->finished && c->write_err == 0 && p2p_stream_finish(world.client, c->stream) == 0)
        c->finished = true;
}
static void copy_text(char *out, size_t room, p2p_str s) {
    size_t n = s.size < room - 1 ? s.size : room - 1;
    if (n > 0)
        memcpy(out, s.data, n);
    out[n] = 0;
}
static void client_event(const p2p_event *e) {
    call *c = (call *)e->user;
    p2p_response_head head;
    if (e->type == P2P_EVENT_DISCONNECTED)
        world.disconnected++;
    if (e->stream.id == 0 || c == NULL)
        return;
    if (e->type == P2P_EVENT_RESPONSE) {
        c->responses++;
        c->err = e->err;
        c->status = e->status;
        if (e->err == 0 && p2p_response(world.client, e->stream, &head) == 0) {
            copy_text(c->allow, sizeof c->allow, p2p_response_header(&head, "allow"));
            copy_text(c->type, sizeof c->type, p2p_response_header(&head, "content-type"));
        }
    }
    if (e->type == P2P_EVENT_READABLE)
        call_read(c);
    if (e->type == P2P_EVENT_WRITABLE && c->to_send > 0)
        call_write(c);
    if (e->type == P2P_EVENT_CLOSED) {
        c->closed++;
        c->closed_err = e->err;
    }
}

/* ---- the server's side */
static void server_write(void) {
    uint8_t buffer[500];
    while (world.downloaded < world.to_download) {
        size_t left = world.to_download - world.downloaded;
        size_t want = left < sizeof buffer ? left : sizeof buffer;
        int n;
        for (size_t i = 0; i < want; i++)
            buffer[i] = pattern_at(world.downloaded + i);
        n = p2p_stream_write(world.server, world.held, buffer, want);
        if (n < 0)
            return;
        world.downloaded += (size_t)n;
    }
    (void)p2p_stream_finish(world.server, world.held);
}
static void server_read(void) {
    p2p_span span;
    char digits[21];
    p2p_str text;
    int n;
    while (!world.upload_paused && (n = p2p_stream_peek(world.server, world.held, &span)) >= 0) {
        if (n == 0) {
            text = p2p_u64_str(world.uploaded, digits);
            world.reply_result =
                p2p_reply(world.server, world.held, 201, NULL, 0, text.data, text.size);
            world.upload_paused = true;
            return;
        }
        for (size_t i = 0; i < span.size; i++)
            world.upload_wrong |= span.data[i] != pattern_at(world.uploaded + i);
        world.uploaded += span.size;
        (void)p2p_stream_skip(world.server, world.held, span.size);
    }
}
static void server_event(const p2p_event *e) {
    if (e->type == P2P_EVENT_REQUEST) {
        world.requests++;
        world.held = e->stream;
        copy_text(world.seen_path, sizeof world.seen_path, e->request->path);
    }
    world.server_writable += e->type == P2P_EVENT_WRITABLE;
    if (e->type == P2P_EVENT_WRITABLE && e->stream.id == world.held.id)
        server_write();
    if (e->type == P2P_EVENT_READABLE && e->stream.id == world.held.id)
        server_read();
    if (e->type == P2P_EVENT_CLOSED) {
        world.server_closed++;
        world.server_closed_err = e->err;
    }
}
static void on_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    (void)ctx;
    (void)sim;
    if (node == world.client)
        client_event(e);
    else
        server_event(e);
}

/* ---- handlers */
static void h_echo(p2p_node *node, const p2p_request *q, void *ctx) {
    static const p2p_header h[] = {{P2P_STR("content-type"), P2P_STR("text/plain")},
                                   {P2P_STR("x-mine"), P2P_STR("")}};
    (void)ctx;
    world.handled++;
    world.reply_result = p2p_reply(node, q->stream, 200, h, 2, q->body.data, q->body.size);
    world.again_result = p2p_reply(node, q->stream, 200, h, 2, NULL, 0);
    copy_text(world.seen_path, sizeof world.seen_path, p2p_param(q, "id"));
    if (q->body.size < sizeof world.seen_body && q->body.size > 0)
        memcpy(world.seen_body, q->body.data, q->body.size); /* still there after the reply */
}
static void h_mute(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)node;
    (void)q;
    (void)ctx;
    world.handled++;
}
static void h_later(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    world.handled++;
    world.held = q->stream;
    world.reply_result = p2p_reply_later(node, q->stream);
}
static void h_upload(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    world.handled++;
    world.held = q->stream;
    world.reply_result = p2p_reply_later(node, q->stream);
    server_read();
}
static void h_download(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    world.handled++;
    world.held = q->stream;
    world.reply_result = p2p_reply_begin(node, q->stream, 206, NULL, 0);
    server_write();
}
static void h_refuse(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    world.handled++;
    world.reply_result = p2p_reply(node, q->stream, 403, NULL, 0, "no", 2);
}
static void h_huge(p2p_node *node, const p2p_request *q, void *ctx) {
    static const uint8_t huge[100000];
    (void)ctx;
    world.handled++;
    world.reply_result = p2p_reply(node, q->stream, 200, NULL, 0, huge, sizeof huge);
}
/* Writes bytes that are no answer's head past the router. */
static void h_junk(p2p_node *node, const p2p_request *q, void *ctx) {
    p2p__stream *s = p2p__stream_get(node, q->stream);
    (void)ctx;
    world.handled++;
    (void)p2p__send_put(node, s, "\x02\x05\x00", 3);
    p2p__exchange_go(node, s, P2P__EXCHANGE_REPLIED);
    p2p__send_finish(node, s);
}
static int guard(void *ctx, const p2p_request *q) {
    (void)ctx;
    return p2p_str_equal(p2p_request_header(q, "authorization"), "let me in") ? 0 : 401;
}
static const p2p_route routes[] = {
    {P2P_POST, 0, "/echo/:id", h_echo, NULL}, {P2P_PUT, 0, "/echo/:id", h_echo, NULL},
    {P2P_GET, 0, "/mute", h_mute, NULL},      {P2P_GET, 0, "/later", h_later, NULL},
    {P2P_PUT, 1, "/upload", h_upload, NULL},  {P2P_GET, 0, "/download", h_download, NULL},
    {P2P_PUT, 1, "/refuse", h_refuse, NULL},  {P2P_GET, 0, "/huge", h_huge, NULL},
    {P2P_GET, 0, "/junk", h_junk, NULL},      {P2P_GET, 0, "/event/:x", NULL, NULL},
};
static const p2p_route guarded[] = {{P2P_GET, 0, "/safe", h_mute, NULL},
                                    {P2P_GET, 0, "/event", NULL, NULL},
                                    {P2P_POST, 0, "/echo/:id", h_echo, NULL}};

/* ---- the world */
static void call_end(call *c) { free(c->body); }
static void world_end(void) {
    if (world.sim != NULL)
        p2p_sim_close(world.sim);
    free(world.memory);
    memset(&world, 0, sizeof world);
}
static bool world_begin(uint32_t loss_ppm) {
    static const p2p_service open_service = {"", routes, sizeof routes / sizeof *routes, NULL,
                                             NULL};
    static const p2p_service guarded_service = {"/guarded", guarded, 3, guard, NULL};
    p2p_sim_desc net;
    p2p_desc desc;
    p2p_listener l;
    p2p_id to;
    uint64_t until;
    memset(&world, 0, sizeof world);
    memset(&net, 0, sizeof net);
    memset(&desc, 0, sizeof desc);
    world.memory = (uint64_t *)calloc(MEMORY / 8, 8);
    net.seed = 1;
    net.link.latency_us = 10 * MS;
    net.link.loss_ppm = loss_ppm;
    net.on_event = on_event;
    desc.allow_anyone = 1;
    desc.time.request_us = 2 * SECOND;
    desc.bytes.head_max = 1024;
    desc.bytes.body_max = 2048;
    if (world.memory == NULL || p2p_sim_open(&world.sim, &net, world.memory, MEMORY) < 0 ||
        p2p_sim_node(world.sim, "server", &desc, &world.server) < 0)
        return false;
    desc.time.request_us = 5 * SECOND;
    if (p2p_sim_node(world.sim, "client", &desc, &world.client) < 0 ||
        p2p_sim_connect(world.sim, p2p_node_id(world.client), p2p_node_id(world.server), NULL) <
            0 ||
        p2p_listen(world.server, NULL, &l) < 0 ||
        p2p_service_add(world.server, &open_service) < 0 ||
        p2p_service_add(world.server, &guarded_service) < 0 ||
        p2p_sim_id(world.sim, "server", &to) < 0 ||
        p2p_connect(world.client, &to, NULL, &world.conn) < 0)
        return false;
    until = p2p_sim_now(world.sim) + 20 * SECOND;
    while (!p2p_is_connected(world.client, world.conn) && p2p_sim_now(world.sim) < until)
        (void)p2p_sim_step(world.sim);
    return p2p_is_connected(world.client, world.conn);
}
static void run(uint64_t us) { (void)p2p_sim_run_until(world.sim, p2p_sim_now(world.sim) + us); }
static bool sound(void) { return p2p_check(world.client) == 0 && p2p_check(world.server) == 0; }

static int ask_with(call *c, uint32_t method, const char *path, const p2p_header *headers,
                    size_t count, const void *body, size_t size, bool more) {
    p2p_request_desc d;
    memset(c, 0, sizeof *c);
    memset(&d, 0, sizeof d);
    c->body = (uint8_t *)calloc(1, BODY_ROOM);
    d.method = method;
    d.path = path;
    d.headers = headers;
    d.header_count = count;
    d.body = body;
    d.body_size = size;
    d.more = more;
    d.user = c;
    return p2p_request_send(world.client, world.conn, &d, &c->stream);
}
static int ask(call *c, uint32_t method, const char *path) {
    return ask_with(c, method, path, NULL, 0, NULL, 0, false);
}
/* A stream of kind 2 with these bytes, whatever they mean. */
static bool raw(call *c, const void *bytes, size_t size, bool finish) {
    p2p__conn *conn = (p2p__conn *)p2p__pool_get(&world.client->conns, world.conn.id);
    p2p__stream *s;
    memset(c, 0, sizeof *c);
    c->body = (uint8_t *)calloc(1, BODY_ROOM);
    if (p2p__stream_make(world.client, conn, P2P__KIND_REQUEST, 0, c, &s) < 0)
        return false;
    c->stream = p2p__stream_handle(world.client, s);
    (void)p2p__send_put(world.client, s, bytes, size);
    if (finish)
        p2p__send_finish(world.client, s);
    p2p__exchange_go(world.client, s, P2P__EXCHANGE_ASKED);
    return true;
}
/* Asks, waits, and says whether there was one answer of this status and a clean end. */
static bool answers(call *c, int status) {
    run(3 * SECOND);
    return c->responses == 1 && c->err == 0 && c->status == status && c->closed == 1 &&
           c->closed_err == 0 && sound();
}
static bool still_serves(void) {
    call c;
    bool good = ask_with(&c, P2P_POST, "/echo/7", NULL, 0, "ok", 2, false) == 0 &&
                answers(&c, 200) && c.size == 2;
    call_end(&c);
    return good && world.disconnected == 0;
}
#define BEGIN() CHECK(world_begin(0))

TEST(request_and_reply) {
    call c;
    BEGIN();
    CHECK_INT(ask_with(&c, P2P_POST, "/echo/\xc3\xa9 42", NULL, 0, "hello", 5, false), 0);
    CHECK_INT(p2p_response(world.client, c.stream, &(p2p_response_head){0, NULL, 0}),
              P2P_ERR_AGAIN);
    CHECK(answers(&c, 200));
    CHECK_STR(world.seen_path, "\xc3\xa9 42");
    CHECK_STR(world.seen_body, "hello");
    CHECK_STR(c.type, "text/plain");
    CHECK(c.size == 5 && memcmp(c.body, "hello", 5) == 0 && c.ended);
    CHECK_INT(world.reply_result, 0);
    CHECK_INT(world.again_result, P2P_ERR_STATE);
    CHECK_INT(world.server_closed, 0); /* the handler replied and set no user */
    CHECK_INT(p2p_reply(world.server, c.stream, 200, NULL, 0, NULL, 0), P2P_ERR_HANDLE);
    CHECK_INT(p2p_response(world.client, c.stream, &(p2p_response_head){0, NULL, 0}),
              P2P_ERR_HANDLE);
    call_end(&c);
    world_end();
}

TEST(answers_of_the_router_itself) {
    static const char head_over[1100];
    call c;
    BEGIN();
    CHECK(ask(&c, P2P_GET, "/nowhere") == 0 && answers(&c, 404));
    call_end(&c);
    CHECK(ask(&c, P2P_GET, "/echo/1") == 0 && answers(&c, 405));
    CHECK_STR(c.allow, "POST, PUT");
    call_end(&c);
    CHECK(ask(&c, P2P_GET, "/mute") == 0 && answers(&c, 500));
    CHECK_INT(world.handled, 1);
    call_end(&c);
    CHECK(ask_with(&c, P2P_POST, "/echo/1", NULL, 0, head_over, 0, false) == 0 && answers(&c, 200));
    call_end(&c);
    CHECK(ask(&c, P2P_GET, "/huge") == 0 && answers(&c, 500));
    CHECK_INT(world.reply_result, P2P_ERR_TOO_LARGE);
    call_end(&c);
    CHECK_INT(world.server_closed, 0);
    CHECK(still_serves());
    world_end();
}

TEST(too_large) {
    static char bytes[2049], long_query[1200];
    call c;
    p2p_request_desc d;
    BEGIN();
    CHECK(ask_with(&c, P2P_POST, "/echo/1", NULL, 0, bytes, 2048, false) == 0 && answers(&c, 200));
    CHECK_INT(c.size, 2048);
    call_end(&c);
    CHECK(ask_with(&c, P2P_POST, "/echo/1", NULL, 0, bytes, 2049, false) == 0 && answers(&c, 413));
    call_end(&c);
    memset(&c, 0, sizeof c);
    memset(&d, 0, sizeof d);
    memset(long_query, 'q', sizeof long_query - 1);
    d.path = "/mute";
    d.query = long_query;
    d.user = &c;
    c.body = (uint8_t *)calloc(1, BODY_ROOM);
    CHECK_INT(p2p_request_send(world.client, world.conn, &d, &c.stream), 0);
    CHECK(answers(&c, 413));
    call_end(&c);
    /* a body without end is answered at once, and its sender told to stop */
    CHECK_INT(ask_with(&c, P2P_POST, "/echo/1", NULL, 0, NULL, 0, true), 0);
    c.to_send = 300000;
    call_write(&c);
    run(3 * SECOND);
    CHECK(c.responses == 1 && c.status == 413 && c.closed == 1);
    CHECK(c.sent < 300000 && sound());
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

TEST(guards) {
    static const p2p_header key[] = {{P2P_STR("authorization"), P2P_STR("let me in")}};
    call c;
    BEGIN();
    CHECK(ask(&c, P2P_GET, "/guarded/safe") == 0 && answers(&c, 401));
    call_end(&c);
    CHECK(ask(&c, P2P_GET, "/guarded/event") == 0 && answers(&c, 401));
    call_end(&c);
    CHECK_INT(world.handled, 0);
    CHECK_INT(world.requests, 0);
    CHECK_INT(ask_with(&c, P2P_POST, "/guarded/echo/5", key, 1, "in", 2, false), 0);
    CHECK(answers(&c, 200));
    CHECK_STR(world.seen_path, "5");
    call_end(&c);
    world_end();
}

TEST(deferred_reply_and_its_deadline) {
    call c;
    uint64_t begun;
    BEGIN();
    CHECK_INT(ask(&c, P2P_GET, "/later"), 0);
    run(1 * SECOND);
    CHECK(c.responses == 0 && world.handled == 1 && world.reply_result == 0);
    CHECK_INT(p2p_reply(world.server, world.held, 99, NULL, 0, NULL, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_reply(world.server, world.held, 200, NULL, 0, NULL, 3), P2P_ERR_ARG);
    CHECK_INT(p2p_reply(world.server, world.held, 204, NULL, 0, NULL, 0), 0);
    CHECK_INT(p2p_reply(world.server, world.held, 204, NULL, 0, NULL, 0), P2P_ERR_STATE);
    CHECK(answers(&c, 204));
    CHECK_INT(world.server_closed, 1); /* a deferred one is told */
    call_end(&c);
    begun = p2p_sim_now(world.sim);
    CHECK_INT(ask(&c, P2P_GET, "/later"), 0);
    while (c.responses == 0 && p2p_sim_now(world.sim) < begun + 4 * SECOND)
        run(50 * MS);
    CHECK_INT(c.status, 504);
    CHECK(p2p_sim_now(world.sim) - begun >= 2 * SECOND &&
          p2p_sim_now(world.sim) - begun < 2200 * MS);
    CHECK(p2p_reply(world.server, world.held, 200, NULL, 0, NULL, 0) < 0);
    call_end(&c);
    world_end();
}

TEST(no_answer_in_time) {
    call c;
    BEGIN();
    world.server->desc.time.request_us = 60 * SECOND;
    CHECK_INT(ask(&c, P2P_GET, "/later"), 0);
    run(4900 * MS);
    CHECK_INT(c.responses, 0);
    run(300 * MS);
    CHECK(c.responses == 1 && c.err == P2P_ERR_TIMEOUT);
    run(1 * SECOND);
    CHECK(c.closed == 1 && world.server_closed == 1 && world.server_closed_err == P2P_ERR_RESET);
    CHECK(p2p_reply(world.server, world.held, 200, NULL, 0, NULL, 0) < 0);
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

/* A body on its way puts the deadline off, one that stands still does not. */
TEST(a_body_that_stands_still_is_late) {
    call c;
    BEGIN();
    CHECK_INT(ask_with(&c, P2P_PUT, "/upload", NULL, 0, NULL, 0, true), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_INT(p2p_stream_write(world.client, c.stream, "abc", 3), 3);
        run(1500 * MS);
        CHECK_INT(c.responses, 0);
    }
    run(3 * SECOND);
    CHECK(c.responses == 1 && c.status == 504);
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

TEST(request_as_an_event) {
    call c;
    BEGIN();
    CHECK_INT(ask(&c, P2P_GET, "/event/one"), 0);
    run(1 * SECOND);
    CHECK(world.requests == 1 && world.handled == 0 && c.responses == 0);
    CHECK_STR(world.seen_path, "/event/one");
    CHECK_INT(p2p_reply_later(world.server, world.held), 0);
    CHECK_INT(p2p_reply(world.server, world.held, 200, NULL, 0, "1", 1), 0);
    CHECK_INT(p2p_reply_later(world.server, world.held), P2P_ERR_STATE);
    CHECK(answers(&c, 200));
    CHECK_INT(c.size, 1);
    CHECK_INT(world.server_closed, 1);
    call_end(&c);
    CHECK_INT(ask(&c, P2P_GET, "/event/two"), 0); /* and one that is never answered */
    run(4 * SECOND);
    CHECK(c.responses == 1 && c.status == 504);
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

static void upload(uint32_t loss_ppm, size_t size, bool slow) {
    call c;
    char want[24];
    CHECK(world_begin(loss_ppm));
    world.upload_paused = slow;
    CHECK_INT(ask_with(&c, P2P_PUT, "/upload", NULL, 0, NULL, 0, true), 0);
    c.to_send = size;
    call_write(&c);
    run(1 * SECOND);
    CHECK(!slow || (c.sent <= 2 * 16384 + 1000 && world.uploaded == 0)); /* both rings are full */
    for (int i = 0; slow && world.uploaded < size && i < 100; i++) {
        world.upload_paused = false; /* takes what is here, and then nothing for a while */
        server_read();
        world.upload_paused = true;
        CHECK_INT(c.responses, 0); /* slow is not late, however long it takes */
        run(1500 * MS);
    }
    world.upload_paused = false;
    server_read();
    run(60 * SECOND);
    CHECK_INT(world.uploaded, size);
    CHECK(!world.upload_wrong && world.reply_result == 0);
    CHECK(c.responses == 1 && c.status == 201 && c.closed == 1 && c.closed_err == 0);
    snprintf(want, sizeof want, "%lu", (unsigned long)size);
    CHECK(c.size == strlen(want) && memcmp(c.body, want, c.size) == 0);
    CHECK(sound());
    call_end(&c);
    world_end();
}
TEST(streamed_upload) {
    upload(0, 300000, false);
    CHECK_SO_FAR();
    upload(20000, 100000, false);
    CHECK_SO_FAR();
    upload(0, 0, false);
    CHECK_SO_FAR();
    upload(0, 100000, true);
}

static void download(uint32_t loss_ppm, size_t size) {
    call c;
    CHECK(world_begin(loss_ppm));
    world.to_download = size;
    CHECK_INT(ask(&c, P2P_GET, "/download"), 0);
    c.lazy = true;
    run(3 * SECOND); /* the head is here, and no more than the rings of the body */
    CHECK(c.responses == 1 && c.status == 206 && c.size == 0);
    CHECK(world.downloaded <= 2 * 16384);
    run(20 * SECOND);
    c.lazy = false;
    call_read(&c);
    run(60 * SECOND);
    CHECK_INT(c.size, size);
    for (size_t i = 0; i < size; i++)
        CHECK(c.body[i] == pattern_at(i));
    CHECK(c.ended && c.closed == 1 && c.closed_err == 0 && sound());
    call_end(&c);
    world_end();
}
TEST(streamed_download) {
    download(0, 300000);
    CHECK_SO_FAR();
    download(20000, 100000);
    CHECK_SO_FAR();
    download(0, 1);
}

TEST(reply_before_the_end_of_the_body) {
    call c;
    BEGIN();
    CHECK_INT(ask_with(&c, P2P_PUT, "/refuse", NULL, 0, NULL, 0, true), 0);
    c.to_send = 500000;
    call_write(&c);
    run(5 * SECOND);
    CHECK(c.responses == 1 && c.status == 403 && c.size == 2);
    CHECK(c.sent < 500000 && c.closed == 1 && sound());
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

TEST(a_dribbled_head_costs_its_stream_only) {
    call c;
    BEGIN();
    CHECK(raw(&c, "\x06\x00\x02/", 4, false));
    run(1500 * MS);
    CHECK_INT(c.responses, 0);
    run(1 * SECOND);
    CHECK(c.responses == 1 && c.err == P2P_ERR_RESET);
    run(1 * SECOND);
    CHECK(c.closed == 1 && world.server_closed == 0 && world.disconnected == 0 && sound());
    CHECK_INT(world.server->metrics.value[P2P_METRIC_requests_timeout], 1);
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

TEST(malformed_heads_get_400) {
    static const struct {
        const char *bytes;
        size_t size;
        int status;
    } rows[] = {
        {"\x06\x00\x03/..\x00\x00", 8, 400},
        {"\x06\x07\x02/a\x00\x00", 7, 400},
        {"\x40\x06\x00\x02/a\x00\x00", 8, 400}, /* length not in shortest form */
        {"\x06\x00\x02/", 4, 400},              /* ends too early */
        {"", 0, 400},                           /* nothing at all */
        {"\x40", 1, 400},                       /* half a length */
        {"\xbf\xff\xff\xff", 4, 413},           /* a gigabyte */
        {"\x44\x00", 2, 413},                   /* one byte over head_max, prefix included */
        {"\x00", 1, 400},
    };
    BEGIN();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        call c;
        CHECK(raw(&c, rows[i].bytes, rows[i].size, true));
        CHECK(answers(&c, rows[i].status));
        call_end(&c);
    }
    CHECK_INT(world.server->metrics.value[P2P_METRIC_requests_bad], sizeof rows / sizeof *rows);
    CHECK_INT(world.handled, 0);
    CHECK(still_serves());
    world_end();
}

TEST(malformed_answers) {
    call c;
    BEGIN();
    CHECK_INT(ask(&c, P2P_GET, "/junk"), 0);
    run(2 * SECOND);
    CHECK(c.responses == 1 && c.err == P2P_ERR_PROTOCOL && c.closed == 1);
    CHECK_INT(world.client->metrics.value[P2P_METRIC_responses_bad], 1);
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

TEST(an_answers_head_stays_until_its_body_is_taken) {
    call c;
    p2p_response_head head;
    uint8_t byte;
    p2p_event e;
    BEGIN();
    CHECK_INT(ask_with(&c, P2P_POST, "/echo/1", NULL, 0, "abc", 3, false), 0);
    c.lazy = true;
    run(2 * SECOND);
    CHECK_INT(c.responses, 1);
    CHECK_INT(p2p_response(world.client, c.stream, &head), 0);
    CHECK(head.status == 200 && head.header_count == 2);
    CHECK(p2p_str_equal(p2p_response_header(&head, "x-mine"), ""));
    CHECK_INT(p2p_stream_read(world.client, c.stream, &byte, 1), 1);
    CHECK(p2p_str_equal(p2p_response_header(&head, "content-type"), "text/plain"));
    CHECK_INT(p2p_response(world.client, c.stream, &head), 0);
    while (p2p_next_event(world.client, &e) > 0)
        continue;
    CHECK_INT(p2p_response(world.client, c.stream, &head), P2P_ERR_STATE);
    c.lazy = false;
    call_read(&c);
    run(1 * SECOND);
    CHECK(c.size == 2 && sound());
    call_end(&c);
    world_end();
}

TEST(the_connection_ends_while_an_answer_is_due) {
    call c;
    BEGIN();
    CHECK_INT(ask(&c, P2P_GET, "/later"), 0);
    run(500 * MS);
    CHECK_INT(p2p_close(world.server, (p2p_conn){0}, 0, NULL), P2P_ERR_HANDLE);
    (void)p2p_sim_crash(world.sim, p2p_node_id(world.server));
    world.server = NULL;
    CHECK_INT(p2p_close(world.client, world.conn, 7, "enough"), 0);
    run(10 * SECOND);
    CHECK(c.responses == 1 && c.err < 0 && c.closed == 1 && c.closed_err < 0);
    call_end(&c);
    world_end();
}

TEST(the_caller_gives_up) {
    call c;
    BEGIN();
    CHECK_INT(ask(&c, P2P_GET, "/later"), 0);
    run(500 * MS);
    CHECK_INT(p2p_stream_reset(world.client, c.stream, 9), 0);
    run(10 * SECOND);
    CHECK(c.responses == 0 && c.closed == 1);
    CHECK(world.server_closed == 1 && sound());
    call_end(&c);
    CHECK(still_serves());
    world_end();
}

/* Given up while the answer is under way, by a handler that is done with it: no event says so. */
TEST(the_caller_gives_up_what_is_answered) {
    call c;
    BEGIN();
    CHECK_INT(ask_with(&c, P2P_POST, "/echo/7", NULL, 0, "ok", 2, false), 0);
    for (int i = 0; i < 1000 && !world.handled; i++)
        run(MS);
    CHECK_INT(world.handled, 1);
    CHECK_INT(p2p_stream_reset(world.client, c.stream, 9), 0);
    run(2 * SECOND);
    CHECK(c.closed == 1 && world.server_closed == 0 && sound());
    CHECK_INT(world.server_writable, 0);
    call_end(&c);
    world_end();
}

TEST(misuse_is_refused) {
    static char long_path[1100], big[20000];
    p2p_header many[P2P__HEADERS_MAX + 1], bad[1];
    p2p_stream_desc plain;
    p2p_stream s;
    call c;
    BEGIN();
    memset(long_path, '/', sizeof long_path - 1);
    CHECK_INT(ask(&c, P2P_GET, NULL), P2P_ERR_ARG);
    call_end(&c);
    CHECK_INT(ask(&c, P2P_GET, "x"), P2P_ERR_ARG);
    call_end(&c);
    CHECK_INT(ask(&c, P2P_GET, "/a/../b"), P2P_ERR_ARG);
    call_end(&c);
    CHECK_INT(ask(&c, P2P_GET, long_path), P2P_ERR_ARG);
    call_end(&c);
    CHECK_INT(ask(&c, 5, "/"), P2P_ERR_ARG);
    call_end(&c);
    CHECK_INT(ask_with(&c, P2P_PUT, "/", NULL, 0, big, sizeof big, false), P2P_ERR_TOO_LARGE);
    CHECK_INT(world.client->failed.max, 16384);
    call_end(&c);
    for (size_t i = 0; i <= P2P__HEADERS_MAX; i++) {
        many[i].name = p2p_str_of("a");
        many[i].value = p2p_str_of("");
    }
    CHECK_INT(ask_with(&c, P2P_PUT, "/", many, P2P__HEADERS_MAX + 1, NULL, 0, false),
              P2P_ERR_TOO_LARGE);
    call_end(&c);
    bad[0].name = p2p_str_of("Upper");
    bad[0].value = p2p_str_of("");
    CHECK_INT(ask_with(&c, P2P_PUT, "/", bad, 1, NULL, 0, false), P2P_ERR_ARG);
    call_end(&c);
    CHECK_INT(p2p_request_send(world.client, (p2p_conn){77777}, NULL, NULL), P2P_ERR_HANDLE);
    CHECK_INT(p2p_request_send(world.client, world.conn, NULL, NULL), P2P_ERR_ARG);
    memset(&plain, 0, sizeof plain);
    CHECK_INT(p2p_stream_open(world.client, world.conn, &plain, &s), 0);
    CHECK_INT(p2p_reply(world.client, s, 200, NULL, 0, NULL, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_response(world.client, s, &(p2p_response_head){0, NULL, 0}), P2P_ERR_ARG);
    CHECK_INT(ask(&c, P2P_GET, "/later"), 0);
    CHECK_INT(p2p_reply(world.client, c.stream, 200, NULL, 0, NULL, 0), P2P_ERR_ARG);
    CHECK(p2p_stream_write(world.client, c.stream, "x", 1) < 0); /* without .more nothing follows */
    run(500 * MS);
    CHECK(p2p_stream_write(world.server, world.held, "x", 1) <
          0); /* before the head of the answer */
    CHECK(p2p_stream_finish(world.server, world.held) < 0);
    CHECK_INT(p2p_reply(world.server, world.held, 200, NULL, 0, NULL, 0), 0);
    CHECK(p2p_stream_write(world.server, world.held, "x", 1) < 0);
    call_end(&c);
    world_end();
}

/* Heads with flipped bytes, cut short or followed by more, in pieces of any size: each stream ends
 * by an answer or a reset, and the connection lives. */
TEST(mutated_requests) {
    for (int i = 0; i < test_seeds(6); i++) {
        unit_rng rng = {test_seed()};
        CHECK(world_begin(0));
        for (int k = 0; k < 12; k++) {
            static const char good[] = "\x1e\x01\x0c/echo/1/x//a\x03q=1\x02\x05\x03"
                                       "a-b\x00\x01x\x01y"
                                       "body";
            uint8_t bytes[80];
            size_t size = sizeof good - 1, at = (size_t)unit_below(&rng, size + 1);
            p2p__stream *s;
            call c;
            memcpy(bytes, good, size);
            for (uint64_t n = unit_below(&rng, 4); n > 0; n--)
                bytes[unit_below(&rng, size)] = (uint8_t)unit_u64(&rng);
            size -= (size_t)(unit_below(&rng, 3) == 0 ? unit_below(&rng, size) : 0);
            at = at < size ? at : size;
            CHECK(raw(&c, bytes, at, false));
            run(unit_below(&rng, 30 * MS));
            s = p2p__stream_get(world.client, c.stream);
            if (s != NULL && s->send.state == P2P__SEND_OPEN) {
                (void)p2p__send_put(world.client, s, bytes + at, size - at);
                if (unit_below(&rng, 4) != 0)
                    p2p__send_finish(world.client, s);
            }
            run(4 * SECOND);
            CHECK(c.responses == 1 && (c.err == P2P_ERR_RESET || c.status >= 200));
            (void)p2p_stream_reset(world.client, c.stream, 0);
            run(1 * SECOND);
            CHECK(c.closed == 1 && world.server->peer_streams.used == 0);
            call_end(&c);
        }
        CHECK(still_serves());
        world_end();
    }
}

/* The handler's p2p_stream_set_user is a promise of CLOSED. */
static void h_user(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)p2p_stream_set_user(node, q->stream, ctx);
    world.reply_result = p2p_reply(node, q->stream, 200, NULL, 0, NULL, 0);
}
TEST(closed_is_told_to_who_set_a_user) {
    static const p2p_route r = {P2P_GET, 0, "/user", h_user, &world};
    call c;
    BEGIN();
    CHECK_INT(p2p_route_add(world.server, &r), 0);
    CHECK(ask(&c, P2P_GET, "/user") == 0 && answers(&c, 200));
    CHECK(world.reply_result == 0 && world.server_closed == 1 && world.server_closed_err == 0);
    call_end(&c);
    world_end();
}

TEST(a_download_is_cancelled) {
    call c;
    BEGIN();
    world.to_download = 500000;
    CHECK_INT(ask(&c, P2P_GET, "/download"), 0);
    c.lazy = true;
    run(1 * SECOND);
    CHECK_INT(p2p_stream_reset(world.client, c.stream, 3), 0);
    run(2 * SECOND);
    CHECK(c.closed == 1 && world.downloaded < 500000);
    CHECK_INT(world.server->peer_streams.used, 0); /* nothing of it is left at the other side */
    CHECK(sound() && still_serves());
    call_end(&c);
    world_end();
}

/* A node that stops answers what still comes with 503, while it delivers what it owes. */
TEST(a_stopping_node_takes_nothing_new) {
    call first, second;
    BEGIN();
    world.to_download = 30000;
    CHECK_INT(ask(&first, P2P_GET, "/download"), 0);
    first.lazy = true;
    run(1 * SECOND);
    CHECK_INT(first.responses, 1);
    CHECK_INT(ask(&second, P2P_GET, "/mute"), 0); /* on its way when the other side stops */
    run(1 * MS);
    CHECK_INT(p2p_node_stop(world.server, 0), 0);
    run(200 * MS);
    CHECK(second.responses == 1 && (second.status == 503 || second.err < 0));
    CHECK_INT(world.handled, 1);
    run(5 * SECOND);
    CHECK_INT(world.disconnected, 1);
    call_end(&first);
    call_end(&second);
    world_end();
}

/* Many at once through a table of 16, with loss: each gets its own answer. */
TEST(many_requests_at_once) {
    static call calls[16];
    int answered = 0;
    for (int i = 0; i < test_seeds(5); i++) {
        uint64_t seed = test_seed();
        (void)seed;
        CHECK(world_begin((uint32_t)(seed % 100000)));
        for (int k = 0; k < 16; k++) {
            char path[20], body[20];
            snprintf(path, sizeof path, "/echo/%d", k);
            snprintf(body, sizeof body, "body %d", k);
            CHECK_INT(ask_with(&calls[k], P2P_PUT, path, NULL, 0, body, strlen(body), false), 0);
        }
        run(20 * SECOND);
        answered = 0;
        for (int k = 0; k < 16; k++) {
            char body[20];
            snprintf(body, sizeof body, "body %d", k);
            answered += calls[k].status == 200 && calls[k].closed == 1 &&
                        calls[k].size == strlen(body) &&
                        memcmp(calls[k].body, body, calls[k].size) == 0;
            call_end(&calls[k]);
        }
        CHECK_INT(answered, 16);
        CHECK(sound());
        world_end();
    }
}

TEST_MAIN(P2P_TEST_ENTRY(request_and_reply), P2P_TEST_ENTRY(answers_of_the_router_itself),
          P2P_TEST_ENTRY(too_large), P2P_TEST_ENTRY(guards),
          P2P_TEST_ENTRY(deferred_reply_and_its_deadline), P2P_TEST_ENTRY(no_answer_in_time),
          P2P_TEST_ENTRY(a_body_that_stands_still_is_late), P2P_TEST_ENTRY(request_as_an_event),
          P2P_TEST_ENTRY(streamed_upload), P2P_TEST_ENTRY(streamed_download),
          P2P_TEST_ENTRY(reply_before_the_end_of_the_body),
          P2P_TEST_ENTRY(a_dribbled_head_costs_its_stream_only),
          P2P_TEST_ENTRY(malformed_heads_get_400), P2P_TEST_ENTRY(malformed_answers),
          P2P_TEST_ENTRY(an_answers_head_stays_until_its_body_is_taken),
          P2P_TEST_ENTRY(the_connection_ends_while_an_answer_is_due),
          P2P_TEST_ENTRY(the_caller_gives_up), P2P_TEST_ENTRY(the_caller_gives_up_what_is_answered),
          P2P_TEST_ENTRY(misuse_is_refused), P2P_TEST_ENTRY(mutated_requests),
          P2P_TEST_ENTRY(closed_is_told_to_who_set_a_user), P2P_TEST_ENTRY(a_download_is_cancelled),
          P2P_TEST_ENTRY(a_stopping_node_takes_nothing_new), P2P_TEST_ENTRY(many_requests_at_once))
