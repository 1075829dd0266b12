/* Shared by the files of the command `p2p`: arguments, text, JSON, keys, a node over UDP, and where
 * bodies go. Every function that can fail has printed what, where and what to do before it returns
 * TOOL_FAILED or TOOL_USAGE. */
#ifndef P2P_TOOL_H
#define P2P_TOOL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64 /* files above 2 GiB on 32-bit machines */
#endif

#include "p2p.h"
#include "p2p_posix.h"
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"

#include <poll.h>
#include <stdio.h>

enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };

/* ---- text: what a peer or a file system names is printed only through these ------------------ */

#if defined(__GNUC__)
#define TOOL_PRINTF(text_at, first_at) __attribute__((format(printf, text_at, first_at)))
#else
#define TOOL_PRINTF(text_at, first_at)
#endif

/* One UTF-8 character: its length 1 to 4, or 0 where the bytes are not shortest-form UTF-8. */
size_t tool_utf8(const uint8_t *at, size_t left, uint32_t *out);
bool tool_utf8_valid(const void *data, size_t size);
/* True for what may reach a terminal: no control characters, no marks that turn the direction of
 * writing. */
bool tool_printable(uint32_t character);
/* Writes text with everything else as \xNN; newlines and tabs stay when `multiline`. */
void tool_print_safe(FILE *out, const void *data, size_t size, bool multiline);
int tool_fail(const char *command, const char *format, ...) TOOL_PRINTF(2, 3);
int tool_usage(const char *command, const char *format, ...) TOOL_PRINTF(2, 3);
void tool_note(const char *command, const char *format, ...) TOOL_PRINTF(2, 3);
/* "12.3 MB", in decimal units. */
const char *tool_size_text(uint64_t bytes, char out[32]);

/* ---- JSON: a writer that cannot produce anything else ---------------------------------------- */

enum { JSON_DEPTH = 8 };
typedef struct json {
    FILE *out;
    unsigned depth;
    bool filled[JSON_DEPTH];
} json;

void json_open(json *j, FILE *out);
void json_begin(json *j, const char *name, char bracket); /* name NULL: in an array or at the top */
void json_end(json *j, char bracket);
void json_text(json *j, const char *name, const void *data, size_t size);
void json_string(json *j, const char *name, const char *text);
void json_number(json *j, const char *name, uint64_t value);
void json_thousandths(json *j, const char *name, uint64_t value); /* 1234567: 1234.567 */
void json_hex(json *j, const char *name, const void *data, size_t size);
void json_bool(json *j, const char *name, bool value);
void json_line(json *j); /* ends the value's line and flushes it */

/* ---- arguments ------------------------------------------------------------------------------- */

enum { TOOL_WORDS = 4, TOOL_ALLOW = 64, TOOL_HEADERS = 16 };
typedef struct tool_args {
    const char *command;
    const char *words[TOOL_WORDS];
    unsigned word_count;
    const char *key, *listen, *output, *body;
    p2p_id allow[TOOL_ALLOW];
    size_t allow_count;
    p2p_header headers[TOOL_HEADERS];
    size_t header_count;
    uint32_t count, interval_ms, timeout_s;
    const char *pcap, *qlog, *html;
    uint64_t seed;
    bool json, verbose, help, random, print, seeded;
} tool_args;

/* `allowed` holds the letters of the options that the command takes. */
int tool_args_parse(tool_args *args, const char *command, const char *allowed, int argc,
                    char **argv);

/* ---- a node over UDP ------------------------------------------------------------------------- */

typedef struct tool_node {
    const char *command;
    p2p_posix io;
    p2p_desc desc;
    p2p_error_detail why;
    p2p_id id;
    p2p_node *node;
    void *arena;
    bool open;
} tool_node;

/* Sets the signals, loads or makes the key, binds, opens. The caller has set desc.max, desc.bytes
 * and so on. */
int tool_node_open(tool_node *t, const tool_args *args);
/* Says goodbye to all peers, for at most desc.time.stop_us. */
void tool_node_stop(tool_node *t);
void tool_node_close(tool_node *t);
/* Waits for the network, a signal, or one more descriptor (fd < 0: none); feeds the node. < 0:
 * printed. */
int tool_node_wait(tool_node *t, int fd, short events);
#ifdef P2P_MBEDTLS_KEYLOG
/* Gives the secrets of all sessions to the file that SSLKEYLOGFILE names. */
int tool_keylog(void);
#endif
int tool_key_load(const char *command, const char *path, p2p_key *out);
/* What a port says of a failure, without the name `what` that the caller prints itself. */
const char *tool_why(const p2p_error_detail *why, const char *what, int err);
bool tool_interrupted(void);
void tool_signals(p2p_posix *io);
/* A file that a second Ctrl-C has to remove; NULL: none. */
void tool_temporary(const char *path);

/* ---- where a body goes ----------------------------------------------------------------------- */

typedef struct tool_sink {
    const char *command;
    int fd;
    char *path, *temporary; /* temporary NULL: written straight to fd */
    bool direct, terminal;
} tool_sink;

int tool_sink_open(tool_sink *s, const char *command, const char *path);
/* Bytes taken, 0 when it would block, < 0 when it failed (printed). */
int tool_sink_write(tool_sink *s, const uint8_t *data, size_t size);
int tool_sink_finish(tool_sink *s); /* only now the file has its name */
void tool_sink_abandon(tool_sink *s);

/* ---- commands -------------------------------------------------------------------------------- */

int tool_keygen(const tool_args *args);
int tool_id(const tool_args *args);
int tool_serve(const tool_args *args);
int tool_get(const tool_args *args);
int tool_call(const tool_args *args);
int tool_ping(const tool_args *args);
int tool_sim(const tool_args *args);

#endif
