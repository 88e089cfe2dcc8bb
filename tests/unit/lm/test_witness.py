"""A training that ends suddenly is told of by somebody else, and one that ends in its own way is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = """
import os, signal, sys
from acodm_core.lm.run.witness import Witness

witness = Witness("odm-s0-1", "odm", 3, 40)
for step in range(4, 13):
    witness.tell(step)
{end}
"""


def said(end: str) -> str:
    program = [sys.executable, "-c", TRAINING.format(end=end)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, start_new_session=True)
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.killpg(0, signal.SIGTERM)"])
def test_a_sudden_end_is_told_with_the_last_step(end: str) -> None:
    words = said(end)
    assert words.startswith("acodm: odm-s0-1: ended suddenly after step 12 of 40: killed, perhaps")
    assert "\n  -> " in words and "acodm check odm" in words


@pytest.mark.parametrize("end", ["witness.leave()", "witness._shell.kill(); witness._shell.wait(); witness.leave()"])
def test_an_end_of_its_own_is_not(end: str) -> None:
    assert said(end) == ""
