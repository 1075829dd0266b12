/* Rooms >>discovery and >>router: patterns, heads on the wire, what a handler reads, the tables.
 * Requests from end to end are in tests/behaviour. */
#include "unit.h"

/* ---- a node with the two rooms' tables and nothing else */
typedef struct bare {
    p2p_node node;
    uint64_t arena[8192];
    uint32_t asked, cancelled, published, withdrawn;
    int resolve_answer; /* 0 later, 1 at once from inside, < 0 refuses */
    int publish_answer;
    p2p_ticket known;
    char name[80];
} bare;
static bare box;

static int bare_publish(void *ctx, p2p_node *node, const char *name) {
    bare *b = (bare *)ctx;
    (void)node;
    if (name == NULL)
        b->withdrawn++;
    else
        b->published++;
    return b->publish_answer;
}
static int bare_resolve(void *ctx, p2p_node *node, uint32_t query, const char *name,
                        const p2p_id *id) {
    bare *b = (bare *)ctx;
    (void)id;
    b->asked++;
    snprintf(b->name, sizeof b->name, "%s", name != NULL ? name : "(by id)");
    if (b->resolve_answer == 1)
        return p2p_discovered(node, query, &b->known);
    return b->resolve_answer;
}
static void bare_cancel(void *ctx, p2p_node *node, uint32_t query) {
    bare *b = (bare *)ctx;
    (void)node;
    (void)query;
    b->cancelled++;
}
static const p2p_discovery_api bare_provider = {bare_publish, bare_resolve, bare_cancel};

static p2p_ticket ticket_of(uint8_t first) {
    p2p_ticket t;
    memset(&t, 0, sizeof t);
    t.id.bytes[0] = first;
    t.id.bytes[7] = 9;
    t.addr_count = 1;
    t.addrs[0].family = 4;
    t.addrs[0].ip[0] = 127;
    t.addrs[0].port = first;
    return t;
}

/* True when measuring and carving agree. */
static bool bare_open(bool provider) {
    p2p__layout measure, carve;
    memset(&box, 0, sizeof box);
    memset(&measure, 0, sizeof measure);
    memset(&carve, 0, sizeof carve);
    box.node.desc.max.routes = 8;
    box.node.desc.max.services = 2;
    box.node.desc.max.peers = 3;
    box.node.desc.max.conns = 1;
    box.node.desc.time.connect_us = 1000;
    box.node.desc.discovery.ctx = &box;
    box.node.desc.discovery.api = provider ? &bare_provider : NULL;
    box.node.key.id.bytes[3] = 77;
    p2p__router_layout(&measure, &box.node.desc, &box.node.router);
    p2p__discovery_layout(&measure, &box.node.desc, &box.node.discovery);
    carve.base = (uint8_t *)box.arena;
    p2p__router_layout(&carve, &box.node.desc, &box.node.router);
    p2p__discovery_layout(&carve, &box.node.desc, &box.node.discovery);
    box.known = ticket_of(5);
    return measure.size == carve.size && carve.size <= sizeof box.arena;
}
static const char *bare_why(void) { return box.node.failed.text; }

static p2p_str str(const char *text) { return p2p_str_of(text); }
static bool same(p2p_str a, const char *b) { return p2p_str_equal(a, b); }

