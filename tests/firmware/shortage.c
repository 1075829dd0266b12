/* shortage.c: takes the place of lwIP's pbuf_alloc in the checked image (--wrap) and makes memory
 * short: with starve_at=MS, all of it is gone from then on for starve_ms=MS; with starve=N, N of
 * 100 calls find none. Says how many frames came in, 1,000 at a time. */
#include "board.h"
#include "lwip/pbuf.h"

struct pbuf *__real_pbuf_alloc(pbuf_layer layer, u16_t size, pbuf_type type);
struct pbuf *__wrap_pbuf_alloc(pbuf_layer layer, u16_t size, pbuf_type type);

static bool in_window(void) {
    static uint64_t from, to;
    uint64_t ms = board_now_us(NULL) / 1000;
    if (to == 0) {
        from = board_arg_number("starve_at", 0xffffffff);
        to = from + board_arg_number("starve_ms", 0) + 1;
    }
    return ms >= from && ms < to;
}

static bool unlucky(void) {
    static uint32_t percent = 1000, state = 12345;
    if (percent == 1000)
        percent = board_arg_number("starve", 0);
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % 100 < percent;
}

static void count_frame(void) {
    static uint32_t frames;
    if (++frames % 1000 == 0)
        board_print_line("frames", frames);
}

struct pbuf *__wrap_pbuf_alloc(pbuf_layer layer, u16_t size, pbuf_type type) {
    if (type == PBUF_POOL)
        count_frame();
    return in_window() || unlucky() ? NULL : __real_pbuf_alloc(layer, size, type);
}
