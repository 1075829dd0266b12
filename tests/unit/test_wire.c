/* >>wire: frames and the HELLO body. */
#include "unit.h"
#include "wire_encode.h"

#define VARINT_MAX UINT64_C(0x3fffffffffffffff)

/* Parses all of a packet that is given in hexadecimal; the frames found, or the error. */
static int parse(const char *hex, p2p__frame *last) {
    static uint8_t bytes[2048];
    size_t size = unit_hex(hex, bytes, sizeof bytes);
    p2p__reader r = p2p__reader_of(bytes, size);
    p2p__frame f;
    int count = 0, result;
    while ((result = p2p__frame_get(&r, &f)) == 1) {
        count++;
        *last = f;
    }
    return result < 0 ? result : count;
}

/* ---- frames of known bytes, one a type */

TEST(plain_frames_of_known_bytes) {
    static const struct {
        const char *bytes;
        uint8_t type;
        uint64_t id, code, value;
    } row[] = {
        {"01", P2P__FRAME_PING, 0, 0, 0},
        {"22", P2P__FRAME_DONE, 0, 0, 0},
        {"04"
         "09"
         "05"
         "4400",
         P2P__FRAME_RESET_STREAM, 9, 5, 1024},
        {"05"
         "09"
         "c0000000ffffffff",
         P2P__FRAME_STOP_SENDING, 9, UINT32_MAX, 0},
        {"10"
         "ffffffffffffffff",
         P2P__FRAME_MAX_DATA, 0, 0, VARINT_MAX},
        {"11"
         "07"
         "00",
         P2P__FRAME_MAX_STREAM_DATA, 7, 0, 0},
        {"12"
         "02"
         "c800000000000000",
         P2P__FRAME_MAX_STREAMS, 2, 0, UINT64_C(1) << 59},
        {"14"
         "21",
         P2P__FRAME_DATA_BLOCKED, 0, 0, 33},
        {"15"
         "06"
         "21",
         P2P__FRAME_STREAM_DATA_BLOCKED, 6, 0, 33},
        {"16"
         "00"
         "21",
         P2P__FRAME_STREAMS_BLOCKED, 0, 0, 33},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        p2p__frame f;
        CHECK_INT(parse(row[i].bytes, &f), 1);
        CHECK_INT(f.type, row[i].type);
        CHECK(f.id == row[i].id);
        CHECK(f.code == row[i].code);
        CHECK(f.value == row[i].value);
    }
}

TEST(stream_frames_of_known_bytes) {
    static const struct {
        const char *bytes;
        int fin, size;
        uint64_t offset;
    } row[] = {
        {"08"
         "05"
         "616263",
         0, 3, 0},
        {"08"
         "05",
         0, 0, 0},
        {"09"
         "05"
         "616263",
         1, 3, 0},
        {"0a"
         "05"
         "03"
         "616263",
         0, 3, 0},
        {"0b"
         "05"
         "03"
         "616263",
         1, 3, 0},
        {"0b"
         "05"
         "00",
         1, 0, 0},
        {"0c"
         "05"
         "4100"
         "616263",
         0, 3, 256},
        {"0d"
         "05"
         "01"
         "616263",
         1, 3, 1},
        {"0e"
         "05"
         "01"
         "03"
         "616263",
         0, 3, 1},
        {"0f"
         "05"
         "fffffffffffffffc"
         "03"
         "616263",
         1, 3, VARINT_MAX - 3},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        p2p__frame f;
        CHECK_INT(parse(row[i].bytes, &f), 1);
        CHECK_INT(f.type, P2P__FRAME_STREAM);
        CHECK_INT(f.id, 5);
        CHECK_INT(f.fin, row[i].fin);
        CHECK(f.offset == row[i].offset);
        CHECK_INT(f.data.size, row[i].size);
        CHECK_BYTES(f.data.data, "abc", f.data.size);
    }
}

