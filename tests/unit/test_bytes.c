/* >>bytes: cursors, varints, UTF-8. */
#include "unit.h"

TEST(integers_are_big_endian) {
    uint8_t room[15];
    static const uint8_t wanted[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__reader r = p2p__reader_of(room, sizeof room);
    p2p__put_u8(&w, 1);
    p2p__put_u16(&w, 0x0203);
    p2p__put_u32(&w, 0x04050607);
    p2p__put_u64(&w, UINT64_C(0x08090a0b0c0d0e0f));
    CHECK(!w.bad);
    CHECK(w.at == w.end);
    CHECK_BYTES(room, wanted, 15);
    CHECK_INT(p2p__get_u8(&r), 1);
    CHECK_INT(p2p__get_u16(&r), 0x0203);
    CHECK_INT(p2p__get_u32(&r), 0x04050607);
    CHECK(p2p__get_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
    CHECK(!r.bad);
    CHECK_INT(p2p__left(&r), 0);
}

TEST(a_read_beyond_the_end_sticks) {
    static const uint8_t bytes[4] = {1, 2, 3, 4};
    p2p__reader r = p2p__reader_of(bytes, sizeof bytes);
    CHECK_INT(p2p__get_u8(&r), 1);
    CHECK_INT(p2p__get_u32(&r), 0);
    CHECK(r.bad);
    CHECK_INT(p2p__left(&r), 0);
    CHECK_INT(p2p__get_u8(&r), 0);
    CHECK(p2p__get_bytes(&r, 0) == NULL);
    CHECK_INT(p2p__get_varint(&r), 0);
    CHECK_INT(p2p__get_str(&r, 9).size, 0);
    CHECK(r.at == bytes + 1);
}

TEST(huge_lengths_do_not_wrap) {
    static const uint8_t bytes[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2};
    p2p__reader r = p2p__reader_of(bytes, sizeof bytes);
    CHECK(p2p__get_bytes(&r, UINT64_MAX) == NULL);
    r = p2p__reader_of(bytes, sizeof bytes);
    CHECK(p2p__get_bytes(&r, UINT64_C(0x100000001)) == NULL);
    r = p2p__reader_of(bytes, sizeof bytes);
    CHECK_INT(p2p__get_str(&r, UINT64_MAX).size, 0);
    CHECK(r.bad);
    r = p2p__reader_of(NULL, 0);
    CHECK_INT(p2p__left(&r), 0);
    CHECK_INT(p2p__get_varint(&r), 0);
    CHECK(r.bad);
}

TEST(a_write_beyond_the_end_sticks_and_writes_nothing) {
    uint8_t room[4] = {0xee, 0xee, 0xee, 0xee};
    static const uint8_t wanted[4] = {7, 0xee, 0xee, 0xee};
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__put_u8(&w, 7);
    p2p__put_u32(&w, 1);
    CHECK(w.bad);
    p2p__put_u8(&w, 1);
    p2p__put_bytes(&w, "x", 1);
    p2p__put_varint(&w, 1);
    CHECK(w.at == room + 1);
    CHECK_BYTES(room, wanted, 4);
}

TEST(a_string_that_does_not_fit_leaves_the_place_as_it_was) {
    uint8_t room[3];
    p2p_str three = P2P_STR("abc");
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__put_str(&w, three);
    CHECK(w.bad);
    CHECK(w.at == room);
    w = p2p__writer_of(NULL, 0);
    p2p__put_bytes(&w, NULL, 0);
    CHECK(!w.bad);
    p2p__put_u8(&w, 0);
    CHECK(w.bad);
}

/* RFC 9000, appendix A.1, and the values at which the size changes. */
TEST(varints_of_known_bytes) {
    static const struct {
        const char *bytes;
        uint64_t value;
    } known[] = {
        {"c2197c5eff14e88c", UINT64_C(151288809941952652)},
        {"9d7f3e7d", 494878333},
        {"7bbd", 15293},
        {"25", 37},
        {"00", 0},
        {"3f", 63},
        {"4040", 64},
        {"7fff", 16383},
        {"80004000", 16384},
        {"bfffffff", 1073741823},
        {"c000000040000000", 1073741824},
        {"ffffffffffffffff", P2P__VARINT_MAX},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint8_t bytes[8], room[8];
        size_t size = unit_hex(known[i].bytes, bytes, sizeof bytes);
        p2p__reader r = p2p__reader_of(bytes, size);
        p2p__writer w = p2p__writer_of(room, size);
        CHECK(p2p__get_varint(&r) == known[i].value);
        CHECK(!r.bad);
        CHECK_INT(p2p__left(&r), 0);
        p2p__put_varint(&w, known[i].value);
        CHECK(!w.bad);
        CHECK_BYTES(room, bytes, size);
        CHECK_INT(p2p__varint_size(known[i].value), size);
        w = p2p__writer_of(room, size - 1);
        p2p__put_varint(&w, known[i].value);
        CHECK(w.bad);
        r = p2p__reader_of(bytes, size - 1);
        CHECK_INT(p2p__get_varint(&r), 0);
        CHECK(r.bad);
    }
}

TEST(longer_varints_than_needed_are_bad) {
    static const char *const longer[] = {"4000",
                                         "4025",
                                         "403f",
                                         "80000000",
                                         "80003fff",
                                         "c000000000000000",
                                         "c000000000000025",
                                         "c00000003fffffff"};
    for (size_t i = 0; i < sizeof longer / sizeof *longer; i++) {
        uint8_t bytes[8];
        size_t size = unit_hex(longer[i], bytes, sizeof bytes);
        p2p__reader r = p2p__reader_of(bytes, size);
        CHECK(size > 1);
        CHECK_INT(p2p__get_varint(&r), 0);
        CHECK(r.bad);
    }
}

TEST(a_varint_that_has_no_encoding_is_bad) {
    uint8_t room[8];
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__put_varint(&w, P2P__VARINT_MAX + 1);
    CHECK(w.bad);
    CHECK(w.at == room);
}

TEST(limits_of_values_and_strings_hold) {
    static const uint8_t bytes[] = {3, 'a', 'b', 'c'};
    p2p__reader r = p2p__reader_of(bytes, sizeof bytes);
    p2p_str s = p2p__get_str(&r, 3);
    CHECK(p2p_str_equal(s, "abc"));
    CHECK(!r.bad);
    r = p2p__reader_of(bytes, sizeof bytes);
    CHECK_INT(p2p__get_str(&r, 2).size, 0);
    CHECK(r.bad);
    r = p2p__reader_of(bytes, sizeof bytes - 1);
    CHECK_INT(p2p__get_str(&r, 3).size, 0);
    CHECK(r.bad);
    r = p2p__reader_of(bytes, sizeof bytes);
    CHECK_INT(p2p__get_varint_max(&r, 2), 0);
    CHECK(r.bad);
}

TEST(random_values_come_back) {
    for (int i = 0; i < test_seeds(200); i++) {
        unit_rng rng = {test_seed()};
        uint64_t value = unit_spread(&rng, P2P__VARINT_MAX);
        uint8_t room[8];
        p2p__writer w = p2p__writer_of(room, sizeof room);
        p2p__reader r;
        p2p__put_varint(&w, value);
        CHECK(!w.bad);
        CHECK_INT(w.at - room, p2p__varint_size(value));
        r = p2p__reader_of(room, (size_t)(w.at - room));
        CHECK(p2p__get_varint(&r) == value);
        CHECK(!r.bad);
    }
}

static bool utf8(const char *hex) {
    uint8_t bytes[16];
    return p2p__utf8_valid(bytes, unit_hex(hex, bytes, sizeof bytes));
}

TEST(utf8_is_what_rfc_3629_says) {
    CHECK(p2p__utf8_valid(NULL, 0));
    CHECK(utf8("00") && utf8("7f") && utf8("c280") && utf8("dfbf") && utf8("e0a080"));
    CHECK(utf8("ed9fbf") && utf8("ee8080") && utf8("efbfbf") && utf8("f0908080"));
    CHECK(utf8("f48fbfbf") && utf8("6ae28282c3a4"));
    CHECK(!utf8("80") && !utf8("bf") && !utf8("c080") && !utf8("c1bf") && !utf8("c2"));
    CHECK(!utf8("c27f") && !utf8("c2c0") && !utf8("e08080") && !utf8("e09fbf"));
    CHECK(!utf8("eda080") && !utf8("edbfbf") && !utf8("e28282e282") && !utf8("e282c0"));
    CHECK(!utf8("f0808080") && !utf8("f08fbfbf") && !utf8("f4908080") && !utf8("f5808080"));
    CHECK(!utf8("ff") && !utf8("f0908041"));
}

TEST_MAIN(P2P_TEST_ENTRY(integers_are_big_endian), P2P_TEST_ENTRY(a_read_beyond_the_end_sticks),
          P2P_TEST_ENTRY(huge_lengths_do_not_wrap),
          P2P_TEST_ENTRY(a_write_beyond_the_end_sticks_and_writes_nothing),
          P2P_TEST_ENTRY(a_string_that_does_not_fit_leaves_the_place_as_it_was),
          P2P_TEST_ENTRY(varints_of_known_bytes),
          P2P_TEST_ENTRY(longer_varints_than_needed_are_bad),
          P2P_TEST_ENTRY(a_varint_that_has_no_encoding_is_bad),
          P2P_TEST_ENTRY(limits_of_values_and_strings_hold),
          P2P_TEST_ENTRY(random_values_come_back), P2P_TEST_ENTRY(utf8_is_what_rfc_3629_says))
