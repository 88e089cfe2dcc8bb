"""Lives of a run: processes of ``acodm train``, each forked from a server that has imported everything it needs.

A start costs a tenth of a second instead of five, so a run can be killed twenty times in a test. What may happen to a life, by
the keys of its order:

    count   name of a file: write there how often each place of PLACES was passed, in Python's and C's calls and returns
    place, event   SIGKILL at that event in that place
    seconds        killed by the kernel after so many seconds of CPU time, wherever it is
    file_bytes     no file may grow larger
    meek           no rights beyond those of a file's owner, even for root
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acodm_core.files import write_json
from acodm_core.study.planner import RunSpec

PLACES = {
    "start": ("acodm_core.lm.train", "Trainer", "_resume"),
    "evaluation": ("acodm_core.lm.train", "Trainer", "_record"),
    "checkpoint": ("acodm_core.lm.run.checkpoint", "save"),
    "snapshot": ("acodm_core.lm.train", "Trainer", "_snapshot"),
    "end": ("acodm_core.lm.train", "Trainer", "_finish"),  # tables, weights and manifest
}
SERVER = """
import ctypes, json, os, resource, signal, sys
import acodm_core.lm.train, acodm_core.data.corpus, acodm_core.acodm.agent, acodm_core.acodm.controls
import scipy.optimize, scipy.signal, transformers.models.gpt_neox.modeling_gpt_neox
from acodm_core import cli
from acodm_core.mixers.find import baseline_names, find_mixer

for name in (*baseline_names(), "acodm_core.acodm"):
    find_mixer(name)


def watch(place, path, counts, event):
    module, *names, last = path
    owner = sys.modules[module]
    for name in names:
        owner = getattr(owner, name)
    original = getattr(owner, last)

    def look(*_):
        counts[place] += 1
        if counts[place] == event:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(*arguments):
        sys.setprofile(look)
        try:
            return original(*arguments)
        finally:
            sys.setprofile(None)

    setattr(owner, last, watched)


def live(order):
    log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    os.close(0)
    sys.argv = ["acodm", *order["arguments"]]
    counts = dict.fromkeys(order["places"], 0)
    if "seconds" in order:
        signal.setitimer(signal.ITIMER_PROF, order["seconds"])
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], resource.RLIM_INFINITY))
    if "meek" in order:  # capset: version 3 of the interface, this process, no capabilities
        assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0
    for place, path in order["places"].items():
        if "count" in order or place == order.get("place"):
            watch(place, path, counts, order.get("event"))
    try:
        cli.main()
    finally:
        if "count" in order:
            with open(order["count"], "w") as file:
                json.dump(counts, file)


print("ready", flush=True)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        code = 70  # a traceback
        try:
            live(json.loads(line))
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
    _, status, used = os.wait4(pid, 0)
    print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)
"""


class Life:
    """A training process that can be waited for and killed; ``cpu_seconds`` is known once it has ended."""

    def __init__(self, server: subprocess.Popen, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.pid, self.ended = int(server.stdout.readline()), False

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        code, seconds = self.server.stdout.readline().split()
        self.cpu_seconds, self.ended = float(seconds), True
        return int(code)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        """Until ``condition`` holds; fails at once if the process ends before that."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the run does not get there"
            assert Path(f"/proc/{self.pid}").exists() or condition(), log(self.folder)
            time.sleep(0.001)


class Bench:
    """Runs in folders below ``root``, on one corpus."""

    def __init__(self, server: subprocess.Popen, corpus_folder: Path, root: Path) -> None:
        self.server, self.corpus_folder, self.root = server, corpus_folder, root
        self._life: Life | None = None
        self._whole: dict[str, Path] = {}
        self.cpu_seconds: dict[Path, float] = {}  # of undisturbed runs, by folder

    def folder(self, spec: RunSpec, name: str) -> Path:
        """A run's folder that holds its spec and nothing else."""
        folder = self.root / name / spec.run
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        return folder

    def command(self, folder: Path, inputs: dict[str, Path] | None = None) -> list[str]:
        flags = [f"--input={role}={path}" for role, path in (inputs or {}).items()]
        return ["train", str(folder / "spec.json"), f"--corpus={self.corpus_folder}", "--threads=1", *flags]

    def start(self, folder: Path, inputs: dict[str, Path] | None = None, **fate: Any) -> Life:
        self.stop()
        order = {"log": str(folder / "log"), "arguments": self.command(folder, inputs), "places": PLACES, **fate}
        print(json.dumps(order), file=self.server.stdin, flush=True)
        self._life = Life(self.server, folder)
        return self._life

    def stop(self) -> None:
        """End what a failed test left running."""
        if self._life and not self._life.ended:
            self._life.kill(signal.SIGKILL)
            self._life.wait()

    def undisturbed(self, spec: RunSpec, inputs: dict[str, Path] | None = None) -> Path:
        """The folder of the run as it is when nothing happens to it; ``count.json`` there says what it passed."""
        if spec.run not in self._whole:
            folder = self.folder(spec, "whole")
            life = self.start(folder, inputs, count=str(folder / "count.json"))
            assert life.wait() == 0, log(folder)
            self._whole[spec.run], self.cpu_seconds[folder] = folder, life.cpu_seconds
        return self._whole[spec.run]


def serve() -> subprocess.Popen:
    """The process that lives are forked from."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert server.stdout.readline() == "ready\n"
    return server


def log(folder: Path) -> str:
    """What all lives of a run printed."""
    return (folder / "log").read_text()


def checkpoints(folder: Path) -> list[int]:
    """Steps of the run's checkpoints, oldest first."""
    return sorted(int(mark.stem.split("-")[1]) for mark in (folder / "state").glob("step-*.sha256"))


def assert_same_bytes(folder: Path, whole: Path) -> None:
    """The run ended in the same tables and weights as the undisturbed one, and left nothing half-written."""
    for name in ("metrics.parquet", "mixture.parquet", "diagnostics.parquet", "signals.parquet", "weights.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), f"{name} differs"
    assert not list(folder.rglob(".*.part"))
