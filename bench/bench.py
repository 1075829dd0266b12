#!/usr/bin/env python3
"""Runs the programs of the bench, takes medians, prints a table with the bars, writes build/bench.json.

    bench/bench.py [MODE...]        modes are listed by --list; none: all

BUILD: where the programs lie (build). RUNS: turns (5); in each every mode runs once, so that a busy minute
does not hit one figure alone and ratios come from one turn. BENCH_SHRINK=10: ten times shorter transfers,
to see that all works. One object is written; a row a name: {"value", "unit", "runs", "min", "max"}; value
is the median of the runs. Bars are reported, nothing is asserted.
"""
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import size  # noqa: E402  (which builds there are, and how make size compiles them)

# ---- what is run -----------------------------------------------------------------------------

DELAY_US, RATE_MBIT, QUEUE_BYTES = 25000, 100, 625000


class Mode:
    """One run: program, mode, name of its rows. loss: of the emulated link, in percent; None: loopback."""

    def __init__(self, name, command, rows, loss=None, once=False):
        self.name, self.command, self.rows, self.loss, self.once = name, command.split(), rows.split(), loss, once

    def argv(self, build, turn):
        programs = os.path.join(build, "bench")
        command = [os.path.join(programs, self.command[0]), *self.command[1:]]
        if self.loss is None:
            return command
        return [os.path.join(programs, "linkem"), str(DELAY_US), str(self.loss * 10000), str(RATE_MBIT),
                str(QUEUE_BYTES), str(turn + 1), *command]


def bulk(name):
    return f"{name}_mbit {name}_cpu_s_per_gib"


def through_link(loss):
    names = {"p2p": f"goodput_{loss}_mbit", "tcp_bbr": f"tcp_bbr_{loss}_mbit", "tcp_cubic": f"tcp_cubic_{loss}_mbit"}
    return [Mode(row[:-5], f"link {mode} {row}", row, loss) for mode, row in names.items()]


# Modes of a group run at the same time: those on links, each on a link of its own, take little CPU and
# much time. What is compared stands together.
GROUPS = [
    [Mode("connect", "bench connect", "connect_us")],
    [Mode("rtt", "bench rtt", "rtt_us rtt_p99_us")],
    [Mode("raw_rtt", "raw raw_rtt", "raw_udp_rtt_us raw_udp_rtt_p99_us")],
    [Mode("bulk", "bench bulk", bulk("bulk") + " bulk_datagram_bytes")],
    [Mode("raw_dtls", "raw raw_dtls", bulk("raw_dtls"))],
    [Mode("tunnel", "tls tunnel", bulk("tunnel") + " tunnel_rtt_us")],
    [Mode("tls_tcp", "tls tls_tcp", bulk("tls_tcp") + " tls_tcp_rtt_us")],
    [Mode("bulk_1400", "bench bulk_1400", bulk("bulk_1400") + " bulk_1400_datagram_bytes")],
    [Mode("raw_dtls_1400", "raw raw_dtls_1400", bulk("raw_dtls_1400"))],
    [Mode("raw_udp", "raw raw_udp", bulk("raw_udp"))],
    [Mode("raw_udp_gso", "raw raw_udp_gso", bulk("raw_udp_gso"))],
    [Mode("messages", "bench messages", "messages_per_s")],
    [Mode("datagrams", "bench datagrams", "datagrams_per_s datagrams_arrived")],
    [Mode("wire_bytes_64", "bench wire_bytes_64", "wire_bytes_64")],
    [Mode("allocations", "bench allocations", "allocations allocations_reconnect")],
    [Mode("sim_1k", "sim ring_1k sim_deliveries_1k", "sim_deliveries_1k_per_s sim_deliveries_1k_udp_per_s")],
    [Mode("sim_100k", "sim ring_100k sim_deliveries_100k",
          "sim_deliveries_100k_per_s sim_deliveries_100k_udp_per_s "
          "sim_deliveries_100k_open_s sim_deliveries_100k_node_bytes", once=True)],
    [Mode("sim_audio", "sim audio sim_audio", "sim_audio_x")],
    [Mode("sim_audio_dtls", "sim audio_dtls sim_audio_dtls", "sim_audio_dtls_x")],
    [Mode("held", "bench held", "conns_held conns_held_bytes", once=True)],
    [Mode("arena", "arena_small arena arena_conn", "arena_conn_bytes arena_conn_messages_bytes", once=True)],
    [Mode("arena_desktop", "arena arena arena_conn_desktop",
          "arena_conn_desktop_bytes arena_conn_desktop_messages_bytes", once=True)],
    [Mode("connect_50ms", "link connect connect_50ms", "connect_50ms_us connect_50ms_first_data_us", 0),
     Mode("connect_50ms_retry", "link_retry connect connect_50ms_retry",
          "connect_50ms_retry_us connect_50ms_retry_first_data_us", 0)],
    [Mode("connect_50ms_loss5", "link connect_lossy connect_50ms_loss5_p99_us", "connect_50ms_loss5_p99_us", 5)],
    through_link(0), through_link(1), through_link(5),
    [Mode("share_self", "link share_self", "share_self", 0),
     Mode("share_cubic", "link share_cubic", "share_cubic", 0)],
]
MODES = [mode for group in GROUPS for mode in group]

