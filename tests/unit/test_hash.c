/* >>hash: SipHash-1-3 and HMAC-SHA256. */
#define UNIT_SODIUM
#include "unit.h"

/* Key 00 01 .. 0f over the first `size` bytes of 00 01 02 ..; computed by another implementation,
 * which gives the published value of SipHash-2-4 for the same key and 15 bytes. */
TEST(siphash_of_known_bytes) {
    static const struct {
        size_t size;
        uint64_t hash;
    } known[] = {
        {0, UINT64_C(0xabac0158050fc4dc)},  {1, UINT64_C(0xc9f49bf37d57ca93)},
        {7, UINT64_C(0xd3927d989bb11140)},  {8, UINT64_C(0x369095118d299a8e)},
        {9, UINT64_C(0x25a48eb36c063de4)},  {15, UINT64_C(0xd320d86d2a519956)},
        {16, UINT64_C(0xcc4fdd1a7d908b66)}, {63, UINT64_C(0x9d199062b7bbb3a8)},
        {64, UINT64_C(0xf17997ec4b4a6065)},
    };
    static const uint8_t zero_key[16] = {0};
    uint8_t bytes[64], key[16];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    memcpy(key, bytes, sizeof key);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        CHECK(p2p__hash64(key, bytes, known[i].size) == known[i].hash);
    CHECK(p2p__hash64(zero_key, "p2p", 3) == UINT64_C(0x42a61c2a0bab6911));
}

/* 300 hashes in a chain, of every size up to 307, at every alignment. */
TEST(siphash_of_all_sizes) {
    uint8_t key[16], room[320];
    uint64_t hash = 0;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    for (size_t n = 0; n < 300; n++) {
        uint8_t *bytes = room + n % 8;
        for (size_t i = 0; i < 8; i++)
            bytes[i] = (uint8_t)(hash >> (8 * i));
        for (size_t i = 0; i < n; i++)
            bytes[8 + i] = (uint8_t)(i * 7 + n);
        hash = p2p__hash64(key, bytes, n + 8);
    }
    CHECK(hash == UINT64_C(0xb4424f538597a74c));
}

/* RFC 4231, section 4: key, data, HMAC-SHA-256 of the test cases 1, 2, 3, 4, 6 and 7. */
static const struct {
    const char *key, *data, *mac;
} rfc4231[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
    {"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
     "dddddddddddddddddddddddddddd",
     "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
    {"0102030405060708090a0b0c0d0e0f10111213141516171819",
     "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
     "cdcdcdcdcdcdcdcdcdcdcdcdcdcd",
     "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b65"
     "79202d2048617368204b6579204669727374",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     "5468697320697320612074657374207573696e672061206c6172676572207468616e2062"
     "6c6f636b2d73697a65206b657920616e642061206c6172676572207468616e20626c6f63"
     "6b2d73697a6520646174612e20546865206b6579206e6565647320746f20626520686173"
     "686564206265666f7265206265696e6720757365642062792074686520484d414320616c"
     "676f726974686d2e",
     "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
};

TEST(hmac_of_rfc_4231_in_one_part_and_in_several) {
    p2p_crypto crypto;
    CHECK_INT(p2p_sodium_crypto(&crypto), P2P_OK);
    for (size_t i = 0; i < sizeof rfc4231 / sizeof *rfc4231; i++) {
        uint8_t key[131], data[152], wanted[32];
        size_t key_size = unit_hex(rfc4231[i].key, key, sizeof key);
        size_t size = unit_hex(rfc4231[i].data, data, sizeof data);
        CHECK_INT(unit_hex(rfc4231[i].mac, wanted, sizeof wanted), 32);
        CHECK(key_size && size);
        for (size_t parts = 1; parts <= 6; parts++) {
            const void *part[6];
            size_t sizes[6], step = size / parts;
            uint8_t mac[32];
            for (size_t n = 0; n < parts; n++) {
                part[n] = data + n * step;
                sizes[n] = n + 1 < parts ? step : size - n * step;
            }
            CHECK_INT(p2p__hmac(&crypto, key, key_size, part, sizes, parts, mac), P2P_OK);
            CHECK_BYTES(mac, wanted, 32);
        }
    }
}

TEST(hmac_may_overwrite_its_key_and_its_data) {
    uint8_t key[32], data[32], wanted[32];
    const void *part = data;
    size_t size = sizeof data;
    p2p_crypto crypto;
    CHECK_INT(p2p_sodium_crypto(&crypto), P2P_OK);
    memset(key, 1, sizeof key);
    memset(data, 2, sizeof data);
    CHECK_INT(p2p__hmac(&crypto, key, 32, &part, &size, 1, wanted), P2P_OK);
    CHECK_INT(p2p__hmac(&crypto, key, 32, &part, &size, 1, data), P2P_OK);
    CHECK_BYTES(data, wanted, 32);
    memset(data, 2, sizeof data);
    CHECK_INT(p2p__hmac(&crypto, key, 32, &part, &size, 1, key), P2P_OK);
    CHECK_BYTES(key, wanted, 32);
}

/* A crypto table whose digest fails at the n-th call. */
static int failing_at;

static int failing_sha256(void *ctx, const void *const *parts, const size_t *sizes, size_t count,
                          uint8_t out[32]) {
    const p2p_crypto *real = (const p2p_crypto *)ctx;
    if (--failing_at == 0)
        return P2P_ERR_IO;
    return real->api->sha256(real->ctx, parts, sizes, count, out);
}

TEST(hmac_says_when_the_digest_fails) {
    static const p2p_crypto_api api = {NULL, NULL, NULL, failing_sha256};
    p2p_crypto real, crypto = {&real, &api};
    uint8_t key[100] = {0}, mac[32];
    CHECK_INT(p2p_sodium_crypto(&real), P2P_OK);
    for (int at = 1; at <= 4; at++) {
        failing_at = at;
        CHECK_INT(p2p__hmac(&crypto, key, sizeof key, NULL, NULL, 0, mac),
                  at <= 3 ? P2P_ERR_IO : P2P_OK);
    }
}

TEST_MAIN(P2P_TEST_ENTRY(siphash_of_known_bytes), P2P_TEST_ENTRY(siphash_of_all_sizes),
          P2P_TEST_ENTRY(hmac_of_rfc_4231_in_one_part_and_in_several),
          P2P_TEST_ENTRY(hmac_may_overwrite_its_key_and_its_data),
          P2P_TEST_ENTRY(hmac_says_when_the_digest_fails))
