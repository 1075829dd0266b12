/* wire_encode.h: writes a parsed frame again, for tests that compare bytes. Include it behind p2p.h
 * with its implementation. */
#ifndef P2P_WIRE_ENCODE_H
#define P2P_WIRE_ENCODE_H

/* Types that are a row of varints: which fields stand in it. */
static inline size_t wire_plain(const p2p__frame *f, uint64_t values[3]) {
    size_t count = 0;
    bool has_id = f->type != P2P__FRAME_MAX_DATA && f->type != P2P__FRAME_DATA_BLOCKED;
    bool has_code = f->type == P2P__FRAME_RESET_STREAM || f->type == P2P__FRAME_STOP_SENDING;
    if (f->type == P2P__FRAME_PING || f->type == P2P__FRAME_DONE)
        return 0;
    if (has_id)
        values[count++] = f->id;
    if (has_code)
        values[count++] = f->code;
    if (f->type != P2P__FRAME_STOP_SENDING)
        values[count++] = f->value;
    return count;
}

/* sized: STREAM and DATAGRAM with their length, else up to the end of the packet. */
static inline void wire_encode(p2p__writer *w, const p2p__frame *f, bool sized) {
    uint64_t length = sized ? f->data.size : UINT64_MAX, values[3];
    p2p_str reason;
    switch (f->type) {
    case P2P__FRAME_ACK:
        p2p__put_ack_ecn(w, f->range, f->ranges, f->delay_us, f->ecn ? f->ect : NULL);
        break;
    case P2P__FRAME_STREAM:
        p2p__put_stream_head(w, f->id, f->offset, length, f->fin != 0);
        p2p__put_bytes(w, f->data.data, f->data.size);
        break;
    case P2P__FRAME_DATAGRAM:
        p2p__put_datagram_head(w, length);
        p2p__put_bytes(w, f->data.data, f->data.size);
        break;
    case P2P__FRAME_CLOSE:
        reason.data = (const char *)f->data.data;
        reason.size = f->data.size;
        p2p__put_close(w, f->origin, (uint32_t)f->code, reason);
        break;
    case P2P__FRAME_HELLO:
        length = f->data.size;
        p2p__put_frame(w, f->type, 1, &length);
        p2p__put_bytes(w, f->data.data, f->data.size);
        break;
    case P2P__FRAME_PATH_RESPONSE: p2p__put_path_response(w, f->bytes, &f->addr); break;
    case P2P__FRAME_PATH_CHALLENGE:
    case P2P__FRAME_AUTH:
        p2p__put_frame(w, f->type, 0, NULL);
        p2p__put_bytes(w, f->bytes, f->type == P2P__FRAME_AUTH ? P2P__AUTH_SIZE : 8);
        break;
    default: p2p__put_frame(w, f->type, wire_plain(f, values), values); break;
    }
}
#endif
