#!/usr/bin/env python3
"""The firmware in QEMU, test by test.

usage: run.py [--list] [TEST...]

Runs all tests, or those named; the last line is "N passed, N failed". CONNECTS (1000) and FRAMES
(100000) say how much the tests of endurance do. Random bytes come from SEED (1), which is printed.
"""
import hashlib
import os
import random
import re
import subprocess
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figures  # noqa: E402
from qemu import (Guest, IMAGES, MACHINES, Process, ROOT, Wrong, cable, free_port,  # noqa: E402
                  user_network)

SEED = int(os.environ.get("SEED", "1"))
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def expect(condition, what):
    if not condition:
        raise Wrong(what)


# ---- the host's side ------------------------------------------------------------------------------

def wave(path, size, byte_rate):
    """A WAV file of noise: 16 bits, mono; returns the hash of its sound."""
    sound = random.Random(SEED).randbytes(size)
    with open(path, "wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " +
                   struct.pack("<IHHIIHH", 16, 1, 1, byte_rate // 2, byte_rate, 2, 16) +
                   b"data" + struct.pack("<I", size) + sound)
    return hashlib.sha256(sound).hexdigest()


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Streamer(Process):
    """examples/streamer of the host."""

    def __init__(self, *files, port=None):
        self.port = port or free_port()
        super().__init__([os.path.join(ROOT, "build/examples/streamer"), "--listen",
                          "127.0.0.1:%d" % self.port, *files], "streamer")
        self.ticket = self.wait_for("^p2p1[a-z0-9]+$", 20).group(0)

    def arguments(self, **more):
        """What a guest on the user network is started with to dial it."""
        return {"ticket": self.ticket, "at": "10.0.2.2:%d" % self.port, **more}


def at_work():
    return tempfile.TemporaryDirectory(prefix="p2p-firmware.")


# ---- one guest and the host -----------------------------------------------------------------------

def play(image, track, limit, **arguments):
    """A guest plays the track of a streamer and ends; returns what it said of it."""
    streamer = Streamer(track)
    guest = Guest(IMAGES[image], streamer.arguments(track=os.path.basename(track), once=1, s=limit,
                                                    **arguments),
                  user_network(), MACHINES.get(image, "mps2-an386"))
    guest.finish(limit + 30)
    said = re.search(r"^sha256 ([0-9a-f]{64}) agreed, lost (\d+)$", "\n".join(guest.lines), re.M)
    expect(said, "no hash that both agree on\n" + guest.told())
    streamer.wait_for("heard with SHA-256 " + said.group(1), 10)
    streamer.stop()
    return said.group(1), int(said.group(2)), guest.number("stack")


@test
def a_track_of_2_mb():
    """Boot, DHCP, dial, 2 MB by a stream: the guest's SHA-256 is the host's."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 2000000, 176400)
        said, _, stack = play("speaker", track, 120)
        expect(said == sha256_of(track), "another hash")
        expect(stack <= 6144, "the stack was %d bytes deep" % stack)
        print("        stack %d bytes" % stack)


@test
def ten_seconds_live():
    """10 s of sound as datagrams at the pace of the music. The host may be too busy to keep that
    pace, which is no fault of the firmware's: three attempts."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        sound = wave(track, 441000, 44100)
        for _ in range(3):
            try:
                said, lost, _ = play("speaker", track, 60, live=1)
            except Wrong as wrong:
                last = wrong
                Process.stop_all()
                continue
            expect(said == sound and lost == 0, "another hash, %d lost" % lost)
            return
        raise last


@test
def on_a_cortex_m3():
    """The same program on another core."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 200000, 176400)
        said, _, _ = play("m3", track, 120)
        expect(said == sha256_of(track), "another hash")


@test
def memory_is_checked():
    """The checked image finds overflows of globals, of the stack, in libc, and a bad shift."""
    for kind, code in ((1, 77), (2, 77), (3, 77), (4, 99)):
        guest = Guest(IMAGES["checked"], {"overflow": kind}, ["-nic", "none"])
        expect(Process.finish(guest, 20) == code, "overflow=%d was not found\n%s" %
               (kind, guest.told()))


@test
def every_access_checked():
    """A track and live sound under KASAN, UBSan and lwIP's assertions."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        sound = wave(track, 100000, 16000)
        said, _, _ = play("checked", track, 120)
        expect(said == sha256_of(track), "another hash")
        said, lost, _ = play("checked", track, 120, live=1)
        expect(lost > 0 or said == sound, "another hash")


# ---- two guests -----------------------------------------------------------------------------------

def two_guests(speaker_arguments, streamer_arguments):
    left, right = free_port(), free_port()
    streamer = Guest(IMAGES["streamer"], {"ip": 2, "mac": 2, "s": 120, **streamer_arguments},
                     cable(left, right), name="streamer guest")
    ticket = streamer.wait_for("^ticket (p2p1[a-z0-9]+)$", 30).group(1)
    speaker = Guest(IMAGES["speaker"], {"ip": 3, "mac": 3, "ticket": ticket, "track": "song.wav",
                                        "once": 1, "s": 100, **speaker_arguments},
                    cable(right, left), name="speaker guest")
    speaker.finish(130)
    said = re.search(r"^sha256 ([0-9a-f]{64}) agreed", "\n".join(speaker.lines), re.M)
    expect(said, "no hash that both agree on\n" + speaker.told())
    streamer.wait_for("^heard " + said.group(1), 10)
    streamer.alive()
    streamer.stop()


@test
def two_guests_with_each_other():
    """Streamer and speaker are both firmware, joined by a cable."""
    two_guests({}, {"bytes": 200000})


# ---- figures --------------------------------------------------------------------------------------

@test
def budgets():
    """Flash, RAM, stack, instructions: as tests/firmware/budget.json has them."""
    wrong = list(figures.faults(figures.collect(), figures.accepted()))
    expect(not wrong, "; ".join(wrong))


# ---- all of it ------------------------------------------------------------------------------------

def run(function):
    start = time.monotonic()
    try:
        function()
        verdict = "ok"
    except Wrong as wrong:
        verdict = "FAIL"
        print("    " + str(wrong))
    except (OSError, subprocess.SubprocessError) as error:
        verdict = "FAIL"
        print("    %s: %s" % (type(error).__name__, error))
    finally:
        Process.stop_all()
    print("%-5s %-36s %4d s" % (verdict, function.__name__, time.monotonic() - start), flush=True)
    return verdict == "ok"


def main():
    names = sys.argv[1:]
    known = {function.__name__: function for function in TESTS}
    if names == ["--list"]:
        for name, function in known.items():
            print("%-36s %s" % (name, function.__doc__.split("\n")[0]))
        return 0
    for name in names:
        if name not in known:
            sys.exit("run.py: there is no test %s; --list names them" % name)
    print("SEED=%d tests/firmware/run.py" % SEED)
    results = [run(known[name]) for name in names or known]
    print("%d passed, %d failed" % (sum(results), len(results) - sum(results)))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
