#!/usr/bin/env python3
"""The firmware in QEMU, test by test.

usage: run.py [--list] [TEST...]

Runs all tests, or those named; the last line is "N passed, N failed". CONNECTS (1000) and FRAMES
(100000) say how much the tests of endurance do. Random bytes come from SEED (1), which is printed.
"""
import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import figures  # noqa: E402
from qemu import (Guest, IMAGES, MACHINES, Process, ROOT, Tap, Wrong, cable,  # noqa: E402
                  free_port, user_network)

SEED = int(os.environ.get("SEED", "1"))
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def expect(condition, what):
    if not condition:
        raise Wrong(what)


# ---- the host's side ----------------------------------------------------------------------------

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

    def __init__(self, *files, port=None, key=None):
        self.port = port or free_port()
        super().__init__([os.path.join(ROOT, "build/examples/streamer"),
                          *(["--key", key] if key else []),
                          "--listen", "127.0.0.1:%d" % self.port, *files], "streamer")
        self.ticket = self.wait_for("^p2p1[a-z0-9]+$", 20).group(0)

    def arguments(self, **more):
        """What a guest on the user network is started with to dial it."""
        return {"ticket": self.ticket, "at": "10.0.2.2:%d" % self.port, **more}


def at_work():
    return tempfile.TemporaryDirectory(prefix="p2p-firmware.")


# ---- one guest and the host ---------------------------------------------------------------------

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


# ---- a desktop that calls the speaker -----------------------------------------------------------

P2P = os.path.join(ROOT, "build/p2p")


