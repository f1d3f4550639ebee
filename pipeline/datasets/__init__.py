"""Data sets: readers of published formats, and the Parquet shards from which every stage reads."""
