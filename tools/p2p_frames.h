/* p2p_frames.h: reads a packet in clear, frame by frame, as docs/SPEC.md section 9 describes it. For
 * logs: it is written from that document and shares nothing with p2p.h, so where the two differ one
 * of them is wrong; a fuzz target compares them. */
#ifndef P2P_FRAMES_H
#define P2P_FRAMES_H
#include "p2p.h"

enum { P2P_FRAMES_RANGES = 32 };

/* Fields that a frame does not have are 0. Padding in a row and an extension are a frame each. */
typedef struct p2p_frames_frame {
    uint64_t type; /* as on the wire */
    size_t size;   /* bytes of the whole frame */
    uint64_t stream, offset, code, final_size;
    uint64_t kind;                /* of MAX_STREAMS and STREAMS_BLOCKED */
    uint64_t value;               /* the maximum or limit */
    uint64_t delay_us, ecn[3];    /* ACK; ECT(0), ECT(1), CE */
    uint32_t range_count, origin; /* origin: of CLOSE */
    struct {
        uint64_t first, last;
    } range[P2P_FRAMES_RANGES]; /* the highest packet numbers first */
    p2p_span data; /* STREAM, DATAGRAM, HELLO, AUTH, an extension, a challenge, a reason */
} p2p_frames_frame;

/* Takes the packet number off the front: 1, or < 0 when it is malformed. */
int p2p_frames_number(p2p_span *packet, uint64_t *number);
/* Takes the next frame off: 1; 0: there is none; P2P_ERR_PROTOCOL: it is malformed. */
int p2p_frames_next(p2p_span *packet, p2p_frames_frame *out);
/* As qlog spells it: "stream", "ack"; "unknown" for types that QUIC lacks. */
const char *p2p_frames_name(uint64_t type);
#endif
