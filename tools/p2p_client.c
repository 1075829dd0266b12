/* Dialling a ticket, and one request: the body out, the answer in, both with backpressure. */
#include "p2p_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- connection ------------------------------------------------------------------------------ */

static int ticket_parse(client *c, const char *text) {
    int rc = p2p_ticket_parse(text, &c->ticket);
    switch (rc) {
    case P2P_ERR_INVALID_ID:
        return tool_usage(c->args->command, "the ticket is damaged: its id is no NodeId; copy it "
                                            "again, whole, from what 'p2p serve' printed");
    case P2P_ERR_PROTOCOL:
        return tool_usage(c->args->command, "the ticket has a version this program does not know: "
                                            "update the program, or ask for an older ticket");
    default: break;
    }
    if (rc < 0)
        return tool_usage(
            c->args->command,
            "the ticket is damaged: '%.16s...' (%u characters) is cut or mistyped, its "
            "checksum does not fit; copy it again, whole, from what 'p2p serve' printed",
            text, (unsigned)strlen(text));
    (void)p2p_id_short(&c->ticket.id, c->brief);
    return TOOL_OK;
}

static void limits(p2p_desc *d) {
    d->max.conns = 2;
    d->max.half_open = 2;
    d->max.peers = 2;
    d->max.streams = 4;
    d->max.peer_streams = 1;
    d->max.routes = P2P_NONE;
    d->max.in_flight = 2048;
    d->max.datagrams_in = P2P_NONE;
    d->max.datagrams_out = P2P_NONE;
    d->bytes.stream_send = 256 * 1024;
    d->bytes.stream_recv = 1024 * 1024;
    d->bytes.peer_send = 1024;
    d->bytes.peer_recv = 1024;
    d->bytes.message_max = P2P_NONE;
}

int client_open(client *c, const tool_args *args, unsigned word) {
    p2p_connect_desc desc;
    p2p_error_detail why;
    int rc;
    c->args = args;
    rc = ticket_parse(c, args->words[word]);
    if (rc != TOOL_OK)
        return rc;
    limits(&c->t.desc);
    rc = tool_node_open(&c->t, args);
    if (rc != TOOL_OK)
        return rc;
    memset(&desc, 0, sizeof desc);
    desc.timeout_us = (uint64_t)(args->timeout_s ? args->timeout_s : 30) * 1000000u;
    c->dialled_us = p2p_posix_now_us();
    rc = p2p_peer_add(c->t.node, &c->ticket);
    if (rc >= 0)
        rc = p2p_connect(c->t.node, &c->ticket.id, &desc, &c->conn);
    if (rc >= 0)
        return TOOL_OK;
    p2p_last_error(c->t.node, &why);
    return tool_fail(args->command, "cannot dial %s: %s", c->brief,
                     why.err == rc && why.text[0] ? why.text : p2p_err_text(rc));
}

static void addresses(const client *c, char out[256]) {
    char text[P2P_ADDR_TEXT_SIZE];
    size_t used = 0;
    uint32_t i;
    (void)snprintf(out, 256, "no address");
    for (i = 0; i < c->ticket.addr_count && used < 180; i++) {
        if (p2p_addr_text(&c->ticket.addrs[i], text) < 0)
            continue;
        used += (size_t)snprintf(out + used, 256 - used, "%s%s", used ? ", " : "", text);
    }
}

static void dial_failed(const client *c, const p2p_event *e) {
    const char *command = c->args->command;
    char at[256], id[P2P_ID_TEXT_SIZE];
    addresses(c, at);
    (void)p2p_id_text(&c->t.id, id);
    switch (e->err) {
    case P2P_ERR_TIMEOUT:
        (void)tool_fail(
            command,
            "no answer from %s at %s in %u s: is it running there, is the ticket of this "
            "run, does a firewall let UDP through?",
            c->brief, at, c->args->timeout_s ? c->args->timeout_s : 30u);
        break;
    case P2P_ERR_REFUSED:
        (void)tool_fail(command, "%s refuses this key: its owner has to serve with --allow %s",
                        c->brief, id);
        break;
    case P2P_ERR_AUTH:
        (void)tool_fail(command,
                        "who answers at %s knows the key of %s but cannot prove to own it: "
                        "nothing was sent",
                        at, c->brief);
        break;
    default:
        (void)tool_fail(command, "cannot connect to %s at %s: %s", c->brief, at,
                        p2p_err_text(e->err));
        break;
    }
}

