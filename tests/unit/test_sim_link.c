/* Links of p2p_sim.h: kinds of jitter, CoDel, lists of datagrams to be lost, ways of least latency,
 * partitions of one way. */
#include "sim_net.h"

static p2p_sim__edge *edge_of(p2p_sim *sim, const p2p_id *from, const p2p_id *to) {
    return p2p_sim__edge_of(sim, from, to);
}

/* ---- jitter ---- */

enum { DRAWS = 200000 };
/* Of DRAWS delays, those up to each quantile are as many as it says, within five deviations and
 * what interpolation may be off. The quantiles were computed with more digits than the table has:
 * in thousandths of jitter_us around latency_us. */
static void quantiles(uint8_t kind, const int want[][2], int n) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    p2p_sim__edge *e;
    int64_t at_most[16] = {0};
    memset(&link, 0, sizeof link);
    link.latency_us = 100000000;
    link.jitter_us = 1000000;
    link.jitter = kind;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    e = edge_of(sim, &id[0], &id[1]);
    for (int i = 0; i < DRAWS; i++) {
        int64_t off = (int64_t)p2p_sim__delay(e) - 100000000;
        for (int k = 0; k < n; k++)
            at_most[k] += off <= (int64_t)want[k][1] * 1000;
    }
    for (int k = 0; k < n; k++) {
        int64_t p = want[k][0], off = at_most[k] * 1000 - DRAWS * p;
        int64_t variance = (int64_t)DRAWS * p * (1000 - p); /* in millionths, as off's square is */
        int64_t slack = DRAWS;                              /* a thousandth */
        off = off < 0 ? -off : off;
        off = off > slack ? off - slack : 0;
        CHECK(off * off <= 25 * variance);
    }
    p2p_sim_close(sim);
}
TEST(normal_jitter_has_the_quantiles_of_the_bell) {
    static const int want[][2] = {{1, -3090},  {10, -2326}, {50, -1645}, {100, -1282}, {250, -674},
                                  {400, -253}, {500, 0},    {600, 253},  {750, 674},   {900, 1282},
                                  {950, 1645}, {990, 2326}, {999, 3090}};
    quantiles(P2P_SIM_JITTER_NORMAL, want, 13);
}
TEST(pareto_jitter_has_the_quantiles_of_its_tail) {
    static const int want[][2] = {{10, 7},     {50, 34},    {100, 71},   {250, 201},  {500, 520},
                                  {750, 1175}, {900, 2309}, {950, 3429}, {990, 7283}, {999, 18000}};
    quantiles(P2P_SIM_JITTER_PARETO, want, 10);
}
TEST(uniform_jitter_has_the_quantiles_of_a_line) {
    static const int want[][2] = {{1, 1},     {100, 100}, {250, 250},
                                  {500, 500}, {900, 900}, {999, 999}};
    quantiles(P2P_SIM_JITTER_UNIFORM, want, 6);
}
/* The ends of the tables: every draw lies within them, and the next octave goes on where one ends. */
TEST(tails_are_monotone_and_end) {
    const uint32_t *tables[2] = {p2p_sim__normal, p2p_sim__pareto};
    for (int k = 0; k < 2; k++) {
        CHECK_INT(tables[k][0], 0);
        for (uint32_t i = 1; i < P2P_SIM__TAIL; i++)
            CHECK(tables[k][i] > tables[k][i - 1]);
        CHECK_INT(p2p_sim__far(tables[k], UINT64_MAX) < tables[k][8], 1);
        CHECK_INT(p2p_sim__far(tables[k], (uint64_t)1 << 63), 0);
        CHECK_INT(p2p_sim__far(tables[k], 0), tables[k][P2P_SIM__TAIL - 1]);
        CHECK_INT(p2p_sim__far(tables[k], (uint64_t)1 << 62), tables[k][8]);
        CHECK_INT(p2p_sim__far(tables[k], (uint64_t)1 << 48), tables[k][120]);
        CHECK(P2P_SIM__JITTER_MAX_US < UINT64_MAX / tables[k][P2P_SIM__TAIL - 1]);
    }
}
/* Drawn delays that would arrive before they were sent are none, and none overtakes. */
TEST(jitter_keeps_time_and_order) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    for (uint8_t kind = P2P_SIM_JITTER_NORMAL; kind <= P2P_SIM_JITTER_PARETO; kind++) {
        memset(&link, 0, sizeof link);
        link.latency_us = 2000;
        link.jitter_us = 30000;
        link.jitter = kind;
        CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
        for (uint32_t i = 0; i < 3000; i++) {
            put(sim, &id[0], &id[1], i, 50);
            CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 500), 0);
        }
        CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 10000000), 0);
        CHECK_INT(seen.count, 3000);
        for (uint32_t i = 0; i < 3000; i++) {
            CHECK_INT(seen.number[i], i);
            CHECK(seen.time_us[i] >= i * 500 + (kind == P2P_SIM_JITTER_PARETO ? 2000 : 0));
        }
        p2p_sim_close(sim);
    }
}
/* Same seed, same bytes on every machine. */
TEST(jitter_is_the_same_everywhere) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    uint64_t digest[3];
    for (uint8_t kind = 0; kind < 3; kind++) {
        memset(&link, 0, sizeof link);
        link.latency_us = 20000;
        link.jitter_us = 10000;
        link.jitter = kind;
        CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
        for (uint32_t i = 0; i < 500; i++) {
            put(sim, &id[0], &id[1], i, 50);
            CHECK_INT(p2p_sim_run_until(sim, p2p_sim_now(sim) + 300), 0);
        }
        CHECK_INT(p2p_sim_run_until(sim, 10000000), 0);
        digest[kind] = p2p_sim_digest(sim);
        p2p_sim_close(sim);
    }
    CHECK(digest[0] == 0xc9940064e284faddu);
    CHECK(digest[1] == 0x21f58efbe6649632u);
    CHECK(digest[2] == 0x6aec348d1d65edeau);
}

