/* >>arena and >>pool: the layout walk, tables, handles that go stale. */
#include "unit.h"

TEST(measuring_and_carving_agree) {
    for (int i = 0; i < test_seeds(50); i++) {
        unit_rng rng = {test_seed()};
        static uint64_t memory[4096];
        p2p__layout measured = {NULL, 0}, carved = {(uint8_t *)memory, 0};
        for (int n = 0; n < 20; n++) {
            size_t count = (size_t)unit_below(&rng, 10), item = 1 + (size_t)unit_below(&rng, 40);
            size_t align = (size_t)1 << unit_below(&rng, 4), before;
            uint8_t *at;
            CHECK(p2p__layout_take(&measured, count, item, align) == NULL);
            before = carved.size;
            at = (uint8_t *)p2p__layout_take(&carved, count, item, align);
            CHECK(at != NULL);
            CHECK_INT((uintptr_t)at % align, 0);
            CHECK((size_t)(at - carved.base) >= before);
            CHECK((size_t)(at - carved.base) - before < align);
            CHECK_INT((size_t)(at - carved.base) + count * item, carved.size);
            CHECK_INT(measured.size, carved.size);
        }
    }
}

TEST(sizes_beyond_memory_saturate) {
    p2p__layout l = {NULL, 8};
    CHECK(p2p__layout_take(&l, SIZE_MAX, 2, 8) == NULL);
    CHECK(l.size == SIZE_MAX);
    CHECK(p2p__layout_take(&l, 1, 1, 8) == NULL);
    CHECK(l.size == SIZE_MAX);
    l.size = 1;
    CHECK(p2p__layout_take(&l, 1, SIZE_MAX, 8) == NULL);
    CHECK(l.size == SIZE_MAX);
    l.size = SIZE_MAX - 7;
    CHECK(p2p__layout_take(&l, 1, 8, 8) == NULL);
    CHECK(l.size == SIZE_MAX);
}

typedef struct item {
    p2p__slot slot;
    uint8_t data[20];
} item;

static item items[5];

static void pool_of(p2p__pool *pool, uint32_t count, uint32_t gen) {
    memset(items, 0xcc, sizeof items);
    p2p__pool_init(pool, items, sizeof items[0], count, gen);
}

TEST(a_pool_gives_each_item_once) {
    p2p__pool pool;
    pool_of(&pool, 5, 1);
    for (uint32_t i = 0; i < 5; i++) {
        item *it = (item *)p2p__pool_take(&pool);
        CHECK(it != NULL);
        CHECK_INT(p2p__pool_index(&pool, it), i);
        CHECK(p2p__pool_at(&pool, i) == it);
        CHECK(p2p__slot_live(it));
        for (size_t n = 0; n < sizeof it->data; n++)
            CHECK_INT(it->data[n], 0);
    }
    CHECK(p2p__pool_take(&pool) == NULL);
    CHECK_INT(pool.used, 5);
    CHECK_INT(items[4].slot.live, 1);
}

TEST(a_pool_of_none_is_full) {
    p2p__pool pool;
    p2p__pool_init(&pool, NULL, sizeof(item), 0, 9);
    CHECK(p2p__pool_take(&pool) == NULL);
    CHECK(p2p__pool_get(&pool, 0) == NULL);
    CHECK(p2p__pool_get(&pool, 1) == NULL);
    CHECK(p2p__pool_get(&pool, UINT32_MAX) == NULL);
}

TEST(ids_name_one_life) {
    p2p__pool pool;
    item *first;
    uint32_t id;
    pool_of(&pool, 5, 77);
    first = (item *)p2p__pool_take(&pool);
    id = p2p__pool_id(&pool, first);
    CHECK(id != 0);
    CHECK(p2p__pool_get(&pool, id) == first);
    CHECK(p2p__pool_get(&pool, 0) == NULL);
    CHECK(p2p__pool_get(&pool, id + 1) == NULL);
    CHECK(p2p__pool_get(&pool, id + (1u << pool.shift)) == NULL);
    CHECK(p2p__pool_get(&pool, (id & ~7u) | 6) == NULL);
    CHECK(p2p__pool_get(&pool, (id & ~7u) | 7) == NULL);
    CHECK(p2p__pool_get(&pool, id & ~7u) == NULL);
    memset(first->data, 0xab, sizeof first->data);
    p2p__pool_give(&pool, first);
    CHECK(p2p__pool_get(&pool, id) == NULL);
    CHECK(!p2p__slot_live(first));
    for (size_t n = 0; n < sizeof first->data; n++)
        CHECK_INT(first->data[n], 0);
}

