/* Rooms of p2p_sim.h one by one: generator, hashes, stand-in crypto, null channel, queue, graph,
 * paths, partitions, links, names of the environment. Datagrams are put on the wire
 * below the nodes and watched by the trace. */
#include "sim_net.h"

/* ---- generator and hashes ---- */

/* The first five outputs of SplitMix64 for seed 1234567, as published with that generator. */
TEST(generator_is_splitmix64) {
    static const uint64_t want[5] = {6457827717110365317u, 3203168211198807973u,
                                     9817491932198370423u, 4593380528125082431u,
                                     16408922859458223821u};
    uint64_t state = 1234567;
    for (int i = 0; i < 5; i++)
        CHECK(p2p_sim__draw(&state) == want[i]);
}
TEST(draws_stay_below_and_spread) {
    uint64_t state = 5, sum = 0, buckets[10] = {0};
    for (int i = 0; i < 100000; i++) {
        uint64_t x = p2p_sim__below(&state, 1000);
        CHECK(x < 1000);
        sum += x;
        buckets[x / 100]++;
    }
    CHECK(sum > 49000000 && sum < 51000000);
    for (int i = 0; i < 10; i++)
        CHECK(buckets[i] > 9600 && buckets[i] < 10400);
    CHECK_INT(p2p_sim__below(&state, 0), 0);
    for (int i = 0; i < 1000; i++)
        CHECK(p2p_sim__below(&state, (uint64_t)1 << 40) < (uint64_t)1 << 40);
    CHECK(!p2p_sim__chance(&state, 0));
    for (int i = 0; i < 1000; i++)
        CHECK(p2p_sim__chance(&state, P2P_SIM__PPM));
}
TEST(hash_sees_every_byte) {
    uint8_t data[200];
    for (size_t size = 1; size < sizeof data; size += 7) {
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)(i * 3);
        uint64_t h = p2p_sim__hash(9, data, size);
        CHECK(h != p2p_sim__hash(10, data, size));
        CHECK(h != p2p_sim__hash(9, data, size - 1));
        for (size_t i = 0; i < size; i++)
            for (unsigned bit = 0; bit < 8; bit++) {
                data[i] ^= (uint8_t)(1u << bit);
                CHECK(h != p2p_sim__hash(9, data, size));
                data[i] ^= (uint8_t)(1u << bit);
            }
    }
}
/* Fixed values: they must be the same on every machine, or digests are not. */
TEST(hash_is_the_same_everywhere) {
    uint8_t data[77], out[32];
    const void *parts[1] = {data};
    size_t sizes[1] = {sizeof data};
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + 1);
    CHECK(p2p_sim__hash(1, data, sizeof data) == 0x712b42ade57e287eu);
    CHECK(p2p_sim__hash(1, data, 5) == 0x105d1367a6892b2fu);
    CHECK_INT(p2p_sim__insecure_hash256(NULL, parts, sizes, 1, out), 0);
    CHECK(p2p_sim__load(out) == 0xa91525b987725bd6u &&
          p2p_sim__load(out + 24) == 0x427ab2915e3c7ef7u);
}
TEST(mixer_does_not_see_where_parts_end) {
    uint8_t data[150], whole[32], split[32];
    const void *parts[3];
    size_t sizes[3];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    parts[0] = data;
    sizes[0] = sizeof data;
    (void)p2p_sim__insecure_hash256(NULL, parts, sizes, 1, whole);
    for (size_t a = 0; a < sizeof data; a += 11)
        for (size_t b = a; b < sizeof data; b += 5) {
            parts[1] = data + a;
            parts[2] = data + b;
            sizes[0] = a;
            sizes[1] = b - a;
            sizes[2] = sizeof data - b;
            (void)p2p_sim__insecure_hash256(NULL, parts, sizes, 3, split);
            CHECK_BYTES(whole, split, 32);
        }
    data[149] = 0;
    parts[0] = data;
    sizes[0] = sizeof data;
    (void)p2p_sim__insecure_hash256(NULL, parts, sizes, 1, split);
    CHECK(memcmp(whole, split, 32) != 0);
    sizes[0] = 149; /* a zero byte less is another text */
    (void)p2p_sim__insecure_hash256(NULL, parts, sizes, 1, whole);
    CHECK(memcmp(whole, split, 32) != 0);
}

/* ---- stand-in crypto and keys ---- */

TEST(stand_in_signs) {
    const p2p_crypto_api *c = &p2p_sim__insecure_crypto;
    uint8_t seed[32] = {1}, signature[64];
    p2p_id id, other;
    CHECK_INT(c->public_key(NULL, seed, &id), 0);
    seed[0] = 2;
    CHECK_INT(c->public_key(NULL, seed, &other), 0);
    CHECK(memcmp(&id, &other, 32) != 0);
    seed[0] = 1;
    CHECK_INT(c->sign(NULL, seed, "message", 7, signature), 0);
    CHECK_INT(c->verify(NULL, &id, "message", 7, signature), 0);
    CHECK_INT(c->verify(NULL, &other, "message", 7, signature), P2P_ERR_AUTH);
    CHECK_INT(c->verify(NULL, &id, "messagf", 7, signature), P2P_ERR_AUTH);
    for (int i = 0; i < 64; i++) {
        signature[i] ^= 1;
        CHECK_INT(c->verify(NULL, &id, "message", 7, signature), P2P_ERR_AUTH);
        signature[i] ^= 1;
    }
}
TEST(stand_in_ids_are_valid_ids) {
    char text[P2P_ID_TEXT_SIZE];
    uint64_t state = 1;
    for (int i = 0; i < 2000; i++) {
        uint8_t seed[32];
        p2p_id id, back;
        for (size_t k = 0; k < sizeof seed; k += 8)
            p2p_sim__store(seed + k, p2p_sim__draw(&state));
        CHECK_INT(p2p_sim__insecure_crypto.public_key(NULL, seed, &id), 0);
        CHECK(p2p_id_text(&id, text) > 0);
        CHECK_INT(p2p_id_parse(text, &back), 0);
        CHECK_BYTES(&id, &back, sizeof id);
    }
}
TEST(keys_follow_from_names) {
    p2p_sim *sim;
    p2p_key alice, again, bob;
    char text[P2P_SIM__NAME_SIZE + 1];
    CHECK_INT(open_sim(&sim, NULL), 0);
    CHECK_INT(p2p_sim_key(sim, "alice", &alice), 0);
    CHECK_INT(p2p_sim_key(sim, "bob", &bob), 0);
    CHECK_INT(p2p_sim_key(sim, "alice", &again), 0);
    CHECK_BYTES(alice.seed, "p2p.h SIM ONLY!!", 16);
    CHECK_BYTES(&alice, &again, sizeof alice);
    CHECK(memcmp(&alice.id, &bob.id, 32) != 0);
    CHECK(memcmp(alice.seed + 16, bob.seed + 16, 16) != 0);
    CHECK_INT(p2p_sim_key(sim, "", &bob), P2P_ERR_ARG);
    memset(text, 'x', sizeof text);
    text[P2P_SIM__NAME_SIZE] = 0;
    CHECK_INT(p2p_sim_key(sim, text, &bob), P2P_ERR_ARG);
    CHECK_INT(why.max, 63);
    text[63] = 0;
    CHECK_INT(p2p_sim_key(sim, text, &bob), 0);
    p2p_sim_close(sim);
}

/* ---- null channel ---- */

