/* Runs of the simulator that are looked at: tools/p2p_see.c and its sinks. For tests/tool/test_see.py
 *     --write DIRECTORY                 writes captures of runs, and what is in them
 *     --fuzz DIRECTORY SEED [FILE...]   writes one of packets that are malformed, or hardly not */
#include "see_run.h"
#include "../../tools/p2p_see.c"
#include "../../tools/p2p_pcap.c"
#include "../../tools/p2p_frames.c"
#include "../../tools/p2p_text.c"
#include "../../tools/p2p_qlog.c"

static see_run run;

static int go(uint64_t seed, bool dtls, bool watched, int (*add)(see_run *)) {
    int err;
    memset(&run, 0, sizeof run);
    run.seed = seed;
    run.dtls = dtls;
    run.wrapped = true;
    err = run_open(&run, watched);
    if (err == P2P_OK && add)
        err = add(&run);
    return err < 0 ? err : run_go(&run);
}

/* ---- what a run tells ---- */

enum { PACKETS_MAX = 4000 };
static struct {
    uint32_t fates[P2P_SIM_FATE_COUNT], events, samples, notes, closed, packets;
    uint32_t connected, window_first, window_last, wrong;
    uint64_t last_us;
    struct {
        uint32_t datagram, size;
        uint64_t hash;
        uint8_t session[8], sent, server;
    } packet[PACKETS_MAX];
} told;

static void in_order(uint64_t time_us) {
    told.wrong += time_us < told.last_us;
    told.last_us = time_us;
}
static void count_datagram(void *ctx, const p2p_see_datagram *d) {
    (void)ctx;
    in_order(d->item->time_us);
    told.fates[d->item->fate]++;
    told.wrong += !d->from || !d->at || (d->item->to != NULL) != (d->to != NULL);
}
static void count_packet(void *ctx, const p2p_see_packet *p) {
    (void)ctx;
    in_order(p->time_us);
    if (told.packets == PACKETS_MAX)
        return;
    told.wrong += !p->peer || p->server != (strcmp(p->at->name, "bob") == 0);
    told.wrong += p->peer && strcmp(p->peer->name, p->server ? "alice" : "bob") != 0;
    told.packet[told.packets].datagram = p->datagram;
    told.packet[told.packets].size = p->size;
    told.packet[told.packets].hash = p2p_sim__hash(1, p->plain.data, p->plain.size);
    told.packet[told.packets].sent = p->sent;
    told.packet[told.packets].server = p->server;
    memcpy(told.packet[told.packets++].session, p->session, 8);
}
static void count_event(void *ctx, const p2p_see_event *e) {
    (void)ctx;
    in_order(e->time_us);
    told.events++;
    told.connected += e->event->type == P2P_EVENT_CONNECTED;
}
static void count_sample(void *ctx, const p2p_see_sample *s) {
    (void)ctx;
    in_order(s->time_us);
    if (told.samples++ == 0)
        told.window_first = s->stats->window_bytes;
    told.window_last = s->stats->window_bytes;
    told.wrong += !s->peer || s->stats->window_bytes == 0;
}
static void count_note(void *ctx, const p2p_see_note *n) {
    (void)ctx;
    in_order(n->time_us);
    told.notes += n->time_us == 1500 * RUN_MS && n->at && strcmp(n->at->name, "bob") == 0;
}
static int count_close(void *ctx) {
    (void)ctx;
    told.closed++;
    return P2P_OK;
}
static int add_teller(see_run *r) {
    p2p_see_sink sink;
    memset(&sink, 0, sizeof sink);
    memset(&told, 0, sizeof told);
    sink.datagram = count_datagram;
    sink.packet = count_packet;
    sink.event = count_event;
    sink.sample = count_sample;
    sink.note = count_note;
    sink.close = count_close;
    return p2p_see_add(r->see, &sink);
}

static void all_is_told(bool dtls) {
    const uint64_t *fates;
    CHECK_INT(go(3, dtls, true, add_teller), 0);
    CHECK_INT(run_close(&run), 0);
    CHECK_INT(run.got, RUN_BYTES);
    CHECK_INT(run.wrong, 0);
    fates = (const uint64_t *)&run.stats;
    for (uint32_t i = 0; i < P2P_SIM_FATE_COUNT; i++)
        CHECK_INT(told.fates[i], fates[i]);
    CHECK(run.stats.lost > 0 && run.stats.duplicated > 0 && run.stats.corrupted > 0);
    CHECK(run.stats.route > 0 && run.stats.nobody > 0 && run.stats.forwarded > 0);
    CHECK_INT(told.connected, 2);
    CHECK(told.samples > 20 && told.window_first != told.window_last);
    CHECK_INT(told.notes, 1);
    CHECK_INT(told.closed, 1);
    CHECK_INT(told.wrong, 0);
}
TEST(all_is_told_to_a_sink) { all_is_told(false); }
TEST(all_is_told_with_dtls) { all_is_told(true); }

