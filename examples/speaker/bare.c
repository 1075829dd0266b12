/* bare.c: the few functions that libsodium's Ed25519 and SHA-256 ask of a system. */
#include "board.h"
#include "sodium/core.h"

int sodium_init(void);
void abort(void);

/* Its work is to choose code for the processor and to find entropy; here there is one choice, and
 * p2p.h brings the entropy. */
int sodium_init(void) { return 0; }

void abort(void) {
    board_print("abort\n");
    board_exit(98);
}
