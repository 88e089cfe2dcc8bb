"""Instruments: time, energy, provenance, code, and the arithmetic of comparing two measurements."""
