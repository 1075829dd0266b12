#!/usr/bin/env python3
"""Figures of the firmware: build/firmware.json, held against tests/firmware/budget.json.

usage: figures.py [--update]

Flash is what the image takes of it: code, constants and the first values of variables. RAM is
.data and .bss, without the stack. Instructions are counted by measure.elf in QEMU with -icount, and
are the same in every run. budget.json has the figures as they were last accepted, and under "bars"
what they must never exceed. A figure that differs from its budget fails here, in either direction:
a change that moves one runs --update and says in its message why. Instructions may move by 2 %.
The tables of both in README.md are held, and renewed, the same way.
"""
import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from qemu import Guest, IMAGES, ROOT  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tools"))
import size  # noqa: E402

ARM = "arm-none-eabi-"
OUT = os.path.join(ROOT, "build", "firmware.json")
BUDGET = os.path.join(ROOT, "tests", "firmware", "budget.json")
README = os.path.join(ROOT, "README.md")
TABLE = re.compile(r"(<!-- firmware (\w+) -->\n).*?(?=<!-- end -->)", re.S)
WORDS = {"flash_bytes": "flash, bytes",
         "flash_without_ed25519_bytes": "flash with an Ed25519 of no size, bytes",
         "ram_bytes": "`.data` and `.bss`, lwIP's pools and the arena included, bytes",
         "stack_bytes": "deepest stack, bytes",
         "connect_instructions": "connect as the client, instructions",
         "rx_1200_instructions": "receiving 1,200 bytes of a stream, mean of 2 MB, instructions",
         "rx_1200_p2p_instructions": "... of these in p2p.h",
         "idle_wakes_in_10_minutes": "wakes of an idle connection in 10 minutes: keepalives"}
# Of newlib and of anybody else: what hands out memory at run time.
HEAP = {"malloc", "calloc", "realloc", "free", "memalign", "posix_memalign", "strdup",
        "_malloc_r", "_calloc_r", "_realloc_r", "_free_r", "_sbrk", "_sbrk_r", "sbrk",
        "mem_malloc_libc", "_Znwj", "_ZdlPv"}
FLASH = (".text", ".ARM.exidx", ".data")
RAM = (".data", ".bss")
SEED = 7


def sections(elf):
    listing = subprocess.check_output([ARM + "size", "-A", elf], text=True)
    lines = [line.split() for line in listing.splitlines()]
    return {parts[0]: int(parts[1]) for parts in lines if len(parts) == 3 and parts[1].isdigit()}


def heap_symbols(elf):
    names = subprocess.check_output([ARM + "nm", elf], text=True).split()
    return sorted(HEAP.intersection(names))


def sizes():
    whole = sections(IMAGES["speaker"])
    without = sections(IMAGES["without_ed25519"])
    return {"flash_bytes": sum(whole.get(name, 0) for name in FLASH),
            "flash_without_ed25519_bytes": sum(without.get(name, 0) for name in FLASH),
            "ram_bytes": sum(whole.get(name, 0) for name in RAM),
            "heap_symbols": heap_symbols(IMAGES["speaker"])}


def counts():
    """What measure.elf prints, as numbers."""
    guest = Guest(IMAGES["measure"], {"seed": SEED},
                  options=["-icount", "shift=6,sleep=off", "-nic", "none"])
    guest.finish(600)
    return {name: int(value) for name, value in guest.pairs()}


def write(found):
    with open(OUT, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=4)
        file.write("\n")


def parts():
    """The table of what the image is made of."""
    lines = size.firmware_table(IMAGES["speaker"] + ".map", os.path.join(ROOT, "p2p.h"))
    return "".join(line + "\n" for line in lines)


def bars(held):
    """The table of what is measured and what it may be."""
    lines = ["| on a Cortex-M4 | budget | bar |", "|---|---|---|"]
    lines += ["| %s | %s | %s |" % (words, format(held["budget"][name], ","),
                                    format(held["bars"][name], ","))
              for name, words in WORDS.items()]
    return "".join(line + "\n" for line in lines)


def readme():
    with open(README, encoding="utf-8") as file:
        return file.read()


def fresh_readme(held):
    """README.md with its tables as they should be."""
    tables = {"figures": bars(held), "sizes": parts()}
    return TABLE.sub(lambda match: match.group(1) + tables[match.group(2)], readme())


def differs(name, value, budget):
    """Whether a figure is not what its budget says."""
    if name.endswith("_instructions"):
        return abs(value - budget) * 50 > budget
    return value != budget


def faults(found, held):
    """Sentences, one for each figure that is not as it should be."""
    for name, bar in held["bars"].items():
        if found[name] > bar:
            yield "%s is %d: the bar is %d" % (name, found[name], bar)
    for name, budget in held["budget"].items():
        if differs(name, found[name], budget):
            yield "%s is %d, the budget says %d" % (name, found[name], budget)
    if fresh_readme(held) != readme():
        yield "the tables in README.md say something else"
    if found["heap_symbols"]:
        yield "the image holds a heap: " + " ".join(found["heap_symbols"])


def table(found, held):
    for name, value in found.items():
        bar = held["bars"].get(name)
        print("%-32s %10s%s" % (name, value or "none" if isinstance(value, list) else value,
                                "   bar %d" % bar if bar else ""))


def update(found, held):
    held["budget"] = {name: found[name] for name in held["budget"]}
    with open(BUDGET, "w", encoding="utf-8") as file:
        json.dump(held, file, indent=4)
        file.write("\n")
    text = fresh_readme(held)
    with open(README, "w", encoding="utf-8") as file:
        file.write(text)


def collect():
    found = sizes()
    found.update(counts())
    write(found)
    return found


def accepted():
    with open(BUDGET, encoding="utf-8") as file:
        return json.load(file)


def main():
    held = accepted()
    found = collect()
    table(found, held)
    if sys.argv[1:] == ["--update"]:
        update(found, held)
    wrong = list(faults(found, held))
    for sentence in wrong:
        print("FAIL " + sentence)
    if wrong:
        print("After a change that is meant to move them: make firmware-budget, and say why.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
