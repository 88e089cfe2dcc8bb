"""Processes of distributed runs, for tests: forked from a server that has imported what they need, with gloo between them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from acodm_core import cli
from acodm_core.files import write_json
from acodm_core.lm.distributed.ranks import joined_over_ranks, together
from acodm_core.lm.signals.gradients import GRADIENT_SIGNALS, DomainGradients
from acodm_core.lm.step import TrainStep
from acodm_core.mixing import Signal
from acodm_core.study.config import ModelConfig
from acodm_core.study.planner import RunSpec

DOMAINS, CONTEXT, INPUTS, OUTPUTS = 4, 6, 20, 12
COUNTS_RK = np.array([[3, 1, 2, 0], [0, 2, 5, 0]])  # sequences of each domain on each rank; one domain is nowhere
OMEGA_K = np.array([0.5, 2.0, 1.0, 1.0])
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "acodm_core.lm.train",
        "acodm_core.data.corpus",
        "acodm_core.acodm.agent",
        "transformers.models.gpt_neox.modeling_gpt_neox",
    ]
)


def start(target, *arguments: Any, ranks: int = 2) -> list[multiprocessing.Process]:
    """Start ``target(*arguments)`` on each rank as torchrun would, with its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(ranks):
        torchrun = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        processes.append(SERVER.Process(target=_as_rank, args=(torchrun, target, arguments), daemon=True))
        processes[-1].start()
    return processes


def codes(processes: list[multiprocessing.Process], seconds: float = 120.0) -> list[int | None]:
    """Exit codes, by rank; None for one that did not end."""
    for process in processes:
        process.join(seconds)
    found = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return found


def _as_rank(torchrun: dict[str, Any], target, arguments: tuple) -> None:
    os.environ.update({name: str(value) for name, value in torchrun.items()}, OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    target(*arguments)


class Fleet:
    """Runs in folders below ``root`` on one corpus, trained by as many processes as asked for."""

    def __init__(self, corpus_folder: Path, root: Path) -> None:
        self.corpus_folder, self.root = corpus_folder, root

    def folder(self, spec: RunSpec, name: str) -> Path:
        folder = self.root / name / spec.run
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        return folder

    def train(self, folder: Path, *flags: str, ranks: int = 2, fate: dict[str, Any] | None = None) -> list[int | None]:
        """Exit codes of ``acodm train`` on each rank; ``fate`` is what befalls one: rank, step and signal or error."""
        arguments = ["train", str(folder / "spec.json"), f"--corpus={self.corpus_folder}", *flags]
        return codes(start(_train, str(folder), arguments, fate or {}, ranks=ranks))


def _train(folder: str, arguments: list[str], fate: dict[str, Any]) -> None:
    log = os.open(f"{folder}/log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    if str(fate.get("rank")) == os.environ["RANK"]:
        _meet(fate)
    sys.argv = ["acodm", *arguments]
    cli.main()


def _meet(fate: dict[str, Any]) -> None:
    plain = TrainStep.step

    def step(train_step: TrainStep, batch, number: int, *rest):
        if number == fate["step"]:
            if "error" in fate:
                raise OSError(28, fate["error"])
            os.kill(os.getpid(), getattr(signal, fate["signal"]))
        return plain(train_step, batch, number, *rest)

    TrainStep.step = step


def measure(ranks: list[int], processes: int = 1) -> dict[Signal, np.ndarray]:
    """The signals of one step of a linear model on what ``ranks`` drew, sequences of a domain side by side."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(INPUTS, OUTPUTS)
    goal = torch.randn(OUTPUTS)
    config = ModelConfig(config={}, lr=1.0, gradient_layers="layer", norm_layers="layer", sketch=8)
    optimiser = torch.optim.AdamW(layer.parameters())
    gradients = DomainGradients(
        [layer],
        DOMAINS,
        gram=config.gram,
        sketch=config.sketch,
        tokens=1,
        context=CONTEXT,
        needs=GRADIENT_SIGNALS,
        optimiser=optimiser,
        seed=0,
        limit=10**6,
    )
    drawn = [
        np.random.default_rng([rank, k]).standard_normal((COUNTS_RK[rank, k], CONTEXT, INPUTS))
        for k in range(DOMAINS)
        for rank in ranks
    ]
    counts_K = COUNTS_RK[ranks].sum(0)
    weight_B = torch.from_numpy(np.repeat(OMEGA_K, counts_K)).float()
    weight_K = COUNTS_RK.sum(0) * CONTEXT * OMEGA_K  # of all ranks
    with gradients.step(GRADIENT_SIGNALS):
        gradients.rows(counts_K)
        losses_BT = (layer(torch.from_numpy(np.concatenate(drawn)).float()) - goal).pow(2).sum(-1)
        ((losses_BT * weight_B[:, None]).sum() / (weight_K.sum() / processes)).backward()
    return gradients.signals(weight_K)


def measure_on_rank(folder: str) -> None:
    """Write what this rank measures of its own part."""
    with together("cpu"):
        rank, ranks = dist.get_rank(), dist.get_world_size()
        np.savez(Path(folder) / f"{rank}.npz", **measure([rank], ranks))
        assert joined_over_ranks(torch.tensor([float(rank)])).tolist() == [*range(ranks)]