/* ---- paths and patterns */
TEST(path_rules) {
    static const char *const good[] = {"/",    "/a",        "/a/b/", "//",      "/..a",   "/a..",
                                       "/...", "/\xc3\xa9", "/a b",  "/%2e%2e", "/a?b#c", "/:x/*y"};
    static const char *const bad[] = {"",        "a",     "a/b",           "/.",       "/..",
                                      "/a/../b", "/a/.",  "/./a",          "/a\r",     "/a\nb",
                                      "/\xc3",   "/\xff", "/\xed\xa0\x80", "/\xc0\xaf"};
    char longest[P2P__PATH_MAX + 2];
    p2p_str nul = {"/a\0b", 4}, none = {NULL, 0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(p2p__path_fault(str(good[i])) == NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(p2p__path_fault(str(bad[i])) != NULL);
    CHECK(p2p__path_fault(nul) != NULL);
    CHECK(p2p__path_fault(none) != NULL);
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[P2P__PATH_MAX + 1] = 0;
    CHECK(p2p__path_fault(str(longest)) != NULL);
    longest[P2P__PATH_MAX] = 0;
    CHECK(p2p__path_fault(str(longest)) == NULL);
}

static p2p__pattern pattern_of(const char *prefix, const char *pattern) {
    p2p__pattern p;
    p.prefix = str(prefix);
    p.pattern = str(pattern);
    return p;
}

TEST(pattern_matching) {
    static const struct {
        const char *prefix, *pattern, *path;
        int params; /* -1: no match */
        const char *first, *second;
    } rows[] = {
        {"", "/", "/", 0, NULL, NULL},
        {"", "/", "/a", -1, NULL, NULL},
        {"", "/a/b", "/a/b", 0, NULL, NULL},
        {"", "/a/b", "/a/b/", -1, NULL, NULL},
        {"", "/a/b", "/a", -1, NULL, NULL},
        {"", "/a/b", "/A/b", -1, NULL, NULL},
        {"", "/a/b", "/a/bc", -1, NULL, NULL},
        {"", "/tracks/:id", "/tracks/42", 1, "42", NULL},
        {"", "/tracks/:id", "/tracks/", -1, NULL, NULL},
        {"", "/tracks/:id", "/tracks/42/x", -1, NULL, NULL},
        {"", "/tracks/:id/", "/tracks/42/", 1, "42", NULL},
        {"", "/:a/x/:b", "/1/x/2", 2, "1", "2"},
        {"", "/files/*path", "/files/a/b.c", 1, "a/b.c", NULL},
        {"", "/files/*path", "/files/", 1, "", NULL},
        {"", "/files/*path", "/files", -1, NULL, NULL},
        {"", "/files/*path", "/files//x/", 1, "/x/", NULL},
        {"", "/*all", "/", 1, "", NULL},
        {"", "/:a/*rest", "/x/y/z", 2, "x", "y/z"},
        {"/music", "/tracks/:id", "/music/tracks/7", 1, "7", NULL},
        {"/music", "/tracks/:id", "/tracks/7", -1, NULL, NULL},
        {"/music", "", "/music", 0, NULL, NULL},
        {"/music", "", "/music/", -1, NULL, NULL},
        {"/music", "/", "/music/", 0, NULL, NULL},
        {"/:user", "/:id", "/ann/7", 2, "ann", "7"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p2p_header params[P2P__PARAMS_MAX];
        p2p__pattern p = pattern_of(rows[i].prefix, rows[i].pattern);
        size_t count = 99;
        CHECK(p2p__pattern_fault(p) == NULL);
        CHECK_INT(p2p__pattern_match(p, str(rows[i].path), params, &count), rows[i].params >= 0);
        if (rows[i].params < 0)
            continue;
        CHECK_INT(count, rows[i].params);
        CHECK(rows[i].first == NULL || same(params[0].value, rows[i].first));
        CHECK(rows[i].second == NULL || same(params[1].value, rows[i].second));
    }
}

TEST(pattern_faults) {
    static const char *const bad[] = {
        "",       "a",       "/:",    "/*",   "/*a/b", "/*a/", "/:x/:x",
        "/:x/*x", "/a/../b", "/\xff", "/a\n", "/a//b", "//",   "/:a/:b/:c/:d/:e/:f/:g/:h/:i"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(p2p__pattern_fault(pattern_of("", bad[i])) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("", "/:a/:b/:c/:d/:e/:f/:g/:h")) == NULL);
    CHECK(p2p__pattern_fault(pattern_of("/a/", "/b")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("a", "/b")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/", "/b")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/a", "b")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/*x", "/b")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/:x", "/:x")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/*x", "")) == NULL);
    CHECK(p2p__pattern_fault(pattern_of("/a//b", "/c")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/a//b", "")) != NULL);
    CHECK(p2p__pattern_fault(pattern_of("/a", "/")) == NULL);
    CHECK(p2p__pattern_fault(pattern_of("/a", "//")) != NULL);
}

static void nothing(p2p_node *node, const p2p_request *q, void *ctx) {
    (void)node;
    (void)q;
    (void)ctx;
}
static int add(uint32_t method, const char *pattern) {
    p2p_route r;
    memset(&r, 0, sizeof r);
    r.method = method;
    r.pattern = pattern;
    r.handler = nothing;
    return p2p_route_add(&box.node, &r);
}
static const char *found(uint32_t method, const char *path, uint32_t *allowed) {
    p2p__route_ref at = p2p__route_find(&box.node.router, method, str(path), allowed);
    return at.route != NULL ? at.route->pattern : "";
}

TEST(routes_by_precedence) {
    uint32_t allowed;
    CHECK(bare_open(true));
    CHECK_INT(add(P2P_GET, "/*all"), 0);
    CHECK_INT(add(P2P_GET, "/a/:x"), 0);
    CHECK_INT(add(P2P_GET, "/a/b"), 0);
    CHECK_INT(add(P2P_GET, "/:x/b"), 0);
    CHECK_INT(add(P2P_GET, "/a/*rest"), 0);
    CHECK_INT(add(P2P_PUT, "/a/:x"), 0);
    CHECK_INT(add(P2P_DELETE, "/d"), 0);
    CHECK_STR(found(P2P_GET, "/a/b", &allowed), "/a/b");
    CHECK_INT(allowed, 1 << P2P_GET | 1 << P2P_PUT);
    CHECK_STR(found(P2P_GET, "/a/c", &allowed), "/a/:x");
    CHECK_STR(found(P2P_GET, "/c/b", &allowed), "/:x/b");
    CHECK_STR(found(P2P_GET, "/a/", &allowed), "/a/*rest");
    CHECK_STR(found(P2P_GET, "/a/b/c", &allowed), "/a/*rest");
    CHECK_STR(found(P2P_GET, "/a", &allowed), "/*all");
    CHECK_STR(found(P2P_PUT, "/a/b", &allowed), "/a/:x");
    CHECK_STR(found(P2P_POST, "/a/b", &allowed), "");
    CHECK_INT(allowed, 1 << P2P_GET | 1 << P2P_PUT);
    CHECK_STR(found(P2P_DELETE, "/d", &allowed), "/d");
    CHECK_STR(found(P2P_POST, "/d", &allowed), "");
    CHECK_INT(allowed, 1 << P2P_GET | 1 << P2P_DELETE);
}

TEST(route_table_refusals) {
    p2p_route r;
    CHECK(bare_open(true));
    CHECK_INT(p2p_route_add(NULL, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_route_add(&box.node, NULL), P2P_ERR_ARG);
    CHECK_INT(add(P2P_GET, NULL), P2P_ERR_CONFIG);
    CHECK_INT(add(P2P_GET, "tracks"), P2P_ERR_CONFIG);
    CHECK(strstr(bare_why(), "tracks") != NULL);
    CHECK_INT(add(P2P_PATCH + 1, "/a"), P2P_ERR_CONFIG);
    CHECK(strstr(bare_why(), "method") != NULL);
    CHECK_INT(add(P2P_GET, "/a/:x"), 0);
    CHECK_INT(add(P2P_GET, "/a/:other"), P2P_ERR_CONFIG);
    CHECK(strstr(bare_why(), "/a/:other") != NULL);
    CHECK_INT(add(P2P_PUT, "/a/:other"), 0);
    CHECK_INT(add(P2P_GET, "/a/*x"), 0);
    memset(&r, 0, sizeof r);
    r.pattern = "/flags";
    r.flags = 2;
    CHECK_INT(p2p_route_add(&box.node, &r), P2P_ERR_CONFIG);
    for (int i = 0; i < 5; i++)
        CHECK_INT(add((uint32_t)i, "/fill"), 0);
    CHECK_INT(add(P2P_GET, "/one/more"), P2P_ERR_LIMIT);
    CHECK(strstr(bare_why(), "max.routes") != NULL);
    CHECK_INT(box.node.failed.max, 8);
}

TEST(services_all_or_none) {
    static const p2p_route good[] = {{P2P_GET, 0, "/t/:id", nothing, NULL},
                                     {P2P_PUT, 0, "", nothing, NULL}};
    static const p2p_route twice[] = {{P2P_GET, 0, "/x", nothing, NULL},
                                      {P2P_GET, 0, "/x", nothing, NULL}};
    p2p_service s;
    uint32_t allowed;
    CHECK(bare_open(true));
    memset(&s, 0, sizeof s);
    CHECK_INT(p2p_service_add(&box.node, NULL), P2P_ERR_ARG);
    s.count = 2;
    CHECK_INT(p2p_service_add(&box.node, &s), P2P_ERR_ARG);
    s.routes = twice;
    CHECK_INT(p2p_service_add(&box.node, &s), P2P_ERR_CONFIG);
    CHECK(strstr(bare_why(), "/x") != NULL);
    CHECK_STR(found(P2P_GET, "/x", &allowed), "");
    s.routes = good;
    CHECK_INT(p2p_service_add(&box.node, &s), P2P_ERR_CONFIG); /* "" below no prefix */
    s.prefix = "/music";
    CHECK_INT(p2p_service_add(&box.node, &s), 0);
    CHECK_INT(p2p_service_add(&box.node, &s), P2P_ERR_CONFIG); /* the same again */
    CHECK(strstr(bare_why(), "/music/t/:id") != NULL);
    s.prefix = "/radio";
    CHECK_INT(p2p_service_add(&box.node, &s), 0); /* one table below two prefixes */
    CHECK_STR(found(P2P_GET, "/music/t/1", &allowed), "/t/:id");
    CHECK_STR(found(P2P_PUT, "/radio", &allowed), "");
    CHECK_INT(allowed, 1 << P2P_PUT);
    CHECK_INT(add(P2P_GET, "/music/t/:x"), P2P_ERR_CONFIG);
    s.prefix = "/more";
    CHECK_INT(p2p_service_add(&box.node, &s), P2P_ERR_LIMIT);
}

/* ---- heads on the wire */
static const char *const token = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";

typedef struct made_head {
    p2p__head_in in;
    p2p_header headers[P2P__HEADERS_MAX];
    char text[8192];
    size_t used;
} made_head;

static p2p_str draw_text(unit_rng *rng, made_head *m, size_t max, const char *letters) {
    p2p_str s;
    s.size = (size_t)unit_below(rng, max + 1);
    s.data = m->text + m->used;
    for (size_t i = 0; i < s.size; i++)
        m->text[m->used++] = letters[unit_below(rng, strlen(letters))];
    return s;
}
static void draw_head(unit_rng *rng, made_head *m) {
    memset(m, 0, sizeof *m);
    m->in.status = unit_below(rng, 2) ? 100 + (int)unit_below(rng, 500) : 0;
    m->in.method = (uint32_t)unit_below(rng, 5);
    m->text[m->used++] = '/';
    m->in.path = draw_text(rng, m, 100, "abc/:*~%?\xc3");
    m->in.path.data--;
    m->in.path.size++;
    while (p2p__path_fault(m->in.path) != NULL)
        m->in.path.size--;
    m->in.query = draw_text(rng, m, 60, "abc=&1\xff");
    m->in.headers = m->headers;
    m->in.header_count = (size_t)unit_below(rng, P2P__HEADERS_MAX + 1);
    for (size_t i = 0; i < m->in.header_count; i++) {
        bool table = unit_below(rng, 2) != 0;
        m->headers[i].name =
            table ? p2p_str_of(p2p__nth_text(p2p__header_names,
                                             (uint32_t)unit_below(rng, P2P__HEADER_NAMES)))
                  : draw_text(rng, m, 20, token);
        if (m->headers[i].name.size == 0)
            m->headers[i].name = str("x");
        m->headers[i].value = draw_text(rng, m, 70, "ab \t,;=\"\x01\xfe");
    }
}
static bool headers_same(const p2p_header *a, const p2p_header *b, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!p2p__str_same(a[i].name, b[i].name) || !p2p__str_same(a[i].value, b[i].value))
            return false;
    return true;
}
static size_t write_head(const p2p__head_in *in, uint8_t *out, size_t room) {
    p2p__writer w = p2p__writer_of(out, room);
    p2p__head_out o;
    memset(&o, 0, sizeof o);
    o.writer = &w;
    p2p__out_inner(&o, in);
    return w.bad ? 0 : (size_t)(w.at - out);
}

/* What is written reads as the same, and no shorter or longer piece of it reads at all. */
TEST(heads_round_trip) {
    static made_head m;
    static uint8_t bytes[8192];
    for (int i = 0; i < test_seeds(300); i++) {
        unit_rng rng = {test_seed()};
        p2p_header headers[P2P__HEADERS_MAX];
        p2p_request q;
        p2p_response_head a;
        p2p_span span;
        size_t size, cut;
        memset(&q, 0, sizeof q);
        draw_head(&rng, &m);
        size = write_head(&m.in, bytes, sizeof bytes - 1);
        CHECK(size > 0);
        CHECK_INT(p2p__head_size(&m.in), size + p2p__varint_size(size));
        cut = (size_t)unit_below(&rng, size);
        bytes[size] = 0;
        span.data = bytes;
        if (m.in.status != 0) {
            span.size = size;
            CHECK_INT(p2p__response_get(span, headers, &a), P2P_OK);
            CHECK_INT(a.status, m.in.status);
            CHECK_INT(a.header_count, m.in.header_count);
            span.size = cut;
            CHECK_INT(p2p__response_get(span, headers + 0, &a), P2P_ERR_PROTOCOL);
            span.size = size + 1;
            CHECK_INT(p2p__response_get(span, NULL, &a), P2P_ERR_PROTOCOL);
            span.size = size;
            CHECK_INT(p2p__response_get(span, headers, &a), P2P_OK);
        } else {
            span.size = cut;
            CHECK_INT(p2p__request_get(span, headers, &q), P2P__STATUS_BAD);
            span.size = size + 1;
            CHECK_INT(p2p__request_get(span, NULL, &q), P2P__STATUS_BAD);
            span.size = size;
            CHECK_INT(p2p__request_get(span, headers, &q), 0);
            CHECK_INT(q.method, m.in.method);
            CHECK(p2p__str_same(q.path, m.in.path) && p2p__str_same(q.query, m.in.query));
            CHECK_INT(q.header_count, m.in.header_count);
        }
        CHECK(headers_same(headers, m.headers, m.in.header_count));
    }
}

/* One head by hand, so that the wire is not only what the encoder says. */
TEST(head_vector) {
    static const p2p_header h[] = {{P2P_STR("range"), P2P_STR("bytes=0-1")},
                                   {P2P_STR("x-a"), P2P_STR("")}};
    static const uint8_t want[] = {0,   2,   '/', 'a', 3,   'q', '=', '1', 2, 5,   9,   'b', 'y',
                                   't', 'e', 's', '=', '0', '-', '1', 0,   3, 'x', '-', 'a', 0};
    uint8_t bytes[64];
    p2p__head_in in;
    memset(&in, 0, sizeof in);
    in.path = str("/a");
    in.query = str("q=1");
    in.headers = h;
    in.header_count = 2;
    CHECK_INT(write_head(&in, bytes, sizeof bytes), sizeof want);
    CHECK_BYTES(bytes, want, sizeof want);
    CHECK_INT(P2P__HEADER_NAMES, 32);
    CHECK(same(p2p_str_of(p2p__header_names), "content-type") &&
          same(p2p_str_of(p2p__nth_text(p2p__header_names, 31)), "x-request-id"));
}

static int get_request(const void *bytes, size_t size) {
    p2p_request q;
    p2p_span span;
    memset(&q, 0, sizeof q);
    span.data = (const uint8_t *)bytes;
    span.size = size;
    return p2p__request_get(span, NULL, &q);
}
#define GET_REQUEST(literal) get_request(literal, sizeof(literal) - 1)

TEST(malformed_heads) {
    uint8_t many[8 + 3 * 40];
    p2p_response_head a;
    p2p_span span;
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x00"), 0);
    CHECK_INT(GET_REQUEST(""), 400);
    CHECK_INT(GET_REQUEST("\x05\x02/a\x00\x00"), 400);     /* no such method */
    CHECK_INT(GET_REQUEST("\x40\x00\x02/a\x00\x00"), 400); /* longer varint than needed */
    CHECK_INT(GET_REQUEST("\x00\x01z\x00\x00"), 400);      /* path */
    CHECK_INT(GET_REQUEST("\x00\x03/..\x00\x00"), 400);
    CHECK_INT(GET_REQUEST("\x00\x03/\r\n\x00\x00"), 400);
    CHECK_INT(GET_REQUEST("\x00\x02/\xff\x00\x00"), 400);
    CHECK_INT(GET_REQUEST("\x00\x02/a\x01\n\x00"), 400);       /* query */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x00\x00"), 400);     /* bytes behind */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01"), 400);         /* a header missing */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x20\x00"), 0);   /* last name of the table */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x21\x00"), 400); /* beyond it */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x00\x01"
                          "A\x00"),
              400); /* upper case */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x00\x01"
                          "a\x00"),
              0);
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x00\x00\x00"), 400); /* no name */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x00\x04"
                          "etag\x00"),
              400);                                                /* has an index */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x01\x01\n"), 400);   /* LF in a value */
    CHECK_INT(GET_REQUEST("\x00\x02/a\x00\x01\x01\x01\x00"), 400); /* NUL */
    memcpy(many, "\x00\x02/a\x00\x21", 6);
    memset(many + 6, 1, sizeof many - 6);
    CHECK_INT(get_request(many, 6 + 3 * 33), 413);
    span.data = (const uint8_t *)"\x40\x63\x00"; /* status 99 */
    span.size = 3;
    CHECK_INT(p2p__response_get(span, NULL, &a), P2P_ERR_PROTOCOL);
    span.data = (const uint8_t *)"\x42\x58\x00"; /* 600 */
    CHECK_INT(p2p__response_get(span, NULL, &a), P2P_ERR_PROTOCOL);
    span.data = (const uint8_t *)"\x40\xc8\x00"; /* 200 */
    CHECK_INT(p2p__response_get(span, NULL, &a), P2P_OK);
    CHECK_INT(a.status, 200);
}

