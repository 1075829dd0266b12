/* p2p_posix.h: sockets, the step, wakes, entropy and key files. The port is compiled here against a
 * node of the test's own (fake_input and so on) and against system calls that fail when told to, so
 * that what never happens on a quiet machine is tested too. Real nodes: test_posix_nodes.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#define UNIT_SODIUM
#include "unit.h"

/* ---- the node of the test's own */

typedef struct fake_node {
    uint64_t deadline;
    p2p_packet out; /* what p2p_output gives, left times: data is numbered by the first 4 bytes */
    uint32_t left, given, polls;
    int takes; /* whether p2p_input takes what it is offered */
    uint32_t offers, bytes, segment;
    p2p_addr remote;
    uint8_t last[2048];
} fake_node;

static fake_node *fake_of(p2p_node *node) { return (fake_node *)(void *)node; }
static p2p_node *node_of(fake_node *fake) { return (p2p_node *)(void *)fake; }

static int fake_input(p2p_node *node, uint64_t now_us, const p2p_packet *in) {
    fake_node *f = fake_of(node);
    (void)now_us;
    f->offers++;
    f->remote = in->remote;
    f->bytes = (uint32_t)in->size;
    f->segment = in->segment;
    memcpy(f->last, in->data, in->size < sizeof f->last ? in->size : sizeof f->last);
    return f->takes;
}

static uint64_t fake_poll(p2p_node *node, uint64_t now_us) {
    (void)now_us;
    fake_of(node)->polls++;
    return fake_of(node)->deadline;
}

static int fake_output(p2p_node *node, uint64_t now_us, p2p_packet *inout) {
    fake_node *f = fake_of(node);
    void *data = inout->data;
    (void)now_us;
    if (f->left == 0)
        return 0;
    if (inout->size < f->out.size)
        abort();
    *inout = f->out;
    inout->data = data;
    memset(data, (int)f->given, f->out.size);
    memcpy(data, &f->given, sizeof f->given);
    f->given++;
    f->left--;
    return 1;
}

static uint64_t fake_deadline(const p2p_node *node) {
    return ((const fake_node *)(const void *)node)->deadline;
}

/* ---- system calls that fail when told to */

static int fail_send[4]; /* errno of the next sends; 0: it goes out */
static int fail_at = 4;  /* which of them is next */
static bool all_full;    /* no socket is writable */

#ifndef P2P_POSIX_NO_BATCHES
/* One of the list a call, so that it says which datagram fails; whole batches after that. */
static int test_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
    if (fail_at >= 4)
        return sendmmsg(fd, messages, count, flags);
    errno = fail_send[fail_at++];
    return errno != 0 ? -1 : sendmmsg(fd, messages, 1, flags);
}
#else
static ssize_t test_sendmsg(int fd, const struct msghdr *message, int flags) {
    errno = fail_at < 4 ? fail_send[fail_at++] : 0;
    return errno != 0 ? -1 : sendmsg(fd, message, flags);
}
#endif

static int test_poll(struct pollfd *fds, nfds_t count, int timeout) {
    return all_full ? 0 : poll(fds, count, timeout);
}

#define p2p_input    fake_input
#define p2p_poll     fake_poll
#define p2p_output   fake_output
#define p2p_deadline fake_deadline
#define sendmmsg     test_sendmmsg
#define sendmsg      test_sendmsg
#define poll         test_poll
#define P2P_POSIX_IMPLEMENTATION
#define P2P_POSIX_NO_DEFAULTS
#include "p2p_posix.h"
#undef sendmmsg
#undef sendmsg
#undef poll

/* ---- helpers */

static p2p_posix io;
static p2p_desc desc;
static p2p_error_detail why;

static int open_at(p2p_posix *out, const char *bind, uint16_t port) {
    p2p_posix_desc d;
    memset(&d, 0, sizeof d);
    memset(&desc, 0, sizeof desc);
    memset(&why, 0, sizeof why);
    d.bind = bind != NULL ? &bind : NULL;
    d.bind_count = bind != NULL;
    d.port = port;
    d.why = &why;
    return p2p_posix_open(out, &d, &desc);
}

static int open_files(void) {
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    while (all != NULL && readdir(all) != NULL)
        count++;
    if (all != NULL)
        (void)closedir(all);
    return count;
}

/* A plain socket of the other side, on loopback of that family, with room for a flood. */
static int peer_open(uint8_t family, p2p_addr *out) {
    p2p_posix__name name;
    socklen_t size;
    p2p_addr addr;
    int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 4 << 20;
    memset(&addr, 0, sizeof addr);
    if (p2p_addr_parse(family == 4 ? "127.0.0.1:0" : "[::1]:0", &addr) < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    size = p2p_posix__name_of(&addr, &name);
    if (fd < 0)
        return -1;
    if (bind(fd, &name.any, size) < 0 || getsockname(fd, &name.any, &size) < 0) {
        (void)close(fd);
        return -1;
    }
    (void)p2p_posix__addr_of(&name.any, out);
    return fd;
}

/* Containers often have no IPv6; there its tests have nothing to look at. */
static bool has_ipv6(void) {
    p2p_addr addr;
    int fd = peer_open(6, &addr);
    if (fd >= 0)
        (void)close(fd);
    return fd >= 0;
}

static ssize_t peer_recv(int fd, void *out, size_t size) {
    struct pollfd at = {fd, POLLIN, 0};
    return poll(&at, 1, 1000) > 0 ? recv(fd, out, size, 0) : -1;
}

static int peer_send(int fd, const p2p_addr *to, const void *data, size_t size) {
    p2p_posix__name name;
    socklen_t name_size = p2p_posix__name_of(to, &name);
    return sendto(fd, data, size, 0, &name.any, name_size) == (ssize_t)size ? 0 : -1;
}

static fake_node quiet_node(void) {
    fake_node f;
    memset(&f, 0, sizeof f);
    f.deadline = P2P_NEVER;
    f.takes = 1;
    return f;
}

static fake_node sending_node(const p2p_addr *to, uint32_t count, size_t size, uint32_t segment) {
    fake_node f = quiet_node();
    f.deadline = 0;
    f.left = count;
    f.out.remote = *to;
    f.out.size = size;
    f.out.segment = segment;
    return f;
}

static bool contains(const char *text, const char *part) { return strstr(text, part) != NULL; }

/* ---- sockets */

/* Whether this build and this kernel know runs of datagrams. */
static bool has_runs(void) {
#if P2P_POSIX__RUNS
    int fd = socket(AF_INET, SOCK_DGRAM, 0), off = 0;
    bool has = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &off, (socklen_t)sizeof off) == 0;
    (void)close(fd);
    return has;
#else
    return false;
#endif
}

