"""MMLU: its questions, and a checkpoint's answers."""
