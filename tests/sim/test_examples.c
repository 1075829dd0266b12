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
    uint32_t asked; /* status of the latest answer to the streamer */
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
    if (node == world.streamer_node && e->type == P2P_EVENT_RESPONSE)
        world.asked = e->status;
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

/* ---- live ------------------------------------------------------------------------------------ */

static void put_number(size_t at, uint32_t value, int bytes) {
    for (; bytes > 0; bytes--, value >>= 8)
        world.track[at++] = (uint8_t)value;
}

/* Makes the track a WAV file of so many bytes of sound, none of which is silence. */
static void make_wave(size_t sound, uint32_t byte_rate) {
    streamer_track *track = &world.streamer.tracks[0];
    size_t i;
    memcpy(world.track, "RIFF....WAVEfmt ", 16);
    put_number(16, 16, 4);
    put_number(20, 1, 2);
    put_number(28, byte_rate, 4);
    memcpy(world.track + 36, "data", 4);
    put_number(40, (uint32_t)sound, 4);
    for (i = 0; i < sound; i++)
        world.track[44 + i] = (uint8_t)(i * i / 251 % 255 + 1);
    track->size = 44 + sound;
    streamer_find_sound(track);
    CHECK_INT(track->sound_size, sound);
    hash(track->sound, sound, track->sound_sha256);
}

static void begin_live(uint64_t seed, uint32_t loss_ppm, uint32_t jitter_us) {
    p2p_sim_link link;
    begin(seed, loss_ppm, "song.wav");
    CHECK_SO_FAR();
    make_wave(480 * 1000, 176400);
    world.speaker.live = true;
    memset(&link, 0, sizeof link);
    link.latency_us = 5000; /* one that is overtaken is up to 7 ms late */
    link.jitter_us = jitter_us;
    link.reorder_ppm = jitter_us ? 100000 : 0;
    link.loss_ppm = loss_ppm;
    CHECK_INT(p2p_sim_connect(world.sim, p2p_node_id(world.streamer_node),
                              p2p_node_id(world.speaker_node), &link),
              P2P_OK);
}

/* The pace is the music's: 1000 packets of 480 bytes at 176,400 bytes a second take 2.72 s. */
TEST(live_sound_arrives_whole_and_in_time) {
    uint64_t us;
    begin_live(1, 0, 2000);
    CHECK_SO_FAR();
    (void)p2p_sim_run_until(world.sim, 20 * SECOND_US);
    CHECK(world.speaker.done && world.speaker.agreed);
    CHECK_INT(world.speaker.packets.lost, 0);
    CHECK_INT(world.out.size, 480 * 1000);
    CHECK_STR(world.speaker.sha256, world.streamer.tracks[0].sound_sha256);
    CHECK_STR(world.speaker.sha256, world.speaker.announced);
    us = world.speaker.ended_us - world.speaker.started_us;
    CHECK(us > 2700000 && us < 3100000);
    CHECK_INT(world.streamer.heard, 1);
    p2p_sim_close(world.sim);
}

/* What is lost is silence, and what comes after it is where it belongs. */
TEST(lost_live_packets_are_silence) {
    static const uint8_t silence[480] = {0};
    uint32_t i, lost = 0;
    begin_live(6, 30000, 0);
    CHECK_SO_FAR();
    (void)p2p_sim_run_until(world.sim, 30 * SECOND_US);
    CHECK(world.speaker.done && !world.speaker.agreed);
    CHECK(world.speaker.packets.lost > 5 && world.speaker.packets.lost < 100);
    for (i = 0; (i + 1) * 480 <= world.out.size; i++) {
        if (memcmp(world.out.bytes + i * 480, silence, 480) == 0)
            lost++;
        else
            CHECK_BYTES(world.out.bytes + i * 480, world.track + 44 + i * 480, 480);
    }
    CHECK_INT(lost, world.speaker.packets.lost);
    CHECK(i >= 990 && i <= 1000);
    CHECK_INT(world.streamer.differed, 1);
    p2p_sim_close(world.sim);
}

/* ---- told what to play ----------------------------------------------------------------------- */

/* The streamer's node sends the request: a connection carries them both ways. */
static void ask_to_play(const char *what, uint32_t status) {
    p2p_request_desc r;
    p2p_stream stream;
    p2p_conn conn;
    memset(&r, 0, sizeof r);
    world.asked = 0;
    r.method = P2P_POST;
    r.path = "/play";
    r.body = what;
    r.body_size = strlen(what);
    CHECK_INT(p2p_connections(world.streamer_node, &conn, 1), 1);
    CHECK_INT(p2p_request_send(world.streamer_node, conn, &r, &stream), P2P_OK);
    (void)p2p_sim_run_until(world.sim, p2p_now(world.streamer_node) + 200000);
    CHECK_INT(world.asked, status);
}

TEST(plays_what_it_is_told) {
    begin(7, 0, "");
    world.speaker.stay = true;
    make_wave(200000, 176400);
    hash(world.track, 200044, world.streamer.tracks[0].sha256);
    (void)p2p_sim_run_until(world.sim, SECOND_US);
    CHECK(world.speaker.done && world.speaker.plays == 0);
    ask_to_play("nothing.wav", 404);
    ask_to_play("a/b", 400);
    ask_to_play("", 400);
    ask_to_play(" live", 400);
    ask_to_play("song.wav live", 202);
    ask_to_play("song.wav", 409);
    (void)p2p_sim_run_until(world.sim, 10 * SECOND_US);
    CHECK(world.speaker.agreed);
    CHECK_STR(world.speaker.sha256, world.streamer.tracks[0].sound_sha256);
    world.out.size = 0;
    ask_to_play("song.wav", 202);
    (void)p2p_sim_run_until(world.sim, 20 * SECOND_US);
    CHECK(world.speaker.agreed);
    CHECK_STR(world.speaker.sha256, world.streamer.tracks[0].sha256);
    CHECK_INT(world.streamer.heard, 2);
    CHECK_INT(world.speaker.state, SPEAKER_IDLE);
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
          P2P_TEST_ENTRY(live_sound_arrives_whole_and_in_time),
          P2P_TEST_ENTRY(lost_live_packets_are_silence), P2P_TEST_ENTRY(plays_what_it_is_told),
          P2P_TEST_ENTRY(an_unknown_track_is_an_error),
          P2P_TEST_ENTRY(gives_up_when_nobody_answers))
