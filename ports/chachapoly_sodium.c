/* chachapoly_sodium.c: the records' cipher by libsodium, which compares tags in constant time and
 * works in place, as mbedTLS demands. libsodium picks the code for this processor in sodium_init,
 * which p2p_sodium_crypto calls. See ports/chachapoly_alt.h.
 * SPDX-License-Identifier: MIT-0 */
#include "mbedtls/build_info.h"
#include "mbedtls/chachapoly.h"
#include <sodium.h>

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
