/* What a peer that was let in can try. Each attack ends with its code and its counter, or is
 * bounded: Bob's memory returns to what it was, Alice's questions are answered as fast as before,
 * no timer spins, and no packet makes more work than its bytes explain. */
#include "attack.h"

#define WAKES_MAX 3000u /* timers of Bob's a second, beyond his answers to what comes */

static const uint8_t filler[1100] = {0x55};

/* The worst answer that Alice may see: a round trip, and what pacing and late ACKs may add. */
#define WORST_US (20 * MS + 30 * MS)

static int early; /* Bob's proof is kept from her, so she never makes hers */

static void expect_end(const attack *a) {
    CHECK_INT(mallory.closed, a->code > 0 ? a->code : -1);
    CHECK_INT(bob.ended, a->code != 0 && !early);
    if (a->code > 0 && !early)
        CHECK_INT(bob.err, P2P_ERR_PROTOCOL);
}

/* Runs one attack between two rests, and holds what must hold of all of them. */
static void run_on(const attack *a, bool small) {
    uint64_t used, seconds = 1 + a->turns * (a->every_us ? a->every_us : MS) / SECOND;
    world_begin(1, small);
    CHECK_SO_FAR();
    used = counter(P2P_METRIC_arena_used_bytes);
    mallory.deaf = early;
    dials_bob(MALLORY);
    pass(SECOND, false);
    CHECK(early || bob_session());
    mallory_turns();
    CHECK_SO_FAR();
    bob.now = a;
    bob_writes();
    bob.wakes = 0;
    for (uint64_t i = 0; i < 4 * seconds; i++) {
        pass(SECOND / 4, true);
        CHECK_SO_FAR();
        CHECK_INT(p2p_check(hosts[BOB].node), P2P_OK);
    }
    CHECK(!bob.spun);
    expect_end(a);
    CHECK_SO_FAR();
    if (a->counter)
        CHECK(counter(a->counter) > 0);
    printf("    %6u in %5u back; work %6u at most, %6u on average, then %6u, %5u; wakes %3u; Alice "
           "%u; %s\n",
           (unsigned)mallory.in, (unsigned)mallory.out, (unsigned)mallory.work_most,
           (unsigned)(mallory.work / P2P__MAX(mallory.in, 1u)), (unsigned)bob.work_most,
           (unsigned)(bob.work / P2P__MAX(mallory.in + mallory.out, 1u)),
           (unsigned)(bob.wakes / seconds), (unsigned)alice.worst_us, test_state.name);
    CHECK_INT(mallory.too_much, 0);
    CHECK(bob.work_most <= DRIVE_MAX);
    CHECK(bob.wakes <= seconds * WAKES_MAX);
    CHECK(mallory.elsewhere_out <= mallory.elsewhere_in);
    if (!a->writes) /* nobody gets much more than an answer to each of his packets */
        CHECK(mallory.out <= 2 * mallory.in + 16 * seconds);
    for (int way = 0; way < WAYS; way++)
        CHECK(alice.back[way] + 2 >= alice.sent[way] && alice.back[way] > 0);
    CHECK(alice.worst_us <= WORST_US);
    mallory.number++;
    if (!a->code) { /* she says goodbye, so that what she held comes back */
        packet_begin();
        p2p__put_close(&mallory.w, 1, 0, p2p_str_of(""));
        packet_end();
    }
    bob.now = NULL;
    pass(10 * SECOND, false);
    CHECK_INT(bob.ended, !early);
    CHECK_INT(counter(P2P_METRIC_arena_used_bytes), used);
    CHECK_INT(p2p_check(hosts[BOB].node), P2P_OK);
    world_end();
}

static void run(const attack *a) {
    run_on(a, true);
    CHECK_SO_FAR();
    run_on(a, false);
}

