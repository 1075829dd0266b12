#!/usr/bin/env python3
"""What docs/ says of p2p.h is so: state diagrams, counters, limits.

    tests/compile/test_docs.py           checks
    tests/compile/test_docs.py --write   writes the state tables of docs/DESIGN.md anew"""
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def moves(text, prefix):
    """Rows "FROM: TO, TO" of a transition table whose rows begin with a comment that names the state."""
    rows = []
    for part in re.split(r"/\*\s*(?=[A-Z_]+\s*\*/)", text)[1:]:
        name, body = re.match(r"([A-Z_]+)\s*\*/(.*)", part, re.S).groups()
        rows.append((name, re.findall(prefix + r"_?\(?([A-Z]+)", body)))
    return rows


def tables(header):
    conn = header[header.index("p2p__conn_moves[5] = {"):]
    exchange = header[header.index("p2p__exchange_rules[P2P__EXCHANGE_STATES] = {"):]
    exchange = re.sub(r"P2P__MAY_[A-Z]+", "", exchange[:exchange.index("};")])
    return {
        "A connection, as the application holds it": moves(conn[:conn.index("};")], "P2P__CONN"),
        "A request, at either end": moves(exchange, "P2P__TO"),
    }


def drawn(header):
    out = ["Made by `tests/compile/test_docs.py --write` from the transition tables in p2p.h; a move that is not in them fails an",
           "assertion.", ""]
    for title, rows in tables(header).items():
        width = max(len(name) for name, _ in rows)
        out += [f"**{title}**", "", "```"]
        out += [f"{name.ljust(width)} -> {', '.join(to) if to else '(the end)'}" for name, to in rows]
        out += ["```", ""]
    return "\n".join(out)


def check_states(header, check):
    design = read("docs/DESIGN.md")
    for title, rows in tables(header).items():
        check(f"{title}: the table was found", len(rows) > 3)
    check("docs/DESIGN.md has the state tables of p2p.h; run tests/compile/test_docs.py --write",
          drawn(header) in design)


def check_counters(header, check):
    spec = read("docs/SPEC.md")
    known = re.findall(r'X\(([a-z_0-9]+), "(?:counter|gauge)"', header)
    check("counters were found", len(known) > 50)
    rows = re.findall(r"^\| R(\d+) \|[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|", spec, re.M)
    check("obligations were found", len(rows) > 30)
    for number, names, test in rows:
        for name in re.findall(r"`([a-z_0-9]+)`", names):
            check(f"R{number}: {name} is a counter", name in known)
            check(f"R{number}: {name} is counted somewhere", f"P2P_METRIC_{name}" in header)
        for path, case in re.findall(r"([a-z_/]+\.[a-z]+):([a-z_0-9]+)", test):
            check(f"R{number}: {path} has {case}", re.search(rf"\b{case}\b", read("tests/" + path)))


def check_limits(header, check):
    spec = read("docs/SPEC.md")
    limits = spec[spec.index("## 15. Limits"):spec.index("## 16.")]
    for name, words in (("RUNS_MIN", "holes a stream | {}, or"), ("RUN_BYTES", "one for every {} bytes"),
                        ("RUNS_MAX", "buffer up to {} |"), ("ACK_RANGES", "ACK ranges | {} |"),
                        ("WINDOW", "packet numbers remembered | {} |"),
                        ("ENVELOPE_MAX", "envelope | {} bytes |"),
                        ("REASON_MAX", "reason of a CLOSE | {} bytes |"),
                        ("SKIPPED", "still watched | {} |"),
                        ("PER_SOURCE", "half-open sessions of one source | {} |"),
                        ("HEADERS_MAX", "headers of a request or an answer | {} |"),
                        ("PATH_MAX", "path | {} bytes |")):
        value = re.search(rf"#define P2P__{name}\s+(\d+)u?", header)
        check(f"P2P__{name} is defined", value)
        if value:
            check(f"docs/SPEC.md has P2P__{name}", words.format(f"{int(value[1]):,}") in limits)


def check_contents(check):
    """The list at the head of docs/DESIGN.md names its chapters, all of them, in their order."""
    page = read("docs/DESIGN.md")
    chapters = re.findall(r"^## (.+)$", page, re.M)
    anchors = [(name, re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-")) for name in chapters]
    check("docs/DESIGN.md lists its chapters", re.findall(r"^- \[([^]]+)\]\(#([^)]+)\)$", page, re.M) == anchors)


def check_rooms(header, check):
    """README.md and the manual have every macro that leaves a room out."""
    page = read("README.md")
    page = page[page.index("### What can be left out"):page.index("## Dependencies")]
    manual = header[header.index("OVERRIDE MACROS"):header.index("DOES NOT\n")]
    rooms = set(re.findall(r"^#ifn?def (P2P_NO_[A-Z]+)$", header, re.M))
    check("rooms were found", len(rooms) >= 10)
    for where, words in (("README.md", page), ("the manual", manual)):
        found = set(re.findall(r"P2P_NO_[A-Z]+", words))
        check(f"{where} has every room that can be left out, and no other: {sorted(found ^ rooms)}", found == rooms)


def check_targets(check):
    """README.md has every target that `make` lists."""
    page = read("README.md")
    listed = set(re.findall(r"^([a-z-]+):[^#\n]*## ", read("Makefile"), re.M))
    named = set(re.findall(r"^\| `make ([a-z-]+)", page, re.M))
    check(f"README.md has the targets of make: {sorted(listed ^ named)}", listed == named)


def check_status(header, check):
    """Each "yes" of README.md names tests that are there; a quoted error of a "no" is one of p2p.h."""
    page = read("README.md")
    page = page[page.index("## What works today"):page.index("## Files")]
    rows = re.findall(r"^\| ([^|]+) \| (yes|no) \| (.*) \|$", page, re.M)
    check("the status table was found", len(rows) > 10)
    for what, state, shown in rows:
        names = re.findall(r"`([a-z_/0-9]+\.[a-z]+)(?::([a-z_0-9]+))?`", shown)
        check(f"README.md: {what}: names a test", state == "no" or names)
        for path, case in names:
            there = os.path.exists(os.path.join(ROOT, "tests", path))
            check(f"README.md: tests/{path} is there", there)
            if there and case:
                check(f"README.md: {path} has {case}",
                      re.search(rf"\b{case}\b", read("tests/" + path)))
        for words in re.findall(r'`("[^`]*")`', shown):
            check(f"README.md: p2p.h says {words}", words in header)


def main():
    header = read("p2p.h")
    if "--write" in sys.argv:
        path = os.path.join(ROOT, "docs/DESIGN.md")
        page = read("docs/DESIGN.md")
        with open(path, "w", encoding="utf-8") as f:
            f.write(page[:page.index("## States")] + "## States\n\n" + drawn(header).rstrip() + "\n")
        return 0
    passed = failed = 0

    def check(what, good):
        nonlocal passed, failed
        passed, failed = passed + bool(good), failed + (not good)
        if not good:
            print("failed:", what)

    check_states(header, check)
    check_counters(header, check)
    check_limits(header, check)
    check_contents(check)
    check_rooms(header, check)
    check_targets(check)
    check_status(header, check)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
