#!/usr/bin/env python3
"""The page of `p2p sim --html`: what it holds, and, where Debian's chromium is installed, that it works."""
import json
import os
import re
import shutil
import subprocess

from tool import ROOT, expect, folder, main, p2p, read, write

CHROMIUM = shutil.which("chromium")
PAIR = ("seed 5\nnode {a b}\nrouter r\nlink a r latency=10ms rate=10mbit queue=30kB loss=2% corrupt=1% duplicate=2%\n"
        "link r b latency=15ms\ndial a b\nat 500ms stream a b 400kB\nat 2s crash b for 500ms\nend 4s\nexpect b streams 1 by 3s\n")
LARGE = ("node n0..119 buffer=4kB\nnode hub buffer=16kB\nlinks latency=5ms rate=50mbit queue=20kB loss=5%\nlink hub n0..119\n"
         "dial n0..119 hub\nat 1s every 10ms until 6s datagram n0..99 hub 100B\nend 7s\n")
# Runs in the page, behind its own script; what it finds is put where --dump-dom shows it.
PROBE = """<script>
(() => {
  const found = {errors: window.pageErrors, width: innerWidth, wide: document.documentElement.scrollWidth};
  const ink = id => { const c = document.getElementById(id), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; };
  const key = (key, target) => (target || document.body).dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
  found.rows = document.querySelectorAll("#events tr").length;
  found.charts = document.querySelectorAll(".chart").length;
  found.graph = ink("graph"); found.strip = ink("strip");
  found.start = at; key("ArrowRight"); found.right = at; key("ArrowLeft"); found.left = at;
  key("n"); found.drop = at; found.dropInk = ink("graph");
  key("End"); found.end = at; found.down = isUp.filter(u => !u).length; key("Home"); found.home = at;
  go(2.2e6); found.downThen = isUp.filter(u => !u).length;
  const speedBefore = speed; key("+"); found.faster = speed > speedBefore; key("-");
  key(" "); found.playing = playing; key(" "); found.paused = !playing;
  const dark = getComputedStyle(document.body).backgroundColor; document.getElementById("theme").click();
  found.themed = dark !== getComputedStyle(document.body).backgroundColor;
  const fate = document.querySelector(".fate"); fate.click(); found.hidden = fate.getAttribute("aria-pressed"); fate.click();
  document.getElementById("filter").value = "zzz"; filterRows(); found.filtered = [...document.querySelectorAll("#events tr")].every(r => r.hidden);
  found.places = [...place.x, ...place.y].every(v => v >= 0 && v <= 1); found.where = [...place.x].map(v => v.toFixed(6)).join();
  found.unlabelled = [...document.querySelectorAll("button, select, input")].filter(e => !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels && e.labels.length)).length;
  found.note = document.getElementById("note").textContent; found.title = document.title;
  const out = document.createElement("pre"); out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
})();
</script>"""


def page(text, d, name="run.html", args=()):
    path = os.path.join(d, name)
    scene = write(os.path.join(d, "run.scn"), text.encode())
    result = p2p("sim", scene, "--html", path, "--json", *args)
    assert result.code in (0, 1) and os.path.exists(path), result
    return result.json(), path, read(path).decode()


def held(text):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def probe(text, d, width, dark=False):
    """Opens the page with the probe at its end, and gives what that found."""
    path = write(os.path.join(d, "probe.html"),
                 text.replace('<script id="data"', '<script>window.pageErrors = []; onerror = m => { pageErrors.push(String(m)); };</script><script id="data"')
                 .replace("</body>", PROBE + "</body>").encode())
    with folder() as profile:
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
             f"--user-data-dir={profile}", f"--window-size={width},900", "--virtual-time-budget=5000",
             f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", "file://" + path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
    dom = done.stdout.decode(errors="replace")
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    assert found, f"the probe did not come to its end: {done.stderr.decode(errors='replace')[-2000:]}"
    return json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


