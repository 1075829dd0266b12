/* p2p_pico.h: what p2p.h asks of the Pico SDK. SPDX-License-Identifier: MIT-0 */
#ifndef P2P_PICO_H
#define P2P_PICO_H
#include "p2p_lwip.h"

/* Clock and entropy of the SDK into the desc of ports/p2p_lwip.h. pico_rand mixes the ring
 * oscillator (on the RP2350 the TRNG) with time and bus counters: read its chapter in the SDK
 * before keys depend on it. */
void p2p_pico_desc(p2p_lwip_desc *out);

#endif
