/* All of test_lwip.c with secure channel and crypto table named at compile time: connections over
 * DTLS and Ed25519, as firmware makes them. */
#define P2P_STATIC_SECURE p2p_mbedtls_api
#define P2P_STATIC_CRYPTO p2p_sodium_api
#include "test_lwip.c"