static uint8_t slab[2][160];
static int counting_fill(void *ctx, void *out, size_t size) {
    memset(out, ++*(uint8_t *)ctx, size);
    return 0;
}
static int null_begin(uint8_t psk_of_server) {
    static uint8_t counter;
    int side, err = 0;
    for (side = 0; side < 2 && err == 0; side++) {
        p2p_secure_params p;
        memset(&p, 0, sizeof p);
        p.server = (uint8_t)side;
        p.content = 1200;
        p.timer_us = 100;
        p.random.ctx = &counter;
        p.random.fill = counting_fill;
        p.psk[0] = side ? psk_of_server : 7;
        err = p2p_sim__null_api.begin(NULL, slab[side], sizeof slab[side], &p);
    }
    return err;
}
/* Carries the flight of `side` to the other; what feed said, or 100 when nothing was due. */
static int null_pass(int side, uint64_t now_us) {
    uint8_t flight[64];
    int n = p2p_sim__null_api.flight(NULL, slab[side], now_us, flight, sizeof flight, 0);
    return n <= 0 ? 100 + n
                  : p2p_sim__null_api.feed(NULL, slab[1 - side], now_us, flight, (size_t)n);
}
static void null_shake(void) {
    CHECK_INT(null_begin(7), 0);
    CHECK_INT(null_pass(0, 0), 0);
    CHECK_INT(null_pass(1, 0), 0);
    CHECK_INT(null_pass(0, 0), 1); /* the server is done first */
    CHECK_INT(null_pass(1, 0), 1);
}
TEST(null_channel_shakes_hands) {
    uint8_t binding[2][32];
    CHECK(p2p_sim__null_api.session_size(NULL, 1200) <= sizeof slab[0]);
    CHECK_INT(p2p_sim__null_api.session_size(NULL, 1200) % 16, 0);
    CHECK_INT(null_begin(7), 0);
    CHECK_INT(p2p_sim__null_api.binding(NULL, slab[0], binding[0]), P2P_ERR_STATE);
    CHECK_INT(p2p_sim__null_api.deadline(NULL, slab[0]), 0);
    CHECK(p2p_sim__null_api.deadline(NULL, slab[1]) == P2P_NEVER);
    null_shake();
    CHECK_SO_FAR();
    CHECK(p2p_sim__null_api.deadline(NULL, slab[0]) == P2P_NEVER);
    CHECK(p2p_sim__null_api.deadline(NULL, slab[1]) == P2P_NEVER);
    CHECK_INT(p2p_sim__null_api.binding(NULL, slab[0], binding[0]), 0);
    CHECK_INT(p2p_sim__null_api.binding(NULL, slab[1], binding[1]), 0);
    CHECK_BYTES(binding[0], binding[1], 32);
    null_shake();
    CHECK_SO_FAR();
    CHECK_INT(p2p_sim__null_api.binding(NULL, slab[1], binding[1]), 0);
    CHECK(memcmp(binding[0], binding[1], 32) != 0); /* new nonces, new binding */
}
TEST(null_client_repeats_and_doubles) {
    uint8_t a[64], b[64];
    const p2p_secure_api *n = &p2p_sim__null_api;
    CHECK_INT(null_begin(7), 0);
    CHECK_INT(n->flight(NULL, slab[0], 0, a, sizeof a, 1), 17); /* kept: it is due again */
    CHECK_INT(n->flight(NULL, slab[0], 0, b, sizeof b, 0), 17);
    CHECK_BYTES(a, b, 17);
    CHECK_INT(n->flight(NULL, slab[0], 0, b, sizeof b, 0), 0);
    CHECK_INT(n->deadline(NULL, slab[0]), 100);
    CHECK_INT(n->flight(NULL, slab[0], 99, b, sizeof b, 0), 0);
    CHECK_INT(n->flight(NULL, slab[0], 100, b, sizeof b, 0), 17);
    CHECK_INT(n->deadline(NULL, slab[0]), 200); /* the first repeat waits no longer */
    CHECK_INT(n->flight(NULL, slab[0], 200, b, sizeof b, 0), 17);
    CHECK_INT(n->deadline(NULL, slab[0]), 400);
    CHECK_INT(n->resend(NULL, slab[0], 250), 0);
    CHECK_INT(n->deadline(NULL, slab[0]), 0);
    CHECK_INT(n->flight(NULL, slab[0], 250, b, sizeof b, 0), 17);
    CHECK_BYTES(a, b, 17);
    CHECK_INT(n->flight(NULL, slab[0], 250, b, 3, 0), 0);
    CHECK_INT(n->flight(NULL, slab[0], 10000, b, 3, 0), P2P_ERR_TOO_LARGE);
}
TEST(null_survives_lost_flights) {
    uint8_t lost[64];
    const p2p_secure_api *n = &p2p_sim__null_api;
    CHECK_INT(null_begin(7), 0);
    CHECK_INT(null_pass(0, 0), 0);
    CHECK_INT(n->flight(NULL, slab[1], 0, lost, sizeof lost, 0), 17); /* server's nonce is lost */
    CHECK_INT(null_pass(1, 50), 100);                                 /* it has no timer */
    CHECK_INT(null_pass(0, 100), 0);                                  /* the client repeats */
    CHECK_INT(null_pass(1, 100), 0);
    CHECK_INT(null_pass(0, 100), 1);
    CHECK_INT(n->flight(NULL, slab[1], 100, lost, sizeof lost, 0), 9); /* its finish is lost */
    CHECK_INT(null_pass(0, 150), 100);
    CHECK_INT(null_pass(0, 200), 0);
    CHECK_INT(null_pass(1, 200), 1);
}
TEST(null_refuses_strangers_and_junk) {
    uint8_t junk[2] = {9, 9}, empty[1] = {1};
    CHECK_INT(null_begin(8), 0); /* another callee */
    CHECK_INT(p2p_sim__null_api.feed(NULL, slab[1], 0, junk, 2), 0);
    CHECK_INT(p2p_sim__null_api.feed(NULL, slab[1], 0, empty, 0), 0);
    CHECK_INT(null_pass(0, 0), 0);
    CHECK_INT(null_pass(1, 0), 0);
    CHECK_INT(null_pass(0, 0), 0);
    CHECK_INT(null_pass(1, 0), 100);
}
TEST(null_records_catch_every_changed_byte) {
    uint8_t packet[300], record[400], copy[400], *out = NULL;
    const p2p_secure_api *api = &p2p_sim__null_api;
    null_shake();
    CHECK_SO_FAR();
    for (size_t size = 1; size <= sizeof packet; size += 13) {
        memset(packet, (int)size, size);
        int n = api->seal(NULL, slab[0], packet, size, record, sizeof record);
        CHECK_INT(n, size + api->overhead);
        for (int i = 0; i < n; i++) {
            memcpy(copy, record, (size_t)n);
            copy[i] = (uint8_t)(copy[i] + 1);
            CHECK_INT(api->open(NULL, slab[1], copy, (size_t)n, &out), 0);
        }
        CHECK_INT(api->open(NULL, slab[1], record, (size_t)n - 1, &out), 0);
        memcpy(copy, record, (size_t)n);
        CHECK_INT(api->open(NULL, slab[0], copy, (size_t)n, &out), 0); /* reflected */
        CHECK_INT(api->open(NULL, slab[1], record, (size_t)n, &out), size);
        CHECK_BYTES(out, packet, size);
    }
    CHECK_INT(api->open(NULL, slab[1], record, 16, &out), 0);
    CHECK_INT(api->seal(NULL, slab[1], packet, 10, record, 25), P2P_ERR_TOO_LARGE);
    memcpy(record + 3, "inside", 6); /* the packet may lie inside out */
    CHECK_INT(api->seal(NULL, slab[1], record + 3, 6, record, sizeof record), 22);
    CHECK_INT(api->open(NULL, slab[0], record, 22, &out), 6);
    CHECK_BYTES(out, "inside", 6);
    api->end(NULL, slab[0]);
    CHECK_INT(api->seal(NULL, slab[0], packet, 10, record, sizeof record), P2P_ERR_STATE);
}

/* ---- arena and errors ---- */

