# Collected results -> the AC-ODM paper's tables and figures beside ours (`snakemake paper`), and what a paper of one's own takes:
# tables, figures, protocol and BibTeX (`snakemake export`).

PAPER = f"{RESULTS}/paper"
PAPER_FIGURES = ["paper_curves", "paper_domains_figure"]
if {"granularity", "proxy_size", "architecture"} & set(EXPERIMENT.axes):
    PAPER_FIGURES.append("paper_axes")
PAPER_TABLES = ["downstream", "cost", "domains_published", "domains", "granularity", "llama", "proxy"]


rule paper:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
        scores=SCORES,
    output:
        f"{PAPER}/paper.md",
        expand(f"{PAPER}/{{name}}.{{kind}}", name=PAPER_FIGURES, kind=["png", "csv"]),
        expand(f"{PAPER}/paper_{{name}}.{{kind}}", name=PAPER_TABLES, kind=["csv", "tex"]),
        [report(f"{PAPER}/{name}.svg", caption=f"../report/{name}.rst", category="The paper") for name in PAPER_FIGURES],
        [report(f"{PAPER}/paper_{name}.md", caption="../report/paper_table.rst", category="The paper") for name in PAPER_TABLES],
    params:
        code=code_digest("acodm_analysis.paper.paper_tables"),
        results=RESULTS,
        paper=PAPER,
    log:
        f"logs/paper/{EXPERIMENT.experiment}.log",
    message:
        "The AC-ODM paper's tables and figures, beside {EXPERIMENT.experiment}" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "python -m acodm_analysis.paper.paper_tables {params.results:q} {params.paper:q} > {log:q} 2>&1"


rule export:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
        scores=SCORES,
    output:
        expand(f"{RESULTS}/export/{{name}}", name=["README.md", "protocol.tex", "references.bib"]),
    params:
        code=code_digest("acodm_analysis.pages.export"),
        results=RESULTS,
        out=f"{RESULTS}/export",
    log:
        f"logs/export/{EXPERIMENT.experiment}.log",
    message:
        "Exporting {EXPERIMENT.experiment} for a paper" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm export {params.results:q} --out {params.out:q} > {log:q} 2>&1"
