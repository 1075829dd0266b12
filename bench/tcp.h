/* tcp.h: kernel TCP, for the programs that compare with it. */
#ifndef BENCH_TCP_H
#define BENCH_TCP_H
#include "bench.h"

#include <netinet/tcp.h>

/* A listening socket at end a, any port; the port. */
static inline int tcp_listen(uint16_t *port) {
    struct sockaddr_in at = place_addr('a', 0);
    socklen_t size = (socklen_t)sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &size) < 0)
        die("listening");
    *port = ntohs(at.sin_port);
    return fd;
}

static inline void tcp_no_delay(int fd) {
    int one = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, (socklen_t)sizeof one) < 0)
        die("TCP_NODELAY");
}

static inline int tcp_accept(int listener) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    tcp_no_delay(fd);
    return fd;
}

/* congestion: a name of the kernel's, or NULL for its default. */
static inline int tcp_connect(uint16_t port, const char *congestion) {
    struct sockaddr_in at = place_addr('a', port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || (congestion && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
                                            (socklen_t)strlen(congestion)) < 0))
        die("TCP_CONGESTION");
    if (connect(fd, (struct sockaddr *)&at, (socklen_t)sizeof at) < 0)
        die("connect");
    tcp_no_delay(fd);
    return fd;
}

static inline bool tcp_has(const char *congestion) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool has =
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)) == 0;
    (void)close(fd);
    return has;
}
#endif
