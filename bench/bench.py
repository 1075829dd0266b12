#!/usr/bin/env python3
"""Runs build/bench/bench, takes medians, prints a table, writes build/bench.json.

    bench/bench.py [MODE...]        BUILD: where the programs lie (build); RUNS: runs of each (5)

One object; a row a name: {"value", "unit", "runs", "min", "max"}; value is the median of the runs.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

MODES = ["connect", "rtt", "bulk", "messages", "raw_rtt", "raw_udp", "raw_dtls", "sim", "arena"]
NOTES = {
    "connect_us": "dial to CONNECTED, median of 31 dials a run",
    "rtt_us": "request with 64 B to RESPONSE with 64 B, median",
    "rtt_p99_us": "the same, 99 of 100 are faster",
    "bulk_mbit": "one stream, 256 MiB",
    "bulk_cpu_s_per_gib": "both ends",
    "messages_per_s": "64 B, one way",
    "raw_udp_rtt_us": "64 B, send and recv",
    "raw_udp_mbit": "datagrams of 1232 B, sendmmsg and recvmmsg",
    "raw_udp_cpu_s_per_gib": "both ends",
    "raw_dtls_mbit": "the same datagrams, each a sealed record",
    "raw_dtls_cpu_s_per_gib": "both ends",
    "sim_deliveries_per_s": "null channel, datagrams delivered a second of real time",
    "arena_conn_bytes": "one more connection, without message buffers",
    "arena_conn_messages_bytes": "one more connection, message buffers at their default",
    "text_x64_bytes": "p2p.h alone, -Os",
    "text_m4_bytes": "p2p.h alone, -Os, Cortex-M4 Thumb",
}


def run(program, mode):
    done = subprocess.run([program, mode], stdout=subprocess.PIPE, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: '{program} {mode}' failed with code {done.returncode}")
    for line in done.stdout.decode().splitlines():
        name, unit, value = line.split()
        yield name, unit, float(value)


def text_bytes(compiler, size, flags):
    """Bytes of code and constants of the implementation compiled alone; None: no such compiler."""
    if not shutil.which(compiler) or not shutil.which(size):
        return None
    with tempfile.TemporaryDirectory() as work:
        source, target = os.path.join(work, "p2p.c"), os.path.join(work, "p2p.o")
        with open(source, "w", encoding="ascii") as out:
            out.write('#define P2P_IMPLEMENTATION\n#include "p2p.h"\n')
        subprocess.run([compiler, "-std=c99", "-Os", "-I.", *flags, "-c", source, "-o", target], check=True)
        table = subprocess.run([size, target], stdout=subprocess.PIPE, check=True).stdout.decode()
        return float(table.splitlines()[1].split()[0])


def row(unit, values):
    digits = 3 if max(values) < 100 else 0
    value = round(statistics.median(values), digits)
    return {"value": value, "unit": unit, "runs": len(values),
            "min": round(min(values), digits), "max": round(max(values), digits)}


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    build = os.environ.get("BUILD", "build")
    runs = max(1, int(os.environ.get("RUNS", "5")))
    modes = sys.argv[1:] or MODES
    found = {}
    for turn in range(runs):  # in turns, so that a busy minute does not hit one figure alone
        for mode in modes:
            if sys.stderr.isatty():
                print(f"\rrun {turn + 1} of {runs}: {mode:<10}", end="", file=sys.stderr, flush=True)
            for name, unit, value in run(os.path.join(build, "bench", "bench"), mode):
                found.setdefault(name, (unit, []))[1].append(value)
    if sys.stderr.isatty():
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    rows = {name: row(unit, values) for name, (unit, values) in found.items()}
    for name, compiler, size, flags in [
            ("text_x64_bytes", "cc", "size", []),
            ("text_m4_bytes", "arm-none-eabi-gcc", "arm-none-eabi-size",
             ["-mcpu=cortex-m4", "-mthumb", "-ffreestanding"])]:
        value = text_bytes(compiler, size, flags)
        if value is None:
            print(f"bench: no {compiler} here, so {name} is left out", file=sys.stderr)
        else:
            rows[name] = row("B", [value])
    with open(os.path.join(build, "bench.json"), "w", encoding="ascii") as out:
        json.dump(rows, out, indent=1)
        out.write("\n")
    print(f"{'':26}{'median':>12}{'min':>12}{'max':>12}")
    for name, r in rows.items():
        figures = "".join(f"{r[k]:>12g}" if r[k] < 1e6 else f"{r[k]:>12.0f}" for k in ("value", "min", "max"))
        print(f"{name:26}{figures}  {r['unit']:7} {NOTES.get(name, '')}")


if __name__ == "__main__":
    main()
