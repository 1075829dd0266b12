/* p2p_sim.h - a virtual network for programs written against p2p.h: virtual time, faults, one seed.
 *
 * Put it beside your own code and run that code, unchanged, on a network of any shape and badness:
 * links with latency, jitter, loss, duplication, reordering, corruption, rate and queue; forwarding
 * vertices; partitions; NAT boxes; names; crashes. An hour of network takes milliseconds, and the
 * same seed gives the same bytes on every machine. Programs that speak plain UDP run on it too, see
 * HOSTS.
 *
 * Do this
 *     #define P2P_IMPLEMENTATION
 *     #define P2P_SIM_IMPLEMENTATION
 *     #include "p2p_sim.h"
 * in ONE source file, and only the #include in all others. p2p.h must lie on the include path.
 * No other library is needed: with no crypto given the simulator brings stand-ins (see INSECURE).
 *
 * STEP BY STEP
 *     static uint64_t memory[1 << 21];
 *     p2p_sim_desc net = {0};
 *     p2p_desc desc = {0};
 *     p2p_sim *sim;
 *     p2p_node *alice, *bob;
 *     p2p_listener listener;
 *     p2p_conn conn;
 *     p2p_event event;
 *     p2p_id to;
 *
 *     net.seed = 1;                                    // everything random follows from it
 *     net.link.latency_us = 20000;                     // what p2p_sim_connect uses for NULL
 *     net.link.loss_ppm = 10000;                       // 1 %
 *     desc.allow_anyone = 1;
 *     p2p_sim_open(&sim, &net, memory, sizeof memory);
 *     p2p_sim_node(sim, "alice", &desc, &alice);       // 1. nodes
 *     p2p_sim_node(sim, "bob", &desc, &bob);
 *     p2p_sim_connect(sim, p2p_node_id(alice), p2p_node_id(bob), NULL);    // 2. an edge
 *     p2p_listen(bob, NULL, &listener);                // 3. the program under test
 *     p2p_sim_id(sim, "bob", &to);
 *     p2p_connect(alice, &to, NULL, &conn);
 *     p2p_sim_await(sim, alice, P2P_EVENT_CONNECTED, 5000000, &event);     // 4. time passes
 *     p2p_sim_close(sim);
 * What can fail returns an int: check it, and read p2p_sim_desc.why when it is negative.
 *
 * MEMORY
 *     The network and its nodes lie in the arena given to p2p_sim_open, aligned to 8. It needs
 *     p2p_sim_arena_size(&net) and, for each node, p2p_sim_node_size(&net, &desc), which is
 *     p2p_arena_size with the simulator's tables filled in, and copies of texts and tickets that
 *     the desc points to. When it is too small the call says
 *     P2P_ERR_ARENA, and why.max is the size of the whole arena that would have done.
 *
 * TIME
 *     Virtual, in microseconds, from 0. p2p_sim_step goes to the next thing that happens (or, with
 *     step_us, on by step_us x time_multiplier). p2p_sim_run_until (a time), p2p_sim_run_idle
 *     (nothing is to be done any more) and p2p_sim_await (an event) do as many steps as needed. All
 *     look at every node first, so calls made on nodes in between are noticed; with thousands of
 *     nodes prefer few long runs to many steps. Inside a run the simulator looks only at the node
 *     it serves: a handler or on_event that calls into ANOTHER node tells it by p2p_sim_touch.
 *
 * EVENTS
 *     Without on_event they stay with their nodes, for p2p_next_event or p2p_sim_await. With it the
 *     simulator takes them all and calls on_event, which may call everything of p2p.h that a
 *     handler may, and everything here but step, run_until, run_idle, await and close.
 *
 * NODES
 *     p2p_sim_crash ends one without a word; p2p_sim_restart opens it anew with the same key and an
 *     empty memory. p2p_sim_pause stops one as SIGSTOP stops a process: no timer of it runs, it
 *     sends nothing and gives no events; it still forwards for others. What arrives for it waits,
 *     receive_bytes of it, the rest is dropped and counted as buffer; p2p_sim_resume gives it all
 *     at once, in order. A crash ends a pause; what waited has reached nobody.
 *     Every node has a clock: the network's time, until p2p_sim_clock lets it drift or jump. It is
 *     told that time by all p2p.h calls, and its timers follow it; names, links and boxes do not.
 *     The clock outlives crash and restart. p2p.h never goes back in time: a clock set back stands
 *     still for it until it shows later than before. p2p_sim_node_now reads the clock.
 *
 * LINKS
 *     An edge is two links, one a direction, each with a p2p_sim_link of its own. All zero is up,
 *     instant and clean. What a datagram meets on a link, in this order:
 *       down           not taken; paths go round it if there is another way
 *       p2p_sim_drop   loses datagrams by their number: the third, or the fifth to the ninth
 *       mtu            larger datagrams vanish; 0: no limit
 *       queue_bytes    with rate_bps: what may wait to be sent, beyond it is dropped; 0: no limit
 *       codel          1, with rate_bps: drops as RFC 8289 does, target 5 ms, interval 100 ms, so
 *                      that no queue keeps standing
 *       loss_ppm       part of datagrams lost. burst_ppm: chance that the one after a lost one is
 *                      lost too (Gilbert's two states, the mean stays loss_ppm); 0: independent
 *       duplicate_ppm  a second copy follows
 *       corrupt_ppm    one byte is changed, among the first corrupt_head; 0: anywhere
 *       rate_bps       bits a second of payload and overhead; sent one after another
 *       latency_us     and what jitter draws on top. Order is kept, as queues keep it: one that
 *                      would overtake arrives with the one before
 *       reorder_ppm    held back by up to latency_us + jitter_us (at least 1 ms) more, so that
 *                      later ones overtake it
 *     overhead is what each datagram takes of queue and rate besides its payload: 28 for the
 *     headers of IPv4 and UDP. burst_max: after so many in a row that were lost or corrupted the
 *     next one is spared; 0: there is no such mercy.
 *     jitter, an enum p2p_sim_jitter, says what a datagram is under way:
 *       UNIFORM  latency_us at least, and up to jitter_us more
 *       NORMAL   latency_us in the mean, jitter_us is the standard deviation; less than 0 is 0
 *       PARETO   latency_us at least, and jitter_us more in the mean with a heavy tail (Lomax,
 *                shape 3): one in 1000 takes 18 times jitter_us, one in 65536 takes 78 times, none
 *                more
 *     ppm: millionths, at most 1000000. Each link draws from a generator of its own, so a fault
 *     taken away on one leaves the draws of all others as they were.
 *
 * PATHS
 *     A datagram takes the fewest hops over links that are up, the link added first where there is
 *     a choice; with P2P_SIM_ROUTING_LATENCY the least sum of latency_us, whatever jitter and rates
 *     there are, and of those ways the fewest hops. Nodes and p2p_sim_router vertices forward;
 *     hosts, crashed nodes and those behind a NAT do not. A NAT router also passes on, untouched,
 *     what is neither from nor to its inside. Without a way it is dropped: an unreachable peer is
 *     silent, as on the internet.
 *     p2p_sim_partition cuts two groups off from each other, direct links and ways round alike, at
 *     once; p2p_sim_partition_oneway does so for what the first group sends, and its answers do not
 *     come; p2p_sim_heal joins them both ways, also by other groups than were cut. partition_ppm
 *     draws partitions at random, oneway_ppm how many of those are one way.
 *
 * NAMES
 *     p2p_sim_register, or p2p_register on a node. Answers come after discovery_us. A name lives
 *     ttl_us after p2p_sim_register; one that a node registered lives while the node runs and
 *     ttl_us longer after a crash. The newest registration of a name counts. Of the questions,
 *     name_fail_ppm are answered with "not found" and name_silent_ppm not at all. By id every node
 *     is found at once: its address follows from its place in the graph.
 *
 * HOSTS
 *     p2p_sim_host makes a vertex that is a plain UDP program: no node and no p2p.h, only two
 *     functions of yours, one for datagrams and one for a timer, and p2p_sim_host_send. With it the
 *     simulator serves any protocol:
 *         static void echo(void *ctx, p2p_sim *sim, const p2p_id *host, uint16_t port,
 *                          const p2p_addr *from, p2p_span data) {
 *             (void)p2p_sim_host_send(sim, host, port, from, data.data, data.size);
 *         }
 *         p2p_sim_host_desc program = {echo, NULL, NULL};
 *         p2p_sim_host(sim, "server", &program, &id);
 *     All its ports are open; the port a datagram came to is told. Its time is the network's.
 *     Links, boxes, partitions, pauses, crashes, digest, trace and stats treat it like a node.
 *
 * NAT
 *     p2p_sim_nat puts a box before a node or host, or makes a p2p_sim_router vertex a NAT router,
 *     behind which p2p_sim_behind puts nodes, hosts and other routers: a LAN. Boxes stack: one
 *     behind another (a home router behind a carrier's), or by level before the same vertex, level
 *     0 innermost. RFC 4787's words for the kinds:
 *                   mapping                      filtering                    outer port
 *         FULL      endpoint-independent         endpoint-independent         kept if free
 *         ADDR      endpoint-independent         address-dependent            kept if free
 *         PORT      endpoint-independent         address and port-dependent   kept if free
 *         SYM       address and port-dependent   address and port-dependent   random
 *         FIREWALL  as PORT, and nothing is translated: who lies behind keeps the address
 *         BLOCKED   nothing passes
 *     mapping, filtering and ports of the desc replace what the kind says. "Kept if free": else, as
 *     for the second of two programs with the same port, a random one, or with NEXT the next.
 *       timers      a flow ends lone_us after the last datagram, or assured_us, once it went both
 *                   ways and was refreshed 2 s after its start or later, as Linux does it. Outward
 *                   always refreshes, inward unless outbound_only
 *       refused     what nobody asked for vanishes without a word (no ICMP). With early it takes
 *                   the pair of outer port and remote, as where Linux accepts datagrams to itself:
 *                   the next flow from within to that remote then gets another port, and punching
 *                   fails that began too early
 *       hairpin     from inside to an outer address of the same box: 0 vanishes; 1 goes back in,
 *                   with the outer address as its source, whatever the filter says
 *       table_max   flows at a time; with all in use a new one vanishes
 *       rebind      p2p_sim_nat_rebind_to forgets all flows, and gives the same ports again
 *                   (FLUSH), others (PORT) or another outer address (ADDR)
 *     ADDRESSES   Each vertex has an address by its number, 10.0.0.1 and on, with port 4000 where
 *     its node listens; boxes have outer ones, 11.0.0.1 and on, or 100.64.0.1 and on behind another
 *     box. Behind a box with overlap addresses are 192.168.1.2 and on, the same in each such LAN.
 *     An address means who has it in the LAN of the sender; else the datagram goes out through the
 *     box, and the address means who has it there; and so on. So private addresses of other LANs
 *     lead nowhere, or to the wrong neighbour, as in life. A packet's remote and local are what a
 *     socket there would see. p2p_sim_addr tells the outermost, p2p_sim_addr_inside the own.
 *     Build from outside in: a router's boxes first, then who lies behind it. A LAN of two:
 *         p2p_sim_nat_desc box = {P2P_SIM_NAT_PORT};
 *         p2p_sim_router(sim, "home", &home);
 *         p2p_sim_connect(sim, &home, &internet, NULL);
 *         p2p_sim_nat(sim, &home, &box);
 *         p2p_sim_connect(sim, &alice, &home, NULL);   and so bob
 *         p2p_sim_behind(sim, &alice, &home);
 *
 * ENVIRONMENT
 *     p2p_sim_desc_from_env asks a function of yours for these names; unset is the default,
 *     anything else than a decimal number in the range is an error that names it.
 *       SIMULATOR_SEED                     1         seed
 *       SIMULATOR_DEFAULT_LATENCY_MS       50        link.latency_us
 *       SIMULATOR_P2P_LATENCY_MS           -         the same, replaces the one before
 *       SIMULATOR_DEFAULT_PACKET_LOSS      0.01      link.loss_ppm, 0 to 1 in steps of 0.000001
 *       SIMULATOR_P2P_PACKET_LOSS          -         the same, replaces the one before
 *       SIMULATOR_DISCOVERY_DELAY_MS       100       discovery_us
 *       SIMULATOR_CONNECTION_TIMEOUT_SECS  30        connect_us, 1 at least
 *       SIMULATOR_MAX_MESSAGE_SIZE         1048576   message_max, 1 at least
 *       SIMULATOR_TIME_MULTIPLIER          1         time_multiplier, 1 to 1000000
 *       SIMULATOR_STEP_SIZE_MS             0         step_us
 *       SIMULATOR_PARTITION_PROBABILITY    0         partition_ppm, 0 to 1
 *       SIMULATOR_DNS_TTL_SECONDS          300       ttl_us, 1 at least
 *       SIMULATOR_P2P_FAILURE_RATE         0         failure_ppm, 0 to 1
 *
 * SEEING
 *     p2p_sim_trace has a function told of everything that becomes of a datagram, p2p_sim_stats_get
 *     counts it. tools/p2p_see.h hands it on, with packets in clear, events and how connections
 *     are doing, to captures for Wireshark, qlog or a sink of yours: see docs/SEEING.md.
 *
 * INSECURE
 *     With p2p_sim_desc.crypto empty, keys and signatures are a stand-in made of integer mixing
 *     (p2p_sim__insecure_crypto): anyone can forge them. With p2p_sim_desc.secure empty, datagrams
 *     go in clear with a checksum (p2p_sim__null_api). Both serve tests; p2p_node_open refuses them
 *     and the keys of p2p_sim_key outside of the simulator. Give it the tables of p2p_sodium.h and
 *     p2p_mbedtls.h and the very same program runs with the real ones.
 *
 * DOES NOT read a clock, the environment (p2p_sim_desc_from_env asks the function it is given),
 * files or addresses of memory; call malloc; use floating point; run threads.
 *
 * MACROS
 *     P2P_SIM_IMPLEMENTATION   implementation file only: makes the implementation
 *     P2P_SIM_ASSERT(x)        implementation file only: what checks of the simulator's own state
 *                              do; default: nothing, or with P2P_DEBUG a trap
 *     P2P_STATIC               globally: all functions are static, as in p2p.h
 *
 * CONTENTS
 *     >>api
 *     >>base >>hash >>crypto >>null >>arena >>errors >>graph >>partition >>path >>nat >>queue
 *     >>link >>clock >>scope >>wire >>names >>node >>host >>drive >>env >>helpers
 *
 * LICENSE   see LICENSE beside this file.
 */

/* ==== >>api =================================================================================== */
#ifndef P2P_SIM_H
#define P2P_SIM_H
#include "p2p.h"
#if defined(P2P_STATIC_SECURE) || defined(P2P_STATIC_CRYPTO)
#error \
    "p2p_sim.h brings tables of its own: it does not go with P2P_STATIC_SECURE, P2P_STATIC_CRYPTO"
#endif
#ifndef P2P_DEF
#ifdef P2P_STATIC
#define P2P_DEF static
#else
#define P2P_DEF extern
#endif
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef struct p2p_sim p2p_sim;
enum p2p_sim_jitter { P2P_SIM_JITTER_UNIFORM, P2P_SIM_JITTER_NORMAL, P2P_SIM_JITTER_PARETO };
enum p2p_sim_routing { P2P_SIM_ROUTING_HOPS, P2P_SIM_ROUTING_LATENCY };
/* One direction of an edge; zeros: up, instant, clean. See LINKS above. */
typedef struct p2p_sim_link {
    uint64_t latency_us, jitter_us, rate_bps;
    uint32_t loss_ppm, burst_ppm, duplicate_ppm, reorder_ppm, corrupt_ppm, queue_bytes, mtu;
    uint8_t down, jitter, codel, reserved[1]; /* jitter: enum p2p_sim_jitter */
    uint32_t burst_max, corrupt_head, overhead;
} p2p_sim_link;
enum p2p_sim_nat_kind {
    P2P_SIM_NAT_NONE,
    P2P_SIM_NAT_FULL,
    P2P_SIM_NAT_ADDR,
    P2P_SIM_NAT_PORT,
    P2P_SIM_NAT_SYM,
    P2P_SIM_NAT_BLOCKED,
    P2P_SIM_NAT_FIREWALL
};
/* How much of the remote an outer port, or the right to come in, depends on (RFC 4787). */
enum p2p_sim_nat_dependence {
    P2P_SIM_NAT_AS_KIND,
    P2P_SIM_NAT_ENDPOINT_INDEPENDENT,
    P2P_SIM_NAT_ADDRESS_DEPENDENT,
    P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT
};
enum p2p_sim_nat_ports {
    P2P_SIM_NAT_PORTS_AS_KIND,
    P2P_SIM_NAT_PORTS_KEEP,  /* the inner one if it is free, else at random */
    P2P_SIM_NAT_PORTS_NEXT,  /* the inner one if it is free, else the next that is */
    P2P_SIM_NAT_PORTS_RANDOM /* of 1024 to 65535 */
};
enum p2p_sim_rebind { P2P_SIM_REBIND_PORT, P2P_SIM_REBIND_FLUSH, P2P_SIM_REBIND_ADDR };
/* See NAT above. kind, mapping, filtering, ports: the enums; hairpin, early, outbound_only,
 * overlap: 0 or 1; level: which box before this vertex, at most 7. table_max: flows at a time, 0 as
 * many as there is memory for; lone_us 30 s; assured_us 120 s, not below lone_us. */
typedef struct p2p_sim_nat_desc {
    uint8_t kind, hairpin, early, level;
    uint32_t table_max;
    uint64_t lone_us, assured_us;
    uint8_t mapping, filtering, ports, outbound_only, overlap, reserved[3];
} p2p_sim_nat_desc;
/* A plain UDP program. Both functions may be NULL, and may call everything here but step,
 * run_until, run_idle, await and close. data is valid until on_datagram returns. */
typedef struct p2p_sim_host_desc {
    void (*on_datagram)(void *ctx, p2p_sim *sim, const p2p_id *host, uint16_t port,
                        const p2p_addr *from, p2p_span data);
    void (*on_timer)(void *ctx, p2p_sim *sim, const p2p_id *host);
    void *ctx;
} p2p_sim_host_desc;
typedef struct p2p_sim_desc {
    /* Any; 0 is a seed like the others. */
    uint64_t seed;
    /* Vertices, routers included: default 16, at most 16,000,000. Edges: default as many as there
     * are pairs up to 64 nodes, else 4 a node. */
    uint32_t nodes, links;
    /* Datagrams of 1232 bytes under way at a time, or 5 small ones each: default 1024 + 16 a node.
     * More are dropped, and counted as full. */
    uint32_t packets;
    /* Default: the insecure stand-in and the null channel. */
    p2p_crypto crypto;
    p2p_secure secure;
    /* Of edges made with a NULL link. */
    p2p_sim_link link;
    /* Until a name is answered: default 100 ms, P2P_NEVER: no time. How long a name lives: default
     * 300 s, P2P_NEVER: for ever. */
    uint64_t discovery_us, ttl_us;
    /* 0: p2p_sim_step goes to the next event; else on by so much, time_multiplier times. */
    uint64_t step_us;
    /* time.connect_us and bytes.message_max of nodes that leave them 0. */
    uint64_t connect_us;
    uint32_t message_max;
    /* Default 1. */
    uint32_t time_multiplier;
    /* Chance, each virtual second, that the vertices are split in two at random for 1 to 5 s. */
    uint32_t partition_ppm;
    /* Chance that a peer is found at an address where nobody is, so that the dial fails. */
    uint32_t failure_ppm;
    /* NULL: events stay with their nodes. */
    void (*on_event)(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *event);
    void *ctx;
    /* Filled by every call of this header that fails; must outlive the sim. */
    p2p_error_detail *why;
    /* enum p2p_sim_routing. */
    uint32_t routing;
    /* Ranges that p2p_sim_drop remembers at a time: default 64. */
    uint32_t drops;
    /* Chance that a partition drawn at random is one way. */
    uint32_t oneway_ppm;
    /* Chances that a question for a name is answered with "not found", and that it is not answered
     * at all. */
    uint32_t name_fail_ppm, name_silent_ppm;
    /* What waits for a node that is paused, bytes of payload: default 212992, as on Linux. */
    uint32_t receive_bytes;
    /* For p2p_sim_run_idle: default 5 s. */
    uint64_t idle_us;
    /* NAT boxes: default as many as nodes, at most 1,000,000. Flows through all of them at a time:
     * default 4 a node and 256. */
    uint32_t boxes, flows;
} p2p_sim_desc;

/* What becomes of datagrams: each is sent, and ends as one of the others; forwarded counts hops on
 * the way, duplicated and corrupted count on top. */
#define P2P_SIM_FATES(X)                                                               \
    X(SENT, sent)             /* left a node */                                        \
    X(DELIVERED, delivered)   /* given to p2p_input or on_datagram */                  \
    X(LOST, lost)             /* by loss_ppm or p2p_sim_drop */                        \
    X(QUEUE, queue)           /* no room in queue_bytes, or by codel */                \
    X(MTU, mtu)               /* too large for a link */                               \
    X(ROUTE, route)           /* no way there: no link, link down, partition */        \
    X(NAT, nat)               /* a box refused it, coming or going */                  \
    X(NOBODY, nobody)         /* crashed, not a node, other port, address of nobody */ \
    X(FULL, full)             /* p2p_sim_desc.packets under way already */             \
    X(FORWARDED, forwarded)   /* passed on by a vertex */                              \
    X(DUPLICATED, duplicated) /* one more on the way by duplicate_ppm */               \
    X(CORRUPTED, corrupted)   /* changed by corrupt_ppm */                             \
    X(BUFFER, buffer)         /* a paused node's receive_bytes are full */
#define P2P_SIM__FATE_ENUM(upper, lower)  P2P_SIM_##upper,
#define P2P_SIM__FATE_FIELD(upper, lower) uint64_t lower;
enum p2p_sim_fate { P2P_SIM_FATES(P2P_SIM__FATE_ENUM) P2P_SIM_FATE_COUNT };
typedef struct p2p_sim_stats {
    P2P_SIM_FATES(P2P_SIM__FATE_FIELD)
} p2p_sim_stats;
typedef struct p2p_sim_trace_item {
    uint64_t time_us;
    uint32_t fate; /* enum p2p_sim_fate */
    /* to: where it goes next, the node or the NAT router before it; NULL: nobody's address */
    const p2p_id *from, *to;
    const p2p_id *at;        /* the vertex where it happened */
    p2p_addr source, target; /* as they stand in the datagram, there and then */
    p2p_span data;           /* until the function returns */
    /* Which datagram, counted as they are sent, from 0 on and modulo 2^32; a copy made on the way
     * has its original's. */
    uint32_t number;
    uint32_t reserved;
    /* LOST, QUEUE, MTU, DUPLICATED and CORRUPTED: the vertex at the other end of the link that did
     * it; else NULL */
    const p2p_id *next;
} p2p_sim_trace_item;
/* It is called in the middle of things: of p2p.h and p2p_sim.h it may call only what asks, whose
 * node or sim is const. */
typedef void (*p2p_sim_trace_fn)(void *ctx, const p2p_sim_trace_item *item);

/* Exact size of the network alone; 0: the desc is wrong, see why. */
P2P_DEF size_t p2p_sim_arena_size(const p2p_sim_desc *desc);
/* What one p2p_sim_node with this desc takes besides; 0: see desc->why. */
P2P_DEF size_t p2p_sim_node_size(const p2p_sim_desc *sim_desc, const p2p_desc *desc);
P2P_DEF int p2p_sim_open(p2p_sim **out, const p2p_sim_desc *desc, void *arena, size_t arena_size);
/* Sets the fields that SIMULATOR_* names stand for, each to the variable's value or its default,
 * and leaves all others. P2P_ERR_CONFIG: *bad_name (may be NULL) is the name that is wrong. */
P2P_DEF int p2p_sim_desc_from_env(p2p_sim_desc *desc, p2p_getenv_fn get, void *ctx,
                                  const char **bad_name);
/* Closes every node, without goodbyes; the arena is the caller's again. */
P2P_DEF void p2p_sim_close(p2p_sim *sim);
/* The last failure of a call of this header; what desc.why gets too. */
P2P_DEF void p2p_sim_last_error(const p2p_sim *sim, p2p_error_detail *out);
/* The key of a name, 1 to 63 bytes: its seed begins "p2p.h SIM ONLY!!", refused elsewhere. */
P2P_DEF int p2p_sim_key(const p2p_sim *sim, const char *name, p2p_key *out);
P2P_DEF int p2p_sim_id(const p2p_sim *sim, const char *name, p2p_id *out);
/* A node; desc (NULL: zeros) is copied, what it leaves empty of key, random, crypto, secure,
 * discovery, link.local, time.connect_us and bytes.message_max is filled in. It belongs to the
 * simulator, which polls it: end it by p2p_sim_crash or p2p_sim_close, or p2p_node_close. */
P2P_DEF int p2p_sim_node(p2p_sim *sim, const char *name, const p2p_desc *desc, p2p_node **out);
/* A vertex that only forwards. */
P2P_DEF int p2p_sim_router(p2p_sim *sim, const char *name, p2p_id *out);
/* A vertex that is a plain UDP program; it takes no arena besides p2p_sim_arena_size. desc NULL: it
 * only sends. It ends by p2p_sim_crash; p2p_sim_restart lets it receive again. */
P2P_DEF int p2p_sim_host(p2p_sim *sim, const char *name, const p2p_sim_host_desc *desc,
                         p2p_id *out);
/* At most 65535 bytes, at least 1. What becomes of them is in the stats and the trace. */
P2P_DEF int p2p_sim_host_send(p2p_sim *sim, const p2p_id *host, uint16_t port, const p2p_addr *to,
                              const void *data, size_t size);
/* on_timer once at time_us, which lies ahead; the newest call counts. P2P_NEVER: not at all. */
P2P_DEF int p2p_sim_host_timer(p2p_sim *sim, const p2p_id *host, uint64_t time_us);
/* The address others reach this vertex by, port 4000 there: behind NAT the outermost, with the port
 * that is or would be kept for it. */
P2P_DEF int p2p_sim_addr(const p2p_sim *sim, const p2p_id *id, p2p_addr *out);
/* The address it has itself. */
P2P_DEF int p2p_sim_addr_inside(const p2p_sim *sim, const p2p_id *id, p2p_addr *out);
/* Edges. A NULL link is the desc's; an edge that is there already gets the new link. */
P2P_DEF int p2p_sim_connect(p2p_sim *sim, const p2p_id *a, const p2p_id *b,
                            const p2p_sim_link *link);
P2P_DEF int p2p_sim_connect_oneway(p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                                   const p2p_sim_link *link);
P2P_DEF int p2p_sim_link_set(p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                             const p2p_sim_link *link);
P2P_DEF int p2p_sim_link_get(const p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                             p2p_sim_link *out);
/* Of the datagrams that reach this link from now on, number first (1: the next one) and the
 * count - 1 after it are lost, before anything else of the link is asked and without a draw.
 * Several ranges of one link may overlap. count 0: what is left of its ranges is forgotten. */
P2P_DEF int p2p_sim_drop(p2p_sim *sim, const p2p_id *from, const p2p_id *to, uint64_t first,
                         uint64_t count);
/* The vertices of the path behind from, to included: how many, and as many as fit in hops. */
P2P_DEF int p2p_sim_path(const p2p_sim *sim, const p2p_id *from, const p2p_id *to, p2p_id *hops,
                         size_t capacity);
/* At most 64 different cuts at a time (P2P_ERR_LIMIT). Heal with na and nb 0 heals everything, the
 * partition drawn at random too, until the next is drawn. */
P2P_DEF int p2p_sim_partition(p2p_sim *sim, const p2p_id *a, size_t na, const p2p_id *b, size_t nb);
/* What a sends does not reach b; what b sends reaches a. */
P2P_DEF int p2p_sim_partition_oneway(p2p_sim *sim, const p2p_id *a, size_t na, const p2p_id *b,
                                     size_t nb);
P2P_DEF int p2p_sim_heal(p2p_sim *sim, const p2p_id *a, size_t na, const p2p_id *b, size_t nb);
/* The box of this level before a node, host or router: new, or with other rules, its flows gone;
 * kind NONE takes it away. P2P_ERR_STATE: would change what address those behind a router have. */
P2P_DEF int p2p_sim_nat(p2p_sim *sim, const p2p_id *node, const p2p_sim_nat_desc *nat);
/* A vertex, with its own boxes, lies behind the innermost box of this router from now on; NULL:
 * behind none. P2P_ERR_STATE: the router has no box, or lies behind this vertex itself. */
P2P_DEF int p2p_sim_behind(p2p_sim *sim, const p2p_id *id, const p2p_id *router);
/* The box of level 0 by P2P_SIM_REBIND_PORT. A firewall only forgets. */
P2P_DEF int p2p_sim_nat_rebind(p2p_sim *sim, const p2p_id *node);
P2P_DEF int p2p_sim_nat_rebind_to(p2p_sim *sim, const p2p_id *id, uint8_t level, uint32_t how);
/* From a handler or on_event of that very node the crash waits until they have returned. */
P2P_DEF int p2p_sim_crash(p2p_sim *sim, const p2p_id *node);
P2P_DEF int p2p_sim_restart(p2p_sim *sim, const p2p_id *node, p2p_node **out);
/* The node stands still, as a stopped process does, until p2p_sim_resume. See NODES above. */
P2P_DEF int p2p_sim_pause(p2p_sim *sim, const p2p_id *node);
P2P_DEF int p2p_sim_resume(p2p_sim *sim, const p2p_id *node);
/* From now on the node's clock gains drift_ppm, -1000000 (it stands) to 1000000 (twice as fast),
 * and now it jumps by step_us. See NODES above. */
P2P_DEF int p2p_sim_clock(p2p_sim *sim, const p2p_id *node, int32_t drift_ppm, int64_t step_us);
/* What the node's clock shows. */
P2P_DEF int p2p_sim_node_now(const p2p_sim *sim, const p2p_id *node, uint64_t *out);
P2P_DEF int p2p_sim_register(p2p_sim *sim, const char *name, const p2p_id *id);
P2P_DEF uint64_t p2p_sim_now(const p2p_sim *sim);
/* The time then; P2P_NEVER: nothing will ever happen any more. See TIME above. */
P2P_DEF uint64_t p2p_sim_step(p2p_sim *sim);
P2P_DEF int p2p_sim_run_until(p2p_sim *sim, uint64_t time_us);
/* Until nothing is to be done: no datagram and no answer is under way, and no node wants to be
 * woken within p2p_sim_desc.idle_us, which is shorter than keepalives and idle times and longer
 * than what repairs losses. Time stops there. Events that stay with their nodes do not count, and a
 * paused node wants nothing. P2P_ERR_TIMEOUT: not idle by time_us. */
P2P_DEF int p2p_sim_run_idle(p2p_sim *sim, uint64_t time_us);
/* type P2P_EVENT_NONE: any event. out may be NULL. */
P2P_DEF int p2p_sim_await(p2p_sim *sim, p2p_node *node, uint32_t type, uint64_t time_us,
                          p2p_event *out);
