# The experiment and its plan, once; every rule reads them and nothing else. A mistake in the configuration ends here.
# Snakemake has read the same files: where a key stands twice it keeps the last, and `--config` it takes for text. So both are
# read again, by the reader that `acodm plan` has.

from snakemake.exceptions import WorkflowError

from acodm_core.errors import UserError
from acodm_core.measure.code_digest import code_digest, text_digest
from acodm_core.study.config import as_text
from acodm_core.downstream.evaluations import configured
from acodm_core.reproducing.folder_locks import hold
from acodm_core.planning.job_requests import SMALL_MB, SMALL_MINUTES, Requests, piece_minutes

try:
    EXPERIMENT, PLAN, EVALUATIONS = configured(map(Path, workflow.configfiles), workflow.config_settings.config_args)
    REQUESTS = Requests(EXPERIMENT, PLAN, Path("results", EXPERIMENT.experiment))
    # Until this process ends: whoever comes after its death finds the folder free.
    HELD = hold(PLAN.runs) if workflow.is_main_process and not workflow.output_settings.dryrun else None
except UserError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(1)

CORPUS = f"data/corpora/{EXPERIMENT.corpus.id}"
RESULTS = f"results/{EXPERIMENT.experiment}"
DEVICE = "cuda" if EXPERIMENT.resources.gpus else "cpu"
ARCHIVES = EXPERIMENT.corpus.archives()
if EXPERIMENT.downstream:
    from acodm_core.downstream.mmlu.questions import ARCHIVE, mirror_name, questions_name

    ARCHIVES |= {ARCHIVE.filename: ARCHIVE}

# What a job asks a scheduler for, after its message: the one place where a dry run shows it.
ASKS = " [{threads} threads, {resources.mem_mb} MB, {resources.runtime} minutes]"
GPU_ASKS = " [{threads} threads, {resources.gpu} GPUs, {resources.mem_mb} MB, {resources.runtime} minutes]"


wildcard_constraints:
    run="|".join(map(re.escape, PLAN.runs)),
    domain="|".join(EXPERIMENT.corpus.domains),
    archive="|".join(map(re.escape, ARCHIVES)) or "none",
    evaluation="|".join(sorted({re.escape(name) for _, name in EVALUATIONS})) or "none",


def manifests(runs):
    """The file that says a run is finished, of each of these runs."""
    return [f"results/runs/{run}/manifest.json" for run in runs]


def needed(runs):
    """The runs that these read."""
    return sorted({one for run in runs for _, one in PLAN.runs[run].needed()})


def input_flags(spec):
    """The --input options of a run: where the runs it depends on lie."""
    return [f"--input={role}=results/runs/{run}" for role, run in spec.needed()]


def machine(wildcards):
    """Threads of a job that has this machine to itself; on a cluster, where the cores of one process say nothing, a training run's."""
    return EXPERIMENT.resources.threads if workflow.remote_exec or workflow.non_local_exec else workflow.cores
