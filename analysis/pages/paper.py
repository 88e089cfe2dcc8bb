"""The AC-ODM paper's tables and figures beside ours, and ``paper.md``, which shows them in order."""

from __future__ import annotations

from pathlib import Path

from acodm_analysis.core.outputs import PAPER
from acodm_analysis.core.tables import program
from acodm_analysis.paper.published_tables import here
from acodm_analysis.render import outputs_of, render
from acodm_core.files import atomic
from acodm_core.results.reader import Results


def render_paper(results: Results, out: Path) -> None:
    """Render the outputs of ``paper`` and the page that shows them."""
    render(results, out, PAPER)
    outputs = outputs_of(results, PAPER)
    parts = [f"# The AC-ODM paper's tables and figures, beside {results.experiment['experiment']}\n\n{here(results)}\n"]
    for name in (name for one in outputs for name in one.tables):
        words = name.removeprefix("paper_").replace("_", " ").capitalize()
        parts.append(f"## {words}\n\n{(out / f'{name}.md').read_text(encoding='utf-8')}")
    for one in outputs:
        if one.figure:
            parts.append(f"## {one.heading}\n\n![{one.figure}]({one.figure}.svg)\n\n{one.caption}\n")
    with atomic(out / "paper.md") as temporary:
        temporary.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    program("pages.paper", __doc__, render_paper)
