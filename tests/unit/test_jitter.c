/* examples/jitter.h: the jitter buffer of the speaker. */
#include "unit.h"
#include "../../examples/jitter.h"

static jitter j;
static const uint8_t *out;
static size_t out_size;

/* A packet whose every byte says which one it is. */
static int put(uint32_t number) {
    uint8_t bytes[JITTER_BYTES];
    memset(bytes, (int)(number & 255), sizeof bytes);
    return jitter_put(&j, number, bytes, 1 + number % JITTER_BYTES);
}

static int take(bool ended) { return jitter_take(&j, ended, &out, &out_size); }

static void takes(uint32_t number) {
    CHECK_INT(take(false), JITTER_PLAY);
    CHECK_INT(out_size, 1 + number % JITTER_BYTES);
    CHECK_INT(out[0], number & 255);
    CHECK_INT(out[out_size - 1], number & 255);
}

TEST(gathers_then_plays_in_order) {
    uint32_t i;
    jitter_reset(&j);
    for (i = JITTER_START - 1; i > 0; i--) { /* backwards */
        CHECK_INT(put(i), JITTER_TAKEN);
        CHECK_INT(take(false), JITTER_WAIT);
    }
    CHECK_INT(put(0), JITTER_TAKEN);
    for (i = 0; i < JITTER_START; i++)
        takes(i);
    CHECK_INT(take(false), JITTER_WAIT);
    CHECK_INT(j.pauses, 1);
    CHECK_INT(j.lost, 0);
}

TEST(late_and_twice) {
    uint32_t i;
    jitter_reset(&j);
    for (i = 0; i < JITTER_START; i++)
        (void)put(i);
    CHECK_INT(put(3), JITTER_LATE); /* here already */
    takes(0);
    CHECK_INT(put(0), JITTER_LATE); /* played */
    CHECK_INT(j.late, 2);
    for (i = 1; i < JITTER_START; i++)
        takes(i);
}

TEST(a_gap_is_given_up_only_for_what_comes_after) {
    uint32_t i;
    jitter_reset(&j);
    for (i = 0; i <= JITTER_START; i++)
        if (i != 2)
            (void)put(i);
    takes(0);
    takes(1);
    CHECK_INT(take(false), JITTER_LOST);
    CHECK_INT(out_size, 0);
    for (i = 3; i <= JITTER_START; i++)
        takes(i);
    CHECK_INT(take(false), JITTER_WAIT); /* dry: nothing is lost by waiting */
    CHECK_INT(j.lost, 1);
}

TEST(the_end_is_not_waited_for) {
    jitter_reset(&j);
    (void)put(0);
    CHECK_INT(take(false), JITTER_WAIT);
    CHECK_INT(take(true), JITTER_PLAY);
    CHECK_INT(take(true), JITTER_WAIT);
}

TEST(too_far_ahead_presses_the_oldest_out) {
    uint32_t i;
    jitter_reset(&j);
    for (i = 0; i < JITTER_SLOTS; i++)
        CHECK_INT(put(i), JITTER_TAKEN);
    CHECK_INT(put(JITTER_SLOTS + 1), JITTER_FULL);
    CHECK_INT(jitter_force(&j, &out, &out_size), JITTER_PLAY);
    CHECK_INT(out[0], 0);
    CHECK_INT(jitter_force(&j, &out, &out_size), JITTER_PLAY);
    CHECK_INT(put(JITTER_SLOTS + 1), JITTER_TAKEN);
    CHECK_INT(j.held, JITTER_SLOTS - 1);
}

/* However far a number jumps, the work stays within the slots. */
TEST(a_jump_of_an_empty_buffer_is_one_step) {
    jitter_reset(&j);
    CHECK_INT(put(1000000), JITTER_TAKEN);
    CHECK_INT(j.next, 1000000);
    CHECK_INT(j.lost, 1000000);
    CHECK_INT(put(0), JITTER_LATE);
    CHECK_INT(put(0xfffffff0u), JITTER_LATE); /* more than half of all numbers ahead is behind */
}

TEST(numbers_turn_over) {
    uint32_t i, first = 0u - 5u;
    jitter_reset(&j);
    j.next = first;
    for (i = 0; i < JITTER_START; i++)
        CHECK_INT(put(first + i), JITTER_TAKEN);
    for (i = 0; i < JITTER_START; i++)
        takes(first + i);
}

/* What comes out is in order and as it went in, whatever came in; the counters agree. */
TEST(random_traffic) {
    unit_rng rng = {test_seed()};
    uint32_t i, played = 0, newest = 0, taken = 0;
    int what;
    jitter_reset(&j);
    for (i = 0; i < 20000; i++) {
        if (unit_below(&rng, 2)) {
            newest += unit_below(&rng, 3) ? 1 : 0;
            what = put(newest - (uint32_t)unit_below(&rng, 6) * (newest > 10));
            taken += what == JITTER_TAKEN;
            if (what == JITTER_FULL && jitter_force(&j, &out, &out_size) == JITTER_PLAY)
                played++;
        } else if (take(false) == JITTER_PLAY) {
            CHECK_INT(out_size, 1 + (j.next - 1) % JITTER_BYTES);
            CHECK_INT(out[0], (j.next - 1) & 255);
            played++;
        }
        CHECK(j.held <= JITTER_SLOTS);
        CHECK_INT(taken, played + j.held);
    }
    CHECK(played > 1000);
}

TEST_MAIN(P2P_TEST_ENTRY(gathers_then_plays_in_order), P2P_TEST_ENTRY(late_and_twice),
          P2P_TEST_ENTRY(a_gap_is_given_up_only_for_what_comes_after),
          P2P_TEST_ENTRY(the_end_is_not_waited_for),
          P2P_TEST_ENTRY(too_far_ahead_presses_the_oldest_out),
          P2P_TEST_ENTRY(a_jump_of_an_empty_buffer_is_one_step), P2P_TEST_ENTRY(numbers_turn_over),
          P2P_TEST_ENTRY(random_traffic))
