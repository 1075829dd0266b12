/* p2p_qlog.h: a run of the simulator as qlog (draft-ietf-quic-qlog-main-schema): JSON text sequences
 * (RFC 7464), a header and one record an event, in the order of virtual time.
 *
 * The events are those of the namespace "p2p", which docs/SEEING.md describes field by field; where
 * QUIC's events (draft-ietf-quic-qlog-quic-events) say the same thing, names, fields and units are
 * theirs. What whoever runs the network says is simulation:marker. group_id is "alice>bob" for what
 * alice saw of her connections with bob, so that tools show each end as a trace of its own. */
#ifndef P2P_QLOG_H
#define P2P_QLOG_H
#include "p2p_see.h"

#include <stdio.h>

typedef struct p2p_qlog_desc {
    const char *title; /* NULL: none */
    uint64_t seed;     /* told in simulation:scenario, with a title */
} p2p_qlog_desc;

/* desc may be NULL. out belongs to the sink from now on, and its close closes it. P2P_ERR_ARENA: no
 * memory; out is still the caller's. close gives P2P_ERR_IO when something could not be written. */
int p2p_qlog_open(FILE *out, const p2p_qlog_desc *desc, p2p_see_sink *sink);
#endif
