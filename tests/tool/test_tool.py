#!/usr/bin/env python3
"""The command p2p: what it prints, its exit codes, its files, and how it ends."""
import os
import pty
import resource
import select
import signal
import socket
import stat
import subprocess
import time

from tool import (BUILD, LOOPBACK, P2P, ROOT, expect, folder, main, make_key, p2p, read, running, serving,
                  ticket_body, ticket_make, ticket_port, write)

COMMANDS = ["keygen", "id", "serve", "get", "call", "ping", "sim"]
SOUND = bytes(range(256)) * 3001  # 768,256 bytes, not a multiple of any buffer


# ---- help and usage ---------------------------------------------------------------------------------

def test_help():
    for args in [["--help"], *[[c, "--help"] for c in COMMANDS], *[[c, "-h"] for c in COMMANDS]]:
        result = expect(p2p(*args), 0)
        assert "usage: p2p" in result.text and not result.err, result
        assert all(len(line) <= 100 for line in result.text.splitlines()), result
    assert "wire version 1" in expect(p2p("--version"), 0).text


def test_usage_is_exit_code_2():
    expect(p2p(), 2, "no command")
    expect(p2p("fetch"), 2, "fetch", "--help")
    expect(p2p("keygen"), 2, "FILE")
    expect(p2p("id", "a", "b"), 2, "too many")
    expect(p2p("get", "--jason", "x", "/"), 2, "--jason")
    expect(p2p("id", "--listen", "x", "f"), 2, "--listen")
    expect(p2p("get", "ticket", "/", "-o"), 2, "-o needs a value")
    expect(p2p("get", "ticket", "/", "-o", "a", "-o", "b"), 2, "twice")
    expect(p2p("ping", "ticket", "-c", "0"), 2, "-c", "'0'")
    expect(p2p("ping", "ticket", "-c", "many"), 2, "'many'")
    expect(p2p("serve", ".", "--allow", "nobody"), 2, "nobody", "NodeId")
    expect(p2p("serve", ".", "--listen", "here"), 2, "here")
    expect(p2p("call", "HEAD", "ticket", "/"), 2, "HEAD")
    expect(p2p("get", "ticket", "/", "--header", "Range: bytes=0-1"), 2, "lower-case")


def test_text_for_the_terminal_is_clean():
    assert "\x1b" not in expect(p2p("id", "/tmp/\x1b[31mred"), 1, "\\x1b").err
    assert "\x1b" not in expect(p2p("\x1b]0;title\x07"), 2).err


# ---- keys -------------------------------------------------------------------------------------------

def test_keygen_and_id():
    with folder() as d:
        path = os.path.join(d, "key")
        made = expect(p2p("keygen", path, "--json"), 0).json()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert len(made["id"]) == 52 and len(made["hex"]) == 64 and made["short"] == made["hex"][:10]
        assert expect(p2p("id", path, "--json"), 0).json() == made
        shown = expect(p2p("id", path), 0).text
        assert all(made[form] in shown.split() for form in ("id", "hex", "short")), shown
        before = read(path)
        expect(p2p("keygen", path), 1, path[-12:])
        assert read(path) == before
        expect(p2p("keygen", os.path.join(d, "no", "key")), 1, "no/key")
        assert os.listdir(d) == ["key"]


def test_id_of_a_published_key():
    with folder() as d:
        path = write(os.path.join(d, "key"), b"p2p-key-v1 " + bytes(range(32)).hex().encode() + b"\n")
        os.chmod(path, 0o600)
        shown = expect(p2p("id", path, "--json"), 0).json()
        assert shown == {"id": "yqooxx9u3aemh8mo5wcqq16yufu6jitouq1o4za751dger1igghy",
                         "hex": "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
                         "short": "03a107bff3"}, shown