/* The counter of work is built in, or all bounds on it hold for nothing. */
TEST(work_is_counted) {
    uint64_t was;
    world_begin(1, false);
    was = work;
    pass(SECOND, true);
    CHECK(work - was > 1000);
    world_end();
}

/* ---- acknowledgements ---- */

static void put_range(uint64_t first, uint64_t last) {
    p2p__range range;
    range.first = first;
    range.last = last;
    p2p__put_ack(&mallory.w, &range, 1, 0);
}

static void acks_unsent(uint32_t turn) {
    (void)turn;
    packet_begin();
    put_range(100000, 100000);
    packet_end();
}
TEST(ack_of_a_packet_never_sent) {
    static const attack a = {acks_unsent, 1, 0, 0, 0, P2P__CODE_PROTOCOL, P2P_METRIC_ack_of_unsent};
    run(&a);
}

static void acks_a_number_left_out(uint32_t turn) {
    const p2p__session *s = bob_session();
    (void)turn;
    for (uint32_t i = 0; s && i < P2P__SKIPPED; i++)
        if (s->skipped[i]) {
            packet_begin();
            put_range(s->skipped[i], s->skipped[i]);
            packet_end();
            return;
        }
    for (int i = 0; s && i < 2; i++)
        hit(P2P__FRAME_PING, 0, 0, 0, 0);
}
TEST(ack_of_a_number_left_out) {
    static const attack a = {acks_a_number_left_out,  1000, 0, 0, 0, P2P__CODE_PROTOCOL,
                             P2P_METRIC_ack_of_unsent};
    run(&a);
}

/* All that Bob can have sent by now, arrived or not: to make him send faster. */
static void acks_ahead(uint32_t turn) {
    if (!bob_session())
        return;
    packet_begin();
    put(P2P__FRAME_MAX_DATA, 1, (uint64_t)turn << 16, 0, 0);
    put(P2P__FRAME_MAX_STREAM_DATA, 2, 1, (uint64_t)turn << 16, 0);
    put_range(0, bob_session()->next_number - 1);
    packet_end();
}
TEST(optimistic_ack) {
    static const attack a = {
        acks_ahead, 500, 0, 0, WRITES_MUCH, P2P__CODE_PROTOCOL, P2P_METRIC_ack_of_unsent};
    run(&a);
}

static void acks_33_ranges(uint32_t turn) {
    (void)turn;
    hit_hex("0241000020000000000000000000000000000000000000000000000000000000000000000000000000"
            "00000000000000000000000000000000000000000000000000");
}
TEST(thirty_three_ranges) {
    static const attack a = {acks_33_ranges,       1, 0, 0, 0, P2P__CODE_FRAME_ENCODING,
                             P2P_METRIC_frames_bad};
    run(&a);
}

/* Packets full of ACKs, of every second packet that came. */
static void floods_acks(uint32_t turn) {
    for (int i = 0; i < 10 && bob_session(); i++) {
        packet_begin();
        put(P2P__FRAME_MAX_DATA, 1, (uint64_t)turn << 14, 0, 0);
        put(P2P__FRAME_MAX_STREAM_DATA, 2, 1, (uint64_t)turn << 14, 0);
        while (packet_left() > 120) {
            p2p__range r[P2P__ACK_RANGES];
            uint32_t n = 0;
            for (uint32_t at = mallory.heard_count; at > 1 && n < P2P__ACK_RANGES; at -= 2)
                if (n == 0 || mallory.heard[at - 1] + 2 <= r[n - 1].first) {
                    r[n].first = r[n].last = mallory.heard[at - 1];
                    n++;
                }
            if (n == 0)
                break;
            p2p__put_ack(&mallory.w, r, n, 0);
        }
        packet_end();
    }
}
TEST(ack_flood) {
    static const attack a = {floods_acks, 200, 0, 0, WRITES_MUCH, 0, 0};
    run(&a);
}

