/* startup.c: from reset to main on a Cortex-M3 or M4, and what happens when something faults.
 *
 * The stack lies at the very start of RAM (see speaker.ld): one that grows too deep leaves RAM and
 * faults, instead of eating variables in silence. Below it is painted, so that a test can read how
 * deep it went. A fault prints where it was and ends the program with code 99. */
#include "board.h"

enum { PAINT = 0x50a1175c, EXIT_FAULT = 99, VECTORS = 16 + 32 };

extern uint32_t stack_bottom[], stack_top[];
extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[];

int main(void);
void board_reset(void);
void board_fault(void);
void board_systick(void);
void board_eth_irq(void);
/* Of an image that checks its own accesses to memory. */
void board_checks_start(void) __attribute__((weak));

static volatile uint32_t *reg(uint32_t address) { return (volatile uint32_t *)address; }

uint32_t board_stack_used(void) {
    const uint32_t *at = stack_bottom;
    while (at < stack_top && *at == (uint32_t)PAINT)
        at++;
    return (uint32_t)(stack_top - at) * 4;
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void print_hex(const char *name, uint32_t value) {
    char text[10];
    int i;
    for (i = 0; i < 8; i++)
        text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    text[8] = ' ';
    text[9] = 0;
    board_print(name);
    board_print(text);
}

/* `frame` is what the processor pushed: r0 to r3, r12, lr, pc, xpsr. It lies outside of RAM when
 * the stack overflowed. */
static __attribute__((used, noreturn)) void fault(const uint32_t *frame) {
    board_print("FAULT ");
    if (frame >= stack_bottom && frame + 8 <= stack_top) {
        print_hex("pc=", frame[6]);
        print_hex("lr=", frame[5]);
    } else {
        board_print("stack overflow ");
    }
    print_hex("cfsr=", *reg(0xe000ed28));
    print_hex("bfar=", *reg(0xe000ed38));
    board_print("\n");
    board_exit(EXIT_FAULT);
}

/* Goes on with a fresh stack: the old one may be what is broken. */
__attribute__((naked)) void board_fault(void) {
    __asm__ volatile("mov r0, sp\n"
                     "ldr r1, =stack_top\n"
                     "mov sp, r1\n"
                     "b fault\n");
}

/* ---- reset ----------------------------------------------------------------------------------- */

static __attribute__((used, noreturn)) void start(void) {
    const uint32_t *from = data_load;
    uint32_t *to;
    for (to = data_start; to < data_end;)
        *to++ = *from++;
    for (to = bss_start; to < bss_end;)
        *to++ = 0;
    *reg(0xe000ed24) |= 7u << 16; /* SHCSR: memory, bus and usage faults are told apart */
    *reg(0xe000ed14) |= 1u << 4;  /* CCR: a division by zero is one */
    if (board_checks_start)
        board_checks_start();
    board_clock_start();
    board_exit(main());
}

/* Paints the stack before anything uses it. */
__attribute__((naked)) void board_reset(void) {
    __asm__ volatile("ldr r0, =stack_bottom\n"
                     "ldr r1, =stack_top\n"
                     "ldr r2, =0x50a1175c\n"
                     "1: str r2, [r0], #4\n"
                     "cmp r0, r1\n"
                     "blo 1b\n"
                     "b start\n");
}

typedef void (*vector)(void);
/* The first one is not a function but where the stack begins. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    vector entry[VECTORS - 1];
} vectors = {stack_top,
             {[0] = board_reset, /* vector 1 */
              [1] = board_fault, /* NMI */
              [2] = board_fault,
              [3] = board_fault,
              [4] = board_fault,
              [5] = board_fault,
              [10] = board_fault, /* SVCall */
              [13] = board_fault, /* PendSV */
              [14] = board_systick,
              [15 + 13] = board_eth_irq}};
