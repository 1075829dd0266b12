/* A packet's frames: what parses has one encoding, lies inside the packet and keeps its limits. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#include "p2p.h"
#include "replay.h"
#include "wire_encode.h"

static void check_inside(const uint8_t *packet, size_t size, const uint8_t *part, size_t length) {
    FUZZ_CHECK(part >= packet && length <= size && (size_t)(part - packet) <= size - length);
}

static void check_limits(const p2p__frame *f) {
    uint64_t above = f->largest + 2;
    FUZZ_CHECK(f->offset <= P2P__VARINT_MAX - f->data.size);
    FUZZ_CHECK(f->code <= UINT32_MAX && f->value <= P2P__VARINT_MAX && f->origin <= 1);
    FUZZ_CHECK(f->ranges <= P2P__ACK_RANGES);
    FUZZ_CHECK((f->type == P2P__FRAME_ACK) == (f->ranges > 0));
    for (uint32_t i = 0; i < f->ranges; i++) {
        FUZZ_CHECK(f->range[i].first <= f->range[i].last && f->range[i].last + 2 <= above);
        above = f->range[i].first;
    }
    FUZZ_CHECK(!f->ranges || f->range[0].last == f->largest);
}

/* Whether the frame, written again, is the end of what was consumed; all before it was skipped. */
static int same_again(const p2p__frame *f, bool sized, const uint8_t *from, const uint8_t *to) {
    static uint8_t room[1 << 17];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__reader skipped;
    p2p__frame none;
    size_t size;
    wire_encode(&w, f, sized);
    FUZZ_CHECK(!w.bad);
    size = (size_t)(w.at - room);
    if (size > (size_t)(to - from) || memcmp(to - size, room, size) != 0)
        return 0;
    skipped = p2p__reader_of(from, (size_t)(to - from) - size);
    return p2p__frame_get(&skipped, &none) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    p2p__reader r = p2p__reader_of(data, size);
    const uint8_t *from = r.at;
    p2p__frame f;
    int result;
    if (size > 65536)
        return 0;
    while ((result = p2p__frame_get(&r, &f)) == 1) {
        FUZZ_CHECK(r.at > from);
        if (f.data.data)
            check_inside(data, size, f.data.data, f.data.size);
        if (f.bytes)
            check_inside(data, size, f.bytes, f.type == P2P__FRAME_AUTH ? P2P__AUTH_SIZE : 8);
        check_limits(&f);
        FUZZ_CHECK(same_again(&f, true, from, r.at) ||
                   (r.at == data + size && same_again(&f, false, from, r.at)));
        from = r.at;
    }
    FUZZ_CHECK(result == 0 || result == P2P_ERR_PROTOCOL);
    FUZZ_CHECK(p2p__frame_get(&r, &f) == result);
    return 0;
}
