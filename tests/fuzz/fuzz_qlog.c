/* The log's own reader of frames: it agrees with p2p.h on what is malformed and on what is in the
 * frames, reads nothing beyond the packet, and the log stays one line of JSON. */
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "../../tools/p2p_see.c"
#include "../../tools/p2p_frames.c"
#include "../../tools/p2p_text.c"
#include "../../tools/p2p_qlog.c"
#include "replay.h"

/* p2p.h skips padding and extensions; so does this. */
static int next_that_counts(p2p_span *rest, p2p_frames_frame *f) {
    int rc;
    do
        rc = p2p_frames_next(rest, f);
    while (rc == 1 && (f->type == 0 || (f->type >= 0x40 && f->type <= 0x7f)));
    return rc;
}

static void check_same(const p2p_frames_frame *a, const p2p__frame *b) {
    FUZZ_CHECK(
        a->stream ==
        (b->type == P2P__FRAME_MAX_STREAMS || b->type == P2P__FRAME_STREAMS_BLOCKED ? 0 : b->id));
    FUZZ_CHECK(a->offset == b->offset && a->code == b->code && a->origin == b->origin);
    FUZZ_CHECK(a->value + a->final_size == b->value && a->delay_us == b->delay_us);
    FUZZ_CHECK(a->range_count == b->ranges);
    for (uint32_t i = 0; i < b->ranges; i++)
        FUZZ_CHECK(a->range[i].first == b->range[i].first && a->range[i].last == b->range[i].last);
    FUZZ_CHECK(b->bytes || (a->data.size == b->data.size && a->data.data == b->data.data));
}

static void check_log(const uint8_t *data, size_t size) {
    char *made = NULL;
    size_t made_size = 0, lines = 0, i;
    p2p_see_sink sink;
    p2p_see_vertex alice, bob;
    p2p_see_packet packet;
    memset(&alice, 0, sizeof alice);
    bob = alice;
    memset(&packet, 0, sizeof packet);
    packet.at = &alice;
    packet.peer = &bob;
    packet.plain.data = data;
    packet.plain.size = size;
    FUZZ_CHECK(p2p_qlog_open(open_memstream(&made, &made_size), NULL, &sink) == 0);
    sink.packet(sink.ctx, &packet);
    FUZZ_CHECK(sink.close(sink.ctx) == 0);
    for (i = 0; i < made_size; i++) {
        FUZZ_CHECK((uint8_t)made[i] >= 0x20 || made[i] == '\n' || made[i] == 0x1e);
        lines += made[i] == '\n';
    }
    FUZZ_CHECK(lines == 2 && made[made_size - 1] == '\n');
    free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    p2p__reader r = p2p__reader_of(data, size);
    p2p_span rest;
    p2p_frames_frame mine;
    p2p__frame theirs;
    int a, b;
    rest.data = data;
    rest.size = size;
    if (size > 65536)
        return 0;
    do {
        a = next_that_counts(&rest, &mine);
        b = p2p__frame_get(&r, &theirs);
        FUZZ_CHECK(a == b);
        if (a == 1)
            check_same(&mine, &theirs);
    } while (a == 1);
    check_log(data, size);
    return 0;
}
