"""A run around its steps: how it starts, resumes, stops, and what it writes down."""
