#!/usr/bin/env python3
"""p2p sim: scenario files, their examples, what is said of mistakes, and that runs repeat."""
import glob
import os
import re

from tool import ROOT, expect, folder, main, p2p, read, write

PAIR = "seed 5\nnode {a b}\nlink a b latency=10ms rate=10mbit queue=30kB\ndial a b\n"


def run(text, *args):
    return p2p("sim", "-", *args, stdin=text.encode())


def summary(text, *args):
    return expect(run(text, "--json", *args), 0).json()


def between(found, a, b):
    return next(c for c in found["connections"] if (c["from"], c["to"]) == (a, b))


def test_examples_meet_what_they_expect():
    files = sorted(glob.glob(os.path.join(ROOT, "examples", "*.scn")))
    assert len(files) >= 4
    for path in files:
        first, again = (expect(p2p("sim", path, "--json"), 0).json() for _ in range(2))
        assert first["failed"] == 0 and first["met"] > 0, path
        assert first["digest"] == again["digest"], path
        assert p2p("sim", path, "--json", "--seed", "987").json()["digest"] != first["digest"], path


def test_the_page_describes_every_word():
    header = read(os.path.join(ROOT, "tools", "p2p_scene.h")).decode()
    header = re.sub(r"/\*.*?\*/", "", header[header.index("#define SCENE_FIELDS_seed"):], flags=re.S)
    header = header[:header.index("#define SCENE_VERB_ENUM")]
    page = read(os.path.join(ROOT, "docs", "SCENARIOS.md")).decode()
    words = re.findall(r"\b[VM]\((\w+), ", header) + re.findall(r"\bX\(\w+, (\w+), \w+, OPTION", header)
    assert len(words) > 70
    for word in set(words):
        assert re.search(rf"[`|\s({{\[]{word}\b", page), f"docs/SCENARIOS.md does not tell of {word!r}"


def test_example_of_the_page_runs():
    page = read(os.path.join(ROOT, "docs", "SCENARIOS.md")).decode()
    text = re.search(r"\n\n((?:    .*\n|\n)+?)\n    \$ ", page)[1]
    assert summary(text)["met"] == 1


def test_streams_messages_datagrams_and_requests_arrive():
    found = summary(PAIR + "route b GET /x/:id 70kB\nat 1s stream a b 200kB count=2\nat 1s message a b 5kB count=7\n"
                    "at 1s datagram b a 100B count=3\nat 1s request a b GET /x/1\nat 1s request a b POST /x/1 body=90kB\n"
                    "expect b streams 2 from a by 4s\nexpect a answers 1\nexpect a failures = 1 from b\n")
    assert found["met"] == 3
    b = between(found, "b", "a")
    # the refused body of the POST may or may not be read before the router refuses it
    assert b["streams_in"] == 2 and b["messages_in"] == 7 and b["bytes_in"] >= 435000, b
    assert between(found, "a", "b")["datagrams_in"] == 3
    assert between(found, "a", "b")["bytes_in"] >= 70300


def test_a_failed_expectation_says_line_value_and_time():
    bad = run(PAIR + "at 1s stream a b 1MB\nexpect b received 1MB from a by 1200ms\nexpect network lost = 1\nexpect a connected\n")
    expect(bad, 1, "-:6:1: not met: 'expect b received 1MB from a by 1200ms', seen: b: ", "kB (at 1.200000 s)",
           "-:7:1: not met: 'expect network lost = 1', seen: 0 (at 11.200000 s)")
    assert "-:8:" not in bad.err
    orders = run(PAIR + "at 1s stream a b 5kB\nexpect b streams <= 0\nexpect b streams >= 2\nexpect b streams <= 1\nexpect b streams >= 1\n")
    assert expect(orders, 1, "-:6:1:", "-:7:1:").err.count("not met") == 2, orders
    expect(run(PAIR + "at 5ms expect a connected to b\n"), 1, "-:5:8: not met", "0.005000 s")


def test_all_mistakes_of_a_file_are_told():
    bad = expect(run("node alice\nnoed bob\nlink alice bob\nlink alice alice los=3%\nat 3 dial alice alice\n"), 1,
                 "-:2:1: there is no statement 'noed': did you mean 'node'?", "-:3:12: no node or router above is called 'bob'",
                 "-:4:18: link has no 'los': did you mean 'loss'?", "-:5:4: at: '3' lacks its unit")
    assert len(bad.err.splitlines()) == 4 and not bad.text, bad


