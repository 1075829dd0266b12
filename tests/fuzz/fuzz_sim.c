/* The null channel and the numbers of the environment, which take bytes from outside. The first
 * byte says what is tried: a side of a handshake or a finished session fed with the rest, or the
 * rest as the text of a variable. What comes from outside never finishes a handshake and is never
 * opened, since it lacks the key. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "replay.h"

static uint64_t slab[2][20];
static int fill(void *ctx, void *out, size_t size) {
    memset(out, ++*(uint8_t *)ctx, size);
    return 0;
}
static void begin(void) {
    static uint8_t counter;
    int side;
    for (side = 0; side < 2; side++) {
        p2p_secure_params p;
        memset(&p, 0, sizeof p);
        p.server = (uint8_t)side;
        p.content = 1200;
        p.timer_us = 1000;
        p.random.ctx = &counter;
        p.random.fill = fill;
        memset(p.psk, 0x5a, sizeof p.psk);
        FUZZ_CHECK(p2p_sim__null_api.begin(NULL, slab[side], sizeof slab[side], &p) == 0);
    }
}
/* Carries flights to and fro, `count` of them. */
static void shake(int count) {
    int i;
    for (i = 0; i < count; i++) {
        uint8_t flight[64];
        int n = p2p_sim__null_api.flight(NULL, slab[i % 2], 0, flight, sizeof flight, 0);
        FUZZ_CHECK(n > 0);
        FUZZ_CHECK(p2p_sim__null_api.feed(NULL, slab[1 - i % 2], 0, flight, (size_t)n) == (i >= 2));
    }
}
/* The stranger's bytes in pieces: each has its length before it. */
static void feed(int side, const uint8_t *data, size_t size) {
    uint8_t piece[256], out[64], *packet;
    while (size > 1) {
        size_t n = data[0] < size - 1 ? data[0] : size - 1;
        memcpy(piece, data + 1, n);
        FUZZ_CHECK(p2p_sim__null_api.feed(NULL, slab[side], 1, piece, n) <= 0);
        FUZZ_CHECK(p2p_sim__null_api.flight(NULL, slab[side], 1, out, sizeof out, 0) >= 0);
        memcpy(piece, data + 1, n);
        FUZZ_CHECK(p2p_sim__null_api.open(NULL, slab[side], piece, n, &packet) <= 0);
        data += n + 1;
        size -= n + 1;
    }
}
/* What is read as a number is that number when written out again. */
static void number(const uint8_t *data, size_t size) {
    char text[64], buffer[21];
    uint64_t value = 0, ppm = 0;
    size_t zeros = 0;
    p2p_str back;
    if (size >= sizeof text)
        return;
    memcpy(text, data, size);
    text[size] = 0;
    (void)p2p_sim__decimal(text, 6, &ppm);
    if (!p2p_sim__decimal(text, 0, &value))
        return;
    while (text[zeros] == '0' && text[zeros + 1])
        zeros++;
    back = p2p_u64_str(value, buffer);
    FUZZ_CHECK(back.size == strlen(text + zeros) && !memcmp(back.data, text + zeros, back.size));
    if (value < UINT64_MAX / 1000000)
        FUZZ_CHECK(ppm == value * 1000000);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    begin();
    if (data[0] % 16 < 10) {
        shake(data[0] % 5);
        feed(data[0] % 2, data + 1, size - 1);
    } else {
        number(data + 1, size - 1);
    }
    return 0;
}
