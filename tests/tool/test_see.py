#!/usr/bin/env python3
"""Captures of simulated runs, as Wireshark reads them.

test_see.c writes two runs, one over the null channel and one over DTLS, and a plain list of what the
simulator's trace told of them; tshark reads the captures, and both must agree."""
import collections
import os
import subprocess

import tool

Item = collections.namedtuple("Item", "time fate at number source target size next")
DROPS = {"lost", "queue", "mtu", "route", "nat", "nobody", "full"}


def tshark(capture, *args):
    """Lines of tshark's output; a capture that it complains about fails."""
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


class Runs:
    """Written once, since all tests only read them."""
    folder = None

    @classmethod
    def path(cls, name):
        if cls.folder is None:
            cls.context = tool.folder()
            cls.folder = cls.context.__enter__()
            subprocess.run([os.path.join(tool.BUILD, "tests/tool/test_see"), "--write", cls.folder],
                           check=True, timeout=120)
        return os.path.join(cls.folder, name)

    @classmethod
    def remove(cls):
        if cls.folder:
            cls.context.__exit__(None, None, None)


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


try:
    tool.main(globals())
finally:
    Runs.remove()
