/* Scenario files: what each statement becomes, and what is said of every mistake. */
#include "../../tools/p2p_scene.c"
#include "p2p_test.h"

static scene s;

static int parsed(const char *text) {
    scene_free(&s);
    return scene_parse(&s, text, strlen(text));
}
/* The first error, as "line:column: text"; "" when there is none. */
static const char *said(const char *text) {
    static char out[300];
    out[0] = 0;
    if (parsed(text) != 0)
        snprintf(out, sizeof out, "%u:%u: %s", s.errors[0].line, s.errors[0].column,
                 s.errors[0].text);
    return out;
}

TEST(an_empty_file_says_nothing) {
    CHECK_INT(parsed(""), 0);
    CHECK_INT(s.statement_count, 0);
    CHECK_INT(parsed("\n  # only words\n\t\r\n"), 0);
    CHECK_INT(s.statement_count, 0);
}

TEST(a_statement_has_its_fields) {
    const scene_statement *t;
    CHECK_STR(said("seed 7 # comment\nnode alice\nrouter r1\n\n"
                   "at 1.5s link alice -> r1 latency=20ms loss=0.5% rate=10mbit queue=25kB "
                   "state=down for 2min"),
              "");
    CHECK_INT(s.statement_count, 4);
    CHECK_INT(s.statements[0].verb, SCENE_seed);
    CHECK_INT(s.statements[0].value[SCENE_seed_number], 7);
    t = &s.statements[3];
    CHECK_INT(t->line, 5);
    CHECK_INT(t->column, 9);
    CHECK_INT(t->verb, SCENE_link);
    CHECK_INT(t->at_us, 1500000);
    CHECK_INT(t->for_us, 120000000);
    CHECK(scene_given(t, SCENE_link_arrow));
    CHECK_INT(t->value[SCENE_link_latency], 20000);
    CHECK_INT(t->value[SCENE_link_loss], 5000);
    CHECK_INT(t->value[SCENE_link_rate], 10000000);
    CHECK_INT(t->value[SCENE_link_queue], 25000);
    CHECK_INT(t->value[SCENE_link_state], 1);
    CHECK(!scene_given(t, SCENE_link_jitter));
}

TEST(a_statement_keeps_its_words) {
    const char *text = "node a b=1\n";
    CHECK(parsed(text) == 1);
    text = "node {a b} \n  dial a b reconnect  # why\n";
    CHECK_INT(parsed(text), 0);
    CHECK_INT(s.statements[1].size, strlen("dial a b reconnect"));
    CHECK_BYTES(text + s.statements[1].first, "dial a b reconnect", s.statements[1].size);
}

TEST(groups_and_ranges) {
    scene_group g;
    CHECK_STR(said("node {a n0..11 b}\nrouter r\nmesh {b n10..11 r}\nlink a {b r}"), "");
    CHECK_INT(s.vertex_count, 15);
    CHECK_STR(s.vertices[11].name, "n10");
    CHECK(s.vertices[14].made == SCENE_router && s.vertices[13].made == SCENE_node);
    g = scene_group_of(&s.statements[2], SCENE_mesh_a);
    CHECK_INT(g.count, 4);
    CHECK_INT(s.members[g.first], 13);
    CHECK_INT(s.members[g.first + 1], 11);
    CHECK_INT(s.members[g.first + 3], 14);
    g = scene_group_of(&s.statements[3], SCENE_link_b);
    CHECK_INT(g.count, 2);
    CHECK_STR(said("node n0..9\nnode n20\nlink n0 n9"), "");
    CHECK_STR(said("node n5..2"), "1:6: 'n5..2' is no range: write it as in n0..9");
    CHECK_STR(said("node n0..100000"),
              "1:6: 'n0..100000' is too many: at most 100000 nodes and routers");
    CHECK_STR(said("node n00..9"), "1:6: 'n00..9': numbers of a range have no zeros before them");
    CHECK_STR(said("node {a b"), "1:6: this { lacks its }");
    CHECK_STR(said("node {}"), "1:6: a group of nobody");
    CHECK_STR(said("node {a b}\ndial {a a} b"), "2:9: a is named twice");
    CHECK_STR(said("node 9a"), "1:6: '9a' is no name: a letter, then letters, digits, '_' and '-', "
                               "as alice or n7");
}