/* For handlers and on_event that called into another node than their own. */
P2P_DEF int p2p_sim_touch(p2p_sim *sim, const p2p_node *node);
P2P_DEF uint64_t p2p_sim_digest(const p2p_sim *sim);
P2P_DEF void p2p_sim_stats_get(const p2p_sim *sim, p2p_sim_stats *out);
P2P_DEF void p2p_sim_trace(p2p_sim *sim, p2p_sim_trace_fn fn, void *ctx);
/* The channel of nodes whose desc has none, for a table of functions that wraps it. */
P2P_DEF void p2p_sim_secure(const p2p_sim *sim, p2p_secure *out);
/* n nodes "<prefix>0", "<prefix>1", ... and an edge between any two. desc NULL: zeros, and
 * allow_anyone. nodes has room for n. */
P2P_DEF int p2p_sim_mesh(p2p_sim *sim, const char *prefix, size_t n, const p2p_desc *desc,
                         p2p_node **nodes);
/* Two groups of nodes, all joined by edges, and the groups cut off from each other by a partition:
 * nodes gets the na of prefix a, then the nb of prefix b. p2p_sim_heal with zeros joins them. */
P2P_DEF int p2p_sim_split(p2p_sim *sim, const char *a, size_t na, const char *b, size_t nb,
                          const p2p_desc *desc, p2p_node **nodes);
/* One field of one direction of an edge; from and to both NULL: of all links there are. */
P2P_DEF int p2p_sim_latency(p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                            uint64_t latency_us);
P2P_DEF int p2p_sim_loss(p2p_sim *sim, const p2p_id *from, const p2p_id *to, uint32_t loss_ppm);

#ifdef __cplusplus
}
#endif
#endif /* P2P_SIM_H */

#if defined(P2P_SIM_IMPLEMENTATION) && !defined(P2P_SIM__IMPLEMENTED)
#define P2P_SIM__IMPLEMENTED
#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>base ====================================================================================
 * Constants, types of all rooms and small arithmetic.
 * Always: no address of memory is compared, hashed or ordered by; all draws are 64-bit integers.
 * Tests: tests/unit/test_sim.c */
#define P2P_SIM__NOTHING          UINT32_MAX /* index of no vertex, edge, chunk, flow or record */
#define P2P_SIM__PPM              1000000u
#define P2P_SIM__PORT             4000u     /* every node listens on it, at an address of its own */
#define P2P_SIM__NODES_MAX        16000000u /* 10.0.0.1 and on */
#define P2P_SIM__DATAGRAM_MAX     65535u
#define P2P_SIM__CHUNK            260u
#define P2P_SIM__CHUNKS_A_PACKET  5u
#define P2P_SIM__NAME_SIZE        64u
#define P2P_SIM__SPARE            128u  /* arena a node for texts of its desc */
#define P2P_SIM__TURNS            4096u /* datagrams, handlers or events of a node in one go */
#define P2P_SIM__ROUNDS           16u
#define P2P_SIM__CUTS             64u
#define P2P_SIM__END_US           ((uint64_t)1 << 53) /* 285 years: nanoseconds still fit 64 bits */
#define P2P_SIM__ASSURED_AFTER_US 2000000u
#define P2P_SIM__RECEIVE_MAX      0x7fffffffu
#define P2P_SIM__JITTER_MAX_US    ((uint64_t)1 << 40) /* 12 days; 79 times as much fits 64 bits */
#define P2P_SIM__BOXES_MAX        1000000u
#define P2P_SIM__BOX              0x80000000u /* what lies behind a box: a vertex, or this | box */
#define P2P_SIM__LEVELS           8u
#define P2P_SIM__PORTS            64512u      /* 1024 and on */
#define P2P_SIM__NET_VERTEX       0x0a000000u /* 10.0.0.0/8 */
#define P2P_SIM__NET_OUTER        0x0b000000u /* 11.0.0.0/8: of boxes */
#define P2P_SIM__NET_CARRIER      0x64400000u /* 100.64.0.0/10: of boxes behind boxes */
#define P2P_SIM__NET_OVERLAP      0xc0a80100u /* 192.168.1.0/24 */
#define P2P_SIM__OVERLAP_MAX      253u

#define P2P_SIM__BACKLOG_NS ((uint64_t)1 << 62) /* a longer queue is an endless one */

/* CoDel's, as RFC 8289 recommends; full size where a link has no mtu. */
#define P2P_SIM__CODEL_TARGET_NS   5000000u
#define P2P_SIM__CODEL_INTERVAL_NS ((uint64_t)100000000)
#define P2P_SIM__CODEL_BYTES       1500u

#if !defined(P2P_SIM_ASSERT) && defined(P2P_DEBUG)
static void p2p_sim__trap(void) {
#if defined(__GNUC__)
    __builtin_trap();
#else
    *(volatile int *)NULL = 0;
#endif
}
#define P2P_SIM_ASSERT(x) ((x) ? (void)0 : p2p_sim__trap())
#elif !defined(P2P_SIM_ASSERT)
#define P2P_SIM_ASSERT(x) ((void)(0 && (x))) /* compiled, so that it cannot rot, and never run */
#endif

/* On what a plain datagram does not meet; inlined, it would burden those that do not need it. */
#if defined(__GNUC__)
#define P2P_SIM__RARE __attribute__((noinline, cold))
#else
#define P2P_SIM__RARE
#endif

typedef struct p2p_sim__edge {
    p2p_sim_link link;
    uint64_t busy_ns; /* the sender is busy until then */
    uint64_t last_us; /* arrival of the latest: order is kept */
    uint64_t random;
    uint32_t from, to, next_out, next_in;
    uint32_t good_ppm;   /* chance of loss after a datagram that passed */
    uint32_t harmed;     /* how many in a row were lost or corrupted */
    uint32_t first_drop; /* of its ranges of p2p_sim_drop */
    uint8_t bad;         /* the one before was lost */
    uint8_t dropping;    /* these five are CoDel's, as RFC 8289 names them */
    uint32_t count, last_count;
    uint64_t first_above_ns, drop_next_ns;
} p2p_sim__edge;

typedef struct p2p_sim__range { /* of datagrams to be lost */
    uint64_t skip, left;
    uint32_t next;
} p2p_sim__range;

enum { P2P_SIM__INNER, P2P_SIM__OUTER };
typedef struct p2p_sim__mapping { /* through a NAT, of an inner endpoint to an outer port */
    uint64_t end_us;
    uint32_t box;           /* P2P_SIM__NOTHING: free, next[0] the list */
    uint32_t inner, remote; /* remote 0: for all; inner 0: what came early, for the box itself */
    uint32_t next[2];       /* in the chains of its inner side and of its outer port */
    uint32_t flow_count;
    uint16_t inner_port, remote_port, outer_port;
} p2p_sim__mapping;
typedef struct p2p_sim__flow { /* of a mapping, with one remote */
    uint64_t since_us, last_us;
    uint32_t mapping; /* P2P_SIM__NOTHING: free, next the list */
    uint32_t remote, next;
    uint16_t remote_port;
    uint8_t replied;
} p2p_sim__flow;

typedef struct p2p_sim__seat { /* where a vertex or a box lies */
    uint32_t behind;           /* the box next outward, or nothing */
    uint32_t ip;               /* its address there; 0: a firewall, which has none */
    uint32_t next;             /* of those in a LAN with overlapping addresses */
} p2p_sim__seat;
typedef struct p2p_sim__box {
    p2p_sim_nat_desc desc; /* what the kind says filled in; kind NONE: free, seat.next the list */
    p2p_sim__seat seat;
    uint64_t random;
    uint64_t sweep_us; /* before then nothing in its table ends */
    uint32_t vertex;   /* where it stands */
    uint32_t members;  /* how many p2p_sim_behind put behind it */
    uint32_t first;    /* with overlap: who is in its LAN */
    uint32_t flow_count, mapping_count, turn;
    uint16_t shift; /* between inner and outer ports */
} p2p_sim__box;

typedef struct p2p_sim__record { /* a name */
    char name[P2P_SIM__NAME_SIZE];
    uint64_t until_us;
    uint32_t next_in_bucket, next_of_owner;
    uint32_t vertex; /* whom it names; the free list otherwise */
    uint32_t owner;  /* the node that registered it, or nothing */
} p2p_sim__record;

enum { P2P_SIM__FREE, P2P_SIM__ROUTER, P2P_SIM__RUNNING, P2P_SIM__CRASHED, P2P_SIM__HOST };
/* Of a node that runs: resumed, it first takes in what waits for it. */
enum { P2P_SIM__GOING, P2P_SIM__PAUSED, P2P_SIM__RESUMED };

/* A clock that is not the network's: it showed shown_us when that was at_us. */
typedef struct p2p_sim__clock {
    uint64_t at_us, shown_us;
    uint32_t rate_ppm; /* 1000000: as fast as the network's */
} p2p_sim__clock;

typedef struct p2p_sim__program { /* of a host */
    p2p_sim_host_desc desc;
    uint64_t timer_us;
} p2p_sim__program;

typedef struct p2p_sim__vertex {
    p2p_sim *sim;
    p2p_node *node;   /* NULL unless running */
    uint64_t wake_us; /* what the node wants; the heap's key may be earlier, never later */
    uint64_t cut_a, cut_b;
    uint64_t random;
    uint32_t index, life, heap_at;
    uint32_t first_out, last_out, first_in, last_in;
    uint32_t first_record, first_query;
    uint8_t state, crash_wanted;
    uint8_t side; /* in a partition drawn at random */
    uint8_t paused, skewed;
    p2p_sim__seat seat;        /* what it lies behind; of a router: itself, not those behind it */
    uint32_t own;              /* the innermost box that stands here, or nothing */
    p2p_sim__program *program; /* of a host; NULL: a node or a router */
    p2p_id id;
    char name[P2P_SIM__NAME_SIZE];
    p2p_sim__clock clock;                       /* when skewed */
    uint32_t first_held, last_held, held_bytes; /* datagrams that came while it was paused */
} p2p_sim__vertex;

typedef struct p2p_sim__origin { /* what a restart needs */
    p2p_desc desc;
    p2p_key key;
    void *arena;
    size_t arena_size;
} p2p_sim__origin;

/* A datagram under way is a chain of chunks; a question for a name is one chunk. next is the free
 * list, the chain, or the list of a node's questions. */
enum { P2P_SIM__INWARD, P2P_SIM__OUTWARD, P2P_SIM__HOME };
typedef struct p2p_sim__head {
    uint32_t next, from, to, hop, number;
    uint32_t source, target; /* addresses, as they stand in it now */
    uint16_t from_port, to_port, size;
    uint8_t way; /* at `to`: inward, from there out through a box, or already behind all boxes */
    uint8_t reserved;
    uint8_t data[P2P_SIM__CHUNK - 36];
} p2p_sim__head;
typedef struct p2p_sim__tail {
    uint32_t next;
    uint8_t data[P2P_SIM__CHUNK - 4];
} p2p_sim__tail;
typedef struct p2p_sim__query {
    uint32_t next, vertex, life, query;
    uint8_t fails; /* by name_fail_ppm */
    uint8_t held;  /* answered while the node was paused */
    char name[P2P_SIM__NAME_SIZE];
} p2p_sim__query;
typedef union p2p_sim__chunk {
    p2p_sim__head head;
    p2p_sim__tail tail;
    p2p_sim__query query;
} p2p_sim__chunk;

enum { P2P_SIM__HEAL, P2P_SIM__CUT, P2P_SIM__ONEWAY };
enum { P2P_SIM__EV_DATAGRAM, P2P_SIM__EV_ANSWER };
typedef struct p2p_sim__event { /* of the chunk with the same index */
    uint64_t at_us;
    uint32_t next, kind;
} p2p_sim__event;
typedef struct p2p_sim__list {
    uint32_t first, last;
} p2p_sim__list;
typedef struct p2p_sim__wake {
    uint64_t key_us;
    uint32_t vertex;
} p2p_sim__wake;
typedef struct p2p_sim__hop {
    uint32_t from, to, edge, epoch;
} p2p_sim__hop;

struct p2p_sim {
    p2p_sim_desc desc; /* defaults filled in */
    p2p_error_detail *error;
    uint8_t *base;
    size_t size, used;
    uint64_t now_us, digest, event_us, taken_us, random, next_split_us, split_end_us;
    uint64_t *fates; /* how many datagrams met each */
    p2p_sim_trace_fn trace;
    void *trace_ctx;
    p2p_sim__vertex *vertices, *serving;
    p2p_sim__origin *origins;
    uint32_t vertex_count, vertex_mask, *vertex_table;
    p2p_sim__edge *edges;
    uint32_t edge_count, edge_max, edge_mask, *edge_table;
    p2p_sim__hop *hops;
    uint32_t hop_mask, epoch;
    uint32_t *distance, *stamp, *line, *stamp_now;
    uint64_t *cost; /* with P2P_SIM_ROUTING_LATENCY; line is then a heap, place where in it */
    uint32_t *place;
    p2p_sim__range *ranges;
    uint32_t range_free, range_max;
    uint64_t cut_kind,
        cut_oneway; /* bit of each cut or heal: 1 cut; 1 from first to second alone */
    uint32_t cut_count;
    p2p_sim__box *boxes;
    uint32_t box_free;
    p2p_sim__mapping *mappings;
    p2p_sim__flow *flows;
    uint64_t sweep_us; /* before then nothing in these two ends */
    uint32_t mapping_free, mapping_mask, *mapping_table;
    uint32_t flow_free, flow_mask, *flow_table;
    p2p_sim__record *records;
    uint32_t record_free, record_max, bucket_mask, *buckets;
    p2p_sim__chunk *chunks;
    uint32_t chunk_free, chunk_max;
    p2p_sim__event *events;
    p2p_sim__list lists[65];
    uint32_t event_count;
    p2p_sim__wake *wakes;
    uint32_t wake_count;
    uint8_t *in, *out; /* one datagram each */
    p2p_sim__vertex *awaited;
    p2p_event *await_out;
    uint32_t await_type;
    uint8_t await_hit, busy, split;
};

static uint64_t p2p_sim__later(uint64_t a_us, uint64_t b_us) {
    return b_us > P2P_NEVER - a_us ? P2P_NEVER : a_us + b_us;
}
static uint64_t p2p_sim__rotate(uint64_t x, unsigned bits) { return x << bits | x >> (64u - bits); }
static uint64_t p2p_sim__load(const uint8_t *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}
static void p2p_sim__store(uint8_t *p, uint64_t x) {
    p[0] = (uint8_t)x;
    p[1] = (uint8_t)(x >> 8);
    p[2] = (uint8_t)(x >> 16);
    p[3] = (uint8_t)(x >> 24);
    p[4] = (uint8_t)(x >> 32);
    p[5] = (uint8_t)(x >> 40);
    p[6] = (uint8_t)(x >> 48);
    p[7] = (uint8_t)(x >> 56);
}
static uint32_t p2p_sim__pow2(uint64_t at_least) {
    uint32_t n = 16;
    while (n < at_least && n < 0x80000000u)
        n *= 2;
    return n;
}
/* A counter through a mixing function whose every step can be undone, so that no value comes twice
 * in 2^64 draws. */
static uint64_t p2p_sim__draw(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
/* 0 to limit - 1; limit 0 gives 0. */
static uint64_t p2p_sim__below(uint64_t *state, uint64_t limit) {
    uint64_t x = p2p_sim__draw(state);
    if (limit <= UINT32_MAX)
        return (x >> 32) * limit >> 32;
    return x % limit;
}
static bool p2p_sim__chance(uint64_t *state, uint32_t ppm) {
    return ppm != 0 && p2p_sim__below(state, P2P_SIM__PPM) < ppm;
}
static size_t p2p_sim__length(const char *text, size_t max) {
    size_t n = 0;
    while (n < max && text[n])
        n++;
    return n;
}

/* ==== >>hash ====================================================================================
 * Fast hashes of 64 and 256 bits in integer arithmetic: for digests, checksums and tables.
 * Always: each step can be undone, so a change within one word always changes the 64-bit result.
 * They are NOT cryptographic: whoever wants a collision can have it.
 * Tests: tests/unit/test_sim.c */
static uint64_t p2p_sim__mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}
static uint64_t p2p_sim__hash(uint64_t key, const uint8_t *data, size_t size) {
    uint64_t a = key, tail = 0;
    size_t left = size, i;
    if (left >= 32) {
        uint64_t b = ~key, c = key + 1, d = key ^ 0x5851f42d4c957f2du;
        for (; left >= 32; left -= 32, data += 32) {
            a = p2p_sim__mix(a, p2p_sim__load(data));
            b = p2p_sim__mix(b, p2p_sim__load(data + 8));
            c = p2p_sim__mix(c, p2p_sim__load(data + 16));
            d = p2p_sim__mix(d, p2p_sim__load(data + 24));
        }
        a = p2p_sim__mix(p2p_sim__mix(p2p_sim__mix(a, b), c), d);
    }
    for (; left >= 8; left -= 8, data += 8)
        a = p2p_sim__mix(a, p2p_sim__load(data));
    if (left != 0 && size >= 8) /* with some before them; those are shifted out */
        tail = p2p_sim__load(data + left - 8) >> 8 * (8 - left);
    for (i = 0; size < 8 && i < left; i++)
        tail |= (uint64_t)data[i] << 8 * i;
    a = p2p_sim__mix(p2p_sim__mix(a, tail), (uint64_t)size);
    return p2p_sim__mix(a, 0);
}
/* Where a generator begins. The seed is mixed alone first: neighbouring seeds share no draws. */
static uint64_t p2p_sim__generator(const p2p_sim *s, const char *whose, uint64_t number) {
    uint64_t seed = p2p_sim__mix(p2p_sim__mix(0, s->desc.seed), 0), word = 0;
    size_t size = 0;
    for (; whose[size]; size++)
        word |= (uint64_t)(uint8_t)whose[size] << 8 * size;
    seed = p2p_sim__mix(p2p_sim__mix(p2p_sim__mix(seed, word), size), 0);
    return p2p_sim__mix(seed, number);
}
static uint32_t p2p_sim__hash_pair(uint32_t a, uint32_t b) {
    return (uint32_t)p2p_sim__mix(0x2545f4914f6cdd1du, (uint64_t)a << 32 | b);
}

typedef struct p2p_sim__mixer {
    uint64_t s[4], total;
    uint8_t block[32];
} p2p_sim__mixer;
static void p2p_sim__mixer_start(p2p_sim__mixer *m) {
    m->s[0] = 0x243f6a8885a308d3u;
    m->s[1] = 0x13198a2e03707344u;
    m->s[2] = 0xa4093822299f31d0u;
    m->s[3] = 0x082efa98ec4e6c89u;
    m->total = 0;
}
static void p2p_sim__mixer_block(p2p_sim__mixer *m, const uint8_t block[32]) {
    uint64_t *s = m->s;
    size_t i;
    for (i = 0; i < 4; i++)
        s[i] = p2p_sim__mix(s[i], p2p_sim__load(block + 8 * i));
    s[0] += s[3];
    s[1] += p2p_sim__rotate(s[0], 19);
    s[2] ^= p2p_sim__rotate(s[1], 29);
    s[3] ^= p2p_sim__rotate(s[2], 41);
}
static void p2p_sim__mixer_add(p2p_sim__mixer *m, const void *data, size_t size) {
    const uint8_t *p = (const uint8_t *)data;
    size_t have = (size_t)(m->total % 32), n;
    m->total += size;
    while (size != 0) {
        if (have == 0 && size >= 32) {
            p2p_sim__mixer_block(m, p);
            p += 32;
            size -= 32;
            continue;
        }
        n = size < 32 - have ? size : 32 - have;
        memcpy(m->block + have, p, n);
        have += n;
        p += n;
        size -= n;
        if (have == 32) {
            p2p_sim__mixer_block(m, m->block);
            have = 0;
        }
    }
}
static void p2p_sim__mixer_end(p2p_sim__mixer *m, uint8_t out[32]) {
    size_t have = (size_t)(m->total % 32);
    size_t i;
    memset(m->block + have, 0, 32 - have);
    p2p_sim__mixer_block(m, m->block);
    memset(m->block, 0, 32);
    p2p_sim__store(m->block, m->total);
    for (i = 0; i < 4; i++)
        p2p_sim__mixer_block(m, m->block);
    for (i = 0; i < 4; i++)
        p2p_sim__store(out + 8 * i, m->s[i]);
}

/* ==== >>crypto ==================================================================================
 * The stand-in for Ed25519 and SHA-256 when no crypto table is given. INSECURE: a signature is a
 * checksum of the id and the message, and anyone who has those can make it.
 * Always: ids look like Ed25519 keys (canonical, not of small order), so all checks of ids hold.
 * Tests: tests/unit/test_sim.c */
static int p2p_sim__insecure_public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
    p2p_sim__mixer m;
    (void)ctx;
    p2p_sim__mixer_start(&m);
    p2p_sim__mixer_add(&m, "id", 2);
    p2p_sim__mixer_add(&m, seed, 32);
    p2p_sim__mixer_end(&m, out->bytes);
    /* y lies in 2^253 .. 2^254: below the prime, and between all points of small order. */
    out->bytes[31] = (uint8_t)((out->bytes[31] & 0x1fu) | 0x20u);
    return P2P_OK;
}
static void p2p_sim__insecure_signature(const p2p_id *id, const void *message, size_t size,
                                        uint8_t out[64]) {
    p2p_sim__mixer m;
    p2p_sim__mixer_start(&m);
    p2p_sim__mixer_add(&m, "signature", 9);
    p2p_sim__mixer_add(&m, id->bytes, 32);
    p2p_sim__mixer_add(&m, message, size);
    p2p_sim__mixer_end(&m, out);
    p2p_sim__mixer_start(&m);
    p2p_sim__mixer_add(&m, out, 32);
    p2p_sim__mixer_end(&m, out + 32);
}
static int p2p_sim__insecure_sign(void *ctx, const uint8_t seed[32], const void *message,
                                  size_t size, uint8_t out[64]) {
    p2p_id id;
    (void)p2p_sim__insecure_public_key(ctx, seed, &id);
    p2p_sim__insecure_signature(&id, message, size, out);
    return P2P_OK;
}
static int p2p_sim__insecure_verify(void *ctx, const p2p_id *id, const void *message, size_t size,
                                    const uint8_t signature[64]) {
    uint8_t right[64];
    (void)ctx;
    p2p_sim__insecure_signature(id, message, size, right);
    return memcmp(right, signature, 64) == 0 ? P2P_OK : P2P_ERR_AUTH;
}
/* In the place of SHA-256, which it is not: a 256-bit mixer that only spreads well. */
static int p2p_sim__insecure_hash256(void *ctx, const void *const *parts, const size_t *sizes,
                                     size_t count, uint8_t out[32]) {
    p2p_sim__mixer m;
    size_t i;
    (void)ctx;
    p2p_sim__mixer_start(&m);
    for (i = 0; i < count; i++)
        p2p_sim__mixer_add(&m, parts[i], sizes[i]);
    p2p_sim__mixer_end(&m, out);
    return P2P_OK;
}
static const p2p_crypto_api p2p_sim__insecure_crypto = {
    p2p_sim__insecure_public_key, p2p_sim__insecure_sign, p2p_sim__insecure_verify,
    p2p_sim__insecure_hash256};

/* ==== >>null ====================================================================================
 * The null channel: DTLS 1.2's two round trips and timers without its cipher. In clear; a checksum
 * keyed by the PSK and both nonces catches corruption and strangers who do not know the callee.
 *     client -> server   1 nonce[16]        server -> client   2 nonce[16]
 *     client -> server   3 checksum[8]      server -> client   4 checksum[8]
 *     record: sequence number[8], packet, checksum[8]
 * Always: only the client has a timer; the server repeats when the client does.
 * Tests: tests/unit/test_sim.c */
enum { P2P_SIM__NULL_HELLO, P2P_SIM__NULL_FINISH, P2P_SIM__NULL_DONE };
enum { P2P_SIM__NULL_NONCE = 16, P2P_SIM__NULL_OVERHEAD = 16, P2P_SIM__NULL_DOUBLINGS = 8 };
typedef struct p2p_sim__null {
    uint8_t psk[32];
    uint8_t nonce[2][P2P_SIM__NULL_NONCE]; /* client's, server's */
    uint64_t key[2];                       /* of what goes out, of what comes in */
    uint64_t due_us, timer_us, sequence;
    uint8_t server, state, due, doublings;
} p2p_sim__null;

static size_t p2p_sim__null_size(void *ctx, uint32_t content) {
    (void)ctx;
    (void)content;
    return (sizeof(p2p_sim__null) + 15) & ~(size_t)15;
}
static int p2p_sim__null_begin(void *ctx, void *slab, size_t size,
                               const p2p_secure_params *params) {
    p2p_sim__null *n = (p2p_sim__null *)slab;
    (void)ctx;
    if (size < sizeof *n || !params->random.fill)
        return P2P_ERR_ARG;
    memset(n, 0, sizeof *n);
    memcpy(n->psk, params->psk, sizeof n->psk);
    n->server = params->server ? 1 : 0;
    n->due = n->server ? 0 : 1;
    n->timer_us = params->timer_us ? params->timer_us : 1;
    return params->random.fill(params->random.ctx, n->nonce[n->server], P2P_SIM__NULL_NONCE);
}
static void p2p_sim__null_derive(const p2p_sim__null *n, const char *use, uint8_t out[32]) {
    p2p_sim__mixer m;
    p2p_sim__mixer_start(&m);
    p2p_sim__mixer_add(&m, use, p2p_sim__length(use, 16));
    p2p_sim__mixer_add(&m, n->psk, sizeof n->psk);
    p2p_sim__mixer_add(&m, n->nonce, sizeof n->nonce);
    p2p_sim__mixer_end(&m, out);
}
static void p2p_sim__null_keys(p2p_sim__null *n) {
    uint8_t secret[32];
    p2p_sim__null_derive(n, "null keys", secret);
    n->key[0] = p2p_sim__load(secret + (n->server ? 8 : 0));
    n->key[1] = p2p_sim__load(secret + (n->server ? 0 : 8));
}
static uint64_t p2p_sim__null_finished(uint64_t key) {
    return p2p_sim__hash(key, (const uint8_t *)"finished", 8);
}
/* A new flight is due at once, and its timer starts from the beginning. */
static void p2p_sim__null_flight_new(p2p_sim__null *n, uint8_t state) {
    n->state = state;
    n->due = 1;
    n->due_us = 0;
    n->doublings = 0;
}
static int p2p_sim__null_feed_server(p2p_sim__null *n, const uint8_t *record, size_t size) {
    if (record[0] == 1 && size == 1 + P2P_SIM__NULL_NONCE && n->state != P2P_SIM__NULL_DONE) {
        if (n->state == P2P_SIM__NULL_FINISH &&
            memcmp(n->nonce[0], record + 1, P2P_SIM__NULL_NONCE) != 0)
            return 0; /* one session, one nonce */
        memcpy(n->nonce[0], record + 1, P2P_SIM__NULL_NONCE);
        p2p_sim__null_keys(n);
        p2p_sim__null_flight_new(n, P2P_SIM__NULL_FINISH);
        return 0;
    }
    if (record[0] != 3 || size != 9 || n->state == P2P_SIM__NULL_HELLO ||
        p2p_sim__load(record + 1) != p2p_sim__null_finished(n->key[1]))
        return 0;
    n->due = 1;
    if (n->state == P2P_SIM__NULL_DONE)
        return 0; /* our last flight was lost: repeat it */
    p2p_sim__null_flight_new(n, P2P_SIM__NULL_DONE);
    return 1;
}
static int p2p_sim__null_feed_client(p2p_sim__null *n, const uint8_t *record, size_t size) {
    if (record[0] == 2 && size == 1 + P2P_SIM__NULL_NONCE && n->state == P2P_SIM__NULL_HELLO) {
        memcpy(n->nonce[1], record + 1, P2P_SIM__NULL_NONCE);
        p2p_sim__null_keys(n);
        p2p_sim__null_flight_new(n, P2P_SIM__NULL_FINISH);
        return 0;
    }
    if (record[0] != 4 || size != 9 || n->state != P2P_SIM__NULL_FINISH ||
        p2p_sim__load(record + 1) != p2p_sim__null_finished(n->key[1]))
        return 0;
    n->state = P2P_SIM__NULL_DONE;
    n->due = 0;
    return 1;
}
static int p2p_sim__null_feed(void *ctx, void *slab, uint64_t now_us, uint8_t *records,
                              size_t size) {
    p2p_sim__null *n = (p2p_sim__null *)slab;
    (void)ctx;
    (void)now_us;
    if (size == 0)
        return 0;
    return n->server ? p2p_sim__null_feed_server(n, records, size)
                     : p2p_sim__null_feed_client(n, records, size);
}
static int p2p_sim__null_flight(void *ctx, void *slab, uint64_t now_us, uint8_t *out, size_t room,
                                int keep) {
    p2p_sim__null *n = (p2p_sim__null *)slab;
    bool nonce = n->state == (n->server ? P2P_SIM__NULL_FINISH : P2P_SIM__NULL_HELLO);
    size_t size = nonce ? 1 + P2P_SIM__NULL_NONCE : 9;
    (void)ctx;
    if (!n->due || n->due_us > now_us)
        return 0;
    if (room < size)
        return P2P_ERR_TOO_LARGE;
    out[0] = (uint8_t)((nonce ? 1 : 3) + n->server);
    if (nonce)
        memcpy(out + 1, n->nonce[n->server], P2P_SIM__NULL_NONCE);
    else
        p2p_sim__store(out + 1, p2p_sim__null_finished(n->key[0]));
    if (keep)
        return (int)size;
    if (n->server)
        n->due = 0;
    else
        n->due_us = p2p_sim__later(now_us, n->timer_us << (n->doublings ? n->doublings - 1u : 0u));
    if (n->doublings < P2P_SIM__NULL_DOUBLINGS)
        n->doublings++;
    return (int)size;
}
static int p2p_sim__null_resend(void *ctx, void *slab, uint64_t now_us) {
    p2p_sim__null *n = (p2p_sim__null *)slab;
    (void)ctx;
    (void)now_us;
    if (n->server ? n->state == P2P_SIM__NULL_HELLO : n->state == P2P_SIM__NULL_DONE)
        return P2P_ERR_STATE; /* nothing was sent yet, or nothing is to be sent again */
    n->due = 1;
    n->due_us = 0;
    return P2P_OK;
}
static uint64_t p2p_sim__null_deadline(void *ctx, const void *slab) {
    const p2p_sim__null *n = (const p2p_sim__null *)slab;
    (void)ctx;
    return n->due ? n->due_us : P2P_NEVER;
}
static int p2p_sim__null_binding(void *ctx, const void *slab, uint8_t out[32]) {
    const p2p_sim__null *n = (const p2p_sim__null *)slab;
    (void)ctx;
    if (n->state != P2P_SIM__NULL_DONE)
        return P2P_ERR_STATE;
    p2p_sim__null_derive(n, "null binding", out);
    return P2P_OK;
}
static int p2p_sim__null_seal(void *ctx, void *slab, const uint8_t *packet, size_t size,
                              uint8_t *out, size_t room) {
    p2p_sim__null *n = (p2p_sim__null *)slab;
    (void)ctx;
    if (n->state != P2P_SIM__NULL_DONE)
        return P2P_ERR_STATE;
    if (size > P2P_SIM__DATAGRAM_MAX || room < size + P2P_SIM__NULL_OVERHEAD)
        return P2P_ERR_TOO_LARGE;
    memmove(out + 8, packet, size);
    p2p_sim__store(out, n->sequence++);
    p2p_sim__store(out + 8 + size, p2p_sim__hash(n->key[0], out, 8 + size));
    return (int)(size + P2P_SIM__NULL_OVERHEAD);
}
static int p2p_sim__null_open(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out) {
    p2p_sim__null *n = (p2p_sim__null *)slab;
    (void)ctx;
    if (n->state != P2P_SIM__NULL_DONE || size <= P2P_SIM__NULL_OVERHEAD ||
        size > P2P_SIM__DATAGRAM_MAX)
        return 0;
    if (p2p_sim__load(record + size - 8) != p2p_sim__hash(n->key[1], record, size - 8))
        return 0;
    *out = record + 8;
    return (int)(size - P2P_SIM__NULL_OVERHEAD);
}
static void p2p_sim__null_end(void *ctx, void *slab) {
    (void)ctx;
    p2p_wipe(slab, sizeof(p2p_sim__null));
}
static const p2p_secure_api p2p_sim__null_api = {"null",
                                                 0xbf,
                                                 1,
                                                 P2P_SIM__NULL_OVERHEAD,
                                                 65000,
                                                 p2p_sim__null_size,
                                                 p2p_sim__null_begin,
                                                 p2p_sim__null_feed,
                                                 p2p_sim__null_flight,
                                                 p2p_sim__null_resend,
                                                 p2p_sim__null_deadline,
                                                 p2p_sim__null_binding,
                                                 p2p_sim__null_seal,
                                                 p2p_sim__null_open,
                                                 p2p_sim__null_end};

