/* linkem: a link between two network namespaces, for one command. Linux, root, no netem needed.
 *
 *     linkem DELAY_US LOSS_PPM RATE_MBIT QUEUE_BYTES SEED COMMAND [ARGUMENT...]
 *
 * Two new namespaces, each with one TUN device, "link": 10.9.0.1 at end a, 10.9.0.2 at end b (and
 * 10.9.0.10 to .25, for callers that must look different). Each way an IP packet is first lost by
 * chance (LOSS_PPM), then waits in a drop-tail queue of QUEUE_BYTES for a line of RATE_MBIT (0: no
 * queue, no limit), then travels for DELAY_US. Nothing is reordered.
 *
 * COMMAND runs with LINK_A and LINK_B in its environment: descriptors of the namespaces for
 * setns(2). Its exit code is linkem's. Namespaces without a name or a process are gone, and so are
 * their devices: nothing is left behind, whatever ends first. LINKEM_COUNTS=1 prints what became
 * of the packets. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    MTU = 1500,
    SLOTS = 32768,       /* packets under way in one direction: a power of two */
    DEVICE_QUEUE = 4000, /* what the kernel keeps for us while we are not reading */
    BATCH = 64,          /* packets read before those that are due are looked at again */
    CALLERS = 16         /* further addresses of end b */
};

typedef struct packet {
    uint64_t due_ns;
    size_t size;
    uint8_t bytes[MTU];
} packet;

/* Packets from one end to the other, in the order in which they arrive there. */
typedef struct way {
    packet *ring;
    uint32_t first, next;
    uint64_t line_free_ns; /* when the line will have sent all that is queued */
    uint64_t entered, lost, dropped, left;
} way;

typedef struct link_desc {
    uint64_t delay_ns, loss_ppm, rate_mbit, queue_bytes;
} link_desc;

static volatile sig_atomic_t child_ended, told_to_stop;

static void die(const char *what) {
    (void)fprintf(stderr, "linkem: %s: %s\n", what, strerror(errno));
    exit(125);
}

static void on_signal(int number) {
    if (number == SIGCHLD)
        child_ended = 1;
    else
        told_to_stop = 1;
}

static uint64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* SplitMix64 */
static uint64_t random_next(uint64_t *state) {
    uint64_t x = *state += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* ---- devices ------------------------------------------------------------------------------ */

static void set(int control, unsigned long request, struct ifreq *with, const char *what) {
    if (ioctl(control, request, with) < 0)
        die(what);
}

static void set_address(int control, const char *device, const char *text) {
    struct ifreq r;
    struct sockaddr_in at;
    memset(&r, 0, sizeof r);
    memset(&at, 0, sizeof at);
    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", device);
    at.sin_family = AF_INET;
    (void)inet_pton(AF_INET, text, &at.sin_addr);
    memcpy(&r.ifr_addr, &at, sizeof at);
    set(control, SIOCSIFADDR, &r, text);
    (void)inet_pton(AF_INET, "255.255.255.0", &at.sin_addr);
    memcpy(&r.ifr_addr, &at, sizeof at);
    set(control, SIOCSIFNETMASK, &r, "netmask");
}

static void set_up(int control, const char *device) {
    struct ifreq r;
    memset(&r, 0, sizeof r);
    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", device);
    set(control, SIOCGIFFLAGS, &r, device);
    r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
    set(control, SIOCSIFFLAGS, &r, device);
}

/* Enters a new namespace and leaves the process in it. */
static int namespace_new(void) {
    int fd, control = unshare(CLONE_NEWNET) < 0 ? -1 : socket(AF_INET, SOCK_DGRAM, 0);
    if (control < 0)
        die("a network namespace (needs root)");
    fd = open("/proc/self/ns/net", O_RDONLY);
    if (fd < 0)
        die("/proc/self/ns/net");
    set_up(control, "lo");
    (void)close(control);
    return fd;
}

/* In the namespace that the process is in; the descriptor works from any. */
static int device_new(const char *address) {
    struct ifreq r;
    int control = socket(AF_INET, SOCK_DGRAM, 0);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || control < 0)
        die("/dev/net/tun (needs root)");
    memset(&r, 0, sizeof r);
    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "link");
    r.ifr_flags = IFF_TUN | IFF_NO_PI;
    set(fd, TUNSETIFF, &r, "TUNSETIFF");
    r.ifr_mtu = MTU;
    set(control, SIOCSIFMTU, &r, "mtu");
    r.ifr_qlen = DEVICE_QUEUE;
    set(control, SIOCSIFTXQLEN, &r, "txqueuelen");
    set_address(control, "link", address);
    set_up(control, "link");
    (void)close(control);
    return fd;
}

static void callers_add(void) {
    char name[IFNAMSIZ], address[16];
    int i, control = socket(AF_INET, SOCK_DGRAM, 0);
    for (i = 0; i < CALLERS; i++) {
        (void)snprintf(name, sizeof name, "link:%d", i);
        (void)snprintf(address, sizeof address, "10.9.0.%d", 10 + i);
        set_address(control, name, address);
    }
    (void)close(control);
}

/* ---- the link ----------------------------------------------------------------------------- */

/* When the line will have sent a packet that comes now; 0: the queue has no room for it. */
static uint64_t line_take(way *w, const link_desc *d, uint64_t now, size_t size) {
    if (d->rate_mbit == 0)
        return now;
    if (w->line_free_ns < now)
        w->line_free_ns = now;
    if ((w->line_free_ns - now) * d->rate_mbit / 8000 + size > d->queue_bytes)
        return 0;
    w->line_free_ns += (uint64_t)size * 8000 / d->rate_mbit;
    return w->line_free_ns;
}

