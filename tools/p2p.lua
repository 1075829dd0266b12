-- p2p.lua: Wireshark and tshark read p2p.h's datagrams (docs/SPEC.md), from a simulated run or a network.
--
--     wireshark -X lua_script:tools/p2p.lua run.pcapng
--     tshark -X lua_script:tools/p2p.lua -o tls.keylog_file:run.keys -r run.pcapng
--
-- or put this file into the folder of personal Lua plugins (Help, About Wireshark, Folders).
--
-- The null channel of the simulator is in clear. Over DTLS what follows the 9, 25 or 41 bytes of
-- p2p.h goes to Wireshark's own DTLS dissector. With a key log (the preference of TLS, or p2p.keylog)
-- the packets are opened here: Wireshark leaves the epoch out of the nonce of ChaCha20-Poly1305 over
-- DTLS 1.2 (seen in 4.0), so it cannot. A version that can hands them back, and they are shown once.
-- Filters: p2p.session, p2p.packet, p2p.frame.type == 8, p2p.stream.id, p2p.malformed, ...
--
-- Every read goes through a reader that knows where its bytes end. What is malformed is marked and
-- left alone; no bytes of a capture raise an error of Lua's.

local p2p = Proto("p2p", "p2p.h")

local kinds = {
    [0xb0] = "envelope to the server", [0xb1] = "envelope to the client", [0xb2] = "RETRY",
    [0xb3] = "envelope with cookie", [0xb4] = "data to the server", [0xb5] = "data to the client",
}
local null_records = {
    [1] = "client nonce", [2] = "server nonce", [3] = "client finished", [4] = "server finished",
}
local stream_kinds = { [0] = "bidirectional", [1] = "unidirectional", [2] = "request", [3] = "messages" }
local origins = { [0] = "p2p.h", [1] = "application" }
local parameters = {
    [1] = "max_packet", [2] = "max_data", [3] = "max_stream_data, theirs", [4] = "max_stream_data, ours",
    [5] = "max_stream_data, one way", [6] = "max_stream_data, messages", [7] = "max_streams, bidirectional",
    [8] = "max_streams, unidirectional", [9] = "max_streams, requests", [10] = "message_max",
    [11] = "datagram_max", [12] = "idle_us",
}
local frame_names = {
    [0x00] = "PADDING", [0x01] = "PING", [0x02] = "ACK", [0x03] = "ACK", [0x04] = "RESET_STREAM",
    [0x05] = "STOP_SENDING", [0x10] = "MAX_DATA", [0x11] = "MAX_STREAM_DATA", [0x12] = "MAX_STREAMS",
    [0x14] = "DATA_BLOCKED", [0x15] = "STREAM_DATA_BLOCKED", [0x16] = "STREAMS_BLOCKED",
    [0x1a] = "PATH_CHALLENGE", [0x1b] = "PATH_RESPONSE", [0x1c] = "CLOSE", [0x20] = "HELLO",
    [0x21] = "AUTH", [0x22] = "DONE", [0x30] = "DATAGRAM", [0x31] = "DATAGRAM",
}
for i = 0x08, 0x0f do frame_names[i] = "STREAM" end

