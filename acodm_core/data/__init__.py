"""Text, from archives to memory-mapped tokens: catalogue -> archives -> documents -> tokenizer -> tokens -> corpus."""
