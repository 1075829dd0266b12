/* mbedtls_config.h: the mbedTLS 3.6 configuration that ports/p2p_mbedtls.h is tested with.
 *
 * Build mbedTLS with
 *     -DMBEDTLS_CONFIG_FILE='<mbedtls_config.h>' -Iports
 * (in quotes instead of angle brackets the compiler would find mbedTLS's own file of that name)
 * and nothing of it touches a heap, stdio, a clock or an entropy source of its own: memory is the
 * session's slab, random bytes come from the node. A larger configuration, such as the one of an
 * SDK, serves as well when it has what stands below. SPDX-License-Identifier: MIT-0 */
#ifndef P2P_MBEDTLS_CONFIG_H
#define P2P_MBEDTLS_CONFIG_H

/* Largest plaintext of a record; it lies in a datagram that is 38 bytes longer. With an operating
 * system it serves loopback and most of a jumbo frame, where larger datagrams cost half the time;
 * without one, memory counts, and 1280 serves Ethernet inside an IPv6 tunnel. Each session's slab
 * holds two buffers of it: define another value for the whole build, mbedTLS and programs, and
 * P2P_MBEDTLS_SLAB follows. mbedTLS had overflows with lengths below 571, so smaller values are
 * refused by the port. */
#ifndef P2P_MBEDTLS_CONTENT
#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#define P2P_MBEDTLS_CONTENT 8192
#else
#define P2P_MBEDTLS_CONTENT 1280
#endif
#endif

/* Memory: the port installs its allocator at run time and no libc function is the default. */
#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_PLATFORM_NO_STD_FUNCTIONS

/* DTLS 1.2, both roles. Renegotiation, tickets, HelloVerifyRequest, certificates are left out: the
 * protocol has no use for them, and what is not compiled cannot be reached. The replay window is
 * left out because p2p.h drops repeated packets by number, over a wider window. */
#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_SRV_C
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_SSL_PROTO_DTLS
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_SSL_IN_CONTENT_LEN     P2P_MBEDTLS_CONTENT
#define MBEDTLS_SSL_OUT_CONTENT_LEN    P2P_MBEDTLS_CONTENT
/* Handshake messages that came too early are kept up to this many bytes, for a peer that has
 * proved nothing yet. */
#define MBEDTLS_SSL_DTLS_MAX_BUFFERING 2048

/* One suite, one group. */
#define MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED
#define MBEDTLS_SSL_CIPHERSUITES MBEDTLS_TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256
#define MBEDTLS_PSK_MAX_LEN      32
#define MBEDTLS_MD_C
#define MBEDTLS_SHA256_C
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_ECP_C
#define MBEDTLS_ECDH_C
#define MBEDTLS_ECP_DP_CURVE25519_ENABLED
/* The formally verified X25519 takes a quarter of the time of the generic one. */
#define MBEDTLS_ECDH_VARIANT_EVEREST_ENABLED
#define MBEDTLS_CIPHER_C
#define MBEDTLS_CHACHA20_C
#define MBEDTLS_POLY1305_C
#define MBEDTLS_CHACHAPOLY_C
/* Another implementation under the records: see ports/chachapoly_alt.h. */
#if defined(P2P_MBEDTLS_CHACHAPOLY_SODIUM) || defined(P2P_MBEDTLS_CHACHAPOLY_OPENSSL)
#define MBEDTLS_CHACHAPOLY_ALT
#endif

#endif /* P2P_MBEDTLS_CONFIG_H */
