/* lwipopts.h: ports/lwipopts.h, and what the Wi-Fi of the Pico SDK wants beside it. */
#ifndef PICO_LWIPOPTS_H
#define PICO_LWIPOPTS_H
#define LWIP_NETIF_TX_SINGLE_PBUF 1 /* the driver sends from one piece */
#include "../../ports/lwipopts.h"
#undef LWIP_NETIF_LINK_CALLBACK
#define LWIP_NETIF_LINK_CALLBACK 1
#undef LWIP_NETIF_STATUS_CALLBACK
#define LWIP_NETIF_STATUS_CALLBACK 1
#endif