TEST(arena_size_is_exact) {
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.why = &why;
    for (d.nodes = 1; d.nodes < 100; d.nodes += 33) {
        size_t need = p2p_sim_arena_size(&d);
        CHECK(need > 0);
        CHECK_INT(p2p_sim_open(&sim, &d, memory, need - 1), P2P_ERR_ARENA);
        CHECK_INT(why.err, P2P_ERR_ARENA);
        CHECK_INT(why.max, need);
        CHECK_INT(p2p_sim_open(&sim, &d, (uint8_t *)memory + 4, need), P2P_ERR_ARG);
        CHECK_INT(p2p_sim_open(&sim, &d, memory, need), 0);
        p2p_sim_close(sim);
    }
    d.nodes = P2P_SIM__NODES_MAX + 1;
    CHECK_INT(p2p_sim_open(&sim, &d, memory, sizeof memory), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.nodes: at most 16000000");
    d.nodes = P2P_SIM__NODES_MAX;
    d.links = 0x1fffffff;
    d.packets = 0x0fffffff;
    CHECK_INT(p2p_sim_open(&sim, &d, memory, sizeof memory), P2P_ERR_ARENA);
    CHECK(why.max > sizeof memory);
}
TEST(node_arena_is_exact) {
    p2p_sim_desc d;
    p2p_desc nd;
    p2p_node *node;
    p2p_sim *sim;
    size_t need;
    memset(&d, 0, sizeof d);
    memset(&nd, 0, sizeof nd);
    d.why = &why;
    d.nodes = 1;
    need = p2p_sim_arena_size(&d) - P2P_SIM__SPARE + p2p_sim_node_size(&d, &nd);
    if (need < p2p_sim_arena_size(&d))
        need = p2p_sim_arena_size(&d);
    CHECK_INT(p2p_sim_open(&sim, &d, memory, need), 0);
    CHECK_INT(p2p_sim_node(sim, "a", &nd, &node), 0);
    p2p_sim_close(sim);
    CHECK_INT(p2p_sim_open(&sim, &d, memory, p2p_sim_arena_size(&d)), 0);
    nd.network = "a network whose name takes some of the memory";
    memset(&why, 0, sizeof why);
    if (p2p_sim_node_size(&d, &nd) > P2P_SIM__SPARE) {
        CHECK_INT(p2p_sim_node(sim, "a", &nd, &node), P2P_ERR_ARENA);
        CHECK(node == NULL);
        need = (size_t)why.max;
        p2p_sim_close(sim);
        CHECK_INT(p2p_sim_open(&sim, &d, memory, need), 0);
    }
    CHECK_INT(p2p_sim_node(sim, "a", &nd, &node), 0);
    p2p_sim_close(sim);
}
TEST(wrong_probabilities_are_named) {
    static const char *const names[5] = {"loss", "burst", "duplicate", "reorder", "corrupt"};
    p2p_sim *sim;
    p2p_id id[2];
    char want[96];
    for (int i = 0; i < 5; i++) {
        p2p_sim_desc d;
        memset(&d, 0, sizeof d);
        (&d.link.loss_ppm)[i] = 1000001;
        snprintf(want, sizeof want, "p2p_sim_desc.link.%s_ppm: a probability above 1000000",
                 names[i]);
        CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
        CHECK_STR(why.text, want);
        CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
        CHECK_INT(p2p_sim_connect(sim, &id[0], &id[1], &d.link), P2P_ERR_CONFIG);
        CHECK_STR(why.text, want + 13);
        CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &d.link), P2P_ERR_CONFIG);
        p2p_sim_close(sim);
    }
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_loss(sim, &id[0], &id[1], 1000001), P2P_ERR_CONFIG);
    CHECK_INT(p2p_sim_loss(sim, NULL, NULL, 1000001), P2P_ERR_CONFIG);
    CHECK_INT(p2p_sim_loss(sim, &id[0], &id[1], 1000000), 0);
    p2p_sim_close(sim);
}
TEST(wrong_calls_say_which) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2], other, router;
    p2p_sim_link link;
    p2p_error_detail last;
    memset(&d, 0, sizeof d);
    d.nodes = 3;
    d.links = 1;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    CHECK_INT(p2p_sim_id(sim, "nobody", &other), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &other, NULL), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "to: no vertex has this id");
    CHECK_BYTES(&why.peer, &other, 32);
    p2p_sim_last_error(sim, &last);
    CHECK_BYTES(&last, &why, sizeof last);
    CHECK_INT(p2p_sim_connect(sim, &other, &id[0], NULL), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "from: no vertex has this id");
    CHECK_INT(p2p_sim_connect(sim, &id[0], &id[0], NULL), P2P_ERR_ARG);
    CHECK_INT(small_node(sim, "a", &other), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "this key is in the network already, as a");
    CHECK_INT(p2p_sim_router(sim, "r", &router), 0);
    CHECK_INT(p2p_sim_link_get(sim, &id[0], &router, &link), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &router, NULL), P2P_ERR_LIMIT);
    CHECK_INT(why.max, 1);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &id[1], NULL), 0); /* is there already */
    CHECK_INT(p2p_sim_router(sim, "s", &other), P2P_ERR_LIMIT);
    CHECK_STR(why.text, "p2p_sim_desc.nodes: no more vertices");
    CHECK_INT(p2p_sim_restart(sim, &id[0], NULL), P2P_ERR_STATE);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), 0);
    CHECK_INT(p2p_sim_crash(sim, &id[0]), P2P_ERR_STATE);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &other, 1), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, NULL, 0), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_run_until(sim, 1000), 0);
    CHECK_INT(p2p_sim_run_until(sim, 999), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_run_until(sim, P2P_NEVER), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_await(sim, NULL, 0, 2000, NULL), P2P_ERR_ARG);
    p2p_sim_close(sim);
}

/* ---- queue ---- */

/* Times far apart and close together, many of them equal; kind is the order of making. */
TEST(queue_gives_in_order_of_time_then_making) {
    static const uint64_t spans[] = {3, 50, 5000, 1 << 20, (uint64_t)1 << 52};
    p2p_sim *sim;
    uint64_t state = 3;
    uint32_t order = 0, last_order = 0;
    CHECK_INT(open_sim(&sim, NULL), 0);
    for (int round = 0; round < 20000; round++) {
        for (uint64_t n = p2p_sim__below(&state, 4); n != 0; n--) {
            uint32_t chunk = sim->event_count < 1000 ? p2p_sim__chunk_take(sim) : P2P_SIM__NOTHING;
            uint64_t span = spans[p2p_sim__below(&state, round % 100 ? 4 : 5)];
            if (chunk != P2P_SIM__NOTHING)
                p2p_sim__event_push(sim, sim->now_us + p2p_sim__below(&state, span), order++,
                                    chunk);
        }
        for (uint64_t n = p2p_sim__below(&state, 4); n != 0 && sim->event_count != 0; n--) {
            uint64_t promised_us = sim->event_us;
            uint32_t chunk = p2p_sim__event_pop(sim);
            p2p_sim__event e = sim->events[chunk];
            CHECK(e.at_us == promised_us);
            CHECK(e.at_us > sim->now_us || (e.at_us == sim->now_us && e.kind >= last_order));
            for (uint32_t i = 0; i < 65; i++) /* nothing that is left is earlier */
                for (uint32_t at = sim->lists[i].first; at != P2P_SIM__NOTHING;
                     at = sim->events[at].next)
                    CHECK(sim->events[at].at_us >= e.at_us);
            last_order = e.kind;
            sim->now_us = e.at_us;
            sim->chunks[chunk].tail.next = P2P_SIM__NOTHING;
            p2p_sim__chunks_give(sim, chunk);
        }
    }
    p2p_sim_close(sim);
}
TEST(wakes_are_exact_though_lazy) {
    enum { N = 60 };
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id;
    char name[16];
    uint64_t state = 8;
    memset(&d, 0, sizeof d);
    d.nodes = N;
    CHECK_INT(open_sim(&sim, &d), 0);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "r%d", i);
        CHECK_INT(p2p_sim_router(sim, name, &id), 0);
    }
    CHECK(p2p_sim__wake_first(sim) == NULL);
    for (int round = 0; round < 20000; round++) {
        p2p_sim__vertex *v = &sim->vertices[p2p_sim__below(&state, N)], *first;
        uint64_t best = P2P_NEVER;
        p2p_sim__wake_at(sim, v, round % 5 ? p2p_sim__below(&state, 1000) : P2P_NEVER);
        for (int i = 0; i < N; i++)
            if (sim->vertices[i].wake_us < best)
                best = sim->vertices[i].wake_us;
        first = p2p_sim__wake_first(sim);
        CHECK((first ? first->wake_us : P2P_NEVER) == best);
        for (uint32_t i = 0; first && i < first->index; i++)
            CHECK(sim->vertices[i].wake_us != best); /* ties by index */
    }
    p2p_sim_close(sim);
}
TEST(chains_hold_any_size) {
    static uint8_t data[5000], back[5000];
    p2p_sim *sim;
    uint64_t state = 4;
    uint32_t all;
    CHECK_INT(open_sim(&sim, NULL), 0);
    all = chunks_free(sim);
    CHECK_INT(all, sim->chunk_max);
    for (size_t size = 1; size < sizeof data; size += 1 + size / 9) {
        size_t changed = 0;
        uint32_t chain = p2p_sim__chain_take(sim, size), copy;
        CHECK(chain != P2P_SIM__NOTHING);
        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)p2p_sim__draw(&state);
        sim->chunks[chain].head.size = (uint16_t)size;
        p2p_sim__chain_copy(sim, chain, NULL, data, size);
        copy = p2p_sim__chain_clone(sim, chain);
        p2p_sim__chain_corrupt(sim, copy, 0, &state);
        p2p_sim__chain_copy(sim, chain, back, NULL, size);
        CHECK_BYTES(data, back, size);
        p2p_sim__chain_copy(sim, copy, back, NULL, size);
        for (size_t i = 0; i < size; i++)
            changed += data[i] != back[i];
        CHECK_INT(changed, 1);
        p2p_sim__chunks_give(sim, chain);
        p2p_sim__chunks_give(sim, copy);
        CHECK_INT(chunks_free(sim), all);
    }
    p2p_sim_close(sim);
}

