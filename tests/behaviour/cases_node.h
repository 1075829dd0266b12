/* The node: what open refuses, exact memory, timers, stop, re-entry, junk from outside. */

/* A desc of this world with all tables filled in, to be opened by hand. */
static p2p_random test_entropy;
static uint64_t entropy_state;
static int entropy_fill(void *ctx, void *out, size_t size) {
    uint8_t *bytes = (uint8_t *)out;
    (void)ctx;
    for (size_t i = 0; i < size; i++) {
        entropy_state = entropy_state * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(entropy_state >> 56);
    }
    return P2P_OK;
}

static void plain_desc(p2p_desc *desc, p2p_error_detail *why) {
    memset(desc, 0, sizeof *desc);
    memset(why, 0, sizeof *why);
    desc->why = why;
    test_entropy.fill = entropy_fill;
    desc->random = test_entropy;
    CHECK_INT(p2p_sodium_crypto(&desc->crypto), 0);
    CHECK_INT(p2p_mbedtls_secure(&desc->secure), 0);
}

/* Opens with as much arena as is asked for and returns what open says; closes again. */
static int try_open(const p2p_desc *desc) {
    p2p_node *node = NULL;
    size_t size = p2p_arena_size(desc);
    uint64_t *arena = (uint64_t *)malloc(size ? size : 64);
    int err = p2p_node_open(&node, desc, arena, size ? size : 64);
    if (err == P2P_OK)
        p2p_node_close(node);
    free(arena);
    return err;
}

static void expect_exact_arena(const p2p_desc *desc) {
    p2p_node *node = NULL;
    size_t size = p2p_arena_size(desc);
    uint8_t *arena = (uint8_t *)malloc(size + 64);
    int err;
    if (!size)
        printf("    %s\n", desc->why->text);
    CHECK(size > 0);
    memset(arena, 0xa5, size + 64);
    err = p2p_node_open(&node, desc, arena, size - 1);
    if (err == P2P_ERR_ARENA && desc->why->max == size) {
        err = p2p_node_open(&node, desc, arena, size);
        if (err == P2P_OK) {
            CHECK_INT(p2p_check(node), 0);
            p2p_node_close(node);
        }
    } else {
        err = err == P2P_OK ? P2P_ERR_STATE : err;
    }
    for (int i = 0; i < 64; i++)
        CHECK_INT(arena[size + (size_t)i], 0xa5);
    free(arena);
    CHECK_INT(err, P2P_OK);
}

TEST(arena_is_exact) {
    p2p_error_detail why;
    p2p_desc desc;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    expect_exact_arena(&desc);
    for (uint32_t i = 1; i < 40; i++) {
        desc.max.conns = i;
        desc.max.half_open = 1 + i / 3;
        desc.max.streams = 1 + i * 7 % 5;
        desc.max.peer_streams = i * 3 % 7 ? i * 3 % 7 : P2P_NONE;
        desc.max.in_flight = 2 * i + i * 13 % 97;
        desc.max.routes = i % 4 ? i : P2P_NONE;
        desc.max.datagrams_in = i % 3 ? i : P2P_NONE;
        desc.bytes.stream_send = 256 + i * 37;
        desc.bytes.stream_recv = 300 + i * 11;
        desc.bytes.peer_recv = 2048 + i;
        desc.bytes.message_send = 1000 + i * 3;
        desc.bytes.message_max = i % 5 ? 5000 : P2P_NONE;
        expect_exact_arena(&desc);
        CHECK_SO_FAR();
    }
}

TEST(arena_text_adds_up) {
    p2p_error_detail why;
    p2p_desc desc;
    char text[4096];
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    CHECK(p2p_arena_text(&desc, text, sizeof text) > 20);
    CHECK(strstr(text, "streams") != NULL);
    CHECK_INT(p2p_arena_text(&desc, text, 5), P2P_ERR_TOO_LARGE);
}