TEST(opens_both_families_on_one_port) {
    p2p_addr addr;
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK(io.count == 2 || (io.count == 1 && !has_ipv6()));
    CHECK(desc.link.local_count > 0);
    CHECK_INT(desc.link.mtu, 0);
    CHECK_INT(desc.link.segments, has_runs() ? 64 : 1);
    CHECK(desc.random.fill != NULL);
    CHECK_INT(p2p_posix__of(&io)->port[0], p2p_posix__of(&io)->port[io.count - 1]);
    for (uint32_t i = 0; i < desc.link.local_count; i++) {
        CHECK_INT(desc.link.local[i].port, p2p_posix__of(&io)->port[0]);
        CHECK(!p2p_posix__any(&desc.link.local[i]));
        CHECK_INT(p2p_posix_local_addr(&io, i, &addr), 0);
        CHECK_BYTES(&addr, &desc.link.local[i], sizeof addr);
    }
    CHECK_INT(p2p_posix_local_addr(&io, desc.link.local_count, &addr), P2P_ERR_ARG);
    for (uint32_t i = 0; i < io.count; i++) {
        CHECK(fcntl(io.fds[i], F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(io.fds[i], F_GETFL) & O_NONBLOCK);
    }
    CHECK(fcntl(io.wake[0], F_GETFD) & FD_CLOEXEC);
    p2p_posix_close(&io);
}

TEST(closes_all_and_only_once) {
    int before = open_files();
    p2p_posix zeros;
    memset(&zeros, 0, sizeof zeros);
    p2p_posix_close(&zeros);
    p2p_posix_wake(&zeros);
    p2p_posix_close(NULL);
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK(open_files() > before);
    p2p_posix_close(&io);
    CHECK_INT(open_files(), before);
    CHECK_INT(io.fds[0], -1);
    p2p_posix_close(&io);
    p2p_posix_wake(&io);
    CHECK_INT(open_files(), before);
    CHECK_INT(p2p_posix_share(&io, &desc), P2P_ERR_STATE);
    CHECK_INT(p2p_posix_step_all(&io, NULL, 0, 0), P2P_ERR_STATE);
}

TEST(binds_what_is_listed) {
    static const char *const all[] = {"127.0.0.1:0", "127.0.0.1", "[::1]:0", "::1", "[::1]"};
    static const uint8_t family[] = {4, 4, 6, 6, 6};
    for (size_t i = 0; i < (has_ipv6() ? 5u : 2u); i++) {
        CHECK_INT(open_at(&io, all[i], 0), 0);
        CHECK_INT(io.count, 1);
        CHECK_INT(desc.link.local_count, 1);
        CHECK_INT(desc.link.local[0].family, family[i]);
        CHECK(desc.link.local[0].port != 0);
        CHECK(p2p_posix__loopback(&desc.link.local[0]));
        p2p_posix_close(&io);
    }
}

TEST(wildcards_of_one_family) {
    static const char *const all[] = {"0.0.0.0:0", "[::]:0"};
    for (int i = 0; i < (has_ipv6() ? 2 : 1); i++) {
        CHECK_INT(open_at(&io, all[i], 0), 0);
        CHECK_INT(io.count, 1);
        for (uint32_t k = 0; k < desc.link.local_count; k++)
            CHECK_INT(desc.link.local[k].family, i == 0 ? 4 : 6);
        p2p_posix_close(&io);
    }
}

TEST(refuses_what_is_no_address) {
    static const char *const bad[] = {"",
                                      "localhost",
                                      "localhost:80",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.256",
                                      "[::1",
                                      "::1]:5",
                                      "127.0.0.1:8 ",
                                      "1.2.3",
                                      ":::",
                                      "127.0.0.1:80:80"};
    int before = open_files();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_INT(open_at(&io, bad[i], 0), P2P_ERR_CONFIG);
        CHECK_INT(why.err, P2P_ERR_CONFIG);
        CHECK(contains(why.text, "bind"));
        CHECK(contains(why.text, bad[i]));
    }
    CHECK_INT(open_files(), before);
}

TEST(refuses_bad_descs) {
    static const char *const nine[9] = {"::1", "::1", "::1", "::1", "::1",
                                        "::1", "::1", "::1", "::1"};
    p2p_posix_desc d;
    memset(&d, 0, sizeof d);
    memset(&desc, 0, sizeof desc);
    desc.why = &why;
    d.bind = nine;
    d.bind_count = 9;
    CHECK_INT(p2p_posix_open(&io, &d, &desc), P2P_ERR_CONFIG);
    CHECK(contains(why.text, "bind_count"));
    d.bind = NULL;
    d.bind_count = 1;
    CHECK_INT(p2p_posix_open(&io, &d, &desc), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_open(NULL, NULL, &desc), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_open(&io, NULL, NULL), P2P_ERR_ARG);
    desc.link.mtu = 32769;
    CHECK_INT(p2p_posix_open(&io, NULL, &desc), P2P_ERR_CONFIG);
    CHECK(contains(why.text, "link.mtu"));
    CHECK(!p2p_posix__is_open(&io));
}

TEST(says_which_port_is_in_use) {
    char taken[P2P_ADDR_TEXT_SIZE];
    uint16_t port;
    p2p_posix second;
    int before;
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    port = desc.link.local[0].port;
    CHECK(p2p_addr_text(&desc.link.local[0], taken) >= 0);
    before = open_files();
    CHECK_INT(open_at(&second, taken, 0), P2P_ERR_IO);
    CHECK_INT(why.err, P2P_ERR_IO);
    CHECK(contains(why.text, taken));
    CHECK(contains(why.text, strerror(EADDRINUSE)));
    CHECK_INT(open_at(&second, NULL, port), P2P_ERR_IO);
    CHECK(contains(why.text, taken + strlen("127.0.0.1")));
    CHECK(contains(why.text, strerror(EADDRINUSE)));
    CHECK_INT(open_at(&second, "192.0.2.254:5", 0), P2P_ERR_IO);
    CHECK(contains(why.text, "192.0.2.254:5"));
    CHECK_INT(open_files(), before);
    p2p_posix_close(&io);
}

