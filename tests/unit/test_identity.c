/* >>identity: ids, keys, addresses, tickets and their texts. */
#define UNIT_SODIUM
#include "unit.h"

/* ---- ids and keys */

static const struct {
    const char *seed, *hex, *z32, *short_text;
} known[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000",
     "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
     "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo", "3b6a27bcce"},
    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
     "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
     "yqooxx9u3aemh8mo5wcqq16yufu6jitouq1o4za751dger1igghy", "03a107bff3"},
    {NULL, "1992d53c02cdc04566e5c0edb1ce83305cd550297953a047a445ea3264b54b18",
     "dgjpkxyn3zyrk3zfads5duwdgbqpkwbjxfj4yt7rezidr3fijccy", "1992d53c02"},
};
#define KNOWN (sizeof known / sizeof *known)

TEST(ids_of_known_texts) {
    for (size_t i = 0; i < KNOWN; i++) {
        p2p_id id, from_hex, from_z32;
        char text[P2P_ID_TEXT_SIZE], few[11];
        CHECK_INT(unit_hex(known[i].hex, id.bytes, 32), 32);
        CHECK_INT(p2p_id_text(&id, text), 52);
        CHECK_STR(text, known[i].z32);
        CHECK_INT(p2p_id_short(&id, few), 10);
        CHECK_STR(few, known[i].short_text);
        CHECK_INT(p2p_id_parse(known[i].hex, &from_hex), P2P_OK);
        CHECK_INT(p2p_id_parse(known[i].z32, &from_z32), P2P_OK);
        CHECK(p2p_id_equal(&id, &from_hex));
        CHECK(p2p_id_equal(&id, &from_z32));
        CHECK_INT(p2p__id_check(&id), P2P_OK);
    }
}

TEST(keys_of_known_seeds) {
    p2p_crypto crypto;
    CHECK_INT(p2p_sodium_crypto(&crypto), P2P_OK);
    for (size_t i = 0; i < KNOWN && known[i].seed; i++) {
        p2p_key key;
        p2p_id wanted;
        CHECK_INT(unit_hex(known[i].seed, key.seed, 32), 32);
        CHECK_INT(p2p_id_parse(known[i].hex, &wanted), P2P_OK);
        CHECK_INT(p2p_key_from_seed(&crypto, key.seed, &key), P2P_OK);
        CHECK(p2p_id_equal(&key.id, &wanted));
    }
}

TEST(texts_that_are_no_ids) {
    static const char *const wrong[] = {
        "",
        "8",
        "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ew",
        "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewoy",
        "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewb",
        "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewn",
        "8Pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo",
        "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ew ",
        "0pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo",
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da2",
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da2g",
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da290",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
    };
    p2p_id id;
    memset(&id, 0xcc, sizeof id);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_INT(p2p_id_parse(wrong[i], &id), P2P_ERR_INVALID_ID);
        CHECK_INT(id.bytes[0], 0xcc);
    }
    CHECK_INT(p2p_id_parse(NULL, &id), P2P_ERR_ARG);
    CHECK_INT(p2p_id_parse(known[0].hex, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_id_text(NULL, NULL), P2P_ERR_ARG);
    CHECK_INT(p2p_id_short(NULL, NULL), P2P_ERR_ARG);
}

TEST(hex_is_read_in_both_cases) {
    p2p_id lower, upper;
    CHECK_INT(
        p2p_id_parse("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8", &lower),
        P2P_OK);
    CHECK_INT(
        p2p_id_parse("03A107BFF3CE10BE1D70DD18E74BC09967E4D6309BA50D5F1DDC8664125531B8", &upper),
        P2P_OK);
    CHECK(p2p_id_equal(&lower, &upper));
}

