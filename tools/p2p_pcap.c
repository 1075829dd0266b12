/* p2p_pcap.c: pcapng (draft-ietf-opsawg-pcapng), all numbers little-endian on every machine. */
#include "p2p_pcap.h"

#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_NAMES = 4,
    BLOCK_PACKET = 6,
    OPTION_COMMENT = 1,
    OPTION_IF_NAME = 2,
    OPTION_IF_DESCRIPTION = 3,
    OPTION_IF_TSRESOL = 9,
    OPTION_EPB_FLAGS = 2,
    OPTION_EPB_PACKETID = 5,
    LINKTYPE_RAW = 101, /* IPv4 or IPv6, by the first four bits */
    IP4 = 20,
    IP6 = 40,
    UDP = 8,
    PROTOCOL_UDP = 17,
    PAYLOAD_MAX_IP4 = 65535 - IP4 - UDP,
    PAYLOAD_MAX_IP6 = 65535 - UDP,
    BLOCK_MAX = 65536 + 1024 /* the largest packet, comments and all */
};

typedef struct pcap {
    FILE *out;
    uint32_t *interfaces; /* by the vertex's index: 1 and its number, or 0 */
    size_t interface_room;
    uint32_t interface_count;
    size_t size; /* of the block being made */
    int err;
    uint8_t block[BLOCK_MAX];
} pcap;

/* ---- blocks ---------------------------------------------------------------------------------- */

static void put(pcap *p, const void *data, size_t size) {
    if (size > sizeof p->block - p->size) {
        p->err = P2P_ERR_TOO_LARGE;
        return;
    }
    memcpy(p->block + p->size, data, size);
    p->size += size;
}
static void put_u16(pcap *p, uint32_t x) {
    uint8_t b[2] = {(uint8_t)x, (uint8_t)(x >> 8)};
    put(p, b, sizeof b);
}
static void put_u32(pcap *p, uint32_t x) {
    put_u16(p, x & 0xffffu);
    put_u16(p, x >> 16);
}
/* To a multiple of 4 bytes, as all parts of blocks have. */
static void put_padding(pcap *p) {
    static const uint8_t zeros[4] = {0, 0, 0, 0};
    put(p, zeros, (4 - (p->size & 3u)) & 3u);
}
static void put_option(pcap *p, uint32_t code, const void *data, size_t size) {
    put_u16(p, code);
    put_u16(p, (uint32_t)size);
    put(p, data, size);
    put_padding(p);
}
static void put_option_end(pcap *p) { put_u32(p, 0); }

static void block_begin(pcap *p, uint32_t type) {
    p->size = 0;
    put_u32(p, type);
    put_u32(p, 0); /* its length, which is known at the end */
}
static void block_end(pcap *p) {
    uint32_t size = (uint32_t)p->size + 4, i;
    put_u32(p, size);
    for (i = 0; i < 4; i++)
        p->block[4 + i] = (uint8_t)(size >> 8 * i);
    if (p->err == 0 && fwrite(p->block, 1, p->size, p->out) != p->size)
        p->err = P2P_ERR_IO;
}

static void section(pcap *p) {
    static const char maker[] = "p2p.h simulator";
    block_begin(p, BLOCK_SECTION);
    put_u32(p, 0x1a2b3c4du);
    put_u16(p, 1);
    put_u16(p, 0);
    put_u32(p, UINT32_MAX); /* length of the section: not said */
    put_u32(p, UINT32_MAX);
    put_option(p, 4, maker, sizeof maker - 1);
    put_option_end(p);
    block_end(p);
}

/* ---- interfaces ------------------------------------------------------------------------------ */

static void interface(pcap *p, const p2p_see_vertex *v) {
    static const uint8_t microseconds = 6;
    char id[P2P_ID_TEXT_SIZE];
    block_begin(p, BLOCK_INTERFACE);
    put_u16(p, LINKTYPE_RAW);
    put_u16(p, 0);
    put_u32(p, 0); /* packets are never cut by a capture length */
    put_option(p, OPTION_IF_NAME, v->name, strlen(v->name));
    if (p2p_id_text(&v->id, id) >= 0)
        put_option(p, OPTION_IF_DESCRIPTION, id, strlen(id));
    put_option(p, OPTION_IF_TSRESOL, &microseconds, 1);
    put_option_end(p);
    block_end(p);
}
/* Wireshark shows names for addresses (View, Name Resolution). Only those in 10.0.0.0/8 belong to one
 * vertex each; outer ones are shared, and a LAN may have those of another. */
