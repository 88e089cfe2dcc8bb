"""An experiment and what lies on disk: the content of the files that it reads, and its corpus where that is built."""

from __future__ import annotations

import sys
from pathlib import Path

from acodm_core.data.corpus import Corpus
from acodm_core.data.manifest import MANIFEST
from acodm_core.errors import UserError
from acodm_core.study.config import Experiment


def grounded(experiment: Experiment, *, data: Path = Path("data"), files_may_lack: bool = False) -> Experiment:
    """The experiment with the content of its corpus's files, which names the corpus and all runs.

    Args:
        data: folder that holds ``corpora/``.
        files_may_lack: say on stderr what is missing and go on, for an estimate where the text is not.

    Raises:
        UserError: a file of the corpus is missing or cannot be read; or the corpus is built, and a split of a domain is
            shorter than one context.
    """
    try:
        experiment = experiment.model_copy(update={"corpus": experiment.corpus.pinned()})
    except UserError as error:
        if not files_may_lack:
            raise
        print(f"Planned without the text:\n{error}", file=sys.stderr)
    folder = data / "corpora" / experiment.corpus.id
    if (folder / MANIFEST).is_file():
        Corpus.open(folder).require_context(experiment.training.context)
    return experiment