TEST(ack_frames_of_known_bytes) {
    p2p__frame f;
    CHECK_INT(parse("02"
                    "00"
                    "00"
                    "00"
                    "00",
                    &f),
              1);
    CHECK_INT(f.type, P2P__FRAME_ACK);
    CHECK_INT(f.ranges, 1);
    CHECK(f.range[0].first == 0 && f.range[0].last == 0 && f.largest == 0);
    /* 90..100, 80..85 (gap 3: 86..89 are missing), 0..78 (gap 0: 79 is) */
    CHECK_INT(parse("03"
                    "4064"
                    "4400"
                    "02"
                    "0a"
                    "03"
                    "05"
                    "00"
                    "404e"
                    "07"
                    "08"
                    "09",
                    &f),
              1);
    CHECK_INT(f.type, P2P__FRAME_ACK);
    CHECK_INT(f.ranges, 3);
    CHECK(f.largest == 100 && f.delay_us == 1024 && f.ecn);
    CHECK(f.range[0].first == 90 && f.range[0].last == 100);
    CHECK(f.range[1].first == 80 && f.range[1].last == 85);
    CHECK(f.range[2].first == 0 && f.range[2].last == 78);
    CHECK(f.ect[0] == 7 && f.ect[1] == 8 && f.ect[2] == 9);
}

TEST(other_frames_of_known_bytes) {
    p2p__frame f;
    CHECK_INT(parse("1a"
                    "0102030405060708",
                    &f),
              1);
    CHECK(f.type == P2P__FRAME_PATH_CHALLENGE && f.bytes[0] == 1 && f.bytes[7] == 8);
    CHECK_INT(parse("1b"
                    "0102030405060708"
                    "04"
                    "7f000001"
                    "2260",
                    &f),
              1);
    CHECK(f.type == P2P__FRAME_PATH_RESPONSE && f.bytes[7] == 8 && f.family == 4);
    CHECK(f.addr.family == 4 && f.addr.port == 8800 && f.addr.ip[0] == 127 && f.addr.ip[3] == 1);
    CHECK_INT(parse("1b"
                    "0102030405060708"
                    "06"
                    "fe800000000000000000000000000001"
                    "2260",
                    &f),
              1);
    CHECK(f.addr.family == 6 && f.addr.port == 8800 && f.addr.ip[15] == 1 && !f.addr.scope);
    CHECK_INT(parse("1c"
                    "01"
                    "c0000000ffffffff"
                    "03"
                    "e282ac",
                    &f),
              1);
    CHECK(f.type == P2P__FRAME_CLOSE && f.origin == 1 && f.code == UINT32_MAX && f.data.size == 3);
    CHECK_INT(parse("1c"
                    "00"
                    "0d"
                    "00",
                    &f),
              1);
    CHECK(f.origin == 0 && f.code == P2P__CODE_STOPPED && f.data.size == 0);
    CHECK_INT(parse("20"
                    "02"
                    "aabb",
                    &f),
              1);
    CHECK(f.type == P2P__FRAME_HELLO && f.data.size == 2 && f.data.data[1] == 0xbb);
    CHECK_INT(parse("30"
                    "aabb",
                    &f),
              1);
    CHECK(f.type == P2P__FRAME_DATAGRAM && f.data.size == 2 && f.data.data[0] == 0xaa);
    CHECK_INT(parse("31"
                    "01"
                    "aa"
                    "31"
                    "00",
                    &f),
              2);
    CHECK(f.type == P2P__FRAME_DATAGRAM && f.data.size == 0);
}

TEST(padding_and_extensions_are_skipped) {
    p2p__frame f;
    CHECK_INT(parse("", &f), 0);
    CHECK_INT(parse("00", &f), 0);
    CHECK_INT(parse("000000", &f), 0);
    CHECK_INT(parse("0000"
                    "01"
                    "00"
                    "22"
                    "00",
                    &f),
              2);
    CHECK_INT(parse("4040"
                    "00",
                    &f),
              0);
    CHECK_INT(parse("407f"
                    "03"
                    "ffffff"
                    "01",
                    &f),
              1);
    CHECK_INT(f.type, P2P__FRAME_PING);
    CHECK_INT(parse("01"
                    "4050"
                    "01"
                    "02"
                    "00",
                    &f),
              1);
}

/* ---- what must not parse */

