/* >>random: the HMAC-DRBG, its entropy checks, and the fast generator. */
#define UNIT_SODIUM
#include "unit.h"

/* An entropy source that gives the bytes 0, 1, 2, .. and can be stuck or fail. */
typedef struct source {
    int calls, fail_at, stuck;
    uint8_t next;
} source;

static int source_fill(void *ctx, void *out, size_t size) {
    source *s = (source *)ctx;
    if (++s->calls == s->fail_at)
        return P2P_ERR_IO;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = s->next++;
    if (s->stuck)
        s->next = (uint8_t)(s->next - size);
    return P2P_OK;
}

static p2p_crypto crypto;

static int open_of(p2p__drbg *d, source *s, uint8_t seed_byte, uint64_t time_us) {
    p2p_random entropy = {s, source_fill};
    uint8_t seed[32];
    memset(seed, seed_byte, sizeof seed);
    if (p2p_sodium_crypto(&crypto) < 0)
        return P2P_ERR_IO;
    return p2p__drbg_open(d, &crypto, &entropy, seed, time_us);
}

/* CAVP, HMAC_DRBG SHA-256 without reseeding, no personalization, count 0: the second of two
 * requests of 128 bytes. */
TEST(the_generator_gives_the_published_bytes) {
    static const char seed_text[] =
        "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488"
        "659ba96c601dc69fc902940805ec0ca8";
    static const char wanted_text[] =
        "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89"
        "d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1"
        "07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668"
        "961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8";
    uint8_t seed[48], wanted[128], out[128];
    const void *part = seed;
    size_t size = unit_hex(seed_text, seed, sizeof seed);
    p2p__drbg d;
    CHECK_INT(size, 48);
    CHECK_INT(unit_hex(wanted_text, wanted, sizeof wanted), 128);
    CHECK_INT(p2p_sodium_crypto(&crypto), P2P_OK);
    memset(&d, 0, sizeof d);
    memset(d.v, 1, sizeof d.v);
    d.crypto = &crypto;
    CHECK_INT(p2p__drbg_update(&d, &part, &size, 1), P2P_OK);
    CHECK_INT(p2p__drbg_fill(&d, out, sizeof out), P2P_OK);
    CHECK_INT(p2p__drbg_fill(&d, out, sizeof out), P2P_OK);
    CHECK_BYTES(out, wanted, 128);
}

/* Computed by another implementation from the entropy 00 .. 3f, the seed aa x 32 and the time. */
TEST(opening_seeds_from_entropy_identity_and_time) {
    source s = {0, 0, 0, 0};
    uint8_t wanted[40], out[40];
    p2p__drbg d;
    CHECK_INT(open_of(&d, &s, 0xaa, UINT64_C(0x0102030405060708)), P2P_OK);
    CHECK(d.fast == UINT64_C(0x06b29845bd1e550d));
    CHECK_INT(unit_hex("2983a62897b151dc108adcf3e570ef339ab1b566929dabc299860c6a2e005782"
                       "939983a822cd66f7",
                       wanted, sizeof wanted),
              40);
    CHECK_INT(p2p__drbg_fill(&d, out, 40), P2P_OK);
    CHECK_BYTES(out, wanted, 40);
    CHECK_INT(p2p__drbg_fill(&d, out, 1), P2P_OK);
    CHECK_INT(out[0], 0xb8);
}

/* More than one request of 65536 bytes: the key changes in between. */
TEST(long_fills_are_several_requests) {
    static uint8_t out[65536 * 2 + 1000];
    source s = {0, 0, 0, 0};
    uint8_t digest[32], wanted[32], few[41];
    const void *part = out;
    size_t size = sizeof out;
    p2p__drbg d;
    CHECK_INT(open_of(&d, &s, 0xaa, UINT64_C(0x0102030405060708)), P2P_OK);
    CHECK_INT(p2p__drbg_fill(&d, few, 40), P2P_OK);
    CHECK_INT(p2p__drbg_fill(&d, few, 1), P2P_OK);
    CHECK_INT(p2p__drbg_fill(&d, out, sizeof out), P2P_OK);
    CHECK_INT(p2p__sha256(&crypto, &part, &size, 1, digest), P2P_OK);
    CHECK_INT(unit_hex("56c38f2a36c2739f48fd2c5ef7ef6ed11baf14946daadbec27a78a5129cf5cf9", wanted,
                       sizeof wanted),
              32);
    CHECK_BYTES(digest, wanted, 32);
    CHECK_INT(unit_hex("80e8ee59ea823b14e2a3a23055620543", wanted, sizeof wanted), 16);
    CHECK_INT(p2p__drbg_fill(&d, digest, 16), P2P_OK);
    CHECK_BYTES(digest, wanted, 16);
}

