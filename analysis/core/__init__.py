"""What all outputs share: frames, statistics over seeds, tables, style, and the registry of outputs."""
