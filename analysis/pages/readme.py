"""The main table and figure of an experiment, put into the README between its two marks."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from acodm_analysis import comparison
from acodm_analysis.core.tables import markdown
from acodm_core import entry
from acodm_core.errors import UserError
from acodm_core.files import atomic
from acodm_core.results.tables import Results

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def write(results: Results, rendered: Path, readme: Path) -> None:
    """Replace what stands between the marks of ``readme``; the figure is copied to ``docs/figures`` beside it.

    Raises:
        UserError: the README has no marks.
    """
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"no {BEGIN} ... {END} in it", where=str(readme))
    name = f"{results.experiment['experiment']}-curves.svg"
    figure = readme.parent / "docs" / "figures" / name
    figure.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(rendered / "curves.svg", figure)
    runs = results.runs[results.runs.compared]
    made = (
        f"Made by `snakemake --configfile workflow/config/{results.experiment['experiment']}.yaml`: {len(results.runs)} runs,"
        f" {runs.tokens.median():,.0f} training tokens each, {runs.parameters.median():,.0f} parameters,"
        f" {len(results.domains)} domains, on {runs.hardware.iloc[0]}, {runs.precision.iloc[0]}."
    )
    table = markdown(comparison.short(results), comparison.caption(results))
    picture = f"![Validation perplexity against step](docs/figures/{name})"
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{begin}\n{table}\n{made}\n\n{picture}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m acodm_analysis.pages.readme", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder that `collect` wrote")
    parser.add_argument("rendered", type=Path, metavar="RENDERED", help="folder that `render` wrote")
    parser.add_argument("readme", type=Path, metavar="README", help="the file to change")
    arguments = parser.parse_args()
    entry.run("error", lambda: write(Results(arguments.results), arguments.rendered, arguments.readme))


if __name__ == "__main__":
    main()
