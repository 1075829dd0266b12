/* program.h: the program on each node: which event goes where, and what it may do next.
 *
 * To add an action: write it as `void act(actor *a, rng *r)` where its model is, and give it a row
 * in `actions` with its feature and its weight. All that it draws comes from r. */
#ifndef SWARM_PROGRAM_H
#define SWARM_PROGRAM_H

/* ---- events ---- */

static void work_event(actor *a, const p2p_event *event) {
    world.events++;
    if (more_event(a, event) || asks_event(a, event))
        return;
    if (event->type == P2P_EVENT_CONNECTED)
        connected(a, event);
    else if (event->stream.id)
        stream_event(a, end_find(a, event->conn), event);
    else if (event->conn.id)
        conn_event(a, event);
}

/* The node crashed: nothing of it comes to an end any more. */
static void actor_gone(actor *a) {
    for (uint32_t i = 0; i < made.ends; i++) {
        end *e = &ends[i];
        if (actor_of(e) != a || e->state == OVER)
            continue;
        e->state = OVER;
        free(e->lent);
        free(e->ref);
        e->lent = NULL;
        e->ref = NULL;
    }
    for (uint32_t i = 0; i < made.halves; i++)
        if (actor_of(halves[i].end) == a)
            halves[i].live = 0;
    asks_gone(a);
    more_gone(a);
}

/* ---- actions ---- */

/* Whoever was lazy goes on. */
static void resume(actor *a, rng *r) {
    (void)r;
    streams_resume(a);
    answer_later(a, r);
    for (uint32_t i = 0; i < made.ends; i++)
        if (actor_of(&ends[i]) == a && ends[i].was_up && ends[i].state != OVER)
            messages_take(a, &ends[i]);
}

/* The program does something else for a while. */
static void look_late(actor *a, rng *r) { a->late_us = now_us() + spread(r, 1, 2000) * MS; }

static void network_changed(actor *a, rng *r) {
    uint64_t shown_us = 0;
    (void)r;
    MUST(p2p_sim_node_now(world.sim, &a->id, &shown_us) == 0, "clock: %s", world.why.text);
    EXPECT(a,
           p2p_network_changed(a->node, shown_us, a->node->desc.link.local,
                               a->node->desc.link.local_count),
           0);
}

/* Chances are in the weights; an action that cannot be done now is none. */
static const struct {
    int feature;
    uint32_t weight;
    void (*act)(actor *a, rng *r);
} actions[] = {
    {F_COUNT, 14, dial},        {F_streams, 22, stream_open},     {F_messages, 22, message_send},
    {F_requests, 20, ask_send}, {F_datagrams, 12, datagram_send}, {F_resets, 5, stream_reset},
    {F_resets, 2, ask_cancel},  {F_closes, 4, close_one},         {F_share, 4, hold},
    {F_lazy, 6, resume},        {F_late, 4, look_late},           {F_network, 2, network_changed},
    {F_names, 3, discover},     {F_timers, 3, timer_set},         {F_abuse, 4, abuse},
    {F_stops, 1, stop},
};
enum { ACTIONS = sizeof actions / sizeof actions[0] };

static void act(uint32_t number) {
    rng r = rng_of(F_ACTION, number);
    actor *a = &world.actors[below(&r, plan.nodes_drawn)];
    uint32_t sum = 0, draw, i;
    for (i = 0; i < ACTIONS; i++)
        sum += actions[i].weight;
    draw = below(&r, sum);
    for (i = 0; draw >= actions[i].weight; i++)
        draw -= actions[i].weight;
    if (a >= world.actors + plan.nodes || !a->node || a->stopping || a->paused ||
        (actions[i].feature != F_COUNT && !with(actions[i].feature)))
        return;
    actor_looks(a);
    if (end_draw(a, &r)) /* most need a connection */
        actions[i].act(a, &r);
    else
        dial(a, &r);
    world.events++;
}
#endif
