"""A made-up but plausible results folder, as ``collect`` and the probe write it: input of the analysis tests only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from acodm_core import PROTOCOL
from acodm_core.files import write_json
from acodm_core.results.schemas import MEMORY_COLUMNS, PROBE_COLUMNS, RUN_COLUMNS
from acodm_core.results.table_files import write_frame, write_scores, write_table

DOMAINS = [
    "python_code", "web_pages", "mathematics", "gnu_manuals", "licences", "debian_news",
    "unicode_tables", "man_pages", "rfc_texts", "javascript", "poetry_old", "dialogue",
]  # fmt: skip
NATURAL = np.array([0.31, 0.22, 0.12, 0.09, 0.07, 0.055, 0.045, 0.035, 0.025, 0.015, 0.01, 0.005])
TITLES = {
    "natural": "Natural", "uniform": "Uniform", "odm": "ODM", "acodm": "AC-ODM",
    "acodm_proxy": "AC-ODM (proxy)", "acodm_proxy_run": "AC-ODM proxy run",
}  # fmt: skip
# final mean loss below natural's (nats), overhead of a step, device memory ratio, model
KINDS = {
    "natural": (0.0, 1.0, 1.0, "target"),
    "uniform": (-0.02, 1.0, 1.0, "target"),
    "odm": (-0.035, 1.01, 1.0, "target"),
    "acodm": (-0.07, 1.08, 1.06, "target"),
    "acodm_proxy": (-0.09, 1.01, 1.01, "target"),
    "acodm_proxy_run": (-0.05, 1.11, 1.09, "proxy"),
}
COMPARE = [method for method in KINDS if method != "acodm_proxy_run"]
HARDWARE = "2 cores, x86-64"
STEPS, EVALUATIONS, BATCH, CONTEXT = 300, 15, 32, 256
PARTS = {"data": 0.03, "forward": 0.31, "backward": 0.56, "optimiser": 0.1}


def make(folder: Path, seeds: int = 5, *, probe: bool = True, diverged: tuple[str, int] | None = None) -> Path:
    """Write the folder; ``diverged`` names one (method, seed) whose run stops half way."""
    rng = np.random.default_rng(7)
    runs, metrics, mixture = [], [], []
    level = rng.normal(0, 0.35, len(DOMAINS))
    for seed in range(seeds):
        luck = rng.normal(0, 0.01)
        for method, (gain, overhead, _, model) in KINDS.items():
            run, failed = f"{method}-s{seed}", diverged == (method, seed)
            steps = STEPS // 2 if failed else STEPS
            runs.append(_run(run, method, model, seed, steps, overhead, "diverged" if failed else "finished"))
            offset, tilt = rng.normal(0, 0.006) + luck, rng.normal(0, 0.02, len(DOMAINS))
            for step in np.linspace(0, STEPS, EVALUATIONS + 1).astype(int):
                if step > steps:
                    break
                part = 1 - np.exp(-step / 60)
                mean = 8.3 - 4.55 * (1 - np.exp(-step / 40)) - 0.28 * step / STEPS + (gain + offset) * part
                loss = mean + (level + tilt) * part + rng.normal(0, 0.004, len(DOMAINS))
                if method != "natural":
                    loss += part * 0.5 * abs(gain) * np.linspace(1, -1, len(DOMAINS)) ** 3
                for split in ["valid", "test"] if step == STEPS else ["valid"]:
                    for domain, value in zip(DOMAINS, loss + rng.normal(0, 0.002, len(DOMAINS)), strict=True):
                        at = {"run": run, "step": step, "tokens": step * BATCH * CONTEXT, "split": split}
                        metrics.append({**at, "domain": domain, "metric": "loss", "value": value})
                        if split == "test":
                            metrics.append({**at, "domain": domain, "metric": "bits_per_byte", "value": value / 2.6})
            mixture += _mixture(run, method, steps, rng)
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(runs, columns=list(RUN_COLUMNS)).to_parquet(folder / "runs.parquet")
    write_table(metrics, "metrics", folder / "metrics.parquet")
    write_table(mixture, "mixture", folder / "mixture.parquet")
    write_table([], "diagnostics", folder / "diagnostics.parquet")
    if probe:
        _probe(folder / "probe", rng)
    write_json(folder / "experiment.json", _experiment(seeds, [row["run"] for row in runs]))
    return folder


OBJECTIVE = np.array([0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0, 0, 0, 0, 0])  # only these domains count
AXES = {"discount": {"title": "Discount", "of": "acodm", "methods": {  # label -> method
    "0": "acodm-discount-0", "0.9": "acodm", "0.99": "acodm-discount-0.99"}}}  # fmt: skip
CLONES = {  # method -> the one whose runs it copies, and how much higher its losses are (nats)
    "oracle": ("acodm_proxy", -0.08), "acodm-discount-0": ("acodm", 0.03), "acodm-discount-0.99": ("acodm", -0.005),
}  # fmt: skip


def extended(folder: Path, seeds: int = 5, **options) -> Path:
    """``make`` with all that an experiment may add: objective weights, an oracle, an axis, trials, what the agents recorded."""
    make(folder, seeds, **options)
    rng = np.random.default_rng(11)
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("runs", "metrics", "mixture")}
    for method, (source, shift) in CLONES.items():
        for seed in range(seeds):
            for name, table in list(tables.items()):
                rows = table[table["run"] == f"{source}-s{seed}"].assign(run=f"{method}-s{seed}")
                if name == "runs":
                    rows = rows.assign(method=method, title=method, compared=method == "oracle", ancestors="[]")
                elif name == "metrics":
                    rows["value"] += shift + rng.normal(0, 0.003)
                elif method == "oracle":
                    rows["requested"] = rows["domain"].map(dict(zip(DOMAINS, OBJECTIVE, strict=True)))
                tables[name] = pd.concat([tables[name], rows], ignore_index=True)
    tables["runs"].to_parquet(folder / "runs.parquet")
    for name in ("metrics", "mixture"):
        write_table(tables[name], name, folder / f"{name}.parquet")
    write_table(_diagnostics(seeds, rng), "diagnostics", folder / "diagnostics.parquet")
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment |= {"compare": [*COMPARE, "oracle"], "objective_weights": OBJECTIVE.tolist(), "axes": AXES}
    experiment |= {"trials": {"acodm": 24, "odm": 8}, "titles": TITLES | {"oracle": "Oracle"}}
    experiment["runs"] = tables["runs"]["run"].tolist()
    write_json(folder / "experiment.json", experiment)
    return folder


ASKED = {  # task -> shots, metric, items, chance, the score of a method that knows nothing and what each nat of gain adds
    "mmlu": [(0, "accuracy", 14042, 0.25, 0.246, 0.3), (0, "bits_per_byte", 14042, None, 2.2, -3.0),
             (5, "accuracy", 14042, 0.25, 0.25, 0.2)],
    "humaneval": [(0, "pass@1", 164, 0.0, 0.0, 0.0), (0, "bits_per_byte", 157, None, 1.9, -2.0)],
}  # fmt: skip


def asked(folder: Path, seeds: int = 5, steps: tuple[int, ...] = (STEPS,)) -> Path:
    """What the runs of ``make`` answer: two tasks, one that was skipped, and what stands in the training text."""
    rng, rows = np.random.default_rng(13), []
    for run, method in [(f"{method}-s{seed}", method) for method in COMPARE for seed in range(seeds)]:
        for step in steps:
            for task, measures in ASKED.items():
                for shots, metric, n, chance, level, slope in measures:
                    value = level + step / STEPS * (rng.normal(0, 0.002) - slope * KINDS[method][0]) * bool(slope)
                    error = np.sqrt(value * (1 - value) / n) if value < 1 else 0.02
                    at = {"run": run, "step": step, "task": task, "shots": shots, "n": n, "metric": metric}
                    rows.append({**at, "value": value, "standard_error": error, "chance": chance})
            common = {"run": run, "step": step, "task": "mmlu", "shots": 5, "n": 14042}
            rows += [
                {**common, "metric": "shots_kept", "value": 0.83},
                {**common, "metric": "cut_share", "value": 0.0412},
            ]
            at = {"run": run, "step": step, "task": "humaneval", "shots": 0, "n": 164}
            rows.append({**at, "metric": "unasked_share", "value": 0.25})
            reason = "its data are on the Hugging Face hub, out of reach here"
            rows.append({"run": run, "step": step, "task": "arc_easy", "status": "skipped", "reason": reason})
    write_scores(rows, folder / "downstream.parquet")
    counts = {"mmlu": (14042, 7631, 12, {"licences": 9, "poetry_old": 4}), "humaneval": (164, 3, 0, {})}
    found = {
        name: {"questions": n, "too_short": short, "met": met, "domains": dict.fromkeys(DOMAINS, 0) | where}
        for name, (n, short, met, where) in counts.items()
    }
    write_json(folder / "contamination.json", {"run_words": 13, "benchmarks": found})
    return folder


def _diagnostics(seeds: int, rng: np.random.Generator) -> list[dict]:
    names = ["reward", "reward_std", "q", "td_error", "objective", "actor_grad_norm", "critic_grad_norm", "entropy"]
    names += ["from_uniform", "moved", "certainty", "temperature"]
    rows = []
    for run in [f"{method}-s{seed}" for method in ("acodm", "acodm_proxy") for seed in range(seeds)]:
        for place, name in enumerate(names):
            values = 10.0 ** (place % 4 - 2) * (1 - np.exp(-np.arange(STEPS) / 60)) * rng.lognormal(0, 0.2, STEPS)
            rows += [{"run": run, "step": i + 1, "name": name, "value": value} for i, value in enumerate(values)]
    return rows


def _run(run: str, method: str, model: str, seed: int, steps: int, overhead: float, status: str) -> dict:
    size = 2_900_000 if model == "target" else 400_000
    model_flops = 6.0 * size * steps * BATCH * CONTEXT
    ancestors = [f"acodm_proxy_run-s{seed}"] if method == "acodm_proxy" else []
    return dict(
        run=run, method=method, title=TITLES[method], mixer="acodm" if "acodm" in method else method,
        compared=method in COMPARE, role=model, model=model, seed=seed, status=status, steps=steps,
        tokens=steps * BATCH * CONTEXT, parameters=size, parameters_non_embedding=size * 2 // 3,
        model_flops=model_flops, method_flops=model_flops * (overhead - 1) * 0.7, train_seconds=steps * 0.21 * overhead,
        ancestors=json.dumps(ancestors), device="cpu", hardware=HARDWARE, precision="float32",
        corpus="local-1a2b3c", commit="0123456789abcdef", version="0.0",
    )  # fmt: skip


def _mixture(run: str, method: str, steps: int, rng: np.random.Generator) -> list[dict]:
    uniform = np.full(len(DOMAINS), 1 / len(DOMAINS))
    goal = rng.dirichlet(np.full(len(DOMAINS), 6.0))
    start, walk = uniform, np.zeros(len(DOMAINS))
    rows = []
    for step in range(1, steps + 1):
        if method == "natural":
            asked = NATURAL
        elif method == "uniform":
            asked = uniform
        else:
            walk = 0.97 * walk + rng.normal(0, 0.05, len(DOMAINS))
            part = 1 - np.exp(-step / 90)
            asked = ((1 - part) * start + part * goal) * np.exp(walk)
            asked = asked / asked.sum()
        counts = np.diff(np.floor(np.concatenate([[0], np.cumsum(asked)[:-1], [1]]) * BATCH + rng.random() * 0.999))
        drawn = counts / counts.sum()
        for domain, a, d in zip(DOMAINS, asked, drawn, strict=True):
            rows.append({"run": run, "step": step, "domain": domain, "requested": a, "drawn": d})
    return rows


def _probe(folder: Path, rng: np.random.Generator) -> None:
    rows, memory = [], []
    for method, (_, overhead, bytes_ratio, model) in KINDS.items():
        plain = 0.2 if model == "target" else 0.05
        for block in range(12):
            drift = 1 + 0.02 * np.sin(block)
            for arm, extra in (("plain", 0.0), ("method", overhead - 1)):
                noise = drift * rng.lognormal(0, 0.012)
                parts = {name: plain * share * noise for name, share in PARTS.items()}
                if arm == "method":
                    parts |= {"signals": plain * extra * 0.8 * noise, "mixer": plain * extra * 0.2 * noise}
                parts["step"] = sum(parts.values()) * 1.004
                rows += [(method, model, block, arm, part, seconds) for part, seconds in parts.items()]
        for repeat in range(3):
            for arm, ratio in (("plain", 1.0), ("method", bytes_ratio)):
                host = 9e8 * (1 + 0.4 * (ratio - 1)) * rng.lognormal(0, 0.003)
                memory.append((method, model, repeat, arm, int(host), int(2.1e9 * ratio * rng.lognormal(0, 0.002))))
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns, found in (("probe", PROBE_COLUMNS, rows), ("memory", MEMORY_COLUMNS, memory)):
        frame = pd.DataFrame([(*row, HARDWARE) for row in found], columns=list(columns))
        write_frame(frame, folder / f"{name}.parquet")


def _experiment(seeds: int, runs: list[str]) -> dict:
    return {
        "protocol": PROTOCOL, "experiment": "canned", "domains": DOMAINS, "natural_weights": NATURAL.tolist(),
        "compare": COMPARE, "titles": TITLES, "baseline": "natural", "steps": STEPS, "batch": BATCH, "context": CONTEXT,
        "horizon": "fixed-horizon", "schedule": "cosine", "model": "target",
        "corpus": {"name": "local", "id": "local-1a2b3c", "train_tokens": (NATURAL * 4e6).astype(int).tolist()},
        "seeds": list(range(seeds)), "code": {"commit": "0123456789abcdef"}, "runs": runs,
    }  # fmt: skip


if __name__ == "__main__":
    import sys

    extended(Path(sys.argv[1]), int(sys.argv[2]))
