# Archives -> documents -> tokens: every domain by itself, the tokenizer over all of them. Shards that hold many domains are
# tokenised piece by piece, for all of these in one pass, and joined domain by domain.
# The spec is `ancient`: its digest is in the folder's name, so its age says nothing. Files of one's own are no inputs here:
# their content is part of that digest, and the rules that read them check it.

SPLIT_FILES = expand("{split}.{kind}", split=["train", "valid", "test"], kind=["bin", "idx.npy"])
SHARDED = EXPERIMENT.corpus.sharded
PIECES = EXPERIMENT.corpus.shards.pieces if SHARDED else 0
PARTS = [f"{CORPUS}/parts/{piece:05d}-of-{PIECES:05d}" for piece in range(PIECES)]


rule corpus_spec:
    output:
        f"{CORPUS}/spec.json",
    params:
        spec=lambda w: as_text(EXPERIMENT.corpus),  # a function: text may hold braces
    log:
        "logs/corpus/spec.log",
    localrule: True
    shell:
        "printf '%s\\n' {params.spec:q} > {output:q} 2> {log:q}"


rule fetch:
    output:
        "data/archives/{archive}",
    params:
        pin=lambda w: ARCHIVES[w.archive].model_dump_json(),
    log:
        "logs/fetch/{archive}.log",
    message:
        "Fetching {wildcards.archive}" + ASKS
    resources:
        downloads=1,
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm data fetch {params.pin:q} --out data/archives > {log:q} 2>&1"


rule documents:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
        archives=lambda w: [f"data/archives/{a}" for a in EXPERIMENT.corpus.archives_of(w.domain)],
    output:
        f"{CORPUS}/documents/{{domain}}.parquet",
    log:
        "logs/documents/{domain}.log",
    message:
        "Reading, cleaning, de-duplicating and splitting {wildcards.domain}" + ASKS
    priority: 10
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm data documents {input.spec:q} {wildcards.domain:q} --archives data/archives --out {output:q} > {log:q} 2>&1"


rule tokenizer:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
        documents=expand(f"{CORPUS}/documents/{{domain}}.parquet", domain=EXPERIMENT.corpus.unsharded),
    output:
        f"{CORPUS}/tokenizer.json",
    params:
        documents=f"{CORPUS}/documents",
    log:
        "logs/corpus/tokenizer.log",
    message:
        "Learning the vocabulary" + ASKS
    threads: machine
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "RAYON_NUM_THREADS={threads} acodm data tokenizer {input.spec:q} --documents {params.documents:q}"
        " --out {output:q} > {log:q} 2>&1"


rule tokenize:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
        documents=f"{CORPUS}/documents/{{domain}}.parquet",
        tokenizer=f"{CORPUS}/tokenizer.json",
    output:
        expand(f"{CORPUS}/tokens/{{{{domain}}}}/{{file}}", file=SPLIT_FILES),
    params:
        folder=lambda w: f"{CORPUS}/tokens/{w.domain}",
    log:
        "logs/tokenize/{domain}.log",
    wildcard_constraints:
        domain="|".join(EXPERIMENT.corpus.unsharded) or "none",
    message:
        "Tokenising {wildcards.domain}" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "RAYON_NUM_THREADS={threads} acodm data tokenize {input.spec:q} {wildcards.domain:q} --documents {input.documents:q}"
        " --tokenizer {input.tokenizer:q} --out {params.folder:q} > {log:q} 2>&1"


rule shards:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
    output:
        f"{CORPUS}/shards.json",
    log:
        "logs/corpus/shards.log",
    message:
        "Listing the shards" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm data shards {input.spec:q} --out {output:q} > {log:q} 2>&1"


rule piece:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
        shards=ancient(f"{CORPUS}/shards.json"),
        tokenizer=f"{CORPUS}/tokenizer.json",
    output:
        *temp(expand(f"{CORPUS}/parts/{{{{piece}}}}-of-{{{{pieces}}}}/{{domain}}.parquet", domain=SHARDED)),
        record=f"{CORPUS}/parts/{{piece}}-of-{{pieces}}/piece.json",
    params:
        number=lambda w: int(w.piece),
        folder=f"{CORPUS}/parts",
    log:
        "logs/piece/{piece}-of-{pieces}.log",
    message:
        "Tokenising piece {wildcards.piece} of {wildcards.pieces}" + ASKS
    wildcard_constraints:
        piece=r"\d+",
        pieces=r"\d+",
    threads: lambda w: max(1, machine(w) // PIECES)
    resources:
        mem_mb=2000,
        runtime=lambda w, input: piece_minutes(input.shards, PIECES),
    shell:
        "RAYON_NUM_THREADS={threads} acodm data piece {input.spec:q} {params.number:q} --shards {input.shards:q}"
        " --tokenizer {input.tokenizer:q} --out {params.folder:q} > {log:q} 2>&1"


rule join:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
        parts=lambda w: [f"{folder}/{w.domain}.parquet" for folder in PARTS],
        records=[f"{folder}/piece.json" for folder in PARTS],
    output:
        expand(f"{CORPUS}/tokens/{{{{domain}}}}/{{file}}", file=SPLIT_FILES),
    params:
        parts=f"{CORPUS}/parts",
        folder=lambda w: f"{CORPUS}/tokens/{w.domain}",
    log:
        "logs/join/{domain}.log",
    message:
        "Joining {wildcards.domain}" + ASKS
    wildcard_constraints:
        domain="|".join(SHARDED) or "none",
    resources:
        mem_mb=2000,
        runtime=SMALL_MINUTES,
    shell:
        "acodm data join {input.spec:q} {wildcards.domain:q} --parts {params.parts:q} --out {params.folder:q} > {log:q} 2>&1"


rule seal:
    input:
        spec=ancient(f"{CORPUS}/spec.json"),
        tokenizer=f"{CORPUS}/tokenizer.json",
        tokens=expand(
            f"{CORPUS}/tokens/{{domain}}/{{split}}.bin", domain=EXPERIMENT.corpus.domains, split=["train", "valid", "test"]
        ),
    output:
        manifest=f"{CORPUS}/manifest.json",
        card=report(f"{CORPUS}/card.md", category="Corpus"),
        bytes=f"{CORPUS}/token_bytes.npy",
    params:
        folder=CORPUS,
    log:
        "logs/corpus/seal.log",
    message:
        "Sealing the corpus" + ASKS
    resources:
        mem_mb=SMALL_MB,
        runtime=SMALL_MINUTES,
    shell:
        "acodm data seal {input.spec:q} {params.folder:q} > {log:q} 2>&1"
