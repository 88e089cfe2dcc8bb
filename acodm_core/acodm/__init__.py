"""AC-ODM (arXiv 2505.23878): an actor-critic that learns the mixture while the language model trains."""

from acodm_core.acodm.mixer import AcOdm

__all__ = ["AcOdm"]
