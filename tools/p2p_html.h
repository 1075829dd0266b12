/* p2p_html.h: a run of the simulator as one page that plays it: the graph with its datagrams, each
 * connection's window, bytes in flight and round trip, and what happened. The page needs nothing
 * but itself: no network, no library.
 *
 * What it holds is bounded, and what was left out it says: of very many datagrams every second,
 * fourth ... one is drawn, those that were dropped longer than the others. */
#ifndef P2P_HTML_H
#define P2P_HTML_H
#include "p2p_see.h"

#include <stdio.h>

typedef struct p2p_html p2p_html;

/* As p2p_pcap_open; the handle is good until the sink's close. */
int p2p_html_open(FILE *out, p2p_see_sink *sink, p2p_html **html);
/* A link, so that it is drawn although nothing goes over it. Ids of vertices that the sink was told
 * of; others are left out. */
void p2p_html_link(p2p_html *html, const p2p_id *from, const p2p_id *to);

/* What it is, a text that stays: "router" for what forwards, "host" for a plain UDP program; else it is a node. */
void p2p_html_kind(p2p_html *html, const p2p_id *id, const char *kind);

/* What the head of the page says; texts are copied. Call it at the end, before p2p_sim_close. */
typedef struct p2p_html_facts {
    const char *title, *channel;
    const char *source; /* of the scenario */
    size_t source_size;
    uint64_t seed, digest, end_us;
    unsigned met, failed;
    const p2p_sim_stats *stats;
} p2p_html_facts;
void p2p_html_tell(p2p_html *html, const p2p_html_facts *facts);
#endif