/* Heard, so that idleness does not end it, and never acknowledged. */
static void pings(uint32_t turn) {
    (void)turn;
    hit(P2P__FRAME_PING, 0, 0, 0, 0);
}
TEST(a_peer_that_never_acknowledges) {
    static const attack a = {pings, 400, 100 * MS, 0, WRITES_MUCH, 0, P2P_METRIC_pto_fired};
    run(&a);
}

/* Half of what Bob sends is lost for ever, whatever he repeats. */
static void acks_the_odd(uint32_t turn) {
    uint32_t n = 0;
    packet_begin();
    put(P2P__FRAME_MAX_DATA, 1, (uint64_t)turn << 16, 0, 0);
    put(P2P__FRAME_MAX_STREAM_DATA, 2, 1, (uint64_t)turn << 16, 0);
    for (uint32_t i = 0; i < mallory.heard_count; i++)
        if (mallory.heard[i] & 1)
            mallory.heard[n++] = mallory.heard[i];
    if (n > 40) { /* none that the 32 ranges do not hold */
        memmove(mallory.heard, mallory.heard + n - 40, 40 * sizeof mallory.heard[0]);
        n = 40;
    }
    mallory.heard_count = n;
    put_ack(0);
    packet_end();
}
TEST(only_odd_packets_are_acknowledged) {
    static const attack a = {acks_the_odd,           2000, 5 * MS, 0, WRITES_MUCH, 0,
                             P2P_METRIC_packets_lost};
    run(&a);
}

static void floods_pings(uint32_t turn) {
    (void)turn;
    for (int i = 0; i < 20; i++) {
        packet_begin();
        while (packet_left())
            p2p__put_u8(&mallory.w, P2P__FRAME_PING);
        packet_end();
    }
}
TEST(ping_flood) {
    static const attack a = {floods_pings, 200, 0, 0, 0, 0, 0};
    run(&a);
}

/* Every packet number but a few is left out, so that windows and ranges are as bad as can be. */
static void leaps(uint32_t turn) {
    for (int i = 0; i < 20; i++) {
        hit(P2P__FRAME_PING, 0, 0, 0, 0);
        mallory.number += turn & 1 ? 1 : 1022;
    }
}
TEST(packet_numbers_that_leap) {
    static const attack a = {leaps, 300, 0, 0, 0, 0, 0};
    run(&a);
}

static void repeats(uint32_t turn) {
    (void)turn;
    for (int i = 0; i < 20; i++) {
        hit(P2P__FRAME_PING, 0, 0, 0, 0);
        mallory.number--;
    }
}
TEST(one_number_for_ever) {
    static const attack a = {repeats, 300, 0, 0, 0, 0, P2P_METRIC_packets_duplicate};
    run(&a);
}

/* ---- limits ---- */

static void over_the_stream(uint32_t turn) {
    (void)turn;
    packet_begin();
    put_stream(her_stream(P2P__KIND_BIDI, 0), hosts[BOB].desc.bytes.peer_recv - 1, filler, 2,
               false);
    packet_end();
}
TEST(a_byte_over_the_streams_limit) {
    static const attack a = {over_the_stream,           1, 0, 0, 0, P2P__CODE_FLOW_CONTROL,
                             P2P_METRIC_flow_violations};
    run(&a);
}

/* The connection's window is all its streams' together, so it is made smaller here. */
static void over_the_connection(uint32_t turn) {
    p2p__conn *c = bob_conn();
    if (turn == 0) {
        c->recv_limit = c->recv_total + 1000;
        c->recv_window = 0; /* and it does not grow again */
    }
    packet_begin();
    put_stream(her_stream(turn ? P2P__KIND_MESSAGES : P2P__KIND_BIDI, 0), 0, filler,
               turn ? 501 : 500, false);
    packet_end();
    if (turn == 0)
        CHECK(bob_conn());
}
TEST(a_byte_over_the_connections_limit) {
    static const attack a = {
        over_the_connection,       2, 0, READS_NOTHING, 0, P2P__CODE_FLOW_CONTROL,
        P2P_METRIC_flow_violations};
    run(&a);
}

