"""Train, measure and compare data-mixing schedulers for language-model pre-training."""

__version__ = "0.1.0"
PROTOCOL = 1
