"""One server of training processes for all tests that kill them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from killable_runs import Bench, serve


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen]:
    process = serve()
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def bench(server: subprocess.Popen, corpus_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(server, corpus_folder, tmp_path_factory.mktemp("runs"))
    yield bench
    bench.stop()