/* ---- graph, paths, partitions ---- */

TEST(paths_have_fewest_hops) {
    p2p_sim *sim;
    p2p_id a, b, r[4], hops[8];
    p2p_sim_link down;
    memset(&down, 0, sizeof down);
    down.down = 1;
    CHECK_INT(open_sim(&sim, NULL), 0);
    CHECK_INT(small_node(sim, "a", &a), 0);
    CHECK_INT(small_node(sim, "b", &b), 0);
    for (int i = 0; i < 4; i++) {
        char name[2] = {(char)('p' + i), 0};
        CHECK_INT(p2p_sim_router(sim, name, &r[i]), 0);
    }
    CHECK_INT(p2p_sim_path(sim, &a, &b, hops, 8), P2P_ERR_NO_ROUTE);
    CHECK_BYTES(&why.peer, &b, 32);
    /* a - p - q - b, and later a - s - b and a - r - b */
    CHECK_INT(p2p_sim_connect(sim, &a, &r[0], NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &r[0], &r[1], NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &r[1], &b, NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &a, &b, hops, 8), 3);
    CHECK_BYTES(&hops[0], &r[0], 32);
    CHECK_BYTES(&hops[2], &b, 32);
    CHECK_INT(p2p_sim_connect(sim, &a, &r[3], NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &a, &r[2], NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &r[2], &b, NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &r[3], &b, NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &a, &b, hops, 1), 2);
    CHECK_BYTES(&hops[0], &r[3], 32); /* the edge a - s is older than a - r */
    CHECK_INT(p2p_sim_link_set(sim, &a, &r[3], &down), 0);
    CHECK_INT(p2p_sim_path(sim, &a, &b, hops, 8), 2);
    CHECK_BYTES(&hops[0], &r[2], 32);
    CHECK_INT(p2p_sim_path(sim, &b, &a, hops, 8), 2); /* the other direction is up */
    CHECK_INT(p2p_sim_connect_oneway(sim, &b, &a, NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &b, &a, hops, 8), 1);
    CHECK_INT(p2p_sim_path(sim, &a, &b, hops, 8), 2);
    p2p_sim_close(sim);
}
TEST(who_is_down_or_behind_a_box_does_not_forward) {
    p2p_sim *sim;
    p2p_id id[3];
    p2p_sim_nat_desc nat;
    char name[2] = "a";
    memset(&nat, 0, sizeof nat);
    CHECK_INT(open_sim(&sim, NULL), 0);
    for (int i = 0; i < 3; i++, name[0]++)
        CHECK_INT(small_node(sim, name, &id[i]), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &id[1], NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[1], &id[2], NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[2], NULL, 0), 2);
    nat.kind = P2P_SIM_NAT_PORT;
    CHECK_INT(p2p_sim_nat(sim, &id[1], &nat), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[2], NULL, 0), P2P_ERR_NO_ROUTE);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 1);
    nat.kind = P2P_SIM_NAT_NONE;
    CHECK_INT(p2p_sim_nat(sim, &id[1], &nat), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[2], NULL, 0), 2);
    CHECK_INT(p2p_sim_crash(sim, &id[1]), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[2], NULL, 0), P2P_ERR_NO_ROUTE);
    CHECK_INT(p2p_sim_restart(sim, &id[1], NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[2], NULL, 0), 2);
    p2p_sim_close(sim);
}
/* Against Floyd and Warshall's distances, asking in random order, so that hops are remembered. */
TEST(paths_are_shortest_on_random_graphs) {
    enum { N = 24 };
    static p2p_id id[N], hops[N], again[N];
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.nodes = N;
    d.links = N * N;
    for (int s = 0; s < test_seeds(20); s++) {
        int far[N][N];
        uint64_t state = test_seed();
        CHECK_INT(open_sim(&sim, &d), 0);
        for (int i = 0; i < N; i++) {
            char name[16];
            snprintf(name, sizeof name, "v%d", i);
            CHECK_INT(p2p_sim_router(sim, name, &id[i]), 0);
            for (int k = 0; k < N; k++)
                far[i][k] = i == k ? 0 : 1000;
        }
        for (int e = 0; e < 2 * N; e++) {
            uint32_t a = (uint32_t)p2p_sim__below(&state, N),
                     b = (uint32_t)p2p_sim__below(&state, N);
            if (a == b)
                continue;
            CHECK_INT(p2p_sim_connect_oneway(sim, &id[a], &id[b], NULL), 0);
            far[a][b] = 1;
        }
        for (int k = 0; k < N; k++)
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++)
                    if (far[i][k] + far[k][j] < far[i][j])
                        far[i][j] = far[i][k] + far[k][j];
        for (int ask = 0; ask < 3 * N * N; ask++) {
            uint32_t a = (uint32_t)p2p_sim__below(&state, N),
                     b = (uint32_t)p2p_sim__below(&state, N);
            int n;
            if (a == b)
                continue;
            n = p2p_sim_path(sim, &id[a], &id[b], hops, N);
            CHECK_INT(n, far[a][b] == 1000 ? P2P_ERR_NO_ROUTE : far[a][b]);
            p2p_sim__changed(sim); /* forgets, and must choose the same again */
            CHECK_INT(p2p_sim_path(sim, &id[a], &id[b], again, N), n);
            if (n > 0)
                CHECK_BYTES(hops, again, (size_t)n * sizeof *hops);
        }
        p2p_sim_close(sim);
    }
}
/* Against the list of all cuts and heals, the latest first. */
TEST(partitions_and_heals_overlap_freely) {
    enum { N = 12, OPS = 40 };
    static p2p_id id[N], a[N], b[N];
    p2p_sim *sim;
    for (int s = 0; s < test_seeds(20); s++) {
        uint32_t in_a[OPS] = {0}, in_b[OPS] = {0};
        bool cut[OPS];
        uint64_t state = test_seed();
        CHECK_INT(open_sim(&sim, NULL), 0);
        for (int i = 0; i < N; i++) {
            char name[16];
            snprintf(name, sizeof name, "v%d", i);
            CHECK_INT(p2p_sim_router(sim, name, &id[i]), 0);
        }
        for (int op = 0; op < OPS; op++) {
            size_t na = 0, nb = 0;
            for (int i = 0; i < N; i++) {
                uint64_t where = p2p_sim__below(&state, 4);
                if (where == 0) {
                    a[na++] = id[i];
                    in_a[op] |= 1u << i;
                } else if (where == 1) {
                    b[nb++] = id[i];
                    in_b[op] |= 1u << i;
                }
            }
            cut[op] = p2p_sim__below(&state, 2) == 0;
            if (na == 0 || nb == 0) {
                in_a[op] = in_b[op] = 0;
                continue;
            }
            CHECK_INT(cut[op] ? p2p_sim_partition(sim, a, na, b, nb)
                              : p2p_sim_heal(sim, a, na, b, nb),
                      0);
            for (uint32_t x = 0; x < N; x++)
                for (uint32_t y = 0; y < N; y++) {
                    bool want = false;
                    for (int k = op; k >= 0; k--)
                        if ((in_a[k] >> x & in_b[k] >> y & 1) ||
                            (in_a[k] >> y & in_b[k] >> x & 1)) {
                            want = cut[k];
                            break;
                        }
                    CHECK_INT(p2p_sim__cut(sim, &sim->vertices[x], &sim->vertices[y]), want);
                }
        }
        CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), 0);
        CHECK_INT(sim->cut_count, 0);
        for (uint32_t x = 1; x < N; x++)
            CHECK(!p2p_sim__cut(sim, &sim->vertices[0], &sim->vertices[x]));
        p2p_sim_close(sim);
    }
}
TEST(partition_forgets_what_is_covered) {
    enum { N = 70 };
    static p2p_id id[N];
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.nodes = N;
    CHECK_INT(open_sim(&sim, &d), 0);
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        CHECK_INT(p2p_sim_router(sim, name, &id[i]), 0);
    }
    for (int i = 0; i < 1000; i++) { /* the same cut and heal again and again */
        CHECK_INT(p2p_sim_partition(sim, &id[0], 3, &id[3], 3), 0);
        CHECK_INT(sim->cut_count, 1);
        CHECK_INT(p2p_sim_heal(sim, &id[3], 3, &id[0], 3), 0);
        CHECK_INT(sim->cut_count, 0);
    }
    for (int i = 1; i <= 64; i++)
        CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[i], 1), 0);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[65], 1), P2P_ERR_LIMIT);
    CHECK_INT(why.max, 64);
    CHECK_INT(p2p_sim_heal(sim, &id[0], 1, &id[1], N - 1), P2P_ERR_LIMIT);
    CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), 0);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[1], N - 1), 0);
    CHECK(p2p_sim__cut(sim, &sim->vertices[N - 1], &sim->vertices[0]));
    CHECK(!p2p_sim__cut(sim, &sim->vertices[1], &sim->vertices[2]));
    p2p_sim_close(sim);
}