static void name_of(pcap *p, const p2p_see_vertex *v) {
    if (v->inside.family != 4 || v->inside.ip[0] != 10)
        return;
    block_begin(p, BLOCK_NAMES);
    put_u16(p, 1);
    put_u16(p, (uint32_t)(4 + strlen(v->name) + 1));
    put(p, v->inside.ip, 4);
    put(p, v->name, strlen(v->name) + 1);
    put_padding(p);
    put_u32(p, 0); /* no more records, and no options */
    put_u32(p, 0);
    block_end(p);
}

static bool grow(pcap *p, uint32_t index) {
    size_t room = p->interface_room ? p->interface_room : 16;
    uint32_t *more;
    while (room <= index)
        room *= 2;
    if (room == p->interface_room)
        return true;
    more = (uint32_t *)realloc(p->interfaces, room * sizeof *more);
    if (!more)
        return false;
    memset(more + p->interface_room, 0, (room - p->interface_room) * sizeof *more);
    p->interfaces = more;
    p->interface_room = room;
    return true;
}

/* A vertex gets its interface when it is first heard of; a block says what it is called. */
static uint32_t interface_of(pcap *p, const p2p_see_vertex *v) {
    if (!grow(p, v->index)) {
        p->err = P2P_ERR_ARENA;
        return 0;
    }
    if (p->interfaces[v->index] == 0) {
        interface(p, v);
        name_of(p, v);
        p->interfaces[v->index] = ++p->interface_count;
    }
    return p->interfaces[v->index] - 1;
}

static void on_vertex(void *ctx, const p2p_see_vertex *v) { (void)interface_of((pcap *)ctx, v); }

/* ---- headers below the datagram -------------------------------------------------------------- */

static void store_u16(uint8_t *at, uint32_t x) {
    at[0] = (uint8_t)(x >> 8);
    at[1] = (uint8_t)x;
}
/* The sum of RFC 1071, not yet folded. */
static uint32_t sum(uint32_t so_far, const uint8_t *data, size_t size) {
    size_t i;
    for (i = 0; i + 1 < size; i += 2)
        so_far += (uint32_t)data[i] << 8 | data[i + 1];
    return size & 1u ? so_far + ((uint32_t)data[size - 1] << 8) : so_far;
}
static uint32_t checksum(uint32_t total) {
    while (total >> 16)
        total = (total & 0xffffu) + (total >> 16);
    return ~total & 0xffffu;
}

static size_t header_ip4(uint8_t *h, const p2p_sim_trace_item *t, size_t payload) {
    memset(h, 0, IP4);
    h[0] = 0x45;
    store_u16(h + 2, (uint32_t)(IP4 + UDP + payload));
    store_u16(h + 4, t->number & 0xffffu);
    h[6] = 0x40; /* do not fragment: a link's mtu drops, it does not cut */
    h[8] = 64;
    h[9] = PROTOCOL_UDP;
    memcpy(h + 12, t->source.ip, 4);
    memcpy(h + 16, t->target.ip, 4);
    store_u16(h + 10, checksum(sum(0, h, IP4)));
    return IP4;
}
static size_t header_ip6(uint8_t *h, const p2p_sim_trace_item *t, size_t payload) {
    memset(h, 0, IP6);
    h[0] = 0x60;
    store_u16(h + 4, (uint32_t)(UDP + payload));
    h[6] = PROTOCOL_UDP;
    h[7] = 64;
    memcpy(h + 8, t->source.ip, 16);
    memcpy(h + 24, t->target.ip, 16);
    return IP6;
}
/* UDP's checksum covers the addresses too (RFC 768, RFC 8200 section 8.1); 0 is sent as 0xffff. */
static void header_udp(uint8_t *h, const p2p_sim_trace_item *t, size_t ip, size_t payload) {
    uint32_t length = (uint32_t)(UDP + payload), total;
    store_u16(h, t->source.port);
    store_u16(h + 2, t->target.port);
    store_u16(h + 4, length);
    store_u16(h + 6, 0);
    total = sum(sum(PROTOCOL_UDP + length, t->source.ip, ip), t->target.ip, ip);
    total = checksum(sum(sum(total, h, UDP), t->data.data, payload));
    store_u16(h + 6, total ? total : 0xffffu);
}
/* Bytes of headers in h, and in *payload how much of the datagram follows. */
static size_t headers(uint8_t h[IP6 + UDP], const p2p_sim_trace_item *t, size_t *payload) {
    bool six = t->source.family == 6;
    size_t max = six ? PAYLOAD_MAX_IP6 : PAYLOAD_MAX_IP4, ip;
    *payload = t->data.size < max ? t->data.size : max;
    ip = six ? header_ip6(h, t, *payload) : header_ip4(h, t, *payload);
    header_udp(h + ip, t, six ? 16 : 4, *payload);
    return ip + UDP;
}