/* ---- CoDel ---- */

/* What those that arrive between two times have waited, in the mean, when one was sent each sent_us
 * with its number. */
static uint64_t waited_us(uint64_t from_us, uint64_t to_us, uint64_t sent_us) {
    uint64_t sum = 0, n = 0;
    for (uint32_t i = 0; i < seen.count; i++)
        if (seen.fate[i] == P2P_SIM_DELIVERED && seen.time_us[i] >= from_us &&
            seen.time_us[i] < to_us) {
            sum += seen.time_us[i] - seen.number[i] * sent_us;
            n++;
        }
    return n ? sum / n : 0;
}
/* A sender of 1000 bytes each 950 microseconds meets a line that takes 1 ms, and room for 300 ms. */
TEST(codel_brings_a_standing_queue_down) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    uint64_t late[2];
    for (uint8_t codel = 0; codel < 2; codel++) {
        memset(&link, 0, sizeof link);
        link.rate_bps = 8000000; /* a byte a microsecond */
        link.queue_bytes = 300000;
        link.codel = codel;
        CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
        for (uint32_t i = 0; i < 19000; i++) {
            put(sim, &id[0], &id[1], i, 1000);
            CHECK_INT(p2p_sim_run_until(sim, (i + 1) * 950), 0);
        }
        late[codel] = waited_us(12000000, 18000000, 950);
        p2p_sim_close(sim);
        if (codel == 1) /* 1 of 20 must go */
            CHECK(count(P2P_SIM_QUEUE) > 600 && count(P2P_SIM_QUEUE) < 1200);
    }
    CHECK(late[0] > 290000 && late[0] <= 301000);
    CHECK(late[1] > 2000 && late[1] < 12000);
}
/* A burst that is gone within the interval is no standing queue, nor is one datagram in front of
 * another where a full one takes longer than the target. */
