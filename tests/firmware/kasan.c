/* kasan.c: what gcc's -fsanitize=kernel-address calls, for a chip without an operating system.
 *
 * Of every 8 bytes of RAM a byte of shadow says how many may be touched: 0 all of them, 1 to 7 that
 * many, negative none. The compiler poisons the surroundings of variables on the stack by itself,
 * and has those of globals registered by constructors. Accesses outside of RAM, to flash and to
 * devices, are not judged. What is wrong is told, and ends the program with code 77. It is compiled
 * without checks of its own. The copying functions of libc, which are not instrumented, are checked
 * here at both ends of every call (--wrap). */
#include "board.h"

enum { RAM = 0x20000000, RAM_BYTES = 1 << 20, SHADOW = 0x20200000, EXIT_KASAN = 77 };

typedef void (*constructor)(void);
extern constructor init_array_start[], init_array_end[];
extern void board_checks_start(void);
extern void try_overflow(uint32_t kind);
extern void *__real_memcpy(void *to, const void *from, size_t size);
extern void *__real_memmove(void *to, const void *from, size_t size);
extern void *__real_memset(void *to, int value, size_t size);

/* Laid out by the compiler. */
typedef struct global {
    uintptr_t begin, size, size_with_zone;
    const char *name, *module;
    uintptr_t has_dynamic_init, location, odr;
} global;

static int8_t *shadow_of(uintptr_t at) {
    return (int8_t *)(uintptr_t)(SHADOW + (at - (uintptr_t)RAM) / 8);
}

static bool allowed(uintptr_t at) {
    int8_t shadow = *shadow_of(at);
    return shadow == 0 || (int8_t)(at & 7) < shadow;
}

static void tell(const char *what, uintptr_t at, const void *caller) {
    board_print("KASAN ");
    board_print(what);
    board_print_line(" at", at);
    board_print_line("called from", (uintptr_t)caller);
    board_exit(EXIT_KASAN);
}

static void check(uintptr_t at, size_t size, const char *what, const void *caller) {
    uintptr_t end = at + size;
    if (at < RAM || at >= (uintptr_t)RAM + RAM_BYTES || size == 0)
        return;
    for (; at < end; at = (at | 7) + 1)
        if (!allowed(at))
            tell(what, at, caller);
    if (!allowed(end - 1))
        tell(what, end - 1, caller);
}

#define CALLER __builtin_return_address(0)
#define ACCESS(n)                                                                 \
    void __asan_load##n##_noabort(uintptr_t at);                                  \
    void __asan_load##n##_noabort(uintptr_t at) { check(at, n, "read", CALLER); } \
    void __asan_store##n##_noabort(uintptr_t at);                                 \
    void __asan_store##n##_noabort(uintptr_t at) { check(at, n, "write", CALLER); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __asan_loadN_noabort(uintptr_t at, size_t size);
void __asan_loadN_noabort(uintptr_t at, size_t size) { check(at, size, "read", CALLER); }
void __asan_storeN_noabort(uintptr_t at, size_t size);
void __asan_storeN_noabort(uintptr_t at, size_t size) { check(at, size, "write", CALLER); }
void __asan_handle_no_return(void);
void __asan_handle_no_return(void) {}

/* ---- libc ------------------------------------------------------------------------------------ */

void *__wrap_memcpy(void *to, const void *from, size_t size);
void *__wrap_memcpy(void *to, const void *from, size_t size) {
    check((uintptr_t)from, size, "copy from", CALLER);
    check((uintptr_t)to, size, "copy to", CALLER);
    return __real_memcpy(to, from, size);
}

void *__wrap_memmove(void *to, const void *from, size_t size);
void *__wrap_memmove(void *to, const void *from, size_t size) {
    check((uintptr_t)from, size, "move from", CALLER);
    check((uintptr_t)to, size, "move to", CALLER);
    return __real_memmove(to, from, size);
}

void *__wrap_memset(void *to, int value, size_t size);
void *__wrap_memset(void *to, int value, size_t size) {
    check((uintptr_t)to, size, "set", CALLER);
    return __real_memset(to, value, size);
}

/* ---- globals --------------------------------------------------------------------------------- */

void __asan_register_globals(const global *list, size_t count);
void __asan_register_globals(const global *list, size_t count) {
    size_t i;
    uintptr_t at;
    for (i = 0; i < count; i++) {
        const global *g = &list[i];
        if (g->begin < RAM || g->begin >= (uintptr_t)RAM + RAM_BYTES)
            continue; /* a constant, in flash */
        at = g->begin + g->size;
        if ((at & 7) != 0)
            *shadow_of(at) = (int8_t)(at & 7);
        for (at = (at + 7) & ~(uintptr_t)7; at < g->begin + g->size_with_zone; at += 8)
            *shadow_of(at) = -7;
    }
}

void __asan_unregister_globals(const global *list, size_t count);
void __asan_unregister_globals(const global *list, size_t count) {
    (void)list;
    (void)count;
}

/* Before main. With the argument "overflow=N" it shows that the checks work. */
void board_checks_start(void) {
    constructor *next;
    uint32_t i;
    for (i = 0; i < RAM_BYTES / 8; i++)
        *(int8_t *)(uintptr_t)(SHADOW + i) = 0;
    for (next = init_array_start; next < init_array_end; next++)
        (*next)();
    if (board_arg_number("overflow", 0) != 0)
        try_overflow(board_arg_number("overflow", 0));
}
