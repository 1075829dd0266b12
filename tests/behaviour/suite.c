/* The contract of p2p.h, case by case, in the world that -DWORLD_... names. */
#include "world.h"
#include "cases_conn.h"
#include "cases_life.h"
#include "cases_stream.h"
#include "cases_message.h"
#include "cases_node.h"
#include "cases_router.h"
#if WORLD_SIM
#include "cases_discovery.h"
#else
#define CASES_DISCOVERY(X)
#endif

/* Test names say the world: sim_null.connect_and_accept. */
#define ENTRY(name) {WORLD_NAME "." #name, test_##name},

/* Every case above ran under the watch; here it is seen that the watch sees. */
TEST(heap_watch_sees) {
    void *volatile block;
    if (!heap_watch_works())
        return;
    world_open(1, NULL);
    CHECK_SO_FAR();
    CHECK_INT(heap_watch.calls, 0);
    block = malloc(10);
    CHECK_INT(heap_watch.calls, 1);
    free(block);
    block = calloc(2, 10);
    CHECK_INT(heap_watch.calls, 2);
    free(block);
    world_close();
}

TEST(leaves_nothing_open) {
    world_close();
    CHECK_INT(world.overrun, 0);
}

TEST_MAIN(CASES_CONN(ENTRY) CASES_LIFE(ENTRY) CASES_STREAM(ENTRY) CASES_MESSAGE(ENTRY)
              CASES_NODE(ENTRY) CASES_ROUTER(ENTRY) CASES_DISCOVERY(ENTRY) ENTRY(heap_watch_sees)
                  ENTRY(leaves_nothing_open))