TEST(codel_lets_bursts_and_slow_lines_be) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    memset(&link, 0, sizeof link);
    link.rate_bps = 8000000;
    link.queue_bytes = 300000;
    link.codel = 1;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    for (uint32_t burst = 0; burst < 20; burst++) {
        for (uint32_t i = 0; i < 90; i++)
            put(sim, &id[0], &id[1], i, 1000);
        CHECK_INT(p2p_sim_run_until(sim, (burst + 1) * 100000), 0);
    }
    CHECK_INT(count(P2P_SIM_QUEUE), 0);
    link.rate_bps = 80000; /* a full datagram takes 150 ms */
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    for (uint32_t i = 0; i < 100; i++) { /* each but the first waits 50 ms for the one before */
        put(sim, &id[0], &id[1], i, 1000);
        CHECK_INT(p2p_sim_run_until(sim, 2050000 + i * 100000), 0);
    }
    CHECK_INT(count(P2P_SIM_QUEUE), 0);
    p2p_sim_close(sim);
}
/* The law of RFC 8289 section 5.4, once dropping: intervals of 100 ms divided by the root of the
 * count; and it goes on near the old rate when it begins again soon. */
TEST(codel_follows_its_law) {
    p2p_sim *sim;
    p2p_id id[2];
    p2p_sim_link link;
    p2p_sim__edge *e;
    const uint64_t ms = 1000000;
    uint64_t now = 1000 * ms, last = 0;
    uint32_t drops = 0;
    memset(&link, 0, sizeof link);
    link.rate_bps = 8000000;
    link.codel = 1;
    CHECK_INT(open_pair(&sim, NULL, &link, id), 0);
    e = edge_of(sim, &id[0], &id[1]);
    for (; drops < 50; now += ms / 10) {
        if (!p2p_sim__codel(e, now - 20 * ms, now))
            continue;
        if (drops == 0)
            CHECK(now == 1100 * ms); /* after an interval above the target */
        else
            CHECK(now - last + ms / 5 > p2p_sim__root(10000 * ms * ms / drops) &&
                  now - last < p2p_sim__root(10000 * ms * ms / drops) + ms / 5);
        last = now;
        drops++;
    }
    CHECK_INT(e->count, 50);
    CHECK(!p2p_sim__codel(e, now - 4 * ms, now)); /* below the target it stops */
    CHECK(!e->dropping);
    now += 50 * ms;
    for (; !p2p_sim__codel(e, now - 20 * ms, now); now += ms) {}
    CHECK_INT(e->count, 49); /* and starts again from where it was */
    for (; e->count < 60; now += ms)
        (void)p2p_sim__codel(e, now - 20 * ms, now);
    CHECK(!p2p_sim__codel(e, now - 4 * ms, now));
    now += 2000 * ms;
    for (; !p2p_sim__codel(e, now - 20 * ms, now); now += ms) {}
    CHECK_INT(e->count, 1); /* long after, from the beginning */
    link.codel = 0;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), 0);
    CHECK_INT(e->dropping, 0);
    p2p_sim_close(sim);
}
TEST(roots_are_rounded_down) {
    uint64_t state = 2;
    for (int i = 0; i < 10000; i++) {
        uint64_t x = p2p_sim__draw(&state) >> p2p_sim__below(&state, 64), r;
        x >>= 2; /* the square of one more must fit */
        r = p2p_sim__root(x);
        CHECK(r * r <= x && (r + 1) * (r + 1) > x);
    }
    CHECK_INT(p2p_sim__root(0), 0);
    CHECK(p2p_sim__root(UINT64_MAX) == UINT32_MAX);
}

/* ---- drop list ---- */

