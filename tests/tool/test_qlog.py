#!/usr/bin/env python3
"""qlog of simulated runs against its schema, against the simulator's own list, and as qvis reads it."""
import collections
import copy
import json
import glob
import os
import subprocess
import sys

try:
    import jsonschema
except ImportError:
    sys.exit("0 passed, 1 failed: it needs jsonschema: apt-get install python3-jsonschema")

import qlog_schema
import tool
from runs import Runs

QVIS = os.path.join(tool.ROOT, "tools", "qvis.py")


def records(data):
    """RFC 7464: each record begins with RS and ends with LF."""
    assert data[:1] == b"\x1e" and data[-1:] == b"\n", data[:20]
    parts = data.split(b"\x1e")[1:]
    assert all(part.endswith(b"\n") for part in parts)
    return [json.loads(part) for part in parts]


def read_log(name):
    return records(tool.read(Runs.path(name + ".sqlog")))


def validate(log, of_each=1 << 30):
    """At most so many records of each name, since it is slow."""
    validators = {name: jsonschema.Draft7Validator(qlog_schema.event(name)) for name in qlog_schema.DATA}
    counts = collections.Counter()
    jsonschema.validate(log[0], qlog_schema.HEADER)
    for entry in log[1:]:
        assert entry["name"] in validators, entry["name"]
        counts[entry["name"]] += 1
        if counts[entry["name"]] <= of_each:
            validators[entry["name"]].validate(entry)


def named(log, name):
    return [entry for entry in log[1:] if entry["name"] == name]


def test_every_record_is_of_the_schema():
    seen = set()
    for name in ("clear", "dtls"):
        log = read_log(name)
        assert len(log) > 500
        validate(log)
        seen |= {entry["name"] for entry in log[1:]}
    assert len(seen) >= 17, seen


def test_logs_of_examples_are_of_the_schema():
    """All kinds of boxes, links, crashes, pauses and programs, as the command writes them."""
    examples = sorted(glob.glob(os.path.join(tool.ROOT, "examples", "*.scn")))
    assert len(examples) >= 4
    with tool.folder() as d:
        for example in examples:
            path = os.path.join(d, "run.sqlog")
            tool.expect(tool.p2p("sim", example, "--qlog", path), 0)
            log = records(tool.read(path))
            validate(log, 200)
            assert named(log, "simulation:scenario") and named(log, "simulation:marker"), example


def test_the_schema_refuses_what_is_wrong():
    """So that the test before this one can fail."""
    good = read_log("clear")
    packet = good.index(next(e for e in good if e.get("name") == "p2p:packet_sent" and e["data"]["frames"]))
    sample = good.index(named(good, "p2p:recovery_metrics_updated")[0])

    def refused(change):
        log = copy.deepcopy(good)
        change(log)
        try:
            validate(log)
        except (AssertionError, jsonschema.ValidationError):
            return True
        return False

    assert refused(lambda log: log[0].pop("file_schema"))
    assert refused(lambda log: log[0]["trace"]["vantage_point"].pop("flow"))
    assert refused(lambda log: log[0]["trace"]["event_schemas"].clear())
    assert refused(lambda log: log[0]["trace"]["common_fields"]["reference_time"].update(epoch="1970"))
    assert refused(lambda log: log[packet].pop("time"))
    assert refused(lambda log: log[packet].update(name="p2p:unheard_of"))
    assert refused(lambda log: log[packet]["data"]["frames"][0].update(frame_type="streams"))
    assert refused(lambda log: log[packet]["data"]["frames"][0].update(surplus=1))
    assert refused(lambda log: log[packet]["data"]["header"].update(dcid="0"))
    assert refused(lambda log: log[sample]["data"].update(congestion_window=-1))
    assert not refused(lambda log: None)


def test_times_ascend():
    times = [entry["time"] for entry in read_log("dtls")[1:]]
    assert times == sorted(times) and times[-1] > 3000


def test_datagrams_are_those_of_the_trace():
    events = {"sent": "sent", "delivered": "received", "forwarded": "forwarded",
              "duplicated": "duplicated", "corrupted": "corrupted"}
    want = collections.Counter()
    with open(Runs.path("clear.list"), encoding="utf-8") as lines:
        for line in lines:
            time, fate, _, number, _, _, size, _ = line.split()
            want[int(time), events.get(fate, "dropped"), int(number), int(size),
                 "" if fate in events else fate] += 1
    got = collections.Counter(
        (round(e["time"] * 1000), e["name"].split("datagram_")[1], e["data"]["datagram_id"],
         e["data"]["raw"]["length"], e["data"].get("trigger", ""))
        for e in read_log("clear")[1:] if e["name"].startswith("p2p:datagram_"))
    assert want == got, (want - got, got - want)