static void way_take(way *w, const link_desc *d, int from, uint64_t *random) {
    int i;
    for (i = 0; i < BATCH; i++) {
        packet *p = &w->ring[w->next % SLOTS];
        ssize_t n = read(from, p->bytes, sizeof p->bytes);
        uint64_t sent_ns;
        if (n <= 0)
            return;
        w->entered++;
        if (random_next(random) % 1000000 < d->loss_ppm) {
            w->lost++;
            continue;
        }
        sent_ns = line_take(w, d, now_ns(), (size_t)n);
        if (sent_ns == 0 || w->next - w->first == SLOTS - 1) {
            w->dropped++;
            continue;
        }
        p->size = (size_t)n;
        p->due_ns = sent_ns + d->delay_ns;
        w->next++;
    }
}

/* Hands over what is due; when the next one will be, or UINT64_MAX. */
static uint64_t way_give(way *w, int to) {
    uint64_t now = now_ns();
    for (; w->first != w->next; w->first++) {
        packet *p = &w->ring[w->first % SLOTS];
        if (p->due_ns > now)
            return p->due_ns;
        if (write(to, p->bytes, p->size) == (ssize_t)p->size)
            w->left++;
        else
            w->dropped++;
    }
    return UINT64_MAX;
}

static void carry(const int fds[2], way ways[2], const link_desc *d, uint64_t random,
                  const sigset_t *open_mask) {
    while (!child_ended && !told_to_stop) {
        uint64_t a_ns = way_give(&ways[0], fds[1]), b_ns = way_give(&ways[1], fds[0]);
        uint64_t next = a_ns < b_ns ? a_ns : b_ns, now = now_ns();
        uint64_t wait = next > now ? next - now : 0;
        struct timespec t;
        struct pollfd set[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
        int i;
        t.tv_sec = (time_t)(wait / 1000000000u);
        t.tv_nsec = (long)(wait % 1000000000u);
        if (ppoll(set, 2, next == UINT64_MAX ? NULL : &t, open_mask) <= 0)
            continue;
        for (i = 0; i < 2; i++)
            if (set[i].revents)
                way_take(&ways[i], d, fds[i], &random);
    }
}

static void counts_print(const way ways[2]) {
    int i;
    for (i = 0; i < 2; i++)
        (void)fprintf(stderr, "linkem: from %c: entered %llu, lost %llu, dropped %llu, left %llu\n",
                      'a' + i, (unsigned long long)ways[i].entered,
                      (unsigned long long)ways[i].lost, (unsigned long long)ways[i].dropped,
                      (unsigned long long)ways[i].left);
}

/* ---- the command -------------------------------------------------------------------------- */

static pid_t command_start(char **argv, int a, int b, const sigset_t *open_mask) {
    char number[16];
    pid_t child = fork();
    if (child != 0)
        return child;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigprocmask(SIG_SETMASK, open_mask, NULL);
    (void)snprintf(number, sizeof number, "%d", a);
    (void)setenv("LINK_A", number, 1);
    (void)snprintf(number, sizeof number, "%d", b);
    (void)setenv("LINK_B", number, 1);
    (void)execvp(argv[0], argv);
    die(argv[0]);
    return 0;
}

/* Signals are held back but while the link waits, so that none is missed between two looks. */
static sigset_t signals_hold(void) {
    struct sigaction action;
    sigset_t hold, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigemptyset(&hold);
    (void)sigaddset(&hold, SIGCHLD);
    (void)sigaddset(&hold, SIGTERM);
    (void)sigaddset(&hold, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &hold, &before);
    (void)sigaction(SIGCHLD, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    return before;
}

static uint64_t number(const char *text, const char *name) {
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end) {
        (void)fprintf(stderr, "linkem: %s is no number: %s\n", name, text);
        exit(125);
    }
    return n;
}

int main(int argc, char **argv) {
    int namespaces[2], fds[2], i, status = 0;
    link_desc desc;
    way ways[2];
    sigset_t open_mask;
    pid_t child;
    if (argc < 7) {
        (void)fputs("usage: linkem DELAY_US LOSS_PPM RATE_MBIT QUEUE_BYTES SEED COMMAND...\n",
                    stderr);
        return 125;
    }
    desc.delay_ns = number(argv[1], "DELAY_US") * 1000;
    desc.loss_ppm = number(argv[2], "LOSS_PPM");
    desc.rate_mbit = number(argv[3], "RATE_MBIT");
    desc.queue_bytes = number(argv[4], "QUEUE_BYTES");
    memset(ways, 0, sizeof ways);
    for (i = 0; i < 2; i++) {
        namespaces[i] = namespace_new();
        fds[i] = device_new(i ? "10.9.0.2" : "10.9.0.1");
        ways[i].ring = (packet *)malloc(sizeof(packet) * SLOTS);
        if (!ways[i].ring)
            die("memory");
    }
    callers_add();
    open_mask = signals_hold();
    (void)prctl(PR_SET_TIMERSLACK, 1);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    child = command_start(argv + 6, namespaces[0], namespaces[1], &open_mask);
    if (child < 0)
        die("fork");
    carry(fds, ways, &desc, number(argv[5], "SEED"), &open_mask);
    if (told_to_stop)
        (void)kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    if (getenv("LINKEM_COUNTS"))
        counts_print(ways);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
