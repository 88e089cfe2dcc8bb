"""Mixers that only tests use."""
