"""Every program ends in one message where its disk is full, and in silence where nobody reads any more."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import fake_results
import pytest
import yaml

from acodm_core.files import atomic

# Programs are forked from a process that has imported them: a start then costs nothing.
SERVER = """
import json, os, resource, runpy, sys
import acodm_core.cli, acodm_core.data.build, acodm_core.results.collect, acodm_core.lm.overhead, acodm_core.lm.train
import acodm_analysis.render, acodm_analysis.pages.export, acodm_analysis.pages.rerun

for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        out = os.open(order["out"], os.O_WRONLY)
        os.dup2(out, 1), os.dup2(out, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["bytes"], resource.RLIM_INFINITY))
        module, *sys.argv[1:] = order["arguments"]
        sys.modules.pop(module)
        code = 70
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, corpus) -> Path:
    """Results, a corpus' spec and a configuration."""
    folder = tmp_path_factory.mktemp("full")
    fake_results.make(folder / "results", seeds=2)
    spec = corpus.manifest.spec.model_dump(mode="json")
    (folder / "corpus.yaml").write_text(yaml.safe_dump(spec))
    config = {"experiment": "full", "compare": ["natural"], "seeds": [0], "downstream": None, "corpus": spec}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path):
    environment = os.environ | {"TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )
    yield process
    process.kill()
    process.wait()


CORE, ANALYSIS = "acodm_core.cli", "acodm_analysis"
PROGRAMS = {
    "plan": [CORE, "plan", "config.yaml", "--write", "out"],
    "data build": [CORE, "data", "build", "corpus.yaml", "--data", "out"],
    "new-mixer": [CORE, "new-mixer", "thrifty", "--out", "thrifty.py"],
    "comparison": [f"{ANALYSIS}.comparison", "results", "out"],
    "export": [f"{ANALYSIS}.pages.export", "results", "out"],
    "rerun": [f"{ANALYSIS}.pages.rerun", "results", "out/rerun.yaml", "--threshold", "uniform"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_full_disk_is_one_message(name: str, server: subprocess.Popen, folder: Path) -> None:
    os.mkfifo(pipe := folder / f"{name} says")  # no file: the message itself would be too long for one
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        print(json.dumps({"arguments": PROGRAMS[name], "bytes": 40, "out": str(pipe)}), file=server.stdin, flush=True)
        status, said = int(server.stdout.readline()), reader.stdout.read()
    assert status == 1 and "Traceback" not in said, said
    assert "cannot be written: File too large" in said and "ulimit" in said, said
    assert not list(folder.rglob("*.part")), "nothing half written stays"


def test_a_terminal_that_takes_nothing_is_a_message_too() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "acodm_core.cli", "reference", "defaults"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr, done.stderr


PROGRAM = """
import sys, time
from acodm_core import entry

def body():
    for number in range(2000):
        print(number, file=sys.{stream})
    print("done", file=open({done!r}, "w"))
    {then}

entry.run("program", body)
"""


@pytest.mark.parametrize(("stream", "works"), [("stderr", True), ("stdout", False)])
def test_a_reader_that_leaves_ends_what_is_read_and_nothing_else(stream: str, works: bool, tmp_path: Path) -> None:
    program = PROGRAM.format(stream=stream, done=str(tmp_path / "done"), then="")
    line = f"{sys.executable} -u -c '{program.replace(chr(39), chr(34))}' 2>&1 | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stdout == "0\n" and done.stderr == ""
    assert (tmp_path / "done").exists() is works
    assert done.returncode == (0 if works else 128 + signal.SIGPIPE)


def test_ctrl_c_is_a_line_and_130(tmp_path: Path) -> None:
    program = PROGRAM.format(stream="stdout", done=str(tmp_path / "done"), then="time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said.startswith("program: stopped") and len(said.splitlines()) == 1, said


def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    before = os.umask(0o027)
    try:
        with atomic(tmp_path / "weights") as temporary:
            save_file({"a": np.zeros(3)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o640


def test_a_path_that_is_none_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "acodm_core.cli", "plan", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr and str(tmp_path) in done.stderr, done.stderr
