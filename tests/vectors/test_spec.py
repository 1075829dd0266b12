#!/usr/bin/env python3
"""The vectors of docs/SPEC.md, section 17, made and read by an implementation of that page alone.

    tests/vectors/test_spec.py           checks the vectors in docs/SPEC.md
    tests/vectors/test_spec.py --print   prints them, for that page

Nothing here comes from p2p.h; tests/unit/test_vectors.c holds p2p.h against the same vectors. Ed25519 is libsodium's."""
import ctypes
import ctypes.util
import hashlib
import hmac
import os
import re
import sys
import textwrap

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "SPEC.md")
sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")


# ---- section 1 and 2: notation, names

class Malformed(Exception):
    pass


def varint(n):
    for code, size in enumerate((1, 2, 4, 8)):
        if n < 1 << (8 * size - 2):
            return (n | code << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(n)


def text(data):
    return varint(len(data)) + data


def endpoint(family, address, port):
    return bytes([family]) + address + port.to_bytes(2, "big")


def z32(data):
    bits = "".join(f"{b:08b}" for b in data)
    bits += "0" * (-len(bits) % 5)
    return "".join("ybndrfg8ejkmcpqxot1uwisza345h769"[int(bits[i:i + 5], 2)]
                   for i in range(0, len(bits), 5))


def siphash_1_3(key, data):
    mask = (1 << 64) - 1
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
         k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def turn(x, n):
        return (x << n | x >> (64 - n)) & mask

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & mask
            v[2] = (v[2] + v[3]) & mask
            v[1] = turn(v[1], 13) ^ v[0]
            v[3] = turn(v[3], 16) ^ v[2]
            v[0] = turn(v[0], 32)
            v[2] = (v[2] + v[1]) & mask
            v[0] = (v[0] + v[3]) & mask
            v[1] = turn(v[1], 17) ^ v[2]
            v[3] = turn(v[3], 21) ^ v[0]
            v[2] = turn(v[2], 32)

    tail = len(data) % 8
    whole = data[:len(data) - tail]
    last = data[len(data) - tail:].ljust(7, b"\0") + bytes([len(data) & 255])
    for i in range(0, len(whole), 8):
        word = int.from_bytes(whole[i:i + 8], "little")
        v[3] ^= word
        rounds(1)
        v[0] ^= word
    word = int.from_bytes(last, "little")
    v[3] ^= word
    rounds(1)
    v[0] ^= word
    v[2] ^= 255
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def ticket(node_id, addresses, relay=None):
    body = b"\x01" + bytes([1 if relay else 0]) + node_id
    if relay:
        body += relay[0] + relay[1]
    body += bytes([len(addresses)]) + b"".join(addresses)
    return "p2p1" + z32(body + (siphash_1_3(bytes(16), body) >> 32).to_bytes(4, "big"))


def public_key(seed):
    out, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    sodium.crypto_sign_seed_keypair(out, secret, seed)
    return out.raw


def sign(seed, message):
    out, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    sodium.crypto_sign_seed_keypair(out, secret, seed)
    signature = ctypes.create_string_buffer(64)
    sodium.crypto_sign_detached(signature, None, message, ctypes.c_ulonglong(len(message)), secret)
    return signature.raw


# ---- sections 3 and 4: datagrams and keys

def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def keys(network, server):
    root = sha256(b"p2p.h/envelope/v1\0", bytes([len(network)]), network, server)
    return root, mac(root, b"psk"), mac(root, b"mac1")


def envelope(kind, session, tag_key, rest):
    return bytes([kind]) + session + mac(tag_key, bytes([kind]) + session + rest)[:16] + rest


# ---- section 8: HELLO and AUTH

def hello(versions, alpn, capabilities, params):
    return (varint(len(versions)) + b"".join(map(varint, versions)) +
            varint(len(alpn)) + b"".join(map(text, alpn)) + varint(capabilities) +
            varint(len(params)) + b"".join(varint(i) + varint(v) for i, v in params))


def auth_text(server, digest, signer, peer, binding):
    return b"p2p.h/auth/v1\0" + bytes([1 if server else 0]) + digest + signer + peer + binding


# ---- section 9: reading packets

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        if n > self.left():
            raise Malformed("cut")
        self.at += n
        return self.data[self.at - n:self.at]

    def varint(self, most=(1 << 62) - 1):
        if not self.left():
            raise Malformed("cut")
        size = 1 << (self.data[self.at] >> 6)
        raw = self.take(size)
        value = int.from_bytes(raw, "big") & ((1 << (8 * size - 2)) - 1)
        if varint(value) != raw or value > most:
            raise Malformed("varint")
        return value

    def text(self, most):
        return self.take(self.varint(most))

    def stream(self):
        value = self.varint()
        if value >> 1 & 3 == 3 and value >> 3:
            raise Malformed("messages stream with a number")
        return value

    def endpoint(self):
        family = self.take(1)[0]
        if family not in (4, 6):
            raise Malformed("family")
        return family, self.take(4 if family == 4 else 16), int.from_bytes(self.take(2), "big")


def read_ack(r, ecn):
    largest, delay, more = r.varint(), r.varint(), r.varint(31)
    low = largest - r.varint(largest)
    ranges = [(low, largest)]
    for _ in range(more):
        high = low - r.varint() - 2
        low = high - r.varint()
        if low < 0:
            raise Malformed("range")
        ranges.append((low, high))
    counts = [r.varint() for _ in range(3)] if ecn else None
    return ["ACK", delay, ranges, counts]


def read_stream(r, bits):
    stream, offset = r.stream(), 0
    if bits & 4:
        offset = r.varint()
        if not offset:
            raise Malformed("offset 0")
    data = r.take(r.varint() if bits & 2 else r.left())
    if offset + len(data) > (1 << 62) - 1:
        raise Malformed("offset")
    return ["STREAM", stream, offset, data, bits & 1]


def read_close(r):
    origin, code, reason = r.varint(1), r.varint(2**32 - 1), r.text(96)
    try:
        return ["CLOSE", origin, code, reason.decode("utf-8")]
    except UnicodeDecodeError as bad:
        raise Malformed("UTF-8") from bad


def read_hello(body):
    r = Reader(body)
    versions = [r.varint(2**32 - 1) for _ in range(r.varint(8))]
    alpn = [r.text(32) for _ in range(r.varint(8))]
    if not versions or not alpn or not all(alpn):
        raise Malformed("HELLO without version or ALPN")
    capabilities, params, before = r.varint(), {}, 0
    for _ in range(r.varint(32)):
        key, value = r.varint(), r.varint(2**62 - 1)
        if key <= before or not value or (7 <= key <= 9 and value > 2**59):
            raise Malformed("parameter")
        params[key] = value
        before = key
    if r.left():
        raise Malformed("bytes behind the HELLO")
    return versions, alpn, capabilities, params


FRAMES = {
    0x01: lambda r: ["PING"],
    0x02: lambda r: read_ack(r, False),
    0x03: lambda r: read_ack(r, True),
    0x04: lambda r: ["RESET_STREAM", r.stream(), r.varint(2**32 - 1), r.varint()],
    0x05: lambda r: ["STOP_SENDING", r.stream(), r.varint(2**32 - 1)],
    0x10: lambda r: ["MAX_DATA", r.varint()],
    0x11: lambda r: ["MAX_STREAM_DATA", r.stream(), r.varint()],
    0x12: lambda r: ["MAX_STREAMS", r.varint(2), r.varint(2**59)],
    0x14: lambda r: ["DATA_BLOCKED", r.varint()],
    0x15: lambda r: ["STREAM_DATA_BLOCKED", r.stream(), r.varint()],
    0x16: lambda r: ["STREAMS_BLOCKED", r.varint(2), r.varint(2**59)],
    0x1a: lambda r: ["PATH_CHALLENGE", r.take(8)],
    0x1b: lambda r: ["PATH_RESPONSE", r.take(8), r.endpoint()],
    0x1c: read_close,
    0x20: lambda r: ["HELLO", r.take(r.varint())],
    0x21: lambda r: ["AUTH", r.take(32), r.take(64)],
    0x22: lambda r: ["DONE"],
    0x30: lambda r: ["DATAGRAM", r.take(r.left())],
    0x31: lambda r: ["DATAGRAM", r.take(r.varint())],
}


def read_packet(data):
    r = Reader(data)
    frames = [r.varint()]
    while r.left():
        kind = r.varint()
        if kind == 0:
            continue
        if 0x40 <= kind <= 0x7f:
            r.take(r.varint())
        elif 0x08 <= kind <= 0x0f:
            frames.append(read_stream(r, kind & 7))
        elif kind in FRAMES:
            frames.append(FRAMES[kind](r))
        else:
            raise Malformed("type")
    return frames


# ---- section 12: requests

def header_table(page):
    rows = re.findall(r"(\d+) \| `([a-z0-9-]+)`", page)
    return {name: int(n) for n, name in rows}


def headers(table, pairs):
    out = varint(len(pairs))
    for name, value in pairs:
        out += varint(table[name]) if name in table else varint(0) + text(name.encode())
        out += text(value)
    return out


# ---- section 17

def make(page):
    v = {}
    v["client_seed"], v["server_seed"] = bytes(range(32)), bytes(range(32, 64))
    client = v["client_id"] = public_key(v["client_seed"])
    server = v["server_id"] = public_key(v["server_seed"])
    v["server_id_text"] = z32(server).encode()
    v["ticket_short"] = ticket(server, []).encode()
    v["ticket_long"] = ticket(
        server,
        [endpoint(4, bytes([192, 0, 2, 1]), 8800),
         endpoint(6, bytes.fromhex("fe80") + bytes(13) + b"\x01", 8801) + (3).to_bytes(4, "big")],
        (client, endpoint(4, bytes([198, 51, 100, 7]), 443))).encode()
    root, v["psk"], tag_key = keys(b"p2p", server)
    v["root"], v["tag_key"] = root, tag_key
    session, cookie = bytes(range(0xa0, 0xa8)), bytes(range(0xc0, 0xd0))
    v["session_id"], v["cookie"], v["records"] = session, cookie, bytes(range(16))
    v["envelope_b0"] = envelope(0xb0, session, tag_key, v["records"])
    v["envelope_b1"] = envelope(0xb1, session, tag_key, v["records"])
    v["retry_b2"] = envelope(0xb2, session, tag_key, cookie)
    v["envelope_b3"] = envelope(0xb3, session, tag_key, cookie + v["records"])
    v["hello_server"] = hello([1], [b"p2p"], 0, [
        (1, 1162), (2, 262144), (3, 16384), (4, 16384), (5, 16384), (6, 65536), (7, 4), (8, 4),
        (9, 8), (10, 1048576), (11, 1152), (12, 30000000)])
    v["hello_client"] = hello([1], [b"music", b"p2p"], 0, [
        (1, 1162), (2, 131072), (4, 8192), (12, 20000000), (99, 7)])
    v["binding"] = bytes(range(0x80, 0xa0))
    v["auth_text_server"] = auth_text(True, sha256(v["hello_server"]), server, bytes(32),
                                      v["binding"])
    v["auth_text_client"] = auth_text(False, sha256(v["hello_client"], v["hello_server"]), client,
                                      server, v["binding"])
    v["signature_server"] = sign(v["server_seed"], v["auth_text_server"])
    v["signature_client"] = sign(v["client_seed"], v["auth_text_client"])
    v["packet_proof"] = (varint(0) + varint(0x20) + text(v["hello_server"]) + varint(0x21) +
                         server + v["signature_server"])
    # 5 and 4, not 3, 2 to 0; then stream 8, bytes 100 to 104, the last ones
    v["packet_ack_stream"] = (varint(300) + varint(2) + varint(5) + varint(800) + varint(1) +
                              varint(1) + varint(0) + varint(2) +
                              varint(0x0f) + varint(8) + varint(100) + text(b"hello"))
    v["packet_stream_to_end"] = varint(301) + varint(0x08) + varint(4) + b"the rest"
    v["packet_flow"] = (varint(16384) + varint(1) + varint(0x10) + varint(2**30) + varint(0x11) +
                        varint(12) + varint(65536) + varint(0x12) + varint(2) + varint(100) +
                        varint(0x04) + varint(8) + varint(500) + varint(105) + varint(0x05) +
                        varint(9) + varint(7))
    v["packet_mixed"] = (varint(5) + bytes(3) + varint(0x40) + text(b"ignored") + varint(0x31) +
                         text(b"live") + varint(0x1a) + bytes(range(8)) + varint(0x1b) +
                         bytes(range(8)) + endpoint(4, bytes([203, 0, 113, 9]), 8800) +
                         varint(0x22) + varint(0x30) + b"audio")
    v["packet_close"] = varint(9) + varint(0x1c) + varint(1) + varint(70000) + text(b"bye")
    table = header_table(page)
    request = (varint(0) + text(b"/tracks/42") + text(b"from=1") +
               headers(table, [("range", b"bytes=0-99"), ("x-room", b"kitchen")]))
    answer = varint(206) + headers(table, [("content-length", b"100")])
    v["request_head"], v["answer_head"] = text(request), text(answer)
    return v


# Packets that a receiver must refuse whole (number 0 unless it is the fault), and why.
REFUSED = {
    "a PING whose type is not in the shortest form": "004001",
    "a packet number that is not in the shortest form": "400001",
    "an unknown type": "0017",
    "a type beyond the extensions": "004080",
    "an ACK whose first range begins below 0": "000205000006",
    "an ACK whose second range begins below 0": "0002050001030001",
    "an ACK with 33 ranges": "000241000020" + "00" * 65,
    "a STREAM with an offset of 0": "000c040061",
    "a STREAM longer than the packet": "000a040561",
    "a STREAM beyond 2^62 - 1": "000c04ffffffffffffffff61",
    "a messages stream with a number": "00080e61",
    "MAX_STREAMS of kind 3": "00120301",
    "more than 2^59 streams": "001200c800000000000001",
    "a CLOSE of origin 2": "001c020000",
    "a CLOSE whose reason is no UTF-8": "001c000002c328",
    "a CLOSE with a reason of 97 bytes": "001c00004061" + "61" * 97,
    "a PATH_RESPONSE with an address of family 5": "001b" + "00" * 8 + "057f0000010001",
    "an AUTH that is cut": "0021" + "00" * 95,
    "an extension longer than the packet": "0040400200",
}


def stored(page):
    block = page[page.index("## 17"):].split("```")[1]
    out, name = {}, None
    for line in block.splitlines():
        if line.startswith("    ") and name:
            out[name] += line.strip()
        elif " =" in line:
            name, value = line.split(" =", 1)
            out[name] = value.strip()
    return out


def shown(name, value):
    is_text = name.endswith("_text") or name.startswith("ticket")
    return value.decode() if is_text else value.hex()


def print_page(vectors):
    for name, value in vectors.items():
        lines = textwrap.wrap(shown(name, value), 96)
        if len(lines) == 1 and len(name) + len(lines[0]) < 104:
            print(f"{name} = {lines[0]}")
        else:
            print(f"{name} =")
            for line in lines:
                print("    " + line)
    for number, (why, value) in enumerate(REFUSED.items(), 1):
        lines = textwrap.wrap(value, 96)
        print(f"refused_{number} = {lines[0]}" if len(lines) == 1 else
              f"refused_{number} =\n" + "\n".join("    " + x for x in lines))


def main():
    with open(SPEC, encoding="utf-8") as f:
        page = f.read()
    vectors = make(page)
    if "--print" in sys.argv:
        print_page(vectors)
        return 0
    passed = failed = 0

    def check(what, good):
        nonlocal passed, failed
        passed, failed = passed + bool(good), failed + (not good)
        if not good:
            print("failed:", what)

    have = stored(page)
    for name, value in vectors.items():
        check(name, have.pop(name, None) == shown(name, value))
    for number, (why, value) in enumerate(REFUSED.items(), 1):
        check(f"refused_{number} is there", have.pop(f"refused_{number}", None) == value)
        try:
            read_packet(bytes.fromhex(value))
            check(why, False)
        except Malformed:
            check(why, True)
        check(f"the page explains refused_{number}", f"{number}. {why}" in page)
    check("nothing else is there", not have)
    for name, value in vectors.items():
        if name.startswith("packet"):
            check(name + " is read", len(read_packet(value)) > 1)
            cuts = 0
            for size in range(len(value)):
                try:
                    read_packet(value[:size])
                except Malformed:
                    cuts += 1
            check(name + " is malformed when it is cut within a field", cuts > 0)
    ack = read_packet(vectors["packet_ack_stream"])
    check("ranges", ack[1] == ["ACK", 800, [(4, 5), (0, 2)], None])
    check("stream", ack[2] == ["STREAM", 8, 100, b"hello", 1])
    for side in ("hello_server", "hello_client"):
        check(side + " is read", read_hello(vectors[side])[0] == [1])
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