TEST(arena_must_be_aligned) {
    static uint64_t arena[1];
    p2p_error_detail why;
    p2p_node *node;
    p2p_desc desc;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    CHECK_INT(p2p_node_open(&node, &desc, (uint8_t *)arena + 1, p2p_arena_size(&desc)),
              P2P_ERR_ARG);
    CHECK_INT(p2p_node_open(&node, &desc, NULL, 1 << 20), P2P_ERR_ARG);
    CHECK_INT(p2p_node_open(&node, NULL, arena, sizeof arena), P2P_ERR_ARG);
    CHECK_INT(p2p_node_open_abi(&node, &desc, arena, sizeof arena, P2P_ABI ^ 1), P2P_ERR_ABI);
}

TEST(a_desc_that_nobody_zeroed) {
    p2p_error_detail why;
    p2p_desc desc;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    desc._canary_start = 0xcdcdcdcdu;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    desc._canary_start = 0;
    desc._canary_end = 1;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK_INT(p2p_arena_size(&desc), 0);
    CHECK_INT(why.err, P2P_ERR_CONFIG);
    desc._canary_end = 0;
    CHECK_INT(try_open(&desc), P2P_OK);
}

TEST(keys_that_are_refused) {
    static const uint8_t sim_seed[32] = "p2p.h SIM ONLY!!alice";
    p2p_error_detail why;
    p2p_desc desc;
    p2p_key key;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    memset(&key, 0, sizeof key);
    desc.key = &key;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "key") != NULL || strstr(why.text, "seed") != NULL);
    memcpy(key.seed, sim_seed, 32);
    CHECK_INT(desc.crypto.api->public_key(desc.crypto.ctx, key.seed, &key.id), 0);
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "simul") != NULL);
    key.seed[0] = 'q';
    CHECK_INT(try_open(&desc), P2P_OK);
}

/* The id of a key is computed anew: to sign under another one would leak the key. */
TEST(id_is_computed_from_the_seed) {
    uint64_t *arena;
    p2p_error_detail why;
    p2p_node *node;
    p2p_desc desc;
    p2p_key key, lie;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    CHECK_INT(p2p_key_generate(&desc.crypto, &desc.random, &key), 0);
    lie = key;
    lie.id.bytes[3] ^= 1;
    desc.key = &lie;
    arena = (uint64_t *)malloc(p2p_arena_size(&desc));
    CHECK_INT(p2p_node_open(&node, &desc, arena, p2p_arena_size(&desc)), 0);
    CHECK(p2p_id_equal(p2p_node_id(node), &key.id));
    p2p_node_close(node);
    free(arena);
}

/* Channels that call themselves insecure, and the simulator's own, are for the simulator alone. */
TEST(insecure_channels_are_refused) {
    p2p_error_detail why;
    p2p_secure_api weak;
    p2p_desc desc;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    weak = *desc.secure.api;
    weak.insecure = 1;
    desc.secure.api = &weak;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(why.text[0] != 0);
    desc.secure.api = &p2p_sim__null_api;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    desc.secure.api = NULL;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
}

TEST(missing_tables_are_refused) {
    p2p_error_detail why;
    p2p_desc desc;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    desc.crypto.api = NULL;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "crypto") != NULL);
    plain_desc(&desc, &why);
    desc.random.fill = NULL;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "random") != NULL);
}

static int entropy_zero(void *ctx, void *out, size_t size) {
    (void)ctx;
    memset(out, 0, size);
    return P2P_OK;
}
static int entropy_fails(void *ctx, void *out, size_t size) {
    (void)ctx;
    (void)out;
    (void)size;
    return P2P_ERR_IO;
}

TEST(bad_entropy_is_refused) {
    p2p_error_detail why;
    p2p_desc desc;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    desc.random.fill = entropy_zero;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    desc.random.fill = entropy_fails;
    CHECK(try_open(&desc) < 0);
}

