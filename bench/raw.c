/* raw MODE: what the machine can do without p2p.h: UDP alone, and the records of the same secure
 * channel over UDP, with neither recovery nor streams. BENCH_DATAGRAM is the size of a datagram in
 * raw_udp_gso and raw_dtls: that of the bulk row, so that only what p2p.h adds is the difference. */
#include "node.h"

#include <netinet/udp.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO     104
#endif

enum {
    PINGS = 3000,
    PINGS_WARM = 200,
    SMALL = 64,
    BULK_MIB = 256,
    PLAIN = 1232,      /* the datagrams of raw_udp */
    BATCH = 32,        /* at most so many datagrams a system call without UDP_SEGMENT, 64 with it */
    RUN_BYTES = 65000, /* and so many bytes with it */
    RUNS = 4,          /* of them under way without an answer */
    ENVELOPE = 9       /* what p2p.h puts before a record */
};

/* A pair of connected UDP sockets; one process keeps each. */
static void sockets(int fds[2]) {
    struct sockaddr_in at[2];
    socklen_t size;
    int i, room = 4 << 20;
    for (i = 0; i < 2; i++) {
        size = (socklen_t)sizeof at[i];
        at[i] = place_addr('a', 0);
        fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&at[i], size) < 0 ||
            getsockname(fds[i], (struct sockaddr *)&at[i], &size) < 0)
            die("socket");
        (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &room, (socklen_t)sizeof room);
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, (socklen_t)sizeof room);
    }
    for (i = 0; i < 2; i++)
        if (connect(fds[i], (struct sockaddr *)&at[1 - i], (socklen_t)sizeof at[i]) < 0)
            die("connect");
}

static void wait_for(int fd) {
    struct pollfd set;
    set.fd = fd;
    set.events = POLLIN;
    if (poll(&set, 1, 5000) <= 0)
        die("waiting for a datagram");
}

/* ---- round trip ---------------------------------------------------------------------------- */

static void answer(int fd) {
    uint8_t text[SMALL];
    for (;;) {
        wait_for(fd);
        if (recv(fd, text, sizeof text, 0) < 0 || send(fd, text, sizeof text, 0) < 0)
            die("answering");
    }
}

static uint64_t ping(int fd) {
    uint8_t text[SMALL];
    const uint64_t start_us = now_us();
    memset(text, 7, sizeof text);
    if (send(fd, text, sizeof text, 0) < 0)
        die("send");
    wait_for(fd);
    if (recv(fd, text, sizeof text, 0) < 0)
        die("recv");
    return now_us() - start_us;
}

static void measure_rtt(const char *name) {
    static uint64_t times[PINGS];
    int fds[2], i;
    pid_t child;
    sockets(fds);
    child = child_fork();
    if (child == 0)
        answer(fds[1]);
    for (i = 0; i < PINGS_WARM; i++)
        (void)ping(fds[0]);
    for (i = 0; i < PINGS; i++)
        times[i] = ping(fds[0]);
    child_kill(child);
    (void)name;
    row("raw_udp_rtt_p99_us", "us", (double)percentile(times, PINGS, 99));
    row("raw_udp_rtt_us", "us", (double)percentile(times, PINGS, 50));
}

/* ---- bulk ---------------------------------------------------------------------------------- */

/* Datagrams of one size, as p2p_posix.h sends and receives them: in runs by UDP_SEGMENT and UDP_GRO
 * when `gso` is set, else in batches. Sealed when there is a secure channel. Few runs are under way
 * at a time, so that the receiver's queue cannot overflow: what is measured is work, not loss. */
typedef struct flow {
    int fd;
    bool gso;
    const p2p_secure *secure; /* NULL: plain */
    void *slab;
    size_t datagram, content, run; /* bytes of each, bytes of payload in it, datagrams in a run */
    uint8_t packet[65536];         /* what is sealed */
    uint8_t bytes[BATCH][65536];   /* with gso the first only, a whole run */
} flow;

static void flow_seal(flow *f, uint8_t *out, size_t room) {
    if (f->secure && f->secure->api->seal(f->secure->ctx, f->slab, f->packet, f->content,
                                          out + ENVELOPE, room - ENVELOPE) < 0)
        die("sealing");
}

