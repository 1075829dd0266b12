#!/usr/bin/env python3
"""make size: the text of p2p.h on a Cortex-M4, a line a room, and of builds with rooms left out.

usage: size.py [p2p.h [functions]]

Code is counted in the room that defines the function (static helpers that the compiler inlined
count where they went), texts and tables by name. The totals are arm-none-eabi-size's "text" of one
file with P2P_IMPLEMENTATION, compiled as firmware does it: -Os, no sections a function, no LTO.
"""
import os
import re
import subprocess
import sys
import tempfile

ARM = "arm-none-eabi-"
FLAGS = ["-std=c99", "-Os", "-mcpu=cortex-m4", "-mthumb", "-DP2P_IMPLEMENTATION"]


def compiled(header, directory, *options):
    """Compiles the header alone and returns the object's path."""
    out = os.path.join(directory, "p2p.o")
    subprocess.run([ARM + "gcc", *FLAGS, *options, "-x", "c", "-c", header, "-o", out], check=True)
    return out


def text_size(object_file):
    lines = subprocess.check_output([ARM + "size", object_file], text=True).splitlines()
    return int(lines[1].split()[0])


def rooms_of(header):
    """Name of a function or table -> the room in which it is defined."""
    room, rooms = "?", {}
    started = False
    with open(header, encoding="utf-8") as file:
        for line in file:
            started = started or line.startswith("#if defined(P2P_IMPLEMENTATION)")
            banner = re.match(r"/\* ==== (>>\w+)", line)
            if banner:
                room = banner.group(1)
            name = re.match(r"(?:[A-Za-z_].*?[ *])?(p2p_\w+)\s*[(\[]", line)
            if started and name:
                rooms.setdefault(name.group(1), room)
    return rooms


def rooms_left_out(header):
    """Flags of builds without each optional room, and without all of them."""
    with open(header, encoding="utf-8") as file:
        flags = sorted({"-D" + name for name in re.findall(r"^#ifn?def (P2P_NO_\w+)$",
                                                           file.read(), re.M)})
    return [[flag] for flag in flags] + [flags]


def symbols(object_file):
    """(bytes, kind, name) of each symbol; kind t or r as nm has it."""
    listing = subprocess.check_output([ARM + "nm", "-S", object_file], text=True)
    for line in listing.splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[2].lower() in "tr":
            yield int(parts[1], 16), parts[2].lower(), parts[3]


def main():
    header = sys.argv[1] if len(sys.argv) > 1 else "p2p.h"
    rooms = rooms_of(header)
    with tempfile.TemporaryDirectory() as directory:
        by_function = compiled(header, directory, "-ffunction-sections", "-fdata-sections")
        found = list(symbols(by_function))
        total = text_size(compiled(header, directory))
        code, tables = {}, {}
        for size, kind, name in found:
            plain = re.sub(r"\.(part|isra|constprop|cold|\d).*", "", name)
            room = rooms.get(plain, "?")
            into = code if kind == "t" else tables
            into[room] = into.get(room, 0) + size
        if len(sys.argv) > 2:
            for size, kind, name in sorted(found, reverse=True):
                print("%6d %s %-12s %s" % (size, kind, rooms.get(name.split(".")[0], "?"), name))
        print("%-12s %7s %7s" % ("room", "code", "tables"))
        for room in sorted(set(code) | set(tables), key=lambda r: -code.get(r, 0)):
            print("%-12s %7d %7d" % (room, code.get(room, 0), tables.get(room, 0)))
        print("%-12s %7d %7d" % ("sum", sum(code.values()), sum(tables.values())))
        print("%-12s %7d" % ("texts", total - sum(code.values()) - sum(tables.values())))
        print("%-12s %7d" % ("text", total))
        print()
        for room in rooms_left_out(header):
            print("%-22s %7d" % (" ".join(r[2:] for r in room),
                                 text_size(compiled(header, directory, *room))))


if __name__ == "__main__":
    main()
