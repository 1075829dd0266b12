/* The dialling side of the command: one connection, and one request on it. */
#ifndef P2P_CLIENT_H
#define P2P_CLIENT_H

#include "p2p_tool.h"

enum { CLIENT_PATH = 1024, CLIENT_TYPE = 128 };

typedef struct client {
    tool_node t;
    const tool_args *args;
    p2p_ticket ticket;
    p2p_conn conn;
    char brief[11];        /* the peer's short form */
    uint64_t dialled_us;   /* when p2p_connect was called */
    uint64_t connected_us; /* 0: not yet */
    bool lost;             /* the connection failed or ended; printed */
} client;

/* Parses the ticket in words[word], opens a node and dials. */
int client_open(client *c, const tool_args *args, unsigned word);
/* Looks at CONNECTED and DISCONNECTED; prints why a connection failed, or ended before `wanted` was
 * here. */
void client_event(client *c, const p2p_event *e, const char *wanted);
/* Says goodbye and frees everything. */
void client_close(client *c);

typedef struct exchange exchange;
struct exchange {
    client c;
    uint32_t method;
    char path[CLIENT_PATH + 1];
    p2p_str path_text, query;
    p2p_stream stream;
    int source; /* descriptor of the body to send, -1: none */
    bool source_regular;
    bool asked, answered, finished, failed;
    int status;
    uint64_t expected; /* content-length, or P2P_NEVER */
    uint64_t got;
    uint64_t started_us; /* when the head of the answer was here */
    char type[CLIENT_TYPE];
    tool_sink sink;
    bool to_sink; /* the answer's body goes there, */
    char *kept;   /* else here, as far as there is room */
    size_t kept_size, kept_room;
    FILE *headers; /* with --json of call: a JSON array of the answer's headers */
    char *headers_text;
    size_t headers_size;
    uint64_t progress_us; /* when the progress line was printed last */
    bool progress;
};

/* words[word] is the ticket, words[word + 1] the path. */
int exchange_open(exchange *x, const tool_args *args, unsigned word);
/* Until the answer is whole (TOOL_OK, whatever its status) or cannot come any more. */
int exchange_run(exchange *x);
void exchange_close(exchange *x);

#endif
