"""The language model and its training: the loop, the step, the model, and the mixer in somebody else's loop."""