TEST(malformed_frames_are_protocol_errors) {
    static const char *const row[] = {
        /* types that do not exist, or in a longer form than needed */
        "06",
        "07",
        "13",
        "17",
        "18",
        "19",
        "1d",
        "1e",
        "1f",
        "23",
        "2f",
        "32",
        "3f",
        "4000",
        "4001",
        "4030",
        "403f",
        "4080",
        "7fff",
        "80004000",
        "ffffffffffffffff",
        "40",
        "c0",
        /* extensions that are cut */
        "4040",
        "4040"
        "01",
        "407f"
        "4003"
        "aaaaaa",
        "4040"
        "ffffffffffffffff",
        /* RESET_STREAM, STOP_SENDING */
        "04",
        "04"
        "09",
        "04"
        "09"
        "05",
        "04"
        "09"
        "05"
        "44",
        "04"
        "09"
        "c000000100000000"
        "00",
        "04"
        "4009"
        "05"
        "00",
        "04"
        "0e"
        "05"
        "00",
        "05",
        "05"
        "09",
        "05"
        "0f"
        "00",
        "05"
        "09"
        "c000000100000000",
        /* STREAM: cut, an offset of 0, a length beyond the packet, an end beyond 2^62 - 1 */
        "08",
        "0a"
        "05",
        "0c"
        "05",
        "0c"
        "05"
        "00"
        "61",
        "0f"
        "05"
        "00"
        "01"
        "61",
        "0a"
        "05"
        "04"
        "616263",
        "0a"
        "05"
        "ffffffffffffffff"
        "61",
        "0e"
        "05"
        "01",
        "0c"
        "05"
        "ffffffffffffffff"
        "61",
        "0e"
        "05"
        "fffffffffffffffe"
        "02"
        "6162",
        "08"
        "0e",
        "08"
        "40",
        "08"
        "4005",
        "0a"
        "05"
        "4001"
        "61",
        /* ACK: cut, below 0, too many ranges */
        "02",
        "02"
        "05",
        "02"
        "05"
        "00",
        "02"
        "05"
        "00"
        "00",
        "02"
        "05"
        "00"
        "00"
        "06",
        "02"
        "05"
        "00"
        "01"
        "00",
        "02"
        "05"
        "00"
        "01"
        "00"
        "00",
        "02"
        "05"
        "00"
        "01"
        "05"
        "00"
        "00",
        "02"
        "05"
        "00"
        "01"
        "04"
        "00"
        "00",
        "02"
        "05"
        "00"
        "01"
        "00"
        "04"
        "00",
        "02"
        "05"
        "00"
        "01"
        "00"
        "00"
        "04",
        "02"
        "05"
        "00"
        "20"
        "00",
        "03"
        "05"
        "00"
        "00"
        "00",
        "03"
        "05"
        "00"
        "00"
        "00"
        "01"
        "02",
        "02"
        "05"
        "00"
        "00"
        "4001",
        "02"
        "05"
        "00"
        "01"
        "00"
        "ffffffffffffffff"
        "00",
        "02"
        "05"
        "00"
        "01"
        "00"
        "00"
        "ffffffffffffffff",
        /* flow control: cut, of no kind, more streams than there are numbers */
        "10",
        "10"
        "4001",
        "11",
        "11"
        "05",
        "11"
        "0e"
        "00",
        "12",
        "12"
        "00",
        "12"
        "03"
        "01",
        "12"
        "00"
        "c800000000000001",
        "14",
        "15",
        "15"
        "05",
        "15"
        "0e"
        "00",
        "16",
        "16"
        "00",
        "16"
        "03"
        "01",
        "16"
        "02"
        "c800000000000001",
        /* paths */
        "1a",
        "1a"
        "01020304050607",
        "1b"
        "01020304050607",
        "1b"
        "0102030405060708",
        "1b"
        "0102030405060708"
        "05"
        "7f000001"
        "2260",
        "1b"
        "0102030405060708"
        "04"
        "7f000001",
        "1b"
        "0102030405060708"
        "04"
        "7f000001"
        "22",
        "1b"
        "0102030405060708"
        "06"
        "7f0000012260",
        "1b"
        "0102030405060708"
        "00",
        /* CLOSE: cut, another origin, a code of more than 32 bits, not UTF-8 */
        "1c",
        "1c"
        "00",
        "1c"
        "00"
        "00",
        "1c"
        "02"
        "00"
        "00",
        "1c"
        "00"
        "c000000100000000"
        "00",
        "1c"
        "00"
        "00"
        "02"
        "61",
        "1c"
        "00"
        "00"
        "01"
        "ff",
        "1c"
        "00"
        "00"
        "02"
        "c080",
        "1c"
        "00"
        "00"
        "02"
        "e282",
        /* HELLO, AUTH, DATAGRAM */
        "20",
        "20"
        "01",
        "20"
        "4001"
        "aa",
        "20"
        "ffffffffffffffff",
        "21",
        "21"
        "00",
        "31",
        "31"
        "01",
        "31"
        "4001"
        "aa",
        "31"
        "ffffffffffffffff"
        "aa",
    };
    p2p__frame f;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (parse(row[i], &f) != P2P_ERR_PROTOCOL)
            printf("    taken: %s\n", row[i]);
        CHECK_INT(parse(row[i], &f), P2P_ERR_PROTOCOL);
    }
}

