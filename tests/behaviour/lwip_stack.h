/* lwip_stack.h: one lwIP with one Ethernet interface, whose cables are Unix datagram sockets.
 *
 * It is a shared library: lwIP keeps its state in globals, and a library's are the process's own,
 * while those of the program are shared between the processes of a world (see world_lwip.h).
 * Hosts are numbered from 0: host i has the addresses 10.0.0.(i + 1) and fd00::(i + 1). */
#ifndef LWIP_STACK_H
#define LWIP_STACK_H
#include "p2p_lwip.h"

enum { LWIP_STACK_HOSTS = 3 };

uint64_t lwip_stack_now_us(void *ctx);
/* Once a process: lwIP, its interface and its addresses. cables[i] is a socket to host i, -1 for
 * its own. */
void lwip_stack_start(int host, const int cables[LWIP_STACK_HOSTS]);
int lwip_stack_open(p2p_lwip *io, p2p_desc *desc);
/* Frames that came, lwIP's timers, one step. How much was done. node NULL: nobody there. */
int lwip_stack_turn(p2p_lwip *io, p2p_node *node);
#endif
