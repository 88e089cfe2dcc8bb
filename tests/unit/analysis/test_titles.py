"""Titles are free text: every output shows what was written, whatever letters mean something to the format."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from acodm_analysis.core import style, tables

TITLES = [
    r"$\frac{$ & x",
    "costs $5 or $6",
    r"a_b^2 \alpha",
    "<b> & </svg>",
    "one | two",
    "100 % {run}",
    "_under",
    r"ends in \\",
]


@pytest.mark.parametrize("title", TITLES)
def test_a_figure_shows_a_title_as_it_is_written(title: str, tmp_path: Path) -> None:
    style.use()
    figure, ax = plt.subplots()
    lines = ax.plot([1, 10], [1, 1000])
    ax.set_yscale("log")
    ax.set_title(title)
    ax.set_xticks([1, 10], [title, "other"])
    figure.legend(lines, [title])
    with style.only("svg"):
        style.save(figure, "it", tmp_path)
    root = ET.parse(tmp_path / "it.svg").getroot()
    texts = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count(title) == 3, texts
    assert not any("mathdefault" in text for text in texts), "the numbers of a logarithmic axis are formulas"


@pytest.mark.parametrize("title", TITLES)
def test_a_table_holds_a_title_as_it_is_written(title: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"method": [title, "other"], "loss": ["1.0", "2.0"]})
    header, rows, caption = tables.read_markdown(tables.markdown(frame, "Caption."))
    assert (header, rows, caption) == (["method", "loss"], [[title, "1.0"], ["other", "2.0"]], "Caption.")
    tables.write_csv(frame, tmp_path / "it.csv")
    assert pd.read_csv(tmp_path / "it.csv")["method"].tolist() == [title, "other"]
    body = tables.latex(frame, "Caption.").split(r"\midrule")[1].split(r"\bottomrule")[0]
    plain = (
        body.replace(r"\textbackslash{}", "")
        .replace(r"\_", "")
        .replace(r"\$", "")
        .replace(r"\{", "")
        .replace(r"\}", "")
    )
    assert body.count(r"\\") == 2 and not set(plain.replace("$<$", "").replace("$>$", "")) & set("$_")
