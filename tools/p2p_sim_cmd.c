/* p2p sim: runs a scenario file in the simulator, and tells what became of it. */
#include "p2p_tool.h"
#include "p2p_scene_random.h"
#include "p2p_scene_run.h"
#include "p2p_pcap.h"
#include "p2p_html.h"
#include "p2p_qlog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_MOST = 1 << 26 };

typedef struct sim_command {
    const tool_args *args;
    const char *file;
    char *text;
    size_t size;
    scene s;
    scene_run *run;
    double seconds;
} sim_command;

/* ---- the text -------------------------------------------------------------------------------- */

static int read_file(sim_command *c) {
    bool standard = strcmp(c->file, "-") == 0;
    FILE *in = standard ? stdin : fopen(c->file, "rb");
    size_t room = 1 << 16, n = 1;
    if (!in)
        return tool_fail("sim", "cannot open %s: %s", c->file, strerror(errno));
    c->text = (char *)malloc(room);
    while (c->text && n != 0 && c->size <= FILE_MOST) {
        n = fread(c->text + c->size, 1, room - c->size, in);
        c->size += n;
        if (c->size == room) {
            char *more = (char *)realloc(c->text, room *= 2);
            if (!more)
                free(c->text);
            c->text = more;
        }
    }
    n = (size_t)ferror(in);
    if (!standard)
        (void)fclose(in);
    if (!c->text)
        return tool_fail("sim", "out of memory");
    if (n)
        return tool_fail("sim", "cannot read %s: is it a directory?", c->file);
    if (c->size > FILE_MOST)
        return tool_fail("sim", "%s is larger than 64 MiB: is it a scenario?", c->file);
    return TOOL_OK;
}
static int draw_text(sim_command *c) {
    c->file = "random";
    c->text = (char *)malloc(SCENE_RANDOM_SIZE);
    if (!c->text)
        return tool_fail("sim", "out of memory");
    scene_random(c->args->seed, c->text, SCENE_RANDOM_SIZE);
    c->size = strlen(c->text);
    return TOOL_OK;
}
static int parse(sim_command *c) {
    int count = scene_parse(&c->s, c->text, c->size), i;
    for (i = 0; i < count; i++)
        tool_note("sim", "%s:%u:%u: %s", c->file, c->s.errors[i].line, c->s.errors[i].column,
                  c->s.errors[i].text);
    if (count == SCENE_ERRORS)
        tool_note("sim", "%s: too many errors, the rest was not read", c->file);
    return count ? TOOL_FAILED : TOOL_OK;
}

/* ---- the summary ------------------------------------------------------------------------------ */

