"""One run on many processes and GPUs."""
