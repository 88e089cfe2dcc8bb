"""Faster kernels for the same mathematics, and what we use of torch and transformers that they do not promise to keep."""
