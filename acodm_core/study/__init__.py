"""An experiment: its configuration, and the runs that it plans."""