TEST(the_third_datagram_is_lost) {
    p2p_sim *sim;
    p2p_id id[2];
    uint64_t random;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    put(sim, &id[0], &id[1], 100, 60);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 3, 1), 0);
    random = edge_of(sim, &id[0], &id[1])->random;
    for (uint32_t i = 1; i <= 5; i++) {
        put(sim, &id[0], &id[1], i, 60);
        put(sim, &id[1], &id[0], i + 10, 60); /* the other direction is another link */
    }
    CHECK_INT(p2p_sim_run_until(sim, 10), 0);
    CHECK_INT(count(P2P_SIM_LOST), 1);
    CHECK_INT(count(P2P_SIM_DELIVERED), 10);
    for (uint32_t i = 0; i < seen.count; i++)
        CHECK_INT(seen.fate[i] == P2P_SIM_LOST, seen.number[i] == 3);
    CHECK(edge_of(sim, &id[0], &id[1])->random == random);
    p2p_sim_close(sim);
}
/* Ranges overlap, and each counts from its own call on. */
TEST(drop_lists_add_up_and_end) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    memset(&d, 0, sizeof d);
    d.drops = 3;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 2, 3), 0); /* 2 3 4 */
    put(sim, &id[0], &id[1], 1, 60);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 2, 4), 0); /* 3 4 5 6 */
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 8, 1), 0); /* 9 */
    CHECK_INT(p2p_sim_drop(sim, &id[1], &id[0], 1, 1), P2P_ERR_LIMIT);
    CHECK_STR(why.text, "p2p_sim_desc.drops: no room for one more range");
    CHECK_INT(why.max, 3);
    for (uint32_t i = 2; i <= 12; i++)
        put(sim, &id[0], &id[1], i, 60);
    CHECK_INT(count(P2P_SIM_LOST), 6);
    for (uint32_t i = 0; i < 6; i++)
        CHECK_INT(seen.number[i], i < 5 ? i + 2 : 9);
    for (int i = 0; i < 3; i++) /* all three are free again */
        CHECK_INT(p2p_sim_drop(sim, &id[1], &id[0], 1, UINT64_MAX), 0);
    CHECK_INT(p2p_sim_drop(sim, &id[1], &id[0], 7, 0), 0); /* and these are forgotten */
    put(sim, &id[1], &id[0], 20, 60);
    CHECK_INT(count(P2P_SIM_LOST), 6);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 0, 1), P2P_ERR_ARG);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &id[0], 1, 1), P2P_ERR_ARG);
    for (int i = 0; i < 3; i++)
        CHECK_INT(p2p_sim_drop(sim, &id[0], &id[1], 1, 1), 0);
    p2p_sim_close(sim);
}

/* ---- least latency ---- */

