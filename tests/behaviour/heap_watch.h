/* heap_watch.h: counts every allocation of the process while it is armed, those of libraries too.
 *
 * The program brings malloc and its family itself and hands them on to the C library's; under
 * AddressSanitizer its hooks count instead. Under valgrind, which puts its own in their place,
 * nothing is counted. */
#ifndef HEAP_WATCH_H
#define HEAP_WATCH_H
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* volatile: the compiler takes for granted that malloc changes no variable of the program. */
static struct {
    volatile int armed;
    volatile unsigned long calls;
} heap_watch;

static void heap_note(void) {
    if (heap_watch.armed)
        heap_watch.calls++;
}

/* Whether anything is counted here at all. */
static int heap_watch_works(void) {
    const char *preload = getenv("LD_PRELOAD");
    return !preload || !strstr(preload, "vgpreload");
}

#if defined(__SANITIZE_ADDRESS__)
/* Of the sanitizer's runtime; gcc does not install the header that declares it. */
extern int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *,
                                                                       size_t),
                                                     void (*on_free)(const volatile void *));
static void heap_on_malloc(const volatile void *block, size_t size) {
    (void)block;
    (void)size;
    heap_note();
}
static void heap_on_free(const volatile void *block) { (void)block; }
static void heap_watch_install(void) {
    static int done;
    if (!done++)
        (void)__sanitizer_install_malloc_and_free_hooks(heap_on_malloc, heap_on_free);
}
#else
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

void *malloc(size_t size) {
    heap_note();
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    heap_note();
    return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size) {
    heap_note();
    return __libc_realloc(block, size);
}
void *memalign(size_t align, size_t size) {
    heap_note();
    return __libc_memalign(align, size);
}
void *aligned_alloc(size_t align, size_t size) {
    heap_note();
    return __libc_memalign(align, size);
}
int posix_memalign(void **out, size_t align, size_t size) {
    heap_note();
    *out = __libc_memalign(align, size);
    return *out ? 0 : ENOMEM;
}
static void heap_watch_install(void) {}
#endif
#endif
