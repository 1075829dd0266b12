/* The text of a key file: what is taken is written as itself, byte for byte. The rest of the port's
 * words are fed too: an address to bind, with and without its port. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_POSIX_IMPLEMENTATION
#define P2P_POSIX_NO_DEFAULTS
#include "p2p_posix.h"
#include "replay.h"

static void check_key(const char *text, size_t size) {
    char again[P2P_POSIX__KEY_SIZE];
    uint8_t seed[32];
    if (!p2p_posix__key_parse(text, size, seed))
        return;
    p2p_posix__key_text(seed, again);
    FUZZ_CHECK(size == sizeof again && memcmp(text, again, size) == 0);
}

/* Without a port it is the address that it is with one. */
static void check_bind(const char *text) {
    p2p_addr addr, whole;
    char written[P2P_ADDR_TEXT_SIZE];
    if (p2p_posix__parse(text, 4433, &addr) < 0)
        return;
    FUZZ_CHECK(addr.family == 4 || addr.family == 6);
    FUZZ_CHECK(p2p_addr_text(&addr, written) > 0);
    FUZZ_CHECK(p2p_addr_parse(written, &whole) == P2P_OK && whole.port == addr.port);
    FUZZ_CHECK(p2p_addr_parse(text, &whole) == P2P_OK || addr.port == 4433);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = (char *)malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    check_key(text, size);
    check_bind(text);
    free(text);
    return 0;
}
