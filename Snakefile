# From archives to the report: one include an arrow of the flow.
#
#   snakemake                                              the preset `quick`
#   snakemake --configfile workflow/config/X.yaml          another preset
#   snakemake -n                                           plan and check, run nothing

from snakemake.utils import min_version

min_version("9.14")

if not config:

    configfile: "workflow/config/quick.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/runs.smk"
if EXPERIMENT.downstream:

    include: "workflow/rules/downstream.smk"


include: "workflow/rules/render.smk"
include: "workflow/rules/paper.smk"


rule all:
    input:
        f"{RESULTS}/report.html",
    default_target: True