TEST(settings_out_of_range_are_named) {
    p2p_error_detail why;
    p2p_desc desc;
    char network[66];
    memset(network, 'n', sizeof network);
    network[65] = 0;
    plain_desc(&desc, &why);
    CHECK_SO_FAR();
    desc.network = network;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "network") != NULL);
    desc.network = "";
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    network[64] = 0;
    desc.network = network;
    CHECK_INT(try_open(&desc), P2P_OK);
    plain_desc(&desc, &why);
    desc.congestion = 77;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "congestion") != NULL);
    plain_desc(&desc, &why);
    desc.link.mtu = 100;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    CHECK(strstr(why.text, "mtu") != NULL);
    plain_desc(&desc, &why);
    desc.link.mtu = 1u << 20;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
    plain_desc(&desc, &why);
    desc.max.half_open = 9;
    desc.max.conns = 8;
    CHECK_INT(try_open(&desc), P2P_ERR_CONFIG);
}

TEST(timers) {
    uint64_t now;
    const seen *s;
    world_open(1, NULL);
    CHECK_SO_FAR();
    now = world_now();
    CHECK(p2p_timer_set(A->node, 4, now) < 0);
    CHECK_DONE(p2p_timer_set(A->node, 2, now + 300 * MS));
    CHECK_DONE(p2p_timer_set(A->node, 1, now + 100 * MS));
    CHECK_DONE(p2p_timer_set(A->node, 3, now + 200 * MS));
    CHECK_DONE(p2p_timer_set(A->node, 3, P2P_NEVER));
    CHECK_DONE(p2p_timer_set(A->node, 0, now + 50 * MS));
    CHECK_DONE(p2p_timer_set(A->node, 0, now + 400 * MS));
    drive(NULL, NULL, 800 * MS);
    CHECK_INT(A->count, 3);
    for (int i = 0; i < 3; i++) {
        static const uint32_t order[] = {1, 2, 0}, due_ms[] = {100, 300, 400};
        s = &A->log[i];
        CHECK_INT(s->event.type, P2P_EVENT_TIMER);
        CHECK_INT(s->event.code, order[i]);
        CHECK(s->at_us >= now + due_ms[i] * MS);
        CHECK(s->at_us <= now + (due_ms[i] + 100) * MS);
    }
}

TEST(deadline_is_exact) {
    uint64_t now, at;
    world_open(1, NULL);
    CHECK_SO_FAR();
    world_step();
    now = p2p_now(A->node);
    at = now + 90 * MS;
    CHECK_DONE(p2p_timer_set(A->node, 0, at));
    CHECK(p2p_deadline(A->node) <= at);
    CHECK(p2p_wakeup(A->node) <= at);
    A->deaf = 1;
    drive(NULL, NULL, 150 * MS);
    CHECK_INT(p2p_deadline(A->node), 0);
    CHECK(p2p_wakeup(A->node) > 0);
    A->deaf = 0;
    CHECK(await(A, P2P_EVENT_TIMER, 10 * MS) != NULL);
    CHECK(p2p_deadline(A->node) > 0);
}

TEST(stop_says_goodbye) {
    p2p_stream mine, theirs;
    char got[8];
    const seen *s;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_send(A->node, AB, "last", 4));
    CHECK_DONE(p2p_node_stop(A->node, 77));
    CHECK(p2p_connect(A->node, &B->id, NULL, &AB) < 0);
    s = await_conn(B, P2P_EVENT_DISCONNECTED, BA, 3 * SECOND);
    CHECK(s != NULL);
    CHECK_INT(s->event.code, 77);
    CHECK(await(A, P2P_EVENT_STOPPED, 3 * SECOND) != NULL);
    CHECK(index_of(A, P2P_EVENT_DISCONNECTED) >= 0);
    CHECK(index_of(A, P2P_EVENT_DISCONNECTED) < index_of(A, P2P_EVENT_STOPPED));
    CHECK(index_of(B, P2P_EVENT_MESSAGE) >= 0);
    (void)got;
}

TEST(stop_takes_no_new_callers) {
    const seen *s;
    world_open(2, NULL);
    listen_at(B, &LB);
    introduce(A, B);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_node_stop(B->node, 0));
    CHECK(await(B, P2P_EVENT_STOPPED, 3 * SECOND) != NULL);
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, &AB), 0);
    s = await_conn(A, P2P_EVENT_DISCONNECTED, AB, 3 * SECOND);
    CHECK(s != NULL);
    CHECK(s->event.err < 0);
    CHECK_INT(count_events(A, P2P_EVENT_CONNECTED), 0);
}

