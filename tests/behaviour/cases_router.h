/* Requests and the router: B serves, A asks. */

static char handled[256]; /* what the last handler saw, as text */

static void note(const char *what, p2p_str text) {
    size_t have = strlen(handled);
    snprintf(handled + have, sizeof handled - have, "%s=%.*s;", what, (int)text.size,
             text.data ? text.data : "");
}

static void answer(p2p_node *node, p2p_stream s, const char *text) {
    p2p_reply(node, s, 200, NULL, 0, text, strlen(text));
}

static void get_track(p2p_node *node, const p2p_request *q, void *ctx) {
    handled[0] = 0;
    note("id", p2p_param(q, "id"));
    note("none", p2p_param(q, "nothing"));
    note("from", p2p_query(q, "from"));
    note("accept", p2p_request_header(q, "accept"));
    note("path", q->path);
    answer(node, q->stream, (const char *)ctx);
}
static void get_rest(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    handled[0] = 0;
    note("path", p2p_param(q, "path"));
    answer(node, q->stream, "rest");
}
static void get_literal(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    answer(node, q->stream, "literal");
}
static void post_echo(p2p_node *node, const p2p_request *q, void *ctx) {
    p2p_header h[2];
    (void)ctx;
    h[0].name = p2p_str_of("content-type");
    h[0].value = p2p_str_of("text/plain");
    h[1].name = p2p_str_of("x-own");
    h[1].value = p2p_str_of("yes, own");
    p2p_reply(node, q->stream, 201, h, 2, q->body.data, q->body.size);
}
static void say_nothing(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)node;
    (void)q;
    (void)ctx;
}
static p2p_stream later;
static void say_later(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    later = q->stream;
    p2p_reply_later(node, q->stream);
}
static int reply_results[4];
static void reply_twice(p2p_node *node, const p2p_request *q, void *ctx) {
    static uint8_t big[20000];
    (void)ctx;
    reply_results[0] = p2p_reply(node, q->stream, 200, NULL, 0, big, sizeof big);
    reply_results[1] = p2p_reply(node, q->stream, 99, NULL, 0, NULL, 0);
    reply_results[2] = p2p_reply(node, q->stream, 204, NULL, 0, NULL, 0);
    reply_results[3] = p2p_reply(node, q->stream, 200, NULL, 0, NULL, 0);
}

/* A streamed answer of 200,000 bytes, written as there is room. */
static struct {
    p2p_stream s;
    uint64_t sent, total;
} pour;
static void pour_more(p2p_node *node) {
    p2p_room room;
    while (pour.s.id && pour.sent < pour.total &&
           p2p_stream_reserve(node, pour.s, (size_t)(pour.total - pour.sent), &room) >= 0) {
        pattern_fill(room.data, pour.sent, room.size);
        p2p_stream_commit(node, pour.s, room.size);
        pour.sent += room.size;
    }
    if (pour.s.id && pour.sent == pour.total) {
        p2p_stream_finish(node, pour.s);
        pour.s.id = 0;
    }
}
static void get_pour(p2p_node *node, const p2p_request *q, void *ctx) {
    char digits[21];
    p2p_header h;
    (void)ctx;
    pour.s = q->stream;
    pour.sent = 0;
    h.name = p2p_str_of("content-length");
    h.value = p2p_u64_str(pour.total, digits);
    p2p_stream_set_user(node, q->stream, &pour);
    p2p_reply_begin(node, q->stream, 200, &h, 1);
    pour_more(node);
}
static void serve_events(actor *self, const p2p_event *e) {
    if (e->type == P2P_EVENT_WRITABLE && pour.s.id && e->stream.id == pour.s.id)
        pour_more(self->node);
}

