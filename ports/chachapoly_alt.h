/* chachapoly_alt.h: another ChaCha20-Poly1305 under mbedTLS's records.
 *
 * mbedTLS asks for a file of this name when MBEDTLS_CHACHAPOLY_ALT is defined, which
 * ports/mbedtls_config.h does when P2P_MBEDTLS_CHACHAPOLY_SODIUM or P2P_MBEDTLS_CHACHAPOLY_OPENSSL
 * is. Compile ports/chachapoly_alt.c into mbedTLS together with ports/chachapoly_sodium.c or
 * ports/chachapoly_openssl.c. With libsodium records take about half the time on a desktop, with
 * OpenSSL a quarter; a microcontroller keeps mbedTLS's own cipher. The bytes on the wire are the
 * same. SPDX-License-Identifier: MIT-0 */
#ifndef P2P_CHACHAPOLY_ALT_H
#define P2P_CHACHAPOLY_ALT_H

typedef struct mbedtls_chachapoly_context {
    unsigned char key[32];
} mbedtls_chachapoly_context;

#endif
