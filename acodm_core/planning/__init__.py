"""``acodm plan``: what an experiment will cost, before anything is spent."""
