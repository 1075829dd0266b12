/* arena_small: arena, with records of at most 1280 bytes. */
#undef P2P_MBEDTLS_CONTENT
#define P2P_MBEDTLS_CONTENT 1280
#define ARENA_SMALL
#include "arena.c"