TEST(least_latency_goes_round_a_slow_edge) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2], r, hops[4];
    p2p_sim_link link;
    memset(&d, 0, sizeof d);
    memset(&link, 0, sizeof link);
    d.routing = P2P_SIM_ROUTING_LATENCY;
    d.link.latency_us = 10;
    link.latency_us = 30;
    CHECK_INT(open_pair(&sim, &d, &link, id), 0);
    CHECK_INT(p2p_sim_router(sim, "r", &r), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &r, NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &r, &id[1], NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], hops, 4), 2);
    CHECK_BYTES(&hops[0], &r, sizeof r);
    put(sim, &id[0], &id[1], 1, 60);
    CHECK_INT(p2p_sim_run_until(sim, 100), 0);
    CHECK_INT(seen.time_us[0], 20);
    CHECK_INT(p2p_sim_latency(sim, &id[0], &id[1], 20), 0); /* as long, and fewer hops */
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], hops, 4), 1);
    CHECK_INT(p2p_sim_path(sim, &id[1], &id[0], hops, 4), 2);
    CHECK_INT(p2p_sim_latency(sim, NULL, NULL, 0), 0); /* instant links make no circle */
    CHECK_INT(p2p_sim_path(sim, &id[1], &id[0], hops, 4), 1);
    CHECK_INT(p2p_sim_latency(sim, NULL, NULL, P2P_NEVER / 4), 0); /* and endless ones no wrap */
    CHECK_INT(p2p_sim_path(sim, &id[1], &id[0], hops, 4), 1);
    p2p_sim_close(sim);
}
/* A node in the middle that crashes, or hides behind a box, is no way. */
TEST(least_latency_needs_vertices_that_forward) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2], middle;
    p2p_sim_link link;
    memset(&d, 0, sizeof d);
    memset(&link, 0, sizeof link);
    d.routing = P2P_SIM_ROUTING_LATENCY;
    link.latency_us = 50;
    CHECK_INT(open_pair(&sim, &d, &link, id), 0);
    CHECK_INT(small_node(sim, "middle", &middle), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &middle, NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &middle, &id[1], NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 2);
    CHECK_INT(p2p_sim_crash(sim, &middle), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 1);
    CHECK_INT(p2p_sim_path(sim, &id[0], &middle, NULL, 0), 1);
    CHECK_INT(p2p_sim_restart(sim, &middle, NULL), 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 2);
    p2p_sim_close(sim);
}
enum { N = 24 };
static p2p_id v_id[N];
static int vertices(p2p_sim *sim, int n) {
    int err = 0;
    for (int i = 0; i < n && err == 0; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", i);
        err = p2p_sim_router(sim, name, &v_id[i]);
    }
    return err;
}
/* Sum of latencies along a path, and its edge by edge existence; -1 when an edge is missing. */
static int64_t along(p2p_sim *sim, uint32_t from, const p2p_id *hops, int n) {
    p2p_sim_link link;
    const p2p_id *at = &v_id[from];
    int64_t sum = 0;
    for (int i = 0; i < n; at = &hops[i++]) {
        if (p2p_sim_link_get(sim, at, &hops[i], &link) < 0 || link.down)
            return -1;
        sum += (int64_t)link.latency_us;
    }
    return sum;
}
static uint64_t far[N][N]; /* latency * 64 + hops: both are minimal at once */
static void far_compute(p2p_sim *sim, int n) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            p2p_sim_link link;
            far[i][j] = i == j ? 0 : UINT32_MAX;
            if (i != j && p2p_sim_link_get(sim, &v_id[i], &v_id[j], &link) == 0 && !link.down)
                far[i][j] = link.latency_us * 64 + 1;
        }
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                if (far[i][k] + far[k][j] < far[i][j])
                    far[i][j] = far[i][k] + far[k][j];
}
/* Against Floyd and Warshall's distances while latencies change, asking in random order. */
TEST(least_latency_on_random_graphs) {
    static p2p_id hops[N], again[N];
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.nodes = N;
    d.links = N * N;
    d.routing = P2P_SIM_ROUTING_LATENCY;
    for (int s = 0; s < test_seeds(15); s++) {
        uint64_t state = test_seed();
        CHECK_INT(open_sim(&sim, &d), 0);
        CHECK_INT(vertices(sim, N), 0);
        for (int round = 0; round < 4; round++) {
            for (int e = 0; e < 2 * N; e++) {
                uint32_t a = (uint32_t)p2p_sim__below(&state, N),
                         b = (uint32_t)p2p_sim__below(&state, N);
                p2p_sim_link link;
                memset(&link, 0, sizeof link);
                link.latency_us = p2p_sim__below(&state, 6);
                link.down = p2p_sim__below(&state, 8) == 0;
                if (a != b)
                    CHECK_INT(p2p_sim_connect_oneway(sim, &v_id[a], &v_id[b], &link), 0);
            }
            far_compute(sim, N);
            for (int ask = 0; ask < 2 * N * N; ask++) {
                uint32_t a = (uint32_t)p2p_sim__below(&state, N),
                         b = (uint32_t)p2p_sim__below(&state, N);
                bool none = far[a][b] >= UINT32_MAX;
                int n;
                if (a == b)
                    continue;
                n = p2p_sim_path(sim, &v_id[a], &v_id[b], hops, N);
                CHECK_INT(n, none ? P2P_ERR_NO_ROUTE : (int)(far[a][b] % 64));
                if (none)
                    continue;
                CHECK_INT(along(sim, a, hops, n), far[a][b] / 64);
                p2p_sim__changed(sim); /* forgets, and must choose the same again */
                CHECK_INT(p2p_sim_path(sim, &v_id[a], &v_id[b], again, N), n);
                CHECK_BYTES(hops, again, (size_t)n * sizeof *hops);
            }
        }
        p2p_sim_close(sim);
    }
}

