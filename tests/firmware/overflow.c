/* overflow.c: four things that the checked image must not survive. */
#include "board.h"
#include <string.h>

void try_overflow(uint32_t kind);

static uint8_t global[13];

/* What the compiler cannot know the size of: then it is KASAN that has to find it. */
static volatile uint8_t *somewhere(uint8_t *at) {
    __asm__ volatile("" : "+r"(at));
    return at;
}

void try_overflow(uint32_t kind) {
    uint8_t local[13];
    volatile uint32_t by = sizeof global, shift = 35;
    memset(local, 1, sizeof local);
    switch (kind) {
    case 1: somewhere(global)[by] = 1; break;
    case 2: somewhere(local)[by] = 1; break;
    case 3: memset((uint8_t *)somewhere(global), 1, by + 1); break;
    default: by = 1u << shift; break;
    }
    board_print_line("survived", global[by - 1] + local[0]);
}
