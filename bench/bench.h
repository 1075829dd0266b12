/* bench.h: what all programs of the bench share. One run of one program measures one thing between
 * two or more processes and prints lines
 *
 *     NAME UNIT VALUE              a figure
 *     skip NAME WHY...             none of that name or beginning with NAME_, and the reason
 *
 * bench.py runs them several times and takes medians.
 *
 *     PROGRAM MODE [NAME]
 *
 * Environment: BENCH_SHRINK=10 makes every transfer ten times shorter, to see that all works.
 * LINK_A, LINK_B: set by linkem; the serving process then lives at end a, the dialling one at b. */
#ifndef BENCH_H
#define BENCH_H
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_S = 100 }; /* for one mode */

static inline void die(const char *what) {
    (void)fprintf(stderr, "bench: %s failed%s%s\n", what, errno ? ": " : "",
                  errno ? strerror(errno) : "");
    exit(1);
}

/* ---- figures ------------------------------------------------------------------------------- */

static inline uint64_t now_us(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
        die("clock_gettime");
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static inline void sleep_until(uint64_t at_us) {
    struct timespec t;
    t.tv_sec = (time_t)(at_us / 1000000u);
    t.tv_nsec = (long)(at_us % 1000000u * 1000u);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

/* Of a process so far; 0: of this one. */
static inline uint64_t cpu_us(pid_t process) {
    clockid_t clock;
    struct timespec t;
    errno = clock_getcpuclockid(process, &clock);
    if (errno || clock_gettime(clock, &t) < 0)
        die("clock_getcpuclockid");
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static inline uint64_t setting(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* A size or a duration, made shorter by BENCH_SHRINK. */
static inline uint64_t scaled(uint64_t full) {
    uint64_t n = full / setting("BENCH_SHRINK", 1);
    return n ? n : 1;
}

static inline int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sorts; the value below which `percent` of them lie. */
static inline uint64_t percentile(uint64_t *values, size_t count, size_t percent) {
    qsort(values, count, sizeof *values, by_value);
    return values[(count - 1) * percent / 100];
}

static inline void row(const char *name, const char *unit, double value) {
    (void)printf("%s %s %.6g\n", name, unit, value);
}

/* The row NAME_WHAT. */
static inline void row_of(const char *name, const char *what, const char *unit, double value) {
    char text[64];
    (void)snprintf(text, sizeof text, "%s_%s", name, what);
    row(text, unit, value);
}

static inline void row_skip(const char *name, const char *why) {
    (void)printf("skip %s %s\n", name, why);
}

static inline double mbit(uint64_t bytes, uint64_t us) { return (double)bytes * 8 / (double)us; }

/* NAME_mbit and NAME_cpu_s_per_gib of a transfer. */
static inline void row_bulk(const char *name, uint64_t bytes, uint64_t us, uint64_t all_cpu_us) {
    row_of(name, "mbit", "Mbit/s", mbit(bytes, us));
    row_of(name, "cpu_s_per_gib", "s",
           (double)all_cpu_us / 1e6 * (double)(1u << 30) / (double)bytes);
}

/* ---- processes ----------------------------------------------------------------------------- */

/* Memory that processes forked later share. */
static inline void *shared(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        die("mmap");
    return at;
}

/* A child that dies with its parent. */
static inline pid_t child_fork(void) {
    pid_t child;
    (void)fflush(stdout);
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

static inline void child_wait(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) < 0 || status != 0)
        die("the other process");
}

static inline void child_kill(pid_t child) {
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}

static inline void say(int fd, const void *data, size_t size) {
    if (write(fd, data, size) != (ssize_t)size)
        die("writing to the other process");
}

static inline void hear(int fd, void *data, size_t size) {
    uint8_t *at = (uint8_t *)data;
    ssize_t n;
    for (; size > 0; at += n, size -= (size_t)n) {
        n = read(fd, at, size);
        if (n <= 0)
            die("reading from the other process");
    }
}

/* ---- places -------------------------------------------------------------------------------- */

/* Moves this process to end 'a' or 'b' of the link; on loopback both are where it is. */
static inline void place_enter(char end) {
    const char *fd = getenv(end == 'a' ? "LINK_A" : "LINK_B");
    if (fd && setns(atoi(fd), CLONE_NEWNET) < 0)
        die("setns");
}

static inline const char *place_host(char end) {
    if (!getenv("LINK_A"))
        return "127.0.0.1";
    return end == 'a' ? "10.9.0.1" : "10.9.0.2";
}

static inline struct sockaddr_in place_addr(char end, uint16_t port) {
    struct sockaddr_in at;
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    if (inet_pton(AF_INET, place_host(end), &at.sin_addr) != 1)
        die("inet_pton");
    return at;
}

/* A child at end a; it serves until it is killed, and first says where, in `size` bytes of `out`.
 * The caller goes to end b. */
static inline pid_t serve_begin(void (*serve)(int say_to), void *out, size_t size) {
    int fds[2];
    pid_t child;
    if (pipe(fds) < 0)
        die("pipe");
    child = child_fork();
    if (child == 0) {
        (void)close(fds[0]);
        place_enter('a');
        serve(fds[1]);
        exit(0);
    }
    (void)close(fds[1]);
    place_enter('b');
    hear(fds[0], out, size);
    (void)close(fds[0]);
    return child;
}

/* ---- modes --------------------------------------------------------------------------------- */

typedef struct mode {
    const char *name;
    void (*run)(const char *row_name); /* argv[2], or the mode's name */
} mode;

/* Whatever happens, nothing runs on: not without the program that asked, and not for long. */
static inline int bench_main(int argc, char **argv, const mode *modes, size_t count) {
    size_t i;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm(LONGEST_S);
    for (i = 0; i < count; i++)
        if (argc >= 2 && argc <= 3 && strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run(argv[argc - 1]);
            return fflush(stdout) == 0 ? 0 : 1;
        }
    (void)fputs("usage: PROGRAM MODE [NAME]; modes:", stderr);
    for (i = 0; i < count; i++)
        (void)fprintf(stderr, " %s", modes[i].name);
    (void)fputs("\n", stderr);
    return 2;
}
#endif