/* With a peer that is gone, stop ends all the same. */
TEST(stop_ends_in_time) {
    uint64_t start;
    const seen *s;
    p2p_stream mine, theirs;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    world_cut_off(B);
    CHECK_INT(p2p_stream_write(A->node, mine, "never there", 11), 11);
    start = world_now();
    CHECK_DONE(p2p_node_stop(A->node, 1));
    s = await(A, P2P_EVENT_STOPPED, 5 * SECOND);
    CHECK(s != NULL);
    CHECK(s->at_us - start <= 1200 * MS);
    CHECK(index_of(A, P2P_EVENT_CLOSED) >= 0);
    CHECK(index_of(A, P2P_EVENT_CLOSED) < index_of(A, P2P_EVENT_DISCONNECTED));
    CHECK(index_of(A, P2P_EVENT_DISCONNECTED) < index_of(A, P2P_EVENT_STOPPED));
}

/* Bytes that any stranger can send are counted, never answered, and touch nothing. */
TEST(junk_gets_no_answer) {
    static const uint8_t firsts[] = {0,    1,    20,   22,   63,   64,   0x80, 0xb0, 0xb1, 0xb2,
                                     0xb3, 0xb4, 0xb5, 0xb6, 0xb8, 0xbe, 0xbf, 0xc0, 0xff};
    p2p_metrics before, after;
    uint8_t data[1400];
    p2p_packet in, out;
    p2p_stream mine, theirs;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    drive(NULL, NULL, 300 * MS);
    p2p_metrics_get(B->node, &before);
    for (uint32_t i = 0; i < 2000; i++) {
        size_t size = 1 + i * 7919u % (sizeof data - 1);
        memset(&in, 0, sizeof in);
        in.remote = dead_addr();
        for (size_t j = 0; j < size; j++)
            data[j] = (uint8_t)(i * 31 + j * 17 + (i * j >> 3));
        data[0] = firsts[i % sizeof firsts];
        in.data = data;
        in.size = size;
        CHECK_INT(p2p_input(B->node, p2p_now(B->node), &in), 0);
    }
    p2p_metrics_get(B->node, &after);
    CHECK_INT(after.value[P2P_METRIC_datagrams_in] - before.value[P2P_METRIC_datagrams_in], 2000);
    CHECK_INT(after.value[P2P_METRIC_sessions_open], before.value[P2P_METRIC_sessions_open]);
    memset(&out, 0, sizeof out);
    out.data = data;
    out.size = sizeof data;
    CHECK_INT(p2p_output(B->node, p2p_now(B->node), &out), 0);
    expect_text(B, theirs, "!");
    CHECK(p2p_is_connected(B->node, BA));
}

TEST(metrics_as_text) {
    static const struct {
        const char *name, *kind;
    } rows[] = {
#define ROW(name, kind, meaning) {#name, kind},
        P2P_METRICS(ROW)
#undef ROW
    };
    static char text[32768];
    int n;
    world_pair(NULL);
    CHECK_SO_FAR();
    n = p2p_metrics_text(A->node, text, sizeof text);
    CHECK(n > 0);
    CHECK_INT(strlen(text), n);
    CHECK(strstr(text, "\np2p_conns_open 1\n") != NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char type[96];
        snprintf(type, sizeof type, "# TYPE p2p_%s %s\np2p_%s ", rows[i].name, rows[i].kind,
                 rows[i].name);
        CHECK(strstr(text, type) != NULL);
    }
    CHECK_INT(p2p_metrics_text(A->node, text, (size_t)n), P2P_ERR_TOO_LARGE);
}

static struct { int input, output, events, ran; } reentry;