/* What is opened was sealed, in the datagram of that number, and nothing else is. */
static void packets_are_seen(bool dtls) {
    uint32_t opened = 0;
    CHECK_INT(go(4, dtls, true, add_teller), 0);
    CHECK_INT(run_close(&run), 0);
    CHECK(told.packets > 100 && told.packets < PACKETS_MAX);
    for (uint32_t i = 0; i < told.packets; i++) {
        uint32_t k = i;
        if (told.packet[i].sent)
            continue;
        while (k > 0 &&
               (!told.packet[k].sent || told.packet[k].datagram != told.packet[i].datagram))
            k--;
        CHECK(told.packet[k].sent && told.packet[k].datagram == told.packet[i].datagram);
        CHECK(told.packet[k].hash == told.packet[i].hash);
        CHECK(told.packet[k].size == told.packet[i].size);
        CHECK(memcmp(told.packet[k].session, told.packet[i].session, 8) == 0);
        opened++;
    }
    CHECK(opened > 50 && opened < told.packets);
}
TEST(packets_are_seen_in_clear) { packets_are_seen(false); }
TEST(packets_are_seen_in_clear_with_dtls) { packets_are_seen(true); }

/* Boxes change addresses, and not who talks with whom. */
TEST(peers_are_known_through_boxes) {
    memset(&run, 0, sizeof run);
    run.seed = 10;
    run.wrapped = run.boxed = true;
    CHECK_INT(run_open(&run, true), 0);
    CHECK_INT(add_teller(&run), 0);
    CHECK_INT(run_go(&run), 0);
    CHECK_INT(run_close(&run), 0);
    CHECK_INT(run.got, RUN_BYTES);
    CHECK(told.packets > 100);
    CHECK_INT(told.wrong, 0);
}

TEST(watching_changes_nothing) {
    uint64_t digest;
    CHECK_INT(go(5, false, false, NULL), 0);
    CHECK_INT(run_close(&run), 0);
    digest = run.digest;
    CHECK_INT(go(5, false, true, add_teller), 0);
    CHECK_INT(run_close(&run), 0);
    CHECK(run.digest == digest);
}

TEST(samples_come_as_often_as_told) {
    uint32_t seldom;
    CHECK_INT(go(6, false, true, add_teller), 0);
    CHECK_INT(run_close(&run), 0);
    seldom = told.samples;
    memset(&run, 0, sizeof run);
    run.seed = 6;
    CHECK_INT(run_open(&run, true), 0);
    CHECK_INT(add_teller(&run), 0);
    p2p_see_sample_every(run.see, 0);
    CHECK_INT(run_go(&run), 0);
    CHECK_INT(run_close(&run), 0);
    CHECK(told.samples > 2 * seldom);
    CHECK_INT(told.packets, 0); /* the channels were not wrapped */
}

TEST(nine_sinks_are_too_many) {
    p2p_see_sink none;
    memset(&none, 0, sizeof none);
    memset(&run, 0, sizeof run);
    CHECK_INT(run_open(&run, true), 0);
    for (int i = 0; i < P2P_SEE_SINKS; i++)
        CHECK_INT(p2p_see_add(run.see, &none), 0);
    CHECK_INT(p2p_see_add(run.see, &none), P2P_ERR_LIMIT);
    CHECK(strstr(run.why.text, "P2P_SEE_SINKS") != NULL);
    CHECK_INT(p2p_see_set_vertex(run.see,
                                 "a name of sixty-four bytes, which is one more than a vertex can "
                                 "have.",
                                 &run.router, NULL),
              P2P_ERR_ARG);
    CHECK(p2p_see_find(run.see, &run.router) == NULL);
    CHECK_INT(run_close(&run), 0);
}

/* ---- files ---- */

static FILE *file;
static int add_pcap(see_run *r) {
    p2p_see_sink sink;
    int err = file ? p2p_pcap_open(file, &sink) : P2P_ERR_IO;
    return err < 0 ? err : p2p_see_add(r->see, &sink);
}