TEST(each_source_alone_changes_the_bytes) {
    source s[4] = {{0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0, 0}, {0, 0, 0, 0}};
    uint8_t out[4][16];
    for (int i = 0; i < 4; i++) {
        p2p__drbg d;
        CHECK_INT(open_of(&d, &s[i], i == 2 ? 1 : 2, i == 3 ? 10 : 11), P2P_OK);
        CHECK_INT(p2p__drbg_fill(&d, out[i], 16), P2P_OK);
        for (int j = 0; j < i; j++)
            CHECK(memcmp(out[i], out[j], 16) != 0);
    }
}

TEST(a_stuck_failing_or_missing_source_opens_nothing) {
    static const source bad[] = {{0, 0, 1, 7}, {0, 1, 0, 0}, {0, 2, 0, 0}};
    static const uint8_t zero[32] = {0};
    p2p_random none = {NULL, NULL};
    p2p__drbg d;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        source s = bad[i];
        memset(&d, 0xcc, sizeof d);
        CHECK_INT(open_of(&d, &s, 1, 1), P2P_ERR_CONFIG);
        CHECK_BYTES(d.k, zero, 32);
        CHECK_BYTES(d.v, zero, 32);
    }
    CHECK_INT(p2p__drbg_open(&d, &crypto, &none, zero, 0), P2P_ERR_CONFIG);
}

static int digests_left;

static int failing_sha256(void *ctx, const void *const *parts, const size_t *sizes, size_t count,
                          uint8_t out[32]) {
    if (digests_left-- <= 0)
        return P2P_ERR_IO;
    return crypto.api->sha256(ctx, parts, sizes, count, out);
}

TEST(a_failing_digest_gives_no_bytes) {
    static const p2p_crypto_api api = {NULL, NULL, NULL, failing_sha256};
    static const uint8_t zero[64] = {0};
    p2p_crypto failing = {NULL, &api};
    source s = {0, 0, 0, 0};
    p2p_random entropy = {&s, source_fill};
    uint8_t out[64];
    p2p__drbg d;
    CHECK_INT(p2p_sodium_crypto(&crypto), P2P_OK);
    for (digests_left = 0; digests_left < 14;) {
        int had = digests_left;
        CHECK_INT(p2p__drbg_open(&d, &failing, &entropy, zero, 0), P2P_ERR_CONFIG);
        digests_left = had + 1;
    }
    digests_left = 1000;
    CHECK_INT(p2p__drbg_open(&d, &failing, &entropy, zero, 0), P2P_OK);
    memset(out, 0xcc, sizeof out);
    digests_left = 3;
    CHECK_INT(p2p__drbg_fill(&d, out, sizeof out), P2P_ERR_IO);
    CHECK_BYTES(out, zero, sizeof out);
}

TEST(the_fast_generator_is_xorshift64_star) {
    p2p__drbg d;
    memset(&d, 0, sizeof d);
    d.fast = UINT64_C(0x0123456789abcdef);
    CHECK(p2p__drbg_fast(&d) == 0x7c948247u);
    CHECK(p2p__drbg_fast(&d) == 0xd5705692u);
    CHECK(p2p__drbg_fast(&d) == 0x88b71e3bu);
}

TEST_MAIN(P2P_TEST_ENTRY(the_generator_gives_the_published_bytes),
          P2P_TEST_ENTRY(opening_seeds_from_entropy_identity_and_time),
          P2P_TEST_ENTRY(long_fills_are_several_requests),
          P2P_TEST_ENTRY(each_source_alone_changes_the_bytes),
          P2P_TEST_ENTRY(a_stuck_failing_or_missing_source_opens_nothing),
          P2P_TEST_ENTRY(a_failing_digest_gives_no_bytes),
          P2P_TEST_ENTRY(the_fast_generator_is_xorshift64_star))
