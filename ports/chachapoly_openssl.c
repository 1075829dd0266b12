/* chachapoly_openssl.c: the records' cipher by OpenSSL 3, whose code for processors with wide vectors
 * is the fastest there is. See ports/chachapoly_alt.h.
 *
 * OpenSSL's contexts are on its heap, and hold the key of the record that was last in hand: two for
 * each thread that runs nodes, made when the program starts (the first thread's) or when a thread
 * opens its first record, and freed when it ends. They are not in the arena, and closing a node
 * does not wipe them: whoever minds takes libsodium, the default.
 * SPDX-License-Identifier: MIT-0 */
#include "mbedtls/build_info.h"
#include "mbedtls/chachapoly.h"
#include "mbedtls/platform_util.h"
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

static __thread EVP_CIPHER_CTX *contexts[2]; /* to open, to seal */
static pthread_key_t at_exit;                /* its destructor runs when a thread ends */

static void contexts_free(void *mine) {
    EVP_CIPHER_CTX **both = (EVP_CIPHER_CTX **)mine;
    EVP_CIPHER_CTX_free(both[0]);
    EVP_CIPHER_CTX_free(both[1]);
    both[0] = both[1] = NULL;
}

/* NULL: OpenSSL has no memory or no ChaCha20-Poly1305. */
static EVP_CIPHER_CTX *context(int seals) {
    if (contexts[seals])
        return contexts[seals];
    contexts[seals] = EVP_CIPHER_CTX_new();
    if (contexts[seals] &&
        EVP_CipherInit_ex(contexts[seals], EVP_chacha20_poly1305(), NULL, NULL, NULL, seals) != 1) {
        EVP_CIPHER_CTX_free(contexts[seals]);
        contexts[seals] = NULL;
    }
    (void)pthread_setspecific(at_exit, contexts);
    return contexts[seals];
}

__attribute__((constructor)) static void contexts_begin(void) {
    (void)pthread_key_create(&at_exit, contexts_free);
    (void)context(0);
    (void)context(1);
}

/* Both ways: everything but the tag. */
static EVP_CIPHER_CTX *crypt(int seals, const unsigned char key[32], const unsigned char nonce[12],
                             const unsigned char *aad, size_t aad_len, const unsigned char *input,
                             unsigned char *output, size_t length) {
    EVP_CIPHER_CTX *c = context(seals);
    int n;
    if (!c || EVP_CipherInit_ex(c, NULL, NULL, key, nonce, seals) != 1 ||
        EVP_CipherUpdate(c, NULL, &n, aad, (int)aad_len) != 1 ||
        EVP_CipherUpdate(c, output, &n, input, (int)length) != 1)
        return NULL;
    return c;
}

int mbedtls_chachapoly_encrypt_and_tag(mbedtls_chachapoly_context *ctx, size_t length,
                                       const unsigned char nonce[12], const unsigned char *aad,
                                       size_t aad_len, const unsigned char *input,
                                       unsigned char *output, unsigned char tag[16]) {
    EVP_CIPHER_CTX *c = crypt(1, ctx->key, nonce, aad, aad_len, input, output, length);
    int n;
    if (!c || EVP_CipherFinal_ex(c, output + length, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, tag) != 1)
        return MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
    return 0;
}

int mbedtls_chachapoly_auth_decrypt(mbedtls_chachapoly_context *ctx, size_t length,
                                    const unsigned char nonce[12], const unsigned char *aad,
                                    size_t aad_len, const unsigned char tag[16],
                                    const unsigned char *input, unsigned char *output) {
    EVP_CIPHER_CTX *c = crypt(0, ctx->key, nonce, aad, aad_len, input, output, length);
    unsigned char copy[16];
    int n;
    if (!c)
        return MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
    memcpy(copy, tag, sizeof copy);
    if (EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, sizeof copy, copy) == 1 &&
        EVP_CipherFinal_ex(c, output + length, &n) == 1)
        return 0;
    mbedtls_platform_zeroize(output, length);
    return MBEDTLS_ERR_CHACHAPOLY_AUTH_FAILED;
}
