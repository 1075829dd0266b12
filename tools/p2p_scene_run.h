/* What a scenario does: its network, the programs on its nodes, and what was expected of them.
 * Everything follows from the file and the seed; who looks on changes nothing. */
#ifndef P2P_SCENE_RUN_H
#define P2P_SCENE_RUN_H

#include "p2p_scene.h"
#include "p2p_see.h"

enum { CONTACT_NONE, CONTACT_DIALLING, CONTACT_UP, CONTACT_DOWN };

/* What one node has to do with another one. */
typedef struct scene_contact {
    uint32_t from, to; /* vertices */
    p2p_conn conn;
    uint8_t state; /* CONTACT_* */
    int32_t err;   /* of the latest end */
    /* out: what the node's program handed over; not_taken: what found no connection */
    uint64_t bytes_out, streams_out, messages_out, datagrams_out, requests_out, not_taken;
    /* in: what its program was given: streams to their end, answers of status 2xx to theirs */
    uint64_t bytes_in, streams_in, messages_in, datagrams_in, answers, failures;
    uint64_t message_in_least; /* the least number that may come next */
    uint32_t *waiting;         /* sizes of messages that found no room yet, from waiting_first on */
    uint32_t waiting_first, waiting_count, waiting_room;
    uint8_t *seen; /* datagrams that came, a bit a number */
    uint64_t seen_bytes;
    p2p_stats stats; /* as they were when last asked */
} scene_contact;

/* A stream at one of its ends, while it is there; with stream.id 0 it waits to be opened. */
enum { FLOW_OUT, FLOW_IN, FLOW_ASK, FLOW_SERVE };
typedef struct scene_flow {
    struct scene_flow *next, *before; /* of its node, in the order they were made */
    p2p_stream stream;
    uint32_t contact, kind, status;
    uint64_t size, sent, got; /* size: of what goes out */
    uint32_t statement;       /* FLOW_ASK: that began it; FLOW_OUT: for its priority */
    bool ended, finished;
} scene_flow;

typedef struct scene_node {
    p2p_id id;
    p2p_node *node; /* NULL while it is down, and for a router */
    scene_flow *flows, *last;
    p2p_desc desc;
    uint32_t waiting; /* flows that wait to be opened */
} scene_node;

typedef struct scene_run scene_run;

/* What is to happen, in the order of time. */
enum { ACTION_DO, ACTION_UNDO, ACTION_DEADLINE };
typedef struct scene_action {
    uint64_t at_us;
    uint32_t statement, kind;
} scene_action;

enum {
    SCENE_SINKS = 4,
    SCENE_COMPLAINTS = 3,
    SCENE_ACTIONS = 5000000,
    SCENE_PATTERN = 65521,
    SCENE_SEED = 1 /* of a file that has none */
};
typedef struct scene_options {
    const char *file;                /* for messages */
    const uint64_t *seed;            /* NULL: the file's */
    p2p_see_sink sinks[SCENE_SINKS]; /* who looks on; scene_run_open takes them over */
    uint32_t sink_count;
    /* a line "file:line:column: ..." without its newline */
    void (*complain)(void *ctx, const char *text);
    void *ctx;
} scene_options;

/* A direction of a link. */
typedef struct scene_edge {
    uint32_t from, to;
} scene_edge;

struct scene_run {
    const scene *s;
    const char *text;
    scene_options o;
    p2p_sim *sim;
    p2p_see *see; /* NULL: nobody looks on */
    void *arena;
    p2p_sim_desc net;
    p2p_error_detail why;
    scene_node *nodes; /* a vertex each */
    scene_contact *contacts;
    uint32_t contact_count, contact_room;
    uint32_t *contact_table, contact_table_size; /* by both vertices, index + 1 */
    uint32_t *id_table, id_table_size;           /* vertices by id, index + 1 */
    scene_action *actions;
    uint32_t action_count, action_room;
    uint32_t *open; /* statements: expectations with `by` that are not decided */
    uint32_t open_count;
    scene_edge *edges; /* directions of links, in the order they were made */
    uint32_t edge_count, edge_room;
    struct scene_before *before; /* links as they were before a statement with `for` */
    uint32_t before_count, before_room;
    uint64_t end_us;
    const scene_statement *end_idle; /* the run ends when all is idle, at the latest at end_us */
    uint32_t message_most;           /* the largest message of the file */
    unsigned failed, met;
    uint8_t *complaints; /* a statement, and one of the run: how many were said */
    bool dtls, out_of_memory;
    uint8_t pattern[2 * SCENE_PATTERN];
};

/* NULL: what is wrong was complained of. The scene and its text must outlive the run. */
scene_run *scene_run_open(const scene *s, const char *text, const scene_options *options);
/* 0; or how many expectations, statements and checks failed, each complained of. */
unsigned scene_run_go(scene_run *r);
/* 0, or < 0 when a sink could not write what it should; r->why says so no more. */
int scene_run_close(scene_run *r);
/* Index of the vertex with this id, or UINT32_MAX. */
uint32_t scene_vertex_of(const scene_run *r, const p2p_id *id);
/* The statement as it stands in the file; returns its length. */
int scene_source(const scene_run *r, const scene_statement *t, const char **out);

/* ---- between p2p_scene_run.c and p2p_scene_app.c --------------------------------------------- */

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
/* Counts a failure of the statement (NULL: of the run) and complains of it. */
void
scene_fail(scene_run *r, const scene_statement *t, const char *format, ...);
bool scene_grow(scene_run *r, void **items, uint32_t count, uint32_t *room, size_t item);
uint64_t scene_hash(uint64_t x);

/* The programs. */
scene_contact *scene_contact_of(scene_run *r, uint32_t from, uint32_t to); /* NULL: no memory */
const scene_contact *scene_contact_find(const scene_run *r, uint32_t from, uint32_t to);
void scene_app_start(scene_run *r, uint32_t vertex);
void scene_app_crashed(scene_run *r, uint32_t vertex);
void scene_app_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e);
void scene_app_dial(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to);
void scene_app_dial_name(scene_run *r, const scene_statement *t, uint32_t from);
void scene_app_close(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to);
/* stream, message, datagram, request */
void scene_app_send(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to);
void scene_app_end(scene_run *r);
/* Hosts: programs that know only UDP. */
int scene_host_make(scene_run *r, uint32_t vertex);
void scene_host_send(scene_run *r, const scene_statement *t, uint32_t from, uint32_t to);
/* After any event: are expectations met now? */
void scene_expect_look(scene_run *r);

#endif