/* ==== >>arena ===================================================================================
 * One walk measures and carves the network's memory; nodes are cut from what is behind it.
 * Always: sizes depend on the desc alone, so equal descs give equal layouts.
 * Tests: tests/unit/test_sim.c */
typedef struct p2p_sim__carve {
    uint8_t *base; /* NULL: measure only */
    size_t size;
} p2p_sim__carve;

static void *p2p_sim__take(p2p_sim__carve *c, size_t count, size_t item) {
    size_t at = c->size;
    if (count != 0 && item > (SIZE_MAX - 16 - at) / count) {
        c->base = NULL;
        c->size = SIZE_MAX / 2 + 1; /* more than any arena; the next sums still fit */
        return NULL;
    }
    c->size = (at + count * item + 15) & ~(size_t)15;
    return c->base ? c->base + at : NULL;
}
static void p2p_sim__lay_graph(p2p_sim *s, p2p_sim__carve *c) {
    size_t nodes = s->desc.nodes, edges = (size_t)s->desc.links * 2;
    uint32_t table = p2p_sim__pow2((uint64_t)nodes * 2);
    s->vertices = (p2p_sim__vertex *)p2p_sim__take(c, nodes, sizeof *s->vertices);
    s->origins = (p2p_sim__origin *)p2p_sim__take(c, nodes, sizeof *s->origins);
    s->vertex_table = (uint32_t *)p2p_sim__take(c, table, sizeof *s->vertex_table);
    s->vertex_mask = table - 1;
    s->edges = (p2p_sim__edge *)p2p_sim__take(c, edges, sizeof *s->edges);
    s->edge_max = (uint32_t)edges;
    table = p2p_sim__pow2((uint64_t)edges * 2);
    s->edge_table = (uint32_t *)p2p_sim__take(c, table, sizeof *s->edge_table);
    s->edge_mask = table - 1;
    table = p2p_sim__pow2((uint64_t)nodes * 4);
    s->hops = (p2p_sim__hop *)p2p_sim__take(c, table, sizeof *s->hops);
    s->hop_mask = table - 1;
    s->distance = (uint32_t *)p2p_sim__take(c, nodes, sizeof *s->distance);
    s->stamp = (uint32_t *)p2p_sim__take(c, nodes, sizeof *s->stamp);
    s->line = (uint32_t *)p2p_sim__take(c, nodes, sizeof *s->line);
    s->wakes = (p2p_sim__wake *)p2p_sim__take(c, nodes, sizeof *s->wakes);
    if (s->desc.routing == P2P_SIM_ROUTING_LATENCY) {
        s->cost = (uint64_t *)p2p_sim__take(c, nodes, sizeof *s->cost);
        s->place = (uint32_t *)p2p_sim__take(c, nodes, sizeof *s->place);
    }
    s->range_max = s->desc.drops;
    s->ranges = (p2p_sim__range *)p2p_sim__take(c, s->range_max, sizeof *s->ranges);
}
static void p2p_sim__lay(p2p_sim *s, p2p_sim__carve *c) {
    uint32_t nodes = s->desc.nodes;
    s->error = (p2p_error_detail *)p2p_sim__take(c, 1, sizeof *s->error);
    s->fates = (uint64_t *)p2p_sim__take(c, P2P_SIM_FATE_COUNT, sizeof *s->fates);
    s->stamp_now = (uint32_t *)p2p_sim__take(c, 1, sizeof *s->stamp_now);
    p2p_sim__lay_graph(s, c);
    s->boxes = (p2p_sim__box *)p2p_sim__take(c, s->desc.boxes, sizeof *s->boxes);
    s->flows = (p2p_sim__flow *)p2p_sim__take(c, s->desc.flows, sizeof *s->flows);
    s->flow_mask = p2p_sim__pow2(s->desc.flows) - 1;
    s->flow_table = (uint32_t *)p2p_sim__take(c, (size_t)s->flow_mask + 1, sizeof *s->flow_table);
    s->mappings = (p2p_sim__mapping *)p2p_sim__take(c, s->desc.flows, sizeof *s->mappings);
    s->mapping_mask = p2p_sim__pow2((uint64_t)s->desc.flows * 2) - 1;
    s->mapping_table =
        (uint32_t *)p2p_sim__take(c, (size_t)s->mapping_mask + 1, sizeof *s->mapping_table);
    s->record_max = nodes + 16;
    s->records = (p2p_sim__record *)p2p_sim__take(c, s->record_max, sizeof *s->records);
    s->bucket_mask = p2p_sim__pow2(s->record_max) - 1;
    s->buckets = (uint32_t *)p2p_sim__take(c, (size_t)s->bucket_mask + 1, sizeof *s->buckets);
    s->chunk_max = s->desc.packets * P2P_SIM__CHUNKS_A_PACKET;
    s->chunks = (p2p_sim__chunk *)p2p_sim__take(c, s->chunk_max, sizeof *s->chunks);
    s->events = (p2p_sim__event *)p2p_sim__take(c, s->chunk_max, sizeof *s->events);
    s->in = (uint8_t *)p2p_sim__take(c, P2P_SIM__DATAGRAM_MAX, 1);
    s->out = (uint8_t *)p2p_sim__take(c, P2P_SIM__DATAGRAM_MAX, 1);
}

/* ==== >>errors ==================================================================================
 * Every failing call says which field, name or id was wrong.
 * Always: the detail is kept in the sim, and copied to the desc's why when there is one.
 * Tests: tests/unit/test_sim.c */
static void p2p_sim__text_add(p2p_error_detail *d, const char *text) {
    size_t at = p2p_sim__length(d->text, sizeof d->text - 1);
    while (*text && at < sizeof d->text - 1)
        d->text[at++] = *text++;
    d->text[at] = 0;
}
static int p2p_sim__say(p2p_error_detail *d, int err, const char *text, const char *name) {
    if (!d)
        return err;
    memset(d, 0, sizeof *d);
    d->err = err;
    p2p_sim__text_add(d, text);
    if (name)
        p2p_sim__text_add(d, name);
    return err;
}
/* All but these is wiped at the end; the arena may still be there, and says so to who goes on. */
static bool p2p_sim__closed(const p2p_sim *s) { return !s || !s->base; }
/* What calls after the end get, and those for whom p2p_sim_open made none. */
static int p2p_sim__gone(const p2p_sim *s) { return s ? P2P_ERR_CLOSED : P2P_ERR_ARG; }
/* The error that was said last: for calls that found out by another's failing. */
static int p2p_sim__error(const p2p_sim *s) {
    return p2p_sim__closed(s) ? p2p_sim__gone(s) : s->error->err;
}
static int p2p_sim__fail_name(const p2p_sim *s, int err, const char *text, const char *name) {
    if (p2p_sim__closed(s))
        return p2p_sim__gone(s);
    (void)p2p_sim__say(s->error, err, text, name);
    if (s->desc.why)
        *s->desc.why = *s->error;
    return err;
}
static int p2p_sim__fail(const p2p_sim *s, int err, const char *text) {
    return p2p_sim__fail_name(s, err, text, NULL);
}
static int p2p_sim__no_out(const p2p_sim *s) {
    return p2p_sim__fail(s, P2P_ERR_ARG, "out: NULL, where the answer is to go");
}
static int p2p_sim__fail_id(const p2p_sim *s, int err, const char *text, const p2p_id *id) {
    if (p2p_sim__closed(s))
        return p2p_sim__gone(s);
    (void)p2p_sim__say(s->error, err, text, NULL);
    if (id)
        s->error->peer = *id;
    if (s->desc.why)
        *s->desc.why = *s->error;
    return err;
}
static int p2p_sim__fail_size(const p2p_sim *s, int err, const char *text, uint64_t size,
                              uint64_t max) {
    if (p2p_sim__closed(s))
        return p2p_sim__gone(s);
    (void)p2p_sim__say(s->error, err, text, NULL);
    s->error->size = size;
    s->error->max = max;
    if (s->desc.why)
        *s->desc.why = *s->error;
    return err;
}

/* Names the field that is wrong, or returns NULL. */
static const char *p2p_sim__link_wrong(const p2p_sim_link *l) {
    if (l->loss_ppm > P2P_SIM__PPM)
        return "link.loss_ppm: a probability above 1000000";
    if (l->burst_ppm > P2P_SIM__PPM)
        return "link.burst_ppm: a probability above 1000000";
    if (l->duplicate_ppm > P2P_SIM__PPM)
        return "link.duplicate_ppm: a probability above 1000000";
    if (l->reorder_ppm > P2P_SIM__PPM)
        return "link.reorder_ppm: a probability above 1000000";
    if (l->corrupt_ppm > P2P_SIM__PPM)
        return "link.corrupt_ppm: a probability above 1000000";
    if (l->burst_ppm != 0 && (uint64_t)l->loss_ppm * (P2P_SIM__PPM - l->burst_ppm) >
                                 (uint64_t)(P2P_SIM__PPM - l->loss_ppm) * P2P_SIM__PPM)
        return "link.burst_ppm: too small for so much loss_ppm";
    if (l->burst_ppm == P2P_SIM__PPM)
        return "link.burst_ppm: 1000000 would never end a burst";
    if (l->queue_bytes != 0 && l->rate_bps == 0)
        return "link.queue_bytes: a queue needs a rate_bps";
    if (l->overhead > P2P_SIM__DATAGRAM_MAX)
        return "link.overhead: at most 65535";
    if (l->latency_us > P2P_NEVER / 4 || l->jitter_us > P2P_NEVER / 4)
        return "link.latency_us or jitter_us: 2^62 or more";
    if (l->jitter > P2P_SIM_JITTER_PARETO)
        return "link.jitter: not one of P2P_SIM_JITTER_*";
    if (l->jitter != P2P_SIM_JITTER_UNIFORM && l->jitter_us > P2P_SIM__JITTER_MAX_US)
        return "link.jitter_us: at most 2^40 with a jitter that is not uniform";
    if (l->codel > 1)
        return "link.codel: 0 or 1";
    if (l->codel != 0 && l->rate_bps == 0)
        return "link.codel: a queue needs a rate_bps";
    if (l->reserved[0])
        return "link.reserved: must be 0";
    return NULL;
}
static const char *p2p_sim__desc_wrong(const p2p_sim_desc *d) {
    if (d->nodes > P2P_SIM__NODES_MAX)
        return "nodes: at most 16000000";
    if (d->links > 0x1fffffffu)
        return "links: at most 536870911";
    if (d->packets > 0x0fffffffu)
        return "packets: at most 268435455";
    if (d->boxes > P2P_SIM__BOXES_MAX)
        return "boxes: at most 1000000";
    if (d->flows > 0x0fffffffu)
        return "flows: at most 268435455";
    if (d->partition_ppm > P2P_SIM__PPM)
        return "partition_ppm: a probability above 1000000";
    if (d->failure_ppm > P2P_SIM__PPM)
        return "failure_ppm: a probability above 1000000";
    if (d->oneway_ppm > P2P_SIM__PPM)
        return "oneway_ppm: a probability above 1000000";
    if (d->step_us > P2P_SIM__END_US / (d->time_multiplier ? d->time_multiplier : 1))
        return "step_us: times time_multiplier it is beyond 285 years";
    if (d->name_fail_ppm > P2P_SIM__PPM)
        return "name_fail_ppm: a probability above 1000000";
    if (d->name_silent_ppm > P2P_SIM__PPM)
        return "name_silent_ppm: a probability above 1000000";
    if (d->routing > P2P_SIM_ROUTING_LATENCY)
        return "routing: not one of P2P_SIM_ROUTING_*";
    if (d->drops > 0x0fffffffu)
        return "drops: at most 268435455";
    if (d->receive_bytes > P2P_SIM__RECEIVE_MAX)
        return "receive_bytes: at most 2147483647";
    return p2p_sim__link_wrong(&d->link);
}
/* Defaults filled in, or the error. */
static int p2p_sim__resolve(const p2p_sim_desc *desc, p2p_sim_desc *out) {
    const char *wrong;
    uint64_t n;
    if (!desc)
        return P2P_ERR_ARG;
    wrong = p2p_sim__desc_wrong(desc);
    if (wrong)
        return p2p_sim__say(desc->why, P2P_ERR_CONFIG, "p2p_sim_desc.", wrong);
    *out = *desc;
    n = out->nodes = desc->nodes ? desc->nodes : 16;
    if (desc->links == 0)
        out->links = (uint32_t)(n <= 64 ? n * (n - 1) / 2 + 1 : n * 4);
    if (desc->packets == 0)
        out->packets = (uint32_t)(1024 + n * 16);
    if (desc->boxes == 0)
        out->boxes = n < P2P_SIM__BOXES_MAX ? (uint32_t)n : P2P_SIM__BOXES_MAX;
    if (desc->flows == 0)
        out->flows = (uint32_t)(n * 4 + 256);
    if (desc->discovery_us == 0)
        out->discovery_us = 100000;
    if (desc->discovery_us == P2P_NEVER)
        out->discovery_us = 0;
    if (desc->ttl_us == 0)
        out->ttl_us = 300000000;
    if (desc->time_multiplier == 0)
        out->time_multiplier = 1;
    if (desc->drops == 0)
        out->drops = 64;
    if (desc->receive_bytes == 0)
        out->receive_bytes = 212992;
    if (desc->idle_us == 0)
        out->idle_us = 5000000;
    if (!out->crypto.api)
        out->crypto.api = &p2p_sim__insecure_crypto;
    if (!out->secure.api)
        out->secure.api = &p2p_sim__null_api;
    return P2P_OK;
}

/* ==== >>graph ===================================================================================
 * Vertices by id, edges by their ends.
 * Always: an edge once made stays (down at most); lists are in the order of making, so that ties
 * are broken alike on every machine.
 * Tests: tests/unit/test_sim.c, tests/unit/test_sim_link.c */
static uint32_t *p2p_sim__vertex_slot(const p2p_sim *s, const p2p_id *id) {
    uint32_t at = (uint32_t)p2p_sim__mix(0, p2p_sim__load(id->bytes)) & s->vertex_mask;
    while (s->vertex_table[at] != P2P_SIM__NOTHING &&
           memcmp(s->vertices[s->vertex_table[at]].id.bytes, id->bytes, 32) != 0)
        at = (at + 1) & s->vertex_mask;
    return &s->vertex_table[at];
}
static p2p_sim__vertex *p2p_sim__find(const p2p_sim *s, const p2p_id *id) {
    uint32_t at = id && !p2p_sim__closed(s) ? *p2p_sim__vertex_slot(s, id) : P2P_SIM__NOTHING;
    return at == P2P_SIM__NOTHING ? NULL : &s->vertices[at];
}
static uint32_t *p2p_sim__edge_slot(const p2p_sim *s, uint32_t from, uint32_t to) {
    uint32_t at = p2p_sim__hash_pair(from, to) & s->edge_mask;
    while (s->edge_table[at] != P2P_SIM__NOTHING &&
           (s->edges[s->edge_table[at]].from != from || s->edges[s->edge_table[at]].to != to))
        at = (at + 1) & s->edge_mask;
    return &s->edge_table[at];
}
/* From here on remembered hops are of an older graph. */
static void p2p_sim__changed(p2p_sim *s) { s->epoch++; }

static void p2p_sim__edge_set(p2p_sim *s, p2p_sim__edge *e, const p2p_sim_link *link) {
    P2P_SIM_ASSERT(!p2p_sim__link_wrong(link));
    P2P_SIM_ASSERT(e->from < s->vertex_count && e->to < s->vertex_count && e->from != e->to);
    if (e->link.down != link->down ||
        (s->desc.routing == P2P_SIM_ROUTING_LATENCY && e->link.latency_us != link->latency_us))
        p2p_sim__changed(s);
    e->link = *link;
    e->good_ppm = link->loss_ppm;
    if (link->burst_ppm != 0 && link->loss_ppm < P2P_SIM__PPM)
        e->good_ppm = (uint32_t)((uint64_t)link->loss_ppm * (P2P_SIM__PPM - link->burst_ppm) /
                                 (P2P_SIM__PPM - link->loss_ppm));
    if (link->rate_bps == 0)
        e->busy_ns = 0;
    if (!link->codel) {
        e->first_above_ns = e->drop_next_ns = 0;
        e->count = e->last_count = e->dropping = 0;
    }
}
/* So many new ones, or the error. */
static int p2p_sim__edges_room(const p2p_sim *s, uint32_t more) {
    if (more <= s->edge_max - s->edge_count)
        return P2P_OK;
    return p2p_sim__fail_size(s, P2P_ERR_LIMIT, "p2p_sim_desc.links: no more edges",
                              (uint64_t)s->edge_max / 2 + 1, s->edge_max / 2);
}
static int p2p_sim__edge_make(p2p_sim *s, uint32_t from, uint32_t to, const p2p_sim_link *link) {
    uint32_t *slot = p2p_sim__edge_slot(s, from, to);
    p2p_sim__vertex *a = &s->vertices[from], *b = &s->vertices[to];
    p2p_sim__edge *e;
    if (*slot != P2P_SIM__NOTHING) {
        p2p_sim__edge_set(s, &s->edges[*slot], link);
        return P2P_OK;
    }
    if (p2p_sim__edges_room(s, 1) < 0)
        return P2P_ERR_LIMIT;
    *slot = s->edge_count++;
    e = &s->edges[*slot];
    memset(e, 0, sizeof *e);
    e->from = from;
    e->to = to;
    e->next_out = e->next_in = e->first_drop = P2P_SIM__NOTHING;
    e->random = p2p_sim__generator(s, "link", (uint64_t)from << 32 | to);
    *(a->last_out == P2P_SIM__NOTHING ? &a->first_out : &s->edges[a->last_out].next_out) = *slot;
    a->last_out = *slot;
    *(b->last_in == P2P_SIM__NOTHING ? &b->first_in : &s->edges[b->last_in].next_in) = *slot;
    b->last_in = *slot;
    p2p_sim__edge_set(s, e, link);
    p2p_sim__changed(s);
    return P2P_OK;
}
/* Both ends of a call about two vertices, or the error that says which is unknown. */
static int p2p_sim__ends(const p2p_sim *s, const p2p_id *from, const p2p_id *to,
                         p2p_sim__vertex **a, p2p_sim__vertex **b) {
    *a = p2p_sim__find(s, from);
    *b = p2p_sim__find(s, to);
    if (!*a)
        return p2p_sim__fail_id(s, P2P_ERR_NOT_FOUND, "from: no vertex has this id", from);
    if (!*b)
        return p2p_sim__fail_id(s, P2P_ERR_NOT_FOUND, "to: no vertex has this id", to);
    if (*a == *b)
        return p2p_sim__fail_name(s, P2P_ERR_ARG, "from and to are the same vertex: ", (*a)->name);
    return P2P_OK;
}
static const p2p_sim_link *p2p_sim__link_checked(const p2p_sim *s, const p2p_sim_link *link) {
    const char *wrong = link ? p2p_sim__link_wrong(link) : NULL;
    if (wrong) {
        (void)p2p_sim__fail(s, P2P_ERR_CONFIG, wrong);
        return NULL;
    }
    return link ? link : &s->desc.link;
}
P2P_DEF int p2p_sim_connect_oneway(p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                                   const p2p_sim_link *link) {
    p2p_sim__vertex *a, *b;
    int err = p2p_sim__ends(sim, from, to, &a, &b);
    if (err < 0)
        return err;
    link = p2p_sim__link_checked(sim, link);
    return link ? p2p_sim__edge_make(sim, a->index, b->index, link) : P2P_ERR_CONFIG;
}
P2P_DEF int p2p_sim_connect(p2p_sim *sim, const p2p_id *a, const p2p_id *b,
                            const p2p_sim_link *link) {
    p2p_sim__vertex *x, *y;
    uint32_t more;
    int err = p2p_sim__ends(sim, a, b, &x, &y);
    if (err < 0)
        return err;
    more = (*p2p_sim__edge_slot(sim, x->index, y->index) == P2P_SIM__NOTHING ? 1u : 0u) +
           (*p2p_sim__edge_slot(sim, y->index, x->index) == P2P_SIM__NOTHING ? 1u : 0u);
    err = p2p_sim__edges_room(sim, more); /* for both directions or for none */
    if (err == P2P_OK)
        err = p2p_sim_connect_oneway(sim, a, b, link);
    return err < 0 ? err : p2p_sim_connect_oneway(sim, b, a, link);
}
static p2p_sim__edge *p2p_sim__edge_of(const p2p_sim *s, const p2p_id *from, const p2p_id *to) {
    p2p_sim__vertex *a, *b;
    uint32_t at;
    if (p2p_sim__ends(s, from, to, &a, &b) < 0)
        return NULL;
    at = *p2p_sim__edge_slot(s, a->index, b->index);
    if (at != P2P_SIM__NOTHING)
        return &s->edges[at];
    (void)p2p_sim__fail_id(s, P2P_ERR_NOT_FOUND, "no edge leads from here to this id", to);
    return NULL;
}
P2P_DEF int p2p_sim_link_set(p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                             const p2p_sim_link *link) {
    p2p_sim__edge *e = p2p_sim__edge_of(sim, from, to);
    if (!e)
        return p2p_sim__error(sim);
    link = p2p_sim__link_checked(sim, link);
    if (!link)
        return P2P_ERR_CONFIG;
    p2p_sim__edge_set(sim, e, link);
    return P2P_OK;
}
P2P_DEF int p2p_sim_link_get(const p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                             p2p_sim_link *out) {
    const p2p_sim__edge *e = p2p_sim__edge_of(sim, from, to);
    if (!e)
        return p2p_sim__error(sim);
    if (!out)
        return p2p_sim__no_out(sim);
    *out = e->link;
    return P2P_OK;
}
static void p2p_sim__range_free(p2p_sim *s, uint32_t *link) {
    uint32_t at = *link;
    *link = s->ranges[at].next;
    s->ranges[at].next = s->range_free;
    s->range_free = at;
}
P2P_DEF int p2p_sim_drop(p2p_sim *sim, const p2p_id *from, const p2p_id *to, uint64_t first,
                         uint64_t count) {
    p2p_sim__edge *e = p2p_sim__edge_of(sim, from, to);
    p2p_sim__range *r;
    uint32_t at;
    if (!e)
        return p2p_sim__error(sim);
    while (count == 0 && e->first_drop != P2P_SIM__NOTHING)
        p2p_sim__range_free(sim, &e->first_drop);
    if (count == 0)
        return P2P_OK;
    if (first == 0)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_drop: first is 1 for the next datagram");
    at = sim->range_free;
    if (at == P2P_SIM__NOTHING)
        return p2p_sim__fail_size(sim, P2P_ERR_LIMIT,
                                  "p2p_sim_desc.drops: no room for one more range",
                                  (uint64_t)sim->range_max + 1, sim->range_max);
    r = &sim->ranges[at];
    sim->range_free = r->next;
    r->skip = first - 1;
    r->left = count;
    r->next = e->first_drop;
    e->first_drop = at;
    return P2P_OK;
}

/* ==== >>partition ===============================================================================
 * Cuts and heals between groups, in the order they were made: for two vertices the latest that
 * names them, one in each group, counts. Each has a bit; a vertex has two masks, of the first
 * groups and of the second groups it is in. So the question costs a few instructions at any size.
 * A cut of one way says nothing of what goes from its second group to its first.
 * Always: bits ascend with time, and what later ones cover wholly is forgotten.
 * Tests: tests/unit/test_sim.c, tests/unit/test_sim_link.c */
P2P_SIM__RARE static bool p2p_sim__cut_between(const p2p_sim *s, const p2p_sim__vertex *x,
                                               const p2p_sim__vertex *y) {
    uint64_t both = (x->cut_a & y->cut_b) | (x->cut_b & y->cut_a & ~s->cut_oneway);
    uint32_t bit;
    if (s->split && x->side != y->side && (s->split != P2P_SIM__ONEWAY || x->side))
        return true;
    if (both == 0)
        return false;
    P2P_SIM_ASSERT(s->cut_count != 0 && both >> (s->cut_count - 1) <= 1);
    for (bit = s->cut_count - 1; !(both >> bit & 1); bit--) {}
    return (s->cut_kind >> bit & 1) != 0;
}
/* Whether what x sends does not reach y. */
static bool p2p_sim__cut(const p2p_sim *s, const p2p_sim__vertex *x, const p2p_sim__vertex *y) {
    return (s->split | s->cut_count) != 0 && p2p_sim__cut_between(s, x, y);
}
/* Bits of older ones whose groups lie wholly in those of bit `newest`. */
static uint64_t p2p_sim__cut_covered(const p2p_sim *s, uint32_t newest) {
    uint64_t same = ((uint64_t)1 << newest) - 1, crossed = same;
    uint32_t i;
    for (i = 0; i < s->vertex_count; i++) {
        const p2p_sim__vertex *v = &s->vertices[i];
        bool a = (v->cut_a >> newest & 1) != 0, b = (v->cut_b >> newest & 1) != 0;
        same &= ~(a ? 0 : v->cut_a) & ~(b ? 0 : v->cut_b);
        crossed &= ~(b ? 0 : v->cut_a) & ~(a ? 0 : v->cut_b);
    }
    return s->cut_oneway >> newest & 1 ? same & s->cut_oneway : same | crossed;
}
static uint64_t p2p_sim__squeeze(uint64_t mask, uint64_t gone) {
    uint64_t out = 0;
    uint32_t from, to = 0;
    for (from = 0; from < 64; from++)
        if (!(gone >> from & 1))
            out |= (mask >> from & 1) << to++;
    return out;
}
static void p2p_sim__cut_forget(p2p_sim *s, uint64_t gone) {
    uint32_t i, kept = 0;
    /* A heal with nothing older below it says nothing. */
    for (i = 0; i < s->cut_count; i++) {
        bool cut = (s->cut_kind >> i & 1) != 0;
        if (kept == 0 && !cut)
            gone |= (uint64_t)1 << i;
        kept += !(gone >> i & 1);
    }
    if (kept == s->cut_count)
        return;
    s->cut_kind = p2p_sim__squeeze(s->cut_kind, gone);
    s->cut_oneway = p2p_sim__squeeze(s->cut_oneway, gone);
    s->cut_count = kept;
    for (i = 0; i < s->vertex_count; i++) {
        p2p_sim__vertex *v = &s->vertices[i];
        v->cut_a = p2p_sim__squeeze(v->cut_a, gone);
        v->cut_b = p2p_sim__squeeze(v->cut_b, gone);
    }
}
static int p2p_sim__known(const p2p_sim *s, const p2p_id *ids, size_t count) {
    size_t i;
    for (i = 0; i < count; i++)
        if (!p2p_sim__find(s, &ids[i]))
            return p2p_sim__fail_id(s, P2P_ERR_NOT_FOUND, "group: no vertex has this id", &ids[i]);
    return P2P_OK;
}
static int p2p_sim__cut_add(p2p_sim *s, const p2p_id *a, size_t na, const p2p_id *b, size_t nb,
                            uint32_t kind) {
    uint64_t bit;
    size_t i;
    if (p2p_sim__known(s, a, na) < 0 || p2p_sim__known(s, b, nb) < 0)
        return p2p_sim__error(s);
    if (s->cut_count == P2P_SIM__CUTS)
        return p2p_sim__fail_size(s, P2P_ERR_LIMIT,
                                  "partition: too many different cuts at a time, heal some",
                                  P2P_SIM__CUTS + 1, P2P_SIM__CUTS);
    bit = (uint64_t)1 << s->cut_count++;
    s->cut_kind |= kind != P2P_SIM__HEAL ? bit : 0;
    s->cut_oneway |= kind == P2P_SIM__ONEWAY ? bit : 0;
    for (i = 0; i < na; i++)
        p2p_sim__find(s, &a[i])->cut_a |= bit;
    for (i = 0; i < nb; i++)
        p2p_sim__find(s, &b[i])->cut_b |= bit;
    p2p_sim__cut_forget(s, p2p_sim__cut_covered(s, s->cut_count - 1));
    p2p_sim__changed(s);
    return P2P_OK;
}
P2P_DEF int p2p_sim_partition(p2p_sim *sim, const p2p_id *a, size_t na, const p2p_id *b,
                              size_t nb) {
    if (na == 0 || nb == 0)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_partition: a group is empty");
    return p2p_sim__cut_add(sim, a, na, b, nb, P2P_SIM__CUT);
}
P2P_DEF int p2p_sim_partition_oneway(p2p_sim *sim, const p2p_id *a, size_t na, const p2p_id *b,
                                     size_t nb) {
    if (na == 0 || nb == 0)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_partition_oneway: a group is empty");
    return p2p_sim__cut_add(sim, a, na, b, nb, P2P_SIM__ONEWAY);
}
P2P_DEF int p2p_sim_heal(p2p_sim *sim, const p2p_id *a, size_t na, const p2p_id *b, size_t nb) {
    if (na != 0 && nb != 0)
        return p2p_sim__cut_add(sim, a, na, b, nb, P2P_SIM__HEAL);
    if (na != 0 || nb != 0)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_heal: one group is empty, the other not");
    if (p2p_sim__closed(sim))
        return p2p_sim__gone(sim);
    sim->split = 0; /* drawn at random */
    sim->cut_kind = 0;
    p2p_sim__cut_forget(sim, 0);
    p2p_sim__changed(sim);
    return P2P_OK;
}

/* ==== >>path ====================================================================================
 * Fewest hops, by a breadth-first search from the target, or least latency, and of those the fewest
 * hops, by Dijkstra's; remembered for each vertex on the way.
 * Always: the hop chosen depends on the graph alone, not on what was asked before: among the
 * neighbours nearer to the target the one whose edge was made first. Each hop is one less, so that
 * instant links make no circles.
 * Tests: tests/unit/test_sim.c, tests/unit/test_sim_link.c */