def test_a_file_that_would_run_for_hours_is_refused_at_once():
    flood = PAIR + "at 1s every 1ms until 1000s datagram a b 100B count=11\n"
    expect(run(flood), 1, "-:5:29: datagram: with this the file does more than 10000000 things: repetitions x pairs x count")
    expect(run(PAIR + "stream a b 101GB\n"), 1, "-:5:1: stream: with this the file sends more than 100000000000 bytes")
    expect(run(PAIR + "end 10001h\n"), 1, "-:5:5: time: '10001h' is too much: at most 10000h")
    expect(run(PAIR + "network step=1us\nend 101s\n"), 1, "-:6:1: end: with this the file takes more than 100000000 steps of time")


def test_mistakes_that_only_a_run_shows():
    expect(run(PAIR + "link a b loss=90% burst=1%\n"), 1, "-:5:1:", "burst_ppm")
    expect(run(PAIR + "at 1s restart a\n"), 1, "-:5:7:", "is running", "1.000000 s")
    expect(run(PAIR + "at 1s message b a 1kB\nat 2s crash a for 1s\nend 1500ms\n"), 1, "-:6:7:", "after the end of the run")
    expect(run("node {a b}\nlink a b\nmessage a b 1kB\n"), 1, "-:3:1:", "never had a connection")
    expect(run("router r\n# nobody\n"), 0)
    expect(run("seed 3\n"), 1, "there is no node")
    expect(run(PAIR + "at 1s every 1ms until 2s rebind a\n"), 1, "before a", "of this no more is said")


def test_links_are_what_they_were_before():
    text = PAIR + "at 1s link a b loss=100% for 1s\nat 1500ms datagram a b 100B\nat 2500ms datagram a b 100B\nend 3s\n"
    assert between(summary(text), "b", "a")["datagrams_in"] == 1
    # what is lost is acknowledged by nobody, and only that direction is changed
    text = PAIR + "at 1s link b -> a state=down for 1s\nat 1100ms datagram a b 100B\nend 3s\n"
    assert between(summary(text), "b", "a")["datagrams_in"] == 1


def test_faults_do_what_they_say():
    away = PAIR + "at 1s FAULT for 1s\nat 1500ms datagram a b 100B\nat 2500ms datagram a b 100B\nend 3s\n"
    for fault, came, fate in (("partition a b", 1, "route"), ("partition a -> b", 1, "route"),
                              ("partition b -> a", 2, None), ("pause b", 2, None)):
        found = summary(away.replace("FAULT", fault))
        assert between(found, "b", "a")["datagrams_in"] == came, (fault, found)
        assert fate is None or found["datagrams"][fate] > 0, (fault, found)
    found = summary(PAIR + "at 1s crash b for 500ms\nat 1200ms datagram a b 100B\nend 3s\n")
    assert found["datagrams"]["nobody"] > 0 and between(found, "b", "a")["state"] == "down"
    found = summary(PAIR + "at 1s drop a -> b first=2 count=3\nat 1100ms every 1ms until 1110ms datagram a b 900B\nend 3s\n")
    assert found["datagrams"]["lost"] == 3, found
    quiet, drifting = (summary(PAIR + f"{clock}end 100s\n") for clock in ("", "clock b drift=50%\n"))
    assert drifting["datagrams"]["sent"] > quiet["datagrams"]["sent"], "a fast clock sends more keepalives"


def test_a_run_ends_when_it_is_idle():
    found = summary(PAIR + "at 1s stream a b 100kB\nend idle 90s\nexpect b streams 1 from a\n")
    assert 1000000 < found["virtual_us"] < 11000000, found
    # a stream that waits for a heal keeps it going; one that never comes to rest is told of
    busy = PAIR + "at 1s every 1s until 40s datagram a b 10B\nend idle 41s\n"
    assert summary(busy)["virtual_us"] >= 40000000
    expect(run(PAIR + "at 1s partition a b\nat 2s stream a b 100kB\nend idle 4s\n"), 1, "-:7:1:")


def test_what_found_no_connection_is_counted():
    found = summary(PAIR + "at 1s close a b\nat 2s message a b 10B count=3\nat 2s stream a b 1kB\nend 3s\n")
    assert between(found, "a", "b")["not_taken"] == 4 and between(found, "a", "b")["state"] == "down"


def test_streams_go_by_priority():
    late, early = "at 1s stream a b 300kB priority={}\nat 1s stream a b 50kB priority={}\nat 1150ms expect b streams = {}\n", 1
    for first, second, whole in ((7, 0, early), (0, 7, 0)):
        assert summary(PAIR + late.format(first, second, whole))["met"] == 1, (first, second)


