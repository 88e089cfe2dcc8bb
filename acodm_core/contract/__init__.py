"""What every mixer promises, checked without a model: `acodm check` and the test suite run the same checks."""
