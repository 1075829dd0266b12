/* semihost.c: console, arguments and exit code by ARM semihosting, which QEMU and debuggers have.
 * There is no stdio: newlib's would bring malloc. */
#include "board.h"
#include <string.h>

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE0 = 0x04,
    SYS_READ = 0x06,
    SYS_GET_CMDLINE = 0x15,
    SYS_EXIT_EXTENDED = 0x20,
    APPLICATION_EXIT = 0x20026,
    ARGUMENTS = 640
};

static intptr_t call(uintptr_t operation, const void *block) {
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (intptr_t)r0;
}

/* ---- console --------------------------------------------------------------------------------- */

void board_print(const char *text) { (void)call(SYS_WRITE0, text); }

void board_print_number(uint64_t value) {
    char text[21];
    int at = 20;
    text[at] = 0;
    do {
        text[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
    } while (value > 0);
    board_print(text + at);
}

void board_print_line(const char *name, uint64_t value) {
    board_print(name);
    board_print(" ");
    board_print_number(value);
    board_print("\n");
}

void board_exit(int code) {
    const uintptr_t block[2] = {APPLICATION_EXIT, (uintptr_t)code};
    (void)call(SYS_EXIT_EXTENDED, block);
    for (;;)
        ;
}

/* ---- arguments ------------------------------------------------------------------------------- */

/* Blanks become ends of texts, so that a value can be handed out as it stands. */
static char arguments[ARGUMENTS];
static size_t arguments_size;

static void fetch_arguments(void) {
    const struct {
        char *text;
        uintptr_t size;
    } block = {arguments, sizeof arguments - 1};
    size_t i;
    if (call(SYS_GET_CMDLINE, &block) != 0)
        arguments[0] = 0;
    arguments_size = strlen(arguments) + 1;
    for (i = 0; i < arguments_size; i++)
        if (arguments[i] == ' ')
            arguments[i] = 0;
}

const char *board_arg(const char *name) {
    size_t size = strlen(name), at;
    if (arguments_size == 0)
        fetch_arguments();
    for (at = 0; at < arguments_size; at += strlen(arguments + at) + 1)
        if (strncmp(arguments + at, name, size) == 0 && arguments[at + size] == '=')
            return arguments + at + size + 1;
    return NULL;
}

uint32_t board_arg_number(const char *name, uint32_t otherwise) {
    const char *text = board_arg(name);
    uint32_t value = 0;
    if (text == NULL || *text == 0)
        return otherwise;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint32_t)(*text - '0');
    return value;
}

/* ---- random bytes ---------------------------------------------------------------------------- */

static int host_random(void *out, size_t size) {
    static const char path[] = "/dev/urandom";
    const uintptr_t open[3] = {(uintptr_t)path, 1 /* "rb" */, sizeof path - 1};
    intptr_t file = call(SYS_OPEN, open), left;
    uintptr_t read[3];
    if (file < 0)
        return -1;
    read[0] = (uintptr_t)file;
    read[1] = (uintptr_t)out;
    read[2] = size;
    left = call(SYS_READ, read); /* how many bytes are missing */
    (void)call(SYS_CLOSE, read);
    return left == 0 ? 0 : -1;
}

/* SplitMix64: for tests, which must be able to repeat a run; it is no generator for secrets. */
static uint64_t next_number(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int board_random(void *ctx, void *out, size_t size) {
    static uint64_t state;
    uint8_t *at = (uint8_t *)out;
    (void)ctx;
    if (board_arg("seed") == NULL)
        return host_random(out, size);
    if (state == 0)
        state = (uint64_t)board_arg_number("seed", 1) << 32 | 1;
    for (; size > 0; size--)
        *at++ = (uint8_t)(next_number(&state) >> 56);
    return 0;
}
