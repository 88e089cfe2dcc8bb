"""Data-mixing methods: one file per method."""
