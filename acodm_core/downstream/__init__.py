"""What a trained model can do: MMLU, HumanEval, other lm-eval tasks, and the sandbox that runs what a model wrote."""