static void over_the_numbers(uint32_t turn) {
    (void)turn;
    packet_begin();
    put_stream(her_stream(P2P__KIND_UNI, bob_conn()->taken_limit[P2P__KIND_UNI]), 0, filler, 1,
               false);
    packet_end();
}
TEST(a_stream_number_over_the_limit) {
    static const attack a = {over_the_numbers,          1, 0, 0, 0, P2P__CODE_STREAM_LIMIT,
                             P2P_METRIC_flow_violations};
    run(&a);
}

static const char *frames_now;
static void says(uint32_t turn) {
    (void)turn;
    hit_hex(frames_now);
}

/* Each of these closes with this code. */
static void run_each(const char *const *frames, size_t count, int code, uint32_t metric) {
    for (size_t i = 0; i < count; i++) {
        attack a = {says, 1, 0, 0, 0, 0, 0};
        a.code = code;
        a.counter = metric;
        frames_now = frames[i];
        run(&a);
        if (test_state.failed)
            printf("    with %s\n", frames_now);
        CHECK_SO_FAR();
    }
}

TEST(a_final_size_that_changes) {
    static const char *const frames[] = {
        "0b0001610f00010161",   /* FIN behind 1 byte, then behind 2 */
        "0b0001610e00010161",   /* a byte behind the end */
        "0e000501610b000161",   /* FIN before what was sent */
        "0b000161040000024000", /* RESET_STREAM with another size: the first of them */
        "0400000504000006",     /* two RESET_STREAMs that differ */
    };
    run_each(frames, sizeof frames / sizeof *frames - 2, P2P__CODE_FLOW_CONTROL,
             P2P_METRIC_flow_violations);
    run_each(frames + 4, 1, P2P__CODE_FLOW_CONTROL, P2P_METRIC_flow_violations);
}

static void goes_down(uint32_t turn) {
    for (int i = 0; i < 10; i++) {
        packet_begin();
        for (uint64_t n = 0; packet_left() > 12; n++) {
            put(P2P__FRAME_MAX_DATA, 1, 63 - n % 64, 0, 0);
            put(P2P__FRAME_MAX_STREAM_DATA, 2, 1, 63 - n % 64, 0);
            put(P2P__FRAME_MAX_STREAMS, 2, 0, 1, 0);
        }
        if (turn % 50 == 0 && i == 0)
            put_ack(0);
        packet_end();
    }
}
TEST(max_data_going_down) {
    static const attack a = {goes_down, 100, 0, 0, WRITES_MANY, 0, 0};
    run(&a);
}

/* A stream and a byte more with each frame, while hundreds of streams wait for them. */
static void creeps(uint32_t turn) {
    static uint64_t step;
    step = turn ? step : 100;
    packet_begin();
    while (packet_left() > 20) {
        put(P2P__FRAME_MAX_DATA, 1, step, 0, 0);
        put(P2P__FRAME_MAX_STREAMS, 2, 0, step++, 0);
    }
    packet_end();
    hit_ack();
}
TEST(limits_that_creep) {
    static const attack a = {creeps, 100, 0, 0, WRITES_MANY, 0, 0};
    run(&a);
}

/* ---- streams ---- */

/* Every second byte, upwards, and downwards beyond. */
static void leaves_gaps(uint32_t turn) {
    uint64_t window = hosts[BOB].desc.bytes.peer_recv;
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t n = 0;
        packet_begin();
        for (; packet_left() > 12; n += 2) {
            uint64_t at = (turn * 20u + i) * 256 % (window - 1024) + n;
            put_stream(her_stream(i & 1 ? P2P__KIND_REQUEST : P2P__KIND_BIDI, 0),
                       2 + (i & 1 ? window - 100 - at : at), "x", 1, false);
        }
        packet_end();
    }
}
TEST(one_byte_gaps) {
    static const attack a = {leaves_gaps, 200, 0, READS_NOTHING, 0, 0, P2P_METRIC_holes_full};
    run(&a);
}

