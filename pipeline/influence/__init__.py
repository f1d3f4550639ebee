"""Scores, top-k, screening, nearest neighbours and statistics. Pure torch."""
