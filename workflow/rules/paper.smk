# Collected results -> the AC-ODM paper's tables and figures beside ours (`snakemake paper`), and what a paper of one's own takes:
# tables, figures, protocol and BibTeX (`snakemake export`).

BESIDE = f"{RESULTS}/paper"
PAPER_OUTPUTS = HAS.outputs(PAPER)


rule paper:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
        scores=SCORES,
    output:
        f"{BESIDE}/paper.md",
        in_folder(BESIDE, PAPER_OUTPUTS),
    params:
        code=outputs_digest(PAPER_OUTPUTS, "acodm_analysis.pages.paper", folder=PAPER),
        results=RESULTS,
        paper=BESIDE,
    log:
        f"logs/paper/{EXPERIMENT.experiment}.log",
    message:
        "The AC-ODM paper's tables and figures, beside {EXPERIMENT.experiment}" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "python -m acodm_analysis.pages.paper {params.results:q} {params.paper:q} > {log:q} 2>&1"


rule export:
    input:
        runs=f"{RESULTS}/runs.parquet",
        experiment=f"{RESULTS}/experiment.json",
        probe=f"{RESULTS}/probe/probe.parquet",
        scores=SCORES,
    output:
        expand(f"{RESULTS}/export/{{name}}", name=["README.md", "protocol.tex", "references.bib"]),
    params:
        code=outputs_digest(OUTPUTS, "acodm_analysis.pages.export"),
        paper_code=outputs_digest(PAPER_OUTPUTS, folder=PAPER),
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