/* What the application looks at does not change under its eyes. */
static void overlaps(uint32_t turn) {
    static p2p_stream s;
    p2p__stream *stream = p2p__stream_find(
        hosts[BOB].node, p2p__conn_index(hosts[BOB].node, bob_conn()), P2P__KIND_BIDI, false, 0);
    p2p_span seen;
    if (turn == 0) {
        packet_begin();
        put_stream(her_stream(P2P__KIND_BIDI, 0), 0, "aaaaaaaaaa", 10, false);
        packet_end();
        return;
    }
    CHECK(stream);
    s = p2p__stream_handle(hosts[BOB].node, stream);
    packet_begin();
    put_stream(her_stream(P2P__KIND_BIDI, 0), 0, "bbbbbbbbbbbb", 12, false);
    put_stream(her_stream(P2P__KIND_BIDI, 0), 5, "cccccccccc", 10, false);
    packet_end();
    CHECK(p2p_stream_peek(hosts[BOB].node, s, &seen) == 15);
    CHECK_BYTES(seen.data, "aaaaaaaaaabbccc", 15);
}
TEST(overlapping_fragments_that_differ) {
    static const attack a = {overlaps, 3, 0, READS_NOTHING, 0, 0, 0};
    run(&a);
}

static uint64_t next_stream;

/* Opened and abandoned in one packet, as fast as the limit allows. */
static void resets_rapidly(uint32_t turn) {
    next_stream = turn ? next_stream : 0;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        put_ack(0);
        while (packet_left() > 24 && next_stream < bob_conn()->taken_limit[P2P__KIND_BIDI]) {
            put_stream(her_stream(P2P__KIND_BIDI, next_stream), 0, "x", 1, false);
            put(P2P__FRAME_RESET_STREAM, 3, her_stream(P2P__KIND_BIDI, next_stream++), 7, 1);
        }
        packet_end();
    }
}
TEST(rapid_reset) {
    static const attack a = {resets_rapidly, 500, 0, 0, 0, 0, P2P_METRIC_streams_reset_received};
    run(&a);
    CHECK(next_stream > 2000); /* it went on */
}

/* Bytes on every stream that may be, read at once, so that a new limit is due on every stream again
 * and again; and none of these is acknowledged. */
static void widens(uint32_t turn) {
    uint64_t limit = bob_conn()->taken_limit[P2P__KIND_BIDI];
    for (uint64_t n = 0; n < limit; n++) {
        p2p__stream *s =
            p2p__stream_find(hosts[BOB].node, p2p__conn_index(hosts[BOB].node, bob_conn()),
                             P2P__KIND_BIDI, false, n);
        uint64_t at = s ? s->recv.high : 0;
        if (s && at + 1000 > s->recv.limit)
            continue;
        packet_begin();
        put_stream(her_stream(P2P__KIND_BIDI, n), at, filler, 1000, false);
        packet_end();
    }
    (void)turn;
}
TEST(limits_that_are_never_acknowledged) {
    static const attack a = {widens, 300, 10 * MS, READS_ALL, 0, 0, 0};
    run(&a);
}

static void storms(uint32_t turn) {
    (void)turn;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        while (packet_left() > 12) {
            put(P2P__FRAME_RESET_STREAM, 3, her_stream(P2P__KIND_BIDI, 0), 7, 0);
            put(P2P__FRAME_STOP_SENDING, 2, her_stream(P2P__KIND_REQUEST, 0), 7, 0);
        }
        packet_end();
    }
}
TEST(reset_storm) {
    static const attack a = {storms, 200, 0, 0, 0, 0, P2P_METRIC_streams_reset_received};
    run(&a);
}

