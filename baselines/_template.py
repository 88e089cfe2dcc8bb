"""One line: what this mixer does."""

from dataclasses import dataclass

import numpy as np

from acodm_core.mixing import Mixer, Signal, Start, StepStats, softmax


@dataclass
class Template(Mixer):
    """One sentence on what it does.

    Idea:
        Why it should help.
    Update:
        The formula, with the equation's number in the paper.
    Source:
        Paper; released code at a commit, file.
    Differences:
        From the paper and from the released code; "None" is an answer.
    """

    step_size: float = 0.1  # hyper-parameters are dataclass fields with defaults, and options in the YAML

    needs = frozenset({Signal.LOSS})  # what the trainer shall measure; nothing else is
    cite = ""  # BibTeX key or arXiv id

    # A mixer that reads another run says so:  def required_inputs(self): return ("weights",)
    # A configuration then has  inputs: {weights: NAME_OF_A_METHOD},  and start.input("weights") is that run's folder.

    def start(self, start: Start) -> None:
        self.logits_ = np.zeros(len(start.domains))  # learned state ends in _ and is checkpointed by itself

    def sampling_weights(self, step: int) -> np.ndarray:
        return softmax(self.logits_)

    def observe(self, stats: StepStats) -> None:
        loss_K = stats[Signal.LOSS]  # NaN for a domain that this step did not draw
        self.logits_ += self.step_size * np.nan_to_num(loss_K - np.nanmean(loss_K))
