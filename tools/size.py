#!/usr/bin/env python3
"""make size: the text of p2p.h on a Cortex-M4, a line a room, and of builds with rooms left out;
then what a linked firmware is made of.

usage: size.py [p2p.h [functions]]
       size.py --firmware SPEAKER.ELF.MAP    only the second table, as it stands in README

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


# A server of streams, as firmware links it: what it does not call falls away.
PROGRAM = """
#include "p2p.h"
extern p2p_desc desc;
extern p2p_packet packet;
extern uint64_t arena[];
int main(void) {
    p2p_node *node;
    p2p_event event;
    p2p_listener listener;
    char bytes[64];
    p2p_node_open(&node, &desc, arena, sizeof(void *));
    p2p_listen(node, NULL, &listener);
    for (;;) {
        p2p_input(node, 0, &packet);
        p2p_poll(node, 0);
        p2p_output(node, 0, &packet);
        while (p2p_next_event(node, &event) > 0)
            if (p2p_stream_read(node, event.stream, bytes, sizeof bytes) > 0)
                p2p_stream_write(node, event.stream, bytes, sizeof bytes);
    }
}
"""


def linked_size(header, directory, *options):
    """Text of PROGRAM after unused functions are dropped; libc and the ports are not in it."""
    source = os.path.join(directory, "program.c")
    out = os.path.join(directory, "program.elf")
    with open(source, "w", encoding="utf-8") as file:
        file.write(PROGRAM)
    folder = os.path.dirname(os.path.abspath(header))
    unlinked = compiled(source, directory, "-I" + folder, "-ffunction-sections",
                        "-fdata-sections", *options)
    subprocess.run([ARM + "ld", "--gc-sections", "-e", "main", "--unresolved-symbols=ignore-all",
                    "-z", "max-page-size=4", unlinked, "-o", out], check=True,
                   stderr=subprocess.DEVNULL)
    return text_size(out)


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


def label(room):
    return room[0][2:] if len(room) == 1 else "none of them"


def symbols(object_file):
    """(bytes, kind, name) of each symbol; kind t or r as nm has it."""
    listing = subprocess.check_output([ARM + "nm", "-S", object_file], text=True)
    for line in listing.splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[2].lower() in "tr":
            yield int(parts[1], 16), parts[2].lower(), parts[3]


# ---- a linked firmware ----------------------------------------------------------------------------

# Who an object file or a function of ours belongs to, by the beginning of its path or name.
FOREIGN = [("/lwip/", "lwIP"), ("/mbedtls/", "mbedTLS"), ("/everest/", "mbedTLS"),
           ("/sodium/", "libsodium"), ("/own/main", "the application"),
           ("/own/sound", "the application"), ("/own/", "board and driver")]
PORTS = ["p2p_mbedtls", "p2p_sodium", "p2p_lwip"]
LIBC = "libc, libgcc"


def pieces(map_file):
    """(section, bytes, object) of everything that was linked, from the linker's map."""
    with open(map_file, encoding="utf-8") as file:
        text = file.read()
    text = text[text.index("Linker script and memory map"):]
    # A long name has a line of its own.
    for name, size, where in re.findall(
            r"^ (\.[\w.$*-]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S+\.o\)?)$", text, re.M):
        if int(size, 16) > 0 and not name.startswith((".debug", ".comment", ".ARM.attr")):
            yield name, int(size, 16), where


def owner(name, where, rooms):
    """The row that a piece belongs to."""
    if name == ".bss.arena":
        return "the node's arena"
    if where.endswith(")"):
        return LIBC
    if not where.endswith("/own/p2p.o"):
        return next((who for path, who in FOREIGN if path in where), LIBC)
    symbol = re.sub(r"^\.\w+\.|\.(str|cst|part|isra|constprop|cold|\d).*", "", name)
    port = next((port for port in PORTS if symbol.startswith(port)), None)
    if port:
        return "ports/%s.h" % port
    return "p2p.h " + rooms.get(symbol, "constants")


def firmware_table(map_file, header="p2p.h"):
    """Lines of a table in Markdown: bytes of flash and of RAM, a line an owner, largest first. What
    the linker adds for alignment has no owner."""
    rooms = rooms_of(header)
    flash, ram = {}, {}
    for name, size, where in pieces(map_file):
        who = owner(name, where, rooms)
        if not name.startswith(".bss") and name != "COMMON":
            flash[who] = flash.get(who, 0) + size
        if name.startswith((".bss", ".data")):
            ram[who] = ram.get(who, 0) + size
    own = sum(size for who, size in flash.items() if who.startswith("p2p.h"))
    yield "| part | flash | RAM |"
    yield "|---|---|---|"
    for who in sorted(set(flash) | set(ram),
                      key=lambda who: (who.startswith("p2p.h"), -flash.get(who, 0))):
        yield "| %s | %s | %s |" % (who.replace(">>", "`>>") + ("`" if ">>" in who else ""),
                                    format(flash.get(who, 0), ","), format(ram.get(who, 0), ","))
    yield "| p2p.h in all | %s | |" % format(own, ",")
    yield "| all, without alignment | %s | %s |" % (format(sum(flash.values()), ","),
                                                    format(sum(ram.values()), ","))


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--firmware":
        print("\n".join(firmware_table(sys.argv[2])))
        return
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
        builds = rooms_left_out(header)
        for room in builds:
            print("%-22s %7d" % (label(room), text_size(compiled(header, directory, *room))))
        print("%-22s %7d" % ("linked: all rooms", linked_size(header, directory)))
        print("%-22s %7d" % ("linked: none of them", linked_size(header, directory, *builds[-1])))


if __name__ == "__main__":
    main()