static const char *state_name(const scene_contact *c) {
    static const char *const names[] = {"none", "dialling", "up", "down"};
    return names[c->state];
}
static void seconds_text(uint64_t us, char out[32]) {
    (void)snprintf(out, 32, "%llu.%06u s", (unsigned long long)(us / 1000000),
                   (unsigned)(us % 1000000));
}
static void print_contact(const scene_run *r, const scene_contact *c) {
    char in[32], out[32];
    (void)printf("  %s - %s: %s%s%s", r->s->vertices[c->from].name, r->s->vertices[c->to].name,
                 state_name(c), c->state == CONTACT_DOWN && c->err ? ", " : "",
                 c->state == CONTACT_DOWN && c->err ? p2p_err_text(c->err) : "");
    (void)printf("\n    sent      %9s  %llu streams, %llu messages, %llu datagrams, %llu requests",
                 tool_size_text(c->bytes_out, out), (unsigned long long)c->streams_out,
                 (unsigned long long)c->messages_out, (unsigned long long)c->datagrams_out,
                 (unsigned long long)c->requests_out);
    if (c->not_taken)
        (void)printf("; not taken: %llu", (unsigned long long)c->not_taken);
    (void)printf("\n    received  %9s  %llu streams, %llu messages, %llu datagrams, %llu answers",
                 tool_size_text(c->bytes_in, in), (unsigned long long)c->streams_in,
                 (unsigned long long)c->messages_in, (unsigned long long)c->datagrams_in,
                 (unsigned long long)c->answers);
    if (c->failures)
        (void)printf(", %llu failures", (unsigned long long)c->failures);
    if (c->stats.packets_sent)
        (void)printf("\n    at last   rtt %u.%03u ms, window %u B, %llu of %llu packets lost",
                     (unsigned)(c->stats.rtt_us / 1000), (unsigned)(c->stats.rtt_us % 1000),
                     (unsigned)c->stats.window_bytes, (unsigned long long)c->stats.packets_lost,
                     (unsigned long long)c->stats.packets_sent);
    (void)putchar('\n');
}
enum { CONTACTS_SHOWN = 40 };
static void print_contacts(const scene_run *r) {
    uint32_t i, shown = 0, there = 0;
    for (i = 0; i < r->contact_count; i++) {
        if (r->contacts[i].state == CONTACT_NONE)
            continue;
        if (shown == 0)
            (void)puts("connections, each from one end");
        if (shown++ < CONTACTS_SHOWN)
            print_contact(r, &r->contacts[i]);
        there++;
    }
    if (there > CONTACTS_SHOWN)
        (void)printf("  and %u more; --json has all\n", there - CONTACTS_SHOWN);
}
static void print_fates(const scene_run *r) {
    p2p_sim_stats s;
    p2p_sim_stats_get(r->sim, &s);
    (void)puts("datagrams");
#define FATE_LINE(upper, lower) \
    if (s.lower)                \
        (void)printf("  %-10s %10llu\n", #lower, (unsigned long long)s.lower);
    P2P_SIM_FATES(FATE_LINE)
}
static void print_summary(const sim_command *c) {
    const scene_run *r = c->run;
    char when[32];
    uint64_t us = p2p_sim_now(r->sim);
    print_contacts(r);
    print_fates(r);
    seconds_text(us, when);
    (void)printf("expectations %u met, %u failed\n", r->met, r->failed);
    (void)printf("digest       0x%016llx, seed %llu, %s channel\n",
                 (unsigned long long)p2p_sim_digest(r->sim), (unsigned long long)r->net.seed,
                 r->dtls ? "dtls" : "null");
    (void)printf("time         %s in %.3f s", when, c->seconds);
    if (c->seconds > 0)
        (void)printf(", %.0f x real time", (double)us / 1e6 / c->seconds);
    (void)putchar('\n');
}
static void json_contact(json *j, const scene_run *r, const scene_contact *c) {
    json_begin(j, NULL, '{');
    json_string(j, "from", r->s->vertices[c->from].name);
    json_string(j, "to", r->s->vertices[c->to].name);
    json_string(j, "state", state_name(c));
    json_string(j, "error", p2p_err_name(c->err));
#define CONTACT_NUMBER(field) json_number(j, #field, c->field)
    CONTACT_NUMBER(bytes_out);
    CONTACT_NUMBER(streams_out);
    CONTACT_NUMBER(messages_out);
    CONTACT_NUMBER(datagrams_out);
    CONTACT_NUMBER(requests_out);
    CONTACT_NUMBER(not_taken);
    CONTACT_NUMBER(bytes_in);
    CONTACT_NUMBER(streams_in);
    CONTACT_NUMBER(messages_in);
    CONTACT_NUMBER(datagrams_in);
    CONTACT_NUMBER(answers);
    CONTACT_NUMBER(failures);
#undef CONTACT_NUMBER
    json_number(j, "rtt_us", c->stats.rtt_us);
    json_number(j, "window_bytes", c->stats.window_bytes);
    json_number(j, "packets_sent", c->stats.packets_sent);
    json_number(j, "packets_lost", c->stats.packets_lost);
    json_end(j, '}');
}
static void json_summary(const sim_command *c) {
    const scene_run *r = c->run;
    p2p_sim_stats s;
    char digest[24];
    uint32_t i;
    json j;
    p2p_sim_stats_get(r->sim, &s);
    (void)snprintf(digest, sizeof digest, "0x%016llx", (unsigned long long)p2p_sim_digest(r->sim));
    json_open(&j, stdout);
    json_begin(&j, NULL, '{');
    json_string(&j, "file", c->file);
    json_number(&j, "seed", r->net.seed);
    json_string(&j, "channel", r->dtls ? "dtls" : "null");
    json_string(&j, "digest", digest);
    json_number(&j, "virtual_us", p2p_sim_now(r->sim));
    json_number(&j, "real_us", (uint64_t)(c->seconds * 1e6));
    json_number(&j, "met", r->met);
    json_number(&j, "failed", r->failed);
    json_begin(&j, "datagrams", '{');
#define FATE_JSON(upper, lower) json_number(&j, #lower, s.lower);
    P2P_SIM_FATES(FATE_JSON)
    json_end(&j, '}');
    json_begin(&j, "connections", '[');
    for (i = 0; i < r->contact_count; i++)
        if (r->contacts[i].state != CONTACT_NONE)
            json_contact(&j, r, &r->contacts[i]);
    json_end(&j, ']');
    json_end(&j, '}');
    json_line(&j);
}

/* ---- who looks on ----------------------------------------------------------------------------- */

typedef int (*sink_fn)(const sim_command *c, FILE *out, p2p_see_sink *sink);
static int sink_open(const sim_command *c, const char *path, sink_fn open, scene_options *o) {
    FILE *out;
    if (!path)
        return TOOL_OK;
    out = fopen(path, "wb");
    if (!out)
        return tool_fail("sim", "cannot write %s: %s", path, strerror(errno));
    if (open(c, out, &o->sinks[o->sink_count]) < 0) {
        (void)fclose(out);
        return tool_fail("sim", "out of memory");
    }
    o->sink_count++;
    return TOOL_OK;
}
static int pcap_open(const sim_command *c, FILE *out, p2p_see_sink *sink) {
    (void)c;
    return p2p_pcap_open(out, sink);
}
static int qlog_open(const sim_command *c, FILE *out, p2p_see_sink *sink) {
    p2p_qlog_desc desc;
    uint32_t i;
    memset(&desc, 0, sizeof desc);
    desc.title = c->file;
    desc.seed = c->args->seeded ? c->args->seed : SCENE_SEED;
    for (i = 0; i < c->s.statement_count && !c->args->seeded; i++)
        if (c->s.statements[i].verb == SCENE_seed)
            desc.seed = c->s.statements[i].value[SCENE_seed_number];
    return p2p_qlog_open(out, &desc, sink);
}
/* The page is told more at the end. */
static p2p_html *html;
static int html_open(const sim_command *c, FILE *out, p2p_see_sink *sink) {
    (void)c;
    return p2p_html_open(out, sink, &html);
}
static int sinks_open(const sim_command *c, scene_options *o) {
    if (sink_open(c, c->args->pcap, pcap_open, o) != TOOL_OK ||
        sink_open(c, c->args->qlog, qlog_open, o) != TOOL_OK ||
        sink_open(c, c->args->html, html_open, o) != TOOL_OK)
        return TOOL_FAILED;
    return TOOL_OK;
}
static void html_tell(const sim_command *c) {
    const scene_run *r = c->run;
    p2p_html_facts f;
    p2p_sim_stats stats;
    uint32_t i;
    memset(&f, 0, sizeof f);
    p2p_sim_stats_get(r->sim, &stats);
    f.title = c->file;
    f.channel = r->dtls ? "dtls" : "null";
    f.source = c->text;
    f.source_size = c->size;
    f.seed = r->net.seed;
    f.digest = p2p_sim_digest(r->sim);
    f.end_us = p2p_sim_now(r->sim);
    f.met = r->met;
    f.failed = r->failed;
    f.stats = &stats;
    for (i = 0; i < r->s->vertex_count; i++)
        p2p_html_kind(html, &r->nodes[i].id, scene_verb_name(r->s->vertices[i].made));
    for (i = 0; i < r->edge_count; i++)
        p2p_html_link(html, &r->nodes[r->edges[i].from].id, &r->nodes[r->edges[i].to].id);
    p2p_html_tell(html, &f);
}

/* ---- the command ------------------------------------------------------------------------------ */

static void complain(void *ctx, const char *text) {
    (void)ctx;
    tool_note("sim", "%s", text);
}
static double seconds_now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static int simulate(sim_command *c) {
    scene_options o;
    double began = seconds_now();
    unsigned failed;
    memset(&o, 0, sizeof o);
    o.file = c->file;
    o.seed = c->args->seeded ? &c->args->seed : NULL;
    o.complain = complain;
    if (sinks_open(c, &o) != TOOL_OK) {
        for (; o.sink_count; o.sink_count--)
            (void)o.sinks[o.sink_count - 1].close(o.sinks[o.sink_count - 1].ctx);
        return TOOL_FAILED;
    }
    c->run = scene_run_open(&c->s, c->text, &o);
    if (!c->run)
        return TOOL_FAILED;
    failed = scene_run_go(c->run);
    c->seconds = seconds_now() - began;
    if (c->args->html)
        html_tell(c);
    if (c->args->json)
        json_summary(c);
    else
        print_summary(c);
    if (scene_run_close(c->run) < 0)
        return tool_fail("sim", "what was asked for could not be written: is the disk full?");
    return failed ? TOOL_FAILED : TOOL_OK;
}
int tool_sim(const tool_args *args) {
    sim_command c;
    int rc;
    memset(&c, 0, sizeof c);
    c.args = args;
    c.file = args->words[0];
    if (args->print && !args->random)
        return tool_usage("sim", "--print shows what --random draws: give both");
    if (args->random && !args->seeded)
        return tool_usage("sim", "--random needs --seed N: the seed is what can be run again");
    rc = args->random ? draw_text(&c) : read_file(&c);
    if (rc == TOOL_OK && args->print)
        (void)fwrite(c.text, 1, c.size, stdout);
    else if (rc == TOOL_OK && (rc = parse(&c)) == TOOL_OK)
        rc = simulate(&c);
    scene_free(&c.s);
    free(c.text);
    return rc;
}
