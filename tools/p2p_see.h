/* p2p_see.h: looking at a run of the simulator.
 *
 * A run is watched by sinks: a capture (p2p_pcap.h), a log (p2p_qlog.h), a page, a test. A sink is
 * one struct of functions, each of which may be NULL. What the simulator's trace, the channels, the
 * program's events and the counters of the connections tell comes to all of them in the order of
 * virtual time. Watching changes nothing: a run with sinks has the digest of one without.
 *
 *     p2p_see *see = p2p_see_open(sim, &why);
 *     p2p_see_add(see, &sink);                     one or more, made by p2p_pcap_open and others
 *     p2p_sim_id(sim, "alice", &id);
 *     p2p_see_secure(see, &id, &desc);             so that packets can be seen, before
 *     p2p_sim_node(sim, "alice", &desc, &node);
 *     p2p_see_set_vertex(see, "alice", &id, node); it has a name, and is sampled
 *     p2p_see_tell_event(see, node, event);        in on_event, or after p2p_sim_await
 *     p2p_see_tell_note(see, NULL, "fault", "loss is 5 % now");
 *     p2p_sim_close(sim);
 *     p2p_see_close(see);                          closes the sinks as well
 *
 * Calls that fail return P2P_ERR_*, and *why says what it was. Memory comes from malloc. */
#ifndef P2P_SEE_H
#define P2P_SEE_H
#include "p2p_sim.h"

enum {
    P2P_SEE_SINKS = 8,
    P2P_SEE_NAME = 64,
    P2P_SEE_SAMPLE_US = 10000 /* a connection is sampled so often at most, unless told otherwise */
};

/* What has an address: a node, a router. It stays where it is as long as the p2p_see. */
typedef struct p2p_see_vertex {
    char name[P2P_SEE_NAME];
    p2p_id id;
    p2p_addr addr;    /* where others reach it */
    p2p_addr inside;  /* its own, which behind a box is another one */
    p2p_node *node;   /* NULL: it only forwards, or does not run now */
    uint32_t index;   /* from 0 on */
    uint64_t time_us; /* when it became what it is */
} p2p_see_vertex;

/* Something became of a datagram; the trace's item, and whom it speaks of. to is where it goes, which
 * may be a box, or NULL when the address is nobody's; next is NULL unless a link did it. peer is who
 * has the other end of the session: seen from the node that it was DELIVERED to the sender, else the
 * one that is meant, and where that is not known yet the same as to. */
typedef struct p2p_see_datagram {
    const p2p_sim_trace_item *item;
    const p2p_see_vertex *from, *to, *at, *next, *peer;
} p2p_see_datagram;

/* A packet in clear, whatever the channel: as it was sealed, just before its datagram is SENT, or
 * opened, just after its datagram was DELIVERED. */
typedef struct p2p_see_packet {
    uint64_t time_us;
    const p2p_see_vertex *at, *peer;
    uint8_t sent, server; /* server: `at` was dialled */
    uint8_t session[8];
    uint32_t datagram; /* p2p_sim_trace_item.number */
    uint32_t size;     /* of that datagram */
    p2p_span plain;    /* packet number and frames; until the function returns */
} p2p_see_packet;

typedef struct p2p_see_event {
    uint64_t time_us;
    const p2p_see_vertex *at, *peer; /* peer NULL: the event has none, or it is unknown */
    const p2p_event *event;
} p2p_see_event;

/* How a connection is doing, when anything of it changed since the last sample. */
typedef struct p2p_see_sample {
    uint64_t time_us;
    const p2p_see_vertex *at, *peer;
    p2p_conn conn;
    const p2p_stats *stats;
} p2p_see_sample;

/* A word of whoever runs the network: "fault", "program", ... */
typedef struct p2p_see_note {
    uint64_t time_us;
    const p2p_see_vertex *at; /* NULL: the network */
    const char *type, *text;
} p2p_see_note;

typedef struct p2p_see_sink {
    void *ctx;
    void (*vertex)(void *ctx, const p2p_see_vertex *vertex); /* new, or changed */
    void (*datagram)(void *ctx, const p2p_see_datagram *datagram);
    void (*packet)(void *ctx, const p2p_see_packet *packet);
    void (*event)(void *ctx, const p2p_see_event *event);
    void (*sample)(void *ctx, const p2p_see_sample *sample);
    void (*note)(void *ctx, const p2p_see_note *note);
    /* The end: writes what is left and frees itself. 0, or < 0 when the output could not be
     * written. */
    int (*close)(void *ctx);
} p2p_see_sink;

typedef struct p2p_see p2p_see;

/* Takes the trace of the simulator. NULL: no memory. */
p2p_see *p2p_see_open(p2p_sim *sim, p2p_error_detail *why);
/* The sink is copied. P2P_ERR_LIMIT: there are P2P_SEE_SINKS already. */
int p2p_see_add(p2p_see *see, const p2p_see_sink *sink);
/* A vertex of the simulator that is new, restarted, behind another box or (node NULL) crashed. */
int p2p_see_set_vertex(p2p_see *see, const char *name, const p2p_id *id, p2p_node *node);
/* Wraps desc->secure, or the simulator's where it is empty, so that packets can be seen in clear.
 * Slabs get no larger, and the bytes on the wire stay the same. */
int p2p_see_secure(p2p_see *see, const p2p_id *id, p2p_desc *desc);
void p2p_see_tell_event(p2p_see *see, const p2p_node *node, const p2p_event *event);
/* at NULL: of the network. */
void p2p_see_tell_note(p2p_see *see, const p2p_id *at, const char *type, const char *text);
/* Shortest time between two samples of a node's connections; 0: at every datagram. */
void p2p_see_sample_every(p2p_see *see, uint64_t every_us);
/* By id; NULL: never heard of. */
const p2p_see_vertex *p2p_see_find(const p2p_see *see, const p2p_id *id);
/* After p2p_sim_close, since nodes use what p2p_see_secure made to their end. 0, or the first
 * thing that went wrong: with a sink, or P2P_ERR_ARENA where memory was short and something is not
 * shown. */
int p2p_see_close(p2p_see *see);
#endif
