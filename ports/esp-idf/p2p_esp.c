/* p2p_esp.c: the implementations of p2p.h and its ports, and what they ask of ESP-IDF.
 * SPDX-License-Identifier: MIT-0 */
#define P2P_IMPLEMENTATION
#define P2P_LWIP_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#include "p2p.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_lwip.h"
#include "p2p_esp.h"
#include "esp_random.h"
#include "esp_timer.h"
#include "sodium/core.h"

static uint64_t now_us(void *ctx) {
    (void)ctx;
    return (uint64_t)esp_timer_get_time();
}

static int fill(void *ctx, void *out, size_t size) {
    (void)ctx;
    esp_fill_random(out, size);
    return P2P_OK;
}

void p2p_esp_desc(p2p_lwip_desc *out) {
    memset(out, 0, sizeof *out);
    out->now_us = now_us;
    out->random = fill;
}

/* libsodium looks for processors and entropy here; there is one, and p2p.h brings the other. */
int sodium_init(void) { return 0; }