TEST(headers_are_checked_before_they_are_sent) {
    p2p_header h[P2P__HEADERS_MAX + 1];
    CHECK(bare_open(true));
    for (size_t i = 0; i <= P2P__HEADERS_MAX; i++) {
        h[i].name = str("x-a");
        h[i].value = str("1");
    }
    CHECK_INT(p2p__headers_check(&box.node, h, P2P__HEADERS_MAX), 0);
    CHECK_INT(p2p__headers_check(&box.node, h, P2P__HEADERS_MAX + 1), P2P_ERR_TOO_LARGE);
    CHECK_INT(box.node.failed.max, P2P__HEADERS_MAX);
    CHECK_INT(p2p__headers_check(&box.node, NULL, 1), P2P_ERR_ARG);
    CHECK_INT(p2p__headers_check(&box.node, NULL, 0), 0);
    h[0].name = str("Content-Type");
    CHECK_INT(p2p__headers_check(&box.node, h, 1), P2P_ERR_ARG);
    CHECK(strstr(bare_why(), "Content-Type") != NULL);
    h[0].name = str("");
    CHECK_INT(p2p__headers_check(&box.node, h, 1), P2P_ERR_ARG);
    h[0].name.data = NULL;
    h[0].name.size = 3;
    CHECK_INT(p2p__headers_check(&box.node, h, 1), P2P_ERR_ARG);
    h[0].name = str("a");
    h[0].value = str("1\r\nb: 2");
    CHECK_INT(p2p__headers_check(&box.node, h, 1), P2P_ERR_ARG);
    h[0].value.data = NULL;
    CHECK_INT(p2p__headers_check(&box.node, h, 1), P2P_ERR_ARG);
    h[0].value.size = 0;
    CHECK_INT(p2p__headers_check(&box.node, h, 1), 0);
}

