/* A scenario drawn at random, as the text of a file: so any run of it can be kept, read and edited,
 * and does the same when it is run from there. */
#include "p2p_scene_random.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct draw {
    uint64_t state;
    char *out;
    size_t size, used;
    unsigned nodes, routers;
    unsigned messages[8], streams[8]; /* that each node sends to n0 */
    bool crashes;
} draw;

/* 0 to limit - 1, by splitmix64. */
static unsigned below(draw *d, unsigned limit) {
    uint64_t x = d->state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ x >> 31) % limit);
}
static unsigned between(draw *d, unsigned least, unsigned most) {
    return least + below(d, most - least + 1);
}
static bool chance(draw *d, unsigned percent) { return below(d, 100) < percent; }

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
put(draw *d, const char *format, ...) {
    va_list list;
    int n;
    va_start(list, format);
    n = vsnprintf(d->out + d->used, d->size - d->used, format, list);
    va_end(list);
    if (n > 0)
        d->used += (size_t)n;
    if (d->used >= d->size)
        d->used = d->size - 1;
}

/* Half of all links are good ones, so that the bad ones are seen for what they do. */
static void link_options(draw *d) {
    static const char *const spreads[] = {"uniform", "normal", "pareto"};
    put(d, " latency=%ums", between(d, 0, 100));
    if (chance(d, 50))
        put(d, " jitter=%ums spread=%s", between(d, 1, 20), spreads[below(d, 3)]);
    if (chance(d, 60))
        put(d, " rate=%umbit queue=%uB discipline=%s", between(d, 1, 50), between(d, 2, 20) * 1260,
            chance(d, 25) ? "codel" : "tail");
    if (chance(d, 50)) {
        put(d, "\n");
        return;
    }
    put(d, " loss=%u%%", between(d, 0, 30));
    if (chance(d, 30))
        put(d, " burst=50%%");
    if (chance(d, 30))
        put(d, " duplicate=%u%%", between(d, 1, 50));
    if (chance(d, 30))
        put(d, " reorder=%u%%", between(d, 1, 20));
    if (chance(d, 20))
        put(d, " corrupt=%u%%", between(d, 1, 5));
    put(d, "\n");
}
/* The routers stand in a row; each node hangs on one of them, or all on each other. */
static void network(draw *d) {
    unsigned i, k;
    if (chance(d, 10))
        put(d, "secure dtls\n");
    if (chance(d, 30))
        put(d, "network routing=latency\n");
    d->nodes = between(d, 2, 6);
    d->routers = between(d, 0, 3);
    put(d, "node n0..%u\n", d->nodes - 1);
    if (d->routers)
        put(d, "router r0..%u\n", d->routers - 1);
    put(d, "\n");
    for (i = 0; i + 1 < d->routers; i++) {
        put(d, "link r%u r%u", i, i + 1);
        link_options(d);
    }
    for (i = 0; i < d->nodes; i++)
        for (k = 0; k < (d->routers ? 1 : i); k++) {
            if (d->routers)
                put(d, "link n%u r%u", i, below(d, d->routers));
            else
                put(d, "link n%u n%u", i, k);
            link_options(d);
        }
}
/* n0 is dialled and the others dial, so boxes stand before those only. */
static void boxes(draw *d) {
    static const char *const kinds[] = {"full", "addr", "port", "sym", "firewall"};
    unsigned i;
    put(d, "\n");
    for (i = 1; i < d->nodes; i++)
        if (chance(d, 30))
            put(d, "nat n%u %s\n", i, kinds[below(d, 5)]);
    put(d, "route n0 GET /tracks/:id %ukB\n\n", between(d, 1, 200));
}
/* What one node does once it has dialled, from ms on. */
static void work_of(draw *d, unsigned i, unsigned ms) {
    unsigned every, until_s;
    if (chance(d, 60)) {
        put(d, "at %ums stream n%u n0 %ukB\n", ms + below(d, 3000), i, between(d, 1, 300));
        d->streams[i] = 1;
    }
    if (chance(d, 60)) {
        every = between(d, 50, 900);
        until_s = between(d, 2, 8);
        put(d, "at %ums every %ums until %us message n%u n0 %uB\n", ms, every, until_s, i,
            between(d, 8, 2000));
        d->messages[i] = (until_s * 1000 - ms) / every + 1;
    }
    if (chance(d, 40))
        put(d, "at %ums every %ums until %us datagram n%u n0 %uB\n", ms, between(d, 10, 100),
            between(d, 2, 6), i, between(d, 8, 900));
    if (chance(d, 40))
        put(d, "at %ums request n%u n0 GET /tracks/%u\n", ms + below(d, 3000), i, below(d, 9));
}
static void work(draw *d) {
    unsigned i, ms;
    for (i = 1; i < d->nodes; i++) {
        ms = between(d, 0, 500);
        put(d, "at %ums dial n%u n0 reconnect\n", ms, i);
        work_of(d, i, ms + 1);
    }
    put(d, "\n");
}
static void crash(draw *d) {
    unsigned ms = between(d, 1000, 5000), who = below(d, d->nodes), away = between(d, 1, 2000);
    put(d, "at %ums crash n%u for %ums\n", ms, who, away);
    if (who) /* its program begins anew */
        put(d, "at %ums dial n%u n0 reconnect\n", ms + away, who);
    d->crashes = true;
}
static void trouble(draw *d) {
    if (chance(d, 40))
        put(d, "at %ums partition n0%s n%u for %ums\n", between(d, 0, 5000),
            chance(d, 30) ? " ->" : "", between(d, 1, d->nodes - 1), between(d, 100, 4000));
    if (chance(d, 30))
        put(d, "at %ums links loss=%u%% burst=0%% for %ums\n", between(d, 0, 5000),
            between(d, 5, 100), between(d, 100, 2000));
    if (chance(d, 20))
        put(d, "at %ums clock n%u drift=%d%% step=%ums\n", between(d, 0, 5000), below(d, d->nodes),
            (int)below(d, 21) - 10, between(d, 0, 2000));
    if (chance(d, 20))
        crash(d);
    else if (chance(d, 20))
        put(d, "at %ums pause n%u for %ums\n", between(d, 0, 5000), below(d, d->nodes),
            between(d, 1, 3000));
}
/* All heals, and then what was begun must end. */
static void finish(draw *d) {
    unsigned i;
    put(d, "at 10s links loss=0%% duplicate=0%% reorder=0%% corrupt=0%% burst=0%%\n\nend 60s\n");
    for (i = 1; i < d->nodes && !d->crashes; i++) {
        put(d, "expect n%u connected to n0 by 50s\nexpect n%u failures = 0 from n0\n", i, i);
        put(d, "expect n0 streams = %u from n%u\nexpect n0 messages = %u from n%u\n", d->streams[i],
            i, d->messages[i], i);
    }
}
void scene_random(uint64_t seed, char *out, size_t size) {
    draw d;
    memset(&d, 0, sizeof d);
    d.state = seed;
    d.out = out;
    d.size = size;
    put(&d, "# drawn by: p2p sim --random --seed %llu\nseed %llu\n", (unsigned long long)seed,
        (unsigned long long)seed);
    network(&d);
    boxes(&d);
    work(&d);
    trouble(&d);
    finish(&d);
}
