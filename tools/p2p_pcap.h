/* p2p_pcap.h: a run of the simulator as a capture that Wireshark and tshark read (pcapng).
 *
 * It is what tcpdump would have written on every machine at once. Each vertex is an interface with
 * its name. A datagram is in the file where it was SENT (outbound) and where it was DELIVERED
 * (inbound), as captures at both ends would have it, so one that was lost is there once. What
 * happened in between, which no capture of a real network can show, is there as well, with a
 * comment that says what: at the vertex where it was lost, refused, forwarded, doubled or changed.
 * So
 *     frame.interface_name == "alice" && !frame.comment      what alice saw
 *     frame.comment                                          what the network did
 * Sent and delivered ones of one datagram have the same frame.packet_id, and the low 16 bits of it
 * are ip.id. Times are virtual, in microseconds from 0.
 *
 * The file's bytes depend on the run alone. Addresses are the simulator's; headers of IPv4 or IPv6
 * and UDP are made up around the datagram, with right checksums. A datagram too large for them
 * (65,507 bytes over IPv4) is cut, and its comment says so. */
#ifndef P2P_PCAP_H
#define P2P_PCAP_H
#include "p2p_see.h"

#include <stdio.h>

/* out belongs to the sink from now on, and its close closes it. P2P_ERR_ARENA: no memory; out is
 * still the caller's. close gives P2P_ERR_IO when something could not be written. */
int p2p_pcap_open(FILE *out, p2p_see_sink *sink);
#endif
