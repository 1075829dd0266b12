/* What the programs of a scenario check: bytes that were not sent, and messages and datagrams that
 * come twice, fail the run. p2p.h gives none of these to a program, so the test changes what is
 * expected in the middle of a run. */
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"
/* The Makefile adds p2p_scene.c and p2p_see.c. */
#include "../../tools/p2p_scene_run.c"
#include "../../tools/p2p_scene_app.c"
#include "p2p_test.h"

static const char text[] = "node {a b}\nlink a b latency=5ms rate=10mbit\ndial a b\n"
                           "at 1s stream a b 100kB\nat 1s every 10ms until 2s message a b 300B\n"
                           "at 1s every 10ms until 2s datagram a b 300B\nend 3s\n";
static scene s;
static scene_run *run;
static char complaints[2000];

static void complain_to(void *ctx, const char *line) {
    (void)ctx;
    if (strlen(complaints) + strlen(line) + 2 < sizeof complaints)
        strcat(strcat(complaints, line), "\n");
}
static void open_run(void) {
    scene_options o;
    memset(&o, 0, sizeof o);
    memset(complaints, 0, sizeof complaints);
    o.file = "test";
    o.complain = complain_to;
    CHECK_INT(scene_parse(&s, text, sizeof text - 1), 0);
    run = scene_run_open(&s, text, &o);
    CHECK(run != NULL);
}
static void close_run(void) {
    (void)scene_run_close(run);
    scene_free(&s);
}
/* As scene_run_go does, up to a time that is none of the plan's. */
static void go_until(uint64_t at_us) {
    uint32_t i;
    for (i = 0; i < run->action_count && run->actions[i].at_us <= at_us; i++) {
        run_until(run, run->actions[i].at_us);
        act(run, &run->actions[i]);
        run->actions[i].statement = 0; /* done: of no effect when it comes again */
    }
    run_until(run, at_us);
}
static scene_contact *receiver(void) {
    return (scene_contact *)(uintptr_t)scene_contact_find(run, 1, 0);
}

TEST(all_is_well_when_nothing_is_changed) {
    open_run();
    CHECK_SO_FAR();
    CHECK_INT(scene_run_go(run), 0);
    CHECK_STR(complaints, "");
    CHECK_INT(receiver()->streams_in, 1);
    CHECK_INT(receiver()->messages_in, 101);
    CHECK_INT(receiver()->datagrams_in, 101);
    CHECK_INT(receiver()->bytes_in, 100000 + 2 * 101 * 300);
    close_run();
}
TEST(bytes_that_were_not_sent_fail_the_run) {
    open_run();
    CHECK_SO_FAR();
    go_until(1020000);
    for (uint32_t i = 0; i < 2 * SCENE_PATTERN; i++)
        run->pattern[i] ^= 1; /* what is under way does not fit any more */
    CHECK(scene_run_go(run) > 0);
    CHECK(strstr(complaints, "test: b, from a: bytes of a stream that were not sent so") != NULL);
    close_run();
    open_run();
    CHECK_SO_FAR();
    go_until(1500000);
    for (uint32_t i = 0; i < 2 * SCENE_PATTERN; i++)
        run->pattern[i] ^= 1;
    run_until(run, 1600000);
    CHECK(strstr(complaints, "bytes of a message or datagram") != NULL);
    close_run();
}
TEST(a_message_out_of_order_fails_the_run) {
    open_run();
    CHECK_SO_FAR();
    go_until(1500000);
    CHECK(receiver()->message_in_least > 10);
    receiver()->message_in_least += 10;
    CHECK(scene_run_go(run) > 0);
    CHECK(strstr(complaints, "a message that came before, or out of order") != NULL);
    CHECK(strstr(complaints, "of this no more is said") != NULL);
    close_run();
}
TEST(a_datagram_that_comes_twice_fails_the_run) {
    open_run();
    CHECK_SO_FAR();
    go_until(1500000);
    CHECK(receiver()->seen_bytes >= 8);
    memset(receiver()->seen, 0xff, (size_t)receiver()->seen_bytes);
    CHECK(scene_run_go(run) > 0);
    CHECK(strstr(complaints, "a datagram that came before, or was not sent") != NULL);
    close_run();
}
/* Steps of time: statements take effect at the first one not before their time. */
TEST(statements_wait_for_the_step) {
    static const char stepped[] = "network step=100ms multiplier=3\nhost {a b}\nlink a b\n"
                                  "at 1s udp a b 10B\nend 2s\n";
    scene_options o;
    memset(&o, 0, sizeof o);
    o.file = "test";
    o.complain = complain_to;
    CHECK_INT(scene_parse(&s, stepped, sizeof stepped - 1), 0);
    run = scene_run_open(&s, stepped, &o);
    CHECK(run != NULL);
    run_until(run, 1000000);
    CHECK_INT(p2p_sim_now(run->sim), 1200000);
    CHECK_INT(scene_run_go(run), 0);
    CHECK_INT(p2p_sim_now(run->sim), 2100000);
    CHECK_INT(receiver()->datagrams_in, 1);
    close_run();
}

TEST_MAIN(P2P_TEST_ENTRY(all_is_well_when_nothing_is_changed),
          P2P_TEST_ENTRY(bytes_that_were_not_sent_fail_the_run),
          P2P_TEST_ENTRY(a_message_out_of_order_fails_the_run),
          P2P_TEST_ENTRY(a_datagram_that_comes_twice_fails_the_run),
          P2P_TEST_ENTRY(statements_wait_for_the_step))