static void send_run(flow *f) {
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    struct iovec part = {f->bytes[0], f->datagram * f->run};
    struct msghdr message;
    struct cmsghdr *option;
    const uint16_t segment = (uint16_t)f->datagram;
    size_t i;
    for (i = 0; i < f->run; i++)
        flow_seal(f, f->bytes[0] + i * f->datagram, f->datagram);
    memset(&control, 0, sizeof control);
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    option = CMSG_FIRSTHDR(&message);
    option->cmsg_level = SOL_UDP;
    option->cmsg_type = UDP_SEGMENT;
    option->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(option), &segment, sizeof segment);
    if (sendmsg(f->fd, &message, 0) != (ssize_t)part.iov_len)
        die("sendmsg with UDP_SEGMENT");
}

static void send_batch(flow *f) {
    struct mmsghdr list[BATCH];
    struct iovec parts[BATCH];
    size_t i;
    int n;
    memset(list, 0, sizeof list);
    for (i = 0; i < f->run; i++) {
        flow_seal(f, f->bytes[i], f->datagram);
        parts[i].iov_base = f->bytes[i];
        parts[i].iov_len = f->datagram;
        list[i].msg_hdr.msg_iov = &parts[i];
        list[i].msg_hdr.msg_iovlen = 1;
    }
    for (i = 0; i < f->run; i += (size_t)n) {
        n = sendmmsg(f->fd, list + i, (unsigned)(f->run - i), 0);
        if (n < 0)
            die("sendmmsg");
    }
}

static void flow_send(flow *f, uint64_t all) {
    const uint64_t window = (uint64_t)RUNS * f->run;
    uint64_t sent = 0, answered = 0, heard;
    while (answered < all) {
        for (; sent < all && sent + f->run <= answered + window; sent += f->run)
            f->gso ? send_run(f) : send_batch(f);
        wait_for(f->fd);
        if (recv(f->fd, &heard, sizeof heard, 0) == sizeof heard)
            answered = heard;
    }
}

static void take_datagram(flow *f, uint8_t *at, size_t size) {
    uint8_t *plain = NULL;
    if (f->secure && f->secure->api->open(f->secure->ctx, f->slab, at + ENVELOPE, size - ENVELOPE,
                                          &plain) != (int)f->content)
        die("opening a record");
}

/* Bytes of each datagram of a run that UDP_GRO put together; all of it when it did not. */
static size_t run_segment(struct msghdr *message, size_t size) {
    struct cmsghdr *option;
    int segment = (int)size;
    for (option = CMSG_FIRSTHDR(message); option; option = CMSG_NXTHDR(message, option))
        if (option->cmsg_level == SOL_UDP && option->cmsg_type == UDP_GRO)
            memcpy(&segment, CMSG_DATA(option), sizeof segment);
    return (size_t)segment;
}

/* Receives what is there; datagrams. */
static uint64_t receive_some(flow *f) {
    static char control[BATCH][CMSG_SPACE(sizeof(int))];
    struct mmsghdr list[BATCH];
    struct iovec parts[BATCH];
    uint64_t count = 0;
    int i, n;
    memset(list, 0, sizeof list);
    for (i = 0; i < BATCH; i++) {
        parts[i].iov_base = f->bytes[i];
        parts[i].iov_len = sizeof f->bytes[i];
        list[i].msg_hdr.msg_iov = &parts[i];
        list[i].msg_hdr.msg_iovlen = 1;
        list[i].msg_hdr.msg_control = control[i];
        list[i].msg_hdr.msg_controllen = sizeof control[i];
    }
    wait_for(f->fd);
    n = recvmmsg(f->fd, list, f->gso ? RUNS : BATCH, MSG_DONTWAIT, NULL);
    for (i = 0; i < n; i++) {
        size_t at, size = list[i].msg_len, segment = run_segment(&list[i].msg_hdr, size);
        for (at = 0; at < size; at += segment, count++)
            take_datagram(f, f->bytes[i] + at, size - at < segment ? size - at : segment);
    }
    return count;
}

/* Answers by the number of datagrams had, once a run. */
static void flow_receive(flow *f, uint64_t all) {
    uint64_t count = 0, answered = 0;
    while (count < all) {
        count += receive_some(f);
        if (count - answered < f->run && count < all)
            continue;
        answered = count;
        if (send(f->fd, &count, sizeof count, 0) < 0)
            die("send");
    }
}

