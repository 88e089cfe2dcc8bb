"""Files for `acodm score` that are wrong: each is refused with its line, at once, and none ends in another exception."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from acodm_core.errors import UserError
from acodm_core.results.external_runs import score
from acodm_core.results.reader import Results

EXAMPLE = re.search(r"```jsonl\n(.*?)```", (Path(__file__).parents[3] / "docs/how-to/score.md").read_text(), re.S)[1]
LINES = [json.loads(line) for line in EXAMPLE.splitlines()]
HEADER, RUN, POINT = 1, 7, 10  # lines of the example, from 1

NUMBERS = [True, -1, "5", [], {}, [1], 1e308, 10**30, float("nan"), float("inf")]
SHARES = [
    5,
    "x",
    [1],
    {"code": True, "prose": 1},
    {"code": -1, "prose": 2},
    {"code": 1},
    {"code": float("nan"), "prose": 1},
]
SHARES += [{"code": 0.5, "prose": 0.4, "nope": 0.1}, {"code": 1e308, "prose": 1}]
TEXTS = [None, True, 5, "", [], "a\u2028b", "a\nb", 500 * "a"]
WRONG: list[tuple[int, str, list[Any]]] = [
    (HEADER, "experiment", [*TEXTS, "../evil", "a b"]),
    (HEADER, "baseline", [*TEXTS, "nobody"]),
    (
        HEADER,
        "train_tokens",
        [None, 5, {}, {"code": 0, "prose": 1}, {"code": 1.5, "prose": 1}, {"code": True, "prose": 1}, {"code": 1}],
    ),
    (HEADER, "batch", [*NUMBERS, 0, 1.5, None]),
    (HEADER, "context", [*NUMBERS, 0, 1.5, None]),
    (HEADER, "steps", [*NUMBERS, 0, 1.5, 50, 200, 10**17]),
    (
        HEADER,
        "objective_weights",
        [5, {"nope": 1}, {"code": 0, "prose": 0}, {"code": -1}, {"code": float("nan")}, {"code": 1e308}],
    ),
    (HEADER, "titles", [5, {"nobody": "x"}, {"mine": "a\nb"}, {"mine": 5}]),
    (HEADER, "evaluation", [5, {"context": "x"}, {"context": True}]),
    (HEADER, "unknown", [1]),
    (RUN, "run", [*TEXTS, "natural-0"]),
    (RUN, "method", [*TEXTS, "natural"]),
    (RUN, "seed", [*NUMBERS, 1.5, None]),
    (RUN, "status", [*TEXTS, "done"]),
    (RUN, "compared", [0, "true", None]),
    (RUN, "after", ["natural-0", ["nobody"], ["mine-0"], ["natural-0", "natural-0"], [1]]),
    (RUN, "flops", [*NUMBERS, 0]),
    (RUN, "unknown", [1]),
    (POINT, "run", [*TEXTS, "nobody"]),
    (POINT, "step", [*NUMBERS, 1.5, None, 10, 1e17, 10**17, 10**8]),
    (POINT, "tokens", [*NUMBERS, 0, 5, 1.5, None]),
    (POINT, "split", [*TEXTS, "dev"]),
    (POINT, "loss", [*SHARES, {}]),
    (POINT, "bits_per_byte", SHARES),
    (POINT, "weights", [*SHARES, {"code": 0.2, "prose": 0.2}]),
    (POINT, "drawn", [*SHARES, {"code": 0.2, "prose": 0.2}]),
    (POINT, "seconds", [value for value in NUMBERS if value != 10**30]),
]
FILES: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "blank lines": lambda text: "\n\n  \n",
    "UTF-16": lambda text: text.encode("utf-16"),
    "binary": lambda text: b"\x00\xff\xfe",
    "gzip": lambda text: gzip.compress(text.encode()),
    "a list": lambda text: "[1]\n",
    "cut short": lambda text: text[:-30],
    "a key twice": lambda text: text.replace('"batch": 8', '"batch": 8, "batch": 9'),
    "deep": lambda text: text + 100_000 * "[" + 100_000 * "]",
    "deep in a value": lambda text: text.replace('"batch": 8', f'"batch": {500 * "[" + 500 * "]"}'),
    "an endless number": lambda text: text.replace('"batch": 8', f'"batch": {5000 * "9"}'),
    "an endless word": lambda text: text.replace('"cosine"', f'"{10**6 * "c"}"'),
    "no header": lambda text: text.split("\n", 1)[1],
    "two headers": lambda text: text.split("\n", 1)[0] + "\n" + text,
    "a header alone": lambda text: text.split("\n", 1)[0],
    "runs without points": lambda text: "\n".join(text.split("\n")[:2]),
    "a point twice": lambda text: text.replace(text.split("\n")[4], "\n".join(2 * [text.split("\n")[4]])),
    "steps in reverse": lambda text: "\n".join(
        [*text.split("\n")[:2], *text.split("\n")[5:1:-1], *text.split("\n")[6:]]
    ),
    "nothing compared": lambda text: text.replace('"seed": 0', '"seed": 0, "compared": false'),
    "one run with two seeds": lambda text: text.replace('"run": "mine-0", "method"', '"run": "natural-0", "method"'),
    "a line end that is none": lambda text: text.replace('"one GPU"', '"one\u2028GPU"'),
}


def changed(number: int, key: str, value: Any) -> str:
    lines = [line | {key: value} if i == number else line for i, line in enumerate(LINES, 1)]
    return "\n".join(map(json.dumps, lines))


def refused(text: str | bytes, folder: Path) -> str:
    (folder / "runs.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        score(folder / "runs.jsonl", folder / "out")
    said = str(error.value)
    assert "runs.jsonl" in said and len(said) < 1000 and not (folder / "out").exists()
    return said


@pytest.mark.parametrize(("number", "key", "values"), WRONG, ids=[f"{number}-{key}" for number, key, _ in WRONG])
def test_a_wrong_value_of_a_field_is_refused(number: int, key: str, values: list[Any], tmp_path: Path) -> None:
    for value in values:
        try:
            refused(changed(number, key, value), tmp_path)
        except BaseException as error:
            raise AssertionError(f"not refused as it should be: {key}: {value!r:.100}") from error


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_is_refused(kind: str, tmp_path: Path) -> None:
    assert FILES[kind](EXAMPLE) != EXAMPLE
    refused(FILES[kind](EXAMPLE), tmp_path)


@pytest.mark.parametrize(("mark", "end"), product(["", "\ufeff"], ["\n", "\r\n"]))
def test_a_byte_order_mark_and_any_line_end_are_read(mark: str, end: str, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_bytes((mark + EXAMPLE.strip().replace("\n", end)).encode())
    score(tmp_path / "runs.jsonl", tmp_path / "out")
    assert set(Results(tmp_path / "out").runs["run"]) == {"natural-0", "mine-0"}


def test_a_stage_that_tells_no_loss_is_read(tmp_path: Path) -> None:
    stage = [{"run": "search", "method": "search", "seed": 0, "compared": False}]
    stage += [{"run": "search", "step": 10, "tokens": 100, "weights": {"code": 0.5, "prose": 0.5}}]
    (tmp_path / "runs.jsonl").write_text(EXAMPLE + "\n".join(map(json.dumps, stage)))
    score(tmp_path / "runs.jsonl", tmp_path / "out")
    results = Results(tmp_path / "out")
    assert "search" not in set(results.metrics["run"]) and (results.mixture["run"] == "search").sum() == 2 * 10


def test_a_run_of_many_points_is_read_in_seconds(tmp_path: Path) -> None:
    """20,001 points took a minute when each was compared with all before it."""
    shares = {"code": 0.5, "prose": 0.5}
    points = [
        {"run": "natural-0", "step": i, "tokens": 10 * i, "loss": shares, "weights": shares} for i in range(20_001)
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, [*LINES[:2], *points])))
    before = time.process_time()
    score(tmp_path / "runs.jsonl", tmp_path / "out")
    assert time.process_time() - before < 20


def test_a_mixture_holds_for_all_steps_since_the_point_before(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text(EXAMPLE)
    score(tmp_path / "runs.jsonl", tmp_path / "out")
    mine = Results(tmp_path / "out").mixture.query("run == 'mine-0' and domain == 'code'").sort_values("step")
    assert mine["step"].tolist() == list(range(1, 101))
    assert mine["requested"].tolist() == 50 * [0.5] + 50 * [0.4]
