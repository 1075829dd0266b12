/* p2p_test.h: the test runner. Own code, stdio and getenv only, C99 and C++11.
 *
 *     #include "p2p_test.h"
 *     TEST(adds) { CHECK_INT(1 + 1, 2); }
 *     TEST_MAIN(P2P_TEST_ENTRY(adds))
 *
 * A failing check prints where and what, marks the test failed and returns from the function that
 * it stands in, which must be void. After a call of a helper with checks write CHECK_SO_FAR().
 *
 * Random tests: for (int i = 0; i < test_seeds(20); i++) { uint64_t seed = test_seed(); ... }
 * The seeds of a test are always the same ones in the same order. SEEDS=200 runs more of them,
 * SEED=n only that one; a failure prints the command that does. Arguments select tests by name.
 * The last line is "N passed, N failed"; the exit code is 1 when a test failed. */
#ifndef P2P_TEST_H
#define P2P_TEST_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test_entry {
    const char *name;
    void (*run)(void);
} test_entry;

static struct {
    const char *program, *name;
    uint64_t seed, drawn;
    int failed;
} test_state;

#define TEST(name) static void test_##name(void)
#define P2P_TEST_ENTRY(name) \
    { #name, test_##name }
#define TEST_MAIN(...)                                                  \
    int main(int argc, char **argv) {                                   \
        static const test_entry all[] = {__VA_ARGS__};                  \
        return test_run_all(all, sizeof all / sizeof *all, argc, argv); \
    }
#define CHECK(condition)                                        \
    do {                                                        \
        if (!(condition)) {                                     \
            test_fail(__FILE__, __LINE__);                      \
            printf("    this does not hold: %s\n", #condition); \
            return;                                             \
        }                                                       \
    } while (0)
#define CHECK_INT(a, b)                                                                  \
    do {                                                                                 \
        long long test_a_ = (long long)(a), test_b_ = (long long)(b);                    \
        if (test_a_ != test_b_) {                                                        \
            test_fail(__FILE__, __LINE__);                                               \
            printf("    %s is %lld, not %s, which is %lld\n", #a, test_a_, #b, test_b_); \
            return;                                                                      \
        }                                                                                \
    } while (0)
#define CHECK_STR(a, b)                                                                       \
    do {                                                                                      \
        const char *test_a_ = (a), *test_b_ = (b);                                            \
        if (!test_a_ || !test_b_ || strcmp(test_a_, test_b_) != 0) {                          \
            test_fail(__FILE__, __LINE__);                                                    \
            printf("    %s is \"%s\", not %s, which is \"%s\"\n", #a, test_text(test_a_), #b, \
                   test_text(test_b_));                                                       \
            return;                                                                           \
        }                                                                                     \
    } while (0)
#define CHECK_BYTES(a, b, size)                                                         \
    do {                                                                                \
        const void *test_a_ = (a), *test_b_ = (b);                                      \
        size_t test_at_ = test_differ(test_a_, test_b_, (size));                        \
        if (test_at_ != (size_t)(size)) {                                               \
            test_fail(__FILE__, __LINE__);                                              \
            printf("    %s and %s differ at byte %lu: %02x, %02x\n", #a, #b,            \
                   (unsigned long)test_at_, ((const unsigned char *)test_a_)[test_at_], \
                   ((const unsigned char *)test_b_)[test_at_]);                         \
            return;                                                                     \
        }                                                                               \
    } while (0)
#define CHECK_SO_FAR()         \
    do {                       \
        if (test_state.failed) \
            return;            \
    } while (0)

static inline const char *test_text(const char *text) { return text ? text : "(null)"; }

static inline size_t test_differ(const void *a, const void *b, size_t size) {
    size_t i = 0;
    while (i < size && ((const unsigned char *)a)[i] == ((const unsigned char *)b)[i])
        i++;
    return i;
}

static inline void test_fail(const char *file, int line) {
    test_state.failed = 1;
    printf("FAIL %s at %s:%d\n", test_state.name, file, line);
    if (test_state.drawn)
        printf("    replay: SEED=%llu %s %s\n", (unsigned long long)test_state.seed,
               test_state.program, test_state.name);
}

/* How many seeds a random test runs: 1 when SEED fixes it, else SEEDS, else what the test asks. */
static inline int test_seeds(int by_default) {
    const char *text = getenv("SEEDS");
    if (test_state.failed)
        return 0;
    if (getenv("SEED"))
        return 1;
    return text && atoi(text) > 0 ? atoi(text) : by_default;
}

static inline uint64_t test_seed(void) {
    const char *text = getenv("SEED");
    uint64_t x = ++test_state.drawn * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    test_state.seed = text ? strtoull(text, NULL, 10) : (x ^ (x >> 31)) % 1000000000u;
    return test_state.seed;
}

static inline int test_wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return 1;
    return argc < 2;
}

static inline int test_run_all(const test_entry *all, size_t count, int argc, char **argv) {
    int passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    for (size_t i = 0; i < count; i++) {
        if (!test_wanted(all[i].name, argc, argv))
            continue;
        memset(&test_state, 0, sizeof test_state);
        test_state.program = argv[0];
        test_state.name = all[i].name;
        all[i].run();
        passed += !test_state.failed;
        failed += test_state.failed;
    }
    if (passed + failed == 0 && argc > 1) {
        printf("no test is called %s\n", argv[1]);
        failed = 1;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
#endif
