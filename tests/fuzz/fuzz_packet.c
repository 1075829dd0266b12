/* Packets of a peer inside the channel, before and after the proofs. The first byte: bit 0 chooses
 * after, bit 1 lets the application read, bit 2 lets it write, bit 3 gives each packet twice. Then
 * packets: a byte of size (times 4), a byte of microseconds (times 4096), the bytes of the packet.
 * After each the node holds every invariant, does not spin and stays within its memory. */
#include "../unit/bare.h"
#include "replay.h"
#include "settle.h"

static bool reads, writes;

static void events_take(void) {
    p2p_event e;
    uint8_t bytes[700];
    for (uint32_t n = 0; p2p_next_event(node, &e) > 0; n++) {
        FUZZ_CHECK(n < 1000);
        if (reads && e.stream.id)
            (void)p2p_stream_read(node, e.stream, bytes, sizeof bytes);
        if (reads && e.type == P2P_EVENT_MESSAGE)
            (void)p2p_recv(node, e.conn, bytes, sizeof bytes);
        if (reads && e.type == P2P_EVENT_DATAGRAM)
            (void)p2p_datagram_recv(node, e.conn, bytes, sizeof bytes);
        if (writes && e.type == P2P_EVENT_STREAM) {
            (void)p2p_stream_write(node, e.stream, bytes, 300);
            (void)p2p_stream_finish(node, e.stream);
        }
        if (writes && e.type == P2P_EVENT_READABLE && e.stream.id % 3 == 0)
            (void)p2p_stream_reset(node, e.stream, 5);
    }
}

static void own_work(void) {
    p2p_stream_desc desc;
    p2p_stream s;
    p2p_request_desc ask;
    uint8_t bytes[900] = {1};
    memset(&desc, 0, sizeof desc);
    memset(&ask, 0, sizeof ask);
    ask.path = "/a";
    (void)p2p_request_send(node, conn, &ask, &s);
    if (p2p_stream_open(node, conn, &desc, &s) == P2P_OK)
        (void)p2p_stream_write(node, s, bytes, sizeof bytes);
    if (p2p_stream_open(node, conn, &desc, &s) == P2P_OK) {
        (void)p2p_stream_write(node, s, bytes, 10);
        (void)p2p_stream_finish(node, s);
    }
    (void)p2p_send(node, conn, "hello", 5);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    p2p__session *s;
    uint32_t id;
    size_t at = 1;
    if (size < 1 || size > 20000)
        return 0;
    reads = data[0] & 2;
    writes = data[0] & 4;
    s = data[0] & 1 ? dial_open() : dial();
    FUZZ_CHECK(s != NULL);
    id = p2p__pool_id(&node->sessions, s);
    if (writes)
        own_work();
    settle(events_take);
    while (at + 2 <= size) {
        size_t n = P2P__MIN((size_t)data[at] * 4u, size - at - 2);
        uint64_t now = node->now_us + data[at + 1] * 4096u;
        for (int twice = 0; twice <= (data[0] >> 3 & 1); twice++) {
            uint8_t *packet = (uint8_t *)malloc(n + 1); /* of just its size, for the sanitizers */
            FUZZ_CHECK(packet);
            memcpy(packet, data + at + 2, n);
            s = (p2p__session *)p2p__pool_get(&node->sessions, id);
            if (s && s->state >= P2P__SESSION_PROVING && s->state < P2P__SESSION_CLOSING)
                p2p__packet_input(node, s, packet, n);
            free(packet);
            if (s)
                p2p__session_schedule(node, s);
            settle(events_take);
        }
        (void)p2p_poll(node, now);
        settle(events_take);
        at += 2 + n;
    }
    FUZZ_CHECK(node->peer_streams.used <= 8 &&
               node->flight.chunks_used <= node->flight.chunk_count);
    p2p_node_close(node);
    return 0;
}