TEST(units) {
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"1us", 1},          {"1.5ms", 1500}, {"0.25s", 250000}, {"2min", 120000000},
                {"1h", 3600000000u}, {"0", 0},        {"0s", 0},         {"1.000s", 1000000}};
    char line[100];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(line, sizeof line, "network ttl=%s", good[i].text);
        CHECK_STR(said(line), "");
        CHECK(s.statements[0].value[SCENE_network_ttl] == good[i].value);
    }
    CHECK_STR(said("network ttl=20"),
              "1:13: ttl: '20' lacks its unit: write it as in 20ms, 1.5s, 2min");
    CHECK_STR(said("network ttl=20mz"),
              "1:13: ttl: '20mz' is not a time with its unit, such as 20ms, 1.5s, 2min");
    CHECK_STR(said("network ttl=0.5us"),
              "1:13: ttl: '0.5us' is too large, or finer than the smallest unit, us");
    CHECK_STR(said("network ttl=99999999999999999999s"),
              "1:13: ttl: '99999999999999999999s' has too many digits");
    CHECK_STR(said("network failure=101%"), "1:17: failure: '101%' is too much: at most 100%");
    CHECK_STR(said("network failure=-1%"),
              "1:17: failure: '-1%' is not a chance with its unit, such as 1%, 0.5%, 100ppm");
    CHECK_STR(said("network packets=0"), "1:17: packets: at least 1, not 0");
    CHECK_STR(said("network message=1MiB"), "");
    CHECK_INT(s.statements[0].value[SCENE_network_message], 1048576);
}

TEST(times) {
    const scene_statement *t;
    CHECK_STR(said("node {a b}\nat 2s every 20ms until 3s message a b 1kB count=3"), "");
    t = &s.statements[1];
    CHECK_INT(t->at_us, 2000000);
    CHECK_INT(t->every_us, 20000);
    CHECK_INT(t->until_us, 3000000);
    CHECK_INT(t->value[SCENE_message_count], 3);
    CHECK_STR(said("at"), "1:3: at: a time is missing, such as 20ms, 1.5s, 2min");
    CHECK_STR(said("at 2s"), "1:6: a time, and nothing that happens then");
    CHECK_STR(said("at 2s seed 3"), "1:7: seed has no time: it says what there is from the start");
    CHECK_STR(said("node a\nat 2s every 1s crash a"),
              "2:16: every: 'until' and a time must follow");
    CHECK_STR(said("node a\nat 2s every 1s until 1s crash a"),
              "2:7: until is before at: it would never happen");
    CHECK_STR(said("node a\nat 0s every 1us until 1h crash a"),
              "2:7: every: more than 1000000 times");
    CHECK_STR(said("node a\nat 2s restart a for 1s"),
              "2:17: restart takes no 'for': it does not end by itself");
    CHECK_STR(said("node a\nat 2s crash a for 0s"), "2:15: for: at least 1us");
    CHECK_STR(said("node a\nat 2s crash a for 1s now"), "2:22: 'now' is one word too many");
}

