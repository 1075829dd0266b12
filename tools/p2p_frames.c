/* p2p_frames.c: one frame after the other, nothing read beyond the packet's end. */
#include "p2p_frames.h"

#include <string.h>

#define FRAMES_VARINT_MAX  ((UINT64_C(1) << 62) - 1)
#define FRAMES_STREAMS_MAX (UINT64_C(1) << 59)

enum { FRAMES_AUTH = 96, FRAMES_REASON_MAX = 96, FRAMES_MESSAGES = 3 };

/* What is left of the packet; bad from the first thing that is wrong. */
typedef struct frames_reader {
    const uint8_t *at, *end;
    bool bad;
} frames_reader;

static uint64_t frames_fail(frames_reader *r) {
    r->bad = true;
    r->at = r->end;
    return 0;
}

/* RFC 9000 section 16, and the shortest form only. */
static uint64_t frames_varint(frames_reader *r, uint64_t max) {
    size_t width, i;
    uint64_t x;
    if (r->at == r->end)
        return frames_fail(r);
    width = (size_t)1 << (r->at[0] >> 6);
    if ((size_t)(r->end - r->at) < width)
        return frames_fail(r);
    x = r->at[0] & 0x3fu;
    for (i = 1; i < width; i++)
        x = x << 8 | r->at[i];
    if (x > max || (width > 1 && x < UINT64_C(1) << (8 * width / 2 - 2)))
        return frames_fail(r);
    r->at += width;
    return x;
}

static p2p_span frames_bytes(frames_reader *r, uint64_t size) {
    p2p_span s = {NULL, 0};
    if (size > (uint64_t)(r->end - r->at)) {
        (void)frames_fail(r);
        return s;
    }
    s.data = r->at;
    s.size = (size_t)size;
    r->at += s.size;
    return s;
}

static uint64_t frames_stream_id(frames_reader *r) {
    uint64_t id = frames_varint(r, FRAMES_VARINT_MAX);
    return (id >> 1 & 3u) == FRAMES_MESSAGES && id >> 3 ? frames_fail(r) : id;
}

/* ---- frames of their own shape --------------------------------------------------------------- */

static void frames_ack(frames_reader *r, p2p_frames_frame *f) {
    uint64_t low, more, gap, length, i;
    f->range[0].last = frames_varint(r, FRAMES_VARINT_MAX);
    f->delay_us = frames_varint(r, FRAMES_VARINT_MAX);
    more = frames_varint(r, P2P_FRAMES_RANGES - 1);
    low = f->range[0].first = f->range[0].last - frames_varint(r, f->range[0].last);
    for (f->range_count = 1; f->range_count <= more && !r->bad; f->range_count++) {
        gap = frames_varint(r, FRAMES_VARINT_MAX);
        length = frames_varint(r, FRAMES_VARINT_MAX);
        if (r->bad || gap + 2 + length > low) {
            (void)frames_fail(r);
            return;
        }
        f->range[f->range_count].last = low - gap - 2;
        low = f->range[f->range_count].first = low - gap - 2 - length;
    }
    for (i = 0; f->type == 0x03 && i < 3; i++)
        f->ecn[i] = frames_varint(r, FRAMES_VARINT_MAX);
}

static void frames_stream(frames_reader *r, p2p_frames_frame *f) {
    f->stream = frames_stream_id(r);
    if (f->type & 4u && (f->offset = frames_varint(r, FRAMES_VARINT_MAX)) == 0)
        (void)frames_fail(r);
    f->data = frames_bytes(r, f->type & 2u ? frames_varint(r, FRAMES_VARINT_MAX)
                                           : (uint64_t)(r->end - r->at));
    if (f->data.size > FRAMES_VARINT_MAX - f->offset)
        (void)frames_fail(r);
}

/* RFC 3629: shortest form, no surrogates, nothing above U+10FFFF. */
static bool frames_utf8(p2p_span s) {
    size_t i = 0, size, k;
    while (i < s.size) {
        uint8_t a = s.data[i], b = i + 1 < s.size ? s.data[i + 1] : 0;
        size = a < 0x80 ? 1 : a < 0xc2 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : a < 0xf5 ? 4 : 0;
        if (size == 0 || size > s.size - i || (a == 0xe0 && b < 0xa0) || (a == 0xed && b > 0x9f) ||
            (a == 0xf0 && b < 0x90) || (a == 0xf4 && b > 0x8f))
            return false;
        for (k = 1; k < size; k++)
            if ((s.data[i + k] & 0xc0) != 0x80)
                return false;
        i += size;
    }
    return true;
}

static void frames_close(frames_reader *r, p2p_frames_frame *f) {
    f->origin = (uint32_t)frames_varint(r, 1);
    f->code = frames_varint(r, UINT32_MAX);
    f->data = frames_bytes(r, frames_varint(r, FRAMES_REASON_MAX));
    if (!frames_utf8(f->data))
        (void)frames_fail(r);
}