/* ---- what a handler reads */
TEST(query_and_params) {
    static const p2p_header params[] = {{P2P_STR("id"), P2P_STR("42")}};
    static const p2p_header headers[] = {{P2P_STR("etag"), P2P_STR("a")},
                                         {P2P_STR("etag"), P2P_STR("b")}};
    p2p_response_head head = {200, headers, 2};
    p2p_request q;
    memset(&q, 0, sizeof q);
    q.params = params;
    q.param_count = 1;
    q.headers = headers;
    q.header_count = 2;
    q.query = str("from=12&to=&x&&a=b=c&to=9&=v");
    CHECK(same(p2p_param(&q, "id"), "42"));
    CHECK(p2p_param(&q, "i").data == NULL && p2p_param(&q, NULL).data == NULL);
    CHECK(p2p_param(NULL, "id").data == NULL);
    CHECK(same(p2p_request_header(&q, "etag"), "a"));
    CHECK(p2p_request_header(&q, "range").data == NULL);
    CHECK(same(p2p_response_header(&head, "etag"), "a"));
    CHECK(p2p_response_header(NULL, "etag").data == NULL);
    CHECK(same(p2p_query(&q, "from"), "12"));
    CHECK(same(p2p_query(&q, "to"), "") && p2p_query(&q, "to").data != NULL);
    CHECK(same(p2p_query(&q, "x"), "") && p2p_query(&q, "x").data != NULL);
    CHECK(same(p2p_query(&q, "a"), "b=c"));
    CHECK(same(p2p_query(&q, ""), "")); /* the empty piece between && */
    CHECK(p2p_query(&q, "fro").data == NULL && p2p_query(&q, "12").data == NULL);
    q.query = str("");
    CHECK(p2p_query(&q, "from").data == NULL);
    CHECK(p2p_query(NULL, "from").data == NULL);
}

