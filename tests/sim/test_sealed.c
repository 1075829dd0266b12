/* The simulator sees nothing of the machine it runs on: a whole scenario runs in a process that may
 * not make a system call or read the time stamp counter; wherever its memory lies, and whatever lay
 * there before, the digest is the same. Which functions of libc it calls at all is checked by
 * tests/compile/test_symbols.sh. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "p2p_test.h"
#if defined(__linux__)
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define SEALED 1
#endif

enum { NODES = 4, ARENA = 16 << 20 };
#define MS     ((uint64_t)1000)
#define SECOND ((uint64_t)1000000)
static uint64_t memory[(ARENA + 256) / 8];
static p2p_sim *sim;
static p2p_node *nodes[NODES];
static p2p_id ids[NODES];

/* ---- the scenario: a bit of everything; the digest, or 0 when a call failed ---- */

static void faults(p2p_sim_desc *d) {
    memset(d, 0, sizeof *d);
    d->seed = 7;
    d->routing = P2P_SIM_ROUTING_LATENCY;
    d->link.latency_us = 5 * MS;
    d->link.jitter_us = 2 * MS;
    d->link.jitter = P2P_SIM_JITTER_NORMAL;
    d->link.loss_ppm = 20000;
    d->link.duplicate_ppm = d->link.reorder_ppm = d->link.corrupt_ppm = 10000;
    d->link.rate_bps = 20000000;
    d->link.queue_bytes = 60000;
    d->link.codel = 1;
    d->partition_ppm = d->oneway_ppm = 200000;
    d->name_fail_ppm = d->name_silent_ppm = 100000;
}
static int world_open(uint8_t *arena) {
    p2p_sim_desc net;
    p2p_desc nd;
    p2p_listener listener;
    int i, err;
    faults(&net);
    memset(&nd, 0, sizeof nd);
    nd.allow_anyone = 1;
    nd.max.conns = nd.max.conns_per_peer = 12;
    nd.max.streams = nd.max.peer_streams = 4;
    nd.bytes.message_max = 4096;
    nd.bytes.stream_send = nd.bytes.stream_recv = nd.bytes.peer_send = nd.bytes.peer_recv = 8192;
    err = p2p_sim_open(&sim, &net, arena, ARENA);
    if (err == 0)
        err = p2p_sim_mesh(sim, "node", NODES, &nd, nodes);
    for (i = 0; i < NODES && err == 0; i++) {
        ids[i] = *p2p_node_id(nodes[i]);
        err = p2p_listen(nodes[i], NULL, &listener);
        if (err == 0)
            err = p2p_register(nodes[i], i % 2 ? "odd" : "even");
    }
    return err;
}
static int events_take(p2p_node *node) {
    static uint8_t bytes[4096];
    p2p_event e;
    int n = 0;
    while (n < 1000 && p2p_next_event(node, &e) == 1) {
        n++;
        if (e.type == P2P_EVENT_READABLE)
            while (p2p_stream_read(node, e.stream, bytes, sizeof bytes) > 0) {}
    }
    return n;
}
static int talk(p2p_conn conn[NODES], uint64_t until_us) {
    static const uint8_t bytes[2000] = {1, 2, 3};
    p2p_stream stream;
    uint64_t t;
    int i, n = 0;
    for (t = p2p_sim_now(sim); t < until_us; t += 20 * MS) {
        if (p2p_sim_run_until(sim, t) < 0)
            return -1;
        for (i = 0; i < NODES; i++) {
            n += events_take(nodes[i]);
            (void)p2p_send(nodes[i], conn[i], bytes, 700);
            (void)p2p_datagram_send(nodes[i], conn[i], bytes, 100);
            if (p2p_stream_open(nodes[i], conn[i], NULL, &stream) == 0) {
                (void)p2p_stream_write(nodes[i], stream, bytes, sizeof bytes);
                (void)p2p_stream_finish(nodes[i], stream);
            }
        }
    }
    return n;
}
static int trouble(void) {
    p2p_sim_nat_desc nat;
    p2p_listener listener;
    int err;
    memset(&nat, 0, sizeof nat);
    nat.kind = P2P_SIM_NAT_PORT;
    err = p2p_sim_nat(sim, &ids[3], &nat);
    if (err == 0)
        err = p2p_sim_pause(sim, &ids[0]);
    if (err == 0)
        err = p2p_sim_clock(sim, &ids[1], 300, 2 * 1000000);
    if (err == 0)
        err = p2p_sim_drop(sim, &ids[0], &ids[1], 5, 5);
    if (err == 0)
        err = p2p_sim_crash(sim, &ids[2]);
    if (err == 0)
        err = p2p_sim_run_until(sim, p2p_sim_now(sim) + SECOND);
    if (err == 0)
        err = p2p_sim_resume(sim, &ids[0]);
    if (err == 0)
        err = p2p_sim_restart(sim, &ids[2], &nodes[2]);
    return err < 0 ? err : p2p_listen(nodes[2], NULL, &listener);
}
static uint64_t scenario(uint8_t *arena) {
    p2p_conn conn[NODES];
    uint64_t digest = 0;
    int i, round;
    memset(conn, 0, sizeof conn);
    if (world_open(arena) < 0)
        return 0;
    for (round = 0; round < 2; round++) {
        for (i = 0; i < NODES; i++)
            if (p2p_connect(nodes[i], &ids[(i + 1) % NODES], NULL, &conn[i]) < 0)
                return 0;
        (void)p2p_connect_name(nodes[0], "odd", NULL, &conn[0]);
        if (talk(conn, p2p_sim_now(sim) + 4 * SECOND) < 100 || trouble() < 0)
            return 0;
    }
    (void)p2p_sim_run_idle(sim, p2p_sim_now(sim) + 30 * SECOND);
    digest = p2p_sim_digest(sim);
    p2p_sim_close(sim);
    return digest;
}

