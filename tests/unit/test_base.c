/* >>base and >>log: times, texts, error names, wiping, the log's levels. */
#include "unit.h"

TEST(times_saturate) {
    CHECK(p2p__time_add(1, 2) == 3);
    CHECK(p2p__time_add(P2P_NEVER, 0) == P2P_NEVER);
    CHECK(p2p__time_add(P2P_NEVER - 1, 1) == P2P_NEVER);
    CHECK(p2p__time_add(P2P_NEVER - 1, 2) == P2P_NEVER);
    CHECK(p2p__time_add(5, P2P_NEVER) == P2P_NEVER);
    CHECK(P2P__MIN(1, 2) == 1);
    CHECK(P2P__MAX(1, 2) == 2);
}

TEST(every_error_has_a_name_and_a_text_of_its_own) {
    CHECK_STR(p2p_err_name(P2P_OK), "P2P_OK");
    CHECK_STR(p2p_err_name(P2P_ERR_TIMEOUT), "P2P_ERR_TIMEOUT");
    CHECK_STR(p2p_err_text(P2P_ERR_TIMEOUT), "no answer in time");
    CHECK_STR(p2p_err_name(P2P_ERR_REFUSED), "P2P_ERR_REFUSED");
    for (int a = P2P_ERR_REFUSED; a <= 0; a++) {
        CHECK(strcmp(p2p_err_name(a), "P2P_ERR_UNKNOWN") != 0);
        CHECK(strlen(p2p_err_text(a)) > 4);
        for (int b = P2P_ERR_REFUSED; b < a; b++) {
            CHECK(strcmp(p2p_err_name(a), p2p_err_name(b)) != 0);
            CHECK(strcmp(p2p_err_text(a), p2p_err_text(b)) != 0);
        }
    }
}

TEST(other_numbers_are_unknown_errors_and_counts_are_none) {
    CHECK_STR(p2p_err_name(-1000), "P2P_ERR_UNKNOWN");
    CHECK(strlen(p2p_err_text(-1000)) > 4);
    CHECK_STR(p2p_err_name(7), "P2P_OK");
    CHECK(p2p_version() == P2P_VERSION);
}

TEST(strings_compare_by_size_and_bytes) {
    p2p_str s = P2P_STR("abc"), none = {NULL, 0};
    CHECK_INT(p2p_str_of("abc").size, 3);
    CHECK_INT(p2p_str_of(NULL).size, 0);
    CHECK(p2p_str_equal(s, "abc"));
    CHECK(!p2p_str_equal(s, "ab"));
    CHECK(!p2p_str_equal(s, "abcd"));
    CHECK(!p2p_str_equal(s, "abd"));
    CHECK(!p2p_str_equal(s, NULL));
    CHECK(!p2p_str_equal(none, ""));
    CHECK(p2p_str_equal(none, NULL));
    CHECK(p2p_str_equal(p2p_str_of(""), ""));
}

static int number(const char *text, uint64_t *out) { return p2p_str_u64(p2p_str_of(text), out); }

TEST(numbers_are_read_whole_or_not_at_all) {
    static const char *const wrong[] = {
        "", " 1", "1 ", "-1", "+1", "0x1", "1.0", "12a3", "18446744073709551616"};
    uint64_t value = 7;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_INT(number(wrong[i], &value), P2P_ERR_ARG);
    CHECK_INT(number(NULL, &value), P2P_ERR_ARG);
    CHECK_INT(number("1", NULL), P2P_ERR_ARG);
    CHECK(value == 7);
    CHECK_INT(number("0", &value), P2P_OK);
    CHECK(value == 0);
    CHECK_INT(number("18446744073709551615", &value), P2P_OK);
    CHECK(value == UINT64_MAX);
    CHECK_INT(number("99999999999999999999", &value), P2P_ERR_ARG);
}