/* A streamed request body, counted as it comes. */
static struct {
    p2p_stream s;
    uint64_t got;
    int bad;
} drain;
static void drain_more(p2p_node *node) {
    uint8_t data[1000];
    char digits[21];
    int n;
    p2p_str text;
    while (drain.s.id && (n = p2p_stream_read(node, drain.s, data, sizeof data)) > 0) {
        drain.bad |= !pattern_is(data, drain.got, (size_t)n);
        drain.got += (uint64_t)n;
    }
    if (!drain.s.id || n == P2P_ERR_AGAIN)
        return;
    text = p2p_u64_str(drain.got, digits);
    p2p_reply(node, drain.s, 200, NULL, 0, text.data, text.size);
    drain.s.id = 0;
}
static void put_drain(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)ctx;
    drain.s = q->stream;
    drain.got = 0;
    p2p_reply_later(node, q->stream);
    drain_more(node);
}
static void drain_events(actor *self, const p2p_event *e) {
    serve_events(self, e);
    if (e->type == P2P_EVENT_READABLE && drain.s.id && e->stream.id == drain.s.id)
        drain_more(self->node);
    if (e->type == P2P_EVENT_REQUEST) {
        handled[0] = 0;
        note("path", e->request->path);
        answer(self->node, e->stream, "by event");
    }
}

static int guard_status;
static int guard(void *ctx, const p2p_request *q) {
    (void)ctx;
    return p2p_str_equal(p2p_request_header(q, "authorization"), "open sesame") ? 0 : guard_status;
}
static char track_text[] = "track";
static const p2p_route table[] = {
    {P2P_GET, 0, "/tracks/:id", get_track, track_text},
    {P2P_GET, 0, "/tracks/best", get_literal, NULL},
    {P2P_GET, 0, "/files/*path", get_rest, NULL},
    {P2P_POST, 0, "/echo", post_echo, NULL},
    {P2P_GET, 0, "/nothing", say_nothing, NULL},
    {P2P_GET, 0, "/later", say_later, NULL},
    {P2P_GET, 0, "/twice", reply_twice, NULL},
    {P2P_GET, 0, "/pour", get_pour, NULL},
    {P2P_PUT, P2P_ROUTE_STREAM, "/drain", put_drain, NULL},
    {P2P_GET, 0, "/event", NULL, NULL},
};
static const p2p_service service = {"", table, sizeof table / sizeof *table, NULL, NULL};
static const p2p_route guarded_table[] = {{P2P_GET, 0, "/tracks/:id", get_track, track_text}};
static const p2p_service guarded = {"/private", guarded_table, 1, guard, NULL};

static void serving(actor *self) {
    self->on_event = self == B ? drain_events : NULL;
    self->desc.time.request_us = SECOND;
}

static void serve_pair(world_tweak tweak) {
    memset(&pour, 0, sizeof pour);
    memset(&drain, 0, sizeof drain);
    later = stream_none();
    world_pair(tweak ? tweak : serving);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_service_add(B->node, &service));
    CHECK_DONE(p2p_service_add(B->node, &guarded));
}

static p2p_request_desc ask_for(uint32_t method, const char *path) {
    p2p_request_desc ask;
    memset(&ask, 0, sizeof ask);
    ask.method = method;
    ask.path = path;
    return ask;
}

typedef struct fetched {
    p2p_stream s;
    uint64_t size;
    int end, bad_pattern;
    char text[64]; /* the first bytes */
} fetched;

static int fetch_done(void *ctx) {
    fetched *f = (fetched *)ctx;
    uint8_t data[4096];
    int n;
    while ((n = p2p_stream_read(A->node, f->s, data, sizeof data)) > 0) {
        f->bad_pattern |= !pattern_is(data, f->size, (size_t)n);
        for (int i = 0; i < n && f->size + (uint64_t)i < sizeof f->text - 1; i++)
            f->text[f->size + (uint64_t)i] = (char)data[i];
        f->size += (uint64_t)n;
    }
    f->end = n;
    return n != P2P_ERR_AGAIN;
}

/* Sends and awaits status and the whole body; -1 in *status: no answer. */
static void fetch(const p2p_request_desc *ask, int *status, fetched *out) {
    const seen *e;
    *status = -1;
    memset(out, 0, sizeof *out);
    CHECK_DONE(p2p_request_send(A->node, AB, ask, &out->s));
    e = await_stream(A, P2P_EVENT_RESPONSE, out->s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.err, 0);
    *status = e->event.status;
    CHECK_INT(e->head_err, 0);
    CHECK_INT(e->head.status, *status);
    CHECK(drive(fetch_done, out, 60 * SECOND));
    /* An empty body has been read to its end with the head, so the stream may be gone. */
    CHECK(out->end == 0 || (out->end == P2P_ERR_HANDLE && out->size == 0));
}

