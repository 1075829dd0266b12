/* p2p.h - dial a public key from anything with a UDP socket.              MIT-0 or public domain

    Do this
        #define P2P_IMPLEMENTATION
    in exactly one C or C++ file before including this one, to compile the implementation there.
    Everywhere else include it plainly. It needs C99 or C++11 and nothing but <string.h>.

    CONTENTS
        Search for the marker. Declarations:
            >>manual     this text
            >>config     versions, override macros, bounds for static arenas
            >>types      errors, identity, addresses, events, desc structs, vtables, metrics
            >>api        functions
        Implementation:
            >>base       override macros, assertions, time, texts
            >>bytes      cursors: the only way bytes are read and written
            >>arena      the layout walk that measures and carves
            >>pool       fixed tables with generations
            >>log        log items
            >>hash       SipHash-1-3, HMAC-SHA256
            >>random     HMAC-DRBG
            >>identity   keys, their texts, addresses, tickets
            >>wire       frames and the HELLO body
            >>exchange   what the router keeps in node and stream
            >>state      every object of a node, and its states
            >>ready      who has an event or a packet pending
            >>heap       deadlines
            >>flow       windows of streams and connections
            >>stream     send and receive rings, reassembly
            >>message    messages over one stream a direction
            >>datagram   unreliable datagrams
            >>cc         congestion control and pacing
            >>pmtu       the largest datagram that comes through
            >>loss       packet numbers, ACK ranges, round trip, loss detection
            >>channel    envelopes, admission, cookies, session ids
            >>path       addresses of a dial
            >>session    HELLO, identity proof, DONE
            >>conn       connections, and the packets that carry them
            >>discovery  peers, names, queries
            >>router     requests, routes, answers
            >>node       desc, memory, clock, driving, events
            >>public     entry points: the checks on arguments
            >>check      invariants
            >>license    terms
*/

/* ==== >>manual ====

    A node is named by its Ed25519 public key and by nothing else. Whoever holds the 32 bytes dials
    them; both ends prove who they are; what follows is encrypted: streams, messages, datagrams and
    HTTP-like requests over one UDP port. The library has no socket, clock, thread or heap of its
    own: datagrams and time are arguments, and all memory is one arena that the caller gives. The
    same code therefore runs on a microcontroller, on a server and, byte for byte, in a simulator.

    OVERRIDE MACROS
        Every file of a program must see the same values of those marked "everywhere".

        P2P_IMPLEMENTATION  one file    compile the implementation here
        P2P_STATIC          everywhere  public functions are static: a program of a single file
        P2P_DEF             everywhere  what stands before every public function instead of extern
                                        (or of static), for example a visibility attribute
        P2P_DEBUG           one file    check own state as it goes and trap when it is wrong
        P2P_ASSERT(x)       one file    what such a check does instead; without it and without
                                        P2P_DEBUG checks cost nothing
        P2P_ADMIT_PER_S     one file    callers a second that are admitted without a cookie: 500; a
                                        microcontroller does well with 2
        P2P_STATIC_SECURE, P2P_STATIC_CRYPTO
                            everywhere  the one const table that p2p_secure.api, or p2p_crypto.api,
                                        may name, as p2p_mbedtls_api or p2p_sodium_api: calls go to
                                        its functions directly. See ONE TABLE
        P2P_NO_BBR, P2P_NO_CUBIC
                            one file    leave these congestion controllers out; NewReno is always
                                        there, and desc.congestion 0 is the best of what is left
        P2P_NO_RECONNECT    one file    p2p_connect_desc.reconnect is refused
        P2P_NO_ROUTER       everywhere  leave out requests, routes and answers
        P2P_NO_DISCOVERY    everywhere  leave out names and providers; p2p_peer_add stays
        P2P_NO_DATAGRAM     everywhere  leave out p2p_datagram_*; the peer is told to send none
        P2P_NO_MESSAGES     everywhere  leave out p2p_send and p2p_recv; as bytes.message_max of
                                        P2P_NONE
        P2P_NO_PARSE        everywhere  leave out ids, addresses and tickets as texts, and
                                        p2p_desc_from_env
        P2P_NO_WORDS        everywhere  leave out words: p2p_err_*, p2p_arena_text,
                                        p2p_metrics_text, p2p_ticket_fault, the log, and the text
                                        of p2p_error_detail, whose numbers stay
        P2P_NO_CHECK        everywhere  leave out p2p_check
                                        What is left out is not declared, and P2P_ABI differs.
        P2P_MEMCPY, P2P_MEMMOVE, P2P_MEMSET, P2P_MEMCMP
                            one file    instead of those of <string.h>: all four or none

    DOES NOT
        - open sockets, read clocks, start threads, block, allocate, log to a terminal or read
          files. ports/p2p_posix.h does the first three for those who want that done.
        - implement ciphers. The secure channel and four functions (public key, sign, verify,
          SHA-256) come from tables: ports/p2p_mbedtls.h, ports/p2p_sodium.h, or yours.
        - hide which node is called from somebody who knows its key already (docs/SECURITY.md).
        - keep anything between two lives of a node. Keys, peers and names are the program's to
          keep.
        - retry a request, reorder messages, or deliver to a peer that is away.

    STEP BY STEP
        1. Fill in a p2p_desc: all zeros is valid, and every 0 means the default written beside it.

                p2p_desc desc;
                memset(&desc, 0, sizeof desc);
                desc.why = &why;                        // the words, when a call below fails
                p2p_sodium_crypto(&desc.crypto);
                p2p_mbedtls_secure(&desc.secure);
                p2p_posix_open(&io, &io_desc, &desc);   // sockets; fills link and random

        2. Give it memory and open it.

                size_t size = p2p_arena_size(&desc);
                p2p_node_open(&node, &desc, arena, size);

        3. Dial, or listen, or both. A node that is to be dialled must say who may come in:
           desc.allow (a hook) or desc.allow_anyone (whoever holds the ticket).

                p2p_listen(node, &listen_desc, &listener);
                p2p_peer_add(node, &ticket);            // where it may be found
                p2p_connect(node, &ticket.id, NULL, &conn);

        4. Drive it, in any order, for ever; see DRIVING.

                for (;;) {
                    p2p_posix_step(&io, node, -1);
                    while (p2p_next_event(node, &event) > 0)
                        on_event(node, &event);
                }

        5. Stop: p2p_node_stop, go on driving until P2P_EVENT_STOPPED, p2p_node_close.

    CALLS
        Calls that can fail return int: 0 or a count, or a negative P2P_ERR_*. A value out of range
        is an error that names the field, never clamped in silence: p2p_last_error gives the words,
        and before there is a node, desc.why. Arguments are used up before a call returns; the one
        exception is p2p_send_ref, and p2p_recv_ref borrows memory until it is given back.
        A desc and all it points to is copied, except ctx and user pointers and static tables
        (vtables, the routes of a service), which must outlive the node.

    IDENTITY
        A p2p_key is a 32-byte secret seed and the public key computed from it (RFC 8032). The
        public key is the NodeId. People see it as 52 characters of z-base-32, logs as the first 5
        bytes in hex. p2p_node_open computes the public key from the seed anew and copies both:
        wipe yours. A ticket is a NodeId with what is known of where it is: up to six addresses and
        a relay. As text it is one word with a checksum, to be mailed, scanned, or kept in a file.

    NODES AND THE ARENA
        p2p_arena_size says to the byte what a desc needs; p2p_arena_text says what for. With one
        byte less p2p_node_open fails with P2P_ERR_ARENA and the size it wants. All tables are
        fixed at open: nothing that a peer sends makes anything grow. Firmware that wants a static
        array adds up the P2P_ARENA_* bounds, which are constant expressions. The arena holds keys.
        p2p_node_close wipes it.

    DRIVING
        p2p_input    takes one datagram (or a run of equal ones) with its addresses p2p_output
        gives the next one to send, built at that moment: a driver whose socket is full
                     just stops asking, and nothing in the node goes stale
        p2p_poll     lets timers run
        p2p_deadline says when p2p_poll is wanted next; 0 says that something waits now: a datagram
                     to send or an event to take
        Early, late and repeated calls are harmless. Time is microseconds from any fixed origin; it
        may stand still, and a step back is taken as no step.

    EVENTS
        p2p_next_event gives one event at a time, a copy. None can be lost and no queue can fill
        up: each object keeps one flag a kind, so READABLE, WRITABLE, MESSAGE and DATAGRAM say
        "something changed", not how often. One that was told comes again after a call that took or
        gave something, while there is more; whoever takes nothing is told again when something new
        arrives, and may call at any time. event.request, .reason and .name hold until the next
        p2p_next_event. Request handlers run inside p2p_next_event, at most one a call, and nowhere
        else.

    CONNECTIONS
        p2p_connect takes a NodeId and gives a handle at once; streams and messages may be opened
        and queued on it before the CONNECTED event, and nothing of them leaves before the peer has
        proved that it is the one dialled. Then CONNECTED or DISCONNECTED comes, once. A wrong
        proof is P2P_ERR_AUTH, no answer P2P_ERR_TIMEOUT, both at the end of the connect timeout:
        until then the node goes on trying, since a faster liar must not end a dial. Both ends may
        dial each other at the same moment: one connection comes out, one CONNECTED on each side,
        under the handle each got from p2p_connect. Handles are a slot and a generation that starts
        at a random number. A stale or foreign one is P2P_ERR_HANDLE. DISCONNECTED is the last
        event of a connection; one that was open and over before the program looked has CONNECTED,
        what arrived by it and DISCONNECTED, but a dial that the program itself closed only the
        last. A dial whose first packets get no answer begins anew: what was sent
        before CONNECTED the peer may then see on two connections, of which the first ends. An
        incoming connection that nobody accepts works all the same: p2p_accept is for programs that
        would rather ask than watch events.
        With p2p_connect_desc.share a connection to the same peer and ALPN that is open already, or
        being dialled, serves, for one more holder: p2p_connect returns 1 when it is open, and gives
        its handle; p2p_connect_name tells by CONNECTED, whose .dialled is the handle it gave. Each
        holder ends with p2p_release, as with p2p_retain; the last one closes. p2p_close closes for
        all. max.conns and max.conns_per_peer count both directions; a caller beyond them is
        told so (P2P_ERR_REFUSED), unless an older connection of its does not answer any more.

    RECONNECT
        With p2p_connect_desc.reconnect a handle that was CONNECTED once outlives the end of its
        session: silence, a restart or a close of the peer, a network that is gone, keys that are
        too old. The node dials again after 0.1 s, and after twice that with every setback, up to
        30 s (a quarter more or less by chance; a connection that lived for 10 s begins anew;
        p2p_network_changed and a new address dial at once), for ever. Meanwhile
        p2p_is_connected says no; then RECONNECTED comes. What becomes of that which was under way:
            streams, requests   end with CLOSED, RESPONSE with .err; those that had arrived whole
                                are read to their end. Ones opened meanwhile wait
            datagrams           that were not sent are dropped and counted
            messages            that the peer acknowledged came, and come once. Those that were not
                                sent whole did not, and go first over the next session, in order
                                with those that p2p_send takes meanwhile. Of those sent whole and
                                not acknowledged nobody knows: they are not repeated, so that none
                                comes twice; RECONNECTED.size is how many, and SENT of a
                                p2p_send_ref among them has .err
            messages received   whole are still there to be read; memory lent for one that broke off
                                comes back by MESSAGE with .err P2P_ERR_CLOSED
        "Acknowledged" means that the peer's node has it, not that its program has read it: who must
        know that lets the program answer. A silent break is noticed after time.idle_us: what left
        meanwhile is of the doubtful kind, so who sends messages makes that short.
        The handle ends, with DISCONNECTED, by p2p_close, the last
        p2p_release and p2p_node_stop, and when the peer's allow hook says no or the peer breaks the
        protocol. The first connect has its timeout as ever; with timeout_us P2P_NEVER it goes on
        for ever, too. There is none of this at the end that accepted: its handle ends, and a new
        connection comes in. Keys are renewed at time.max_age_us, or up to an eighth of it earlier
        at a moment when no stream is open and no message is under way.

    STREAMS
        Reliable, ordered bytes, many a connection, each with a priority from 0 (first) to 7.
        Strict order between priorities, fair turns within one. A stream opened with one_way
        carries bytes only from its opener. p2p_stream_write takes what fits (P2P_ERR_AGAIN for
        nothing: WRITABLE will come); p2p_stream_reserve and p2p_stream_commit do it without a
        copy, and so do p2p_stream_peek and p2p_stream_skip on the other side. Only taking bytes
        lets the peer send more, so a slow reader slows the writer and costs no memory. What a
        program wants to see whole before it takes any of it may have 7/8 of the stream's buffer.
        p2p_stream_finish ends one's own half, p2p_stream_reset abandons both. CLOSED is a stream's
        last event.

    MESSAGES AND DATAGRAMS
        p2p_send and p2p_recv: whole messages, in order, exactly once while the connection lives
        (and what RECONNECT says beyond that), up to the receiver's bytes.message_max. Those that
        exceed the buffers go by p2p_send_ref from the caller's memory and by p2p_recv_ref into it.
        p2p_datagram_send: at most once, in no order, never waiting. p2p_datagram_max says how large
        one may be. What is too many for max.datagrams_out, or waited for longer than
        time.datagram_us, is dropped at the sender, oldest first; one that left may still wait in a
        queue of the network.

    SPEED
        The rate of a stream is bounded by the smallest of these, a round trip: what its sender
        buffers (bytes.stream_send, or peer_send at the end that did not open it), what its receiver
        buffers (stream_recv, peer_recv), and max.in_flight times the datagram. Windows grow up to
        the buffers by themselves. desc.congestion chooses BBR, the default, which stands random
        loss; CUBIC; or NewReno. link.mtu is the largest datagram that may be tried: path MTU
        discovery finds what comes through, and p2p_stats.mtu tells. With link.segments runs of
        equal datagrams pass between driver and node in one call. ports/p2p_posix.h sets mtu and
        segments to what secure channel and system can do.

    REQUESTS AND THE ROUTER
        A request is a bidirectional stream: method, path, query, headers, body; the answer:
        status, headers, body. Routes match by segments: "/tracks/:id" binds one segment, a final
        segment "*rest" binds all that is left; literal segments win over ":", and ":" over "*". A
        route without a handler gives a REQUEST event instead. A handler answers with p2p_reply,
        begins an answer with p2p_reply_begin and goes on by p2p_stream_write, or says
        p2p_reply_later. The router answers by itself: 404 no such path, 405 another method (with
        "allow"), 400 malformed, 413 body over bytes.body_max, 500 a handler that gave no reply,
        503 full, 504 a late one. Paths are plain text and are never percent-decoded; "." and ".."
        segments are 400.

    DISCOVERY
        Where a NodeId may be found comes from p2p_peer_add, from a ticket, or from a provider
        behind desc.discovery, which also maps names to tickets: p2p_register, p2p_discover,
        p2p_connect_name. The simulator has one built in.

    ERRORS
        The list P2P_ERRORS below has the name, the value and the text of each; values never
        change. p2p_error_detail carries the peer, the size, the limit and a sentence that names
        the field.

    THREADS AND RE-ENTRY
        A node belongs to one thread at a time; nothing blocks. Two nodes share nothing of p2p.h's.
        Handlers and hooks may call anything but p2p_input, p2p_poll, p2p_output, p2p_next_event and
        p2p_node_close (P2P_ERR_STATE); hooks (allow, log, crypto) only functions that take a const
        node.

    A SECURE CHANNEL OF ONE'S OWN
        p2p_secure_api is a const table. The core keeps the envelope, session ids, tags, cookies
        and restarts; a port turns handshake bytes and records, and lives in a slab of the node's
        arena:
            session_size  bytes of one slab
            begin         take the slab; remember role, PSK and timer
            feed          give it the handshake bytes of one datagram; it may not send from here
            flight        take from it the next handshake datagram that is due, none when 0
            resend        make the whole last flight due at once
            deadline      ask when flight wants to be asked again
            binding       32 bytes that both ends of this very handshake share, and nobody else
            seal          one packet to one record;  open: one record to one packet
            end           wipe
        What it asks of a DTLS 1.2 library: TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256 over
        X25519, extended master secret, the exporter (RFC 5705), and records through memory with
        the caller's clock. ports/p2p_mbedtls.h is one such port.

    ONE TABLE
        Firmware has one secure channel and one Ed25519 for ever. Compiled with
            -DP2P_STATIC_SECURE=p2p_mbedtls_api -DP2P_STATIC_CRYPTO=p2p_sodium_api
        and with the ports' implementations in the file that has P2P_IMPLEMENTATION (or with -flto),
        nothing is looked up at run time: calls of a table's functions are direct, its numbers are
        constants, and what nobody calls falls away. A table of one's own is declared before p2p.h
        is included and has external linkage. The desc keeps its layout and is filled in as ever;
        but the type of .api is another one, so a program that names a table itself, or was compiled
        without these macros, does not compile or is P2P_ERR_ABI. P2P_CRYPTO_NAMED and
        P2P_SECURE_NAMED give the value of .api for a table, P2P_CRYPTO_OF and P2P_SECURE_OF the
        table behind a p2p_crypto or p2p_secure, either way. The simulator does not go with it.

    ED25519 BY MONOCYPHER, SHA-256 BY MBEDTLS
        static int mono_public_key(void *ctx, const uint8_t seed[32], p2p_id *out) {
            uint8_t secret[64], copy[32];
            (void)ctx;
            memcpy(copy, seed, 32);                     // the next call wipes the seed it is given
            crypto_ed25519_key_pair(secret, out->bytes, copy);
            crypto_wipe(secret, sizeof secret);
            return P2P_OK;
        }
        static int mono_sign(void *ctx, const uint8_t seed[32], const void *message, size_t size,
                             uint8_t out[64]) {
            uint8_t secret[64], id[32], copy[32];
            (void)ctx;
            memcpy(copy, seed, 32);
            crypto_ed25519_key_pair(secret, id, copy);
            crypto_ed25519_sign(out, secret, (const uint8_t *)message, size);
            crypto_wipe(secret, sizeof secret);
            return P2P_OK;
        }
        static int mono_verify(void *ctx, const p2p_id *id, const void *message, size_t size,
                               const uint8_t signature[64]) {
            (void)ctx;
            return crypto_ed25519_check(signature, id->bytes, (const uint8_t *)message, size)
                       ? P2P_ERR_AUTH : P2P_OK;
        }
        static int mono_sha256(void *ctx, const void *const *parts, const size_t *sizes,
                               size_t count, uint8_t out[32]) {
            mbedtls_sha256_context h;
            size_t i;
            (void)ctx;
            mbedtls_sha256_init(&h);
            mbedtls_sha256_starts(&h, 0);
            for (i = 0; i < count; i++)
                mbedtls_sha256_update(&h, (const unsigned char *)parts[i], sizes[i]);
            mbedtls_sha256_finish(&h, out);
            mbedtls_sha256_free(&h);
            return P2P_OK;
        }
        static const p2p_crypto_api mono = {mono_public_key, mono_sign, mono_verify, mono_sha256};
*/
#ifndef P2P_H
#define P2P_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>config ====
 * For: versions, constants of the interface, and what the override macros default to.
 * Always: no macro changes a public struct.
 * Covered by tests/compile. */

#define P2P_VERSION          0x000100u  /* of the library: 0xMMmmpp */
#define P2P_WIRE_VERSION     1u         /* of the bytes on the wire; moves on its own */
#define P2P_NEVER            UINT64_MAX /* a time that does not come */
#define P2P_NONE             UINT32_MAX /* in a desc: none of it, where 0 is the default */
#define P2P_ID_TEXT_SIZE     53         /* 52 characters of z-base-32 and the NUL */
#define P2P_ADDR_TEXT_SIZE   64         /* the longest address text and its NUL */
#define P2P_TICKET_ADDRS     6          /* addresses in a ticket */
#define P2P_TICKET_TEXT_SIZE 384        /* the longest ticket text and its NUL */

#ifndef P2P_DEF
#if !defined(P2P_STATIC)
#define P2P_DEF extern
#elif defined(__GNUC__)
#define P2P_DEF static __attribute__((unused)) /* few programs call everything */
#else
#define P2P_DEF static
#endif
#endif

/* The optional rooms: 1 built in, 0 left out. */
#ifdef P2P_NO_ROUTER
#define P2P__ROUTER 0u
#else
#define P2P__ROUTER 1u
#endif
#ifdef P2P_NO_DISCOVERY
#define P2P__DISCOVERY 0u
#else
#define P2P__DISCOVERY 1u
#endif
#ifdef P2P_NO_DATAGRAM
#define P2P__DATAGRAMS 0u
#else
#define P2P__DATAGRAMS 1u
#endif
#ifdef P2P_NO_MESSAGES
#define P2P__MESSAGES 0u
#else
#define P2P__MESSAGES 1u
#endif
#ifdef P2P_NO_PARSE
#define P2P__PARSE 0u
#else
#define P2P__PARSE 1u
#endif
#ifdef P2P_NO_WORDS
#define P2P__WORDS 0u
#else
#define P2P__WORDS 1u
#endif
#ifdef P2P_NO_CHECK
#define P2P__CHECK 0u
#else
#define P2P__CHECK 1u
#endif
/* Whether a table is named at compile time. */
#ifdef P2P_STATIC_SECURE
#define P2P__ONE_SECURE 1u
#else
#define P2P__ONE_SECURE 0u
#endif
#ifdef P2P_STATIC_CRYPTO
#define P2P__ONE_CRYPTO 1u
#else
#define P2P__ONE_CRYPTO 0u
#endif
#define P2P__ROOMS                                                                                 \
    (P2P__ROUTER | P2P__DISCOVERY << 1 | P2P__DATAGRAMS << 2 | P2P__PARSE << 3 | P2P__WORDS << 4 | \
     P2P__CHECK << 5 | P2P__MESSAGES << 6 | P2P__ONE_SECURE << 7 | P2P__ONE_CRYPTO << 8)

/* Upper bounds for static arenas: constant expressions, one term for each line of the desc that
 * costs memory, and the term of the secure port. A test holds every one against p2p_arena_size.
 *
 *     static uint64_t
 *         arena[(P2P_ARENA_NODE + P2P_ARENA_CONNS(2, 0) + P2P_ARENA_IN_FLIGHT(24) +
 *                P2P_ARENA_STREAMS(2, 512, 8192) + P2P_MBEDTLS_ARENA_SIZE(2, 1) + 7) / 8];
 */
/* the node itself, its router and 4 timers; half-open handshakes are in the secure port's term */
#define P2P_ARENA_NODE (sizeof(void *) == 8 ? (size_t)7168 : (size_t)5632)
/* max.conns, and bytes.message_send or message_recv, whichever is larger (0 for P2P_NONE) */
#define P2P_ARENA_CONNS(conns, message_bytes) \
    ((size_t)(conns) * (2688u + 2u * (size_t)(message_bytes) + (size_t)(message_bytes) / 256u))
/* max.in_flight */
#define P2P_ARENA_IN_FLIGHT(packets) ((size_t)(packets)*72u)
/* max.streams with bytes.stream_*; once more for max.peer_streams with bytes.peer_* */
#define P2P_ARENA_STREAMS(streams, send, recv) \
    ((size_t)(streams) * (496u + (size_t)(send) + (size_t)(recv) + (size_t)(recv) / 256u))
/* max.datagrams_in and datagrams_out together */
#define P2P_ARENA_DATAGRAMS(in_and_out) ((size_t)(in_and_out)*1168u)
/* max.peers: what p2p_peer_add and discovery remember */
#define P2P_ARENA_PEERS(peers)          ((size_t)(peers)*264u)
/* max.routes: p2p_route_add only, the table of a service stays where it is */
#define P2P_ARENA_ROUTES(added)         ((size_t)(added)*32u)
/* max.relay_clients */
#define P2P_ARENA_RELAY(clients)        ((size_t)(clients)*256u)
/* a node with so many connections and streams in either direction, all else at its default */
#define P2P_ARENA_SIZE(conns, streams, stream_bytes)                                          \
    (P2P_ARENA_NODE + P2P_ARENA_CONNS(conns, 1u << 16) +                                      \
     2u * P2P_ARENA_STREAMS(streams, stream_bytes, stream_bytes) + P2P_ARENA_IN_FLIGHT(512) + \
     P2P_ARENA_DATAGRAMS(32) + P2P_ARENA_PEERS(16) + P2P_ARENA_ROUTES(32))

/* ==== >>types ====
 * For: everything that is not a function.
 * Always: no public field has an enum type, since compilers for bare-metal ARM make enums one byte
 * and their neighbours four; a desc of zeros is valid; P2P_ABI changes when a layout does.
 * Covered by tests/compile. */

/* ---- basic types --------------------------------------------------------------------------- */

typedef struct p2p_node p2p_node; /* lives in the arena */

/* Handles: 0 is none. Keep the node beside them; a stale or foreign one is P2P_ERR_HANDLE. */
typedef struct p2p_conn {
    uint32_t id;
} p2p_conn;
typedef struct p2p_stream {
    uint32_t id;
} p2p_stream;
typedef struct p2p_listener {
    uint32_t id;
} p2p_listener;

/* Text, not NUL-terminated. */
typedef struct p2p_str {
    const char *data;
    size_t size;
} p2p_str;
/* Bytes to read. */
typedef struct p2p_span {
    const uint8_t *data;
    size_t size;
} p2p_span;
/* Bytes to fill. */
typedef struct p2p_room {
    uint8_t *data;
    size_t size;
} p2p_room;
/* Initializer of a p2p_str from a string literal. */
#define P2P_STR(literal) \
    { (literal), sizeof(literal) - 1 }

/* ---- errors: name, value, text ------------------------------------------------------------- */

#define P2P_ERRORS(X)                                                                   \
    X(P2P_OK, 0, "success")                                                             \
    X(P2P_ERR_AGAIN, -1, "nothing to give or no room to take now: wait for the event")  \
    X(P2P_ERR_ARG, -2, "bad argument")                                                  \
    X(P2P_ERR_HANDLE, -3, "stale or foreign handle")                                    \
    X(P2P_ERR_STATE, -4, "not allowed in this state, or in a handler or hook")          \
    X(P2P_ERR_ARENA, -5, "arena too small")                                             \
    X(P2P_ERR_LIMIT, -6, "a table is full: raise its limit in the desc")                \
    X(P2P_ERR_TOO_LARGE, -7, "message, datagram, head or body too large")               \
    X(P2P_ERR_NETWORK, -8, "network unreachable or down")                               \
    X(P2P_ERR_IO, -9, "input or output failed")                                         \
    X(P2P_ERR_CONNECT, -10, "connection could not be made")                             \
    X(P2P_ERR_TIMEOUT, -11, "no answer in time")                                        \
    X(P2P_ERR_CLOSED, -12, "closed")                                                    \
    X(P2P_ERR_NO_ROUTE, -13, "no path to the node")                                     \
    X(P2P_ERR_NOT_FOUND, -14, "name or node unknown")                                   \
    X(P2P_ERR_DISCOVERY, -15, "discovery failed")                                       \
    X(P2P_ERR_PROTOCOL, -16, "the peer broke the protocol, or speaks another version")  \
    X(P2P_ERR_AUTH, -17, "the peer is not who was dialled")                             \
    X(P2P_ERR_INVALID_ID, -18, "not a node id: wrong text, or not a usable public key") \
    X(P2P_ERR_CONFIG, -19, "bad setting in the desc")                                   \
    X(P2P_ERR_ABI, -20, "declarations and implementation were built differently")       \
    X(P2P_ERR_RESET, -21, "the peer abandoned the stream")                              \
    X(P2P_ERR_REFUSED, -22, "the peer does not let this node in")

#define P2P__ERROR_ENUM(name, value, text) name = value,
enum p2p_err { P2P_ERRORS(P2P__ERROR_ENUM) };
#undef P2P__ERROR_ENUM

/* ---- identity ------------------------------------------------------------------------------ */

/* NodeId: an Ed25519 public key as RFC 8032 encodes it. */
typedef struct p2p_id {
    uint8_t bytes[32];
} p2p_id;

/* Secret seed and the public key computed from it. p2p_node_open refuses a seed of zeros (a
 * forgotten key), but for a crypto table that holds its key itself. */
typedef struct p2p_key {
    uint8_t seed[32];
    p2p_id id;
} p2p_key;

/* What is known of a failure. For P2P_ERR_TOO_LARGE size and max are the size and the limit; for
 * P2P_ERR_ARENA max is the size that is wanted. text names the field, the peer or the reason. */
typedef struct p2p_error_detail {
    int err;
    p2p_id peer;
    uint64_t size, max;
    char text[96];
} p2p_error_detail;

/* Four pure functions: P2P_OK or < 0. ports/p2p_sodium.h has them, a secure element may, the
 * simulator has stand-ins. verify: P2P_ERR_AUTH for a signature that does not fit. sha256 hashes
 * count parts as if they stood in a row. */
typedef struct p2p_crypto_api {
    int (*public_key)(void *ctx, const uint8_t seed[32], p2p_id *out);
    int (*sign)(void *ctx, const uint8_t seed[32], const void *message, size_t size,
                uint8_t out[64]);
    int (*verify)(void *ctx, const p2p_id *id, const void *message, size_t size,
                  const uint8_t signature[64]);
    int (*sha256)(void *ctx, const void *const *parts, const size_t *sizes, size_t count,
                  uint8_t out[32]);
} p2p_crypto_api;
#ifdef P2P_STATIC_CRYPTO
extern const p2p_crypto_api P2P_STATIC_CRYPTO;
typedef struct p2p_static_crypto p2p_static_crypto; /* never defined: it names and does no more */
typedef struct p2p_crypto {
    void *ctx;
    const p2p_static_crypto *api;
} p2p_crypto;
#define P2P_CRYPTO_NAMED(table) ((const p2p_static_crypto *)(const void *)&(table))
#define P2P_CRYPTO_OF(crypto)   ((void)(crypto), &P2P_STATIC_CRYPTO)
#else
typedef struct p2p_crypto {
    void *ctx;
    const p2p_crypto_api *api;
} p2p_crypto;
#define P2P_CRYPTO_NAMED(table) (&(table))
#define P2P_CRYPTO_OF(crypto)   ((crypto)->api)
#endif

/* Entropy, always from outside. fill: P2P_OK, or < 0 which makes p2p_node_open fail. */
typedef struct p2p_random {
    void *ctx;
    int (*fill)(void *ctx, void *out, size_t size);
} p2p_random;

/* ---- addresses and tickets ----------------------------------------------------------------- */

typedef struct p2p_addr {
    uint8_t ip[16]; /* network order; the first 4 bytes for IPv4 */
    uint32_t scope; /* IPv6 link-local: the interface's index; else 0 */
    uint16_t port;  /* host order */
    uint8_t family; /* 0 none, 4, 6 */
    uint8_t reserved;
} p2p_addr;

/* All that is known of a peer: what discovery answers, what a person pastes, what a relay is named
 * by. */
typedef struct p2p_ticket {
    p2p_id id;
    p2p_id relay_id; /* zeros: no relay */
    p2p_addr relay;
    p2p_addr addrs[P2P_TICKET_ADDRS];
    uint32_t addr_count;
} p2p_ticket;

/* ---- events -------------------------------------------------------------------------------- */

enum p2p_event_type {
    P2P_EVENT_NONE,
    /* .incoming, .peer, .listener: the handle is ready for use, accepted or not */
    P2P_EVENT_CONNECTED,
    /* .err, .code, .reason: the last one of its connection, after the CLOSED of its unfinished
     * streams. A stream that had arrived whole stays readable to its end. .err: P2P_OK closed here,
     * P2P_ERR_CLOSED by the peer (with its .code and .reason), P2P_ERR_TIMEOUT silence, or why a
     * dial failed */
    P2P_EVENT_DISCONNECTED,
    /* .relayed, .rtt_us: what the data goes over changed */
    P2P_EVENT_PATH,
    /* the peer opened .stream; requests are the router's and do not come here */
    P2P_EVENT_STREAM,
    /* p2p_stream_read has bytes, the end or the reset to tell */
    P2P_EVENT_READABLE,
    /* there is room to write again; without a stream: for p2p_send */
    P2P_EVENT_WRITABLE,
    /* .err, .code: the last one of its stream. Both halves are done and acknowledged, or it was
     * reset, or the connection is lost. Free what .user is. None comes for a request's stream whose
     * handler replied and set no user */
    P2P_EVENT_CLOSED,
    /* .size of the next message; with .err P2P_ERR_TOO_LARGE: lend p2p_recv_ref that much */
    P2P_EVENT_MESSAGE,
    /* .size of the next datagram */
    P2P_EVENT_DATAGRAM,
    /* .request for a route without a handler: reply now or later */
    P2P_EVENT_REQUEST,
    /* .status of the answer to .stream, or .err */
    P2P_EVENT_RESPONSE,
    /* .user is the token of p2p_send_ref; .err when the connection died before */
    P2P_EVENT_SENT,
    /* .query, .name, .peer (which p2p_connect knows now), or .err */
    P2P_EVENT_FOUND,
    /* .code is the timer's number */
    P2P_EVENT_TIMER,
    /* p2p_node_stop is done */
    P2P_EVENT_STOPPED,
    /* with p2p_connect_desc.reconnect: the handle is up again; streams of before ended with
     * CLOSED. .size messages were sent and not acknowledged at the break, and are not repeated;
     * .code and .reason are the peer's, if it was it that closed */
    P2P_EVENT_RECONNECTED
};

typedef struct p2p_request p2p_request;
typedef struct p2p_event {
    uint32_t type;  /* enum p2p_event_type */
    int32_t err;    /* P2P_OK or why */
    uint32_t code;  /* the peer application's close or reset code; the timer's number */
    uint32_t query; /* FOUND */
    p2p_conn conn;
    /* CONNECTED: the handle that p2p_connect_name gave, when .conn turned out to be one that was
     * open already; else as .conn */
    p2p_conn dialled;
    p2p_stream stream;
    p2p_listener listener;
    uint32_t rtt_us;
    void *user;                 /* the stream's, else the connection's */
    const p2p_request *request; /* until the next p2p_next_event, as .reason and .name */
    p2p_str reason;             /* DISCONNECTED, RECONNECTED: the peer's words */
    p2p_str name;               /* FOUND */
    uint64_t size;
    p2p_id peer;     /* of the connection, in every event that has one */
    uint16_t status; /* RESPONSE */
    uint8_t incoming, relayed;
} p2p_event;

/* ---- plug-in points ------------------------------------------------------------------------ */

/* One UDP datagram, or a run of equal ones (the last may be shorter) from or to one address: what
 * UDP_SEGMENT and UDP_GRO take and give. */
typedef struct p2p_packet {
    p2p_addr remote, local; /* local.family 0: any */
    /* input: may be overwritten, records are opened in place. output: room to fill */
    void *data;
    /* bytes in all. p2p_output: on entry the room, on return what was filled */
    size_t size;
    /* bytes of each datagram but the last; 0: one datagram of size bytes */
    uint32_t segment;
    uint8_t ecn;    /* 2 bits, RFC 3168 */
    uint8_t socket; /* which of the port's sockets; 0 if there is one */
    uint8_t reserved[2];
} p2p_packet;

/* What the carrier below can do. Datagrams leave only by p2p_output, so there is nothing to
 * call. */
typedef struct p2p_link {
    /* largest datagram in bytes, default 1232, at least 576; a session sends at most 1200 until
     * path MTU discovery found that more comes through */
    uint32_t mtu;
    /* most datagrams that p2p_output puts into one packet, default 1, at most 64 */
    uint32_t segments;
    uint8_t ecn; /* the link reports and sets ECN */
    uint8_t reserved[3];
    uint32_t local_count;
    /* this host's addresses with the bound port: a port's open fills them in, and
     * p2p_network_changed renews them */
    p2p_addr local[8];
} p2p_link;

typedef struct p2p_secure_api p2p_secure_api;
#ifdef P2P_STATIC_SECURE
extern const p2p_secure_api P2P_STATIC_SECURE;
typedef struct p2p_static_secure p2p_static_secure; /* never defined, as p2p_static_crypto */
typedef struct p2p_secure {
    void *ctx;
    const p2p_static_secure *api;
} p2p_secure;
#define P2P_SECURE_NAMED(table) ((const p2p_static_secure *)(const void *)&(table))
#define P2P_SECURE_OF(secure)   ((void)(secure), &P2P_STATIC_SECURE)
#else
typedef struct p2p_secure {
    void *ctx;
    /* sessions live in the node's arena: p2p_arena_size counts them */
    const p2p_secure_api *api;
} p2p_secure;
#define P2P_SECURE_NAMED(table) (&(table))
#define P2P_SECURE_OF(secure)   ((secure)->api)
#endif
typedef struct p2p_discovery_api p2p_discovery_api;
typedef struct p2p_discovery {
    void *ctx;
    const p2p_discovery_api *api;
} p2p_discovery;
typedef const char *(*p2p_getenv_fn)(void *ctx, const char *name);

/* What begin is told of a new secure session. */
typedef struct p2p_secure_params {
    uint8_t server; /* 1 answers, 0 dials */
    uint8_t reserved[3];
    uint32_t content; /* bytes of the largest packet that will be sealed or opened */
    /* first retransmission of a dialler's flight; it doubles. An answering side has no timer: only
     * the dialler repeats */
    uint32_t timer_us;
    uint8_t psk[32];
    p2p_random random; /* the node's generator, valid as long as the session */
} p2p_secure_params;

/* A secure channel. slab is the memory of one session: session_size bytes, aligned to 16. Calls
 * return 0 or a count, or < 0 when the session is dead. Nothing is sent from inside: what became
 * due is fetched by flight and seal. */
struct p2p_secure_api {
    const char *name; /* "mbedtls", "null": for p2p_arena_text and logs */
    /* 0, or a byte before every datagram: 0xBF for the simulator's null channel */
    uint8_t prefix;
    uint8_t insecure;  /* 1: p2p_node_open takes it in the simulator only */
    uint16_t overhead; /* bytes that seal adds: 29 for DTLS 1.2 with ChaCha20-Poly1305 */
    /* bytes of the largest packet it was built for; a larger link.mtu is refused */
    uint32_t content_max;
    /* Bytes of one session's slab, a multiple of 16. */
    size_t (*session_size)(void *ctx, uint32_t content);
    /* The slab holds anything. 0 or < 0. */
    int (*begin)(void *ctx, void *slab, size_t size, const p2p_secure_params *params);
    /* The handshake bytes of one envelope, which may be overwritten. 0 goes on, 1 handshake
     * complete. */
    int (*feed)(void *ctx, void *slab, uint64_t now_us, uint8_t *records, size_t size);
    /* The next handshake datagram that is due, repeats included: bytes, or 0 for none now. keep: it
     * stays the next one, to be sent to a further address. */
    int (*flight)(void *ctx, void *slab, uint64_t now_us, uint8_t *out, size_t room, int keep);
    /* The whole last flight becomes due at once, after RETRY. */
    int (*resend)(void *ctx, void *slab, uint64_t now_us);
    /* When flight is to be asked: 0 now, or P2P_NEVER. */
    uint64_t (*deadline)(void *ctx, const void *slab);
    /* The channel binding (RFC 5705, RFC 9266); P2P_ERR_STATE before the handshake is complete. */
    int (*binding)(void *ctx, const void *slab, uint8_t out[32]);
    /* One packet to one record: bytes. packet may lie anywhere, also inside out. */
    int (*seal)(void *ctx, void *slab, const uint8_t *packet, size_t size, uint8_t *out,
                size_t room);
    /* One record to one packet: bytes in *out, inside record or slab, until the next call; 0 for a
     * replay, a forgery or junk; P2P_ERR_CLOSED for close_notify or a fatal alert. */
    int (*open)(void *ctx, void *slab, uint8_t *record, size_t size, uint8_t **out);
    /* Wipes; the slab may be begun again. */
    void (*end)(void *ctx, void *slab);
};

/* A provider of names and addresses. It answers by p2p_discovered, from inside the call or
 * later. */
struct p2p_discovery_api {
    int (*publish)(void *ctx, p2p_node *node, const char *name); /* NULL: withdraw all */
    int (*resolve)(void *ctx, p2p_node *node, uint32_t query, const char *name,
                   const p2p_id *id); /* by name, or (name NULL) by id; < 0: not found */
    void (*cancel)(void *ctx, p2p_node *node, uint32_t query);
};

/* ---- the node's desc ----------------------------------------------------------------------- */

/* What is known of who knocks. */
typedef struct p2p_gate {
    const p2p_addr *from;
    /* NULL at the first datagram, before memory or cipher is spent on it; then asked again with the
     * proved identity */
    const p2p_id *id;
    p2p_str alpn;
    uint32_t conns, half_open; /* how many there are */
} p2p_gate;

typedef struct p2p_desc {
    uint32_t _canary_start;
    /* copied; wipe yours after open. NULL: a fresh one. Simulator keys are P2P_ERR_CONFIG off the
     * simulator */
    const p2p_key *key;
    void *user;            /* p2p_node_user gives it back */
    p2p_error_detail *why; /* filled in by every call that takes this desc and fails */
    /* default "p2p", 1 to 64 bytes: nodes of another network are strangers and get no answer */
    const char *network;
    const char *const *alpn; /* default one, "p2p"; each 1 to 32 bytes */
    uint32_t alpn_count;
    p2p_link link;
    p2p_secure secure;
    p2p_crypto crypto;
    p2p_random random;
    p2p_discovery discovery;
    const p2p_ticket *relays;
    uint32_t relay_count;
    const p2p_ticket *bootstrap;
    uint32_t bootstrap_count;
    /* congestion control: 0 the best built in, 1 BBR, 2 CUBIC, 3 NewReno; P2P_ERR_CONFIG: another,
     * or one that is not built in */
    uint8_t congestion;
    /* p2p_listen without this and without allow is P2P_ERR_CONFIG: a desc of zeros opens no door */
    uint8_t allow_anyone;
    struct {
        int (*fn)(void *ctx, const p2p_gate *who);
        void *ctx;
    } allow; /* 1 yes; 0 refuse: in silence while there is no id, else with P2P_ERR_REFUSED */
    struct {
        void (*fn)(void *ctx, int level, const char *item, const char *text);
        void *ctx;
        int level; /* 1 errors, 2 warnings, 3 information, 4 debugging */
    } log;
    struct p2p_desc_max {        /* counts; p2p_arena_text says what each costs */
        uint32_t conns;          /* 8 */
        uint32_t half_open;      /* 4: handshakes at a time, dials and callers each, within conns */
        uint32_t conns_per_peer; /* 2; beyond it P2P_ERR_LIMIT */
        uint32_t services;       /* 4 */
        uint32_t streams;        /* 16 opened here, all connections together */
        /* 16 opened by peers, all connections together: each peer is granted what is free */
        uint32_t peer_streams;
        uint32_t peer_streams_per_conn; /* as peer_streams */
        /* 32, by p2p_route_add; those of a service cost nothing */
        uint32_t routes;
        uint32_t listeners; /* 2 */
        uint32_t peers;     /* 16 */
        uint32_t timers;    /* 4 */
        /* 512 packets sent and not yet acknowledged, in the node: times the mtu a round trip, it
         * bounds the rate */
        uint32_t in_flight;
        uint32_t datagrams_in;  /* 16, in the node */
        uint32_t datagrams_out; /* 16, in the node */
        /* P2P_NONE; more: this node is a relay (P2P_ERR_CONFIG while relaying is not built in) */
        uint32_t relay_clients;
    } max;
    struct p2p_desc_bytes {
        uint32_t stream_send, stream_recv; /* 16384, 16384: of a stream opened here */
        /* as stream_*: of one opened by a peer, such as a request */
        uint32_t peer_send, peer_recv;
        /* 1048576: the largest that a peer may send. P2P_NONE: no messages, no memory for them */
        uint32_t message_max;
        /* 65536, 65536 a connection; larger messages go by p2p_send_ref and p2p_recv_ref */
        uint32_t message_send, message_recv;
        uint32_t head_max; /* 8192: of a request's head */
        /* 4096: of a body that a handler gets whole. With head_max at most peer_recv; where the
         * defaults do not fit, 0 means what the other one leaves, or half each */
        uint32_t body_max;
        uint32_t datagram_max; /* 1152 */
    } bytes;
    struct p2p_desc_time {   /* microseconds */
        uint64_t connect_us; /* 30 s */
        uint64_t idle_us;    /* 30 s; the smaller of both sides' holds */
        /* 10 s without a packet, or half of both sides' idle_us if that is less: a PING */
        uint64_t keepalive_us;
        /* 30 s to the head of an answer; a deferred reply that misses it is a 504 */
        uint64_t request_us;
        uint64_t datagram_us; /* 0: kept until sent; else older ones are dropped unsent */
        uint64_t stop_us;     /* 3 s for p2p_node_stop */
        /* 7 days: then a connection ends with P2P_ERR_CLOSED; dial again for fresh keys, or let
         * p2p_connect_desc.reconnect do it */
        uint64_t max_age_us;
    } time;
    uint32_t _canary_end;
} p2p_desc;

/* Where p2p_desc_from_env keeps what it read; it must live as long as the desc is used. */
typedef struct p2p_env {
    p2p_ticket relays[8], bootstrap[8];
    p2p_key key;
    char text[256];
} p2p_env;

/* ---- connections and streams --------------------------------------------------------------- */

typedef struct p2p_connect_desc {
    const char *alpn;    /* NULL: the node's first */
    void *user;          /* p2p_conn_user, and .user of the connection's events */
    uint64_t timeout_us; /* 0: time.connect_us */
    /* an open connection to the same peer and ALPN serves, retained once more */
    uint8_t share;
    /* the handle outlives breaks: it dials again by itself, and RECONNECTED tells; see RECONNECT */
    uint8_t reconnect;
    uint8_t reserved[6];
} p2p_connect_desc;

typedef struct p2p_listen_desc {
    const char *alpn; /* NULL: any of the node's */
    void *user;       /* of the connections that come in by it */
    uint32_t backlog; /* connections that may wait for p2p_accept; 0: max.conns */
} p2p_listen_desc;

typedef struct p2p_stats {
    uint64_t duration_us, messages_sent, messages_received, bytes_sent, bytes_received;
    uint64_t datagrams_sent, datagrams_received, datagrams_dropped;
    uint64_t packets_sent, packets_received, packets_lost;
    uint32_t rtt_us, rtt_min_us, mtu;
    uint8_t relayed, reserved[3];
    p2p_addr remote;
    /* congestion control: what may be under way, what is, and bytes a second at which they leave */
    uint32_t window_bytes, in_flight_bytes, pacing_rate;
    uint32_t rtt_variance_us;
} p2p_stats;

typedef struct p2p_stream_desc {
    uint8_t one_way;  /* bytes go from here only */
    uint8_t priority; /* 0 (first) to 7 */
    uint8_t reserved[6];
    void *user;
} p2p_stream_desc;

/* ---- requests ------------------------------------------------------------------------------ */

enum p2p_method { P2P_GET, P2P_POST, P2P_PUT, P2P_DELETE, P2P_PATCH };

typedef struct p2p_header {
    p2p_str name, value;
} p2p_header;

struct p2p_request {
    p2p_conn conn;
    p2p_stream stream;
    p2p_id peer;
    uint32_t method;     /* enum p2p_method */
    p2p_str path, query; /* plain text; query as it came */
    const p2p_header *params;
    size_t param_count;
    const p2p_header *headers;
    size_t header_count;
    p2p_span body; /* all of it, unless the route streams */
    void *ctx;     /* the route's */
};

/* Everything in request holds until the handler returns. */
typedef void (*p2p_handler)(p2p_node *node, const p2p_request *request, void *ctx);

enum p2p_route_flags {
    /* the handler is called at the head, and reads the body by p2p_stream_read, with backpressure.
     * Without it: called once the whole body is here; a body over bytes.body_max is a 413 */
    P2P_ROUTE_STREAM = 1
};

typedef struct p2p_route {
    uint32_t method; /* enum p2p_method */
    uint32_t flags;  /* enum p2p_route_flags */
    const char *pattern;
    p2p_handler handler; /* NULL: P2P_EVENT_REQUEST */
    void *ctx;
} p2p_route;

typedef struct p2p_service {
    const char *prefix;      /* "" or "/music": the patterns are below it */
    const p2p_route *routes; /* kept by reference: a table in flash costs no memory */
    size_t count;
    /* NULL, or: 0, or the status to refuse with */
    int (*guard)(void *ctx, const p2p_request *request);
    void *ctx;
} p2p_service;

typedef struct p2p_request_desc {
    uint32_t method;  /* enum p2p_method */
    uint8_t more;     /* the body goes on by p2p_stream_write and p2p_stream_finish */
    uint8_t priority; /* 0 (first) to 7 */
    uint8_t reserved[2];
    const char *path, *query; /* plain text, nothing is escaped; query NULL: none */
    const p2p_header *headers;
    size_t header_count;
    const void *body;
    size_t body_size;
    void *user;
} p2p_request_desc;

typedef struct p2p_response_head {
    int status; /* 100 to 599 */
    const p2p_header *headers;
    size_t header_count;
} p2p_response_head;

/* ---- metrics: name, Prometheus kind, meaning. Gauges stand last, from conns_open on --------- */
#define P2P_METRICS(X)                                                                             \
    /* datagrams on the sockets */                                                                 \
    X(datagrams_in, "counter", "UDP datagrams offered to p2p_input")                               \
    X(datagrams_out, "counter", "UDP datagrams given by p2p_output")                               \
    X(bytes_in, "counter", "bytes of UDP payload offered to p2p_input")                            \
    X(bytes_out, "counter", "bytes of UDP payload given by p2p_output")                            \
    X(drop_short, "counter", "datagrams too short for what their first byte says")                 \
    X(drop_unknown_type, "counter", "datagrams with a first byte that names nothing")              \
    X(drop_oversize, "counter", "handshake envelopes longer than 512 bytes, or data over the mtu") \
    X(drop_unknown_session, "counter", "datagrams with a session id that is not known")            \
    X(drop_session_in_use, "counter", "first datagrams with a session id in use")                  \
    X(drop_bad_tag, "counter", "handshake envelopes whose tag is wrong")                           \
    X(drop_early_data, "counter", "data records before this side's handshake was over")            \
    X(drop_late_envelope, "counter", "handshake envelopes after the first data record was opened") \
    X(drop_no_listener, "counter", "first datagrams while nothing listens")                        \
    X(drop_gate, "counter", "first datagrams that the allow hook turned away in silence")          \
    X(drop_source_limit, "counter", "first datagrams of a source with two half-open sessions")     \
    X(drop_half_open_limit, "counter", "first datagrams while every half-open place is taken")     \
    X(drop_amplification, "counter", "withheld: over 3 x what an unproven source sent")            \
    X(drop_address, "counter", "data records from an address that is not the session's")           \
    /* admission and handshake */                                                                  \
    X(retry_sent, "counter", "RETRY answers to unproven sources")                                  \
    X(retry_received, "counter", "RETRY answers that a dial obeyed")                               \
    X(retry_accepted, "counter", "first datagrams with a good cookie")                             \
    X(cookie_bad, "counter", "first datagrams with a bad or outdated cookie")                      \
    X(half_open_evicted, "counter", "sessions without a second flight: a caller took the place")   \
    X(half_open_expired, "counter", "unproven sessions that were too slow")                        \
    X(handshakes_started, "counter", "handshakes begun, both roles, restarts included")            \
    X(handshakes_done, "counter", "handshakes completed by the secure channel")                    \
    X(handshakes_failed, "counter", "handshakes that died: bad flight, slab too small, no answer") \
    X(restarts, "counter", "dials that began a new attempt")                                       \
    X(auth_failed, "counter", "identity proofs that did not verify, or changed")                   \
    X(auth_refused, "counter", "proved callers that the allow hook or a limit turned away")        \
    X(hello_bad, "counter", "HELLO bodies that are malformed or changed")                          \
    X(hello_no_version, "counter", "sessions closed for want of a common wire version")            \
    X(hello_no_alpn, "counter", "sessions closed for want of a common ALPN")                       \
    X(duplicates_closed, "counter", "sessions closed because both ends dialled at once")           \
    /* packets and recovery */                                                                     \
    X(packets_sent, "counter", "packets sealed and sent")                                          \
    X(packets_received, "counter", "packets opened, new ones only")                                \
    X(packets_lost, "counter", "packets declared lost")                                            \
    X(packets_duplicate, "counter", "packets whose number was seen before")                        \
    X(packets_old, "counter", "packets older than the 1024 numbers that are remembered")           \
    X(packets_before_proof, "counter", "packets dropped whole: too early for their frames")        \
    X(records_bad, "counter", "data records that did not open: forged, corrupt or replayed")       \
    X(records_fatal, "counter", "sessions ended by the secure channel: alert, exhausted slab")     \
    X(frames_bad, "counter", "connections closed for a malformed or forbidden frame")              \
    X(ack_of_unsent, "counter", "connections closed for acknowledging what was never sent")        \
    X(flow_violations, "counter", "connections closed for a byte or stream beyond its limit")      \
    X(acks_sent, "counter", "ACK frames sent")                                                     \
    X(challenges_answered, "counter", "PATH_RESPONSE frames sent")                                 \
    X(challenges_dropped, "counter", "path challenges that got no answer: too many, or too short") \
    X(spurious_losses, "counter", "packets declared lost that arrived all the same")               \
    X(pto_fired, "counter", "probe timeouts")                                                      \
    X(persistent_congestion, "counter", "collapses of the congestion window")                      \
    X(pmtu_probes, "counter", "datagrams sent to see whether their size comes through")            \
    X(pmtu_black_holes, "counter", "sessions that fell back to 1200 bytes")                        \
    /* streams, messages, datagrams */                                                             \
    X(streams_opened, "counter", "streams opened here, requests included")                         \
    X(streams_accepted, "counter", "streams opened by peers, requests included")                   \
    X(streams_reset_sent, "counter", "streams abandoned here")                                     \
    X(streams_reset_received, "counter", "streams abandoned by a peer")                            \
    X(stream_bytes_dropped, "counter", "stream bytes for which no reader was left")                \
    X(holes_full, "counter", "packets not acknowledged: a stream had no place for one more hole")  \
    X(messages_sent, "counter", "messages taken by p2p_send and p2p_send_ref")                     \
    X(messages_received, "counter", "messages given by p2p_recv and p2p_recv_ref")                 \
    X(message_too_large, "counter", "connections closed for a message over message_max")           \
    X(app_datagrams_sent, "counter", "DATAGRAM frames sent")                                       \
    X(app_datagrams_received, "counter", "DATAGRAM frames received")                               \
    X(app_datagrams_dropped_out, "counter", "datagrams out that gave way or expired")              \
    X(app_datagrams_dropped_in, "counter", "datagrams that gave way in the queue in")              \
    /* requests */                                                                                 \
    X(requests_sent, "counter", "requests begun here")                                             \
    X(requests_received, "counter", "request heads read")                                          \
    X(requests_bad, "counter", "requests answered by the router itself with 400 or 413")           \
    X(requests_unrouted, "counter", "requests answered by the router itself with 404 or 405")      \
    X(requests_timeout, "counter", "requests without an answer in time, both roles")               \
    X(responses_bad, "counter", "response heads that are malformed")                               \
    /* the node */                                                                                 \
    X(events_given, "counter", "events given by p2p_next_event")                                   \
    X(handlers_run, "counter", "request handlers run")                                             \
    X(conns_dialled, "counter", "connections that p2p_connect began")                              \
    X(conns_accepted, "counter", "connections that peers began and that were let in")              \
    X(conns_idle, "counter", "connections ended by the idle timeout")                              \
    X(conns_broken, "counter", "breaks after which a handle with .reconnect dialled again")        \
    X(clock_back, "counter", "calls with a time before the latest one known")                      \
    X(random_failed, "counter", "refusals of the generator or the crypto table")                   \
    X(conns_open, "gauge", "connections in the table")                                             \
    X(sessions_open, "gauge", "secure sessions in use, half-open ones included")                   \
    X(half_open, "gauge", "secure sessions without a finished handshake")                          \
    X(streams_open, "gauge", "streams in the table")                                               \
    X(in_flight, "gauge", "packets sent and not yet acknowledged or lost")                         \
    X(arena_bytes, "gauge", "bytes of the arena that the node was opened with")                    \
    X(arena_used_bytes, "gauge", "bytes of the arena that live objects hold now")

#define P2P__METRIC_INDEX(name, kind, help) P2P_METRIC_##name,
enum p2p_metric { P2P_METRICS(P2P__METRIC_INDEX) P2P_METRIC_COUNT };
#undef P2P__METRIC_INDEX

typedef struct p2p_metrics {
    uint64_t value[96]; /* by enum p2p_metric */
} p2p_metrics;

/* ==== >>api ====
 * For: every function. Order of arguments: node, handle, inputs, outputs. Calls without a time
 * happen at p2p_now.
 * Always: a call that fails changes nothing and says why (p2p_last_error). P2P_ERR_ARG (a NULL, a
 * value out of range), P2P_ERR_HANDLE and P2P_ERR_STATE may come wherever they make sense and are
 * not repeated below.
 * Covered by tests/behaviour. */

/* ---- basic --------------------------------------------------------------------------------- */

/* P2P_VERSION of the implementation. */
P2P_DEF uint32_t p2p_version(void);

/* P2P_ABI of the implementation: version, pointer size and layout of every public struct. */
P2P_DEF uint32_t p2p_abi(void);

/* A view of a NUL-terminated text, without the NUL. NULL gives an empty one. */
P2P_DEF p2p_str p2p_str_of(const char *text);

/* Equal in size and every byte. */
P2P_DEF bool p2p_str_equal(p2p_str a, const char *b);

/* All of the text as a decimal number without sign, or P2P_ERR_ARG: empty, other characters, over
 * 64 bits. */
P2P_DEF int p2p_str_u64(p2p_str text, uint64_t *out);

/* The number in decimal; the view lies in buffer. For headers, without stdio. */
P2P_DEF p2p_str p2p_u64_str(uint64_t value, char buffer[21]);

#ifndef P2P_NO_WORDS
/* "P2P_ERR_TIMEOUT" */
P2P_DEF const char *p2p_err_name(int err);

/* "no answer in time" */
P2P_DEF const char *p2p_err_text(int err);
#endif

/* Zeros that the compiler may not leave out. */
P2P_DEF void p2p_wipe(void *secret, size_t size);

/* ---- identity ------------------------------------------------------------------------------ */

/* A fresh key: 32 bytes of random become the seed. Errors are those of the two tables. */
P2P_DEF int p2p_key_generate(const p2p_crypto *crypto, const p2p_random *random, p2p_key *out);

/* The key of a seed. */
P2P_DEF int p2p_key_from_seed(const p2p_crypto *crypto, const uint8_t seed[32], p2p_key *out);

#ifndef P2P_NO_PARSE
/* 52 characters of z-base-32, most significant bit first; returns 52. */
P2P_DEF int p2p_id_text(const p2p_id *id, char out[P2P_ID_TEXT_SIZE]);

/* The first 5 bytes as 10 hex digits, for logs; returns 10. Too short to tell strangers apart. */
P2P_DEF int p2p_id_short(const p2p_id *id, char out[11]);

/* z-base-32 (52 characters) or hex (64). P2P_ERR_INVALID_ID: another length or character, spare
 * bits that are not zero, zero, a point of small order, or an encoding that is not canonical. */
P2P_DEF int p2p_id_parse(const char *text, p2p_id *out);
#endif

P2P_DEF bool p2p_id_equal(const p2p_id *a, const p2p_id *b);

/* ---- addresses and tickets ----------------------------------------------------------------- */

#ifndef P2P_NO_PARSE
/* "127.0.0.1:8800", "[::1]:8800", "[fe80::1%2]:8800". P2P_ERR_ARG. */
P2P_DEF int p2p_addr_parse(const char *text, p2p_addr *out);

/* The same, canonical (RFC 5952 for IPv6); returns its length. */
P2P_DEF int p2p_addr_text(const p2p_addr *addr, char out[P2P_ADDR_TEXT_SIZE]);
#endif

/* This node's own ticket, with what is known of its addresses by now. */
P2P_DEF int p2p_ticket_of(const p2p_node *node, p2p_ticket *out);

#ifndef P2P_NO_PARSE
/* One word; returns its length. */
P2P_DEF int p2p_ticket_text(const p2p_ticket *ticket, char out[P2P_TICKET_TEXT_SIZE]);

/* P2P_ERR_ARG: cut or mistyped (the checksum); P2P_ERR_INVALID_ID: its id; P2P_ERR_PROTOCOL: a
 * version that is not known here. */
P2P_DEF int p2p_ticket_parse(const char *text, p2p_ticket *out);
#endif

#if !defined(P2P_NO_PARSE) && !defined(P2P_NO_WORDS)
/* For a person: which part of the text is damaged and how; NULL when it is a ticket. */
P2P_DEF const char *p2p_ticket_fault(const char *text);
#endif

/* ---- the node ------------------------------------------------------------------------------ */

/* Bytes that p2p_node_open will want of the arena, exact, the secure port's share included. 0:
 * desc.why says what is wrong with the desc. */
P2P_DEF size_t p2p_arena_size(const p2p_desc *desc);

#ifndef P2P_NO_WORDS
/* What the arena is for, a line each: "streams  4 x 16576 = 66304". Returns the length, or
 * P2P_ERR_TOO_LARGE. */
P2P_DEF int p2p_arena_text(const p2p_desc *desc, char *out, size_t size);
#endif

/* Opens a node in an arena, which must be aligned to 8 and stay until p2p_node_close. abi is
 * P2P_ABI of the declarations that the caller was compiled with; a binding passes the value it was
 * generated with. P2P_ERR_ABI; P2P_ERR_ARENA (detail.max is the size it wants); P2P_ERR_CONFIG (a
 * desc that nobody zeroed, a missing table, a seed of zeros, a simulator key, a generator that
 * repeats itself, ...). */
P2P_DEF int p2p_node_open_abi(p2p_node **out, const p2p_desc *desc, void *arena, size_t arena_size,
                              uint32_t abi);

/* As p2p_node_open_abi, but takes simulator keys and insecure channels. For p2p_sim.h only. */
P2P_DEF int p2p_node_open_simulated(p2p_node **out, const p2p_desc *desc, void *arena,
                                    size_t arena_size, uint32_t abi);

/* Takes nothing new, delivers what was accepted before, closes every connection with this code, and
 * then gives P2P_EVENT_STOPPED: at the latest after time.stop_us. Go on driving until then. */
P2P_DEF int p2p_node_stop(p2p_node *node, uint32_t code);

/* At once and without a goodbye. Wipes secrets; the arena is the caller's again. */
P2P_DEF void p2p_node_close(p2p_node *node);

P2P_DEF const p2p_id *p2p_node_id(const p2p_node *node);

/* desc.user */
P2P_DEF void *p2p_node_user(const p2p_node *node);

/* Of the last call with this node that failed: which peer, which field, how large, why, in
 * words. */
P2P_DEF void p2p_last_error(const p2p_node *node, p2p_error_detail *out);

#ifndef P2P_NO_PARSE
/* Fills the desc from variables that get supplies; what is unset stays as it is. P2P_NETWORK;
 * P2P_SEED (64 hex digits; desc.crypto must be there); P2P_RELAYS and P2P_BOOTSTRAP (tickets, with
 * commas between); P2P_CONNECT_TIMEOUT_MS, P2P_IDLE_TIMEOUT_MS, P2P_KEEPALIVE_MS. P2P_ERR_CONFIG:
 * *bad_name is the variable at fault. */
P2P_DEF int p2p_desc_from_env(p2p_desc *desc, p2p_env *storage, p2p_getenv_fn get, void *ctx,
                              const char **bad_name);
#endif

/* ---- driving ------------------------------------------------------------------------------- */

/* A datagram or a run of equal ones came. 1: taken. 0: not for this node, and the bytes are
 * untouched, so that the next node on the same socket may be offered them; or junk, counted. Call
 * p2p_output and p2p_next_event after it. */
P2P_DEF int p2p_input(p2p_node *node, uint64_t now_us, const p2p_packet *in);

/* Runs the timers that are due, in bounded work. Returns p2p_deadline. */
P2P_DEF uint64_t p2p_poll(p2p_node *node, uint64_t now_us);

/* Builds one packet into inout->data (inout->size bytes of room: at least 513, and link.mtu to use
 * it; with link.segments more than one, room for a run of them is filled with a run). 1, or 0 when
 * nothing may be sent now. Call it again until 0, or stop when the socket is full: nothing is
 * lost. */
P2P_DEF int p2p_output(p2p_node *node, uint64_t now_us, p2p_packet *inout);

/* 1: an event in *out. 0: none. Runs at most one request handler a call; the event may then be
 * P2P_EVENT_NONE. Call it again until 0. */
P2P_DEF int p2p_next_event(p2p_node *node, p2p_event *out);

/* When p2p_poll is wanted. 0: now, there is something to send or an event to take. P2P_NEVER. Exact
 * after any call. */
P2P_DEF uint64_t p2p_deadline(const p2p_node *node);

/* As p2p_deadline, but for a driver that leaves events to someone else: they do not count. */
P2P_DEF uint64_t p2p_wakeup(const p2p_node *node);

/* Runs one waiting request handler and leaves events alone: 1 ran, 0 none. For such drivers. */
P2P_DEF int p2p_run_handler(p2p_node *node);

/* The latest time the node was told. */
P2P_DEF uint64_t p2p_now(const p2p_node *node);

/* This host's addresses, at start and on every change. At most 8. */
P2P_DEF int p2p_network_changed(p2p_node *node, uint64_t now_us, const p2p_addr *local,
                                size_t count);

/* One TIMER event at at_us; number < max.timers. P2P_NEVER disarms it. */
P2P_DEF int p2p_timer_set(p2p_node *node, uint32_t number, uint64_t at_us);

/* ---- connections --------------------------------------------------------------------------- */

/* Where a peer may be found: what p2p_connect needs beside the id. The newest wins.
 * P2P_ERR_INVALID_ID, P2P_ERR_LIMIT (max.peers). */
P2P_DEF int p2p_peer_add(p2p_node *node, const p2p_ticket *peer);

/* P2P_ERR_NOT_FOUND. Connections to it stay. */
P2P_DEF int p2p_peer_remove(p2p_node *node, const p2p_id *peer);

/* Dials. 0: CONNECTED or DISCONNECTED will come. 1: with desc.share, an open one serves; neither
 * comes, and p2p_release is due when done. desc NULL: all defaults. P2P_ERR_LIMIT (max.conns,
 * max.conns_per_peer), P2P_ERR_INVALID_ID (one's own id is one). */
P2P_DEF int p2p_connect(p2p_node *node, const p2p_id *peer, const p2p_connect_desc *desc,
                        p2p_conn *out);

#ifndef P2P_NO_DISCOVERY
/* Discovers the name, then dials. With desc.share it may turn out to be a peer with an open
 * connection: then CONNECTED has that one in .conn and *out in .dialled. */
P2P_DEF int p2p_connect_name(p2p_node *node, const char *name, const p2p_connect_desc *desc,
                             p2p_conn *out);
#endif

/* Lets callers in, as desc.allow says. Without a listener nobody gets in. desc NULL: for any
 * application protocol. P2P_ERR_CONFIG: neither allow nor allow_anyone; P2P_ERR_LIMIT
 * (max.listeners). */
P2P_DEF int p2p_listen(p2p_node *node, const p2p_listen_desc *desc, p2p_listener *out);

/* Connections that came in by it stay. */
P2P_DEF int p2p_unlisten(p2p_node *node, p2p_listener listener);

/* The connections that came in, in order, for programs without an event switch. P2P_ERR_AGAIN. */
P2P_DEF int p2p_accept(p2p_node *node, p2p_listener listener, p2p_conn *out);

/* Closes for all holders of the handle; what was sent before is still delivered. reason: at most 96
 * bytes of UTF-8, or NULL. DISCONNECTED follows. */
P2P_DEF int p2p_close(p2p_node *node, p2p_conn conn, uint32_t code, const char *reason);

/* One holder more or fewer of the handle; return how many there are. The last p2p_release closes
 * with code 0. */
P2P_DEF int p2p_retain(p2p_node *node, p2p_conn conn);
P2P_DEF int p2p_release(p2p_node *node, p2p_conn conn);

/* CONNECTED was reached and DISCONNECTED was not. */
P2P_DEF bool p2p_is_connected(const p2p_node *node, p2p_conn conn);

P2P_DEF int p2p_remote_id(const p2p_node *node, p2p_conn conn, p2p_id *out);

/* Handles of the connections that are up, at most capacity of them; returns how many there are. */
P2P_DEF int p2p_connections(const p2p_node *node, p2p_conn *out, size_t capacity);

/* The application protocol that was agreed on. P2P_ERR_STATE before CONNECTED. */
P2P_DEF int p2p_conn_alpn(const p2p_node *node, p2p_conn conn, p2p_str *out);

P2P_DEF int p2p_conn_set_user(p2p_node *node, p2p_conn conn, void *user);
P2P_DEF void *p2p_conn_user(const p2p_node *node, p2p_conn conn);
P2P_DEF int p2p_conn_stats(const p2p_node *node, p2p_conn conn, p2p_stats *out);

/* ---- messages: in order, exactly once; allowed from p2p_connect on, queued until CONNECTED - */

#ifndef P2P_NO_MESSAGES
/* All of it, or P2P_ERR_AGAIN (WRITABLE will come), or P2P_ERR_TOO_LARGE: over bytes.message_send
 * (use p2p_send_ref) or over what the peer takes. */
P2P_DEF int p2p_send(p2p_node *node, p2p_conn conn, const void *message, size_t size);

/* The next message: its size. P2P_ERR_AGAIN; P2P_ERR_TOO_LARGE for a small buffer leaves it in
 * place. */
P2P_DEF int p2p_recv(p2p_node *node, p2p_conn conn, void *buffer, size_t capacity);

/* Size of the next message, known as soon as its first bytes are here. P2P_ERR_AGAIN. */
P2P_DEF int p2p_recv_size(const p2p_node *node, p2p_conn conn);

/* Lends memory for a message larger than bytes.message_recv, which MESSAGE with P2P_ERR_TOO_LARGE
 * asked for. It fills as bytes come; MESSAGE with .user = buffer gives it back. */
P2P_DEF int p2p_recv_ref(p2p_node *node, p2p_conn conn, void *buffer, size_t capacity);

/* For messages larger than the send buffer: the caller keeps the memory unchanged until SENT, which
 * always comes and carries the token. P2P_ERR_AGAIN while another one is under way. */
P2P_DEF int p2p_send_ref(p2p_node *node, p2p_conn conn, const void *message, size_t size,
                         void *token);
#endif

/* ---- streams: reliable ordered bytes; allowed from p2p_connect on -------------------------- */

/* desc NULL: both ways, priority 0. P2P_ERR_LIMIT: max.streams. */
P2P_DEF int p2p_stream_open(p2p_node *node, p2p_conn conn, const p2p_stream_desc *desc,
                            p2p_stream *out);

/* The streams that the peer opened, in order, for programs without an event switch.
 * P2P_ERR_AGAIN. */
P2P_DEF int p2p_stream_accept(p2p_node *node, p2p_conn conn, p2p_stream *out);

P2P_DEF int p2p_stream_set_user(p2p_node *node, p2p_stream s, void *user);
P2P_DEF void *p2p_stream_user(const p2p_node *node, p2p_stream s);
P2P_DEF int p2p_stream_conn(const p2p_node *node, p2p_stream s, p2p_conn *out);

/* Bytes taken, maybe fewer than size: then WRITABLE comes. P2P_ERR_AGAIN for none, P2P_ERR_RESET,
 * P2P_ERR_STATE after finish, P2P_ERR_CLOSED. */
P2P_DEF int p2p_stream_write(p2p_node *node, p2p_stream s, const void *data, size_t size);

/* Room in the send buffer, contiguous and up to want bytes, for read(2) or DMA. It stays and does
 * not move until committed. P2P_ERR_AGAIN: WRITABLE comes. */
P2P_DEF int p2p_stream_reserve(p2p_node *node, p2p_stream s, size_t want, p2p_room *out);

/* How much of the reserved room was filled, from its start; 0: none. */
P2P_DEF int p2p_stream_commit(p2p_node *node, p2p_stream s, size_t size);

/* Bytes; 0 at the end and only there; P2P_ERR_AGAIN; P2P_ERR_RESET. */
P2P_DEF int p2p_stream_read(p2p_node *node, p2p_stream s, void *buffer, size_t capacity);

/* A view of the next bytes, contiguous but perhaps not all; returns as p2p_stream_read does. They
 * stay and do not move until skipped, or until the stream's CLOSED was taken. */
P2P_DEF int p2p_stream_peek(p2p_node *node, p2p_stream s, p2p_span *out);

/* Consumes peeked bytes. Only this and p2p_stream_read open the peer's window. */
P2P_DEF int p2p_stream_skip(p2p_node *node, p2p_stream s, size_t size);

/* No more from here. CLOSED comes when both halves are done and acknowledged. */
P2P_DEF int p2p_stream_finish(p2p_node *node, p2p_stream s);

/* Abandons both halves at once; CLOSED follows. Also how a reader says "no more". */
P2P_DEF int p2p_stream_reset(p2p_node *node, p2p_stream s, uint32_t code);

/* ---- datagrams: unordered, unreliable, never more than once -------------------------------- */

#ifndef P2P_NO_DATAGRAM
/* Queues one. Never P2P_ERR_AGAIN: the oldest queued one gives way, counted. P2P_ERR_TOO_LARGE:
 * over p2p_datagram_max. */
P2P_DEF int p2p_datagram_send(p2p_node *node, p2p_conn conn, const void *data, size_t size);

/* The next datagram: its size. P2P_ERR_AGAIN; P2P_ERR_TOO_LARGE for a small buffer leaves it in
 * place. */
P2P_DEF int p2p_datagram_recv(p2p_node *node, p2p_conn conn, void *buffer, size_t capacity);

/* Bytes of the largest datagram that can go to this peer now. */
P2P_DEF int p2p_datagram_max(const p2p_node *node, p2p_conn conn);
#endif

/* ---- router: HTTP-like requests over streams ----------------------------------------------- */

#ifndef P2P_NO_ROUTER
/* Copied into one of max.routes. P2P_ERR_CONFIG: a pattern that is malformed or there already for
 * this method; P2P_ERR_LIMIT. */
P2P_DEF int p2p_route_add(p2p_node *node, const p2p_route *route);

/* All routes of the service, or none. P2P_ERR_CONFIG, P2P_ERR_LIMIT (max.services). */
P2P_DEF int p2p_service_add(p2p_node *node, const p2p_service *service);

/* What ":name" or "*name" of the pattern matched; data NULL when the pattern has no such name. */
P2P_DEF p2p_str p2p_param(const p2p_request *request, const char *name);

/* "12" for "from" in "from=12&to=20", as it stands there; data NULL when absent. */
P2P_DEF p2p_str p2p_query(const p2p_request *request, const char *name);

/* A header's value by its lower-case name; data NULL when absent. */
P2P_DEF p2p_str p2p_request_header(const p2p_request *request, const char *name);

/* What the "range" header asks of a body of total bytes (RFC 9110 section 14): 0 the whole, 1 a
 * part (answer 206), P2P_ERR_ARG not satisfiable (416). */
P2P_DEF int p2p_request_range(const p2p_request *request, uint64_t total, uint64_t *first,
                              uint64_t *count);

/* A whole answer; takes everything or, beyond bytes.peer_send, P2P_ERR_TOO_LARGE. Before the end of
 * the request's body the rest of that is refused and dropped. */
P2P_DEF int p2p_reply(p2p_node *node, p2p_stream s, int status, const p2p_header *headers,
                      size_t count, const void *body, size_t size);

/* Status and headers; the body follows by p2p_stream_write or p2p_stream_reserve, then
 * p2p_stream_finish. */
P2P_DEF int p2p_reply_begin(p2p_node *node, p2p_stream s, int status, const p2p_header *headers,
                            size_t count);

/* In a handler: no 500 at its return; reply before time.request_us. What the request said is gone
 * by then: copy it. */
P2P_DEF int p2p_reply_later(p2p_node *node, p2p_stream s);

/* Sends a request; RESPONSE comes, with .err P2P_ERR_TIMEOUT after time.request_us. P2P_ERR_LIMIT
 * (max.streams), P2P_ERR_TOO_LARGE (head and body beyond bytes.stream_send). */
P2P_DEF int p2p_request_send(p2p_node *node, p2p_conn conn, const p2p_request_desc *desc,
                             p2p_stream *out);

/* Status and headers once they are here, until the next p2p_next_event; the body by
 * p2p_stream_read. P2P_ERR_AGAIN. */
P2P_DEF int p2p_response(p2p_node *node, p2p_stream s, p2p_response_head *out);

/* A header's value by its lower-case name; data NULL when absent. */
P2P_DEF p2p_str p2p_response_header(const p2p_response_head *head, const char *name);
#endif

/* ---- discovery ----------------------------------------------------------------------------- */

#ifndef P2P_NO_DISCOVERY
/* Publishes this node under a name until the node closes, by desc.discovery. P2P_ERR_DISCOVERY. */
P2P_DEF int p2p_register(p2p_node *node, const char *name);

/* Asks who has the name. FOUND answers, with .err P2P_ERR_NOT_FOUND if nobody does. */
P2P_DEF int p2p_discover(p2p_node *node, const char *name, uint32_t *out_query);

/* A provider's answer to a query; NULL: not found. */
P2P_DEF int p2p_discovered(p2p_node *node, uint32_t query, const p2p_ticket *found);
#endif

/* ---- observability ------------------------------------------------------------------------- */

P2P_DEF void p2p_metrics_get(const p2p_node *node, p2p_metrics *out);

#ifndef P2P_NO_WORDS
/* Prometheus text exposition; returns the length, or P2P_ERR_TOO_LARGE. */
P2P_DEF int p2p_metrics_text(const p2p_node *node, char *out, size_t size);
#endif

#ifndef P2P_NO_CHECK
/* Walks every invariant of the node: P2P_OK, or P2P_ERR_STATE when one does not hold. For tests and
 * debug builds: it costs time in proportion to the arena's tables. */
P2P_DEF int p2p_check(const p2p_node *node);
#endif

/* ---- what the declarations were compiled as ------------------------------------------------ */

/* FNV-1a over versions and sizes, a constant expression; differs when caller and implementation
 * disagree on the layout of anything public. */
#define P2P__MIX(hash, value)    (((hash) ^ (uint32_t)(value)) * (uint32_t)16777619u)
#define P2P__MIX3(hash, a, b, c) P2P__MIX(P2P__MIX(P2P__MIX(hash, a), b), c)
#define P2P__ABI_VERSION                                                                      \
    P2P__MIX(P2P__MIX3((uint32_t)2166136261u, P2P_VERSION, sizeof(void *), P2P_METRIC_COUNT), \
             P2P__ROOMS)
#define P2P__ABI_BASIC                                                                           \
    P2P__MIX3(                                                                                   \
        P2P__MIX3(P2P__ABI_VERSION, sizeof(p2p_str), sizeof(p2p_key), sizeof(p2p_error_detail)), \
        sizeof(p2p_addr), sizeof(p2p_ticket), sizeof(p2p_event))
#define P2P__ABI_TABLES                                                                 \
    P2P__MIX3(P2P__MIX3(P2P__ABI_BASIC, sizeof(p2p_crypto_api), sizeof(p2p_secure_api), \
                        sizeof(p2p_discovery_api)),                                     \
              sizeof(p2p_secure_params), sizeof(p2p_packet), sizeof(p2p_link))
#define P2P__ABI_DESCS                                                                         \
    P2P__MIX3(P2P__MIX3(P2P__ABI_TABLES, sizeof(p2p_desc), sizeof(p2p_env), sizeof(p2p_gate)), \
              sizeof(p2p_connect_desc), sizeof(p2p_listen_desc), sizeof(p2p_stream_desc))
#define P2P__ABI_OFFSETS                                                                    \
    P2P__MIX3(P2P__MIX3(P2P__ABI_DESCS, offsetof(p2p_desc, max), offsetof(p2p_desc, bytes), \
                        offsetof(p2p_desc, time)),                                          \
              offsetof(p2p_event, peer), sizeof(p2p_metrics), sizeof(p2p_stats))
#define P2P_ABI                                                                                   \
    P2P__MIX3(                                                                                    \
        P2P__MIX3(P2P__ABI_OFFSETS, sizeof(p2p_request), sizeof(p2p_route), sizeof(p2p_service)), \
        sizeof(p2p_request_desc), sizeof(p2p_response_head), sizeof(p2p_header))

/* Opens a node, as p2p_node_open_abi says. Inline, so that the layout it passes is the caller's. */
static inline int p2p_node_open(p2p_node **out, const p2p_desc *desc, void *arena,
                                size_t arena_size) {
    return p2p_node_open_abi(out, desc, arena, arena_size, P2P_ABI);
}

#ifdef __cplusplus
}
#endif
#endif /* P2P_H */
#if defined(P2P_IMPLEMENTATION) && !defined(P2P__IMPLEMENTED)
#define P2P__IMPLEMENTED
#include <string.h>

/* Overrides, for the one file that defines P2P_IMPLEMENTATION: all four memory calls, or none. */
#if defined(P2P_MEMCPY) || defined(P2P_MEMMOVE) || defined(P2P_MEMSET) || defined(P2P_MEMCMP)
#if !defined(P2P_MEMCPY) || !defined(P2P_MEMMOVE) || !defined(P2P_MEMSET) || !defined(P2P_MEMCMP)
#error "p2p.h: define all of P2P_MEMCPY, P2P_MEMMOVE, P2P_MEMSET and P2P_MEMCMP, or none of them"
#endif
#else
#define P2P_MEMCPY  memcpy
#define P2P_MEMMOVE memmove
#define P2P_MEMSET  memset
#define P2P_MEMCMP  memcmp
#endif

/* ==== >>base ====
 * For: what every room uses: assertions, times, texts, error names.
 * Always: nothing here knows an object of the library; every function is total.
 * Covered by tests/unit/test_base.c. */

#if defined(P2P_DEBUG) && !defined(P2P_ASSERT)
static void p2p__trap(void) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_trap();
#else
    *(volatile int *)0 = 0;
#endif
}
#endif

/* States what must hold of the library's own state, never of a caller's or a peer's input. */
#ifndef P2P_ASSERT
#ifdef P2P_DEBUG
#define P2P_ASSERT(x) ((x) ? (void)0 : p2p__trap())
#else
#define P2P_ASSERT(x) ((void)(0 && (x))) /* compiled, so that it cannot rot, and never run */
#endif
#endif

/* On what has many callers and is small: compilers that optimize for size would inline it. */
#if defined(__GNUC__) && defined(__OPTIMIZE_SIZE__)
#define P2P__NOINLINE __attribute__((noinline))
#else
#define P2P__NOINLINE
#endif

/* Words that another end reads, or a struct carries. */
#ifndef P2P_NO_WORDS
#define P2P__SAY(text) (text)
#else
#define P2P__SAY(text) ""
#endif

/* On what nothing calls when an optional room is left out. */
#if defined(__GNUC__)
#define P2P__OPTIONAL __attribute__((unused))
#else
#define P2P__OPTIONAL
#endif

#define P2P__MIN(a, b) ((a) < (b) ? (a) : (b))
#define P2P__MAX(a, b) ((a) > (b) ? (a) : (b))

/* Saturates at P2P_NEVER, so that "never" plus anything stays never. */
P2P__NOINLINE static uint64_t p2p__time_add(uint64_t a_us, uint64_t b_us) {
    return b_us > P2P_NEVER - a_us ? P2P_NEVER : a_us + b_us;
}

/* Number n of texts that stand in a row, each with its NUL: a table of pointers to them would be
 * larger than the walk is long. */
P2P__OPTIONAL static const char *p2p__nth_text(const char *texts, uint32_t n) {
    while (n > 0)
        n -= *texts++ == 0;
    return texts;
}

#ifndef P2P_NO_WORDS
/* Name (0) or text (1) of an error: the values of P2P_ERRORS descend from 0 one by one. */
static const char *p2p__err_part(int err, uint32_t part) {
#define P2P__X(name, value, text) #name "\0" text "\0"
    static const char parts[] =
        P2P_ERRORS(P2P__X) "P2P_ERR_UNKNOWN\0an error not known to this version";
#undef P2P__X
#define P2P__X(name, value, text) +1
    const uint32_t count = 0 P2P_ERRORS(P2P__X);
#undef P2P__X
    uint32_t place = err < 0 ? 0u - (uint32_t)err : 0;
    return p2p__nth_text(parts, 2 * P2P__MIN(place, count) + part);
}

P2P_DEF const char *p2p_err_name(int err) { return p2p__err_part(err, 0); }

P2P_DEF const char *p2p_err_text(int err) { return p2p__err_part(err, 1); }
#endif

P2P_DEF uint32_t p2p_version(void) { return P2P_VERSION; }

static size_t p2p__text_size(const char *text) {
    size_t size = 0;
    while (text[size])
        size++;
    return size;
}

P2P_DEF p2p_str p2p_str_of(const char *text) {
    p2p_str s;
    s.data = text;
    s.size = text ? p2p__text_size(text) : 0;
    return s;
}

P2P_DEF bool p2p_str_equal(p2p_str a, const char *b) {
    size_t size;
    if (!a.data || !b)
        return !a.data && !b;
    size = p2p__text_size(b);
    return a.size == size && P2P_MEMCMP(a.data, b, size) == 0;
}

/* Decimal digits, all of the text; no sign, no space; a leading zero is taken. */
P2P_DEF int p2p_str_u64(p2p_str text, uint64_t *out) {
    uint64_t value = 0;
    if (!out || !text.data || !text.size)
        return P2P_ERR_ARG;
    for (size_t i = 0; i < text.size; i++) {
        uint64_t digit = (uint64_t)(uint8_t)text.data[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return P2P_ERR_ARG;
        value = value * 10 + digit;
    }
    *out = value;
    return P2P_OK;
}

/* The text lies in buffer, ends with NUL and is 1 to 20 digits long. */
P2P_DEF p2p_str p2p_u64_str(uint64_t value, char buffer[21]) {
    char digits[20];
    size_t count = 0;
    p2p_str s;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    for (size_t i = 0; i < count; i++)
        buffer[i] = digits[count - 1 - i];
    buffer[count] = 0;
    s.data = buffer;
    s.size = count;
    return s;
}

/* Goes through a volatile pointer, so that no compiler drops it as a store nobody reads. */
P2P_DEF void p2p_wipe(void *secret, size_t size) {
    volatile uint8_t *p = (volatile uint8_t *)secret;
    while (size--)
        *p++ = 0;
}

/* Takes the same time wherever the two differ. */
static bool p2p__ct_equal(const void *a, const void *b, size_t size) {
    const volatile uint8_t *x = (const volatile uint8_t *)a, *y = (const volatile uint8_t *)b;
    uint8_t differ = 0;
    for (size_t i = 0; i < size; i++)
        differ = (uint8_t)(differ | (x[i] ^ y[i]));
    return differ == 0;
}

/* ==== >>bytes ====
 * For: the only two ways bytes are read from and written to a datagram.
 * Always: a cursor stays within [at, end]; a failure sticks, reads as 0 and writes nothing.
 * Covered by tests/unit/test_bytes.c. */

#define P2P__VARINT_MAX ((UINT64_C(1) << 62) - 1)

typedef struct p2p__reader {
    const uint8_t *at, *end;
    int bad;
} p2p__reader;

typedef struct p2p__writer {
    uint8_t *at, *end;
    int bad;
} p2p__writer;

static p2p__reader p2p__reader_of(const void *data, size_t size) {
    p2p__reader r;
    r.at = (const uint8_t *)data;
    r.end = size ? r.at + size : r.at;
    r.bad = 0;
    return r;
}

static size_t p2p__left(const p2p__reader *r) { return r->bad ? 0 : (size_t)(r->end - r->at); }

/* n bytes of the input where they lie, or NULL and bad. */
static const uint8_t *p2p__get_bytes(p2p__reader *r, uint64_t n) {
    const uint8_t *bytes = r->at;
    if (r->bad || n > (uint64_t)(r->end - r->at)) {
        r->bad = 1;
        return NULL;
    }
    r->at += (size_t)n;
    return bytes;
}

/* size is at most 8; most significant byte first. */
static uint64_t p2p__get_uint(p2p__reader *r, size_t size) {
    const uint8_t *bytes = p2p__get_bytes(r, size);
    uint64_t value = 0;
    for (size_t i = 0; bytes && i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

static uint8_t p2p__get_u8(p2p__reader *r) { return (uint8_t)p2p__get_uint(r, 1); }
static uint64_t p2p__get_u16(p2p__reader *r) { return p2p__get_uint(r, 2); }
P2P__OPTIONAL static uint64_t p2p__get_u32(p2p__reader *r) { return p2p__get_uint(r, 4); }
static uint64_t p2p__get_u64(p2p__reader *r) { return p2p__get_uint(r, 8); }

/* Bytes of the shortest form: 1, 2, 4 or 8. The value is at most P2P__VARINT_MAX. */
static uint32_t p2p__varint_size(uint64_t value) {
    P2P_ASSERT(value <= P2P__VARINT_MAX);
    return value < 0x40 ? 1u : value < 0x4000 ? 2u : value < 0x40000000 ? 4u : 8u;
}

/* RFC 9000 section 16; a longer form than needed is bad, so that every value has one encoding. */
static uint64_t p2p__get_varint(p2p__reader *r) {
    uint32_t size = 1;
    const uint8_t *bytes;
    uint64_t value;
    if (p2p__left(r)) {
        if (*r->at < 64) /* most of them */
            return *r->at++;
        size <<= *r->at >> 6;
    }
    bytes = p2p__get_bytes(r, size);
    value = bytes ? *bytes & 63u : 0;
    for (uint32_t i = 1; bytes && i < size; i++)
        value = value << 8 | bytes[i];
    if (bytes && p2p__varint_size(value) == size)
        return value;
    r->bad = 1;
    return 0;
}

/* A varint that is at most max; beyond is bad. */
static uint64_t p2p__get_varint_max(p2p__reader *r, uint64_t max) {
    uint64_t value = p2p__get_varint(r);
    if (value <= max)
        return value;
    r->bad = 1;
    return 0;
}

/* A varint length and that many bytes; longer than max is bad. Points into the input. */
static p2p_str p2p__get_str(p2p__reader *r, uint64_t max) {
    p2p_str s;
    uint64_t size = p2p__get_varint_max(r, max);
    const uint8_t *bytes = p2p__get_bytes(r, size);
    s.data = (const char *)bytes;
    s.size = bytes ? (size_t)size : 0;
    return s;
}

static p2p__writer p2p__writer_of(void *room, size_t size) {
    p2p__writer w;
    w.at = (uint8_t *)room;
    w.end = size ? w.at + size : w.at;
    w.bad = 0;
    return w;
}

/* Room of n bytes to fill in, or NULL and bad. */
static uint8_t *p2p__put_room(p2p__writer *w, size_t n) {
    uint8_t *room = w->at;
    if (w->bad || n > (size_t)(w->end - w->at)) {
        w->bad = 1;
        return NULL;
    }
    w->at += n;
    return room;
}

static void p2p__put_uint(p2p__writer *w, uint64_t value, size_t size) {
    uint8_t *room = p2p__put_room(w, size);
    for (size_t i = size; room && i-- > 0; value >>= 8)
        room[i] = (uint8_t)value;
}

static void p2p__put_u8(p2p__writer *w, uint64_t value) { p2p__put_uint(w, value, 1); }
static void p2p__put_u16(p2p__writer *w, uint64_t value) { p2p__put_uint(w, value, 2); }
P2P__OPTIONAL static void p2p__put_u32(p2p__writer *w, uint64_t value) {
    p2p__put_uint(w, value, 4);
}
static void p2p__put_u64(p2p__writer *w, uint64_t value) { p2p__put_uint(w, value, 8); }

static void p2p__put_varint(p2p__writer *w, uint64_t value) {
    uint32_t size;
    uint8_t *start = w->at;
    if (value < 64 && w->at < w->end && !w->bad) { /* most of them */
        *w->at++ = (uint8_t)value;
        return;
    }
    if (value > P2P__VARINT_MAX) {
        w->bad = 1;
        return;
    }
    size = p2p__varint_size(value);
    p2p__put_uint(w, value, size);
    if (!w->bad) /* the form, 0 to 3, in the first two bits */
        *start = (uint8_t)(*start | (size / 2 - size / 8) << 6);
}

static void p2p__put_bytes(p2p__writer *w, const void *bytes, size_t size) {
    uint8_t *room = p2p__put_room(w, size);
    if (room && size)
        P2P_MEMCPY(room, bytes, size);
}

/* Ends a unit of several puts that began at start: whole, or nothing of it. */
static void p2p__put_end(p2p__writer *w, uint8_t *start) {
    if (w->bad)
        w->at = start;
}

static void p2p__put_str(p2p__writer *w, p2p_str s) {
    uint8_t *start = w->at;
    p2p__put_varint(w, s.size);
    p2p__put_bytes(w, s.data, s.size);
    p2p__put_end(w, start);
}

P2P__OPTIONAL static void p2p__put_text(p2p__writer *w, const char *text) {
    p2p__put_bytes(w, text, p2p__text_size(text));
}

P2P__OPTIONAL static void p2p__put_number(p2p__writer *w, uint64_t value) {
    char digits[21];
    p2p_str s = p2p_u64_str(value, digits);
    p2p__put_bytes(w, s.data, s.size);
}

/* Ends a text in out, whose writer left room for the NUL: its length. */
P2P__OPTIONAL static int p2p__text_end(const p2p__writer *w, char *out) {
    *w->at = 0;
    return (int)((char *)w->at - out);
}

/* Bytes of the UTF-8 sequence (RFC 3629) in front; 0: cut, overlong, a surrogate or beyond. */
static size_t p2p__utf8_step(const uint8_t *at, size_t left) {
    uint32_t lead = at[0], size = lead < 0x80 ? 1u : lead < 0xe0 ? 2u : lead < 0xf0 ? 3u : 4u;
    uint32_t low = 0x80, high = 0xbf;
    if (size == 1)
        return 1;
    if (lead < 0xc2 || lead > 0xf4 || left < size)
        return 0;
    if (lead == 0xe0 || lead == 0xf0)
        low = lead == 0xe0 ? 0xa0 : 0x90;
    if (lead == 0xed || lead == 0xf4)
        high = lead == 0xed ? 0x9f : 0x8f;
    if (at[1] < low || at[1] > high)
        return 0;
    for (uint32_t i = 2; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    return size;
}

static bool p2p__utf8_valid(const void *text, size_t size) {
    const uint8_t *at = (const uint8_t *)text;
    while (size) {
        size_t step = p2p__utf8_step(at, size);
        if (!step)
            return false;
        at += step;
        size -= step;
    }
    return true;
}

/* ==== >>arena ====
 * For: one walk that measures what a node needs, and with a base carves it.
 * Always: both walks advance alike, so the measured size is exact; overflow saturates at SIZE_MAX.
 * Covered by tests/unit/test_pool.c. */

typedef struct p2p__layout {
    uint8_t *base; /* aligned for everything that is taken; NULL: measure only */
    size_t size;
} p2p__layout;

/* align is a power of two. NULL when measuring; count 0 takes no bytes. */
static void *p2p__layout_take(p2p__layout *l, size_t count, size_t item_size, size_t align) {
    size_t pad = ((size_t)0 - l->size) & (align - 1), at;
    P2P_ASSERT(align && !(align & (align - 1)));
    if (l->size > SIZE_MAX - pad || (item_size && count > (SIZE_MAX - l->size - pad) / item_size)) {
        P2P_ASSERT(!l->base);
        l->size = SIZE_MAX;
        return NULL;
    }
    at = l->size + pad;
    l->size = at + count * item_size;
    return l->base ? l->base + at : NULL;
}

/* ==== >>pool ====
 * For: tables of a fixed number of items, named by handles that go stale.
 * Always: a free item is zero but for its slot; an id is never 0 and names one life of one item;
 *         freed items are reused oldest first, so that a handle stays stale as long as possible.
 * Covered by tests/unit/test_pool.c. */

typedef struct p2p__slot { /* every item of a pool begins with one */
    uint32_t gen;          /* its low 32 - shift bits are in the id */
    uint32_t next_free;    /* index + 1; 0: the last */
    uint32_t index;
    uint8_t live, reserved[3];
} p2p__slot;

typedef struct p2p__pool {
    uint8_t *items;
    uint32_t item_size, count, used;
    uint32_t free_head, free_tail; /* index + 1; 0: none */
    uint32_t shift;                /* bits that hold base + count */
    uint32_t base;                 /* added to indices in ids: pools that share one space of ids */
} p2p__pool;

static void *p2p__pool_at(const p2p__pool *pool, uint32_t index) {
    P2P_ASSERT(index < pool->count);
    return pool->items + (size_t)index * pool->item_size;
}

static uint32_t p2p__pool_index(const p2p__pool *pool, const void *item) {
    uint32_t index = ((const p2p__slot *)item)->index;
    P2P_ASSERT((const uint8_t *)item == pool->items + (size_t)index * pool->item_size);
    (void)pool;
    return index;
}

static bool p2p__slot_live(const void *item) { return ((const p2p__slot *)item)->live != 0; }

/* The live item behind one (NULL: the first); NULL behind the last. */
static void *p2p__pool_next(const p2p__pool *pool, const void *behind) {
    uint32_t i = behind ? p2p__pool_index(pool, behind) + 1 : 0;
    while (i < pool->count && !p2p__slot_live(p2p__pool_at(pool, i)))
        i++;
    return i < pool->count ? p2p__pool_at(pool, i) : NULL;
}

static void p2p__pool_append_free(p2p__pool *pool, uint32_t index) {
    ((p2p__slot *)p2p__pool_at(pool, index))->next_free = 0;
    if (pool->free_tail)
        ((p2p__slot *)p2p__pool_at(pool, pool->free_tail - 1))->next_free = index + 1;
    else
        pool->free_head = index + 1;
    pool->free_tail = index + 1;
}

/* items: count times item_size bytes, aligned for the item; count is below 2^24. */
static void p2p__pool_init(p2p__pool *pool, void *items, size_t item_size, uint32_t count,
                           uint32_t gen_seed) {
    P2P_ASSERT(item_size >= sizeof(p2p__slot) && item_size <= UINT32_MAX && count < 1u << 24);
    P2P_MEMSET(pool, 0, sizeof *pool);
    pool->items = (uint8_t *)items;
    pool->item_size = (uint32_t)item_size;
    pool->count = count;
    while (count >> pool->shift)
        pool->shift++;
    for (uint32_t i = 0; i < count; i++) {
        P2P_MEMSET(p2p__pool_at(pool, i), 0, item_size);
        ((p2p__slot *)p2p__pool_at(pool, i))->gen = gen_seed;
        ((p2p__slot *)p2p__pool_at(pool, i))->index = i;
        p2p__pool_append_free(pool, i);
    }
}

/* Makes the ids of this pool begin after those of others; total: the items of all of them. */
static void p2p__pool_share(p2p__pool *pool, uint32_t base, uint32_t total) {
    P2P_ASSERT(base + pool->count <= total && pool->used == 0);
    pool->base = base;
    while (total >> pool->shift)
        pool->shift++;
}

/* An item that is zero but for its slot, or NULL when all are taken. */
static void *p2p__pool_take(p2p__pool *pool) {
    p2p__slot *slot;
    if (!pool->free_head)
        return NULL;
    slot = (p2p__slot *)p2p__pool_at(pool, pool->free_head - 1);
    P2P_ASSERT(!slot->live && pool->used < pool->count);
    pool->free_head = slot->next_free;
    if (!pool->free_head)
        pool->free_tail = 0;
    slot->next_free = 0;
    slot->live = 1;
    pool->used++;
    return slot;
}

/* Wipes the item and ends all handles to it. */
static void p2p__pool_give(p2p__pool *pool, void *item) {
    p2p__slot *slot = (p2p__slot *)item;
    uint32_t gen = slot->gen + 1, index = p2p__pool_index(pool, item);
    P2P_ASSERT(slot->live && pool->used);
    P2P_MEMSET(item, 0, pool->item_size);
    slot->gen = gen;
    slot->index = index;
    pool->used--;
    p2p__pool_append_free(pool, index);
}

static uint32_t p2p__pool_id(const p2p__pool *pool, const void *item) {
    uint32_t place = pool->base + p2p__pool_index(pool, item) + 1;
    return ((const p2p__slot *)item)->gen << pool->shift | place;
}

/* The item that id names, or NULL: none, free, or of an earlier life or another node. */
static void *p2p__pool_get(const p2p__pool *pool, uint32_t id) {
    uint32_t index = (id & ((1u << pool->shift) - 1)) - 1 - pool->base;
    void *item;
    if (index >= pool->count)
        return NULL;
    item = p2p__pool_at(pool, index);
    return p2p__slot_live(item) && p2p__pool_id(pool, item) == id ? item : NULL;
}

/* ==== >>log ====
 * For: telling the desc's log hook what happened, item by item.
 * Always: an item has one level and one text; no hook, or a lower level, costs one comparison.
 * Covered by tests/unit/test_base.c. */

/* Level (1 error, 2 warning, 3 info, 4 debug), item, text. */
#define P2P__LOG_ITEMS(X)                                                         \
    X(1, RANDOM_FAILED, "the generator or the crypto table failed")               \
    X(1, SECURE_FAILED, "the secure channel failed")                              \
    X(2, AUTH_FAILED, "a peer's proof of identity was wrong")                     \
    X(2, PROTOCOL_BROKEN, "a peer broke the protocol; its connection was closed") \
    X(2, REFUSED, "the allow hook refused a peer")                                \
    X(2, CLOCK_BACK, "the clock went back; the older time is kept")               \
    X(3, LISTENING, "listening")                                                  \
    X(3, DIALLING, "dialling a peer")                                             \
    X(3, DIAL_RETRIED, "a dial is tried again")                                   \
    X(3, DIAL_TIMEOUT, "a dial got no answer in time")                            \
    X(3, CONNECTED, "connected")                                                  \
    X(3, DISCONNECTED, "disconnected")                                            \
    X(3, BROKEN, "a connection broke and is dialled again")                       \
    X(3, STOPPED, "stopped")                                                      \
    X(4, DATAGRAM_DROPPED, "a datagram was dropped")                              \
    X(4, PACKET_LOST, "a packet was lost")                                        \
    X(4, PROBE, "a probe was sent after a timeout")                               \
    X(4, HANDLER_SILENT, "a handler gave no reply; 500 was sent")

enum p2p__log_item {
#define P2P__X(level, item, text) P2P__LOG_##item,
    P2P__LOG_ITEMS(P2P__X)
#undef P2P__X
        P2P__LOG_COUNT
};

typedef struct p2p__log_sink { /* the log member of a p2p_desc */
    void (*fn)(void *ctx, int level, const char *item, const char *text);
    void *ctx;
    int level;
} p2p__log_sink;

#ifndef P2P_NO_WORDS
static void p2p__log(const p2p__log_sink *sink, uint32_t item) {
    static const uint8_t levels[] = {
#define P2P__X(level, item, text) level,
        P2P__LOG_ITEMS(P2P__X)
#undef P2P__X
    };
#define P2P__X(level, item, text) #item "\0" text "\0"
    static const char parts[] = P2P__LOG_ITEMS(P2P__X);
#undef P2P__X
    P2P_ASSERT(item < P2P__LOG_COUNT);
    if (sink->fn && levels[item] <= sink->level)
        sink->fn(sink->ctx, levels[item], p2p__nth_text(parts, 2 * item),
                 p2p__nth_text(parts, 2 * item + 1));
}
#else
static void p2p__log(const p2p__log_sink *sink, uint32_t item) {
    (void)sink;
    (void)item;
}
#endif

/* ==== >>hash ====
 * For: keyed 64-bit hashes of tables and checksums, and HMAC over the crypto table's SHA-256.
 * Always: no digest is written here; SipHash only guards tables against chosen collisions.
 * Covered by tests/unit/test_hash.c. */

static uint64_t p2p__load64_le(const uint8_t *p) {
    uint32_t low = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    uint32_t high = p[4] | (uint32_t)p[5] << 8 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 24;
    return low | (uint64_t)high << 32; /* two loads or one, where compilers see it */
}

static uint64_t p2p__rotl64(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

/* One SipRound: four additions, four rotations with their exclusive ors, two half swaps. */
static void p2p__sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = p2p__rotl64(v[1], 13) ^ v[0];
    v[3] = p2p__rotl64(v[3], 16) ^ v[2];
    v[0] = p2p__rotl64(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = p2p__rotl64(v[1], 17) ^ v[2];
    v[3] = p2p__rotl64(v[3], 21) ^ v[0];
    v[2] = p2p__rotl64(v[2], 32);
}

static void p2p__sip_word(uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    p2p__sip_round(v);
    v[0] ^= word;
}

/* SipHash-1-3 (Aumasson, Bernstein 2012, with one and three rounds). */
static uint64_t p2p__hash64(const uint8_t key[16], const void *data, size_t size) {
    const uint8_t *p = (const uint8_t *)data;
    uint64_t k0 = p2p__load64_le(key), k1 = p2p__load64_le(key + 8);
    uint64_t last = (uint64_t)(size & 0xff) << 56, v[4];
    v[0] = k0 ^ UINT64_C(0x736f6d6570736575);
    v[1] = k1 ^ UINT64_C(0x646f72616e646f6d);
    v[2] = k0 ^ UINT64_C(0x6c7967656e657261);
    v[3] = k1 ^ UINT64_C(0x7465646279746573);
    for (; size >= 8; size -= 8, p += 8)
        p2p__sip_word(v, p2p__load64_le(p));
    for (size_t i = 0; i < size; i++)
        last |= (uint64_t)p[i] << (8 * i);
    p2p__sip_word(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        p2p__sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static int p2p__sha256(const p2p_crypto *c, const void *const *parts, const size_t *sizes,
                       size_t count, uint8_t out[32]) {
    return P2P_CRYPTO_OF(c)->sha256(c->ctx, parts, sizes, count, out);
}

/* One layer of HMAC: SHA-256 of the key's block, turned by pad, then the parts. */
static int p2p__hmac_layer(const p2p_crypto *c, const uint8_t block[64], uint8_t pad,
                           const void *const *parts, const size_t *sizes, size_t count,
                           uint8_t out[32]) {
    const void *all[7];
    size_t all_sizes[7];
    uint8_t turned[64];
    int err;
    for (size_t i = 0; i < 64; i++)
        turned[i] = (uint8_t)(block[i] ^ pad);
    all[0] = turned;
    all_sizes[0] = sizeof turned;
    for (size_t i = 0; i < count; i++) {
        all[i + 1] = parts[i];
        all_sizes[i + 1] = sizes[i];
    }
    err = p2p__sha256(c, all, all_sizes, count + 1, out);
    p2p_wipe(turned, sizeof turned);
    return err;
}

/* HMAC-SHA256 (RFC 2104) over at most 6 parts in a row. out may be the key or one of the parts. */
static int p2p__hmac(const p2p_crypto *c, const uint8_t *key, size_t key_size,
                     const void *const *parts, const size_t *sizes, size_t count, uint8_t out[32]) {
    uint8_t block[64], inner[32];
    const void *inner_part = inner, *key_part = key;
    size_t inner_size = sizeof inner;
    int err = P2P_OK;
    P2P_ASSERT(count <= 6);
    P2P_MEMSET(block, 0, sizeof block);
    if (key_size > sizeof block)
        err = p2p__sha256(c, &key_part, &key_size, 1, block);
    else
        P2P_MEMCPY(block, key, key_size);
    if (err >= 0)
        err = p2p__hmac_layer(c, block, 0x36, parts, sizes, count, inner);
    if (err >= 0)
        err = p2p__hmac_layer(c, block, 0x5c, &inner_part, &inner_size, 1, out);
    p2p_wipe(block, sizeof block);
    p2p_wipe(inner, sizeof inner);
    return err < 0 ? err : P2P_OK;
}

/* ==== >>random ====
 * For: every random byte of a node, from one HMAC-DRBG seeded at open.
 * Always: two equal blocks or an error from the entropy source open no generator; a failing crypto
 *         table fills nothing and says so.
 * Covered by tests/unit/test_random.c. */

typedef struct p2p__drbg {
    const p2p_crypto *crypto;
    uint8_t k[32], v[32];
    uint64_t fast; /* never 0 once open */
} p2p__drbg;

/* HMAC_DRBG_Update (SP 800-90A 10.1.2.2); at most 4 parts of provided data. */
static int p2p__drbg_update(p2p__drbg *d, const void *const *parts, const size_t *sizes,
                            size_t count) {
    const void *all[6];
    size_t all_sizes[6];
    int err = P2P_OK;
    P2P_ASSERT(count <= 4);
    for (size_t i = 0; i < count; i++) {
        all[i + 2] = parts[i];
        all_sizes[i + 2] = sizes[i];
    }
    for (uint8_t round = 0; err >= 0 && round < (count ? 2 : 1); round++) {
        all[0] = d->v;
        all_sizes[0] = sizeof d->v;
        all[1] = &round;
        all_sizes[1] = 1;
        err = p2p__hmac(d->crypto, d->k, sizeof d->k, all, all_sizes, count + 2, d->k);
        if (err >= 0)
            err = p2p__hmac(d->crypto, d->k, sizeof d->k, all, all_sizes, 1, d->v);
    }
    return err;
}

/* One request (SP 800-90A 10.1.2.5): size is at most 65536. */
static int p2p__drbg_request(p2p__drbg *d, uint8_t *out, size_t size) {
    const void *part = d->v;
    size_t part_size = sizeof d->v;
    while (size) {
        size_t step = P2P__MIN(size, sizeof d->v);
        int err = p2p__hmac(d->crypto, d->k, sizeof d->k, &part, &part_size, 1, d->v);
        if (err < 0)
            return err;
        P2P_MEMCPY(out, d->v, step);
        out += step;
        size -= step;
    }
    return p2p__drbg_update(d, NULL, NULL, 0);
}

/* Has the signature of p2p_random.fill. The 2^48 requests after which the standard wants new
 * entropy are more than a node makes in its life. On an error out is wiped. */
static int p2p__drbg_fill(void *drbg, void *out, size_t size) {
    p2p__drbg *d = (p2p__drbg *)drbg;
    uint8_t *at = (uint8_t *)out;
    size_t left = size;
    while (left) {
        size_t step = P2P__MIN(left, (size_t)65536);
        int err = p2p__drbg_request(d, at, step);
        if (err < 0) {
            p2p_wipe(out, size);
            return err;
        }
        at += step;
        left -= step;
    }
    return P2P_OK;
}

/* Two blocks of entropy that must differ: a source that is stuck repeats itself. */
static int p2p__entropy_blocks(const p2p_random *entropy, uint8_t out[64]) {
    int err = entropy->fill ? entropy->fill(entropy->ctx, out, 32) : P2P_ERR_CONFIG;
    if (err >= 0)
        err = entropy->fill(entropy->ctx, out + 32, 32);
    if (err < 0)
        return err;
    return p2p__ct_equal(out, out + 32, 32) ? P2P_ERR_CONFIG : P2P_OK;
}

/* seed is the identity's: with it and the time, weak entropy alone makes no two nodes alike. */
static int p2p__drbg_open(p2p__drbg *d, const p2p_crypto *crypto, const p2p_random *entropy,
                          const uint8_t seed[32], uint64_t time_us) {
    uint8_t blocks[64], time[8], fast[8];
    const size_t sizes[3] = {sizeof blocks, 32, sizeof time};
    const void *parts[3];
    p2p__writer w = p2p__writer_of(time, sizeof time);
    p2p__reader r = p2p__reader_of(fast, sizeof fast);
    int err = p2p__entropy_blocks(entropy, blocks);
    p2p__put_u64(&w, time_us);
    P2P_MEMSET(d, 0, sizeof *d);
    P2P_MEMSET(d->v, 1, sizeof d->v);
    d->crypto = crypto;
    parts[0] = blocks;
    parts[1] = seed;
    parts[2] = time;
    if (err >= 0)
        err = p2p__drbg_update(d, parts, sizes, 3);
    if (err >= 0)
        err = p2p__drbg_fill(d, fast, sizeof fast);
    if (err >= 0)
        d->fast = p2p__get_u64(&r) | 1;
    p2p_wipe(blocks, sizeof blocks);
    if (err < 0)
        p2p_wipe(d, sizeof *d);
    return err < 0 ? P2P_ERR_CONFIG : P2P_OK;
}

/* xorshift64*: for what needs no secrecy, such as jitter and left-out packet numbers. */
static uint32_t p2p__drbg_fast(p2p__drbg *d) {
    P2P_ASSERT(d->fast);
    d->fast ^= d->fast >> 12;
    d->fast ^= d->fast << 25;
    d->fast ^= d->fast >> 27;
    return (uint32_t)(d->fast * UINT64_C(0x2545f4914f6cdd1d) >> 32);
}

/* ==== >>identity ====
 * For: node ids, keys, addresses and tickets, and their texts.
 * Always: a text has one meaning and a value one text; an id that was parsed passed p2p__id_check.
 * Covered by tests/unit/test_identity.c, tests/fuzz/fuzz_ticket.c and tests/fuzz/fuzz_addr.c. */

/* The y coordinates of the 8 points of small order, but 0 and 1, which differ in their first byte
 * only. The sign bit is masked before comparing; other encodings of them are not canonical. */
static const uint8_t p2p__small_order[3][32] = {
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4,
     0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6,
     0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b,
     0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39,
     0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};

/* y >= 2^255 - 19: the same point has a smaller encoding, which is the canonical one. */
static bool p2p__y_canonical(const uint8_t y[32]) {
    if (y[0] < 0xed || y[31] != 0x7f)
        return true;
    for (size_t i = 1; i < 31; i++) {
        if (y[i] != 0xff)
            return true;
    }
    return false;
}

static bool p2p__y_zero_or_one(const uint8_t y[32]) {
    uint8_t rest = 0;
    for (size_t i = 1; i < 32; i++)
        rest |= y[i];
    return y[0] <= 1 && rest == 0;
}

/* P2P_OK, or P2P_ERR_INVALID_ID: of small order (zeros too), not canonical (RFC 8032 5.1.3). If
 * the point is on the curve only the crypto table can tell; its verify refuses one that is not. */
static int p2p__id_check(const p2p_id *id) {
    uint8_t y[32];
    P2P_MEMCPY(y, id->bytes, sizeof y);
    y[31] &= 0x7f;
    if (p2p__y_zero_or_one(y) || !p2p__y_canonical(y))
        return P2P_ERR_INVALID_ID;
    for (size_t i = 0; i < sizeof p2p__small_order / sizeof p2p__small_order[0]; i++) {
        if (P2P_MEMCMP(y, p2p__small_order[i], sizeof y) == 0)
            return P2P_ERR_INVALID_ID;
    }
    return P2P_OK;
}

P2P_DEF bool p2p_id_equal(const p2p_id *a, const p2p_id *b) {
    return P2P_MEMCMP(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* out may be the key that seed lies in. On an error out is wiped. */
P2P_DEF int p2p_key_from_seed(const p2p_crypto *crypto, const uint8_t seed[32], p2p_key *out) {
    int err;
    if (!crypto || !crypto->api || !P2P_CRYPTO_OF(crypto)->public_key || !seed || !out)
        return P2P_ERR_ARG;
    P2P_MEMMOVE(out->seed, seed, sizeof out->seed);
    err = P2P_CRYPTO_OF(crypto)->public_key(crypto->ctx, out->seed, &out->id);
    if (err >= 0)
        err = p2p__id_check(&out->id);
    if (err < 0)
        p2p_wipe(out, sizeof *out);
    return err < 0 ? err : P2P_OK;
}

P2P_DEF int p2p_key_generate(const p2p_crypto *crypto, const p2p_random *random, p2p_key *out) {
    uint8_t blocks[64];
    int err;
    if (!random || !out)
        return P2P_ERR_ARG;
    err = p2p__entropy_blocks(random, blocks);
    if (err >= 0)
        err = p2p_key_from_seed(crypto, blocks, out);
    p2p_wipe(blocks, sizeof blocks);
    return err;
}

#ifndef P2P_NO_PARSE
/* ---- texts: z-base-32 and hex */

static const char p2p__z32_letters[] = "ybndrfg8ejkmcpqxot1uwisza345h769";

/* Characters that size bytes take. */
static size_t p2p__z32_size(size_t size) { return (size * 8 + 4) / 5; }

/* Writes p2p__z32_size(size) characters, most significant bit first, and no NUL. */
static void p2p__z32_put(const uint8_t *bytes, size_t size, char *out) {
    uint32_t bits = 0, count = 0;
    for (size_t i = 0; i < size; i++) {
        bits = (bits << 8 | bytes[i]) & 0xfff;
        for (count += 8; count >= 5; count -= 5)
            *out++ = p2p__z32_letters[bits >> (count - 5) & 31];
    }
    if (count)
        *out = p2p__z32_letters[bits << (5 - count) & 31];
}

static uint32_t p2p__z32_value(char letter) {
    uint32_t i = 0;
    while (i < 32 && p2p__z32_letters[i] != letter)
        i++;
    return i;
}

/* Decodes all of a text of size characters into at most room bytes. Their count, or P2P_ERR_ARG: a
 * letter that is none, a size no bytes have, spare bits that are set, too long. */
static int p2p__z32_get(const char *text, size_t size, uint8_t *out, size_t room) {
    uint32_t bits = 0, count = 0;
    size_t bytes = size * 5 / 8, at = 0;
    if (bytes > room || p2p__z32_size(bytes) != size)
        return P2P_ERR_ARG;
    for (size_t i = 0; i < size; i++) {
        uint32_t value = p2p__z32_value(text[i]);
        if (value > 31)
            return P2P_ERR_ARG;
        bits = (bits << 5 | value) & 0xfff;
        count += 5;
        if (count >= 8) {
            count -= 8;
            out[at++] = (uint8_t)(bits >> count);
        }
    }
    return (bits & ((1u << count) - 1)) != 0 ? P2P_ERR_ARG : (int)at;
}

static void p2p__hex_put(const uint8_t *bytes, size_t size, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * size] = 0;
}

/* The digit's value in the base (10 or 16), or 16: not a digit of it. */
static uint32_t p2p__digit(char c, uint32_t base) {
    uint32_t value = 16;
    if (c >= '0' && c <= '9')
        value = (uint32_t)(c - '0');
    else if (c >= 'a' && c <= 'f')
        value = (uint32_t)(c - 'a') + 10;
    else if (c >= 'A' && c <= 'F')
        value = (uint32_t)(c - 'A') + 10;
    return value < base ? value : 16;
}

static int p2p__hex_get(const char *text, uint8_t *out, size_t size) {
    for (size_t i = 0; i < size; i++) {
        uint32_t high = p2p__digit(text[2 * i], 16), low = p2p__digit(text[2 * i + 1], 16);
        if (high > 15 || low > 15)
            return P2P_ERR_ARG;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return P2P_OK;
}

/* Returns 52, the characters written before the NUL. */
P2P_DEF int p2p_id_text(const p2p_id *id, char out[P2P_ID_TEXT_SIZE]) {
    if (!id || !out)
        return P2P_ERR_ARG;
    p2p__z32_put(id->bytes, sizeof id->bytes, out);
    out[P2P_ID_TEXT_SIZE - 1] = 0;
    return P2P_ID_TEXT_SIZE - 1;
}

/* Returns 10. */
P2P_DEF int p2p_id_short(const p2p_id *id, char out[11]) {
    if (!id || !out)
        return P2P_ERR_ARG;
    p2p__hex_put(id->bytes, 5, out);
    return 10;
}

/* The text is an id only when it is one that can be dialled. On an error out is left as it was. */
P2P_DEF int p2p_id_parse(const char *text, p2p_id *out) {
    p2p_id id;
    size_t size;
    int err = P2P_ERR_INVALID_ID;
    if (!text || !out)
        return P2P_ERR_ARG;
    P2P_MEMSET(&id, 0, sizeof id);
    size = p2p__text_size(text);
    if (size == P2P_ID_TEXT_SIZE - 1)
        err = p2p__z32_get(text, size, id.bytes, sizeof id.bytes);
    else if (size == 2 * sizeof id.bytes)
        err = p2p__hex_get(text, id.bytes, sizeof id.bytes);
    if (err < 0 || p2p__id_check(&id) < 0)
        return P2P_ERR_INVALID_ID;
    *out = id;
    return P2P_OK;
}

/* ---- addresses */

/* A decimal number up to max without leading zero; on return *at is behind it. UINT64_MAX: none. */
static uint64_t p2p__parse_decimal(const char **at, uint32_t max) {
    const char *start = *at;
    uint64_t value = 0;
    while (p2p__digit(**at, 10) < 10 && value <= max)
        value = value * 10 + p2p__digit(*(*at)++, 10);
    if (*at == start || value > max || (*start == '0' && *at - start > 1))
        return UINT64_MAX;
    return value;
}

static bool p2p__parse_ip4(const char **at, uint8_t ip[4]) {
    for (int i = 0; i < 4; i++) {
        uint64_t value;
        if (i && *(*at)++ != '.')
            return false;
        value = p2p__parse_decimal(at, 255);
        if (value > 255)
            return false;
        ip[i] = (uint8_t)value;
    }
    return true;
}

/* One to four hex digits; UINT32_MAX: none, or more. */
static uint32_t p2p__parse_group(const char **at) {
    uint32_t value = 0, digits = 0;
    while (digits < 5 && p2p__digit(**at, 16) < 16) {
        value = value << 4 | p2p__digit(*(*at)++, 16);
        digits++;
    }
    return digits >= 1 && digits <= 4 ? value : UINT32_MAX;
}

static bool p2p__dotted(const char *text) {
    while (p2p__digit(*text, 10) < 10)
        text++;
    return *text == '.';
}

#define P2P__NO_GAP SIZE_MAX

/* Moves what stands behind "::" to the end of ip; "::" was after gap of the filled bytes. */
static void p2p__ip6_spread(uint8_t ip[16], size_t gap, size_t filled) {
    P2P_MEMMOVE(ip + (16 + gap - filled), ip + gap, filled - gap);
    P2P_MEMSET(ip + gap, 0, 16 - filled);
}

/* Reads what is before the next group: nothing, ":" or the one "::". False: the end is here. */
static bool p2p__parse_colons(const char **at, size_t filled, size_t *gap) {
    if ((*at)[0] == ':' && (*at)[1] == ':' && *gap == P2P__NO_GAP) {
        *gap = filled;
        *at += 2;
        return p2p__digit(**at, 16) < 16;
    }
    if (!filled)
        return true;
    return *(*at) == ':' && *++*at;
}

/* RFC 4291 2.2: groups, at most one "::" (for one or more), a dotted quad for the last two. */
static bool p2p__parse_ip6(const char **at, uint8_t ip[16]) {
    size_t filled = 0, gap = P2P__NO_GAP;
    while (filled < 16 && p2p__parse_colons(at, filled, &gap)) {
        uint32_t group;
        if (p2p__dotted(*at)) {
            if (filled > 12 || !p2p__parse_ip4(at, ip + filled))
                return false;
            filled += 4;
            break;
        }
        group = p2p__parse_group(at);
        if (group > 0xffff)
            return false;
        ip[filled++] = (uint8_t)(group >> 8);
        ip[filled++] = (uint8_t)group;
    }
    if (gap == P2P__NO_GAP)
        return filled == 16;
    if (filled > 14)
        return false;
    p2p__ip6_spread(ip, gap, filled);
    return true;
}

/* fe80::/10, the only addresses that need a scope to be sent to. */
static bool p2p__link_local(const p2p_addr *addr) {
    return addr->family == 6 && addr->ip[0] == 0xfe && (addr->ip[1] & 0xc0) == 0x80;
}

/* "[ip]" or "[ip%scope]", scope a decimal number from 1 up. */
static bool p2p__parse_bracketed(const char **at, p2p_addr *addr) {
    uint64_t scope;
    addr->family = 6;
    ++*at;
    if (!p2p__parse_ip6(at, addr->ip))
        return false;
    if (**at == '%') {
        ++*at;
        scope = p2p__parse_decimal(at, UINT32_MAX);
        if (!scope || scope > UINT32_MAX || !p2p__link_local(addr))
            return false;
        addr->scope = (uint32_t)scope;
    }
    return *(*at)++ == ']';
}

/* Numbers only, with a port: "127.0.0.1:8800", "[::1]:8800", "[fe80::1%2]:8800". P2P_ERR_ARG for
 * all else; out is left as it was. */
P2P_DEF int p2p_addr_parse(const char *text, p2p_addr *out) {
    p2p_addr addr;
    uint64_t port;
    if (!text || !out)
        return P2P_ERR_ARG;
    P2P_MEMSET(&addr, 0, sizeof addr);
    if (*text == '[') {
        if (!p2p__parse_bracketed(&text, &addr))
            return P2P_ERR_ARG;
    } else {
        addr.family = 4;
        if (!p2p__parse_ip4(&text, addr.ip))
            return P2P_ERR_ARG;
    }
    if (*text++ != ':')
        return P2P_ERR_ARG;
    port = p2p__parse_decimal(&text, 65535);
    if (port > 65535 || *text)
        return P2P_ERR_ARG;
    addr.port = (uint16_t)port;
    *out = addr;
    return P2P_OK;
}

static char *p2p__put_decimal(char *at, uint32_t value) {
    char buffer[21];
    p2p_str digits = p2p_u64_str(value, buffer);
    P2P_MEMCPY(at, digits.data, digits.size);
    return at + digits.size;
}

static char *p2p__put_ip4_text(char *at, const uint8_t ip[4]) {
    for (int i = 0; i < 4; i++) {
        if (i)
            *at++ = '.';
        at = p2p__put_decimal(at, ip[i]);
    }
    return at;
}

static char *p2p__put_group_text(char *at, uint32_t group) {
    static const char digits[] = "0123456789abcdef";
    int shift = group > 0xfff ? 12 : group > 0xff ? 8 : group > 0xf ? 4 : 0;
    for (; shift >= 0; shift -= 4)
        *at++ = digits[group >> shift & 15];
    return at;
}

/* Finds the first of the longest runs of two or more zero groups; *count 0: there is none. */
static uint32_t p2p__zero_run(const uint16_t groups[8], uint32_t *count) {
    uint32_t best = 0, run = 0;
    *count = 0;
    for (uint32_t i = 0; i < 8; i++) {
        run = groups[i] ? 0 : run + 1;
        if (run > 1 && run > *count) {
            *count = run;
            best = i + 1 - run;
        }
    }
    return best;
}

/* RFC 5952: lower case, the longest run of zeros as "::", IPv4-mapped ones with a dotted quad. */
static char *p2p__put_ip6_text(char *at, const uint8_t ip[16]) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    bool quad = P2P_MEMCMP(ip, mapped, sizeof mapped) == 0;
    uint32_t run_size, run, shown = quad ? 6 : 8;
    uint16_t groups[8];
    for (size_t i = 0; i < 8; i++)
        groups[i] = (uint16_t)(ip[2 * i] << 8 | ip[2 * i + 1]);
    run = p2p__zero_run(groups, &run_size);
    for (uint32_t i = 0; i < shown; i++) {
        if (run_size && i == run) {
            *at++ = ':';
            *at++ = ':';
            i += run_size - 1;
            continue;
        }
        if (i && !(run_size && i == run + run_size))
            *at++ = ':';
        at = p2p__put_group_text(at, groups[i]);
    }
    if (quad) {
        *at++ = ':';
        at = p2p__put_ip4_text(at, ip + 12);
    }
    return at;
}

/* Returns the characters written before the NUL; P2P_ERR_ARG and an empty text for family 0. */
P2P_DEF int p2p_addr_text(const p2p_addr *addr, char out[P2P_ADDR_TEXT_SIZE]) {
    char *at = out;
    if (!addr || !out)
        return P2P_ERR_ARG;
    *out = 0;
    if (addr->family != 4 && addr->family != 6)
        return P2P_ERR_ARG;
    if (addr->family == 4) {
        at = p2p__put_ip4_text(at, addr->ip);
    } else {
        *at++ = '[';
        at = p2p__put_ip6_text(at, addr->ip);
        if (addr->scope && p2p__link_local(addr)) {
            *at++ = '%';
            at = p2p__put_decimal(at, addr->scope);
        }
        *at++ = ']';
    }
    *at++ = ':';
    at = p2p__put_decimal(at, addr->port);
    *at = 0;
    P2P_ASSERT(at - out < P2P_ADDR_TEXT_SIZE);
    return (int)(at - out);
}
#endif

/* Family, address and port, without scope: what one end tells the other over the wire. */
static void p2p__put_endpoint(p2p__writer *w, const p2p_addr *addr) {
    uint8_t *start = w->at;
    if (addr->family != 4 && addr->family != 6)
        w->bad = 1;
    p2p__put_u8(w, addr->family);
    p2p__put_bytes(w, addr->ip, addr->family == 4 ? 4 : 16);
    p2p__put_u16(w, addr->port);
    p2p__put_end(w, start);
}

static void p2p__get_endpoint(p2p__reader *r, p2p_addr *out) {
    const uint8_t *ip;
    P2P_MEMSET(out, 0, sizeof *out);
    out->family = p2p__get_u8(r);
    if (out->family != 4 && out->family != 6)
        r->bad = 1;
    ip = p2p__get_bytes(r, out->family == 4 ? 4 : 16);
    if (ip)
        P2P_MEMCPY(out->ip, ip, out->family == 4 ? 4 : 16);
    out->port = (uint16_t)p2p__get_u16(r);
}

#ifndef P2P_NO_PARSE
/* ---- tickets: "p2p1", then z-base-32 of the fields below and a checksum */

#define P2P__TICKET_VERSION 1
#define P2P__TICKET_RELAY   1 /* the flag bit: a relay's id and address follow the id */
#define P2P__TICKET_SUM     4 /* bytes of checksum */
#define P2P__TICKET_BYTES   (2 + 32 + 32 + 1 + (P2P_TICKET_ADDRS + 1) * 23 + P2P__TICKET_SUM)

/* The fullest ticket fits: a text size that is too small does not compile. */
typedef char p2p__ticket_fits[P2P_TICKET_TEXT_SIZE > 4 + (P2P__TICKET_BYTES * 8 + 4) / 5 ? 1 : -1];

static uint32_t p2p__ticket_sum(const uint8_t *bytes, size_t size) {
    static const uint8_t key[16] = {0};
    return (uint32_t)(p2p__hash64(key, bytes, size) >> 32);
}

/* An address of a ticket can be sent to: it has a port. */
static void p2p__put_ticket_addr(p2p__writer *w, const p2p_addr *addr) {
    p2p__put_endpoint(w, addr);
    if (p2p__link_local(addr))
        p2p__put_u32(w, addr->scope);
    if (!addr->port)
        w->bad = 1;
}

static void p2p__get_ticket_addr(p2p__reader *r, p2p_addr *out) {
    p2p__get_endpoint(r, out);
    if (p2p__link_local(out))
        out->scope = (uint32_t)p2p__get_u32(r);
    if (!out->port)
        r->bad = 1;
}

static void p2p__put_ticket(p2p__writer *w, const p2p_ticket *ticket) {
    bool relay = ticket->relay.family != 0;
    p2p__put_u8(w, P2P__TICKET_VERSION);
    p2p__put_u8(w, relay ? P2P__TICKET_RELAY : 0);
    p2p__put_bytes(w, ticket->id.bytes, sizeof ticket->id.bytes);
    if (relay) {
        p2p__put_bytes(w, ticket->relay_id.bytes, sizeof ticket->relay_id.bytes);
        p2p__put_ticket_addr(w, &ticket->relay);
    }
    p2p__put_u8(w, ticket->addr_count);
    for (uint32_t i = 0; i < ticket->addr_count; i++)
        p2p__put_ticket_addr(w, &ticket->addrs[i]);
}

/* Returns the characters written before the NUL. P2P_ERR_INVALID_ID: an id; P2P_ERR_ARG: an address
 * without family or port, or too many; out is empty then. */
P2P_DEF int p2p_ticket_text(const p2p_ticket *ticket, char out[P2P_TICKET_TEXT_SIZE]) {
    uint8_t bytes[P2P__TICKET_BYTES];
    p2p__writer w = p2p__writer_of(bytes, sizeof bytes);
    size_t size;
    if (!ticket || !out)
        return P2P_ERR_ARG;
    *out = 0;
    if (p2p__id_check(&ticket->id) < 0)
        return P2P_ERR_INVALID_ID;
    if (ticket->relay.family && p2p__id_check(&ticket->relay_id) < 0)
        return P2P_ERR_INVALID_ID;
    if (ticket->addr_count > P2P_TICKET_ADDRS)
        return P2P_ERR_ARG;
    p2p__put_ticket(&w, ticket);
    p2p__put_u32(&w, p2p__ticket_sum(bytes, (size_t)(w.at - bytes)));
    if (w.bad)
        return P2P_ERR_ARG;
    size = (size_t)(w.at - bytes);
    P2P_MEMCPY(out, "p2p1", 4);
    p2p__z32_put(bytes, size, out + 4);
    size = 4 + p2p__z32_size(size);
    out[size] = 0;
    return (int)size;
}

static int p2p__get_ticket_id(p2p__reader *r, p2p_id *out) {
    const uint8_t *bytes = p2p__get_bytes(r, sizeof out->bytes);
    if (!bytes)
        return P2P_ERR_INVALID_ID;
    P2P_MEMCPY(out->bytes, bytes, sizeof out->bytes);
    return p2p__id_check(out);
}

static int p2p__get_ticket_relay(p2p__reader *r, p2p_ticket *out, const char **why) {
    *why = P2P__SAY("relay id: cut, or not an Ed25519 public key");
    if (p2p__get_ticket_id(r, &out->relay_id) < 0)
        return P2P_ERR_INVALID_ID;
    *why = P2P__SAY("relay address: no family, address and port");
    p2p__get_ticket_addr(r, &out->relay);
    return r->bad ? P2P_ERR_ARG : P2P_OK;
}

static int p2p__get_ticket_addrs(p2p__reader *r, p2p_ticket *out, const char **why) {
    *why = P2P__SAY("address count: missing, or more than a ticket holds");
    out->addr_count = p2p__get_u8(r);
    if (r->bad || out->addr_count > P2P_TICKET_ADDRS)
        return P2P_ERR_ARG;
    *why = P2P__SAY("addresses: one has no family, address and port");
    for (uint32_t i = 0; i < out->addr_count; i++)
        p2p__get_ticket_addr(r, &out->addrs[i]);
    if (r->bad)
        return P2P_ERR_ARG;
    *why = P2P__SAY("end: more bytes follow the last address");
    return p2p__left(r) ? P2P_ERR_ARG : P2P_OK;
}

/* The fields behind a checksum that holds. On failure *why names the part. */
static int p2p__get_ticket(p2p__reader *r, p2p_ticket *out, const char **why) {
    uint8_t version = p2p__get_u8(r), flags = p2p__get_u8(r);
    int err = P2P_OK;
    *why = P2P__SAY("version: not one that is known here");
    if (version != P2P__TICKET_VERSION || (flags & ~P2P__TICKET_RELAY))
        return P2P_ERR_PROTOCOL;
    *why = P2P__SAY("node id: cut, or not an Ed25519 public key");
    if (p2p__get_ticket_id(r, &out->id) < 0)
        return P2P_ERR_INVALID_ID;
    if (flags & P2P__TICKET_RELAY)
        err = p2p__get_ticket_relay(r, out, why);
    return err < 0 ? err : p2p__get_ticket_addrs(r, out, why);
}

/* Decodes and checks the sum: the bytes before it, or P2P_ERR_ARG with *why. */
static int p2p__ticket_bytes(const char *text, uint8_t bytes[P2P__TICKET_BYTES], const char **why) {
    size_t size = p2p__text_size(text);
    p2p__reader sum;
    int count;
    *why = P2P__SAY("beginning: a ticket starts with p2p1");
    if (size < 4 || P2P_MEMCMP(text, "p2p1", 4) != 0)
        return P2P_ERR_ARG;
    *why = P2P__SAY("length: longer than any ticket");
    if (size >= P2P_TICKET_TEXT_SIZE)
        return P2P_ERR_ARG;
    *why = P2P__SAY("letters: z-base-32 has no 0, 2, l, v or capitals; or it is cut");
    count = p2p__z32_get(text + 4, size - 4, bytes, P2P__TICKET_BYTES);
    if (count < 0)
        return P2P_ERR_ARG;
    *why = P2P__SAY("checksum: cut or mistyped");
    if (count <= P2P__TICKET_SUM)
        return P2P_ERR_ARG;
    count -= P2P__TICKET_SUM;
    sum = p2p__reader_of(bytes + count, P2P__TICKET_SUM);
    return p2p__get_u32(&sum) == p2p__ticket_sum(bytes, (size_t)count) ? count : P2P_ERR_ARG;
}

static int p2p__ticket_read(const char *text, p2p_ticket *out, const char **why) {
    uint8_t bytes[P2P__TICKET_BYTES];
    int size = p2p__ticket_bytes(text, bytes, why);
    p2p__reader r;
    if (size < 0)
        return size;
    P2P_MEMSET(out, 0, sizeof *out);
    r = p2p__reader_of(bytes, (size_t)size);
    return p2p__get_ticket(&r, out, why);
}

/* On an error out is left as it was. */
P2P_DEF int p2p_ticket_parse(const char *text, p2p_ticket *out) {
    p2p_ticket ticket;
    const char *why;
    int err;
    if (!text || !out)
        return P2P_ERR_ARG;
    err = p2p__ticket_read(text, &ticket, &why);
    if (err == P2P_OK)
        *out = ticket;
    return err;
}

#ifndef P2P_NO_WORDS
/* NULL when the text is a ticket; else which part of it is damaged, and how. */
P2P_DEF const char *p2p_ticket_fault(const char *text) {
    p2p_ticket ticket;
    const char *why = P2P__SAY("text: there is none");
    return text && p2p__ticket_read(text, &ticket, &why) == P2P_OK ? NULL : why;
}
#endif
#endif

/* ==== >>wire ====
 * For: frames and the HELLO body, parsed whole before anything is done, and written.
 * Always: no state is known here; what parses has one encoding; spans point into the packet.
 * Covered by tests/unit/test_wire.c, tests/fuzz/fuzz_frame.c and tests/fuzz/fuzz_hello.c. */

enum p2p__frame_type {
    P2P__FRAME_PADDING = 0x00,
    P2P__FRAME_PING = 0x01,
    P2P__FRAME_ACK = 0x02,
    P2P__FRAME_ACK_ECN = 0x03,
    P2P__FRAME_RESET_STREAM = 0x04,
    P2P__FRAME_STOP_SENDING = 0x05,
    P2P__FRAME_STREAM = 0x08, /* to 0x0f: or one of the bits below */
    P2P__FRAME_MAX_DATA = 0x10,
    P2P__FRAME_MAX_STREAM_DATA = 0x11,
    P2P__FRAME_MAX_STREAMS = 0x12,
    P2P__FRAME_DATA_BLOCKED = 0x14,
    P2P__FRAME_STREAM_DATA_BLOCKED = 0x15,
    P2P__FRAME_STREAMS_BLOCKED = 0x16,
    P2P__FRAME_PATH_CHALLENGE = 0x1a,
    P2P__FRAME_PATH_RESPONSE = 0x1b,
    P2P__FRAME_CLOSE = 0x1c,
    P2P__FRAME_HELLO = 0x20,
    P2P__FRAME_AUTH = 0x21,
    P2P__FRAME_DONE = 0x22,
    P2P__FRAME_DATAGRAM = 0x30,
    P2P__FRAME_DATAGRAM_SIZED = 0x31,
    P2P__FRAME_EXTENSION = 0x40, /* to 0x7f: skipped */
    P2P__FRAME_EXTENSION_LAST = 0x7f
};

#define P2P__STREAM_FIN    1u
#define P2P__STREAM_SIZED  2u
#define P2P__STREAM_OFFSET 4u

/* Of a CLOSE of origin 0. */
enum p2p__code {
    P2P__CODE_NONE,
    P2P__CODE_PROTOCOL,
    P2P__CODE_FLOW_CONTROL,
    P2P__CODE_STREAM_LIMIT,
    P2P__CODE_FRAME_ENCODING,
    P2P__CODE_INTERNAL,
    P2P__CODE_NO_VERSION,
    P2P__CODE_NO_ALPN,
    P2P__CODE_REFUSED,
    P2P__CODE_DUPLICATE,
    P2P__CODE_REKEY,
    P2P__CODE_GENERIC,
    P2P__CODE_LIMIT,
    P2P__CODE_STOPPED,
    P2P__CODE_IDLE,
    P2P__CODE_BAD_PROOF
};

/* Of a HELLO; one that is missing reads as 0. */
enum p2p__param {
    P2P__PARAM_MAX_PACKET = 1,
    P2P__PARAM_MAX_DATA,
    P2P__PARAM_STREAM_DATA_THEIRS, /* of streams that the receiver of this HELLO opens */
    P2P__PARAM_STREAM_DATA_OURS,   /* of streams that its sender opens */
    P2P__PARAM_STREAM_DATA_UNI,
    P2P__PARAM_STREAM_DATA_MESSAGES,
    P2P__PARAM_MAX_STREAMS_BIDI,
    P2P__PARAM_MAX_STREAMS_UNI,
    P2P__PARAM_MAX_STREAMS_REQUEST,
    P2P__PARAM_MESSAGE_MAX,
    P2P__PARAM_DATAGRAM_MAX,
    P2P__PARAM_IDLE_US,
    P2P__PARAM_END
};

#define P2P__ACK_RANGES     32u
#define P2P__REASON_MAX     96u
#define P2P__AUTH_SIZE      96u                 /* id and signature */
#define P2P__STREAMS_MAX    (UINT64_C(1) << 59) /* a stream's number takes 59 bits of its id */
#define P2P__STREAM_KINDS   3u                  /* kinds that MAX_STREAMS counts */
#define P2P__HELLO_VERSIONS 8u
#define P2P__HELLO_ALPNS    8u
#define P2P__HELLO_PARAMS   32u
#define P2P__ALPN_MAX       32u

typedef struct p2p__range { /* packet numbers, both included */
    uint64_t first, last;
} p2p__range;

/* What a frame carries stands in the fields its type names; the others are 0.
 *   ACK (also of type ACK_ECN)     ranges, range[0] the highest; largest, delay_us; ecn and ect
 *   STREAM (0x08 for all its types) id, offset, data, fin
 *   RESET_STREAM                   id, code, value the final size       STOP_SENDING   id, code
 *   MAX_DATA, DATA_BLOCKED         value
 *   MAX_STREAM_DATA and BLOCKED    id, value
 *   MAX_STREAMS and BLOCKED        id the kind, value
 *   PATH_CHALLENGE, PATH_RESPONSE  bytes (8); RESPONSE: family, addr
 *   CLOSE                          origin, code, data the reason
 *   HELLO, DATAGRAM (0x30)         data      AUTH   bytes (96) */
typedef struct p2p__frame {
    uint8_t type, fin, origin, family, ecn;
    uint32_t ranges;
    uint64_t id, offset, value, code, largest, delay_us, ect[3];
    p2p_span data;
    const uint8_t *bytes;
    p2p_addr addr; /* of a PATH_RESPONSE; from here on others say nothing */
    p2p__range range[P2P__ACK_RANGES];
} p2p__frame;

static p2p_span p2p__get_span(p2p__reader *r, uint64_t size) {
    p2p_span s;
    s.data = p2p__get_bytes(r, size);
    s.size = s.data ? (size_t)size : 0;
    return s;
}

/* A stream id: the kind 3, messages, has the number 0 only. */
static uint64_t p2p__get_stream_id(p2p__reader *r) {
    uint64_t id = p2p__get_varint(r);
    if ((id >> 1 & 3) == 3 && id >> 3)
        r->bad = 1;
    return id;
}

/* One more range below the lowest so far (RFC 9000 19.3.1): a gap, then a length. */
static void p2p__get_ack_range(p2p__reader *r, p2p__frame *f) {
    uint64_t lowest = f->range[f->ranges - 1].first;
    uint64_t gap = p2p__get_varint(r), length = p2p__get_varint(r);
    if (r->bad || lowest < 2 || gap > lowest - 2 || length > lowest - 2 - gap) {
        r->bad = 1;
        return;
    }
    f->range[f->ranges].last = lowest - 2 - gap;
    f->range[f->ranges].first = lowest - 2 - gap - length;
    f->ranges++;
}

static void p2p__get_ack(p2p__reader *r, p2p__frame *f) {
    uint64_t more, first;
    f->largest = p2p__get_varint(r);
    f->delay_us = p2p__get_varint(r);
    more = p2p__get_varint_max(r, P2P__ACK_RANGES - 1);
    first = p2p__get_varint_max(r, f->largest);
    f->range[0].last = f->largest;
    f->range[0].first = f->largest - first;
    f->ranges = 1;
    while (more-- && !r->bad)
        p2p__get_ack_range(r, f);
    f->ecn = f->type == P2P__FRAME_ACK_ECN;
    for (int i = 0; f->ecn && i < 3; i++)
        f->ect[i] = p2p__get_varint(r);
    f->type = P2P__FRAME_ACK;
}

/* An offset of 0 is never written: it would be a second encoding of the same frame. */
static void p2p__get_stream(p2p__reader *r, p2p__frame *f) {
    uint32_t bits = f->type & 7u;
    uint64_t size;
    f->type = P2P__FRAME_STREAM;
    f->fin = bits & P2P__STREAM_FIN;
    f->id = p2p__get_stream_id(r);
    if (bits & P2P__STREAM_OFFSET) {
        f->offset = p2p__get_varint(r);
        if (!f->offset)
            r->bad = 1;
    }
    size = bits & P2P__STREAM_SIZED ? p2p__get_varint(r) : p2p__left(r);
    f->data = p2p__get_span(r, size);
    if (f->data.size > P2P__VARINT_MAX - f->offset)
        r->bad = 1;
}

static void p2p__get_close(p2p__reader *r, p2p__frame *f) {
    f->origin = (uint8_t)p2p__get_varint_max(r, 1);
    f->code = p2p__get_varint_max(r, UINT32_MAX);
    f->data = p2p__get_span(r, p2p__get_varint_max(r, P2P__REASON_MAX));
    if (!p2p__utf8_valid(f->data.data, f->data.size))
        r->bad = 1;
}

static void p2p__get_kind_and_count(p2p__reader *r, p2p__frame *f) {
    f->id = p2p__get_varint_max(r, P2P__STREAM_KINDS - 1);
    f->value = p2p__get_varint_max(r, P2P__STREAMS_MAX);
}

/* Frames of flow control, which are rows of varints. False: the type is none of them. */
static bool p2p__get_flow_frame(p2p__reader *r, p2p__frame *f) {
    switch (f->type) {
    case P2P__FRAME_RESET_STREAM:
    case P2P__FRAME_STOP_SENDING:
        f->id = p2p__get_stream_id(r);
        f->code = p2p__get_varint_max(r, UINT32_MAX);
        if (f->type == P2P__FRAME_RESET_STREAM)
            f->value = p2p__get_varint(r);
        return true;
    case P2P__FRAME_MAX_STREAM_DATA:
    case P2P__FRAME_STREAM_DATA_BLOCKED:
        f->id = p2p__get_stream_id(r);
        f->value = p2p__get_varint(r);
        return true;
    case P2P__FRAME_MAX_DATA:
    case P2P__FRAME_DATA_BLOCKED: f->value = p2p__get_varint(r); return true;
    case P2P__FRAME_MAX_STREAMS:
    case P2P__FRAME_STREAMS_BLOCKED: p2p__get_kind_and_count(r, f); return true;
    default: return false;
    }
}

/* The rest; an unknown type is bad. */
static void p2p__get_other_frame(p2p__reader *r, p2p__frame *f) {
    switch (f->type) {
    case P2P__FRAME_PING:
    case P2P__FRAME_DONE: break;
    case P2P__FRAME_ACK:
    case P2P__FRAME_ACK_ECN: p2p__get_ack(r, f); break;
    case P2P__FRAME_PATH_CHALLENGE: f->bytes = p2p__get_bytes(r, 8); break;
    case P2P__FRAME_PATH_RESPONSE:
        f->bytes = p2p__get_bytes(r, 8);
        P2P_MEMSET(&f->addr, 0, sizeof f->addr);
        p2p__get_endpoint(r, &f->addr);
        f->family = f->addr.family;
        break;
    case P2P__FRAME_CLOSE: p2p__get_close(r, f); break;
    case P2P__FRAME_HELLO: f->data = p2p__get_span(r, p2p__get_varint(r)); break;
    case P2P__FRAME_AUTH: f->bytes = p2p__get_bytes(r, P2P__AUTH_SIZE); break;
    case P2P__FRAME_DATAGRAM: f->data = p2p__get_span(r, p2p__left(r)); break;
    case P2P__FRAME_DATAGRAM_SIZED:
        f->data = p2p__get_span(r, p2p__get_varint(r));
        f->type = P2P__FRAME_DATAGRAM;
        break;
    default: r->bad = 1; break;
    }
}

/* The type of the next frame that is neither padding nor an extension; *end: there is none. */
static uint8_t p2p__get_frame_type(p2p__reader *r, bool *end) {
    uint64_t type = P2P__FRAME_PADDING;
    while ((*end = !p2p__left(r)) == false) {
        type = p2p__get_varint_max(r, P2P__FRAME_EXTENSION_LAST);
        if (type >= P2P__FRAME_EXTENSION)
            p2p__get_bytes(r, p2p__get_varint(r));
        else if (type != P2P__FRAME_PADDING)
            break;
    }
    return (uint8_t)type;
}

/* The next frame of a packet: 1; 0 at its end; P2P_ERR_PROTOCOL, then and ever after. All that can
 * be checked without state has been. Extension frames are skipped like padding, so a packet of
 * nothing else gives 0 at once. */
static int p2p__frame_get(p2p__reader *r, p2p__frame *out) {
    bool end;
    P2P_MEMSET(out, 0, offsetof(p2p__frame, addr));
    out->type = p2p__get_frame_type(r, &end);
    if (r->bad)
        return P2P_ERR_PROTOCOL;
    if (end)
        return 0;
    if (out->type >= P2P__FRAME_STREAM && out->type < P2P__FRAME_MAX_DATA)
        p2p__get_stream(r, out);
    else if (!p2p__get_flow_frame(r, out))
        p2p__get_other_frame(r, out);
    return r->bad ? P2P_ERR_PROTOCOL : 1;
}

/* A frame that is a row of varints behind its type. */
static void p2p__put_frame(p2p__writer *w, uint64_t type, size_t count, const uint64_t *values) {
    uint8_t *start = w->at;
    p2p__put_varint(w, type);
    for (size_t i = 0; i < count; i++)
        p2p__put_varint(w, values[i]);
    p2p__put_end(w, start);
}

/* ranges descend and do not touch; n is 1 to 32. ect NULL: without ECN counts. */
static void p2p__put_ack_ecn(p2p__writer *w, const p2p__range *ranges, size_t n, uint64_t delay_us,
                             const uint64_t *ect) {
    uint8_t *start = w->at;
    P2P_ASSERT(n >= 1 && n <= P2P__ACK_RANGES);
    p2p__put_varint(w, ect ? P2P__FRAME_ACK_ECN : P2P__FRAME_ACK);
    p2p__put_varint(w, ranges[0].last);
    p2p__put_varint(w, delay_us);
    p2p__put_varint(w, n - 1);
    p2p__put_varint(w, ranges[0].last - ranges[0].first);
    for (size_t i = 1; i < n; i++) {
        P2P_ASSERT(ranges[i].last + 2 <= ranges[i - 1].first);
        p2p__put_varint(w, ranges[i - 1].first - ranges[i].last - 2);
        p2p__put_varint(w, ranges[i].last - ranges[i].first);
    }
    for (int i = 0; ect && i < 3; i++)
        p2p__put_varint(w, ect[i]);
    p2p__put_end(w, start);
}

static void p2p__put_ack(p2p__writer *w, const p2p__range *ranges, size_t n, uint64_t delay_us) {
    p2p__put_ack_ecn(w, ranges, n, delay_us, NULL);
}

/* The data follow. length UINT64_MAX: they run to the end of the packet. */
static void p2p__put_stream_head(p2p__writer *w, uint64_t id, uint64_t offset, uint64_t length,
                                 bool fin) {
    uint8_t *start = w->at;
    bool sized = length != UINT64_MAX;
    p2p__put_varint(w, P2P__FRAME_STREAM | (fin ? P2P__STREAM_FIN : 0) |
                           (sized ? P2P__STREAM_SIZED : 0) | (offset ? P2P__STREAM_OFFSET : 0));
    p2p__put_varint(w, id);
    if (offset)
        p2p__put_varint(w, offset);
    if (sized)
        p2p__put_varint(w, length);
    p2p__put_end(w, start);
}

/* The data follow. length UINT64_MAX: they run to the end of the packet. */
P2P__OPTIONAL static void p2p__put_datagram_head(p2p__writer *w, uint64_t length) {
    bool sized = length != UINT64_MAX;
    p2p__put_frame(w, sized ? P2P__FRAME_DATAGRAM_SIZED : P2P__FRAME_DATAGRAM, sized ? 1 : 0,
                   &length);
}

/* The reason is UTF-8 of at most 96 bytes; another is bad, so check it where it is given. */
static void p2p__put_close(p2p__writer *w, uint8_t origin, uint32_t code, p2p_str reason) {
    uint8_t *start = w->at;
    if (origin > 1 || reason.size > P2P__REASON_MAX || !p2p__utf8_valid(reason.data, reason.size))
        w->bad = 1;
    p2p__put_varint(w, P2P__FRAME_CLOSE);
    p2p__put_varint(w, origin);
    p2p__put_varint(w, code);
    p2p__put_str(w, reason);
    p2p__put_end(w, start);
}

static void p2p__put_path_response(p2p__writer *w, const uint8_t challenge[8],
                                   const p2p_addr *seen) {
    uint8_t *start = w->at;
    p2p__put_varint(w, P2P__FRAME_PATH_RESPONSE);
    p2p__put_bytes(w, challenge, 8);
    p2p__put_endpoint(w, seen);
    p2p__put_end(w, start);
}

/* ---- the HELLO body, which both proofs sign */

typedef struct p2p__hello {
    uint8_t version_count, alpn_count;
    uint32_t versions[P2P__HELLO_VERSIONS];
    p2p_str alpn[P2P__HELLO_ALPNS]; /* of 1 to 32 bytes each */
    uint64_t caps;
    uint64_t param[16]; /* by id: 1 to P2P__PARAM_END - 1 */
} p2p__hello;

static void p2p__put_hello_params(p2p__writer *w, const uint64_t param[16]) {
    uint64_t count = 0;
    for (uint64_t id = 1; id < P2P__PARAM_END; id++)
        count += param[id] != 0;
    p2p__put_varint(w, count);
    for (uint64_t id = 1; id < P2P__PARAM_END; id++) {
        if (!param[id])
            continue;
        p2p__put_varint(w, id);
        p2p__put_varint(w, param[id]);
    }
}

/* The body only, without frame type and length. Parameters ascend; zeros are left out. */
static void p2p__put_hello(p2p__writer *w, const p2p__hello *hello) {
    uint8_t *start = w->at;
    P2P_ASSERT(hello->version_count >= 1 && hello->version_count <= P2P__HELLO_VERSIONS);
    P2P_ASSERT(hello->alpn_count >= 1 && hello->alpn_count <= P2P__HELLO_ALPNS);
    p2p__put_varint(w, hello->version_count);
    for (uint32_t i = 0; i < hello->version_count; i++)
        p2p__put_varint(w, hello->versions[i]);
    p2p__put_varint(w, hello->alpn_count);
    for (uint32_t i = 0; i < hello->alpn_count; i++)
        p2p__put_str(w, hello->alpn[i]);
    p2p__put_varint(w, hello->caps);
    p2p__put_hello_params(w, hello->param);
    p2p__put_end(w, start);
}

/* Ids ascend, which keeps the encoding single and makes a repeated id an error; unknown ones are
 * ignored. A zero is left out, so it must not be written. */
static void p2p__get_hello_params(p2p__reader *r, uint64_t param[16]) {
    uint64_t count = p2p__get_varint_max(r, P2P__HELLO_PARAMS), before = 0;
    for (uint64_t i = 0; i < count && !r->bad; i++) {
        uint64_t id = p2p__get_varint(r), value = p2p__get_varint(r);
        bool streams = id >= P2P__PARAM_MAX_STREAMS_BIDI && id <= P2P__PARAM_MAX_STREAMS_REQUEST;
        if (id <= before || !value || (streams && value > P2P__STREAMS_MAX))
            r->bad = 1;
        if (id < P2P__PARAM_END)
            param[id] = value;
        before = id;
    }
}

/* P2P_OK or P2P_ERR_PROTOCOL. The ALPN names point into body. */
static int p2p__hello_get(p2p_span body, p2p__hello *out) {
    p2p__reader r = p2p__reader_of(body.data, body.size);
    P2P_MEMSET(out, 0, sizeof *out);
    out->version_count = (uint8_t)p2p__get_varint_max(&r, P2P__HELLO_VERSIONS);
    for (uint32_t i = 0; i < out->version_count; i++)
        out->versions[i] = (uint32_t)p2p__get_varint_max(&r, UINT32_MAX);
    out->alpn_count = (uint8_t)p2p__get_varint_max(&r, P2P__HELLO_ALPNS);
    for (uint32_t i = 0; i < out->alpn_count; i++) {
        out->alpn[i] = p2p__get_str(&r, P2P__ALPN_MAX);
        if (!out->alpn[i].size)
            r.bad = 1;
    }
    out->caps = p2p__get_varint(&r);
    p2p__get_hello_params(&r, out->param);
    if (r.bad || p2p__left(&r) || !out->version_count || !out->alpn_count)
        return P2P_ERR_PROTOCOL;
    return P2P_OK;
}

/* ==== >>exchange ====
 * For: what the discovery and router rooms keep in the node and in every request's stream.
 * Always: an exchange moves only by p2p__exchange_go, along the table in >>router.
 * Covered by tests/unit/test_router.c. */

#define P2P__NAME_MAX    63u /* bytes of a name that is registered or asked for */
#define P2P__NAMES       4u  /* names a node registers */
#define P2P__QUERIES     4u  /* questions of the application at a time; a dial has one of its own */
#define P2P__PATH_MAX    1024u /* bytes of a request's path */
#define P2P__HEADERS_MAX 32u   /* headers of a request or of an answer */
#define P2P__PARAMS_MAX  8u    /* ":name" and "*name" of one pattern */

typedef struct p2p__name {
    uint8_t size; /* 0: none */
    char text[P2P__NAME_MAX];
} p2p__name;

typedef struct p2p__peer { /* what is known of a peer */
    p2p_ticket ticket;
    uint64_t order; /* the newest has the highest; 0: the place is free */
    uint8_t added;  /* by p2p_peer_add: gives way to no answer of discovery */
} p2p__peer;

enum p2p__query_state { P2P__QUERY_ASKED, P2P__QUERY_ANSWERED, P2P__QUERY_TOLD };

typedef struct p2p__query {
    p2p__slot slot;
    uint32_t conn_id; /* the dial that waits for it; 0: the application, by p2p_discover */
    int32_t err;
    uint8_t state, by_id;
    p2p__name name;
    p2p_id id; /* asked for, or found */
    uint64_t until_us;
} p2p__query;

typedef struct p2p__discovery {
    p2p__peer *peers;
    uint32_t peer_count;
    uint32_t answered; /* queries whose FOUND is to be told */
    uint32_t told;     /* the query whose FOUND was given last, until the next p2p_next_event */
    uint64_t order;
    p2p__pool queries;
    p2p__name *names; /* P2P__NAMES of them when there is a provider */
} p2p__discovery;

/* Where a request is in its life. Served here: IDLE to REPLIED. Sent from here: ASKED to FAILED. */
enum p2p__exchange_state {
    P2P__EXCHANGE_IDLE,     /* the peer opened the stream; nothing of it is here */
    P2P__EXCHANGE_HEAD,     /* a part of the head is here */
    P2P__EXCHANGE_BODY,     /* routed; the rest of the body is waited for */
    P2P__EXCHANGE_READY,    /* a handler run or a REQUEST event is pending */
    P2P__EXCHANGE_RUNNING,  /* its guard or handler runs */
    P2P__EXCHANGE_LATER,    /* the application owes the answer, by a deadline */
    P2P__EXCHANGE_REPLYING, /* the head of the answer is queued; the application writes the body */
    P2P__EXCHANGE_REPLIED,  /* the whole answer is queued */
    P2P__EXCHANGE_ASKED,    /* our request is queued; the head of the answer is waited for */
    P2P__EXCHANGE_ANSWERED, /* the head of the answer is here */
    P2P__EXCHANGE_FAILED,   /* no answer will come; err says why */
    P2P__EXCHANGE_GONE,     /* the stream is over */
    P2P__EXCHANGE_STATES
};

enum p2p__exchange_flag {
    P2P__EXCHANGE_DEFERRED = 1, /* p2p_reply_later, or given as a REQUEST event */
    P2P__EXCHANGE_EXPOSED = 2,  /* pointers into its head and body are out */
    P2P__EXCHANGE_MORE = 4,     /* the application still writes the body of its request */
    P2P__EXCHANGE_STOPPED = 8   /* the peer wants no more of that body */
};

typedef struct p2p__exchange {
    const p2p_route *route;
    const uint8_t *head; /* where it lies in the receive ring; NULL when it does not any more */
    uint32_t head_bytes; /* with its length prefix */
    uint32_t mark; /* low half of a stream offset when the deadline was set: has it moved since? */
    uint32_t next; /* handle of the next stream in p2p__router.taken */
    int16_t err;
    uint16_t service; /* index + 1; 0: p2p_route_add */
    uint8_t state, flags, prefix_bytes;
} p2p__exchange;

typedef struct p2p__request_scratch { /* what a p2p_request points to beside the receive ring */
    p2p_request request;
    p2p_header headers[P2P__HEADERS_MAX];
    p2p_header params[P2P__PARAMS_MAX];
} p2p__request_scratch;

typedef struct p2p__router {
    p2p_route *routes;
    p2p_service *services;
    uint32_t route_count, route_room, service_count, service_room;
    p2p__request_scratch *event;  /* of the REQUEST event given last */
    p2p_header *response_headers; /* of the p2p_response called last */
    uint32_t exposed; /* stream of the REQUEST event given last, until the next p2p_next_event */
    uint32_t taken;   /* first of the streams whose answer's head goes at the next p2p_next_event */
} p2p__router;

/* Without a provider nothing can be asked, so neither queries nor names take memory. */
static void p2p__discovery_layout(p2p__layout *l, const p2p_desc *desc, p2p__discovery *d) {
    bool provider = P2P__DISCOVERY && desc->discovery.api != NULL;
    uint32_t queries = provider ? desc->max.conns + P2P__QUERIES : 0;
    p2p__peer *peers = (p2p__peer *)p2p__layout_take(l, desc->max.peers, sizeof *peers, 8);
    p2p__query *items = (p2p__query *)p2p__layout_take(l, queries, sizeof *items, 8);
    p2p__name *names =
        (p2p__name *)p2p__layout_take(l, provider ? P2P__NAMES : 0, sizeof *names, 8);
    if (l->base == NULL)
        return;
    P2P_MEMSET(d, 0, sizeof *d);
    P2P_MEMSET(peers, 0, desc->max.peers * sizeof *peers);
    P2P_MEMSET(names, 0, (provider ? P2P__NAMES : 0) * sizeof *names);
    d->peers = peers;
    d->peer_count = desc->max.peers;
    d->names = names;
    p2p__pool_init(&d->queries, items, sizeof *items, queries, 1);
}

static void p2p__router_layout(p2p__layout *l, const p2p_desc *desc, p2p__router *r) {
#ifdef P2P_NO_ROUTER
    (void)l;
    (void)desc;
    (void)r;
#else
    p2p_route *routes = (p2p_route *)p2p__layout_take(l, desc->max.routes, sizeof *routes, 8);
    p2p_service *services =
        (p2p_service *)p2p__layout_take(l, desc->max.services, sizeof *services, 8);
    p2p__request_scratch *event = (p2p__request_scratch *)p2p__layout_take(l, 1, sizeof *event, 8);
    p2p_header *headers = (p2p_header *)p2p__layout_take(l, P2P__HEADERS_MAX, sizeof *headers, 8);
    if (l->base == NULL)
        return;
    P2P_MEMSET(r, 0, sizeof *r);
    r->routes = routes;
    r->services = services;
    r->route_room = desc->max.routes;
    r->service_room = desc->max.services;
    r->event = event;
    r->response_headers = headers;
#endif
}

/* ==== >>state ====
 * Every object of a node: what it holds, and the one enum that says where it is in its life.
 * Always: an index of P2P__NIL is none; all memory is carved once by p2p__node_layout; DOWN comes
 *         last.
 * Covered by tests/unit/test_node.c and, through p2p_check, by every behaviour test. */

#define P2P__NIL            0xffffu /* no index */
#define P2P__RUN_BYTES      2048u   /* of a receive ring, for each run out of order it can keep */
#define P2P__RUNS_MIN       16u     /* and so many at least */
#define P2P__RUNS_MAX       1024u   /* and at most: packet numbers are not remembered longer */
#define P2P__WINDOW_START   65536u  /* flow control begins with so much, or the buffer if smaller */
#define P2P__WINDOW         1024u   /* packet numbers remembered against duplicates */
#define P2P__ENVELOPE_MAX   512u    /* bytes of a handshake datagram */
#define P2P__ENVELOPE_HEAD  25u     /* type, session id, tag */
#define P2P__DATA_HEAD      9u      /* type, session id */
#define P2P__COOKIE         16u
#define P2P__COOKIE_LIFE_US 60000000u
#define P2P__DIAL_ADDRS     8u
#define P2P__LOCAL_ADDRS    8u
#define P2P__ALPNS          8u
#define P2P__ALPN_BYTES     32u
#define P2P__REASON_BYTES   P2P__REASON_MAX
#define P2P__RETRIES        4u /* RETRY answers that wait for p2p_output */
#define P2P__CHALLENGES     4u /* PATH_CHALLENGEs whose answer waits for p2p_output */
#define P2P__ANY_ALPN       0xffu
#ifndef P2P_ADMIT_PER_S
#define P2P_ADMIT_PER_S \
    500u /* unproven callers admitted a second without a cookie; 2 suits a microcontroller */
#endif
#define P2P__PER_SOURCE 2u /* half-open sessions of one address or /64 */
#define P2P__FRESH_US \
    10000u /* clock steps below this need no correction of deadlines set meanwhile */
#define P2P__SKIPPED          8u  /* packet numbers left out and still acknowledgeable */
#define P2P__REORDER          3u  /* packets that overtake one before it is lost, */
#define P2P__REORDER_MAX      64u /* and the most that a spurious loss makes of it */
#define P2P__LOST_RUNS        8u  /* runs of lost packet numbers that are remembered */
#define P2P__PRIORITIES       8u
#define P2P__PACKET_MIN       64u        /* no packet is begun in less room */
#define P2P__START_DATAGRAM   1200u      /* path MTU discovery starts here */
#define P2P__PMTU_STEP        48u        /* fewer bytes are not worth a probe */
#define P2P__PMTU_TRIES       3u         /* probes of a size, and suspects of a black hole */
#define P2P__PMTU_BUSY        100u       /* packets that arrived: more than first requests */
#define P2P__PMTU_RAISE_US    600000000u /* a search is repeated so long after it ended */
#define P2P__UNPROVEN_LIFE_US 5000000u
#define P2P__YIELD_US         3000000u /* a caller with a cookie keeps its place so long */
#define P2P__ATTEMPT_US       4750000u /* before the callee forgets the attempt */
#define P2P__ACK_DELAY_US     25000u
#define P2P__BURST_US         1000u
#define P2P__PTO_MAX_US \
    2000000u /* probes are never further apart, unless the round trip is longer */
#define P2P__FIRST_RTT_US 120000u  /* first handshake timer and initial round trip */
#define P2P__FLUSH_US     3000000u /* what was accepted has this long to be delivered at close */
#define P2P__WITHHOLD_US  50000u   /* how often a withheld proof is looked at */
#define P2P__REDIAL_US    100000u  /* from a break to the next dial; doubled by each that fails */
#define P2P__REDIAL_MAX_US \
    30000000u /* which is the longest wait, but for a quarter more or less by chance */
#define P2P__LIVED_US 10000000u /* a connection that lived so long begins with the short wait */
#define P2P__COLLAPSE_US \
    500000u /* both dial at once: the lower NodeId waits this long for its own dial */
#define P2P__RECORDS_MAX  (1ull << 47)
#define P2P__FORGED_MAX   (1ull << 36)
#define P2P__OFFSET_MAX   ((1ull << 62) - 1)
#define P2P__MESSAGE_OVER 8u /* the longest length prefix of a message */

enum p2p__kind {
    P2P__KIND_BIDI,
    P2P__KIND_UNI,
    P2P__KIND_REQUEST,
    P2P__KIND_MESSAGES,
    P2P__KINDS = 3
};

/* Events and work pending on one object: bits, so none is lost and none takes memory. */
enum p2p__ev {
    P2P__EV_CONNECTED = 1,
    P2P__EV_PATH = 2,
    P2P__EV_STREAM = 4,
    P2P__EV_HANDLER = 8,
    P2P__EV_REQUEST = 16,
    P2P__EV_RESPONSE = 32,
    P2P__EV_MESSAGE = 64,
    P2P__EV_LENT = 128, /* a message lent memory for is complete */
    P2P__EV_DATAGRAM = 256,
    P2P__EV_READABLE = 512,
    P2P__EV_SENT = 1024,
    P2P__EV_WRITABLE = 2048,
    P2P__EV_CLOSED = 4096,
    P2P__EV_DISCONNECTED = 8192
};

/* An object's place in the node's list of those with something pending. */
typedef struct p2p__ready {
    uint32_t prev, next; /* references: P2P__REF_STREAM | index, or the connection's index */
    uint16_t flags;
    uint8_t listed, reserved;
} p2p__ready;
#define P2P__REF_NONE   UINT32_MAX
#define P2P__REF_STREAM 0x80000000u

/* ---- what was sent: packets and the runs of stream bytes in them */

enum p2p__chunk_state { P2P__CHUNK_FREE, P2P__CHUNK_FLYING, P2P__CHUNK_LOST, P2P__CHUNK_ACKED };
/* What a chunk stands for. Data chunks of a stream lie in its list by offset and cover [acked,
 * sent) without gap. */
enum p2p__chunk_what {
    P2P__CHUNK_DATA,
    P2P__CHUNK_RESET,
    P2P__CHUNK_STOP,
    P2P__CHUNK_MAX,
    P2P__CHUNK_BLOCKED
};
typedef struct p2p__chunk {
    uint64_t offset;
    uint32_t size;
    uint16_t stream;      /* P2P__NIL: the stream is gone */
    uint16_t prev, next;  /* in the stream, by offset; next also in the free list */
    uint16_t packet_next; /* in the packet */
    uint8_t state, what, fin, reserved;
} p2p__chunk;

/* Control frames a packet carried, to be sent again when it is lost. */
enum p2p__control {
    P2P__CONTROL_HELLO = 1,
    P2P__CONTROL_AUTH = 2,
    P2P__CONTROL_DONE = 4,
    P2P__CONTROL_PING = 8,
    P2P__CONTROL_MAX_DATA = 16,
    P2P__CONTROL_MAX_STREAMS = 32,     /* and the next two bits: one a kind */
    P2P__CONTROL_BLOCKED = 256,        /* DATA_BLOCKED */
    P2P__CONTROL_STREAMS_BLOCKED = 512 /* and the next two bits */
};
typedef struct p2p__packet {
    uint64_t number, sent_us;
    uint32_t control;
#ifndef P2P_NO_BBR
    uint32_t delivered; /* bbr.delivered when it left, and how long ago it had changed */
    uint32_t ack_age_us;
    uint32_t send_age_us; /* from the sending of what was delivered last until it left */
#endif
    uint16_t bytes;
    uint16_t next; /* older to newer */
    uint16_t chunks;
    uint8_t limited; /* the application or memory, not the window, held the sender back */
} p2p__packet;

typedef struct p2p__flight { /* the node's pools of both, shared fairly by the sessions */
    p2p__packet *packets;
    p2p__chunk *chunks;
    uint32_t packet_count, chunk_count;
    uint32_t quota;       /* packets every session may have, whatever the others do */
    uint32_t shared_used; /* packets beyond quotas */
    uint32_t packets_used, chunks_used;
    uint16_t packet_free, chunk_free;
} p2p__flight;

typedef struct p2p__rtt {
    uint64_t smoothed_us, variance_us, latest_us, min_us;
    uint8_t sampled;
} p2p__rtt;

typedef struct p2p__pmtu { /* path MTU discovery; sizes are those of datagrams */
    uint64_t number;       /* of the probe on its way, or P2P_NEVER */
    uint64_t timer_us;     /* when it counts as lost, or the next search begins */
    uint64_t suspect_us;   /* when the latest suspect was counted */
    uint16_t size;         /* being probed, 0 between searches */
    uint16_t high;         /* this and more is not allowed, or did not come through */
    uint8_t tries, due;    /* probes of this size that were lost; one is to be sent */
    uint8_t suspects;      /* losses of large datagrams since one came through */
} p2p__pmtu;

/* ---- congestion control; sizes in bytes at most P2P__CC_MAX, rates in bytes a second */

enum p2p__cc_kind { P2P__CC_BBR = 1, P2P__CC_CUBIC, P2P__CC_RENO }; /* as desc.congestion */

typedef struct p2p__curve { /* what an undone loss brings back */
    uint32_t window_bytes;
    uint32_t threshold_bytes; /* below it is slow start; UINT32_MAX until the first loss */
#ifndef P2P_NO_CUBIC
    uint32_t top_bytes, top_ms; /* RFC 9438: W_max, and K, the time to reach it */
    uint32_t reno_bytes;        /* W_est: where NewReno would be */
    uint64_t epoch_us;          /* 0: begins with the next acknowledgement */
#endif
} p2p__curve;

typedef struct p2p__hystart { /* RFC 9406 */
    uint32_t round_min_us, last_min_us, base_min_us;
    uint8_t samples, slow, rounds; /* slow: rounds of conservative slow start count */
} p2p__hystart;

typedef struct p2p__bbr {
    uint32_t bw[2];        /* the best of this probing cycle and of the one before */
    uint32_t bw_short;     /* bound set by heavy loss until the next probe */
    uint32_t inflight_max; /* what heavy loss while probing proved to be too much */
    uint32_t full_bw;      /* what the next rounds must exceed by a quarter */
    uint32_t extra[2];     /* acknowledged in bursts beyond bw, this cycle and the one before */
    uint32_t burst_bytes;
    uint32_t min_rtt_us, probe_rtt_us;
    uint32_t delivered;                                           /* modulo 2^32 */
    uint32_t count_delivered, count_lost, count_bw, count_rtt_us; /* since loss is counted anew */
    uint64_t delivered_us, first_sent_us; /* of the latest acknowledgement; its packet's sending */
    uint64_t burst_us, min_rtt_at_us, until_us;
    uint8_t state, full, rounds, cycle_rounds;
    uint16_t random_loss; /* what is lost while no queue stands, of 10,000 */
} p2p__bbr;

typedef struct p2p__cc {
    p2p__curve now, before; /* before: the latest loss */
    uint32_t datagram_bytes;
    uint32_t rate; /* at which packets leave */
    uint32_t pace_ns_left;
    uint32_t lost_packets; /* of the latest loss, spurious ones taken off */
    uint64_t pace_us;      /* when the next packet may leave */
    uint64_t recovery_us;  /* the latest loss was reacted to */
    uint64_t acked_bytes;
    uint8_t kind, recovering;
#if !defined(P2P_NO_BBR) || !defined(P2P_NO_CUBIC)
    uint64_t round_number, acked_us; /* the first packet of the next round trip */
#endif
#ifndef P2P_NO_CUBIC
    p2p__hystart hystart;
#endif
#ifndef P2P_NO_BBR
    p2p__bbr bbr;
#endif
} p2p__cc;

typedef struct p2p__ack { /* what one ACK frame told, for the controller */
    uint64_t now_us, next_number;
    uint32_t bytes, in_flight;
    uint32_t rtt_us, smoothed_us; /* rtt_us 0: no sample */
    p2p__packet newest;
} p2p__ack;

typedef struct p2p__lost_run { /* numbers modulo 2^32 */
    uint32_t first, count;
} p2p__lost_run;

/* ---- streams */

enum p2p__send_state {
    P2P__SEND_NONE,
    P2P__SEND_OPEN,
    P2P__SEND_FINISHING,
    P2P__SEND_RESETTING,
    P2P__SEND_DONE
};
enum p2p__recv_state { P2P__RECV_NONE, P2P__RECV_OPEN, P2P__RECV_WHOLE, P2P__RECV_DONE };

typedef struct p2p__send {
    uint8_t *ring;
    uint64_t acked, sent,
        end;          /* offsets: all below acked are; sent were sent once; end were accepted */
    uint64_t limit;   /* the peer's MAX_STREAM_DATA */
    uint64_t blocked; /* limit STREAM_DATA_BLOCKED was sent for, plus 1; while the stream itself
                         waits for MAX_STREAMS: the limit that STREAMS_BLOCKED was sent for */
    const uint8_t *
        lent; /* p2p_send_ref: bytes [lent_at, lent_at + lent_size) lie there and not in the ring */
    uint64_t lent_at, lent_size, shift; /* shift: ring position = offset - shift */
    uint32_t room, reserved_bytes;
    uint32_t kept; /* bytes below acked, of a message that is not acknowledged whole, that keep
                      their place */
    uint16_t chunk_first, chunk_last;
    uint16_t lost;     /* chunks in state LOST */
    uint16_t controls; /* control chunks on their way that name this stream */
    uint32_t code;
    uint32_t turn; /* bytes written since its turn among those of its priority came */
    uint8_t state, fin_sent, want_reset, want_writable;
} p2p__send;

typedef struct p2p__run { /* bytes that arrived beyond a gap: the low halves of their offsets */
    uint32_t first, end;
} p2p__run;

typedef struct p2p__recv {
    uint8_t *ring;
    p2p__run *run;       /* ascending, all beyond `here` */
    uint64_t read;       /* next byte for the application */
    uint64_t here;       /* every byte below has arrived */
    uint64_t high;       /* highest offset seen, exclusive */
    uint64_t limit;      /* MAX_STREAM_DATA told */
    uint64_t base;       /* where this session's bytes begin: what lies below came by one before */
    uint64_t final;      /* size of the whole, or P2P_NEVER */
    uint32_t room, held; /* held: bytes before read that keep their place */
    uint32_t window;     /* of the room, what the peer may fill: it grows to all of it */
    uint32_t granted_us; /* low half of when `limit` was told last */
    uint32_t code;
    uint16_t runs, run_room;
    uint8_t state, starved;      /* starved: the peer said that it waits at `limit` */
    uint8_t want_max, want_stop; /* want_stop: 1 to be said, 2 said, 3 heard; 0 when the final size
                                    is known */
} p2p__recv;

/* In these three the small members that most functions ask for come first, as in p2p_node. */
typedef struct p2p__stream {
    p2p__slot slot;
    p2p__ready ready;
    uint8_t kind, local, priority, app_user_set;
    uint8_t sending;               /* the send list it is in, plus 1 */
    uint8_t accepting;             /* is in the accept list */
    uint8_t announced;             /* 1: the application knows it; 2: it never will */
    uint16_t conn;                 /* index or P2P__NIL */
    uint16_t conn_prev, conn_next; /* the connection's streams */
    uint16_t send_prev, send_next; /* those of one send list */
    uint16_t hash_next;
    uint16_t accept_next;
    int16_t err;          /* of CLOSED */
    p2p_conn conn_handle; /* stays when the connection is gone */
    void *user;
    uint64_t number;
    p2p__send send;
    p2p__recv recv;
    p2p__exchange x;
    uint32_t x_ticks; /* node->ticks when the next was set */
    uint64_t x_deadline_us;
} p2p__stream;

/* ---- sessions: one secure channel with a peer, and recovery over it */

enum p2p__wait { P2P__WAIT_NONE, P2P__WAIT_DIAL, P2P__WAIT_DONE_ACKED, P2P__WAIT_PLACE };
enum p2p__session_state {
    P2P__SESSION_HANDSHAKE, /* envelopes go back and forth */
    P2P__SESSION_PROVING,   /* channel up; HELLO and AUTH */
    P2P__SESSION_WAITING,   /* server: client proved; DONE withheld while both dial at once */
    P2P__SESSION_OPEN,
    P2P__SESSION_CLOSING,  /* our CLOSE was sent; repeated in answer to late packets */
    P2P__SESSION_DRAINING, /* the peer's CLOSE came; silent */
    P2P__SESSION_DOWN
};

typedef struct p2p__limits { /* what a HELLO grants */
    uint64_t max_packet, max_data, stream_theirs, stream_ours, stream_uni, messages, message_max,
        datagram_max, idle_us;
    uint64_t max_streams[P2P__KINDS];
} p2p__limits;

typedef struct p2p__session {
    p2p__slot slot;
    uint8_t state, server, alpn;
    uint8_t has_cookie, retried, proven;
    uint8_t peer_hello, peer_proved, done_sent, done_acked;
    uint8_t opened_record; /* an application record decrypted: envelopes are over */
    uint8_t flight_to;     /* which address of the dial gets the current flight next */
    uint8_t answered;      /* client: a valid answer fixed the path */
    uint8_t signed_auth, alpn_mask, holds_grant;
    uint8_t close_origin, queued, want_close;
    uint8_t waits, paced, refusal,
        tested;       /* waits: why in WAITING; tested: a PING must be answered */
    uint8_t socket;   /* of the port, which the peer reached */
    uint8_t withheld; /* client: its proof waits for a dial of the peer */
    uint8_t held;     /* an unproven source has its 3 x already: more goes when it sends more */
    uint16_t conn;    /* index or P2P__NIL */
    uint16_t heap;    /* position in the timer heap, or P2P__NIL */
    uint16_t out_prev, out_next; /* those that may have something to send */
    uint16_t hash_next, reserved16;
    uint16_t packet_first, packet_last;
    uint32_t control;
    uint32_t unacked; /* packets that want an ACK and got none */
    uint32_t packet_used, pto_count;
    uint32_t probes; /* packets that may leave beyond the window */
    void *slab;
    uint64_t born_us, bytes_in, bytes_out, handshake_us, proof_by_us, collapse_us;
    uint64_t deadline_us; /* the key in the heap */
    uint64_t records_in, records_bad;
    /* receiving */
    uint64_t seen_top; /* largest packet number seen + 1 */
    uint64_t seen_top_us, ack_at_us, heard_us;
    uint32_t round_count; /* of such that came in this round trip, which began at .round_us */
    uint64_t round_us;
    uint8_t ack_every; /* so many packets are answered by one ACK */
    /* sending */
    uint64_t next_number, skip_number, acked_number; /* acked_number: largest acknowledged + 1 */
    uint64_t dry_number; /* packets sent before this one is acknowledged had the window to spare */
    p2p__lost_run lost[P2P__LOST_RUNS]; /* of the latest loss, in case they arrive after all */
    uint8_t lost_at, reorder;           /* reorder: the packet threshold, RFC 9002 section 6.1.1 */
    uint64_t in_flight_bytes, loss_us, elicited_us, spoke_us, tick_us;
    uint32_t close_code, close_count;
    uint64_t test_by_us;
    uint8_t close_reason_size;
    p2p__rtt rtt;
    p2p__cc cc;
    p2p__pmtu pmtu;
    uint64_t packets_sent, packets_received, packets_lost;
    /* large, and seldom asked for */
    uint8_t id[8];
    uint8_t cookie[P2P__COOKIE];
    uint8_t tag_key[32];
    p2p_addr remote, local; /* local: where the peer reached us; answers leave from there */
    p2p_id peer;
    uint8_t hello_hash[32];    /* of the peer's HELLO, to catch a second one */
    uint64_t auth_hash;        /* of its AUTH, likewise */
    uint8_t transcript[2][32]; /* what the server's and the client's AUTH sign */
    uint8_t signature[64];
    p2p__limits mine, theirs;
    uint64_t seen[P2P__WINDOW / 64];
    uint64_t skipped[P2P__SKIPPED];
    char close_reason[P2P__REASON_BYTES];
} p2p__session;

/* ---- connections: what the application holds */

enum p2p__conn_state {
    P2P__CONN_WAITING, /* no address yet, or no session free */
    P2P__CONN_DIALLING,
    P2P__CONN_OPEN,
    P2P__CONN_FLUSHING, /* p2p_close: what was accepted is still delivered */
    P2P__CONN_DOWN      /* DISCONNECTED is to be told */
};

#ifndef P2P_NO_RECONNECT
#define P2P__RETURNS 1
#else
#define P2P__RETURNS 0
#endif
enum p2p__reconnect { P2P__RECONNECT_NO, P2P__RECONNECT_ASKED, P2P__RECONNECT_UP_ONCE };

typedef struct
    p2p__queue { /* datagrams, oldest first; while count is 0 first and last say nothing */
    uint16_t first, last, count;
} p2p__queue;

typedef struct p2p__conn {
    p2p__slot slot;
    p2p__ready ready;
    uint8_t state, incoming, alpn, told; /* told: CONNECTED was given */
    uint8_t addr_count, share, given;    /* given: DISCONNECTED was */
    uint8_t accepting, wrong_proof, message_asked, reason_size, attached;
    uint8_t confirmed; /* the peer acknowledged data: it has let this session in */
    uint8_t reconnect; /* enum p2p__reconnect */
    uint8_t setbacks;  /* breaks and failed dials since it lived for a while */
    uint8_t lent_cut;  /* the message lent memory for broke off */
    uint16_t session, listener;
    uint16_t accept_next;
    uint16_t heap;
    uint16_t stream_first;
    uint16_t stream_accept_first, stream_accept_last;
    uint16_t send_first[P2P__PRIORITIES + 1]; /* with bytes to send, by priority; last, those with
                                                 a control frame, whatever their priority */
    uint16_t messages;     /* index of the messages stream, P2P__NIL when there is none */
    uint16_t peer_streams; /* of its streams, those that the peer opened */
    uint32_t holders, query;
    uint32_t
        alias; /* a dial by name that turned out to be this open connection: told once, then gone */
    int32_t err;
    uint32_t code;
    p2p_id peer;
    void *user;
    uint64_t deadline_us; /* the key in the heap */
    uint64_t connect_by_us, flush_by_us, retry_us, opened_us, router_us;
    uint32_t ticks; /* node->ticks when these were set */
    uint32_t attempts;
    uint8_t addr_bad[P2P__DIAL_ADDRS]; /* proofs that failed there */
    /* flow control of the connection */
    uint64_t recv_total, recv_taken, recv_limit, recv_window, send_total, send_limit;
    uint64_t blocked; /* limit DATA_BLOCKED was sent for, plus 1 */
    uint64_t made[P2P__KINDS],
        made_limit[P2P__KINDS]; /* streams opened here, and how many the peer allows */
    uint64_t taken[P2P__KINDS],
        taken_limit[P2P__KINDS]; /* opened by the peer, and how many it was allowed */
    /* messages */
    uint64_t message_largest; /* sent so far: the peer's limit may not have been known */
    uint64_t message_size;    /* of the one being received; P2P_NEVER: its length is not here yet */
    uint8_t *lent;            /* p2p_recv_ref */
    uint64_t lent_have;
    void *sent_token;
    uint64_t sent_at; /* offset at whose acknowledgement SENT is told */
    int32_t sent_err;
    uint8_t sent_pending, want_writable;
    uint8_t starved; /* kinds of streams, as bits, of which the peer got no more */
    uint8_t reserved8;
    uint32_t unsure;         /* messages sent whole when the session broke, and not acknowledged */
    p2p__queue datagrams[2]; /* that came in, and that are to go out */
    uint64_t messages_sent, messages_received, bytes_sent, bytes_received, datagrams_sent,
        datagrams_received, datagrams_dropped;
    char reason[P2P__REASON_BYTES];
    p2p_addr addrs[P2P__DIAL_ADDRS];
} p2p__conn;

typedef struct p2p__listener {
    p2p__slot slot;
    void *user;
    uint32_t backlog, waiting;
    uint16_t accept_first, accept_last;
    uint8_t alpn, any; /* any: every ALPN of the node */
} p2p__listener;

typedef struct p2p__datagram { /* followed by bytes.datagram_max bytes */
    uint64_t born_us;
    uint32_t size;
    uint16_t next;
} p2p__datagram;

typedef struct p2p__heap { /* of references to what has a deadline: sessions and connections */
    uint32_t *refs;
    uint32_t count, room;
} p2p__heap;

typedef struct p2p__challenge { /* an answer that is owed on the path it was asked on */
    p2p_addr remote, local;
    uint32_t session; /* its id in the pool */
    uint32_t room;    /* bytes of the datagram that asked */
    uint8_t bytes[8];
    uint8_t socket;
} p2p__challenge;

/* What most functions ask for comes first: near members take shorter instructions on Thumb. */
struct p2p_node {
    uint32_t magic;
    uint8_t spent; /* a connection whose DISCONNECTED was given may have no streams left */
    uint8_t in_call, stopping, stopped, simulated, secret_made;
    uint8_t in_socket, out_socket;
    uint16_t out_first, out_last;
    uint64_t now_us;
    p2p__stream *streams; /* messages of each connection, then local, then the peers' */
    p2p__pool conns, sessions;
    uint32_t ready_first, ready_last, handler_ready;
    uint32_t ticks, fresh; /* clock steps; the count when a deadline was last set from outside */
    uint32_t stream_total;
    p2p__heap heap;
    p2p__flight flight;
    p2p__pool local_streams, peer_streams, listeners;
    struct {
        uint8_t *items; /* p2p__datagram and bytes, datagram_stride apart */
        uint16_t free;
        uint16_t used, owners; /* owners: connections with any */
    } datagrams[2];            /* in, out */
    uint32_t datagram_stride;
    uint32_t half_open[2]; /* sessions that are not open yet: dials, callers */
    uint32_t unproven, waiting_dials;
    uint32_t granted;    /* streams promised to peers or open by them */
    uint8_t starving;    /* some connection may have a kind starved */
    uint32_t packet_max; /* plaintext bytes of the largest packet this node takes */
    uint32_t in_bytes;   /* of the datagram in hand; 0 once it had its PATH_RESPONSE */
    uint32_t retry_count, challenge_count;
    uint16_t *session_hash, *stream_hash;
    uint32_t session_hash_mask, stream_hash_mask;
    uint64_t polled_us, stop_by_us, timer_next_us;
    uint64_t *timers;
    uint32_t timer_count;
    uint32_t exposed_conn; /* DISCONNECTED of it was given: freed at the next p2p_next_event */
    uint64_t secret_us, token_us, tokens_milli;
    uint8_t *rings[3]; /* of messages, local and peers' streams */
    uint8_t *slabs;
    size_t slab_bytes, arena_size;
    p2p__log_sink log;
    p2p__router router;
    p2p__discovery discovery;
    p2p_addr in_remote, in_local, out_local; /* of the packet p2p_input or p2p_output has in hand */
    p2p_desc desc; /* defaults resolved: every 0 replaced, P2P_NONE turned into 0 */
    p2p_key key;
    p2p__drbg drbg;
    uint8_t hash_key[16], tag_key[32], psk[32], secret[2][32];
    uint32_t alpn_count;
    char alpn[P2P__ALPNS][P2P__ALPN_BYTES + 1];
    char network[65];
    struct {
        p2p_addr remote, local;
        uint8_t id[8];
        uint8_t socket;
    } retries[P2P__RETRIES];
    p2p__challenge challenges[P2P__CHALLENGES]; /* oldest first */
    p2p_error_detail failed;
    p2p_metrics metrics;
};

/* What the rooms below call in rooms above: the upward calls, all of them. */
static void p2p__router_readable(p2p_node *node, p2p__stream *s);
static bool p2p__router_raw(const p2p__stream *s);
static void p2p__router_closed(p2p_node *node, p2p__stream *s);
static void p2p__router_timeout(p2p_node *node, p2p__stream *s);
static void p2p__peer_known(p2p_node *node, const p2p_ticket *ticket);
static const p2p_ticket *p2p__peer_find(const p2p_node *node, const p2p_id *id);
#ifndef P2P_NO_DISCOVERY
static void p2p__dial_found(p2p_node *node, uint32_t conn_id, const p2p_ticket *found);
#endif
static void p2p__query_cancel_conn(p2p_node *node, uint32_t conn_id);
static void p2p__conn_fault(p2p_node *node, p2p__conn *conn, uint32_t code, const char *reason);
static void p2p__peer_ask(p2p_node *node, p2p__conn *conn);

static p2p__conn *p2p__conn_at(const p2p_node *node, uint32_t index) {
    return index == P2P__NIL ? NULL : (p2p__conn *)p2p__pool_at(&node->conns, index);
}

static p2p__session *p2p__session_at(const p2p_node *node, uint32_t index) {
    return index == P2P__NIL ? NULL : (p2p__session *)p2p__pool_at(&node->sessions, index);
}

/* The connection in use behind one (NULL: the first); NULL behind the last. */
P2P__NOINLINE static p2p__conn *p2p__conn_next(const p2p_node *node, const p2p__conn *behind) {
    return (p2p__conn *)p2p__pool_next(&node->conns, behind);
}

P2P__NOINLINE static p2p__session *p2p__session_next(const p2p_node *node,
                                                     const p2p__session *behind) {
    return (p2p__session *)p2p__pool_next(&node->sessions, behind);
}

static bool p2p__is_messages(const p2p__stream *s) {
    return P2P__MESSAGES && s->kind == P2P__KIND_MESSAGES;
}

static p2p__stream *p2p__stream_at(const p2p_node *node, uint32_t index) {
    return index == P2P__NIL ? NULL : &node->streams[index];
}

P2P__NOINLINE static uint16_t p2p__stream_index(const p2p_node *node, const p2p__stream *s) {
    return (uint16_t)(s - node->streams);
}

/* It was up once and outlives breaks. */
static bool p2p__conn_returns(const p2p__conn *conn) {
    return P2P__RETURNS && conn->reconnect == P2P__RECONNECT_UP_ONCE;
}

static uint16_t p2p__conn_index(const p2p_node *node, const p2p__conn *conn) {
    return (uint16_t)p2p__pool_index(&node->conns, conn);
}

static uint16_t p2p__session_index(const p2p_node *node, const p2p__session *session) {
    return (uint16_t)p2p__pool_index(&node->sessions, session);
}

static p2p__conn *p2p__stream_conn(const p2p_node *node, const p2p__stream *s) {
    return p2p__conn_at(node, s->conn);
}

P2P__NOINLINE static void p2p__count(p2p_node *node, uint32_t metric, size_t n) {
    node->metrics.value[metric] += n;
}

/* The generator or the crypto table refused: what it was for is left undone, and tried again. */
static void p2p__random_failed(p2p_node *node) {
    p2p__count(node, P2P_METRIC_random_failed, 1);
    p2p__log(&node->log, P2P__LOG_RANDOM_FAILED);
}

/* Says why a call failed: the numbers, and in words the field. Sizes of objects in memory fit a
 * size_t. Const calls may fail too, and the record is no part of what const promises. */
static int p2p__detail_numbers(p2p_error_detail *d, int err, size_t size, size_t max) {
    P2P_MEMSET(d, 0, sizeof *d);
    d->err = err;
    d->size = size;
    d->max = max;
    return err;
}

P2P__OPTIONAL static int p2p__fail_numbers(const p2p_node *node, int err, size_t size, size_t max) {
    return p2p__detail_numbers(&((p2p_node *)(uintptr_t)node)->failed, err, size, max);
}

#ifndef P2P_NO_WORDS
static int p2p__detail_set(p2p_error_detail *d, int err, const char *text, size_t size,
                           size_t max) {
    size_t n = strlen(text);
    (void)p2p__detail_numbers(d, err, size, max);
    P2P_MEMCPY(d->text, text, P2P__MIN(n, sizeof d->text - 1));
    return err;
}

static int p2p__fail_size(const p2p_node *node, int err, const char *text, size_t size,
                          size_t max) {
    return p2p__detail_set(&((p2p_node *)(uintptr_t)node)->failed, err, text, size, max);
}

static int p2p__fail(const p2p_node *node, int err, const char *text) {
    return p2p__fail_size(node, err, text, 0, 0);
}
#else /* the words are dropped where they stand */
#define p2p__detail_set(d, err, text, size, max) \
    ((void)(text), p2p__detail_numbers(d, err, size, max))
#define p2p__fail_size(node, err, text, size, max) \
    ((void)(text), p2p__fail_numbers(node, err, size, max))
#define p2p__fail(node, err, text) ((void)(text), p2p__fail_numbers(node, err, 0, 0))
#endif

/* ==== >>ready ====
 * Who has an event, a handler run or a packet pending: intrusive lists, first come first served.
 * Always: an object is listed exactly while its flags are not 0 (p2p_check walks the lists).
 * Covered by tests/behaviour/cases_conn.h. */
static p2p__ready *p2p__ready_of(const p2p_node *node, uint32_t ref) {
    if (ref & P2P__REF_STREAM)
        return &node->streams[ref & ~P2P__REF_STREAM].ready;
    return &p2p__conn_at(node, ref)->ready;
}

static void p2p__ready_unlink(p2p_node *node, uint32_t ref) {
    p2p__ready *r = p2p__ready_of(node, ref);
    if (!r->listed)
        return;
    if (r->prev == P2P__REF_NONE)
        node->ready_first = r->next;
    else
        p2p__ready_of(node, r->prev)->next = r->next;
    if (r->next == P2P__REF_NONE)
        node->ready_last = r->prev;
    else
        p2p__ready_of(node, r->next)->prev = r->prev;
    r->listed = 0;
}

static void p2p__ready_link(p2p_node *node, uint32_t ref) {
    p2p__ready *r = p2p__ready_of(node, ref);
    P2P_ASSERT(!r->listed);
    r->prev = node->ready_last;
    r->next = P2P__REF_NONE;
    if (node->ready_last == P2P__REF_NONE)
        node->ready_first = ref;
    else
        p2p__ready_of(node, node->ready_last)->next = ref;
    node->ready_last = ref;
    r->listed = 1;
}

static void p2p__ready_set(p2p_node *node, uint32_t ref, uint32_t flag) {
    p2p__ready *r = p2p__ready_of(node, ref);
    if ((flag & P2P__EV_HANDLER) && !(r->flags & P2P__EV_HANDLER))
        node->handler_ready++;
    r->flags = (uint16_t)(r->flags | flag);
    if (!r->listed)
        p2p__ready_link(node, ref);
}

static void p2p__ready_clear(p2p_node *node, uint32_t ref, uint32_t flag) {
    p2p__ready *r = p2p__ready_of(node, ref);
    if ((flag & P2P__EV_HANDLER) && (r->flags & P2P__EV_HANDLER))
        node->handler_ready--;
    r->flags = (uint16_t)(r->flags & ~flag);
    if (!r->flags)
        p2p__ready_unlink(node, ref);
}

static uint32_t p2p__stream_ref(const p2p_node *node, const p2p__stream *s) {
    return P2P__REF_STREAM | p2p__stream_index(node, s);
}

static void p2p__raise(p2p_node *node, p2p__stream *s, uint32_t flag) {
    p2p__ready_set(node, p2p__stream_ref(node, s), flag);
}

static void p2p__raise_conn(p2p_node *node, p2p__conn *conn, uint32_t flag) {
    p2p__ready_set(node, p2p__conn_index(node, conn), flag);
}

/* Sessions that may have a packet to send; p2p_output asks them in turn and takes out those that
 * have none. */
static void p2p__out_add(p2p_node *node, p2p__session *session) {
    uint16_t index = p2p__session_index(node, session);
    if (session->queued || session->state == P2P__SESSION_DOWN)
        return;
    session->queued = 1;
    session->out_prev = node->out_last;
    session->out_next = P2P__NIL;
    if (node->out_last == P2P__NIL)
        node->out_first = index;
    else
        p2p__session_at(node, node->out_last)->out_next = index;
    node->out_last = index;
}

static void p2p__out_drop(p2p_node *node, p2p__session *session) {
    if (!session->queued)
        return;
    session->queued = 0;
    if (session->out_prev == P2P__NIL)
        node->out_first = session->out_next;
    else
        p2p__session_at(node, session->out_prev)->out_next = session->out_next;
    if (session->out_next == P2P__NIL)
        node->out_last = session->out_prev;
    else
        p2p__session_at(node, session->out_next)->out_prev = session->out_prev;
}

static void p2p__wake(p2p_node *node, const p2p__conn *conn) {
    if (conn && conn->session != P2P__NIL)
        p2p__out_add(node, p2p__session_at(node, conn->session));
}

/* ==== >>heap ====
 * Deadlines of sessions and connections: a binary heap of references, so the earliest is always
 * at hand.
 * Always: an object is in it exactly while its deadline is not P2P_NEVER, and knows its place.
 * Covered by tests/unit/test_node.c. */
#define P2P__REF_SESSION 0x40000000u
static uint64_t *p2p__heap_key(const p2p_node *node, uint32_t ref, uint16_t **place) {
    if (ref & P2P__REF_SESSION) {
        p2p__session *session = p2p__session_at(node, ref & ~P2P__REF_SESSION);
        *place = &session->heap;
        return &session->deadline_us;
    } else {
        p2p__conn *conn = p2p__conn_at(node, ref);
        *place = &conn->heap;
        return &conn->deadline_us;
    }
}

static uint64_t p2p__heap_us(const p2p_node *node, uint32_t at) {
    uint16_t *place;
    return *p2p__heap_key(node, node->heap.refs[at], &place);
}

static void p2p__heap_put(p2p_node *node, uint32_t at, uint32_t ref) {
    uint16_t *place;
    (void)p2p__heap_key(node, ref, &place);
    node->heap.refs[at] = ref;
    *place = (uint16_t)at;
}

static void p2p__heap_sift(p2p_node *node, uint32_t at) {
    uint32_t ref = node->heap.refs[at], child;
    uint16_t *place;
    uint64_t us = *p2p__heap_key(node, ref, &place);
    while (at > 0 && p2p__heap_us(node, (at - 1) / 2) > us) {
        p2p__heap_put(node, at, node->heap.refs[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    while ((child = 2 * at + 1) < node->heap.count) {
        if (child + 1 < node->heap.count &&
            p2p__heap_us(node, child + 1) < p2p__heap_us(node, child))
            child++;
        if (p2p__heap_us(node, child) >= us)
            break;
        p2p__heap_put(node, at, node->heap.refs[child]);
        at = child;
    }
    p2p__heap_put(node, at, ref);
}

static void p2p__heap_set(p2p_node *node, uint32_t ref, uint64_t us) {
    uint16_t *place;
    uint64_t *key = p2p__heap_key(node, ref, &place);
    uint32_t at = *place;
    if (*key == us)
        return;
    *key = us;
    if (us != P2P_NEVER) {
        if (at == P2P__NIL) {
            P2P_ASSERT(node->heap.count < node->heap.room);
            at = node->heap.count++;
            p2p__heap_put(node, at, ref);
        }
        p2p__heap_sift(node, at);
        return;
    }
    if (at == P2P__NIL)
        return;
    *place = (uint16_t)P2P__NIL;
    if (at != --node->heap.count) {
        p2p__heap_put(node, at, node->heap.refs[node->heap.count]);
        p2p__heap_sift(node, at);
    }
}

/* A connection's own deadlines; its session has others. */
static void p2p__conn_schedule(p2p_node *node, p2p__conn *conn) {
    uint64_t us = conn->router_us;
    if (conn->state <= P2P__CONN_DIALLING)
        us = P2P__MIN(us, conn->connect_by_us);
    if (conn->state == P2P__CONN_WAITING && conn->addr_count)
        us = P2P__MIN(us, conn->retry_us);
    if (conn->state == P2P__CONN_FLUSHING)
        us = P2P__MIN(us, conn->flush_by_us);
    if (conn->state == P2P__CONN_DOWN)
        us = P2P_NEVER;
    p2p__heap_set(node, p2p__conn_index(node, conn), us);
}

/* ==== >>flow ====
 * Room: bytes a peer may send (MAX_DATA, MAX_STREAM_DATA), streams it may open (MAX_STREAMS), RFC
 * 9000 section 4.
 * Always: what was granted fits the buffers and tables carved at open, so nothing honest is ever
 *         refused.
 * Covered by tests/unit/test_flow.c, tests/behaviour/cases_stream.h. */

static uint32_t p2p__window_start(uint32_t room) { return P2P__MIN(room, P2P__WINDOW_START); }

/* All windows of a connection's streams together: they never wait for the connection's own. It
 * begins with what they begin with and grows as they do. */
static uint64_t p2p__conn_window(const p2p_node *node) {
    const p2p_desc *d = &node->desc;
    return (uint64_t)p2p__window_start(d->bytes.message_recv) +
           (uint64_t)d->max.streams * p2p__window_start(d->bytes.stream_recv) +
           (uint64_t)d->max.peer_streams_per_conn * p2p__window_start(d->bytes.peer_recv);
}

static void p2p__conn_control(p2p_node *node, p2p__conn *conn, uint32_t control) {
    p2p__session *session = p2p__session_at(node, conn->session);
    if (!session)
        return;
    session->control |= control;
    p2p__out_add(node, session);
}

/* Lets the peer send more, if that is at least so much. */
static void p2p__conn_grant(p2p_node *node, p2p__conn *conn, uint64_t least) {
    uint64_t limit = P2P__MIN(conn->recv_taken + conn->recv_window, P2P__OFFSET_MAX);
    if (limit < conn->recv_limit + least)
        return;
    conn->recv_limit = limit;
    p2p__conn_control(node, conn, P2P__CONTROL_MAX_DATA);
}

/* The application took n bytes, or they were dropped for it. */
static void p2p__conn_taken(p2p_node *node, p2p__conn *conn, uint64_t n) {
    if (!conn || n == 0)
        return;
    conn->recv_taken += n;
    P2P_ASSERT(conn->recv_taken <= conn->recv_total);
    p2p__conn_grant(node, conn, conn->recv_window / 4);
}

/* Places that may be promised before anybody asks: some are kept for those who say that they wait,
 * since nobody has to use, or to give back, what was promised. */
static uint32_t p2p__grantable(const p2p_node *node) {
    uint32_t kept = P2P__MIN(node->desc.max.conns, node->desc.max.peer_streams / 2);
    uint32_t left = node->desc.max.peer_streams - node->granted;
    return left > kept ? left - kept : 0;
}

static uint64_t p2p__conn_promised(const p2p__conn *conn) {
    uint64_t sum = 0;
    uint32_t kind;
    for (kind = 0; kind < P2P__KINDS; kind++)
        sum += conn->taken_limit[kind] - conn->taken[kind];
    return sum;
}

/* How many more streams a connection gets. The last of its places, and those kept back, go one by one
 * to a kind that the peer waits for: promised to another kind they might never be used. */
static uint64_t p2p__grant_size(const p2p_node *node, const p2p__conn *conn, bool waits) {
    uint64_t have = p2p__conn_promised(conn) + conn->peer_streams, more;
    uint32_t most = node->desc.max.peer_streams_per_conn;
    if (have >= most)
        return 0;
    more = P2P__MIN((p2p__grantable(node) + 1) / 2, most - have - 1);
    if (more == 0 && waits && (conn->peer_streams == 0 || p2p__grantable(node)))
        more = node->granted < node->desc.max.peer_streams;
    return more;
}

/* The peer used up what it was granted of this kind, or waits: it said so, and gets more as soon as
 * there is some. */
static void p2p__grant_more(p2p_node *node, p2p__conn *conn, uint32_t kind, bool waits) {
    uint64_t more;
    if (!P2P__ROUTER && kind == P2P__KIND_REQUEST)
        return;
    if (!conn->attached)
        return;
    conn->starved = (uint8_t)(conn->starved | (uint32_t)waits << kind);
    node->starving |= waits;
    if (conn->taken[kind] < conn->taken_limit[kind]) /* it overtook the streams that used them up */
        return;
    more = p2p__grant_size(node, conn, conn->starved >> kind & 1);
    if (more == 0)
        return;
    conn->starved = (uint8_t)(conn->starved & ~(1u << kind));
    node->granted += (uint32_t)more;
    conn->taken_limit[kind] += more;
    p2p__conn_control(node, conn, (uint32_t)P2P__CONTROL_MAX_STREAMS << kind);
}

/* Places are free, of a stream that ended or of a lost connection: those that got none before are
 * looked at again. */
static void p2p__grant_starved(p2p_node *node) {
    uint32_t kind;
    if (!node->starving)
        return;
    node->starving = 0;
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        for (kind = 0; kind < P2P__KINDS && conn->starved; kind++)
            if (conn->starved >> kind & 1)
                p2p__grant_more(node, conn, kind, true);
    }
}

/* ==== >>stream ====
 * Reliable ordered bytes: rings, what was sent and is not acknowledged, what arrived out of order.
 * Always: the data chunks of a stream cover [acked, sent) in order without gap; every arrived
 *         byte is below `here` or in a run.
 * Covered by tests/unit/test_stream.c, tests/behaviour/cases_stream.h. */

static void p2p__ring_put(uint8_t *ring, uint32_t room, uint64_t at, const uint8_t *data,
                          size_t size) {
    size_t pos = (size_t)(at % room), first = P2P__MIN(size, room - pos);
    P2P_ASSERT(size <= room);
    P2P_MEMCPY(ring + pos, data, first);
    if (size > first)
        P2P_MEMCPY(ring, data + first, size - first);
}

static void p2p__ring_get(const uint8_t *ring, uint32_t room, uint64_t at, uint8_t *out,
                          size_t size) {
    size_t pos = (size_t)(at % room), first = P2P__MIN(size, room - pos);
    P2P_ASSERT(size <= room);
    P2P_MEMCPY(out, ring + pos, first);
    if (size > first)
        P2P_MEMCPY(out + first, ring, size - first);
}

/* Of a session that was lost: there is nothing more to say about it. */
static bool p2p__stream_past(const p2p__stream *s) { return s->recv.base == P2P_NEVER; }

/* ---- who has something to send: a list a priority, and one for control frames */

/* The peer allows a stream of this number. */
static bool p2p__stream_allowed(const p2p__conn *conn, const p2p__stream *s) {
    return s->kind >= P2P__KINDS || !s->local || s->number < conn->made_limit[s->kind];
}

/* A frame about the stream is due; none may name a stream the peer does not know. */
static bool p2p__control_due(const p2p__conn *conn, const p2p__stream *s) {
    return (s->send.want_reset || s->recv.want_stop == 1 || s->recv.want_max) &&
           p2p__stream_allowed(conn, s);
}

static void p2p__send_unlist(p2p_node *node, p2p__stream *s) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    uint16_t index = p2p__stream_index(node, s), *head;
    if (!conn || !s->sending)
        return;
    head = &conn->send_first[s->sending - 1];
    s->sending = 0;
    s->send.turn = 0;
    node->streams[s->send_prev].send_next = s->send_next;
    node->streams[s->send_next].send_prev = s->send_prev;
    if (*head == index)
        *head = s->send_next == index ? (uint16_t)P2P__NIL : s->send_next;
}

static void p2p__send_list(p2p_node *node, p2p__stream *s) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    uint16_t index = p2p__stream_index(node, s), *head;
    uint8_t list;
    if (!conn || p2p__stream_past(s))
        return;
    p2p__wake(node, conn);
    list = p2p__control_due(conn, s) ? P2P__PRIORITIES : s->priority;
    if (s->sending == list + 1)
        return;
    p2p__send_unlist(node, s);
    s->sending = (uint8_t)(list + 1);
    head = &conn->send_first[list];
    if (*head == P2P__NIL) {
        s->send_next = s->send_prev = index;
        *head = index;
        return;
    }
    s->send_next = *head; /* a ring; the new one goes last */
    s->send_prev = node->streams[*head].send_prev;
    node->streams[s->send_prev].send_next = index;
    node->streams[*head].send_prev = index;
}

/* ---- identity on the wire */
static uint64_t p2p__stream_wire_id(const p2p_node *node, const p2p__stream *s, bool sending) {
    const p2p__conn *conn = p2p__stream_conn(node, s);
    const p2p__session *session = p2p__session_at(node, conn->session);
    bool local = p2p__is_messages(s) ? sending : s->local;
    uint64_t initiator = local == (session->server != 0);
    return s->number << 3 | (uint64_t)s->kind << 1 | initiator;
}

P2P__NOINLINE static uint32_t p2p__stream_hash(const p2p_node *node, uint32_t conn, uint32_t kind,
                                               uint64_t number) {
    uint64_t x = (number << 16 ^ (uint64_t)conn << 2 ^ kind) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32) & node->stream_hash_mask;
}

static p2p__stream *p2p__stream_find(const p2p_node *node, uint32_t conn, uint32_t kind, bool local,
                                     uint64_t number) {
    uint16_t at = node->stream_hash[p2p__stream_hash(node, conn, kind, number)];
    while (at != P2P__NIL) {
        p2p__stream *s = &node->streams[at];
        if (s->conn == conn && s->number == number && s->kind == kind && (s->local != 0) == local)
            return s;
        at = s->hash_next;
    }
    return NULL;
}

static void p2p__stream_unhash(p2p_node *node, p2p__stream *s) {
    uint16_t *at = &node->stream_hash[p2p__stream_hash(node, s->conn, s->kind, s->number)];
    while (*at != P2P__NIL && *at != p2p__stream_index(node, s))
        at = &node->streams[*at].hash_next;
    if (*at != P2P__NIL)
        *at = s->hash_next;
}

static p2p__pool *p2p__stream_pool(p2p_node *node, const p2p__stream *s) {
    return s->local ? &node->local_streams : &node->peer_streams;
}

static p2p__stream *p2p__stream_get(const p2p_node *node, p2p_stream handle) {
    p2p__stream *s = (p2p__stream *)p2p__pool_get(&node->local_streams, handle.id);
    return s ? s : (p2p__stream *)p2p__pool_get(&node->peer_streams, handle.id);
}

/* The stream of a handle that a caller gave; also the check of the node itself. */
static int p2p__stream_for(const p2p_node *node, p2p_stream handle, p2p__stream **out) {
    if (!node)
        return P2P_ERR_ARG;
    *out = p2p__stream_get(node, handle);
    return *out ? P2P_OK : p2p__fail(node, P2P_ERR_HANDLE, "stream: stale, or of another node");
}

static p2p_stream p2p__stream_handle(const p2p_node *node, const p2p__stream *s) {
    p2p_stream handle = {0};
    if (!p2p__is_messages(s))
        handle.id = p2p__pool_id(p2p__stream_pool((p2p_node *)(uintptr_t)node, s), s);
    return handle;
}

/* ---- life */

/* Windows and limits once both HELLOs are known. */
static void p2p__stream_limits(p2p__stream *s, const p2p__limits *theirs) {
    uint64_t limit = theirs->stream_ours; /* opened by the peer that sent this HELLO */
    if (p2p__is_messages(s))
        limit = theirs->messages;
    else if (s->local)
        limit = s->kind == P2P__KIND_UNI ? theirs->stream_uni : theirs->stream_theirs;
    s->send.limit = P2P__MAX(s->send.limit, limit);
}

/* Readies a stream taken from its pool: its rings stay, all else begins anew. */
static void p2p__stream_begin(p2p_node *node, p2p__stream *s, p2p__conn *conn, uint32_t kind,
                              uint64_t number) {
    uint16_t index = p2p__stream_index(node, s), *hash;
    p2p__session *session = p2p__session_at(node, conn->session);
    s->kind = (uint8_t)kind;
    s->number = number;
    s->conn = p2p__conn_index(node, conn);
    s->conn_handle.id = p2p__pool_id(&node->conns, conn);
    s->x_deadline_us = P2P_NEVER;
    s->send.chunk_first = s->send.chunk_last = P2P__NIL;
    s->accept_next = s->send_prev = s->send_next = P2P__NIL;
    s->recv.final = P2P_NEVER;
    s->recv.limit = s->recv.window = p2p__window_start(s->recv.room);
    s->recv.granted_us = (uint32_t)node->now_us;
    s->send.state = P2P__SEND_OPEN;
    s->recv.state = P2P__RECV_OPEN;
    if (kind == P2P__KIND_UNI) {
        s->send.state = s->local ? P2P__SEND_OPEN : P2P__SEND_NONE;
        s->recv.state = s->local ? P2P__RECV_NONE : P2P__RECV_OPEN;
    }
    if (session && session->peer_proved)
        p2p__stream_limits(s, &session->theirs);
    conn->peer_streams = (uint16_t)(conn->peer_streams + !s->local);
    s->conn_prev = P2P__NIL;
    s->conn_next = conn->stream_first;
    if (s->conn_next != P2P__NIL)
        node->streams[s->conn_next].conn_prev = index;
    conn->stream_first = index;
    hash = &node->stream_hash[p2p__stream_hash(node, s->conn, kind, number)];
    s->hash_next = *hash;
    *hash = index;
}

/* The memory of a stream's place: its runs, its send ring, its receive ring. */
typedef struct p2p__rooms {
    uint32_t send, recv, runs;
    size_t bytes;
} p2p__rooms;

/* kind: 0 messages, 1 streams opened here, 2 streams of a peer. */
static p2p__rooms p2p__stream_rooms(const p2p_desc *d, uint32_t kind) {
    p2p__rooms m;
    m.send = kind == 0   ? d->bytes.message_send
             : kind == 1 ? d->bytes.stream_send
                         : d->bytes.peer_send;
    m.recv = kind == 0   ? d->bytes.message_recv
             : kind == 1 ? d->bytes.stream_recv
                         : d->bytes.peer_recv;
    m.runs = P2P__MIN(P2P__MAX(m.recv / P2P__RUN_BYTES, P2P__RUNS_MIN), P2P__RUNS_MAX);
    m.bytes = (m.runs * sizeof(p2p__run) + m.send + m.recv + 7u) & ~(size_t)7;
    return m;
}

static void p2p__stream_rings(const p2p_node *node, p2p__stream *s, uint32_t kind, uint32_t index) {
    p2p__rooms m = p2p__stream_rooms(&node->desc, kind);
    uint8_t *at = node->rings[kind] + index * m.bytes;
    s->local = kind != 2;
    s->send.room = m.send;
    s->recv.room = m.recv;
    s->recv.run_room = (uint16_t)m.runs;
    s->recv.run = (p2p__run *)(void *)at;
    s->send.ring = at + m.runs * sizeof(p2p__run);
    s->recv.ring = s->send.ring + m.send;
}

static p2p__stream *p2p__stream_take(p2p_node *node, p2p__pool *pool, bool local) {
    p2p__stream *s = (p2p__stream *)p2p__pool_take(pool);
    if (s)
        p2p__stream_rings(node, s, local ? 1 : 2, p2p__pool_index(pool, s));
    return s;
}

static int p2p__stream_make(p2p_node *node, p2p__conn *conn, uint8_t kind, uint8_t priority,
                            void *user, p2p__stream **out) {
    p2p__stream *s;
    if (conn->state >= P2P__CONN_FLUSHING || node->stopping)
        return p2p__fail(node, P2P_ERR_CLOSED, "conn: closing");
    s = p2p__stream_take(node, &node->local_streams, true);
    if (!s)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "max.streams: all in use",
                              node->local_streams.count + 1u, node->local_streams.count);
    p2p__stream_begin(node, s, conn, kind, conn->made[kind]++);
    s->priority = priority;
    s->user = user;
    s->announced = 1;
    p2p__count(node, P2P_METRIC_streams_opened, 1);
    *out = s;
    return P2P_OK;
}

P2P__NOINLINE static bool p2p__recv_counts(const p2p__recv *r) {
    return r->state == P2P__RECV_OPEN || r->state == P2P__RECV_WHOLE;
}

/* The next size bytes are taken: those of this session go back to the connection's window. */
static void p2p__recv_credit(p2p_node *node, p2p__stream *s, uint64_t size) {
    const p2p__recv *r = &s->recv;
    uint64_t old = r->base > r->read ? P2P__MIN(r->base - r->read, size) : 0;
    p2p__conn_taken(node, p2p__stream_conn(node, s), size - old);
}

/* What arrived and will not be read is given back to the connection's window. */
static void p2p__recv_drop(p2p_node *node, p2p__stream *s, uint32_t state) {
    p2p__recv *r = &s->recv;
    if (p2p__recv_counts(r)) {
        p2p__count(node, P2P_METRIC_stream_bytes_dropped, (size_t)(r->high - r->read));
        p2p__recv_credit(node, s, r->high - r->read);
        r->read = r->here = r->high;
        r->runs = 0;
        r->held = 0;
    }
    r->state = (uint8_t)state;
}

/* ---- chunks: what was sent */
static uint16_t p2p__chunk_take(p2p_node *node, p2p__stream *s, uint32_t what) {
    uint16_t at = node->flight.chunk_free;
    p2p__chunk *c;
    if (at == P2P__NIL)
        return at;
    c = &node->flight.chunks[at];
    node->flight.chunk_free = c->next;
    node->flight.chunks_used++;
    P2P_MEMSET(c, 0, sizeof *c);
    c->stream = p2p__stream_index(node, s);
    c->prev = c->next = c->packet_next = P2P__NIL;
    c->state = P2P__CHUNK_FLYING;
    c->what = (uint8_t)what;
    return at;
}

/* Whether a stream that holds so many records of a sort, data or control, may take another: the
 * last ones are kept for streams that have none and for what was lost, so that no peer that never
 * acknowledges starves the others. */
static bool p2p__chunk_allowed(const p2p_node *node, bool has) {
    const p2p__flight *f = &node->flight;
    uint32_t kept = P2P__MIN(2 * node->stream_total, f->chunk_count / 2);
    return f->chunk_free != P2P__NIL && (!has || f->chunks_used + kept < f->chunk_count);
}

static void p2p__chunk_give(p2p_node *node, uint16_t at) {
    p2p__chunk *c = &node->flight.chunks[at];
    P2P_ASSERT(c->state != P2P__CHUNK_FREE);
    c->state = P2P__CHUNK_FREE;
    c->next = node->flight.chunk_free;
    node->flight.chunk_free = at;
    node->flight.chunks_used--;
}

static void p2p__chunk_append(p2p_node *node, p2p__stream *s, uint16_t at) {
    p2p__chunk *c = &node->flight.chunks[at];
    c->prev = s->send.chunk_last;
    if (c->prev == P2P__NIL)
        s->send.chunk_first = at;
    else
        node->flight.chunks[c->prev].next = at;
    s->send.chunk_last = at;
}

static void p2p__chunk_unlink(p2p_node *node, p2p__stream *s, uint16_t at) {
    p2p__chunk *c = &node->flight.chunks[at];
    if (c->prev == P2P__NIL)
        s->send.chunk_first = c->next;
    else
        node->flight.chunks[c->prev].next = c->next;
    if (c->next == P2P__NIL)
        s->send.chunk_last = c->prev;
    else
        node->flight.chunks[c->next].prev = c->prev;
    c->prev = c->next = P2P__NIL;
}

/* The stream's sent bytes are nobody's any more: those in packets are left as orphans. */
static void p2p__chunks_abandon(p2p_node *node, p2p__stream *s) {
    uint16_t at = s->send.chunk_first, next;
    for (; at != P2P__NIL; at = next) {
        p2p__chunk *c = &node->flight.chunks[at];
        next = c->next;
        if (c->state == P2P__CHUNK_FLYING) {
            c->stream = P2P__NIL;
            c->prev = c->next = P2P__NIL;
        } else {
            p2p__chunk_give(node, at);
        }
    }
    s->send.chunk_first = s->send.chunk_last = P2P__NIL;
    s->send.lost = 0;
}

/* ---- end of a stream */
static void p2p__stream_unlink(p2p_node *node, p2p__stream *s) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    if (!conn)
        return;
    p2p__send_unlist(node, s);
    if (s->accepting) {
        uint16_t *at = &conn->stream_accept_first, last = P2P__NIL;
        while (*at != P2P__NIL && *at != p2p__stream_index(node, s)) {
            last = *at;
            at = &node->streams[*at].accept_next;
        }
        *at = s->accept_next;
        if (conn->stream_accept_last == p2p__stream_index(node, s))
            conn->stream_accept_last = last;
        s->accepting = 0;
    }
    p2p__stream_unhash(node, s);
    if (s->conn_prev == P2P__NIL)
        conn->stream_first = s->conn_next;
    else
        node->streams[s->conn_prev].conn_next = s->conn_next;
    if (s->conn_next != P2P__NIL)
        node->streams[s->conn_next].conn_prev = s->conn_prev;
    conn->peer_streams = (uint16_t)(conn->peer_streams - !s->local);
    node->spent |= conn->given;
    s->conn = P2P__NIL;
}

/* Control chunks in packets may still name the stream; a freed place must not get their news. */
static void p2p__chunks_orphan(p2p_node *node, const p2p__stream *s) {
    uint32_t i, left = s->send.controls;
    uint16_t index = p2p__stream_index(node, s);
    for (i = 0; i < node->flight.chunk_count && left > 0; i++)
        if (node->flight.chunks[i].state != P2P__CHUNK_FREE &&
            node->flight.chunks[i].stream == index) {
            node->flight.chunks[i].stream = P2P__NIL;
            left--;
        }
}

static void p2p__stream_free(p2p_node *node, p2p__stream *s) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    uint32_t kind = s->kind;
    bool local = s->local;
    p2p__recv_drop(node, s, P2P__RECV_DONE);
    p2p__chunks_abandon(node, s);
    p2p__chunks_orphan(node, s);
    p2p__ready_clear(node, p2p__stream_ref(node, s), 0xffff);
    p2p__stream_unlink(node, s);
    p2p__pool_give(p2p__stream_pool(node, s), s);
    if (local)
        return;
    node->granted--;
    p2p__grant_starved(node); /* whoever waits comes first, then more of the same */
    if (conn && conn->attached)
        p2p__grant_more(node, conn, kind, false);
}

static bool p2p__stream_over(const p2p__stream *s) {
    return (s->send.state == P2P__SEND_DONE || s->send.state == P2P__SEND_NONE) &&
           (s->recv.state == P2P__RECV_DONE || s->recv.state == P2P__RECV_NONE) &&
           !s->recv.want_stop; /* the final size is due: the connection's window needs it */
}

/* Both halves are done: CLOSED is told, and with it the place is free. */
static void p2p__stream_settle(p2p_node *node, p2p__stream *s) {
    if (p2p__is_messages(s) || !p2p__stream_over(s))
        return;
    p2p__send_unlist(node, s);
    if (s->kind == P2P__KIND_REQUEST)
        p2p__router_closed(node, s);
    p2p__raise(node, s, P2P__EV_CLOSED);
}

/* ---- sending */
static uint32_t p2p__send_used(const p2p__send *w) {
    uint64_t from = w->acked - w->kept, used = w->end - from;
    if (P2P__MESSAGES && w->lent) {
        uint64_t low = P2P__MAX(from, w->lent_at),
                 high = P2P__MIN(w->end, w->lent_at + w->lent_size);
        used -= high > low ? high - low : 0;
    }
    P2P_ASSERT(used <= w->room);
    return (uint32_t)used;
}

static size_t p2p__send_room(const p2p__stream *s) {
    return s->send.room - p2p__send_used(&s->send);
}

P2P__OPTIONAL static size_t p2p__send_size(const p2p__stream *s) { return s->send.room; }
P2P__NOINLINE static uint64_t p2p__send_place(const p2p__send *w, uint64_t offset) {
    return offset - w->shift -
           (P2P__MESSAGES && w->lent && offset >= w->lent_at + w->lent_size ? w->lent_size : 0);
}

/* Copies accepted bytes into a packet, from the ring or from memory the caller lent. */
static void p2p__send_copy(const p2p__send *w, uint64_t offset, uint8_t *out, size_t size) {
    while (size > 0) {
        size_t n = size;
        if (P2P__MESSAGES && w->lent && offset >= w->lent_at &&
            offset < w->lent_at + w->lent_size) {
            n = (size_t)P2P__MIN((uint64_t)n, w->lent_at + w->lent_size - offset);
            P2P_MEMCPY(out, w->lent + (size_t)(offset - w->lent_at), n);
        } else {
            if (w->lent && offset < w->lent_at)
                n = (size_t)P2P__MIN((uint64_t)n, w->lent_at - offset);
            p2p__ring_get(w->ring, w->room, p2p__send_place(w, offset), out, n);
        }
        offset += n;
        out += n;
        size -= n;
    }
}

/* The length prefix of a message: its bytes and, in *size, the length; 0 when it is cut short. */
static size_t p2p__message_peek(const uint8_t *bytes, size_t have, uint64_t *size) {
    p2p__reader r = p2p__reader_of(bytes, have);
    if (have == 0 || have < (size_t)1 << (bytes[0] >> 6))
        return 0;
    *size = p2p__get_varint(&r);
    if (r.bad) /* not canonical */
        *size = P2P_NEVER;
    return (size_t)1 << (bytes[0] >> 6);
}

/* Messages queued from an offset where one begins: the end of the last that ends by `until`, and
 * in *count how many they are. */
static uint64_t p2p__messages_end(const p2p__send *w, uint64_t from, uint64_t until,
                                  uint32_t *count) {
    for (*count = 0; from < until; ++*count) {
        uint8_t bytes[P2P__MESSAGE_OVER];
        size_t n = (size_t)P2P__MIN(until - from, (uint64_t)sizeof bytes);
        uint64_t size;
        p2p__send_copy(w, from, bytes, n);
        n = p2p__message_peek(bytes, n, &size);
        if (n == 0 || size > until - from - n)
            break;
        from += n + size;
    }
    return from;
}

static void p2p__send_accept(p2p_node *node, p2p__stream *s, size_t size) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    s->send.end += size;
    if (conn)
        conn->bytes_sent += size;
    p2p__send_list(node, s);
}

static int p2p__send_put(p2p_node *node, p2p__stream *s, const void *data, size_t size) {
    P2P_ASSERT(s->send.state == P2P__SEND_OPEN);
    if (size > p2p__send_room(s)) {
        s->send.want_writable = 1;
        return P2P_ERR_AGAIN;
    }
    if (size == 0)
        return 0;
    p2p__ring_put(s->send.ring, s->send.room, p2p__send_place(&s->send, s->send.end),
                  (const uint8_t *)data, size);
    p2p__send_accept(node, s, size);
    return (int)size;
}

static void p2p__send_finish(p2p_node *node, p2p__stream *s) {
    if (s->send.state != P2P__SEND_OPEN)
        return;
    s->send.state = P2P__SEND_FINISHING;
    s->send.want_writable = 0;
    p2p__ready_clear(node, p2p__stream_ref(node, s), P2P__EV_WRITABLE);
    p2p__send_list(node, s);
}

static void p2p__send_reset(p2p_node *node, p2p__stream *s, uint32_t code) {
    p2p__send *w = &s->send;
    if (w->state != P2P__SEND_OPEN && w->state != P2P__SEND_FINISHING)
        return;
    p2p__chunks_abandon(node, s);
    w->state = P2P__SEND_RESETTING;
    w->end = w->acked = w->sent; /* what was never sent is forgotten; the size said is what was */
    w->code = code;
    w->want_reset = 1;
    w->want_writable = 0;
    p2p__ready_clear(node, p2p__stream_ref(node, s), P2P__EV_WRITABLE);
    p2p__count(node, P2P_METRIC_streams_reset_sent, 1);
    p2p__send_list(node, s);
}

static void p2p__recv_stop(p2p_node *node, p2p__stream *s, uint32_t code) {
    p2p__recv *r = &s->recv;
    if (!p2p__recv_counts(r))
        return;
    if (r->state == P2P__RECV_OPEN) {
        r->code = code;
        r->want_stop = 1;
        p2p__send_list(node, s);
    }
    p2p__recv_drop(node, s, P2P__RECV_DONE);
    p2p__ready_clear(node, p2p__stream_ref(node, s), P2P__EV_READABLE);
    p2p__stream_settle(node, s);
}

static void p2p__stream_abort(p2p_node *node, p2p__stream *s, uint32_t code) {
    p2p__send_reset(node, s, code);
    p2p__recv_stop(node, s, code);
    p2p__stream_settle(node, s);
}

/* A connection moves to another session before anything of it was acknowledged: all is to be
 * sent again. */
static void p2p__send_rewind(p2p_node *node, p2p__stream *s) {
    p2p__chunks_abandon(node, s);
    if (s->send.state == P2P__SEND_RESETTING)
        s->send.end = s->send.acked = 0; /* of what was sent before, the new session knows none */
    s->send.sent = s->send.acked;
    s->send.fin_sent = 0;
    s->send.limit = s->send.blocked = 0;
    s->recv.want_stop = s->recv.want_stop != 0;
    p2p__send_list(node, s);
}

/* ---- putting frames of a stream into a packet */
typedef struct p2p__build { /* a packet being made */
    p2p_node *node;
    p2p__session *session;
    p2p__conn *conn;
    p2p__writer w;
    uint16_t chunks; /* list for the packet's record */
    uint32_t control;
    uint32_t most; /* bytes of the largest packet that may be sent now */
    uint32_t turn; /* bytes of a stream that end its turn */
    uint8_t eliciting;
    uint8_t *tail_type; /* STREAM frame that ends the packet so far: its length can be left out */
    uint8_t *tail_length, *tail_end;
} p2p__build;

static void p2p__build_chunk(p2p__build *b, uint16_t at) {
    b->node->flight.chunks[at].packet_next = b->chunks;
    b->chunks = at;
    b->eliciting = 1;
}

/* One STREAM frame with as much of [offset, offset + size) as fits; bytes written, or -1 when
 * not even its head does. */
static int p2p__put_stream(p2p__build *b, p2p__stream *s, uint64_t offset, uint32_t size,
                           bool fin) {
    uint64_t id = p2p__stream_wire_id(b->node, s, true);
    size_t left = (size_t)(b->w.end - b->w.at);
    size_t head = 1u + p2p__varint_size(id) + (offset ? p2p__varint_size(offset) : 0u);
    uint8_t *start = b->w.at;
    uint32_t n;
    if (left < head + 1 + (size > 0))
        return -1;
    n = (uint32_t)P2P__MIN((size_t)size, left - head);
    if (n == left - head) { /* runs to the end of the packet */
        p2p__put_stream_head(&b->w, id, offset, UINT64_MAX, fin && n == size);
        b->tail_type = NULL;
    } else {
        n = (uint32_t)P2P__MIN((size_t)n, left - head - p2p__varint_size(n));
        p2p__put_stream_head(&b->w, id, offset, n, fin && n == size);
        b->tail_type = start;
        b->tail_length = start + head;
    }
    P2P_ASSERT(!b->w.bad);
    p2p__send_copy(&s->send, offset, b->w.at, n);
    b->w.at += n;
    b->tail_end = b->w.at;
    return (int)n;
}

static bool p2p__emit_lost(p2p__build *b, p2p__stream *s) {
    p2p_node *node = b->node;
    uint16_t at = s->send.chunk_first, rest;
    p2p__chunk *c;
    int n;
    while (at != P2P__NIL && node->flight.chunks[at].state != P2P__CHUNK_LOST)
        at = node->flight.chunks[at].next;
    P2P_ASSERT(at != P2P__NIL);
    c = &node->flight.chunks[at];
    if (node->flight.chunk_free == P2P__NIL && (size_t)(b->w.end - b->w.at) < c->size + 24u)
        return false; /* it would have to be cut in two */
    n = p2p__put_stream(b, s, c->offset, c->size, c->fin);
    if (n < 0)
        return false;
    if ((uint32_t)n < c->size) { /* the rest stays lost, in a chunk of its own */
        p2p__chunk *r;
        rest = p2p__chunk_take(node, s, P2P__CHUNK_DATA);
        P2P_ASSERT(rest != P2P__NIL);
        r = &node->flight.chunks[rest];
        r->offset = c->offset + (uint32_t)n;
        r->size = c->size - (uint32_t)n;
        r->fin = c->fin;
        r->state = P2P__CHUNK_LOST;
        c->size = (uint32_t)n;
        c->fin = 0;
        r->prev = at;
        r->next = c->next;
        if (c->next == P2P__NIL)
            s->send.chunk_last = rest;
        else
            node->flight.chunks[c->next].prev = rest;
        c->next = rest;
    } else {
        s->send.lost--;
    }
    c->state = P2P__CHUNK_FLYING;
    p2p__build_chunk(b, at);
    return true;
}

/* Bytes of a stream that may go out for the first time now. */
static uint64_t p2p__send_fresh(const p2p__conn *conn, const p2p__stream *s) {
    const p2p__send *w = &s->send;
    uint64_t high = P2P__MIN(w->end, w->limit), credit = conn->send_limit - conn->send_total;
    if (!p2p__stream_allowed(conn, s))
        return 0;
    return high > w->sent ? P2P__MIN(high - w->sent, credit) : 0;
}

static bool p2p__send_fin_due(const p2p__conn *conn, const p2p__stream *s) {
    return s->send.state == P2P__SEND_FINISHING && !s->send.fin_sent &&
           s->send.sent == s->send.end && p2p__stream_allowed(conn, s);
}

static bool p2p__emit_fresh(p2p__build *b, p2p__stream *s) {
    p2p__send *w = &s->send;
    uint64_t fresh = p2p__send_fresh(b->conn, s);
    bool last = w->state == P2P__SEND_FINISHING && w->sent + fresh == w->end;
    uint16_t at;
    p2p__chunk *c;
    int n;
    if (fresh == 0 && !p2p__send_fin_due(b->conn, s))
        return false;
    if (!p2p__chunk_allowed(b->node, s->send.chunk_first != P2P__NIL))
        return false;
    n = p2p__put_stream(b, s, w->sent, (uint32_t)P2P__MIN(fresh, (uint64_t)0xffff),
                        last && fresh <= 0xffff);
    if (n < 0 || (n == 0 && fresh > 0))
        return false;
    at = p2p__chunk_take(b->node, s, P2P__CHUNK_DATA);
    c = &b->node->flight.chunks[at];
    c->offset = w->sent;
    c->size = (uint32_t)n;
    c->fin = last && (uint64_t)n == fresh;
    w->fin_sent |= c->fin;
    w->sent += (uint32_t)n;
    b->conn->send_total += (uint32_t)n;
    p2p__chunk_append(b->node, s, at);
    p2p__build_chunk(b, at);
    return true;
}

/* A control frame of a stream: its record tells when to say it again. */
static bool p2p__emit_control(p2p__build *b, p2p__stream *s, uint32_t what, uint32_t type,
                              uint32_t count, const uint64_t *values) {
    uint16_t at;
    uint8_t *start = b->w.at;
    if (!p2p__chunk_allowed(b->node, s->send.controls > 0))
        return false;
    p2p__put_frame(&b->w, type, count, values);
    if (b->w.bad) {
        b->w.bad = 0;
        b->w.at = start;
        return false;
    }
    at = p2p__chunk_take(b->node, s, what);
    b->node->flight.chunks[at].offset = values[1];
    s->send.controls++;
    p2p__build_chunk(b, at);
    return true;
}

/* What is due of a stream; false: the packet, or the pool of records, is full. */
static bool p2p__emit_stream_control(p2p__build *b, p2p__stream *s) {
    uint64_t v[3];
    if (s->send.want_reset) {
        v[0] = p2p__stream_wire_id(b->node, s, true), v[1] = s->send.code, v[2] = s->send.end;
        if (!p2p__emit_control(b, s, P2P__CHUNK_RESET, P2P__FRAME_RESET_STREAM, 3, v))
            return false;
        s->send.want_reset = 0;
    }
    v[0] = p2p__stream_wire_id(b->node, s, false);
    if (s->recv.want_stop == 1) {
        v[1] = s->recv.code;
        if (!p2p__emit_control(b, s, P2P__CHUNK_STOP, P2P__FRAME_STOP_SENDING, 2, v))
            return false;
        s->recv.want_stop = 2;
    }
    if (s->recv.want_max) {
        v[1] = s->recv.limit - s->recv.base;
        if (!p2p__emit_control(b, s, P2P__CHUNK_MAX, P2P__FRAME_MAX_STREAM_DATA, 2, v))
            return false;
        s->recv.want_max = 0;
    }
    return true;
}

/* The limit of its own that holds back bytes of a stream, plus 1; 0: none does. */
static uint64_t p2p__send_held(const p2p__stream *s) {
    const p2p__send *w = &s->send;
    return w->sent == w->limit && w->end > w->sent ? w->limit + 1 : 0;
}

static bool p2p__blocked_due(const p2p__conn *conn, const p2p__stream *s) {
    uint64_t held = p2p__send_held(s);
    return held && s->send.blocked != held && p2p__stream_allowed(conn, s);
}

/* A limit of the peer's keeps bytes back: say so, once a limit. A stream that it does not allow
 * yet asks for more streams; one with credit of its own, for more of the connection's. */
static void p2p__emit_blocked(p2p__build *b, p2p__stream *s) {
    p2p__conn *conn = b->conn;
    uint64_t v[2];
    if (!p2p__stream_allowed(conn, s)) {
        if (s->send.blocked != conn->made_limit[s->kind] + P2P__OFFSET_MAX)
            b->session->control |= (uint32_t)P2P__CONTROL_STREAMS_BLOCKED << s->kind;
        s->send.blocked = conn->made_limit[s->kind] + P2P__OFFSET_MAX;
    } else if (p2p__blocked_due(conn, s)) {
        v[0] = p2p__stream_wire_id(b->node, s, true), v[1] = s->send.limit;
        if (p2p__emit_control(b, s, P2P__CHUNK_BLOCKED, P2P__FRAME_STREAM_DATA_BLOCKED, 2, v))
            s->send.blocked = s->send.limit + 1;
    } else if (s->send.end > s->send.sent && conn->send_total == conn->send_limit &&
               !p2p__send_held(s) && conn->blocked != conn->send_limit + 1) {
        conn->blocked = conn->send_limit + 1;
        b->session->control |= P2P__CONTROL_BLOCKED;
    }
}

/* Everything of this stream that fits; true when it wrote something. */
static bool p2p__emit_stream(p2p__build *b, p2p__stream *s) {
    const uint8_t *start = b->w.at;
    while (s->send.lost > 0 && p2p__emit_lost(b, s))
        continue;
    if (s->send.lost == 0)
        (void)p2p__emit_fresh(b, s);
    p2p__emit_blocked(b, s);
    s->send.turn += (uint32_t)(b->w.at - start);
    return b->w.at > start;
}

static bool p2p__stream_has_work(const p2p__conn *conn, const p2p__stream *s) {
    return s->send.lost > 0 || p2p__send_fresh(conn, s) > 0 || p2p__send_fin_due(conn, s) ||
           p2p__blocked_due(conn, s) || p2p__control_due(conn, s);
}

/* Control frames of streams: before anything else, or bulk of one priority would hold back the
 * window of another. */
static void p2p__emit_stream_controls(p2p__build *b) {
    uint16_t *head = &b->conn->send_first[P2P__PRIORITIES];
    while (*head != P2P__NIL) {
        p2p__stream *s = &b->node->streams[*head];
        if (!p2p__emit_stream_control(b, s))
            return;
        p2p__send_unlist(b->node, s);
        if (p2p__stream_has_work(b->conn, s))
            p2p__send_list(b->node, s);
    }
}

/* Streams of one priority in turn, each for about a packet of bytes: what a datagram or an ACK
 * left of a packet is no whole turn. */
static void p2p__emit_level(p2p__build *b, uint16_t *head) {
    uint16_t stop = P2P__NIL; /* the first that could not write: once round */
    while (*head != P2P__NIL && *head != stop && (size_t)(b->w.end - b->w.at) > 4) {
        p2p__stream *s = &b->node->streams[*head];
        bool wrote = p2p__emit_stream(b, s);
        if (!p2p__stream_has_work(b->conn, s)) {
            p2p__send_unlist(b->node, s);
            stop = P2P__NIL;
            continue;
        }
        if (wrote && s->send.turn < b->turn)
            return; /* the packet is full, and the next goes on from here */
        if (!wrote && stop == P2P__NIL)
            stop = *head;
        s->send.turn = 0;
        *head = s->send_next;
    }
}

static void p2p__emit_streams(p2p__build *b) {
    uint32_t p;
    for (p = 0; p < P2P__PRIORITIES; p++)
        p2p__emit_level(b, &b->conn->send_first[p]);
}

/* ---- acknowledged and lost */

/* Memory that was lent is the caller's again once all of it is acknowledged. */
static void p2p__send_unlend(p2p__send *w) {
    if (!w->lent || w->acked < w->lent_at + w->lent_size)
        return;
    w->shift += w->lent_size;
    w->lent = NULL;
}

static void p2p__send_advance(p2p_node *node, p2p__stream *s) {
    p2p__send *w = &s->send;
    p2p__conn *conn = p2p__stream_conn(node, s);
    uint64_t from = w->acked - w->kept;
    uint32_t count;
    uint16_t at;
    bool fin = false;
    while ((at = w->chunk_first) != P2P__NIL && node->flight.chunks[at].state == P2P__CHUNK_ACKED) {
        P2P_ASSERT(node->flight.chunks[at].offset == w->acked);
        w->acked += node->flight.chunks[at].size;
        fin |= node->flight.chunks[at].fin != 0;
        p2p__chunk_unlink(node, s, at);
        p2p__chunk_give(node, at);
    }
    if (p2p__is_messages(s) && P2P__RETURNS && conn && conn->reconnect)
        w->kept = (uint32_t)(w->acked - p2p__messages_end(w, from, w->acked, &count));
    p2p__send_unlend(w);
    if (fin && w->state == P2P__SEND_FINISHING) {
        w->state = P2P__SEND_DONE;
        p2p__stream_settle(node, s);
    }
}

static void p2p__send_acked(p2p_node *node, p2p__stream *s) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    p2p__send_advance(node, s);
    if (conn)
        conn->confirmed = 1;
    if (p2p__is_messages(s) && conn) {
        if (conn->sent_pending && s->send.acked >= conn->sent_at)
            p2p__raise_conn(node, conn, P2P__EV_SENT);
        if (conn->want_writable && p2p__send_room(s) > 0 && (conn->want_writable = 0, true))
            p2p__raise_conn(node, conn, P2P__EV_WRITABLE);
        return;
    }
    if (s->send.want_writable && s->send.state == P2P__SEND_OPEN && p2p__send_room(s) > 0) {
        s->send.want_writable = 0;
        p2p__raise(node, s, P2P__EV_WRITABLE);
    }
}

/* Neighbours that are both acknowledged become one, so what waits behind a hole takes one chunk
 * a hole. */
static void p2p__chunk_merge(p2p_node *node, p2p__stream *s, uint16_t at) {
    p2p__chunk *chunks = node->flight.chunks;
    uint16_t next = chunks[at].next, prev = chunks[at].prev;
    if (next != P2P__NIL && chunks[next].state == P2P__CHUNK_ACKED &&
        chunks[at].size <= UINT32_MAX - chunks[next].size) {
        chunks[at].size += chunks[next].size;
        chunks[at].fin |= chunks[next].fin;
        p2p__chunk_unlink(node, s, next);
        p2p__chunk_give(node, next);
    }
    if (prev != P2P__NIL && chunks[prev].state == P2P__CHUNK_ACKED &&
        chunks[prev].size <= UINT32_MAX - chunks[at].size) {
        chunks[prev].size += chunks[at].size;
        chunks[prev].fin |= chunks[at].fin;
        p2p__chunk_unlink(node, s, at);
        p2p__chunk_give(node, at);
    }
}

static void p2p__chunk_acked(p2p_node *node, uint16_t at) {
    p2p__chunk *c = &node->flight.chunks[at];
    p2p__stream *s = p2p__stream_at(node, c->stream);
    if (!s || c->what != P2P__CHUNK_DATA) {
        bool reset = s && c->what == P2P__CHUNK_RESET && s->send.state == P2P__SEND_RESETTING;
        if (s)
            s->send.controls--;
        if (s && c->what == P2P__CHUNK_STOP)
            s->recv.want_stop = s->recv.final == P2P_NEVER ? 3 : 0;
        p2p__chunk_give(node, at);
        if (reset)
            s->send.state = P2P__SEND_DONE;
        if (s)
            p2p__stream_settle(node, s);
        return;
    }
    c->state = P2P__CHUNK_ACKED;
    p2p__chunk_merge(node, s, at);
    p2p__send_acked(node, s);
}

static void p2p__chunk_lost(p2p_node *node, uint16_t at) {
    p2p__chunk *c = &node->flight.chunks[at];
    p2p__stream *s = p2p__stream_at(node, c->stream);
    if (s && c->what == P2P__CHUNK_DATA) {
        c->state = P2P__CHUNK_LOST;
        s->send.lost++;
        p2p__send_list(node, s);
        return;
    }
    if (s)
        s->send.controls--;
    if (s && c->what == P2P__CHUNK_RESET && s->send.state == P2P__SEND_RESETTING)
        s->send.want_reset = 1;
    if (s && c->what == P2P__CHUNK_STOP)
        s->recv.want_stop = s->recv.final == P2P_NEVER;
    if (s && c->what == P2P__CHUNK_MAX && s->recv.state == P2P__RECV_OPEN &&
        c->offset + s->recv.base == s->recv.limit)
        s->recv.want_max = 1;
    if (s && c->what == P2P__CHUNK_BLOCKED && c->offset == s->send.limit)
        s->send.blocked = 0; /* said again, if it still is */
    p2p__chunk_give(node, at);
    if (s) {
        p2p__send_list(node, s);
        p2p__stream_settle(node, s);
    }
}

/* ---- receiving */
static size_t p2p__recv_have(const p2p__stream *s) {
    const p2p__recv *r = &s->recv;
    uint64_t have = r->here - r->read;
    size_t to_end = r->room - (size_t)(r->read % r->room);
    return (size_t)P2P__MIN(have, (uint64_t)to_end);
}

P2P__NOINLINE static const uint8_t *p2p__recv_at(const p2p__stream *s) {
    return s->recv.ring + (size_t)(s->recv.read % s->recv.room);
}

P2P__OPTIONAL static size_t p2p__recv_room(const p2p__stream *s) { return s->recv.room; }
P2P__OPTIONAL static bool p2p__recv_whole(const p2p__stream *s) {
    return s->recv.state == P2P__RECV_WHOLE;
}
P2P__OPTIONAL static bool p2p__recv_reset(const p2p__stream *s) { return s->err == P2P_ERR_RESET; }
/* The peer's window doubles, up to the ring, whenever it has used up half of it or says that it
 * waits: the ring is there in any case, and who waits for all of a large message must not wait for
 * the window as well. A fast reader over a long way never leaves half of it used up: there it is
 * the peer that knows. */
static void p2p__recv_grow(p2p_node *node, p2p__conn *conn, p2p__recv *r, bool waits) {
    uint32_t more = P2P__MIN(r->window, r->room - r->window);
    if (more == 0 || (!waits && r->limit - r->high > r->window / 2))
        return;
    r->window += more;
    conn->recv_window += more;
    p2p__conn_grant(node, conn, 1);
}

static uint64_t p2p__recv_next_limit(const p2p__recv *r) {
    return P2P__MIN(r->read - r->held + r->window, P2P__OFFSET_MAX);
}

/* Lets the peer send more, if that is at least so much. Updates less than half a round trip apart
 * say that the reader keeps up and the window is what holds the peer back: a quarter of it went by
 * since the last. */
static void p2p__recv_grant(p2p_node *node, p2p__stream *s, uint32_t least) {
    p2p__recv *r = &s->recv;
    p2p__conn *conn = p2p__stream_conn(node, s);
    const p2p__session *session;
    if (r->state != P2P__RECV_OPEN || r->final != P2P_NEVER ||
        p2p__recv_next_limit(r) < r->limit + least)
        return;
    session = p2p__session_at(node, conn->session);
    if (session && (uint32_t)node->now_us - r->granted_us < session->rtt.smoothed_us / 2)
        p2p__recv_grow(node, conn, r, true);
    r->granted_us = (uint32_t)node->now_us;
    r->limit = p2p__recv_next_limit(r);
    r->starved = 0;
    r->want_max = 1;
    p2p__send_list(node, s);
}

/* Updates come a quarter of a window apart, so that they are few; an eighth, when the peer waits
 * for one: the application may be waiting too, for all of something large. */
static void p2p__recv_window(p2p_node *node, p2p__stream *s) {
    p2p__recv_grant(node, s, s->recv.window / (s->recv.starved ? 8 : 4));
}

/* STREAM_DATA_BLOCKED. At a limit that is no longer: the news of the next one was lost. */
static void p2p__starved_input(p2p_node *node, p2p__stream *s, uint64_t limit) {
    p2p__recv *r = &s->recv;
    if (r->state != P2P__RECV_OPEN || r->final != P2P_NEVER)
        return;
    r->starved = 1;
    if (limit < r->limit) {
        r->want_max = 1;
        p2p__send_list(node, s);
    }
    p2p__recv_grow(node, p2p__stream_conn(node, s), r, true);
    p2p__recv_window(node, s);
}

static void p2p__recv_take(p2p_node *node, p2p__stream *s, size_t size) {
    p2p__recv *r = &s->recv;
    P2P_ASSERT(size <= r->here - r->read);
    p2p__recv_credit(node, s, size);
    r->read += size;
    p2p__recv_window(node, s);
}

P2P__OPTIONAL static void p2p__recv_hold(p2p_node *node, p2p__stream *s, size_t size) {
    p2p__recv *r = &s->recv;
    P2P_ASSERT(size <= r->here - r->read);
    p2p__recv_credit(node, s, size);
    r->read += size;
    r->held += (uint32_t)size;
}

P2P__OPTIONAL static void p2p__recv_release(p2p_node *node, p2p__stream *s) {
    s->recv.held = 0;
    p2p__recv_window(node, s);
}

/* The application has read to the end. */
static void p2p__recv_ended(p2p_node *node, p2p__stream *s) {
    if (s->recv.state == P2P__RECV_WHOLE && s->recv.read == s->recv.final) {
        s->recv.state = P2P__RECV_DONE;
        p2p__stream_settle(node, s);
    }
}

static uint64_t p2p__run_at(const p2p__recv *r, uint32_t low) {
    return r->here + (uint32_t)(low - (uint32_t)r->here);
}

/* The first run that does not end before this offset. */
static uint32_t p2p__run_find(const p2p__recv *r, uint64_t offset) {
    uint32_t low = 0, high = r->runs;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (p2p__run_at(r, r->run[mid].end) < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Whether bytes at this offset can be remembered: in order, or in one of the runs there is room
 * for. */
static bool p2p__recv_fits(const p2p__recv *r, uint64_t offset, size_t size) {
    uint32_t i;
    if (offset <= r->here || r->runs < r->run_room || size == 0)
        return true;
    i = p2p__run_find(r, offset);
    return i < r->runs && offset + size >= p2p__run_at(r, r->run[i].first);
}

/* Notes [first, end) as arrived and moves `here` over what is now without gap. */
static void p2p__recv_note(p2p__recv *r, uint64_t first, uint64_t end) {
    uint32_t i = p2p__run_find(r, first), j, left;
    for (j = i; j < r->runs && p2p__run_at(r, r->run[j].first) <= end; j++) {
        first = P2P__MIN(first, p2p__run_at(r, r->run[j].first));
        end = P2P__MAX(end, p2p__run_at(r, r->run[j].end));
    }
    left = r->runs - j;
    if (first <= r->here) { /* i is 0 here: runs lie above */
        r->here = P2P__MAX(r->here, end);
        P2P_MEMMOVE(&r->run[0], &r->run[j], left * sizeof r->run[0]);
        r->runs = (uint16_t)left;
        return;
    }
    P2P_ASSERT(j > i || r->runs < r->run_room);
    P2P_MEMMOVE(&r->run[i + 1], &r->run[j], left * sizeof r->run[0]);
    r->run[i].first = (uint32_t)first;
    r->run[i].end = (uint32_t)end;
    r->runs = (uint16_t)(i + 1 + left);
}

/* Limits first: 0, or the transport code to close with. */
static uint32_t p2p__recv_check(const p2p__conn *conn, const p2p__recv *r, uint64_t high,
                                bool fin) {
    if (r->final != P2P_NEVER && (high > r->final || (fin && high != r->final)))
        return P2P__CODE_FLOW_CONTROL;
    if (fin && high < r->high)
        return P2P__CODE_FLOW_CONTROL;
    if (high > r->limit || (high > r->high && high - r->high > conn->recv_limit - conn->recv_total))
        return P2P__CODE_FLOW_CONTROL;
    return 0;
}

static void p2p__recv_news(p2p_node *node, p2p__stream *s) {
    if (s->kind == P2P__KIND_REQUEST)
        p2p__router_readable(node, s);
    else
        p2p__raise(node, s, P2P__EV_READABLE);
}

/* The size of the whole is known: a half that was stopped ends with it. */
static void p2p__recv_finals(p2p_node *node, p2p__stream *s, uint64_t size) {
    s->recv.final = size;
    if (!s->recv.want_stop)
        return;
    s->recv.want_stop = 0;
    p2p__stream_settle(node, s);
}

/* Takes stream bytes off a packet: 1 taken, 0 no place for another hole (the packet must not be
 * acknowledged), -1 the connection was closed. */
static int p2p__recv_input(p2p_node *node, p2p__conn *conn, p2p__stream *s, const p2p__frame *f) {
    p2p__recv *r = &s->recv;
    uint64_t first = r->base + f->offset, high = first + f->data.size, was = r->here;
    const uint8_t *data = f->data.data;
    uint32_t code = p2p__recv_check(conn, r, high, f->fin != 0);
    if (p2p__is_messages(s) && f->fin) {
        p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL, P2P__SAY("the messages stream was ended"));
        return -1;
    }
    if (code) {
        p2p__conn_fault(node, conn, code, P2P__SAY("stream bytes beyond the limit"));
        return -1;
    }
    if (p2p__recv_counts(r) && (!p2p__recv_fits(r, first, f->data.size) ||
                                high > r->read - r->held + r->room)) { /* see p2p__conn_attach */
        p2p__count(node, P2P_METRIC_holes_full, 1);
        return 0;
    }
    if (high > r->high) {
        conn->recv_total += high - r->high;
        if (!p2p__recv_counts(r))
            p2p__conn_taken(node, conn, high - r->high);
        r->high = high;
    }
    if (f->fin)
        p2p__recv_finals(node, s, high);
    if (r->state != P2P__RECV_OPEN)
        return 1;
    p2p__recv_grow(node, conn, r, false);
    if (first < r->here && high > r->here) { /* the part that is new */
        data += r->here - first;
        first = r->here;
    }
    if (high > first && first >= r->here) {
        p2p__ring_put(r->ring, r->room, first, data, (size_t)(high - first));
        p2p__recv_note(r, first, high);
    }
    conn->bytes_received += r->here - was;
    if (r->here == r->final)
        r->state = P2P__RECV_WHOLE;
    p2p__recv_window(node, s);
    if (r->here > was || r->state == P2P__RECV_WHOLE)
        p2p__recv_news(node, s);
    return 1;
}

static void p2p__reset_input(p2p_node *node, p2p__conn *conn, p2p__stream *s, const p2p__frame *f) {
    p2p__recv *r = &s->recv;
    uint32_t code = p2p__recv_check(conn, r, f->value, true);
    if (code) {
        p2p__conn_fault(node, conn, code, P2P__SAY("a wrong final size"));
        return;
    }
    if (f->value > r->high) {
        conn->recv_total += f->value - r->high;
        if (!p2p__recv_counts(r))
            p2p__conn_taken(node, conn, f->value - r->high);
        r->high = f->value;
    }
    p2p__recv_finals(node, s, f->value);
    if (r->state != P2P__RECV_OPEN)
        return; /* all had arrived, or nobody reads: a late reset changes nothing */
    p2p__count(node, P2P_METRIC_streams_reset_received, 1);
    p2p__recv_drop(node, s, P2P__RECV_DONE);
    r->code = (uint32_t)P2P__MIN(f->code, (uint64_t)UINT32_MAX);
    s->err = P2P_ERR_RESET;
    p2p__send_reset(node, s, r->code); /* reset is of both halves: p2p_stream_reset says so */
    p2p__ready_clear(node, p2p__stream_ref(node, s), P2P__EV_READABLE);
    p2p__recv_news(node, s);
    p2p__stream_settle(node, s);
}

static void p2p__stop_input(p2p_node *node, p2p__stream *s, const p2p__frame *f) {
    if (s->send.state != P2P__SEND_OPEN && s->send.state != P2P__SEND_FINISHING)
        return;
    p2p__send_reset(node, s, (uint32_t)P2P__MIN(f->code, (uint64_t)UINT32_MAX));
    if (s->kind == P2P__KIND_REQUEST && s->local) /* answered early: the answer still comes */
        s->x.flags = (uint8_t)(s->x.flags | P2P__EXCHANGE_STOPPED);
    else
        s->err = P2P_ERR_RESET;
    p2p__raise(node, s, P2P__EV_WRITABLE); /* a writer that waits learns it from its next call */
}

/* ==== >>message ====
 * Messages: in order, exactly once, length-prefixed on one stream a direction.
 * Always: a message is given whole or not at all; its length is checked before a byte of it is
 *         kept.
 * Covered by tests/behaviour/cases_message.h. */
static p2p__stream *p2p__messages(const p2p_node *node, const p2p__conn *conn) {
    return P2P__MESSAGES ? p2p__stream_at(node, conn->messages) : NULL;
}

/* As p2p__message_peek, of what arrived. */
static size_t p2p__message_here(const p2p__stream *s, uint64_t at, uint64_t *size) {
    uint8_t bytes[P2P__MESSAGE_OVER];
    size_t n = (size_t)P2P__MIN(s->recv.here - at, (uint64_t)sizeof bytes);
    p2p__ring_get(s->recv.ring, s->recv.room, at, bytes, n);
    return p2p__message_peek(bytes, n, size);
}

/* Reads the length prefix of the next message once it is here. false: a length over message_max,
 * or not canonical. */
static bool p2p__message_length(p2p_node *node, p2p__conn *conn) {
    p2p__stream *s = p2p__messages(node, conn);
    uint64_t size;
    size_t n;
    if (conn->message_size != P2P_NEVER || (n = p2p__message_here(s, s->recv.read, &size)) == 0)
        return true;
    if (size > node->desc.bytes.message_max)
        return false;
    conn->message_size = size;
    p2p__recv_take(node, s, n);
    return true;
}

static bool p2p__message_ready(const p2p_node *node, const p2p__conn *conn) {
    const p2p__stream *s = p2p__messages(node, conn);
    return s && conn->message_size != P2P_NEVER && !conn->lent &&
           s->recv.here - s->recv.read >= conn->message_size;
}

static bool p2p__message_outgrows(const p2p_node *node, const p2p__conn *conn) {
    const p2p__stream *s = p2p__messages(node, conn);
    return s && conn->message_size != P2P_NEVER && conn->message_size > s->recv.room && !conn->lent;
}

/* Moves what is here into the memory lent for it. */
static void p2p__message_fill(p2p_node *node, p2p__conn *conn) {
    p2p__stream *s = p2p__messages(node, conn);
    uint64_t n = P2P__MIN(s->recv.here - s->recv.read, conn->message_size - conn->lent_have);
    p2p__ring_get(s->recv.ring, s->recv.room, s->recv.read, conn->lent + (size_t)conn->lent_have,
                  (size_t)n);
    conn->lent_have += n;
    p2p__recv_take(node, s, (size_t)n);
    if (conn->lent_have == conn->message_size)
        p2p__raise_conn(node, conn, P2P__EV_LENT);
}

/* Bytes arrived on the messages stream, or a message was taken from it. */
static void p2p__message_news(p2p_node *node, p2p__conn *conn) {
    p2p__stream *s;
    if (conn->lent && conn->lent_have < conn->message_size)
        p2p__message_fill(node, conn);
    if (conn->lent)
        return;
    if (!p2p__message_length(node, conn)) {
        p2p__count(node, P2P_METRIC_message_too_large, 1);
        p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL, P2P__SAY("message over message_max"));
        return;
    }
    s = p2p__messages(node, conn);
    if (conn->message_size != P2P_NEVER && s->recv.read + conn->message_size > s->recv.limit)
        p2p__recv_grant(node, s, 1); /* all of it must come: no waiting for half a window */
    if (p2p__message_ready(node, conn) ||
        (p2p__message_outgrows(node, conn) && !conn->message_asked))
        p2p__raise_conn(node, conn, P2P__EV_MESSAGE);
}

/* The one at the front is gone: what follows it is looked at. */
static void p2p__message_next(p2p_node *node, p2p__conn *conn) {
    conn->message_size = P2P_NEVER;
    conn->message_asked = 0;
    if (!conn->lent_cut) {
        conn->messages_received++;
        p2p__count(node, P2P_METRIC_messages_received, 1);
    }
    conn->lent_cut = 0;
    p2p__message_news(node, conn);
}

/* The session broke. What was sent whole may have arrived, and a message comes at most once: it is
 * counted and given up. The first that was not sent whole did not arrive, and begins the next
 * session, at offset 0. */
static void p2p__messages_resend(p2p_node *node, p2p__conn *conn, p2p__stream *s) {
    p2p__send *w = &s->send;
    uint32_t count;
    uint64_t acked = w->acked, first = p2p__messages_end(w, acked - w->kept, w->sent, &count);
    conn->unsure += count;
    p2p__chunks_abandon(node, s);
    w->acked = first;
    p2p__send_unlend(w);
    if (conn->sent_pending && conn->sent_at <= first && conn->sent_at > acked) {
        conn->sent_err = P2P_ERR_CLOSED;
        p2p__raise_conn(node, conn, P2P__EV_SENT);
    }
    conn->sent_at -= P2P__MIN(conn->sent_at, first);
    w->lent_at -= first;
    w->shift -= first;
    w->end -= first;
    w->acked = w->sent = w->limit = w->blocked = w->kept = 0;
    if (w->end == 0)
        conn->message_largest = 0;
    if (conn->want_writable && p2p__send_room(s) > 0) {
        conn->want_writable = 0;
        p2p__raise_conn(node, conn, P2P__EV_WRITABLE);
    }
}

/* What arrived whole is still to be read, the rest is not. The next session's bytes follow. */
static void p2p__messages_cut(p2p_node *node, p2p__conn *conn, p2p__stream *s) {
    p2p__recv *r = &s->recv;
    uint64_t end = r->read, size;
    size_t n;
    if (conn->lent && conn->lent_have < conn->message_size) {
        conn->lent_cut = 1;
        conn->message_size = conn->lent_have;
        p2p__raise_conn(node, conn, P2P__EV_LENT);
    } else if (p2p__message_ready(node, conn)) {
        end += conn->message_size;
    } else if (conn->message_size != P2P_NEVER && !conn->lent) {
        conn->message_size = P2P_NEVER;
        conn->message_asked = 0;
        r->here = end;
    }
    while ((n = p2p__message_here(s, end, &size)) != 0 && size <= r->here - end - n)
        end += n + size;
    r->here = r->high = r->base = end;
    r->runs = r->want_max = 0;
}

/* ==== >>datagram ====
 * Unordered, at most once: two small queues of the node, the oldest giving way.
 * Always: a datagram is in one queue of one connection, or free.
 * Covered by tests/unit/test_datagram.c, tests/behaviour/cases_message.h. */
static p2p__datagram *p2p__datagram_at(const p2p_node *node, bool out, uint16_t at) {
    return (p2p__datagram *)(void *)(node->datagrams[out].items +
                                     (size_t)at * node->datagram_stride);
}

/* The oldest of a queue, or NULL. */
static p2p__datagram *p2p__datagram_oldest(const p2p_node *node, const p2p__conn *conn, bool out) {
    const p2p__queue *q = &conn->datagrams[out];
    return q->count ? p2p__datagram_at(node, out, q->first) : NULL;
}

#ifndef P2P_NO_DATAGRAM
static uint8_t *p2p__datagram_bytes(p2p__datagram *d) { return (uint8_t *)(d + 1); }

/* Takes the oldest of a queue off and frees it. */
static void p2p__datagram_pop(p2p_node *node, p2p__conn *conn, bool out) {
    p2p__queue *q = &conn->datagrams[out];
    p2p__datagram *d = p2p__datagram_at(node, out, q->first);
    uint16_t at = q->first;
    P2P_ASSERT(q->count > 0);
    q->first = d->next;
    d->next = node->datagrams[out].free;
    node->datagrams[out].free = at;
    node->datagrams[out].used--;
    if (--q->count == 0)
        node->datagrams[out].owners--;
}

static void p2p__datagram_drop(p2p_node *node, p2p__conn *conn, bool out) {
    p2p__datagram_pop(node, conn, out);
    conn->datagrams_dropped++;
    p2p__count(node,
               out ? P2P_METRIC_app_datagrams_dropped_out : P2P_METRIC_app_datagrams_dropped_in, 1);
}

/* Makes a place when all are taken: one of conn's own gives way if it has its share of them, else
 * one of who has most, so that a busy connection cannot starve a quiet one. */
static void p2p__datagram_evict(p2p_node *node, p2p__conn *conn, bool out) {
    p2p__conn *most = conn, *other = NULL;
    if ((uint32_t)conn->datagrams[out].count * node->datagrams[out].owners <
        node->datagrams[out].used)
        while ((other = (p2p__conn *)p2p__pool_next(&node->conns, other)) != NULL)
            if (other->datagrams[out].count > most->datagrams[out].count)
                most = other;
    p2p__datagram_drop(node, most, out);
}

/* Queues a copy, at the cost of an older one when there is no place. */
static void p2p__datagram_push(p2p_node *node, p2p__conn *conn, bool out, const uint8_t *data,
                               size_t size) {
    p2p__queue *q = &conn->datagrams[out];
    p2p__datagram *d;
    uint16_t at;
    if (node->datagrams[out].free == P2P__NIL)
        p2p__datagram_evict(node, conn, out);
    at = node->datagrams[out].free;
    d = p2p__datagram_at(node, out, at);
    node->datagrams[out].free = d->next;
    node->datagrams[out].used++;
    d->born_us = node->now_us;
    d->size = (uint32_t)size;
    if (size)
        P2P_MEMCPY(p2p__datagram_bytes(d), data, size);
    if (q->count++ == 0) {
        node->datagrams[out].owners++;
        q->first = at;
    } else {
        p2p__datagram_at(node, out, q->last)->next = at;
    }
    q->last = at;
}

static void p2p__datagrams_clear(p2p_node *node, p2p__conn *conn) {
    int out;
    for (out = 0; out < 2; out++)
        while (conn->datagrams[out].count)
            p2p__datagram_pop(node, conn, out != 0);
}

static void p2p__datagram_input(p2p_node *node, p2p__conn *conn, const p2p__frame *f) {
    if (f->data.size > node->desc.bytes.datagram_max || node->desc.max.datagrams_in == 0) {
        p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL, P2P__SAY("DATAGRAM over datagram_max"));
        return;
    }
    conn->datagrams_received++;
    p2p__count(node, P2P_METRIC_app_datagrams_received, 1);
    p2p__datagram_push(node, conn, false, f->data.data, f->data.size);
    p2p__raise_conn(node, conn, P2P__EV_DATAGRAM);
}

/* Queued datagrams that fit, oldest first. Those past their time are dropped unsent, and those that
 * no packet can hold: queued before the peer's limits came, or before the path got narrower. */
static void p2p__emit_datagrams(p2p__build *b) {
    p2p_node *node = b->node;
    uint64_t life_us = node->desc.time.datagram_us;
    p2p__datagram *d;
    while ((d = p2p__datagram_oldest(node, b->conn, true)) != NULL) {
        size_t left = (size_t)(b->w.end - b->w.at), length = p2p__varint_size(d->size);
        if ((life_us && node->now_us - d->born_us > life_us) ||
            d->size > b->session->theirs.datagram_max || d->size + 9u > b->most) {
            p2p__datagram_drop(node, b->conn, true);
            continue;
        }
        if (left < 1 + d->size)
            return;
        p2p__put_datagram_head(&b->w, left >= 1 + length + d->size ? d->size : UINT64_MAX);
        p2p__put_bytes(&b->w, p2p__datagram_bytes(d), d->size);
        if (left < 1 + length + d->size) /* it ran to the end, and must end there */
            b->w.end = b->w.at;
        b->eliciting = 1;
        b->conn->datagrams_sent++;
        p2p__count(node, P2P_METRIC_app_datagrams_sent, 1);
        p2p__datagram_pop(node, b->conn, true);
    }
}
#else /* the peer was told to send none, and the queues have no places */
static void p2p__datagrams_clear(p2p_node *node, p2p__conn *conn) {
    (void)node;
    (void)conn;
}
static void p2p__datagram_drop(p2p_node *node, p2p__conn *conn, bool out) {
    (void)out;
    p2p__datagrams_clear(node, conn);
}
static void p2p__emit_datagrams(p2p__build *b) { (void)b; }
static void p2p__datagram_input(p2p_node *node, p2p__conn *conn, const p2p__frame *f) {
    (void)f;
    p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL, P2P__SAY("DATAGRAM over datagram_max"));
}
#endif

/* ==== >>cc ====
 * Congestion control: how many bytes may be on their way, and how fast they leave. Three
 * controllers behind p2p__cc_open, _sent, _acked, _lost, _found, _collapsed: BBR, CUBIC, NewReno.
 * Always: at least two datagrams may be on their way; the controller knows packets and time, no
 *         sockets. Windows are at most P2P__CC_MAX and round trips at most P2P__RTT_MAX_US, so
 *         products fit 64 bits; no divisor is 0.
 * Covered by tests/unit/test_cc.c, tests/sim/test_congestion.c. */
#define P2P__CC_MAX      (1u << 30) /* bytes */
#define P2P__RTT_MAX_US  (1u << 26) /* 67 s */
/* What a sender that is woken late makes up for: on a busy machine a millisecond is not enough. */
#define P2P__CATCH_UP_US 4000u
#ifndef P2P_NO_BBR
#define P2P__CC_BEST P2P__CC_BBR
#elif !defined(P2P_NO_CUBIC)
#define P2P__CC_BEST P2P__CC_CUBIC
#else
#define P2P__CC_BEST P2P__CC_RENO
#endif

static bool p2p__cc_built(uint32_t kind) {
    uint32_t built = 1u << P2P__CC_RENO;
#ifndef P2P_NO_BBR
    built |= 1u << P2P__CC_BBR;
#endif
#ifndef P2P_NO_CUBIC
    built |= 1u << P2P__CC_CUBIC;
#endif
    return kind <= P2P__CC_RENO && built >> kind & 1;
}

static void p2p__cc_grow(p2p__cc *cc, uint32_t bytes) {
    cc->now.window_bytes = P2P__MIN(cc->now.window_bytes + bytes, P2P__CC_MAX);
}

static uint32_t p2p__cc_rate(uint64_t bytes, uint64_t us) {
    uint64_t rate = bytes * 1000000 / us; /* bytes below 2^44 */
    return (uint32_t)P2P__MIN(P2P__MAX(rate, 1u), (uint64_t)UINT32_MAX);
}

P2P__NOINLINE static uint32_t p2p__percent(uint32_t value, uint32_t percent) {
    return (uint32_t)P2P__MIN((uint64_t)value * percent / 100, (uint64_t)UINT32_MAX);
}

/* ---- CUBIC, RFC 9438, with HyStart++, RFC 9406 */
#ifndef P2P_NO_CUBIC
/* The largest whole number whose cube is at most x, which is below 2^60. */
static uint32_t p2p__cube_root(uint64_t x) {
    uint64_t root = 0, bit;
    for (bit = 1u << 19; bit > 0; bit /= 2)
        if ((root + bit) * (root + bit) * (root + bit) <= x)
            root += bit;
    return (uint32_t)root;
}

/* W_cubic(t) = W_max + 0.4 segments/s^3 x (t - K)^3, section 4.2. Past 131 s the curve stays where
 * it is, so that the cube fits: 2^54. */
static uint32_t p2p__cubic_at(const p2p__cc *cc, uint64_t us) {
    int64_t ms = (int64_t)P2P__MIN(us / 1000, 1u << 17) - (int64_t)cc->now.top_ms;
    int64_t segments_1024 = ms * ms * ms / 2441406; /* 1024 x 0.4 / 10^9 */
    int64_t bytes = cc->now.top_bytes + segments_1024 * (int64_t)cc->datagram_bytes / 1024;
    return (uint32_t)(bytes < 0 ? 0 : P2P__MIN(bytes, (int64_t)P2P__CC_MAX));
}

/* Section 4.3, alpha = 9/17 until the window is what it was before the loss, then 1. */
static void p2p__cubic_reno(p2p__cc *cc, uint32_t bytes) {
    uint64_t step = 17 * (uint64_t)cc->now.window_bytes;
    cc->acked_bytes += (uint64_t)bytes * (cc->now.reno_bytes < cc->before.window_bytes ? 9u : 17u);
    if (cc->acked_bytes < step)
        return;
    cc->acked_bytes -= step;
    cc->now.reno_bytes = P2P__MIN(cc->now.reno_bytes + cc->datagram_bytes, P2P__CC_MAX);
}

static void p2p__cubic_acked(p2p__cc *cc, const p2p__ack *ack, uint32_t bytes) {
    p2p__curve *c = &cc->now;
    uint32_t window = c->window_bytes, target;
    if (c->epoch_us == 0) {
        c->epoch_us = ack->now_us;
        c->top_bytes = P2P__MAX(c->top_bytes, window);
        c->top_ms =
            p2p__cube_root((uint64_t)(c->top_bytes - window) * 2500000000u / cc->datagram_bytes);
        c->reno_bytes = window;
        cc->acked_bytes = 0;
    }
    p2p__cubic_reno(cc, bytes);
    if (p2p__cubic_at(cc, ack->now_us - c->epoch_us) < c->reno_bytes) {
        c->window_bytes = P2P__MAX(window, c->reno_bytes);
        return;
    }
    target = p2p__cubic_at(cc, ack->now_us - c->epoch_us + ack->smoothed_us);
    target = P2P__MIN(P2P__MAX(target, window), window / 2 * 3);
    p2p__cc_grow(cc, (uint32_t)((uint64_t)(target - window) * bytes / window));
}

static void p2p__cubic_lost(p2p__cc *cc) {
    uint32_t window = cc->now.window_bytes;
    cc->now.top_bytes = window < cc->now.top_bytes ? p2p__percent(window, 85) : window;
    cc->now.threshold_bytes = p2p__percent(window, 70);
    cc->now.epoch_us = 0;
}

static void p2p__hystart_round(p2p__cc *cc) {
    p2p__hystart *h = &cc->hystart;
    h->last_min_us = h->round_min_us;
    h->round_min_us = UINT32_MAX;
    h->samples = 0;
    if (h->slow && ++h->rounds >= 5)
        cc->now.threshold_bytes = cc->now.window_bytes; /* it really was a queue */
}

/* By how much slow start grows for so many bytes: a quarter once round trips get longer, and all of
 * it again if that was not a queue. */
static uint32_t p2p__hystart_acked(p2p__cc *cc, const p2p__ack *ack, uint32_t bytes) {
    p2p__hystart *h = &cc->hystart;
    uint32_t rise_us;
    if (cc->now.threshold_bytes != UINT32_MAX)
        return bytes;
    if (ack->rtt_us) {
        h->round_min_us = P2P__MIN(h->round_min_us, ack->rtt_us);
        h->samples = (uint8_t)P2P__MIN(h->samples + 1u, 8u);
    }
    rise_us = P2P__MIN(P2P__MAX(h->last_min_us / 8, 4000u), 16000u);
    if (h->samples == 8 && h->slow && h->round_min_us < h->base_min_us) {
        h->slow = 0;
    } else if (h->samples == 8 && !h->slow && h->last_min_us != UINT32_MAX &&
               h->round_min_us >= h->last_min_us + rise_us) {
        h->slow = 1;
        h->rounds = 0;
        h->base_min_us = h->round_min_us;
    }
    return h->slow ? bytes / 4 : bytes;
}
#endif

/* ---- NewReno, RFC 9002 section 7, and what CUBIC shares with it */
static void p2p__reno_acked(p2p__cc *cc, const p2p__ack *ack) {
    uint32_t bytes = ack->bytes;
    if (cc->recovering && ack->newest.sent_us <= cc->recovery_us)
        return; /* sent before the loss: it says nothing about the window after it */
    cc->recovering = 0;
    if (ack->newest.limited)
        return; /* the window was not what held the sender back */
    if (cc->now.window_bytes < cc->now.threshold_bytes) {
#ifndef P2P_NO_CUBIC
        if (cc->kind == P2P__CC_CUBIC)
            bytes = p2p__hystart_acked(cc, ack, bytes);
#endif
        p2p__cc_grow(cc, bytes);
        return;
    }
#ifndef P2P_NO_CUBIC
    if (cc->kind == P2P__CC_CUBIC) {
        p2p__cubic_acked(cc, ack, bytes);
        return;
    }
#endif
    cc->acked_bytes += bytes;
    if (cc->acked_bytes >= cc->now.window_bytes) {
        cc->acked_bytes -= cc->now.window_bytes;
        p2p__cc_grow(cc, cc->datagram_bytes);
    }
}

static void p2p__reno_lost(p2p__cc *cc) {
    cc->now.threshold_bytes = p2p__percent(cc->now.window_bytes, 50);
#ifndef P2P_NO_CUBIC
    if (cc->kind == P2P__CC_CUBIC)
        p2p__cubic_lost(cc);
#endif
    cc->now.threshold_bytes = P2P__MAX(cc->now.threshold_bytes, 2 * cc->datagram_bytes);
    cc->now.window_bytes = cc->now.threshold_bytes;
    cc->acked_bytes = 0;
}

/* ---- BBR, after draft-ietf-ccwg-bbr: a model of the path's rate and round trip, probed for both.
 *
 * The draft takes more than 2 % of a round trip's packets lost for congestion. A radio link
 * loses 5 % whatever is sent, and there the draft falls to a fraction of the path; so here it
 * takes more than 10 %, while round trips are short. What a sender beside others may do is
 * bounded otherwise: loss while a queue stands (no round trip under 3/2 of the shortest), more
 * than the path has without one, makes it send 15 % less than gets through, so that whoever shares
 * the queue finds room; and it probes for only two round trips out of 2 to 3 s (63 round trips on
 * short paths), and drains at once what queue it made. */
#ifndef P2P_NO_BBR
#define P2P__BBR_HEAVY_PERCENT 10u
#define P2P__BBR_COUNT         64u /* packets that loss is counted over, or a longer round trip */
#define P2P__BBR_NO_BOUND      UINT32_MAX
#define P2P__BBR_MIN_RTT_US    5000000u /* after so long without an empty path: PROBE_RTT */
#define P2P__BBR_PROBE_RTT_US  200000u
enum p2p__bbr_state {
    P2P__BBR_STARTUP,
    P2P__BBR_DRAIN,
    P2P__BBR_DOWN,
    P2P__BBR_CRUISE,
    P2P__BBR_REFILL,
    P2P__BBR_UP,
    P2P__BBR_PROBE_RTT
};
/* By state, in percent of the rate and of what fills the path. */
static const uint16_t p2p__bbr_rate_gain[] = {277, 36, 90, 100, 100, 125, 100};
static const uint16_t p2p__bbr_window_gain[] = {200, 200, 200, 200, 200, 225, 50};

static uint32_t p2p__bbr_bw(const p2p__bbr *b) {
    return P2P__MIN(P2P__MAX(b->bw[0], b->bw[1]), b->bw_short);
}

/* Percent of what fills the path without a queue. */
static uint32_t p2p__bbr_inflight(const p2p__bbr *b, uint32_t percent) {
    uint64_t bytes = (uint64_t)p2p__bbr_bw(b) * b->min_rtt_us / 1000000 * percent / 100;
    return (uint32_t)P2P__MIN(bytes, (uint64_t)P2P__CC_MAX);
}

/* What may be on its way in any case: less would tell too little. */
static uint32_t p2p__bbr_least(const p2p__cc *cc) { return 4 * cc->datagram_bytes; }

static void p2p__bbr_count_begins(p2p__bbr *b) {
    b->count_delivered = b->delivered;
    b->count_lost = b->count_bw = 0;
    b->count_rtt_us = UINT32_MAX;
}

/* The maxima of the cycle before the last are forgotten, unless the application was too slow in the
 * last to show what the path carries. */
static void p2p__bbr_forget(p2p__bbr *b) {
    if (b->bw[0] == 0)
        return;
    b->bw[1] = b->bw[0];
    b->extra[1] = b->extra[0];
    b->bw[0] = b->extra[0] = 0;
}

static void p2p__bbr_go(p2p__cc *cc, const p2p__ack *ack, enum p2p__bbr_state state) {
    p2p__bbr *b = &cc->bbr;
    b->state = (uint8_t)state;
    b->rounds = 0;
    cc->round_number = ack->next_number;
    p2p__bbr_count_begins(b);
    switch (state) {
    case P2P__BBR_DOWN:
    case P2P__BBR_CRUISE: /* 2 to 3 s until the next probe, so that flows do not probe in step */
        if (b->until_us > ack->now_us)
            break;
        b->cycle_rounds = 0;
        b->until_us = ack->now_us + 2000000 + (b->delivered * 2654435761u >> 12);
        break;
    case P2P__BBR_REFILL: b->bw_short = P2P__BBR_NO_BOUND; break;
    case P2P__BBR_UP: b->full_bw = p2p__bbr_bw(b); break;
    case P2P__BBR_PROBE_RTT: /* for seconds a queue stood: what came through is all there is */
        p2p__bbr_forget(b);
        cc->before.window_bytes = cc->now.window_bytes;
        b->probe_rtt_us = ack->rtt_us; /* in case that no other comes */
        b->until_us = 0;
        break;
    default: break;
    }
}

/* The probe is over: a new cycle. */
static void p2p__bbr_probed(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr_forget(&cc->bbr);
    cc->bbr.until_us = 0;
    p2p__bbr_go(cc, ack, P2P__BBR_DOWN);
}

/* Even the shortest of these round trips waited for half as long as the path takes: a queue that
 * does not drain. */
static bool p2p__bbr_queued(const p2p__bbr *b) {
    return b->count_rtt_us != UINT32_MAX && b->count_rtt_us > b->min_rtt_us / 2 * 3 + 1000;
}

/* Whether to send less than gets through. In DOWN the queue may be that of the probe before, which
 * drains; the room is for loss-based senders, and where 1 of 200 is lost at random they take none. */
static bool p2p__bbr_yields(const p2p__bbr *b) {
    return p2p__bbr_queued(b) && (b->state == P2P__BBR_CRUISE || b->random_loss < 50);
}

static void p2p__bbr_heavy_loss(p2p__cc *cc, const p2p__ack *ack, uint32_t delivered) {
    p2p__bbr *b = &cc->bbr;
    uint32_t bw;
    switch (b->state) {
    case P2P__BBR_STARTUP:
        b->full = 1;
        b->inflight_max = P2P__MAX(delivered, p2p__bbr_inflight(b, 100));
        p2p__bbr_go(cc, ack, P2P__BBR_DRAIN);
        break;
    case P2P__BBR_REFILL:
    case P2P__BBR_UP:
        b->inflight_max = P2P__MAX(delivered, p2p__bbr_inflight(b, 70));
        p2p__bbr_probed(cc, ack);
        break;
    case P2P__BBR_DOWN:
    case P2P__BBR_CRUISE:
        bw = p2p__bbr_yields(b) ? p2p__percent(b->count_bw, 85) : b->count_bw;
        b->bw_short = P2P__MAX(bw, p2p__percent(p2p__bbr_bw(b), 70));
        break;
    default: break;
    }
}

/* Whether the rate grew by so many percent since it was asked last. */
static bool p2p__bbr_grew(p2p__bbr *b, uint32_t percent) {
    if (p2p__bbr_bw(b) < p2p__percent(b->full_bw, percent))
        return false;
    b->full_bw = p2p__bbr_bw(b);
    b->rounds = 0;
    return true;
}

/* Beside a queue any loss, or on a path that loses without one twice as much and 4 packets; or else
 * over 10 % and 4 packets, which 64 packets at 5 % exceed once in 4,000 times. */
static bool p2p__bbr_heavy(const p2p__cc *cc, uint32_t delivered) {
    const p2p__bbr *b = &cc->bbr;
    uint32_t all = delivered + b->count_lost, spare = 4 * cc->datagram_bytes;
    if (b->count_lost == 0 || p2p__bbr_bw(b) == 0)
        return false;
    if (p2p__bbr_queued(b))
        return b->random_loss == 0 ||
               b->count_lost > p2p__percent(all, b->random_loss) / 50 + spare;
    return all >= P2P__BBR_COUNT * cc->datagram_bytes &&
           b->count_lost > p2p__percent(all, P2P__BBR_HEAVY_PERCENT) + spare;
}

/* A count is over, without congestion. That of STARTUP teaches nothing: the loss of the queue that
 * it fills may come to light when the queue is gone. */
static void p2p__bbr_learn_loss(p2p__bbr *b, uint32_t delivered) {
    uint64_t all = (uint64_t)delivered + b->count_lost;
    if (b->full && !p2p__bbr_queued(b))
        b->random_loss =
            (uint16_t)((7 * b->random_loss + b->count_lost * UINT64_C(10000) / all) / 8);
}

/* A round trip is over. */
static void p2p__bbr_round(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    uint32_t delivered = b->delivered - b->count_delivered;
    bool heavy = p2p__bbr_heavy(cc, delivered);
    if (!heavy && delivered >= P2P__BBR_COUNT * cc->datagram_bytes)
        p2p__bbr_learn_loss(b, delivered);
    b->rounds = (uint8_t)P2P__MIN(b->rounds + 1u, 255u);
    b->cycle_rounds = (uint8_t)P2P__MIN(b->cycle_rounds + 1u, 255u);
    cc->round_number = ack->next_number;
    if (heavy) {
        p2p__bbr_heavy_loss(cc, ack, delivered);
    } else if (b->state == P2P__BBR_STARTUP) {
        if (ack->newest.limited) {
            b->rounds = 0;
        } else if (p2p__bbr_grew(b, 125)) {
            p2p__bbr_count_begins(b); /* what a lower rate lost is no sign that this one is all */
        } else if (b->rounds >= 3) {
            b->full = 1;
            p2p__bbr_go(cc, ack, P2P__BBR_DRAIN);
        }
    } else if (b->state == P2P__BBR_REFILL) {
        p2p__bbr_go(cc, ack, P2P__BBR_UP);
    } else if (b->state == P2P__BBR_UP) {
        b->inflight_max = p2p__percent(b->inflight_max, 125);
        if (!p2p__bbr_grew(b, 112) && b->rounds >= 2)
            p2p__bbr_probed(cc, ack);
    }
    if (delivered >= P2P__BBR_COUNT * cc->datagram_bytes)
        p2p__bbr_count_begins(b);
}

/* What an acknowledgement says about the rate: the bytes delivered since its newest packet left,
 * over the longer of the times in which they were sent and acknowledged. */
static void p2p__bbr_sample(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    uint64_t us = ack->now_us - ack->newest.sent_us + ack->newest.ack_age_us;
    uint32_t bw;
    b->delivered += ack->bytes;
    b->delivered_us = ack->now_us;
    b->first_sent_us = ack->newest.sent_us;
    us = P2P__MAX(us, ack->newest.send_age_us);
    if (us < P2P__MAX(b->min_rtt_us, 1u))
        return; /* packets that were taken for lost: the times are of others */
    bw = p2p__cc_rate(b->delivered - ack->newest.delivered, us);
    b->count_bw = P2P__MAX(b->count_bw, bw);
    if (!ack->newest.limited || bw >= p2p__bbr_bw(b))
        b->bw[0] = P2P__MAX(b->bw[0], bw);
}

/* Radio links deliver acknowledgements in bursts: the most by which one ran ahead of the rate is
 * allowed on top of the window. */
static void p2p__bbr_bursts(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    uint64_t us = P2P__MIN(ack->now_us - b->burst_us, (uint64_t)P2P__RTT_MAX_US);
    uint64_t expected = p2p__bbr_bw(b) * us / 1000000;
    if (b->burst_bytes <= expected) {
        b->burst_us = ack->now_us;
        b->burst_bytes = 0;
        expected = 0;
    }
    b->burst_bytes = P2P__MIN(b->burst_bytes + ack->bytes, P2P__CC_MAX);
    if (b->full)
        b->extra[0] = P2P__MAX(b->extra[0], b->burst_bytes - (uint32_t)expected);
}

/* The shortest round trip. One within a 64th of it shows the path without a queue, and no probe is
 * needed; nor while the application leaves gaps. */
static void p2p__bbr_min_rtt(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    bool old = ack->now_us - b->min_rtt_at_us > P2P__BBR_MIN_RTT_US;
    if (ack->rtt_us == 0)
        return;
    b->probe_rtt_us = P2P__MIN(b->probe_rtt_us, ack->rtt_us);
    b->count_rtt_us = P2P__MIN(b->count_rtt_us, ack->rtt_us);
    if (b->min_rtt_us == 0 || ack->rtt_us < b->min_rtt_us ||
        (old && ack->newest.limited && b->state != P2P__BBR_PROBE_RTT))
        b->min_rtt_us = ack->rtt_us;
    if (ack->rtt_us - b->min_rtt_us <= b->min_rtt_us / 16) /* as good as empty */
        b->min_rtt_at_us = ack->now_us;
    else if (old && b->state != P2P__BBR_PROBE_RTT)
        p2p__bbr_go(cc, ack, P2P__BBR_PROBE_RTT);
}

/* 200 ms with half a path's worth on its way show the round trip without a queue. */
static void p2p__bbr_probe_rtt(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    if (b->until_us == 0 && ack->in_flight <= cc->now.window_bytes) {
        b->until_us = ack->now_us + P2P__BBR_PROBE_RTT_US;
        b->rounds = 0;
        cc->round_number = ack->next_number;
    }
    if (b->until_us == 0 || ack->now_us < b->until_us || b->rounds == 0)
        return;
    b->min_rtt_us = b->probe_rtt_us;
    b->min_rtt_at_us = ack->now_us;
    cc->now.window_bytes = P2P__MAX(cc->now.window_bytes, cc->before.window_bytes);
    p2p__bbr_go(cc, ack, b->full ? P2P__BBR_CRUISE : P2P__BBR_STARTUP);
}

static void p2p__bbr_step(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    uint32_t path = P2P__MAX(p2p__bbr_inflight(b, 100), p2p__bbr_least(cc));
    uint32_t room = P2P__MIN(path, P2P__MAX(p2p__percent(b->inflight_max, 85), p2p__bbr_least(cc)));
    switch (b->state) {
    case P2P__BBR_DRAIN:
        if (ack->in_flight <= path)
            p2p__bbr_go(cc, ack, P2P__BBR_DOWN);
        break;
    case P2P__BBR_DOWN:
        if (ack->in_flight <= room)
            p2p__bbr_go(cc, ack, P2P__BBR_CRUISE);
        break;
    case P2P__BBR_CRUISE:
        if (ack->now_us >= b->until_us ||
            b->cycle_rounds >= P2P__MIN(path / cc->datagram_bytes, 63u))
            p2p__bbr_go(cc, ack, P2P__BBR_REFILL);
        break;
    case P2P__BBR_PROBE_RTT: p2p__bbr_probe_rtt(cc, ack); break;
    default: break;
    }
}

/* At most 99 % of the rate shall reach the bottleneck, so that a queue drains that was made by a
 * rate taken too high. Random loss sees to that, or to a part of it. */
static uint32_t p2p__bbr_rate(const p2p__bbr *b) {
    uint32_t rate = p2p__percent(p2p__bbr_bw(b), p2p__bbr_rate_gain[b->state]);
    uint32_t of_10000 = 9900 + P2P__MIN(b->random_loss, 100u);
    return (uint32_t)((uint64_t)rate * of_10000 / 10000);
}

static void p2p__bbr_control(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr *b = &cc->bbr;
    uint32_t bw = p2p__bbr_bw(b), rate, target, least = p2p__bbr_least(cc);
    uint32_t bound = b->inflight_max, quantum;
    if (bw == 0)
        return;
    rate = p2p__bbr_rate(b);
    /* Never less than the least window a round trip: after heavy loss the next packet could be
     * seconds away, and nothing would be learnt meanwhile. */
    rate = P2P__MAX(rate, p2p__cc_rate(least, P2P__MAX(ack->smoothed_us, 1u)));
    if (b->full || rate > cc->rate)
        cc->rate = rate;
    quantum = P2P__MIN(P2P__MAX(rate / 1024, 2 * cc->datagram_bytes), 65536u);
    target = p2p__bbr_inflight(b, p2p__bbr_window_gain[b->state]);
    if (b->state != P2P__BBR_PROBE_RTT)
        target += 3 * quantum + P2P__MAX(b->extra[0], b->extra[1]);
    if (b->state != P2P__BBR_REFILL && b->state != P2P__BBR_UP)
        bound = p2p__percent(bound, 85);
    if (b->full || cc->now.window_bytes < target)
        p2p__cc_grow(cc, ack->bytes);
    if (b->full || b->state == P2P__BBR_PROBE_RTT)
        cc->now.window_bytes = P2P__MIN(cc->now.window_bytes, target);
    cc->now.window_bytes = P2P__MAX(P2P__MIN(cc->now.window_bytes, bound), least);
}

static void p2p__bbr_acked(p2p__cc *cc, const p2p__ack *ack) {
    p2p__bbr_sample(cc, ack);
    p2p__bbr_bursts(cc, ack);
    if (ack->newest.number >= cc->round_number)
        p2p__bbr_round(cc, ack);
    p2p__bbr_min_rtt(cc, ack);
    p2p__bbr_step(cc, ack);
    p2p__bbr_control(cc, ack);
}

/* Persistent congestion: the path is searched anew, as at the start. */
static void p2p__bbr_restart(p2p__cc *cc) {
    p2p__bbr *b = &cc->bbr;
    b->state = P2P__BBR_STARTUP;
    b->full = 0;
    b->rounds = 0;
    b->bw[0] = b->bw[1] = b->full_bw = 0;
    b->bw_short = b->inflight_max = P2P__BBR_NO_BOUND;
    p2p__bbr_count_begins(b);
}

static void p2p__bbr_sent(p2p__cc *cc, p2p__packet *packet, bool first) {
    p2p__bbr *b = &cc->bbr;
    if (first)
        b->first_sent_us = b->delivered_us = packet->sent_us;
    packet->delivered = b->delivered;
    packet->ack_age_us = (uint32_t)(packet->sent_us - b->delivered_us);
    packet->send_age_us = (uint32_t)(packet->sent_us - b->first_sent_us);
}
#endif

/* ---- the interface */
static uint32_t p2p__cc_first_window(uint32_t datagram_bytes) {
    return P2P__MIN(10u * datagram_bytes, P2P__MAX(14720u, 2u * datagram_bytes));
}

/* Two windows a round trip, until more is known. */
static void p2p__cc_begin(p2p__cc *cc, uint64_t rtt_us) {
    cc->rate = p2p__cc_rate(2 * cc->now.window_bytes, P2P__MAX(rtt_us, 1u));
}

static void p2p__cc_open(p2p__cc *cc, uint32_t kind, uint32_t datagram_bytes) {
    uint32_t window = p2p__cc_first_window(datagram_bytes);
    P2P_MEMSET(cc, 0, sizeof *cc);
    cc->kind = (uint8_t)kind;
    cc->datagram_bytes = datagram_bytes;
    cc->now.window_bytes = window;
    cc->now.threshold_bytes = UINT32_MAX;
    p2p__cc_begin(cc, P2P__FIRST_RTT_US);
#ifndef P2P_NO_CUBIC
    cc->hystart.round_min_us = cc->hystart.last_min_us = UINT32_MAX;
#endif
#ifndef P2P_NO_BBR
    cc->bbr.bw_short = cc->bbr.inflight_max = P2P__BBR_NO_BOUND;
#endif
}

/* Datagrams have another size now. A window is at least the first window of RFC 9002 for them. */
static void p2p__cc_datagram(p2p__cc *cc, uint32_t bytes) {
    cc->datagram_bytes = bytes;
    cc->now.window_bytes = P2P__MAX(cc->now.window_bytes, p2p__cc_first_window(bytes));
}

/* A packet leaves, the first on its way or one of many. The next may leave as the rate says, in
 * bursts of ten datagrams or what the path carries in 5 ms, whichever is more: this one, those that
 * a late sender makes up for, and what p2p__may_elicit lets go ahead of its time. */
static void p2p__cc_sent(p2p__cc *cc, p2p__packet *packet, bool first) {
    uint64_t now_us = packet->sent_us, gap_ns = packet->bytes * UINT64_C(1000000000) / cc->rate;
    uint64_t gap_us = gap_ns / 1000, burst_us = P2P__CATCH_UP_US + P2P__BURST_US;
    burst_us = P2P__MAX(10 * gap_us, burst_us) - gap_us - P2P__BURST_US;
    cc->pace_us = P2P__MAX(cc->pace_us, now_us > burst_us ? now_us - burst_us : 0);
    gap_ns += cc->pace_ns_left;
    cc->pace_us += gap_ns / 1000;
    cc->pace_ns_left = (uint32_t)(gap_ns % 1000);
    (void)first;
#ifndef P2P_NO_BBR
    if (cc->kind == P2P__CC_BBR)
        p2p__bbr_sent(cc, packet, first);
#endif
}

static void p2p__cc_acked(p2p__cc *cc, const p2p__ack *ack) {
#ifndef P2P_NO_BBR
    if (cc->kind == P2P__CC_BBR) {
        if (p2p__bbr_bw(&cc->bbr) == 0)
            p2p__cc_begin(cc, ack->smoothed_us);
        p2p__bbr_acked(cc, ack);
        return;
    }
#endif
#ifndef P2P_NO_CUBIC
    if (ack->newest.number >= cc->round_number) {
        p2p__hystart_round(cc);
        cc->round_number = ack->next_number;
    }
    if (ack->newest.limited && cc->now.epoch_us) /* section 5.8: no time passes for the curve */
        cc->now.epoch_us += ack->now_us - cc->acked_us;
    cc->acked_us = ack->now_us;
#endif
    p2p__reno_acked(cc, ack);
    cc->rate = p2p__cc_rate((uint64_t)cc->now.window_bytes *
                                (cc->now.window_bytes < cc->now.threshold_bytes ? 8 : 5),
                            4 * (uint64_t)ack->smoothed_us);
}

/* A packet is lost. true: it was sent after the last reaction, so this is another loss, to which
 * the window answers; later packets of the same flight add to it. */
static bool p2p__cc_lost(p2p__cc *cc, uint32_t bytes, uint64_t sent_us, uint64_t now_us) {
    bool another = !cc->recovering || sent_us > cc->recovery_us;
    if (another) {
        cc->recovering = 1;
        cc->recovery_us = now_us;
        cc->lost_packets = 0;
    }
    cc->lost_packets++;
    (void)bytes;
#ifndef P2P_NO_BBR
    if (cc->kind == P2P__CC_BBR) {
        cc->bbr.count_lost += bytes;
        return another;
    }
#endif
    if (another) {
        cc->before = cc->now;
        p2p__reno_lost(cc);
    }
    return another;
}

/* So many packets of the latest loss arrived after all. */
static void p2p__cc_found(p2p__cc *cc, uint32_t packets) {
    cc->lost_packets -= P2P__MIN(packets, cc->lost_packets);
#ifndef P2P_NO_BBR
    if (cc->kind == P2P__CC_BBR) {
        cc->bbr.count_lost -= P2P__MIN(packets * cc->datagram_bytes, cc->bbr.count_lost);
        if (cc->lost_packets == 0)
            cc->bbr.bw_short = cc->bbr.inflight_max = P2P__BBR_NO_BOUND;
        return;
    }
#endif
    if (cc->lost_packets > 0)
        return;
    if (cc->now.window_bytes < cc->before.window_bytes)
        cc->now = cc->before;
    cc->recovering = 0;
}

/* Persistent congestion, RFC 9002 section 7.6. */
static void p2p__cc_collapsed(p2p__cc *cc) {
    cc->now.window_bytes = 2 * cc->datagram_bytes;
    cc->recovering = 0;
    cc->before.window_bytes = 0; /* nothing brings the old window back */
#ifndef P2P_NO_BBR
    if (cc->kind == P2P__CC_BBR) /* what is known of the path is as old as its silence */
        p2p__bbr_restart(cc);
#endif
}

/* ==== >>pmtu ====
 * The largest datagram that comes through to a peer: path MTU discovery by probes of PING and
 * PADDING, RFC 8899. Probes have packet numbers but no records, so that their loss is no
 * congestion.
 * Always: cc.datagram_bytes is a size that came through, or P2P__START_DATAGRAM; nothing here runs
 *         where link.mtu is hardly more than that.
 * Covered by tests/sim/test_pmtu.c. */

/* Bytes around a packet in its datagram. */
static uint32_t p2p__packet_over(const p2p_node *node) {
    return node->desc.link.mtu - node->packet_max;
}

/* The largest datagram that both ends take. What is sent inside a relayed path will be bounded
 * here. */
static uint32_t p2p__pmtu_most(const p2p_node *node, const p2p__session *session) {
    uint64_t theirs = session->theirs.max_packet + p2p__packet_over(node);
    return (uint32_t)P2P__MIN(theirs, (uint64_t)node->desc.link.mtu);
}

/* The size to try below pmtu.high: the largest that a usual link has, or halfway where a tunnel
 * makes the path narrower than Ethernet. 0: no size is left that would be worth it. */
static uint32_t p2p__pmtu_next(const p2p__session *session) {
    static const uint16_t links[] = {9000, 1500, 1492, 1280}; /* bytes of an IP packet */
    uint32_t heads = session->remote.family == 4 ? 20 + 8 : 40 + 8, i, size;
    uint32_t low = session->cc.datagram_bytes, high = session->pmtu.high;
    for (i = 0; i < sizeof links / sizeof links[0]; i++) {
        size = links[i] - heads;
        if (size < high && size >= low + P2P__PMTU_STEP)
            return size;
    }
    size = (low + high) / 2;
    return low + heads < 1500 && size >= low + P2P__PMTU_STEP / 2 ? size : 0;
}

/* How long a probe may stay away. Where nothing at all comes back it is said ever more rarely. */
static uint64_t p2p__pmtu_wait_us(const p2p__session *session) {
    return 2 * (session->rtt.smoothed_us + P2P__ACK_DELAY_US) << P2P__MIN(session->pto_count, 5u);
}

/* Takes up a size; 0 ends the search, and it is repeated later if there was more to have. */
static void p2p__pmtu_probe(p2p_node *node, p2p__session *session, uint32_t size) {
    p2p__pmtu *m = &session->pmtu;
    uint32_t most = p2p__pmtu_most(node, session);
    m->size = (uint16_t)size;
    m->tries = 0;
    m->due = size != 0;
    m->number = P2P_NEVER;
    m->timer_us = node->now_us + (size ? p2p__pmtu_wait_us(session) : P2P__PMTU_RAISE_US);
    if (session->cc.datagram_bytes + P2P__PMTU_STEP > most)
        m->timer_us = P2P_NEVER;
    if (size)
        p2p__out_add(node, session);
}

/* The path is new: the first search waits until first requests are through. */
static void p2p__pmtu_open(p2p_node *node, p2p__session *session) {
    p2p__pmtu_probe(node, session, 0);
    if (session->pmtu.timer_us != P2P_NEVER)
        session->pmtu.timer_us = node->now_us + p2p__pmtu_wait_us(session);
}

/* From the top: the largest of all first, since most often it is right or far off. */
static void p2p__pmtu_search(p2p_node *node, p2p__session *session) {
    uint32_t most = p2p__pmtu_most(node, session);
    session->pmtu.high = (uint16_t)(most + 1);
    p2p__pmtu_probe(node, session, most >= session->cc.datagram_bytes + P2P__PMTU_STEP ? most : 0);
}

/* Only a path on which other things arrive has lost a probe for its size. */
static void p2p__pmtu_tick(p2p_node *node, p2p__session *session) {
    p2p__pmtu *m = &session->pmtu;
    uint64_t wait_us = p2p__pmtu_wait_us(session);
    if (m->timer_us > node->now_us)
        return;
    if (m->size == 0) {
        p2p__pmtu_search(node, session);
        return;
    }
    if (session->heard_us + wait_us < node->now_us)
        session->control |= P2P__CONTROL_PING;
    else if (++m->tries >= P2P__PMTU_TRIES) {
        m->high = m->size;
        p2p__pmtu_probe(node, session, p2p__pmtu_next(session));
        return;
    }
    m->due = 1;
    m->timer_us = node->now_us + wait_us;
    p2p__out_add(node, session);
}

/* Whether the next packet is a probe, for which there is room. */
static bool p2p__pmtu_due(const p2p__session *session, size_t room) {
    return session->pmtu.due && session->state == P2P__SESSION_OPEN && room >= session->pmtu.size;
}

static void p2p__pmtu_fill(p2p_node *node, p2p__session *session, p2p__writer *w, uint64_t number) {
    p2p__count(node, P2P_METRIC_pmtu_probes, 1);
    session->pmtu.due = 0;
    session->pmtu.number = number;
    p2p__put_frame(w, P2P__FRAME_PING, 0, NULL);
    P2P_MEMSET(w->at, P2P__FRAME_PADDING, (size_t)(w->end - w->at));
    w->at = w->end;
}

static void p2p__pmtu_set(p2p__session *session, uint32_t bytes) {
    p2p__cc_datagram(&session->cc, bytes);
    session->pmtu.suspects = 0;
}

static void p2p__pmtu_ack(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    p2p__pmtu *m = &session->pmtu;
    uint32_t i = f->ranges;
    if (m->high == 0 && m->timer_us != P2P_NEVER && session->acked_number >= P2P__PMTU_BUSY)
        m->timer_us = P2P__MIN(m->timer_us, node->now_us); /* the first search waits no longer */
    if (m->number == P2P_NEVER)
        return;
    while (i > 0 && m->number > f->range[i - 1].last)
        i--;
    if (i == 0 || m->number < f->range[i - 1].first)
        return;
    p2p__pmtu_set(session, m->size);
    p2p__pmtu_probe(node, session, p2p__pmtu_next(session));
}

/* A datagram of this size was lost. One a round trip is counted; when three were lost and none
 * came through meanwhile, the path has become narrower without saying so. */
static void p2p__pmtu_lost(p2p_node *node, p2p__session *session, uint32_t bytes,
                           uint64_t sent_us) {
    p2p__pmtu *m = &session->pmtu;
    if (bytes <= P2P__START_DATAGRAM || sent_us <= m->suspect_us)
        return;
    m->suspect_us = node->now_us;
    if (++m->suspects < P2P__PMTU_TRIES || session->cc.datagram_bytes <= P2P__START_DATAGRAM)
        return;
    p2p__count(node, P2P_METRIC_pmtu_black_holes, 1);
    p2p__pmtu_set(session, P2P__START_DATAGRAM);
    p2p__pmtu_search(node, session);
}

static void p2p__pmtu_passed(p2p__session *session, uint32_t bytes) {
    if (bytes > P2P__START_DATAGRAM)
        session->pmtu.suspects = 0;
}

/* ==== >>loss ====
 * Packets on their way: numbers, acknowledgements, round trips, loss and probes, RFC 9002.
 * Always: in_flight_bytes is the sum over the listed packets; a session never has less than its
 *         quota of records.
 * Covered by tests/unit/test_loss.c, tests/sim/. */

/* ---- the pool of records, shared so that no session can starve another */
static bool p2p__packet_allowed(const p2p_node *node, const p2p__session *session) {
    const p2p__flight *f = &node->flight;
    if (f->packet_free == P2P__NIL)
        return false;
    return session->packet_used < f->quota ||
           f->shared_used + f->quota * node->sessions.count < f->packet_count;
}

static uint16_t p2p__packet_take(p2p_node *node, p2p__session *session) {
    p2p__flight *f = &node->flight;
    uint16_t at = f->packet_free;
    P2P_ASSERT(p2p__packet_allowed(node, session));
    f->packet_free = f->packets[at].next;
    f->packets_used++;
    if (session->packet_used++ >= f->quota)
        f->shared_used++;
    P2P_MEMSET(&f->packets[at], 0, sizeof f->packets[at]);
    f->packets[at].chunks = f->packets[at].next = P2P__NIL;
    return at;
}

static void p2p__packet_give(p2p_node *node, p2p__session *session, uint16_t at) {
    p2p__flight *f = &node->flight;
    f->packets[at].next = f->packet_free;
    f->packet_free = at;
    f->packets_used--;
    if (--session->packet_used >= f->quota)
        f->shared_used--;
}

static void p2p__packet_append(p2p_node *node, p2p__session *session, uint16_t at) {
    p2p__packet *packet = &node->flight.packets[at];
    if (session->packet_last == P2P__NIL)
        session->packet_first = at;
    else
        node->flight.packets[session->packet_last].next = at;
    session->packet_last = at;
    session->in_flight_bytes += packet->bytes;
    session->elicited_us = packet->sent_us;
}

/* Takes the packet after prev off the list; its chunks are the caller's to settle first. */
static void p2p__packet_remove(p2p_node *node, p2p__session *session, uint16_t prev, uint16_t at) {
    p2p__packet *packet = &node->flight.packets[at];
    P2P_ASSERT(packet->chunks == P2P__NIL && session->in_flight_bytes >= packet->bytes);
    if (prev == P2P__NIL)
        session->packet_first = packet->next;
    else
        node->flight.packets[prev].next = packet->next;
    if (session->packet_last == at)
        session->packet_last = prev;
    session->in_flight_bytes -= packet->bytes;
    p2p__packet_give(node, session, at);
}

/* What a lost packet carried is owed again, unless it no longer matters. */
static void p2p__packet_owed(p2p_node *node, p2p__session *session, p2p__packet *packet) {
    uint32_t control = packet->control & ~(uint32_t)P2P__CONTROL_PING;
    uint16_t at = packet->chunks, next;
    if (session->done_acked)
        control &= ~(uint32_t)P2P__CONTROL_DONE;
    session->control |= control;
    packet->chunks = P2P__NIL;
    packet->control = 0;
    for (; at != P2P__NIL; at = next) {
        next = node->flight.chunks[at].packet_next;
        p2p__chunk_lost(node, at);
    }
}

static void p2p__packet_acked(p2p_node *node, p2p__session *session, p2p__packet *packet) {
    uint16_t at = packet->chunks, next;
    packet->chunks = P2P__NIL;
    if (packet->control & P2P__CONTROL_DONE)
        session->done_acked = 1;
    for (; at != P2P__NIL; at = next) {
        next = node->flight.chunks[at].packet_next;
        p2p__chunk_acked(node, at);
    }
}

/* The session ends or its connection moves: every record is given back, and what it carried with
 * it. */
static void p2p__packets_clear(p2p_node *node, p2p__session *session) {
    while (session->packet_first != P2P__NIL) {
        p2p__packet *packet = &node->flight.packets[session->packet_first];
        p2p__packet_owed(node, session, packet);
        p2p__packet_remove(node, session, P2P__NIL, session->packet_first);
    }
    P2P_ASSERT(session->packet_used == 0 && session->in_flight_bytes == 0);
}

/* ---- time */
static void p2p__rtt_sample(p2p__rtt *rtt, uint64_t sample_us, uint64_t delay_us) {
    uint64_t adjusted = sample_us, apart;
    rtt->latest_us = sample_us;
    if (!rtt->sampled) {
        rtt->sampled = 1;
        rtt->min_us = rtt->smoothed_us = sample_us;
        rtt->variance_us = sample_us / 2;
        return;
    }
    rtt->min_us = P2P__MIN(rtt->min_us, sample_us);
    if (sample_us >= rtt->min_us + delay_us)
        adjusted = sample_us - delay_us;
    apart = rtt->smoothed_us > adjusted ? rtt->smoothed_us - adjusted : adjusted - rtt->smoothed_us;
    rtt->variance_us = (3 * rtt->variance_us + apart) / 4;
    rtt->smoothed_us = (7 * rtt->smoothed_us + adjusted) / 8;
}

/* Proofs are acknowledged at once (RFC 9002, 6.2.1). */
static uint64_t p2p__pto_base_us(const p2p__session *session) {
    return session->rtt.smoothed_us + P2P__MAX(4 * session->rtt.variance_us, 1000u) +
           (session->state == P2P__SESSION_PROVING ? 0u : P2P__ACK_DELAY_US);
}

static uint64_t p2p__pto_us(const p2p__session *session) {
    uint32_t count = session->pto_count; /* the first probe of a proof soon has a second */
    uint64_t us;
    if (session->state == P2P__SESSION_PROVING && count > 0)
        count--;
    us = p2p__pto_base_us(session) << P2P__MIN(count, 20u);
    return P2P__MIN(us, P2P__MAX(P2P__PTO_MAX_US, p2p__pto_base_us(session)));
}

/* When p2p__loss_tick is wanted. */
static uint64_t p2p__loss_deadline(const p2p__session *session) {
    if (session->loss_us)
        return session->loss_us;
    if (session->packet_first == P2P__NIL)
        return P2P_NEVER;
    return p2p__time_add(session->elicited_us, p2p__pto_us(session));
}

/* ---- loss */

/* Numbers are lost in ascending order, so a run grows at its end; the oldest run gives way. */
static void p2p__lost_note(p2p__session *session, uint32_t number) {
    p2p__lost_run *run = &session->lost[session->lost_at];
    if (run->count == 0 || run->first + run->count != number) {
        session->lost_at = (uint8_t)((session->lost_at + 1u) % P2P__LOST_RUNS);
        run = &session->lost[session->lost_at];
        run->first = number;
        run->count = 0;
    }
    run->count++;
}

/* Takes what [first, last] acknowledges out of a run: how many. What is left on both sides becomes
 * the later part: the earlier is forgotten, and then its loss is never undone. */
static uint32_t p2p__lost_found(p2p__lost_run *run, uint32_t first, uint32_t last) {
    uint32_t end = run->first + run->count, low = first, high = last + 1;
    if (run->count == 0 || (int32_t)(first - end) >= 0 || (int32_t)(last - run->first) < 0)
        return 0;
    if ((int32_t)(low - run->first) < 0)
        low = run->first;
    if ((int32_t)(end - high) <= 0) {
        run->count = low - run->first;
        return end - low;
    }
    run->first = high;
    run->count = end - high;
    return high - low;
}

/* Packets that were given up and arrived: once all of a loss did, it was reordering, and the
 * window is as before. Later ones may then overtake by as many before any is given up. */
static void p2p__lost_spurious(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    uint32_t i, j, n, found = 0, least = 0;
    for (i = 0; i < P2P__LOST_RUNS; i++)
        for (j = 0; session->lost[i].count && j < f->ranges; j++) {
            uint32_t first = session->lost[i].first;
            n = p2p__lost_found(&session->lost[i], (uint32_t)f->range[j].first,
                                (uint32_t)f->range[j].last);
            if (n > 0)
                least = P2P__MAX(least, (uint32_t)session->acked_number - first);
            found += n;
        }
    if (found == 0)
        return;
    p2p__count(node, P2P_METRIC_spurious_losses, found);
    session->reorder = (uint8_t)P2P__MAX(session->reorder, P2P__MIN(least, P2P__REORDER_MAX));
    p2p__cc_found(&session->cc, found);
}

static void p2p__packet_lose(p2p_node *node, p2p__session *session, uint16_t prev, uint16_t at) {
    p2p__packet *packet = &node->flight.packets[at];
    session->packets_lost++;
    p2p__pmtu_lost(node, session, packet->bytes, packet->sent_us);
    p2p__count(node, P2P_METRIC_packets_lost, 1);
    p2p__log(&node->log, P2P__LOG_PACKET_LOST);
    if (p2p__cc_lost(&session->cc, packet->bytes, packet->sent_us, node->now_us))
        P2P_MEMSET(session->lost, 0, sizeof session->lost);
    p2p__lost_note(session, (uint32_t)packet->number);
    p2p__packet_owed(node, session, packet);
    p2p__packet_remove(node, session, prev, at);
}

/* RFC 9002 section 6.1: packets 3 numbers (more once that was wrong) or 9/8 of a round trip older
 * than an acknowledged one are lost. */
static void p2p__loss_detect(p2p_node *node, p2p__session *session) {
    uint64_t rtt = P2P__MAX(session->rtt.smoothed_us, session->rtt.latest_us);
    uint64_t delay = P2P__MAX(rtt + rtt / 8, 1000u), run_us = 0, run_number = P2P_NEVER - 1;
    uint16_t prev = P2P__NIL, at = session->packet_first, next;
    bool persistent = false;
    session->loss_us = 0;
    for (; at != P2P__NIL; at = next) {
        p2p__packet *packet = &node->flight.packets[at];
        next = packet->next;
        if (packet->number + 1 >= session->acked_number)
            break;
        if (packet->number + 1 + session->reorder > session->acked_number &&
            packet->sent_us + delay > node->now_us) {
            session->loss_us = packet->sent_us + delay;
            break; /* later ones were sent later */
        }
        if (run_number + 1 != packet->number)
            run_us = packet->sent_us;
        run_number = packet->number;
        if (session->rtt.sampled && packet->sent_us - run_us > 3 * p2p__pto_base_us(session)) {
            persistent = true;
            run_us = packet->sent_us;
        }
        p2p__packet_lose(node, session, prev, at);
    }
    if (persistent) { /* after all of them, so that slow start goes on to half of what was */
        p2p__count(node, P2P_METRIC_persistent_congestion, 1);
        p2p__cc_collapsed(&session->cc);
    }
}

/* A probe timeout: what the two oldest packets carried goes out again, or a PING. RFC 9002
 * section 6.2. */
static void p2p__loss_probe(p2p_node *node, p2p__session *session) {
    uint16_t at = session->packet_first;
    uint32_t n;
    p2p__count(node, P2P_METRIC_pto_fired, 1);
    p2p__log(&node->log, P2P__LOG_PROBE);
    session->pto_count++;
    session->probes = 2;
    if (at != P2P__NIL)
        p2p__pmtu_lost(node, session, node->flight.packets[at].bytes, node->now_us);
    session->control |= P2P__CONTROL_PING;
    for (n = 0; at != P2P__NIL && n < 2; at = node->flight.packets[at].next) {
        p2p__packet *packet = &node->flight.packets[at];
        if (packet->chunks == P2P__NIL && !packet->control)
            continue;
        p2p__packet_owed(node, session, packet);
        n++;
    }
    while (session->packet_first != P2P__NIL && !p2p__packet_allowed(node, session)) {
        p2p__packet_owed(node, session, &node->flight.packets[session->packet_first]);
        p2p__packet_remove(node, session, P2P__NIL, session->packet_first); /* a place to probe */
    }
    session->elicited_us = node->now_us; /* the next probe waits its full, doubled time from here */
    p2p__out_add(node, session);
}

static void p2p__loss_tick(p2p_node *node, p2p__session *session) {
    if (p2p__loss_deadline(session) > node->now_us)
        return;
    if (session->loss_us)
        p2p__loss_detect(node, session);
    else
        p2p__loss_probe(node, session);
    p2p__out_add(node, session);
}

/* ---- acknowledgements that arrive */
static bool p2p__ack_possible(const p2p__session *session, const p2p__frame *f) {
    uint32_t i, j;
    if (f->range[0].last >= session->next_number)
        return false;
    for (i = 0; i < P2P__SKIPPED; i++)
        for (j = 0; session->skipped[i] && j < f->ranges; j++)
            if (session->skipped[i] >= f->range[j].first && session->skipped[i] <= f->range[j].last)
                return false;
    return true;
}

/* false: it names a packet that was never sent, and the peer is lying. */
static bool p2p__ack_input(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    uint32_t range = f->ranges - 1;
    uint16_t prev = P2P__NIL, at = session->packet_first, next;
    uint64_t largest = f->range[0].last, sample;
    p2p__ack ack;
    if (!p2p__ack_possible(session, f))
        return false;
    P2P_MEMSET(&ack, 0, sizeof ack);
    for (; at != P2P__NIL && node->flight.packets[at].number <= largest; at = next) {
        p2p__packet *packet = &node->flight.packets[at];
        next = packet->next;
        while (range > 0 && packet->number > f->range[range].last)
            range--;
        if (packet->number < f->range[range].first || packet->number > f->range[range].last) {
            prev = at;
            continue;
        }
        ack.newest = *packet;
        ack.bytes += packet->bytes;
        p2p__pmtu_passed(session, packet->bytes);
        p2p__packet_acked(node, session, packet);
        p2p__packet_remove(node, session, prev, at);
    }
    session->acked_number = P2P__MAX(session->acked_number, largest + 1);
    p2p__pmtu_ack(node, session, f);
    p2p__lost_spurious(node, session, f);
    if (ack.bytes == 0)
        return true;
    if (ack.newest.number == largest) {
        sample = node->now_us - ack.newest.sent_us;
        p2p__rtt_sample(&session->rtt, sample, P2P__MIN(f->delay_us, (uint64_t)P2P__ACK_DELAY_US));
        ack.rtt_us = (uint32_t)P2P__MIN(P2P__MAX(sample, 1u), (uint64_t)P2P__RTT_MAX_US);
    }
    session->pto_count = 0;
    p2p__loss_detect(node, session);
    ack.now_us = node->now_us;
    ack.next_number = session->next_number;
    ack.in_flight = (uint32_t)session->in_flight_bytes;
    ack.smoothed_us =
        (uint32_t)P2P__MIN(P2P__MAX(session->rtt.smoothed_us, 1u), (uint64_t)P2P__RTT_MAX_US);
    p2p__cc_acked(&session->cc, &ack);
    p2p__out_add(node, session);
    return true;
}

/* ---- packets that arrive: duplicates, and what to acknowledge */
static bool p2p__seen_bit(const p2p__session *session, uint64_t number) {
    return session->seen[(number / 64) % (P2P__WINDOW / 64)] >> (number % 64) & 1;
}

/* 0 new, 1 seen before, 2 too old to tell. */
static int p2p__seen_before(const p2p__session *session, uint64_t number) {
    if (number >= session->seen_top)
        return 0;
    if (session->seen_top - number > P2P__WINDOW)
        return 2;
    return p2p__seen_bit(session, number);
}

/* One ACK answers two packets, or an eighth of what came in the round trip before, up to ten: fewer
 * serve a fast sender as well (RFC 9000 section 13.2.2), and eight a round trip are what slow start
 * wants to see. */
static void p2p__ack_pace(const p2p_node *node, p2p__session *session) {
    if (node->now_us - session->round_us >= session->rtt.smoothed_us) {
        session->ack_every = (uint8_t)P2P__MAX(P2P__MIN(session->round_count / 8, 10u), 2u);
        session->round_us = node->now_us;
        session->round_count = 0;
    }
    session->round_count++;
}

/* How long the first of several packets waits for the others. */
static uint64_t p2p__ack_delay_us(const p2p__session *session) {
    uint64_t us = P2P__MAX(session->rtt.smoothed_us / 4, 1000u);
    return session->ack_every > 2 ? P2P__MIN(us, P2P__ACK_DELAY_US) : P2P__ACK_DELAY_US;
}

/* A packet came whole. eliciting: 0 when it wants no ACK, 2 when it wants one at once. */
static void p2p__seen_note(p2p_node *node, p2p__session *session, uint64_t number,
                           uint32_t eliciting) {
    uint64_t n;
    bool gap = number != session->seen_top;
    if (number >= session->seen_top) {
        if (number - session->seen_top >= P2P__WINDOW)
            P2P_MEMSET(session->seen, 0, sizeof session->seen);
        else
            for (n = session->seen_top; n < number; n++)
                session->seen[(n / 64) % (P2P__WINDOW / 64)] &= ~(1ull << (n % 64));
        session->seen_top = number + 1;
        session->seen_top_us = node->now_us;
    }
    session->seen[(number / 64) % (P2P__WINDOW / 64)] |= 1ull << (number % 64);
    if (!eliciting)
        return;
    session->unacked++;
    p2p__ack_pace(node, session);
    if (session->unacked >= session->ack_every || gap || eliciting > 1) {
        session->ack_at_us = node->now_us;
        p2p__out_add(node, session);
    } else if (session->ack_at_us == P2P_NEVER) {
        session->ack_at_us = node->now_us + p2p__ack_delay_us(session);
    }
}

/* The next number at or below `number`, down to low, whose bit is `bit`; low - 1 when there is
 * none. */
static uint64_t p2p__seen_down(const p2p__session *session, uint64_t number, uint64_t low,
                               bool bit) {
    while (number + 1 > low) {
        uint64_t word = session->seen[(number / 64) % (P2P__WINDOW / 64)] ^ (bit ? 0 : ~0ull);
        uint32_t step = 32;
        word <<= 63 - number % 64;
        if (word == 0) {
            number -= number % 64 + 1;
            continue;
        }
        for (; step > 0; step /= 2) /* down by the leading zeros */
            if (word >> (64 - step) == 0) {
                word <<= step;
                number -= step;
            }
        return number + 1 > low ? number : low - 1;
    }
    return low - 1;
}

static uint32_t p2p__ack_ranges(const p2p__session *session, p2p__range *out) {
    uint64_t low = session->seen_top > P2P__WINDOW ? session->seen_top - P2P__WINDOW : 0;
    uint64_t at = session->seen_top - 1;
    uint32_t n = 0;
    while (n < P2P__ACK_RANGES && at + 1 > low) {
        at = p2p__seen_down(session, at, low, true);
        if (at + 1 <= low)
            break;
        out[n].last = at;
        at = p2p__seen_down(session, at, low, false);
        out[n++].first = at + 1;
    }
    return n;
}

/* Writes the ACK that is owed; in a packet of something else it rides along. */
static bool p2p__emit_ack(p2p_node *node, const p2p__session *session, p2p__writer *w) {
    p2p__range ranges[P2P__ACK_RANGES];
    uint32_t n;
    if (session->unacked == 0)
        return false;
    n = p2p__ack_ranges(session, ranges);
    if (n == 0)
        return false;
    p2p__put_ack(w, ranges, n, node->now_us - session->seen_top_us);
    if (w->bad) { /* and nothing of it was written */
        w->bad = 0;
        return false;
    }
    return true;
}

static void p2p__ack_sent(p2p_node *node, p2p__session *session) {
    session->unacked = 0;
    session->ack_at_us = P2P_NEVER;
    p2p__count(node, P2P_METRIC_acks_sent, 1);
}

/* ==== >>channel ====
 * Envelopes, session ids, admission and RETRY: what stands before a handshake costs anything.
 * Always: nothing is answered to whoever does not know the responder's key; no secure session
 *         exists for a caller before it is admitted.
 * Covered by tests/unit/test_channel.c, tests/sim/test_fire.c. */
enum p2p__datagram_type {
    P2P__TO_SERVER = 0xb0,
    P2P__TO_CLIENT = 0xb1,
    P2P__RETRY = 0xb2,
    P2P__TO_SERVER_COOKIE = 0xb3,
    P2P__DATA_TO_SERVER = 0xb4,
    P2P__DATA_TO_CLIENT = 0xb5
};
static const p2p_secure_api *p2p__secure(const p2p_node *node) {
    return P2P_SECURE_OF(&node->desc.secure);
}
static void *p2p__secure_ctx(const p2p_node *node) { return node->desc.secure.ctx; }
static size_t p2p__prefix_bytes(const p2p_node *node) { return p2p__secure(node)->prefix ? 1 : 0; }
/* PSK and tag key of a responder: known to all who know its NodeId. */
static int p2p__envelope_keys(const p2p_node *node, const p2p_id *responder, uint8_t psk[32],
                              uint8_t tag_key[32]) {
    static const char label[] = "p2p.h/envelope/v1";
    uint8_t root[32], length = (uint8_t)strlen(node->network);
    const void *parts[4];
    size_t sizes[4];
    int err;
    parts[0] = label, sizes[0] = sizeof label; /* with its NUL */
    parts[1] = &length, sizes[1] = 1;
    parts[2] = node->network, sizes[2] = length;
    parts[3] = responder->bytes, sizes[3] = 32;
    err = p2p__sha256(&node->desc.crypto, parts, sizes, 4, root);
    parts[0] = "psk", sizes[0] = 3;
    if (err >= 0)
        err = p2p__hmac(&node->desc.crypto, root, 32, parts, sizes, 1, psk);
    parts[0] = "mac1", sizes[0] = 4;
    if (err >= 0)
        err = p2p__hmac(&node->desc.crypto, root, 32, parts, sizes, 1, tag_key);
    return err;
}

/* The tag covers type and id, and all behind the tag. */
static int p2p__envelope_tag(const p2p_node *node, const uint8_t key[32], const uint8_t *datagram,
                             size_t size, uint8_t tag[16]) {
    const void *parts[2];
    size_t sizes[2];
    uint8_t mac[32];
    int err;
    P2P_ASSERT(size >= P2P__ENVELOPE_HEAD);
    parts[0] = datagram, sizes[0] = P2P__DATA_HEAD;
    parts[1] = datagram + P2P__ENVELOPE_HEAD, sizes[1] = size - P2P__ENVELOPE_HEAD;
    err = p2p__hmac(&node->desc.crypto, key, 32, parts, sizes, 2, mac);
    P2P_MEMCPY(tag, mac, 16);
    return err;
}

static bool p2p__envelope_tag_good(p2p_node *node, const uint8_t key[32], const uint8_t *datagram,
                                   size_t size) {
    uint8_t tag[16];
    if (p2p__envelope_tag(node, key, datagram, size, tag) >= 0 &&
        p2p__ct_equal(tag, datagram + P2P__DATA_HEAD, 16))
        return true;
    p2p__count(node, P2P_METRIC_drop_bad_tag, 1);
    return false;
}

/* The node's ALPNs that somebody listens to, a bit each. */
static uint32_t p2p__alpn_listening(const p2p_node *node) {
    uint32_t i, mask = 0;
    for (i = 0; i < node->listeners.count; i++) {
        const p2p__listener *l = (const p2p__listener *)p2p__pool_at(&node->listeners, i);
        if (p2p__slot_live(l))
            mask |= l->any ? (1u << node->alpn_count) - 1u : 1u << l->alpn;
    }
    return mask;
}

static bool p2p__all_zero(const uint8_t *bytes, size_t size) {
    uint8_t any = 0;
    size_t i;
    for (i = 0; i < size; i++)
        any |= bytes[i];
    return any == 0;
}

/* ---- sessions by id */
static uint32_t p2p__session_hash(const p2p_node *node, const uint8_t id[8], bool server) {
    return ((uint32_t)p2p__hash64(node->hash_key, id, 8) + (server ? 1u : 0u)) &
           node->session_hash_mask;
}

static p2p__session *p2p__session_find(const p2p_node *node, const uint8_t id[8], bool server) {
    uint16_t at = node->session_hash[p2p__session_hash(node, id, server)];
    while (at != P2P__NIL) {
        p2p__session *session = p2p__session_at(node, at);
        if ((session->server != 0) == server && P2P_MEMCMP(session->id, id, 8) == 0)
            return session;
        at = session->hash_next;
    }
    return NULL;
}

static void p2p__session_unhash(p2p_node *node, p2p__session *session) {
    uint16_t *at = &node->session_hash[p2p__session_hash(node, session->id, session->server != 0)];
    while (*at != P2P__NIL && *at != p2p__session_index(node, session))
        at = &p2p__session_at(node, *at)->hash_next;
    if (*at != P2P__NIL)
        *at = session->hash_next;
}

static bool p2p__session_shaking(const p2p__session *session) {
    return session->state == P2P__SESSION_HANDSHAKE;
}

/* The secure channel is over; what is left is the record of it, which p2p__session_free gives
 * back. */
static void p2p__session_down(p2p_node *node, p2p__session *session) {
    if (session->state == P2P__SESSION_DOWN)
        return;
    if (session->state < P2P__SESSION_OPEN)
        node->half_open[session->server]--;
    if (session->server && session->state == P2P__SESSION_HANDSHAKE)
        node->unproven--;
    session->state = P2P__SESSION_DOWN;
    p2p__out_drop(node, session);
    p2p__heap_set(node, P2P__REF_SESSION | p2p__session_index(node, session), 0);
}

static void p2p__session_free(p2p_node *node, p2p__session *session) {
    uint32_t kind;
    P2P_ASSERT(session->state == P2P__SESSION_DOWN && session->conn == P2P__NIL);
    p2p__packets_clear(node, session);
    p2p__out_drop(node, session);
    for (kind = 0; kind < P2P__KINDS && session->holds_grant; kind++)
        node->granted -= (uint32_t)session->mine.max_streams[kind];
    if (session->holds_grant)
        p2p__grant_starved(node);
    p2p__secure(node)->end(p2p__secure_ctx(node), session->slab);
    p2p__session_unhash(node, session);
    p2p__heap_set(node, P2P__REF_SESSION | p2p__session_index(node, session), P2P_NEVER);
    p2p__pool_give(&node->sessions, session);
}

/* The session that gives way to a new one: over, or draining, or one that has said its CLOSE. */
static bool p2p__session_evict(p2p_node *node) {
    p2p__session *best = NULL;
    uint32_t rank, best_rank = 0;
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s->conn != P2P__NIL)
            continue;
        rank = s->state == P2P__SESSION_DOWN                            ? 3
               : s->state == P2P__SESSION_DRAINING                      ? 2
               : s->state == P2P__SESSION_CLOSING && s->close_count > 0 ? 1
                                                                        : 0;
        if (rank > best_rank || (rank && rank == best_rank && s->born_us < best->born_us)) {
            best = s;
            best_rank = rank;
        }
    }
    if (!best)
        return false;
    p2p__session_down(node, best);
    p2p__session_free(node, best);
    return true;
}

static bool p2p__addr_same_source(const p2p_addr *a, const p2p_addr *b) {
    return a->family == b->family && P2P_MEMCMP(a->ip, b->ip, a->family == 4 ? 4 : 8) == 0;
}

/* The oldest caller without a second flight gives way; one with a cookie only when it had time for
 * it, since its first flight may be one of somebody else's, heard on the way and sent again. from:
 * only one of that source. */
static bool p2p__unproven_evict(p2p_node *node, const p2p_addr *from) {
    p2p__session *best = NULL;
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (!s->server || !p2p__session_shaking(s) ||
            (s->proven && node->now_us - s->born_us < P2P__YIELD_US) ||
            (from && !p2p__addr_same_source(&s->remote, from)))
            continue;
        if (!best || s->born_us < best->born_us)
            best = s;
    }
    if (!best)
        return false;
    p2p__count(node, P2P_METRIC_half_open_evicted, 1);
    p2p__session_down(node, best);
    p2p__session_free(node, best);
    return true;
}

/* How many streams of each kind a new session's HELLO promises: half of what can be given, most
 * of it to requests. The others wait for a round trip: see p2p__grant_size. */
static void p2p__session_grant(p2p_node *node, p2p__session *session) {
    static const uint8_t order[P2P__KINDS] = {P2P__KIND_REQUEST, P2P__KIND_BIDI, P2P__KIND_UNI};
    uint32_t i, left = node->desc.max.peer_streams_per_conn, more;
    left -= left > 0; /* the last one goes to whoever waits */
    for (i = 1 - P2P__ROUTER; i < P2P__KINDS; i++) {
        more = P2P__MIN((p2p__grantable(node) + 1) / 2, (left + 1) / 2);
        session->mine.max_streams[order[i]] = more;
        node->granted += more;
        left -= more;
    }
    session->holds_grant = 1;
}

static void p2p__session_offer(p2p_node *node, p2p__session *session) {
    const p2p_desc *d = &node->desc;
    p2p__limits *m = &session->mine;
    m->max_packet = node->packet_max;
    m->max_data = p2p__conn_window(node);
    m->stream_theirs = m->stream_uni = p2p__window_start(d->bytes.peer_recv);
    m->stream_ours = p2p__window_start(d->bytes.stream_recv);
    m->message_max = d->bytes.message_max;
    m->messages = d->bytes.message_max ? p2p__window_start(d->bytes.message_recv) : 0;
    m->datagram_max = d->max.datagrams_in ? d->bytes.datagram_max : 0;
    m->idle_us = d->time.idle_us;
    p2p__session_grant(node, session);
}

static p2p__session *p2p__session_take(p2p_node *node, bool server, const uint8_t id[8],
                                       bool evict_unproven) {
    p2p__session *session;
    uint16_t *hash;
    if (node->sessions.used == node->sessions.count && !p2p__session_evict(node) &&
        !(evict_unproven && p2p__unproven_evict(node, NULL)))
        return NULL;
    session = (p2p__session *)p2p__pool_take(&node->sessions);
    session->slab = node->slabs + node->slab_bytes * p2p__session_index(node, session);
    session->server = server;
    session->heap = session->conn = session->packet_first = session->packet_last = P2P__NIL;
    session->out_next = session->out_prev = P2P__NIL;
    session->deadline_us = session->ack_at_us = session->tick_us = P2P_NEVER;
    session->pmtu.timer_us = session->pmtu.number = P2P_NEVER;
    session->born_us = session->heard_us = session->spoke_us = node->now_us;
    session->alpn = P2P__ANY_ALPN;
    session->rtt.smoothed_us = P2P__FIRST_RTT_US;
    session->rtt.variance_us = P2P__FIRST_RTT_US / 2;
    session->ack_every = 2;
    session->skip_number = 32 + p2p__drbg_fast(&node->drbg) % 256;
    P2P_MEMCPY(session->id, id, 8);
    hash = &node->session_hash[p2p__session_hash(node, id, server)];
    session->hash_next = *hash;
    *hash = p2p__session_index(node, session);
    session->reorder = P2P__REORDER;
    p2p__cc_open(&session->cc, node->desc.congestion,
                 P2P__MIN(P2P__START_DATAGRAM, node->desc.link.mtu));
    p2p__session_offer(node, session);
    node->half_open[session->server]++;
    if (server)
        node->unproven++;
    return session;
}

static int p2p__session_begin(p2p_node *node, p2p__session *session, const uint8_t psk[32]) {
    p2p_secure_params params;
    int err;
    P2P_MEMSET(&params, 0, sizeof params);
    params.server = session->server;
    params.content = node->packet_max;
    params.timer_us = P2P__FIRST_RTT_US;
    P2P_MEMCPY(params.psk, psk, 32);
    params.random.ctx = &node->drbg;
    params.random.fill = p2p__drbg_fill;
    err = p2p__secure(node)->begin(p2p__secure_ctx(node), session->slab, node->slab_bytes, &params);
    p2p_wipe(&params, sizeof params);
    p2p__count(node, P2P_METRIC_handshakes_started, 1);
    if (err < 0) {
        p2p__log(&node->log, P2P__LOG_SECURE_FAILED);
        p2p__session_down(node, session);
    }
    return err;
}

/* ---- admission */
static size_t p2p__addr_bytes(const p2p_addr *addr, uint8_t out[19]) {
    size_t n = addr->family == 4 ? 4 : 16;
    out[0] = addr->family;
    P2P_MEMCPY(out + 1, addr->ip, n);
    out[n + 1] = (uint8_t)(addr->port >> 8);
    out[n + 2] = (uint8_t)addr->port;
    return n + 3;
}

static bool p2p__addr_equal(const p2p_addr *a, const p2p_addr *b) {
    return a->family == b->family && a->port == b->port && a->scope == b->scope &&
           P2P_MEMCMP(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}

static int p2p__cookie(p2p_node *node, uint32_t secret, const p2p_addr *from, const uint8_t id[8],
                       uint8_t out[P2P__COOKIE]) {
    uint8_t addr[19], mac[32];
    const void *parts[2];
    size_t sizes[2];
    int err;
    parts[0] = addr, sizes[0] = p2p__addr_bytes(from, addr);
    parts[1] = id, sizes[1] = 8;
    err = p2p__hmac(&node->desc.crypto, node->secret[secret], 32, parts, sizes, 2, mac);
    P2P_MEMCPY(out, mac, P2P__COOKIE);
    return err;
}

/* Secrets live a minute; the one before is still taken, so a cookie lives at least that long. */
static void p2p__secret_turn(p2p_node *node) {
    uint64_t age_us = node->now_us - node->secret_us;
    if (node->secret_made && age_us < P2P__COOKIE_LIFE_US)
        return;
    if (node->secret_made && age_us < 2u * P2P__COOKIE_LIFE_US)
        P2P_MEMCPY(node->secret[1], node->secret[0], 32);
    else if (p2p__drbg_fill(&node->drbg, node->secret[1], 32) < 0)
        p2p__random_failed(node);
    if (p2p__drbg_fill(&node->drbg, node->secret[0], 32) < 0)
        p2p__random_failed(node);
    node->secret_us = node->now_us;
    node->secret_made = 1;
}

static bool p2p__cookie_good(p2p_node *node, const p2p_addr *from, const uint8_t id[8],
                             const uint8_t *cookie) {
    uint8_t want[P2P__COOKIE];
    uint32_t i;
    p2p__secret_turn(node);
    for (i = 0; i < 2; i++)
        if (p2p__cookie(node, i, from, id, want) >= 0 && p2p__ct_equal(want, cookie, P2P__COOKIE))
            return true;
    p2p__count(node, P2P_METRIC_cookie_bad, 1);
    return false;
}

static bool p2p__token_take(p2p_node *node) {
    uint64_t full = 1000u * (uint64_t)P2P_ADMIT_PER_S,
             gained = (node->now_us - node->token_us) / 1000 * P2P_ADMIT_PER_S;
    if (gained) {
        node->tokens_milli = P2P__MIN(node->tokens_milli + gained, full);
        node->token_us = node->now_us;
    }
    if (node->tokens_milli < 1000)
        return false;
    node->tokens_milli -= 1000;
    return true;
}

static void p2p__retry_queue(p2p_node *node, const p2p_addr *from, const uint8_t id[8]) {
    if (node->retry_count == P2P__RETRIES)
        return; /* the caller repeats */
    node->retries[node->retry_count].remote = *from;
    node->retries[node->retry_count].local = node->in_local;
    node->retries[node->retry_count].socket = node->in_socket;
    P2P_MEMCPY(node->retries[node->retry_count++].id, id, 8);
}

static uint32_t p2p__source_count(const p2p_node *node, const p2p_addr *from) {
    uint32_t n = 0;
    for (const p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        n += s->server && p2p__session_shaking(s) && p2p__addr_same_source(&s->remote, from);
    }
    return n;
}

static bool p2p__gate_silent(p2p_node *node, const p2p_addr *from) {
    p2p_gate who;
    if (!node->desc.allow.fn)
        return true;
    P2P_MEMSET(&who, 0, sizeof who);
    who.from = from;
    who.conns = node->conns.used;
    who.half_open = node->half_open[1];
    return node->desc.allow.fn(node->desc.allow.ctx, &who) != 0;
}

static uint32_t p2p__drop(p2p_node *node, uint32_t metric) {
    p2p__count(node, metric, 1);
    p2p__log(&node->log, P2P__LOG_DATAGRAM_DROPPED);
    return 0;
}

/* The path of a session: where its peer is, and where here it came in. */
static void p2p__session_reached(const p2p_node *node, p2p__session *session,
                                 const p2p_addr *from) {
    session->remote = *from;
    session->local = node->in_local;
    session->socket = node->in_socket;
}

static bool p2p__dial_evict(p2p_node *node, const p2p_addr *from);
/* A first datagram whose tag is good: a new session, or NULL after it was dropped or answered by
 * RETRY. */
static p2p__session *p2p__admit(p2p_node *node, const p2p_addr *from, const uint8_t id[8],
                                const uint8_t *cookie) {
    bool proven = cookie && p2p__cookie_good(node, from, id, cookie);
    p2p__session *session;
    if (node->listeners.used == 0 || node->stopping)
        return (void)p2p__drop(node, P2P_METRIC_drop_no_listener), (p2p__session *)NULL;
    if (!p2p__gate_silent(node, from))
        return (void)p2p__drop(node, P2P_METRIC_drop_gate), (p2p__session *)NULL;
    if (!proven &&
        (p2p__source_count(node, from) >= P2P__PER_SOURCE ||
         node->half_open[1] >= node->desc.max.half_open ||
         node->unproven >= P2P__MAX(1u, node->sessions.count / 4) || !p2p__token_take(node))) {
        p2p__retry_queue(node, from, id); /* whoever spoofs an address does not get the cookie */
        return NULL;
    }
    if (proven)
        p2p__count(node, P2P_METRIC_retry_accepted, 1);
    if (p2p__source_count(node, from) >= P2P__PER_SOURCE && !p2p__unproven_evict(node, from))
        return (void)p2p__drop(node, P2P_METRIC_drop_source_limit), (p2p__session *)NULL;
    if (node->half_open[1] >= node->desc.max.half_open &&
        !(proven && p2p__unproven_evict(node, NULL)))
        return (void)p2p__drop(node, P2P_METRIC_drop_half_open_limit), (p2p__session *)NULL;
    session = p2p__session_take(node, true, id, proven);
    if (!session && p2p__dial_evict(node, from))
        session = p2p__session_take(node, true, id, proven);
    if (!session)
        return (void)p2p__drop(node, P2P_METRIC_drop_half_open_limit), (p2p__session *)NULL;
    p2p__session_reached(node, session, from);
    session->proven = proven;
    session->alpn_mask = (uint8_t)p2p__alpn_listening(node);
    return p2p__session_begin(node, session, node->psk) < 0 ? NULL : session;
}

/* ---- handshake datagrams that arrive */
static void p2p__session_up(p2p_node *node, p2p__session *session);
static void p2p__session_failed(p2p_node *node, p2p__session *session);

static void p2p__channel_feed(p2p_node *node, p2p__session *session, uint8_t *records,
                              size_t size) {
    int rc =
        p2p__secure(node)->feed(p2p__secure_ctx(node), session->slab, node->now_us, records, size);
    p2p__out_add(node, session);
    if (rc < 0) {
        p2p__count(node, P2P_METRIC_handshakes_failed, 1);
        if (session->state == P2P__SESSION_HANDSHAKE)
            p2p__session_failed(node, session);
        return;
    }
    if (rc == 1 && session->state == P2P__SESSION_HANDSHAKE)
        p2p__session_up(node, session);
}

static uint32_t p2p__to_server_input(p2p_node *node, uint8_t *data, size_t size,
                                     const p2p_addr *from) {
    size_t head = P2P__ENVELOPE_HEAD + (data[0] == P2P__TO_SERVER_COOKIE ? P2P__COOKIE : 0u);
    p2p__session *session = p2p__session_find(node, data + 1, true);
    if (size <= head)
        return p2p__drop(node, P2P_METRIC_drop_short);
    if (session && session->opened_record)
        return p2p__drop(node, P2P_METRIC_drop_late_envelope);
    if (session && !p2p__addr_equal(&session->remote, from))
        return p2p__drop(node, P2P_METRIC_drop_session_in_use);
    if (!p2p__envelope_tag_good(node, node->tag_key, data, size))
        return 0;
    if (!session)
        session = p2p__admit(node, from, data + 1,
                             head > P2P__ENVELOPE_HEAD ? data + P2P__ENVELOPE_HEAD : NULL);
    if (!session || session->state >= P2P__SESSION_CLOSING)
        return 1;
    session->bytes_in += size;
    session->held = 0;
    p2p__channel_feed(node, session, data + head, size - head);
    return 1;
}

static uint32_t p2p__retry_input(p2p_node *node, p2p__session *session, const uint8_t *data,
                                 size_t size) {
    if (size != P2P__ENVELOPE_HEAD + P2P__COOKIE || session->state != P2P__SESSION_HANDSHAKE ||
        session->answered || session->retried >= 3)
        return p2p__drop(node, P2P_METRIC_drop_late_envelope);
    session->retried++;
    session->has_cookie = 1;
    P2P_MEMCPY(session->cookie, data + P2P__ENVELOPE_HEAD, P2P__COOKIE);
    p2p__count(node, P2P_METRIC_retry_received, 1);
    p2p__log(&node->log, P2P__LOG_DIAL_RETRIED);
    session->flight_to = 0;
    (void)p2p__secure(node)->resend(p2p__secure_ctx(node), session->slab, node->now_us);
    p2p__out_add(node, session);
    return 1;
}

static uint32_t p2p__to_client_input(p2p_node *node, uint8_t *data, size_t size,
                                     const p2p_addr *from) {
    p2p__session *session = p2p__session_find(node, data + 1, false);
    if (!session)
        return p2p__drop(node, P2P_METRIC_drop_unknown_session);
    if (size <= P2P__ENVELOPE_HEAD)
        return p2p__drop(node, P2P_METRIC_drop_short);
    if (!p2p__envelope_tag_good(node, session->tag_key, data, size))
        return 0;
    if (data[0] == P2P__RETRY)
        return p2p__retry_input(node, session, data, size);
    if (session->opened_record || session->state >= P2P__SESSION_CLOSING)
        return p2p__drop(node, P2P_METRIC_drop_late_envelope);
    if (session->answered && !p2p__addr_equal(&session->remote, from))
        return p2p__drop(node, P2P_METRIC_drop_address);
    if (!session->answered) { /* the first valid answer fixes the path */
        session->answered = 1;
        session->flight_to = 0;
        p2p__session_reached(node, session, from);
    }
    p2p__channel_feed(node, session, data + P2P__ENVELOPE_HEAD, size - P2P__ENVELOPE_HEAD);
    return 1;
}

/* ---- datagrams that leave */
static size_t p2p__datagram_head(const p2p_node *node, uint8_t *out, uint32_t type,
                                 const uint8_t id[8]) {
    size_t prefix = p2p__prefix_bytes(node);
    if (prefix)
        out[0] = p2p__secure(node)->prefix;
    out[prefix] = (uint8_t)type;
    P2P_MEMCPY(out + prefix + 1, id, 8);
    return prefix + P2P__DATA_HEAD;
}

/* Puts the tag on a finished envelope of size bytes, prefix included. */
static size_t p2p__envelope_close(const p2p_node *node, const uint8_t key[32], uint8_t *out,
                                  size_t size) {
    size_t prefix = p2p__prefix_bytes(node);
    if (p2p__envelope_tag(node, key, out + prefix, size - prefix, out + prefix + P2P__DATA_HEAD) <
        0)
        return 0;
    return size;
}

static size_t p2p__retry_output(p2p_node *node, uint8_t *out, size_t room, p2p_addr *remote) {
    uint32_t at;
    size_t head;
    if (node->retry_count == 0 || room < P2P__ENVELOPE_HEAD + P2P__COOKIE + 1u)
        return 0;
    at = --node->retry_count;
    p2p__secret_turn(node);
    head = p2p__datagram_head(node, out, P2P__RETRY, node->retries[at].id) + 16;
    *remote = node->retries[at].remote;
    node->out_local = node->retries[at].local;
    node->out_socket = node->retries[at].socket;
    if (p2p__cookie(node, 0, remote, node->retries[at].id, out + head) < 0)
        return 0;
    p2p__count(node, P2P_METRIC_retry_sent, 1);
    return p2p__envelope_close(node, node->tag_key, out, head + P2P__COOKIE);
}

static bool p2p__addr_in_turn(const p2p__conn *conn, uint32_t at) {
    uint32_t i, least = 255;
    for (i = 0; i < conn->addr_count; i++)
        least = P2P__MIN(least, conn->addr_bad[i]);
    return conn->addr_bad[at] == least;
}

/* Where a dial's flight goes next: to every address that lied least, until one has answered. */
static bool p2p__flight_target(const p2p_node *node, p2p__session *session, p2p_addr *remote,
                               bool *more) {
    const p2p__conn *conn = p2p__conn_at(node, session->conn);
    uint32_t at = session->flight_to;
    *more = false;
    *remote = session->remote;
    if (session->server || session->answered || !conn)
        return session->server || session->answered;
    while (at < conn->addr_count && !p2p__addr_in_turn(conn, at))
        at++;
    if (at >= conn->addr_count) {
        session->flight_to = 0;
        return false;
    }
    *remote = conn->addrs[at];
    session->flight_to = (uint8_t)(at + 1);
    for (at++; at < conn->addr_count; at++)
        *more = *more || p2p__addr_in_turn(conn, at);
    return true;
}

/* The next handshake datagram of a session: its size, or 0. */
static size_t p2p__flight_output(p2p_node *node, p2p__session *session, uint8_t *out, size_t room,
                                 p2p_addr *remote) {
    uint32_t type = session->server       ? P2P__TO_CLIENT
                    : session->has_cookie ? P2P__TO_SERVER_COOKIE
                                          : P2P__TO_SERVER;
    size_t head;
    uint8_t target = session->flight_to;
    bool more;
    int n;
    if (session->opened_record || !p2p__flight_target(node, session, remote, &more))
        return 0;
    head = p2p__datagram_head(node, out, type, session->id) + 16;
    if (type == P2P__TO_SERVER_COOKIE) {
        P2P_MEMCPY(out + head, session->cookie, P2P__COOKIE);
        head += P2P__COOKIE;
    }
    room = P2P__MIN(room, P2P__ENVELOPE_MAX + p2p__prefix_bytes(node));
    if (session->server && session->state == P2P__SESSION_HANDSHAKE && !session->proven) {
        session->held = session->bytes_out + head + 64 > 3 * session->bytes_in;
        if (session->held)
            return (size_t)p2p__drop(node, P2P_METRIC_drop_amplification);
        room = (size_t)P2P__MIN((uint64_t)room, 3 * session->bytes_in - session->bytes_out);
    }
    n = p2p__secure(node)->flight(p2p__secure_ctx(node), session->slab, node->now_us, out + head,
                                  room - head, more);
    if (n <= 0) {
        session->flight_to = n < 0 ? (uint8_t)0 : target;
        if (n < 0 && session->state == P2P__SESSION_HANDSHAKE)
            p2p__session_failed(node, session);
        return 0;
    }
    if (!more)
        session->flight_to = 0;
    session->bytes_out += head + (size_t)n;
    session->spoke_us = node->now_us;
    return p2p__envelope_close(node, session->server ? node->tag_key : session->tag_key, out,
                               head + (size_t)n);
}

/* ==== >>path ====
 * Where a peer can be reached: addresses of a dial, and which are tried.
 * Always: an address whose proof failed is tried only when no other is left.
 * Covered by tests/sim/test_fire.c (a fast liar). */
static bool p2p__path_has(const p2p__conn *conn, const p2p_addr *addr) {
    uint32_t i = 0;
    while (i < conn->addr_count && !p2p__addr_equal(&conn->addrs[i], addr))
        i++;
    return i < conn->addr_count;
}

static void p2p__path_add(p2p__conn *conn, const p2p_addr *addr) {
    if ((addr->family != 4 && addr->family != 6) || addr->port == 0)
        return;
    if (conn->addr_count < P2P__DIAL_ADDRS && !p2p__path_has(conn, addr))
        conn->addrs[conn->addr_count++] = *addr;
}

/* ---- answers to PATH_CHALLENGE, which are sent once and never again */

/* The one that gives way: the oldest of the session that has most of the queue, so that a peer that
 * asks without end displaces nobody's question but its own. */
static uint32_t p2p__challenge_spare(const p2p_node *node) {
    uint32_t i, j, best = 0, most = 0;
    for (i = 0; i < P2P__CHALLENGES; i++) {
        uint32_t n = 0;
        for (j = 0; j < P2P__CHALLENGES; j++)
            n += node->challenges[j].session == node->challenges[i].session;
        if (n > most) {
            most = n;
            best = i;
        }
    }
    return best;
}

static void p2p__challenge_drop(p2p_node *node, uint32_t at) {
    node->challenge_count--;
    P2P_MEMMOVE(&node->challenges[at], &node->challenges[at + 1],
                (node->challenge_count - at) * sizeof node->challenges[0]);
}

/* A datagram gets one answer, where it came from. */
static void p2p__challenge_input(p2p_node *node, const p2p__session *session,
                                 const uint8_t *bytes) {
    p2p__challenge *c;
    if (node->challenge_count == P2P__CHALLENGES && node->in_bytes) {
        p2p__challenge_drop(node, p2p__challenge_spare(node));
        p2p__count(node, P2P_METRIC_challenges_dropped, 1);
    }
    if (!node->in_bytes) {
        p2p__count(node, P2P_METRIC_challenges_dropped, 1);
        return;
    }
    c = &node->challenges[node->challenge_count++];
    c->remote = node->in_remote;
    c->local = node->in_local;
    c->socket = node->in_socket;
    c->session = p2p__pool_id(&node->sessions, session);
    c->room = node->in_bytes;
    P2P_MEMCPY(c->bytes, bytes, 8);
    node->in_bytes = 0;
}

static void p2p__path_lied(p2p__conn *conn, const p2p_addr *addr) {
    uint32_t i;
    for (i = 0; i < conn->addr_count; i++)
        if (p2p__addr_equal(&conn->addrs[i], addr) && conn->addr_bad[i] < 250)
            conn->addr_bad[i]++;
}

static void p2p__path_learn(p2p_node *node, p2p__conn *conn, const p2p_ticket *ticket) {
    uint32_t i, had = conn->addr_count;
    for (i = 0; i < ticket->addr_count && i < P2P_TICKET_ADDRS; i++)
        p2p__path_add(conn, &ticket->addrs[i]);
    if (conn->addr_count == had)
        return;
    conn->retry_us = 0; /* at the next p2p_poll */
    p2p__conn_schedule(node, conn);
}

/* ==== >>session ====
 * HELLO and AUTH inside the channel: who is there, proved by a signature over the channel's
 * binding.
 * Always: the server proves itself first; the client's identity leaves only to the key that was
 *         dialled; one text is signed a role.
 * Covered by tests/behaviour/cases_conn.h, tests/sim/test_fire.c; docs/model/ has the proof. */
static p2p_str p2p__alpn(const p2p_node *node, uint32_t index) {
    p2p_str s;
    s.data = node->alpn[index];
    s.size = strlen(node->alpn[index]);
    return s;
}

/* Our HELLO's body: the same bytes whenever it is asked for, since both sides hash it. */
static size_t p2p__hello_body(const p2p_node *node, const p2p__session *session, uint8_t *out,
                              size_t room) {
    p2p__hello h;
    p2p__writer w = p2p__writer_of(out, room);
    const p2p__limits *m = &session->mine;
    uint32_t i;
    P2P_MEMSET(&h, 0, sizeof h);
    h.version_count = 1;
    h.versions[0] = P2P_WIRE_VERSION;
    for (i = 0; i < node->alpn_count; i++)
        if (session->alpn_mask >> i & 1)
            h.alpn[h.alpn_count++] = p2p__alpn(node, i);
    h.param[P2P__PARAM_MAX_PACKET] = m->max_packet;
    h.param[P2P__PARAM_MAX_DATA] = m->max_data;
    h.param[P2P__PARAM_STREAM_DATA_THEIRS] = m->stream_theirs;
    h.param[P2P__PARAM_STREAM_DATA_OURS] = m->stream_ours;
    h.param[P2P__PARAM_STREAM_DATA_UNI] = m->stream_uni;
    h.param[P2P__PARAM_STREAM_DATA_MESSAGES] = m->messages;
    for (i = 0; i < P2P__KINDS; i++)
        h.param[P2P__PARAM_MAX_STREAMS_BIDI + i] = m->max_streams[i];
    h.param[P2P__PARAM_MESSAGE_MAX] = m->message_max;
    h.param[P2P__PARAM_DATAGRAM_MAX] = m->datagram_max;
    h.param[P2P__PARAM_IDLE_US] = m->idle_us;
    p2p__put_hello(&w, &h);
    P2P_ASSERT(!w.bad);
    return room - (size_t)(w.end - w.at);
}

#define P2P__HELLO_BYTES 480u /* 8 ALPNs of 33 bytes, versions, and 12 parameters of at most 9 */

/* The text a role signs. */
static int p2p__auth_text(const p2p_node *node, const p2p__session *session, bool server,
                          const p2p_id *signer, const p2p_id *peer,
                          uint8_t out[14 + 1 + 32 + 32 + 32 + 32]) {
    P2P_MEMCPY(out, "p2p.h/auth/v1", 14);
    out[14] = server;
    P2P_MEMCPY(out + 15, session->transcript[server ? 0 : 1], 32);
    P2P_MEMCPY(out + 47, signer->bytes, 32);
    if (server)
        P2P_MEMSET(out + 79, 0, 32); /* it does not know the caller yet */
    else
        P2P_MEMCPY(out + 79, peer->bytes, 32);
    return p2p__secure(node)->binding(p2p__secure_ctx(node), session->slab, out + 111);
}

static int p2p__auth_sign(p2p_node *node, p2p__session *session) {
    uint8_t text[143], body[P2P__HELLO_BYTES];
    const void *part = body;
    size_t size;
    int err = 0;
    if (session->signed_auth)
        return 0;
    if (session->server) {
        size = p2p__hello_body(node, session, body, sizeof body);
        err = p2p__sha256(&node->desc.crypto, &part, &size, 1, session->transcript[0]);
    }
    if (err >= 0)
        err = p2p__auth_text(node, session, session->server != 0, &node->key.id, &session->peer,
                             text);
    if (err >= 0)
        err = P2P_CRYPTO_OF(&node->desc.crypto)
                  ->sign(node->desc.crypto.ctx, node->key.seed, text, sizeof text,
                         session->signature);
    session->signed_auth = err >= 0;
    return err;
}

/* The channel is up: the server proves itself unasked; the client waits for that. */
static void p2p__session_up(p2p_node *node, p2p__session *session) {
    uint64_t took = node->now_us - session->born_us;
    P2P_ASSERT(session->state == P2P__SESSION_HANDSHAKE);
    p2p__count(node, P2P_METRIC_handshakes_done, 1);
    if (session->server)
        node->unproven--;
    session->state = P2P__SESSION_PROVING;
    session->handshake_us = took;
    took = P2P__MAX(node->now_us - session->spoke_us, 1000u); /* since the last flight */
    session->rtt.smoothed_us = P2P__MIN(took, P2P__FIRST_RTT_US * 2);
    session->rtt.variance_us = session->rtt.smoothed_us * 3 / 8; /* as after two equal samples */
    p2p__cc_begin(&session->cc, session->rtt.smoothed_us);
    session->proof_by_us = node->now_us + P2P__MAX(1000000u, 3 * session->handshake_us);
    if (session->server) {
        session->proof_by_us = node->now_us + P2P__UNPROVEN_LIFE_US * 2;
        session->control |= P2P__CONTROL_HELLO | P2P__CONTROL_AUTH;
    }
    p2p__out_add(node, session);
}

/* ---- what the peer's HELLO says */
static void p2p__limits_read(const p2p__hello *h, p2p__limits *t) {
    uint32_t i;
    t->max_packet = h->param[P2P__PARAM_MAX_PACKET];
    t->max_data = h->param[P2P__PARAM_MAX_DATA];
    t->stream_theirs = h->param[P2P__PARAM_STREAM_DATA_THEIRS];
    t->stream_ours = h->param[P2P__PARAM_STREAM_DATA_OURS];
    t->stream_uni = h->param[P2P__PARAM_STREAM_DATA_UNI];
    t->messages = h->param[P2P__PARAM_STREAM_DATA_MESSAGES];
    for (i = 0; i < P2P__KINDS; i++)
        t->max_streams[i] = h->param[P2P__PARAM_MAX_STREAMS_BIDI + i];
    t->message_max = h->param[P2P__PARAM_MESSAGE_MAX];
    t->datagram_max = h->param[P2P__PARAM_DATAGRAM_MAX];
    t->idle_us = h->param[P2P__PARAM_IDLE_US];
}

/* Both offers give one outcome: the highest common version, the first ALPN of the client's list
 * that the server has. */
static void p2p__hello_agree(const p2p_node *node, p2p__session *session, const p2p__hello *h) {
    uint32_t i, j;
    session->refusal = P2P__CODE_NO_VERSION;
    for (i = 0; i < h->version_count; i++)
        if (h->versions[i] == P2P_WIRE_VERSION)
            session->refusal = P2P__CODE_NO_ALPN;
    if (session->refusal == P2P__CODE_NO_VERSION)
        return;
    for (i = 0; i < (session->server ? h->alpn_count : node->alpn_count) && session->refusal; i++)
        for (j = 0; j < (session->server ? node->alpn_count : h->alpn_count) && session->refusal;
             j++) {
            uint32_t own = session->server ? j : i, theirs = session->server ? i : j;
            if (session->alpn_mask >> own & 1 && p2p_str_equal(h->alpn[theirs], node->alpn[own])) {
                session->alpn = (uint8_t)own;
                session->refusal = 0;
            }
        }
}

/* false: the session is to be closed. */
static bool p2p__hello_input(p2p_node *node, p2p__session *session, p2p_span body) {
    uint8_t own[P2P__HELLO_BYTES], hash[32];
    const void *parts[2];
    size_t sizes[2];
    p2p__hello h;
    parts[0] = body.data, sizes[0] = body.size;
    if (p2p__sha256(&node->desc.crypto, parts, sizes, 1, hash) < 0)
        return false;
    if (session->peer_hello)
        return p2p__ct_equal(hash, session->hello_hash, 32);
    if (p2p__hello_get(body, &h) < 0 || h.param[P2P__PARAM_MAX_PACKET] < 512) {
        p2p__count(node, P2P_METRIC_hello_bad, 1);
        return false;
    }
    P2P_MEMCPY(session->hello_hash, hash, 32);
    if (!session->server)
        P2P_MEMCPY(session->transcript[0], hash, 32);
    parts[session->server ? 0 : 1] = body.data;
    sizes[session->server ? 0 : 1] = body.size;
    parts[session->server ? 1 : 0] = own;
    sizes[session->server ? 1 : 0] = p2p__hello_body(node, session, own, sizeof own);
    if (p2p__sha256(&node->desc.crypto, parts, sizes, 2, session->transcript[1]) < 0)
        return false;
    p2p__limits_read(&h, &session->theirs);
    p2p__hello_agree(node, session, &h);
    session->peer_hello = 1;
    return true;
}

static bool p2p__auth_good(p2p_node *node, p2p__session *session, const uint8_t *bytes) {
    uint8_t text[143];
    p2p_id id;
    P2P_MEMCPY(id.bytes, bytes, 32);
    if (!session->peer_hello || p2p__id_check(&id) < 0 || p2p_id_equal(&id, &node->key.id))
        return false;
    if (!session->server && !p2p_id_equal(&id, &session->peer))
        return false;
    if (p2p__auth_text(node, session, !session->server, &id, &node->key.id, text) < 0)
        return false;
    if (P2P_CRYPTO_OF(&node->desc.crypto)
            ->verify(node->desc.crypto.ctx, &id, text, sizeof text, bytes + 32) < 0)
        return false;
    session->peer = id;
    return true;
}

/* ==== >>conn ====
 * What the application holds: dials, accepted peers, their end; and the packets that carry all of
 * it.
 * Always: states move along p2p__conn_moves only; DISCONNECTED is told once, after CLOSED of the
 *         streams it ended.
 * Covered by tests/behaviour/cases_conn.h. */
static const uint8_t p2p__conn_moves[5] = {
    /* WAITING  */ 1 << P2P__CONN_DIALLING | 1 << P2P__CONN_OPEN | 1 << P2P__CONN_DOWN,
    /* DIALLING */ 1 << P2P__CONN_WAITING | 1 << P2P__CONN_OPEN | 1 << P2P__CONN_DOWN,
    /* OPEN     */ 1 << P2P__CONN_WAITING | 1 << P2P__CONN_FLUSHING | 1 << P2P__CONN_DOWN,
    /* FLUSHING */ 1 << P2P__CONN_DOWN,
    /* DOWN     */ 0};
static void p2p__conn_go(p2p__conn *conn, uint32_t state) {
    P2P_ASSERT(p2p__conn_moves[conn->state] >> state & 1);
    conn->state = (uint8_t)state;
}

static p2p__conn *p2p__conn_get(const p2p_node *node, p2p_conn handle) {
    p2p__conn *conn = (p2p__conn *)p2p__pool_get(&node->conns, handle.id);
    return conn && !conn->given ? conn : NULL;
}

/* The connection of a handle that a caller gave; also the check of the node itself. */
static int p2p__conn_for(const p2p_node *node, p2p_conn handle, p2p__conn **out) {
    if (!node)
        return P2P_ERR_ARG;
    *out = p2p__conn_get(node, handle);
    return *out ? P2P_OK : p2p__fail(node, P2P_ERR_HANDLE, "conn: stale, or of another node");
}

static p2p_conn p2p__conn_handle(const p2p_node *node, const p2p__conn *conn) {
    p2p_conn handle;
    handle.id = p2p__pool_id(&node->conns, conn);
    return handle;
}

/* Deadlines set from outside a driving call count from the next one: see p2p__clock. */
static uint64_t p2p__from_now(p2p_node *node, p2p__conn *conn, uint64_t us) {
    node->fresh = node->ticks;
    conn->ticks = node->ticks;
    return p2p__time_add(node->now_us, us);
}

static p2p__conn *p2p__conn_make(p2p_node *node, const p2p_id *peer) {
    p2p__conn *conn = (p2p__conn *)p2p__pool_take(&node->conns);
    p2p__stream *s;
    uint32_t i;
    if (!conn)
        return NULL;
    conn->session = conn->heap = conn->accept_next = conn->stream_first = conn->listener = P2P__NIL;
    conn->stream_accept_first = conn->stream_accept_last = conn->messages = P2P__NIL;
    for (i = 0; i <= P2P__PRIORITIES; i++)
        conn->send_first[i] = P2P__NIL;
    conn->deadline_us = conn->router_us = conn->connect_by_us = conn->flush_by_us = conn->retry_us =
        P2P_NEVER;
    conn->message_size = P2P_NEVER;
    conn->peer = *peer;
    conn->holders = 1;
    conn->alpn = P2P__ANY_ALPN;
    if (node->desc.bytes.message_max == 0)
        return conn;
    i = p2p__conn_index(node, conn);
    s = &node->streams[i];
    P2P_MEMSET(s, 0, sizeof *s);
    s->priority = 1;
    p2p__stream_rings(node, s, 0, i);
    p2p__stream_begin(node, s, conn, P2P__KIND_MESSAGES, 0);
    s->announced = 1;
    conn->messages = (uint16_t)i;
    return conn;
}

/* DISCONNECTED was given and the last stream read: the place is free. */
static void p2p__conn_free(p2p_node *node, p2p__conn *conn) {
    uint32_t ref = p2p__conn_index(node, conn);
    p2p__stream *s = p2p__messages(node, conn);
    P2P_ASSERT(conn->state == P2P__CONN_DOWN && conn->session == P2P__NIL);
    if (s) {
        p2p__chunks_abandon(node, s);
        p2p__chunks_orphan(node, s);
        p2p__ready_clear(node, p2p__stream_ref(node, s), 0xffff);
        p2p__stream_unlink(node, s);
        conn->messages = P2P__NIL;
    }
    P2P_ASSERT(conn->stream_first == P2P__NIL);
    p2p__datagrams_clear(node, conn);
    p2p__ready_clear(node, ref, 0xffff);
    p2p__heap_set(node, ref, P2P_NEVER);
    p2p__pool_give(&node->conns, conn);
}

static bool p2p__conn_spent(const p2p_node *node, const p2p__conn *conn) {
    return conn->given && (conn->stream_first == P2P__NIL ||
                           (conn->stream_first == conn->messages &&
                            node->streams[conn->messages].conn_next == P2P__NIL));
}

/* ---- attaching a connection to a session, and taking it off */
static void p2p__conn_attach(p2p_node *node, p2p__conn *conn, p2p__session *session) {
    const p2p__limits *theirs = &session->theirs;
    uint32_t kind;
    uint16_t at;
    P2P_ASSERT(!conn->attached && session->peer_proved && session->holds_grant);
    conn->session = p2p__session_index(node, session);
    session->conn = p2p__conn_index(node, conn);
    conn->attached = 1;
    conn->alpn = session->alpn;
    session->holds_grant = 0;
    conn->send_limit = theirs->max_data;
    conn->recv_limit = conn->recv_window = session->mine.max_data;
    for (kind = 0; kind < P2P__KINDS; kind++) {
        conn->taken_limit[kind] = session->mine.max_streams[kind];
        conn->made_limit[kind] = theirs->max_streams[kind];
    }
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next) {
        p2p__stream_limits(&node->streams[at], theirs);
        p2p__send_list(node, &node->streams[at]);
    }
    if (P2P__MESSAGES &&
        conn->messages != P2P__NIL) { /* messages of before may lie in the ring: of what a callee
                                         offered too much is not acknowledged, and comes again */
        p2p__stream *s = p2p__messages(node, conn);
        s->recv.window = p2p__window_start(s->recv.room);
        s->recv.limit = s->recv.base + session->mine.messages;
        p2p__recv_window(node, s);
    }
}

/* The session is gone or given up; nothing the peer has confirmed may be lost by it, so only a
 * dial, or an end, does this. */
static void p2p__conn_detach(p2p_node *node, p2p__conn *conn) {
    p2p__session *session = p2p__session_at(node, conn->session);
    uint16_t at;
    if (!session)
        return;
    p2p__packets_clear(node, session);
    session->conn = P2P__NIL;
    conn->session = P2P__NIL;
    if (!conn->attached)
        return;
    if (P2P__RETURNS && conn->reconnect &&
        conn->state == P2P__CONN_OPEN) { /* the next dial begins there */
        P2P_MEMSET(conn->addr_bad, 0, sizeof conn->addr_bad);
        conn->addrs[0] = session->remote;
        conn->addr_count = 1;
    }
    conn->attached = 0;
    node->granted -= (uint32_t)p2p__conn_promised(conn);
    P2P_MEMSET(conn->taken_limit, 0, sizeof conn->taken_limit);
    P2P_MEMCPY(conn->taken_limit, conn->taken, sizeof conn->taken_limit);
    P2P_MEMSET(conn->made_limit, 0, sizeof conn->made_limit);
    conn->send_limit = conn->send_total;
    p2p__grant_starved(node);
    if (conn->state >= P2P__CONN_OPEN || conn->confirmed)
        return;
    conn->send_total = conn->send_limit = 0;
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next)
        p2p__send_rewind(node, &node->streams[at]);
}

/* ---- the end */

/* A stream whose connection is lost: what had arrived whole stays readable; for the rest,
 * CLOSED. */
static void p2p__stream_lost(p2p_node *node, p2p__stream *s) {
    bool unfinished = s->send.state == P2P__SEND_OPEN || s->send.state == P2P__SEND_FINISHING ||
                      s->recv.state == P2P__RECV_OPEN;
    p2p__chunks_abandon(node, s);
    s->send.want_reset = s->recv.want_stop = s->recv.want_max = 0;
    s->recv.base = P2P_NEVER;
    s->send.acked = s->send.sent = s->send.end;
    s->x_deadline_us = P2P_NEVER;
    p2p__stream_unhash(node, s); /* the next session has one of the same number, perhaps */
    if (s->send.state != P2P__SEND_NONE)
        s->send.state = P2P__SEND_DONE;
    if (unfinished && s->err == 0)
        s->err = P2P_ERR_CLOSED;
    if (s->recv.state == P2P__RECV_OPEN) {
        p2p__recv_drop(node, s, P2P__RECV_DONE);
        s->recv.final = P2P_NEVER; /* what is missing never comes: no reader may see the end */
    }
    p2p__ready_clear(node, p2p__stream_ref(node, s), P2P__EV_WRITABLE);
    p2p__send_unlist(node, s);
    p2p__recv_ended(node, s);
    p2p__stream_settle(node, s);
}

static void p2p__accept_unlink(p2p_node *node, p2p__conn *conn) {
    p2p__listener *l = conn->listener == P2P__NIL
                           ? NULL
                           : (p2p__listener *)p2p__pool_at(&node->listeners, conn->listener);
    uint16_t index = p2p__conn_index(node, conn), last = P2P__NIL, *at;
    if (!conn->accepting || !l)
        return;
    for (at = &l->accept_first; *at != P2P__NIL && *at != index;
         at = &p2p__conn_at(node, *at)->accept_next)
        last = *at;
    *at = conn->accept_next;
    if (l->accept_last == index)
        l->accept_last = last;
    l->waiting--;
    conn->accepting = 0;
}

static void p2p__streams_lost(p2p_node *node, p2p__conn *conn) {
    uint16_t at, next;
    for (at = conn->stream_first; at != P2P__NIL; at = next) {
        next = node->streams[at].conn_next;
        if (at != conn->messages && !p2p__stream_past(&node->streams[at]))
            p2p__stream_lost(node, &node->streams[at]);
    }
}

static void p2p__conn_words(p2p__conn *conn, uint32_t code, p2p_str reason) {
    conn->code = code;
    conn->reason_size = (uint8_t)P2P__MIN(reason.size, (size_t)P2P__REASON_BYTES);
    if (conn->reason_size)
        P2P_MEMCPY(conn->reason, reason.data, conn->reason_size);
}

/* ---- breaks that the handle outlives */

/* How long until the next dial: twice as long after each setback, so that a peer that lets in and
 * breaks at once keeps nobody busy; and never for many at the same moment. */
static uint64_t p2p__redial_us(p2p_node *node, p2p__conn *conn) {
    uint32_t us = P2P__MIN(P2P__REDIAL_US << P2P__MIN(conn->setbacks, 9u), P2P__REDIAL_MAX_US);
    conn->setbacks = (uint8_t)P2P__MIN(conn->setbacks + 1u, 255u);
    return us - us / 4 + p2p__drbg_fast(&node->drbg) % (us / 2);
}

/* What the session promised ends with it, and the handle waits for the next one: its streams end
 * with CLOSED, datagrams are dropped, messages wait. */
static void p2p__conn_break(p2p_node *node, p2p__conn *conn, uint32_t code, p2p_str reason) {
    const p2p_ticket *known = p2p__peer_find(node, &conn->peer);
    p2p__stream *messages = p2p__messages(node, conn);
    if (conn->state == P2P__CONN_OPEN && node->now_us - conn->opened_us >= P2P__LIVED_US)
        conn->setbacks = 0;
    p2p__conn_go(conn, P2P__CONN_WAITING);
    node->waiting_dials++;
    p2p__count(node, P2P_METRIC_conns_broken, 1);
    p2p__log(&node->log, P2P__LOG_BROKEN);
    p2p__conn_words(conn, code, reason);
    p2p__ready_clear(node, p2p__conn_index(node, conn), P2P__EV_CONNECTED);
    p2p__streams_lost(node, conn);
    if (messages) {
        p2p__messages_resend(node, conn, messages);
        p2p__messages_cut(node, conn, messages);
    }
    while (P2P__DATAGRAMS && conn->datagrams[1].count)
        p2p__datagram_drop(node, conn, true);
    conn->recv_total = conn->recv_taken = conn->send_total = conn->send_limit = conn->blocked = 0;
    P2P_MEMSET(conn->made, 0, sizeof conn->made);
    P2P_MEMSET(conn->taken, 0, sizeof conn->taken);
    P2P_MEMSET(conn->taken_limit, 0, sizeof conn->taken_limit);
    conn->confirmed = conn->wrong_proof = conn->starved = 0;
    conn->connect_by_us = P2P_NEVER;
    if (known)
        p2p__path_learn(node, conn, known);
    conn->retry_us = node->now_us + p2p__redial_us(node, conn);
    p2p__conn_schedule(node, conn);
}

/* One that was up once ends only by a call, or by what another dial would not change. */
static bool p2p__conn_outlives(const p2p_node *node, const p2p__conn *conn, int err) {
    return p2p__conn_returns(conn) && conn->state < P2P__CONN_FLUSHING && !node->stopping &&
           (err == P2P_ERR_TIMEOUT || err == P2P_ERR_CLOSED);
}

static void p2p__conn_down(p2p_node *node, p2p__conn *conn, int err, uint32_t code,
                           p2p_str reason) {
    p2p__stream *s = p2p__messages(node, conn);
    if (conn->state == P2P__CONN_DOWN)
        return;
    p2p__conn_detach(node, conn);
    if (p2p__conn_outlives(node, conn, err)) {
        p2p__conn_break(node, conn, code, reason);
        return;
    }
    if (conn->state == P2P__CONN_WAITING)
        node->waiting_dials--;
    p2p__conn_go(conn, P2P__CONN_DOWN);
    p2p__query_cancel_conn(node, p2p__pool_id(&node->conns, conn));
    conn->err = err;
    p2p__conn_words(conn, code, reason);
    p2p__accept_unlink(node, conn);
    p2p__streams_lost(node, conn);
    if (s)
        p2p__chunks_abandon(node, s); /* unread streams may keep the place, and these are few */
    if (P2P__MESSAGES && conn->sent_pending) {
        conn->sent_err = s->send.acked >= conn->sent_at ? P2P_OK : P2P_ERR_CLOSED;
        s->send.lent = NULL;
        s->send.acked = s->send.sent = s->send.end; /* and so needs no place any more */
        s->send.kept = 0;
        p2p__raise_conn(node, conn, P2P__EV_SENT);
    }
    /* Over before it was told, it has both events; only who closed its own dial does not ask. */
    p2p__ready_clear(
        node, p2p__conn_index(node, conn),
        (uint32_t)P2P__EV_WRITABLE |
            (conn->told || conn->incoming || err < 0 ? 0u : (uint32_t)P2P__EV_CONNECTED));
    if (!conn->told && conn->opened_us && err < 0) /* also when it was up before a break */
        p2p__raise_conn(node, conn, P2P__EV_CONNECTED);
    p2p__raise_conn(node, conn, P2P__EV_DISCONNECTED);
    p2p__conn_schedule(node, conn);
    p2p__log(&node->log, P2P__LOG_DISCONNECTED);
}

static p2p_str p2p__no_words(void) {
    p2p_str s = {NULL, 0};
    return s;
}

/* How long an ended session keeps its place: three probe timeouts, and not as long as a peer likes,
 * whose late ACKs are what the probe timeout is made from. */
static uint64_t p2p__linger_us(const p2p__session *session) {
    return 3 * P2P__MIN(p2p__pto_base_us(session), (uint64_t)P2P__PTO_MAX_US);
}

/* Leaves the session to say CLOSE for three probe timeouts; its connection is off it. */
static void p2p__session_close(p2p_node *node, p2p__session *session, uint32_t origin,
                               uint32_t code, p2p_str reason) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    if (session->state >= P2P__SESSION_CLOSING)
        return;
    if (conn)
        p2p__conn_detach(node, conn);
    if (session->state == P2P__SESSION_HANDSHAKE) { /* nothing can be said yet */
        p2p__session_down(node, session);
        return;
    }
    if (session->state < P2P__SESSION_OPEN)
        node->half_open[session->server]--;
    p2p__packets_clear(node, session);
    session->state = P2P__SESSION_CLOSING;
    session->close_origin = (uint8_t)origin;
    session->close_code = code;
    session->close_reason_size = (uint8_t)P2P__MIN(reason.size, (size_t)P2P__REASON_BYTES);
    if (session->close_reason_size)
        P2P_MEMCPY(session->close_reason, reason.data, session->close_reason_size);
    session->want_close = 1;
    session->tick_us = node->now_us + p2p__linger_us(session);
    p2p__out_add(node, session);
    p2p__heap_set(node, P2P__REF_SESSION | p2p__session_index(node, session), session->tick_us);
}

/* The same without words, for a reason of the protocol's own. */
static void p2p__session_end(p2p_node *node, p2p__session *session, uint32_t code) {
    p2p__session_close(node, session, 0, code, p2p__no_words());
}

static void p2p__session_drain(p2p_node *node, p2p__session *session) {
    if (session->state < P2P__SESSION_OPEN)
        node->half_open[session->server]--;
    p2p__packets_clear(node, session);
    session->state = P2P__SESSION_DRAINING;
    session->tick_us = node->now_us + p2p__linger_us(session);
    p2p__out_drop(node, session);
}

static void p2p__conn_end(p2p_node *node, p2p__conn *conn, uint32_t origin, uint32_t code,
                          p2p_str reason, int err) {
    p2p__session *session = p2p__session_at(node, conn->session);
    p2p__conn_detach(node, conn);
    if (session)
        p2p__session_close(node, session, origin, code, reason);
    p2p__conn_down(node, conn, err, code, reason);
}

/* The peer broke the protocol, or a limit of ours. */
static void p2p__conn_fault(p2p_node *node, p2p__conn *conn, uint32_t code, const char *reason) {
    p2p_str words = p2p_str_of(reason);
    bool limit = code == P2P__CODE_FLOW_CONTROL || code == P2P__CODE_STREAM_LIMIT;
    p2p__count(node, limit ? P2P_METRIC_flow_violations : P2P_METRIC_frames_bad, 1);
    p2p__log(&node->log, P2P__LOG_PROTOCOL_BROKEN);
    if (conn->state < P2P__CONN_DOWN)
        p2p__conn_end(node, conn, 0, code, words, P2P_ERR_PROTOCOL);
}

static void p2p__session_failed(p2p_node *node, p2p__session *session);
static void p2p__session_fault(p2p_node *node, p2p__session *session, uint32_t code,
                               const char *reason) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    if (conn && conn->attached && conn->state >= P2P__CONN_OPEN) {
        p2p__conn_fault(node, conn, code, reason);
        return;
    }
    p2p__count(node, P2P_METRIC_frames_bad, 1);
    if (conn)
        p2p__session_failed(node, session);
    else
        p2p__session_close(node, session, 0, code, p2p_str_of(reason));
}

/* ---- dialling */

/* What went out over this session may have arrived, and may not go out over another one. */
static bool p2p__conn_bound(p2p__conn *conn) {
    if (p2p__conn_returns(conn) && conn->attached && conn->send_total > 0)
        conn->confirmed = 1;
    return conn->confirmed;
}

/* An attempt is over without a connection: the dial goes on with a new one, until its deadline. */
static void p2p__session_failed(p2p_node *node, p2p__session *session) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    if (conn && p2p__conn_bound(conn)) {
        p2p__conn_end(node, conn, 0, P2P__CODE_NONE, p2p__no_words(), P2P_ERR_TIMEOUT);
        return;
    }
    if (conn) {
        uint64_t wait_us = 25000u << P2P__MIN(conn->attempts, 5u);
        p2p__conn_detach(node, conn);
        conn->retry_us = node->now_us + (p2p__conn_returns(conn)
                                             ? p2p__redial_us(node, conn)
                                             : wait_us / 2 + p2p__drbg_fast(&node->drbg) % wait_us);
        p2p__conn_go(conn, P2P__CONN_WAITING);
        node->waiting_dials++;
        p2p__count(node, P2P_METRIC_restarts, 1);
        p2p__conn_schedule(node, conn);
    }
    if (session->state >= P2P__SESSION_PROVING && session->state < P2P__SESSION_CLOSING)
        p2p__session_end(node, session, P2P__CODE_BAD_PROOF);
    else if (session->state == P2P__SESSION_HANDSHAKE)
        p2p__session_down(node, session);
}

/* Who is called may be calling, and find no place because of the call. Then one of both gives way:
 * who has not begun, or the dial of the higher NodeId, as its session would in the end. But only
 * every second attempt does, since such a caller has proved nothing. */
static void p2p__dial_later(p2p_node *node, p2p__conn *conn) {
    conn->retry_us = node->now_us + 2 * P2P__COLLAPSE_US;
    p2p__conn_schedule(node, conn);
}

/* An attempt that nobody answered gives its place to a caller from where it goes. */
static bool p2p__dial_evict(p2p_node *node, const p2p_addr *from) {
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        p2p__session *session = p2p__session_at(node, conn->session);
        if (conn->state != P2P__CONN_DIALLING || session->state != P2P__SESSION_HANDSHAKE ||
            session->answered || conn->attempts % 2 == 0 || !p2p__path_has(conn, from) ||
            P2P_MEMCMP(node->key.id.bytes, conn->peer.bytes, 32) < 0)
            continue;
        p2p__session_failed(node, session);
        p2p__dial_later(node, conn);
        return true;
    }
    return false;
}

/* No place is left but that of a caller from where the dial would go. */
static bool p2p__dial_called(const p2p_node *node, const p2p__conn *conn) {
    uint32_t i, n = 0;
    for (i = 0; i < conn->addr_count && node->sessions.used == node->sessions.count; i++)
        n += p2p__source_count(node, &conn->addrs[i]);
    return n > 0;
}

/* The peer's own dial has proved itself and waits only for our DONE to be acknowledged: this
 * dial will be that one. */
static bool p2p__dial_waits(const p2p_node *node, const p2p__conn *conn) {
    for (const p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s->state == P2P__SESSION_WAITING && s->waits == P2P__WAIT_DONE_ACKED &&
            p2p_id_equal(&s->peer, &conn->peer))
            return true;
    }
    return false;
}

/* Begins an attempt, if there is an address and a place for it. */
static void p2p__dial(p2p_node *node, p2p__conn *conn) {
    p2p__session *session;
    uint8_t id[8], psk[32];
    P2P_ASSERT(conn->state == P2P__CONN_WAITING);
    conn->retry_us = P2P_NEVER;
    if (conn->addr_count == 0)
        return;
    conn->retry_us = node->now_us + (p2p__conn_returns(conn) ? P2P__REDIAL_US : 20000u);
    if (p2p__dial_waits(node, conn))
        return;
    if (node->half_open[0] >= node->desc.max.half_open)
        return;
    if (conn->attempts % 2 == 0 && p2p__dial_called(node, conn)) {
        conn->attempts++;
        p2p__dial_later(node, conn);
        return;
    }
    if (p2p__drbg_fill(&node->drbg, id, sizeof id) < 0 || p2p__session_find(node, id, false))
        return;
    session = p2p__session_take(node, false, id, true);
    if (!session)
        return;
    session->peer = conn->peer;
    if (P2P__MESSAGES && conn->messages != P2P__NIL) { /* unread ones of before keep their room */
        const p2p__recv *r = &p2p__messages(node, conn)->recv;
        session->mine.messages = P2P__MIN(session->mine.messages, r->room - (r->here - r->read));
    }
    session->alpn_mask =
        (uint8_t)(conn->alpn == P2P__ANY_ALPN ? (1u << node->alpn_count) - 1u : 1u << conn->alpn);
    if (p2p__envelope_keys(node, &conn->peer, psk, session->tag_key) < 0 ||
        p2p__session_begin(node, session, psk) < 0) {
        p2p__session_down(node, session);
        p2p_wipe(psk, sizeof psk);
        return;
    }
    p2p_wipe(psk, sizeof psk);
    conn->attempts++;
    conn->session = p2p__session_index(node, session);
    session->conn = p2p__conn_index(node, conn);
    p2p__conn_go(conn, P2P__CONN_DIALLING);
    node->waiting_dials--;
    p2p__log(&node->log, P2P__LOG_DIALLING);
    p2p__out_add(node, session);
    if (p2p__conn_returns(conn))
        p2p__peer_ask(node, conn); /* it may be elsewhere by now */
}

static void p2p__conn_expired(p2p_node *node, p2p__conn *conn) {
    p2p__session *session = p2p__session_at(node, conn->session);
    int err = conn->wrong_proof ? P2P_ERR_AUTH : conn->err ? conn->err : P2P_ERR_TIMEOUT;
    p2p__conn_detach(node, conn);
    if (session)
        p2p__session_end(node, session, P2P__CODE_NONE);
    p2p__log(&node->log, P2P__LOG_DIAL_TIMEOUT);
    p2p__conn_down(node, conn, err, 0, p2p__no_words());
}

static void p2p__conn_opened(p2p_node *node, p2p__conn *conn) {
    if (conn->state == P2P__CONN_WAITING)
        node->waiting_dials--;
    if (conn->state != P2P__CONN_OPEN)
        p2p__conn_go(conn, P2P__CONN_OPEN);
    conn->opened_us = node->now_us;
    if (conn->reconnect)
        conn->reconnect = P2P__RECONNECT_UP_ONCE;
    p2p__raise_conn(node, conn, P2P__EV_CONNECTED);
    p2p__log(&node->log, P2P__LOG_CONNECTED);
    p2p__conn_schedule(node, conn);
    if (conn->message_largest > p2p__session_at(node, conn->session)->theirs.message_max)
        p2p__conn_end(node, conn, 0, P2P__CODE_NONE,
                      p2p_str_of(P2P__SAY("message over message_max")), P2P_ERR_TOO_LARGE);
}

static void p2p__session_opened(p2p_node *node, p2p__session *session) {
    P2P_ASSERT(session->state == P2P__SESSION_PROVING || session->state == P2P__SESSION_WAITING);
    node->half_open[session->server]--;
    session->state = P2P__SESSION_OPEN;
    session->waits = P2P__WAIT_NONE;
    session->heard_us = session->spoke_us = node->now_us;
    p2p__pmtu_open(node, session);
    p2p__out_add(node, session);
}

/* ---- callers who proved themselves */
static uint32_t p2p__conns_with(const p2p_node *node, const p2p_id *peer) {
    uint32_t n = 0;
    for (const p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        n += conn->state < P2P__CONN_DOWN && p2p_id_equal(&conn->peer, peer);
    }
    return n;
}

/* Older connections with the same peer must answer a PING: it may have lost its memory. */
static void p2p__conns_test(p2p_node *node, const p2p_id *peer, const p2p__session *but) {
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s == but || s->state != P2P__SESSION_OPEN || s->tested || !p2p_id_equal(&s->peer, peer))
            continue;
        s->tested = 1;
        s->test_by_us = node->now_us + P2P__MAX(1000000u, 3 * p2p__pto_base_us(s));
        s->control |= P2P__CONTROL_PING;
        p2p__out_add(node, s);
    }
}

static void p2p__refuse(p2p_node *node, p2p__session *session, uint32_t code) {
    static const struct {
        uint8_t code;
        const char *text;
    } words[] = {{P2P__CODE_REFUSED, P2P__SAY("refused")},
                 {P2P__CODE_LIMIT, P2P__SAY("no place for another connection")},
                 {P2P__CODE_NO_VERSION, P2P__SAY("no common wire version")},
                 {P2P__CODE_NO_ALPN, P2P__SAY("no common ALPN")}};
    p2p_str reason = p2p__no_words();
    uint32_t i;
    for (i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].code == code)
            reason = p2p_str_of(words[i].text);
    p2p__count(node,
               code == P2P__CODE_NO_VERSION ? P2P_METRIC_hello_no_version
               : code == P2P__CODE_NO_ALPN  ? P2P_METRIC_hello_no_alpn
                                            : P2P_METRIC_auth_refused,
               1);
    p2p__log(&node->log, P2P__LOG_REFUSED);
    p2p__session_close(node, session, 0, code, reason);
}

static p2p__listener *p2p__listener_for(const p2p_node *node, uint32_t alpn) {
    p2p__listener *any = NULL;
    uint32_t i;
    for (i = 0; i < node->listeners.count; i++) {
        p2p__listener *l = (p2p__listener *)p2p__pool_at(&node->listeners, i);
        if (p2p__slot_live(l) && !l->any && l->alpn == alpn)
            return l;
        if (p2p__slot_live(l) && l->any)
            any = l;
    }
    return any;
}

static bool p2p__gate_proved(p2p_node *node, const p2p__session *session) {
    p2p_gate who;
    if (!node->desc.allow.fn)
        return node->desc.allow_anyone != 0;
    P2P_MEMSET(&who, 0, sizeof who);
    who.from = &session->remote;
    who.id = &session->peer;
    who.alpn = p2p__alpn(node, session->alpn);
    who.conns = node->conns.used;
    who.half_open = node->half_open[1];
    return node->desc.allow.fn(node->desc.allow.ctx, &who) != 0;
}

/* A dial of ours to the same peer for the same ALPN: both ends dial at once. One the peer has
 * confirmed it took for a connection of its own. */
static p2p__conn *p2p__dial_to(const p2p_node *node, const p2p__session *session) {
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state <= P2P__CONN_DIALLING && !conn->confirmed &&
            p2p_id_equal(&conn->peer, &session->peer) &&
            (conn->alpn == session->alpn || conn->alpn == P2P__ANY_ALPN))
            return conn;
    }
    return NULL;
}

/* Our dial to the same peer was open before its own got this far: the peer gives that one up
 * when it sees ours. */
static bool p2p__dial_won(const p2p_node *node, const p2p__session *session) {
    if (P2P_MEMCMP(node->key.id.bytes, session->peer.bytes, 32) > 0)
        return false;
    for (const p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state == P2P__CONN_OPEN && !conn->incoming && conn->alpn == session->alpn &&
            p2p_id_equal(&conn->peer, &session->peer) && session->born_us <= conn->opened_us)
            return true;
    }
    return false;
}

/* The application's handle moves to a session the peer began. */
static void p2p__conn_adopt(p2p_node *node, p2p__conn *conn, p2p__session *session) {
    p2p__session *old = p2p__session_at(node, conn->session);
    p2p__conn_detach(node, conn);
    if (old) {
        p2p__count(node, P2P_METRIC_duplicates_closed, 1);
        p2p__session_end(node, old, P2P__CODE_DUPLICATE);
    }
    p2p__session_opened(node, session);
    p2p__conn_attach(node, conn, session);
    if (!session->done_sent)
        session->control |= P2P__CONTROL_DONE;
    session->done_sent = 1;
    p2p__conn_opened(node, conn);
}

static void p2p__accept(p2p_node *node, p2p__session *session, p2p__listener *l) {
    p2p__conn *conn = p2p__conn_make(node, &session->peer);
    uint16_t index;
    if (!conn) {
        p2p__refuse(node, session, P2P__CODE_LIMIT);
        return;
    }
    index = p2p__conn_index(node, conn);
    conn->incoming = 1;
    conn->listener = (uint16_t)p2p__pool_index(&node->listeners, l);
    conn->user = l->user;
    conn->state = P2P__CONN_OPEN;
    p2p__session_opened(node, session);
    p2p__conn_attach(node, conn, session);
    session->control |= P2P__CONTROL_DONE;
    session->done_sent = 1;
    conn->accepting = 1;
    if (l->accept_last == P2P__NIL)
        l->accept_first = index;
    else
        p2p__conn_at(node, l->accept_last)->accept_next = index;
    l->accept_last = index;
    l->waiting++;
    p2p__count(node, P2P_METRIC_conns_accepted, 1);
    p2p__conns_test(node, &session->peer, session);
    p2p__conn_opened(node, conn);
}

static void p2p__session_wait(p2p__session *session, uint32_t why, uint64_t until_us) {
    session->state = P2P__SESSION_WAITING;
    session->waits = (uint8_t)why;
    session->collapse_us = until_us;
}

/* A caller's proof is good: let it in, refuse it, or join it with a dial of ours. */
static void p2p__admitted(p2p_node *node, p2p__session *session, bool last_try) {
    p2p__listener *l = session->refusal ? NULL : p2p__listener_for(node, session->alpn);
    p2p__conn *dial;
    if (session->refusal || !l || node->stopping) {
        p2p__refuse(node, session,
                    session->refusal ? session->refusal : (uint32_t)P2P__CODE_NO_ALPN);
        return;
    }
    if (!p2p__gate_proved(node, session)) {
        p2p__refuse(node, session, P2P__CODE_REFUSED);
        return;
    }
    if (p2p__dial_won(node, session)) {
        p2p__count(node, P2P_METRIC_duplicates_closed, 1);
        p2p__session_end(node, session, P2P__CODE_DUPLICATE);
        return;
    }
    dial = p2p__dial_to(node, session);
    if (dial && P2P_MEMCMP(node->key.id.bytes, session->peer.bytes, 32) < 0) {
        p2p__session_wait(session, P2P__WAIT_DIAL, node->now_us + P2P__COLLAPSE_US);
    } else if (dial) {
        p2p__session_wait(session, P2P__WAIT_DONE_ACKED, P2P_NEVER);
        session->control |= P2P__CONTROL_DONE;
        session->done_sent = 1;
        p2p__out_add(node, session); /* the proof's own packet may go unacknowledged: data in it */
    } else if (p2p__conns_with(node, &session->peer) >= node->desc.max.conns_per_peer ||
               node->conns.used == node->conns.count || (l->backlog && l->waiting >= l->backlog)) {
        if (last_try || p2p__conns_with(node, &session->peer) == 0) {
            p2p__refuse(node, session, P2P__CODE_LIMIT);
            return;
        }
        p2p__conns_test(node, &session->peer, session);
        p2p__session_wait(session, P2P__WAIT_PLACE, node->now_us + 1500000u);
    } else {
        p2p__accept(node, session, l);
    }
}

/* A session that waited for our own dial: that failed, or took too long, or the connection is
 * open now. */
static void p2p__wait_over(p2p_node *node, p2p__session *session) {
    p2p__conn *dial = p2p__dial_to(node, session);
    p2p__listener *l = p2p__listener_for(node, session->alpn);
    if (session->waits == P2P__WAIT_PLACE || (!dial && l)) {
        uint32_t was = session->waits;
        session->state = P2P__SESSION_PROVING;
        session->waits = P2P__WAIT_NONE;
        if (was == P2P__WAIT_DONE_ACKED)
            p2p__accept(node, session, l);
        else
            p2p__admitted(node, session, true);
    } else if (dial) {
        p2p__conn_adopt(node, dial, session);
    } else {
        p2p__refuse(node, session, P2P__CODE_REFUSED);
    }
}

/* Our dial got DONE: sessions the same peer began are duplicates. */
static void p2p__collapse(p2p_node *node, const p2p__session *winner) {
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s == winner || s->state != P2P__SESSION_WAITING || s->waits != P2P__WAIT_DIAL ||
            s->alpn != winner->alpn || !p2p_id_equal(&s->peer, &winner->peer))
            continue;
        p2p__count(node, P2P_METRIC_duplicates_closed, 1);
        p2p__session_end(node, s, P2P__CODE_DUPLICATE);
    }
}

/* ---- frames that arrive */
/* The callee is who was dialled: now the caller proves itself, and may send data. Not while the
 * peer's own dial needs only the acknowledgement of our DONE: this one would be a second one. */
static void p2p__prove(p2p_node *node, p2p__session *session, p2p__conn *conn) {
    session->withheld = p2p__dial_waits(node, conn);
    if (session->withheld) {
        session->proof_by_us = p2p__time_add(node->now_us, P2P__WITHHOLD_US);
        return;
    }
    session->control |= P2P__CONTROL_HELLO | P2P__CONTROL_AUTH;
    session->proof_by_us = p2p__time_add(node->now_us, P2P__ATTEMPT_US); /* for DONE */
    p2p__conn_attach(node, conn, session);
    p2p__out_add(node, session);
}

/* A peer that was there once and has no place, or is not ready, will be; only its hook's no is for
 * good. */
static int p2p__refused_err(const p2p__conn *conn, uint64_t code) {
    return p2p__conn_returns(conn) && code != P2P__CODE_REFUSED ? P2P_ERR_CLOSED : P2P_ERR_REFUSED;
}

static void p2p__auth_input(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    uint64_t hash = p2p__hash64(node->hash_key, f->bytes, 96);
    if (session->peer_proved && hash != session->auth_hash) {
        p2p__count(node, P2P_METRIC_auth_failed, 1);
        p2p__session_fault(node, session, P2P__CODE_PROTOCOL, P2P__SAY("AUTH changed"));
        return;
    }
    if (session->peer_proved) {
        if (session->done_sent &&
            !session->done_acked) { /* it repeats itself: DONE was lost, perhaps */
            session->control |= P2P__CONTROL_DONE;
            p2p__out_add(node, session);
        }
        return;
    }
    if (!p2p__auth_good(node, session, f->bytes)) {
        p2p__count(node, P2P_METRIC_auth_failed, 1);
        p2p__log(&node->log, P2P__LOG_AUTH_FAILED);
        if (conn) {
            conn->wrong_proof = 1;
            p2p__path_lied(conn, &session->remote);
            p2p__session_failed(node, session);
        } else {
            p2p__session_end(node, session, P2P__CODE_BAD_PROOF);
        }
        return;
    }
    session->peer_proved = 1;
    session->auth_hash = hash;
    if (session->server) {
        p2p__admitted(node, session, false);
        return;
    }
    if (session->refusal || !conn) {
        uint32_t code = session->refusal;
        if (conn)
            p2p__conn_end(node, conn, 0, code,
                          p2p_str_of(code == P2P__CODE_NO_ALPN
                                         ? P2P__SAY("no common ALPN")
                                         : P2P__SAY("no common wire version")),
                          p2p__refused_err(conn, code));
        return;
    }
    p2p__prove(node, session, conn);
}

static void p2p__done_input(p2p_node *node, p2p__session *session) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    if (session->server) {
        p2p__session_fault(node, session, P2P__CODE_PROTOCOL, P2P__SAY("DONE from a client"));
        return;
    }
    if (session->state != P2P__SESSION_PROVING || !session->peer_proved || session->withheld)
        return;  /* DONE of who has not proved itself, or has no proof of ours, says nothing */
    if (!conn) { /* given up for another session meanwhile */
        p2p__session_end(node, session, P2P__CODE_DUPLICATE);
        return;
    }
    p2p__session_opened(node, session);
    p2p__conn_opened(node, conn);
    p2p__collapse(node, session);
}

static bool p2p__close_refuses(const p2p__frame *f) {
    return f->origin == 0 && (f->code == P2P__CODE_REFUSED || f->code == P2P__CODE_LIMIT ||
                              f->code == P2P__CODE_NO_ALPN || f->code == P2P__CODE_NO_VERSION);
}

static int p2p__close_err(const p2p__frame *f, const p2p__conn *conn) {
    if (p2p__close_refuses(f))
        return p2p__refused_err(conn, f->code);
    if (f->origin == 0 &&
        (f->code == P2P__CODE_PROTOCOL || f->code == P2P__CODE_FLOW_CONTROL ||
         f->code == P2P__CODE_STREAM_LIMIT || f->code == P2P__CODE_FRAME_ENCODING))
        return P2P_ERR_PROTOCOL;
    return conn->state == P2P__CONN_FLUSHING ? P2P_OK : P2P_ERR_CLOSED;
}

static void p2p__close_input(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    bool proved = session->peer_proved;
    p2p_str reason;
    reason.data = (const char *)f->data.data;
    reason.size = f->data.size;
    if (conn && !conn->confirmed &&
        (!proved ||
         (f->origin == 0 && (f->code == P2P__CODE_DUPLICATE || f->code == P2P__CODE_BAD_PROOF)))) {
        p2p__conn *dial = conn;
        /* An unproved CLOSE is only a failed attempt, and so is one for want of our proof, which
         * may have been lost; but not of who took data over it: that may not go out again. */
        p2p__conn_detach(node, dial);
        p2p__session_drain(node, session);
        if (dial->state == P2P__CONN_DIALLING) {
            p2p__conn_go(dial, P2P__CONN_WAITING);
            node->waiting_dials++;
            dial->retry_us = node->now_us + P2P__COLLAPSE_US;
            if (p2p__conn_returns(dial))
                dial->retry_us += p2p__redial_us(node, dial);
            p2p__conn_schedule(node, dial);
        } else {
            p2p__conn_down(node, dial, P2P_ERR_CLOSED, 0, p2p__no_words());
        }
        return;
    }
    p2p__session_drain(node, session);
    if (conn) {
        uint32_t code = f->origin ? (uint32_t)P2P__MIN(f->code, (uint64_t)UINT32_MAX) : 0;
        int err = p2p__close_err(f, conn);
        if (!p2p__close_refuses(f)) /* else nothing of it was taken */
            (void)p2p__conn_bound(conn);
        p2p__conn_detach(node, conn);
        p2p__conn_down(node, conn, err, code, reason);
    }
}

/* The stream a frame names; NULL when it is over, or (with *fatal) when it cannot be. */
static p2p__stream *p2p__stream_named(p2p_node *node, p2p__conn *conn, uint64_t id, bool sending,
                                      bool *fatal) {
    const p2p__session *session = p2p__session_at(node, conn->session);
    uint32_t kind = (uint32_t)(id >> 1 & 3);
    bool local = (id & 1) == (session->server != 0);
    uint64_t number = id >> 3;
    p2p__stream *s;
    *fatal = false;
    if (kind == P2P__KIND_MESSAGES) {
        *fatal = number != 0 || local != sending || conn->messages == P2P__NIL;
        return *fatal ? NULL : p2p__messages(node, conn);
    }
    if (kind == P2P__KIND_UNI && local != sending) {
        *fatal = true;
        return NULL;
    }
    if (local) {
        *fatal = number >= conn->made[kind];
        return p2p__stream_find(node, p2p__conn_index(node, conn), kind, true, number);
    }
    if (number >= conn->taken_limit[kind]) {
        *fatal = true;
        return NULL;
    }
    for (; conn->taken[kind] <= number; conn->taken[kind]++) {
        s = p2p__stream_take(node, &node->peer_streams, false);
        P2P_ASSERT(s);
        p2p__stream_begin(node, s, conn, kind, conn->taken[kind]);
        p2p__count(node, P2P_METRIC_streams_accepted, 1);
        if (conn->state == P2P__CONN_FLUSHING || node->stopping) {
            s->announced = 2;
            p2p__stream_abort(node, s, 0); /* nothing new is taken; the peer learns it at once */
        }
    }
    s = p2p__stream_find(node, p2p__conn_index(node, conn), kind, false, number);
    p2p__grant_more(node, conn, kind, false);
    return s;
}

/* The first frame of a stream the peer opened: the application is told, unless it is a request. */
static void p2p__stream_announce(p2p_node *node, p2p__conn *conn, p2p__stream *s) {
    uint16_t index = p2p__stream_index(node, s);
    if (s->announced)
        return;
    s->announced = 1;
    if (s->kind == P2P__KIND_REQUEST)
        return;
    s->accepting = 1;
    if (conn->stream_accept_last == P2P__NIL)
        conn->stream_accept_first = index;
    else
        node->streams[conn->stream_accept_last].accept_next = index;
    conn->stream_accept_last = index;
    p2p__raise(node, s, P2P__EV_STREAM);
}

/* 1 done, 0 the packet must not be acknowledged, -1 the connection is over. */
static int p2p__stream_input(p2p_node *node, p2p__conn *conn, const p2p__frame *f) {
    bool fatal,
        sending = f->type == P2P__FRAME_STOP_SENDING || f->type == P2P__FRAME_MAX_STREAM_DATA;
    p2p__stream *s = p2p__stream_named(node, conn, f->id, sending, &fatal);
    int rc = 1;
    if (fatal) {
        p2p__conn_fault(node, conn, P2P__CODE_STREAM_LIMIT,
                        P2P__SAY("a stream that is not allowed"));
        return -1;
    }
    if (!s)
        return 1; /* over: the news is late */
    if (!p2p__is_messages(s))
        p2p__stream_announce(node, conn, s);
    switch (f->type) {
    case P2P__FRAME_STREAM_DATA_BLOCKED:
        p2p__starved_input(node, s, s->recv.base + f->value);
        break;
    case P2P__FRAME_STREAM:
        if (p2p__is_messages(s) && f->fin) {
            p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL,
                            P2P__SAY("the messages stream was ended"));
            return -1;
        }
        rc = p2p__recv_input(node, conn, s, f);
        if (rc == 1 && p2p__is_messages(s))
            p2p__message_news(node, conn);
        break;
    case P2P__FRAME_RESET_STREAM:
        if (p2p__is_messages(s))
            p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL,
                            P2P__SAY("the messages stream was ended"));
        else
            p2p__reset_input(node, conn, s, f);
        break;
    case P2P__FRAME_STOP_SENDING:
        if (p2p__is_messages(s))
            p2p__conn_fault(node, conn, P2P__CODE_PROTOCOL,
                            P2P__SAY("the messages stream was ended"));
        else
            p2p__stop_input(node, s, f);
        break;
    default: /* MAX_STREAM_DATA */
        if (f->value > s->send.limit) {
            s->send.limit = f->value;
            p2p__send_list(node, s);
        }
    }
    return conn->state == P2P__CONN_DOWN ? -1 : rc;
}

static void p2p__relist(p2p_node *node, p2p__conn *conn) {
    uint16_t at;
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next)
        if (p2p__stream_has_work(conn, &node->streams[at]))
            p2p__send_list(node, &node->streams[at]);
}

/* Only the streams that it concerns are looked at: a peer may say it one by one. */
static void p2p__allow_streams(p2p_node *node, p2p__conn *conn, uint32_t kind, uint64_t limit) {
    uint64_t number = conn->made_limit[kind];
    conn->made_limit[kind] = P2P__MAX(number, limit);
    for (; number < P2P__MIN(limit, conn->made[kind]); number++) {
        p2p__stream *s = p2p__stream_find(node, p2p__conn_index(node, conn), kind, true, number);
        if (s && p2p__stream_has_work(conn, s))
            p2p__send_list(node, s);
    }
    for (; number < conn->made[kind]; number++) { /* whoever still waits says so of this limit */
        p2p__stream *s = p2p__stream_find(node, p2p__conn_index(node, conn), kind, true, number);
        if (s && (s->send.end > s->send.sent || s->send.state != P2P__SEND_OPEN)) {
            p2p__send_list(node, s);
            return;
        }
    }
}

static int p2p__conn_frame(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    P2P_ASSERT(conn && conn->attached);
    switch (f->type) {
    case P2P__FRAME_MAX_DATA:
        if (f->value > conn->send_limit) {
            bool blocked = conn->send_total == conn->send_limit;
            conn->send_limit = f->value;
            if (blocked)
                p2p__relist(node, conn);
        }
        return 1;
    case P2P__FRAME_MAX_STREAMS:
        p2p__allow_streams(node, conn, (uint32_t)f->id, f->value);
        return 1;
    case P2P__FRAME_STREAMS_BLOCKED:
        if (f->value == conn->taken_limit[f->id])
            p2p__grant_more(node, conn, (uint32_t)f->id, true);
        return 1;
    case P2P__FRAME_DATA_BLOCKED:
        if (f->value < conn->recv_limit)
            p2p__conn_control(node, conn, P2P__CONTROL_MAX_DATA);
        p2p__conn_grant(node, conn, 1);
        return 1;
    case P2P__FRAME_PATH_RESPONSE: return 1;
    case P2P__FRAME_PATH_CHALLENGE: p2p__challenge_input(node, session, f->bytes); return 1;
    case P2P__FRAME_DATAGRAM:
        p2p__datagram_input(node, conn, f);
        return conn->state == P2P__CONN_DOWN ? -1 : 1;
    default: return p2p__stream_input(node, conn, f);
    }
}

static bool p2p__frame_early(uint32_t type) { /* allowed before both proofs */
    return type == P2P__FRAME_PING || type == P2P__FRAME_ACK || type == P2P__FRAME_ACK_ECN ||
           type == P2P__FRAME_HELLO || type == P2P__FRAME_AUTH || type == P2P__FRAME_CLOSE ||
           type == P2P__FRAME_DONE;
}

static bool p2p__session_proved(const p2p__session *session) {
    return session->peer_proved && session->state != P2P__SESSION_WAITING;
}

/* 1 go on, 0 do not acknowledge, -1 over. */
static int p2p__frame_input(p2p_node *node, p2p__session *session, const p2p__frame *f) {
    switch (f->type) {
    case P2P__FRAME_PING: return 1;
    case P2P__FRAME_ACK:
        if (!p2p__ack_input(node, session, f)) {
            p2p__count(node, P2P_METRIC_ack_of_unsent, 1);
            p2p__session_fault(node, session, P2P__CODE_PROTOCOL,
                               P2P__SAY("ACK of a packet that was never sent"));
            return -1;
        }
        if (session->waits == P2P__WAIT_DONE_ACKED && session->done_acked)
            p2p__wait_over(node, session);
        return 1;
    case P2P__FRAME_HELLO:
        if (!p2p__hello_input(node, session, f->data)) {
            p2p__session_fault(node, session, P2P__CODE_PROTOCOL,
                               P2P__SAY("HELLO malformed or changed"));
            return -1;
        }
        return 1;
    case P2P__FRAME_AUTH:
        p2p__auth_input(node, session, f);
        return session->state >= P2P__SESSION_CLOSING ? -1 : 1;
    case P2P__FRAME_DONE:
        p2p__done_input(node, session);
        return session->state >= P2P__SESSION_CLOSING ? -1 : 1;
    case P2P__FRAME_CLOSE: p2p__close_input(node, session, f); return -1;
    default:
        if (!p2p__session_proved(session) || session->conn == P2P__NIL || session->withheld)
            return 0;
        if (session->state == P2P__SESSION_PROVING) /* it overtook the DONE it was sent behind */
            p2p__done_input(node, session);
        return session->state == P2P__SESSION_OPEN ? p2p__conn_frame(node, session, f) : -1;
    }
}

/* First pass: the whole packet parses, and holds nothing that must wait for the proofs. */
static int p2p__packet_check(p2p_node *node, p2p__session *session, p2p__reader r,
                             uint32_t *eliciting, bool *streams) {
    p2p__frame f;
    bool proof = p2p__session_proved(session);
    int rc;
    *eliciting = 0;
    *streams = false;
    while ((rc = p2p__frame_get(&r, &f)) == 1) {
        if (f.type == P2P__FRAME_AUTH)
            proof = true;
        if (!proof && !p2p__frame_early(f.type)) {
            p2p__count(node, P2P_METRIC_packets_before_proof, 1);
            return 0;
        }
        if (f.type == P2P__FRAME_PING)
            *eliciting = 2;
        else if (f.type != P2P__FRAME_ACK && f.type != P2P__FRAME_CLOSE)
            *eliciting = P2P__MAX(*eliciting, 1u);
        *streams |= f.type == P2P__FRAME_STREAM;
    }
    return rc < 0 ? rc : 1;
}

/* Only what a packet acknowledges, of one that is dropped for its other frames. */
static void p2p__packet_acks(p2p_node *node, p2p__session *session, p2p__reader r) {
    p2p__frame f;
    while (session->state < P2P__SESSION_CLOSING && p2p__frame_get(&r, &f) == 1)
        if (f.type == P2P__FRAME_ACK || f.type == P2P__FRAME_AUTH)
            (void)p2p__frame_input(node, session, &f);
}

static void p2p__packet_input(p2p_node *node, p2p__session *session, const uint8_t *data,
                              size_t size) {
    p2p__reader r = p2p__reader_of(data, size), again;
    uint64_t number = p2p__get_varint(&r);
    p2p__frame f;
    uint32_t eliciting;
    bool streams, datagrams = false;
    int rc = r.bad ? -1 : 1, old;
    if (rc > 0 && (old = p2p__seen_before(session, number)) != 0) {
        p2p__count(node, old == 2 ? P2P_METRIC_packets_old : P2P_METRIC_packets_duplicate, 1);
        if (session->unacked == 0) { /* its ACK was lost, perhaps */
            session->unacked = 1;
            session->ack_at_us = P2P__MIN(session->ack_at_us, node->now_us + P2P__ACK_DELAY_US);
        }
        return;
    }
    if (rc > 0)
        rc = p2p__packet_check(node, session, r, &eliciting, &streams);
    if (rc == 0 && session->waits == P2P__WAIT_DONE_ACKED) {
        p2p__packet_acks(node, session, r);
        if (session->state <
            P2P__SESSION_CLOSING) /* DONE has arrived, perhaps: then the rest counts */
            rc = p2p__packet_check(node, session, r, &eliciting, &streams);
    }
    if (rc < 0) {
        p2p__session_fault(node, session, P2P__CODE_FRAME_ENCODING, P2P__SAY("malformed packet"));
        return;
    }
    if (rc == 0)
        return;
    session->heard_us = node->now_us;
    session->tested = 0;
    session->packets_received++;
    p2p__count(node, P2P_METRIC_packets_received, 1);
    again = r;
    while (rc == 1 && p2p__frame_get(&r, &f) == 1) {
        if (f.type == P2P__FRAME_DATAGRAM && streams)
            datagrams = true; /* last, when nothing can send the packet back: they come only once */
        else
            rc = p2p__frame_input(node, session, &f);
    }
    while (datagrams && rc == 1 && p2p__frame_get(&again, &f) == 1)
        if (f.type == P2P__FRAME_DATAGRAM)
            rc = p2p__frame_input(node, session, &f);
    if (rc == 1)
        p2p__seen_note(node, session, number, eliciting);
}

static void p2p__data_input(p2p_node *node, p2p__session *session, uint8_t *record, size_t size) {
    uint8_t *plain = NULL;
    int n = p2p__secure(node)->open(p2p__secure_ctx(node), session->slab, record, size, &plain);
    p2p__frame f;
    if (n == 0 || (n < 0 && n != P2P_ERR_CLOSED)) {
        p2p__count(node, n == 0 ? P2P_METRIC_records_bad : P2P_METRIC_records_fatal, 1);
        if (n == 0 && ++session->records_bad < P2P__FORGED_MAX)
            return;
    }
    if (n < 0) {
        P2P_MEMSET(&f, 0, sizeof f);
        f.type = P2P__FRAME_CLOSE;
        f.code = P2P__CODE_GENERIC;
        if (session->state < P2P__SESSION_CLOSING)
            p2p__close_input(node, session, &f);
        return;
    }
    session->opened_record = 1;
    session->records_in++;
    if (session->state == P2P__SESSION_CLOSING) { /* CLOSE again, ever more rarely */
        if ((session->records_in & (session->records_in - 1)) == 0)
            session->want_close = 1, p2p__out_add(node, session);
        return;
    }
    if (session->state < P2P__SESSION_CLOSING)
        p2p__packet_input(node, session, plain, (size_t)n);
}

/* ---- packets that leave */
static size_t p2p__packet_room(const p2p_node *node, const p2p__session *session, size_t room) {
    size_t over = p2p__packet_over(node), max;
    room = P2P__MIN(room, (size_t)session->cc.datagram_bytes);
    if (room < over + P2P__PACKET_MIN)
        return 0;
    max = session->theirs.max_packet ? (size_t)P2P__MIN(session->theirs.max_packet, (uint64_t)65535)
                                     : 512;
    return P2P__MIN(room - over, P2P__MAX(max, (size_t)512));
}

static void p2p__emit_hello(p2p__build *b) {
    uint8_t body[P2P__HELLO_BYTES];
    p2p_span span;
    uint8_t *start = b->w.at;
    p2p__session *session = b->session;
    if (p2p__auth_sign(b->node, session) < 0) {
        p2p__random_failed(b->node);
        session->control &= ~(uint32_t)(P2P__CONTROL_HELLO | P2P__CONTROL_AUTH);
        return;
    }
    span.data = body;
    span.size = p2p__hello_body(b->node, session, body, sizeof body);
    p2p__put_varint(&b->w, P2P__FRAME_HELLO);
    p2p__put_varint(&b->w, span.size);
    p2p__put_bytes(&b->w, span.data, span.size);
    p2p__put_varint(&b->w, P2P__FRAME_AUTH);
    p2p__put_bytes(&b->w, b->node->key.id.bytes, 32);
    p2p__put_bytes(&b->w, session->signature, 64);
    if (b->w.bad) {
        b->w.bad = 0;
        b->w.at = start;
        return;
    }
    b->control |= P2P__CONTROL_HELLO | P2P__CONTROL_AUTH;
}

static bool p2p__emit_plain(p2p__build *b, uint32_t flag, uint32_t type, uint32_t count,
                            uint64_t v0, uint64_t v1) {
    uint64_t v[2];
    if (!(b->session->control & flag))
        return false;
    v[0] = v0, v[1] = v1;
    p2p__put_frame(&b->w, type, count, v);
    if (b->w.bad) { /* and nothing of it was written */
        b->w.bad = 0;
        return false;
    }
    b->control |= flag;
    return true;
}

static void p2p__emit_controls(p2p__build *b) {
    p2p__session *session = b->session;
    p2p__conn *conn = b->conn;
    uint32_t kind;
    if (!session->control)
        return;
    if (session->control & (P2P__CONTROL_HELLO | P2P__CONTROL_AUTH))
        p2p__emit_hello(b);
    (void)p2p__emit_plain(b, P2P__CONTROL_DONE, P2P__FRAME_DONE, 0, 0, 0);
    if (conn) {
        (void)p2p__emit_plain(b, P2P__CONTROL_MAX_DATA, P2P__FRAME_MAX_DATA, 1, conn->recv_limit,
                              0);
        if (conn->send_total < conn->send_limit) /* no more, when it was lost */
            session->control &= ~(uint32_t)P2P__CONTROL_BLOCKED;
        (void)p2p__emit_plain(b, P2P__CONTROL_BLOCKED, P2P__FRAME_DATA_BLOCKED, 1, conn->send_limit,
                              0);
        for (kind = 0; kind < P2P__KINDS; kind++) {
            (void)p2p__emit_plain(b, (uint32_t)P2P__CONTROL_MAX_STREAMS << kind,
                                  P2P__FRAME_MAX_STREAMS, 2, kind, conn->taken_limit[kind]);
            (void)p2p__emit_plain(b, (uint32_t)P2P__CONTROL_STREAMS_BLOCKED << kind,
                                  P2P__FRAME_STREAMS_BLOCKED, 2, kind, conn->made_limit[kind]);
        }
    }
    (void)p2p__emit_plain(b, P2P__CONTROL_PING, P2P__FRAME_PING, 0, 0, 0);
    session->control &= ~b->control;
    if (b->control)
        b->eliciting = 1;
}

/* The window, pacing and the table allow a packet that is to be acknowledged. Pacing lets a
 * millisecond's worth go at once, and then nothing before that time is over: a timer and a system
 * call for every packet would cost more than the packet. */
static bool p2p__may_elicit(p2p_node *node, p2p__session *session) {
    uint64_t ahead_us = session->paced ? 0 : P2P__BURST_US;
    session->paced = 0;
    if (!p2p__packet_allowed(node, session)) {
        session->dry_number = session->next_number;
        return false;
    }
    if (session->probes > 0)
        return true;
    if (session->in_flight_bytes + session->cc.datagram_bytes > session->cc.now.window_bytes &&
        session->in_flight_bytes > 0)
        return false;
    session->paced = session->cc.pace_us > node->now_us + ahead_us;
    return !session->paced;
}

static bool p2p__conn_sends(const p2p__session *session, const p2p__conn *conn) {
    return conn && conn->attached && session->peer_proved && session->state <= P2P__SESSION_OPEN &&
           (!session->server || session->state == P2P__SESSION_OPEN);
}

/* A datagram waits that has no place in the rest of this packet. */
static bool p2p__datagram_waits(const p2p__build *b) {
    const p2p__datagram *d = b->conn ? p2p__datagram_oldest(b->node, b->conn, true) : NULL;
    return d && (size_t)(b->w.end - b->w.at) < 1 + d->size;
}

/* All that is to be acknowledged: control frames, datagrams, streams. */
static void p2p__emit_elicitors(p2p__build *b) {
    p2p__session *session = b->session;
    p2p__emit_controls(b);
    if (p2p__conn_sends(session, b->conn)) {
        p2p__emit_stream_controls(b);
        p2p__emit_datagrams(b);
        p2p__emit_streams(b);
        p2p__emit_controls(b); /* STREAMS_BLOCKED, which a stream has just asked for */
    }
    if (session->probes > 0 && !b->eliciting) {
        p2p__put_frame(&b->w, P2P__FRAME_PING, 0, NULL);
        b->eliciting = 1;
    }
    if (!b->eliciting && !p2p__datagram_waits(b))
        session->dry_number = session->next_number; /* nothing to say, and it could be said */
}

static bool p2p__streams_listed(const p2p__conn *conn) {
    uint32_t p = 0;
    while (p <= P2P__PRIORITIES && conn->send_first[p] == P2P__NIL)
        p++;
    return p <= P2P__PRIORITIES;
}

/* Whether an open session has nothing to say, so that no packet need be begun to see it. */
static bool p2p__session_dry(p2p_node *node, p2p__session *session) {
    const p2p__conn *conn = p2p__conn_at(node, session->conn);
    if (session->state != P2P__SESSION_OPEN || session->control || session->probes > 0 ||
        session->pmtu.due || session->ack_at_us <= node->now_us ||
        (conn && (conn->datagrams[1].count || p2p__streams_listed(conn))))
        return false;
    if (p2p__may_elicit(node, session))
        session->dry_number = session->next_number; /* and it could be said */
    return true;
}

/* Fills b->w with what is to be said; false when there is nothing. */
static bool p2p__packet_fill(p2p__build *b) {
    p2p__session *session = b->session;
    uint8_t *start = b->w.at;
    bool ack = false, due = session->ack_at_us <= b->node->now_us;
    if (session->state == P2P__SESSION_CLOSING) {
        p2p_str reason;
        if (!session->want_close)
            return false;
        reason.data = session->close_reason;
        reason.size = session->close_reason_size;
        p2p__put_close(&b->w, session->close_origin, session->close_code, reason);
        session->want_close = 0;
        session->close_count++;
        return !b->w.bad;
    }
    if (session->unacked && (due || p2p__may_elicit(b->node, session)))
        ack = p2p__emit_ack(b->node, session, &b->w);
    if (ack && !due && p2p__datagram_waits(b)) { /* which may be as large as a packet */
        b->w.at = start;
        ack = false;
    }
    if (p2p__may_elicit(b->node, session))
        p2p__emit_elicitors(b);
    if (!b->eliciting && !due)
        return false; /* an ACK that is not due waits for company */
    if (ack)
        p2p__ack_sent(b->node, session);
    return ack || b->eliciting;
}

/* The last STREAM frame needs no length: the packet's end says it. */
static void p2p__packet_trim(p2p__build *b) {
    size_t n;
    if (!b->tail_type || b->tail_end != b->w.at)
        return;
    n = (size_t)1 << (*b->tail_length >> 6);
    P2P_MEMMOVE(b->tail_length, b->tail_length + n, (size_t)(b->tail_end - b->tail_length) - n);
    b->w.at -= n;
    *b->tail_type = (uint8_t)(*b->tail_type & ~2u);
}

static uint64_t p2p__packet_number(p2p_node *node, p2p__session *session) {
    uint64_t number = session->next_number++;
    if (number != session->skip_number)
        return number;
    session->skipped[(number / 64) % P2P__SKIPPED] =
        number; /* left out: who acknowledges it lies */
    session->skip_number += 64 + p2p__drbg_fast(&node->drbg) % 448;
    return session->next_number++;
}

static void p2p__packet_sent(p2p__build *b, uint64_t number, size_t bytes) {
    p2p_node *node = b->node;
    p2p__session *session = b->session;
    session->packets_sent++;
    p2p__count(node, P2P_METRIC_packets_sent, 1);
    if (!b->eliciting)
        return;
    {
        uint16_t at = p2p__packet_take(node, session);
        p2p__packet *packet = &node->flight.packets[at];
        packet->number = number;
        packet->sent_us = node->now_us;
        packet->control = b->control;
        packet->chunks = b->chunks;
        packet->bytes = (uint16_t)bytes;
        packet->limited = session->acked_number < session->dry_number;
#ifndef P2P_NO_BBR
        if (session->cc.kind == P2P__CC_BBR && session->acked_number == session->dry_number)
            packet->limited =
                1; /* the first flight after a pause is no sample of the path's rate */
#endif
        p2p__cc_sent(&session->cc, packet, session->in_flight_bytes == 0);
        p2p__packet_append(node, session, at);
    }
    session->spoke_us = node->now_us;
    if (session->probes > 0)
        session->probes--;
}

/* One data datagram of a session into out: its size, or 0 when there is nothing that may leave
 * now. With asked it is the answer to that, and nothing else. */
static size_t p2p__data_output(p2p_node *node, p2p__session *session, uint8_t *out, size_t room,
                               const p2p__challenge *asked) {
    bool probe = !asked && p2p__pmtu_due(session, room);
    size_t size =
        probe ? session->pmtu.size - p2p__packet_over(node) : p2p__packet_room(node, session, room);
    size_t head;
    uint8_t *packet;
    p2p__build b;
    uint64_t number;
    int n;
    if (size == 0 || session->state == P2P__SESSION_HANDSHAKE ||
        session->state >= P2P__SESSION_DRAINING)
        return 0;
    head = p2p__datagram_head(
        node, out, session->server ? P2P__DATA_TO_CLIENT : P2P__DATA_TO_SERVER, session->id);
    packet =
        out + head + (p2p__secure(node)->overhead >= 16 ? p2p__secure(node)->overhead - 16 : 0);
    P2P_MEMSET(&b, 0, sizeof b);
    b.node = node;
    b.session = session;
    b.conn = p2p__conn_at(node, session->conn);
    b.chunks = P2P__NIL;
    b.w = p2p__writer_of(packet, size);
    b.most = (uint32_t)p2p__packet_room(node, session, SIZE_MAX);
    b.turn = b.most - b.most / 4;
    number = session->next_number == session->skip_number ? session->next_number + 1
                                                          : session->next_number;
    p2p__put_varint(&b.w, number);
    if (asked)
        p2p__put_path_response(&b.w, asked->bytes, &asked->remote);
    else if (probe)
        p2p__pmtu_fill(node, session, &b.w, number);
    else if (!p2p__packet_fill(&b))
        return 0;
    number = p2p__packet_number(node, session);
    p2p__packet_trim(&b);
    n = p2p__secure(node)->seal(p2p__secure_ctx(node), session->slab, packet,
                                (size_t)(b.w.at - packet), out + head, room - head);
    p2p__packet_sent(&b, number, n > 0 ? head + (size_t)n : head);
    if (n <= 0) {
        p2p__count(node, P2P_METRIC_records_fatal, 1);
        return 0; /* as if lost: recovery sees to it */
    }
    return head + (size_t)n;
}

/* A PATH_RESPONSE in a datagram of its own, which no window delays and no record remembers. To an
 * address that is not the session's it is no longer than what asked. */
static size_t p2p__response_output(p2p_node *node, uint8_t *out, size_t room, p2p_addr *remote) {
    while (node->challenge_count > 0) {
        p2p__challenge asked = node->challenges[0];
        p2p__session *session = (p2p__session *)p2p__pool_get(&node->sessions, asked.session);
        size_t n = 0;
        p2p__challenge_drop(node, 0);
        if (session && p2p__conn_sends(session, p2p__conn_at(node, session->conn)))
            n = p2p__data_output(node, session, out,
                                 p2p__addr_equal(&asked.remote, &session->remote)
                                     ? room
                                     : P2P__MIN(room, asked.room),
                                 &asked);
        p2p__count(node, n ? P2P_METRIC_challenges_answered : P2P_METRIC_challenges_dropped, 1);
        if (n == 0)
            continue;
        *remote = asked.remote;
        node->out_local = asked.local;
        node->out_socket = asked.socket;
        return n;
    }
    return 0;
}

/* ---- time */

/* The smaller of both sides' idle timeouts; an attempt that has proved nothing has none of its
 * own. */
static uint64_t p2p__idle_us(const p2p_node *node, const p2p__session *session) {
    uint64_t own = node->desc.time.idle_us, theirs = session->theirs.idle_us;
    return theirs ? P2P__MIN(own, theirs) : own;
}

/* After so long without a word of ours. Two fit into the idle timeout, so that a lost one does not
 * end a connection. */
static uint64_t p2p__keepalive_us(const p2p_node *node, const p2p__session *session) {
    uint64_t own = node->desc.time.keepalive_us;
    return own == P2P_NEVER ? own : P2P__MIN(own, p2p__idle_us(node, session) / 2);
}

static uint64_t p2p__handshake_life_us(const p2p__session *session) {
    if (!session->server)
        return P2P__ATTEMPT_US;
    return session->proven ? 4u * (uint64_t)P2P__UNPROVEN_LIFE_US : P2P__UNPROVEN_LIFE_US;
}

/* Nothing would be lost by a break now: no stream is open, no message is under way. */
static bool p2p__conn_quiet(const p2p_node *node, const p2p__conn *conn) {
    const p2p__stream *s = p2p__messages(node, conn);
    if (conn->stream_first != conn->messages || (s && s->conn_next != P2P__NIL))
        return false;
    return conn->datagrams[1].count == 0 &&
           (!s || (s->send.acked == s->send.end && s->recv.high == s->recv.read &&
                   conn->message_size == P2P_NEVER));
}

/* When fresh keys are due: at max_age, or now. A handle that comes back takes the first quiet
 * moment of the last eighth. */
static uint64_t p2p__rekey_us(const p2p_node *node, const p2p__session *session) {
    const p2p__conn *conn = p2p__conn_at(node, session->conn);
    uint64_t last = node->desc.time.max_age_us, age = node->now_us - session->born_us;
    if (!conn || conn->state < P2P__CONN_OPEN)
        return P2P_NEVER;
    if (session->next_number >= P2P__RECORDS_MAX)
        return 0;
    if (p2p__conn_returns(conn) && age < last - last / 8)
        last -= last / 8;
    else if (p2p__conn_returns(conn) && p2p__conn_quiet(node, conn))
        return 0;
    return p2p__time_add(session->born_us, last);
}

static void p2p__session_schedule(p2p_node *node, p2p__session *session) {
    uint64_t us = P2P_NEVER, deadline;
    uint32_t ref = P2P__REF_SESSION | p2p__session_index(node, session);
    switch (session->state) {
    case P2P__SESSION_HANDSHAKE:
        us = p2p__time_add(session->born_us, p2p__handshake_life_us(session));
        deadline = p2p__secure(node)->deadline(p2p__secure_ctx(node), session->slab);
        if (!session->queued && !session->held)
            us = P2P__MIN(us, deadline);
        break;
    case P2P__SESSION_PROVING:
    case P2P__SESSION_WAITING:
    case P2P__SESSION_OPEN:
        us = p2p__loss_deadline(session);
        if (!session->queued)
            us = P2P__MIN(us, session->ack_at_us);
        if (session->paced && !session->queued)
            us = P2P__MIN(us, session->cc.pace_us);
        if (session->state == P2P__SESSION_PROVING)
            us = P2P__MIN(us, session->proof_by_us);
        if (session->state == P2P__SESSION_WAITING)
            us = P2P__MIN(us, session->collapse_us);
        if (session->tested)
            us = P2P__MIN(us, session->test_by_us);
        us = P2P__MIN(us, p2p__time_add(session->heard_us, p2p__idle_us(node, session)));
        us = P2P__MIN(us, session->pmtu.timer_us);
        if (session->state == P2P__SESSION_OPEN && session->packet_first == P2P__NIL)
            us = P2P__MIN(us, p2p__time_add(session->spoke_us, p2p__keepalive_us(node, session)));
        us = P2P__MIN(us, p2p__rekey_us(node, session));
        break;
    case P2P__SESSION_CLOSING:
    case P2P__SESSION_DRAINING: us = session->tick_us; break;
    default: us = 0;
    }
    p2p__heap_set(node, ref, us);
}

static void p2p__session_timeout(p2p_node *node, p2p__session *session) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    p2p__count(node, P2P_METRIC_conns_idle, 1);
    if (conn && conn->state >= P2P__CONN_OPEN)
        p2p__conn_end(node, conn, 0, P2P__CODE_IDLE, p2p__no_words(), P2P_ERR_TIMEOUT);
    else if (conn)
        p2p__session_failed(node, session);
    else
        p2p__session_end(node, session, P2P__CODE_IDLE);
}

/* The proof did not come: the address goes to the end of the list, and the dial goes on. */
static void p2p__proof_missing(p2p_node *node, p2p__session *session) {
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    if (conn && !session->peer_proved)
        p2p__path_lied(conn, &session->remote);
    if (conn && session->withheld) {
        p2p__prove(node, session, conn);
        return;
    }
    if (conn && conn->attached && conn->send_total > 0) {
        session->proof_by_us =
            P2P_NEVER; /* only DONE is late: data was sent, and may not be sent twice */
        return;
    }
    if (conn)
        p2p__session_failed(node, session);
    else
        p2p__session_end(node, session, P2P__CODE_BAD_PROOF);
}

static void p2p__session_alive_tick(p2p_node *node, p2p__session *session) {
    uint64_t now = node->now_us, idle = p2p__idle_us(node, session);
    if (now - session->heard_us >= idle) {
        if (now - node->polled_us < idle / 2 || session->tested) {
            p2p__session_timeout(node, session);
            return;
        }
        session->heard_us =
            now - idle +
            P2P__MIN(idle,
                     3 * p2p__pto_base_us(session)); /* the clock leapt: ask before giving up */
        session->tested = 1;
        session->test_by_us = P2P_NEVER;
        session->control |= P2P__CONTROL_PING;
        p2p__out_add(node, session);
    }
    if (session->tested && now >= session->test_by_us) {
        p2p__session_timeout(node, session);
        return;
    }
    p2p__loss_tick(node, session);
    p2p__pmtu_tick(node, session);
    if (session->ack_at_us <= now || (session->paced && session->cc.pace_us <= now))
        p2p__out_add(node, session);
    if (session->state == P2P__SESSION_OPEN && session->packet_first == P2P__NIL &&
        now - session->spoke_us >= p2p__keepalive_us(node, session)) {
        session->control |= P2P__CONTROL_PING;
        session->spoke_us = now;
        p2p__out_add(node, session);
    }
}

static void p2p__session_tick(p2p_node *node, p2p__session *session) {
    uint64_t now = node->now_us;
    p2p__conn *conn = p2p__conn_at(node, session->conn);
    switch (session->state) {
    case P2P__SESSION_HANDSHAKE:
        if (now - session->born_us < p2p__handshake_life_us(session)) {
            p2p__out_add(node, session);
        } else if (session->server) {
            p2p__count(node, P2P_METRIC_half_open_expired, 1);
            p2p__session_down(node, session);
        } else {
            p2p__session_failed(node, session);
        }
        break;
    case P2P__SESSION_PROVING:
    case P2P__SESSION_WAITING:
    case P2P__SESSION_OPEN:
        if (session->state == P2P__SESSION_PROVING && now >= session->proof_by_us)
            p2p__proof_missing(node, session);
        else if (session->state == P2P__SESSION_WAITING && now >= session->collapse_us)
            p2p__wait_over(node, session);
        else if (now >= p2p__rekey_us(node, session))
            p2p__conn_end(node, conn, 0, P2P__CODE_REKEY, p2p__no_words(), P2P_ERR_CLOSED);
        else
            p2p__session_alive_tick(node, session);
        break;
    case P2P__SESSION_CLOSING:
    case P2P__SESSION_DRAINING:
        if (now >= session->tick_us)
            p2p__session_down(node, session);
        break;
    default: break;
    }
    if (session->state == P2P__SESSION_DOWN)
        p2p__session_free(node, session);
    else
        p2p__session_schedule(node, session);
}

/* Everything a closing connection owes is acknowledged. */
static bool p2p__conn_flushed(const p2p_node *node, const p2p__conn *conn) {
    uint16_t at;
    if (conn->datagrams[1].count)
        return false;
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next) {
        const p2p__stream *s = &node->streams[at];
        if (s->send.acked < s->send.end || s->send.state == P2P__SEND_FINISHING ||
            s->send.want_reset)
            return false;
    }
    return true;
}

static void p2p__conn_flush(p2p_node *node, p2p__conn *conn, bool now) {
    p2p_str reason;
    if (conn->state != P2P__CONN_FLUSHING || (!now && !p2p__conn_flushed(node, conn)))
        return;
    reason.data = conn->reason;
    reason.size = conn->reason_size;
    p2p__conn_end(node, conn, 1, conn->code, reason, P2P_OK);
}

P2P__OPTIONAL static void p2p__exchange_timer(p2p_node *node, p2p__stream *s, uint64_t at_us) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    s->x_deadline_us = at_us;
    s->x_ticks = node->ticks;
    node->fresh = node->ticks;
    if (!conn || at_us >= conn->router_us)
        return;
    conn->router_us = at_us;
    p2p__conn_schedule(node, conn);
}

static void p2p__conn_router_tick(p2p_node *node, p2p__conn *conn) {
    uint16_t at, next;
    conn->router_us = P2P_NEVER;
    for (at = conn->stream_first; at != P2P__NIL; at = next) {
        p2p__stream *s = &node->streams[at];
        next = s->conn_next;
        if (s->x_deadline_us <= node->now_us) {
            s->x_deadline_us = P2P_NEVER;
            p2p__router_timeout(node, s);
        }
    }
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next)
        conn->router_us = P2P__MIN(conn->router_us, node->streams[at].x_deadline_us);
}

static void p2p__conn_tick(p2p_node *node, p2p__conn *conn) {
    uint64_t now = node->now_us;
    if (conn->state <= P2P__CONN_DIALLING && now >= conn->connect_by_us)
        p2p__conn_expired(node, conn);
    else if (conn->state == P2P__CONN_WAITING && conn->addr_count && now >= conn->retry_us)
        p2p__dial(node, conn);
    else if (conn->state == P2P__CONN_FLUSHING)
        p2p__conn_flush(node, conn, now >= conn->flush_by_us);
    if (now >= conn->router_us)
        p2p__conn_router_tick(node, conn);
    p2p__conn_schedule(node, conn);
}

/* ---- what discovery and p2p_peer_add tell a dial */
static void p2p__peer_known(p2p_node *node, const p2p_ticket *ticket) {
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state <= P2P__CONN_DIALLING && p2p_id_equal(&conn->peer, &ticket->id))
            p2p__path_learn(node, conn, ticket);
    }
}

/* The connection that serves a dial with .share: the one furthest along; for one with .reconnect
 * only one that comes back. */
static p2p__conn *p2p__conn_shared(p2p_node *node, const p2p_id *peer, uint32_t alpn,
                                   bool reconnect) {
    p2p__conn *best = NULL;
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state <= P2P__CONN_OPEN && p2p_id_equal(&conn->peer, peer) &&
            (alpn == P2P__ANY_ALPN || conn->alpn == alpn) && (conn->reconnect || !reconnect) &&
            (!best || conn->state > best->state))
            best = conn;
    }
    return best;
}

#ifndef P2P_NO_DISCOVERY
/* Nothing was queued on it yet. */
static bool p2p__conn_untouched(const p2p_node *node, const p2p__conn *conn) {
    const p2p__stream *s = p2p__messages(node, conn);
    return (conn->stream_first == P2P__NIL || conn->stream_first == conn->messages) &&
           (!s || (s->conn_next == P2P__NIL && s->send.end == 0)) && conn->datagrams[1].count == 0;
}

/* With .share an open connection serves: its CONNECTED names the handle that p2p_connect_name
 * gave. */
static bool p2p__conn_alias(p2p_node *node, p2p__conn *conn, const p2p_id *peer) {
    p2p__conn *open = p2p__conn_shared(node, peer, conn->alpn, conn->reconnect != 0);
    if (!open || open->state != P2P__CONN_OPEN)
        return false;
    open->holders++;
    conn->alias = p2p__pool_id(&node->conns, open);
    node->waiting_dials--;
    p2p__conn_go(conn, P2P__CONN_DOWN);
    p2p__conn_schedule(node, conn);
    p2p__raise_conn(node, conn, P2P__EV_CONNECTED);
    return true;
}

/* A dial by name learns whom it is for; one that turns out to be open already is that one. */
static void p2p__dial_found(p2p_node *node, uint32_t conn_id, const p2p_ticket *found) {
    p2p__conn *conn = (p2p__conn *)p2p__pool_get(&node->conns, conn_id);
    bool by_name;
    if (!conn || conn->state != P2P__CONN_WAITING)
        return;
    by_name = p2p__all_zero(conn->peer.bytes, sizeof conn->peer.bytes);
    if (!found) {
        if (by_name)
            p2p__conn_down(node, conn, P2P_ERR_NOT_FOUND, 0, p2p__no_words());
        return; /* by id: the deadline says it, since an address may still become known */
    }
    if (by_name && p2p_id_equal(&found->id, &node->key.id)) {
        p2p__conn_down(node, conn, P2P_ERR_ARG, 0,
                       p2p_str_of(P2P__SAY("the name is this node's own")));
        return;
    }
    if (by_name && conn->share && p2p__conn_untouched(node, conn) &&
        p2p__conn_alias(node, conn, &found->id))
        return;
    if (by_name && p2p__conns_with(node, &found->id) >= node->desc.max.conns_per_peer) {
        p2p__conn_down(node, conn, P2P_ERR_LIMIT, 0, p2p_str_of(P2P__SAY("max.conns_per_peer")));
        return;
    }
    conn->peer = found->id;
    p2p__path_learn(node, conn, found);
}
#endif

/* ==== >>discovery ====
 * For: what is known of peers, names of this node, questions to the provider in desc.discovery.
 * Always: a newer ticket of an id replaces the older; a question gets one answer, as a FOUND event
 *         or for its dial.
 * Covered by tests/unit/test_router.c.
 * Called by >>node: p2p__discovery_open and _close with the node; _refresh when its addresses
 * changed; _deadline and _timeout in a poll; _pending, _event and
 * _after for FOUND. */

static const p2p_str p2p__no_str = {NULL, 0};

#ifndef P2P_NO_WORDS
static void p2p__text_put(p2p__writer *w, p2p_str s) {
    if (s.data != NULL)
        p2p__put_bytes(w, s.data, P2P__MIN(s.size, (size_t)(w->end - w->at)));
}

/* Fails with "what: ab", cut to what a text holds: it says which of the caller's strings is bad. */
static int p2p__fail_named(const p2p_node *node, int err, const char *what, p2p_str a, p2p_str b) {
    char text[96];
    p2p__writer w = p2p__writer_of(text, sizeof text - 1);
    p2p__text_put(&w, p2p_str_of(what));
    p2p__text_put(&w, p2p_str_of(": "));
    p2p__text_put(&w, a);
    p2p__text_put(&w, b);
    *w.at = 0;
    return p2p__fail(node, err, text);
}
#else
#define p2p__fail_named(node, err, what, a, b) \
    ((void)(what), (void)(a), (void)(b), p2p__fail_numbers(node, err, 0, 0))
#endif

/* ---- peers: added by the application, or learned from an answer */
static p2p__peer *p2p__peer_place(const p2p_node *node, const p2p_id *id) {
    uint32_t i;
    for (i = 0; i < node->discovery.peer_count; i++) {
        p2p__peer *peer = &node->discovery.peers[i];
        if (peer->order != 0 && p2p_id_equal(&peer->ticket.id, id))
            return peer;
    }
    return NULL;
}

static const p2p_ticket *p2p__peer_find(const p2p_node *node, const p2p_id *id) {
    const p2p__peer *peer = p2p__peer_place(node, id);
    return peer != NULL ? &peer->ticket : NULL;
}

/* A free place, else that of the oldest peer learned from discovery; NULL when all were added. */
static p2p__peer *p2p__peer_room(const p2p_node *node) {
    p2p__peer *best = NULL;
    uint32_t i;
    for (i = 0; i < node->discovery.peer_count; i++) {
        p2p__peer *peer = &node->discovery.peers[i];
        if (!peer->added && (best == NULL || peer->order < best->order))
            best = peer;
    }
    return best;
}

/* Remembers a checked ticket, newest wins, and tells a dial that waits for it. False: no place. */
static bool p2p__peer_remember(p2p_node *node, const p2p_ticket *ticket, bool added) {
    p2p__peer *peer = p2p__peer_place(node, &ticket->id);
    if (peer == NULL)
        peer = p2p__peer_room(node);
    if (peer != NULL) {
        peer->added = (uint8_t)(added || peer->added);
        peer->ticket = *ticket;
        peer->order = ++node->discovery.order;
    }
    p2p__peer_known(node, ticket);
    return peer != NULL;
}

static bool p2p__addr_usable(const p2p_addr *addr) {
    return (addr->family == 4 || addr->family == 6) && addr->port != 0;
}

static int p2p__ticket_check(const p2p_node *node, const p2p_ticket *ticket) {
    uint32_t i;
    if (ticket == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "ticket: NULL");
    if (p2p__id_check(&ticket->id) < 0)
        return p2p__fail(node, P2P_ERR_INVALID_ID, "ticket.id: no valid Ed25519 public key");
    if (ticket->addr_count > P2P_TICKET_ADDRS)
        return p2p__fail_size(node, P2P_ERR_ARG, "ticket.addr_count", ticket->addr_count,
                              P2P_TICKET_ADDRS);
    for (i = 0; i < ticket->addr_count; i++)
        if (!p2p__addr_usable(&ticket->addrs[i]))
            return p2p__fail_size(node, P2P_ERR_ARG,
                                  "ticket.addrs: no family or port (size: which)", i,
                                  ticket->addr_count);
    if (ticket->relay.family != 0 &&
        (!p2p__addr_usable(&ticket->relay) || p2p__id_check(&ticket->relay_id) < 0))
        return p2p__fail(node, P2P_ERR_ARG, "ticket.relay: no id, family or port");
    return P2P_OK;
}

/* One added here stays until removed; one learned from discovery gives way to a newer one when
 * max.peers is reached. P2P_ERR_LIMIT when every place holds an added one. */
P2P_DEF int p2p_peer_add(p2p_node *node, const p2p_ticket *peer) {
    int err;
    if (node == NULL)
        return P2P_ERR_ARG;
    err = p2p__ticket_check(node, peer);
    if (err < 0)
        return err;
    if (p2p_id_equal(&peer->id, p2p_node_id(node)))
        return p2p__fail(node, P2P_ERR_INVALID_ID, "ticket.id: this node's own");
    if (!p2p__peer_remember(node, peer, true))
        return p2p__fail_size(node, P2P_ERR_LIMIT, "max.peers: all in use",
                              (uint64_t)node->discovery.peer_count + 1, node->discovery.peer_count);
    return P2P_OK;
}

P2P_DEF int p2p_peer_remove(p2p_node *node, const p2p_id *peer) {
    p2p__peer *place;
    if (node == NULL)
        return P2P_ERR_ARG;
    if (peer == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "peer: NULL");
    place = p2p__peer_place(node, peer);
    if (place == NULL)
        return p2p__fail(node, P2P_ERR_NOT_FOUND, "peer: not known");
    P2P_MEMSET(place, 0, sizeof *place);
    return P2P_OK;
}

#ifndef P2P_NO_DISCOVERY
/* ---- names of this node */
/* 1 to 63 bytes of UTF-8 without control characters; NUL-terminated, as providers take it. */
static int p2p__name_set(const p2p_node *node, const char *text, p2p__name *out) {
    p2p_str name = p2p_str_of(text);
    size_t i;
    P2P_MEMSET(out, 0, sizeof *out);
    if (text == NULL || name.size == 0)
        return p2p__fail(node, P2P_ERR_ARG, "name: empty");
    if (name.size > P2P__NAME_MAX)
        return p2p__fail_size(node, P2P_ERR_ARG, "name: too long", name.size, P2P__NAME_MAX);
    for (i = 0; i < name.size; i++)
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f)
            return p2p__fail(node, P2P_ERR_ARG, "name: holds a control character");
    if (!p2p__utf8_valid(text, name.size))
        return p2p__fail(node, P2P_ERR_ARG, "name: not UTF-8");
    out->size = (uint8_t)name.size;
    P2P_MEMCPY(out->text, text, name.size);
    return P2P_OK;
}

static int p2p__name_publish(p2p_node *node, const p2p__name *name) {
    const p2p_discovery *provider = &node->desc.discovery;
    int err;
    if (provider->api->publish == NULL)
        return P2P_ERR_DISCOVERY;
    err = provider->api->publish(provider->ctx, node, name->text);
    return err < 0 ? err : P2P_OK;
}

/* The place of a name that is registered already, else a free one, else NULL. */
static p2p__name *p2p__name_place(const p2p_node *node, const p2p__name *name) {
    p2p__name *best = NULL;
    uint32_t i;
    for (i = 0; i < P2P__NAMES; i++) {
        p2p__name *at = &node->discovery.names[i];
        if (at->size == name->size && P2P_MEMCMP(at->text, name->text, name->size) == 0)
            return at;
        if (at->size == 0 && best == NULL)
            best = at;
    }
    return best;
}

P2P_DEF int p2p_register(p2p_node *node, const char *name) {
    p2p__name wanted, *place;
    int err;
    if (node == NULL)
        return P2P_ERR_ARG;
    err = p2p__name_set(node, name, &wanted);
    if (err < 0)
        return err;
    if (node->desc.discovery.api == NULL)
        return p2p__fail(node, P2P_ERR_DISCOVERY, "desc.discovery: no provider");
    place = p2p__name_place(node, &wanted);
    if (place == NULL)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "name: all places in use", P2P__NAMES + 1,
                              P2P__NAMES);
    err = p2p__name_publish(node, &wanted);
    if (err < 0)
        return p2p__fail_named(node, err, "desc.discovery refused name", p2p_str_of(name),
                               p2p__no_str);
    *place = wanted;
    return P2P_OK;
}

/* Publishes every name anew: the node's addresses changed. A provider that refuses is asked again
 * at the next change. */
static void p2p__discovery_refresh(p2p_node *node) {
    uint32_t i;
    for (i = 0; node->desc.discovery.api != NULL && i < P2P__NAMES; i++)
        if (node->discovery.names[i].size != 0)
            (void)p2p__name_publish(node, &node->discovery.names[i]);
}

/* ---- questions */
static p2p__query *p2p__query_get(const p2p_node *node, uint32_t id) {
    return (p2p__query *)p2p__pool_get(&node->discovery.queries, id);
}

static uint32_t p2p__query_id(const p2p_node *node, const p2p__query *q) {
    return p2p__pool_id(&node->discovery.queries, q);
}

/* The query is over: for a dial at once, for the application as a FOUND event. */
static void p2p__query_end(p2p_node *node, p2p__query *q, int err, const p2p_ticket *found) {
    uint32_t conn_id = q->conn_id;
    P2P_ASSERT(q->state == P2P__QUERY_ASKED);
    P2P_ASSERT((found != NULL) == (err == P2P_OK));
    if (conn_id != 0) {
        p2p__pool_give(&node->discovery.queries, q);
        p2p__dial_found(node, conn_id, found);
        return;
    }
    q->state = P2P__QUERY_ANSWERED;
    q->err = err;
    q->until_us = P2P_NEVER;
    if (found != NULL)
        q->id = found->id;
    node->discovery.answered++;
}

static void p2p__query_cancel(p2p_node *node, p2p__query *q) {
    const p2p_discovery *provider = &node->desc.discovery;
    if (q->state == P2P__QUERY_ASKED && provider->api->cancel != NULL)
        provider->api->cancel(provider->ctx, node, p2p__query_id(node, q));
}

/* Asks by name, or (name NULL) by id. conn_id: the dial that waits, or 0. *out_query is set before
 * the provider is called, which may answer from inside: then the query is over at return.
 * Below 0: nothing was asked, and no answer will come. */
static int p2p__query_start(p2p_node *node, const char *name, const p2p_id *id, uint32_t conn_id,
                            uint32_t *out_query) {
    const p2p_discovery *provider = &node->desc.discovery;
    p2p__query *q;
    p2p__name wanted;
    int err;
    P2P_ASSERT((name != NULL) != (id != NULL));
    *out_query = 0;
    P2P_MEMSET(&wanted, 0, sizeof wanted);
    if (name != NULL && (err = p2p__name_set(node, name, &wanted)) < 0)
        return err;
    if (provider->api == NULL || provider->api->resolve == NULL)
        return p2p__fail(node, P2P_ERR_DISCOVERY, "desc.discovery: no provider");
    q = (p2p__query *)p2p__pool_take(&node->discovery.queries);
    if (q == NULL)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "queries: too many without an answer",
                              (uint64_t)node->discovery.queries.count + 1,
                              node->discovery.queries.count);
    q->conn_id = conn_id;
    q->name = wanted;
    q->by_id = name == NULL;
    if (id != NULL)
        q->id = *id;
    q->until_us = conn_id != 0 ? P2P_NEVER : 0; /* 0: set by p2p__discovery_timeout */
    *out_query = p2p__query_id(node, q);
    err = provider->api->resolve(provider->ctx, node, *out_query, name, id);
    q = p2p__query_get(node, *out_query);
    if (err < 0 && q != NULL && q->state == P2P__QUERY_ASKED)
        p2p__query_end(node, q, P2P_ERR_NOT_FOUND, NULL);
    return P2P_OK;
}

/* Asks the provider, if there is one, where the peer of a dial is. */
static void p2p__peer_ask(p2p_node *node, p2p__conn *conn) {
    uint32_t id = p2p__pool_id(&node->conns, conn);
    if (!node->desc.discovery.api)
        return;
    p2p__query_cancel_conn(node, id);
    (void)p2p__query_start(node, NULL, &conn->peer, id, &conn->query);
}

P2P_DEF int p2p_discover(p2p_node *node, const char *name, uint32_t *out_query) {
    uint32_t query;
    int err;
    if (node == NULL)
        return P2P_ERR_ARG;
    if (name == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "name: NULL");
    err = p2p__query_start(node, name, NULL, 0, &query);
    if (err == P2P_OK && out_query != NULL)
        *out_query = query;
    return err;
}

/* The provider's answer; the first one counts. A ticket that is no answer leaves the query open. */
P2P_DEF int p2p_discovered(p2p_node *node, uint32_t query, const p2p_ticket *found) {
    p2p__query *q;
    int err;
    if (node == NULL)
        return P2P_ERR_ARG;
    q = p2p__query_get(node, query);
    if (q == NULL)
        return p2p__fail(node, P2P_ERR_HANDLE, "query: answered or cancelled already");
    if (q->state != P2P__QUERY_ASKED)
        return p2p__fail(node, P2P_ERR_STATE, "query: answered already");
    if (found == NULL) {
        p2p__query_end(node, q, P2P_ERR_NOT_FOUND, NULL);
        return P2P_OK;
    }
    err = p2p__ticket_check(node, found);
    if (err < 0)
        return err;
    if (q->by_id && !p2p_id_equal(&q->id, &found->id))
        return p2p__fail(node, P2P_ERR_ARG, "found.id: not the id that was asked for");
    if (p2p_id_equal(&found->id, p2p_node_id(node)) || p2p__peer_remember(node, found, false) ||
        q->conn_id != 0)
        p2p__query_end(node, q, P2P_OK, found);
    else
        p2p__query_end(node, q, P2P_ERR_LIMIT, NULL); /* FOUND promises that p2p_connect knows it */
    return P2P_OK;
}

static void p2p__query_cancel_conn(p2p_node *node, uint32_t conn_id) {
    uint32_t i;
    for (i = 0; i < node->discovery.queries.count; i++) {
        p2p__query *q = (p2p__query *)p2p__pool_at(&node->discovery.queries, i);
        if (!p2p__slot_live(q) || q->conn_id != conn_id)
            continue;
        p2p__query_cancel(node, q);
        p2p__pool_give(&node->discovery.queries, q);
    }
}

static bool p2p__discovery_pending(const p2p_node *node) { return node->discovery.answered > 0; }

/* FOUND of one answered query: 1, or 0. Its name lies in the query until the next call of
 * p2p__discovery_after, which comes with the next p2p_next_event. */
static int p2p__discovery_event(p2p_node *node, p2p_event *out) {
    uint32_t i;
    for (i = 0; node->discovery.answered > 0 && i < node->discovery.queries.count; i++) {
        p2p__query *q = (p2p__query *)p2p__pool_at(&node->discovery.queries, i);
        if (!p2p__slot_live(q) || q->state != P2P__QUERY_ANSWERED)
            continue;
        P2P_ASSERT(node->discovery.told == 0);
        q->state = P2P__QUERY_TOLD;
        node->discovery.answered--;
        node->discovery.told = p2p__query_id(node, q);
        out->type = P2P_EVENT_FOUND;
        out->err = q->err;
        out->query = node->discovery.told;
        out->name.data = q->name.text;
        out->name.size = q->name.size;
        if (q->err == P2P_OK)
            out->peer = q->id;
        return 1;
    }
    return 0;
}

/* At the start of each p2p_next_event: the name that the last one told is over. */
static void p2p__discovery_after(p2p_node *node) {
    p2p__query *q = node->discovery.told != 0 ? p2p__query_get(node, node->discovery.told) : NULL;
    if (q != NULL)
        p2p__pool_give(&node->discovery.queries, q);
    node->discovery.told = 0;
}

/* When p2p__discovery_timeout is wanted. Dials have their own deadline. */
static uint64_t p2p__discovery_deadline(const p2p_node *node) {
    uint64_t at = P2P_NEVER;
    uint32_t i;
    for (i = 0; node->discovery.queries.used > 0 && i < node->discovery.queries.count; i++) {
        const p2p__query *q = (const p2p__query *)p2p__pool_at(&node->discovery.queries, i);
        if (p2p__slot_live(q))
            at = P2P__MIN(at, q->until_us);
    }
    return at;
}

/* A provider that never answers must not keep the application waiting. The time of a question
 * counts from the first poll after it: calls of the application do not know the time. */
static void p2p__discovery_timeout(p2p_node *node) {
    uint32_t i;
    for (i = 0; node->discovery.queries.used > 0 && i < node->discovery.queries.count; i++) {
        p2p__query *q = (p2p__query *)p2p__pool_at(&node->discovery.queries, i);
        if (!p2p__slot_live(q) || q->state != P2P__QUERY_ASKED)
            continue;
        if (q->until_us == 0)
            q->until_us = p2p__time_add(node->now_us, node->desc.time.connect_us);
        if (q->until_us > node->now_us)
            continue;
        p2p__query_cancel(node, q);
        p2p__query_end(node, q, P2P_ERR_TIMEOUT, NULL);
    }
}

/* At the end of open: query ids begin anywhere, as handles do. */
static void p2p__discovery_open(p2p_node *node) {
    p2p__pool *pool = &node->discovery.queries;
    p2p__pool_init(pool, pool->items, sizeof(p2p__query), pool->count, p2p__drbg_fast(&node->drbg));
}

/* At close: the provider forgets this node. */
static void p2p__discovery_close(p2p_node *node) {
    const p2p_discovery *provider = &node->desc.discovery;
    bool named = false;
    uint32_t i;
    for (i = 0; i < node->discovery.queries.count; i++) {
        p2p__query *q = (p2p__query *)p2p__pool_at(&node->discovery.queries, i);
        if (p2p__slot_live(q))
            p2p__query_cancel(node, q);
    }
    for (i = 0; provider->api != NULL && i < P2P__NAMES; i++)
        named = named || node->discovery.names[i].size != 0;
    if (named && provider->api->publish != NULL)
        (void)provider->api->publish(provider->ctx, node, NULL);
}
#else /* nothing is asked, and nobody answers */
static void p2p__query_cancel_conn(p2p_node *node, uint32_t conn_id) {
    (void)node;
    (void)conn_id;
}
static void p2p__peer_ask(p2p_node *node, p2p__conn *conn) {
    (void)node;
    (void)conn;
}
static int p2p__discovery_event(p2p_node *node, p2p_event *out) {
    (void)node;
    (void)out;
    return 0;
}
static uint64_t p2p__discovery_deadline(const p2p_node *node) {
    (void)node;
    return P2P_NEVER;
}
static bool p2p__discovery_pending(const p2p_node *node) { return node == NULL; }
static void p2p__discovery_open(p2p_node *node) { (void)node; }
static void p2p__discovery_close(p2p_node *node) { (void)node; }
static void p2p__discovery_after(p2p_node *node) { (void)node; }
static void p2p__discovery_timeout(p2p_node *node) { (void)node; }
static void p2p__discovery_refresh(p2p_node *node) { (void)node; }
#endif

/* ==== >>router ====
 * For: requests and responses over streams of kind 2: heads on the wire, routes, handlers, answers.
 * Always: a head lies where it arrived, at the start of the receive ring; every request that was
 *         routed gets exactly one answer or a reset; a malformed one costs its stream and never
 *         the connection.
 * Covered by tests/unit/test_router.c, tests/unit/test_request.c, tests/fuzz/fuzz_request.c.
 * Called for streams of kind 2: p2p__router_readable, _closed, _timeout by the rooms below;
 * _raw before body bytes are read (else AGAIN); _writable before they are written or finished (else
 * P2P_ERR_STATE); _taken after some were read; _finished in p2p_stream_finish;
 * _run, _event, _silent and _after by p2p_next_event. */

#ifndef P2P_NO_ROUTER
enum p2p__status { /* what the router answers by itself */
                   P2P__STATUS_BAD = 400,
                   P2P__STATUS_NOT_FOUND = 404,
                   P2P__STATUS_METHOD = 405,
                   P2P__STATUS_TIMEOUT =
                       408, /* only as a reset code: a dribbled head, an answer that did not come */
                   P2P__STATUS_TOO_LARGE = 413,
                   P2P__STATUS_INTERNAL = 500,
                   P2P__STATUS_BAD_ANSWER = 502, /* only as a reset code */
                   P2P__STATUS_BUSY = 503,
                   P2P__STATUS_LATE = 504
};

/* Names of headers that travel as one byte. The order is the wire: new ones go to the end, with a
 * new wire version. */
static const char p2p__header_names[] = "content-type\0"
                                        "content-length\0"
                                        "accept\0"
                                        "accept-ranges\0"
                                        "range\0"
                                        "content-range\0"
                                        "etag\0"
                                        "if-match\0"
                                        "if-none-match\0"
                                        "if-range\0"
                                        "if-modified-since\0"
                                        "last-modified\0"
                                        "cache-control\0"
                                        "content-encoding\0"
                                        "accept-encoding\0"
                                        "content-language\0"
                                        "accept-language\0"
                                        "content-disposition\0"
                                        "location\0"
                                        "allow\0"
                                        "date\0"
                                        "expires\0"
                                        "age\0"
                                        "retry-after\0"
                                        "authorization\0"
                                        "www-authenticate\0"
                                        "user-agent\0"
                                        "server\0"
                                        "vary\0"
                                        "origin\0"
                                        "x-content-sha256\0"
                                        "x-request-id\0";
#define P2P__HEADER_NAMES 32u

static const char p2p__method_names[] = "GET\0POST\0PUT\0DELETE\0PATCH"; /* enum p2p_method */
#define P2P__METHODS 5u

/* ---- texts: what may stand in paths and headers */
static bool p2p__str_same(p2p_str a, p2p_str b) {
    return a.size == b.size && (a.size == 0 || P2P_MEMCMP(a.data, b.data, a.size) == 0);
}

static bool p2p__str_one_line(p2p_str s) {
    size_t i;
    if (s.data == NULL)
        return s.size == 0;
    for (i = 0; i < s.size; i++)
        if (s.data[i] == 0 || s.data[i] == '\r' || s.data[i] == '\n')
            return false;
    return true;
}

/* A lower-case token of RFC 9110 section 5.6.2. */
static bool p2p__header_name_valid(p2p_str name) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    size_t i, j;
    for (i = 0; name.data != NULL && i < name.size; i++) {
        char c = name.data[i];
        for (j = 0; others[j] != 0 && others[j] != c; j++)
            continue;
        if (others[j] == 0 && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9'))
            return false;
    }
    return name.data != NULL && name.size > 0;
}

/* The n of the n-th name of the static table, 0 when it is none of them. */
static uint32_t p2p__header_index(p2p_str name) {
    const char *at = p2p__header_names;
    for (uint32_t n = 1; n <= P2P__HEADER_NAMES; n++, at = p2p__nth_text(at, 1))
        if (p2p_str_equal(name, at))
            return n;
    return 0;
}

/* Cuts the first segment, which a '/' begins, off *rest. False: nothing is left. */
static bool p2p__segment_cut(p2p_str *rest, p2p_str *out) {
    size_t n = 1;
    if (rest->size == 0)
        return false;
    while (n < rest->size && rest->data[n] != '/')
        n++;
    out->data = rest->data + 1;
    out->size = n - 1;
    rest->data += n;
    rest->size -= n;
    return true;
}

/* NULL when a path may travel, else what is wrong with it. */
static const char *p2p__path_fault(p2p_str path) {
    p2p_str rest = path, segment;
    if (path.size == 0 || path.data == NULL || path.data[0] != '/')
        return P2P__SAY("must begin with '/'");
    if (path.size > P2P__PATH_MAX)
        return P2P__SAY("longer than 1024 bytes");
    if (!p2p__str_one_line(path))
        return P2P__SAY("holds NUL, CR or LF");
    if (!p2p__utf8_valid(path.data, path.size))
        return P2P__SAY("not UTF-8");
    while (p2p__segment_cut(&rest, &segment))
        if (p2p_str_equal(segment, ".") || p2p_str_equal(segment, ".."))
            return P2P__SAY("has a '.' or '..' segment");
    return NULL;
}

/* ---- heads on the wire: reading */
static p2p_str p2p__header_name_get(p2p__reader *r) {
    p2p_str name = {NULL, 0};
    uint64_t index = p2p__get_varint_max(r, P2P__HEADER_NAMES);
    if (r->bad)
        return name;
    if (index > 0)
        return p2p_str_of(p2p__nth_text(p2p__header_names, (uint32_t)index - 1));
    name = p2p__get_str(r, UINT32_MAX);
    if (!r->bad && (!p2p__header_name_valid(name) || p2p__header_index(name) != 0))
        r->bad = 1; /* one name has one encoding */
    return name;
}

/* Reads to the end of the head. headers NULL: checks only. 0, or the status that refuses it. */
static int p2p__headers_get(p2p__reader *r, p2p_header *headers, size_t *count) {
    uint64_t i, total = p2p__get_varint(r);
    *count = 0;
    if (!r->bad && total > P2P__HEADERS_MAX)
        return P2P__STATUS_TOO_LARGE;
    for (i = 0; i < total && !r->bad; i++) {
        p2p_header h;
        h.name = p2p__header_name_get(r);
        h.value = p2p__get_str(r, UINT32_MAX);
        if (!r->bad && !p2p__str_one_line(h.value))
            r->bad = 1;
        if (headers != NULL)
            headers[i] = h;
    }
    if (r->bad || p2p__left(r) != 0)
        return P2P__STATUS_BAD;
    *count = (size_t)total;
    return 0;
}

/* Fills in method, path, query and headers, which point into the head. headers NULL: checks only.
 * 0, or the status that refuses it. */
static int p2p__request_get(p2p_span head, p2p_header *headers, p2p_request *out) {
    p2p__reader r = p2p__reader_of(head.data, head.size);
    out->method = (uint32_t)p2p__get_varint_max(&r, P2P__METHODS - 1);
    out->path = p2p__get_str(&r, UINT32_MAX);
    out->query = p2p__get_str(&r, UINT32_MAX);
    if (r.bad || p2p__path_fault(out->path) != NULL || !p2p__str_one_line(out->query))
        return P2P__STATUS_BAD;
    out->headers = headers;
    return p2p__headers_get(&r, headers, &out->header_count);
}

/* The same for the head of an answer: 0, or the error that RESPONSE tells. */
static int p2p__response_get(p2p_span head, p2p_header *headers, p2p_response_head *out) {
    p2p__reader r = p2p__reader_of(head.data, head.size);
    int err;
    out->status = (int)p2p__get_varint_max(&r, 599);
    out->headers = headers;
    out->header_count = 0;
    if (r.bad || out->status < 100)
        return P2P_ERR_PROTOCOL;
    err = p2p__headers_get(&r, headers, &out->header_count);
    if (err == 0)
        return P2P_OK;
    return err == P2P__STATUS_TOO_LARGE ? P2P_ERR_TOO_LARGE : P2P_ERR_PROTOCOL;
}

/* ---- heads on the wire: writing. The same walk measures and writes. */
typedef struct p2p__head_out {
    p2p_node *node;
    p2p__stream *stream; /* into its send ring, whose room was checked; NULL: */
    p2p__writer *writer; /* into memory; NULL: measure only */
    size_t size;
} p2p__head_out;

static void p2p__out_bytes(p2p__head_out *o, const void *data, size_t size) {
    o->size += size;
    if (size == 0)
        return;
    if (o->stream != NULL)
        (void)p2p__send_put(o->node, o->stream, data, size);
    else if (o->writer != NULL)
        p2p__put_bytes(o->writer, data, size);
}

static void p2p__out_varint(p2p__head_out *o, uint64_t value) {
    uint8_t bytes[8];
    p2p__writer w = p2p__writer_of(bytes, sizeof bytes);
    p2p__put_varint(&w, value);
    p2p__out_bytes(o, bytes, (size_t)(w.at - bytes));
}

static void p2p__out_str(p2p__head_out *o, p2p_str s) {
    p2p__out_varint(o, s.size);
    p2p__out_bytes(o, s.data, s.size);
}

static void p2p__out_headers(p2p__head_out *o, const p2p_header *headers, size_t count) {
    size_t i;
    p2p__out_varint(o, count);
    for (i = 0; i < count; i++) {
        uint32_t index = p2p__header_index(headers[i].name);
        p2p__out_varint(o, index);
        if (index == 0)
            p2p__out_str(o, headers[i].name);
        p2p__out_str(o, headers[i].value);
    }
}

/* What a head says, of either kind. */
typedef struct p2p__head_in {
    int status; /* 0: a request */
    uint32_t method;
    p2p_str path, query;
    const p2p_header *headers;
    size_t header_count;
} p2p__head_in;

static void p2p__out_inner(p2p__head_out *o, const p2p__head_in *h) {
    if (h->status != 0) {
        p2p__out_varint(o, (uint64_t)h->status);
    } else {
        p2p__out_varint(o, h->method);
        p2p__out_str(o, h->path);
        p2p__out_str(o, h->query);
    }
    p2p__out_headers(o, h->headers, h->header_count);
}

/* The whole head with its length before it. */
static void p2p__out_head(p2p__head_out *o, const p2p__head_in *h) {
    p2p__head_out measure;
    P2P_MEMSET(&measure, 0, sizeof measure);
    p2p__out_inner(&measure, h);
    p2p__out_varint(o, measure.size);
    p2p__out_inner(o, h);
}

static size_t p2p__head_size(const p2p__head_in *h) {
    p2p__head_out measure;
    P2P_MEMSET(&measure, 0, sizeof measure);
    p2p__out_head(&measure, h);
    return measure.size;
}

static int p2p__headers_check(const p2p_node *node, const p2p_header *headers, size_t count) {
    size_t i;
    if (count > P2P__HEADERS_MAX)
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "headers: too many", count,
                              P2P__HEADERS_MAX);
    if (count > 0 && headers == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "headers: NULL");
    for (i = 0; i < count; i++) {
        if (!p2p__header_name_valid(headers[i].name))
            return p2p__fail_named(node, P2P_ERR_ARG, "headers: name is not a lower-case token",
                                   headers[i].name, p2p__no_str);
        if (!p2p__str_one_line(headers[i].value))
            return p2p__fail_named(node, P2P_ERR_ARG, "headers: NULL, NUL, CR or LF in",
                                   headers[i].name, p2p__no_str);
    }
    return P2P_OK;
}

/* ---- patterns: a service's prefix and a route's pattern, read as one */
typedef struct p2p__pattern {
    p2p_str prefix, pattern;
} p2p__pattern;

enum p2p__segment_kind { P2P__SEGMENT_LITERAL, P2P__SEGMENT_PARAM, P2P__SEGMENT_REST };

static enum p2p__segment_kind p2p__segment_kind_of(p2p_str segment) {
    if (segment.size > 0 && segment.data[0] == ':')
        return P2P__SEGMENT_PARAM;
    return segment.size > 0 && segment.data[0] == '*' ? P2P__SEGMENT_REST : P2P__SEGMENT_LITERAL;
}

static p2p_str p2p__segment_name(p2p_str segment) {
    segment.data++;
    segment.size--;
    return segment;
}

/* No segment straddles the two parts: each begins with '/' and the prefix does not end in one. */
static bool p2p__pattern_cut(p2p__pattern *p, p2p_str *out) {
    return p2p__segment_cut(&p->prefix, out) || p2p__segment_cut(&p->pattern, out);
}

/* Whether the path matches; then params, when not NULL, has a name and a value for each variable
 * segment. ":name" takes one segment that is not empty, "*name" all that is left, "/" included. */
static bool p2p__pattern_match(p2p__pattern p, p2p_str path, p2p_header *params, size_t *count) {
    p2p_str want, have;
    *count = 0;
    while (p2p__pattern_cut(&p, &want)) {
        enum p2p__segment_kind kind = p2p__segment_kind_of(want);
        if (kind == P2P__SEGMENT_REST && path.size > 0) {
            have = p2p__segment_name(path); /* all of it but the '/' */
            path.size = 0;
        } else if (!p2p__segment_cut(&path, &have)) {
            return false;
        }
        if (kind == P2P__SEGMENT_LITERAL) {
            if (!p2p__str_same(want, have))
                return false;
            continue;
        }
        if (kind == P2P__SEGMENT_PARAM && have.size == 0)
            return false;
        if (params != NULL) {
            params[*count].name = p2p__segment_name(want);
            params[*count].value = have;
        }
        (*count)++;
    }
    return path.size == 0;
}

/* The first segment in which the two differ decides: below 0 when a's is the more exact one
 * (literal, then param, then rest), 0 when they match the same paths. */
static int p2p__pattern_compare(p2p__pattern a, p2p__pattern b) {
    p2p_str x = {NULL, 0}, y = {NULL, 0};
    for (;;) {
        bool more = p2p__pattern_cut(&a, &x);
        if (more != p2p__pattern_cut(&b, &y))
            return more ? -1 : 1;
        if (!more)
            return 0;
        if (p2p__segment_kind_of(x) != p2p__segment_kind_of(y))
            return (int)p2p__segment_kind_of(x) - (int)p2p__segment_kind_of(y);
        if (p2p__segment_kind_of(x) == P2P__SEGMENT_LITERAL && !p2p__str_same(x, y))
            return 1;
    }
}

/* Whether a variable segment's name stands in the pattern more than once. */
static bool p2p__pattern_repeats(p2p__pattern p, p2p_str name) {
    p2p_str segment;
    uint32_t n = 0;
    while (p2p__pattern_cut(&p, &segment))
        if (p2p__segment_kind_of(segment) != P2P__SEGMENT_LITERAL &&
            p2p__str_same(p2p__segment_name(segment), name))
            n++;
    return n > 1;
}

static const char *p2p__pattern_parts_fault(p2p__pattern p) {
    const char *fault = NULL;
    if (p.prefix.size > 0) {
        fault = p2p__path_fault(p.prefix);
        if (fault == NULL && p.prefix.data[p.prefix.size - 1] == '/')
            fault = P2P__SAY("prefix must not end in '/'");
    }
    if (fault == NULL && (p.prefix.size == 0 || p.pattern.size > 0))
        fault = p2p__path_fault(p.pattern);
    if (fault == NULL && p.prefix.size + p.pattern.size > P2P__PATH_MAX)
        fault = P2P__SAY("longer than 1024 bytes");
    return fault;
}

/* NULL when the pattern is good, else what is wrong. A pattern below a prefix may be "": then the
 * path is the prefix. */
static const char *p2p__pattern_fault(p2p__pattern p) {
    const char *fault = p2p__pattern_parts_fault(p);
    p2p__pattern rest = p;
    p2p_str segment;
    uint32_t variables = 0;
    while (fault == NULL && p2p__pattern_cut(&rest, &segment)) {
        enum p2p__segment_kind kind = p2p__segment_kind_of(segment);
        if (kind == P2P__SEGMENT_LITERAL &&
            (segment.size > 0 || rest.prefix.size + rest.pattern.size == 0))
            continue;
        if (segment.size == 0)
            fault = P2P__SAY("an empty segment before the last");
        else if (segment.size == 1)
            fault = P2P__SAY("':' or '*' without a name");
        else if (kind == P2P__SEGMENT_REST && rest.prefix.size + rest.pattern.size > 0)
            fault = P2P__SAY("'*' before the last segment");
        else if (p2p__pattern_repeats(p, p2p__segment_name(segment)))
            fault = P2P__SAY("a name twice");
        else if (++variables > P2P__PARAMS_MAX)
            fault = P2P__SAY("more than 8 variable segments");
    }
    return fault;
}

/* ---- tables */
typedef struct p2p__route_ref {
    const p2p_route *route; /* NULL: none */
    uint16_t service;       /* index + 1; 0: p2p_route_add */
} p2p__route_ref;

static p2p__pattern p2p__route_pattern(const p2p__router *r, p2p__route_ref at) {
    p2p__pattern p;
    p.prefix = p2p_str_of(at.service != 0 ? r->services[at.service - 1].prefix : "");
    if (p.prefix.data == NULL)
        p.prefix = p2p_str_of("");
    p.pattern = p2p_str_of(at.route->pattern);
    return p;
}

/* The routes in turn: begin with {NULL, 0}. */
static bool p2p__route_next(const p2p__router *r, p2p__route_ref *at) {
    const p2p_route *table = at->service == 0 ? r->routes : r->services[at->service - 1].routes;
    size_t count = at->service == 0 ? r->route_count : r->services[at->service - 1].count;
    size_t next = at->route == NULL ? 0 : (size_t)(at->route - table) + 1;
    while (next >= count) {
        if (at->service == r->service_count) {
            at->route = NULL;
            return false;
        }
        table = r->services[at->service].routes;
        count = r->services[at->service].count;
        at->service++;
        next = 0;
    }
    at->route = &table[next];
    return true;
}

/* The best route for method and path; *allowed has a bit for every method that has one. */
static p2p__route_ref p2p__route_find(const p2p__router *r, uint32_t method, p2p_str path,
                                      uint32_t *allowed) {
    p2p__route_ref at = {NULL, 0}, best = {NULL, 0};
    size_t count;
    *allowed = 0;
    while (p2p__route_next(r, &at)) {
        p2p__pattern p = p2p__route_pattern(r, at);
        if (!p2p__pattern_match(p, path, NULL, &count))
            continue;
        *allowed |= 1u << at.route->method;
        if (at.route->method == method &&
            (best.route == NULL || p2p__pattern_compare(p, p2p__route_pattern(r, best)) < 0))
            best = at;
    }
    return best;
}

static int p2p__route_fail(const p2p_node *node, const char *why, p2p__pattern p) {
    return p2p__fail_named(node, P2P_ERR_CONFIG, why, p.prefix, p.pattern);
}

/* Checks one route against those before it. */
static int p2p__route_check(const p2p_node *node, p2p__route_ref at) {
    const p2p__router *r = &node->router;
    p2p__pattern p = p2p__route_pattern(r, at);
    p2p__route_ref other = {NULL, 0};
    const char *fault;
    if (at.route->pattern == NULL)
        return p2p__fail(node, P2P_ERR_CONFIG, "route.pattern: NULL");
    fault = p2p__pattern_fault(p);
    if (fault != NULL)
        return p2p__route_fail(node, fault, p);
    if (at.route->method >= P2P__METHODS)
        return p2p__route_fail(node, "route.method: unknown", p);
    if ((at.route->flags & ~(uint32_t)P2P_ROUTE_STREAM) != 0)
        return p2p__route_fail(node, "route.flags: unknown", p);
    while (p2p__route_next(r, &other) && (other.route != at.route || other.service != at.service))
        if (other.route->method == at.route->method &&
            p2p__pattern_compare(p, p2p__route_pattern(r, other)) == 0)
            return p2p__route_fail(node, "route twice", p);
    return P2P_OK;
}

/* The struct is copied; its pattern and ctx must outlive the node. */
P2P_DEF int p2p_route_add(p2p_node *node, const p2p_route *route) {
    p2p__router *r;
    p2p__route_ref at = {NULL, 0};
    p2p_route kept;
    int err;
    if (node == NULL)
        return P2P_ERR_ARG;
    if (route == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "route: NULL");
    r = &node->router;
    if (r->route_count == r->route_room)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "max.routes: all in use",
                              (uint64_t)r->route_count + 1, r->route_room);
    kept = *route; /* outside of the table, so it is compared with all that are in it */
    at.route = &kept;
    err = p2p__route_check(node, at);
    if (err < 0)
        return err;
    r->routes[r->route_count++] = kept;
    return P2P_OK;
}

/* The struct is copied; its prefix, routes and ctx must outlive the node. */
P2P_DEF int p2p_service_add(p2p_node *node, const p2p_service *service) {
    p2p__router *r;
    p2p__route_ref at;
    size_t i;
    int err = P2P_OK;
    if (node == NULL)
        return P2P_ERR_ARG;
    if (service == NULL || (service->routes == NULL && service->count > 0))
        return p2p__fail(node, P2P_ERR_ARG,
                         service == NULL ? "service: NULL" : "service.routes: NULL");
    r = &node->router;
    if (r->service_count == r->service_room || r->service_count == UINT16_MAX)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "max.services: all in use",
                              (uint64_t)r->service_count + 1, r->service_room);
    r->services[r->service_count++] = *service;
    at.service = (uint16_t)r->service_count;
    for (i = 0; i < service->count && err == P2P_OK; i++) {
        at.route = &service->routes[i];
        err = p2p__route_check(node, at);
    }
    if (err < 0)
        P2P_MEMSET(&r->services[--r->service_count], 0, sizeof *r->services);
    return err;
}

/* ---- the life of an exchange */
enum p2p__exchange_may {
    P2P__MAY_REPLY = 1,
    P2P__MAY_WRITE = 2,  /* body bytes */
    P2P__MAY_READ = 4,   /* body bytes; of a request only on a streaming route */
    P2P__MAY_EXPIRE = 8, /* its deadline counts */
    P2P__MAY_ARRIVE = 16 /* bytes of its head or whole body are waited for */
};
typedef struct p2p__exchange_rule {
    uint16_t next; /* a bit for each state that may follow */
    uint8_t may;
} p2p__exchange_rule;

#define P2P__TO(state) (1u << P2P__EXCHANGE_##state)
static const p2p__exchange_rule p2p__exchange_rules[P2P__EXCHANGE_STATES] = {
    /* IDLE     */ {P2P__TO(HEAD) | P2P__TO(ASKED) | P2P__TO(GONE), P2P__MAY_ARRIVE},
    /* HEAD     */
    {P2P__TO(BODY) | P2P__TO(READY) | P2P__TO(REPLIED) | P2P__TO(GONE),
     P2P__MAY_ARRIVE | P2P__MAY_EXPIRE},
    /* BODY     */
    {P2P__TO(READY) | P2P__TO(REPLIED) | P2P__TO(GONE), P2P__MAY_ARRIVE | P2P__MAY_EXPIRE},
    /* READY    */ {P2P__TO(RUNNING) | P2P__TO(GONE), 0},
    /* RUNNING  */
    {P2P__TO(LATER) | P2P__TO(REPLYING) | P2P__TO(REPLIED) | P2P__TO(GONE),
     P2P__MAY_REPLY | P2P__MAY_READ},
    /* LATER    */
    {P2P__TO(REPLYING) | P2P__TO(REPLIED) | P2P__TO(GONE),
     P2P__MAY_REPLY | P2P__MAY_READ | P2P__MAY_EXPIRE},
    /* REPLYING */ {P2P__TO(REPLIED) | P2P__TO(GONE), P2P__MAY_READ | P2P__MAY_WRITE},
    /* REPLIED  */ {P2P__TO(GONE), 0},
    /* ASKED    */
    {P2P__TO(ANSWERED) | P2P__TO(FAILED) | P2P__TO(GONE), P2P__MAY_EXPIRE | P2P__MAY_WRITE},
    /* ANSWERED */ {P2P__TO(GONE), P2P__MAY_READ | P2P__MAY_WRITE},
    /* FAILED   */ {P2P__TO(GONE), 0},
    /* GONE     */ {0, 0},
};
#undef P2P__TO

P2P__NOINLINE static bool p2p__exchange_may(const p2p__stream *s, uint32_t what) {
    return (p2p__exchange_rules[s->x.state].may & what) != 0;
}

/* Enters a state; its deadline begins anew, or ends. */
static void p2p__exchange_go(p2p_node *node, p2p__stream *s, uint32_t state) {
    P2P_ASSERT(s->kind == P2P__KIND_REQUEST);
    P2P_ASSERT((p2p__exchange_rules[s->x.state].next >> state & 1) != 0);
    s->x.state = (uint8_t)state;
    if (p2p__exchange_may(s, P2P__MAY_EXPIRE)) {
        s->x.mark = (uint32_t)(s->local ? s->send.acked : s->recv.here);
        p2p__exchange_timer(node, s, p2p__time_add(node->now_us, node->desc.time.request_us));
    } else {
        p2p__exchange_timer(node, s, P2P_NEVER);
    }
}

static bool p2p__exchange_streams(const p2p__stream *s) {
    return s->x.route != NULL && (s->x.route->flags & P2P_ROUTE_STREAM) != 0;
}

static bool p2p__router_raw(const p2p__stream *s) {
    return p2p__exchange_may(s, P2P__MAY_READ) && (s->local || p2p__exchange_streams(s));
}

/* Whether the application may write body bytes now, or finish them. */
static bool p2p__router_writable(const p2p__stream *s) {
    return p2p__exchange_may(s, P2P__MAY_WRITE) && (!s->local || (s->x.flags & P2P__EXCHANGE_MORE));
}

static bool p2p__router_silent(const p2p__stream *s) {
    return !s->local && !s->app_user_set && !(s->x.flags & P2P__EXCHANGE_DEFERRED);
}

/* The request's bytes go: the head, and of a body that nobody will read what is here and comes. */
static void p2p__request_drop(p2p_node *node, p2p__stream *s) {
    s->x.flags = (uint8_t)(s->x.flags & ~P2P__EXCHANGE_EXPOSED);
    s->x.head = NULL;
    p2p__recv_release(node, s);
    if (p2p__router_raw(s))
        return;
    if (p2p__recv_whole(s)) {
        while (p2p__recv_have(s) > 0)
            p2p__recv_take(node, s, p2p__recv_have(s));
        p2p__recv_ended(node, s);
    } else {
        p2p__recv_stop(node, s, 0);
    }
}

/* ---- answers */
static p2p__head_in p2p__response_head(int status, const p2p_header *headers, size_t count) {
    p2p__head_in h;
    P2P_MEMSET(&h, 0, sizeof h);
    h.status = status;
    h.headers = headers;
    h.header_count = count;
    return h;
}

static int p2p__head_put(p2p_node *node, p2p__stream *s, const p2p__head_in *h, const void *body,
                         size_t size, const char *what) {
    p2p__head_out out;
    size_t head = p2p__head_size(h), room = p2p__send_room(s);
    if (head > room || size > room - head)
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, what, (uint64_t)head + size, room);
    P2P_MEMSET(&out, 0, sizeof out);
    out.node = node;
    out.stream = s;
    p2p__out_head(&out, h);
    p2p__out_bytes(&out, body, size);
    return P2P_OK;
}

/* The router's own answer. One that does not even fit the send ring becomes a reset. */
static void p2p__router_answer(p2p_node *node, p2p__stream *s, int status, p2p_str allow) {
    p2p_header header;
    p2p__head_in h;
    header.name = p2p_str_of("allow");
    header.value = allow;
    h = p2p__response_head(status, &header, allow.size > 0);
    P2P_ASSERT(status >= 400 && status <= 599);
    if (s->send.state != P2P__SEND_OPEN) { /* the peer stopped listening */
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
    } else if (p2p__head_put(node, s, &h, NULL, 0, "bytes.peer_send: too small") < 0) {
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
        p2p__send_reset(node, s, (uint32_t)status);
    } else {
        p2p__exchange_go(node, s, P2P__EXCHANGE_REPLIED);
        p2p__send_finish(node, s);
    }
    if (!(s->x.flags & P2P__EXCHANGE_EXPOSED)) /* else when the request is concealed */
        p2p__request_drop(node, s);
}

static void p2p__router_refuse(p2p_node *node, p2p__stream *s, int status) {
    bool bad = status == P2P__STATUS_BAD || status == P2P__STATUS_TOO_LARGE;
    if (bad)
        p2p__count(node, P2P_METRIC_requests_bad, 1);
    if (status == P2P__STATUS_NOT_FOUND)
        p2p__count(node, P2P_METRIC_requests_unrouted, 1);
    p2p__router_answer(node, s, status, p2p__no_str);
}

/* 405 names the methods that would do: RFC 9110 section 15.5.6. */
static void p2p__router_refuse_method(p2p_node *node, p2p__stream *s, uint32_t allowed) {
    char text[40];
    p2p__writer w = p2p__writer_of(text, sizeof text);
    p2p_str allow;
    for (uint32_t i = 0; i < P2P__METHODS; i++) {
        if (!(allowed >> i & 1))
            continue;
        if (w.at != (uint8_t *)text)
            p2p__put_text(&w, ", ");
        p2p__put_text(&w, p2p__nth_text(p2p__method_names, i));
    }
    P2P_ASSERT(!w.bad);
    allow.data = text;
    allow.size = (size_t)((char *)w.at - text);
    p2p__count(node, P2P_METRIC_requests_unrouted, 1);
    p2p__router_answer(node, s, P2P__STATUS_METHOD, allow);
}

/* ---- requests that arrive */
/* Bytes of the head with its prefix; 0: not known yet; SIZE_MAX: no length at all. */
static size_t p2p__head_extent(const p2p__stream *s, size_t *prefix) {
    p2p__reader r = p2p__reader_of(p2p__recv_at(s), p2p__recv_have(s));
    uint64_t size;
    if (p2p__left(&r) == 0 || p2p__left(&r) < (size_t)1 << (r.at[0] >> 6))
        return 0;
    size = p2p__get_varint(&r);
    if (r.bad)
        return SIZE_MAX;
    *prefix = (size_t)(r.at - p2p__recv_at(s));
    return *prefix + (size_t)P2P__MIN(size, (uint64_t)1 << 30); /* beyond every ring */
}

static p2p_span p2p__head_span(const p2p__stream *s) {
    p2p_span head;
    head.data = s->x.head + s->x.prefix_bytes;
    head.size = s->x.head_bytes - s->x.prefix_bytes;
    return head;
}

static void p2p__head_found(p2p__stream *s, size_t extent, size_t prefix) {
    P2P_ASSERT(s->recv.read == 0 && p2p__recv_have(s) >= extent);
    s->x.head = p2p__recv_at(s);
    s->x.head_bytes = (uint32_t)extent;
    s->x.prefix_bytes = (uint8_t)prefix;
}

static void p2p__request_ready(p2p_node *node, p2p__stream *s) {
    p2p__exchange_go(node, s, P2P__EXCHANGE_READY);
    p2p__raise(node, s, s->x.route->handler != NULL ? P2P__EV_HANDLER : P2P__EV_REQUEST);
}

static void p2p__request_body(p2p_node *node, p2p__stream *s) {
    size_t most = (size_t)s->x.head_bytes + node->desc.bytes.body_max;
    if (p2p__exchange_streams(s)) {
        p2p__recv_hold(node, s, s->x.head_bytes);
        p2p__request_ready(node, s);
    } else if (p2p__recv_have(s) > most) {
        p2p__router_refuse(node, s, P2P__STATUS_TOO_LARGE);
    } else if (p2p__recv_whole(s)) {
        p2p__request_ready(node, s);
    } else if (s->x.state == P2P__EXCHANGE_HEAD) {
        p2p__exchange_go(node, s, P2P__EXCHANGE_BODY);
    }
}

static void p2p__request_route(p2p_node *node, p2p__stream *s) {
    p2p_request q;
    p2p__route_ref at;
    uint32_t allowed;
    int status;
    P2P_MEMSET(&q, 0, sizeof q);
    p2p__count(node, P2P_METRIC_requests_received, 1);
    status = p2p__request_get(p2p__head_span(s), NULL, &q);
    if (status == 0 && node->stopping)
        status = P2P__STATUS_BUSY;
    if (status != 0) {
        p2p__router_refuse(node, s, status);
        return;
    }
    at = p2p__route_find(&node->router, q.method, q.path, &allowed);
    if (at.route == NULL && allowed != 0) {
        p2p__router_refuse_method(node, s, allowed);
        return;
    }
    if (at.route == NULL) {
        p2p__router_refuse(node, s, P2P__STATUS_NOT_FOUND);
        return;
    }
    s->x.route = at.route;
    s->x.service = at.service;
    p2p__request_body(node, s);
}

static void p2p__request_head(p2p_node *node, p2p__stream *s) {
    size_t prefix = 0, extent = p2p__head_extent(s, &prefix);
    bool here;
    if (s->x.state == P2P__EXCHANGE_IDLE)
        p2p__exchange_go(node, s, P2P__EXCHANGE_HEAD);
    here = extent != 0 && extent <= p2p__recv_have(s);
    if (extent != SIZE_MAX && extent > node->desc.bytes.head_max) {
        p2p__router_refuse(node, s, P2P__STATUS_TOO_LARGE);
    } else if (extent == SIZE_MAX || (!here && p2p__recv_whole(s))) {
        p2p__router_refuse(node, s, P2P__STATUS_BAD);
    } else if (here) {
        p2p__head_found(s, extent, prefix);
        p2p__request_route(node, s);
    }
}

/* ---- answers that arrive */
static void p2p__response_fail(p2p_node *node, p2p__stream *s, int err) {
    s->x.err = (int16_t)err;
    p2p__exchange_go(node, s, P2P__EXCHANGE_FAILED);
    p2p__raise(node, s, P2P__EV_RESPONSE);
}

/* The head of an answer may fill the ring but for one byte: with none the body could not arrive. */
static void p2p__response_arrives(p2p_node *node, p2p__stream *s) {
    size_t prefix = 0, extent = p2p__head_extent(s, &prefix);
    p2p_response_head head;
    int err = P2P_OK;
    if (extent == SIZE_MAX)
        err = P2P_ERR_PROTOCOL;
    else if (extent >= p2p__recv_room(s))
        err = P2P_ERR_TOO_LARGE;
    else if (extent == 0 || extent > p2p__recv_have(s))
        err = p2p__recv_whole(s) ? P2P_ERR_PROTOCOL : P2P_ERR_AGAIN;
    if (err == P2P_ERR_AGAIN)
        return;
    if (err == P2P_OK) {
        p2p__head_found(s, extent, prefix);
        err = p2p__response_get(p2p__head_span(s), NULL, &head);
    }
    if (err < 0) {
        p2p__count(node, P2P_METRIC_responses_bad, 1);
        s->x.head = NULL;
        p2p__response_fail(node, s, err);
        p2p__stream_abort(node, s, P2P__STATUS_BAD_ANSWER);
        return;
    }
    p2p__recv_hold(node, s, extent);
    p2p__exchange_go(node, s, P2P__EXCHANGE_ANSWERED);
    p2p__raise(node, s, P2P__EV_RESPONSE);
}

/* An answer without a body: nobody needs to read the end of it. */
static void p2p__response_ended(p2p_node *node, p2p__stream *s) {
    if (p2p__recv_whole(s) && s->recv.final == s->x.head_bytes)
        p2p__recv_ended(node, s);
}

/* ---- what the rooms below call */
/* The peer abandoned its half: of a request it gave up, of an answer it failed to give. */
static void p2p__router_reset(p2p_node *node, p2p__stream *s) {
    if (s->x.state == P2P__EXCHANGE_ASKED) {
        p2p__response_fail(node, s, P2P_ERR_RESET);
    } else if (s->x.state == P2P__EXCHANGE_ANSWERED) {
        p2p__raise(node, s, P2P__EV_READABLE);
    } else if (s->x.state != P2P__EXCHANGE_FAILED && s->x.state != P2P__EXCHANGE_GONE) {
        s->x.err = P2P_ERR_RESET;
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
    }
}

/* Bytes, the end or a reset arrived on a request's stream. */
static void p2p__router_readable(p2p_node *node, p2p__stream *s) {
    if (s->err == P2P_ERR_RESET || p2p__recv_reset(s))
        p2p__router_reset(node, s);
    else if (s->x.state == P2P__EXCHANGE_ASKED)
        p2p__response_arrives(node, s);
    else if (s->x.state == P2P__EXCHANGE_BODY)
        p2p__request_body(node, s);
    else if (p2p__exchange_may(s, P2P__MAY_ARRIVE))
        p2p__request_head(node, s);
    else if (p2p__router_raw(s))
        p2p__raise(node, s, P2P__EV_READABLE);
}

/* The stream is over: both halves done, or its connection lost. Told once or more. */
static void p2p__router_closed(p2p_node *node, p2p__stream *s) {
    if (s->x.state == P2P__EXCHANGE_ASKED && s->err != P2P_OK) {
        p2p__response_fail(node, s, s->err);
    } else if (s->x.state == P2P__EXCHANGE_ASKED) { /* the application gave it up */
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
    } else if (!s->local && s->x.state != P2P__EXCHANGE_GONE) {
        if (s->x.err == P2P_OK)
            s->x.err = (int16_t)(s->err != P2P_OK ? s->err : (int)P2P_ERR_CLOSED);
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
    }
}

static void p2p__router_timeout(p2p_node *node, p2p__stream *s) {
    bool local = s->local != 0;
    uint32_t moved = (uint32_t)(local ? s->send.acked : s->recv.here);
    bool goes_on =
        local ? s->send.state == P2P__SEND_OPEN
              : s->x.state == P2P__EXCHANGE_LATER && p2p__router_raw(s) && !p2p__recv_whole(s);
    if (!p2p__exchange_may(s, P2P__MAY_EXPIRE))
        return;
    if (local && s->recv.state == P2P__RECV_DONE) { /* the application gave it up */
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
        return;
    }
    if (goes_on && (moved != s->x.mark || (local && s->send.acked == s->send.end))) {
        s->x.mark = moved; /* a body on its way: the answer is due after it */
        p2p__exchange_timer(node, s, p2p__time_add(node->now_us, node->desc.time.request_us));
        return;
    }
    p2p__count(node, P2P_METRIC_requests_timeout, 1);
    if (s->x.state == P2P__EXCHANGE_LATER) {
        p2p__router_refuse(node, s, P2P__STATUS_LATE);
        return;
    }
    if (local)
        p2p__response_fail(node, s, P2P_ERR_TIMEOUT);
    else
        p2p__exchange_go(node, s, P2P__EXCHANGE_GONE);
    p2p__stream_abort(node, s, P2P__STATUS_TIMEOUT);
}

/* The application finished its half: the answer is due from now on, or given. */
static void p2p__router_finished(p2p_node *node, p2p__stream *s) {
    if (s->local) {
        s->x.flags = (uint8_t)(s->x.flags & ~P2P__EXCHANGE_MORE);
        if (s->x.state == P2P__EXCHANGE_ASKED)
            p2p__exchange_timer(node, s, p2p__time_add(node->now_us, node->desc.time.request_us));
    } else if (s->x.state == P2P__EXCHANGE_REPLYING) {
        p2p__exchange_go(node, s, P2P__EXCHANGE_REPLIED);
        if (!(s->x.flags & P2P__EXCHANGE_EXPOSED))
            p2p__request_drop(node, s);
    }
}

/* The application takes body bytes of an answer: its head goes at the next p2p_next_event. */
static void p2p__router_taken(p2p_node *node, p2p__stream *s) {
    if (!s->local || s->x.head == NULL || s->x.next != 0 || s->x.state != P2P__EXCHANGE_ANSWERED)
        return;
    s->x.next = node->router.taken != 0 ? node->router.taken : UINT32_MAX;
    node->router.taken = p2p__stream_handle(node, s).id;
}

/* ---- handlers and events */
static void p2p__request_expose(p2p_node *node, p2p__stream *s, p2p__request_scratch *out) {
    p2p_request *q = &out->request;
    p2p__route_ref at;
    p2p__conn *conn = p2p__stream_conn(node, s);
    int status;
    P2P_MEMSET(q, 0, sizeof *q);
    at.route = s->x.route;
    at.service = s->x.service;
    status = p2p__request_get(p2p__head_span(s), out->headers, q);
    P2P_ASSERT(status == 0);
    (void)status;
    q->conn = s->conn_handle;
    q->stream = p2p__stream_handle(node, s);
    if (conn != NULL)
        q->peer = conn->peer;
    (void)p2p__pattern_match(p2p__route_pattern(&node->router, at), q->path, out->params,
                             &q->param_count);
    q->params = out->params;
    q->ctx = s->x.route->ctx;
    if (!p2p__exchange_streams(s)) {
        q->body.data = s->x.head + s->x.head_bytes;
        q->body.size = p2p__recv_have(s) - s->x.head_bytes;
    }
    s->x.flags = (uint8_t)(s->x.flags | P2P__EXCHANGE_EXPOSED);
}

/* The guard of the request's service: 0 pass, or the status to refuse with. */
static int p2p__request_guard(p2p_node *node, const p2p__stream *s, const p2p_request *q) {
    const p2p_service *service =
        s->x.service != 0 ? &node->router.services[s->x.service - 1] : NULL;
    int status;
    if (service == NULL || service->guard == NULL)
        return 0;
    status = service->guard(service->ctx, q);
    return status == 0 || (status >= 400 && status <= 599) ? status : (int)P2P__STATUS_INTERNAL;
}

/* Pointers into the request are no longer out. Body bytes of a streaming route that are here were
 * perhaps not read yet: READABLE says so. */
static void p2p__request_conceal(p2p_node *node, p2p__stream *s) {
    if (!(s->x.flags & P2P__EXCHANGE_EXPOSED))
        return;
    p2p__request_drop(node, s);
    if (p2p__router_raw(s) && (p2p__recv_have(s) > 0 || p2p__recv_whole(s)))
        p2p__raise(node, s, P2P__EV_READABLE);
}

/* After a guard or handler: the one answer that is owed. s is NULL when the stream is gone. */
static void p2p__request_returned(p2p_node *node, p2p__stream *s, int status) {
    if (s == NULL)
        return;
    if (s->x.state == P2P__EXCHANGE_RUNNING && status == 0 && (s->x.flags & P2P__EXCHANGE_DEFERRED))
        p2p__exchange_go(node, s, P2P__EXCHANGE_LATER);
    else if (s->x.state == P2P__EXCHANGE_RUNNING) {
        if (status == 0)
            p2p__log(&node->log, P2P__LOG_HANDLER_SILENT);
        p2p__router_refuse(node, s, status != 0 ? status : (int)P2P__STATUS_INTERNAL);
    }
    p2p__request_conceal(node, s);
}

/* Runs the handler of one request that is READY. */
static void p2p__router_run(p2p_node *node, p2p__stream *s) {
    p2p__request_scratch scratch;
    p2p_stream handle = p2p__stream_handle(node, s);
    const p2p_route *route = s->x.route;
    int status;
    if (s->x.state != P2P__EXCHANGE_READY)
        return;
    P2P_ASSERT(route != NULL && route->handler != NULL);
    p2p__exchange_go(node, s, P2P__EXCHANGE_RUNNING);
    p2p__request_expose(node, s, &scratch);
    status = p2p__request_guard(node, s, &scratch.request);
    if (status == 0)
        route->handler(node, &scratch.request, route->ctx);
    p2p__request_returned(node, p2p__stream_get(node, handle), status);
}

static int p2p__request_event(p2p_node *node, p2p__stream *s, p2p_event *out) {
    p2p__request_scratch *scratch = node->router.event;
    int status;
    if (s->x.state != P2P__EXCHANGE_READY)
        return 0;
    P2P_ASSERT(node->router.exposed == 0);
    p2p__exchange_go(node, s, P2P__EXCHANGE_RUNNING);
    p2p__request_expose(node, s, scratch);
    status = p2p__request_guard(node, s, &scratch->request);
    if (status != 0 || s->x.state != P2P__EXCHANGE_RUNNING) {
        p2p__request_returned(node, s, status);
        return 0;
    }
    s->x.flags = (uint8_t)(s->x.flags | P2P__EXCHANGE_DEFERRED);
    p2p__exchange_go(node, s, P2P__EXCHANGE_LATER);
    node->router.exposed = scratch->request.stream.id;
    out->type = P2P_EVENT_REQUEST;
    out->request = &scratch->request;
    return 1;
}

static int p2p__response_event(p2p_node *node, p2p__stream *s, p2p_event *out) {
    p2p_response_head head;
    if (s->x.state == P2P__EXCHANGE_FAILED) {
        out->type = P2P_EVENT_RESPONSE;
        out->err = s->x.err;
        return 1;
    }
    if (s->x.state != P2P__EXCHANGE_ANSWERED || s->x.head == NULL)
        return 0;
    (void)p2p__response_get(p2p__head_span(s), NULL, &head);
    out->type = P2P_EVENT_RESPONSE;
    out->status = (uint16_t)head.status;
    if (p2p__recv_have(s) > 0 || p2p__recv_whole(s))
        p2p__raise(node, s, P2P__EV_READABLE);
    p2p__response_ended(node, s);
    return 1;
}

/* Fills in a REQUEST or RESPONSE event: 1, or 0 when there is nothing to say any more. */
static int p2p__router_event(p2p_node *node, p2p__stream *s, uint32_t flag, p2p_event *out) {
    P2P_ASSERT(flag == P2P__EV_REQUEST || flag == P2P__EV_RESPONSE);
    return flag == P2P__EV_REQUEST ? p2p__request_event(node, s, out)
                                   : p2p__response_event(node, s, out);
}

/* At the start of each p2p_next_event: what the last one gave is over. */
static void p2p__router_after(p2p_node *node) {
    p2p_stream handle;
    p2p__stream *s;
    handle.id = node->router.exposed;
    node->router.exposed = 0;
    s = handle.id != 0 ? p2p__stream_get(node, handle) : NULL;
    if (s != NULL)
        p2p__request_conceal(node, s);
    while (node->router.taken != 0 && node->router.taken != UINT32_MAX) {
        handle.id = node->router.taken;
        s = p2p__stream_get(node, handle);
        node->router.taken = s != NULL ? s->x.next : 0;
        if (s == NULL)
            continue;
        s->x.next = 0;
        s->x.head = NULL;
        p2p__recv_release(node, s);
    }
    node->router.taken = 0;
}

/* ---- what a handler reads in a request */
static p2p_str p2p__header_find(const p2p_header *headers, size_t count, const char *name) {
    p2p_str none = {NULL, 0};
    size_t i;
    for (i = 0; name != NULL && i < count; i++)
        if (p2p_str_equal(headers[i].name, name))
            return headers[i].value;
    return none;
}

P2P_DEF p2p_str p2p_param(const p2p_request *request, const char *name) {
    p2p_str none = {NULL, 0};
    return request != NULL ? p2p__header_find(request->params, request->param_count, name) : none;
}

/* name in lower case; the first of that name. */
P2P_DEF p2p_str p2p_request_header(const p2p_request *request, const char *name) {
    p2p_str none = {NULL, 0};
    return request != NULL ? p2p__header_find(request->headers, request->header_count, name) : none;
}

P2P_DEF p2p_str p2p_response_header(const p2p_response_head *head, const char *name) {
    p2p_str none = {NULL, 0};
    return head != NULL ? p2p__header_find(head->headers, head->header_count, name) : none;
}

/* Cuts the text up to the separator off *rest, and the separator; all of it when it has none. */
static p2p_str p2p__str_until(p2p_str *rest, char separator) {
    p2p_str out;
    out.data = rest->data;
    out.size = 0;
    while (out.size < rest->size && rest->data[out.size] != separator)
        out.size++;
    rest->data += out.size;
    rest->size -= out.size;
    if (rest->size > 0) {
        rest->data++;
        rest->size--;
    }
    return out;
}

/* The first of that name. "from" without '=' is there and empty. */
P2P_DEF p2p_str p2p_query(const p2p_request *request, const char *name) {
    p2p_str none = {NULL, 0}, rest;
    if (request == NULL || name == NULL)
        return none;
    rest = request->query;
    while (rest.size > 0) {
        p2p_str value = p2p__str_until(&rest, '&'), key = p2p__str_until(&value, '=');
        if (p2p_str_equal(key, name))
            return value;
    }
    return none;
}

static p2p_str p2p__str_trim(p2p_str s) {
    while (s.size > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.size--;
    }
    while (s.size > 0 && (s.data[s.size - 1] == ' ' || s.data[s.size - 1] == '\t'))
        s.size--;
    return s;
}

/* Digits as a number; one beyond 64 bits is UINT64_MAX, which lies beyond every end. */
static bool p2p__digits(p2p_str s, uint64_t *out) {
    size_t i;
    for (i = 0; i < s.size; i++)
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
    if (s.size > 0 && p2p_str_u64(s, out) < 0)
        *out = UINT64_MAX;
    return s.size > 0;
}

/* The set behind "bytes=" of the range header; data NULL when there is none that counts. */
static p2p_str p2p__range_set(const p2p_request *request) {
    static const char unit[] = "bytes=";
    p2p_str none = {NULL, 0}, set = p2p_request_header(request, "range");
    size_t i;
    if (set.size < sizeof unit - 1)
        return none;
    for (i = 0; i < sizeof unit - 1; i++)
        if (set.data[i] != unit[i] && (i == 5 || (set.data[i] | 0x20) != unit[i]))
            return none; /* units are case-insensitive */
    set.data += sizeof unit - 1;
    set.size -= sizeof unit - 1;
    return p2p__str_trim(set);
}

/* RFC 9110 section 14.1.2: "a-b", "a-", "-n". A range that is malformed, or several at once, are
 * ignored, as section 14.2 allows: the whole is meant. if-range is the handler's to compare. */
P2P_DEF int p2p_request_range(const p2p_request *request, uint64_t total, uint64_t *first,
                              uint64_t *count) {
    p2p_str set, low;
    uint64_t a = 0, b = 0;
    size_t size;
    bool has_low, has_high;
    if (request == NULL || first == NULL || count == NULL)
        return P2P_ERR_ARG;
    *first = 0;
    *count = total;
    set = p2p__range_set(request);
    if (request->method != P2P_GET || set.data == NULL)
        return 0;
    size = set.size;
    low = p2p__str_until(&set, '-');
    if (low.size == size)
        return 0;
    has_low = p2p__digits(low, &a);
    has_high = p2p__digits(set, &b);
    if ((!has_low && low.size > 0) || (!has_high && set.size > 0) || (!has_low && !has_high))
        return 0;
    if (!has_low) { /* the last b bytes */
        *first = total > b ? total - b : 0;
        *count = total - *first;
        return b == 0 ? (int)P2P_ERR_ARG : total > 0;
    }
    if (has_high && b < a)
        return 0;
    if (a >= total)
        return P2P_ERR_ARG;
    *first = a;
    *count = (has_high && b < total - 1 ? b + 1 : total) - a;
    return 1;
}

/* ---- replies */
/* The stream of a request that is to be answered, or an error. */
static int p2p__reply_stream(const p2p_node *node, p2p_stream handle, p2p__stream **out) {
    int err = p2p__stream_for(node, handle, out);
    p2p__stream *s;
    if (err < 0)
        return err;
    s = *out;
    if (s->kind != P2P__KIND_REQUEST || s->local)
        return p2p__fail(node, P2P_ERR_ARG, "stream: not a request to this node");
    if (s->x.err != P2P_OK)
        return p2p__fail(node, s->x.err, "stream: ended before the reply");
    if (!p2p__exchange_may(s, P2P__MAY_REPLY))
        return p2p__fail(node, P2P_ERR_STATE, "stream: answered already, or not handed out yet");
    if (s->send.state != P2P__SEND_OPEN)
        return p2p__fail(node, s->err != P2P_OK ? s->err : (int)P2P_ERR_RESET,
                         "stream: nobody listens any more");
    return P2P_OK;
}

static int p2p__reply_start(p2p_node *node, p2p_stream handle, p2p__stream **out, p2p__head_in *h,
                            const void *body, size_t size) {
    int err = p2p__reply_stream(node, handle, out);
    if (err < 0)
        return err;
    if (h->status < 100 || h->status > 599)
        return p2p__fail(node, P2P_ERR_ARG, "status: 100 to 599");
    if (size > 0 && body == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "body: NULL");
    err = p2p__headers_check(node, h->headers, h->header_count);
    if (err < 0)
        return err;
    return p2p__head_put(node, *out, h, body, size, "bytes.peer_send: too small");
}

P2P_DEF int p2p_reply(p2p_node *node, p2p_stream stream, int status, const p2p_header *headers,
                      size_t count, const void *body, size_t size) {
    p2p__head_in h = p2p__response_head(status, headers, count);
    p2p__stream *s;
    int err;
    err = p2p__reply_start(node, stream, &s, &h, body, size);
    if (err < 0)
        return err;
    p2p__exchange_go(node, s, P2P__EXCHANGE_REPLIED);
    p2p__send_finish(node, s);
    if (!(s->x.flags & P2P__EXCHANGE_EXPOSED)) /* else when the request is concealed */
        p2p__request_drop(node, s);
    return P2P_OK;
}

P2P_DEF int p2p_reply_begin(p2p_node *node, p2p_stream stream, int status,
                            const p2p_header *headers, size_t count) {
    p2p__head_in h = p2p__response_head(status, headers, count);
    p2p__stream *s;
    int err;
    err = p2p__reply_start(node, stream, &s, &h, NULL, 0);
    if (err < 0)
        return err;
    p2p__exchange_go(node, s, P2P__EXCHANGE_REPLYING);
    return P2P_OK;
}

P2P_DEF int p2p_reply_later(p2p_node *node, p2p_stream stream) {
    p2p__stream *s;
    int err;
    err = p2p__reply_stream(node, stream, &s);
    if (err < 0)
        return err;
    s->x.flags = (uint8_t)(s->x.flags | P2P__EXCHANGE_DEFERRED);
    return P2P_OK;
}

/* ---- requests from here */
static int p2p__request_check(const p2p_node *node, const p2p_request_desc *desc,
                              p2p__head_in *out) {
    const char *fault;
    P2P_MEMSET(out, 0, sizeof *out);
    if (desc == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "desc: NULL");
    if (desc->method >= P2P__METHODS)
        return p2p__fail(node, P2P_ERR_ARG, "desc.method: unknown");
    if (desc->priority >= P2P__PRIORITIES)
        return p2p__fail(node, P2P_ERR_ARG, "desc.priority: 0 to 7");
    if (desc->body_size > 0 && desc->body == NULL)
        return p2p__fail(node, P2P_ERR_ARG, "desc.body: NULL");
    out->method = desc->method;
    out->path = p2p_str_of(desc->path);
    out->query = p2p_str_of(desc->query);
    out->headers = desc->headers;
    out->header_count = desc->header_count;
    fault = p2p__path_fault(out->path);
    if (fault != NULL)
        return p2p__fail_named(node, P2P_ERR_ARG, "desc.path", p2p_str_of(fault), p2p__no_str);
    if (!p2p__str_one_line(out->query))
        return p2p__fail(node, P2P_ERR_ARG, "desc.query: holds CR or LF");
    return p2p__headers_check(node, desc->headers, desc->header_count);
}

/* With .more too the head and the body given here must fit bytes.stream_send: what is beyond goes
 * by p2p_stream_write. */
P2P_DEF int p2p_request_send(p2p_node *node, p2p_conn conn, const p2p_request_desc *desc,
                             p2p_stream *out) {
    p2p__conn *c;
    p2p__stream *s;
    p2p__head_in h;
    size_t size, room;
    int err = p2p__conn_for(node, conn, &c);
    if (err < 0 || (err = p2p__request_check(node, desc, &h)) < 0)
        return err;
    room = node->desc.bytes.stream_send;
    size = p2p__head_size(&h) + desc->body_size;
    if (desc->body_size > room || size > room)
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "bytes.stream_send: too small", size, room);
    err = p2p__stream_make(node, c, P2P__KIND_REQUEST, desc->priority, desc->user, &s);
    if (err < 0)
        return err;
    err = p2p__head_put(node, s, &h, desc->body, desc->body_size, "bytes.stream_send");
    P2P_ASSERT(err == P2P_OK);
    if (desc->more)
        s->x.flags = (uint8_t)(s->x.flags | P2P__EXCHANGE_MORE);
    else
        p2p__send_finish(node, s);
    p2p__exchange_go(node, s, P2P__EXCHANGE_ASKED);
    p2p__count(node, P2P_METRIC_requests_sent, 1);
    if (out != NULL)
        *out = p2p__stream_handle(node, s);
    return err;
}

/* Valid until the next p2p_next_event or the next p2p_response. After body bytes were taken the
 * head is there until the next p2p_next_event; then P2P_ERR_STATE. */
P2P_DEF int p2p_response(p2p_node *node, p2p_stream stream, p2p_response_head *out) {
    p2p__stream *s;
    int err = p2p__stream_for(node, stream, &s);
    if (err < 0)
        return err;
    if (s->kind != P2P__KIND_REQUEST || !s->local || out == NULL)
        return p2p__fail(node, P2P_ERR_ARG,
                         out == NULL ? "out: NULL" : "stream: not a request from here");
    if (s->x.state == P2P__EXCHANGE_ASKED)
        return P2P_ERR_AGAIN;
    if (s->x.state == P2P__EXCHANGE_FAILED)
        return p2p__fail(node, s->x.err, "stream: no answer came");
    if (s->x.head == NULL)
        return p2p__fail(node, P2P_ERR_STATE, "stream: the head went with the first body bytes");
    return p2p__response_get(p2p__head_span(s), node->router.response_headers, out);
}

#else /* no peer is granted a request, and none is made: no stream is one */
static void p2p__router_readable(p2p_node *node, p2p__stream *s) {
    (void)node;
    (void)s;
}
static void p2p__router_closed(p2p_node *node, p2p__stream *s) { p2p__router_readable(node, s); }
static void p2p__router_timeout(p2p_node *node, p2p__stream *s) { p2p__router_readable(node, s); }
static void p2p__router_finished(p2p_node *node, p2p__stream *s) { p2p__router_readable(node, s); }
static void p2p__router_taken(p2p_node *node, p2p__stream *s) { p2p__router_readable(node, s); }
static void p2p__router_run(p2p_node *node, p2p__stream *s) { p2p__router_readable(node, s); }
static void p2p__router_after(p2p_node *node) { (void)node; }
static bool p2p__router_raw(const p2p__stream *s) { return s != NULL; }
static bool p2p__router_writable(const p2p__stream *s) { return s != NULL; }
static bool p2p__router_silent(const p2p__stream *s) { return s == NULL; }
static int p2p__router_event(p2p_node *node, p2p__stream *s, uint32_t flag, p2p_event *out) {
    p2p__router_readable(node, s);
    (void)flag;
    (void)out;
    return 0;
}
#endif

/* ==== >>node ====
 * A node as a whole: its desc resolved, its memory laid out, its clock, and who is served next.
 * Always: one walk measures and carves, so the two cannot disagree; p2p_poll and p2p_next_event
 *         do bounded work.
 * Covered by tests/unit/test_node.c, tests/behaviour/. */
#define P2P__CANARY    0u
#define P2P__TABLE_MAX 60000u     /* entries of a table: places are 16-bit */
#define P2P__BYTES_MAX (1u << 30) /* of a ring, a message, a head */
#define P2P__MAGIC     0x70327021u

/* ---- the desc */
P2P__OPTIONAL static int p2p__desc_fail_numbers(const p2p_desc *desc, int err, size_t size,
                                                size_t max) {
    return desc->why ? p2p__detail_numbers(desc->why, err, size, max) : err;
}

#ifndef P2P_NO_WORDS
static int p2p__desc_fail(const p2p_desc *desc, int err, const char *text, size_t size,
                          size_t max) {
    return desc->why ? p2p__detail_set(desc->why, err, text, size, max) : err;
}
#else
#define p2p__desc_fail(desc, err, text, size, max) \
    ((void)(text), p2p__desc_fail_numbers(desc, err, size, max))
#endif

/* Numbers of the desc: field, default, least, most, and another field. With a most, the row counts
 * only where the other field (if any) is not 0; without one, the other field is the most. */
#define P2P__DESC_NUMBERS(X)                                                                     \
    X(max.conns, 8, 1, 16000, _canary_start)                                                     \
    X(max.half_open, 4, 1, 0, max.conns)                                                         \
    X(max.conns_per_peer, 2, 1, P2P_NONE, _canary_start)                                         \
    X(max.services, 4, 0, P2P__TABLE_MAX, _canary_start)                                         \
    X(max.streams, 16, 0, 20000, _canary_start)                                                  \
    X(max.peer_streams, 16, 0, 20000, _canary_start)                                             \
    X(max.peer_streams_per_conn, 20000, 0, 0, max.peer_streams)                                  \
    X(max.routes, 32, 0, P2P__TABLE_MAX, _canary_start)                                          \
    X(max.listeners, 2, 1, P2P__TABLE_MAX, _canary_start)                                        \
    X(max.peers, 16, 0, P2P__TABLE_MAX, _canary_start)                                           \
    X(max.timers, 4, 0, P2P__TABLE_MAX, _canary_start)                                           \
    X(max.in_flight, 512, 2, P2P__TABLE_MAX, _canary_start)                                      \
    X(max.datagrams_in, 16 * P2P__DATAGRAMS, 0, P2P__TABLE_MAX * P2P__DATAGRAMS, _canary_start)  \
    X(max.datagrams_out, 16 * P2P__DATAGRAMS, 0, P2P__TABLE_MAX * P2P__DATAGRAMS, _canary_start) \
    X(bytes.stream_send, 16384, 64, P2P__BYTES_MAX, max.streams)                                 \
    X(bytes.stream_recv, 16384, 64, P2P__BYTES_MAX, max.streams)                                 \
    X(bytes.peer_send, 16384, 64, P2P__BYTES_MAX, max.peer_streams)                              \
    X(bytes.peer_recv, 16384, 64, P2P__BYTES_MAX, max.peer_streams)                              \
    X(bytes.message_max, P2P__MESSAGES << 20, 0, P2P__BYTES_MAX * P2P__MESSAGES, _canary_start)  \
    X(bytes.message_send, 65536, 64, P2P__BYTES_MAX, bytes.message_max)                          \
    X(bytes.message_recv, 65536, 64, P2P__BYTES_MAX, bytes.message_max)                          \
    X(bytes.head_max, 8192, 0, P2P__BYTES_MAX, _canary_start)                                    \
    X(bytes.body_max, 4096, 0, P2P__BYTES_MAX, _canary_start)                                    \
    X(bytes.datagram_max, 1152, 0, 65000, _canary_start)                                         \
    X(link.mtu, 1232, 576, 65000, _canary_start)                                                 \
    X(link.segments, 1, 1, 64, _canary_start)

typedef struct p2p__desc_number {
    uint16_t at, other; /* offsets in the desc; other 0: none */
    uint32_t usual, least, most;
} p2p__desc_number;

static uint32_t *p2p__desc_field(p2p_desc *d, uint32_t at) {
    return (uint32_t *)(void *)((uint8_t *)d + at);
}

#ifndef P2P_NO_WORDS
/* "max.conns: 1 to 16000" */
static int p2p__desc_range_fail(const p2p_desc *d, uint32_t row, uint32_t value, uint32_t least,
                                uint32_t most) {
#define P2P__X(field, usual, least, most, other) #field "\0"
    static const char names[] = P2P__DESC_NUMBERS(P2P__X);
#undef P2P__X
    char text[sizeof((p2p_error_detail *)0)->text];
    p2p__writer w = p2p__writer_of(text, sizeof text - 1);
    p2p__put_text(&w, p2p__nth_text(names, row));
    p2p__put_text(&w, ": ");
    p2p__put_number(&w, least);
    p2p__put_text(&w, " to ");
    p2p__put_number(&w, most);
    (void)p2p__text_end(&w, text);
    return p2p__desc_fail(d, P2P_ERR_CONFIG, text, value, most);
}
#else
#define p2p__desc_range_fail(d, row, value, least, most) \
    p2p__desc_fail_numbers(d, P2P_ERR_CONFIG, value, most)
#endif

/* Every number: 0 becomes the default, P2P_NONE 0; then it must be in its range. */
static int p2p__desc_numbers(p2p_desc *d) {
    static const p2p__desc_number rows[] = {
#define P2P__X(field, usual, least, most, other) \
    {(uint16_t)offsetof(p2p_desc, field), (uint16_t)offsetof(p2p_desc, other), usual, least, most},
        P2P__DESC_NUMBERS(P2P__X)
#undef P2P__X
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const p2p__desc_number *row = &rows[i];
        uint32_t *field = p2p__desc_field(d, row->at), other = *p2p__desc_field(d, row->other);
        uint32_t most = row->most ? row->most : other;
        if (*field == 0)
            *field = P2P__MIN(row->usual, most);
        else if (*field == P2P_NONE)
            *field = 0;
        if (row->most && row->other && other == 0)
            continue;
        if (*field < row->least || *field > most)
            return p2p__desc_range_fail(d, i, *field, row->least, most);
    }
    return P2P_OK;
}

/* A request's head and body share the ring of its stream: where the defaults do not fit, what was
 * left at 0 takes what the other one leaves, or half each. */
static void p2p__desc_fit_head(const p2p_desc *desc, p2p_desc *d) {
    bool head = desc->bytes.head_max == 0, body = desc->bytes.body_max == 0;
    uint32_t room = d->bytes.peer_recv;
    if (d->bytes.head_max + d->bytes.body_max <= room)
        return;
    if (head)
        d->bytes.head_max = body ? room / 2 : room - P2P__MIN(d->bytes.body_max, room);
    if (body)
        d->bytes.body_max = room - P2P__MIN(d->bytes.head_max, room);
}

/* What depends on more than one field. */
static int p2p__desc_relations(const p2p_desc *desc, p2p_desc *d) {
    if (d->max.in_flight < 2 * d->max.conns)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "max.in_flight: less than 2 a connection",
                              d->max.in_flight, P2P__TABLE_MAX);
    p2p__desc_fit_head(desc, d);
    if (d->max.peer_streams && d->bytes.head_max + d->bytes.body_max > d->bytes.peer_recv)
        return p2p__desc_fail(d, P2P_ERR_CONFIG,
                              "bytes.head_max and body_max: together over peer_recv",
                              d->bytes.head_max + d->bytes.body_max, d->bytes.peer_recv);
    if (d->bytes.message_max == 0)
        d->bytes.message_send = d->bytes.message_recv = 0;
    if (d->link.local_count > P2P__LOCAL_ADDRS)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "link.local_count: at most 8", d->link.local_count,
                              P2P__LOCAL_ADDRS);
    if (d->max.relay_clients == P2P_NONE)
        d->max.relay_clients = 0;
    if (d->max.relay_clients)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "max.relay_clients: relaying is not built in",
                              d->max.relay_clients, 0);
    if (!P2P__DISCOVERY && d->discovery.api)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "discovery: not built in", 0, 0);
    if (d->relay_count)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "relay_count: relays are not built in",
                              d->relay_count, 0);
    if (d->congestion == 0)
        d->congestion = P2P__CC_BEST;
    if (!p2p__cc_built(d->congestion))
        return p2p__desc_fail(
            d, P2P_ERR_CONFIG,
            "congestion: 0 to 3, and not one that P2P_NO_BBR or P2P_NO_CUBIC left out",
            d->congestion, P2P__CC_RENO);
    return P2P_OK;
}

/* Times of the desc: field, default and least in milliseconds. */
#define P2P__DESC_TIMES(X)         \
    X(time.connect_us, 30000, 1)   \
    X(time.idle_us, 30000, 1)      \
    X(time.keepalive_us, 10000, 1) \
    X(time.request_us, 30000, 0)   \
    X(time.stop_us, 3000, 0)       \
    X(time.max_age_us, 604800000, 0)

static int p2p__desc_times(p2p_desc *d) {
    static const struct {
        uint32_t usual_ms;
        uint16_t at, least_ms;
    } rows[] = {
#define P2P__X(field, usual_ms, least_ms) {usual_ms, (uint16_t)offsetof(p2p_desc, field), least_ms},
        P2P__DESC_TIMES(P2P__X)
#undef P2P__X
    };
#define P2P__X(field, usual_ms, least_ms) #field ": 1 ms or more\0"
    P2P__OPTIONAL static const char texts[] = P2P__DESC_TIMES(P2P__X);
#undef P2P__X
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t *us = (uint64_t *)(void *)((uint8_t *)d + rows[i].at);
        if (*us == 0)
            *us = rows[i].usual_ms * (uint64_t)1000;
        if (*us < rows[i].least_ms * 1000u)
            return p2p__desc_fail(d, P2P_ERR_CONFIG, p2p__nth_text(texts, i), (size_t)*us,
                                  SIZE_MAX);
    }
    return P2P_OK;
}

static int p2p__desc_texts(const p2p_desc *d) {
    size_t n = d->network ? strlen(d->network) : 3;
    if (n < 1 || n > 64)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "network: 1 to 64 bytes", n, 64);
    if (d->alpn_count > P2P__ALPNS || (d->alpn_count && !d->alpn))
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "alpn_count: at most 8, with alpn set",
                              d->alpn_count, P2P__ALPNS);
    for (uint32_t i = 0; i < d->alpn_count; i++) {
        n = d->alpn[i] ? strlen(d->alpn[i]) : 0;
        if (n < 1 || n > P2P__ALPN_BYTES)
            return p2p__desc_fail(d, P2P_ERR_CONFIG, "alpn: 1 to 32 bytes", n, P2P__ALPN_BYTES);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(d->alpn[i], d->alpn[j]) == 0)
                return p2p__desc_fail(d, P2P_ERR_CONFIG, "alpn: one is named twice", i, 0);
    }
    return P2P_OK;
}

static int p2p__desc_vtables(const p2p_desc *d) {
    const p2p_crypto_api *c = P2P_CRYPTO_OF(&d->crypto);
    const p2p_secure_api *s = P2P_SECURE_OF(&d->secure);
    uint32_t largest;
    if (!d->crypto.api || !c->public_key || !c->sign || !c->verify || !c->sha256)
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "crypto: no table (p2p_sodium_crypto gives one)",
                              0, 0);
    if (!d->secure.api)
        return p2p__desc_fail(d, P2P_ERR_CONFIG,
                              "secure: no channel (p2p_mbedtls_secure gives one)", 0, 0);
    if (d->crypto.api != P2P_CRYPTO_NAMED(*c) || d->secure.api != P2P_SECURE_NAMED(*s))
        return p2p__desc_fail(d, P2P_ERR_CONFIG,
                              "crypto or secure: not the table that P2P_STATIC_* names", 0, 0);
    largest = s->content_max + P2P__DATA_HEAD + s->overhead;
    if (d->link.mtu > largest + (s->prefix != 0))
        return p2p__desc_fail(d, P2P_ERR_CONFIG, "link.mtu: over the secure channel's content_max",
                              d->link.mtu, largest);
    return P2P_OK;
}

/* Fills in every default and checks every field: the one place where a desc is read. */
static int p2p__desc_resolve(const p2p_desc *desc, p2p_desc *out) {
    int err;
    *out = *desc;
    if (desc->_canary_start != P2P__CANARY || desc->_canary_end != P2P__CANARY)
        return p2p__desc_fail(desc, P2P_ERR_CONFIG, "desc: not zeroed first", 0, 0);
    if ((err = p2p__desc_numbers(out)) < 0 || (err = p2p__desc_relations(desc, out)) < 0 ||
        (err = p2p__desc_times(out)) < 0 || (err = p2p__desc_texts(out)) < 0)
        return err;
    return p2p__desc_vtables(out);
}

/* ---- memory: this walk is the only one */
static uint32_t p2p__pow2(uint32_t at_least) {
    uint32_t n = 1;
    while (n < at_least)
        n *= 2;
    return n;
}

static uint32_t p2p__packet_max(const p2p_desc *d) {
    const p2p_secure_api *s = P2P_SECURE_OF(&d->secure);
    return d->link.mtu - P2P__DATA_HEAD - s->overhead - (s->prefix != 0);
}

static size_t p2p__slab_bytes(const p2p_desc *d) {
    return P2P_SECURE_OF(&d->secure)->session_size(d->secure.ctx, p2p__packet_max(d));
}

static uint32_t p2p__message_streams(const p2p_desc *d) {
    return d->bytes.message_max ? d->max.conns : 0u;
}

static uint32_t p2p__stream_slots(const p2p_desc *d) {
    return p2p__message_streams(d) + d->max.streams + d->max.peer_streams;
}

static uint32_t p2p__chunk_slots(const p2p_desc *d) {
    return d->max.in_flight + d->max.in_flight / 4u + 8u;
}

static size_t p2p__datagram_stride(const p2p_desc *d) {
    return (sizeof(p2p__datagram) + d->bytes.datagram_max + 7) & ~(size_t)7;
}

/* Takes a table; the pointer to it is the member of the node, which begins the arena, at offset. */
static void p2p__carve(p2p__layout *l, size_t offset, size_t count, size_t item_size) {
    void *table = p2p__layout_take(l, count, item_size, 8);
    if (l->base)
        P2P_MEMCPY(l->base + offset, &table, sizeof table);
}

#define P2P__CARVE(l, member, count, item_size) \
    p2p__carve(l, offsetof(p2p_node, member), count, item_size)

static void p2p__tables_layout(p2p__layout *l, const p2p_desc *d) {
    uint32_t slots = p2p__stream_slots(d);
    size_t stride = p2p__datagram_stride(d);
    P2P__CARVE(l, conns.items, d->max.conns, sizeof(p2p__conn));
    P2P__CARVE(l, sessions.items, d->max.conns, sizeof(p2p__session));
    P2P__CARVE(l, listeners.items, d->max.listeners, sizeof(p2p__listener));
    P2P__CARVE(l, streams, slots, sizeof(p2p__stream));
    P2P__CARVE(l, session_hash, p2p__pow2(2 * d->max.conns), sizeof(uint16_t));
    P2P__CARVE(l, stream_hash, p2p__pow2(slots + 1), sizeof(uint16_t));
    P2P__CARVE(l, heap.refs, 2 * (size_t)d->max.conns, sizeof(uint32_t));
    P2P__CARVE(l, flight.packets, d->max.in_flight, sizeof(p2p__packet));
    P2P__CARVE(l, flight.chunks, p2p__chunk_slots(d), sizeof(p2p__chunk));
    P2P__CARVE(l, datagrams[0].items, d->max.datagrams_in, stride);
    P2P__CARVE(l, datagrams[1].items, d->max.datagrams_out, stride);
    P2P__CARVE(l, timers, d->max.timers, sizeof(uint64_t));
    P2P__CARVE(l, rings[0], p2p__message_streams(d), p2p__stream_rooms(d, 0).bytes);
    P2P__CARVE(l, rings[1], d->max.streams, p2p__stream_rooms(d, 1).bytes);
    P2P__CARVE(l, rings[2], d->max.peer_streams, p2p__stream_rooms(d, 2).bytes);
    /* slabs want 16; the arena is aligned to 8, so the pad is always counted as 8 */
    P2P__CARVE(l, slabs, 1, 8 + p2p__slab_bytes(d) * d->max.conns);
}

/* node NULL: measures. Otherwise carves, from the node on. */
static size_t p2p__node_layout(const p2p_desc *d, p2p_node *node) {
    p2p__layout l;
    l.base = (uint8_t *)node;
    l.size = sizeof(p2p_node);
    p2p__tables_layout(&l, d);
    p2p__discovery_layout(&l, d, node ? &node->discovery : NULL);
    p2p__router_layout(&l, d, node ? &node->router : NULL);
    return (l.size + 7) & ~(size_t)7;
}

static void p2p__pools_open(p2p_node *node, const p2p_desc *d) {
    uint32_t messages = p2p__message_streams(d), total = p2p__stream_slots(d),
             seed = p2p__drbg_fast(&node->drbg);
    p2p__pool_init(&node->conns, node->conns.items, sizeof(p2p__conn), d->max.conns, seed);
    p2p__pool_init(&node->sessions, node->sessions.items, sizeof(p2p__session), d->max.conns, seed);
    p2p__pool_init(&node->listeners, node->listeners.items, sizeof(p2p__listener), d->max.listeners,
                   seed);
    p2p__pool_init(&node->local_streams, node->streams + messages, sizeof(p2p__stream),
                   d->max.streams, seed);
    p2p__pool_init(&node->peer_streams, node->streams + messages + d->max.streams,
                   sizeof(p2p__stream), d->max.peer_streams, seed);
    p2p__pool_share(&node->local_streams, 0, total);
    p2p__pool_share(&node->peer_streams, d->max.streams, total);
    node->stream_total = total;
    P2P_MEMSET(node->streams, 0, messages * sizeof(p2p__stream));
    node->session_hash_mask = p2p__pow2(2 * d->max.conns) - 1;
    node->stream_hash_mask = p2p__pow2(total + 1) - 1;
    P2P_MEMSET(node->session_hash, 0xff, (node->session_hash_mask + 1u) * sizeof(uint16_t));
    P2P_MEMSET(node->stream_hash, 0xff, (node->stream_hash_mask + 1u) * sizeof(uint16_t));
}

/* Chains all items of a table by the index member at `next`; returns the first. */
static uint16_t p2p__free_list(void *items, size_t item_size, uint32_t count, size_t next) {
    uint8_t *at = (uint8_t *)items + next;
    for (uint32_t i = 1; i <= count; i++, at += item_size)
        *(uint16_t *)(void *)at = (uint16_t)(i < count ? i : P2P__NIL);
    return (uint16_t)(count ? 0 : P2P__NIL);
}

static void p2p__flight_open(p2p_node *node, const p2p_desc *d) {
    p2p__flight *f = &node->flight;
    f->packet_count = d->max.in_flight;
    f->chunk_count = p2p__chunk_slots(d);
    f->quota = P2P__MAX(1u, d->max.in_flight / (2 * d->max.conns));
    P2P_MEMSET(f->packets, 0, f->packet_count * sizeof *f->packets);
    P2P_MEMSET(f->chunks, 0, f->chunk_count * sizeof *f->chunks);
    f->packet_free = p2p__free_list(f->packets, sizeof *f->packets, f->packet_count,
                                    offsetof(p2p__packet, next));
    f->chunk_free =
        p2p__free_list(f->chunks, sizeof *f->chunks, f->chunk_count, offsetof(p2p__chunk, next));
}

static void p2p__datagrams_open(p2p_node *node, const p2p_desc *d) {
    size_t stride = p2p__datagram_stride(d), next = offsetof(p2p__datagram, next);
    node->datagram_stride = (uint32_t)stride;
    node->datagrams[0].free =
        p2p__free_list(node->datagrams[0].items, stride, d->max.datagrams_in, next);
    node->datagrams[1].free =
        p2p__free_list(node->datagrams[1].items, stride, d->max.datagrams_out, next);
}

static bool p2p__key_simulated(const p2p_key *key) {
    return P2P_MEMCMP(key->seed, "p2p.h SIM ONLY!!", 16) == 0;
}

/* The identity: its public key is computed anew, since signing under another one gives the key
 * away. */
static int p2p__node_identity(p2p_node *node, const p2p_desc *desc) {
    const p2p_desc *d = &node->desc;
    if (desc->key) {
        node->key = *desc->key;
        if (p2p__all_zero(node->key.seed, 32) && p2p__all_zero(node->key.id.bytes, 32))
            return p2p__desc_fail(desc, P2P_ERR_CONFIG, "key: all zero; generate or load one", 0,
                                  0);
        if (!node->simulated && p2p__key_simulated(&node->key))
            return p2p__desc_fail(desc, P2P_ERR_CONFIG, "key: a simulator's, which everyone knows",
                                  0, 0);
    } else if (!d->random.fill || d->random.fill(d->random.ctx, node->key.seed, 32) < 0) {
        return p2p__desc_fail(desc, P2P_ERR_CONFIG, "random: none, or it failed", 0, 0);
    }
    if (p2p_key_from_seed(&d->crypto, node->key.seed, &node->key) < 0)
        return p2p__desc_fail(desc, P2P_ERR_CONFIG, "key: crypto gives no public key for it", 0, 0);
    if (p2p__drbg_open(&node->drbg, &d->crypto, &d->random, node->key.seed, 0) < 0)
        return p2p__desc_fail(desc, P2P_ERR_CONFIG, "random: failed, or repeats itself", 0, 0);
    if (p2p__drbg_fill(&node->drbg, node->hash_key, sizeof node->hash_key) < 0 ||
        p2p__envelope_keys(node, &node->key.id, node->psk, node->tag_key) < 0)
        return p2p__desc_fail(desc, P2P_ERR_CONFIG, "crypto: sha256 failed", 0, 0);
    return P2P_OK;
}

static void p2p__node_texts(p2p_node *node, const p2p_desc *desc) {
    uint32_t i;
    const char *network = desc->network ? desc->network : "p2p";
    P2P_MEMCPY(node->network, network, strlen(network));
    node->alpn_count = desc->alpn_count ? desc->alpn_count : 1;
    for (i = 0; i < node->alpn_count; i++) {
        const char *alpn = desc->alpn_count ? desc->alpn[i] : "p2p";
        P2P_MEMCPY(node->alpn[i], alpn, strlen(alpn));
    }
    node->desc.network = node->network;
    node->desc.alpn = NULL;
    node->desc.key = NULL;
    node->desc.why = NULL;
    node->desc.relays = node->desc.bootstrap = NULL;
}

/* Tables, lists and clocks of a node that has its desc and its identity. */
static void p2p__node_start(p2p_node *node) {
    const p2p_desc *d = &node->desc;
    (void)p2p__node_layout(d, node);
    node->slab_bytes = p2p__slab_bytes(d);
    node->slabs += (16 - ((uintptr_t)node->slabs & 15)) % 16;
    node->log.fn = d->log.fn, node->log.ctx = d->log.ctx, node->log.level = d->log.level;
    node->packet_max = p2p__packet_max(d);
    p2p__pools_open(node, d);
    p2p__flight_open(node, d);
    p2p__datagrams_open(node, d);
    node->heap.room = 2 * d->max.conns;
    node->out_first = node->out_last = P2P__NIL;
    node->ready_first = node->ready_last = node->exposed_conn = P2P__REF_NONE;
    node->timer_count = d->max.timers;
    P2P_MEMSET(node->timers, 0xff, d->max.timers * sizeof *node->timers);
    node->timer_next_us = P2P_NEVER;
    node->stop_by_us = P2P_NEVER;
    node->tokens_milli = 1000u * (uint64_t)P2P_ADMIT_PER_S;
    p2p__discovery_open(node);
    node->magic = P2P__MAGIC;
}

static int p2p__node_open(p2p_node **out, const p2p_desc *desc, void *arena, size_t arena_size,
                          uint32_t abi, bool simulated) {
    p2p_desc d;
    p2p_node *node = (p2p_node *)arena;
    size_t need;
    int err;
    if (!out || !desc)
        return P2P_ERR_ARG;
    *out = NULL;
    if (abi != p2p_abi())
        return p2p__desc_fail(desc, P2P_ERR_ABI, "abi: declarations were built with other macros",
                              abi, p2p_abi());
    if ((err = p2p__desc_resolve(desc, &d)) < 0)
        return err;
    if (P2P_SECURE_OF(&d.secure)->insecure && !simulated)
        return p2p__desc_fail(desc, P2P_ERR_CONFIG, "secure: not encrypted, for the simulator only",
                              0, 0);
    need = p2p__node_layout(&d, NULL);
    if (!arena || ((uintptr_t)arena & 7))
        return p2p__desc_fail(desc, P2P_ERR_ARG, "arena: NULL, or not aligned to 8", 0, 0);
    if (arena_size < need)
        return p2p__desc_fail(desc, P2P_ERR_ARENA, "arena: too small", arena_size, need);
    P2P_MEMSET(node, 0, sizeof *node);
    node->desc = d;
    node->simulated = simulated;
    node->arena_size = need;
    p2p__node_texts(node, desc);
    if ((err = p2p__node_identity(node, desc)) < 0) {
        p2p_wipe(node, sizeof *node);
        return err;
    }
    p2p__node_start(node);
    *out = node;
    return P2P_OK;
}

/* ---- the clock */

/* Deadlines that calls from outside set since the clock last moved count from now on. */
static void p2p__clock_rebase(p2p_node *node, uint64_t jump_us) {
    uint32_t i;
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->ticks != node->ticks)
            continue;
        conn->connect_by_us = p2p__time_add(conn->connect_by_us, jump_us);
        conn->flush_by_us = p2p__time_add(conn->flush_by_us, jump_us);
        p2p__conn_schedule(node, conn);
    }
    for (i = 0; i < node->stream_total; i++) {
        p2p__stream *s = &node->streams[i];
        p2p__conn *conn = p2p__stream_conn(node, s);
        if (!p2p__slot_live(s) || s->x_ticks != node->ticks)
            continue;
        s->x_deadline_us = p2p__time_add(s->x_deadline_us, jump_us);
        if (conn) {
            conn->router_us = node->now_us; /* looked at, and computed anew, at the next tick */
            p2p__conn_schedule(node, conn);
        }
    }
    if (node->stop_by_us != P2P_NEVER)
        node->stop_by_us = p2p__time_add(node->stop_by_us, jump_us);
}

static void p2p__clock(p2p_node *node, uint64_t now_us) {
    uint64_t jump_us = now_us - node->now_us;
    if (jump_us == 0)
        return;
    if (now_us < node->now_us) {
        p2p__count(node, P2P_METRIC_clock_back, 1);
        p2p__log(&node->log, P2P__LOG_CLOCK_BACK);
        return;
    }
    if (jump_us > P2P__FRESH_US && node->fresh == node->ticks)
        p2p__clock_rebase(node, jump_us);
    node->now_us = now_us;
    node->ticks++;
}

static void p2p__timers_next(p2p_node *node) {
    uint32_t i;
    node->timer_next_us = P2P_NEVER;
    for (i = 0; i < node->timer_count; i++)
        node->timer_next_us = P2P__MIN(node->timer_next_us, node->timers[i]);
}

/* ---- stopping */
static bool p2p__stop_done(const p2p_node *node) {
    if (!node->stopping || node->stopped)
        return false;
    for (const p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (!conn->given)
            return false; /* its DISCONNECTED comes first */
    }
    for (const p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if ((s->state < P2P__SESSION_CLOSING ||
             (s->state == P2P__SESSION_CLOSING && s->close_count == 0)))
            return false;
    }
    return true;
}

static void p2p__stop_tick(p2p_node *node) {
    if (!node->stopping || node->now_us < node->stop_by_us)
        return;
    node->stop_by_us = P2P_NEVER;
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state == P2P__CONN_FLUSHING)
            p2p__conn_flush(node, conn, true);
    }
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s->conn == P2P__NIL && s->state < P2P__SESSION_CLOSING)
            p2p__session_end(node, s, P2P__CODE_STOPPED);
    }
}

/* ---- datagrams */

/* What follows the last of a session's datagrams: it may be at its end, and wants to be woken. */
static void p2p__session_settle(p2p_node *node, p2p__session *session) {
    p2p__conn *conn = session ? p2p__conn_at(node, session->conn) : NULL;
    if (conn)
        p2p__conn_flush(node, conn, false);
    if (session)
        p2p__session_schedule(node, session);
}

/* A record. *last is the session of the one before in a run, which is settled once for all. */
static uint32_t p2p__data_in(p2p_node *node, uint8_t *data, size_t size, p2p__session **last) {
    bool server = data[0] == P2P__DATA_TO_SERVER;
    p2p__session *session = *last;
    if (!session || (session->server != 0) != server || P2P_MEMCMP(session->id, data + 1, 8) != 0) {
        p2p__session_settle(node, session);
        *last = session = p2p__session_find(node, data + 1, server);
    }
    if (!session)
        return p2p__drop(node, P2P_METRIC_drop_unknown_session);
    if (session->state == P2P__SESSION_HANDSHAKE)
        return p2p__drop(node, P2P_METRIC_drop_early_data);
    p2p__data_input(node, session, data + P2P__DATA_HEAD, size - P2P__DATA_HEAD);
    return 1;
}

static uint32_t p2p__datagram_in(p2p_node *node, uint8_t *data, size_t size, const p2p_addr *from,
                                 p2p__session **last) {
    size_t prefix = p2p__prefix_bytes(node);
    uint32_t rc;
    bool server;
    if (size < prefix + P2P__DATA_HEAD + 1u)
        return p2p__drop(node, P2P_METRIC_drop_short);
    if (prefix && data[0] != p2p__secure(node)->prefix)
        return p2p__drop(node, P2P_METRIC_drop_unknown_type);
    data += prefix;
    size -= prefix;
    if (data[0] < P2P__TO_SERVER || data[0] > P2P__DATA_TO_CLIENT)
        return p2p__drop(node, P2P_METRIC_drop_unknown_type);
    if (data[0] >= P2P__DATA_TO_SERVER)
        return p2p__data_in(node, data, size, last);
    if (size > P2P__ENVELOPE_MAX)
        return p2p__drop(node, P2P_METRIC_drop_oversize);
    if (size < P2P__ENVELOPE_HEAD + 1u)
        return p2p__drop(node, P2P_METRIC_drop_short);
    p2p__session_settle(node, *last);
    *last = NULL; /* an envelope may end other sessions, and its own */
    server = data[0] == P2P__TO_SERVER || data[0] == P2P__TO_SERVER_COOKIE;
    rc = server ? p2p__to_server_input(node, data, size, from)
                : p2p__to_client_input(node, data, size, from);
    p2p__session_settle(node, p2p__session_find(node, data + 1, server));
    return rc;
}

/* One session's next datagram: bytes, or 0 when it has none now. */
static size_t p2p__session_output(p2p_node *node, p2p__session *session, uint8_t *out, size_t room,
                                  p2p_addr *remote) {
    size_t n = 0;
    if (session->state <= P2P__SESSION_OPEN)
        n = p2p__flight_output(node, session, out, room, remote);
    if (n == 0 && !p2p__session_dry(node, session)) {
        *remote = session->remote;
        n = p2p__data_output(node, session, out, room, NULL);
    }
    if (n == 0 || p2p__session_dry(node, session))
        p2p__out_drop(node, session);
    return n;
}

/* ---- events */
static void p2p__event_of_conn(const p2p_node *node, const p2p__conn *conn, uint32_t type,
                               p2p_event *out) {
    out->type = type;
    out->conn = out->dialled = p2p__conn_handle(node, conn);
    out->peer = conn->peer;
    out->user = conn->user;
    out->incoming = conn->incoming;
    if (conn->session != P2P__NIL)
        out->rtt_us = (uint32_t)P2P__MIN(p2p__session_at(node, conn->session)->rtt.smoothed_us,
                                         (uint64_t)UINT32_MAX);
    if (conn->listener != P2P__NIL)
        out->listener.id =
            p2p__pool_id(&node->listeners, p2p__pool_at(&node->listeners, conn->listener));
}

static uint64_t p2p__message_front(const p2p__conn *conn) {
    return conn->message_size == P2P_NEVER ? 0 : conn->message_size;
}

/* MESSAGE, LENT and SENT: what the messages stream has to say. */
static int p2p__message_event(p2p_node *node, p2p__conn *conn, uint32_t flag, p2p_event *out) {
    if (!P2P__MESSAGES)
        return 0;
    if (flag == P2P__EV_SENT) {
        p2p__event_of_conn(node, conn, P2P_EVENT_SENT, out);
        out->user = conn->sent_token;
        out->err = conn->sent_err;
        conn->sent_pending = 0;
        conn->sent_token = NULL;
        return 1;
    }
    p2p__event_of_conn(node, conn, P2P_EVENT_MESSAGE, out);
    if (flag == P2P__EV_LENT) {
        out->user = conn->lent;
        out->size = conn->message_size;
        out->err = conn->lent_cut ? P2P_ERR_CLOSED : P2P_OK;
        conn->lent = NULL;
        p2p__message_next(node, conn);
        return 1;
    }
    out->size = p2p__message_front(conn);
    if (p2p__message_outgrows(node, conn)) {
        if (conn->state == P2P__CONN_DOWN)
            return 0;
        conn->message_asked = 1;
        out->err = P2P_ERR_TOO_LARGE;
        return 1;
    }
    return p2p__message_ready(node, conn);
}

/* DISCONNECTED and RECONNECTED wait for the CLOSED of the streams that ended. */
static bool p2p__streams_pending(const p2p_node *node, const p2p__conn *conn) {
    uint16_t at;
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next)
        if (p2p__stream_past(&node->streams[at]) &&
            node->streams[at].ready.flags & (P2P__EV_CLOSED | P2P__EV_STREAM | P2P__EV_RESPONSE))
            return true;
    return false;
}

/* CONNECTED of an open connection for a dial by name that found it; the dial's own place is free
 * with it. */
static int p2p__alias_event(p2p_node *node, p2p__conn *conn, p2p_event *out) {
    p2p_conn dialled = p2p__conn_handle(node, conn);
    p2p__conn *open = (p2p__conn *)p2p__pool_get(&node->conns, conn->alias);
    if (!open || open->state == P2P__CONN_DOWN) { /* lost meanwhile */
        conn->err = P2P_ERR_CLOSED;
        conn->alias = 0;
        p2p__raise_conn(node, conn, P2P__EV_DISCONNECTED);
        return 0;
    }
    p2p__event_of_conn(node, open, P2P_EVENT_CONNECTED, out);
    out->dialled = dialled;
    p2p__conn_free(node, conn);
    return 1;
}

static void p2p__event_words(const p2p__conn *conn, p2p_event *out) {
    out->code = conn->code;
    out->reason.data = conn->reason;
    out->reason.size = conn->reason_size;
}

static int p2p__conn_event(p2p_node *node, p2p__conn *conn, uint32_t flag, p2p_event *out) {
    switch (flag) {
    case P2P__EV_CONNECTED:
        if (P2P__DISCOVERY && conn->alias)
            return p2p__alias_event(node, conn, out);
        p2p__event_of_conn(node, conn, P2P_EVENT_CONNECTED, out);
        if (conn->told) {
            out->type = P2P_EVENT_RECONNECTED;
            out->size = conn->unsure;
            conn->unsure = 0;
            p2p__event_words(conn, out);
        }
        conn->told = 1;
        if (conn->unsure && conn->state == P2P__CONN_OPEN) /* it broke before anybody looked */
            p2p__raise_conn(node, conn,
                            P2P__EV_CONNECTED); /* RECONNECTED counts what is in doubt */
        return 1;
    case P2P__EV_MESSAGE:
    case P2P__EV_LENT:
    case P2P__EV_SENT: return p2p__message_event(node, conn, flag, out);
    case P2P__EV_DATAGRAM:
        p2p__event_of_conn(node, conn, P2P_EVENT_DATAGRAM, out);
        if (!P2P__DATAGRAMS || conn->datagrams[0].count == 0)
            return 0;
        out->size = p2p__datagram_oldest(node, conn, false)->size;
        return 1;
    case P2P__EV_WRITABLE: p2p__event_of_conn(node, conn, P2P_EVENT_WRITABLE, out); return 1;
    default:
        p2p__event_of_conn(node, conn, P2P_EVENT_DISCONNECTED, out);
        out->err = conn->err;
        p2p__event_words(conn, out);
        node->exposed_conn = p2p__conn_index(node, conn);
        return 1;
    }
}

static int p2p__stream_event(p2p_node *node, p2p__stream *s, uint32_t flag, p2p_event *out) {
    p2p__conn *conn = p2p__stream_conn(node, s);
    void *user = s->user;
    p2p__event_of_conn(node, conn, P2P_EVENT_NONE, out);
    out->stream = p2p__stream_handle(node, s);
    if (user)
        out->user = user;
    switch (flag) {
    case P2P__EV_STREAM: out->type = P2P_EVENT_STREAM; return 1;
    case P2P__EV_REQUEST:
    case P2P__EV_RESPONSE: return p2p__router_event(node, s, flag, out);
    case P2P__EV_READABLE:
        out->type = P2P_EVENT_READABLE;
        return s->kind != P2P__KIND_REQUEST || p2p__router_raw(s);
    case P2P__EV_WRITABLE:
        out->type = P2P_EVENT_WRITABLE; /* never of a request that the program was not told of */
        return s->kind != P2P__KIND_REQUEST || p2p__router_writable(s);
    default:
        out->type = P2P_EVENT_CLOSED;
        out->err = s->err;
        out->code =
            s->err == P2P_ERR_RESET ? (s->recv.code ? s->recv.code : s->send.code) : s->send.code;
        if (s->announced != 1 || (s->kind == P2P__KIND_REQUEST && p2p__router_silent(s)))
            out->type = P2P_EVENT_NONE;
        p2p__stream_free(node, s);
        return out->type != P2P_EVENT_NONE;
    }
}

/* What a stream says waits for its connection's CONNECTED or RECONNECTED; of those that ended with
 * the session before, RECONNECTED waits. */
static bool p2p__conn_first(p2p_node *node, uint32_t ref) {
    const p2p__stream *s = ref & P2P__REF_STREAM ? &node->streams[ref & ~P2P__REF_STREAM] : NULL;
    const p2p__conn *conn = s && !p2p__stream_past(s) ? p2p__stream_conn(node, s) : NULL;
    return conn && (conn->ready.flags & P2P__EV_CONNECTED);
}

static uint32_t p2p__lowest(uint32_t flags) { return flags & (~flags + 1u); }
/* What the last event left open is over: the connection whose DISCONNECTED was given. */
static void p2p__events_after(p2p_node *node) {
    uint32_t i;
    p2p__router_after(node);
    p2p__discovery_after(node);
    if (node->exposed_conn != P2P__REF_NONE) {
        p2p__conn_at(node, node->exposed_conn)->given = 1;
        node->exposed_conn = P2P__REF_NONE;
        node->spent = 1;
    }
    for (i = 0; node->spent && i < node->conns.count; i++) {
        p2p__conn *conn = p2p__conn_at(node, i);
        if (p2p__slot_live(conn) && p2p__conn_spent(node, conn))
            p2p__conn_free(node, conn);
    }
    node->spent = 0;
}

/* Takes one flag of the first object that has something to say: 1 an event, 0 nothing came of
 * it, -1 nothing is pending. */
static int p2p__event_take(p2p_node *node, p2p_event *out) {
    uint32_t ref = node->ready_first, flags, flag, n = 0;
    p2p__conn *conn;
    while (ref != P2P__REF_NONE) {
        flags = p2p__ready_of(node, ref)->flags & ~(uint32_t)P2P__EV_HANDLER;
        flag = p2p__lowest(flags);
        conn = ref & P2P__REF_STREAM ? NULL : p2p__conn_at(node, ref);
        if (flag && !p2p__conn_first(node, ref) &&
            !(conn && (flag == P2P__EV_DISCONNECTED || (flag == P2P__EV_CONNECTED && conn->told)) &&
              p2p__streams_pending(node, conn)))
            break;
        ref = p2p__ready_of(node, ref)->next;
        if (++n > node->stream_total + node->conns.count)
            return -1;
    }
    if (ref == P2P__REF_NONE)
        return -1;
    p2p__ready_clear(node, ref, flag);
    if (p2p__ready_of(node, ref)->listed) { /* to the end: the others' turn */
        p2p__ready_unlink(node, ref);
        p2p__ready_link(node, ref);
    }
    P2P_MEMSET(out, 0, sizeof *out);
    return ref & P2P__REF_STREAM
               ? p2p__stream_event(node, &node->streams[ref & ~P2P__REF_STREAM], flag, out)
               : p2p__conn_event(node, p2p__conn_at(node, ref), flag, out);
}

static int p2p__timer_event(p2p_node *node, p2p_event *out) {
    uint32_t i;
    if (node->timer_next_us > node->now_us)
        return 0;
    for (i = 0; i < node->timer_count; i++)
        if (node->timers[i] <= node->now_us) {
            out->type = P2P_EVENT_TIMER;
            out->code = i;
            node->timers[i] = P2P_NEVER;
            p2p__timers_next(node);
            return 1;
        }
    return 0;
}

static int p2p__handler_run(p2p_node *node) {
    uint32_t ref = node->ready_first;
    p2p__stream *s;
    if (!P2P__ROUTER || node->handler_ready == 0)
        return 0;
    while (!(ref & P2P__REF_STREAM) || !(p2p__ready_of(node, ref)->flags & P2P__EV_HANDLER))
        ref = p2p__ready_of(node, ref)->next;
    s = &node->streams[ref & ~P2P__REF_STREAM];
    p2p__ready_clear(node, ref, P2P__EV_HANDLER);
    node->in_call = 1;
    p2p__router_run(node, s);
    node->in_call = 0;
    p2p__count(node, P2P_METRIC_handlers_run, 1);
    return 1;
}

static bool p2p__events_pending(const p2p_node *node) {
    return node->ready_first != P2P__REF_NONE || p2p__discovery_pending(node) ||
           node->timer_next_us <= node->now_us || p2p__stop_done(node);
}

/* ==== >>public ====
 * The calls of the declarations: each checks what the caller may get wrong, then asks the room
 * that knows.
 * Always: a stale handle is P2P_ERR_HANDLE, a call a handler may not make P2P_ERR_STATE; nothing
 *         is clamped in silence.
 * Covered by tests/behaviour/. */
P2P_DEF size_t p2p_arena_size(const p2p_desc *desc) {
    p2p_desc d;
    if (!desc || p2p__desc_resolve(desc, &d) < 0)
        return 0;
    return p2p__node_layout(&d, NULL);
}

#ifndef P2P_NO_WORDS
/* Writes one line of p2p_arena_text: "name  count x size = bytes". */
static void p2p__arena_line(p2p__writer *w, const char *name, uint32_t count, size_t size) {
    p2p__put_text(w, name);
    p2p__put_text(w, "  ");
    p2p__put_number(w, count);
    p2p__put_text(w, " x ");
    p2p__put_number(w, size);
    p2p__put_text(w, " = ");
    p2p__put_number(w, (uint64_t)count * size);
    p2p__put_u8(w, '\n');
}

P2P_DEF int p2p_arena_text(const p2p_desc *desc, char *out, size_t size) {
    p2p_desc d;
    p2p__writer w = p2p__writer_of(out, size ? size - 1 : 0);
    size_t streams[3];
    int err;
    if (!desc || !out || size == 0)
        return P2P_ERR_ARG;
    if ((err = p2p__desc_resolve(desc, &d)) < 0)
        return err;
    for (uint32_t kind = 0; kind < 3; kind++)
        streams[kind] = sizeof(p2p__stream) + p2p__stream_rooms(&d, kind).bytes;
    p2p__arena_line(&w, "node", 1, sizeof(p2p_node));
    p2p__arena_line(&w, "connections", d.max.conns, sizeof(p2p__conn));
    p2p__arena_line(&w, "sessions", d.max.conns, sizeof(p2p__session));
    p2p__arena_line(&w, "secure", d.max.conns, p2p__slab_bytes(&d));
    p2p__arena_line(&w, "messages", p2p__message_streams(&d), streams[0]);
    p2p__arena_line(&w, "streams", d.max.streams, streams[1]);
    p2p__arena_line(&w, "peer streams", d.max.peer_streams, streams[2]);
    p2p__arena_line(&w, "in flight", d.max.in_flight,
                    sizeof(p2p__packet) + sizeof(p2p__chunk) + sizeof(p2p__chunk) / 4);
    p2p__arena_line(&w, "datagrams", d.max.datagrams_in + d.max.datagrams_out,
                    p2p__datagram_stride(&d));
    p2p__arena_line(&w, "peers", d.max.peers, sizeof(p2p__peer));
    p2p__arena_line(&w, "routes", d.max.routes, sizeof(p2p_route));
    p2p__arena_line(&w, "all", 1, p2p__node_layout(&d, NULL));
    return w.bad ? P2P_ERR_TOO_LARGE : p2p__text_end(&w, out);
}
#endif

P2P_DEF uint32_t p2p_abi(void) { return P2P_ABI; }
P2P_DEF int p2p_node_open_abi(p2p_node **out, const p2p_desc *desc, void *arena, size_t arena_size,
                              uint32_t abi) {
    return p2p__node_open(out, desc, arena, arena_size, abi, false);
}

P2P_DEF int p2p_node_open_simulated(p2p_node **out, const p2p_desc *desc, void *arena,
                                    size_t arena_size, uint32_t abi) {
    return p2p__node_open(out, desc, arena, arena_size, abi, true);
}

P2P_DEF void p2p_node_close(p2p_node *node) {
    uint32_t i;
    size_t size;
    if (!node || node->magic != P2P__MAGIC || node->in_call)
        return;
    p2p__discovery_close(node);
    for (i = 0; i < node->sessions.count; i++) {
        p2p__session *s = p2p__session_at(node, i);
        if (p2p__slot_live(s))
            p2p__secure(node)->end(p2p__secure_ctx(node), s->slab);
    }
    size = node->arena_size;
    p2p_wipe(node, size);
}

static int p2p__close_begin(p2p_node *node, p2p__conn *conn, uint32_t code, p2p_str reason,
                            uint64_t within_us);
/* A dial by name that found an open connection is given back before that was told: so is its hold. */
static int p2p__alias_end(p2p_node *node, p2p__conn *conn) {
    p2p__conn *open = (p2p__conn *)p2p__pool_get(&node->conns, conn->alias);
    uint32_t ref = p2p__conn_index(node, conn);
    conn->alias = 0;
    p2p__ready_set(node, ref, P2P__EV_DISCONNECTED);
    p2p__ready_clear(node, ref, P2P__EV_CONNECTED);
    if (open && open->holders > 0 && --open->holders == 0)
        (void)p2p__close_begin(node, open, 0, p2p__no_words(), P2P__FLUSH_US);
    return P2P_OK;
}

/* Ends a connection after what was accepted is delivered; at once when there is nobody to
 * deliver to. */
static int p2p__close_begin(p2p_node *node, p2p__conn *conn, uint32_t code, p2p_str reason,
                            uint64_t within_us) {
    p2p__session *session = p2p__session_at(node, conn->session);
    if (P2P__DISCOVERY && conn->alias)
        return p2p__alias_end(node, conn);
    if (conn->state >= P2P__CONN_FLUSHING)
        return P2P_OK;
    if (conn->state < P2P__CONN_OPEN) {
        p2p__conn_detach(node, conn);
        if (session)
            p2p__session_end(node, session, P2P__CODE_NONE);
        p2p__conn_down(node, conn, P2P_OK, code, reason);
        return P2P_OK;
    }
    p2p__conn_go(conn, P2P__CONN_FLUSHING);
    conn->code = code;
    conn->reason_size = (uint8_t)reason.size;
    if (reason.size)
        P2P_MEMCPY(conn->reason, reason.data, reason.size);
    conn->flush_by_us = p2p__from_now(node, conn, within_us);
    p2p__heap_set(node, p2p__conn_index(node, conn),
                  0); /* the next p2p_poll sees whether anything is left to deliver */
    return P2P_OK;
}

P2P_DEF int p2p_node_stop(p2p_node *node, uint32_t code) {
    if (!node)
        return P2P_ERR_ARG;
    if (node->stopping)
        return 0;
    node->stopping = 1;
    node->fresh = node->ticks;
    node->stop_by_us = p2p__time_add(node->now_us, node->desc.time.stop_us);
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state <= P2P__CONN_OPEN)
            (void)p2p__close_begin(node, conn, code, p2p__no_words(), node->desc.time.stop_us);
    }
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s->conn == P2P__NIL && s->state < P2P__SESSION_CLOSING)
            p2p__session_end(node, s, P2P__CODE_STOPPED);
    }
    return 0;
}

P2P_DEF const p2p_id *p2p_node_id(const p2p_node *node) { return &node->key.id; }
P2P_DEF void *p2p_node_user(const p2p_node *node) { return node->desc.user; }
P2P_DEF void p2p_last_error(const p2p_node *node, p2p_error_detail *out) { *out = node->failed; }
P2P_DEF uint64_t p2p_now(const p2p_node *node) { return node->now_us; }

/* ---- driving */
static int p2p__may_drive(const p2p_node *node) {
    return !node           ? P2P_ERR_ARG
           : node->in_call ? p2p__fail(node, P2P_ERR_STATE, "not from inside a handler or hook")
                           : P2P_OK;
}

P2P_DEF int p2p_input(p2p_node *node, uint64_t now_us, const p2p_packet *in) {
    p2p__session *last = NULL;
    size_t step, at;
    int taken = 0;
    if (p2p__may_drive(node) < 0)
        return node ? P2P_ERR_STATE : P2P_ERR_ARG;
    if (!in || (!in->data && in->size))
        return p2p__fail(node, P2P_ERR_ARG, "in: NULL, or without data");
    p2p__clock(node, now_us);
    node->in_remote = in->remote;
    node->in_local = in->local;
    node->in_socket = in->socket;
    step = in->segment ? in->segment : in->size;
    for (at = 0; at < in->size; at += step) {
        size_t n = P2P__MIN(step, in->size - at);
        p2p__count(node, P2P_METRIC_datagrams_in, 1);
        p2p__count(node, P2P_METRIC_bytes_in, n);
        node->in_bytes = (uint32_t)n;
        taken |= (int)p2p__datagram_in(node, (uint8_t *)in->data + at, n, &in->remote, &last);
    }
    p2p__session_settle(node, last);
    return taken;
}

P2P_DEF uint64_t p2p_poll(p2p_node *node, uint64_t now_us) {
    uint32_t bound;
    if (p2p__may_drive(node) < 0)
        return P2P_NEVER;
    p2p__clock(node, now_us);
    bound = 4 * (node->sessions.count + node->conns.count);
    while (node->heap.count > 0 && p2p__heap_us(node, 0) <= node->now_us && bound-- > 0) {
        uint32_t ref = node->heap.refs[0];
        if (ref & P2P__REF_SESSION)
            p2p__session_tick(node, p2p__session_at(node, ref & ~P2P__REF_SESSION));
        else
            p2p__conn_tick(node, p2p__conn_at(node, ref));
    }
    p2p__discovery_timeout(node);
    p2p__stop_tick(node);
    node->polled_us = node->now_us;
    return p2p_deadline(node);
}

/* Whether more may follow a datagram in one run: the others are no longer than the first, so that
 * must not be one that just happened to be short. */
static bool p2p__run_worthy(const p2p__session *session, size_t first) {
    uint32_t most = session->cc.datagram_bytes;
    return session->state == P2P__SESSION_OPEN && session->queued && first <= most &&
           first >= most - most / 8;
}

/* Further datagrams of the same session behind the first, all of one size but the last. */
static size_t p2p__output_run(p2p_node *node, p2p__session *session, p2p_packet *io, size_t room,
                              size_t first) {
    size_t size = first, n = first;
    uint32_t count = 1;
    p2p_addr remote;
    while (n == first && count < node->desc.link.segments && room - size >= first &&
           p2p__run_worthy(session, first)) {
        n = p2p__session_output(node, session, (uint8_t *)io->data + size, first, &remote);
        if (n == 0) {
            p2p__out_add(node, session); /* what is due may want more room than the first took */
            break;
        }
        size += n;
        count++;
    }
    io->segment = count > 1 ? (uint32_t)first : 0;
    p2p__count(node, P2P_METRIC_datagrams_out, count);
    return size;
}

P2P_DEF int p2p_output(p2p_node *node, uint64_t now_us, p2p_packet *inout) {
    size_t room, n;
    if (p2p__may_drive(node) < 0)
        return node ? P2P_ERR_STATE : P2P_ERR_ARG;
    if (!inout || !inout->data || inout->size < P2P__ENVELOPE_MAX + 1u)
        return p2p__fail_size(node, P2P_ERR_ARG, "inout: too little room", inout ? inout->size : 0,
                              P2P__ENVELOPE_MAX + 1u);
    p2p__clock(node, now_us);
    room = inout->size;
    n = p2p__retry_output(node, (uint8_t *)inout->data, room, &inout->remote);
    if (n == 0)
        n = p2p__response_output(node, (uint8_t *)inout->data, room, &inout->remote);
    inout->segment = 0;
    if (n)
        p2p__count(node, P2P_METRIC_datagrams_out, 1);
    while (n == 0 && node->out_first != P2P__NIL) {
        p2p__session *session = p2p__session_at(node, node->out_first);
        node->out_local = session->local;
        node->out_socket = session->socket;
        n = p2p__session_output(node, session, (uint8_t *)inout->data, room, &inout->remote);
        if (n)
            n = p2p__output_run(node, session, inout, room, n);
        if (n && session->queued) { /* the others' turn */
            p2p__out_drop(node, session);
            p2p__out_add(node, session);
        }
        p2p__session_schedule(node, session);
    }
    if (n == 0)
        return 0;
    inout->local = node->out_local;
    inout->size = n;
    inout->ecn = 0;
    inout->socket = node->out_socket;
    p2p__count(node, P2P_METRIC_bytes_out, n);
    return 1;
}

P2P_DEF uint64_t p2p_wakeup(const p2p_node *node) {
    uint64_t us = node->timer_next_us > node->now_us ? node->timer_next_us : P2P_NEVER;
    if (node->out_first != P2P__NIL || node->retry_count || node->challenge_count)
        return 0;
    if (node->heap.count)
        us = P2P__MIN(us, p2p__heap_us(node, 0));
    us = P2P__MIN(us, p2p__discovery_deadline(node));
    us = P2P__MIN(us, node->stop_by_us);
    return us <= node->now_us ? 0 : us;
}

P2P_DEF uint64_t p2p_deadline(const p2p_node *node) {
    if (!node)
        return P2P_NEVER;
    return p2p__events_pending(node) ? 0 : p2p_wakeup(node);
}

P2P_DEF int p2p_run_handler(p2p_node *node) {
    int err = p2p__may_drive(node);
    return err < 0 ? err : p2p__handler_run(node);
}

P2P_DEF int p2p_next_event(p2p_node *node, p2p_event *out) {
    uint32_t n;
    int rc = 0;
    if (p2p__may_drive(node) < 0)
        return node ? P2P_ERR_STATE : P2P_ERR_ARG;
    if (!out)
        return p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    P2P_MEMSET(out, 0, sizeof *out);
    p2p__events_after(node);
    n = p2p__handler_run(node) ? 1u : 0u;
    rc = p2p__timer_event(node, out);
    if (rc == 0)
        rc = p2p__discovery_event(node, out);
    while (rc == 0)
        rc = p2p__event_take(node, out);
    if (rc < 0 && p2p__stop_done(node)) {
        P2P_MEMSET(out, 0, sizeof *out);
        out->type = P2P_EVENT_STOPPED;
        node->stopped = 1;
        p2p__log(&node->log, P2P__LOG_STOPPED);
        rc = 1;
    }
    if (rc == 1)
        p2p__count(node, P2P_METRIC_events_given, 1);
    if (rc == 1 || n == 0)
        return rc == 1;
    P2P_MEMSET(out, 0, sizeof *out); /* a handler ran, and no event is left: NONE, come again */
    return 1;
}

P2P_DEF int p2p_network_changed(p2p_node *node, uint64_t now_us, const p2p_addr *local,
                                size_t count) {
    if (!node || (count && !local))
        return P2P_ERR_ARG;
    if (count > sizeof node->desc.link.local / sizeof node->desc.link.local[0])
        return p2p__fail_size(node, P2P_ERR_LIMIT, "count: at most 8 addresses", count, 8);
    p2p__clock(node, now_us);
    node->desc.link.local_count = (uint32_t)count;
    if (count)
        P2P_MEMCPY(node->desc.link.local, local, count * sizeof *local);
    for (p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        if (s->state != P2P__SESSION_OPEN)
            continue;
        s->control |= P2P__CONTROL_PING; /* the path may be another one: ask at once */
        p2p__out_add(node, s);
    }
    for (p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state != P2P__CONN_WAITING)
            continue;
        conn->setbacks = 0; /* what failed before may go now */
        conn->retry_us = 0;
        p2p__conn_schedule(node, conn);
    }
    p2p__discovery_refresh(node);
    return 0;
}

P2P_DEF int p2p_timer_set(p2p_node *node, uint32_t number, uint64_t at_us) {
    if (!node)
        return P2P_ERR_ARG;
    if (number >= node->timer_count)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "number: not below max.timers", number,
                              node->timer_count);
    node->timers[number] = at_us;
    p2p__timers_next(node);
    return 0;
}

/* ---- connections */
/* The place of an ALPN among the node's: for a new one the first free, its own after
 * p2p__alpn_keep. A call that fails in between takes none. */
static int p2p__alpn_place(p2p_node *node, const char *alpn) {
    uint32_t i;
    size_t size = strlen(alpn);
    if (size < 1 || size > P2P__ALPN_BYTES)
        return p2p__fail_size(node, P2P_ERR_ARG, "alpn: 1 to 32 bytes", size, P2P__ALPN_BYTES);
    for (i = 0; i < node->alpn_count; i++)
        if (strcmp(node->alpn[i], alpn) == 0)
            return (int)i;
    if (node->alpn_count == P2P__ALPNS)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "alpn: a node has at most 8", P2P__ALPNS + 1u,
                              P2P__ALPNS);
    P2P_MEMCPY(node->alpn[node->alpn_count], alpn, size + 1);
    return (int)node->alpn_count;
}
static void p2p__alpn_keep(p2p_node *node, int alpn) {
    node->alpn_count += (uint32_t)alpn == node->alpn_count;
}

static int p2p__connect_check(p2p_node *node, const p2p_connect_desc *desc, int *alpn) {
    *alpn = (int)P2P__ANY_ALPN;
    if (node->stopping)
        return p2p__fail(node, P2P_ERR_STATE, "the node is stopping");
    if (desc && desc->reconnect && !P2P__RETURNS)
        return p2p__fail(node, P2P_ERR_CONFIG, "desc.reconnect: left out by P2P_NO_RECONNECT");
    if (desc && desc->alpn)
        *alpn = p2p__alpn_place(node, desc->alpn);
    return *alpn < 0 ? *alpn : P2P_OK;
}

static int p2p__connect_id_check(const p2p_node *node, const p2p_id *peer) {
    if (p2p__id_check(peer) < 0)
        return p2p__fail(node, P2P_ERR_INVALID_ID, "peer: not a NodeId");
    if (p2p_id_equal(peer, &node->key.id))
        return p2p__fail(node, P2P_ERR_INVALID_ID, "peer: the node's own id");
    if (p2p__conns_with(node, peer) >= node->desc.max.conns_per_peer)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "max.conns_per_peer: reached with this peer",
                              p2p__conns_with(node, peer) + 1u, node->desc.max.conns_per_peer);
    return P2P_OK;
}

static p2p__conn *p2p__connect_begin(p2p_node *node, const p2p_id *peer,
                                     const p2p_connect_desc *desc, int alpn) {
    p2p__conn *conn = p2p__conn_make(node, peer);
    uint64_t us = desc && desc->timeout_us ? desc->timeout_us : node->desc.time.connect_us;
    if (!conn) {
        (void)p2p__fail_size(node, P2P_ERR_LIMIT, "max.conns: all in use", node->conns.count + 1u,
                             node->conns.count);
        return NULL;
    }
    conn->user = desc ? desc->user : NULL;
    conn->alpn = (uint8_t)alpn;
    conn->share = desc ? desc->share : 0;
    conn->reconnect = desc && desc->reconnect; /* P2P__RECONNECT_ASKED */
    conn->connect_by_us = p2p__from_now(node, conn, us);
    node->waiting_dials++;
    p2p__count(node, P2P_METRIC_conns_dialled, 1);
    p2p__conn_schedule(node, conn);
    return conn;
}

P2P_DEF int p2p_connect(p2p_node *node, const p2p_id *peer, const p2p_connect_desc *desc,
                        p2p_conn *out) {
    const p2p_ticket *known;
    p2p__conn *conn;
    int alpn, err;
    if (!node || !peer || !out)
        return node ? p2p__fail(node, P2P_ERR_ARG, "peer or out: NULL") : P2P_ERR_ARG;
    out->id = 0;
    if ((err = p2p__connect_check(node, desc, &alpn)) < 0)
        return err;
    if (desc && desc->share &&
        (conn = p2p__conn_shared(node, peer, (uint32_t)alpn, desc->reconnect != 0)) != NULL) {
        conn->holders++;
        *out = p2p__conn_handle(node, conn);
        return conn->state == P2P__CONN_OPEN ? 1 : 0;
    }
    if ((err = p2p__connect_id_check(node, peer)) < 0)
        return err;
    conn = p2p__connect_begin(node, peer, desc, alpn);
    if (!conn)
        return P2P_ERR_LIMIT;
    p2p__alpn_keep(node, alpn);
    *out = p2p__conn_handle(node, conn);
    known = p2p__peer_find(node, peer);
    if (known)
        p2p__path_learn(node, conn, known);
    if (conn->addr_count == 0)
        p2p__peer_ask(node, conn);
    return P2P_OK;
}

#ifndef P2P_NO_DISCOVERY
P2P_DEF int p2p_connect_name(p2p_node *node, const char *name, const p2p_connect_desc *desc,
                             p2p_conn *out) {
    p2p__conn *conn;
    p2p_id nobody;
    int alpn, err;
    if (!node || !name || !out)
        return node ? p2p__fail(node, P2P_ERR_ARG, "name or out: NULL") : P2P_ERR_ARG;
    out->id = 0;
    if ((err = p2p__connect_check(node, desc, &alpn)) < 0)
        return err;
    P2P_MEMSET(&nobody, 0, sizeof nobody);
    conn = p2p__connect_begin(node, &nobody, desc, alpn);
    if (!conn)
        return P2P_ERR_LIMIT;
    *out = p2p__conn_handle(node, conn);
    err = p2p__query_start(node, name, NULL, out->id, &conn->query);
    if (err < 0) { /* nothing was asked: as if the call had not been */
        conn->state = P2P__CONN_DOWN;
        node->waiting_dials--;
        p2p__conn_free(node, conn);
        out->id = 0;
        return err;
    }
    p2p__alpn_keep(node, alpn);
    return P2P_OK;
}
#endif

P2P_DEF int p2p_listen(p2p_node *node, const p2p_listen_desc *desc, p2p_listener *out) {
    p2p__listener *l;
    int alpn = 0;
    if (!node || !out)
        return node ? p2p__fail(node, P2P_ERR_ARG, "out: NULL") : P2P_ERR_ARG;
    out->id = 0;
    if (!node->desc.allow.fn && !node->desc.allow_anyone)
        return p2p__fail(node, P2P_ERR_CONFIG, "allow: set desc.allow or desc.allow_anyone");
    if (node->stopping)
        return p2p__fail(node, P2P_ERR_STATE, "the node is stopping");
    if (desc && desc->alpn && (alpn = p2p__alpn_place(node, desc->alpn)) < 0)
        return alpn;
    l = (p2p__listener *)p2p__pool_take(&node->listeners);
    if (!l)
        return p2p__fail_size(node, P2P_ERR_LIMIT, "max.listeners: all in use",
                              node->listeners.count + 1u, node->listeners.count);
    if (desc && desc->alpn)
        p2p__alpn_keep(node, alpn);
    l->accept_first = l->accept_last = P2P__NIL;
    l->any = !(desc && desc->alpn);
    l->alpn = (uint8_t)alpn;
    l->user = desc ? desc->user : NULL;
    l->backlog = desc ? desc->backlog : 0;
    out->id = p2p__pool_id(&node->listeners, l);
    p2p__log(&node->log, P2P__LOG_LISTENING);
    return P2P_OK;
}

P2P_DEF int p2p_unlisten(p2p_node *node, p2p_listener listener) {
    p2p__listener *l;
    uint32_t i, index;
    if (!node)
        return P2P_ERR_ARG;
    l = (p2p__listener *)p2p__pool_get(&node->listeners, listener.id);
    if (!l)
        return p2p__fail(node, P2P_ERR_HANDLE, "listener: stale, or of another node");
    index = p2p__pool_index(&node->listeners, l);
    for (i = 0; i < node->conns.count;
         i++) { /* connections stay; they only forget where they came in */
        p2p__conn *conn = p2p__conn_at(node, i);
        if (p2p__slot_live(conn) && conn->listener == index) {
            conn->listener = P2P__NIL;
            conn->accepting = 0;
        }
    }
    p2p__pool_give(&node->listeners, l);
    return P2P_OK;
}

P2P_DEF int p2p_accept(p2p_node *node, p2p_listener listener, p2p_conn *out) {
    p2p__listener *l;
    p2p__conn *conn;
    if (!node || !out)
        return P2P_ERR_ARG;
    l = (p2p__listener *)p2p__pool_get(&node->listeners, listener.id);
    if (!l)
        return p2p__fail(node, P2P_ERR_HANDLE, "listener: stale, or of another node");
    conn = p2p__conn_at(node, l->accept_first);
    if (!conn)
        return P2P_ERR_AGAIN;
    p2p__accept_unlink(node, conn);
    *out = p2p__conn_handle(node, conn);
    return P2P_OK;
}

P2P_DEF int p2p_close(p2p_node *node, p2p_conn handle, uint32_t code, const char *reason) {
    p2p_str words = p2p_str_of(reason ? reason : "");
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0)
        return err;
    if (words.size > P2P__REASON_BYTES || !p2p__utf8_valid(words.data, words.size))
        return p2p__fail_size(node, P2P_ERR_ARG, "reason: UTF-8, at most 96 bytes", words.size,
                              P2P__REASON_BYTES);
    return p2p__close_begin(node, conn, code, words, P2P__FLUSH_US);
}

P2P_DEF int p2p_retain(p2p_node *node, p2p_conn handle) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0)
        return err;
    conn->holders++;
    return (int)P2P__MIN(conn->holders, (uint32_t)INT32_MAX);
}

P2P_DEF int p2p_release(p2p_node *node, p2p_conn handle) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0)
        return err;
    if (conn->holders > 0)
        conn->holders--;
    if (conn->holders > 0)
        return (int)P2P__MIN(conn->holders, (uint32_t)INT32_MAX);
    return p2p__close_begin(node, conn, 0, p2p__no_words(), P2P__FLUSH_US);
}

P2P_DEF bool p2p_is_connected(const p2p_node *node, p2p_conn handle) {
    p2p__conn *conn = node ? p2p__conn_get(node, handle) : NULL;
    return conn && conn->state == P2P__CONN_OPEN;
}

P2P_DEF int p2p_remote_id(const p2p_node *node, p2p_conn handle, p2p_id *out) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    *out = conn->peer;
    return P2P_OK;
}

P2P_DEF int p2p_connections(const p2p_node *node, p2p_conn *out, size_t capacity) {
    int n = 0;
    if (!node || (capacity && !out))
        return P2P_ERR_ARG;
    for (const p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        if (conn->state != P2P__CONN_OPEN)
            continue;
        if ((size_t)n < capacity)
            out[n] = p2p__conn_handle(node, conn);
        n++;
    }
    return n;
}

P2P_DEF int p2p_conn_alpn(const p2p_node *node, p2p_conn handle, p2p_str *out) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    if (conn->alpn == P2P__ANY_ALPN)
        return p2p__fail(node, P2P_ERR_STATE, "conn: not agreed yet");
    *out = p2p__alpn(node, conn->alpn);
    return P2P_OK;
}

P2P_DEF int p2p_conn_set_user(p2p_node *node, p2p_conn handle, void *user) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err >= 0)
        conn->user = user;
    return err;
}

P2P_DEF void *p2p_conn_user(const p2p_node *node, p2p_conn handle) {
    p2p__conn *conn = node ? p2p__conn_get(node, handle) : NULL;
    return conn ? conn->user : NULL;
}

P2P_DEF int p2p_conn_stats(const p2p_node *node, p2p_conn handle, p2p_stats *out) {
    p2p__conn *conn;
    const p2p__session *session;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    P2P_MEMSET(out, 0, sizeof *out);
    out->duration_us = conn->state >= P2P__CONN_OPEN ? node->now_us - conn->opened_us : 0;
    out->messages_sent = conn->messages_sent;
    out->messages_received = conn->messages_received;
    out->bytes_sent = conn->bytes_sent;
    out->bytes_received = conn->bytes_received;
    out->datagrams_sent = conn->datagrams_sent;
    out->datagrams_received = conn->datagrams_received;
    out->datagrams_dropped = conn->datagrams_dropped;
    session = p2p__session_at(node, conn->session);
    if (!session)
        return P2P_OK;
    out->packets_sent = session->packets_sent;
    out->packets_received = session->packets_received;
    out->packets_lost = session->packets_lost;
    out->rtt_us = (uint32_t)P2P__MIN(session->rtt.smoothed_us, (uint64_t)UINT32_MAX);
    out->rtt_min_us =
        (uint32_t)P2P__MIN(session->rtt.sampled ? session->rtt.min_us : session->rtt.smoothed_us,
                           (uint64_t)UINT32_MAX);
    out->mtu = session->cc.datagram_bytes;
    out->remote = session->remote;
    out->window_bytes = session->cc.now.window_bytes;
    out->in_flight_bytes = (uint32_t)session->in_flight_bytes;
    out->pacing_rate = session->cc.rate;
    out->rtt_variance_us = (uint32_t)P2P__MIN(session->rtt.variance_us, (uint64_t)UINT32_MAX);
    return P2P_OK;
}

#ifndef P2P_NO_MESSAGES
/* ---- messages */
static size_t p2p__message_limit(const p2p_node *node, const p2p__conn *conn) {
    const p2p__session *session = p2p__session_at(node, conn->session);
    return conn->attached && session
               ? (size_t)P2P__MIN(session->theirs.message_max, (uint64_t)INT32_MAX)
               : INT32_MAX;
}

static int p2p__message_conn(const p2p_node *node, p2p_conn handle, p2p__conn **conn,
                             p2p__stream **s) {
    int err = p2p__conn_for(node, handle, conn);
    if (err < 0)
        return err;
    *s = p2p__messages(node, *conn);
    return *s ? P2P_OK : p2p__fail(node, P2P_ERR_CONFIG, "bytes.message_max: P2P_NONE");
}

static int p2p__message_sendable(const p2p_node *node, const p2p__conn *conn, const void *message,
                                 size_t size) {
    if (conn->state >= P2P__CONN_FLUSHING)
        return p2p__fail(node, P2P_ERR_CLOSED, "conn: closing");
    if (!message && size)
        return p2p__fail(node, P2P_ERR_ARG, "message: NULL");
    if (size > p2p__message_limit(node, conn))
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "size: over the peer's bytes.message_max",
                              size, p2p__message_limit(node, conn));
    return P2P_OK;
}

static void p2p__message_prefix(p2p_node *node, p2p__conn *conn, p2p__stream *s, uint64_t size) {
    uint8_t prefix[P2P__MESSAGE_OVER];
    p2p__writer w = p2p__writer_of(prefix, sizeof prefix);
    p2p__put_varint(&w, size);
    (void)p2p__send_put(node, s, prefix, sizeof prefix - (size_t)(w.end - w.at));
    conn->messages_sent++;
    conn->message_largest = P2P__MAX(conn->message_largest, size);
    p2p__count(node, P2P_METRIC_messages_sent, 1);
}

P2P_DEF int p2p_send(p2p_node *node, p2p_conn handle, const void *message, size_t size) {
    p2p__conn *conn;
    p2p__stream *s;
    int err = p2p__message_conn(node, handle, &conn, &s);
    if (err < 0 || (err = p2p__message_sendable(node, conn, message, size)) < 0)
        return err;
    if (p2p__varint_size(size) + size > p2p__send_size(s))
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE,
                              "size: over bytes.message_send: use p2p_send_ref", size,
                              p2p__send_size(s) - P2P__MESSAGE_OVER);
    if (p2p__varint_size(size) + size > p2p__send_room(s)) {
        conn->want_writable = 1;
        return P2P_ERR_AGAIN;
    }
    p2p__message_prefix(node, conn, s, size);
    (void)p2p__send_put(node, s, message, size);
    return (int)size;
}

P2P_DEF int p2p_send_ref(p2p_node *node, p2p_conn handle, const void *message, size_t size,
                         void *token) {
    p2p__conn *conn;
    p2p__stream *s;
    int err = p2p__message_conn(node, handle, &conn, &s);
    if (err < 0 || (err = p2p__message_sendable(node, conn, message, size)) < 0)
        return err;
    if (conn->sent_pending || s->send.lent || p2p__send_room(s) < P2P__MESSAGE_OVER) {
        conn->want_writable = 1;
        return P2P_ERR_AGAIN;
    }
    p2p__message_prefix(node, conn, s, size);
    if (size) {
        s->send.lent = (const uint8_t *)message;
        s->send.lent_at = s->send.end;
        s->send.lent_size = size;
        p2p__send_accept(node, s, size);
    }
    conn->sent_at = s->send.end;
    conn->sent_pending = 1;
    conn->sent_err = P2P_OK;
    conn->sent_token = token;
    return (int)size;
}

P2P_DEF int p2p_recv_size(const p2p_node *node, p2p_conn handle) {
    p2p__conn *conn;
    p2p__stream *s;
    int err = p2p__message_conn(node, handle, &conn, &s);
    if (err < 0)
        return err;
    return conn->message_size == P2P_NEVER || conn->lent ? P2P_ERR_AGAIN : (int)conn->message_size;
}

P2P_DEF int p2p_recv(p2p_node *node, p2p_conn handle, void *buffer, size_t capacity) {
    p2p__conn *conn;
    p2p__stream *s;
    int err = p2p__message_conn(node, handle, &conn, &s);
    size_t size;
    if (err < 0)
        return err;
    if (p2p__message_outgrows(node, conn))
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE,
                              "message: over bytes.message_recv: use p2p_recv_ref",
                              (size_t)conn->message_size, s->recv.room);
    if (!p2p__message_ready(node, conn))
        return conn->state == P2P__CONN_DOWN ? p2p__fail(node, P2P_ERR_CLOSED, "conn: closed")
                                             : P2P_ERR_AGAIN;
    size = (size_t)conn->message_size;
    if (size > capacity || (!buffer && size))
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "capacity: less than the message", size,
                              capacity);
    if (size)
        p2p__ring_get(s->recv.ring, s->recv.room, s->recv.read, (uint8_t *)buffer, size);
    p2p__recv_take(node, s, size);
    p2p__ready_clear(node, p2p__conn_index(node, conn), P2P__EV_MESSAGE);
    p2p__message_next(node, conn);
    return (int)size;
}

P2P_DEF int p2p_recv_ref(p2p_node *node, p2p_conn handle, void *buffer, size_t capacity) {
    p2p__conn *conn;
    p2p__stream *s;
    int err = p2p__message_conn(node, handle, &conn, &s);
    if (err < 0)
        return err;
    if (conn->lent)
        return p2p__fail(node, P2P_ERR_STATE, "buffer: one is lent already");
    if (conn->state == P2P__CONN_DOWN)
        return p2p__fail(node, P2P_ERR_CLOSED, "conn: closed");
    if (conn->message_size == P2P_NEVER)
        return P2P_ERR_AGAIN;
    if (!buffer || capacity < conn->message_size)
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "capacity: less than the message",
                              (size_t)conn->message_size, capacity);
    p2p__ready_clear(node, p2p__conn_index(node, conn), P2P__EV_MESSAGE);
    conn->lent = (uint8_t *)buffer;
    conn->lent_have = 0;
    p2p__message_fill(node, conn);
    return (int)conn->message_size;
}
#endif

/* ---- streams */
P2P_DEF int p2p_stream_open(p2p_node *node, p2p_conn handle, const p2p_stream_desc *desc,
                            p2p_stream *out) {
    p2p__conn *conn;
    p2p__stream *s = NULL;
    int err = p2p__conn_for(node, handle, &conn);
    uint8_t priority = desc ? desc->priority : 0;
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    out->id = 0;
    if (priority >= P2P__PRIORITIES)
        return p2p__fail_size(node, P2P_ERR_ARG, "desc.priority: 0 to 7", priority,
                              P2P__PRIORITIES - 1u);
    err = p2p__stream_make(node, conn, desc && desc->one_way ? P2P__KIND_UNI : P2P__KIND_BIDI,
                           priority, desc ? desc->user : NULL, &s);
    if (err < 0)
        return err;
    *out = p2p__stream_handle(node, s);
    return P2P_OK;
}

P2P_DEF int p2p_stream_accept(p2p_node *node, p2p_conn handle, p2p_stream *out) {
    p2p__conn *conn;
    p2p__stream *s;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    s = p2p__stream_at(node, conn->stream_accept_first);
    if (!s)
        return conn->state == P2P__CONN_DOWN ? p2p__fail(node, P2P_ERR_CLOSED, "conn: closed")
                                             : P2P_ERR_AGAIN;
    conn->stream_accept_first = s->accept_next;
    if (conn->stream_accept_first == P2P__NIL)
        conn->stream_accept_last = P2P__NIL;
    s->accepting = 0;
    s->accept_next = P2P__NIL;
    *out = p2p__stream_handle(node, s);
    return P2P_OK;
}

P2P_DEF int p2p_stream_set_user(p2p_node *node, p2p_stream handle, void *user) {
    p2p__stream *s;
    int err = p2p__stream_for(node, handle, &s);
    if (err < 0)
        return err;
    s->user = user;
    s->app_user_set = 1;
    return P2P_OK;
}

P2P_DEF void *p2p_stream_user(const p2p_node *node, p2p_stream handle) {
    p2p__stream *s = node ? p2p__stream_get(node, handle) : NULL;
    return s ? s->user : NULL;
}

P2P_DEF int p2p_stream_conn(const p2p_node *node, p2p_stream handle, p2p_conn *out) {
    p2p__stream *s;
    int err = p2p__stream_for(node, handle, &s);
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    *out = s->conn_handle;
    return P2P_OK;
}

/* Whether the application may write to it now. */
static int p2p__stream_writable(const p2p_node *node, p2p_stream handle, p2p__stream **s) {
    int err = p2p__stream_for(node, handle, s);
    if (err < 0)
        return err;
    if ((*s)->send.state == P2P__SEND_NONE)
        return p2p__fail(node, P2P_ERR_STATE, "stream: one way, and not yours");
    if ((*s)->kind == P2P__KIND_REQUEST && !p2p__router_writable(*s))
        return p2p__fail(node, P2P_ERR_STATE, "stream: no body is to be written now");
    if ((*s)->send.state == P2P__SEND_OPEN)
        return P2P_OK;
    if ((*s)->err == P2P_ERR_RESET || ((*s)->x.flags & P2P__EXCHANGE_STOPPED))
        return p2p__fail(node, P2P_ERR_RESET, "stream: abandoned by the peer");
    return (*s)->err ? p2p__fail(node, P2P_ERR_CLOSED, "conn: closed")
                     : p2p__fail(node, P2P_ERR_STATE, "stream: finished");
}

P2P_DEF int p2p_stream_write(p2p_node *node, p2p_stream handle, const void *data, size_t size) {
    p2p__stream *s;
    size_t room;
    int err = p2p__stream_writable(node, handle, &s);
    if (err < 0)
        return err;
    if (!data && size)
        return p2p__fail(node, P2P_ERR_ARG, "data: NULL");
    if (s->send.reserved_bytes)
        return p2p__fail(node, P2P_ERR_STATE, "stream: room is reserved; commit it first");
    if (size == 0)
        return 0;
    room = P2P__MIN(p2p__send_room(s), (size_t)INT32_MAX);
    if (room < size)
        s->send.want_writable = 1;
    if (room == 0)
        return P2P_ERR_AGAIN;
    return p2p__send_put(node, s, data, P2P__MIN(size, room));
}

P2P_DEF int p2p_stream_reserve(p2p_node *node, p2p_stream handle, size_t want, p2p_room *out) {
    p2p__stream *s;
    size_t place, room;
    int err = p2p__stream_writable(node, handle, &s);
    if (err < 0 || !out)
        return err < 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    out->data = NULL;
    out->size = 0;
    place = (size_t)(p2p__send_place(&s->send, s->send.end) % s->send.room);
    room = P2P__MIN(P2P__MIN(p2p__send_room(s), s->send.room - place), (size_t)INT32_MAX);
    if (room == 0 && want > 0) {
        s->send.want_writable = 1;
        return P2P_ERR_AGAIN;
    }
    out->data = s->send.ring + place;
    out->size = P2P__MIN(room, want);
    s->send.reserved_bytes = (uint32_t)out->size;
    return (int)out->size;
}

P2P_DEF int p2p_stream_commit(p2p_node *node, p2p_stream handle, size_t size) {
    p2p__stream *s;
    int err = p2p__stream_writable(node, handle, &s);
    if (err < 0)
        return err;
    if (size > s->send.reserved_bytes)
        return p2p__fail_size(node, P2P_ERR_ARG, "size: more than was reserved", size,
                              s->send.reserved_bytes);
    s->send.reserved_bytes = 0;
    if (size)
        p2p__send_accept(node, s, size);
    return (int)size;
}

/* Whether there may be something to read: 1, 0 at the end, or why not. */
static int p2p__stream_readable(p2p_node *node, p2p_stream handle, p2p__stream **s) {
    int err = p2p__stream_for(node, handle, s);
    if (err < 0)
        return err;
    if ((*s)->recv.state == P2P__RECV_NONE)
        return p2p__fail(node, P2P_ERR_STATE, "stream: one way, and yours");
    if ((*s)->kind == P2P__KIND_REQUEST && !p2p__router_raw(*s))
        return (*s)->err == P2P_ERR_RESET
                   ? p2p__fail(node, P2P_ERR_RESET, "stream: abandoned by the peer")
                   : P2P_ERR_AGAIN;
    if ((*s)->recv.read < (*s)->recv.here)
        return 1;
    if ((*s)->err == P2P_ERR_RESET && (*s)->recv.read != (*s)->recv.final)
        return p2p__fail(node, P2P_ERR_RESET, "stream: abandoned by the peer");
    if ((*s)->err == P2P_ERR_RESET && (*s)->recv.state != P2P__RECV_WHOLE)
        return p2p__fail(node, P2P_ERR_RESET, "stream: abandoned by the peer");
    if ((*s)->recv.state == P2P__RECV_WHOLE ||
        ((*s)->recv.state == P2P__RECV_DONE && (*s)->recv.read == (*s)->recv.final))
        return 0;
    return (*s)->recv.state == P2P__RECV_DONE
               ? p2p__fail(node, P2P_ERR_CLOSED, "stream: reading ended")
               : P2P_ERR_AGAIN;
}

static void p2p__stream_took(p2p_node *node, p2p__stream *s, size_t size) {
    p2p__recv_take(node, s, size);
    if (s->kind == P2P__KIND_REQUEST)
        p2p__router_taken(node, s);
    p2p__ready_clear(node, p2p__stream_ref(node, s), P2P__EV_READABLE);
    if (s->recv.read < s->recv.here || (size && s->recv.state == P2P__RECV_WHOLE))
        p2p__raise(node, s, P2P__EV_READABLE);
}

P2P_DEF int p2p_stream_read(p2p_node *node, p2p_stream handle, void *buffer, size_t capacity) {
    p2p__stream *s;
    int err = p2p__stream_readable(node, handle, &s);
    size_t n;
    if (err == 0)
        p2p__recv_ended(node, s);
    if (err <= 0)
        return err;
    if (!buffer || capacity == 0)
        return p2p__fail(node, P2P_ERR_ARG, "buffer: NULL, or of no bytes");
    n = (size_t)P2P__MIN(s->recv.here - s->recv.read,
                         (uint64_t)P2P__MIN(capacity, (size_t)INT32_MAX));
    p2p__ring_get(s->recv.ring, s->recv.room, s->recv.read, (uint8_t *)buffer, n);
    p2p__stream_took(node, s, n);
    return (int)n;
}

P2P_DEF int p2p_stream_peek(p2p_node *node, p2p_stream handle, p2p_span *out) {
    p2p__stream *s;
    int err = p2p__stream_readable(node, handle, &s);
    if (out) {
        out->data = NULL;
        out->size = 0;
    }
    if (err == 0)
        p2p__recv_ended(node, s);
    if (err <= 0 || !out)
        return err <= 0 ? err : p2p__fail(node, P2P_ERR_ARG, "out: NULL");
    out->data = p2p__recv_at(s);
    out->size = p2p__recv_have(s);
    return (int)P2P__MIN(out->size, (size_t)INT32_MAX);
}

P2P_DEF int p2p_stream_skip(p2p_node *node, p2p_stream handle, size_t size) {
    p2p__stream *s;
    int err = p2p__stream_readable(node, handle, &s);
    if (err < 0)
        return err;
    if (size > s->recv.here - s->recv.read)
        return p2p__fail_size(node, P2P_ERR_ARG, "size: more than has arrived", size,
                              (size_t)(s->recv.here - s->recv.read));
    p2p__stream_took(node, s, size);
    return (int)size;
}

P2P_DEF int p2p_stream_finish(p2p_node *node, p2p_stream handle) {
    p2p__stream *s;
    int err = p2p__stream_writable(node, handle, &s);
    if (err < 0)
        return err;
    s->send.reserved_bytes = 0;
    if (s->kind == P2P__KIND_REQUEST)
        p2p__router_finished(node, s);
    p2p__send_finish(node, s);
    return P2P_OK;
}

P2P_DEF int p2p_stream_reset(p2p_node *node, p2p_stream handle, uint32_t code) {
    p2p__stream *s;
    int err = p2p__stream_for(node, handle, &s);
    if (err < 0)
        return err;
    p2p__stream_abort(node, s, code);
    return P2P_OK;
}

#ifndef P2P_NO_DATAGRAM
/* ---- datagrams */
static uint32_t p2p__datagram_limit(const p2p_node *node, const p2p__conn *conn) {
    const p2p__session *session = p2p__session_at(node, conn->session);
    uint32_t most = node->desc.max.datagrams_out ? node->desc.bytes.datagram_max : 0;
    uint32_t bytes =
        session ? session->cc.datagram_bytes : P2P__MIN(P2P__START_DATAGRAM, node->desc.link.mtu);
    uint32_t packet = bytes - p2p__packet_over(node) - 1u - 8u;
    if (conn->attached && session)
        packet = (uint32_t)P2P__MIN(
            packet, P2P__MIN(session->theirs.datagram_max, session->theirs.max_packet - 9));
    return P2P__MIN(most, packet);
}

P2P_DEF int p2p_datagram_max(const p2p_node *node, p2p_conn handle) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    return err < 0 ? err : (int)p2p__datagram_limit(node, conn);
}

P2P_DEF int p2p_datagram_send(p2p_node *node, p2p_conn handle, const void *data, size_t size) {
    p2p__conn *conn;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0)
        return err;
    if (conn->state >= P2P__CONN_FLUSHING)
        return p2p__fail(node, P2P_ERR_CLOSED, "conn: closing");
    if (!data && size)
        return p2p__fail(node, P2P_ERR_ARG, "data: NULL");
    if (size > p2p__datagram_limit(node, conn) || node->desc.max.datagrams_out == 0)
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "size: more than p2p_datagram_max", size,
                              p2p__datagram_limit(node, conn));
    p2p__datagram_push(node, conn, true, (const uint8_t *)data, size);
    p2p__wake(node, conn);
    return (int)size;
}

P2P_DEF int p2p_datagram_recv(p2p_node *node, p2p_conn handle, void *buffer, size_t capacity) {
    p2p__conn *conn;
    p2p__datagram *d;
    size_t size;
    int err = p2p__conn_for(node, handle, &conn);
    if (err < 0)
        return err;
    d = p2p__datagram_oldest(node, conn, false);
    if (!d)
        return conn->state == P2P__CONN_DOWN ? p2p__fail(node, P2P_ERR_CLOSED, "conn: closed")
                                             : P2P_ERR_AGAIN;
    size = d->size;
    if (size > capacity || (!buffer && size))
        return p2p__fail_size(node, P2P_ERR_TOO_LARGE, "capacity: less than the datagram", size,
                              capacity);
    if (size)
        P2P_MEMCPY(buffer, p2p__datagram_bytes(d), size);
    p2p__datagram_pop(node, conn, false);
    if (conn->datagrams[0].count == 0)
        p2p__ready_clear(node, p2p__conn_index(node, conn), P2P__EV_DATAGRAM);
    else
        p2p__raise_conn(node, conn, P2P__EV_DATAGRAM);
    return (int)size;
}
#endif

/* ---- tickets, environment, figures */

#ifndef P2P_NO_PARSE
/* Tickets in a row, separated by commas: how many, or < 0. */
static int p2p__tickets_parse(const char *text, p2p_ticket *out, uint32_t room) {
    char one[P2P_TICKET_TEXT_SIZE];
    uint32_t n = 0;
    while (*text) {
        size_t size = 0;
        while (text[size] && text[size] != ',')
            size++;
        if (n == room || size >= sizeof one)
            return P2P_ERR_LIMIT;
        P2P_MEMCPY(one, text, size);
        one[size] = 0;
        if (p2p_ticket_parse(one, &out[n]) < 0)
            return P2P_ERR_ARG;
        n++;
        text += size + (text[size] == ',');
    }
    return (int)n;
}

static int p2p__env_times(p2p_desc *desc, p2p_getenv_fn get, void *ctx, const char **bad_name) {
    static const char *const names[3] = {"P2P_CONNECT_TIMEOUT_MS", "P2P_IDLE_TIMEOUT_MS",
                                         "P2P_KEEPALIVE_MS"};
    uint64_t *fields[3], ms;
    uint32_t i;
    fields[0] = &desc->time.connect_us, fields[1] = &desc->time.idle_us,
    fields[2] = &desc->time.keepalive_us;
    for (i = 0; i < 3; i++) {
        const char *text = get(ctx, names[i]);
        if (!text)
            continue;
        *bad_name = names[i];
        if (p2p_str_u64(p2p_str_of(text), &ms) < 0 || ms == 0 || ms > UINT64_MAX / 1000)
            return P2P_ERR_CONFIG;
        *fields[i] = ms * 1000;
    }
    return P2P_OK;
}

/* The environment's share of a desc: P2P_NETWORK, P2P_SEED (64 hex digits), P2P_RELAYS and
 * P2P_BOOTSTRAP (tickets, separated by commas), P2P_CONNECT_TIMEOUT_MS, P2P_IDLE_TIMEOUT_MS,
 * P2P_KEEPALIVE_MS. What is unset stays as it is. */
P2P_DEF int p2p_desc_from_env(p2p_desc *desc, p2p_env *storage, p2p_getenv_fn get, void *ctx,
                              const char **bad_name) {
    const char *text, *ignored;
    int n;
    if (!desc || !storage || !get)
        return P2P_ERR_ARG;
    if (!bad_name)
        bad_name = &ignored;
    *bad_name = NULL;
    P2P_MEMSET(storage, 0, sizeof *storage);
    *bad_name = "P2P_NETWORK";
    if ((text = get(ctx, *bad_name)) != NULL) {
        size_t size = strlen(text);
        if (size < 1 || size > 64)
            return P2P_ERR_CONFIG;
        P2P_MEMCPY(storage->text, text, size);
        desc->network = storage->text;
    }
    *bad_name = "P2P_SEED";
    if ((text = get(ctx, *bad_name)) != NULL) {
        if (!desc->crypto.api || strlen(text) != 64 ||
            p2p__hex_get(text, storage->key.seed, 32) < 0 ||
            p2p_key_from_seed(&desc->crypto, storage->key.seed, &storage->key) < 0)
            return P2P_ERR_CONFIG;
        desc->key = &storage->key;
    }
    *bad_name = "P2P_RELAYS";
    if ((text = get(ctx, *bad_name)) != NULL) {
        if ((n = p2p__tickets_parse(text, storage->relays, 8)) < 0)
            return P2P_ERR_CONFIG;
        desc->relays = storage->relays;
        desc->relay_count = (uint32_t)n;
    }
    *bad_name = "P2P_BOOTSTRAP";
    if ((text = get(ctx, *bad_name)) != NULL) {
        if ((n = p2p__tickets_parse(text, storage->bootstrap, 8)) < 0)
            return P2P_ERR_CONFIG;
        desc->bootstrap = storage->bootstrap;
        desc->bootstrap_count = (uint32_t)n;
    }
    n = p2p__env_times(desc, get, ctx, bad_name);
    if (n == P2P_OK)
        *bad_name = NULL;
    return n;
}
#endif

P2P_DEF int p2p_ticket_of(const p2p_node *node, p2p_ticket *out) {
    uint32_t i;
    if (!node || !out)
        return P2P_ERR_ARG;
    P2P_MEMSET(out, 0, sizeof *out);
    out->id = node->key.id;
    for (i = 0; i < node->desc.link.local_count && out->addr_count < P2P_TICKET_ADDRS; i++)
        if (node->desc.link.local[i].port)
            out->addrs[out->addr_count++] = node->desc.link.local[i];
    return P2P_OK;
}

/* Bytes of the arena that hold something now: what must be the same after every peer has gone. */
static uint64_t p2p__arena_used(const p2p_node *node) {
    const p2p_desc *d = &node->desc;
    uint64_t n = sizeof *node;
    n += (uint64_t)node->conns.used *
         (sizeof(p2p__conn) +
          (d->bytes.message_max ? sizeof(p2p__stream) + p2p__stream_rooms(d, 0).bytes : 0));
    n += (uint64_t)node->sessions.used * (sizeof(p2p__session) + node->slab_bytes);
    n += (uint64_t)node->listeners.used * sizeof(p2p__listener);
    n += (uint64_t)node->local_streams.used * (sizeof(p2p__stream) + p2p__stream_rooms(d, 1).bytes);
    n += (uint64_t)node->peer_streams.used * (sizeof(p2p__stream) + p2p__stream_rooms(d, 2).bytes);
    n += (uint64_t)node->flight.packets_used * sizeof(p2p__packet) +
         (uint64_t)node->flight.chunks_used * sizeof(p2p__chunk);
    n += ((uint64_t)node->datagrams[0].used + node->datagrams[1].used) * node->datagram_stride;
    return n + (uint64_t)node->discovery.queries.used * sizeof(p2p__query);
}

P2P_DEF void p2p_metrics_get(const p2p_node *node, p2p_metrics *out) {
    if (!node || !out)
        return;
    *out = node->metrics;
    out->value[P2P_METRIC_conns_open] = node->conns.used;
    out->value[P2P_METRIC_sessions_open] = node->sessions.used;
    out->value[P2P_METRIC_half_open] = (uint64_t)node->half_open[0] + node->half_open[1];
    out->value[P2P_METRIC_streams_open] =
        (uint64_t)node->local_streams.used + node->peer_streams.used;
    out->value[P2P_METRIC_in_flight] = node->flight.packets_used;
    out->value[P2P_METRIC_arena_bytes] = node->arena_size;
    out->value[P2P_METRIC_arena_used_bytes] = p2p__arena_used(node);
}

#ifndef P2P_NO_WORDS
/* One metric: "# TYPE p2p_name kind" and "p2p_name value". */
static void p2p__metric_lines(p2p__writer *w, const char *name, const char *kind, uint64_t value) {
    p2p__put_text(w, "# TYPE p2p_");
    p2p__put_text(w, name);
    p2p__put_text(w, kind);
    p2p__put_text(w, name);
    p2p__put_u8(w, ' ');
    p2p__put_number(w, value);
    p2p__put_u8(w, '\n');
}

P2P_DEF int p2p_metrics_text(const p2p_node *node, char *out, size_t size) {
#define P2P__X(name, kind, help) #name "\0"
    static const char names[] = P2P_METRICS(P2P__X);
#undef P2P__X
    p2p__writer w = p2p__writer_of(out, size ? size - 1 : 0);
    p2p_metrics m;
    const char *name = names;
    if (!node || !out || size == 0)
        return P2P_ERR_ARG;
    p2p_metrics_get(node, &m);
    for (uint32_t i = 0; i < P2P_METRIC_COUNT; i++, name = p2p__nth_text(name, 1))
        p2p__metric_lines(&w, name, i < P2P_METRIC_conns_open ? " counter\np2p_" : " gauge\np2p_",
                          m.value[i]);
    return w.bad ? p2p__fail(node, P2P_ERR_TOO_LARGE, "size: too small for the metrics")
                 : p2p__text_end(&w, out);
}
#endif

/* ==== >>check ====
 * Every invariant of a node, walked: for tests and debug builds.
 * Always: it changes nothing; 0, or P2P_ERR_STATE with what does not add up in p2p_last_error.
 * Covered by every behaviour test, which calls it after each step. */
#ifndef P2P_NO_CHECK
static const char *p2p__check_stream(const p2p_node *node, const p2p__stream *s) {
    const p2p__recv *r = &s->recv;
    uint64_t at = s->send.acked;
    uint16_t chunk, lost = 0;
    uint32_t i;
    for (chunk = s->send.chunk_first; chunk != P2P__NIL; chunk = node->flight.chunks[chunk].next) {
        const p2p__chunk *c = &node->flight.chunks[chunk];
        if (c->offset != at || c->what != P2P__CHUNK_DATA || c->state == P2P__CHUNK_FREE ||
            c->stream != p2p__stream_index(node, s))
            return "stream: chunks leave a gap";
        at += c->size;
        lost = (uint16_t)(lost + (c->state == P2P__CHUNK_LOST));
    }
    if (s->send.chunk_first != P2P__NIL && at != s->send.sent)
        return "stream: chunks end early";
    if (lost != s->send.lost)
        return "stream: lost chunks";
    if (s->send.acked > s->send.sent || s->send.sent > s->send.end)
        return "stream: acked, sent, end";
    if (p2p__send_used(&s->send) > s->send.room)
        return "stream: send ring overfull";
    if (r->read > r->here || r->here > r->high || (p2p__recv_counts(r) && r->high > r->limit) ||
        r->high > r->read + r->room)
        return "stream: read, here, high, limit";
    for (i = 0; i < r->runs; i++)
        if (p2p__run_at(r, r->run[i].first) <= (i ? p2p__run_at(r, r->run[i - 1].end) : r->here) ||
            p2p__run_at(r, r->run[i].end) <= p2p__run_at(r, r->run[i].first))
            return "stream: runs";
    return NULL;
}

static const char *p2p__check_session(const p2p_node *node, const p2p__session *s) {
    uint64_t bytes = 0, before = 0;
    uint32_t n = 0;
    uint16_t at;
    for (at = s->packet_first; at != P2P__NIL; at = node->flight.packets[at].next) {
        const p2p__packet *packet = &node->flight.packets[at];
        if (n++ && packet->number <= before)
            return "session: packet order";
        before = packet->number;
        bytes += packet->bytes;
    }
    if (n != s->packet_used || bytes != s->in_flight_bytes)
        return "session: bytes in flight";
    if (s->conn != P2P__NIL && p2p__conn_at(node, s->conn)->session != p2p__session_index(node, s))
        return "session: connection";
    return NULL;
}

static const char *p2p__check_conn(const p2p_node *node, const p2p__conn *conn) {
    uint64_t high = 0;
    uint32_t peers = 0;
    uint16_t at;
    if (conn->session != P2P__NIL &&
        p2p__session_at(node, conn->session)->conn != p2p__conn_index(node, conn))
        return "connection: session";
    for (at = conn->stream_first; at != P2P__NIL; at = node->streams[at].conn_next) {
        const char *wrong = p2p__check_stream(node, &node->streams[at]);
        if (wrong)
            return wrong;
        if (node->streams[at].conn != p2p__conn_index(node, conn))
            return "connection: streams";
        if (p2p__stream_past(&node->streams[at]) && node->streams[at].sending)
            return "stream: past";
        high += node->streams[at].recv.high -
                P2P__MIN(node->streams[at].recv.high, node->streams[at].recv.base);
        peers += !node->streams[at].local;
    }
    if (peers != conn->peer_streams)
        return "connection: the count of the peer's streams is wrong";
    if (conn->attached && (conn->recv_taken > conn->recv_total ||
                           conn->recv_total > conn->recv_limit || high > conn->recv_total))
        return "connection: bytes received";
    if (conn->attached && conn->send_total > conn->send_limit)
        return "connection: bytes sent";
    return NULL;
}

static const char *p2p__check_lists(const p2p_node *node) {
    uint32_t ref, n = 0, handlers = 0, i;
    for (ref = node->ready_first; ref != P2P__REF_NONE; ref = p2p__ready_of(node, ref)->next) {
        const p2p__ready *r = p2p__ready_of(node, ref);
        if (!r->listed || !r->flags || ++n > node->stream_total + node->conns.count)
            return "ready list: entries";
        handlers += (r->flags & P2P__EV_HANDLER) != 0;
    }
    if (handlers != node->handler_ready)
        return "ready list: handlers";
    for (i = 1; i < node->heap.count; i++)
        if (p2p__heap_us(node, i) < p2p__heap_us(node, (i - 1) / 2))
            return "heap: out of order";
    return NULL;
}

static const char *p2p__check_datagrams(const p2p_node *node, int out) {
    const p2p__conn *conn = NULL;
    uint32_t used = 0, owners = 0, left;
    uint16_t at;
    while ((conn = (const p2p__conn *)p2p__pool_next(&node->conns, conn)) != NULL) {
        const p2p__queue *q = &conn->datagrams[out];
        for (at = q->first, left = q->count; left > 1; left--)
            at = p2p__datagram_at(node, out != 0, at)->next;
        if (q->count && at != q->last)
            return "datagrams: a queue does not end where it should";
        used += q->count;
        owners += q->count > 0;
    }
    return used == node->datagrams[out].used && owners == node->datagrams[out].owners
               ? NULL
               : "datagrams: queues do not add up";
}

static const char *p2p__check_counts(const p2p_node *node) {
    uint64_t granted = 0, packets = 0, shared = 0;
    uint32_t kind, half_open[2] = {0, 0}, waiting = 0;
    for (const p2p__session *s = NULL; (s = p2p__session_next(node, s)) != NULL;) {
        half_open[s->server] += s->state < P2P__SESSION_OPEN;
        packets += s->packet_used;
        shared += s->packet_used > node->flight.quota ? s->packet_used - node->flight.quota : 0;
        for (kind = 0; kind < P2P__KINDS && s->holds_grant; kind++)
            granted += s->mine.max_streams[kind];
    }
    for (const p2p__conn *conn = NULL; (conn = p2p__conn_next(node, conn)) != NULL;) {
        waiting += conn->state == P2P__CONN_WAITING;
        granted += p2p__conn_promised(conn);
    }
    granted += node->peer_streams.used;
    if (granted != node->granted || granted > node->desc.max.peer_streams)
        return "node: streams granted";
    if (packets != node->flight.packets_used || shared != node->flight.shared_used)
        return "node: packets";
    if (half_open[0] != node->half_open[0] || half_open[1] != node->half_open[1] ||
        waiting != node->waiting_dials)
        return "node: half-open sessions, dials";
    return NULL;
}

P2P_DEF int p2p_check(const p2p_node *node) {
    const char *wrong;
    uint32_t i;
    if (!node || node->magic != P2P__MAGIC)
        return P2P_ERR_ARG;
    wrong = p2p__check_lists(node);
    if (!wrong)
        wrong = p2p__check_counts(node);
    for (i = 0; i < 2 && !wrong; i++)
        wrong = p2p__check_datagrams(node, (int)i);
    for (i = 0; i < node->sessions.count && !wrong; i++)
        if (p2p__slot_live(p2p__session_at(node, i)))
            wrong = p2p__check_session(node, p2p__session_at(node, i));
    for (i = 0; i < node->conns.count && !wrong; i++)
        if (p2p__slot_live(p2p__conn_at(node, i)))
            wrong = p2p__check_conn(node, p2p__conn_at(node, i));
    return wrong ? p2p__fail(node, P2P_ERR_STATE, wrong) : P2P_OK;
}
#endif

/* ==== >>license ====
 * MIT No Attribution
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software
 * and associated documentation
 * files (the "Software"), to deal in the Software without restriction, including without
 * limitation the rights to use, copy,
 * modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to
 * permit persons to whom the
 * Software is furnished to do so.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING
 * BUT NOT LIMITED TO THE
 * WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO
 * EVENT SHALL THE AUTHORS OR
 * COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
 * CONTRACT, TORT OR OTHERWISE,
 * ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 * SOFTWARE. */
#endif /* P2P_IMPLEMENTATION */
