/* All of test_lwip.c that an lwIP without IPv6 can do. */
#include "test_lwip.c"
