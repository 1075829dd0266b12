/* lwipopts.h: the lwIP 2.2 that ports/p2p_lwip.h is tested with, in firmware and on the desktop.
 *
 * UDP, ARP, ICMP, DHCP and DNS over Ethernet; all memory static. Every number may be given to the
 * compiler instead (-DPBUF_POOL_SIZE=16). The builds of this tree differ in these:
 *     LWIP_IPV6      1: both families
 *     NO_SYS         0: lwIP has a thread of its own; the core lock, and calls from other threads
 *                    caught. The platform's arch/sys_arch.h comes with it
 *     MEM_CUSTOM_ALLOCATOR, MEMP_MEM_MALLOC   1: each pbuf is an allocation, so that AddressSanitizer
 *                    sees what writes beyond one
 * SPDX-License-Identifier: MIT-0 */
#ifndef LWIPOPTS_H
#define LWIPOPTS_H
#include <stdint.h>

/* ---- who drives ---- */
#ifndef NO_SYS
#define NO_SYS 1
#endif
#define LWIP_NETCONN 0
#define LWIP_SOCKET  0
#if NO_SYS
#define SYS_LIGHTWEIGHT_PROT 0
#else
#define SYS_LIGHTWEIGHT_PROT 1
#ifndef LWIP_TCPIP_CORE_LOCKING
#define LWIP_TCPIP_CORE_LOCKING 1
#endif
#define TCPIP_MBOX_SIZE           32
#define LWIP_ASSERT_CORE_LOCKED() sys_check_core_locking()
#endif

/* ---- protocols ---- */
#define LWIP_TCP                 0
#define LWIP_RAW                 0
#define LWIP_UDP                 1
#define LWIP_IPV4                1
#define LWIP_ICMP                1
#define LWIP_DHCP                1
#define LWIP_DNS                 1
/* Seven seconds to see whether somebody else has the address that the server just gave. */
#define LWIP_DHCP_DOES_ACD_CHECK 0
#define LWIP_ACD                 0
/* p2p.h finds out by itself how large a datagram may be. */
#define IP_FRAG                  0
#define IP_REASSEMBLY            0
#ifndef LWIP_IPV6
#define LWIP_IPV6 0
#endif
#define LWIP_IPV6_MLD   LWIP_IPV6
#define LWIP_IPV6_DHCP6 0
#define LWIP_IPV6_FRAG  0
#define LWIP_IPV6_REASS 0

/* ---- interfaces ---- */
#define LWIP_NETIF_EXT_STATUS_CALLBACK 1
#define LWIP_NETIF_LINK_CALLBACK       0
#define LWIP_NETIF_STATUS_CALLBACK     0
#define LWIP_NETIF_HOSTNAME            1
#define LWIP_NETIF_LOOPBACK            0
#define LWIP_HAVE_LOOPIF               0

/* ---- memory ---- */
#ifndef MEM_ALIGNMENT
#if UINTPTR_MAX > 0xffffffffu
#define MEM_ALIGNMENT 8
#else
#define MEM_ALIGNMENT 4
#endif
#endif
#ifndef MEM_SIZE
#define MEM_SIZE (8 * 1024) /* datagrams that go out, ARP's queue, DHCP */
#endif
#ifndef PBUF_POOL_SIZE
#define PBUF_POOL_SIZE 8 /* frames that come in, one each */
#endif
#ifndef PBUF_POOL_BUFSIZE
#define PBUF_POOL_BUFSIZE 1536
#endif
#ifndef MEMP_NUM_PBUF
#define MEMP_NUM_PBUF 8
#endif
#ifndef MEMP_NUM_UDP_PCB
#define MEMP_NUM_UDP_PCB 4 /* DHCP, DNS, p2p.h, and one for the program */
#endif
#ifndef MEMP_NUM_SYS_TIMEOUT
#define MEMP_NUM_SYS_TIMEOUT (LWIP_NUM_SYS_TIMEOUT_INTERNAL + 2) /* p2p.h, and one spare */
#endif
#define ARP_QUEUEING 1

/* ---- the rest ---- */
/* The two fast ones break in gcc's hands at -Os on some cores. */
#define LWIP_CHKSUM_ALGORITHM 3
#ifndef LWIP_STATS
#define LWIP_STATS 0
#endif

#endif
