"""Helpers of the tests of the command p2p: running it, serving, tickets, and the runner.

Programs come from BUILD (default: build). A test is a function whose name begins with test_; a failing
assertion fails it. The last line is "N passed, N failed".
"""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
P2P = os.path.join(BUILD, "p2p")
LOOPBACK = "127.0.0.1:0"


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        self.text = out.decode(errors="replace")

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit code {self.code}\nstdout: {self.out[:600]!r}\nstderr: {self.err[:1200]}"


def p2p(*args, stdin=b"", timeout=60, **more):
    """Runs the command to its end."""
    done = subprocess.run([P2P, *map(str, args)], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout, check=False, **more)
    return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def expect(result, code, *words):
    """The exit code, and words that stderr must have."""
    assert result.code == code, f"expected exit code {code}: {result}"
    for word in words:
        assert word in result.err, f"stderr does not say {word!r}: {result}"
    if code != 0:
        assert result.err.strip(), f"failed without a word: {result}"
    return result


class Server:
    """A process that prints a ticket in its first line: `p2p serve`, or an example."""

    def __init__(self, command):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log,
                                        bufsize=0)
        self.ticket = self.process.stdout.readline().decode().strip()
        if not self.ticket.startswith("p2p1"):
            self.stop()
            raise AssertionError(f"{command} printed no ticket but {self.ticket!r}: {self.said()}")

    def said(self):
        # Its place in the file is the server's too: reading must not move it.
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def wait_for(self, text, seconds=5.0):
        end = time.monotonic() + seconds
        while text not in self.said():
            assert time.monotonic() < end, f"the server never said {text!r}: {self.said()}"
            time.sleep(0.02)

    def stop(self, number=signal.SIGINT):
        """Ctrl-C; the exit code, and the rest of stdout."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            rest = self.process.communicate(timeout=10)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            self.process.kill()
            rest = self.process.communicate()[0].decode(errors="replace")
            raise AssertionError(f"the server did not end by signal {number}: {rest}") from None
        return self.process.returncode, rest

    def gauges(self):
        """Stops it; the first and the last JSON line of `serve --json`."""
        code, rest = self.stop()
        assert code == 0, f"exit code {code}: {self.said()}"
        lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
        assert len(lines) == 2, rest
        return lines


@contextlib.contextmanager
def running(*command):
    server = Server([str(word) for word in command])
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def serving(directory, *args):
    return running(P2P, "serve", directory, "--listen", LOOPBACK, *args)


@contextlib.contextmanager
def folder():
    path = tempfile.mkdtemp(prefix="p2p-test-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)
    return path


def read(path):
    with open(path, "rb") as source:
        return source.read()


def make_key(path):
    return expect(p2p("keygen", path, "--json"), 0).json()["id"]


# ---- tickets, written from the description of their format ----------------------------------------

ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


def z32_decode(text):
    bits = "".join(f"{ALPHABET.index(c):05b}" for c in text)
    return bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits) - 7, 8))


def z32_encode(data):
    bits = "".join(f"{b:08b}" for b in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(ALPHABET[int(bits[i:i + 5], 2)] for i in range(0, len(bits), 5))


def siphash13(data, key=bytes(16)):
    mask = (1 << 64) - 1
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def turn(x, n):
        return (x << n | x >> (64 - n)) & mask

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[1] = turn(v[1], 13) ^ v[0]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = turn(v[1], 17) ^ v[2]
            v[2] = turn(v[2], 32)

    tail = len(data) % 8
    words = [data[i:i + 8] for i in range(0, len(data) - tail, 8)]
    words.append(data[len(data) - tail:] + bytes(7 - tail) + bytes([len(data) & 255]))
    for word in words:
        m = int.from_bytes(word, "little")
        v[3] ^= m
        rounds(1)
        v[0] ^= m
    v[2] ^= 0xff
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def ticket_make(body):
    return "p2p1" + z32_encode(body + siphash13(body).to_bytes(8, "big")[:4])


def ticket_body(ticket):
    return z32_decode(ticket[4:])[:-4]


def ticket_port(ticket):
    """The port of the first address, which is one of IPv4."""
    body = ticket_body(ticket)
    assert body[34] >= 1 and body[35] == 4, body
    return int.from_bytes(body[40:42], "big")


# ---- the runner -------------------------------------------------------------------------------------

def main(names):
    wanted = sys.argv[1:]
    passed = failed = 0
    for name, test in list(names.items()):
        if not re.match("test_", name) or (wanted and name not in wanted):
            continue
        try:
            test()
            passed += 1
        except Exception:  # a test that breaks has failed, the others still run
            failed += 1
            print(f"FAIL {name}: {traceback.format_exc(limit=-3)}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
