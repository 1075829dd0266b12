/* clock.c: time and sleep. The FPGAIO block counts at 25 MHz; under QEMU's -icount that counter is
 * exact to the instruction, which the SysTick timer is not, so SysTick only wakes from sleep. */
#include "board.h"

enum { SYSTICK_MAX_US = 500000 };

static volatile uint32_t *const counter = (volatile uint32_t *)0x40028018;
static volatile uint32_t *const prescale = (volatile uint32_t *)0x4002801c;
static volatile uint32_t *const systick = (volatile uint32_t *)0xe000e010;

void board_systick(void);

void board_clock_start(void) { *prescale = 0; }

uint64_t board_ticks(void) {
    static uint32_t last, turns;
    uint32_t now = *counter;
    if (now < last)
        turns++;
    last = now;
    return (uint64_t)turns << 32 | now;
}

uint64_t board_now_us(void *ctx) {
    (void)ctx;
    return board_ticks() / 25;
}

/* One shot. */
void board_systick(void) { systick[0] = 0; }

/* With interrupts masked none can slip in between the look at the network and the sleep: wfi wakes
 * for a pending one all the same. */
void board_sleep_until(uint64_t until_us) {
    uint64_t now = board_now_us(NULL), us = until_us > now ? until_us - now : 0;
    if (us < 2)
        return;
    if (us > SYSTICK_MAX_US)
        us = SYSTICK_MAX_US;
    __asm__ volatile("cpsid i" ::: "memory");
    systick[1] = (uint32_t)us * 25 - 1;
    systick[2] = 0;
    systick[0] = 7;
    if (!board_eth_waiting())
        __asm__ volatile("wfi" ::: "memory");
    systick[0] = 0;
    __asm__ volatile("cpsie i" ::: "memory");
}