/* ---- partitions of one way ---- */

/* Against the list of all cuts and heals, the latest first. */
TEST(oneway_cuts_overlap_freely) {
    enum { OPS = 60, M = 12 };
    p2p_id a[M], b[M];
    p2p_sim *sim;
    for (int s = 0; s < test_seeds(20); s++) {
        uint32_t in_a[OPS] = {0}, in_b[OPS] = {0};
        uint32_t kind[OPS];
        uint64_t state = test_seed();
        CHECK_INT(open_sim(&sim, NULL), 0);
        CHECK_INT(vertices(sim, M), 0);
        for (int op = 0; op < OPS; op++) {
            size_t na = 0, nb = 0;
            for (uint32_t i = 0; i < M; i++) {
                uint64_t where = p2p_sim__below(&state, 4);
                if (where == 0) {
                    a[na++] = v_id[i];
                    in_a[op] |= 1u << i;
                } else if (where == 1) {
                    b[nb++] = v_id[i];
                    in_b[op] |= 1u << i;
                }
            }
            kind[op] = (uint32_t)p2p_sim__below(&state, 3);
            if (na == 0 || nb == 0) {
                in_a[op] = in_b[op] = 0;
                continue;
            }
            CHECK_INT(kind[op] == P2P_SIM__HEAL  ? p2p_sim_heal(sim, a, na, b, nb)
                      : kind[op] == P2P_SIM__CUT ? p2p_sim_partition(sim, a, na, b, nb)
                                                 : p2p_sim_partition_oneway(sim, a, na, b, nb),
                      0);
            for (uint32_t x = 0; x < M; x++)
                for (uint32_t y = 0; y < M; y++) {
                    bool want = false;
                    for (int k = op; k >= 0; k--) {
                        bool there = (in_a[k] >> x & in_b[k] >> y & 1) != 0;
                        bool back = (in_a[k] >> y & in_b[k] >> x & 1) != 0;
                        if (there || (back && kind[k] != P2P_SIM__ONEWAY)) {
                            want = kind[k] != P2P_SIM__HEAL;
                            break;
                        }
                    }
                    CHECK_INT(p2p_sim__cut(sim, &sim->vertices[x], &sim->vertices[y]), want);
                }
        }
        CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), 0);
        for (uint32_t x = 1; x < M; x++)
            CHECK(!p2p_sim__cut(sim, &sim->vertices[0], &sim->vertices[x]) &&
                  !p2p_sim__cut(sim, &sim->vertices[x], &sim->vertices[0]));
        CHECK(sim->cut_count == 0 && sim->cut_oneway == 0);
        p2p_sim_close(sim);
    }
}
TEST(oneway_cuts_let_answers_through) {
    p2p_sim *sim;
    p2p_id id[2];
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    CHECK_INT(p2p_sim_partition_oneway(sim, &id[0], 1, &id[1], 1), 0);
    put(sim, &id[0], &id[1], 1, 60);
    put(sim, &id[1], &id[0], 2, 60);
    CHECK_INT(p2p_sim_run_until(sim, 10), 0);
    CHECK_INT(count(P2P_SIM_ROUTE), 1);
    CHECK_INT(count(P2P_SIM_DELIVERED), 1);
    CHECK_INT(seen.number[0], 1);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), P2P_ERR_NO_ROUTE);
    CHECK_INT(p2p_sim_path(sim, &id[1], &id[0], NULL, 0), 1);
    for (int i = 0; i < 200; i++) { /* again and again, and turned round */
        CHECK_INT(p2p_sim_partition_oneway(sim, &id[1], 1, &id[0], 1), 0);
        CHECK_INT(p2p_sim_path(sim, &id[1], &id[0], NULL, 0), P2P_ERR_NO_ROUTE);
        CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), P2P_ERR_NO_ROUTE);
        CHECK_INT(p2p_sim_partition_oneway(sim, &id[0], 1, &id[1], 1), 0);
        CHECK(sim->cut_count <= 2);
    }
    CHECK_INT(p2p_sim_heal(sim, &id[1], 1, &id[0], 1), 0);
    CHECK_INT(sim->cut_count, 0);
    CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 1);
    CHECK_INT(p2p_sim_partition_oneway(sim, &id[0], 1, NULL, 0), P2P_ERR_ARG);
    CHECK_STR(why.text, "p2p_sim_partition_oneway: a group is empty");
    p2p_sim_close(sim);
}
/* Half of the random ones are one way: seen from both ends, some cut both, some only one. */
TEST(random_partitions_may_be_oneway) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    uint32_t both = 0, one = 0;
    memset(&d, 0, sizeof d);
    d.partition_ppm = 300000;
    d.oneway_ppm = 500000;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    for (uint64_t s = 1; s <= 2000; s++) {
        int there, back;
        CHECK_INT(p2p_sim_run_until(sim, s * 1000000 + 1), 0);
        there = p2p_sim_path(sim, &id[0], &id[1], NULL, 0);
        back = p2p_sim_path(sim, &id[1], &id[0], NULL, 0);
        both += there < 0 && back < 0;
        one += (there < 0) != (back < 0);
    }
    CHECK(both > 150 && one > 150 && both < 2 * one && one < 2 * both);
    p2p_sim_close(sim);
}