TEST(limits_of_sizes_hold) {
    uint8_t bytes[4 + 97 + 64];
    p2p__frame f;
    p2p__reader r;
    memset(bytes, 'a', sizeof bytes);
    bytes[0] = P2P__FRAME_CLOSE;
    bytes[1] = bytes[2] = 0;
    bytes[3] = 0x40;
    bytes[4] = 96;
    r = p2p__reader_of(bytes, 5 + 96);
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK_INT(f.data.size, 96);
    bytes[4] = 97;
    r = p2p__reader_of(bytes, 5 + 97);
    CHECK_INT(p2p__frame_get(&r, &f), P2P_ERR_PROTOCOL);
    bytes[0] = P2P__FRAME_AUTH;
    r = p2p__reader_of(bytes, 1 + 95);
    CHECK_INT(p2p__frame_get(&r, &f), P2P_ERR_PROTOCOL);
    r = p2p__reader_of(bytes, 1 + 96);
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK(f.bytes == bytes + 1);
    CHECK_INT(p2p__frame_get(&r, &f), 0);
}

TEST(thirty_two_ranges_are_the_most) {
    uint8_t bytes[5 + 64] = {P2P__FRAME_ACK, 63, 0, 31, 0};
    p2p__frame f;
    p2p__reader r = p2p__reader_of(bytes, 5 + 62);
    CHECK_INT(p2p__frame_get(&r, &f), 1);
    CHECK_INT(f.ranges, 32);
    CHECK(f.range[31].first == 1 && f.range[31].last == 1);
    bytes[3] = 32;
    bytes[1] = 63;
    r = p2p__reader_of(bytes, 5 + 64);
    CHECK_INT(p2p__frame_get(&r, &f), P2P_ERR_PROTOCOL);
}

TEST(an_error_sticks) {
    static const uint8_t bytes[] = {0x06, 0x01, 0x01};
    p2p__reader r = p2p__reader_of(bytes, sizeof bytes);
    p2p__frame f;
    CHECK_INT(p2p__frame_get(&r, &f), P2P_ERR_PROTOCOL);
    CHECK_INT(p2p__frame_get(&r, &f), P2P_ERR_PROTOCOL);
}

/* ---- round trips */

static uint8_t pool_bytes[512];

static uint64_t random_stream_id(unit_rng *rng) {
    uint64_t id = unit_spread(rng, VARINT_MAX);
    return (id >> 1 & 3) == 3 ? id & 7 : id;
}

static void random_ranges(unit_rng *rng, p2p__frame *f) {
    uint64_t top = unit_spread(rng, VARINT_MAX);
    uint32_t want = 1 + (uint32_t)unit_below(rng, P2P__ACK_RANGES);
    f->largest = top;
    f->delay_us = unit_spread(rng, VARINT_MAX);
    for (f->ranges = 0; f->ranges < want;) {
        uint64_t first = top - unit_spread(rng, top) % (top / 4 + 1);
        f->range[f->ranges].last = top;
        f->range[f->ranges++].first = first;
        if (first < 2)
            break;
        top = first - 2 - unit_spread(rng, first - 2) % ((first - 2) / 4 + 1);
    }
    f->ecn = (uint8_t)unit_below(rng, 2);
    for (int i = 0; f->ecn && i < 3; i++)
        f->ect[i] = unit_spread(rng, VARINT_MAX);
}

static void random_reason(unit_rng *rng, p2p__frame *f) {
    static const char text[] = "the disk is full: \xc3\xa4\xe2\x82\xac\xf0\x90\x8d\x88";
    f->data.data = (const uint8_t *)text;
    f->data.size = unit_below(rng, 2) ? sizeof text - 1 : (size_t)unit_below(rng, 18);
    f->origin = (uint8_t)unit_below(rng, 2);
    f->code = unit_spread(rng, UINT32_MAX);
}

