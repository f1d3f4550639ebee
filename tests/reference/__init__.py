"""Slow, independent float64 references: plain loops and dense matrices, written from the paper alone."""