/* The y of the eight points of small order, computed from the curve's equation. */
static const char *const small_order[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

TEST(points_of_small_order_are_no_ids) {
    p2p_id id;
    for (size_t i = 0; i < sizeof small_order / sizeof *small_order; i++) {
        CHECK_INT(unit_hex(small_order[i], id.bytes, 32), 32);
        CHECK_INT(p2p__id_check(&id), P2P_ERR_INVALID_ID);
        id.bytes[31] |= 0x80;
        CHECK_INT(p2p__id_check(&id), P2P_ERR_INVALID_ID);
    }
}

TEST(encodings_that_are_not_canonical_are_no_ids) {
    p2p_id id;
    memset(id.bytes, 0xff, 32);
    for (int low = 0xed; low <= 0xff; low++) {
        id.bytes[0] = (uint8_t)low;
        id.bytes[31] = 0x7f;
        CHECK_INT(p2p__id_check(&id), P2P_ERR_INVALID_ID);
        id.bytes[31] = 0xff;
        CHECK_INT(p2p__id_check(&id), P2P_ERR_INVALID_ID);
    }
    id.bytes[0] = 0xeb; /* p - 2 is canonical; only 0xec, p - 1, is of small order */
    CHECK_INT(p2p__id_check(&id), P2P_OK);
    for (size_t i = 1; i < 31; i++) {
        memset(id.bytes, 0xff, 32);
        id.bytes[i] = 0xfe;
        CHECK_INT(p2p__id_check(&id), P2P_OK);
    }
    memset(id.bytes, 0xff, 32);
    id.bytes[31] = 0x7e;
    CHECK_INT(p2p__id_check(&id), P2P_OK);
    memset(id.bytes, 0, 32);
    for (size_t i = 1; i < 32; i++) {
        id.bytes[i] = 1;
        CHECK_INT(p2p__id_check(&id), P2P_OK);
        id.bytes[i] = 0;
    }
    id.bytes[0] = 2;
    CHECK_INT(p2p__id_check(&id), P2P_OK);
}

TEST(random_ids_come_back_from_both_texts) {
    for (int i = 0; i < test_seeds(100); i++) {
        unit_rng rng = {test_seed()};
        char z32[P2P_ID_TEXT_SIZE], hex[65];
        p2p_id id, back;
        unit_bytes(&rng, id.bytes, 32);
        CHECK_INT(p2p_id_text(&id, z32), 52);
        CHECK_INT(p2p_id_parse(z32, &back), P2P_OK);
        CHECK(p2p_id_equal(&id, &back));
        p2p__hex_put(id.bytes, 32, hex);
        CHECK_INT(p2p_id_parse(hex, &back), P2P_OK);
        CHECK(p2p_id_equal(&id, &back));
        back.bytes[unit_below(&rng, 32)] ^= (uint8_t)(1u << unit_below(&rng, 8));
        CHECK(!p2p_id_equal(&id, &back));
    }
}

typedef struct entropy {
    int mode, calls;
} entropy;

static int entropy_fill(void *ctx, void *out, size_t size) {
    entropy *e = (entropy *)ctx;
    memset(out, e->mode == 1 ? 9 : ++e->calls, size);
    return e->mode == 2 ? P2P_ERR_IO : P2P_OK;
}

TEST(a_generated_key_is_its_seeds) {
    static const uint8_t zero[32] = {0};
    entropy good = {0, 0}, stuck = {1, 0}, failing = {2, 0};
    p2p_random random = {&good, entropy_fill};
    p2p_crypto crypto, none = {NULL, NULL};
    p2p_key key, same;
    CHECK_INT(p2p_sodium_crypto(&crypto), P2P_OK);
    CHECK_INT(p2p_key_generate(&crypto, &random, &key), P2P_OK);
    CHECK(memcmp(key.seed, zero, 32) != 0);
    CHECK_INT(p2p_key_from_seed(&crypto, key.seed, &same), P2P_OK);
    CHECK(p2p_id_equal(&key.id, &same.id));
    random.ctx = &stuck;
    CHECK_INT(p2p_key_generate(&crypto, &random, &key), P2P_ERR_CONFIG);
    random.ctx = &failing;
    CHECK_INT(p2p_key_generate(&crypto, &random, &key), P2P_ERR_IO);
    CHECK_INT(p2p_key_generate(&crypto, NULL, &key), P2P_ERR_ARG);
    CHECK_INT(p2p_key_from_seed(&none, zero, &key), P2P_ERR_ARG);
    CHECK_INT(p2p_key_from_seed(&crypto, NULL, &key), P2P_ERR_ARG);
}

static int bad_public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
    (void)seed;
    memset(out, 0, sizeof *out);
    return *(const int *)ctx;
}

