/* The library as in examples/speaker/p2p.c, but Ed25519 is four functions that refuse: what remains
 * of the firmware's size is what another Ed25519, or a secure element, is added to. It is linked to
 * be measured, never run. */
#define P2P_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_LWIP_IMPLEMENTATION
#include "p2p.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_lwip.h"
#include <sodium/crypto_hash_sha256.h>

static int public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
    (void)ctx;
    (void)seed;
    (void)out;
    return P2P_ERR_CONFIG;
}

static int sign(void *ctx, const uint8_t seed[32], const void *message, size_t size,
                uint8_t out[64]) {
    (void)ctx;
    (void)seed;
    (void)message;
    (void)size;
    (void)out;
    return P2P_ERR_CONFIG;
}

static int verify(void *ctx, const p2p_id *id, const void *message, size_t size,
                  const uint8_t signature[64]) {
    (void)ctx;
    (void)id;
    (void)message;
    (void)size;
    (void)signature;
    return P2P_ERR_CONFIG;
}

static int sha256(void *ctx, const void *const *parts, const size_t *sizes, size_t count,
                  uint8_t out[32]) {
    crypto_hash_sha256_state state;
    size_t i;
    (void)ctx;
    (void)crypto_hash_sha256_init(&state);
    for (i = 0; i < count; i++)
        (void)crypto_hash_sha256_update(&state, (const unsigned char *)parts[i], sizes[i]);
    (void)crypto_hash_sha256_final(&state, out);
    return P2P_OK;
}

const p2p_crypto_api p2p_sodium_api = {public_key, sign, verify, sha256};

int p2p_sodium_crypto(p2p_crypto *out) {
    out->ctx = NULL;
    out->api = P2P_CRYPTO_NAMED(p2p_sodium_api);
    return P2P_OK;
}
