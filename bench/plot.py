#!/usr/bin/env python3
"""Draws build/bench.json as build/bench.svg, by matplotlib.

    bench/plot.py build/bench.json
"""
import json
import os
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of what draws)

OURS, OTHERS = "#1f6f8b", "#b9c4c9"
# Title, unit, rows with their labels. Those that were not measured are left out.
PANELS = [
    ("Goodput, 50 ms, 100 Mbit/s", "Mbit/s", [
        (f"{row}_{loss}_mbit", f"{label}, {loss} % loss")
        for loss in (0, 1, 5) for row, label in (("goodput", "p2p.h"), ("tcp_bbr", "TCP BBR"), ("tcp_cubic", "TCP CUBIC"))]),
    ("Bulk over loopback", "Mbit/s", [
        ("bulk_mbit", "p2p.h"), ("raw_dtls_mbit", "DTLS records alone"), ("tunnel_mbit", "TLS tunnel"),
        ("tls_tcp_mbit", "TLS over TCP"), ("bulk_1400_mbit", "p2p.h, 1400 B"),
        ("raw_dtls_1400_mbit", "DTLS records, 1400 B"), ("raw_udp_mbit", "UDP, sendmmsg")]),
    ("CPU, all processes", "s/GiB", [
        ("bulk_cpu_s_per_gib", "p2p.h"), ("raw_dtls_cpu_s_per_gib", "DTLS records alone"),
        ("tunnel_cpu_s_per_gib", "TLS tunnel"), ("tls_tcp_cpu_s_per_gib", "TLS over TCP"),
        ("bulk_1400_cpu_s_per_gib", "p2p.h, 1400 B")]),
    ("64 B there and back, loopback", "µs", [
        ("rtt_us", "p2p.h"), ("rtt_p99_us", "p2p.h, p99"), ("raw_udp_rtt_us", "UDP"),
        ("raw_udp_rtt_p99_us", "UDP, p99"), ("tls_tcp_rtt_us", "TLS over TCP"), ("tunnel_rtt_us", "TLS tunnel")]),
]


def draw(axes, title, unit, bars):
    labels = [label for label, _ in bars]
    values = [row["value"] for _, row in bars]
    spread = [[row["value"] - row["min"] for _, row in bars], [row["max"] - row["value"] for _, row in bars]]
    colors = [OURS if label.startswith("p2p.h") else OTHERS for label in labels]
    axes.barh(labels, values, color=colors, xerr=spread, error_kw={"elinewidth": 0.8, "capsize": 2})
    for at, value in enumerate(values):
        axes.text(value, at, f" {value:.4g}", va="bottom", fontsize=7)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(unit, fontsize=8)
    if max(values) > 100 * min(values):
        axes.set_xscale("log")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main():
    path = sys.argv[1]
    with open(path, encoding="ascii") as source:
        rows = json.load(source)
    figure, grid = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
    for axes, (title, unit, names) in zip(grid.flat, PANELS):
        bars = [(label, rows[name]) for name, label in names if name in rows]
        if bars:
            draw(axes, title, unit, bars)
        else:
            axes.set_title(title + ": not measured", loc="left", fontsize=10)
            axes.axis("off")
    figure.savefig(os.path.splitext(path)[0] + ".svg")


if __name__ == "__main__":
    main()