def test_bad_key_files():
    with folder() as d:
        path = os.path.join(d, "key")
        make_key(path)
        os.chmod(path, 0o644)
        expect(p2p("id", path), 1, "key")
        expect(p2p("serve", d, "--key", path), 1, "key")
        os.chmod(path, 0o600)
        expect(p2p("id", path), 0)
        text = read(path)
        for bad in (b"", text[:-10], text.replace(b"v1", b"v9"), b"\0" * 100, text + text):
            write(path, bad)
            expect(p2p("id", path), 1, "key")
        expect(p2p("id", os.path.join(d, "none")), 1, "none")
        expect(p2p("id", d), 1)
        if os.geteuid() != 0:
            os.chmod(path, 0)
            expect(p2p("id", path), 1, "key")


# ---- serve and get ----------------------------------------------------------------------------------

def test_list_and_get():
    names = {"a.wav": "audio/wav", "b c.mp3": "audio/mpeg", "Ünï.flac": "audio/flac", "100%.txt": "text/plain",
             'quote".ogg': "audio/ogg", "empty": "application/octet-stream", "what?.txt": "text/plain"}
    with folder() as d:
        for i, name in enumerate(names):
            write(os.path.join(d, name), b"" if name == "empty" else SOUND[i:])
        write(os.path.join(d, ".secret"), b"no")
        write(os.path.join(os.fsencode(d), b"bad\xff.wav"), b"no")
        write(os.path.join(d, "line\nbreak"), b"no")
        os.mkdir(os.path.join(d, "sub"))
        os.mkfifo(os.path.join(d, "fifo"))
        os.symlink("/etc/passwd", os.path.join(d, "link"))
        os.symlink("a.wav", os.path.join(d, "near"))
        with serving(d) as s:
            tracks = expect(p2p("get", s.ticket, "/tracks"), 0).json()
            assert [t["name"] for t in tracks] == sorted(names, key=os.fsencode), tracks
            assert all(t["type"] == names[t["name"]] for t in tracks), tracks
            for t in tracks:
                escaped = t["name"].replace("%", "%25").replace("?", "%3f")
                result = expect(p2p("get", s.ticket, "/tracks/" + escaped), 0)
                assert result.out == read(os.path.join(d, t["name"])), t
                assert len(result.out) == t["size"], t
            for name in (".secret", "link", "near", "sub", "fifo", "bad%ff.wav", "nothing", "%2e%2e", ".."):
                result = p2p("get", s.ticket, "/tracks/" + name)
                assert result.code in (1, 2) and not result.out, (name, result)
            expect(p2p("get", s.ticket, "/tracks/link"), 1, "404")


def test_unknown_route_method_and_path():
    with folder() as d, serving(d) as s:
        expect(p2p("get", s.ticket, "/nowhere"), 1, "404", "/nowhere")
        expect(p2p("call", "POST", s.ticket, "/tracks"), 1, "405")
        for path, word in (("tracks", "/"), ("/tracks/../key", ".."), ("/tracks/%2e%2e/key", ".."),
                           ("/tracks/./a", "."), ("/tracks/%zz", "%25"), ("/a%0ab", "control"),
                           ("/a%00b", "control"), ("/a%ffb", "UTF-8"), ("/" + "x" * 2000, "longer")):
            expect(p2p("get", s.ticket, path), 2, word)
        assert expect(p2p("call", "GET", s.ticket, "/ping"), 0).out == b""


def test_range():
    with folder() as d:
        write(os.path.join(d, "a.wav"), SOUND)
        with serving(d) as s:
            for value, first, last in (("bytes=0-9", 0, 9), ("bytes=-5", len(SOUND) - 5, len(SOUND) - 1),
                                       ("bytes=1000-", 1000, len(SOUND) - 1)):
                r = expect(p2p("get", s.ticket, "/tracks/a.wav", "--header", "range: " + value), 0)
                assert r.out == SOUND[first:last + 1], (value, len(r.out))
                r = expect(p2p("call", "GET", s.ticket, "/tracks/a.wav", "--header", "range: " + value,
                               "--json"), 0).json()
                headers = {h["name"]: h["value"] for h in r["headers"]}
                assert r["status"] == 206, r["status"]
                assert headers["content-range"] == f"bytes {first}-{last}/{len(SOUND)}", headers
                assert headers["content-length"] == str(last + 1 - first), headers
                assert headers["content-type"] == "audio/wav", headers
            expect(p2p("get", s.ticket, "/tracks/a.wav", "--header", "range: bytes=99999999-"), 1, "416")