TEST(ranges) {
    static const struct {
        const char *range;
        uint64_t total;
        int result;
        uint64_t first, count;
    } rows[] = {
        {NULL, 100, 0, 0, 100},
        {"bytes=0-9", 100, 1, 0, 10},
        {"bytes=90-200", 100, 1, 90, 10},
        {"bytes=99-99", 100, 1, 99, 1},
        {"bytes=0-0", 1, 1, 0, 1},
        {"bytes=10-", 100, 1, 10, 90},
        {"bytes=-10", 100, 1, 90, 10},
        {"bytes=-1000", 100, 1, 0, 100},
        {"bytes=-0", 100, P2P_ERR_ARG, 0, 0},
        {"bytes=100-", 100, P2P_ERR_ARG, 0, 0},
        {"bytes=100-200", 100, P2P_ERR_ARG, 0, 0},
        {"bytes=0-", 0, P2P_ERR_ARG, 0, 0},
        {"bytes=-5", 0, 0, 0, 0},
        {"bytes=9-3", 100, 0, 0, 100},
        {"bytes=0-1,5-6", 100, 0, 0, 100},
        {"bytes=-", 100, 0, 0, 100},
        {"bytes=5", 100, 0, 0, 100},
        {"bytes=", 100, 0, 0, 100},
        {"bytes=a-b", 100, 0, 0, 100},
        {"bytes=1-b", 100, 0, 0, 100},
        {"bytes=+1-2", 100, 0, 0, 100},
        {"bytes=1-2-3", 100, 0, 0, 100},
        {"Bytes= 1-2 ", 100, 1, 1, 2},
        {"items=0-9", 100, 0, 0, 100},
        {"bytes 0-9", 100, 0, 0, 100},
        {"bytes=0-99999999999999999999999999", 100, 1, 0, 100},
        {"bytes=99999999999999999999999999-", 100, P2P_ERR_ARG, 0, 0},
        {"bytes=-99999999999999999999999999", 100, 1, 0, 100},
        {"bytes=18446744073709551614-18446744073709551615", UINT64_MAX, 1, UINT64_MAX - 1, 1},
        {"bytes=0-18446744073709551615", UINT64_MAX, 1, 0, UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        p2p_header h;
        p2p_request q;
        uint64_t first = 7, count = 7;
        memset(&q, 0, sizeof q);
        h.name = str("range");
        h.value = str(rows[i].range);
        q.headers = &h;
        q.header_count = rows[i].range != NULL;
        CHECK_INT(p2p_request_range(&q, rows[i].total, &first, &count), rows[i].result);
        CHECK(rows[i].result < 0 || (first == rows[i].first && count == rows[i].count));
        q.method = P2P_PUT; /* a range is defined for GET only */
        CHECK_INT(p2p_request_range(&q, rows[i].total, &first, &count), 0);
    }
    CHECK_INT(p2p_request_range(NULL, 1, NULL, NULL), P2P_ERR_ARG);
}

/* ---- the life of an exchange */
static bool reaches(uint32_t from, uint32_t to) {
    uint32_t seen = 1u << from, before = 0;
    while (seen != before) {
        before = seen;
        for (uint32_t i = 0; i < P2P__EXCHANGE_STATES; i++)
            if (before >> i & 1)
                seen |= p2p__exchange_rules[i].next;
    }
    return (seen >> to & 1) != 0;
}

TEST(exchange_table) {
    for (uint32_t i = 0; i < P2P__EXCHANGE_STATES; i++) {
        uint32_t may = p2p__exchange_rules[i].may;
        CHECK(i == P2P__EXCHANGE_IDLE || reaches(P2P__EXCHANGE_IDLE, i));
        CHECK(reaches(i, P2P__EXCHANGE_GONE)); /* nothing is stuck */
        CHECK(!(p2p__exchange_rules[i].next >> i & 1));
        CHECK(!(may & P2P__MAY_REPLY) ||
              (p2p__exchange_rules[i].next >> P2P__EXCHANGE_REPLIED & 1));
    }
    CHECK(!reaches(P2P__EXCHANGE_ASKED, P2P__EXCHANGE_RUNNING));
    CHECK(!reaches(P2P__EXCHANGE_REPLIED, P2P__EXCHANGE_REPLYING));
    CHECK_INT(p2p__exchange_rules[P2P__EXCHANGE_GONE].next, 0);
}

/* ---- discovery */
TEST(peers_newest_wins) {
    p2p_ticket a, own;
    CHECK(bare_open(true));
    a = ticket_of(1);
    CHECK_INT(p2p_peer_add(&box.node, &a), 0);
    a.addrs[0].port = 99;
    CHECK_INT(p2p_peer_add(&box.node, &a), 0);
    CHECK_INT(p2p__peer_find(&box.node, &a.id)->addrs[0].port, 99);
    CHECK_INT(p2p_peer_remove(&box.node, &a.id), 0);
    CHECK(p2p__peer_find(&box.node, &a.id) == NULL);
    CHECK_INT(p2p_peer_remove(&box.node, &a.id), P2P_ERR_NOT_FOUND);
    own = a;
    own.id = box.node.key.id;
    CHECK_INT(p2p_peer_add(&box.node, &own), P2P_ERR_INVALID_ID);
    a.addr_count = P2P_TICKET_ADDRS + 1;
    CHECK_INT(p2p_peer_add(&box.node, &a), P2P_ERR_ARG);
    CHECK(strstr(bare_why(), "addr_count") != NULL);
    a = ticket_of(1);
    a.addrs[0].family = 5;
    CHECK_INT(p2p_peer_add(&box.node, &a), P2P_ERR_ARG);
    a = ticket_of(1);
    a.addrs[0].port = 0;
    CHECK_INT(p2p_peer_add(&box.node, &a), P2P_ERR_ARG);
    a = ticket_of(1);
    memset(&a.id, 0, sizeof a.id);
    CHECK_INT(p2p_peer_add(&box.node, &a), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_peer_add(&box.node, NULL), P2P_ERR_ARG);
}

TEST(peers_learned_give_way) {
    p2p_ticket t;
    CHECK(bare_open(true));
    for (uint8_t i = 1; i <= 3; i++) {
        t = ticket_of(i);
        CHECK(p2p__peer_remember(&box.node, &t, false));
    }
    t = ticket_of(4);
    CHECK_INT(p2p_peer_add(&box.node, &t), 0); /* instead of 1, the oldest */
    t = ticket_of(1);
    CHECK(p2p__peer_find(&box.node, &t.id) == NULL);
    t = ticket_of(2);
    CHECK(p2p__peer_find(&box.node, &t.id) != NULL);
    t = ticket_of(5);
    CHECK_INT(p2p_peer_add(&box.node, &t), 0);
    t = ticket_of(6);
    CHECK_INT(p2p_peer_add(&box.node, &t), 0);
    t = ticket_of(7);
    CHECK_INT(p2p_peer_add(&box.node, &t), P2P_ERR_LIMIT);
    CHECK(strstr(bare_why(), "max.peers") != NULL);
    t = ticket_of(4);
    t.addrs[0].port = 1234; /* a newer ticket from discovery does not unpin it */
    CHECK(p2p__peer_remember(&box.node, &t, false));
    CHECK_INT(p2p__peer_place(&box.node, &t.id)->added, 1);
    CHECK_INT(p2p__peer_find(&box.node, &t.id)->addrs[0].port, 1234);
}

TEST(names) {
    char name[66];
    CHECK(bare_open(false));
    CHECK_INT(p2p_register(&box.node, "alice"), P2P_ERR_DISCOVERY);
    CHECK_INT(p2p_discover(&box.node, "alice", NULL), P2P_ERR_DISCOVERY);
    CHECK(bare_open(true));
    CHECK_INT(p2p_register(&box.node, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_register(&box.node, ""), P2P_ERR_ARG);
    CHECK_INT(p2p_register(&box.node, "a\nb"), P2P_ERR_ARG);
    CHECK_INT(p2p_register(&box.node, "\xff"), P2P_ERR_ARG);
    memset(name, 'n', sizeof name);
    name[64] = 0;
    CHECK_INT(p2p_register(&box.node, name), P2P_ERR_ARG);
    name[63] = 0;
    CHECK_INT(p2p_register(&box.node, name), 0);
    CHECK_INT(p2p_register(&box.node, name), 0); /* again is no second name */
    CHECK_INT(p2p_register(&box.node, "b"), 0);
    CHECK_INT(p2p_register(&box.node, "c"), 0);
    box.publish_answer = P2P_ERR_IO;
    CHECK_INT(p2p_register(&box.node, "d"), P2P_ERR_IO);
    CHECK(strstr(bare_why(), "d") != NULL);
    box.publish_answer = 0;
    CHECK_INT(p2p_register(&box.node, "d"), 0);
    CHECK_INT(p2p_register(&box.node, "e"), P2P_ERR_LIMIT);
    box.published = 0;
    p2p__discovery_refresh(&box.node);
    CHECK_INT(box.published, 4);
    p2p__discovery_close(&box.node);
    CHECK_INT(box.withdrawn, 1);
}

TEST(questions) {
    uint32_t query = 0, second = 0;
    p2p_event e;
    p2p_ticket t;
    CHECK(bare_open(true));
    CHECK_INT(p2p_discover(&box.node, "bob", &query), 0);
    CHECK(query != 0);
    CHECK_STR(box.name, "bob");
    CHECK(!p2p__discovery_pending(&box.node));
    CHECK_INT(p2p_discovered(&box.node, query + 1, &box.known), P2P_ERR_HANDLE);
    t = box.known;
    t.addr_count = 77;
    CHECK_INT(p2p_discovered(&box.node, query, &t), P2P_ERR_ARG);
    CHECK_INT(p2p_discovered(&box.node, query, &box.known), 0);
    CHECK_INT(p2p_discovered(&box.node, query, &box.known), P2P_ERR_STATE);
    CHECK(p2p__peer_find(&box.node, &box.known.id) != NULL);
    CHECK(p2p__discovery_pending(&box.node));
    memset(&e, 0, sizeof e);
    CHECK_INT(p2p__discovery_event(&box.node, &e), 1);
    CHECK(e.type == P2P_EVENT_FOUND && e.err == 0 && e.query == query && same(e.name, "bob"));
    CHECK(p2p_id_equal(&e.peer, &box.known.id));
    CHECK_INT(p2p__discovery_event(&box.node, &e), 0);
    p2p__router_after(&box.node);
    p2p__discovery_after(&box.node);
    CHECK_INT(p2p_discovered(&box.node, query, &box.known), P2P_ERR_HANDLE);
    CHECK_INT(p2p_discover(&box.node, "bob", &second), 0);
    CHECK(second != query);
}

TEST(questions_answered_at_once_not_at_all_and_too_many) {
    uint32_t query = 0;
    p2p_event e;
    CHECK(bare_open(true));
    box.resolve_answer = 1;
    CHECK_INT(p2p_discover(&box.node, "now", &query), 0);
    memset(&e, 0, sizeof e);
    CHECK(p2p__discovery_event(&box.node, &e) == 1 && e.err == 0 && e.query == query);
    p2p__router_after(&box.node);
    p2p__discovery_after(&box.node);
    box.resolve_answer = -1;
    CHECK_INT(p2p_discover(&box.node, "nobody", &query), 0);
    CHECK(p2p__discovery_event(&box.node, &e) == 1 && e.err == P2P_ERR_NOT_FOUND);
    p2p__router_after(&box.node);
    p2p__discovery_after(&box.node);
    box.resolve_answer = 0;
    for (uint32_t i = 0; i < P2P__QUERIES + 1; i++) /* one more is kept for the one dial */
        CHECK_INT(p2p_discover(&box.node, "mute", &query), 0);
    CHECK_INT(p2p_discover(&box.node, "mute", &query), P2P_ERR_LIMIT);
    CHECK_INT(p2p__discovery_deadline(&box.node), 0);
    box.node.now_us = 7000; /* the clock was not told for long */
    p2p__discovery_timeout(&box.node);
    CHECK_INT(p2p__discovery_deadline(&box.node), 8000);
    box.node.now_us = 7999;
    p2p__discovery_timeout(&box.node);
    CHECK(!p2p__discovery_pending(&box.node));
    box.node.now_us = 8000;
    p2p__discovery_timeout(&box.node);
    CHECK_INT(box.cancelled, P2P__QUERIES + 1);
    for (uint32_t i = 0; i < P2P__QUERIES + 1; i++) {
        CHECK(p2p__discovery_event(&box.node, &e) == 1 && e.err == P2P_ERR_TIMEOUT);
        p2p__router_after(&box.node);
        p2p__discovery_after(&box.node);
    }
    CHECK(p2p__discovery_deadline(&box.node) == P2P_NEVER);
    CHECK_INT(box.node.discovery.queries.used, 0);
}

TEST(questions_of_a_dial_end_with_it) {
    uint32_t query = 0;
    p2p_id id;
    CHECK(bare_open(true));
    memset(&id, 3, sizeof id);
    CHECK_INT(p2p__query_start(&box.node, NULL, &id, 42, &query), 0);
    CHECK_STR(box.name, "(by id)");
    CHECK_INT(p2p_discovered(&box.node, query, &box.known), P2P_ERR_ARG); /* another id */
    p2p__query_cancel_conn(&box.node, 41);
    CHECK_INT(box.cancelled, 0);
    p2p__query_cancel_conn(&box.node, 42);
    CHECK_INT(box.cancelled, 1);
    CHECK_INT(p2p_discovered(&box.node, query, &box.known), P2P_ERR_HANDLE);
    CHECK_INT(box.node.discovery.queries.used, 0);
}

TEST_MAIN(P2P_TEST_ENTRY(path_rules), P2P_TEST_ENTRY(pattern_matching),
          P2P_TEST_ENTRY(pattern_faults), P2P_TEST_ENTRY(routes_by_precedence),
          P2P_TEST_ENTRY(route_table_refusals), P2P_TEST_ENTRY(services_all_or_none),
          P2P_TEST_ENTRY(heads_round_trip), P2P_TEST_ENTRY(head_vector),
          P2P_TEST_ENTRY(malformed_heads), P2P_TEST_ENTRY(headers_are_checked_before_they_are_sent),
          P2P_TEST_ENTRY(query_and_params), P2P_TEST_ENTRY(ranges), P2P_TEST_ENTRY(exchange_table),
          P2P_TEST_ENTRY(peers_newest_wins), P2P_TEST_ENTRY(peers_learned_give_way),
          P2P_TEST_ENTRY(names), P2P_TEST_ENTRY(questions),
          P2P_TEST_ENTRY(questions_answered_at_once_not_at_all_and_too_many),
          P2P_TEST_ENTRY(questions_of_a_dial_end_with_it))