class Speaker(Guest):
    """A guest that stays, dials the streamer, and can be called by the command p2p."""

    def __init__(self, streamer, image="speaker", tap=None, **more):
        self.port = free_port()
        super().__init__(IMAGES[image],
                         streamer.arguments(outside="127.0.0.1:%d" % self.port, **more),
                         user_network(self.port) + (tap.options() if tap else []))
        if tap:
            tap.attach()
        self.ticket = self.wait_for("^ticket (p2p1[a-z0-9]+)$", 30).group(1)
        self.wait_for("^connected", 30)

    def call(self, method, path, body=None, timeout=10):
        """(status, body), or (None, why) when there was no answer."""
        words = [P2P, "call", method, self.ticket, path, "--json", "--timeout", str(timeout)]
        done = subprocess.run(words + (["--body", "-"] if body is not None else []),
                              input=(body or "").encode(), capture_output=True, check=False,
                              timeout=timeout + 40)
        self.alive()
        if not done.stdout:
            return None, done.stderr.decode()
        answer = json.loads(done.stdout)
        return answer["status"], answer.get("body", "")

    def status(self):
        """The speaker's answer to GET /status; a busy machine gets a second chance."""
        for _ in range(3):
            status, body = self.call("GET", "/status")
            if status == 200:
                return json.loads(body)
        raise Wrong("GET /status: %s %s\n%s" % (status, body, self.told()))

    def expect(self, status, method, path, body=None):
        got, said = self.call(method, path, body)
        expect(got == status, "%s %s %s: %s %s, not %d\n%s" %
               (method, path, body, got, said, status, self.told()))

    def wait_idle(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said = self.status()
            if said["state"] == "idle":
                return said
            time.sleep(0.2)
        raise Wrong("it still plays after %d s: %s" % (seconds, said))


@test
def routes():
    """GET /status, PUT /volume, POST /play, and what they refuse."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 150000, 16000)
        speaker = Speaker(Streamer(track))
        for wrong in ("101", "-1", "", "loud", "4294967296", "1 2"):
            speaker.expect(400, "PUT", "/volume", wrong)
        expect(speaker.status()["volume"] == 40, "the volume that the streamer set")
        speaker.expect(204, "PUT", "/volume", "0")
        speaker.expect(204, "PUT", "/volume", "100")
        expect(speaker.status()["volume"] == 100, "the volume that was set")
        for wrong in ("", "a/b", "song.wav  live", "\u00e4", "x" * 64, "song.wav live live"):
            speaker.expect(400, "POST", "/play", wrong)
        speaker.expect(404, "POST", "/play", "nothing.wav")
        speaker.expect(404, "POST", "/play", "nothing.wav live")
        speaker.expect(404, "GET", "/nowhere")
        speaker.expect(405, "DELETE", "/volume")
        speaker.expect(413, "PUT", "/volume", "1" * 2000)
        speaker.expect(202, "POST", "/play", "song.wav")
        said = speaker.wait_idle(60)
        expect(said["sha256"] == sha256_of(track) and said["played"] == 150044, str(said))
        speaker.expect(202, "POST", "/play", "song.wav live")
        speaker.expect(409, "POST", "/play", "song.wav")
        expect(speaker.status()["state"] == "live", "it plays live")


# ---- breaks -------------------------------------------------------------------------------------

@test
def guest_restarts():
    """The speaker is switched off without a word and on again, with the same key: it plays."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 150000, 16000)
        streamer = Streamer(track)
        for _ in range(3):
            speaker = Speaker(streamer, key=5)
            speaker.expect(202, "POST", "/play", "song.wav")
            expect(speaker.wait_idle(60)["sha256"] == sha256_of(track), "another hash")
            speaker.process.kill()
            speaker.stop()


@test
def streamer_restarts():
    """The speaker dials again by itself, and plays."""
    with at_work() as work:
        track, key = os.path.join(work, "song.wav"), os.path.join(work, "key")
        wave(track, 150000, 16000)
        subprocess.run([P2P, "keygen", key], check=True, stdout=subprocess.DEVNULL)
        streamer = Streamer(track, key=key)
        speaker = Speaker(streamer)
        streamer.stop()
        speaker.wait_for("^disconnected", 60)
        speaker.expect(503, "POST", "/play", "song.wav")
        streamer = Streamer(track, key=key, port=streamer.port)
        speaker.wait_for("^connected", 60)
        speaker.expect(202, "POST", "/play", "song.wav")
        expect(speaker.wait_idle(60)["sha256"] == sha256_of(track), "another hash")


@test
def pulled_link():
    """The cable is pulled in the middle of a track, and put in again: the hash is right."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 12000000, 176400)
        speaker = Speaker(Streamer(track))
        speaker.expect(202, "POST", "/play", "song.wav")
        for _ in range(2):
            time.sleep(0.7)
            speaker.monitor("set_link net off")
            time.sleep(2)
            speaker.monitor("set_link net on")
        speaker.wait_for("^played song.wav bytes 12000044", 180)
        expect(speaker.status()["sha256"] == sha256_of(track), "another hash")


# ---- shortage and endurance ---------------------------------------------------------------------

@test
def no_pbufs():
    """lwIP has no memory for 3 s, then for every tenth frame: it plays all the same."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 3000000, 176400)
        streamer = Streamer(track)
        speaker = Speaker(streamer, image="checked", starve_at=3000, starve_ms=3000, starve=10)
        speaker.expect(202, "POST", "/play", "song.wav")
        speaker.wait_for("^played song.wav bytes 3000044", 180)
        expect(speaker.status()["sha256"] == sha256_of(track), "another hash")


@test
def full_arena():
    """Both connections are taken: others are refused, and served when there is room again."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 100000, 16000)
        speaker = Speaker(Streamer(track))
        for _ in range(5):
            first = Process([P2P, "ping", speaker.ticket, "-c", "1000", "-i", "100"], "ping")
            first.wait_for("^connected to", 30)
            status, why = speaker.call("GET", "/status", timeout=5)
            expect(status is None, "a third connection was let in: %s %s" % (status, why))
            first.process.terminate()
            first.finish(20)
            speaker.status()
        speaker.expect(202, "POST", "/play", "song.wav")
        speaker.wait_idle(30)


@test
def a_thousand_connects():
    """CONNECTS times somebody connects, asks, and leaves."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 100000, 16000)
        speaker = Speaker(Streamer(track))
        for _ in range(int(os.environ.get("CONNECTS", "1000"))):
            speaker.status()
        speaker.expect(202, "POST", "/play", "song.wav")
        expect(speaker.wait_idle(30)["sha256"] == sha256_of(track), "another hash")


MAC = bytes([0x52, 0x54, 0x00, 0x70, 0x32, 0x01])


def udp_frame(dice, payload):
    """A frame to the speaker's port, from anywhere, without a checksum."""
    size = 28 + len(payload)
    head = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, dice.getrandbits(16), 0, 64, 17, 0,
                                 dice.choice([bytes([10, 0, 2, 2]), dice.randbytes(4)]),
                                 bytes([10, 0, 2, 15])))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xffff) + (total >> 16)
    head[10:12] = struct.pack(">H", ~((total & 0xffff) + (total >> 16)) & 0xffff)
    udp = struct.pack(">HHHH", dice.getrandbits(16), 8800, 8 + len(payload), 0)
    return MAC + dice.randbytes(6) + b"\x08\x00" + bytes(head) + udp + payload


