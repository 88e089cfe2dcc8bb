"""Results of record: what an experiment found, as two small files of ``board/``, and the pages that are made of them.

``add`` writes board/NAME.parquet (the numbers of the main table, a row per method), board/NAME.json (its cells, and where they come
from) and board/NAME.svg (loss curves). ``pages`` makes the README's table and docs/results/NAME.md of these files alone.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from acodm_analysis import comparison
from acodm_analysis.core.tables import markdown
from acodm_core import ARITHMETIC, PROTOCOL, entry
from acodm_core.errors import UserError
from acodm_core.files import atomic, read_json, write_json
from acodm_core.results.reader import Results

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
IN_THE_README = "quick"  # the experiment whose table and figure the README shows
KEYS = ("experiment", "protocol", "date", "commit", "hardware", "table", "caption", "setting")


def add(results: Results, rendered: Path, board: Path) -> None:
    """Record an experiment: its files in ``board`` are written, or written anew.

    Raises:
        UserError: results that were made by code with changes that no commit holds, or that were not rendered.
    """
    described, runs = results.experiment, results.runs[results.runs.compared]
    name, code = described["experiment"], described["code"]
    if code.get("modified"):
        changed = ", ".join(code.get("changed", [])[:3])
        raise UserError(
            f"made by code that no commit holds: {changed}", where=str(results.folder), fix="commit, then run it again"
        )
    if not (curves := rendered / "curves.svg").is_file():
        raise UserError("file not found", where=str(curves), fix=f"render the results: acodm reproduce {name}")
    frame, cells = comparison.table(results), comparison.short(results)
    entry_of_record = {
        "experiment": name,
        "protocol": PROTOCOL,
        "arithmetic": ARITHMETIC,
        "date": datetime.date.today().isoformat(),
        "commit": code.get("commit"),
        "corpus": described["corpus"]["id"],
        "hardware": sorted(set(runs.hardware)),
        "seeds": described["seeds"],
        "runs": described["runs"],
        "setting": (
            f"{len(results.runs)} runs, {runs.tokens.median():,.0f} training tokens each,"
            f" {runs.parameters.median():,.0f} parameters, {len(results.domains)} domains, {runs.precision.iloc[0]}"
        ),
        "table": {"header": list(cells.columns), "rows": cells.astype(str).to_numpy().tolist()},
        "caption": comparison.caption(results),
    }
    board.mkdir(parents=True, exist_ok=True)
    with atomic(board / f"{name}.parquet") as temporary:
        frame.to_parquet(temporary, index=False)
    with atomic(board / f"{name}.svg") as temporary:
        shutil.copyfile(curves, temporary)
    write_json(board / f"{name}.json", entry_of_record)


def pages(board: Path, root: Path) -> list[Path]:
    """Write docs/results/NAME.md of every recorded experiment below ``root``, and the README's block; returns what was written.

    Raises:
        UserError: a file of the board that is no record, or a README without its marks.
    """
    written = []
    for path in sorted(board.glob("*.json")):
        record = _read(path)
        name = record["experiment"]
        figure = root / "docs" / "figures" / f"{name}-curves.svg"
        figure.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.with_suffix(".svg"), figure)
        page = root / "docs" / "results" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        with atomic(page) as temporary:
            temporary.write_text(_page(record), encoding="utf-8")
        written.append(page)
        if name == IN_THE_README:
            _put(root / "README.md", f"{_table(record)}\n{_source(record)}\n\n{_picture(name, 'docs/figures')}")
            written.append(root / "README.md")
    return written


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path, fix="record it again: acodm board add NAME")
    if missing := [key for key in KEYS if key not in record]:
        raise UserError(f"not a record of the board: it has no {', '.join(missing)}", where=str(path))
    if record["protocol"] != PROTOCOL:
        raise UserError(
            f"a record of protocol {record['protocol']}, this code has {PROTOCOL}",
            where=str(path),
            fix="run it again, or move it to docs/log",
        )
    return record


def _table(record: dict[str, Any]) -> str:
    cells = record["table"]
    return markdown(pd.DataFrame(cells["rows"], columns=cells["header"]), record["caption"])


def _source(record: dict[str, Any]) -> str:
    return (
        f"`acodm reproduce {record['experiment']}` on {record['date']}: {record['setting']}, on"
        f" {', '.join(record['hardware'])}. Code: commit {(record['commit'] or 'unknown')[:10]}. Protocol {record['protocol']}."
    )


def _picture(name: str, folder: str) -> str:
    return f"![Validation perplexity against step]({folder}/{name}-curves.svg)"


def _page(record: dict[str, Any]) -> str:
    name = record["experiment"]
    return (
        f"# Results: {name}\n\nGenerated from `board/{name}.json` by `acodm board pages`.\n\n{_source(record)}\n\n"
        f"{_table(record)}\n{_picture(name, '../figures')}\n"
    )


def _put(readme: Path, text: str) -> None:
    """Replace what stands between the two marks."""
    before = readme.read_text(encoding="utf-8")
    if not re.search(f"{re.escape(BEGIN)}.*{re.escape(END)}", before, re.DOTALL):
        raise UserError(f"no {BEGIN} ... {END} in it", where=str(readme))
    head, _, rest = before.partition(BEGIN)
    tail = rest.partition(END)[2]
    with atomic(readme) as temporary:
        temporary.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m acodm_analysis.pages.board", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="record a rendered experiment")
    adding.add_argument("results", type=Path, metavar="RESULTS", help="folder that `collect` wrote")
    making = commands.add_parser("pages", help="make the pages of what is recorded")
    making.add_argument("root", type=Path, metavar="ROOT", help="folder of README.md and docs/")
    for command in (adding, making):
        command.add_argument("--board", type=Path, default=Path("board"), help="folder of the records; default: board")
    given = parser.parse_args()
    if given.command == "add":
        entry.run("error", lambda: add(Results(given.results), given.results / "rendered", given.board))
    else:
        entry.run("error", lambda: pages(given.board, given.root))


if __name__ == "__main__":
    main()
