/* p2p.c: the one file that holds the library and its ports. What is left out of it stands in
 * tools/firmware.mk, since every file has to see the same. */
#define P2P_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_LWIP_IMPLEMENTATION
#include "p2p.h"
#include "p2p_lwip.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
