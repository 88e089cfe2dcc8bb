"""Train, measure and compare data-mixing schedulers for language-model pre-training."""

__version__ = "0.3.0"
PROTOCOL = 1
