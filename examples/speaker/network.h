/* network.h: the board's Ethernet as lwIP's network interface, with an address by DHCP. */
#ifndef NETWORK_H
#define NETWORK_H
#include "lwip/netif.h"

extern struct netif network;

/* Starts lwIP and the interface. The arguments "mac=N" (the last byte), and "ip=N" for the fixed
 * address 10.0.7.N in place of DHCP, tell two boards apart. 0, or < 0 when there is no Ethernet. */
int network_start(void);
/* Takes what has arrived, follows the cable, runs lwIP's timers. Call it in every turn. */
void network_poll(void);

#endif