def test_names_and_boxes():
    text = ("node {a b c}\nmesh {a b c} latency=5ms\nname one b\nregister c two\nnat a port\n"
            "dial a @one\nat 200ms dial a @two\nat 400ms dial {b c} a\nend 40s\n"
            "expect a connected to {b c} by 1s\n")
    assert summary(text)["met"] == 1
    blocked = "node {a b}\nlink a b\nnat a blocked\ndial a b timeout=2s\nexpect a disconnected from b by 3s\nexpect network nat >= 1\n"
    assert summary(blocked)["met"] == 2


def test_hosts_and_shared_boxes():
    text = ("node {a b}\nhost {h1 h2} echo\nhost out\nrouter {lan wan}\nlink {a h1 h2} lan\nlink {lan b out} wan latency=5ms\n"
            "nat lan port\nbehind {a h1 h2} lan\nat 1s udp out h1 100B\nat 2s udp h2 out 50B count=3\nat 3s rebind lan how=address\n"
            "at 3s dial a b\nend 6s\nexpect out datagrams = 3 from h2\nexpect h1 datagrams = 0\nexpect network nat = 1\n"
            "expect a connected to b\n")
    assert summary(text)["met"] == 4
    answered = "host {x y}\nhost z echo\nmesh {x y z}\nudp x z 100B count=2\nend 1s\nexpect x datagrams 2 from z\nexpect y datagrams = 0\n"
    assert summary(answered)["met"] == 2
    for same, met in (("", 1), (" hairpin", 0)):
        text = f"host {{h i}}\nrouter lan\nlink {{h i}} lan\nnat lan full{same}\nbehind {{h i}} lan\n"
        text += "udp i h 10B\nudp h i 10B\nend 1s\nexpect i datagrams = 0\n"
        assert run(text, "--json").json()["met"] == met


def test_random_scenarios_repeat_from_their_file():
    digests = set()
    for seed in range(1, 13):
        drawn = expect(p2p("sim", "--random", "--seed", seed, "--json"), 0).json()
        text = expect(p2p("sim", "--random", "--seed", seed, "--print"), 0).text
        assert summary(text)["digest"] == drawn["digest"], seed
        digests.add(drawn["digest"])
    assert len(digests) == 12
    expect(p2p("sim", "--random"), 2, "--seed")
    expect(p2p("sim", "--print", "x.scn"), 2, "--random")


def test_who_looks_on_changes_nothing():
    with folder() as d:
        for secure in ("null", "dtls"):
            text = f"secure {secure}\n" + PAIR + "at 1s stream a b 100kB\nat 2s crash b for 1s\nend 5s\n"
            path = os.path.join(d, "run.pcapng")
            seen = summary(text, "--pcap", path)
            assert seen["digest"] == summary(text)["digest"], secure
            capture = read(path)
            assert capture[:4] == b"\x0a\x0d\x0d\x0a" and b"alice" not in capture and len(capture) > 100000
        expect(run(PAIR, "--pcap", os.path.join(d, "no", "file")), 1, "no/file")
        expect(run(PAIR, "--pcap", "/dev/full"), 1, "could not be written")


def test_dtls_is_another_run_with_the_same_outcome():
    text = PAIR + "at 1s stream a b 300kB\nexpect b received = 300kB by 3s\n"
    clear, secure = summary(text), summary("secure dtls\n" + text)
    assert (clear["channel"], secure["channel"]) == ("null", "dtls")
    assert clear["digest"] != secure["digest"]
    assert secure["digest"] == summary("secure dtls\n" + text)["digest"]


def test_a_thousand_nodes():
    found = summary("node hub buffer=4kB\nnode n0..999 buffer=4kB streams=2 datagrams=2 in_flight=64\nlinks latency=10ms\n"
                    "link hub n0..999\nat 10ms dial n0..99 hub\nat 5s message n0..99 hub 10B\nend 10s\n"
                    "expect hub messages = 100\n")
    assert found["met"] == 1


def test_files_that_cannot_be_read():
    with folder() as d:
        expect(p2p("sim", os.path.join(d, "none.scn")), 1, "none.scn")
        expect(p2p("sim", d), 1, "directory")
        expect(p2p("sim", write(os.path.join(d, "x.scn"), b"\x7fELF\0\0")), 1, "x.scn:1:1", "control character")
        expect(p2p("sim"), 2, "FILE")
        expect(p2p("sim", "a", "--random", "--seed", "1"), 2, "no file")
        expect(p2p("sim", "a", "--seed", "x"), 2, "'x'")


main(globals())
