/* board.h: what the speaker asks of a board. The files of this directory that implement it, for the
 * MPS2 boards with a Cortex-M3 or M4 that QEMU has: startup.c, semihost.c, clock.c, lan9118.c. On
 * another board these four files, and the linker script, are what is written anew. */
#ifndef BOARD_H
#define BOARD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- start and end (startup.c) --------------------------------------------------------------- */

/* Bytes of stack that were used at the deepest since start: the stack is painted before main. */
uint32_t board_stack_used(void);

/* ---- console, arguments, exit: semihosting (semihost.c) -------------------------------------- */

void board_print(const char *text);
void board_print_number(uint64_t value);
/* "name value\n" */
void board_print_line(const char *name, uint64_t value);
void board_exit(int code) __attribute__((noreturn));
/* The value of the argument "name=value", or NULL. Arguments are separated by blanks. */
const char *board_arg(const char *name);
uint32_t board_arg_number(const char *name, uint32_t otherwise);
/* Random bytes: 0, or < 0. Firmware for a product takes them from the chip's generator; here they
 * are the host's, or with the argument "seed=N" a sequence that tests can repeat. */
int board_random(void *ctx, void *out, size_t size);

/* ---- time (clock.c) -------------------------------------------------------------------------- */

void board_clock_start(void);
/* Ticks of 40 ns since start. Call it at least every 170 s, or it loses a turn of its counter. */
uint64_t board_ticks(void);
uint64_t board_now_us(void *ctx);
/* Sleeps until then, until an interrupt, or until a frame waits. */
void board_sleep_until(uint64_t until_us);

/* ---- Ethernet (lan9118.c) -------------------------------------------------------------------- */

/* 0, or < 0 when there is no such chip. */
int board_eth_start(const uint8_t mac[6]);
bool board_eth_link(void);
/* Whether a frame waits; while none does, the next one interrupts board_sleep_until. */
bool board_eth_waiting(void);
/* Bytes of the frame that waits, 0 for a damaged one, which is dropped. */
uint32_t board_eth_size(void);
/* The frame's next bytes, in pieces; every piece but the last one is a multiple of 4. */
void board_eth_read(void *out, uint32_t size);
/* What of the frame was not read is dropped with it. */
void board_eth_done(void);
/* A frame to send of so many bytes, at least 14, in pieces; false: the chip has no room for it. */
bool board_eth_begin(uint32_t size);
void board_eth_write(const void *data, uint32_t size);
void board_eth_end(void);

#endif
