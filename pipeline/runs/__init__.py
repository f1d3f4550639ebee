"""Runs: configuration, data, stages as values, and durable work with its proofs."""
