"""Models that were trained elsewhere: their files, the tensors in them, and the names that these have in a model."""
