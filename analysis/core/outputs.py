"""What the report shows, in order: its sections, their blocks, and the rendered files that each is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """Files of the rendered folder: a figure (``NAME.svg``), its tables (``NAME.md``), the numbers behind them (``NAME.csv``)."""

    key: str  # of the block in the page
    heading: str
    figure: str = ""
    tables: tuple[str, ...] = ()
    data: tuple[str, ...] = ()  # files to download beside the tables' own
    words: str = ""  # what the figure shows
    required: bool = True  # False: shown where its files are


@dataclass(frozen=True)
class Section:
    key: str
    heading: str
    blocks: tuple[Block, ...]
    absent: str = ""  # said where none of its blocks is there


SECTIONS = (
    Section("efficiency", "Efficiency", (
        Block(
            "curves", "Validation curves", "curves", (), ("curves",),
            "Left: validation perplexity, exp of the mean loss over domains, on a logarithmic axis; dots mark where the"
            " median seed reaches the threshold. Right: difference to the baseline, seed by seed, and beside each name the steps"
            " to the threshold against the baseline's. Lines are medians, bands (up to eight methods) the smallest and largest"
            " seed, crosses the end of failed runs. \"Above\": a method so far off that its line leaves the axes.",
        ),
        Block(
            "steps", "Steps to threshold", "steps_to_threshold", ("steps_to_threshold",), (),
            "Median steps to each threshold, one panel per different threshold; dots are seeds. A triangle is a seed that did not"
            " get there, a dashed outline a median that did not.",
        ),
        Block("currencies", "Every threshold in every currency", tables=("currencies",)),
        Block("paired", "Difference to the baseline", tables=("paired",)),
        Block(
            "regret", "Regret to the oracle", "regret", ("regret",), (),
            "Left: the share of the gap between uniform and the oracle's test loss that each method closes, with its interval."
            " Right: total variation between its mean requested mixture and the oracle's.",
        ),
        Block(
            "profiles", "Performance profiles", "profiles", ("profiles",), ("profiles_curve",),
            "Over several workloads.", required=False,
        ),
    )),
    Section("quality", "Quality by domain", (
        Block(
            "domains", "Every domain", "domains", ("domains_perplexity",), ("domains",),
            "Final test loss of each domain against the reference, seed by seed: the median difference, blue where it is lower,"
            " bold where every seed agrees on the sign. Percentages are natural shares.",
        ),
    )),
    Section("mixtures", "Mixture dynamics", (
        Block(
            "paths", "What was asked for", "mixtures", (), ("mixtures",),
            "Share of each domain that the methods asked for, on a logarithmic axis: one thin line per seed, means over short"
            " stretches of steps.",
        ),
        Block(
            "repetition", "Epochs, and drawn against requested", "repetition", ("repetition",), (),
            "Left: how often each domain was repeated. Right: half the absolute difference of the drawn and the requested"
            " shares, as the mean over steps and over the whole run.",
        ),
        Block(
            "diagnostics", "What the agent does", "diagnostics", (), ("diagnostics",),
            "What the mixers record after a step, medians over seeds of means over short stretches; last, the distance (total"
            " variation) of the drawn from the requested mixture, of the step and of all steps so far.",
        ),
    )),
    Section("cost", "Cost", (
        Block(
            "to-threshold", "Cost to threshold", "cost", ("cost",), ("cost_phases",),
            "FLOPs and seconds to the threshold: the target run, and in a paler colour the runs it depends on, each in full. Dashed"
            " outlines with > are whole runs that did not reach it.",
        ),
        Block(
            "amortised", "When a phase is used again", "amortised", (), ("amortised",),
            "The all-in cost to the threshold per run, over how many runs use what was paid for up front, as a ratio to the"
            " baseline's; the level line without dots is the strongest cheap baseline, which pays for no phase.",
        ),
        Block("compute-matched", "The same compute in a plain mixture", tables=("compute_matched",)),
    )),
    Section("overhead", "Overhead and memory", (
        Block(
            "probe", "A step with the method", "overhead", ("overhead",), ("overhead_parts",),
            "A step with the method against a plain step: time ratio with its 95 % bootstrap interval over interleaved blocks,"
            " where the time goes, and peak memory.",
        ),
    )),
    Section("downstream", "Downstream", (
        Block(
            "scores", "Scores", "downstream", ("downstream",), (),
            "A task's share of right answers and what the right answer's text costs, with 95 % intervals over questions and"
            " seeds; against step where several checkpoints were asked. Dashed: what knowing nothing scores.", required=False,
        ),
        Block("contamination", "Questions in the training text", tables=("contamination",), required=False),
    ), "Not run: these runs have no downstream scores."),
    Section("ablations", "Ablations", (), "Not run: this experiment varies no setting."),
    Section("claims", "Claims", (
        Block("reported", "Reported beside reproduced", tables=("claims",), required=False),
        Block("plausibility", "What published figures say about each other", tables=("plausibility",), required=False),
    ), "Not run: no published claim was measured on these results."),
    Section("noise", "Noise card", (
        Block(
            "seeds", "What so many seeds can tell apart", "noise", ("noise",), ("noise_seeds",),
            "Standard deviations over seeds with their intervals, and the smallest difference that n pairs of seeds find.",
        ),
    )),
)  # fmt: skip
ABLATION = (
    "Each value of the setting on the seeds of the base: final test loss (median with its interval, seeds as small dots) and the"
    " difference to the base seed by seed. Dashed: medians of the references."
)