TEST(shares_with_a_second_node) {
    p2p_desc second;
    memset(&second, 0, sizeof second);
    CHECK_INT(open_at(&io, NULL, 0), 0);
    second.link.mtu = 9000;
    CHECK_INT(p2p_posix_share(&io, &second), 0);
    CHECK_BYTES(&second.link.local, &desc.link.local, sizeof desc.link.local);
    CHECK_INT(second.link.local_count, desc.link.local_count);
    CHECK_INT(second.link.mtu, 9000);
    CHECK(second.random.fill != NULL);
    CHECK(p2p_posix__room(p2p_posix__of(&io)) >= 9000);
    second.link.mtu = 40000;
    second.why = &why;
    CHECK_INT(p2p_posix_share(&io, &second), P2P_ERR_CONFIG);
    CHECK(contains(why.text, "link.mtu"));
    CHECK_INT(p2p_posix_share(&io, NULL), P2P_ERR_ARG);
    p2p_posix_close(&io);
}

/* ---- receiving */

static void receive_from(uint8_t family) {
    fake_node f = quiet_node();
    p2p_addr peer, to;
    int fd = peer_open(family, &peer);
    CHECK(fd >= 0);
    CHECK_INT(open_at(&io, NULL, 0), 0);
    to = peer;
    to.port = p2p_posix__of(&io)->port[0];
    CHECK_INT(peer_send(fd, &to, "one", 3), 0);
    CHECK_INT(peer_send(fd, &to, "second", 6), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 1000), 2);
    CHECK_INT(f.offers, 2);
    CHECK_INT(f.bytes, 6);
    CHECK_BYTES(f.last, "second", 6);
    CHECK_BYTES(&f.remote, &peer, sizeof peer);
    CHECK_INT(f.polls, 1);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 0), 0);
    p2p_posix_close(&io);
    (void)close(fd);
}

TEST(receives_ipv4) { receive_from(4); }
TEST(receives_ipv6) {
    if (has_ipv6())
        receive_from(6);
}

TEST(offers_until_somebody_takes) {
    fake_node f[3] = {quiet_node(), quiet_node(), quiet_node()};
    p2p_node *all[3] = {node_of(&f[0]), node_of(&f[1]), node_of(&f[2])};
    p2p_addr peer;
    int fd = peer_open(4, &peer);
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    f[0].takes = 0;
    CHECK_INT(peer_send(fd, &desc.link.local[0], "x", 1), 0);
    CHECK_INT(p2p_posix_step_all(&io, all, 3, 1000), 1);
    CHECK_INT(f[0].offers, 1);
    CHECK_INT(f[1].offers, 1);
    CHECK_INT(f[2].offers, 0);
    CHECK_INT(f[0].polls + f[1].polls + f[2].polls, 3);
    p2p_posix_close(&io);
    (void)close(fd);
}

/* Two nodes' datagrams that the kernel joined to one run: each comes to its own. */
TEST(a_run_of_two_nodes_reaches_both) {
    static p2p_posix other;
    fake_node f[2] = {quiet_node(), quiet_node()}, from;
    p2p_node *all[2] = {node_of(&f[0]), node_of(&f[1])};
    p2p_addr here;
    CHECK_INT(open_at(&other, "127.0.0.1:0", 0), 0);
    here = desc.link.local[0];
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    from = sending_node(&here, 1, 2000, 300);
    CHECK_INT(p2p_posix_step(&io, node_of(&from), -1), 0);
    f[0].takes = 0;
    CHECK_INT(p2p_posix_step_all(&other, all, 2, 1000), 7);
    CHECK_INT(f[0].offers, 7);
    CHECK_INT(f[1].offers, 7);
    CHECK_INT(f[1].segment, 0);
    CHECK_INT(f[1].bytes, 200);
    p2p_posix_close(&io);
    p2p_posix_close(&other);
}

/* Longer than any datagram of the nodes': cut off by the system, so it is not offered. Empty:
 * nothing to look at. Both count as received. */
TEST(drops_what_is_too_long_or_empty) {
    static const char zeros[3000];
    fake_node f = quiet_node();
    p2p_addr peer;
    int fd = peer_open(4, &peer);
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    p2p_posix__of(&io)->runs_in = 0; /* a socket that takes runs has room for all there is */
    CHECK_INT(peer_send(fd, &desc.link.local[0], zeros, 2049), 0);
    CHECK_INT(peer_send(fd, &desc.link.local[0], zeros, 0), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 1000), 2);
    CHECK_INT(f.offers, 0);
    CHECK_INT(peer_send(fd, &desc.link.local[0], zeros, 2048), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 1000), 1);
    CHECK_INT(f.bytes, 2048);
    p2p_posix_close(&io);
    (void)close(fd);
}

/* One step takes a bounded share of a flood, and the next ones take the rest. */
TEST(bounds_a_flood) {
    fake_node f = quiet_node();
    p2p_addr peer;
    int fd = peer_open(4, &peer), got, total = 0, steps = 0;
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    for (int i = 0; i < 400; i++)
        CHECK_INT(peer_send(fd, &desc.link.local[0], &i, sizeof i), 0);
    do {
        got = p2p_posix_step(&io, node_of(&f), 0);
        CHECK(got <= P2P_POSIX__BATCH * P2P_POSIX__ROUNDS);
        total += got;
        steps++;
    } while (got > 0);
    CHECK_INT(total, 400);
    CHECK(steps > 2);
    p2p_posix_close(&io);
    (void)close(fd);
}

/* ---- sending */