/* ---- links ---- */

TEST(links_take_time_and_keep_order) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    uint64_t least = P2P_NEVER, most = 0;
    memset(&link, 0, sizeof link);
    link.latency_us = 20000;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    put(sim, &id[0], &id[1], 1, 100);
    CHECK_INT(p2p_sim_run_until(sim, 19999), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 0);
    CHECK_INT(p2p_sim_run_until(sim, 20000), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 1);
    CHECK_INT(seen.time_us[0], 20000);
    link.jitter_us = 10000;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    for (uint32_t i = 0; i < 2000; i++) {
        uint64_t sent = p2p_sim_now(sim), took;
        put(sim, &id[0], &id[1], i, 50);
        CHECK_INT(p2p_sim_run_until(sim, sent + 40000), 0);
        took = seen.time_us[seen.count - 1] - sent;
        least = took < least ? took : least;
        most = took > most ? took : most;
    }
    CHECK(least >= 20000 && least < 20100);
    CHECK(most <= 30000 && most > 29900);
    seen.count = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        put(sim, &id[0], &id[1], i, 50);
        CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 10), 0);
    }
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 40000), 0);
    CHECK_INT(seen.count, 2000);
    for (uint32_t i = 0; i < 2000; i++)
        CHECK_INT(seen.number[i], i);
    CHECK_INT(seen.wrong_bytes, 0);
    p2p_sim_close(sim);
}
TEST(links_have_a_rate_and_a_queue) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    memset(&link, 0, sizeof link);
    link.latency_us = 1000;
    link.rate_bps = 8000000; /* a byte a microsecond */
    link.queue_bytes = 5000;
    link.mtu = 1000;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    for (uint32_t i = 0; i < 8; i++)
        put(sim, &id[0], &id[1], i, 1000);
    put(sim, &id[0], &id[1], 9, 1001);
    CHECK_INT(count(P2P_SIM_QUEUE), 3); /* five fit in the queue */
    CHECK_INT(count(P2P_SIM_MTU), 1);
    CHECK_INT(p2p_sim_run_until(sim, 1000000), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 5);
    for (uint32_t i = 0, n = 0; i < seen.count; i++)
        if (seen.fate[i] == P2P_SIM_DELIVERED)
            CHECK_INT(seen.time_us[i], 1000 + 1000 * ++n);
    link.mtu = 0;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    seen.count = 0;
    put(sim, &id[0], &id[1], 1, 9000); /* an idle line takes one larger than the queue */
    CHECK_INT(p2p_sim_run_until(sim, 2000000), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 1);
    link.queue_bytes = 4294967295u;
    link.rate_bps = 1;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    put(sim, &id[0], &id[1], 1, 100);
    put(sim, &id[0], &id[1], 2, 100);
    CHECK_INT(p2p_sim_run_until(sim, 2000000 + 1601000000), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 3);
    CHECK_INT(seen.time_us[2], 2000000 + 1600001000);
    link.rate_bps = 0;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    p2p_sim_close(sim);
}
TEST(links_lose_as_many_as_told) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    uint32_t runs = 0, before = 0;
    for (uint32_t burst = 0; burst <= 800000; burst += 800000) {
        memset(&link, 0, sizeof link);
        link.loss_ppm = 100000;
        link.burst_ppm = burst;
        CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
        for (uint32_t i = 0; i < SEEN_MAX; i++) {
            put(sim, &id[0], &id[1], i, 40);
            CHECK_INT(p2p_sim_run_until(sim, i), 0);
        }
        CHECK(count(P2P_SIM_LOST) > SEEN_MAX / 10 - 400);
        CHECK(count(P2P_SIM_LOST) < SEEN_MAX / 10 + 400);
        runs = 0;
        for (uint32_t i = 1; i < seen.count; i++)
            runs += seen.fate[i] == P2P_SIM_LOST && seen.fate[i - 1] != P2P_SIM_LOST;
        if (burst == 0)
            before = runs;
        p2p_sim_close(sim);
    }
    CHECK(before > 1500 && runs < 500); /* mean length 1.1 and 5 */
    link.burst_ppm = 1;
    link.loss_ppm = 900000;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.burst_ppm: too small for so much loss_ppm");
    CHECK_INT(p2p_sim_loss(sim, &id[0], &id[1], 1000000), 0);
    put(sim, &id[0], &id[1], 1, 40);
    put(sim, &id[1], &id[0], 2, 40); /* the other direction is another link */
    CHECK_INT(p2p_sim_run_until(sim, 10), 0);
    CHECK_INT(count(P2P_SIM_LOST), 1);
    CHECK_INT(count(P2P_SIM_DELIVERED), 1);
    p2p_sim_close(sim);
}
/* At most three in a row come to harm, and a changed byte lies among the first fifty. */
TEST(links_spare_one_after_a_burst) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    uint32_t run = 0, longest = 0, losses;
    memset(&link, 0, sizeof link);
    link.loss_ppm = link.corrupt_ppm = 500000;
    link.burst_max = 3;
    link.corrupt_head = 50;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t wrong = seen.wrong_bytes;
        losses = count(P2P_SIM_LOST);
        put(sim, &id[0], &id[1], 7, 60);
        CHECK_INT(p2p_sim_run_until(sim, i), 0);
        run = count(P2P_SIM_LOST) > losses || seen.wrong_bytes > wrong ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    CHECK_INT(longest, 3);
    CHECK(count(P2P_SIM_LOST) > 350 && count(P2P_SIM_CORRUPTED) > 150);
    link.loss_ppm = link.burst_max = 0;
    link.corrupt_ppm = 1000000;
    link.corrupt_head = 2; /* the number alone, so that all that follows it looks wrong, or one */
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    seen.wrong_bytes = 0;
    for (uint32_t i = 0; i < 100; i++)
        put(sim, &id[0], &id[1], 7, 60);
    CHECK_INT(p2p_sim_run_until(sim, 2000), 0);
    CHECK_INT(seen.wrong_bytes % 58, 0);
    CHECK(seen.wrong_bytes > 30 * 58 && seen.wrong_bytes < 70 * 58);
    p2p_sim_close(sim);
}
/* 28 bytes of headers a datagram: 72 of payload take the line for 100 microseconds. */
TEST(links_count_the_headers_below) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    memset(&link, 0, sizeof link);
    link.rate_bps = 8000000; /* a byte a microsecond */
    link.queue_bytes = 1000;
    link.overhead = 28;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    for (uint32_t i = 0; i < 12; i++)
        put(sim, &id[0], &id[1], i, 72);
    CHECK_INT(p2p_sim_run_until(sim, 2000), 0);
    CHECK_INT(count(P2P_SIM_QUEUE), 2);
    CHECK_INT(count(P2P_SIM_DELIVERED), 10);
    for (uint32_t i = 2; i < 12; i++)
        CHECK_INT(seen.time_us[i], (i - 1) * 100);
    link.overhead = 65536;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.overhead: at most 65535");
    p2p_sim_close(sim);
}
TEST(links_duplicate_reorder_and_corrupt) {
    enum { N = 4000 };
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    uint32_t overtaken = 0, top = 0, got;
    memset(&link, 0, sizeof link);
    link.latency_us = 500;
    link.duplicate_ppm = 250000;
    link.reorder_ppm = 100000;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    for (uint32_t i = 0; i < N; i++) {
        put(sim, &id[0], &id[1], i, 600);
        CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 100), 0);
    }
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 100000), 0);
    got = count(P2P_SIM_DELIVERED);
    CHECK(got > N + N / 4 - 150 && got < N + N / 4 + 150);
    CHECK_INT(got, N + count(P2P_SIM_DUPLICATED));
    for (uint32_t i = 0; i < seen.count; i++) {
        if (seen.fate[i] != P2P_SIM_DELIVERED)
            continue;
        overtaken += seen.number[i] < top;
        top = seen.number[i] > top ? seen.number[i] : top;
    }
    CHECK(overtaken > got / 10 - 150 && overtaken < got / 10 + 100);
    CHECK_INT(seen.wrong_bytes, 0);
    memset(&link, 0, sizeof link);
    link.corrupt_ppm = 1000000;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    seen.count = 0;
    for (uint32_t i = 0; i < 500; i++)
        put(sim, &id[0], &id[1], 7, 1200);
    CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 100), 0);
    CHECK_INT(count(P2P_SIM_DELIVERED), 500);
    CHECK(seen.wrong_bytes >= 495); /* one each, now and then in the number */
    p2p_sim_close(sim);
}
TEST(too_many_under_way_are_dropped_and_counted) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_stats stats;
    memset(&d, 0, sizeof d);
    d.packets = 10;
    d.link.latency_us = 5;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    for (uint32_t i = 0; i < 15; i++)
        put(sim, &id[0], &id[1], i, 1232);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.sent, 15);
    CHECK_INT(stats.full, 5);
    CHECK_INT(chunks_free(sim), 0);
    CHECK_INT(p2p_sim_run_until(sim, 5), 0);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.delivered, 10);
    CHECK_INT(chunks_free(sim), sim->chunk_max);
    p2p_sim_close(sim);
}
TEST(datagrams_hop_and_stop_at_partitions) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2], r;
    p2p_sim_stats stats;
    memset(&d, 0, sizeof d);
    d.link.latency_us = 100;
    CHECK_INT(open_sim(&sim, &d), 0);
    CHECK_INT(small_node(sim, "a", &id[0]), 0);
    CHECK_INT(small_node(sim, "b", &id[1]), 0);
    CHECK_INT(p2p_sim_router(sim, "r", &r), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &r, NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &r, &id[1], NULL), 0);
    put(sim, &id[0], &id[1], 1, 700);
    CHECK_INT(p2p_sim_run_until(sim, 1000), 0);
    CHECK_INT(seen.time_us[0], 200);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[1], 1), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), P2P_ERR_NO_ROUTE);
    put(sim, &id[0], &id[1], 2, 700);
    CHECK_INT(p2p_sim_heal(sim, &id[1], 1, &id[0], 1), 0);
    put(sim, &id[0], &id[1], 3, 700);
    CHECK_INT(p2p_sim_run_until(sim, 1150), 0);
    CHECK_INT(p2p_sim_partition(sim, &id[0], 1, &id[1], 1), 0); /* it is at r now */
    CHECK_INT(p2p_sim_run_until(sim, 2000), 0);
    p2p_sim_stats_get(sim, &stats);
    CHECK_INT(stats.delivered, 1);
    CHECK_INT(stats.route, 2);
    put(sim, &id[0], &r, 4, 70); /* a router is nobody to talk to */
    CHECK_INT(p2p_sim_run_until(sim, 3000), 0);
    CHECK_INT(count(P2P_SIM_NOBODY), 1);
    CHECK_INT(p2p_sim_crash(sim, &id[1]), 0);
    CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), 0);
    put(sim, &id[0], &id[1], 5, 70);
    CHECK_INT(p2p_sim_run_until(sim, 4000), 0);
    CHECK_INT(count(P2P_SIM_NOBODY), 2);
    CHECK_INT(chunks_free(sim), sim->chunk_max);
    p2p_sim_close(sim);
}
/* What the trace says of the datagrams of one instant, in order. */
static struct told {
    uint32_t fate[16], number[16], count;
    p2p_id at[16], next[16];
    bool has_next[16];
} told;
static void tell(void *ctx, const p2p_sim_trace_item *item) {
    uint32_t i = told.count;
    (void)ctx;
    if (i == 16)
        return;
    told.fate[i] = item->fate;
    told.number[i] = item->number;
    told.at[i] = *item->at;
    told.has_next[i] = item->next != NULL;
    if (item->next)
        told.next[i] = *item->next;
    told.count++;
}
TEST(trace_tells_which_datagram_and_which_link) {
    static const uint32_t fates[] = {P2P_SIM_SENT,       P2P_SIM_DUPLICATED, P2P_SIM_SENT,
                                     P2P_SIM_DUPLICATED, P2P_SIM_FORWARDED,  P2P_SIM_LOST};
    static const uint32_t numbers[] = {0, 0, 1, 1, 0, 0};
    p2p_sim *sim;
    p2p_id id[2], r;
    p2p_sim_link link;
    memset(&told, 0, sizeof told);
    memset(&link, 0, sizeof link);
    link.duplicate_ppm = P2P_SIM__PPM;
    CHECK_INT(open_sim(&sim, NULL), 0);
    CHECK_INT(small_node(sim, "a", &id[0]), 0);
    CHECK_INT(small_node(sim, "b", &id[1]), 0);
    CHECK_INT(p2p_sim_router(sim, "r", &r), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &r, &link), 0);
    link.duplicate_ppm = 0;
    link.loss_ppm = P2P_SIM__PPM;
    CHECK_INT(p2p_sim_connect(sim, &r, &id[1], &link), 0);
    p2p_sim_trace(sim, tell, NULL);
    put(sim, &id[0], &id[1], 1, 70);
    put(sim, &id[0], &id[1], 2, 70);
    CHECK_INT(p2p_sim_run_until(sim, 10), 0);
    CHECK_INT(told.count, 12); /* each of the four is forwarded, and lost on the second link */
    for (uint32_t i = 0; i < 6; i++) {
        CHECK_INT(told.fate[i], fates[i]);
        CHECK_INT(told.number[i], numbers[i]);
        CHECK(memcmp(&told.at[i], i < 4 ? &id[0] : &r, sizeof r) == 0);
        CHECK_INT(told.has_next[i], fates[i] == P2P_SIM_DUPLICATED || fates[i] == P2P_SIM_LOST);
        if (told.has_next[i])
            CHECK(memcmp(&told.next[i], i < 4 ? &r : &id[1], sizeof r) == 0);
    }
    p2p_sim_close(sim);
}
static uint64_t digest_of(uint64_t seed) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    uint64_t digest;
    memset(&d, 0, sizeof d);
    d.seed = seed;
    d.link.loss_ppm = d.link.corrupt_ppm = d.link.duplicate_ppm = 300000;
    d.link.jitter_us = 10000;
    if (open_pair(&sim, &d, NULL, id) < 0)
        return 0;
    for (uint32_t i = 0; i < 300; i++) {
        put(sim, &id[0], &id[1], i, 300);
        (void)p2p_sim_run_until(sim, p2p_sim_now(sim) + 100);
    }
    digest = p2p_sim_digest(sim);
    p2p_sim_close(sim);
    return digest;
}
TEST(digest_follows_the_seed) {
    uint64_t one = digest_of(1);
    CHECK(one != 0);
    CHECK(digest_of(1) == one);
    CHECK(digest_of(2) != one);
    CHECK(one == 0x88c8760ccf916e28u); /* the same on every machine */
}