NOTES = {
    "connect_us": "dial to CONNECTED, median of 31 dials a run",
    "rtt_us": "request with 64 B to RESPONSE with 64 B, median",
    "rtt_p99_us": "the same, 99 of 100 are faster",
    "raw_udp_rtt_us": "64 B, send and recv",
    "bulk_mbit": "one stream, 256 MiB",
    "bulk_cpu_s_per_gib": "all processes, as in the rows below",
    "bulk_datagram_bytes": "what path MTU discovery came to",
    "raw_dtls_mbit": "sealed records alone, of the same size",
    "tunnel_mbit": "TLS 1.3 to a relay process, TLS 1.3 on; ChaCha20-Poly1305",
    "tls_tcp_mbit": "TLS 1.3 over TCP, ChaCha20-Poly1305, OpenSSL",
    "bulk_1400_mbit": "held to datagrams of 1400 B",
    "raw_udp_mbit": "datagrams of 1232 B, sendmmsg and recvmmsg",
    "raw_udp_gso_mbit": "datagrams as in bulk, UDP_SEGMENT and UDP_GRO",
    "messages_per_s": "64 B, one way",
    "datagrams_per_s": "64 B, delivered",
    "datagrams_arrived": "of those that were sent",
    "wire_bytes_64": "a 64 B message after 20,000, with IPv4 and UDP",
    "allocations": "calls of malloc's family between open and close, both ends",
    "allocations_reconnect": "the same, 3 reconnects among them",
    "sim_deliveries_1k_per_s": "1,000 nodes, p2p datagrams of 64 B that programs received, one in each UDP datagram",
    "sim_deliveries_1k_udp_per_s": "the same run, UDP datagrams delivered: acknowledgements too",
    "sim_deliveries_100k_per_s": "the same with 100,000 nodes",
    "sim_deliveries_100k_udp_per_s": "the same run, UDP datagrams delivered: acknowledgements too",
    "sim_deliveries_100k_open_s": "to open them all",
    "sim_deliveries_100k_node_bytes": "arena a node, its share of the network's tables included",
    "sim_audio_x": "virtual over real time: 1,411 kbit/s on one stream, null channel",
    "sim_audio_dtls_x": "the same with DTLS and Ed25519",
    "conns_held": "idle connections of one node, each proved by a message",
    "conns_held_bytes": "resident memory of the listening process, a connection",
    "arena_conn_bytes": "one more connection, smallest windows, records of 1280 B",
    "arena_conn_messages_bytes": "the same, message buffers at their default",
    "arena_conn_desktop_bytes": "as arena_conn_bytes, records as in the desktop build",
    "connect_50ms_us": "dial to CONNECTED, 50 ms round trip",
    "connect_50ms_first_data_us": "dial to the first data that leaves",
    "connect_50ms_retry_us": "the same from a node that asks for a cookie",
    "connect_50ms_loss5_p99_us": "5 % loss each way, 99 of 100 are faster (1,920 dials a run)",
    "goodput_0_mbit": "50 ms, 100 Mbit/s, 625,000 B queue, from the first write for 10 s",
    "goodput_1_mbit": "the same, 1 % loss each way",
    "goodput_5_mbit": "the same, 5 % loss each way",
    "share_self": "two flows of p2p.h, share of the first",
    "share_cubic": "p2p.h's share beside kernel TCP CUBIC",
    "text_x64_bytes": "p2p.h alone, -Os",
    "text_m4_bytes": "p2p.h alone, -Os, Cortex-M4 Thumb",
    "text_m4_min_bytes": "the same without any room that can be left out",
}

