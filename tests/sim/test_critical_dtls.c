/* The scenarios of test_critical.c on DTLS and Ed25519: mbedTLS and libsodium are needed. */
#define P2P_TEST_DTLS
#include "test_critical.c"