TEST(another_seed_makes_foreign_handles_stale) {
    p2p__pool one, two;
    static item others[5];
    uint32_t id;
    pool_of(&one, 5, 1000);
    p2p__pool_init(&two, others, sizeof others[0], 5, 2000);
    id = p2p__pool_id(&one, p2p__pool_take(&one));
    CHECK(p2p__pool_take(&two) != NULL);
    CHECK(p2p__pool_get(&one, id) != NULL);
    CHECK(p2p__pool_get(&two, id) == NULL);
}

TEST(freed_items_are_reused_oldest_first) {
    p2p__pool pool;
    item *taken[5];
    static const int order[5] = {3, 0, 4, 1, 2};
    pool_of(&pool, 5, 0);
    for (int i = 0; i < 5; i++)
        taken[i] = (item *)p2p__pool_take(&pool);
    for (int i = 0; i < 5; i++)
        p2p__pool_give(&pool, taken[order[i]]);
    CHECK_INT(pool.used, 0);
    for (int i = 0; i < 5; i++)
        CHECK(p2p__pool_take(&pool) == taken[order[i]]);
    CHECK(p2p__pool_take(&pool) == NULL);
}

TEST(a_generation_may_wrap) {
    p2p__pool pool;
    uint32_t before = 0;
    pool_of(&pool, 1, UINT32_MAX - 1);
    for (int i = 0; i < 5; i++) {
        item *it = (item *)p2p__pool_take(&pool);
        uint32_t id = p2p__pool_id(&pool, it);
        CHECK(id != 0);
        CHECK(id != before);
        CHECK(p2p__pool_get(&pool, id) == it);
        CHECK(p2p__pool_get(&pool, before) == NULL);
        before = id;
        p2p__pool_give(&pool, it);
    }
}

/* Against a plain model: which items are live, under which ids. */
TEST(a_long_random_life_agrees_with_the_model) {
    for (int i = 0; i < test_seeds(20); i++) {
        unit_rng rng = {test_seed()};
        p2p__pool pool;
        uint32_t ids[5] = {0}, dead = 0, live = 0;
        pool_of(&pool, 5, (uint32_t)unit_u64(&rng));
        for (int n = 0; n < 500; n++) {
            uint32_t at = (uint32_t)unit_below(&rng, 5);
            void *it;
            if (ids[at]) {
                it = p2p__pool_get(&pool, ids[at]);
                CHECK(it != NULL);
                p2p__pool_give(&pool, it);
                dead = ids[at];
                ids[at] = 0;
                live--;
            } else if ((it = p2p__pool_take(&pool)) != NULL) {
                CHECK(p2p__pool_id(&pool, it) != dead);
                ids[at] = p2p__pool_id(&pool, it);
                live++;
            }
            CHECK_INT(pool.used, live);
            CHECK(!dead || p2p__pool_get(&pool, dead) == NULL);
        }
    }
}

TEST_MAIN(P2P_TEST_ENTRY(measuring_and_carving_agree), P2P_TEST_ENTRY(sizes_beyond_memory_saturate),
          P2P_TEST_ENTRY(a_pool_gives_each_item_once), P2P_TEST_ENTRY(a_pool_of_none_is_full),
          P2P_TEST_ENTRY(ids_name_one_life),
          P2P_TEST_ENTRY(another_seed_makes_foreign_handles_stale),
          P2P_TEST_ENTRY(freed_items_are_reused_oldest_first),
          P2P_TEST_ENTRY(a_generation_may_wrap),
          P2P_TEST_ENTRY(a_long_random_life_agrees_with_the_model))
