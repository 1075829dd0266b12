#!/usr/bin/env python3
"""p2p serve over many callers, much junk, and files far larger than memory."""
import concurrent.futures
import os
import random
import resource
import socket
import subprocess

from tool import P2P, expect, folder, main, make_key, p2p, serving, ticket_port, write

CONNECTS = int(os.environ.get("CONNECTS", "1000"))
JUNK = 10000
LARGE = 5 * 1000 * 1000 * 1000


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as source:
        return int(next(line for line in source if line.startswith("VmHWM")).split()[1])


def test_connects_and_junk_leave_the_arena_as_it_was():
    with folder() as d, folder() as keys:
        key = os.path.join(keys, "key")
        make_key(key)
        write(os.path.join(d, "a.wav"), b"sound" * 1000)
        with serving(d, "--json") as s:
            _, quiet = s.gauges()
        with serving(d, "--json") as s:
            def once(number):
                mine = ["--key", key] if number % 2 else []
                return p2p("call", "GET", s.ticket, "/ping", *mine).code

            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                codes = list(pool.map(once, range(CONNECTS)))
            assert codes.count(0) == CONNECTS, f"{CONNECTS - codes.count(0)} of {CONNECTS} failed"
            source = random.Random(1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                out.connect(("127.0.0.1", ticket_port(s.ticket)))
                for i in range(JUNK):
                    first = source.choice((0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xbf, 0, 22, i & 255))
                    out.send(bytes([first]) + source.randbytes(source.randrange(1400)))
                    if i % 100 == 0:
                        expect(p2p("get", s.ticket, "/tracks"), 0) if i % 2000 == 0 else None
            got = expect(p2p("get", s.ticket, "/tracks/a.wav"), 0)
            assert got.out == b"sound" * 1000
            first, last = s.gauges()
        assert last["p2p_arena_used_bytes"] == first["p2p_arena_used_bytes"], (first, last)
        assert last["p2p_arena_used_bytes"] == quiet["p2p_arena_used_bytes"], (quiet, last)
        assert last["requests"] > CONNECTS, last


def test_a_file_of_5_gb():
    with folder() as d:
        with open(os.path.join(d, "large"), "wb") as out:
            out.truncate(LARGE)
        with serving(d) as s:
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            done = expect(p2p("get", s.ticket, "/tracks/large", "-o", "/dev/null", "--json", timeout=280), 0)
            assert done.json()["bytes"] == LARGE, done
            assert resident_kib(s.process.pid) < 64 * 1024, resident_kib(s.process.pid)
            after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            assert after == before or after < 64 * 1024, (before, after)
            listed = expect(p2p("get", s.ticket, "/tracks"), 0).json()
            assert listed[0]["size"] == LARGE, listed


def test_ranges_beyond_4_gib():
    with folder() as d:
        path = os.path.join(d, "large")
        with open(path, "wb") as out:
            out.truncate(LARGE)
            out.seek(LARGE - 4)
            out.write(b"tail")
        with serving(d) as s:
            for value in ("bytes=-4", f"bytes={LARGE - 4}-"):
                got = expect(p2p("get", s.ticket, "/tracks/large", "--header", "range: " + value), 0)
                assert got.out == b"tail", (value, got)


def test_many_at_once():
    with folder() as d:
        data = os.urandom(3 << 20)
        write(os.path.join(d, "a"), data)
        with serving(d) as s:
            gets = [subprocess.Popen([P2P, "get", s.ticket, "/tracks/a"], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL) for _ in range(12)]
            for get in gets:
                out, _ = get.communicate(timeout=60)
                assert get.returncode == 0 and out == data, (get.returncode, len(out))


main(globals())