/* All the streams that may be, and then frames without a byte on one after the other. */
static void says_nothing(uint32_t turn) {
    uint64_t limit = bob_conn()->taken_limit[P2P__KIND_BIDI], n = turn * 331u;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        while (packet_left() > 12)
            put_stream(her_stream(P2P__KIND_BIDI, n++ % limit), 0, "", 0, false);
        packet_end();
    }
}
TEST(empty_stream_frames) {
    static const attack a = {
        says_nothing, 200, 0, READS_NOTHING, 0, 0, P2P_METRIC_streams_accepted};
    run(&a);
}

static void is_blocked(uint32_t turn) {
    says_nothing(turn);
    for (int i = 0; i < 10; i++) {
        packet_begin();
        while (packet_left() > 24) {
            put(P2P__FRAME_STREAMS_BLOCKED, 2, 0, bob_conn()->taken_limit[P2P__KIND_BIDI], 0);
            put(P2P__FRAME_DATA_BLOCKED, 1, 5, 0, 0);
            put(P2P__FRAME_STREAM_DATA_BLOCKED, 2, 0, 5, 0);
        }
        packet_end();
    }
}
TEST(blocked_without_end) {
    static const attack a = {is_blocked, 100, 0, READS_NOTHING, 0, 0, 0};
    run(&a);
}

/* ---- messages, datagrams, requests ---- */

TEST(a_message_of_2_62_bytes) {
    static const char *const frames[] = {"0806ffffffffffffffff"};
    run_each(frames, 1, P2P__CODE_PROTOCOL, P2P_METRIC_message_too_large);
}

static void nothing(uint32_t turn) {
    if (turn % 10 == 0)
        hit_ack();
}
TEST(a_peer_that_never_reads) {
    static const attack a = {nothing, 1000, 10 * MS, 0, WRITES_MUCH, 0, 0};
    run(&a);
}

static void reads_a_byte(uint32_t turn) {
    if (turn % 100 == 0) {
        packet_begin();
        put(P2P__FRAME_MAX_DATA, 1, 200000 + turn / 100, 0, 0);
        put(P2P__FRAME_MAX_STREAM_DATA, 2, 1, 4096 + turn / 100, 0);
        put(P2P__FRAME_MAX_STREAM_DATA, 2, 7, 65536 + turn / 100, 0);
        packet_end();
    }
    if (mallory.heard_count)
        hit_ack();
    mallory.heard_count = 0;
}
TEST(a_peer_that_reads_a_byte_a_second) {
    static const attack a = {reads_a_byte, 2000, 10 * MS, 0, WRITES_MUCH, 0, 0};
    run(&a);
    CHECK(mallory.out < 1000);
}

static void sends_a_large_datagram(uint32_t turn) {
    (void)turn;
    hosts[BOB].node->desc.bytes.datagram_max = 100;
    packet_begin();
    p2p__put_datagram_head(&mallory.w, 101);
    p2p__put_bytes(&mallory.w, filler, 101);
    packet_end();
}
TEST(a_datagram_over_the_limit) {
    static const attack a = {sends_a_large_datagram, 1, 0, 0, 0, P2P__CODE_PROTOCOL,
                             P2P_METRIC_frames_bad};
    run(&a);
}

static void floods_datagrams(uint32_t turn) {
    (void)turn;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        while (packet_left() > 2)
            p2p__put_datagram_head(&mallory.w, 0);
        packet_end();
    }
}
TEST(datagrams_that_nobody_takes) {
    static const attack a = {
        floods_datagrams, 100, 0, READS_NOTHING, 0, 0, P2P_METRIC_app_datagrams_dropped_in};
    run(&a);
}