/* The handshake of the port, datagram by datagram, without p2p.h's envelope. */
static void handshake(flow *f, bool server) {
    const p2p_secure_api *api = f->secure->api;
    uint8_t bytes[2048];
    p2p_secure_params params;
    bool complete = false;
    int n, rounds;
    memset(&params, 0, sizeof params);
    params.server = server;
    params.content = (uint32_t)f->content;
    params.timer_us = 500000;
    memset(params.psk, 7, sizeof params.psk);
    if (p2p_posix_random(&params.random) < 0 ||
        api->begin(f->secure->ctx, f->slab, api->session_size(f->secure->ctx, params.content),
                   &params) < 0)
        die("begin");
    for (rounds = 0; rounds < 1000; rounds++) {
        while ((n = api->flight(f->secure->ctx, f->slab, now_us(), bytes, sizeof bytes, 0)) > 0)
            if (send(f->fd, bytes, (size_t)n, 0) < 0)
                die("send");
        if (n < 0)
            die("flight");
        if (complete)
            return;
        wait_for(f->fd);
        n = (int)recv(f->fd, bytes, sizeof bytes, 0);
        n = api->feed(f->secure->ctx, f->slab, now_us(), bytes, (size_t)n);
        if (n < 0)
            die("feed");
        complete = n > 0;
    }
    die("the bare handshake");
}

static void flow_open(flow *f, bool server) {
    f->run = f->gso ? RUN_BYTES / f->datagram : BATCH;
    f->run = f->run > 64 ? 64 : f->run;
    f->content = f->datagram;
    if (!f->secure)
        return;
    f->content -= ENVELOPE + f->secure->api->overhead;
    f->slab = aligned_alloc(16, f->secure->api->session_size(f->secure->ctx, (uint32_t)f->content));
    if (!f->slab)
        die("memory");
    handshake(f, server);
}

/* Whether the kernel has both; sets UDP_GRO. */
static bool gso_here(const int fds[2]) {
    int i, zero = 0, one = 1;
    for (i = 0; i < 2; i++)
        if (setsockopt(fds[i], SOL_UDP, UDP_SEGMENT, &zero, (socklen_t)sizeof zero) < 0 ||
            setsockopt(fds[i], SOL_UDP, UDP_GRO, &one, (socklen_t)sizeof one) < 0)
            return false;
    return true;
}

static void measure_flow(const char *name, flow *f, const int fds[2]) {
    uint64_t all, cpu, spent_us;
    pid_t child = child_fork();
    f->fd = fds[child ? 0 : 1];
    flow_open(f, child == 0);
    all = scaled((uint64_t)BULK_MIB << 20) / f->content / f->run * f->run + f->run;
    if (child == 0) {
        flow_receive(f, all);
        for (;;)
            (void)pause(); /* its CPU time is still to be read */
    }
    cpu = cpu_us(0) + cpu_us(child);
    spent_us = now_us();
    flow_send(f, all);
    spent_us = now_us() - spent_us;
    cpu = cpu_us(0) + cpu_us(child) - cpu;
    child_kill(child);
    row_bulk(name, all * f->content, spent_us, cpu);
}

static void measure(const char *name, bool sealed, bool gso, size_t datagram) {
    static flow f;
    static p2p_secure secure;
    p2p_crypto crypto;
    int fds[2];
    /* The crypto table is for libsodium's start, which picks the cipher's code for this processor. */
    if (sealed && (p2p_mbedtls_secure(&secure) < 0 || p2p_sodium_crypto(&crypto) < 0))
        die("p2p_mbedtls_secure");
    sockets(fds);
    f.gso = gso && gso_here(fds);
    f.secure = sealed ? &secure : NULL;
    f.datagram = datagram;
    if (gso && !f.gso && !sealed)
        row_skip(name, "this kernel has no UDP_SEGMENT or no UDP_GRO");
    else if (sealed && datagram > secure.api->content_max + secure.api->overhead + ENVELOPE)
        row_skip(name, "the secure channel was built for smaller records");
    else
        measure_flow(name, &f, fds);
}

/* Without BENCH_DATAGRAM: the largest record that the channel was built for. */
static size_t datagram_size(void) {
    return (size_t)setting("BENCH_DATAGRAM", P2P_MBEDTLS_CONTENT + ENVELOPE + 29);
}

static void measure_udp(const char *name) { measure(name, false, false, PLAIN); }
static void measure_udp_gso(const char *name) { measure(name, false, true, datagram_size()); }
static void measure_dtls(const char *name) { measure(name, true, true, datagram_size()); }
static void measure_dtls_1400(const char *name) { measure(name, true, true, 1400); }

int main(int argc, char **argv) {
    static const mode modes[] = {{"raw_rtt", measure_rtt},
                                 {"raw_udp", measure_udp},
                                 {"raw_udp_gso", measure_udp_gso},
                                 {"raw_dtls", measure_dtls},
                                 {"raw_dtls_1400", measure_dtls_1400}};
    return bench_main(argc, argv, modes, sizeof modes / sizeof modes[0]);
}