TEST(a_crypto_table_that_fails_gives_no_key) {
    static const p2p_crypto_api api = {bad_public_key, NULL, NULL, NULL};
    static const p2p_key wiped = {{0}, {{0}}};
    int result = P2P_ERR_IO;
    p2p_crypto crypto = {&result, &api};
    p2p_key key;
    memset(&key, 7, sizeof key);
    CHECK_INT(p2p_key_from_seed(&crypto, key.seed, &key), P2P_ERR_IO);
    CHECK_BYTES(&key, &wiped, sizeof key);
    result = P2P_OK;
    memset(&key, 7, sizeof key);
    CHECK_INT(p2p_key_from_seed(&crypto, key.seed, &key), P2P_ERR_INVALID_ID);
    CHECK_BYTES(&key, &wiped, sizeof key);
}

/* ---- addresses */

TEST(addresses_of_known_texts) {
    static const struct {
        const char *text, *canonical, *ip;
        uint32_t scope;
        uint16_t port;
    } row[] = {
        {"127.0.0.1:8800", NULL, "7f000001", 0, 8800},
        {"0.0.0.0:0", NULL, "00000000", 0, 0},
        {"255.255.255.255:65535", NULL, "ffffffff", 0, 65535},
        {"[::1]:8800", NULL, "00000000000000000000000000000001", 0, 8800},
        {"[::]:1", NULL, "00000000000000000000000000000000", 0, 1},
        {"[2001:db8::]:1", NULL, "20010db8000000000000000000000000", 0, 1},
        {"[2001:DB8:0:0:1:0:0:1]:1", "[2001:db8::1:0:0:1]:1", "20010db8000000000001000000000001", 0,
         1},
        {"[1:0:0:2:0:0:0:3]:1", "[1:0:0:2::3]:1", "00010000000000020000000000000003", 0, 1},
        {"[1:2:3:4:5:6:7:8]:1", NULL, "00010002000300040005000600070008", 0, 1},
        {"[1::3:4:5:6:7:8]:1", "[1:0:3:4:5:6:7:8]:1", "00010000000300040005000600070008", 0, 1},
        {"[1:2:3:4:5:6:7::]:1", "[1:2:3:4:5:6:7:0]:1", "00010002000300040005000600070000", 0, 1},
        {"[::2:3:4:5:6:7:8]:1", "[0:2:3:4:5:6:7:8]:1", "00000002000300040005000600070008", 0, 1},
        {"[0:0:2:3:4:5:6:7]:1", "[::2:3:4:5:6:7]:1", "00000000000200030004000500060007", 0, 1},
        {"[0001:00a0:0bcd:ffff::]:1", "[1:a0:bcd:ffff::]:1", "000100a00bcdffff0000000000000000", 0,
         1},
        {"[::ffff:1.2.3.4]:1", NULL, "00000000000000000000ffff01020304", 0, 1},
        {"[::ffff:102:304]:1", "[::ffff:1.2.3.4]:1", "00000000000000000000ffff01020304", 0, 1},
        {"[1:2:3:4:5:6:1.2.3.4]:1", "[1:2:3:4:5:6:102:304]:1", "00010002000300040005000601020304",
         0, 1},
        {"[::1.2.3.4]:1", "[::102:304]:1", "00000000000000000000000001020304", 0, 1},
        {"[fe80::1%2]:1", NULL, "fe800000000000000000000000000001", 2, 1},
        {"[fe80::1]:1", NULL, "fe800000000000000000000000000001", 0, 1},
        {"[febf::1%4294967295]:1", NULL, "febf0000000000000000000000000001", UINT32_MAX, 1},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *canonical = row[i].canonical ? row[i].canonical : row[i].text;
        uint8_t ip[16];
        size_t size = unit_hex(row[i].ip, ip, sizeof ip);
        char text[P2P_ADDR_TEXT_SIZE];
        p2p_addr addr;
        CHECK_INT(p2p_addr_parse(row[i].text, &addr), P2P_OK);
        CHECK_INT(addr.family, size == 4 ? 4 : 6);
        CHECK_BYTES(addr.ip, ip, size);
        CHECK_INT(addr.port, row[i].port);
        CHECK_INT(addr.scope, row[i].scope);
        CHECK_INT(p2p_addr_text(&addr, text), strlen(canonical));
        CHECK_STR(text, canonical);
    }
}

