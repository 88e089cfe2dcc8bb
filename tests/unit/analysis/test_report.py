"""The report: whole and self-contained as a document."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import xml.etree.ElementTree as ET
from base64 import b64decode
from html.parser import HTMLParser

import fake_results
import numpy as np
import pandas as pd
import pytest
from fake_runs import finish

from acodm_analysis import comparison
from acodm_analysis.core import pairs, style
from acodm_analysis.pages import report
from acodm_core.errors import UserError
from acodm_core.results.reader import Results
from acodm_core.seals import mark_of

SECTIONS = [
    "summary",
    "efficiency",
    "quality-by-domain",
    "mixture-dynamics",
    "cost",
    "overhead-and-memory",
    "downstream",
]
SECTIONS += ["ablations", "claims", "noise-card", "cards", "provenance"]


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
def results(full_report):
    return full_report.results


@pytest.fixture(scope="module")
def rendered(full_report):
    return full_report.rendered


@pytest.fixture(scope="module")
def page(full_report):
    return full_report.page


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
    section = page[page.index('id="efficiency"') : page.index('id="quality-by-domain"')]
    assert "25.1" in section and 'download="profiles.csv"' in section and 'data-method="odm"' in section


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
    assert all(f">{title}</button>" in start for title in pairs.table(results)["title"])


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
@pytest.mark.parametrize("name", ["paired.md", "comparison.csv", "regret.svg", "cards.md", "profiles.md"])
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