/* What no file may ask for, since it would run for hours: told at the line that is too much. */
TEST(what_a_file_may_ask_for) {
    static const char net[] = "node {a b} idle=10s\nlink a b\n"; /* two lines */
    char text[400];
#define ASKED(lines) (snprintf(text, sizeof text, "%s%s", net, lines), said(text))
    CHECK_STR(ASKED("at 1s every 1ms until 1000s message a b 1kB count=10"), "");
    CHECK_STR(ASKED("at 1s every 1ms until 1000s message a b 1kB count=5\n"
                    "at 1s every 1ms until 1000s datagram {a b} {b a} 1B count=2"),
              "4:29: datagram: with this the file does more than 10000000 things: repetitions x "
              "pairs x count");
    CHECK_STR(said("node n0..99999\nat 1s every 1s until 100s link n0 n1 loss=1%"),
              "2:27: link: with this the file does more than 10000000 things: repetitions x pairs "
              "x count");
    CHECK_STR(said("node n0..999\nmesh n0..999\nat 1s every 1s until 10s links loss=1%"),
              "3:26: links: with this the file does more than 10000000 things: repetitions x "
              "pairs x count");
    CHECK_STR(ASKED("stream a b 60GB\nstream b a 40GB"), "");
    CHECK_STR(ASKED("stream a b 60GB\nstream b a 40GB\ndatagram a b 1B"),
              "5:1: datagram: with this the file sends more than 100000000000 bytes");
    CHECK_STR(ASKED("request a b GET /x count=101\nroute b GET /x 1GB"),
              "3:1: request: with this the file sends more than 100000000000 bytes");
    CHECK_STR(ASKED("dial a b\nend 10000h"), "");
    CHECK_STR(ASKED("dial a b\nend 10001h"), "4:5: time: '10001h' is too much: at most 10000h");
    CHECK_STR(said("node {a b} keepalive=1ms\ndial a b\nend 20h"),
              "3:1: end: with this the file sends more than 100000000 keepalives");
    CHECK_STR(said("node {a b} idle=1ms\ndial a b\nexpect a connected by 20h"),
              "3:1: expect: with this the file sends more than 100000000 keepalives");
    CHECK_STR(ASKED("network step=1us\nat 1s crash a for 99s"), "");
    CHECK_STR(ASKED("network step=1us\nat 1s crash a for 100s"),
              "4:7: crash: with this the file takes more than 100000000 steps of time");
#undef ASKED
}

TEST(expectations) {
    const scene_statement *t;
    CHECK_STR(said("node {a b}\nexpect b received >= 1MB from a by 10s\n"
                   "at 3s expect a connected to b\nexpect network lost <= 3\n"
                   "expect network digest 0x00ff"),
              "");
    t = &s.statements[1];
    CHECK_INT(t->value[SCENE_expect_measure], SCENE_IS_received);
    CHECK_INT(t->value[SCENE_expect_order], 1);
    CHECK_INT(t->value[SCENE_expect_value], 1000000);
    CHECK_INT(t->value[SCENE_expect_by], 10000000);
    CHECK(scene_given(t, SCENE_expect_a) && scene_given(t, SCENE_expect_b));
    CHECK_INT(s.statements[2].at_us, 3000000);
    CHECK(!scene_given(&s.statements[3], SCENE_expect_a));
    CHECK_INT(s.statements[3].value[SCENE_expect_order], 2);
    CHECK_INT(s.statements[4].value[SCENE_expect_value], 255);
    CHECK_STR(said("node a\nexpect a recieved 1MB"),
              "2:10: expect: 'recieved' is nothing that a node has: did you mean 'received'?");
    CHECK_STR(said("expect network rtt 3"),
              "1:16: expect: 'rtt' is nothing that the network has: did you mean 'mtu'?");
    CHECK_STR(said("node a\nexpect a received"),
              "2:18: expect: a size with its unit is missing, such as 200B, 25kB, 1MB");
    CHECK_STR(said("node {a b}\nexpect a received 1B to b"),
              "2:22: expect: 'to' does not belong here, behind it comes 'by' and a time, or from "
              "and a name");
    CHECK_STR(said("node a\nat 1s expect a received 1B by 2s"),
              "2:28: expect: either 'at' or 'by', not both");
    CHECK_STR(said("expect"), "1:7: expect: a node is missing, or the word network");
}