static int add_qlog(see_run *r) {
    p2p_qlog_desc desc;
    p2p_see_sink sink;
    int err;
    desc.title = "alice, bob \"and\" carol";
    desc.seed = r->seed;
    err = file ? p2p_qlog_open(file, &desc, &sink) : P2P_ERR_IO;
    return err < 0 ? err : p2p_see_add(r->see, &sink);
}

/* The bytes that a run writes; NULL when it failed. */
static char *bytes_of(uint64_t seed, int (*add)(see_run *), size_t *size) {
    char *bytes = NULL;
    int err;
    file = open_memstream(&bytes, size);
    err = go(seed, false, true, add);
    if (err == P2P_OK)
        err = run_close(&run);
    return err == P2P_OK ? bytes : NULL;
}
static void same_run_same_bytes(int (*add)(see_run *)) {
    size_t size[3] = {0, 0, 0};
    char *a = bytes_of(7, add, &size[0]), *b = bytes_of(7, add, &size[1]);
    char *c = bytes_of(8, add, &size[2]);
    bool same = a && b && size[0] == size[1] && memcmp(a, b, size[0]) == 0;
    bool other = a && c && (size[0] != size[2] || memcmp(a, c, size[0]) != 0);
    CHECK(a && b && c && size[0] > 10000);
    free(a);
    free(b);
    free(c);
    CHECK(same);
    CHECK(other);
}
TEST(same_run_same_capture) { same_run_same_bytes(add_pcap); }
TEST(same_run_same_log) { same_run_same_bytes(add_qlog); }

static void full_disk(int (*add)(see_run *)) {
    file = fopen("/dev/full", "wb");
    CHECK(file != NULL);
    CHECK_INT(go(9, false, true, add), 0);
    CHECK_INT(run_close(&run), P2P_ERR_IO);
}
TEST(full_disk_is_told_of_captures) { full_disk(add_pcap); }
TEST(full_disk_is_told_of_logs) { full_disk(add_qlog); }

/* ---- what test_see.py looks at ---- */

/* A line an item: time, fate, where, number, from, to, size. */
static FILE *list;
static void list_datagram(void *ctx, const p2p_see_datagram *d) {
    static const char *const names[] = {
#define NAME(upper, lower) #lower,
        P2P_SIM_FATES(NAME)
#undef NAME
    };
    char from[P2P_ADDR_TEXT_SIZE], to[P2P_ADDR_TEXT_SIZE] = "0.0.0.0:0";
    (void)ctx;
    (void)p2p_addr_text(&d->item->source, from);
    if (d->item->target.family)
        (void)p2p_addr_text(&d->item->target, to);
    (void)fprintf(list, "%llu %s %s %u %s %s %u %s\n", (unsigned long long)d->item->time_us,
                  names[d->item->fate], d->at->name, (unsigned)d->item->number, from, to,
                  (unsigned)d->item->data.size, d->next ? d->next->name : "-");
}
/* A line a packet that was seen in clear: where, datagram, "sent" or "opened", session, bytes. */
static FILE *packets;
static void put_hex(FILE *out, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++)
        (void)fprintf(out, "%02x", data[i]);
}
static void list_packet(void *ctx, const p2p_see_packet *p) {
    (void)ctx;
    (void)fprintf(packets, "%s %u %s ", p->at->name, (unsigned)p->datagram,
                  p->sent ? "sent" : "opened");
    put_hex(packets, p->session, sizeof p->session);
    (void)fputc(' ', packets);
    put_hex(packets, p->plain.data, p->plain.size);
    (void)fputc('\n', packets);
}
static int list_close(void *ctx) {
    int err = fclose(list) != 0;
    (void)ctx;
    return fclose(packets) != 0 || err ? P2P_ERR_IO : P2P_OK;
}

static FILE *open_in(const char *directory, const char *name, const char *ending) {
    char path[512];
    FILE *out;
    (void)snprintf(path, sizeof path, "%s/%s.%s", directory, name, ending);
    out = fopen(path, "wb");
    if (!out)
        perror(path);
    return out;
}

static FILE *keys;
static void log_key(void *ctx, const char *line) {
    (void)ctx;
    (void)fprintf(keys, "%s\n", line);
}

static const char *write_to, *write_name;
static int add_files(see_run *r) {
    p2p_see_sink sink;
    int err;
    file = open_in(write_to, write_name, "pcapng");
    list = open_in(write_to, write_name, "list");
    packets = open_in(write_to, write_name, "packets");
    if (!file || !list || !packets || (err = add_pcap(r)) < 0)
        return P2P_ERR_IO;
    file = open_in(write_to, write_name, "sqlog");
    if ((err = add_qlog(r)) < 0)
        return err;
    memset(&sink, 0, sizeof sink);
    sink.datagram = list_datagram;
    sink.packet = list_packet;
    sink.close = list_close;
    return p2p_see_add(r->see, &sink);
}

