/* All of test_lwip_threads.c without the core lock: what the program wants goes to lwIP's mailbox. */
#include "test_lwip_threads.c"
