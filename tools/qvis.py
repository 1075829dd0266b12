#!/usr/bin/env python3
"""Turns a qlog of p2p_sim.h into one that qvis (https://qvis.quictools.info) loads.

    python3 tools/qvis.py run.sqlog > run.qlog

qvis reads the older versions of qlog (up to 0.3) and QUIC's events only. Each end of each connection
becomes a trace; packets, metrics and the begin and end of connections get the names they have there.
A packet is shown as lost when the network lost it: the simulator knows, and the sender learns later.
What has no such name (other news of datagrams, messages, markers) is left out, and counted on stderr:
Wireshark and the page of `p2p sim --html` show it."""
import collections
import json
import os
import sys

NAMES = {
    "p2p:packet_sent": "transport:packet_sent",
    "p2p:packet_received": "transport:packet_received",
    "p2p:recovery_metrics_updated": "recovery:metrics_updated",
    "p2p:connection_started": "connectivity:connection_started",
    "p2p:connection_closed": "connectivity:connection_closed",
}


def load(path):
    """The header and the events."""
    with open(path, "rb") as source:
        parts = source.read().split(b"\x1e")[1:]
    entries = [json.loads(part) for part in parts]
    if not entries or entries[0].get("file_schema") != "urn:ietf:params:qlog:file:sequential":
        raise ValueError("this is no qlog of JSON text sequences; the command `p2p sim --qlog` writes one")
    return entries[0], entries[1:]


def lost(entry, headers):
    return {"time": entry["time"], "name": "recovery:packet_lost",
            "data": {"header": headers[entry["data"]["datagram_id"]]}}


def converted(entry):
    data = dict(entry["data"])
    if "frames" in data:
        data["frames"] = [{**f, "length": f.get("raw", {}).get("payload_length", 0)} for f in data["frames"]]
    return {"time": entry["time"], "name": NAMES[entry["name"]], "data": data}


def trace(group, events):
    dialled = any(e["data"].get("initiator") == "remote" for e in events
                  if e["name"] == "connectivity:connection_started")
    return {"title": group, "vantage_point": {"name": group, "type": "server" if dialled else "client"},
            "common_fields": {"time_format": "relative", "reference_time": 0}, "events": events}


def convert(path):
    header, entries = load(path)
    groups, left_out, headers = {}, collections.Counter(), {}
    came = {e["data"]["datagram_id"] for e in entries if e["name"] == "p2p:datagram_received"}
    for entry in entries:
        number = entry["data"].get("datagram_id")
        events = groups.setdefault(entry["group_id"], [])
        if entry["name"] == "p2p:packet_sent":
            headers[number] = entry["data"]["header"]
        if entry["name"] in NAMES:
            events.append(converted(entry))
        elif entry["name"] == "p2p:datagram_dropped" and number in headers and number not in came:
            events.append(lost(entry, headers))
        else:
            left_out[entry["name"]] += 1
    for name, count in sorted(left_out.items()):
        print(f"qvis.py: left out {count} {name}", file=sys.stderr)
    return {"qlog_version": "0.3", "qlog_format": "JSON", "title": header.get("title", ""),
            "traces": [trace(group, events) for group, events in groups.items() if events]}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 tools/qvis.py run.sqlog > run.qlog")
    try:
        log = json.dumps(convert(sys.argv[1]))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        sys.exit(f"qvis.py: {sys.argv[1]}: {error}")
    try:
        sys.stdout.write(log)
        sys.stdout.flush()
    except OSError as error:
        sys.stderr.write(f"qvis.py: {error}\n")
        os._exit(1)  # without another try to write what is left


main()