static void frames_response(frames_reader *r, p2p_frames_frame *f) {
    p2p_span family;
    f->data = frames_bytes(r, 8);
    family = frames_bytes(r, 1);
    if (family.size == 0 || (family.data[0] != 4 && family.data[0] != 6))
        (void)frames_fail(r);
    else
        (void)frames_bytes(r, (family.data[0] == 4 ? 4u : 16u) + 2u);
}

static void frames_padding(frames_reader *r) {
    while (r->at != r->end && *r->at == 0)
        r->at++;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Frames about limits, which are rows of numbers. False: it is none. */
static bool frames_limit(frames_reader *r, p2p_frames_frame *f) {
    switch (f->type) {
    case 0x10:
    case 0x14: f->value = frames_varint(r, FRAMES_VARINT_MAX); return true;
    case 0x11:
    case 0x15:
        f->stream = frames_stream_id(r);
        f->value = frames_varint(r, FRAMES_VARINT_MAX);
        return true;
    case 0x12:
    case 0x16:
        f->kind = frames_varint(r, 2);
        f->value = frames_varint(r, FRAMES_STREAMS_MAX);
        return true;
    default: return false;
    }
}

static void frames_reset(frames_reader *r, p2p_frames_frame *f) {
    f->stream = frames_stream_id(r);
    f->code = frames_varint(r, UINT32_MAX);
    if (f->type == 0x04)
        f->final_size = frames_varint(r, FRAMES_VARINT_MAX);
}

static void frames_body(frames_reader *r, p2p_frames_frame *f) {
    if (f->type >= 0x08 && f->type <= 0x0f) {
        frames_stream(r, f);
        return;
    }
    if (f->type >= 0x40 && f->type <= 0x7f) {
        f->data = frames_bytes(r, frames_varint(r, FRAMES_VARINT_MAX));
        return;
    }
    switch (f->type) {
    case 0x00: frames_padding(r); break;
    case 0x01:
    case 0x22: break;
    case 0x02:
    case 0x03: frames_ack(r, f); break;
    case 0x04:
    case 0x05: frames_reset(r, f); break;
    case 0x1a: f->data = frames_bytes(r, 8); break;
    case 0x1b: frames_response(r, f); break;
    case 0x1c: frames_close(r, f); break;
    case 0x20:
    case 0x31: f->data = frames_bytes(r, frames_varint(r, FRAMES_VARINT_MAX)); break;
    case 0x21: f->data = frames_bytes(r, FRAMES_AUTH); break;
    case 0x30: f->data = frames_bytes(r, (uint64_t)(r->end - r->at)); break;
    default:
        if (!frames_limit(r, f))
            (void)frames_fail(r);
    }
}

static frames_reader frames_of(const p2p_span *packet) {
    frames_reader r;
    r.at = packet->data;
    r.end = packet->data + packet->size;
    r.bad = false;
    return r;
}

static int frames_done(p2p_span *packet, const frames_reader *r) {
    if (r->bad)
        return P2P_ERR_PROTOCOL;
    packet->size -= (size_t)(r->at - packet->data);
    packet->data = r->at;
    return 1;
}

int p2p_frames_number(p2p_span *packet, uint64_t *number) {
    frames_reader r = frames_of(packet);
    *number = frames_varint(&r, FRAMES_VARINT_MAX);
    return frames_done(packet, &r);
}

int p2p_frames_next(p2p_span *packet, p2p_frames_frame *out) {
    frames_reader r = frames_of(packet);
    memset(out, 0, sizeof *out);
    if (packet->size == 0)
        return 0;
    out->type = frames_varint(&r, FRAMES_VARINT_MAX);
    frames_body(&r, out);
    out->size = (size_t)(r.at - packet->data);
    return frames_done(packet, &r);
}

const char *p2p_frames_name(uint64_t type) {
    static const char *const names[] = {"padding",
                                        "ping",
                                        "ack",
                                        "ack",
                                        "reset_stream",
                                        "stop_sending",
                                        "unknown",
                                        "unknown",
                                        "stream",
                                        "stream",
                                        "stream",
                                        "stream",
                                        "stream",
                                        "stream",
                                        "stream",
                                        "stream",
                                        "max_data",
                                        "max_stream_data",
                                        "max_streams",
                                        "unknown",
                                        "data_blocked",
                                        "stream_data_blocked",
                                        "streams_blocked",
                                        "unknown",
                                        "unknown",
                                        "unknown",
                                        "path_challenge",
                                        "path_response",
                                        "connection_close"};
    if (type == 0x30 || type == 0x31)
        return "datagram";
    return type < sizeof names / sizeof *names ? names[type] : "unknown";
}
