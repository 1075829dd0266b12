/* p2p_sodium.h: Ed25519 and SHA-256 for p2p.h, by libsodium.
 * SPDX-License-Identifier: MIT-0
 *
 * Do this in ONE source file, and link with -lsodium:
 *
 *     #define P2P_SODIUM_IMPLEMENTATION
 *     #include "p2p_sodium.h"
 *
 * and in any file:
 *
 *     p2p_desc desc;
 *     memset(&desc, 0, sizeof desc);
 *     p2p_sodium_crypto(&desc.crypto);        (p2p_posix_open does it where crypto is empty)
 *
 * WHAT IT PROMISES
 *   public_key  derives the NodeId of a seed: RFC 8032, section 5.1.5.
 *   sign        derives the key pair anew for each signature. Nothing is cached: no state, no lock,
 *               and no secret outlives the call. It costs one more scalar multiplication.
 *   verify      0 for a valid signature. P2P_ERR_INVALID_ID when the id is no point of the curve,
 *               is not canonical, or lies outside of the prime-order group; P2P_ERR_AUTH when the
 *               signature is not the id's.
 *   sha256      over the parts in a row, as if they were one text.
 * Each returns P2P_ERR_ARG for a pointer that is missing. Temporaries that held secrets are wiped.
 *
 * WHAT IT DOES NOT: allocate, read the clock, or give random bytes (p2p_desc.random does).
 *
 * ANOTHER LIBRARY, OR A SECURE ELEMENT, needs the same four functions and a const table. With
 * Monocypher's optional Ed25519 they are one call each (crypto_ed25519_key_pair, _sign, _check),
 * and an element that holds the key itself may ignore `seed`.
 *
 * MACROS
 *   P2P_SODIUM_IMPLEMENTATION   in the one file that is to hold the code
 *   P2P_DEF                     before each public function, as in p2p.h
 */
#ifndef P2P_SODIUM_H
#define P2P_SODIUM_H
#include "p2p.h"

#ifndef P2P_DEF
#ifdef P2P_STATIC
#define P2P_DEF static
#else
#define P2P_DEF extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif
/* Fills in the table. P2P_ERR_ARG: out is NULL; P2P_ERR_IO: libsodium found no source of entropy
 * and refuses to start. May be called any number of times and from any thread. */
P2P_DEF int p2p_sodium_crypto(p2p_crypto *out);
#ifdef __cplusplus
}
#endif
#endif /* P2P_SODIUM_H */

#if defined(P2P_SODIUM_IMPLEMENTATION) && !defined(P2P_SODIUM__IMPLEMENTED)
#define P2P_SODIUM__IMPLEMENTED
#include <sodium.h>

#ifdef __cplusplus
extern "C" {
#endif

static int p2p_sodium__public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
    uint8_t secret[crypto_sign_ed25519_SECRETKEYBYTES];
    int err;
    (void)ctx;
    if (seed == NULL || out == NULL)
        return P2P_ERR_ARG;
    err = crypto_sign_ed25519_seed_keypair(out->bytes, secret, seed);
    sodium_memzero(secret, sizeof secret);
    return err == 0 ? P2P_OK : P2P_ERR_INVALID_ID;
}

static int p2p_sodium__sign(void *ctx, const uint8_t seed[32], const void *message, size_t size,
                            uint8_t out[64]) {
    uint8_t secret[crypto_sign_ed25519_SECRETKEYBYTES], id[crypto_sign_ed25519_PUBLICKEYBYTES];
    const unsigned char *text =
        size > 0 ? (const unsigned char *)message : (const unsigned char *)"";
    int err;
    (void)ctx;
    if (seed == NULL || text == NULL || out == NULL)
        return P2P_ERR_ARG;
    err = crypto_sign_ed25519_seed_keypair(id, secret, seed);
    if (err == 0)
        err = crypto_sign_ed25519_detached(out, NULL, text, size, secret);
    sodium_memzero(secret, sizeof secret);
    return err == 0 ? P2P_OK : P2P_ERR_INVALID_ID;
}

/* libsodium's verification alone lets ids with a small-order part pass. Two nodes must agree on
 * what an id is, so that is refused here by the check of the point. */
static int p2p_sodium__verify(void *ctx, const p2p_id *id, const void *message, size_t size,
                              const uint8_t signature[64]) {
    const unsigned char *text =
        size > 0 ? (const unsigned char *)message : (const unsigned char *)"";
    (void)ctx;
    if (id == NULL || text == NULL || signature == NULL)
        return P2P_ERR_ARG;
    if (crypto_core_ed25519_is_valid_point(id->bytes) != 1)
        return P2P_ERR_INVALID_ID;
    if (crypto_sign_ed25519_verify_detached(signature, text, size, id->bytes) != 0)
        return P2P_ERR_AUTH;
    return P2P_OK;
}

static int p2p_sodium__sha256(void *ctx, const void *const *parts, const size_t *sizes,
                              size_t count, uint8_t out[32]) {
    crypto_hash_sha256_state state;
    size_t i;
    (void)ctx;
    if (out == NULL || (count > 0 && (parts == NULL || sizes == NULL)))
        return P2P_ERR_ARG;
    for (i = 0; i < count; i++)
        if (parts[i] == NULL && sizes[i] > 0)
            return P2P_ERR_ARG;
    (void)crypto_hash_sha256_init(&state);
    for (i = 0; i < count; i++)
        if (sizes[i] > 0)
            (void)crypto_hash_sha256_update(&state, (const unsigned char *)parts[i], sizes[i]);
    (void)crypto_hash_sha256_final(&state, out);
    sodium_memzero(&state, sizeof state); /* A part may have been the key of an HMAC. */
    return P2P_OK;
}

/* With P2P_STATIC_CRYPTO p2p.h has declared it, for the linker to find. */
#ifdef P2P_STATIC_CRYPTO
#define P2P_SODIUM__TABLE const
#else
#define P2P_SODIUM__TABLE static const
#endif
P2P_SODIUM__TABLE p2p_crypto_api p2p_sodium_api = {p2p_sodium__public_key, p2p_sodium__sign,
                                                   p2p_sodium__verify, p2p_sodium__sha256};

P2P_DEF int p2p_sodium_crypto(p2p_crypto *out) {
    if (out == NULL)
        return P2P_ERR_ARG;
    if (sodium_init() < 0) /* Chooses the fastest code for this processor; 1 when done before. */
        return P2P_ERR_IO;
    out->ctx = NULL;
    out->api = P2P_CRYPTO_NAMED(p2p_sodium_api);
    return P2P_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* P2P_SODIUM_IMPLEMENTATION */