local f = {
    null = ProtoField.uint8("p2p.null", "Null channel of the simulator", base.HEX),
    type = ProtoField.uint8("p2p.type", "Datagram", base.HEX, kinds),
    session = ProtoField.bytes("p2p.session", "Session id"),
    tag = ProtoField.bytes("p2p.tag", "Tag"),
    cookie = ProtoField.bytes("p2p.cookie", "Cookie"),
    null_record = ProtoField.uint8("p2p.null.record", "Handshake of the null channel", base.DEC, null_records),
    null_bytes = ProtoField.bytes("p2p.null.bytes", "Nonce or checksum"),
    null_sequence = ProtoField.uint64("p2p.null.sequence", "Record"),
    null_checksum = ProtoField.bytes("p2p.null.checksum", "Checksum"),
    packet = ProtoField.uint64("p2p.packet", "Packet number"),
    frame = ProtoField.uint64("p2p.frame.type", "Frame", base.HEX),
    name = ProtoField.string("p2p.frame.name", "Name"),
    padding = ProtoField.uint32("p2p.padding", "Bytes of padding"),
    ack_largest = ProtoField.uint64("p2p.ack.largest", "Largest"),
    ack_delay = ProtoField.uint64("p2p.ack.delay", "Delay, microseconds"),
    ack_more = ProtoField.uint64("p2p.ack.more", "More ranges"),
    ack_first = ProtoField.uint64("p2p.ack.first", "First range"),
    ack_gap = ProtoField.uint64("p2p.ack.gap", "Gap"),
    ack_length = ProtoField.uint64("p2p.ack.length", "Range"),
    ack_ect0 = ProtoField.uint64("p2p.ack.ect0", "ECT(0)"),
    ack_ect1 = ProtoField.uint64("p2p.ack.ect1", "ECT(1)"),
    ack_ce = ProtoField.uint64("p2p.ack.ce", "CE"),
    stream = ProtoField.uint64("p2p.stream.id", "Stream"),
    stream_kind = ProtoField.string("p2p.stream.kind", "Kind"),
    offset = ProtoField.uint64("p2p.stream.offset", "Offset"),
    length = ProtoField.uint64("p2p.length", "Length"),
    fin = ProtoField.bool("p2p.stream.fin", "The stream ends here"),
    data = ProtoField.bytes("p2p.data", "Data"),
    max = ProtoField.uint64("p2p.max", "Maximum"),
    kind = ProtoField.uint64("p2p.kind", "Kind of streams", base.DEC),
    code = ProtoField.uint64("p2p.code", "Code"),
    final_size = ProtoField.uint64("p2p.stream.final_size", "Final size"),
    origin = ProtoField.uint64("p2p.close.origin", "Origin"),
    reason = ProtoField.string("p2p.close.reason", "Reason"),
    challenge = ProtoField.bytes("p2p.challenge", "Challenge"),
    family = ProtoField.uint8("p2p.endpoint.family", "Family"),
    ip4 = ProtoField.ipv4("p2p.endpoint.ip", "Address"),
    ip6 = ProtoField.ipv6("p2p.endpoint.ip6", "Address"),
    port = ProtoField.uint16("p2p.endpoint.port", "Port"),
    version = ProtoField.uint64("p2p.hello.version", "Version"),
    alpn = ProtoField.string("p2p.hello.alpn", "Application protocol"),
    capabilities = ProtoField.uint64("p2p.hello.capabilities", "Capabilities", base.HEX),
    parameter = ProtoField.uint64("p2p.hello.parameter", "Parameter"),
    value = ProtoField.uint64("p2p.hello.value", "Value"),
    id = ProtoField.bytes("p2p.auth.id", "NodeId"),
    signature = ProtoField.bytes("p2p.auth.signature", "Signature"),
}
p2p.fields = f
local malformed = ProtoExpert.new("p2p.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
local forged = ProtoExpert.new("p2p.forged", "Changed on the way, or forged", expert.group.CHECKSUM, expert.severity.WARN)
p2p.experts = { malformed, forged }
p2p.prefs.keylog = Pref.string("Key log", "", "CLIENT_RANDOM lines; empty: the key log of the protocol TLS")
p2p.prefs.port = Pref.uint("UDP port", 4000, "Always taken for p2p.h; on other ports it is recognized by its first bytes")

-- ---- reading ------------------------------------------------------------------------------------

-- Bytes from `at` to `stop`, not included. `why` says what was wrong; from then on nothing is read.
local VARINT_MAX, CODE_MAX, STREAMS_MAX = UInt64(0xffffffff, 0x3fffffff), UInt64(0xffffffff), UInt64(0, 2 ^ 27)

local Reader = {}
Reader.__index = Reader

local function reader(tvb, at, stop)
    return setmetatable({ tvb = tvb, at = at, stop = stop }, Reader)
end

function Reader:left() return self.stop - self.at end

function Reader:bad(why)
    self.why = self.why or why
    self.stop = self.at
    return nil
end

-- A range of n bytes, or nil.
function Reader:take(n, what)
    if self.why or n > self:left() then
        return self:bad((what or "a field") .. " goes beyond the end")
    end
    local range = self.tvb:range(self.at, n)
    self.at = self.at + n
    return range
end

function Reader:bytes(tree, field, n, what)
    if n == 0 then return true end
    local range = self:take(n, what)
    if range then tree:add(field, range) end
    return range
end

-- RFC 9000 section 16, but only the shortest form. Returns a number of Lua's, which is exact up to
-- 2^53, its bytes, and all 62 bits as a UInt64.
function Reader:varint(tree, field, what, max)
    if self.why or self:left() < 1 then return self:bad((what or "a number") .. " is missing") end
    local first = self.tvb:range(self.at, 1):uint()
    local width = math.floor(2 ^ math.floor(first / 64))
    local range = self:take(width, what or "a number")
    if not range then return nil end
    local value, whole = first % 64, UInt64(0, first % 64)
    if width < 8 then
        for i = 1, width - 1 do value = value * 256 + range:range(i, 1):uint() end
        whole = UInt64(value)
    else
        local high, low = range:range(0, 4):uint() % 2 ^ 30, range:range(4, 4):uint()
        value = high * 2 ^ 32 + low
        whole = UInt64(low, high)
    end
    if tree then tree:add(field, range, whole) end
    if width > 1 and value < 2 ^ (8 * width / 2 - 2) then return self:bad("a number that is not in its shortest form") end
    if max and whole > max then return self:bad((what or "a number") .. " holds a number that is too large") end
    return value, range, whole
end

function Reader:text(tree, field, max, what)
    local n = self:varint(nil, nil, what)
    if not n then return nil end
    if n > max then return self:bad((what or "a text") .. " is too long") end
    if n == 0 then return "" end
    local range = self:take(n, what)
    if not range then return nil end
    tree:add(field, range)
    return range:bytes():raw()
end

-- Shortest-form UTF-8 without surrogates (RFC 3629).
local function is_utf8(text)
    local at = 1
    while at <= #text do
        local first = text:byte(at)
        local size = first < 0x80 and 1 or first < 0xc2 and 0 or first < 0xe0 and 2 or first < 0xf0 and 3 or first < 0xf5 and 4 or 0
        local second = text:byte(at + 1) or 0
        if size == 0 or at + size - 1 > #text then return false end
        for i = 1, size - 1 do
            local byte = text:byte(at + i)
            if byte < 0x80 or byte > 0xbf then return false end
        end
        if (first == 0xe0 and second < 0xa0) or (first == 0xed and second > 0x9f) or
            (first == 0xf0 and second < 0x90) or (first == 0xf4 and second > 0x8f) then
            return false
        end
        at = at + size
    end
    return true
end

-- ---- frames -------------------------------------------------------------------------------------
-- Each function reads the fields of one frame into the tree and returns what the packet list shows.

local function number(value) return value and string.format("%.0f", value) or "?" end

-- Number, kind and initiator; the stream of messages is the only one of its kind.
local function read_stream_id(r, t)
    local id, range = r:varint(t, f.stream, "a stream id")
    if not id then return "?" end
    local kind = math.floor(range:range(range:len() - 1, 1):uint() / 2) % 4
    t:add(f.stream_kind, range, stream_kinds[kind]):set_generated()
    if kind == 3 and id >= 8 then r:bad("a second stream of messages") end
    return number(id)
end

-- One range below the lowest so far; nil where it would begin below 0.
local function read_ack_range(r, t, low)
    local gap, _, gap_whole = r:varint(t, f.ack_gap, "ACK")
    local length, _, length_whole = r:varint(t, f.ack_length, "ACK")
    if not length then return nil end
    local need = gap_whole + length_whole + UInt64(2)
    if need > low then return r:bad("an ACK below 0") end
    low = low - need
    return low, tostring(low) .. "-" .. tostring(low + length_whole)
end

local function read_ack(r, t, type)
    local largest, _, low = r:varint(t, f.ack_largest, "ACK")
    r:varint(t, f.ack_delay, "ACK")
    local more = r:varint(t, f.ack_more, "ACK", UInt64(31))
    local first, _, first_whole = r:varint(t, f.ack_first, "ACK", low)
    if not first then return "" end
    low = low - first_whole
    local text = " " .. tostring(low) .. "-" .. number(largest)
    for _ = 1, more do
        local range
        low, range = read_ack_range(r, t, low)
        if not low then return text end
        text = text .. "," .. range
    end
    if type == 0x03 then
        r:varint(t, f.ack_ect0, "ACK")
        r:varint(t, f.ack_ect1, "ACK")
        r:varint(t, f.ack_ce, "ACK")
    end
    return text
end

local function read_stream(r, t, type)
    local text = " " .. read_stream_id(r, t)
    local offset, length, whole, _ = 0, nil, UInt64(0), nil
    if type % 8 >= 4 then
        offset, _, whole = r:varint(t, f.offset, "STREAM")
        if offset == 0 then r:bad("an offset of 0, which is left out") end
    end
    if type % 4 >= 2 then
        length = r:varint(t, f.length, "STREAM")
    else
        length = r:left()
    end
    if type % 2 == 1 then t:add(f.fin, true):set_generated() end
    if not length or not offset then return text end
    if r:bytes(t, f.data, length, "STREAM data") and UInt64(length) > VARINT_MAX - whole then
        r:bad("a stream beyond 2^62 - 1")
    end
    return text .. " " .. number(offset) .. "+" .. number(length) .. (type % 2 == 1 and " FIN" or "")
end

local function read_datagram(r, t, type)
    local length = r:left()
    if type == 0x31 then length = r:varint(t, f.length, "DATAGRAM") or 0 end
    r:bytes(t, f.data, length, "DATAGRAM")
    return " " .. number(length)
end

local function read_reset(r, t)
    local text = " " .. read_stream_id(r, t)
    text = text .. " code " .. number(r:varint(t, f.code, "RESET_STREAM", CODE_MAX))
    r:varint(t, f.final_size, "RESET_STREAM")
    return text
end

local function read_stop(r, t)
    return " " .. read_stream_id(r, t) .. " code " .. number(r:varint(t, f.code, "STOP_SENDING", CODE_MAX))
end

local function read_max(r, t) return " " .. number(r:varint(t, f.max, "a maximum")) end

local function read_stream_max(r, t) return " " .. read_stream_id(r, t) .. read_max(r, t) end

local function read_kind_max(r, t)
    local kind = r:varint(t, f.kind, "a kind of streams", UInt64(2))
    local max = r:varint(t, f.max, "a maximum", STREAMS_MAX)
    return " " .. (stream_kinds[kind] or "?") .. " " .. number(max)
end

local function read_challenge(r, t)
    r:bytes(t, f.challenge, 8, "a challenge")
    return ""
end

local function read_response(r, t)
    r:bytes(t, f.challenge, 8, "a challenge")
    local family = r:bytes(t, f.family, 1, "an endpoint")
    if not family then return "" end
    if family:uint() == 4 then
        r:bytes(t, f.ip4, 4, "an endpoint")
    elseif family:uint() == 6 then
        r:bytes(t, f.ip6, 16, "an endpoint")
    else
        return r:bad("an endpoint that is neither IPv4 nor IPv6") or ""
    end
    r:bytes(t, f.port, 2, "an endpoint")
    return ""
end

local function read_close(r, t)
    local origin = r:varint(t, f.origin, "CLOSE", UInt64(1))
    local code = r:varint(t, f.code, "CLOSE", CODE_MAX)
    local reason = r:text(t, f.reason, 96, "a reason")
    if reason and not is_utf8(reason) then r:bad("a reason that is not UTF-8") end
    return " " .. (origins[origin] or "?") .. " " .. number(code)
end

local function read_parameter(r, t, before)
    local at = r.at
    local id, _, id_whole = r:varint(nil, nil, "HELLO")
    local value, range, whole = r:varint(nil, nil, "HELLO")
    if not value then return nil end
    local p = t:add(f.parameter, r.tvb:range(at, r.at - at), id_whole)
    p:append_text(" " .. (parameters[id] or "unknown") .. " = " .. tostring(whole))
    p:add(f.value, range, whole)
    if before >= id_whole then return r:bad("parameters that do not ascend") end
    if value == 0 then return r:bad("a parameter that is 0, which is left out") end
    if id >= 7 and id <= 9 and whole > STREAMS_MAX then return r:bad("a limit of streams above 2^59") end
    return id_whole
end

local function read_hello_body(r, t)
    local versions = r:varint(nil, nil, "HELLO", UInt64(8)) or 1
    for _ = 1, versions do r:varint(t, f.version, "HELLO", CODE_MAX) end
    local names = r:varint(nil, nil, "HELLO", UInt64(8)) or 1
    for _ = 1, names do
        if r:text(t, f.alpn, 32, "HELLO") == "" then r:bad("an application protocol without a name") end
    end
    if versions == 0 or names == 0 then r:bad("no version, or no application protocol") end
    r:varint(t, f.capabilities, "HELLO")
    local count, before = r:varint(nil, nil, "HELLO", UInt64(32)) or 0, UInt64(0)
    for _ = 1, count do
        before = read_parameter(r, t, before)
        if not before then return end
    end
    if r:left() > 0 then r:bad("bytes behind HELLO") end
end

local function read_hello(r, t)
    local length = r:varint(t, f.length, "HELLO")
    if not length then return "" end
    if length > r:left() then return r:bad("HELLO goes beyond the end") or "" end
    local body = reader(r.tvb, r.at, r.at + length)
    read_hello_body(body, t)
    if body.why then return r:bad(body.why) or "" end
    r.at = r.at + length
    return ""
end

local function read_auth(r, t)
    r:bytes(t, f.id, 32, "AUTH")
    r:bytes(t, f.signature, 64, "AUTH")
    return ""
end

local function read_extension(r, t)
    local length = r:varint(t, f.length, "an extension")
    r:bytes(t, f.data, length or 0, "an extension")
    return ""
end

local function read_padding(r, t)
    local from = r.at - 1
    while r:left() > 0 and r.tvb:range(r.at, 1):uint() == 0 do r.at = r.at + 1 end
    t:add(f.padding, r.tvb:range(from, r.at - from), r.at - from)
    return " " .. (r.at - from)
end

local function read_nothing() return "" end

local readers = {
    [0x00] = read_padding, [0x01] = read_nothing, [0x02] = read_ack, [0x03] = read_ack,
    [0x04] = read_reset, [0x05] = read_stop, [0x10] = read_max, [0x11] = read_stream_max,
    [0x12] = read_kind_max, [0x14] = read_max, [0x15] = read_stream_max, [0x16] = read_kind_max,
    [0x1a] = read_challenge, [0x1b] = read_response, [0x1c] = read_close, [0x20] = read_hello,
    [0x21] = read_auth, [0x22] = read_nothing, [0x30] = read_datagram, [0x31] = read_datagram,
}
for i = 0x08, 0x0f do readers[i] = read_stream end
for i = 0x40, 0x7f do
    readers[i], frame_names[i] = read_extension, "EXTENSION"
end

-- ---- packets and datagrams ----------------------------------------------------------------------

local function mark(r, tree, pinfo)
    if not r.why then return end
    tree:add_proto_expert_info(malformed, r.why)
    pinfo.cols.info:append(" [malformed: " .. r.why .. "]")
end

local function read_frame(r, tree)
    local start = r.at
    local t = tree:add(f.frame, r.tvb:range(start, 1))
    local type = r:varint(nil, nil, "a frame's type")
    local read = readers[type]
    if not read then
        r:bad("a frame of a type that is unknown")
        return "?"
    end
    t:set_text("Frame: " .. frame_names[type])
    t:add(f.name, r.tvb:range(start, r.at - start), frame_names[type]):set_generated()
    local text = frame_names[type] .. read(r, t, type)
    t:set_len(r.at - start)
    t:set_text("Frame: " .. text)
    return text
end

-- The plaintext of one data record: packet number and frames.
local function read_packet(tvb, at, stop, pinfo, tree)
    local r = reader(tvb, at, stop)
    local t = tree:add(p2p, tvb:range(at, stop - at), "p2p.h packet")
    local packet = r:varint(t, f.packet, "a packet number")
    local info = { "#" .. number(packet) .. ":" }
    while r:left() > 0 do info[#info + 1] = read_frame(r, t) end
    t:append_text(" " .. number(packet))
    pinfo.cols.info:append(" " .. table.concat(info, " "))
    mark(r, t, pinfo)
end

local function read_null_data(r, pinfo, tree, root)
    local sequence = r:take(8, "a record")
    if not sequence or r:left() <= 8 then return r:bad("a record too short for its checksum") end
    tree:add_le(f.null_sequence, sequence)
    read_packet(r.tvb, r.at, r.stop - 8, pinfo, root)
    r.at = r.stop - 8
    r:bytes(tree, f.null_checksum, 8)
end

local function read_null_handshake(r, pinfo, tree)
    local type = r:bytes(tree, f.null_record, 1, "a record of the handshake")
    if not type then return end
    local name = null_records[type:uint()]
    if not name then return r:bad("a record of the handshake that is unknown") end
    r:bytes(tree, f.null_bytes, r:left())
    pinfo.cols.info:append(" " .. name)
end

-- ---- opening records ------------------------------------------------------------------------------
-- The key block of TLS 1.2 (RFC 5246 sections 5 and 6.3) and ChaCha20-Poly1305 (RFC 8439, RFC 7905).
-- Bytes are strings. Numbers stay below 2^53, so that any Lua counts exactly.

local bits = bit32 or load([[return {
    bxor = function(a, b, c) return (a ~ b ~ (c or 0)) & 0xffffffff end,
    band = function(a, b) return a & b & 0xffffffff end,
    bnot = function(a) return ~a & 0xffffffff end,
    lrotate = function(a, n) return (a << n | a >> (32 - n)) & 0xffffffff end,
    rrotate = function(a, n) return (a >> n | a << (32 - n)) & 0xffffffff end,
    rshift = function(a, n) return a >> n end,
}]])()
local bxor, band, bnot, rol, ror, shr = bits.bxor, bits.band, bits.bnot, bits.lrotate, bits.rrotate, bits.rshift
local WORD = 4294967296

local function be32(s, at)
    local a, b, c, d = s:byte(at, at + 3)
    return a * 16777216 + b * 65536 + c * 256 + d
end
local function le32(s, at)
    local a, b, c, d = s:byte(at, at + 3)
    return d * 16777216 + c * 65536 + b * 256 + a
end
-- The lowest n bytes of a number, lowest first.
local function le(x, n)
    local out = {}
    for i = 1, n do
        out[i] = string.char(x % 256)
        x = math.floor(x / 256)
    end
    return table.concat(out)
end
local function be(x, n) return le(x, n):reverse() end
local function xor_bytes(a, b)
    local out = {}
    for i = 1, #a do out[i] = string.char(bxor(a:byte(i), b:byte(i))) end
    return table.concat(out)
end

-- The first 32 bits of the fractions of the roots of the first primes, as FIPS 180-4 makes them.
local sha_k, sha_start = {}, {}
do
    local n, found = 2, 0
    while found < 64 do
        local prime = true
        for d = 2, math.floor(n ^ 0.5) do prime = prime and n % d ~= 0 end
        if prime then
            found = found + 1
            local cube, root = n ^ (1 / 3), n ^ 0.5
            sha_k[found] = math.floor(cube % 1 * WORD)
            if found <= 8 then sha_start[found] = math.floor(root % 1 * WORD) end
        end
        n = n + 1
    end
end

local function sha256_block(h, text, at)
    local w = {}
    for i = 1, 16 do w[i] = be32(text, at + 4 * (i - 1)) end
    for i = 17, 64 do
        local x, y = w[i - 15], w[i - 2]
        w[i] = (w[i - 16] + bxor(ror(x, 7), ror(x, 18), shr(x, 3)) + w[i - 7] +
            bxor(ror(y, 17), ror(y, 19), shr(y, 10))) % WORD
    end
    local a, b, c, d, e, g, i, j = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
    for n = 1, 64 do
        local t1 = j + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, g), band(bnot(e), i)) + sha_k[n] + w[n]
        local t2 = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
        j, i, g, e, d, c, b, a = i, g, e, (d + t1) % WORD, c, b, a, (t1 + t2) % WORD
    end
    for n, x in ipairs({ a, b, c, d, e, g, i, j }) do h[n] = (h[n] + x) % WORD end
