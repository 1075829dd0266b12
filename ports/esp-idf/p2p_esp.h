/* p2p_esp.h: what p2p.h asks of ESP-IDF. SPDX-License-Identifier: MIT-0
 *
 * lwIP has a thread of its own here: every call of p2p.h and of ports/p2p_lwip.h is made with the
 * core lock held (LOCK_TCPIP_CORE), or from functions given to tcpip_callback. */
#ifndef P2P_ESP_H
#define P2P_ESP_H
#include "p2p_lwip.h"

/* Clock and entropy of the chip into the desc of ports/p2p_lwip.h. esp_fill_random is a true
 * generator while Wi-Fi or Bluetooth is on, or the bootloader's source is enabled. */
void p2p_esp_desc(p2p_lwip_desc *out);

#endif
