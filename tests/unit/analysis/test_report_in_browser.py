"""The report at work in a browser, where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def page(full_report):
    return full_report.page


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
FLAGS += (
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-logging=stderr",
    "--hide-scrollbars",
)
FIRST = "<script>window.wrong = []; window.onerror = function (words) { wrong.push(String(words)); };</script>"
# What a reader does, and what is then to be seen; synchronous, so that the dumped document holds the result.
READER = r"""
<script>
(function () {
  var all = function (selector, root) { return Array.from((root || document).querySelectorAll(selector)); };
  var seen = function (part) { var box = part.getBoundingClientRect(); return box.width > 0 && box.height > 0; };
  var ours = function () { return all("svg [data-method='acodm']:not([data-threshold])"); };
  var box = document.querySelector("#methods input[value='acodm']"), found = { wrong: wrong };
  var there = function (part) { return seen(part) && seen(part.querySelector("h2")); };
  found.sections = all("main section").filter(there).map(function (part) { return part.id; });
  found.figures = all("figure svg").map(function (svg) { return svg.getBoundingClientRect().width; });
  var top = function (selector) { return document.querySelector(selector).getBoundingClientRect().top; };
  found.first = top("h1") <= top("nav");
  found.wide = document.documentElement.scrollWidth - innerWidth;
  var plain = function (word) { return !word.querySelector("tspan") && !/rotate\(-?[1-9]/.test(word.getAttribute("transform")); };
  // Letters of a figure that cover each other; turned ones and formulas have boxes that do not tell.
  found.covered = [];
  all("figure svg").forEach(function (svg) {
    var words = all("text", svg).filter(seen).filter(plain);
    var boxes = words.map(function (word) { return word.getBoundingClientRect(); });
    words.forEach(function (word, i) {
      words.slice(0, i).forEach(function (other, j) {
        var wide = Math.min(boxes[i].right, boxes[j].right) - Math.max(boxes[i].left, boxes[j].left);
        var high = Math.min(boxes[i].bottom, boxes[j].bottom) - Math.max(boxes[i].top, boxes[j].top);
        if (wide > 2 && high > boxes[i].height / 3) found.covered.push([word.textContent, other.textContent]);
      });
    });
  });
  found.before = ours().filter(seen).length;
  var others = all("svg [data-method='odm']").filter(seen).length;
  box.click();
  found.off = ours().filter(seen).length;
  found.others = all("svg [data-method='odm']").filter(seen).length - others;
  box.click();
  found.again = ours().filter(seen).length;
  var cell = function () { return document.querySelector("#summary tr[data-method='acodm'] td:nth-of-type(6)").innerText; };
  var goals = function () {
    var marks = all(".plot[data-points='curves'] [data-threshold]").filter(seen);
    return Array.from(new Set(marks.map(function (part) { return part.dataset.threshold; })));
  };
  found.natural = [cell(), goals()];
  document.querySelector("#thresholds input[value='uniform']").click();
  found.uniform = [cell(), goals()];
  document.querySelector("#summary tr[data-method='acodm_proxy'] td").click();
  var dialog = document.getElementById("behind");
  found.dialog = [dialog.open, dialog.querySelector("h2").innerText, all("details.run", dialog).length];
  dialog.close();
  var plot = document.querySelector(".plot[data-points='curves']"), svg = plot.querySelector("svg");
  var lines = JSON.parse(document.getElementById("data").textContent).points.curves;
  var line = lines.find(function (one) { return one.method === "acodm"; });
  var at = new DOMPoint(line.x[9], line.y[9]).matrixTransform(svg.getScreenCTM());
  plot.dispatchEvent(new PointerEvent("pointermove", { clientX: at.x, clientY: at.y }));
  found.hover = plot.querySelector(".tip").innerText;
  plot.dispatchEvent(new PointerEvent("pointerleave"));
  found.left = plot.querySelector(".tip").hidden;
  ["End", "ArrowLeft", "ArrowDown"].forEach(function (key) { plot.dispatchEvent(new KeyboardEvent("keydown", { key: key })); });
  found.keys = plot.querySelector(".tip").innerText;
  found.reachable = all(".plot[data-points], .scroll, button.runs").every(function (part) { return part.tabIndex === 0; });
  var pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.appendChild(pre);
})();
</script>
"""


def browse(page: Path, *flags: str) -> tuple[str, str]:
    """Standard output and the browser's console."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={page.parent / 'profile'}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.fixture(scope="module", params=["1400,900", "500,900"])
def read(page, request, tmp_path_factory):
    """What the reader above found on a wide and on a narrow screen."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the report was not opened in a browser")
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(page.replace("<head>", f"<head>{FIRST}", 1).replace("</body>", f"{READER}</body>", 1))
    dumped, console = browse(path, "--dump-dom", f"--window-size={request.param}")
    assert console == ""
    return json.loads(re.search(r'<pre id="found">(.*?)</pre>', dumped, re.S)[1])


def test_the_browser_shows_every_section_and_reports_no_error(page, read):
    assert read["wrong"] == []
    assert read["sections"] == re.findall(r'<section id="([^"]*)"', page)
    assert min(read["figures"]) > 250
    assert read["first"]  # on a narrow screen the title stands above the contents
    assert read["wide"] <= 0  # wide tables scroll by themselves


def test_no_letters_of_a_figure_cover_others(read):
    assert read["covered"] == []


def test_toggling_a_method_takes_it_out_of_every_figure(read):
    assert read["before"] > 50 and read["off"] == 0 and read["again"] == read["before"] and read["others"] == 0


def test_choosing_a_threshold_changes_the_table_and_the_curves(read):
    assert read["natural"][1] == ["natural"] and read["uniform"][1] == ["uniform"]
    assert read["natural"][0] != read["uniform"][0]


def test_a_number_opens_the_runs_behind_it(read):
    assert read["dialog"] == [True, "AC-ODM (proxy)", 10]


def test_a_point_is_told_to_mouse_and_keyboard(read):
    assert read["hover"].startswith("AC-ODM, step 180\nValidation perplexity: ") and read["left"]
    assert re.match(r"Uniform, step 280\nValidation perplexity: [\d.]+ \(", read["keys"])
    assert read["reachable"]


def test_the_page_prints(page, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: the report was not printed")
    (tmp_path / "report.html").write_text(page)
    browse(tmp_path / "report.html", f"--print-to-pdf={tmp_path / 'report.pdf'}", "--no-pdf-header-footer")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert 5 < printed.count(b"/Type /Page\n") < 25
    shapes = set(re.findall(rb"/MediaBox \[[^]]*\]", printed))
    assert len(shapes) == 1  # a turned page would end the one before it early