def test_packets_come_with_their_frames():
    """Every byte of the stream is in a frame; each packet that came was sent, frames and all."""
    for name in ("clear", "dtls"):
        log = read_log(name)
        sent = {e["data"]["datagram_id"]: e["data"] for e in named(log, "p2p:packet_sent")}
        received = named(log, "p2p:packet_received")
        assert len(received) > 80
        covered = set()
        for e in received:
            assert e["data"] == sent[e["data"]["datagram_id"]], e
            for f in e["data"]["frames"]:
                if e["group_id"] == "bob>alice" and f["frame_type"] == "stream" and f["stream_id"] == 2:
                    covered |= set(range(f["offset"], f["offset"] + f["raw"]["payload_length"]))
            total = sum(f["raw"]["length"] for f in e["data"]["frames"])
            number = e["data"]["header"]["packet_number"]
            assert total + (1 if number < 64 else 2) == e["data"]["raw"]["payload_length"], e
        assert covered == set(range(60000)), len(covered)


def test_connections_are_told_by_both_ends():
    log = read_log("clear")
    started = named(log, "p2p:connection_started")
    assert {(e["group_id"], e["data"]["initiator"]) for e in started} == \
        {("alice>bob", "local"), ("bob>alice", "remote")}
    closed = named(log, "p2p:connection_closed")
    assert [(e["group_id"], e["data"]["trigger"]) for e in closed] == [("alice>bob", "idle_timeout")]
    samples = [e["data"] for e in named(log, "p2p:recovery_metrics_updated") if e["group_id"] == "alice>bob"]
    assert len({s["congestion_window"] for s in samples}) > 3
    assert all(20 <= s["min_rtt"] <= s["smoothed_rtt"] < 500 for s in samples if s["min_rtt"])
    assert [e["data"]["type"] for e in named(log, "simulation:marker")] == ["crash"]


# ---- tools/qvis.py ----------------------------------------------------------------------------------

def test_qvis_gets_what_it_reads():
    """The fields that qvis's loader and congestion graph look for (its versions "0.3" and "draft-02")."""
    done = subprocess.run(["python3", QVIS, Runs.path("dtls.sqlog")], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, check=True)
    log = json.loads(done.stdout)
    assert (log["qlog_version"], log["qlog_format"]) == ("0.3", "JSON")
    titles = {trace["title"] for trace in log["traces"]}
    assert titles == {"alice>bob", "bob>alice"}, titles
    for trace in log["traces"]:
        assert trace["common_fields"]["time_format"] == "relative"
        assert trace["vantage_point"]["type"] in ("client", "server")
        times = [e["time"] for e in trace["events"]]
        assert times == sorted(times)
    alice = next(t for t in log["traces"] if t["title"] == "alice>bob")
    assert alice["vantage_point"]["type"] == "client"
    names = collections.Counter(e["name"] for e in alice["events"])
    assert names["transport:packet_sent"] > 80 and names["transport:packet_received"] > 20
    assert names["recovery:metrics_updated"] > 20 and names["connectivity:connection_started"] == 1
    sent = {e["data"]["header"]["packet_number"] for e in alice["events"] if e["name"] == "transport:packet_sent"}
    lost = {e["data"]["header"]["packet_number"] for e in alice["events"] if e["name"] == "recovery:packet_lost"}
    bob = next(t for t in log["traces"] if t["title"] == "bob>alice")
    came = {e["data"]["header"]["packet_number"] for e in bob["events"] if e["name"] == "transport:packet_received"}
    assert lost and lost <= sent and not lost & came, (lost, came)
    for e in alice["events"]:
        if e["name"].startswith("transport:packet_"):
            assert e["data"]["header"]["packet_type"] == "1RTT" and "raw" in e["data"]


def test_qvis_says_what_is_no_log():
    with tool.folder() as d:
        path = tool.write(os.path.join(d, "x"), b"\x1e{\"file_schema\":\"other\"}\n")
        for name in (path, os.path.join(d, "missing")):
            done = subprocess.run(["python3", QVIS, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=60, check=False)
            assert done.returncode == 1 and done.stdout == b"", done
            assert name in done.stderr.decode() and b"Traceback" not in done.stderr, done.stderr


try:
    tool.main(globals())
finally:
    Runs.remove()