/* A frame of any type, within what may be on the wire. */
static void random_frame(unit_rng *rng, p2p__frame *f) {
    static const uint8_t types[] = {P2P__FRAME_PING,
                                    P2P__FRAME_ACK,
                                    P2P__FRAME_RESET_STREAM,
                                    P2P__FRAME_STOP_SENDING,
                                    P2P__FRAME_STREAM,
                                    P2P__FRAME_MAX_DATA,
                                    P2P__FRAME_MAX_STREAM_DATA,
                                    P2P__FRAME_MAX_STREAMS,
                                    P2P__FRAME_DATA_BLOCKED,
                                    P2P__FRAME_STREAM_DATA_BLOCKED,
                                    P2P__FRAME_STREAMS_BLOCKED,
                                    P2P__FRAME_PATH_CHALLENGE,
                                    P2P__FRAME_PATH_RESPONSE,
                                    P2P__FRAME_CLOSE,
                                    P2P__FRAME_HELLO,
                                    P2P__FRAME_AUTH,
                                    P2P__FRAME_DONE,
                                    P2P__FRAME_DATAGRAM};
    memset(f, 0, sizeof *f);
    f->type = types[unit_below(rng, sizeof types)];
    f->id = random_stream_id(rng);
    f->value = unit_spread(rng, VARINT_MAX);
    f->code = unit_spread(rng, UINT32_MAX);
    f->data.data = pool_bytes + unit_below(rng, 100);
    f->data.size = (size_t)unit_below(rng, 300);
    f->bytes = pool_bytes + unit_below(rng, 100);
    if (f->type == P2P__FRAME_ACK)
        random_ranges(rng, f);
    if (f->type == P2P__FRAME_CLOSE)
        random_reason(rng, f);
    if (f->type == P2P__FRAME_STREAM) {
        f->offset = unit_spread(rng, VARINT_MAX - f->data.size);
        f->fin = (uint8_t)unit_below(rng, 2);
    }
    if (f->type == P2P__FRAME_MAX_STREAMS || f->type == P2P__FRAME_STREAMS_BLOCKED) {
        f->id = unit_below(rng, P2P__STREAM_KINDS);
        f->value = unit_spread(rng, P2P__STREAMS_MAX);
    }
    if (f->type == P2P__FRAME_PATH_RESPONSE) {
        f->family = f->addr.family = unit_below(rng, 2) ? 4 : 6;
        unit_bytes(rng, f->addr.ip, f->family == 4 ? 4 : 16);
        f->addr.port = (uint16_t)unit_u64(rng);
    }
}

static int same_data(p2p_span a, p2p_span b) {
    return a.size == b.size && (!a.size || memcmp(a.data, b.data, a.size) == 0);
}

static int same_ranges(const p2p__frame *a, const p2p__frame *b) {
    int same = a->ranges == b->ranges && a->largest == b->largest && a->delay_us == b->delay_us &&
               a->ecn == b->ecn && memcmp(a->ect, b->ect, sizeof a->ect) == 0;
    for (uint32_t i = 0; same && i < a->ranges; i++)
        same = a->range[i].first == b->range[i].first && a->range[i].last == b->range[i].last;
    return same;
}

/* The fields that the type says. */
static int same_frame(const p2p__frame *a, const p2p__frame *b) {
    if (a->type != b->type)
        return 0;
    switch (a->type) {
    case P2P__FRAME_PING:
    case P2P__FRAME_DONE: return 1;
    case P2P__FRAME_ACK: return same_ranges(a, b);
    case P2P__FRAME_STREAM:
        return a->id == b->id && a->offset == b->offset && a->fin == b->fin &&
               same_data(a->data, b->data);
    case P2P__FRAME_CLOSE:
        return a->origin == b->origin && a->code == b->code && same_data(a->data, b->data);
    case P2P__FRAME_HELLO:
    case P2P__FRAME_DATAGRAM: return same_data(a->data, b->data);
    case P2P__FRAME_PATH_CHALLENGE: return memcmp(a->bytes, b->bytes, 8) == 0;
    case P2P__FRAME_AUTH: return memcmp(a->bytes, b->bytes, P2P__AUTH_SIZE) == 0;
    case P2P__FRAME_PATH_RESPONSE:
        return memcmp(a->bytes, b->bytes, 8) == 0 && a->family == b->family &&
               memcmp(a->addr.ip, b->addr.ip, 16) == 0 && a->addr.port == b->addr.port;
    case P2P__FRAME_RESET_STREAM:
        return a->id == b->id && a->code == b->code && a->value == b->value;
    case P2P__FRAME_STOP_SENDING: return a->id == b->id && a->code == b->code;
    case P2P__FRAME_MAX_DATA:
    case P2P__FRAME_DATA_BLOCKED: return a->value == b->value;
    default: return a->id == b->id && a->value == b->value;
    }
}

