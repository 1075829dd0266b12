#!/usr/bin/env python3
"""The tables of p2p_sim.h from which jitter is drawn are those that tools/sim_tables.py makes."""
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
sys.dont_write_bytecode = True
import sim_tables  # noqa: E402


def main():
    with open(os.path.join(ROOT, "p2p_sim.h"), encoding="utf-8") as f:
        header = f.read()
    failed = 0
    for name, inverse in (("normal", sim_tables.normal), ("pareto", sim_tables.pareto)):
        found = re.search(rf"p2p_sim__{name}\[P2P_SIM__TAIL\] = \{{([^}}]*)\}};", header)
        values = [int(x) for x in found[1].split(",")] if found else []
        if values != sim_tables.table(inverse):
            print(f"p2p_sim__{name} differs: take what tools/sim_tables.py prints")
            failed += 1
    print(f"{2 - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