TEST(texts_that_are_no_addresses) {
    static const char *const wrong[] = {
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:4294967297",
        "127.0.0.1:18446744073709551617",
        "127.0.0.1:080",
        "127.0.0.1:80 ",
        " 127.0.0.1:80",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0:80",
        "127.0.0.0.1:80",
        "127.0.0.256:80",
        "127.0.0.01:80",
        "127.0.0.:80",
        "127..0.1:80",
        "0x7f.0.0.1:80",
        "localhost:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "[]:80",
        "[:]:80",
        "[:::]:80",
        "[1::2::3]:80",
        "[1:2:3:4:5:6:7]:80",
        "[1:2:3:4:5:6:7:8:9]:80",
        "[1:2:3:4:5:6:7:8::]:80",
        "[::1:2:3:4:5:6:7:8]:80",
        "[1:2:3:4::5:6:7:8]:80",
        "[12345::]:80",
        "[g::]:80",
        "[1:]:80",
        "[1:2:3:4:5:6:7:]:80",
        "[:1:2:3:4:5:6:7]:80",
        "[::1.2.3]:80",
        "[::1.2.3.4.5]:80",
        "[1:2:3:4:5:6:7:1.2.3.4]:80",
        "[::1.2.3.4:1]:80",
        "[1:2:3:4:5:6::1.2.3.4]:80",
        "[::1%1]:80",
        "[fe80::1%]:80",
        "[fe80::1%0]:80",
        "[fe80::1%01]:80",
        "[fe80::1%eth0]:80",
        "[fe80::1%4294967296]:80",
        "[fec0::1%1]:80",
        "[127.0.0.1]:80",
    };
    p2p_addr addr;
    memset(&addr, 0xcc, sizeof addr);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (p2p_addr_parse(wrong[i], &addr) != P2P_ERR_ARG)
            printf("    taken: %s\n", wrong[i]);
        CHECK_INT(p2p_addr_parse(wrong[i], &addr), P2P_ERR_ARG);
        CHECK_INT(addr.family, 0xcc);
    }
    CHECK_INT(p2p_addr_parse(NULL, &addr), P2P_ERR_ARG);
    CHECK_INT(p2p_addr_parse("127.0.0.1:80", NULL), P2P_ERR_ARG);
}

TEST(an_address_of_no_family_has_no_text) {
    char text[P2P_ADDR_TEXT_SIZE] = "x";
    p2p_addr addr;
    memset(&addr, 0, sizeof addr);
    CHECK_INT(p2p_addr_text(&addr, text), P2P_ERR_ARG);
    CHECK_STR(text, "");
    CHECK_INT(p2p_addr_text(NULL, text), P2P_ERR_ARG);
}

