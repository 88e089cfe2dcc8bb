"""What a paper takes: well-formed LaTeX, vector figures, the protocol with its numbers, BibTeX of what was compared."""

from __future__ import annotations

import re
import subprocess
import sys
from unittest.mock import patch

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from typer.testing import CliRunner

from acodm_analysis.core import style, tables
from acodm_analysis.pages import export
from acodm_core import cli
from acodm_core.mixers.find import baseline_names, find_mixer
from acodm_core.reference.pages import VARIANTS
from acodm_core.results.reader import Results

SPECIAL = re.compile(r"(?<!\\)[&%#_^~$]")
NO_PAPER = {"", "folklore"}
DRAWN = ("curves", "paper_curves", "paper_domains_figure")  # enough of the figures, which other tests look at


@pytest.fixture(scope="module")
def results(canned_results):
    return canned_results("extended")


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    out, save = tmp_path_factory.mktemp("export"), style.save

    def some(figure, name, folder):
        if name in DRAWN:
            save(figure, name, folder)
        else:
            plt.close(figure)
            (folder / f"{name}.pdf").touch()

    with patch("acodm_analysis.core.style.save", some):
        export.render_export(results, out)
    return out


def check_latex(text: str) -> None:
    """Environments nest, braces balance, and each row of a tabular has as many cells as its columns."""
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == text.count(r"\$") % 2
    assert not {letter for letter in text if not letter.isascii() and not letter.isalpha()}
    assert not re.search(r"(?<!\\)%", text.removeprefix("% Written by")), "a comment hides the rest of a line"


def check_tabular(text: str) -> None:
    columns = re.search(r"\\begin\{(?:tabular|longtable)\}\{(.*)\}$", text, re.M)[1]
    count = len(re.sub(r"p\{[^}]*\}", "p", columns))
    rows = [line for line in text.splitlines() if line.endswith(r" \\") and not line.startswith(r"\caption")]
    assert rows
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == count - 1, row
        for cell in re.split(r"(?<!\\)&", row.removesuffix(r" \\")):
            words = re.sub(r"\$[^$]*\$|\\text\w+\{\}|\\shortstack\[r\]", "", cell)
            assert not SPECIAL.search(words), cell


def test_every_table_is_well_formed_and_has_its_label(folder):
    names = sorted(path.stem for path in (folder / "tables").glob("*.tex"))
    assert {"comparison", "claims", "plausibility", "paper_cost", "paper_downstream"} <= set(names)
    for name in names:
        text = (folder / "tables" / f"{name}.tex").read_text()
        check_latex(text)
        check_tabular(text)
        assert text.count(r"\toprule") >= 1 and text.count(r"\bottomrule") == 1
        assert rf"\label{{tab:{name.replace('_', '-')}}}" in text
        assert (folder / "tables" / f"{name}.csv").stat().st_size > 0


def test_wide_tables_lie_on_their_side_and_long_ones_break(folder):
    read = {name: (folder / "tables" / f"{name}.tex").read_text() for name in ("comparison", "claims", "paper_llama")}
    assert r"\begin{sidewaystable}" in read["comparison"]
    assert r"\begin{longtable}" in read["claims"] and r"\endhead" in read["claims"]
    assert r"\begin{table}" in read["paper_llama"]


def test_specials_are_escaped_wherever_they_stand():
    hard = r"a_b & 50 % of #1 ~ {x} \y $z$ ^ ×"
    text = export.table_tex(pd.DataFrame([[hard, hard]], columns=["A & B_c", "100 %"]), f"Caption {hard}", "hard_one")
    check_latex(text)
    check_tabular(text)
    assert r"a\_b \& 50 \% of \#1 \textasciitilde{} \{x\} \textbackslash{}y \$z\$ \textasciicircum{} $\times$" in text


def test_columns_of_sentences_share_the_line():
    shown = pd.DataFrame([["x", "1.0", "s " * 60, "s " * 30]], columns=list("abcd"))
    widths = [float(width) for width in re.findall(r"p\{([\d.]+)\\linewidth\}", tables.column_types(shown))]
    assert len(widths) == 2 and widths[0] > widths[1] and sum(widths) < 0.95
    assert tables.column_types(shown[["a", "b"]]) == "lr"