static void expect_status(uint32_t method, const char *path, int want) {
    p2p_request_desc ask = ask_for(method, path);
    int status;
    fetched f;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, want);
}

static void expect_body(uint32_t method, const char *path, const char *want) {
    p2p_request_desc ask = ask_for(method, path);
    int status;
    fetched f;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, 200);
    CHECK_STR(f.text, want);
}

TEST(get_with_parameters) {
    p2p_request_desc ask = ask_for(P2P_GET, "/tracks/42");
    p2p_header h;
    int status;
    fetched f;
    serve_pair(NULL);
    CHECK_SO_FAR();
    h.name = p2p_str_of("accept");
    h.value = p2p_str_of("audio/wav");
    ask.query = "to=20&from=12";
    ask.headers = &h;
    ask.header_count = 1;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, 200);
    CHECK_STR(f.text, "track");
    CHECK_STR(handled, "id=42;none=;from=12;accept=audio/wav;path=/tracks/42;");
    CHECK(await_stream(A, P2P_EVENT_CLOSED, f.s, 3 * SECOND) != NULL);
    drive(NULL, NULL, 300 * MS);
    CHECK_INT(count_events(B, P2P_EVENT_CLOSED), 0);
}

TEST(literal_over_parameter_over_rest) {
    serve_pair(NULL);
    CHECK_SO_FAR();
    expect_body(P2P_GET, "/tracks/best", "literal");
    expect_body(P2P_GET, "/tracks/bester", "track");
    expect_body(P2P_GET, "/files/a/b/c.txt", "rest");
    CHECK_SO_FAR();
    CHECK_STR(handled, "path=a/b/c.txt;");
}

TEST(router_answers_by_itself) {
    serve_pair(NULL);
    CHECK_SO_FAR();
    expect_status(P2P_GET, "/no/such", 404);
    expect_status(P2P_GET, "/", 404);
    expect_status(P2P_GET, "/tracks", 404);
    expect_status(P2P_GET, "/tracks/1/2", 404);
    expect_status(P2P_GET, "/Tracks/1", 404);
    expect_status(P2P_GET, "/nothing", 500);
}

TEST(other_method_is_405_with_allow) {
    p2p_request_desc ask = ask_for(P2P_DELETE, "/tracks/1");
    p2p_stream s;
    const seen *e;
    serve_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.status, 405);
    CHECK_INT(e->head_err, 0);
    CHECK_STR(e->allow, "GET");
    CHECK_STR(e->own, "-");
}

/* Refused here already, or answered with 400; never given to a handler. */
TEST(bad_paths) {
    static const char *const bad[] = {"",           "tracks", "/tracks/../x", "/./tracks",
                                      "/tracks/..", "/a\nb",  "/a\rb",        "/\xff\xfe"};
    serve_pair(NULL);
    CHECK_SO_FAR();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p2p_request_desc ask = ask_for(P2P_GET, bad[i]);
        p2p_stream s;
        int err = p2p_request_send(A->node, AB, &ask, &s);
        const seen *e;
        if (err < 0)
            continue;
        e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
        CHECK(e != NULL);
        CHECK_INT(e->event.status, 400);
    }
    CHECK(p2p_is_connected(A->node, AB));
}

TEST(post_and_headers_back) {
    p2p_request_desc ask = ask_for(P2P_POST, "/echo");
    p2p_response_head head;
    p2p_stream s;
    const seen *e;
    char got[16];
    serve_pair(NULL);
    CHECK_SO_FAR();
    ask.body = "some body";
    ask.body_size = 9;
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    CHECK_INT(p2p_response(A->node, s, &head), P2P_ERR_AGAIN);
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.status, 201);
    CHECK_INT(e->head_err, 0);
    CHECK_INT(e->head.header_count, 2);
    CHECK_STR(e->content_type, "text/plain");
    CHECK_STR(e->own, "yes, own");
    drive(NULL, NULL, 100 * MS);
    CHECK_INT(p2p_stream_read(A->node, s, got, sizeof got), 9);
    CHECK_BYTES(got, "some body", 9);
}

