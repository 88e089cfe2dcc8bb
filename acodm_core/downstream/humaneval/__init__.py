"""HumanEval: completions drawn from a checkpoint, and run in the sandbox."""