/* ---- address and content of memory ---- */

TEST(memory_may_lie_anywhere) {
    uint64_t first = scenario((uint8_t *)memory);
    CHECK(first != 0);
    for (size_t at = 8; at < 256; at += 56) {
        memset(memory, (int)(0xa5 + at), sizeof memory); /* nor does it matter what was there */
        CHECK(scenario((uint8_t *)memory + at) == first);
    }
}

#ifdef SEALED
/* ---- other processes ---- */

/* What a child wrote, 0 if it wrote nothing; its wait status besides. */
static uint64_t child(void (*run)(int fd), int *status) {
    uint64_t digest = 0;
    int pipes[2];
    pid_t pid;
    if (pipe(pipes) != 0)
        return 0;
    pid = fork();
    if (pid == 0) {
        run(pipes[1]);
        (void)syscall(SYS_exit, 0); /* the only way out that strict mode leaves */
    }
    (void)close(pipes[1]);
    if (read(pipes[0], &digest, sizeof digest) != (ssize_t)sizeof digest)
        digest = 0;
    (void)close(pipes[0]);
    if (waitpid(pid, status, 0) != pid)
        *status = -1;
    return digest;
}
static void tell(int fd, uint64_t digest) {
    if (write(fd, &digest, sizeof digest) != (ssize_t)sizeof digest)
        (void)syscall(SYS_exit, 1);
}
enum { NO_SEAL = 1 };
/* From here on: read, write and exit alone, and on x86 no time stamp counter, by which vDSO's
 * clock_gettime would get round that. */
static void seal(int fd) {
#if defined(PR_SET_TSC) && (defined(__x86_64__) || defined(__i386__))
    (void)prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
#endif
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) {
        tell(fd, NO_SEAL);
        _exit(0);
    }
}
static void sealed_scenario(int fd) {
    seal(fd);
    tell(fd, scenario((uint8_t *)memory));
}
static void sealed_file(int fd) {
    seal(fd);
    tell(fd, (uint64_t)open("/dev/null", O_RDONLY));
}
static void sealed_clock(int fd) {
    struct timespec t;
    seal(fd);
    tell(fd, (uint64_t)clock_gettime(CLOCK_MONOTONIC, &t) + 2);
}
TEST(no_system_call_from_open_to_close) {
    int status;
    uint64_t open_digest = scenario((uint8_t *)memory), digest;
    CHECK(open_digest != 0);
    digest = child(sealed_scenario, &status);
    if (digest == NO_SEAL) {
        printf("    skipped: no strict mode of seccomp here\n");
        return;
    }
    CHECK_INT(status, 0);
    CHECK(digest == open_digest);
    digest = child(sealed_file, &status); /* the seal holds */
    CHECK(digest == 0 && WIFSIGNALED(status));
#if defined(__x86_64__)
    digest = child(sealed_clock, &status);
    CHECK(digest == 0 && WIFSIGNALED(status));
#else
    (void)sealed_clock;
#endif
}

/* This program anew, which then prints the digest: where its parts lie is drawn for each start. */
static const char *self;
static void anew(int fd, int randomized) {
    unsigned long how = randomized ? 0 : ADDR_NO_RANDOMIZE;
    if (personality(how) < 0 || dup2(fd, 1) < 0)
        return;
    (void)execl(self, self, "--digest", (char *)NULL);
}
static void anew_random(int fd) { anew(fd, 1); }
static void anew_fixed(int fd) { anew(fd, 0); }
TEST(programs_may_be_loaded_anywhere) {
    uint64_t first = scenario((uint8_t *)memory);
    int status;
    CHECK(first != 0);
    CHECK(child(anew_fixed, &status) == first);
    CHECK(child(anew_random, &status) == first);
    CHECK(child(anew_random, &status) == first);
}
#endif

int main(int argc, char **argv) {
    static const test_entry all[] = {
#ifdef SEALED
        P2P_TEST_ENTRY(no_system_call_from_open_to_close),
        P2P_TEST_ENTRY(programs_may_be_loaded_anywhere),
#endif
        P2P_TEST_ENTRY(memory_may_lie_anywhere)};
#ifdef SEALED
    self = "/proc/self/exe";
    if (argc == 2 && strcmp(argv[1], "--digest") == 0) {
        tell(1, scenario((uint8_t *)memory));
        return 0;
    }
#endif
    return test_run_all(all, sizeof all / sizeof *all, argc, argv);
}