TEST(body_over_the_limit_is_413) {
    static uint8_t body[9000];
    p2p_request_desc ask = ask_for(P2P_POST, "/echo");
    int status;
    fetched f;
    serve_pair(NULL);
    CHECK_SO_FAR();
    ask.body = body;
    ask.body_size = 4097;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, 413);
    ask.body_size = 4096;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, 201);
    CHECK_INT(f.size, 4096);
}

TEST(reply_later) {
    p2p_request_desc ask = ask_for(P2P_GET, "/later");
    p2p_stream s;
    const seen *e;
    serve_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    drive(NULL, NULL, 300 * MS);
    CHECK(later.id != 0);
    CHECK(find_event(A, P2P_EVENT_RESPONSE, AB, s) == NULL);
    CHECK_DONE(p2p_reply(B->node, later, 202, NULL, 0, "at last", 7));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.status, 202);
    expect_text(A, s, "at last");
    expect_read(A, s, 0);
}

static void patient_alice(actor *self) {
    serving(self);
    self->desc.time.request_us = self == A ? 10 * SECOND : 500 * MS;
}

TEST(deferred_reply_that_never_comes_is_504) {
    serve_pair(patient_alice);
    CHECK_SO_FAR();
    expect_status(P2P_GET, "/later", 504);
    CHECK_SO_FAR();
    CHECK(p2p_reply(B->node, later, 200, NULL, 0, NULL, 0) < 0);
}

static void patient_bob(actor *self) {
    serving(self);
    self->desc.time.request_us = self == B ? 10 * SECOND : 500 * MS;
}

TEST(request_gives_up) {
    p2p_request_desc ask = ask_for(P2P_GET, "/later");
    p2p_stream s;
    const seen *e;
    serve_pair(patient_bob);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.err, P2P_ERR_TIMEOUT);
    CHECK(p2p_is_connected(A->node, AB));
}

TEST(replies_that_are_refused) {
    serve_pair(NULL);
    CHECK_SO_FAR();
    expect_status(P2P_GET, "/twice", 204);
    CHECK_SO_FAR();
    CHECK_INT(reply_results[0], P2P_ERR_TOO_LARGE);
    CHECK_INT(reply_results[1], P2P_ERR_ARG);
    CHECK_INT(reply_results[2], P2P_OK);
    CHECK_INT(reply_results[3], P2P_ERR_STATE);
}

TEST(streamed_answer) {
    p2p_request_desc ask = ask_for(P2P_GET, "/pour");
    int status;
    fetched f;
    serve_pair(NULL);
    CHECK_SO_FAR();
    pour.total = 200000;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, 200);
    CHECK_INT(f.size, 200000);
    CHECK(!f.bad_pattern);
    CHECK(await(B, P2P_EVENT_CLOSED, 3 * SECOND) != NULL);
}

static struct {
    p2p_stream s;
    uint64_t sent, total;
    int failed;
} upload;
static int upload_done(void *ctx) {
    uint8_t data[2000];
    (void)ctx;
    while (upload.sent < upload.total) {
        size_t size =
            upload.total - upload.sent < 2000 ? (size_t)(upload.total - upload.sent) : 2000;
        int n;
        pattern_fill(data, upload.sent, size);
        n = p2p_stream_write(A->node, upload.s, data, size);
        if (n == P2P_ERR_AGAIN)
            return 0;
        upload.failed |= n < 0;
        if (n < 0)
            return 1;
        upload.sent += (uint64_t)n;
    }
    upload.failed |= p2p_stream_finish(A->node, upload.s) != 0;
    return 1;
}

