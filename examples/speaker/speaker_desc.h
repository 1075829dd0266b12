/* speaker_desc.h: how much memory the speaker's node has, and for what: two connections of which
 * one may be in its handshake (the streamer, and a desktop that sets the volume), one stream of its
 * own with a buffer of 8 KB, two requests from outside at a time, a few datagrams. */
#ifndef SPEAKER_DESC_H
#define SPEAKER_DESC_H
#include "p2p_mbedtls.h"
#include "speaker_app.h"

enum {
    SPEAKER_CONNS = 2,
    SPEAKER_IN_FLIGHT = 24,
    SPEAKER_SEND = 512,
    SPEAKER_RECV = 8192,
    SPEAKER_PEER_STREAMS = 2,
    SPEAKER_PEER_BUFFER = 640,
    SPEAKER_DATAGRAMS = 6,
    SPEAKER_PEERS = 2,
    SPEAKER_ROUTES = 3
};

#define SPEAKER_ARENA                                                                             \
    ((P2P_ARENA_NODE + P2P_ARENA_CONNS(SPEAKER_CONNS, 0) +                                        \
      P2P_ARENA_IN_FLIGHT(SPEAKER_IN_FLIGHT) + P2P_ARENA_STREAMS(1, SPEAKER_SEND, SPEAKER_RECV) + \
      P2P_ARENA_STREAMS(SPEAKER_PEER_STREAMS, SPEAKER_PEER_BUFFER, SPEAKER_PEER_BUFFER) +         \
      SPEAKER_DATAGRAMS * (16u + JITTER_BYTES + 4u) + P2P_ARENA_PEERS(SPEAKER_PEERS) +            \
      P2P_ARENA_ROUTES(SPEAKER_ROUTES) + P2P_MBEDTLS_ARENA_SIZE(SPEAKER_CONNS, 1) + 7) /          \
     8 * 8)

static inline void speaker_desc(p2p_desc *desc) {
    desc->allow_anyone = 1; /* who holds the ticket may set the volume */
    desc->max.conns = SPEAKER_CONNS;
    desc->max.half_open = 1;
    desc->max.conns_per_peer = 1;
    desc->max.services = P2P_NONE;
    desc->max.streams = 1;
    desc->max.peer_streams = SPEAKER_PEER_STREAMS;
    desc->max.routes = SPEAKER_ROUTES;
    desc->max.listeners = 1;
    desc->max.peers = SPEAKER_PEERS;
    desc->max.timers = 2;
    desc->max.in_flight = SPEAKER_IN_FLIGHT;
    desc->max.datagrams_in = SPEAKER_DATAGRAMS;
    desc->max.datagrams_out = P2P_NONE;
    desc->bytes.stream_send = SPEAKER_SEND;
    desc->bytes.stream_recv = SPEAKER_RECV;
    desc->bytes.peer_send = SPEAKER_PEER_BUFFER;
    desc->bytes.peer_recv = SPEAKER_PEER_BUFFER;
    desc->bytes.datagram_max = 4 + JITTER_BYTES;
    desc->bytes.message_max = P2P_NONE;
}
#endif