def test_output_file():
    with folder() as d, folder() as home:
        write(os.path.join(d, "a.wav"), SOUND)
        target = write(os.path.join(home, "out.wav"), b"old")
        with serving(d) as s:
            result = expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", target), 0)
            assert read(target) == SOUND and not result.out
            assert os.listdir(home) == ["out.wav"], os.listdir(home)
            mode = os.stat(target).st_mode
            assert stat.S_IMODE(mode) == 0o666 & ~umask(), oct(mode)
            expect(p2p("get", s.ticket, "/tracks/none", "-o", target), 1, "404")
            assert read(target) == SOUND and os.listdir(home) == ["out.wav"]
            link = os.path.join(home, "link")
            os.symlink(target, link)
            expect(p2p("get", s.ticket, "/tracks", "-o", link), 0)
            assert os.path.islink(link) and read(target).startswith(b"[")
            expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", home), 1, "directory")
            expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", home + "/no/out"), 1, "no/out")
            expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", "/dev/null"), 0)
            assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
            said = expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", target, "--json"), 0).json()
            assert (said["status"], said["bytes"], said["type"]) == (200, len(SOUND), "audio/wav"), said


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_full_disk():
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

    with folder() as d, folder() as home:
        write(os.path.join(d, "a.wav"), SOUND)
        target = write(os.path.join(home, "out.wav"), b"old")
        with serving(d) as s:
            expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", target, preexec_fn=limit), 1, "out.wav")
            assert read(target) == b"old" and os.listdir(home) == ["out.wav"], os.listdir(home)
            expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", home + "/new", preexec_fn=limit), 1, "new")
            assert os.listdir(home) == ["out.wav"], os.listdir(home)
            expect(p2p("get", s.ticket, "/tracks/a.wav", "-o", "/dev/full"), 1, "/dev/full")
            with open("/dev/full", "wb") as full:
                done = subprocess.run([P2P, "get", s.ticket, "/tracks/a.wav"], stdout=full,
                                      stderr=subprocess.PIPE, timeout=60, check=False)
            assert done.returncode == 1 and b"stdout" in done.stderr, done


