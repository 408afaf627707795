"""Data sets as WebDataset shards: one module per source, one writer for all."""