/* Zero groups are frequent, so that every way to write them occurs. */
static void random_addr(unit_rng *rng, p2p_addr *out) {
    memset(out, 0, sizeof *out);
    out->family = unit_below(rng, 2) ? 4 : 6;
    out->port = (uint16_t)(1 + unit_below(rng, 65535));
    for (size_t i = 0; i < (out->family == 4 ? 4u : 16u); i++)
        out->ip[i] = (uint8_t)(unit_below(rng, 3) ? 0 : unit_u64(rng));
    if (out->family == 6 && unit_below(rng, 4) == 0) {
        out->ip[0] = 0xfe;
        out->ip[1] = (uint8_t)(0x80 | unit_below(rng, 64));
        out->scope = (uint32_t)unit_spread(rng, UINT32_MAX);
    }
}

static int same_addr(const p2p_addr *a, const p2p_addr *b) {
    return a->family == b->family && a->port == b->port && a->scope == b->scope &&
           memcmp(a->ip, b->ip, 16) == 0;
}

TEST(random_addresses_come_back) {
    for (int i = 0; i < test_seeds(500); i++) {
        unit_rng rng = {test_seed()};
        char text[P2P_ADDR_TEXT_SIZE];
        p2p_addr addr, back;
        random_addr(&rng, &addr);
        CHECK_INT(p2p_addr_text(&addr, text), strlen(text));
        CHECK_INT(p2p_addr_parse(text, &back), P2P_OK);
        CHECK(same_addr(&addr, &back));
    }
}

/* ---- tickets */

static void random_ticket(unit_rng *rng, p2p_ticket *out) {
    memset(out, 0, sizeof *out);
    unit_bytes(rng, out->id.bytes, 32);
    if (unit_below(rng, 2)) {
        unit_bytes(rng, out->relay_id.bytes, 32);
        random_addr(rng, &out->relay);
    }
    out->addr_count = (uint32_t)unit_below(rng, P2P_TICKET_ADDRS + 1);
    for (uint32_t i = 0; i < out->addr_count; i++)
        random_addr(rng, &out->addrs[i]);
}

static int same_ticket(const p2p_ticket *a, const p2p_ticket *b) {
    int same = p2p_id_equal(&a->id, &b->id) && p2p_id_equal(&a->relay_id, &b->relay_id) &&
               same_addr(&a->relay, &b->relay) && a->addr_count == b->addr_count;
    for (uint32_t i = 0; same && i < a->addr_count; i++)
        same = same_addr(&a->addrs[i], &b->addrs[i]);
    return same;
}

TEST(random_tickets_come_back) {
    for (int i = 0; i < test_seeds(200); i++) {
        unit_rng rng = {test_seed()};
        char text[P2P_TICKET_TEXT_SIZE];
        p2p_ticket ticket, back;
        random_ticket(&rng, &ticket);
        CHECK_INT(p2p_ticket_text(&ticket, text), strlen(text));
        CHECK_INT(p2p_ticket_parse(text, &back), P2P_OK);
        CHECK(same_ticket(&ticket, &back));
        CHECK(p2p_ticket_fault(text) == NULL);
    }
}

TEST(the_fullest_ticket_fits) {
    char text[P2P_TICKET_TEXT_SIZE];
    p2p_ticket ticket, back;
    memset(&ticket, 0x33, sizeof ticket);
    ticket.addr_count = P2P_TICKET_ADDRS;
    for (uint32_t i = 0; i <= P2P_TICKET_ADDRS; i++) {
        p2p_addr *addr = i < P2P_TICKET_ADDRS ? &ticket.addrs[i] : &ticket.relay;
        addr->family = 6;
        addr->ip[0] = 0xfe;
        addr->ip[1] = 0x80;
    }
    CHECK_INT(p2p_ticket_text(&ticket, text), strlen(text));
    CHECK(strlen(text) > 360 && strlen(text) < P2P_TICKET_TEXT_SIZE);
    CHECK_INT(p2p_ticket_parse(text, &back), P2P_OK);
    CHECK(same_ticket(&ticket, &back));
    ticket.addr_count++;
    CHECK_INT(p2p_ticket_text(&ticket, text), P2P_ERR_ARG);
    CHECK_STR(text, "");
}

