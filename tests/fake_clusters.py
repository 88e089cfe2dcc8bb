"""Clusters that are not there: what Snakemake's plugins submit is run on this machine, as it was submitted.

Nothing of the plugins is replaced. For Kubernetes a small HTTP server answers the calls that the plugin makes and runs a job's
container command; for SLURM there are programs of the names that its plugin calls.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml


@contextmanager
def kubernetes(folder: Path) -> Iterator[tuple[dict[str, str], list[dict]]]:
    """A cluster's API: the environment that leads to it, and the jobs it was given (their JSON, in order).

    A job's command runs in an empty folder of its own and finds no programs but the system's, as in a pod.
    """
    jobs: list[dict] = []
    ended: dict[str, int] = {}  # job -> exit status
    pods = folder / "pods"

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/jobs"):
                jobs.append(body)
                name = body["metadata"]["name"]
                (container,) = body["spec"]["template"]["spec"]["containers"]
                (pods / name).mkdir(parents=True)
                ended[name] = subprocess.run(
                    [*container["command"], *container["args"]],
                    cwd=pods / name,
                    env={"PATH": os.defpath, "HOME": str(pods / name)},
                    stdout=(pods / f"{name}.log").open("w"),
                    stderr=subprocess.STDOUT,
                ).returncode
            self.answer(body)

        def do_GET(self) -> None:
            if self.path.endswith("/status"):
                code = ended[self.path.split("/")[-2]]
                self.answer({"status": {"failed": 1} if code else {"succeeded": 1}})
            else:
                self.answer({"items": []})

        def do_DELETE(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer({"status": "Success"})

        def answer(self, body: dict) -> None:
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": here}],
        "users": [{"name": "me", "user": {}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    try:
        yield {"KUBECONFIG": str(folder / "kubeconfig")}, jobs
    finally:
        server.shutdown()
        server.server_close()


def slurm(folder: Path) -> tuple[dict[str, str], Path]:
    """A batch system: the environment in which its programs are found, and the file with a line a submitted job's options.

    ``sbatch`` returns when the job has ended; ``sacct`` then tells how.
    """
    bin_, calls, ended = folder / "bin", folder / "sbatch.txt", folder / "ended"
    ended.mkdir(parents=True)
    program(
        bin_ / "sbatch",
        f"""id=$(( $(ls {ended} | wc -l) + 1 ))
        for option in "$@"; do case "$option" in --wrap=*) command="${{option#--wrap=}}";; esac; done
        printf '%s ' "$@" | tr '\\n' ' ' >> {calls}; echo >> {calls}
        if SLURM_JOB_ID=$id sh -c "$command" > {folder}/$id.log 2>&1; then state=COMPLETED; else state=FAILED; fi
        echo $state > {ended}/$id
        echo $id""",
    )
    program(bin_ / "srun", 'while [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"')
    program(bin_ / "sacct", f'for id in $(ls {ended}); do echo "$id|$(cat {ended}/$id)"; done')
    for name in ("scancel", "sinfo", "squeue", "scontrol", "sacctmgr", "sshare"):
        program(bin_ / name, "exit 0")
    return {"PATH": f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}"}, calls


def program(path: Path, text: str) -> None:
    """A shell script that can be called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + re.sub(r"^ +", "", text, flags=re.M) + "\n")
    path.chmod(0o755)
