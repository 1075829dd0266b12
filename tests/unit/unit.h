/* unit.h: what the unit tests of p2p.h's rooms share. They compile the implementation themselves and
 * so reach its private functions. */
#ifndef P2P_UNIT_H
#define P2P_UNIT_H
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#ifdef UNIT_SODIUM /* the test needs the crypto table; others also run where there is no libsodium */
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p_sodium.h"
#endif
#include "p2p_test.h"

/* A seeded generator for tests (splitmix64). */
typedef struct unit_rng {
    uint64_t state;
} unit_rng;

static inline uint64_t unit_u64(unit_rng *rng) {
    uint64_t x = rng->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Below end, which is not 0. */
static inline uint64_t unit_below(unit_rng *rng, uint64_t end) { return unit_u64(rng) % end; }

/* At most max, and often near a power of two, where encodings change their size. */
static inline uint64_t unit_spread(unit_rng *rng, uint64_t max) {
    uint64_t value = unit_u64(rng) >> unit_below(rng, 64);
    if (unit_below(rng, 4) == 0)
        value = (UINT64_C(1) << unit_below(rng, 63)) - unit_below(rng, 2);
    return value > max ? max - unit_below(rng, 3) % (max + 1) : value;
}

static inline void unit_bytes(unit_rng *rng, void *out, size_t size) {
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)unit_u64(rng);
}

/* Decodes hexadecimal; the count of bytes. A text that is none gives 0. */
static inline size_t unit_hex(const char *text, uint8_t *out, size_t room) {
    size_t size = strlen(text) / 2;
    unsigned value;
    for (size_t i = 0; i < size; i++) {
        if (i >= room || sscanf(text + 2 * i, "%2x", &value) != 1)
            return 0;
        out[i] = (uint8_t)value;
    }
    return size;
}
#endif
