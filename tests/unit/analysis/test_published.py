"""The file of published claims: its mistakes are named, its values follow from its tables, and what arithmetic says of them."""

from __future__ import annotations

import pytest
import yaml

from acodm_analysis import plausibility
from acodm_analysis.paper import arithmetic
from acodm_analysis.paper.published import FILE, published, read
from acodm_core.errors import UserError


def changed_file(tmp_path, change) -> object:
    raw = yaml.safe_load(FILE.read_text())
    change(raw)
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def first(**fields):
    return lambda raw: raw["claims"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (first(measure={"fewer_step": {"method": "acodm", "to": "odm"}}), "unknown function 'fewer_step'"),
        (first(measure={"fewer_steps": {"method": "acodm"}}), "missing a required argument: 'to'"),
        (first(measure={"fewer_steps": {"method": "acodm", "to": "exp3"}}), "unknown method 'exp3'"),
        (first(measure="fewer_steps(method=acodm)"), "write one function and its arguments"),
        (first(plausible=[{"fewer_steps_from": {"steps": 1, "of": 0, "printed": 1}}]), "cannot be computed"),
        (first(plausible=[{"fewer_steps_from": {"steps": 1, "of": "many", "printed": 1}}]), "cannot be computed"),
        (first(value=-3), "is not above `none`"),
        (first(unmeasured="twice"), "either `measure` or"),
        (first(none=None), "`none` is missing"),
        (first(of="nobody"), "unknown method 'nobody'"),
        (first(colour="red"), "Extra inputs"),
        (lambda raw: raw["claims"].append(raw["claims"][0]), "two claims of that name"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_claim(tmp_path, change, words):
    with pytest.raises(UserError) as error:
        read(changed_file(tmp_path, change))
    assert words in str(error.value) and "acodm-fewer-steps" in str(error.value)


def test_values_of_claims_follow_from_the_tables():
    """A figure given as a difference or a share in a claim is that of the table it is from."""
    known = {one.name: one.value for one in published().claims}
    down, cost = published().tables["downstream"].rows, published().tables["cost"].rows
    for name, method, other, column in (
        ("acodm-proxy-mmlu-0", "acodm_proxy", "odm", "mmlu_0"),
        ("acodm-proxy-mmlu-5", "acodm_proxy", "odm", "mmlu_5"),
        ("acodm-mmlu-0", "acodm", "odm", "mmlu_0"),
    ):
        assert known[name] == pytest.approx(100 * (down[method][column] - down[other][column]), abs=0.006)
    assert known["acodm-proxy-mmlu-level"] == pytest.approx(100 * down["acodm_proxy"]["mmlu_5"], abs=0.05)
    assert known["acodm-proxy-humaneval"] == pytest.approx(
        down["acodm_proxy"]["humaneval"] / down["odm"]["humaneval"], abs=0.01
    )
    assert known["pike-fewer-steps"] == pytest.approx(
        100 * (1 - cost["pike"]["steps"] / cost["odm"]["steps"]), abs=0.01
    )
    assert known["pike-step-time"] == pytest.approx(
        cost["pike"]["step_seconds"] / cost["odm"]["step_seconds"], abs=1e-3
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("acodm-proxy-fewer-steps", "71.2 % fewer; printed: 71"),
        ("acodm-proxy-fewer-steps-competitors", "71.2 % fewer; printed: 66, which is another number"),
        ("acodm-proxy-fewer-steps-pile-weights", "before step 41,667; printed: 80"),
        ("acodm-proxy-fewer-steps-non-proxy", "before step 41,667; printed: 64"),
        ("acodm-proxy-fewer-steps", "3.8 times as many"),
        ("acodm-agent-size", "17,322,072 parameters"),
        ("acodm-memory", "4.43 GB"),
        ("acodm-step-time", "181 GB/s"),
        ("acodm-speed-up", "is 1.46; printed: 1.46"),
        ("acodm-proxy-speed-up", "0.97 s for each of 41,667 steps: 39 %"),
        ("acodm-proxy-mmlu-0", "0.207 is 11.8 standard errors below chance"),
        ("acodm-proxy-mmlu-0", "below what one letter throughout scores"),
        ("acodm-mmlu-0", "no more than guessing"),
        ("acodm-proxy-humaneval", "1.2 of 164 problems and 0.325 is 0.5"),
        ("acodm-proxy-humaneval", "no whole number of problems"),
        ("acodm-granularity-half", "is the Pile weights' final perplexity"),
        ("hds-fewer-steps", "leaves out AC-ODM-410M"),
        ("regmix-search-cost", "is 90 % of 1.34e+18; printed: 10"),
    ],
)
def test_the_arithmetic_says_what_is_known_of_the_published_figures(name, words):
    rows = plausibility.table().query("claim == @name")["arithmetic"]
    assert rows.str.contains(words, regex=False).any(), rows.tolist()


@pytest.mark.parametrize(
    ("found", "odd"),
    [
        (arithmetic.chance_level(0.30, 0.25, 14042), False),
        (arithmetic.chance_level(0.22, 0.25, 14042), True),
        (arithmetic.multiple_of_problems(82 / 164, 164), False),
        (arithmetic.above_public(0.26, {"a model": 0.257}, 14042), False),
        (arithmetic.problems_solved(50.0, 10.0, 164), False),
        (arithmetic.proxy_charge(10_000, 2.0, 40_000, 2.0, proxy=0.4, target=1.0), False),
        (arithmetic.proxy_charge(20_000, 2.0, 40_000, 1.95, proxy=0.4, target=1.0), True),
        (arithmetic.left_out(10.0, 11.0, "a rival"), False),
    ],
)
def test_a_figure_is_odd_only_where_the_arithmetic_is_against_it(found, odd):
    assert found.odd is odd, found.text