/* The bytes of one ticket, written here by hand: what another implementation would write. */
TEST(a_ticket_of_known_bytes) {
    static const char bytes_text[] =
        "01"
        "00"
        "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
        "02"
        "04"
        "7f000001"
        "2260"
        "06"
        "fe800000000000000000000000000001"
        "2260"
        "00000002";
    uint8_t bytes[80];
    size_t size = unit_hex(bytes_text, bytes, sizeof bytes);
    static const uint8_t zero_key[16] = {0};
    uint64_t hash = p2p__hash64(zero_key, bytes, size);
    char text[P2P_TICKET_TEXT_SIZE], wanted[P2P_TICKET_TEXT_SIZE];
    p2p_ticket ticket;
    CHECK_INT(size, 65);
    for (size_t i = 0; i < 4; i++)
        bytes[size + i] = (uint8_t)(hash >> (56 - 8 * i));
    memset(wanted, 0, sizeof wanted);
    memcpy(wanted, "p2p1", 4);
    p2p__z32_put(bytes, size + 4, wanted + 4);
    memset(&ticket, 0, sizeof ticket);
    ticket.addr_count = 2;
    CHECK_INT(p2p_id_parse(known[0].hex, &ticket.id), P2P_OK);
    CHECK_INT(p2p_addr_parse("127.0.0.1:8800", &ticket.addrs[0]), P2P_OK);
    CHECK_INT(p2p_addr_parse("[fe80::1%2]:8800", &ticket.addrs[1]), P2P_OK);
    CHECK_INT(p2p_ticket_text(&ticket, text), strlen(wanted));
    CHECK_STR(text, wanted);
    CHECK_STR(text, "p2p1yryds4t8zu8mpjbpckt4twbkphgzg3j1ni5t5a1dwa7cy1fbtpc7wkenyt9oyyybrj"
                    "oyp9wyyyyyyyyyyyyyyyyyyyyyyyjncyyyyyynddszige");
}

/* The text of a ticket with these bytes and a checksum that holds. */
static void sealed(const char *hex, char *out) {
    static const uint8_t key[16] = {0};
    uint8_t bytes[300];
    size_t size = unit_hex(hex, bytes, sizeof bytes);
    uint64_t hash = p2p__hash64(key, bytes, size);
    for (size_t i = 0; i < 4; i++)
        bytes[size + i] = (uint8_t)(hash >> (56 - 8 * i));
    memset(out, 0, 512);
    memcpy(out, "p2p1", 4);
    p2p__z32_put(bytes, size + 4, out + 4);
}

#define ID   "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
#define NONE "0000000000000000000000000000000000000000000000000000000000000000"
#define ADDR "047f0000012260"