static bool p2p_sim__forwards(const p2p_sim__vertex *v) {
    return v->state == P2P_SIM__ROUTER ||
           (v->state == P2P_SIM__RUNNING && v->seat.behind == P2P_SIM__NOTHING);
}
static bool p2p_sim__usable(const p2p_sim *s, const p2p_sim__edge *e) {
    return !e->link.down && !p2p_sim__cut(s, &s->vertices[e->from], &s->vertices[e->to]);
}
/* Distances to `to` of all vertices up to `from`; true when there is a way. */
static bool p2p_sim__search(const p2p_sim *s, uint32_t from, uint32_t to) {
    uint32_t first = 0, last = 0, stamp = ++*s->stamp_now, at, e;
    s->stamp[to] = stamp;
    s->distance[to] = 0;
    s->line[last++] = to;
    while (first < last) {
        at = s->line[first++];
        for (e = s->vertices[at].first_in; e != P2P_SIM__NOTHING; e = s->edges[e].next_in) {
            uint32_t next = s->edges[e].from;
            if (s->stamp[next] == stamp || !p2p_sim__usable(s, &s->edges[e]))
                continue;
            s->stamp[next] = stamp;
            s->distance[next] = s->distance[at] + 1;
            if (next == from)
                return true;
            if (p2p_sim__forwards(&s->vertices[next]))
                s->line[last++] = next;
        }
    }
    return false;
}
static bool p2p_sim__closer(const p2p_sim *s, uint32_t a, uint32_t b) {
    return s->cost[a] != s->cost[b] ? s->cost[a] < s->cost[b] : s->distance[a] < s->distance[b];
}
static void p2p_sim__line_put(const p2p_sim *s, uint32_t at, uint32_t vertex) {
    s->line[at] = vertex;
    s->place[vertex] = at;
}
/* A way of `next` to the target by the edge e was found: a new place in the line if better. */
static void p2p_sim__reach(const p2p_sim *s, const p2p_sim__edge *e, uint32_t *count) {
    uint64_t cost = p2p_sim__later(s->cost[e->to], e->link.latency_us);
    uint32_t next = e->from, hops = s->distance[e->to] + 1, at, up;
    if (s->stamp[next] != *s->stamp_now) {
        s->stamp[next] = *s->stamp_now;
        s->place[next] = (*count)++;
    } else if (s->cost[next] < cost || (s->cost[next] == cost && s->distance[next] <= hops)) {
        return;
    }
    s->cost[next] = cost;
    s->distance[next] = hops;
    for (at = s->place[next]; at != 0; at = up) {
        up = (at - 1) / 2;
        if (!p2p_sim__closer(s, next, s->line[up]))
            break;
        p2p_sim__line_put(s, at, s->line[up]);
    }
    p2p_sim__line_put(s, at, next);
}
static uint32_t p2p_sim__closest_take(const p2p_sim *s, uint32_t *count) {
    uint32_t top = s->line[0], last = s->line[--*count], at = 0, down;
    while ((down = at * 2 + 1) < *count) {
        if (down + 1 < *count && p2p_sim__closer(s, s->line[down + 1], s->line[down]))
            down++;
        if (!p2p_sim__closer(s, s->line[down], last))
            break;
        p2p_sim__line_put(s, at, s->line[down]);
        at = down;
    }
    p2p_sim__line_put(s, at, last);
    return top;
}
/* As p2p_sim__search, by latency. */
static bool p2p_sim__search_latency(const p2p_sim *s, uint32_t from, uint32_t to) {
    uint32_t count = 1, at, e;
    s->stamp[to] = ++*s->stamp_now;
    s->cost[to] = s->distance[to] = 0;
    p2p_sim__line_put(s, 0, to);
    while (count != 0) {
        at = p2p_sim__closest_take(s, &count);
        if (at == from)
            return true;
        if (at != to && !p2p_sim__forwards(&s->vertices[at]))
            continue;
        for (e = s->vertices[at].first_in; e != P2P_SIM__NOTHING; e = s->edges[e].next_in)
            if (p2p_sim__usable(s, &s->edges[e]))
                p2p_sim__reach(s, &s->edges[e], &count);
    }
    return false;
}
/* Whether an edge begins a best way, after a search that succeeded. */
static bool p2p_sim__leads(const p2p_sim *s, const p2p_sim__edge *e) {
    if (s->stamp[e->to] != *s->stamp_now || s->distance[e->to] + 1 != s->distance[e->from])
        return false;
    return s->desc.routing == P2P_SIM_ROUTING_HOPS ||
           p2p_sim__later(s->cost[e->to], e->link.latency_us) == s->cost[e->from];
}
/* After a search that succeeded: the edge to take at `at`. */
static uint32_t p2p_sim__nearer(const p2p_sim *s, uint32_t at, uint32_t to) {
    uint32_t e = s->vertices[at].first_out;
    for (; e != P2P_SIM__NOTHING; e = s->edges[e].next_out) {
        uint32_t next = s->edges[e].to;
        if (p2p_sim__leads(s, &s->edges[e]) &&
            (next == to || p2p_sim__forwards(&s->vertices[next])) &&
            p2p_sim__usable(s, &s->edges[e]))
            break;
    }
    return e;
}
static void p2p_sim__remember(const p2p_sim *s, uint32_t from, uint32_t to, uint32_t edge) {
    p2p_sim__hop *hop = &s->hops[p2p_sim__hash_pair(from, to) & s->hop_mask];
    hop->from = from;
    hop->to = to;
    hop->edge = edge;
    hop->epoch = s->epoch;
}
/* Searches and remembers each hop of the way; the first of them. */
P2P_SIM__RARE static uint32_t p2p_sim__way(const p2p_sim *s, uint32_t from, uint32_t to) {
    bool found = s->desc.routing == P2P_SIM_ROUTING_HOPS ? p2p_sim__search(s, from, to)
                                                         : p2p_sim__search_latency(s, from, to);
    uint32_t at = from, first = P2P_SIM__NOTHING;
    if (!found)
        p2p_sim__remember(s, from, to, P2P_SIM__NOTHING);
    while (found && at != to) {
        uint32_t edge = p2p_sim__nearer(s, at, to);
        P2P_SIM_ASSERT(edge != P2P_SIM__NOTHING);
        p2p_sim__remember(s, at, to, edge);
        if (at == from)
            first = edge;
        at = s->edges[edge].to;
    }
    return first;
}
/* The edge that leads from `from` towards `to`, or P2P_SIM__NOTHING. */
static uint32_t p2p_sim__next_edge(const p2p_sim *s, uint32_t from, uint32_t to) {
    const p2p_sim__hop *hop;
    if (s->desc.routing == P2P_SIM_ROUTING_HOPS) {
        uint32_t direct = *p2p_sim__edge_slot(s, from, to);
        if (direct != P2P_SIM__NOTHING && p2p_sim__usable(s, &s->edges[direct]))
            return direct;
    }
    hop = &s->hops[p2p_sim__hash_pair(from, to) & s->hop_mask];
    if (hop->from == from && hop->to == to && hop->epoch == s->epoch)
        return hop->edge;
    return p2p_sim__way(s, from, to);
}
P2P_DEF int p2p_sim_path(const p2p_sim *sim, const p2p_id *from, const p2p_id *to, p2p_id *hops,
                         size_t capacity) {
    p2p_sim__vertex *a, *b;
    uint32_t at, e;
    int count = 0, err = p2p_sim__ends(sim, from, to, &a, &b);
    if (err < 0)
        return err;
    if (!hops && capacity != 0)
        return p2p_sim__no_out(sim);
    for (at = a->index; at != b->index; at = sim->edges[e].to) {
        e = p2p_sim__cut(sim, a, b) ? P2P_SIM__NOTHING : p2p_sim__next_edge(sim, at, b->index);
        if (e == P2P_SIM__NOTHING)
            return p2p_sim__fail_id(sim, P2P_ERR_NO_ROUTE, "no path leads to this id", to);
        if ((size_t)count < capacity)
            hops[count] = sim->vertices[sim->edges[e].to].id;
        count++;
    }
    return count;
}

/* ==== >>nat =====================================================================================
 * The table of a box, in RFC 4787's words: a mapping gives an inner endpoint an outer port, towards
 * all remotes or some; a flow is a remote it has sent to, which is what filters ask for.
 * Always: a mapping ends no sooner than its flows; those that have ended count as gone, though they
 * lie there until room is wanted; an outer port belongs to one mapping. What the box itself was
 * sent too early is a mapping of inner address 0. Every question costs a look into a hash table.
 * Tests: tests/unit/test_sim_nat.c, tests/sim/test_nat_matrix.c */
static bool p2p_sim__translates(const p2p_sim__box *b) {
    return b->desc.kind != P2P_SIM_NAT_FIREWALL;
}
static p2p_sim__box *p2p_sim__box_of(const p2p_sim *s, const p2p_sim__flow *f) {
    return &s->boxes[s->mappings[f->mapping].box];
}
static uint64_t p2p_sim__flow_end(const p2p_sim *s, const p2p_sim__flow *f) {
    const p2p_sim_nat_desc *d = &p2p_sim__box_of(s, f)->desc;
    bool assured = f->replied && f->last_us - f->since_us >= P2P_SIM__ASSURED_AFTER_US;
    return p2p_sim__later(f->last_us, assured ? d->assured_us : d->lone_us);
}
/* Where the chain of a mapping by its inner side, or by its outer port, begins. */
static uint32_t *p2p_sim__mapping_chain(const p2p_sim *s, const p2p_sim__mapping *m,
                                        uint32_t side) {
    uint64_t h = p2p_sim__mix(0x2545f4914f6cdd1du, (uint64_t)m->box << 32 | side);
    if (side == P2P_SIM__INNER) {
        h = p2p_sim__mix(h, (uint64_t)m->inner << 32 | m->remote);
        h = p2p_sim__mix(h, (uint64_t)m->inner_port << 16 | m->remote_port);
    } else {
        h = p2p_sim__mix(h, m->outer_port);
    }
    return &s->mapping_table[((uint32_t)h << 1 | side) & s->mapping_mask];
}
/* Where the chain of a mapping's flows to a remote begins; address-dependent filters want to find
 * all that lead to the same address. */
static uint32_t *p2p_sim__flow_chain(const p2p_sim *s, uint32_t mapping, uint32_t remote,
                                     uint16_t port) {
    uint64_t h = p2p_sim__mix(0x9fb21c651e98df25u, (uint64_t)mapping << 32 | remote);
    if (s->boxes[s->mappings[mapping].box].desc.filtering == P2P_SIM_NAT_ADDRESS_DEPENDENT)
        port = 0;
    return &s->flow_table[(uint32_t)p2p_sim__mix(h, port) & s->flow_mask];
}
static void p2p_sim__flow_drop(p2p_sim *s, uint32_t at) {
    p2p_sim__flow *f = &s->flows[at];
    uint32_t *link = p2p_sim__flow_chain(s, f->mapping, f->remote, f->remote_port);
    for (; *link != at; link = &s->flows[*link].next)
        P2P_SIM_ASSERT(*link < s->desc.flows);
    *link = f->next;
    p2p_sim__box_of(s, f)->flow_count--;
    s->mappings[f->mapping].flow_count--;
    f->mapping = P2P_SIM__NOTHING;
    f->next = s->flow_free;
    s->flow_free = at;
}
static void p2p_sim__mapping_link(p2p_sim *s, uint32_t at, uint32_t side) {
    uint32_t *link = p2p_sim__mapping_chain(s, &s->mappings[at], side);
    s->mappings[at].next[side] = *link;
    *link = at;
}
static void p2p_sim__mapping_unlink(p2p_sim *s, uint32_t at, uint32_t side) {
    uint32_t *link = p2p_sim__mapping_chain(s, &s->mappings[at], side);
    for (; *link != at; link = &s->mappings[*link].next[side])
        P2P_SIM_ASSERT(*link < s->desc.flows);
    *link = s->mappings[at].next[side];
}
static void p2p_sim__mapping_drop(p2p_sim *s, uint32_t at) {
    p2p_sim__mapping *m = &s->mappings[at];
    P2P_SIM_ASSERT(m->flow_count == 0);
    p2p_sim__mapping_unlink(s, at, P2P_SIM__INNER);
    p2p_sim__mapping_unlink(s, at, P2P_SIM__OUTER);
    s->boxes[m->box].mapping_count--;
    m->box = P2P_SIM__NOTHING;
    m->next[0] = s->mapping_free;
    s->mapping_free = at;
}
/* Drops what has ended of a box, or with P2P_SIM__NOTHING of all, or even all of it; when the next
 * of the rest ends. */
static uint64_t p2p_sim__nat_sweep(p2p_sim *s, uint32_t box, bool all) {
    uint64_t first_us = P2P_NEVER, end_us;
    uint32_t at, of;
    for (at = 0; at < s->desc.flows; at++) {
        of = s->flows[at].mapping;
        if (of == P2P_SIM__NOTHING || (box != P2P_SIM__NOTHING && s->mappings[of].box != box))
            continue;
        end_us = p2p_sim__flow_end(s, &s->flows[at]);
        if (all || end_us <= s->now_us)
            p2p_sim__flow_drop(s, at);
        else if (end_us < first_us)
            first_us = end_us;
    }
    for (at = 0; at < s->desc.flows; at++) {
        of = s->mappings[at].box;
        if (of == P2P_SIM__NOTHING || (box != P2P_SIM__NOTHING && of != box))
            continue;
        if (all || s->mappings[at].end_us <= s->now_us)
            p2p_sim__mapping_drop(s, at);
        else if (s->mappings[at].end_us < first_us)
            first_us = s->mappings[at].end_us;
    }
    return first_us;
}
static void p2p_sim__nat_flush(p2p_sim *s, uint32_t box) {
    if (s->boxes[box].mapping_count != 0)
        (void)p2p_sim__nat_sweep(s, box, true);
    P2P_SIM_ASSERT(s->boxes[box].mapping_count == 0 && s->boxes[box].flow_count == 0);
}
/* Whether there is room for a mapping and a flow: a full table is looked through once for each end
 * in it. */
static bool p2p_sim__nat_room(p2p_sim *s, uint32_t box) {
    p2p_sim__box *b = &s->boxes[box];
    if (b->desc.table_max != 0 && b->flow_count >= b->desc.table_max && b->sweep_us <= s->now_us)
        b->sweep_us = p2p_sim__nat_sweep(s, box, false);
    if ((s->flow_free == P2P_SIM__NOTHING || s->mapping_free == P2P_SIM__NOTHING) &&
        s->sweep_us <= s->now_us)
        s->sweep_us = p2p_sim__nat_sweep(s, P2P_SIM__NOTHING, false);
    return s->flow_free != P2P_SIM__NOTHING && s->mapping_free != P2P_SIM__NOTHING &&
           (b->desc.table_max == 0 || b->flow_count < b->desc.table_max);
}
/* The mapping with this inner side, even if it has ended, or P2P_SIM__NOTHING. */
static uint32_t p2p_sim__mapping_had(const p2p_sim *s, const p2p_sim__mapping *key) {
    uint32_t at = *p2p_sim__mapping_chain(s, key, P2P_SIM__INNER);
    for (; at != P2P_SIM__NOTHING; at = s->mappings[at].next[P2P_SIM__INNER]) {
        const p2p_sim__mapping *m = &s->mappings[at];
        if (m->box == key->box && m->inner == key->inner && m->inner_port == key->inner_port &&
            m->remote == key->remote && m->remote_port == key->remote_port)
            break;
    }
    return at;
}
static uint32_t p2p_sim__mapping_find(const p2p_sim *s, const p2p_sim__mapping *key) {
    uint32_t at = p2p_sim__mapping_had(s, key);
    return at != P2P_SIM__NOTHING && s->mappings[at].end_us > s->now_us ? at : P2P_SIM__NOTHING;
}
/* What has this outer port, and with inner not 0 this inner address. */
static uint32_t p2p_sim__mapping_at(const p2p_sim *s, uint32_t box, uint16_t port, uint32_t inner) {
    p2p_sim__mapping key;
    uint32_t at;
    memset(&key, 0, sizeof key);
    key.box = box;
    key.outer_port = port;
    at = *p2p_sim__mapping_chain(s, &key, P2P_SIM__OUTER);
    for (; at != P2P_SIM__NOTHING; at = s->mappings[at].next[P2P_SIM__OUTER]) {
        const p2p_sim__mapping *m = &s->mappings[at];
        if (m->box == box && m->outer_port == port && m->inner != 0 && m->end_us > s->now_us &&
            (inner == 0 || m->inner == inner))
            return at;
    }
    return at;
}
/* Its flow to a remote, or NULL. *addr_known (may be NULL): another port of that remote has one; to
 * be relied on where the filter depends on addresses, since there they share a chain. */
static p2p_sim__flow *p2p_sim__flow_find(const p2p_sim *s, uint32_t mapping, uint32_t remote,
                                         uint16_t port, bool *addr_known) {
    uint32_t at = *p2p_sim__flow_chain(s, mapping, remote, port);
    for (; at != P2P_SIM__NOTHING; at = s->flows[at].next) {
        p2p_sim__flow *f = &s->flows[at];
        if (f->mapping != mapping || f->remote != remote || p2p_sim__flow_end(s, f) <= s->now_us)
            continue;
        if (f->remote_port == port)
            return f;
        if (addr_known)
            *addr_known = true;
    }
    return NULL;
}
/* The same, of the mapping with this inner side. */
static p2p_sim__flow *p2p_sim__flow_of(const p2p_sim *s, const p2p_sim__mapping *key,
                                       uint32_t remote, uint16_t port) {
    uint32_t at = p2p_sim__mapping_find(s, key);
    return at != P2P_SIM__NOTHING ? p2p_sim__flow_find(s, at, remote, port, NULL) : NULL;
}
/* There is room. One that has ended begins anew with its outer port. */
static uint32_t p2p_sim__mapping_make(p2p_sim *s, const p2p_sim__mapping *what) {
    uint32_t at = p2p_sim__mapping_had(s, what);
    if (at != P2P_SIM__NOTHING) {
        p2p_sim__mapping_unlink(s, at, P2P_SIM__OUTER);
        s->mappings[at].outer_port = what->outer_port;
        p2p_sim__mapping_link(s, at, P2P_SIM__OUTER);
        return at;
    }
    at = s->mapping_free;
    P2P_SIM_ASSERT(at < s->desc.flows);
    s->mapping_free = s->mappings[at].next[0];
    s->mappings[at] = *what;
    s->boxes[what->box].mapping_count++;
    p2p_sim__mapping_link(s, at, P2P_SIM__INNER);
    p2p_sim__mapping_link(s, at, P2P_SIM__OUTER);
    return at;
}
/* Those in its chain that have ended leave it first. */
static p2p_sim__flow *p2p_sim__flow_make(p2p_sim *s, uint32_t mapping, uint32_t remote,
                                         uint16_t port) {
    uint32_t *link = p2p_sim__flow_chain(s, mapping, remote, port), at, next;
    p2p_sim__flow *f;
    for (at = *link; at != P2P_SIM__NOTHING; at = next) {
        next = s->flows[at].next;
        if (p2p_sim__flow_end(s, &s->flows[at]) <= s->now_us)
            p2p_sim__flow_drop(s, at);
    }
    at = s->flow_free;
    P2P_SIM_ASSERT(at < s->desc.flows);
    f = &s->flows[at];
    s->flow_free = f->next;
    memset(f, 0, sizeof *f);
    f->since_us = s->now_us;
    f->mapping = mapping;
    f->remote = remote;
    f->remote_port = port;
    f->next = *link;
    *link = at;
    s->mappings[mapping].flow_count++;
    p2p_sim__box_of(s, f)->flow_count++;
    return f;
}
/* A mapping lives until then at least, and a full table is looked through then again. */
static void p2p_sim__mapping_until(p2p_sim *s, p2p_sim__mapping *m, uint64_t end_us) {
    p2p_sim__box *b = &s->boxes[m->box];
    if (m->end_us < end_us)
        m->end_us = end_us;
    if (b->sweep_us > end_us)
        b->sweep_us = end_us;
    if (s->sweep_us > end_us)
        s->sweep_us = end_us;
}
static void p2p_sim__flow_refresh(p2p_sim *s, p2p_sim__flow *f) {
    f->last_us = s->now_us;
    p2p_sim__mapping_until(s, &s->mappings[f->mapping], p2p_sim__flow_end(s, f));
}
/* The outer port an inner one gets when it is free. */
static uint16_t p2p_sim__port_kept(const p2p_sim__box *b, uint16_t inner_port) {
    if (b->shift == 0)
        return inner_port;
    return (uint16_t)(1024 + (inner_port + P2P_SIM__PORTS - 1024 + b->shift) % P2P_SIM__PORTS);
}
/* A free outer port; 0: all are in use. */
static uint16_t p2p_sim__port_pick(p2p_sim *s, uint32_t box, uint16_t inner_port, uint32_t policy) {
    p2p_sim__box *b = &s->boxes[box];
    uint16_t port = p2p_sim__port_kept(b, inner_port);
    uint32_t at, i;
    if (policy != P2P_SIM_NAT_PORTS_RANDOM &&
        p2p_sim__mapping_at(s, box, port, 0) == P2P_SIM__NOTHING)
        return port;
    at = policy == P2P_SIM_NAT_PORTS_NEXT ? (uint32_t)port + P2P_SIM__PORTS - 1023
                                          : (uint32_t)p2p_sim__below(&b->random, P2P_SIM__PORTS);
    for (i = 0; i < P2P_SIM__PORTS; i++) {
        port = (uint16_t)(1024 + (at + i) % P2P_SIM__PORTS);
        if (p2p_sim__mapping_at(s, box, port, 0) == P2P_SIM__NOTHING)
            return port;
    }
    return 0;
}
/* The inner side of the mapping for a datagram outward, by as much of the remote as this says. */
static p2p_sim__mapping p2p_sim__mapping_key(uint32_t box, const p2p_sim__head *h, uint32_t by) {
    p2p_sim__mapping key;
    memset(&key, 0, sizeof key);
    key.box = box;
    key.inner = h->source;
    key.inner_port = h->from_port;
    if (by != P2P_SIM_NAT_ENDPOINT_INDEPENDENT)
        key.remote = h->target;
    if (by == P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT)
        key.remote_port = h->to_port;
    return key;
}
/* The box's own mapping, of what came to an outer port and was not let in. */
static p2p_sim__mapping p2p_sim__early_key(uint32_t box, uint16_t port) {
    p2p_sim__mapping key;
    memset(&key, 0, sizeof key);
    key.box = box;
    key.inner_port = key.outer_port = port;
    return key;
}
/* Nobody asked for it, and the box takes it for its own: the outer port is taken towards there. */
static void p2p_sim__early_note(p2p_sim *s, uint32_t box, const p2p_sim__head *h) {
    p2p_sim__mapping key = p2p_sim__early_key(box, h->to_port);
    p2p_sim__flow *f = p2p_sim__flow_of(s, &key, h->source, h->from_port);
    uint32_t at;
    if (!f) {
        if (!p2p_sim__nat_room(s, box))
            return;
        at = p2p_sim__mapping_find(s, &key);
        if (at == P2P_SIM__NOTHING)
            at = p2p_sim__mapping_make(s, &key);
        f = p2p_sim__flow_make(s, at, h->source, h->from_port);
    }
    p2p_sim__flow_refresh(s, f);
}
/* A new flow outward, in the mapping there is for it or a new one. NULL: no port or no room. */
static p2p_sim__flow *p2p_sim__flow_open(p2p_sim *s, uint32_t box, const p2p_sim__head *h) {
    const p2p_sim_nat_desc *d = &s->boxes[box].desc;
    p2p_sim__mapping key = p2p_sim__mapping_key(box, h, d->mapping), early;
    uint32_t at;
    if (!p2p_sim__nat_room(s, box))
        return NULL;
    at = p2p_sim__mapping_find(s, &key);
    if (at != P2P_SIM__NOTHING)
        key.outer_port = s->mappings[at].outer_port;
    else if (p2p_sim__translates(&s->boxes[box]))
        key.outer_port = p2p_sim__port_pick(s, box, h->from_port, d->ports);
    else
        key.outer_port = h->from_port;
    early = p2p_sim__early_key(box, key.outer_port);
    if (d->early && p2p_sim__flow_of(s, &early, h->target, h->to_port)) {
        key = p2p_sim__mapping_key(box, h, P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT);
        key.outer_port = p2p_sim__port_pick(s, box, h->from_port, P2P_SIM_NAT_PORTS_RANDOM);
        at = P2P_SIM__NOTHING; /* it goes astray: a mapping for this remote alone */
    }
    if (key.outer_port == 0)
        return NULL;
    if (at == P2P_SIM__NOTHING)
        at = p2p_sim__mapping_make(s, &key);
    return p2p_sim__flow_make(s, at, h->target, h->to_port);
}
/* The flow of a datagram outward, by its mapping or by one of its own that went astray. */
static p2p_sim__flow *p2p_sim__flow_out(const p2p_sim *s, uint32_t box, const p2p_sim__head *h) {
    const p2p_sim_nat_desc *d = &s->boxes[box].desc;
    p2p_sim__mapping key = p2p_sim__mapping_key(box, h, d->mapping);
    p2p_sim__flow *f = p2p_sim__flow_of(s, &key, h->target, h->to_port);
    if (f || !d->early)
        return f;
    key = p2p_sim__mapping_key(box, h, P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT);
    return p2p_sim__flow_of(s, &key, h->target, h->to_port);
}
/* Outward: whether the box passes it, its source translated. */
static bool p2p_sim__nat_out(p2p_sim *s, uint32_t box, p2p_sim__head *h) {
    p2p_sim__box *b = &s->boxes[box];
    p2p_sim__flow *f;
    if (b->desc.kind == P2P_SIM_NAT_BLOCKED)
        return false;
    f = p2p_sim__flow_out(s, box, h);
    if (!f)
        f = p2p_sim__flow_open(s, box, h);
    if (!f)
        return false;
    p2p_sim__flow_refresh(s, f);
    if (p2p_sim__translates(b)) {
        h->source = b->seat.ip;
        h->from_port = s->mappings[f->mapping].outer_port;
    }
    return true;
}
/* What comes in by its own flow refreshes that, else the mapping it may come in by. */
static void p2p_sim__refresh_in(p2p_sim *s, p2p_sim__mapping *m, p2p_sim__flow *f) {
    const p2p_sim_nat_desc *d = &s->boxes[m->box].desc;
    if (f) {
        f->replied = 1;
        if (!d->outbound_only)
            f->last_us = s->now_us;
        p2p_sim__mapping_until(s, m, p2p_sim__flow_end(s, f));
    } else if (!d->outbound_only) {
        p2p_sim__mapping_until(s, m, p2p_sim__later(s->now_us, d->lone_us));
    }
}
/* The mapping by which the filter lets this in, or P2P_SIM__NOTHING; *flow: its own, if any. */
static uint32_t p2p_sim__admit(const p2p_sim *s, uint32_t box, const p2p_sim__head *h,
                               p2p_sim__flow **flow) {
    const p2p_sim__box *b = &s->boxes[box];
    uint32_t filtering = b->desc.filtering;
    uint32_t inner = p2p_sim__translates(b) ? 0 : h->target;
    uint32_t at = p2p_sim__mapping_at(s, box, h->to_port, inner);
    bool addr_known = false;
    *flow = NULL;
    if (at == P2P_SIM__NOTHING)
        return at;
    /* Its own address is the source only of what it has just sent out: a hairpin. */
    if (inner == 0 && h->source == b->seat.ip)
        filtering = P2P_SIM_NAT_ENDPOINT_INDEPENDENT;
    *flow = p2p_sim__flow_find(s, at, h->source, h->from_port, &addr_known);
    if (*flow || filtering == P2P_SIM_NAT_ENDPOINT_INDEPENDENT ||
        (filtering == P2P_SIM_NAT_ADDRESS_DEPENDENT && addr_known))
        return at;
    return P2P_SIM__NOTHING;
}
/* Inward: whether the box passes it, its target translated. */
static bool p2p_sim__nat_in(p2p_sim *s, uint32_t box, p2p_sim__head *h) {
    p2p_sim__flow *f;
    uint32_t at = p2p_sim__admit(s, box, h, &f);
    if (at == P2P_SIM__NOTHING) {
        if (s->boxes[box].desc.early)
            p2p_sim__early_note(s, box, h);
        return false;
    }
    p2p_sim__refresh_in(s, &s->mappings[at], f);
    if (p2p_sim__translates(&s->boxes[box])) {
        h->target = s->mappings[at].inner;
        h->to_port = s->mappings[at].inner_port;
    }
    return true;
}

/* ==== >>queue ===================================================================================
 * What will happen, by time: datagrams and answers in a radix heap; a heap with an entry a node.
 * An event lies in the list of the highest bit in which its time differs from that of the event
 * taken last; list 0 has those of that very time. When that is used up the first list that is not
 * empty is dealt out anew from its earliest time: all of it goes to lower lists.
 * Always: a node's key is never later than it wants; equal times go by order of making, since lists
 * are dealt out in their order, and by index of nodes. Datagrams go before the timers of the same
 * instant.
 * Tests: tests/unit/test_sim.c */
