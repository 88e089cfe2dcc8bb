"""Pages made of outputs: the report, the export, the README's table."""
