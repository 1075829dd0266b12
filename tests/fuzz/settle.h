/* settle.h: a node comes to rest: for fuzz targets over tests/unit/bare.h. */
#ifndef SETTLE_H
#define SETTLE_H

/* Everything that is due leaves and is told; it must end, and then nothing may be due at once. */
static void settle(void (*events)(void)) {
    uint8_t out[1500];
    for (uint32_t n = 0; n < 8; n++) {
        uint32_t packets = 0;
        events();
        while (leaves(out, NULL))
            FUZZ_CHECK(++packets < 2000);
        (void)p2p_poll(node, node->now_us);
        if (p2p_deadline(node) != 0)
            break;
        FUZZ_CHECK(n < 7);
    }
    FUZZ_CHECK(p2p_check(node) == P2P_OK);
}
#endif
