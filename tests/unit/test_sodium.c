/* The crypto table of p2p_sodium.h: the vectors of RFC 8032, FIPS 180-4 and the identities that the
 * library publishes, refused points and signatures, and that it keeps nothing between calls. */
#define UNIT_SODIUM
#include "unit.h"
#include "../vectors/rfc8032.h"
#include <sodium.h>

static p2p_crypto crypto;

static size_t unhex(const char *text, uint8_t *out, size_t capacity) {
    size_t size = 0;
    if (sodium_hex2bin(out, capacity, text, strlen(text), NULL, &size, NULL) != 0)
        return SIZE_MAX;
    return size;
}

static void check_vector(const rfc8032_vector *v) {
    uint8_t seed[32], message[1100], expected[64], signature[64];
    p2p_id id, published;
    size_t size = unhex(v->message, message, sizeof message);
    CHECK_INT(unhex(v->seed, seed, sizeof seed), 32);
    CHECK_INT(unhex(v->id, published.bytes, 32), 32);
    CHECK_INT(unhex(v->signature, expected, sizeof expected), 64);
    CHECK(size <= sizeof message);
    CHECK_INT(crypto.api->public_key(crypto.ctx, seed, &id), 0);
    CHECK_BYTES(id.bytes, published.bytes, 32);
    CHECK_INT(crypto.api->sign(crypto.ctx, seed, message, size, signature), 0);
    CHECK_BYTES(signature, expected, 64);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, message, size, signature), 0);
}

TEST(rfc8032) {
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    CHECK_INT(RFC8032_VECTORS, 5);
    for (int i = 0; i < (int)RFC8032_VECTORS; i++) {
        check_vector(&rfc8032_vectors[i]);
        CHECK_SO_FAR();
    }
}

/* One bit changed anywhere, in signature, message or id, and the proof is gone. */
TEST(changed_bits) {
    const rfc8032_vector *v = &rfc8032_vectors[2];
    uint8_t message[2], signature[64];
    p2p_id id;
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    CHECK_INT(unhex(v->message, message, 2), 2);
    CHECK_INT(unhex(v->signature, signature, 64), 64);
    CHECK_INT(unhex(v->id, id.bytes, 32), 32);
    for (size_t bit = 0; bit < 512; bit++) {
        signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_INT(crypto.api->verify(crypto.ctx, &id, message, 2, signature), P2P_ERR_AUTH);
        signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t bit = 0; bit < 16; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_INT(crypto.api->verify(crypto.ctx, &id, message, 2, signature), P2P_ERR_AUTH);
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t bit = 0; bit < 256; bit++) {
        id.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(crypto.api->verify(crypto.ctx, &id, message, 2, signature) < 0);
        id.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, message, 1, signature), P2P_ERR_AUTH);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, message, 2, signature), 0);
}

/* S and S + L sign the same under a lax verifier: RFC 8032, section 5.1.7 demands S < L. */
TEST(malleable_signature) {
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,
                                      0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                      0,    0,    0,    0,    0,    0,    0,    0,
                                      0,    0,    0,    0,    0,    0,    0,    0x10};
    uint8_t signature[64];
    p2p_id id;
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    CHECK_INT(unhex(rfc8032_vectors[0].signature, signature, 64), 64);
    CHECK_INT(unhex(rfc8032_vectors[0].id, id.bytes, 32), 32);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, NULL, 0, signature), 0);
    sodium_add(signature + 32, order, 32);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, NULL, 0, signature), P2P_ERR_AUTH);
}

/* The points of small order in all their encodings, a y that is not below p, no point at all, and a
 * point of the curve outside of the prime-order group: none of them is an id. */
TEST(invalid_ids) {
    static const char *const bad[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "0200000000000000000000000000000000000000000000000000000000000000"};
    uint8_t signature[64];
    p2p_id id;
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    memset(signature, 0, sizeof signature);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(unhex(bad[i], id.bytes, 32), 32);
        CHECK_INT(crypto.api->verify(crypto.ctx, &id, "x", 1, signature), P2P_ERR_INVALID_ID);
    }
}