def mutated(dice, frame):
    frame = bytearray(frame[:dice.randrange(14, len(frame) + 1)])
    for _ in range(dice.randrange(4)):
        frame[dice.randrange(len(frame))] = dice.getrandbits(8)
    return bytes(frame)


def junk_frame(dice, heard):
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(dice.randrange(14, 1515))
    if kind == 1:
        return MAC + dice.randbytes(6) + dice.choice([b"\x08\x00", b"\x08\x06", b"\x86\xdd"]) + \
            dice.randbytes(dice.randrange(0, 1500))
    if kind == 2 or not heard:
        return udp_frame(dice, dice.randbytes(dice.randrange(0, 1473)))
    return mutated(dice, dice.choice(heard))  # a real one, replayed or damaged


def throw(speaker, tap, frames):
    """Says junk until the guest has taken so many frames; asks it now and then how it is."""
    dice = random.Random(SEED)
    asked = 0
    end = time.monotonic() + 60 + frames / 60 # of a machine that does other things as well
    while True:
        try:
            for _ in range(20):
                tap.say(junk_frame(dice, list(tap.heard)))
        except OSError as error:
            raise Wrong("nobody takes frames: %s\n%s" % (error, speaker.told())) from None
        time.sleep(0.002)
        taken = max([int(line[7:]) for line in speaker.lines[-3:] if line.startswith("frames ")],
                    default=0)
        if taken >= frames:
            return
        expect(time.monotonic() < end, "only %d frames came in\n%s" % (taken, speaker.told()))
        if taken >= asked + 10000:
            asked = taken
            speaker.status()


@test
def junk_frames():
    """FRAMES frames of junk, among them damaged and repeated real ones: nothing is disturbed."""
    with at_work() as work:
        track = os.path.join(work, "song.wav")
        wave(track, 100000, 16000)
        tap = Tap(work)
        speaker = Speaker(Streamer(track), image="checked", tap=tap)
        throw(speaker, tap, int(os.environ.get("FRAMES", "100000")))
        speaker.expect(202, "POST", "/play", "song.wav")
        expect(speaker.wait_idle(60)["sha256"] == sha256_of(track), "another hash")


# ---- two guests ---------------------------------------------------------------------------------

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


# ---- figures ------------------------------------------------------------------------------------

@test
def budgets():
    """Flash, RAM, stack, instructions: as tests/firmware/budget.json has them."""
    wrong = list(figures.faults(figures.collect(), figures.accepted()))
    expect(not wrong, "; ".join(wrong))


# ---- all of it ----------------------------------------------------------------------------------

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