TEST(every_damaged_part_is_named) {
    static const struct {
        const char *bytes, *part;
        int err;
    } row[] = {
        {"", "checksum", P2P_ERR_ARG},
        {"00", "version", P2P_ERR_PROTOCOL},
        {"0200" ID "00", "version", P2P_ERR_PROTOCOL},
        {"0102" ID "00", "version", P2P_ERR_PROTOCOL},
        {"0180" ID "00", "version", P2P_ERR_PROTOCOL},
        {"01003b6a", "node id", P2P_ERR_INVALID_ID},
        {"0100" NONE "00", "node id", P2P_ERR_INVALID_ID},
        {"0101" ID, "relay id", P2P_ERR_INVALID_ID},
        {"0101" ID NONE ADDR "00", "relay id", P2P_ERR_INVALID_ID},
        {"0101" ID ID, "relay address", P2P_ERR_ARG},
        {"0101" ID ID "057f000001226000", "relay address", P2P_ERR_ARG},
        {"0101" ID ID "047f000001000000", "relay address", P2P_ERR_ARG},
        {"0100" ID, "address count", P2P_ERR_ARG},
        {"0100" ID "07" ADDR ADDR ADDR ADDR ADDR ADDR ADDR, "address count", P2P_ERR_ARG},
        {"0100" ID "01", "addresses", P2P_ERR_ARG},
        {"0100" ID "02" ADDR "047f0000", "addresses", P2P_ERR_ARG},
        {"0100" ID "01007f0000012260", "addresses", P2P_ERR_ARG},
        {"0100" ID "01047f0000010000", "addresses", P2P_ERR_ARG},
        {"0100" ID "0106fe8000000000000000000000000000012260000000", "addresses", P2P_ERR_ARG},
        {"0100" ID "01" ADDR "00", "end", P2P_ERR_ARG},
    };
    char text[512];
    p2p_ticket ticket;
    memset(&ticket, 0xcc, sizeof ticket);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *fault;
        sealed(row[i].bytes, text);
        CHECK_INT(p2p_ticket_parse(text, &ticket), row[i].err);
        CHECK_INT(ticket.id.bytes[0], 0xcc);
        fault = p2p_ticket_fault(text);
        CHECK(fault != NULL);
        if (strncmp(fault, row[i].part, strlen(row[i].part)) != 0)
            CHECK_STR(fault, row[i].part);
    }
    sealed("0100" ID "01" ADDR, text);
    CHECK_INT(p2p_ticket_parse(text, &ticket), P2P_OK);
    CHECK(p2p_ticket_fault(text) == NULL);
}

static int fault_is(const char *text, const char *part) {
    const char *fault = p2p_ticket_fault(text);
    p2p_ticket ticket;
    return p2p_ticket_parse(text, &ticket) == P2P_ERR_ARG && fault &&
           strncmp(fault, part, strlen(part)) == 0;
}

TEST(damaged_texts_are_named) {
    char text[512], longer[4096];
    p2p_ticket ticket;
    sealed("0100" ID "01" ADDR, text);
    CHECK(fault_is("", "beginning"));
    CHECK(fault_is("p2p", "beginning"));
    CHECK(fault_is("p2p2yy", "beginning"));
    CHECK(fault_is("P2P1yy", "beginning"));
    CHECK(fault_is("p2p1", "checksum"));
    CHECK(fault_is("p2p1yyyyyyyy", "checksum"));
    CHECK(fault_is("p2p1y", "letters"));
    CHECK(fault_is("p2p1y0yyyyyy", "letters"));
    snprintf(longer, sizeof longer, " %s", text);
    CHECK(fault_is(longer, "beginning"));
    snprintf(longer, sizeof longer, "%s ", text);
    CHECK(fault_is(longer, "letters"));
    snprintf(longer, sizeof longer, "%s%s%s%s%s", text, text, text, text, text);
    CHECK(fault_is(longer, "length"));
    CHECK_INT(p2p_ticket_parse(NULL, &ticket), P2P_ERR_ARG);
    CHECK_INT(p2p_ticket_parse(text, NULL), P2P_ERR_ARG);
    CHECK(p2p_ticket_fault(NULL) != NULL);
}

/* One wrong letter, two swapped ones, a missing end: the checksum sees them all, but for one chance
 * in 2^32, and none of these seeds has it. */