end
local function sha256(text)
    local h, out = { table.unpack(sha_start) }, {}
    local padded = text .. "\128" .. ("\0"):rep((55 - #text) % 64) .. be(#text * 8, 8)
    for at = 1, #padded, 64 do sha256_block(h, padded, at) end
    for i = 1, 8 do out[i] = be(h[i], 4) end
    return table.concat(out)
end
local function hmac(key, text)
    local wide = key .. ("\0"):rep(64 - #key) -- keys here have 48 bytes
    return sha256(xor_bytes(wide, ("\92"):rep(64)) .. sha256(xor_bytes(wide, ("\54"):rep(64)) .. text))
end
local function prf(secret, text, size)
    local a, out = hmac(secret, text), ""
    while #out < size do
        out = out .. hmac(secret, a .. text)
        a = hmac(secret, a)
    end
    return out:sub(1, size)
end

local function quarter(s, a, b, c, d)
    local x, y, z, w = s[a], s[b], s[c], s[d]
    x = (x + y) % WORD; w = rol(bxor(w, x), 16)
    z = (z + w) % WORD; y = rol(bxor(y, z), 12)
    x = (x + y) % WORD; w = rol(bxor(w, x), 8)
    z = (z + w) % WORD; y = rol(bxor(y, z), 7)
    s[a], s[b], s[c], s[d] = x, y, z, w
end
-- One block of the key stream, 64 bytes.
local function chacha(key, nonce, counter)
    local from, s, out = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 }, {}, {}
    for i = 0, 7 do from[5 + i] = le32(key, 1 + 4 * i) end
    from[13] = counter
    for i = 0, 2 do from[14 + i] = le32(nonce, 1 + 4 * i) end
    for i = 1, 16 do s[i] = from[i] end
    for _ = 1, 10 do
        quarter(s, 1, 5, 9, 13); quarter(s, 2, 6, 10, 14); quarter(s, 3, 7, 11, 15); quarter(s, 4, 8, 12, 16)
        quarter(s, 1, 6, 11, 16); quarter(s, 2, 7, 12, 13); quarter(s, 3, 8, 9, 14); quarter(s, 4, 5, 10, 15)
    end
    for i = 1, 16 do out[i] = le((s[i] + from[i]) % WORD, 4) end
    return table.concat(out)
end

-- Poly1305 with six limbs of 22 bits: 2^132 is 20 modulo 2^130 - 5, and no sum reaches 2^53.
local LIMB = 4194304
local function limbs(text)
    local out, have, count = {}, 0, 0
    for i = 1, #text do
        have = have + text:byte(i) * 2 ^ count
        count = count + 8
        if count >= 22 then
            out[#out + 1] = have % LIMB
            have = math.floor(have / LIMB)
            count = count - 22
        end
    end
    out[#out + 1] = have
    for i = #out + 1, 6 do out[i] = 0 end
    return out
end
local function carry(h)
    local over = 0
    for i = 1, 6 do
        h[i] = h[i] + over
        over = math.floor(h[i] / LIMB)
        h[i] = h[i] % LIMB
    end
    h[1] = h[1] + over * 20
end
local function multiply(h, r)
    local out = {}
    for i = 1, 6 do
        local sum = 0
        for k = 1, 6 do
            local at = i - k + 1
            sum = sum + (at >= 1 and h[k] * r[at] or 20 * h[k] * r[at + 6])
        end
        out[i] = sum
    end
    carry(out)
    carry(out)
    return out
end
-- h modulo 2^130 - 5, plus the key's second half, modulo 2^128, as 16 bytes.
local function poly_end(h, key)
    carry(h)
    local top = math.floor(h[6] / 2 ^ 20)
    h[6], h[1] = h[6] % 2 ^ 20, h[1] + 5 * top
    carry(h)
    local more = { table.unpack(h) }
    more[1] = more[1] + 5
    carry(more)
    if more[6] >= 2 ^ 20 then h = more end
    local add, out, over, have, count = limbs(key:sub(17, 32)), {}, 0, 0, 0
    for i = 1, 6 do
        local sum = h[i] + add[i] + over
        over = math.floor(sum / LIMB)
        have = have + sum % LIMB * 2 ^ count
        count = count + 22
        while count >= 8 do
            out[#out + 1] = string.char(have % 256)
            have = math.floor(have / 256)
            count = count - 8
        end
    end
    return table.concat(out):sub(1, 16)
end
local function poly1305(key, text)
    local r, h = {}, { 0, 0, 0, 0, 0, 0 }
    for i = 1, 16 do
        local byte = key:byte(i)
        if i % 4 == 0 then byte = byte % 16 elseif i % 4 == 1 and i > 1 then byte = byte - byte % 4 end
        r[i] = string.char(byte)
    end
    r = limbs(table.concat(r))
    for at = 1, #text, 16 do
        local m = limbs(text:sub(at, at + 15) .. "\1")
        for i = 1, 6 do h[i] = h[i] + m[i] end
        h = multiply(h, r)
    end
    return poly_end(h, key)
end

-- The text of a sealed one, or nil where the tag does not fit.
local function open(key, nonce, aad, sealed)
    local text, tag = sealed:sub(1, -17), sealed:sub(-16)
    local function padded(x) return x .. ("\0"):rep(-#x % 16) end
    local said = padded(aad) .. padded(text) .. le(#aad, 8) .. le(#text, 8)
    if poly1305(chacha(key, nonce, 0):sub(1, 32), said) ~= tag then return nil end
    local out = {}
    for i = 0, math.floor((#text - 1) / 64) do
        out[#out + 1] = xor_bytes(text:sub(64 * i + 1, 64 * i + 64), chacha(key, nonce, i + 1))
    end
    return table.concat(out)
end

-- ---- sessions and their keys ----------------------------------------------------------------------

local secrets, secrets_of = {}, nil -- master secrets by client random, and the file they are from
local sessions = {}                 -- by session id
local opened, opened_count = {}, 0  -- packets by session, direction and record number

local function unhex(text) return (text:gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end)) end

local function keylog()
    if p2p.prefs.keylog ~= "" then return p2p.prefs.keylog end
    local ok, path = pcall(get_preference, "tls.keylog_file")
    return ok and path or ""
end
-- The file may grow while a capture runs: it is read again for a client that is not in it.
local function read_keylog()
    local file = keylog() ~= "" and io.open(keylog(), "r")
    if not file then return end
    for line in file:lines() do
        local random, secret = line:match("^CLIENT_RANDOM (%x+) (%x+)%s*$")
        if random and #random == 64 and #secret == 96 then secrets[unhex(random)] = unhex(secret) end
    end
    file:close()
end
local function secret_of(random)
    if not secrets[random] and secrets_of ~= random then
        secrets_of = random
        read_keylog()
    end
    return secrets[random]
end

-- Copies of a hello may have been changed on the way, so a session may have several randoms.
local function remember(list, random)
    for _, known in ipairs(list) do
        if known == random then return end
    end
    if #list < 4 then list[#list + 1] = random end
end
local function session_of(id)
    sessions[id] = sessions[id] or { client = {}, server = {}, keys = {} }
    return sessions[id]
end
-- A hello lies whole in a record of its own: record header[13], message header[12], version[2], random[32].
local function remember_hellos(id, text)
    local at, session = 1, session_of(id)
    while at + 13 <= #text do
        local size = text:byte(at + 11) * 256 + text:byte(at + 12)
        local kind = text:byte(at + 13)
        if text:byte(at) == 22 and size >= 46 and at + 12 + size <= #text and (kind == 1 or kind == 2) then
            remember(kind == 1 and session.client or session.server, text:sub(at + 27, at + 58))
        end
        at = at + 13 + size
    end
end
local function derive(session, client, server)
    local name = client .. server
    if session.keys[name] == nil then
        local secret = secret_of(client)
        local block = secret and prf(secret, "key expansion" .. server .. client, 88)
        session.keys[name] = block and {
            to_server = { key = block:sub(1, 32), iv = block:sub(65, 76) },
            to_client = { key = block:sub(33, 64), iv = block:sub(77, 88) },
        } or nil
    end
    return session.keys[name]
end

-- header: type, version[2], epoch and number[8], length[2].
local function open_record(session, to_server, record)
    local header, sealed = record:sub(1, 13), record:sub(14)
    local aad = header:sub(4, 11) .. header:sub(1, 3) .. be(#sealed - 16, 2)
    local tried = false
    for _, client in ipairs(session.client) do
        for _, server in ipairs(session.server) do
            local keys = derive(session, client, server)
            local way = keys and (to_server and keys.to_server or keys.to_client)
            if way then
                tried = true
                local nonce = xor_bytes(way.iv, "\0\0\0\0" .. header:sub(4, 11))
                local text = open(way.key, nonce, aad, sealed)
                if text then return text end
            end
        end
    end
    return nil, tried
end

-- The packet in a data datagram's record; nil and whether there was a key that did not fit.
local function packet_of(id, to_server, record)
    if #record < 13 + 17 or record:byte(1) ~= 23 or not sessions[id] then return nil, false end
    local name = id .. (to_server and ">" or "<") .. record
    if opened[name] then return opened[name] end
    local text, tried = open_record(sessions[id], to_server, record)
    if text and opened_count < 20000 then
        opened[name] = text
        opened_count = opened_count + 1
    end
    return text, tried
end

local dtls = Dissector.get("dtls")
local inside = false -- while DTLS works on what this dissector gave it
local shown = false  -- it could open the packet

-- Two sessions of the same two nodes are two conversations to Wireshark's DTLS, which tells them by
-- addresses and ports: it is shown ports made of the session id instead, and the direction.
local function call_dtls(r, pinfo, root, session, to_server)
    if r:left() < 1 then return r:bad("no DTLS record") end
    local source, target = pinfo.src_port, pinfo.dst_port
    local low = session:range(0, 4):uint() % 2 ^ 31
    pinfo.src_port = to_server and low or low + 1
    pinfo.dst_port = to_server and low + 1 or low
    inside, shown = true, false
    local ok = pcall(dtls.call, dtls, r.tvb:range(r.at, r:left()):tvb(), pinfo, root)
    inside = false
    pinfo.src_port, pinfo.dst_port = source, target
    if not ok then r:bad("a DTLS record that Wireshark cannot read") end
end

local function read_dtls(r, pinfo, tree, root, session, type)
    local to_server = type ~= 0xb1 and type ~= 0xb5
    local id, text = session:bytes():raw(), r.tvb:range(r.at, r:left()):bytes():raw()
    if type < 0xb4 then remember_hellos(id, text) end
    call_dtls(r, pinfo, root, session, to_server)
    pinfo.cols.protocol = "p2p.h"
    r.at = r.stop
    if type < 0xb4 or shown then return end
    local packet, tried = packet_of(id, to_server, text)
    if packet then
        local tvb = ByteArray.new(packet, true):tvb("p2p.h packet")
        pinfo.cols.info = kinds[type] .. ", session " .. tostring(session:bytes()):lower():sub(1, 8)
        read_packet(tvb, 0, tvb:len(), pinfo, root)
    elseif tried then
        tree:add_proto_expert_info(forged)
        pinfo.cols.info:append(" [does not authenticate]")
    end
end

local function read_rest(r, pinfo, tree, root, type, null, session)
    if type == 0xb2 then return end
    if not null then return read_dtls(r, pinfo, tree, root, session, type) end
    if type >= 0xb4 then return read_null_data(r, pinfo, tree, root) end
    return read_null_handshake(r, pinfo, tree)
end

local function read_datagram_of(tvb, pinfo, root)
    local r = reader(tvb, 0, tvb:len())
    local tree = root:add(p2p, tvb:range())
    local null = tvb:len() > 1 and tvb:range(0, 1):uint() == 0xbf
    pinfo.cols.protocol = "p2p.h"
    if null then r:bytes(tree, f.null, 1) end
    local range = r:bytes(tree, f.type, 1, "the first byte")
    local type = range and range:uint() or 0
    if not kinds[type] then r:bad("a first byte that p2p.h does not have") end
    pinfo.cols.info = (kinds[type] or "unknown") .. (null and " in clear" or "")
    local session = r:bytes(tree, f.session, 8, "the session id")
    if session then pinfo.cols.info:append(", session " .. tostring(session:bytes()):lower():sub(1, 8)) end
    if type < 0xb4 then r:bytes(tree, f.tag, 16, "the tag") end
    if type == 0xb2 or type == 0xb3 then r:bytes(tree, f.cookie, 16, "the cookie") end
    if session and not r.why then
        tree:set_len(r.at)
        read_rest(r, pinfo, tree, root, type, null, session)
    end
    mark(r, tree, pinfo)
end

-- Where the datagram ends that begins at `at`. A capture on a host with UDP_SEGMENT or UDP_GRO has a
-- whole run of them in one packet: each data datagram holds one record, and the next begins alike.
local function end_of_datagram(tvb, at)
    local n = tvb:captured_len()
    if at + 22 > n or tvb:range(at, 1):uint() < 0xb4 or tvb:range(at, 1):uint() > 0xb5 then return n end
    local stop = at + 22 + tvb:range(at + 20, 2):uint()
    if stop + 22 > n or tvb:range(stop, 9):bytes() ~= tvb:range(at, 9):bytes() then return n end
    return stop
end

function p2p.dissector(tvb, pinfo, root)
    if tvb:captured_len() < 1 then return 0 end
    local at, count = 0, 0
    while at < tvb:captured_len() do
        local stop = end_of_datagram(tvb, at)
        read_datagram_of(tvb:range(at, stop - at):tvb(), pinfo, root)
        at, count = stop, count + 1
    end
    if count > 1 then pinfo.cols.info:prepend(count .. " datagrams, the last: ") end
    return at
end

-- What DTLS decrypted. Only while it works for this dissector: other programs' DTLS is not p2p.h's.
local function heuristic_dtls(tvb, pinfo, root)
    if not inside or tvb:captured_len() < 1 then return false end
    shown = true
    read_packet(tvb, 0, tvb:captured_len(), pinfo, root)
    return true
end

-- On any port: the first byte, and a DTLS 1.2 record or the null channel's sizes behind it.
local function heuristic_udp(tvb, pinfo, root)
    local n = tvb:captured_len()
    if n < 25 then return false end
    local at = tvb:range(0, 1):uint() == 0xbf and 1 or 0
    local type = tvb:range(at, 1):uint()
    local head = ({ [0xb0] = 25, [0xb1] = 25, [0xb2] = 41, [0xb3] = 41, [0xb4] = 9, [0xb5] = 9 })[type]
    if not head or n < at + head then return false end
    if type == 0xb2 then return n == at + head and p2p.dissector(tvb, pinfo, root) > 0 end
    if at == 0 then
        if n < head + 13 then return false end
        local content, version = tvb:range(head, 1):uint(), tvb:range(head + 1, 2):uint()
        if content < 20 or content > 23 or (version ~= 0xfefd and version ~= 0xfeff) then return false end
    end
    return p2p.dissector(tvb, pinfo, root) > 0
end

p2p:register_heuristic("udp", heuristic_udp)
p2p:register_heuristic("dtls", heuristic_dtls)

local port = 0
local function take_port()
    local table = DissectorTable.get("udp.port")
    if port ~= 0 then table:remove(port, p2p) end
    port = p2p.prefs.port
    if port ~= 0 then table:add(port, p2p) end
end
function p2p.init()
    secrets, secrets_of, sessions, opened, opened_count = {}, nil, {}, {}, 0
    if port ~= p2p.prefs.port then take_port() end
end
function p2p.prefs_changed() take_port() end
take_port()
