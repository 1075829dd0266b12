/* Heads of requests and answers as a peer sends them, paths against patterns, ranges and queries.
 * The first byte chooses; what is read must be what would be written, and lie inside the input. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#include "replay.h"

static bool inside(p2p_str s, const uint8_t *data, size_t size) {
    const uint8_t *at = (const uint8_t *)s.data;
    return s.size == 0 || (at >= data && at + s.size <= data + size);
}

/* One head has one encoding: what was accepted is written as the same bytes. */
static void same_bytes(const p2p__head_in *in, const uint8_t *data, size_t size) {
    static uint8_t out[1 << 16];
    p2p__writer w = p2p__writer_of(out, sizeof out);
    p2p__head_out o;
    memset(&o, 0, sizeof o);
    o.writer = &w;
    p2p__out_inner(&o, in);
    FUZZ_CHECK(!w.bad && (size_t)(w.at - out) == size && memcmp(out, data, size) == 0);
    FUZZ_CHECK(p2p__head_size(in) == size + p2p__varint_size(size));
}

static void request(const uint8_t *data, size_t size) {
    p2p_header headers[P2P__HEADERS_MAX];
    p2p_request q;
    p2p__head_in in;
    p2p_span span;
    int status, again;
    memset(&q, 0, sizeof q);
    memset(&in, 0, sizeof in);
    span.data = data;
    span.size = size;
    again = p2p__request_get(span, NULL, &q);
    status = p2p__request_get(span, headers, &q);
    FUZZ_CHECK(status == again && (status == 0 || status == 400 || status == 413));
    if (status != 0)
        return;
    FUZZ_CHECK(inside(q.path, data, size) && inside(q.query, data, size));
    for (size_t i = 0; i < q.header_count; i++)
        FUZZ_CHECK(inside(q.headers[i].value, data, size));
    in.method = q.method;
    in.path = q.path;
    in.query = q.query;
    in.headers = q.headers;
    in.header_count = q.header_count;
    same_bytes(&in, data, size);
}

static void response(const uint8_t *data, size_t size) {
    p2p_header headers[P2P__HEADERS_MAX];
    p2p_response_head a;
    p2p__head_in in;
    p2p_span span;
    int err, again;
    memset(&in, 0, sizeof in);
    span.data = data;
    span.size = size;
    again = p2p__response_get(span, NULL, &a);
    err = p2p__response_get(span, headers, &a);
    FUZZ_CHECK(err == again &&
               (err == P2P_OK || err == P2P_ERR_PROTOCOL || err == P2P_ERR_TOO_LARGE));
    if (err != P2P_OK)
        return;
    in.status = a.status;
    in.headers = a.headers;
    in.header_count = a.header_count;
    same_bytes(&in, data, size);
}

/* Two texts in one input, the first up to its first NUL. */
static p2p_str cut(const uint8_t **data, size_t *size) {
    p2p_str s;
    s.data = (const char *)*data;
    s.size = 0;
    while (s.size < *size && s.data[s.size] != 0)
        s.size++;
    *data += s.size < *size ? s.size + 1 : s.size;
    *size -= s.size < *size ? s.size + 1 : s.size;
    return s;
}

static void pattern(const uint8_t *data, size_t size) {
    const uint8_t *start = data;
    size_t whole = size, count;
    p2p_header params[P2P__PARAMS_MAX];
    p2p__pattern a, b;
    p2p_str path;
    bool matches_a, matches_b;
    a.prefix = cut(&data, &size);
    a.pattern = cut(&data, &size);
    b.prefix = cut(&data, &size);
    b.pattern = cut(&data, &size);
    path = cut(&data, &size);
    if (p2p__path_fault(path) != NULL || p2p__pattern_fault(a) != NULL ||
        p2p__pattern_fault(b) != NULL)
        return;
    matches_b = p2p__pattern_match(b, path, NULL, &count);
    matches_a = p2p__pattern_match(a, path, params, &count);
    FUZZ_CHECK(count <= P2P__PARAMS_MAX);
    for (size_t i = 0; matches_a && i < count; i++)
        FUZZ_CHECK(params[i].name.size > 0 && inside(params[i].value, start, whole));
    FUZZ_CHECK(p2p__pattern_compare(a, a) == 0);
    FUZZ_CHECK((p2p__pattern_compare(a, b) == 0) == (p2p__pattern_compare(b, a) == 0));
    if (p2p__pattern_compare(a, b) == 0)
        FUZZ_CHECK(matches_a == matches_b);
    else if (matches_a && matches_b) /* of two that match, one is the more exact, said both ways */
        FUZZ_CHECK((p2p__pattern_compare(a, b) < 0) != (p2p__pattern_compare(b, a) < 0));
}

static void asked(const uint8_t *data, size_t size) {
    p2p_header range;
    p2p_request q;
    p2p_str found;
    uint64_t total = 0, first = 0, count = 0;
    char name[32];
    int part;
    if (size < 8)
        return;
    memcpy(&total, data, 8);
    data += 8;
    size -= 8;
    memset(&q, 0, sizeof q);
    range.name = p2p_str_of("range");
    range.value.data = (const char *)data;
    range.value.size = size;
    q.headers = &range;
    q.header_count = 1;
    part = p2p_request_range(&q, total, &first, &count);
    FUZZ_CHECK(part == 0 || part == 1 || part == P2P_ERR_ARG);
    FUZZ_CHECK(part != 0 || (first == 0 && count == total));
    FUZZ_CHECK(part != 1 || (count > 0 && first < total && count <= total - first));
    found = cut(&data, &size);
    if (found.size >= sizeof name)
        return;
    memcpy(name, found.data, found.size);
    name[found.size] = 0;
    q.query.data = (const char *)data;
    q.query.size = size;
    found = p2p_query(&q, name);
    FUZZ_CHECK(inside(found, data, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    switch (data[0] & 3) {
    case 0: request(data + 1, size - 1); break;
    case 1: response(data + 1, size - 1); break;
    case 2: pattern(data + 1, size - 1); break;
    default: asked(data + 1, size - 1); break;
    }
    return 0;
}
