"""How each signal is measured."""
