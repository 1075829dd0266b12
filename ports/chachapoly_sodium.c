/* chachapoly_sodium.c: the functions that ports/chachapoly_alt.h speaks of, by libsodium, which
 * compares tags in constant time and works in place, as mbedTLS demands. libsodium picks the code
 * for this processor in sodium_init, which p2p_sodium_crypto calls.
 * SPDX-License-Identifier: MIT-0 */
#include "mbedtls/build_info.h"
#include "mbedtls/chachapoly.h"
#include "mbedtls/platform_util.h"
#include <sodium.h>
#include <string.h>

void mbedtls_chachapoly_init(mbedtls_chachapoly_context *ctx) { memset(ctx, 0, sizeof *ctx); }

void mbedtls_chachapoly_free(mbedtls_chachapoly_context *ctx) {
    if (ctx)
        mbedtls_platform_zeroize(ctx, sizeof *ctx);
}

int mbedtls_chachapoly_setkey(mbedtls_chachapoly_context *ctx, const unsigned char key[32]) {
    memcpy(ctx->key, key, sizeof ctx->key);
    return 0;
}

int mbedtls_chachapoly_encrypt_and_tag(mbedtls_chachapoly_context *ctx, size_t length,
                                       const unsigned char nonce[12], const unsigned char *aad,
                                       size_t aad_len, const unsigned char *input,
                                       unsigned char *output, unsigned char tag[16]) {
    return crypto_aead_chacha20poly1305_ietf_encrypt_detached(output, tag, NULL, input, length, aad,
                                                              aad_len, NULL, nonce, ctx->key);
}

int mbedtls_chachapoly_auth_decrypt(mbedtls_chachapoly_context *ctx, size_t length,
                                    const unsigned char nonce[12], const unsigned char *aad,
                                    size_t aad_len, const unsigned char tag[16],
                                    const unsigned char *input, unsigned char *output) {
    if (crypto_aead_chacha20poly1305_ietf_decrypt_detached(output, NULL, input, length, tag, aad,
                                                           aad_len, nonce, ctx->key) != 0)
        return MBEDTLS_ERR_CHACHAPOLY_AUTH_FAILED;
    return 0;
}

/* The record layer encrypts a record in one call. These must link, and nobody calls them. */
int mbedtls_chachapoly_starts(mbedtls_chachapoly_context *ctx, const unsigned char nonce[12],
                              mbedtls_chachapoly_mode_t mode) {
    (void)ctx;
    (void)nonce;
    (void)mode;
    return MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
}

int mbedtls_chachapoly_update_aad(mbedtls_chachapoly_context *ctx, const unsigned char *aad,
                                  size_t aad_len) {
    (void)ctx;
    (void)aad;
    (void)aad_len;
    return MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
}

int mbedtls_chachapoly_update(mbedtls_chachapoly_context *ctx, size_t len,
                              const unsigned char *input, unsigned char *output) {
    (void)ctx;
    (void)len;
    (void)input;
    (void)output;
    return MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
}

int mbedtls_chachapoly_finish(mbedtls_chachapoly_context *ctx, unsigned char mac[16]) {
    (void)ctx;
    (void)mac;
    return MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
}
