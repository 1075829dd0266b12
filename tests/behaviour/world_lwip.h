/* world_lwip.h: the world where each node's datagrams go through an lwIP in a process of its own,
 * and Ethernet frames go between the processes.
 *
 * lwIP has globals, so there is one stack a process; the cases call nodes directly, all from one
 * process. Both are true at once because a node is nothing but its arena, and an arena may be
 * shared: the cases call p2p_* here, while the node's child process, which maps the same memory at
 * the same place, does what touches the network: p2p_input, p2p_poll, p2p_output, by way of
 * ports/p2p_lwip.h. Only one of both runs at a time: the child does a turn when it is told to, and
 * says when it is done.
 *
 * Shared are the arenas and all data of this program, since hooks and lent buffers are the cases'
 * own. Not shared are lwIP's and the port's globals, which lie in a library. */
#ifndef WORLD_LWIP_H
#define WORLD_LWIP_H
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child is told to do. */
enum { CHILD_OPEN = 'o', CHILD_TURN = 't', CHILD_LEAVE = 'l', CHILD_END = 'e' };

static int cables[WORLD_NODES][WORLD_NODES]; /* of a node, to another one */

static uint64_t world_now(void) { return lwip_stack_now_us(NULL); }

/* Puts a shared mapping with the same bytes in the place of .data and .bss. By system calls alone:
 * this copies what lies between the variables, too, and under AddressSanitizer nobody may read
 * that. */
static void share_data(void) {
    extern char data_start[], _end[];
    static int done;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)data_start & ~(page - 1);
    size_t size = (((uintptr_t)_end + page - 1) & ~(page - 1)) - from;
    size_t at = 0;
    int file;
    if (done++)
        return;
    file = memfd_create("data", MFD_CLOEXEC);
    while (file >= 0 && at < size) {
        long n = syscall(SYS_write, file, from + at, size - at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    CHECK_INT(at, size);
    CHECK(syscall(SYS_mmap, from, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) ==
          (long)from);
    close(file);
}

static void network_open(void) {
    share_data();
    CHECK_SO_FAR();
    for (int i = 0; i < WORLD_NODES; i++) {
        cables[i][i] = -1;
        for (int j = 0; j < i; j++) {
            int pair[2];
            CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
            cables[i][j] = pair[0];
            cables[j][i] = pair[1];
        }
    }
}

static void network_close(void) {
    for (int i = 0; i < WORLD_NODES; i++)
        for (int j = 0; j < WORLD_NODES; j++)
            if (cables[i][j] > 0)
                close(cables[i][j]);
    memset(cables, 0, sizeof cables);
}

/* What lwIP allocates, in a build where it does, is not the node's. */
static int child_turn(actor *self, p2p_node *node) {
    unsigned long calls = heap_watch.calls;
    int done = lwip_stack_turn(&self->io, node);
    if (WORLD_LWIP_HEAP)
        heap_watch.calls = calls;
    return done;
}

static void child_run(actor *self, int control) {
    char order;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    lwip_stack_start((int)(self - actors), cables[self - actors]);
    while (read(control, &order, 1) == 1 && order != CHILD_END) {
        int result = order == CHILD_OPEN   ? lwip_stack_open(&self->io, &self->desc)
                     : order == CHILD_TURN ? child_turn(self, self->node)
                                           : child_turn(self, NULL);
        if (write(control, &result, sizeof result) != sizeof result)
            break;
    }
    _exit(0);
}

/* Has the child do it, and waits. A child that died is a failure; it said why. */
static int child_do(actor *self, char order) {
    int result = 0;
    if (send(self->control, &order, 1, MSG_NOSIGNAL) == 1 &&
        read(self->control, &result, sizeof result) == sizeof result)
        return result;
    if (!world.broken++) {
        test_fail(__FILE__, __LINE__);
        printf("    the process of %s's lwIP is gone\n", self->name);
    }
    return 0;
}

static void io_open(actor *self) {
    int pair[2], child;
    self->arena = (uint64_t *)mmap(NULL, WORLD_ARENA, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(self->arena != MAP_FAILED);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    fflush(stdout);
    child = fork();
    if (child == 0)
        child_run(self, pair[1]);
    self->child = child; /* not where fork returns 0, too: it is shared */
    close(pair[1]);
    self->control = pair[0];
    CHECK(self->child > 0);
    CHECK_INT(child_do(self, CHILD_OPEN), 0);
}

/* Room for the node's arena: the one that was mapped before the child was there. */
static uint64_t *io_memory(actor *self, size_t size) {
    return size <= WORLD_ARENA ? self->arena : NULL;
}

static void io_close(actor *self) {
    static const char end = CHILD_END;
    if (self->child > 0) {
        (void)send(self->control, &end, 1, MSG_NOSIGNAL);
        waitpid(self->child, NULL, 0);
        close(self->control);
    }
    if (self->arena)
        munmap(self->arena, WORLD_ARENA);
}

static int io_step(actor *self) { return child_do(self, CHILD_TURN); }

/* The node is about to be closed. */
static void io_leave(actor *self) { (void)child_do(self, CHILD_LEAVE); }

#endif
