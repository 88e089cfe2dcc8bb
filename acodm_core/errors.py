"""Errors a user can act on: what is wrong, where, and what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the input, not in the code: printed without a traceback, exit status 1.

    Args:
        what: what is wrong, with the offending value.
        where: the place to mend: a YAML path (``training.lr``), a file, a domain.
        fix: what to type instead: valid names, a command, a corrected snippet.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        self.trace = ""  # of somebody's own code that failed, told before the message
        super().__init__(self.render())

    def render(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            lines.append(f"  -> {self.fix}")
        return "\n".join(lines)


RENAMED = {  # before protocol 2 -> since, by whichever of the new names is valid where the old one stands
    "sampling": ("sampling_weights",),
    "target": ("objective_weights", "objective"),
    "target_weights": ("objective_weights",),
    # options of AC-ODM and its variants
    "every": ("decision_interval",),
    "xi": ("reward_decay",),
    "memory": ("signal_decay",),
    "shrink": ("shrinkage",),
    "scale": ("reward_scale",),
    "form": ("state_form",),
    "blocks": ("state_blocks",),
    "floor": ("uniform_fraction",),
    "noise": ("exploration_noise",),
    "subtract": ("subtracted_noise",),
    "rate": ("mirror_step_size",),
    "spread": ("logit_std",),
    "horizon": ("reference_steps",),
    "hidden": ("hidden_size",),
    "layers": ("hidden_layers",),
    "zero_head": ("start_at_anchor",),
    "gamma": ("discount",),
    "tau": ("target_rate",),
    "replay": ("replay_size",),
    "minibatch": ("minibatch_size",),
    "min_pool": ("min_transitions",),
    "updates": ("updates_per_transition",),
    "pace_lr": ("rescale_lr",),
    "diversity": ("diversity_weight",),
    "stability": ("stability_weight",),
}


def unknown_name(kind: str, name: str, valid: Iterable[str], *, where: str = "") -> UserError:
    """The error for a misspelt name: the nearest valid name first, then all of them."""
    names = sorted(valid)
    if renamed := [new for new in RENAMED.get(name, ()) if new in names]:
        return UserError(f"{name!r} has another name since protocol 2", where=where, fix=f"write {renamed[0]!r}")
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}", where=where, fix=f"{hint}valid: {', '.join(names) or 'none'}")


def one_line(error: BaseException, longest: int = 200) -> str:
    """An exception as a sentence has it: its type, and what it says on one line."""
    try:
        said = " ".join(str(error).split())
    except (Exception, SystemExit):  # its own __str__ fails
        said = ""
    return f"{type(error).__name__}: {said[:longest]}" if said else type(error).__name__
