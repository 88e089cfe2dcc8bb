"""N trainings of one thread side by side, beside one training of N threads: which way a machine's cores do more.

    python benchmarks/threads.py CORPUS_FOLDER [--model cpu-mini] [--cores 2] [--blocks 8] [--steps 4]

The trainer's own step on real text, each training in a process of its own that keeps its model over all blocks. The two ways take
turns (A B B A ...); a block's rate is that of all its tokens until the last training has taken its steps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from throughput import WARM_UP, Process

from acodm_core.measure import provenance
from acodm_core.measure.ratio import ratio_of_medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of a built corpus: data/corpora/ID")
    parser.add_argument("--model", default="cpu-mini")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=8, help="blocks of each way (8)")
    parser.add_argument("--steps", type=int, default=4, help="steps a block of one training in each (4)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    options = parser.parse_args()

    def trainings(count: int, threads: int) -> list[Process]:
        settings = argparse.Namespace(**vars(options), device="cpu", threads=threads)
        return [Process("ours", options.model, settings) for _ in range(count)]

    ways = {"side by side": trainings(options.cores, 1), "one": trainings(1, options.cores)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}  # a step's tokens

    def block(way: str, steps: int) -> float:
        start = time.perf_counter()
        for process in ways[way]:
            process.pipe.send(steps)
        for process in ways[way]:
            process.pipe.recv()
        return (time.perf_counter() - start) / (steps * len(ways[way]))

    for way in ways:
        block(way, WARM_UP)
    for number in range(options.blocks):
        for way in ways if number % 2 else reversed(ways):
            seconds[way].append(block(way, options.steps))
    for process in (process for processes in ways.values() for process in processes):
        process.steps(0)
    console = Console(width=120)
    console.print(f"{provenance.hardware('cpu')}")
    for way, found in seconds.items():
        threads = 1 if way == "side by side" else options.cores
        rate = options.batch * options.context / np.median(found)
        console.print(f"{len(ways[way])} x {threads} thread{'s' * (threads > 1)}: {rate:,.0f} tokens/s together")
    ratio, low, high = ratio_of_medians(np.array(seconds["one"]), np.array(seconds["side by side"]))
    console.print(f"side by side over one: {ratio:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