def test_figures_are_pdfs_with_embedded_fonts_and_no_dates(folder, results, tmp_path):
    figures = [folder / "figures" / f"{name}.pdf" for name in DRAWN]
    for path in figures:
        data = path.read_bytes()
        assert data.startswith(b"%PDF") and b"CreationDate" not in data
        assert b"/Type3" not in data  # journals refuse Type 3 fonts
    assert not list(folder.rglob("*.png")) and not list(folder.rglob(".*.part"))


def test_the_protocol_is_latex_with_the_numbers_filled_in(folder, results):
    text = (folder / "protocol.tex").read_text()
    check_latex(text)
    assert "<<" not in text and "<%" not in text
    for words in (
        "300 optimiser steps of 32 sequences",
        "2.46M tokens",
        "seeds 0, 1, 2, 3, 4",
        r"\cite{albalak2023odm}",
    ):
        assert words in text
    assert r"12 domains (python\_code, web\_pages," in text


def test_the_protocol_names_the_optimiser_where_the_plan_is_there(results, tmp_path):
    for path in results.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "plan.json").write_text(
        '{"training": {"warmup": 0.05, "betas": [0.9, 0.95], "weight_decay": 0.1, "clip": 1.0}}'
    )
    text = export.protocol(Results(tmp_path))
    assert r"warm-up over 5.0 \% of the steps, AdamW with $\beta = (0.9, 0.95)$" in text


def test_a_broken_experiment_still_gives_a_protocol(canned_results):
    text = export.protocol(canned_results("extended", broken=True))
    check_latex(text)
    assert "seeds 0, 1" in text


def test_every_mixer_that_has_a_paper_has_its_entry():
    known = export.references()
    for name in [*baseline_names(), *VARIANTS]:
        key = find_mixer(name).cite
        if key not in NO_PAPER:
            assert key in known, f"{name}: no entry {key} in references.bib"
            assert export.cites([name]) == [key], name


def test_every_entry_has_author_title_and_year_and_balanced_braces():
    for key, entry in export.references().items():
        for field in ("author", "title", "year"):
            assert re.search(rf"^  {field} = \{{.+\}},$", entry, re.M), f"{key} has no {field}"
        assert entry.count("{") == entry.count("}")
        assert entry.endswith("\n}")
        assert re.search(r"\d{4}", key)[0] in entry


def test_the_bibliography_holds_what_was_compared_and_the_paper_studied(folder):
    text = (folder / "references.bib").read_text()
    keys = re.findall(r"^@\w+\{([^,]+),", text, re.M)
    assert keys == ["acodm2026", "albalak2023odm"]
    assert "mixers" not in text
    cited = {
        key
        for group in re.findall(r"\\cite\{([^}]+)\}", (folder / "protocol.tex").read_text())
        for key in group.split(",")
    }
    assert cited <= set(keys)


def test_a_static_method_cites_the_search_behind_it(results):
    runs = results.runs.copy()
    runs.loc[runs["method"] == "acodm_proxy", "mixer"] = "static"
    runs.loc[runs["method"] == "acodm_proxy_run", "mixer"] = "doge"
    clone = Results(results.folder)
    clone.__dict__["runs"] = runs
    assert export.cites(export.mixers_of(clone, "acodm_proxy")) == ["fan2024doge"]


def test_the_readme_names_every_file_and_the_preamble(folder):
    text = (folder / "README.md").read_text()
    for path in [*(folder / "tables").glob("*.tex"), *(folder / "figures").glob("*.pdf")]:
        assert f"- {path.stem}: " in text
    assert r"\usepackage{booktabs" in text


def test_the_command_hands_over_to_the_analysis_and_passes_its_status_on(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(
        subprocess, "run", lambda command: called.append(command) or subprocess.CompletedProcess(command, 3)
    )
    for experiment, folder in (("quick", "results/quick"), (str(tmp_path), str(tmp_path))):
        done = CliRunner().invoke(cli.app, ["export", experiment, "--out", "there"])
        assert done.exit_code == 3
        assert called[-1][1:] == ["-m", "acodm_analysis.pages.export", folder, "there"]


def test_an_unknown_experiment_is_an_error_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "nothing"), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="1"):
        tables.program("export", export.__doc__, export.render_export)
    assert "nothing/experiment.json: file not found" in capsys.readouterr().err