static void send_to(uint8_t family) {
    p2p_addr peer;
    int fd = peer_open(family, &peer);
    fake_node f = sending_node(&peer, 100, 1200, 0);
    uint8_t got[2048];
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    CHECK_INT(f.left, 0);
    for (uint32_t i = 0; i < 100; i++) {
        CHECK_INT(peer_recv(fd, got, sizeof got), 1200);
        CHECK_BYTES(got, &i, sizeof i);
        CHECK_INT(got[1199], i);
    }
    CHECK_INT(p2p_posix__of(&io)->dropped, 0);
    p2p_posix_close(&io);
    (void)close(fd);
}

TEST(sends_ipv4) { send_to(4); }
TEST(sends_ipv6) {
    if (has_ipv6())
        send_to(6);
}

TEST(sends_each_segment) {
    p2p_addr peer;
    int fd = peer_open(4, &peer);
    fake_node f = sending_node(&peer, 9, 2000, 300);
    uint8_t got[2048];
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    for (uint32_t i = 0; i < 9; i++) {
        for (int part = 0; part < 7; part++) {
            CHECK_INT(peer_recv(fd, got, sizeof got), part < 6 ? 300 : 200);
            CHECK_INT(got[100], i);
        }
    }
    p2p_posix_close(&io);
    (void)close(fd);
}

/* Two nodes' sockets with the kernel between them: a run that goes in as one comes out as one, and
 * equals what goes datagram by datagram. */
TEST(runs_arrive_as_runs) {
    static p2p_posix other;
    p2p_addr here;
    fake_node from, to = quiet_node();
    CHECK_INT(open_at(&other, "127.0.0.1:0", 0), 0);
    here = desc.link.local[0];
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    from = sending_node(&here, 1, 2000, 300);
    CHECK_INT(p2p_posix_step(&io, node_of(&from), -1), 0);
    CHECK_INT(p2p_posix_step(&other, node_of(&to), 1000), 7);
    CHECK_INT(to.offers, has_runs() ? 1 : 7);
    CHECK_INT(to.segment, has_runs() ? 300 : 0);
    CHECK_INT(to.bytes, has_runs() ? 2000 : 200);
    p2p_posix_close(&io);
    p2p_posix_close(&other);
}

/* The system refuses a run and takes its datagrams: no datagram is lost, and no run is tried
 * again. When it refuses the datagrams too, it is not the run that it minds. */
static void refuse_run(int error, int then) {
    p2p_addr peer;
    int fd = peer_open(4, &peer), left = then != 0 ? 6 : 7;
    fake_node f = sending_node(&peer, 2, 2000, 300);
    uint8_t got[2048];
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    CHECK_INT(p2p_posix__of(&io)->runs_out, 1);
    fail_send[1] = fail_send[2] = fail_send[3] = 0;
    fail_send[0] = error;
    fail_send[1] = then;
    fail_at = 0;
    f.left = 1;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    fail_at = 4;
    CHECK_INT(p2p_posix__of(&io)->runs_out, 0);
    CHECK_INT(p2p_posix__of(&io)->dropped, then != 0 ? 1 : 0);
    for (int i = 0; i < left; i++)
        CHECK_INT(peer_recv(fd, got, sizeof got), i < left - 1 ? 300 : 200);
    f.left = 1;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    for (int i = 0; i < 7; i++)
        CHECK_INT(peer_recv(fd, got, sizeof got), i < 6 ? 300 : 200);
    p2p_posix_close(&io);
    (void)close(fd);
}

TEST(falls_back_where_runs_are_refused) {
    if (!has_runs())
        return;
    refuse_run(EIO, 0);
    refuse_run(EINVAL, 0);
    refuse_run(ENOPROTOOPT, 0);
    refuse_run(EINVAL, EMSGSIZE);
}

/* Larger than the path takes, in a run or not: they are lost, and runs are none the worse. */
TEST(too_large_is_no_fault_of_runs) {
    p2p_addr peer;
    int fd = peer_open(4, &peer);
    fake_node f = sending_node(&peer, 1, 900, 300);
    if (!has_runs())
        return;
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    for (int i = 0; i < 4; i++)
        fail_send[i] = EMSGSIZE;
    fail_at = 0;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    fail_at = 4;
    CHECK_INT(p2p_posix__of(&io)->dropped, 3);
    CHECK_INT(p2p_posix__of(&io)->runs_out, 1);
    p2p_posix_close(&io);
    (void)close(fd);
}

/* Without memory for a moment, or the last datagram small enough for a link that the others are too
 * large for: none of it speaks against runs. */
static void keep_runs(const int *errors) {
    p2p_addr peer;
    int fd = peer_open(4, &peer);
    fake_node f = sending_node(&peer, 1, 700, 300);
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    memcpy(fail_send, errors, sizeof fail_send);
    fail_at = 0;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    fail_at = 4;
    CHECK_INT(p2p_posix__of(&io)->runs_out, 1);
    p2p_posix_close(&io);
    (void)close(fd);
}
TEST(a_passing_refusal_costs_no_runs) {
    static const int short_of_memory[4] = {ENOBUFS, 0, 0, 0};
    static const int small_last[4] = {EMSGSIZE, EMSGSIZE, EMSGSIZE, 0};
    if (!has_runs())
        return;
    keep_runs(short_of_memory);
    keep_runs(small_last);
}

/* More than the send buffer holds, several times: nothing that was pulled may be lost. */
TEST(loses_nothing_to_a_small_buffer) {
    p2p_addr peer;
    int fd = peer_open(4, &peer), small = 8192, total = 0;
    fake_node f = sending_node(&peer, 3000, 1200, 0);
    socklen_t size = sizeof small;
    uint8_t got[2048];
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    CHECK_INT(setsockopt(io.fds[0], SOL_SOCKET, SO_SNDBUF, &small, size), 0);
    CHECK_INT(getsockopt(io.fds[0], SOL_SOCKET, SO_SNDBUF, &small, &size), 0);
    p2p_posix__of(&io)->credit_max[0] = (uint32_t)small / 2;
    for (int i = 0; i < 20000 && (f.left > 0 || total < 3000); i++) {
        CHECK_INT(p2p_posix_step(&io, node_of(&f), 10), 0);
        while (recv(fd, got, sizeof got, MSG_DONTWAIT) > 0)
            total++;
    }
    CHECK_INT(f.left, 0);
    CHECK_INT(total, 3000);
    CHECK_INT(p2p_posix__of(&io)->dropped, 0);
    p2p_posix_close(&io);
    (void)close(fd);
}

