/* The tests of p2p_posix.h once more, with one system call a datagram, as on systems without
 * batches. */
#define P2P_POSIX_NO_BATCHES
#include "test_posix.c"