/* ---- packets --------------------------------------------------------------------------------- */

/* What happened, in words; the other end of the link follows where a link did it. "" for what a
 * capture shows anyway. */
static const char *words_of(uint32_t fate) {
    switch (fate) {
    case P2P_SIM_SENT:
    case P2P_SIM_DELIVERED: return "";
    case P2P_SIM_LOST: return "lost on the link to ";
    case P2P_SIM_QUEUE: return "dropped by a full queue on the link to ";
    case P2P_SIM_MTU: return "dropped as too large for the link to ";
    case P2P_SIM_ROUTE: return "dropped: there is no way to its target";
    case P2P_SIM_NAT: return "dropped: a NAT box or firewall refused it";
    case P2P_SIM_NOBODY: return "dropped: nobody is at its target";
    case P2P_SIM_FULL: return "dropped: as many datagrams as p2p_sim_desc.packets are under way";
    case P2P_SIM_BUFFER: return "dropped: its node is paused, and its receive_bytes are full";
    case P2P_SIM_FORWARDED: return "forwarded";
    case P2P_SIM_DUPLICATED: return "doubled on the link to ";
    case P2P_SIM_CORRUPTED: return "one byte changed on the link to ";
    default: return "dropped, for a reason that this program does not know";
    }
}

static void put_comment(pcap *p, const p2p_see_datagram *d, size_t payload) {
    char text[P2P_SEE_NAME + 128];
    const char *words = words_of(d->item->fate);
    int n = snprintf(text, sizeof text, "%s%s", words, d->next ? d->next->name : "");
    if (n > 0)
        put_option(p, OPTION_COMMENT, text, (size_t)n);
    if (payload == d->item->data.size)
        return;
    n = snprintf(text, sizeof text, "cut: it has %lu bytes", (unsigned long)d->item->data.size);
    put_option(p, OPTION_COMMENT, text, (size_t)n);
}

static void put_packet_options(pcap *p, const p2p_see_datagram *d, size_t payload) {
    const p2p_sim_trace_item *t = d->item;
    uint8_t id[8] = {0}, flags[4] = {0};
    size_t i;
    for (i = 0; i < 4; i++)
        id[i] = (uint8_t)(t->number >> 8 * i);
    put_comment(p, d, payload);
    if (t->fate == P2P_SIM_SENT || t->fate == P2P_SIM_DELIVERED) {
        flags[0] = t->fate == P2P_SIM_SENT ? 2 : 1; /* outbound, inbound */
        put_option(p, OPTION_EPB_FLAGS, flags, sizeof flags);
    }
    put_option(p, OPTION_EPB_PACKETID, id, sizeof id);
    put_option_end(p);
}

static void on_datagram(void *ctx, const p2p_see_datagram *d) {
    pcap *p = (pcap *)ctx;
    const p2p_sim_trace_item *t = d->item;
    uint8_t head[IP6 + UDP];
    size_t payload, n = headers(head, t, &payload);
    uint32_t number = interface_of(p, d->at);
    block_begin(p, BLOCK_PACKET);
    put_u32(p, number);
    put_u32(p, (uint32_t)(t->time_us >> 32));
    put_u32(p, (uint32_t)t->time_us);
    put_u32(p, (uint32_t)(n + payload)); /* captured */
    put_u32(p, (uint32_t)(n + payload)); /* on the wire */
    put(p, head, n);
    put(p, t->data.data, payload);
    put_padding(p);
    put_packet_options(p, d, payload);
    block_end(p);
}

/* ---- open and close -------------------------------------------------------------------------- */

static int on_close(void *ctx) {
    pcap *p = (pcap *)ctx;
    int err = p->err;
    if (fclose(p->out) != 0 && err == 0)
        err = P2P_ERR_IO;
    free(p->interfaces);
    free(p);
    return err;
}

int p2p_pcap_open(FILE *out, p2p_see_sink *sink) {
    pcap *p = (pcap *)calloc(1, sizeof *p);
    if (!p)
        return P2P_ERR_ARENA;
    p->out = out;
    section(p);
    memset(sink, 0, sizeof *sink);
    sink->ctx = p;
    sink->vertex = on_vertex;
    sink->datagram = on_datagram;
    sink->close = on_close;
    return P2P_OK;
}
