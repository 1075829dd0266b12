/* The streamer and the speaker of examples/, unchanged, in the simulator: what their programs do
 * over UDP. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
#include "p2p_test.h"
#include "../../examples/streamer_app.h"
#include "../../examples/speaker_app.h"
#include <sodium.h>

enum { TRACK = 700001, ARENA_WORDS = 8 << 20, SECOND_US = 1000000 };

typedef struct loudspeaker {
    uint8_t bytes[TRACK];
    size_t size, room; /* room: what may be taken before the loudspeaker is full */
    bool overrun;
} loudspeaker;

static struct {
    uint64_t arena[ARENA_WORDS];
    uint8_t track[TRACK];
    p2p_sim *sim;
    p2p_node *streamer_node, *speaker_node;
    streamer streamer;
    speaker speaker;
    loudspeaker out;
    uint32_t lost;
} world;

static void hash(const uint8_t *data, size_t size, char out[65]) {
    uint8_t bytes[crypto_hash_sha256_BYTES];
    (void)crypto_hash_sha256(bytes, data, size);
    (void)sodium_bin2hex(out, 65, bytes, sizeof bytes);
}

static size_t take(void *ctx, const uint8_t *data, size_t size) {
    loudspeaker *l = (loudspeaker *)ctx;
    size = size < l->room ? size : l->room;
    if (size > TRACK - l->size) {
        l->overrun = true;
        size = TRACK - l->size;
    }
    memcpy(l->bytes + l->size, data, size);
    l->size += size;
    l->room -= size;
    return size;
}

static void end(void *ctx, char sha256[65]) {
    loudspeaker *l = (loudspeaker *)ctx;
    hash(l->bytes, l->size, sha256);
}

static void on_event(void *ctx, p2p_sim *sim, p2p_node *node, const p2p_event *e) {
    (void)ctx;
    (void)sim;
    if (node == world.streamer_node)
        streamer_event(&world.streamer, node, e);
    if (node != world.speaker_node)
        return;
    world.lost += e->type == P2P_EVENT_DISCONNECTED;
    speaker_event(&world.speaker, node, e);
}

static void open_network(uint64_t seed, uint32_t loss_ppm) {
    static p2p_error_detail why;
    p2p_sim_desc net;
    memset(&world.streamer, 0, sizeof world.streamer);
    memset(&world.speaker, 0, sizeof world.speaker);
    memset(&world.out, 0, sizeof world.out);
    world.lost = 0;
    world.sim = NULL;
    world.out.room = SIZE_MAX;
    memset(&net, 0, sizeof net);
    net.seed = seed;
    net.link.latency_us = 20000;
    net.link.rate_bps = 20000000;
    net.link.queue_bytes = 100000;
    net.link.loss_ppm = loss_ppm;
    net.on_event = on_event;
    net.why = &why;
    if (p2p_sim_open(&world.sim, &net, world.arena, sizeof world.arena) < 0)
        printf("    %s\n", why.text);
    CHECK(world.sim != NULL);
}

static void open_nodes(void) {
    p2p_desc desc;
    memset(&desc, 0, sizeof desc);
    streamer_limits(&desc);
    CHECK_INT(p2p_sim_node(world.sim, "streamer", &desc, &world.streamer_node), P2P_OK);
    memset(&desc, 0, sizeof desc);
    speaker_limits(&desc);
    CHECK_INT(p2p_sim_node(world.sim, "speaker", &desc, &world.speaker_node), P2P_OK);
    CHECK_INT(p2p_sim_connect(world.sim, p2p_node_id(world.streamer_node),
                              p2p_node_id(world.speaker_node), NULL),
              P2P_OK);
}

static void start_apps(const char *name) {
    streamer_track *track = &world.streamer.tracks[0];
    size_t i;
    for (i = 0; i < TRACK; i++)
        world.track[i] = (uint8_t)(i * i / 251 + i);
    track->name = "song.wav";
    track->type = "audio/wav";
    track->data = world.track;
    track->size = TRACK;
    hash(world.track, TRACK, track->sha256);
    world.streamer.track_count = 1;
    world.streamer.volume = "40";
    CHECK(streamer_start(&world.streamer, world.streamer_node) >= 0);
    CHECK_INT(p2p_ticket_of(world.streamer_node, &world.speaker.streamer), P2P_OK);
    memcpy(world.speaker.track_name, name, strlen(name) + 1);
    world.speaker.sink.take = take;
    world.speaker.sink.end = end;
    world.speaker.sink.ctx = &world.out;
    CHECK_INT(speaker_start(&world.speaker, world.speaker_node), P2P_OK);
}

static void begin(uint64_t seed, uint32_t loss_ppm, const char *name) {
    open_network(seed, loss_ppm);
    CHECK_SO_FAR();
    open_nodes();
    CHECK_SO_FAR();
    start_apps(name);
}

