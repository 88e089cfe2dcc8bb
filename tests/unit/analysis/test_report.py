"""The report: whole and self-contained as a document, and at work in a browser where there is one."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import fake_results
import numpy as np
import pandas as pd
import pytest
from fake_runs import finish
from matplotlib.colors import to_rgb

from acodm_analysis import comparison, paired
from acodm_analysis.core import style
from acodm_analysis.pages import report
from acodm_core.errors import UserError
from acodm_core.results.tables import Results
from acodm_core.seals import mark_of, marked

CARD = "# Methods\n\n## `odm`\n\nA bandit of domains.\n\n**Idea.**\nDraw what has a high loss, `exp(loss)` < 3.\n"
CARD += "\n## `other`\n\nNo.\n"
SECTIONS = ["summary", *(section.key for section in report.SECTIONS), "cards", "provenance"]


class Document(HTMLParser):
    """Ids, links, sources and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids, self.links, self.sources, self.tags, self.text = [], [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found[name] for name in ("src", "srcset", "data") if name in found]

    def handle_data(self, text):
        self.text.append(text)


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("extended")


@pytest.fixture(scope="module")
def rendered(canned_rendered, tmp_path_factory):
    """All that one experiment renders, the cards, and a table that only some experiments have."""
    folder = tmp_path_factory.mktemp("with_cards") / "rendered"
    shutil.copytree(canned_rendered("extended"), folder)
    wanted = {
        "cards.md": CARD,
        "downstream.md": "| Method | MMLU |\n| --- | ---: |\n| ODM | 25.1 |\n\nAccuracy.\n",
        "downstream.csv": "method,mmlu\nodm,25.1\n",
    }
    for name, text in wanted.items():
        with marked(folder / name) as path:
            path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def page(results, rendered):
    return report.page(results, rendered)


@pytest.fixture(scope="module")
def broken_page(canned_results, canned_rendered):
    return report.page(canned_results("plain", broken=True), canned_rendered("plain", broken=True))


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize("which", ["page", "broken_page"])
def test_the_page_is_whole_and_needs_nothing_else(which, request):
    page = request.getfixturevalue(which)
    document = Document(page)
    assert len(document.ids) == len(set(document.ids))
    assert [found["id"] for tag, found in document.tags if tag == "section"] == SECTIONS
    assert not document.sources and not [tag for tag, _ in document.tags if tag in ("link", "iframe", "object", "img")]
    for link in document.links:
        assert link.startswith("data:") or (link[0] == "#" and link[1:] in document.ids), link
    assert not re.search(r"url\((?!#)|@import|fetch\(|XMLHttpRequest|https?://(?!www\.w3\.org/2000/svg)", page)
    named = re.findall(r'(?:aria-labelledby="|url\(#)([^")]+)', page)
    assert set(named) <= set(document.ids)


def test_figures_are_inline_and_say_what_they_show(page, rendered):
    figures = sorted(path.stem for path in rendered.glob("*.svg"))
    assert page.count("<svg") == len(figures) == page.count('role="img"')
    assert not re.search(r"<text[^>]*>[^<]*\$[^<]*</text>", page)  # no formula that was drawn as it is written
    assert 'aria-label="Validation curves. Left' in page


def test_a_diverged_run_is_shown(broken_page, page):
    assert "1 diverged, 1 finished" in broken_page and "<span>diverged</span>" in broken_page
    assert "diverged" not in page


def test_what_an_experiment_does_not_have_says_not_run(page, broken_page):
    for words in ("Not run: this experiment varies no setting.", "Not run: these runs have no downstream scores."):
        assert words in broken_page and words not in page
    assert "Regret to the oracle" in page and "Regret to the oracle" not in broken_page
    assert ">Discount</h3>" in page and 'download="ablation_discount_seeds.csv"' in page


def test_what_others_render_is_picked_up_by_name(page):
    section = page[page.index('id="downstream"') : page.index('id="ablations"')]
    assert "25.1" in section and 'download="downstream.csv"' in section and 'data-method="odm"' in section


def test_every_method_leads_to_its_runs_and_those_they_depend_on(page, results):
    behind, document = data_of(page)["behind"], Document(page)
    for method in results.compare:
        own = results.runs.loc[results.runs["method"] == method, "run"].tolist()
        assert behind[method][: len(own)] == own
        assert {f"run-{run}" for run in behind[method]} <= set(document.ids)
    assert behind["acodm_proxy"][5:] == [f"acodm_proxy_run-s{seed}" for seed in range(5)]
    assert '<a href="#run-acodm_proxy_run-s3">' in page
    rows = [found["data-method"] for tag, found in document.tags if tag == "tr" and "data-method" in found]
    assert set(rows) == {*results.compare, "acodm-discount-0", "acodm-discount-0.99"}


def test_a_run_shows_its_spec_and_links_to_its_files(canned_rendered, tmp_path):
    results = Results(fake_results.make(tmp_path / "results" / "canned", 1))
    spec = {"method": "odm", "options": {"alpha": 0.25}}
    (tmp_path / "results/runs/odm-s0").mkdir(parents=True)
    environment = {"packages": {"torch": "2.13.0"}}
    finish(tmp_path / "results/runs/odm-s0", spec=spec, code={"modified": True}, environment=environment)
    (tmp_path / "logs/train").mkdir(parents=True)
    (tmp_path / "logs/train/odm-s0.log").touch()
    run = next(run for run in report.runs(results, results.folder) if run["run"] == "odm-s0")
    links = dict(run["files"])
    assert json.loads(run["spec"]) == spec and ("Packages", "torch 2.13.0") in run["lines"]
    assert ("Commit", "0123456789abcdef with changes") in run["lines"]
    assert links["logs/train/odm-s0.log"] == "../../logs/train/odm-s0.log"
    assert links["results/runs/odm-s0/spec.json"] == ""  # not there
    assert (results.folder / links["results/runs/odm-s0/manifest.json"]).exists()


