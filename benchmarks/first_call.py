"""What a call costs that has not been made for a while: small numpy calls after seconds of something else.

    python benchmarks/first_call.py

Whatever is done once in a step finds the machine as the step left it. This tells what that is: before each round of a dozen small
calls the program waits in a loop that touches no memory, or reads memory that no cache holds. If the loop costs as much as the
reading, then it is not the caches: on a virtual machine, pages of 4 kB that were not used for a while can take 0.1 ms to come
back. Printed: median microseconds of a round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table

from acodm_core.measure import provenance

SECONDS = (0.05, 0.5, 2.0, 5.0)


def calls() -> list[Callable[[], object]]:
    """A dozen calls on vectors of a few dozen numbers, such as a mixer makes."""
    rng, x = np.random.default_rng(0), np.random.default_rng(1).random(22)
    m = np.float32(np.outer(x, x))
    return [
        lambda: x + x,
        lambda: np.isnan(x),
        lambda: np.where(x > 0.5, x, 0.0),
        lambda: x.mean(),
        lambda: x.std(),
        lambda: np.log(x),
        lambda: np.tanh(x),
        lambda: m @ m,
        lambda: np.concatenate([x, x]),
        lambda: np.sqrt(m),
        lambda: rng.normal(0, 0.1, 22),
        lambda: rng.integers(22, size=22),
    ]


def spin(seconds: float) -> None:
    """Pass the time and touch nothing."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def read(seconds: float, memory: np.ndarray) -> None:
    """Pass the time reading ``memory``."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        memory.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each kind (7)")
    parser.add_argument("--megabytes", type=int, default=512, help="of memory that is read (512)")
    options = parser.parse_args()
    console, memory = Console(), np.ones(options.megabytes << 17)
    console.print(f"{provenance.hardware('cpu')}")
    table = Table("seconds before", "in a loop (us)", "reading memory (us)")
    small = calls()
    for seconds in (0.0, *SECONDS):
        medians = []
        for wait in (spin, lambda s: read(s, memory)):
            rounds = []
            for _ in range(options.rounds):
                wait(seconds)
                start = time.perf_counter()
                for call in small:
                    call()
                rounds.append(1e6 * (time.perf_counter() - start))
            medians.append(f"{np.median(rounds):,.0f}")
        table.add_row(f"{seconds:g}", *medians)
    console.print(table)


if __name__ == "__main__":
    main()
