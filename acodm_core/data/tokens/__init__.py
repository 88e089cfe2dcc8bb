"""From documents to token files: cleaned, split, tokenised; in one process or piece by piece."""