TEST(numbers_are_written_and_read_back) {
    char buffer[21];
    CHECK_STR(p2p_u64_str(0, buffer).data, "0");
    CHECK_STR(p2p_u64_str(UINT64_MAX, buffer).data, "18446744073709551615");
    CHECK_INT(p2p_u64_str(UINT64_MAX, buffer).size, 20);
    for (int i = 0; i < test_seeds(50); i++) {
        unit_rng rng = {test_seed()};
        uint64_t value = unit_spread(&rng, UINT64_MAX), back = 0;
        CHECK_INT(p2p_str_u64(p2p_u64_str(value, buffer), &back), P2P_OK);
        CHECK(back == value);
    }
}

TEST(wiping_clears_exactly_the_bytes_named) {
    uint8_t bytes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t wiped[8] = {1, 0, 0, 0, 0, 6, 7, 8};
    p2p_wipe(bytes + 1, 4);
    p2p_wipe(bytes, 0);
    CHECK_BYTES(bytes, wiped, 8);
}

TEST(constant_time_comparison_sees_every_byte) {
    uint8_t a[32] = {0}, b[32] = {0};
    CHECK(p2p__ct_equal(a, b, 32));
    CHECK(p2p__ct_equal(a, b, 0));
    for (size_t i = 0; i < 32; i++) {
        b[i] = (uint8_t)(1u << (i % 8));
        CHECK(!p2p__ct_equal(a, b, 32));
        CHECK(p2p__ct_equal(a, b, i));
        b[i] = 0;
    }
}

typedef struct log_seen {
    int calls, level;
    const char *item, *text;
} log_seen;

static void log_hook(void *ctx, int level, const char *item, const char *text) {
    log_seen *seen = (log_seen *)ctx;
    seen->calls++;
    seen->level = level;
    seen->item = item;
    seen->text = text;
}

TEST(the_log_gives_items_up_to_the_level_asked_for) {
    log_seen seen = {0, 0, NULL, NULL};
    p2p__log_sink sink = {log_hook, &seen, 3};
    p2p__log(&sink, P2P__LOG_CONNECTED);
    CHECK_INT(seen.calls, 1);
    CHECK_INT(seen.level, 3);
    CHECK_STR(seen.item, "CONNECTED");
    CHECK_STR(seen.text, "connected");
    sink.level = 2;
    p2p__log(&sink, P2P__LOG_CONNECTED);
    CHECK_INT(seen.calls, 1);
    p2p__log(&sink, P2P__LOG_AUTH_FAILED);
    CHECK_INT(seen.calls, 2);
    sink.level = 0;
    for (uint32_t item = 0; item < P2P__LOG_COUNT; item++)
        p2p__log(&sink, item);
    CHECK_INT(seen.calls, 2);
    sink.level = 4;
    for (uint32_t item = 0; item < P2P__LOG_COUNT; item++)
        p2p__log(&sink, item);
    CHECK_INT(seen.calls, 2 + (int)P2P__LOG_COUNT);
    sink.fn = NULL;
    p2p__log(&sink, P2P__LOG_CONNECTED);
    CHECK_INT(seen.calls, 2 + (int)P2P__LOG_COUNT);
}

TEST_MAIN(P2P_TEST_ENTRY(times_saturate),
          P2P_TEST_ENTRY(every_error_has_a_name_and_a_text_of_its_own),
          P2P_TEST_ENTRY(other_numbers_are_unknown_errors_and_counts_are_none),
          P2P_TEST_ENTRY(strings_compare_by_size_and_bytes),
          P2P_TEST_ENTRY(numbers_are_read_whole_or_not_at_all),
          P2P_TEST_ENTRY(numbers_are_written_and_read_back),
          P2P_TEST_ENTRY(wiping_clears_exactly_the_bytes_named),
          P2P_TEST_ENTRY(constant_time_comparison_sees_every_byte),
          P2P_TEST_ENTRY(the_log_gives_items_up_to_the_level_asked_for))
