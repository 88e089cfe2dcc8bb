"""From results to tables and figures: one file per output."""
