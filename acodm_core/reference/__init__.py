"""Pages that are generated from the code: methods, settings, signals, commands."""