TEST(waits_for_a_full_socket_instead_of_spinning) {
    struct pollfd fds[9];
    p2p_addr peer;
    int fd = peer_open(4, &peer);
    fake_node f = sending_node(&peer, 5, 100, 0);
    uint64_t start;
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    CHECK_INT(p2p_posix_wait_ms(&io, node_of(&f)), 0);
    all_full = true;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    all_full = false;
    CHECK_INT(f.given, 0); /* Nothing was pulled that could not leave. */
    CHECK_INT(p2p_posix_fds(&io, fds, 9), 2);
    CHECK_INT(fds[0].events, POLLIN | POLLOUT);
    CHECK_INT(p2p_posix_wait_ms(&io, node_of(&f)), P2P_POSIX__BLOCKED_MS);
    start = p2p_posix_now_us();
    CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
    CHECK(p2p_posix_now_us() - start < 1000000u);
    CHECK_INT(f.given, 5);
    CHECK_INT(p2p_posix_fds(&io, fds, 9), 2);
    CHECK_INT(fds[0].events, POLLIN);
    p2p_posix_close(&io);
    (void)close(fd);
}

/* What the network refuses is loss of that datagram alone; a socket that takes none now is waited
 * for. */
TEST(takes_errors_of_the_network_as_loss) {
    static const int lost[] = {ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EMSGSIZE, EPERM, ENOBUFS};
    uint8_t got[2048];
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        p2p_addr peer;
        int fd = peer_open(4, &peer);
        fake_node f = sending_node(&peer, 4, 100, 0);
        CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
        fail_send[0] = 0;
        fail_send[1] = lost[i];
        fail_send[2] = EINTR;
        fail_send[3] = EAGAIN;
        fail_at = 0;
        CHECK_INT(p2p_posix_step(&io, node_of(&f), -1), 0);
        CHECK_INT(p2p_posix__of(&io)->dropped, 1);
        CHECK_INT(peer_recv(fd, got, sizeof got), 100);
        CHECK_INT(got[0], 0);
        CHECK_INT(peer_recv(fd, got, sizeof got), 100);
        CHECK_INT(got[0], 2);
        CHECK_INT(peer_recv(fd, got, sizeof got), 100);
        CHECK_INT(got[0], 3);
        p2p_posix_close(&io);
        (void)close(fd);
    }
    fail_at = 4;
}

TEST(counts_what_no_socket_can_reach) {
    p2p_addr to;
    fake_node f;
    CHECK(p2p_addr_parse("[::1]:9", &to) >= 0);
    f = sending_node(&to, 3, 100, 0);
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 0), 0);
    CHECK_INT(f.left, 0);
    CHECK_INT(p2p_posix__of(&io)->dropped, 3);
    p2p_posix_close(&io);
}

TEST(broken_sockets_are_an_error) {
    p2p_addr peer;
    int fd = peer_open(4, &peer), kept;
    fake_node f = sending_node(&peer, 3, 100, 0);
    CHECK_INT(open_at(&io, "127.0.0.1:0", 0), 0);
    kept = io.fds[0];
    io.fds[0] = 1000000;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 0), P2P_ERR_IO);
    io.fds[0] = kept;
    fail_send[0] = EBADF;
    fail_at = 0;
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 0), P2P_ERR_IO);
    fail_at = 4;
    p2p_posix_close(&io);
    (void)close(fd);
}

/* Bound to loopback and to another address: each remote is reached from the socket that can. */
TEST(chooses_the_socket_that_reaches) {
    p2p_posix__state *s;
    p2p_packet packet;
    uint32_t count;
    CHECK_INT(open_at(&io, NULL, 0), 0);
    s = p2p_posix__of(&io);
    count = io.count; /* The choice looks at families alone, so three are pretended. */
    io.count = 3;
    s->family[0] = 4, s->loopback[0] = 1;
    s->family[1] = 4, s->loopback[1] = 0;
    s->family[2] = 6, s->loopback[2] = 0;
    memset(&packet, 0, sizeof packet);
    CHECK(p2p_addr_parse("192.0.2.9:5", &packet.remote) >= 0);
    CHECK_INT(p2p_posix__socket_for(&io, &packet), 1);
    CHECK(p2p_addr_parse("127.0.0.1:5", &packet.remote) >= 0);
    CHECK_INT(p2p_posix__socket_for(&io, &packet), 0);
    s->loopback[0] = 0; /* Two of a kind: the packet says which. */
    CHECK(p2p_addr_parse("192.0.2.9:5", &packet.remote) >= 0);
    CHECK_INT(p2p_posix__socket_for(&io, &packet), 0);
    packet.socket = 1;
    CHECK_INT(p2p_posix__socket_for(&io, &packet), 1);
    CHECK(p2p_addr_parse("[2001:db8::1]:5", &packet.remote) >= 0);
    CHECK_INT(p2p_posix__socket_for(&io, &packet), 2);
    io.count = 2;
    CHECK_INT(p2p_posix__socket_for(&io, &packet), -1);
    io.count = count;
    p2p_posix_close(&io);
}

/* ---- waiting and waking */

TEST(waits_for_the_first_of_all) {
    fake_node f = quiet_node();
    uint64_t start = p2p_posix_now_us(), took;
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 20), 0);
    took = p2p_posix_now_us() - start;
    CHECK(took >= 20000);
    start = p2p_posix_now_us();
    f.deadline = start + 15000;
    CHECK(p2p_posix_wait_ms(&io, node_of(&f)) >= 14 && p2p_posix_wait_ms(&io, node_of(&f)) <= 15);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 10000), 0);
    took = p2p_posix_now_us() - start;
    CHECK(took >= 15000 && took < 5000000);
    CHECK_INT(f.polls, 2);
    f.deadline = P2P_NEVER;
    CHECK_INT(p2p_posix_wait_ms(&io, node_of(&f)), -1);
    f.deadline = P2P_NEVER - 1;
    CHECK_INT(p2p_posix_wait_ms(&io, node_of(&f)), INT_MAX);
    p2p_posix_close(&io);
}