/* Several frames in a packet, with padding and extensions between them; the last without length. */
TEST(random_packets_come_back) {
    for (size_t i = 0; i < sizeof pool_bytes; i++)
        pool_bytes[i] = (uint8_t)(i * 37);
    for (int i = 0; i < test_seeds(500); i++) {
        unit_rng rng = {test_seed()};
        static uint8_t packet[16384];
        p2p__frame sent[8], got;
        size_t count = 1 + (size_t)unit_below(&rng, 8);
        p2p__writer w = p2p__writer_of(packet, sizeof packet);
        p2p__reader r;
        for (size_t n = 0; n < count; n++) {
            bool last = n + 1 == count;
            random_frame(&rng, &sent[n]);
            if (unit_below(&rng, 3) == 0)
                p2p__put_u16(&w, 0);
            if (unit_below(&rng, 3) == 0) {
                p2p__put_varint(&w, 0x40 + unit_below(&rng, 64));
                p2p__put_varint(&w, 5);
                p2p__put_bytes(&w, pool_bytes, 5);
            }
            wire_encode(&w, &sent[n], !last || unit_below(&rng, 2));
        }
        CHECK(!w.bad);
        r = p2p__reader_of(packet, (size_t)(w.at - packet));
        for (size_t n = 0; n < count; n++) {
            CHECK_INT(p2p__frame_get(&r, &got), 1);
            CHECK(same_frame(&sent[n], &got));
        }
        CHECK_INT(p2p__frame_get(&r, &got), 0);
    }
}

/* Every frame written in too little room leaves the writer where it was, and nothing beyond. */
TEST(frames_that_do_not_fit_write_nothing) {
    for (int i = 0; i < test_seeds(100); i++) {
        unit_rng rng = {test_seed()};
        uint8_t whole[1024], room[1024];
        p2p__frame f;
        p2p__writer w = p2p__writer_of(whole, sizeof whole);
        size_t size, less;
        do
            random_frame(&rng, &f);
        while (f.type == P2P__FRAME_STREAM || f.type == P2P__FRAME_DATAGRAM ||
               f.type == P2P__FRAME_HELLO || f.type == P2P__FRAME_AUTH ||
               f.type == P2P__FRAME_PATH_CHALLENGE);
        wire_encode(&w, &f, true);
        CHECK(!w.bad);
        size = (size_t)(w.at - whole);
        less = (size_t)unit_below(&rng, size);
        w = p2p__writer_of(room, less);
        room[less] = 0x5a;
        wire_encode(&w, &f, true);
        CHECK(w.bad);
        CHECK(w.at == room);
        CHECK_INT(room[less], 0x5a);
    }
}

/* Any truncation of a frame without an open end is an error, never another frame. */
TEST(cut_frames_are_protocol_errors) {
    for (int i = 0; i < test_seeds(200); i++) {
        unit_rng rng = {test_seed()};
        uint8_t bytes[1024];
        p2p__frame f, got;
        p2p__writer w = p2p__writer_of(bytes, sizeof bytes);
        size_t size;
        random_frame(&rng, &f);
        wire_encode(&w, &f, true);
        CHECK(!w.bad);
        size = (size_t)(w.at - bytes);
        for (size_t cut = 1; cut < size; cut++) {
            p2p__reader r = p2p__reader_of(bytes, cut);
            CHECK_INT(p2p__frame_get(&r, &got), P2P_ERR_PROTOCOL);
        }
    }
}

TEST(what_cannot_be_said_is_not_written) {
    static const char long_text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    uint8_t room[256];
    p2p_str bad = P2P_STR("\xff"), too_long = {long_text, 97}, most = {long_text, 96};
    p2p_addr none;
    p2p__writer w = p2p__writer_of(room, sizeof room);
    p2p__put_close(&w, 0, 1, bad);
    CHECK(w.bad && w.at == room);
    w = p2p__writer_of(room, sizeof room);
    p2p__put_close(&w, 0, 1, too_long);
    CHECK(w.bad && w.at == room);
    w = p2p__writer_of(room, sizeof room);
    p2p__put_close(&w, 2, 1, most);
    CHECK(w.bad && w.at == room);
    w = p2p__writer_of(room, sizeof room);
    p2p__put_close(&w, 1, 1, most);
    CHECK(!w.bad);
    memset(&none, 0, sizeof none);
    w = p2p__writer_of(room, sizeof room);
    p2p__put_path_response(&w, pool_bytes, &none);
    CHECK(w.bad && w.at == room);
}