TEST(mistyped_and_cut_tickets_are_refused) {
    static const char letters[] = "ybndrfg8ejkmcpqxot1uwisza345h769";
    for (int i = 0; i < test_seeds(100); i++) {
        unit_rng rng = {test_seed()};
        char text[P2P_TICKET_TEXT_SIZE], wrong[P2P_TICKET_TEXT_SIZE];
        p2p_ticket ticket, back;
        size_t size, at;
        random_ticket(&rng, &ticket);
        CHECK(p2p_ticket_text(&ticket, text) > 0);
        size = strlen(text);
        at = 4 + (size_t)unit_below(&rng, size - 4);
        memcpy(wrong, text, size + 1);
        while (wrong[at] == text[at])
            wrong[at] = letters[unit_below(&rng, 32)];
        CHECK_INT(p2p_ticket_parse(wrong, &back), P2P_ERR_ARG);
        memcpy(wrong, text, size + 1);
        wrong[at] = 0;
        CHECK_INT(p2p_ticket_parse(wrong, &back), P2P_ERR_ARG);
        memcpy(wrong, text, size + 1);
        if (at + 1 < size && text[at] != text[at + 1]) {
            wrong[at] = text[at + 1];
            wrong[at + 1] = text[at];
            CHECK_INT(p2p_ticket_parse(wrong, &back), P2P_ERR_ARG);
        }
    }
}

TEST(what_makes_no_ticket_has_no_text) {
    char text[P2P_TICKET_TEXT_SIZE];
    p2p_ticket ticket;
    memset(&ticket, 0, sizeof ticket);
    CHECK_INT(p2p_ticket_text(&ticket, text), P2P_ERR_INVALID_ID);
    CHECK_INT(p2p_id_parse(known[0].hex, &ticket.id), P2P_OK);
    CHECK(p2p_ticket_text(&ticket, text) > 0);
    CHECK_INT(p2p_addr_parse("1.2.3.4:5", &ticket.relay), P2P_OK);
    CHECK_INT(p2p_ticket_text(&ticket, text), P2P_ERR_INVALID_ID);
    CHECK_STR(text, "");
    ticket.relay_id = ticket.id;
    CHECK(p2p_ticket_text(&ticket, text) > 0);
    ticket.relay.port = 0;
    CHECK_INT(p2p_ticket_text(&ticket, text), P2P_ERR_ARG);
    memset(&ticket.relay, 0, sizeof ticket.relay);
    ticket.addr_count = 1;
    CHECK_INT(p2p_ticket_text(&ticket, text), P2P_ERR_ARG);
    CHECK_STR(text, "");
    CHECK_INT(p2p_ticket_text(NULL, text), P2P_ERR_ARG);
    CHECK_INT(p2p_ticket_text(&ticket, NULL), P2P_ERR_ARG);
}

TEST_MAIN(P2P_TEST_ENTRY(ids_of_known_texts), P2P_TEST_ENTRY(keys_of_known_seeds),
          P2P_TEST_ENTRY(texts_that_are_no_ids), P2P_TEST_ENTRY(hex_is_read_in_both_cases),
          P2P_TEST_ENTRY(points_of_small_order_are_no_ids),
          P2P_TEST_ENTRY(encodings_that_are_not_canonical_are_no_ids),
          P2P_TEST_ENTRY(random_ids_come_back_from_both_texts),
          P2P_TEST_ENTRY(a_generated_key_is_its_seeds),
          P2P_TEST_ENTRY(a_crypto_table_that_fails_gives_no_key),
          P2P_TEST_ENTRY(addresses_of_known_texts), P2P_TEST_ENTRY(texts_that_are_no_addresses),
          P2P_TEST_ENTRY(an_address_of_no_family_has_no_text),
          P2P_TEST_ENTRY(random_addresses_come_back), P2P_TEST_ENTRY(random_tickets_come_back),
          P2P_TEST_ENTRY(the_fullest_ticket_fits), P2P_TEST_ENTRY(a_ticket_of_known_bytes),
          P2P_TEST_ENTRY(every_damaged_part_is_named), P2P_TEST_ENTRY(damaged_texts_are_named),
          P2P_TEST_ENTRY(mistyped_and_cut_tickets_are_refused),
          P2P_TEST_ENTRY(what_makes_no_ticket_has_no_text))
