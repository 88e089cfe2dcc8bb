# Plan -> spec -> train -> probe -> collect. A run's folder is named by the digest of its spec, and its checkpoints lie beside the
# declared outputs, which Snakemake deletes when a job fails, so that a killed run continues.


rule spec:
    output:
        "results/runs/{run}/spec.json",
    params:
        spec=lambda w: as_text(PLAN.runs[w.run]),
    log:
        "logs/spec/{run}.log",
    localrule: True
    shell:
        "printf '%s\\n' {params.spec:q} > {output:q} 2> {log:q}"


# A GPU job gets devices of its own, and where they are several a process for each.
LAUNCH = ["acodm"]
if EXPERIMENT.resources.gpus:
    LAUNCH = ["acodm", "on-gpus", EXPERIMENT.resources.gpus, "acodm"]
if EXPERIMENT.resources.gpus > 1:
    torchrun = ["torchrun", "--standalone", f"--nproc-per-node={EXPERIMENT.resources.gpus}"]
    LAUNCH = ["acodm", "on-gpus", EXPERIMENT.resources.gpus, *torchrun, "-m", "acodm_core.cli"]


rule train:
    input:
        spec=ancient("results/runs/{run}/spec.json"),
        corpus=f"{CORPUS}/manifest.json",
        inputs=lambda w: manifests(needed([w.run])),
    output:
        manifest="results/runs/{run}/manifest.json",
        metrics="results/runs/{run}/metrics.parquet",
        mixture="results/runs/{run}/mixture.parquet",
        diagnostics="results/runs/{run}/diagnostics.parquet",
        weights="results/runs/{run}/weights.safetensors",
    params:
        corpus=CORPUS,
        launch=LAUNCH,
        device=DEVICE,
        shard=["--shard"] if EXPERIMENT.resources.sharded else [],
        inputs=lambda w: input_flags(PLAN.runs[w.run]),
    log:
        "logs/train/{run}.log",
    message:
        "Training {wildcards.run}" + GPU_ASKS
    threads: EXPERIMENT.resources.threads
    resources:
        gpu=EXPERIMENT.resources.gpus,
        mem_mb=lambda w, attempt: REQUESTS.memory_mb(w.run, attempt),
        runtime=lambda w: REQUESTS.minutes(w.run),
    shell:
        "OMP_NUM_THREADS={threads} {params.launch:q} train {input.spec:q} --corpus {params.corpus:q} --device {params.device:q}"
        " --threads {threads} {params.shard:q} {params.inputs:q} > {log:q} 2>&1"


# Runs that others wait for go first, or the machine would stand half idle at the end.
use rule train as train_first with:
    wildcard_constraints:
        run="|".join(map(re.escape, needed(PLAN.runs))) or "none",
    priority: 5


ruleorder: train_first > train


rule experiment:
    output:
        f"{RESULTS}/plan.json",
    params:
        experiment=lambda w: as_text(EXPERIMENT),
    log:
        "logs/experiment.log",
    localrule: True
    shell:
        "printf '%s\\n' {params.experiment:q} > {output:q} 2> {log:q}"


rule probe:
    input:
        plan=f"{RESULTS}/plan.json",
        corpus=f"{CORPUS}/manifest.json",
        inputs=manifests(needed(PLAN.probed().values())),
    output:
        time=f"{RESULTS}/probe/probe.parquet",
        memory=f"{RESULTS}/probe/memory.parquet",
    params:
        code=code_digest("acodm_core.lm.overhead"),
        runs=sorted(PLAN.probed().values()),
        corpus=CORPUS,
        launch=["acodm", "on-gpus", 1, "acodm"] if EXPERIMENT.resources.gpus else ["acodm"],
        device=DEVICE,
        threads=EXPERIMENT.resources.threads,
    log:
        f"logs/probe/{EXPERIMENT.experiment}.log",
    message:
        "Probing the cost of every method, with the machine to itself" + GPU_ASKS
    threads: machine
    resources:
        gpu=min(1, EXPERIMENT.resources.gpus),
        mem_mb=lambda w, threads: REQUESTS.probe_memory_mb(threads),
        runtime=REQUESTS.probe_minutes(),
    shell:
        "OMP_NUM_THREADS={params.threads:q} {params.launch:q} probe {input.plan:q} --corpus {params.corpus:q} --device {params.device:q}"
        " --threads {params.threads:q} --jobs {threads} > {log:q} 2>&1"


rule collect:
    input:
        plan=f"{RESULTS}/plan.json",
        corpus=f"{CORPUS}/manifest.json",
        runs=manifests(PLAN.runs),
    output:
        expand(f"{RESULTS}/{{name}}", name=["experiment.json", "runs.parquet", "metrics.parquet", "mixture.parquet", "diagnostics.parquet"]),
    params:
        code=code_digest("acodm_core.results.collect"),
        corpus=CORPUS,
    log:
        f"logs/collect/{EXPERIMENT.experiment}.log",
    message:
        "Collecting {EXPERIMENT.experiment}" + ASKS
    group:
        "tables"
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm collect {input.plan:q} --corpus {params.corpus:q} > {log:q} 2>&1"