/* ---- HELLO */

static int hello(const char *hex, p2p__hello *out) {
    static uint8_t bytes[512];
    p2p_span body;
    body.data = bytes;
    body.size = unit_hex(hex, bytes, sizeof bytes);
    return p2p__hello_get(body, out);
}

TEST(a_hello_of_known_bytes) {
    p2p__hello h;
    /* versions 1 and 300; "p2p" and "x"; caps 5; max_packet 1200, max_data 65536, idle 30 s */
    CHECK_INT(hello("02"
                    "01"
                    "412c"
                    "02"
                    "03"
                    "703270"
                    "01"
                    "78"
                    "05"
                    "03"
                    "01"
                    "44b0"
                    "02"
                    "80010000"
                    "0c"
                    "81c9c380",
                    &h),
              P2P_OK);
    CHECK_INT(h.version_count, 2);
    CHECK(h.versions[0] == 1 && h.versions[1] == 300);
    CHECK_INT(h.alpn_count, 2);
    CHECK(p2p_str_equal(h.alpn[0], "p2p") && p2p_str_equal(h.alpn[1], "x"));
    CHECK(h.caps == 5);
    CHECK(h.param[P2P__PARAM_MAX_PACKET] == 1200 && h.param[P2P__PARAM_MAX_DATA] == 65536);
    CHECK(h.param[P2P__PARAM_IDLE_US] == 30000000);
    CHECK(h.param[P2P__PARAM_MESSAGE_MAX] == 0);
}

TEST(parameters_not_known_here_are_ignored) {
    p2p__hello h;
    CHECK_INT(hello("01"
                    "01"
                    "01"
                    "01"
                    "78"
                    "00"
                    "04"
                    "0b"
                    "07"
                    "0d"
                    "08"
                    "0f"
                    "09"
                    "7fff"
                    "01",
                    &h),
              P2P_OK);
    CHECK(h.param[P2P__PARAM_DATAGRAM_MAX] == 7);
    for (size_t i = P2P__PARAM_END; i < 16; i++)
        CHECK(h.param[i] == 0);
}

TEST(malformed_hellos_are_protocol_errors) {
    static const char *const row[] = {
        "",
        "01",
        "01"
        "01",
        "01"
        "01"
        "01",
        "01"
        "01"
        "01"
        "01"
        "78",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00",
        /* counts of none and of too many */
        "00"
        "01"
        "01"
        "78"
        "00"
        "00",
        "09"
        "010101010101010101"
        "01"
        "01"
        "78"
        "00"
        "00",
        "01"
        "01"
        "00"
        "00"
        "00",
        "01"
        "01"
        "09"
        "017801780178017801780178017801780178"
        "00"
        "00",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "21",
        /* a version of more than 32 bits; names of 0 and 33 bytes */
        "01"
        "c000000100000000"
        "01"
        "01"
        "78"
        "00"
        "00",
        "01"
        "01"
        "01"
        "00"
        "00"
        "00",
        "01"
        "01"
        "01"
        "21"
        "787878787878787878787878787878787878787878787878787878787878787878"
        "00"
        "00",
        /* longer integers than needed, bytes behind the end */
        "4001"
        "01"
        "01"
        "01"
        "78"
        "00"
        "00",
        "01"
        "01"
        "01"
        "01"
        "78"
        "4000"
        "00",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "00"
        "00",
        /* parameters: cut, repeated, descending, id 0, value 0, too many streams */
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "01"
        "01",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "02"
        "01"
        "05"
        "01"
        "05",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "02"
        "7fff"
        "05"
        "7fff"
        "05",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "02"
        "02"
        "05"
        "01"
        "05",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "01"
        "00"
        "05",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "01"
        "01"
        "00",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "01"
        "07"
        "c800000000000001",
        "01"
        "01"
        "01"
        "01"
        "78"
        "00"
        "01"
        "09"
        "c800000000000001",
    };
    p2p__hello h;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (hello(row[i], &h) != P2P_ERR_PROTOCOL)
            printf("    taken: %s\n", row[i]);
        CHECK_INT(hello(row[i], &h), P2P_ERR_PROTOCOL);
    }
    CHECK_INT(hello("01"
                    "01"
                    "01"
                    "01"
                    "78"
                    "00"
                    "00",
                    &h),
              P2P_OK);
    CHECK_INT(hello("01"
                    "01"
                    "01"
                    "01"
                    "78"
                    "00"
                    "01"
                    "07"
                    "c800000000000000",
                    &h),
              P2P_OK);
}