/* Bits that x has without zeros before it. */
static uint32_t p2p_sim__bits(uint64_t x) {
#if defined(__GNUC__)
    return x ? 64u - (uint32_t)__builtin_clzll(x) : 0;
#else
    uint32_t n = 0;
    for (; x != 0; x >>= 1)
        n++;
    return n;
#endif
}
static void p2p_sim__event_list(p2p_sim *s, uint32_t chunk) {
    p2p_sim__event *e = &s->events[chunk];
    p2p_sim__list *l = &s->lists[p2p_sim__bits(e->at_us ^ s->taken_us)];
    P2P_SIM_ASSERT(e->at_us >= s->taken_us);
    e->next = P2P_SIM__NOTHING;
    *(l->first == P2P_SIM__NOTHING ? &l->first : &s->events[l->last].next) = chunk;
    l->last = chunk;
}
static void p2p_sim__event_push(p2p_sim *s, uint64_t at_us, uint32_t kind, uint32_t chunk) {
    P2P_SIM_ASSERT(s->event_count < s->chunk_max && chunk < s->chunk_max);
    P2P_SIM_ASSERT(at_us >= s->now_us);
    s->events[chunk].at_us = at_us;
    s->events[chunk].kind = kind;
    p2p_sim__event_list(s, chunk);
    if (s->event_count++ == 0 || at_us < s->event_us)
        s->event_us = at_us;
}
/* The first list that is not empty, of which there is one. */
static p2p_sim__list *p2p_sim__event_lowest(p2p_sim *s) {
    p2p_sim__list *l = s->lists;
    while (l->first == P2P_SIM__NOTHING)
        l++;
    return l;
}
static uint64_t p2p_sim__event_earliest(p2p_sim *s) {
    uint32_t at = p2p_sim__event_lowest(s)->first;
    uint64_t us = P2P_NEVER;
    for (; at != P2P_SIM__NOTHING; at = s->events[at].next)
        if (s->events[at].at_us < us)
            us = s->events[at].at_us;
    return us;
}
/* The chunk of the event that is next, of which there is one. */
static uint32_t p2p_sim__event_pop(p2p_sim *s) {
    p2p_sim__list *l = p2p_sim__event_lowest(s);
    uint32_t at = l->first, next;
    P2P_SIM_ASSERT(s->event_count != 0 && s->event_us >= s->now_us);
    if (l != s->lists) {
        l->first = P2P_SIM__NOTHING;
        s->taken_us = s->event_us;
        for (; at != P2P_SIM__NOTHING; at = next) {
            next = s->events[at].next;
            p2p_sim__event_list(s, at);
        }
        at = s->lists[0].first;
    }
    s->lists[0].first = s->events[at].next;
    if (--s->event_count != 0 && s->lists[0].first == P2P_SIM__NOTHING)
        s->event_us = p2p_sim__event_earliest(s);
    return at;
}
static bool p2p_sim__wake_less(const p2p_sim__wake *a, const p2p_sim__wake *b) {
    return a->key_us != b->key_us ? a->key_us < b->key_us : a->vertex < b->vertex;
}
static void p2p_sim__wake_put(p2p_sim *s, uint32_t at, p2p_sim__wake w) {
    P2P_SIM_ASSERT(at < s->wake_count && w.vertex < s->vertex_count);
    s->wakes[at] = w;
    s->vertices[w.vertex].heap_at = at;
}
static void p2p_sim__wake_up(p2p_sim *s, uint32_t at, p2p_sim__wake w) {
    while (at != 0 && p2p_sim__wake_less(&w, &s->wakes[(at - 1) / 4])) {
        p2p_sim__wake_put(s, at, s->wakes[(at - 1) / 4]);
        at = (at - 1) / 4;
    }
    p2p_sim__wake_put(s, at, w);
}
static void p2p_sim__wake_down(p2p_sim *s, uint32_t at, p2p_sim__wake w) {
    uint32_t first, i, least;
    while ((first = at * 4 + 1) < s->wake_count) {
        least = first;
        for (i = first + 1; i < s->wake_count && i < first + 4; i++)
            if (p2p_sim__wake_less(&s->wakes[i], &s->wakes[least]))
                least = i;
        if (!p2p_sim__wake_less(&s->wakes[least], &w))
            break;
        p2p_sim__wake_put(s, at, s->wakes[least]);
        at = least;
    }
    p2p_sim__wake_put(s, at, w);
}
static void p2p_sim__wake_add(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_sim__wake w;
    w.key_us = P2P_NEVER;
    w.vertex = v->index;
    v->wake_us = P2P_NEVER;
    p2p_sim__wake_up(s, s->wake_count++, w);
}
/* Earlier is noted at once; later only when the old time has come: timers mostly move back. */
static void p2p_sim__wake_at(p2p_sim *s, p2p_sim__vertex *v, uint64_t time_us) {
    p2p_sim__wake w = s->wakes[v->heap_at];
    P2P_SIM_ASSERT(w.vertex == v->index);
    v->wake_us = time_us < s->now_us ? s->now_us : time_us;
    if (v->wake_us >= w.key_us)
        return;
    w.key_us = v->wake_us;
    p2p_sim__wake_up(s, v->heap_at, w);
}
/* The node to wake first, with its true time as its key; NULL when none is waiting for a time. */
static p2p_sim__vertex *p2p_sim__wake_first(p2p_sim *s) {
    while (s->wake_count != 0) {
        p2p_sim__wake w = s->wakes[0];
        p2p_sim__vertex *v = &s->vertices[w.vertex];
        P2P_SIM_ASSERT(v->wake_us >= w.key_us && v->heap_at == 0);
        if (v->wake_us == w.key_us)
            return w.key_us == P2P_NEVER ? NULL : v;
        w.key_us = v->wake_us;
        p2p_sim__wake_down(s, 0, w);
    }
    return NULL;
}

/* ==== >>link ====================================================================================
 * What one link does to one datagram: drop list, queue, CoDel, loss, and when it arrives.
 * Always: each link draws from its own generator, in the order datagrams reach it; nothing arrives
 * before it was sent, and in order but for reorder_ppm.
 * Tests: tests/unit/test_sim_link.c, tests/unit/test_sim.c */
/* How far out the value lies that is exceeded with probability p, in units of 2^-16: 16 octaves of
 * p from 1 down to 2^-16, 8 equal steps in each. Made by tools/sim_tables.py. */
#define P2P_SIM__OCTAVES 16u
#define P2P_SIM__STEPS   8u
#define P2P_SIM__TAIL    (P2P_SIM__OCTAVES * P2P_SIM__STEPS + 1)
/* |z| of the standard normal distribution; and Pareto's of the second kind (Lomax), shape 3,
 * mean 1: 2 (p^(-1/3) - 1). */
static const uint32_t p2p_sim__normal[P2P_SIM__TAIL] = {
    0,      5139,   10310,  15545,  20882,  26362,  32032,  37954,  44203,  47482,  50884,  54428,
    58140,  62048,  66191,  70616,  75389,  77933,  80600,  83408,  86377,  89536,  92917,  96565,
    100540, 102675, 104924, 107304, 109834, 112540, 115453, 118613, 122076, 123944, 125918, 128013,
    130248, 132646, 135235, 138055, 141156, 142834, 144610, 146500, 148519, 150691, 153042, 155608,
    158437, 159970, 161597, 163329, 165184, 167181, 169346, 171714, 174330, 175750, 177257, 178865,
    180588, 182445, 184462, 186670, 189113, 190440, 191851, 193356, 194971, 196714, 198608, 200683,
    202983, 204233, 205563, 206982, 208507, 210153, 211943, 213907, 216085, 217270, 218531, 219878,
    221325, 222888, 224590, 226458, 228531, 229660, 230861, 232145, 233525, 235017, 236642, 238426,
    240408, 241487, 242636, 243865, 245187, 246616, 248173, 249884, 251785, 252821, 253924, 255104,
    256374, 257747, 259244, 260890, 262719, 263716, 264779, 265915, 267138, 268462, 269905, 271492,
    273257, 274219, 275245, 276343, 277524, 278803, 280197, 281732, 283438};
static const uint32_t p2p_sim__pareto[P2P_SIM__TAIL] = {
    0,       2850,    5966,    9393,    13191,   17437,   22231,   27710,   34068,   37659,
    41585,   45903,   50688,   56037,   62077,   68981,   76992,   81516,   86462,   91903,
    97932,   104671,  112281,  120979,  131072,  136773,  143004,  149858,  157455,  165946,
    175533,  186493,  199209,  206391,  214242,  222878,  232449,  243147,  255227,  269035,
    285056,  294105,  303996,  314877,  326936,  340414,  355634,  373031,  393216,  404617,
    417079,  430789,  445982,  462963,  482139,  504058,  529489,  543854,  559556,  576828,
    595970,  617366,  641525,  669141,  701183,  719281,  739064,  760827,  784944,  811900,
    842340,  877134,  917504,  940306,  965231,  992650,  1023035, 1056999, 1095350, 1139187,
    1190051, 1218780, 1250183, 1284729, 1323012, 1365803, 1414123, 1469355, 1533439, 1569635,
    1609200, 1652725, 1700959, 1754873, 1815751, 1885339, 1966080, 2011684, 2061534, 2116372,
    2177142, 2245070, 2321772, 2409447, 2511174, 2568632, 2631438, 2700529, 2777096, 2862679,
    2959318, 3069781, 3197949, 3270342, 3349473, 3436522, 3532990, 3640818, 3762575, 3901750,
    4063232, 4154441, 4254140, 4363815, 4485357, 4621211, 4774616, 4949965, 5153420};

/* A draw from the tail: its octave by the leading zeros of 32 bits, its place there by 19 more. */
P2P_SIM__RARE static uint64_t p2p_sim__far(const uint32_t *table, uint64_t draw) {
    uint32_t p = (uint32_t)(draw >> 32), octave = 0, rest = (uint32_t)(draw >> 13) & 0x7ffffu, at;
    while (octave < P2P_SIM__OCTAVES && !(p >> 31)) {
        p <<= 1;
        octave++;
    }
    if (octave == P2P_SIM__OCTAVES)
        return table[P2P_SIM__TAIL - 1];
    at = octave * P2P_SIM__STEPS + (rest >> 16);
    return table[at] + ((uint64_t)(table[at + 1] - table[at]) * (rest & 0xffffu) >> 16);
}
/* How long the datagram is under way, once it is on the line. */
static uint64_t p2p_sim__delay(p2p_sim__edge *e) {
    const p2p_sim_link *l = &e->link;
    uint64_t draw, off_us;
    if (l->jitter_us == 0)
        return l->latency_us;
    if (l->jitter == P2P_SIM_JITTER_UNIFORM)
        return l->latency_us + p2p_sim__below(&e->random, l->jitter_us + 1);
    draw = p2p_sim__draw(&e->random);
    if (l->jitter == P2P_SIM_JITTER_PARETO)
        return l->latency_us + (l->jitter_us * p2p_sim__far(p2p_sim__pareto, draw) >> 16);
    off_us = l->jitter_us * p2p_sim__far(p2p_sim__normal, draw) >> 16;
    if (draw & 1)
        return l->latency_us + off_us;
    return l->latency_us > off_us ? l->latency_us - off_us : 0;
}
static uint64_t p2p_sim__arrival(p2p_sim__edge *e, uint64_t sent_us) {
    const p2p_sim_link *l = &e->link;
    uint64_t at_us = sent_us + p2p_sim__delay(e), span_us = l->latency_us + l->jitter_us;
    if (p2p_sim__chance(&e->random, l->reorder_ppm))
        return p2p_sim__later(at_us,
                              1 + p2p_sim__below(&e->random, span_us > 1000 ? span_us : 1000));
    if (at_us < e->last_us)
        at_us = e->last_us;
    e->last_us = at_us;
    return at_us;
}

/* Whether a range of p2p_sim_drop holds this datagram; it counts in all of them. */
P2P_SIM__RARE static bool p2p_sim__listed(p2p_sim *s, p2p_sim__edge *e) {
    uint32_t *link = &e->first_drop;
    bool lost = false;
    while (*link != P2P_SIM__NOTHING) {
        p2p_sim__range *r = &s->ranges[*link];
        if (r->skip != 0) {
            r->skip--;
        } else {
            lost = true;
            r->left--;
        }
        if (r->left == 0)
            p2p_sim__range_free(s, link);
        else
            link = &r->next;
    }
    return lost;
}

/* Time on the line of so many bytes, any uint32_t of them; what would not fit is for ever. */
static uint64_t p2p_sim__line_ns(uint64_t bytes, uint64_t rate_bps) {
    uint64_t half_ns = rate_bps ? bytes * 4000000000u / rate_bps : 0;
    return half_ns > UINT64_MAX / 2 ? UINT64_MAX : half_ns * 2;
}
static uint64_t p2p_sim__root(uint64_t x) {
    uint64_t root = 0, bit;
    for (bit = (uint64_t)1 << 31; bit != 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= x)
            root += bit;
    return root;
}
/* CoDel, RFC 8289 section 5. The queue is first in, first out, so how long a datagram will have
 * waited, and when it leaves, is known as it enters, and it is judged then: one that is dropped
 * takes no room. What the RFC asks of the queue behind a leaving datagram, that it holds more than
 * one of full size, is asked of the queue in front of an entering one. */
static bool p2p_sim__standing(p2p_sim__edge *e, uint64_t enters_ns, uint64_t leaves_ns) {
    uint64_t full = e->link.mtu != 0 ? e->link.mtu : P2P_SIM__CODEL_BYTES;
    uint64_t waits_ns = leaves_ns - enters_ns;
    if (waits_ns < P2P_SIM__CODEL_TARGET_NS ||
        waits_ns <= p2p_sim__line_ns(full + e->link.overhead, e->link.rate_bps)) {
        e->first_above_ns = 0;
        return false;
    }
    if (e->first_above_ns == 0)
        e->first_above_ns = leaves_ns + P2P_SIM__CODEL_INTERVAL_NS;
    return leaves_ns >= e->first_above_ns;
}
/* The next drop: an interval later divided by the root of the count. */
static void p2p_sim__codel_law(p2p_sim__edge *e, uint64_t from_ns) {
    uint64_t square = P2P_SIM__CODEL_INTERVAL_NS * P2P_SIM__CODEL_INTERVAL_NS;
    e->drop_next_ns = from_ns + p2p_sim__root(square / e->count);
}
P2P_SIM__RARE static bool p2p_sim__codel(p2p_sim__edge *e, uint64_t enters_ns, uint64_t leaves_ns) {
    bool standing = p2p_sim__standing(e, enters_ns, leaves_ns);
    uint32_t more = e->count - e->last_count;
    if (!standing) {
        e->dropping = 0;
        return false;
    }
    if (e->dropping) {
        if (leaves_ns < e->drop_next_ns)
            return false;
        e->count++;
        p2p_sim__codel_law(e, e->drop_next_ns);
        return true;
    }
    /* It was dropping not long ago: it goes on near the rate that had brought the queue down. */
    e->count = more > 1 && leaves_ns < e->drop_next_ns + 16 * P2P_SIM__CODEL_INTERVAL_NS ? more : 1;
    e->last_count = e->count;
    e->dropping = 1;
    p2p_sim__codel_law(e, leaves_ns);
    return true;
}

static bool p2p_sim__spared(const p2p_sim__edge *e) {
    return e->link.burst_max != 0 && e->harmed >= e->link.burst_max;
}
/* Gilbert's two states: after a loss the next is lost with burst_ppm, after a success with
 * good_ppm, which keeps the mean at loss_ppm. */
static bool p2p_sim__loses(p2p_sim__edge *e) {
    if (e->link.loss_ppm == 0)
        return false;
    e->bad =
        p2p_sim__chance(&e->random, e->bad && e->link.burst_ppm ? e->link.burst_ppm : e->good_ppm);
    if (p2p_sim__spared(e))
        e->bad = 0;
    e->harmed += e->bad;
    return e->bad != 0;
}
/* Whether the link takes a datagram of this size, and when its last bit is on the line. */
static uint32_t p2p_sim__link_take(p2p_sim *s, p2p_sim__edge *e, uint32_t size, uint64_t *sent_us) {
    const p2p_sim_link *l = &e->link;
    uint64_t now_ns = s->now_us * 1000, start_ns = e->busy_ns > now_ns ? e->busy_ns : now_ns;
    uint64_t line_ns = p2p_sim__line_ns((uint64_t)size + l->overhead, l->rate_bps);
    if (e->first_drop != P2P_SIM__NOTHING && p2p_sim__listed(s, e))
        return P2P_SIM_LOST;
    if (l->mtu != 0 && size > l->mtu)
        return P2P_SIM_MTU;
    if (start_ns - now_ns > P2P_SIM__BACKLOG_NS)
        return P2P_SIM_QUEUE;
    if (l->queue_bytes != 0 && start_ns > now_ns &&
        start_ns - now_ns + line_ns > p2p_sim__line_ns(l->queue_bytes, l->rate_bps))
        return P2P_SIM_QUEUE;
    if (l->codel && p2p_sim__codel(e, now_ns, start_ns))
        return P2P_SIM_QUEUE;
    *sent_us = s->now_us;
    if (l->rate_bps != 0) {
        e->busy_ns = start_ns + line_ns;
        *sent_us = (e->busy_ns + 999) / 1000;
    }
    return p2p_sim__loses(e) ? P2P_SIM_LOST : P2P_SIM_SENT;
}

/* ==== >>clock ===================================================================================
 * Clocks of nodes: all show the network's time until p2p_sim_clock makes one of its own.
 * Always: what is translated to the network's time is rounded up, so that a node woken then has
 * reached the time it asked for.
 * Tests: tests/unit/test_sim_node.c */
P2P_SIM__RARE static uint64_t p2p_sim__skewed_us(const p2p_sim__clock *c, uint64_t now_us) {
    uint64_t gone_us = now_us - c->at_us;
    return c->shown_us + gone_us / P2P_SIM__PPM * c->rate_ppm +
           gone_us % P2P_SIM__PPM * c->rate_ppm / P2P_SIM__PPM;
}
/* What the clock of v shows now. */
static uint64_t p2p_sim__shown_us(const p2p_sim *s, const p2p_sim__vertex *v) {
    return v->skewed ? p2p_sim__skewed_us(&v->clock, s->now_us) : s->now_us;
}
/* When this clock will show so much, which is later than it showed when it was set. */
static uint64_t p2p_sim__true_us(const p2p_sim__clock *c, uint64_t shown_us) {
    uint64_t gone_us = shown_us - c->shown_us, whole, rest;
    if (shown_us == P2P_NEVER || c->rate_ppm == 0)
        return P2P_NEVER;
    whole = gone_us / c->rate_ppm;
    rest = gone_us % c->rate_ppm * P2P_SIM__PPM;
    if (whole > P2P_SIM__END_US / P2P_SIM__PPM)
        return P2P_NEVER;
    return c->at_us + whole * P2P_SIM__PPM + (rest + c->rate_ppm - 1) / c->rate_ppm;
}

/* ==== >>scope ===================================================================================
 * Who lies behind which box, and what an address means there. A zone is where one set of addresses
 * holds: the inside of a box that translates, or the public network (P2P_SIM__NOTHING); firewalls
 * within it divide it, and change no address.
 * Always: boxes form a forest; an address means one vertex or box of a zone, and each of them lies
 * in one zone, from which it moves only by being seated anew.
 * Tests: tests/unit/test_sim_nat.c, tests/sim/test_nat_matrix.c */
static p2p_sim__seat *p2p_sim__seat_of(const p2p_sim *s, uint32_t who) {
    return who & P2P_SIM__BOX ? &s->boxes[who & ~P2P_SIM__BOX].seat : &s->vertices[who].seat;
}
static uint32_t p2p_sim__zone(const p2p_sim *s, uint32_t box) {
    while (box != P2P_SIM__NOTHING && !p2p_sim__translates(&s->boxes[box]))
        box = s->boxes[box].seat.behind;
    return box;
}
static bool p2p_sim__overlaps(const p2p_sim *s, uint32_t zone) {
    return zone != P2P_SIM__NOTHING && s->boxes[zone].desc.overlap;
}
/* Addresses of boxes: each has one of every desc.boxes, and the next at a rebind. */
static uint32_t p2p_sim__box_ip(const p2p_sim *s, uint32_t zone, uint32_t box) {
    uint32_t size = zone == P2P_SIM__NOTHING ? 0xfffffeu : 0x3ffffeu, all = s->desc.boxes;
    uint32_t net = zone == P2P_SIM__NOTHING ? P2P_SIM__NET_OUTER : P2P_SIM__NET_CARRIER;
    return net + 1 + box + s->boxes[box].turn % (size / all) * all;
}
/* The lowest address that nobody in this LAN has; 0: there is none. */
static uint32_t p2p_sim__overlap_ip(const p2p_sim *s, uint32_t zone) {
    uint32_t ip, who;
    for (ip = P2P_SIM__NET_OVERLAP + 2; ip < P2P_SIM__NET_OVERLAP + 255; ip++) {
        for (who = s->boxes[zone].first; who != P2P_SIM__NOTHING;) {
            const p2p_sim__seat *seat = p2p_sim__seat_of(s, who);
            if (seat->ip == ip)
                break;
            who = seat->next;
        }
        if (who == P2P_SIM__NOTHING)
            return ip;
    }
    return 0;
}
static uint32_t p2p_sim__ip_for(const p2p_sim *s, uint32_t zone, uint32_t who) {
    uint32_t box = who & ~P2P_SIM__BOX;
    if (who & P2P_SIM__BOX && !p2p_sim__translates(&s->boxes[box]))
        return 0;
    if (p2p_sim__overlaps(s, zone))
        return p2p_sim__overlap_ip(s, zone);
    return who & P2P_SIM__BOX ? p2p_sim__box_ip(s, zone, box) : P2P_SIM__NET_VERTEX + who + 1;
}
/* Who has this address, or P2P_SIM__NOTHING: in this zone, if it is one that comes in many. */
static uint32_t p2p_sim__who_has(const p2p_sim *s, uint32_t zone, uint32_t ip) {
    uint32_t who = P2P_SIM__NOTHING, carrier = ip - P2P_SIM__NET_CARRIER - 1;
    if (ip >> 8 == P2P_SIM__NET_OVERLAP >> 8) {
        who = p2p_sim__overlaps(s, zone) ? s->boxes[zone].first : P2P_SIM__NOTHING;
        while (who != P2P_SIM__NOTHING && p2p_sim__seat_of(s, who)->ip != ip)
            who = p2p_sim__seat_of(s, who)->next;
        return who;
    }
    if (ip - P2P_SIM__NET_VERTEX - 1 < s->vertex_count)
        who = ip - P2P_SIM__NET_VERTEX - 1;
    else if (ip >> 24 == P2P_SIM__NET_OUTER >> 24)
        who = P2P_SIM__BOX | (ip - P2P_SIM__NET_OUTER - 1) % s->desc.boxes;
    else if (carrier < 0x3fffffu)
        who = P2P_SIM__BOX | carrier % s->desc.boxes;
    return who != P2P_SIM__NOTHING && p2p_sim__seat_of(s, who)->ip == ip ? who : P2P_SIM__NOTHING;
}
/* What a datagram to this address meets next within a scope: who has it, or the firewall before
 * that; P2P_SIM__NOTHING: nobody here has it. */
static uint32_t p2p_sim__next_in(const p2p_sim *s, uint32_t scope, uint32_t ip) {
    uint32_t who = p2p_sim__who_has(s, p2p_sim__zone(s, scope), ip);
    while (who != P2P_SIM__NOTHING) {
        uint32_t behind = p2p_sim__seat_of(s, who)->behind;
        if (behind == scope)
            return who;
        if (behind == P2P_SIM__NOTHING || p2p_sim__translates(&s->boxes[behind]))
            return P2P_SIM__NOTHING;
        who = P2P_SIM__BOX | behind;
    }
    return who;
}
/* The scope a vertex and all its own boxes lie in. */
static uint32_t p2p_sim__outside(const p2p_sim *s, const p2p_sim__vertex *v) {
    uint32_t box = v->seat.behind;
    while (box != P2P_SIM__NOTHING && s->boxes[box].vertex == v->index)
        box = s->boxes[box].seat.behind;
    return box;
}
/* Outward through a box: whether it passes. A hairpin where there is none leaves no trace. */
static bool p2p_sim__leave(p2p_sim *s, uint32_t box, p2p_sim__head *h) {
    if (!s->boxes[box].desc.hairpin &&
        p2p_sim__next_in(s, s->boxes[box].seat.behind, h->target) == (P2P_SIM__BOX | box))
        return false;
    return p2p_sim__nat_out(s, box, h);
}
/* A datagram is at a vertex, in this scope: through all boxes that stand here, until it is
 * DELIVERED, has to go to another vertex (FORWARDED), or met its fate. Inward it does not turn. */
static uint32_t p2p_sim__travel(p2p_sim *s, p2p_sim__head *h, uint32_t at, uint32_t scope,
                                bool inward) {
    for (;;) {
        uint32_t next = p2p_sim__next_in(s, scope, h->target), box = next & ~P2P_SIM__BOX;
        bool leaves = next == P2P_SIM__NOTHING;
        if (leaves && (scope == P2P_SIM__NOTHING || inward))
            return P2P_SIM_NOBODY;
        if (leaves)
            box = scope;
        h->to = leaves || next & P2P_SIM__BOX ? s->boxes[box].vertex : next;
        h->way = leaves ? P2P_SIM__OUTWARD : P2P_SIM__INWARD;
        if (h->to != at)
            return P2P_SIM_FORWARDED;
        if (!leaves && !(next & P2P_SIM__BOX))
            return P2P_SIM_DELIVERED;
        if (leaves ? !p2p_sim__leave(s, box, h) : !p2p_sim__nat_in(s, box, h))
            return P2P_SIM_NAT;
        inward = !leaves;
        scope = leaves ? s->boxes[box].seat.behind : box;
    }
}

static void p2p_sim__addr_make(uint32_t ip, uint16_t port, p2p_addr *out) {
    memset(out, 0, sizeof *out);
    out->family = 4;
    out->ip[0] = (uint8_t)(ip >> 24);
    out->ip[1] = (uint8_t)(ip >> 16);
    out->ip[2] = (uint8_t)(ip >> 8);
    out->ip[3] = (uint8_t)ip;
    out->port = port;
}
/* 0: not of IPv4, which nobody has. */
static uint32_t p2p_sim__addr_ip(const p2p_addr *a) {
    if (a->family != 4)
        return 0;
    return (uint32_t)a->ip[0] << 24 | (uint32_t)a->ip[1] << 16 | (uint32_t)a->ip[2] << 8 | a->ip[3];
}
/* As the public network sees a port of this vertex, or would if it sent something. */
static void p2p_sim__addr_outer(const p2p_sim *s, const p2p_sim__vertex *v, p2p_addr *out) {
    uint32_t box =
        v->state == P2P_SIM__ROUTER && v->own != P2P_SIM__NOTHING ? v->own : v->seat.behind;
    uint32_t at;
    p2p_sim__mapping key;
    p2p_sim__head h;
    memset(&h, 0, offsetof(p2p_sim__head, data));
    h.source = v->seat.ip;
    h.from_port = P2P_SIM__PORT;
    for (; box != P2P_SIM__NOTHING; box = s->boxes[box].seat.behind) {
        if (!p2p_sim__translates(&s->boxes[box]))
            continue;
        key = p2p_sim__mapping_key(box, &h, P2P_SIM_NAT_ENDPOINT_INDEPENDENT);
        at = p2p_sim__mapping_find(s, &key);
        h.from_port = at != P2P_SIM__NOTHING ? s->mappings[at].outer_port
                                             : p2p_sim__port_kept(&s->boxes[box], h.from_port);
        h.source = s->boxes[box].seat.ip;
    }
    p2p_sim__addr_make(h.source, h.from_port, out);
}
static p2p_sim__vertex *p2p_sim__vertex_known(const p2p_sim *s, const p2p_id *id) {
    p2p_sim__vertex *v = p2p_sim__find(s, id);
    if (!v)
        (void)p2p_sim__fail_id(s, P2P_ERR_NOT_FOUND, "no vertex has this id", id);
    return v;
}
P2P_DEF int p2p_sim_addr(const p2p_sim *sim, const p2p_id *id, p2p_addr *out) {
    p2p_sim__vertex *v = p2p_sim__vertex_known(sim, id);
    if (!v)
        return p2p_sim__error(sim);
    if (!out)
        return p2p_sim__no_out(sim);
    p2p_sim__addr_outer(sim, v, out);
    return P2P_OK;
}
P2P_DEF int p2p_sim_addr_inside(const p2p_sim *sim, const p2p_id *id, p2p_addr *out) {
    p2p_sim__vertex *v = p2p_sim__vertex_known(sim, id);
    if (!v)
        return p2p_sim__error(sim);
    if (!out)
        return p2p_sim__no_out(sim);
    p2p_sim__addr_make(v->seat.ip, P2P_SIM__PORT, out);
    return P2P_OK;
}

/* The address of a vertex is another: a running node is told, and a restarted one will know. */
static void p2p_sim__ip_changed(p2p_sim *s, p2p_sim__vertex *v, uint32_t old_ip) {
    p2p_link *link = &s->origins[v->index].desc.link;
    p2p_addr old;
    p2p_sim__addr_make(old_ip, P2P_SIM__PORT, &old);
    if (v->program || v->state == P2P_SIM__ROUTER || link->local_count != 1 ||
        memcmp(&link->local[0], &old, sizeof old) != 0)
        return; /* the program gave it addresses of its own */
    p2p_sim__addr_make(v->seat.ip, P2P_SIM__PORT, &link->local[0]);
    if (v->state != P2P_SIM__RUNNING || !p2p_id_equal(p2p_node_id(v->node), &v->id))
        return;
    (void)p2p_network_changed(v->node, s->now_us, link->local, 1);
    p2p_sim__wake_at(s, v, s->now_us);
}
static void p2p_sim__unseat(p2p_sim *s, uint32_t who) {
    p2p_sim__seat *seat = p2p_sim__seat_of(s, who);
    uint32_t zone = p2p_sim__zone(s, seat->behind), *link;
    if (!p2p_sim__overlaps(s, zone) || seat->ip == 0)
        return;
    for (link = &s->boxes[zone].first; *link != who; link = &p2p_sim__seat_of(s, *link)->next)
        P2P_SIM_ASSERT(*link != P2P_SIM__NOTHING);
    *link = seat->next;
}
/* Puts a vertex or box, which has been unseated, behind a box. */
static void p2p_sim__seat_at(p2p_sim *s, uint32_t who, uint32_t behind) {
    p2p_sim__seat *seat = p2p_sim__seat_of(s, who);
    uint32_t zone = p2p_sim__zone(s, behind), old_ip = seat->ip;
    seat->behind = behind;
    seat->ip = p2p_sim__ip_for(s, zone, who);
    seat->next = P2P_SIM__NOTHING;
    if (p2p_sim__overlaps(s, zone) && seat->ip != 0) {
        seat->next = s->boxes[zone].first;
        s->boxes[zone].first = who;
    }
    if (seat->ip == old_ip)
        return;
    if (who & P2P_SIM__BOX)
        p2p_sim__nat_flush(s, who & ~P2P_SIM__BOX);
    else
        p2p_sim__ip_changed(s, &s->vertices[who], old_ip);
}
/* Own boxes of a vertex, innermost first; list has room for all levels. */
static uint32_t p2p_sim__own_boxes(const p2p_sim *s, const p2p_sim__vertex *v,
                                   uint32_t list[P2P_SIM__LEVELS]) {
    uint32_t count = 0, box = v->own;
    for (; box != P2P_SIM__NOTHING && s->boxes[box].vertex == v->index;
         box = s->boxes[box].seat.behind) {
        P2P_SIM_ASSERT(count < P2P_SIM__LEVELS);
        list[count++] = box;
    }
    return count;
}
/* A vertex and its own boxes leave their places, and take them again, behind `outside`. */
static void p2p_sim__lift(p2p_sim *s, p2p_sim__vertex *v, const uint32_t *list, uint32_t count) {
    uint32_t i;
    p2p_sim__unseat(s, v->index);
    for (i = 0; i < count; i++)
        p2p_sim__unseat(s, P2P_SIM__BOX | list[i]);
}
static void p2p_sim__settle(p2p_sim *s, p2p_sim__vertex *v, const uint32_t *list, uint32_t count,
                            uint32_t outside) {
    uint32_t i, behind = outside;
    for (i = count; i-- != 0; behind = list[i])
        p2p_sim__seat_at(s, P2P_SIM__BOX | list[i], behind);
    v->own = count != 0 ? list[0] : P2P_SIM__NOTHING;
    p2p_sim__seat_at(s, v->index, v->state == P2P_SIM__ROUTER ? outside : behind);
    p2p_sim__changed(s);
}