def test_the_page_holds_the_run_and_nothing_from_outside():
    with folder() as d:
        summary, _, text = page(PAIR, d)
        data = held(text)
        assert not re.search(r"(src|href)\s*=|https?:|@import|url\(", text), "something is loaded from elsewhere"
        assert "{{DATA}}" not in text
        counts = {f["name"]: f["count"] for f in data["fates"]}
        assert counts == summary["datagrams"] and data["digest"] == summary["digest"]
        assert [v["name"] for v in data["vertices"]] == ["a", "b", "r"] and [v["kind"] for v in data["vertices"]] == ["node", "node", "router"]
        arrived = [data["arrived"]["items"][i:i + 6] for i in range(0, len(data["arrived"]["items"]), 6)]
        dropped = [data["dropped"]["items"][i:i + 6] for i in range(0, len(data["dropped"]["items"]), 6)]
        assert len(arrived) == counts["delivered"] + counts["forwarded"]
        assert len(dropped) == sum(counts[f] for f in ("lost", "queue", "corrupted", "duplicated", "nobody", "route"))
        # every hop goes along a link, and takes as long as the link does at least
        least = {(0, 2): 10000, (2, 0): 10000, (1, 2): 15000, (2, 1): 15000}
        for start, end, a, b, _, _ in arrived:
            assert end - start >= least[a, b], (start, end, a, b)
        assert data["states"] == [2000000, 1, 0, 2500000, 1, 1]
        assert {s["at"] for s in data["series"]} == {0, 1}
        assert all(s["points"] and s["points"][1] >= 2400 for s in data["series"])
        words = [e["text"] for e in data["events"]]
        assert any("connected, peer b" in w for w in words) and "at 2s crash b for 500ms: over" in words
        assert data["source"] == PAIR and data["end"] == 4000000


def test_texts_cannot_end_the_script():
    with folder() as d:
        scene = PAIR + "# </script><script>alert(1)</script> <!-- \x7f".replace("\x7f", "") + "\nroute b GET /</script><b>\" 1kB\n"
        _, _, text = page(scene, d)
        assert held(text)["source"] == scene
        assert text.count("<script") == 2 and "alert(1)" in text


def test_the_same_run_is_the_same_page():
    with folder() as d:
        assert page(PAIR, d)[2] == page(PAIR, d)[2]


def test_large_runs_are_bounded_and_say_so():
    with folder() as d:
        summary, _, text = page(LARGE, d)
        data = held(text)
        assert summary["datagrams"]["delivered"] > 40000
        assert len(text) < 4000000 and len(data["arrived"]["items"]) <= 6 * 40000
        assert data["arrived"]["stride"] > 1 and data["arrived"]["leftOut"] > 0 and data["seriesLeft"]
        drawn = len(data["arrived"]["items"]) // 6
        assert drawn + data["arrived"]["leftOut"] == summary["datagrams"]["delivered"] + summary["datagrams"]["forwarded"]
        if CHROMIUM:
            found = probe(text, d, 1200)
            assert not found["errors"] and found["places"] and "1 in" in found["note"], found


def test_it_works_in_a_browser():
    if not CHROMIUM:
        print("left out: chromium is not installed, so the page was not opened")
        return
    with folder() as d:
        text = page(PAIR, d)[2]
        seen = [probe(text, d, width, dark) for width, dark in ((1600, False), (400, True))]
        for found in seen:
            assert found["errors"] == [], found
            assert found["wide"] <= found["width"], f"wider than the window: {found}"
            assert found["rows"] > 5 and found["charts"] == 2 and found["graph"] > 500 and found["strip"] > 100, found
            assert found["start"] == 0 and found["right"] > 0 and found["left"] == 0 and found["home"] == 0, found
            assert 0 < found["drop"] < 4000000 and found["end"] == 4000000, found
            assert found["down"] == 0 and found["downThen"] == 1, found
            assert found["faster"] and found["playing"] and found["paused"] and found["themed"], found
            assert found["hidden"] == "false" and found["filtered"] and found["unlabelled"] == 0, found
            assert found["places"] and found["title"].endswith("p2p sim"), found
        assert seen[0]["width"] == 1600 and seen[1]["width"] <= 500, seen
        assert seen[0]["where"] == seen[1]["where"], "the same graph is drawn in the same places"


main(globals())
