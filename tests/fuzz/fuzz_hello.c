/* The HELLO body: what parses is written as the same bytes, but for parameters not known here. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#include "replay.h"

static size_t written(const p2p__hello *hello, uint8_t *room, size_t size) {
    p2p__writer w = p2p__writer_of(room, size);
    p2p__put_hello(&w, hello);
    FUZZ_CHECK(!w.bad);
    return (size_t)(w.at - room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t room[2][1024];
    p2p__hello hello, again;
    p2p_span body;
    size_t first;
    body.data = data;
    body.size = size;
    if (p2p__hello_get(body, &hello) != P2P_OK)
        return 0;
    FUZZ_CHECK(hello.version_count >= 1 && hello.version_count <= P2P__HELLO_VERSIONS);
    FUZZ_CHECK(hello.alpn_count >= 1 && hello.alpn_count <= P2P__HELLO_ALPNS);
    for (uint32_t i = 0; i < hello.alpn_count; i++) {
        const uint8_t *name = (const uint8_t *)hello.alpn[i].data;
        FUZZ_CHECK(hello.alpn[i].size >= 1 && hello.alpn[i].size <= P2P__ALPN_MAX);
        FUZZ_CHECK(name > data && name + hello.alpn[i].size < data + size);
    }
    for (size_t i = P2P__PARAM_END; i < 16; i++)
        FUZZ_CHECK(hello.param[i] == 0);
    first = written(&hello, room[0], sizeof room[0]);
    FUZZ_CHECK(first <= size);
    if (first == size)
        FUZZ_CHECK(memcmp(room[0], data, size) == 0);
    body.data = room[0];
    body.size = first;
    FUZZ_CHECK(p2p__hello_get(body, &again) == P2P_OK);
    FUZZ_CHECK(written(&again, room[1], sizeof room[1]) == first);
    FUZZ_CHECK(memcmp(room[0], room[1], first) == 0);
    FUZZ_CHECK(memcmp(hello.param, again.param, sizeof hello.param) == 0);
    return 0;
}
