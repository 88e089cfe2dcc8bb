"""Every table and figure of an experiment in one go: what the modules that register an output write, into one folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from acodm_analysis import comparison
from acodm_analysis.core.evaluated import CONTAMINATION, downstream
from acodm_analysis.core.outputs import Experiment, Output
from acodm_analysis.core.tables import program
from acodm_core.files import atomic
from acodm_core.results.reader import Results


def experiment_of(results: Results) -> Experiment:
    """What decides which outputs these results have."""
    return Experiment(
        compare=results.compare,
        axes={axis: about["title"] for axis, about in results.axes.items()},
        downstream=len(downstream(results)) > 0,
        contamination=(results.folder / CONTAMINATION).exists(),
    )


def outputs_of(results: Results, folder: str = "") -> tuple[Output, ...]:
    """The outputs that these results have something for, of the modules in ``folder`` of the analysis."""
    return experiment_of(results).outputs(folder)


def render(results: Results, out: Path, folder: str = "") -> None:
    """Write every output of ``folder``, and a caption for each, as Snakemake's own report takes it."""
    outputs = outputs_of(results, folder)
    for module in dict.fromkeys(one.module for one in outputs):
        import_module(".".join(filter(None, ("acodm_analysis", folder, module)))).render(results, out)
    for one in outputs:
        with atomic(out / one.caption_file) as temporary:
            temporary.write_text(f"**{one.heading}.** {one.caption}\n", encoding="utf-8")


if __name__ == "__main__":
    program("render", __doc__, render, comparison.show)