TEST(mistakes_are_named_with_their_place) {
    CHECK_STR(said("noed a"), "1:1: there is no statement 'noed': did you mean 'node'?");
    CHECK_STR(said("xyzzy a"), "1:1: there is no statement 'xyzzy'");
    CHECK_STR(said("node alice\nnode bob\ndial alice bobb"),
              "3:12: no node or router above is called 'bobb': did you mean 'bob'?");
    CHECK_STR(said("node {a b}\nlink a b los=1%"), "2:10: link has no 'los': did you mean 'loss'?");
    CHECK_STR(said("node {a b}\nlink a b loss=1% loss=2%"), "2:18: loss is given twice");
    CHECK_STR(said("node {a b}\nlink a b loss="), "2:10: loss lacks its value: write loss=...");
    CHECK_STR(said("node {a b}\nlink a b loss"), "2:10: loss lacks its value: write loss=...");
    CHECK_STR(said("node {a b}\ndial a b share=1"), "2:10: share stands alone, without =");
    CHECK_STR(said("node a\nnat a prt"), "2:7: kind: 'prt' is none of: none full addr port sym "
                                         "blocked firewall: did you mean 'port'?");
    CHECK_STR(said("node a\nnode a"), "2:6: a is there already, from line 1");
    CHECK_STR(said("seed 1\nseed 2"), "2:1: seed is there already, in line 1");
    CHECK_STR(said("node a\nlink a"), "2:7: link: a name is missing, such as alice, {a b}, n0..9");
    CHECK_STR(said("node a\nheal a"), "2:1: heal: two groups, or none for all");
    CHECK_STR(said("node n0..1999\nmesh n0..1999"), "2:1: mesh: more than 1000000 pairs");
    CHECK_STR(said("node n0..1999\ndial n0..999 n1000..1999"), "");
    CHECK_STR(said("node n0..1999\nat 1s dial n0..1999 n0..1999"),
              "2:7: dial: more than 1000000 pairs");
    CHECK_STR(said("node n0..1999\nstream n0..999 n1000..1999 1B count=11"),
              "2:1: stream: more than 10000000 of them");
    CHECK_STR(said("node n0..1999\npartition n0..1999 n0..1999"), "");
    CHECK_STR(said("links"), "1:1: links says nothing: give it an option");
    CHECK_STR(said("node a\nroute a GET tracks 1kB"),
              "2:13: 'tracks' is no path: it begins with a /");
    CHECK_STR(said("node a\nnode b\x01"), "2:7: a control character, 0x01: is this a text?");
    CHECK_STR(
        said("node a\n# \xc3\xa4\xc3\xb6\nnode \xc3\xa4 b"),
        "3:6: '\xc3\xa4' is no name: a letter, then letters, digits, '_' and '-', as alice or "
        "n7");
}

TEST(all_mistakes_are_told_once) {
    CHECK_INT(parsed("node {a a b}\nlink a b lat=3ms\nnode c bogus\ndial a c\nstrem a b 1MB"), 4);
    CHECK_INT(s.errors[0].line, 1);
    CHECK_INT(s.errors[1].line, 2); /* b is known although its line has an error */
    CHECK_INT(s.errors[2].line, 3);
    CHECK_INT(s.errors[3].line, 5); /* and so is c */
    {
        char many[200 * 2];
        for (int i = 0; i < 200; i++)
            memcpy(many + 2 * i, "x\n", 2);
        scene_free(&s);
        CHECK_INT(scene_parse(&s, many, sizeof many), SCENE_ERRORS);
    }
}

TEST(names_of_a_kind_are_all_found) {
    static char text[400000];
    size_t n = 0;
    for (int i = 0; i < 20000; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "node v%d\n", i * 7);
    scene_free(&s);
    CHECK_INT(scene_parse(&s, text, n), 0);
    CHECK_INT(s.vertex_count, 20000);
    snprintf(text + n, sizeof text - n, "link v0 v%d\n", 19999 * 7);
    scene_free(&s);
    CHECK_INT(scene_parse(&s, text, strlen(text)), 0);
    CHECK_INT(s.members[scene_group_of(&s.statements[20000], SCENE_link_b).first], 19999);
    scene_free(&s);
}

TEST_MAIN(P2P_TEST_ENTRY(an_empty_file_says_nothing), P2P_TEST_ENTRY(a_statement_has_its_fields),
          P2P_TEST_ENTRY(a_statement_keeps_its_words), P2P_TEST_ENTRY(groups_and_ranges),
          P2P_TEST_ENTRY(units), P2P_TEST_ENTRY(times), P2P_TEST_ENTRY(what_a_file_may_ask_for),
          P2P_TEST_ENTRY(expectations), P2P_TEST_ENTRY(mistakes_are_named_with_their_place),
          P2P_TEST_ENTRY(all_mistakes_are_told_once), P2P_TEST_ENTRY(names_of_a_kind_are_all_found))