TEST(fds_wants_room) {
    struct pollfd fds[3];
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK_INT(p2p_posix_fds(&io, fds, io.count), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_fds(&io, NULL, 9), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_fds(&io, fds, io.count + 1), io.count + 1);
    CHECK_INT(fds[io.count].fd, io.wake[0]);
    CHECK_INT(fds[io.count].events, POLLIN);
    p2p_posix_close(&io);
}

static void *wake_later(void *unused) {
    (void)unused;
    (void)usleep(20000);
    p2p_posix_wake(&io);
    return NULL;
}

TEST(wakes_from_a_thread) {
    fake_node f = quiet_node();
    pthread_t thread;
    uint64_t start = p2p_posix_now_us();
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK_INT(pthread_create(&thread, NULL, wake_later, NULL), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 10000), 0);
    CHECK(p2p_posix_now_us() - start < 5000000);
    CHECK_INT(pthread_join(thread, NULL), 0);
    p2p_posix_close(&io);
}

static void on_alarm(int number) {
    (void)number;
    p2p_posix_wake(&io);
}

/* The wake, not the broken wait, ends the step: SA_RESTART or not, and even when the signal came
 * before the step began. */
TEST(wakes_from_a_signal_handler) {
    fake_node f = quiet_node();
    struct itimerval soon;
    struct sigaction action;
    uint64_t start = p2p_posix_now_us();
    memset(&action, 0, sizeof action);
    memset(&soon, 0, sizeof soon);
    CHECK_INT(open_at(&io, NULL, 0), 0);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_RESTART;
    CHECK_INT(sigaction(SIGALRM, &action, NULL), 0);
    soon.it_value.tv_usec = 20000;
    CHECK_INT(setitimer(ITIMER_REAL, &soon, NULL), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 10000), 0);
    CHECK_INT(raise(SIGALRM), 0);
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 10000), 0);
    CHECK(p2p_posix_now_us() - start < 5000000);
    (void)signal(SIGALRM, SIG_DFL);
    p2p_posix_close(&io);
}

/* Any number of wakes before a step is one; the step after that waits again. */
TEST(wakes_do_not_pile_up) {
    fake_node f = quiet_node();
    uint64_t start;
    CHECK_INT(open_at(&io, NULL, 0), 0);
    for (int i = 0; i < 100000; i++)
        p2p_posix_wake(&io);
    start = p2p_posix_now_us();
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 10000), 0);
    CHECK(p2p_posix_now_us() - start < 5000000);
    start = p2p_posix_now_us();
    CHECK_INT(p2p_posix_step(&io, node_of(&f), 20), 0);
    CHECK(p2p_posix_now_us() - start >= 20000);
    p2p_posix_close(&io);
}

TEST(wake_keeps_errno) {
    CHECK_INT(open_at(&io, NULL, 0), 0);
    errno = 77;
    p2p_posix_wake(&io);
    CHECK_INT(errno, 77);
    p2p_posix_close(&io);
}

