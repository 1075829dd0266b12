/* link_retry: link, with a node that admits nobody without a cookie, as one under load. */
#define P2P_ADMIT_PER_S 0
#include "link.c"