TEST(streamed_body) {
    p2p_request_desc ask = ask_for(P2P_PUT, "/drain");
    const seen *e;
    serve_pair(NULL);
    CHECK_SO_FAR();
    memset(&upload, 0, sizeof upload);
    upload.total = 150000;
    ask.more = 1;
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &upload.s));
    CHECK(drive(upload_done, NULL, 20 * SECOND));
    CHECK(!upload.failed);
    e = await_stream(A, P2P_EVENT_RESPONSE, upload.s, 5 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.status, 200);
    expect_text(A, upload.s, "150000");
    CHECK(!drain.bad);
}

TEST(route_without_handler_is_an_event) {
    serve_pair(NULL);
    CHECK_SO_FAR();
    expect_body(P2P_GET, "/event", "by event");
    CHECK_SO_FAR();
    CHECK_STR(handled, "path=/event;");
}

TEST(guard_and_prefix) {
    p2p_request_desc ask = ask_for(P2P_GET, "/private/tracks/7");
    p2p_header h;
    int status;
    fetched f;
    serve_pair(NULL);
    CHECK_SO_FAR();
    guard_status = 403;
    expect_status(P2P_GET, "/private/tracks/7", 403);
    guard_status = 401;
    expect_status(P2P_GET, "/private/tracks/7", 401);
    expect_status(P2P_GET, "/private", 404);
    CHECK_SO_FAR();
    h.name = p2p_str_of("authorization");
    h.value = p2p_str_of("open sesame");
    ask.headers = &h;
    ask.header_count = 1;
    fetch(&ask, &status, &f);
    CHECK_SO_FAR();
    CHECK_INT(status, 200);
    CHECK_STR(handled, "id=7;none=;from=;accept=;path=/private/tracks/7;");
}

TEST(bad_routes_are_refused) {
    static const char *const bad[] = {"", "tracks", "/a//b", "/*rest/more", "/:", "/*", "/../x"};
    p2p_route route;
    memset(&route, 0, sizeof route);
    route.handler = say_nothing;
    world_open(1, NULL);
    CHECK_SO_FAR();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int err;
        route.pattern = bad[i];
        err = p2p_route_add(A->node, &route);
        if (err != P2P_ERR_CONFIG)
            printf("    pattern \"%s\"\n", bad[i]);
        CHECK_INT(err, P2P_ERR_CONFIG);
    }
    route.pattern = "/a/:b";
    CHECK_DONE(p2p_route_add(A->node, &route));
    CHECK_INT(p2p_route_add(A->node, &route), P2P_ERR_CONFIG);
    route.pattern = "/a/:other";
    CHECK_INT(p2p_route_add(A->node, &route), P2P_ERR_CONFIG);
    route.method = P2P_POST;
    CHECK_DONE(p2p_route_add(A->node, &route));
    route.method = 9;
    CHECK(p2p_route_add(A->node, &route) < 0);
}

static void few_routes(actor *self) {
    self->desc.max.routes = 2;
    self->desc.max.services = 1;
}

TEST(route_tables_have_an_end) {
    static const char *const paths[] = {"/1", "/2", "/3"};
    p2p_route route;
    memset(&route, 0, sizeof route);
    route.handler = say_nothing;
    world_open(1, few_routes);
    CHECK_SO_FAR();
    for (int i = 0; i < 3; i++) {
        route.pattern = paths[i];
        CHECK_INT(p2p_route_add(A->node, &route), i < 2 ? 0 : P2P_ERR_LIMIT);
    }
    CHECK_DONE(p2p_service_add(A->node, &service));
    CHECK_INT(p2p_service_add(A->node, &guarded), P2P_ERR_LIMIT);
}

TEST(request_before_connected) {
    p2p_request_desc ask = ask_for(P2P_GET, "/tracks/9");
    p2p_stream s;
    const seen *e;
    world_open(2, serving);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_service_add(B->node, &service));
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.err, 0);
    CHECK_INT(e->event.status, 200);
}