TEST(mixed_order_id) {
    uint8_t seed[32], torsion[32], signature[64];
    p2p_id id, mixed;
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    memset(seed, 7, sizeof seed);
    CHECK_INT(
        unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", torsion, 32), 32);
    CHECK_INT(crypto.api->public_key(crypto.ctx, seed, &id), 0);
    CHECK_INT(crypto_core_ed25519_add(mixed.bytes, id.bytes, torsion), 0);
    CHECK_INT(crypto.api->sign(crypto.ctx, seed, "x", 1, signature), 0);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, "x", 1, signature), 0);
    CHECK_INT(crypto.api->verify(crypto.ctx, &mixed, "x", 1, signature), P2P_ERR_INVALID_ID);
}

/* FIPS 180-4's examples, whole and in every way of cutting them in three, with empty parts. */
TEST(sha256) {
    static const char *const text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    uint8_t expected[32], out[32];
    const void *parts[5];
    size_t sizes[5];
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    CHECK_INT(
        unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", expected, 32),
        32);
    CHECK_INT(crypto.api->sha256(crypto.ctx, NULL, NULL, 0, out), 0);
    CHECK_BYTES(out, expected, 32);
    CHECK_INT(
        unhex("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", expected, 32),
        32);
    for (size_t a = 0; a <= 56; a++) {
        for (size_t b = a; b <= 56; b++) {
            parts[0] = text, sizes[0] = a;
            parts[1] = NULL, sizes[1] = 0;
            parts[2] = text + a, sizes[2] = b - a;
            parts[3] = text + b, sizes[3] = 56 - b;
            CHECK_INT(crypto.api->sha256(crypto.ctx, parts, sizes, 4, out), 0);
            CHECK_BYTES(out, expected, 32);
        }
    }
}

TEST(missing_arguments) {
    uint8_t bytes[64];
    const void *part = NULL;
    size_t size = 1;
    p2p_id id;
    memset(bytes, 1, sizeof bytes);
    memset(&id, 1, sizeof id);
    CHECK_INT(p2p_sodium_crypto(NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    CHECK_INT(crypto.api->public_key(crypto.ctx, NULL, &id), P2P_ERR_ARG);
    CHECK_INT(crypto.api->public_key(crypto.ctx, bytes, NULL), P2P_ERR_ARG);
    CHECK_INT(crypto.api->sign(crypto.ctx, NULL, "x", 1, bytes), P2P_ERR_ARG);
    CHECK_INT(crypto.api->sign(crypto.ctx, bytes, NULL, 1, bytes), P2P_ERR_ARG);
    CHECK_INT(crypto.api->verify(crypto.ctx, NULL, "x", 1, bytes), P2P_ERR_ARG);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, NULL, 1, bytes), P2P_ERR_ARG);
    CHECK_INT(crypto.api->verify(crypto.ctx, &id, "x", 1, NULL), P2P_ERR_ARG);
    CHECK_INT(crypto.api->sha256(crypto.ctx, &part, &size, 1, bytes), P2P_ERR_ARG);
    CHECK_INT(crypto.api->sha256(crypto.ctx, NULL, NULL, 1, bytes), P2P_ERR_ARG);
    CHECK_INT(crypto.api->sha256(crypto.ctx, NULL, NULL, 0, NULL), P2P_ERR_ARG);
}

/* Two keys in turns: a table that kept a key pair would sign with the wrong one. */
TEST(stateless) {
    uint8_t seeds[2][32], first[2][64], again[64];
    p2p_id ids[2];
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    for (int i = 0; i < 2; i++) {
        memset(seeds[i], i + 1, 32);
        CHECK_INT(crypto.api->public_key(crypto.ctx, seeds[i], &ids[i]), 0);
        CHECK_INT(crypto.api->sign(crypto.ctx, seeds[i], "turns", 5, first[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        CHECK_INT(crypto.api->sign(crypto.ctx, seeds[i % 2], "turns", 5, again), 0);
        CHECK_BYTES(again, first[i % 2], 64);
        CHECK_INT(crypto.api->verify(crypto.ctx, &ids[i % 2], "turns", 5, again), 0);
        CHECK_INT(crypto.api->verify(crypto.ctx, &ids[1 - i % 2], "turns", 5, again), P2P_ERR_AUTH);
    }
}

TEST_MAIN(P2P_TEST_ENTRY(rfc8032), P2P_TEST_ENTRY(changed_bits),
          P2P_TEST_ENTRY(malleable_signature), P2P_TEST_ENTRY(invalid_ids),
          P2P_TEST_ENTRY(mixed_order_id), P2P_TEST_ENTRY(sha256), P2P_TEST_ENTRY(missing_arguments),
          P2P_TEST_ENTRY(stateless))
