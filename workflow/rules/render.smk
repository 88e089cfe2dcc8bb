# Collected results -> tables and figures, each with the CSV behind it -> the report.

RENDERED = f"{RESULTS}/rendered"
FIGURES = {
    "curves": "Efficiency",
    "steps_to_threshold": "Efficiency",
    "domains": "Quality by domain",
    "mixtures": "Mixtures",
    "repetition": "Mixtures",
    "diagnostics": "Mixtures",
    "overhead": "Cost",
    "cost": "Cost",
    "amortised": "Cost",
    "noise": "Quality by domain",
}
TABLES = ["comparison", "paired", "steps_to_threshold", "domains_perplexity", "repetition", "overhead", "cost"]
TABLES += ["currencies", "compute_matched", "noise", "claims", "plausibility"]
# What stands behind a figure and is no table.
DRAWN = ["curves", "mixtures", "diagnostics", "domains", "overhead_parts", "cost_phases", "amortised", "noise_seeds"]
CAPTIONS = {name: f"../report/{name}.rst" for name in [*FIGURES, *TABLES]}

for axis in EXPERIMENT.axes:
    FIGURES[f"ablation_{axis}"] = "Ablations"
    TABLES.append(f"ablation_{axis}")
    DRAWN.append(f"ablation_{axis}_seeds")
    CAPTIONS[f"ablation_{axis}"] = "../report/ablation.rst"
if "oracle" in EXPERIMENT.compare:
    FIGURES["regret"] = "Efficiency"
    TABLES.append("regret")
    CAPTIONS["regret"] = "../report/regret.rst"
SCORES = []
if EXPERIMENT.downstream:
    SCORES = [f"{RESULTS}/downstream.parquet"]
    FIGURES["downstream"] = "Downstream"
    asked = ["downstream", "contamination"] if CONTAMINATION else ["downstream"]
    TABLES += asked
    CAPTIONS |= {name: f"../report/{name}.rst" for name in asked}


def figure(name):
    """A figure for Snakemake's own report, with its caption and the category it stands under."""
    return report(f"{RENDERED}/{name}.svg", caption=CAPTIONS[name], category=FIGURES[name])


rule render:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
        scores=SCORES,
    output:
        [figure(name) for name in FIGURES],
        expand(f"{RENDERED}/{{name}}.png", name=FIGURES),
        expand(f"{RENDERED}/{{name}}.csv", name=DRAWN),
        expand(f"{RENDERED}/{{name}}.{{kind}}", name=TABLES, kind=["csv", "tex"]),
        [report(f"{RENDERED}/{name}.md", caption=CAPTIONS[name], category="Tables") for name in TABLES],
    params:
        code=code_digest("acodm_analysis.render"),
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
        figures=expand(f"{RENDERED}/{{name}}.svg", name=FIGURES),
        tables=expand(f"{RENDERED}/{{name}}.md", name=TABLES),
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
