# The experiment and its plan, once; every rule reads them and nothing else. A mistake in the configuration ends here.

from snakemake.exceptions import WorkflowError

from acodm_core.errors import UserError
from acodm_core.study.config import load_experiment
from acodm_core.study.planner import plan

try:
    EXPERIMENT = load_experiment(config)
    PLAN = plan(EXPERIMENT)
except UserError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(1)

CORPUS = f"data/corpora/{EXPERIMENT.corpus.id}"
RESULTS = f"results/{EXPERIMENT.experiment}"
STAGES = sorted({run for spec in PLAN.runs.values() for run in spec.inputs.values()})
DEVICE = "cuda" if EXPERIMENT.resources.gpus else "cpu"


wildcard_constraints:
    run="|".join(map(re.escape, PLAN.runs)),
    domain="|".join(EXPERIMENT.corpus.domains),
    archive="|".join(map(re.escape, EXPERIMENT.corpus.archives())) or "none",


def manifests(runs):
    """The file that says a run is finished, of each of these runs."""
    return [f"results/runs/{run}/manifest.json" for run in runs]


def input_flags(spec):
    """The --input options of a run: where the runs it depends on lie."""
    return [f"--input={role}=results/runs/{run}" for role, run in spec.inputs.items()]
