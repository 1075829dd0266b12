/* p2p_pico.c: the implementations of p2p.h and its ports, and what they ask of the Pico SDK.
 * SPDX-License-Identifier: MIT-0 */
#define P2P_IMPLEMENTATION
#define P2P_LWIP_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_lwip.h"
#include "p2p_pico.h"
#include "pico.h"
#include "pico/rand.h"
#include "pico/time.h"
#include "sodium/core.h"

static uint64_t now_us(void *ctx) {
    (void)ctx;
    return time_us_64();
}

static int fill(void *ctx, void *out, size_t size) {
    uint8_t *at = (uint8_t *)out;
    uint64_t bits;
    size_t part;
    (void)ctx;
    for (; size > 0; size -= part, at += part) {
        part = size < sizeof bits ? size : sizeof bits;
        bits = get_rand_64();
        memcpy(at, &bits, part);
    }
    return P2P_OK;
}

void p2p_pico_desc(p2p_lwip_desc *out) {
    memset(out, 0, sizeof *out);
    out->now_us = now_us;
    out->random = fill;
}

/* libsodium looks for processors and entropy here; there is one, and p2p.h brings the other. */
int sodium_init(void) { return 0; }