/* Names the field that is wrong, or returns NULL. */
static const char *p2p_sim__nat_wrong(const p2p_sim *s, const p2p_sim_nat_desc *d) {
    if (d->kind > P2P_SIM_NAT_FIREWALL)
        return "nat.kind: not one of P2P_SIM_NAT_*";
    if (d->level >= P2P_SIM__LEVELS)
        return "nat.level: at most 7";
    if (d->mapping > P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT)
        return "nat.mapping: not one of p2p_sim_nat_dependence";
    if (d->filtering > P2P_SIM_NAT_ADDRESS_AND_PORT_DEPENDENT)
        return "nat.filtering: not one of p2p_sim_nat_dependence";
    if (d->ports > P2P_SIM_NAT_PORTS_RANDOM)
        return "nat.ports: not one of p2p_sim_nat_ports";
    if ((d->hairpin | d->early | d->outbound_only | d->overlap) > 1)
        return "nat.hairpin, early, outbound_only, overlap: 0 or 1";
    if (d->kind == P2P_SIM_NAT_FIREWALL &&
        (d->hairpin | d->early | d->overlap | d->mapping | d->ports))
        return "nat: a firewall translates nothing; hairpin, early, overlap, mapping, ports: 0";
    if (d->table_max > s->desc.flows)
        return "nat.table_max: more than p2p_sim_desc.flows";
    if (d->reserved[0] | d->reserved[1] | d->reserved[2])
        return "nat.reserved: must be 0";
    if ((d->assured_us ? d->assured_us : 120000000) < (d->lone_us ? d->lone_us : 30000000))
        return "nat.assured_us: less than lone_us";
    return NULL;
}
static void p2p_sim__nat_fill(p2p_sim_nat_desc *d) {
    static const uint8_t kinds[P2P_SIM_NAT_FIREWALL + 1][3] = {
        {0, 0, 0}, {1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {3, 3, 3}, {1, 3, 1}, {1, 3, 1}};
    if (d->mapping == 0)
        d->mapping = kinds[d->kind][0];
    if (d->filtering == 0)
        d->filtering = kinds[d->kind][1];
    if (d->ports == 0)
        d->ports = kinds[d->kind][2];
    if (d->lone_us == 0)
        d->lone_us = 30000000;
    if (d->assured_us == 0)
        d->assured_us = 120000000;
}
/* A free box, its rules still missing. */
static uint32_t p2p_sim__box_take(p2p_sim *s, uint32_t vertex) {
    uint32_t box = s->box_free;
    p2p_sim__box *b = &s->boxes[box];
    s->box_free = b->seat.next;
    memset(b, 0, sizeof *b);
    b->vertex = vertex;
    b->seat.behind = b->seat.next = b->first = P2P_SIM__NOTHING;
    b->random = p2p_sim__generator(s, "nat", box);
    return box;
}
static void p2p_sim__box_give(p2p_sim *s, uint32_t box) {
    memset(&s->boxes[box], 0, sizeof s->boxes[box]);
    s->boxes[box].seat.next = s->box_free;
    s->box_free = box;
}
static void p2p_sim__box_rules(p2p_sim *s, uint32_t box, const p2p_sim_nat_desc *nat) {
    p2p_sim__box *b = &s->boxes[box];
    p2p_sim__nat_flush(s, box);
    b->desc = *nat;
    b->shift = 0;
    p2p_sim__nat_fill(&b->desc);
}
/* Where the box of this level is among a vertex's own, or would be. */
static uint32_t p2p_sim__level_at(const p2p_sim *s, const uint32_t *list, uint32_t count,
                                  uint32_t level) {
    uint32_t at = 0;
    while (at < count && s->boxes[list[at]].desc.level < level)
        at++;
    return at;
}
/* Whether so many more find an address in this LAN. */
static bool p2p_sim__seats_left(const p2p_sim *s, uint32_t scope, uint32_t more) {
    uint32_t zone = p2p_sim__zone(s, scope), who;
    if (!p2p_sim__overlaps(s, zone))
        return true;
    for (who = s->boxes[zone].first; who != P2P_SIM__NOTHING; more++)
        who = p2p_sim__seat_of(s, who)->next;
    return more <= P2P_SIM__OVERLAP_MAX;
}
static int p2p_sim__lan_full(const p2p_sim *s) {
    return p2p_sim__fail_size(s, P2P_ERR_LIMIT, "nat.overlap: no more addresses in 192.168.1.0/24",
                              P2P_SIM__OVERLAP_MAX + 1, P2P_SIM__OVERLAP_MAX);
}
/* A box more, fewer, or of such another kind that addresses change; nobody lies behind a router
 * yet. `had`: list[at] is the one. */
static int p2p_sim__nat_rebuild(p2p_sim *s, p2p_sim__vertex *v, const p2p_sim_nat_desc *nat,
                                uint32_t list[P2P_SIM__LEVELS], uint32_t count, uint32_t at,
                                bool had) {
    uint32_t i, outside = p2p_sim__outside(s, v);
    bool adds = nat->kind != P2P_SIM_NAT_NONE && nat->kind != P2P_SIM_NAT_FIREWALL &&
                !(had && p2p_sim__translates(&s->boxes[list[at]]));
    if (!had && s->box_free == P2P_SIM__NOTHING)
        return p2p_sim__fail_size(s, P2P_ERR_LIMIT, "p2p_sim_desc.boxes: no more boxes",
                                  (uint64_t)s->desc.boxes + 1, s->desc.boxes);
    if (v->state == P2P_SIM__ROUTER && adds && !p2p_sim__seats_left(s, outside, 1))
        return p2p_sim__lan_full(s);
    p2p_sim__lift(s, v, list, count);
    if (had && nat->kind == P2P_SIM_NAT_NONE) {
        p2p_sim__nat_flush(s, list[at]);
        p2p_sim__box_give(s, list[at]);
        for (count--, i = at; i < count; i++)
            list[i] = list[i + 1];
    } else if (!had) {
        for (i = count++; i > at; i--)
            list[i] = list[i - 1];
        list[at] = p2p_sim__box_take(s, v->index);
    }
    if (nat->kind != P2P_SIM_NAT_NONE)
        p2p_sim__box_rules(s, list[at], nat);
    p2p_sim__settle(s, v, list, count, outside);
    return P2P_OK;
}
P2P_DEF int p2p_sim_nat(p2p_sim *sim, const p2p_id *node, const p2p_sim_nat_desc *nat) {
    p2p_sim__vertex *v = p2p_sim__vertex_known(sim, node);
    const char *wrong;
    uint32_t list[P2P_SIM__LEVELS], count, at;
    const p2p_sim_nat_desc *old;
    bool had;
    if (!v)
        return p2p_sim__error(sim);
    wrong = nat ? p2p_sim__nat_wrong(sim, nat) : "p2p_sim_nat: no desc";
    if (wrong)
        return p2p_sim__fail(sim, nat ? P2P_ERR_CONFIG : P2P_ERR_ARG, wrong);
    count = p2p_sim__own_boxes(sim, v, list);
    at = p2p_sim__level_at(sim, list, count, nat->level);
    had = at < count && sim->boxes[list[at]].desc.level == nat->level;
    old = had ? &sim->boxes[list[at]].desc : NULL;
    if (!had && nat->kind == P2P_SIM_NAT_NONE)
        return P2P_OK;
    if (had && nat->kind != P2P_SIM_NAT_NONE && nat->overlap == old->overlap &&
        (nat->kind == P2P_SIM_NAT_FIREWALL) == (old->kind == P2P_SIM_NAT_FIREWALL)) {
        p2p_sim__box_rules(sim, list[at], nat);
        return P2P_OK;
    }
    if (count != 0 && sim->boxes[list[0]].members != 0)
        return p2p_sim__fail_name(sim, P2P_ERR_STATE,
                                  "p2p_sim_nat: boxes first, then who lies behind them: ", v->name);
    return p2p_sim__nat_rebuild(sim, v, nat, list, count, at, had);
}
/* The innermost box of a router that v may lie behind; NULL: the error was said. */
static uint32_t p2p_sim__gateway(const p2p_sim *s, const p2p_sim__vertex *v, const p2p_id *router,
                                 int *err) {
    const p2p_sim__vertex *r = p2p_sim__vertex_known(s, router);
    uint32_t box;
    *err = r ? P2P_OK : p2p_sim__error(s);
    if (!r)
        return P2P_SIM__NOTHING;
    if (r->state != P2P_SIM__ROUTER || r->own == P2P_SIM__NOTHING)
        *err = p2p_sim__fail_name(s, P2P_ERR_STATE,
                                  "p2p_sim_behind: not a router with a box: ", r->name);
    for (box = r->own; box != P2P_SIM__NOTHING; box = s->boxes[box].seat.behind)
        if (s->boxes[box].vertex == v->index)
            *err = p2p_sim__fail_name(s, P2P_ERR_STATE,
                                      "p2p_sim_behind: the router lies behind it: ", v->name);
    return r->own;
}
P2P_DEF int p2p_sim_behind(p2p_sim *sim, const p2p_id *id, const p2p_id *router) {
    p2p_sim__vertex *v = p2p_sim__vertex_known(sim, id);
    uint32_t list[P2P_SIM__LEVELS], count, gateway = P2P_SIM__NOTHING, outside;
    int err = P2P_OK;
    if (!v)
        return p2p_sim__error(sim);
    if (router)
        gateway = p2p_sim__gateway(sim, v, router, &err);
    if (err < 0)
        return err;
    outside = p2p_sim__outside(sim, v);
    if (gateway == outside)
        return P2P_OK;
    count = p2p_sim__own_boxes(sim, v, list);
    if (count != 0 && sim->boxes[list[0]].members != 0 &&
        p2p_sim__zone(sim, list[0]) == p2p_sim__zone(sim, outside))
        return p2p_sim__fail_name(
            sim, P2P_ERR_STATE,
            "p2p_sim_behind: first the firewall, then who lies behind it: ", v->name);
    if (!p2p_sim__seats_left(sim, gateway, v->state == P2P_SIM__ROUTER && count != 0 ? 2 : 1))
        return p2p_sim__lan_full(sim);
    p2p_sim__lift(sim, v, list, count);
    p2p_sim__settle(sim, v, list, count, gateway);
    if (outside != P2P_SIM__NOTHING)
        sim->boxes[outside].members--;
    if (gateway != P2P_SIM__NOTHING)
        sim->boxes[gateway].members++;
    return P2P_OK;
}
/* Another outer address for a box; in a LAN with overlap the lowest that is free. */
static int p2p_sim__rebind_ip(p2p_sim *s, uint32_t box) {
    p2p_sim__box *b = &s->boxes[box];
    uint32_t ip, zone = p2p_sim__zone(s, b->seat.behind);
    if (!p2p_sim__translates(b))
        return p2p_sim__fail(s, P2P_ERR_STATE, "p2p_sim_nat_rebind_to: a firewall has no address");
    if (!p2p_sim__seats_left(s, zone, 1))
        return p2p_sim__lan_full(s);
    b->turn++;
    ip = p2p_sim__ip_for(s, zone, P2P_SIM__BOX | box);
    P2P_SIM_ASSERT(ip != 0 && ip != b->seat.ip);
    b->seat.ip = ip;
    return P2P_OK;
}
P2P_DEF int p2p_sim_nat_rebind_to(p2p_sim *sim, const p2p_id *id, uint8_t level, uint32_t how) {
    p2p_sim__vertex *v = p2p_sim__vertex_known(sim, id);
    uint32_t list[P2P_SIM__LEVELS], count, at;
    p2p_sim__box *b;
    int err = P2P_OK;
    if (!v)
        return p2p_sim__error(sim);
    if (how > P2P_SIM_REBIND_ADDR)
        return p2p_sim__fail(sim, P2P_ERR_ARG,
                             "p2p_sim_nat_rebind_to: not one of P2P_SIM_REBIND_*");
    count = p2p_sim__own_boxes(sim, v, list);
    at = p2p_sim__level_at(sim, list, count, level);
    if (at == count || sim->boxes[list[at]].desc.level != level)
        return p2p_sim__fail_name(sim, P2P_ERR_STATE,
                                  "p2p_sim_nat_rebind: no box of this level before ", v->name);
    b = &sim->boxes[list[at]];
    if (how == P2P_SIM_REBIND_ADDR)
        err = p2p_sim__rebind_ip(sim, list[at]);
    if (err < 0)
        return err;
    p2p_sim__nat_flush(sim, list[at]);
    if (how == P2P_SIM_REBIND_PORT && p2p_sim__translates(b)) /* by 1 to all but one, so others */
        b->shift = (uint16_t)((b->shift + 1 + p2p_sim__below(&b->random, P2P_SIM__PORTS - 2)) %
                              P2P_SIM__PORTS);
    return P2P_OK;
}
P2P_DEF int p2p_sim_nat_rebind(p2p_sim *sim, const p2p_id *node) {
    return p2p_sim_nat_rebind_to(sim, node, 0, P2P_SIM_REBIND_PORT);
}
static p2p_sim__vertex *p2p_sim__node_vertex(const p2p_sim *s, const p2p_id *id) {
    p2p_sim__vertex *v = p2p_sim__find(s, id);
    if (v && v->state != P2P_SIM__ROUTER)
        return v;
    (void)p2p_sim__fail_id(s, P2P_ERR_NOT_FOUND,
                           v ? "this vertex only forwards" : "no node has this id", id);
    return NULL;
}

/* ==== >>wire ====================================================================================
 * Datagrams under way: from a node through links and vertices to a node.
 * Always: every datagram sent ends as one fate and its chunks come back.
 * Tests: tests/unit/test_sim.c */
static uint32_t p2p_sim__chunk_take(p2p_sim *s) {
    uint32_t at = s->chunk_free;
    if (at != P2P_SIM__NOTHING)
        s->chunk_free = s->chunks[at].tail.next;
    return at;
}
static void p2p_sim__chunks_give(p2p_sim *s, uint32_t at) {
    while (at != P2P_SIM__NOTHING) {
        uint32_t next = s->chunks[at].tail.next;
        P2P_SIM_ASSERT(at < s->chunk_max && next != at);
        s->chunks[at].tail.next = s->chunk_free;
        s->chunk_free = at;
        at = next;
    }
}
/* The bytes of one chunk of a chain that has `left` bytes from here on. */
static uint8_t *p2p_sim__piece(p2p_sim *s, uint32_t at, bool first, size_t left, size_t *size) {
    p2p_sim__chunk *c = &s->chunks[at];
    *size = first ? sizeof c->head.data : sizeof c->tail.data;
    if (*size > left)
        *size = left;
    return first ? c->head.data : c->tail.data;
}
/* A chain for size bytes, or P2P_SIM__NOTHING when there is not so much left. */
static uint32_t p2p_sim__chain_take(p2p_sim *s, size_t size) {
    uint32_t first = p2p_sim__chunk_take(s), at = first;
    size_t have = sizeof s->chunks->head.data;
    if (first == P2P_SIM__NOTHING)
        return first;
    for (; have < size; have += sizeof s->chunks->tail.data) {
        uint32_t next = p2p_sim__chunk_take(s);
        s->chunks[at].tail.next = next;
        at = next;
        if (next == P2P_SIM__NOTHING) {
            p2p_sim__chunks_give(s, first);
            return next;
        }
    }
    s->chunks[at].tail.next = P2P_SIM__NOTHING;
    return first;
}
/* Copies a datagram between its chain and memory in a row. */
static void p2p_sim__chain_copy(p2p_sim *s, uint32_t first, uint8_t *to, const uint8_t *from,
                                size_t left) {
    uint32_t at;
    size_t n;
    for (at = first; left != 0; at = s->chunks[at].tail.next, left -= n) {
        uint8_t *piece = p2p_sim__piece(s, at, at == first, left, &n);
        P2P_SIM_ASSERT(at < s->chunk_max && n != 0);
        if (from) {
            memcpy(piece, from, n);
            from += n;
        } else {
            memcpy(to, piece, n);
            to += n;
        }
    }
}
static uint32_t p2p_sim__chain_clone(p2p_sim *s, uint32_t chain) {
    size_t size = s->chunks[chain].head.size;
    uint32_t copy = p2p_sim__chain_take(s, size), from = chain, to = copy;
    while (to != P2P_SIM__NOTHING) {
        uint32_t next = s->chunks[to].tail.next;
        s->chunks[to] = s->chunks[from];
        s->chunks[to].tail.next = next;
        from = s->chunks[from].tail.next;
        to = next;
    }
    return copy;
}
/* One byte at random, among the first `head` if that is not 0, turns into another. */
static void p2p_sim__chain_corrupt(p2p_sim *s, uint32_t chain, uint32_t head, uint64_t *random) {
    size_t left = s->chunks[chain].head.size, n;
    size_t at = (size_t)p2p_sim__below(random, head != 0 && head < left ? head : left);
    uint32_t c = chain;
    uint8_t *piece = p2p_sim__piece(s, c, true, left, &n);
    while (at >= n) {
        at -= n;
        left -= n;
        c = s->chunks[c].tail.next;
        P2P_SIM_ASSERT(c < s->chunk_max);
        piece = p2p_sim__piece(s, c, false, left, &n);
    }
    piece[at] = (uint8_t)(piece[at] ^ (1 + p2p_sim__below(random, 255)));
}

/* Whether it is a link that makes this of a datagram. */
static bool p2p_sim__of_link(uint32_t fate) {
    return fate == P2P_SIM_LOST || fate == P2P_SIM_QUEUE || fate == P2P_SIM_MTU ||
           fate == P2P_SIM_DUPLICATED || fate == P2P_SIM_CORRUPTED;
}
static void p2p_sim__trace_call(p2p_sim *s, uint32_t fate, const p2p_sim__head *head, uint32_t at,
                                const uint8_t *data) {
    p2p_sim_trace_item item;
    memset(&item, 0, sizeof item);
    item.time_us = s->now_us;
    item.fate = fate;
    item.from = &s->vertices[head->from].id;
    item.at = &s->vertices[at].id;
    item.number = head->number;
    if (p2p_sim__of_link(fate))
        item.next = &s->vertices[head->hop].id;
    p2p_sim__addr_make(head->source, head->from_port, &item.source);
    if (head->target != 0)
        p2p_sim__addr_make(head->target, head->to_port, &item.target);
    if (head->to != P2P_SIM__NOTHING)
        item.to = &s->vertices[head->to].id;
    item.data.data = data;
    item.data.size = head->size;
    s->trace(s->trace_ctx, &item);
}
static void p2p_sim__note(p2p_sim *s, uint32_t fate, const p2p_sim__head *head, uint32_t at,
                          const uint8_t *data) {
    s->fates[fate]++;
    if (s->trace)
        p2p_sim__trace_call(s, fate, head, at, data);
}
static void p2p_sim__note_chain(p2p_sim *s, uint32_t fate, uint32_t chain, uint32_t at) {
    s->fates[fate]++;
    if (!s->trace)
        return;
    p2p_sim__chain_copy(s, chain, s->in, NULL, s->chunks[chain].head.size);
    p2p_sim__trace_call(s, fate, &s->chunks[chain].head, at, s->in);
}
static void p2p_sim__discard(p2p_sim *s, uint32_t fate, uint32_t chain, uint32_t at) {
    p2p_sim__note_chain(s, fate, chain, at);
    p2p_sim__chunks_give(s, chain);
}

static void p2p_sim__put_on_line(p2p_sim *s, p2p_sim__edge *e, uint32_t chain, uint64_t sent_us) {
    if (p2p_sim__chance(&e->random, e->link.corrupt_ppm) && !p2p_sim__spared(e)) {
        p2p_sim__chain_corrupt(s, chain, e->link.corrupt_head, &e->random);
        p2p_sim__note_chain(s, P2P_SIM_CORRUPTED, chain, e->from);
        e->harmed++;
    } else {
        e->harmed = 0;
    }
    p2p_sim__event_push(s, p2p_sim__arrival(e, sent_us), P2P_SIM__EV_DATAGRAM, chain);
}
/* One hop on from vertex `at`. */
static void p2p_sim__forward(p2p_sim *s, uint32_t at, uint32_t chain) {
    p2p_sim__head *head = &s->chunks[chain].head;
    uint32_t fate, copy, edge = p2p_sim__next_edge(s, at, head->to);
    uint64_t sent_us = 0;
    p2p_sim__edge *e;
    if (edge == P2P_SIM__NOTHING ||
        p2p_sim__cut(s, &s->vertices[head->from], &s->vertices[head->to])) {
        p2p_sim__discard(s, P2P_SIM_ROUTE, chain, at);
        return;
    }
    e = &s->edges[edge];
    head->hop = e->to;
    fate = p2p_sim__link_take(s, e, head->size, &sent_us);
    if (fate != P2P_SIM_SENT) {
        p2p_sim__discard(s, fate, chain, at);
        return;
    }
    copy = P2P_SIM__NOTHING;
    if (p2p_sim__chance(&e->random, e->link.duplicate_ppm))
        copy = p2p_sim__chain_clone(s, chain);
    p2p_sim__put_on_line(s, e, chain, sent_us);
    if (copy == P2P_SIM__NOTHING)
        return;
    p2p_sim__note_chain(s, P2P_SIM_DUPLICATED, copy, at);
    p2p_sim__put_on_line(s, e, copy, sent_us);
}
/* Where it goes first: FORWARDED, DELIVERED (by a hairpin, to where it came from), or its fate. */
static uint32_t p2p_sim__aim(p2p_sim *s, const p2p_sim__vertex *v, p2p_sim__head *head,
                             const uint8_t *data) {
    uint32_t to = head->target - P2P_SIM__NET_VERTEX - 1, fate;
    p2p_sim__head sent;
    if (v->seat.behind == P2P_SIM__NOTHING && to < s->vertex_count &&
        s->vertices[to].seat.behind == P2P_SIM__NOTHING) {
        head->to = to;
        p2p_sim__note(s, P2P_SIM_SENT, head, v->index, data);
        return to == v->index ? P2P_SIM_NOBODY : P2P_SIM_FORWARDED;
    }
    sent = *head; /* as it was before the boxes that stand here */
    fate = p2p_sim__travel(s, head, v->index, v->seat.behind, false);
    if (fate == P2P_SIM_DELIVERED && sent.target == v->seat.ip)
        fate = P2P_SIM_NOBODY; /* there is no loopback */
    sent.to = head->to;
    p2p_sim__note(s, P2P_SIM_SENT, &sent, v->index, data);
    return fate;
}
/* A datagram of a node or host enters the network. */
static void p2p_sim__send_from(p2p_sim *s, p2p_sim__vertex *v, uint16_t port, const p2p_addr *to,
                               const uint8_t *data, size_t size) {
    p2p_sim__head head;
    uint32_t chain, fate;
    memset(&head, 0, offsetof(p2p_sim__head, data));
    head.size = (uint16_t)size;
    head.number = (uint32_t)s->fates[P2P_SIM_SENT];
    head.from = v->index;
    head.to = P2P_SIM__NOTHING;
    head.source = v->seat.ip;
    head.from_port = port;
    head.target = p2p_sim__addr_ip(to);
    head.to_port = to->port;
    fate = p2p_sim__aim(s, v, &head, data);
    if (fate != P2P_SIM_FORWARDED && fate != P2P_SIM_DELIVERED) {
        p2p_sim__note(s, fate, &head, v->index, data);
        return;
    }
    chain = p2p_sim__chain_take(s, size);
    if (chain == P2P_SIM__NOTHING) {
        p2p_sim__note(s, P2P_SIM_FULL, &head, v->index, data);
        return;
    }
    head.next = s->chunks[chain].tail.next;
    memcpy(&s->chunks[chain], &head, offsetof(p2p_sim__head, data));
    p2p_sim__chain_copy(s, chain, NULL, data, size);
    if (fate == P2P_SIM_FORWARDED) {
        p2p_sim__forward(s, v->index, chain);
        return;
    }
    s->chunks[chain].head.hop = v->index;
    s->chunks[chain].head.way = P2P_SIM__HOME;
    p2p_sim__event_push(s, s->now_us, P2P_SIM__EV_DATAGRAM, chain);
}
static void p2p_sim__send(p2p_sim *s, p2p_sim__vertex *v, const p2p_addr *to, const uint8_t *data,
                          size_t size) {
    p2p_sim__send_from(s, v, P2P_SIM__PORT, to, data, size);
}
/* A datagram is where it was to go: through the boxes that stand there. FORWARDED: on from here. */
static uint32_t p2p_sim__entry(p2p_sim *s, const p2p_sim__vertex *v, p2p_sim__head *head) {
    uint32_t fate = P2P_SIM_DELIVERED;
    bool boxes = v->seat.behind != P2P_SIM__NOTHING || v->own != P2P_SIM__NOTHING;
    if (head->way == P2P_SIM__OUTWARD)
        fate = v->own == P2P_SIM__NOTHING ? (uint32_t)P2P_SIM_NOBODY /* the box was taken away */
                                          : p2p_sim__travel(s, head, v->index, v->own, false);
    else if (boxes && head->way == P2P_SIM__INWARD)
        fate = p2p_sim__travel(s, head, v->index, p2p_sim__outside(s, v), true);
    if (fate != P2P_SIM_DELIVERED)
        return fate;
    if (v->state == P2P_SIM__HOST)
        return P2P_SIM_DELIVERED;
    return v->state == P2P_SIM__RUNNING && head->to_port == P2P_SIM__PORT ? P2P_SIM_DELIVERED
                                                                          : P2P_SIM_NOBODY;
}
static void p2p_sim__host_take(p2p_sim *s, p2p_sim__vertex *v, const p2p_packet *packet) {
    p2p_span data;
    data.data = (const uint8_t *)packet->data;
    data.size = packet->size;
    if (v->program->desc.on_datagram)
        v->program->desc.on_datagram(v->program->desc.ctx, s, &v->id, packet->local.port,
                                     &packet->remote, data);
}
static void p2p_sim__deliver(p2p_sim *s, p2p_sim__vertex *v, uint32_t chain) {
    const p2p_sim__head *head = &s->chunks[chain].head;
    p2p_packet packet;
    memset(&packet, 0, sizeof packet);
    p2p_sim__addr_make(head->source, head->from_port, &packet.remote);
    p2p_sim__addr_make(head->target, head->to_port, &packet.local);
    packet.size = head->size;
    packet.data = s->chunks[chain].head.data;
    if (head->size > sizeof head->data) { /* a host may send meanwhile, and a trace takes s->in */
        packet.data = v->program ? s->out : s->in;
        p2p_sim__chain_copy(s, chain, (uint8_t *)packet.data, NULL, head->size);
    }
    s->digest = p2p_sim__mix(s->digest, s->now_us);
    s->digest = p2p_sim__mix(s->digest, (uint64_t)head->from << 32 | head->to);
    s->digest = p2p_sim__hash(s->digest, (const uint8_t *)packet.data, packet.size);
    p2p_sim__note(s, P2P_SIM_DELIVERED, head, v->index, (const uint8_t *)packet.data);
    if (v->program)
        p2p_sim__host_take(s, v, &packet);
    else
        (void)p2p_input(v->node, p2p_sim__shown_us(s, v), &packet);
    p2p_sim__chunks_give(s, chain);
}
/* It waits for a node that is paused; false when there is no room. A datagram that has arrived is
 * on no line, so hop links those that wait. */
P2P_SIM__RARE static bool p2p_sim__hold(p2p_sim *s, p2p_sim__vertex *v, uint32_t chain) {
    p2p_sim__head *head = &s->chunks[chain].head;
    if (v->paused == P2P_SIM__PAUSED && head->size + v->held_bytes > s->desc.receive_bytes)
        return false;
    v->held_bytes += head->size;
    head->hop = P2P_SIM__NOTHING;
    *(v->first_held == P2P_SIM__NOTHING ? &v->first_held : &s->chunks[v->last_held].head.hop) =
        chain;
    v->last_held = chain;
    return true;
}
static uint32_t p2p_sim__held_take(p2p_sim *s, p2p_sim__vertex *v) {
    uint32_t chain = v->first_held;
    P2P_SIM_ASSERT(chain < s->chunk_max && s->chunks[chain].head.size <= v->held_bytes);
    v->first_held = s->chunks[chain].head.hop;
    v->held_bytes -= s->chunks[chain].head.size;
    return chain;
}
/* A datagram reached a vertex: the node to serve when it went in, else NULL. */
static p2p_sim__vertex *p2p_sim__arrive(p2p_sim *s, uint32_t chain) {
    p2p_sim__head *head = &s->chunks[chain].head;
    p2p_sim__vertex *v = &s->vertices[head->hop], *to = &s->vertices[head->to];
    uint32_t fate = P2P_SIM_FORWARDED;
    if (p2p_sim__cut(s, &s->vertices[head->from], to))
        fate = P2P_SIM_ROUTE;
    else if (v == to)
        fate = p2p_sim__entry(s, v, head);
    else if (!p2p_sim__forwards(v))
        fate = P2P_SIM_NOBODY;
    if (fate == P2P_SIM_DELIVERED && v->paused) {
        if (p2p_sim__hold(s, v, chain))
            return v->paused == P2P_SIM__RESUMED ? v : NULL;
        fate = P2P_SIM_BUFFER;
    }
    if (fate == P2P_SIM_DELIVERED) {
        p2p_sim__deliver(s, v, chain);
        return v->program ? NULL : v;
    }
    if (fate != P2P_SIM_FORWARDED) {
        p2p_sim__discard(s, fate, chain, v->index);
        return NULL;
    }
    p2p_sim__note_chain(s, fate, chain, v->index);
    p2p_sim__forward(s, v->index, chain);
    return NULL;
}

/* ==== >>names ===================================================================================
 * Mock DNS: a table of names, and answers that take their time.
 * Always: a record is in one bucket, and in its owner's list while that node runs.
 * Tests: tests/unit/test_sim.c, tests/unit/test_sim_node.c, tests/sim/test_critical.c */
static uint32_t *p2p_sim__bucket(const p2p_sim *s, const char *name) {
    uint64_t h = p2p_sim__hash(0, (const uint8_t *)name, p2p_sim__length(name, P2P_SIM__NAME_SIZE));
    return &s->buckets[(uint32_t)h & s->bucket_mask];
}
static bool p2p_sim__same_name(const char *a, const char *b) {
    size_t n = p2p_sim__length(a, P2P_SIM__NAME_SIZE);
    return n == p2p_sim__length(b, P2P_SIM__NAME_SIZE) && memcmp(a, b, n) == 0;
}
static void p2p_sim__disown(p2p_sim *s, p2p_sim__record *r) {
    uint32_t *link;
    if (r->owner == P2P_SIM__NOTHING)
        return;
    link = &s->vertices[r->owner].first_record;
    while (&s->records[*link] != r) {
        P2P_SIM_ASSERT(*link < s->record_max);
        link = &s->records[*link].next_of_owner;
    }
    *link = r->next_of_owner;
    r->owner = P2P_SIM__NOTHING;
}
static void p2p_sim__record_drop(p2p_sim *s, uint32_t *link) {
    uint32_t at = *link;
    p2p_sim__record *r = &s->records[at];
    p2p_sim__disown(s, r);
    *link = r->next_in_bucket;
    r->next_in_bucket = s->record_free;
    s->record_free = at;
}
/* The link to the record of a name that has not run out; the end of its bucket otherwise. */
static uint32_t *p2p_sim__record_find(p2p_sim *s, const char *name) {
    uint32_t *link = p2p_sim__bucket(s, name);
    while (*link != P2P_SIM__NOTHING) {
        p2p_sim__record *r = &s->records[*link];
        if (r->until_us <= s->now_us)
            p2p_sim__record_drop(s, link);
        else if (p2p_sim__same_name(r->name, name))
            break;
        else
            link = &r->next_in_bucket;
    }
    return link;
}
static int p2p_sim__name_check(const p2p_sim *s, const char *name) {
    size_t n = name ? p2p_sim__length(name, P2P_SIM__NAME_SIZE) : 0;
    if (n != 0 && n < P2P_SIM__NAME_SIZE)
        return P2P_OK;
    return p2p_sim__fail_size(s, P2P_ERR_ARG, "name: 1 to 63 bytes", n, P2P_SIM__NAME_SIZE - 1);
}
/* owner P2P_SIM__NOTHING: nobody keeps it up. */
static int p2p_sim__record_put(p2p_sim *s, const char *name, uint32_t vertex, uint32_t owner) {
    uint32_t *link = p2p_sim__record_find(s, name), i;
    p2p_sim__record *r;
    if (*link == P2P_SIM__NOTHING && s->record_free == P2P_SIM__NOTHING)
        for (i = 0; i <= s->bucket_mask; i++) { /* room is where others ran out */
            for (link = &s->buckets[i]; *link != P2P_SIM__NOTHING;)
                if (s->records[*link].until_us <= s->now_us)
                    p2p_sim__record_drop(s, link);
                else
                    link = &s->records[*link].next_in_bucket;
        }
    link = p2p_sim__record_find(s, name);
    if (*link == P2P_SIM__NOTHING) {
        if (s->record_free == P2P_SIM__NOTHING)
            return p2p_sim__fail_size(s, P2P_ERR_LIMIT,
                                      "names: table full, raise p2p_sim_desc.nodes",
                                      (uint64_t)s->record_max + 1, s->record_max);
        *link = s->record_free;
        r = &s->records[*link];
        s->record_free = r->next_in_bucket;
        memset(r, 0, sizeof *r);
        memcpy(r->name, name, p2p_sim__length(name, P2P_SIM__NAME_SIZE - 1));
        r->next_in_bucket = r->owner = P2P_SIM__NOTHING;
    }
    r = &s->records[*link];
    p2p_sim__disown(s, r);
    r->vertex = vertex;
    r->until_us = owner == P2P_SIM__NOTHING ? p2p_sim__later(s->now_us, s->desc.ttl_us) : P2P_NEVER;
    if (owner != P2P_SIM__NOTHING) {
        r->owner = owner;
        r->next_of_owner = s->vertices[owner].first_record;
        s->vertices[owner].first_record = *link;
    }
    return P2P_OK;
}
P2P_DEF int p2p_sim_register(p2p_sim *sim, const char *name, const p2p_id *id) {
    p2p_sim__vertex *v = p2p_sim__node_vertex(sim, id);
    int err = v ? p2p_sim__name_check(sim, name) : p2p_sim__error(sim);
    if (err < 0)
        return err;
    return p2p_sim__record_put(sim, name, v->index, P2P_SIM__NOTHING);
}
/* The node is gone without a word: its names run out. */
static void p2p_sim__records_orphan(p2p_sim *s, p2p_sim__vertex *v) {
    while (v->first_record != P2P_SIM__NOTHING) {
        p2p_sim__record *r = &s->records[v->first_record];
        r->until_us = p2p_sim__later(s->now_us, s->desc.ttl_us);
        p2p_sim__disown(s, r);
    }
}
static int p2p_sim__publish(void *ctx, p2p_node *node, const char *name) {
    p2p_sim__vertex *v = (p2p_sim__vertex *)ctx;
    p2p_sim *s = v->sim;
    int err;
    (void)node;
    if (name) {
        err = p2p_sim__name_check(s, name);
        return err < 0 ? err : p2p_sim__record_put(s, name, v->index, v->index);
    }
    while (v->first_record != P2P_SIM__NOTHING)
        p2p_sim__record_drop(s, p2p_sim__record_find(s, s->records[v->first_record].name));
    return P2P_OK;
}
static void p2p_sim__ticket_of(p2p_sim *s, const p2p_sim__vertex *v, p2p_ticket *out) {
    memset(out, 0, sizeof *out);
    out->id = v->id;
    out->addr_count = 1;
    p2p_sim__addr_outer(s, v, &out->addrs[0]);
    /* A dial that is to fail goes to an address beyond all vertices. */
    if (p2p_sim__chance(&s->random, s->desc.failure_ppm))
        p2p_sim__addr_make(P2P_SIM__NET_VERTEX + 0xfffffe, P2P_SIM__PORT, &out->addrs[0]);
}
static int p2p_sim__resolve_name(p2p_sim *s, p2p_sim__vertex *v, uint32_t query, const char *name) {
    uint32_t at;
    p2p_sim__query *q;
    int err = p2p_sim__name_check(s, name);
    if (err < 0)
        return err;
    if (p2p_sim__chance(&v->random, s->desc.name_silent_ppm))
        return P2P_OK;
    at = p2p_sim__chunk_take(s);
    if (at == P2P_SIM__NOTHING)
        return p2p_sim__fail(s, P2P_ERR_LIMIT,
                             "p2p_sim_desc.packets: no room for one more question");
    q = &s->chunks[at].query;
    memset(q, 0, sizeof *q);
    q->next = v->first_query;
    q->vertex = v->index;
    q->life = v->life;
    q->query = query;
    q->fails = p2p_sim__chance(&v->random, s->desc.name_fail_ppm);
    memcpy(q->name, name, p2p_sim__length(name, P2P_SIM__NAME_SIZE - 1));
    v->first_query = at;
    p2p_sim__event_push(s, p2p_sim__later(s->now_us, s->desc.discovery_us), P2P_SIM__EV_ANSWER, at);
    return P2P_OK;
}
/* Nodes without names ask nothing, and cannot be told. */
static int p2p_sim__tell(p2p_node *node, uint32_t query, const p2p_ticket *found) {
#ifndef P2P_NO_DISCOVERY
    return p2p_discovered(node, query, found);
#else
    (void)node;
    (void)query;
    return found ? P2P_OK : P2P_ERR_NOT_FOUND;
#endif
}

static int p2p_sim__resolve_hook(void *ctx, p2p_node *node, uint32_t query, const char *name,
                                 const p2p_id *id) {
    p2p_sim__vertex *v = (p2p_sim__vertex *)ctx, *found;
    p2p_ticket ticket;
    if (name)
        return p2p_sim__resolve_name(v->sim, v, query, name);
    found = p2p_sim__find(v->sim, id);
    if (!found || found->state == P2P_SIM__ROUTER)
        return P2P_ERR_NOT_FOUND;
    p2p_sim__ticket_of(v->sim, found, &ticket);
    return p2p_sim__tell(node, query, &ticket);
}
/* Its event stays, and finds a question of nobody. */
static void p2p_sim__cancel(void *ctx, p2p_node *node, uint32_t query) {
    p2p_sim__vertex *v = (p2p_sim__vertex *)ctx;
    uint32_t at;
    (void)node;
    for (at = v->first_query; at != P2P_SIM__NOTHING; at = v->sim->chunks[at].query.next)
        if (v->sim->chunks[at].query.query == query)
            v->sim->chunks[at].query.life = v->life - 1;
}
static const p2p_discovery_api p2p_sim__discovery = {p2p_sim__publish, p2p_sim__resolve_hook,
                                                     p2p_sim__cancel};
/* The node to serve after its question was answered, or NULL. */
static p2p_sim__vertex *p2p_sim__answer(p2p_sim *s, uint32_t at) {
    p2p_sim__query q = s->chunks[at].query;
    p2p_sim__vertex *v = &s->vertices[q.vertex];
    uint32_t *link = &v->first_query, record = P2P_SIM__NOTHING;
    p2p_ticket ticket;
    if (v->paused == P2P_SIM__PAUSED && v->life == q.life) {
        s->chunks[at].query.held = 1;
        return NULL;
    }
    while (*link != at) {
        P2P_SIM_ASSERT(*link < s->chunk_max);
        link = &s->chunks[*link].query.next;
    }
    *link = q.next;
    s->chunks[at].tail.next = P2P_SIM__NOTHING;
    p2p_sim__chunks_give(s, at);
    if (v->state != P2P_SIM__RUNNING || v->life != q.life)
        return NULL;
    if (!q.fails)
        record = *p2p_sim__record_find(s, q.name);
    if (record != P2P_SIM__NOTHING)
        p2p_sim__ticket_of(s, &s->vertices[s->records[record].vertex], &ticket);
    (void)p2p_sim__tell(v->node, q.query, record != P2P_SIM__NOTHING ? &ticket : NULL);
    return v;
}

/* Answers that came while the node was paused; those of an earlier life are only forgotten. */
static void p2p_sim__answers_held(p2p_sim *s, p2p_sim__vertex *v) {
    uint32_t at = v->first_query;
    P2P_SIM_ASSERT(v->paused != P2P_SIM__PAUSED);
    while (at != P2P_SIM__NOTHING) {
        if (!s->chunks[at].query.held) {
            at = s->chunks[at].query.next;
            continue;
        }
        (void)p2p_sim__answer(s, at);
        at = v->first_query; /* the node may have asked anew */
    }
}

/* ==== >>node ====================================================================================
 * The sim itself, its vertices, and what a node's desc lacks.
 * Always: vertices are numbered in the order of making; a failed call leaves none behind.
 * Tests: tests/unit/test_sim.c, tests/unit/test_sim_node.c */
P2P_DEF size_t p2p_sim_arena_size(const p2p_sim_desc *desc) {
    p2p_sim s;
    p2p_sim__carve c;
    size_t spare;
    memset(&s, 0, sizeof s);
    if (p2p_sim__resolve(desc, &s.desc) < 0)
        return 0;
    c.base = NULL;
    c.size = (sizeof s + 15) & ~(size_t)15;
    p2p_sim__lay(&s, &c);
    spare = (size_t)s.desc.nodes * P2P_SIM__SPARE;
    return c.size > SIZE_MAX / 2 - spare ? SIZE_MAX : c.size + spare;
}
static void p2p_sim__lists_init(p2p_sim *s) {
    uint32_t i;
    memset(s->vertex_table, 0xff, ((size_t)s->vertex_mask + 1) * sizeof *s->vertex_table);
    memset(s->edge_table, 0xff, ((size_t)s->edge_mask + 1) * sizeof *s->edge_table);
    memset(s->hops, 0xff, ((size_t)s->hop_mask + 1) * sizeof *s->hops);
    memset(s->lists, 0xff, sizeof s->lists);
    memset(s->buckets, 0xff, ((size_t)s->bucket_mask + 1) * sizeof *s->buckets);
    memset(s->stamp, 0, (size_t)s->desc.nodes * sizeof *s->stamp);
    memset(s->fates, 0, P2P_SIM_FATE_COUNT * sizeof *s->fates);
    memset(s->error, 0, sizeof *s->error);
    *s->stamp_now = 0;
    memset(s->mapping_table, 0xff, ((size_t)s->mapping_mask + 1) * sizeof *s->mapping_table);
    memset(s->flow_table, 0xff, ((size_t)s->flow_mask + 1) * sizeof *s->flow_table);
    for (i = 0; i < s->desc.flows; i++) {
        s->flows[i].mapping = s->mappings[i].box = P2P_SIM__NOTHING;
        s->mappings[i].next[0] = i + 1 < s->desc.flows ? i + 1 : P2P_SIM__NOTHING;
        s->flows[i].next = i + 1 < s->desc.flows ? i + 1 : P2P_SIM__NOTHING;
    }
    for (i = s->desc.boxes, s->box_free = P2P_SIM__NOTHING; i-- != 0;)
        p2p_sim__box_give(s, i);
    for (i = 0; i < s->record_max; i++)
        s->records[i].next_in_bucket = i + 1 < s->record_max ? i + 1 : P2P_SIM__NOTHING;
    for (i = 0; i < s->range_max; i++)
        s->ranges[i].next = i + 1 < s->range_max ? i + 1 : P2P_SIM__NOTHING;
    for (i = 0; i < s->chunk_max; i++)
        s->chunks[i].tail.next = i + 1 < s->chunk_max ? i + 1 : P2P_SIM__NOTHING;
}
P2P_DEF int p2p_sim_open(p2p_sim **out, const p2p_sim_desc *desc, void *arena, size_t arena_size) {
    p2p_sim_desc resolved;
    p2p_sim__carve c;
    p2p_sim *s = (p2p_sim *)arena;
    size_t need;
    int err = p2p_sim__resolve(desc, &resolved);
    if (out)
        *out = NULL;
    if (err < 0)
        return err;
    if (!out || !arena || (uintptr_t)arena % 8 != 0)
        return p2p_sim__say(resolved.why, P2P_ERR_ARG,
                            "p2p_sim_open: out and an arena aligned to 8 are needed", NULL);
    need = p2p_sim_arena_size(desc);
    if (arena_size < need) {
        err = p2p_sim__say(resolved.why, P2P_ERR_ARENA,
                           "p2p_sim_open: arena too small, max is the size it wants", NULL);
        if (resolved.why) {
            resolved.why->size = arena_size;
            resolved.why->max = need;
        }
        return err;
    }
    memset(s, 0, sizeof *s);
    s->desc = resolved;
    c.base = (uint8_t *)arena;
    c.size = (sizeof *s + 15) & ~(size_t)15;
    p2p_sim__lay(s, &c);
    s->base = c.base;
    s->used = c.size;
    s->size = arena_size;
    s->random = p2p_sim__generator(s, "sim", 0);
    s->next_split_us = s->desc.partition_ppm ? 1000000 : P2P_NEVER;
    p2p_sim__lists_init(s);
    *out = s;
    return P2P_OK;
}
P2P_DEF void p2p_sim_last_error(const p2p_sim *sim, p2p_error_detail *out) {
    if (out && !sim)
        (void)p2p_sim__say(out, P2P_ERR_ARG, "there is no simulator: p2p_sim_open failed", NULL);
    else if (out)
        *out = *sim->error;
}

static int p2p_sim__key_of(const p2p_sim *s, const p2p_crypto *crypto, const char *name,
                           p2p_key *out) {
    uint8_t mixed[32];
    p2p_sim__mixer m;
    int err = p2p_sim__name_check(s, name);
    if (err < 0 || p2p_sim__closed(s))
        return err < 0 ? err : p2p_sim__gone(s);
    if (!out)
        return p2p_sim__no_out(s);
    p2p_sim__mixer_start(&m);
    p2p_sim__mixer_add(&m, name, p2p_sim__length(name, P2P_SIM__NAME_SIZE));
    p2p_sim__mixer_end(&m, mixed);
    memcpy(out->seed, "p2p.h SIM ONLY!!", 16);
    memcpy(out->seed + 16, mixed, 16);
    return crypto->api->public_key(crypto->ctx, out->seed, &out->id);
}
P2P_DEF int p2p_sim_key(const p2p_sim *sim, const char *name, p2p_key *out) {
    return p2p_sim__key_of(sim, sim ? &sim->desc.crypto : NULL, name, out);
}
P2P_DEF int p2p_sim_id(const p2p_sim *sim, const char *name, p2p_id *out) {
    p2p_key key;
    int err = p2p_sim_key(sim, name, &key);
    if (err < 0)
        return err;
    if (!out)
        return p2p_sim__no_out(sim);
    *out = key.id;
    return P2P_OK;
}
/* A vertex at the end of the table, not yet counted; its host is zeroed. */
static int p2p_sim__vertex_prepare(p2p_sim *s, const char *name, const p2p_id *id,
                                   p2p_sim__vertex **out) {
    p2p_sim__vertex *v;
    if (p2p_sim__name_check(s, name) < 0)
        return P2P_ERR_ARG;
    v = p2p_sim__find(s, id);
    if (v) {
        (void)p2p_sim__fail_name(s, P2P_ERR_CONFIG, "this key is in the network already, as ",
                                 v->name);
        s->error->peer = *id;
        if (s->desc.why)
            s->desc.why->peer = *id;
        return P2P_ERR_CONFIG;
    }
    if (s->vertex_count == s->desc.nodes)
        return p2p_sim__fail_size(s, P2P_ERR_LIMIT, "p2p_sim_desc.nodes: no more vertices",
                                  (uint64_t)s->desc.nodes + 1, s->desc.nodes);
    v = &s->vertices[s->vertex_count];
    memset(v, 0, sizeof *v);
    v->sim = s;
    v->index = s->vertex_count;
    v->id = *id;
    v->first_out = v->last_out = v->first_in = v->last_in = P2P_SIM__NOTHING;
    v->first_record = v->first_query = v->first_held = P2P_SIM__NOTHING;
    v->own = v->seat.behind = v->seat.next = P2P_SIM__NOTHING;
    v->seat.ip = P2P_SIM__NET_VERTEX + v->index + 1;
    v->random = p2p_sim__generator(s, "node", v->index);
    memcpy(v->name, name, p2p_sim__length(name, P2P_SIM__NAME_SIZE - 1));
    *out = v;
    return P2P_OK;
}
static void p2p_sim__vertex_add(p2p_sim *s, p2p_sim__vertex *v, uint8_t state) {
    P2P_SIM_ASSERT(v->index == s->vertex_count && v->index < s->desc.nodes);
    *p2p_sim__vertex_slot(s, &v->id) = v->index;
    v->state = state;
    s->vertex_count++;
    p2p_sim__wake_add(s, v);
    p2p_sim__changed(s);
}
/* A vertex that is no node: its id is its name's. */
static int p2p_sim__plain_prepare(p2p_sim *s, const char *name, p2p_sim__vertex **out) {
    p2p_id id;
    int err = p2p_sim_id(s, name, &id);
    return err < 0 ? err : p2p_sim__vertex_prepare(s, name, &id, out);
}
P2P_DEF int p2p_sim_router(p2p_sim *sim, const char *name, p2p_id *out) {
    p2p_sim__vertex *v;
    int err = p2p_sim__plain_prepare(sim, name, &v);
    if (err < 0)
        return err;
    p2p_sim__vertex_add(sim, v, P2P_SIM__ROUTER);
    if (out)
        *out = v->id;
    return P2P_OK;
}

static int p2p_sim__random_fill(void *ctx, void *out, size_t size) {
    p2p_sim__vertex *v = (p2p_sim__vertex *)ctx;
    uint8_t *p = (uint8_t *)out, word[8];
    size_t n;
    for (; size != 0; size -= n, p += n) {
        p2p_sim__store(word, p2p_sim__draw(&v->random));
        n = size < 8 ? size : 8;
        memcpy(p, word, n);
    }
    return P2P_OK;
}
/* What the caller left empty. v may be NULL: only the size is wanted. */
static void p2p_sim__desc_fill(const p2p_sim_desc *net, p2p_sim__vertex *v, p2p_desc *d) {
    if (!d->crypto.api)
        d->crypto = net->crypto;
    if (!d->secure.api)
        d->secure = net->secure;
    if (d->time.connect_us == 0)
        d->time.connect_us = net->connect_us;
    if (d->bytes.message_max == 0)
        d->bytes.message_max = net->message_max;
    if (!d->random.fill) {
        d->random.ctx = v;
        d->random.fill = p2p_sim__random_fill;
    }
    if (P2P__DISCOVERY && !d->discovery.api) {
        d->discovery.ctx = v;
        d->discovery.api = &p2p_sim__discovery;
    }
    if (v && d->link.local_count == 0) {
        d->link.local_count = 1;
        p2p_sim__addr_make(v->seat.ip, P2P_SIM__PORT, &d->link.local[0]);
    }
}
static const char *p2p_sim__keep_text(p2p_sim__carve *c, const char *text) {
    size_t n = p2p_sim__length(text, 256) + 1;
    char *to = (char *)p2p_sim__take(c, n, 1);
    if (to) {
        memcpy(to, text, n - 1);
        to[n - 1] = 0;
    }
    return to;
}
static const p2p_ticket *p2p_sim__keep_tickets(p2p_sim__carve *c, const p2p_ticket *from,
                                               uint32_t count) {
    p2p_ticket *to = (p2p_ticket *)p2p_sim__take(c, count, sizeof *to);
    if (to)
        memcpy(to, from, count * sizeof *to);
    return to;
}
/* Copies of all the desc points to, for a restart; with c->base NULL only their size. */
static void p2p_sim__keep(p2p_sim__carve *c, p2p_desc *d) {
    uint32_t i;
    if (d->network)
        d->network = p2p_sim__keep_text(c, d->network);
    if (d->alpn_count != 0 && d->alpn) {
        const char **list = (const char **)p2p_sim__take(c, d->alpn_count, sizeof *list);
        for (i = 0; i < d->alpn_count; i++) {
            const char *text = p2p_sim__keep_text(c, d->alpn[i] ? d->alpn[i] : "");
            if (list)
                list[i] = text;
        }
        d->alpn = list;
    }
    if (d->relay_count != 0 && d->relays)
        d->relays = p2p_sim__keep_tickets(c, d->relays, d->relay_count);
    if (d->bootstrap_count != 0 && d->bootstrap)
        d->bootstrap = p2p_sim__keep_tickets(c, d->bootstrap, d->bootstrap_count);
}
P2P_DEF size_t p2p_sim_node_size(const p2p_sim_desc *sim_desc, const p2p_desc *desc) {
    p2p_sim_desc net;
    p2p_desc d;
    p2p_sim__carve c;
    size_t size;
    memset(&d, 0, sizeof d);
    if (desc)
        d = *desc;
    if (p2p_sim__resolve(sim_desc, &net) < 0)
        return 0;
    p2p_sim__desc_fill(&net, NULL, &d);
    size = p2p_arena_size(&d);
    c.base = NULL;
    c.size = (size + 15) & ~(size_t)15;
    if (size != 0)
        p2p_sim__keep(&c, &d);
    c.size -= (size + 15) & ~(size_t)15;
    return ((size + 15) & ~(size_t)15) + (c.size > P2P_SIM__SPARE ? c.size - P2P_SIM__SPARE : 0);
}
/* Takes what origin->desc points to and the node's arena from the sim's, or says what it wants. */
static int p2p_sim__origin_place(p2p_sim *s, p2p_sim__origin *origin, size_t node_size) {
    p2p_desc copy = origin->desc;
    p2p_sim__carve c;
    c.base = NULL;
    c.size = s->used;
    p2p_sim__keep(&c, &copy);
    (void)p2p_sim__take(&c, node_size, 1);
    if (c.size > s->size)
        return p2p_sim__fail_size(s, P2P_ERR_ARENA,
                                  "p2p_sim_node: sim's arena too small, max is the size it wants",
                                  s->size, c.size);
    c.base = s->base;
    c.size = s->used;
    p2p_sim__keep(&c, &origin->desc);
    origin->arena = p2p_sim__take(&c, node_size, 1);
    P2P_SIM_ASSERT(c.size <= s->size);
    origin->arena_size = node_size;
    s->used = c.size;
    return P2P_OK;
}
static int p2p_sim__origin_fill(p2p_sim *s, p2p_sim__vertex *v, const p2p_desc *desc,
                                const p2p_key *key) {
    p2p_sim__origin *origin = &s->origins[v->index];
    size_t size;
    memset(origin, 0, sizeof *origin);
    if (desc)
        origin->desc = *desc;
    origin->key = *key;
    origin->desc.key = &origin->key;
    origin->desc.why = s->error;
    p2p_sim__desc_fill(&s->desc, v, &origin->desc);
    if (origin->desc.link.mtu > P2P_SIM__DATAGRAM_MAX)
        return p2p_sim__fail_size(s, P2P_ERR_CONFIG, "link.mtu: at most 65535",
                                  origin->desc.link.mtu, P2P_SIM__DATAGRAM_MAX);
    memset(s->error, 0, sizeof *s->error);
    size = p2p_arena_size(&origin->desc);
    if (size == 0)
        return s->error->err < 0 ? s->error->err : P2P_ERR_CONFIG;
    return p2p_sim__origin_place(s, origin, size);
}
static int p2p_sim__origin_open(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_sim__origin *origin = &s->origins[v->index];
    int err = p2p_node_open_simulated(&v->node, &origin->desc, origin->arena, origin->arena_size,
                                      P2P_ABI);
    if (err < 0)
        v->node = NULL;
    return err;
}
static int p2p_sim__node_make(p2p_sim *s, const char *name, const p2p_desc *desc,
                              p2p_sim__vertex **out) {
    p2p_crypto crypto = desc && desc->crypto.api ? desc->crypto : s->desc.crypto;
    p2p_sim__vertex *v = NULL;
    size_t used = s->used;
    p2p_key key;
    int err = p2p_sim__key_of(s, &crypto, name, &key);
    if (err == P2P_OK && desc && desc->key) {
        key = *desc->key;
        err = crypto.api->public_key(crypto.ctx, key.seed, &key.id);
    }
    if (err == P2P_OK)
        err = p2p_sim__vertex_prepare(s, name, &key.id, &v);
    if (err == P2P_OK)
        err = p2p_sim__origin_fill(s, v, desc, &key);
    if (err == P2P_OK)
        err = p2p_sim__origin_open(s, v);
    p2p_wipe(&key, sizeof key);
    if (err < 0) {
        s->used = used;
        return err;
    }
    p2p_sim__vertex_add(s, v, P2P_SIM__RUNNING);
    *out = v;
    return P2P_OK;
}
P2P_DEF int p2p_sim_node(p2p_sim *sim, const char *name, const p2p_desc *desc, p2p_node **out) {
    p2p_sim__vertex *v = NULL;
    int err = sim ? p2p_sim__node_make(sim, name, desc, &v) : P2P_ERR_ARG;
    if (out)
        *out = v && err == P2P_OK ? v->node : NULL;
    if (!sim)
        return err;
    if (err == P2P_OK)
        return P2P_OK;
    if (desc && desc->why)
        *desc->why = *sim->error;
    if (sim->desc.why)
        *sim->desc.why = *sim->error;
    return err;
}
static void p2p_sim__stopped(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_sim__records_orphan(s, v);
    v->state = P2P_SIM__CRASHED;
    v->crash_wanted = 0;
    v->wake_us = P2P_NEVER;
    v->life++;
    if (v->program)
        v->program->timer_us = P2P_NEVER;
    v->paused = P2P_SIM__GOING;
    while (v->first_held != P2P_SIM__NOTHING)
        p2p_sim__discard(s, P2P_SIM_NOBODY, p2p_sim__held_take(s, v), v->index);
    p2p_sim__answers_held(s, v);
    p2p_sim__changed(s);
}
/* The program closed the node itself, by p2p_node_close. */
static void p2p_sim__notice(p2p_sim *s, p2p_sim__vertex *v) {
    if (v->state != P2P_SIM__RUNNING || p2p_id_equal(p2p_node_id(v->node), &v->id))
        return;
    v->node = NULL;
    p2p_sim__stopped(s, v);
}
static void p2p_sim__crash_now(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_node *node = v->node;
    p2p_sim__stopped(s, v);
    v->node = NULL;
    if (node)
        p2p_node_close(node);
}
P2P_DEF int p2p_sim_crash(p2p_sim *sim, const p2p_id *node) {
    p2p_sim__vertex *v = p2p_sim__node_vertex(sim, node);
    if (!v)
        return p2p_sim__error(sim);
    if (v->state == P2P_SIM__CRASHED)
        return p2p_sim__fail_name(sim, P2P_ERR_STATE,
                                  "p2p_sim_crash: has crashed already: ", v->name);
    if (sim->serving == v)
        v->crash_wanted = 1;
    else
        p2p_sim__crash_now(sim, v);
    return P2P_OK;
}
P2P_DEF int p2p_sim_restart(p2p_sim *sim, const p2p_id *node, p2p_node **out) {
    p2p_sim__vertex *v = p2p_sim__node_vertex(sim, node);
    int err;
    if (out)
        *out = NULL;
    if (!v)
        return p2p_sim__error(sim);
    if (sim->serving != v)
        p2p_sim__notice(sim, v);
    if (v->state != P2P_SIM__CRASHED)
        return p2p_sim__fail_name(sim, P2P_ERR_STATE, "p2p_sim_restart: is running: ", v->name);
    err = v->program ? P2P_OK : p2p_sim__origin_open(sim, v);
    if (err < 0) {
        if (sim->desc.why)
            *sim->desc.why = *sim->error;
        return err;
    }
    v->state = v->program ? P2P_SIM__HOST : P2P_SIM__RUNNING;
    p2p_sim__changed(sim);
    if (out)
        *out = v->node;
    return P2P_OK;
}
/* The node of a call that only one that runs can take. */
static p2p_sim__vertex *p2p_sim__running(const p2p_sim *s, const p2p_id *id, const char *crashed) {
    p2p_sim__vertex *v = p2p_sim__node_vertex(s, id);
    if (!v || v->state == P2P_SIM__RUNNING || v->state == P2P_SIM__HOST)
        return v;
    (void)p2p_sim__fail_name(s, P2P_ERR_STATE, crashed, v->name);
    return NULL;
}
P2P_DEF int p2p_sim_pause(p2p_sim *sim, const p2p_id *node) {
    p2p_sim__vertex *v = p2p_sim__running(sim, node, "p2p_sim_pause: has crashed: ");
    if (!v)
        return p2p_sim__error(sim);
    if (v->paused == P2P_SIM__PAUSED)
        return p2p_sim__fail_name(sim, P2P_ERR_STATE,
                                  "p2p_sim_pause: is paused already: ", v->name);
    v->paused = P2P_SIM__PAUSED;
    v->wake_us = P2P_NEVER;
    return P2P_OK;
}
P2P_DEF int p2p_sim_resume(p2p_sim *sim, const p2p_id *node) {
    p2p_sim__vertex *v = p2p_sim__running(sim, node, "p2p_sim_resume: has crashed: ");
    if (!v)
        return p2p_sim__error(sim);
    if (v->paused != P2P_SIM__PAUSED)
        return p2p_sim__fail_name(sim, P2P_ERR_STATE, "p2p_sim_resume: is not paused: ", v->name);
    v->paused = P2P_SIM__RESUMED;
    p2p_sim__wake_at(sim, v, sim->now_us);
    return P2P_OK;
}
/* A negative step must not lead before 0, a positive one not beyond the end. */
static int p2p_sim__clock_step(const p2p_sim *s, uint64_t *shown_us, int64_t step_us) {
    uint64_t size_us = step_us < 0 ? 0 - (uint64_t)step_us : (uint64_t)step_us;
    uint64_t room_us = step_us < 0                   ? *shown_us
                       : *shown_us < P2P_SIM__END_US ? P2P_SIM__END_US - *shown_us
                                                     : 0;
    if (size_us > room_us)
        return p2p_sim__fail_size(s, P2P_ERR_ARG,
                                  step_us < 0 ? "p2p_sim_clock: step_us leads before 0"
                                              : "p2p_sim_clock: step_us leads beyond 285 years",
                                  size_us, room_us);
    *shown_us += (uint64_t)step_us;
    return P2P_OK;
}
P2P_DEF int p2p_sim_clock(p2p_sim *sim, const p2p_id *node, int32_t drift_ppm, int64_t step_us) {
    p2p_sim__vertex *v = p2p_sim__node_vertex(sim, node);
    uint64_t shown_us = v ? p2p_sim__shown_us(sim, v) : 0;
    if (!v)
        return p2p_sim__error(sim);
    if (v->program)
        return p2p_sim__fail_name(sim, P2P_ERR_ARG,
                                  "p2p_sim_clock: a host has no clock: ", v->name);
    if (drift_ppm < -(int32_t)P2P_SIM__PPM || drift_ppm > (int32_t)P2P_SIM__PPM)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_clock: drift_ppm: -1000000 to 1000000");
    if (p2p_sim__clock_step(sim, &shown_us, step_us) < 0)
        return P2P_ERR_ARG;
    v->clock.at_us = sim->now_us;
    v->clock.shown_us = shown_us;
    v->clock.rate_ppm = (uint32_t)((int32_t)P2P_SIM__PPM + drift_ppm);
    v->skewed = drift_ppm != 0 || shown_us != sim->now_us;
    if (v->state == P2P_SIM__RUNNING && !v->paused)
        p2p_sim__wake_at(sim, v, sim->now_us); /* it looks at its new clock */
    return P2P_OK;
}
P2P_DEF int p2p_sim_node_now(const p2p_sim *sim, const p2p_id *node, uint64_t *out) {
    p2p_sim__vertex *v = p2p_sim__node_vertex(sim, node);
    if (!v)
        return p2p_sim__error(sim);
    if (!out)
        return p2p_sim__no_out(sim);
    *out = p2p_sim__shown_us(sim, v);
    return P2P_OK;
}
P2P_DEF void p2p_sim_close(p2p_sim *sim) {
    p2p_error_detail *error;
    uint32_t i;
    if (!sim)
        return;
    error = sim->error;
    for (i = 0; i < sim->vertex_count; i++) {
        p2p_sim__vertex *v = &sim->vertices[i];
        if (v->state == P2P_SIM__RUNNING && p2p_id_equal(p2p_node_id(v->node), &v->id))
            p2p_node_close(v->node);
        p2p_wipe(&sim->origins[i].key, sizeof sim->origins[i].key);
    }
    p2p_wipe(sim, sizeof *sim);
    (void)p2p_sim__say(error, P2P_ERR_CLOSED, "this simulator is closed", NULL);
    sim->error = error;
    sim->next_split_us = P2P_NEVER;
}

/* ==== >>host ====================================================================================
 * Vertices that are plain UDP programs.
 * Always: a host has no node; its timer is its wake in the queue.
 * Tests: tests/unit/test_sim_nat.c, tests/sim/test_nat_matrix.c */
P2P_DEF int p2p_sim_host(p2p_sim *sim, const char *name, const p2p_sim_host_desc *desc,
                         p2p_id *out) {
    p2p_sim__carve c;
    p2p_sim__vertex *v;
    int err = p2p_sim__plain_prepare(sim, name, &v);
    if (err < 0)
        return err;
    c.base = NULL;
    c.size = sim->used;
    (void)p2p_sim__take(&c, 1, sizeof *v->program);
    if (c.size > sim->size)
        return p2p_sim__fail_size(sim, P2P_ERR_ARENA,
                                  "p2p_sim_host: sim's arena too small, max is the size it wants",
                                  sim->size, c.size);
    c.base = sim->base;
    c.size = sim->used;
    v->program = (p2p_sim__program *)p2p_sim__take(&c, 1, sizeof *v->program);
    memset(v->program, 0, sizeof *v->program);
    v->program->timer_us = P2P_NEVER;
    if (desc)
        v->program->desc = *desc;
    sim->used = c.size;
    memset(&sim->origins[v->index], 0, sizeof sim->origins[v->index]);
    p2p_sim__vertex_add(sim, v, P2P_SIM__HOST);
    if (out)
        *out = v->id;
    return P2P_OK;
}
static p2p_sim__vertex *p2p_sim__host_find(const p2p_sim *s, const p2p_id *id, int *err) {
    p2p_sim__vertex *v = p2p_sim__vertex_known(s, id);
    *err = v ? P2P_OK : p2p_sim__error(s);
    if (v && !v->program)
        *err = p2p_sim__fail_name(s, P2P_ERR_ARG, "this vertex is not a p2p_sim_host: ", v->name);
    else if (v && v->state != P2P_SIM__HOST)
        *err = p2p_sim__fail_name(s, P2P_ERR_STATE, "this host has crashed: ", v->name);
    return *err < 0 ? NULL : v;
}
P2P_DEF int p2p_sim_host_send(p2p_sim *sim, const p2p_id *host, uint16_t port, const p2p_addr *to,
                              const void *data, size_t size) {
    int err;
    p2p_sim__vertex *v = p2p_sim__host_find(sim, host, &err);
    if (!v)
        return err;
    if (port == 0 || !to || to->port == 0 || to->family != 4)
        return p2p_sim__fail(sim, P2P_ERR_ARG,
                             "p2p_sim_host_send: port 0, or to is not an IPv4 address with a port");
    if (!data || size == 0 || size > P2P_SIM__DATAGRAM_MAX)
        return p2p_sim__fail_size(
            sim, size > P2P_SIM__DATAGRAM_MAX ? P2P_ERR_TOO_LARGE : P2P_ERR_ARG,
            "p2p_sim_host_send: 1 to 65535 bytes", size, P2P_SIM__DATAGRAM_MAX);
    p2p_sim__send_from(sim, v, port, to, (const uint8_t *)data, size);
    return P2P_OK;
}
P2P_DEF int p2p_sim_host_timer(p2p_sim *sim, const p2p_id *host, uint64_t time_us) {
    int err;
    p2p_sim__vertex *v = p2p_sim__host_find(sim, host, &err);
    if (!v)
        return err;
    if (time_us <= sim->now_us)
        return p2p_sim__fail_size(sim, P2P_ERR_ARG,
                                  "p2p_sim_host_timer: this time has come already", time_us,
                                  sim->now_us);
    v->program->timer_us = time_us;
    if (!v->paused)
        p2p_sim__wake_at(sim, v, time_us);
    return P2P_OK;
}
/* Its timer is due, or it goes on: first it takes in what came while it stood still. */
static void p2p_sim__host_wake(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_sim__program *p = v->program;
    P2P_SIM_ASSERT(v->state == P2P_SIM__HOST && v->paused != P2P_SIM__PAUSED);
    v->paused = P2P_SIM__GOING;
    while (v->first_held != P2P_SIM__NOTHING && !v->paused)
        p2p_sim__deliver(s, v, p2p_sim__held_take(s, v));
    if (v->paused || v->state != P2P_SIM__HOST)
        return;
    if (p->timer_us > s->now_us) {
        p2p_sim__wake_at(s, v, p->timer_us);
        return;
    }
    p->timer_us = P2P_NEVER;
    p2p_sim__wake_at(s, v, P2P_NEVER);
    if (p->desc.on_timer)
        p->desc.on_timer(p->desc.ctx, s, &v->id);
}

/* ==== >>drive ===================================================================================
 * Virtual time: the next datagram, answer or timer, and the turn of the node it concerns.
 * Always: time never goes back; every loop over what a node gives is bounded, and a node that wants
 * to be woken at once for ever is woken each microsecond, so that time goes on.
 * Tests: tests/unit/test_sim.c, tests/unit/test_sim_node.c, tests/sim/test_critical.c */
P2P_DEF uint64_t p2p_sim_now(const p2p_sim *sim) { return sim ? sim->now_us : 0; }
P2P_DEF uint64_t p2p_sim_digest(const p2p_sim *sim) { return sim ? sim->digest : 0; }
P2P_DEF void p2p_sim_stats_get(const p2p_sim *sim, p2p_sim_stats *out) {
#define P2P_SIM__FATE_COPY(upper, lower) out->lower = sim->fates[P2P_SIM_##upper];
    if (!out)
        return;
    memset(out, 0, sizeof *out);
    if (p2p_sim__closed(sim))
        return;
    P2P_SIM_FATES(P2P_SIM__FATE_COPY)
#undef P2P_SIM__FATE_COPY
}
P2P_DEF void p2p_sim_secure(const p2p_sim *sim, p2p_secure *out) {
    if (sim && out)
        *out = sim->desc.secure;
}
P2P_DEF void p2p_sim_trace(p2p_sim *sim, p2p_sim_trace_fn fn, void *ctx) {
    if (!sim)
        return;
    sim->trace = fn;
    sim->trace_ctx = ctx;
}

/* The network's time of what a node wants by its own clock. Of a node whose clock was set back the
 * library gives 0 for what is due by the time it was told before. */
P2P_SIM__RARE static uint64_t p2p_sim__wanted_skewed(const p2p_sim *s, const p2p_sim__vertex *v,
                                                     uint64_t at_us) {
    return at_us <= p2p_sim__shown_us(s, v) ? s->now_us : p2p_sim__true_us(&v->clock, at_us);
}
/* When this node is to be served. With on_event its events are the simulator's work too. */
static uint64_t p2p_sim__wanted(const p2p_sim *s, const p2p_sim__vertex *v) {
    uint64_t at_us = s->desc.on_event ? p2p_deadline(v->node) : p2p_wakeup(v->node);
    if (v->skewed)
        at_us = p2p_sim__wanted_skewed(s, v, at_us);
    return at_us < s->now_us ? s->now_us : at_us;
}
/* In its own turn the node was crashed or paused. */
static bool p2p_sim__ceased(const p2p_sim__vertex *v) { return v->crash_wanted || v->paused; }
static void p2p_sim__handlers(p2p_sim__vertex *v) {
    uint32_t i;
    for (i = 0; i < P2P_SIM__TURNS && !p2p_sim__ceased(v); i++)
        if (p2p_run_handler(v->node) != 1)
            break;
}
static void p2p_sim__give_event(p2p_sim *s, p2p_sim__vertex *v, const p2p_event *e) {
    if (s->awaited == v && (s->await_type == P2P_EVENT_NONE || s->await_type == e->type)) {
        s->await_hit = 1;
        if (s->await_out)
            *s->await_out = *e;
    }
    if (s->desc.on_event)
        s->desc.on_event(s->desc.ctx, s, v->node, e);
}
/* Takes the node's events when somebody wants them; after the one awaited the rest stays. */
static void p2p_sim__events(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_event e;
    uint32_t i;
    if (!s->desc.on_event && s->awaited != v)
        return;
    for (i = 0; i < P2P_SIM__TURNS && !p2p_sim__ceased(v); i++) {
        if (s->awaited == v && s->await_hit)
            return;
        if (p2p_next_event(v->node, &e) != 1)
            return;
        if (e.type != P2P_EVENT_NONE)
            p2p_sim__give_event(s, v, &e);
    }
}
static void p2p_sim__send_all(p2p_sim *s, p2p_sim__vertex *v, const p2p_packet *p) {
    const uint8_t *data = (const uint8_t *)p->data;
    size_t left = p->size, each = p->segment ? p->segment : p->size, n;
    for (; left != 0; left -= n, data += n) {
        n = left < each ? left : each;
        p2p_sim__send(s, v, &p->remote, data, n);
    }
}
static void p2p_sim__pull(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_packet packet;
    uint32_t i;
    for (i = 0; i < P2P_SIM__TURNS; i++) {
        memset(&packet, 0, sizeof packet);
        packet.data = s->out;
        packet.size = P2P_SIM__DATAGRAM_MAX;
        if (p2p_output(v->node, p2p_sim__shown_us(s, v), &packet) != 1)
            return;
        p2p_sim__send_all(s, v, &packet);
    }
}
/* The node goes on: first it takes in what came while it stood still. */
P2P_SIM__RARE static void p2p_sim__catch_up(p2p_sim *s, p2p_sim__vertex *v) {
    v->paused = P2P_SIM__GOING;
    while (v->first_held != P2P_SIM__NOTHING)
        p2p_sim__deliver(s, v, p2p_sim__held_take(s, v));
    p2p_sim__answers_held(s, v);
}
/* A node's turn: until it wants nothing more at this instant. */
static void p2p_sim__serve(p2p_sim *s, p2p_sim__vertex *v) {
    uint64_t wake_us = s->now_us;
    uint32_t round;
    P2P_SIM_ASSERT(v->state == P2P_SIM__RUNNING && v->node && !s->serving);
    s->serving = v;
    if (v->paused)
        p2p_sim__catch_up(s, v);
    for (round = 0; round < P2P_SIM__ROUNDS && wake_us <= s->now_us; round++) {
        (void)p2p_poll(v->node, p2p_sim__shown_us(s, v));
        p2p_sim__handlers(v);
        if (!p2p_sim__ceased(v))
            p2p_sim__events(s, v);
        if (p2p_sim__ceased(v))
            break;
        p2p_sim__pull(s, v);
        wake_us = p2p_sim__wanted(s, v);
    }
    s->serving = NULL;
    if (v->crash_wanted)
        p2p_sim__crash_now(s, v);
    else if (!v->paused)
        p2p_sim__wake_at(s, v, wake_us <= s->now_us ? s->now_us + 1 : wake_us);
}
/* Partitions at random: once a second the dice, and the end of the one there is. */
static void p2p_sim__draw_partition(p2p_sim *s) {
    uint32_t i;
    s->next_split_us += 1000000;
    p2p_sim__changed(s);
    if (s->split && s->now_us >= s->split_end_us)
        s->split = 0;
    if (s->split || !p2p_sim__chance(&s->random, s->desc.partition_ppm))
        return;
    s->split = p2p_sim__chance(&s->random, s->desc.oneway_ppm) ? P2P_SIM__ONEWAY : P2P_SIM__CUT;
    s->split_end_us = s->now_us + 1000000 * (1 + p2p_sim__below(&s->random, 5));
    for (i = 0; i < s->vertex_count; i++)
        s->vertices[i].side = (uint8_t)(p2p_sim__draw(&s->random) >> 63);
}
/* One thing that happens, no later than limit_us; false when there is none. */
static bool p2p_sim__next(p2p_sim *s, uint64_t limit_us) {
    bool due = s->event_count != 0 && s->event_us <= s->now_us; /* before any timer */
    p2p_sim__vertex *v = due ? NULL : p2p_sim__wake_first(s);
    uint64_t at_us = v ? v->wake_us : P2P_NEVER;
    bool queued = s->event_count != 0 && s->event_us <= at_us;
    if (queued)
        at_us = s->event_us;
    if (s->next_split_us < at_us)
        at_us = s->next_split_us;
    if (at_us == P2P_NEVER || at_us > limit_us)
        return false;
    if (at_us > s->now_us)
        s->now_us = at_us;
    if (s->next_split_us <= at_us) {
        p2p_sim__draw_partition(s);
        return true;
    }
    if (queued) {
        uint32_t chunk = p2p_sim__event_pop(s);
        v = s->events[chunk].kind == P2P_SIM__EV_DATAGRAM ? p2p_sim__arrive(s, chunk)
                                                          : p2p_sim__answer(s, chunk);
    }
    if (v && v->program)
        p2p_sim__host_wake(s, v);
    else if (v)
        p2p_sim__serve(s, v);
    return true;
}
/* Notes what the program did with a node since its last turn. */
static void p2p_sim__look(p2p_sim *s, p2p_sim__vertex *v) {
    p2p_sim__notice(s, v);
    if (v->state == P2P_SIM__RUNNING && !v->paused)
        p2p_sim__wake_at(s, v, p2p_sim__wanted(s, v));
}
static void p2p_sim__look_all(p2p_sim *s) {
    uint32_t i;
    for (i = 0; i < s->vertex_count; i++)
        p2p_sim__look(s, &s->vertices[i]);
}
/* Time goes on to time_us, in which nothing happens any more; every node is told. */
static void p2p_sim__arrive_at(p2p_sim *s, uint64_t time_us) {
    uint32_t i;
    if (time_us > s->now_us)
        s->now_us = time_us;
    for (i = 0; i < s->vertex_count; i++) {
        p2p_sim__vertex *v = &s->vertices[i];
        if (v->state == P2P_SIM__RUNNING && !v->paused &&
            p2p_now(v->node) < p2p_sim__shown_us(s, v))
            (void)p2p_poll(v->node, p2p_sim__shown_us(s, v));
    }
}
P2P_DEF int p2p_sim_touch(p2p_sim *sim, const p2p_node *node) {
    p2p_sim__vertex *v = node ? p2p_sim__find(sim, p2p_node_id(node)) : NULL;
    if (!v || v->node != node)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_touch: not a running node of this network");
    if (v != sim->serving)
        p2p_sim__look(sim, v);
    return P2P_OK;
}
P2P_DEF uint64_t p2p_sim_step(p2p_sim *sim) {
    uint64_t until_us;
    bool any;
    if (!sim)
        return P2P_NEVER;
    if (sim->busy)
        return sim->now_us;
    sim->busy = 1;
    p2p_sim__look_all(sim);
    until_us = sim->desc.step_us
                   ? p2p_sim__later(sim->now_us, sim->desc.step_us * sim->desc.time_multiplier)
                   : P2P_SIM__END_US;
    if (until_us > P2P_SIM__END_US)
        until_us = P2P_SIM__END_US;
    any = p2p_sim__next(sim, until_us);
    if (sim->desc.step_us) {
        while (any && p2p_sim__next(sim, until_us)) {}
        any = any || sim->event_count != 0 || p2p_sim__wake_first(sim) != NULL;
        p2p_sim__arrive_at(sim, until_us);
    }
    sim->busy = 0;
    return any ? sim->now_us : P2P_NEVER;
}
static int p2p_sim__until_check(const p2p_sim *s, uint64_t time_us, const char *late) {
    if (p2p_sim__closed(s))
        return p2p_sim__gone(s);
    if (s->busy)
        return p2p_sim__fail(s, P2P_ERR_STATE, "not from a handler, on_event or trace function");
    if (time_us < s->now_us)
        return p2p_sim__fail_size(s, P2P_ERR_ARG, late, time_us, s->now_us);
    return P2P_OK;
}
P2P_DEF int p2p_sim_run_until(p2p_sim *sim, uint64_t time_us) {
    int err = p2p_sim__until_check(sim, time_us, "p2p_sim_run_until: this time has passed");
    if (err < 0)
        return err;
    if (time_us > P2P_SIM__END_US)
        return p2p_sim__fail_size(sim, P2P_ERR_ARG, "p2p_sim_run_until: beyond 285 years", time_us,
                                  P2P_SIM__END_US);
    sim->busy = 1;
    p2p_sim__look_all(sim);
    while (p2p_sim__next(sim, time_us)) {}
    p2p_sim__arrive_at(sim, time_us);
    sim->busy = 0;
    return P2P_OK;
}
/* Nothing is under way, and no node wants anything soon. */
static bool p2p_sim__idle(p2p_sim *s) {
    p2p_sim__vertex *v = p2p_sim__wake_first(s);
    return s->event_count == 0 && (!v || v->wake_us - s->now_us >= s->desc.idle_us);
}
P2P_DEF int p2p_sim_run_idle(p2p_sim *sim, uint64_t time_us) {
    uint64_t until_us = time_us < P2P_SIM__END_US ? time_us : P2P_SIM__END_US;
    bool idle;
    int err = p2p_sim__until_check(sim, time_us, "p2p_sim_run_idle: this time has passed");
    if (err < 0)
        return err;
    sim->busy = 1;
    p2p_sim__look_all(sim);
    for (idle = p2p_sim__idle(sim); !idle && p2p_sim__next(sim, until_us);)
        idle = p2p_sim__idle(sim);
    p2p_sim__arrive_at(sim, idle ? sim->now_us : until_us);
    sim->busy = 0;
    return idle ? P2P_OK
                : p2p_sim__fail_size(sim, P2P_ERR_TIMEOUT, "p2p_sim_run_idle: not idle in time",
                                     sim->event_count, 0);
}
static void p2p_sim__await(p2p_sim *s, p2p_sim__vertex *v, uint64_t time_us) {
    s->busy = 1;
    s->serving = v;
    p2p_sim__events(s, v);
    s->serving = NULL;
    if (v->crash_wanted)
        p2p_sim__crash_now(s, v);
    p2p_sim__look_all(s);
    while (!s->await_hit && v->state == P2P_SIM__RUNNING) {
        if (p2p_sim__next(s, time_us > P2P_SIM__END_US ? P2P_SIM__END_US : time_us))
            continue;
        if (time_us <= P2P_SIM__END_US)
            p2p_sim__arrive_at(s, time_us);
        break;
    }
    s->busy = 0;
}
P2P_DEF int p2p_sim_await(p2p_sim *sim, p2p_node *node, uint32_t type, uint64_t time_us,
                          p2p_event *out) {
    p2p_sim__vertex *v = node ? p2p_sim__find(sim, p2p_node_id(node)) : NULL;
    int err = p2p_sim__until_check(sim, time_us, "p2p_sim_await: this time has passed");
    if (err < 0)
        return err;
    if (!v || v->node != node)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_await: not a running node of this network");
    sim->awaited = v;
    sim->await_type = type;
    sim->await_out = out;
    sim->await_hit = 0;
    p2p_sim__await(sim, v, time_us);
    sim->awaited = NULL;
    if (sim->await_hit)
        return P2P_OK;
    if (v->state != P2P_SIM__RUNNING)
        return p2p_sim__fail_name(sim, P2P_ERR_CLOSED,
                                  "p2p_sim_await: crashed meanwhile: ", v->name);
    return p2p_sim__fail_name(sim, P2P_ERR_TIMEOUT,
                              v->paused ? "p2p_sim_await: no such event in time, paused: "
                                        : "p2p_sim_await: no such event in time at ",
                              v->name);
}

/* ==== >>env =====================================================================================
 * The SIMULATOR_* names, read through the function given.
 * Always: a desc is changed only when all values are right.
 * Tests: tests/unit/test_sim.c */
/* A decimal with at most `places` digits behind the point, times 10^places. */
static bool p2p_sim__decimal(const char *text, uint32_t places, uint64_t *out) {
    uint64_t x = 0, digit;
    uint32_t behind = 0;
    bool point = false;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text; text++) {
        if (*text == '.' && places != 0 && !point && text[1]) {
            point = true;
            continue;
        }
        if (*text < '0' || *text > '9')
            return false;
        if (point && behind == places) {
            if (*text != '0')
                return false; /* finer than a millionth: not to be rounded in silence */
            continue;
        }
        behind += point;
        digit = (uint64_t)(*text - '0');
        if (x > (UINT64_MAX - digit) / 10)
            return false;
        x = x * 10 + digit;
    }
    for (; behind < places; behind++) {
        if (x > UINT64_MAX / 10)
            return false;
        x *= 10;
    }
    *out = x;
    return true;
}
typedef struct p2p_sim__env {
    p2p_getenv_fn get;
    void *ctx;
    const char *bad;
    uint64_t min, max; /* of the bad one, in its own unit */
    uint32_t places;
} p2p_sim__env;
/* The value in min..max, times scale; the default when unset. The first wrong name is kept. */
static uint64_t p2p_sim__env_get(p2p_sim__env *env, const char *name, uint64_t unset,
                                 uint32_t places, uint64_t min, uint64_t max, uint64_t scale) {
    const char *text = env->get(env->ctx, name);
    uint64_t x = unset;
    if (text && (!p2p_sim__decimal(text, places, &x) || x < min || x > max)) {
        if (!env->bad) {
            env->bad = name;
            env->min = min;
            env->max = max;
            env->places = places;
        }
        x = unset;
    }
    return x * scale;
}
static uint64_t p2p_sim__env_ms(p2p_sim__env *env, const char *name, uint64_t unset) {
    return p2p_sim__env_get(env, name, unset, 0, 0, 1000000000000u, 1000);
}
static uint32_t p2p_sim__env_ppm(p2p_sim__env *env, const char *name, uint32_t unset) {
    return (uint32_t)p2p_sim__env_get(env, name, unset, 6, 0, P2P_SIM__PPM, 1);
}
static int p2p_sim__env_wrong(p2p_error_detail *why, const p2p_sim__env *env) {
    const char *text = env->places     ? ": not a decimal from 0 to 1, at most 6 places"
                       : env->min == 0 ? ": not a whole number from 0 to max"
                                       : ": not a whole number from 1 to max";
    int err = p2p_sim__say(why, P2P_ERR_CONFIG, env->bad, text);
    if (why)
        why->max = env->places ? 1 : env->max;
    return err;
}
P2P_DEF int p2p_sim_desc_from_env(p2p_sim_desc *desc, p2p_getenv_fn get, void *ctx,
                                  const char **bad_name) {
    p2p_sim_desc d;
    p2p_sim__env env;
    uint64_t latency_us;
    uint32_t loss_ppm;
    if (bad_name)
        *bad_name = NULL;
    if (!desc || !get)
        return P2P_ERR_ARG;
    d = *desc;
    memset(&env, 0, sizeof env);
    env.get = get;
    env.ctx = ctx;
    d.seed = p2p_sim__env_get(&env, "SIMULATOR_SEED", 1, 0, 0, UINT64_MAX, 1);
    latency_us = p2p_sim__env_ms(&env, "SIMULATOR_DEFAULT_LATENCY_MS", 50);
    d.link.latency_us = p2p_sim__env_ms(&env, "SIMULATOR_P2P_LATENCY_MS", latency_us / 1000);
    loss_ppm = p2p_sim__env_ppm(&env, "SIMULATOR_DEFAULT_PACKET_LOSS", 10000);
    d.link.loss_ppm = p2p_sim__env_ppm(&env, "SIMULATOR_P2P_PACKET_LOSS", loss_ppm);
    d.discovery_us = p2p_sim__env_ms(&env, "SIMULATOR_DISCOVERY_DELAY_MS", 100);
    if (d.discovery_us == 0)
        d.discovery_us = P2P_NEVER; /* none, where 0 is the default */
    d.connect_us =
        p2p_sim__env_get(&env, "SIMULATOR_CONNECTION_TIMEOUT_SECS", 30, 0, 1, 1000000000u, 1000000);
    d.message_max = (uint32_t)p2p_sim__env_get(&env, "SIMULATOR_MAX_MESSAGE_SIZE", 1048576, 0, 1,
                                               P2P_NONE - 1, 1);
    d.time_multiplier =
        (uint32_t)p2p_sim__env_get(&env, "SIMULATOR_TIME_MULTIPLIER", 1, 0, 1, 1000000u, 1);
    d.step_us = p2p_sim__env_ms(&env, "SIMULATOR_STEP_SIZE_MS", 0);
    d.partition_ppm = p2p_sim__env_ppm(&env, "SIMULATOR_PARTITION_PROBABILITY", 0);
    d.ttl_us = p2p_sim__env_get(&env, "SIMULATOR_DNS_TTL_SECONDS", 300, 0, 1, 1000000000u, 1000000);
    d.failure_ppm = p2p_sim__env_ppm(&env, "SIMULATOR_P2P_FAILURE_RATE", 0);
    if (!env.bad) {
        *desc = d;
        return P2P_OK;
    }
    if (bad_name)
        *bad_name = env.bad;
    return p2p_sim__env_wrong(desc->why, &env);
}