/* A byte of a request's head on every stream that may be, and no more. */
static void begins_requests(uint32_t turn) {
    next_stream = turn ? next_stream : 0;
    packet_begin();
    put_ack(0);
    while (packet_left() > 12 && next_stream < bob_conn()->taken_limit[P2P__KIND_REQUEST])
        put_stream(her_stream(P2P__KIND_REQUEST, next_stream++), 0, "\x20", 1, false);
    packet_end();
}
TEST(requests_never_finished) {
    static const attack a = {begins_requests, 4000, 10 * MS, 0, 0, 0, P2P_METRIC_requests_timeout};
    run(&a);
}

/* ---- paths ---- */

static void challenges(uint32_t turn) {
    for (uint64_t i = 0; i < 4; i++) {
        packet_begin();
        p2p__put_u8(&mallory.w, P2P__FRAME_PATH_CHALLENGE);
        p2p__put_uint(&mallory.w, turn * 4u + i, 8);
        packet_end();
    }
}
TEST(four_thousand_challenges) {
    static const attack a = {challenges, 1000, 0, 0, 0, 0, P2P_METRIC_challenges_answered};
    run(&a);
}

/* Under Alice's address, with all sizes: Alice is sent no byte more than was. */
static void challenges_elsewhere(uint32_t turn) {
    mallory.from = hosts[ALICE].addr;
    for (uint64_t i = 0; i < 20; i++) {
        packet_begin();
        for (int n = 0; n < 3; n++) {
            p2p__put_u8(&mallory.w, P2P__FRAME_PATH_CHALLENGE);
            p2p__put_uint(&mallory.w, turn * 4u + i, 8);
        }
        for (uint32_t n = 0; n < (turn * 20 + i) % 200; n++)
            p2p__put_u8(&mallory.w, 0);
        packet_end();
    }
    mallory.from = hosts[MALLORY].addr;
}
TEST(challenges_from_an_address_made_up) {
    static const attack a = {challenges_elsewhere, 300, 0, 0, 0, 0, P2P_METRIC_challenges_dropped};
    run(&a);
}

/* ---- encodings and states ---- */

TEST(varints_that_are_too_long) {
    static const char *const frames[] = {"4001", "084000", "10800000ff", "0240000000",
                                         "124000c000000000000001"};
    run_each(frames, 5, P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad);
}

TEST(types_that_are_unknown) {
    static const char *const frames[] = {"17", "06", "1f", "3f", "8000080000", "4080"};
    run_each(frames, 6, P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad);
}

/* Extensions are skipped: their packets are acknowledged for nothing. */
static void extends(uint32_t turn) {
    (void)turn;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        while (packet_left() > 6)
            put_hex("404003010203");
        packet_end();
    }
}
TEST(extensions_without_end) {
    static const attack a = {extends, 100, 0, 0, 0, 0, 0};
    run(&a);
}

TEST(frames_in_a_wrong_state) {
    static const char *const frames[] = {"22", "200501010161000022"};
    run_each(frames, 2, P2P__CODE_PROTOCOL, P2P_METRIC_frames_bad);
}

/* What may not come before the proof is dropped, and not acknowledged; then time is up. */
static void is_early(uint32_t turn) {
    static const char *const frames[] = {
        "080061", "1000", "12003f", "16003f", "31017a", "1a0000000000000001", "04000000", "050000"};
    hit_hex(frames[turn % 8]);
}
TEST(frames_before_the_proof) {
    static const attack a = {
        is_early, 1000, 10 * MS, 0, 0, P2P__CODE_BAD_PROOF, P2P_METRIC_packets_before_proof};
    early = 1;
    run(&a);
    early = 0;
}

static void proves_again(uint32_t turn) {
    uint8_t body[P2P__HELLO_BYTES];
    size_t size = p2p__hello_body(mallory.node, mallory.session, body, sizeof body);
    (void)turn;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        p2p__put_varint(&mallory.w, P2P__FRAME_HELLO);
        p2p__put_varint(&mallory.w, size);
        p2p__put_bytes(&mallory.w, body, size);
        while (packet_left() > 97) {
            p2p__put_u8(&mallory.w, P2P__FRAME_AUTH);
            p2p__put_bytes(&mallory.w, hosts[MALLORY].id.bytes, 32);
            p2p__put_bytes(&mallory.w, mallory.session->signature, 64);
        }
        packet_end();
    }
}
TEST(proofs_without_end) {
    static const attack a = {proves_again, 100, 0, 0, 0, 0, 0};
    run(&a);
}