void client_event(client *c, const p2p_event *e, const char *wanted) {
    if (e->conn.id != c->conn.id)
        return;
    if (e->type == P2P_EVENT_CONNECTED)
        c->connected_us = p2p_posix_now_us();
    if (e->type != P2P_EVENT_DISCONNECTED)
        return;
    c->lost = true;
    if (c->connected_us == 0)
        dial_failed(c, e);
    else if (wanted)
        (void)tool_fail(c->args->command, "%s closed the connection before %s: %s%s%.*s", c->brief,
                        wanted, p2p_err_text(e->err), e->reason.size ? ", it says: " : "",
                        (int)e->reason.size, e->reason.data ? e->reason.data : "");
}

void client_close(client *c) {
    if (!c->lost)
        tool_node_stop(&c->t);
    tool_node_close(&c->t);
}

/* ---- the path -------------------------------------------------------------------------------- */

static int hex_digit(char c) {
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool dot_segment(const char *path, size_t size) {
    size_t i, start = 0;
    for (i = 0; i <= size; i++) {
        if (i < size && path[i] != '/')
            continue;
        if (i - start == 1 && path[start] == '.')
            return true;
        if (i - start == 2 && path[start] == '.' && path[start + 1] == '.')
            return true;
        start = i + 1;
    }
    return false;
}

static int path_check(const exchange *x, const char *text) {
    const char *command = x->c.args->command;
    size_t i, size = x->path_text.size;
    if (text[0] != '/')
        return tool_usage(command, "the path '%s' has to begin with /, as /tracks", text);
    if (dot_segment(x->path, size))
        return tool_usage(command,
                          "the path '%s' has a segment . or .., which no peer takes: name the "
                          "path itself",
                          text);
    if (!tool_utf8_valid(x->path, size))
        return tool_usage(command, "the path '%s' is not UTF-8", text);
    for (i = 0; i < size; i++)
        if ((uint8_t)x->path[i] < 0x20 || x->path[i] == 0x7f)
            return tool_usage(command,
                              "the path '%s' holds a control character, which no peer takes", text);
    return TOOL_OK;
}

static int path_parse(exchange *x, const char *text) {
    const char *at = text;
    size_t n = 0;
    int high, low;
    for (; *at && *at != '?'; at++) {
        if (n == CLIENT_PATH)
            return tool_usage(x->c.args->command, "the path is longer than %d bytes",
                              (int)CLIENT_PATH);
        if (*at != '%') {
            x->path[n++] = *at;
            continue;
        }
        high = hex_digit(at[1]);
        low = high < 0 ? -1 : hex_digit(at[2]);
        if (high < 0 || low < 0)
            return tool_usage(
                x->c.args->command,
                "the path '%s' has a %% without two hex digits: write %%25 for the sign", text);
        x->path[n++] = (char)(uint8_t)((unsigned)high << 4 | (unsigned)low);
        at += 2;
    }
    x->path[n] = '\0';
    x->path_text.data = x->path;
    x->path_text.size = n;
    x->query = p2p_str_of(*at == '?' ? at + 1 : "");
    return path_check(x, text);
}

/* ---- the body we send ------------------------------------------------------------------------ */

static int source_open(exchange *x) {
    const char *path = x->c.args->body;
    struct stat info;
    x->source = -1;
    if (!path)
        return TOOL_OK;
    x->source = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (x->source < 0 || fstat(x->source, &info) < 0)
        return tool_fail(x->c.args->command, "cannot read the body from %s: %s", path,
                         strerror(errno));
    if (S_ISDIR(info.st_mode))
        return tool_fail(x->c.args->command, "cannot read the body from %s: it is a directory",
                         path);
    x->source_regular = S_ISREG(info.st_mode);
    return TOOL_OK;
}

static void source_close(exchange *x) {
    if (x->source > STDIN_FILENO)
        (void)close(x->source);
    x->source = -1;
}

static bool source_ready(const exchange *x) {
    struct pollfd wait;
    wait.fd = x->source;
    wait.events = POLLIN;
    wait.revents = 0;
    return x->source_regular || poll(&wait, 1, 0) > 0;
}

/* Sends what is here and has room. Returns true when it waits for its descriptor. */
static bool source_pump(exchange *x) {
    p2p_room room;
    ssize_t n;
    int rc;
    while (x->source >= 0 && x->asked && !x->finished) {
        rc = p2p_stream_reserve(x->c.t.node, x->stream, 65536, &room);
        if (rc == P2P_ERR_AGAIN)
            return false; /* WRITABLE goes on */
        if (rc < 0) {     /* the peer wants no more of it: its answer says why */
            source_close(x);
            return false;
        }
        if (!source_ready(x)) {
            (void)p2p_stream_commit(x->c.t.node, x->stream, 0);
            return true;
        }
        n = read(x->source, room.data, room.size);
        (void)p2p_stream_commit(x->c.t.node, x->stream, n > 0 ? (size_t)n : 0);
        if (n > 0)
            continue;
        if (n < 0) {
            (void)tool_fail(x->c.args->command, "cannot read the body: %s", strerror(errno));
            (void)p2p_stream_reset(x->c.t.node, x->stream, 0);
            x->finished = x->failed = true;
        } else {
            (void)p2p_stream_finish(x->c.t.node, x->stream);
        }
        source_close(x);
    }
    return false;
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void ask(exchange *x) {
    p2p_request_desc r;
    p2p_error_detail why;
    int rc;
    memset(&r, 0, sizeof r);
    r.method = x->method;
    r.path = x->path;
    r.query = x->query.size ? x->query.data : NULL;
    r.headers = x->c.args->headers;
    r.header_count = x->c.args->header_count;
    r.more = x->source >= 0;
    rc = p2p_request_send(x->c.t.node, x->c.conn, &r, &x->stream);
    x->asked = rc >= 0;
    if (rc >= 0)
        return;
    p2p_last_error(x->c.t.node, &why);
    (void)tool_fail(x->c.args->command, "cannot ask for %s: %s", x->path,
                    why.err == rc && why.text[0] ? why.text : p2p_err_text(rc));
    x->finished = x->failed = true;
}

static void headers_keep(exchange *x, const p2p_response_head *head) {
    json j;
    size_t i;
    if (!x->headers)
        return;
    json_open(&j, x->headers);
    json_begin(&j, NULL, '[');
    for (i = 0; i < head->header_count; i++) {
        json_begin(&j, NULL, '{');
        json_text(&j, "name", head->headers[i].name.data, head->headers[i].name.size);
        json_text(&j, "value", head->headers[i].value.data, head->headers[i].value.size);
        json_end(&j, '}');
    }
    json_end(&j, ']');
}

static void answer(exchange *x, const p2p_event *e) {
    p2p_response_head head;
    p2p_str value;
    if (e->err < 0 || p2p_response(x->c.t.node, e->stream, &head) < 0) {
        (void)tool_fail(x->c.args->command, "%s gives no answer to %s: %s", x->c.brief, x->path,
                        p2p_err_text(e->err));
        x->finished = x->failed = true;
        return;
    }
    x->answered = true;
    x->status = head.status;
    x->started_us = p2p_posix_now_us();
    value = p2p_response_header(&head, "content-length");
    if (!value.data || p2p_str_u64(value, &x->expected) < 0)
        x->expected = P2P_NEVER;
    value = p2p_response_header(&head, "content-type");
    if (value.data && value.size < CLIENT_TYPE)
        memcpy(x->type, value.data, value.size);
    headers_keep(x, &head);
    if (x->status / 100 != 2 && strcmp(x->c.args->command, "get") == 0)
        x->to_sink = false; /* what an error says must not be taken for the file */
}

/* Bytes taken; 0: later; < 0: failed and printed. */
static int keep(exchange *x, p2p_span bytes) {
    size_t n;
    if (x->to_sink)
        return tool_sink_write(&x->sink, bytes.data, bytes.size);
    n = x->kept_room - x->kept_size;
    n = bytes.size < n ? bytes.size : n;
    if (n < bytes.size && x->c.args->json && strcmp(x->c.args->command, "call") == 0)
        return tool_fail("call",
                         "the body is longer than --json takes (%u bytes): leave --json away",
                         (unsigned)x->kept_room),
               -1;
    if (n > 0)
        memcpy(x->kept + x->kept_size, bytes.data, n);
    x->kept_size += n;
    return bytes.size > INT32_MAX ? INT32_MAX : (int)bytes.size;
}

static void body_end(exchange *x) {
    x->finished = true;
    if (x->expected == P2P_NEVER || x->expected == x->got)
        return;
    x->failed = true;
    (void)tool_fail(x->c.args->command, "%s came with %llu bytes, %llu were announced", x->path,
                    (unsigned long long)x->got, (unsigned long long)x->expected);
}

static void body_broken(exchange *x, int err) {
    x->finished = x->failed = true;
    (void)tool_fail(x->c.args->command, "%s broke off after %llu bytes: %s", x->path,
                    (unsigned long long)x->got, p2p_err_text(err));
}

/* Takes what is here. Returns true when it waits for the sink. */
static bool body_pump(exchange *x) {
    p2p_span bytes;
    int rc;
    while (x->answered && !x->finished) {
        rc = p2p_stream_peek(x->c.t.node, x->stream, &bytes);
        if (rc == P2P_ERR_AGAIN)
            return false;
        if (rc < 0) {
            body_broken(x, rc);
            return false;
        }
        if (rc == 0) {
            body_end(x);
            return false;
        }
        rc = keep(x, bytes);
        if (rc == 0)
            return true;
        if (rc < 0) {
            (void)p2p_stream_reset(x->c.t.node, x->stream, 0);
            x->finished = x->failed = true;
            return false;
        }
        x->got += (uint64_t)rc;
        (void)p2p_stream_skip(x->c.t.node, x->stream, (size_t)rc);
    }
    return false;
}

/* ---- progress -------------------------------------------------------------------------------- */

static void progress(exchange *x, bool last) {
    uint64_t now_us = p2p_posix_now_us(), spent_us = now_us - x->started_us;
    char got[32], all[32], rate[32];
    if (!x->progress || !x->answered || !x->to_sink)
        return;
    if (!last && now_us - x->progress_us < 200000)
        return;
    x->progress_us = now_us;
    (void)tool_size_text(x->got, got);
    (void)tool_size_text(x->got * 1000 / (spent_us / 1000 + 1), rate);
    if (x->expected == P2P_NEVER || x->expected == 0)
        (void)fprintf(stderr, "\r%s, %s/s   ", got, rate);
    else
        (void)fprintf(stderr, "\r%s of %s, %u %%, %s/s   ", got, tool_size_text(x->expected, all),
                      (unsigned)(x->got * 100 / x->expected), rate);
    if (last)
        (void)fputc('\n', stderr);
    (void)fflush(stderr);
}

/* ---- running --------------------------------------------------------------------------------- */

int exchange_open(exchange *x, const tool_args *args, unsigned word) {
    int rc;
    x->c.args = args;
    x->source = -1;
    x->expected = P2P_NEVER;
    x->progress =
        isatty(STDERR_FILENO) == 1 && !args->json && (args->output || isatty(STDOUT_FILENO) != 1);
    rc = path_parse(x, args->words[word + 1]);
    if (rc == TOOL_OK)
        rc = source_open(x);
    if (rc == TOOL_OK)
        rc = client_open(&x->c, args, word);
    return rc;
}

static void on_event(exchange *x, const p2p_event *e) {
    client_event(&x->c, e, x->finished ? NULL : "the answer was whole");
    if (x->c.lost && !x->finished)
        x->finished = x->failed = true;
    if (e->type == P2P_EVENT_CONNECTED && e->conn.id == x->c.conn.id && !x->asked)
        ask(x);
    if (!x->asked || e->stream.id != x->stream.id)
        return;
    if (e->type == P2P_EVENT_RESPONSE)
        answer(x, e);
    if (e->type != P2P_EVENT_CLOSED || x->finished)
        return;
    if (e->err < 0 || !x->answered)
        body_broken(x, e->err < 0 ? e->err : P2P_ERR_CLOSED);
    else
        body_end(x); /* an empty body ends with its head: there is nothing to read */
}

int exchange_run(exchange *x) {
    bool wait_sink = false, wait_source = false;
    p2p_event e;
    while (!x->finished) {
        int fd = wait_sink ? x->sink.fd : wait_source ? x->source : -1;
        if (tool_node_wait(&x->c.t, fd, wait_sink ? POLLOUT : POLLIN) < 0)
            return TOOL_FAILED;
        if (tool_interrupted())
            return tool_fail(x->c.args->command, "interrupted");
        while (!x->finished && p2p_next_event(x->c.t.node, &e) > 0)
            on_event(x, &e);
        wait_source = source_pump(x);
        wait_sink = body_pump(x);
        progress(x, x->finished);
    }
    return x->failed ? TOOL_FAILED : TOOL_OK;
}

void exchange_close(exchange *x) {
    source_close(x);
    client_close(&x->c);
    tool_sink_abandon(&x->sink);
    if (x->headers)
        (void)fclose(x->headers);
    free(x->headers_text);
    free(x->kept);
}
