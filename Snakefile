# From archives to the report: one include an arrow of the flow.
#
#   snakemake                                              the preset `quick`
#   snakemake --configfile workflow/config/X.yaml          another preset
#   snakemake --config 'training={"steps": 5}'             a preset with a setting laid over it
#   snakemake -n                                           plan and check, run nothing

import os
import sys
from pathlib import Path

from snakemake.utils import min_version
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

min_version("9.14")

if not workflow.overwrite_configfiles:

    configfile: str(Path(workflow.basedir, "workflow", "config", "quick.yaml"))


# Jobs find this environment's programs where it is not activated, too: in pods.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

# The Kubernetes plugin takes for granted that pods share nothing. Here they mount the working folder (workflow/profiles/kubernetes):
# checkpoints lie beside what a rule declares, and would otherwise end with their pod.
kubernetes = ExecutorPluginRegistry().plugins.get("kubernetes")
if kubernetes and not workflow.storage_settings.default_storage_provider:
    kubernetes.common_settings.implies_no_shared_fs = False


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
