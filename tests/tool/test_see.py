#!/usr/bin/env python3
"""Captures of simulated runs, as Wireshark reads them.

test_see.c writes two runs, one over the null channel and one over DTLS, and a plain list of what the
simulator's trace told of them; tshark reads the captures, and both must agree."""
import collections
import glob
import os
import random
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import tool
from runs import Runs

Item = collections.namedtuple("Item", "time fate at number source target size next")
Packet = collections.namedtuple("Packet", "at number how session plain")
SCRIPT = ("-X", "lua_script:" + os.path.join(tool.ROOT, "tools", "p2p.lua"))
DROPS = {"lost", "queue", "mtu", "route", "nat", "nobody", "full"}


def tshark(capture, *args):
    """Lines of tshark's output; a capture that it complains about fails."""
    assert shutil.which("tshark"), "tshark is missing: apt-get install tshark"
    done = subprocess.run(["tshark", "-n", "-r", capture, *args], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120, check=False)
    said = [line for line in done.stderr.decode().splitlines() if "Running as user" not in line]
    assert done.returncode == 0 and not said, f"tshark: {done.returncode} {said}"
    return done.stdout.decode().splitlines()


def fields(capture, *names, options=(), where=None):
    """A tuple of texts a packet."""
    args = ["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a", "-E", "aggregator=|"]
    for name in names:
        args += ["-e", name]
    args += ["-Y", where] if where else []
    return [tuple(line.split("\t")) for line in tshark(capture, *args, *options)]


def keys(name):
    return ("-o", "tls.keylog_file:" + Runs.path(name + ".keys"))


def packets(name):
    with open(Runs.path(name + ".packets"), encoding="utf-8") as lines:
        return [Packet(*line.split()) for line in lines]


def items(name):
    with open(Runs.path(name + ".list"), encoding="utf-8") as lines:
        return [Item(*line.split()) for line in lines]


# ---- captures --------------------------------------------------------------------------------------

def check_capture(name):
    """Every item of the trace is a packet: where, when, between whom, how large."""
    want = items(name)
    got = fields(Runs.path(name + ".pcapng"), "frame.time_epoch", "frame.interface_name",
                 "frame.packet_id", "ip.src", "udp.srcport", "ip.dst", "udp.dstport", "udp.length",
                 "ip.id")
    assert len(want) == len(got) > 300, f"{len(want)} items, {len(got)} packets"
    for item, row in zip(want, got):
        seconds, micro = divmod(int(item.time), 1000000)
        source, target = item.source.split(":"), item.target.split(":")
        assert row == (f"{seconds}.{micro:06d}000", item.at, item.number, *source, *target,
                       str(int(item.size) + 8), f"0x{int(item.number) & 0xffff:04x}"), (item, row)


def test_captures_have_every_item():
    check_capture("clear")
    check_capture("dtls")