ROUND_TRIP_US = 2 * DELAY_US
# name, words, and for each turn whose figures are v(row): the figure, and the bar it is held against.
# "least" and "most" say which side is good.
BARS = [
    ("goodput, no loss", "least", lambda v: v("goodput_0_mbit"), 90),
    ("goodput, 1 % loss", "least", lambda v: v("goodput_1_mbit"), 90),
    ("goodput, 5 % loss", "least", lambda v: v("goodput_5_mbit"), 80),
    ("goodput / kernel BBR, no loss", "least", lambda v: v("goodput_0_mbit") / v("tcp_bbr_0_mbit"), 0.97),
    ("goodput / kernel BBR, 1 % loss", "least", lambda v: v("goodput_1_mbit") / v("tcp_bbr_1_mbit"), 0.97),
    ("goodput / kernel BBR, 5 % loss", "least", lambda v: v("goodput_5_mbit") / v("tcp_bbr_5_mbit"), 0.92),
    ("bulk / raw DTLS", "least", lambda v: v("bulk_mbit") / v("raw_dtls_mbit"), 0.8),
    ("bulk / raw DTLS, CPU", "most", lambda v: v("bulk_cpu_s_per_gib") / v("raw_dtls_cpu_s_per_gib"), 1.2),
    ("bulk / tunnel", "least", lambda v: v("bulk_mbit") / v("tunnel_mbit"), 1),
    ("bulk / raw DTLS, 1400 B", "least", lambda v: v("bulk_1400_mbit") / v("raw_dtls_1400_mbit"), 0.75),
    ("round trip / raw UDP", "most", lambda v: v("rtt_us") / v("raw_udp_rtt_us"), 3),
    ("p99 / larger of 3 x median, 2 x raw UDP's", "most",
     lambda v: v("rtt_p99_us") / max(3 * v("rtt_us"), 2 * v("raw_udp_rtt_p99_us")), 1),
    ("datagrams a second", "least", lambda v: v("datagrams_per_s"), 1.5e6),
    ("first data, round trips", "most", lambda v: v("connect_50ms_first_data_us") / ROUND_TRIP_US, 2.1),
    ("CONNECTED, round trips", "most", lambda v: v("connect_50ms_us") / ROUND_TRIP_US, 3.1),
    ("first data after RETRY, round trips", "most",
     lambda v: v("connect_50ms_retry_first_data_us") / ROUND_TRIP_US, 3.1),
    ("CONNECTED after RETRY, round trips", "most", lambda v: v("connect_50ms_retry_us") / ROUND_TRIP_US, 4.1),
    ("CONNECTED, 5 % loss, p99, us", "most", lambda v: v("connect_50ms_loss5_p99_us"), 600e3),
    ("wire bytes of a 64 B message", "most", lambda v: v("wire_bytes_64"), 144),
    ("allocations", "most", lambda v: v("allocations"), 0),
    ("allocations, reconnects", "most", lambda v: v("allocations_reconnect"), 0),
    ("arena a connection", "most", lambda v: v("arena_conn_bytes"), 10240),
    ("simulator, 1,000 nodes, deliveries / s", "least", lambda v: v("sim_deliveries_1k_per_s"), 1e6),
    ("simulator, 100,000 nodes, deliveries / s", "least", lambda v: v("sim_deliveries_100k_per_s"), 3e5),
    ("simulator, audio, x real time", "least", lambda v: v("sim_audio_x"), 1000),
    ("simulator, audio by DTLS, x real time", "least", lambda v: v("sim_audio_dtls_x"), 150),
    ("text, Cortex-M4", "most", lambda v: v("text_m4_bytes"), 40960),
    ("text, Cortex-M4, smallest", "most", lambda v: v("text_m4_min_bytes"), 24576),
]


# ---- running it ------------------------------------------------------------------------------

class Figures:
    """Per row the unit and, by turn, what was measured; and why other rows have none."""

    def __init__(self):
        self.rows, self.skipped = {}, {}

    def add(self, turn, name, unit, value):
        self.rows.setdefault(name, (unit, {}))[1][turn] = value

    def skip(self, name, why):
        self.skipped.setdefault(name, why)

    def parse(self, turn, mode, text):
        for line in text.splitlines():
            if line.startswith("skip "):
                _, prefix, why = line.split(" ", 2)
                for name in mode.rows:
                    if name == prefix or name.startswith(prefix + "_"):
                        self.skip(name, why)
            else:
                name, unit, value = line.split()
                self.add(turn, name, unit, float(value))

    def ratios(self, bar):
        """The bar's figure in every turn that has all its rows; a row measured once serves every turn."""
        turns = sorted({turn for _, values in self.rows.values() for turn in values})

        def value(turn, name):
            values = self.rows[name][1]
            return values[turn] if turn in values else values[0]

        found = []
        for turn in turns:
            try:
                found.append(bar(lambda name, turn=turn: value(turn, name)))
            except KeyError:
                pass
        return found