static int write_run(const char *directory, const char *name, bool dtls) {
    int err;
    write_to = directory;
    write_name = name;
    keys = open_in(directory, name, "keys");
    if (!keys)
        return P2P_ERR_IO;
    p2p_mbedtls_keylog(log_key, NULL);
    err = go(1, dtls, true, add_files);
    p2p_mbedtls_keylog(NULL, NULL);
    if (err == P2P_OK)
        err = run_close(&run);
    if (fclose(keys) != 0 && err == P2P_OK)
        err = P2P_ERR_IO;
    if (err < 0)
        (void)fprintf(stderr, "%s: %s %s\n", name, p2p_err_name(err), run.why.text);
    return err;
}

/* ---- bytes that no node would send, for the dissector ---- */

enum { KEPT = 300, KEPT_SIZE = 1400 };
static struct {
    uint8_t plain[KEPT_SIZE];
    size_t size;
} kept[KEPT];
static size_t kept_count;

static void keep(const uint8_t *data, size_t size) {
    if (kept_count == KEPT || size > KEPT_SIZE || size == 0)
        return;
    memcpy(kept[kept_count].plain, data, size);
    kept[kept_count++].size = size;
}
static void keep_packet(void *ctx, const p2p_see_packet *p) {
    (void)ctx;
    if (p->sent)
        keep(p->plain.data, p->plain.size);
}
static int add_keeper(see_run *r) {
    p2p_see_sink sink;
    memset(&sink, 0, sizeof sink);
    sink.packet = keep_packet;
    return p2p_see_add(r->see, &sink);
}

/* Whether p2p.h takes it for a packet. */
static bool well_formed(const uint8_t *plain, size_t size) {
    p2p__reader r = p2p__reader_of(plain, size);
    p2p__frame f;
    p2p__hello hello;
    int rc;
    (void)p2p__get_varint(&r);
    while ((rc = p2p__frame_get(&r, &f)) == 1)
        if (f.type == P2P__FRAME_HELLO && p2p__hello_get(f.data, &hello) < 0)
            return false;
    return rc == 0;
}

/* One to three bytes change; now and then it is cut. */
static size_t mutate(uint64_t *random, uint8_t *data, size_t size) {
    uint64_t n = p2p_sim__below(random, 4), i;
    for (i = 0; i < n; i++)
        data[p2p_sim__below(random, size < 40 || i ? size : 40)] = (uint8_t)p2p_sim__draw(random);
    return p2p_sim__below(random, 4) ? size : 1 + (size_t)p2p_sim__below(random, size);
}

/* A data datagram of the null channel around it; what comes before it changes as well at times. */
static size_t wrap(uint64_t *random, uint8_t *out, const uint8_t *plain, size_t size, bool whole) {
    static const uint8_t head[10] = {0xbf, 0xb4, 1, 2, 3, 4, 5, 6, 7, 8};
    memset(out, 0, 18);
    memcpy(out, head, sizeof head);
    memcpy(out + 18, plain, size);
    p2p_sim__store(out + 18 + size, p2p_sim__hash(1, plain, size));
    size += 26;
    if (!whole)
        out[p2p_sim__below(random, 12)] = (uint8_t)p2p_sim__draw(random);
    return whole ? size : 1 + (size_t)p2p_sim__below(random, size);
}

/* A line a datagram: what p2p.h says of the packet in it, or "any" where there may be none. */
static void write_one(const p2p_see_sink *sink, uint64_t *random, uint32_t number) {
    static uint8_t plain[KEPT_SIZE], datagram[KEPT_SIZE + 32];
    size_t from = number % kept_count, size;
    bool whole = p2p_sim__below(random, 5) != 0;
    p2p_sim_trace_item item;
    p2p_see_datagram d;
    p2p_see_vertex vertex;
    memset(&item, 0, sizeof item);
    memset(&d, 0, sizeof d);
    memset(&vertex, 0, sizeof vertex);
    memcpy(plain, kept[from].plain, kept[from].size);
    size = number < kept_count ? kept[from].size : mutate(random, plain, kept[from].size);
    whole = whole || number < kept_count;
    item.number = number;
    item.data.data = datagram;
    item.data.size = wrap(random, datagram, plain, size, whole);
    item.source.family = item.target.family = 4;
    item.source.port = item.target.port = 4000;
    d.item = &item;
    d.from = d.to = d.at = &vertex;
    (void)strcpy(vertex.name, "fuzz");
    sink->datagram(sink->ctx, &d);
    (void)fprintf(list, "%s\n", !whole ? "any" : well_formed(plain, size) ? "good" : "bad");
}

