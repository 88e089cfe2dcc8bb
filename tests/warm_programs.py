"""Programs that start warm: forked from a server that has imported the libraries which they use, and nothing of ours.

A program of ours imports for seven seconds of CPU time, a small training works for one, and the workflow's tests start dozens.
What a warm program does is what it does otherwise: it imports our code anew, from the folders that its PYTHONPATH names, with its
arguments, folder, environment and files. That programs start cold as well is for the tests that start them in the plain way.
"""

from __future__ import annotations

import atexit
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

LIBRARIES = (
    "accelerate",
    "jinja2",
    "lm_eval.models.huggingface",
    "matplotlib.pyplot",
    "pandas",
    "pyarrow.parquet",
    "pydantic",
    "rich.console",
    "scipy.optimize",
    "scipy.signal",
    "scipy.stats",
    "sklearn.ensemble",
    "snakemake.cli",
    "torch",
    "torch.distributed.fsdp",
    "transformers.integrations.sdpa_attention",
    "transformers.masking_utils",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "typer",
    "yaml",
    "zstandard",
)
SERVER = """
import atexit, gc, importlib, json, os, runpy, select, shutil, signal, socket, sys, threading, traceback

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
for library in sys.argv[2:]:
    importlib.import_module(library)
sys.dont_write_bytecode, sys.pycache_prefix = False, os.path.dirname(sys.argv[1])  # what is not yet imported: compiled once
gc.collect(), gc.freeze()  # what all share is never written to


def become(order, files):  # the program that was asked for
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    program, *arguments = order["arguments"]
    first = os.path.dirname(sys.executable) if program == "acodm" else os.getcwd()
    sys.path[:] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    if program == "acodm":
        from acodm_core.cli import main

        sys.argv = [program, *arguments]
        main()
    else:
        sys.argv = arguments[1:]  # behind -m
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


def leave(code):  # as a program ends, but without taking apart all that was imported
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)


def serve(client):  # until the program has ended; if whoever asked for it is ended, it is, too
    head, files, _, _ = socket.recv_fds(client, 1 << 16, 3)
    length, _, text = head.partition(b"\\n")
    while len(text) < int(length):
        text += client.recv(1 << 16)
    alive, end = os.pipe()
    program = os.fork()
    if program == 0:
        client.close(), os.close(alive)
        code = 0
        try:
            become(json.loads(text), files)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            code = traceback.print_exc() or 1
        leave(code)
    for file in (end, *files):
        os.close(file)
    if alive not in select.select([alive, client], [], [])[0]:
        os.kill(program, signal.SIGTERM)
    _, status = os.waitpid(program, 0)
    client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def reap(how):
    try:
        while os.waitpid(-1, how)[0]:
            pass
    except ChildProcessError:
        pass


print("ready", flush=True)
while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:  # stdin ends with whoever started the server
    reap(os.WNOHANG)
    client, _ = listener.accept()
    if os.fork() == 0:
        listener.close()
        serve(client)
    client.close()
reap(0)
shutil.rmtree(os.path.dirname(sys.argv[1]))
"""
CLIENT = """
import json, os, signal, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    order = {"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(order).encode()
    socket.send_fds(server, [b"%d\\n" % len(text)], [0, 1, 2])
    server.sendall(text)
    code = int(server.recv(16) or 70)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
BASH = """
acodm() {{ {client} acodm "$@"; }}
python() {{ if [ "${{1-}}" = -m ]; then {client} python "$@"; else command python "$@"; fi; }}
"""


@cache
def _server() -> Path:
    """Folder with the socket, the client and bash's file of a server that lives as long as this process."""
    path = Path(mkdtemp(prefix="warm-"))
    (path / "client.py").write_text(CLIENT)
    client = shlex.join([sys.executable, "-IS", str(path / "client.py"), str(path / "socket")])
    (path / "bash").write_text(BASH.format(client=client))
    command = [sys.executable, "-c", SERVER, str(path / "socket"), *LIBRARIES]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "ready\n"
    atexit.register(server.communicate)
    return path


def warm() -> dict[str, str]:
    """Environment in which each command that a bash runs takes ``acodm`` and ``python -m`` from the server: Snakemake's jobs do."""
    return {"BASH_ENV": str(_server() / "bash")}


def command(*arguments: str) -> list[str]:
    """``python -m`` with these arguments, as a command that starts warm."""
    folder = _server()
    return [sys.executable, "-IS", str(folder / "client.py"), str(folder / "socket"), "python", "-m", *arguments]