TEST(healing_all_ends_what_was_drawn_at_random) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_id id[2];
    uint32_t cut = 0;
    memset(&d, 0, sizeof d);
    d.partition_ppm = 1000000;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    for (uint64_t s = 1; s <= 100; s++) {
        CHECK_INT(p2p_sim_run_until(sim, s * 1000000 + 1), 0);
        cut += p2p_sim_path(sim, &id[0], &id[1], NULL, 0) < 0;
        CHECK_INT(p2p_sim_heal(sim, NULL, 0, NULL, 0), 0);
        CHECK_INT(p2p_sim_path(sim, &id[0], &id[1], NULL, 0), 1);
    }
    CHECK(cut > 20);
    p2p_sim_close(sim);
}
TEST(an_edge_is_made_both_ways_or_not_at_all) {
    p2p_sim_desc d;
    p2p_sim *sim;
    p2p_sim_link link;
    p2p_id id[2], r;
    memset(&d, 0, sizeof d);
    d.links = 2;
    CHECK_INT(open_pair(&sim, &d, NULL, id), 0);
    CHECK_INT(p2p_sim_router(sim, "r", &r), 0);
    CHECK_INT(p2p_sim_connect_oneway(sim, &r, &id[0], NULL), 0);
    CHECK_INT(p2p_sim_connect(sim, &id[1], &r, NULL), P2P_ERR_LIMIT);
    CHECK_STR(why.text, "p2p_sim_desc.links: no more edges");
    CHECK_INT(p2p_sim_link_get(sim, &id[1], &r, &link), P2P_ERR_NOT_FOUND);
    CHECK_INT(p2p_sim_connect(sim, &id[0], &r, NULL), 0);
    p2p_sim_close(sim);
}
TEST(what_takes_for_ever_does_not_wrap) {
    p2p_sim__edge e;
    CHECK(p2p_sim__line_ns(2305843010, 1) == UINT64_MAX);
    CHECK(p2p_sim__line_ns(UINT32_MAX, 1) == UINT64_MAX);
    CHECK(p2p_sim__line_ns(1250, 1000000) == 10000000);
    memset(&e, 0, sizeof e);
    e.link.latency_us = e.link.jitter_us = P2P_NEVER / 4;
    e.link.reorder_ppm = 1000000;
    for (uint32_t i = 0; i < 100; i++)
        CHECK(p2p_sim__arrival(&e, P2P_NEVER / 4) >= P2P_NEVER / 4);
}

