"""The only door to numbers: tables that runs write, collected over an experiment, and the reader of every analysis."""