static void check_played(void) {
    CHECK(world.speaker.done);
    CHECK_INT(world.speaker.err, P2P_OK);
    CHECK_INT(world.out.size, TRACK);
    CHECK(!world.out.overrun);
    CHECK_BYTES(world.out.bytes, world.track, TRACK);
    CHECK_STR(world.speaker.sha256, world.streamer.tracks[0].sha256);
    CHECK(world.speaker.agreed);
    CHECK_INT(world.streamer.heard, 1);
    CHECK_INT(world.streamer.differed, 0);
    CHECK_INT(world.speaker.volume, 40);
}

TEST(plays_to_the_end) {
    begin(1, 0, "song.wav");
    CHECK_SO_FAR();
    (void)p2p_sim_run_until(world.sim, 20 * SECOND_US);
    check_played();
    CHECK_SO_FAR();
    CHECK_INT(world.streamer.volumes_set, 1);
    CHECK_INT(p2p_check(world.streamer_node), P2P_OK);
    CHECK_INT(p2p_check(world.speaker_node), P2P_OK);
    p2p_sim_close(world.sim);
}

TEST(plays_over_a_lossy_link) {
    int i;
    for (i = 0; i < test_seeds(5); i++) {
        begin(test_seed(), 50000, "song.wav");
        CHECK_SO_FAR();
        (void)p2p_sim_run_until(world.sim, 120 * (uint64_t)SECOND_US);
        check_played();
        CHECK_SO_FAR();
        p2p_sim_close(world.sim);
    }
}

/* A loudspeaker that is full takes nothing: the streamer waits, and nothing is lost or kept
 * elsewhere. */
TEST(waits_for_a_slow_loudspeaker) {
    uint64_t turn;
    begin(2, 0, "song.wav");
    CHECK_SO_FAR();
    world.out.room = 0;
    (void)p2p_sim_run_until(world.sim, 10 * SECOND_US);
    CHECK_INT(world.out.size, 0);
    CHECK(!world.speaker.done);
    for (turn = 0; turn < 400 && !world.speaker.done; turn++) {
        world.out.room = 4000;
        speaker_pump(&world.speaker, world.speaker_node);
        (void)p2p_sim_run_until(world.sim, 10 * SECOND_US + (turn + 1) * 50000);
        CHECK(world.out.size <= (size_t)(turn + 1) * 4000);
    }
    (void)p2p_sim_run_until(world.sim, 40 * SECOND_US);
    check_played();
    CHECK_SO_FAR();
    p2p_sim_close(world.sim);
}

/* The network breaks for longer than the idle timeout: a new connection fetches the rest by a
 * range. */
TEST(goes_on_after_a_break) {
    p2p_id a, b;
    begin(3, 0, "song.wav");
    CHECK_SO_FAR();
    a = *p2p_node_id(world.streamer_node);
    b = *p2p_node_id(world.speaker_node);
    (void)p2p_sim_run_until(world.sim, 250000);
    CHECK(world.out.size > 0 && world.out.size < TRACK);
    CHECK_INT(p2p_sim_partition(world.sim, &a, 1, &b, 1), P2P_OK);
    (void)p2p_sim_run_until(world.sim, 45 * (uint64_t)SECOND_US);
    CHECK(world.lost > 0 && !world.speaker.done);
    CHECK_INT(p2p_sim_heal(world.sim, &a, 1, &b, 1), P2P_OK);
    (void)p2p_sim_run_until(world.sim, 180 * (uint64_t)SECOND_US);
    check_played();
    CHECK_SO_FAR();
    p2p_sim_close(world.sim);
}

TEST(an_unknown_track_is_an_error) {
    begin(4, 0, "nothing.wav");
    CHECK_SO_FAR();
    (void)p2p_sim_run_until(world.sim, 20 * SECOND_US);
    CHECK(world.speaker.done);
    CHECK_INT(world.speaker.err, P2P_ERR_NOT_FOUND);
    CHECK_INT(world.streamer.heard, 0);
    p2p_sim_close(world.sim);
}

TEST(gives_up_when_nobody_answers) {
    p2p_id gone;
    begin(5, 0, "song.wav");
    CHECK_SO_FAR();
    gone = *p2p_node_id(world.streamer_node);
    CHECK_INT(p2p_sim_crash(world.sim, &gone), P2P_OK);
    world.streamer_node = NULL;
    (void)p2p_sim_run_until(world.sim, 600 * (uint64_t)SECOND_US);
    CHECK(world.speaker.done);
    CHECK_INT(world.speaker.err, P2P_ERR_TIMEOUT);
    CHECK_INT(world.speaker.tries, SPEAKER_TRIES);
    p2p_sim_close(world.sim);
}

TEST_MAIN(P2P_TEST_ENTRY(plays_to_the_end), P2P_TEST_ENTRY(plays_over_a_lossy_link),
          P2P_TEST_ENTRY(waits_for_a_slow_loudspeaker), P2P_TEST_ENTRY(goes_on_after_a_break),
          P2P_TEST_ENTRY(an_unknown_track_is_an_error),
          P2P_TEST_ENTRY(gives_up_when_nobody_answers))