TEST(refuses_no_node) {
    CHECK_INT(open_at(&io, NULL, 0), 0);
    CHECK_INT(p2p_posix_step(&io, NULL, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_step_all(&io, NULL, 1, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_step_all(&io, NULL, 0, 0), 0);
    p2p_posix_close(&io);
}

/* ---- entropy and clock */

TEST(random_fills_all_of_it) {
    static uint8_t a[100001], b[100001];
    p2p_random random;
    size_t zeros = 0;
    CHECK_INT(p2p_posix_random(NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_random(&random), 0);
    CHECK_INT(random.fill(random.ctx, a, 100000), 0);
    CHECK_INT(random.fill(random.ctx, b, 100000), 0);
    CHECK(memcmp(a, b, 100000) != 0);
    CHECK(memcmp(a + 99980, b + 99980, 20) != 0);
    CHECK_INT(a[100000], 0);
    for (size_t i = 0; i < 100000; i++)
        zeros += a[i] == 0;
    CHECK(zeros > 200 && zeros < 800); /* 390 expected, 20 the standard deviation */
    CHECK_INT(random.fill(random.ctx, NULL, 0), 0);
    CHECK_INT(random.fill(random.ctx, NULL, 1), P2P_ERR_ARG);
}

TEST(clock_goes_forward) {
    uint64_t first = p2p_posix_now_us(), last = first;
    for (int i = 0; i < 100000; i++) {
        uint64_t now = p2p_posix_now_us();
        CHECK(now >= last);
        last = now;
    }
    CHECK(last > first);
}

/* ---- key files */

static char folder[64], path[128];
static p2p_crypto crypto;
static p2p_key key;

static void key_begin(void) {
    (void)strcpy(folder, "/tmp/p2p-key-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/node.key", folder);
    CHECK_INT(p2p_sodium_crypto(&crypto), 0);
    memset(&why, 0, sizeof why);
    for (int i = 0; i < 32; i++)
        key.seed[i] = (uint8_t)(i * 9 + 1);
    CHECK_INT(p2p_key_from_seed(&crypto, key.seed, &key), 0);
}

/* Files in the folder; a temporary one that was left behind counts too. */
static int key_files(void) {
    DIR *all = opendir(folder);
    struct dirent *at;
    int count = 0;
    while (all != NULL && (at = readdir(all)) != NULL)
        count += at->d_name[0] != '.';
    if (all != NULL)
        (void)closedir(all);
    return count;
}

static void key_end(void) {
    (void)unlink(path);
    CHECK_INT(rmdir(folder), 0);
}

static void put_file(const char *text, size_t size, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, text, size), size);
    CHECK_INT(fchmod(fd, mode), 0);
    (void)close(fd);
}

static int load(p2p_key *out) {
    memset(&why, 0, sizeof why);
    return p2p_posix_key_load(path, &crypto, out, &why);
}

TEST(key_is_saved_and_loaded) {
    static const mode_t masks[] = {0, 022, 0777};
    p2p_key got;
    struct stat st;
    key_begin();
    CHECK_SO_FAR();
    for (int i = 0; i < 3; i++) {
        mode_t before = umask(masks[i]);
        int err = p2p_posix_key_save(path, &key, &why);
        (void)umask(before);
        CHECK_INT(err, 0);
        CHECK_INT(stat(path, &st), 0);
        CHECK_INT(st.st_mode & 07777, 0600);
        CHECK_INT(st.st_size, 76);
        CHECK_INT(st.st_nlink, 1);
        CHECK_INT(key_files(), 1);
        CHECK_INT(load(&got), 0);
        CHECK_BYTES(got.seed, key.seed, 32);
        CHECK_BYTES(got.id.bytes, key.id.bytes, 32);
        CHECK_INT(unlink(path), 0);
    }
    key_end();
}

TEST(key_beside_the_program) {
    p2p_key got;
    char before[4096];
    key_begin();
    CHECK_SO_FAR();
    CHECK(getcwd(before, sizeof before) != NULL);
    CHECK_INT(chdir(folder), 0);
    CHECK_INT(p2p_posix_key_save("node.key", &key, NULL), 0);
    CHECK_INT(p2p_posix_key_load("node.key", &crypto, &got, NULL), 0);
    CHECK_BYTES(&got, &key, sizeof got);
    CHECK_INT(chdir(before), 0);
    key_end();
}

TEST(key_is_never_overwritten) {
    p2p_key other;
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    memset(other.seed, 5, 32);
    CHECK_INT(p2p_key_from_seed(&crypto, other.seed, &other), 0);
    CHECK_INT(p2p_posix_key_save(path, &key, NULL), 0);
    CHECK_INT(p2p_posix_key_save(path, &other, &why), P2P_ERR_STATE);
    CHECK(contains(why.text, "node.key") && contains(why.text, "exists"));
    CHECK_INT(load(&got), 0);
    CHECK_BYTES(got.seed, key.seed, 32);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(symlink("nowhere", path), 0); /* A dangling link is something of that name too. */
    CHECK_INT(p2p_posix_key_save(path, &key, &why), P2P_ERR_STATE);
    CHECK_INT(key_files(), 1);
    key_end();
}

/* Eight processes save at once: one wins, seven are told, and the file is whole. */
TEST(key_race_has_one_winner) {
    int won = 0, told = 0;
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    for (int i = 0; i < 8; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            memset(key.seed, 1 + i, 32);
            _exit(p2p_posix_key_save(path, &key, NULL) == 0 ? 0 : 1);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status = -1;
        CHECK(wait(&status) > 0);
        won += WIFEXITED(status) && WEXITSTATUS(status) == 0;
        told += WIFEXITED(status) && WEXITSTATUS(status) == 1;
    }
    CHECK_INT(won, 1);
    CHECK_INT(told, 7);
    CHECK_INT(key_files(), 1);
    CHECK_INT(load(&got), 0);
    key_end();
}

TEST(key_others_can_use_is_refused) {
    static const mode_t bad[] = {0640, 0620, 0610, 0604, 0602, 0601, 0644, 0666, 0777};
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    CHECK_INT(p2p_posix_key_save(path, &key, NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        static const uint8_t zeros[32];
        CHECK_INT(chmod(path, bad[i]), 0);
        CHECK_INT(load(&got), P2P_ERR_AUTH);
        CHECK_INT(why.err, P2P_ERR_AUTH);
        CHECK(contains(why.text, "node.key") && contains(why.text, "chmod 600"));
        CHECK_BYTES(got.seed, zeros, 32);
    }
    CHECK_INT(chmod(path, 0400), 0);
    CHECK_INT(load(&got), 0);
    if (geteuid() == 0) {
        CHECK_INT(chown(path, 12345, (gid_t)-1), 0);
        CHECK_INT(load(&got), P2P_ERR_AUTH);
        CHECK(contains(why.text, "another user"));
    }
    key_end();
}

TEST(key_of_another_format_is_refused) {
    static const char good[] =
        "p2p-key-v1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    char text[120];
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    put_file(good, 76, 0600);
    CHECK_SO_FAR();
    CHECK_INT(load(&got), 0);
    CHECK_INT(got.seed[31], 31);
    for (size_t size = 0; size < 76; size++) { /* cut anywhere */
        put_file(good, size, 0600);
        CHECK_SO_FAR();
        CHECK_INT(load(&got), P2P_ERR_CONFIG);
        CHECK(contains(why.text, "node.key") && contains(why.text, "p2p-key-v1"));
    }
    for (size_t i = 0; i < 76; i++) { /* one wrong character anywhere */
        memcpy(text, good, 77);
        text[i] = 'G';
        put_file(text, 76, 0600);
        CHECK_SO_FAR();
        CHECK_INT(load(&got), P2P_ERR_CONFIG);
    }
    (void)snprintf(text, sizeof text, "%sx", good);
    put_file(text, 77, 0600);
    CHECK_SO_FAR();
    CHECK_INT(load(&got), P2P_ERR_CONFIG);
    key_end();
}

TEST(key_that_is_no_file_is_refused) {
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    CHECK_INT(load(&got), P2P_ERR_NOT_FOUND);
    CHECK(contains(why.text, "node.key") && contains(why.text, "no such file"));
    CHECK_INT(mkfifo(path, 0600), 0);
    CHECK_INT(load(&got), P2P_ERR_AUTH); /* and does not wait for a writer */
    CHECK(contains(why.text, "regular"));
    CHECK_INT(unlink(path), 0);
    CHECK_INT(mkdir(path, 0700), 0);
    CHECK_INT(load(&got), P2P_ERR_AUTH);
    CHECK_INT(rmdir(path), 0);
    CHECK_INT(p2p_posix_key_load(NULL, &crypto, &got, &why), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_key_load(path, NULL, &got, &why), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_key_load(path, &crypto, NULL, &why), P2P_ERR_ARG);
    key_end();
}

TEST(key_without_a_crypto_table) {
    p2p_crypto none;
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    memset(&none, 0, sizeof none);
    CHECK_INT(p2p_posix_key_save(path, &key, NULL), 0);
    CHECK(p2p_posix_key_load(path, &none, &got, &why) < 0);
    CHECK(contains(why.text, "crypto"));
    key_end();
}

TEST(key_into_a_missing_folder) {
    char missing[200];
    key_begin();
    CHECK_SO_FAR();
    (void)snprintf(missing, sizeof missing, "%s/none/node.key", folder);
    CHECK_INT(p2p_posix_key_save(missing, &key, &why), P2P_ERR_IO);
    CHECK(contains(why.text, "node.key") && contains(why.text, strerror(ENOENT)));
    CHECK_INT(p2p_posix_key_save(NULL, &key, &why), P2P_ERR_ARG);
    CHECK_INT(p2p_posix_key_save(path, NULL, &why), P2P_ERR_ARG);
    CHECK_INT(key_files(), 0);
    key_end();
}

TEST(key_path_beyond_all_bounds) {
    static char endless[6000];
    p2p_key got;
    key_begin();
    CHECK_SO_FAR();
    memset(endless, 'x', sizeof endless - 1);
    CHECK_INT(p2p_posix_key_save(endless, &key, &why), P2P_ERR_IO);
    CHECK(contains(why.text, strerror(ENAMETOOLONG)));
    CHECK_INT(p2p_posix_key_load(endless, &crypto, &got, &why), P2P_ERR_IO);
    CHECK(contains(why.text, strerror(ENAMETOOLONG)));
    key_end();
}

TEST(keys_that_are_none) {
    static const char text[] =
        "p2p-key-v1 7032702e682053494d204f4e4c592121000102030405060708090a0b0c0d0e0f\n";
    p2p_key got, bad;
    key_begin();
    CHECK_SO_FAR();
    put_file(text, 76, 0600);
    CHECK_SO_FAR();
    CHECK_INT(load(&got), P2P_ERR_CONFIG);
    CHECK(contains(why.text, "simulator"));
    CHECK_INT(unlink(path), 0);
    memset(&bad, 0, sizeof bad);
    CHECK_INT(p2p_posix_key_save(path, &bad, &why), P2P_ERR_CONFIG);
    CHECK(contains(why.text, "zeros"));
    memcpy(bad.seed, "p2p.h SIM ONLY!!", 16);
    CHECK_INT(p2p_posix_key_save(path, &bad, &why), P2P_ERR_CONFIG);
    CHECK(contains(why.text, "simulator"));
    CHECK_INT(key_files(), 0);
    key_end();
}

/* A disk that fills up at any byte: an error that says so, and no file of any name. */
TEST(key_on_a_full_disk) {
    int status = -1;
    pid_t child;
    key_begin();
    CHECK_SO_FAR();
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)signal(SIGXFSZ, SIG_IGN);
        for (rlim_t limit = 0; limit < 76; limit++) {
            struct rlimit bytes = {limit, RLIM_INFINITY};
            (void)setrlimit(RLIMIT_FSIZE, &bytes);
            if (p2p_posix_key_save(path, &key, &why) != P2P_ERR_IO || key_files() != 0)
                _exit(1);
            if (!contains(why.text, strerror(EFBIG)))
                _exit(2);
        }
        _exit(0);
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
    key_end();
}

TEST_MAIN(
    P2P_TEST_ENTRY(opens_both_families_on_one_port), P2P_TEST_ENTRY(closes_all_and_only_once),
    P2P_TEST_ENTRY(binds_what_is_listed), P2P_TEST_ENTRY(wildcards_of_one_family),
    P2P_TEST_ENTRY(refuses_what_is_no_address), P2P_TEST_ENTRY(refuses_bad_descs),
    P2P_TEST_ENTRY(says_which_port_is_in_use), P2P_TEST_ENTRY(shares_with_a_second_node),
    P2P_TEST_ENTRY(receives_ipv4), P2P_TEST_ENTRY(receives_ipv6),
    P2P_TEST_ENTRY(offers_until_somebody_takes), P2P_TEST_ENTRY(drops_what_is_too_long_or_empty),
    P2P_TEST_ENTRY(bounds_a_flood), P2P_TEST_ENTRY(sends_ipv4), P2P_TEST_ENTRY(sends_ipv6),
    P2P_TEST_ENTRY(sends_each_segment), P2P_TEST_ENTRY(runs_arrive_as_runs),
    P2P_TEST_ENTRY(falls_back_where_runs_are_refused),
    P2P_TEST_ENTRY(too_large_is_no_fault_of_runs), P2P_TEST_ENTRY(a_passing_refusal_costs_no_runs),
    P2P_TEST_ENTRY(a_run_of_two_nodes_reaches_both),
    P2P_TEST_ENTRY(loses_nothing_to_a_small_buffer),
    P2P_TEST_ENTRY(waits_for_a_full_socket_instead_of_spinning),
    P2P_TEST_ENTRY(takes_errors_of_the_network_as_loss),
    P2P_TEST_ENTRY(counts_what_no_socket_can_reach), P2P_TEST_ENTRY(broken_sockets_are_an_error),
    P2P_TEST_ENTRY(chooses_the_socket_that_reaches), P2P_TEST_ENTRY(waits_for_the_first_of_all),
    P2P_TEST_ENTRY(fds_wants_room), P2P_TEST_ENTRY(wakes_from_a_thread),
    P2P_TEST_ENTRY(wakes_from_a_signal_handler), P2P_TEST_ENTRY(wakes_do_not_pile_up),
    P2P_TEST_ENTRY(wake_keeps_errno), P2P_TEST_ENTRY(refuses_no_node),
    P2P_TEST_ENTRY(random_fills_all_of_it), P2P_TEST_ENTRY(clock_goes_forward),
    P2P_TEST_ENTRY(key_is_saved_and_loaded), P2P_TEST_ENTRY(key_beside_the_program),
    P2P_TEST_ENTRY(key_is_never_overwritten), P2P_TEST_ENTRY(key_race_has_one_winner),
    P2P_TEST_ENTRY(key_others_can_use_is_refused), P2P_TEST_ENTRY(key_of_another_format_is_refused),
    P2P_TEST_ENTRY(key_that_is_no_file_is_refused), P2P_TEST_ENTRY(key_without_a_crypto_table),
    P2P_TEST_ENTRY(key_into_a_missing_folder), P2P_TEST_ENTRY(key_path_beyond_all_bounds),
    P2P_TEST_ENTRY(keys_that_are_none), P2P_TEST_ENTRY(key_on_a_full_disk))
