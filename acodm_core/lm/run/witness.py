"""Who says so when a training ends suddenly: os._exit and the kernel's kills leave a process no time to."""

from __future__ import annotations

import subprocess
from contextlib import suppress

# Reads a line a step until nobody can write any more; the last one of a training that ended in its own way is "end".
SCRIPT = """
while read -r line; do step=$line; done
[ "$step" = end ] || printf 'acodm: %s: ended suddenly after step %s of %s: %s\\n  -> %s\\n' "$1" "$step" "$2" "$3" "$4" >&2
"""
WHY = "killed, perhaps for want of memory, or by os._exit in somebody's code"
FIX = "the same command goes on from the last checkpoint; acodm check {} tries the mixer alone"


class Witness:
    """A shell that outlives the training by a moment, and needs none of its memory.

    Args:
        run, mixer: their names, for the message.
        first: steps that are done.
        steps: of the whole run.
    """

    def __init__(self, run: str, mixer: str, first: int, steps: int) -> None:
        command = ["sh", "-c", SCRIPT, "sh", run, str(steps), WHY, FIX.format(mixer)]
        # In a session of its own: what a terminal tells all its programs is not for it.
        self._shell = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0, start_new_session=True
        )
        self.tell(first)

    def tell(self, last: int | str) -> None:
        """The step that is done, or ``end``. If the shell was killed, nobody listens, and nothing is lost but the message."""
        with suppress(BrokenPipeError):
            self._shell.stdin.write(f"{last}\n".encode())

    def leave(self) -> None:
        """The training ends, and says itself how."""
        self.tell("end")
        self._shell.stdin.close()
        self._shell.wait()