def test_checksums_are_right():
    checked = ("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
    status = fields(Runs.path("clear.pcapng"), "ip.checksum.status", "udp.checksum.status",
                    options=checked)
    assert set(status) == {("1", "1")}, set(status)


def test_headers_hold_for_any_datagram():
    """All sizes, IPv4 and IPv6, to nobody; what does not fit is cut, and a comment says so."""
    rows = fields(Runs.path("odd.pcapng"), "ip.checksum.status", "udp.checksum.status", "udp.length",
                  "ipv6.src", "frame.comment",
                  options=("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"))
    assert len(rows) == 9 * 6 * 2
    sizes = [1, 2, 3, 1201, 65507, 65508, 65527, 65528, 65535]
    for i, (ip4, udp, length, ip6, comment) in enumerate(rows):
        size, most = sizes[i // 12], 65527 if ip6 else 65507
        assert udp == "1" and (ip6 or ip4 == "1"), (i, rows[i])
        assert int(length) == min(size, most) + 8, (i, rows[i])
        assert (f"cut: it has {size} bytes" in comment) == (size > most), (i, rows[i])


def test_comments_say_what_happened():
    words = {"lost": "lost", "queue": "queue", "route": "no way", "nobody": "nobody",
             "forwarded": "forwarded", "duplicated": "doubled", "corrupted": "changed"}
    rows = fields(Runs.path("dtls.pcapng"), "frame.comment", "frame.packet_flags_direction")
    seen = set()
    for item, (comment, direction) in zip(items("dtls"), rows):
        if item.fate in ("sent", "delivered"):
            assert not comment, (item, comment)
            assert int(direction, 16) == (2 if item.fate == "sent" else 1), (item, direction)
            continue
        seen.add(item.fate)
        assert words[item.fate] in comment, (item, comment)
        assert item.next == "-" or comment.endswith(" " + item.next), (item, comment)
    assert {"lost", "route", "forwarded", "nobody"} <= seen, seen


def test_loss_is_a_datagram_that_was_sent_and_not_delivered():
    """By the capture alone: what left and never came is what the comments say was dropped."""
    path = Runs.path("clear.pcapng")
    sent = {row[0] for row in fields(path, "frame.packet_id",
                                     where="frame.packet_flags_direction == 2")}
    came = {row[0] for row in fields(path, "frame.packet_id",
                                     where="frame.packet_flags_direction == 1")}
    dropped = {item.number for item in items("clear") if item.fate in DROPS}
    assert came <= sent
    assert sent - came == dropped - came, (sent - came, dropped)
    assert len(dropped) > 3


# ---- the dissector ---------------------------------------------------------------------------------

def check_packets(name, *options):
    """Each packet that a node sealed or opened is decoded where it was sent or delivered."""
    rows = fields(Runs.path(name + ".pcapng"), "frame.packet_id", "frame.interface_name",
                  "frame.packet_flags_direction", "p2p.session", "p2p.packet", "p2p.malformed",
                  options=(*SCRIPT, *options))
    got = {}
    for number, at, direction, session, packet, bad in rows:
        if direction and packet and int(direction, 16):
            got[number, at, "sent" if int(direction, 16) == 2 else "opened"] = session, packet, bad
    want = packets(name)
    assert len(want) > 200
    for p in want:
        first = int(p.plain[0:2], 16)
        width = 1 << (first >> 6)
        number = int(p.plain[:2 * width], 16) & ((1 << (8 * width - 2)) - 1)
        assert got[p.number, p.at, p.how] == (p.session, str(number), ""), p


def child(frame, name):
    found = frame.find(f"field[@name='{name}']")
    return None if found is None else found.get("value")


def check_content(name, *options):
    """What the program sent is in the frames that came to bob: stream, message, datagram."""
    where = 'frame.interface_name == "bob" && frame.packet_flags_direction == 1'
    xml = "\n".join(tshark(Runs.path(name + ".pcapng"), "-T", "pdml", "-Y", where, *SCRIPT, *options))
    whole = {p.number for p in packets(name) if p.at == "bob" and p.how == "opened"}
    stream, names, texts = {}, collections.Counter(), set()
    for packet in ElementTree.fromstring(xml).iter("packet"):
        number = packet.find(".//field[@name='frame.packet_id']")
        if number.get("show") not in whole:
            continue  # changed on the way
        for frame in packet.iter("field"):
            if frame.get("name") != "p2p.frame.type":
                continue
            names[frame.find("field[@name='p2p.frame.name']").get("show")] += 1
            data = bytes.fromhex(child(frame, "p2p.data") or "")
            if child(frame, "p2p.stream.id") == "02":
                offset = frame.find("field[@name='p2p.stream.offset']")
                offset = int(offset.get("show")) if offset is not None else 0
                stream[offset] = max(data, stream.get(offset, b""), key=len)
            else:
                texts.add(data)
    assert {"HELLO", "AUTH", "ACK", "STREAM", "DATAGRAM"} <= set(names), names
    assert b"tick" in texts and any(b"good morning" in text for text in texts), texts
    joined = bytearray()
    for offset, data in sorted(stream.items()):
        assert offset <= len(joined), f"a hole before {offset}"
        joined[offset:offset + len(data)] = data
    assert joined == bytes((i * 7 + (i >> 8)) & 255 for i in range(60000)), len(joined)


def test_null_channel_is_decoded():
    check_packets("clear")
    check_content("clear")


def test_dtls_is_opened_by_a_key_log():
    check_packets("dtls", *keys("dtls"))
    check_content("dtls", *keys("dtls"))
    check_packets("dtls", "-o", "p2p.keylog:" + Runs.path("dtls.keys"))


def test_dtls_stays_closed_without_keys():
    names = ("p2p.session", "dtls.record.content_type", "dtls.handshake.type", "p2p.packet")
    rows = fields(Runs.path("dtls.pcapng"), *names, options=SCRIPT)
    assert not any(row[3] for row in rows)
    assert all(row[0] and row[1] for row in rows)
    assert {"1", "2|12|14"} <= {row[2] for row in rows}, {row[2] for row in rows}


def test_changed_records_are_told_from_good_ones():
    """Every record of data that the link changed does not authenticate, and no other."""
    rows = fields(Runs.path("dtls.pcapng"), "frame.packet_id", "frame.interface_name", "p2p.forged",
                  "_ws.col.Info", where="p2p.type == 0xb4 || p2p.type == 0xb5",
                  options=(*SCRIPT, *keys("dtls")))
    changed = {item.number for item in items("dtls") if item.fate == "corrupted"}
    seen = set()
    for number, at, _, info in rows:
        if "does not authenticate" in info:
            assert number in changed, (number, info)
            assert at in ("r", "bob", "alice")
            seen.add(number)
    assert len(seen) > 2, (seen, changed)


def test_malformed_packets_are_marked():
    """The dissector and p2p.h agree on every packet, and nothing raises an error in it."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"SEED={seed} tests/tool/test_see.py test_malformed_packets_are_marked")
    corpus = sorted(sum((glob.glob(os.path.join(tool.ROOT, "tests/fuzz/corpus", name, "*"))
                         for name in ("fuzz_frame", "fuzz_hello", "fuzz_session")), []))
    folder = os.path.dirname(Runs.path(""))
    subprocess.run([os.path.join(tool.BUILD, "tests/tool/test_see"), "--fuzz", folder, str(seed),
                    *corpus], check=True, timeout=60)
    verdicts = tool.read(os.path.join(folder, "fuzz.list")).decode().split()
    capture = os.path.join(folder, "fuzz.pcapng")
    rows = fields(capture, "_ws.col.Info", options=SCRIPT)
    assert len(rows) == len(verdicts) > 1000
    for i, ((info,), verdict) in enumerate(zip(rows, verdicts)):
        assert verdict == "any" or ("malformed" in info) == (verdict == "bad"), (i, verdict, info)
    assert {"good", "bad", "any"} <= set(verdicts)
    marked = fields(capture, "frame.number", where="p2p.malformed", options=SCRIPT)
    assert len(marked) == sum("malformed" in info for (info,) in rows)
    assert not [line for line in tshark(capture, "-V", *SCRIPT) if "Lua" in line]


def test_changed_captures_raise_no_error():
    """Any byte of a DTLS capture may change, with its keys at hand."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"SEED={seed} tests/tool/test_see.py test_changed_captures_raise_no_error")
    rng, data = random.Random(seed), bytearray(tool.read(Runs.path("dtls.pcapng")))
    at, changed = 0, 0
    while at < len(data):
        kind, size = (int.from_bytes(data[at + i:at + i + 4], "little") for i in (0, 4))
        payload = at + 28 + 28
        if kind == 6 and rng.random() < 0.5:
            length = int.from_bytes(data[at + 20:at + 24], "little") - 28
            for _ in range(rng.randrange(1, 4)):
                data[payload + rng.randrange(min(length, rng.choice((12, 60, 2000))))] = rng.randrange(256)
            changed += 1
        at += size
    assert changed > 100
    path = tool.write(os.path.join(os.path.dirname(Runs.path("")), "changed.pcapng"), bytes(data))
    lines = tshark(path, "-V", *SCRIPT, *keys("dtls"))
    errors = [line for line in lines if "Lua" in line]
    assert len(lines) > 1000 and not errors, errors[:5]


def blocks(data):
    """(type, whole block) of a capture."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 4:at + 8], "little")
        yield int.from_bytes(data[at:at + 4], "little"), data[at:at + size]
        at += size


def joined(block, payload):
    """The packet block again, with another UDP payload and without options."""
    head = bytearray(block[28:28 + 28])
    head[2:4] = (28 + len(payload)).to_bytes(2, "big")
    head[24:26] = (8 + len(payload)).to_bytes(2, "big")
    body = bytes(head) + payload
    length = len(body).to_bytes(4, "little")
    fixed = block[8:20] + length * 2 + body + bytes(-len(body) % 4)
    size = (len(fixed) + 12).to_bytes(4, "little")
    return block[:4] + size + fixed + size


def test_runs_of_datagrams_are_taken_apart():
    """As a host with UDP_SEGMENT captures them: ten of a burst in one packet."""
    run, out, count = [], [], 0
    for kind, block in blocks(tool.read(Runs.path("dtls.pcapng"))):
        size = int.from_bytes(block[20:24], "little")
        payload = block[56:28 + size] if kind == 6 else b""
        if kind == 6 and len(payload) == 1200 and payload[0] == 0xb4 and count < 10:
            run.append(payload)
            count += 1
            if count == 10:
                out.append(joined(block, b"".join(run)))
        else:
            out.append(block)
    assert count == 10
    path = tool.write(os.path.join(os.path.dirname(Runs.path("")), "joined.pcapng"), b"".join(out))
    rows = fields(path, "p2p.packet", "_ws.col.Info", where="udp.length == 12008",
                  options=(*SCRIPT, *keys("dtls")))
    numbers = [int(n) for n in rows[0][0].split("|")]
    assert numbers == list(range(numbers[0], numbers[0] + 10)), rows
    assert rows[0][1].startswith("10 datagrams"), rows


def test_other_ports_are_recognized():
    """By the first bytes, with the port's own entry taken away."""
    for name in ("clear", "dtls"):
        rows = fields(Runs.path(name + ".pcapng"), "p2p.session", options=(
            *SCRIPT, "-o", "p2p.port:0", "-o", "udp.try_heuristic_first:TRUE"))
        assert sum(bool(row[0]) for row in rows) > len(rows) * 0.9


# ---- the command -----------------------------------------------------------------------------------

SCENARIO = """seed 5
secure dtls
node {alice bob}
link alice bob latency=20ms loss=2% rate=10mbit queue=25kB
dial alice bob
at 1s stream alice bob 100kB
expect bob received 100kB from alice by 5s
"""


def simulate(program, folder, log):
    scene = tool.write(os.path.join(folder, "run.scn"), SCENARIO.encode())
    capture = os.path.join(folder, "run.pcapng")
    env = {**os.environ, "SSLKEYLOGFILE": log}
    done = subprocess.run([program, "sim", scene, "--pcap", capture], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=env, timeout=60, check=False)
    return capture, done


def test_the_command_with_a_key_log():
    with tool.folder() as d:
        log = os.path.join(d, "run.keys")
        capture, done = simulate(tool.P2P + "_keylog", d, log)
        assert done.returncode == 0 and b"DANGER" in done.stderr, done
        assert os.stat(log).st_mode & 0o777 == 0o600
        rows = fields(capture, "p2p.stream.offset", "p2p.stream.id",
                      where='frame.interface_name == "bob" && p2p.frame.name == "STREAM"',
                      options=(*SCRIPT, "-o", "tls.keylog_file:" + log))
        assert len(rows) > 80, len(rows)
        done = simulate(tool.P2P + "_keylog", d, os.path.join(d, "no", "such", "folder"))[1]
        assert done.returncode == 1 and b"SSLKEYLOGFILE" in done.stderr, done


def test_normal_builds_have_no_key_log():
    names = subprocess.run(["nm", tool.P2P], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert "p2p_mbedtls_secure" in names and "keylog" not in names
    with tool.folder() as d:
        log = os.path.join(d, "run.keys")
        assert simulate(tool.P2P, d, log)[1].returncode == 0
        assert not os.path.exists(log)


try:
    tool.main(globals())
finally:
    Runs.remove()