/* ---- errors ---- */

TEST(wrong_links_are_named) {
    p2p_sim *sim;
    p2p_id id[2], other;
    p2p_sim_link link;
    CHECK_INT(open_pair(&sim, NULL, NULL, id), 0);
    memset(&link, 0, sizeof link);
    link.jitter = 3;
    CHECK_INT(p2p_sim_connect(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.jitter: not one of P2P_SIM_JITTER_*");
    link.jitter = P2P_SIM_JITTER_PARETO;
    link.jitter_us = ((uint64_t)1 << 40) + 1;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.jitter_us: at most 2^40 with a jitter that is not uniform");
    memset(&link, 0, sizeof link);
    link.codel = 1;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.codel: a queue needs a rate_bps");
    link.codel = 2;
    link.rate_bps = 1;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.codel: 0 or 1");
    memset(&link, 0, sizeof link);
    link.reserved[0] = 1;
    CHECK_INT(p2p_sim_link_set(sim, &id[0], &id[1], &link), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "link.reserved: must be 0");
    CHECK_INT(p2p_sim_id(sim, "nobody", &other), 0);
    CHECK_INT(p2p_sim_drop(sim, &id[0], &other, 1, 1), P2P_ERR_NOT_FOUND);
    CHECK_STR(why.text, "to: no vertex has this id");
    p2p_sim_close(sim);
}
TEST(wrong_networks_are_named) {
    p2p_sim_desc d;
    p2p_sim *sim;
    memset(&d, 0, sizeof d);
    d.routing = 2;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.routing: not one of P2P_SIM_ROUTING_*");
    memset(&d, 0, sizeof d);
    d.drops = 0x10000000;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.drops: at most 268435455");
    memset(&d, 0, sizeof d);
    d.oneway_ppm = 1000001;
    CHECK_INT(open_sim(&sim, &d), P2P_ERR_CONFIG);
    CHECK_STR(why.text, "p2p_sim_desc.oneway_ppm: a probability above 1000000");
}
TEST_MAIN(P2P_TEST_ENTRY(normal_jitter_has_the_quantiles_of_the_bell),
          P2P_TEST_ENTRY(pareto_jitter_has_the_quantiles_of_its_tail),
          P2P_TEST_ENTRY(uniform_jitter_has_the_quantiles_of_a_line),
          P2P_TEST_ENTRY(tails_are_monotone_and_end), P2P_TEST_ENTRY(jitter_keeps_time_and_order),
          P2P_TEST_ENTRY(jitter_is_the_same_everywhere),
          P2P_TEST_ENTRY(codel_brings_a_standing_queue_down),
          P2P_TEST_ENTRY(codel_lets_bursts_and_slow_lines_be),
          P2P_TEST_ENTRY(codel_follows_its_law), P2P_TEST_ENTRY(roots_are_rounded_down),
          P2P_TEST_ENTRY(the_third_datagram_is_lost), P2P_TEST_ENTRY(drop_lists_add_up_and_end),
          P2P_TEST_ENTRY(least_latency_goes_round_a_slow_edge),
          P2P_TEST_ENTRY(least_latency_needs_vertices_that_forward),
          P2P_TEST_ENTRY(least_latency_on_random_graphs),
          P2P_TEST_ENTRY(oneway_cuts_overlap_freely),
          P2P_TEST_ENTRY(oneway_cuts_let_answers_through),
          P2P_TEST_ENTRY(random_partitions_may_be_oneway),
          P2P_TEST_ENTRY(healing_all_ends_what_was_drawn_at_random),
          P2P_TEST_ENTRY(an_edge_is_made_both_ways_or_not_at_all),
          P2P_TEST_ENTRY(what_takes_for_ever_does_not_wrap), P2P_TEST_ENTRY(wrong_links_are_named),
          P2P_TEST_ENTRY(wrong_networks_are_named))