/* ---- environment, helpers, time ---- */

static const char *env_name[4], *env_value[4];
static const char *fake_getenv(void *ctx, const char *name) {
    (void)ctx;
    for (int i = 0; i < 4; i++)
        if (env_name[i] && strcmp(env_name[i], name) == 0)
            return env_value[i];
    return NULL;
}
static int from_env(p2p_sim_desc *d, const char *name, const char *value, const char **bad) {
    memset(env_name, 0, sizeof env_name);
    memset(d, 0, sizeof *d);
    env_name[0] = name;
    env_value[0] = value;
    return p2p_sim_desc_from_env(d, fake_getenv, NULL, bad);
}
TEST(environment_has_its_defaults) {
    p2p_sim_desc d;
    const char *bad = "";
    CHECK_INT(from_env(&d, NULL, NULL, &bad), 0);
    CHECK(bad == NULL);
    CHECK_INT(d.seed, 1);
    CHECK_INT(d.link.latency_us, 50000);
    CHECK_INT(d.link.loss_ppm, 10000);
    CHECK_INT(d.discovery_us, 100000);
    CHECK_INT(d.connect_us, 30000000);
    CHECK_INT(d.message_max, 1048576);
    CHECK_INT(d.time_multiplier, 1);
    CHECK_INT(d.step_us, 0);
    CHECK_INT(d.partition_ppm, 0);
    CHECK_INT(d.ttl_us, 300000000);
    CHECK_INT(d.failure_ppm, 0);
}
TEST(environment_is_read) {
    p2p_sim_desc d;
    CHECK_INT(from_env(&d, "SIMULATOR_SEED", "18446744073709551615", NULL), 0);
    CHECK(d.seed == UINT64_MAX);
    CHECK_INT(from_env(&d, "SIMULATOR_DEFAULT_LATENCY_MS", "7", NULL), 0);
    CHECK_INT(d.link.latency_us, 7000);
    env_name[1] = "SIMULATOR_P2P_LATENCY_MS"; /* overrides */
    env_value[1] = "9";
    CHECK_INT(p2p_sim_desc_from_env(&d, fake_getenv, NULL, NULL), 0);
    CHECK_INT(d.link.latency_us, 9000);
    env_name[1] = NULL;
    CHECK_INT(from_env(&d, "SIMULATOR_DEFAULT_PACKET_LOSS", "0.000001", NULL), 0);
    CHECK_INT(d.link.loss_ppm, 1);
    CHECK_INT(from_env(&d, "SIMULATOR_P2P_PACKET_LOSS", "1.000000000", NULL), 0);
    CHECK_INT(d.link.loss_ppm, 1000000);
    CHECK_INT(from_env(&d, "SIMULATOR_DISCOVERY_DELAY_MS", "0", NULL), 0);
    CHECK(d.discovery_us == P2P_NEVER);
    CHECK_INT(from_env(&d, "SIMULATOR_CONNECTION_TIMEOUT_SECS", "5", NULL), 0);
    CHECK_INT(d.connect_us, 5000000);
    CHECK_INT(from_env(&d, "SIMULATOR_MAX_MESSAGE_SIZE", "65536", NULL), 0);
    CHECK_INT(d.message_max, 65536);
    CHECK_INT(from_env(&d, "SIMULATOR_TIME_MULTIPLIER", "3", NULL), 0);
    CHECK_INT(d.time_multiplier, 3);
    CHECK_INT(from_env(&d, "SIMULATOR_STEP_SIZE_MS", "20", NULL), 0);
    CHECK_INT(d.step_us, 20000);
    CHECK_INT(from_env(&d, "SIMULATOR_PARTITION_PROBABILITY", "0.25", NULL), 0);
    CHECK_INT(d.partition_ppm, 250000);
    CHECK_INT(from_env(&d, "SIMULATOR_DNS_TTL_SECONDS", "1", NULL), 0);
    CHECK_INT(d.ttl_us, 1000000);
    CHECK_INT(from_env(&d, "SIMULATOR_P2P_FAILURE_RATE", "0.5", NULL), 0);
    CHECK_INT(d.failure_ppm, 500000);
}
/* Both ends of each range, and what lies just beyond. */
TEST(environment_has_its_ranges) {
    static const char *const ranges[13][5] = {
        /* name, least, most, too little, too much */
        {"SIMULATOR_SEED", "0", "18446744073709551615", "-1", "18446744073709551616"},
        {"SIMULATOR_DEFAULT_LATENCY_MS", "0", "1000000000000", "-1", "1000000000001"},
        {"SIMULATOR_P2P_LATENCY_MS", "0", "1000000000000", "-1", "1000000000001"},
        {"SIMULATOR_DEFAULT_PACKET_LOSS", "0", "1", "-0", "1.000001"},
        {"SIMULATOR_P2P_PACKET_LOSS", "0.0", "1.0", "-0.1", "2"},
        {"SIMULATOR_DISCOVERY_DELAY_MS", "0", "1000000000000", "", "1000000000001"},
        {"SIMULATOR_CONNECTION_TIMEOUT_SECS", "1", "1000000000", "0", "1000000001"},
        {"SIMULATOR_MAX_MESSAGE_SIZE", "1", "4294967294", "0", "4294967295"},
        {"SIMULATOR_TIME_MULTIPLIER", "1", "1000000", "0", "1000001"},
        {"SIMULATOR_STEP_SIZE_MS", "0", "1000000000000", "-1", "1000000000001"},
        {"SIMULATOR_PARTITION_PROBABILITY", "0.000001", "0.999999", "0.0000001", "1.1"},
        {"SIMULATOR_DNS_TTL_SECONDS", "1", "1000000000", "0", "1000000001"},
        {"SIMULATOR_P2P_FAILURE_RATE", "0", "1", "zero", "1.000001"}};
    p2p_sim_desc d;
    const char *bad;
    for (size_t i = 0; i < 13; i++)
        for (int k = 1; k < 5; k++) {
            CHECK_INT(from_env(&d, ranges[i][0], ranges[i][k], &bad), k < 3 ? 0 : P2P_ERR_CONFIG);
            CHECK(k < 3 ? bad == NULL : bad && strcmp(bad, ranges[i][0]) == 0);
        }
}
TEST(steps_end_before_time_does) {
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.step_us = P2P_SIM__END_US / 10;
    d.time_multiplier = 11;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.step_us: times time_multiplier it is beyond 285 years");
    d.time_multiplier = 10;
    CHECK_INT(open_sim(&sim, &d), 0);
    for (int i = 0; i < 3; i++)
        CHECK(p2p_sim_step(sim) == P2P_NEVER);
    CHECK(p2p_sim_now(sim) == P2P_SIM__END_US);
    p2p_sim_close(sim);
}
TEST(environment_errors_are_named) {
    static const char *const wrong[][2] = {
        {"SIMULATOR_SEED", "18446744073709551616"},
        {"SIMULATOR_SEED", "-1"},
        {"SIMULATOR_SEED", ""},
        {"SIMULATOR_DEFAULT_LATENCY_MS", "5ms"},
        {"SIMULATOR_DEFAULT_LATENCY_MS", "5.5"},
        {"SIMULATOR_DEFAULT_PACKET_LOSS", "1.1"},
        {"SIMULATOR_DEFAULT_PACKET_LOSS", "0.0000001"},
        {"SIMULATOR_P2P_PACKET_LOSS", "0."},
        {"SIMULATOR_P2P_PACKET_LOSS", ".5"},
        {"SIMULATOR_P2P_FAILURE_RATE", "0.1.1"},
        {"SIMULATOR_CONNECTION_TIMEOUT_SECS", "0"},
        {"SIMULATOR_MAX_MESSAGE_SIZE", "4294967295"},
        {"SIMULATOR_TIME_MULTIPLIER", "0"},
        {"SIMULATOR_STEP_SIZE_MS", " 1"},
        {"SIMULATOR_PARTITION_PROBABILITY", "two"},
        {"SIMULATOR_DNS_TTL_SECONDS", "1e3"},
        {"SIMULATOR_DISCOVERY_DELAY_MS", "99999999999999999999"}};
    p2p_sim_desc d, before;
    const char *bad;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        bad = NULL;
        memset(&before, 0, sizeof before);
        CHECK_INT(from_env(&d, wrong[i][0], wrong[i][1], &bad), P2P_ERR_CONFIG);
        CHECK_STR(bad, wrong[i][0]);
        CHECK_BYTES(&d, &before, sizeof d); /* nothing was changed */
    }
    memset(&d, 0, sizeof d);
    d.why = &why;
    CHECK_INT(p2p_sim_desc_from_env(&d, fake_getenv, NULL, NULL), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "SIMULATOR_DISCOVERY_DELAY_MS: not a whole number from 0 to max");
    CHECK(why.max == 1000000000000u);
    env_name[0] = "SIMULATOR_P2P_FAILURE_RATE";
    CHECK_INT(p2p_sim_desc_from_env(&d, fake_getenv, NULL, NULL), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "SIMULATOR_P2P_FAILURE_RATE: not a decimal from 0 to 1, at most 6 places");
    env_name[0] = "SIMULATOR_TIME_MULTIPLIER";
    CHECK_INT(p2p_sim_desc_from_env(&d, fake_getenv, NULL, NULL), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "SIMULATOR_TIME_MULTIPLIER: not a whole number from 1 to max");
    CHECK_INT(why.max, 1000000);
}
TEST(helpers_make_networks) {
    static p2p_node *nodes[7];
    p2p_desc nd;
    p2p_sim *sim;
    p2p_id id;
    p2p_sim_link link;
    memset(&nd, 0, sizeof nd);
    memset(&link, 0, sizeof link);
    nd.allow_anyone = 1;
    nd.max.conns = 2;
    nd.bytes.message_max = P2P_NONE;
    CHECK_INT(open_sim(&sim, NULL), 0);
    CHECK_INT(p2p_sim_mesh(sim, "peer", 3, &nd, nodes), 0);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            if (i != k)
                CHECK_INT(p2p_sim_path(sim, p2p_node_id(nodes[i]), p2p_node_id(nodes[k]), NULL, 0),
                          1);
    CHECK_INT(p2p_sim_id(sim, "peer2", &id), 0);
    CHECK(p2p_id_equal(&id, p2p_node_id(nodes[2])));
    CHECK_INT(p2p_sim_latency(sim, p2p_node_id(nodes[0]), p2p_node_id(nodes[1]), 77), 0);
    CHECK_INT(p2p_sim_link_get(sim, p2p_node_id(nodes[0]), p2p_node_id(nodes[1]), &link), 0);
    CHECK_INT(link.latency_us, 77);
    CHECK_INT(p2p_sim_link_get(sim, p2p_node_id(nodes[1]), p2p_node_id(nodes[0]), &link), 0);
    CHECK_INT(link.latency_us, 0);
    CHECK_INT(p2p_sim_loss(sim, NULL, NULL, 5), 0);
    CHECK_INT(p2p_sim_link_get(sim, p2p_node_id(nodes[1]), p2p_node_id(nodes[0]), &link), 0);
    CHECK_INT(link.loss_ppm, 5);
    link.burst_ppm = 1000; /* too small for so much loss: then no link changes */
    CHECK_INT(p2p_sim_link_set(sim, p2p_node_id(nodes[2]), p2p_node_id(nodes[1]), &link), 0);
    CHECK_INT(p2p_sim_loss(sim, NULL, NULL, 600000), P2P_ERR_CONFIG);
    CHECK_INT(p2p_sim_link_get(sim, p2p_node_id(nodes[1]), p2p_node_id(nodes[0]), &link), 0);
    CHECK_INT(link.loss_ppm, 5);
    p2p_sim_close(sim);
    CHECK_INT(open_sim(&sim, NULL), 0);
    CHECK_INT(p2p_sim_split(sim, "left", 3, "right", 4, &nd, nodes), 0);
    for (int i = 0; i < 7; i++)
        for (int k = 0; k < i; k++)
            CHECK_INT(p2p_sim_path(sim, p2p_node_id(nodes[i]), p2p_node_id(nodes[k]), NULL, 0),
                      (i < 3) == (k < 3) ? 1 : P2P_ERR_NO_ROUTE);
    CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), 0);
    CHECK_INT(p2p_sim_path(sim, p2p_node_id(nodes[0]), p2p_node_id(nodes[6]), NULL, 0), 1);
    p2p_sim_close(sim);
}
TEST(time_goes_in_events_or_steps) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    memset(&d, 0, sizeof d);
    d.link.latency_us = 70;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    CHECK(p2p_sim_step(sim) == P2P_NEVER);
    put(sim, &id[0], &id[1], 1, 60);
    CHECK_INT(p2p_sim_step(sim), 70);
    CHECK(p2p_sim_step(sim) == P2P_NEVER);
    CHECK_INT(p2p_sim_now(sim), 70);
    p2p_sim_close(sim);
    d.step_us = 10;
    d.time_multiplier = 3;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    put(sim, &id[0], &id[1], 1, 60);
    CHECK_INT(p2p_sim_step(sim), 30);
    CHECK_INT(p2p_sim_step(sim), 60);
    CHECK_INT(count(P2P_SIM_DELIVERED), 0);
    CHECK_INT(p2p_sim_step(sim), 90);
    CHECK_INT(count(P2P_SIM_DELIVERED), 1);
    CHECK(p2p_sim_step(sim) == P2P_NEVER);
    p2p_sim_close(sim);
}
TEST(random_partitions_come_and_go) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    uint32_t cut = 0;
    memset(&d, 0, sizeof d);
    d.partition_ppm = 200000;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    for (uint64_t s = 1; s <= 1000; s++) {
        CHECK_INT(p2p_sim_run_until(sim, s * 1000000 + 1), 0);
        cut += p2p_sim_path(sim, &id[0], &id[1], NULL, 0) == P2P_ERR_NO_ROUTE;
    }
    CHECK(cut > 50 && cut < 400);
    p2p_sim_close(sim);
}
TEST_MAIN(
    P2P_TEST_ENTRY(generator_is_splitmix64), P2P_TEST_ENTRY(draws_stay_below_and_spread),
    P2P_TEST_ENTRY(hash_sees_every_byte), P2P_TEST_ENTRY(hash_is_the_same_everywhere),
    P2P_TEST_ENTRY(mixer_does_not_see_where_parts_end), P2P_TEST_ENTRY(stand_in_signs),
    P2P_TEST_ENTRY(stand_in_ids_are_valid_ids), P2P_TEST_ENTRY(keys_follow_from_names),
    P2P_TEST_ENTRY(null_channel_shakes_hands), P2P_TEST_ENTRY(null_client_repeats_and_doubles),
    P2P_TEST_ENTRY(null_survives_lost_flights), P2P_TEST_ENTRY(null_refuses_strangers_and_junk),
    P2P_TEST_ENTRY(null_records_catch_every_changed_byte), P2P_TEST_ENTRY(arena_size_is_exact),
    P2P_TEST_ENTRY(node_arena_is_exact), P2P_TEST_ENTRY(wrong_probabilities_are_named),
    P2P_TEST_ENTRY(wrong_calls_say_which), P2P_TEST_ENTRY(queue_gives_in_order_of_time_then_making),
    P2P_TEST_ENTRY(wakes_are_exact_though_lazy), P2P_TEST_ENTRY(chains_hold_any_size),
    P2P_TEST_ENTRY(paths_have_fewest_hops),
    P2P_TEST_ENTRY(who_is_down_or_behind_a_box_does_not_forward),
    P2P_TEST_ENTRY(paths_are_shortest_on_random_graphs),
    P2P_TEST_ENTRY(partitions_and_heals_overlap_freely),
    P2P_TEST_ENTRY(partition_forgets_what_is_covered),
    P2P_TEST_ENTRY(links_take_time_and_keep_order), P2P_TEST_ENTRY(links_have_a_rate_and_a_queue),
    P2P_TEST_ENTRY(links_lose_as_many_as_told), P2P_TEST_ENTRY(links_spare_one_after_a_burst),
    P2P_TEST_ENTRY(links_count_the_headers_below),
    P2P_TEST_ENTRY(links_duplicate_reorder_and_corrupt),
    P2P_TEST_ENTRY(too_many_under_way_are_dropped_and_counted),
    P2P_TEST_ENTRY(datagrams_hop_and_stop_at_partitions),
    P2P_TEST_ENTRY(trace_tells_which_datagram_and_which_link),
    P2P_TEST_ENTRY(digest_follows_the_seed), P2P_TEST_ENTRY(environment_has_its_defaults),
    P2P_TEST_ENTRY(environment_is_read), P2P_TEST_ENTRY(environment_has_its_ranges),
    P2P_TEST_ENTRY(steps_end_before_time_does), P2P_TEST_ENTRY(environment_errors_are_named),
    P2P_TEST_ENTRY(helpers_make_networks), P2P_TEST_ENTRY(time_goes_in_events_or_steps),
    P2P_TEST_ENTRY(random_partitions_come_and_go))
