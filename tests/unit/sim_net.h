/* sim_net.h: what the unit tests of p2p_sim.h share: small networks, datagrams put on the wire below
 * the nodes, and what the trace saw of them. */
#ifndef SIM_NET_H
#define SIM_NET_H
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "p2p_test.h"

#define SEEN_MAX 20000
static uint64_t memory[6u << 20];
static p2p_error_detail why;
static struct seen {
    p2p_sim *sim;
    uint64_t time_us[SEEN_MAX];
    uint32_t fate[SEEN_MAX], number[SEEN_MAX];
    uint32_t count, wrong_bytes;
} seen;

/* Each datagram begins with its number, and all that follows is the number's low byte. */
static void watch(void *ctx, const p2p_sim_trace_item *item) {
    uint32_t at = seen.count, wrong = 0;
    size_t i;
    (void)ctx;
    if (item->fate == P2P_SIM_SENT || item->fate == P2P_SIM_FORWARDED || at == SEEN_MAX)
        return;
    seen.number[at] = (uint32_t)item->data.data[0] | (uint32_t)item->data.data[1] << 8;
    for (i = 2; i < item->data.size; i++)
        wrong += item->data.data[i] != item->data.data[0];
    seen.wrong_bytes += item->fate == P2P_SIM_DELIVERED ? wrong : 0;
    seen.time_us[at] = item->time_us;
    seen.fate[at] = item->fate;
    seen.count++;
}
static int open_sim(p2p_sim **sim, const p2p_sim_desc *desc) {
    p2p_sim_desc d;
    int err;
    memset(&d, 0, sizeof d);
    if (desc)
        d = *desc;
    d.why = &why;
    memset(&why, 0, sizeof why);
    memset(&seen, 0, sizeof seen);
    err = p2p_sim_open(sim, &d, memory, sizeof memory);
    if (err == 0) {
        p2p_sim_trace(*sim, watch, NULL);
        seen.sim = *sim;
    }
    return err;
}
static inline int small_node(p2p_sim *sim, const char *name, p2p_id *id) {
    p2p_desc d;
    p2p_node *node;
    int err;
    memset(&d, 0, sizeof d);
    d.max.conns = d.max.half_open = d.max.streams = d.max.peer_streams = d.max.peers = 1;
    d.max.datagrams_in = d.max.datagrams_out = P2P_NONE;
    d.max.in_flight = 16;
    d.bytes.message_max = P2P_NONE;
    d.bytes.stream_send = d.bytes.stream_recv = 1024;
    err = p2p_sim_node(sim, name, &d, &node);
    if (err == 0)
        *id = *p2p_node_id(node);
    return err;
}
/* Two nodes and an edge with this link. */
static inline int open_pair(p2p_sim **sim, const p2p_sim_desc *desc, const p2p_sim_link *link,
                            p2p_id id[2]) {
    int err = open_sim(sim, desc);
    if (err == 0)
        err = small_node(*sim, "a", &id[0]);
    if (err == 0)
        err = small_node(*sim, "b", &id[1]);
    return err < 0 ? err : p2p_sim_connect(*sim, &id[0], &id[1], link);
}
static inline void put(p2p_sim *sim, const p2p_id *from, const p2p_id *to, uint32_t number,
                       size_t size) {
    static uint8_t data[P2P_SIM__DATAGRAM_MAX];
    p2p_addr addr;
    memset(data, (uint8_t)number, size);
    data[0] = (uint8_t)number;
    data[1] = (uint8_t)(number >> 8);
    if (p2p_sim_addr(sim, to, &addr) == 0)
        p2p_sim__send(sim, p2p_sim__find(sim, from), &addr, data, size);
}
static inline uint32_t count(uint32_t fate) {
    uint32_t i, n = 0;
    for (i = 0; i < seen.count; i++)
        n += seen.fate[i] == fate;
    return n;
}
static inline uint32_t chunks_free(const p2p_sim *sim) {
    uint32_t n = 0, at = sim->chunk_free;
    for (; at != P2P_SIM__NOTHING; at = sim->chunks[at].tail.next)
        n++;
    return n;
}
#endif
