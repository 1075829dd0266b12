/* chachapoly_alt.c: what both implementations that ports/chachapoly_alt.h speaks of share.
 * SPDX-License-Identifier: MIT-0 */
#include "mbedtls/build_info.h"
#include "mbedtls/chachapoly.h"
#include "mbedtls/platform_util.h"
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
