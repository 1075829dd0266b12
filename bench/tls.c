/* tls MODE: what people use today, by OpenSSL: TLS 1.3 over TCP, and a tunnel, which is the same
 * through a process that opens every record and seals it anew for the other side. The cipher is
 * that of p2p.h. */
#include "tcp.h"

#ifdef BENCH_OPENSSL
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

enum {
    BULK_MIB = 256,
    RECORD = 16384, /* bytes of the largest record of TLS */
    SMALL = 64,
    PINGS = 2000,
    PINGS_WARM = 200
};

static uint8_t record[RECORD];

static void tls_die(const char *what) {
    ERR_print_errors_fp(stderr);
    die(what);
}

/* A key of its own and a certificate that vouches for itself. */
static void tls_certify(SSL_CTX *ctx) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *self = X509_new();
    if (!key || !self || !X509_gmtime_adj(X509_getm_notBefore(self), 0) ||
        !X509_gmtime_adj(X509_getm_notAfter(self), 3600) || !X509_set_pubkey(self, key) ||
        !X509_sign(self, key, EVP_sha256()) || SSL_CTX_use_certificate(ctx, self) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, key) != 1)
        tls_die("a certificate");
    X509_free(self);
    EVP_PKEY_free(key);
}

static SSL *tls_new(int fd, bool server) {
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    SSL *tls;
    if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(ctx, "TLS_CHACHA20_POLY1305_SHA256") ||
        !SSL_CTX_set_num_tickets(ctx, 0))
        tls_die("a TLS context");
    if (server)
        tls_certify(ctx);
    tls = SSL_new(ctx);
    if (!tls || !SSL_set_fd(tls, fd) || (server ? SSL_accept(tls) : SSL_connect(tls)) != 1)
        tls_die("a TLS handshake");
    return tls;
}

static void tls_write(SSL *tls, const void *data, size_t size) {
    if (SSL_write(tls, data, (int)size) != (int)size)
        tls_die("SSL_write");
}

static void tls_read(SSL *tls, uint8_t *out, size_t size) {
    int n;
    for (; size > 0; out += n, size -= (size_t)n) {
        n = SSL_read(tls, out, (int)size);
        if (n <= 0)
            tls_die("SSL_read");
    }
}

/* ---- the processes ------------------------------------------------------------------------- */

static uint64_t bulk_bytes(void) { return scaled((uint64_t)BULK_MIB << 20) / RECORD * RECORD; }

/* Echoes small texts until one begins with 'b', then takes the bulk and answers once. */
static void serve_tls(SSL *tls) {
    uint64_t left = bulk_bytes();
    int n;
    for (;;) {
        tls_read(tls, record, SMALL);
        tls_write(tls, record, SMALL);
        if (record[0] == 'b')
            break;
    }
    for (; left > 0; left -= (uint64_t)n) {
        n = SSL_read(tls, record, (int)(left < RECORD ? left : RECORD));
        if (n <= 0)
            tls_die("SSL_read");
    }
    tls_write(tls, record, SMALL);
    for (;;)
        (void)pause(); /* its CPU time is still to be read */
}

static void serve_direct(int say_to) {
    uint16_t port;
    int fd = tcp_listen(&port);
    say(say_to, &port, sizeof port);
    serve_tls(tls_new(tcp_accept(fd), true));
}

/* What one record brings, and what it left undecided in memory, goes to the other side. */
static void relay_pass(SSL *from, SSL *to) {
    int n;
    do {
        n = SSL_read(from, record, RECORD);
        if (n <= 0)
            exit(0);
        tls_write(to, record, (size_t)n);
    } while (SSL_pending(from) > 0);
}

/* The device dials first and stays, the caller second. */
static void relay(int say_to) {
    struct pollfd set[2];
    SSL *ends[2];
    uint16_t port;
    int i, fd = tcp_listen(&port);
    say(say_to, &port, sizeof port);
    for (i = 0; i < 2; i++) {
        set[i].fd = tcp_accept(fd);
        set[i].events = POLLIN;
        ends[i] = tls_new(set[i].fd, true);
    }
    while (poll(set, 2, -1) > 0)
        for (i = 0; i < 2; i++)
            if (set[i].revents)
                relay_pass(ends[i], ends[1 - i]);
}

/* ---- measurements -------------------------------------------------------------------------- */

static uint64_t ping(SSL *tls, uint8_t first) {
    uint64_t start_us = now_us();
    memset(record, first, SMALL);
    tls_write(tls, record, SMALL);
    tls_read(tls, record, SMALL);
    return now_us() - start_us;
}

static uint64_t cpu_of(const pid_t *others, size_t count) {
    uint64_t sum = cpu_us(0);
    while (count > 0)
        sum += cpu_us(others[--count]);
    return sum;
}

static void measure_over(const char *name, SSL *tls, const pid_t *others, size_t count) {
    static uint64_t times[PINGS];
    const uint64_t bytes = bulk_bytes();
    uint64_t cpu, spent_us, left;
    int i;
    for (i = 0; i < PINGS_WARM; i++)
        (void)ping(tls, 'a');
    for (i = 0; i < PINGS; i++)
        times[i] = ping(tls, 'a');
    (void)ping(tls, 'b');
    cpu = cpu_of(others, count);
    spent_us = now_us();
    for (left = bytes; left > 0; left -= RECORD)
        tls_write(tls, record, RECORD);
    tls_read(tls, record, SMALL);
    spent_us = now_us() - spent_us;
    cpu = cpu_of(others, count) - cpu;
    row_of(name, "rtt_us", "us", (double)percentile(times, PINGS, 50));
    row_bulk(name, bytes, spent_us, cpu);
}

static void measure_tls(const char *name) {
    uint16_t port;
    pid_t server = serve_begin(serve_direct, &port, sizeof port);
    measure_over(name, tls_new(tcp_connect(port, NULL), false), &server, 1);
    child_kill(server);
}

static void measure_tunnel(const char *name) {
    uint16_t port;
    pid_t others[2];
    int fd;
    others[0] = serve_begin(relay, &port, sizeof port);
    fd = tcp_connect(port, NULL);
    others[1] = child_fork();
    if (others[1] == 0)
        serve_tls(tls_new(fd, false));
    measure_over(name, tls_new(tcp_connect(port, NULL), false), others, 2);
    child_kill(others[1]);
    child_kill(others[0]);
}
#else
static void skip(const char *name) { row_skip(name, "built without OpenSSL: install libssl-dev"); }
static void measure_tls(const char *name) { skip(name); }
static void measure_tunnel(const char *name) { skip(name); }
#endif

int main(int argc, char **argv) {
    static const mode modes[] = {{"tls_tcp", measure_tls}, {"tunnel", measure_tunnel}};
    return bench_main(argc, argv, modes, 2);
}