def link_missing():
    """Why no link can be emulated here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    return None


def run_group(group, figures, build, turn):
    missing = link_missing()
    started = []
    try:
        for mode in group:
            if mode.loss is not None and missing:
                for name in mode.rows:
                    figures.skip(name, missing)
                continue
            environment = dict(os.environ)
            if "bulk_datagram_bytes" in figures.rows:
                latest = list(figures.rows["bulk_datagram_bytes"][1].values())[-1]
                environment["BENCH_DATAGRAM"] = str(int(latest))
            started.append((mode, subprocess.Popen(mode.argv(build, turn), stdout=subprocess.PIPE, env=environment)))
        for mode, process in started:
            text = process.communicate(timeout=120)[0].decode()
            if process.returncode != 0:
                raise SystemExit(f"bench: '{' '.join(process.args)}' failed with code {process.returncode}")
            figures.parse(turn, mode, text)
    finally:
        for _, process in started:  # all that a program started dies with it
            if process.poll() is None:
                process.kill()
                process.wait()


def run(modes, build, runs):
    figures = Figures()
    for turn in range(runs):
        for group in GROUPS:
            group = [mode for mode in group if mode.name in modes and not (mode.once and turn > 0)]
            if group and sys.stderr.isatty():
                names = " ".join(mode.name for mode in group)
                print(f"\rrun {turn + 1} of {runs}: {names:<64}", end="", file=sys.stderr, flush=True)
            run_group(group, figures, build, turn)
    if sys.stderr.isatty():
        print("\r" + " " * 80 + "\r", end="", file=sys.stderr)
    return figures


def measure_texts(figures):
    """Bytes of code and constants of the implementation compiled alone."""
    smallest = size.rooms_left_out("p2p.h")[-1]
    for name, prefix, flags in [("text_x64_bytes", "", ["-std=c99", "-Os", "-DP2P_IMPLEMENTATION"]),
                                ("text_m4_bytes", size.ARM, size.FLAGS),
                                ("text_m4_min_bytes", size.ARM, size.FLAGS + smallest)]:
        if not shutil.which(prefix + "gcc") or not shutil.which(prefix + "size"):
            figures.skip(name, f"no {prefix}gcc here")
            continue
        with tempfile.TemporaryDirectory() as work:
            target = os.path.join(work, "p2p.o")
            subprocess.run([prefix + "gcc", *flags, "-x", "c", "-c", "p2p.h", "-o", target], check=True)
            table = subprocess.run([prefix + "size", target], stdout=subprocess.PIPE, check=True).stdout.decode()
            figures.add(0, name, "B", float(table.splitlines()[1].split()[0]))


# ---- telling it ------------------------------------------------------------------------------

def summary(values):
    digits = 3 if max(values) < 100 else 0
    return {"value": round(statistics.median(values), digits), "runs": len(values),
            "min": round(min(values), digits), "max": round(max(values), digits)}


def short(value):
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def print_rows(rows, figures):
    print(f"{'':34}{'median':>12}{'min':>12}{'max':>12}")
    for name, r in rows.items():
        print(f"{name:34}" + "".join(f"{short(r[k]):>12}" for k in ("value", "min", "max")) +
              f"  {r['unit']:7} {NOTES.get(name, '')}".rstrip())
    for name, why in figures.skipped.items():
        if name not in rows:
            print(f"{name:34}{'skipped: ' + why}")


def print_bars(figures):
    print(f"\n{'bar':44}{'median':>12}{'':>4}{'wanted':>12}")
    for words, side, figure, wanted in BARS:
        values = figures.ratios(figure)
        if not values:
            print(f"{words:44}{'-':>12}{'':4}{short(wanted):>12}  not measured")
            continue
        value = statistics.median(values)
        holds = value >= wanted if side == "least" else value <= wanted
        sign = ">=" if side == "least" else "<="
        print(f"{words:44}{short(value):>12}{sign:>4}{short(wanted):>12}  {'holds' if holds else 'MISSED'}")


def plot(path):
    """By the first Python that has matplotlib: the one that a package of the system serves may be another."""
    script = os.path.join("bench", "plot.py")
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, script, path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
    print("no plot: it wants matplotlib (apt-get install python3-matplotlib)", file=sys.stderr)


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that every finally runs
    build, runs = os.environ.get("BUILD", "build"), max(1, int(os.environ.get("RUNS", "5")))
    names = [mode.name for mode in MODES] + ["text"]
    if sys.argv[1:] == ["--list"]:
        print(*names)
        return
    wanted = sys.argv[1:] or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise SystemExit(f"bench: no such mode: {unknown[0]}. There are: {' '.join(names)}")
    start = time.monotonic()
    figures = run(wanted, build, runs)
    if "text" in wanted:
        measure_texts(figures)
    rows = {name: {"unit": unit, **summary(list(values.values()))} for name, (unit, values) in figures.rows.items()}
    path = os.path.join(build, "bench.json")
    with open(path, "w", encoding="ascii") as out:
        json.dump(rows, out, indent=1)
        out.write("\n")
    print_rows(rows, figures)
    if not sys.argv[1:]:
        print_bars(figures)
        plot(path)
    print(f"\n{time.monotonic() - start:.0f} s; {path}")


if __name__ == "__main__":
    main()
