/* Texts of addresses, ids and numbers: what parses is written as a text that means the same, and that
 * text is written as itself. The input is also taken as the bytes of an address. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#include "replay.h"

static int same(const p2p_addr *a, const p2p_addr *b) {
    return a->family == b->family && a->port == b->port && a->scope == b->scope &&
           memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

static void check_addr(const p2p_addr *addr) {
    char text[P2P_ADDR_TEXT_SIZE], again[P2P_ADDR_TEXT_SIZE];
    p2p_addr back;
    int size = p2p_addr_text(addr, text);
    FUZZ_CHECK(size > 0 && (size_t)size == strlen(text));
    FUZZ_CHECK(p2p_addr_parse(text, &back) == P2P_OK);
    FUZZ_CHECK(same(addr, &back));
    FUZZ_CHECK(p2p_addr_text(&back, again) == size && strcmp(text, again) == 0);
}

static void check_id(const char *text) {
    char again[P2P_ID_TEXT_SIZE];
    p2p_id id, back;
    if (p2p_id_parse(text, &id) != P2P_OK)
        return;
    FUZZ_CHECK(p2p__id_check(&id) == P2P_OK);
    FUZZ_CHECK(p2p_id_text(&id, again) == P2P_ID_TEXT_SIZE - 1);
    FUZZ_CHECK(strlen(text) == 64 || strcmp(text, again) == 0);
    FUZZ_CHECK(p2p_id_parse(again, &back) == P2P_OK && p2p_id_equal(&id, &back));
}

static void check_number(const char *text) {
    char buffer[21];
    uint64_t value, back;
    if (p2p_str_u64(p2p_str_of(text), &value) != P2P_OK)
        return;
    FUZZ_CHECK(p2p_str_u64(p2p_u64_str(value, buffer), &back) == P2P_OK && back == value);
    while (text[0] == '0' && text[1])
        text++;
    FUZZ_CHECK(strcmp(text, buffer) == 0);
}

static void check_bytes(const uint8_t *data, size_t size) {
    p2p__reader r = p2p__reader_of(data, size);
    p2p__writer w;
    uint8_t room[32];
    p2p_addr addr;
    p2p__get_endpoint(&r, &addr);
    if (r.bad)
        return;
    w = p2p__writer_of(room, sizeof room);
    p2p__put_endpoint(&w, &addr);
    FUZZ_CHECK(!w.bad && (size_t)(w.at - room) == size - p2p__left(&r));
    FUZZ_CHECK(memcmp(room, data, (size_t)(w.at - room)) == 0);
    check_addr(&addr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = (char *)malloc(size + 1);
    p2p_addr addr;
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    if (p2p_addr_parse(text, &addr) == P2P_OK)
        check_addr(&addr);
    check_id(text);
    check_number(text);
    check_bytes(data, size);
    free(text);
    return 0;
}
