"""``acodm reproduce``: the whole workflow with a display that a person can follow."""
