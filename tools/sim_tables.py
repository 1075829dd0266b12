#!/usr/bin/env python3
"""The two tables of p2p_sim.h from which jitter is drawn, in its room >>jitter.

    tools/sim_tables.py            prints them as they stand there

A table holds the inverse of a tail: how far out the value lies that is exceeded with probability p.
It has 16 octaves of p, from 1 down to 2^-16, and 8 equal steps in each, so that the tail is as fine
as the middle; entries are in units of 2^-16, rounded. Between two entries the simulator interpolates.

    normal   |z| of the standard normal distribution, both tails together
    Pareto   of the second kind (Lomax), shape 3, scale 2, so that its mean is 1: 2 (p^(-1/3) - 1)"""
from statistics import NormalDist

OCTAVES, STEPS, ONE = 16, 8, 1 << 16


def tails():
    for octave in range(OCTAVES):
        for step in range(STEPS):
            yield (1 - step / (2 * STEPS)) / 2**octave
    yield 1 / 2**OCTAVES


def normal(p):
    return NormalDist().inv_cdf(1 - p / 2)


def pareto(p):
    return 2 * (p ** (-1 / 3) - 1)


def table(inverse):
    return [round(ONE * inverse(p)) for p in tails()]


def source(name, values):
    lines = [f"static const uint32_t p2p_sim__{name}[P2P_SIM__TAIL] = {{"]
    line = "   "
    for i, value in enumerate(values):
        word = f" {value}" + ("," if i + 1 < len(values) else "")
        if len(line) + len(word) > (100 if i + 1 < len(values) else 98):
            lines.append(line)
            line = "   "
        line += word
    return "\n".join(lines + [line + "};"])


if __name__ == "__main__":
    print(source("normal", table(normal)))
    print(source("pareto", table(pareto)))
