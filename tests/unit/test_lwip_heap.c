/* All of test_lwip.c, each pbuf an allocation of its own: AddressSanitizer sees what writes beyond
 * one, and a shortage is malloc's. */
#include "test_lwip.c"