TEST(many_requests_at_once) {
    p2p_request_desc ask = ask_for(P2P_GET, "/tracks/1");
    p2p_stream s[16], extra;
    serve_pair(NULL);
    CHECK_SO_FAR();
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 16; i++)
            CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s[i]));
        CHECK_INT(p2p_request_send(A->node, AB, &ask, &extra), P2P_ERR_LIMIT);
        for (int i = 0; i < 16; i++) {
            const seen *e = await_stream(A, P2P_EVENT_RESPONSE, s[i], 3 * SECOND);
            CHECK(e != NULL);
            CHECK_INT(e->event.status, 200);
            expect_text(A, s[i], "track");
            expect_read(A, s[i], 0);
            CHECK_SO_FAR();
        }
        for (int i = 0; i < 16; i++)
            CHECK(await_stream(A, P2P_EVENT_CLOSED, s[i], 3 * SECOND) != NULL);
    }
    CHECK_INT(count_events(B, P2P_EVENT_CLOSED), 0);
}

TEST(client_gives_up_on_an_answer) {
    p2p_request_desc ask = ask_for(P2P_GET, "/pour");
    p2p_stream s;
    const seen *e;
    serve_pair(NULL);
    CHECK_SO_FAR();
    pour.total = 10000000;
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    CHECK(await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND) != NULL);
    CHECK_DONE(p2p_stream_reset(A->node, s, 12));
    e = await(B, P2P_EVENT_CLOSED, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.code, 12);
    CHECK(e->event.user == &pour);
    pour.s.id = 0;
    expect_body(P2P_GET, "/tracks/1", "track");
}

TEST(ranges) {
    static const struct {
        const char *value;
        int result;
        uint64_t first, count;
    } rows[] = {{"bytes=0-9", 1, 0, 10},
                {"bytes=90-", 1, 90, 10},
                {"bytes=-5", 1, 95, 5},
                {"bytes=90-200", 1, 90, 10},
                {"bytes=100-", P2P_ERR_ARG, 0, 0},
                {"bytes=-0", P2P_ERR_ARG, 0, 0},
                {"bytes=5-4", 0, 0, 100},
                {"lines=1-2", 0, 0, 100},
                {"bytes=x", 0, 0, 100}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t first = 0, count = 0;
        p2p_request q;
        p2p_header h;
        memset(&q, 0, sizeof q);
        h.name = p2p_str_of("range");
        h.value = p2p_str_of(rows[i].value);
        q.headers = &h;
        q.header_count = 1;
        CHECK_INT(p2p_request_range(&q, 100, &first, &count), rows[i].result);
        if (rows[i].result < 0)
            continue;
        CHECK_INT(first, rows[i].first);
        CHECK_INT(count, rows[i].count);
    }
}

/* An open request that loses its connection ends with RESPONSE and an error, or with CLOSED. */
TEST(requests_end_with_their_connection) {
    p2p_request_desc ask = ask_for(P2P_GET, "/later");
    p2p_stream s;
    const seen *e;
    serve_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    drive(NULL, NULL, 200 * MS);
    CHECK_DONE(p2p_close(B->node, BA, 3, NULL));
    CHECK(await_conn(A, P2P_EVENT_DISCONNECTED, AB, 5 * SECOND) != NULL);
    e = await_stream(A, P2P_EVENT_CLOSED, s, 0);
    CHECK(e != NULL);
    CHECK(e->event.err < 0);
    CHECK(p2p_reply(B->node, later, 200, NULL, 0, NULL, 0) < 0);
}

#define CASES_ROUTER(X)                       \
    X(get_with_parameters)                    \
    X(literal_over_parameter_over_rest)       \
    X(router_answers_by_itself)               \
    X(other_method_is_405_with_allow)         \
    X(bad_paths)                              \
    X(post_and_headers_back)                  \
    X(body_over_the_limit_is_413)             \
    X(reply_later)                            \
    X(deferred_reply_that_never_comes_is_504) \
    X(request_gives_up)                       \
    X(replies_that_are_refused)               \
    X(streamed_answer)                        \
    X(streamed_body)                          \
    X(route_without_handler_is_an_event)      \
    X(guard_and_prefix)                       \
    X(bad_routes_are_refused)                 \
    X(route_tables_have_an_end)               \
    X(request_before_connected)               \
    X(many_requests_at_once)                  \
    X(client_gives_up_on_an_answer)           \
    X(ranges)                                 \
    X(requests_end_with_their_connection)