def test_the_main_table_holds_a_value_for_every_threshold(page, results):
    main = page[page.index('id="summary"') : page.index('id="efficiency"')]
    row = main[main.index('<tr data-method="acodm">') :]
    row = row[: row.index("</tr>")]
    for threshold in ("natural", "uniform", "best_static"):
        cells = (
            comparison.shown(comparison.table(results, threshold), fake_results.STEPS).set_index("Method").loc["AC-ODM"]
        )
        steps = cells["Steps to threshold"].split(" [")[0].replace(">", "&gt;")
        hidden = "" if threshold == style.DEFAULT_THRESHOLD else " hidden"
        assert f'<span data-threshold="{threshold}"{hidden}>{steps}' in row
        assert f'<input type="radio" name="threshold" value="{threshold}"' in page


def test_hovering_says_what_the_table_holds_where_the_line_is(page, rendered):
    lines = data_of(page)["points"]["curves"]
    line = next(one for one in lines if one["method"] == "acodm" and one["panel"] == "Validation perplexity")
    table = pd.read_csv(rendered / "curves.csv").query("method == 'acodm'")
    assert line["step"] == table["step"].tolist()
    assert line["value"][-1].startswith(f"{np.exp(table['loss'].iloc[-1]):.2f} (")
    drawn = ET.fromstring((rendered / "curves.svg").read_text())
    colour = f"stroke: {style.KNOWN['acodm']}"
    paths = [
        path.get("d").split()
        for group in drawn.iter("{http://www.w3.org/2000/svg}g")
        if group.get("data-method") == "acodm"
        for path in group.iter("{http://www.w3.org/2000/svg}path")
        if colour in path.get("style", "") and path.get("d").count("L") > 10
    ]
    ends = [(float(path[-2]), float(path[-1])) for path in paths]
    assert any(np.allclose(end, (line["x"][-1], line["y"][-1]), atol=0.15) for end in ends)


def test_large_tables_are_packed_and_small_ones_are_not(page, rendered):
    files = dict(re.findall(r'download="([^"]+)" href="data:[^,]*,([^"]*)"', page))
    assert b64decode(files["paired.csv"]) == (rendered / "paired.csv").read_bytes()
    assert gzip.decompress(b64decode(files["mixtures.csv.gz"])) == (rendered / "mixtures.csv").read_bytes()


def test_cards_are_those_of_the_mixers_at_hand(page):
    cards = page[page.index('id="cards"') : page.index('id="provenance"')]
    assert "<code>odm</code>: ODM" in cards and "<b>Idea.</b>" in cards and "<code>exp(loss)</code> &lt; 3." in cards
    assert "other" not in cards and "not one of this project's" in cards


def test_the_report_says_what_to_render_first(results, tmp_path):
    with pytest.raises(UserError, match=r"acodm_analysis\.render"):
        report.page(results, tmp_path)


def test_verdicts_stand_first(page, results):
    start = page[page.index("<main>") : page.index("<table>")]
    assert all(f">{title}</button>" in start for title in paired.table(results)["title"])


# Machado, Oliveira and Fernandes 2009, table 1, severity 1: what linear RGB becomes without one kind of cone.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours) -> np.ndarray:
    rgb = np.array([to_rgb(colour) for colour in colours])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB under D65."""
    xyz = rgb @ XYZ.T / (XYZ @ np.ones(3))
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("vision", VISIONS)
def test_known_colours_stay_apart_in_every_vision(vision):
    seen = lab(np.clip(linear(style.KNOWN.values()) @ np.asarray(VISIONS[vision]).T, 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
    assert apart.min() > 7  # 2.3 is just noticeable


def test_names_in_a_methods_colour_can_be_read():
    for colour in style.KNOWN.values():
        (rgb,) = linear([style.legible(colour)])
        assert 1.05 / (XYZ[1] @ rgb + 0.05) > 4.45
    assert style.legible("#111111") == "#111111"


# --- In a browser ------------------------------------------------------------------------------------------------------------

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


def test_the_browser_shows_every_section_and_reports_no_error(read):
    assert read["wrong"] == []
    assert read["sections"] == SECTIONS
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


@pytest.mark.parametrize("name", ["paired.md", "comparison.csv", "curves.svg"])
def test_a_rendered_file_that_was_cut_or_changed_is_refused(results, rendered, tmp_path, name) -> None:
    folder = tmp_path / "rendered"
    shutil.copytree(rendered, folder)
    whole = (folder / name).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole.replace(b"1", b"2", 1), b"", b"\xff" * 99):
        (folder / name).write_bytes(damaged)
        with pytest.raises(UserError, match="truncated or changed") as told:
            report.page(results, folder)
        assert told.value.where == str(folder / name) and "acodm_analysis.render" in told.value.fix


@pytest.mark.parametrize("lost", ["file", "mark"])
@pytest.mark.parametrize("name", ["paired.md", "comparison.csv", "regret.svg", "cards.md", "downstream.md"])
def test_a_rendered_file_that_was_lost_and_one_without_its_checksum_are_refused(
    results, rendered, tmp_path, name: str, lost: str
) -> None:
    """Also where the report can do without it: there it was."""
    folder = tmp_path / "rendered"
    shutil.copytree(rendered, folder)
    path = folder / name
    (path if lost == "file" else mark_of(path)).unlink()
    with pytest.raises(UserError) as told:
        report.page(results, folder)
    assert told.value.where == str(path) and told.value.fix