/* ==== >>helpers =================================================================================
 * Whole networks in a call, and one fault at a time.
 * Tests: tests/unit/test_sim.c */
/* "<prefix><number>" */
static int p2p_sim__numbered(const p2p_sim *s, const char *prefix, size_t number,
                             char out[P2P_SIM__NAME_SIZE]) {
    char digits[24];
    size_t n = p2p_sim__length(prefix, P2P_SIM__NAME_SIZE), d = 0;
    do {
        digits[d++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    if (n + d >= P2P_SIM__NAME_SIZE)
        return p2p_sim__fail_size(s, P2P_ERR_ARG, "prefix: too long for a name with a number",
                                  n + d, P2P_SIM__NAME_SIZE - 1);
    memcpy(out, prefix, n);
    while (d != 0)
        out[n++] = digits[--d];
    out[n] = 0;
    return P2P_OK;
}
static int p2p_sim__group(p2p_sim *s, const char *prefix, size_t n, const p2p_desc *desc,
                          p2p_node **nodes) {
    char name[P2P_SIM__NAME_SIZE];
    p2p_desc open;
    size_t i;
    if (!nodes && n != 0)
        return p2p_sim__no_out(s);
    memset(&open, 0, sizeof open);
    open.allow_anyone = 1;
    for (i = 0; i < n; i++) {
        int err = prefix ? p2p_sim__numbered(s, prefix, i, name) : P2P_ERR_ARG;
        if (err == P2P_OK)
            err = p2p_sim_node(s, name, desc ? desc : &open, &nodes[i]);
        if (err < 0)
            return err;
    }
    return P2P_OK;
}
/* Each of the last n with all made before it and counted in total. */
static int p2p_sim__join(p2p_sim *s, p2p_node *const *nodes, size_t total) {
    size_t i, k;
    for (i = 0; i < total; i++)
        for (k = 0; k < i; k++) {
            int err = p2p_sim_connect(s, p2p_node_id(nodes[k]), p2p_node_id(nodes[i]), NULL);
            if (err < 0)
                return err;
        }
    return P2P_OK;
}
P2P_DEF int p2p_sim_mesh(p2p_sim *sim, const char *prefix, size_t n, const p2p_desc *desc,
                         p2p_node **nodes) {
    int err = p2p_sim__group(sim, prefix, n, desc, nodes);
    return err < 0 ? err : p2p_sim__join(sim, nodes, n);
}
P2P_DEF int p2p_sim_split(p2p_sim *sim, const char *a, size_t na, const char *b, size_t nb,
                          const p2p_desc *desc, p2p_node **nodes) {
    uint64_t bit;
    size_t i;
    int err;
    if (na == 0 || nb == 0)
        return p2p_sim__fail(sim, P2P_ERR_ARG, "p2p_sim_split: a group is empty");
    err = p2p_sim__group(sim, a, na, desc, nodes);
    if (err == P2P_OK)
        err = p2p_sim__group(sim, b, nb, desc, nodes + na);
    if (err == P2P_OK)
        err = p2p_sim__join(sim, nodes, na + nb);
    if (err == P2P_OK) /* an empty cut, then its groups: there is no array of ids to hand over */
        err = p2p_sim__cut_add(sim, NULL, 0, NULL, 0, P2P_SIM__CUT);
    if (err < 0)
        return err;
    bit = (uint64_t)1 << (sim->cut_count - 1);
    for (i = 0; i < na + nb; i++) {
        p2p_sim__vertex *v = p2p_sim__find(sim, p2p_node_id(nodes[i]));
        *(i < na ? &v->cut_a : &v->cut_b) |= bit;
    }
    return P2P_OK;
}
/* One field of a link: latency_us or loss_ppm. */
typedef void p2p_sim__change_fn(p2p_sim_link *link, uint64_t value);
static void p2p_sim__change_latency(p2p_sim_link *link, uint64_t value) {
    link->latency_us = value;
}
static void p2p_sim__change_loss(p2p_sim_link *link, uint64_t value) {
    link->loss_ppm = (uint32_t)value;
}
/* Of one link, or of all that there are: of all or, where one would be wrong, of none. */
static int p2p_sim__change(p2p_sim *s, const p2p_id *from, const p2p_id *to,
                           p2p_sim__change_fn *change, uint64_t value) {
    p2p_sim_link link;
    uint32_t i, set;
    int err;
    if (p2p_sim__closed(s))
        return p2p_sim__gone(s);
    if (from || to) {
        err = p2p_sim_link_get(s, from, to, &link);
        change(&link, value);
        return err < 0 ? err : p2p_sim_link_set(s, from, to, &link);
    }
    for (set = 0; set < 2; set++)
        for (i = 0; i < s->edge_count; i++) {
            link = s->edges[i].link;
            change(&link, value);
            if (set)
                p2p_sim__edge_set(s, &s->edges[i], &link);
            else if (!p2p_sim__link_checked(s, &link))
                return P2P_ERR_CONFIG;
        }
    return P2P_OK;
}
P2P_DEF int p2p_sim_latency(p2p_sim *sim, const p2p_id *from, const p2p_id *to,
                            uint64_t latency_us) {
    return p2p_sim__change(sim, from, to, p2p_sim__change_latency, latency_us);
}
P2P_DEF int p2p_sim_loss(p2p_sim *sim, const p2p_id *from, const p2p_id *to, uint32_t loss_ppm) {
    return p2p_sim__change(sim, from, to, p2p_sim__change_loss, loss_ppm);
}

#ifdef __cplusplus
}
#endif
#endif /* P2P_SIM_IMPLEMENTATION */