def test_reader_that_leaves():
    with folder() as d:
        write(os.path.join(d, "a.wav"), SOUND * 20)
        with serving(d) as s:
            get = subprocess.Popen([P2P, "get", s.ticket, "/tracks/a.wav"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            assert get.stdout.read(100) == SOUND[:100]
            get.stdout.close()
            assert get.wait(timeout=10) == 1
            assert b"stdout" in get.stderr.read()
            get.stderr.close()


def test_file_that_shrinks():
    with folder() as d, folder() as home:
        path = os.path.join(d, "a.wav")
        with open(path, "wb") as out:
            out.truncate(400 << 20)
        with serving(d) as s:
            get = subprocess.Popen([P2P, "get", s.ticket, "/tracks/a.wav", "-o", os.path.join(home, "x")],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            end = time.monotonic() + 10
            while not any(os.stat(os.path.join(home, f)).st_size for f in os.listdir(home)):
                assert time.monotonic() < end, "nothing arrived"
                time.sleep(0.01)
            os.truncate(path, 1000)
            _, err = get.communicate(timeout=30)
            assert get.returncode == 1 and b"broke off" in err, err
            assert os.listdir(home) == [], os.listdir(home)


def terminal(command, stdout_too):
    """Runs with stderr (and stdout) on a terminal; what the terminal got, and the exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stderr=theirs, stdout=theirs if stdout_too else subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL)
    os.close(theirs)
    got = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        got += piece
    os.close(ours)
    return got, process.wait(timeout=10)


def test_progress_only_on_a_terminal():
    with folder() as d:
        key = os.path.join(d, ".key")
        make_key(key)
        write(os.path.join(d, "a.wav"), SOUND)
        with serving(d) as s:
            command = [P2P, "get", s.ticket, "/tracks/a.wav", "--key", key]
            got, code = terminal(command, False)
            assert code == 0 and b"100 %" in got, got
            result = expect(p2p(*command[1:]), 0)
            assert result.err == "" and result.out == SOUND, result.err
            result = expect(p2p(*command[1:-2]), 0, "fresh", "NodeId")
            assert len(result.err.splitlines()) == 1, result.err


def test_a_peers_bytes_on_a_terminal():
    with folder() as d:
        write(os.path.join(d, "evil.txt"), "gr\u00fcn \x1b[31m\x07 \u202e end\r\n".encode() + b"\xff\n")
        with serving(d) as s:
            got, code = terminal([P2P, "get", s.ticket, "/tracks/evil.txt"], True)
            assert code == 0 and "grün".encode() in got, got
            assert b"\x1b" not in got and b"\x07" not in got and b"\xff" not in got, got
            assert "\u202e".encode() not in got and b"\\x1b[31m\\x07" in got, got


# ---- tickets, addresses, who may connect --------------------------------------------------------------

def test_damaged_tickets():
    with folder() as d, serving(d) as s:
        ticket = s.ticket
    body = ticket_body(ticket)
    assert ticket_make(body) == ticket, "the test's own encoder differs from the tool's"
    swapped = ticket[:30] + ("y" if ticket[30] != "y" else "b") + ticket[31:]
    for bad in (ticket[:-1], ticket[:40], ticket[:-1] + ("y" if ticket[-1] != "y" else "b"), swapped, ticket + "y",
                "", "p2p1", "hello", ticket.upper(), "p2p2" + ticket[4:], ticket_make(body[:-3]),
                ticket_make(body + b"x")):
        for args in (["get", bad, "/"], ["ping", bad], ["call", "GET", bad, "/"]):
            expect(p2p(*args), 2, "ticket")
    expect(p2p("get", swapped, "/"), 2, "checksum")
    expect(p2p("get", ticket_make(b"\x63" + body[1:]), "/"), 2, "version")
    expect(p2p("get", ticket_make(body[:2] + bytes(32) + body[34:]), "/"), 2, "its id")


def test_ticket_has_the_address():
    with folder() as d:
        with serving(d) as s:
            body = ticket_body(s.ticket)
            assert body[34] == 1 and body[35:40] == bytes([4, 127, 0, 0, 1]), body
        with running(P2P, "serve", d) as s:
            assert ticket_body(s.ticket)[34] >= 1
            expect(p2p("get", s.ticket, "/tracks"), 0)


def test_serve_errors():
    with folder() as d:
        expect(p2p("serve", os.path.join(d, "none")), 1, "none", "directory")
        expect(p2p("serve", write(os.path.join(d, "file"), b"")), 1, "file", "directory")
        with serving(d) as s:
            port = ticket_port(s.ticket)
            expect(p2p("serve", d, "--listen", f"127.0.0.1:{port}"), 1, str(port))
        expect(p2p("serve", d, "--listen", "203.0.113.7:9"), 1, "203.0.113.7:9")


def test_nobody_there():
    with folder() as d:
        with serving(d) as s:
            ticket = s.ticket
        started = time.monotonic()
        expect(p2p("get", ticket, "/tracks", "--timeout", "2"), 1, "no answer", "127.0.0.1:")
        assert 1.5 < time.monotonic() - started < 5
        expect(p2p("ping", ticket, "--timeout", "1"), 1, "no answer")


def test_another_key_there_is_silent():
    with folder() as d, serving(d) as s:
        other = ticket_body(s.ticket)
        key = os.path.join(d, ".key")
        made = expect(p2p("keygen", key, "--json"), 0).json()["hex"]
        ticket = ticket_make(other[:2] + bytes.fromhex(made) + other[34:])
        expect(p2p("get", ticket, "/tracks", "--timeout", "2"), 1, "no answer")
        expect(p2p("get", s.ticket, "/tracks"), 0)


def test_allow():
    with folder() as d, folder() as keys:
        ids = {name: make_key(os.path.join(keys, name)) for name in ("alice", "bob", "eve")}
        with serving(d, "--allow", ids["alice"], "--allow", ids["bob"]) as s:
            s.wait_for(ids["bob"])
            for name in ("alice", "bob"):
                expect(p2p("get", s.ticket, "/tracks", "--key", os.path.join(keys, name)), 0)
            expect(p2p("get", s.ticket, "/tracks", "--key", os.path.join(keys, "eve")), 1, "--allow " + ids["eve"])
            expect(p2p("get", s.ticket, "/tracks"), 1, "refuses")
            assert "whoever" not in s.said()
        with serving(d) as s:
            s.wait_for("whoever holds the ticket may connect")


def test_serve_key_is_kept():
    with folder() as d, folder() as keys:
        node_id = make_key(os.path.join(keys, "key"))
        for _ in range(2):
            with serving(d, "--key", os.path.join(keys, "key"), "--json") as s:
                first, last = s.gauges()
            assert first["id"] == node_id and first["ticket"] == s.ticket and first["allow_anyone"] is True
            assert last["event"] == "stopped" and last["p2p_arena_used_bytes"] > 0, last


# ---- call and ping --------------------------------------------------------------------------------------

def test_call():
    with folder() as d, running(os.path.join(BUILD, "examples", "music_service"), LOOPBACK) as s:
        body, word = write(os.path.join(d, "body"), b"70"), ["--header", "authorization: open sesame"]
        assert expect(p2p("call", "GET", s.ticket, "/music/tracks/2"), 0).json()["title"] == "Fugue"
        expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", body, *word), 0)
        expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", "-", *word, stdin=b"7"), 0)
        bad = expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", "-", *word, stdin=b"700"), 1, "400")
        assert bad.json() == {"error": "0 to 100"}
        expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", body), 1, "401")
        expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", "-", *word, stdin=b"x" * 300000), 1, "413")
        expect(p2p("call", "GET", s.ticket, "/music/tracks/9"), 1, "404")
        started = time.monotonic()
        played = expect(p2p("call", "POST", s.ticket, "/music/play/1", "--json"), 0).json()
        assert time.monotonic() - started > 0.25 and played["status"] == 200
        assert played["body"] == '{"played":true}' and {"name": "content-type", "value": "application/json"} \
            in played["headers"], played
        failed = p2p("call", "GET", s.ticket, "/music/tracks/9", "--json")
        assert failed.code == 1 and failed.json()["status"] == 404, failed
        expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", os.path.join(d, "none")), 1, "none")
        expect(p2p("call", "PUT", s.ticket, "/music/volume", "--body", d), 1, "directory")


def test_json_of_bytes_that_are_no_text():
    with folder() as d:
        write(os.path.join(d, "a"), b"\x00\xff\x80\"\n")
        with serving(d) as s:
            r = expect(p2p("call", "GET", s.ticket, "/tracks/a", "--json"), 0).json()
            assert bytes.fromhex(r["body_hex"]) == b"\x00\xff\x80\"\n", r


def test_ping():
    with folder() as d, serving(d) as s:
        r = expect(p2p("ping", s.ticket, "-c", "3", "-i", "50", "--json"), 0).json()
        assert r["sent"] == r["received"] == 3 and 0 < r["min_us"] <= r["avg_us"] <= r["max_us"] < 1000000, r
        assert 0 < r["connect_us"] < 2000000, r
        shown = expect(p2p("ping", s.ticket, "-c", "2", "-i", "1"), 0).text
        assert "2 sent, 2 answered, min" in shown and "127.0.0.1:" in shown, shown
    with running(os.path.join(BUILD, "examples", "music_service"), LOOPBACK) as s:
        assert "status 404" in expect(p2p("ping", s.ticket, "-c", "1"), 0).text


# ---- examples ---------------------------------------------------------------------------------------------

def test_basic_over_udp_and_in_the_simulator():
    for name in ("basic", "basic_sim"):
        done = subprocess.run([os.path.join(BUILD, "examples", name)], stdout=subprocess.PIPE, timeout=30, check=True)
        assert b"bob reads: hello, bob\nalice reads: hello, alice\n" in done.stdout, done


def test_demo():
    done = subprocess.run([os.path.join(ROOT, "tools", "demo.sh")], stdout=subprocess.PIPE, timeout=60, check=True)
    said = done.stdout.decode()
    hashes = [line.split()[1] for line in said.splitlines() if line.startswith("sha256")]
    assert len(hashes) == 3 and len(set(hashes)) == 1 and "have the same bytes" in said, said
    assert all(word in said for word in ("streamer ", "speaker ", "path ", "round trip ", "Mbit/s")), said


# ---- how it ends ------------------------------------------------------------------------------------------

def slow_get(ticket):
    """A get whose output nobody reads: it is in the middle of the body until it is told to end."""
    get = subprocess.Popen([P2P, "get", ticket, "/tracks/big"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert get.stdout.read(1000) == bytes(1000)
    return get


def big_file(d):
    with open(os.path.join(d, "big"), "wb") as out:
        out.truncate(1 << 30)


def test_ctrl_c_of_the_server_is_learned_at_once():
    for number in (signal.SIGINT, signal.SIGTERM):
        with folder() as d:
            big_file(d)
            with serving(d) as s:
                get = slow_get(s.ticket)
                started = time.monotonic()
                s.process.send_signal(number)
                _, err = get.communicate(timeout=10)
                assert time.monotonic() - started < 1.0, time.monotonic() - started
                assert get.returncode == 1 and err.strip(), err
                assert s.process.wait(timeout=2) == 0


def test_ctrl_c_of_the_client_is_learned_at_once():
    with folder() as d, folder() as home:
        big_file(d)
        with serving(d, "-v") as s:
            get = slow_get(s.ticket)
            s.wait_for("connected")
            get.send_signal(signal.SIGINT)
            s.wait_for(" left", 1.0)
            assert get.wait(timeout=5) == 1 and b"interrupted" in get.stderr.read()
            get.stdout.close()
            get.stderr.close()
            target = os.path.join(home, "out")
            get = subprocess.Popen([P2P, "get", s.ticket, "/tracks/big", "-o", target], stderr=subprocess.PIPE)
            end = time.monotonic() + 5
            while not os.listdir(home):
                assert time.monotonic() < end
                time.sleep(0.01)
            get.send_signal(signal.SIGINT)
            assert get.wait(timeout=5) == 1 and os.listdir(home) == [], os.listdir(home)
            get.stderr.close()


def test_junk_gets_no_answer():
    with folder() as d, serving(d) as s:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.connect(("127.0.0.1", ticket_port(s.ticket)))
            for first in range(256):
                for size in (0, 8, 25, 200, 511):
                    out.send(bytes([first]) + os.urandom(size))
            out.settimeout(0.5)
            try:
                raise AssertionError(f"an answer to junk: {out.recv(2000)!r}")
            except socket.timeout:
                pass
        expect(p2p("get", s.ticket, "/tracks"), 0)


main(globals())
