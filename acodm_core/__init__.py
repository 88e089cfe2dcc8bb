"""Train, measure and compare data-mixing schedulers for language-model pre-training."""

__version__ = "0.3.0"
PROTOCOL = 2  # what a number in a table means: docs/reference/protocol.md
ARITHMETIC = 1  # what the trainer computes from a spec: raised when tests/golden/test_arithmetic.py asks for it