static void closes(uint32_t turn) {
    (void)turn;
    for (int i = 0; i < 10; i++) {
        packet_begin();
        p2p__put_close(&mallory.w, 1, 7, p2p_str_of("again"));
        packet_end();
    }
}
TEST(close_repeated) {
    static const attack a = {closes, 100, 0, 0, 0, SHE_CLOSES, 0};
    run(&a);
}

/* Bob's CLOSE is repeated for late packets, and ever more rarely. */
static void goes_on(uint32_t turn) {
    if (turn == 0)
        hit_hex("17");
    for (int i = 0; i < 40; i++)
        hit(P2P__FRAME_PING, 0, 0, 0, 0);
}
TEST(packets_after_the_end) {
    static const attack a = {
        goes_on, 100, 0, 0, 0, P2P__CODE_FRAME_ENCODING, P2P_METRIC_frames_bad};
    run(&a);
}

TEST_MAIN(P2P_TEST_ENTRY(work_is_counted), P2P_TEST_ENTRY(ack_of_a_packet_never_sent),
          P2P_TEST_ENTRY(ack_of_a_number_left_out), P2P_TEST_ENTRY(optimistic_ack),
          P2P_TEST_ENTRY(thirty_three_ranges), P2P_TEST_ENTRY(ack_flood),
          P2P_TEST_ENTRY(a_peer_that_never_acknowledges),
          P2P_TEST_ENTRY(only_odd_packets_are_acknowledged), P2P_TEST_ENTRY(ping_flood),
          P2P_TEST_ENTRY(packet_numbers_that_leap), P2P_TEST_ENTRY(one_number_for_ever),
          P2P_TEST_ENTRY(a_byte_over_the_streams_limit),
          P2P_TEST_ENTRY(a_byte_over_the_connections_limit),
          P2P_TEST_ENTRY(a_stream_number_over_the_limit), P2P_TEST_ENTRY(a_final_size_that_changes),
          P2P_TEST_ENTRY(max_data_going_down), P2P_TEST_ENTRY(limits_that_creep),
          P2P_TEST_ENTRY(one_byte_gaps), P2P_TEST_ENTRY(overlapping_fragments_that_differ),
          P2P_TEST_ENTRY(rapid_reset), P2P_TEST_ENTRY(limits_that_are_never_acknowledged),
          P2P_TEST_ENTRY(reset_storm), P2P_TEST_ENTRY(empty_stream_frames),
          P2P_TEST_ENTRY(blocked_without_end), P2P_TEST_ENTRY(a_message_of_2_62_bytes),
          P2P_TEST_ENTRY(a_peer_that_never_reads),
          P2P_TEST_ENTRY(a_peer_that_reads_a_byte_a_second),
          P2P_TEST_ENTRY(a_datagram_over_the_limit), P2P_TEST_ENTRY(datagrams_that_nobody_takes),
          P2P_TEST_ENTRY(requests_never_finished), P2P_TEST_ENTRY(four_thousand_challenges),
          P2P_TEST_ENTRY(challenges_from_an_address_made_up),
          P2P_TEST_ENTRY(varints_that_are_too_long), P2P_TEST_ENTRY(types_that_are_unknown),
          P2P_TEST_ENTRY(extensions_without_end), P2P_TEST_ENTRY(frames_in_a_wrong_state),
          P2P_TEST_ENTRY(frames_before_the_proof), P2P_TEST_ENTRY(proofs_without_end),
          P2P_TEST_ENTRY(close_repeated), P2P_TEST_ENTRY(packets_after_the_end))
