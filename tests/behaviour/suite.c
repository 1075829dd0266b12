/* The contract of p2p.h, case by case, in the world that -DWORLD_... names. */
#include "world.h"
#include "cases_conn.h"
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

TEST(leaves_nothing_open) {
    world_close();
    CHECK_INT(world.overrun, 0);
}

TEST_MAIN(CASES_CONN(ENTRY) CASES_STREAM(ENTRY) CASES_MESSAGE(ENTRY) CASES_NODE(ENTRY)
              CASES_ROUTER(ENTRY) CASES_DISCOVERY(ENTRY) ENTRY(leaves_nothing_open))