static void random_hello(unit_rng *rng, p2p__hello *h) {
    memset(h, 0, sizeof *h);
    h->version_count = (uint8_t)(1 + unit_below(rng, P2P__HELLO_VERSIONS));
    for (uint32_t i = 0; i < h->version_count; i++)
        h->versions[i] = (uint32_t)unit_spread(rng, UINT32_MAX);
    h->alpn_count = (uint8_t)(1 + unit_below(rng, P2P__HELLO_ALPNS));
    for (uint32_t i = 0; i < h->alpn_count; i++) {
        h->alpn[i].data = (const char *)pool_bytes + unit_below(rng, 100);
        h->alpn[i].size = 1 + (size_t)unit_below(rng, P2P__ALPN_MAX);
    }
    h->caps = unit_spread(rng, VARINT_MAX);
    for (size_t i = 1; i < P2P__PARAM_END; i++)
        h->param[i] = unit_below(rng, 2) ? unit_spread(rng, P2P__STREAMS_MAX) : 0;
}

TEST(random_hellos_come_back_and_cut_ones_do_not) {
    for (int i = 0; i < test_seeds(200); i++) {
        unit_rng rng = {test_seed()};
        uint8_t bytes[1024];
        p2p__hello sent, got;
        p2p__writer w = p2p__writer_of(bytes, sizeof bytes);
        p2p_span body;
        random_hello(&rng, &sent);
        p2p__put_hello(&w, &sent);
        CHECK(!w.bad);
        body.data = bytes;
        body.size = (size_t)(w.at - bytes);
        CHECK_INT(p2p__hello_get(body, &got), P2P_OK);
        CHECK(got.version_count == sent.version_count && got.alpn_count == sent.alpn_count);
        CHECK_BYTES(got.versions, sent.versions, sizeof got.versions);
        for (uint32_t n = 0; n < got.alpn_count; n++) {
            CHECK_INT(got.alpn[n].size, sent.alpn[n].size);
            CHECK_BYTES(got.alpn[n].data, sent.alpn[n].data, got.alpn[n].size);
        }
        CHECK(got.caps == sent.caps);
        CHECK_BYTES(got.param, sent.param, sizeof got.param);
        w = p2p__writer_of(bytes, body.size - 1);
        p2p__put_hello(&w, &sent);
        CHECK(w.bad && w.at == bytes);
        for (size_t cut = 0; cut < body.size; cut++) {
            p2p_span less;
            less.data = bytes;
            less.size = cut;
            CHECK_INT(p2p__hello_get(less, &got), P2P_ERR_PROTOCOL);
        }
    }
}

TEST_MAIN(P2P_TEST_ENTRY(plain_frames_of_known_bytes), P2P_TEST_ENTRY(stream_frames_of_known_bytes),
          P2P_TEST_ENTRY(ack_frames_of_known_bytes), P2P_TEST_ENTRY(other_frames_of_known_bytes),
          P2P_TEST_ENTRY(padding_and_extensions_are_skipped),
          P2P_TEST_ENTRY(malformed_frames_are_protocol_errors),
          P2P_TEST_ENTRY(limits_of_sizes_hold), P2P_TEST_ENTRY(thirty_two_ranges_are_the_most),
          P2P_TEST_ENTRY(an_error_sticks), P2P_TEST_ENTRY(random_packets_come_back),
          P2P_TEST_ENTRY(frames_that_do_not_fit_write_nothing),
          P2P_TEST_ENTRY(cut_frames_are_protocol_errors),
          P2P_TEST_ENTRY(what_cannot_be_said_is_not_written),
          P2P_TEST_ENTRY(a_hello_of_known_bytes),
          P2P_TEST_ENTRY(parameters_not_known_here_are_ignored),
          P2P_TEST_ENTRY(malformed_hellos_are_protocol_errors),
          P2P_TEST_ENTRY(random_hellos_come_back_and_cut_ones_do_not))