/* ---- datagrams that a run of nodes has not: the largest, IPv6, odd sizes, to nobody ---- */

static void write_odd_one(const p2p_see_sink *sink, size_t size, uint8_t family, uint8_t fill) {
    static uint8_t data[65535];
    static const uint8_t from[16] = {10, 0, 0, 1}, to[16] = {0xfd, 0, 0xff, 0xff, 1};
    p2p_sim_trace_item item;
    p2p_see_datagram d;
    p2p_see_vertex vertex;
    memset(&item, 0, sizeof item);
    memset(&d, 0, sizeof d);
    memset(&vertex, 0, sizeof vertex);
    memset(data, fill, sizeof data);
    (void)strcpy(vertex.name, "odd");
    item.data.data = data;
    item.data.size = size;
    item.source.family = family;
    item.source.port = 9;
    memcpy(item.source.ip, from, sizeof from);
    memcpy(item.target.ip, to, family == 4 ? 4 : 16);
    item.target.family = fill ? family : 0;
    d.item = &item;
    d.from = d.at = &vertex;
    sink->datagram(sink->ctx, &d);
}

static int write_odd(const char *directory) {
    static const size_t sizes[] = {1, 2, 3, 1201, 65507, 65508, 65527, 65528, 65535};
    p2p_see_sink sink;
    file = open_in(directory, "odd", "pcapng");
    if (!file || p2p_pcap_open(file, &sink) < 0)
        return -1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int fill = 0; fill < 256; fill += 51) {
            write_odd_one(&sink, sizes[i], 4, (uint8_t)fill);
            write_odd_one(&sink, sizes[i], 6, (uint8_t)fill);
        }
    return sink.close(sink.ctx);
}

/* Packets of a run, files of the corpus, and both with changed bytes. */
static int write_fuzz(const char *directory, const char *seed, int count, char **files) {
    uint64_t random = strtoull(seed, NULL, 10);
    p2p_see_sink sink;
    if (go(2, false, true, add_keeper) < 0 || run_close(&run) < 0)
        return 1;
    kept_count = kept_count > KEPT / 2 ? KEPT / 2 : kept_count;
    for (int i = 0; i < count; i++) {
        uint8_t bytes[KEPT_SIZE] = {9}; /* a packet number */
        FILE *in = fopen(files[i], "rb");
        size_t n = in ? fread(bytes + 1, 1, sizeof bytes - 1, in) : 0;
        if (in)
            (void)fclose(in);
        keep(bytes, n + 1);
    }
    file = open_in(directory, "fuzz", "pcapng");
    list = open_in(directory, "fuzz", "list");
    if (!file || !list || p2p_pcap_open(file, &sink) < 0)
        return 1;
    for (uint32_t i = 0; i < 10 * kept_count; i++)
        write_one(&sink, &random, i);
    return sink.close(sink.ctx) < 0 || fclose(list) != 0;
}

static int run_tests(int argc, char **argv);
int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "--fuzz") == 0)
        return write_fuzz(argv[2], argv[3], argc - 4, argv + 4);
    if (argc != 3 || strcmp(argv[1], "--write") != 0)
        return run_tests(argc, argv);
    return write_run(argv[2], "clear", false) < 0 || write_run(argv[2], "dtls", true) < 0 ||
           write_odd(argv[2]) < 0;
}

static int run_tests(int argc, char **argv) {
    static const test_entry all[] = {P2P_TEST_ENTRY(all_is_told_to_a_sink),
                                     P2P_TEST_ENTRY(all_is_told_with_dtls),
                                     P2P_TEST_ENTRY(packets_are_seen_in_clear),
                                     P2P_TEST_ENTRY(packets_are_seen_in_clear_with_dtls),
                                     P2P_TEST_ENTRY(peers_are_known_through_boxes),
                                     P2P_TEST_ENTRY(watching_changes_nothing),
                                     P2P_TEST_ENTRY(samples_come_as_often_as_told),
                                     P2P_TEST_ENTRY(nine_sinks_are_too_many),
                                     P2P_TEST_ENTRY(same_run_same_capture),
                                     P2P_TEST_ENTRY(same_run_same_log),
                                     P2P_TEST_ENTRY(full_disk_is_told_of_captures),
                                     P2P_TEST_ENTRY(full_disk_is_told_of_logs)};
    return test_run_all(all, sizeof all / sizeof *all, argc, argv);
}
