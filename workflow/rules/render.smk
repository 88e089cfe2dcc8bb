# Collected results -> tables and figures, each with the CSV behind it -> the report.

# What the outputs are, each one says in its own file of analysis/: see acodm_analysis.core.outputs.

from acodm_analysis.core.outputs import PAPER, Experiment

RENDERED = f"{RESULTS}/rendered"
HAS = Experiment(
    compare=EXPERIMENT.compare,
    axes={name: axis.title for name, axis in EXPERIMENT.axes.items()},
    downstream=bool(EXPERIMENT.downstream),
    contamination=bool(EXPERIMENT.downstream and CONTAMINATION),
)
OUTPUTS = HAS.outputs()
SCORES = [f"{RESULTS}/downstream.parquet"] if EXPERIMENT.downstream else []


def in_folder(folder, outputs):
    """The files that these outputs have in a folder; figures and cells are for Snakemake's own report, too."""
    found = []
    for one in outputs:
        shown = {f"{one.figure}.svg": "figure"} | {f"{name}.md": "table" for name in one.tables}
        for name in one.files:
            file = f"{folder}/{name}"
            if name in shown:
                caption = Path(folder, one.caption_file).absolute()  # the rule writes it
                labels = {"output": one.heading, "shown as": shown[name]}
                file = report(file, caption=str(caption), category=one.section, labels=labels)
            found.append(file)
    return found


def outputs_digest(outputs, *programs, folder=""):
    """The digest of the programs that write these outputs."""
    modules = sorted({f"acodm_analysis.{folder + '.' if folder else ''}{one.module}" for one in outputs})
    return code_digest(*programs, *modules)


rule render:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
        scores=SCORES,
    output:
        in_folder(RENDERED, OUTPUTS),
    params:
        code=outputs_digest(OUTPUTS, "acodm_analysis.render"),
        results=RESULTS,
        rendered=RENDERED,
    log:
        f"logs/render/{EXPERIMENT.experiment}.log",
    message:
        "Rendering tables and figures" + ASKS
    group:
        "tables"
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "python -m acodm_analysis.render {params.results:q} {params.rendered:q} > {log:q} 2>&1"


rule cards:
    output:
        f"{RENDERED}/cards.md",
    params:
        code=code_digest("acodm_core.reference.pages"),
        text=text_digest("acodm_baselines", "acodm_core.acodm"),  # cards are docstrings
    log:
        f"logs/cards/{EXPERIMENT.experiment}.log",
    message:
        "Writing the methods' cards" + ASKS
    group:
        "tables"
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm reference methods --out {output:q} > {log:q} 2>&1"


rule report:
    input:
        cards=f"{RENDERED}/cards.md",
        rendered=[f"{RENDERED}/{name}" for one in OUTPUTS for name in one.files],
    output:
        f"{RESULTS}/report.html",
    params:
        code=code_digest("acodm_analysis.pages.report"),
        results=RESULTS,
        rendered=RENDERED,
    log:
        f"logs/report/{EXPERIMENT.experiment}.log",
    message:
        "Writing the report" + ASKS
    group:
        "tables"
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "python -m acodm_analysis.pages.report {params.results:q} {params.rendered:q} {output:q} > {log:q} 2>&1"
