# Collected results -> tables and figures, each with the CSV behind it -> the report.

RENDERED = f"{RESULTS}/rendered"
FIGURES = {
    "curves": "Efficiency",
    "steps_to_target": "Efficiency",
    "domains": "Quality by domain",
    "mixtures": "Mixtures",
    "overhead": "Cost",
    "cost": "Cost",
}
TABLES = ["comparison", "paired", "steps_to_target", "domains_perplexity", "repetition", "overhead", "cost"]
DRAWN = ["curves", "mixtures", "domains", "overhead_parts", "cost_phases"]  # what stands behind a figure and is no table


def figure(name):
    """A figure for Snakemake's own report, with its caption and the category it stands under."""
    return report(f"{RENDERED}/{name}.svg", caption=f"../report/{name}.rst", category=FIGURES[name])


rule render:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
    output:
        [figure(name) for name in FIGURES],
        expand(f"{RENDERED}/{{name}}.png", name=FIGURES),
        expand(f"{RENDERED}/{{name}}.csv", name=DRAWN),
        expand(f"{RENDERED}/{{name}}.{{kind}}", name=TABLES, kind=["csv", "tex"]),
        [report(f"{RENDERED}/{name}.md", caption=f"../report/{name}.rst", category="Tables") for name in TABLES],
    params:
        results=RESULTS,
        rendered=RENDERED,
    log:
        f"logs/render/{EXPERIMENT.experiment}.log",
    message:
        "Rendering tables and figures"
    shell:
        "python -m acodm_analysis.render {params.results} {params.rendered} > {log} 2>&1"


rule report:
    input:
        figures=expand(f"{RENDERED}/{{name}}.svg", name=FIGURES),
        tables=expand(f"{RENDERED}/{{name}}.md", name=TABLES),
    output:
        f"{RESULTS}/report.html",
    params:
        results=RESULTS,
        rendered=RENDERED,
    log:
        f"logs/report/{EXPERIMENT.experiment}.log",
    message:
        "Writing the report"
    shell:
        "python -m acodm_analysis.report {params.results} {params.rendered} {output} > {log} 2>&1"