static void meddle(p2p_node *node, const p2p_request *request, void *ctx) {
    uint8_t data[1500] = {0xb0};
    p2p_packet packet;
    p2p_event event;
    (void)ctx;
    memset(&packet, 0, sizeof packet);
    packet.data = data;
    packet.size = 100;
    packet.remote = dead_addr();
    reentry.ran++;
    reentry.input = p2p_input(node, p2p_now(node), &packet);
    packet.size = sizeof data;
    reentry.output = p2p_output(node, p2p_now(node), &packet);
    reentry.events = p2p_next_event(node, &event);
    p2p_poll(node, p2p_now(node));
    p2p_node_close(node);
    p2p_reply(node, request->stream, 200, NULL, 0, NULL, 0);
}

/* From a handler the calls that drive are P2P_ERR_STATE and change nothing. */
TEST(no_driving_from_a_handler) {
    p2p_request_desc ask;
    p2p_route route;
    p2p_stream s;
    const seen *e;
    memset(&ask, 0, sizeof ask);
    memset(&route, 0, sizeof route);
    memset(&reentry, 0, sizeof reentry);
    route.pattern = "/x";
    route.handler = meddle;
    ask.path = "/x";
    world_pair(NULL);
    CHECK_SO_FAR();
    CHECK_DONE(p2p_route_add(B->node, &route));
    CHECK_DONE(p2p_request_send(A->node, AB, &ask, &s));
    e = await_stream(A, P2P_EVENT_RESPONSE, s, 3 * SECOND);
    CHECK(e != NULL);
    CHECK_INT(e->event.status, 200);
    CHECK_INT(reentry.ran, 1);
    CHECK_INT(reentry.input, P2P_ERR_STATE);
    CHECK_INT(reentry.output, P2P_ERR_STATE);
    CHECK_INT(reentry.events, P2P_ERR_STATE);
}

static int log_lines;
static void count_log(void *ctx, int level, const char *item, const char *text) {
    (void)ctx;
    log_lines += level >= 1 && level <= 4 && item && item[0] && text;
}
static void with_log(actor *self) {
    self->desc.log.fn = count_log;
    self->desc.log.level = 4;
}

TEST(log_tells_of_connections) {
    log_lines = 0;
    world_pair(with_log);
    CHECK_SO_FAR();
    CHECK(log_lines > 0);
}

TEST(null_arguments) {
    p2p_stream mine, theirs;
    pair_with_stream(NULL, &mine, &theirs);
    CHECK_SO_FAR();
    CHECK_INT(p2p_connect(A->node, NULL, NULL, &AB), P2P_ERR_ARG);
    CHECK_INT(p2p_connect(A->node, &B->id, NULL, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_peer_add(A->node, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_send(A->node, AB, NULL, 5), P2P_ERR_ARG);
    CHECK_INT(p2p_stream_write(A->node, mine, NULL, 5), P2P_ERR_ARG);
    CHECK_INT(p2p_stream_read(B->node, theirs, NULL, 5), P2P_ERR_ARG);
    CHECK_INT(p2p_stream_peek(B->node, theirs, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_route_add(A->node, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_request_send(A->node, AB, NULL, &mine), P2P_ERR_ARG);
    CHECK_INT(p2p_input(A->node, 0, NULL), P2P_ERR_ARG);
}

#define CASES_NODE(X)                  \
    X(arena_is_exact)                  \
    X(arena_text_adds_up)              \
    X(arena_must_be_aligned)           \
    X(a_desc_that_nobody_zeroed)       \
    X(keys_that_are_refused)           \
    X(id_is_computed_from_the_seed)    \
    X(insecure_channels_are_refused)   \
    X(missing_tables_are_refused)      \
    X(bad_entropy_is_refused)          \
    X(settings_out_of_range_are_named) \
    X(timers)                          \
    X(deadline_is_exact)               \
    X(stop_says_goodbye)               \
    X(stop_takes_no_new_callers)       \
    X(stop_ends_in_time)               \
    X(junk_gets_no_answer)             \
    X(metrics_as_text)                 \
    X(no_driving_from_a_handler)       \
    X(log_tells_of_connections)        \
    X(null_arguments)
