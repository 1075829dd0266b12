/* arena: bytes of the arena that one more connection takes, secure channel included, at the
 * smallest windows: no node is opened. This build has the largest records of the desktop, where
 * p2p_posix.h says what a datagram may be; arena_small.c those of firmware. */
#include "node.h"

static size_t arena_bytes(uint32_t conns, uint32_t message_max) {
    p2p_desc desc;
    size_t size;
    memset(&desc, 0, sizeof desc);
    desc.max.conns = conns;
    desc.bytes.message_max = message_max;
    if (p2p_sodium_crypto(&desc.crypto) < 0 || p2p_mbedtls_secure(&desc.secure) < 0 ||
        p2p_posix_random(&desc.random) < 0)
        die("the ports");
#ifndef ARENA_SMALL
    {
        p2p_posix io;
        if (p2p_posix_open(&io, NULL, &desc) < 0)
            die("p2p_posix_open");
        p2p_posix_close(&io);
    }
#endif
    size = p2p_arena_size(&desc);
    if (size == 0)
        die("p2p_arena_size");
    return size;
}

static void measure(const char *name) {
    row_of(name, "bytes", "B", (double)(arena_bytes(9, P2P_NONE) - arena_bytes(8, P2P_NONE)));
    row_of(name, "messages_bytes", "B", (double)(arena_bytes(9, 0) - arena_bytes(8, 0)));
}

int main(int argc, char **argv) {
    static const mode modes[] = {{"arena", measure}};
    return bench_main(argc, argv, modes, 1);
}
